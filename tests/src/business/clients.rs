//! Who comes, what a channel is worth to them, and what they do with it. `docs/business.md` names each figure.

use super::Days;
use super::shop::{Call, DAY, Event, HOUR, Shop, bytes32, node};
use crate::sim::Rng;
use inlet_lsp::admission;
use inlet_lsp::book::NodeId;
use inlet_lsp::input::Input;
use inlet_lsp::money::{FeePerKw, Msat};
use serde_json::{Value, json};

/// One in so many only wastes our money: half of them buy and never pay, half do not take the payment.
const ABUSERS: u64 = 8;
/// One in so many channels ends by force.
const FORCED: u64 = 12;
/// One in so many pays hours after it has bought.
const LATE: u64 = 4;

/// A client: nothing that a policy does changes who it is.
pub(super) struct Person {
	/// It does not take the payment that its channel is opened for.
	pub(super) abuses: bool,
	/// It buys, and nobody ever pays.
	idles: bool,
	/// The most that it gives for a channel, of the payment, in ppm.
	willing: u64,
	/// It gets and makes several payments a week.
	lively: bool,
	/// Did it have a channel?
	settled: bool,
	rng: Rng,
}

/// Between two amounts, as likely in each octave.
fn octaves(rng: &mut Rng, low: u64, times: u64) -> u64 {
	let low = low << rng.range(0, times - 1);
	low + rng.range(0, low)
}

impl Shop {
	/// About sixty a day, more in the evening.
	pub(super) fn arrivals(&mut self, days: &Days<'_>) {
		let mut crowd = Rng::new(days.seed);
		let mut who = 0;
		for hour in 0..days.days * 24 {
			let most = if (17..23).contains(&(hour % 24)) { 8 } else { 4 };
			for _ in 0..crowd.range(0, most) {
				who += 1;
				let mut rng = Rng::new(crowd.next());
				let willing = octaves(&mut rng, 5_000, 5) * days.generosity_ppm / 1_000_000;
				let lively = rng.range(0, 1) == 0;
				let (bad, idles) = (rng.range(1, ABUSERS) == 1, rng.range(0, 1) == 0);
				let (abuses, idles) = (bad && !idles, bad && idles);
				let (payment, minute) = (octaves(&mut rng, 10_000, 6), rng.range(0, HOUR - 1));
				self.people.insert(who, Person { abuses, idles, willing, lively, settled: false, rng });
				self.who.insert(node(who), who);
				self.at(hour * HOUR + minute, Event::Asks { who, payment });
			}
		}
	}

	/// A client asks for the price, and buys if a channel is worth it.
	pub(super) fn asks(&mut self, who: u64, payment: u64) {
		let peer = node(who);
		self.tally.asked += 1;
		let above = admission::at_ceilings(&self.lsp.policy, self.feerate(), 1).is_err();
		self.note_pause(above);
		let menu = self.request(peer, "lsps2.get_info", json!({}));
		let offer = menu["result"]["opening_fee_params_menu"][0].clone();
		assert!(!above || offer.is_null(), "offered above the ceiling: {offer}");
		if offer.is_null() {
			*(if above { &mut self.tally.paused } else { &mut self.tally.refused }) += 1;
			return;
		}
		let msat = |key: &str| offer[key].as_str().and_then(|text| text.parse::<u64>().ok()).expect("an amount");
		let size = payment * 1000;
		let share = size / 1_000_000 * offer["proportional"].as_u64().expect("a rate");
		let fee = msat("min_fee_msat").max(share);
		let Some(person) = self.people.get_mut(&who) else { return };
		if fee > size / 1_000_000 * person.willing || size < msat("min_payment_size_msat") {
			self.tally.too_dear += 1;
			return;
		}
		if size > msat("max_payment_size_msat") {
			self.tally.refused += 1;
			return;
		}
		let idles = person.idles;
		let patience = match person.rng.range(1, LATE) {
			1 => octaves(&mut person.rng, 600_000, 7),
			_ => person.rng.range(10_000, 600_000),
		};
		let size = size.to_string();
		let reply = self.request(peer, "lsps2.buy", json!({ "opening_fee_params": offer, "payment_size_msat": size }));
		let newest = self.book.sales().filter(|sale| sale.client == peer).max_by_key(|sale| sale.created_at);
		match (reply.get("result"), newest.map(|sale| sale.id.clone())) {
			(Some(_), Some(sale)) => {
				self.tally.bought += 1;
				if idles {
					self.tally.unpaid += 1;
					return;
				}
				let bought_at = self.feerate();
				self.after(patience, Event::Paid { who, payment, sale, bought_at });
			}
			_ => self.tally.refused += 1,
		}
	}

