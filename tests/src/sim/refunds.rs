//! Refunds: made once for each number of an order, mined in one of their forms, or lost with what they spend.

use super::Go;
use super::agenda::Deed;
use super::chain::{Chain, txid};
use super::demand;
use super::parts::*;
use super::rng::Rng;
use super::world::Sim;
use bitcoin::Txid;
use inlet_lsp::book::{OrderId, SETTLED};
use inlet_lsp::input::Input;
use inlet_lsp::money::Sat;

/// Virtual weight of a refund.
const WEIGHT: u64 = 850;
const DUST: u64 = 330;

impl Chain {
	/// Miners may prefer a form that was replaced.
	pub(crate) fn choose_forms(&mut self, rng: &mut Rng) {
		for sent in self.sent.values_mut().filter(|sent| !sent.dead && sent.forms.len() > 1) {
			if self.txs.get(&sent.live().txid) != Some(&None) || !rng.percent(10) {
				continue;
			}
			let form = rng.index(sent.forms.len());
			swap_form(&mut self.coins, &mut self.txs, &mut self.parents, sent, form);
		}
	}

	/// Payments in the mempool that a refund spends may be replaced: the refund goes with them.
	pub(crate) fn double_spend_refunded(&mut self, rng: &mut Rng, percent: u32) {
		for sent in self.sent.values_mut().filter(|sent| !sent.dead) {
			let change = sent.change(sent.live());
			let spent = change.sat > 0 && !self.coins.iter().any(|coin| coin.outpoint == change.outpoint);
			if self.txs.get(&sent.live().txid) != Some(&None) || spent {
				continue;
			}
			for list in self.deposits.values_mut() {
				let before = list.len();
				list.retain(|deposit| {
					let unmined = self.txs.get(&deposit.outpoint.txid) == Some(&None);
					let own = sent.inputs.iter().any(|coin| coin.outpoint == deposit.outpoint);
					!(unmined && own && rng.percent(percent))
				});
				sent.dead |= list.len() < before;
			}
			if sent.dead {
				let live = sent.live().txid;
				self.coins.retain(|coin| coin.outpoint.txid != live);
				self.txs.remove(&live);
				self.parents.remove(&live);
			}
		}
	}

	/// What is not more than that is not given back at the feerate of the day.
	pub(crate) fn refund_cost(&self) -> u64 {
		DUST + (u64::from(self.feerate.unwrap_or_default()) * WEIGHT).div_ceil(1_000)
	}

	/// What a refund that is dead spends besides what was taken back.
	fn left_of(&self, sent: &Sent) -> Vec<Coin> {
		let addressed = |coin: &Coin| self.own.contains(&coin.outpoint) || self.is_deposit(coin);
		sent.inputs.iter().filter(|coin| addressed(coin)).cloned().collect()
	}

	fn is_deposit(&self, coin: &Coin) -> bool {
		self.deposits.values().flatten().any(|deposit| deposit.outpoint == coin.outpoint)
	}

	/// What is locked in refunds that can never be mined, in satoshis.
	pub(crate) fn in_limbo(&self) -> u64 {
		let dead = self.sent.values().filter(|sent| sent.dead && !sent.withdrawn);
		dead.flat_map(|sent| self.left_of(sent)).map(|coin| coin.sat).sum()
	}
}

/// The refund is in the mempool in this form, and no longer in the one before.
fn swap_form(
	coins: &mut Vec<Coin>,
	txs: &mut std::collections::BTreeMap<Txid, Option<u32>>,
	parents: &mut std::collections::BTreeMap<Txid, Vec<Txid>>,
	sent: &mut Sent,
	form: usize,
) {
	let (old, new) = (sent.live().txid, sent.forms[form].txid);
	coins.retain(|coin| coin.outpoint.txid != old);
	txs.remove(&old);
	let from = parents.remove(&old).unwrap_or_default();
	parents.insert(new, from);
	txs.insert(new, None);
	sent.live = form;
	let change = sent.change(sent.live());
	if change.sat > 0 {
		coins.push(change);
	}
}

