//! The file: whose it is, who may read it, which version it has.

use super::{child, child_path, get, open, place, put, samples};
use crate::schema::{self, MIGRATIONS};
use crate::table;
use crate::{OpenError, Store, WalletStore, abort};
use lightning::util::persist::KVStore;
use rusqlite::Connection;
use rusqlite::types::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

#[tokio::test]
async fn nobody_else_may_read_it() {
	let (_dir, path) = place();
	let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
	let store = open(&path);
	put(&store, "k", b"v").await.unwrap();
	assert_eq!(mode(&path), 0o600);
	assert_eq!(mode(&super::log_of(&path)), 0o600);
	drop(store);
	fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
	drop(open(&path));
	assert_eq!(mode(&path), 0o600);
}

/// What the promises stand on; an update of SQLite or of its build flags must not change it.
#[tokio::test]
async fn settings() {
	let (_dir, path) = place();
	for is in ["created", "opened again"] {
		let store = open(&path);
		for (pragma, wanted) in [
			("journal_mode", Value::Text("wal".into())),
			("locking_mode", Value::Text("exclusive".into())),
			("synchronous", Value::Integer(2)),
			("wal_autocheckpoint", Value::Integer(0)),
			("page_size", Value::Integer(1024)),
			("application_id", Value::Integer(0x494e_4c54)),
		] {
			let sql = format!("PRAGMA {pragma}");
			let read =
				store.ask(move |conn| Ok(conn.sqlite().unwrap().query_row(&sql, [], |row| row.get::<_, Value>(0))?));
			assert_eq!(read.await.unwrap(), wanted, "{pragma}, {is}");
		}
	}
}

/// The child: tries to open a store that another process has open, and to read it behind our back.
#[test]
fn second_process() {
	let Some(path) = child_path() else { return };
	match Store::open(&path, abort) {
		Err(OpenError::InUse { .. }) => println!("store: in use"),
		other => println!("store: {other:?}"),
	}
	let plain = Connection::open(&path).unwrap();
	println!("plain: {:?}", plain.execute("DELETE FROM kv", []).unwrap_err().sqlite_error_code());
}

/// R17, mistake 8 of the list. Holds from the moment that the file is open, before anything is written.
#[tokio::test]
async fn r17_a_second_process_is_refused() {
	let (_dir, path) = place();
	let store = open(&path);
	for round in 0..2 {
		let out = child("opening::second_process", &path).output().unwrap();
		let text = String::from_utf8(out.stdout).unwrap();
		assert!(text.contains("store: in use"), "{text}");
		assert!(text.contains("plain: Some(DatabaseBusy)"), "{text}");
		put(&store, "k", &[round]).await.unwrap();
	}
	assert!(matches!(Store::open(&path, abort), Err(OpenError::InUse { .. })), "nor a second time in this one");
	assert_eq!(get(&store, "k").await.unwrap(), [1]);
}

#[test]
fn what_is_not_ours_is_left_alone() {
	let (dir, path) = place();
	fs::write(&path, "This is a text file of somebody, longer than a header. ".repeat(40)).unwrap();
	let before = fs::read(&path).unwrap();
	assert!(matches!(Store::open(&path, abort), Err(OpenError::NotAStore { .. })));
	assert_eq!(fs::read(&path).unwrap(), before);

	let other = dir.path().join("other.db");
	Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
	let before = fs::read(&other).unwrap();
	assert!(matches!(Store::open(&other, abort), Err(OpenError::NotAStore { .. })));
	assert_eq!(fs::read(&other).unwrap(), before);

	assert!(matches!(Store::open(dir.path(), abort), Err(OpenError::Disk { .. })), "a directory");
	let missing = dir.path().join("missing").join("inlet.db");
	assert!(matches!(Store::open(&missing, abort), Err(OpenError::Disk { .. })), "no such directory");
}

/// A crash right after the file was made leaves it empty: that is a new store.
#[tokio::test]
async fn an_empty_file_is_a_new_store() {
	let (_dir, path) = place();
	fs::write(&path, []).unwrap();
	let store = open(&path);
	put(&store, "k", b"v").await.unwrap();
	store.close().await;
	assert_eq!(get(&open(&path), "k").await.unwrap(), b"v");
}

#[test]
fn a_newer_schema_is_refused() {
	let (_dir, path) = place();
	drop(open(&path));
	Connection::open(&path).unwrap().execute("UPDATE meta SET value = 99 WHERE name = 'schema'", []).unwrap();
	let before = fs::read(&path).unwrap();
	let refused = Store::open(&path, abort).unwrap_err();
	let known = MIGRATIONS.len() as u32;
	assert!(matches!(refused, OpenError::TooNew { found: 99, known: k, .. } if k == known), "{refused}");
	assert_eq!(fs::read(&path).unwrap(), before);
}

