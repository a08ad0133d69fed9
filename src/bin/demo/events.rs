//! The streams that the demo knows, and the events that it sends them.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use std::{mem, sync::Arc};

use serde_json::json;
use ureq::Agent;

use crate::say;

/// Longest that one step of a send may take; the gateway answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

/// Every open stream's token, with the number of its next tick.
#[derive(Default)]
pub(crate) struct Streams(Mutex<HashMap<String, u64>>);

impl Streams {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connect callback brought this token. It may be one that is known: callbacks are
    /// idempotent by token.
    pub(crate) fn add(&self, token: &str) {
        self.lock().entry(token.to_owned()).or_insert(1);
    }

    /// The stream is gone.
    pub(crate) fn forget(&self, token: &str) {
        self.lock().remove(token);
    }

    /// Every token, each with its next number.
    fn next(&self) -> Vec<(String, u64)> {
        let count = |(token, n): (&String, &mut u64)| (token.clone(), mem::replace(n, *n + 1));
        self.lock().iter_mut().map(count).collect()
    }
}

/// A request that sends an event to one stream, as JSON.
fn event(token: &str, name: &str, data: &str) -> String {
    json!({"token": token, "event": {"name": name, "data": data}}).to_string()
}

/// The request to show to people.
pub(crate) fn example(token: &str) -> String {
    event(token, "note", "Hello!")
}

/// Starts the thread that sends a tick to each stream every second.
pub(crate) fn tick(streams: Arc<Streams>, send_url: String) -> io::Result<()> {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_recv_body(Some(PATIENCE))
        .build()
        .into();
    thread::Builder::new()
        .name("ticks".to_owned())
        .spawn(move || {
            loop {
                thread::sleep(Duration::from_secs(1));
                for (token, n) in streams.next() {
                    send_tick(&agent, &send_url, &streams, &token, n);
                }
            }
        })?;
    Ok(())
}

fn send_tick(agent: &Agent, send_url: &str, streams: &Streams, token: &str, n: u64) {
    let answer = agent
        .post(send_url)
        .content_type("application/json")
        .send(event(token, "tick", &n.to_string()));
    match answer {
        Ok(mut answer) => {
            // Read to its end, so that the connection serves the next send too.
            let _ = answer.body_mut().read_to_vec();
            if answer.status() == 404 {
                streams.forget(token);
                say(&format!(
                    "forgotten   token={token} (the gateway answered 404)"
                ));
            }
        }
        Err(error) => say(&format!("send failed token={token} ({error})")),
    }
}
