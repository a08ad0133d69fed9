//! What is to come to one stream, in its order.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_json::json;

use super::log::Log;
use super::reader::Seen;

/// What waits in a stream's own queue.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) what: What,
    /// How many events the history had when it was read.
    pub(super) at: u64,
    /// It goes before anything from the history.
    pub(super) is_ahead: bool,
    /// It may fail to come.
    pub(super) is_optional: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// An event, by its place among all that was read.
    Event(usize),
    /// The same as a current value.
    Value(usize),
    /// The connect answer's own event.
    Answer {
        data: String,
        key: Option<&'static str>,
    },
    Gap(String),
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    Queue,
    Past(u64),
}

/// What is to come: events of the history by their numbers, merged with a queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    pub(super) queue: VecDeque<Item>,
    /// Numbers, and whether the event may fail to come.
    pub(super) past: BTreeMap<u64, bool>,
}

/// The place of the last event of each key that the stream has passed.
pub(super) type Reached = HashMap<&'static str, usize>;

impl What {
    /// Whether it was read later than another, or is the event of which that is a value. Without a
    /// history nobody knows when a value was read.
    fn stands_for(&self, other: &What, log: &Log) -> bool {
        let is_it = self.order() == other.order() && self.order().is_some();
        let is_same = is_it && matches!(other, What::Value(_));
        let is_value = matches!(self, What::Value(_)) && !log.has_history;
        is_same || is_value && self != other || self.order() > other.order()
    }

    fn order(&self) -> Option<usize> {
        match self {
            What::Event(at) | What::Value(at) => Some(*at),
            What::Answer { .. } | What::Gap(_) => None,
        }
    }

    fn key(&self, log: &Log) -> Option<&'static str> {
        match self {
            What::Event(at) | What::Value(at) => log.sent[*at].key,
            What::Answer { key, .. } => *key,
            What::Gap(_) => None,
        }
    }

    fn seen(&self, log: &Log) -> Seen {
        match self {
            What::Event(at) => Seen {
                id: log.sent[*at].id.clone(),
                ..value(log, *at)
            },
            What::Value(at) => value(log, *at),
            What::Answer { data, .. } => Seen {
                name: String::new(),
                data: data.clone(),
                id: None,
            },
            What::Gap(asked) => Seen {
                name: "gap".to_owned(),
                data: json!({ "last_event_id": asked }).to_string(),
                id: None,
            },
        }
    }
}

fn value(log: &Log, at: usize) -> Seen {
    let sent = &log.sent[at];
    Seen {
        name: sent.name.to_owned(),
        data: sent.data.clone(),
        id: None,
    }
}

impl Pending {
    /// What comes next.
    pub(super) fn next(&self) -> Option<Place> {
        let past = self.past.keys().next().copied();
        match (self.queue.front(), past) {
            (Some(item), Some(number)) if !item.is_ahead && item.at >= number => {
                Some(Place::Past(number))
            }
            (Some(_), _) => Some(Place::Queue),
            (None, number) => number.map(Place::Past),
        }
    }

    /// Takes off what has come, and what it stands for; `Err` says what should have come.
    pub(super) fn take(
        &mut self,
        log: &Log,
        seen: &Seen,
        reached: &mut Reached,
    ) -> Result<Vec<Place>, Option<Seen>> {
        let mut taken = Vec::new();
        loop {
            let next = self.next().ok_or(None)?;
            let what = self.what(next, log);
            let is_it = what.seen(log) == *seen && !self.is_double(&what, log);
            if !is_it && !self.may_be_left_out(next, log, reached) {
                // Behind what stands in the queue for no more than a place another may come at once.
                let has_other = next != Place::Queue && !self.queue.is_empty();
                if has_other && self.may_be_left_out(Place::Queue, log, reached) {
                    taken.push(Place::Queue);
                    self.remove(Place::Queue);
                    continue;
                }
                return Err(Some(what.seen(log)));
            }
            if is_it && let (Some(key), Some(order)) = (what.key(log), what.order()) {
                let reached = reached.entry(key).or_default();
                *reached = order.max(*reached);
            }
            taken.push(next);
            self.remove(next);
            if is_it {
                return Ok(taken);
            }
        }
    }

    /// Whether it is a value whose own event, which looks the same, waits and stands for it.
    fn is_double(&self, what: &What, log: &Log) -> bool {
        let (What::Value(at), Some(_)) = (what, what.key(log)) else {
            return false;
        };
        let mut others = self.queue.iter();
        !log.has_history && others.any(|item| item.what == What::Event(*at))
    }

    /// Whether something waits that stands for this.
    pub(super) fn has_newer(&self, what: &What, log: &Log) -> bool {
        let key = what.key(log);
        let mut others = self.queue.iter().map(|item| &item.what);
        key.is_some() && others.any(|it| it.key(log) == key && it.stands_for(what, log))
    }

    /// Whether this waits already, and has a key.
    pub(super) fn holds(&self, what: &What, log: &Log) -> bool {
        what.key(log).is_some() && self.queue.iter().any(|item| item.what == *what)
    }

    /// An event with this key comes from the history: what waits in the queue may be taken out.
    pub(super) fn outdate(&mut self, key: Option<&'static str>, log: &Log) {
        let queue = self.queue.iter_mut();
        for item in queue.filter(|item| key.is_some() && item.what.key(log) == key) {
            item.is_optional = true;
        }
    }

    fn what(&self, place: Place, log: &Log) -> What {
        match place {
            Place::Queue => self.queue[0].what.clone(),
            Place::Past(number) => What::Event(log.order(number)),
        }
    }

    fn remove(&mut self, place: Place) {
        match place {
            Place::Queue => {
                self.queue.pop_front();
            }
            Place::Past(number) => {
                self.past.remove(&number);
            }
        }
    }

    /// Whether something of its key that was read later stands for it.
    pub(super) fn may_be_left_out(&self, place: Place, log: &Log, reached: &Reached) -> bool {
        let what = self.what(place, log);
        let is_in_queue = self.has_newer(&what, log);
        let Place::Past(number) = place else {
            return is_in_queue || self.queue[0].is_optional;
        };
        let key = what.key(log);
        let reached = key.and_then(|key| reached.get(key));
        let is_passed = reached.is_some_and(|at| Some(*at) > what.order());
        let has_later = self.has_later(number, u64::MAX, log);
        self.past[&number] || is_in_queue || is_passed || has_later
    }

    /// Whether the history brings a later event of the same key, up to a number.
    pub(super) fn has_later(&self, number: u64, until: u64, log: &Log) -> bool {
        let key = log.at(number).key;
        let mut later = self
            .past
            .range(number + 1..)
            .take_while(|it| *it.0 <= until);
        key.is_some() && later.any(|(it, _)| log.at(*it).key == key)
    }
}
