//! The workers: threads that make the callbacks, so that the event loop never waits for the
//! backend (contract, sections 2, 3 and 6).
//!
//! Two lanes, one for each kind of callback, so that connects that hang cannot delay disconnects.
//! A thread is started when those that run are too few for a job that comes, and ends after a while
//! without work; an idle gateway has none. Each worker has an HTTP agent of its own with at most one kept
//! connection, which ends with the worker: that is what closes idle connections.

mod dial;
mod exchange;
mod failure;
mod fields;
mod front;
mod growth;
mod lane;
mod resolver;
mod socket;
#[cfg(test)]
mod tests;
mod worker;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use uuid::Uuid;

use self::dial::Inner;
use self::fields::Fields;
use self::lane::{Bounds, Lane};
use self::resolver::Lookup;
use self::worker::{Agents, Outbox, Shared};
use crate::callback::{Action, CallbackResult, Job, JobId, Outcome};
use crate::host;

/// Bytes of stack per worker.
const STACK: usize = if cfg!(feature = "tls") {
    512 * 1024
} else {
    256 * 1024
};

/// What the workers need to know; nothing of it changes while the process lives, but for
/// [`Workers::set_authorization`].
#[derive(Clone)]
pub struct CallbackSettings {
    /// The callback URL, `http` or (with the feature `tls`) `https`, used verbatim.
    pub url: Uri,
    /// The Unix socket to connect to, in place of the URL's host.
    pub socket: Option<PathBuf>,
    /// Names this process to the backend (contract, section 13).
    pub boot: Uuid,
    /// Where the backend reaches this gateway, good as a field's value.
    pub gateway_url: Option<String>,
    /// The `Authorization` field, good as one's value. It takes the place of what a user and a password
    /// in the URL come to.
    pub authorization: Option<String>,
    /// The most connect callbacks at once.
    pub connect_workers: usize,
    /// The most connect callbacks that wait for a worker.
    pub connect_queue: usize,
    /// The most disconnect callbacks at once.
    pub disconnect_workers: usize,
    /// The most disconnect callbacks that wait for a worker.
    pub disconnect_queue: usize,
    /// The longest that a disconnect callback may take from its start on.
    pub disconnect_timeout: Duration,
    /// How long a worker, and its connection to the backend, stays without work.
    pub worker_idle: Duration,
}

/// The event loop's hold on the workers; dropping it abandons them.
pub struct Workers {
    connects: Arc<Lane>,
    disconnects: Arc<Lane>,
    shared: Arc<Shared>,
}

impl Workers {
    /// Starts no thread.
    ///
    /// `epoch` is `Time(0)`. `wake` is called, on a worker's thread, when results have come and
    /// none had since [`Workers::try_result`] last said `None`; it must neither block nor panic.
    pub fn new(
        settings: CallbackSettings,
        epoch: Instant,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Workers {
        let lookup = match settings.socket {
            Some(_) => Lookup::needless(),
            None => Lookup::new(&settings.url),
        };
        Workers::with(settings, epoch, Box::new(wake), lookup)
    }

    fn with(
        settings: CallbackSettings,
        epoch: Instant,
        wake: Box<dyn Fn() + Send + Sync>,
        lookup: Lookup,
    ) -> Workers {
        let lane = |workers, queue| {
            Arc::new(Lane::new(Bounds {
                workers,
                queue,
                idle: settings.worker_idle,
            }))
        };
        Workers {
            connects: lane(settings.connect_workers, settings.connect_queue),
            disconnects: lane(settings.disconnect_workers, settings.disconnect_queue),
            shared: Arc::new(Shared {
                lookup: Arc::new(lookup),
                fields: Arc::new(Fields::new(&settings)),
                connector: Arc::new(Inner::new(settings.socket.clone())),
                outbox: Outbox::new(wake),
                settings,
                epoch,
                agents: Agents::default(),
                #[cfg(test)]
                hook: std::sync::OnceLock::new(),
            }),
        }
    }

    /// Hands a job to its lane. Every job that is taken comes back as exactly one result, unless
    /// it is withdrawn.
    ///
    /// # Errors
    /// The job comes back when the lane's queue is full (contract, section 6), when no thread
    /// could be started and none is running, and after [`Workers::abandon`].
    pub fn submit(&self, job: Job) -> Result<(), Job> {
        let (lane, name) = match job.action {
            Action::Connect { .. } => (&self.connects, "connect"),
            Action::Disconnect { .. } => (&self.disconnects, "disconnect"),
        };
        lane.submit(job, || self.start(lane, name))
    }

    fn start(&self, lane: &Arc<Lane>, name: &'static str) -> io::Result<()> {
        let (lane, shared) = (Arc::clone(lane), Arc::clone(&self.shared));
        host::spawn_apart(name, STACK, Box::new(move || shared.work(&lane)))
    }

    /// Wakes or starts more threads where jobs have waited too long; gives the time after which to call it
    /// again, `None` for when a job is submitted.
    pub fn tend(&self) -> Option<Duration> {
        let tend = |lane: &Arc<Lane>, name| lane.tend(|| self.start(lane, name));
        let connects = tend(&self.connects, "connect");
        let disconnects = tend(&self.disconnects, "disconnect");
        [connects, disconnects].into_iter().flatten().min()
    }

    /// The `Authorization` field of the calls that begin from now on.
    pub fn set_authorization(&self, value: &str) {
        self.shared.fields.set_authorization(value);
    }

    /// Takes back a connect that no worker has begun: true, and no result will come. False: its
    /// result will come, or has come.
    pub fn withdraw(&self, id: JobId) -> bool {
        self.connects.withdraw(id)
    }

    /// Connect and disconnect callbacks that no worker has begun.
    pub fn queued(&self) -> [usize; 2] {
        [&self.connects, &self.disconnects].map(|lane| lane.queued())
    }

    /// The next result, if one is there. The loop must call this until it says `None`: only then
    /// does the next result wake it again.
    pub fn try_result(&self) -> Option<CallbackResult> {
        self.shared.outbox.take()
    }

    /// For the process' exit: takes no more jobs, gives the queued ones back as
    /// [`Outcome::NeverSent`], and interrupts the calls that are blocked, whose results still
    /// come. Waits for nothing; a TCP handshake or a name lookup under way is left to itself.
    pub fn abandon(&self) {
        for lane in [&self.connects, &self.disconnects] {
            for job in lane.close() {
                self.shared
                    .outbox
                    .post(job, Outcome::NeverSent, Duration::ZERO);
            }
        }
        self.shared.lookup.abandon();
        self.shared.agents.abandon();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.abandon();
    }
}
