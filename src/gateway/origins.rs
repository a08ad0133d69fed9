//! Pages of other origins: whose page asks for a stream, and what it is told before it does (contract,
//! section 13; WHATWG Fetch, "CORS protocol").

use super::Settings;
use crate::config::Origins;
use crate::http::body::is_token;
use crate::http::head::Head;
use crate::http::reply::Cors;

/// What a browser is told before it asks for a stream: it may rely on that for as long as Chromium
/// relies on anything, in seconds, and a cache keeps such answers apart by what was asked.
const PREFLIGHT: &str = "Access-Control-Allow-Methods: GET\r\n\
                         Access-Control-Max-Age: 7200\r\n";
const PREFLIGHT_VARY: &str =
    "Vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n";

/// Most bytes of the list of header fields that a page wants to send.
const MAX_LIST_BYTES: usize = 1024;

/// Whose page asks, as far as it matters to who may read the answer: that of the origin at this place
/// of the list, or none of them. What the answer is to say is found by this later, when the head is
/// gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page(u16);

impl Page {
    /// It does not matter: no stream is asked for, or there is no CORS.
    pub(super) const SILENT: Page = Page(u16::MAX);
    /// That of an origin that is not listed, or nobody's.
    const UNLISTED: Page = Page(u16::MAX - 1);
    /// Anybody's: all may read.
    const ANY: Page = Page(u16::MAX - 2);

    /// Whose page has sent this head, which asks for a stream or whether one may be asked for.
    pub(super) fn of(head: &Head<'_, '_>, settings: &Settings) -> Page {
        let listed = match &settings.cors {
            None => return Page::SILENT,
            Some(Origins::Any) => return Page::ANY,
            Some(Origins::Listed(listed)) => listed,
        };
        let Some(origin) = head.only(b"origin") else {
            return Page::UNLISTED;
        };
        // As it stands, for a browser compares octets as well.
        let place = listed.iter().position(|it| it.as_bytes() == origin);
        place
            .and_then(|place| u16::try_from(place).ok())
            .filter(|place| *place < Page::ANY.0)
            .map_or(Page::UNLISTED, Page)
    }

    /// What an answer to it says.
    pub(super) fn cors(self, settings: &Settings) -> Cors<'_> {
        match (self, &settings.cors) {
            (Page::SILENT, _) | (_, None) => Cors::Silent,
            (Page::ANY, _) => Cors::Any,
            (Page(place), Some(Origins::Listed(listed))) => listed
                .get(usize::from(place))
                .map_or(Cors::Unlisted, |origin| Cors::Listed(origin)),
            _ => Cors::Unlisted,
        }
    }
}

/// Whether a browser asks, before its page does, whether it may ask for a stream (Fetch, "CORS
/// preflight").
pub(super) fn is_preflight(head: &Head<'_, '_>, settings: &Settings) -> bool {
    settings.cors.is_some()
        && head.only(b"origin").is_some()
        && head.only(b"access-control-request-method").is_some()
}

/// The fields that tell it, beside those of every answer.
pub(super) fn permits(head: &Head<'_, '_>, settings: &Settings) -> String {
    let mut fields = PREFLIGHT_VARY.to_owned();
    if Page::of(head, settings).cors(settings).is_allowed() {
        fields.push_str(PREFLIGHT);
        let wanted = head.only(b"access-control-request-headers");
        if let Some(wanted) = wanted.and_then(list_of_names) {
            fields.push_str("Access-Control-Allow-Headers: ");
            fields.push_str(wanted);
            fields.push_str("\r\n");
        }
    }
    fields
}

/// A list of names of fields, if it is one and not too long.
fn list_of_names(value: &[u8]) -> Option<&str> {
    let is_name = |name: &[u8]| !name.is_empty() && name.iter().all(|byte| is_token(*byte));
    let is_list = value
        .split(|&byte| byte == b',')
        .all(|name| is_name(name.trim_ascii()));
    let value = std::str::from_utf8(value).ok()?;
    (is_list && value.len() <= MAX_LIST_BYTES).then_some(value)
}
