//! The ledger's other side: what LDK and BDK say we have. It tells the core what moved, and compares.
//!
//! `lsp/docs/ledger.md` has the accounts, and which event posts what.

use crate::hands::{Hands, Version};
use crate::lightning::Lightning;
use crate::lightning::channels::v1_channel_id;
use crate::lightning::splice::on_its_way;
use crate::onchain::WalletView;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Address, OutPoint, Txid};
use inlet_lsp::book::{Account, Book, BookedTx, Books, ChannelSums, FINAL_AFTER, OrderId};
use inlet_lsp::input::Input;
use inlet_lsp::ledger::{Fact, Flow, NewChannel, Purpose, Standing, WalletTx};
use inlet_lsp::money::{Msat, Sat};
use lightning::ln::channel_state::{
	ChannelDetails, InboundHTLCStateDetails, OutboundHTLCStateDetails, SpliceCandidateStatus,
};
use lightning::ln::types::ChannelId;
use lightning::sign::SpendableOutputDescriptor;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

/// Both anchor outputs (BOLT 3), which the funder pays for.
const ANCHORS_MSAT: u64 = 660_000;
/// A closed channel is settled when nothing of it was to come at two looks so many blocks apart: LDK tells of an output that
/// can be spent a little after it stops to count it.
const SETTLED_AFTER: u32 = 2;

/// What was seen at the last look.
#[derive(Debug, Default)]
pub struct Seen {
	version: Mutex<Option<(Version, u64, u64)>>,
	/// Since which height nothing more is to come of a closed channel.
	empty: Mutex<HashMap<[u8; 32], u32>>,
}

/// The books, and what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
	/// Number of the next entry.
	pub entries: u64,
	/// All accounts together: anything but zero is a bug.
	pub sum_msat: i64,
	/// The wallet, by the books and by BDK.
	pub wallet: (i64, i64),
	/// Our side of the open channels, by the books and by LDK.
	pub channels: (i64, i64),
	/// Open channels that differ: id, by the books, by LDK. Their differences may make each other up.
	pub differing: Vec<(String, i64, i64)>,
	/// Our side of channels that are closed and not all home, by the books.
	pub closing_msat: i64,
	/// HTLCs that are on their way: what they move is between the books and LDK for a moment.
	pub in_flight: usize,
	/// Up to which entry, and since when, the books were known to agree.
	pub agreed: (u64, u64),
}

impl Comparison {
	/// Do the books say what is there?
	pub fn agrees(&self) -> bool {
		self.sum_msat == 0 && self.wallet.0 == self.wallet.1 && self.channels.0 == self.channels.1
	}
}

/// Our side of a channel in msat: what would be ours if every HTLC that is not fulfilled failed.
///
/// LDK tells a side's balance less its reserve and less HTLCs on their way out, the funder's also less the two anchors. It
/// tells zero if the balance is within the reserve: then the other side tells. What is fulfilled and only waits for the peer's
/// signatures it counts as moved, but for claims that wait for the peer to be back. While a splice waits for its blocks, what LDK
/// tells is within the reserves of both fundings.
pub fn ours(channel: &ChannelDetails) -> Msat {
	let anchors = channel.channel_type.as_ref().is_some_and(|kind| kind.supports_anchors_zero_fee_htlc_tx());
	let anchors = |funder: bool| if anchors && funder { ANCHORS_MSAT } else { 0 };
	let capacity = channel.channel_value_satoshis.saturating_mul(1000);
	let theirs = channel.counterparty.unspendable_punishment_reserve.max(coming_reserve(channel)).saturating_mul(1000);
	let remote = channel.inbound_capacity_msat.saturating_add(theirs).saturating_add(anchors(!channel.is_outbound));
	let of = |state: InboundHTLCStateDetails| {
		let htlcs = channel.pending_inbound_htlcs.iter().filter(move |htlc| htlc.state.as_ref() == Some(&state));
		htlcs.map(|htlc| htlc.amount_msat).sum::<u64>()
	};
	use InboundHTLCStateDetails::*;
	let (waiting, claimed) = (of(AwaitingRemoteRevokeToAdd) + of(Committed), of(AwaitingRemoteRevokeToRemoveFulfill));
	if channel.outbound_capacity_msat == 0 {
		return Msat(capacity.saturating_sub(remote).saturating_sub(waiting));
	}
	let reserve = channel.unspendable_punishment_reserve.unwrap_or(0).saturating_mul(1000);
	let held = channel.pending_outbound_htlcs.iter().filter(|htlc| {
		use OutboundHTLCStateDetails::*;
		matches!(htlc.state, Some(AwaitingRemoteRevokeToAdd | Committed))
	});
	let held: u64 = held.map(|htlc| htlc.amount_msat).sum();
	let free = channel.outbound_capacity_msat.saturating_add(reserve).saturating_add(anchors(channel.is_outbound));
	let own = free.saturating_add(held);
	// What neither side has: claims in LDK's holding cell. (The peer's balance is only known above its reserve.)
	let nobody = capacity.saturating_sub(own).saturating_sub(remote).saturating_sub(waiting);
	let in_cell = if channel.inbound_capacity_msat > 0 { nobody.min(claimed) } else { 0 };
	Msat(own.saturating_add(in_cell))
}

