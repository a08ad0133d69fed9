//! The header store: what both callbacks tell of the requests of all streams (contract, sections 2
//! and 6).
//!
//! Clients of one application send much the same header fields, so each field is kept once, however
//! many requests have it: what a stream costs is what sets it apart. Texts lie in chains of small
//! units in one piece of memory, which for a crowd is so large that the C library maps it on its
//! own. When the crowd has left it is given back as a whole, whatever others have allocated
//! meanwhile; among millions of small allocations a single one that stays would keep the rest.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::mem;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;

/// Bytes of text in one unit.
const PAYLOAD: usize = 28;

/// Units up to which the memory grows to its double.
const FEW: usize = 32 * 1024;

/// Bytes of an allocation that glibc never takes from its heap, whatever it has learnt about sizes
/// (mallopt(3), M_MMAP_THRESHOLD). Untouched memory of it costs nothing.
const MAPPED: usize = 33 * 1024 * 1024;

/// The end of a chain.
const END: u32 = u32::MAX;

/// Bytes that a text costs beside its units: its entry, and a place in the index.
const TEXT: usize = mem::size_of::<Text>() + 24;

/// The store; clones are the same one.
#[derive(Clone)]
pub struct HeaderStore(Arc<Mutex<Store>>);

/// A request that is kept until its last clone is dropped, which costs next to nothing:
/// `{"url":…,"headers":{…}}` (contract, section 2, step 3).
pub struct Request {
    store: HeaderStore,
    id: u32,
}

impl HeaderStore {
    /// An empty store that takes no more than `max` bytes of memory.
    pub fn new(max: usize) -> HeaderStore {
        HeaderStore(Arc::new(Mutex::new(Store {
            max,
            units: Vec::new(),
            free: END,
            used: 0,
            texts: Slab::new(),
            index: HashMap::new(),
            request: Vec::new(),
            field: Vec::new(),
        })))
    }

    /// Keeps a request: its URL as a JSON string and, behind it, each header field as a JSON
    /// member. `ends` says where in `parts` each of them ends. `None` when there is no room.
    pub fn keep(&self, parts: &[u8], ends: &[usize]) -> Option<Request> {
        let id = self.lock().keep(parts, ends)?;
        let store = self.clone();
        Some(Request { store, id })
    }

    /// Bytes of memory in use.
    pub fn memory(&self) -> usize {
        self.lock().memory()
    }

    /// Gives back the memory of those who are gone, if it is most of it.
    pub fn shrink_to_fit(&self) {
        self.lock().shrink_to_fit();
    }

    /// A panic in a holder cannot leave the store half changed: no code of others runs under it.
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    /// The JSON object.
    pub fn json(&self) -> Vec<u8> {
        let mut json = Vec::new();
        self.write(&mut json);
        json
    }

    /// Appends the JSON object.
    pub fn write(&self, json: &mut Vec<u8>) {
        self.write_and_find(json, []);
    }

    /// Appends the JSON object, and tells where in `json` the values of these header fields stand, each a
    /// JSON string; an empty range for what the request has not.
    pub fn write_and_find<const N: usize>(
        &self,
        json: &mut Vec<u8>,
        names: [&str; N],
    ) -> [Range<usize>; N] {
        let mut found = [const { 0..0 }; N];
        self.store.lock().write(self.id, json, &names, &mut found);
        found
    }

    /// The request target, its bytes as received.
    pub fn url(&self) -> Vec<u8> {
        let mut store = self.store.lock();
        let (request, fields) = store.request(self.id);
        let text: String = serde_json::from_slice(&request[..fields]).unwrap_or_default();
        store.request = request;
        text.chars().map(|c| c as u8).collect()
    }

    /// Appends the request target as a JSON string, its bytes read as Latin-1.
    pub fn write_url(&self, json: &mut String) {
        let mut store = self.store.lock();
        let (request, fields) = store.request(self.id);
        json.push_str(str::from_utf8(&request[..fields]).unwrap_or("\"\""));
        store.request = request;
    }

    /// The value of the header field of this lower-cased name, bytes above 0x7F read as Latin-1
    /// (contract, section 2, step 3); `None` when the request had none.
    pub fn field(&self, name: &str) -> Option<String> {
        self.store.lock().value(self.id, name)
    }
}

impl Clone for Request {
    fn clone(&self) -> Request {
        self.store.lock().texts[self.id as usize].holders += 1;
        let (store, id) = (self.store.clone(), self.id);
        Request { store, id }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.store.lock().drop_request(self.id);
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({})", self.id)
    }
}

