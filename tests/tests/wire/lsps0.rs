//! bLIP-50: the transport.

use super::{PATIENCE, Share, assert_served, error, lsp, result, uint, unrecognized};
use inlet_tests::thin::{Identity, LSPS_FEATURE_BIT, MAX_PAYLOAD, RawPeer, RawPeerOptions, check_response, request};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Methods and parameters that each accepts, as far as the protocol goes.
fn methods() -> [(&'static str, Value); 6] {
	let order = json!({
		"lsp_balance_sat": "100000", "client_balance_sat": "0", "required_channel_confirmations": 0,
		"funding_confirms_within_blocks": 6, "channel_expiry_blocks": 144, "announce_channel": false,
	});
	let terms = json!({
		"min_fee_msat": "1", "proportional": 1, "valid_until": "2030-01-01T00:00:00.000Z", "min_lifetime": 1,
		"max_client_to_self_delay": 1, "min_payment_size_msat": "1", "max_payment_size_msat": "2", "promise": "x",
	});
	[
		("lsps0.list_protocols", json!({})),
		("lsps1.get_info", json!({})),
		("lsps1.create_order", order),
		("lsps1.get_order", json!({ "order_id": "x" })),
		("lsps2.get_info", json!({})),
		("lsps2.buy", json!({ "opening_fee_params": terms })),
	]
}

/// Bytes that are no request: answered by -32700 with id null, and the next request is served (L0-7, L0-8).
async fn assert_parse_errors(lsp: &Share, bad: &[&[u8]]) {
	let mut peer = lsp.peer().await;
	for bytes in bad {
		let shown = String::from_utf8_lossy(bytes).into_owned();
		let response = peer.exchange(*bytes).await.unwrap_or_else(|e| panic!("{shown:?}: {e:#}"));
		error(&response, -32700);
		assert!(response["id"].is_null(), "{shown:?}: {response}");
		assert_served(&mut peer).await;
	}
}

#[tokio::test]
async fn l0_02_l0_08_the_payload_is_one_json_object_with_white_space_around_it() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let good = request("id", "lsps0.list_protocols", &json!({}));
	let padded = [b" \t\r\n".as_slice(), &good, b"\n\r\t ".as_slice()].concat();
	assert_eq!(peer.exchange(padded).await.unwrap()["id"], "id");
	let bad: [&[u8]; 11] = [
		b"",
		b" ",
		b"{",
		b"}",
		b"hello",
		b"{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"lsps0.list_protocols\",\"params\":{}",
		b"{'jsonrpc':'2.0','id':'a','method':'lsps0.list_protocols','params':{}}",
		b"{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"lsps0.list_protocols\",\"params\":{},}",
		b"\xff\xfe\x00",
		b"{\"jsonrpc\":\"2.0\",\"id\":\"\xc3\x28\",\"method\":\"lsps0.list_protocols\",\"params\":{}}",
		b"\x0b{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"lsps0.list_protocols\",\"params\":{}}",
	];
	assert_parse_errors(&lsp, &bad).await;
}

