//! What a channel costs us, and what we ask for it. Every term is rounded up.
//!
//! The cost is what opening it takes at the live feerate, what its close will take in the long run (by agreement or by
//! force), what the capital would have earned elsewhere while it is promised, and a margin for the risk that the client
//! is. To that comes a proportional fee, and a floor. See `docs/decisions/0003-price.md`.

use crate::admission::Refusal;
use crate::market::Market;
use crate::money::{FeePerKw, Msat, Ppm, Sat};
use crate::policy::Policy;
use crate::tiers::Standing;
use serde::Serialize;

/// Weight of a funding transaction: two taproot inputs, the channel, the change.
pub const FUNDING_WEIGHT: u64 = 850;
/// Weight of a transaction that closes a channel by agreement: one 2-of-2 input, two outputs.
pub const CLOSE_WEIGHT: u64 = 800;
/// Weight of all that a close by force takes: a commitment transaction with anchors and two HTLCs (1124 + 2 x 172), the
/// child that pays for it (500), and the sweep of what is ours (480).
pub const FORCED_CLOSE_WEIGHT: u64 = 2_450;
/// The blocks that `price.order_ppm` pays for: 30 days.
pub const LEASE_BLOCKS: u32 = 4320;
/// A year of blocks.
pub const YEAR_BLOCKS: u32 = 52_560;

/// Weight of a commitment transaction with anchors and no HTLC (BOLT 3).
const COMMITMENT_WEIGHT: u64 = 1124;
/// Weight of each HTLC in it (BOLT 3).
const HTLC_WEIGHT: u64 = 172;
/// HTLCs that a fresh channel must at least be able to carry.
const MIN_HTLCS: u64 = 8;
/// Both anchor outputs.
const ANCHORS: Sat = Sat(660);
/// The smallest channel reserve that LDK asks for. A larger channel has 1 % of its capacity.
const MIN_RESERVE: Sat = Sat(1000);
/// What rounding up each term can add to a cost that grows with the payment.
const ROUNDING: Msat = Msat(20_000);

/// A price and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quote {
	/// The feerate of the opening, in sat per 1000 weight units.
	pub feerate: FeePerKw,
	/// The feerate of the close, in the long run.
	pub long_run: FeePerKw,
	/// The channel's capacity.
	pub capacity: Sat,
	/// The funding transaction ([`FUNDING_WEIGHT`]) at that feerate.
	pub opening: Sat,
	/// The expected close, the client's share of it.
	pub close_share: Sat,
	/// The share of the close that the client pays.
	pub close_share_ppm: Ppm,
	/// What our capital in it would earn elsewhere.
	pub capital: Sat,
	/// For so many blocks.
	pub capital_blocks: u32,
	/// The margin for the client's risk.
	pub risk: Sat,
	/// Its share of the costs.
	pub risk_ppm: Ppm,
	/// The four together: never sold below it.
	pub cost: Sat,
	/// The proportional fee.
	pub proportional: Msat,
	/// Its rate. Just in time: of the payment, what the capital grows by with it included.
	pub proportional_ppm: Ppm,
	/// Never less than this.
	pub floor: Sat,
	/// What is promised as bLIP-52's `min_fee_msat`, or for an order cost or floor.
	pub min_fee: Msat,
	/// The price.
	pub fee: Msat,
}

/// What a channel costs us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Costs {
	/// The funding transaction, now.
	pub opening: Sat,
	/// The client's share of the expected close, in the long run.
	pub close_share: Sat,
	/// What the capital would earn elsewhere.
	pub capital: Sat,
	/// The margin for the client's risk.
	pub risk: Sat,
}

impl Costs {
	/// All of it.
	pub fn total(self) -> Sat {
		self.opening.saturating_add(self.close_share).saturating_add(self.capital).saturating_add(self.risk)
	}
}

/// bLIP-52's two numbers, which hold for every payment of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
	/// `min_fee_msat`.
	pub min_fee: Msat,
	/// `proportional`.
	pub proportional: Ppm,
}

