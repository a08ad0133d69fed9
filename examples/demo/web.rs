//! The routes: the gateway's callbacks, the application's own, and the page.

use std::io::{self, Read};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value as Json, json};
use ssegateway::logfmt::Value;
use tiny_http::{Header, Method, Request, Response, Server};

use super::connections::{Connect, Connections, RETRY};
use super::gateway::{Gateway, Outcome, event};
use super::options::Place;
use super::relay::relay;
use super::rooms::Rooms;
use super::say;
use super::stories::Stories;
use super::target::{self, Stream, client, room};
use super::tasks::{Tasks, Work, seconds};
use super::versions::Versions;

const PAGE: &str = include_str!("page.html");

/// Around the part of the page that a `SharedWorker` runs as well.
const WORKER: (&str, &str) = ("<script id=\"connection\">", "</script>");

/// Largest body of a request, in bytes: a callback holds the head of the client's request.
const MAX_BODY: u64 = 1024 * 1024;

/// Longest name of a version, in bytes.
const MAX_VERSION: usize = 100;

/// Longest text that can be said in a room, in bytes.
const MAX_TEXT: usize = 1000;

pub(crate) struct Backend {
    connections: Arc<Connections>,
    tasks: Arc<Tasks>,
    versions: Versions,
    rooms: Rooms,
    stories: Arc<Stories>,
    /// Where clients reach the gateway.
    gateway: Place,
}

impl Backend {
    pub(crate) fn new(sends: Arc<dyn Gateway>, gateway: Place) -> Backend {
        let connections = Arc::new(Connections::new(Arc::clone(&sends)));
        Backend {
            tasks: Arc::new(Tasks::new(Arc::clone(&sends))),
            versions: Versions::new(Arc::clone(&sends)),
            stories: Arc::new(Stories::new(Arc::clone(&sends))),
            rooms: Rooms::new(sends, Arc::clone(&connections)),
            connections,
            gateway,
        }
    }

    /// Serves in threads of its own, one for each request, so that a streaming answer holds up
    /// none of the others.
    pub(crate) fn serve(self, listener: TcpListener) -> io::Result<JoinHandle<()>> {
        let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
        let backend = Arc::new(self);
        thread::Builder::new()
            .name("backend".to_owned())
            .spawn(move || {
                for request in server.incoming_requests() {
                    let backend = Arc::clone(&backend);
                    // Without a thread the request is dropped, which answers it with 500.
                    let _ = thread::Builder::new().spawn(move || backend.answer(request));
                }
            })
    }

    fn answer(&self, request: Request) {
        let target = request.url().to_owned();
        let path = target::path(&target);
        let done = match (request.method(), path) {
            (Method::Post, "/callback") => self.callback(request),
            (Method::Post, "/tasks") => self.start_task(request, &target),
            (Method::Post, "/version") => self.announce(request),
            (Method::Post, "/cut") => self.cut(request, &target),
            (Method::Post, _) if path.starts_with("/rooms/") => self.in_room(request, &target),
            (Method::Get, "/events") => relay(request, &self.gateway),
            (Method::Get, "/") => file(request, "text/html; charset=utf-8", PAGE),
            (Method::Get, "/worker.js") => {
                file(request, "text/javascript; charset=utf-8", worker())
            }
            (Method::Get, "/tasks") => self.list_tasks(request, &target),
            (Method::Get, _) => match path.strip_prefix("/connections/").map(target::decode) {
                Some(Some(identifier)) => self.show(request, &identifier),
                _ => request.respond(Response::empty(404)),
            },
            _ => request.respond(Response::empty(404)),
        };
        // Whoever asked has left; there is nobody to tell.
        drop(done);
    }

    fn callback(&self, mut request: Request) -> io::Result<()> {
        let body = read(&mut request)?.unwrap_or_default();
        let (token, url) = (text(&body["token"]), text(&body["request"]["url"]));
        match text(&body["action"]) {
            _ if token.is_empty() => refuse(request, 400, "there is no token"),
            "connect" => self.connect(request, &body),
            "disconnect" => {
                let is_current = self.connections.disconnect(token);
                say(&format!(
                    "disconnect  token={} url={} reason={} current={is_current}",
                    Value::new(token),
                    Value::new(url),
                    Value::new(text(&body["reason"])),
                ));
                request.respond(Response::empty(204))
            }
            _ => refuse(request, 400, "there is no such action"),
        }
    }

