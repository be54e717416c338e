//! What a client sees: framing, parameters, error codes.

use crate::harness::*;
use inlet_lsp::input::{Action, Input};
use inlet_lsp::money::{FeePerKw, Sat};
use inlet_lsp::promise;
use inlet_lsp::protocol::METHODS;
use inlet_lsp::protocol::lsps2::Buy;
use proptest::prelude::*;
use serde_json::{Value, json};

fn code(answer: &Value) -> i64 {
	answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {answer}"))
}

#[test]
fn l0_2_to_7_what_is_no_request_gets_a_parse_error_with_id_null() {
	let mut sim = Sim::new();
	let long_id = format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"m"}}"#, "x".repeat(129));
	let deep = format!(r#"{{"jsonrpc":"2.0","id":"1","method":"m","params":{}{}}}"#, "[".repeat(500), "]".repeat(500));
	let bad: Vec<&[u8]> = vec![
		b"",
		b"{",
		b"[]",
		b"\"x\"",
		b"1",
		b"null",
		b"{} {}",
		b"{} {",
		b"\xff\xfe",
		b"{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"method\":\"\xff\"}",
		br#"[{"jsonrpc":"2.0","id":"1","method":"lsps0.list_protocols"}]"#,
		br#"{"id":"1","method":"lsps0.list_protocols"}"#,
		br#"{"jsonrpc":"1.0","id":"1","method":"lsps0.list_protocols"}"#,
		br#"{"jsonrpc":"2.0","method":"lsps0.list_protocols"}"#,
		br#"{"jsonrpc":"2.0","id":null,"method":"lsps0.list_protocols"}"#,
		br#"{"jsonrpc":"2.0","id":1,"method":"lsps0.list_protocols"}"#,
		br#"{"jsonrpc":"2.0","id":"1","method":1}"#,
		br#"{"jsonrpc":"2.0","id":"1","result":{}}"#,
		b"{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"method\":\"lsps0.list_protocols\"}\0",
		long_id.as_bytes(),
		deep.as_bytes(),
	];
	for bytes in bad {
		let answer = sim.raw(node(1), bytes).expect("an answer");
		let text = String::from_utf8_lossy(bytes);
		assert_eq!((code(&answer), &answer["id"], &answer["jsonrpc"]), (-32700, &Value::Null, &"2.0".into()), "{text}");
		assert!(answer.get("result").is_none());
	}
	let spaced = b" \t\r\n{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"method\":\"lsps0.list_protocols\"}\n ";
	assert!(sim.raw(node(1), spaced).unwrap().get("result").is_some(), "L0-8: and the next one is served");
}

#[test]
fn l0_22_what_is_too_long_is_refused() {
	let mut sim = Sim::new();
	let request = r#"{"jsonrpc":"2.0","id":"1","method":"lsps0.list_protocols"}"#;
	let fits = format!("{request}{}", " ".repeat(65_533 - request.len()));
	assert!(sim.raw(node(1), fits.as_bytes()).unwrap().get("result").is_some());
	assert_eq!(code(&sim.raw(node(1), format!("{fits} ").as_bytes()).unwrap()), -32700);
	// An answer that repeats too much would be too long itself.
	let request =
		json!({"jsonrpc": "2.0", "id": "1", "method": "lsps0.list_protocols", "params": {"x".repeat(40_000): 1}});
	let request = request.to_string();
	assert_eq!(code(&sim.raw(node(1), request.as_bytes()).unwrap()), -32602);
}

#[test]
fn a_response_without_id_is_never_answered() {
	let mut sim = Sim::new();
	for text in [
		r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error","data":null}}"#,
		r#"{"jsonrpc":"2.0","error":{"code":-32603,"message":"x"}}"#,
		r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
	] {
		assert_eq!(sim.raw(node(1), text.as_bytes()), None, "{text}");
	}
}

