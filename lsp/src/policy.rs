//! What the operator decided: limits, prices, lifetimes. Made from the config, checked once.

use crate::book::NodeId;
use crate::money::{Ppm, Sat};
use serde::{Deserialize, Serialize};

mod check;
mod tier;

pub use check::PolicyError;
pub use tier::{LOWEST, MAX_COUNTED_PAYMENTS, MAX_TIERS, Tier, Tiers};

/// The operator's decisions, as the pure core needs them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
	/// Channels on order (bLIP-51).
	pub lsps1: Lsps1Policy,
	/// Channels just in time (bLIP-52).
	pub lsps2: Lsps2Policy,
	/// Waking clients (bLIP-55).
	pub lsps5: Lsps5Policy,
	/// What channels cost.
	pub price: PricePolicy,
	/// What may be at stake.
	pub risk: RiskPolicy,
	/// What the capital is for.
	pub capital: CapitalPolicy,
	/// How long the books are kept in full.
	pub ledger: LedgerPolicy,
	/// What holds for which clients.
	pub tier: Tiers,
}

/// Limits and lifetimes of ordered channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lsps1Policy {
	/// Are channels sold on order at all?
	pub enabled: bool,
	/// Smallest balance on our side of an ordered channel.
	pub min_lsp_balance_sat: Sat,
	/// Largest balance on our side of an ordered channel.
	pub max_lsp_balance_sat: Sat,
	/// Largest balance on the client's side of an ordered channel.
	pub max_client_balance_sat: Sat,
	/// Smallest capacity of an ordered channel.
	pub min_channel_sat: Sat,
	/// Largest capacity of an ordered channel.
	pub max_channel_sat: Sat,
	/// Longest lease, in blocks.
	pub max_channel_expiry_blocks: u32,
	/// Fewest confirmations before the channel is ready (0: at once).
	pub min_required_channel_confirmations: u16,
	/// Fastest confirmation of the funding transaction that can be ordered, in blocks.
	pub min_funding_confirms_within_blocks: u16,
	/// How long an order waits for its payment while the feerate stands still, in seconds; the less, the more it moves.
	pub payment_window_secs: u64,
	/// Confirmations that an on-chain payment needs when its feerate is below `min_fee_for_0conf`.
	pub onchain_confirmations: u16,
	/// Largest order that is served on an unconfirmed on-chain payment; 0 switches that off.
	pub max_unconfirmed_order_sat: Sat,
	/// Most orders in all that are served, or being served, on payments that are not confirmed yet.
	pub max_unconfirmed_orders: u32,
	/// Most that may be at stake in them together.
	pub max_unconfirmed_total_sat: Sat,
	/// Is on-chain payment offered?
	pub onchain: bool,
	/// Is the opening tried with the client, up to its funding, before payment is offered?
	pub preflight: bool,
	/// How long we try to open a paid channel (waiting for the peer included) before the money goes back, in seconds.
	pub open_window_secs: u64,
	/// Tokens that are accepted besides those that were issued; with any listed, orders need one (102).
	pub tokens: Vec<String>,
	/// Do orders need a token, also if none is listed?
	pub require_token: bool,
	/// Is a channel that the client has made larger for its order, where that is safe, instead of another one being opened?
	pub splice: bool,
	/// How long a paid order that can wait does so for others to share a funding transaction with, in seconds; 0: not at all.
	pub batch_window_secs: u64,
}

/// Whom we trust to take the payment that its just-in-time channel is opened for (bLIP-52's `client_trusts_lsp` the
/// other way round). All others trust us: their funding transaction is broadcast when the payment is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
	/// Those who have paid for a channel before, owe nothing and gave no offence of late; and those who are listed.
	#[default]
	Known,
	/// Everybody: bLIP-52's default.
	Everyone,
	/// Nobody.
	Nobody,
}