#[tokio::test]
async fn l0_03_two_objects_are_no_message() {
	let lsp = lsp().await;
	let good = request("a", "lsps0.list_protocols", &json!({}));
	let bad =
		[[&good[..], &good[..]].concat(), [&good[..], b" {"].concat(), [&good[..], b" x"].concat(), b"{} {}".to_vec()];
	assert_parse_errors(&lsp, &bad.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn l0_04_a_zero_byte_is_a_parse_error() {
	let lsp = lsp().await;
	let good = request("a", "lsps0.list_protocols", &json!({}));
	let inside = br#"{"jsonrpc":"2.0","id":"a-","method":"lsps0.list_protocols","params":{}}"#
		.map(|b| if b == b'-' { 0 } else { b });
	let bad = [[&good[..], b"\0"].concat(), [b"\0", &good[..]].concat(), inside.to_vec(), b"\0".to_vec()];
	assert_parse_errors(&lsp, &bad.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn l0_05_a_batch_a_string_a_number_and_null_are_no_message() {
	let lsp = lsp().await;
	let good = request("a", "lsps0.list_protocols", &json!({}));
	let batch = [b"[", &good[..], b"]"].concat();
	assert_parse_errors(&lsp, &[&batch, b"[]", b"[1,2]", b"\"text\"", b"7", b"-1.5e3", b"null", b"true"]).await;
}

#[tokio::test]
async fn l0_06_what_is_no_json_rpc_request_is_a_parse_error() {
	let lsp = lsp().await;
	let bad: [&[u8]; 11] = [
		br#"{}"#,
		br#"{"id":"a","method":"lsps0.list_protocols","params":{}}"#,
		br#"{"jsonrpc":"1.0","id":"a","method":"lsps0.list_protocols","params":{}}"#,
		br#"{"jsonrpc":2.0,"id":"a","method":"lsps0.list_protocols","params":{}}"#,
		br#"{"jsonrpc":"2.0","id":"a","params":{}}"#,
		br#"{"jsonrpc":"2.0","id":"a","method":7,"params":{}}"#,
		br#"{"jsonrpc":"2.0","id":"a","method":null,"params":{}}"#,
		br#"{"jsonrpc":"2.0","method":"lsps0.list_protocols","params":{}}"#,
		br#"{"jsonrpc":"2.0","id":{},"method":"lsps0.list_protocols","params":{}}"#,
		br#"{"jsonrpc":"2.0","id":["a"],"method":"lsps0.list_protocols","params":{}}"#,
		br#"{"jsonrpc":"2.0","id":"a","result":{"protocols":[1]}}"#,
	];
	assert_parse_errors(&lsp, &bad).await;
}

#[tokio::test]
async fn l0_06_params_that_are_neither_object_nor_array_are_refused() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	for params in ["\"text\"", "7", "true"] {
		let bytes = format!(r#"{{"jsonrpc":"2.0","id":"a","method":"lsps0.list_protocols","params":{params}}}"#);
		let response = peer.exchange(bytes).await.unwrap();
		let code = response["error"]["code"].as_i64();
		assert!(matches!(code, Some(-32700 | -32600 | -32602)), "{params}: {response}");
		assert_served(&mut peer).await;
	}
}

/// The design's rule 4: two nodes that both think that they are the LSP must not answer each other for ever.
#[tokio::test]
async fn l0_07_an_error_without_an_id_is_not_answered() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	peer.send(r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}"#);
	let response = peer.exchange(request("after", "lsps0.list_protocols", &json!({}))).await.unwrap();
	assert_eq!(response["id"], "after");
}

#[tokio::test]
async fn l0_09_an_id_comes_back_as_it_was() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	for id in ["", "a", "a b", "\"\\/", "ünïcödé ✓", "\u{1}\t\n", "0", "null"] {
		let response = peer.call_with_id(id, "lsps0.list_protocols", json!({})).await.unwrap();
		assert_eq!(response["id"], id);
	}
}

#[tokio::test]
async fn l0_10_an_unknown_method_is_refused_with_its_id() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let protocols = result(&peer.call("lsps0.list_protocols", json!({})).await.unwrap())["protocols"].clone();
	let mut unknown = vec!["", " ", "lsps0", "lsps0.", "lsps0.nothing", "lsps0.list_protocols ", "LSPS1.get_info"];
	unknown.extend(["lsps1.nothing", "lsps2.nothing", "lsps9.get_info", "lsps1.get_info.more", "get_info"]);
	if !protocols.as_array().unwrap().contains(&json!(5)) {
		unknown.extend(["lsps5.set_webhook", "lsps5.list_webhooks", "lsps5.remove_webhook"]);
	}
	for method in unknown {
		let response = peer.call(method, json!({ "anything": 1 })).await.unwrap();
		error(&response, -32601);
	}
	assert_served(&mut peer).await;
}

#[tokio::test]
async fn l0_11_unrecognized_parameters_are_named() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	for (method, mut params) in methods() {
		params["zzz"] = json!(1);
		let response = peer.call(method, params.clone()).await.unwrap();
		assert_eq!(unrecognized(&response), ["zzz"], "{method}");
		params["Another one"] = json!({ "deep": [] });
		let response = peer.call(method, params).await.unwrap();
		assert_eq!(unrecognized(&response), ["Another one", "zzz"], "{method}");
	}
	assert_served(&mut peer).await;
}

#[tokio::test]
async fn l0_12_invalid_params_always_come_with_unrecognized() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	for (method, field) in [("lsps1.get_order", "order_id"), ("lsps2.buy", "opening_fee_params")] {
		let response = peer.call(method, json!({ field: 7 })).await.unwrap();
		assert!(unrecognized(&response).is_empty(), "{response}");
	}
}

#[tokio::test]
async fn l0_13_parameters_by_position_are_refused() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	for (method, params) in methods() {
		let values: Vec<Value> = params.as_object().unwrap().values().cloned().collect();
		for by_position in [Value::Array(values), json!([]), json!(["x", 1])] {
			let response = peer.call(method, by_position).await.unwrap();
			error(&response, -32602);
		}
	}
	assert_served(&mut peer).await;
}

#[tokio::test]
async fn l0_14_a_missing_parameter_or_a_wrong_type_is_refused() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	for (method, params) in methods() {
		for name in params.as_object().unwrap().keys() {
			let mut missing = params.clone();
			missing.as_object_mut().unwrap().remove(name);
			let mut wrong = params.clone();
			wrong[name] = json!([{}]);
			for (what, params) in [("without", missing), ("with a list as", wrong)] {
				let response = peer.call(method, params).await.unwrap();
				assert_eq!(response["error"]["code"], -32602, "{method} {what} {name}: {response}");
			}
		}
	}
	assert_served(&mut peer).await;
}

