//! Fan-outs take turns with everything else: other publishers, health, the end of the process.

use serde_json::{Value, json};

use super::{assert_receivers, batch, joining, next_data, open_old, to_channel, to_token};
use crate::support::crowd::open_crowd;
use crate::support::{
    Backend, Client, Gateway, OK, assert_ok, assert_served, open_stream, post_send,
};

/// Fan-outs that may be pending (contract, section 11).
const MOST: usize = 8;

/// Members of a channel whose fan-outs take several turns.
const CROWD: usize = 300;

/// A crowd in one channel, `c`.
fn crowd_in_one(gateway: &Gateway, backend: &Backend) -> Vec<(Client, String)> {
    let crowd = open_crowd(backend, CROWD, |_| gateway.connect());
    let joins = |(_, token): &(Client, String)| json!({"token": token, "subscribe": ["c"]});
    let all: Vec<Value> = crowd.iter().map(joins).collect();
    for answer in super::pipeline(gateway, &all) {
        assert_ok(&answer, OK);
    }
    crowd
}

fn numbered(who: usize, events: usize) -> Vec<Value> {
    let event = |number| to_channel("c", &format!("{who} {number}"));
    (0..events).map(event).collect()
}

/// The gateway is stopped while all of them write, and meets them in one turn.
#[test]
fn beyond_eight_the_publishers_wait_and_nobody_else_does() {
    const EVENTS: usize = 40;
    let backend = joining();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("LOG_LEVEL", "debug")
        .start();
    let mut crowd = crowd_in_one(&gateway, &backend);
    let (mut stream, token) = open_stream(&gateway, &backend, "/s");
    let [mut many, mut one, mut health] = [0; 3].map(|_| {
        let mut client = gateway.connect();
        assert_served(&mut client);
        client
    });
    gateway.signal("STOP");
    many.send(batch(&numbered(0, EVENTS)));
    one.post(to_token(&token, "in between").to_string().as_bytes());
    health.get("/healthz");
    gateway.signal("CONT");
    assert_ok(&one.read_response(), OK);
    assert_ok(&health.read_response(), OK);
    assert_eq!(next_data(&mut stream), "in between");
    for _ in 0..EVENTS {
        assert_receivers(&many.read_response(), CROWD);
    }
    for (client, _) in &mut crowd {
        for number in 0..EVENTS {
            assert_eq!(next_data(client), format!("0 {number}"));
        }
    }
    gateway.wait_log_times("fan-outs", EVENTS, |line| {
        line.text.contains("event sent channel=c")
    });
    // Both were there before any fan-out had come to everybody.
    let lines = gateway.lines();
    let before = lines
        .iter()
        .take_while(|it| !it.text.contains(&format!("event sent token={token}")));
    let pending = before.filter(|it| it.text.contains("event sent channel=c"));
    assert!(pending.count() <= MOST);
    drop((crowd, stream));
    backend.assert_balanced();
}

#[test]
fn several_publishers_get_all_their_answers() {
    const PUBLISHERS: usize = 12;
    const EVENTS: usize = 6;
    let backend = joining();
    let gateway = Gateway::of(&backend);
    let mut crowd = crowd_in_one(&gateway, &backend);
    let mut publishers: Vec<Client> = (0..PUBLISHERS).map(|_| gateway.connect()).collect();
    for (who, publisher) in publishers.iter_mut().enumerate() {
        publisher.send(batch(&numbered(who, EVENTS)));
        if who % 2 == 1 {
            // Whoever has said all still gets its answers.
            publisher.shutdown_write();
        }
    }
    assert_served(&mut gateway.connect());
    for (who, publisher) in publishers.iter_mut().enumerate() {
        for _ in 0..EVENTS {
            assert_receivers(&publisher.read_response(), CROWD);
        }
        if who % 2 == 1 {
            publisher.expect_eof();
        } else {
            assert_served(publisher);
        }
    }
    for (client, _) in &mut crowd {
        let mut next = [0; PUBLISHERS];
        for _ in 0..PUBLISHERS * EVENTS {
            let data = next_data(client);
            let (who, number) = data.split_once(' ').expect("two numbers");
            let who: usize = who.parse().expect("a number");
            assert_eq!(number, next[who].to_string(), "of publisher {who}");
            next[who] += 1;
        }
    }
    drop(crowd);
    backend.assert_balanced();
}

