//! The routes: the gateway's callbacks, the application's own, and the page.

use std::io::{self, Read};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use serde_json::{Value as Json, json};
use ssegateway::logfmt::Value;
use tiny_http::{Header, Method, Request, Response, Server};

use super::connections::{Connect, Connections};
use super::gateway::{Event, Gateway, wire};
use super::options::Place;
use super::relay::relay;
use super::say;
use super::target::{self, Stream};
use super::tasks::{Tasks, Work};
use super::versions::Versions;

const PAGE: &str = include_str!("page.html");

/// Around the part of the page that a `SharedWorker` runs as well.
const WORKER: (&str, &str) = ("<script id=\"connection\">", "</script>");

/// Largest body of a request, in bytes: a callback holds the head of the client's request.
const MAX_BODY: u64 = 1024 * 1024;

/// Longest name of a version, in bytes.
const MAX_VERSION: usize = 100;

pub(crate) struct Backend {
    connections: Arc<Connections>,
    tasks: Arc<Tasks>,
    versions: Versions,
    /// Where clients reach the gateway.
    gateway: Place,
}

impl Backend {
    pub(crate) fn new(sends: Box<dyn Gateway>, gateway: Place) -> Backend {
        let connections = Arc::new(Connections::new(sends));
        Backend {
            tasks: Arc::new(Tasks::new(Arc::clone(&connections))),
            versions: Versions::new(Arc::clone(&connections)),
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
            "connect" => self.connect(request, token, url),
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

    /// What is to be known is entered before the answer, so that a stream that is open misses
    /// nothing: the gateway buffers what is sent during the callback and puts the answer's event
    /// before it. What is to be sent comes behind the answer, which waits for no send.
    fn connect(&self, request: Request, token: &str, url: &str) -> io::Result<()> {
        let stream = match Stream::parse(url) {
            Ok(stream) => stream,
            Err(404) => return refuse(request, 404, "streams are at /events"),
            Err(status) => {
                return refuse(request, status, "say ?client=ID or ?task=ID, one of them");
            }
        };
        let identifier = stream.identifier();
        let connect = self.connections.connect(&identifier, token);
        if let (Connect::New { .. }, Stream::Client(_)) = (&connect, &stream) {
            self.versions.connected(&identifier);
        }
        let open = Event {
            name: "connection_open",
            data: json!({"identifier": identifier}),
        };
        let answered = respond(request, 200, &json!({"event": wire(&open)}));
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
        match &stream {
            Stream::Task(task) => self.tasks.subscribed(task),
            Stream::Client(_) => self.versions.flush(&identifier),
        }
        answered
    }

    fn start_task(&self, mut request: Request, target: &str) -> io::Result<()> {
        let owner = match target::parameter(target, "client") {
            Some(client) if !target::is_id(&client) => {
                return refuse(request, 400, "client must be an ID");
            }
            client => client.map(|client| Stream::Client(client).identifier()),
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
        match target::parameter(target, "client").filter(|client| target::is_id(client)) {
            Some(client) => {
                let tasks = self.tasks.list(&Stream::Client(client).identifier());
                respond(request, 200, &json!({"tasks": tasks}))
            }
            None => refuse(request, 400, "client must be an ID"),
        }
    }

    /// The answer says that the version is noted, not that anybody has got it.
    fn announce(&self, mut request: Request) -> io::Result<()> {
        let body = read(&mut request)?.unwrap_or_default();
        let version = text(&body["version"]);
        if !(1..=MAX_VERSION).contains(&version.len()) {
            let why = format!("version must be a string of 1 to {MAX_VERSION} bytes");
            return refuse(request, 400, &why);
        }
        let clients = self.versions.announce(version);
        let answered = respond(request, 202, &json!({"version": version}));
        for client in &clients {
            self.versions.flush(client);
        }
        answered
    }

    fn show(&self, request: Request, identifier: &str) -> io::Result<()> {
        let shown = json!({
            "identifier": identifier,
            "connected": self.connections.is_connected(identifier),
            "waiting": self.versions.waiting(identifier),
        });
        respond(request, 200, &shown)
    }
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
    fn the_worker_is_a_whole_script_of_the_page() {
        let script = worker();
        assert!(script.contains("class Hub") && script.contains("self.onconnect"));
        assert!(!script.contains("<script"), "it holds more than one");
    }
}
