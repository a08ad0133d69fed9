//! The page itself, and the reader that the other tests trust.

use crate::support::metrics::Metrics;
use crate::support::{Backend, Gateway, assert_error, assert_served};

#[test]
fn the_page_is_text_as_prometheus_reads_it() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.get("/internal/metrics");
        let response = client.read_response();
        assert_eq!(response.status(), 200, "{}", response.text());
        let field = response.head.value("content-type");
        assert_eq!(field, Some("text/plain; version=0.0.4; charset=utf-8"));
        let text = String::from_utf8(response.body).expect("UTF-8");
        let metrics = Metrics::parse(&text).expect(&text);
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(metrics.get(&format!("build_info version={version}")), 1.0);
        for family in &metrics.families {
            let help = &family.help;
            assert!(help.ends_with('.') && help.is_ascii(), "{help}");
        }
    }
    assert_served(&mut client);
}

/// A query, the other form of a target, pipelining, HTTP/1.0 and a body do not matter; a method does.
#[test]
fn whoever_asks_for_it_gets_it() {
    let backend = Backend::start();
    let gateway = Gateway::of(&backend);
    let mut client = gateway.connect();
    let requests = [
        "GET /internal/metrics?x=1 HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET http://h/internal/metrics HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /internal/metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab",
        "GET /internal/metrics HTTP/1.1\r\nHost: h\r\nAccept: application/openmetrics-text\r\n\r\n",
    ];
    client.send(requests.concat());
    for request in requests {
        let response = client.read_response();
        assert_eq!(response.status(), 200, "{request}: {}", response.text());
        let text = String::from_utf8(response.body).expect("UTF-8");
        Metrics::parse(&text).expect(&text);
    }
    client.send("POST /internal/metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    assert_error(&client.read_response(), 405, "METHOD_NOT_ALLOWED");
    client.send("GET /internal/metrics HTTP/1.0\r\n\r\n");
    assert_eq!(client.read_response().status(), 200);
    client.expect_eof();
    // A client that half-closes behind its request.
    let mut client = gateway.get("/internal/metrics");
    client.shutdown_write();
    assert_eq!(client.read_response().status(), 200);
    client.expect_eof();
}

// ---- the reader ----

const PAGE: &str = "\
# HELP ssegateway_a Some of it.
# TYPE ssegateway_a gauge
ssegateway_a 3
# HELP ssegateway_b_total What a \"quote\" needs.
# TYPE ssegateway_b_total counter
ssegateway_b_total{x=\"1 2\",y=\"a\\\"b\\\\c\\nd\"} 2
ssegateway_b_total{x=\"}\",y=\"\"} 0
# HELP ssegateway_c_seconds Times.
# TYPE ssegateway_c_seconds histogram
ssegateway_c_seconds_bucket{k=\"v\",le=\"0.5\"} 1
ssegateway_c_seconds_bucket{k=\"v\",le=\"10\"} 1
ssegateway_c_seconds_bucket{k=\"v\",le=\"+Inf\"} 2
ssegateway_c_seconds_sum{k=\"v\"} 10.25
ssegateway_c_seconds_count{k=\"v\"} 2
";

#[test]
fn a_page_is_read_with_its_labels_unescaped() {
    let metrics = Metrics::parse(PAGE).expect(PAGE);
    assert_eq!(metrics.get("a"), 3.0);
    assert_eq!(metrics.count("b_total x=1 2 y=a\"b\\c\nd"), 2);
    assert_eq!(metrics.count("b_total x=} y="), 0);
    assert_eq!(metrics.get("c_seconds_sum k=v"), 10.25);
    let buckets = metrics.buckets("c_seconds", " k=v");
    assert_eq!(buckets, [(0.5, 1.0), (10.0, 1.0), (f64::INFINITY, 2.0)]);
    let labels: Vec<_> = metrics
        .families
        .iter()
        .map(|it| it.labels.join(" "))
        .collect();
    assert_eq!(labels, ["", "x y", "k"]);
    let mut later = PAGE.replace("y=\"\"} 0", "y=\"\"} 5");
    later = later.replace("ssegateway_a 3", "ssegateway_a 1");
    let grown = Metrics::parse(&later).expect(&later).since(&metrics);
    assert_eq!(
        grown.into_iter().collect::<Vec<_>>(),
        [("b_total x=} y=".to_owned(), 5)]
    );
}

#[test]
fn what_the_format_does_not_allow_is_seen() {
    let table = [
        ("_count{k=\"v\"} 2\n", "_count{k=\"v\"} 2", "no end"),
        ("ssegateway_a 3\n", "", "without a sample"),
        (
            "ssegateway_a 3",
            "ssegateway_a 3\nssegateway_a 3",
            "a second sample",
        ),
        ("ssegateway_a 3", "ssegateway_a NaN", "not finite"),
        ("ssegateway_a 3", "ssegateway_a x", "not a number"),
        ("ssegateway_a 3", "ssegateway_a", "no value"),
        ("ssegateway_a 3", "ssegateway_a 3\n", "no value"),
        ("ssegateway_a 3", "gateway_a 3", "no prefix"),
        ("ssegateway_a 3", "ssegateway_A 3", "not a name"),
        ("ssegateway_a 3", "ssegateway_b 3", "another family"),
        ("ssegateway_a 3", "ssegateway_a_count 3", "not a part"),
        ("# HELP ssegateway_a", "# NOTE ssegateway_a", "neither help"),
        (
            "# HELP ssegateway_b_total",
            "# HELP ssegateway_a",
            "a second help",
        ),
        ("# TYPE ssegateway_a gauge\n", "", "a sample without a type"),
        (
            "# TYPE ssegateway_a",
            "# TYPE ssegateway_b",
            "a type that does not",
        ),
        (
            "# HELP ssegateway_a Some of it.",
            "# HELP ssegateway_a",
            "not a comment",
        ),
        (
            "ssegateway_a gauge",
            "ssegateway_a counter",
            "a is no counter",
        ),
        ("b_total counter", "b_total gauge", "b_total is no gauge"),
        ("d\"} 2", "d\"} -2", "b_total is no counter"),
        ("d\"} 2", "d\"} 2.5", "b_total is no counter"),
        ("x=\"}\",y=\"\"", "x=\"}\"", "other labels"),
        ("x=\"}\",y=\"\"", "y=\"}\",x=\"\"", "other labels"),
        ("x=\"}\",y=\"\"", "x=\"}\",x=\"\"", "not a new label"),
        ("\\nd\"", "\\td\"", "not an escape"),
        ("y=\"\"} 0", "y=\"\"; 0", "neither a comma"),
        (
            "le=\"+Inf\"} 2",
            "le=\"+Inf\"} 0",
            "c_seconds is no histogram",
        ),
        (
            "le=\"+Inf\"} 2",
            "le=\"+Inf\"} 3",
            "c_seconds is no histogram",
        ),
        (
            "le=\"+Inf\"} 2",
            "le=\"20\"} 2",
            "c_seconds is no histogram",
        ),
        (
            "le=\"0.5\"} 1",
            "le=\"0.5\"} 2",
            "c_seconds is no histogram",
        ),
        (
            "bucket{k=\"v\",le=\"10\"}",
            "bucket{k=\"v\"}",
            "a bucket without a bound",
        ),
    ];
    for (part, other, why) in table {
        assert!(PAGE.contains(part), "{part}");
        let page = PAGE.replacen(part, other, 1);
        let error = Metrics::parse(&page).expect_err(why);
        assert!(error.contains(why), "{error}, not {why}");
    }
}
