//! What is sold.

use super::table::{Column::*, Table, cut, pairs};
use super::{Style, WIDTH, ends, feerate, msat, number, plural, prefix, signed_msat, word};
use crate::control::{
	Capital, HistoryLine, Ledger, LedgerCheck, LedgerFolded, LedgerReport, Order, OrderDetail, Page, Quote, QuoteKind,
	ReclaimPlan, Reclaimed, Sale, SaleDetail, SaleStatus, SoldChannel,
};

pub(in crate::client) fn sales(page: &Page<Sale>, style: &Style) -> String {
	let mut table = Table::new([
		("ID", Left),
		("CLIENT", Left),
		("STATUS", Left),
		("PAYMENT", Right),
		("FEE", Right),
		("COST", Right),
		("BOUGHT", Left),
		("", Left),
	]);
	for sale in &page.items {
		table.row([
			sale.id.clone(),
			prefix(&sale.client),
			word(sale.status),
			sale.payment_msat.map(msat).unwrap_or_default(),
			sale.fee_msat.map(msat).unwrap_or_default(),
			sale.cost_sat.map(number).unwrap_or_default(),
			style.short(sale.created_at),
			sale.reason.clone().unwrap_or_default(),
		]);
	}
	table.page(page.next.as_ref(), "nothing sold just in time yet")
}

pub(in crate::client) fn sale(detail: &SaleDetail, style: &Style) -> String {
	let sale = &detail.sale;
	let earned = match (sale.status, sale.fee_msat, sale.cost_sat) {
		(SaleStatus::Done, Some(fee), cost) => {
			let cost = cost.and_then(|cost| i64::try_from(cost).ok()).and_then(|cost| cost.checked_mul(1000));
			let net = i64::try_from(fee).unwrap_or(i64::MAX).saturating_sub(cost.unwrap_or(0));
			format!(", {} sat", signed_msat(net))
		}
		_ => String::new(),
	};
	let left = format!("{}  JIT (LSPS2) to {}", sale.id, ends(&sale.client));
	let mut lines = vec![spread(&left, &format!("{}{earned}", word(sale.status)))];
	let terms = &detail.terms;
	let promise = format!(
		"min {} sat or {} ppm, until {}",
		msat(terms.min_fee_msat),
		number(terms.proportional_ppm.into()),
		style.full(terms.valid_until)
	);
	let facts = pairs([
		("failed", sale.reason.clone()),
		("promised", Some(promise)),
		("payment", sale.payment_msat.map(|n| format!("{} sat", msat(n)))),
		("fee", sale.fee_msat.map(|n| format!("{} sat", msat(n)))),
		("cost", sale.cost_sat.map(|n| format!("{} sat", number(n)))),
		("reserved", (sale.reserved_sat > 0).then(|| format!("{} sat", number(sale.reserved_sat)))),
		("scid", Some(detail.scid.clone())),
		("channel", sale.channel.as_ref().map(sold)),
	]);
	lines.push(facts);
	for part in &detail.parts {
		let since = style.clock(part.arrived_at);
		lines.push(format!(
			"{:<12}{} sat of {}, since {since}",
			"held",
			msat(part.amount_msat),
			ends(&part.payment_hash)
		));
	}
	lines.extend(history(&detail.history, style));
	lines.join("\n")
}

fn sold(channel: &SoldChannel) -> String {
	let id = channel.id.as_deref().map(|id| format!(" {}", prefix(id))).unwrap_or_default();
	let state = match (channel.closed_at, channel.ready_at) {
		(Some(_), _) => "closed",
		(None, Some(_)) => "ready",
		(None, None) => "being opened",
	};
	let kept = number(channel.keep_until_height.into());
	format!("{} sat{id}, {state}, to be kept until block {kept}", number(channel.capacity_sat))
}

/// What happened; a line with the day where a new one begins.
pub(super) fn history(lines: &[HistoryLine], style: &Style) -> Vec<String> {
	let mut day = String::new();
	let mut shown = Vec::new();
	for line in lines {
		if style.day(line.at) != day {
			day = style.day(line.at);
			shown.push(day.clone());
		}
		shown.push(cut(&format!("{}  {:<8} {}", style.clock(line.at), line.step, line.text)));
	}
	shown
}

