//! Clients that come, leave and come again at any moment, against a plain list of all that was sent.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::{Stage, event, position};
use crate::support::{BUFFERED, Callback, Client, OK, assert_sent, post_send};

const CLIENTS: usize = 4;
const CHANNELS: usize = 4;
const STEPS: usize = 1500;

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

/// An event of the history; no channels stand for everybody.
struct Sent {
    channels: Vec<usize>,
    text: String,
    id: String,
}

/// Where a client is.
enum Visit {
    Away,
    /// Its callback is out: what was sent to it by token, and how many events there were then.
    Asked(Client, Callback, Vec<(usize, String)>),
    Here(Client, String),
}

/// One client and what is to come to it.
struct Account {
    visit: Visit,
    /// What it would send as `Last-Event-ID`.
    last: String,
    /// Its channels, and how many events there were where it began in each of them.
    channels: BTreeMap<usize, usize>,
    /// To come, in this order.
    waiting: VecDeque<String>,
}

struct World {
    stage: Stage,
    numbers: Numbers,
    sent: Vec<Sent>,
    accounts: Vec<Account>,
    /// The position before the first event.
    start: String,
}

fn name(channel: usize) -> String {
    format!("c{channel}")
}

impl World {
    fn position(&self) -> &str {
        self.sent.last().map_or(&self.start, |sent| &sent.id)
    }

    /// How many events there were when this was the last id.
    fn index(&self, id: &str) -> usize {
        let at = self.sent.iter().position(|sent| sent.id == id);
        at.map_or(0, |at| at + 1)
    }

    fn step(&mut self, number: usize) {
        let at = self.numbers.below(CLIENTS);
        match self.numbers.below(12) {
            0..5 => self.publish(number),
            5..7 => self.send(at, number),
            7 => self.read_some(at),
            8 => self.change_channels(at, number),
            _ => match &self.accounts[at].visit {
                Visit::Away => self.ask(at),
                Visit::Asked(..) => self.answer(at, number),
                Visit::Here(..) if self.numbers.below(3) == 0 => self.leave(at),
                Visit::Here(..) => self.read_all(at),
            },
        }
    }

    fn publish(&mut self, number: usize) {
        let mut channels: Vec<usize> = (0..self.numbers.below(4))
            .map(|_| self.numbers.below(CHANNELS))
            .collect();
        channels.sort_unstable();
        channels.dedup();
        let data = number.to_string();
        let mut command = match channels[..] {
            [] => json!({"broadcast": true}),
            [one] => json!({"channel": name(one)}),
            _ => json!({"channels": channels.iter().copied().map(name).collect::<Vec<_>>()}),
        };
        command["event"] = json!({"data": data});
        let id = self.stage.publish(&command);
        let text = event(&id, &data);
        for account in &mut self.accounts {
            let is_in = |channel| account.channels.contains_key(channel);
            if matches!(account.visit, Visit::Here(..))
                && (channels.is_empty() || channels.iter().any(is_in))
            {
                account.waiting.push_back(text.clone());
            }
        }
        self.sent.push(Sent { channels, text, id });
    }

    fn send(&mut self, at: usize, number: usize) {
        let so_far = self.sent.len();
        let account = &mut self.accounts[at];
        let text = format!("data: {number}\n\n");
        let command = |token: &str| json!({"token": token, "event": {"data": number.to_string()}});
        match &mut account.visit {
            Visit::Away => {}
            Visit::Asked(_, connect, window) => {
                self.stage.post(&command(&connect.token()), BUFFERED);
                window.push((so_far, text));
            }
            Visit::Here(_, token) => {
                self.stage.post(&command(token), OK);
                account.waiting.push_back(text);
            }
        }
    }

    fn ask(&mut self, at: usize) {
        let account = &mut self.accounts[at];
        let (client, connect) = self.stage.ask(Some(&account.last));
        account.visit = Visit::Asked(client, connect, Vec::new());
    }

    /// The callback is answered: the answer's event, then what was missed and buffered in the order in
    /// which it was read, then the position.
    fn answer(&mut self, at: usize, number: usize) {
        let begin = self.index(&self.accounts[at].last);
        let end = position(self.position());
        let account = &mut self.accounts[at];
        let visit = std::mem::replace(&mut account.visit, Visit::Away);
        let Visit::Asked(mut client, connect, window) = visit else {
            return;
        };
        account.waiting = [format!("data: {number}\n\n")].into();
        let mut window = window.into_iter().peekable();
        for (index, sent) in self
            .sent
            .iter()
            .enumerate()
            .skip(begin.min(self.sent.len()))
        {
            while let Some((_, text)) = window.next_if(|(so_far, _)| *so_far <= index) {
                account.waiting.push_back(text);
            }
            let is_in = |channel| account.channels.contains_key(channel);
            if sent.channels.is_empty() || sent.channels.iter().any(is_in) {
                account.waiting.push_back(sent.text.clone());
            }
        }
        account.waiting.extend(window.map(|(_, text)| text));
        account.waiting.push_back(end);
        let names: Vec<String> = account.channels.keys().copied().map(name).collect();
        let answer = json!({"channels": names, "event": {"data": number.to_string()}});
        connect.answer(200, &answer.to_string());
        assert_eq!(client.read_head().status, 200);
        account
            .channels
            .values_mut()
            .for_each(|since| *since = begin);
        account.visit = Visit::Here(client, connect.token());
    }

