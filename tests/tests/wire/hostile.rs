//! Peers that mean no good: floods, connections by the dozen, garbage at every stage, readers that do not read. Another client is
//! served all the while, and the memory stays bounded.

use super::{Lsp, PATIENCE, assert_served, result};
use anyhow::Result;
use inlet_tests::eventually;
use inlet_tests::thin::{Identity, MAX_PAYLOAD, RawPeer, RawPeerOptions, check_response, parse_uri, request};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// How much the node may grow under all of it. LDK alone may take 64 KiB for what a connection sends and as much again for
/// what it is sent.
const GROWTH_KIB: u64 = 64 << 10;
/// Longer than the handshake's limit of 10 seconds.
const HANDSHAKE_ENDS: Duration = Duration::from_secs(30);

/// What a [`proxy`] does to the bytes that pass through it.
#[derive(Clone, Copy, Default)]
struct Spoil {
	/// The client's bytes are changed from here on.
	garble_after: Option<usize>,
	/// The LSP's bytes are no longer read after this many.
	deaf_after: Option<usize>,
}

/// The LSP by a way that spoils what is said. Ends with the test's runtime.
async fn proxy(to: SocketAddr, spoil: Spoil) -> SocketAddr {
	let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
	let address = listener.local_addr().unwrap();
	tokio::spawn(async move {
		while let Ok((client, _)) = listener.accept().await {
			tokio::spawn(async move {
				let Ok(lsp) = TcpStream::connect(to).await else { return };
				let ((mut from_lsp, mut to_lsp), (mut from_client, mut to_client)) =
					(lsp.into_split(), client.into_split());
				let there = pass(&mut from_client, &mut to_lsp, None, spoil.garble_after);
				let back = pass(&mut from_lsp, &mut to_client, spoil.deaf_after, None);
				// One way ends: both do.
				tokio::select! {
					() = there => {},
					() = back => {},
				}
			});
		}
	});
	address
}

async fn pass(
	from: &mut (impl AsyncReadExt + Unpin),
	to: &mut (impl AsyncWriteExt + Unpin),
	stop_after: Option<usize>,
	garble_after: Option<usize>,
) {
	let (mut buffer, mut passed) = ([0; 4096], 0);
	loop {
		if stop_after.is_some_and(|limit| passed >= limit) {
			return std::future::pending().await;
		}
		let Ok(n @ 1..) = from.read(&mut buffer).await else { return };
		for (place, byte) in buffer[..n].iter_mut().enumerate() {
			if garble_after.is_some_and(|start| passed + place >= start) {
				*byte ^= 0x5a;
			}
		}
		passed += n;
		if to.write_all(&buffer[..n]).await.is_err() {
			return;
		}
	}
}

impl Lsp {
	fn address(&self) -> SocketAddr {
		parse_uri(&self.inlet.uri()).unwrap().1
	}

	/// A client that goes through a [`proxy`].
	async fn peer_through(&self, proxy: SocketAddr) -> Result<RawPeer> {
		let identity = Identity::random()?;
		let node_id = parse_uri(&self.inlet.uri())?.0;
		RawPeer::connect_as(&identity, RawPeerOptions::default(), node_id, proxy).await
	}

	/// Memory that the node has in use, in KiB.
	fn resident_kib(&self) -> u64 {
		let status = std::fs::read_to_string(format!("/proc/{}/status", self.inlet.pid().unwrap())).unwrap();
		let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
		line.trim().trim_end_matches(" kB").parse().unwrap()
	}

	async fn peer_from(&self, last: u8) -> Result<RawPeer> {
		let options = RawPeerOptions { from: Some(Ipv4Addr::new(127, 0, 0, last)), ..Default::default() };
		let (node_id, address) = parse_uri(&self.inlet.uri())?;
		RawPeer::connect_as(&Identity::random()?, options, node_id, address).await
	}
}

/// Asks for everything that a client asks for, as often as it takes to have been there during the attack.
async fn served(client: &mut RawPeer, rounds: usize) {
	for _ in 0..rounds {
		assert_served(client).await;
		result(&client.call("lsps1.get_info", json!({})).await.unwrap());
		result(&client.call("lsps2.get_info", json!({})).await.unwrap());
	}
}

#[tokio::test]
async fn l0_21_r14_more_requests_than_may_wait_are_all_answered_once() {
	let lsp = super::lsp().await;
	let mut peer = lsp.peer().await;
	let methods = ["lsps0.list_protocols", "lsps1.get_info", "lsps2.get_info"];
	let expected: BTreeSet<String> = (0..300).map(|n| format!("n{n}")).collect();
	for (n, id) in expected.iter().enumerate() {
		peer.send(request(id, methods[n % 3], &json!({})));
	}
	let mut answered = BTreeSet::new();
	for _ in 0..expected.len() {
		let response = check_response(&peer.recv(PATIENCE).await.unwrap()).unwrap();
		assert!(answered.insert(response["id"].as_str().unwrap().to_owned()), "twice: {response}");
	}
	assert_eq!(answered, expected);
	assert_served(&mut peer).await;
}

