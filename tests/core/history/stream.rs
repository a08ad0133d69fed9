//! One stream as the model has it: what is due to it. What comes is held against that in `coming`.

mod coming;

use std::collections::{BTreeMap, HashSet};

use ssegateway::time::Time;

use super::log::{Arrival, EVERYBODY, Log};
use super::pending::{Item, Pending, Reached, What};

/// A channel of which something is to come from the history.
#[derive(Clone, Debug)]
struct Leg {
    name: &'static str,
    /// It has come up to this number.
    at: u64,
    /// Nothing comes behind this number.
    until: u64,
}

/// A stream, or one that the backend is being asked about.
#[derive(Debug)]
pub(super) struct Stream {
    /// Channels, and the numbers behind which the stream began there.
    pub(super) members: BTreeMap<&'static str, u64>,
    pub(super) is_open: bool,
    /// Its end was read, when there were so many events.
    pub(super) ends: Option<u64>,
    /// The gateway knows it no more.
    pub(super) is_ended: bool,
    /// When its time is over.
    pub(super) expires: Option<Time>,
    /// What it is to say first of coming again.
    pub(super) first_words: Option<u64>,
    /// What it is to say last is less than this.
    last_words: Option<u64>,
    has_said_last: bool,
    /// Nothing more comes from the history but what is at hand.
    is_cut: bool,
    /// A position is to come.
    pub(super) is_replaying: bool,
    pub(super) pending: Pending,
    /// What was pending when the piece under way began.
    begun: Option<Pending>,
    /// What was offered to the socket first, and may be at hand if it is too large to be copied.
    offered: Option<u64>,
    /// How many events there were when the socket was first offered no more than a part of an event,
    /// and of what is behind it nothing.
    hidden: Option<u64>,
    legs: Vec<Leg>,
    reached: Reached,
    delivered: HashSet<u64>,
    /// The id that its connect callback carried, and its number.
    pub(super) began: (String, u64),
    asked: String,
    /// How many events there were when it was touched last.
    touched: u64,
}

impl Stream {
    /// One whose connect callback is out.
    pub(super) fn new(log: &Log) -> Stream {
        let mut stream = Stream {
            members: BTreeMap::new(),
            is_open: false,
            ends: None,
            is_ended: false,
            expires: None,
            first_words: None,
            last_words: None,
            has_said_last: false,
            is_cut: false,
            is_replaying: log.has_history,
            pending: Pending::default(),
            begun: None,
            offered: None,
            hidden: None,
            legs: Vec::new(),
            reached: Reached::new(),
            delivered: HashSet::new(),
            began: (log.position_text(), log.last()),
            asked: log.position_text(),
            touched: log.last(),
        };
        if stream.is_replaying {
            stream.begin_replay(log);
        }
        stream
    }

    /// Whether it is one of those for whom events are.
    pub(super) fn takes(&self) -> bool {
        !self.is_ended && self.ends.is_none()
    }

    // ---- what is read ----

    /// An event for many, of whom it is one.
    pub(super) fn publish(&mut self, order: Option<usize>, close: bool, log: &Log) {
        if !self.takes() {
            return;
        }
        if let Some(order) = order {
            match log.sent[order].number {
                Some(number) if self.is_replaying => {
                    self.pending.past.insert(number, false);
                    self.pending.outdate(log.sent[order].key, log);
                }
                _ => self.push(What::Event(order), log.last(), log),
            }
        }
        if close {
            self.ends = Some(log.last());
            for leg in &mut self.legs {
                leg.until = leg.until.min(log.last());
            }
        }
    }

