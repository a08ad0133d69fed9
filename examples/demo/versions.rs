//! The *version service*: tells every stream of a new version, with one send.
//!
//! Laws: nothing is noted here. Whoever is away when a version comes is brought it by the gateway's
//! history; of several, which have one key, the last. A page that is loaded later is of that version
//! itself.

use std::sync::Arc;

use serde_json::json;

use super::gateway::{Gateway, Outcome, event};

pub(crate) struct Versions {
    gateway: Arc<dyn Gateway>,
}

impl Versions {
    pub(crate) fn new(gateway: Arc<dyn Gateway>) -> Versions {
        Versions { gateway }
    }

    pub(crate) fn announce(&self, version: &str) -> Outcome {
        let mut event = event("version", &json!({"version": version}));
        event["key"] = json!("version");
        self.gateway
            .send(&json!({"broadcast": true, "event": event}))
    }
}

#[cfg(test)]
mod tests {
    use super::super::gateway::fake::Fake;
    use super::*;

    #[test]
    fn a_version_is_one_send_to_everybody() {
        let fake = Arc::<Fake>::default();
        let versions = Versions::new(Arc::clone(&fake) as Arc<dyn Gateway>);
        assert_eq!(versions.announce("1"), Outcome::Taken { receivers: 1 });
        assert_eq!(fake.sent(), ["everybody version 1"]);
    }
}
