//! The ledger, for the operator.

use super::Operator;
use crate::control::*;
use crate::driver::now;
use crate::hands::books::Comparison;
use inlet_lsp::book::{self, Books, BooksRow, ChannelSums, Folded, MonthSums, month_of};
use inlet_lsp::time::{DAY_MS, Timestamp};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often a check looks again while it waits.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What came in less time than this says nothing of a year, in days: most of it is an opening fee.
const MIN_DAYS_FOR_A_YEAR: u64 = 7;
/// Channels that are settled and a report looks at, the newest.
const MAX_REPORTED: usize = 20_000;

impl Operator {
	pub(super) async fn ledger_page(&self, list: &ListRequest) -> Result<Ledger, Refusal> {
		let before = match &list.cursor {
			Some(cursor) => Some(cursor.parse::<u64>().map_err(|_| {
				Refusal::invalid(
					"bad_cursor",
					format!("{cursor} is not a cursor of the ledger"),
					"take `next` of the page before",
				)
			})?),
			None => None,
		};
		let folded = self.driver.read(|book| book.books().folded().cloned());
		is_there(before, folded.as_ref())?;
		let limit = list.limit.clamp(1, MAX_LIMIT);
		// One more, to know whether a page follows.
		let mut rows = self.store.ledger(before, limit + 1).await.map_err(unreadable)?;
		let more = rows.len() > limit;
		rows.truncate(limit);
		let totals = self.store.ledger_totals().await.map_err(unreadable)?;
		let net = totals.iter().filter(|total| total.kind.is_profit()).map(|total| total.amount_msat).sum();
		let totals = totals.into_iter().map(|t| LedgerTotal {
			kind: t.kind.into(),
			entries: t.entries,
			amount_msat: t.amount_msat,
		});
		Ok(Ledger {
			net_msat: net,
			next: more.then(|| rows.last().map(|row| row.seq.to_string())).flatten(),
			folded: folded.map(|folded| folded_view(folded, !more)),
			totals: totals.collect(),
			entries: rows.into_iter().map(entry_view).collect(),
		})
	}

	/// Compares, again and again until it agrees or `wait_secs` are over.
	pub(super) async fn check_ledger(&self, request: LedgerCheckRequest) -> Result<LedgerCheck, Refusal> {
		let until = Instant::now() + Duration::from_secs(request.wait_secs.min(MAX_CHECK_WAIT_SECS));
		loop {
			let (compared, accounts) = self.driver.read(|book| (self.hands.compare(book), book.books().balances()));
			if compared.agrees() || Instant::now() >= until {
				let posting = |(account, amount_msat): (book::Account, i64)| LedgerPosting {
					account: account.to_string(),
					amount_msat,
				};
				return Ok(check_view(compared, accounts.into_iter().map(posting).collect()));
			}
			tokio::time::sleep(LOOK_AGAIN).await;
		}
	}

	pub(super) async fn report_ledger(&self, request: LedgerReportRequest) -> Result<LedgerReport, Refusal> {
		if request.by == ReportBy::Month {
			let at = now();
			let lines = self
				.driver
				.read(|book| book.books().months().rev().map(|month| month_line(book.books(), month, at)).collect());
			return Ok(LedgerReport { lines, cut: false });
		}
		let (all, cut) = self.channel_sums().await?;
		let mut lines: BTreeMap<String, (LedgerReportLine, u64)> = BTreeMap::new();
		for sums in &all {
			let name = match request.by {
				ReportBy::Channel => sums.channel_id().map(|_| sums.key.trim_start_matches("channel:").to_owned()),
				ReportBy::Tier => Some(sums.tier.clone().unwrap_or_else(|| "none".to_owned())),
				_ => sums.client.map(|client| client.to_string()),
			};
			let Some(name) = name else { continue };
			add(lines.entry(name.clone()).or_insert_with(|| (empty(name), 0)), sums, now());
		}
		let mut lines: Vec<LedgerReportLine> = lines.into_values().map(|(line, days)| finish(line, days)).collect();
		lines.sort_by_key(|line| std::cmp::Reverse(line.profit_msat));
		Ok(LedgerReport { lines, cut })
	}

