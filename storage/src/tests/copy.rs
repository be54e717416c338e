//! A copy elsewhere: snapshot and changes make the store again, whatever happens between them.

use super::{open, place, samples};
use crate::book::to_json;
use crate::{MAX_BEHIND, Rebuild, RebuildError, Store, Tap, WalletStore, abort};
use lightning::util::persist::{KVStore, MigratableKVStore};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

fn tapped(path: &Path, holds: bool) -> (Store, Tap) {
	let tap = Tap::new(holds);
	(Store::open_with(path, vec![tap.clone()], abort).unwrap(), tap)
}

/// All values and rows, as they are read.
async fn content(store: &Store) -> (BTreeMap<String, Vec<u8>>, String) {
	let mut values = BTreeMap::new();
	for (a, b, c) in store.list_all_keys().await.unwrap() {
		values.insert(format!("{a}/{b}/{c}"), KVStore::read(store, &a, &b, &c).await.unwrap());
	}
	(values, format!("{:?} {:?}", store.load_rows().await.unwrap(), store.ledger_totals().await.unwrap()))
}

/// A value of about this size of which a few bytes change.
fn value(size: usize, round: u8) -> Vec<u8> {
	let mut bytes: Vec<u8> = (0..size).map(|n| (n * 7 % 251) as u8).collect();
	bytes[size / 3] = round;
	bytes.extend([round; 5]);
	bytes
}

/// One round of everything that is written.
async fn round(store: &Store, n: u8) {
	for (key, size) in [("manager", 9_000), ("small", 50)] {
		let (primary, key) = if key == "manager" { ("", "manager") } else { ("monitors", key) };
		drop(store.write(primary, "", key, value(size, n)));
	}
	for monitor in 0..4u8 {
		drop(store.write("monitors", "", &format!("m{monitor}"), value(3_000, n.wrapping_mul(monitor))));
	}
	drop(store.write("monitor_updates", "m1", &n.to_string(), value(400, n)));
	if n > 2 {
		drop(store.remove("monitor_updates", "m1", &(n - 2).to_string(), true));
	}
	drop(store.remove("monitors", "", &format!("m{}", n % 4), false));
	drop(store.write("", "", "network_graph", vec![n; 5_000]));
	drop(store.write("inlet", "test", &format!("k{}", n % 3), vec![n; 40]));
	drop(store.remove("inlet", "test", &format!("k{}", (n % 3 + 1) % 3), false));
	drop(store.commit(vec![samples::sale(&format!("s_{}", n % 5), u64::from(n)), samples::entry(u64::from(n))]));
	if n % 5 == 0 && n > 10 {
		drop(store.commit(samples::fold(u64::from(n) - 4)));
	}
	let mut changes = bdk_wallet::ChangeSet::default();
	changes.local_chain.blocks.insert(u32::from(n), Some(bitcoin_hash(n)));
	drop(WalletStore(store.clone()).append(&changes));
}

fn bitcoin_hash(n: u8) -> bdk_wallet::bitcoin::BlockHash {
	use bdk_wallet::bitcoin::hashes::Hash;
	bdk_wallet::bitcoin::BlockHash::from_byte_array([n; 32])
}

/// A snapshot that is made while the store is written to, and all changes since, make the store that there is.
#[tokio::test]
async fn a_snapshot_made_between_changes_and_the_changes_are_the_store() {
	let (_dir, path) = place();
	let (store, tap) = tapped(&path, false);
	for n in 1..20 {
		round(&store, n).await;
	}
	store.drain().await;
	tap.skip();
	let mut snapshot = store.snapshot().await.unwrap();
	let (base, mut pieces, mut n) = (snapshot.base, Vec::new(), 20);
	let mut taken = Vec::new();
	while let Some(piece) = snapshot.next().await.unwrap() {
		pieces.push(piece);
		round(&store, n).await;
		n += 1;
		store.drain().await;
		taken.extend(std::iter::from_fn(|| tap.take(1)));
	}
	assert!(pieces.len() > 5, "{} pieces", pieces.len());
	assert!(!tap.was_lost());
	let (_other, copy) = place();
	let mut rebuild = Rebuild::create(&copy, base).unwrap();
	for piece in &pieces {
		rebuild.piece(piece.as_of, &piece.bytes).unwrap();
	}
	assert_eq!(taken[0].first, base + 1);
	for changes in &taken {
		assert_eq!(rebuild.changes(changes.first, &changes.bytes).unwrap(), changes.last);
	}
	rebuild.finish().unwrap();
	let copied = open(&copy);
	let mut wanted = content(&store).await;
	wanted.0.retain(|key, _| !key.contains("network_graph"));
	assert_eq!(content(&copied).await, wanted);
	let mut wallets = Vec::new();
	for store in [&store, &copied] {
		let mut wallet = WalletStore(store.clone());
		wallets.push(to_json(&bdk_wallet::AsyncWalletPersister::initialize(&mut wallet).await.unwrap()));
	}
	assert_eq!(wallets[0], wallets[1]);
}

