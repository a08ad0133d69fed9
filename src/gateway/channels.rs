//! Who is in which channel (contract, section 11).
//!
//! A channel knows its members, a stream its memberships, and each membership its place on both
//! sides: joining and leaving take a few steps, however many are in a channel. A channel without
//! members does not exist.

use std::collections::HashMap;
use std::rc::Rc;

use slab::Slab;

/// No membership.
const NONE: u32 = u32::MAX;

/// A channel's list of members gives memory back below a quarter of it, unless it is this short.
const SHORT: usize = 64;

/// All channels and all memberships.
#[derive(Debug, Default)]
pub(super) struct Channels {
    /// Numbers of channels.
    names: HashMap<Rc<str>, u32>,
    channels: Slab<Channel>,
    memberships: Slab<Membership>,
    /// The numbers behind which they began, by their slots: zero for those beyond, and for all as
    /// long as there is no history.
    since: Vec<u64>,
}

/// Names a channel as long as it has members.
///
/// Another one may have the number later. That does no harm to a fan-out under way: whoever is in a
/// channel has been in it since he was given what was pending before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChannelId(u32);

#[derive(Debug)]
struct Channel {
    name: Rc<str>,
    /// Memberships, by their slots.
    members: Vec<u32>,
}

#[derive(Debug)]
struct Membership {
    /// The stream's slot among the connections.
    stream: u32,
    channel: ChannelId,
    /// The place among the channel's members.
    position: u32,
    /// The stream's next membership.
    next: u32,
}

/// A stream's memberships: the first of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Joined(u32);

impl Default for Joined {
    fn default() -> Joined {
        Joined(NONE)
    }
}

impl Channels {
    /// The channel of this name, if it has members.
    pub(super) fn find(&self, name: &str) -> Option<ChannelId> {
        self.names.get(name).copied().map(ChannelId)
    }

    /// How many streams are in a channel.
    pub(super) fn members(&self, channel: ChannelId) -> usize {
        let channel = self.channels.get(channel.0 as usize);
        channel.map_or(0, |channel| channel.members.len())
    }

    /// The slot of the stream that stands at a place among a channel's members.
    pub(super) fn member(&self, channel: ChannelId, at: usize) -> Option<u32> {
        let channel = self.channels.get(channel.0 as usize)?;
        let membership = *channel.members.get(at)?;
        Some(self.memberships[membership as usize].stream)
    }

    /// The channels that a stream is in.
    pub(super) fn of(&self, joined: &Joined) -> impl Iterator<Item = ChannelId> {
        self.slots_of(joined)
            .map(|(_, membership)| membership.channel)
    }

    fn slots_of(&self, joined: &Joined) -> impl Iterator<Item = (usize, &Membership)> {
        let mut at = joined.0;
        std::iter::from_fn(move || {
            let slot = at as usize;
            let membership = self.memberships.get(slot)?;
            at = membership.next;
            Some((slot, membership))
        })
    }

    /// A channel's name.
    pub(super) fn name(&self, channel: ChannelId) -> &str {
        &self.channels[channel.0 as usize].name
    }

    /// Whether a stream is in the channel of this name.
    pub(super) fn is_in(&self, joined: &Joined, name: &str) -> bool {
        let channel = self.find(name);
        channel.is_some_and(|channel| self.of(joined).any(|it| it == channel))
    }

    /// The names of the channels that a stream is in, and the numbers behind which it began there.
    pub(super) fn names(&self, joined: &Joined) -> impl Iterator<Item = (Rc<str>, u64)> {
        self.slots_of(joined).map(|(slot, membership)| {
            let channel = &self.channels[membership.channel.0 as usize];
            let since = self.since.get(slot).copied().unwrap_or(0);
            (Rc::clone(&channel.name), since)
        })
    }

    /// Makes a stream a member that begins behind this number of the history, unless it is one.
    /// Gives the channel's name.
    pub(super) fn join(
        &mut self,
        joined: &mut Joined,
        stream: usize,
        name: &str,
        since: u64,
    ) -> Rc<str> {
        let channel = self.find(name).unwrap_or_else(|| self.found(name));
        let name = Rc::clone(&self.channels[channel.0 as usize].name);
        let mut own = self.slots_of(joined);
        if let Some((slot, _)) = own.find(|(_, it)| it.channel == channel) {
            drop(own);
            if let Some(noted) = self.since.get_mut(slot) {
                *noted = since.min(*noted);
            }
            return name;
        }
        drop(own);
        let members = &mut self.channels[channel.0 as usize].members;
        let membership = self.memberships.insert(Membership {
            stream: stream as u32,
            channel,
            position: members.len() as u32,
            next: joined.0,
        });
        members.push(membership as u32);
        joined.0 = membership as u32;
        if since > 0 && self.since.len() <= membership {
            self.since.resize(membership + 1, 0);
        }
        if let Some(noted) = self.since.get_mut(membership) {
            *noted = since;
        }
        name
    }

    /// Ends the membership in a channel, if there is one.
    pub(super) fn leave(&mut self, joined: &mut Joined, name: &str) {
        let Some(channel) = self.find(name) else {
            return;
        };
        let (mut before, mut at) = (NONE, joined.0);
        while let Some(membership) = self.memberships.get(at as usize) {
            let next = membership.next;
            if membership.channel == channel {
                match self.memberships.get_mut(before as usize) {
                    Some(before) => before.next = next,
                    None => joined.0 = next,
                }
                return self.end(at);
            }
            (before, at) = (at, next);
        }
    }

