//! The on-chain wallet.

use super::Listed;
use serde::{Deserialize, Serialize};

/// All money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Balance {
	/// On-chain.
	pub onchain: OnchainBalance,
	/// In channels.
	pub lightning: LightningBalance,
	/// On-chain and our side of the channels, what is coming back from closed ones included.
	pub total_sat: u64,
}

/// On-chain money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OnchainBalance {
	/// Confirmed.
	pub confirmed_sat: u64,
	/// Unconfirmed change of our own transactions.
	pub trusted_pending_sat: u64,
	/// Unconfirmed, from others.
	pub untrusted_pending_sat: u64,
	/// Coinbase outputs that are too young.
	pub immature_sat: u64,
	/// Of the confirmed money: kept for fee-bumping anchor channels.
	pub anchor_reserve_sat: u64,
	/// Of the confirmed money: kept for unfinished sales and orders.
	pub in_sales_sat: u64,
	/// Of the confirmed money: free.
	pub free_sat: u64,
}

/// Money in channels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LightningBalance {
	/// Our side of open channels.
	pub local_msat: u64,
	/// What could be sent now, over all channels together.
	pub outbound_msat: u64,
	/// What could be received now.
	pub inbound_msat: u64,
	/// On its way back from closed channels.
	pub closing_sat: u64,
	/// On its way into channels that are being made larger.
	#[serde(default)]
	pub splicing_sat: u64,
}

/// A fresh address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NewAddress {
	/// The address (BIP 86, taproot).
	pub address: String,
}

/// Send on-chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
	/// Where to.
	pub address: String,
	/// How much; to be left out with `all`.
	#[serde(default)]
	pub amount_sat: Option<u64>,
	/// All that is free, the fee taken off.
	#[serde(default)]
	pub all: bool,
	/// Feerate, in satoshis per 1000 weight units; the node's own for about six blocks if left out.
	#[serde(default)]
	pub feerate_sat_per_kw: Option<u32>,
	/// Only say what it would cost.
	#[serde(default)]
	pub dry_run: bool,
}

/// Sent on-chain, or what sending would cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sent {
	/// The transaction; `None` on a dry run.
	pub txid: Option<String>,
	/// Where to.
	pub address: String,
	/// What arrives there.
	pub amount_sat: u64,
	/// What the miner gets.
	pub fee_sat: u64,
	/// Its feerate, in satoshis per 1000 weight units.
	pub feerate_sat_per_kw: u32,
	/// Nothing was sent.
	pub dry_run: bool,
	/// Made and stored, but the chain backend has not answered yet: it is sent as soon as that is back. Do not send again.
	#[serde(default)]
	pub queued: bool,
}

/// An unspent output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Utxo {
	/// `txid:vout`.
	pub outpoint: String,
	/// Its value.
	pub amount_sat: u64,
	/// Its address.
	pub address: String,
	/// 0 in the mempool.
	pub confirmations: u32,
}

impl Listed for Utxo {
	const NOUN: &'static str = "utxos";
}
