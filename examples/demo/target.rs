//! Request targets: what a stream is for, what a query says, and the names of channels.

/// Longest ID of a client, a task or a room, in bytes.
const MAX_ID: usize = 100;

/// Whose stream is asked for.
#[derive(Debug, PartialEq)]
pub(crate) enum Stream {
    Client(String),
    Task(String),
}

impl Stream {
    /// From the target of the client's request; else the status to refuse it with. Every GET that
    /// the gateway gets comes here, whatever its path.
    pub(crate) fn parse(target: &str) -> Result<Stream, u16> {
        if path(target) != "/events" {
            return Err(404);
        }
        match (parameter(target, "client"), parameter(target, "task")) {
            (Some(client), None) if is_id(&client) => Ok(Stream::Client(client)),
            (None, Some(task)) if is_id(&task) => Ok(Stream::Task(task)),
            _ => Err(400),
        }
    }

    /// The application's name for the stream.
    pub(crate) fn identifier(&self) -> String {
        match self {
            Stream::Client(id) => client(id),
            Stream::Task(id) => task(id),
        }
    }
}

/// The identifier of a client's stream, and the channel that it is in.
pub(crate) fn client(id: &str) -> String {
    format!("client:{id}")
}

/// The channel of those who look at a task.
pub(crate) fn task(id: &str) -> String {
    format!("task:{id}")
}

/// The channel of those who are in a room.
pub(crate) fn room(id: &str) -> String {
    format!("room:{id}")
}

/// IDs become parts of channels' names, for which the gateway takes printable ASCII.
pub(crate) fn is_id(id: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(is_part)
}

pub(crate) fn path(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// The first value of a query's parameter; an empty one if it cannot be decoded.
pub(crate) fn parameter(target: &str, name: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then(|| decode(&value.replace('+', " ")).unwrap_or_default())
    })
}

/// Undoes percent-encoding; `None` if it is none, or not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        // A sign is a part of a number, but not a hexadecimal digit.
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_for_one_client_or_one_task() {
        let table = [
            ("/events?client=a", Ok("client:a")),
            ("/events?x=1&task=t%2D1&y", Ok("task:t-1")),
            ("/events?client=a+b", Err(400)),
            ("/events?client=%C3%A4", Err(400)),
            ("/events", Err(400)),
            ("/events?clients=a", Err(400)),
            ("/events?client=", Err(400)),
            ("/events?client=%ff", Err(400)),
            ("/events?client=%+1", Err(400)),
            ("/events?client=%4", Err(400)),
            ("/events?client=a&task=b", Err(400)),
            ("/favicon.ico?client=a", Err(404)),
        ];
        for (target, expected) in table {
            let stream = Stream::parse(target).map(|stream| stream.identifier());
            assert_eq!(stream, expected.map(str::to_owned), "{target}");
        }
        let long = "a".repeat(MAX_ID);
        assert!(Stream::parse(&format!("/events?client={long}")).is_ok());
        assert_eq!(Stream::parse(&format!("/events?client={long}a")), Err(400));
    }
}
