//! bLIP-52: channels just in time, as far as it goes without a payment.

use super::{Lsp, amount, assert_served, datetime, error, lsp, now, result, uint, unrecognized, with};
use inlet_tests::thin::{Identity, RawPeer, RawPeerOptions, request};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Fields of an entry of the menu, and no others.
const TERMS: [&str; 8] = [
	"max_client_to_self_delay",
	"max_payment_size_msat",
	"min_fee_msat",
	"min_lifetime",
	"min_payment_size_msat",
	"promise",
	"proportional",
	"valid_until",
];

async fn menu(peer: &mut RawPeer) -> Vec<Value> {
	let response = peer.call("lsps2.get_info", json!({})).await.unwrap();
	let menu = result(&response)["opening_fee_params_menu"].as_array().unwrap().clone();
	assert!(!menu.is_empty(), "the LSP has money and sells: {response}");
	menu
}

async fn buy(peer: &mut RawPeer, terms: &Value, size: Option<u64>) -> Value {
	let mut params = json!({ "opening_fee_params": terms });
	if let Some(size) = size {
		params["payment_size_msat"] = json!(size.to_string());
	}
	peer.call("lsps2.buy", params).await.unwrap()
}

/// bLIP-52's computation of the opening fee.
fn opening_fee(terms: &Value, size: u64) -> u64 {
	let share = u128::from(size) * u128::from(uint(&terms["proportional"], u64::MAX));
	u64::try_from(share.div_ceil(1_000_000)).unwrap().max(amount(&terms["min_fee_msat"]))
}

#[tokio::test]
async fn l2_01_the_menu_comes_without_a_token() {
	let lsp = lsp().await;
	menu(&mut lsp.peer().await).await;
}

#[tokio::test]
async fn l2_02_an_entry_has_exactly_the_fields_of_the_specification() {
	let lsp = lsp().await;
	for terms in menu(&mut lsp.peer().await).await {
		let fields: Vec<&str> = terms.as_object().unwrap().keys().map(String::as_str).collect();
		assert_eq!(fields.into_iter().collect::<BTreeSet<_>>(), TERMS.into_iter().collect(), "{terms}");
		let (smallest, largest) = (amount(&terms["min_payment_size_msat"]), amount(&terms["max_payment_size_msat"]));
		assert!(0 < smallest && smallest <= largest, "{terms}");
		amount(&terms["min_fee_msat"]);
		uint(&terms["proportional"], u32::MAX.into());
		uint(&terms["min_lifetime"], u32::MAX.into());
		uint(&terms["max_client_to_self_delay"], u32::MAX.into());
		datetime(&terms["valid_until"]);
	}
}

#[tokio::test]
async fn l2_03_an_offer_holds_for_ten_minutes() {
	let lsp = lsp().await;
	let before = now();
	for terms in menu(&mut lsp.peer().await).await {
		assert!(datetime(&terms["valid_until"]) >= before + 600, "{terms}");
	}
}

#[tokio::test]
async fn l2_04_each_entry_is_dearer_than_the_one_before() {
	let lsp = lsp().await;
	let menu = menu(&mut lsp.peer().await).await;
	for pair in menu.windows(2) {
		let fee = |terms: &Value| amount(&terms["min_fee_msat"]);
		let share = |terms: &Value| uint(&terms["proportional"], u64::MAX);
		assert!(fee(&pair[0]) <= fee(&pair[1]) && share(&pair[0]) <= share(&pair[1]), "{pair:?}");
		assert!(fee(&pair[0]) < fee(&pair[1]) || share(&pair[0]) < share(&pair[1]), "{pair:?}");
	}
}

#[tokio::test]
async fn l2_05_a_promise_is_short_and_printable() {
	let lsp = lsp().await;
	for terms in menu(&mut lsp.peer().await).await {
		let promise = terms["promise"].as_str().unwrap();
		assert!(!promise.is_empty() && promise.len() <= 512, "{promise}");
		assert!(promise.chars().all(|c| matches!(c, ' '..='~') && c != '"' && c != '\\'), "{promise}");
	}
}

#[tokio::test]
async fn l2_06_a_promise_covers_every_field() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let terms = menu(&mut peer).await.remove(0);
	let size = amount(&terms["min_payment_size_msat"]) + 10_000_000;
	for field in TERMS {
		let changed = match field {
			"promise" => json!(flipped(terms[field].as_str().unwrap())),
			"valid_until" => json!("2099-12-31T23:59:59.999Z"),
			_ if terms[field].is_string() => json!((amount(&terms[field]) + 1).to_string()),
			_ => json!(uint(&terms[field], u64::MAX) + 1),
		};
		let forged = with(&terms, field, Some(changed));
		for size in [Some(size), None] {
			let response = buy(&mut peer, &forged, size).await;
			assert_eq!(response["error"]["code"], 201, "{field}: {response}");
		}
	}
	for promise in ["", "x", &"a".repeat(512), "ü"] {
		let response = buy(&mut peer, &with(&terms, "promise", Some(json!(promise))), Some(size)).await;
		assert_eq!(response["error"]["code"], 201, "{promise}: {response}");
	}
	// No promise is that long: it is as malformed as it is unknown.
	let response = buy(&mut peer, &with(&terms, "promise", Some(json!("a".repeat(5000)))), Some(size)).await;
	assert!(matches!(response["error"]["code"].as_i64(), Some(201 | -32602)), "{response}");
	result(&buy(&mut peer, &terms, Some(size)).await);
}

