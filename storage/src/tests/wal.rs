//! The write-ahead log: what goes into it, how it is bounded, and what a power cut may leave of it.

use super::crash::prefix;
use super::{copy_files, get, log_of, open, place, put};
use crate::MAX_WAL_FRAMES;
use lightning::util::persist::KVStore;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// The log is copied into the database and starts anew, so it does not grow for ever; and nothing is lost by it.
#[tokio::test]
async fn the_log_is_bounded() {
	let (_dir, path) = place();
	let store = open(&path);
	// All bytes differ from those before: SQLite does not write a page that is as it was.
	let value = |i: u8| vec![i; 1 << 20];
	let batch = (1 << 10) + 20;
	let bound = (MAX_WAL_FRAMES + batch) * (1024 + 24);
	for i in 0..100u8 {
		put(&store, &format!("k{}", i % 4), &value(i)).await.unwrap();
		assert!(std::fs::metadata(super::log_of(&path)).unwrap().len() < bound);
	}
	let stats = store.stats();
	assert!(stats.checkpoints >= 2, "{stats:?}");
	assert!(stats.log_bytes > 100 << 20, "{stats:?}");
	for i in 96..100 {
		assert_eq!(get(&store, &format!("k{}", i % 4)).await.unwrap(), value(i));
	}
}

#[tokio::test]
async fn a_lazy_remove_alone_syncs_nothing_and_is_seen() {
	let (_dir, path) = place();
	let store = open(&path);
	put(&store, "k", b"v").await.unwrap();
	let before = store.stats();
	store.remove("inlet", "test", "k", true).await.unwrap();
	assert_eq!(get(&store, "k").await, None);
	assert_eq!(store.list("inlet", "test").await.unwrap(), Vec::<String>::new());
	assert_eq!((store.stats().batches, store.stats().syncs), (before.batches, before.syncs));

	// A power cut now brings the value back, which is what lazy means.
	let (_copy_dir, copy) = copy_files(&path);
	assert_eq!(get(&open(&copy), "k").await.unwrap(), b"v");
}

/// The log, cut anywhere: every record whose sync had returned before is there, and no record without those before it.
#[tokio::test]
async fn r13_the_log_cut_at_any_byte() {
	let (_dir, path) = place();
	let store = open(&path);
	// The log's length when so many records were acknowledged.
	let mut acknowledged_at = vec![fs::metadata(log_of(&path)).unwrap().len()];
	for i in 0..40u64 {
		put(&store, &format!("n{i:08}"), &[i as u8; 700]).await.unwrap();
		acknowledged_at.push(fs::metadata(log_of(&path)).unwrap().len());
	}
	let end = *acknowledged_at.last().unwrap();
	let (_copy_dir, copy) = copy_files(&path);
	let mut shortest = u64::MAX;
	for cut in (acknowledged_at[0]..=end).step_by(397) {
		for garbage in [false, true] {
			let (_cut_dir, cut_copy) = copy_files(&copy);
			cut_file(&log_of(&cut_copy), cut, garbage);
			let there = prefix(&open(&cut_copy)).await;
			let acknowledged = acknowledged_at.iter().filter(|at| **at <= cut).count() as u64 - 1;
			assert!(there >= acknowledged, "cut at {cut}: acknowledged {acknowledged}, there are {there}");
			shortest = shortest.min(there);
		}
	}
	assert!(shortest < 5, "no cut took anything away: the test tests nothing");
	assert_eq!(prefix(&open(&copy)).await, 40);
}

/// Cuts a file here; what was behind is gone, or is what a disk may have there instead.
fn cut_file(path: &Path, at: u64, garbage: bool) {
	let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
	let len = file.metadata().unwrap().len();
	if !garbage {
		return file.set_len(at).unwrap();
	}
	file.seek(SeekFrom::Start(at)).unwrap();
	let mut rest = Vec::new();
	file.read_to_end(&mut rest).unwrap();
	assert_eq!(at + rest.len() as u64, len);
	rest.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= (i as u8) | 1);
	file.seek(SeekFrom::Start(at)).unwrap();
	file.write_all(&rest).unwrap();
}
