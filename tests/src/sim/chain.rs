//! The chain, the wallet's coins, and what people pay to orders' addresses.

use super::Go;
use super::agenda::Deed;
use super::parts::*;
use super::rng::Rng;
use super::world::{Sim, id32};
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid};
use inlet_lsp::book::{NodeId, Received};
use inlet_lsp::input::{Input, Sight};
use inlet_lsp::money::{FeePerKw, Sat};
use std::collections::{BTreeMap, BTreeSet};

/// Kept for the anchors of each channel, in satoshis, and for so many channels at most.
const ANCHOR_SAT: u64 = 10_000;
const MAX_ANCHORS: u64 = 20;

#[derive(Default)]
pub(crate) struct Chain {
	pub height: u32,
	pub synced: bool,
	pub feerate: Option<u32>,
	pub coins: Vec<Coin>,
	/// To orders' addresses.
	pub deposits: BTreeMap<String, Vec<Deposit>>,
	/// Refunds that were made, by order and number.
	pub sent: BTreeMap<(String, u32), Sent>,
	/// Coins of ours that refunds spend and that no buyer sent.
	pub own: BTreeSet<OutPoint>,
	/// What a refund spends must be in the chain before it.
	pub parents: BTreeMap<Txid, Vec<Txid>>,
	/// The height of the last look at clients that can be woken.
	pub surveyed: u32,
	/// Where each transaction was mined; `None` in the mempool.
	pub txs: BTreeMap<Txid, Option<u32>>,
}

pub(crate) fn txid(number: u64) -> Txid {
	Txid::from_byte_array(id32(3, number))
}

impl Chain {
	pub(crate) fn give(&mut self, number: u64, sat: u64, height: Option<u32>) {
		let outpoint = OutPoint::new(txid(number), 0);
		self.txs.insert(outpoint.txid, height);
		self.coins.push(Coin { outpoint, sat, locked: None });
	}

	/// Confirmations.
	pub(crate) fn depth_of(&self, txid: Txid) -> u32 {
		self.txs.get(&txid).copied().flatten().map_or(0, |mined| self.height + 1 - mined)
	}

	pub(crate) fn confirmed(&self) -> u64 {
		let free = |coin: &&Coin| coin.locked.is_none() && self.depth_of(coin.outpoint.txid) > 0;
		self.coins.iter().filter(free).map(|coin| coin.sat).sum()
	}

	/// The largest coins that make up what `need` asks of so many inputs; indices.
	pub(crate) fn select(&self, need: impl Fn(u64) -> u64) -> Option<Vec<usize>> {
		let free = |at: &usize| self.coins[*at].locked.is_none() && self.depth_of(self.coins[*at].outpoint.txid) > 0;
		let mut candidates: Vec<usize> = (0..self.coins.len()).filter(free).collect();
		candidates.sort_by_key(|at| std::cmp::Reverse(self.coins[*at].sat));
		let mut sum = 0;
		for count in 0..candidates.len() {
			sum += self.coins[candidates[count]].sat;
			if sum >= need(count as u64 + 1) {
				return Some(candidates[..=count].to_vec());
			}
		}
		None
	}

	/// Locks coins for a channel; what is left must be `keep`. Gives the funding output and the miner's fee.
	pub(crate) fn fund(&mut self, id: u128, capacity: u64, feerate: u64, keep: u64) -> Option<(OutPoint, u64)> {
		let fee = |inputs: u64| (feerate * (400 + 230 * inputs)).div_ceil(1_000);
		let chosen = self.select(|inputs| capacity + fee(inputs))?;
		let fee = fee(chosen.len() as u64);
		if self.confirmed().checked_sub(capacity + fee)? < keep {
			return None;
		}
		chosen.into_iter().for_each(|at| self.coins[at].locked = Some(id));
		let funding = Txid::from_byte_array(super::channels::channel_id(id));
		Some((OutPoint::new(funding, 0), fee))
	}

