//! From bytes to requests: the states Reading and ReadingBody.

use std::mem::MaybeUninit;

use super::LINGER_BYTES;
use super::asked::framing;
use super::conn::{Asked, BodyUnderWay, Conn, Look, Plan, Scope, State, StreamRequest, Task};
use super::hub::Hub;
use super::limit::Limit;
use super::origins;
use super::routes::{self, Route};
use crate::buf::ByteQueue;
use crate::http::body::Decoder;
use crate::http::head::{
    self, BodyFraming, FramingError, Head, HeadLimits, HeadScan, MAX_HEADERS, Version,
};
use crate::http::reply::{CONTINUE, Persistence};
use crate::time::Time;

/// What a look at the bytes came to.
pub(super) enum Step {
    /// So many bytes were used up; look on.
    Used(usize),
    /// So many bytes were used up; more must come, or something must happen, before the rest.
    Wait(usize),
    /// A send, which concerns another connection: its body ends at `used`, and is so long.
    Send { used: usize, length: usize },
    /// The same, and its body was gathered here.
    SendKept { used: usize, content: ByteQueue },
    /// A look at all connections: the request ends at `used`.
    Look { used: usize, what: Look },
}

/// What a head has led to.
enum Begun {
    /// All that can be done by now.
    Served,
    /// A send that is here as a whole; its body is so long.
    Send { body: usize },
    /// A look at all connections.
    Look(Look),
}

/// What there is of a head.
enum Found {
    Nothing,
    /// Two bytes that mean nothing.
    EmptyLine,
    /// So many bytes.
    Head(usize),
    Malformed(FramingError),
}

impl<S> Conn<S> {
    /// Reads what is at the front of `bytes`, and does what it asks for unless it is a send.
    pub(super) fn read(&mut self, hub: &mut Hub, bytes: &[u8], now: Time) -> Step {
        match &mut self.state {
            // Whoever was asked nothing more is not held back, however long an answer was.
            State::Reading { .. }
                if self.out.len() > hub.settings.limits.max_unread_answer && !bytes.is_empty() =>
            {
                if !std::mem::replace(&mut self.is_paused, true) {
                    hub.journal.limit(Limit::UnreadAnswers, None, now);
                }
                Step::Wait(0)
            }
            State::Reading {
                scan,
                since,
                is_begun,
            } => match find_head(scan, since, is_begun, bytes, hub.head_limits(), now) {
                Found::Nothing => Step::Wait(0),
                Found::EmptyLine => Step::Used(2),
                Found::Head(length) => {
                    let since = *since;
                    self.read_head(hub, bytes, length, since, now)
                }
                Found::Malformed(error) => self.refuse_head(hub, bytes, error, now),
            },
            State::ReadingBody(body) => match body.take(bytes, hub) {
                Ok(used) if body.decoder.is_done() => self.body_is_whole(hub, used, now),
                Ok(used) => Step::Wait(used),
                Err(error) => self.refuse(hub, bytes, error, now),
            },
            _ => Step::Wait(0),
        }
    }

    fn read_head(
        &mut self,
        hub: &mut Hub,
        bytes: &[u8],
        length: usize,
        since: Time,
        now: Time,
    ) -> Step {
        self.is_new = false;
        let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let (head, rest) = bytes.split_at(length);
        let taken = head::parse(head, hub.head_limits(), &mut room)
            .and_then(|head| self.take_head(hub, &head, rest, since, now));
        match taken {
            Ok(Begun::Served) => Step::Used(length),
            Ok(Begun::Send { body }) => Step::Send {
                used: length + body,
                length: body,
            },
            Ok(Begun::Look(what)) => Step::Look { used: length, what },
            Err(error) => self.refuse_head(hub, bytes, error, now),
        }
    }

