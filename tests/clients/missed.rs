//! What comes to clients that come again (contract, section 12): each event once and in order, or a
//! gap, over a wire that dies in the middle of an event.
//!
//! A client comes back with the last id that it was given. So it is known for each of them what moves
//! that id, and what does not although it should.

use std::ops::RangeInclusive;

use serde_json::{Value, json};

use crate::program::Program;
use crate::stage::{begin, lively, url};
use crate::support::{Backend, Callback, Client, Gateway, OK, assert_ok, post_send};
use crate::wire::{End, Wire};
use crate::{browser, readme, tools};

const EVENTS: usize = 1000;

const NAMES: [&str; 2] = ["gap", "end"];

/// What a connect is answered: an event with the position of its callback, which also tells how soon
/// to come back. By itself a client does so after seconds.
fn answer(callback: &Callback) {
    let position = callback.json["position"].as_str().unwrap_or("none");
    let event = json!({"name": "position", "data": position, "retry": 20});
    let answer = json!({"event": event, "channels": ["news"]});
    callback.answer(200, &answer.to_string());
}

/// Starts a client of the stream behind this port.
type Start = fn(u16) -> Program;

fn chromium(port: u16) -> Program {
    let mut command = tools::node("tests/clients/programs/page.js");
    let orders = json!({"url": url(port, "/events"), "names": NAMES});
    begin(command.env("CHROMIUM", browser::chromium()), &orders)
}

fn node(port: u16) -> Program {
    let mut command = tools::node("tests/clients/programs/eventsource.js");
    let orders = json!({"url": url(port, "/events"), "names": NAMES});
    begin(&mut command, &orders)
}

/// With the README's code around it.
fn careful_node(port: u16) -> Program {
    let mut command = tools::node("tests/clients/programs/eventsource.js");
    let code = readme::block("js node");
    let orders = json!({"url": url(port, "/events"), "names": NAMES, "code": code});
    begin(&mut command, &orders)
}

fn httpx(port: u16) -> Program {
    let mut command = tools::python("tests/clients/programs/returning.py");
    let orders = json!({"url": url(port, "/events"), "code": readme::block("python")});
    begin(&mut command, &orders)
}

/// A gateway that keeps so many bytes of events.
fn remembering(backend: &Backend, bytes: &str) -> Gateway {
    let builder = Gateway::builder().backend(backend);
    // One worker each: connects come in the order of their streams.
    let builder = builder.one_worker_each();
    builder.env("HISTORY_BYTES", bytes).start()
}

/// The stream's next connect. A browser may ask for other things as well.
fn next_connect(backend: &Backend) -> Callback {
    backend.next_connect_of("/events")
}

/// The id that the client came with.
fn last_event_id(callback: &Callback) -> Value {
    callback.json["request"]["headers"]["last-event-id"].clone()
}

/// Numbers the events of the channel, one behind the other, on one connection.
struct Publisher {
    client: Client,
    /// The event's ids, from number 1 on.
    ids: Vec<String>,
}

impl Publisher {
    fn to(gateway: &Gateway) -> Publisher {
        Publisher {
            client: gateway.connect(),
            ids: Vec::new(),
        }
    }

    /// Gives the event's id.
    #[track_caller]
    fn publish(&mut self, event: &Value) -> String {
        let command = json!({"channel": "news", "event": event});
        self.client.post(command.to_string().as_bytes());
        let response = self.client.read_response();
        let answer: Value = serde_json::from_slice(&response.body).expect("JSON");
        let id = answer["id"].as_str().map(str::to_owned);
        id.unwrap_or_else(|| panic!("no id: {}", response.text()))
    }

    /// Publishes the numbers up to this one, which goes with something behind them that is as long as
    /// this.
    #[track_caller]
    fn go_on_to(&mut self, last: usize, padding: usize) {
        while self.ids.len() < last {
            let data = format!("{}{}", self.ids.len() + 1, " ".repeat(padding));
            let id = self.publish(&json!({"data": data}));
            self.ids.push(id);
        }
    }
}

/// What a client tells, in its order.
struct Reports<'p> {
    program: &'p Program,
    /// The id of the last event that had one: what is to come with the next connect.
    last: Value,
    /// What it was at each opening of the stream.
    at_opening: Vec<Value>,
}