#[test]
fn l0_10_unknown_methods_and_those_not_offered() {
	let mut policy = plain();
	policy.lsps1.enabled = false;
	let mut sim = Sim::with(policy);
	for method in [
		"",
		"lsps0.x",
		"lsps1.get_info",
		"lsps5.webhook_registered",
		"lsps5.payment_incoming",
		"LSPS0.list_protocols",
		"lsps2.webhook",
	] {
		assert_eq!(code(&sim.ask(node(1), method, json!({}))), -32601, "{method}");
	}
	assert_eq!(sim.ask(node(1), "lsps0.list_protocols", json!({}))["result"], json!({"protocols": [2, 5]}));
	assert_eq!(Sim::new().ask(node(1), "lsps0.list_protocols", json!({}))["result"], json!({"protocols": [1, 2, 5]}));
}

#[test]
fn l0_11_to_14_parameters_are_known_named_and_typed() {
	let mut sim = Sim::new();
	for method in METHODS {
		let answer = sim.ask(node(1), method, json!({"zz": 1, "yy": 2}));
		assert_eq!(code(&answer), -32602, "{method}");
		assert_eq!(answer["error"]["data"]["unrecognized"], json!(["yy", "zz"]), "{method}");
		for params in [json!([]), json!(["a"]), json!(null), json!(5)] {
			let answer = sim.ask(node(1), method, params);
			assert_eq!((code(&answer), &answer["error"]["data"]["unrecognized"]), (-32602, &json!([])), "{method}");
		}
	}
	let no_params = br#"{"jsonrpc":"2.0","id":"1","method":"lsps2.get_info"}"#;
	assert!(sim.raw(node(1), no_params).unwrap().get("result").is_some());
}

#[test]
fn l1_1_get_info() {
	let info = Sim::new().ask(node(1), "lsps1.get_info", json!({}))["result"].clone();
	let expected = json!({
		"min_required_channel_confirmations": 0, "min_funding_confirms_within_blocks": 6,
		"supports_zero_channel_reserve": false, "max_channel_expiry_blocks": 52560,
		"min_initial_client_balance_sat": "0", "max_initial_client_balance_sat": "1000000",
		"min_initial_lsp_balance_sat": "20000", "max_initial_lsp_balance_sat": "5000000",
		"min_channel_balance_sat": "20000", "max_channel_balance_sat": "5000000",
	});
	assert_eq!(info, expected);
}

fn order_with(name: &str, value: Value) -> Value {
	let mut params = Sim::new().order_params();
	params[name] = value;
	Sim::new().ask(node(1), "lsps1.create_order", params)
}

#[test]
fn l1_15_orders_outside_the_options_name_the_option() {
	let mut policy = plain();
	policy.lsps1.min_required_channel_confirmations = 1;
	policy.lsps1.min_channel_sat = Sat(600_000);
	let mut sim = Sim::with(policy);
	for (changes, property) in [
		(json!({"lsp_balance_sat": "19999"}), "min_initial_lsp_balance_sat"),
		(json!({"lsp_balance_sat": "5000001"}), "max_initial_lsp_balance_sat"),
		(
			json!({"lsp_balance_sat": "18446744073709551615", "client_balance_sat": "18446744073709551615"}),
			"max_initial_lsp_balance_sat",
		),
		(json!({"client_balance_sat": "1000001"}), "max_initial_client_balance_sat"),
		(json!({"client_balance_sat": "18446744073709551615"}), "max_initial_client_balance_sat"),
		(json!({}), "min_channel_balance_sat"),
		(json!({"lsp_balance_sat": "5000000"}), "max_channel_balance_sat"),
		(json!({"lsp_balance_sat": "600000"}), "min_required_channel_confirmations"),
		(
			json!({"lsp_balance_sat": "600000", "required_channel_confirmations": 1, "funding_confirms_within_blocks": 5}),
			"min_funding_confirms_within_blocks",
		),
		(
			json!({"lsp_balance_sat": "600000", "required_channel_confirmations": 1, "channel_expiry_blocks": 52561}),
			"max_channel_expiry_blocks",
		),
	] {
		let mut params = sim.order_params();
		params.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
		let answer = sim.ask(node(1), "lsps1.create_order", params);
		assert_eq!((code(&answer), &answer["error"]["data"]["property"]), (100, &property.into()), "{changes}");
		assert!(answer["error"]["data"]["message"].is_string());
	}
}