    /// What is to be known is entered before it is read for the answer, so that a stream that is
    /// open misses nothing. The stream of a client begins in its channels behind what it has seen:
    /// what was kept of them up to the callback's position comes again, and the page is told that
    /// position, by which it knows what is old.
    fn connect(&self, request: Request, body: &Json) -> io::Result<()> {
        let (token, url) = (text(&body["token"]), text(&body["request"]["url"]));
        let stream = match Stream::parse(url) {
            Ok(stream) => stream,
            Err(404) => return refuse(request, 404, "streams are at /events"),
            Err(status) => {
                return refuse(request, status, "say ?client=ID or ?task=ID, one of them");
            }
        };
        let mut open = json!({"identifier": stream.identifier()});
        if let Some(position) = body["position"].as_str() {
            open["position"] = json!(position);
        }
        let (mut channels, mut connect) = (Vec::new(), Connect::New { replaced: None });
        match &stream {
            Stream::Client(id) => {
                connect = self.connections.connect(&client(id), token);
                let rooms = self.rooms.of(id);
                channels = rooms.iter().map(|name| room(name)).collect();
                channels.push(client(id));
                open["rooms"] = json!(rooms);
            }
            Stream::Task(task) => {
                if !matches!(self.tasks.watch(task, token), Outcome::Taken { .. }) {
                    return refuse(request, 503, "the gateway takes no sends");
                }
            }
        }
        let mut answer = json!({"event": event("connection_open", &open), "channels": channels});
        // A delay from a cut is over.
        answer["event"]["retry"] = json!(RETRY);
        if let Stream::Client(_) = stream {
            answer["last_event_id"] = json!(begin(body, url));
        }
        let answered = respond(request, 200, &answer);
        let (token, url) = (Value::new(token), Value::new(url));
        let Connect::New { replaced } = connect else {
            say(&format!("connect     token={token} url={url} repeated"));
            return answered;
        };
        say(&format!("connect     token={token} url={url}"));
        if let Some(old) = replaced {
            say(&format!("replaced    token={}", Value::new(&old)));
            self.connections.close(&old, "replaced");
        }
        answered
    }

    /// The client comes back by itself.
    fn cut(&self, mut request: Request, target: &str) -> io::Result<()> {
        let id = target::parameter(target, "client").unwrap_or_default();
        let body = read(&mut request)?.unwrap_or_default();
        match seconds(&body, 10.0) {
            Err(why) => refuse(request, 400, &why),
            Ok(seconds) => match self.connections.cut(&client(&id), seconds) {
                Outcome::Taken { .. } => respond(request, 200, &json!({"seconds": seconds})),
                Outcome::Gone => refuse(request, 404, "there is no such stream"),
                _ => refuse(request, 502, "the gateway did not take it"),
            },
        }
    }

    fn start_task(&self, mut request: Request, target: &str) -> io::Result<()> {
        let owner = match target::parameter(target, "client") {
            Some(id) if !target::is_id(&id) => {
                return refuse(request, 400, "client must be an ID");
            }
            id => id.map(|id| client(&id)),
        };
        let work = match read(&mut request)? {
            Some(body) => Work::parse(&body),
            None => Err("the body must be a JSON object".to_owned()),
        };
        match work.map(|work| self.tasks.start(work, owner)) {
            Ok(Some(task)) => respond(request, 201, &json!({"task": task})),
            Ok(None) => refuse(request, 503, "too many tasks are running"),
            Err(why) => refuse(request, 400, &why),
        }
    }

    fn list_tasks(&self, request: Request, target: &str) -> io::Result<()> {
        match target::parameter(target, "client").filter(|id| target::is_id(id)) {
            Some(id) => {
                let tasks = self.tasks.list(&client(&id));
                respond(request, 200, &json!({"tasks": tasks}))
            }
            None => refuse(request, 400, "client must be an ID"),
        }
    }

    fn announce(&self, mut request: Request) -> io::Result<()> {
        let body = read(&mut request)?.unwrap_or_default();
        let version = text(&body["version"]);
        if !(1..=MAX_VERSION).contains(&version.len()) {
            let why = format!("version must be a string of 1 to {MAX_VERSION} bytes");
            return refuse(request, 400, &why);
        }
        told(request, self.versions.announce(version))
    }