	/// The sums of all channels, settled ones included; true if there are more.
	pub(super) async fn channel_sums(&self) -> Result<(Vec<ChannelSums>, bool), Refusal> {
		let mut all: Vec<ChannelSums> = self.driver.read(|book| book.books().channels().cloned().collect());
		let (mut before, mut looked): (Option<String>, usize) = (None, 0);
		loop {
			let page = self.store.books_page(before.as_deref(), inlet_storage::MAX_PAGE).await.map_err(unreadable)?;
			let Some(last) = page.last() else { return Ok((all, false)) };
			before = Some(last.key());
			looked += page.len();
			let settled = page.into_iter().filter_map(|row| match row {
				BooksRow::Channel(sums) => sums.settled_at.is_some().then_some(sums),
				_ => None,
			});
			all.extend(settled);
			if looked >= MAX_REPORTED {
				return Ok((all, true));
			}
		}
	}
}

fn unreadable(e: inlet_storage::ReadError) -> Refusal {
	Refusal::internal(e.to_string())
}

/// Is there anything before this cursor, or was it folded?
fn is_there(before: Option<u64>, folded: Option<&Folded>) -> Result<(), Refusal> {
	let (Some(before), Some(folded)) = (before, folded) else { return Ok(()) };
	if before > folded.before {
		return Ok(());
	}
	Err(Refusal::new(
		410,
		"folded",
		format!(
			"entries before number {} (the last of {}) were folded into monthly totals, so there is none before number {before}",
			folded.before,
			month_of(folded.until)
		),
		"begin without a cursor; inlet ledger report --by month has what they added up to",
	))
}

fn folded_view(folded: Folded, is_last: bool) -> LedgerFolded {
	let posting = |(account, amount_msat): (&book::Account, &i64)| LedgerPosting {
		account: account.to_string(),
		amount_msat: *amount_msat,
	};
	LedgerFolded {
		before_seq: folded.before,
		until: folded.until.into(),
		whole_from: folded.whole_from(),
		brought_forward: folded.accounts.iter().filter(|_| is_last).map(posting).collect(),
	}
}

fn entry_view(row: book::Entry) -> LedgerEntry {
	let posting =
		|posting: &book::Posting| LedgerPosting { account: posting.account.to_string(), amount_msat: posting.msat };
	LedgerEntry {
		seq: row.seq,
		at: row.at.into(),
		kind: row.kind.into(),
		amount_msat: row.amount_msat,
		client: row.client.map(|client| client.to_string()),
		postings: row.postings.iter().map(posting).collect(),
		reference: row.reference,
	}
}

fn check_view(compared: Comparison, accounts: Vec<LedgerPosting>) -> LedgerCheck {
	let opinion = |what: &str, (booked_msat, actual_msat): (i64, i64)| LedgerComparison {
		what: what.to_owned(),
		booked_msat,
		actual_msat,
	};
	let differing = compared.differing.iter().map(|(what, booked, there)| opinion(what, (*booked, *there)));
	LedgerCheck {
		balanced: compared.agrees(),
		entries: compared.entries,
		sum_msat: compared.sum_msat,
		wallet: opinion("wallet", compared.wallet),
		channels: opinion("channels", compared.channels),
		differing: differing.collect(),
		closing_msat: compared.closing_msat,
		htlcs_in_flight: u64::try_from(compared.in_flight).unwrap_or(u64::MAX),
		agreed_before: compared.agreed.0,
		agreed_at: (compared.agreed.1 > 0).then(|| Timestamp(compared.agreed.1).into()),
		accounts,
	}
}

fn empty(name: String) -> LedgerReportLine {
	LedgerReportLine {
		name,
		channels: 0,
		earned_msat: 0,
		cost_msat: 0,
		profit_msat: 0,
		quoted_msat: 0,
		expected_cost_msat: 0,
		sat_days: Some(0),
		yearly_ppm: None,
	}
}

