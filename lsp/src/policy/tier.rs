//! Tiers: what holds for which clients, and how they get there.

use crate::money::{Ppm, Sat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The tier of clients that are in no other.
pub const LOWEST: &str = "new";
/// Tiers, the three that are always there included.
pub const MAX_TIERS: usize = 16;
/// Payments of a client that are counted: no rule can ask for more, and a client that has so many costs no writes any
/// more.
pub const MAX_COUNTED_PAYMENTS: u32 = 100;

/// What holds for the clients of a tier, and what it takes to be in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tier {
	/// A client is in the highest tier that it has earned.
	pub rank: u32,
	/// Can it be earned? Else clients are in it by a token, or by the operator's hand, only.
	pub earned: bool,
	/// Just-in-time and ordered channels that a client has to have paid for.
	pub min_channels: u32,
	/// Payments that it has to have received over its channels, at most [`MAX_COUNTED_PAYMENTS`].
	pub min_payments: u32,
	/// Days for which we have to have known it.
	pub min_days: u32,
	/// Offences of late (`risk.offence_window_secs`) with which it is still in the tier.
	pub max_offences: u32,
	/// Do we broadcast the funding before it has taken the payment (with `lsps2.trust = "known"`)?
	pub lsp_trusts: bool,
	/// Margin on the costs for the risk that such a client is.
	pub risk_ppm: Ppm,
	/// The share of `price.jit_ppm` and `price.order_ppm` that it pays.
	pub fee_share_ppm: Ppm,
	/// Room beyond the payment, on top of `lsps2.headroom_ppm`.
	pub headroom_ppm: Ppm,
	/// Largest payment that opens a channel; 0: as `lsps2.max_payment_sat` says.
	pub max_payment_sat: Sat,
	/// Largest channel of either kind; 0: as `risk.max_channel_sat` says.
	pub max_channel_sat: Sat,
	/// Channels of all its clients together, promised ones included; 0: no limit of its own.
	pub max_total_sat: Sat,
	/// Unpaid sales of one client; 0: as `risk.max_open_sales_per_client` says.
	pub max_open_sales: u32,
	/// Unpaid orders of one client; 0: as `risk.max_open_orders_per_client` says.
	pub max_open_orders: u32,
}

impl Default for Tier {
	fn default() -> Self {
		Tier {
			rank: 0,
			earned: false,
			min_channels: 0,
			min_payments: 0,
			min_days: 0,
			max_offences: 0,
			lsp_trusts: false,
			risk_ppm: Ppm(100_000),
			fee_share_ppm: Ppm(1_000_000),
			headroom_ppm: Ppm(0),
			max_payment_sat: Sat(0),
			max_channel_sat: Sat(0),
			max_total_sat: Sat(0),
			max_open_sales: 0,
			max_open_orders: 0,
		}
	}
}

/// All tiers by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tiers(pub BTreeMap<String, Tier>);

impl Tiers {
	/// One of them.
	pub fn get(&self, name: &str) -> Option<&Tier> {
		self.0.get(name)
	}
}

impl Default for Tiers {
	fn default() -> Self {
		let known = Tier {
			rank: 10,
			earned: true,
			min_channels: 1,
			lsp_trusts: true,
			risk_ppm: Ppm(50_000),
			..Tier::default()
		};
		let trusted = Tier {
			rank: 20,
			min_channels: 2,
			min_payments: 30,
			min_days: 30,
			risk_ppm: Ppm(20_000),
			headroom_ppm: Ppm(250_000),
			..known.clone()
		};
		let own = [(LOWEST, Tier { earned: true, ..Tier::default() }), ("known", known), ("trusted", trusted)];
		Tiers(own.into_iter().map(|(name, tier)| (name.to_string(), tier)).collect())
	}
}