impl Rate {
	/// bLIP-52's `opening_fee` of a payment; `None` on overflow.
	pub fn fee(self, payment: Msat) -> Option<Msat> {
		opening_fee(self.min_fee, self.proportional.0, payment)
	}
}

/// What prices are made from: the operator's policy, where the client stands, the market.
#[derive(Clone, Copy, Debug)]
pub struct Basis<'a> {
	/// The operator's decisions.
	pub policy: &'a Policy,
	/// What holds for this client.
	pub standing: &'a Standing,
	/// The feerate of the opening.
	pub feerate: FeePerKw,
	/// The feerate of the close.
	pub long_run: FeePerKw,
}

/// bLIP-52's `opening_fee`; `None` on overflow, which is to be refused.
pub fn opening_fee(min_fee: Msat, proportional: u32, payment: Msat) -> Option<Msat> {
	Some(Ppm(proportional).of_msat_ceil(payment)?.max(min_fee))
}

impl<'a> Basis<'a> {
	/// For channels that are opened at `feerate`, the live one being `live`.
	pub fn new(
		policy: &'a Policy,
		standing: &'a Standing,
		market: &Market,
		live: FeePerKw,
		feerate: FeePerKw,
	) -> Basis<'a> {
		Basis { policy, standing, feerate, long_run: market.far(live) }
	}

	/// What a channel costs in which `capital` of ours lies for so many blocks.
	pub fn costs(&self, capital: Sat, blocks: u32) -> Costs {
		let price = &self.policy.price;
		let opening = self.feerate.cost_ceil(FUNDING_WEIGHT);
		let agreed = self.long_run.cost_ceil(CLOSE_WEIGHT);
		let forced = self.long_run.cost_ceil(FORCED_CLOSE_WEIGHT).saturating_add(ANCHORS);
		let by_force = price.forced_close_ppm;
		let by_agreement = Ppm(1_000_000_u32.saturating_sub(by_force.0));
		let close = by_agreement.of_sat_ceil(agreed).saturating_add(by_force.of_sat_ceil(forced));
		let close_share = price.close_share_ppm.of_sat_ceil(close);
		let capital = interest(capital, price.capital_ppm_per_year, blocks);
		let sum = opening.saturating_add(close_share).saturating_add(capital);
		Costs { opening, close_share, capital, risk: self.standing.risk_ppm.of_sat_ceil(sum) }
	}

	/// What a channel costs that is opened just in time: its capital is bound for the promised lifetime at least.
	pub fn jit_costs(&self, capacity: Sat) -> Costs {
		self.costs(capacity, self.policy.lsps2.min_lifetime_blocks)
	}

	/// What an ordered channel costs.
	pub fn order_costs(&self, lsp_balance: Sat, lease_blocks: u32) -> Costs {
		self.costs(lsp_balance, lease_blocks)
	}

	/// The capacity that lets us forward `payment` at once and leaves the client some room: payment, headroom, anchors,
	/// the commitment transaction with `htlcs` (at least 8) parts in it, and the reserve of 1 % that the client asks of
	/// us (R15). Where that is more than the client may have, it is the headroom that gives way, not the payment: a client
	/// that has grown can be paid as much at once as one that has not. `None` on overflow.
	pub fn jit_capacity(&self, payment: Msat, htlcs: u64) -> Option<Sat> {
		let payment = payment.to_sat_ceil();
		let wished = self.capacity_for(payment, self.standing.headroom_ppm.of_sat_ceil(payment), htlcs)?;
		if wished <= self.standing.max_channel {
			return Some(wished);
		}
		Some(self.capacity_for(payment, Sat::ZERO, htlcs)?.max(self.standing.max_channel))
	}

	fn capacity_for(&self, payment: Sat, headroom: Sat, htlcs: u64) -> Option<Sat> {
		let weight = htlcs.max(MIN_HTLCS).checked_mul(HTLC_WEIGHT)?.checked_add(COMMITMENT_WEIGHT)?;
		let usable =
			payment.checked_add(headroom)?.checked_add(ANCHORS)?.checked_add(self.feerate.cost_ceil(weight))?;
		// The reserve is a share of the whole: usable = 99 % of it.
		let with_share = Sat(usable.0.checked_mul(100)?.div_ceil(99));
		let with_least = usable.checked_add(MIN_RESERVE)?;
		Some(with_share.max(with_least).max(self.policy.lsps2.min_channel_sat))
	}

	/// What a channel for this payment costs. `None` on overflow.
	fn cost_of(&self, payment: Msat) -> Option<Msat> {
		self.jit_costs(self.jit_capacity(payment, 0)?).total().to_msat()
	}

	/// The proportional rate: the operator's fee, and what the capital grows by with the payment.
	fn proportional(&self) -> Ppm {
		// Of a payment: its headroom, the reserve on top, a year's rate of that for the lifetime, the margin on top.
		let whole = 1_000_000_u128;
		let grown = whole.saturating_add(self.standing.headroom_ppm.0.into()).saturating_mul(100).div_ceil(99);
		let price = &self.policy.price;
		let rate =
			u128::from(price.capital_ppm_per_year.0).saturating_mul(self.policy.lsps2.min_lifetime_blocks.into());
		let margin = whole.saturating_add(self.standing.risk_ppm.0.into());
		let divisor = whole.saturating_mul(whole).saturating_mul(YEAR_BLOCKS.into());
		let slope = grown.saturating_mul(rate).saturating_mul(margin).div_ceil(divisor);
		let own = u128::from(self.standing.proportional(price.jit_ppm).0);
		Ppm(u32::try_from(own.saturating_add(slope)).unwrap_or(u32::MAX))
	}

	/// bLIP-52's two numbers for payments of `low` to `high`: no payment between them pays less than its channel costs,
	/// nor less than the floor. Its fee is the larger of the two terms: up to the payment where they meet `min_fee`
	/// covers the cost, beyond it the proportional one does, which grows faster than the cost. `None` on overflow.
	pub fn rate(&self, low: Msat, high: Msat) -> Option<Rate> {
		let proportional = self.proportional();
		let covers = |payment: Msat| {
			let share = proportional.of_msat_ceil(payment)?;
			Some(share >= self.cost_of(payment)?.checked_add(ROUNDING)?)
		};
		// `above` is covered by the proportional term, or is `high`; what is below `below` is not.
		let (mut below, mut above) = (low.0, high.0.max(low.0));
		while below < above {
			let middle = below.saturating_add(above.saturating_sub(below) / 2);
			if covers(Msat(middle))? {
				above = middle;
			} else {
				below = middle.saturating_add(1);
			}
		}
		let floor = self.policy.price.floor_sat.to_msat()?;
		Some(Rate { min_fee: self.cost_of(Msat(above))?.max(floor), proportional })
	}

	/// The price of a channel opened just in time for a `payment` out of the whole range that is offered. `None` on
	/// overflow.
	pub fn jit(&self, payment: Msat) -> Option<Quote> {
		let own = &self.policy.lsps2;
		let most = own.max_payment_sat.min(self.standing.max_payment).to_msat()?;
		let rate = self.rate(own.min_payment_sat.to_msat()?.min(payment), most.max(payment))?;
		let capacity = self.jit_capacity(payment, 0)?;
		let proportional = rate.proportional.of_msat_ceil(payment)?;
		let parts = Parts {
			capacity,
			costs: self.jit_costs(capacity),
			blocks: own.min_lifetime_blocks,
			proportional,
			proportional_ppm: rate.proportional,
			min_fee: rate.min_fee,
			fee: rate.fee(payment)?,
		};
		Some(self.quote(parts))
	}

	/// The price of an ordered channel: costs and proportional fee together, at least the floor, in whole satoshis.
	/// The proportional fee is on both sides; a lease of up to [`LEASE_BLOCKS`] pays the whole rate, a longer one in
	/// proportion. `None` on overflow.
	pub fn order(&self, lsp_balance: Sat, client_balance: Sat, lease_blocks: u32) -> Option<Quote> {
		let capacity = lsp_balance.checked_add(client_balance)?;
		let ppm = self.standing.proportional(self.policy.price.order_ppm);
		let whole = u128::from(capacity.0)
			.checked_mul(u128::from(ppm.0))?
			.checked_mul(u128::from(lease_blocks.max(LEASE_BLOCKS)))?
			.div_ceil(u128::from(LEASE_BLOCKS).checked_mul(1_000_000)?);
		let proportional = Sat(u64::try_from(whole).ok()?);
		let costs = self.order_costs(lsp_balance, lease_blocks);
		let floor = self.policy.price.floor_sat;
		let parts = Parts {
			capacity,
			costs,
			blocks: lease_blocks,
			proportional: proportional.to_msat()?,
			proportional_ppm: ppm,
			min_fee: costs.total().max(floor).to_msat()?,
			fee: costs.total().checked_add(proportional)?.max(floor).to_msat()?,
		};
		Some(self.quote(parts))
	}

	fn quote(&self, parts: Parts) -> Quote {
		let price = &self.policy.price;
		Quote {
			feerate: self.feerate,
			long_run: self.long_run,
			capacity: parts.capacity,
			opening: parts.costs.opening,
			close_share: parts.costs.close_share,
			close_share_ppm: price.close_share_ppm,
			capital: parts.costs.capital,
			capital_blocks: parts.blocks,
			risk: parts.costs.risk,
			risk_ppm: self.standing.risk_ppm,
			cost: parts.costs.total(),
			proportional: parts.proportional,
			proportional_ppm: parts.proportional_ppm,
			floor: price.floor_sat,
			min_fee: parts.min_fee,
			fee: parts.fee,
		}
	}

	/// The largest payment, in whole satoshis, whose channel needs at most `free` and is no larger than `max_channel`;
	/// `None` if even the smallest one does not fit.
	pub fn largest_payment(&self, free: Sat, max_channel: Sat) -> Option<Sat> {
		let fits = |payment: Sat| {
			let capacity = payment.to_msat().and_then(|payment| self.jit_capacity(payment, 0));
			capacity.is_some_and(|capacity| capacity <= max_channel && funding_need(self.feerate, capacity) <= free)
		};
		let own = &self.policy.lsps2;
		let (mut low, mut high) = (own.min_payment_sat.0, own.max_payment_sat.min(self.standing.max_payment).0);
		if high < low || !fits(Sat(low)) {
			return None;
		}
		// `low` fits always; what is above `high` never does.
		while low < high {
			let middle = high.saturating_sub(high.saturating_sub(low) / 2);
			if fits(Sat(middle)) {
				low = middle;
			} else {
				high = middle.saturating_sub(1);
			}
		}
		Some(Sat(low))
	}

	/// Does a fee that was promised earlier still cover what the channel costs now, but for the loss that the operator
	/// bears?
	///
	/// # Errors
	/// The feerate has overtaken the promise (R7).
	pub fn covers(&self, fee: Msat, costs: Costs) -> Result<(), Refusal> {
		let (cost, bound) = (costs.total(), self.policy.risk.max_loss_sat);
		let covered = fee.to_sat_floor().saturating_add(bound);
		if cost > covered { Err(Refusal::Overtaken { cost, fee, bound }) } else { Ok(()) }
	}
}

/// What a [`Quote`] is put together from.
struct Parts {
	capacity: Sat,
	costs: Costs,
	blocks: u32,
	proportional: Msat,
	proportional_ppm: Ppm,
	min_fee: Msat,
	fee: Msat,
}

/// What `capital` earns in so many blocks at a yearly rate, rounded up; the largest value on overflow.
fn interest(capital: Sat, ppm_per_year: Ppm, blocks: u32) -> Sat {
	let product = u128::from(capital.0).saturating_mul(ppm_per_year.0.into()).saturating_mul(blocks.into());
	let year = u128::from(YEAR_BLOCKS).saturating_mul(1_000_000);
	Sat(u64::try_from(product.div_ceil(year)).unwrap_or(u64::MAX))
}

/// What has to be there to fund a channel: its capacity and the miner's fee.
pub fn funding_need(feerate: FeePerKw, capacity: Sat) -> Sat {
	capacity.saturating_add(feerate.cost_ceil(FUNDING_WEIGHT))
}
