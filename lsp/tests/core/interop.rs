//! What deployed clients can read. The types are those of lightning-liquidity 0.3.0-rc3; where 0.2 (in ldk-node 0.7)
//! differs, its part is repeated here.

use crate::harness::*;
use inlet_lsp::input::Input;
use lightning_liquidity::lsps0::msgs::LSPS0ListProtocolsResponse;
use lightning_liquidity::lsps0::ser::LSPSResponseError;
use lightning_liquidity::lsps1::msgs::{LSPS1CreateOrderResponse, LSPS1GetInfoResponse, LSPS1PaymentState};
use lightning_liquidity::lsps2::msgs::{LSPS2BuyResponse, LSPS2GetInfoResponse};
use serde_json::{Value, json};

const INVOICE: &str = "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh";
const ADDRESS: &str = "bcrt1q6rhpng9evdsfnn833a4f4vej0asu6dk5srld6x";
const LDK_REQUEST: &str = "token";

/// lightning-liquidity 0.2 does not know `HOLD`.
fn readable_by_0_2(order: &Value) -> bool {
	let known = ["EXPECT_PAYMENT", "PAID", "REFUNDED", "CANCELLED"];
	["bolt11", "onchain"].iter().all(|option| {
		let state = &order["payment"][option]["state"];
		state.is_null() || known.contains(&state.as_str().unwrap())
	})
}

fn order(sim: &mut Sim, token: Option<Value>) -> (inlet_lsp::book::Order, Value) {
	let mut params = sim.order_params();
	if let Some(token) = token {
		params[LDK_REQUEST] = token;
	}
	let request = json!({"jsonrpc": "2.0", "id": "o", "method": "lsps1.create_order", "params": params});
	sim.give(Input::Message { peer: node(1), bytes: request.to_string().into_bytes() });
	let id = sim.book.orders().next().unwrap().id.clone();
	let actions = sim.give(Input::PaymentPrepared {
		order: id.clone(),
		invoice: Some((INVOICE.into(), [5; 32])),
		address: Some(ADDRESS.into()),
	});
	let answer = only_answer(node(1), &actions).unwrap();
	(sim.book.order(&id).unwrap().clone(), answer["result"].clone())
}

fn read(order: &Value) -> LSPS1CreateOrderResponse {
	serde_json::from_value(order.clone()).unwrap_or_else(|error| panic!("{error}: {order}"))
}

#[test]
fn ldk_reads_what_lsps0_and_lsps2_answer() {
	let mut sim = Sim::new();
	let protocols = sim.ask(node(1), "lsps0.list_protocols", json!({}))["result"].clone();
	assert_eq!(serde_json::from_value::<LSPS0ListProtocolsResponse>(protocols).unwrap().protocols, [1, 2, 5]);
	let menu = sim.ask(node(1), "lsps2.get_info", json!({"token": null}))["result"].clone();
	let menu: LSPS2GetInfoResponse = serde_json::from_value(menu).unwrap();
	// It sends the terms back in its own spelling: without the fraction of a whole second.
	let terms = serde_json::to_value(&menu.opening_fee_params_menu[0]).unwrap();
	assert_eq!(terms["valid_until"], "2023-11-14T22:28:20Z");
	let bought = sim.ask(node(1), "lsps2.buy", json!({"opening_fee_params": terms, "payment_size_msat": "9000000"}));
	let bought: LSPS2BuyResponse = serde_json::from_value(bought["result"].clone()).unwrap();
	let sale = sim.book.sales().next().unwrap();
	assert_eq!(bought.jit_channel_scid.to_scid(), Ok(sale.scid));
	assert!(!bought.client_trusts_lsp);
}

