//! A hashed timer wheel: arming and cancelling are O(1), an idle wheel costs nothing.
//!
//! Each owner is a small number, the place of a connection, and has one timer at the most: arming
//! moves it, so that what waits never is more than there are owners, however often deadlines
//! change.

use crate::time::Time;

/// The wheel's unit, in milliseconds: no timer fires early, and none later than this plus the
/// caller's own delay.
pub const TICK_MS: u64 = 50;

/// Slots of the wheel; a deadline further away than `SLOTS` ticks stays in its slot and costs one
/// look for each turn of the wheel.
const SLOTS: usize = 512;

/// A point in time, counted in [`TICK_MS`]. Four bytes of it last for 6.8 years of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u32);

impl Tick {
    /// No timer: later than every tick.
    pub const NEVER: Tick = Tick(u32::MAX);

    /// The first tick at or after `time`.
    pub fn at(time: Time) -> Tick {
        let tick = time.0.div_ceil(TICK_MS);
        Tick(
            u32::try_from(tick)
                .unwrap_or(u32::MAX - 1)
                .min(u32::MAX - 1),
        )
    }

    /// When it comes.
    pub fn time(self) -> Time {
        match self {
            Tick::NEVER => Time::NEVER,
            Tick(tick) => Time(u64::from(tick) * TICK_MS),
        }
    }

    fn last_before(time: Time) -> Tick {
        Tick(u32::try_from(time.0 / TICK_MS).unwrap_or(u32::MAX - 1))
    }

    fn slot(self) -> usize {
        self.0 as usize % SLOTS
    }
}

/// The end of a list of timers.
const END: u32 = u32::MAX;

/// The timers of numbered owners.
#[derive(Debug)]
pub struct Wheel {
    /// The first timer of each slot's list, by its owner.
    slots: [u32; SLOTS],
    /// A bit for each slot that holds a timer.
    occupied: [u64; SLOTS / 64],
    /// One for each owner: once the wheel has grown to its crowd, arming and firing cost no memory.
    timers: Vec<Timer>,
    armed: usize,
    /// Every tick before this one has been looked at.
    cursor: Tick,
}

/// A link of its slot's list, unless its tick is [`Tick::NEVER`].
#[derive(Clone, Copy, Debug)]
struct Timer {
    tick: Tick,
    previous: u32,
    next: u32,
}

const UNARMED: Timer = Timer {
    tick: Tick::NEVER,
    previous: END,
    next: END,
};

impl Default for Wheel {
    fn default() -> Self {
        Wheel {
            slots: [END; SLOTS],
            occupied: [0; SLOTS / 64],
            timers: Vec::new(),
            armed: 0,
            cursor: Tick(0),
        }
    }
}

impl Wheel {
    /// Promises to name `owner` once `time` has come, and not when its timer said before.
    pub fn arm(&mut self, owner: u32, time: Time) -> Tick {
        self.cancel(owner);
        let tick = Tick::at(time).max(self.cursor);
        let slot = tick.slot();
        let next = std::mem::replace(&mut self.slots[slot], owner);
        if let Some(next) = self.timers.get_mut(next as usize) {
            next.previous = owner;
        }
        let place = owner as usize;
        if place >= self.timers.len() {
            self.timers.resize(place + 1, UNARMED);
        }
        self.timers[place] = Timer {
            tick,
            previous: END,
            next,
        };
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.armed += 1;
        tick
    }

    /// Forgets the owner's timer, if it has one.
    pub fn cancel(&mut self, owner: u32) {
        let Some(timer) = self.timers.get_mut(owner as usize) else {
            return;
        };
        if timer.tick == Tick::NEVER {
            return;
        }
        let Timer {
            tick,
            previous,
            next,
        } = std::mem::replace(timer, UNARMED);
        self.armed -= 1;
        if let Some(next) = self.timers.get_mut(next as usize) {
            next.previous = previous;
        }
        if let Some(previous) = self.timers.get_mut(previous as usize) {
            previous.next = next;
            return;
        }
        let slot = tick.slot();
        self.slots[slot] = next;
        if next == END {
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
    }

    /// Appends the owners of timers that are due to `due`, until it holds `most`; true when more
    /// are due.
    pub fn expire(&mut self, now: Time, most: usize, due: &mut Vec<u32>) -> bool {
        let last = Tick::last_before(now);
        if last < self.cursor {
            return false;
        }
        // Slots are looked at once each, however long the loop was away.
        let span = (last.0 - self.cursor.0).min(SLOTS as u32 - 1);
        for offset in 0..=span {
            let slot = Tick(self.cursor.0 + offset).slot();
            let mut at = self.slots[slot];
            while let Some(timer) = self.timers.get(at as usize) {
                let (owner, next) = (at, timer.next);
                if timer.tick <= last {
                    if due.len() >= most {
                        self.cursor = Tick(self.cursor.0 + offset);
                        return true;
                    }
                    due.push(owner);
                    self.cancel(owner);
                }
                at = next;
            }
        }
        self.cursor = Tick(last.0 + 1);
        false
    }

    /// Gives back the memory of owners from this number on, none of which has a timer.
    pub fn shrink_to(&mut self, owners: usize) {
        debug_assert!(
            self.timers
                .iter()
                .skip(owners)
                .all(|timer| timer.tick == Tick::NEVER)
        );
        self.timers.truncate(owners);
        self.timers.shrink_to_fit();
    }

    /// When to look next: never later than the earliest timer, and at worst one turn of the wheel
    /// early. `None` while no timer is armed.
    pub fn next(&self) -> Option<Time> {
        let start = self.cursor.slot();
        let words = self.occupied.len();
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == words {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                let distance = (slot + SLOTS - start) % SLOTS;
                let tick = u64::from(self.cursor.0) + distance as u64;
                return Some(Time(tick * TICK_MS));
            }
        }
        None
    }

