//! The fields of callbacks (contract, section 13).

use serde_json::Value;

use crate::support::{Backend, Callback, Client, Gateway, Port};

/// The values of a field, in their order.
fn values<'c>(callback: &'c Callback, name: &str) -> Vec<&'c str> {
    let fields = callback.head.lines().skip(1);
    let fields = fields.filter_map(|line| line.split_once(": "));
    fields
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

/// A stream from its opening to its end; both of its callbacks.
fn life(gateway: &Gateway, backend: &Backend, fields: &[u8]) -> [Callback; 2] {
    let mut client = gateway.connect();
    client.send([b"GET /s HTTP/1.1\r\nHost: h\r\n", fields, b"\r\n"].concat());
    let connect = backend.next_connect();
    connect.answer(200, "");
    assert_eq!(client.read_head().status, 200);
    drop(client);
    let disconnect = backend.next_disconnect_of(&connect.token());
    disconnect.answer(200, "");
    [connect, disconnect]
}

/// A version 4 UUID in its usual form.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            14 => byte == b'4',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

#[test]
fn the_boot_is_one_for_each_start() {
    let backend = Backend::start();
    let boots = [(); 2].map(|()| {
        let gateway = Gateway::of(&backend);
        let lives = [(); 2].map(|()| life(&gateway, &backend, b"X-Gateway-Boot: forged\r\n"));
        let boots: Vec<&str> = lives
            .iter()
            .flatten()
            .flat_map(|callback| values(callback, "X-Gateway-Boot"))
            .collect();
        assert!(is_uuid(boots[0]), "{boots:?}");
        assert_eq!(boots, [boots[0]; 4]);
        for callback in lives.iter().flatten() {
            assert_eq!(values(callback, "X-Gateway-Url"), [""; 0]);
            assert_eq!(values(callback, "Authorization"), [""; 0]);
        }
        boots[0].to_owned()
    });
    assert_ne!(boots[0], boots[1]);
}

/// Whoever asks the gateway itself is told the same.
#[test]
fn the_boot_is_that_of_the_internal_listener() {
    let backend = Backend::start();
    let listen = Port::reserve_local();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("INTERNAL_LISTEN", &format!("127.0.0.1:{}", listen.number()))
        .start();
    let [connect, _] = life(&gateway, &backend, b"");
    let mut client = Client::connect(listen.number());
    client.get("/readyz");
    let ready: Value = serde_json::from_slice(&client.read_response().body).expect("JSON");
    assert_eq!(
        values(&connect, "X-Gateway-Boot"),
        [ready["boot"].as_str().expect("text")]
    );
}

#[test]
fn the_url_and_the_authorization_are_those_of_the_settings() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("GATEWAY_URL", "http://10.0.0.7:3001/a?b")
        .env("CALLBACK_AUTHORIZATION", "Bearer first")
        .start();
    for callback in life(&gateway, &backend, b"Authorization: Bearer client\r\n") {
        assert_eq!(
            values(&callback, "X-Gateway-Url"),
            ["http://10.0.0.7:3001/a?b"]
        );
        assert_eq!(values(&callback, "Authorization"), ["Bearer first"]);
        // What the client said stands where it always does.
        let headers = &callback.json["request"]["headers"];
        assert_eq!(headers["authorization"], "Bearer client");
    }
}

#[test]
fn what_traces_a_request_is_repeated_byte_by_byte() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let fields = format!(
        "TraceParent: {trace}\r\ntracestate: a=1\r\nX-Request-ID:  \"q\"\\ 1 \r\nTRACESTATE: b=2\r\n"
    );
    for callback in life(&gateway, &backend, fields.as_bytes()) {
        assert_eq!(values(&callback, "traceparent"), [trace]);
        assert_eq!(values(&callback, "tracestate"), ["a=1, b=2"]);
        assert_eq!(values(&callback, "x-request-id"), ["\"q\"\\ 1"]);
    }
    for callback in life(&gateway, &backend, b"X-Request-ID: caf\xc3\xa9\r\n") {
        assert_eq!(values(&callback, "x-request-id"), ["caf\u{e9}"]);
        assert_eq!(values(&callback, "traceparent"), [""; 0]);
        let headers = &callback.json["request"]["headers"];
        assert_eq!(headers["x-request-id"], "caf\u{c3}\u{a9}");
    }
}

/// A client cannot keep its own disconnect from the backend.
#[test]
fn what_is_too_long_to_be_repeated_is_left_out() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let fields = format!(
        "x-request-id: {}\r\ntracestate: a=1\r\n",
        "x".repeat(20_000)
    );
    for callback in life(&gateway, &backend, fields.as_bytes()) {
        assert_eq!(values(&callback, "x-request-id"), [""; 0]);
        assert_eq!(values(&callback, "tracestate"), ["a=1"]);
        let headers = &callback.json["request"]["headers"];
        assert_eq!(headers["x-request-id"].as_str().map(str::len), Some(20_000));
    }
}
