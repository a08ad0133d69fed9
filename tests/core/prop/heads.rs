//! Heads that are well-formed in every respect, beside what must be read out of them: a parser that
//! refuses too much hurts as one that trusts too much.

use std::mem::MaybeUninit;

use proptest::prelude::*;
use proptest::sample::select;
use ssegateway::http::head::{BodyFraming, HeadLimits, HeadScan, MAX_HEADERS, Version, parse};

/// A head's meaning, and what it is made of.
#[derive(Clone, Debug)]
pub(crate) struct WellFormed {
    method: String,
    target: String,
    path: String,
    version: Version,
    fields: Vec<Field>,
    framing: BodyFraming,
    is_kept: bool,
    is_expecting: bool,
    is_encoded: bool,
    /// Its characters beyond ASCII are one octet each, not UTF-8.
    is_latin1: bool,
}

/// Text on the wire.
pub(crate) fn octets(text: &str, is_latin1: bool) -> Vec<u8> {
    match is_latin1 {
        true => text.chars().map(|c| c as u8).collect(),
        false => text.as_bytes().to_vec(),
    }
}

/// Name, white space, value, white space.
type Field = (String, &'static str, String, &'static str);

fn origin() -> impl Strategy<Value = (String, String, String)> {
    let path = "/[a-zA-Z0-9._~!$&'()*+,;=:@%/\u{80}\u{e9}-]{0,20}";
    (method(), path, query())
        .prop_map(|(method, path, query)| (method, path.clone() + &query, path))
}

fn method() -> impl Strategy<Value = String> {
    let known = select(vec!["GET", "POST", "HEAD", "OPTIONS", "DELETE", "PUT"]);
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => "[a-z!#$%&'*+.^_`|~0-9-]{1,8}"]
}

fn query() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[?][a-z0-9=&/?%\u{ff}]{0,12}"]
}

fn absolute() -> impl Strategy<Value = (String, String, String)> {
    let scheme = select(vec!["http", "HTTPS", "hTtp"]);
    let path = prop_oneof![Just(String::new()), "/[a-z/]{0,8}"];
    (method(), scheme, host(), path, query()).prop_map(|(method, scheme, host, path, query)| {
        let read = if path.is_empty() { "/" } else { &path };
        (
            method,
            format!("{scheme}://{host}{path}{query}"),
            read.to_owned(),
        )
    })
}

/// Method, target and path, in the four forms of RFC 9112, section 3.2.
fn targeted() -> impl Strategy<Value = (String, String, String)> {
    let own =
        |method: &str, target: &str| (method.to_owned(), target.to_owned(), target.to_owned());
    prop_oneof![
        4 => origin(),
        2 => absolute(),
        1 => Just(own("OPTIONS", "*")),
        1 => host().prop_map(move |host| own("CONNECT", &host)),
    ]
}

fn host() -> impl Strategy<Value = String> {
    let names = vec![
        "h",
        "localhost:80",
        "a-b.example",
        "a%2Db.example",
        "127.0.0.1:65535",
        "[::1]",
        "[::1]:3",
    ];
    select(names).prop_map(str::to_owned)
}

fn space() -> impl Strategy<Value = &'static str> {
    select(vec!["", " ", "\t", "  \t"])
}

fn field(
    name: impl Strategy<Value = String>,
    value: impl Strategy<Value = String>,
) -> impl Strategy<Value = Field> {
    (name, space(), value, space())
}

/// One that means nothing to the gateway.
fn other() -> impl Strategy<Value = Field> {
    field(
        "X-[A-Za-z0-9_.~]{1,8}",
        "([!-~\u{e9}]([!-~\u{e9} \t]{0,20}[!-~\u{e9}])?)?",
    )
}

fn known(name: &'static str, value: impl Strategy<Value = String>) -> impl Strategy<Value = Field> {
    let lower = name.to_ascii_lowercase();
    field(select(vec![name.to_owned(), lower]), value)
}

/// At most one of these, present or not.
fn optional(name: &'static str, values: Vec<&'static str>) -> impl Strategy<Value = Vec<Field>> {
    let one = known(name, select(values).prop_map(str::to_owned));
    prop_oneof![2 => Just(Vec::new()), 1 => one.prop_map(|field| vec![field])]
}

