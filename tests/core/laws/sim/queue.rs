//! What waits for one stream, by the contract's word: a plain list (sections 4, 6 and 11).

use std::collections::{BTreeSet, VecDeque};

use super::command::Event;
use super::peer::Item;

/// What stands on a stream, or will.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    item: Item,
    key: Option<&'static str>,
    /// Zero: what it says is not known yet, but that it is less than this.
    len: usize,
}

/// What one fan-out has for a stream.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// The fan-out's number.
    pub(crate) number: u64,
    pub(crate) event: Option<Event>,
    pub(crate) close: bool,
}

/// What becomes of a stream that is given something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Given {
    Goes,
    Closed,
    /// Its queue is full.
    Dropped,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    /// It is framed as HTTP/1.0 has it.
    pub(crate) is_old: bool,
    /// Put out and not taken as a whole, or buffered in the window.
    entries: VecDeque<Entry>,
    /// From fan-outs that were answered, and not seen on the stream yet.
    pub(crate) pending: VecDeque<Part>,
    /// Untaken bytes in front of the entries: the head, answers.
    pub(crate) ahead: usize,
    /// Bytes of the first entry that the socket took.
    pub(crate) begun: usize,
    /// The socket would not take all that it was offered.
    pub(crate) is_blocked: bool,
    /// It ends behind its entries, which shows unless it is old.
    is_closed: bool,
    /// Events were put behind others that the socket was not offered yet.
    is_piled: bool,
    /// The socket left more of such than may wait.
    is_too_much: bool,
    /// It has said, at its end, when to come again.
    pub(crate) has_said_when: bool,
    /// How often a later event took out an earlier one.
    pub(crate) taken_out: u64,
}

impl Queue {
    pub(crate) fn new(is_old: bool) -> Queue {
        Queue {
            is_old,
            ..Queue::default()
        }
    }

    /// Bytes that wait.
    pub(crate) fn unsent(&self) -> usize {
        self.ahead + self.waiting() - self.begun
    }

    fn waiting(&self) -> usize {
        self.entries.iter().map(|entry| entry.len).sum()
    }

