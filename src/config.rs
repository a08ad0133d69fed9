//! temporary
use std::time::Duration;
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Limits {
    pub max_head: usize,
    pub max_headers: usize,
    pub max_body: usize,
    pub request_timeout: Duration,
    pub new_connection_timeout: Duration,
    pub idle_timeout: Duration,
    pub max_unsent: usize,
    pub max_held: usize,
    pub max_unread_answer: usize,
    pub max_discarded: usize,
    pub stall_timeout: Duration,
    pub max_streams: usize,
    pub connect_timeout: Duration,
}
impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_head: 32 << 10,
            max_headers: 100,
            max_body: 4 << 20,
            request_timeout: Duration::from_secs(10),
            new_connection_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(75),
            max_unsent: 4 << 20,
            max_held: 64 << 20,
            max_unread_answer: 64 << 10,
            max_discarded: 64 << 10,
            stall_timeout: Duration::from_secs(30),
            max_streams: 10_000,
            connect_timeout: Duration::from_secs(5),
        }
    }
}
