//! The *task service*: work that takes a while, told to the channel of its owner (`client:ID`) and
//! to the channel of those who opened a stream to look at it (`task:ID`), which end with it.
//!
//! Laws: the events of a task are sent by the task's own thread, one behind the other, which is
//! what keeps their order, and each has the task as its key, so that of those that a slow client
//! has not been sent only the last is kept. An end is noted first and sent then; who comes to look
//! joins the channel first and asks for an end then. So one of the two sees the other. If both do,
//! the same end may come twice, but nothing behind the close: until the connect callback is
//! answered, everything waits in the gateway.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::gateway::{Gateway, Outcome, event};
use super::target::task as channel;

/// Most tasks that run at once; each has a thread.
const MAX_RUNNING: usize = 100;

/// Most tasks whose end is remembered for those who subscribe late.
const MAX_ENDED: usize = 1000;

/// Most tasks that are listed for one owner, the youngest.
const MAX_LISTED: usize = 100;

/// Longest that anything may take, in seconds.
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
        let seconds = seconds(body, 5.0)?;
        let fails = match &body["fails"] {
            Json::Null => Some(false),
            fails => fails.as_bool(),
        };
        Ok(Work {
            name: name.to_owned(),
            seconds,
            fails: fails.ok_or("fails must be true or false")?,
        })
    }
}

/// The `seconds` of a body, in which they are optional; a sentence for people if they cannot be.
pub(crate) fn seconds(body: &Json, default: f64) -> Result<f64, String> {
    let seconds = match &body["seconds"] {
        Json::Null => Some(default),
        seconds => seconds.as_f64().filter(|s| (0.0..=MAX_SECONDS).contains(s)),
    };
    seconds.ok_or_else(|| format!("seconds must be a number from 0 to {MAX_SECONDS}"))
}

/// How a task ended: the name of its last event, which is also why its streams are closed, and the
/// event's data.
#[derive(Clone, Debug, PartialEq)]
struct End {
    name: &'static str,
    data: Json,
}

/// What is known of a task.
struct Task {
    number: u64,
    /// The owner's channel.
    owner: Option<String>,
    name: String,
    percent: usize,
    /// `None` while it runs.
    end: Option<End>,
}

