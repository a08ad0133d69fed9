//! What publishers send, to many and to one.

use std::sync::OnceLock;

use serde_json::{Value, json};
use ssegateway::event_id::EventId;
use ssegateway::gateway::Scope;

use super::super::log::{EVERYBODY, Sent};
use super::{Conn, World};
use crate::laws::sim::choices::Choices;

/// More channels than a history remembers that keeps nothing of them.
const WIDE: usize = 1100;

/// Fan-outs that may be pending.
const MOST: usize = 7;

/// An event, and what is to be done with it beside.
struct Draft {
    sent: Sent,
    retain: bool,
    close: bool,
}

impl<C: Choices> World<C> {
    fn draft(&mut self, channels: Vec<&'static str>) -> Draft {
        let order = self.log.sent.len();
        let retain = !channels.is_empty() && channels != [EVERYBODY] && self.choices.one_in(5);
        let length = match self.choices.below(40) {
            0..=25 => 0,
            26..=33 => self.choices.below(200) as usize,
            34..=37 => self.choices.below(5000) as usize,
            38 => 30_000 + self.choices.below(4000) as usize,
            _ => 40_000 + self.choices.below(20_000) as usize,
        };
        let mut data = format!("m{order}");
        match length {
            0 => {}
            _ if self.choices.one_in(6) => data += &"\n".repeat(length.min(50)),
            _ => data += &" x".repeat(length / 2),
        }
        let is_clear = retain && self.choices.one_in(4);
        if is_clear {
            data.clear();
        }
        Draft {
            sent: Sent {
                number: None,
                id: None,
                channels,
                name: self.choices.pick::<&str>(&["", "", "n"]),
                data,
                // Without an id nobody could tell it from another.
                key: self
                    .some_key()
                    .filter(|_| !is_clear || self.log.has_history),
                read: self.now,
            },
            retain,
            close: self.choices.one_in(60),
        }
    }

    /// An answer of 200 to what was sent, or the status of another.
    fn post(&mut self, body: &Value) -> Result<Value, u16> {
        self.set_clock();
        let known = self
            .publisher
            .filter(|id| self.gw.at(id.index()) == Some(*id));
        let id = known.unwrap_or_else(|| self.gw.accept((), Scope::Whole, self.now));
        self.publisher = Some(id);
        self.told.clear();
        let body = body.to_string();
        let length = body.len();
        let head = "POST /internal/send HTTP/1.1\r\nHost: h\r\nContent-Length";
        let request = format!("{head}: {length}\r\n\r\n{body}");
        self.gw.bytes(id, request.as_bytes(), self.now);
        self.settle();
        let told = String::from_utf8(self.told.clone()).expect("UTF-8");
        let (head, json) = told.split_once("\r\n\r\n").expect("an answer");
        self.tell(|| {
            let body = body.replace(" x", "").replace("\\n", "");
            format!("{body} -> {json}")
        });
        match head[9..12].parse().expect("a status") {
            200 => Ok(serde_json::from_str(json).expect("JSON")),
            status => Err(status),
        }
    }

    /// One more fan-out need not wait.
    fn make_room(&mut self) {
        if self.pending >= MOST {
            self.fan_out_all();
        }
    }

    pub(super) fn publish(&mut self) {
        self.make_room();
        let target = self.choices.below(12);
        let mut channels = match target {
            0..=5 => vec![*self.choices.pick(&super::CHANNELS)],
            6 | 7 => self.channels(),
            8 | 9 => vec![EVERYBODY],
            _ => Vec::new(),
        };
        if channels.is_empty() && target < 8 {
            channels = vec!["a"];
        }
        let mut receivers: Vec<usize> = Vec::new();
        for (at, client) in self.clients.iter().enumerate() {
            let Some(conn) = client.conn.as_ref().filter(|conn| conn.is_known()) else {
                continue;
            };
            let is_in = match target {
                0..=7 => channels
                    .iter()
                    .any(|it| conn.stream.members.contains_key(it)),
                8 | 9 => true,
                _ => self.choices.one_in(2),
            };
            receivers.extend(is_in.then_some(at));
        }
        let draft = self.draft(channels);
        self.publish_to(target, &receivers, draft);
        self.look();
    }