/// The reserve of a channel that is being made larger, in satoshis: a hundredth of what it will be.
fn coming_reserve(channel: &ChannelDetails) -> u64 {
	let candidates = channel.splice_details.iter().flat_map(|details| &details.candidates);
	let coming = candidates.filter_map(|candidate| match candidate.status {
		SpliceCandidateStatus::Negotiated { new_channel_value_satoshis, .. } => Some(new_channel_value_satoshis / 100),
		_ => None,
	});
	coming.max().unwrap_or(0)
}

fn standing(channel: &ChannelDetails) -> Option<Standing> {
	let funding = channel.funding_txo?.into_bitcoin_outpoint();
	Some(Standing {
		channel_id: channel.channel_id.0,
		client: channel.counterparty.node_id,
		funding: Some(funding),
		capacity: Sat(channel.channel_value_satoshis),
		ours: ours(channel),
	})
}

impl Hands {
	/// What moved and is not booked.
	pub(crate) fn money(&self, book: &Book) -> Vec<Input> {
		let (height, _) = self.seen();
		let Some(state) = book.books().state() else {
			return vec![Input::Money(self.opening(height))];
		};
		let version = (self.version(), self.lightning.changes(), book.next_entry());
		if self.books.version.lock().expect("not poisoned").replace(version) == Some(version) {
			return Vec::new();
		}
		let mut facts = Vec::new();
		facts.extend(self.wallet_fact(book, state.height, height));
		facts.extend(self.endings(book.books(), height));
		let compared = self.compare(book);
		if facts.is_empty() && compared.agrees() && compared.agreed.0 < compared.entries {
			facts.push(Fact::Agreed { before: compared.entries });
		}
		facts.into_iter().map(Input::Money).collect()
	}

	fn opening(&self, height: u32) -> Fact {
		let channels = self.lightning.manager.list_channels();
		let mut standings: Vec<Standing> = channels.iter().filter_map(standing).collect();
		let monitors = &self.lightning.monitor;
		for id in monitors.list_monitors() {
			if standings.iter().any(|known| known.channel_id == id.0) {
				continue;
			}
			let Ok(monitor) = monitors.get_monitor(id) else { continue };
			let claimable: u64 = monitor.get_claimable_balances().iter().map(|b| b.claimable_amount_satoshis()).sum();
			let funding = monitor.get_funding_txo().into_bitcoin_outpoint();
			let swept = self.wallet.is_paid_from(funding);
			standings.push(Standing {
				channel_id: id.0,
				client: monitor.get_counterparty_node_id(),
				funding: Some(funding),
				capacity: Sat(0),
				ours: Msat(if swept { 0 } else { claimable.saturating_mul(1000) }),
			});
		}
		let txs = self.wallet.transactions_since(height.saturating_sub(FINAL_AFTER));
		Fact::Opening {
			height,
			wallet: Msat(self.wallet.total().to_sat().saturating_mul(1000)),
			channels: standings,
			txs: txs.iter().map(|view| (view.txid, view.height, view.delta_msat())).collect(),
		}
	}

