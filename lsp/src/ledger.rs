//! What was earned and spent, and what moved between which accounts: booked once, in the transaction of what it
//! records.
//!
//! Every entry has postings that add up to zero, so that the accounts balance after any sequence of inputs.
//! `docs/ledger.md` says which event posts what.

use crate::book::{
	Account, BooksRow, BooksState, ChannelSums, Entry, EntryKind, MonthSums, NodeId, Posting, Sale, month_of,
};
use crate::input::Input;
use crate::money::{Msat, Sat};
use crate::turn::Turn;
use bitcoin::Txid;

mod fact;
mod fold;
mod wallet;

pub use fact::{Fact, Flow, NewChannel, Purpose, Standing, WalletTx};
pub use fold::FOLD_AT_ONCE;

/// An entry to be.
pub(crate) struct Draft<'a> {
	pub(crate) kind: EntryKind,
	pub(crate) amount_msat: i64,
	pub(crate) client: Option<NodeId>,
	pub(crate) reference: &'a str,
	/// The channel that earned or cost it.
	pub(crate) channel: Option<[u8; 32]>,
	pub(crate) postings: Vec<Posting>,
}

/// Books `amount` as earned.
pub(crate) fn earn(turn: &mut Turn<'_>, kind: EntryKind, amount: Msat, client: Option<NodeId>, reference: &str) {
	let channel = channel_of(turn, reference);
	simple(turn, kind, signed(amount), client, reference, channel);
}

/// Books `amount` as spent.
pub(crate) fn spend(turn: &mut Turn<'_>, kind: EntryKind, amount: Msat, client: Option<NodeId>, reference: &str) {
	let channel = channel_of(turn, reference);
	simple(turn, kind, signed(amount).saturating_neg(), client, reference, channel);
}

/// What is earned comes from one account and goes to another, by its kind; what is spent, the other way round.
fn simple(
	turn: &mut Turn<'_>,
	kind: EntryKind,
	msat: i64,
	client: Option<NodeId>,
	reference: &str,
	channel: Option<[u8; 32]>,
) {
	let (debit, credit) = match kind {
		EntryKind::JitFee => (Account::Skims, Account::JitFees),
		EntryKind::OrderFee => (Account::Orders, Account::OrderFees),
		EntryKind::ClientBalance => (Account::Orders, Account::ClientBalances),
		EntryKind::RefundCost => (Account::Orders, Account::MinerRefund),
		_ => (Account::Pending, Account::MinerOpen),
	};
	let postings = pair(debit, credit, msat);
	record(turn, Draft { kind, amount_msat: msat, client, reference, channel, postings });
}

/// What was pushed to a client with its channel, and paid for, is the client's.
pub(crate) fn pushed(turn: &mut Turn<'_>, amount: Msat, client: Option<NodeId>, reference: &str) {
	let msat = signed(amount);
	let postings = pair(Account::ClientBalances, Account::Pushed, msat);
	let (kind, amount_msat) = (EntryKind::ClientBalance, msat.saturating_neg());
	record(turn, Draft { kind, amount_msat, client, reference, channel: None, postings });
}

/// What was pushed to a client is not paid for any more (`gone`), or is again.
pub(crate) fn lost(turn: &mut Turn<'_>, amount: Msat, gone: bool, client: Option<NodeId>, reference: &str) {
	let msat = if gone { signed(amount) } else { signed(amount).saturating_neg() };
	let postings = pair(Account::Losses, Account::Orders, msat);
	let (kind, amount_msat) = (EntryKind::ClientBalance, msat.saturating_neg());
	record(turn, Draft { kind, amount_msat, client, reference, channel: None, postings });
}

/// [`Input::Funded`]: books the miner's fee of a funding transaction, once per transaction; of one that several channels
/// share, each channel's part, once per channel.
pub(crate) fn funding_cost(turn: &mut Turn<'_>, funded: &Input, client: NodeId) {
	let Input::Funded { channel_id, funding, fee, shared, .. } = funded else { return };
	let Some(fee) = fee.and_then(Sat::to_msat) else { return };
	let reference = if *shared { funding.to_string() } else { funding.txid.to_string() };
	let kind = EntryKind::FundingCost;
	if turn.is_booked(kind, &reference) {
		return;
	}
	let channel = if *shared { Some(*channel_id) } else { channel_of(turn, &reference) };
	simple(turn, kind, signed(fee).saturating_neg(), Some(client), &reference, channel);
}

