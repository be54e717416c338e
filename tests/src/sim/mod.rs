//! A world in which the real core and the real store live through years in seconds, all of it from one seed.
//!
//! `Lsp::step` and `inlet_storage::Store` are what the node runs; clients, payers, LDK, the wallet and the chain are models
//! that do what the real ones may do, at the times at which they may do it. After every step the books are held against
//! the world. `docs/simulation.md` says what is modelled and what is not.

mod agenda;
mod chain;
mod channels;
mod check;
mod clients;
mod disk;
mod driver;
mod feed;
mod fundings;
mod htlcs;
mod invoices;
mod ldk;
mod parts;
mod refunds;
mod rng;
mod sleep;
mod temper;
mod world;

pub use feed::feed;
pub(crate) use rng::Rng;
pub use world::{Failure, Options, Report, run};

/// Why a step was not taken to its end.
#[derive(Debug)]
pub(crate) enum Stop {
	/// The process died here.
	Crash,
	/// Something is not as it must be.
	Flaw(String),
}

pub(crate) type Go = Result<(), Stop>;

/// Stops the run unless `holds`.
pub(crate) fn demand(holds: bool, what: impl FnOnce() -> String) -> Go {
	if holds { Ok(()) } else { Err(Stop::Flaw(what())) }
}