/// Another promise of the same length, equal to this one but for the last character.
fn flipped(promise: &str) -> String {
	let (head, last) = promise.split_at(promise.len() - 1);
	format!("{head}{}", if last == "0" { "1" } else { "0" })
}

#[tokio::test]
async fn l2_06_a_promise_of_another_entry_does_not_fit() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let (first, second) = (menu(&mut peer).await.remove(0), menu(&mut peer).await.remove(0));
	let dearer = with(&first, "min_fee_msat", Some(json!("1")));
	let swapped = with(&dearer, "promise", Some(second["promise"].clone()));
	error(&buy(&mut peer, &swapped, None).await, 201);
}

#[tokio::test]
async fn l2_07_a_date_in_the_past_is_refused() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let terms = menu(&mut peer).await.remove(0);
	for past in ["2020-01-01T00:00:00.000Z", "1970-01-01T00:00:00.000Z"] {
		error(&buy(&mut peer, &with(&terms, "valid_until", Some(json!(past))), None).await, 201);
	}
	// Before the epoch of most clocks: no parse error, which would have no id.
	let response = buy(&mut peer, &with(&terms, "valid_until", Some(json!("1969-12-31T23:59:59.999Z"))), None).await;
	assert!(matches!(response["error"]["code"].as_i64(), Some(201 | -32602)), "{response}");
}

#[tokio::test]
async fn l2_08_an_unknown_token_is_refused_and_a_known_one_is_not() {
	let lsp = Lsp::start("[lsps2]\ntokens = [\"COUPON-1\"]\n").await.unwrap();
	let mut peer = lsp.peer().await;
	for token in ["", "COUPON-2", "coupon-1", "COUPON-1 ", &"x".repeat(60_000)] {
		error(&peer.call("lsps2.get_info", json!({ "token": token })).await.unwrap(), 200);
	}
	let response = peer.call("lsps2.get_info", json!({ "token": "COUPON-1" })).await.unwrap();
	assert!(!result(&response)["opening_fee_params_menu"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn l2_08_without_tokens_any_token_is_unknown() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	error(&peer.call("lsps2.get_info", json!({ "token": "COUPON-1" })).await.unwrap(), 200);
	error(&peer.call("lsps2.get_info", json!({ "token": 7 })).await.unwrap(), -32602);
}

#[tokio::test]
async fn l2_09_buying_gives_a_scid_and_a_cltv_delta() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let terms = menu(&mut peer).await.remove(0);
	let response = buy(&mut peer, &terms, None).await;
	let bought = result(&response);
	let scid = bought["jit_channel_scid"].as_str().unwrap();
	let parts: Vec<u64> = scid.split('x').map(|part| part.parse().unwrap()).collect();
	assert!(parts.len() == 3 && parts[0] < 1 << 24 && parts[1] < 1 << 24 && parts[2] < 1 << 16, "{scid}");
	assert_eq!(format!("{}x{}x{}", parts[0], parts[1], parts[2]), scid);
	assert!((1..=2016).contains(&uint(&bought["lsp_cltv_expiry_delta"], u16::MAX.into())), "{response}");
	assert!(bought.get("client_trusts_lsp").is_none_or(Value::is_boolean), "{response}");
}

#[tokio::test]
async fn l2_10_a_size_may_be_fixed_or_left_open() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let terms = menu(&mut peer).await.remove(0);
	let largest = amount(&terms["max_payment_size_msat"]);
	result(&buy(&mut peer, &terms, Some(largest)).await);
	result(&buy(&mut peer, &terms, None).await);
}

#[tokio::test]
async fn l2_11_a_size_out_of_bounds_is_refused() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let terms = menu(&mut peer).await.remove(0);
	let (smallest, largest) = (amount(&terms["min_payment_size_msat"]), amount(&terms["max_payment_size_msat"]));
	for size in [0, 1, smallest - 1] {
		error(&buy(&mut peer, &terms, Some(size)).await, 202);
	}
	for size in [largest + 1, largest.saturating_mul(1000)] {
		error(&buy(&mut peer, &terms, Some(size)).await, 203);
	}
}

