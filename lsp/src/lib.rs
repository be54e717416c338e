//! What a Lightning Service Provider says and decides.
//!
//! Pure: no I/O, clock, randomness, logging, async, LDK, BDK or SQL. Time, feerates, height and entropy come in as
//! arguments; what is to be written and done goes out as data. See [`Lsp::step`](step::Lsp::step).

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

pub mod admission;
pub mod book;
pub mod capital;
pub mod coins;
pub mod exposure;
pub mod input;
pub mod jit;
pub mod ledger;
pub mod market;
pub mod money;
pub mod notice;
pub mod order;
pub mod policy;
pub mod promise;
pub mod protocol;
pub mod quote;
pub mod reclaim;
pub mod step;
pub mod tiers;
pub mod time;
pub mod tokens;
pub mod trust;
mod turn;
pub mod wake;

pub use policy::Policy;
pub use step::Lsp;
