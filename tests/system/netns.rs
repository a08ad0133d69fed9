//! Two network namespaces of one test's own, joined by a pair of virtual interfaces. The test runs
//! in one of them, as a process of its own; the other is far, and can be cut off.
//!
//! All traffic stays within the two, whose addresses are therefore the same in every run.

use std::env;
use std::fs;
use std::io::Read;
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::support::Shared;

const NEAR_ADDRESS: &str = "198.18.0.1";
const FAR_ADDRESS: &str = "198.18.0.2";
/// The interface of either namespace.
const INTERFACE: &str = "wire";
/// Says to the inner process which namespace is the far one.
const FAR: &str = "TEST_FAR_NAMESPACE";

/// Runs a test within a namespace: in the process that the runner started it is set up and torn
/// down, in the one within it `body` runs. `name` is the test's own, with its module.
///
/// # Panics
/// Without the rights or the tools for it: what could not be tried has not passed.
#[track_caller]
pub(crate) fn within(name: &str, body: fn(&Far)) {
    if let Ok(namespace) = env::var(FAR) {
        return body(&Far { namespace });
    }
    let pair = Pair::new();
    let output = Command::new("ip")
        .args(["netns", "exec", &pair.near])
        .arg(env::current_exe().expect("the test's own path"))
        .args([name, "--exact", "--ignored", "--nocapture"])
        .env(FAR, &pair.far)
        .stderr(Stdio::inherit())
        .output()
        .expect("ip runs");
    let said = String::from_utf8_lossy(&output.stdout);
    print!("{said}");
    assert!(output.status.success(), "{name}: {}", output.status);
    // A name that no test has would be no failure.
    assert!(said.contains("test result: ok. 1 passed"), "{name}");
}

/// Within a namespace: from now on it has no IPv6.
pub(crate) fn disable_ipv6() {
    for interfaces in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{interfaces}/disable_ipv6");
        fs::write(&path, "1").expect(&path);
    }
}

#[track_caller]
fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("ip of iproute2 runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {text}");
}

/// Both namespaces; removed, with the interfaces in them, when dropped.
struct Pair {
    near: String,
    far: String,
}

impl Pair {
    fn new() -> Pair {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ssegw-{}-{id}", process::id());
        let pair = Pair {
            near: format!("{name}-near"),
            far: format!("{name}-far"),
        };
        pair.make();
        pair
    }

    fn make(&self) {
        let (near, far) = (&*self.near, &*self.far);
        ip(&format!("netns add {near}"));
        ip(&format!("netns add {far}"));
        ip(&format!(
            "-n {near} link add {INTERFACE} type veth peer name {INTERFACE} netns {far}"
        ));
        for (name, address) in [(near, NEAR_ADDRESS), (far, FAR_ADDRESS)] {
            ip(&format!(
                "-n {name} address add {address}/30 dev {INTERFACE}"
            ));
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} link set {INTERFACE} up"));
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for name in [&self.near, &self.far] {
            // One that could not be made cannot be removed.
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}

/// The namespace at the other end of the wire.
pub(crate) struct Far {
    namespace: String,
}

/// How a peer gets lost.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Loss {
    /// Its interface goes down: the carrier is lost at this end, and no neighbour answers.
    Link,
    /// It loses its address: packets still arrive there, and are dropped without a word.
    Address,
}

impl Far {
    /// A client over there that asks for a stream.
    pub(crate) fn get(&self, port: u16, path: &str) -> FarClient {
        FarClient::new(&self.namespace, port, path)
    }

    /// From now on nothing comes back.
    pub(crate) fn lose(&self, loss: Loss) {
        let namespace = &self.namespace;
        match loss {
            Loss::Link => ip(&format!("-n {namespace} link set {INTERFACE} down")),
            Loss::Address => ip(&format!("-n {namespace} address flush dev {INTERFACE}")),
        }
    }

    /// After [`Loss::Link`]: packets pass again.
    pub(crate) fn mend(&self) {
        ip(&format!("-n {} link set {INTERFACE} up", self.namespace));
    }
}

/// A client in the far namespace, a process of its own as a thread of safe code cannot go there.
pub(crate) struct FarClient {
    child: Child,
    received: Arc<Shared<Vec<u8>>>,
}

impl FarClient {
    fn new(namespace: &str, port: u16, path: &str) -> FarClient {
        let script = format!(
            "exec 3<>/dev/tcp/{NEAR_ADDRESS}/{port} && \
             printf 'GET {path} HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n' >&3 && exec cat <&3"
        );
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace, "bash", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip runs");
        let mut output = child.stdout.take().expect("a pipe");
        let received = Arc::new(Shared::<Vec<u8>>::default());
        let gathered = Arc::clone(&received);
        thread::spawn(move || {
            let mut room = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut room) {
                gathered.change(|bytes| bytes.extend_from_slice(&room[..n]));
            }
        });
        FarClient { child, received }
    }

    /// Waits until it has received this.
    #[track_caller]
    pub(crate) fn wait_text(&self, part: &str) {
        let found = self.received.wait(|bytes| {
            let text = String::from_utf8_lossy(bytes);
            text.contains(part).then_some(())
        });
        assert!(found.is_some(), "no {part:?} in {:?}", self.text());
    }

    pub(crate) fn text(&self) -> String {
        self.received
            .look(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }
}

impl Drop for FarClient {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
