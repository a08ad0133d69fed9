//! A stream's events reach it in the order in which their requests were read, whichever way each of
//! them was addressed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{assert_receivers, batch, joining, next_data};
use crate::support::crowd::open_crowd;
use crate::support::{Client, Gateway, OK, assert_error, assert_ok, open_stream};

/// Streams that the commands are about, beside a crowd that is only there.
const STREAMS: usize = 8;
const CHANNELS: usize = 5;
/// Enough for a fan-out to take several slices.
const CROWD: usize = 200;
const COMMANDS: usize = 1500;

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        // xorshift64 (Marsaglia, 2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// What one stream must have come to.
#[derive(Default)]
struct Expected {
    token: String,
    channels: BTreeSet<usize>,
    events: Vec<String>,
    is_closed: bool,
}

/// What an answer must be.
enum Told {
    Ok,
    Unknown,
    Receivers(usize),
    /// Receivers, and which tokens have gone.
    Gone(usize, Vec<String>),
}

/// The plain account of the commands: each is carried out whole before the next one.
struct Model {
    numbers: Numbers,
    streams: Vec<Expected>,
    /// What the crowd gets, each of them.
    crowd: Vec<String>,
}

impl Model {
    fn living(&self) -> usize {
        self.streams.iter().filter(|it| !it.is_closed).count()
    }

    /// One command and what it is answered.
    fn next(&mut self, number: usize) -> (Value, Told) {
        let data = number.to_string();
        match self.numbers.below(20) {
            0..6 => self.send(json!({"event": {"data": data}}), &data, false),
            6..9 => {
                let channel = self.numbers.below(CHANNELS);
                self.publish(json!({"channel": format!("c{channel}")}), &[channel], &data)
            }
            9..11 => {
                let all = [self.numbers.below(CHANNELS), self.numbers.below(CHANNELS)];
                let names = all.map(|channel| format!("c{channel}"));
                self.publish(json!({"channels": names}), &all, &data)
            }
            11..13 => self.some_tokens(&data),
            13 => {
                self.give(|_| true, &data);
                self.crowd.push(data.clone());
                let receivers = CROWD + self.living();
                let command = json!({"broadcast": true, "event": {"data": data}});
                (command, Told::Receivers(receivers))
            }
            14..19 => {
                let (leaves, joins) = (self.numbers.below(CHANNELS), self.numbers.below(CHANNELS));
                let mut command = json!({
                    "unsubscribe": [format!("c{leaves}")], "subscribe": [format!("c{joins}")],
                });
                let has_event = self.numbers.below(2) == 0;
                if has_event {
                    command["event"] = json!({"data": data});
                }
                let (mut command, told) = self.send(command, &data, has_event);
                let stream = command["at"].take();
                let stream = &mut self.streams[stream.as_u64().expect("a number") as usize];
                if !stream.is_closed {
                    stream.channels.remove(&leaves);
                    stream.channels.insert(joins);
                }
                (command, told)
            }
            _ => self.close(&data),
        }
    }

    /// To one stream; the command remembers which.
    fn send(&mut self, mut command: Value, data: &str, has_event: bool) -> (Value, Told) {
        let at = self.numbers.below(STREAMS);
        let stream = &mut self.streams[at];
        command["token"] = json!(stream.token);
        if stream.is_closed {
            command["at"] = json!(at);
            return (command, Told::Unknown);
        }
        if has_event || command.get("subscribe").is_none() {
            stream.events.push(data.to_owned());
        }
        command["at"] = json!(at);
        (command, Told::Ok)
    }

    fn publish(&mut self, mut command: Value, channels: &[usize], data: &str) -> (Value, Told) {
        let is_in = |stream: &Expected| channels.iter().any(|it| stream.channels.contains(it));
        let receivers = self.give(is_in, data);
        command["event"] = json!({"data": data});
        (command, Told::Receivers(receivers))
    }

