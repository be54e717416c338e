//! Whether we sell, now and to this client. A refusal carries the limit and how far off it is; the wire's codes come in
//! where the answer is written.

use crate::book::NodeId;
use crate::exposure;
use crate::input::World;
use crate::money::{FeePerKw, Msat, Sat};
use crate::policy::Policy;
use crate::tiers;
use crate::time::Timestamp;
use crate::turn::Turn;

/// Why nothing is sold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
	/// Wait: our view of the chain is behind.
	#[error("our view of the chain is not current")]
	NotSynced,
	/// Wait: the disk is nearly full, and what is sold already comes first.
	#[error("the disk of this node is nearly full")]
	DiskLow,
	/// Wait: no fresh estimate.
	#[error("no fresh feerate estimate")]
	NoFeerate,
	/// Above the operator's ceiling.
	#[error("the feerate, {} sat/vB, is above our ceiling of {ceiling} sat/vB", .feerate.to_sat_per_vb_ceil())]
	FeerateAboveCeiling {
		/// Now.
		feerate: FeePerKw,
		/// At most, in sat/vB.
		ceiling: u64,
	},
	/// Above what is paid by orders that cannot wait.
	#[error(
		"the feerate, {} sat/vB, is above {ceiling} sat/vB: only orders that can wait {blocks} blocks for their confirmation are taken",
		.feerate.to_sat_per_vb_ceil()
	)]
	NeedsPatience {
		/// Now.
		feerate: FeePerKw,
		/// At most, in sat/vB.
		ceiling: u64,
		/// At least.
		blocks: u16,
	},
	/// The feerate has risen since the price was promised.
	#[error(
		"the feerate has overtaken the price: it would cost {cost}, the fee is {fee}, and {bound} is the most that we lose"
	)]
	Overtaken {
		/// What the channel costs now.
		cost: Sat,
		/// What was promised.
		fee: Msat,
		/// At most between them.
		bound: Sat,
	},
	/// The price eats every payment that there is money for.
	#[error("a channel would cost {fee}, and {most} is the largest payment that we can serve")]
	TooDear {
		/// At least.
		fee: Msat,
		/// At most.
		most: Sat,
	},
	/// The operator sells nothing to this client.
	#[error("nothing is sold to this node")]
	Blocked,
	/// The wallet cannot fund it.
	#[error("{needed} needed, {free} free")]
	Funds {
		/// Capacity and miner's fee.
		needed: Sat,
		/// Spendable, less what is reserved.
		free: Sat,
	},
	/// Larger than the operator allows.
	#[error("a channel of {capacity} is above our limit of {limit}")]
	ChannelTooLarge {
		/// Needed.
		capacity: Sat,
		/// At most.
		limit: Sat,
	},
	/// This client has enough unpaid ones.
	#[error("{open} unpaid already, at most {limit} for one client")]
	ClientHasTooMany {
		/// Now.
		open: usize,
		/// At most.
		limit: u32,
	},
	/// This client gave offence too often.
	#[error("{count} channels came to nothing through your doing, at most {limit}; try again later")]
	Offences {
		/// Now.
		count: usize,
		/// At most.
		limit: u32,
	},
	/// Strangers gave offence too often.
	#[error("no channels just in time for new clients until {until}")]
	Paused {
		/// When the pause ends.
		until: Timestamp,
	},
	/// A limit of `[capital]` is reached.
	#[error("{key} is reached")]
	Limit {
		/// Which.
		key: String,
	},
	/// Channels that are not broadcast yet hold enough of our coins.
	#[error("{taken} held for channels that are not paid for yet, at most {limit}")]
	Withheld {
		/// Now.
		taken: Sat,
		/// At most.
		limit: Sat,
	},
	/// We remember as many clients as we can.
	#[error("no new clients at the moment")]
	Clients,
	/// All clients together have enough unpaid ones.
	#[error("{open} unpaid already, at most {limit} in all")]
	TooMany {
		/// Now.
		open: usize,
		/// At most.
		limit: u32,
	},
}

impl Refusal {
	/// Will it pass by itself, so that held money may wait for it?
	pub fn is_passing(&self) -> bool {
		matches!(self, Refusal::NotSynced | Refusal::NoFeerate)
	}
}

/// The live feerate, whatever it is: for what was promised.
///
/// # Errors
/// We do not know it.
pub fn live(world: &World) -> Result<FeePerKw, Refusal> {
	if !world.synced {
		return Err(Refusal::NotSynced);
	}
	world.feerate.ok_or(Refusal::NoFeerate)
}

/// The feerate to sell channels just in time at.
///
/// # Errors
/// What keeps us from selling any to anybody.
pub fn feerate(policy: &Policy, world: &World) -> Result<FeePerKw, Refusal> {
	order_feerate(policy, world, 1)?;
	live(world)
}

/// The feerate for the funding of an order that can wait so many blocks for its confirmation.
///
/// # Errors
/// What keeps us from taking such an order from anybody.
pub fn order_feerate(policy: &Policy, world: &World, within_blocks: u16) -> Result<FeePerKw, Refusal> {
	let live = live(world)?;
	at_ceilings(policy, live, within_blocks)?;
	Ok(world.market.within(live, within_blocks))
}