    /// It joins a channel, or leaves one: for now, for there is a later visit.
    fn change_channels(&mut self, at: usize, number: usize) {
        let channel = self.numbers.below(CHANNELS);
        let behind = self.numbers.below(self.sent.len() + 1);
        let end = self.position().to_owned();
        let account = &mut self.accounts[at];
        let Visit::Here(_, token) = &account.visit else {
            return;
        };
        let mut command = json!({"token": token, "event": {"data": number.to_string()}});
        if account.channels.remove(&channel).is_some() {
            command["unsubscribe"] = json!([name(channel)]);
            self.stage.post(&command, OK);
        } else {
            let asked = match behind {
                0 => "earliest".to_owned(),
                _ => self.sent[behind - 1].id.clone(),
            };
            command["subscribe"] = json!([name(channel)]);
            command["last_event_id"] = json!(asked);
            // Its own event may wait behind the past.
            assert_sent(&post_send(&self.stage.gateway, &command));
            for (index, sent) in self.sent.iter().enumerate().skip(behind) {
                // What came by another of its channels does not come again.
                let has_come = |other| {
                    account
                        .channels
                        .get(other)
                        .is_some_and(|since| *since <= index)
                };
                if sent.channels.contains(&channel) && !sent.channels.iter().any(has_come) {
                    account.waiting.push_back(sent.text.clone());
                }
            }
            account.channels.insert(channel, behind);
        }
        account.waiting.push_back(format!("data: {number}\n\n"));
        if command.get("subscribe").is_some() && behind < self.sent.len() {
            account.waiting.push_back(position(&end));
        }
    }

    fn read(&mut self, at: usize, most: usize) {
        let account = &mut self.accounts[at];
        let Visit::Here(client, _) = &mut account.visit else {
            return;
        };
        for _ in 0..most {
            let Some(text) = account.waiting.pop_front() else {
                return;
            };
            assert_eq!(client.next_event(), text, "client {at}");
            let id = text
                .strip_prefix("id: ")
                .and_then(|text| text.lines().next());
            if let Some(id) = id {
                id.clone_into(&mut account.last);
            }
        }
    }

    fn read_some(&mut self, at: usize) {
        let most = self.numbers.below(4);
        self.read(at, most);
    }

    fn read_all(&mut self, at: usize) {
        self.read(at, usize::MAX);
    }

    /// Without having read all: what was sent by token is lost, what was missed comes again. It has
    /// what it has read, whichever of its channels it was in: a past that it asked for on the way is
    /// finished first.
    fn leave(&mut self, at: usize) {
        let account = &self.accounts[at];
        let all = account
            .waiting
            .iter()
            .rposition(|text| !text.contains("data"));
        let most = all.map_or(0, |at| at + 1);
        let some = self.numbers.below(3);
        self.read(at, most + some);
        let account = &mut self.accounts[at];
        account.waiting.clear();
        if let Visit::Here(client, _) = std::mem::replace(&mut account.visit, Visit::Away) {
            client.reset();
        }
    }
}

#[test]
fn whoever_comes_again_has_missed_nothing() {
    let stage = Stage::with(&[("HISTORY_BYTES", "10000000")]);
    let (client, connect) = stage.ask(None);
    let start: &Value = &connect.json["position"];
    let start = start.as_str().expect("one").to_owned();
    connect.answer(403, "");
    drop(client);
    let accounts = (0..CLIENTS).map(|at| Account {
        visit: Visit::Away,
        last: start.clone(),
        channels: (0..at).map(|channel| (channel, 0)).collect(),
        waiting: VecDeque::new(),
    });
    let mut world = World {
        stage,
        numbers: Numbers(0x9e37_79b9_7f4a_7c15),
        sent: Vec::new(),
        accounts: accounts.collect(),
        start: start.clone(),
    };
    for number in 0..STEPS {
        world.step(number);
    }
    for at in 0..CLIENTS {
        world.read_all(at);
        world.leave(at);
        // The last visit: all is there.
        if let Visit::Away = world.accounts[at].visit {
            world.ask(at);
            world.answer(at, STEPS);
            world.read_all(at);
            world.leave(at);
        }
    }
    let answered = world.stage.backend.ledger().accepted();
    assert!(answered > 3 * CLIENTS, "{answered}");
    for account in &mut world.accounts {
        // Somebody whose callback was still out leaves too.
        if let Visit::Asked(client, connect, _) = std::mem::replace(&mut account.visit, Visit::Away)
        {
            client.reset();
            connect.answer(403, "");
        }
    }
    world.stage.end([]);
}
