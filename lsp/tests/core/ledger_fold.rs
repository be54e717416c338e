//! Old entries are folded into totals and deleted: whoever adds up gets what he got before.

use super::*;
use inlet_lsp::book::{Entry, Folded, LEDGER_IN_MEMORY, month_of};
use inlet_lsp::ledger::FOLD_AT_ONCE;
use inlet_lsp::policy::LedgerPolicy;
use std::sync::LazyLock;

#[derive(Clone, Debug)]
enum Turn {
	Move(Move),
	/// Some days without anything.
	Days(u64),
	/// The clock strikes so often.
	Fold(u8),
}

fn turns() -> impl Strategy<Value = Turn> {
	prop_oneof![
		20 => moves().prop_map(Turn::Move),
		1 => (1..20u64).prop_map(Turn::Days),
		3 => (1..4u8).prop_map(Turn::Fold),
	]
}

/// Books with more entries than stay anyway, two an hour.
fn long(keep_months: u32) -> Ledger {
	static MADE: LazyLock<Ledger> = LazyLock::new(make_long);
	let policy = Policy { ledger: LedgerPolicy { keep_months }, ..Policy::default() };
	Ledger { lsp: Lsp::new(policy, [1; 32]).unwrap(), ..MADE.clone() }
}

fn make_long() -> Ledger {
	let mut ledger = Ledger::new();
	ledger.make(Move::Fund { size: 900_000, fee: 700, given: 0 });
	ledger.make(Move::Inbound(0));
	for n in 0..1_300 {
		ledger.make(Move::Forward { fee: n % 13, skim: n % 7 });
	}
	ledger
}

impl Ledger {
	/// The entries of the store, oldest first.
	fn entries(&self) -> Vec<Entry> {
		let entries = self.rows.iter().filter_map(|row| match row {
			Write::Ledger(entry) => Some(entry.clone()),
			_ => None,
		});
		let by_number: BTreeMap<u64, Entry> = entries.map(|entry| (entry.seq, entry)).collect();
		by_number.into_values().collect()
	}

	fn folded(&self) -> Folded {
		self.book.books().folded().cloned().unwrap_or_default()
	}

	/// What the clock does: the oldest entries are shown. How many were folded.
	fn fold(&mut self) -> u64 {
		let before = self.folded().before;
		let Some(from) = self.book.fold_from(self.lsp.policy.ledger) else { return 0 };
		let entries = self.entries().into_iter().filter(|entry| entry.seq >= from).take(FOLD_AT_ONCE).collect();
		let clock = self.now;
		self.now = Timestamp(clock.0 - 3_600_000);
		self.tell(Fact::Oldest { entries });
		assert_eq!(self.now, clock);
		let below = self.rows.iter().filter_map(|row| if let Write::Forget(below) = row { Some(*below) } else { None });
		let below = below.max().unwrap_or(0);
		self.rows.retain(|row| match row {
			Write::Forget(_) => false,
			Write::Ledger(entry) => entry.seq >= below,
			_ => true,
		});
		self.folded().before - before
	}

	/// What the books keep beside the entries, settled channels included, less what only one of two has.
	fn sums(&self) -> Vec<&BooksRow> {
		let books = self.rows.iter().filter_map(|row| if let Write::Books(row) = row { Some(row) } else { None });
		books.filter(|row| !matches!(row, BooksRow::Folded(_))).collect()
	}

	/// By kind, and by account and channel: what was folded and what is there, added up.
	fn totals(&self) -> (BTreeMap<EntryKind, (u64, i64)>, BTreeMap<Account, i64>) {
		let Folded { mut kinds, mut accounts, .. } = self.folded();
		for entry in self.entries() {
			let (count, sum) = kinds.entry(entry.kind).or_default();
			(*count, *sum) = (*count + 1, *sum + entry.amount_msat);
			for posting in entry.postings {
				*accounts.entry(posting.account).or_default() += posting.msat;
			}
		}
		accounts.retain(|_, msat| *msat != 0);
		(kinds, accounts)
	}

	/// It is as one that never folded anything, less the entries that are folded.
	fn is_like(&self, whole: &Ledger) {
		self.check();
		let before = self.folded().before;
		assert!(self.entries().iter().eq(whole.entries().iter().filter(|entry| entry.seq >= before)), "what is left");
		assert_eq!(self.totals(), whole.totals());
		assert_eq!(self.sums(), whole.sums(), "months, channels, clients");
		assert!(self.book.books().months().eq(whole.book.books().months()));
		assert!(self.book.books().channels().eq(whole.book.books().channels()));
		assert_eq!(self.book.books().balances(), whole.book.books().balances());
		assert!(self.book.ledger().eq(whole.book.ledger()), "what is in memory");
		assert_eq!(self.folded().accounts.values().sum::<i64>(), 0);
	}
}

proptest! {
	#![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

	#[test]
	fn totals_and_balances_are_the_same_whenever_entries_are_folded(
		turns in prop::collection::vec(turns(), 100..300),
		keep_months in 1..3u32,
	) {
		let (mut folding, mut whole) = (long(keep_months), long(0));
		for turn in turns {
			match turn {
				Turn::Move(what) => {
					folding.make(what.clone());
					whole.make(what);
				}
				Turn::Days(days) => {
					folding.now = Timestamp(folding.now.0 + days * 86_400_000);
					whole.now = folding.now;
				}
				Turn::Fold(times) => {
					for _ in 0..times {
						folding.fold();
						assert_eq!(whole.fold(), 0, "for ever is for ever");
					}
					folding.is_like(&whole);
				}
			}
		}
		// A year later all is old.
		folding.now = Timestamp(folding.now.0 + 366 * 86_400_000);
		while folding.fold() > 0 {}
		folding.is_like(&whole);
		prop_assert_eq!(folding.entries().len(), LEDGER_IN_MEMORY);
		folding.make(Move::Restart);
		whole.make(Move::Restart);
		folding.is_like(&whole);
	}
}

#[test]
fn this_month_and_so_many_before_it_stay_and_the_newest_and_a_step_folds_so_many_at_most() {
	let mut ledger = long(1);
	assert_eq!(month_of(ledger.now), "2026-07", "from the end of May on");
	let of_may = ledger.entries().iter().filter(|entry| month_of(entry.at) == "2026-05").count() as u64;
	let at_once = u64::try_from(FOLD_AT_ONCE).unwrap();
	assert!((1..at_once).contains(&of_may));
	assert_eq!((ledger.fold(), ledger.fold()), (of_may, 0));
	assert_eq!(ledger.folded().whole_from(), "2026-06");

	ledger.now = Timestamp(ledger.now.0 + 31 * 86_400_000);
	assert_eq!(ledger.fold(), at_once, "June is old now");
	while ledger.fold() > 0 {}
	assert_eq!(ledger.entries().len(), LEDGER_IN_MEMORY, "the newest stay, however old they are");
	let folded = ledger.folded();
	assert_eq!((month_of(folded.until).as_str(), folded.whole_from().as_str()), ("2026-06", "2026-07"));
}

#[test]
fn entries_that_do_not_follow_on_what_is_folded_are_not() {
	let mut ledger = long(1);
	let mut later = ledger.entries().split_off(1);
	later.truncate(FOLD_AT_ONCE);
	ledger.tell(Fact::Oldest { entries: later.clone() });
	assert_eq!(ledger.folded().before, 0, "one is missing before them");
	let mut gap = ledger.entries();
	gap.truncate(FOLD_AT_ONCE);
	gap.remove(50);
	ledger.tell(Fact::Oldest { entries: gap });
	assert_eq!(ledger.folded().before, 50, "one is missing among them");
}
