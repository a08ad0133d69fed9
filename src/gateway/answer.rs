//! Answers: bytes for whoever asked.

use super::conn::{Asked, Conn, State};
use super::hub::Hub;
use super::routes::Answer;
use crate::http::reply::{Persistence, Reply};
use crate::time::Time;

impl<S> Conn<S> {
    /// Answers with one of the contract's errors.
    pub(super) fn answer(&mut self, hub: &mut Hub, answer: &Answer, now: Time) {
        let (message, detail, code) = (answer.message, answer.detail, answer.code);
        let json =
            format!("{{\"error\":{{\"message\":\"{message}{detail}\",\"code\":\"{code}\"}}}}");
        let persistence = if answer.is_last {
            Persistence::Close
        } else {
            self.asked.persistence
        };
        self.reply(hub, answer.status, answer.fields, &json, persistence, now);
    }

    /// Answers 200, or what else the status says, with a JSON body on a connection that may stay.
    pub(super) fn answer_json(&mut self, hub: &mut Hub, status: u16, json: &str, now: Time) {
        self.reply(hub, status, "", json, self.asked.persistence, now);
    }

    fn reply(
        &mut self,
        hub: &mut Hub,
        status: u16,
        fields: &str,
        json: &str,
        persistence: Persistence,
        now: Time,
    ) {
        let reply = Reply {
            status,
            fields,
            json,
            is_head_only: self.asked.is_head,
        };
        if self.out.is_empty() {
            self.stalled_since = now;
        }
        let out = self.out.tail(reply.room(), &mut hub.spares);
        reply.write(out, &hub.date, persistence);
        self.asked = Asked::default();
        self.state = match persistence {
            Persistence::Close => State::LAST_ANSWER,
            _ => State::reading(now),
        };
    }
}
