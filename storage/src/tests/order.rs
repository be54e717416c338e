//! The order of the calls is the order of the changes.

use super::{block_writer, get, open, place, put};
use crate::CallOrder;
use lightning::util::native_async::FutureSpawner;
use lightning::util::persist::KVStore;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Mistake 1 of the list: a store that enqueues on the first poll takes the second write for the first.
#[tokio::test]
async fn futures_polled_in_reverse() {
	let (_dir, path) = place();
	let store = open(&path);
	let first = put(&store, "k", b"first");
	let second = put(&store, "k", b"second");
	second.await.unwrap();
	first.await.unwrap();
	assert_eq!(get(&store, "k").await.unwrap(), b"second");
}

#[tokio::test]
async fn a_future_that_nobody_polls_is_written() {
	let (_dir, path) = place();
	let store = open(&path);
	drop(put(&store, "k", b"v"));
	store.close().await;
	assert_eq!(get(&open(&path), "k").await.unwrap(), b"v");
}

#[tokio::test]
async fn write_remove_write_in_one_batch() {
	let (_dir, path) = place();
	let store = open(&path);
	let gate = block_writer(&store);
	let mut waits = Vec::new();
	for (key, lazy) in [("a", false), ("b", true)] {
		waits.push(tokio::spawn(put(&store, key, b"1")));
		waits.push(tokio::spawn(store.remove("inlet", "test", key, lazy)));
		waits.push(tokio::spawn(put(&store, key, b"2")));
		waits.push(tokio::spawn(put(&store, &format!("{key}-gone"), b"1")));
		waits.push(tokio::spawn(store.remove("inlet", "test", &format!("{key}-gone"), lazy)));
	}
	drop(gate);
	for wait in waits {
		wait.await.unwrap().unwrap();
	}
	for key in ["a", "b"] {
		assert_eq!(get(&store, key).await.unwrap(), b"2");
		assert_eq!(get(&store, &format!("{key}-gone")).await, None);
	}
}

/// A read sees what was enqueued before it, although nothing of that is durable yet, and not what comes after it.
#[tokio::test]
async fn reads_have_their_place_too() {
	let (_dir, path) = place();
	let store = open(&path);
	let gate = block_writer(&store);
	drop(put(&store, "k", b"before"));
	let read = KVStore::read(&store, "inlet", "test", "k");
	drop(put(&store, "k", b"after"));
	drop(gate);
	assert_eq!(read.await.unwrap(), b"before");
	assert_eq!(get(&store, "k").await.unwrap(), b"after");
}

/// While the writer is held, nothing resolves; afterwards, when a later future has resolved, the earlier ones have.
#[tokio::test]
async fn futures_complete_in_order_and_not_early() {
	let (_dir, path) = place();
	let store = open(&path);
	let gate = block_writer(&store);
	let mut first = pin!(put(&store, "a", b"1"));
	let mut second = pin!(put(&store, "b", b"1"));
	let mut context = Context::from_waker(Waker::noop());
	assert!(first.as_mut().poll(&mut context).is_pending());
	assert!(second.as_mut().poll(&mut context).is_pending());
	drop(gate);
	second.await.unwrap();
	assert!(matches!(first.poll(&mut context), Poll::Ready(Ok(()))));
}

/// LDK calls the store inside of the futures that it spawns: they must get there before `spawn` returns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_spawner_keeps_the_order_of_the_calls() {
	let (_dir, path) = place();
	let store = open(&path);
	let spawner = CallOrder(tokio::runtime::Handle::current());
	let called = Arc::new(Mutex::new(Vec::new()));
	let mut spawned = Vec::new();
	for i in 0..200u32 {
		let (store, called) = (store.clone(), called.clone());
		spawned.push(spawner.spawn(async move {
			called.lock().unwrap().push(i);
			put(&store, "k", &i.to_be_bytes()).await
		}));
	}
	assert_eq!(*called.lock().unwrap(), (0..200).collect::<Vec<_>>());
	for task in spawned {
		task.await.unwrap().unwrap();
	}
	assert_eq!(get(&store, "k").await.unwrap(), 199u32.to_be_bytes());
}
