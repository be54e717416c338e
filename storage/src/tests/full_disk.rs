//! No room: the fatal hook is called, and nothing is acknowledged that is not there.

use super::{child, child_path, get, open, place, put};
use crate::Store;
use lightning::util::persist::KVStore;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::task::{Context, Waker};

/// Writes until the hook is called, one at a time. The number of acknowledged writes, and what the hook was told.
async fn write_until_fatal(store: &Store, told: &mpsc::Receiver<String>) -> (u32, String) {
	for i in 0..100_000u32 {
		if put(store, &format!("n{i}"), &[1; 5000]).await.is_err() {
			return (i, told.recv().unwrap());
		}
	}
	panic!("the disk is never full");
}

/// A store whose hook tells us, and returns.
fn open_telling(path: &Path) -> (Store, mpsc::Receiver<String>) {
	let (tell, told) = mpsc::channel();
	(Store::open(path, move |message| tell.send(message.to_owned()).unwrap()).unwrap(), told)
}

async fn assert_there(path: &Path, acknowledged: u32) {
	let store = open(path);
	for i in 0..acknowledged {
		assert_eq!(get(&store, &format!("n{i}")).await.unwrap(), [1; 5000], "{i} of {acknowledged}");
	}
}

/// Mistake 4 of the list. SQLite itself says that the disk is full.
#[tokio::test]
async fn r13_full_disk() {
	let (_dir, path) = place();
	let (store, told) = open_telling(&path);
	store.ask(|conn| Ok(conn.sqlite().unwrap().pragma_update(None, "max_page_count", 200)?)).await.unwrap();
	let (acknowledged, message) = write_until_fatal(&store, &told).await;
	assert!(acknowledged > 10);
	assert!(message.contains("The disk is full: free space on it, then start again."), "{message}");

	// The store is dead: nothing is acknowledged, no read answers "not found", commit never resolves.
	assert!(put(&store, "small", b"x").await.is_err());
	assert!(store.remove("inlet", "test", "n0", false).await.is_err());
	let read = KVStore::read(&store, "inlet", "test", "nothing").await.unwrap_err();
	assert_ne!(read.kind(), lightning::io::ErrorKind::NotFound);
	let mut context = Context::from_waker(Waker::noop());
	assert!(Box::pin(store.commit(vec![super::samples::entry(0)])).as_mut().poll(&mut context).is_pending());
	assert!(Box::pin(store.drain()).as_mut().poll(&mut context).is_pending());
	assert!(told.try_recv().is_err(), "the hook is called once");

	drop(store);
	assert_there(&path, acknowledged).await;
	assert_eq!(get(&open(&path), "small").await, None);
}

/// All of a batch fails, although some of it would have had room.
#[tokio::test]
async fn r13_full_disk_in_a_batch() {
	let (_dir, path) = place();
	let (store, told) = open_telling(&path);
	store.ask(|conn| Ok(conn.sqlite().unwrap().pragma_update(None, "max_page_count", 200)?)).await.unwrap();
	let gate = super::block_writer(&store);
	let waits: Vec<_> = (0..100).map(|i| put(&store, &format!("n{i}"), &[1; 5000])).collect();
	drop(gate);
	for wait in waits {
		assert!(wait.await.is_err());
	}
	told.recv().unwrap();
	drop(store);
	assert_eq!(open(&path).list("inlet", "test").await.unwrap(), Vec::<String>::new());
}

/// The child: writes until its file may not grow. The system refuses the write, not SQLite.
#[tokio::test]
async fn limited_child() {
	let Some(path) = child_path() else { return };
	let store = Store::open(&path, |message| {
		println!("fatal {message}");
		std::process::exit(17);
	})
	.unwrap();
	for i in 0..10_000u32 {
		put(&store, &format!("n{i}"), &[1; 5000]).await.unwrap();
		println!("ack {i}");
	}
}

#[tokio::test]
async fn r13_a_file_that_may_not_grow() {
	let (_dir, path) = place();
	let inner = child("full_disk::limited_child", &path);
	// An ignored signal stays ignored over exec: the write fails with EFBIG instead of killing the process.
	let out = Command::new("sh")
		.args(["-c", "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\""])
		.arg(inner.get_program())
		.args(inner.get_args())
		.env(super::CHILD, &path)
		.stderr(Stdio::inherit())
		.output()
		.unwrap();
	let text = String::from_utf8(out.stdout).unwrap();
	assert_eq!(out.status.code(), Some(17), "{text}");
	assert!(
		text.contains("\nfatal cannot write ") && text.contains("Nothing that was acknowledged is lost."),
		"{text}"
	);
	let acknowledged = text.lines().filter(|line| line.starts_with("ack ")).count() as u32;
	assert!(acknowledged > 10, "{text}");
	assert_there(&path, acknowledged).await;
}

/// A bug in the writer is as fatal as a bad disk.
#[tokio::test]
async fn a_panic_is_fatal() {
	let (_dir, path) = place();
	let (store, told) = open_telling(&path);
	put(&store, "k", b"v").await.unwrap();
	assert!(store.ask(|_| -> Result<(), _> { panic!("on purpose") }).await.is_err());
	assert!(told.recv().unwrap().contains("panicked"));
	assert!(put(&store, "k", b"w").await.is_err());
	drop(store);
	assert_eq!(get(&open(&path), "k").await.unwrap(), b"v");
}
