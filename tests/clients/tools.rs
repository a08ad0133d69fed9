//! The programs that the tests need, and the packages that are installed for them, once, in
//! `clients/` of the target directory.
// Each kind of client uses its own part.
#![allow(dead_code)]

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A program of the host, with the Debian package that brings it.
const PROGRAMS: [(&str, &str); 10] = [
    ("node", "nodejs"),
    ("npm", "npm"),
    ("python3", "python3-venv"),
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("caddy", "caddy"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("curl", "curl"),
    ("chromium", "chromium"),
];

const NPM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/npm");
const PIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/pip");

/// Where a program is; the test fails when it is missing.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    // Debian puts nginx and HAProxy where only root looks.
    let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    let found = env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    let package = PROGRAMS.iter().find(|(program, _)| *program == name);
    let (_, package) = package.expect("a program of the list");
    found.unwrap_or_else(|| panic!("{name} is missing: on Debian, apt-get install {package}"))
}

/// Node with a script of the tests, which may `require` what `npm/package.json` names.
#[track_caller]
pub fn node(script: &str) -> Command {
    let mut command = Command::new(program("node"));
    command
        .env("NODE_PATH", node_modules())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
    command
}

/// Python with a script of the tests, which may import what `pip/requirements.txt` names.
#[track_caller]
pub fn python(script: &str) -> Command {
    let mut command = Command::new(virtual_environment().join("bin/python"));
    // Unbuffered: what it prints is waited for.
    command
        .arg("-u")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
    command
}

/// A command line that may name what `pip/requirements.txt` brings, in the folder of the tests' programs.
#[track_caller]
pub fn shell(line: &str) -> Command {
    let path = env::var("PATH").unwrap_or_default();
    let own = virtual_environment().join("bin");
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("exec {line}")])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/programs"))
        .env("PATH", format!("{}:{path}", own.display()));
    command
}

/// The installed packages of `npm/package-lock.json`.
#[track_caller]
pub fn node_modules() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let npm = program("npm");
        let folder = install(
            "npm",
            &["package.json", "package-lock.json"],
            NPM,
            |folder| {
                let mut command = Command::new(&npm);
                command.current_dir(folder);
                command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
                run(&mut command);
            },
        );
        folder.join("node_modules")
    })
}

/// A virtual environment with the packages of `pip/requirements.txt`.
#[track_caller]
fn virtual_environment() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let python = program("python3");
        let folder = install("pip", &["requirements.txt"], PIP, |folder| {
            run(Command::new(&python)
                .args(["-m", "venv", "--clear"])
                .arg(folder.join("venv")));
            let mut pip = Command::new(folder.join("venv/bin/pip"));
            pip.args([
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "-r",
            ]);
            run(pip.arg(folder.join("requirements.txt")));
        });
        folder.join("venv")
    })
}

/// The target directory's folder of what the tests install.
pub fn folder() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent();
    target.expect("a target directory").join("clients")
}

/// Copies `lists`, which say what to install, and installs unless exactly that is there. Other
/// processes wait meanwhile.
fn install(name: &str, lists: &[&str], from: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let folder = folder().join(name);
    fs::create_dir_all(&folder).expect("a folder");
    let lock = File::create(folder.join("lock")).expect("a file");
    lock.lock().expect("a lock");
    let wanted: String = lists
        .iter()
        .map(|list| fs::read_to_string(Path::new(from).join(list)).expect("a list"))
        .collect();
    // Written last: what was cut off is installed again.
    let installed = folder.join("installed");
    if fs::read_to_string(&installed).is_ok_and(|there| there == wanted) {
        return folder;
    }
    for list in lists {
        fs::copy(Path::new(from).join(list), folder.join(list)).expect("a copy");
    }
    install(&folder);
    fs::write(&installed, wanted).expect("a file");
    folder
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().expect("a program");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}\nThe tests install packages from npm and PyPI: both must be reachable.",
        output.status
    );
}