#[test]
fn ldk_reads_an_order_in_every_state() {
	let mut sim = Sim::new();
	sim.connect(node(1));
	let info = sim.ask(node(1), "lsps1.get_info", json!({}))["result"].clone();
	serde_json::from_value::<LSPS1GetInfoResponse>(info).unwrap();
	let (made, answer) = order(&mut sim, None);
	assert_eq!(read(&answer).payment.onchain.unwrap().min_fee_for_0conf.to_sat_per_kwu(), 2000);
	let open = opened(&sim.hold(&made, made.order_total)).unwrap();
	let held = sim.get_order(&made);
	assert_eq!(read(&held).payment.bolt11.unwrap().state, LSPS1PaymentState::Hold);
	assert!(!readable_by_0_2(&held));
	sim.funded(open.user_channel_id);
	let funded = sim.get_order(&made);
	assert!(read(&funded).channel.is_some());
	assert!(readable_by_0_2(&funded));
	let mut late = Sim::new();
	let (made, _) = order(&mut late, None);
	late.pass(3600);
	late.tick();
	read(&late.get_order(&made));
}

#[test]
fn a_client_that_speaks_like_ldk_is_told_nothing_that_it_cannot_read() {
	let mut sim = Sim::new();
	sim.connect(node(1));
	let (made, answer) = order(&mut sim, Some(Value::Null));
	assert_eq!(answer["token"], Value::Null, "ldk-node takes any other token than its own for another order");
	assert!(opened(&sim.hold(&made, made.order_total)).is_some());
	sim.restart();
	let held = sim.get_order(&made);
	assert_eq!(read(&held).payment.bolt11.unwrap().state, LSPS1PaymentState::Paid);
	assert!(readable_by_0_2(&held));
	let error = sim.ask(node(1), "lsps1.get_order", json!({"order_id": "x", "y": 1}))["error"].clone();
	let error: LSPSResponseError = serde_json::from_value(error).unwrap();
	let data: Value = serde_json::from_str(&error.data.unwrap()).unwrap();
	assert_eq!(data["unrecognized"], json!(["y"]));
}

#[test]
fn a_client_that_cannot_parse_an_object_gets_strings_from_then_on() {
	let mut sim = Sim::new();
	let ask = |sim: &mut Sim| sim.ask(node(1), "lsps1.get_order", json!({"order_id": "x"}))["error"].clone();
	let strict = ask(&mut sim);
	assert_eq!(strict["data"], json!({}));
	assert!(serde_json::from_value::<LSPSResponseError>(strict).is_err(), "the trap");
	let complaint = br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error","data":null}}"#;
	assert_eq!(sim.raw(node(1), complaint), None);
	// It is deaf until it connects again.
	sim.disconnect(node(1));
	sim.connect(node(1));
	let lenient = ask(&mut sim);
	assert_eq!(lenient["data"], "{}");
	serde_json::from_value::<LSPSResponseError>(lenient).unwrap();
	assert_eq!(sim.ask(node(2), "lsps1.get_order", json!({"order_id": "x"}))["error"]["data"], json!({}));
	// Who buys is remembered for good.
	sim.buy(node(1), Some(30_000_000));
	sim.restart();
	assert_eq!(ask(&mut sim)["data"], "{}");
}

#[test]
fn r14_a_stranger_that_speaks_like_ldk_leaves_no_row_until_it_buys() {
	let mut sim = Sim::new();
	let null = || json!({"token": null});
	assert!(sim.ask(node(1), "lsps2.get_info", null())["result"].is_object());
	assert_eq!(sim.ask(node(1), "lsps2.buy", json!({"x": 1}))["error"]["data"].as_str().map(|_| ()), Some(()));
	let mut params = sim.order_params();
	(params["token"], params["lsp_balance_sat"]) = (Value::Null, "1".into());
	assert!(sim.ask(node(1), "lsps1.create_order", params)["error"]["data"].is_string());
	assert_eq!((sim.book.clients().count(), sim.book.next_deadline()), (0, None));
	// Its row says it when there is one, and that is written once.
	sim.buy(node(1), Some(30_000_000));
	assert!(sim.book.client(&node(1)).unwrap().string_error_data);
	let bytes = br#"{"jsonrpc":"2.0","id":"1","method":"lsps2.get_info","params":{"token":null}}"#.to_vec();
	assert!(sim.look(Input::Message { peer: node(1), bytes }).writes.is_empty());
}
