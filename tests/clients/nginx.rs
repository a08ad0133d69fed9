//! nginx, as a proxy.

use crate::proxy::Kind;

pub const NGINX: Kind = Kind {
    name: "nginx",
    around: "\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr notice;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    gzip on;
    gzip_types *;
    gzip_proxied any;
    gzip_min_length 0;
    server {
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{port2} http2;
{block}
    }
}
",
    site: None,
    command: |command, folder, file| {
        command.arg("-p").arg(folder).arg("-c").arg(file);
        command.args(["-e", "stderr"]);
    },
    time_out: ("proxy_read_timeout 60s;", "proxy_read_timeout {}s;"),
    socket: (
        "proxy_pass http://127.0.0.1:3000;",
        "proxy_pass http://unix:/run/ssegateway/public.sock:;",
    ),
    everything: ("location /events", "location /"),
    down: 502,
    patience: None,
    elsewhere: 404,
    breaks_off: true,
    streams: 128,
    unbuffered: None,
};
