//! What a client asked to be woken by, and what waits for it to wake (bLIP-55).

use super::{Note, PaymentHash, hex_u128, push_bounded};
use crate::money::Msat;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many lines of this history a client keeps.
pub const MAX_WAKE_HISTORY: usize = 16;

/// A client's webhooks, what it was told over them, and what is held for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wake {
	/// Oldest first, at most [`Lsps5Policy::max_webhooks`](crate::policy::Lsps5Policy::max_webhooks).
	pub webhooks: Vec<Webhook>,
	/// When it was last sent each kind of notice (by method) since it was last here.
	pub notified: BTreeMap<String, Timestamp>,
	/// HTLCs that LDK holds for its existing channels, at most
	/// [`MAX_HELD_PER_CLIENT`](crate::wake::MAX_HELD_PER_CLIENT).
	pub held: Vec<HeldHtlc>,
	/// Since when we know that it has no channel with us: its webhooks are forgotten some time after that.
	pub without_channel_since: Option<Timestamp>,
	/// How often it changed its webhooks lately: each change costs us a request to somewhere.
	pub changes: Changes,
	/// What happened, newest last, at most [`MAX_WAKE_HISTORY`].
	pub history: Vec<Note>,
}

/// A webhook, unique by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
	/// The client's name for it.
	pub app_name: String,
	/// An `https` URL.
	pub url: String,
}

/// An HTLC that waits for a sleeping client with a channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeldHtlc {
	/// LDK's `InterceptId`.
	pub intercept_id: [u8; 32],
	/// The channel that the payer named.
	pub channel_id: [u8; 32],
	/// The same channel's `user_channel_id`.
	#[serde(with = "hex_u128")]
	pub user_channel_id: u128,
	/// The payment that it is a part of.
	pub payment_hash: PaymentHash,
	/// What is forwarded: all that the payer meant to be.
	pub amount: Msat,
	/// Height at which the outgoing HTLC would expire.
	pub expiry_height: Option<u32>,
	/// When it is failed.
	pub until: Timestamp,
}

/// Changes counted since a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
	/// The moment.
	pub since: Timestamp,
	/// How many.
	pub count: u32,
}

impl Wake {
	/// Nothing to be woken by, and nothing held.
	pub fn is_empty(&self) -> bool {
		self.webhooks.is_empty() && self.held.is_empty()
	}

	/// When the first of what is held is failed.
	pub fn next_deadline(&self) -> Option<Timestamp> {
		self.held.iter().map(|htlc| htlc.until).min()
	}

	pub(crate) fn note(&mut self, at: Timestamp, step: &str, text: String) {
		push_bounded(&mut self.history, Note { at, step: step.to_string(), text }, MAX_WAKE_HISTORY);
	}
}