/// Is anything sold at this live feerate to somebody who can wait so many blocks?
///
/// # Errors
/// Above one of the two ceilings.
pub fn at_ceilings(policy: &Policy, live: FeePerKw, within_blocks: u16) -> Result<(), Refusal> {
	let is_above = |ceiling: u64| u64::from(live.0) > ceiling.saturating_mul(250);
	let (ceiling, patient) = (policy.risk.max_feerate_sat_per_vb, policy.risk.patient_feerate_sat_per_vb);
	let blocks = policy.risk.patient_blocks;
	if is_above(ceiling) {
		return Err(Refusal::FeerateAboveCeiling { feerate: live, ceiling });
	}
	if is_above(patient) && within_blocks < blocks {
		return Err(Refusal::NeedsPatience { feerate: live, ceiling: patient, blocks });
	}
	Ok(())
}

/// Is anything new sold at all? What was sold before is delivered without asking this.
///
/// # Errors
/// The disk is nearly full.
pub(crate) fn selling(world: &World) -> Result<(), Refusal> {
	if world.disk_low { Err(Refusal::DiskLow) } else { Ok(()) }
}

/// Can a channel of this capacity be funded, besides all that is reserved for others? Gives what is to be reserved.
/// `own` is what is reserved for it already, `limit` the largest channel that the client may have.
///
/// # Errors
/// Too large, or too little money.
pub(crate) fn funding(turn: &Turn<'_>, feerate: FeePerKw, capacity: Sat, own: Sat, limit: Sat) -> Result<Sat, Refusal> {
	let share = turn.policy().capital.max_wallet_share_ppm;
	// All of it is no limit: then it is the money that does not suffice.
	let limit = if share.0 < 1_000_000 { limit.min(share.of_sat_ceil(turn.world.spendable)) } else { limit };
	if capacity > limit {
		return Err(Refusal::ChannelTooLarge { capacity, limit });
	}
	let needed = crate::quote::funding_need(feerate, capacity);
	let free = turn.free_funds(own);
	if needed > free {
		return Err(Refusal::Funds { needed, free });
	}
	Ok(needed)
}

/// May this client have one more unpaid sale? One that owes us a fee counts too.
pub(crate) fn one_more_sale(turn: &Turn<'_>, client: &NodeId) -> Result<(), Refusal> {
	selling(turn.world)?;
	tiers::admit(turn.policy(), turn.known_client(client).as_ref(), client)?;
	crate::trust::admit(turn, client)?;
	one_more_client(turn, client)?;
	let own = turn.book.live_sales().filter(|sale| sale.client == *client && !sale.state.is_finished()).count();
	per_client(own, tiers::here(turn, client).max_open_sales)?;
	in_all(turn)
}

/// May this client have one more unpaid order?
pub(crate) fn one_more_order(turn: &Turn<'_>, client: &NodeId) -> Result<(), Refusal> {
	selling(turn.world)?;
	tiers::admit(turn.policy(), turn.known_client(client).as_ref(), client)?;
	one_more_client(turn, client)?;
	let own = turn.book.live_orders().filter(|order| order.client == *client && order.state.is_unpaid()).count();
	let own = own.saturating_add(crate::order::refused_lately(turn, Some(client)));
	per_client(own, tiers::here(turn, client).max_open_orders)?;
	in_all(turn)
}

/// The limits of `[capital]` on what is sold to whom and how fast.
pub(crate) fn within_limits(turn: &Turn<'_>, client: &NodeId, size: Sat) -> Result<(), Refusal> {
	match exposure::exceeded(turn.policy(), turn.book, turn.world.unconfirmed, *client, size, turn.now) {
		Some(key) => Err(Refusal::Limit { key }),
		None => Ok(()),
	}
}

/// Can we remember this client? The book forgets those with whom nothing is at stake, as long as there are any.
fn one_more_client(turn: &Turn<'_>, client: &NodeId) -> Result<(), Refusal> {
	let is_full = turn.book.client(client).is_none() && turn.book.clients.len() > crate::book::MAX_CLIENTS;
	if is_full { Err(Refusal::Clients) } else { Ok(()) }
}

fn per_client(open: usize, limit: u32) -> Result<(), Refusal> {
	if open >= as_count(limit) { Err(Refusal::ClientHasTooMany { open, limit }) } else { Ok(()) }
}

/// Counted from what is there, never by a counter beside it.
fn in_all(turn: &Turn<'_>) -> Result<(), Refusal> {
	let sales = turn.book.live_sales().filter(|sale| sale.state.is_unpaid()).count();
	let orders = turn.book.live_orders().filter(|order| order.state.is_unpaid()).count();
	let orders = orders.saturating_add(crate::order::refused_lately(turn, None));
	let (open, limit) = (sales.saturating_add(orders), turn.policy().risk.max_open_total);
	if open >= as_count(limit) { Err(Refusal::TooMany { open, limit }) } else { Ok(()) }
}

fn as_count(limit: u32) -> usize {
	usize::try_from(limit).unwrap_or(usize::MAX)
}
