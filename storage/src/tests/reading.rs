//! "Not found" is never confused with "cannot read".

use super::{get, open, place, put};
use crate::{OpenError, ReadError, Store, abort};
use lightning::io::ErrorKind;
use lightning::util::persist::{KVSTORE_NAMESPACE_KEY_MAX_LEN, KVStore, MigratableKVStore};
use std::fs;

#[tokio::test]
async fn nothing_there_is_not_found() {
	let (_dir, path) = place();
	let store = open(&path);
	put(&store, "k", b"v").await.unwrap();
	for (primary, secondary, key) in [("inlet", "test", "other"), ("inlet", "", "k"), ("", "", "manager")] {
		let e = KVStore::read(&store, primary, secondary, key).await.unwrap_err();
		assert_eq!(e.kind(), ErrorKind::NotFound);
	}
	assert_eq!(store.list("inlet", "other").await.unwrap(), Vec::<String>::new());
	store.remove("inlet", "test", "other", false).await.unwrap();
}

/// Bit rot in a value, which SQLite does not see.
#[tokio::test]
async fn a_flipped_bit_is_invalid_data() {
	let (_dir, path) = place();
	let store = open(&path);
	put(&store, "k", &[0xab; 100]).await.unwrap();
	store.commit(vec![super::samples::sale("s_flipped_bit", 7)]).await;
	store.close().await;
	let mut bytes = fs::read(&path).unwrap();
	let at = bytes.windows(100).position(|w| w == [0xab; 100]).unwrap();
	bytes[at + 50] ^= 1;
	let text = b"min_lifetime";
	let at = bytes.windows(text.len()).position(|w| w == text).unwrap();
	bytes[at + 8] ^= 1;
	fs::write(&path, bytes).unwrap();

	let store = open(&path);
	let e = KVStore::read(&store, "inlet", "test", "k").await.unwrap_err();
	assert_eq!(e.kind(), ErrorKind::InvalidData);
	assert!(matches!(store.node_rows("test", None, 9).await, Err(ReadError::Damaged(_))));
	assert!(matches!(store.load_rows().await, Err(ReadError::Damaged(_))));
	// The rest can still be read and written.
	put(&store, "k", b"new").await.unwrap();
	assert_eq!(get(&store, "k").await.unwrap(), b"new");
}

/// A page that is not a page: refused at the door, and the file left as it is.
#[tokio::test]
async fn a_broken_page_is_refused_at_open() {
	let (_dir, path) = place();
	let store = open(&path);
	for i in 0..50 {
		put(&store, &format!("k{i}"), &[1; 400]).await.unwrap();
	}
	store.close().await;
	let good = fs::read(&path).unwrap();
	for page in 1..good.len() / 1024 {
		let mut bad = good.clone();
		bad[page * 1024..(page + 1) * 1024].fill(0xff);
		fs::write(&path, &bad).unwrap();
		let refused = Store::open(&path, abort);
		assert!(matches!(refused, Err(OpenError::Damaged { .. })), "page {page}: {refused:?}");
		assert_eq!(fs::read(&path).unwrap(), bad);
	}
	fs::write(&path, &good[..good.len() / 2]).unwrap();
	assert!(matches!(Store::open(&path, abort), Err(OpenError::Damaged { .. })));
}

#[tokio::test]
async fn a_closed_store_does_not_say_not_found() {
	let (_dir, path) = place();
	let store = open(&path);
	let other = store.clone();
	store.close().await;
	let e = KVStore::read(&other, "inlet", "test", "k").await.unwrap_err();
	assert_eq!(e.kind(), ErrorKind::Other);
	assert_eq!(other.list("inlet", "test").await.unwrap_err().kind(), ErrorKind::Other);
	assert!(matches!(other.load_rows().await, Err(ReadError::Closed)));
	// The file is free although a handle is left.
	open(&path);
}

#[tokio::test]
async fn what_ldk_allows_and_nothing_else() {
	let (_dir, path) = place();
	let store = open(&path);
	let long = "k".repeat(KVSTORE_NAMESPACE_KEY_MAX_LEN);
	store.write(&long, &long, &long, vec![]).await.unwrap();
	store.write(&long, "", &long, vec![1]).await.unwrap();
	store.write("", "", "aZ09_-", vec![2]).await.unwrap();
	assert_eq!(KVStore::read(&store, &long, &long, &long).await.unwrap(), Vec::<u8>::new());
	assert_eq!(KVStore::read(&store, &long, "", &long).await.unwrap(), [1]);
	let mut keys = store.list_all_keys().await.unwrap();
	keys.sort();
	assert_eq!(keys.len(), 3);
	assert_eq!(keys[0], (String::new(), String::new(), "aZ09_-".to_owned()));
	let too_long = format!("{long}k");
	for (primary, secondary, key) in
		[("", "", ""), ("", "b", "c"), ("a", "b", "c/d"), ("a", "b", "é"), ("a b", "", "c"), ("a", "b", &too_long)]
	{
		assert_eq!(store.write(primary, secondary, key, vec![]).await.unwrap_err().kind(), ErrorKind::InvalidInput);
		assert_eq!(store.remove(primary, secondary, key, true).await.unwrap_err().kind(), ErrorKind::InvalidInput);
		assert_eq!(KVStore::read(&store, primary, secondary, key).await.unwrap_err().kind(), ErrorKind::InvalidInput);
	}
}
