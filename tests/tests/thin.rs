//! The thin node among its like: what the scenarios take for granted.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use inlet_tests::thin::{Behaviour, OnOpen, OnPayment, RawPeer, ThinConfig, ThinEvent, ThinNode};
use inlet_tests::{Bitcoind, Scratch, eventually};
use lightning::types::payment::PaymentHash;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

async fn node(bitcoind: &Bitcoind, name: &str, behaviour: Behaviour) -> ThinNode {
	ThinNode::start(bitcoind, ThinConfig { behaviour, ..ThinConfig::stranger(name) }).await.unwrap()
}

/// Opens channels and mines them until both sides can use them.
async fn open(bitcoind: &Bitcoind, from: &ThinNode, to: &ThinNode, channels: &[u64], announce: bool) {
	let (before, theirs) = (from.channels().len(), to.channels().len());
	for sat in channels {
		from.open_channel(&to.uri(), *sat, 0, announce).await.unwrap();
	}
	bitcoind.wait_for_mempool(2 * channels.len(), PATIENCE).await.unwrap();
	bitcoind.mine(6).await.unwrap();
	from.usable_channels(before + channels.len(), PATIENCE).await.unwrap();
	to.usable_channels(theirs + channels.len(), PATIENCE).await.unwrap();
}

async fn claimable(node: &ThinNode, hash: PaymentHash) -> (u64, usize) {
	let picked = node.wait_for(PATIENCE, |event| match event {
		ThinEvent::PaymentClaimable { hash: arrived, msat, channels, .. } if *arrived == hash => {
			Some((*msat, channels.len()))
		}
		_ => None,
	});
	picked.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_open_and_payments_are_claimed_failed_and_held() {
	let scratch = Scratch::new().unwrap();
	let bitcoind = Bitcoind::start(&scratch).await.unwrap();
	let payer = node(&bitcoind, "payer", Behaviour::default()).await;
	let payee = node(&bitcoind, "payee", Behaviour::default()).await;
	open(&bitcoind, &payer, &payee, &[200_000, 100_000], false).await;

	let invoice = payee.invoice(Some(30_000_000)).unwrap();
	let hash = payer.pay(&invoice, None, 1).unwrap();
	assert_eq!(payer.outcome(hash, PATIENCE).await.unwrap(), Ok(0));
	assert_eq!(payee.claimed(hash, PATIENCE).await.unwrap(), 30_000_000);

	let invoice = payee.invoice(None).unwrap();
	let hash = payer.pay(&invoice, Some(220_000_000), 5).unwrap();
	assert_eq!(payer.outcome(hash, PATIENCE).await.unwrap(), Ok(0));
	let (msat, parts) = claimable(&payee, hash).await;
	assert_eq!((msat, parts), (220_000_000, 2), "more than one channel can carry");

	payee.set_behaviour(Behaviour { on_payment: OnPayment::Fail, ..Default::default() });
	let hash = payer.pay(&payee.invoice(Some(1_000_000)).unwrap(), None, 1).unwrap();
	assert!(payer.outcome(hash, PATIENCE).await.unwrap().is_err());

	payee.set_behaviour(Behaviour { on_payment: OnPayment::Hold, ..Default::default() });
	let hash = payer.pay(&payee.invoice(Some(1_000_000)).unwrap(), None, 1).unwrap();
	claimable(&payee, hash).await;
	payee.claim(hash).unwrap();
	assert!(payer.outcome(hash, PATIENCE).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_are_routed_over_a_node_in_between() {
	let scratch = Scratch::new().unwrap();
	let bitcoind = Bitcoind::start(&scratch).await.unwrap();
	let payer = node(&bitcoind, "payer", Behaviour::default()).await;
	let middle = node(&bitcoind, "middle", Behaviour::default()).await;
	let payee = node(&bitcoind, "payee", Behaviour::default()).await;
	open(&bitcoind, &payer, &middle, &[200_000], true).await;
	open(&bitcoind, &middle, &payee, &[200_000], false).await;
	let invoice = payee.invoice(Some(5_000_000)).unwrap();
	let hash = payer.pay(&invoice, None, 1).unwrap();
	assert!(payer.outcome(hash, PATIENCE).await.unwrap().unwrap() > 0, "the node in between earns");
	assert_eq!(payee.claimed(hash, PATIENCE).await.unwrap(), 5_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_our_choice_add_up_at_the_payee() {
	let scratch = Scratch::new().unwrap();
	let bitcoind = Bitcoind::start(&scratch).await.unwrap();
	let payer = node(&bitcoind, "payer", Behaviour::default()).await;
	let middle = node(&bitcoind, "middle", Behaviour::default()).await;
	let payee = node(&bitcoind, "payee", Behaviour::default()).await;
	open(&bitcoind, &payer, &middle, &[300_000], false).await;
	open(&bitcoind, &middle, &payee, &[300_000], false).await;
	let invoice = payee.invoice(Some(90_000_000)).unwrap();
	payer.pay_parts(&invoice, &[20_000_000, 30_000_000], 90_000_000).unwrap();
	payer.pay_parts(&invoice, &[40_000_000], 90_000_000).unwrap();
	assert_eq!(claimable(&payee, invoice.payment_hash()).await, (90_000_000, 3));
	assert!(payer.outcome(invoice.payment_hash(), PATIENCE).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_node_refuses_hangs_up_or_is_silent() {
	let scratch = Scratch::new().unwrap();
	let bitcoind = Bitcoind::start(&scratch).await.unwrap();
	let opener = node(&bitcoind, "opener", Behaviour::default()).await;
	let asked = |node: &ThinNode| node.events().iter().filter(|e| matches!(e, ThinEvent::OpenRequested { .. })).count();

	let refuser = node(&bitcoind, "refuser", Behaviour { on_open: OnOpen::Refuse, ..Default::default() }).await;
	let refused = opener.open_channel(&refuser.uri(), 100_000, 0, false).await.unwrap_err();
	assert!(format!("{refused:#}").contains("this client refuses channels"), "{refused:#}");

	let leaver = node(&bitcoind, "leaver", Behaviour { on_open: OnOpen::Disconnect, ..Default::default() }).await;
	let open = async |uri: &str| {
		tokio::time::timeout(Duration::from_secs(1), opener.open_channel(uri, 100_000, 0, false)).await
	};
	assert!(open(&leaver.uri()).await.is_err(), "LDK waits for the peer to come back");
	assert!(!opener.is_connected(&leaver.node_id()));

	let silent = node(&bitcoind, "silent", Behaviour { on_open: OnOpen::Ignore, ..Default::default() }).await;
	assert!(open(&silent.uri()).await.is_err());
	assert!(opener.is_connected(&silent.node_id()));
	// LDK asks again for a simpler type of channel when it is refused one.
	assert!(asked(&refuser) >= 1);
	assert_eq!([asked(&leaver), asked(&silent)], [1, 1]);
	assert!(bitcoind.mempool().await.unwrap().is_empty(), "nothing was funded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_channels_pay_out_on_the_chain() {
	let scratch = Scratch::new().unwrap();
	let bitcoind = Bitcoind::start(&scratch).await.unwrap();
	let payer = node(&bitcoind, "payer", Behaviour::default()).await;
	let payee = node(&bitcoind, "payee", Behaviour::default()).await;
	open(&bitcoind, &payer, &payee, &[200_000, 150_000], false).await;
	let hash = payer.pay(&payee.invoice(Some(50_000_000)).unwrap(), None, 1).unwrap();
	payer.outcome(hash, PATIENCE).await.unwrap().unwrap();

	payer.close(&payer.channels()[0]).unwrap();
	bitcoind.wait_for_mempool(1, PATIENCE).await.unwrap();
	bitcoind.mine(6).await.unwrap();
	payer.force_close_all();
	bitcoind.wait_for_mempool(1, PATIENCE).await.unwrap();
	bitcoind.mine(150).await.unwrap();
	for node in [&payer, &payee] {
		node.at_height(bitcoind.height().await.unwrap(), PATIENCE).await.unwrap();
		assert!(node.channels().is_empty());
	}
	let swept = async |node: &ThinNode, at_least: u64| {
		let sum = |event: &ThinEvent| if let ThinEvent::Swept { sat, .. } = event { *sat } else { 0 };
		let all = async || Ok((node.events().iter().map(sum).sum::<u64>() >= at_least).then_some(()));
		eventually(PATIENCE, &format!("{at_least} sat came back"), all).await.unwrap();
	};
	swept(&payer, 290_000).await;
	swept(&payee, 45_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raw_peer_comes_and_goes() {
	let scratch = Scratch::new().unwrap();
	let bitcoind = Bitcoind::start(&scratch).await.unwrap();
	let node = node(&bitcoind, "node", Behaviour::default()).await;
	let peer = RawPeer::connect_to(&node.uri()).await.unwrap();
	assert!(peer.is_connected() && node.is_connected(&peer.node_id()));
	let id = peer.node_id();
	peer.disconnect().await.unwrap();
	eventually(PATIENCE, "the other side notices", async || Ok((!node.is_connected(&id)).then_some(()))).await.unwrap();
}