/// Limits and lifetimes of just-in-time channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lsps2Policy {
	/// Are channels sold just in time at all?
	pub enabled: bool,
	/// How long a price menu holds while the feerate stands still, in seconds (bLIP-52 asks for 600 or more).
	pub promise_secs: u64,
	/// How long it holds at least, however much the feerate moves, in seconds (600 or more).
	pub min_promise_secs: u64,
	/// Blocks for which a just-in-time channel is kept open at least.
	pub min_lifetime_blocks: u32,
	/// Largest `to_self_delay` that the client can be asked for, in blocks.
	pub max_client_to_self_delay: u32,
	/// Smallest payment that opens a channel.
	pub min_payment_sat: Sat,
	/// Largest payment that opens a channel.
	pub max_payment_sat: Sat,
	/// Room for the client beyond the payment, as a share of the payment.
	pub headroom_ppm: Ppm,
	/// What each channel that the client has paid for (the first ten) adds to that.
	pub growth_ppm: Ppm,
	/// Smallest capacity of a just-in-time channel.
	pub min_channel_sat: Sat,
	/// Our `lsp_cltv_expiry_delta`, in blocks.
	pub cltv_expiry_delta: u32,
	/// How long the parts of a payment are gathered, from the first one, in seconds (bLIP-52 asks for 90 or more).
	pub gather_secs: u64,
	/// How long a channel may take from the decision to open it to its being usable, in seconds.
	pub open_secs: u64,
	/// Tokens that are accepted besides those that were issued; with any listed, one is needed (200).
	pub tokens: Vec<String>,
	/// Is a token needed, also if none is listed?
	pub require_token: bool,
	/// Whose funding transaction is broadcast before the payment is taken.
	pub trust: Trust,
	/// Clients that are known whatever they did.
	pub trusted_clients: Vec<NodeId>,
}

/// Webhooks, and how long a payment waits for a client that sleeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lsps5Policy {
	/// Can clients register webhooks, and are they woken?
	pub enabled: bool,
	/// Webhooks of one client.
	pub max_webhooks: u32,
	/// How long a payment is held for a client that was woken, in seconds.
	pub hold_secs: u64,
	/// A client that stays away is not told the same again before this time has passed, in seconds.
	pub cooldown_secs: u64,
	/// How long the webhooks of a client without a channel are remembered, in days (bLIP-55 asks for 7 or more).
	pub retention_days: u32,
	/// Clients without a channel whose webhooks are remembered.
	pub max_clients_without_channel: u32,
}

/// What channels cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PricePolicy {
	/// Never less than this for a channel.
	pub floor_sat: Sat,
	/// Share of a just-in-time payment.
	pub jit_ppm: Ppm,
	/// Share of the capacity of an ordered channel, for a lease of 144 x 30 blocks; longer leases in proportion.
	pub order_ppm: Ppm,
	/// Share of the expected close that the client pays, on top of the whole opening.
	pub close_share_ppm: Ppm,
	/// How many of our channels end by force.
	pub forced_close_ppm: Ppm,
	/// What our capital would earn elsewhere in a year.
	pub capital_ppm_per_year: Ppm,
}

/// What may be at stake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RiskPolicy {
	/// Feerate above which nothing is sold, in sat/vB.
	pub max_feerate_sat_per_vb: u64,
	/// Feerate above which only orders that can wait are sold, in sat/vB.
	pub patient_feerate_sat_per_vb: u64,
	/// How long they must be able to wait for their confirmation, in blocks.
	pub patient_blocks: u16,
	/// What a channel that was promised may cost more than it pays when it is opened.
	pub max_loss_sat: Sat,
	/// Is sold to those only whom the operator has allowed?
	pub only_allowed: bool,
	/// Unpaid sales (LSPS2 `buy`) of one client.
	pub max_open_sales_per_client: u32,
	/// Unpaid orders (LSPS1) of one client.
	pub max_open_orders_per_client: u32,
	/// Unpaid sales and orders in all.
	pub max_open_total: u32,
	/// Parts of one payment.
	pub max_parts: u32,
	/// Largest channel of either kind.
	pub max_channel_sat: Sat,
	/// With so many offences of strangers within `offence_window_secs`, strangers get no channel just in time for
	/// `pause_secs`.
	pub max_offences: u32,
	/// With so many offences within `offence_window_secs`, a client gets no channel just in time.
	pub max_offences_per_client: u32,
	/// For how long an offence counts, in seconds.
	pub offence_window_secs: u64,
	/// How long the pause for strangers lasts, in seconds.
	pub pause_secs: u64,
}

/// How long the books are kept in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LedgerPolicy {
	/// Entries are kept for this month and so many before it; older ones are folded into totals. 0: for ever.
	pub keep_months: u32,
}