impl fmt::Debug for HeaderStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderStore")
    }
}

struct Store {
    max: usize,
    units: Vec<Unit>,
    /// The first unit that nobody uses.
    free: u32,
    /// Units in use.
    used: usize,
    /// Requests and fields. A request is its URL's length, its URL, and the numbers of its fields.
    texts: Slab<Text>,
    /// Fields by a hash of their bytes. Of two with the same hash one is not shared.
    index: HashMap<u32, u32>,
    /// Room for a request's text, and for a field's.
    request: Vec<u8>,
    field: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Unit {
    bytes: [u8; PAYLOAD],
    next: u32,
}

#[derive(Clone, Copy)]
struct Text {
    holders: u32,
    first: u32,
    length: u32,
}

/// Bytes of a number in a request's text.
const NUMBER: usize = mem::size_of::<u32>();

impl Store {
    fn memory(&self) -> usize {
        self.used * mem::size_of::<Unit>() + self.texts.len() * TEXT
    }

    fn keep(&mut self, parts: &[u8], ends: &[usize]) -> Option<u32> {
        let mut request = mem::take(&mut self.request);
        request.clear();
        let mut start = *ends.first()?;
        request.extend_from_slice(&(start as u32).to_le_bytes());
        request.extend_from_slice(&parts[..start]);
        let fields = request.len();
        let mut id = None;
        for end in &ends[1..] {
            id = self.share(&parts[start..*end]);
            let Some(id) = id else {
                break;
            };
            request.extend_from_slice(&id.to_le_bytes());
            start = *end;
        }
        if ends.len() == 1 || id.is_some() {
            id = self.add(&request);
        }
        if id.is_none() {
            self.drop_fields(&request[fields..]);
        }
        self.request = request;
        id
    }

    /// The number of a field, as all who have it share it.
    fn share(&mut self, field: &[u8]) -> Option<u32> {
        let hash = self.hash(field);
        let known = self.index.get(&hash).copied();
        if let Some(id) = known
            && self.is(id, field)
        {
            self.texts[id as usize].holders += 1;
            return Some(id);
        }
        let id = self.add(field)?;
        if known.is_none() {
            self.index.insert(hash, id);
        }
        Some(id)
    }

    fn hash(&self, field: &[u8]) -> u32 {
        self.index.hasher().hash_one(field) as u32
    }

    fn is(&self, id: u32, field: &[u8]) -> bool {
        let text = self.texts[id as usize];
        let mut at = text.first;
        text.length as usize == field.len()
            && field.chunks(PAYLOAD).all(|piece| {
                let unit = &self.units[at as usize];
                at = unit.next;
                unit.bytes[..piece.len()] == *piece
            })
    }

    /// Adds a text, if there is room for it.
    fn add(&mut self, bytes: &[u8]) -> Option<u32> {
        let more = bytes.len().div_ceil(PAYLOAD) * mem::size_of::<Unit>() + TEXT;
        if self.memory() + more > self.max {
            return None;
        }
        let mut first = END;
        for piece in bytes.chunks(PAYLOAD).rev() {
            let Some(at) = self.take() else {
                self.give(first);
                return None;
            };
            let unit = &mut self.units[at as usize];
            unit.bytes[..piece.len()].copy_from_slice(piece);
            unit.next = mem::replace(&mut first, at);
        }
        let text = Text {
            holders: 1,
            first,
            length: bytes.len() as u32,
        };
        Some(self.texts.insert(text) as u32)
    }

    /// A unit that nobody uses; `None` when the system has no memory for one.
    fn take(&mut self) -> Option<u32> {
        let at = self.free;
        if let Some(unit) = self.units.get(at as usize) {
            self.free = unit.next;
            self.used += 1;
            return Some(at);
        }
        let length = self.units.len();
        if length == self.units.capacity() {
            let mapped = MAPPED / mem::size_of::<Unit>();
            let more = match length {
                0..FEW => length.max(64),
                _ if length < mapped => mapped - length,
                _ => length / 2,
            };
            let units = &mut self.units;
            // Where address space is short, little by little.
            units
                .try_reserve_exact(more)
                .or_else(|_| units.try_reserve(1))
                .ok()?;
        }
        self.units.push(Unit {
            bytes: [0; PAYLOAD],
            next: END,
        });
        self.used += 1;
        u32::try_from(length).ok()
    }

