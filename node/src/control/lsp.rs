//! What is sold: orders, sales, clients and prices.

use super::{ClientHolds, ClientListing, Listed, SoldChannel, Time};
use serde::{Deserialize, Serialize};

/// One line of the history of a sale or an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HistoryLine {
	/// When.
	pub at: Time,
	/// One word: `menu`, `buy`, `htlc`, `open`, `ready`, `forward`, `paid`, `fail`, ...
	pub step: String,
	/// The rest of the line.
	pub text: String,
}

/// Where a sale stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SaleStatus {
	/// Promised; waiting for a payment.
	Bought,
	/// Parts of the payment are held.
	Gathering,
	/// The channel is being opened.
	Opening,
	/// The payment is forwarded and the fee not yet earned.
	Forwarded,
	/// The channel is open and the fee still owed.
	Owing,
	/// The fee is earned.
	Done,
	/// Nothing came of it.
	Failed,
}

/// A channel sold just in time (LSPS2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sale {
	/// Its id, `s_` and 12 characters.
	pub id: String,
	/// Who bought it.
	pub client: String,
	/// Where it stands.
	pub status: SaleStatus,
	/// Why it failed.
	pub reason: Option<String>,
	/// The payment's size, if fixed or known.
	pub payment_msat: Option<u64>,
	/// The opening fee, once the payment's size is known.
	pub fee_msat: Option<u64>,
	/// The miner's fee of the funding transaction, once it is known.
	pub cost_sat: Option<u64>,
	/// On-chain money kept for it.
	pub reserved_sat: u64,
	/// The channel, once it is being opened.
	pub channel: Option<SoldChannel>,
	/// When it was bought.
	pub created_at: Time,
	/// When something last happened to it.
	pub updated_at: Time,
}

impl Listed for Sale {
	const NOUN: &'static str = "sales";
}

/// A sale with its terms and history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SaleDetail {
	/// The sale.
	#[serde(flatten)]
	pub sale: Sale,
	/// The SCID in the client's invoice, `BLOCKxTXxOUT`.
	pub scid: String,
	/// What was promised.
	pub terms: SaleTerms,
	/// Parts of the payment that are held.
	pub parts: Vec<HeldPart>,
	/// What happened, newest last.
	pub history: Vec<HistoryLine>,
}

/// bLIP-52's `opening_fee_params`, without the promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SaleTerms {
	/// Least fee.
	pub min_fee_msat: u64,
	/// Share of the payment, in parts per million.
	pub proportional_ppm: u32,
	/// Until when it holds.
	pub valid_until: Time,
	/// Blocks for which the channel is kept open at least.
	pub min_lifetime_blocks: u32,
	/// Smallest payment.
	pub min_payment_msat: u64,
	/// Largest payment.
	pub max_payment_msat: u64,
}

/// A part of a payment that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HeldPart {
	/// Its payment.
	pub payment_hash: String,
	/// How much.
	pub amount_msat: u64,
	/// Since when.
	pub arrived_at: Time,
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OrderStatus {
	/// Its invoice and address are being made.
	Preparing,
	/// Waiting for a payment.
	AwaitingPayment,
	/// Paid (or held); waiting for the client.
	Paid,
	/// The channel is being opened.
	Opening,
	/// The funding transaction is out.
	Funded,
	/// Delivered and paid.
	Completed,
	/// The on-chain payment is going back.
	Refunding,
	/// Nothing came of it; what was paid has gone back.
	Failed,
}

/// A channel ordered with LSPS1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Order {
	/// Its id, a UUID.
	pub id: String,
	/// Who ordered it.
	pub client: String,
	/// Where it stands.
	pub status: OrderStatus,
	/// Why it failed or is refunded.
	pub reason: Option<String>,
	/// Our side of the channel.
	pub lsp_balance_sat: u64,
	/// The client's side, pushed at opening.
	pub client_balance_sat: u64,
	/// Our fee.
	pub fee_sat: u64,
	/// Fee and client balance: what is to be paid.
	pub total_sat: u64,
	/// `lightning` or `onchain`, once it is paid.
	pub paid_by: Option<String>,
	/// On-chain money kept for it.
	pub reserved_sat: u64,
	/// The channel, once it is being opened.
	pub channel: Option<SoldChannel>,
	/// When it was ordered.
	pub created_at: Time,
	/// Unpaid after this, it is over.
	pub expires_at: Time,
	/// When something last happened to it.
	pub updated_at: Time,
}

impl Listed for Order {
	const NOUN: &'static str = "orders";
}

