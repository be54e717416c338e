//! The limits of `[capital]` on what is sold to whom and how fast. Each looks at what is there and what is promised, with
//! the channel that is asked for on top: what is promised may all be paid in the next second.

use crate::book::{Book, NodeId, Order, Sale, SaleState};
use crate::money::Sat;
use crate::policy::Policy;
use crate::tiers;
use crate::time::{DAY_MS, HOUR_MS, Timestamp};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// A limit, and how much of it is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
	/// Its key in the configuration.
	pub key: String,
	/// Satoshis, or channels.
	pub taken: u64,
	/// At most.
	pub most: u64,
}

/// A channel that a client has, or was promised.
pub(crate) struct Stake {
	client: NodeId,
	/// Its capacity; if it is promised only, what is reserved for it.
	size: Sat,
	/// When it was funded, if it was.
	funded_at: Option<Timestamp>,
	promised: bool,
	/// What of it is out and not paid for.
	at_risk: Sat,
}

impl Stake {
	pub(crate) fn of_sale(sale: &Sale) -> Stake {
		let open = sale.open_channel().map(|channel| channel.capacity);
		let promised = open.is_none() && !sale.state.is_finished();
		Stake {
			client: sale.client,
			size: open.or_else(|| promised.then_some(sale.reserved)).unwrap_or(Sat::ZERO),
			funded_at: sale.channel.as_ref().and_then(|channel| channel.funded_at),
			promised,
			at_risk: open.filter(|_| !matches!(sale.state, SaleState::Done)).unwrap_or(Sat::ZERO),
		}
	}

	pub(crate) fn of_order(order: &Order) -> Stake {
		let channel = order.channel.as_ref();
		let open = channel.filter(|channel| channel.is_open()).map(|channel| channel.capacity);
		let promised = open.is_none() && !order.state.is_finished();
		Stake {
			client: order.client,
			size: open.or_else(|| promised.then_some(order.reserved)).unwrap_or(Sat::ZERO),
			funded_at: channel.and_then(|channel| channel.funded_at),
			promised,
			at_risk: if order.is_at_risk() { order.lsp_balance } else { Sat::ZERO },
		}
	}
}

/// All stakes in sums, so that no sale looks at all of them. Kept up by the book's index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
	/// Satoshis of each client that has or was promised something.
	clients: BTreeMap<NodeId, u64>,
	/// How many are promised only, and their satoshis.
	promised: u64,
	promised_sat: u64,
	at_risk: u64,
	/// How many were funded when.
	funded: BTreeMap<Timestamp, u64>,
}

impl Sums {
	pub(crate) fn add(&mut self, stake: &Stake) {
		if stake.size > Sat::ZERO {
			let own = self.clients.entry(stake.client).or_default();
			*own = own.saturating_add(stake.size.0);
		}
		if stake.promised {
			self.promised = self.promised.saturating_add(1);
			self.promised_sat = self.promised_sat.saturating_add(stake.size.0);
		}
		self.at_risk = self.at_risk.saturating_add(stake.at_risk.0);
		if let Some(at) = stake.funded_at {
			let count = self.funded.entry(at).or_default();
			*count = count.saturating_add(1);
		}
	}

	pub(crate) fn remove(&mut self, stake: &Stake) {
		if let Entry::Occupied(mut own) = self.clients.entry(stake.client) {
			*own.get_mut() = own.get().saturating_sub(stake.size.0);
			if *own.get() == 0 {
				own.remove();
			}
		}
		if stake.promised {
			self.promised = self.promised.saturating_sub(1);
			self.promised_sat = self.promised_sat.saturating_sub(stake.size.0);
		}
		self.at_risk = self.at_risk.saturating_sub(stake.at_risk.0);
		if let Some(Entry::Occupied(mut count)) = stake.funded_at.map(|at| self.funded.entry(at)) {
			*count.get_mut() = count.get().saturating_sub(1);
			if *count.get() == 0 {
				count.remove();
			}
		}
	}

	/// Channels that are funded and not paid for, and orders served on unconfirmed payments.
	pub(crate) fn at_risk(&self) -> Sat {
		Sat(self.at_risk)
	}

	/// Channels that are promised, or were funded within this time.
	fn of_the_last(&self, ms: u64, now: Timestamp) -> u64 {
		let since = Timestamp(now.0.saturating_sub(ms).saturating_add(1));
		self.funded.range(since..).map(|(_, count)| *count).fold(self.promised, u64::saturating_add)
	}
}

/// Limits that are for all clients together, and those of tiers that have one. `unconfirmed`: our channels in use whose
/// funding is in no block yet.
pub fn limits(policy: &Policy, book: &Book, unconfirmed: Sat, now: Timestamp) -> Vec<Limit> {
	let (own, sums) = (&policy.capital, book.stakes());
	let limit = |key: &str, taken: u64, most: u64| Limit { key: key.to_owned(), taken, most };
	let with_promised = |sat: u64| sat.saturating_add(sums.promised_sat);
	let mut limits = vec![
		limit("capital.max_at_risk_sat", with_promised(sums.at_risk), own.max_at_risk_sat.0),
		limit("capital.max_unconfirmed_sat", with_promised(unconfirmed.0), own.max_unconfirmed_sat.0),
		limit("capital.max_channels_per_hour", sums.of_the_last(HOUR_MS, now), own.max_channels_per_hour.into()),
		limit("capital.max_channels_per_day", sums.of_the_last(DAY_MS, now), own.max_channels_per_day.into()),
	];
	let limited: BTreeMap<&String, u64> =
		policy.tier.0.iter().map(|(name, tier)| (name, tier.max_total_sat.0)).filter(|(_, most)| *most > 0).collect();
	// Who is in which tier is reckoned for all clients: only if a tier has such a limit.
	let mut taken: BTreeMap<String, u64> = BTreeMap::new();
	for (client, sat) in sums.clients.iter().filter(|_| !limited.is_empty()) {
		let sum = taken.entry(tiers::standing(policy, book, client, now).tier).or_default();
		*sum = sum.saturating_add(*sat);
	}
	limits.extend(
		limited.into_iter().map(|(name, most)| {
			limit(&format!("tier.{name}.max_total_sat"), taken.get(name).copied().unwrap_or(0), most)
		}),
	);
	limits
}

/// Why this client gets no channel of this size now, if a limit says so: the limit. (The share of the wallet that one may
/// take, `max_wallet_share_ppm`, is looked at when its money is reserved.)
pub fn exceeded(
	policy: &Policy,
	book: &Book,
	unconfirmed: Sat,
	client: NodeId,
	size: Sat,
	now: Timestamp,
) -> Option<String> {
	let own = Sat(book.stakes().clients.get(&client).copied().unwrap_or(0));
	if own.saturating_add(size) > policy.capital.max_client_sat {
		return Some("capital.max_client_sat".to_owned());
	}
	let tier = format!("tier.{}.max_total_sat", tiers::standing(policy, book, &client, now).tier);
	let full = |limit: &Limit| {
		let more = if limit.key.ends_with("_sat") { size.0 } else { 1 };
		let is_its = !limit.key.starts_with("tier.") || limit.key == tier;
		is_its && limit.taken.saturating_add(more) > limit.most
	};
	limits(policy, book, unconfirmed, now).into_iter().find(full).map(|limit| limit.key)
}