    /// Ends all memberships of a stream.
    pub(super) fn leave_all(&mut self, joined: &mut Joined) {
        let mut at = std::mem::take(joined).0;
        while let Some(membership) = self.memberships.get(at as usize) {
            let next = membership.next;
            self.end(at);
            at = next;
        }
    }

    /// Gives back the memory of those that are gone.
    pub(super) fn shrink_to_fit(&mut self) {
        self.names.shrink_to_fit();
        self.channels.shrink_to_fit();
        self.memberships.shrink_to_fit();
        self.since.truncate(self.memberships.capacity());
        self.since.shrink_to_fit();
    }

    /// How many channels there are.
    pub(super) fn len(&self) -> usize {
        self.channels.len()
    }

    /// The channel of this number, if there is one: its name, and how many are in it.
    pub(super) fn at(&self, number: usize) -> Option<(&str, usize)> {
        let channel = self.channels.get(number)?;
        Some((&channel.name, channel.members.len()))
    }

    /// Numbers of channels are lower.
    pub(super) fn capacity(&self) -> usize {
        self.channels.capacity()
    }

    /// How many memberships there are.
    pub(super) fn memberships(&self) -> usize {
        self.memberships.len()
    }

    /// Whether a stream stands where its membership in a channel says.
    pub(super) fn holds(&self, channel: ChannelId, stream: usize) -> bool {
        let channel = self.channels.get(channel.0 as usize);
        let members = channel.map(|channel| (0..).zip(&channel.members));
        members.into_iter().flatten().any(|(position, it)| {
            let membership = &self.memberships[*it as usize];
            membership.stream as usize == stream && membership.position == position
        })
    }

    fn found(&mut self, name: &str) -> ChannelId {
        let name: Rc<str> = Rc::from(name);
        let channel = self.channels.insert(Channel {
            name: Rc::clone(&name),
            members: Vec::new(),
        });
        self.names.insert(name, channel as u32);
        ChannelId(channel as u32)
    }

    fn end(&mut self, at: u32) {
        let Membership {
            channel, position, ..
        } = self.memberships.remove(at as usize);
        let ChannelId(number) = channel;
        let members = &mut self.channels[number as usize].members;
        members.swap_remove(position as usize);
        if let Some(moved) = members.get(position as usize) {
            self.memberships[*moved as usize].position = position;
        }
        if members.is_empty() {
            let channel = self.channels.remove(number as usize);
            self.names.remove(&channel.name);
        } else if members.capacity() > SHORT && members.len() < members.capacity() / 4 {
            members.shrink_to(members.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(channels: &Channels, joined: &Joined) -> Vec<String> {
        let mut names: Vec<_> = channels
            .of(joined)
            .map(|it| channels.name(it).to_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn joining_twice_is_joining_once_and_leaving_what_one_is_not_in_is_nothing() {
        let (mut channels, mut a) = (Channels::default(), Joined::default());
        for name in ["x", "y", "x"] {
            channels.join(&mut a, 7, name, 0);
        }
        assert_eq!(names(&channels, &a), ["x", "y"]);
        channels.leave(&mut a, "z");
        channels.leave(&mut a, "x");
        channels.leave(&mut a, "x");
        assert_eq!(names(&channels, &a), ["y"]);
        assert_eq!(channels.find("x"), None);
        channels.leave_all(&mut a);
        assert_eq!((channels.memberships(), channels.channels.len()), (0, 0));
    }

    #[test]
    fn whoever_stays_is_found_however_many_leave() {
        let mut channels = Channels::default();
        let mut streams: Vec<Joined> = (0..1000).map(|_| Joined::default()).collect();
        for (slot, joined) in streams.iter_mut().enumerate() {
            for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
                if slot % (number + 1) == 0 {
                    channels.join(joined, slot, name, 0);
                }
            }
        }
        for (slot, joined) in streams.iter_mut().enumerate() {
            match slot % 4 {
                0 => channels.leave(joined, "a"),
                1 => channels.leave_all(joined),
                _ => {}
            }
        }
        for (name, divisor) in [("a", 1), ("b", 2), ("c", 3)] {
            let channel = channels.find(name).expect("a channel");
            let members = channels.members(channel);
            let mut found: Vec<_> = (0..members)
                .map(|at| channels.member(channel, at).expect("a member") as usize)
                .collect();
            found.sort_unstable();
            let stays = |slot: &usize| {
                slot.is_multiple_of(divisor)
                    && match slot % 4 {
                        0 => name != "a",
                        rest => rest != 1,
                    }
            };
            let expected: Vec<usize> = (0..1000).filter(stays).collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_crowd_that_leaves_gives_its_memory_back() {
        let mut channels = Channels::default();
        let mut streams: Vec<Joined> = (0..10_000).map(|_| Joined::default()).collect();
        for (slot, joined) in streams.iter_mut().enumerate() {
            channels.join(joined, slot, "all", 0);
        }
        for joined in &mut streams[1..] {
            channels.leave_all(joined);
        }
        let channel = channels.find("all").expect("one is left");
        assert_eq!(channels.member(channel, 0), Some(0));
        assert!(channels.channels[0].members.capacity() <= SHORT);
        channels.leave_all(&mut streams[0]);
        channels.shrink_to_fit();
        assert_eq!(channels.memberships.capacity(), 0);
        assert_eq!(channels.names.capacity(), 0);
    }
}
