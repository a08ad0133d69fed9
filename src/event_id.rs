//! The ids that the gateway gives to events (contract, section 12).

use std::fmt;

/// An event's place in the history: `<milliseconds of the Unix clock>-<number>`. Each is greater
/// than those before it (contract, section 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// Milliseconds of the Unix clock when it was given, as far as it went forward.
    pub millis: u64,
    /// Tells apart what one millisecond brought.
    pub number: u64,
}

/// Bytes of the longest id.
const MOST_BYTES: usize = 20 + 1 + 20;

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl EventId {
    /// As it is written. Each event gets one: the library's formatting would cost more than keeping
    /// the event does.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(MOST_BYTES);
        push_decimal(&mut text, self.millis);
        text.push('-');
        push_decimal(&mut text, self.number);
        text
    }

    /// The id that is written like this, letter for letter; `None` for everything else, so that two
    /// texts are never one id.
    pub fn parse(text: &str) -> Option<EventId> {
        let (millis, number) = text.split_once('-')?;
        Some(EventId {
            millis: decimal(millis)?,
            number: decimal(number)?,
        })
    }
}

fn push_decimal(text: &mut String, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while number > 0 || start == digits.len() {
        start -= 1;
        digits[start] += (number % 10) as u8;
        number /= 10;
    }
    text.push_str(std::str::from_utf8(&digits[start..]).unwrap_or_default());
}

fn decimal(text: &str) -> Option<u64> {
    // The library's reading takes a sign and leading zeros.
    let is_canonical = match text.as_bytes() {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_canonical {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = u64::MAX;

    #[test]
    fn ids_come_back_from_their_text() {
        for (text, millis, number) in [
            ("0-0", 0, 0),
            ("0-1", 0, 1),
            ("1-0", 1, 0),
            ("10-20", 10, 20),
            ("1795000000123-7", 1_795_000_000_123, 7),
            ("18446744073709551615-18446744073709551615", MOST, MOST),
        ] {
            let id = EventId { millis, number };
            assert_eq!(EventId::parse(text), Some(id), "{text}");
            assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_id() {
        for text in [
            "",
            "-",
            "0",
            "5-",
            "-5",
            "5--5",
            "5-5-5",
            "5-5-",
            "-5-5",
            "+5-5",
            "5-+5",
            "05-5",
            "5-05",
            "00-0",
            "0-00",
            " 5-5",
            "5-5 ",
            "5 -5",
            "5-5\n",
            "5_0-5",
            "0x5-5",
            "5.0-5",
            "5-5e0",
            "٥-٥",
            "5–5",
            "18446744073709551616-0",
            "0-18446744073709551616",
            "99999999999999999999999-0",
            "earliest",
            "*",
            "$",
        ] {
            assert_eq!(EventId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn ids_are_in_the_order_in_which_they_are_given() {
        let texts = ["0-0", "0-1", "0-10", "1-0", "9-9", "10-0", "10-2", "10-11"];
        let ids: Vec<_> = texts.into_iter().filter_map(EventId::parse).collect();
        assert_eq!(ids.len(), texts.len());
        assert!(ids.is_sorted_by(|before, after| before < after), "{ids:?}");
    }
}
