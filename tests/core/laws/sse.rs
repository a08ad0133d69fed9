//! Events: whatever name and data hold, a reader of the stream gets exactly this event between its
//! neighbours, and a chunk holds exactly this event.

use ssegateway::sse::{CHUNK_OVERHEAD, Framing, event_len, heartbeat, write_event};

use super::oracles::event_stream::{self, Dispatched};

/// The first byte is the name's length; the rest is name and data.
pub fn run(data: &[u8]) {
    let (length, rest) = data.split_first().unwrap_or((&0, &[]));
    let (name, data) = rest.split_at(rest.len().min(usize::from(*length)));
    let name = String::from_utf8_lossy(name).replace(['\r', '\n', '\0'], "");
    let data = String::from_utf8_lossy(data);
    let event = Dispatched {
        name: name.clone(),
        data: event_stream::as_read(&data),
        id: String::new(),
    };

    let mut stream = Vec::new();
    write_event(&mut stream, Framing::Plain, "before", "b");
    let start = stream.len();
    write_event(&mut stream, Framing::Plain, &name, &data);
    let plain = stream[start..].to_vec();
    assert_eq!(plain.len(), event_len(&name, &data));
    stream.extend_from_slice(heartbeat(Framing::Plain));
    write_event(&mut stream, Framing::Plain, "", "after");
    let stream = String::from_utf8(stream).expect("UTF-8");
    let neighbour = |name: &str, data: &str| Dispatched {
        name: name.to_owned(),
        data: data.to_owned(),
        id: String::new(),
    };
    let expected = [neighbour("before", "b"), event, neighbour("", "after")];
    assert_eq!(event_stream::read(&stream), expected);

    let mut chunk = Vec::new();
    write_event(&mut chunk, Framing::Chunked, &name, &data);
    let mut framed = format!("{:x}\r\n", plain.len()).into_bytes();
    framed.extend_from_slice(&plain);
    framed.extend_from_slice(b"\r\n");
    assert_eq!(chunk, framed);
    assert!(chunk.len() <= plain.len() + CHUNK_OVERHEAD);
}
