//! The wallet's transactions in the books: each is booked once, and taken back if it goes away.

use super::{Draft, NewChannel, Purpose, Standing, WalletTx, credit, debit, note_channel, record, share_of, signed};
use crate::book::{
	Account, BookedTx, BooksRow, BooksState, ChannelSums, EntryKind, FINAL_AFTER, NodeId, OrderId, Posting,
};
use crate::money::{Msat, Sat};
use crate::turn::Turn;
use bitcoin::Txid;

/// How often the height of the books is written when nothing else is, in blocks.
const NOTE_HEIGHT_EVERY: u32 = 72;

/// [`Fact::Opening`](super::Fact::Opening).
pub(super) fn open(
	turn: &mut Turn<'_>,
	height: u32,
	wallet: Msat,
	channels: &[Standing],
	txs: &[(Txid, Option<u32>, i64)],
) {
	if turn.book.books().state().is_some() {
		return;
	}
	turn.put_books(BooksRow::State(BooksState { opened_at: turn.now, height, ..BooksState::default() }));
	let mut postings = vec![debit(Account::Wallet, signed(wallet))];
	for channel in channels {
		note_channel(turn, channel);
		postings.push(debit(Account::Channel(channel.channel_id), signed(channel.ours)));
	}
	let all = postings.iter().fold(0i64, |sum, posting| sum.saturating_add(posting.msat));
	postings.push(credit(Account::Opening, all));
	// A transaction that goes away later is taken from what was there.
	for (txid, height, delta) in txs {
		let tx = BookedTx {
			txid: *txid,
			at: turn.now,
			kind: EntryKind::Opening,
			amount_msat: *delta,
			client: None,
			postings: super::pair(Account::Wallet, Account::Opening, *delta),
			height: *height,
			gone: false,
			done: false,
		};
		turn.put_books(BooksRow::Tx(tx));
	}
	if postings.iter().any(|posting| posting.msat != 0) {
		let (kind, reference) = (EntryKind::Opening, "opening balance");
		record(turn, Draft { kind, amount_msat: all, client: None, reference, channel: None, postings });
	}
}

/// [`Fact::Wallet`](super::Fact::Wallet).
pub(super) fn changed(
	turn: &mut Turn<'_>,
	height: u32,
	txs: &[WalletTx],
	gone: &[Txid],
	moved: &[(Txid, Option<u32>)],
) {
	let Some(state) = turn.book.books().state().cloned() else { return };
	for txid in gone {
		if let Some(tx) = turn.book.books().txs().get(txid).cloned() {
			take_back(turn, tx);
		}
	}
	for tx in txs {
		if !turn.book.books().txs().contains_key(&tx.txid) {
			book(turn, tx);
		}
	}
	for (txid, height) in moved {
		if let Some(tx) = turn.book.books().txs().get(txid).cloned().filter(|tx| !gone.contains(&tx.txid)) {
			turn.put_books(BooksRow::Tx(BookedTx { height: *height, ..tx }));
		}
	}
	let news = !(txs.is_empty() && gone.is_empty() && moved.is_empty());
	if height > state.height && (news || height.saturating_sub(state.height) >= NOTE_HEIGHT_EVERY) {
		finish(turn, height);
		turn.put_books(BooksRow::State(BooksState { height, ..state }));
	}
}

/// Transactions that are deep enough are final.
fn finish(turn: &mut Turn<'_>, height: u32) {
	let book = turn.book;
	let deep = |tx: &&BookedTx| tx.height.is_some_and(|mined| mined.saturating_add(FINAL_AFTER) <= height);
	for tx in book.books().txs().values().filter(deep) {
		turn.put_books(BooksRow::Tx(BookedTx { done: true, ..tx.clone() }));
	}
}

fn take_back(turn: &mut Turn<'_>, tx: BookedTx) {
	let back = |posting: &Posting| credit(posting.account, posting.msat);
	let draft = Draft {
		kind: tx.kind,
		amount_msat: tx.amount_msat.saturating_neg(),
		client: tx.client,
		reference: &tx.txid.to_string(),
		channel: channel_in(&tx.postings),
		postings: tx.postings.iter().map(back).collect(),
	};
	record(turn, draft);
	turn.put_books(BooksRow::Tx(BookedTx { gone: true, ..tx }));
}

fn channel_in(postings: &[Posting]) -> Option<[u8; 32]> {
	postings.iter().find_map(|posting| match posting.account {
		Account::Channel(id) => Some(id),
		_ => None,
	})
}

