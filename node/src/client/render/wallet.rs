//! Coins.

use super::table::{Column::*, Table, pairs};
use super::{Style, feerate, msat_floor, number};
use crate::control::{Balance, NewAddress, Page, Sent, Utxo};

pub(in crate::client) fn balance(b: &Balance, _: &Style) -> String {
	let (o, l) = (&b.onchain, &b.lightning);
	let mut table = Table::new([("", Left), ("SAT", Right), ("", Left)]);
	let mut row = |name: &str, amount: String, note: &str| table.row([name.to_owned(), amount, note.to_owned()]);
	row("on-chain", number(o.confirmed_sat), "confirmed");
	row("", number(o.free_sat), "  of it free");
	row("", number(o.anchor_reserve_sat), "  of it reserved for anchor channels");
	row("", number(o.in_sales_sat), "  of it in unfinished sales and orders");
	row("", number(o.trusted_pending_sat), "unconfirmed change");
	row("", number(o.untrusted_pending_sat), "unconfirmed, from others");
	if o.immature_sat > 0 {
		row("", number(o.immature_sat), "mined, too young");
	}
	row("lightning", msat_floor(l.local_msat), "our side of the channels");
	row("", msat_floor(l.outbound_msat), "  could be sent now");
	row("", msat_floor(l.inbound_msat), "could be received now");
	row("", number(l.closing_sat), "on its way back from closed channels");
	if l.splicing_sat > 0 {
		row("", number(l.splicing_sat), "on its way into channels that are being made larger");
	}
	row("total", number(b.total_sat), "");
	table.text()
}

pub(in crate::client) fn address(a: &NewAddress, _: &Style) -> String {
	a.address.clone()
}

pub(in crate::client) fn send_question(s: &Sent) -> String {
	format!(
		"Send {} sat to {} for a fee of {} sat ({} sat/vB)?",
		number(s.amount_sat),
		s.address,
		number(s.fee_sat),
		feerate(s.feerate_sat_per_kw)
	)
}

pub(in crate::client) fn sent(s: &Sent, _: &Style) -> String {
	let what = match (s.txid.as_deref(), s.queued) {
		(Some(_), false) => "sent",
		(Some(_), true) => "queued",
		(None, _) => "would send",
	};
	let queued = "the chain backend does not answer; the node sends it when it does. Do not send again";
	pairs([
		(what, Some(format!("{} sat to {}", number(s.amount_sat), s.address))),
		("fee", Some(format!("{} sat ({} sat/vB)", number(s.fee_sat), feerate(s.feerate_sat_per_kw)))),
		("txid", s.txid.clone()),
		("note", s.queued.then(|| queued.to_owned())),
	])
}

pub(in crate::client) fn utxos(page: &Page<Utxo>, _: &Style) -> String {
	let mut table = Table::new([("OUTPOINT", Left), ("SAT", Right), ("CONF", Right)]);
	for utxo in &page.items {
		table.row([utxo.outpoint.clone(), number(utxo.amount_sat), number(utxo.confirmations.into())]);
	}
	table.page(page.next.as_ref(), "no coins yet: inlet address gives an address to send some to")
}