	/// What is new since the books were at height `booked_at`.
	fn wallet_fact(&self, book: &Book, booked_at: u32, height: u32) -> Option<Fact> {
		let final_at = booked_at.saturating_sub(FINAL_AFTER);
		let views = self.wallet.transactions_since(final_at);
		let booked = book.books().txs();
		let there: BTreeMap<Txid, &WalletView> = views.iter().map(|view| (view.txid, view)).collect();
		let gone = gone(booked, |txid| there.contains_key(txid), final_at);
		let moved: Vec<(Txid, Option<u32>)> = booked
			.values()
			.filter_map(|tx| Some((tx.txid, there.get(&tx.txid)?.height)).filter(|(_, height)| *height != tx.height))
			.collect();
		let fresh: Vec<&WalletView> = views.iter().filter(|view| !booked.contains_key(&view.txid)).collect();
		let nothing = fresh.is_empty() && gone.is_empty() && moved.is_empty();
		if nothing && height < booked_at.saturating_add(FINAL_AFTER / 2) {
			return None;
		}
		let reader = Reader::new(self, book, &fresh);
		let txs = fresh.iter().map(|view| WalletTx {
			txid: view.txid,
			delta_msat: view.delta_msat(),
			height: view.height,
			purpose: reader.purpose(view),
		});
		Some(Fact::Wallet { height, txs: txs.collect(), gone, moved })
	}

	/// Channels that LDK has no more, and closed ones of which nothing more is to come.
	fn endings(&self, books: &Books, height: u32) -> Vec<Fact> {
		let open = self.lightning.manager.list_channels();
		let is_open = |id: &[u8; 32]| open.iter().any(|channel| channel.channel_id.0 == *id);
		let tracked = self.lightning.sweeper.tracked_spendable_outputs();
		let mut facts = Vec::new();
		for sums in books.channels() {
			let Some(channel_id) = sums.channel_id().filter(|id| !is_open(id)) else { continue };
			if sums.closed_at.is_none() {
				facts.push(Fact::Closed { channel_id });
				continue;
			}
			let unswept = tracked.iter().any(|output| output.channel_id == Some(ChannelId(channel_id)));
			let monitor = self.lightning.monitor.get_monitor(ChannelId(channel_id));
			let claimable = monitor.is_ok_and(|monitor| !monitor.get_claimable_balances().is_empty());
			let unsure = sums.funding.is_some_and(|funding| self.wallet.is_withheld(&funding.txid))
				|| self.wallet.is_splicing(&channel_id);
			// LDK reckons with the balance of a channel whose funding was never sent for ever.
			let never = sums.funding.is_some_and(|funding| self.wallet.is_unsent(&funding.txid));
			let mut empty = self.books.empty.lock().expect("not poisoned");
			if unswept || (claimable && !never) || unsure {
				empty.remove(&channel_id);
			} else if height >= empty.entry(channel_id).or_insert(height).saturating_add(SETTLED_AFTER) {
				empty.remove(&channel_id);
				facts.push(Fact::Settled { channel_id });
			}
		}
		facts
	}

	/// Compares the books with what LDK and BDK say.
	pub(crate) fn compare(&self, book: &Book) -> Comparison {
		let books = book.books();
		let channels = self.lightning.manager.list_channels();
		let balances = books.balances();
		let mut result = Comparison {
			entries: book.next_entry(),
			sum_msat: balances.values().fold(0, |sum, msat| sum.saturating_add(*msat)),
			wallet: (books.balance(Account::Wallet), signed(self.wallet.total().to_sat().saturating_mul(1000))),
			channels: (books.balance(Account::Unassigned), 0),
			agreed: books.state().map_or((0, 0), |state| (state.agreed_before, state.agreed_at.0)),
			..Comparison::default()
		};
		let (mut open, splices) = (Vec::new(), self.wallet.splices());
		let coming = channels.iter().map(|channel| on_its_way(channel, &splices));
		let standings = channels.iter().zip(coming).filter_map(|(one, coming)| Some((standing(one)?, coming)));
		for (standing, coming) in standings {
			let booked = books.balance(Account::Channel(standing.channel_id));
			let there = signed(standing.ours.0.saturating_add(coming.to_sat().saturating_mul(1000)));
			result.channels = (result.channels.0.saturating_add(booked), result.channels.1.saturating_add(there));
			let key = ChannelSums::key_of(&standing.channel_id);
			if booked != there {
				result.differing.push((key.clone(), booked, there));
			}
			open.push(key);
		}
		let closed = books.channels().filter(|sums| !open.contains(&sums.key));
		result.closing_msat = closed.map(|sums| sums.balance_msat).sum();
		let in_flight =
			|channel: &ChannelDetails| channel.pending_inbound_htlcs.len() + channel.pending_outbound_htlcs.len();
		result.in_flight = channels.iter().map(in_flight).sum();
		result
	}
}

