//! bLIP-51: channels on order, as far as it goes without a payment.

use super::{
	Lsp, Share, amount, assert_invalid_property, assert_served, datetime, error, lsp, now, result, uint, with,
};
use bitcoin::Network;
use bitcoin::address::{Address, NetworkUnchecked};
use inlet_tests::thin::{Identity, RawPeer, RawPeerOptions};
use lightning_invoice::{Bolt11Invoice, Currency};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const PAIRS: [(&str, &str); 3] = [
	("min_initial_client_balance_sat", "max_initial_client_balance_sat"),
	("min_initial_lsp_balance_sat", "max_initial_lsp_balance_sat"),
	("min_channel_balance_sat", "max_channel_balance_sat"),
];

async fn info(peer: &mut RawPeer) -> Value {
	result(&peer.call("lsps1.get_info", json!({})).await.unwrap()).clone()
}

/// An order within the limits, without a refund address.
fn order(info: &Value) -> Value {
	let smallest = amount(&info["min_initial_lsp_balance_sat"]).max(amount(&info["min_channel_balance_sat"]));
	json!({
		"lsp_balance_sat": (smallest + 50_000).to_string(),
		"client_balance_sat": amount(&info["min_initial_client_balance_sat"]).to_string(),
		"required_channel_confirmations": uint(&info["min_required_channel_confirmations"], 65535) + 1,
		"funding_confirms_within_blocks": uint(&info["min_funding_confirms_within_blocks"], 65535) + 2,
		"channel_expiry_blocks": uint(&info["max_channel_expiry_blocks"], u32::MAX.into()) - 1,
		"announce_channel": false,
	})
}

async fn create(peer: &mut RawPeer, order: &Value) -> Value {
	peer.call("lsps1.create_order", order.clone()).await.unwrap()
}

/// A client with an order, and the order as the LSP sees it.
async fn ordered(lsp: &Share) -> (RawPeer, Value) {
	let mut peer = lsp.peer().await;
	let mut request = order(&info(&mut peer).await);
	request["refund_onchain_address"] = json!(lsp.segwit_address().await);
	let created = result(&create(&mut peer, &request).await).clone();
	(peer, created)
}

#[tokio::test]
async fn l1_01_the_options_are_complete_and_of_the_right_types() {
	let lsp = lsp().await;
	let info = info(&mut lsp.peer().await).await;
	uint(&info["min_required_channel_confirmations"], u16::MAX.into());
	uint(&info["min_funding_confirms_within_blocks"], u16::MAX.into());
	uint(&info["max_channel_expiry_blocks"], u32::MAX.into());
	assert!(info["supports_zero_channel_reserve"].is_boolean(), "{info}");
	for (min, max) in PAIRS {
		amount(&info[min]);
		amount(&info[max]);
	}
}

#[tokio::test]
async fn l1_02_no_minimum_is_above_its_maximum() {
	let lsp = lsp().await;
	let info = info(&mut lsp.peer().await).await;
	for (min, max) in PAIRS {
		assert!(amount(&info[min]) <= amount(&info[max]), "{min} in {info}");
	}
	assert!(uint(&info["min_funding_confirms_within_blocks"], u16::MAX.into()) >= 1);
	assert!(uint(&info["max_channel_expiry_blocks"], u32::MAX.into()) >= 1);
}

#[tokio::test]
async fn l1_03_the_options_do_not_change_from_call_to_call() {
	let lsp = lsp().await;
	let (mut one, mut two) = (lsp.peer().await, lsp.peer().await);
	let first = info(&mut one).await;
	result(&create(&mut one, &order(&first)).await);
	assert_eq!(info(&mut one).await, first);
	assert_eq!(info(&mut two).await, first);
}

