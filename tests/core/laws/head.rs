//! Request heads: one verdict for every cut, limits that hold, no way to smuggle, and an accepted
//! head that reads the same when it is written anew.

use std::mem::MaybeUninit;

use ssegateway::http::head::{
    BodyFraming, FramingError, Head, HeadLimits, HeadScan, MAX_HEADERS, Version, parse,
};

use super::cuts;

/// What a head says, free of the bytes that it was read from.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    length: usize,
    method: String,
    target: Vec<u8>,
    path: Vec<u8>,
    version: Version,
    headers: Vec<(String, Vec<u8>)>,
    body: BodyFraming,
    flags: [bool; 3],
}

impl Seen {
    fn of(head: &Head<'_, '_>, length: usize) -> Seen {
        let headers = head.headers.iter();
        Seen {
            length,
            method: head.method.to_owned(),
            target: head.target.to_vec(),
            path: head.path.to_vec(),
            version: head.version,
            headers: headers
                .map(|h| (h.name.to_owned(), h.value.to_vec()))
                .collect(),
            body: head.body,
            flags: [head.keep_alive, head.expects_continue, head.is_encoded],
        }
    }

    fn written(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(self.method.as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(&self.target);
        bytes.extend_from_slice(match self.version {
            Version::Http10 => b" HTTP/1.0\r\n",
            Version::Http11 => b" HTTP/1.1\r\n",
        });
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    fn values(&self, name: &str) -> Vec<&[u8]> {
        let named = |field: &&(String, Vec<u8>)| field.0.eq_ignore_ascii_case(name);
        self.headers
            .iter()
            .filter(named)
            .map(|field| &*field.1)
            .collect()
    }
}

/// The verdict on a head of which more and more arrives.
fn verdict<'a>(
    bytes: &'a [u8],
    pieces: impl Iterator<Item = &'a [u8]>,
    limits: HeadLimits,
) -> Result<Option<Seen>, FramingError> {
    let (mut scan, mut arrived) = (HeadScan::default(), 0);
    for piece in pieces {
        arrived += piece.len();
        if let Some(length) = scan.find(&bytes[..arrived], limits)? {
            let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
            let head = parse(&bytes[..length], limits, &mut room)?;
            return Ok(Some(Seen::of(&head, length)));
        }
    }
    Ok(None)
}

/// Checks what the steered rest of `data` comes to.
pub fn run(data: &[u8]) {
    let ([size, fields, seed], bytes) = cuts::steer::<3>(data);
    let limits = HeadLimits {
        bytes: 16 + usize::from(size) * 8,
        headers: usize::from(fields) % 20,
    };
    let whole = verdict(bytes, std::iter::once(bytes), limits);
    let single = verdict(bytes, bytes.chunks(1), limits);
    assert!(
        bytes.is_empty() || whole == single,
        "{whole:?} whole, {single:?} byte by byte"
    );
    let cut = verdict(bytes, cuts::pieces(bytes, seed).into_iter(), limits);
    assert!(
        bytes.is_empty() || whole == cut,
        "{whole:?} whole, {cut:?} in pieces"
    );
    match whole {
        Ok(Some(seen)) => check(&seen, bytes, limits),
        Ok(None) => assert!(bytes.len() < limits.bytes, "no verdict at the limit"),
        Err(_) => {}
    }
}

fn check(seen: &Seen, bytes: &[u8], limits: HeadLimits) {
    assert!(seen.length <= bytes.len() && seen.length <= limits.bytes);
    assert!(seen.headers.len() <= limits.headers);
    let head = &bytes[..seen.length];
    assert!(head.ends_with(b"\r\n\r\n") && !head.contains(&0));
    let feeds = head.iter().filter(|&&byte| byte == b'\n').count();
    let ends = head.windows(2).filter(|two| two == b"\r\n").count();
    let returns = head.iter().filter(|&&byte| byte == b'\r').count();
    assert!(feeds == ends && returns == ends, "a bare line end");
    check_framing(seen);
    let written = seen.written();
    let roomy = HeadLimits {
        bytes: written.len(),
        headers: limits.headers,
    };
    let again = verdict(&written, std::iter::once(&*written), roomy);
    let expected = Seen {
        length: written.len(),
        ..seen.clone()
    };
    assert_eq!(again, Ok(Some(expected)), "written anew");
}

fn check_framing(seen: &Seen) {
    let lengths = seen.values("content-length");
    let codings = seen.values("transfer-encoding");
    let hosts = seen.values("host").len();
    assert!(hosts <= 1 && (hosts == 1 || seen.version == Version::Http10));
    match seen.body {
        BodyFraming::Chunked => {
            assert!(lengths.is_empty() && seen.version == Version::Http11);
            let names = codings.join(&b","[..]).to_ascii_lowercase();
            let names = names.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
            let names: Vec<&[u8]> = names.filter(|name| !name.is_empty()).collect();
            assert_eq!(names, [b"chunked"]);
        }
        BodyFraming::Length(length) => {
            assert!(codings.is_empty());
            for item in lengths
                .iter()
                .flat_map(|value| value.split(|&byte| byte == b','))
            {
                let digits = std::str::from_utf8(item.trim_ascii()).expect("digits");
                assert!(digits.bytes().all(|byte| byte.is_ascii_digit()));
                let number = digits.parse().unwrap_or(u64::MAX);
                assert_eq!(number, length);
            }
            assert!(!lengths.is_empty() || length == 0);
        }
    }
}
