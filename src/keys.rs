//! The keys that open `/internal/` (contract, section 13).

use std::fmt;
use std::hint::black_box;

/// Most keys at once: one, and the one that replaces it.
const MOST: usize = 2;

/// What a request has to bear. Never shown: its debug form holds nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys(Vec<Box<[u8]>>);

impl Keys {
    /// Reads one key, or two that are separated by a comma; spaces and line ends around them count
    /// for nothing.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(text: &str) -> Result<Keys, &'static str> {
        let keys: Vec<Box<[u8]>> = text
            .split(',')
            .map(|key| key.trim_ascii().as_bytes().into())
            .collect();
        let is_key = |key: &[u8]| !key.is_empty() && key.iter().all(u8::is_ascii_graphic);
        if keys.len() > MOST || !keys.iter().all(|key| is_key(key)) {
            return Err("a key of printable ASCII without spaces, or two, separated by a comma");
        }
        Ok(Keys(keys))
    }

    /// Whether the value of an `Authorization` field bears one of the keys (RFC 6750, section 2.1). It
    /// takes the same time wherever a key that is wrong differs, and whichever of two is right.
    pub fn admit(&self, authorization: &[u8]) -> bool {
        const SCHEME: &[u8] = b"Bearer ";
        let Some((scheme, key)) = authorization.split_at_checked(SCHEME.len()) else {
            return false;
        };
        let key = key.trim_ascii();
        let is_any = self
            .0
            .iter()
            .fold(false, |is_any, own| is_any | is_same(own, key));
        is_any && scheme.eq_ignore_ascii_case(SCHEME)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

/// Looks at every byte of `own`, whatever `other` holds.
fn is_same(own: &[u8], other: &[u8]) -> bool {
    let mut difference = u8::from(own.len() != other.len());
    for (at, byte) in own.iter().enumerate() {
        difference |= byte ^ other.get(at).copied().unwrap_or(0);
        // What is known already shall not end it.
        difference = black_box(difference);
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keys_are() {
        for good in ["a", "k3y+/=~", "a,b", " a , b\n", "secret\n"] {
            assert!(Keys::parse(good).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            ",",
            "a,",
            ",a",
            "a,b,c",
            "a b",
            "\u{e9}",
            "a\tb",
            "a\u{fffd}",
        ] {
            assert!(Keys::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn who_is_admitted() {
        let keys = Keys::parse("first,second").unwrap();
        for good in [
            "Bearer first",
            "bearer second",
            "BEARER first ",
            "Bearer  second",
        ] {
            assert!(keys.admit(good.as_bytes()), "{good:?}");
        }
        let bad = [
            "",
            "Bearer",
            "Bearer ",
            "first",
            "Basic first",
            "Bearer firs",
            "Bearer firsT",
            "Bearer first,second",
            "Bearer firstsecond",
            "Bearerfirst",
            "Bearer first\0",
        ];
        for bad in bad {
            assert!(!keys.admit(bad.as_bytes()), "{bad:?}");
        }
        assert_eq!(format!("{keys:?}"), "Keys");
    }
}
