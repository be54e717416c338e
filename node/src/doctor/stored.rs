//! What is in the store of a node that does not run.

use super::{DAMAGED, Findings};
use crate::run::STORE_FILE;
use inlet_lsp::book::{Account, BooksRow, ChannelSums, EntryKind, Folded, OrderState, SaleState, Write};
use inlet_lsp::money::Msat;
use inlet_lsp::time::Timestamp;
use inlet_storage::{Inspection, OpenError, ReadError};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// Reads all of it. Gives it back if a copy of it is worth a trial.
pub(super) fn look(findings: &mut Findings, dir: &Path) -> Option<Inspection> {
	let store = match Inspection::open(&dir.join(STORE_FILE)) {
		Ok(store) => store,
		Err(e) => {
			let advice = match &e {
				OpenError::InUse { .. } => "stop the process that uses it, and look again",
				OpenError::TooNew { .. } => "install that version or a newer one",
				OpenError::Disk { .. } => "check that the disk is mounted and readable, and whose the file is",
				_ => DAMAGED,
			};
			findings.bad("store", e.to_string(), advice);
			return None;
		}
	};
	let (version, known) = store.version();
	findings.ok("store", format!("{STORE_FILE}, schema {version}"));
	let pages =
		judge(findings, "pages", store.pages().map(|complaints| ("all pages are whole".to_owned(), complaints)));
	if version < known {
		let text = format!("schema {version} is brought up to date ({known}) at the next start, after a copy of it");
		findings.warn("values", text, "start the node, stop it, and look again");
		return None;
	}
	let values = store.values().map(|(count, complaints)| (format!("{count} values are what was written"), complaints));
	let rows = store.rows().map(|(count, complaints)| (format!("{count} rows of book, ledger and wallet"), complaints));
	let channels = store.channels().map(|(monitors, manager, mut complaints)| {
		if monitors > 0 && !manager {
			complaints.insert(0, "there are channels, but no channel manager".to_owned());
		}
		(format!("{monitors} monitors"), complaints)
	});
	let whole =
		[judge(findings, "values", values), judge(findings, "rows", rows), judge(findings, "channels", channels)];
	if whole[1] {
		match store.book() {
			Ok(book) => findings.judge("ledger", well(&book), &books(&book), LEDGER),
			Err(e) => findings.bad("ledger", e.to_string(), DAMAGED),
		}
	}
	(pages && whole == [true; 3]).then_some(store)
}

/// Complaints about the sums at most: the first say enough.
const MAX_COMPLAINTS: usize = 20;
const LEDGER: &str =
	"no money is lost by it, but figures are wrong: keep the data directory and report this, it is a bug";

fn judge(findings: &mut Findings, name: &str, found: Result<(String, Vec<String>), ReadError>) -> bool {
	match found {
		Ok((well, complaints)) => {
			findings.judge(name, well, &complaints, DAMAGED);
			complaints.is_empty()
		}
		Err(e) => {
			findings.bad(name, e.to_string(), DAMAGED);
			false
		}
	}
}

/// What is wrong with the ledger.
pub(crate) fn books(rows: &[Write]) -> Vec<String> {
	[unbooked(rows), unbalanced(rows)].concat()
}

fn well(rows: &[Write]) -> String {
	let text = "the book and the ledger agree".to_owned();
	match folded(rows) {
		Some(folded) => {
			let (before, from) = (folded.before, folded.whole_from());
			format!(
				"{text}; entries before number {before} were folded into monthly totals, all from {from} on are there"
			)
		}
		None => text,
	}
}

fn folded(rows: &[Write]) -> Option<&Folded> {
	rows.iter().find_map(|row| if let Write::Books(BooksRow::Folded(folded)) = row { Some(folded) } else { None })
}