/// Two texts at the two ends of a line.
fn spread(left: &str, right: &str) -> String {
	let room = WIDTH.saturating_sub(left.chars().count() + right.chars().count());
	format!("{left}{}{right}", " ".repeat(room.max(2)))
}

pub(in crate::client) fn orders(page: &Page<Order>, style: &Style) -> String {
	let mut table = Table::new([
		("ID", Left),
		("CLIENT", Left),
		("STATUS", Left),
		("OURS", Right),
		("THEIRS", Right),
		("FEE", Right),
		("ORDERED", Left),
		("", Left),
	]);
	for order in &page.items {
		table.row([
			prefix(&order.id),
			prefix(&order.client),
			word(order.status),
			number(order.lsp_balance_sat),
			number(order.client_balance_sat),
			number(order.fee_sat),
			style.short(order.created_at),
			order.reason.clone().unwrap_or_default(),
		]);
	}
	table.page(page.next.as_ref(), "nothing ordered yet")
}

pub(in crate::client) fn order(detail: &OrderDetail, style: &Style) -> String {
	let o = &detail.order;
	let paid_by = o.paid_by.as_deref().map(|by| format!(", paid by {by}")).unwrap_or_default();
	let left = format!("{}  LSPS1 from {}", o.id, ends(&o.client));
	let mut lines = vec![spread(&left, &format!("{}{paid_by}", word(o.status)))];
	let state = |what: &Option<String>, state: &Option<String>| {
		what.as_ref()
			.map(|what| format!("{what} ({})", state.as_deref().unwrap_or("?").to_lowercase().replace('_', " ")))
	};
	let refund = detail.refund_sat.map(|sat| {
		let to = detail.refund_address.as_deref().unwrap_or("?");
		format!("{} sat, less the miner's fee, to {to}", number(sat))
	});
	let kind = if detail.announce_channel { "public" } else { "private" };
	lines.push(pairs([
		("because", o.reason.clone()),
		(
			"channel",
			Some(format!(
				"{} sat ours + {} theirs · {kind} · {} blocks",
				number(o.lsp_balance_sat),
				number(o.client_balance_sat),
				number(detail.channel_expiry_blocks.into())
			)),
		),
		("to pay", Some(format!("{} sat, {} of it our fee", number(o.total_sat), number(o.fee_sat)))),
		("until", Some(style.full(o.expires_at))),
		("token", detail.token.clone()),
		("reserved", (o.reserved_sat > 0).then(|| format!("{} sat", number(o.reserved_sat)))),
		("invoice", state(&detail.invoice, &detail.invoice_state)),
		("address", state(&detail.address, &detail.address_state)),
		("refund", refund),
		("refunded in", detail.refund_txid.clone()),
		("opened", o.channel.as_ref().map(sold)),
	]));
	for received in &detail.received {
		let (sat, conf) = (number(received.amount_sat), number(received.confirmations.into()));
		lines.push(format!("{:<12}{sat} sat in {} ({conf} conf)", "received", received.outpoint));
	}
	lines.extend(history(&detail.history, style));
	lines.join("\n")
}

fn quote_lines(q: &Quote, style: &Style) -> Vec<String> {
	let kind = match q.kind {
		QuoteKind::Jit => "just in time, for a payment of",
		QuoteKind::Order => "on order, with our side at",
	};
	let (fee, size, capacity) = (msat(q.fee_msat), number(q.size_sat), number(q.capacity_sat));
	let (rate, until) = (feerate(q.feerate_sat_per_kw), style.full(q.valid_until));
	let mut lines = vec![
		format!("{fee} sat for a channel {kind} {size} sat"),
		format!("capacity {capacity} sat, tier {}, priced at {rate} sat/vB, holds until {until}", q.tier),
	];
	if let Some(because) = &q.not_sold_because {
		lines.push(style.warn(&format!("not sold now: {because}")));
	}
	lines
}

pub(in crate::client) fn quote(q: &Quote, style: &Style) -> String {
	quote_lines(q, style).join("\n")
}