    /// Timers that wait.
    pub fn len(&self) -> usize {
        self.armed
    }

    /// Whether no timer waits.
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let mut due = Vec::new();
        assert!(!wheel.expire(Time(now), usize::MAX, &mut due));
        due.sort_unstable();
        due
    }

    #[test]
    fn a_timer_fires_once_and_never_early() {
        let mut wheel = Wheel::default();
        wheel.arm(1, Time(120));
        assert_eq!(wheel.next(), Some(Time(150)));
        assert!(expired(&mut wheel, 149).is_empty());
        assert_eq!(expired(&mut wheel, 150), [1]);
        assert!(expired(&mut wheel, 10_000).is_empty());
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_deadline_beyond_one_turn_waits_for_its_own_round() {
        let mut wheel = Wheel::default();
        let turn = SLOTS as u64 * TICK_MS;
        wheel.arm(1, Time(3 * turn + 100));
        wheel.arm(2, Time(100));
        assert_eq!(expired(&mut wheel, 100), [2]);
        assert!(expired(&mut wheel, turn + 100).is_empty());
        assert!(expired(&mut wheel, 3 * turn + 99).is_empty());
        assert_eq!(expired(&mut wheel, 3 * turn + 100), [1]);
    }

    #[test]
    fn a_budget_leaves_the_rest_for_the_next_call() {
        let mut wheel = Wheel::default();
        for owner in 0..10 {
            wheel.arm(owner, Time(50));
        }
        let mut due = Vec::new();
        assert!(wheel.expire(Time(60), 4, &mut due));
        assert_eq!(due.len(), 4);
        assert!(wheel.next() <= Some(Time(60)));
        assert!(!wheel.expire(Time(60), 10, &mut due));
        assert_eq!(due.len(), 10);
    }

    #[test]
    fn a_long_absence_finds_everything_that_became_due() {
        let mut wheel = Wheel::default();
        for owner in 0..1000 {
            wheel.arm(owner, Time(u64::from(owner) * 77));
        }
        assert_eq!(expired(&mut wheel, 1_000_000).len(), 1000);
    }

    #[test]
    fn an_owner_has_one_timer_however_often_its_deadline_moves() {
        let mut wheel = Wheel::default();
        for round in 0..10_000 {
            wheel.arm(1, Time(86_400_000));
            wheel.arm(1, Time(round * 1000 + 1000));
            wheel.arm(2, Time(86_400_000));
            assert_eq!((wheel.len(), wheel.timers.len()), (2, 3));
            assert_eq!(expired(&mut wheel, round * 1000 + 1000), [1]);
        }
        wheel.cancel(2);
        wheel.cancel(2);
        wheel.cancel(77);
        assert!(wheel.is_empty());
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn cancelling_leaves_the_others_of_the_slot() {
        for gone in 0..4 {
            let mut wheel = Wheel::default();
            for owner in 0..4 {
                wheel.arm(owner, Time(100));
            }
            wheel.cancel(gone);
            let others: Vec<u32> = (0..4).filter(|owner| *owner != gone).collect();
            assert_eq!(expired(&mut wheel, 100), others);
        }
    }

    #[test]
    fn a_crowd_needs_its_memory_once_and_gives_it_back() {
        let mut wheel = Wheel::default();
        for round in 0..200 {
            for owner in 0..1000 {
                wheel.arm(
                    owner,
                    Time(round * 15_000 + u64::from(owner % 20) * TICK_MS),
                );
            }
            assert_eq!(wheel.len(), 1000);
            assert_eq!(expired(&mut wheel, round * 15_000 + 14_000).len(), 1000);
        }
        assert_eq!(wheel.timers.len(), 1000);
        wheel.arm(1, Time(4_000_000));
        wheel.shrink_to(2);
        assert_eq!((wheel.len(), wheel.timers.capacity()), (1, 2));
        assert!(expired(&mut wheel, 3_999_999).is_empty());
        assert_eq!(expired(&mut wheel, 4_000_000), [1]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn arming_in_the_past_fires_at_the_next_look() {
        let mut wheel = Wheel::default();
        assert!(expired(&mut wheel, 5_000).is_empty());
        wheel.arm(9, Time(10));
        let next = wheel.next().unwrap();
        assert!(next <= Time(5_050));
        assert_eq!(expired(&mut wheel, next.0), [9]);
    }
}
