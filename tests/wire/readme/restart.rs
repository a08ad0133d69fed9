//! The README's stream that lives through a restart.

use super::open_answered;
use crate::support::readme;
use crate::support::{Backend, Gateway};

#[test]
fn a_stream_whose_gateway_is_restarted_is_as_shown() {
    let backend = Backend::start();
    let gateway = Gateway::builder()
        .backend(&backend)
        .env("RECONNECT_SPREAD_SECONDS", "30")
        .start();
    let answer = readme::blocks("json answer")[0];
    let (mut client, _) = open_answered(&gateway, &backend, "/s", answer);
    let block = readme::blocks("text restart")[0];
    let mut shown: Vec<&str> = block.trim_end().split("\n\n").collect();
    let last = shown.pop().expect("last words");
    for event in shown {
        assert_eq!(client.next_event(), format!("{event}\n\n"));
    }
    gateway.signal("TERM");
    let said = client.next_event();
    client.expect_last_chunk_and_eof();
    for words in [last, said.trim_end()] {
        let millis = words.strip_prefix("retry: ").expect(words);
        assert!(millis.parse::<u32>().expect(words) < 30_000, "{words}");
    }
}
