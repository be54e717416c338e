//! The power cut at every write of what a real node wrote: a recording of `cargo bench-storage record`. By hand:
//!
//! `POWER_CUT_RECORDING=/DIR/10.record cargo test -p inlet-storage recorded -- --ignored --nocapture`

#[allow(dead_code, reason = "the benchmark has more use for it")]
#[path = "../../../tests/src/bin/bench_storage/entries.rs"]
mod entries;

use super::power_cut::{Disk, Event, Left, place_in_memory, record};
use super::{child_path, open, place};
use crate::Store;
use entries::{Entry, Key, load};
use lightning::util::persist::KVStore;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::Path;

const RECORDING: &str = "POWER_CUT_RECORDING";

/// What the node wrote. Its own rows (the book, the wallet) are only known by their size: each is another value of one key.
fn steps() -> Vec<Entry> {
	let path = std::env::var_os(RECORDING).expect("POWER_CUT_RECORDING names a recording");
	let path = Path::new(&path);
	let len = usize::try_from(std::fs::metadata(path).unwrap().len()).unwrap();
	let mut steps = load(path, 0..len).unwrap().1;
	for (n, step) in steps.iter_mut().enumerate() {
		if let Entry::Other(len) = step {
			let key = ["inlet", "bench", "row"].map(str::to_owned);
			*step = Entry::Put(key, (n as u64).to_le_bytes().into_iter().cycle().take((*len).max(8)).collect());
		}
	}
	steps
}

/// One number for a value of a key; a state's is the sum of them. The graph and the scorer are caches that are written when
/// nobody waits, and so behind what came later: they are none of it.
fn number(key: &Key, value: &[u8]) -> u64 {
	if matches!(key.each_ref().map(String::as_str), ["", "", "network_graph" | "scorer"]) {
		return 0;
	}
	let mut hasher = DefaultHasher::new();
	(key, value).hash(&mut hasher);
	hasher.finish()
}

/// What is there after each step, in numbers.
fn states(steps: &[Entry]) -> Vec<u64> {
	let mut there: BTreeMap<&Key, u64> = BTreeMap::new();
	let (mut sum, mut states) = (0u64, vec![0]);
	for step in steps {
		let (key, new) = match step {
			Entry::Put(key, value) => (key, Some(number(key, value))),
			Entry::Remove(key) => (key, None),
			Entry::Other(_) | Entry::Committed => {
				states.push(sum);
				continue;
			}
		};
		let old = match new {
			Some(new) => there.insert(key, new),
			None => there.remove(key),
		};
		sum = sum.wrapping_sub(old.unwrap_or(0)).wrapping_add(new.unwrap_or(0));
		states.push(sum);
	}
	states
}

async fn state(store: &Store, spaces: &BTreeSet<(String, String)>) -> u64 {
	let mut sum = 0u64;
	for (primary, secondary) in spaces {
		for name in store.list(primary, secondary).await.unwrap() {
			let value = KVStore::read(store, primary, secondary, &name).await.unwrap();
			sum = sum.wrapping_add(number(&[primary.clone(), secondary.clone(), name], &value));
		}
	}
	sum
}

/// The child: writes it all, batch by batch as it was, and says what is durable.
#[tokio::test]
async fn recorded_child() {
	let Some(path) = child_path() else { return };
	let store = open(&path);
	writeln!(std::io::stdout(), "ack 0").unwrap();
	let (mut waits, mut durable) = (Vec::new(), 0);
	let steps = steps();
	let all = steps.len();
	for (n, step) in steps.into_iter().enumerate() {
		match step {
			Entry::Put([primary, secondary, key], value) => {
				// LDK's manager waits for the monitors behind it, others of this space are caches: their futures say nothing of the disk.
				let lazy = primary.is_empty();
				waits.push(tokio::spawn(store.write(&primary, &secondary, &key, value)));
				durable = if lazy { durable } else { n + 1 };
			}
			Entry::Remove([primary, secondary, key]) => drop(store.remove(&primary, &secondary, &key, true)),
			Entry::Other(_) => unreachable!("made a value above"),
			Entry::Committed => {
				for wait in waits.drain(..) {
					wait.await.unwrap().unwrap();
				}
				writeln!(std::io::stdout(), "ack {durable}").unwrap();
			}
		}
	}
	store.drain().await;
	store.close().await;
	writeln!(std::io::stdout(), "ack {all}").unwrap();
}

#[tokio::test]
#[ignore = "takes a recording and many minutes: by hand"]
async fn r13_the_power_cut_at_every_write_of_a_recorded_node() {
	let steps = steps();
	let spaces: BTreeSet<(String, String)> = steps
		.iter()
		.filter_map(
			|step| if let Entry::Put([primary, secondary, _], _) = step { Some((primary, secondary)) } else { None },
		)
		.map(|(primary, secondary)| (primary.clone(), secondary.clone()))
		.collect();
	let (states, all) = (states(&steps), steps.len());
	drop(steps);
	let (_dir, path) = place();
	let events = record("power_cut_recorded::recorded_child", &path).expect("strace is needed");
	let (mut disk, mut cuts, mut behind, mut syncs) = (Disk::default(), 0u64, 0u64, 0u64);
	for (i, event) in events.into_iter().enumerate() {
		let synced = matches!(event, Event::Sync { .. });
		let acknowledged = matches!(event, Event::Acknowledged(_));
		syncs += u64::from(synced);
		disk.see(event);
		if acknowledged || syncs == 0 {
			continue;
		}
		let turn = [Left::Some(i as u64 * 7919 + 1), Left::All, Left::AllButHalfTheLast][i % 3];
		for left in [turn].into_iter().chain(synced.then_some(Left::Nothing)) {
			let (_cut_dir, cut) = place_in_memory();
			disk.cut(left, cut.parent().unwrap());
			let store = open(&cut);
			let found = state(&store, &spaces).await;
			drop(store);
			let at = states[disk.acknowledged..].iter().position(|state| *state == found);
			assert!(at.is_some(), "event {i}, {left:?}: not one of the states since the {}th step", disk.acknowledged);
			(behind, cuts) = (behind + u64::from(at == Some(0)), cuts + 1);
			if cuts.is_multiple_of(2_000) {
				println!("{cuts} cuts, at step {} of {all}", disk.acknowledged);
			}
		}
	}
	assert_eq!(disk.acknowledged, all);
	println!("{all} steps, {syncs} syncs, {cuts} cuts; {behind} left exactly what was acknowledged");
}