/// What the channel at this `place` (from 0) of so many bears of the fee of their common funding, to the sat: all the
/// same, and the first what is left over.
pub fn share_of(fee: Sat, channels: u64, place: u64) -> Sat {
	let each = fee.0.checked_div(channels).unwrap_or(fee.0);
	let left = fee.0.checked_rem(channels).unwrap_or(0);
	Sat(if place == 0 { each.saturating_add(left) } else { each })
}

/// [`Input::Forwarded`]: what moved, and the part of it that is no opening fee (`skimmed`); once per reference.
pub(crate) fn forwarded(turn: &mut Turn<'_>, input: &Input, skimmed: Msat) {
	let Input::Forwarded { next_peer, next_channel, total_fee, reference, came, went, .. } = input else { return };
	let told = i64::try_from(total_fee.0.saturating_sub(skimmed.0)).unwrap_or(i64::MAX);
	let moved = !came.is_empty() && !went.is_empty();
	let (came_msat, went_msat) = (total(came), total(went));
	let routing = if moved { came_msat.saturating_sub(went_msat).saturating_sub(signed(skimmed)) } else { told };
	let known = [EntryKind::RoutingFee, EntryKind::Forward].iter().any(|kind| turn.is_booked(*kind, reference));
	if known || (!moved && routing == 0) {
		return;
	}
	let mut postings: Vec<Posting> = Vec::new();
	if moved {
		postings.extend(came.iter().map(|flow| debit(Account::Channel(flow.channel_id), signed(flow.amount))));
		postings.extend(went.iter().map(|flow| credit(Account::Channel(flow.channel_id), signed(flow.amount))));
		postings.push(credit(Account::Skims, signed(skimmed)));
	} else {
		postings.push(debit(Account::Unassigned, routing));
	}
	postings.push(credit(Account::RoutingFees, routing));
	let kind = if routing == 0 { EntryKind::Forward } else { EntryKind::RoutingFee };
	let (client, channel) = (*next_peer, *next_channel);
	record(turn, Draft { kind, amount_msat: routing, client, reference, channel, postings });
	for flow in came.iter().chain(went) {
		let mut sums = turn.channel_sums(&ChannelSums::key_of(&flow.channel_id));
		sums.used_at = Some(turn.now);
		if went.contains(flow) {
			sums.client = sums.client.or(*next_peer);
		}
		turn.put_books(BooksRow::Channel(sums));
	}
}

/// [`Input::PaymentClaimed`] of an order: it is the client's money until the order is delivered.
pub(crate) fn claimed(turn: &mut Turn<'_>, payment_hash: &[u8; 32], over: &[Flow]) {
	let Some(order) = turn.book.order_by_payment_hash(payment_hash) else { return };
	let (client, id) = (Some(order.client), order.id.clone());
	if over.is_empty() || turn.is_booked(EntryKind::OrderPayment, &id) {
		return;
	}
	let mut postings: Vec<Posting> =
		over.iter().map(|flow| debit(Account::Channel(flow.channel_id), signed(flow.amount))).collect();
	let msat = total(over);
	postings.push(credit(Account::Orders, msat));
	let kind = EntryKind::OrderPayment;
	record(turn, Draft { kind, amount_msat: msat, client, reference: &id, channel: None, postings });
}

/// [`Input::Money`].
pub(crate) fn money(turn: &mut Turn<'_>, fact: &Fact) {
	match fact {
		Fact::Opening { height, wallet, channels, txs } => wallet::open(turn, *height, *wallet, channels, txs),
		Fact::Wallet { height, txs, gone, moved } => wallet::changed(turn, *height, txs, gone, moved),
		Fact::Received { reference, over } => received(turn, reference, over),
		Fact::Sent { reference, amount, fee } => sent(turn, reference, *amount, *fee),
		Fact::SentOver { reference, flow } => sent_over(turn, reference, flow),
		Fact::Given { channel } => given(turn, channel),
		Fact::Closed { channel_id } => {
			let Some(mut sums) = turn.book.books().channel(channel_id).cloned() else { return };
			sums.closed_at.get_or_insert(turn.now);
			turn.put_books(BooksRow::Channel(sums));
		}
		Fact::Settled { channel_id } => settled(turn, channel_id),
		Fact::Agreed { before } => {
			let Some(state) = turn.book.books().state().filter(|state| state.agreed_before < *before) else { return };
			let state = BooksState { agreed_before: *before, agreed_at: turn.now, ..state.clone() };
			turn.put_books(BooksRow::State(state));
		}
		Fact::Oldest { entries } => fold::oldest(turn, entries),
	}
}

