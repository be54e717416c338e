//! For how long payments are held.

use serde::{Deserialize, Serialize};

/// For how long payments are held, all clients together, since the node started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HoldTimes {
	/// Forwarded payments, by those to whom they were forwarded, until they settled or failed. Looked at every five seconds.
	pub forwarded: HoldHistogram,
	/// Payments that Inlet itself held (parts of a sale, payments for a sleeping client), until they were forwarded or failed.
	pub intercepted: HoldHistogram,
	/// Forwarded payments that are held now.
	pub now: u32,
	/// For how long the oldest of them is held, in seconds.
	pub oldest_secs: u64,
}

/// How often it took how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HoldHistogram {
	/// How many took no longer than so many seconds, one after the other; each counts those before it.
	pub buckets: Vec<HoldBucket>,
	/// How many in all.
	pub count: u64,
	/// All of them together, in milliseconds.
	pub sum_ms: u64,
	/// The longest, in milliseconds.
	pub max_ms: u64,
}

/// How many took no longer than this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HoldBucket {
	/// Limit, in seconds.
	pub secs: u64,
	/// How many.
	pub count: u64,
}

/// For how long payments of one client are held, since the node started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClientHolds {
	/// Payments forwarded to it that it holds now.
	pub now: u32,
	/// For how long it has held the oldest of them, in seconds.
	pub oldest_secs: u64,
	/// Payments forwarded to it that settled or failed.
	pub forwarded: HoldSummary,
	/// Payments for it that Inlet held (parts of a sale, payments while it slept).
	pub intercepted: HoldSummary,
}

/// In short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HoldSummary {
	/// How many.
	pub count: u64,
	/// Half of them took no longer than this, in milliseconds; it is rounded up to a bucket's limit.
	pub p50_ms: Option<u64>,
	/// The longest, in milliseconds.
	pub max_ms: Option<u64>,
}
