//! No millisatoshi is made or lost, and every rounding is ours.

use crate::harness::plain;
use inlet_lsp::jit;
use inlet_lsp::market::Market;
use inlet_lsp::money::{FeePerKw, Msat, Ppm, Sat};
use inlet_lsp::policy::Policy;
use inlet_lsp::quote::{self, Basis};
use inlet_lsp::tiers::{self, Standing};
use proptest::prelude::*;

proptest! {
	#[test]
	fn l2_27_for_any_split_of_parts_and_any_fee_the_sum_is_right(
		amounts in proptest::collection::vec(1_u64..10_000_000, 1..40),
		fee in 0_u64..50_000_000,
		minimum in 1_u64..10_000,
	) {
		let parts: Vec<Msat> = amounts.iter().map(|amount| Msat(*amount)).collect();
		let spare: u64 = amounts.iter().map(|amount| amount.saturating_sub(minimum)).sum();
		let possible = amounts.iter().all(|amount| *amount >= minimum) && spare >= fee;
		match jit::split(&parts, Msat(fee), Msat(minimum)) {
			Some(forwards) => {
				prop_assert!(possible);
				prop_assert_eq!(forwards.iter().map(|amount| amount.0).sum::<u64>() + fee, amounts.iter().sum::<u64>());
				for (forward, amount) in forwards.iter().zip(&amounts) {
					prop_assert!(forward.0 >= minimum && forward.0 <= *amount);
				}
			},
			None => prop_assert!(!possible),
		}
	}

	#[test]
	fn l2_12_the_opening_fee_is_what_the_specification_computes(payment: u64, min_fee: u64, proportional: u32) {
		let expected = payment
			.checked_mul(u64::from(proportional))
			.and_then(|fee| fee.checked_add(999_999))
			.and_then(|fee| fee.checked_div(1_000_000))
			.map(|fee| fee.max(min_fee));
		prop_assert_eq!(quote::opening_fee(Msat(min_fee), proportional, Msat(payment)), expected.map(Msat));
	}

	/// R15: what LDK keeps back of a fresh channel is the reserve, the anchors and the commitment transaction with this
	/// HTLC in it; the rest carries the payment.
	#[test]
	fn r15_the_first_htlc_always_fits(
		payment in 1_u64..2_000_000_000,
		feerate in 253_u32..100_000,
		htlcs in 0_u64..40,
		headroom in 0_u32..1_000_000,
	) {
		let mut policy = plain();
		policy.lsps2.headroom_ppm = Ppm(headroom);
		let standing = standing(&policy, "new");
		let basis = basis(&policy, &standing, feerate);
		let capacity = |payment| basis.jit_capacity(Msat(payment), htlcs).unwrap();
		let reserve = (capacity(payment).0 / 100).max(1000);
		let commitment = (u64::from(feerate) * (1124 + 172 * htlcs.max(1))).div_ceil(1000) + 660;
		prop_assert!((capacity(payment).0 - reserve - commitment) * 1000 >= payment);
		prop_assert!(capacity(payment + 1) >= capacity(payment));
	}

	#[test]
	fn the_largest_payment_fits_and_the_next_does_not(free in 100_000_u64..5_000_000, feerate in 253_u32..30_000) {
		let policy = Policy::default();
		let standing = standing(&policy, "new");
		let basis = basis(&policy, &standing, feerate);
		let limit = Sat(3_000_000);
		let fits = |payment: u64| {
			let capacity = basis.jit_capacity(Msat(payment * 1000), 0).unwrap();
			capacity <= limit && quote::funding_need(basis.feerate, capacity) <= Sat(free)
		};
		match basis.largest_payment(Sat(free), limit) {
			Some(largest) => {
				prop_assert!(fits(largest.0));
				prop_assert!(largest == policy.lsps2.max_payment_sat || !fits(largest.0 + 1));
			},
			None => prop_assert!(!fits(policy.lsps2.min_payment_sat.0)),
		}
	}

	#[test]
	fn nothing_overflows(sats: u64, ppm: u32, feerate: u32, weight: u64, blocks: u32) {
		let policy = Policy::default();
		let _ = (Ppm(ppm).of_sat_ceil(Sat(sats)), FeePerKw(feerate).cost_ceil(weight));
		let standing = standing(&policy, "new");
		let basis = basis(&policy, &standing, feerate);
		let _ = basis.order(Sat(sats), Sat(sats), blocks);
		let _ = basis.jit(Msat(sats));
	}

	/// R7: whatever the operator asks for, whoever the client is and whatever the feerate does, bLIP-52's two numbers
	/// cover the cost of every payment in the range that they are offered for.
	#[test]
	fn r7_no_payment_of_the_range_sells_below_its_cost(
		(feerate, far) in (253_u32..100_000, 253_u32..100_000),
		(floor, jit_ppm, close, capital) in (0_u64..20_000, 0_u32..50_000, 0_u32..2_000_000, 0_u32..300_000),
		(risk, share, headroom) in (0_u32..1_000_000, 0_u32..2_000_000, 0_u32..2_000_000),
		lifetime in 0_u32..52_560,
		(low, high, at) in (1_u64..2_000_000_000, 1_u64..2_000_000_000, 0_u64..1_000_000),
	) {
		let mut policy = Policy::default();
		policy.price.floor_sat = Sat(floor);
		policy.price.jit_ppm = Ppm(jit_ppm);
		policy.price.close_share_ppm = Ppm(close);
		policy.price.capital_ppm_per_year = Ppm(capital);
		policy.lsps2.min_lifetime_blocks = lifetime;
		policy.lsps2.headroom_ppm = Ppm(headroom);
		let tier = policy.tier.0.get_mut("new").unwrap();
		(tier.risk_ppm, tier.fee_share_ppm) = (Ppm(risk), Ppm(share));
		let standing = standing(&policy, "new");
		let basis = Basis { long_run: FeePerKw(far), ..basis(&policy, &standing, feerate) };
		let (low, high) = (low.min(high), low.max(high));
		let rate = basis.rate(Msat(low), Msat(high)).unwrap();
		let meeting = (rate.min_fee.0 * 1_000_000).checked_div(rate.proportional.0.into()).unwrap_or(high);
		let inside = low + (high - low) * at / 1_000_000;
		for payment in [low, high, inside, meeting, meeting.saturating_sub(1), meeting + 1, meeting + 1000] {
			let payment = payment.clamp(low, high);
			let cost = basis.jit_costs(basis.jit_capacity(Msat(payment), 0).unwrap()).total();
			let fee = rate.fee(Msat(payment)).unwrap();
			prop_assert!(fee >= cost.to_msat().unwrap(), "{payment}: {fee} for {cost}, {rate:?}");
			prop_assert!(fee >= Sat(floor).to_msat().unwrap());
		}
	}

	#[test]
	fn r7_no_order_sells_below_its_cost(
		feerate in 253_u32..100_000,
		(ours, theirs) in (1_u64..5_000_000, 0_u64..1_000_000),
		lease in 1_u32..60_000,
		tier in prop::sample::select(vec!["new", "known", "trusted"]),
	) {
		let policy = Policy::default();
		let standing = standing(&policy, tier);
		let quote = basis(&policy, &standing, feerate).order(Sat(ours), Sat(theirs), lease).unwrap();
		prop_assert!(quote.fee >= quote.cost.to_msat().unwrap());
		prop_assert_eq!(quote.fee, quote.fee.to_sat_ceil().to_msat().unwrap(), "whole satoshis");
	}
}

