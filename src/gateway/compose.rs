//! From the history to a stream's bytes: as many as its socket may take, when it is about to be
//! written to. What the socket leaves is not kept, but taken from the history again.

use std::rc::Rc;

use super::backlog::Backlog;
use super::conn::{Conn, State};
use super::history::{Cursor, History, Kept};
use super::hub::Hub;
use super::replay::{Merge, Next};
use super::{ConnId, Gateway};
use crate::sse;
use crate::time::Time;

/// Bytes that are composed for one write: what a socket takes at once, and no more than a warm buffer
/// has room for.
const BATCH_BYTES: usize = 48 * 1024;

/// Streams that go on in one turn although nothing happened to them.
const SLICE_STREAMS: usize = 8;

/// What was composed last and is not written yet.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Whose it is.
    owner: Option<ConnId>,
    /// Bytes of the output that were there before.
    start: usize,
    marks: Vec<Mark>,
    /// Room for a merge.
    cursors: Vec<Cursor>,
}

/// A part of a batch: it ends behind so many bytes of the output.
#[derive(Debug)]
struct Mark {
    end: usize,
    part: Part,
}

#[derive(Debug)]
enum Part {
    /// The event of this number.
    Event(u64),
    /// The next bytes of the backlog.
    Backlog,
    /// The position, behind everything.
    End,
}

/// All that was to come to a stream was written.
pub(super) struct Over {
    /// The stream ends there.
    pub(super) is_closing: bool,
}

impl Batch {
    fn mark(&mut self, end: usize, part: Part) {
        self.marks.push(Mark { end, part });
    }

    /// Gives back the memory of large ones.
    pub(super) fn shrink_to_fit(&mut self) {
        self.marks.shrink_to_fit();
        self.cursors.shrink_to_fit();
    }
}

impl<S> Gateway<S> {
    /// Has the streams go on whose sockets have taken all of a batch.
    pub(super) fn replay_on(&mut self, now: Time) {
        for _ in 0..SLICE_STREAMS {
            let Some(id) = self.hub.replays.unfinished.pop_front() else {
                return;
            };
            if let Some((conn, hub)) = self.both(id) {
                conn.is_flush_queued = false;
                conn.settle(hub, now);
            }
        }
    }
}

impl<S> Conn<S> {
    /// Whether its next bytes come from the history.
    pub(super) fn is_composed(&self) -> bool {
        self.is_replaying && matches!(self.state, State::Streaming(_))
    }

    /// Appends to the output what is to be written next. It is to be written, and
    /// [`Conn::composed`] called, before the next stream's is composed. False: there is nothing yet,
    /// as so much was passed over; it has its turn again.
    pub(super) fn compose(&mut self, hub: &mut Hub) -> bool {
        self.compose_batch(hub);
        let is_something = !self.out.is_empty();
        if !is_something {
            hub.batch.owner = None;
            self.wait_for_turn(hub);
        }
        is_something
    }

    fn compose_batch(&mut self, hub: &mut Hub) {
        let Some(replay) = hub.replays.get_mut(self.id) else {
            return;
        };
        if hub.batch.owner == Some(self.id) {
            // It was composed and not written.
            self.out.truncate(hub.batch.start);
        }
        (hub.batch.owner, hub.batch.start) = (Some(self.id), self.out.len());
        hub.batch.marks.clear();
        let is_begun = self.backlog.as_ref().is_some_and(|it| it.is_begun());
        if !replay.is_overtaken(&hub.history) {
            return self.fill(hub, is_begun);
        }
        if !is_begun {
            let asked = replay.asked.to_string();
            replay.skip(&hub.history);
            let token = self.state.token();
            hub.journal.gap(token, &asked);
            let gap = hub.gap(&asked);
            let framing = self.state.framing();
            let backlog = self.backlog.get_or_insert_with(|| hub.backlogs.take());
            backlog.insert(gap, framing, &mut hub.shared);
            return self.fill(hub, false);
        }
        // Nothing behind what has begun to be written, which must come to its end.
        let backlog = self.backlog.as_ref();
        let frame = backlog.and_then(|backlog| backlog.pieces(self.state.framing()).next());
        if let Some(bytes) = frame {
            let bytes = &bytes[..bytes.len().min(BATCH_BYTES)];
            self.out.push(bytes, &mut hub.spares);
            hub.batch.mark(self.out.len(), Part::Backlog);
        }
    }

