//! All that was published, in the order in which it was read, and what is known of how much of it is
//! still kept.

use std::collections::HashMap;

use ssegateway::event_id::EventId;
use ssegateway::time::Time;

/// Stands for everybody among the names of channels.
pub(super) const EVERYBODY: &str = "";

/// Bytes of an event that may be too large to be copied.
const FEWEST_SHARED: usize = 1900;

/// An event that was read.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// Its place in the history, from one on; `None` when it is not kept.
    pub(super) number: Option<u64>,
    pub(super) id: Option<String>,
    /// Where it went; [`EVERYBODY`] alone, or none for single streams.
    pub(super) channels: Vec<&'static str>,
    pub(super) name: &'static str,
    pub(super) data: String,
    pub(super) key: Option<&'static str>,
    pub(super) read: Time,
}

/// What is known of an event of the history.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kept {
    Yes,
    No,
    Unknown,
}

/// What has become of one process.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) has_history: bool,
    /// By the order of reading.
    pub(super) sent: Vec<Sent>,
    /// The places in it of what is in the history, from number one on.
    pub(super) numbers: Vec<usize>,
    /// Numbers by ids, that of the beginning included.
    pub(super) ids: HashMap<String, u64>,
    /// The id of the last event so far.
    pub(super) position: Option<EventId>,
    /// Current values.
    pub(super) values: HashMap<&'static str, usize>,
    /// All up to this number are forgotten.
    pub(super) lost: u64,
    /// All from this number on are kept; `None`: it is not known.
    pub(super) kept: Option<u64>,
    /// More channels are forgotten than the history remembers.
    pub(super) is_vague: bool,
}

/// What joining comes to.
#[derive(Debug)]
pub(super) struct Arrival {
    /// The numbers behind which the stream begins.
    pub(super) channels: Vec<(&'static str, u64)>,
    pub(super) everybody: u64,
    /// What a gap event would say from now on.
    pub(super) asked: String,
    /// What a gap event says at once.
    pub(super) gap: Option<String>,
    /// Current values, by the places of their events.
    pub(super) values: Vec<usize>,
}

impl Log {
    pub(super) fn new(has_history: bool) -> Log {
        Log {
            has_history,
            kept: Some(1),
            ..Log::default()
        }
    }

    pub(super) fn last(&self) -> u64 {
        self.numbers.len() as u64
    }

    /// Whether an event may be too large to be copied.
    pub(super) fn is_large(&self, number: u64) -> bool {
        self.at(number).data.len() > FEWEST_SHARED
    }

    pub(super) fn at(&self, number: u64) -> &Sent {
        &self.sent[self.order(number)]
    }

    /// The place of an event of the history among all.
    pub(super) fn order(&self, number: u64) -> usize {
        self.numbers[number as usize - 1]
    }

    pub(super) fn is_in(&self, number: u64, name: &str) -> bool {
        self.at(number).channels.contains(&name)
    }

    /// Whether an event is kept.
    pub(super) fn is_kept(&self, number: u64) -> Kept {
        match self.kept {
            _ if number <= self.lost => Kept::No,
            Some(kept) if number >= kept => Kept::Yes,
            _ => Kept::Unknown,
        }
    }

    /// Events of a channel behind a number.
    pub(super) fn behind<'a>(
        &'a self,
        number: u64,
        name: &'a str,
    ) -> impl Iterator<Item = u64> + 'a {
        (number + 1..=self.last()).filter(move |number| self.is_in(*number, name))
    }

    /// The number of the last event of a channel that is forgotten; `None` when it is not known.
    fn forgotten(&self, name: &str) -> Option<u64> {
        let unknown = self.behind(self.lost, name).next();
        let is_known = unknown.is_none_or(|next| self.is_kept(next) == Kept::Yes);
        let found = (1..=self.lost).rev().find(|it| self.is_in(*it, name));
        (is_known && !self.is_vague).then_some(found.unwrap_or(0))
    }

    /// What it comes to that a stream joins these channels behind what `text` says; `None` when the
    /// model cannot tell.
    pub(super) fn arrival(
        &self,
        names: &[&'static str],
        is_in: impl Fn(&str) -> bool,
        text: &str,
        has_all: bool,
    ) -> Option<Arrival> {
        let mut arrival = Arrival {
            channels: names.iter().map(|name| (*name, self.last())).collect(),
            everybody: self.last(),
            asked: self.position_text(),
            gap: None,
            values: Vec::new(),
        };
        let mut all = names.to_vec();
        all.extend(has_all.then_some(EVERYBODY));
        match text {
            "" => {}
            "earliest" => {
                arrival.asked = text.to_owned();
                for (name, behind) in &mut arrival.channels {
                    *behind = self.forgotten(name)?;
                }
                if has_all {
                    arrival.everybody = self.forgotten(EVERYBODY)?;
                }
            }
            _ => match self.ids.get(text).copied() {
                Some(number) if !self.has_lost(number, &all)? => {
                    arrival.asked = text.to_owned();
                    arrival.everybody = number;
                    for (_, behind) in &mut arrival.channels {
                        *behind = number;
                    }
                }
                _ => arrival.gap = Some(text.to_owned()),
            },
        }
        for (name, behind) in &arrival.channels {
            if is_in(name) {
                continue;
            }
            if let Some(at) = self.values.get(name)
                && !self.brings(*behind, *at)?
                && !arrival.values.contains(at)
            {
                arrival.values.push(*at);
            }
        }
        arrival.values.sort();
        Some(arrival)
    }

    /// Whether anything of these channels behind a number is forgotten.
    fn has_lost(&self, number: u64, names: &[&str]) -> Option<bool> {
        let behind = names.iter().flat_map(|name| self.behind(number, name));
        let mut is_known = self.knows(number);
        for number in behind {
            match self.is_kept(number) {
                Kept::No => return Some(true),
                Kept::Unknown => is_known = false,
                Kept::Yes => {}
            }
        }
        is_known.then_some(false)
    }

    /// Whether the history can tell of every channel what it has lost behind a number.
    pub(super) fn knows(&self, number: u64) -> bool {
        !self.is_vague || self.kept.is_some_and(|kept| number + 1 >= kept)
    }

    /// Whether who begins behind a number gets this event from the history.
    fn brings(&self, behind: u64, at: usize) -> Option<bool> {
        let number = self.sent[at].number.unwrap_or(0);
        if number <= behind {
            return Some(false);
        }
        match self.is_kept(number) {
            Kept::Yes => Some(true),
            Kept::No => Some(false),
            Kept::Unknown => None,
        }
    }

    pub(super) fn position_text(&self) -> String {
        self.position.map_or(String::new(), |id| id.to_string())
    }
}