#[test]
fn l1_16_invalid_fields_are_named() {
	let amounts = [
		json!(5),
		json!("5.0"),
		json!("-1"),
		json!("+5"),
		json!(""),
		json!(" 5"),
		json!(null),
		json!("18446744073709551616"),
	];
	let numbers = [json!("6"), json!(-1), json!(1.5), json!(65_536), json!(null), json!(true)];
	let mut cases: Vec<(&str, Value)> = Vec::new();
	cases
		.extend(amounts.iter().flat_map(|bad| [("lsp_balance_sat", bad.clone()), ("client_balance_sat", bad.clone())]));
	cases.push(("lsp_balance_sat", json!("0")));
	cases.extend(numbers.iter().flat_map(|bad| {
		[("required_channel_confirmations", bad.clone()), ("funding_confirms_within_blocks", bad.clone())]
	}));
	cases.extend([json!(0), json!("1"), json!(4_294_967_296_u64)].map(|bad| ("channel_expiry_blocks", bad)));
	cases.extend([json!("yes"), json!(1), json!(null)].map(|bad| ("announce_channel", bad)));
	cases.extend([json!(5), json!({})].map(|bad| ("token", bad)));
	let addresses = [
		json!(1),
		json!("rubbish"),
		json!("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
		json!("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"),
		json!("2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc"),
	];
	cases.extend(addresses.map(|bad| ("refund_onchain_address", bad)));
	assert!(cases.len() > 26);
	for (property, value) in cases {
		let answer = order_with(property, value.clone());
		assert_eq!((code(&answer), &answer["error"]["data"]["property"]), (-32602, &property.into()), "{value}");
	}
	for name in [
		"lsp_balance_sat",
		"client_balance_sat",
		"required_channel_confirmations",
		"funding_confirms_within_blocks",
		"channel_expiry_blocks",
		"announce_channel",
	] {
		let mut params = Sim::new().order_params();
		params.as_object_mut().unwrap().remove(name);
		let answer = Sim::new().ask(node(1), "lsps1.create_order", params);
		assert_eq!((code(&answer), &answer["error"]["data"]["property"]), (-32602, &name.into()), "missing {name}");
	}
}

#[test]
fn l1_18_tokens() {
	assert_eq!(code(&order_with("token", json!("COUPON"))), 102);
	let mut policy = plain();
	policy.lsps1.tokens = vec!["COUPON".into()];
	let mut sim = Sim::with(policy);
	let mut params = sim.order_params();
	assert_eq!(code(&sim.ask(node(1), "lsps1.create_order", params.clone())), 102);
	params["token"] = "COUPON".into();
	assert_eq!(sim.order(node(1), params).1["token"], "COUPON", "L1-7");
}

#[test]
fn l1_20_another_clients_order_is_not_found() {
	let mut sim = Sim::new();
	let params = sim.order_params();
	let (order, _) = sim.order(node(1), params);
	for (peer, id) in [(node(2), order.id.as_str()), (node(1), "x"), (node(1), "")] {
		assert_eq!(code(&sim.ask(peer, "lsps1.get_order", json!({"order_id": id}))), 101);
	}
}

#[test]
fn l1_31_unpaid_orders_are_bounded() {
	let mut sim = Sim::new();
	let params = sim.order_params();
	for _ in 0..5 {
		sim.order(node(1), params.clone());
	}
	let answer = sim.ask(node(1), "lsps1.create_order", params.clone());
	assert_eq!(code(&answer), 1);
	assert_eq!(answer["error"]["data"]["message"], "5 unpaid already, at most 5 for one client", "L0-23");
	sim.order(node(2), params.clone());
	sim.pass(3600);
	sim.tick();
	sim.order(node(1), params);
}

#[test]
fn orders_are_refused_while_nothing_can_be_sold() {
	let refused = |change: fn(&mut Sim)| {
		let mut sim = Sim::new();
		change(&mut sim);
		let params = sim.order_params();
		code(&sim.ask(node(1), "lsps1.create_order", params))
	};
	assert_eq!(refused(|sim| sim.synced = false), 1);
	assert_eq!(refused(|sim| sim.disk_low = true), 1);
	assert_eq!(refused(|sim| sim.feerate = None), 1);
	assert_eq!(refused(|sim| sim.feerate = Some(FeePerKw(25_001))), 1);
	assert_eq!(refused(|sim| sim.spendable = Sat(520_000)), 1);
}

#[test]
fn l2_1_to_5_the_menu() {
	let mut sim = Sim::new();
	let menu = sim.menu(node(1));
	let mut entry = menu[0].clone();
	let promise = entry["promise"].as_str().unwrap().to_string();
	assert!(promise.len() == 64 && promise.bytes().all(|byte| byte.is_ascii_hexdigit()), "L2-5");
	entry["promise"] = "".into();
	let expected = json!({
		"min_fee_msat": "1250000", "proportional": 4000, "valid_until": "2023-11-14T22:28:20.000Z",
		"min_lifetime": 4320, "max_client_to_self_delay": 2016, "min_payment_size_msat": "5000000",
		"max_payment_size_msat": "2000000000", "promise": "",
	});
	assert_eq!((menu.as_array().unwrap().len(), entry), (1, expected));
	let twice = sim.menu(node(1));
	assert_eq!(menu, twice, "the same moment, the same terms");
	assert!(sim.book.clients().next().is_none(), "who only looks leaves nothing behind");
}

#[test]
fn l2_1_the_menu_is_empty_while_nothing_can_be_sold() {
	let empty = |change: fn(&mut Sim)| {
		let mut sim = Sim::new();
		change(&mut sim);
		sim.menu(node(1)) == json!([])
	};
	assert!(!empty(|_| {}));
	assert!(empty(|sim| sim.synced = false));
	assert!(empty(|sim| sim.disk_low = true));
	assert!(empty(|sim| sim.feerate = None));
	assert!(empty(|sim| sim.feerate = Some(FeePerKw(25_001))));
	assert!(empty(|sim| sim.spendable = Sat(100_000)));
}

#[test]
fn the_menu_offers_no_more_than_can_be_funded() {
	let mut sim = Sim::new();
	sim.spendable = Sat(300_000);
	let max = sim.menu(node(1))[0]["max_payment_size_msat"].as_str().unwrap().parse::<u64>().unwrap();
	assert!((200_000_000..240_000_000).contains(&max));
	let sale = sim.buy(node(1), Some(max));
	assert!(sale.reserved <= Sat(300_000));
	assert_eq!(sim.menu(node(1)), json!([]), "all is reserved now");
}

#[test]
fn l2_8_tokens() {
	let mut sim = Sim::new();
	assert_eq!(code(&sim.ask(node(1), "lsps2.get_info", json!({"token": "x"}))), 200);
	assert_eq!(code(&sim.ask(node(1), "lsps2.get_info", json!({"token": 5}))), -32602);
	let mut policy = plain();
	policy.lsps2.tokens = vec!["x".into()];
	let mut sim = Sim::with(policy);
	assert_eq!(code(&sim.ask(node(1), "lsps2.get_info", json!({}))), 200);
	assert!(sim.ask(node(1), "lsps2.get_info", json!({"token": "x"})).get("result").is_some());
}

#[test]
fn l2_6_l2_17_promise_commits_to_all_fields_and_to_the_client() {
	let mut sim = Sim::new();
	let terms = sim.menu(node(1))[0].clone();
	for (name, value) in [
		("min_fee_msat", json!("1249999")),
		("proportional", json!(3999)),
		("valid_until", json!("2023-11-14T22:28:20.001Z")),
		("min_lifetime", json!(4321)),
		("max_client_to_self_delay", json!(2015)),
		("min_payment_size_msat", json!("4999999")),
		("max_payment_size_msat", json!("2000000001")),
		("promise", json!("00".repeat(32))),
		("promise", json!("")),
		("promise", json!("no hex")),
	] {
		let mut changed = terms.clone();
		changed[name] = value;
		let answer =
			sim.ask(node(1), "lsps2.buy", json!({"opening_fee_params": changed, "payment_size_msat": "50000000"}));
		assert_eq!(code(&answer), 201, "{name}");
	}
	let params = json!({"opening_fee_params": terms, "payment_size_msat": "50000000"});
	assert_eq!(code(&sim.ask(node(2), "lsps2.buy", params.clone())), 201, "L2-17: promised to another client");
	assert!(sim.ask(node(1), "lsps2.buy", params).get("result").is_some());
}

#[test]
fn l2_7_valid_until_is_kept_to_the_millisecond() {
	let mut sim = Sim::new();
	let params = json!({"opening_fee_params": sim.menu(node(1))[0], "payment_size_msat": "50000000"});
	sim.now.0 += 899_999;
	assert!(sim.ask(node(1), "lsps2.buy", params.clone()).get("result").is_some());
	sim.now.0 += 1;
	assert_eq!(code(&sim.ask(node(1), "lsps2.buy", params)), 201);
}

#[test]
fn l2_9_to_13_buy() {
	let mut sim = Sim::new();
	let terms = sim.menu(node(1))[0].clone();
	let mut buy =
		|size: Value| sim.ask(node(1), "lsps2.buy", json!({"opening_fee_params": terms, "payment_size_msat": size}));
	assert_eq!(code(&buy(json!("4999999"))), 202);
	assert_eq!(code(&buy(json!("2000000001"))), 203);
	assert_eq!(code(&buy(json!(5_000_000))), -32602);
	let answer = buy(json!("5000000"))["result"].clone();
	assert_eq!((&answer["lsp_cltv_expiry_delta"], &answer["client_trusts_lsp"]), (&72.into(), &false.into()));
	let scid = answer["jit_channel_scid"].as_str().unwrap();
	assert_eq!(scid.split('x').count(), 3);
	assert_ne!(buy(json!("5000000"))["result"]["jit_channel_scid"], scid, "L2-16");
}

#[test]
fn l2_15_buy_is_strict_inside_the_terms_too() {
	let mut sim = Sim::new();
	let terms = sim.menu(node(1))[0].clone();
	let mut more = terms.clone();
	more["more"] = 1.into();
	let answer = sim.ask(node(1), "lsps2.buy", json!({"opening_fee_params": more}));
	assert_eq!(answer["error"]["data"]["unrecognized"], json!(["opening_fee_params.more"]));
	for name in terms.as_object().unwrap().keys() {
		let mut less = terms.clone();
		less.as_object_mut().unwrap().remove(name);
		let answer = sim.ask(node(1), "lsps2.buy", json!({"opening_fee_params": less}));
		let property = format!("opening_fee_params.{name}");
		assert_eq!((code(&answer), &answer["error"]["data"]["property"]), (-32602, &property.into()));
		let mut wrong = terms.clone();
		wrong[name] = json!({});
		assert_eq!(code(&sim.ask(node(1), "lsps2.buy", json!({"opening_fee_params": wrong}))), -32602);
	}
	assert_eq!(code(&sim.ask(node(1), "lsps2.buy", json!({"opening_fee_params": []}))), -32602);
}

/// Terms that the policy would not make, promised all the same.
fn buy_promised(min_fee: &str, proportional: u32, size: &str) -> i64 {
	let mut sim = Sim::new();
	let mut terms = sim.menu(node(1))[0].clone();
	terms["min_fee_msat"] = min_fee.into();
	terms["proportional"] = proportional.into();
	terms["max_payment_size_msat"] = u64::MAX.to_string().into();
	let params = json!({"opening_fee_params": terms, "payment_size_msat": size});
	let request = inlet_lsp::protocol::lsps0::Request {
		id: "q".into(),
		method: "lsps2.buy".into(),
		params: Some(params.clone()),
		app_name_written: None,
	};
	let offered = sim.lsp.offered();
	let Ok(inlet_lsp::protocol::Call::Buy(Buy { terms: read, .. })) =
		inlet_lsp::protocol::Call::read(&request, offered)
	else {
		panic!("it is well formed")
	};
	terms["promise"] = promise::make(&[7; 32], &node(1), &read).into();
	code(&sim.ask(node(1), "lsps2.buy", json!({"opening_fee_params": terms, "payment_size_msat": size})))
}

#[test]
fn l2_12_a_fee_that_eats_the_payment_is_202() {
	assert_eq!(buy_promised("50000000", 0, "50000000"), 202);
	assert_eq!(buy_promised("0", 1_000_000, "50000000"), 202);
}

#[test]
fn l2_13_overflow_is_203() {
	assert_eq!(buy_promised("0", 2, "18446744073709551615"), 203);
	assert_eq!(buy_promised("0", 1, "18446744073709551615"), 203, "the last 999999 overflow in the addition");
	assert_eq!(buy_promised("0", 1, "18446744073708551615"), 203, "too large a channel");
}

#[test]
fn l2_14_more_than_can_be_funded_is_203() {
	let mut sim = Sim::new();
	let params = json!({"opening_fee_params": sim.menu(node(1))[0], "payment_size_msat": "50000000"});
	sim.spendable = Sat(90_000);
	let answer = sim.ask(node(1), "lsps2.buy", params);
	assert_eq!(code(&answer), 203);
	assert!(answer["error"]["data"]["message"].as_str().unwrap().ends_with("90000 sat free"));
}

#[test]
fn l2_18_unpaid_sales_are_bounded_per_client_and_in_all() {
	let mut policy = plain();
	policy.risk.max_open_total = 25;
	let mut sim = Sim::with(policy);
	let terms: Vec<Value> = (1..=3).map(|peer| sim.menu(node(peer))[0].clone()).collect();
	let mut buy = |peer: u8| {
		let terms = &terms[usize::from(peer) - 1];
		sim.ask(node(peer), "lsps2.buy", json!({"opening_fee_params": terms, "payment_size_msat": "5000000"}))
	};
	for peer in [1, 2] {
		assert!((0..10).all(|_| buy(peer).get("result").is_some()));
		assert_eq!(code(&buy(peer)), 1);
	}
	assert!((0..5).all(|_| buy(3).get("result").is_some()));
	assert_eq!(buy(3)["error"]["data"]["message"], "25 unpaid already, at most 25 in all");
	assert!(!sim.menu(node(1)).as_array().unwrap().is_empty(), "looking is free");
	sim.pass(900);
	sim.tick();
	sim.buy(node(1), Some(5_000_000));
}

#[test]
fn l2_32_repeated_ids_and_hasty_clients_lock_nobody_out() {
	let mut sim = Sim::new();
	for _ in 0..5_000 {
		sim.menu(node(1));
	}
	sim.buy(node(2), Some(5_000_000));
}

proptest! {
	#[test]
	fn no_bytes_panic_and_each_message_has_at_most_one_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
		let mut sim = Sim::new();
		sim.raw(node(1), &bytes);
	}

	#[test]
	fn every_request_has_exactly_one_answer(
		method in proptest::sample::select([METHODS.as_slice(), &["x"]].concat()),
		params in value(),
		id in "\\PC{0,40}",
	) {
		let mut sim = Sim::new();
		let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
		let actions = sim.give(Input::Message { peer: node(1), bytes: request.to_string().into_bytes() });
		prop_assert_eq!(actions.len(), 1);
		if let Some(answer) = only_answer(node(1), &actions) {
			prop_assert_eq!(&answer["id"], &json!(id));
			prop_assert_eq!(&answer["jsonrpc"], "2.0");
			prop_assert!(answer.get("result").is_some() != answer.get("error").is_some());
		} else {
			let waits = matches!(actions[0], Action::PreparePayment { .. });
			prop_assert!(waits);
		}
	}
}

/// Any JSON, often with names that mean something.
fn value() -> impl Strategy<Value = Value> {
	let name = prop_oneof![
		Just("lsp_balance_sat".to_string()),
		Just("opening_fee_params".to_string()),
		Just("order_id".to_string()),
		Just("token".to_string()),
		Just("payment_size_msat".to_string()),
		Just("valid_until".to_string()),
		Just("promise".to_string()),
		"\\PC{0,5}",
	];
	let leaf = prop_oneof![
		Just(Value::Null),
		any::<bool>().prop_map(Value::from),
		any::<u64>().prop_map(Value::from),
		any::<f64>().prop_map(Value::from),
		"\\PC{0,30}".prop_map(Value::from),
		any::<u64>().prop_map(|number| Value::from(number.to_string())),
	];
	leaf.prop_recursive(4, 40, 8, move |inner| {
		prop_oneof![
			proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
			proptest::collection::btree_map(name.clone(), inner, 0..8)
				.prop_map(|map| Value::Object(map.into_iter().collect())),
		]
	})
}
