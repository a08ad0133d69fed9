//! The *task service*: work that takes a while, told to the stream of the task (`task:ID`), which
//! ends with it, and to the stream of its owner (`client:ID`), which stays.
//!
//! Laws: the events of a task are sent by the task's own thread, one behind the other, which is
//! what keeps their order. An end is noted first and sent then; a subscriber is entered as a
//! connection first and looks for an end then. So one of the two sees the other, and
//! [`Connections::finish`] lets only one of them act.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::connections::Connections;
use super::gateway::Event;

/// Most tasks that run at once; each has a thread.
const MAX_RUNNING: usize = 100;

/// Most tasks whose end is remembered for those who subscribe late.
const MAX_ENDED: usize = 1000;

/// Most tasks that are listed for one owner, the youngest.
const MAX_LISTED: usize = 100;

/// Longest that a task may take, in seconds.
const MAX_SECONDS: f64 = 3600.0;

/// Longest name of a task, in bytes.
const MAX_NAME: usize = 200;

/// Between two progress events, in percent.
const STEP: usize = 10;

/// Where a task fails that is to fail, in percent.
const FAILS_AT: usize = 50;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Work {
    name: String,
    seconds: f64,
    fails: bool,
}

impl Work {
    /// From the body of `POST /tasks`, in which every field is optional; a sentence for people if
    /// that cannot be.
    pub(crate) fn parse(body: &Json) -> Result<Work, String> {
        let name = match &body["name"] {
            Json::Null => "task",
            Json::String(name) if name.len() <= MAX_NAME => name,
            _ => return Err(format!("name must be a string of {MAX_NAME} bytes at most")),
        };
        let seconds = match &body["seconds"] {
            Json::Null => Some(5.0),
            seconds => seconds.as_f64().filter(|s| (0.0..=MAX_SECONDS).contains(s)),
        };
        let fails = match &body["fails"] {
            Json::Null => Some(false),
            fails => fails.as_bool(),
        };
        Ok(Work {
            name: name.to_owned(),
            seconds: seconds
                .ok_or_else(|| format!("seconds must be a number from 0 to {MAX_SECONDS}"))?,
            fails: fails.ok_or("fails must be true or false")?,
        })
    }
}

/// How a task ended: its last event, and why its stream is closed.
#[derive(Clone, Debug, PartialEq)]
struct End {
    event: Event,
    reason: &'static str,
}

/// What is known of a task.
struct Task {
    number: u64,
    owner: Option<String>,
    name: String,
    percent: usize,
    /// `None` while it runs.
    end: Option<End>,
}

pub(crate) struct Tasks {
    connections: Arc<Connections>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    tasks: HashMap<String, Task>,
    /// How many tasks there were.
    started: u64,
    /// Those that have ended, the oldest first.
    ended: VecDeque<String>,
}

