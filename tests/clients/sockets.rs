//! Unix sockets all the way, as in the README: from a proxy to the gateway, from the gateway to a
//! backend under gunicorn, and from a publisher.

use serde_json::json;

use crate::nginx::NGINX;
use crate::program::Program;
use crate::proxy::Proxy;
use crate::support::{Client, Folder, Gateway, assert_error, signal};
use crate::{readme, tools};

/// The README's lines that start the gateway and the backend, and send, with the test's own folder in
/// place of `/run`.
fn lines(folder: &Folder) -> [String; 3] {
    let own = folder.0.to_str().expect("a path");
    let lines = readme::block("sh sockets").lines();
    let lines: Vec<String> = lines.map(|line| line.replace("/run", own)).collect();
    lines.try_into().expect("three lines")
}

/// The gateway with the settings that stand before its name.
fn gateway(line: &str, folder: &Folder) -> Gateway {
    let public = folder.path("ssegateway/public.sock");
    let mut builder = Gateway::builder().at_socket(&public);
    let settings = line.strip_suffix(" ssegateway").expect("its name");
    for setting in settings.split(' ') {
        let (name, value) = setting.split_once('=').expect("a setting");
        builder = builder.env(name, value);
    }
    builder.start()
}

fn gunicorn(line: &str) -> Program {
    let program = Program::start(&mut tools::shell(line));
    program.wait_error("Listening at: unix:");
    program
}

fn end(mut gunicorn: Program) {
    signal(gunicorn.pid(), "TERM");
    assert!(gunicorn.wait_exit().success());
}

/// Opens a stream; gives the client, behind the head, and the token.
fn open(proxy: &Proxy, gunicorn: &Program) -> (Client, String) {
    let mut client = proxy.get("/events");
    let connect = gunicorn.report();
    assert_eq!(
        (&connect["action"], &connect["path"]),
        (&json!("connect"), &json!("/callback"))
    );
    assert_eq!(client.read_head().status, 200);
    let token = connect["token"].as_str().expect("a token");
    (client, token.to_owned())
}

#[track_caller]
fn expect_disconnect(gunicorn: &Program, token: &str, reason: &str) {
    let disconnect = gunicorn.report();
    assert_eq!(
        (&disconnect["token"], &disconnect["reason"]),
        (&json!(token), &json!(reason))
    );
}

#[test]
#[ignore = "needs nginx, Python and curl"]
fn all_that_the_readme_shows_of_sockets_is_so() {
    let folder = Folder::new("sockets");
    for name in ["ssegateway", "app"] {
        std::fs::create_dir(folder.path(name)).expect("a folder");
    }
    let [start, serve, send] = lines(&folder);
    let mut gateway = gateway(&start, &folder);
    let proxy = Proxy::start(&NGINX, &gateway, &[]);
    // No backend yet.
    let refused = proxy.get("/events").read_response();
    assert_error(&refused, 503, "BACKEND_UNAVAILABLE");

    let backend = gunicorn(&serve);
    let (mut first, first_token) = open(&proxy, &backend);
    let (second, second_token) = open(&proxy, &backend);
    let curl = Program::start(&mut tools::shell(&send));
    assert_eq!(curl.report(), json!({"status": "ok", "receivers": 2}));
    assert_eq!(first.next_event(), "data: hello\n\n");
    drop(second);
    expect_disconnect(&backend, &second_token, "client_closed");

    // One that has ended comes back under the same name.
    end(backend);
    let refused = proxy.get("/events").read_response();
    assert_error(&refused, 503, "BACKEND_UNAVAILABLE");
    let backend = gunicorn(&serve);
    let (mut third, third_token) = open(&proxy, &backend);
    let curl = Program::start(&mut tools::shell(&send));
    assert_eq!(curl.report(), json!({"status": "ok", "receivers": 2}));
    assert_eq!(third.next_event(), "data: hello\n\n");

    // What is for publishers is not to be had where clients come.
    let mut public = Client::to_socket(&folder.path("ssegateway/public.sock"));
    public.post(b"{}");
    assert_error(&public.read_response(), 404, "NOT_FOUND");

    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    let mut left = [first_token, third_token];
    left.sort();
    let mut told = [(); 2].map(|()| backend.report());
    told.sort_by_key(|disconnect| disconnect["token"].to_string());
    for (disconnect, token) in told.iter().zip(left) {
        assert_eq!(disconnect["token"], token);
        assert_eq!(disconnect["reason"], "server_closed");
    }
    end(backend);
}
