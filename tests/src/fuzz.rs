//! The bodies of the fuzz targets: bytes in, a panic if something is not as it must be. `tests/fuzz` runs them under
//! libFuzzer, `tests/tests/fuzz_smoke.rs` over the corpus in the tree and some mutations of it.

use bitcoin::Network;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use inlet_lsp::book::{Book, NodeId};
use inlet_lsp::input::{Action, Input, PeerView, World};
use inlet_lsp::money::{FeePerKw, Sat};
use inlet_lsp::protocol::lsps0::{self, Incoming, MAX_PAYLOAD, Request};
use inlet_lsp::protocol::{Call, METHODS, Offered};
use inlet_lsp::time::Timestamp;
use inlet_lsp::{Lsp, Policy};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// A target: its name, which is that of its corpus, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 3] = [("lsps0", lsps0), ("params", params), ("jit", jit)];

const ALL: Offered = Offered { lsps1: true, lsps2: true, lsps5: true };

static PEER: LazyLock<NodeId> = LazyLock::new(|| {
	let secret = SecretKey::from_slice(&[9; 32]).expect("below the curve's order");
	PublicKey::from_secret_key(&Secp256k1::new(), &secret)
});

/// LSPS0 framing: whatever a peer sends, one answer at most, of the right form; none to what is itself an answer.
pub fn lsps0(bytes: &[u8]) {
	let incoming = lsps0::read(bytes);
	let answers = answers(bytes);
	assert!(answers.len() <= 1, "one answer at most");
	match incoming {
		Incoming::Drop | Incoming::PeerCannotParse => assert!(answers.is_empty(), "an answer was answered"),
		Incoming::Bad => {
			let [answer] = &answers[..] else { panic!("bad bytes are told so") };
			assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(lsps0::PARSE_ERROR)));
		}
		Incoming::Request(request) => check_answer(&request, &answers),
	}
}

/// The parameters of one method: the first byte chooses it, the rest is their JSON.
pub fn params(bytes: &[u8]) {
	let Some((first, rest)) = bytes.split_first() else { return };
	let Ok(params) = serde_json::from_slice::<Value>(rest) else { return };
	let method = METHODS[usize::from(*first) % METHODS.len()];
	let message = json!({"jsonrpc": "2.0", "id": "f", "method": method, "params": params}).to_string();
	let Incoming::Request(request) = lsps0::read(message.as_bytes()) else {
		assert!(message.len() > MAX_PAYLOAD || message.contains('\0'), "a request is a request: {message}");
		return;
	};
	let read = Call::read(&request, ALL);
	// The same, whatever else happens: reading has no memory.
	assert_eq!(read, Call::read(&request, ALL));
	check_answer(&request, &answers(message.as_bytes()));
}

/// Just-in-time sales: each four bytes are something that happens to a small world around the core (see [`crate::sim`]),
/// crashes and the passing of time among it. No HTLC without an owner and a deadline, money conserved, and the book is what
/// its rows say, after each; and everything is finished in the end.
pub fn jit(bytes: &[u8]) {
	if let Err(what) = crate::sim::feed(bytes) {
		panic!("{what}");
	}
}

fn check_answer(request: &Request, answers: &[Value]) {
	let read = Call::read(request, ALL);
	let [answer] = answers else {
		// `create_order` is answered when its invoice is made.
		assert!(answers.is_empty() && matches!(read, Ok(Call::CreateOrder(_))), "unanswered: {request:?}");
		return;
	};
	assert_eq!((answer["jsonrpc"].as_str(), answer["id"].as_str()), (Some("2.0"), Some(request.id.as_str())));
	assert_ne!(answer.get("result").is_some(), answer.get("error").is_some(), "a result or an error");
	if let Err(error) = read {
		assert_eq!(answer["error"]["code"], json!(error.code));
	}
}

/// What a fresh LSP answers to these bytes. What it writes must survive the store.
fn answers(bytes: &[u8]) -> Vec<Value> {
	let lsp = Lsp::new(Policy::default(), [7; 32]).expect("the default policy is allowed");
	let input = Input::Message { peer: *PEER, bytes: bytes.to_vec() };
	let step = lsp.step(&Book::default(), &world(), Timestamp(1_700_000_000_000), input);
	for write in &step.writes {
		let row = serde_json::to_string(write).expect("a row has a JSON form");
		let read: inlet_lsp::book::Write = serde_json::from_str(&row).expect("a row can be read");
		assert_eq!(&read, write);
	}
	let mut answers = Vec::new();
	for action in step.actions {
		if let Action::Send { peer, bytes } = action {
			assert_eq!(peer, *PEER);
			assert!(bytes.len() <= MAX_PAYLOAD, "an answer fits into a message");
			answers.push(serde_json::from_slice(&bytes).expect("an answer is JSON"));
		}
	}
	answers
}

fn world() -> World {
	World {
		network: Network::Regtest,
		height: 800_000,
		synced: true,
		disk_low: false,
		feerate: Some(FeePerKw(1_000)),
		market: inlet_lsp::market::Market::default(),
		spendable: Sat(10_000_000),
		unconfirmed: Sat::ZERO,
		peer: PeerView { connected: true, ..PeerView::default() },
		entropy: [3; 32],
		fresh_scid: 1 << 40,
		present: Vec::new(),
	}
}