    /// Starts on a request.
    fn take_head(
        &mut self,
        hub: &mut Hub,
        head: &Head<'_, '_>,
        rest: &[u8],
        since: Time,
        now: Time,
    ) -> Result<Begun, FramingError> {
        let limits = &hub.settings.limits;
        let decoder = Decoder::new(head.body, limits.max_body, limits.max_head)?;
        self.asked = Asked {
            persistence: match (head.keep_alive, head.version) {
                (true, Version::Http11) => Persistence::KeepAlive,
                (true, Version::Http10) => Persistence::KeepAliveHttp10,
                (false, _) => Persistence::Close,
            },
            is_head: head.method == "HEAD",
            ..Asked::default()
        };
        let route = hub.route(self.scope, head, now);
        if route == Route::Send
            && !head.is_encoded
            && !head.expects_continue
            && let BodyFraming::Length(length) = head.body
            && length <= rest.len() as u64
        {
            // The whole request is here: nothing is copied, nothing is kept.
            return Ok(Begun::Send {
                body: length as usize,
            });
        }
        self.asked.note(hub, route, head);
        let plan = hub.plan(route, head, now);
        if decoder.is_done() {
            return Ok(match plan {
                Plan::Send => Begun::Send { body: 0 },
                Plan::Look(what) => Begun::Look(what),
                Plan::Task(task) => {
                    self.carry_out(hub, task, now);
                    Begun::Served
                }
            });
        }
        match plan {
            // The client has not been asked for the body; whether it sends it all the same
            // cannot be known, so nothing that follows can be trusted to be a request. From whom
            // has no key no body is taken at all.
            Plan::Task(Task::Answer(answer))
                if head.expects_continue || answer == routes::UNAUTHORIZED =>
            {
                self.answer(hub, &answer.last(), now);
                return Ok(Begun::Served);
            }
            _ if head.expects_continue => self.push(hub, CONTINUE, now),
            _ => {}
        }
        let kept = match &plan {
            Plan::Task(Task::Connect(_)) => {
                let fields = head.headers.iter();
                let lengths = fields.map(|it| it.name.len() + it.value.len());
                head.target.len() + lengths.sum::<usize>()
            }
            Plan::Look(what) => what.target.len(),
            Plan::Task(_) | Plan::Send => 0,
        };
        self.state = State::ReadingBody(Box::new(BodyUnderWay {
            decoder,
            content: ByteQueue::default(),
            plan,
            kept,
            since,
        }));
        Ok(Begun::Served)
    }

    fn body_is_whole(&mut self, hub: &mut Hub, used: usize, now: Time) -> Step {
        let State::ReadingBody(body) = std::mem::replace(&mut self.state, State::reading(now))
        else {
            return Step::Wait(used);
        };
        // The body is under way no more: an event is not to count beside the send it came in.
        self.charge(hub);
        let BodyUnderWay {
            mut content, plan, ..
        } = *body;
        match plan {
            Plan::Send => Step::SendKept { used, content },
            Plan::Look(what) => {
                content.clear(&mut hub.spares);
                Step::Look { used, what }
            }
            Plan::Task(task) => {
                content.clear(&mut hub.spares);
                self.carry_out(hub, task, now);
                Step::Used(used)
            }
        }
    }

    /// Does what a request asks for that concerns nobody else, now that all of it has arrived.
    fn carry_out(&mut self, hub: &mut Hub, task: Task, now: Time) {
        match task {
            Task::Connect(what) => self.connect(hub, what, now),
            Task::Health => self.answer_json(hub, 200, "{\"status\":\"ok\"}", now),
            Task::Ready => {
                let (status, json) = hub.readiness(self.scope);
                self.answer_json(hub, status, &json, now);
            }
            Task::Preflight(fields) => self.answer_preflight(hub, &fields, now),
            Task::Answer(answer) => self.answer(hub, &answer, now),
        }
    }

    fn refuse_head(&mut self, hub: &mut Hub, bytes: &[u8], error: FramingError, now: Time) -> Step {
        self.asked.is_head = bytes.starts_with(b"HEAD ");
        self.refuse(hub, bytes, error, now)
    }

    /// Nothing behind what cannot be framed can be trusted to be a request.
    fn refuse(&mut self, hub: &mut Hub, bytes: &[u8], error: FramingError, now: Time) -> Step {
        hub.journal.framing_refused(error, now);
        self.asked.refused_by = None;
        self.answer(hub, &routes::framing_error(error), now);
        Step::Wait(bytes.len())
    }

    pub(super) fn request_timed_out(&mut self, hub: &mut Hub, now: Time) {
        hub.journal.limit(Limit::RequestTime, None, now);
        self.asked.refused_by = None;
        self.answer(hub, &routes::REQUEST_TIMEOUT, now);
        self.drop_input(hub);
    }

    pub(super) fn drop_input(&mut self, hub: &mut Hub) {
        self.input.clear(&mut hub.spares);
        self.charge(hub);
    }

    // ---- what cannot be served now ----

    /// Does with such bytes what the state asks for.
    pub(super) fn keep_rest(&mut self, hub: &mut Hub, rest: &[u8], now: Time) {
        if rest.is_empty() {
            return;
        }
        let max_discarded = hub.settings.limits.max_discarded;
        match &mut self.state {
            State::Reading { .. }
            | State::ReadingBody(_)
            | State::Sending
            | State::Queueing(_)
            | State::Looking(_) => self.keep(hub, rest),
            State::AwaitingCallback(_) => {
                self.keep(hub, rest);
                if self.input.len() > max_discarded {
                    self.drop_callback(hub, Limit::Discarded, now);
                }
            }
            State::Streaming(stream) => {
                let total = stream.discarded as usize + rest.len();
                stream.discarded = u32::try_from(total).unwrap_or(u32::MAX);
                if total > max_discarded {
                    self.drop_stream(hub, Limit::Discarded, now);
                }
            }
            State::Finishing { .. } | State::Lingering { .. } => self.discard(hub, rest.len()),
            State::Closed => {}
        }
    }

