//! Damage to the file: refused at the door, or invalid data, and never "not found".

use super::deltas::{read, settle, value};
use super::{get, open, place, put};
use crate::{OpenError, ReadError, Store, abort};
use lightning::io::ErrorKind;
use lightning::util::persist::KVStore;
use rusqlite::Connection;
use std::fs;
use std::path::Path;

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

/// Does this to a closed store, as a bad disk might.
fn damage(path: &Path, sql: &str) {
	let conn = Connection::open(path).unwrap();
	assert!(conn.execute(sql, []).unwrap() > 0, "{sql}");
}

#[tokio::test]
async fn r13_a_damaged_large_value_is_invalid_data_and_never_not_found() {
	for sql in [
		"UPDATE base SET bytes = CAST(substr(bytes, 2) || x'00' AS BLOB) WHERE part = (SELECT max(part) FROM base)",
		"DELETE FROM base WHERE part = (SELECT max(part) FROM base)",
		"DELETE FROM base",
		"UPDATE kv SET value = x'' WHERE primary_ns = 'monitors'",
		"UPDATE kv SET value = x'ffffff' WHERE primary_ns = 'monitors'",
		"UPDATE kv SET crc = crc + 1 WHERE primary_ns = 'monitors'",
		"UPDATE kv SET base = base + 7 WHERE primary_ns = 'monitors'",
	] {
		let (_dir, path) = place();
		let store = open(&path);
		store.write("monitors", "", "a_0", value(1, 80_000)).await.unwrap();
		store.close().await;
		damage(&path, sql);
		let store = open(&path);
		assert_eq!(read(&store, "a_0").await, Err(ErrorKind::InvalidData), "{sql}");
		// A new value heals it.
		store.write("monitors", "", "a_0", value(2, 80_000)).await.unwrap();
		store.close().await;
		assert_eq!(read(&open(&path), "a_0").await.unwrap(), value(2, 80_000), "{sql}");
	}
}

/// A row that is lost under deltas of the log is damage as well.
#[tokio::test]
async fn r13_deltas_without_what_they_change_are_invalid_data() {
	let (_dir, path) = place();
	let store = open(&path);
	let mut large = value(1, 80_000);
	store.write("monitors", "", "a_0", large.clone()).await.unwrap();
	large[7] ^= 1;
	store.write("monitors", "", "a_0", large).await.unwrap();
	store.close().await;
	damage(&path, "DELETE FROM kv WHERE primary_ns = 'monitors'");
	assert_eq!(read(&open(&path), "a_0").await, Err(ErrorKind::InvalidData));
}

#[tokio::test]
async fn r13_a_damaged_log_is_refused_at_open() {
	for sql in [
		"UPDATE log SET bytes = zeroblob(length(bytes)) WHERE slot = 0",
		"UPDATE log SET bytes = substr(bytes, 2) WHERE slot = 1",
		"UPDATE log SET bytes = (SELECT bytes FROM log WHERE slot = 5) WHERE slot = 1",
		"DELETE FROM log WHERE slot = 1",
	] {
		let (_dir, path) = place();
		let store = open(&path);
		for i in 0..3 {
			store.write("monitor_updates", "a_0", &i.to_string(), value(i, 1500)).await.unwrap();
		}
		store.close().await;
		damage(&path, sql);
		let refused = Store::open(&path, abort);
		assert!(matches!(refused, Err(OpenError::Damaged { .. })), "{sql}: {refused:?}");
	}
}

/// Does this to an open store's tables, as a bad disk might.
async fn damage_open(store: &Store, sql: &'static str) {
	let damaged = store.ask(move |conn| Ok(conn.sqlite().unwrap().execute(sql, [])?)).await.unwrap();
	assert!(damaged > 0, "{sql}");
}

/// Settling takes a value from memory if it is there: it does not go back to the row and apply all deltas since.
#[tokio::test]
async fn r13_what_is_in_memory_is_settled_from_there() {
	let (_dir, path) = place();
	let store = Store::open(&path, |message| println!("{message}")).unwrap();
	let mut large = value(1, 80_000);
	store.write("monitors", "", "a_0", large.clone()).await.unwrap();
	for i in 0..5 {
		large[i * 9000] ^= 1;
		store.write("monitors", "", "a_0", large.clone()).await.unwrap();
	}
	// What the deltas start with is no more.
	damage_open(&store, "DELETE FROM kv WHERE primary_ns = 'monitors'").await;
	assert_eq!(read(&store, "a_0").await, Err(ErrorKind::InvalidData));
	settle(&store).await;
	assert_eq!(read(&store, "a_0").await.unwrap(), large);
	store.close().await;
	assert_eq!(read(&open(&path), "a_0").await.unwrap(), large);
}

/// A base that rots while the store is open is replaced by what is in memory, and nothing builds on it any more.
#[tokio::test]
async fn r13_a_rotten_base_is_written_anew_from_memory() {
	for rot in [
		"UPDATE base SET bytes = CAST(substr(bytes, 2) || x'00' AS BLOB) WHERE part = (SELECT max(part) FROM base)",
		"DELETE FROM base WHERE part = (SELECT max(part) FROM base)",
		"UPDATE kv SET value = x'ffffff' WHERE primary_ns = 'monitors'",
	] {
		let (_dir, path) = place();
		let store = Store::open(&path, |message| println!("{message}")).unwrap();
		let mut large = value(1, 80_000);
		store.write("monitors", "", "a_0", large.clone()).await.unwrap();
		large[7] ^= 1;
		store.write("monitors", "", "a_0", large.clone()).await.unwrap();
		damage_open(&store, rot).await;
		assert_eq!(read(&store, "a_0").await, Err(ErrorKind::InvalidData), "{rot}");
		settle(&store).await;
		assert_eq!(read(&store, "a_0").await.unwrap(), large, "{rot}");
		let base = store.ask(|conn| {
			let mut select = conn.prepare("SELECT bytes FROM base ORDER BY part")?;
			let parts = select.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
			Ok(parts.collect::<Result<Vec<_>, _>>()?.concat())
		});
		assert!(base.await.unwrap() == large, "{rot}: the base is the value, and the rotten one is gone");
		store.close().await;
		assert_eq!(read(&open(&path), "a_0").await.unwrap(), large, "{rot}");
	}
}
