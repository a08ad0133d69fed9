//! The units, the file of settings beside them, and the manual page.

use std::fs;
use std::process::Command;

use ssegateway::config::{Default, Limits, SETTINGS};

use super::read;
use crate::support::Folder;

const SERVICE: &str = "packaging/ssegateway.service";

/// The units' files.
pub(super) const UNITS: [&str; 3] = [
    "ssegateway.service",
    "ssegateway.socket",
    "ssegateway-internal.socket",
];

/// Where the service expects the program.
const INSTALLED: &str = "/usr/local/bin/ssegateway";

/// What a unit says of `key`, once.
#[track_caller]
fn value(unit: &str, key: &str) -> String {
    let mut found = unit.lines().filter_map(|line| line.strip_prefix(key));
    let value = found.next().expect(key);
    assert_eq!(found.next(), None, "{key}");
    value.to_owned()
}

#[test]
fn the_service_waits_longer_than_a_shutdown_lasts() {
    let service = read(SERVICE);
    let limit = Limits::default().shutdown_timeout;
    let patience: u64 = value(&service, "TimeoutStopSec=").parse().expect("seconds");
    assert!(patience > limit.as_secs(), "{patience} s and {limit:?}");
    let watchdog: u64 = value(&service, "WatchdogSec=").parse().expect("seconds");
    assert!(watchdog > 0 && value(&service, "Type=") == "notify");
    assert_eq!(value(&service, "RestartPreventExitStatus="), "2");
    assert_eq!(value(&service, "EnvironmentFile="), "-/etc/ssegateway.env");
    assert_eq!(value(&service, "ExecStart="), INSTALLED);
}

/// Commented ones included: they are there to be taken.
#[test]
fn the_settings_that_are_proposed_exist() {
    let file = read("packaging/ssegateway.env");
    let mut names: Vec<_> = file
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .map(|(name, _)| name)
        .collect();
    let service = read(SERVICE);
    let environment = service.lines().filter_map(|line| {
        let line = line.trim_start_matches('#');
        Some(line.strip_prefix("Environment=")?.split_once('=')?.0)
    });
    names.extend(environment);
    assert!(names.contains(&"CALLBACK_URL") && names.contains(&"INTERNAL_KEY_FILE"));
    for name in names {
        assert!(
            SETTINGS.iter().any(|setting| setting.name == name),
            "{name}"
        );
    }
    // Who installs it has said nothing of who may connect.
    assert!(file.lines().any(|line| line == "HOST=127.0.0.1"));
}

#[test]
fn the_manual_page_tells_every_setting_and_its_default() {
    let page = read("packaging/ssegateway.8");
    for setting in SETTINGS {
        let name = setting.name;
        let (_, item) = page.split_once(&format!(".It Ev {name}\n")).expect(name);
        let item = item.split("\n.").next().expect("an item");
        let (Default::Is(default) | Default::Unset(default)) = setting.default;
        let said = format!("Default: {default}");
        // Behind it an end, or the range.
        let is_said = item
            .split_once(&said)
            .is_some_and(|(_, rest)| rest.starts_with(['.', ';']));
        assert!(is_said, "{name}: {said:?} is not in {item:?}");
    }
    let told = page.matches("\nDefault: ").count();
    assert_eq!(told, SETTINGS.len());
}

#[test]
#[ignore = "needs systemd-analyze"]
fn systemd_finds_no_fault_with_the_units() {
    let folder = Folder::new("units");
    for name in UNITS {
        let text = read(&format!("packaging/{name}"));
        let here = text.replace(INSTALLED, env!("CARGO_BIN_EXE_ssegateway"));
        fs::write(folder.0.join(name), here).expect("a file");
    }
    let [service, ..] = UNITS;
    // 13: what it may do that it could do without, from 0 to 100; 12 when this was written.
    for (args, units) in [
        (&["verify", "--man=no"][..], &UNITS[..]),
        (
            &["security", "--offline=true", "--threshold=13"],
            &[service],
        ),
    ] {
        let output = Command::new("systemd-analyze")
            .args(args)
            .args(units.iter().map(|name| folder.0.join(name)))
            .output()
            .expect("systemd-analyze of systemd runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}\n{text}\n{error}");
        // What it does not know it passes over, with a warning.
        assert_eq!(error, "", "{args:?}");
    }
}
