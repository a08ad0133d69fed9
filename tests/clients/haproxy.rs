//! HAProxy, as a proxy.

use crate::proxy::Kind;

pub const HAPROXY: Kind = Kind {
    name: "haproxy",
    around: "\
global
    maxconn 1024
{block}
",
    site: Some((
        "    bind :80",
        "    bind 127.0.0.1:{port}\n    compression algo gzip",
    )),
    command: |command, _, file| {
        command.arg("-db").arg("-f").arg(file);
    },
    time_out: ("timeout server 60s", "timeout server {}s"),
    socket: (
        "server gateway 127.0.0.1:3000",
        "server gateway unix@/run/ssegateway/public.sock",
    ),
    everything: ("if { path_beg /events }", ""),
    down: 503,
    patience: Some((
        "option http-no-delay",
        "option http-no-delay\n    retries 60",
    )),
    elsewhere: 503,
    breaks_off: true,
    streams: 100,
    unbuffered: Some("no"),
};
