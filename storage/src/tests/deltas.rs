//! Large values: what is written of them, and what is left after a settling.

use super::{block_writer, copy_files, open, place};
use crate::Store;
use crate::kv::Key;
use crate::queue::Sees;
use lightning::io::ErrorKind;
use lightning::util::persist::KVStore;
use std::pin::pin;
use std::task::{Context, Waker};

/// A value that looks like nothing else, of so many bytes.
pub(super) fn value(seed: u32, len: usize) -> Vec<u8> {
	let mut x = u64::from(seed) << 32 | 0x9e37_79b9;
	let step = || {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		(x >> 24) as u8
	};
	std::iter::repeat_with(step).take(len).collect()
}

pub(super) async fn read(store: &Store, key: &str) -> Result<Vec<u8>, ErrorKind> {
	KVStore::read(store, "monitors", "", key).await.map_err(|e| e.kind())
}

/// A change of a few bytes costs as much in a value of a megabyte as in one of ten kilobytes.
#[tokio::test]
async fn r13_a_small_change_is_a_small_write_however_large_the_value() {
	for len in [10_000, 1_000_000] {
		let (_dir, path) = place();
		let store = open(&path);
		let mut large = value(1, len);
		store.write("monitors", "", "a_0", large.clone()).await.unwrap();
		let before = store.stats();
		for i in 0..20 {
			large.splice(i * 400..i * 400 + 50, value(i as u32 + 9, 60));
			store.write("monitors", "", "a_0", large.clone()).await.unwrap();
		}
		let after = store.stats();
		let recorded = after.recorded.monitors - before.recorded.monitors;
		assert!(recorded < 20 * 120, "{recorded} bytes at {len}");
		assert_eq!(after.batches - before.batches, 20);
		let (_copy_dir, copy) = copy_files(&path);
		assert_eq!(read(&open(&copy), "a_0").await.unwrap(), large);
	}
}

/// A value that is written again as it was costs nothing but the sync.
#[tokio::test]
async fn what_is_as_it_was_is_not_written() {
	let (_dir, path) = place();
	let store = open(&path);
	store.write("monitors", "", "a_0", value(1, 50_000)).await.unwrap();
	let before = store.stats();
	store.write("monitors", "", "a_0", value(1, 50_000)).await.unwrap();
	assert_eq!(store.stats().log_bytes, before.log_bytes);
	assert_eq!(read(&store, "a_0").await.unwrap(), value(1, 50_000));
}

/// The log of values does not grow for ever, and what was removed is gone for good.
#[tokio::test]
async fn the_log_is_settled() {
	let (_dir, path) = place();
	let store = open(&path);
	let mut large = value(1, 100_000);
	for i in 0..600usize {
		large[i * 150] ^= 0x55;
		store.write("monitors", "", "a_0", large.clone()).await.unwrap();
		let update = i.to_string();
		store.write("monitor_updates", "a_0", &update, value(i as u32, 700)).await.unwrap();
		store.remove("monitor_updates", "a_0", &update, true).await.unwrap();
	}
	assert!(store.stats().settled_bytes > 0);
	let slots = store.ask(|conn| Ok(conn.query_row("SELECT count(*) FROM log", [], |row| row.get::<_, i64>(0))?));
	let slots = slots.await.unwrap() as usize;
	assert!(slots <= crate::settle::MAX_SLOTS, "{slots} slots");
	drop(store);
	let store = open(&path);
	assert_eq!(read(&store, "a_0").await.unwrap(), large);
	assert_eq!(store.list("monitor_updates", "a_0").await.unwrap(), Vec::<String>::new());
}

/// The manager is not waited for, but is on the disk before anything that was written behind it, and soon in any case.
#[tokio::test]
async fn r13_the_manager_is_in_its_order() {
	let (_dir, path) = place();
	let store = open(&path);
	store.write("monitor_updates", "a_0", "0", b"warm up".to_vec()).await.unwrap();
	let before = store.stats();
	for i in 1..20u32 {
		store.write("", "", "manager", value(i, 9000)).await.unwrap();
		store.write("monitor_updates", "a_0", &i.to_string(), value(i, 600)).await.unwrap();
		let (_copy_dir, copy) = copy_files(&path);
		assert_eq!(KVStore::read(&open(&copy), "", "", "manager").await.unwrap(), value(i, 9000));
	}
	assert_eq!(store.stats().batches - before.batches, 19, "one batch for both");
	store.write("", "", "manager", value(99, 9000)).await.unwrap();
	let before = store.stats().batches;
	// Nobody asks for it: the writer comes by itself.
	while store.stats().batches == before {
		tokio::task::yield_now().await;
	}
	let (_copy_dir, copy) = copy_files(&path);
	assert_eq!(KVStore::read(&open(&copy), "", "", "manager").await.unwrap(), value(99, 9000));
}