pub(in crate::client) fn quote_explained(q: &Quote, style: &Style) -> String {
	let mut table = Table::new([("TERM", Left), ("SAT", Right), ("HOW", Left)]);
	for term in &q.terms {
		table.row([term.name.clone(), msat(term.amount_msat), term.how.clone()]);
	}
	let least = "the four above: never sold below it".to_owned();
	table.row(["cost".to_owned(), msat(q.cost_sat.saturating_mul(1000)), least]);
	table.row(["fee".to_owned(), msat(q.fee_msat), q.rule.clone()]);
	format!("{}\n{}", quote_lines(q, style).join("\n"), table.text())
}

pub(in crate::client) fn ledger(l: &Ledger, style: &Style) -> String {
	let mut table = Table::new([
		("NO", Right),
		("WHEN", Left),
		("FOR", Left),
		("SAT", Right),
		("CLIENT", Left),
		("REFERENCE", Left),
	]);
	for entry in &l.entries {
		table.row([
			entry.seq.to_string(),
			style.short(entry.at),
			word(entry.kind),
			signed_msat(entry.amount_msat),
			entry.client.as_deref().map(prefix).unwrap_or_default(),
			entry.reference.clone(),
		]);
	}
	let mut totals = Table::new([("TOTAL", Left), ("ENTRIES", Right), ("SAT", Right)]);
	for total in l.totals.iter().filter(|total| total.kind.is_profit()) {
		totals.row([word(total.kind), number(total.entries), signed_msat(total.amount_msat)]);
	}
	totals.row(["net".to_owned(), String::new(), signed_msat(l.net_msat)]);
	let begins = l.folded.as_ref().filter(|_| l.next.is_none()).map(|folded| format!("\n{}", folded_note(folded)));
	let page = table.page(l.next.as_ref(), "nothing earned or spent yet");
	format!("{page}{}\n\n{}", begins.unwrap_or_default(), totals.text())
}

/// Where the entries begin.
pub(in crate::client) fn folded_note(folded: &LedgerFolded) -> String {
	let until = folded.until.to_string();
	format!(
		"entries before number {} (until {}) were folded into monthly totals; all from {} on are there",
		folded.before_seq,
		until.split('T').next().unwrap_or_default(),
		folded.whole_from
	)
}

pub(in crate::client) fn ledger_check(c: &LedgerCheck, style: &Style) -> String {
	let mut table = Table::new([("", Left), ("BOOKED", Right), ("ACTUAL", Right), ("DIFFERENCE", Right)]);
	for one in [&c.wallet, &c.channels].into_iter().chain(&c.differing) {
		let difference = one.booked_msat.saturating_sub(one.actual_msat);
		table.row([
			one.what.clone(),
			signed_msat(one.booked_msat),
			signed_msat(one.actual_msat),
			signed_msat(difference),
		]);
	}
	let verdict = match (c.balanced, c.agreed_at) {
		(true, _) => format!("balanced: {} entries", c.entries),
		(false, Some(at)) => {
			format!("NOT balanced; entries before {} agreed with what was there ({})", c.agreed_before, style.short(at))
		}
		(false, None) => "NOT balanced; the books never agreed".to_owned(),
	};
	let mut accounts = Table::new([("ACCOUNT", Left), ("SAT", Right)]);
	for posting in &c.accounts {
		accounts.row([posting.account.clone(), signed_msat(posting.amount_msat)]);
	}
	let closing = format!("closing channels, by the books: {} sat", signed_msat(c.closing_msat));
	let flight = format!("HTLCs on their way: {}", c.htlcs_in_flight);
	format!("{}\n{verdict}\n{closing}\n{flight}\n\n{}", table.text(), accounts.text())
}

