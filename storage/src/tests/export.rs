//! The way out: `lightning-persister` reads what is exported.

use super::{open, place, put};
use lightning::util::persist::{KVStore, KVStoreSync, MigratableKVStore, MigratableKVStoreSync};
use lightning_persister::fs_store::v1::FilesystemStore;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn filesystem_store_reads_what_is_exported() {
	let (dir, path) = place();
	let store = open(&path);
	let large: Vec<u8> = (0..90_000u32).map(|i| (i % 251) as u8).collect();
	store.write("", "", "manager", large.clone()).await.unwrap();
	store.write("", "", "manager", [&large[..], b"changed"].concat()).await.unwrap();
	store.write("", "", "network_graph", large.clone()).await.unwrap();
	for channel in ["aa_0", "bb_1"] {
		store.write("monitors", "", channel, large[..7000].to_vec()).await.unwrap();
		for update in 0..30u8 {
			store.write("monitor_updates", channel, &update.to_string(), vec![update; 300]).await.unwrap();
		}
	}
	store.remove("monitor_updates", "aa_0", "0", true).await.unwrap();
	put(&store, "row", b"of the node's own").await.unwrap();

	let to = dir.path().join("exported");
	let mut keys = store.list_all_keys().await.unwrap();
	keys.sort();
	assert_eq!(store.export(&to).await.unwrap(), keys.len());
	let files = FilesystemStore::new(to.clone());
	let mut found = MigratableKVStoreSync::list_all_keys(&files).unwrap();
	found.sort();
	assert_eq!(found, keys);
	for (primary, secondary, key) in &keys {
		let ours = KVStore::read(&store, primary, secondary, key).await.unwrap();
		assert!(KVStoreSync::read(&files, primary, secondary, key).unwrap() == ours, "{primary}/{secondary}/{key}");
	}
	let modes: BTreeSet<u32> = [to.clone(), to.join("manager"), to.join("monitors")]
		.iter()
		.map(|path| std::fs::metadata(path).unwrap().permissions().mode() & 0o077)
		.collect();
	assert_eq!(modes, BTreeSet::from([0]), "nobody else may read it");
	assert!(store.export(&to).await.is_err(), "never over what is there");
}