impl Tasks {
    pub(crate) fn new(connections: Arc<Connections>) -> Tasks {
        Tasks {
            connections,
            book: Mutex::default(),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a task in a thread of its own; `None` when too many run. `owner` is an identifier.
    pub(crate) fn start(self: &Arc<Self>, work: Work, owner: Option<String>) -> Option<String> {
        let task = Uuid::new_v4().to_string();
        if !self.book().begin(&task, &work, owner.as_deref()) {
            return None;
        }
        let (tasks, name) = (Arc::clone(self), task.clone());
        let run = move || tasks.run(&name, &work, owner.as_deref(), thread::sleep);
        if thread::Builder::new().spawn(run).is_err() {
            self.book().tasks.remove(&task);
            return None;
        }
        Some(task)
    }

    /// The whole life of a task; `pause` is the work.
    fn run(&self, task: &str, work: &Work, owner: Option<&str>, pause: impl Fn(Duration)) {
        let identifier = identifier(task);
        let step = Duration::from_secs_f64(work.seconds) / (100 / STEP) as u32;
        for percent in (0..=100).step_by(STEP) {
            if percent > 0 {
                pause(step);
            }
            self.book().note(task, percent);
            let event = Event {
                name: "task_progress",
                data: json!({"task": task, "name": work.name, "percent": percent}),
            };
            self.connections.send(&identifier, &event);
            owner.map(|owner| self.connections.send(owner, &event));
            if work.fails && percent >= FAILS_AT {
                break;
            }
        }
        let end = end(task, work);
        self.book().end(task, &end);
        self.finish(&identifier, &end);
        owner.map(|owner| self.connections.send(owner, &end.event));
    }

    /// Somebody has connected to a task's stream.
    pub(crate) fn subscribed(&self, task: &str) {
        let known = self.book().tasks.get(task).map(|task| task.end.clone());
        let end = match known {
            Some(None) => return,
            Some(Some(end)) => end,
            None => End {
                event: Event {
                    name: "error",
                    data: json!({"message": "there is no such task"}),
                },
                reason: "unknown_task",
            },
        };
        self.finish(&identifier(task), &end);
    }

    /// The state of an owner's tasks, the oldest first: who had no stream for a while has missed
    /// events, and asks.
    pub(crate) fn list(&self, owner: &str) -> Vec<Json> {
        let book = self.book();
        let is_owned = |task: &Task| task.owner.as_deref() == Some(owner);
        let owned = book.tasks.iter().filter(|(_, task)| is_owned(task));
        let mut owned: Vec<_> = owned.collect();
        owned.sort_unstable_by_key(|(_, task)| task.number);
        let youngest = &owned[owned.len().saturating_sub(MAX_LISTED)..];
        youngest.iter().map(|(id, task)| task.shown(id)).collect()
    }

    fn finish(&self, identifier: &str, end: &End) {
        self.connections.finish(identifier, &end.event, end.reason);
    }
}

/// The identifier of a task's stream.
fn identifier(task: &str) -> String {
    format!("task:{task}")
}

fn end(task: &str, work: &Work) -> End {
    let name = &work.name;
    if work.fails {
        let data = json!({"task": task, "name": name, "error": "it was told to fail"});
        End {
            event: Event {
                name: "task_failed",
                data,
            },
            reason: "task_failed",
        }
    } else {
        End {
            event: Event {
                name: "task_completed",
                data: json!({"task": task, "name": name}),
            },
            reason: "task_completed",
        }
    }
}

impl End {
    fn state(&self) -> &str {
        self.reason.strip_prefix("task_").unwrap_or(self.reason)
    }
}

impl Task {
    fn shown(&self, id: &str) -> Json {
        let state = self.end.as_ref().map_or("running", End::state);
        let mut shown = json!({
            "task": id, "name": self.name, "state": state, "percent": self.percent,
        });
        if let Some(error) = self
            .end
            .as_ref()
            .and_then(|end| end.event.data.get("error"))
        {
            shown["error"] = error.clone();
        }
        shown
    }
}

impl Book {
    /// False when too many tasks run.
    fn begin(&mut self, task: &str, work: &Work, owner: Option<&str>) -> bool {
        if self.tasks.len() - self.ended.len() >= MAX_RUNNING {
            return false;
        }
        self.started += 1;
        let entry = Task {
            number: self.started,
            owner: owner.map(str::to_owned),
            name: work.name.clone(),
            percent: 0,
            end: None,
        };
        self.tasks.insert(task.to_owned(), entry);
        true
    }

    /// Before the event is sent: whoever asks behind it is told no less.
    fn note(&mut self, task: &str, percent: usize) {
        if let Some(task) = self.tasks.get_mut(task) {
            task.percent = percent;
        }
    }

    fn end(&mut self, task: &str, end: &End) {
        if let Some(task) = self.tasks.get_mut(task) {
            task.end = Some(end.clone());
        }
        self.ended.push_back(task.to_owned());
        if self.ended.len() > MAX_ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.tasks.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gateway::Outcome;
    use super::super::gateway::fake::Fake;
    use super::*;

    fn tasks() -> (Arc<Fake>, Arc<Connections>, Arc<Tasks>) {
        let fake = Arc::<Fake>::default();
        let connections = Arc::new(Connections::new(Box::new(Arc::clone(&fake))));
        let tasks = Arc::new(Tasks::new(Arc::clone(&connections)));
        (fake, connections, tasks)
    }

    fn work(fails: bool) -> Work {
        Work {
            name: "n".to_owned(),
            seconds: 1.0,
            fails,
        }
    }

    /// A whole life without waiting.
    fn run(tasks: &Tasks, task: &str, fails: bool, owner: Option<&str>) {
        assert!(tasks.book().begin(task, &work(fails), owner));
        tasks.run(task, &work(fails), owner, |_| {});
    }

    #[test]
    fn work_is_read_strictly() {
        let read = |json: Json| Work::parse(&json);
        let table = [
            (json!({}), "task", 5.0, false),
            (
                json!({"name": "x", "seconds": 0, "fails": true}),
                "x",
                0.0,
                true,
            ),
            (json!({"seconds": 0.5, "more": 1}), "task", 0.5, false),
        ];
        for (json, name, seconds, fails) in table {
            let name = name.to_owned();
            assert_eq!(
                read(json),
                Ok(Work {
                    name,
                    seconds,
                    fails
                })
            );
        }
        for json in [
            json!({"name": 1}),
            json!({"name": "x".repeat(MAX_NAME + 1)}),
            json!({"seconds": -1}),
            json!({"seconds": MAX_SECONDS + 1.0}),
            json!({"seconds": "1"}),
            json!({"fails": 1}),
        ] {
            assert!(read(json.clone()).is_err(), "{json}");
        }
    }

    #[test]
    fn a_task_tells_its_progress_and_its_end_and_closes_its_own_stream_alone() {
        for (fails, steps, last, reason) in [
            (false, 11, "task_completed n t", "task_completed"),
            (
                true,
                6,
                "task_failed it was told to fail n t",
                "task_failed",
            ),
        ] {
            let (fake, connections, tasks) = tasks();
            connections.connect("task:t", "1");
            connections.connect("client:c", "2");
            run(&tasks, "t", fails, Some("client:c"));
            let mut expected = Vec::new();
            for step in 0..steps {
                expected.push(format!("1 task_progress n {} t", step * STEP));
                expected.push(format!("2 task_progress n {} t", step * STEP));
            }
            expected.push(format!("1 {last}"));
            expected.push(format!("1 connection_close {reason}, close"));
            expected.push(format!("2 {last}"));
            assert_eq!(fake.sent(), expected);
            assert!(!connections.is_connected("task:t"));
            assert!(connections.is_connected("client:c"));
        }
    }

    #[test]
    fn a_late_subscriber_gets_the_last_event_and_the_close() {
        let (fake, connections, tasks) = tasks();
        run(&tasks, "t", false, None);
        assert!(fake.sent().is_empty());
        for token in ["1", "2"] {
            connections.connect("task:t", token);
            tasks.subscribed("t");
            let expected = [
                "task_completed n t",
                "connection_close task_completed, close",
            ];
            assert_eq!(fake.sent(), expected.map(|line| format!("{token} {line}")));
        }
    }

    #[test]
    fn an_owner_s_tasks_are_listed_in_their_order_as_they_stand() {
        let (_, _, tasks) = tasks();
        run(&tasks, "b", false, Some("client:me"));
        run(&tasks, "a", true, Some("client:me"));
        run(&tasks, "other", false, Some("client:you"));
        let begun = |task: &str| tasks.book().begin(task, &work(false), Some("client:me"));
        assert!(begun("running"));
        tasks.book().note("running", 40);
        assert_eq!(
            tasks.list("client:me"),
            [
                json!({"task": "b", "name": "n", "state": "completed", "percent": 100}),
                json!({"task": "a", "name": "n", "state": "failed", "percent": FAILS_AT,
                       "error": "it was told to fail"}),
                json!({"task": "running", "name": "n", "state": "running", "percent": 40}),
            ]
        );
        for n in 1..MAX_LISTED {
            run(&tasks, &n.to_string(), false, Some("client:me"));
        }
        let listed = tasks.list("client:me");
        assert_eq!(
            (listed.len(), &listed[0]["task"]),
            (MAX_LISTED, &json!("running"))
        );
    }

    #[test]
    fn a_stream_for_an_unknown_task_gets_an_error_and_the_close() {
        let (fake, connections, tasks) = tasks();
        connections.connect("task:t", "1");
        tasks.subscribed("t");
        let expected = [
            "1 error there is no such task",
            "1 connection_close unknown_task, close",
        ];
        assert_eq!(fake.sent(), expected);
    }

    #[test]
    fn who_subscribes_while_a_task_ends_gets_its_end_once() {
        // At each send in turn somebody subscribes, in place of the one before.
        for at in 0..14 {
            let (fake, connections, tasks) = tasks();
            let (book, inner) = (Arc::clone(&connections), Arc::clone(&tasks));
            let count = Mutex::new(0);
            fake.react(move |_, _| {
                let is_now = {
                    let mut count = count.lock().unwrap();
                    *count += 1;
                    *count == at + 1
                };
                if is_now {
                    book.connect("task:t", "2");
                    inner.subscribed("t");
                }
                Outcome::Taken
            });
            connections.connect("task:t", "1");
            run(&tasks, "t", false, None);
            let sent = fake.sent();
            let count = |line: &str| sent.iter().filter(|sent| *sent == line).count();
            let has_second = at < 13;
            assert_eq!(
                count("2 task_completed n t"),
                usize::from(has_second),
                "{at}: {sent:?}"
            );
            let closes = count("2 connection_close task_completed, close");
            assert_eq!(closes, usize::from(has_second), "{at}: {sent:?}");
            assert!(!connections.is_connected("task:t"), "{at}");
        }
    }

    #[test]
    fn those_that_run_and_those_that_are_remembered_are_bounded() {
        let (fake, connections, tasks) = tasks();
        for task in 0..=MAX_ENDED {
            run(&tasks, &task.to_string(), false, None);
        }
        assert_eq!(tasks.book().tasks.len(), MAX_ENDED);
        for (task, expected) in [
            ("0", "t0 error there is no such task"),
            ("1", "t1 task_completed n 1"),
        ] {
            connections.connect(&identifier(task), &format!("t{task}"));
            tasks.subscribed(task);
            assert_eq!(fake.sent()[0], expected);
        }
        for task in 0..MAX_RUNNING {
            assert!(tasks.book().begin(&format!("r{task}"), &work(false), None));
        }
        assert!(!tasks.book().begin("r", &work(false), None));
    }
}