#[tokio::test]
async fn l1_05_an_order_mirrors_the_request() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let info = info(&mut peer).await;
	for announce in [false, true] {
		let mut request = order(&info);
		request["announce_channel"] = json!(announce);
		let client = amount(&info["max_initial_client_balance_sat"]).min(33_333);
		request["client_balance_sat"] = json!(client.to_string());
		let created = result(&create(&mut peer, &request).await).clone();
		for (field, value) in request.as_object().unwrap() {
			assert_eq!(&created[field], value, "{field} in {created}");
		}
		assert_eq!(created["order_state"], "CREATED");
		assert!(created.as_object().unwrap().contains_key("channel"), "{created}");
		assert!(created["channel"].is_null(), "{created}");
	}
}

#[tokio::test]
async fn l1_06_order_ids_are_random_uuids() {
	let lsp = lsp().await;
	let mut seen = BTreeSet::new();
	for _ in 0..4 {
		let (_, created) = ordered(&lsp).await;
		let id = created["order_id"].as_str().unwrap().to_owned();
		let form: String = id.chars().map(|c| if c.is_ascii_hexdigit() { 'h' } else { c }).collect();
		assert_eq!(form, "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh", "{id}");
		assert!(id.as_bytes()[14] == b'4' && b"89ab".contains(&id.as_bytes()[19]), "{id} is not version 4");
		assert!(seen.insert(id), "twice the same id");
	}
}

#[tokio::test]
async fn l1_07_a_missing_token_is_an_empty_one() {
	let lsp = lsp().await;
	assert_eq!(ordered(&lsp).await.1["token"], "");
}

#[tokio::test]
async fn l1_08_an_order_says_when_it_was_created() {
	let lsp = lsp().await;
	let before = now();
	let created = datetime(&ordered(&lsp).await.1["created_at"]);
	assert!((before..=now()).contains(&created));
}

#[tokio::test]
async fn l1_10_each_payment_option_has_a_state_an_end_and_a_sum() {
	let lsp = lsp().await;
	let (_, created) = ordered(&lsp).await;
	let options = created["payment"].as_object().unwrap();
	assert!(options.contains_key("bolt11"), "{created}");
	for (name, option) in options {
		assert_eq!(option["state"], "EXPECT_PAYMENT", "{name}");
		assert!(datetime(&option["expires_at"]) > now(), "{name}");
		let fee = amount(&option["fee_total_sat"]);
		assert!(fee > 0, "{name}");
		assert_eq!(amount(&option["order_total_sat"]), fee + amount(&created["client_balance_sat"]), "{name}");
	}
}

#[tokio::test]
async fn l1_11_the_invoice_is_for_the_order_and_ends_with_it() {
	let lsp = lsp().await;
	let (_, created) = ordered(&lsp).await;
	let option = &created["payment"]["bolt11"];
	let text = option["invoice"].as_str().unwrap();
	assert!(text.len() <= 2048);
	let invoice: Bolt11Invoice = text.parse().unwrap();
	assert_eq!(invoice.currency(), Currency::Regtest);
	assert_eq!(invoice.amount_milli_satoshis(), Some(amount(&option["order_total_sat"]) * 1000));
	assert_eq!(invoice.recover_payee_pub_key().to_string(), lsp.inlet.node_id());
	let end = (invoice.duration_since_epoch() + invoice.expiry_time()).as_secs();
	assert!(end <= datetime(&option["expires_at"]) + 1, "it can be paid after the order ended");
}

#[tokio::test]
async fn l1_13_without_a_refund_address_there_is_no_on_chain_payment() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let request = order(&info(&mut peer).await);
	let created = result(&create(&mut peer, &request).await).clone();
	assert!(!created["payment"].as_object().unwrap().contains_key("onchain"), "{created}");
	let shown = peer.call("lsps1.get_order", json!({ "order_id": created["order_id"] })).await.unwrap();
	assert!(!result(&shown)["payment"].as_object().unwrap().contains_key("onchain"), "{shown}");
}

