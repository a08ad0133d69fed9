//! From bytes to requests to answers: the states Reading and ReadingBody.

use std::mem::MaybeUninit;

use super::conn::{Asked, BodyUnderWay, Plan, State, StreamRequest};
use super::journal::Limit;
use super::routes::{self, Answer, Route};
use super::{ConnId, Gateway, LINGER_BYTES, entry};
use crate::buf::ByteQueue;
use crate::http::body::Decoder;
use crate::http::head::{self, BodyFraming, FramingError, Head, HeadLimits, MAX_HEADERS, Version};
use crate::http::reply::{CONTINUE, Persistence, Reply};
use crate::sse::Framing;
use crate::time::Time;

/// What is to come of a request whose head is read.
enum Step {
    /// So many bytes were used up; look on.
    Used(usize),
    /// So many bytes were used up; more must come, or something must happen, before the rest.
    Wait(usize),
}

impl<S> Gateway<S> {
    /// Serves the requests at the front of `bytes` and gives the number of bytes used up.
    pub(super) fn serve(&mut self, id: ConnId, bytes: &[u8], now: Time) -> usize {
        let mut at = 0;
        loop {
            let max_unread = self.settings.limits.max_unread_answer;
            let Some(conn) = self.conn(id) else {
                return at;
            };
            if conn.out.len() > max_unread && matches!(conn.state, State::Reading { .. }) {
                if !std::mem::replace(&mut conn.is_paused, true) {
                    self.journal.limit(Limit::UnreadAnswers, None, now);
                }
                return at;
            }
            let step = match conn.state {
                State::Reading { .. } => self.read_head(id, &bytes[at..], now),
                State::ReadingBody(_) => self.read_body(id, &bytes[at..], now),
                _ => return at,
            };
            match step {
                Step::Used(n) => at += n,
                Step::Wait(n) => return at + n,
            }
        }
    }

    /// Serves what was kept because it came too early.
    pub(super) fn serve_kept(&mut self, id: ConnId, now: Time) {
        let Some(conn) = self.conn(id) else {
            return;
        };
        let mut kept = conn.input.take();
        let used = self.serve(id, kept.bytes(), now);
        kept.consume(used, &mut self.spares);
        match entry(&mut self.conns, id) {
            Some(conn)
                if matches!(
                    conn.state,
                    State::Finishing { .. } | State::Lingering { .. } | State::Closed
                ) =>
            {
                let discarded = kept.len();
                kept.clear(&mut self.spares);
                self.discard(id, discarded);
            }
            Some(conn) => {
                conn.input.put_back(kept, &mut self.spares);
                conn.input.fit(&mut self.spares);
                if conn.is_eof && !conn.is_paused && matches!(conn.state, State::Reading { .. }) {
                    // What is left will never be a request.
                    conn.input.clear(&mut self.spares);
                    conn.state = State::Finishing {
                        is_stream: false,
                        discarded: 0,
                    };
                }
            }
            None => kept.clear(&mut self.spares),
        }
        self.trim_inbound(id, now);
    }

    /// Does with bytes that cannot be served now what the connection's state asks for.
    pub(super) fn keep_rest(&mut self, id: ConnId, rest: &[u8], now: Time) {
        let limits = &self.settings.limits;
        let max_discarded = limits.max_discarded;
        let Some(conn) = entry(&mut self.conns, id) else {
            return;
        };
        if rest.is_empty() {
            return;
        }
        match &mut conn.state {
            State::Reading { .. } | State::ReadingBody(_) | State::Sending => {
                conn.input.push(rest, &mut self.spares);
                conn.input.fit(&mut self.spares);
            }
            State::AwaitingCallback(_) => {
                conn.input.push(rest, &mut self.spares);
                conn.input.fit(&mut self.spares);
                if conn.input.len() > max_discarded {
                    self.drop_callback(id, Limit::Discarded, now);
                }
            }
            State::Streaming(stream) => {
                let total = stream.discarded as usize + rest.len();
                stream.discarded = u32::try_from(total).unwrap_or(u32::MAX);
                if total > max_discarded {
                    self.drop_stream(id, Limit::Discarded, now);
                }
            }
            State::Finishing { .. } | State::Lingering { .. } | State::Closed => {
                self.discard(id, rest.len());
            }
        }
    }

    pub(super) fn keep(&mut self, id: ConnId, bytes: &[u8]) {
        if let Some(conn) = entry(&mut self.conns, id) {
            conn.input.push(bytes, &mut self.spares);
        }
    }

    /// Counts bytes that are read only so that no reset destroys the answer before them.
    fn discard(&mut self, id: ConnId, n: usize) {
        let Some(conn) = self.conn(id) else {
            return;
        };
        if let State::Finishing { discarded, .. } | State::Lingering { discarded, .. } =
            &mut conn.state
        {
            *discarded += n;
            if *discarded > LINGER_BYTES {
                self.close(id);
            }
        }
    }

