//! Tables over every setting.

mod operation;

use std::collections::HashMap;
use std::os::unix::ffi::OsStringExt;

use super::*;

const HOST: HostFacts = HostFacts {
    descriptors: 20_000,
    taken: 0,
    has_internal: false,
};

/// Default in the form of [`shown`], a good value and its form, values out of range or unreadable.
type Row = (
    &'static str,
    &'static str,
    (&'static str, &'static str),
    &'static [&'static str],
);

#[rustfmt::skip] // A table is read in columns.
const ROWS: &[Row] = &[
    ("PORT", "3000", ("1", "1"), &["0", "65536"]),
    ("HOST", "None", ("::1", "Some(Name(\"::1\"))"), &["unix:", "unix:a", "unix:/a/", "a b", "1.2.3", "localhost:80", "[1.2.3.4]", "-x", "::1%"]),
    ("INTERNAL_LISTEN", "None", ("[::1]:9", "Some(Tcp(HostPort { host: \"::1\", port: 9 }))"),
        &["unix:", "unix:relative", "localhost", ":80", "a:0", "a:65536", "::1:80", "[::1]", "[a]:80", "a b:80"]),
    ("UNIX_MODE", "660", ("0600", "600"), &["8", "778", "1000", "00777", "rw"]),
    ("INTERNAL_KEY", "None", ("k,l", "Some(Keys)"), &["a b", ",", "a,b,c"]),
    ("INTERNAL_KEY_FILE", "None", ("/run/k", "Some(\"/run/k\")"), &["a\nb"]),
    ("CORS_ORIGINS", "None", ("https://A.example:8443 ,http://b", "Some(Listed([\"https://a.example:8443\", \"http://b\"]))"),
        &["a", "http://", "http://a/", "http://a,", "*,http://a", "null", "http://a b"]),
    ("CALLBACK_URL", "None", ("http://b/c?d=e", "Some(http://b/c?d=e)"),
        &["/path", "b:80", "ftp://b/", "http://", "http:///x", "http://b:/", "http://b:0/", "http://b:99999/", "http://a b/"]),
    ("CALLBACK_AUTHORIZATION", "None", ("Bearer k", "Some(\"Bearer k\")"), &[" a", "a\nb", "\u{e9}"]),
    ("CALLBACK_AUTHORIZATION_FILE", "None", ("/run/a", "Some(\"/run/a\")"), &["a\nb"]),
    ("GATEWAY_URL", "None", ("http://10.0.0.7:3001", "Some(\"http://10.0.0.7:3001\")"), &["a", "/a", "ftp://a", "http://a b"]),
    ("REFUSE_MODE", "false", ("STREAM", "true"), &["streams", "yes"]),
    ("RETRY_MILLISECONDS", "None", ("0", "Some(0)"), &["86400001"]),
    ("RECONNECT_SPREAD_SECONDS", "0ns", ("3600", "3600s"), &["3601"]),
    ("MAX_STREAM_SECONDS", "0ns", ("31536000", "31536000s"), &["31536001"]),
    ("HEARTBEAT_INTERVAL_SECONDS", "15s", ("86400", "86400s"), &["0", "86401"]),
    ("LOG_LEVEL", "Info", ("DEBUG", "Debug"), &["trace", "off", "verbose"]),
    ("LOG_FORMAT", "Text", ("JSON", "Json"), &["logfmt", "text,json"]),
    ("EVENT_FORMAT", "Plain", ("ENVELOPE", "Envelope"), &["plain", "events", "envelope,event"]),
    ("MAX_HEAD_BYTES", "32768", ("1024", "1024"), &["1023", "1048577"]),
    ("MAX_HEADERS", "100", ("256", "256"), &["0", "257"]),
    ("MAX_BODY_BYTES", "4194304", ("1024", "1024"), &["1023", "1073741825"]),
    ("REQUEST_TIMEOUT_SECONDS", "10s", ("86400", "86400s"), &["0", "86401"]),
    ("NEW_CONNECTION_TIMEOUT_SECONDS", "20s", ("1", "1s"), &["0", "86401"]),
    ("IDLE_TIMEOUT_SECONDS", "75s", ("1", "1s"), &["0", "86401"]),
    ("MAX_UNSENT_BYTES", "4194304", ("1024", "1024"), &["1023", "1073741825"]),
    ("MAX_HELD_BYTES", "67108864", ("1099511627776", "1099511627776"), &["65535", "1099511627777"]),
    ("MAX_INBOUND_BYTES", "33554432", ("65536", "65536"), &["65535", "1099511627777"]),
    ("MAX_KEPT_HEADER_BYTES", "67108864", ("65536", "65536"), &["65535", "68719476737"]),
    ("SEND_BUFFER_BYTES", "131072", ("4096", "4096"), &["4095", "67108865"]),
    ("NOTSENT_LOWAT_BYTES", "16384", ("1", "1"), &["0", "1073741825"]),
    ("MAX_UNREAD_ANSWER_BYTES", "65536", ("1024", "1024"), &["1023", "67108865"]),
    ("MAX_DISCARDED_BYTES", "65536", ("1024", "1024"), &["1023", "1073741825"]),
    ("STALL_TIMEOUT_SECONDS", "30s", ("1", "1s"), &["0", "86401"]),
    ("PEER_TIMEOUT_SECONDS", "30s", ("1", "1s"), &["0", "86401"]),
    ("KEEPALIVE_IDLE_SECONDS", "30s", ("32767", "32767s"), &["0", "32768"]),
    ("KEEPALIVE_INTERVAL_SECONDS", "10s", ("32767", "32767s"), &["0", "32768"]),
    ("MAX_STREAMS", "19634", ("7", "7"), &["0", "1000001"]),
    ("MAX_CHANNELS", "64", ("1000", "1000"), &["0", "1001"]),
    ("HISTORY_BYTES", "0", ("1099511627776", "1099511627776"), &["1099511627777"]),
    ("HISTORY_SECONDS", "300s", ("1", "1s"), &["0", "86401"]),
    ("MAX_RETAINED_BYTES", "16777216", ("0", "0"), &["68719476737"]),
    ("CONNECT_TIMEOUT_SECONDS", "5s", ("1", "1s"), &["0", "86401"]),
    ("DISCONNECT_TIMEOUT_SECONDS", "5s", ("1", "1s"), &["0", "86401"]),
    ("CONNECT_WORKERS", "64", ("1", "1"), &["0", "1025"]),
    ("DISCONNECT_WORKERS", "32", ("1", "1"), &["0", "1025"]),
    ("CONNECT_QUEUE", "4096", ("1", "1"), &["0", "1000001"]),
    ("WORKER_IDLE_SECONDS", "2s", ("1", "1s"), &["0", "86401"]),
    ("SHUTDOWN_TIMEOUT_SECONDS", "4s", ("1", "1s"), &["0", "86401"]),
];

