//! Rows of a book.

use bdk_wallet::bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use inlet_lsp::book::{BooksRow, Client, Entry, EntryKind, Folded, OrderState, SaleState, Webhook, Write};
use inlet_lsp::time::Timestamp;
use serde_json::{Value, json};
use std::str::FromStr;

pub fn node_id() -> PublicKey {
	PublicKey::from_str("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap()
}

const OUTPOINT: &str = "0505050505050505050505050505050505050505050505050505050505050505:1";

fn hash(byte: u8) -> [u8; 32] {
	[byte; 32]
}

fn channel(closed_at: Option<u64>) -> Value {
	json!({
		"capacity": 150_000, "channel_id": hash(6), "funding": OUTPOINT, "funded_at": 3, "ready_at": 4,
		"closed_at": closed_at, "keep_until_height": 900_000,
	})
}

fn history() -> Value {
	json!([{ "at": 1, "step": "buy", "text": "\"quoted\" and ünïcode" }])
}

/// A row from its JSON. The mark is hexadecimal, or a number.
fn row(kind: &str, mut row: Value, user_channel_id: u64) -> Write {
	row["user_channel_id"] = json!(format!("{user_channel_id:032x}"));
	let hexadecimal = serde_json::from_value(json!({ kind: row }));
	hexadecimal.unwrap_or_else(|_| {
		row["user_channel_id"] = json!(user_channel_id);
		serde_json::from_value(json!({ kind: row })).unwrap()
	})
}

pub fn client() -> Write {
	let mut client = Client::new(node_id(), Timestamp(1_700_000_000_000));
	(client.string_error_data, client.sales_done, client.orders_done) = (true, 2, 1);
	Write::Client(client)
}

/// Another client, the oldest of all, with a webhook.
pub fn sleeper() -> Write {
	let mut id = node_id().serialize();
	id[0] ^= 1;
	let mut client = Client::new(PublicKey::from_slice(&id).unwrap(), Timestamp(0));
	let webhook = Webhook { app_name: "wallet".to_owned(), url: "https://push.example/1".to_owned() };
	client.wake.webhooks.push(webhook);
	Write::Client(client)
}

/// So many clients without a webhook.
pub fn clients(many: usize) -> impl Iterator<Item = Write> {
	let secp = Secp256k1::new();
	(1..=many as u64).map(move |number| {
		let mut secret = [1; 32];
		secret[..8].copy_from_slice(&number.to_be_bytes());
		let id = PublicKey::from_secret_key(&secp, &SecretKey::from_slice(&secret).unwrap());
		Write::Client(Client::new(id, Timestamp(number)))
	})
}

/// A sale that is over, its channel closed.
pub fn sale(id: &str, at: u64) -> Write {
	let terms = json!({
		"min_fee": 546_000, "proportional": 1200, "valid_until": 9, "min_lifetime": 1008,
		"max_client_to_self_delay": 2016, "min_payment": 1, "max_payment": u64::MAX,
	});
	let sale = json!({
		"id": id, "client": node_id(), "scid": u64::MAX, "terms": terms, "payment_size": 5_000_000, "fee": 546_000,
		"reserved": 160_000, "state": SaleState::Done, "parts": [], "paying": hash(2), "fee_credited": 546_000,
		"channel": channel(Some(5)), "created_at": at, "history": history(),
	});
	row("sale", sale, u64::MAX)
}

/// The same sale in another state, its channel open or not there.
pub fn sale_in(id: &str, at: u64, state: SaleState, open: bool) -> Write {
	let Write::Sale(mut sale) = sale(id, at) else { unreachable!() };
	sale.state = state;
	sale.channel = open.then(|| serde_json::from_value(channel(None)).unwrap());
	Write::Sale(sale)
}

/// A sale that is over but still has an HTLC.
pub fn sale_with_part(id: &str, at: u64) -> Write {
	let Write::Sale(mut sale) = sale(id, at) else { unreachable!() };
	let part = json!({
		"intercept_id": hash(1), "payment_hash": hash(2), "amount": 5_000_000, "expiry_height": 800_000, "arrived": 2,
	});
	sale.parts = vec![serde_json::from_value(part).unwrap()];
	Write::Sale(sale)
}

/// An order that was refunded on-chain, or whose refund is still to be sent.
pub fn order(id: &str, at: u64, state: OrderState, refunded: bool) -> Write {
	let lightning = json!({
		"invoice": "lnbcrt1", "payment_hash": hash(3), "claim_deadline": 810_000, "state": "HOLD",
	});
	let txid = refunded.then(|| OUTPOINT.trim_end_matches(":1"));
	let received = json!([{ "outpoint": OUTPOINT, "value": 108_888, "confirmations": 1, "feerate": 500 }]);
	let onchain = json!({
		"address": "bcrt1p", "min_fee_for_0conf": 253, "received": received,
		"refund": { "address": "bcrt1q", "amount": 108_888, "txid": txid }, "state": "EXPECT_PAYMENT",
	});
	let order = json!({
		"id": id, "client": node_id(), "reply_to": "rpc-1", "lsp_balance": 5_000_000, "client_balance": 100_000,
		"required_channel_confirmations": 0, "funding_confirms_within_blocks": 6, "channel_expiry_blocks": 13_000,
		"token": "", "announce_channel": true, "refund_address": "bcrt1q", "fee_total": 8_888, "order_total": 108_888,
		"created_at": at, "expires_at": at + 1, "reserved": 5_200_000, "lightning": lightning, "onchain": onchain,
		"state": state, "channel": null, "history": history(),
	});
	row("order", order, 7)
}

pub fn entry(seq: u64) -> Write {
	Write::Ledger(Entry {
		seq,
		at: Timestamp(1_700_000_000_000 + seq),
		kind: if seq.is_multiple_of(2) { EntryKind::JitFee } else { EntryKind::FundingCost },
		amount_msat: if seq.is_multiple_of(2) { 546_000 } else { -200_000 },
		client: Some(node_id()),
		reference: format!("s_{seq}"),
		postings: Vec::new(),
	})
}

/// What folds the entries below this one.
pub fn fold(before: u64) -> Vec<Write> {
	let mut folded = Folded { before, until: Timestamp(1_700_000_000_000 + before - 1), ..Folded::default() };
	for row in (0..before).map(entry) {
		let Write::Ledger(entry) = row else { continue };
		let (count, sum) = folded.kinds.entry(entry.kind).or_default();
		(*count, *sum) = (*count + 1, *sum + entry.amount_msat);
	}
	vec![Write::Books(BooksRow::Folded(folded)), Write::Forget(before)]
}

/// In the order in which they are loaded.
pub fn all() -> Vec<Write> {
	let deadline = Timestamp(10);
	let paid = serde_json::from_value(json!({ "is": "paid", "by": "onchain", "deadline": 10 })).unwrap();
	vec![
		client(),
		sale_in("s_gathering", 4, SaleState::Gathering { deadline }, false),
		sale_in("s_open", 2, SaleState::Done, true),
		sale("s_over", 1),
		order("o_paid", 3, paid, true),
		order("o_failed", 2, OrderState::Failed { reason: "expired".into() }, true),
		entry(0),
		entry(1),
	]
}

/// What the frozen file has. Do not change it.
pub fn frozen() -> Vec<Write> {
	vec![client(), entry(0), entry(1)]
}
