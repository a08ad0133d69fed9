//! What waits to be written to a connection: plain bytes first, then what is shared with others.

use std::rc::Rc;

use super::backlog::Backlog;
use super::conn::{Conn, State};
use super::frame::Frame;
use super::hub::Hub;
use super::limit::Limit;
use crate::sse::Framing;
use crate::time::Time;
use crate::wheel::Tick;

/// Pieces that are written at once; more bring next to nothing, as most are events of their own.
pub const MOST_PIECES: usize = 16;

/// What is to be written next.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    plain: &'a [u8],
    backlog: Option<&'a Backlog>,
    framing: Framing,
}

impl<'a> Output<'a> {
    /// All of it, if it is one piece.
    pub fn single(&self) -> Option<&'a [u8]> {
        match self.backlog {
            None => Some(self.plain),
            Some(backlog) if self.plain.is_empty() => backlog.single(self.framing),
            Some(_) => None,
        }
    }

    /// All pieces, none of them empty; one write takes [`MOST_PIECES`] of them.
    pub fn pieces(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let plain = (!self.plain.is_empty()).then_some(self.plain);
        let framing = self.framing;
        let shared = self.backlog.into_iter();
        let shared = shared.flat_map(move |backlog| backlog.pieces(framing));
        plain.into_iter().chain(shared)
    }

    /// Bytes of what one write takes.
    pub fn len(&self) -> usize {
        match self.single() {
            Some(bytes) => bytes.len(),
            None => self.pieces().take(MOST_PIECES).map(<[u8]>::len).sum(),
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.backlog.is_none()
    }
}

