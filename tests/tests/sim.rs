//! A bounded run of the simulation; `cargo sim` runs as many seeds as one likes. See `docs/simulation.md`.

#![allow(missing_docs)]

use inlet_tests::sim::{Options, Report, run};

const SEEDS: std::ops::Range<u64> = 1..41;

#[test]
fn r1_r6_r12_the_books_agree_with_a_world_full_of_trouble() {
	let mut sum = Report::default();
	for seed in SEEDS {
		match run(seed, Options { steps: 1_200, trace: 60 }) {
			Ok(report) => sum = sum.plus(report),
			Err(failure) => panic!(
				"seed {seed}, step {}: {}\nagain: cargo sim --seed {seed} --steps 1200\n{}",
				failure.step,
				failure.what,
				failure.trace.join("\n")
			),
		}
	}
	// A world in which nothing happens proves nothing.
	for (what, count) in [
		("sales", sum.sales),
		("orders", sum.orders),
		("channels", sum.funded),
		("settled HTLCs", sum.settled),
		("refunds", sum.refunds),
		("refused trials", sum.refused),
		("notices", sum.notices),
		("HTLCs taken after waking", sum.woken),
		("released fundings", sum.released),
		("discarded fundings", sum.discarded),
		("crashes", sum.crashes),
	] {
		assert!(count >= 10, "{count} {what} only: {sum:?}");
	}
}

#[test]
fn a_seed_is_replayed_exactly() {
	let options = Options { steps: 1_000, trace: 60 };
	let (one, other) = (run(3, options).unwrap(), run(3, options).unwrap());
	assert_eq!(format!("{one:?}"), format!("{other:?}"));
}
