//! Events to numbered channels, as fast as they are answered.

use std::time::Duration;

use crate::Outcome;
use crate::kept::{Classes, NumberedRequest};
use crate::run::Run;

/// Requests that each publisher has in flight.
const DEPTH: usize = 32;

/// Publishers that send to channels in turn. Only the events of one connection have an order: all of
/// a class come from the same.
pub(crate) struct Feed {
    request: NumberedRequest,
    classes: Classes,
    /// The event that each publisher sends next.
    next: Vec<u64>,
    /// Events so far.
    pub(crate) events: u64,
}

impl Feed {
    /// So many publishers, of events to so many channels each, with so many bytes of data.
    pub(crate) fn new(
        run: &mut Run<'_>,
        classes: Classes,
        publishers: usize,
        channels: usize,
        data_bytes: usize,
    ) -> Outcome<Feed> {
        run.load.peers.add_publishers(publishers)?;
        Ok(Feed {
            request: NumberedRequest::new(run.server.address.port(), channels, data_bytes),
            classes,
            next: (0..publishers as u64).collect(),
            events: 0,
        })
    }

    /// Publishes so many more events, a whole number of turns, and waits until they are answered and
    /// have come to all who are in the channels.
    pub(crate) fn publish(&mut self, run: &mut Run<'_>, events: u64) -> Outcome<()> {
        let step = self.next.len() as u64;
        self.events += events;
        let peers = &mut run.load.peers;
        for stream in &mut peers.streams {
            stream.shared.sent = self.classes.each(self.events);
        }
        let members = peers.streams.len() as u64;
        let whole = peers.tally.events + members * self.classes.each(events);
        loop {
            let peers = &mut run.load.peers;
            for (publisher, next) in peers.publishers.iter_mut().zip(&mut self.next) {
                // Half of them at a time: requests that come one by one are read one by one.
                if publisher.in_flight <= DEPTH / 2 {
                    while publisher.in_flight < DEPTH && *next < self.events {
                        publisher.push_bytes(self.request.numbered(*next, self.classes));
                        *next += step;
                    }
                    publisher.flush()?;
                }
            }
            let is_answered = peers.publishers.iter().all(|it| it.in_flight == 0);
            if is_answered && peers.tally.events >= whole {
                return Ok(());
            }
            run.load.turn(Duration::from_secs(1))?;
        }
    }

    /// The id of the last event.
    pub(crate) fn last_id(&self, run: &Run<'_>) -> Outcome<String> {
        let last = run.load.peers.publishers.last();
        let id = last.map(|publisher| String::from_utf8_lossy(&publisher.last_id).into_owned());
        id.filter(|id| !id.is_empty())
            .ok_or_else(|| "the answers carry no id".to_owned())
    }
}
