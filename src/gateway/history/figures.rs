//! What a history tells of itself, for operators.

use super::History;

impl History {
    /// The present milliseconds of the Unix clock.
    pub(in super::super) fn clock(&self) -> u64 {
        self.clock
    }

    /// Events that are kept.
    pub(in super::super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that they take.
    pub(in super::super) fn memory(&self) -> usize {
        self.memory
    }

    /// How many events of a channel are kept, and the bytes of those.
    pub(in super::super) fn kept_of(&self, name: &str) -> (usize, u64) {
        let channel = self.names.get(name).map(|id| &self.channels[*id as usize]);
        channel.map_or((0, 0), |channel| (channel.events.len(), channel.bytes))
    }

    /// The channel of this number, if something of it is kept.
    pub(in super::super) fn channel(&self, number: usize) -> Option<&str> {
        let channel = self.channels.get(number)?;
        (!channel.name.is_empty()).then_some(&*channel.name)
    }

    /// Numbers of channels are lower.
    pub(in super::super) fn channels(&self) -> usize {
        self.channels.capacity()
    }
}