#[tokio::test]
async fn l0_15_the_protocols_are_listed_without_zero() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let response = peer.call("lsps0.list_protocols", json!({})).await.unwrap();
	let listed = result(&response)["protocols"].as_array().unwrap();
	let numbers: BTreeSet<u64> = listed.iter().map(|number| uint(number, 326)).collect();
	assert_eq!(numbers.len(), listed.len(), "each once: {response}");
	assert!(numbers.contains(&1) && numbers.contains(&2), "{response}");
	assert!(!numbers.contains(&0), "{response}");
	assert_eq!(peer.call("lsps0.list_protocols", json!({})).await.unwrap()["result"], response["result"]);
}

#[tokio::test]
async fn l0_16_the_init_message_says_729_and_not_728() {
	let lsp = lsp().await;
	let flags = lsp.peer().await.remote_features().le_flags().to_vec();
	let is_set = |bit: usize| flags.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
	assert!(is_set(LSPS_FEATURE_BIT));
	assert!(!is_set(LSPS_FEATURE_BIT - 1));
}

#[tokio::test]
async fn l0_17_who_says_nothing_hears_nothing() {
	let lsp = lsp().await;
	let mut silent = lsp.peer().await;
	let mut talker = lsp.peer().await;
	for _ in 0..20 {
		assert_served(&mut talker).await;
	}
	assert!(silent.recv(Duration::from_millis(50)).await.is_err());
	assert!(silent.is_connected());
}

/// Each protocol's own errors, provoked one by one; 1010 is bLIP-55's own exception.
#[tokio::test]
async fn l0_18_error_codes_lie_in_the_hundred_of_their_protocol() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let terms = methods()[5].1.clone();
	let mut order = methods()[2].1.clone();
	order["lsp_balance_sat"] = json!("2100000000000000");
	let calls = [
		("lsps1.create_order", order),
		("lsps1.get_order", json!({ "order_id": "none" })),
		("lsps2.get_info", json!({ "token": "none" })),
		("lsps2.buy", terms),
		("lsps5.set_webhook", json!({ "app_name": "x".repeat(65), "webhook": "https://example.org" })),
		("lsps5.set_webhook", json!({ "app_name": "x", "webhook": "no url" })),
		("lsps5.set_webhook", json!({ "app_name": "x", "webhook": "http://example.org" })),
	];
	for (method, params) in calls {
		let response = peer.call(method, params).await.unwrap();
		let code = response["error"]["code"].as_i64().unwrap_or_else(|| panic!("{method}: {response}"));
		let protocol: i64 = method[4..5].parse().unwrap();
		assert_eq!(code / 100, protocol, "{method}: {response}");
	}
	let response = peer.call("lsps5.remove_webhook", json!({ "app_name": "none" })).await.unwrap();
	error(&response, 1010);
}

#[tokio::test]
async fn l0_20_who_leaves_before_the_answer_is_served_when_back() {
	let lsp = lsp().await;
	let identity = Identity::random().unwrap();
	for _ in 0..20 {
		let peer = lsp.peer_as(&identity, RawPeerOptions::default()).await;
		for method in ["lsps1.get_info", "lsps2.get_info", "lsps0.list_protocols"] {
			peer.send(request("gone", method, &json!({})));
		}
		peer.disconnect().await.unwrap();
	}
	let mut peer = lsp.peer_as(&identity, RawPeerOptions::default()).await;
	assert_served(&mut peer).await;
	result(&peer.call("lsps2.get_info", json!({})).await.unwrap());
}

#[tokio::test]
async fn l0_01_l0_21_each_request_has_exactly_one_response() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	// As many as a client may have in flight.
	for round in 0..3 {
		let mut expected = BTreeSet::new();
		for n in 0..15 {
			let (method, id) =
				(["lsps0.list_protocols", "lsps1.get_info", "lsps2.get_info"][n % 3], format!("{round}.{n}"));
			peer.send(request(&id, method, &json!({})));
			expected.insert(id);
		}
		let mut answered = BTreeSet::new();
		for _ in 0..15 {
			let response = check_response(&peer.recv(PATIENCE).await.unwrap()).unwrap();
			assert!(answered.insert(response["id"].as_str().unwrap().to_owned()), "twice: {response}");
		}
		assert_eq!(answered, expected);
	}
	for _ in 0..5 {
		peer.send(request("same", "lsps2.get_info", &json!({})));
	}
	for _ in 0..5 {
		assert_eq!(check_response(&peer.recv(PATIENCE).await.unwrap()).unwrap()["id"], "same");
	}
	assert!(peer.recv(Duration::from_millis(50)).await.is_err(), "no more than that");
}