fn received(turn: &mut Turn<'_>, reference: &str, over: &[Flow]) {
	let kind = EntryKind::PaymentReceived;
	if over.is_empty() || turn.is_booked(kind, reference) {
		return;
	}
	let mut postings: Vec<Posting> =
		over.iter().map(|flow| debit(Account::Channel(flow.channel_id), signed(flow.amount))).collect();
	let amount_msat = total(over);
	postings.push(credit(Account::Received, amount_msat));
	record(turn, Draft { kind, amount_msat, client: None, reference, channel: None, postings });
}

fn sent(turn: &mut Turn<'_>, reference: &str, amount: Msat, fee: Msat) {
	let kind = EntryKind::PaymentSent;
	if turn.is_booked(kind, reference) {
		return;
	}
	let all = signed(amount).saturating_add(signed(fee));
	let postings = vec![
		credit(Account::Unassigned, all),
		debit(Account::Sent, signed(amount)),
		debit(Account::RoutingPaid, signed(fee)),
	];
	let amount_msat = all.saturating_neg();
	record(turn, Draft { kind, amount_msat, client: None, reference, channel: None, postings });
}

/// At most what is not assigned: what LDK tells twice after a crash must not be taken off the channel twice.
fn sent_over(turn: &mut Turn<'_>, reference: &str, flow: &Flow) {
	let open = turn.book.books().balance(Account::Unassigned).saturating_neg();
	let msat = signed(flow.amount).min(open);
	if msat <= 0 {
		return;
	}
	let postings = pair(Account::Unassigned, Account::Channel(flow.channel_id), msat);
	let kind = EntryKind::PaymentSent;
	record(turn, Draft { kind, amount_msat: 0, client: None, reference, channel: None, postings });
}

fn given(turn: &mut Turn<'_>, channel: &Standing) {
	let reference = ChannelSums::key_of(&channel.channel_id);
	note_channel(turn, channel);
	let msat = signed(channel.ours);
	if msat == 0 || turn.is_booked(EntryKind::Deposit, &reference) {
		return;
	}
	let postings = pair(Account::Channel(channel.channel_id), Account::Deposits, msat);
	let (kind, client) = (EntryKind::Deposit, Some(channel.client));
	record(turn, Draft { kind, amount_msat: msat, client, reference: &reference, channel: None, postings });
}

/// What is left of a channel that is all home was the price of closing it.
fn settled(turn: &mut Turn<'_>, channel_id: &[u8; 32]) {
	let Some(sums) = turn.book.books().channel(channel_id) else { return };
	let (left, client, reference) = (sums.balance_msat, sums.client, sums.key.clone());
	if left != 0 {
		let postings = pair(Account::MinerClose, Account::Channel(*channel_id), left);
		let (kind, channel) = (EntryKind::CloseCost, Some(*channel_id));
		let amount_msat = left.saturating_neg();
		record(turn, Draft { kind, amount_msat, client, reference: &reference, channel, postings });
	}
	let mut sums = turn.channel_sums(&reference);
	sums.closed_at.get_or_insert(turn.now);
	sums.settled_at = Some(turn.now);
	turn.put_books(BooksRow::Channel(sums));
}

/// What is known of a channel, for its sums.
pub(super) fn note_channel(turn: &mut Turn<'_>, channel: &Standing) {
	let mut sums = turn.channel_sums(&ChannelSums::key_of(&channel.channel_id));
	sums.client = Some(channel.client);
	sums.capacity = channel.capacity;
	sums.funding = sums.funding.or(channel.funding);
	turn.put_books(BooksRow::Channel(sums));
}

