//! The broadcaster loses nothing: not at an outage, not at a restart, not at a reorganisation.

use super::super::testing::{Bench, Recorder, payment, spend};
use super::*;
use bitcoin::ScriptBuf;

fn tx() -> Transaction {
	payment(10_000, ScriptBuf::new())
}

fn child_of(parent: &Transaction) -> Transaction {
	spend(&[OutPoint { txid: parent.compute_txid(), vout: 0 }], 9_000, ScriptBuf::new())
}

fn later(now: Instant) -> Instant {
	now + RESEND
}

#[tokio::test]
async fn the_same_transaction_is_queued_once() {
	let bench = Bench::new().await;
	let (broadcaster, backend) = (&bench.broadcaster, Recorder::default());
	let tx = tx();
	broadcaster.send(vec![tx.clone()]);
	broadcaster.send(vec![tx.clone()]);
	broadcaster.flush(&backend, Instant::now(), false).await.unwrap();
	assert_eq!(backend.take(), [[tx.compute_txid()]]);
	assert_eq!(broadcaster.waiting(), (1, 0));
}

#[tokio::test]
async fn an_outage_loses_nothing_and_keeps_the_order() {
	let bench = Bench::new().await;
	let away = || Err(NotSent::Unreachable("away".into()));
	let (broadcaster, backend) = (&bench.broadcaster, Recorder::answering([away(), away()]));
	let (first, second) = (tx(), tx());
	broadcaster.send(vec![first.clone()]);
	broadcaster.send(vec![second.clone()]);
	let now = Instant::now();
	assert!(broadcaster.flush(&backend, now, false).await.is_err());
	assert!(broadcaster.flush(&backend, now, false).await.is_err());
	assert_eq!(backend.take().len(), 2, "an outage is not probed with every transaction");
	broadcaster.flush(&backend, now, false).await.unwrap();
	assert_eq!(backend.take(), [[first.compute_txid()], [second.compute_txid()]]);
}

#[tokio::test]
async fn what_is_not_mined_is_sent_again_after_a_while_and_with_each_block() {
	let bench = Bench::new().await;
	let (broadcaster, backend) = (&bench.broadcaster, Recorder::default());
	broadcaster.send(vec![tx()]);
	let now = Instant::now();
	for (at, new_block, sent) in [(now, false, 1), (now, false, 0), (now, true, 1), (later(now), false, 1)] {
		broadcaster.flush(&backend, at, new_block).await.unwrap();
		assert_eq!(backend.take().len(), sent, "{new_block}");
	}
}

#[tokio::test]
async fn a_refusal_is_reported_and_tried_again() {
	let bench = Bench::new().await;
	let (broadcaster, tx) = (&bench.broadcaster, tx());
	let backend = Recorder::answering([Err(NotSent::Refused("min relay fee not met".into()))]);
	broadcaster.send(vec![tx.clone()]);
	let now = Instant::now();
	broadcaster.flush(&backend, now, false).await.unwrap();
	let outcome = broadcaster.outcome(tx.compute_txid(), Duration::ZERO).await;
	assert_eq!(outcome, Some(Err("min relay fee not met".into())));
	assert_eq!(broadcaster.waiting(), (1, 1));
	broadcaster.flush(&backend, later(now), false).await.unwrap();
	assert_eq!(broadcaster.outcome(tx.compute_txid(), Duration::ZERO).await, Some(Ok(())));
}

#[tokio::test]
async fn a_package_stays_one_parents_first() {
	let bench = Bench::new().await;
	let (broadcaster, backend) = (&bench.broadcaster, Recorder::default());
	let parent = tx();
	let child = child_of(&parent);
	broadcaster.send(vec![child.clone(), parent.clone()]);
	broadcaster.flush(&backend, Instant::now(), false).await.unwrap();
	assert_eq!(backend.take(), [[parent.compute_txid(), child.compute_txid()]]);
}

#[tokio::test]
async fn it_ends_when_deep_and_comes_back_with_a_reorganisation() {
	let bench = Bench::new().await;
	let (broadcaster, backend) = (&bench.broadcaster, Recorder::default());
	let tx = tx();
	broadcaster.send(vec![tx.clone()]);
	broadcaster.flush(&backend, Instant::now(), false).await.unwrap();
	bench.mine(vec![tx.clone()]);
	backend.take();
	broadcaster.flush(&backend, Instant::now(), true).await.unwrap();
	assert!(backend.take().is_empty(), "a mined transaction is not sent");
	bench.undo_block();
	broadcaster.flush(&backend, Instant::now(), true).await.unwrap();
	assert_eq!(backend.take().len(), 1, "it is no longer mined");
	bench.mine(vec![tx.clone()]);
	for _ in 1..DEEP {
		assert!(broadcaster.contains(&tx.compute_txid()));
		bench.mine(vec![]);
	}
	assert!(!broadcaster.contains(&tx.compute_txid()));
}

