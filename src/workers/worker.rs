//! What one worker does with a job, and what all workers share.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use slab::Slab;
use ureq::Agent;

use super::CallbackSettings;
use super::dial::{Dial, Inner, Watch};
use super::exchange::Exchange;
use super::fields::Fields;
use super::lane::{Lane, Seat};
use super::resolver::Lookup;
use crate::callback::{Action, CallbackResult, Job, Outcome};

/// How long a connect callback goes on after its client had the 504: a 2xx that comes so late is
/// still paid by a disconnect (contract, section 2, lifecycle law).
const GRACE: Duration = Duration::from_secs(1);
/// No exchange lasts longer, whatever was asked; the clock cannot add much greater spans.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
#[cfg(test)]
pub(super) type Hook = Box<dyn Fn(&Job) + Send + Sync>;

/// What all workers use together.
pub(super) struct Shared {
    pub(super) settings: CallbackSettings,
    pub(super) epoch: Instant,
    pub(super) lookup: Arc<Lookup>,
    pub(super) fields: Arc<Fields>,
    pub(super) connector: Arc<Inner>,
    pub(super) outbox: Outbox,
    pub(super) agents: Agents,
    /// Runs before each exchange.
    #[cfg(test)]
    pub(super) hook: std::sync::OnceLock<Hook>,
}

impl Shared {
    /// A worker's life.
    pub(super) fn work(&self, lane: &Lane) {
        let seat = Arc::new(Seat::default());
        let mut own = None;
        let mut rested = Instant::now();
        let (mut back, mut service) = (None, None);
        while let Some((job, taken)) = lane.take(&seat, back, rested, service) {
            back = Some(taken);
            let outcome = self.perform(&mut own, &job);
            service = None;
            if !matches!(outcome, Outcome::NeverSent) {
                rested = Instant::now();
                service = Some(rested - taken);
            }
            self.outbox.post(job, outcome, service.unwrap_or_default());
        }
        self.outbox.shrink();
    }

    fn perform<'a>(&'a self, own: &mut Option<Own<'a>>, job: &Job) -> Outcome {
        let Some(limit) = self.limit(job) else {
            return Outcome::NeverSent;
        };
        let call = AssertUnwindSafe(|| {
            #[cfg(test)]
            if let Some(hook) = self.hook.get() {
                hook(job);
            }
            let own = own.get_or_insert_with(|| Own::new(self));
            own.exchange.run(job, limit)
        });
        let outcome = panic::catch_unwind(call);
        outcome.unwrap_or_else(|_| {
            // Nobody knows in what state the panic left the agent.
            *own = None;
            Outcome::Failed("the worker panicked".to_owned())
        })
    }

    /// How long the exchange may last; `None` when its time is over already.
    pub(super) fn limit(&self, job: &Job) -> Option<Duration> {
        let limit = match job.action {
            Action::Connect { expires } => {
                let left = Duration::from_millis(expires.0)
                    .checked_sub(self.epoch.elapsed())
                    .filter(|left| !left.is_zero())?;
                left + GRACE
            }
            Action::Disconnect { .. } => self.settings.disconnect_timeout,
        };
        Some(limit.min(LONGEST))
    }
}

/// A worker's exchange, and its agent's entry in the list of those to interrupt.
struct Own<'a> {
    exchange: Exchange,
    agents: &'a Agents,
    entry: usize,
}

impl<'a> Own<'a> {
    fn new(shared: &'a Shared) -> Own<'a> {
        let dial = Dial {
            inner: Arc::clone(&shared.connector),
            lookup: Arc::clone(&shared.lookup),
            watch: Arc::new(Watch::default()),
        };
        let settings = &shared.settings;
        let fields = Arc::clone(&shared.fields);
        let exchange = Exchange::new(settings.url.clone(), settings.worker_idle, dial, fields);
        Own {
            entry: shared.agents.enter(exchange.agent()),
            agents: &shared.agents,
            exchange,
        }
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        self.agents.leave(self.entry);
    }
}

/// The agents of all workers, for interrupting their calls.
#[derive(Default)]
pub(super) struct Agents(Mutex<AgentList>);

#[derive(Default)]
struct AgentList {
    abandoned: bool,
    agents: Slab<Agent>,
}

impl Agents {
    fn lock(&self) -> MutexGuard<'_, AgentList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, agent: Agent) -> usize {
        let mut list = self.lock();
        if list.abandoned {
            agent.clone().shutdown();
        }
        list.agents.insert(agent)
    }

    fn leave(&self, entry: usize) {
        // The last hold on an agent closes its connection: not under the lock.
        let mut list = self.lock();
        let agent = list.agents.try_remove(entry);
        if list.agents.is_empty() {
            // For the reason of `Outbox::shrink`.
            list.agents = Slab::new();
        }
        drop(list);
        drop(agent);
    }

    pub(super) fn abandon(&self) {
        let agents: Vec<Agent> = {
            let mut list = self.lock();
            list.abandoned = true;
            list.agents.iter().map(|(_, agent)| agent.clone()).collect()
        };
        agents.into_iter().for_each(Agent::shutdown);
    }
}

/// The channel of the results to the event loop. As many wait as jobs were submitted, which the
/// lanes bound.
pub(super) struct Outbox {
    state: Mutex<Posted>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Posted {
    results: VecDeque<CallbackResult>,
    /// A wake is out that the loop has not answered by taking all.
    woken: bool,
}

/// Results for which an empty channel keeps memory.
const KEPT: usize = 256;

impl Outbox {
    pub(super) fn new(wake: Box<dyn Fn() + Send + Sync>) -> Outbox {
        Outbox {
            state: Mutex::default(),
            wake,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Posted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn post(&self, job: Job, outcome: Outcome, took: Duration) {
        let result = CallbackResult {
            id: job.id,
            token: job.token,
            action: job.action,
            outcome,
            took,
        };
        let mut posted = self.lock();
        posted.results.push_back(result);
        let was_woken = std::mem::replace(&mut posted.woken, true);
        drop(posted);
        if !was_woken {
            (self.wake)();
        }
    }

    /// The next result; only when there is none does the next one wake the loop.
    pub(super) fn take(&self) -> Option<CallbackResult> {
        let mut posted = self.lock();
        let result = posted.results.pop_front();
        if result.is_none() {
            posted.woken = false;
            if posted.results.capacity() > KEPT {
                posted.results = VecDeque::new();
            }
        }
        result
    }

    /// Gives up the memory of an empty channel, when a worker leaves: it lies in the heap of whichever
    /// worker it has grown for, that may be the event loop's too, and there what has grown amid a
    /// crowd and stays keeps all that is free below it.
    fn shrink(&self) {
        let mut posted = self.lock();
        if posted.results.is_empty() {
            posted.results = VecDeque::new();
        }
    }
}
