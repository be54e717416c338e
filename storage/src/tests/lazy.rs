//! Lazy removes: in order like all others, but no sync for them.

use super::{copy_files, get, open, place, put};
use crate::MAX_LAZY;
use lightning::util::persist::KVStore;

#[tokio::test]
async fn a_lazy_remove_rides_along_with_the_next_write() {
	let (_dir, path) = place();
	let store = open(&path);
	put(&store, "k", b"v").await.unwrap();
	store.remove("inlet", "test", "k", true).await.unwrap();
	let before = store.stats();
	put(&store, "other", b"v").await.unwrap();
	assert_eq!(store.stats().syncs - before.syncs, 1);
	let (_copy_dir, copy) = copy_files(&path);
	assert_eq!(get(&open(&copy), "k").await, None);
}

#[tokio::test]
async fn drain_and_close_make_it_durable() {
	let (_dir, path) = place();
	let store = open(&path);
	put(&store, "a", b"v").await.unwrap();
	put(&store, "b", b"v").await.unwrap();
	store.remove("inlet", "test", "a", true).await.unwrap();
	store.drain().await;
	let (_copy_dir, copy) = copy_files(&path);
	assert_eq!(get(&open(&copy), "a").await, None);
	store.remove("inlet", "test", "b", true).await.unwrap();
	store.close().await;
	assert_eq!(get(&open(&path), "b").await, None);
}

/// "Write operations to the same key which occur before a removal completes must cancel/overwrite the pending removal."
#[tokio::test]
async fn a_write_behind_a_lazy_remove_wins() {
	let (_dir, path) = place();
	let store = open(&path);
	put(&store, "k", b"old").await.unwrap();
	store.remove("inlet", "test", "k", true).await.unwrap();
	assert_eq!(get(&store, "k").await, None);
	put(&store, "k", b"new").await.unwrap();
	assert_eq!(get(&store, "k").await.unwrap(), b"new");
	let (_copy_dir, copy) = copy_files(&path);
	drop(store);
	assert_eq!(get(&open(&copy), "k").await.unwrap(), b"new");
	assert_eq!(get(&open(&path), "k").await.unwrap(), b"new");
}

/// Nobody else writes: after so many they get a sync of their own, or the queue would have no bound.
#[tokio::test]
async fn many_lazy_removes_are_bounded() {
	let (_dir, path) = place();
	let store = open(&path);
	put(&store, "k", b"v").await.unwrap();
	let before = store.stats();
	for i in 0..=MAX_LAZY {
		let key = if i == 0 { "k".to_owned() } else { format!("k{i}") };
		store.remove("inlet", "test", &key, true).await.unwrap();
	}
	assert_eq!(get(&store, "k").await, None);
	assert_eq!(store.stats().batches - before.batches, 1);
	let (_copy_dir, copy) = copy_files(&path);
	assert_eq!(get(&open(&copy), "k").await, None);
}
