//! Tests attack time, disk and restart. One file for a behaviour.

mod book;
mod copy;
mod crash;
mod deltas;
mod export;
mod faults;
mod full_disk;
mod group;
mod image;
mod inspect;
mod lazy;
mod model;
mod opening;
mod order;
#[cfg(postgres_here)]
#[expect(clippy::duplicate_mod, reason = "what every store does, each on its own database")]
mod postgres;
mod power_cut;
mod power_cut_recorded;
mod rare;
mod reading;
mod room;
mod rot;
mod samples;
mod wal;
mod wallet;

use crate::{Store, abort};
use lightning::io::Error;
use lightning::util::persist::KVStore;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::sync::mpsc;
use tempfile::TempDir;

/// Set for a process that a test started to be killed; its value is the store's file.
const CHILD: &str = "INLET_STORE_TEST_CHILD";

/// Runs of the model.
const CASES: u32 = 64;

/// Bytes without a pattern.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
	let mut x = seed | 1;
	let step = || {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		x as u8
	};
	std::iter::repeat_with(step).take(len).collect()
}

/// A directory, and a file name in it.
fn place() -> (TempDir, PathBuf) {
	let dir = tempfile::tempdir().unwrap();
	let path = dir.path().join("inlet.db");
	(dir, path)
}

fn open(path: &Path) -> Store {
	Store::open(path, abort).unwrap()
}

/// The value of `inlet/test/key`, `None` if the store says "not found"; any other error fails the test.
async fn get(store: &Store, key: &str) -> Option<Vec<u8>> {
	match KVStore::read(store, "inlet", "test", key).await {
		Ok(value) => Some(value),
		Err(e) if e.kind() == lightning::io::ErrorKind::NotFound => None,
		Err(e) => panic!("{e}"),
	}
}

/// Writes `inlet/test/key`.
fn put(store: &Store, key: &str, value: &[u8]) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
	Box::pin(store.write("inlet", "test", key, value.to_vec()))
}

/// Keeps the writer busy until the sender is dropped; returns when it is. What is enqueued meanwhile is one batch.
fn block_writer(store: &Store) -> mpsc::Sender<()> {
	let (started, wait) = mpsc::channel();
	let (release, released) = mpsc::channel::<()>();
	drop(store.ask(move |_| {
		started.send(()).unwrap();
		assert!(released.recv().is_err());
		Ok(())
	}));
	wait.recv().unwrap();
	release
}

/// This test binary again, as a process of its own that runs one test in the role of a child.
fn child(test: &str, path: &Path) -> Command {
	let mut command = Command::new(std::env::current_exe().unwrap());
	command.args([&format!("tests::{test}"), "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, path);
	command
}

/// The store's file, in a process made by [`child`].
fn child_path() -> Option<PathBuf> {
	std::env::var_os(CHILD).map(PathBuf::from)
}

/// A copy of the store's files as they are on the disk at this moment, in a directory of its own.
fn copy_files(path: &Path) -> (TempDir, PathBuf) {
	let (dir, copy) = place();
	std::fs::copy(path, &copy).unwrap();
	let log = log_of(path);
	if log.exists() {
		std::fs::copy(log, log_of(&copy)).unwrap();
	}
	(dir, copy)
}

/// The write-ahead log of a store.
fn log_of(path: &Path) -> PathBuf {
	path.with_extension("db-wal")
}

/// On a machine without PostgreSQL (build.rs looks for it): `.ci/run` installs it.
#[cfg(not(postgres_here))]
#[test]
fn the_store_on_a_server_is_not_tried_here() {
	eprintln!(
		"not tried: PostgreSQL is not here (Debian: apt-get install postgresql, then cargo clean -p inlet-storage)"
	);
	assert!(std::env::var_os("CI").is_none(), "CI has to try it");
}