    /// A send to it alone: its channels, then its event, then its end.
    pub(super) fn obey(
        &mut self,
        leaves: &[&'static str],
        arrival: &Arrival,
        order: Option<usize>,
        close: bool,
        log: &Log,
    ) {
        self.touched = log.last();
        for name in leaves {
            self.members.remove(name);
            for leg in self.legs.iter_mut().filter(|leg| leg.name == *name) {
                leg.until = leg.until.min(log.last());
            }
        }
        let is_deaf = !self.takes();
        self.join(arrival, log);
        if is_deaf {
            return;
        }
        for what in told(arrival) {
            let at = match what {
                What::Value(at) => log.sent[at].number.unwrap_or(0),
                _ => log.last(),
            };
            self.push(what, at, log);
        }
        self.publish(order, close, log);
    }

    /// The backend lets it open.
    pub(super) fn open(&mut self, answer: Option<What>, close: bool, arrival: &Arrival, log: &Log) {
        self.is_open = true;
        self.touched = log.last();
        if close {
            self.pending = Pending::default();
            self.is_replaying = false;
            self.ends = Some(log.last());
        } else {
            self.asked = arrival.asked.clone();
            self.begin_everybody(arrival.everybody, log);
            self.join(arrival, log);
            for what in told(arrival).into_iter().rev() {
                self.push_front(what);
            }
        }
        if let Some(answer) = answer {
            self.push_front(answer);
        }
    }

    /// Missed broadcasts come from another point on.
    fn begin_everybody(&mut self, behind: u64, log: &Log) {
        if !self.is_replaying {
            return;
        }
        let until = self.ends.unwrap_or(u64::MAX);
        let past = &mut self.pending.past;
        past.retain(|number, _| !log.is_in(*number, EVERYBODY));
        let due = log.behind(behind, EVERYBODY);
        past.extend(due.filter(|it| *it <= until).map(|it| (it, false)));
        self.legs.retain(|leg| leg.name != EVERYBODY);
        self.legs.push(Leg {
            name: EVERYBODY,
            at: behind,
            until,
        });
    }

    /// The process is about to end: whoever is not closed already says when to come again, at a
    /// moment of so many milliseconds.
    pub(super) fn shut(&mut self, spread: u64, log: &Log) {
        let is_cut = self.ends.is_none() || self.is_replaying;
        if self.is_open && !self.is_ended && is_cut && spread > 0 {
            self.last_words = Some(spread);
        }
        self.cut(log);
    }

    /// The stream ends where it is: nothing comes from the history any more.
    pub(super) fn cut(&mut self, log: &Log) {
        if self.is_open && !self.is_ended {
            if self.is_replaying {
                self.is_cut = true;
                self.pending.cut(&self.asked, log);
            }
            self.is_replaying = false;
            self.ends = Some(self.ends.unwrap_or(log.last()));
        }
    }

    fn join(&mut self, arrival: &Arrival, log: &Log) {
        let mut channels = arrival.channels.iter();
        let has_past = channels.any(|(_, behind)| *behind < log.last());
        if has_past && log.has_history {
            if !self.is_replaying {
                self.is_replaying = true;
                for item in &mut self.pending.queue {
                    item.is_ahead = true;
                }
                self.begin_replay(log);
            }
            self.asked = arrival.asked.clone();
        }
        for (name, behind) in &arrival.channels {
            self.join_one(name, *behind, log);
        }
    }

    fn begin_replay(&mut self, log: &Log) {
        let names = self.members.keys().copied().chain([EVERYBODY]);
        let legs = names.map(|name| Leg {
            name,
            at: log.last(),
            until: u64::MAX,
        });
        self.legs = legs.collect();
    }

    fn join_one(&mut self, name: &'static str, behind: u64, log: &Log) {
        let until = self.ends.unwrap_or(u64::MAX);
        let since = self.members.get(name).copied().unwrap_or(u64::MAX);
        for number in log.behind(behind, name) {
            if number > until || number > since || self.is_covered(number, name, log) {
                continue;
            }
            let waits = |item: &Item| item.what == What::Event(log.order(number));
            let is_waiting = self.pending.queue.iter().any(waits);
            let is_again = is_waiting || self.delivered.contains(&number);
            self.pending.past.entry(number).or_insert(is_again);
        }
        self.members.insert(name, since.min(behind));
        if self.is_replaying {
            self.legs.push(Leg {
                name,
                at: behind,
                until,
            });
        }
    }

    /// Whether an event has come, or will, by another channel.
    fn is_covered(&self, number: u64, name: &str, log: &Log) -> bool {
        let others = self.members.iter().filter(|(it, _)| **it != name);
        let mut covers = others.map(|(it, since)| *since < number && log.is_in(number, it));
        covers.any(|it| it)
    }

    fn push(&mut self, what: What, at: u64, log: &Log) {
        // What stands for a value may be gone before it would come.
        let is_value = matches!(what, What::Value(_));
        let is_optional = is_value && self.pending.has_newer(&what, log);
        self.pending.queue.push_back(Item {
            what,
            at,
            is_ahead: false,
            is_optional,
        });
    }

    fn push_front(&mut self, what: What) {
        self.pending.queue.push_front(Item {
            what,
            at: 0,
            is_ahead: true,
            is_optional: false,
        });
    }
}

/// What comes of an arrival at once.
fn told(arrival: &Arrival) -> Vec<What> {
    let gap = arrival.gap.iter().map(|asked| What::Gap(asked.clone()));
    let values = arrival.values.iter().map(|at| What::Value(*at));
    gap.chain(values).collect()
}