/// Adds a channel to a line, beside which the days are kept for which its oldest channel was there.
fn add((line, days): &mut (LedgerReportLine, u64), sums: &ChannelSums, now: Timestamp) {
	let until = sums.closed_at.unwrap_or(now);
	*days = (*days).max(until.0.saturating_sub(sums.opened_at.0) / DAY_MS);
	line.channels += u64::from(sums.channel_id().is_some());
	line.cost_msat = line.cost_msat.saturating_add(sums.cost_msat());
	line.profit_msat = line.profit_msat.saturating_add(sums.profit_msat());
	line.quoted_msat = line.quoted_msat.saturating_add(sums.quoted.map_or(0, |quoted| quoted.0));
	line.expected_cost_msat = line.expected_cost_msat.saturating_add(sums.expected.map_or(0, |expected| expected.0));
	line.sat_days = line.sat_days.map(|days| days.saturating_add(sums.sat_days(now)));
}

fn finish(mut line: LedgerReportLine, days_seen: u64) -> LedgerReportLine {
	line.earned_msat = line.profit_msat.saturating_add(line.cost_msat);
	let capital = line.sat_days.filter(|days| *days > 0 && days_seen >= MIN_DAYS_FOR_A_YEAR);
	line.yearly_ppm = capital.map(|days| {
		let ppm = i128::from(line.profit_msat) * 365 * 1_000_000 / (i128::from(days) * 1_000);
		i64::try_from(ppm).unwrap_or(if ppm < 0 { i64::MIN } else { i64::MAX })
	});
	line
}

fn month_line(books: &Books, month: &MonthSums, now: Timestamp) -> LedgerReportLine {
	let sum = |which: fn(book::EntryKind) -> bool| -> i64 {
		month.kinds.iter().filter(|(kind, _)| which(**kind)).map(|(_, msat)| *msat).sum()
	};
	let (profit_msat, cost_msat) = (sum(book::EntryKind::is_profit), -sum(book::EntryKind::is_cost));
	let days = Timestamp::parse(&format!("{}-01T00:00:00.000Z", month.month)).map_or(0, |at| books.days_seen(at, now));
	let sat_days = Some(books.month_sat_days(&month.month, now));
	finish(LedgerReportLine { profit_msat, cost_msat, sat_days, ..empty(month.month.clone()) }, days)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_cursor_into_what_was_folded_is_told_so() {
		let until = Timestamp::parse("2026-02-27T23:00:00.000Z").unwrap();
		let folded = Folded {
			before: 700,
			until,
			accounts: [(book::Account::Wallet, 7), (book::Account::Opening, -7)].into(),
			..Folded::default()
		};
		assert!(is_there(Some(700), None).is_ok() && is_there(None, Some(&folded)).is_ok());
		assert!(is_there(Some(701), Some(&folded)).is_ok(), "number 700 is there");
		let refused = is_there(Some(700), Some(&folded)).unwrap_err();
		assert_eq!((refused.status, &*refused.code), (410, "folded"));
		assert!(refused.detail.contains("before number 700 (the last of 2026-02)"), "{}", refused.detail);
		let view = folded_view(folded.clone(), true);
		assert_eq!((view.whole_from.as_str(), view.brought_forward.len()), ("2026-03", 2));
		assert_eq!(folded_view(folded, false).brought_forward, []);
	}

	#[test]
	fn what_came_in_less_than_a_week_says_nothing_of_a_year() {
		let line = || LedgerReportLine { profit_msat: 1_840_000, sat_days: Some(9_300_000), ..empty("client".into()) };
		assert_eq!(finish(line(), 6).yearly_ppm, None);
		assert_eq!(finish(line(), 7).yearly_ppm, Some(72_215));
		assert_eq!(finish(LedgerReportLine { sat_days: Some(0), ..line() }, 30).yearly_ppm, None, "no capital");
	}
}
