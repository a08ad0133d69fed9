//! One HTTP exchange with the backend (contract, sections 2, 3, 12 and 13).

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::CONTENT_TYPE;
use http::{Response, Uri};
use ureq::{Agent, Body, Error};

use super::dial::{Dial, Watch};
use super::failure::{Phase, sentence};
use super::fields::{self, Fields, REPEATED, Repeated};
use super::front::MAX_HEAD;
use super::resolver::Deferred;
use crate::callback::{Action, Job, MAX_FIELD, Outcome};
use crate::wire::{self, Directives};

/// Bytes of an answer's body that are read; contract, section 2, step 6.
pub(super) const BODY_LIMIT: u64 = 1024 * 1024;
/// Bytes of its buffer for what goes out: most requests whole, larger ones in pieces. Each field has to
/// fit in, with its name and two line ends.
const OUTPUT: usize = 4 * 1024;
const _: () = assert!(MAX_FIELD + 64 < OUTPUT);
/// The most bytes that a worker at rest keeps of a buffer of its own.
const KEPT: usize = 16 * 1024;
const USER_AGENT: &str = concat!("ssegateway/", env!("CARGO_PKG_VERSION"));

/// A worker's own agent, with at most one idle connection, and its buffers.
pub(super) struct Exchange {
    url: Uri,
    agent: Agent,
    watch: Arc<Watch>,
    fields: Arc<Fields>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Exchange {
    /// `idle`: how long an unused connection may be used again.
    pub(super) fn new(url: Uri, idle: Duration, dial: Dial, fields: Arc<Fields>) -> Exchange {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent(USER_AGENT)
            .accept_encoding("")
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .max_idle_age(idle)
            .input_buffer_size(MAX_HEAD)
            .output_buffer_size(OUTPUT)
            .build();
        let watch = Arc::clone(&dial.watch);
        Exchange {
            url,
            agent: Agent::with_parts(config, dial, Deferred),
            watch,
            fields,
            request: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// The agent, so that the call can be interrupted from another thread.
    pub(super) fn agent(&self) -> Agent {
        self.agent.clone()
    }

    /// Sends the job and reads the answer, within `limit` in all.
    pub(super) fn run(&mut self, job: &Job, limit: Duration) -> Outcome {
        let deadline = Instant::now() + limit;
        self.request.clear();
        let repeated = write_request(&mut self.request, job);
        let mut sent = self.send(&repeated, deadline);
        // Backends close idle connections when they like: what was lost on a used connection may
        // never have been read, and callbacks are idempotent by token.
        let is_lost = matches!(&sent, Err(error) if !timed_out(error));
        if is_lost && self.watch.reused() && self.watch.unusable().is_none() {
            sent = self.send(&repeated, deadline);
        }
        let outcome = match sent {
            Ok(response) => self.receive(response),
            Err(error) => self.failed(&error),
        };
        shed(&mut self.request);
        shed(&mut self.answer);
        outcome
    }

    fn send(&self, repeated: &Repeated, deadline: Instant) -> Result<Response<Body>, Error> {
        self.watch.reset();
        let left = deadline.saturating_duration_since(Instant::now());
        let mut request = self
            .agent
            .post(self.url.clone())
            .config()
            .timeout_global(Some(left))
            .build()
            .header(CONTENT_TYPE, "application/json");
        if let Some(headers) = request.headers_mut() {
            self.fields.write(repeated, headers);
        }
        request.send(&self.request[..])
    }

    fn receive(&mut self, response: Response<Body>) -> Outcome {
        let status = response.status().as_u16();
        let mut body = response.into_body();
        self.answer.clear();
        // A 205 has no content, but some servers do not say so in its head, and keep the
        // connection open.
        if status != 205 {
            // One byte more shows that the limit was passed. Up to the limit the end is read as
            // well, without which the connection would not be kept.
            let read = body
                .as_reader()
                .take(BODY_LIMIT + 1)
                .read_to_end(&mut self.answer);
            if let Err(error) = read {
                let error = Error::from(error);
                let error = (!timed_out(&error)).then(|| sentence(&error, Phase::Body));
                return Outcome::Unfinished { status, error };
            }
            if self.watch.broken() {
                let error = Some("answer cut short".to_owned());
                return Outcome::Unfinished { status, error };
            }
        }
        let whole = self.answer.len() as u64 <= BODY_LIMIT;
        Outcome::Answered {
            status,
            directives: wire::directives(whole.then_some(&self.answer)),
        }
    }

    /// There is no head that ureq can use.
    fn failed(&self, error: &Error) -> Outcome {
        if timed_out(error) {
            return Outcome::TimedOut;
        }
        match (self.watch.unusable(), self.watch.interim()) {
            (Some(status), _) => Outcome::Answered {
                status,
                directives: Directives::unusable("its head is larger than 16 KiB or 128 fields"),
            },
            // ureq has nothing to say of it when no other head follows.
            (None, Some(status)) => Outcome::Answered {
                status,
                directives: Directives::default(),
            },
            _ => Outcome::Failed(sentence(error, Phase::Head)),
        }
    }
}

fn timed_out(error: &Error) -> bool {
    matches!(error, Error::Timeout(_))
}

/// Without a space, and always in this order of members. Gives what the client's request has of the
/// fields that are repeated.
fn write_request(into: &mut Vec<u8>, job: &Job) -> Repeated {
    into.extend_from_slice(match job.action {
        Action::Connect { .. } => br#"{"action":"connect""#,
        Action::Disconnect { .. } => br#"{"action":"disconnect""#,
    });
    if let Action::Disconnect { reason } = job.action {
        into.extend_from_slice(br#","reason":""#);
        into.extend_from_slice(reason.as_str().as_bytes());
        into.push(b'"');
    }
    // Writing to a vector cannot fail.
    let _ = write!(into, r#","token":"{}""#, job.token);
    if let (Action::Connect { .. }, Some(position)) = (job.action, &job.position) {
        let _ = write!(into, r#","position":"{position}""#);
    }
    into.extend_from_slice(br#","request":"#);
    let found = job.request.write_and_find(into, REPEATED);
    into.push(b'}');
    found.map(|value| fields::repeated(&into[value]))
}

fn shed(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEPT {
        *buffer = Vec::new();
    }
}