	pub(crate) fn broadcast(&mut self, id: u128, funding: OutPoint, spent: u64) {
		let inputs: u64 = self.coins.iter().filter(|coin| coin.locked == Some(id)).map(|coin| coin.sat).sum();
		self.coins.retain(|coin| coin.locked != Some(id));
		self.txs.insert(funding.txid, None);
		if inputs > spent {
			let outpoint = OutPoint::new(funding.txid, 1);
			self.coins.push(Coin { outpoint, sat: inputs - spent, locked: None });
		}
	}

	pub(crate) fn release(&mut self, id: u128) {
		self.coins.iter_mut().filter(|coin| coin.locked == Some(id)).for_each(|coin| coin.locked = None);
	}

	/// Frees what is locked for others than these channels.
	pub(crate) fn release_but(&mut self, kept: &BTreeSet<u128>) {
		let freed = |coin: &&mut Coin| coin.locked.is_some_and(|id| !kept.contains(&id));
		self.coins.iter_mut().filter(freed).for_each(|coin| coin.locked = None);
	}

	pub(crate) fn is_broadcast(&self, txid: &Txid) -> bool {
		self.txs.contains_key(txid)
	}

	pub(crate) fn is_locked(&self, id: u128) -> bool {
		self.coins.iter().any(|coin| coin.locked == Some(id))
	}

	/// Mines what is in the mempool, most of it.
	fn mine(&mut self, rng: &mut Rng, refund_mined: u32) {
		self.height += 1;
		self.choose_forms(rng);
		let height = self.height;
		let waiting: Vec<Txid> = self.txs.iter().filter(|(_, mined)| mined.is_none()).map(|(txid, _)| *txid).collect();
		let first: BTreeSet<Txid> =
			self.sent.values().filter(|sent| sent.live == 0).map(|sent| sent.live().txid).collect();
		let mined: Vec<Txid> = waiting
			.into_iter()
			.filter(|txid| rng.percent(if first.contains(txid) { refund_mined } else { 80 }))
			.collect();
		let (children, others): (Vec<Txid>, Vec<Txid>) =
			mined.into_iter().partition(|txid| self.parents.contains_key(txid));
		for txid in others.into_iter().chain(children) {
			let parents = self.parents.get(&txid).into_iter().flatten();
			if parents.into_iter().all(|parent| self.txs.get(parent).copied().flatten().is_some()) {
				self.txs.insert(txid, Some(height));
			}
		}
	}

	fn unmine(&mut self, depth: u32) {
		self.height -= depth;
		let height = self.height;
		self.txs.values_mut().filter(|mined| mined.is_some_and(|at| at > height)).for_each(|mined| *mined = None);
	}

	/// Some payments in the mempool are replaced, if nobody has spent them yet.
	fn double_spend(&mut self, rng: &mut Rng, percent: u32) {
		self.double_spend_refunded(rng, percent);
		for list in self.deposits.values_mut() {
			list.retain(|deposit| {
				let unmined = self.txs.get(&deposit.outpoint.txid) == Some(&None);
				let coin = self.coins.iter().position(|coin| coin.outpoint == deposit.outpoint);
				let Some(at) = coin.filter(|at| unmined && self.coins[*at].locked.is_none()) else { return true };
				if !rng.percent(percent) {
					return true;
				}
				self.coins.remove(at);
				false
			});
		}
	}

	/// What an address holds, as the wallet reports it.
	fn received(&self, address: &str) -> Vec<Received> {
		let Some(list) = self.deposits.get(address) else { return Vec::new() };
		let mut received: Vec<Received> = list
			.iter()
			.map(|deposit| Received {
				outpoint: deposit.outpoint,
				value: Sat(deposit.sat),
				confirmations: self.depth_of(deposit.outpoint.txid),
				feerate: Some(FeePerKw(deposit.feerate)),
			})
			.collect();
		received.sort_by_key(|output| output.outpoint);
		received
	}
}

