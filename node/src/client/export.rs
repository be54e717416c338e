//! The ledger in the forms that other programs read: CSV, JSON, and the journal of hledger, which ledger reads as well.

use crate::control::{LedgerEntry, LedgerFolded, LedgerPosting};
use std::fmt::Write as _;

const BROUGHT_FORWARD: &str = "brought forward";
/// First line of the CSV.
pub(super) const CSV_HEADER: &str = "seq,at,kind,client,reference,account,amount_msat";

/// One line for each posting; an entry without postings has one with no account.
pub(super) fn csv(entry: &LedgerEntry) -> String {
	let mut text = String::new();
	let client = entry.client.as_deref().unwrap_or_default();
	let mut line = |account: &str, msat: i64| {
		let fields = [&entry.seq.to_string(), &entry.at.to_string(), &kind(entry), client, &entry.reference, account];
		let _ = writeln!(text, "{},{msat}", fields.map(quoted).join(","));
	};
	if entry.postings.is_empty() {
		line("", entry.amount_msat);
	}
	for posting in &entry.postings {
		line(&posting.account, posting.amount_msat);
	}
	text
}

/// What the accounts had when the entries begin that are left, as lines of kind `folded` under the last number that is gone.
pub(super) fn csv_folded(folded: &LedgerFolded) -> String {
	let (seq, at) = (folded.before_seq.saturating_sub(1).to_string(), folded.until.to_string());
	let line = |posting: &LedgerPosting| {
		let fields = [&seq, &at, "folded", "", BROUGHT_FORWARD, &posting.account].map(quoted);
		format!("{},{}\n", fields.join(","), posting.amount_msat)
	};
	folded.brought_forward.iter().map(line).collect()
}

/// The same as the journal's first transaction.
pub(super) fn hledger_folded(folded: &LedgerFolded, note: &str) -> String {
	let at = folded.until.to_string();
	let (day, time) = at.split_once('T').unwrap_or((&at, ""));
	let mut text = format!("; {note}\n");
	if folded.brought_forward.is_empty() {
		return text;
	}
	let number = folded.before_seq.saturating_sub(1);
	let _ = writeln!(text, "{day} * ({number}) folded | {BROUGHT_FORWARD}  ; time: {time}");
	for posting in &folded.brought_forward {
		let _ = writeln!(text, "    {}  {} sat", posting.account, decimal(posting.amount_msat));
	}
	text.push('\n');
	text
}

/// RFC 4180.
fn quoted(field: &str) -> String {
	match field.contains(['"', ',', '\n', '\r']) {
		true => format!("\"{}\"", field.replace('"', "\"\"")),
		false => field.to_owned(),
	}
}

/// A transaction of the journal, amounts in satoshis with three decimals. Entries from before the books were opened have one
/// side; they are comments, as the opening balance has what they did.
pub(super) fn hledger(entry: &LedgerEntry) -> String {
	let at = entry.at.to_string();
	let (day, time) = at.split_once('T').unwrap_or((&at, ""));
	let reference = entry.reference.replace([';', '\n', '|'], " ");
	if entry.postings.is_empty() {
		return format!("; {day} ({}) {} {} {}\n", entry.seq, kind(entry), decimal(entry.amount_msat), reference);
	}
	let mut text = format!("{day} * ({}) {} | {reference}  ; time: {time}\n", entry.seq, kind(entry));
	if let Some(client) = &entry.client {
		let _ = writeln!(text, "    ; client: {client}");
	}
	for posting in &entry.postings {
		let _ = writeln!(text, "    {}  {} sat", posting.account, decimal(posting.amount_msat));
	}
	text.push('\n');
	text
}

/// Satoshis with three decimals.
fn decimal(msat: i64) -> String {
	let sign = if msat < 0 { "-" } else { "" };
	format!("{sign}{}.{:03}", msat.unsigned_abs() / 1000, msat.unsigned_abs() % 1000)
}