    /// Goes on with a connection whose peer has read its answers.
    pub(super) fn resume(&mut self, id: ConnId, now: Time) {
        let half = self.settings.limits.max_unread_answer / 2;
        let Some(conn) = self.conn(id) else {
            return;
        };
        if !conn.is_paused || conn.out.len() > half {
            return;
        }
        conn.is_paused = false;
        self.serve_kept(id, now);
        if self.wants_input(id) {
            self.effects.push_back(super::Effect::Read(id));
        }
    }

    fn head_limits(&self) -> HeadLimits {
        HeadLimits {
            bytes: self.settings.limits.max_head,
            headers: self.settings.limits.max_headers,
        }
    }

    fn read_head(&mut self, id: ConnId, bytes: &[u8], now: Time) -> Step {
        let limits = self.head_limits();
        let Some(conn) = self.conn(id) else {
            return Step::Wait(0);
        };
        let State::Reading {
            scan,
            since,
            is_begun,
        } = &mut conn.state
        else {
            return Step::Wait(0);
        };
        if bytes.is_empty() {
            return Step::Wait(0);
        }
        if !*is_begun {
            // Empty lines before a request are not its first bytes (RFC 9112, section 2.2).
            match bytes {
                [b'\r', b'\n', ..] => return Step::Used(2),
                [b'\r'] => return Step::Wait(0),
                _ => {}
            }
            *is_begun = true;
            *since = now;
        }
        let since = *since;
        let length = match scan.find(bytes, limits) {
            Ok(None) => return Step::Wait(0),
            Ok(Some(length)) => length,
            Err(error) => {
                conn.asked.is_head = bytes.starts_with(b"HEAD ");
                self.refuse_framing(id, error, now);
                return Step::Wait(bytes.len());
            }
        };
        conn.is_new = false;
        let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let step = head::parse(&bytes[..length], limits, &mut room)
            .and_then(|head| self.take_head(id, &head, &bytes[length..], since, now));
        match step {
            Ok(used) => Step::Used(length + used),
            Err(error) => {
                if let Some(conn) = self.conn(id) {
                    conn.asked.is_head = bytes.starts_with(b"HEAD ");
                }
                self.refuse_framing(id, error, now);
                Step::Wait(bytes.len())
            }
        }
    }

    /// Starts on a request; gives the number of bytes of `rest` that were its body.
    fn take_head(
        &mut self,
        id: ConnId,
        head: &Head<'_, '_>,
        rest: &[u8],
        since: Time,
        now: Time,
    ) -> Result<usize, FramingError> {
        let limits = &self.settings.limits;
        let decoder = Decoder::new(head.body, limits.max_body, limits.max_head)?;
        let asked = Asked {
            persistence: match (head.keep_alive, head.version) {
                (true, Version::Http11) => Persistence::KeepAlive,
                (true, Version::Http10) => Persistence::KeepAliveHttp10,
                (false, _) => Persistence::Close,
            },
            is_head: head.method == "HEAD",
        };
        let Some(conn) = self.conn(id) else {
            return Ok(0);
        };
        conn.asked = asked;
        let scope = conn.scope;
        let route = routes::route(scope, head.method, head.path);
        if route == Route::Send
            && !head.is_encoded
            && !head.expects_continue
            && let BodyFraming::Length(length) = head.body
            && length <= rest.len() as u64
        {
            // The whole request is here: nothing is copied, nothing is kept.
            let body = &rest[..length as usize];
            self.send(id, body, now);
            return Ok(body.len());
        }
        let plan = self.plan(route, head, now);
        if decoder.is_done() {
            self.carry_out(id, plan, &[], now);
            return Ok(0);
        }
        if head.expects_continue {
            if let Plan::Answer(answer) = plan {
                // The client has not been asked for the body; whether it sends it all the same
                // cannot be known, so nothing that follows can be trusted to be a request.
                self.answer(id, &answer.last(), now);
                return Ok(0);
            }
            self.push(id, CONTINUE, now);
        }
        let kept = match &plan {
            Plan::Connect(_) => {
                let fields = head.headers.iter();
                head.target.len()
                    + fields
                        .map(|it| it.name.len() + it.value.len())
                        .sum::<usize>()
            }
            _ => 0,
        };
        if let Some(conn) = self.conn(id) {
            conn.state = State::ReadingBody(Box::new(BodyUnderWay {
                decoder,
                content: ByteQueue::default(),
                plan,
                kept,
                since,
            }));
        }
        Ok(0)
    }

    fn plan(&mut self, route: Route, head: &Head<'_, '_>, now: Time) -> Plan {
        match route {
            Route::Stream => match self.fields.keep(head) {
                Some(request) => Plan::Connect(StreamRequest {
                    request,
                    framing: match head.version {
                        Version::Http11 => Framing::Chunked,
                        Version::Http10 => Framing::Plain,
                    },
                }),
                None => {
                    self.journal.limit(Limit::Headers, None, now);
                    Plan::Answer(routes::OVERLOADED)
                }
            },
            Route::Send if head.is_encoded => {
                let answer = routes::UNSUPPORTED_ENCODING;
                self.journal.send_refused(answer.code, now);
                Plan::Answer(answer)
            }
            Route::Send => Plan::Send,
            Route::Health => Plan::Health,
            Route::Ready => Plan::Ready,
            Route::Refuse(answer) => Plan::Answer(answer),
        }
    }

