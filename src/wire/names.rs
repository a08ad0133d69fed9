//! Lists of tokens and of channels' names: each name once, in the order given, within bounds.

use std::borrow::Cow;

/// Most names that a list may hold, repeated ones counted once (contract, section 11). A body may
/// list millions: what is beyond this is not kept.
pub(super) const MOST_NAMES: usize = 1000;

/// What a list of strings holds.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    list: Vec<Cow<'a, str>>,
    /// The places of what `list` holds, in the order of the names.
    sorted: Vec<u16>,
    is_too_long: bool,
}

impl<'a> Names<'a> {
    /// One more name; nothing new when it is there already.
    pub(super) fn take(&mut self, name: Cow<'a, str>) {
        if self.is_too_long {
            return;
        }
        let list = &self.list;
        let found = self
            .sorted
            .binary_search_by(|place| list[usize::from(*place)].cmp(&name));
        let Err(at) = found else {
            return;
        };
        if self.list.len() == MOST_NAMES {
            *self = Names {
                is_too_long: true,
                ..Names::default()
            };
            return;
        }
        self.sorted.insert(at, self.list.len() as u16);
        self.list.push(name);
    }

    /// The names, unless there are more than `most`, which is no more than [`MOST_NAMES`].
    pub(super) fn at_most(self, most: usize) -> Option<Vec<Cow<'a, str>>> {
        let fits = !self.is_too_long && self.list.len() <= most;
        fits.then_some(self.list)
    }
}

/// Whether a channel may have this name (contract, section 11).
pub(super) fn is_channel(name: &str) -> bool {
    is_word(name) && !name.bytes().any(|byte| matches!(byte, b'"' | b'\\'))
}

/// Whether this is what ids, keys and names of channels consist of.
pub(super) fn is_word(text: &str) -> bool {
    (1..=200).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, 0x21..=0x7e))
}