    /// `POST /rooms/ROOM/join`, `…/leave`, `…/say` and `…/tell`, each with `?client=ID`.
    fn in_room(&self, mut request: Request, target: &str) -> io::Result<()> {
        let id = target::parameter(target, "client").unwrap_or_default();
        let parts: Vec<&str> = target::path(target).split('/').collect();
        let ["", "rooms", name, action] = parts[..] else {
            return refuse(request, 404, "say /rooms/ROOM/join, leave, say or tell");
        };
        if !target::is_id(&id) || !target::is_id(name) {
            return refuse(request, 400, "client and room must be IDs");
        }
        let body = read(&mut request)?.unwrap_or_default();
        let words = text(&body["text"]);
        match action {
            // The next stream of who has none will be in the room.
            "join" | "leave" => {
                let outcome = match action {
                    "join" => self.rooms.join(&id, name),
                    _ => self.rooms.leave(&id, name),
                };
                match outcome {
                    Outcome::Refused => refuse(request, 400, "that is a room too many"),
                    _ => respond(request, 200, &json!({"rooms": self.rooms.of(&id)})),
                }
            }
            "say" if (1..=MAX_TEXT).contains(&words.len()) => {
                told(request, self.rooms.say(&id, name, words))
            }
            "say" => {
                let why = format!("text must be a string of 1 to {MAX_TEXT} bytes");
                refuse(request, 400, &why)
            }
            "tell" => {
                let time = seconds(&body, 20.0).map(Duration::from_secs_f64);
                match time.map(|time| self.stories.tell(name, time)) {
                    Ok(Some(story)) => respond(request, 201, &json!({"story": story})),
                    Ok(None) => refuse(request, 503, "too many stories are told"),
                    Err(why) => refuse(request, 400, &why),
                }
            }
            _ => refuse(request, 404, "say /rooms/ROOM/join, leave, say or tell"),
        }
    }

    fn show(&self, request: Request, identifier: &str) -> io::Result<()> {
        let shown = json!({
            "identifier": identifier,
            "connected": self.connections.is_connected(identifier),
        });
        respond(request, 200, &shown)
    }
}

/// Where a client's stream begins: behind what its browser saw last; else, when the page has made a
/// new `EventSource`, which says nothing, behind what the page did; else with all that is kept.
fn begin(connect: &Json, url: &str) -> String {
    let seen = text(&connect["request"]["headers"]["last-event-id"]).to_owned();
    let seen = Some(seen).filter(|id| !id.is_empty());
    seen.or_else(|| target::parameter(url, "after").filter(|id| !id.is_empty()))
        .unwrap_or_else(|| "earliest".to_owned())
}

/// The body, which is to be a JSON object; an empty one counts as `{}`. `None` if it is not.
fn read(request: &mut Request) -> io::Result<Option<Json>> {
    let mut body = Vec::new();
    request.as_reader().take(MAX_BODY).read_to_end(&mut body)?;
    if body.is_empty() {
        return Ok(Some(json!({})));
    }
    let body: Option<Json> = serde_json::from_slice(&body).ok();
    Ok(body.filter(Json::is_object))
}

/// The page is one file: what its worker runs is a part of it.
fn worker() -> &'static str {
    let (begin, end) = WORKER;
    let behind = PAGE.split_once(begin).map_or("", |(_, behind)| behind);
    behind.split_once(end).map_or("", |(script, _)| script)
}

fn file(request: Request, kind: &str, text: &str) -> io::Result<()> {
    request.respond(Response::from_string(text).with_header(header("Content-Type", kind)))
}

fn respond(request: Request, status: u16, body: &Json) -> io::Result<()> {
    request.respond(
        Response::from_string(body.to_string())
            .with_status_code(status)
            .with_header(header("Content-Type", "application/json")),
    )
}

fn refuse(request: Request, status: u16, why: &str) -> io::Result<()> {
    respond(request, status, &json!({"error": why}))
}

/// What a send to many came to.
fn told(request: Request, outcome: Outcome) -> io::Result<()> {
    match outcome {
        Outcome::Taken { receivers } => respond(request, 200, &json!({"receivers": receivers})),
        _ => refuse(request, 502, "the gateway did not take it"),
    }
}

fn text(json: &Json) -> &str {
    json.as_str().unwrap_or_default()
}

/// A header of the demo's own; both parts are constants and fit.
fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("a header's name and value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_begins_behind_what_was_seen() {
        for (field, url, expected) in [
            (Some("2-1"), "/events?client=a&after=1-1", "2-1"),
            (None, "/events?client=a&after=1-1", "1-1"),
            (Some(""), "/events?client=a&after=", "earliest"),
            (None, "/events?client=a", "earliest"),
        ] {
            let mut connect = json!({"request": {"headers": {}}});
            if let Some(id) = field {
                connect["request"]["headers"]["last-event-id"] = json!(id);
            }
            assert_eq!(begin(&connect, url), expected, "{field:?} {url}");
        }
    }

    #[test]
    fn the_worker_is_a_whole_script_of_the_page() {
        let script = worker();
        assert!(script.contains("class Hub") && script.contains("self.onconnect"));
        assert!(!script.contains("<script"), "it holds more than one");
    }
}
