//! The demo's page in a real browser, with nginx before gateway and backend as in production.
//!
//! Each test is a case of `browser/*.mjs`, which says what it asserts; `browser/driver.mjs` runs it
//! in a browser and with processes of its own. Screenshots are in `clients/screenshots` of the
//! target directory.

use std::env;
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use crate::support::{self, Port};
use crate::tools;

/// One browser at a time: several of them leave none enough of a small host.
static BROWSER: Mutex<()> = Mutex::new(());

pub fn alone() -> MutexGuard<'static, ()> {
    BROWSER.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn chromium() -> PathBuf {
    let chromium = env::var_os("PUPPETEER_EXECUTABLE_PATH").map(PathBuf::from);
    chromium.unwrap_or_else(|| tools::program("chromium"))
}

#[track_caller]
fn drive(case: &str) {
    let _alone = alone();
    let reserved = [(); 4].map(|()| Port::reserve_local());
    let [gateway, backend, proxy, wire] = reserved.each_ref().map(Port::number);
    let ports = json!({"gateway": gateway, "backend": backend, "proxy": proxy, "wire": wire});
    let mut driver = tools::node("tests/clients/browser/driver.mjs")
        .arg(case)
        .env("PORTS", ports.to_string())
        .env("GATEWAY", env!("CARGO_BIN_EXE_ssegateway"))
        .env("BACKEND", support::demo())
        .env("NGINX", tools::program("nginx"))
        .env("CHROMIUM", chromium())
        .env("SCREENSHOTS", tools::folder().join("screenshots"))
        // It ends when this is closed, whatever becomes of this process.
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the driver runs");
    let mut said = String::new();
    let mut errors = driver.stderr.take().expect("a pipe");
    errors.read_to_string(&mut said).expect("its errors");
    let status = driver.wait().expect("an exit status");
    assert!(status.success(), "{case}: {status}\n{said}");
}

macro_rules! cases {
    ($($name:ident)*) => {$(
        #[test]
        #[ignore = "needs Node, nginx and Chromium"]
        fn $name() {
            drive(stringify!($name));
        }
    )*};
}

cases! {
    progress failure version
    shared rooms replaced without_worker reload
    cut story gap
    network gateway_restart backend_restart unanswered refused
    looks keyboard motion
}