	fn request(&mut self, peer: NodeId, method: &str, params: Value) -> Value {
		let message = json!({ "jsonrpc": "2.0", "id": "1", "method": method, "params": params });
		self.give(Input::Message { peer, bytes: message.to_string().into_bytes() });
		self.replies.remove(&peer).unwrap_or_default()
	}

	/// The payer pays the invoice.
	pub(super) fn paid(&mut self, who: u64, payment: u64, sale: &str, bought_at: FeePerKw) {
		let call = Call { who, payment, risen: self.feerate() > bought_at };
		let Some(scid) = self.book.sale(sale).map(|sale| sale.scid) else {
			// Forgotten: nobody holds the HTLC.
			return self.not_opened(call, "expired");
		};
		let intercept_id = bytes32("htlc", self.rng.next().into());
		let amount = Msat(payment * 1000);
		self.held.insert(intercept_id, (amount.0, call));
		let expiry_height = Some(self.height() + 200);
		self.give(Input::HtlcIntercepted {
			intercept_id,
			scid,
			payment_hash: bytes32("hash", u128::from_be_bytes(intercept_id[..16].try_into().expect("16 bytes"))),
			inbound: amount,
			expected_outbound: amount,
			expiry_height,
			channel: None,
		});
	}

	pub(super) fn htlc_failed(&mut self, intercept_id: &[u8; 32], reason: &str) {
		if let Some((_, call)) = self.held.remove(intercept_id) {
			self.not_opened(call, reason);
		}
	}

	/// The payment failed: every other client asks again at once.
	fn not_opened(&mut self, call: Call, reason: &str) {
		let overtaken = reason.contains("has overtaken");
		let counter = if overtaken { &mut self.tally.overtaken } else { &mut self.tally.expired };
		*counter += 1;
		let Call { who, payment, .. } = call;
		let again = self.people.get_mut(&who).is_some_and(|person| !person.abuses && person.rng.range(0, 1) == 0);
		if again {
			self.after(60_000, Event::Asks { who, payment });
		}
	}

	/// Its first channel is there: what it will do with it.
	pub(super) fn settles_in(&mut self, peer: &NodeId) {
		let Some(who) = self.who.get(peer).copied() else { return };
		let Some(person) = self.people.get_mut(&who).filter(|person| !person.abuses && !person.settled) else { return };
		person.settled = true;
		let mut plan = Vec::new();
		for _ in 0..if person.lively { 12 } else { 1 } {
			plan.push((person.rng.range(HOUR, 25 * DAY), Event::Uses { who }));
		}
		if person.rng.range(1, 4) == 1 {
			let forced = person.rng.range(1, FORCED) == 1;
			plan.push((person.rng.range(DAY, 25 * DAY), Event::Leaves { who, forced }));
		}
		plan.into_iter().for_each(|(when, event)| self.after(when, event));
	}

	/// It is paid, or pays. What its channels have no room for is a reason to buy another.
	pub(super) fn uses(&mut self, who: u64) {
		let peer = node(who);
		let Some(person) = self.people.get_mut(&who) else { return };
		let (payment, to_client) = (octaves(&mut person.rng, 5_000, 5), person.rng.range(1, 3) > 1);
		if !self.route(&peer, payment, to_client) && to_client {
			self.tally.grown += 1;
			self.asks(who, payment);
		}
	}

	pub(super) fn leaves(&mut self, who: u64, forced: bool) {
		let peer = node(who);
		let all: Vec<u128> = self
			.channels
			.iter()
			.filter(|(_, c)| c.client == peer && c.is_out() && c.ready)
			.map(|(id, _)| *id)
			.collect();
		all.into_iter().for_each(|id| self.close(id, forced));
	}
}
