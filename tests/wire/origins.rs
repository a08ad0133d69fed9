//! Contract, section 13: pages of other origins, to the byte.

use crate::support::{Backend, Gateway, assert_error, assert_served};

const PAGE: &str = "https://app.example";

fn listing(backend: &Backend) -> Gateway {
    let builder = Gateway::builder().backend(backend);
    let origins = format!("https://other.example:8443, {PAGE}");
    builder.env("CORS_ORIGINS", &origins).start()
}

fn asks(method: &str, fields: &str) -> String {
    format!("{method} /events HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

const LISTED: &str = "Vary: Origin\r\nAccess-Control-Allow-Credentials: true\r\n\
                      Access-Control-Allow-Origin: https://app.example\r\n";

#[test]
fn a_stream_says_which_page_may_read_it() {
    let backend = Backend::accepting();
    let listing = listing(&backend);
    let builder = Gateway::builder().backend(&backend);
    let open = builder.env("CORS_ORIGINS", "*").start();
    let closed = Gateway::of(&backend);
    let (ours, foreign) = (PAGE, "https://evil.example");
    let table = [
        (&listing, ours, LISTED),
        (&listing, foreign, "Vary: Origin\r\n"),
        (&open, foreign, "Access-Control-Allow-Origin: *\r\n"),
        (&closed, ours, ""),
    ];
    for (gateway, origin, said) in table {
        let mut client = gateway.connect();
        client.send(asks("GET", &format!("Origin: {origin}\r\n")));
        let head = client.read_head();
        let expected = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\
             Connection: keep-alive\r\nX-Accel-Buffering: no\r\nDate: DATE\r\n\
             Transfer-Encoding: chunked\r\n{said}\r\n"
        );
        assert_eq!(head.undated(), expected, "{origin}");
    }
}

#[test]
fn a_refusal_can_be_read_like_the_stream() {
    let backend = Backend::with(|callback| callback.answer(403, ""));
    let gateway = listing(&backend);
    let mut client = gateway.connect();
    client.send(asks("GET", &format!("Origin: {PAGE}\r\n")));
    let response = client.read_response();
    assert_error(&response, 403, "BACKEND_FORBIDDEN");
    let length = response.body.len();
    let expected = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Access-Control-Expose-Headers: Retry-After\r\nDate: DATE\r\n{LISTED}\r\n"
    );
    assert_eq!(response.head.undated(), expected);
    assert_served(&mut client);
}

#[test]
fn a_browser_is_told_before_what_its_page_may_do() {
    let backend = Backend::start();
    let gateway = listing(&backend);
    let question = "Access-Control-Request-Method: GET\r\n\
                    Access-Control-Request-Headers: authorization,x-tab\r\n";
    let may = "Access-Control-Allow-Methods: GET\r\nAccess-Control-Max-Age: 7200\r\n\
               Access-Control-Allow-Headers: authorization,x-tab\r\n";
    let table = [
        (PAGE, may, LISTED),
        ("https://evil.example", "", "Vary: Origin\r\n"),
    ];
    let mut client = gateway.connect();
    for (origin, may, said) in table {
        client.send(asks("OPTIONS", &format!("Origin: {origin}\r\n{question}")));
        let expected = format!(
            "HTTP/1.1 204 No Content\r\nDate: DATE\r\n\
             Vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n{may}{said}\r\n"
        );
        assert_eq!(client.read_head().undated(), expected, "{origin}");
        // Its end is the head's.
        assert_served(&mut client);
    }
    client.send(asks("OPTIONS", question));
    assert_error(&client.read_response(), 405, "METHOD_NOT_ALLOWED");
    assert_served(&mut client);
    backend.assert_idle();
}
