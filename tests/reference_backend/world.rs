//! A gateway with the reference backend behind it, and a gate between the two where a test needs
//! one.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use crate::support::{self, Backend, Callback, Client, Gateway, Port, Response, Shared};

/// The backend's program; killed when dropped.
pub(crate) struct Demo {
    child: Child,
    port: Port,
    lines: Arc<Shared<Vec<String>>>,
}

impl Demo {
    /// Starts `demo backend` for the gateway on this port and waits until it listens.
    fn start(port: Port, gateway: u16, send_url: Option<String>) -> Demo {
        let mut command = Command::new(support::demo());
        command.args([
            "backend",
            "--listen",
            &format!("127.0.0.1:{}", port.number()),
        ]);
        command.args(["--gateway", &format!("http://127.0.0.1:{gateway}")]);
        if let Some(url) = send_url {
            command.args(["--send-url", &url]);
        }
        let mut child = command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the demo starts");
        let lines = Arc::<Shared<Vec<String>>>::default();
        let (pipe, gathered) = (child.stdout.take().expect("a pipe"), Arc::clone(&lines));
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                gathered.change(|lines| lines.push(line));
            }
        });
        let demo = Demo { child, port, lines };
        demo.wait_line(&[&format!("backend listening on 127.0.0.1:{}", demo.port())]);
        demo
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// The first line that holds all of `parts`, as soon as there is one.
    #[track_caller]
    pub(crate) fn wait_line(&self, parts: &[&str]) -> String {
        let found = self.lines.wait(|lines| {
            let wanted = |line: &&String| parts.iter().all(|part| line.contains(part));
            lines.iter().find(wanted).cloned()
        });
        found.unwrap_or_else(|| {
            panic!(
                "no line with {parts:?} in {:#?}",
                self.lines.look(Vec::clone)
            )
        })
    }

    pub(crate) fn has_line(&self, part: &str) -> bool {
        self.lines
            .look(|lines| lines.iter().any(|line| line.contains(part)))
    }

    /// The token of the stream with this target; there must have been only one.
    #[track_caller]
    pub(crate) fn token_of(&self, target: &str) -> String {
        let line = self.wait_line(&["connect ", &format!("url={target}")]);
        let token = line.split("token=").nth(1).expect(&line);
        token.split(' ').next().expect(&line).to_owned()
    }

    /// A request to the backend itself.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, target: &str, body: &str) -> (u16, Value) {
        let response = self.request(method, target, body);
        let json = serde_json::from_slice(&response.body).unwrap_or_default();
        (response.status(), json)
    }

    #[track_caller]
    pub(crate) fn request(&self, method: &str, target: &str, body: &str) -> Response {
        let mut client = Client::connect(self.port());
        client.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        client.read_response()
    }

    /// A callback as the gateway would send it.
    #[track_caller]
    pub(crate) fn callback(&self, action: &str, token: &str, target: &str) -> (u16, Value) {
        let body = json!({
            "action": action,
            "reason": "client_closed",
            "token": token,
            "request": {"url": target, "headers": {}},
        });
        self.ask("POST", "/callback", &body.to_string())
    }

    /// Announces a version; gives the number of streams it goes to.
    #[track_caller]
    pub(crate) fn announce(&self, version: &str) -> u64 {
        let body = json!({"version": version}).to_string();
        let (status, answer) = self.ask("POST", "/version", &body);
        assert_eq!(status, 200, "{answer}");
        answer["receivers"].as_u64().expect("a number")
    }

    /// Has a client join or leave a room; gives the rooms it is in then.
    #[track_caller]
    pub(crate) fn room(&self, action: &str, room: &str, client: &str) -> Value {
        let target = format!("/rooms/{room}/{action}?client={client}");
        let (status, answer) = self.ask("POST", &target, "");
        assert_eq!(status, 200, "{answer}");
        answer["rooms"].clone()
    }

    /// Says something in a room; gives the number of streams it goes to.
    #[track_caller]
    pub(crate) fn say(&self, room: &str, client: &str, text: &str) -> u64 {
        let target = format!("/rooms/{room}/say?client={client}");
        let (status, answer) = self.ask("POST", &target, &json!({"text": text}).to_string());
        assert_eq!(status, 200, "{answer}");
        answer["receivers"].as_u64().expect("a number")
    }

    /// Starts a task and gives its ID.
    #[track_caller]
    pub(crate) fn task(&self, query: &str, work: &Value) -> String {
        let (status, answer) = self.ask("POST", &format!("/tasks{query}"), &work.to_string());
        assert_eq!(status, 201, "{answer}");
        answer["task"].as_str().expect("an ID").to_owned()
    }

    /// Whether an identifier is connected.
    #[track_caller]
    pub(crate) fn is_connected(&self, identifier: &str) -> bool {
        let (status, shown) = self.ask("GET", &format!("/connections/{identifier}"), "");
        assert_eq!((status, &shown["identifier"]), (200, &json!(identifier)));
        shown["connected"].as_bool().expect("a boolean")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the demo's lines: {:#?}", self.lines.look(Vec::clone));
        }
    }
}

/// The two programs.
pub(crate) struct World {
    pub(crate) demo: Demo,
    pub(crate) gateway: Gateway,
}

impl World {
    pub(crate) fn start() -> World {
        World::build(None, |_| None)
    }

