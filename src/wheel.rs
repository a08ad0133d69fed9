//! A hashed timer wheel: arming is O(1), an idle wheel costs nothing, cancelling is not needed.
//!
//! A timer is a promise to look again, not a decision: its owner compares the timer's tick with
//! the one it armed last and ignores any other, so a deadline that moved leaves a stale timer
//! behind and nothing has to be searched for.

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

    fn last_before(time: Time) -> Tick {
        Tick(u32::try_from(time.0 / TICK_MS).unwrap_or(u32::MAX - 1))
    }

    fn slot(self) -> usize {
        self.0 as usize % SLOTS
    }
}

/// The end of a list of timers.
const END: u32 = u32::MAX;

/// Timers of owners named by `K`.
#[derive(Debug)]
pub struct Wheel<K> {
    /// The first timer of each slot's list.
    slots: [u32; SLOTS],
    /// A bit for each slot that holds a timer.
    occupied: [u64; SLOTS / 64],
    /// All timers, and the places of those that fired, which form a list of their own: once the
    /// wheel has grown to its crowd, arming and firing cost no memory.
    timers: Vec<Timer<K>>,
    free: u32,
    armed: usize,
    /// Every tick before this one has been looked at.
    cursor: Tick,
}

#[derive(Clone, Copy, Debug)]
struct Timer<K> {
    owner: K,
    tick: Tick,
    /// The next one of the same list.
    next: u32,
}

impl<K: Copy> Default for Wheel<K> {
    fn default() -> Self {
        Wheel {
            slots: [END; SLOTS],
            occupied: [0; SLOTS / 64],
            timers: Vec::new(),
            free: END,
            armed: 0,
            cursor: Tick(0),
        }
    }
}

impl<K: Copy> Wheel<K> {
    /// Promises to name `owner` once `time` has come; the tick tells this timer from others of the
    /// same owner.
    pub fn arm(&mut self, owner: K, time: Time) -> Tick {
        let tick = Tick::at(time).max(self.cursor);
        self.insert(owner, tick);
        tick
    }

    fn insert(&mut self, owner: K, tick: Tick) {
        let slot = tick.slot();
        let next = self.slots[slot];
        let timer = Timer { owner, tick, next };
        self.slots[slot] = match self.timers.get_mut(self.free as usize) {
            Some(place) => {
                let at = std::mem::replace(&mut self.free, place.next);
                *place = timer;
                at
            }
            None => {
                self.timers.push(timer);
                self.timers.len() as u32 - 1
            }
        };
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.armed += 1;
    }

    /// Appends the timers that are due to `due`, at most about `most`; true when more are due.
    pub fn expire(&mut self, now: Time, most: usize, due: &mut Vec<(K, Tick)>) -> bool {
        let last = Tick::last_before(now);
        if last < self.cursor {
            return false;
        }
        // Slots are looked at once each, however long the loop was away.
        let span = (last.0 - self.cursor.0).min(SLOTS as u32 - 1);
        for offset in 0..=span {
            let slot = Tick(self.cursor.0 + offset).slot();
            if self.occupied[slot / 64] & (1 << (slot % 64)) == 0 {
                continue;
            }
            let room = most.saturating_sub(due.len());
            if !self.expire_slot(slot, last, room, due) {
                self.cursor = Tick(self.cursor.0 + offset);
                return true;
            }
        }
        self.cursor = Tick(last.0 + 1);
        false
    }

    /// Whether the slot holds no more timer that is due.
    fn expire_slot(
        &mut self,
        slot: usize,
        last: Tick,
        mut room: usize,
        due: &mut Vec<(K, Tick)>,
    ) -> bool {
        // The last one seen that stays, whose link leads on to `at`.
        let (mut stays, mut at) = (END, self.slots[slot]);
        while let Some(timer) = self.timers.get_mut(at as usize) {
            let next = timer.next;
            if timer.tick > last {
                (stays, at) = (at, next);
                continue;
            }
            if room == 0 {
                return false;
            }
            due.push((timer.owner, timer.tick));
            room -= 1;
            timer.next = std::mem::replace(&mut self.free, at);
            self.armed -= 1;
            match self.timers.get_mut(stays as usize) {
                Some(stays) => stays.next = next,
                None => self.slots[slot] = next,
            }
            at = next;
        }
        if self.slots[slot] == END {
            self.occupied[slot / 64] &= !(1 << (slot % 64));
        }
        true
    }

    /// Forgets the timers that nobody wants any more, and gives back the memory that the others do
    /// not need.
    pub fn retain(&mut self, is_wanted: impl Fn(K, Tick) -> bool) {
        let cursor = self.cursor;
        let old = std::mem::take(self);
        self.cursor = cursor;
        for first in old.slots {
            let mut at = first;
            while let Some(timer) = old.timers.get(at as usize) {
                if is_wanted(timer.owner, timer.tick) {
                    self.insert(timer.owner, timer.tick);
                }
                at = timer.next;
            }
        }
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

    /// Timers that wait, stale ones included.
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

    fn expired(wheel: &mut Wheel<u32>, now: u64) -> Vec<u32> {
        let mut due = Vec::new();
        assert!(!wheel.expire(Time(now), usize::MAX, &mut due));
        let mut owners: Vec<u32> = due.into_iter().map(|(owner, _)| owner).collect();
        owners.sort_unstable();
        owners
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
        wheel.arm(2, Time(4_000_000));
        wheel.arm(3, Time(4_000_000));
        wheel.retain(|owner, tick| owner != 3 && tick == Tick::at(Time(4_000_000)));
        assert_eq!((wheel.len(), wheel.timers.capacity()), (2, 2));
        assert!(expired(&mut wheel, 3_999_999).is_empty());
        assert_eq!(expired(&mut wheel, 4_000_000), [1, 2]);
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