fn standing(policy: &Policy, tier: &str) -> Standing {
	tiers::standing_of_tier(policy, tier).unwrap()
}

fn basis<'a>(policy: &'a Policy, standing: &'a Standing, feerate: u32) -> Basis<'a> {
	Basis::new(policy, standing, &Market::default(), FeePerKw(feerate), FeePerKw(feerate))
}

#[test]
fn the_terms_of_a_quote_explain_it() {
	let policy = plain();
	let standing = standing(&policy, "new");
	let jit = basis(&policy, &standing, 1000).jit(Msat(50_000_000)).unwrap();
	assert_eq!((jit.opening, jit.close_share, jit.proportional), (Sat(850), Sat(400), Msat(200_000)));
	assert_eq!((jit.min_fee, jit.fee), (Msat(1_250_000), Msat(1_250_000)), "the larger one");
	let low = basis(&policy, &standing, 253).jit(Msat(5_000_000)).unwrap();
	assert_eq!(low.fee, Msat(1_000_000), "the floor");
	let order = |lease| basis(&policy, &standing, 1000).order(Sat(800_000), Sat(200_000), lease).unwrap();
	assert_eq!(order(4320).fee, Msat(1_250_000 + 4_000_000), "the sum");
	assert_eq!(order(4321).fee, Msat(1_250_000 + 4_001_000), "rounded up");
	assert_eq!(order(1).fee, order(4320).fee);
	assert_eq!(serde_json::to_value(&jit).unwrap()["close_share"], 400);
}

#[test]
fn every_cost_has_its_term() {
	let policy = Policy::default();
	let new = standing(&policy, "new");
	let basis = Basis { long_run: FeePerKw(500), ..basis(&policy, &new, 2000) };
	let order = basis.order(Sat(1_000_000), Sat(500_000), 52_560).unwrap();
	assert_eq!(order.opening, Sat(1_700), "850 at 2000");
	// Nine of ten close for 400, one for 1225 and both anchors.
	assert_eq!(order.close_share, Sat(360 + 189));
	assert_eq!(order.capital, Sat(30_000), "3 % of what is ours, for a year");
	assert_eq!(order.risk, Sat(3_225), "a tenth of that");
	assert_eq!(order.cost, Sat(1_700 + 549 + 30_000 + 3_225));
	assert_eq!(order.proportional, Msat(73_000_000), "4000 ppm for each 30 days of a year");
	assert_eq!(order.fee.to_sat_ceil(), Sat(35_474 + 73_000));
	let known = standing(&policy, "known");
	let cheaper = Basis { standing: &known, ..basis }.order(Sat(1_000_000), Sat(500_000), 52_560).unwrap();
	assert_eq!(cheaper.risk, Sat(1_613));
}

#[test]
fn r15_headroom_gives_way_to_the_limit_before_the_payment_does() {
	let mut policy = plain();
	policy.lsps2.headroom_ppm = Ppm(1_000_000);
	let mut standing = standing(&policy, "new");
	standing.max_channel = Sat(500_000);
	let basis = basis(&policy, &standing, 1000);
	let capacity = |sat: u64| basis.jit_capacity(Msat(sat * 1000), 0).unwrap();
	assert!(capacity(200_000) > Sat(400_000), "all of it");
	assert_eq!(capacity(300_000), Sat(500_000), "what there is room for");
	assert!(capacity(499_000) > Sat(500_000), "the payment and its reserve have to fit");
	let largest = basis.largest_payment(Sat(10_000_000), standing.max_channel).unwrap();
	assert!(largest > Sat(480_000), "{largest}");
	assert_eq!(capacity(largest.0), Sat(500_000));
}