    fn some_tokens(&mut self, data: &str) -> (Value, Told) {
        let all: Vec<usize> = (0..3).map(|_| self.numbers.below(STREAMS)).collect();
        let tokens: Vec<String> = all
            .iter()
            .map(|at| self.streams[*at].token.clone())
            .collect();
        let is_one = |stream: &Expected| tokens.contains(&stream.token);
        let receivers = self.give(is_one, data);
        let command = json!({"tokens": tokens, "event": {"data": data}});
        let mut gone: Vec<String> = Vec::new();
        for at in all {
            let stream = &self.streams[at];
            if stream.is_closed && !gone.contains(&stream.token) {
                gone.push(stream.token.clone());
            }
        }
        (command, Told::Gone(receivers, gone))
    }

    /// A close, rarely enough for most streams to live.
    fn close(&mut self, data: &str) -> (Value, Told) {
        let command = json!({"event": {"data": data}});
        if self.living() <= STREAMS / 2 || self.numbers.below(4) > 0 {
            return self.send(command, data, true);
        }
        let (mut command, told) = self.send(command, data, true);
        command["close"] = json!(true);
        let at = command["at"].as_u64().expect("a number") as usize;
        self.streams[at].is_closed = true;
        self.streams[at].channels.clear();
        (command, told)
    }

    /// An event for all of these that live; how many they are.
    fn give(&mut self, is_one: impl Fn(&Expected) -> bool, data: &str) -> usize {
        let living = self.streams.iter_mut().filter(|it| !it.is_closed);
        let mut receivers = 0;
        for stream in living.filter(|stream| is_one(stream)) {
            stream.events.push(data.to_owned());
            receivers += 1;
        }
        receivers
    }
}

#[test]
fn each_stream_has_the_order_of_the_requests() {
    let backend = joining();
    let gateway = Gateway::of(&backend);
    let crowd = open_crowd(&backend, CROWD, |_| gateway.connect());
    let (mut clients, tokens): (Vec<Client>, Vec<String>) = (0..STREAMS)
        .map(|at| open_stream(&gateway, &backend, &format!("/stream/{at}")))
        .unzip();
    let streams = tokens.into_iter().map(|token| Expected {
        token,
        ..Expected::default()
    });
    let mut model = Model {
        numbers: Numbers(0x9e37_79b9_7f4a_7c15),
        streams: streams.collect(),
        crowd: Vec::new(),
    };
    let (commands, told): (Vec<Value>, Vec<Told>) =
        (0..COMMANDS).map(|number| model.next(number)).unzip();
    let mut publisher = gateway.connect();
    publisher.send(batch(&commands));
    for (command, told) in commands.iter().zip(told) {
        let response = publisher.read_response();
        println!("{command} {}", String::from_utf8_lossy(&response.body));
        match told {
            Told::Ok => assert_ok(&response, OK),
            Told::Unknown => assert_error(&response, 404, "TOKEN_NOT_FOUND"),
            Told::Receivers(receivers) => assert_receivers(&response, receivers),
            Told::Gone(receivers, gone) if gone.is_empty() => {
                assert_receivers(&response, receivers);
            }
            Told::Gone(receivers, gone) => {
                let gone = json!(gone);
                let body = format!(r#"{{"status":"ok","receivers":{receivers},"unknown":{gone}}}"#);
                assert_ok(&response, &body);
            }
        }
    }
    assert!(model.living() < STREAMS && model.crowd.len() > 10);
    for (at, (client, expected)) in clients.iter_mut().zip(&model.streams).enumerate() {
        let got: Vec<String> = expected.events.iter().map(|_| next_data(client)).collect();
        assert_eq!(got, expected.events, "stream {at}");
        if expected.is_closed {
            client.expect_last_chunk_and_eof();
        }
    }
    for (mut client, _) in crowd {
        for data in &model.crowd {
            assert_eq!(&next_data(&mut client), data);
        }
    }
    drop(clients);
    backend.assert_balanced();
}