/// Booked transactions that the wallet has no more. It is asked for those above `final_at` only: of one that was mined below,
/// nothing is said.
fn gone(booked: &BTreeMap<Txid, BookedTx>, is_there: impl Fn(&Txid) -> bool, final_at: u32) -> Vec<Txid> {
	let asked_for = |tx: &&BookedTx| tx.height.is_none_or(|mined| mined > final_at);
	booked.values().filter(asked_for).map(|tx| tx.txid).filter(|txid| !is_there(txid)).collect()
}

/// A balance that a peer gave us when it opened this channel.
pub fn given(lightning: &Lightning, peer: &PublicKey, channel_id: ChannelId) -> Option<Fact> {
	let channels = lightning.manager.list_channels_with_counterparty(peer);
	let channel = channels.iter().find(|channel| channel.channel_id == channel_id && !channel.is_outbound)?;
	Some(Fact::Given { channel: standing(channel)? })
}

/// Tells what the wallet's transactions are for.
struct Reader<'a> {
	hands: &'a Hands,
	book: &'a Book,
	/// Fundings among the transactions themselves.
	fresh: Vec<Txid>,
	/// What closed channels left, and of which channel.
	outputs: HashMap<OutPoint, Flow>,
	/// Where refunds of orders go.
	refunds: HashMap<String, OrderId>,
	channels: Vec<ChannelDetails>,
}

impl<'a> Reader<'a> {
	fn new(hands: &'a Hands, book: &'a Book, fresh: &[&WalletView]) -> Reader<'a> {
		let tracked = hands.lightning.sweeper.tracked_spendable_outputs().into_iter();
		let outputs = tracked.filter_map(|output| {
			let channel_id = output.channel_id?.0;
			let (outpoint, value) = descriptor(&output.descriptor);
			Some((outpoint, Flow { channel_id, amount: Msat(value.saturating_mul(1000)) }))
		});
		let orders = if fresh.is_empty() { None } else { Some(book.orders()) };
		let refunds = orders.into_iter().flatten().filter_map(|order| {
			let refund = order.onchain.as_ref()?.refund.as_ref()?;
			Some((refund.address.clone(), order.id.clone()))
		});
		Reader {
			hands,
			book,
			fresh: fresh
				.iter()
				.filter(|view| !hands.wallet.funds_channels(&view.txid).is_empty())
				.map(|v| v.txid)
				.collect(),
			outputs: outputs.collect(),
			refunds: refunds.collect(),
			channels: hands.lightning.manager.list_channels(),
		}
	}

	fn purpose(&self, view: &WalletView) -> Purpose {
		if let Some(purpose) = self.funding(view).or_else(|| self.splice(view)) {
			return purpose;
		}
		if let Some(channel_id) = view.tx.input.iter().find_map(|input| self.closed_by(input.previous_output)) {
			return Purpose::Close { channel_id };
		}
		let swept: Vec<Flow> =
			view.tx.input.iter().filter_map(|input| self.outputs.get(&input.previous_output).copied()).collect();
		if !swept.is_empty() {
			return Purpose::Sweep { outputs: swept };
		}
		match self.hands.wallet.bumped_channel(&view.txid) {
			Some(Some(channel_id)) if view.delta_msat() > 0 => return Purpose::Close { channel_id },
			Some(channel_id) => return Purpose::Bump { channel_id },
			None => {}
		}
		self.of_the_wallet(view)
	}

	fn funding(&self, view: &WalletView) -> Option<Purpose> {
		let channels = self.hands.wallet.funds_channels(&view.txid).into_iter();
		let channels: Option<Vec<_>> = channels.map(|(id, vout)| self.new_channel(view, id, vout)).collect();
		channels.filter(|channels| !channels.is_empty()).map(|channels| Purpose::Funding { channels })
	}

	fn new_channel(&self, view: &WalletView, user_channel_id: u128, vout: u32) -> Option<NewChannel> {
		let funding = OutPoint { txid: view.txid, vout };
		let capacity = Sat(view.tx.output.get(usize::try_from(vout).ok()?)?.value.to_sat());
		let channel = self.channels.iter().find(|channel| channel.user_channel_id == user_channel_id);
		let ours = channel.map(ours);
		let size = capacity.to_msat().unwrap_or(Msat::ZERO);
		Some(NewChannel {
			channel_id: v1_channel_id(funding),
			user_channel_id,
			client: channel.map(|channel| channel.counterparty.node_id),
			funding,
			capacity,
			given: ours.and_then(|ours| size.checked_sub(ours)).unwrap_or(Msat::ZERO),
		})
	}

	fn splice(&self, view: &WalletView) -> Option<Purpose> {
		let row = self.hands.wallet.splice_of(&view.txid)?;
		let funding = row.funding()?;
		let output = view.tx.output.get(usize::try_from(funding.vout).ok()?)?;
		Some(Purpose::Splice {
			channel_id: row.channel_id,
			user_channel_id: row.mark,
			funding,
			capacity: Sat(output.value.to_sat()),
			added: Msat(row.added.to_sat().saturating_mul(1000)),
		})
	}

	/// The channel whose funding this output is.
	fn closed_by(&self, outpoint: OutPoint) -> Option<[u8; 32]> {
		if u16::try_from(outpoint.vout).is_err() {
			return None;
		}
		let by_book = self.book.books().channel_of_funding(&outpoint).and_then(ChannelSums::channel_id);
		let id = v1_channel_id(outpoint);
		let known = || self.book.books().channel(&id).is_some();
		let made = || {
			let fundings = self.hands.wallet.funds_channels(&outpoint.txid);
			self.fresh.contains(&outpoint.txid) && fundings.iter().any(|(_, vout)| *vout == outpoint.vout)
		};
		by_book.or_else(|| (known() || made()).then_some(id))
	}

	fn of_the_wallet(&self, view: &WalletView) -> Purpose {
		let network = self.hands.network;
		let address = |script| Address::from_script(script, network).ok().map(|address| address.to_string());
		let paid = || view.tx.output.iter().filter_map(|output| Some((address(&output.script_pubkey)?, output.value)));
		if view.sent == bitcoin::Amount::ZERO {
			let mut orders: BTreeMap<OrderId, u64> = BTreeMap::new();
			for (address, value) in paid() {
				if let Some(order) = self.book.order_by_address(&address) {
					*orders.entry(order.id.clone()).or_default() += value.to_sat().saturating_mul(1000);
				}
			}
			return Purpose::Incoming { orders: orders.into_iter().map(|(id, msat)| (id, Msat(msat))).collect() };
		}
		if let Some(order) = paid().find_map(|(address, _)| self.refunds.get(&address).cloned()) {
			return Purpose::Refund { order };
		}
		match view.fee {
			Some(fee) if view.received + fee == view.sent => Purpose::Consolidation,
			Some(fee) => Purpose::Outgoing { fee: Msat(fee.to_sat().saturating_mul(1000)) },
			// Somebody else's coins are in it as well: a fee bump whose package is not known any more.
			None => Purpose::Bump { channel_id: None },
		}
	}
}