#[tokio::test]
async fn l2_12_a_fee_above_the_payment_is_refused() {
	// The floor is above the smallest payment that is set, so the fee would eat small ones whole: none such is offered.
	let lsp = Lsp::start("[lsps2]\nmin_payment_sat = 1000\n\n[price]\nfloor_sat = 2000\n").await.unwrap();
	let mut peer = lsp.peer().await;
	let terms = menu(&mut peer).await.remove(0);
	let smallest = amount(&terms["min_payment_size_msat"]);
	let fee = opening_fee(&terms, smallest);
	assert!(fee < smallest, "{terms}");
	for size in [fee / 2, fee] {
		assert!(opening_fee(&terms, size) >= size);
		error(&buy(&mut peer, &terms, Some(size)).await, 202);
	}
	result(&buy(&mut peer, &terms, Some(fee * 10)).await);
}

#[tokio::test]
async fn l2_13_an_overflow_is_refused() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let terms = menu(&mut peer).await.remove(0);
	for size in [u64::MAX, u64::MAX - 999_999, u64::MAX / 2] {
		error(&buy(&mut peer, &terms, Some(size)).await, 203);
	}
	let params = json!({ "opening_fee_params": terms, "payment_size_msat": "18446744073709551616" });
	error(&peer.call("lsps2.buy", params).await.unwrap(), -32602);
}

#[tokio::test]
async fn l2_15_malformed_terms_are_refused() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let terms = menu(&mut peer).await.remove(0);
	let extra = buy(&mut peer, &with(&terms, "discount", Some(json!(1))), None).await;
	assert!(unrecognized(&extra).iter().any(|name| name.ends_with("discount")), "{extra}");
	for field in TERMS {
		let absent = with(&terms, field, None);
		let null = with(&terms, field, Some(Value::Null));
		let list = with(&terms, field, Some(json!([])));
		// A number where a string is due, and the other way round.
		let swapped = if terms[field].is_string() { json!(1) } else { json!("1") };
		let swapped = with(&terms, field, Some(swapped));
		for wrong in [absent, null, list, swapped] {
			let response = buy(&mut peer, &wrong, None).await;
			assert_eq!(response["error"]["code"], -32602, "{field} in {wrong}: {response}");
		}
	}
	for size in
		[json!(100_000_000), json!(""), json!("-1"), json!("+100000000"), json!("1e8"), json!(" 100000000"), json!({})]
	{
		let params = json!({ "opening_fee_params": terms, "payment_size_msat": size });
		error(&peer.call("lsps2.buy", params).await.unwrap(), -32602);
	}
	result(&buy(&mut peer, &terms, None).await);
}

#[tokio::test]
async fn l2_16_each_request_has_its_own_scid() {
	let lsp = lsp().await;
	let mut scids = BTreeSet::new();
	for _ in 0..3 {
		let mut peer = lsp.peer().await;
		let terms = menu(&mut peer).await.remove(0);
		for size in [None, Some(amount(&terms["min_payment_size_msat"]) * 20)] {
			let response = buy(&mut peer, &terms, size).await;
			assert!(scids.insert(result(&response)["jit_channel_scid"].to_string()), "{response}");
		}
	}
}

#[tokio::test]
async fn l2_18_l0_23_unpaid_requests_are_bounded_and_the_menu_still_comes() {
	let lsp = lsp().await;
	let mut greedy = lsp.peer().await;
	let terms = menu(&mut greedy).await.remove(0);
	let mut refusal = None;
	for _ in 0..50 {
		let response = buy(&mut greedy, &terms, None).await;
		if response.get("error").is_some() {
			refusal = Some(response);
			break;
		}
	}
	let refusal = refusal.expect("fifty unpaid requests are too many");
	assert!(error(&refusal, 1)["data"]["message"].is_string(), "{refusal}");
	menu(&mut greedy).await;
	let mut other = lsp.peer().await;
	let terms = menu(&mut other).await.remove(0);
	result(&buy(&mut other, &terms, None).await);
}

#[tokio::test]
async fn l2_32_repeated_ids_and_hasty_disconnects_do_no_harm() {
	let lsp = lsp().await;
	let identity = Identity::random().unwrap();
	let mut first = lsp.peer_as(&identity, RawPeerOptions::default()).await;
	let terms = menu(&mut first).await.remove(0);
	first.disconnect().await.unwrap();
	for _ in 0..15 {
		let peer = lsp.peer_as(&identity, RawPeerOptions::default()).await;
		for _ in 0..5 {
			peer.send(request("same", "lsps2.get_info", &json!({})));
			peer.send(request("same", "lsps2.buy", &json!({ "opening_fee_params": terms })));
		}
		peer.disconnect().await.unwrap();
	}
	let mut back = lsp.peer_as(&identity, RawPeerOptions::default()).await;
	assert_served(&mut back).await;
	menu(&mut back).await;
	let mut other = lsp.peer().await;
	let terms = menu(&mut other).await.remove(0);
	result(&buy(&mut other, &terms, None).await);
}