#[tokio::test]
async fn it_ends_when_something_else_spends_its_inputs() {
	let bench = Bench::new().await;
	let ours = tx();
	let rival = spend(&[ours.input[0].previous_output], 5_000, ScriptBuf::new());
	bench.broadcaster.send(vec![ours.clone()]);
	bench.mine(vec![rival]);
	for _ in 1..DEEP {
		bench.mine(vec![]);
	}
	assert_eq!(bench.broadcaster.waiting(), (0, 0));
}

#[tokio::test]
async fn a_mined_parent_does_not_end_its_package() {
	let bench = Bench::new().await;
	let parent = tx();
	let child = child_of(&parent);
	bench.broadcaster.send(vec![parent.clone(), child.clone()]);
	bench.mine(vec![parent]);
	for _ in 1..DEEP {
		bench.mine(vec![]);
	}
	assert!(bench.broadcaster.contains(&child.compute_txid()));
}

#[tokio::test]
async fn a_restart_goes_on() {
	let bench = Bench::new().await;
	let parent = tx();
	let (child, settled) = (child_of(&parent), tx());
	bench.broadcaster.send(vec![parent.clone(), child.clone()]);
	bench.broadcaster.send(vec![settled.clone()]);
	bench.mine(vec![settled]);
	for _ in 1..DEEP {
		bench.mine(vec![]);
	}
	let bench = bench.restart().await;
	let backend = Recorder::default();
	bench.broadcaster.flush(&backend, Instant::now(), false).await.unwrap();
	assert_eq!(backend.take(), [[parent.compute_txid(), child.compute_txid()]]);
}

#[tokio::test]
async fn a_full_queue_drops_what_was_refused_and_nothing_else() {
	let bench = Bench::new().await;
	let broadcaster = &bench.broadcaster;
	let refused = tx();
	broadcaster.send(vec![refused.clone()]);
	let backend = Recorder::answering([Err(NotSent::Refused("bad".into()))]);
	broadcaster.flush(&backend, Instant::now(), false).await.unwrap();
	for _ in 1..MAX_TRANSACTIONS {
		broadcaster.lock().add(package(tx()));
	}
	let (welcome, unlucky) = (tx(), tx());
	broadcaster.send(vec![welcome.clone()]);
	broadcaster.send(vec![unlucky.clone()]);
	let contained = [&refused, &welcome, &unlucky].map(|tx| broadcaster.contains(&tx.compute_txid()));
	assert_eq!(contained, [false, true, false]);
}

fn package(tx: Transaction) -> Package {
	Package::new(Row::new(std::slice::from_ref(&tx), None), vec![tx])
}

#[test]
fn core_saying_that_it_has_it_is_success() {
	for reason in ["txn-already-in-mempool", "Transaction outputs already in utxo set", "txn-already-known"] {
		assert!(is_known_already(reason), "{reason}");
	}
	assert!(!is_known_already("bad-txns-inputs-missingorspent"));
}

/// What LDK hands over for a new channel.
fn send_funding(broadcaster: &Broadcaster, tx: &Transaction) {
	broadcaster.broadcast_transactions(&[(tx, TransactionType::Funding { channels: Vec::new() })]);
}

fn refusing(reason: &str) -> Recorder {
	Recorder::answering([Err(NotSent::Refused(reason.into()))])
}

#[tokio::test]
async fn r4_what_the_mempool_lost_is_sent_again_at_once_and_once_a_block() {
	let bench = Bench::new().await;
	let (broadcaster, backend) = (&bench.broadcaster, Recorder::default());
	let (kept, evicted) = (tx(), tx());
	let now = Instant::now();
	for tx in [&kept, &evicted] {
		send_funding(broadcaster, tx);
	}
	broadcaster.saw_mempool(|_| false);
	broadcaster.flush(&backend, now, false).await.unwrap();
	assert_eq!(backend.take().len(), 2, "what was not sent yet cannot be evicted");
	for round in 0..3 {
		broadcaster.saw_mempool(|txid| *txid == kept.compute_txid());
		broadcaster.flush(&backend, now, false).await.unwrap();
		let sent = backend.take();
		assert_eq!(sent, if round == 0 { vec![vec![evicted.compute_txid()]] } else { Vec::new() });
	}
	bench.mine(Vec::new());
	broadcaster.saw_mempool(|txid| *txid == kept.compute_txid());
	broadcaster.flush(&backend, now, false).await.unwrap();
	assert_eq!(backend.take(), [[evicted.compute_txid()]]);
	broadcaster.send_again();
	broadcaster.flush(&backend, now, false).await.unwrap();
	assert_eq!(backend.take().len(), 2, "a backend that was away may have lost everything");
}