#[tokio::test]
async fn l0_24_r14_floods_do_not_keep_others_from_being_served_and_take_no_memory() {
	let lsp = Lsp::start("").await.unwrap();
	let mut client = lsp.peer().await;
	served(&mut client, 3).await;
	let before = lsp.resident_kib();

	let mut attackers = Vec::new();
	for _ in 0..5 {
		let peer = lsp.peer().await;
		for _ in 0..3_000 {
			peer.send(request("flood", "lsps2.get_info", &json!({})));
		}
		attackers.push(peer);
	}
	served(&mut client, 5).await;
	for _ in 0..5 {
		let peer = lsp.peer().await;
		for n in 0..200u8 {
			peer.send(vec![n; MAX_PAYLOAD]);
		}
		attackers.push(peer);
	}
	served(&mut client, 5).await;
	for _ in 0..5 {
		let peer = lsp.peer().await;
		for _ in 0..200 {
			peer.send_typed(65_535, vec![0; MAX_PAYLOAD]);
			// A ping that wants the longest pong, which is never looked at.
			peer.send_typed(18, [&65_531u16.to_be_bytes()[..], &[0, 0]].concat());
		}
		attackers.push(peer);
	}
	served(&mut client, 5).await;
	let grown = lsp.resident_kib().saturating_sub(before);
	assert!(grown < GROWTH_KIB, "{grown} KiB more than before");
	drop(attackers);
	served(&mut client, 1).await;
	assert!(client.is_connected());
}

#[tokio::test]
async fn l0_24_r14_who_does_not_read_its_answers_takes_no_memory() {
	let lsp = Lsp::start("").await.unwrap();
	let mut client = lsp.peer().await;
	served(&mut client, 3).await;
	let before = lsp.resident_kib();
	// Both acts that the LSP sends are 50 bytes; its `init` and some more pass.
	let deaf = proxy(lsp.address(), Spoil { deaf_after: Some(1_000), ..Default::default() }).await;
	let mut attackers = Vec::new();
	for _ in 0..10 {
		let peer = lsp.peer_through(deaf).await.unwrap();
		for _ in 0..4_000 {
			peer.send(request("deaf", "lsps1.get_info", &json!({})));
		}
		attackers.push(peer);
	}
	served(&mut client, 20).await;
	let grown = lsp.resident_kib().saturating_sub(before);
	assert!(grown < GROWTH_KIB, "{grown} KiB more than before");
	drop(attackers);
	served(&mut client, 1).await;
}

/// What the node has written for its peers: rows of the book, of the wallet and of its own. (LDK's are written by its timers too.)
async fn written(lsp: &Lsp) -> Value {
	let storage = lsp.inlet.json(&["storage"]).await.unwrap();
	let all = storage["purposes"].as_array().unwrap();
	let of_peers = |row: &&Value| ["book", "wallet", "other"].iter().any(|purpose| row["purpose"] == *purpose);
	all.iter().filter(of_peers).map(|row| json!([row["purpose"], row["asked_bytes"]])).collect()
}

#[tokio::test]
async fn r14_l0_24_nothing_that_is_refused_reaches_the_disk() {
	let lsp = Lsp::start("[lsps5]\nmax_clients_without_channel = 1\n").await.unwrap();
	// The coins that the LSP was given are booked, and that the books agree is noted, at the node's own looks at the chain.
	let settled = async || {
		let check = lsp.inlet.json(&["ledger", "check"]).await?;
		Ok((check["entries"] != 0 && check["agreed_before"] == check["entries"]).then_some(()))
	};
	eventually(PATIENCE, "the books are at rest", settled).await.unwrap();
	let (mut known, mut peer, mut ldk) = (lsp.peer().await, lsp.peer().await, lsp.peer().await);
	let webhook = |url: &str| json!({ "app_name": "a", "webhook": url });
	result(&known.call("lsps5.set_webhook", webhook("https://127.0.0.1:1")).await.unwrap());
	// As LDK's clients ask: that this is one is remembered, once.
	result(&ldk.call("lsps2.get_info", json!({ "token": null })).await.unwrap());
	let menu = peer.call("lsps2.get_info", json!({})).await.unwrap();
	let mut forged = result(&menu)["opening_fee_params_menu"][0].clone();
	forged["min_fee_msat"] = json!("0");
	let before = written(&lsp).await;
	let refused = [
		("lsps2.buy", json!({ "opening_fee_params": forged })),
		("lsps2.buy", json!({ "opening_fee_params": 1 })),
		("lsps2.get_info", json!({ "token": "nobody gave it" })),
		("lsps1.create_order", json!({ "lsp_balance_sat": "1" })),
		("lsps1.get_order", json!({ "order_id": "6e7f0000-0000-4000-8000-000000000000" })),
		("lsps5.set_webhook", webhook("https://127.0.0.1:1")),
		("lsps5.set_webhook", webhook("http://127.0.0.1:1")),
		("lsps5.remove_webhook", json!({ "app_name": "b" })),
		("lsps9.steal", json!({})),
	];
	for _ in 0..30 {
		for (method, params) in &refused {
			let response = peer.call(method, params.clone()).await.unwrap();
			assert!(response["error"].is_object(), "{method}: {response}");
		}
		result(&ldk.call("lsps2.get_info", json!({ "token": null })).await.unwrap());
		for garbage in [&b"{"[..], b"[]", b"\0", &[0xff; 500]] {
			peer.exchange(garbage).await.unwrap();
		}
	}
	assert_eq!(written(&lsp).await, before);
	// What is taken, is written.
	let terms = &result(&menu)["opening_fee_params_menu"][0];
	result(&peer.call("lsps2.buy", json!({ "opening_fee_params": terms })).await.unwrap());
	assert_ne!(written(&lsp).await, before);
}

