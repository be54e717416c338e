//! Rules of bLIP-51 that no other test has in its name.

use crate::harness::*;
use inlet_lsp::book::{NodeId, Order};
use inlet_lsp::input::{Action, Input};
use inlet_lsp::money::{FeePerKw, Sat};
use serde_json::{Value, json};

/// A client that speaks strictly, or like LDK's client half (`"token": null`).
fn ordered(like_ldk: bool) -> (Sim, NodeId, Order) {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let mut params = sim.order_params();
	if like_ldk {
		params["token"] = Value::Null;
	}
	let (order, _) = sim.order(client, params);
	(sim, client, order)
}

/// `order_state`, and the states of both payments.
fn states(sim: &mut Sim, order: &Order) -> [String; 3] {
	let shown = sim.get_order(order);
	let text = |value: &Value| value.as_str().unwrap().to_string();
	let payment = &shown["payment"];
	[text(&shown["order_state"]), text(&payment["bolt11"]["state"]), text(&payment["onchain"]["state"])]
}

#[test]
fn l1_9_l1_23_an_order_paid_by_lightning_shows_its_states_to_strict_clients_and_to_ldk() {
	for like_ldk in [false, true] {
		let (mut sim, _, order) = ordered(like_ldk);
		assert_eq!(states(&mut sim, &order), ["CREATED", "EXPECT_PAYMENT", "EXPECT_PAYMENT"]);
		let open = opened(&sim.hold(&order, order.order_total)).unwrap();
		let held = if like_ldk { "PAID" } else { "HOLD" };
		assert_eq!(states(&mut sim, &order), ["CREATED", held, "EXPECT_PAYMENT"]);
		sim.funded(open.user_channel_id);
		sim.claimed(&order, order.order_total);
		assert_eq!(states(&mut sim, &order), ["COMPLETED", "PAID", "REFUNDED"]);
	}
}

#[test]
fn l1_9_l1_26_an_order_that_fails_shows_its_states_to_strict_clients_and_to_ldk() {
	for like_ldk in [false, true] {
		let (mut sim, _, order) = ordered(like_ldk);
		let open = opened(&sim.hold(&order, order.order_total)).unwrap();
		let user_channel_id = open.user_channel_id;
		sim.give(Input::OpenFailed { user_channel_id, reason: "no".into(), ours: false });
		assert_eq!(states(&mut sim, &order), ["FAILED", "REFUNDED", "REFUNDED"]);
	}
}

#[test]
fn l1_9_l1_27_l1_28_an_order_paid_onchain_shows_its_states_to_strict_clients_and_to_ldk() {
	for like_ldk in [false, true] {
		let (mut sim, _, order) = ordered(like_ldk);
		let open = opened(&sim.onchain(&order, vec![output(1, order.order_total.0, 1, 500)])).unwrap();
		assert_eq!(states(&mut sim, &order), ["CREATED", "EXPECT_PAYMENT", "PAID"]);
		let user_channel_id = open.user_channel_id;
		sim.give(Input::OpenFailed { user_channel_id, reason: "no".into(), ours: false });
		assert_eq!(states(&mut sim, &order), ["FAILED", "REFUNDED", "PAID"], "not back yet");
		sim.refund_sent(&order, 0, 5, order.order_total.0);
		assert_eq!(states(&mut sim, &order), ["FAILED", "REFUNDED", "REFUNDED"]);
	}
}

#[test]
fn l1_12_bolt12_is_not_offered() {
	let (mut sim, client) = (Sim::new(), node(1));
	let params = sim.order_params();
	let (_, answer) = sim.order(client, params);
	assert!(!answer["payment"].as_object().unwrap().contains_key("bolt12"), "{answer}");
}

#[test]
fn l1_4_what_get_info_allows_can_be_ordered_and_nothing_beyond() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.spendable = Sat(1_000_000_000);
	let info = sim.ask(client, "lsps1.get_info", json!({}))["result"].clone();
	let sat = |name: &str| info[name].as_str().unwrap().parse::<u64>().unwrap();
	let cases = [
		("lsp_balance_sat", sat("min_initial_lsp_balance_sat"), sat("max_initial_lsp_balance_sat")),
		("client_balance_sat", sat("min_initial_client_balance_sat"), sat("max_initial_client_balance_sat")),
	];
	for (field, min, max) in cases {
		for (value, allowed) in [(min, true), (max, true), (min.wrapping_sub(1), false), (max + 1, false)] {
			let mut params = sim.order_params();
			params["client_balance_sat"] = "0".into();
			params[field] = value.to_string().into();
			let mut other = Sim::new();
			other.spendable = sim.spendable;
			if allowed {
				other.order(client, params);
			} else {
				let code = other.ask(client, "lsps1.create_order", params)["error"]["code"].as_i64();
				assert_eq!(code, Some(100), "{field} {value}");
			}
		}
	}
}

#[test]
fn l1_22_an_order_survives_a_restart_as_it_was_shown() {
	let (mut sim, _, order) = ordered(false);
	let shown = sim.get_order(&order);
	sim.restart();
	assert!(sim.give(Input::Started).is_empty());
	assert_eq!(sim.get_order(&order), shown);
}

#[test]
fn l1_24_l1_32_each_order_is_opened_at_once_by_a_transaction_of_its_own() {
	let (mut sim, client, first) = ordered(false);
	let params = sim.order_params();
	let (second, _) = sim.order(client, params);
	sim.feerate = Some(FeePerKw(1_500));
	let mut seen = Vec::new();
	for order in [first, second] {
		let actions = sim.hold(&order, order.order_total);
		let [Action::OpenChannel(open)] = &actions[..] else { panic!("{actions:?}") };
		assert_eq!(open.feerate, FeePerKw(1_500), "the live feerate, not that of the order");
		seen.push(open.user_channel_id);
	}
	assert_ne!(seen[0], seen[1]);
}
