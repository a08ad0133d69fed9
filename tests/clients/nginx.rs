//! nginx, configured by the README's block, with a gateway behind it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::program::Program;
use crate::readme;
use crate::support::{Client, Port};
use crate::tools;

/// What stands around the block: nothing that would help it, and `gzip` as hostile as it can be.
/// One process, so that killing it leaves none behind.
const AROUND: &str = "\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr notice;
events { worker_connections 512; }
http {
    log_format test '$connection $server_protocol $status $uri';
    access_log /dev/stdout test;
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
";

/// An nginx that runs; killed when dropped.
pub struct Nginx {
    port: Port,
    port2: Port,
    pub program: Program,
    folder: PathBuf,
}

impl Nginx {
    /// The README's block as it is.
    #[track_caller]
    pub fn of(gateway: u16) -> Nginx {
        Nginx::with(gateway, &[])
    }

    /// The README's block with these texts replaced, each of which it must hold.
    #[track_caller]
    pub fn with(gateway: u16, changes: &[(&str, &str)]) -> Nginx {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let folder = tools::folder().join(format!("nginx-{process}-{number}"));
        fs::create_dir_all(&folder).expect("a folder");

        let own = format!("127.0.0.1:{gateway}");
        let mut block = readme::block("nginx").to_owned();
        for (old, new) in [("127.0.0.1:3000", own.as_str())].iter().chain(changes) {
            assert!(block.contains(old), "the README's block has no {old:?}");
            block = block.replace(old, new);
        }
        let (port, port2) = (Port::reserve_local(), Port::reserve_local());
        let text = AROUND
            .replace("{port}", &port.number().to_string())
            .replace("{port2}", &port2.number().to_string())
            .replace("{block}", &block);
        let file = folder.join("nginx.conf");
        fs::write(&file, text).expect("a file");
        let mut command = Command::new(tools::program("nginx"));
        command
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(&file)
            .args(["-e", "stderr"]);
        let program = Program::start(&mut command);
        // It says so when it has bound its ports.
        program.wait_error("event method");
        Nginx {
            port,
            port2,
            program,
            folder,
        }
    }

    /// For HTTP/1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// For HTTP/2 without TLS.
    pub fn port2(&self) -> u16 {
        self.port2.number()
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.port())
    }

    pub fn get(&self, path: &str) -> Client {
        let mut client = self.connect();
        client.get(path);
        client
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It may still write there; what is left is in the target directory.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