#[tokio::test]
async fn r14_garbage_at_any_stage_costs_only_its_sender() {
	let lsp = super::lsp().await;
	let mut client = lsp.peer().await;
	// Act one is 50 bytes, act three 66; then come the length and the text of `init`, and messages.
	for stage in [0, 20, 50, 80, 116, 125, 140] {
		let way = proxy(lsp.address(), Spoil { garble_after: Some(stage), ..Default::default() }).await;
		let refused = timeout(Duration::from_secs(1), lsp.peer_through(way)).await;
		assert!(!matches!(refused, Ok(Ok(_))), "garbage from byte {stage} on is taken for a handshake");
		served(&mut client, 1).await;
	}
	let way = proxy(lsp.address(), Spoil { garble_after: Some(10_000), ..Default::default() }).await;
	let peer = lsp.peer_through(way).await.unwrap();
	for _ in 0..20 {
		peer.send(vec![b' '; 1_000]);
	}
	let gone = async || Ok((!peer.is_connected()).then_some(()));
	eventually(PATIENCE, "who sends what cannot be deciphered is disconnected", gone).await.unwrap();
	served(&mut client, 1).await;
}

#[tokio::test]
async fn l0_25_many_unknown_types_cost_only_their_senders() {
	let lsp = super::lsp().await;
	let mut client = lsp.peer().await;
	let mut odd = lsp.peer().await;
	for n in 0..500u16 {
		odd.send_typed(40_001 + 2 * n, vec![7; usize::from(n)]);
	}
	for n in 0..20u16 {
		let even = lsp.peer().await;
		even.send_typed(40_000 + 2 * n, "whatever");
		let gone = async || Ok((!even.is_connected()).then_some(()));
		eventually(PATIENCE, "an unknown even type ends the connection", gone).await.unwrap();
	}
	assert_served(&mut odd).await;
	served(&mut client, 1).await;
}

#[tokio::test]
async fn r14_who_says_nothing_is_hung_up_on() {
	let lsp = Lsp::start("").await.unwrap();
	let mut client = lsp.peer().await;
	let mut silent = Vec::new();
	for _ in 0..200 {
		silent.push(TcpStream::connect(lsp.address()).await.unwrap());
	}
	assert_served(&mut lsp.peer().await).await;
	served(&mut client, 1).await;
	for mut stream in silent {
		let end = timeout(HANDSHAKE_ENDS, stream.read(&mut [0; 1])).await.expect("it is ended");
		assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
	}
	assert_served(&mut client).await;
}

#[tokio::test]
async fn r14_one_address_has_so_many_connections_and_others_theirs() {
	let lsp = Lsp::start("[peers]\nmax_per_local_ip = 5\n").await.unwrap();
	let mut greedy = Vec::new();
	for _ in 0..5 {
		greedy.push(lsp.peer_from(21).await.unwrap());
	}
	assert!(!matches!(timeout(Duration::from_secs(1), lsp.peer_from(21)).await, Ok(Ok(_))), "a sixth connection");
	assert_served(&mut lsp.peer_from(22).await.unwrap()).await;
	for peer in &mut greedy {
		assert_served(peer).await;
	}
	greedy.pop().unwrap().disconnect().await.unwrap();
	assert_served(&mut lsp.peer_from(21).await.unwrap()).await;
}

#[tokio::test]
async fn r14_strangers_make_room_for_new_ones_and_not_those_who_bought() {
	let lsp = Lsp::start("[peers]\nmax_strangers = 5\n").await.unwrap();
	let mut buyer = lsp.peer().await;
	let menu = buyer.call("lsps2.get_info", json!({})).await.unwrap();
	let terms = &result(&menu)["opening_fee_params_menu"][0];
	result(&buyer.call("lsps2.buy", json!({ "opening_fee_params": terms })).await.unwrap());
	let mut strangers = Vec::new();
	for _ in 0..30 {
		let mut stranger = lsp.peer().await;
		assert_served(&mut stranger).await;
		strangers.push(stranger);
	}
	let few = async || Ok((strangers.iter().filter(|peer| peer.is_connected()).count() <= 4).then_some(()));
	eventually(PATIENCE, "the longest idle strangers are disconnected", few).await.unwrap();
	assert!(strangers.last().unwrap().is_connected(), "not the one that came last");
	assert!(buyer.is_connected(), "it was promised something");
	assert_served(&mut buyer).await;
}
