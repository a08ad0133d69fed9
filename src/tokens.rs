//! Streams by token (contract, section 4).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use uuid::Uuid;

/// A map from the tokens that this process made. Tokens are random, so their own bits are the hash;
/// nobody outside chooses a key that is stored.
#[derive(Debug)]
pub struct TokenIndex<V>(HashMap<[u8; 16], V, BuildHasherDefault<RandomBits>>);

impl<V> Default for TokenIndex<V> {
    fn default() -> Self {
        TokenIndex(HashMap::default())
    }
}

impl<V: Copy> TokenIndex<V> {
    /// Remembers a token.
    pub fn insert(&mut self, token: Uuid, value: V) {
        self.0.insert(token.into_bytes(), value);
    }

    /// What a token stands for.
    pub fn get(&self, token: Uuid) -> Option<V> {
        self.0.get(token.as_bytes()).copied()
    }

    /// Forgets a token.
    pub fn remove(&mut self, token: Uuid) {
        self.0.remove(token.as_bytes());
    }

    /// Gives back the memory of those that are forgotten.
    pub fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }

    /// Tokens that are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Lays the halves of a token over each other: version and variant, six bits that are the same in
/// every token (RFC 9562, section 5.4), stand at different places there, so that every bit of the
/// hash is random, whichever of them the table takes.
#[derive(Debug, Default)]
struct RandomBits(u64);

impl Hasher for RandomBits {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            self.0 = u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last);
        }
    }

    /// The length of the array, which says nothing.
    fn write_usize(&mut self, _: usize) {}
}

/// The token that these random bytes make: a version 4 UUID.
pub fn from_random(bytes: [u8; 16]) -> Uuid {
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// Reads a token: only the 36 characters that are issued name one (contract, section 4).
///
/// Of the forms that the parser knows, the hyphenated one alone has this length.
pub fn parse(text: &str) -> Option<Uuid> {
    let is_upper = |byte: &u8| byte.is_ascii_uppercase();
    if text.len() != uuid::fmt::Hyphenated::LENGTH || text.as_bytes().iter().any(is_upper) {
        return None;
    }
    Uuid::try_parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_issued_form_names_a_token() {
        let token = Uuid::new_v4();
        assert_eq!(parse(&token.to_string()), Some(token));
        let table = [
            token.simple().to_string(),
            token.braced().to_string(),
            token.urn().to_string(),
            token.to_string().to_uppercase(),
            format!("{token} "),
            String::new(),
            "x".repeat(36),
        ];
        for text in table {
            // A token of digits alone reads the same in upper case.
            if text != token.to_string() {
                assert_eq!(parse(&text), None, "{text}");
            }
        }
    }

    #[test]
    fn every_bit_of_the_hash_is_random() {
        const TOKENS: u32 = 4096;
        let mut ones = [0; 64];
        for _ in 0..TOKENS {
            let mut hasher = RandomBits::default();
            std::hash::Hash::hash(Uuid::new_v4().as_bytes(), &mut hasher);
            let hash = hasher.finish();
            for (bit, ones) in ones.iter_mut().enumerate() {
                *ones += (hash >> bit & 1) as u32;
            }
        }
        // Ten standard deviations of a fair coin.
        let (half, most) = (TOKENS / 2, 10 * TOKENS.isqrt() / 2);
        for (bit, ones) in ones.into_iter().enumerate() {
            assert!(ones.abs_diff(half) < most, "bit {bit}: {ones} of {TOKENS}");
        }
    }

    #[test]
    fn tokens_are_found_and_forgotten() {
        let mut index = TokenIndex::default();
        let tokens: Vec<Uuid> = (0..5000).map(|_| Uuid::new_v4()).collect();
        for (at, token) in tokens.iter().enumerate() {
            index.insert(*token, at);
        }
        for (at, token) in tokens.iter().enumerate() {
            assert_eq!(index.get(*token), Some(at));
        }
        for token in &tokens {
            index.remove(*token);
            assert_eq!(index.get(*token), None);
        }
        assert_eq!(index.len(), 0);
        index.shrink_to_fit();
        assert_eq!(index.0.capacity(), 0);
    }
}
