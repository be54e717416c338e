//! The operator's capital: where it is, how many channels it still makes, and what idle channels keep of it.

use super::{Refusal, Time};
use serde::{Deserialize, Serialize};

/// What is where, in satoshis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Capital {
	/// Confirmed coins, all of them.
	pub confirmed_sat: u64,
	/// Coins that are not confirmed.
	pub unconfirmed_sat: u64,
	/// Kept so that every channel can be closed at `capital.stress_feerate_sat_per_vb`.
	pub anchors_sat: u64,
	/// Promised: sales and orders that are not funded, refunds that are not sent.
	pub reserved_sat: u64,
	/// Can be sold.
	pub free_sat: u64,
	/// Channels that are funded and not paid for, and orders served on unconfirmed payments.
	pub at_risk_sat: u64,
	/// Our side of all channels.
	pub locked_sat: u64,
	/// Of that, in channels whose peer is away.
	pub offline_sat: u64,
	/// Of that, in channels that no payment went over for `capital.idle_days`.
	pub idle_sat: u64,
	/// Channels that can be forced.
	pub channels: u64,
	/// Channels that the confirmed coins can carry, each with coins of its own.
	pub channels_carried: u64,
	/// Confirmed coins of the anchor reserve's size: sales leave them alone.
	pub coins_there: u64,
	/// Such coins that are not confirmed yet.
	pub coins_coming: u64,
	/// One for each channel, and `capital.spare_coins` for the next sales.
	pub coins_wanted: u64,
	/// How many of those are missing.
	pub coins_missing: u64,
	/// What the wallet does about them at the next block, for people.
	pub coins_next: String,
	/// Limits on what is sold, promises included.
	pub limits: Vec<LimitTaken>,
	/// How many channels can still be sold.
	pub sellable: Vec<Sellable>,
	/// What to send to the wallet so that the largest channel can be sold; 0 if it can.
	pub fund_sat: u64,
	/// What to do, for people.
	pub advice: Vec<String>,
}

/// A limit of `[capital]` or of a tier, for all clients together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LimitTaken {
	/// Its key in the configuration.
	pub key: String,
	/// How much of it is taken: satoshis, or channels.
	pub taken: u64,
	/// At most.
	pub most: u64,
}

/// How many channels of a size can still be sold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sellable {
	/// Capacity.
	pub size_sat: u64,
	/// How many in this block: each needs a confirmed coin.
	pub count: u64,
}

/// The most channels that are reclaimed at once: LDK is asked for each while the driver waits.
pub const MAX_RECLAIMED: usize = 100;

/// Channels whose capital is to come home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReclaimRequest {
	/// Whole channel ids, as the plan has them. Those that are not due are left alone.
	pub channels: Vec<String>,
}

impl ReclaimRequest {
	/// Is it one?
	///
	/// # Errors
	/// There are none, or too many.
	pub fn check(&self) -> Result<(), Refusal> {
		if (1..=MAX_RECLAIMED).contains(&self.channels.len()) {
			return Ok(());
		}
		let detail = format!("{} channels: from 1 to {MAX_RECLAIMED} can be reclaimed at once", self.channels.len());
		Err(Refusal::invalid("bad_channels", detail, "see which there are: inlet capital reclaim --dry-run"))
	}
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Reclaimed {
	/// Channels whose clients were told that they are idle; to be closed after `capital.reclaim_grace_days`.
	pub told: Vec<String>,
	/// Channels that are being closed.
	pub closing: Vec<String>,
	/// Channels of which the closing did not begin: the client went away, or does something in this moment.
	pub failed: Vec<String>,
}

/// What the reclaimer thinks of idle channels. Nothing is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReclaimPlan {
	/// Channels that we opened, most of ours first.
	pub channels: Vec<ReclaimLine>,
	/// What closing those with `close` would bring home, miners' fees not deducted.
	pub brings_sat: u64,
	/// `capital.reclaim` is on: this happens without being asked.
	pub reclaims_by_itself: bool,
}

/// One channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReclaimLine {
	/// Channel id.
	pub id: String,
	/// Its peer.
	pub client: String,
	/// Is it here?
	pub connected: bool,
	/// Our side.
	pub local_sat: u64,
	/// The client's side.
	pub remote_sat: u64,
	/// When a payment over it was last settled; `null` if none was since the books were opened.
	pub used_at: Option<Time>,
	/// When its client was told that it is idle; `null` if it was not, or has used it since.
	pub told_at: Option<Time>,
	/// Blocks that are still promised.
	pub lease_left_blocks: u32,
	/// `keep`, `tell`, `wait` or `close`.
	pub verdict: String,
	/// Why, for people.
	pub because: String,
	/// Fees less costs so far.
	pub profit_msat: i64,
	/// The capital that was in it, in satoshi-days.
	pub sat_days: u64,
	/// What our side would earn elsewhere in a year, at `price.capital_ppm_per_year`.
	pub costs_sat_per_year: u64,
}
