//! A gateway for Server-Sent Events: it holds the connections of clients for a backend that
//! decides, by HTTP callbacks, which streams open, and sends events to them by token or by channel.
//!
//! # Architecture
//!
//! A core without sockets, clocks or threads owns every connection and takes every decision; a
//! thin shell around it moves bytes. Calls go downwards only:
//!
//! ```text
//! main ──► config, host, logger, secrets, healthcheck, systemd
//!   └────► server ──► workers ──► wire          the shell: the only rooms that know
//!             │  └────────┴───► net             mio, ureq, sockets, threads and clocks
//!             ▼
//!          gateway                              pure: (state, input, now) → state, bytes, effects
//!             │   mod, serve, send, publish,    `impl Gateway`: what crosses connections;
//!             │   fanout, eviction, trim,       verbs, and whom they are about
//!             │   lists, metrics
//!             │     ▼
//!             │   request, asked, answer,       `impl Conn`: what concerns one, with the hub,
//!             │   lifecycle, joining, output,   which is what all of them share
//!             │   compose, deadlines, settle
//!             │     ▼
//!             │   conns, conn, hub ► calls, channels, journal ► counters, limit; routes, origins,
//!             │            │                   head_fields
//!             │            ╰► backlog, retained, replay ► history ► frame
//!             ▼
//!          wheel   tokens   keys   header_store   http::{head, query, body, reply}   sse   wire   buf
//!                                               pure leaves: no connection, no time
//! ```
//!
//! - [`server`] waits for readiness, tells the [`gateway`] what happened with one of its verbs, and
//!   carries out the [`gateway::Effect`]s until there are none. It decides the order of things,
//!   never their meaning.
//! - [`gateway`] decides. Its states and what is legal in each stand in `gateway::conn`; the life
//!   of a stream, with the law that every accepted connect gets exactly one disconnect, in
//!   `gateway::lifecycle`. A function says by its arguments what it may touch: one that takes a
//!   connection and the hub touches no other connection.
//! - [`workers`] make the callbacks on threads of their own, in two lanes, and report back over a
//!   queue. [`callback`] is the data that crosses.
//! - [`header_store`] keeps what callbacks tell of a request's head, each field once however many
//!   streams share it.
//!
//! The *contract* that the documentation refers to by section is the product's promise on the wire,
//! on the command line and in the log; the README states it for its users.
//!
//! # Six paths
//!
//! 1. *A stream opens.* Readiness → bytes → head → route → connect callback ([`gateway::Effect::Call`])
//!    → a worker's result → head, first event and what was buffered, in one write.
//! 2. *An event is sent.* Bytes → head and body → command → the target's queue →
//!    [`gateway::Effect::Flush`] → what the write came to decides the publisher's answer; see below.
//! 3. *An event goes to many.* Command → a fan-out with a number, the publisher's answer → a slice
//!    of its receivers in each turn → [`gateway::Effect::Flush`] for each; see below.
//! 4. *A heartbeat.* The wheel's timer → the deadline's meaning in the connection's state → bytes
//!    → flush.
//! 5. *A client leaves.* FIN or reset → the stream ends, its token is forgotten → disconnect
//!    callback.
//! 6. *The process ends.* A signal → every stream ends cleanly → callbacks are delivered → exit.
//!
//! # A send's way
//!
//! A publisher's answer says what became of its event, so a send is the one request that waits for
//! another connection's socket. Nobody blocks meanwhile, and nothing is written to the publisher
//! before it is known:
//!
//! ```text
//! shell      readable(publisher)
//! gateway      bytes ► serve ► conn.read: a whole head and body ► Step::Send
//!              send ► obey: whose token is it?
//!                nobody's, or nothing to write ─────────────────────► answer, 404 or 200
//!                (first the stream is given what fan-outs have for it)
//!                awaiting the backend: into its window ─────────────► answer, 200 buffered
//!                open, its socket is full: behind what waits there ─► answer, 200 queued
//!                open: appended to its output;
//!                  the publisher is Sending, and its next requests are kept
//! shell      Effect::Flush(target) ► one write of what is there
//! gateway      flushed(target, n), or broken(target) ► settle_send ─► answer, 200 or 500
//!              the publisher is among those that are ready to be served
//! shell      no effect is left ► effect()
//! gateway      serve_kept(publisher): the next request of its pipeline, if there is one, and
//!              again from the top; if not, the publisher is brought to rest
//! shell      Effect::Flush(publisher) ► its answers, all in one write
//! ```
//!
//! So a send costs three system calls beside its part of a poll; a pipeline of them one read for
//! every 16 KiB, one write for each event, and one for the answers to what a read brought. What is
//! kept is bounded by the budgets of the contract's section 6 at each step. Connections whose kept
//! input can be served wait in one queue, which [`gateway::Gateway::effect`] looks at when no effect
//! is left: a verb never serves requests of a connection that it was not about.
//!
//! # An event's way to many
//!
//! An event is encoded once. Whoever keeps up is written to from that one copy and owns nothing;
//! whoever does not has a queue of references to such copies behind its plain bytes, and so has a
//! stream whose connect callback is out. An event with a key takes out an earlier one of that queue
//! of which nothing was written.
//!
//! ```text
//! gateway      carry_out ► publish: who is meant, and how many are they?
//!                eight are pending: the publisher is Queueing, and is read no further
//!                otherwise: one more is pending, with the next number ► answer, 200 receivers
//! shell      once in a turn: fan_out
//! gateway      the next members of one's audience, some 64 of them ► catch_up:
//!                whatever is pending beyond the number that the stream has seen and is for it
//!              (in turn of the oldest, and of the one that has the fewest left)
//! shell      Effect::Flush(stream) for each
//! ```
//!
//! Whatever else touches a stream, a send to it, a join, a leave, a close, its opening, a shutdown,
//! calls `catch_up` first. That is all that keeps the order: a stream's events come in the order in
//! which they were read, whichever way each was addressed, and no fan-out has to be finished before
//! others are served.
//!
//! # What comes from the history
//!
//! With a history, every event of a channel and every broadcast has a number, and is kept by it until
//! it is the oldest and there is no room, or it is too old. A stream that has a past, since its client
//! comes again or its backend says so, and every stream whose callback is out, has a *replay*: a
//! cursor for each of its channels. As long as it has one, fan-outs put nothing into its queue, and
//! its events are taken from the history when its socket is about to be written to:
//!
//! ```text
//! gateway      connect ► a replay that begins at the callback's position
//!              open ► joining: where does it begin, and is all behind that kept? If not: a gap event
//! shell      Effect::Flush(stream) ► output
//! gateway      compose: the next 48 KiB of its channels' events by number, merged with what waits in
//!                its queue by what had been published when that was read; at the end its position
//! shell      one write
//! gateway      flushed ► composed: its cursors stand behind what was taken; nothing else is kept
//!              more is to come: it waits for its turn (fan_out), or for its socket
//!              nothing is: it is a stream like others, and its fan-outs begin behind that
//! ```
//!
//! So ten thousand who come back at once cost cursors, and one who reads slowly keeps nothing alive:
//! when events are forgotten that were to come to it, it is told by a gap event.
//!
//! # What operators see
//!
//! The journal hears of everything that happens, so it counts as well as it logs: plain numbers in
//! `gateway::counters`, which no line costs anything but an addition. `gateway::metrics` renders them
//! when somebody asks; what the shell alone knows, memory and descriptors, it gives in answer to
//! [`gateway::Effect::Measure`], while whoever asked waits as a publisher does. A look costs the same
//! however many streams there are. `gateway::lists` tells who is there, a page of slots at a time: a
//! stream stays in its slot, so it is on exactly one page.
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
pub mod event_id;
pub mod gateway;
pub mod header_store;
pub mod healthcheck;
pub mod host;
pub mod http;
pub mod keys;
pub mod logfmt;
pub mod logger;
pub mod net;
pub mod secrets;
pub mod server;
pub mod sse;
pub mod systemd;
pub mod time;
pub mod tokens;
pub mod wheel;
pub mod wire;
pub mod workers;
