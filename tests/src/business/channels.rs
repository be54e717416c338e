//! What the core wants done with channels, and what becomes of it.

use super::shop::{Event, Shop, bytes32, signed};
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid};
use inlet_lsp::book::{Account, NodeId};
use inlet_lsp::input::{Action, Input, OpenChannel};
use inlet_lsp::ledger::{Fact, Flow, NewChannel, Purpose};
use inlet_lsp::money::Msat;
use inlet_lsp::quote::{CLOSE_WEIGHT, FORCED_CLOSE_WEIGHT, FUNDING_WEIGHT};
use inlet_lsp::time::Timestamp;

/// The channel to the rest of the network: where payments come from and go to.
pub(super) const UPSTREAM: [u8; 32] = [0xee; 32];
/// What we get for routing a payment.
const ROUTING_PPM: i64 = 1_000;
/// What anchors take of a channel that is closed by force.
const ANCHORS_SAT: u64 = 660;

pub(super) struct Channel {
	pub(super) id: [u8; 32],
	pub(super) client: NodeId,
	pub(super) capacity: u64,
	/// Our side, in msat.
	pub(super) ours: i64,
	funding: OutPoint,
	pub(super) withheld: bool,
	pub(super) ready: bool,
	pub(super) open: bool,
	pub(super) opened_at: Timestamp,
	pub(super) used_at: Option<Timestamp>,
}

impl Channel {
	/// Ours, less the reserve.
	pub(super) fn sendable(&self) -> Msat {
		Msat(u64::try_from(self.ours - signed(self.capacity * 10)).unwrap_or(0))
	}

	/// Is it on the chain?
	pub(super) fn is_out(&self) -> bool {
		self.open && !self.withheld
	}
}

/// What a close costs, in satoshis: one by force takes its bump and its sweep as well.
pub(super) fn close_cost(feerate: inlet_lsp::money::FeePerKw, forced: bool) -> u64 {
	match forced {
		true => feerate.cost_ceil(FORCED_CLOSE_WEIGHT).0 + ANCHORS_SAT,
		false => feerate.cost_ceil(CLOSE_WEIGHT).0,
	}
}

impl Shop {
	pub(super) fn perform(&mut self, action: Action) {
		match action {
			Action::Send { peer, bytes } => {
				if let Ok(reply) = serde_json::from_slice(&bytes) {
					self.replies.insert(peer, reply);
				}
			}
			Action::OpenChannel(open) => self.open(&open),
			Action::ForwardHtlc { intercept_id, peer, channel_id, amount } => {
				self.forward(intercept_id, peer, channel_id, amount);
			}
			Action::FailHtlc { intercept_id, reason } => self.htlc_failed(&intercept_id, &reason),
			Action::BroadcastFunding { user_channel_id, channel_id, funding } => {
				let Some(channel) = self.channels.get_mut(&user_channel_id) else { return };
				channel.withheld = false;
				let fee = Some(self.feerate().cost_ceil(FUNDING_WEIGHT));
				self.give(Input::Funded { user_channel_id, channel_id, funding, fee, shared: false });
			}
			Action::CloseTogether { channel_id, .. } => {
				let mark = self.channels.iter().find(|(_, channel)| channel.id == channel_id).map(|(mark, _)| *mark);
				self.tally.reclaimed += 1;
				self.close(mark.expect("it was shown"), false);
			}
			Action::DiscardFunding { user_channel_id, funding, .. } => self.discard(user_channel_id, funding),
			Action::AbandonChannel { user_channel_id, .. } => {
				let reason = "abandoned".to_owned();
				if let Some(channel) = self.channels.get_mut(&user_channel_id) {
					channel.ready = false;
				}
				self.give(Input::ChannelClosed { user_channel_id, reason, by_client: false });
			}
			_ => {}
		}
	}

	fn open(&mut self, open: &OpenChannel) {
		if self.channels.contains_key(&open.user_channel_id) {
			return;
		}
		self.note_opening(open);
		let id = bytes32("channel", open.user_channel_id);
		let txid = Txid::from_byte_array(bytes32("funding", open.user_channel_id));
		let funding = OutPoint { txid, vout: 0 };
		let fee = open.feerate.cost_ceil(FUNDING_WEIGHT);
		let channel = Channel {
			id,
			client: open.peer,
			capacity: open.capacity.0,
			ours: signed(open.capacity.0 * 1000),
			funding,
			withheld: open.withhold,
			ready: false,
			open: true,
			opened_at: Timestamp(self.now),
			used_at: None,
		};
		self.channels.insert(open.user_channel_id, channel);
		let channel = NewChannel {
			channel_id: id,
			user_channel_id: open.user_channel_id,
			client: Some(open.peer),
			funding,
			capacity: open.capacity,
			given: Msat::ZERO,
		};
		let purpose = Purpose::Funding { channels: vec![channel] };
		self.wallet(txid, -signed((open.capacity.0 + fee.0) * 1000), purpose);
		self.after(4_000, Event::Opened(open.user_channel_id));
	}