    /// `is_begun`: the first frame of the backlog is written in part, and goes on.
    fn fill(&mut self, hub: &mut Hub, is_begun: bool) {
        let framing = self.state.framing();
        let Hub {
            history,
            replays,
            batch,
            backlogs,
            shared,
            spares,
            ..
        } = hub;
        let Some(replay) = replays.get_mut(self.id) else {
            return;
        };
        let mut cursors = std::mem::take(&mut batch.cursors);
        let mut merge = Merge::new(history, replay, &mut cursors);
        let mut next = merge.next(&replay.legs);
        // The places of the backlog whose frames are in the batch.
        let mut taken = 0;
        loop {
            let room = BATCH_BYTES.saturating_sub(self.out.len());
            if room == 0 {
                break;
            }
            let backlog = self.backlog.as_deref();
            let waiting = backlog.and_then(|backlog| Some((backlog, backlog.next_from(taken)?)));
            if let Some((backlog, place)) = waiting
                && (is_begun && taken == 0
                    || backlog.is_ahead(place)
                    || next.is_behind(backlog.at(place)))
            {
                let bytes = backlog.rest(place, framing);
                let part = &bytes[..bytes.len().min(room)];
                let is_whole = part.len() == bytes.len();
                self.out.push(part, spares);
                batch.mark(self.out.len(), Part::Backlog);
                if !is_whole {
                    break;
                }
                taken = place + 1;
                continue;
            }
            match next {
                // An event by token that was read later has its key. Once that is written, nothing tells
                // any more that this one is not to come.
                Next::Event(number) if is_outdated(self.backlog.as_deref(), history, number) => {
                    batch.mark(self.out.len(), Part::Event(number));
                }
                Next::Event(number) => match history.bytes(number) {
                    Some(Kept::Chunk(chunk)) => {
                        let bytes = sse::of_chunk(chunk, framing);
                        self.out.push(bytes, spares);
                        batch.mark(self.out.len(), Part::Event(number));
                    }
                    // A reference costs less than a copy, and keeps what has begun to be written.
                    Some(Kept::Frame(frame)) if self.out.len() == batch.start => {
                        let frame = Rc::clone(frame);
                        let backlog = self.backlog.get_or_insert_with(|| backlogs.take());
                        backlog.push_front(frame, framing, shared);
                        replay.advance(number);
                    }
                    _ => break,
                },
                Next::Later(number) => {
                    if self.out.len() == batch.start {
                        replay.advance(number);
                    }
                    break;
                }
                Next::End => {
                    let out = self.out.tail(64, spares);
                    sse::write_position(out, framing, &replay.position);
                    batch.mark(self.out.len(), Part::End);
                    break;
                }
            }
            next = merge.next(&replay.legs);
        }
        batch.cursors = cursors;
    }

    /// The socket has taken the first `n` bytes of what was composed: what it left is given up, but for
    /// the rest of an event that it has begun with.
    pub(super) fn composed(&mut self, hub: &mut Hub, n: usize) -> Option<Over> {
        if hub.batch.owner != Some(self.id) {
            return None;
        }
        hub.batch.owner = None;
        let marks = std::mem::take(&mut hub.batch.marks);
        let is_over = self.take_composed(hub, n, &marks);
        hub.batch.marks = marks;
        if !is_over {
            return None;
        }
        self.is_replaying = false;
        let replay = hub.replays.remove(self.id)?;
        let is_closing = replay.ends.is_some();
        Some(Over { is_closing })
    }

    /// Lets others have their turn before its next batch; until then it counts as asked for.
    pub(super) fn wait_for_turn(&mut self, hub: &mut Hub) {
        self.is_flush_queued = true;
        hub.replays.unfinished.push_back(self.id);
    }

    /// Whether that was all.
    fn take_composed(&mut self, hub: &mut Hub, n: usize, marks: &[Mark]) -> bool {
        let mut start = hub.batch.start;
        // Of a batch's events the last one says it all.
        let mut given = None;
        let mut is_over = false;
        let mut events = 0;
        for mark in marks {
            if n <= start {
                self.out.truncate(start);
                break;
            }
            let is_whole = mark.end <= n;
            match mark.part {
                Part::Event(number) => {
                    given = Some(number);
                    // One without bytes was passed over.
                    events += u32::from(mark.end > start);
                    if !is_whole {
                        self.out.truncate(mark.end);
                    }
                }
                Part::Backlog => {
                    let taken = mark.end.min(n) - start;
                    self.consume_backlog(hub, taken);
                    if !is_whole {
                        self.out.truncate(n);
                    }
                }
                // Its rest is as good as written.
                Part::End => is_over = true,
            }
            if !is_whole {
                break;
            }
            start = mark.end;
        }
        self.gave(hub, events);
        if let (Some(number), Some(replay)) = (given, hub.replays.get_mut(self.id)) {
            replay.advance(number);
        }
        is_over
    }
}

/// Whether a later event waits that has the key of this one.
fn is_outdated(backlog: Option<&Backlog>, history: &History, number: u64) -> bool {
    let other = backlog.and_then(|backlog| backlog.last_of(history.key(number)));
    other.is_some_and(|other| other.is_later(number))
}
