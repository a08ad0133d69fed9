//! SIGHUP: what was read from files is read again (contract, section 13). No connection notices.

use std::io::{self, IsTerminal};

use log::{error, info};

use super::Server;
use crate::config::Config;
use crate::logfmt::Value;
use crate::secrets::{CALLBACK_AUTHORIZATION, INTERNAL_KEY, SecretError, SecretFiles};

/// Whether SIGHUP is met here. On a terminal it says that the window was closed, which ends a program
/// that has nothing to read again.
pub(super) fn meets_hangups(config: &Config) -> bool {
    !SecretFiles::of(config).is_empty() || !io::stdin().is_terminal()
}

impl Server {
    /// Takes up what the files hold now. Where that cannot be used, what held so far stays.
    pub(super) fn reload(&mut self) {
        if self.files.is_empty() {
            info!("nothing to read again signal=SIGHUP");
        }
        if let Some(keys) = told(INTERNAL_KEY, self.files.internal_key()) {
            self.gateway.set_keys(Some(keys));
        }
        if let Some(value) = told(CALLBACK_AUTHORIZATION, self.files.callback_authorization())
            && let Some(workers) = &self.workers
        {
            workers.set_authorization(&value);
        }
    }
}

/// What was read, if there was something to read and it can be used, and a line that says so.
fn told<T>(setting: &str, read: Option<Result<T, SecretError>>) -> Option<T> {
    match read? {
        Ok(value) => {
            info!("secret read again setting={setting}");
            Some(value)
        }
        Err(SecretError { path, fault, .. }) => {
            let path = Value::new(path.as_os_str().as_encoded_bytes());
            let fault = fault.to_string();
            let fault = Value::new(&fault);
            error!(
                "secret not read again, the old value stays setting={setting} path={path} error={fault}"
            );
            None
        }
    }
}