    /// Sends go by way of a gate, which lets through by itself what is not to be held.
    pub(crate) fn gated(hold: impl Fn(&Value) -> bool + Send + Sync + 'static) -> (World, Backend) {
        let mut gate = None;
        let world = World::build(None, |gateway| {
            let sends = Backend::with(move |send| {
                if !hold(&send.json) {
                    pass(gateway, send);
                }
            });
            let url = sends.url();
            gate = Some(sends);
            Some(url)
        });
        (world, gate.expect("a gate"))
    }

    /// Both callbacks and sends are the test's to pass on.
    pub(crate) fn behind(callbacks: &Backend) -> (World, Backend) {
        let sends = Backend::start();
        let world = World::build(Some(callbacks), |_| Some(sends.url()));
        (world, sends)
    }

    fn build(callbacks: Option<&Backend>, send_url: impl FnOnce(u16) -> Option<String>) -> World {
        let port = Port::reserve_local();
        let own = format!("http://127.0.0.1:{}/callback", port.number());
        let url = callbacks.map_or(own, Backend::url);
        let builder = Gateway::builder()
            .env("CALLBACK_URL", &url)
            .env("HISTORY_BYTES", "1000000");
        let send_url = send_url(builder.port());
        let gateway = builder.start();
        let demo = Demo::start(port, gateway.port(), send_url);
        World { demo, gateway }
    }

    /// A stream that has opened.
    #[track_caller]
    pub(crate) fn open(&self, target: &str) -> Stream {
        self.open_told(target).0
    }

    /// A stream that has opened, and what it was told then.
    #[track_caller]
    pub(crate) fn open_told(&self, target: &str) -> (Stream, Value) {
        self.come_back(target, None)
    }

    /// A stream that has opened, of a client that says what it saw last; and what it was told.
    #[track_caller]
    pub(crate) fn come_back(&self, target: &str, seen: Option<&str>) -> (Stream, Value) {
        let mut client = self.gateway.connect();
        let field = seen.map(|id| format!("Last-Event-ID: {id}\r\n"));
        let field = field.unwrap_or_default();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{field}\r\n"));
        let mut stream = Stream::of(client);
        assert_eq!(stream.client.read_head().status, 200);
        let (name, data) = stream.next();
        let query = target.split('?').nth(1).expect("a query");
        let whose = query.split('&').next().expect("whose it is");
        assert_eq!(
            (name.as_str(), &data["identifier"]),
            ("connection_open", &json!(whose.replace('=', ":")))
        );
        (stream, data)
    }

    /// Ends a stream and waits until the backend has been told.
    #[track_caller]
    pub(crate) fn leave(&self, stream: Stream, target: &str) {
        drop(stream);
        let token = self.demo.token_of(target);
        self.demo.wait_line(&["disconnect ", &token]);
    }
}

/// Passes a send on to the gateway and its answer back; gives the answer.
pub(crate) fn pass(gateway: u16, send: &Callback) -> String {
    let mut client = Client::connect(gateway);
    client.post(&send.body);
    let answer = client.read_response();
    let body = String::from_utf8(answer.body).expect("UTF-8");
    send.answer(answer.head.status, &body);
    body
}

/// The event in a send: its name and its data; nothing where there is none.
pub(crate) fn sent(send: &Value) -> (&str, Value) {
    let data = send["event"]["data"].as_str().unwrap_or("null");
    let name = send["event"]["name"].as_str().unwrap_or_default();
    (name, serde_json::from_str(data).expect("JSON"))
}

/// A client's stream, behind its head.
pub(crate) struct Stream {
    pub(crate) client: Client,
    /// What a browser would say when it comes back.
    pub(crate) seen: String,
    /// How long it would wait before, in milliseconds.
    pub(crate) retry: u64,
}

impl Stream {
    pub(crate) fn of(client: Client) -> Stream {
        Stream {
            client,
            seen: String::new(),
            retry: 0,
        }
    }

    /// The next event's name and data; heartbeats and what fires nothing do not count.
    #[track_caller]
    pub(crate) fn next(&mut self) -> (String, Value) {
        loop {
            let text = self.client.next_event();
            let (mut name, mut data) = (None, None);
            for line in text.lines() {
                match line.split_once(": ") {
                    Some(("event", value)) => name = Some(value.to_owned()),
                    Some(("id", value)) => value.clone_into(&mut self.seen),
                    Some(("retry", value)) => self.retry = value.parse().expect(&text),
                    Some(("data", value)) => {
                        data = Some(serde_json::from_str(value).expect(&text));
                    }
                    _ => {}
                }
            }
            if let Some(data) = data {
                return (name.expect(&text), data);
            }
        }
    }

    /// What was missed has come, up to this position.
    #[track_caller]
    pub(crate) fn expect_position(&mut self, told: &Value) {
        let position = told["position"].as_str().expect("a position");
        assert_eq!(self.client.next_event(), format!("id: {position}\n\n"));
    }

    #[track_caller]
    pub(crate) fn expect(&mut self, name: &str, data: &Value) {
        assert_eq!(self.next(), (name.to_owned(), data.clone()));
    }

    #[track_caller]
    pub(crate) fn expect_version(&mut self, version: &str) {
        self.expect("version", &json!({"version": version}));
    }

    /// The backend's close, then the stream's clean end.
    #[track_caller]
    pub(crate) fn expect_close(&mut self, reason: &str) {
        self.expect("connection_close", &json!({"reason": reason}));
        self.expect_end();
    }

    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        // The position stands behind all that was read before the stream opened, the close included.
        let rest = String::from_utf8(self.client.read_to_end()).expect("UTF-8");
        let is_bare = rest.matches("data:").count() == 0;
        assert!(is_bare && rest.ends_with("0\r\n\r\n"), "{rest}");
    }
}