impl Sim {
	/// The wallet sends what the book wants, or says what it has sent under this number before.
	pub(crate) fn refund(&mut self, order: OrderId) -> Go {
		let from = self.refunding.get(&order).cloned().unwrap_or_default();
		let row = self.book.order(&order);
		let wanted = row.and_then(|row| {
			let (refund, onchain) = (row.pending_refund()?, row.onchain.as_ref()?);
			Some((onchain.refunds, refund.amount.0))
		});
		let Some((number, amount)) = wanted else {
			self.refunding.remove(&order);
			return Ok(());
		};
		if let Some(sent) = self.chain.sent.get(&(order.clone(), number)).filter(|sent| !sent.withdrawn) {
			self.refunding.remove(&order);
			let input = told(order, number, sent);
			return self.take(input);
		}
		let there = from.iter().all(|outpoint| self.chain.depth_of(outpoint.txid) > 0);
		let chosen = self.chain.feerate.filter(|_| there).and_then(|rate| {
			let own = |at: &usize| from.contains(&self.chain.coins[*at].outpoint);
			let free = |at: &usize| self.chain.coins[*at].locked.is_none();
			let own: Vec<usize> = (0..self.chain.coins.len()).filter(|at| own(at) && free(at)).collect();
			let sum: u64 = own.iter().map(|at| self.chain.coins[*at].sat).sum();
			let chosen = if sum >= amount { Some(own) } else { self.chain.select(|_| amount) };
			Some((rate, chosen?))
		});
		let Some((rate, mut chosen)) = chosen else {
			self.agenda.plan(self.now.0 + 60_000, Some(self.process), Deed::Refund { order });
			return Ok(());
		};
		chosen.sort_unstable();
		let mut inputs: Vec<Coin> = Vec::new();
		for at in chosen.into_iter().rev() {
			inputs.push(self.chain.coins.remove(at));
		}
		let fee = (u64::from(rate) * WEIGHT).div_ceil(1_000).min(amount);
		let txid = txid(self.fresh());
		let forms = vec![Form { txid, fee, borne: 0 }];
		let sent = Sent { amount, inputs, forms, live: 0, dead: false, withdrawn: false };
		self.chain.own.extend(sent.inputs.iter().map(|coin| coin.outpoint).filter(|outpoint| !from.contains(outpoint)));
		self.chain.own.retain(|outpoint| !self.chain.deposits.values().flatten().any(|one| one.outpoint == *outpoint));
		let change = sent.change(sent.live());
		if change.sat > 0 {
			self.chain.coins.push(change);
		}
		self.chain.txs.insert(txid, None);
		self.chain.parents.insert(txid, sent.inputs.iter().map(|coin| coin.outpoint.txid).collect());
		let input = told(order.clone(), number, &sent);
		self.chain.sent.insert((order.clone(), number), sent);
		self.tally.refunds += 1;
		self.refunding.remove(&order);
		self.check_refunds(&order)?;
		self.take(input)
	}

	/// Nobody gets more back than came.
	fn check_refunds(&self, id: &OrderId) -> Go {
		let Some(order) = self.book.order(id) else { return Ok(()) };
		let owed = self.owed_to(order);
		demand(owed >= 0, || format!("{} msat too much were given back for {id}", -owed))
	}

	/// The wallet raises a refund's fee, or finds that it can never be mined.
	pub(crate) fn bump(&mut self, order: OrderId, number: u32) -> Go {
		let key = (order.clone(), number);
		let Some(sent) = self.chain.sent.get(&key) else { return Ok(()) };
		if sent.withdrawn {
			return self.take(Input::RefundLost { order, number });
		}
		if sent.dead {
			let back = self.chain.left_of(sent);
			self.chain.coins.extend(back);
			self.chain.sent.get_mut(&key).expect("known").withdrawn = true;
			self.tally.lost += 1;
			return self.take(Input::RefundLost { order, number });
		}
		if self.chain.depth_of(sent.live().txid) > 0 {
			let input = told(order, number, sent);
			return self.take(input);
		}
		let shaky = sent.inputs.iter().any(|coin| self.chain.depth_of(coin.outpoint.txid) == 0);
		let Some(rate) = self.chain.feerate.filter(|_| !shaky) else { return Ok(()) };
		let newest = sent.forms.last().expect("one at least");
		let fee = (u64::from(rate) * WEIGHT).div_ceil(1_000).max(newest.fee + newest.fee / 4 + 1);
		let (paid, spare) = (sent.amount - (newest.fee - newest.borne), sent.change(newest).sat + newest.borne);
		let borne = if sent.amount >= fee + DUST { 0 } else { fee - (sent.amount - paid) };
		let live = sent.change(sent.live());
		let free = live.sat == 0 || self.chain.coins.iter().any(|coin| coin.outpoint == live.outpoint);
		if !free || (borne > 0 && spare < borne + DUST) {
			return Ok(());
		}
		let txid = txid(self.fresh());
		let chain = &mut self.chain;
		let sent = chain.sent.get_mut(&key).expect("known");
		sent.forms.push(Form { txid, fee, borne });
		let newest = sent.forms.len() - 1;
		swap_form(&mut chain.coins, &mut chain.txs, &mut chain.parents, sent, newest);
		self.tally.bumped += 1;
		let input = told(order, number, sent);
		self.take(input)
	}

	/// Refunds that stand otherwise in the chain than in the book.
	pub(crate) fn look_at_refunds(&mut self) -> Go {
		let mut seen = Vec::new();
		for (order, refund) in self.book.refunds_under_way() {
			let Some(newest) = refund.txid else { continue };
			let forms = refund.replaced.iter().map(|old| old.txid).chain([newest]);
			let mined = forms.map(|txid| (self.chain.depth_of(txid), txid)).max_by_key(|(depth, _)| *depth);
			let (depth, txid) = mined.filter(|(depth, _)| *depth > 0).unwrap_or((0, newest));
			let confirmations = depth.min(SETTLED);
			if (txid, confirmations) != (newest, refund.confirmations) {
				seen.push(Input::RefundSeen { order: order.id.clone(), txid, confirmations });
			}
		}
		seen.into_iter().try_for_each(|input| self.take(input))
	}
}

/// What the wallet says of the newest form.
fn told(order: OrderId, number: u32, sent: &Sent) -> Input {
	let newest = sent.forms.last().expect("one at least");
	let (amount, fee, borne) = (Sat(sent.amount), Sat(newest.fee), Sat(newest.borne));
	Input::RefundSent { order, number, txid: newest.txid, amount, fee, borne }
}