/// What no setting reads as a number, a level or a URL.
const GARBAGE: &[&str] = &[
    " 5",
    "5 ",
    "+5",
    "-5",
    "5.0",
    "0x5",
    "5s",
    "1e3",
    "٥",
    "99999999999999999999",
    "1_000",
];

/// The field of a setting, picked by hand: the table under test must not judge itself.
#[rustfmt::skip]
fn shown(config: &Config, name: &str) -> String {
    let l = &config.limits;
    match name {
        "PORT" => config.port.to_string(),
        "HOST" => format!("{:?}", config.host),
        "INTERNAL_LISTEN" => format!("{:?}", config.internal_listen),
        "UNIX_MODE" => format!("{:o}", config.unix_mode),
        "INTERNAL_KEY" => format!("{:?}", config.internal_key),
        "INTERNAL_KEY_FILE" => format!("{:?}", config.internal_key_file),
        "CORS_ORIGINS" => format!("{:?}", config.cors),
        "CALLBACK_URL" => format!("{:?}", config.callback_url.as_ref().map(|url| &url.uri)),
        "CALLBACK_AUTHORIZATION" => format!("{:?}", config.callback_authorization),
        "CALLBACK_AUTHORIZATION_FILE" => format!("{:?}", config.callback_authorization_file),
        "GATEWAY_URL" => format!("{:?}", config.gateway_url),
        "REFUSE_MODE" => config.refuses_by_stream.to_string(),
        "RETRY_MILLISECONDS" => format!("{:?}", config.retry),
        "RECONNECT_SPREAD_SECONDS" => format!("{:?}", config.reconnect_spread),
        "MAX_STREAM_SECONDS" => format!("{:?}", config.max_stream),
        "LOG_FORMAT" => format!("{:?}", config.log_format),
        "HEARTBEAT_INTERVAL_SECONDS" => format!("{:?}", config.heartbeat),
        "LOG_LEVEL" => format!("{:?}", config.log_level),
        "EVENT_FORMAT" => format!("{:?}", config.event_format),
        "MAX_HEAD_BYTES" => l.max_head.to_string(),
        "MAX_HEADERS" => l.max_headers.to_string(),
        "MAX_BODY_BYTES" => l.max_body.to_string(),
        "REQUEST_TIMEOUT_SECONDS" => format!("{:?}", l.request_timeout),
        "NEW_CONNECTION_TIMEOUT_SECONDS" => format!("{:?}", l.new_connection_timeout),
        "IDLE_TIMEOUT_SECONDS" => format!("{:?}", l.idle_timeout),
        "MAX_UNSENT_BYTES" => l.max_unsent.to_string(),
        "MAX_HELD_BYTES" => l.max_held.to_string(),
        "MAX_INBOUND_BYTES" => l.max_inbound.to_string(),
        "MAX_KEPT_HEADER_BYTES" => l.max_kept_headers.to_string(),
        "SEND_BUFFER_BYTES" => l.send_buffer.to_string(),
        "NOTSENT_LOWAT_BYTES" => l.notsent_lowat.to_string(),
        "MAX_UNREAD_ANSWER_BYTES" => l.max_unread_answer.to_string(),
        "MAX_DISCARDED_BYTES" => l.max_discarded.to_string(),
        "STALL_TIMEOUT_SECONDS" => format!("{:?}", l.stall_timeout),
        "PEER_TIMEOUT_SECONDS" => format!("{:?}", l.peer_timeout),
        "KEEPALIVE_IDLE_SECONDS" => format!("{:?}", l.keepalive_idle),
        "KEEPALIVE_INTERVAL_SECONDS" => format!("{:?}", l.keepalive_interval),
        "MAX_STREAMS" => l.max_streams.to_string(),
        "MAX_CHANNELS" => l.max_channels.to_string(),
        "HISTORY_BYTES" => l.history.to_string(),
        "HISTORY_SECONDS" => format!("{:?}", l.history_time),
        "MAX_RETAINED_BYTES" => l.max_retained.to_string(),
        "CONNECT_TIMEOUT_SECONDS" => format!("{:?}", l.connect_timeout),
        "DISCONNECT_TIMEOUT_SECONDS" => format!("{:?}", l.disconnect_timeout),
        "CONNECT_WORKERS" => l.connect_workers.to_string(),
        "DISCONNECT_WORKERS" => l.disconnect_workers.to_string(),
        "CONNECT_QUEUE" => l.connect_queue.to_string(),
        "WORKER_IDLE_SECONDS" => format!("{:?}", l.worker_idle),
        "SHUTDOWN_TIMEOUT_SECONDS" => format!("{:?}", l.shutdown_timeout),
        _ => panic!("a setting without a test: {name}"),
    }
}

