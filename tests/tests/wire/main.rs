//! LSPS over the wire, rule by rule: the names and numbers are those of the conformance checklist.
//!
//! Every test speaks to a real Inlet over a real connection, as a client of its own. They share one Inlet while they
//! overlap in time, which is a test in itself: none may disturb another.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod hostile;
mod lsps0;
mod lsps1;
mod lsps2;
mod lsps5;

use anyhow::Result;
use inlet_tests::thin::{Identity, RawPeer, RawPeerOptions, parse_uri};
use inlet_tests::{Bitcoind, Inlet, InletOptions, Scratch, eventually};
use serde_json::{Value, json};
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Mutex;

/// How long the LSP may take to answer while other tests keep the machine busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// The LSP's money: enough for every order that these tests place and never pay.
const COINS: usize = 5;
const COIN_SAT: u64 = 200_000_000;
/// How long the last share waits for a next one: the runner may be between two tests.
const LINGER: Duration = Duration::from_millis(150);

/// An Inlet with money, on its own regtest. The fields end in this order.
struct Lsp {
	inlet: Inlet,
	bitcoind: Bitcoind,
	scratch: Scratch,
}

/// A share in the [`Lsp`]: the last one ends it. If its test fails, the logs are printed then.
struct Share(Arc<Lsp>);

impl Deref for Share {
	type Target = Lsp;

	fn deref(&self) -> &Lsp {
		&self.0
	}
}

impl Drop for Share {
	fn drop(&mut self) {
		if std::thread::panicking() {
			self.0.scratch.keep();
		}
		let end = std::time::Instant::now() + LINGER;
		while Arc::strong_count(&self.0) == 1 && std::time::Instant::now() < end {
			std::thread::sleep(Duration::from_millis(5));
		}
	}
}

async fn lsp() -> Share {
	static SHARED: Mutex<Weak<Lsp>> = Mutex::const_new(Weak::new());
	let mut shared = SHARED.lock().await;
	let running = match shared.upgrade() {
		Some(running) => running,
		None => Arc::new(Lsp::start("").await.unwrap()),
	};
	*shared = Arc::downgrade(&running);
	Share(running)
}

impl Lsp {
	async fn start(config: &str) -> Result<Lsp> {
		let scratch = Scratch::new()?;
		let bitcoind = Bitcoind::start(&scratch).await?;
		let chain = format!("bitcoind:{}", bitcoind.url());
		let inlet =
			Inlet::start(&scratch, InletOptions { chain, config: config.to_owned(), ..Default::default() }).await?;
		let lsp = Lsp { inlet, bitcoind, scratch };
		let mut outputs = Vec::new();
		for _ in 0..COINS {
			outputs.push((lsp.inlet.address().await?, COIN_SAT));
		}
		lsp.bitcoind.fund(&outputs).await?;
		let total = COINS as u64 * COIN_SAT;
		let funded = async || Ok((lsp.inlet.balance().await?["onchain"]["confirmed_sat"] == total).then_some(()));
		eventually(PATIENCE, "the LSP sees its coins", funded).await?;
		Ok(lsp)
	}

	/// A client that it never saw.
	async fn peer(&self) -> RawPeer {
		self.peer_as(&Identity::random().unwrap(), RawPeerOptions::default()).await
	}

	/// A client that may have been here before.
	async fn peer_as(&self, identity: &Identity, options: RawPeerOptions) -> RawPeer {
		let (node_id, address) = parse_uri(&self.inlet.uri()).unwrap();
		RawPeer::connect_as(identity, options, node_id, address).await.unwrap()
	}

	/// A segwit address of somebody.
	async fn segwit_address(&self) -> String {
		let address = self.bitcoind.wallet_call("getnewaddress", json!(["", "bech32"])).await.unwrap();
		address.as_str().unwrap().to_owned()
	}
}

/// The result of a response that must be a success.
fn result(response: &Value) -> &Value {
	assert!(response["result"].is_object(), "{response}");
	&response["result"]
}

/// The error of a response that must be an error with this code.
fn error(response: &Value, code: i64) -> &Value {
	assert_eq!(response["error"]["code"], code, "{response}");
	&response["error"]
}

/// Asserts a -32602 about this parameter of an LSPS1 request.
fn assert_invalid_property(response: &Value, property: &str) {
	let data = &error(response, -32602)["data"];
	assert_eq!(data["property"], property, "{response}");
	assert!(data["message"].is_string(), "{response}");
}

/// The names that a -32602 does not recognise, sorted.
fn unrecognized(response: &Value) -> Vec<String> {
	let names = error(response, -32602)["data"]["unrecognized"].as_array().unwrap();
	let mut names: Vec<String> = names.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
	names.sort();
	names
}

/// A well-behaved request still works.
async fn assert_served(peer: &mut RawPeer) {
	let response = peer.call("lsps0.list_protocols", json!({})).await.unwrap();
	assert!(result(&response)["protocols"].is_array(), "{response}");
	assert!(peer.is_connected());
}

/// `value` with this field set (or removed, if `None`).
fn with(value: &Value, field: &str, new: Option<Value>) -> Value {
	let mut changed = value.clone();
	match new {
		Some(new) => {
			changed[field] = new;
		}
		None => {
			changed.as_object_mut().unwrap().remove(field);
		}
	}
	changed
}

/// A decimal string, as bLIP-50 wants amounts.
fn amount(value: &Value) -> u64 {
	let text = value.as_str().unwrap_or_else(|| panic!("{value} is not an amount"));
	let number: u64 = text.parse().unwrap();
	assert_eq!(number.to_string(), text);
	number
}

/// An unsigned integer up to `max`.
fn uint(value: &Value, max: u64) -> u64 {
	value.as_u64().filter(|number| *number <= max).unwrap_or_else(|| panic!("{value} is no integer up to {max}"))
}

/// `YYYY-MM-DDThh:mm:ss.uuuZ`, as seconds since 1970.
fn datetime(value: &Value) -> u64 {
	let text = value.as_str().unwrap_or_else(|| panic!("{value} is not a datetime"));
	let form: String = text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
	assert_eq!(form, "9999-99-99T99:99:99.999Z", "{text}");
	let part = |range: std::ops::Range<usize>| text[range].parse::<u64>().unwrap();
	let (year, month, day) = (part(0..4), part(5..7), part(8..10));
	// Days from the civil calendar, with years that begin in March.
	let shifted = if month < 3 { year - 1 } else { year };
	let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
	let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468;
	days * 86_400 + part(11..13) * 3600 + part(14..16) * 60 + part(17..19)
}

/// Seconds since 1970.
fn now() -> u64 {
	std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn datetimes_are_read_right() {
	assert_eq!(datetime(&json!("1970-01-01T00:00:01.999Z")), 1);
	assert_eq!(datetime(&json!("2000-02-29T12:00:00.000Z")), 951_825_600);
	assert_eq!(datetime(&json!("2026-11-22T17:05:00.000Z")), 1_795_367_100);
}
