//! Thirty days of business, simulated: `cargo sim business`.
//!
//! Clients arrive with a payment that they wait for, buy a channel for it if it is not too dear for them, are paid, pay, grow, fall
//! silent, go; some only waste our money; feerates go from 1 to 300 sat/vB and back. The real core decides and keeps the books; what is
//! simulated is everything around it. The same people live the same days again under other policies. What each policy made is read
//! from the ledger, less what closing the channels will cost that are still open.
//!
//! `docs/business.md` says what is assumed; lsp's decision 6 has the table, and what followed from it.

mod channels;
mod clients;
mod feerates;
mod operator;
mod policies;
mod report;
mod shop;

pub use feerates::Feerates;
pub use policies::{Case, Table, tables_of_cases};
pub use report::{HEADING, Outcome, Pause};

use inlet_lsp::Policy;
use inlet_lsp::money::Sat;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How long a business is watched.
pub const DAYS: u64 = 30;

/// What one run is made of.
#[derive(Clone, Debug)]
pub struct Days<'a> {
	/// What block space costs.
	pub feerates: &'a Feerates,
	/// Who comes when: the same seed, the same people.
	pub seed: u64,
	/// In the wallet at the beginning.
	pub coins: Sat,
	/// What clients give for a channel at most: so many times as much as `docs/business.md` assumes, in ppm.
	pub generosity_ppm: u64,
	/// How long, in days, at most [`DAYS`].
	pub days: u64,
}

/// Lives these days under this policy.
///
/// # Panics
/// The books do not balance, a channel was sold below its cost beyond the bound, or something was sold above the ceilings.
pub fn live(policy: &Policy, days: &Days<'_>) -> Outcome {
	let mut shop = shop::Shop::new(policy.clone(), days);
	shop.run();
	shop.outcome()
}

/// All policies, as tables for people, and what the spike did.
///
/// # Errors
/// The feerates do not reach over thirty days.
pub fn tables(feerates: &Feerates, seed: u64) -> Result<String, String> {
	let least = (DAYS * 24 - 1) * 3_600;
	if feerates.secs() <= least {
		return Err(format!("feerates of {} seconds, {least} are needed", feerates.secs()));
	}
	let mut text = format!("feerates: {}\n", feerates.source);
	for Table { title, coins, generosity_ppm, cases } in tables_of_cases() {
		let days = Days { feerates, seed, coins, generosity_ppm, days: DAYS };
		let _ = write!(text, "\n{title}, {} sat in the wallet\n\n{HEADING}\n", coins.0);
		let mut spike = String::new();
		for (case, outcome) in all(cases, &days) {
			let _ = writeln!(text, "{}", outcome.line(case.name));
			if case.tells {
				let _ = writeln!(spike, "{}", outcome.story(case.name));
			}
		}
		let _ = write!(text, "\n{spike}");
	}
	Ok(text)
}

/// All cases, several at once, in their order.
fn all(cases: Vec<Case>, days: &Days<'_>) -> Vec<(Case, Outcome)> {
	let (jobs, next) = (std::thread::available_parallelism().map_or(1, usize::from), AtomicUsize::new(0));
	let work = || {
		let own = std::iter::from_fn(|| cases.get(next.fetch_add(1, Ordering::Relaxed)));
		own.map(|case| (case.name, live(&case.policy, days))).collect::<Vec<_>>()
	};
	let mut done: BTreeMap<&str, Outcome> = std::thread::scope(|scope| {
		let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
		threads.into_iter().flat_map(|thread| thread.join().expect("no policy fails")).collect()
	});
	let names: Vec<&'static str> = cases.iter().map(|case| case.name).collect();
	let outcomes: Vec<Outcome> =
		names.iter().map(|name| done.remove(name).expect("each has a name of its own")).collect();
	cases.into_iter().zip(outcomes).collect()
}

#[cfg(test)]
mod tests {
	use super::*;

	/// Half of the days have the spike in them.
	fn half(policy: &Policy) -> Outcome {
		let feerates = Feerates::own();
		let coins = Sat(100_000_000);
		live(policy, &Days { feerates: &feerates, seed: 42, coins, generosity_ppm: 1_000_000, days: 16 })
	}

	#[test]
	fn r7_selling_pauses_in_the_spike_and_resumes_by_itself() {
		let outcome = half(&Policy::default());
		assert!(outcome.sold > 200, "a shop without customers proves nothing: {outcome:?}");
		assert!(outcome.paused > 0 && !outcome.pauses.is_empty(), "{outcome:?}");
		assert!(outcome.pauses.iter().all(|pause| pause.resumed.is_some()), "{outcome:?}");
		assert!(outcome.worst_loss <= Policy::default().risk.max_loss_sat, "{outcome:?}");
	}

	#[test]
	fn r7_promises_outstanding_at_the_spike_cost_the_bound_at_most_and_without_it_they_cost_much() {
		let (bound, charity) = (half(&policies::for_a_day()), half(&policies::charity()));
		assert!(bound.overtaken > 0 && bound.risen > bound.at_a_loss, "{bound:?}");
		assert!(bound.worst_loss <= Policy::default().risk.max_loss_sat, "{bound:?}");
		assert!(charity.profit < bound.profit, "{} and {}", charity.profit, bound.profit);
		assert!(charity.overtaken == 0 && charity.worst_loss > Sat(10_000), "{charity:?}");
	}
}