/// Whose value is in no error.
fn is_secret(name: &str) -> bool {
    matches!(
        name,
        "CALLBACK_URL" | "INTERNAL_KEY" | "CALLBACK_AUTHORIZATION"
    )
}

fn read(args: &[&str], env: &[(&str, &str)]) -> Result<Invocation, ConfigError> {
    let env: HashMap<_, _> = env.iter().copied().collect();
    let args = args.iter().map(OsString::from);
    Config::from_sources(args, |name| env.get(name).map(OsString::from), &HOST)
}

fn config(args: &[&str], env: &[(&str, &str)]) -> Config {
    match read(args, env) {
        Ok(Invocation::Run(config)) => config,
        other => panic!("{args:?} {env:?}: {other:?}"),
    }
}

fn refusal(args: &[&str], env: &[(&str, &str)]) -> String {
    match read(args, env) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{args:?} {env:?} was taken"),
    }
}

/// `PEER_TIMEOUT` → `--peer-timeout`
fn flag(name: &str) -> String {
    format!("--{}", name.to_lowercase().replace('_', "-"))
}

#[test]
fn the_test_table_covers_every_setting() {
    let tested: Vec<_> = ROWS.iter().map(|row| row.0).collect();
    let known: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(tested, known);
}

#[test]
fn defaults_environment_and_flags() {
    for (name, default, (good, form), bad) in ROWS {
        let flag = flag(name);
        assert_eq!(shown(&config(&[], &[]), name), *default, "{name}");
        assert_eq!(shown(&config(&[], &[(name, good)]), name), *form, "{name}");
        assert_eq!(shown(&config(&[&flag, good], &[]), name), *form, "{name}");
        let glued = format!("{flag}={good}");
        assert_eq!(shown(&config(&[&glued], &[]), name), *form, "{name}");
        // The flag wins, and what it overrides is not looked at.
        let both = config(&[&glued], &[(name, bad[0])]);
        assert_eq!(shown(&both, name), *form, "{name}");
        // Empty is unset, from either source.
        assert_eq!(shown(&config(&[], &[(name, "")]), name), *default, "{name}");
        let empty = format!("{flag}=");
        assert_eq!(shown(&config(&[&empty], &[]), name), *default, "{name}");
        let fallen_back = config(&[&flag, ""], &[(name, good)]);
        assert_eq!(shown(&fallen_back, name), *form, "{name}");
    }
}

