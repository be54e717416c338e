//! What was written, counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a value is for, by its namespace or table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
	Manager,
	Monitors,
	Graph,
	Scorer,
	Wallet,
	Book,
	Other,
}

/// One number for each purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByPurpose {
	/// LDK's channel manager.
	pub manager: u64,
	/// Channel monitors, their updates and their archive.
	pub monitors: u64,
	/// The network graph.
	pub graph: u64,
	/// The scorer.
	pub scorer: u64,
	/// BDK's change sets.
	pub wallet: u64,
	/// Clients, sales, orders, ledger.
	pub book: u64,
	/// Everything else: the sweeper, the node's own rows.
	pub other: u64,
}

/// Counters since the store was opened, and the queue as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
	/// Transactions committed.
	pub batches: u64,
	/// Syncs asked of the operating system: one for a batch, one more for the first batch after a checkpoint, two for a
	/// checkpoint. Computed, not traced; `docs/store.md` has the comparison with a trace.
	pub syncs: u64,
	/// Checkpoints: the log is copied into the database and starts again.
	pub checkpoints: u64,
	/// Writes and removes made.
	pub changes: u64,
	/// Bytes of keys and values that callers gave us.
	pub bytes: ByPurpose,
	/// Bytes of the records that these became: deltas, where they are smaller. The node's own rows, the book and the
	/// wallet have no records.
	pub recorded: ByPurpose,
	/// Bytes moved from the log of values into its table.
	pub settled_bytes: u64,
	/// Bytes written to the write-ahead log, frame headers included.
	pub log_bytes: u64,
	/// Bytes copied from the log into the database, an upper bound: a page that is in the log twice is copied once.
	pub checkpoint_bytes_at_most: u64,
	/// Bytes waiting in the queue.
	pub queued_bytes: u64,
	/// Most bytes that ever waited.
	pub queued_bytes_peak: u64,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
	pub batches: AtomicU64,
	pub syncs: AtomicU64,
	pub checkpoints: AtomicU64,
	pub changes: AtomicU64,
	pub log_bytes: AtomicU64,
	pub checkpoint_bytes: AtomicU64,
	pub queued_bytes: AtomicU64,
	pub queued_bytes_peak: AtomicU64,
	pub settled_bytes: AtomicU64,
	bytes: [AtomicU64; 7],
	recorded: [AtomicU64; 7],
}

impl Counters {
	/// Counts a change of so many bytes.
	pub fn change(&self, purpose: Purpose, bytes: u64) {
		add(&self.changes, 1);
		add(&self.bytes[purpose as usize], bytes);
	}

	/// Counts a record of so many bytes.
	pub fn record(&self, purpose: Purpose, bytes: u64) {
		add(&self.recorded[purpose as usize], bytes);
	}

	/// Takes note of what waits.
	pub fn queued(&self, bytes: u64) {
		self.queued_bytes.store(bytes, Relaxed);
		self.queued_bytes_peak.fetch_max(bytes, Relaxed);
	}

	/// All of them, as they are now.
	pub fn snapshot(&self) -> Stats {
		Stats {
			batches: self.batches.load(Relaxed),
			syncs: self.syncs.load(Relaxed),
			checkpoints: self.checkpoints.load(Relaxed),
			changes: self.changes.load(Relaxed),
			bytes: by_purpose(&self.bytes),
			recorded: by_purpose(&self.recorded),
			settled_bytes: self.settled_bytes.load(Relaxed),
			log_bytes: self.log_bytes.load(Relaxed),
			checkpoint_bytes_at_most: self.checkpoint_bytes.load(Relaxed),
			queued_bytes: self.queued_bytes.load(Relaxed),
			queued_bytes_peak: self.queued_bytes_peak.load(Relaxed),
		}
	}
}

fn by_purpose(counters: &[AtomicU64; 7]) -> ByPurpose {
	let of = |purpose: Purpose| counters[purpose as usize].load(Relaxed);
	ByPurpose {
		manager: of(Purpose::Manager),
		monitors: of(Purpose::Monitors),
		graph: of(Purpose::Graph),
		scorer: of(Purpose::Scorer),
		wallet: of(Purpose::Wallet),
		book: of(Purpose::Book),
		other: of(Purpose::Other),
	}
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, n: u64) {
	counter.fetch_add(n, Relaxed);
}