#[tokio::test]
async fn l1_14_the_on_chain_option_names_a_segwit_address_of_its_own() {
	let lsp = lsp().await;
	let (mut addresses, mut refunds) = (BTreeSet::new(), BTreeSet::new());
	for _ in 0..2 {
		let (_, created) = ordered(&lsp).await;
		let option = &created["payment"]["onchain"];
		let address: Address<NetworkUnchecked> = option["address"].as_str().unwrap().parse().unwrap();
		let script = address.require_network(Network::Regtest).unwrap().script_pubkey();
		assert!(script.is_witness_program(), "{option}");
		let confirmations = uint(&option["min_onchain_payment_confirmations"], u16::MAX.into());
		match option.get("min_fee_for_0conf") {
			None | Some(Value::Null) => {}
			Some(feerate) => {
				assert!(uint(feerate, u32::MAX.into()) >= 253, "{option}");
				assert_eq!(confirmations, 0, "only with 0 confirmations: {option}");
			}
		}
		assert!(option["refund_onchain_address"].is_string(), "{option}");
		refunds.insert(option["refund_onchain_address"].to_string());
		addresses.insert(script);
	}
	assert_eq!((addresses.len(), refunds.len()), (2, 2), "each order has its own");
}

#[tokio::test]
async fn l1_15_an_order_beyond_the_options_is_refused_with_the_option() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let info = info(&mut peer).await;
	let good = order(&info);
	let limit = |name: &str| amount(&info[name]);
	let number = |name: &str| uint(&info[name], u64::MAX);
	let text = |sat: u64| json!(sat.to_string());
	let mut cases: Vec<(&str, Value, &[&str])> = vec![
		(
			"lsp_balance_sat",
			text(limit("max_initial_lsp_balance_sat") + 1),
			&["max_initial_lsp_balance_sat", "max_channel_balance_sat"],
		),
		(
			"lsp_balance_sat",
			text(limit("max_channel_balance_sat") + 1),
			&["max_initial_lsp_balance_sat", "max_channel_balance_sat"],
		),
		("lsp_balance_sat", text(u64::MAX), &["max_initial_lsp_balance_sat", "max_channel_balance_sat"]),
		(
			"client_balance_sat",
			text(limit("max_initial_client_balance_sat") + 1),
			&["max_initial_client_balance_sat", "max_channel_balance_sat"],
		),
		("client_balance_sat", text(u64::MAX), &["max_initial_client_balance_sat", "max_channel_balance_sat"]),
		("channel_expiry_blocks", json!(number("max_channel_expiry_blocks") + 1), &["max_channel_expiry_blocks"]),
		(
			"funding_confirms_within_blocks",
			json!(number("min_funding_confirms_within_blocks") - 1),
			&["min_funding_confirms_within_blocks"],
		),
	];
	if limit("min_initial_lsp_balance_sat") > 1 {
		let below = text(limit("min_initial_lsp_balance_sat") - 1);
		cases.push(("lsp_balance_sat", below, &["min_initial_lsp_balance_sat", "min_channel_balance_sat"]));
	}
	if limit("min_initial_client_balance_sat") > 0 {
		cases.push(("client_balance_sat", text(0), &["min_initial_client_balance_sat"]));
	}
	if number("min_required_channel_confirmations") > 0 {
		cases.push(("required_channel_confirmations", json!(0), &["min_required_channel_confirmations"]));
	}
	for (field, value, options) in cases {
		let response = create(&mut peer, &with(&good, field, Some(value.clone()))).await;
		let data = &error(&response, 100)["data"];
		let property = data["property"].as_str().unwrap_or_else(|| panic!("{field} {value}: {response}"));
		assert!(options.contains(&property), "{field} {value}: {response}");
		assert!(data["message"].is_string(), "{response}");
	}
	// Each side is within its own limits, the channel is not.
	let (ours, theirs) = (limit("max_initial_lsp_balance_sat"), limit("max_initial_client_balance_sat"));
	if ours + theirs > limit("max_channel_balance_sat") {
		let both = with(&with(&good, "lsp_balance_sat", Some(text(ours))), "client_balance_sat", Some(text(theirs)));
		let response = create(&mut peer, &both).await;
		assert_eq!(error(&response, 100)["data"]["property"], "max_channel_balance_sat");
	}
	let both = with(&with(&good, "lsp_balance_sat", Some(text(u64::MAX))), "client_balance_sat", Some(text(u64::MAX)));
	error(&create(&mut peer, &both).await, 100);
	result(&create(&mut peer, &good).await);
}

