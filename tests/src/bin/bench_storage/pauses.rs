//! How long a change waits until it is durable, and for what: the disk, a checkpoint, the network graph.

use anyhow::Result;
use inlet_storage::{Stats, Store};
use lightning::util::persist::KVStore;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of a channel manager with about 100 channels, and of a graph.
const MANAGER: usize = 320_000;
const GRAPH: usize = 8_000_000;
/// Changes after which the graph is written once more.
const GRAPH_EVERY: usize = 1_500;

/// xorshift.
struct Dice(u64);

impl Dice {
	fn roll(&mut self) -> u64 {
		self.0 ^= self.0 << 13;
		self.0 ^= self.0 >> 7;
		self.0 ^= self.0 << 17;
		self.0
	}

	fn bytes(&mut self, len: usize) -> Vec<u8> {
		std::iter::repeat_with(|| self.roll() as u8).take(len).collect()
	}

	/// Changes so many places of a value, 24 bytes each.
	fn edit(&mut self, value: &mut [u8], places: usize) {
		for _ in 0..places {
			let at = self.roll() as usize % (value.len() - 24);
			let new = self.bytes(24);
			value[at..at + 24].copy_from_slice(&new);
		}
	}
}

/// Latencies of one kind.
#[derive(Default)]
struct Waits(Vec<Duration>);

impl Waits {
	fn print(&mut self, name: &str) {
		self.0.sort_unstable();
		let at = |share: usize| self.0.get((self.0.len() * share / 1000).min(self.0.len().saturating_sub(1)));
		let ms = |wait: Option<&Duration>| wait.map_or(0.0, |wait| wait.as_secs_f64() * 1000.0);
		let (p50, p99, p999, max) = (ms(at(500)), ms(at(990)), ms(at(999)), ms(self.0.last()));
		println!("| {name} | {} | {p50:.2} | {p99:.2} | {p999:.2} | {max:.2} |", self.0.len());
	}
}

/// Makes so many changes like those of payments, one after another, in a store in `dir`, and prints how long each took.
pub async fn pauses(dir: &Path, commits: usize) -> Result<()> {
	let store = Store::open(&dir.join("pauses.sqlite"), inlet_storage::abort)?;
	let mut dice = Dice(0x0123_4567_89ab_cdef);
	let (mut manager, mut graph) = (dice.bytes(MANAGER), dice.bytes(GRAPH));
	let (mut plain, mut checkpoints, mut graphs) = (Waits::default(), Waits::default(), Waits::default());
	for i in 0..commits {
		let before = store.stats();
		if i % GRAPH_EVERY == GRAPH_EVERY / 2 {
			dice.edit(&mut graph, 2_000);
			store.write("", "", "network_graph", graph.clone()).await?;
		}
		dice.edit(&mut manager, 20);
		store.write("", "", "manager", manager.clone()).await?;
		let update = dice.bytes(600);
		let begun = Instant::now();
		store.write("monitor_updates", "aa_0", &(i % 200).to_string(), update).await?;
		let waited = begun.elapsed();
		// A payment does not follow upon the other at once; idle work begins.
		if i % 4 == 0 {
			tokio::time::sleep(Duration::from_millis(2)).await;
		}
		kind(&before, &store.stats(), &mut plain, &mut checkpoints, &mut graphs).0.push(waited);
	}
	let stats = store.stats();
	println!("| | changes | p50 ms | p99 ms | p99.9 ms | max ms |\n|---|---|---|---|---|---|");
	plain.print("nothing else");
	checkpoints.print("beside a checkpoint");
	graphs.print("beside the graph");
	println!("\n{} checkpoints, {} bytes to the log, {} syncs", stats.checkpoints, stats.log_bytes, stats.syncs);
	store.close().await;
	Ok(())
}

fn kind<'a>(
	before: &Stats,
	after: &Stats,
	plain: &'a mut Waits,
	checkpoints: &'a mut Waits,
	graphs: &'a mut Waits,
) -> &'a mut Waits {
	// The checkpoint after a change may be what the next one waits for; both are counted with it.
	if after.checkpoints > before.checkpoints {
		checkpoints
	} else if after.batches > before.batches + 1 {
		graphs
	} else {
		plain
	}
}