/// While the disk stalls, LDK goes on writing managers and does not wait. Only the last of them stays in memory, and
/// what was written between them is on the disk with it.
#[tokio::test]
async fn r13_one_manager_waits_while_the_disk_stalls() {
	let (_dir, path) = place();
	let store = open(&path);
	let gate = block_writer(&store);
	let (manager, update) = (9000, 600);
	let mut waits = Vec::new();
	for i in 0..200u32 {
		store.write("", "", "manager", value(i, manager)).await.unwrap();
		waits.push(Box::pin(store.write("monitor_updates", "a_0", &i.to_string(), value(i, update))));
	}
	let most = manager as u64 + 200 * (update as u64 + 30);
	assert!(store.stats().queued_bytes_peak < most + manager as u64, "{:?}", store.stats());
	assert!(store.stats().queued_bytes < most, "{:?}", store.stats());
	let mut context = Context::from_waker(Waker::noop());
	assert!(waits.iter_mut().all(|wait| wait.as_mut().poll(&mut context).is_pending()), "nothing is there yet");
	let before = store.stats();
	drop(gate);
	for wait in waits {
		wait.await.unwrap();
	}
	let after = store.stats();
	assert_eq!(after.batches - before.batches, 1);
	assert_eq!(after.changes - before.changes, 201, "one manager of 200");
	let (_copy_dir, copy) = copy_files(&path);
	let copy = open(&copy);
	assert_eq!(KVStore::read(&copy, "", "", "manager").await.unwrap(), value(199, manager));
	assert_eq!(copy.list("monitor_updates", "a_0").await.unwrap().len(), 200);
}

/// A read sees the manager that was written before it, although a newer one is in the queue by the time it is answered.
#[tokio::test]
async fn a_read_keeps_the_manager_before_it() {
	let (_dir, path) = place();
	let store = open(&path);
	let gate = block_writer(&store);
	let mut listed = pin!(store.list("", ""));
	store.write("", "", "manager", value(1, 9000)).await.unwrap();
	store.write("", "", "manager", value(2, 9000)).await.unwrap();
	let other = KVStore::read(&store, "monitors", "", "a_0");
	store.write("", "", "manager", value(3, 9000)).await.unwrap();
	let read = KVStore::read(&store, "", "", "manager");
	store.write("", "", "manager", value(4, 9000)).await.unwrap();
	store.write("", "", "manager", value(5, 9000)).await.unwrap();
	let before = store.stats();
	drop(gate);
	assert_eq!(listed.as_mut().await.unwrap(), Vec::<String>::new());
	assert_eq!(other.await.unwrap_err().kind(), ErrorKind::NotFound);
	assert_eq!(read.await.unwrap(), value(3, 9000));
	assert_eq!(KVStore::read(&store, "", "", "manager").await.unwrap(), value(5, 9000));
	assert_eq!(store.stats().changes - before.changes, 2);
}

/// Writes until the log has been settled, `a_0` among the rest.
pub(super) async fn settle(store: &Store) {
	let before = store.stats().settled_bytes;
	for i in 0..2 * crate::settle::SETTLE_SLOTS as u32 {
		store.write("monitor_updates", "b_0", &i.to_string(), value(i, 700)).await.unwrap();
	}
	assert!(store.stats().settled_bytes > before);
}