impl<S> Conn<S> {
    /// What is to be written next.
    pub(super) fn output(&self) -> Output<'_> {
        Output {
            plain: self.out.bytes(),
            backlog: self.sendable(),
            framing: self.state.framing(),
        }
    }

    /// The same beside what the shell keeps; `None` when there is nothing.
    pub(super) fn output_beside_io(&mut self) -> Option<(&mut S, Output<'_>)> {
        let output = Output {
            plain: self.out.bytes(),
            backlog: sendable(&self.state, self.is_replaying, &self.backlog),
            framing: self.state.framing(),
        };
        (!output.is_empty()).then_some((&mut self.io, output))
    }

    fn sendable(&self) -> Option<&Backlog> {
        sendable(&self.state, self.is_replaying, &self.backlog)
    }

    /// Whether nothing is left to be written.
    pub(super) fn is_written(&self) -> bool {
        self.out.is_empty() && self.sendable().is_none() && !self.is_composed()
    }

    /// Bytes that are left to be written.
    pub(super) fn unsent(&self) -> usize {
        let waits = matches!(self.state, State::AwaitingCallback(_));
        let backlog = self.backlog.as_ref().filter(|_| !waits);
        self.out.len() + backlog.map_or(0, |backlog| backlog.unsent())
    }

    /// Forgets the first `n` bytes of the output, which the socket has taken.
    pub(super) fn consume(&mut self, hub: &mut Hub, n: usize) {
        let plain = n.min(self.out.len());
        self.out.consume(plain, &mut hub.spares);
        if n > plain {
            self.consume_backlog(hub, n - plain);
        }
    }

    /// Forgets the first `n` bytes of the backlog, which the socket has taken.
    pub(super) fn consume_backlog(&mut self, hub: &mut Hub, n: usize) {
        if let Some(backlog) = &mut self.backlog {
            let events = backlog.consume(n, self.state.framing(), &mut hub.shared);
            if backlog.unsent() == 0 {
                self.forget_backlog(hub);
            }
            self.gave(hub, events);
        }
    }

    /// Counts events that the stream was given: those that wait for nobody else when they are put
    /// among its plain bytes, the others when they are written.
    pub(super) fn gave(&mut self, hub: &mut Hub, events: u32) {
        hub.journal.counters.events += u64::from(events);
        if let State::Streaming(stream) = &mut self.state {
            stream.events = stream.events.saturating_add(events);
        }
    }

    /// Drops what waits, be it sendable or not.
    pub(super) fn forget_backlog(&mut self, hub: &mut Hub) {
        if let Some(mut backlog) = self.backlog.take() {
            backlog.clear(&mut hub.shared);
            hub.backlogs.give(backlog);
        }
    }

    /// Drops what waits among what will not come from the history any more, or behind it.
    pub(super) fn keep_settled(&mut self, hub: &mut Hub) {
        if let Some(backlog) = &mut self.backlog {
            backlog.keep_settled(self.state.framing(), &mut hub.shared);
            if backlog.unsent() == 0 {
                self.forget_backlog(hub);
            }
        }
    }

    /// Appends plain bytes to the output.
    pub(super) fn push(&mut self, hub: &mut Hub, bytes: &[u8], now: Time) {
        if bytes.is_empty() {
            return;
        }
        if self.is_written() {
            self.stalled_since = Tick::at(now);
        }
        if self.sendable().is_some() {
            return self.hold(hub, Frame::raw(bytes));
        }
        self.out.push(bytes, &mut hub.spares);
    }

    /// Appends an event to an open stream's output. False: there was no room, and the stream is
    /// dropped.
    pub(super) fn append(&mut self, hub: &mut Hub, event: Rc<Frame>, now: Time) -> bool {
        let (length, replaced) = self.sizes(&event);
        let has_room = self.has_room(hub, length, replaced, now);
        if has_room {
            self.hold(hub, event);
        }
        has_room
    }

    /// Whether an open stream's output takes so many bytes for others; if not, the stream is dropped.
    /// What its socket was not offered yet may be any number: it is judged when it was.
    pub(super) fn has_room(
        &mut self,
        hub: &mut Hub,
        more: usize,
        replaced: usize,
        now: Time,
    ) -> bool {
        let rest = self.unsent() - replaced;
        if self.is_written() {
            self.stalled_since = Tick::at(now);
        } else if !self.is_blocked && !self.is_replaying {
            self.is_piled = true;
        } else if rest > 0 && rest + more > hub.settings.limits.max_unsent {
            self.drop_stream(hub, Limit::Unsent, now);
            return false;
        }
        true
    }

    /// The socket was offered all that had been put there before: what it left is as if each event
    /// had been offered when it came. False: that is too much, and the stream is dropped.
    pub(super) fn judge(&mut self, hub: &mut Hub, now: Time) -> bool {
        if !std::mem::take(&mut self.is_piled) || !self.is_blocked {
            return true;
        }
        let Some(backlog) = &mut self.backlog else {
            return true;
        };
        backlog.keep_latest(self.state.framing(), &mut hub.shared);
        // One event is always taken by an empty queue.
        let is_one = self.out.is_empty() && backlog.frames().nth(1).is_none();
        let is_too_much = !is_one && self.unsent() > hub.settings.limits.max_unsent;
        if is_too_much && matches!(self.state, State::Streaming(_)) {
            self.drop_stream(hub, Limit::Unsent, now);
            return false;
        }
        true
    }

    /// The limit that keeps these out of the callback window, of which `own` bytes are not in memory
    /// yet. One is always taken by an empty one.
    pub(super) fn window_limit(
        &self,
        hub: &Hub,
        frames: &[Rc<Frame>],
        own: usize,
    ) -> Option<Limit> {
        let (last, others) = frames.split_last()?;
        let limits = &hub.settings.limits;
        let window = self.backlog.as_ref().map_or(0, |window| window.unsent());
        let framing = self.state.framing();
        let others = others.iter().map(|frame| frame.bytes(framing).len());
        let (length, replaced) = self.sizes(last);
        let rest = window + others.sum::<usize>() - replaced;
        if rest > 0 && rest + length > limits.max_unsent {
            Some(Limit::Window)
        } else if hub.outbound() + own > limits.max_held {
            Some(Limit::Held)
        } else {
            None
        }
    }

    /// Puts a frame behind what waits already, and takes out what waits with the same key: for the
    /// socket, which would not take it, or for the backend's word. What the socket was not offered
    /// yet does not wait.
    pub(super) fn hold(&mut self, hub: &mut Hub, frame: Rc<Frame>) {
        let is_asked = matches!(self.state, State::AwaitingCallback(_));
        let waits = self.is_blocked || self.is_replaying || is_asked;
        let framing = self.state.framing();
        let backlog = self.backlog.get_or_insert_with(|| hub.backlogs.take());
        if waits {
            backlog.replace(&frame, framing, &mut hub.shared);
        }
        backlog.push(frame, framing, &mut hub.shared);
    }

    /// Takes out what waits with the key of an event that comes later by another way.
    pub(super) fn take_out(&mut self, hub: &mut Hub, event: &Frame) {
        if let Some(backlog) = &mut self.backlog {
            backlog.replace(event, self.state.framing(), &mut hub.shared);
            if backlog.unsent() == 0 {
                self.forget_backlog(hub);
            }
        }
    }

    /// Whether an event waits, unsent, that takes the place of a current value: it has its key and was
    /// read later.
    pub(super) fn outdates(&self, value: &Frame) -> bool {
        let backlog = self.backlog.as_ref();
        let other = backlog.and_then(|backlog| backlog.last_of(value.key()?));
        other.is_some_and(|other| value.at() > 0 && other.at() >= value.at())
    }

    /// Bytes of an event, and of the earlier one that it takes out.
    fn sizes(&self, event: &Frame) -> (usize, usize) {
        let framing = self.state.framing();
        let backlog = self.backlog.as_ref();
        let replaced = backlog.map_or(0, |backlog| backlog.replaced(event, framing));
        (event.bytes(framing).len(), replaced)
    }
}

/// What waits for the backend's word is not to be written yet, and what waits among events of the
/// history is written with them.
fn sendable<'a>(
    state: &State,
    is_replaying: bool,
    backlog: &'a Option<Box<Backlog>>,
) -> Option<&'a Backlog> {
    match state {
        State::AwaitingCallback(_) => None,
        _ => backlog.as_deref().filter(|_| !is_replaying),
    }
}