/// What a transaction is booked as.
struct Booking {
	kind: EntryKind,
	amount_msat: i64,
	client: Option<NodeId>,
	channel: Option<[u8; 32]>,
	/// But for the wallet's.
	postings: Vec<Posting>,
}

fn book(turn: &mut Turn<'_>, tx: &WalletTx) {
	let delta = tx.delta_msat;
	let Booking { kind, amount_msat, client, channel, mut postings } = match &tx.purpose {
		Purpose::Funding { .. } => funding(turn, tx),
		Purpose::Splice { .. } => splice(turn, tx),
		Purpose::Close { channel_id } => Booking {
			kind: EntryKind::ChannelClose,
			amount_msat: delta,
			client: None,
			channel: Some(*channel_id),
			postings: vec![credit(Account::Channel(*channel_id), delta)],
		},
		Purpose::Sweep { outputs } => {
			let left: Vec<Posting> =
				outputs.iter().map(|flow| credit(Account::Channel(flow.channel_id), signed(flow.amount))).collect();
			let fee = left.iter().fold(delta.saturating_neg(), |sum, posting| sum.saturating_sub(posting.msat));
			cost(EntryKind::SweepCost, Account::MinerSweep, fee, outputs.first().map(|flow| flow.channel_id), left)
		}
		Purpose::Bump { channel_id } => {
			cost(EntryKind::BumpCost, Account::MinerBump, delta.saturating_neg(), *channel_id, Vec::new())
		}
		Purpose::Consolidation => {
			let fee = delta.saturating_neg();
			cost(EntryKind::ConsolidationCost, Account::MinerConsolidation, fee, None, Vec::new())
		}
		Purpose::Refund { order } => Booking {
			kind: EntryKind::Refund,
			amount_msat: delta,
			client: turn.order(order).map(|order| order.client),
			channel: None,
			postings: vec![credit(Account::Orders, delta)],
		},
		Purpose::Incoming { orders } => incoming(turn, delta, orders),
		Purpose::Outgoing { fee } => {
			let fee = signed(*fee);
			let taken = delta.saturating_neg().saturating_sub(fee);
			let postings = vec![debit(Account::Withdrawals, taken), debit(Account::MinerWithdrawal, fee)];
			Booking { kind: EntryKind::Withdrawal, amount_msat: delta, client: None, channel: None, postings }
		}
	};
	postings.push(debit(Account::Wallet, delta));
	let reference = tx.txid.to_string();
	let row = BookedTx {
		txid: tx.txid,
		at: turn.now,
		kind,
		amount_msat,
		client,
		postings: postings.clone(),
		height: tx.height,
		gone: false,
		done: false,
	};
	turn.put_books(BooksRow::Tx(row));
	record(turn, Draft { kind, amount_msat, client, reference: &reference, channel, postings });
}

fn cost(kind: EntryKind, account: Account, fee: i64, channel: Option<[u8; 32]>, mut rest: Vec<Posting>) -> Booking {
	rest.push(debit(account, fee));
	Booking { kind, amount_msat: fee.saturating_neg(), client: None, channel, postings: rest }
}

/// Channels of ours, and their parts of the fee.
fn funding(turn: &mut Turn<'_>, tx: &WalletTx) -> Booking {
	let Purpose::Funding { channels } = &tx.purpose else { unreachable!("asked for fundings only") };
	let msat = |channel: &NewChannel| signed(channel.capacity.to_msat().unwrap_or(Msat::ZERO));
	let size = channels.iter().fold(0i64, |sum, channel| sum.saturating_add(msat(channel)));
	let fee = tx.delta_msat.saturating_neg().saturating_sub(size);
	let count = u64::try_from(channels.len()).unwrap_or(u64::MAX);
	let each = signed(share_of(Sat(fee.unsigned_abs() / 1000), count, 1).to_msat().unwrap_or(Msat::ZERO));
	let each = each.saturating_mul(fee.signum());
	let others = i64::try_from(channels.len().saturating_sub(1)).unwrap_or(i64::MAX);
	let first = fee.saturating_sub(each.saturating_mul(others));
	let mut postings = Vec::new();
	let (mut any_sold, mut who) = (false, None);
	for (place, channel) in channels.iter().enumerate() {
		let (sold, client) = new_channel(turn, channel, if place == 0 { first } else { each }, &mut postings);
		any_sold |= sold;
		who = client.filter(|_| count == 1);
	}
	let (kind, amount_msat) = match any_sold {
		true => (EntryKind::ChannelFunding, size),
		false => (EntryKind::FundingCost, fee.saturating_neg()),
	};
	let channel = channels.first().filter(|_| count == 1).map(|channel| channel.channel_id);
	Booking { kind, amount_msat, client: who, channel, postings }
}

