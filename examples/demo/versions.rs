//! The *version service*: tells every stream of a new version, with one send.
//!
//! Laws: a version is noted first and sent then, and a connect callback reads what is noted. The
//! gateway sends to everybody, those included whose connect callback is out: so whoever connects
//! meanwhile learns of the version by the callback's answer or by the event, perhaps by both. Who
//! was away for several versions is told the last one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::gateway::{Gateway, Outcome, event};

pub(crate) struct Versions {
    gateway: Arc<dyn Gateway>,
    /// Held while a version is announced, and by nobody else: the one that is noted last is sent
    /// last.
    turn: Mutex<()>,
    current: Mutex<Option<String>>,
}

impl Versions {
    pub(crate) fn new(gateway: Arc<dyn Gateway>) -> Versions {
        Versions {
            gateway,
            turn: Mutex::default(),
            current: Mutex::default(),
        }
    }

    /// The version that was announced last.
    pub(crate) fn current(&self) -> Option<String> {
        lock(&self.current).clone()
    }

    pub(crate) fn announce(&self, version: &str) -> Outcome {
        let _turn = lock(&self.turn);
        *lock(&self.current) = Some(version.to_owned());
        self.gateway.send(&json!({
            "broadcast": true,
            "event": event("version", &json!({"version": version})),
        }))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::gateway::fake::Fake;
    use super::*;

    #[test]
    fn a_version_is_noted_before_it_is_sent_once() {
        let fake = Arc::<Fake>::default();
        let versions = Arc::new(Versions::new(Arc::clone(&fake) as Arc<dyn Gateway>));
        assert_eq!(versions.current(), None);
        let inner = Arc::clone(&versions);
        fake.react(move |_| {
            assert_eq!(inner.current().as_deref(), Some("1"));
            Outcome::Failed
        });
        assert_eq!(versions.announce("1"), Outcome::Failed);
        assert_eq!(fake.sent(), ["everybody version 1"]);
        // Whoever comes later is told all the same.
        assert_eq!(versions.current().as_deref(), Some("1"));
    }
}
