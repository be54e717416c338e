//! Old entries are folded into what they added up to, and deleted.
//!
//! Months, channels and clients have their sums already, made with each entry: those stay as they are. What is added up here
//! is what a reader of the entries that are left needs to begin with.

use crate::book::{Book, BooksRow, Entry, LEDGER_IN_MEMORY, month_of, months_before};
use crate::policy::LedgerPolicy;
use crate::time::Timestamp;
use crate::turn::Turn;

/// So many entries in one step at most: what is deleted with one commit is no burden for those that wait for theirs.
pub const FOLD_AT_ONCE: usize = 200;

impl Book {
	/// The number of the oldest entry, if it may be one to be folded: [`Fact::Oldest`](crate::ledger::Fact::Oldest) is to tell of
	/// it and those that follow, at most [`FOLD_AT_ONCE`].
	///
	/// The newest [`LEDGER_IN_MEMORY`] stay however old they are: by them it is known what is booked already.
	pub fn fold_from(&self, policy: LedgerPolicy) -> Option<u64> {
		let from = self.books().folded().map_or(0, |folded| folded.before);
		(policy.keep_months > 0 && from < self.fold_below()).then_some(from)
	}

	fn fold_below(&self) -> u64 {
		self.next_entry().saturating_sub(u64::try_from(LEDGER_IN_MEMORY).unwrap_or(u64::MAX))
	}
}

/// Folds those of them that follow on what was folded before and are old enough. Told twice, the second time none does.
pub(super) fn oldest(turn: &mut Turn<'_>, entries: &[Entry]) {
	let policy = turn.policy().ledger;
	if turn.book.fold_from(policy).is_none() {
		return;
	}
	let mut folded = turn.book.books().folded().cloned().unwrap_or_default();
	let (below, from) = (turn.book.fold_below(), folded.before);
	for entry in entries.iter().take(FOLD_AT_ONCE) {
		if entry.seq != folded.before || entry.seq >= below || !is_old(entry, policy, turn.now) {
			break;
		}
		folded.before = entry.seq.saturating_add(1);
		folded.until = folded.until.max(entry.at);
		let (count, sum) = folded.kinds.entry(entry.kind).or_default();
		(*count, *sum) = (count.saturating_add(1), sum.saturating_add(entry.amount_msat));
		for posting in &entry.postings {
			let sum = folded.accounts.entry(posting.account).or_default();
			*sum = sum.saturating_add(posting.msat);
		}
	}
	if folded.before > from {
		folded.accounts.retain(|_, msat| *msat != 0);
		turn.forget(folded.before);
		turn.put_books(BooksRow::Folded(folded));
	}
}

fn is_old(entry: &Entry, policy: LedgerPolicy, now: Timestamp) -> bool {
	month_of(entry.at) < months_before(&month_of(now), policy.keep_months)
}
