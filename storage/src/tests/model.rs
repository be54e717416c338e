//! Any sequence of operations, against a map.

use super::{CASES, copy_files, open, place};
use crate::Store;
use lightning::io::ErrorKind;
use lightning::util::persist::KVStore;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Op {
	Write(usize, Vec<u8>),
	/// A large value, changed a little.
	Edit(usize, usize, Vec<u8>),
	Remove(usize, bool),
	Read(usize),
	List(usize),
	/// Wait for all that was written.
	Settle,
	Drain,
	Reopen,
	/// Look at what a power cut would leave now.
	Cut,
}

const KEYS: [(&str, &str, &str); 5] =
	[("", "", "manager"), ("monitors", "", "a_0"), ("u", "a_0", "1"), ("u", "a_0", "2"), ("u", "b_0", "1")];

type Map = BTreeMap<usize, Vec<u8>>;

fn op() -> impl Strategy<Value = Op> {
	let key = 0..KEYS.len();
	prop_oneof![
		8 => (key.clone(), prop::collection::vec(any::<u8>(), 0..3000)).prop_map(|(k, v)| Op::Write(k, v)),
		8 => (key.clone(), 0..9000usize, prop::collection::vec(any::<u8>(), 1..300)).prop_map(|(k, at, v)| Op::Edit(k, at, v)),
		4 => (key.clone(), any::<bool>()).prop_map(|(k, lazy)| Op::Remove(k, lazy)),
		4 => key.clone().prop_map(Op::Read),
		2 => key.prop_map(Op::List),
		1 => Just(Op::Settle),
		1 => Just(Op::Drain),
		1 => Just(Op::Reopen),
		1 => Just(Op::Cut),
	]
}

async fn read(store: &Store, k: usize) -> Option<Vec<u8>> {
	let (primary, secondary, key) = KEYS[k];
	match KVStore::read(store, primary, secondary, key).await {
		Ok(value) => Some(value),
		Err(e) => {
			assert_eq!(e.kind(), ErrorKind::NotFound);
			None
		}
	}
}

async fn dump(store: &Store) -> Map {
	let mut map = Map::new();
	for k in 0..KEYS.len() {
		if let Some(value) = read(store, k).await {
			map.insert(k, value);
		}
	}
	map
}

async fn run(ops: Vec<Op>) {
	let (_dir, path) = place();
	let mut store = open(&path);
	// What has been enqueued, after each operation; the first `durable` of them must survive a cut.
	let mut states = vec![Map::new()];
	let mut durable = 0;
	let mut waiting = Vec::new();
	for op in ops {
		let mut now = states.last().unwrap().clone();
		match op {
			Op::Write(k, value) => {
				let (primary, secondary, key) = KEYS[k];
				waiting.push(tokio::spawn(store.write(primary, secondary, key, value.clone())));
				now.insert(k, value);
				states.push(now);
			}
			Op::Edit(k, at, bytes) => {
				let mut value = now.get(&k).cloned().unwrap_or_default();
				value.resize_with(value.len().max(9000), || (at % 251) as u8);
				let gone = at..value.len().min(at + at % 300);
				value.splice(gone, bytes);
				let (primary, secondary, key) = KEYS[k];
				waiting.push(tokio::spawn(store.write(primary, secondary, key, value.clone())));
				now.insert(k, value);
				states.push(now);
			}
			Op::Remove(k, lazy) => {
				let (primary, secondary, key) = KEYS[k];
				waiting.push(tokio::spawn(store.remove(primary, secondary, key, lazy)));
				now.remove(&k);
				states.push(now);
				if lazy {
					// Never promised, so not to be counted as durable by the wait for it.
					continue;
				}
			}
			Op::Read(k) => assert_eq!(read(&store, k).await.as_ref(), now.get(&k)),
			Op::List(k) => {
				let (primary, secondary, _) = KEYS[k];
				let mut wanted: Vec<_> = now.keys().map(|k| KEYS[*k]).collect();
				wanted.retain(|(p, s, _)| (*p, *s) == (primary, secondary));
				let wanted: Vec<_> = wanted.into_iter().map(|(_, _, key)| key.to_owned()).collect();
				assert_eq!(store.list(primary, secondary).await.unwrap(), wanted);
			}
			Op::Settle => {
				for wait in waiting.drain(..) {
					wait.await.unwrap().unwrap();
				}
			}
			Op::Drain => {
				store.drain().await;
				durable = states.len() - 1;
			}
			Op::Reopen => {
				drop(store);
				store = open(&path);
				durable = states.len() - 1;
			}
			Op::Cut => {
				// While the writer does nothing, so that the copy is of one moment.
				let gate = super::block_writer(&store);
				let (_copy_dir, copy) = copy_files(&path);
				drop(gate);
				let left = dump(&open(&copy)).await;
				assert!(states[durable..].contains(&left), "not a state that there ever was, or one too old");
			}
		}
	}
	drop(store);
	assert_eq!(&dump(&open(&path)).await, states.last().unwrap());
}

proptest! {
	#![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

	#[test]
	fn a_store_is_a_map_that_survives(ops in prop::collection::vec(op(), 1..90)) {
		tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap().block_on(run(ops));
	}
}
