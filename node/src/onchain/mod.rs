//! The chain and the coins: BDK wallet, chain backends, fee estimates, broadcasting, anchor reserve.
//!
//! BDK's types stay in here; what comes out is `bitcoin`, `lightning` and `inlet_lsp`. See `node/docs/onchain.md`.

mod broadcast;
pub mod chain;
mod coins;
mod fees;
mod follow;
mod keep;
mod ldk;
mod reserve;
mod wallet;

pub use broadcast::{Broadcaster, MAX_TRANSACTIONS};
pub use chain::{
	Chain, ChainConfig, ChainError, ChainSight, Finder, Found, Listeners, Node, RpcAuth, Tip, Trouble, Trust,
	chain_sight,
};
pub use coins::Stay;
pub use fees::{Estimates, Fees, Refused};
pub(crate) use follow::SCAN_KEY;
pub use reserve::{Reserve, ReservePolicy, anchor_reserve};
pub use wallet::{
	Balance, Bumped, Funded, Refunded, Sent, SpliceTerms, Spliced, Utxo, Wallet, WalletError, WalletView,
};

#[cfg(test)]
mod forced_tests;
#[cfg(test)]
pub(crate) mod testing;
