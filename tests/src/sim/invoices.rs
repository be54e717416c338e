//! Orders' hold invoices: made, paid, held, claimed or failed.

use super::agenda::Deed;
use super::parts::*;
use super::world::{Sim, id32};
use super::{Go, demand};
use inlet_lsp::book::OrderState;
use inlet_lsp::input::Input;
use inlet_lsp::money::Msat;

impl Sim {
	/// Invoice and address are made, or not.
	pub(crate) fn prepared(&mut self, order: String, invoice: bool, address: bool, sat: u64) -> Go {
		if self.rng.percent(self.temper.ldk_trouble) {
			return self.take(Input::PrepareFailed { order, reason: "no".into() });
		}
		let number = self.fresh();
		let hash = invoice.then(|| id32(4, number));
		let address = address.then(|| format!("address{number}"));
		self.offers.insert(order.clone(), Offer { hash, address: address.clone(), sat });
		let invoice = hash.map(|hash| (format!("invoice{number}"), hash));
		self.take(Input::PaymentPrepared { order, invoice, address })
	}

	/// A client that was answered pays, one way or the other, in time or not.
	pub(crate) fn pay_order(&mut self, order: &str) {
		let Some(offer) = self.offers.get(order) else { return };
		let (hash, address, sat) = (offer.hash, offer.address.clone(), offer.sat);
		let window = self.temper.policy.lsps1.payment_window_secs * 1_000;
		let odd = self.rng.percent(self.temper.odd_payment);
		let onchain = self.rng.percent(self.temper.pays_onchain);
		let times = if odd { self.rng.range(0, 3) } else { 1 };
		for _ in 0..times {
			let late = if odd { self.rng.around(window) } else { self.rng.around(window / 20) };
			let both = odd && self.rng.percent(50);
			let at = self.now.0 + late;
			if let Some(address) = address.clone().filter(|_| onchain || both) {
				let share = if odd { self.rng.range(sat / 3, sat * 2).max(300) } else { sat };
				self.agenda.plan(at, None, Deed::PayAddress { address, sat: share });
			}
			if let Some(hash) = hash.filter(|_| !onchain || both) {
				let msat = if odd { sat * 1_000 + self.rng.range(0, 9_999) } else { sat * 1_000 };
				self.agenda.plan(at, None, Deed::PayInvoice { hash, msat });
			}
		}
	}

	/// A payment to an invoice: LDK holds it, unless it holds or has claimed one already, or the invoice is long past.
	pub(crate) fn pay_invoice(&mut self, hash: [u8; 32], msat: u64) {
		let known = self.ldk.holds.get(&hash).map(|hold| (hold.state, hold.saved));
		if known.is_some_and(|known| known != (HoldState::Failed, HoldState::Failed)) {
			return;
		}
		let blocks = u32::try_from(self.rng.range(3, 60)).expect("small");
		let (deadline, state) = (self.chain.height + blocks, HoldState::Held);
		self.ldk.holds.insert(hash, Hold { msat, deadline, state, saved: state });
		let claim_deadline = Some(deadline);
		self.event(Input::PaymentHeld { payment_hash: hash, amount: Msat(msat), claim_deadline });
	}

	/// `claim_funds`.
	pub(crate) fn claim(&mut self, order: &str, hash: [u8; 32]) -> Go {
		let row = self.book.order(order);
		let id = row.map(|row| row.user_channel_id);
		let out = id.and_then(|id| self.ldk.channels.get(&id)).is_some_and(|channel| channel.taken);
		demand(out, || format!("the payment of {order} is claimed, and its channel is not out"))?;
		if let Some(hold) = self.ldk.holds.get_mut(&hash).filter(|hold| hold.state == HoldState::Held) {
			hold.state = HoldState::Claiming;
			self.ldk.dirty_holds.push(hash);
			self.plan_save();
		}
		Ok(())
	}

	/// `fail_htlc_backwards`.
	pub(crate) fn fail_hold(&mut self, hash: [u8; 32]) -> Go {
		if let Some(order) = self.book.order_by_payment_hash(&hash)
			&& matches!(order.state, OrderState::Failed { .. } | OrderState::Refunding { .. })
		{
			let mut attempts = order.earlier_channel_ids.iter().chain([&order.user_channel_id]);
			let there = attempts.any(|id| self.ldk.channels.get(id).is_some_and(|channel| channel.was_out));
			demand(!there || order.lapsed, || format!("{} has its channel and its money back", order.id))?;
		}
		if let Some(hold) = self.ldk.holds.get_mut(&hash).filter(|hold| hold.state == HoldState::Held) {
			hold.state = HoldState::Failed;
			self.ldk.dirty_holds.push(hash);
			self.plan_save();
		}
		Ok(())
	}

	/// LDK fails by itself what was not claimed in time.
	pub(crate) fn expire_holds(&mut self) -> Go {
		let height = self.chain.height;
		for hold in self.ldk.holds.values_mut() {
			if hold.state == HoldState::Held && hold.deadline <= height {
				(hold.state, hold.saved) = (HoldState::Failed, HoldState::Failed);
			}
		}
		Ok(())
	}
}
