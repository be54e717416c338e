//! Payments to SCIDs: their parts, on their way through LDK to the client and back.

use super::agenda::Deed;
use super::parts::*;
use super::world::{Sim, id32};
use super::{Go, demand};
use inlet_lsp::book::NodeId;
use inlet_lsp::input::Input;
use inlet_lsp::money::Msat;

/// What the client waits for the rest of a payment, in milliseconds.
const CLIENT_PATIENCE: u64 = 60_000;
/// LDK fails a held HTLC by itself so many blocks before its outgoing side expires.
const LDK_FAILS_AT: u32 = 39;

impl Sim {
	/// A payer pays to what a client has bought.
	pub(crate) fn pay(&mut self, sale: usize) {
		let odd = self.rng.percent(self.temper.odd_payment);
		let bought = &self.bought[sale];
		let (size, min, max, mut scid) = (bought.size, bought.min, bought.max, bought.scid);
		let usual = |rng: &mut super::rng::Rng| rng.range(min, max.min(min.saturating_mul(20)).max(min));
		let mut total = size.unwrap_or_else(|| usual(&mut self.rng));
		let quirk = if odd { self.rng.range(1, 8) } else { 0 };
		match quirk {
			1 => total = (total / 2).max(1),
			2 => total += total / 2,
			3 => total = total.saturating_mul(3),
			4 => total = self.rng.range(1, 3_000),
			5 => scid += 1,
			_ => {}
		}
		let several = self.rng.percent(self.temper.splits);
		let count = if several { self.rng.range(2, 8).min(total) } else { 1 };
		let number = self.fresh();
		let payment =
			Payment { sale, scid, hash: id32(1, number), total, parts: Vec::new(), decided: false, seen: None };
		self.payments.insert(number, payment);
		let mut left = total;
		for part in 0..count {
			let last = part + 1 == count;
			let amount = if last { left } else { self.rng.range(1, (left / (count - part)).max(1)) };
			left -= amount;
			let blocks = if quirk == 6 { self.rng.range(36, 46) } else { self.rng.range(44, 160) };
			let late = if quirk == 7 && last { self.rng.range(20_000, 200_000) } else { self.rng.around(700) };
			if amount == 0 || (quirk == 8 && last && count > 1) {
				continue;
			}
			let expiry = self.chain.height + u32::try_from(blocks).expect("small");
			self.agenda.plan(self.now.0 + late, None, Deed::Part { payment: number, amount, expiry });
		}
		if self.rng.percent(25) {
			let at = self.now.0 + self.rng.around(60_000);
			self.agenda.plan(at, None, Deed::Pay { sale });
		}
	}

	/// A part arrives.
	pub(crate) fn part(&mut self, payment: u64, amount: u64, expiry: u32) {
		if !self.is_intercepted(payment) {
			return;
		}
		let number = self.fresh();
		let id = id32(2, number);
		let routing = if self.rng.percent(20) { self.rng.range(0, 5_000) } else { 0 };
		let (state, shown) = (HtlcState::Held, false);
		let htlc = Htlc { payment, inbound: amount + routing, expected: amount, expiry, state, saved: state, shown };
		self.ldk.htlcs.insert(id, htlc);
		self.ldk.held.insert(id);
		self.payments.get_mut(&payment).expect("known").parts.push(id);
		let input = self.intercepted(id);
		self.event(input);
	}

	/// LDK's event.
	pub(crate) fn intercepted(&self, id: [u8; 32]) -> Input {
		let htlc = &self.ldk.htlcs[&id];
		let payment = &self.payments[&htlc.payment];
		Input::HtlcIntercepted {
			intercept_id: id,
			scid: payment.scid,
			payment_hash: payment.hash,
			inbound: Msat(htlc.inbound),
			expected_outbound: Msat(htlc.expected),
			expiry_height: Some(htlc.expiry),
			channel: self.hop(payment),
		}
	}

	/// `fail_intercepted_htlc`.
	pub(crate) fn fail(&mut self, id: [u8; 32]) -> Vec<Input> {
		if !self.ldk.held.remove(&id) {
			return vec![Input::HtlcGone { intercept_id: id }];
		}
		self.ldk.htlcs.get_mut(&id).expect("held").state = HtlcState::Failed;
		self.ldk.dirty_htlcs.push(id);
		self.plan_save();
		Vec::new()
	}