impl Reports<'_> {
    fn of(program: &Program) -> Reports<'_> {
        Reports {
            program,
            last: Value::Null,
            at_opening: Vec::new(),
        }
    }

    #[track_caller]
    fn wait_open(&mut self) {
        let report = self.program.report();
        assert!(report.get("open").is_some(), "{report}");
        self.at_opening.push(self.last.clone());
    }

    /// The next event of the channel, or a gap: name and data. Whatever tells of connections that
    /// come and go is passed over.
    #[track_caller]
    fn next(&mut self) -> (String, String) {
        loop {
            let report = self.program.report();
            if report.get("open").is_some() {
                self.at_opening.push(self.last.clone());
            }
            let text = |key: &str| Some(report.get(key)?.as_str()?.to_owned());
            let Some(name) = text("event").filter(|name| name != "position") else {
                continue;
            };
            if name != "gap" {
                self.last = report["id"].clone();
            }
            return (name, text("data").expect("data"));
        }
    }

    #[track_caller]
    fn expect(&mut self, name: &str, data: &str) {
        assert_eq!(self.next(), (name.to_owned(), data.to_owned()));
    }
}

/// Numbers in whose events the wire dies, how, and up to which others are published meanwhile. It dies
/// in live events and in those that come again; each time once more behind the first event of the next
/// stream, which has no id and must not take away the one that the client has.
const DEATHS: [(usize, End, usize); 6] = [
    (100, End::Fin, 180),
    (150, End::Reset, 260),
    (250, End::Fin, 250),
    (400, End::Reset, 650),
    (800, End::Fin, 801),
    (1000, End::Reset, 1000),
];

fn each_comes_once(start: Start) {
    let backend = answering();
    let gateway = remembering(&backend, "10000000");
    let wire = Wire::to(gateway.port());
    let mut program = start(wire.port());
    let mut reports = Reports::of(&program);
    let mut publisher = Publisher::to(&gateway);
    reports.wait_open();
    for (number, end, meanwhile) in DEATHS {
        // Behind it stands the end of its line.
        wire.die_behind(&format!("data: {number}"), end);
        wire.mend();
        publisher.go_on_to(number, 0);
        wire.wait_dead();
        publisher.go_on_to(meanwhile, 0);
        let position = &publisher.ids[publisher.ids.len() - 1];
        let first = format!("retry: 20\ndata: {position}\n\n\r\n");
        wire.die_behind(&first, end);
        wire.mend();
        wire.wait_dead();
    }
    wire.mend();
    publisher.publish(&json!({"name": "end", "data": "x"}));
    for number in 1..=EVENTS {
        reports.expect("message", &number.to_string());
        assert_eq!(reports.last, publisher.ids[number - 1]);
    }
    reports.expect("end", "x");

    let ids = reports.at_opening;
    assert_eq!(ids.len(), 1 + 2 * DEATHS.len());
    for id in ids {
        assert_eq!(last_event_id(&next_connect(&backend)), id);
    }
    close(&mut program);
}

/// Answers by itself what asks for the stream; nothing else is there.
fn answering() -> Backend {
    Backend::with(|callback| match (callback.is_connect(), callback.url()) {
        (true, "/events") => answer(callback),
        (true, _) => callback.answer(404, ""),
        (false, _) => callback.answer(200, ""),
    })
}

fn what_is_forgotten_is_a_gap(start: Start) {
    let backend = answering();
    let gateway = remembering(&backend, "20000");
    let wire = Wire::to(gateway.port());
    let mut program = start(wire.port());
    let mut reports = Reports::of(&program);
    let mut publisher = Publisher::to(&gateway);
    reports.wait_open();
    wire.die_behind("data: 6", End::Reset);
    publisher.go_on_to(6, 0);
    wire.wait_dead();
    publisher.go_on_to(500, 500);
    wire.wait_turned_away();
    for number in 1..=5 {
        reports.expect("message", &number.to_string());
    }
    wire.mend();
    let asked = json!({"last_event_id": publisher.ids[4]});
    reports.expect("gap", &asked.to_string());
    publisher.publish(&json!({"data": "behind the gap"}));
    reports.expect("message", "behind the gap");

    assert_eq!(last_event_id(&next_connect(&backend)), Value::Null);
    let back = last_event_id(&next_connect(&backend));
    assert_eq!(back, publisher.ids[4]);
    close(&mut program);
}