	pub(super) fn opened(&mut self, user_channel_id: u128) {
		let feerate = self.feerate();
		let Some(channel) = self.channels.get_mut(&user_channel_id).filter(|channel| channel.open) else { return };
		channel.ready = true;
		let (channel_id, funding, withheld, peer) = (channel.id, channel.funding, channel.withheld, channel.client);
		match withheld {
			true => self.give(Input::FundingWithheld { user_channel_id, channel_id, funding }),
			false => {
				let fee = Some(feerate.cost_ceil(FUNDING_WEIGHT));
				self.give(Input::Funded { user_channel_id, channel_id, funding, fee, shared: false });
			}
		}
		self.give(Input::ChannelReady { user_channel_id, channel_id });
		self.settles_in(&peer);
	}

	fn discard(&mut self, user_channel_id: u128, funding: OutPoint) {
		if let Some(channel) = self.channels.get_mut(&user_channel_id).filter(|channel| channel.withheld) {
			(channel.open, channel.withheld) = (false, false);
			let of_wallet = |tx: &inlet_lsp::book::BookedTx| {
				tx.postings.iter().find(|one| one.account == Account::Wallet).map_or(0, |one| one.msat)
			};
			self.coins -= self.book.books().txs().get(&funding.txid).map_or(0, of_wallet);
			let gone = vec![funding.txid];
			self.tell(Fact::Wallet { height: self.height(), txs: vec![], gone, moved: vec![] });
		}
		self.give(Input::FundingDiscarded { user_channel_id });
	}

	fn forward(&mut self, intercept_id: [u8; 32], peer: NodeId, channel_id: [u8; 32], amount: Msat) {
		let Some((inbound, call)) = self.held.remove(&intercept_id) else { return };
		if self.people.get(&call.who).is_some_and(|person| person.abuses) {
			return self.give(Input::ForwardFailed { peer, channel_id, by_client: true });
		}
		let now = Timestamp(self.now);
		if let Some(channel) = self.channels.values_mut().find(|channel| channel.id == channel_id) {
			channel.ours -= signed(amount.0);
			channel.used_at = Some(now);
		}
		self.upstream += signed(inbound);
		let skimmed = Msat(inbound - amount.0);
		self.give(Input::Forwarded {
			next_peer: Some(peer),
			next_channel: Some(channel_id),
			total_fee: skimmed,
			skimmed,
			reference: format!("{:?}", &intercept_id[..8]),
			came: vec![Flow { channel_id: UPSTREAM, amount: Msat(inbound) }],
			went: vec![Flow { channel_id, amount }],
			intercept_id: None,
		});
	}

	/// A payment of so many satoshis over one of the client's channels; `false` if none has room for it.
	pub(super) fn route(&mut self, peer: &NodeId, payment: u64, to_client: bool) -> bool {
		let (amount, now) = (signed(payment * 1000), Timestamp(self.now));
		let fits = |channel: &Channel| match to_client {
			true => signed(channel.sendable().0) > amount,
			false => signed(channel.capacity * 990) - channel.ours > amount,
		};
		let mut all = self.channels.values_mut();
		let Some(channel) = all.find(|c| c.client == *peer && c.is_out() && c.ready && fits(c)) else { return false };
		let (id, fee) = (channel.id, amount / 1_000_000 * ROUTING_PPM);
		channel.used_at = Some(now);
		channel.ours += if to_client { -amount } else { amount };
		let flow = |channel_id, msat: i64| vec![Flow { channel_id, amount: Msat(msat.unsigned_abs()) }];
		let (came, went, next) = match to_client {
			true => (flow(UPSTREAM, amount + fee), flow(id, amount), id),
			false => (flow(id, amount), flow(UPSTREAM, amount - fee), UPSTREAM),
		};
		self.upstream += if to_client { amount + fee } else { fee - amount };
		let reference = format!("use{}", self.rng.next());
		self.give(Input::Forwarded {
			next_peer: to_client.then_some(*peer),
			next_channel: Some(next),
			total_fee: Msat(fee.unsigned_abs()),
			skimmed: Msat::ZERO,
			reference,
			came,
			went,
			intercept_id: None,
		});
		true
	}

	pub(super) fn close(&mut self, user_channel_id: u128, forced: bool) {
		let cost = signed(close_cost(self.feerate(), forced) * 1000);
		let Some(channel) = self.channels.get_mut(&user_channel_id) else { return };
		(channel.open, channel.ready) = (false, false);
		let (id, home) = (channel.id, (channel.ours - cost).max(0) / 1000 * 1000);
		self.give(Input::ChannelClosed { user_channel_id, reason: "closed".to_owned(), by_client: false });
		self.tell(Fact::Closed { channel_id: id });
		let txid = Txid::from_byte_array(bytes32("close", user_channel_id));
		self.wallet(txid, home, Purpose::Close { channel_id: id });
		self.tell(Fact::Settled { channel_id: id });
	}
}