/// The fields that frame a body, and what they say; chunked is for HTTP/1.1 alone.
fn framing() -> impl Strategy<Value = (Vec<Field>, BodyFraming)> {
    let length = (0u64..1 << 40, 1usize..3).prop_flat_map(|(length, times)| {
        let field = known("Content-Length", Just(length.to_string()));
        field.prop_map(move |field| (vec![field; times], BodyFraming::Length(length)))
    });
    let list = known("Content-Length", Just("7, 7".to_owned()));
    let coding = select(vec!["chunked", "Chunked", ", chunked"]).prop_map(str::to_owned);
    prop_oneof![
        Just((Vec::new(), BodyFraming::Length(0))),
        length,
        list.prop_map(|field| (vec![field], BodyFraming::Length(7))),
        known("Transfer-Encoding", coding).prop_map(|field| (vec![field], BodyFraming::Chunked)),
    ]
}

pub(crate) fn well_formed() -> impl Strategy<Value = WellFormed> {
    let meaning = (
        optional(
            "Connection",
            vec!["close", "x, Close", "keep-alive", "Keep-Alive, upgrade"],
        ),
        optional("Expect", vec!["100-continue", "100-Continue"]),
        optional("Content-Encoding", vec!["gzip", "identity"]),
    );
    let others = proptest::collection::vec(other(), 0..6);
    let host = known("Host", host()).prop_map(|field| vec![field]);
    let forms = (any::<bool>(), any::<bool>());
    (targeted(), forms, host, framing(), meaning, others).prop_flat_map(
        |((method, target, path), (is_old, is_latin1), host, framing, meaning, others)| {
            let is_new = !is_old || framing.1 == BodyFraming::Chunked;
            let (connection, expect, encoding) = meaning;
            let option = connection
                .first()
                .map_or("", |field| &field.2)
                .to_ascii_lowercase();
            let head = WellFormed {
                method,
                target,
                path,
                version: if is_new {
                    Version::Http11
                } else {
                    Version::Http10
                },
                fields: Vec::new(),
                framing: framing.1,
                is_kept: if is_new {
                    !option.contains("close")
                } else {
                    option.contains("keep")
                },
                is_expecting: is_new && !expect.is_empty(),
                is_encoded: !encoding.is_empty(),
                is_latin1,
            };
            let fields = [host, framing.0, connection, expect, encoding, others].concat();
            Just(fields)
                .prop_shuffle()
                .prop_map(move |fields| WellFormed {
                    fields,
                    ..head.clone()
                })
        },
    )
}

impl WellFormed {
    fn written(&self) -> Vec<u8> {
        let version = match self.version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        };
        let mut text = format!("{} {} {version}\r\n", self.method, self.target);
        for (name, before, value, behind) in &self.fields {
            text += &format!("{name}:{before}{value}{behind}\r\n");
        }
        self.octets(&(text + "\r\n"))
    }

    fn octets(&self, text: &str) -> Vec<u8> {
        octets(text, self.is_latin1)
    }

    /// It is read as it was meant, within limits that it just reaches, whatever comes behind it.
    pub(crate) fn check(&self) {
        let written = self.written();
        let limits = HeadLimits {
            bytes: written.len(),
            headers: self.fields.len(),
        };
        let bytes = [&written[..], b"GET"].concat();
        let found = HeadScan::default().find(&bytes, limits);
        assert_eq!(found, Ok(Some(written.len())));
        let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let head = parse(&written, limits, &mut room).expect("a well-formed head");
        assert_eq!(head.method, self.method);
        assert_eq!(head.target, self.octets(&self.target));
        assert_eq!(head.path, self.octets(&self.path));
        assert_eq!(head.version, self.version);
        let read = head.headers.iter().map(|h| (h.name, h.value));
        let read = read.map(|(name, value)| (name, value.to_vec()));
        let meant = self.fields.iter().map(|f| (&*f.0, self.octets(&f.2)));
        assert!(read.eq(meant), "{:?}", head.headers);
        assert_eq!(head.body, self.framing);
        let flags = [head.keep_alive, head.expects_continue, head.is_encoded];
        assert_eq!(flags, [self.is_kept, self.is_expecting, self.is_encoded]);
    }
}