/// Adds the entry, and adds it up: in its month, and in the channels that it moves.
pub(crate) fn record(turn: &mut Turn<'_>, draft: Draft<'_>) {
	let Draft { kind, amount_msat, client, reference, channel, mut postings } = draft;
	postings.retain(|posting| posting.msat != 0);
	let name = month_of(turn.now);
	let mut month = turn.month(&name).unwrap_or_else(|| MonthSums { month: name, ..MonthSums::default() });
	month.entries = month.entries.saturating_add(1);
	let sum = month.kinds.entry(kind).or_default();
	*sum = sum.saturating_add(amount_msat);
	let mut capital = Vec::new();
	for posting in &postings {
		let sum = month.accounts.entry(posting.account.collapsed()).or_default();
		*sum = sum.saturating_add(posting.msat);
		if let Account::Channel(id) = posting.account {
			let mut sums = turn.channel_sums(&ChannelSums::key_of(&id));
			let before = sums.move_balance(posting.msat, turn.now);
			turn.put_books(BooksRow::Channel(sums));
			capital.extend(before);
		}
	}
	turn.put_books(BooksRow::Month(month));
	for (name, sat_secs) in capital.into_iter().filter(|(_, sat_secs)| *sat_secs > 0) {
		let mut month = turn.month(&name).unwrap_or_else(|| MonthSums { month: name, ..MonthSums::default() });
		month.sat_secs = month.sat_secs.saturating_add(sat_secs);
		turn.put_books(BooksRow::Month(month));
	}
	if kind.is_profit() {
		attribute(turn, kind, amount_msat, client, channel, reference);
	}
	let (seq, at) = (turn.next_seq(), turn.now);
	turn.push_entry(Entry { seq, at, kind, amount_msat, client, reference: reference.to_string(), postings });
}

/// Whose profit it is: the channel's, or its client's.
fn attribute(
	turn: &mut Turn<'_>,
	kind: EntryKind,
	msat: i64,
	client: Option<NodeId>,
	channel: Option<[u8; 32]>,
	reference: &str,
) {
	let key = match (channel, client) {
		(Some(id), _) => ChannelSums::key_of(&id),
		(None, Some(client)) => format!("client:{client}"),
		(None, None) => return,
	};
	let mut sums = turn.channel_sums(&key);
	sums.client = sums.client.or(client);
	if matches!(kind, EntryKind::JitFee | EntryKind::OrderFee) {
		sums.sold_as.get_or_insert_with(|| reference.to_owned());
	}
	let sum = sums.kinds.entry(kind).or_default();
	*sum = sum.saturating_add(msat);
	turn.put_books(BooksRow::Channel(sums));
}

/// The channel that an entry with this reference is about: of a sale, an order, or a funding.
fn channel_of(turn: &Turn<'_>, reference: &str) -> Option<[u8; 32]> {
	let of_sale = |sale: Sale| sale.channel.and_then(|channel| channel.channel_id);
	if let Some(id) = turn.sale(reference).and_then(of_sale) {
		return Some(id);
	}
	if let Some(id) = turn.order(reference).and_then(|order| order.channel).and_then(|channel| channel.channel_id) {
		return Some(id);
	}
	let txid: Txid = reference.parse().ok()?;
	let postings = &turn.book.books().txs().get(&txid)?.postings;
	postings.iter().find_map(|posting| match posting.account {
		Account::Channel(id) => Some(id),
		_ => None,
	})
}

pub(crate) fn pair(from: Account, to: Account, msat: i64) -> Vec<Posting> {
	vec![debit(from, msat), credit(to, msat)]
}

pub(crate) fn debit(account: Account, msat: i64) -> Posting {
	Posting { account, msat }
}

pub(crate) fn credit(account: Account, msat: i64) -> Posting {
	Posting { account, msat: msat.saturating_neg() }
}

fn total(flows: &[Flow]) -> i64 {
	flows.iter().fold(0, |sum, flow| sum.saturating_add(signed(flow.amount)))
}

pub(crate) fn signed(amount: Msat) -> i64 {
	i64::try_from(amount.0).unwrap_or(i64::MAX)
}
