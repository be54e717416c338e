//! Lightning payments of the node's own.

use super::{Listed, Time};
use serde::{Deserialize, Serialize};

/// Make a BOLT 11 invoice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct InvoiceRequest {
	/// How much; whatever the payer likes if left out.
	pub amount_msat: Option<u64>,
	/// What for.
	pub description: String,
	/// For how long it can be paid, in seconds; one hour if left out.
	pub expiry_secs: Option<u32>,
}

/// A BOLT 11 invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Invoice {
	/// The invoice.
	pub invoice: String,
	/// Its payment hash.
	pub payment_hash: String,
	/// How much; `None` for whatever the payer likes.
	pub amount_msat: Option<u64>,
	/// What for.
	pub description: String,
	/// Until when it can be paid.
	pub expires_at: Time,
}

/// Make a BOLT 12 offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct OfferRequest {
	/// How much; whatever the payer likes if left out.
	pub amount_msat: Option<u64>,
	/// What for.
	pub description: String,
	/// For how long it can be paid, in seconds; for ever if left out.
	pub expiry_secs: Option<u64>,
}

/// A BOLT 12 offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Offer {
	/// The offer.
	pub offer: String,
	/// Its id.
	pub id: String,
	/// How much; `None` for whatever the payer likes.
	pub amount_msat: Option<u64>,
	/// What for.
	pub description: String,
	/// Until when it can be paid; `None` for ever.
	pub expires_at: Option<Time>,
}

/// Pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PayRequest {
	/// A BOLT 11 invoice, a BOLT 12 offer, or a node id (keysend).
	pub to: String,
	/// How much: needed for keysend and where the invoice or offer leaves it open, else to be left out.
	#[serde(default)]
	pub amount_msat: Option<u64>,
	/// The most that routing may cost; LDK's default (1 %, at least 50 sat) if left out.
	#[serde(default)]
	pub max_fee_msat: Option<u64>,
	/// How long to wait for the outcome, in seconds, at most [`MAX_PAY_WAIT_SECS`]; 60 if left out.
	#[serde(default)]
	pub wait_secs: Option<u64>,
}

/// How long a request waits for a payment unless it says otherwise, in seconds.
pub const DEFAULT_PAY_WAIT_SECS: u64 = 60;
/// The longest that a request can wait for a payment, in seconds.
pub const MAX_PAY_WAIT_SECS: u64 = 600;

/// Which way a payment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Direction {
	/// To us.
	In,
	/// From us.
	Out,
}

/// What asked for a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PaymentKind {
	/// A BOLT 11 invoice.
	Bolt11,
	/// A BOLT 12 offer.
	Bolt12,
	/// Nothing: keysend.
	Keysend,
}

/// Where a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
	/// On its way (or, coming in, not paid yet).
	Pending,
	/// Done.
	Succeeded,
	/// Over; no money moved.
	Failed,
}

/// A payment in or out (orders' hold invoices and forwards are not among them).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Payment {
	/// Its id: the payment hash, or for BOLT 12 out the payment id.
	pub id: String,
	/// Which way.
	pub direction: Direction,
	/// What asked for it.
	pub kind: PaymentKind,
	/// Where it stands.
	pub status: PaymentStatus,
	/// How much, routing fee not included; `None` while unknown.
	pub amount_msat: Option<u64>,
	/// What routing cost, once it is done; going out only.
	pub fee_msat: Option<u64>,
	/// Its hash, once it is known.
	pub payment_hash: Option<String>,
	/// Proof of payment, once it is done; going out only.
	pub preimage: Option<String>,
	/// To whom, if known; going out only.
	pub to: Option<String>,
	/// What for.
	pub description: Option<String>,
	/// Why it failed.
	pub reason: Option<String>,
	/// When it was made (going out) or asked for (coming in).
	pub created_at: Time,
	/// Until when an invoice of ours can be paid; `None` for all else.
	#[serde(default)]
	pub expires_at: Option<Time>,
	/// When it was done or failed.
	pub finished_at: Option<Time>,
}

impl Listed for Payment {
	const NOUN: &'static str = "payments";
}