/// What a piece has seen and the copy has not is told; so is a hole.
#[tokio::test]
async fn a_copy_with_a_hole_is_none() {
	let (_dir, path) = place();
	let (store, tap) = tapped(&path, false);
	let snapshot = store.snapshot().await.unwrap();
	for n in 1..4 {
		round(&store, n).await;
		store.drain().await;
	}
	let taken: Vec<_> = std::iter::from_fn(|| tap.take(1)).collect();
	assert_eq!((snapshot.base, taken[0].first), (0, 1));
	let (_other, copy) = place();
	let mut rebuild = Rebuild::create(&copy, 0).unwrap();
	rebuild.changes(taken[0].first, &taken[0].bytes).unwrap();
	let hole = rebuild.changes(taken[2].first, &taken[2].bytes);
	assert!(matches!(hole, Err(RebuildError::Unfit(_))), "{hole:?}");
	let (_other, copy) = place();
	let mut rebuild = Rebuild::create(&copy, 0).unwrap();
	let mut early = store.snapshot().await.unwrap();
	while let Some(piece) = early.next().await.unwrap() {
		rebuild.piece(piece.as_of, &piece.bytes).unwrap();
	}
	let short = rebuild.finish();
	assert!(matches!(short, Err(RebuildError::Unfit(_))), "{short:?}");
	assert!(matches!(Rebuild::create(&path, 0), Err(RebuildError::Disk { .. })), "a store is not overwritten");
}

fn is_done(future: &mut std::pin::Pin<&mut impl Future>) -> bool {
	matches!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
}

/// R13: in sync mode nothing is acknowledged before the copy has it; reads are.
#[tokio::test]
async fn r13_nothing_is_acknowledged_before_the_copy_has_it() {
	let (_dir, path) = place();
	let (store, tap) = tapped(&path, true);
	let mut first = pin!(store.write("monitors", "", "a", vec![1; 10]));
	let mut drained = pin!(store.drain());
	assert_eq!(KVStore::read(&store, "monitors", "", "a").await.unwrap(), [1; 10], "reads do not wait");
	let taken = tap.take(1).unwrap();
	assert!(!is_done(&mut first) && !is_done(&mut drained));
	let mut second = pin!(store.write("monitors", "", "b", vec![2; 10]));
	KVStore::read(&store, "monitors", "", "b").await.unwrap();
	tap.confirm(taken.last);
	first.await.unwrap();
	assert!(!is_done(&mut second), "the copy does not have this one");
	store.drain_here().await;
	assert!(!is_done(&mut second), "nor has it by then");
	let more = tap.take(1).unwrap();
	tap.confirm(more.last);
	second.await.unwrap();
	drained.await;
	store.drain().await;
	let mut last = pin!(store.write("monitors", "", "c", vec![3; 10]));
	store.clone().close().await;
	assert!(!is_done(&mut last), "a store that is closed does not acknowledge either");
}

/// A copy that is away costs a bound of memory, and is begun anew.
#[tokio::test]
async fn r13_a_copy_that_is_away_costs_a_bound_of_memory() {
	let (_dir, path) = place();
	let (store, tap) = tapped(&path, false);
	for n in 0..(MAX_BEHIND / 4_000 + 20) {
		store.write("monitors", "", &format!("m{n}"), vec![n as u8; 4_000]).await.unwrap();
		assert!(tap.position().2 <= MAX_BEHIND);
	}
	assert!(tap.was_lost() && !tap.was_lost());
	tap.skip();
	let mut snapshot = store.snapshot().await.unwrap();
	store.write("monitors", "", "last", vec![9; 40]).await.unwrap();
	let (_other, copy) = place();
	let mut rebuild = Rebuild::create(&copy, snapshot.base).unwrap();
	while let Some(piece) = snapshot.next().await.unwrap() {
		rebuild.piece(piece.as_of, &piece.bytes).unwrap();
	}
	let changes = tap.take(1).unwrap();
	rebuild.changes(changes.first, &changes.bytes).unwrap();
	rebuild.finish().unwrap();
	assert_eq!(content(&open(&copy)).await, content(&store).await);
}

/// What is not for channels survives when an old copy is used for the coins only.
#[tokio::test]
async fn channels_can_be_left_out() {
	let (_dir, path) = place();
	let (store, tap) = tapped(&path, false);
	round(&store, 1).await;
	store.drain().await;
	let (_other, copy) = place();
	let mut rebuild = Rebuild::create(&copy, 0).unwrap();
	let changes = tap.take(usize::MAX).unwrap();
	rebuild.changes(changes.first, &changes.bytes).unwrap();
	assert_eq!(rebuild.forget_channels().unwrap(), 4, "one was removed, and one is small");
	rebuild.put("recovery", "begun", b"{}".to_vec()).unwrap();
	rebuild.finish().unwrap();
	let copied = open(&copy);
	let keys: Vec<_> = content(&copied).await.0.into_keys().collect();
	assert_eq!(keys, ["inlet/recovery/begun", "inlet/test/k1"]);
	assert_eq!(copied.load_rows().await.unwrap().len(), 2);
}

/// A table that is added has to be added to the snapshot too.
#[tokio::test]
async fn every_table_is_in_the_snapshot() {
	let (_dir, path) = place();
	drop(open(&path));
	let conn = Connection::open(&path).unwrap();
	let mut select = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
	let tables: Vec<String> = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
	// `base` and `log` are parts of `kv`; the totals are made of the ledger; `meta` is of the file.
	assert_eq!(tables, ["base", "book", "kv", "ledger", "ledger_total", "log", "meta", "wallet"]);
}
