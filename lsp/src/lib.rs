//! What a Lightning Service Provider says and decides.
//!
//! Pure: no I/O, clock, randomness, logging, async, LDK, BDK or SQL. Time, feerates, height and entropy come in as
//! arguments; what is to be written and done goes out as data. See [`step`](Lsp::step).

pub mod book;
pub mod input;
pub mod money;
pub mod policy;
pub mod time;