	/// `forward_intercepted_htlc`.
	pub(crate) fn forward(
		&mut self,
		id: [u8; 32],
		peer: NodeId,
		channel_id: [u8; 32],
		amount: Msat,
	) -> Result<Vec<Input>, super::Stop> {
		if !self.ldk.held.contains(&id) {
			return Ok(vec![Input::HtlcGone { intercept_id: id }]);
		}
		let htlc = &self.ldk.htlcs[&id];
		let (payment, expected) = (htlc.payment, htlc.expected);
		demand(amount.0 > 0 && amount.0 <= expected, || format!("{amount} forwarded of {expected}"))?;
		let sale = &self.bought[self.payments[&payment].sale];
		let client = sale.client;
		demand(self.people[client].id == peer, || "forwarded to another client".into())?;
		let chosen = u128::from_be_bytes(channel_id[..16].try_into().expect("16 bytes"));
		if self.ldk.channels.get(&chosen).is_some_and(|channel| channel.stage == Stage::Closed) {
			// Closed, and its event is still to come: LDK refuses, and the node fails the HTLC.
			self.fail(id);
			return Ok(vec![Input::HtlcGone { intercept_id: id }]);
		}
		demand(self.is_usable(chosen), || format!("forwarded over channel {chosen:x}, which is not usable"))?;
		let mut over = chosen;
		if self.rng.percent(self.temper.ldk_trouble) {
			let other = self.people[client].channels.iter().copied().find(|id| *id != chosen && self.is_usable(*id));
			over = other.unwrap_or(over);
		}
		let skim = expected - amount.0;
		self.ldk.held.remove(&id);
		self.ldk.dirty_htlcs.push(id);
		let channel = self.ldk.channels.get_mut(&over).expect("usable");
		let reserve = (channel.capacity / 100).max(1_000) * 1_000;
		let room = channel.local.saturating_sub(channel.in_flight + reserve);
		let htlc = self.ldk.htlcs.get_mut(&id).expect("held");
		if room < amount.0 {
			(htlc.state, htlc.saved) = (HtlcState::Returned, HtlcState::Returned);
			self.failed_downstream(client, over, payment, false);
			return Ok(Vec::new());
		}
		channel.in_flight += amount.0;
		channel.pending.insert(id);
		htlc.state = HtlcState::Forwarded { channel: over, amount: amount.0 };
		self.check_skim(payment, skim)?;
		self.plan_save();
		let at = self.now.0 + self.rng.range(20, 1_500);
		self.agenda.plan(at, None, Deed::ClientLooks { payment });
		Ok(Vec::new())
	}

	/// No payment may lose more than the fee that its size bears by the promise.
	fn check_skim(&mut self, payment: u64, skim: u64) -> Go {
		let paying = &self.payments[&payment];
		let mut all = 0;
		for id in &paying.parts {
			let htlc = &self.ldk.htlcs[id];
			if let HtlcState::Forwarded { amount, .. } = htlc.state {
				all += htlc.expected - amount;
			}
		}
		let sum: u64 = paying.parts.iter().map(|id| self.ldk.htlcs[id].expected).sum();
		let bought = &mut self.bought[paying.sale];
		let fee = bought.fee(bought.size.unwrap_or(sum));
		if skim > 0 {
			bought.owed = bought.owed.max(fee);
		}
		let blurred = self.people[bought.client].blurred;
		demand(blurred || all <= bought.owed.max(fee), || {
			format!("{all} msat skimmed of a payment, the promised fee is {fee}")
		})
	}

	fn failed_downstream(&mut self, client: usize, channel: u128, payment: u64, by_client: bool) {
		self.people[client].blurred |= self.has_in_flight(client, Some(payment));
		let (peer, channel_id) = (self.people[client].id, super::channels::channel_id(channel));
		self.event(Input::ForwardFailed { peer, channel_id, by_client });
	}

	/// Is an HTLC on its way to this client, of another payment than this one?
	pub(crate) fn has_in_flight(&self, client: usize, but: Option<u64>) -> bool {
		self.payments.iter().any(|(number, payment)| {
			Some(*number) != but
				&& self.bought[payment.sale].client == client
				&& payment.parts.iter().any(|id| matches!(self.ldk.htlcs[id].state, HtlcState::Forwarded { .. }))
		})
	}