fn kind(entry: &LedgerEntry) -> String {
	serde_json::to_value(entry.kind).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::control::{LedgerKind, Time};
	use std::collections::BTreeMap;
	use std::time::{Duration, UNIX_EPOCH};

	fn entry(seq: u64, sides: &[(&str, i64)]) -> LedgerEntry {
		LedgerEntry {
			seq,
			at: Time::from(UNIX_EPOCH + Duration::from_secs(1_790_000_000)),
			kind: LedgerKind::RoutingFee,
			amount_msat: sides.first().map_or(7, |side| side.1),
			client: Some("02ab".to_owned()),
			reference: "a,b \"c\"; d".to_owned(),
			postings: sides
				.iter()
				.map(|(account, amount_msat)| LedgerPosting {
					account: (*account).to_owned(),
					amount_msat: *amount_msat,
				})
				.collect(),
		}
	}

	/// Reads a journal as hledger's manual has it: dated transactions, indented postings of an account, two spaces and an
	/// amount; `;` begins a comment.
	fn parse(journal: &str) -> Vec<BTreeMap<String, i64>> {
		let mut found: Vec<BTreeMap<String, i64>> = Vec::new();
		for line in journal.lines().filter(|line| !line.is_empty() && !line.starts_with(';')) {
			let Some(posting) = line.strip_prefix("    ") else {
				let date = line.split(' ').next().unwrap();
				let parts: Vec<u32> = date.split('-').map(|part| part.parse().unwrap()).collect();
				assert!(matches!(parts[..], [2026, 1..=12, 1..=31]), "{line}");
				found.push(BTreeMap::new());
				continue;
			};
			if posting.starts_with(';') {
				continue;
			}
			let (account, amount) = posting.split_once("  ").expect("two spaces end an account's name");
			let (sat, fraction) = amount.strip_suffix(" sat").unwrap().split_once('.').unwrap();
			assert_eq!(fraction.len(), 3);
			let msat = format!("{sat}{fraction}").parse().unwrap();
			found.last_mut().expect("a posting belongs to a transaction").insert(account.to_owned(), msat);
		}
		found
	}

	#[test]
	fn a_journal_is_read_back_and_every_transaction_is_balanced() {
		let sides = [("assets:channels:id:00", -1_001), ("assets:channels:id:01", 1_500), ("income:routing", -499)];
		let journal =
			hledger(&entry(3, &sides)) + &hledger(&entry(4, &[])) + &hledger(&entry(5, &[("a", -7), ("b", 7)]));
		let read = parse(&journal);
		assert_eq!(read.len(), 2, "the one-sided entry is a comment: {journal}");
		assert!(read.iter().all(|transaction| transaction.values().sum::<i64>() == 0), "{journal}");
		assert_eq!(read[0], sides.iter().map(|(account, msat)| ((*account).to_owned(), *msat)).collect());
	}

	#[test]
	fn what_was_folded_is_the_journals_first_transaction() {
		let side = |account: &str, amount_msat| LedgerPosting { account: account.to_owned(), amount_msat };
		let mut folded = LedgerFolded {
			before_seq: 700,
			until: Time::from(UNIX_EPOCH + Duration::from_secs(1_790_000_000)),
			whole_from: "2026-10".to_owned(),
			brought_forward: vec![side("assets:wallet", 1_500), side("equity:opening", -1_500)],
		};
		let journal = hledger_folded(&folded, "gone") + &hledger(&entry(700, &[("a", -7), ("b", 7)]));
		let read = parse(&journal);
		assert_eq!(read.len(), 2, "{journal}");
		assert_eq!(read[0], [("assets:wallet".to_owned(), 1_500), ("equity:opening".to_owned(), -1_500)].into());
		let lines: Vec<String> = csv_folded(&folded).lines().map(str::to_owned).collect();
		assert!(
			lines[0].starts_with("699,2026-09-21T")
				&& lines[0].ends_with(",folded,,brought forward,assets:wallet,1500")
		);
		assert_eq!(lines.len(), 2);
		folded.brought_forward.clear();
		assert_eq!((parse(&hledger_folded(&folded, "gone")).len(), csv_folded(&folded)), (0, String::new()));
	}

	#[test]
	fn a_csv_quotes_what_has_commas() {
		let text = csv(&entry(3, &[("income:routing", -499)]));
		assert!(text.ends_with(",routing_fee,02ab,\"a,b \"\"c\"\"; d\",income:routing,-499\n"), "{text}");
		assert_eq!(CSV_HEADER.split(',').count(), 7);
	}
}
