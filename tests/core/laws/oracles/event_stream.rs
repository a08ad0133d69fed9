//! A reader of event streams, made from the WHATWG text alone (HTML, "Parsing an event stream" and
//! "Interpreting an event stream"): whole text in, dispatched events out. Slow and plain.

/// What a browser would hand to its listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dispatched {
    /// The event's type, empty where the stream names none.
    pub(crate) name: String,
    pub(crate) data: String,
    /// The last event id as it stands then.
    pub(crate) id: String,
    /// How long to wait before coming again, in milliseconds, as it stands then; `None` for the
    /// browser's own choice.
    pub(crate) retry: Option<u64>,
}

/// Reads a stream from its first byte; what follows the last empty line is no event.
pub(crate) fn read(stream: &str) -> Vec<Dispatched> {
    let mut events = Vec::new();
    let (mut name, mut data, mut id) = (String::new(), String::new(), String::new());
    let mut retry = None;
    for line in lines(stream.strip_prefix('\u{feff}').unwrap_or(stream)) {
        if line.is_empty() {
            if !data.is_empty() {
                // Every data field ended in a line feed, the last of which is taken off.
                data.pop();
                let (name, data) = (name.clone(), data.clone());
                let id = id.clone();
                events.push(Dispatched {
                    name,
                    data,
                    id,
                    retry,
                });
            }
            name.clear();
            data.clear();
            continue;
        }
        let (field, value) = match line.find(':') {
            Some(0) => continue,
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, ""),
        };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => name = value.to_owned(),
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => id = value.to_owned(),
            "retry" if value.bytes().all(|b| b.is_ascii_digit()) => {
                retry = value.parse().ok().or(retry);
            }
            _ => {}
        }
    }
    events
}

/// The lines that are ended; one that the stream's end cuts short is none.
fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let bytes = text.as_bytes();
    let (mut from, mut at) = (0, 0);
    while at < bytes.len() {
        let width = match bytes[at] {
            b'\r' if bytes.get(at + 1) == Some(&b'\n') => 2,
            b'\r' | b'\n' => 1,
            _ => {
                at += 1;
                continue;
            }
        };
        lines.push(&text[from..at]);
        at += width;
        from = at;
    }
    lines
}

/// What a reader makes of data that was sent: every line end a line feed.
pub(crate) fn as_read(data: &str) -> String {
    data.replace("\r\n", "\n").replace('\r', "\n")
}
