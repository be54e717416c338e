//! Clients and tokens.

use super::lsp::history;
use super::table::{Column::*, Table, pairs};
use super::{Style, duration, number, prefix, word, yes_no};
use crate::control::{Client, ClientDetail, ClientHolds, IssuedToken, Page, Token, TokenDetail};

pub(in crate::client) fn clients(page: &Page<Client>, style: &Style) -> String {
	let mut table = Table::new([
		("NODE ID", Left),
		("HERE", Left),
		("TIER", Left),
		("SCORE", Right),
		("CHAN", Right),
		("CAPACITY", Right),
		("JIT", Right),
		("ORDERS", Right),
		("OPEN", Right),
		("OFFENCES", Right),
		("SINCE", Left),
	]);
	for client in &page.items {
		let tier = client.listed.map_or_else(|| client.tier.clone(), word);
		table.row([
			prefix(&client.node_id),
			yes_no(client.connected).to_owned(),
			tier,
			client.score.to_string(),
			client.channels.to_string(),
			number(client.capacity_sat),
			client.sales_done.to_string(),
			client.orders_done.to_string(),
			client.unfinished.to_string(),
			client.offences.to_string(),
			style.short(client.first_seen),
		]);
	}
	table.page(page.next.as_ref(), "no clients yet")
}

/// For how long a client holds what is forwarded to it: half of it no longer than this, the longest, and what it holds now.
fn holds(holds: &ClientHolds) -> String {
	let secs = |millis: Option<u64>| millis.map(|millis| duration(millis.div_ceil(1000)));
	let ended = secs(holds.forwarded.p50_ms).zip(secs(holds.forwarded.max_ms));
	let ended = ended.map(|(median, longest)| format!("payments for {median} (median), {longest} at most"));
	let now = (holds.now > 0).then(|| format!("{} now, since {}", holds.now, duration(holds.oldest_secs)));
	ended.into_iter().chain(now).collect::<Vec<_>>().join("; ")
}

pub(in crate::client) fn client(detail: &ClientDetail, style: &Style) -> String {
	let client = &detail.client;
	let percent = |ppm: u32| format!("{} ppm", number(ppm.into()));
	let trust = if detail.lsp_trusts { "we broadcast first" } else { "it takes the payment first" };
	let set = &detail.set;
	let chosen = [
		set.tier.as_ref().map(|tier| format!("tier {tier}")),
		set.listed.map(word),
		set.max_payment_sat.map(|limit| format!("payments up to {} sat", number(limit))),
		set.max_channel_sat.map(|limit| format!("channels up to {} sat", number(limit))),
		set.fee_share_ppm.map(|share| format!("fee share {}", percent(share))),
		set.headroom_ppm.map(|share| format!("headroom {}", percent(share))),
		set.note.clone(),
	];
	let chosen: Vec<String> = chosen.into_iter().flatten().collect();
	let facts = pairs([
		("tier", Some(format!("{} (score {}), {trust}", client.tier, client.score))),
		("listed", client.listed.map(word)),
		("holds", Some(holds(&client.holds)).filter(|held| !held.is_empty())),
		("set by you", (!chosen.is_empty()).then(|| chosen.join(", "))),
		("token", detail.token.clone()),
		("paid for", Some(format!("{} just in time, {} ordered", client.sales_done, client.orders_done))),
		("payments", Some(detail.payments.to_string())),
		("offences", Some(client.offences.to_string())),
		(
			"pays",
			Some(format!("{} of the fee, {} on the costs", percent(detail.fee_share_ppm), percent(detail.risk_ppm))),
		),
		("headroom", Some(percent(detail.headroom_ppm))),
		("payment", Some(format!("up to {} sat", number(detail.max_payment_sat)))),
		("channel", Some(format!("up to {} sat", number(detail.max_channel_sat)))),
		("since", Some(style.full(client.first_seen))),
	]);
	let mut lines = vec![client.node_id.clone(), facts];
	lines.extend(history(&detail.history, style));
	lines.join("\n")
}

pub(in crate::client) fn tokens(page: &Page<Token>, style: &Style) -> String {
	let mut table = Table::new([
		("ID", Left),
		("STATUS", Left),
		("TIER", Left),
		("USES", Right),
		("EXPIRES", Left),
		("ISSUED", Left),
		("LABEL", Left),
	]);
	for token in &page.items {
		table.row([
			token.id.clone(),
			word(token.status),
			token.tier.clone(),
			uses(token),
			token.expires_at.map(|at| style.short(at)).unwrap_or_default(),
			style.short(token.created_at),
			token.label.clone(),
		]);
	}
	table.page(page.next.as_ref(), "no tokens yet: inlet tokens issue --tier known")
}

pub(in crate::client) fn token(detail: &TokenDetail, style: &Style) -> String {
	let mut lines = token_lines(&detail.token, style);
	lines.extend(detail.clients.iter().map(|client| format!("{:<12}{client}", "used by")));
	lines.join("\n")
}

pub(in crate::client) fn issued(issued: &IssuedToken, style: &Style) -> String {
	let mut lines = vec![issued.code.clone(), style.warn("shown this once: the node keeps its hash only")];
	lines.extend(token_lines(&issued.token, style));
	lines.join("\n")
}

fn token_lines(token: &Token, style: &Style) -> Vec<String> {
	let mut lines = vec![format!("{}  {} · tier {}", token.id, word(token.status), token.tier)];
	lines.push(pairs([
		("label", Some(token.label.clone()).filter(|label| !label.is_empty())),
		("uses", Some(uses(token))),
		("issued", Some(style.full(token.created_at))),
		("expires", token.expires_at.map(|at| style.full(at))),
		("revoked", token.revoked_at.map(|at| style.full(at))),
	]));
	lines
}

fn uses(token: &Token) -> String {
	token.max_uses.map_or_else(|| token.uses.to_string(), |most| format!("{} of {most}", token.uses))
}