#[test]
fn invalid_values_are_named_with_what_is_allowed() {
    for (name, _, _, bad) in ROWS {
        let flag = flag(name);
        let garbage: &[&str] = match *name {
            "HOST" | "INTERNAL_LISTEN" => &[],
            name if is_secret(name) || name.ends_with("_FILE") => &[],
            _ => GARBAGE,
        };
        for bad in bad.iter().chain(garbage) {
            for error in [refusal(&[], &[(name, bad)]), refusal(&[&flag, bad], &[])] {
                assert!(error.contains(name) && error.contains(&flag), "{error}");
                assert!(error.contains("but must be "), "{error}");
                assert!(!error.contains('\n'), "{error}");
                if !is_secret(name) {
                    assert!(
                        error.contains(&format!("is {},", Value::new(bad))),
                        "{error}"
                    );
                }
            }
        }
        let raw = OsString::from_vec(b"12\xff".to_vec());
        let result = Config::from_sources(
            std::iter::empty(),
            |asked| (asked == *name).then(|| raw.clone()),
            &HOST,
        );
        let error = result.expect_err(name).to_string();
        assert!(error.contains(name), "{error}");
        assert_eq!(error.contains(r#""12\xff""#), !is_secret(name));
    }
}

#[test]
fn the_error_says_where_the_value_was_given() {
    assert_eq!(
        refusal(&[], &[("PORT", "70000")]),
        "environment variable PORT (or flag --port) is 70000, but must be a whole number from 1 to \
         65535"
    );
    assert_eq!(
        refusal(&["--max-head-bytes=7 MB"], &[]),
        "flag --max-head-bytes (or environment variable MAX_HEAD_BYTES) is \"7 MB\", but must be a \
         whole number of bytes from 1024 to 1048576"
    );
}

#[test]
fn no_error_shows_any_part_of_a_callback_url() {
    let urls = [
        "ftp://user:hunter2@backend.example/hook?key=hunter2",
        "http://backend.example:99999/hook?key=hunter2",
        "http://backend.example/hook key=hunter2",
        "backend.example/hook?key=hunter2",
        "htps://backend.example/hunter2",
        "http://user:hunter2@backend.example:/",
    ];
    for url in urls {
        let glued = [
            format!("--callback-url={url}"),
            format!("--callbackurl={url}"),
            format!("--callback-url{url}"),
            format!("--callback-url:{url}"),
            format!("-{url}"),
            format!("--version={url}"),
        ];
        let mut errors = vec![
            refusal(&[], &[("CALLBACK_URL", url)]),
            refusal(&["--callback-url", url], &[]),
            refusal(&[url], &[]),
            refusal(&["--", url], &[]),
            refusal(&["--port", "--callback-url", url], &[]),
            refusal(&["--callback-url", "http://a/", url], &[]),
        ];
        errors.extend(glued.iter().map(|arg| refusal(&[arg], &[])));
        for error in errors {
            for part in ["hunter2", "backend", "example", "hook", "user:"] {
                assert!(!error.contains(part), "{error}");
            }
        }
    }
    let kept = config(&[], &[("CALLBACK_URL", "http://backend.example/?hunter2")]);
    let shown = format!("{kept:?}");
    assert!(
        !shown.contains("backend") && !shown.contains("hunter2"),
        "{shown}"
    );
}

#[test]
fn callback_urls_are_kept_verbatim() {
    for url in [
        "http://127.0.0.1:8080/a?b=c&d=%20",
        "http://[::1]:8080/",
        "http://user:secret@b:1/x",
        "http://[::1]/?a=b:c@d",
    ] {
        let uri = config(&["--callback-url", url], &[]).callback_url;
        assert_eq!(uri.expect("set").uri.to_string(), url);
    }
}

#[test]
fn https_needs_a_build_with_tls() {
    let result = read(&["--callback-url=https://b/"], &[]);
    if cfg!(feature = "tls") {
        assert!(matches!(result, Ok(Invocation::Run(_))));
    } else {
        let error = result.expect_err("no TLS").to_string();
        assert!(
            error.contains("no TLS") && error.contains("--features tls"),
            "{error}"
        );
    }
}

#[test]
fn hosts() {
    #[rustfmt::skip]
    let table = [
        ("127.0.0.1", "127.0.0.1"), ("localhost", "localhost"), ("::", "::"), ("[::1]", "::1"),
        ("fe80::1%eth0", "fe80::1%eth0"), ("a-b.example", "a-b.example"),
    ];
    for (given, host) in table {
        let expected = Some(Host::Name(host.to_owned()));
        assert_eq!(config(&["--host", given], &[]).host, expected);
    }
    let listen = config(&["--internal-listen=localhost:8081"], &[]).internal_listen;
    let (host, port) = ("localhost".to_owned(), 8081);
    assert_eq!(listen, Some(Address::Tcp(HostPort { host, port })));
}

#[test]
fn arguments_that_are_no_settings() {
    #[rustfmt::skip]
    let table: &[(&[&str], &str)] = &[
        (&["--prot", "1"], "no flag --prot;"),
        (&["--PORT", "1"], "no flag --PORT;"),
        (&["--max_head_bytes=1"], "no flag --max_head_bytes;"),
        (&["-p", "1"], "no flag -p;"),
        (&["3000"], "an argument that belongs to no flag"),
        (&["--", "--port"], "an argument that belongs to no flag"),
        (&["--port"], "--port has no value"),
        (&["--port", "--host", "::"], "--port has no value"),
        (&["--port=1", "--port=1"], "--port is given more than once"),
        (&["--port=", "--port=1"], "--port is given more than once"),
        (&["--help=1"], "--help takes no value"),
        (&["--healthcheck=1"], "--healthcheck takes no value"),
        (&["-V=1"], "--version takes no value"),
        (&["-p1"], "there is no flag -p;"),
        (&["-"], "an argument that belongs to no flag"),
        (&[""], "an argument that belongs to no flag"),
    ];
    for (args, part) in table {
        let error = refusal(args, &[]);
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn help_lists_every_setting_with_its_default() {
    // An invalid environment is no reason to withhold it.
    for flag in ["--help", "-h"] {
        let Ok(Invocation::Help(text)) = read(&[flag], &[("PORT", "x")]) else {
            panic!("no help");
        };
        for setting in SETTINGS {
            let (Default::Is(default) | Default::Unset(default)) = setting.default;
            let name = setting.name;
            let flag = super::tests::flag(name);
            assert!(text.contains(&format!("  {flag} <")), "{name}");
            assert!(text.contains(setting.help), "{name}");
            let tail = format!("[env: {name}] [default: {default}]");
            assert!(text.contains(&tail), "{name}");
        }
        assert!(text.contains("[default: 100] [from 1 to 256]"));
    }
}

#[test]
fn a_healthcheck_has_the_settings_of_a_run() {
    let args = ["--port=1", "--healthcheck", "--host", "::1"];
    match read(&args, &[("LOG_LEVEL", "warn")]) {
        Ok(Invocation::Healthcheck(config)) => {
            let host = Some(Host::Name("::1".to_owned()));
            assert_eq!((config.port, config.host), (1, host));
            assert_eq!(config.log_level, LevelFilter::Warn);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        read(&["--healthcheck", "--help"], &[]),
        Ok(Invocation::Help(text)) if text.contains("--healthcheck")
    ));
    assert!(refusal(&["--healthcheck", "--port=x"], &[]).contains("--port"));
}

#[test]
fn version_is_one_line() {
    for flag in ["--version", "-V"] {
        let Ok(Invocation::Version(text)) = read(&[flag], &[]) else {
            panic!("no version");
        };
        assert_eq!(text, format!("ssegateway {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn limits_by_default_are_the_contracts() {
    let mut expected = config(&[], &[]).limits;
    let limits = Limits::default();
    assert!(limits.max_streams > 60_000 && limits.max_connections > limits.max_streams);
    expected.max_streams = limits.max_streams;
    expected.max_connections = limits.max_connections;
    expected.disconnect_queue = limits.disconnect_queue;
    assert_eq!(limits, expected);
}

#[test]
fn what_the_machine_does_not_allow_is_noted() {
    assert_eq!(config(&[], &[]).notes, [""; 0]);
    let capped = config(&["--max-streams=50000", "--connect-workers=64"], &[]);
    assert_eq!(capped.limits.max_streams, 19_634);
    assert_eq!(capped.notes.len(), 1, "{:?}", capped.notes);
    for part in ["MAX_STREAMS=50000", "20000", "19634"] {
        assert!(capped.notes[0].contains(part), "{:?}", capped.notes);
    }
    // Defaults that shrink are no news; set ones are.
    let low = HostFacts {
        descriptors: 64,
        taken: 0,
        has_internal: false,
    };
    let none = |_: &str| None;
    let Ok(Invocation::Run(quiet)) = Config::from_sources(std::iter::empty(), none, &low) else {
        panic!("no configuration");
    };
    assert_eq!(quiet.notes, [""; 0]);
    assert_eq!(quiet.limits.connect_workers, 8);
    // What a service manager takes up and brings counts.
    let managed = HostFacts {
        taken: 3,
        has_internal: true,
        ..HOST
    };
    let managed = Config::from_sources(std::iter::empty(), none, &managed);
    let Ok(Invocation::Run(managed)) = managed else {
        panic!("no configuration");
    };
    let limits = &managed.limits;
    assert_eq!((limits.max_streams, limits.internal_places), (19_631, 128));
    let set = |name: &str| (name == "CONNECT_WORKERS").then(|| "64".into());
    let Ok(Invocation::Run(loud)) = Config::from_sources(std::iter::empty(), set, &low) else {
        panic!("no configuration");
    };
    assert!(
        loud.notes[0].contains("CONNECT_WORKERS=64"),
        "{:?}",
        loud.notes
    );
    let bodies = config(
        &["--max-body-bytes=1000000", "--max-inbound-bytes=65536"],
        &[],
    );
    assert!(
        bodies.notes[0].contains("MAX_INBOUND_BYTES=65536"),
        "{:?}",
        bodies.notes
    );
}