	/// The client looks at what it has of a payment.
	pub(crate) fn client_looks(&mut self, number: u64) {
		let payment = &self.payments[&number];
		let mine: Vec<[u8; 32]> = payment.parts.iter().copied().filter(|id| self.is_with_client(id)).collect();
		if mine.is_empty() {
			return;
		}
		let sale = &self.bought[payment.sale];
		let soonest = mine.iter().map(|id| self.ldk.htlcs[id].expiry).min().unwrap_or_default();
		if payment.decided || self.chain.height >= soonest {
			return mine.into_iter().for_each(|id| self.refuse(id));
		}
		let sum: u64 = mine.iter().map(|id| self.ldk.htlcs[id].expected).sum();
		let online = self.people[sale.client].online;
		let seen = payment.seen.unwrap_or(self.now.0);
		let total = payment.total;
		self.payments.get_mut(&number).expect("known").seen = Some(seen);
		if online && sum >= total {
			self.payments.get_mut(&number).expect("known").decided = true;
			let denies = self.rng.percent(self.temper.denies_payment);
			let partly = mine.len() > 1 && self.rng.percent(self.temper.takes_partly);
			for (position, id) in mine.into_iter().enumerate() {
				if denies || (partly && position > 0) { self.refuse(id) } else { self.settle(id) }
			}
		} else if online && self.now.0 >= seen + CLIENT_PATIENCE {
			mine.into_iter().for_each(|id| self.refuse(id));
			self.payments.get_mut(&number).expect("known").seen = None;
		} else {
			self.agenda.plan(self.now.0 + 20_000, None, Deed::ClientLooks { payment: number });
		}
	}

	fn is_with_client(&self, id: &[u8; 32]) -> bool {
		match self.ldk.htlcs[id].state {
			HtlcState::Forwarded { channel, .. } => self.ldk.channels[&channel].stage == Stage::Ready,
			_ => false,
		}
	}

	pub(crate) fn settle(&mut self, id: [u8; 32]) {
		let htlc = self.ldk.htlcs.get_mut(&id).expect("known");
		let HtlcState::Forwarded { channel, amount } = htlc.state else { return };
		(htlc.state, htlc.saved) = (HtlcState::Settled, HtlcState::Settled);
		let (inbound, expected, payment) = (htlc.inbound, htlc.expected, htlc.payment);
		let over = self.ldk.channels.get_mut(&channel).expect("known");
		over.local -= amount;
		over.in_flight -= amount;
		over.pending.remove(&id);
		let client = over.client;
		self.upstream += i128::from(inbound);
		self.bought[self.payments[&payment].sale].paid += expected - amount;
		self.tally.settled += 1;
		self.tally.woken += u64::from(self.bought[self.payments[&payment].sale].hop.is_some());
		self.event(Input::Forwarded {
			next_peer: Some(self.people[client].id),
			next_channel: Some(super::channels::channel_id(channel)),
			total_fee: Msat(inbound - amount),
			skimmed: Msat(expected - amount),
			intercept_id: Some(id),
			reference: format!("{}", u64::from_be_bytes(id[8..16].try_into().expect("8 bytes"))),
			came: Vec::new(),
			went: Vec::new(),
		});
	}

	pub(crate) fn refuse(&mut self, id: [u8; 32]) {
		let htlc = self.ldk.htlcs.get_mut(&id).expect("known");
		let HtlcState::Forwarded { channel, amount } = htlc.state else { return };
		(htlc.state, htlc.saved) = (HtlcState::Returned, HtlcState::Returned);
		let payment = htlc.payment;
		let over = self.ldk.channels.get_mut(&channel).expect("known");
		over.in_flight -= amount;
		over.pending.remove(&id);
		let (client, closed) = (over.client, over.stage == Stage::Closed && over.was_out);
		if closed {
			over.local -= amount;
			self.sweep_later(amount);
		}
		self.failed_downstream(client, channel, payment, true);
	}

	/// A new block: what LDK fails by itself, because it would expire.
	pub(crate) fn expire_htlcs(&mut self) -> Go {
		let height = self.chain.height;
		let late: Vec<[u8; 32]> =
			self.ldk.held.iter().copied().filter(|id| self.ldk.htlcs[id].expiry <= height + LDK_FAILS_AT).collect();
		for id in late {
			self.ldk.held.remove(&id);
			let htlc = self.ldk.htlcs.get_mut(&id).expect("held");
			(htlc.state, htlc.saved) = (HtlcState::Failed, HtlcState::Failed);
			let (shown, expiry) = (htlc.shown, htlc.expiry);
			let sale = || self.book.sale_by_intercept(&id);
			demand(!shown, || {
				format!(
					"{id:?}, which expires at {expiry}, was held until LDK failed it by itself at {height}: {:#?}",
					sale()
				)
			})?;
		}
		Ok(())
	}
}
