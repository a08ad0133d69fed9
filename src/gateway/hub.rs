//! What all connections share.

use std::collections::VecDeque;
use std::fmt;

use uuid::Uuid;

use super::backlog::Backlogs;
use super::calls::Calls;
use super::channels::Channels;
use super::compose::Batch;
use super::eviction::{Eviction, Held};
use super::fanout::FanOuts;
use super::frame::Shared;
use super::head_fields::HeadFields;
use super::history::History;
use super::journal::Journal;
use super::replay::Replays;
use super::retained::Retained;
use super::send::PendingSend;
use super::{ConnId, Effect, Settings};
use crate::buf::Spares;
use crate::callback::{Action, Job, JobId, Reason};
use crate::header_store::Request;
use crate::http::reply::Date;
use crate::time::Time;
use crate::tokens::{self, TokenIndex};
use crate::wheel::Wheel;

/// Everything that is no connection's own. A function that takes a connection and the hub touches
/// no other connection.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) settings: Settings,
    pub(super) date: Date,
    pub(super) random: Random,
    pub(super) journal: Journal,
    /// No new stream is opened.
    pub(super) is_draining: bool,
    /// What the shell has to do, in its order.
    pub(super) effects: VecDeque<Effect>,
    /// Connections whose kept input is to be served once the effects so far are carried out, and
    /// the time that it is then.
    pub(super) ready: VecDeque<(ConnId, Time)>,
    /// Closed connections whose slots are freed after the batch of readiness.
    pub(super) dead: Vec<ConnId>,
    /// One timer for each connection, by its slot.
    pub(super) wheel: Wheel,
    /// Who has which token: streams, open or awaiting the backend's word.
    pub(super) streams: TokenIndex<ConnId>,
    pub(super) calls: Calls,
    /// At most one: the effects of a send are carried out before the next request is served.
    pub(super) pending_send: Option<PendingSend>,
    /// Bytes held for all connections, each its own.
    pub(super) held: Held,
    /// Bytes held for several of them.
    pub(super) shared: Shared,
    pub(super) channels: Channels,
    pub(super) fan_outs: FanOuts,
    pub(super) history: History,
    pub(super) replays: Replays,
    pub(super) batch: Batch,
    pub(super) retained: Retained,
    /// Connections whose looks wait for their turn.
    pub(super) looks: VecDeque<ConnId>,
    pub(super) eviction: Eviction,
    pub(super) fields: HeadFields,
    pub(super) spares: Spares,
    pub(super) backlogs: Backlogs,
}

impl Hub {
    pub(super) fn new(settings: Settings, mut random: Random) -> Hub {
        let limits = &settings.limits;
        let history = History::new(limits.history, limits.history_time, random.number());
        Hub {
            date: *b"Thu, 01 Jan 1970 00:00:00 GMT",
            random,
            journal: Journal::default(),
            is_draining: false,
            effects: VecDeque::new(),
            ready: VecDeque::new(),
            dead: Vec::new(),
            wheel: Wheel::default(),
            streams: TokenIndex::default(),
            calls: Calls::default(),
            pending_send: None,
            held: Held::default(),
            shared: Shared::default(),
            channels: Channels::default(),
            fan_outs: FanOuts::default(),
            history,
            replays: Replays::default(),
            batch: Batch::default(),
            retained: Retained::default(),
            looks: VecDeque::new(),
            eviction: Eviction::default(),
            fields: HeadFields::new(settings.limits.max_kept_headers),
            spares: Spares::default(),
            backlogs: Backlogs::default(),
            settings,
        }
    }

    /// Bytes of memory that are held towards clients.
    pub(super) fn outbound(&self) -> usize {
        self.held.outbound + self.shared.memory()
    }

    pub(super) fn effect(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// Asks the backend about a stream; the result is owed to whoever waits for this job.
    pub(super) fn ask(&mut self, expires: Time, token: Uuid, request: Request) -> JobId {
        let id = self.calls.connect();
        let position = self.history.is_on();
        let position = position.then(|| Box::new(self.history.position()));
        self.effect(Effect::Call(Job {
            id,
            token,
            action: Action::Connect { expires },
            request,
            position,
        }));
        id
    }

    /// Pays an accepted token's one disconnect.
    pub(super) fn tell_gone(&mut self, token: Uuid, reason: Reason, request: Request) {
        let id = self.calls.disconnect();
        self.effect(Effect::Call(Job {
            id,
            token,
            action: Action::Disconnect { reason },
            request,
            position: None,
        }));
    }
}

/// Random bytes that nobody can foresee.
pub(super) struct Random(Box<Fill>);

type Fill = dyn FnMut(&mut [u8]);

impl Random {
    pub(super) fn new(fill: impl FnMut(&mut [u8]) + 'static) -> Random {
        Random(Box::new(fill))
    }

    /// A number that nobody else has.
    fn number(&mut self) -> u64 {
        let mut bytes = [0; 8];
        (self.0)(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number from the first to the last, each as likely as the others.
    pub(super) fn within(&mut self, (first, last): (u32, u32)) -> u32 {
        let span = u64::from(last - first) + 1;
        // Of so many numbers to so few places no place gets more than its part, by any measure.
        first + (self.number() % span) as u32
    }

    /// A token that was never issued before.
    pub(super) fn token(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        (self.0)(&mut bytes);
        tokens::from_random(bytes)
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}