/// Entries that are missing, and accounts that are not what the entries make of them, what was folded included.
pub(super) fn unbalanced(rows: &[Write]) -> Vec<String> {
	let folded = folded(rows);
	let mut sums: BTreeMap<Account, i64> = folded.map(|folded| folded.accounts.clone()).unwrap_or_default();
	let mut next = folded.map_or(0, |folded| folded.before);
	let (mut months, mut channels) = (BTreeMap::<Account, i64>::new(), Vec::new());
	let mut complaints = Vec::new();
	for row in rows {
		match row {
			Write::Ledger(entry) => {
				if entry.seq != next {
					complaints.push(format!("entry {next} of the ledger is not there: {} follows", entry.seq));
				}
				next = entry.seq.saturating_add(1);
				for posting in &entry.postings {
					*sums.entry(posting.account).or_default() += posting.msat;
				}
			}
			Write::Books(BooksRow::Month(month)) => {
				for (account, msat) in &month.accounts {
					*months.entry(*account).or_default() += msat;
				}
			}
			Write::Books(BooksRow::Channel(row)) => channels.extend(row.channel_id().map(|id| (id, row.balance_msat))),
			_ => {}
		}
	}
	for (id, booked) in channels {
		let sum = sums.get(&Account::Channel(id)).copied().unwrap_or(0);
		if sum != booked {
			complaints.push(format!("{} has {booked} msat, its entries make {sum}", Account::Channel(id)));
		}
	}
	let mut collapsed: BTreeMap<Account, i64> = BTreeMap::new();
	for (account, msat) in sums {
		*collapsed.entry(account.collapsed()).or_default() += msat;
	}
	for account in collapsed.keys().chain(months.keys()).collect::<BTreeSet<_>>() {
		let of = |sums: &BTreeMap<Account, i64>| sums.get(account).copied().unwrap_or(0);
		if of(&collapsed) != of(&months) {
			let (sum, booked) = (of(&collapsed), of(&months));
			complaints.push(format!("{account} has {booked} msat by month, its entries make {sum}"));
		}
	}
	complaints.truncate(MAX_COMPLAINTS);
	complaints
}

/// Sales and orders that are over and were paid, of which the ledger does not have the fee. Of what was sold before the
/// entries begin, the sums of its channel tell.
pub(super) fn unbooked(rows: &[Write]) -> Vec<String> {
	let until = folded(rows).map(|folded| folded.until);
	let mut by_sale: HashMap<&str, &ChannelSums> = HashMap::new();
	for row in rows {
		if let Write::Books(BooksRow::Channel(sums)) = row {
			by_sale.extend(sums.sold_as.as_deref().map(|id| (id, sums)));
		}
	}
	// What has no such row either is from before the books were opened: nothing says anything else of it.
	let gone = |kind: EntryKind, id: &str, sold_at: Timestamp, is: Option<i64>| {
		let is_old = until.is_some_and(|until| sold_at <= until);
		is_old
			&& by_sale.get(id).is_none_or(|sums| {
				let booked = sums.kinds.get(&kind);
				booked.is_some() && is.is_none_or(|is| booked == Some(&is))
			})
	};
	let mut booked: HashMap<(EntryKind, &str), i64> = HashMap::new();
	for row in rows {
		if let Write::Ledger(entry) = row {
			*booked.entry((entry.kind, entry.reference.as_str())).or_default() += entry.amount_msat;
		}
	}
	let of = |kind: EntryKind, id: &str| booked.get(&(kind, id)).copied();
	let mut complaints = Vec::new();
	for row in rows {
		match row {
			Write::Sale(sale) if sale.state == SaleState::Done && sale.fee_credited > Msat::ZERO => {
				let fee = of(EntryKind::JitFee, &sale.id);
				let is = i64::try_from(sale.fee_credited.0).unwrap_or(i64::MAX);
				if fee != Some(is) && !(fee.is_none() && gone(EntryKind::JitFee, &sale.id, sale.created_at, Some(is))) {
					complaints
						.push(format!("sale {} earned {}, the ledger says {fee:?} msat", sale.id, sale.fee_credited));
				}
			}
			Write::Order(order)
				if matches!(order.state, OrderState::Completed)
					&& of(EntryKind::OrderFee, &order.id).is_none()
					&& !gone(EntryKind::OrderFee, &order.id, order.created_at, None) =>
			{
				complaints.push(format!("order {} is completed, the ledger does not have its fee", order.id));
			}
			_ => {}
		}
	}
	complaints
}
