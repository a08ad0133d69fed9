//! Memory: when a crowd has left, what it needed is given back.
//!
//! Growing is everybody's own affair; shrinking is done here, all at once and some time later. By
//! then little else lives among what is freed, so that the allocator can return whole pages to the
//! system, and a crowd that comes and goes does not pay for it each time.

use std::time::Duration;

use super::hub::Hub;
use super::{Effect, Gateway};
use crate::time::Time;

/// Fewer slots than this are never worth the trouble.
const FEW: usize = 1024;

/// Fewer bytes than this are never worth it either.
const FEW_BYTES: usize = 1024 * 1024;

/// From the crowd's leaving to the giving back: most of its callbacks have ended by then.
const PATIENCE: Duration = Duration::from_secs(3);

/// From the giving back to the heap's second trimming: what was under way the first time, callbacks
/// and log lines, may have kept it.
const AGAIN: Duration = Duration::from_secs(8);

/// When memory is to be given back.
#[derive(Debug, Default)]
pub(super) struct Trim {
    due: Option<Time>,
    /// When the heap is to be trimmed once more.
    again: Option<Time>,
    /// Connections that were left the last time, which may have kept their slots from going.
    left: Option<usize>,
    /// The most bytes that were held since the last time.
    most_held: usize,
    /// The heap is to be trimmed now. Not among the effects: room for them, taken amid what was just
    /// freed, would keep all below it.
    is_asked: bool,
}

impl Trim {
    /// What the shell has to do, if anything.
    pub(super) fn effect(&mut self) -> Option<Effect> {
        std::mem::take(&mut self.is_asked).then_some(Effect::TrimHeap)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.due.into_iter().chain(self.again).min()
    }
}

impl<S> Gateway<S> {
    /// Gives back what a crowd has left behind, once it is time to.
    pub(super) fn trim(&mut self, now: Time) {
        let Gateway {
            conns, hub, trim, ..
        } = self;
        if trim.again.take_if(|again| *again <= now).is_some() {
            trim.is_asked = true;
        }
        let (slots, used) = (conns.capacity(), conns.len());
        if used >= slots / 8 {
            trim.left = None;
        }
        let has_left = slots > FEW && used < slots / 8 && trim.left != Some(used);
        let held = hub.outbound() + hub.held.inbound;
        trim.most_held = trim.most_held.max(held);
        let is_written = trim.most_held > FEW_BYTES && held < trim.most_held / 8;
        if !has_left && !is_written {
            trim.due = None;
            return;
        }
        let due = *trim.due.get_or_insert(now + PATIENCE);
        if now < due {
            return;
        }
        trim.due = None;
        trim.again = Some(now + AGAIN);
        if hub.calls.connects() + hub.calls.disconnects() > used + FEW {
            // Its callbacks are still under way, and they are the most of it.
            return;
        }
        (trim.left, trim.most_held) = (Some(used), held);
        hub.shrink_to_fit();
        self.shrink_eviction();
        self.due.shrink_to_fit();
        self.conns.shrink_to_fit();
        self.hub.wheel.shrink_to(self.conns.capacity());
        self.trim.is_asked = true;
    }
}

impl Hub {
    /// Gives back the memory that nobody uses now.
    fn shrink_to_fit(&mut self) {
        self.streams.shrink_to_fit();
        self.calls.shrink_to_fit();
        self.fields.shrink_to_fit();
        self.spares.release();
        self.backlogs.release();
        self.channels.shrink_to_fit();
        self.history.shrink_to_fit();
        self.replays.shrink_to_fit();
        self.batch.shrink_to_fit();
        self.dead.shrink_to_fit();
        self.effects.shrink_to_fit();
        self.ready.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Broken, Scope, Settings};
    use super::*;
    use crate::config::Limits;

    fn gateway() -> Gateway<()> {
        let settings = Settings::new(Limits::default());
        let mut seed = 0u64;
        Gateway::new(settings, move |bytes| {
            seed += 1;
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
        })
    }

    #[test]
    fn the_second_crowd_costs_nothing_either() {
        let mut gateway = gateway();
        let mut now = Time(0);
        for _ in 0..2 {
            let crowd: Vec<_> = (0..2 * FEW)
                .map(|_| gateway.accept((), Scope::Whole, now))
                .collect();
            gateway.tick(now);
            for id in crowd {
                gateway.broken(id, Broken::Reset, now);
            }
            gateway.reap();
            gateway.tick(now);
            now = now + PATIENCE;
            gateway.tick(now);
            assert_eq!(gateway.conns.capacity(), 0);
        }
    }

    #[test]
    fn warm_buffers_do_not_outlive_what_was_held() {
        let mut gateway = gateway();
        let id = gateway.accept((), Scope::Whole, Time(0));
        let head = b"POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n";
        gateway.bytes(id, head, Time(0));
        for _ in 0..100 {
            gateway.bytes(id, &[b' '; 16_000], Time(0));
        }
        gateway.tick(Time(0));
        assert_eq!(gateway.trim.deadline(), None);
        gateway.hub.spares.give(Vec::with_capacity(60_000));
        gateway.broken(id, Broken::Reset, Time(0));
        gateway.reap();
        gateway.tick(Time(0));
        gateway.tick(Time(0) + PATIENCE);
        assert_eq!(gateway.hub.spares.take().capacity(), 0);
        while gateway.effect().is_some() {}
        let again = Time(0) + PATIENCE + AGAIN;
        assert_eq!(gateway.trim.deadline(), Some(again));
        gateway.tick(again);
        assert!(matches!(gateway.effect(), Some(Effect::TrimHeap)));
        assert_eq!(gateway.trim.deadline(), None);
    }

    #[test]
    fn a_crowd_that_has_left_costs_nothing() {
        let mut gateway = gateway();
        let mut crowd = Vec::new();
        for _ in 0..10 * FEW {
            let id = gateway.accept((), Scope::Whole, Time(0));
            gateway.bytes(id, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", Time(0));
            while gateway.effect().is_some() {}
            crowd.push(id);
        }
        let stays = crowd.remove(0);
        for id in crowd {
            gateway.broken(id, Broken::Reset, Time(100));
            while let Some(effect) = gateway.effect() {
                if let Effect::Withdraw(job) = effect {
                    gateway.withdrawn(job);
                }
            }
        }
        gateway.reap();
        // Of those who once lingered none does any more.
        gateway.hub.eviction.lingering = vec![stays; FEW];
        gateway.tick(Time(100));
        let due = gateway.trim.deadline();
        assert_eq!(due, Some(Time(100) + PATIENCE));
        assert!(gateway.conns.capacity() > 10 * FEW - 1);
        gateway.tick(Time(100) + PATIENCE);
        assert_eq!(gateway.conns.capacity(), 1);
        assert_eq!(gateway.hub.eviction.lingering.capacity(), 0);
        assert_eq!(
            gateway.hub.wheel.len(),
            1,
            "the one timer that is still wanted"
        );
        assert_eq!(gateway.trim.due, None);
        assert_eq!(gateway.at(stays.index()), Some(stays));
    }
}
