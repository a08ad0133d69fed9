//! Without `HISTORY_BYTES` there is no history, and nothing on the wire tells of one.

use serde_json::{Value, json};

use super::Stage;
use crate::support::OK;

const ONE: &str = r#"{"status":"ok","receivers":1}"#;

#[test]
fn there_is_none_by_default() {
    for settings in [&[][..], &[("HISTORY_BYTES", "0")], &[("HISTORY_BYTES", "")]] {
        let stage = Stage::with(settings);
        let missed = json!({"channel": "c", "event": {"data": "missed"}});
        stage.post(&missed, r#"{"status":"ok","receivers":0}"#);
        for (header, last_event_id) in [
            (None, Value::Null),
            (Some("1-1"), Value::Null),
            (Some("earliest"), Value::Null),
            (Some("no id"), Value::Null),
            (None, json!("1-1")),
            (None, json!("earliest")),
            (None, json!("")),
        ] {
            let (mut client, connect) = stage.ask(header);
            assert_eq!(connect.json.get("position"), None, "{}", connect.text());
            let token = connect.token();
            stage.post(
                &json!({"token": token, "event": {"data": "by token"}}),
                r#"{"status":"buffered"}"#,
            );
            let answer = json!({
                "channels": ["c"], "last_event_id": last_event_id, "event": {"data": "first"},
            });
            connect.answer(200, &answer.to_string());
            assert_eq!(client.read_head().status, 200);
            stage.post(
                &json!({"token": token, "subscribe": ["d"], "last_event_id": "earliest"}),
                OK,
            );
            for target in [
                json!({"channel": "c"}),
                json!({"channels": ["c", "d"]}),
                json!({"broadcast": true}),
            ] {
                let mut command = target;
                command["event"] = json!({"data": "x"});
                stage.post(&command, ONE);
                command["event"] = json!({"data": "x", "id": "own"});
                stage.post(&command, ONE);
            }
            super::assert_next(&mut client, ["data: first\n\n", "data: by token\n\n"]);
            for _ in 0..3 {
                super::assert_next(&mut client, ["data: x\n\n", "id: own\ndata: x\n\n"]);
            }
            client.reset();
            stage.backend.next_disconnect();
        }
        assert_eq!(stage.gateway.count_log("[ERROR]"), 0);
        stage.end([]);
    }
}