    fn publish_to(&mut self, target: u32, receivers: &[usize], draft: Draft) {
        let Draft {
            mut sent,
            retain,
            close,
        } = draft;
        let mut body = json!({ "event": event(&sent), "close": close });
        if retain {
            body["event"]["retain"] = true.into();
        }
        let conns = receivers
            .iter()
            .filter_map(|at| self.clients[*at].conn.as_ref());
        let tokens: Vec<String> = conns.map(|conn| conn.token.to_string()).collect();
        match target {
            0..=5 => body["channel"] = sent.channels[0].into(),
            6 | 7 => body["channels"] = sent.channels.clone().into(),
            8 | 9 => body["broadcast"] = true.into(),
            _ => body["tokens"] = tokens.into(),
        }
        let answer = self.post(&body).expect("a send that is taken");
        // One that ends is nobody's as soon as it has what is pending for it.
        let is_ending = |conn: &&Conn| conn.stream.is_open && conn.stream.ends.is_some();
        let conns = receivers
            .iter()
            .filter_map(|at| self.clients[*at].conn.as_ref());
        let fewest = receivers.len() - conns.filter(is_ending).count();
        let told = answer["receivers"].as_u64().expect("a number") as usize;
        assert!((fewest..=receivers.len()).contains(&told), "{body}");
        self.pending += usize::from(!receivers.is_empty());
        let order = self.log.sent.len();
        let is_kept = self.log.has_history && !sent.channels.is_empty();
        assert_eq!(answer.get("id").is_some(), is_kept);
        if is_kept {
            let id = answer["id"].as_str().expect("an id").to_owned();
            self.note_id(&id);
            self.log.numbers.push(order);
            (sent.number, sent.id) = (Some(self.log.last()), Some(id.clone()));
            self.log.ids.insert(id, self.log.last());
            self.forget();
        }
        if retain {
            for name in &sent.channels {
                match sent.data.is_empty() {
                    true => self.log.values.remove(name),
                    false => self.log.values.insert(name, order),
                };
            }
        }
        self.log.sent.push(sent);
        for at in receivers {
            if let Some(conn) = &mut self.clients[*at].conn {
                conn.stream.publish(Some(order), close, &self.log);
            }
        }
    }

    /// Ids only grow, and none is given twice.
    fn note_id(&mut self, text: &str) {
        let id = EventId::parse(text).expect("an id");
        assert!(Some(id) > self.log.position, "{text} is no greater id");
        assert!(
            self.given.insert(text.to_owned()),
            "{text} was given before"
        );
        self.log.position = Some(id);
    }

    /// To so many channels that a history cannot remember them all.
    pub(super) fn publish_widely(&mut self) {
        static NAMES: OnceLock<Vec<&'static str>> = OnceLock::new();
        let name = |number| -> &'static str { Box::leak(format!("wide.{number}").into()) };
        let names = NAMES.get_or_init(|| (0..WIDE).map(name).collect());
        for name in names {
            let mut draft = self.draft(vec![name]);
            draft.sent.data.truncate(20);
            (draft.retain, draft.close) = (false, false);
            self.publish_to(0, &[], draft);
        }
        self.log.is_vague = true;
        self.note("many channels");
        self.look();
    }

    /// A send to one stream.
    pub(super) fn send(&mut self, at: usize) {
        self.know();
        self.make_room();
        let has_event = self.choices.one_in(2);
        let leaves = self.some_of(4);
        let joins = self.some_of(3);
        let begin = self.choices.one_in(2).then(|| self.some_id());
        let draft = self.draft(Vec::new());
        let close = self.choices.one_in(30);
        let Some(conn) = &self.clients[at].conn else {
            return;
        };
        let is_new =
            |name: &&&str| leaves.contains(*name) || !conn.stream.members.contains_key(**name);
        let new: Vec<&'static str> = joins.iter().filter(is_new).copied().collect();
        let is_deaf = !self.log.has_history || new.is_empty();
        let text = begin.clone().filter(|_| !is_deaf).unwrap_or_default();
        let Some(arrival) = self.log.arrival(&new, |_| false, &text, false) else {
            return;
        };
        let mut body = json!({ "token": conn.token.to_string(), "close": close });
        body["unsubscribe"] = leaves.clone().into();
        if !joins.is_empty() {
            body["subscribe"] = joins.into();
            if let Some(begin) = begin {
                body["last_event_id"] = begin.into();
            }
        }
        if has_event {
            body["event"] = event(&draft.sent);
        }
        let is_open = conn.stream.is_open;
        let is_there = conn.is_known() && (conn.stream.takes() || !is_open);
        let order = has_event.then_some(self.log.sent.len());
        match self.post(&body) {
            Ok(answer) => {
                assert!(is_there, "a send to what is gone: {body}");
                let status = if is_open { "ok" } else { "buffered" };
                assert_eq!(answer["status"], status);
            }
            Err(status) => {
                assert_eq!(status, 404, "{body}");
                assert!(!is_there, "a stream that is not found");
                return self.look();
            }
        }
        if has_event {
            self.log.sent.push(draft.sent);
        }
        if let Some(conn) = &mut self.clients[at].conn {
            conn.stream.obey(&leaves, &arrival, order, close, &self.log);
        }
        self.look();
    }

    /// Some channels, or more often none.
    fn some_of(&mut self, one_in: u32) -> Vec<&'static str> {
        match self.choices.one_in(one_in) {
            true => self.channels(),
            false => Vec::new(),
        }
    }
}

impl Conn {
    /// Whether the gateway knows its token.
    fn is_known(&self) -> bool {
        !self.stream.is_ended
    }
}

fn event(sent: &Sent) -> Value {
    let mut event = json!({ "data": sent.data, "name": sent.name });
    if let Some(key) = sent.key {
        event["key"] = key.into();
    }
    event
}