/// Values that are no amounts.
fn no_amounts() -> Vec<Value> {
	let texts = ["", " ", "-1", "+5", "1.0", "1e5", "0x10", " 5", "5 ", "five", "1_000", "18446744073709551616"];
	let mut wrong: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
	wrong.extend([json!(100_000), json!(1.5), json!(true), json!({}), json!([]), Value::Null]);
	wrong
}

/// Values that are no unsigned integers of so many bits.
fn no_integers(bits: u32) -> Vec<Value> {
	vec![json!(-1), json!(1.5), json!("6"), json!(true), json!({}), json!([]), Value::Null, json!(1u64 << bits)]
}

#[tokio::test]
async fn l1_16_an_invalid_field_is_refused_with_its_name() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let good = order(&info(&mut peer).await);
	let cases = [
		("lsp_balance_sat", no_amounts()),
		("client_balance_sat", no_amounts()),
		("required_channel_confirmations", no_integers(16)),
		("funding_confirms_within_blocks", no_integers(16)),
		("channel_expiry_blocks", no_integers(32)),
		("announce_channel", vec![json!("true"), json!(1), json!([]), Value::Null]),
		("token", vec![json!(7), json!([]), json!({})]),
	];
	for (field, values) in cases {
		for value in values {
			let response = create(&mut peer, &with(&good, field, Some(value.clone()))).await;
			assert_eq!(response["error"]["code"], -32602, "{field} {value}: {response}");
			assert_invalid_property(&response, field);
		}
		if field != "token" {
			assert_invalid_property(&create(&mut peer, &with(&good, field, None)).await, field);
		}
	}
	result(&create(&mut peer, &good).await);
}

#[tokio::test]
async fn l1_16_a_refund_address_must_be_segwit_and_of_this_network() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let good = order(&info(&mut peer).await);
	let legacy = lsp.bitcoind.wallet_call("getnewaddress", json!(["", "legacy"])).await.unwrap();
	let nested = lsp.bitcoind.wallet_call("getnewaddress", json!(["", "p2sh-segwit"])).await.unwrap();
	let own = lsp.segwit_address().await;
	let mistyped = format!("{}{}", &own[..own.len() - 1], if own.ends_with('q') { 'p' } else { 'q' });
	let wrong = [
		legacy,
		nested,
		json!(mistyped),
		json!(""),
		json!("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
		json!("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx"),
		json!("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"),
		json!("x".repeat(60_000)),
		json!(7),
	];
	for address in wrong {
		let response = create(&mut peer, &with(&good, "refund_onchain_address", Some(address))).await;
		assert_invalid_property(&response, "refund_onchain_address");
	}
	let response = create(&mut peer, &with(&good, "refund_onchain_address", Some(json!(own)))).await;
	assert_eq!(result(&response)["payment"]["onchain"]["refund_onchain_address"], own);
}

#[tokio::test]
async fn l1_17_nothing_of_a_channel_can_be_ordered_for_nothing() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let good = order(&info(&mut peer).await);
	for (field, value) in [("lsp_balance_sat", json!("0")), ("channel_expiry_blocks", json!(0))] {
		let response = create(&mut peer, &with(&good, field, Some(value))).await;
		let data = &response["error"]["data"];
		match response["error"]["code"].as_i64() {
			Some(-32602) => assert_eq!(data["property"], field, "{response}"),
			Some(100) => assert!(data["property"].is_string(), "{response}"),
			_ => panic!("{response}"),
		}
	}
}