impl Sim {
	pub(crate) fn anchor_reserve(&self, more: u64) -> u64 {
		ANCHOR_SAT * (self.open_channels + more).min(MAX_ANCHORS)
	}

	/// What the node says it could fund a channel with.
	pub(crate) fn spendable(&self) -> u64 {
		(self.chain.confirmed() + self.spent_reservations()).saturating_sub(self.anchor_reserve(1))
	}

	/// A block, or several instead of some that were there.
	pub(crate) fn block(&mut self) -> Go {
		let at = self.now.0 + self.rng.around(self.block_pace).max(1_000);
		self.agenda.plan(at, None, Deed::Block);
		self.chain.double_spend(&mut self.rng, self.temper.double_spend);
		if self.rng.percent(self.temper.reorg) {
			let depth = u32::try_from(self.rng.range(1, 3)).expect("small");
			self.chain.unmine(depth);
			self.chain.double_spend(&mut self.rng, self.temper.double_spend);
			for _ in 0..depth {
				self.chain.mine(&mut self.rng, self.temper.refund_mined);
			}
		}
		self.chain.mine(&mut self.rng, self.temper.refund_mined);
		self.expire_htlcs()?;
		self.expire_holds()?;
		self.look()
	}

	/// The node looks at the chain: fundings of orders, clients that can be woken, refunds, orders' addresses, then a tick.
	pub(crate) fn look(&mut self) -> Go {
		self.look_at_fundings()?;
		self.survey()?;
		self.look_at_refunds()?;
		let addresses: Vec<String> = self.chain.deposits.keys().cloned().collect();
		for address in addresses {
			let received = self.chain.received(&address);
			let order = self.book.order_by_address(&address);
			let known = order.and_then(|order| order.onchain.as_ref());
			if known.is_some_and(|known| known.received != received) {
				self.take(Input::AddressActivity { address, received })?;
			}
		}
		self.take(Input::Tick)
	}

	/// Once a block, a look at all clients that can be woken.
	fn survey(&mut self) -> Go {
		if std::mem::replace(&mut self.chain.surveyed, self.chain.height) == self.chain.height {
			return Ok(());
		}
		let clients: Vec<Sight> = self.book.sleepers().map(|client| self.sight(client.id)).collect();
		if clients.is_empty() { Ok(()) } else { self.take(Input::Survey { clients }) }
	}

	fn sight(&self, client: NodeId) -> Sight {
		let person = &self.people[self.by_node[&client]];
		let channels = person.channels.iter().map(|id| &self.ldk.channels[id]);
		let pending = channels.clone().flat_map(|channel| &channel.pending).map(|id| self.ldk.htlcs[id].expiry + 3);
		let has_channel = channels.clone().any(|channel| channel.stage == Stage::Ready);
		Sight { client, connected: person.online, has_channel, closes_at: pending.min() }
	}

	/// Somebody pays to an order's address.
	pub(crate) fn pay_address(&mut self, address: String, sat: u64) -> Go {
		let number = self.fresh();
		self.chain.give(number, sat, None);
		let feerate = u32::try_from(self.rng.range(253, 60_000)).expect("small");
		let deposit = Deposit { outpoint: OutPoint::new(txid(number), 0), sat, feerate };
		self.chain.deposits.entry(address).or_default().push(deposit);
		self.look()
	}

	/// The fee market moves.
	pub(crate) fn fees(&mut self) {
		let usual = self.rng.range(self.temper.feerate * 4 / 5, self.temper.feerate * 6 / 5).max(253);
		let spike = if self.rng.percent(self.temper.fee_spike) { self.rng.range(2, 60) } else { 1 };
		let feerate = u32::try_from(usual * spike).expect("small");
		self.chain.feerate = Some(feerate).filter(|_| !self.rng.percent(self.temper.no_estimate));
		let at = self.now.0 + self.rng.around(60_000);
		self.agenda.plan(at, None, Deed::Fees);
	}
}
