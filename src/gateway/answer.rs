//! Answers: bytes for whoever asked, and refusals in the form that he asked for.

use super::conn::{Asked, Conn, State};
use super::hub::Hub;
use super::routes::Answer;
use crate::http::reply::{self, JSON, NO_CONTENT, Persistence, Reply, STREAM_HEAD_BYTES};
use crate::sse::{self, Fields, Framing};
use crate::time::Time;
use crate::wheel::Tick;

impl<S> Conn<S> {
    /// Answers with one of the contract's errors.
    pub(super) fn answer(&mut self, hub: &mut Hub, answer: &Answer, now: Time) {
        hub.journal.counters.refused(answer.code);
        match self.asked.refused_by {
            Some(framing) => self.refuse_by_stream(hub, answer, framing, now),
            None => self.answer_error(hub, answer, now),
        }
    }

    /// The same to a send, which is counted elsewhere.
    pub(super) fn answer_error(&mut self, hub: &mut Hub, answer: &Answer, now: Time) {
        let (message, detail, code) = (answer.message, answer.detail, answer.code);
        let json =
            format!("{{\"error\":{{\"message\":\"{message}{detail}\",\"code\":\"{code}\"}}}}");
        let persistence = if answer.is_last {
            Persistence::Close
        } else {
            self.asked.persistence
        };
        let reply = Reply {
            status: answer.status,
            fields: answer.fields,
            media_type: JSON,
            body: &json,
            is_head_only: self.asked.is_head,
        };
        self.reply(hub, &reply, persistence, now);
    }

    /// Answers 200, or what else the status says, with a JSON body on a connection that may stay.
    pub(super) fn answer_json(&mut self, hub: &mut Hub, status: u16, json: &str, now: Time) {
        self.answer_with(hub, status, JSON, json, now);
    }

    /// The same with a body of another type.
    pub(super) fn answer_with(
        &mut self,
        hub: &mut Hub,
        status: u16,
        media_type: &str,
        body: &str,
        now: Time,
    ) {
        let reply = Reply {
            status,
            fields: "",
            media_type,
            body,
            is_head_only: self.asked.is_head,
        };
        self.reply(hub, &reply, self.asked.persistence, now);
    }

    /// Tells a browser, by these fields, what its page may do.
    pub(super) fn answer_preflight(&mut self, hub: &mut Hub, fields: &str, now: Time) {
        let reply = Reply {
            status: NO_CONTENT,
            fields,
            media_type: "",
            body: "",
            is_head_only: false,
        };
        self.reply(hub, &reply, self.asked.persistence, now);
    }

    /// Refuses a stream by one that says why, and when to come again, and ends (contract, section 14):
    /// an `EventSource` gives up on every answer that is no stream.
    fn refuse_by_stream(&mut self, hub: &mut Hub, answer: &Answer, framing: Framing, now: Time) {
        let (status, code) = (answer.status, answer.code);
        let (message, detail) = (answer.message, answer.detail);
        let json = format!(
            "{{\"status\":{status},\"code\":\"{code}\",\"message\":\"{message}{detail}\"}}"
        );
        let event = Fields {
            name: "rejected",
            id: None,
            retry: Some(hub.random.within(answer.pause())),
            data: json.into(),
        };
        if self.out.is_empty() {
            self.stalled_since = Tick::at(now);
        }
        let cors = self.asked.page.cors(&hub.settings);
        let room = STREAM_HEAD_BYTES + cors.room();
        let out = self.out.tail(room, &mut hub.spares);
        reply::write_stream_head(out, &hub.date, framing, cors);
        sse::write_event(out, framing, &event);
        out.extend_from_slice(sse::end(framing));
        self.state = State::Finishing {
            stream: Some(framing),
            is_refusal: true,
            discarded: 0,
        };
    }

    fn reply(&mut self, hub: &mut Hub, reply: &Reply<'_>, persistence: Persistence, now: Time) {
        if self.out.is_empty() {
            self.stalled_since = Tick::at(now);
        }
        let cors = self.asked.page.cors(&hub.settings);
        let room = reply.room() + cors.room();
        let out = self.out.tail(room, &mut hub.spares);
        reply.write(out, &hub.date, persistence, cors);
        self.asked = Asked::default();
        self.state = match persistence {
            Persistence::Close => State::LAST_ANSWER,
            _ => State::reading(now),
        };
    }
}