#[tokio::test]
async fn l1_18_a_token_is_checked_and_mirrored() {
	let lsp = Lsp::start("[lsps1]\ntokens = [\"COUPON-1\"]\n").await.unwrap();
	let mut peer = lsp.peer().await;
	let good = order(&info(&mut peer).await);
	for token in ["COUPON-2", "coupon-1", "COUPON-1 ", "\u{1}", &"x".repeat(60_000)] {
		error(&create(&mut peer, &with(&good, "token", Some(json!(token)))).await, 102);
	}
	let response = create(&mut peer, &with(&good, "token", Some(json!("COUPON-1")))).await;
	assert_eq!(result(&response)["token"], "COUPON-1");
}

#[tokio::test]
async fn l1_18_without_tokens_any_token_is_unknown_and_an_empty_one_is_none() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let good = order(&info(&mut peer).await);
	error(&create(&mut peer, &with(&good, "token", Some(json!("COUPON-1")))).await, 102);
	let response = create(&mut peer, &with(&good, "token", Some(json!("")))).await;
	assert_eq!(result(&response)["token"], "");
}

#[tokio::test]
async fn l1_19_an_order_is_shown_as_it_was_created_and_others_are_not_found() {
	let lsp = lsp().await;
	let (mut peer, created) = ordered(&lsp).await;
	let shown = peer.call("lsps1.get_order", json!({ "order_id": created["order_id"] })).await.unwrap();
	assert_eq!(result(&shown), &created);
	for id in ["", "x", "00000000-0000-4000-8000-000000000000", &"9".repeat(60_000)] {
		error(&peer.call("lsps1.get_order", json!({ "order_id": id })).await.unwrap(), 101);
	}
}

#[tokio::test]
async fn l1_20_nobody_sees_the_order_of_another() {
	let lsp = lsp().await;
	let (_peer, created) = ordered(&lsp).await;
	let mut other = lsp.peer().await;
	error(&other.call("lsps1.get_order", json!({ "order_id": created["order_id"] })).await.unwrap(), 101);
}

#[tokio::test]
async fn l1_21_asking_again_changes_nothing_and_ordering_again_is_a_new_order() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let mut request = order(&info(&mut peer).await);
	request["refund_onchain_address"] = json!(lsp.segwit_address().await);
	let one = result(&peer.call_with_id("same", "lsps1.create_order", request.clone()).await.unwrap()).clone();
	let two = result(&peer.call_with_id("same", "lsps1.create_order", request).await.unwrap()).clone();
	assert_ne!(one["order_id"], two["order_id"]);
	assert_ne!(one["payment"]["bolt11"]["invoice"], two["payment"]["bolt11"]["invoice"]);
	assert_ne!(one["payment"]["onchain"]["address"], two["payment"]["onchain"]["address"]);
	for created in [&one, &two, &one] {
		let shown = peer.call("lsps1.get_order", json!({ "order_id": created["order_id"] })).await.unwrap();
		assert_eq!(result(&shown), created);
	}
}

#[tokio::test]
async fn l1_22_an_order_survives_a_reconnection() {
	let lsp = lsp().await;
	let identity = Identity::random().unwrap();
	let mut peer = lsp.peer_as(&identity, RawPeerOptions::default()).await;
	let request = order(&info(&mut peer).await);
	let created = result(&create(&mut peer, &request).await).clone();
	peer.disconnect().await.unwrap();
	let mut peer = lsp.peer_as(&identity, RawPeerOptions::default()).await;
	let shown = peer.call("lsps1.get_order", json!({ "order_id": created["order_id"] })).await.unwrap();
	assert_eq!(result(&shown), &created);
}

#[tokio::test]
async fn l1_31_unpaid_orders_are_bounded_for_each_client() {
	let lsp = lsp().await;
	let mut greedy = lsp.peer().await;
	let request = order(&info(&mut greedy).await);
	let mut refusal = None;
	for _ in 0..50 {
		let response = create(&mut greedy, &request).await;
		if response.get("error").is_some() {
			refusal = Some(response);
			break;
		}
	}
	let refusal = refusal.expect("fifty unpaid orders are too many");
	assert!(error(&refusal, 1)["data"]["message"].is_string(), "{refusal}");
	assert_served(&mut greedy).await;
	result(&create(&mut lsp.peer().await, &request).await);
}
