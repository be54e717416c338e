//! One sync for all that waits.

use super::{block_writer, get, open, place, put};
use lightning::util::persist::{CHANNEL_MANAGER_PERSISTENCE_KEY, KVStore};

#[tokio::test]
async fn what_waits_together_is_synced_together() {
	let (_dir, path) = place();
	let store = open(&path);
	put(&store, "warm-up", b"the first commit of a log costs one sync more").await.unwrap();
	let before = store.stats();
	let gate = block_writer(&store);
	let waits: Vec<_> = (0..500).map(|i| tokio::spawn(put(&store, &format!("k{i}"), b"value"))).collect();
	assert!(store.stats().queued_bytes >= 500 * 5);
	drop(gate);
	for wait in waits {
		wait.await.unwrap().unwrap();
	}
	let after = store.stats();
	assert_eq!(after.batches - before.batches, 1);
	assert_eq!(after.syncs - before.syncs, 1);
	assert_eq!(after.changes - before.changes, 500);
	assert_eq!(after.queued_bytes, 0);
	assert_eq!(get(&store, "k499").await.unwrap(), b"value");
}

/// No linger timer: a lone write does not wait for company.
#[tokio::test]
async fn a_lone_write_is_a_batch() {
	let (_dir, path) = place();
	let store = open(&path);
	for i in 1..=3 {
		put(&store, "k", b"v").await.unwrap();
		assert_eq!(store.stats().batches, i);
	}
}

#[tokio::test]
async fn bytes_are_counted_by_purpose() {
	let (_dir, path) = place();
	let store = open(&path);
	store.write("", "", CHANNEL_MANAGER_PERSISTENCE_KEY, vec![0; 1000]).await.unwrap();
	store.write("monitors", "", "aa_0", vec![0; 2000]).await.unwrap();
	store.write("monitor_updates", "aa_0", "1", vec![0; 30]).await.unwrap();
	store.write("", "", "network_graph", vec![0; 500]).await.unwrap();
	store.write("", "", "scorer", vec![0; 600]).await.unwrap();
	store.write("", "", "output_sweeper", vec![0; 700]).await.unwrap();
	// The graph and the scorer are written when there is nothing else to do, or when somebody wants to see them.
	store.list("", "").await.unwrap();
	let bytes = store.stats().bytes;
	assert_eq!(bytes.manager, 1000 + "manager".len() as u64);
	assert_eq!(bytes.monitors, 2030 + "monitorsaa_0monitor_updatesaa_01".len() as u64);
	assert_eq!(bytes.graph, 500 + "network_graph".len() as u64);
	assert_eq!(bytes.scorer, 600 + "scorer".len() as u64);
	assert_eq!(bytes.other, 700 + "output_sweeper".len() as u64);
	assert_eq!((bytes.wallet, bytes.book), (0, 0));
	assert!(store.stats().log_bytes > 5000);
}
