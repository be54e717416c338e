//! By the clock, the books' oldest entries are shown to the core, which folds those that are old enough into totals
//! (`ledger.keep_months`).

use crate::driver::{Driver, Stopped};
use crate::stop::stopped;
use inlet_lsp::input::Input;
use inlet_lsp::ledger::{FOLD_AT_ONCE, Fact};
use inlet_lsp::policy::LedgerPolicy;
use inlet_storage::{ReadError, Store};
use std::time::Duration;
use tokio::sync::watch;

/// How often it is looked whether a month has become old. The first look is so long after the start: there is more urgent work
/// by then.
const EVERY: Duration = Duration::from_secs(3_600);
/// Between two steps: what waits for its commit meanwhile goes first. A month with a million entries takes three hours.
const BETWEEN: Duration = Duration::from_secs(2);

/// Why nothing was folded.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
	/// It goes on after the start.
	#[error(transparent)]
	Stopped(#[from] Stopped),
	/// Nothing is lost; it is tried again.
	#[error("the oldest entries of the ledger cannot be read: {0}")]
	Unreadable(#[from] ReadError),
}

/// Folds what is old until `stop`.
pub async fn fold(driver: Driver, store: Store, policy: LedgerPolicy, mut stop: watch::Receiver<bool>) {
	if policy.keep_months == 0 {
		return stopped(&mut stop).await;
	}
	let (mut wait, mut since) = (EVERY, None);
	loop {
		tokio::select! {
			() = stopped(&mut stop) => return,
			() = tokio::time::sleep(wait) => {},
		}
		let before = driver.read(|book| book.books().folded().map_or(0, |folded| folded.before));
		let from = *since.get_or_insert(before);
		match step(&driver, &store, policy).await {
			Ok(true) => wait = BETWEEN,
			Ok(false) => {
				if before > from {
					tracing::info!(target: "inlet::ledger", entries = before - from, "old entries were folded into totals");
				}
				(wait, since) = (EVERY, None);
			}
			Err(FoldError::Stopped(_)) => return stopped(&mut stop).await,
			Err(e) => {
				tracing::warn!(target: "inlet::ledger", "no old entries are folded: {e}");
				(wait, since) = (EVERY, None);
			}
		}
	}
}

/// Folds some; true if some were.
///
/// # Errors
/// See [`FoldError`].
pub async fn step(driver: &Driver, store: &Store, policy: LedgerPolicy) -> Result<bool, FoldError> {
	let Some(from) = driver.read(|book| book.fold_from(policy)) else { return Ok(false) };
	let entries = store.oldest_entries(from, FOLD_AT_ONCE).await?;
	driver.submit(Input::Money(Fact::Oldest { entries })).await?;
	Ok(driver.read(|book| book.books().folded().is_some_and(|folded| folded.before > from)))
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::driver::Surroundings;
	use bitcoin::Network;
	use inlet_lsp::book::{
		Account, Book, BooksRow, BooksState, Entry, EntryKind, LEDGER_IN_MEMORY, MonthSums, NodeId, Posting, Write,
		month_of,
	};
	use inlet_lsp::input::{Action, PeerView, World};
	use inlet_lsp::market::Market;
	use inlet_lsp::money::Sat;
	use inlet_lsp::time::{DAY_MS, Timestamp};
	use inlet_lsp::{Lsp, Policy};
	use inlet_storage::Inspection;
	use std::sync::Arc;

	struct Around;

	impl Surroundings for Around {
		fn world(&self, _: Option<NodeId>, _: &Book) -> World {
			World {
				network: Network::Regtest,
				height: 100,
				synced: true,
				disk_low: false,
				feerate: None,
				market: Market::default(),
				spendable: Sat(0),
				unconfirmed: Sat::ZERO,
				peer: PeerView::default(),
				entropy: [7; 32],
				fresh_scid: 1,
				present: Vec::new(),
			}
		}

		fn perform(&self, _: Action, _: &Book) -> Vec<Input> {
			Vec::new()
		}

		fn activity(&self, _: &Book) -> Vec<Input> {
			Vec::new()
		}

		fn is_connected(&self, _: &NodeId) -> bool {
			false
		}

		fn written(&self, _: &[Write], _: Timestamp) {}
	}

	/// Books of two days, as the core would have written them; the last entry is of the month before last.
	fn books(count: u64) -> Vec<Write> {
		let at = |seq: u64| Timestamp(crate::driver::now().0 - 70 * DAY_MS + seq);
		let mut month = MonthSums { month: month_of(at(0)), entries: count, ..MonthSums::default() };
		let mut rows = Vec::new();
		for seq in 0..count {
			let msat = i64::try_from(seq).unwrap();
			let kind = EntryKind::Deposit;
			let postings =
				[(Account::Wallet, msat), (Account::Deposits, -msat)].map(|(account, msat)| Posting { account, msat });
			for posting in &postings {
				*month.accounts.entry(posting.account).or_default() += posting.msat;
			}
			*month.kinds.entry(kind).or_default() += msat;
			let (client, reference, postings) = (None, seq.to_string(), postings.to_vec());
			rows.push(Write::Ledger(Entry { seq, at: at(seq), kind, amount_msat: msat, client, reference, postings }));
		}
		let state = BooksState { opened_at: at(0), height: 100, ..BooksState::default() };
		rows.extend([BooksRow::State(state), BooksRow::Month(month)].map(Write::Books));
		rows
	}

	/// Step by step, over a restart; totals are what they were, and the doctor finds nothing.
	#[tokio::test]
	async fn old_entries_go_step_by_step_and_the_books_still_balance() {
		let dir = tempfile::tempdir().unwrap();
		let file = dir.path().join("store");
		let memory = u64::try_from(LEDGER_IN_MEMORY).unwrap();
		let at_once = u64::try_from(FOLD_AT_ONCE).unwrap();
		let policy = LedgerPolicy { keep_months: 1 };
		let (mut totals, mut balances) = (None, None);
		for (round, steps) in [(0, 2), (1, 9)] {
			let store = Store::open(&file, |e| panic!("{e}")).unwrap();
			if round == 0 {
				store.commit(books(memory + 3 * at_once + 7)).await;
			}
			let (stop, stopping) = watch::channel(false);
			let (_look, looks) = watch::channel(());
			let lsp = Lsp::new(Policy { ledger: policy, ..Policy::default() }, [1; 32]).unwrap();
			let book = Book::restore(store.load_rows().await.unwrap());
			let (driver, engine) = Driver::new(lsp, book, store.clone());
			let running = tokio::spawn(engine.run(Arc::new(Around), looks, stopping));
			totals.get_or_insert(store.ledger_totals().await.unwrap());
			balances.get_or_insert(driver.read(|book| book.books().balances()));
			assert!(!step(&driver, &store, LedgerPolicy { keep_months: 0 }).await.unwrap(), "0 is for ever");
			let mut done = 0;
			while done < steps && step(&driver, &store, policy).await.unwrap() {
				done += 1;
			}
			assert_eq!(done, 2, "of 607 entries, 200 at a time, two steps before the restart and two after it");
			assert_eq!(store.ledger_totals().await.unwrap(), *totals.as_ref().unwrap());
			assert_eq!(driver.read(|book| book.books().balances()), *balances.as_ref().unwrap());
			stop.send_replace(true);
			running.await.unwrap();
			assert!(matches!(step(&driver, &store, policy).await, Ok(false) | Err(FoldError::Stopped(_))));
			drop(driver);
			store.close().await;
			let rows = Inspection::open(&file).unwrap().book().unwrap();
			assert_eq!(crate::doctor::books(&rows), Vec::<String>::new());
			let left = rows.iter().filter(|row| matches!(row, Write::Ledger(_))).count();
			assert_eq!(left as u64, if round == 0 { memory + at_once + 7 } else { memory });
			assert_eq!(Inspection::open(&file).unwrap().rows().unwrap().1, Vec::<String>::new());
		}
	}
}
