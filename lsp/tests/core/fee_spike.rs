//! Thirty hours in which the feerate goes from 1 to 300 sat/vB and back: nothing is sold below what it costs beyond the
//! bound, selling pauses and resumes by itself, and what was promised is honoured or refused at the HTLC (R7).

use crate::harness::*;
use inlet_lsp::book::{OrderState, Sale, SaleState};
use inlet_lsp::input::{Action, Input};
use inlet_lsp::market::{Average, Market, Recent};
use inlet_lsp::money::{FeePerKw, Msat, Sat};
use inlet_lsp::policy::Policy;
use inlet_lsp::quote::Basis;
use inlet_lsp::tiers;
use serde_json::{Value, json};

const MINUTE: u64 = 60;
const HOURS: u64 = 30;

/// The world with a market in it, as the node sees it: a look a minute, estimates for three targets.
struct Spike {
	sim: Sim,
	average: Average,
	recent: Recent,
}

/// Calm for six hours, up to 300 within eight, there for four, down again within eight, and calm; on the way up it
/// jumps to the fivefold three times for a quarter of an hour. Sat per 1000 weight units.
fn feerate(minute: u64) -> u32 {
	let hour = minute as f64 / 60.0;
	let exponent = match hour {
		h if h < 6.0 => 0.0,
		h if h < 14.0 => (h - 6.0) / 8.0,
		h if h < 18.0 => 1.0,
		h if h < 26.0 => (26.0 - h) / 8.0,
		_ => 0.0,
	};
	let jump = if [7.0, 8.0, 8.5].iter().any(|start| (*start..start + 0.25).contains(&hour)) { 5.0 } else { 1.0 };
	(jump * 253.0 * (75_000.0_f64 / 253.0).powf(exponent)) as u32
}

impl Spike {
	fn new(policy: Policy) -> Spike {
		let mut sim = Sim::with(policy);
		sim.spendable = Sat(1_000_000_000);
		let average = Average::new(FeePerKw(feerate(0)), sim.now);
		let mut spike = Spike { sim, average, recent: Recent::default() };
		spike.look(0);
		spike
	}

	fn look(&mut self, minute: u64) {
		let live = FeePerKw(feerate(minute));
		self.average = self.average.with(live, self.sim.now);
		self.recent.note(live, self.sim.now);
		self.sim.feerate = Some(live);
		let patient = FeePerKw((live.0 / 2).max(253));
		let by_blocks = vec![(1, FeePerKw(live.0.saturating_mul(2))), (6, live), (144, patient)];
		let long_run = Some(self.average.feerate());
		self.sim.market = Market { by_blocks, long_run, lately: self.recent.range() };
	}

	fn minute(&mut self, minute: u64) {
		self.sim.pass(MINUTE);
		if minute.is_multiple_of(10) {
			self.sim.height += 1;
		}
		self.look(minute);
		self.sim.tick();
	}

	/// What a channel of this capacity costs now, for a client that we do not know.
	fn cost_now(&self, client: inlet_lsp::book::NodeId, capacity: Sat) -> Sat {
		let policy = &self.sim.lsp.policy;
		let standing = tiers::standing(policy, &self.sim.book, &client, self.sim.now);
		let live = self.sim.feerate.unwrap();
		Basis::new(policy, &standing, &self.sim.market, live, live).jit_costs(capacity).total()
	}
}

fn is_above(minute: u64, sat_per_vb: u32) -> bool {
	feerate(minute) > sat_per_vb * 250
}

