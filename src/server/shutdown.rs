//! The end: signals, what there is still to do, and how it went (contract, section 10).

use log::info;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{Exit, Server};
use crate::time::Time;

impl Server {
    /// The signal that ends the process at once, if it is the second one.
    pub(super) fn take_signals(&mut self, now: Time) -> Option<i32> {
        let signals: Vec<i32> = self.signals.pending().collect();
        for signal in signals {
            let name = match signal {
                SIGTERM => "SIGTERM",
                SIGINT => "SIGINT",
                SIGHUP => {
                    self.reload();
                    continue;
                }
                _ => continue,
            };
            if self.ends.is_some() {
                info!("second signal, exit at once signal={name}");
                return Some(signal);
            }
            let counts = self.gateway.counts();
            info!(
                "shutting down signal={name} streams={} connections={}",
                counts.streams, counts.connections
            );
            self.ends = Some(now + self.shutdown_timeout);
            self.notifier.stopping(now);
            self.stop_accepting();
            self.gateway.shutdown(now);
            self.settle(now);
            let counts = self.gateway.counts();
            info!(
                "streams ended connectCallbacks={} disconnectCallbacks={}",
                counts.connects, counts.disconnects
            );
        }
        None
    }

    pub(super) fn is_over(&self, now: Time) -> bool {
        self.ends.is_some_and(|ends| ends <= now) || self.gateway.is_drained()
    }

    pub(super) fn end(&mut self) -> Exit {
        let counts = self.gateway.counts();
        info!(
            "exit undelivered={} unanswered={}",
            self.gateway.undelivered(),
            counts.connects
        );
        if let Some(workers) = &self.workers {
            workers.abandon();
        }
        Exit::Drained
    }
}