    /// Takes back a chain of units.
    fn give(&mut self, first: u32) {
        let mut at = first;
        while let Some(unit) = self.units.get_mut(at as usize) {
            let next = mem::replace(&mut unit.next, self.free);
            self.free = mem::replace(&mut at, next);
            self.used -= 1;
        }
    }

    /// Appends a text's bytes.
    fn read(&self, id: u32, into: &mut Vec<u8>) {
        let text = self.texts[id as usize];
        let (mut at, mut left) = (text.first, text.length as usize);
        while let Some(unit) = self.units.get(at as usize) {
            let length = left.min(PAYLOAD);
            into.extend_from_slice(&unit.bytes[..length]);
            left -= length;
            at = unit.next;
        }
    }

    /// A request's URL, the numbers of its fields behind it, and where these begin. The buffer is
    /// to be put back.
    fn request(&mut self, id: u32) -> (Vec<u8>, usize) {
        let mut request = mem::take(&mut self.request);
        request.clear();
        self.read(id, &mut request);
        let url = request.first_chunk().copied().unwrap_or_default();
        request.drain(..NUMBER);
        (request, u32::from_le_bytes(url) as usize)
    }

    fn write(&mut self, id: u32, json: &mut Vec<u8>, names: &[&str], found: &mut [Range<usize>]) {
        let (request, fields) = self.request(id);
        json.extend_from_slice(b"{\"url\":");
        json.extend_from_slice(&request[..fields]);
        json.extend_from_slice(b",\"headers\":{");
        for (at, field) in numbers(&request[fields..]).enumerate() {
            if at > 0 {
                json.push(b',');
            }
            let start = json.len();
            self.read(field, json);
            for (name, found) in names.iter().zip(&mut *found) {
                if let Some(value) = value(&json[start..], name) {
                    *found = json.len() - value.len()..json.len();
                }
            }
        }
        json.extend_from_slice(b"}}");
        self.request = request;
    }

    /// The value of a request's field.
    fn value(&mut self, id: u32, name: &str) -> Option<String> {
        let (request, fields) = self.request(id);
        let mut field = mem::take(&mut self.field);
        let value = numbers(&request[fields..]).find_map(|id| {
            field.clear();
            self.read(id, &mut field);
            serde_json::from_slice(self::value(&field, name)?).ok()
        });
        (self.request, self.field) = (request, field);
        value
    }

    /// Forgets one holder of a text; whether it was the last.
    fn release(&mut self, id: u32) -> bool {
        let text = &mut self.texts[id as usize];
        text.holders -= 1;
        text.holders == 0
    }

    fn drop_request(&mut self, id: u32) {
        if !self.release(id) {
            return;
        }
        let (request, fields) = self.request(id);
        self.drop_fields(&request[fields..]);
        self.request = request;
        self.remove(id);
    }

    fn drop_fields(&mut self, fields: &[u8]) {
        for id in numbers(fields) {
            if !self.release(id) {
                continue;
            }
            let mut field = mem::take(&mut self.field);
            field.clear();
            self.read(id, &mut field);
            let hash = self.hash(&field);
            self.field = field;
            if self.index.get(&hash) == Some(&id) {
                self.index.remove(&hash);
            }
            self.remove(id);
        }
    }

    fn remove(&mut self, id: u32) {
        let text = self.texts.remove(id as usize);
        self.give(text.first);
    }

    /// Moves those who stay into memory of their size.
    fn shrink_to_fit(&mut self) {
        if self.used > self.units.len() / 2 {
            return;
        }
        let mut units = Vec::with_capacity(self.used);
        for (_, text) in &mut self.texts {
            let mut at = mem::replace(&mut text.first, END);
            if at != END {
                text.first = units.len() as u32;
            }
            while let Some(unit) = self.units.get(at as usize) {
                at = unit.next;
                let next = if at == END {
                    END
                } else {
                    units.len() as u32 + 1
                };
                units.push(Unit { next, ..*unit });
            }
        }
        (self.units, self.free) = (units, END);
        self.texts.shrink_to_fit();
        self.index.shrink_to_fit();
        (self.request, self.field) = (Vec::new(), Vec::new());
    }
}

/// The value of a field, if it has this name: no escape can be in that, which is an HTTP token.
fn value<'f>(field: &'f [u8], name: &str) -> Option<&'f [u8]> {
    let behind = field.strip_prefix(b"\"")?.strip_prefix(name.as_bytes())?;
    behind.strip_prefix(b"\":")
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let (numbers, _) = bytes.as_chunks::<NUMBER>();
    numbers.iter().map(|number| u32::from_le_bytes(*number))
}

#[cfg(test)]
mod tests;
