//! A process that dies loses nothing that it had acknowledged, and what is there is a prefix.
//!
//! Killing a process leaves the system's cache alone, so it shows the order and the acknowledgements, not the syncs.
//! Cutting the log shows what a power cut may leave of it.

use super::{child, child_path, copy_files, get, log_of, open, place, put};
use crate::Store;
use lightning::util::persist::KVStore;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Stdio;

/// The child: writes numbered records, many at a time, and says which of them are durable. Ends when it is killed.
#[tokio::test]
async fn crash_child() {
	let Some(path) = child_path() else { return };
	let store = open(&path);
	let mut waiting = std::collections::VecDeque::new();
	for i in 0u64.. {
		waiting.push_back((i, put(&store, &format!("n{i:08}"), &[i as u8; 700])));
		while waiting.len() >= 32 {
			let (n, wait) = waiting.pop_front().unwrap();
			wait.await.unwrap();
			writeln!(std::io::stdout(), "ack {n}").unwrap();
		}
	}
}

/// How many records there are, from the first on without a gap. Fails if there is one behind a gap.
async fn prefix(store: &Store) -> u64 {
	let keys = store.list("inlet", "test").await.unwrap();
	let wanted: Vec<_> = (0..keys.len()).map(|i| format!("n{i:08}")).collect();
	assert_eq!(keys, wanted, "a gap");
	for (i, key) in keys.iter().enumerate() {
		assert_eq!(get(store, key).await.unwrap(), [i as u8; 700]);
	}
	keys.len() as u64
}

/// R13: what is acknowledged survives `kill -9` at any moment.
#[tokio::test]
async fn r13_killed_while_writing() {
	for kill_after in [1, 40, 300, 1000] {
		let (_dir, path) = place();
		let mut writer = child("crash::crash_child", &path).stdout(Stdio::piped()).spawn().unwrap();
		let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
		let (mut acknowledged, mut seen) = (0, 0);
		for line in lines {
			if let Some(n) = line.strip_prefix("ack ").and_then(|n| n.parse::<u64>().ok()) {
				(acknowledged, seen) = (n + 1, seen + 1);
			}
			if seen == kill_after {
				// Sends SIGKILL. Lines that were written meanwhile are still read.
				writer.kill().unwrap();
			}
		}
		writer.wait().unwrap();
		assert!(seen >= kill_after);
		let there = prefix(&open(&path)).await;
		assert!(there >= acknowledged, "acknowledged {acknowledged}, there are {there}");
	}
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
