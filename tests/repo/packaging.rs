//! What packaging/ promises: an image's contents, as far as a machine without an image builder can
//! tell; in the modules below, units, a Debian package, and what looks after them.
//!
//! Some need root, chroot of coreutils, systemd, and a static build. Where that is one with
//! glibc, as here, random numbers are to come from the system call by its name: looked up while it
//! runs, as is the default, it is not found, and /dev/urandom would be needed. With musl it is linked.
//!
//! ```text
//! RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' \
//!     cargo build --release --target x86_64-unknown-linux-gnu
//! STATIC=target/x86_64-unknown-linux-gnu/release/ssegateway cargo test --test repo packaging:: -- --ignored
//! ```

mod deb;
mod machine;
mod monitoring;
mod systemd;
mod units;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::{env, io};

use serde_json::json;

use crate::support::process::Process;
use crate::support::{Backend, Folder, OK};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).expect(file)
}

// ---- the image ----

/// Instructions of the Dockerfile, each as its first word and the rest.
fn instructions() -> Vec<(String, String)> {
    let text = read("packaging/Dockerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(' ').expect("an instruction"))
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

/// An instruction's value in the last stage, where each may stand once.
#[track_caller]
fn last_stage(word: &str) -> String {
    let all = instructions();
    let from = all.iter().rposition(|(word, _)| word == "FROM");
    let mut found = all[from.expect("a stage")..]
        .iter()
        .filter(|(of, _)| of == word);
    let value = found.next().expect(word).1.clone();
    assert!(found.next().is_none(), "{word} twice");
    value
}

#[test]
fn the_image_is_the_program_alone() {
    assert_eq!(last_stage("FROM"), "scratch");
    assert_eq!(
        last_stage("COPY"),
        "--from=build /build/target/release/ssegateway /ssegateway"
    );
    assert_eq!(last_stage("STOPSIGNAL"), "SIGTERM");
    assert_eq!(last_stage("EXPOSE"), "3000");
    let user = last_stage("USER");
    let ids: Vec<_> = user.split(':').map(str::parse::<u32>).collect();
    assert!(matches!(ids[..], [Ok(1..), Ok(1..)]), "{user}");
    // In exec form: there is no shell.
    let exec = |form: &str| serde_json::from_str::<Vec<String>>(form).expect(form);
    assert_eq!(exec(&last_stage("ENTRYPOINT")), ["/ssegateway"]);
    assert_eq!(exec(&last_stage("RUN")), ["/ssegateway", "--version"]);
    let check = last_stage("HEALTHCHECK");
    let (options, command) = check.split_once("CMD ").expect("a command");
    assert_eq!(exec(command), ["/ssegateway", "--healthcheck"]);
    let limit = ssegateway::healthcheck::LIMIT.as_secs();
    let timeout = options.split("--timeout=").nth(1).expect("a time-out");
    let timeout: u64 = timeout.split('s').next().unwrap().parse().unwrap();
    assert!(timeout > limit, "{timeout} s for a check of {limit} s");
}

/// The build stage's sources are there, the ignore file lets them in, and they are all that Cargo
/// wants to see.
#[test]
fn the_image_is_built_from_what_it_copies() {
    let context = Folder::new("context");
    let allowed = read(".dockerignore");
    let allowed: Vec<_> = allowed.lines().filter(|l| !l.starts_with('#')).collect();
    assert_eq!(allowed.first(), Some(&"*"));
    let mut copied = 0;
    for (word, rest) in instructions() {
        if word != "COPY" || rest.starts_with("--from") {
            continue;
        }
        let paths: Vec<_> = rest.split_whitespace().collect();
        let (target, sources) = paths.split_last().expect("a target");
        for source in sources {
            assert!(allowed.contains(&&*format!("!{source}")), "{source}");
            let name = if *target == "./" { source } else { target };
            copy(&root().join(source), &context.0.join(name)).expect(source);
            copied += 1;
        }
    }
    assert_eq!(copied + 1, allowed.len(), "{allowed:?}");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(&context.0)
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    for (word, rest) in instructions() {
        if word == "RUN" && rest.starts_with("cargo build") {
            assert!(rest.contains("--locked") && context.0.join("Cargo.lock").exists());
        }
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::copy(from, to).map(drop);
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

/// As in the image: no other file, no /dev, no /proc, no rights.
const IN_IMAGE: &str = r#"exec chroot --userspec=65532:65532 --groups= "$IMAGE" /ssegateway"#;

#[test]
#[ignore = "needs root and a static build"]
fn the_program_needs_nothing_beside_it() {
    let program = env::var("STATIC").expect("STATIC names a static build");
    let image = Folder::new("image");
    // A test runs in the package's folder, which the path may be relative to.
    fs::copy(&program, image.0.join("ssegateway")).expect(&program);
    let folder = image.0.to_str().expect("a path");
    let backend = Backend::accepting();
    let mut gateway = Process::start(IN_IMAGE, &backend, &[("IMAGE", folder)]);
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("a process");
    for ids in ["Uid:\t65532\t65532\t65532\t65532\n", "Gid:\t65532\t"] {
        assert!(status.contains(ids), "{status}");
    }
    let at = fs::read_link(format!("/proc/{}/root", gateway.pid())).expect("a process");
    assert_eq!(at, image.0.canonicalize().expect("a folder"));

    let (mut stream, token) = gateway.open_stream(&backend, "/s");
    let answer = gateway.post(&json!({"token": token, "event": {"data": "x"}}));
    assert_eq!(answer.body, OK.as_bytes());
    assert_eq!(stream.next_event(), "data: x\n\n");

    let port = gateway.port().to_string();
    let check = |port: &str| -> Output {
        let script = format!("{IN_IMAGE} --healthcheck");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env_clear();
        command.env("IMAGE", folder).env("PORT", port);
        command.output().expect("a shell")
    };
    assert_eq!(check(&port).status.code(), Some(0), "{:?}", check(&port));
    gateway.signal("TERM");
    stream.expect_last_chunk_and_eof();
    assert_eq!(backend.next_disconnect_of(&token).reason(), "server_closed");
    assert_eq!(gateway.wait_exit().code(), Some(0));
    assert_eq!(check(&port).status.code(), Some(1));
    let files = fs::read_dir(&image.0).expect("a folder").count();
    assert_eq!(files, 1, "it has written files");
}
