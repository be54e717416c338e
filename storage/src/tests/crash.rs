//! A process that dies loses nothing that it had acknowledged, and what is there is a prefix.
//!
//! Killing a process leaves the system's cache alone, so it shows the order and the acknowledgements, not the syncs.

use super::{child, child_path, get, open, place, put};
use crate::Store;
use lightning::util::persist::KVStore;
use std::io::{BufRead, BufReader, Write};
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
pub(super) async fn prefix(store: &Store) -> u64 {
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
