//! Events: whatever their fields hold, a reader of the stream gets exactly this event between its
//! neighbours, a chunk holds exactly this event, and an envelope says the same of it.

use serde::de::IgnoredAny;
use serde_json::{Value, json};
use ssegateway::sse::{CHUNK_OVERHEAD, Fields, Format, Framing, event_len, heartbeat, write_event};
use ssegateway::wire::Event;

use super::oracles::event_stream::{self, Dispatched};

/// The first three bytes are the lengths of name and id, without which there is none, and a number
/// for `retry`, 0 for none; the rest is name, id and data.
pub fn run(data: &[u8]) {
    let mut steer = [0; 3];
    let (steering, rest) = data.split_at(data.len().min(3));
    steer[..steering.len()].copy_from_slice(steering);
    let [name_length, id_length, retry] = steer;
    let (name, rest) = rest.split_at(rest.len().min(usize::from(name_length)));
    let (id, data) = rest.split_at(rest.len().min(usize::from(id_length)));
    let name = String::from_utf8_lossy(name).replace(['\r', '\n', '\0'], "");
    let id: String = id.iter().map(|byte| visible(*byte)).collect();
    let event = Event {
        name: name.into(),
        data: String::from_utf8_lossy(data),
        id: (!id.is_empty()).then(|| id.into()),
        // Every count of digits, evenly.
        retry: (retry > 0).then(|| u32::from(retry - 1).pow(4)),
        key: None,
        retain: false,
    };
    let read = between_neighbours(&Format::Plain.fields(&event));
    let plain = Dispatched {
        name: event.name.to_string(),
        data: event_stream::as_read(&event.data),
        id: event.id.as_deref().unwrap_or_default().to_owned(),
        retry: event.retry.map(u64::from),
    };
    assert_eq!(read, plain);
    let read = between_neighbours(&Format::Envelope.fields(&event));
    check_envelope(&event, &plain, &read);
}

/// One of the bytes that an id may hold.
fn visible(byte: u8) -> char {
    char::from(b'!' + byte % 94)
}

/// Writes the event between two others; what a reader makes of it.
fn between_neighbours(fields: &Fields<'_>) -> Dispatched {
    let neighbour = |name: &str, data: &str| Event {
        name: name.to_owned().into(),
        data: data.to_owned().into(),
        ..Event::default()
    };
    let (before, after) = (neighbour("before", "b"), neighbour("", "after"));
    let mut stream = Vec::new();
    write_event(&mut stream, Framing::Plain, &Format::Plain.fields(&before));
    let start = stream.len();
    write_event(&mut stream, Framing::Plain, fields);
    let plain = stream[start..].to_vec();
    assert_eq!(plain.len(), event_len(fields));
    stream.extend_from_slice(heartbeat(Framing::Plain));
    write_event(&mut stream, Framing::Plain, &Format::Plain.fields(&after));
    let stream = String::from_utf8(stream).expect("UTF-8");
    let [first, event, last]: [Dispatched; 3] = event_stream::read(&stream)
        .try_into()
        .expect("three events");
    assert_eq!((&*first.name, &*first.data), ("before", "b"));
    assert_eq!((&*first.id, first.retry), ("", None));
    assert_eq!((&*last.name, &*last.data), ("", "after"));
    assert_eq!((&last.id, last.retry), (&event.id, event.retry));

    let mut chunk = Vec::new();
    write_event(&mut chunk, Framing::Chunked, fields);
    let mut framed = format!("{:x}\r\n", plain.len()).into_bytes();
    framed.extend_from_slice(&plain);
    framed.extend_from_slice(b"\r\n");
    assert_eq!(chunk, framed);
    assert!(chunk.len() <= plain.len() + CHUNK_OVERHEAD);
    event
}

/// An event with a name goes out without it, name and data in its data; any other as ever.
fn check_envelope(event: &Event<'_>, plain: &Dispatched, read: &Dispatched) {
    if matches!(&*event.name, "" | "connection_close") {
        assert_eq!(read, plain);
        return;
    }
    assert_eq!(
        (&*read.name, &read.id, read.retry),
        ("", &plain.id, plain.retry)
    );
    let of = |text: &str| serde_json::from_str::<Value>(text);
    match (of(&event.data), of(&read.data)) {
        (data, Ok(envelope)) => {
            let payload = data.unwrap_or_else(|_| json!(event.data));
            assert_eq!(envelope, json!({ "type": event.name, "payload": payload }));
        }
        // JSON that the library can read but not keep: a huge number, too many brackets.
        (_, Err(_)) => {
            let is_json = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
            assert!(is_json(&event.data) && is_json(&read.data));
            assert!(read.data.ends_with(&format!("{}}}", plain.data)));
        }
    }
}
