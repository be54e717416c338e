//! A store moved from a file to a server and back.

use super::{acquire, expire, get, look, open, place, put, samples};
use crate::tests::{open as open_file, place as file_place};
use crate::{MigrateError, OpenError, PgOptions, Place, Store, WalletStore, abort, migrate};
use lightning::util::persist::{KVStore, MigratableKVStore};

/// All that a store has to show.
async fn content(store: &Store) -> String {
	let mut keys = store.list_all_keys().await.unwrap();
	keys.sort();
	let mut values = Vec::new();
	for (primary, secondary, key) in keys {
		let value = KVStore::read(store, &primary, &secondary, &key).await.unwrap();
		values.push((primary, secondary, key, value));
	}
	let (rows, totals) = (store.load_rows().await.unwrap(), store.ledger_totals().await.unwrap());
	let wallet = WalletStore(store.clone()).load().await.unwrap();
	format!("{values:?}\n{rows:?}\n{totals:?}\n{wallet:?}")
}

/// A node's life, some of it still in the log.
async fn live(store: &Store) {
	let mut large = super::deltas::value(1, 90_000);
	for i in 0..100usize {
		large[i * 800] ^= 0x55;
		store.write("", "", "manager", large.clone()).await.unwrap();
		store.write("monitors", "", "a_0", large[..9000].to_vec()).await.unwrap();
		store.write("monitor_updates", "a_0", &i.to_string(), super::deltas::value(i as u32, 700)).await.unwrap();
		if i > 10 {
			store.remove("monitor_updates", "a_0", &(i - 10).to_string(), true).await.unwrap();
		}
	}
	put(store, "own", b"row").await.unwrap();
	store.commit(samples::all()).await;
	store.commit(samples::clients(500).collect()).await;
	drop(WalletStore(store.clone()).append(&super::wallet::sample()));
	store.drain().await;
}

async fn server(at: &PgOptions) -> Place {
	Place::Server(Box::new(at.clone()), acquire(at).await.unwrap())
}

#[tokio::test]
async fn a_store_is_moved_to_a_server_and_back() {
	let ((_dir, path), (_schema, at)) = (file_place(), place());
	let store = open_file(&path);
	live(&store).await;
	let before = content(&store).await;
	store.close().await;

	let moved = migrate(Place::File(path.clone()), server(&at).await, |_| {}).unwrap();
	assert!(moved.rows > 500 && moved.values > 10, "{moved:?}");
	let store = open(&at);
	assert!(content(&store).await == before, "not what it was");
	put(&store, "later", b"x").await.unwrap();
	let before = content(&store).await;
	store.close().await;
	let refused = Store::open(&path, abort).unwrap_err();
	assert!(matches!(refused, OpenError::Moved { .. }), "{refused}");

	let other = path.with_extension("back");
	migrate(server(&at).await, Place::File(other.clone()), |_| {}).unwrap();
	assert!(content(&open_file(&other)).await == before, "not what it was");
	expire(&at).await;
	let refused = Store::open_postgres(&at, acquire(&at).await.unwrap(), abort).unwrap_err();
	assert!(matches!(refused, OpenError::Moved { .. }), "{refused}");
}

#[tokio::test]
async fn nothing_is_moved_over_a_store_or_out_of_one_that_was_moved_or_is_in_use() {
	let ((_dir, path), (_schema, at)) = (file_place(), place());
	let store = open_file(&path);
	put(&store, "k", b"v").await.unwrap();
	let in_use = migrate(Place::File(path.clone()), server(&at).await, |_| {}).unwrap_err();
	assert!(matches!(in_use, MigrateError::Open(OpenError::InUse { .. })), "{in_use}");
	store.close().await;

	let (_other_dir, other) = file_place();
	let store = open_file(&other);
	put(&store, "k", b"other").await.unwrap();
	store.close().await;
	let over = migrate(Place::File(path.clone()), Place::File(other.clone()), |_| {}).unwrap_err();
	assert!(matches!(over, MigrateError::NotEmpty), "{over}");
	assert_eq!(get(&open_file(&other), "k").await.unwrap(), b"other");

	expire(&at).await;
	migrate(Place::File(path.clone()), server(&at).await, |_| {}).unwrap();
	let again = migrate(Place::File(path.clone()), Place::File(other.with_extension("new")), |_| {}).unwrap_err();
	assert!(matches!(again, MigrateError::History), "{again}");
	let nothing = migrate(Place::File(other.with_extension("none")), Place::File(path), |_| {}).unwrap_err();
	assert!(matches!(nothing, MigrateError::Nothing), "{nothing}");
}

/// Cut short in the middle, nothing can be used that should not be, and the same command goes on.
#[tokio::test]
async fn a_move_that_was_cut_short_goes_on() {
	let ((_dir, path), (_schema, at)) = (file_place(), place());
	let store = open_file(&path);
	live(&store).await;
	let before = content(&store).await;
	store.close().await;
	let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
		let place = super::wait(server(&at));
		migrate(Place::File(path.clone()), place, |said| assert!(!said.starts_with("book"), "cut here"))
	}));
	assert!(cut.is_err(), "it was to be cut");
	expire(&at).await;
	let refused = Store::open_postgres(&at, acquire(&at).await.unwrap(), abort).unwrap_err();
	assert!(matches!(refused, OpenError::Moved { .. }), "{refused}");
	assert!(content(&open_file(&path)).await == before, "the source is as it was");

	expire(&at).await;
	migrate(Place::File(path.clone()), server(&at).await, |_| {}).unwrap();
	assert!(content(&open(&at)).await == before, "not what it was");
}

/// Between the two marks at the end.
#[tokio::test]
async fn a_move_whose_end_was_cut_short_is_ended() {
	let ((_dir, path), (_schema, at)) = (file_place(), place());
	let store = open_file(&path);
	put(&store, "k", b"v").await.unwrap();
	store.close().await;
	migrate(Place::File(path.clone()), server(&at).await, |_| {}).unwrap();
	look(&at).await.batch_execute("INSERT INTO meta VALUES ('unfinished', 1)").await.unwrap();
	migrate(Place::File(path), server(&at).await, |_| {}).unwrap();
	assert_eq!(get(&open(&at), "k").await.unwrap(), b"v");
}
