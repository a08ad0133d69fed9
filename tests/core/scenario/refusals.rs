//! Every way in which a stream is refused.

use std::time::Duration;

use ssegateway::callback::Outcome;
use ssegateway::gateway::{ConnId, Settings};

use super::driver::*;

/// A way to be refused.
pub(crate) struct Way {
    /// What has to be set for it.
    pub(crate) settings: fn(Settings) -> Settings,
    /// Has this request for a stream refused.
    pub(crate) refuse: fn(&mut Script, &str) -> ConnId,
    /// The answer in short.
    pub(crate) answer: &'static str,
}

fn asked(s: &mut Script, request: &str) -> ConnId {
    let client = s.open();
    s.bytes(client, request);
    client
}

/// A client whose callback has this outcome.
fn with_outcome(s: &mut Script, request: &str, outcome: Outcome) -> ConnId {
    let client = asked(s, request);
    let job = s.job();
    s.result(&job, outcome);
    client
}

/// A request with one more field.
fn and_field(request: &str, field: &str) -> String {
    request.replacen("\r\n\r\n", &format!("\r\n{field}\r\n\r\n"), 1)
}

const OVERLOADED: &str = "503 OVERLOADED close Retry-After=5";
const SHUTTING_DOWN: &str = "503 SHUTTING_DOWN close Retry-After=5";

/// All of them.
pub(crate) const WAYS: [Way; 15] = [
    Way {
        settings: |settings| settings,
        refuse: |s, request| with_outcome(s, request, status(403)),
        answer: "403 BACKEND_FORBIDDEN",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| with_outcome(s, request, status(401)),
        answer: "401 BACKEND_AUTH_FAILED",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| with_outcome(s, request, status(302)),
        answer: "302 BACKEND_ERROR",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| with_outcome(s, request, status(429)),
        answer: "429 BACKEND_ERROR",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| with_outcome(s, request, status(599)),
        answer: "599 BACKEND_ERROR",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| with_outcome(s, request, status(304)),
        answer: "502 BACKEND_ERROR",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| with_outcome(s, request, Outcome::Failed("refused".into())),
        answer: "503 BACKEND_UNAVAILABLE",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| {
            let client = asked(s, request);
            s.pass(Duration::from_secs(6));
            client
        },
        answer: "504 GATEWAY_TIMEOUT",
    },
    Way {
        settings: |mut settings| {
            settings.is_configured = false;
            settings
        },
        refuse: asked,
        answer: "503 SERVICE_NOT_CONFIGURED",
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| {
            s.is_queue_full = true;
            asked(s, request)
        },
        answer: OVERLOADED,
    },
    Way {
        settings: |mut settings| {
            settings.limits.max_streams = 1;
            settings
        },
        refuse: |s, request| {
            s.await_callback();
            asked(s, request)
        },
        answer: OVERLOADED,
    },
    // Nothing of its head is kept.
    Way {
        settings: |mut settings| {
            settings.limits.max_kept_headers = 4000;
            settings
        },
        refuse: |s, request| asked(s, &and_field(request, &format!("X: {}", "x".repeat(5000)))),
        answer: OVERLOADED,
    },
    // It is the youngest request under way when too much is held.
    Way {
        settings: |mut settings| {
            settings.limits.max_inbound = 5000;
            settings
        },
        refuse: |s, request| {
            let long = format!("Content-Length: 9\r\nX: {}", "x".repeat(6000));
            asked(s, &and_field(request, &long))
        },
        answer: OVERLOADED,
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| {
            let client = asked(s, request);
            s.shutdown();
            client
        },
        answer: SHUTTING_DOWN,
    },
    Way {
        settings: |settings| settings,
        refuse: |s, request| {
            s.shutdown();
            asked(s, request)
        },
        answer: SHUTTING_DOWN,
    },
];