pub(in crate::client) fn ledger_report(r: &LedgerReport, _: &Style) -> String {
	let mut table = Table::new([
		("", Left),
		("CHANNELS", Right),
		("EARNED", Right),
		("COST", Right),
		("PROFIT", Right),
		("QUOTED", Right),
		("EXPECTED COST", Right),
		("SAT-DAYS", Right),
		("A YEAR", Right),
	]);
	for line in &r.lines {
		table.row([
			line.name.chars().take(16).collect(),
			number(line.channels),
			signed_msat(line.earned_msat),
			signed_msat(line.cost_msat),
			signed_msat(line.profit_msat),
			msat(line.quoted_msat),
			msat(line.expected_cost_msat),
			line.sat_days.map(number).unwrap_or_default(),
			line.yearly_ppm
				.map_or("-".to_owned(), |ppm| format!("{}.{} %", ppm / 10_000, ppm.unsigned_abs() / 1_000 % 10)),
		]);
	}
	let cut = if r.cut { "\nthe oldest channels are left out" } else { "" };
	format!("{}{cut}", table.text())
}

pub(in crate::client) fn capital(c: &Capital, _: &Style) -> String {
	let mut table = Table::new([("", Left), ("SAT", Right)]);
	for (name, sat) in [
		("confirmed coins", c.confirmed_sat),
		("  kept for anchors", c.anchors_sat),
		("  promised", c.reserved_sat),
		("  free", c.free_sat),
		("unconfirmed coins", c.unconfirmed_sat),
		("in channels", c.locked_sat),
		("  of that at risk", c.at_risk_sat),
		("  of that offline", c.offline_sat),
		("  of that idle", c.idle_sat),
	] {
		table.row([name.to_owned(), number(sat)]);
	}
	let mut sellable = Table::new([("CHANNELS OF", Right), ("CAN BE SOLD NOW", Right)]);
	for one in &c.sellable {
		sellable.row([number(one.size_sat), number(one.count)]);
	}
	let coming = if c.coins_coming > 0 { format!(", {} coming", c.coins_coming) } else { String::new() };
	let coins = format!(
		"{}, coins for {}\nreserve coins: {} there{coming}, {} wanted, {} missing; next: {}",
		plural(c.channels, "channel"),
		c.channels_carried,
		c.coins_there,
		c.coins_wanted,
		c.coins_missing,
		c.coins_next
	);
	let mut limits = Table::new([("LIMIT", Left), ("TAKEN", Right), ("OF", Right)]);
	for one in &c.limits {
		limits.row([one.key.clone(), number(one.taken), number(one.most)]);
	}
	let advice: String = c.advice.iter().map(|line| format!("\n→ {line}")).collect();
	format!("{}\n{coins}\n\n{}\n{}{advice}", table.text(), sellable.text(), limits.text())
}

pub(in crate::client) fn reclaim_question(plan: &ReclaimPlan, style: &Style) -> String {
	let count = |verdict: &str| plan.channels.iter().filter(|line| line.verdict == verdict).count() as u64;
	let (tell, close) = (plural(count("tell"), "client"), plural(count("close"), "channel"));
	format!("{}\nTell {tell}, and close {close} for good?", reclaim_plan(plan, style))
}

pub(in crate::client) fn reclaimed(done: &Reclaimed, _: &Style) -> String {
	let lines =
		|what: &str, ids: &[String]| -> String { ids.iter().map(|id| format!("{what} {}\n", prefix(id))).collect() };
	let (told, closing) = (lines("told the client of", &done.told), lines("closing", &done.closing));
	format!("{told}{closing}{}", lines("could not be closed now, try again later:", &done.failed))
}

pub(in crate::client) fn reclaim_plan(plan: &ReclaimPlan, style: &Style) -> String {
	let mut table = Table::new([
		("CHANNEL", Left),
		("OURS", Right),
		("CLIENT'S", Right),
		("COST/YEAR", Right),
		("USED", Left),
		("", Left),
	]);
	for line in &plan.channels {
		table.row([
			prefix(&line.id),
			number(line.local_sat),
			number(line.remote_sat),
			number(line.costs_sat_per_year),
			line.used_at.map(|at| style.short(at)).unwrap_or_default(),
			format!("{}: {}", line.verdict, line.because),
		]);
	}
	let brings = number(plan.brings_sat);
	let when = match plan.reclaims_by_itself {
		true => "it happens by itself (capital.reclaim)",
		false => "it happens when you say so: inlet capital reclaim",
	};
	format!("{}\nclosing what says close would bring home {brings} sat less fees; {when}", table.text())
}