    fn keep(&mut self, hub: &mut Hub, bytes: &[u8]) {
        self.input.push(bytes, &mut hub.spares);
        self.input.fit(&mut hub.spares);
    }

    /// Counts bytes that are read only so that no reset destroys the answer before them.
    fn discard(&mut self, hub: &mut Hub, n: usize) {
        if let State::Finishing { discarded, .. } | State::Lingering { discarded, .. } =
            &mut self.state
        {
            *discarded += n;
            if *discarded > LINGER_BYTES {
                self.close(hub);
            }
        }
    }

    /// Does with what is left of `kept`, which was to be served, what the state asks for.
    pub(super) fn put_back(&mut self, hub: &mut Hub, mut kept: ByteQueue) {
        if !matches!(
            self.state,
            State::Finishing { .. } | State::Lingering { .. }
        ) {
            self.input.put_back(kept, &mut hub.spares);
            self.input.fit(&mut hub.spares);
            if self.is_eof && !self.is_paused && matches!(self.state, State::Reading { .. }) {
                // What is left will never be a request.
                self.input.clear(&mut hub.spares);
                self.state = State::LAST_ANSWER;
            }
            return;
        }
        let discarded = kept.len();
        kept.clear(&mut hub.spares);
        self.discard(hub, discarded);
    }

    /// Whether reading was held back, and the peer has read its answers meanwhile.
    pub(super) fn may_resume(&self, hub: &Hub) -> bool {
        self.is_paused && self.out.len() <= hub.settings.limits.max_unread_answer / 2
    }
}

impl BodyUnderWay {
    /// Takes what belongs to the body from the front of `bytes`; gives the length of that.
    fn take(&mut self, bytes: &[u8], hub: &mut Hub) -> Result<usize, FramingError> {
        let is_needed = matches!(self.plan, Plan::Send);
        let (content, spares) = (&mut self.content, &mut hub.spares);
        let used = self.decoder.decode(bytes, |part| {
            if is_needed {
                content.push(part, spares);
            }
        })?;
        if !self.decoder.is_done() {
            content.fit(spares);
        }
        Ok(used)
    }
}

impl Hub {
    fn head_limits(&self) -> HeadLimits {
        HeadLimits {
            bytes: self.settings.limits.max_head,
            headers: self.settings.limits.max_headers,
        }
    }

    fn plan(&mut self, route: Route, head: &Head<'_, '_>, now: Time) -> Plan {
        Plan::Task(match route {
            Route::Send if !head.is_encoded => return Plan::Send,
            Route::Send => {
                let answer = routes::UNSUPPORTED_ENCODING;
                self.journal.send_refused(answer.code, now);
                Task::Answer(answer)
            }
            Route::Stream => match self.fields.keep(head) {
                Some(request) => Task::Connect(StreamRequest {
                    request,
                    framing: framing(head),
                }),
                None => {
                    self.journal.limit(Limit::Headers, None, now);
                    Task::Answer(routes::OVERLOADED)
                }
            },
            Route::Health => Task::Health,
            Route::Ready => Task::Ready,
            Route::Look(view) => {
                let target = head.target.into();
                return Plan::Look(Look { view, target });
            }
            Route::Preflight => Task::Preflight(origins::permits(head, &self.settings)),
            Route::Refuse(answer) => Task::Answer(answer),
        })
    }

    /// The answer to `GET /readyz`. Who asks over the internal listener is told more (contract,
    /// section 14).
    fn readiness(&self, scope: Scope) -> (u16, String) {
        let is_configured = self.settings.is_configured;
        let (status, word) = match is_configured && !self.is_draining {
            true => (200, "ready"),
            false => (503, "not_ready"),
        };
        let mut json = format!("{{\"status\":\"{word}\",\"configured\":{is_configured}");
        if scope == Scope::Internal {
            let (boot, streams) = (self.settings.boot, self.journal.counters.open());
            let more = format!(",\"boot\":\"{boot}\",\"streams\":{streams},\"engine\":\"none\"");
            json.push_str(&more);
        }
        json.push('}');
        (status, json)
    }
}

/// Looks for a request's head at the front of `bytes`.
fn find_head(
    scan: &mut HeadScan,
    since: &mut Time,
    is_begun: &mut bool,
    bytes: &[u8],
    limits: HeadLimits,
    now: Time,
) -> Found {
    if bytes.is_empty() {
        return Found::Nothing;
    }
    if !*is_begun {
        // Empty lines before a request are not its first bytes (RFC 9112, section 2.2).
        match bytes {
            [b'\r', b'\n', ..] => return Found::EmptyLine,
            [b'\r'] => return Found::Nothing,
            _ => {}
        }
        *is_begun = true;
        *since = now;
    }
    match scan.find(bytes, limits) {
        Ok(None) => Found::Nothing,
        Ok(Some(length)) => Found::Head(length),
        Err(error) => Found::Malformed(error),
    }
}