/// What the capital is for, and how much of it is put where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapitalPolicy {
	/// Feerate at which every anchor channel can still be closed out of what is kept for it, in sat/vB.
	pub stress_feerate_sat_per_vb: u64,
	/// HTLCs in flight in each channel at that moment.
	pub stress_htlcs: u16,
	/// Coins beside one for the anchors of each channel: so many channels can be sold before coins are to be made again.
	pub spare_coins: u32,
	/// The wallet makes and merges coins of the anchor reserve while the feerate is at most this, in sat/vB; 0 is never.
	pub coins_feerate_sat_per_vb: u64,
	/// Channels of one client, together.
	pub max_client_sat: Sat,
	/// Channels that are funded and not paid for, together.
	pub max_at_risk_sat: Sat,
	/// Channels of ours that are in use while their funding is in no block, together.
	pub max_unconfirmed_sat: Sat,
	/// Channels sold in an hour.
	pub max_channels_per_hour: u32,
	/// Channels sold in a day.
	pub max_channels_per_day: u32,
	/// The part of what can be sold that one channel may take.
	pub max_wallet_share_ppm: Ppm,
	/// A channel that no payment went over for so many days is idle; with 0 as soon as its promise is over.
	pub idle_days: u32,
	/// Are idle channels closed without being asked?
	pub reclaim: bool,
	/// So many days before that, their clients are told.
	pub reclaim_grace_days: u32,
	/// So many in a day, at most.
	pub reclaims_per_day: u32,
	/// Idle channels are worth closing while the feerate is at most this, in sat/vB.
	pub reclaim_feerate_sat_per_vb: u64,
	/// Closing must bring home at least this.
	pub reclaim_min_sat: Sat,
}

impl Default for CapitalPolicy {
	fn default() -> Self {
		CapitalPolicy {
			stress_feerate_sat_per_vb: 10,
			stress_htlcs: 1,
			spare_coins: 4,
			coins_feerate_sat_per_vb: 3,
			max_client_sat: Sat(50_000_000),
			max_at_risk_sat: Sat(50_000_000),
			max_unconfirmed_sat: Sat(100_000_000),
			max_channels_per_hour: 200,
			max_channels_per_day: 1_000,
			max_wallet_share_ppm: Ppm(1_000_000),
			idle_days: 60,
			reclaim: false,
			reclaim_grace_days: 7,
			reclaims_per_day: 10,
			reclaim_feerate_sat_per_vb: 3,
			reclaim_min_sat: Sat(50_000),
		}
	}
}

impl Default for Lsps1Policy {
	fn default() -> Self {
		Lsps1Policy {
			enabled: true,
			min_lsp_balance_sat: Sat(20_000),
			max_lsp_balance_sat: Sat(5_000_000),
			max_client_balance_sat: Sat(1_000_000),
			min_channel_sat: Sat(20_000),
			max_channel_sat: Sat(5_000_000),
			max_channel_expiry_blocks: 52_560,
			min_required_channel_confirmations: 0,
			min_funding_confirms_within_blocks: 6,
			payment_window_secs: 3600,
			onchain_confirmations: 1,
			max_unconfirmed_order_sat: Sat(0),
			max_unconfirmed_orders: 3,
			max_unconfirmed_total_sat: Sat(1_000_000),
			onchain: true,
			preflight: true,
			open_window_secs: 1800,
			tokens: Vec::new(),
			require_token: false,
			splice: false,
			batch_window_secs: 0,
		}
	}
}

impl Default for Lsps2Policy {
	fn default() -> Self {
		Lsps2Policy {
			enabled: true,
			promise_secs: 900,
			min_promise_secs: 600,
			min_lifetime_blocks: 4320,
			max_client_to_self_delay: 2016,
			min_payment_sat: Sat(5_000),
			max_payment_sat: Sat(2_000_000),
			headroom_ppm: Ppm(250_000),
			growth_ppm: Ppm(100_000),
			min_channel_sat: Sat(100_000),
			cltv_expiry_delta: 72,
			gather_secs: 90,
			open_secs: 60,
			tokens: Vec::new(),
			require_token: false,
			trust: Trust::Known,
			trusted_clients: Vec::new(),
		}
	}
}

impl Default for Lsps5Policy {
	fn default() -> Self {
		Lsps5Policy {
			enabled: true,
			max_webhooks: 10,
			hold_secs: 60,
			cooldown_secs: 120,
			retention_days: 7,
			max_clients_without_channel: 500,
		}
	}
}

impl Default for PricePolicy {
	fn default() -> Self {
		PricePolicy {
			floor_sat: Sat(3_000),
			jit_ppm: Ppm(4_000),
			order_ppm: Ppm(4_000),
			close_share_ppm: Ppm(1_000_000),
			forced_close_ppm: Ppm(100_000),
			capital_ppm_per_year: Ppm(30_000),
		}
	}
}

impl Default for RiskPolicy {
	fn default() -> Self {
		RiskPolicy {
			max_feerate_sat_per_vb: 100,
			patient_feerate_sat_per_vb: 50,
			patient_blocks: 36,
			max_loss_sat: Sat(500),
			only_allowed: false,
			max_open_sales_per_client: 10,
			max_open_orders_per_client: 5,
			max_open_total: 1_000,
			max_parts: 30,
			max_channel_sat: Sat(10_000_000),
			max_offences: 20,
			max_offences_per_client: 5,
			offence_window_secs: 3600,
			pause_secs: 3600,
		}
	}
}