#[test]
fn r7_thirty_hours_of_a_fee_spike() {
	let mut spike = Spike::new(Policy::default());
	let bound = spike.sim.lsp.policy.risk.max_loss_sat;
	let (mut opened_at_once, mut honoured, mut refused, mut voided) = (0, 0, 0, 0);
	let mut paused = Vec::new();
	// Sales whose payer takes its time, and who they are for.
	let mut waiting: Vec<(u64, Sale, u64)> = Vec::new();
	for minute in 1..HOURS * 60 {
		spike.minute(minute);
		let client = node(u8::try_from(1 + minute % 200).unwrap());
		spike.sim.connect(client);
		let menu = spike.sim.menu(client);
		let sells = menu[0].is_object();
		assert_eq!(sells, !is_above(minute, 50), "minute {minute}: it pauses and resumes by itself, {menu}");
		if paused.last() != Some(&sells) {
			paused.push(sells);
		}
		let size = 20_000_000 + (minute * 7_919 % 380) * 1_000_000;
		if sells && size >= amount(&menu[0], "min_payment_size_msat") {
			let answer = spike.sim.ask(
				client,
				"lsps2.buy",
				json!({
					"opening_fee_params": menu[0], "payment_size_msat": size.to_string(),
				}),
			);
			assert!(answer.get("error").is_none(), "what was promised a moment ago is sold: {answer}");
			let sale =
				spike.sim.book.sales().max_by_key(|sale| (sale.created_at, sale.client == client)).unwrap().clone();
			assert_eq!(sale.client, client);
			// Every fourth payer pays at once, the others within the promise.
			let wait = if minute % 4 == 0 { 0 } else { 1 + minute % 9 };
			waiting.push((minute + wait, sale, size));
		}
		let (due, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(at, ..)| *at <= minute);
		waiting = later;
		for (_, sale, size) in due {
			if spike.sim.sale(&sale).state != SaleState::Bought {
				voided += 1;
				continue;
			}
			spike.sim.connect(sale.client);
			let id = u8::try_from(minute % 251).unwrap();
			let actions = spike.sim.htlc(&sale, id, id, size);
			let fee = sale.fee.unwrap().to_sat_floor();
			match opened(&actions) {
				Some(open) => {
					let cost = spike.cost_now(sale.client, open.capacity);
					assert!(cost <= fee.saturating_add(bound), "minute {minute}: {cost} for {fee}");
					assert_eq!(spike.sim.sale(&sale).expected_cost, cost);
					if sale.created_at == spike.sim.now {
						opened_at_once += 1
					} else {
						honoured += 1
					}
					let user_channel_id = open.user_channel_id;
					spike.sim.give(Input::OpenFailed { user_channel_id, reason: String::new(), ours: true });
				}
				None => {
					assert_eq!(failed(&actions), [id], "refused at the HTLC, and the payer knows: {actions:?}");
					let last = spike.sim.sale(&sale).history.last().unwrap().text.clone();
					assert!(last.contains("the feerate has overtaken the price"), "{last}");
					refused += 1;
				}
			}
		}
	}
	assert_eq!(paused, [true, false, true], "one pause");
	println!("{opened_at_once} opened at once, {honoured} later, {refused} refused, {voided} expired");
	assert!(opened_at_once > 100 && honoured > 50 && refused > 5, "{opened_at_once} {honoured} {refused} {voided}");
}

fn amount(terms: &Value, name: &str) -> u64 {
	terms[name].as_str().unwrap().parse().unwrap()
}

#[test]
fn r7_above_the_first_ceiling_only_orders_that_can_wait_are_taken_above_the_second_none() {
	let mut sim = Sim::with(plain());
	let client = node(1);
	let order = |sim: &mut Sim, within: u16| {
		let mut params = sim.order_params();
		params["funding_confirms_within_blocks"] = within.into();
		let request = json!({"jsonrpc": "2.0", "id": "o", "method": "lsps1.create_order", "params": params});
		sim.give(Input::Message { peer: client, bytes: request.to_string().into_bytes() })
	};
	let is_taken = |actions: &[Action]| matches!(actions, [Action::PreparePayment { .. }]);
	for (sat_per_vb, hurry, patient) in [(50, true, true), (51, false, true), (100, false, true), (101, false, false)] {
		sim.feerate = Some(FeePerKw(sat_per_vb * 250));
		assert_eq!(sim.menu(client)[0].is_object(), hurry, "just in time at {sat_per_vb}");
		for (within, expected) in [(6, hurry), (35, hurry), (36, patient), (144, patient)] {
			let actions = order(&mut sim, within);
			assert_eq!(is_taken(&actions), expected, "within {within} at {sat_per_vb}: {actions:?}");
			sim.pass(3601);
			sim.tick();
		}
	}
	let text = format!("{}", only_answer(client, &order(&mut sim, 144)).unwrap());
	assert!(text.contains("above our ceiling of 100 sat/vB"), "{text}");
	sim.feerate = Some(FeePerKw(51 * 250));
	let text = format!("{}", only_answer(client, &order(&mut sim, 6)).unwrap());
	assert!(text.contains("orders that can wait 36 blocks"), "it says what would be taken: {text}");
}

#[test]
fn r7_an_order_pays_for_the_confirmation_that_it_wants() {
	let mut sim = Sim::with(plain());
	sim.market.by_blocks = vec![(1, FeePerKw(3_000)), (6, FeePerKw(1_000)), (144, FeePerKw(500))];
	let mut fee = |within: u16| {
		let mut params = sim.order_params();
		params["funding_confirms_within_blocks"] = within.into();
		sim.order(node(1), params).0.fee_total
	};
	let calm = fee(6);
	assert_eq!(fee(143), calm);
	assert_eq!(fee(144), calm.saturating_sub(Sat(425)), "half the feerate for 850 weight units");
}

