//! Caddy, as a proxy.

use crate::proxy::Kind;

pub const CADDY: Kind = Kind {
    name: "caddy",
    around: "\
{
    admin off
    servers {
        protocols h1 h2c
    }
}
{block}
",
    site: Some((
        "example.com {",
        ":{port} {\n    bind 127.0.0.1\n    encode gzip zstd {\n        minimum_length 1\n    }",
    )),
    command: |command, folder, file| {
        command.arg("run").arg("--config").arg(file);
        command.args(["--adapter", "caddyfile"]);
        for place in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
            command.env(place, folder);
        }
    },
    time_out: (
        "lb_try_duration 3s",
        "transport http {\n            read_timeout {}s\n        }\n",
    ),
    socket: (
        "reverse_proxy /events* 127.0.0.1:3000 {",
        "reverse_proxy /events* unix//run/ssegateway/public.sock {",
    ),
    everything: ("reverse_proxy /events*", "reverse_proxy"),
    down: 502,
    patience: Some(("lb_try_duration 3s", "lb_try_duration 60s")),
    elsewhere: 200,
    breaks_off: false,
    streams: 250,
    unbuffered: Some("no"),
};