fn descriptor(output: &SpendableOutputDescriptor) -> (OutPoint, u64) {
	let (outpoint, value) = match output {
		SpendableOutputDescriptor::StaticOutput { outpoint, output, .. } => (outpoint, output.value),
		SpendableOutputDescriptor::DelayedPaymentOutput(delayed) => (&delayed.outpoint, delayed.output.value),
		SpendableOutputDescriptor::StaticPaymentOutput(payment) => (&payment.outpoint, payment.output.value),
	};
	(outpoint.into_bitcoin_outpoint(), value.to_sat())
}

fn signed(msat: u64) -> i64 {
	i64::try_from(msat).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
	use super::*;
	use bitcoin::hashes::Hash;
	use inlet_lsp::book::EntryKind;
	use inlet_lsp::time::Timestamp;

	fn booked(number: u8, height: Option<u32>) -> (Txid, BookedTx) {
		let txid = Txid::from_byte_array([number; 32]);
		let tx = BookedTx {
			txid,
			at: Timestamp(0),
			kind: EntryKind::BumpCost,
			amount_msat: -303_000,
			client: None,
			postings: Vec::new(),
			height,
			gone: false,
			done: false,
		};
		(txid, tx)
	}

	/// Many blocks at once, as after a night without power: what is new in the books was mined so deep that the wallet is not asked
	/// for it the next time.
	#[test]
	fn what_is_final_is_not_gone() {
		let (deep, recent, unmined) = (booked(1, Some(121)), booked(2, Some(300)), booked(3, None));
		let all: BTreeMap<Txid, BookedTx> = [deep, recent.clone(), unmined.clone()].into();
		assert_eq!(gone(&all, |_| true, 156), []);
		assert_eq!(gone(&all, |_| false, 156), [recent.0, unmined.0]);
	}
}
