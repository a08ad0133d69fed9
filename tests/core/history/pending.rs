//! What is to come to one stream, in its order.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

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

    /// Takes off what has come, and as little as possible of what it stands for; `Err` says what
    /// should have come.
    pub(super) fn take(
        &mut self,
        log: &Log,
        seen: &Seen,
        reached: &mut Reached,
    ) -> Result<Vec<Place>, Option<Seen>> {
        let first = self.next().ok_or(None)?;
        let first = self.what(first, log).seen(log);
        let mut ways = VecDeque::from([(self.clone(), Vec::new())]);
        let mut known = HashSet::new();
        while let Some((way, taken)) = ways.pop_front() {
            let Some(next) = way.next() else {
                continue;
            };
            let what = way.what(next, log);
            if what.seen(log) == *seen {
                *self = way;
                self.note(&what, log, reached);
                self.remove(next);
                return Ok([taken, vec![next]].concat());
            }
            // What has lost its place in the queue to another has none among the rest.
            let others = (!way.queue.is_empty()).then_some(Place::Queue);
            for place in others.into_iter().chain([next]) {
                if !way.may_be_left_out(place, log, reached) {
                    continue;
                }
                let mut way = way.clone();
                way.remove(place);
                if known.insert((way.queue.len(), way.past.len())) {
                    ways.push_back((way, [&*taken, &[place]].concat()));
                }
            }
        }
        Err(Some(first))
    }

    /// Something has come.
    fn note(&mut self, what: &What, log: &Log, reached: &mut Reached) {
        let (Some(key), Some(order)) = (what.key(log), what.order()) else {
            return;
        };
        let reached = reached.entry(key).or_default();
        *reached = order.max(*reached);
        // Of what looks the same and has a key one may have taken the other's place.
        let seen = what.seen(log);
        for item in self.queue.iter_mut().skip(1) {
            let is_value = matches!(what, What::Value(_)) || matches!(item.what, What::Value(_));
            item.is_optional |= is_value && item.what.seen(log) == seen;
        }
    }

    /// Whether something waits that stands for this.
    pub(super) fn has_newer(&self, what: &What, log: &Log) -> bool {
        let Some(key) = what.key(log) else {
            return false;
        };
        let queue = self.queue.iter().map(|item| item.what.clone());
        let past = self.past.keys().map(|it| What::Event(log.order(*it)));
        let mut others = queue.chain(past);
        others.any(|it| it.key(log) == Some(key) && it.stands_for(what, log))
    }

    /// Nothing more comes from the history, nor what would come among that or behind it: what this has
    /// taken out is gone as well.
    pub(super) fn cut(&mut self, asked: &str, log: &Log) {
        let all = self.clone();
        self.queue.retain(|item| item.is_ahead);
        // It may be about to say that something is forgotten.
        self.queue.push_back(Item {
            what: What::Gap(asked.to_owned()),
            at: 0,
            is_ahead: true,
            is_optional: true,
        });
        for item in &mut self.queue {
            item.is_optional |= all.has_newer(&item.what, log);
        }
        // One that is too large to be copied may be at hand.
        self.past.retain(|number, _| log.is_large(*number));
        self.past.values_mut().for_each(|it| *it = true);
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
        let is_optional = match place {
            Place::Queue => self.queue[0].is_optional,
            Place::Past(number) => self.past[&number],
        };
        let what = self.what(place, log);
        is_optional || self.has_newer(&what, log) || is_passed(&what, log, reached)
    }

    /// Whether everything in the queue may be left out.
    pub(super) fn is_over(&self, log: &Log, reached: &Reached) -> bool {
        let mut queue = self.queue.iter();
        queue.all(|item| item.is_optional || is_passed(&item.what, log, reached))
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

/// Whether a later one of its key has come.
fn is_passed(what: &What, log: &Log, reached: &Reached) -> bool {
    let reached = what.key(log).and_then(|key| reached.get(key));
    reached.is_some_and(|at| Some(*at) > what.order())
}
