//! bLIP-55 as a client sees it: setting, listing and removing webhooks, and for how long they are remembered.

use crate::harness::*;
use inlet_lsp::book::{Book, NodeId};
use inlet_lsp::input::{Action, Input, Sight};
use inlet_lsp::notice::Notice;
use serde_json::{Value, json};

const URL: &str = "https://push.example/hook?id=1";
const DAY: u64 = 86_400;

fn code(answer: &Value) -> i64 {
	answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {answer}"))
}

fn set(sim: &mut Sim, client: NodeId, name: &str, url: &str) -> Value {
	sim.ask(client, "lsps5.set_webhook", json!({"app_name": name, "webhook": url}))
}

/// The same with the name as it stands in the JSON.
fn set_raw(sim: &mut Sim, name: &str) -> Value {
	let params = format!(r#"{{"app_name":"{name}","webhook":"{URL}"}}"#);
	let request = format!(r#"{{"jsonrpc":"2.0","id":"q","method":"lsps5.set_webhook","params":{params}}}"#);
	sim.raw(node(1), request.as_bytes()).unwrap()
}

fn names(sim: &mut Sim, client: NodeId) -> Value {
	sim.ask(client, "lsps5.list_webhooks", json!({}))["result"]["app_names"].clone()
}

fn survey(sim: &mut Sim, client: NodeId, has_channel: bool) -> Vec<Action> {
	let sight = Sight { client, connected: false, has_channel, closes_at: None };
	sim.give(Input::Survey { clients: vec![sight] })
}

#[test]
fn l5_01_l5_02_l5_03_a_webhook_is_set_replaced_and_set_again() {
	let mut sim = Sim::new();
	let answer = set(&mut sim, node(1), "a", URL);
	assert_eq!(answer["result"], json!({"num_webhooks": 1, "max_webhooks": 10, "no_change": false}));
	let answer = set(&mut sim, node(1), "b", URL);
	assert_eq!(answer["result"], json!({"num_webhooks": 2, "max_webhooks": 10, "no_change": false}));
	for (url, no_change) in [(URL, true), ("https://other.example", false), ("https://other.example", true)] {
		let answer = set(&mut sim, node(1), "a", url);
		assert_eq!(answer["result"], json!({"num_webhooks": 2, "max_webhooks": 10, "no_change": no_change}));
	}
}

#[test]
fn l5_04_l5_05_l5_06_webhooks_are_listed_and_removed() {
	let mut sim = Sim::new();
	assert_eq!(names(&mut sim, node(1)), json!([]));
	set(&mut sim, node(1), "a", URL);
	set(&mut sim, node(1), "b \u{e9}\n", URL);
	let answer = sim.ask(node(1), "lsps5.list_webhooks", json!({}));
	assert_eq!(answer["result"], json!({"app_names": ["a", "b \u{e9}\n"], "max_webhooks": 10}));
	let remove = |sim: &mut Sim, name: &str| sim.ask(node(1), "lsps5.remove_webhook", json!({"app_name": name}));
	assert_eq!(remove(&mut sim, "a")["result"], json!({}));
	for unknown in ["a", "", "B", &"x".repeat(1000)] {
		let answer = remove(&mut sim, unknown);
		assert_eq!((code(&answer), answer["error"]["data"].is_object()), (1010, true));
	}
	assert_eq!(names(&mut sim, node(1)), json!(["b \u{e9}\n"]));
}

#[test]
fn l5_07_a_name_has_64_bytes_at_most_its_escapes_as_written() {
	let mut sim = Sim::new();
	for fits in ["x".repeat(64), "\u{e9}".repeat(32), r"\u0041".repeat(10) + "wxyz", r"\n".repeat(32), String::new()] {
		let answer = set_raw(&mut sim, &fits);
		assert!(answer.get("result").is_some(), "{fits}: {answer}");
	}
	for long in ["x".repeat(65), "\u{e9}".repeat(32) + "x", r"\u0041".repeat(11), r"\n".repeat(32) + "x"] {
		let answer = set_raw(&mut sim, &long);
		assert_eq!((code(&answer), answer["error"]["data"].is_object()), (500, true), "{long}");
	}
	// A name is what it says, however it is written.
	assert_eq!(set_raw(&mut sim, &("A".repeat(10) + "wxyz"))["result"]["no_change"], true);
}

#[test]
fn l5_08_a_url_has_1024_characters_at_most() {
	let mut sim = Sim::new();
	let longest = format!("https://push.example/{}", "x".repeat(1024 - 21));
	assert!(set(&mut sim, node(1), "a", &longest).get("result").is_some());
	assert_eq!(code(&set(&mut sim, node(1), "b", &format!("{longest}x"))), 500);
	assert_eq!(code(&set(&mut sim, node(1), "c", &"x".repeat(60_000))), 500);
}

#[test]
fn l5_09_l5_21_what_is_no_url_is_refused() {
	for bad in [
		"",
		"x",
		"push.example",
		"//push.example",
		"https:",
		"https:/push.example",
		"https://",
		"https:///path",
		"https://?x",
		"https://:443",
		"https://push.example:65536",
		"https://push.example:x",
		"https://push.example:-1",
		"https://push..example",
		"https://-push.example",
		"https://push.example /",
		" https://push.example",
		"https://push.example/\n",
		"https://push.example/\"",
		"https://push.example/<x>",
		"https://push.example/%",
		"https://push.example/%zz",
		"https://push.example/%4",
		"https://push.example/#x",
		"https://push.example\\x",
		"https://user:password@push.example/",
		"https://user@push.example/",
		"https://p\u{fc}sh.example/",
		"https://push.example/\u{fc}",
		"h\u{fc}ttps://push.example/",
		"1https://push.example/",
		":https://push.example/",
	] {
		let answer = set(&mut Sim::new(), node(1), "a", bad);
		assert_eq!((code(&answer), answer["error"]["data"].is_object()), (501, true), "{bad:?}");
	}
}

#[test]
fn l5_10_https_and_nothing_else() {
	for good in [
		"https://push.example",
		"HTTPS://PUSH.example/",
		"https://push.example:8443/a/b?c=d&e=%2F;f,g(h)!*'~$-_.+@:",
		"https://127.0.0.1:1/x",
		"https://localhost",
		"https://push.example?x",
		"https://push.example:/",
	] {
		let answer = set(&mut Sim::new(), node(1), "a", good);
		if good.ends_with(":/") {
			assert_eq!(code(&answer), 501, "{good}: a colon without a port");
		} else {
			assert!(answer.get("result").is_some(), "{good}: {answer}");
		}
	}
	for other in
		["http://push.example", "ftp://push.example/x", "mailto:push@example", "wss://push.example", "httpss://x"]
	{
		assert_eq!(code(&set(&mut Sim::new(), node(1), "a", other)), 502, "{other}");
	}
}

#[test]
fn l5_11_the_limit_is_told_and_replacing_still_works_at_it() {
	let mut policy = plain();
	policy.lsps5.max_webhooks = 2;
	let mut sim = Sim::with(policy);
	set(&mut sim, node(1), "a", URL);
	set(&mut sim, node(1), "b", URL);
	let answer = set(&mut sim, node(1), "c", URL);
	assert_eq!((code(&answer), &answer["error"]["data"]), (503, &json!({"max_webhooks": 2})));
	let answer = set(&mut sim, node(1), "b", "https://other.example");
	assert_eq!(answer["result"], json!({"num_webhooks": 2, "max_webhooks": 2, "no_change": false}));
}

#[test]
fn l5_12_webhooks_belong_to_the_client() {
	let mut sim = Sim::new();
	set(&mut sim, node(1), "a", URL);
	assert_eq!(names(&mut sim, node(2)), json!([]));
	assert_eq!(code(&sim.ask(node(2), "lsps5.remove_webhook", json!({"app_name": "a"}))), 1010);
	assert_eq!(set(&mut sim, node(2), "a", URL)["result"]["no_change"], false);
	assert_eq!(names(&mut sim, node(1)), json!(["a"]));
}

#[test]
fn l5_13_what_was_answered_outlives_a_crash() {
	let mut sim = Sim::new();
	let request = json!({"jsonrpc": "2.0", "id": "q", "method": "lsps5.set_webhook", "params": {"app_name": "a", "webhook": URL}});
	let step = sim.look(Input::Message { peer: node(1), bytes: request.to_string().into_bytes() });
	// The driver commits the writes before it does the actions, the answer among them.
	assert!(only_answer(node(1), &step.actions).is_some());
	let after = Book::restore(step.writes.clone());
	assert_eq!(after.client(&node(1)).unwrap().wake.webhooks.len(), 1);
	sim.commit(&step);
	sim.restart();
	assert_eq!(names(&mut sim, node(1)), json!(["a"]));
}

#[test]
fn l5_14_a_client_without_a_channel_is_remembered_for_seven_days_and_no_longer() {
	let mut sim = Sim::new();
	set(&mut sim, node(1), "a", URL);
	sim.pass(7 * DAY - 1);
	survey(&mut sim, node(1), false);
	assert_eq!(names(&mut sim, node(1)), json!(["a"]));
	sim.pass(1);
	survey(&mut sim, node(1), false);
	assert_eq!(names(&mut sim, node(1)), json!([]));
	assert!(survey(&mut sim, node(1), false).is_empty());
	assert_eq!(sim.book.sleepers().count(), 0);
}

#[test]
fn l5_14_setting_it_again_counts_anew() {
	let mut sim = Sim::new();
	set(&mut sim, node(1), "a", URL);
	sim.pass(5 * DAY);
	assert_eq!(set(&mut sim, node(1), "a", URL)["result"]["no_change"], true);
	sim.pass(5 * DAY);
	survey(&mut sim, node(1), false);
	assert_eq!(names(&mut sim, node(1)), json!(["a"]));
	sim.pass(2 * DAY);
	survey(&mut sim, node(1), false);
	assert_eq!(names(&mut sim, node(1)), json!([]));
}

#[test]
fn l5_14_a_client_with_a_channel_is_remembered_for_ever_and_seven_days_after_the_last_close() {
	let mut sim = Sim::new();
	set(&mut sim, node(1), "a", URL);
	survey(&mut sim, node(1), true);
	for _ in 0..50 {
		sim.pass(30 * DAY);
		survey(&mut sim, node(1), true);
		sim.restart();
	}
	assert_eq!(names(&mut sim, node(1)), json!(["a"]));
	survey(&mut sim, node(1), false);
	sim.pass(7 * DAY - 1);
	survey(&mut sim, node(1), false);
	assert_eq!(names(&mut sim, node(1)), json!(["a"]));
	sim.pass(1);
	survey(&mut sim, node(1), false);
	assert_eq!(names(&mut sim, node(1)), json!([]));
}

#[test]
fn l5_15_the_new_webhook_is_told_and_no_other_and_none_without_a_change() {
	let mut sim = Sim::new();
	let request = |name: &str, url: &str| {
		let params = json!({"app_name": name, "webhook": url});
		let request = json!({"jsonrpc": "2.0", "id": "q", "method": "lsps5.set_webhook", "params": params});
		Input::Message { peer: node(1), bytes: request.to_string().into_bytes() }
	};
	for (name, url, told) in [
		("a", URL, true),
		("a", URL, false),
		("b", URL, true),
		("b", "https://other.example", true),
		("b", "https://other.example", false),
		("a", URL, false),
	] {
		let expected: Vec<_> =
			told.then(|| (name.to_string(), url.to_string(), Notice::WebhookRegistered)).into_iter().collect();
		assert_eq!(notices(&sim.give(request(name, url))), expected, "{name} {url}");
	}
	assert!(notices(&sim.give(Input::Started)).is_empty());
}

#[test]
fn l5_19_notifications_are_no_methods_of_ours() {
	let mut sim = Sim::new();
	set(&mut sim, node(1), "a", URL);
	for method in [
		"webhook_registered",
		"payment_incoming",
		"expiry_soon",
		"liquidity_management_request",
		"onion_message_incoming",
	] {
		assert_eq!(code(&sim.ask(node(1), &format!("lsps5.{method}"), json!({}))), -32601);
	}
}

#[test]
fn l5_22_strangers_are_refused_with_1_beyond_the_bound_and_clients_with_a_channel_are_not() {
	let mut policy = plain();
	policy.lsps5.max_clients_without_channel = 2;
	let mut sim = Sim::with(policy);
	for known in [1, 2] {
		assert!(set(&mut sim, node(known), "a", URL).get("result").is_some());
	}
	let answer = set(&mut sim, node(3), "a", URL);
	assert_eq!((code(&answer), answer["error"]["data"]["message"].is_string()), (1, true));
	assert!(sim.book.client(&node(3)).is_none(), "nothing is written for one that is refused");
	assert!(set(&mut sim, node(2), "b", URL).get("result").is_some(), "who is in has room for more");
	sim.ready(node(4), 4);
	assert!(set(&mut sim, node(4), "a", URL).get("result").is_some());
	survey(&mut sim, node(2), true);
	assert!(set(&mut sim, node(3), "a", URL).get("result").is_some(), "there is room again");
}

#[test]
fn l5_23_changes_are_counted_and_bounded() {
	let mut sim = Sim::new();
	for number in 0..20 {
		let answer = set(&mut sim, node(1), "a", &format!("https://push.example/{number}"));
		assert!(answer.get("result").is_some(), "{answer}");
	}
	assert_eq!(code(&set(&mut sim, node(1), "a", URL)), 1);
	assert!(set(&mut sim, node(1), "a", "https://push.example/19")["result"]["no_change"].as_bool().unwrap());
	assert!(set(&mut sim, node(2), "a", URL).get("result").is_some(), "others are not held up");
	sim.pass(3_600);
	assert!(set(&mut sim, node(1), "a", URL).get("result").is_some());
}

#[test]
fn nothing_is_taken_while_it_is_switched_off() {
	let mut policy = plain();
	policy.lsps5.enabled = false;
	let mut sim = Sim::with(policy);
	assert_eq!(code(&set(&mut sim, node(1), "a", URL)), -32601);
	assert_eq!(sim.ask(node(1), "lsps0.list_protocols", json!({}))["result"]["protocols"], json!([1, 2]));
}