/// What settling writes is as much as what changed since the last one, and not what changed since the base, nor the base.
#[tokio::test]
async fn r13_settling_costs_what_has_changed() {
	let mut settled = Vec::new();
	for len in [200_000, 2_000_000] {
		let (_dir, path) = place();
		let store = open(&path);
		let mut manager = value(1, len);
		store.write("", "", "manager", manager.clone()).await.unwrap();
		store.drain().await;
		let before = store.stats();
		// In a few places that are changed again and again, and as many new ones.
		for i in 0..1500usize {
			let at = if i % 2 == 0 { i / 2 * 260 } else { i % 10 * 260 };
			manager[at..at + 100].copy_from_slice(&value(i as u32 + 9, 100));
			store.write("", "", "manager", manager.clone()).await.unwrap();
			store.write("inlet", "test", "k", vec![1]).await.unwrap();
		}
		let after = store.stats();
		let (wrote, said) =
			(after.settled_bytes - before.settled_bytes, after.recorded.manager - before.recorded.manager);
		assert!(wrote < said + said / 2, "{wrote} bytes settled of {said} at {len}");
		settled.push(wrote);
		let links = store.ask(|conn| Ok(crate::table::chain(conn, 1)?.len())).await.unwrap();
		assert!(links > 1, "{links}");
		let (_copy_dir, copy) = copy_files(&path);
		assert!(KVStore::read(&open(&copy), "", "", "manager").await.unwrap() == manager, "{len}");
		store.close().await;
		assert!(KVStore::read(&open(&path), "", "", "manager").await.unwrap() == manager, "{len}");
	}
	assert!(settled[1] < settled[0] + settled[0] / 10, "{settled:?}");
}

/// Is the value of this key in memory, to be compared with the next one?
async fn keeps(store: &Store, primary: &str, secondary: &str, key: &str) -> bool {
	let key = Key::of(primary.into(), secondary.into(), key.into());
	store.ask_values(Sees::Others, move |_, values| Ok(values.keeps(&key))).await.unwrap()
}

/// Updates of monitors are not compared with anything: they take no room in memory from what is. They are stored like all else.
#[tokio::test]
async fn updates_of_monitors_are_not_kept_in_memory() {
	let (_dir, path) = place();
	let store = open(&path);
	store.write("monitors", "", "a_0", value(1, 9000)).await.unwrap();
	for len in [100, 700, 9000] {
		for seed in [2, 3] {
			store.write("monitor_updates", "a_0", "7", value(seed, len)).await.unwrap();
			assert!(!keeps(&store, "monitor_updates", "a_0", "7").await, "{len}");
			let there = KVStore::read(&store, "monitor_updates", "a_0", "7").await.unwrap();
			assert!(there == value(seed, len), "{len}");
		}
	}
	assert!(keeps(&store, "monitors", "", "a_0").await);
	settle(&store).await;
	store.close().await;
	let store = open(&path);
	assert!(KVStore::read(&store, "monitor_updates", "a_0", "7").await.unwrap() == value(3, 9000));
}

/// The graph, the scorer and a value that is larger than all that may be kept do not drive out the manager and the
/// monitors. They are still written as deltas, and what is kept is bounded.
#[tokio::test]
async fn a_large_value_drives_nothing_out_of_memory() {
	let (_dir, path) = place();
	let store = open(&path);
	store.write("", "", "manager", value(1, crate::values::MAX_KEPT + 5000)).await.unwrap();
	store.write("monitors", "", "a_0", value(2, 9000)).await.unwrap();
	let huge = ("monitors", "b_0", crate::values::MAX_KEPT + 1);
	for (primary, key, len) in [("", "network_graph", 500_000), ("", "scorer", 600_000), huge] {
		let mut large = value(3, len);
		store.write(primary, "", key, large.clone()).await.unwrap();
		// The graph and the scorer are written when nobody waits, or before somebody reads them.
		assert!(KVStore::read(&store, primary, "", key).await.unwrap() == large, "{key}");
		assert!(!keeps(&store, primary, "", key).await, "{key}");
		large[5000] ^= 1;
		let before = store.stats().log_bytes;
		store.write(primary, "", key, large.clone()).await.unwrap();
		assert!(KVStore::read(&store, primary, "", key).await.unwrap() == large, "{key}");
		let written = store.stats().log_bytes - before;
		assert!(written < 100_000, "{key}: {written} bytes, settling included");
		assert!(keeps(&store, "", "", "manager").await && keeps(&store, "monitors", "", "a_0").await, "{key}");
	}
	for seed in 0..3 {
		store
			.write("monitors", "", &format!("c_{seed}"), value(seed, crate::values::MAX_KEPT / 2 - 1000))
			.await
			.unwrap();
	}
	assert!(
		!keeps(&store, "monitors", "", "a_0").await && !keeps(&store, "monitors", "", "c_0").await,
		"the oldest go"
	);
	assert!(keeps(&store, "monitors", "", "c_2").await && keeps(&store, "", "", "manager").await);
	store.remove("", "", "manager", false).await.unwrap();
	assert!(!keeps(&store, "", "", "manager").await);
}
