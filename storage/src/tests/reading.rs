//! "Not found" is never confused with "cannot read".

use super::{open, place, put};
use crate::ReadError;
use lightning::io::ErrorKind;
use lightning::util::persist::{KVSTORE_NAMESPACE_KEY_MAX_LEN, KVStore, MigratableKVStore};

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
