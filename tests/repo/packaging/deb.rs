//! The Debian package: built of a program that is there, it installs, starts where systemd runs,
//! asks for nothing, and leaves nothing.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::machine::{Machine, within};
use super::root;
use crate::support::Folder;
use crate::support::{Client, readme};

/// The files that it consists of, and what enables the service.
const INSTALLED: [&str; 10] = [
    "/etc/ssegateway.env",
    "/etc/systemd/system/multi-user.target.wants/ssegateway.service",
    "/usr/bin/ssegateway",
    "/usr/lib/systemd/system/ssegateway-internal.socket",
    "/usr/lib/systemd/system/ssegateway.service",
    "/usr/lib/systemd/system/ssegateway.socket",
    "/usr/share/doc/ssegateway/changelog.Debian.gz",
    "/usr/share/doc/ssegateway/copyright",
    "/usr/share/lintian/overrides/ssegateway",
    "/usr/share/man/man8/ssegateway.8.gz",
];

/// The README's: how it is built, and how it is installed.
fn commands() -> [&'static str; 2] {
    let block = readme::blocks("sh deb")[0];
    let lines: Vec<_> = block.lines().collect();
    lines.try_into().expect("two commands")
}

/// A package, in a folder of its own.
fn build(folder: &Folder) -> PathBuf {
    let program = env::var("STATIC").expect("STATIC names a static build");
    let [build, _] = commands();
    let folder_of = folder.0.to_str().expect("a path");
    let build = build.replace("target/release/ssegateway target", "$PROGRAM $FOLDER");
    let output = Command::new("sh")
        .args(["-euc", &build])
        .envs([("PROGRAM", &*program), ("FOLDER", folder_of)])
        .current_dir(root())
        .output()
        .expect("a shell");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert_eq!(error, "");
    let version = env!("CARGO_PKG_VERSION");
    let mut files = fs::read_dir(&folder.0).expect("a folder");
    let file = files.next().expect("a package").expect("an entry").path();
    assert!(files.next().is_none(), "more than one file");
    let name = file.file_name().expect("a name").to_string_lossy();
    assert!(
        name.starts_with(&format!("ssegateway_{version}-1_")),
        "{name}"
    );
    file
}

#[test]
#[ignore = "needs lintian and a static build"]
fn lintian_finds_no_fault() {
    let folder = Folder::new("deb");
    let output = Command::new("lintian")
        .args(["--allow-root", "--fail-on", "error,warning"])
        .arg(build(&folder))
        .output()
        .expect("lintian runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{error}");
}

/// What is there, but for what the package's tools write for themselves; a folder ends in a slash.
fn files(machine: &Machine) -> Vec<String> {
    let tools = "-path /var/lib/dpkg -o -path /var/log -o -path /var/cache";
    let shown = "-type d -printf '%p/\\n' -o -print";
    let list = format!(
        "find /etc /usr /var -maxdepth 5 \\( {tools} \\) -prune -o {shown} | LC_ALL=C sort"
    );
    machine.run(&list).lines().map(str::to_owned).collect()
}

/// What is in the one list and not in the other.
fn beyond<'a>(more: &'a [String], less: &[String]) -> Vec<&'a str> {
    let found = more.iter().filter(|name| less.binary_search(name).is_err());
    found.map(String::as_str).collect()
}

fn status_of(path: &str) -> u16 {
    let mut client = Client::connect(3000);
    client.get(path);
    client.read_response().status()
}

/// It runs, for this machine alone, and does so after each boot.
fn assert_started(machine: &Machine) {
    assert_eq!(machine.property("ssegateway", "ActiveState"), "active");
    assert_eq!(machine.property("ssegateway", "UnitFileState"), "enabled");
    let socket = machine.property("ssegateway.socket", "UnitFileState");
    assert_eq!(socket, "disabled");
    assert_eq!(status_of("/healthz"), 200);
    assert_eq!(status_of("/events"), 503);
    // Addresses that are listened on.
    let listening =
        machine.run("cat /proc/net/tcp /proc/net/tcp6 | awk '$4 == \"0A\" { print $2 }'");
    assert_eq!(listening, "0100007F:0BB8\n", "127.0.0.1 alone");
}

/// The package is installed, again and again.
const AGAIN: &str = "dpkg --install /tmp/from/target/*.deb < /dev/null";

/// Who has changed the settings is asked nothing, and keeps them; what ran runs anew, and what was
/// stopped and disabled stays so.
fn assert_kept_by_a_newer_one(machine: &Machine) {
    let process = machine.property("ssegateway", "MainPID");
    machine.run("echo LOG_LEVEL=debug >> /etc/ssegateway.env");
    machine.run(AGAIN);
    assert_eq!(machine.property("ssegateway", "ActiveState"), "active");
    assert_ne!(machine.property("ssegateway", "MainPID"), process);
    machine.run("systemctl disable --now ssegateway");
    machine.run(AGAIN);
    assert_eq!(machine.property("ssegateway", "UnitFileState"), "disabled");
    assert_eq!(machine.property("ssegateway", "ActiveState"), "inactive");
    machine.run("grep -q LOG_LEVEL=debug /etc/ssegateway.env");
}

#[test]
#[ignore = "needs root, systemd and a static build"]
fn it_comes_and_goes() {
    within("deb::it_comes_and_goes", |machine| {
        let folder = Folder::new("deb");
        let package = build(&folder);
        let name = package.file_name().expect("a name").to_string_lossy();
        machine.give(&name, &package);
        // Where the README's reader has it.
        machine.run("mkdir /tmp/from/target; mv /tmp/from/*.deb /tmp/from/target");
        machine.wait_until_up();
        // Images of containers have dpkg leave out manuals.
        machine.run("rm -f /etc/dpkg/dpkg.cfg.d/*");
        let before = files(machine);

        let [_, install] = commands();
        machine.run(&format!("cd /tmp/from; {install} < /dev/null"));
        assert_started(machine);
        let version = concat!("ssegateway ", env!("CARGO_PKG_VERSION"), "\n");
        assert_eq!(machine.run("ssegateway --version"), version);
        let owner = machine.run("stat -c '%a %U %G' /etc/ssegateway.env");
        assert_eq!(owner, "600 root root\n");
        let after = files(machine);
        let added = beyond(&after, &before).into_iter();
        let added = added.filter(|name| !name.starts_with("/var/") && !name.ends_with('/'));
        assert_eq!(added.collect::<Vec<_>>(), INSTALLED);

        assert_kept_by_a_newer_one(machine);

        machine.run("systemctl start ssegateway.socket; systemctl start ssegateway");
        machine.run("dpkg --remove ssegateway; test -f /etc/ssegateway.env");
        for unit in ["ssegateway", "ssegateway.socket"] {
            assert_eq!(machine.property(unit, "ActiveState"), "inactive", "{unit}");
        }
        machine.run("dpkg --purge ssegateway");
        let left = files(machine);
        assert_eq!(beyond(&left, &before), [""; 0]);
        assert_eq!(beyond(&before, &left), [""; 0]);

        // Where systemd does not run it is no hindrance.
        machine.run(&format!(
            "unshare --mount sh -euc '
                mount -t tmpfs tmpfs /run
                {AGAIN}
                ssegateway --version
                dpkg --purge ssegateway
            '"
        ));
        assert_eq!(beyond(&files(machine), &before), [""; 0]);
    });
}
