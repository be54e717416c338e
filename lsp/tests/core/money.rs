//! No millisatoshi is made or lost, and every rounding is ours.

use inlet_lsp::jit;
use inlet_lsp::money::{FeePerKw, Msat, Ppm, Sat};
use inlet_lsp::policy::Policy;
use inlet_lsp::quote;
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

	#[test]
	fn a_channel_holds_its_payment_and_grows_with_it(payment in 1_u64..2_000_000_000, feerate in 253_u32..30_000) {
		let policy = Policy::default();
		let capacity = |payment| quote::jit_capacity(&policy, FeePerKw(feerate), Msat(payment), 0).unwrap();
		let reserve = (capacity(payment).0 / 100).max(1000);
		prop_assert!((capacity(payment).0 - reserve) * 1000 >= payment);
		prop_assert!(capacity(payment + 1) >= capacity(payment));
	}

	#[test]
	fn the_largest_payment_fits_and_the_next_does_not(free in 100_000_u64..5_000_000, feerate in 253_u32..30_000) {
		let (policy, feerate) = (Policy::default(), FeePerKw(feerate));
		let limit = Sat(3_000_000);
		let fits = |payment: u64| {
			let capacity = quote::jit_capacity(&policy, feerate, Msat(payment * 1000), 0).unwrap();
			capacity <= limit && quote::funding_need(feerate, capacity) <= Sat(free)
		};
		match quote::largest_payment(&policy, feerate, Sat(free), limit) {
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
		let _ = quote::order(&policy, FeePerKw(feerate), Sat(sats), blocks);
		let _ = quote::jit(&policy, FeePerKw(feerate), Msat(sats));
	}
}

#[test]
fn the_terms_of_a_quote_explain_it() {
	let policy = Policy::default();
	let jit = quote::jit(&policy, FeePerKw(1000), Msat(50_000_000)).unwrap();
	assert_eq!((jit.opening, jit.close_share, jit.proportional), (Sat(850), Sat(400), Msat(200_000)));
	assert_eq!((jit.min_fee, jit.fee), (Msat(1_250_000), Msat(1_250_000)), "the larger one");
	let low = quote::jit(&policy, FeePerKw(253), Msat(5_000_000)).unwrap();
	assert_eq!(low.fee, Msat(1_000_000), "the floor");
	let order = quote::order(&policy, FeePerKw(1000), Sat(1_000_000), 4320).unwrap();
	assert_eq!(order.fee, Msat(1_250_000 + 4_000_000), "the sum");
	let longer = quote::order(&policy, FeePerKw(1000), Sat(1_000_000), 4321).unwrap();
	assert_eq!(longer.fee, Msat(1_250_000 + 4_001_000), "rounded up");
	let shorter = quote::order(&policy, FeePerKw(1000), Sat(1_000_000), 1).unwrap();
	assert_eq!(shorter.fee, order.fee);
	assert_eq!(serde_json::to_value(&jit).unwrap()["close_share"], 400);
}
