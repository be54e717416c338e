//! bLIP-55: webhooks, as far as a client sees them. What is sent to them is tested elsewhere.

use super::{Lsp, assert_served, error, lsp, result, unrecognized};
use inlet_tests::thin::{Identity, RawPeer, RawPeerOptions, request};
use serde_json::{Value, json};

/// Nobody listens there.
const URL: &str = "https://127.0.0.1:1/wake?id=1";

async fn set(peer: &mut RawPeer, name: &str, url: &str) -> Value {
	peer.call("lsps5.set_webhook", json!({ "app_name": name, "webhook": url })).await.unwrap()
}

async fn names(peer: &mut RawPeer) -> Value {
	let response = peer.call("lsps5.list_webhooks", json!({})).await.unwrap();
	assert!(result(&response)["max_webhooks"].as_u64().unwrap() > 0, "{response}");
	result(&response)["app_names"].clone()
}

/// Sets a webhook whose name is written like this in the JSON.
async fn set_written(peer: &mut RawPeer, name: &str) -> Value {
	let params = format!(r#"{{"app_name":"{name}","webhook":"{URL}"}}"#);
	let request = format!(r#"{{"jsonrpc":"2.0","id":"w","method":"lsps5.set_webhook","params":{params}}}"#);
	peer.exchange(request).await.unwrap()
}

#[tokio::test]
async fn l5_01_l5_03_setting_a_webhook_tells_how_many_there_are_and_whether_it_is_new() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let protocols = peer.call("lsps0.list_protocols", json!({})).await.unwrap();
	assert!(result(&protocols)["protocols"].as_array().unwrap().contains(&json!(5)), "{protocols}");
	for (name, url, num_webhooks, no_change) in
		[("a", URL, 1, false), ("a", URL, 1, true), ("b", URL, 2, false), ("a", "https://localhost:1", 2, false)]
	{
		let response = set(&mut peer, name, url).await;
		let answer = result(&response);
		assert_eq!((&answer["num_webhooks"], &answer["no_change"]), (&json!(num_webhooks), &json!(no_change)));
		assert!(answer["max_webhooks"].as_u64().unwrap() >= 2, "{response}");
		assert_eq!(answer.as_object().unwrap().len(), 3, "{response}");
	}
}

#[tokio::test]
async fn l5_02_l5_11_at_the_limit_a_webhook_can_still_be_replaced() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let first = set(&mut peer, "0", URL).await;
	let max = result(&first)["max_webhooks"].as_u64().unwrap();
	for name in 1..max {
		result(&set(&mut peer, &name.to_string(), URL).await);
	}
	let response = set(&mut peer, "one more", URL).await;
	assert_eq!(error(&response, 503)["data"], json!({ "max_webhooks": max }));
	let response = set(&mut peer, "0", "https://localhost:1").await;
	assert_eq!((&result(&response)["num_webhooks"], &response["result"]["no_change"]), (&json!(max), &json!(false)));
	result(&peer.call("lsps5.remove_webhook", json!({ "app_name": "1" })).await.unwrap());
	result(&set(&mut peer, "one more", URL).await);
}

#[tokio::test]
async fn l5_04_l5_05_l5_06_webhooks_are_listed_and_removed_by_name() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	assert_eq!(names(&mut peer).await, json!([]));
	set(&mut peer, "a", URL).await;
	set(&mut peer, "b \u{e9}", URL).await;
	assert_eq!(names(&mut peer).await, json!(["a", "b \u{e9}"]));
	result(&peer.call("lsps5.remove_webhook", json!({ "app_name": "a" })).await.unwrap());
	for unknown in ["a", "", &"x".repeat(500)] {
		let response = peer.call("lsps5.remove_webhook", json!({ "app_name": unknown })).await.unwrap();
		error(&response, 1010);
	}
	assert_eq!(names(&mut peer).await, json!(["b \u{e9}"]));
}

#[tokio::test]
async fn l5_07_a_name_is_as_long_as_it_is_written() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	for fits in ["x".repeat(64), "\u{e9}".repeat(32), r"\u0041".repeat(10) + "wxyz"] {
		result(&set_written(&mut peer, &fits).await);
	}
	for long in ["x".repeat(65), "\u{e9}".repeat(33), r"\u0041".repeat(11), r"\n".repeat(33)] {
		error(&set_written(&mut peer, &long).await, 500);
	}
	assert_served(&mut peer).await;
}

