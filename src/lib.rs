//! A gateway for Server-Sent Events: it holds the connections of clients for a backend that
//! decides, by HTTP callbacks, which streams open, and sends events to them by token.
//!
//! # Architecture
//!
//! A core without sockets, clocks or threads owns every connection and takes every decision; a
//! thin shell around it moves bytes. Calls go downwards only:
//!
//! ```text
//! main ──► config, host, logger, healthcheck
//!   └────► server ──► workers ──► wire          the shell: the only rooms that know
//!             │  └──► net                       mio, ureq, sockets, threads and clocks
//!             ▼
//!          gateway  (mod ► request, send, lifecycle ► conn, routes, journal …)
//!             │                                 pure: (state, input, now) → state, bytes, effects
//!             ▼
//!          wheel   tokens   header_store   http::{head, body, reply}   sse   wire   buf
//!                                               pure leaves: no connection, no time
//! ```
//!
//! - [`server`] waits for readiness, tells the [`gateway`] what happened with one of its verbs, and
//!   carries out the [`gateway::Effect`]s until there are none. It decides the order of things,
//!   never their meaning.
//! - [`gateway`] decides. Its states and what is legal in each stand in `gateway::conn`; the life
//!   of a stream, with the law that every accepted connect gets exactly one disconnect, in
//!   `gateway::lifecycle`.
//! - [`workers`] make the callbacks on threads of their own, in two lanes, and report back over a
//!   channel. [`callback`] is the data that crosses.
//!
//! The *contract* that the documentation refers to by section is the product's promise on the wire,
//! on the command line and in the log; the README states it for its users.
//!
//! # Five paths
//!
//! 1. *A stream opens.* Readiness → bytes → head → route → connect callback ([`gateway::Effect::Call`])
//!    → a worker's result → head, first event and what was buffered, in one write.
//! 2. *An event is sent.* Bytes → head and body → command → the target's queue →
//!    [`gateway::Effect::Flush`] → what the write came to decides the publisher's answer.
//! 3. *A heartbeat.* The wheel's timer → the deadline's meaning in the connection's state → bytes
//!    → flush.
//! 4. *A client leaves.* FIN or reset → the stream ends, its token is forgotten → disconnect
//!    callback.
//! 5. *The process ends.* A signal → every stream ends cleanly → callbacks are delivered → exit.
//!
//! # Laws
//!
//! - One event is one append and one write; nothing waits for a batch.
//! - Readiness is edge-triggered and announced once: whatever a budget cuts short is remembered
//!   and taken up in the next turn.
//! - A slot is freed only after the batch of readiness that may still name it; everything that
//!   comes back later carries a generation or an id of its own.
//! - Everything is bounded, and full is an answer.
#![forbid(unsafe_code)]

pub mod buf;
pub mod callback;
pub mod config;
pub mod gateway;
pub mod header_store;
pub mod healthcheck;
pub mod host;
pub mod http;
pub mod logfmt;
pub mod logger;
pub mod net;
pub mod server;
pub mod sse;
pub mod time;
pub mod tokens;
pub mod wheel;
pub mod wire;
pub mod workers;
