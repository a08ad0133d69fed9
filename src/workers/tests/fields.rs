//! What callbacks bear beside their body.

use super::backend::*;
use crate::callback::{Job, MAX_FIELD};

/// The values of a field in a request, in their order.
fn values<'r>(request: &'r str, name: &str) -> Vec<&'r str> {
    let (head, _) = request.split_once("\r\n\r\n").expect("a head");
    let fields = head.split("\r\n").skip(1);
    let fields = fields.map(|field| field.split_once(": ").expect("a field"));
    fields
        .filter(|(of, _)| *of == name)
        .map(|(_, value)| value)
        .collect()
}

fn with_fields(mut job: Job, fields: &[(&str, &str)]) -> Job {
    job.request = request_with("/", fields);
    job
}

/// Over the backend's next connection, which ends then.
fn request(rig: &Rig, backend: &Backend, job: Job) -> Vec<u8> {
    rig.submit(job);
    let mut peer = backend.accept();
    let request = peer.request_bytes();
    drop(peer);
    rig.result();
    request
}

#[test]
fn both_kinds_tell_of_the_gateway() {
    let backend = Backend::new();
    let mut settings = settings(backend.address());
    settings.gateway_url = Some("http://10.0.0.7:3001".to_owned());
    settings.authorization = Some("Basic a2V5".to_owned());
    let rig = Rig::new(settings);
    for job in [connect(1), disconnect(2)] {
        let request = request(&rig, &backend, job);
        let request = String::from_utf8(request).expect("text");
        assert_eq!(values(&request, "x-gateway-boot"), [BOOT.to_string()]);
        assert_eq!(values(&request, "x-gateway-url"), ["http://10.0.0.7:3001"]);
        assert_eq!(values(&request, "authorization"), ["Basic a2V5"]);
    }
}

#[test]
fn the_setting_wins_over_the_url() {
    let backend = Backend::new();
    for (authorization, expected) in [(None, "Basic dTpw"), (Some("Bearer k"), "Bearer k")] {
        let mut settings = settings(backend.address());
        settings.url = format!("http://u:p@{}/", backend.address())
            .parse()
            .expect("a URL");
        settings.authorization = authorization.map(str::to_owned);
        let request = request(&Rig::new(settings), &backend, connect(1));
        let request = String::from_utf8(request).expect("text");
        assert_eq!(values(&request, "authorization"), [expected]);
    }
}

#[test]
fn a_new_authorization_is_for_calls_that_begin() {
    let backend = Backend::new();
    let mut settings = settings(backend.address());
    settings.authorization = Some("old".to_owned());
    let rig = Rig::new(settings);
    rig.submit(connect(1));
    let mut peer = backend.accept();
    assert_eq!(values(&peer.request(), "authorization"), ["old"]);
    // This one is queued behind the first, whose connection it uses.
    rig.submit(connect(2));
    rig.workers.set_authorization("new");
    peer.send(OK);
    assert_eq!(status(&rig.result().outcome), 200);
    assert_eq!(values(&peer.request(), "authorization"), ["new"]);
    // And it is sent again with what holds then.
    rig.workers.set_authorization("newest");
    drop(peer);
    let mut peer = backend.accept();
    assert_eq!(values(&peer.request(), "authorization"), ["newest"]);
    peer.send(OK);
    assert_eq!(status(&rig.result().outcome), 200);
}

#[test]
fn what_traces_a_request_is_repeated() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let fields = [
        ("host", "h"),
        ("traceparent", trace),
        ("x-request-id", "a \"b\\ \tc"),
        ("tracestate", "a=1, b=2"),
        ("traceparent-2", "x"),
        ("x-gateway-boot", "forged"),
        ("authorization", "forged"),
    ];
    for job in [connect(1), disconnect(2)] {
        let request = request(&rig, &backend, with_fields(job, &fields));
        let request = String::from_utf8(request).expect("text");
        assert_eq!(values(&request, "traceparent"), [trace]);
        assert_eq!(values(&request, "x-request-id"), ["a \"b\\ \tc"]);
        assert_eq!(values(&request, "tracestate"), ["a=1, b=2"]);
        // No other is, nor does it take another's place.
        assert_eq!(values(&request, "traceparent-2"), [""; 0]);
        assert_eq!(values(&request, "x-gateway-boot"), [BOOT.to_string()]);
        assert_eq!(values(&request, "authorization"), [""; 0]);
        assert!(request.contains(r#""x-request-id":"a \"b\\ \tc","tracestate":"#));
    }
    // Each is repeated by itself, and by its own request alone.
    let request = request(&rig, &backend, with_fields(connect(3), &fields[3..4]));
    let request = String::from_utf8(request).expect("text");
    assert_eq!(values(&request, "tracestate"), ["a=1, b=2"]);
    assert_eq!(values(&request, "traceparent"), [""; 0]);
}

#[test]
fn its_bytes_are_those_that_came() {
    let backend = Backend::new();
    let rig = Rig::new(settings(backend.address()));
    let fields = [("x-request-id", "\u{e9}\u{c3}\u{a9}\u{ff}")];
    let request = request(&rig, &backend, with_fields(connect(1), &fields));
    let field = b"\r\nx-request-id: \xe9\xc3\xa9\xff\r\n";
    assert!(request.windows(field.len()).any(|bytes| bytes == field));
}

#[test]
fn what_cannot_be_a_field_is_left_out() {
    let backend = Backend::new();
    let mut settings = settings(backend.address());
    settings.gateway_url = Some(format!("http://{}/", "g".repeat(MAX_FIELD - 8)));
    settings.authorization = Some("k".repeat(MAX_FIELD));
    let rig = Rig::new(settings);
    let (most, more) = ("x".repeat(MAX_FIELD), "x".repeat(MAX_FIELD + 1));
    for (id, (value, is_repeated)) in [
        ("", true),
        (&*most, true),
        (&more, false),
        ("a\r\nx-forged: b", false),
        ("a\0", false),
        ("\u{7f}", false),
    ]
    .into_iter()
    .enumerate()
    {
        // Each of them, so that they are the largest fields together, and the last as well.
        let fields = ["tracestate", "traceparent", "x-request-id"].map(|name| (name, value));
        let job = with_fields(connect(id as u64), &fields);
        let request = request(&rig, &backend, job);
        let request = String::from_utf8(request).expect("text");
        for (name, value) in fields {
            let expected = [value];
            let expected = if is_repeated { &expected[..] } else { &[] };
            assert_eq!(values(&request, name), expected, "{id}");
        }
        assert_eq!(values(&request, "x-forged"), [""; 0]);
        assert_eq!(values(&request, "authorization")[0].len(), MAX_FIELD);
    }
}
