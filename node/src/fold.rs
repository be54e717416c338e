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
