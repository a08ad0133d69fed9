//! A proxy that is configured by the README's block, with a gateway behind it.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use crate::program::Program;
use crate::readme;
use crate::support::{self, Client, Folder, Gateway, Port};
use crate::tools;

/// The gateway's address in the README's blocks.
const GATEWAY: &str = "127.0.0.1:3000";

/// The same as a Unix socket.
const SOCKET: &str = "/run/ssegateway/public.sock";

/// A text of the block, and what is put there in its place.
pub type Change<'t> = (&'t str, &'t str);

/// A program, how it is started, and what tests of all of them have to know of it.
#[derive(Debug)]
pub struct Kind {
    /// Its name, which is also the language of the README's block.
    pub name: &'static str,
    /// What stands around the `{block}`: nothing that would help it, and compression as hostile as
    /// it can be. `{port}` is where clients come, `{port2}` where those come that speak HTTP/2
    /// without TLS, if that has to be another port.
    pub around: &'static str,
    /// What the block says of the site, if anything, and what a test says.
    pub site: Option<Change<'static>>,
    /// How it is started with the file of its configuration, in a folder of its own. One process, so
    /// that killing it leaves none behind.
    pub command: fn(&mut Command, &Path, &Path),
    /// Where a time-out stands for a gateway that is silent, and how to make it `{}` seconds.
    pub time_out: Change<'static>,
    /// What leads to the gateway, and what leads to it through a Unix socket.
    pub socket: Change<'static>,
    /// What sends some requests to the gateway, and what sends all.
    pub everything: Change<'static>,
    /// What is answered while there is no gateway.
    pub down: u16,
    /// What makes it wait for a gateway for longer than any takes to start, if it waits at all.
    pub patience: Option<Change<'static>>,
    /// What is answered where there is nothing, not even a gateway.
    pub elsewhere: u16,
    /// Whether a stream that breaks off breaks off behind it as well, or looks like an end.
    pub breaks_off: bool,
    /// How many streams it lets one HTTP/2 connection have.
    pub streams: usize,
    /// What it leaves of the gateway's `X-Accel-Buffering`.
    pub unbuffered: Option<&'static str>,
}

/// One that runs; killed when dropped.
pub struct Proxy {
    port: Port,
    port2: Option<Port>,
    // First it ends, then its folder goes.
    _program: Program,
    _folder: Folder,
}

impl Proxy {
    /// The README's block with these texts replaced, each of which it must hold.
    #[track_caller]
    pub fn start(kind: &Kind, gateway: &Gateway, changes: &[Change]) -> Proxy {
        let mut block = readme::block(kind.name).to_owned();
        let port = format!("127.0.0.1:{}", gateway.port());
        let path = gateway.socket().and_then(Path::to_str);
        let place = match path {
            Some(path) => {
                assert!(support::readme::text().contains(kind.socket.1));
                vec![kind.socket, (SOCKET, path)]
            }
            None => vec![(GATEWAY, &*port)],
        };
        let place = place.into_iter().chain(kind.site);
        for (old, new) in place.chain(changes.iter().copied()) {
            assert!(block.contains(old), "the README's block has no {old:?}");
            block = block.replace(old, new);
        }
        let mut text = kind.around.replace("{block}", &block);
        let [port, port2] = ["{port}", "{port2}"].map(|name| {
            text.contains(name).then(|| {
                let port = Port::reserve_local();
                text = text.replace(name, &port.number().to_string());
                port
            })
        });
        let folder = Folder::new(kind.name);
        let file = folder.path("configuration");
        fs::write(&file, text).expect("a file");
        let mut command = Command::new(tools::program(kind.name));
        (kind.command)(&mut command, &folder.0, &file);
        let proxy = Proxy {
            port: port.expect("a port"),
            port2,
            _program: Program::start(&mut command),
            _folder: folder,
        };
        let listens = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
        let ports = [proxy.port(), proxy.port2()];
        proxy
            ._program
            .wait_until("listener", || ports.into_iter().all(listens));
        proxy
    }

    /// For HTTP/1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// For HTTP/2 without TLS.
    pub fn port2(&self) -> u16 {
        self.port2.as_ref().unwrap_or(&self.port).number()
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