pub(crate) struct Tasks {
    gateway: Arc<dyn Gateway>,
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
    pub(crate) fn new(gateway: Arc<dyn Gateway>) -> Tasks {
        Tasks {
            gateway,
            book: Mutex::default(),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a task in a thread of its own; `None` when too many run. `owner` is a channel.
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
        let mut channels = vec![channel(task)];
        channels.extend(owner.map(str::to_owned));
        let step = Duration::from_secs_f64(work.seconds) / (100 / STEP) as u32;
        for percent in (0..=100).step_by(STEP) {
            if percent > 0 {
                pause(step);
            }
            self.book().note(task, percent);
            let data = json!({"task": task, "name": work.name, "percent": percent});
            self.tell(json!({"channels": channels}), task, "task_progress", &data);
            if work.fails && percent >= FAILS_AT {
                break;
            }
        }
        let end = End::of(task, work);
        self.book().end(task, &end);
        self.tell(json!({"channels": channels}), task, end.name, &end.data);
        self.close(json!({"channel": channel(task)}), end.name);
    }

    /// Somebody comes to look at a task, with a stream of its own: from now on it is told of it. To
    /// be called before the connect callback is answered.
    pub(crate) fn watch(&self, task: &str, token: &str) -> Outcome {
        let joined = self
            .gateway
            .send(&json!({"token": token, "subscribe": [channel(task)]}));
        if !matches!(joined, Outcome::Taken { .. }) {
            return joined;
        }
        let whom = || json!({"token": token});
        let known = self.book().tasks.get(task).map(|task| task.end.clone());
        match known {
            Some(None) => {}
            Some(Some(end)) => {
                self.tell(whom(), task, end.name, &end.data);
                self.close(whom(), end.name);
            }
            None => {
                let data = json!({"message": "there is no such task"});
                self.tell(whom(), task, "error", &data);
                self.close(whom(), "unknown_task");
            }
        }
        joined
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

    /// Sends an event of a task to whom the command names.
    fn tell(&self, mut command: Json, task: &str, name: &str, data: &Json) {
        command["event"] = event(name, data);
        command["event"]["key"] = json!(channel(task));
        self.gateway.send(&command);
    }

    /// Ends the streams that the command names.
    fn close(&self, mut command: Json, reason: &str) {
        command["event"] = event("connection_close", &json!({"reason": reason}));
        command["close"] = json!(true);
        self.gateway.send(&command);
    }
}

impl End {
    fn of(task: &str, work: &Work) -> End {
        let mut data = json!({"task": task, "name": work.name});
        if work.fails {
            data["error"] = json!("it was told to fail");
        }
        let name = if work.fails {
            "task_failed"
        } else {
            "task_completed"
        };
        End { name, data }
    }

    fn state(&self) -> &str {
        self.name.strip_prefix("task_").unwrap_or(self.name)
    }
}

impl Task {
    fn shown(&self, id: &str) -> Json {
        let state = self.end.as_ref().map_or("running", End::state);
        let mut shown = json!({
            "task": id, "name": self.name, "state": state, "percent": self.percent,
        });
        if let Some(error) = self.end.as_ref().and_then(|end| end.data.get("error")) {
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
    use super::super::gateway::fake::Fake;
    use super::*;

    fn tasks() -> (Arc<Fake>, Arc<Tasks>) {
        let fake = Arc::<Fake>::default();
        let tasks = Arc::new(Tasks::new(Arc::clone(&fake) as Arc<dyn Gateway>));
        (fake, tasks)
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
    fn a_task_tells_its_progress_and_its_end_and_closes_the_streams_of_those_who_look() {
        for (fails, steps, last, reason) in [
            (false, 11, "task_completed n t", "task_completed"),
            (
                true,
                6,
                "task_failed it was told to fail n t",
                "task_failed",
            ),
        ] {
            for (owner, whom) in [(Some("client:c"), "task:t,client:c"), (None, "task:t")] {
                let (fake, tasks) = tasks();
                run(&tasks, "t", fails, owner);
                let progress = |step| format!("{whom} task_progress n {} t", step * STEP);
                let mut expected: Vec<String> = (0..steps).map(progress).collect();
                expected.push(format!("{whom} {last}"));
                expected.push(format!("task:t connection_close {reason}, close"));
                assert_eq!(fake.sent(), expected);
            }
        }
    }

    #[test]
    fn the_events_of_a_task_have_one_key() {
        let (fake, tasks) = tasks();
        fake.react(|command| {
            let event = &command["event"];
            let expected = match event["name"].as_str() {
                Some("connection_close") => Json::Null,
                _ => json!("task:t"),
            };
            assert_eq!(event["key"], expected);
            Outcome::Failed
        });
        run(&tasks, "t", true, None);
    }

    #[test]
    fn who_looks_late_gets_the_last_event_and_the_close() {
        let (fake, tasks) = tasks();
        run(&tasks, "t", false, None);
        fake.sent();
        for token in ["1", "2"] {
            tasks.watch("t", token);
            let expected = [
                "+task:t",
                "task_completed n t",
                "connection_close task_completed, close",
            ];
            assert_eq!(fake.sent(), expected.map(|line| format!("{token} {line}")));
        }
    }

    #[test]
    fn an_owner_s_tasks_are_listed_in_their_order_as_they_stand() {
        let (_, tasks) = tasks();
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
    fn who_looks_at_an_unknown_task_gets_an_error_and_the_close() {
        let (fake, tasks) = tasks();
        tasks.watch("t", "1");
        let expected = [
            "1 +task:t",
            "1 error there is no such task",
            "1 connection_close unknown_task, close",
        ];
        assert_eq!(fake.sent(), expected);
    }

    #[test]
    fn a_stream_that_cannot_be_told_is_told_nothing_more() {
        let (fake, tasks) = tasks();
        fake.react(|_| Outcome::Failed);
        assert_eq!(tasks.watch("t", "1"), Outcome::Failed);
        assert_eq!(fake.sent(), ["1 +task:t"]);
    }

    /// Whether the gateway or the book tells of the end: what it comes to on the stream is a matter
    /// of the real gateway, in tests/reference_backend.
    #[test]
    fn who_comes_to_look_while_a_task_ends_is_told_of_its_end() {
        // At each send in turn somebody comes.
        for at in 0..13 {
            let (fake, tasks) = tasks();
            let (inner, count) = (Arc::clone(&tasks), Mutex::new(0));
            fake.react(move |_| {
                let is_now = {
                    let mut count = count.lock().unwrap();
                    *count += 1;
                    *count == at + 1
                };
                if is_now {
                    inner.watch("t", "1");
                }
                Outcome::Taken { receivers: 1 }
            });
            run(&tasks, "t", false, None);
            let sent = fake.sent();
            let joined = sent.iter().position(|line| line == "1 +task:t").unwrap();
            let later = &sent[joined..];
            for end in [
                "task_completed n t",
                "connection_close task_completed, close",
            ] {
                let by = |whom| later.contains(&format!("{whom} {end}"));
                assert!(by("1") || by("task:t"), "{at}: {sent:?}");
            }
        }
    }

    #[test]
    fn those_that_run_and_those_that_are_remembered_are_bounded() {
        let (fake, tasks) = tasks();
        for task in 0..=MAX_ENDED {
            run(&tasks, &task.to_string(), false, None);
        }
        assert_eq!(tasks.book().tasks.len(), MAX_ENDED);
        for (task, expected) in [
            ("0", "token error there is no such task"),
            ("1", "token task_completed n 1"),
        ] {
            fake.sent();
            tasks.watch(task, "token");
            assert_eq!(fake.sent()[1], expected);
        }
        for task in 0..MAX_RUNNING {
            assert!(tasks.book().begin(&format!("r{task}"), &work(false), None));
        }
        assert!(!tasks.book().begin("r", &work(false), None));
    }
}