    fn read_body(&mut self, id: ConnId, bytes: &[u8], now: Time) -> Step {
        let Some(conn) = entry(&mut self.conns, id) else {
            return Step::Wait(0);
        };
        let State::ReadingBody(body) = &mut conn.state else {
            return Step::Wait(0);
        };
        let is_needed = matches!(body.plan, Plan::Send);
        let (content, spares) = (&mut body.content, &mut self.spares);
        let used = body.decoder.decode(bytes, |part| {
            if is_needed {
                content.push(part, spares);
            }
        });
        let is_done = body.decoder.is_done();
        let used = match used {
            Ok(used) => used,
            Err(error) => {
                self.refuse_framing(id, error, now);
                return Step::Wait(bytes.len());
            }
        };
        if !is_done {
            body.content.fit(&mut self.spares);
            self.trim_inbound(id, now);
            return Step::Wait(used);
        }
        if let State::ReadingBody(body) = std::mem::replace(&mut conn.state, State::reading(now)) {
            // The body is under way no more: an event is not to count beside the send it came in.
            self.charge(id);
            let BodyUnderWay {
                mut content, plan, ..
            } = *body;
            self.carry_out(id, plan, content.bytes(), now);
            content.clear(&mut self.spares);
        }
        Step::Used(used)
    }

    /// Does what a request asks for, now that all of it has arrived.
    fn carry_out(&mut self, id: ConnId, plan: Plan, content: &[u8], now: Time) {
        match plan {
            Plan::Send => self.send(id, content, now),
            Plan::Connect(what) => self.connect(id, what, now),
            Plan::Health => self.answer_json(id, 200, "{\"status\":\"ok\"}", now),
            Plan::Ready => self.answer_ready(id, now),
            Plan::Answer(answer) => self.answer(id, &answer, now),
        }
    }

    fn answer_ready(&mut self, id: ConnId, now: Time) {
        let (status, json) = match (self.is_draining, self.settings.is_configured) {
            (false, true) => (200, "{\"status\":\"ready\",\"configured\":true}"),
            (true, true) => (503, "{\"status\":\"not_ready\",\"configured\":true}"),
            (_, false) => (503, "{\"status\":\"not_ready\",\"configured\":false}"),
        };
        self.answer_json(id, status, json, now);
    }

    // ---- answers ----

    /// Answers with one of the contract's errors.
    pub(super) fn answer(&mut self, id: ConnId, answer: &Answer, now: Time) {
        let (message, detail, code) = (answer.message, answer.detail, answer.code);
        let json =
            format!("{{\"error\":{{\"message\":\"{message}{detail}\",\"code\":\"{code}\"}}}}");
        self.answer_with(id, answer.status, answer.fields, &json, answer.is_last, now);
    }

    /// Answers with a JSON body on a connection that may stay.
    pub(super) fn answer_json(&mut self, id: ConnId, status: u16, json: &str, now: Time) {
        self.answer_with(id, status, "", json, false, now);
    }

    fn answer_with(
        &mut self,
        id: ConnId,
        status: u16,
        fields: &str,
        json: &str,
        is_last: bool,
        now: Time,
    ) {
        let Some(conn) = entry(&mut self.conns, id).filter(|conn| !conn.is_closed()) else {
            return;
        };
        let persistence = if is_last {
            Persistence::Close
        } else {
            conn.asked.persistence
        };
        let reply = Reply {
            status,
            fields,
            json,
            is_head_only: conn.asked.is_head,
        };
        if conn.out.is_empty() {
            conn.stalled_since = now;
        }
        let out = conn.out.tail(reply.room(), &mut self.spares);
        reply.write(out, &self.date, persistence);
        conn.asked = Asked::default();
        conn.state = if persistence == Persistence::Close {
            State::Finishing {
                is_stream: false,
                discarded: 0,
            }
        } else {
            State::reading(now)
        };
    }

    /// Appends bytes to a connection's output.
    pub(super) fn push(&mut self, id: ConnId, bytes: &[u8], now: Time) {
        if let Some(conn) = entry(&mut self.conns, id) {
            if conn.out.is_empty() {
                conn.stalled_since = now;
            }
            conn.out.push(bytes, &mut self.spares);
        }
    }

    fn refuse_framing(&mut self, id: ConnId, error: FramingError, now: Time) {
        self.journal.framing_refused(error, now);
        self.answer(id, &routes::framing_error(error), now);
    }

    pub(super) fn request_timed_out(&mut self, id: ConnId, now: Time) {
        self.journal.limit(Limit::RequestTime, None, now);
        self.answer(id, &routes::REQUEST_TIMEOUT, now);
        self.drop_input(id);
    }

    pub(super) fn drop_input(&mut self, id: ConnId) {
        if let Some(conn) = entry(&mut self.conns, id) {
            conn.input.clear(&mut self.spares);
        }
        self.charge(id);
    }
}
