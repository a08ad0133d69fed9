//! The fields of a callback that tell of the gateway and of the client's request (contract, section
//! 13).

use std::sync::{Mutex, PoisonError};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::CallbackSettings;
use crate::callback::MAX_FIELD;

/// Fields of a client's request that its callbacks repeat: whoever traces requests finds both.
pub(super) const REPEATED: [&str; 3] = ["traceparent", "tracestate", "x-request-id"];

/// Their values, as far as there are any that can be repeated.
pub(super) type Repeated = [Option<HeaderValue>; REPEATED.len()];

/// What all callbacks have in common.
pub(super) struct Fields {
    boot: Option<HeaderValue>,
    gateway_url: Option<HeaderValue>,
    authorization: Mutex<Option<HeaderValue>>,
}

impl Fields {
    pub(super) fn new(settings: &CallbackSettings) -> Fields {
        let value = |text: &String| HeaderValue::from_str(text).ok();
        Fields {
            boot: value(&settings.boot.to_string()),
            gateway_url: settings.gateway_url.as_ref().and_then(value),
            authorization: Mutex::new(settings.authorization.as_deref().and_then(secret)),
        }
    }

    /// What calls bear that begin from now on.
    pub(super) fn set_authorization(&self, text: &str) {
        let mut authorization = self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *authorization = secret(text);
    }

    /// Sets them in the head of a call that is about to begin.
    pub(super) fn write(&self, repeated: &Repeated, headers: &mut HeaderMap) {
        let authorization = self
            .authorization
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut set = |name, value: Option<HeaderValue>| {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        };
        set(AUTHORIZATION, authorization);
        set(HeaderName::from_static("x-gateway-boot"), self.boot.clone());
        set(
            HeaderName::from_static("x-gateway-url"),
            self.gateway_url.clone(),
        );
        for (name, value) in REPEATED.into_iter().zip(repeated) {
            set(HeaderName::from_static(name), value.clone());
        }
    }
}

/// A value that debug output does not show.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The bytes of a client's field, which `json` tells as a string of Latin-1; `None` when there is none,
/// or they cannot be a field's.
pub(super) fn repeated(json: &[u8]) -> Option<HeaderValue> {
    let text: String = serde_json::from_slice(json).ok()?;
    let bytes: Vec<u8> = text.chars().map(|c| c as u8).collect();
    HeaderValue::try_from(bytes)
        .ok()
        .filter(|value| value.len() <= MAX_FIELD)
}
