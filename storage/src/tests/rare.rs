//! The graph and the scorer: caches, which never come in front of a payment.

use super::{block_writer, copy_files, noise, open, place};
use crate::rare::STEP;
use crate::{Store, abort};
use lightning::io::ErrorKind;
use lightning::util::persist::KVStore;

const GRAPH: &str = "network_graph";

async fn graph(store: &Store) -> Option<Vec<u8>> {
	match KVStore::read(store, "", "", GRAPH).await {
		Ok(value) => Some(value),
		Err(e) if e.kind() == ErrorKind::NotFound => None,
		Err(e) => panic!("{e}"),
	}
}

/// A large graph and then a payment are asked for while the writer is busy. The payment is on the disk before anything of the
/// graph is, and the graph's future has resolved at once.
#[tokio::test]
async fn a_graph_is_never_in_front_of_a_payment() {
	let (_dir, path) = place();
	let store = open(&path);
	store.write("monitor_updates", "a_0", "0", vec![1; 700]).await.unwrap();
	let gate = block_writer(&store);
	for seed in 0..5 {
		store.write("", "", GRAPH, vec![seed; 1000 * STEP]).await.unwrap();
	}
	let payment = tokio::spawn(store.write("monitor_updates", "a_0", "1", noise(9, 700)));
	drop(gate);
	payment.await.unwrap().unwrap();
	let stats = store.stats();
	assert_eq!(stats.recorded.graph, 0, "nothing of the graph came before it");
	let (_copy_dir, copy) = copy_files(&path);
	let copied = open(&copy);
	assert_eq!(KVStore::read(&copied, "monitor_updates", "a_0", "1").await.unwrap(), noise(9, 700));
	assert!(graph(&copied).await.is_none());
	assert!(graph(&store).await.unwrap() == vec![4; 1000 * STEP]);
	let stats = store.stats();
	assert_eq!(stats.bytes.graph as usize, GRAPH.len() + 1000 * STEP, "five values, of which the last was written");
}

/// Whoever comes while a large one is written waits for one step of it at most.
#[tokio::test]
async fn it_is_written_in_steps_that_others_go_between() {
	let (_dir, path) = place();
	let store = open(&path);
	// Nothing before it, so it is written whole: a thousand commits.
	let value = vec![7; 1000 * STEP];
	store.write("", "", GRAPH, value.clone()).await.unwrap();
	while store.stats().log_bytes < 5 * STEP as u64 {
		tokio::task::yield_now().await;
	}
	for i in 0..3 {
		store.write("monitor_updates", "a_0", &i.to_string(), noise(i, 300)).await.unwrap();
		assert_eq!(store.stats().recorded.graph, 0, "the graph was waited for");
	}
	assert!(graph(&store).await.unwrap() == value);
}

#[tokio::test]
async fn a_small_change_is_a_small_write() {
	let (_dir, path) = place();
	let store = open(&path);
	let mut value = noise(1, 40 * STEP);
	store.write("", "", GRAPH, value.clone()).await.unwrap();
	graph(&store).await.unwrap();
	for i in 0..20 {
		value[i * 1000] ^= 1;
		value.splice(i * 5000..i * 5000, noise(i as u64, 40));
		let before = store.stats().log_bytes;
		store.write("", "", GRAPH, value.clone()).await.unwrap();
		assert_eq!(graph(&store).await.unwrap(), value);
		assert!(store.stats().log_bytes - before < 20_000);
	}
	store.close().await;
	assert_eq!(graph(&open(&path)).await.unwrap(), value);
}

/// Closing writes what is left; a remove takes it away wherever it stands.
#[tokio::test]
async fn closing_writes_it_and_removing_removes_it() {
	let (_dir, path) = place();
	let store = open(&path);
	store.write("", "", GRAPH, noise(1, 10 * STEP)).await.unwrap();
	store.write("", "", "scorer", noise(2, 100)).await.unwrap();
	store.close().await;
	let store = open(&path);
	assert_eq!(graph(&store).await.unwrap(), noise(1, 10 * STEP));
	assert_eq!(KVStore::read(&store, "", "", "scorer").await.unwrap(), noise(2, 100));
	store.write("", "", GRAPH, noise(3, 10 * STEP)).await.unwrap();
	store.remove("", "", GRAPH, false).await.unwrap();
	assert!(graph(&store).await.is_none());
	store.write("", "", "scorer", noise(4, 10_000)).await.unwrap();
	store.write("", "", "scorer", noise(5, 200)).await.unwrap();
	store.close().await;
	let store = open(&path);
	assert!(graph(&store).await.is_none());
	assert_eq!(KVStore::read(&store, "", "", "scorer").await.unwrap(), noise(5, 200));
	let sql = "SELECT count(*) FROM base WHERE part >> 20 NOT IN (SELECT base FROM kv WHERE base IS NOT NULL)";
	let parts: i64 = store.ask(move |conn| Ok(conn.query_row(sql, [], |row| row.get(0))?)).await.unwrap();
	assert_eq!(parts, 0, "nothing is left of what is in no row");
}

/// A cut at any step leaves the value before or the new one, and no rubbish.
#[tokio::test]
async fn r13_a_cut_in_the_middle_leaves_the_one_before_or_the_new_one() {
	let (_dir, path) = place();
	let store = open(&path);
	let (old, new) = (noise(1, 30 * STEP), noise(2, 30 * STEP));
	store.write("", "", GRAPH, old.clone()).await.unwrap();
	graph(&store).await.unwrap();
	store.write("", "", GRAPH, new.clone()).await.unwrap();
	let (mut olds, mut news) = (0, 0);
	for i in 0u64.. {
		store.write("monitor_updates", "a_0", "x", noise(i, 300)).await.unwrap();
		// Nothing is written while the writer is held, so the two files belong together.
		let gate = block_writer(&store);
		let (_copy_dir, copy) = copy_files(&path);
		drop(gate);
		let copied = Store::open(&copy, abort).unwrap();
		let found = graph(&copied).await.unwrap();
		(olds, news) = (olds + u32::from(found == old), news + u32::from(found == new));
		assert!(found == old || found == new);
		if news == 3 {
			break;
		}
	}
	assert!(olds > 0 && news > 0, "{olds} {news}");
}

/// However busy it is, it gets there.
#[tokio::test]
async fn constant_load_does_not_keep_it_off_for_ever() {
	let (_dir, path) = place();
	let store = open(&path);
	store.write("", "", GRAPH, noise(1, 3 * STEP)).await.unwrap();
	let mut waiting = std::collections::VecDeque::new();
	for i in 0u64.. {
		assert!(i < 100_000, "never written");
		waiting.push_back(store.write("monitor_updates", "a_0", "x", noise(i, 300)));
		if waiting.len() > 8 {
			waiting.pop_front().unwrap().await.unwrap();
		}
		if store.stats().recorded.graph > 0 {
			break;
		}
	}
}
