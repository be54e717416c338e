//! Rows of a book, every field filled. The frozen file has them too: do not change them.

use bdk_wallet::bitcoin::{OutPoint, Txid, hashes::Hash, secp256k1::PublicKey};
use inlet_lsp::book::*;
use inlet_lsp::money::{FeePerKw, Msat, Sat};
use inlet_lsp::time::Timestamp;
use std::str::FromStr;

pub fn node_id() -> PublicKey {
	PublicKey::from_str("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").unwrap()
}

fn outpoint() -> OutPoint {
	OutPoint { txid: Txid::from_byte_array([5; 32]), vout: 1 }
}

fn channel(closed: bool) -> SoldChannel {
	SoldChannel {
		capacity: Sat(150_000),
		channel_id: Some([6; 32]),
		funding: Some(outpoint()),
		funded_at: Some(Timestamp(3)),
		ready_at: Some(Timestamp(4)),
		closed_at: closed.then_some(Timestamp(5)),
		keep_until_height: 900_000,
	}
}

fn history() -> Vec<Note> {
	vec![Note { at: Timestamp(1), step: "buy".into(), text: "\"quoted\" and ünïcode".into() }]
}

pub fn client() -> Write {
	Write::Client(Client {
		id: node_id(),
		first_seen: Timestamp(1_700_000_000_000),
		string_error_data: true,
		sales_done: 2,
		orders_done: 1,
		offences: 0,
	})
}

/// A sale that is over, its channel closed.
pub fn sale(id: &str, at: u64) -> Write {
	Write::Sale(Sale {
		id: id.into(),
		client: node_id(),
		scid: u64::MAX,
		user_channel_id: u128::MAX,
		terms: Terms {
			min_fee: Msat(546_000),
			proportional: 1200,
			valid_until: Timestamp(9),
			min_lifetime: 1008,
			max_client_to_self_delay: 2016,
			min_payment: Msat(1),
			max_payment: Msat(u64::MAX),
		},
		payment_size: Some(Msat(5_000_000)),
		fee: Some(Msat(546_000)),
		reserved: Sat(160_000),
		state: SaleState::Done,
		parts: vec![Part {
			intercept_id: [1; 32],
			payment_hash: [2; 32],
			amount: Msat(5_000_000),
			expiry_height: Some(800_000),
			arrived: Timestamp(2),
		}],
		paying: Some([2; 32]),
		fee_credited: Msat(546_000),
		channel: Some(channel(true)),
		created_at: Timestamp(at),
		history: history(),
	})
}

/// The same sale in another state, its channel open or not there.
pub fn sale_in(id: &str, at: u64, state: SaleState, open: bool) -> Write {
	let Write::Sale(mut sale) = sale(id, at) else { unreachable!() };
	sale.state = state;
	sale.channel = open.then(|| channel(false));
	Write::Sale(sale)
}

pub fn order(id: &str, at: u64, state: OrderState) -> Write {
	Write::Order(Order {
		id: id.into(),
		client: node_id(),
		reply_to: Some("rpc-1".into()),
		user_channel_id: u128::from(u64::MAX) + 1,
		lsp_balance: Sat(5_000_000),
		client_balance: Sat(100_000),
		required_channel_confirmations: 0,
		funding_confirms_within_blocks: 6,
		channel_expiry_blocks: 13_000,
		token: String::new(),
		announce_channel: true,
		refund_address: Some("bcrt1q".into()),
		fee_total: Sat(8_888),
		order_total: Sat(108_888),
		created_at: Timestamp(at),
		expires_at: Timestamp(at + 1),
		reserved: Sat(5_200_000),
		lightning: Some(LightningOption {
			invoice: "lnbcrt1".into(),
			payment_hash: [3; 32],
			claim_deadline: Some(810_000),
			state: PaymentState::Hold,
		}),
		onchain: Some(OnchainOption {
			address: "bcrt1p".into(),
			min_fee_for_0conf: FeePerKw(253),
			received: vec![Received {
				outpoint: outpoint(),
				value: Sat(108_888),
				confirmations: 1,
				feerate: Some(FeePerKw(500)),
			}],
			refund: Some(Refund { address: "bcrt1q".into(), amount: Sat(108_888), txid: Some(outpoint().txid) }),
			state: PaymentState::ExpectPayment,
		}),
		state,
		channel: None,
		history: history(),
	})
}

pub fn entry(seq: u64) -> Write {
	Write::Ledger(Entry {
		seq,
		at: Timestamp(1_700_000_000_000 + seq),
		kind: if seq.is_multiple_of(2) { EntryKind::JitFee } else { EntryKind::FundingCost },
		amount_msat: if seq.is_multiple_of(2) { 546_000 } else { -200_000 },
		client: Some(node_id()),
		reference: format!("s_{seq}"),
	})
}

/// In the order in which they are loaded.
pub fn all() -> Vec<Write> {
	let deadline = Timestamp(10);
	vec![
		client(),
		sale_in("s_gathering", 4, SaleState::Gathering { deadline }, false),
		sale_in("s_open", 2, SaleState::Done, true),
		sale("s_over", 1),
		order("o_paid", 3, OrderState::Paid { by: PaidBy::Onchain, deadline }),
		order("o_failed", 2, OrderState::Failed { reason: "expired".into() }),
		entry(0),
		entry(1),
	]
}
