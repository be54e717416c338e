//! The node as a whole, and what happens.

use super::table::{Column::*, Table, pairs};
use super::{Style, bytes, duration, ends, feerate, msat_floor, number, percent, plural, yes_no};
use crate::control::{Event, Fees, Info, Page, Status, Stopping, SyncState};

fn network(name: &str) -> &str {
	if name == "bitcoin" { "mainnet" } else { name }
}

pub(in crate::client) fn status(s: &Status, style: &Style) -> String {
	let looked = s.looked_at.map_or("never looked".to_owned(), |at| style.ago(at));
	let synced = match s.synced {
		true => format!("synced {} ({looked})", number(s.block_height.into())),
		false => style.warn(&format!("not synced, {} ({looked})", number(s.block_height.into()))),
	};
	let mut lines = vec![format!(
		"inlet {} · {} · up {} · {synced} · {}",
		s.version,
		network(&s.network),
		duration(s.uptime_secs),
		ends(&s.node_id)
	)];
	let mut line = |name: &str, text: String| lines.push(format!("{name:<12}{text}"));
	line("on-chain", onchain(s));
	line(
		"channels",
		format!(
			"{} ({} online) · inbound {} · outbound {}",
			s.channels.total,
			s.channels.online,
			msat_floor(s.channels.inbound_msat),
			msat_floor(s.channels.outbound_msat)
		),
	);
	let sold = u64::from(s.today.sold_jit) + u64::from(s.today.sold_ordered);
	line(
		"today",
		format!(
			"{sold} sold ({} JIT, {} ordered) · {} · earned {} sat, spent {} on chain",
			s.today.sold_jit,
			s.today.sold_ordered,
			plural(s.today.forwards, "forward"),
			msat_floor(s.today.earned_msat),
			number(s.today.spent_sat)
		),
	);
	let oldest = s.clients.oldest_wait_secs.map(|secs| format!(" (oldest {})", duration(secs))).unwrap_or_default();
	let waiting = match s.clients.waiting {
		0 => String::new(),
		n => format!(" · {n} asleep with payments waiting{oldest}"),
	};
	line("clients", format!("{} ({} connected){waiting}", s.clients.total, s.clients.connected));
	let free = s.disk.free_bytes.map(|free| format!(" · {} free", bytes(free))).unwrap_or_default();
	line(
		"disk",
		format!(
			"{} written today, about {} of a {} card's life a year{free}",
			bytes(s.disk.today_bytes),
			percent(s.disk.wear_ppm_a_year),
			bytes(s.disk.card_bytes)
		),
	);
	if s.attention.is_empty() {
		lines.push("all well".to_owned());
	}
	for (at, attention) in s.attention.iter().enumerate() {
		let name = if at == 0 { "attention" } else { "" };
		lines.push(format!("{name:<12}{} ({})", style.warn(&attention.text), attention.command));
	}
	lines.join("\n")
}

fn onchain(s: &Status) -> String {
	let o = &s.onchain;
	let enough = if o.reserve_ok { "ok" } else { "too little" };
	let reserved = format!(
		"{} reserved for {} ({}, {enough})",
		number(o.anchor_reserve_sat),
		plural(o.anchor_channels.into(), "anchor channel"),
		plural(o.utxos.into(), "UTXO")
	);
	format!(
		"{} sat free · {reserved} · {} in {}",
		number(o.free_sat),
		number(o.in_sales_sat),
		plural(o.open_sales.into(), "sale")
	)
}

pub(in crate::client) fn info(i: &Info, style: &Style) -> String {
	pairs([
		("version", Some(i.version.clone())),
		("network", Some(network(&i.network).to_owned())),
		("node id", Some(i.node_id.clone())),
		("alias", Some(format!("{} ({})", i.alias, i.color))),
		("listening", (!i.listening.is_empty()).then(|| i.listening.join(", "))),
		("announced", (!i.announced.is_empty()).then(|| i.announced.join(", "))),
		("block", Some(format!("{} {}", number(i.block_height.into()), i.block_hash))),
		("synced", Some(yes_no(i.synced).to_owned())),
		("peers", Some(i.peers.to_string())),
		("channels", Some(i.channels.to_string())),
		("selling", Some(if i.selling.is_empty() { "nothing".to_owned() } else { i.selling.join(", ") })),
		("gossip", Some(i.gossip.clone())),
		("data in", Some(i.data_dir.clone())),
		("started", Some(style.full(i.started_at))),
	])
}

pub(in crate::client) fn sync(s: &SyncState, style: &Style) -> String {
	let looked = |at| format!("{} ({})", style.full(at), style.ago(at));
	pairs([
		("chain", Some(format!("{} {}", s.backend, s.source))),
		("synced", Some(yes_no(s.synced).to_owned())),
		("block", Some(format!("{} {}", number(s.block_height.into()), s.block_hash))),
		("looked", Some(s.looked_at.map_or("never".to_owned(), looked))),
		("last error", s.last_error.clone()),
	])
}

pub(in crate::client) fn fees(f: &Fees, style: &Style) -> String {
	let mut table = Table::new([("FOR", Left), ("SAT/VB", Right)]);
	for estimate in &f.estimates {
		table.row([estimate.target.replace('_', " "), feerate(estimate.sat_per_kw)]);
	}
	let age = match (f.age_secs, f.fresh) {
		(None, _) => style.warn("never fetched: nothing is sold"),
		(Some(age), true) => format!("fetched {} ago", duration(age)),
		(Some(age), false) => style.warn(&format!("fetched {} ago, too old to sell by (inlet sync)", duration(age))),
	};
	table.page(None, "no estimates") + "\n" + &age
}

pub(in crate::client) fn stopping(_: &Stopping, _: &Style) -> String {
	"stopping".to_owned()
}

pub(in crate::client) fn events(page: &Page<Event>, style: &Style) -> String {
	let mut lines: Vec<String> = page.items.iter().rev().map(|e| event(e, style)).collect();
	if let Some(next) = &page.next {
		lines.insert(0, format!("there are older ones: add --cursor {next}"));
	}
	if lines.is_empty() { "nothing happened yet".to_owned() } else { lines.join("\n") }
}

pub(in crate::client) fn event(event: &Event, style: &Style) -> String {
	let subject = event.subject.as_deref().map(|id| super::prefix(id) + "  ").unwrap_or_default();
	let kind = event.kind.as_str().replace('_', " ");
	format!("{}  {kind:<17}  {subject}{}", style.clock(event.time), event.text)
}