/// All steps or none: a step that fails leaves the file at the version that it had.
#[tokio::test]
async fn migrations_are_atomic() {
	let (_dir, path) = place();
	let store = open(&path);
	put(&store, "k", b"v").await.unwrap();
	store.close().await;
	let version = |path: &Path| -> u32 {
		let conn = Connection::open(path).unwrap();
		conn.query_row("SELECT value FROM meta WHERE name = 'schema'", [], |row| row.get(0)).unwrap()
	};
	let more = |steps: &[&'static str]| [MIGRATIONS, steps].concat();

	let broken = more(&["CREATE TABLE added (x)", "INSERT INTO no_such_table VALUES (1)"]);
	assert!(schema::open_with(&path, &broken).is_err());
	assert_eq!(version(&path), MIGRATIONS.len() as u32);
	let conn = Connection::open(&path).unwrap();
	assert!(conn.prepare("SELECT x FROM added").is_err());
	drop(conn);

	let good = more(&["CREATE TABLE added (x)", "INSERT INTO added VALUES (1)"]);
	drop(schema::open_with(&path, &good).unwrap());
	assert_eq!(version(&path), MIGRATIONS.len() as u32 + 2);
	drop(schema::open_with(&path, &good).unwrap());
	let conn = Connection::open(&path).unwrap();
	assert_eq!(conn.query_row("SELECT count(*) FROM added", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
	drop(conn);
	assert!(matches!(Store::open(&path, abort), Err(OpenError::TooNew { .. })), "and this version knows it for newer");
}

pub(super) const FROZEN_V1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/store.v1.db");
const FROZEN_V2: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/store.v2.db");
const FROZEN_V3: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/store.v3.db");

/// A large value, and the same after a change.
fn large(changed: bool) -> Vec<u8> {
	(0..9000u32).map(|i| if changed && i == 4000 { 0 } else { (i * i % 251) as u8 + 1 }).collect()
}

/// Written once, by version 2. It is never written again: what was released is read for ever.
#[tokio::test]
#[ignore = "makes the frozen file, which is in git"]
async fn make_frozen_v2() {
	let store = Store::open(Path::new(FROZEN_V2), abort).unwrap();
	store.write("", "", "manager", large(false)).await.unwrap();
	store.write("monitors", "", "aa_0", large(false)).await.unwrap();
	// Enough for the log to be settled once.
	for i in 0..600u32 {
		store.write("monitor_updates", "aa_0", &i.to_string(), vec![i as u8; 700]).await.unwrap();
		store.remove("monitor_updates", "aa_0", &i.to_string(), true).await.unwrap();
	}
	store.write("", "", "manager", large(true)).await.unwrap();
	store.write("monitor_updates", "aa_0", "600", b"update".to_vec()).await.unwrap();
	store.write("inlet", "peers", "x", b"row".to_vec()).await.unwrap();
	store.commit(samples::all()).await;
	drop(WalletStore(store.clone()).append(&super::wallet::sample()));
	store.close().await;
}

#[tokio::test]
async fn frozen_v2_is_read_for_ever() {
	let (_dir, path) = place();
	fs::copy(FROZEN_V2, &path).unwrap();
	let store = open(&path);
	assert_eq!(KVStore::read(&store, "", "", "manager").await.unwrap(), large(true));
	assert_eq!(KVStore::read(&store, "monitors", "", "aa_0").await.unwrap(), large(false));
	assert_eq!(store.list("monitor_updates", "aa_0").await.unwrap(), ["600"]);
	assert_eq!(KVStore::read(&store, "monitor_updates", "aa_0", "600").await.unwrap(), b"update");
	assert_eq!(KVStore::read(&store, "inlet", "peers", "x").await.unwrap(), b"row");
	assert_eq!(store.load_rows().await.unwrap(), samples::all());
	assert_eq!(WalletStore(store).load().await.unwrap(), super::wallet::sample());
}

/// A manager after so many changes.
fn grown(changes: usize) -> Vec<u8> {
	let mut manager: Vec<u8> = (0..60_000u32).map(|i| (i * i % 251) as u8 + 1).collect();
	for i in 0..changes {
		manager[i * 90..i * 90 + 40].fill(i as u8);
	}
	manager
}

/// Written once, by version 3: a base with deltas behind it.
#[tokio::test]
#[ignore = "makes the frozen file, which is in git"]
async fn make_frozen_v3() {
	let store = Store::open(Path::new(FROZEN_V3), abort).unwrap();
	for i in 0..600 {
		store.write("", "", "manager", grown(i)).await.unwrap();
		store.write("monitor_updates", "aa_0", &i.to_string(), vec![i as u8; 700]).await.unwrap();
		store.remove("monitor_updates", "aa_0", &i.to_string(), true).await.unwrap();
	}
	store.write("monitor_updates", "aa_0", "600", b"update".to_vec()).await.unwrap();
	store.close().await;
}

#[tokio::test]
async fn frozen_v3_is_read_for_ever() {
	let (_dir, path) = place();
	fs::copy(FROZEN_V3, &path).unwrap();
	let store = open(&path);
	let links = store.ask(|conn| Ok(table::chain(conn, 1)?.len())).await.unwrap();
	assert!(links > 1, "{links}");
	assert!(KVStore::read(&store, "", "", "manager").await.unwrap() == grown(599));
	assert_eq!(store.list("monitor_updates", "aa_0").await.unwrap(), ["600"]);
}

pub(super) async fn assert_frozen_v1(store: &Store) {
	assert_eq!(KVStore::read(store, "", "", "manager").await.unwrap(), [1; 3000]);
	assert_eq!(KVStore::read(store, "monitor_updates", "aa_0", "1").await.unwrap(), b"update");
	assert_eq!(store.load_rows().await.unwrap(), samples::frozen());
	assert_eq!(WalletStore(store.clone()).load().await.unwrap(), super::wallet::sample());
}

#[tokio::test]
async fn frozen_v1_is_read_for_ever() {
	let (_dir, path) = place();
	fs::copy(FROZEN_V1, &path).unwrap();
	for is in ["brought up to date", "opened again"] {
		let store = open(&path);
		println!("{is}");
		assert_frozen_v1(&store).await;
		store.close().await;
	}
	let copy = path.with_extension("db.v1");
	let version: u32 = Connection::open(&copy)
		.unwrap()
		.query_row("SELECT value FROM meta WHERE name = 'schema'", [], |row| row.get(0))
		.unwrap();
	assert_eq!(version, 1, "the copy is as the file was");
	assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
}

/// The child: brings a store up to date where no file may grow.
#[test]
fn copying_child() {
	let Some(path) = child_path() else { return };
	println!("store: {:?}", Store::open(&path, abort));
}

/// An upgrade that has no room for its copy leaves the room as it was, and the store too.
#[tokio::test]
async fn a_copy_that_fails_leaves_nothing() {
	let (dir, path) = place();
	fs::copy(FROZEN_V1, &path).unwrap();
	let inner = child("opening::copying_child", &path);
	// As in `r13_a_file_that_may_not_grow`.
	let out = Command::new("sh")
		.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
		.arg(inner.get_program())
		.args(inner.get_args())
		.env(super::CHILD, &path)
		.output()
		.unwrap();
	let text = String::from_utf8(out.stdout).unwrap();
	assert!(text.contains("store: Err(Disk") && text.contains("no copy before the upgrade"), "{text}");
	let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
	left.retain(|name| name.to_str().unwrap().contains(".v1"));
	assert!(left.is_empty(), "{left:?}");
	assert_eq!(fs::read(&path).unwrap(), fs::read(FROZEN_V1).unwrap());
	assert_frozen_v1(&open(&path)).await;
}

/// What a crash left of a copy is not taken for one, nor is its mode.
#[tokio::test]
async fn a_copy_that_was_cut_short_is_made_anew() {
	let (_dir, path) = place();
	fs::copy(FROZEN_V1, &path).unwrap();
	let (part, copy) = (path.with_extension("db.v1.part"), path.with_extension("db.v1"));
	fs::write(&part, "half of a copy").unwrap();
	fs::set_permissions(&part, fs::Permissions::from_mode(0o644)).unwrap();
	open(&path).close().await;
	assert!(!part.exists());
	assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
	assert_frozen_v1(&open(&copy)).await;
}

/// A large value that version 1 wrote is changed by deltas, settled and removed like any other.
#[tokio::test]
async fn values_of_version_1_live_on() {
	let (_dir, path) = place();
	fs::copy(FROZEN_V1, &path).unwrap();
	let store = open(&path);
	let mut value = vec![1; 3000];
	for i in 0..2000usize {
		value[i] = 2;
		store.write("", "", "manager", value.clone()).await.unwrap();
	}
	store.remove("monitor_updates", "aa_0", "1", false).await.unwrap();
	store.close().await;
	let store = open(&path);
	assert_eq!(KVStore::read(&store, "", "", "manager").await.unwrap(), value);
	assert_eq!(store.list("monitor_updates", "aa_0").await.unwrap(), Vec::<String>::new());
}
