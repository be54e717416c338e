//! What is in the store of a node that does not run.

use super::{DAMAGED, Findings};
use crate::run::STORE_FILE;
use inlet_lsp::book::{EntryKind, OrderState, SaleState, Write};
use inlet_lsp::money::Msat;
use inlet_storage::{Inspection, OpenError, ReadError};
use std::collections::HashMap;
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
			Ok(book) => findings.judge("ledger", "the book and the ledger agree".to_owned(), &unbooked(&book), LEDGER),
			Err(e) => findings.bad("ledger", e.to_string(), DAMAGED),
		}
	}
	(pages && whole == [true; 3]).then_some(store)
}

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

/// Sales and orders that are over and were paid, of which the ledger does not have the fee.
pub(super) fn unbooked(rows: &[Write]) -> Vec<String> {
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
				if fee.is_none_or(|fee| fee.cast_unsigned() != sale.fee_credited.0) {
					complaints
						.push(format!("sale {} earned {}, the ledger says {fee:?} msat", sale.id, sale.fee_credited));
				}
			}
			Write::Order(order)
				if matches!(order.state, OrderState::Completed) && of(EntryKind::OrderFee, &order.id).is_none() =>
			{
				complaints.push(format!("order {} is completed, the ledger does not have its fee", order.id));
			}
			_ => {}
		}
	}
	complaints
}
