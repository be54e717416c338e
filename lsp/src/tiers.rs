//! Where a client stands: its tier, what follows from it, and what the operator has set for it by hand.
//!
//! A tier is earned (channels paid for, payments received, days, no offences), given with a token, or set by the
//! operator. It follows from the client's row at any time; the name in the row is what the operator was told last.

use crate::admission::Refusal;
use crate::book::{Book, Client, NodeId, SaleState};
use crate::input::Action;
use crate::money::{Ppm, Sat};
use crate::policy::{LOWEST, MAX_COUNTED_PAYMENTS, Policy, Tier};
use crate::time::Timestamp;
use crate::trust;
use crate::turn::Turn;
use serde::{Deserialize, Serialize};

/// Each channel that a client has paid for adds so many of them at most to the headroom of the next.
const MAX_GROWTH_STEPS: u32 = 10;
const DAY_SECS: u64 = 86_400;
/// The longest note on a client, in characters.
pub const MAX_CLIENT_NOTE: usize = 200;

/// What the operator has set for one client. What is not set is as its tier says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
	/// Its tier, whatever it has earned.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub tier: Option<String>,
	/// On a list?
	#[serde(skip_serializing_if = "Option::is_none")]
	pub listed: Option<Listing>,
	/// Largest payment that opens a channel for it.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub max_payment_sat: Option<Sat>,
	/// Largest channel of either kind.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub max_channel_sat: Option<Sat>,
	/// The share of the proportional fee that it pays.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub fee_share_ppm: Option<Ppm>,
	/// Room beyond its payment, instead of all other rules.
	#[serde(skip_serializing_if = "Option::is_none")]
	pub headroom_ppm: Option<Ppm>,
	/// For the operator, at most [`MAX_CLIENT_NOTE`] characters.
	#[serde(skip_serializing_if = "String::is_empty")]
	pub note: String,
}

impl Overrides {
	/// Is nothing set?
	pub fn is_empty(&self) -> bool {
		*self == Overrides::default()
	}
}

/// The operator's two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listing {
	/// Nothing is sold to it.
	Blocked,
	/// It is sold to although `risk.only_allowed` is set.
	Allowed,
}

/// What holds for a client now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
	/// Its tier's name.
	pub tier: String,
	/// Do we broadcast its funding before it has taken the payment?
	pub lsp_trusts: bool,
	/// Margin on the costs.
	pub risk_ppm: Ppm,
	/// The share of the proportional fee that it pays.
	pub fee_share_ppm: Ppm,
	/// Room beyond its payment, all in all.
	pub headroom_ppm: Ppm,
	/// Largest payment that opens a channel.
	pub max_payment: Sat,
	/// Largest channel of either kind.
	pub max_channel: Sat,
	/// Unpaid sales.
	pub max_open_sales: u32,
	/// Unpaid orders.
	pub max_open_orders: u32,
}

impl Standing {
	/// The proportional fee that such a client pays of this rate, rounded up.
	pub fn proportional(&self, rate: Ppm) -> Ppm {
		let share = u64::from(rate.0).saturating_mul(self.fee_share_ppm.0.into()).div_ceil(1_000_000);
		Ppm(u32::try_from(share).unwrap_or(u32::MAX))
	}
}

/// What holds for a client that we have never seen, in a tier that the operator names; `None` if there is no such tier.
pub fn standing_of_tier(policy: &Policy, name: &str) -> Option<Standing> {
	policy.tier.get(name).map(|tier| from_tier(policy, name, tier, None))
}

/// What holds for this client now.
pub fn standing(policy: &Policy, book: &Book, id: &NodeId, now: Timestamp) -> Standing {
	of_client(policy, book, id, book.client(id), now)
}

/// The same, with a row that may be newer than the book's.
fn of_client(policy: &Policy, book: &Book, id: &NodeId, client: Option<&Client>, now: Timestamp) -> Standing {
	let name = tier_of(policy, book, id, client, now);
	let none = Tier::default();
	from_tier(policy, name, policy.tier.get(name).unwrap_or(&none), client)
}

fn from_tier(policy: &Policy, name: &str, tier: &Tier, client: Option<&Client>) -> Standing {
	let none = Overrides::default();
	let own = client.map_or(&none, |client| &client.overrides);
	let limit = |of_tier: Sat, of_all: Sat| if of_tier == Sat::ZERO { of_all } else { of_tier.min(of_all) };
	let count = |of_tier: u32, of_all: u32| if of_tier == 0 { of_all } else { of_tier };
	let max_payment = limit(tier.max_payment_sat, policy.lsps2.max_payment_sat);
	let max_channel = limit(tier.max_channel_sat, policy.risk.max_channel_sat);
	let paid = client.map_or(0, paid_channels).min(MAX_GROWTH_STEPS);
	let grown = policy.lsps2.growth_ppm.0.saturating_mul(paid);
	let headroom = policy.lsps2.headroom_ppm.0.saturating_add(tier.headroom_ppm.0).saturating_add(grown);
	Standing {
		tier: name.to_string(),
		lsp_trusts: tier.lsp_trusts,
		risk_ppm: tier.risk_ppm,
		fee_share_ppm: own.fee_share_ppm.unwrap_or(tier.fee_share_ppm),
		headroom_ppm: own.headroom_ppm.unwrap_or(Ppm(headroom)),
		max_payment: own.max_payment_sat.unwrap_or(max_payment),
		max_channel: own.max_channel_sat.unwrap_or(max_channel),
		max_open_sales: count(tier.max_open_sales, policy.risk.max_open_sales_per_client),
		max_open_orders: count(tier.max_open_orders, policy.risk.max_open_orders_per_client),
	}
}