#[test]
fn r7_a_paid_order_that_the_feerate_has_overtaken_waits_and_gets_its_money_back() {
	for falls in [true, false] {
		let mut sim = Sim::new();
		let client = node(1);
		sim.connect(client);
		let params = sim.order_params();
		let (order, _) = sim.order(client, params);
		sim.feerate = Some(FeePerKw(20_000));
		let actions = sim.hold(&order, order.order_total);
		assert!(opened(&actions).is_none(), "never at a loss beyond the bound: {actions:?}");
		assert!(matches!(sim.now_order(&order).state, OrderState::Paid { .. }));
		if falls {
			sim.feerate = Some(FeePerKw(1_100));
			assert!(opened(&sim.connect(client)).is_some(), "85 sat of loss are within the bound");
		} else {
			sim.pass(1801);
			let actions = sim.tick();
			assert!(actions.iter().any(|action| matches!(action, Action::FailPayment { .. })), "{actions:?}");
			assert!(matches!(sim.now_order(&order).state, OrderState::Failed { .. }));
		}
	}
}

#[test]
fn r7_a_menu_that_was_overtaken_is_not_bought_any_more() {
	let mut sim = Sim::new();
	let terms = sim.menu(node(1))[0].clone();
	sim.feerate = Some(FeePerKw(2_000));
	let params = json!({"opening_fee_params": terms, "payment_size_msat": "100000000"});
	let answer = sim.ask(node(1), "lsps2.buy", params.clone());
	assert_eq!(answer["error"]["code"], 201, "ask for another menu: {answer}");
	// 850 more weight at 1400 instead of 1000 are 340 sat, and 160 for the close: the bound is met exactly.
	sim.feerate = Some(FeePerKw(1_400));
	assert!(sim.ask(node(1), "lsps2.buy", params)["result"].is_object());
}

#[test]
fn r7_a_promise_above_the_ceiling_is_honoured_while_its_fee_covers_it() {
	let mut policy = plain();
	policy.lsps2.trust = inlet_lsp::policy::Trust::Everyone;
	let mut sim = Sim::with(policy);
	sim.feerate = Some(FeePerKw(12_400));
	let client = node(1);
	sim.connect(client);
	let sale = sim.buy(client, Some(2_000_000_000));
	sim.feerate = Some(FeePerKw(12_600));
	assert_eq!(sim.menu(client), json!([]), "nothing new is sold");
	let actions = sim.htlc(&sale, 1, 1, 2_000_000_000);
	assert!(opened(&actions).is_some(), "{actions:?}");
}

#[test]
fn r7_promises_are_shorter_while_the_feerate_moves() {
	let mut sim = Sim::new();
	let held = |sim: &mut Sim| {
		let until = sim.menu(node(1))[0]["valid_until"].as_str().unwrap().to_string();
		(inlet_lsp::time::Timestamp::parse(&until).unwrap().0 - sim.now.0) / 1000
	};
	assert_eq!(held(&mut sim), 900);
	sim.market.lately = Some((FeePerKw(800), FeePerKw(1_000)));
	assert_eq!(held(&mut sim), 720);
	sim.market.lately = Some((FeePerKw(100), FeePerKw(1_000)));
	assert_eq!(held(&mut sim), 600, "bLIP-52 asks for ten minutes");
	let params = sim.order_params();
	let (order, _) = sim.order(node(1), params);
	assert_eq!(order.expires_at, order.created_at.plus_secs(600), "an order's payment window too");
}

#[test]
fn r7_a_payment_that_the_fee_would_eat_is_not_offered() {
	let mut sim = Sim::new();
	sim.feerate = Some(FeePerKw(12_000));
	let terms = sim.menu(node(1))[0].clone();
	let least = amount(&terms, "min_payment_size_msat");
	assert_eq!(least, amount(&terms, "min_fee_msat") + 1000);
	assert!(least > 5_000_000);
	let mut params = json!({"opening_fee_params": terms, "payment_size_msat": (least - 1).to_string()});
	assert_eq!(sim.ask(node(1), "lsps2.buy", params.clone())["error"]["code"], 202);
	params["payment_size_msat"] = Msat(least).0.to_string().into();
	assert!(sim.ask(node(1), "lsps2.buy", params)["result"].is_object());
	sim.spendable = Sat(9_000);
	assert_eq!(sim.menu(node(1)), json!([]), "and nothing, if no payment is left");
}