    /// How many events wait or are to.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() + self.pending.len()
    }

    /// The place of what an event takes out: the same key, and nothing of it written.
    fn replaced(&self, event: &Event) -> Option<usize> {
        let key = event.key?;
        let at = self.entries.iter().rposition(|it| it.key == Some(key))?;
        (at > 0 || self.begun == 0).then_some(at)
    }

    /// Whether an event is too much beside what is left of so many bytes.
    fn is_full(&self, bytes: usize, event: &Event, max_unsent: usize) -> bool {
        let rest = bytes - self.replaced(event).map_or(0, |at| self.entries[at].len);
        rest > 0 && rest + event.len(self.is_old) > max_unsent
    }

    /// Whether the window cannot take an event.
    pub(crate) fn is_window_full(&self, event: &Event, max_unsent: usize) -> bool {
        self.is_full(self.waiting(), event, max_unsent)
    }

    /// Appends an event, which takes out what it may.
    pub(crate) fn append(&mut self, event: &Event) {
        if let Some(at) = self.replaced(event) {
            self.entries.remove(at);
            self.taken_out += 1;
        }
        self.entries.push_back(self.entry(event));
    }

    fn entry(&self, event: &Event) -> Entry {
        Entry {
            item: Item::Event(event.read()),
            key: event.key,
            len: event.len(self.is_old),
        }
    }

    /// The same for an open stream, which may not have too much. What its socket was not offered
    /// does not count.
    pub(crate) fn put(&mut self, event: &Event, max_unsent: usize) -> Given {
        let unsent = self.unsent();
        if !self.is_blocked {
            self.is_piled |= unsent > 0;
            self.entries.push_back(self.entry(event));
            return Given::Goes;
        }
        if self.is_full(unsent, event, max_unsent) {
            return Given::Dropped;
        }
        self.append(event);
        Given::Goes
    }

    /// The socket left some of what it was offered: what waits now is as if each event had been
    /// offered alone.
    pub(crate) fn judge(&mut self, max_unsent: usize) {
        if !std::mem::take(&mut self.is_piled) {
            return;
        }
        let mut keys = BTreeSet::new();
        for at in (usize::from(self.begun > 0)..self.entries.len()).rev() {
            if self.entries[at].key.is_some_and(|key| !keys.insert(key)) {
                self.entries.remove(at);
                self.taken_out += 1;
            }
        }
        let is_one = self.ahead == 0 && self.entries.len() == 1;
        self.is_too_much = !is_one && !self.is_closed && self.unsent() > max_unsent;
    }

    /// Whether the socket left more than may wait of what came at once.
    pub(crate) fn is_too_much(&self) -> bool {
        self.is_too_much
    }

    /// Nothing comes behind this.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        self.pending.clear();
        if !self.is_old {
            self.entries.push_back(Entry {
                item: Item::End,
                key: None,
                len: "0\r\n\r\n".len(),
            });
        }
    }

    /// Gives the stream what the oldest pending fan-out has for it.
    pub(crate) fn deliver(&mut self, max_unsent: usize) -> Option<Given> {
        let part = self.pending.pop_front()?;
        if let Some(event) = &part.event
            && self.put(event, max_unsent) == Given::Dropped
        {
            return Some(Given::Dropped);
        }
        if part.close {
            self.close();
            return Some(Given::Closed);
        }
        Some(Given::Goes)
    }

    /// Gives it all that is pending, as far as it goes.
    pub(crate) fn deliver_all(&mut self, max_unsent: usize) -> Given {
        while let Some(given) = self.deliver(max_unsent) {
            if given != Given::Goes {
                self.pending.clear();
                return given;
            }
        }
        Given::Goes
    }

    /// Whether what is pending is too much for it.
    pub(crate) fn would_drop(&self, max_unsent: usize) -> bool {
        self.is_too_much || self.clone().deliver_all(max_unsent) == Given::Dropped
    }

    /// The stream opens: the answer's own event goes first, unless what was buffered takes it out, and
    /// before that how long to wait before coming again.
    pub(crate) fn open(&mut self, event: Option<&Event>, close: bool, retry: Option<u32>) {
        if close {
            self.entries.clear();
        }
        if let Some(event) = event
            && self.replaced(event).is_none()
        {
            self.entries.push_front(self.entry(event));
        }
        if let Some(millis) = retry {
            let text = format!("retry: {millis}\n\n");
            let len = match self.is_old {
                true => text.len(),
                false => format!("{:x}\r\n{text}\r\n", text.len()).len(),
            };
            self.entries.push_front(Entry {
                item: Item::Retry(millis.into()),
                key: None,
                len,
            });
        }
    }

    /// It is to say, behind all else, when to come again: so many milliseconds, but fewer than these.
    pub(crate) fn say_when(&mut self, below: u64) {
        self.entries.push_back(Entry {
            item: Item::Retry(below),
            key: None,
            len: 0,
        });
    }

    /// Whether this is what waits. A heartbeat may, where nothing else does.
    pub(crate) fn is(&mut self, items: &[(Item, usize)]) -> bool {
        if let ([(Item::Beat, len)], true) = (items, self.entries.is_empty()) {
            self.entries.push_back(Entry {
                item: Item::Beat,
                key: None,
                len: *len,
            });
        }
        for (entry, (item, len)) in self.entries.iter_mut().zip(items) {
            if let (Item::Retry(below), 0, Item::Retry(millis)) = (&entry.item, entry.len, item)
                && millis < below
            {
                (entry.item, entry.len) = (item.clone(), *len);
                self.has_said_when = true;
            }
        }
        let entries = self.entries.iter().map(|it| (&it.item, it.len));
        entries.eq(items.iter().map(|(item, len)| (item, *len)))
    }

    /// Takes off the first if its bytes are among `n`, and gives their number.
    pub(crate) fn take(&mut self, n: usize) -> Option<usize> {
        let len = self.entries.front()?.len;
        if n < len {
            return None;
        }
        self.entries.pop_front();
        Some(len)
    }
}