/// The client's tier: what the operator or a token says, else the highest that it has earned.
fn tier_of<'a>(policy: &'a Policy, book: &Book, id: &NodeId, client: Option<&Client>, now: Timestamp) -> &'a str {
	let named = |name: &String| policy.tier.0.get_key_value(name).map(|(name, _)| name.as_str());
	if let Some(client) = client {
		let by_token = || book.tokens_tier(client);
		if let Some(name) = client.overrides.tier.as_ref().and_then(named).or_else(|| by_token().and_then(named)) {
			return name;
		}
	}
	let is_listed = policy.lsps2.trusted_clients.contains(id);
	let owes = book.live_sales().any(|sale| sale.client == *id && sale.state == SaleState::Owing);
	let is_earned = |tier: &Tier| match client {
		_ if is_listed && tier.lsp_trusts && tier.min_payments == 0 => true,
		_ if owes => false,
		Some(client) => has_earned(policy, tier, client, now),
		None => false,
	};
	let earned =
		policy.tier.0.iter().filter(|(name, tier)| tier.earned && (name.as_str() == LOWEST || is_earned(tier)));
	earned.max_by_key(|(_, tier)| tier.rank).map_or(LOWEST, |(name, _)| name.as_str())
}

fn has_earned(policy: &Policy, tier: &Tier, client: &Client, now: Timestamp) -> bool {
	let days = now.0.saturating_sub(client.first_seen.0) / 1000 / DAY_SECS;
	let offences = trust::recent_offences(&policy.risk, client, now);
	paid_channels(client) >= tier.min_channels
		&& client.payments >= tier.min_payments
		&& days >= u64::from(tier.min_days)
		&& offences <= usize::try_from(tier.max_offences).unwrap_or(usize::MAX)
}

fn paid_channels(client: &Client) -> u32 {
	client.sales_done.saturating_add(client.orders_done)
}

/// A number for a client's past: ten for each channel that it paid for, one for each counted payment and each day (100
/// at most), less twenty for each offence.
pub fn score(client: &Client, now: Timestamp) -> i64 {
	let days = (now.0.saturating_sub(client.first_seen.0) / 1000 / DAY_SECS).min(100);
	let good = u64::from(paid_channels(client)).saturating_mul(10).saturating_add(client.payments.into());
	let bad = i64::from(client.offences).saturating_mul(20);
	i64::try_from(good.saturating_add(days)).unwrap_or(i64::MAX).saturating_sub(bad)
}

/// Is anything sold to this client at all?
///
/// # Errors
/// The operator has blocked it, or sells to those only whom it has allowed.
pub fn admit(policy: &Policy, client: Option<&Client>, id: &NodeId) -> Result<(), Refusal> {
	match client.and_then(|client| client.overrides.listed) {
		Some(Listing::Blocked) => Err(Refusal::Blocked),
		Some(Listing::Allowed) => Ok(()),
		None if policy.risk.only_allowed && !policy.lsps2.trusted_clients.contains(id) => Err(Refusal::Blocked),
		None => Ok(()),
	}
}

/// What holds for the client in this step.
pub(crate) fn here(turn: &Turn<'_>, id: &NodeId) -> Standing {
	let client = turn.known_client(id);
	of_client(turn.policy(), turn.book, id, client.as_ref(), turn.now)
}

/// A payment went to the client over one of its channels.
pub(crate) fn count_payment(turn: &mut Turn<'_>, id: &NodeId) {
	let Some(mut client) = turn.known_client(id).filter(|client| client.payments < MAX_COUNTED_PAYMENTS) else {
		return;
	};
	client.payments = client.payments.saturating_add(1);
	turn.put_client(client);
}

/// The operator sets what holds for a client, in place of what was set before.
pub(crate) fn set(turn: &mut Turn<'_>, id: &NodeId, overrides: &Overrides) {
	let is_there = overrides.tier.as_ref().is_none_or(|name| turn.policy().tier.get(name).is_some());
	if !is_there || overrides.note.chars().count() > MAX_CLIENT_NOTE {
		return;
	}
	let mut client = turn.client(id);
	if client.overrides != *overrides {
		let text = if overrides.is_empty() { "nothing" } else { "what is shown with it" };
		client.note(turn.now, "set", format!("the operator has set {text}"));
		client.overrides = overrides.clone();
		turn.put_client(client);
	}
}

/// At the end of a step: whose row has changed, and with it its tier, is promoted or demoted, and the operator is told.
pub(crate) fn settle(turn: &mut Turn<'_>) {
	for mut client in turn.changed_clients() {
		let id = client.id;
		let name = tier_of(turn.policy(), turn.book, &id, Some(&client), turn.now).to_string();
		let before = if client.tier.is_empty() { LOWEST.to_string() } else { client.tier.clone() };
		if name == before {
			continue;
		}
		let rank = |name: &str| turn.policy().tier.get(name).map_or(0, |tier| tier.rank);
		let word = if rank(&name) >= rank(&before) { "promoted" } else { "demoted" };
		client.note(turn.now, "tier", format!("{word} from {before} to {name}"));
		if word == "demoted" {
			turn.act(Action::Warn { code: "tier", text: format!("client {id} is demoted from {before} to {name}") });
		}
		client.tier = name;
		turn.put_client(client);
	}
}
