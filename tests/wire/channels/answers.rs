//! What publishers are told: the answers' very bytes, and how much is left unsent.

use serde_json::json;

use super::{
    assert_receivers, joining, large, narrow, next_data, one_in, open_blocked, to_channel, to_token,
};
use crate::support::{OK, assert_ok, assert_sent, open_stream, post_send};

#[test]
fn an_answer_to_the_byte() {
    let (backend, gateway, mut client, _) = one_in("/s?c");
    let response = post_send(&gateway, &to_channel("c", "x"));
    assert_eq!(
        response.head.undated(),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 29\r\nDate: DATE\r\n\r\n"
    );
    assert_eq!(response.body, br#"{"status":"ok","receivers":1}"#);
    assert_eq!(next_data(&mut client), "x");
    client.reset();
    backend.assert_balanced();
}

/// To one stream: what its socket would not take. To many: nothing of the kind.
#[test]
fn back_pressure_shows_in_the_answer_to_one() {
    let backend = joining();
    let gateway = narrow(&backend).start();
    let (mut slow, token) = open_blocked(&gateway, &backend, "/slow?c", &large());
    let (mut other, other_token) = open_stream(&gateway, &backend, "/other?c");
    let queued = assert_sent(&post_send(&gateway, &to_token(&token, "x")));
    let more = assert_sent(&post_send(&gateway, &to_token(&token, "y")));
    assert_eq!(more, queued + "9\r\ndata: y\n\n\r\n".len());
    // Neither do questions tell, nor sends that only join.
    assert_ok(&post_send(&gateway, &json!({"token": token})), OK);
    let joins = json!({"token": token, "subscribe": ["d"]});
    assert_ok(&post_send(&gateway, &joins), OK);
    for target in [
        json!({"channel": "c"}),
        json!({"channels": ["c", "d"]}),
        json!({"tokens": [token, other_token]}),
        json!({"broadcast": true}),
    ] {
        let mut command = target;
        command["event"] = json!({"data": "many"});
        assert_receivers(&post_send(&gateway, &command), 2);
    }
    // Who keeps up has nothing queued.
    assert_ok(&post_send(&gateway, &to_token(&other_token, "end")), OK);
    for data in ["many", "many", "many", "many", "end"] {
        assert_eq!(next_data(&mut other), data);
    }
    assert_eq!(next_data(&mut slow), large());
    for data in ["x", "y", "many", "many", "many", "many"] {
        assert_eq!(next_data(&mut slow), data);
    }
    assert_ok(&post_send(&gateway, &to_token(&token, "end")), OK);
    assert_eq!(next_data(&mut slow), "end");
    drop((slow, other));
    backend.assert_balanced();
}