#[tokio::test]
async fn r4_a_funding_below_the_mempools_minimum_is_told_and_sent_until_it_is_taken() {
	let bench = Bench::new().await;
	let (broadcaster, backend) = (&bench.broadcaster, refusing("mempool min fee not met, 100 < 500"));
	let tx = tx();
	send_funding(broadcaster, &tx);
	assert!(broadcaster.troubles().is_empty());
	let now = Instant::now();
	broadcaster.flush(&backend, now, false).await.unwrap();
	let troubles = broadcaster.troubles();
	assert_eq!(troubles.len(), 1);
	assert_eq!(troubles[0].subject, tx.compute_txid().to_string());
	assert!(troubles[0].text.contains("ask for more than its feerate"), "{}", troubles[0].text);
	backend.take();
	broadcaster.flush(&backend, later(now), false).await.unwrap();
	assert_eq!(backend.take(), [[tx.compute_txid()]]);
	assert!(broadcaster.troubles().is_empty(), "it is over when it is taken");
}

/// LDK bumps its claims by itself; that a rival is refused is their daily life.
#[tokio::test]
async fn what_ldk_bumps_by_itself_is_no_trouble() {
	let bench = Bench::new().await;
	let backend = refusing("txn-mempool-conflict");
	let tx = tx();
	let kind = TransactionType::UnilateralClose {
		counterparty_node_id: somebody(),
		channel_id: lightning::ln::types::ChannelId([1; 32]),
	};
	bench.broadcaster.broadcast_transactions(&[(&tx, kind)]);
	bench.broadcaster.flush(&backend, Instant::now(), false).await.unwrap();
	assert_eq!(bench.broadcaster.waiting(), (1, 1));
	assert!(bench.broadcaster.troubles().is_empty());
}

fn somebody() -> bitcoin::secp256k1::PublicKey {
	use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
	PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[9; 32]).unwrap())
}

#[tokio::test]
async fn r4_a_double_spent_funding_is_told_and_given_up_only_when_that_is_buried() {
	let bench = Bench::new().await;
	let (broadcaster, backend) = (&bench.broadcaster, refusing("txn-mempool-conflict"));
	let tx = tx();
	send_funding(broadcaster, &tx);
	broadcaster.flush(&backend, Instant::now(), false).await.unwrap();
	assert!(broadcaster.troubles()[0].text.contains("another copy of this wallet"));
	let thief = spend(&[tx.input[0].previous_output], 8_000, ScriptBuf::new());
	bench.mine(vec![thief.clone()]);
	let told = broadcaster.troubles();
	assert!(told[0].text.contains("can never be mined") && told[0].text.contains(&thief.compute_txid().to_string()));
	bench.undo_block();
	assert!(!broadcaster.troubles()[0].text.contains("can never be mined"), "that block is gone");
	bench.mine(vec![thief]);
	for _ in 1..DEEP {
		assert!(broadcaster.contains(&tx.compute_txid()));
		bench.mine(Vec::new());
	}
	assert!(!broadcaster.contains(&tx.compute_txid()));
	assert!(broadcaster.troubles().is_empty());
}

/// A block is shown once: who restarts between the block and its burial must not wait for it for ever.
#[tokio::test]
async fn a_restart_does_not_forget_that_a_transaction_is_mined() {
	let bench = Bench::new().await;
	let tx = tx();
	bench.broadcaster.send(vec![tx.clone()]);
	bench.mine(vec![tx.clone()]);
	let bench = bench.restart().await;
	let backend = Recorder::default();
	bench.broadcaster.flush(&backend, Instant::now(), true).await.unwrap();
	assert_eq!(backend.take(), Vec::<Vec<Txid>>::new(), "it is mined");
	for _ in 1..DEEP {
		assert!(bench.broadcaster.contains(&tx.compute_txid()));
		bench.mine(Vec::new());
	}
	assert!(!bench.broadcaster.contains(&tx.compute_txid()));
}
