//! The admin API: HTTP/1.1 and JSON over a Unix socket, in front of a [`Control`].
//!
//! It knows of nothing else: no LDK, no BDK, no SQL. What it serves is described by `openapi.json`, which the tests hold
//! against the routes; `docs/api.md` is for people.

mod channels;
mod clients;
mod context;
mod events;
mod extract;
mod listen;
mod lsp;
mod metrics;
mod node;
mod payments;
mod peers;
mod problem;
mod routes;
mod starting;
mod wallet;

#[cfg(test)]
pub(crate) mod tests;

pub use listen::{Admin, BindError, serve};
pub use problem::Problem;

use std::time::Duration;

/// The socket's name in the data directory.
pub const SOCKET_NAME: &str = "admin.sock";
/// Longest body of a request, in bytes.
pub const MAX_BODY: usize = 64 * 1024;
/// Most connections at a time; more wait to be accepted.
pub const MAX_CONNECTIONS: usize = 64;
/// Most requests at work at a time, those included whose asker has gone; more are answered with 503.
pub const MAX_AT_WORK: u32 = 64;
/// How long the head of a request, or the next request on a kept connection, may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the body of a request may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the node may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a stop waits for what is at work.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The OpenAPI document, as served at `/v1/openapi.json`.
pub const OPENAPI: &str = include_str!("openapi.json");

#[cfg(doc)]
use crate::control::Control;