/// The fee of a channel that was sold is booked as spent when its funding is known to be out; of another, at once. Says
/// whether it was sold, and to whom.
fn new_channel(
	turn: &mut Turn<'_>,
	channel: &NewChannel,
	fee: i64,
	postings: &mut Vec<Posting>,
) -> (bool, Option<NodeId>) {
	let NewChannel { channel_id, user_channel_id, client, funding, capacity, given } = channel;
	let size = signed(capacity.to_msat().unwrap_or(Msat::ZERO));
	let order = turn.book.order_by_user_channel_id(*user_channel_id);
	let sale = turn.book.sale_by_user_channel_id(*user_channel_id);
	let pushed = order.map_or(0, |order| signed(order.client_balance.to_msat().unwrap_or(Msat::ZERO)));
	let sold = order.is_some() || sale.is_some();
	// Of a channel that is sold what is missing has been paid over it already.
	let gift = if sold { 0 } else { signed(*given) };
	let who = sale.map(|sale| sale.client).or(order.map(|order| order.client)).or(*client);
	let sold_as = sale.map(|sale| sale.id.clone()).or(order.map(|order| order.id.clone()));
	let quoted = sale.and_then(|sale| sale.fee).or(order.and_then(|order| order.fee_total.to_msat()));
	let expected = sale.map(|sale| sale.expected_cost).or(order.map(|order| order.expected_cost));
	let mut sums = turn.channel_sums(&ChannelSums::key_of(channel_id));
	sums.client = who;
	sums.sold_as = sums.sold_as.or(sold_as);
	sums.quoted = quoted;
	sums.expected = expected.and_then(|cost| cost.to_msat());
	sums.tier = who.and_then(|who| turn.book.client(&who)).map(|client| match client.tier.as_str() {
		"" => "new".to_owned(),
		tier => tier.to_owned(),
	});
	sums.capacity = *capacity;
	sums.funding = Some(*funding);
	turn.put_books(BooksRow::Channel(sums));
	postings.extend([
		debit(Account::Channel(*channel_id), size.saturating_sub(pushed).saturating_sub(gift)),
		debit(Account::Pushed, pushed),
		debit(Account::Withdrawals, gift),
		debit(if sold { Account::Pending } else { Account::MinerOpen }, fee),
	]);
	(sold, who)
}

/// The fee is booked as spent when the splice is known to be in the chain.
fn splice(turn: &mut Turn<'_>, tx: &WalletTx) -> Booking {
	let Purpose::Splice { channel_id, user_channel_id, funding, capacity, added } = &tx.purpose else {
		unreachable!("asked for splices only")
	};
	let added = signed(*added);
	let fee = tx.delta_msat.saturating_neg().saturating_sub(added);
	let client = turn.book.order_by_user_channel_id(*user_channel_id).map(|order| order.client);
	let mut sums = turn.channel_sums(&ChannelSums::key_of(channel_id));
	sums.client = sums.client.or(client);
	sums.capacity = *capacity;
	sums.fund_with(*funding);
	turn.put_books(BooksRow::Channel(sums));
	let postings = vec![debit(Account::Channel(*channel_id), added), debit(Account::Pending, fee)];
	let kind = EntryKind::ChannelFunding;
	Booking { kind, amount_msat: added, client, channel: Some(*channel_id), postings }
}

fn incoming(turn: &Turn<'_>, delta: i64, orders: &[(OrderId, Msat)]) -> Booking {
	let paid = orders.iter().fold(0i64, |sum, (_, msat)| sum.saturating_add(signed(*msat)));
	let rest = delta.saturating_sub(paid);
	let client = orders.first().and_then(|(id, _)| turn.order(id)).map(|order| order.client);
	let postings = vec![credit(Account::Orders, paid), credit(Account::Deposits, rest)];
	let kind = if paid > 0 { EntryKind::OrderPayment } else { EntryKind::Deposit };
	Booking { kind, amount_msat: delta, client, channel: None, postings }
}