/// A client that was given the position alone, which it begins at, is cut off and comes back.
/// Gives that position and what it comes back with; `seen` are the numbers that it sees then.
fn back_from_the_position(start: Start, seen: RangeInclusive<usize>) -> [Value; 2] {
    let backend = Backend::start();
    let gateway = remembering(&backend, "1000000");
    let wire = Wire::to(gateway.port());
    let mut publisher = Publisher::to(&gateway);
    publisher.go_on_to(3, 0);
    let mut program = start(wire.port());
    let mut reports = Reports::of(&program);

    let callback = next_connect(&backend);
    assert_eq!(last_event_id(&callback), Value::Null);
    let position = callback.json["position"].clone();
    assert_eq!(position, publisher.ids[2]);
    // The chunk is whole; the stream is not.
    wire.die_behind(&format!("\nid: {}\n\n\r\n", publisher.ids[2]), End::Fin);
    answer(&callback);
    wire.wait_dead();
    publisher.go_on_to(10, 0);
    wire.mend();
    let callback = next_connect(&backend);
    answer(&callback);
    reports.wait_open();
    // This is behind where it begins now, wherever that is.
    publisher.publish(&json!({"name": "end", "data": "x"}));
    for number in seen {
        reports.expect("message", &number.to_string());
    }
    reports.expect("end", "x");
    close(&mut program);
    [position, last_event_id(&callback)]
}

#[track_caller]
fn close(program: &mut Program) {
    program.say("close");
    assert!(program.wait_exit().success());
}

#[test]
#[ignore = "needs Node and Chromium"]
fn chromium_sees_each_event_once_over_a_wire_that_dies() {
    let _alone = browser::alone();
    each_comes_once(chromium);
}

#[test]
#[ignore = "needs Node"]
fn node_sees_each_event_once_over_a_wire_that_dies() {
    each_comes_once(node);
}

#[test]
#[ignore = "needs Python"]
fn httpx_sees_each_event_once_over_a_wire_that_dies() {
    each_comes_once(httpx);
}

#[test]
#[ignore = "needs Node and Chromium"]
fn chromium_is_told_of_a_gap() {
    let _alone = browser::alone();
    what_is_forgotten_is_a_gap(chromium);
}

#[test]
#[ignore = "needs Node"]
fn node_is_told_of_a_gap() {
    what_is_forgotten_is_a_gap(node);
}

#[test]
#[ignore = "needs Python"]
fn httpx_is_told_of_a_gap() {
    what_is_forgotten_is_a_gap(httpx);
}

#[test]
#[ignore = "needs Node and Chromium"]
fn chromium_comes_back_with_the_position_it_was_given() {
    let _alone = browser::alone();
    let [position, back] = back_from_the_position(chromium, 4..=10);
    assert_eq!(back, position);
}

#[test]
#[ignore = "needs Python"]
fn httpx_comes_back_with_the_position_it_was_given() {
    let [position, back] = back_from_the_position(httpx, 4..=10);
    assert_eq!(back, position);
}

/// Its parser forgets the id of what has no data, where an `EventSource` is to keep it (WHATWG HTML,
/// "server-sent events"): until an event brings it an id it comes back as if for the first time.
#[test]
#[ignore = "needs Node"]
fn node_does_not_take_the_position_it_was_given() {
    let [_, back] = back_from_the_position(node, 11..=10);
    assert_eq!(back, Value::Null);
}

#[test]
#[ignore = "needs Node"]
fn node_comes_back_with_the_position_that_the_backend_gave_it() {
    let [position, back] = back_from_the_position(careful_node, 4..=10);
    assert_eq!(back, position);
}

/// Of what is no event to others it makes one without data, as soon as it has been given an id.
#[test]
#[ignore = "needs Python"]
fn httpx_sse_takes_heartbeats_for_events() {
    let backend = answering();
    let gateway = lively(&backend);
    let mut command = tools::python("tests/clients/programs/stream.py");
    let orders = json!({"url": url(gateway.port(), "/events")});
    let program = begin(command.arg("httpx"), &orders);
    assert_eq!(program.report(), json!({"open": "HTTP/1.1"}));
    let first = json!({"event": "position", "data": "none", "id": ""});
    assert_eq!(program.report(), first);
    let event = json!({"token": next_connect(&backend).token(), "event": {"data": "x", "id": "5"}});
    assert_ok(&post_send(&gateway, &event), OK);
    for data in ["x", ""] {
        let seen = json!({"event": "message", "data": data, "id": "5"});
        assert_eq!(program.report(), seen);
    }
}