/// What it had sent before is delivered, the rest may come to nothing; the others get theirs.
#[test]
fn a_publisher_that_leaves_while_it_waits_harms_nobody() {
    const LEAVING: usize = 6;
    let backend = joining();
    let gateway = Gateway::of(&backend);
    let mut crowd = crowd_in_one(&gateway, &backend);
    let mut leaving: Vec<Client> = (0..LEAVING).map(|_| gateway.connect()).collect();
    leaving.iter_mut().for_each(assert_served);
    let mut stays = gateway.connect();
    assert_served(&mut stays);
    gateway.signal("STOP");
    for (who, publisher) in leaving.iter_mut().enumerate() {
        publisher.send(batch(&numbered(who, 20)));
    }
    stays.send(batch(&numbered(LEAVING, 20)));
    gateway.signal("CONT");
    // Its first answer says that the others have been read and wait, or are through.
    assert_receivers(&stays.read_response(), CROWD);
    leaving.into_iter().for_each(Client::reset);
    for _ in 1..20 {
        assert_receivers(&stays.read_response(), CROWD);
    }
    let end = post_send(&gateway, &to_channel("c", "end"));
    assert_receivers(&end, CROWD);
    let mut heard: Option<Vec<String>> = None;
    for (client, _) in &mut crowd {
        let mut all = Vec::new();
        while all.last().is_none_or(|data| data != "end") {
            all.push(next_data(client));
        }
        let of_the_one = all.iter().filter(|data| data.starts_with("6 "));
        let expected: Vec<String> = (0..20).map(|number| format!("6 {number}")).collect();
        assert!(of_the_one.eq(&expected), "{all:?}");
        // Everybody has heard the same of those who left.
        assert_eq!(heard.get_or_insert_with(|| all.clone()), &all);
    }
    drop(crowd);
    backend.assert_balanced();
}

/// The gateway is stopped while both come, and meets the publisher first.
#[test]
fn a_shutdown_comes_behind_what_is_pending() {
    let backend = joining();
    let mut gateway = Gateway::of(&backend);
    let crowd = crowd_in_one(&gateway, &backend);
    let (mut old, _) = open_old(&gateway, &backend, "/old?c");
    let mut publisher = gateway.connect();
    assert_served(&mut publisher);
    gateway.signal("STOP");
    publisher.send(batch(&numbered(0, MOST)));
    crate::support::signal(gateway.pid(), "TERM");
    gateway.signal("CONT");
    for _ in 0..MOST {
        assert_receivers(&publisher.read_response(), CROWD + 1);
    }
    for number in 0..MOST {
        assert_eq!(next_data(&mut old), format!("0 {number}"));
    }
    old.expect_eof();
    for (mut client, _) in crowd {
        for number in 0..MOST {
            assert_eq!(next_data(&mut client), format!("0 {number}"));
        }
        client.expect_last_chunk_and_eof();
    }
    assert_eq!(gateway.wait_exit().code(), Some(0));
    backend.assert_balanced();
}

/// Publishes without a pause, so that fan-outs are pending all the while, until one stream more is
/// addressed because of what `join` does; gives the data of what was addressed to it.
fn publish_until_joined(
    gateway: &Gateway,
    target: &Value,
    before: usize,
    join: impl FnOnce(),
) -> Vec<String> {
    let mut publisher = gateway.connect();
    let mut sent = 0;
    let mut publish = |publisher: &mut Client| {
        let mut command = target.clone();
        command["event"] = json!({"data": sent.to_string()});
        publisher.post(command.to_string().as_bytes());
        sent += 1;
    };
    for _ in 0..2 * MOST {
        publish(&mut publisher);
    }
    let mut join = Some(join);
    let mut addressed = Vec::new();
    let mut answered = 0;
    let mut left = 2 * MOST;
    while left > 0 {
        if answered == 20
            && let Some(join) = join.take()
        {
            join();
        }
        let response = publisher.read_response();
        if addressed.is_empty() && response.body.ends_with(format!(":{before}}}").as_bytes()) {
            publish(&mut publisher);
        } else {
            // From the first one on, every one.
            assert_receivers(&response, before + 1);
            addressed.push(answered.to_string());
            left -= 1;
        }
        answered += 1;
    }
    addressed
}

/// Whoever comes while fan-outs are under way gets those that were read afterwards, each of them.
#[test]
fn who_joins_in_the_middle_gets_what_comes_behind() {
    let backend = Backend::with(|callback| {
        if callback.url() != "/late" {
            callback.answer(200, r#"{"channels":["c"]}"#);
        }
    });
    let gateway = Gateway::unhurried(&backend);
    let crowd = open_crowd(&backend, CROWD, |_| gateway.connect());
    // By the connect answer.
    let mut client = gateway.get("/late");
    let late = backend.next_connect_of("/late");
    let target = json!({"channel": "c"});
    let addressed = publish_until_joined(&gateway, &target, CROWD, || {
        late.answer(200, r#"{"channels":["c"],"event":{"data":"first"}}"#);
    });
    assert_eq!(client.read_head().status, 200);
    assert_eq!(next_data(&mut client), "first");
    for data in addressed {
        assert_eq!(next_data(&mut client), data);
    }
    assert_receivers(&post_send(&gateway, &to_channel("c", "end")), CROWD + 1);
    assert_eq!(next_data(&mut client), "end");
    // By its request, of which a window comes.
    let mut newcomer = gateway.connect();
    assert_served(&mut newcomer);
    let target = json!({"broadcast": true});
    let addressed = publish_until_joined(&gateway, &target, CROWD + 1, || {
        newcomer.get("/newcomer");
    });
    assert_eq!(newcomer.read_head().status, 200);
    for data in addressed {
        assert_eq!(next_data(&mut newcomer), data);
    }
    assert_receivers(&post_send(&gateway, &to_channel("c", "end")), CROWD + 2);
    assert_eq!(next_data(&mut newcomer), "end");
    drop((crowd, client, newcomer));
    backend.next_disconnect_of(&late.token()).answer(200, "");
    backend.assert_balanced();
}