#[tokio::test]
async fn l0_22_the_largest_payload_is_read_and_none_larger_is_sent() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let mut full = request("full", "lsps0.list_protocols", &json!({}));
	full.resize(MAX_PAYLOAD, b' ');
	assert_eq!(peer.exchange(full).await.unwrap()["id"], "full");

	// What would be echoed does not fit any more: there is an answer all the same.
	let long_id = request(&"i".repeat(65_000), "lsps0.list_protocols", &json!({}));
	let long_name = request("name", "lsps1.get_info", &json!({ "é".repeat(31_000): 1 }));
	let many_names: serde_json::Map<String, Value> = (0..6_000).map(|n| (format!("n{n}"), json!(1))).collect();
	let many_names = request("names", "lsps1.get_info", &Value::Object(many_names));
	let long_method = request("method", &"m".repeat(65_000), &json!({}));
	for large in [long_id, long_name, many_names, long_method] {
		let response = peer.exchange(large).await.unwrap();
		assert!(response["error"]["code"].is_i64(), "{response}");
		assert_served(&mut peer).await;
	}
}

#[tokio::test]
async fn l0_22_deep_nesting_does_no_harm() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
		let depth = 10_000;
		let inner = if open == "[" { "" } else { "1" };
		let params = format!("{{\"a\":{}{inner}{}}}", open.repeat(depth), close.repeat(depth));
		let bytes = format!(r#"{{"jsonrpc":"2.0","id":"a","method":"lsps1.get_info","params":{params}}}"#);
		let response = peer.exchange(bytes).await.unwrap();
		assert!(matches!(response["error"]["code"].as_i64(), Some(-32700 | -32602)), "{response}");
		assert_served(&mut peer).await;
	}
}

#[tokio::test]
async fn l0_24_a_flood_from_one_peer_does_not_disturb_another() {
	let lsp = lsp().await;
	let elsewhere = RawPeerOptions { from: Some(Ipv4Addr::new(127, 0, 0, 9)), ..Default::default() };
	let flooder = lsp.peer_as(&Identity::random().unwrap(), elsewhere).await;
	let mut other = lsp.peer().await;
	let mut slowest = Duration::ZERO;
	for _ in 0..20 {
		for n in 0..100 {
			match n % 4 {
				0 => flooder.send("not json at all"),
				1 => flooder.send(request("flood", "lsps2.get_info", &json!({}))),
				2 => flooder.send(request("flood", "lsps9.nothing", &json!({ "x": "y".repeat(2000) }))),
				_ => flooder.send(request("flood", "lsps1.get_info", &json!({}))),
			}
		}
		let start = std::time::Instant::now();
		assert_served(&mut other).await;
		slowest = slowest.max(start.elapsed());
	}
	assert!(slowest < Duration::from_secs(3), "the other had to wait for {slowest:?}");
	assert!(lsp.inlet.check_running().is_ok());
}

#[tokio::test]
async fn l0_24_garbage_from_one_peer_does_not_disturb_anothers_request() {
	let lsp = lsp().await;
	let mut peers: Vec<RawPeer> = Vec::new();
	for _ in 0..4 {
		peers.push(lsp.peer().await);
	}
	let mut good = lsp.peer().await;
	for round in 0..10u8 {
		for (n, peer) in peers.iter().enumerate() {
			peer.send(vec![round.wrapping_mul(37).wrapping_add(n as u8); 1 + 1000 * n]);
		}
		let info = good.call("lsps1.get_info", json!({})).await.unwrap();
		assert!(result(&info).get("min_channel_balance_sat").is_some());
	}
	for peer in &mut peers {
		for _ in 0..10 {
			error(&check_response(&peer.recv(PATIENCE).await.unwrap()).unwrap(), -32700);
		}
		assert_served(peer).await;
	}
}

#[tokio::test]
async fn l0_25_unknown_odd_types_are_ignored_and_even_ones_cost_only_their_sender() {
	let lsp = lsp().await;
	let mut odd = lsp.peer().await;
	odd.send_typed(37915, "whatever");
	odd.send_typed(65535, vec![0; MAX_PAYLOAD]);
	assert_served(&mut odd).await;
	let even = lsp.peer().await;
	even.send_typed(37914, "whatever");
	assert_served(&mut odd).await;
	assert_served(&mut lsp.peer().await).await;
}

#[tokio::test]
async fn l0_25_a_client_that_claims_to_be_an_lsp_is_served() {
	let lsp = lsp().await;
	let options = RawPeerOptions { claims_to_be_lsp: true, ..Default::default() };
	let mut peer = lsp.peer_as(&Identity::random().unwrap(), options).await;
	assert_served(&mut peer).await;
}
