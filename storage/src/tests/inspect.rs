//! A look at a stopped store: it finds what is damaged, and changes nothing.

use super::{log_of, open, place, put, samples};
use crate::store::abort;
use crate::{Inspection, OpenError, Store};
use lightning::util::persist::KVStore;
use rusqlite::Connection;
use std::fs;
use std::path::Path;

/// A store with something of everything, closed, or left as a power cut would.
async fn filled(path: &Path, close: bool) -> Option<tempfile::TempDir> {
	let store = open(path);
	let manager: Vec<u8> = (0..30_000u32).map(|i| (i * i % 251) as u8).collect();
	store.write("", "", "manager", manager).await.unwrap();
	for i in 0..40u8 {
		store.write("monitors", "", &format!("a{i}_0"), vec![i; 5000]).await.unwrap();
	}
	store.write("monitor_updates", "a1_0", "1", vec![1; 500]).await.unwrap();
	put(&store, "row", b"a row").await.unwrap();
	store.commit(samples::all()).await;
	if close {
		store.close().await;
		return None;
	}
	let (dir, copy) = super::copy_files(path);
	store.close().await;
	fs::copy(&copy, path).unwrap();
	fs::copy(log_of(&copy), log_of(path)).unwrap();
	Some(dir)
}

fn files(path: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
	let mut all: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
	all.sort();
	all.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

#[tokio::test]
async fn a_whole_store_has_no_complaints_and_stays_as_it_is() {
	for close in [true, false] {
		let (_dir, path) = place();
		let _kept = filled(&path, close).await;
		let before = files(&path);
		let store = Inspection::open(&path).unwrap();
		assert_eq!(store.pages().unwrap(), Vec::<String>::new());
		let (values, complaints) = store.values().unwrap();
		assert_eq!((values, complaints.len()), (43, 0), "{complaints:?}");
		let (rows, complaints) = store.rows().unwrap();
		assert_eq!((rows, complaints.len()), (samples::all().len(), 0), "{complaints:?}");
		assert_eq!(store.channels().unwrap(), (40, true, Vec::new()));
		assert_eq!(store.book().unwrap().len(), samples::all().len());
		assert!(matches!(Store::open(&path, abort), Err(OpenError::InUse { .. })), "nobody starts meanwhile");
		let to = path.with_file_name("copy.db");
		store.copy_to(&to).unwrap();
		assert!(fs::read(&to).unwrap() == fs::read(&path).unwrap());
		let copied = open(&to);
		assert_eq!(copied.list("monitors", "").await.unwrap().len(), 40);
		drop(copied);
		fs::remove_file(&to).unwrap();
		let names =
			|files: &[(std::path::PathBuf, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
		let after = files(&path);
		assert_eq!(names(&after), names(&before), "closed: {close}");
		assert!(after == before, "closed: {close}");
	}
}

/// What must be found, and how it is brought about.
#[tokio::test]
async fn damage_is_found() {
	type Look = fn(&Inspection) -> Vec<String>;
	let values: Look = |store| store.values().map_or_else(|e| vec![e.to_string()], |found| found.1);
	let rows: Look = |store| store.rows().map_or_else(|e| vec![e.to_string()], |found| found.1);
	let channels: Look = |store| store.channels().unwrap().2;
	for (sql, look, said) in [
		("UPDATE kv SET value = zeroblob(9) WHERE primary_ns = 'inlet'", values, "row of the node's own in test"),
		(
			"UPDATE base SET bytes = zeroblob(length(bytes)) WHERE part = (SELECT min(part) FROM base)",
			values,
			"not what was written",
		),
		("UPDATE log SET bytes = zeroblob(976) WHERE slot = 0", values, "slot 0"),
		("UPDATE book SET json = replace(json, 's_over', 's_oveR') WHERE id = 's_over'", rows, "sale s_over"),
		("UPDATE ledger SET json = '{}'", rows, "ledger entry"),
		("DELETE FROM ledger WHERE seq = 1", rows, "its total says"),
		("DELETE FROM kv WHERE key = 'a1_0'", channels, "update 1 is of a monitor that is not there, a1_0"),
	] {
		let (_dir, path) = place();
		filled(&path, true).await;
		// In the log too, so that damage is not mended from there.
		let store = open(&path);
		store.ask_values(crate::queue::Sees::Others, |_, _| Ok(())).await.unwrap();
		store.close().await;
		Connection::open(&path).unwrap().execute_batch(sql).unwrap();
		let found = look(&Inspection::open(&path).unwrap());
		assert!(found.iter().any(|complaint| complaint.contains(said)), "{sql}: {found:?}");
	}
}

#[tokio::test]
async fn torn_pages_are_found() {
	let (_dir, path) = place();
	filled(&path, true).await;
	let mut bytes = fs::read(&path).unwrap();
	let pages = bytes.len() / 1024;
	// Every tenth page but the first.
	(1..pages).step_by(10).for_each(|page| bytes[page * 1024..][..8].fill(0xa5));
	fs::write(&path, &bytes).unwrap();
	let found = Inspection::open(&path).map(|store| store.pages());
	assert!(found.is_err() || found.is_ok_and(|pages| pages.is_err() || pages.is_ok_and(|found| !found.is_empty())));
	assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn what_cannot_be_looked_at_is_refused() {
	let (dir, path) = place();
	assert!(matches!(Inspection::open(&path), Err(OpenError::Disk { .. })), "it is not there, and is not made");
	assert!(!path.exists());
	fs::write(&path, "no database, and longer than the header of one ".repeat(9)).unwrap();
	assert!(matches!(Inspection::open(&path), Err(OpenError::NotAStore { .. })));
	let store = dir.path().join("store.db");
	drop(open(&store));
	Connection::open(&store).unwrap().execute("UPDATE meta SET value = 99 WHERE name = 'schema'", []).unwrap();
	assert!(matches!(Inspection::open(&store), Err(OpenError::TooNew { found: 99, .. })));
	let held = open(&dir.path().join("held.db"));
	assert!(matches!(Inspection::open(&dir.path().join("held.db")), Err(OpenError::InUse { .. })));
	drop(held);
}