/// An order with its payment options and history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OrderDetail {
	/// The order.
	#[serde(flatten)]
	pub order: Order,
	/// The lease, in blocks.
	pub channel_expiry_blocks: u32,
	/// How soon the funding should be mined, in blocks.
	pub funding_confirms_within_blocks: u16,
	/// Confirmations before the channel is ready.
	pub required_channel_confirmations: u16,
	/// Public channel?
	pub announce_channel: bool,
	/// Token, if one was given.
	pub token: Option<String>,
	/// The hold invoice.
	pub invoice: Option<String>,
	/// The invoice's state, in bLIP-51's words.
	pub invoice_state: Option<String>,
	/// The address.
	pub address: Option<String>,
	/// The address' state, in bLIP-51's words.
	pub address_state: Option<String>,
	/// What arrived at the address.
	pub received: Vec<OrderReceived>,
	/// Where money goes back to.
	pub refund_address: Option<String>,
	/// What goes or went back on-chain, the miner's fee to be taken off it.
	pub refund_sat: Option<u64>,
	/// The refund's transaction, once it is out.
	pub refund_txid: Option<String>,
	/// What happened, newest last.
	pub history: Vec<HistoryLine>,
}

/// An on-chain payment to an order's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OrderReceived {
	/// `txid:vout`.
	pub outpoint: String,
	/// How much.
	pub amount_sat: u64,
	/// 0 in the mempool.
	pub confirmations: u32,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Client {
	/// Its public key.
	pub node_id: String,
	/// Connected now.
	pub connected: bool,
	/// When it first spoke to us.
	pub first_seen: Time,
	/// Channels with it that are not closed.
	pub channels: u32,
	/// Their capacity.
	pub capacity_sat: u64,
	/// Our side of them: what it could receive.
	pub local_msat: u64,
	/// Just-in-time channels that it was sold and paid.
	pub sales_done: u32,
	/// Ordered channels that it was sold and paid.
	pub orders_done: u32,
	/// Sales and orders that are not finished.
	pub unfinished: u32,
	/// Channels that were opened or paid for and came to nothing through its doing.
	pub offences: u32,
	/// For how long its payments are held.
	pub holds: ClientHolds,
	/// Its tier.
	pub tier: String,
	/// Ten for each channel that it paid for, one for each counted payment and each day (100 at most), less twenty for each
	/// offence.
	pub score: i64,
	/// On one of the operator's lists?
	pub listed: Option<ClientListing>,
}

impl Listed for Client {
	const NOUN: &'static str = "clients";
}

/// What kind of channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum QuoteKind {
	/// Just in time (LSPS2).
	Jit,
	/// On order (LSPS1).
	Order,
}

/// What would a channel cost?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QuoteRequest {
	/// What kind of channel.
	pub kind: QuoteKind,
	/// The payment that opens it (`jit`), or our side of it (`order`).
	pub size_sat: u64,
	/// The client's side (`order` only).
	#[serde(default)]
	pub client_balance_sat: u64,
	/// The lease, in blocks (`order` only); the longest on offer if left out.
	#[serde(default)]
	pub channel_expiry_blocks: Option<u32>,
	/// How soon the funding should be mined, in blocks (`order` only).
	#[serde(default)]
	pub funding_confirms_within_blocks: Option<u16>,
	/// For a client of this tier; `new` if left out, and no client is given.
	#[serde(default)]
	pub tier: Option<String>,
	/// For this client (its id, or the beginning of it).
	#[serde(default)]
	pub client: Option<String>,
	/// As if this were the live feerate, in satoshis per 1000 weight units.
	#[serde(default)]
	pub feerate_sat_per_kw: Option<u32>,
}

/// What a channel would cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Quote {
	/// What kind of channel.
	pub kind: QuoteKind,
	/// As asked.
	pub size_sat: u64,
	/// The tier that it is for.
	pub tier: String,
	/// The channel's capacity.
	pub capacity_sat: u64,
	/// Feerate that it is priced at, in satoshis per 1000 weight units.
	pub feerate_sat_per_kw: u32,
	/// Feerate that its close is reckoned at, in satoshis per 1000 weight units.
	pub long_run_feerate_sat_per_kw: u32,
	/// What it is expected to cost: it is never sold below that.
	pub cost_sat: u64,
	/// What the client pays for it.
	pub fee_msat: u64,
	/// bLIP-52's `min_fee_msat` (`jit`), or cost or floor (`order`).
	pub min_fee_msat: u64,
	/// bLIP-52's `proportional` (`jit`), or the share of the capacity (`order`), in millionths.
	pub proportional_ppm: u32,
	/// How the fee follows from the terms, for people.
	pub rule: String,
	/// What cost and fee are made of.
	pub terms: Vec<QuoteTerm>,
	/// Until when the price would hold.
	pub valid_until: Time,
	/// Why it would not be sold now, if so.
	pub not_sold_because: Option<String>,
}

/// One term of a price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct QuoteTerm {
	/// One word: `open`, `close`, `capital`, `risk`, `proportional`, `least`, `floor`.
	pub name: String,
	/// What it adds.
	pub amount_msat: u64,
	/// How it came about, for people.
	pub how: String,
}
