//! What a channel costs: what opening it (and a share of closing it) costs on-chain at the live feerate, a share of the
//! payment or of the capacity, and a floor. Every term is rounded up.

use crate::money::{FeePerKw, Msat, Ppm, Sat};
use crate::policy::Policy;
use serde::Serialize;

/// Weight of a funding transaction: two taproot inputs, the channel, the change.
pub const FUNDING_WEIGHT: u64 = 850;
/// Weight of a transaction that closes a channel by agreement: one 2-of-2 input, two outputs.
pub const CLOSE_WEIGHT: u64 = 800;
/// The blocks that `price.order_ppm` pays for: 30 days.
pub const LEASE_BLOCKS: u32 = 4320;

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
/// bLIP-51 names a feerate by its target. The live one is for about six blocks; a hurry costs twice that.
const USUAL_TARGET_BLOCKS: u16 = 6;

/// A price and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quote {
	/// The feerate it was made with, in sat per 1000 weight units.
	pub feerate: FeePerKw,
	/// The channel's capacity.
	pub capacity: Sat,
	/// The funding transaction ([`FUNDING_WEIGHT`]) at that feerate.
	pub opening: Sat,
	/// Closing ([`CLOSE_WEIGHT`]) at that feerate, the client's share of it.
	pub close_share: Sat,
	/// The share of the close that the client pays.
	pub close_share_ppm: Ppm,
	/// The proportional fee.
	pub proportional: Msat,
	/// Its rate.
	pub proportional_ppm: Ppm,
	/// Never less than this.
	pub floor: Sat,
	/// What is promised as bLIP-52's `min_fee_msat`, or for an order the same sum: opening and close, or the floor.
	pub min_fee: Msat,
	/// The price.
	pub fee: Msat,
}

/// bLIP-52's `opening_fee`; `None` on overflow, which is to be refused.
pub fn opening_fee(min_fee: Msat, proportional: u32, payment: Msat) -> Option<Msat> {
	Some(Ppm(proportional).of_msat_ceil(payment)?.max(min_fee))
}

/// The price of a channel opened just in time for a `payment`: the larger of bLIP-52's two terms. `None` on overflow.
pub fn jit(policy: &Policy, feerate: FeePerKw, payment: Msat) -> Option<Quote> {
	let costs = Costs::at(policy, feerate);
	let ppm = policy.price.jit_ppm;
	let min_fee = costs.opening.saturating_add(costs.close_share).max(policy.price.floor_sat).to_msat()?;
	Some(Quote {
		feerate,
		capacity: jit_capacity(policy, feerate, payment, 0)?,
		opening: costs.opening,
		close_share: costs.close_share,
		close_share_ppm: policy.price.close_share_ppm,
		proportional: ppm.of_msat_ceil(payment)?,
		proportional_ppm: ppm,
		floor: policy.price.floor_sat,
		min_fee,
		fee: opening_fee(min_fee, ppm.0, payment)?,
	})
}

/// The price of an ordered channel: costs and proportional fee together, at least the floor, in whole satoshis.
/// A lease of up to [`LEASE_BLOCKS`] pays the whole rate, a longer one in proportion. `None` on overflow.
pub fn order(policy: &Policy, feerate: FeePerKw, capacity: Sat, lease_blocks: u32) -> Option<Quote> {
	let costs = Costs::at(policy, feerate);
	let ppm = policy.price.order_ppm;
	let whole = u128::from(capacity.0)
		.checked_mul(u128::from(ppm.0))?
		.checked_mul(u128::from(lease_blocks.max(LEASE_BLOCKS)))?
		.div_ceil(u128::from(LEASE_BLOCKS).checked_mul(1_000_000)?);
	let proportional = Sat(u64::try_from(whole).ok()?);
	let onchain = costs.opening.saturating_add(costs.close_share);
	let fee = onchain.checked_add(proportional)?.max(policy.price.floor_sat);
	Some(Quote {
		feerate,
		capacity,
		opening: costs.opening,
		close_share: costs.close_share,
		close_share_ppm: policy.price.close_share_ppm,
		proportional: proportional.to_msat()?,
		proportional_ppm: ppm,
		floor: policy.price.floor_sat,
		min_fee: onchain.max(policy.price.floor_sat).to_msat()?,
		fee: fee.to_msat()?,
	})
}

/// The capacity that lets us forward `payment` at once and leaves the client some room: payment, headroom, anchors, the
/// commitment transaction with `htlcs` (at least 8) parts in it, and the reserve of 1 % that the client asks of us.
/// `None` on overflow.
pub fn jit_capacity(policy: &Policy, feerate: FeePerKw, payment: Msat, htlcs: u64) -> Option<Sat> {
	let payment = payment.to_sat_ceil();
	let weight = htlcs.max(MIN_HTLCS).checked_mul(HTLC_WEIGHT)?.checked_add(COMMITMENT_WEIGHT)?;
	let usable = payment
		.checked_add(policy.lsps2.headroom_ppm.of_sat_ceil(payment))?
		.checked_add(ANCHORS)?
		.checked_add(feerate.cost_ceil(weight))?;
	// The reserve is a share of the whole: usable = 99 % of it.
	let with_share = Sat(usable.0.checked_mul(100)?.div_ceil(99));
	let with_least = usable.checked_add(MIN_RESERVE)?;
	Some(with_share.max(with_least).max(policy.lsps2.min_channel_sat))
}

/// What has to be there to fund a channel: its capacity and the miner's fee.
pub fn funding_need(feerate: FeePerKw, capacity: Sat) -> Sat {
	capacity.saturating_add(feerate.cost_ceil(FUNDING_WEIGHT))
}

/// The feerate for a funding transaction that was ordered to be mined within so many blocks.
pub fn order_feerate(live: FeePerKw, within_blocks: u16) -> FeePerKw {
	if within_blocks >= USUAL_TARGET_BLOCKS { live } else { FeePerKw(live.0.saturating_mul(2)) }
}

/// The largest payment, in whole satoshis, whose channel needs at most `free` and is no larger than `max_channel`;
/// `None` if even the smallest one does not fit.
pub fn largest_payment(policy: &Policy, feerate: FeePerKw, free: Sat, max_channel: Sat) -> Option<Sat> {
	let fits = |payment: Sat| {
		let capacity = payment.to_msat().and_then(|payment| jit_capacity(policy, feerate, payment, 0));
		capacity.is_some_and(|capacity| capacity <= max_channel && funding_need(feerate, capacity) <= free)
	};
	let (mut low, mut high) = (policy.lsps2.min_payment_sat.0, policy.lsps2.max_payment_sat.0);
	if !fits(Sat(low)) {
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

struct Costs {
	opening: Sat,
	close_share: Sat,
}

impl Costs {
	fn at(policy: &Policy, feerate: FeePerKw) -> Costs {
		let close = feerate.cost_ceil(CLOSE_WEIGHT);
		Costs {
			opening: feerate.cost_ceil(FUNDING_WEIGHT),
			close_share: policy.price.close_share_ppm.of_sat_ceil(close),
		}
	}
}