#[tokio::test]
async fn l5_08_a_url_has_1024_characters_at_most() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	let longest = format!("https://127.0.0.1:1/{}", "x".repeat(1024 - 20));
	result(&set(&mut peer, "a", &longest).await);
	error(&set(&mut peer, "b", &format!("{longest}x")).await, 500);
	error(&set(&mut peer, "c", &"x".repeat(60_000)).await, 500);
}

#[tokio::test]
async fn l5_09_l5_21_what_is_no_url_is_refused() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	for bad in ["", "x", "//localhost", "https://", "https:///x", "https://local host/", "https://p\u{fc}sh.example/"] {
		error(&set(&mut peer, "a", bad).await, 501);
	}
	assert_served(&mut peer).await;
}

#[tokio::test]
async fn l5_10_https_is_served_and_nothing_else() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	for other in ["http://localhost:1", "ftp://localhost/x", "mailto:a@localhost"] {
		error(&set(&mut peer, "a", other).await, 502);
	}
	result(&set(&mut peer, "a", "https://localhost:1").await);
}

#[tokio::test]
async fn l5_12_webhooks_belong_to_the_node() {
	let lsp = lsp().await;
	let (mut one, mut other) = (lsp.peer().await, lsp.peer().await);
	set(&mut one, "a", URL).await;
	assert_eq!(names(&mut other).await, json!([]));
	error(&other.call("lsps5.remove_webhook", json!({ "app_name": "a" })).await.unwrap(), 1010);
	assert_eq!(names(&mut one).await, json!(["a"]));
}

#[tokio::test]
async fn l5_13_what_was_answered_is_there_after_a_kill() {
	let lsp = Lsp::start("").await.unwrap();
	let identity = Identity::random().unwrap();
	let mut peer = lsp.peer_as(&identity, RawPeerOptions::default()).await;
	result(&set(&mut peer, "a", URL).await);
	lsp.inlet.kill().unwrap();
	lsp.inlet.resume().await.unwrap();
	let mut peer = lsp.peer_as(&identity, RawPeerOptions::default()).await;
	assert_eq!(names(&mut peer).await, json!(["a"]));
	assert_eq!(result(&set(&mut peer, "a", URL).await)["no_change"], true);
}

#[tokio::test]
async fn l5_19_notifications_are_no_methods() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	set(&mut peer, "a", URL).await;
	for name in [
		"webhook_registered",
		"payment_incoming",
		"expiry_soon",
		"liquidity_management_request",
		"onion_message_incoming",
	] {
		error(&peer.call(&format!("lsps5.{name}"), json!({})).await.unwrap(), -32601);
	}
}

#[tokio::test]
async fn l5_22_a_stranger_too_many_is_refused_with_1() {
	let lsp = Lsp::start("[lsps5]\nmax_clients_without_channel = 1\n").await.unwrap();
	let (mut one, mut other) = (lsp.peer().await, lsp.peer().await);
	result(&set(&mut one, "a", URL).await);
	error(&set(&mut other, "a", URL).await, 1);
	result(&set(&mut one, "b", URL).await);
	assert_served(&mut other).await;
}

#[tokio::test]
async fn l5_23_one_client_cannot_make_us_send_without_end() {
	let lsp = lsp().await;
	let (mut one, mut other) = (lsp.peer().await, lsp.peer().await);
	let mut refused = 0;
	for number in 0..50 {
		let response = set(&mut one, "a", &format!("https://127.0.0.1:1/{number}")).await;
		if response.get("error").is_some() {
			error(&response, 1);
			refused += 1;
		}
	}
	assert_eq!(refused, 30, "twice as many changes an hour as there can be webhooks");
	result(&set(&mut other, "a", URL).await);
}

#[tokio::test]
async fn l0_11_to_14_parameters_of_webhooks_are_known_and_typed() {
	let lsp = lsp().await;
	let mut peer = lsp.peer().await;
	for method in ["lsps5.set_webhook", "lsps5.list_webhooks", "lsps5.remove_webhook"] {
		let params = json!({ "app_name": "a", "webhook": URL, "zz": 1 });
		assert!(unrecognized(&peer.call(method, params).await.unwrap()).contains(&"zz".to_owned()), "{method}");
	}
	for params in [json!({ "app_name": 1, "webhook": URL }), json!({ "app_name": "a", "webhook": null }), json!({})] {
		error(&peer.call("lsps5.set_webhook", params).await.unwrap(), -32602);
	}
	error(&peer.exchange(request("x", "lsps5.list_webhooks", &json!([]))).await.unwrap(), -32602);
}
