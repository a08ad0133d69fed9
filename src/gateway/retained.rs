//! The current values of channels (contract, section 12): what every stream gets that joins.

use std::collections::HashMap;
use std::rc::Rc;

use slab::Slab;

use super::frame::Frame;

/// Bytes that a value takes beside its event and its channel's name.
const ENTRY: usize = 64;

/// Values by the names of their channels, which need not have members.
#[derive(Debug, Default)]
pub(super) struct Retained {
    names: HashMap<Rc<str>, u32>,
    values: Slab<Value>,
    memory: usize,
    /// The number of the last one.
    last: u64,
}

/// What a channel's stream gets that joins.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// Later ones have larger numbers.
    pub(super) number: u64,
    pub(super) frame: Rc<Frame>,
}

impl Retained {
    /// A channel's value.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        // The common case costs no hashing.
        if self.values.is_empty() {
            return None;
        }
        let id = self.names.get(name)?;
        self.values.get(*id as usize)
    }

    /// Bytes that all of them take.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// Whether this may become the value of all these channels, when there may be so many bytes.
    pub(super) fn fits<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        value: &Frame,
        max: usize,
    ) -> bool {
        let mut memory = self.memory;
        for name in names {
            memory += cost(name, value);
            memory -= self.get(name).map_or(0, |old| cost(name, &old.frame));
        }
        memory <= max
    }

    /// Makes it the channel's value.
    pub(super) fn set(&mut self, name: &str, frame: Rc<Frame>) {
        self.clear(name);
        self.memory += cost(name, &frame);
        self.last += 1;
        let number = self.last;
        let id = self.values.insert(Value { number, frame });
        self.names.insert(name.into(), id as u32);
    }

    /// The channel has no value any more.
    pub(super) fn clear(&mut self, name: &str) {
        if let Some(id) = self.names.remove(name) {
            let old = self.values.remove(id as usize);
            self.memory -= cost(name, &old.frame);
        }
    }
}

fn cost(name: &str, value: &Frame) -> usize {
    name.len() + value.memory() + ENTRY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_goes_makes_room() {
        let mut values = Retained::default();
        let value = |length| Frame::raw(&vec![b'x'; length]);
        values.set("a", value(1000));
        values.set("b", value(2000));
        let max = values.memory;
        assert!(!values.fits(["c"].into_iter(), &value(0), max));
        assert!(values.fits(["b"].into_iter(), &value(2000), max));
        assert!(!values.fits(["b"].into_iter(), &value(2001), max));
        assert!(values.fits(["a", "b"].into_iter(), &value(1500), max));
        assert!(!values.fits(["a", "b"].into_iter(), &value(1501), max));
        values.set("b", value(1000));
        values.clear("a");
        values.clear("a");
        assert!(values.fits(["c"].into_iter(), &value(2000), max));
        values.clear("b");
        assert_eq!(values.memory, 0);
        assert!(values.get("b").is_none());
    }
}
