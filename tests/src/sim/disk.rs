//! Where rows are kept: the real store, and how it dies; or, for fuzzing, a list.

use inlet_lsp::book::Write;
use inlet_storage::{Store, abort};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// What outlives the process.
pub(crate) enum Disk {
	Store(Box<Durable>),
	/// Rows as JSON, for runs that are too short for a file.
	Rows(Vec<String>),
}

impl Disk {
	/// Returns when these rows are durable.
	pub(crate) fn commit(&mut self, writes: Vec<Write>) {
		let json = |write| serde_json::to_string(write).expect("a row has a JSON form");
		match self {
			Disk::Store(store) => store.commit(writes),
			Disk::Rows(rows) => rows.extend(writes.iter().map(json)),
		}
	}

	/// The power fails while these rows are written: of what is added to the log, `share` thousandths get to the disk, in
	/// whole or (`garbled`) with a last page that was not written to its end. What is loaded next is what is left.
	pub(crate) fn tear(&mut self, writes: Vec<Write>, share: u64, garbled: bool) {
		match self {
			Disk::Store(store) => store.tear(writes, share, garbled),
			Disk::Rows(_) if share < 500 => {}
			Disk::Rows(_) => self.commit(writes),
		}
	}

	/// What a start finds.
	pub(crate) fn load(&self) -> Vec<Write> {
		let read = |row: &String| serde_json::from_str(row).expect("a row can be read");
		match self {
			Disk::Store(store) => store.load(),
			Disk::Rows(rows) => rows.iter().map(read).collect(),
		}
	}

	/// The ledger's sum, as the store keeps it.
	pub(crate) fn ledger_total(&self) -> Option<i64> {
		match self {
			Disk::Store(store) => Some(store.ledger_total()),
			Disk::Rows(_) => None,
		}
	}

	/// The process is gone. With `killed`, the files are taken as they lie there, log and all; else the file was closed.
	pub(crate) fn crash(&mut self, killed: bool) {
		if let Disk::Store(store) = self {
			store.crash(killed);
		}
	}
}

/// An `inlet_storage::Store` in a folder of its own, in memory if the machine has a place for that: the same code and the
/// same system calls, only that a sync costs nothing.
pub(crate) struct Durable {
	runtime: Runtime,
	dir: TempDir,
	store: Option<Store>,
	generation: u32,
}

impl Durable {
	pub(crate) fn new() -> Durable {
		let place = Some(PathBuf::from("/dev/shm")).filter(|shm| shm.is_dir()).unwrap_or_else(std::env::temp_dir);
		let dir = tempfile::Builder::new().prefix("inlet-sim-").tempdir_in(place).expect("a folder for the store");
		let runtime = Builder::new_current_thread().build().expect("a runtime without I/O");
		let mut disk = Durable { runtime, dir, store: None, generation: 0 };
		disk.open();
		disk
	}

	fn file(&self) -> PathBuf {
		self.dir.path().join(format!("store{}", self.generation))
	}

	fn open(&mut self) {
		self.store = Some(Store::open(&self.file(), abort).expect("a store that was ours opens"));
	}

	fn store(&self) -> &Store {
		self.store.as_ref().expect("open between crashes")
	}

	fn commit(&self, writes: Vec<Write>) {
		self.runtime.block_on(self.store().commit(writes));
	}

	fn load(&self) -> Vec<Write> {
		self.runtime.block_on(self.store().load_rows()).expect("rows that can be read")
	}

	fn ledger_total(&self) -> i64 {
		let totals = self.runtime.block_on(self.store().ledger_totals()).expect("totals that can be read");
		totals.iter().map(|total| total.amount_msat).sum()
	}

	/// A sync orders the log before the pages of the main file, so a cut leaves the main file as it was before the commit, and
	/// the log with a part of what the commit added.
	fn tear(&mut self, writes: Vec<Write>, share: u64, garbled: bool) {
		let (old, log) = (self.file(), |base: &Path| PathBuf::from(format!("{}-wal", base.display())));
		let main = std::fs::read(&old).expect("the store's file");
		let before = std::fs::read(log(&old)).unwrap_or_default();
		self.commit(writes);
		let after = std::fs::read(log(&old)).unwrap_or_default();
		self.generation += 1;
		let new = self.file();
		if after.len() > before.len() && after.starts_with(&before) {
			let added = after.len() - before.len();
			let kept = before.len() + usize::try_from(added as u64 * share / 1_000).expect("less than all");
			let mut torn = after[..kept].to_vec();
			let last = kept - before.len().max(kept.saturating_sub(512));
			if garbled {
				torn[kept - last..].fill(0xa5);
			}
			std::fs::write(&new, main).expect("room for a copy");
			std::fs::write(log(&new), torn).expect("room for a copy");
		} else {
			// The log began anew: what is there now was synced.
			std::fs::copy(&old, &new).expect("room for a copy");
			std::fs::write(log(&new), after).expect("room for a copy");
		}
		self.store = None;
		std::fs::remove_file(old).expect("the old file is there");
		self.open();
	}

	fn crash(&mut self, killed: bool) {
		if killed {
			let old = self.file();
			self.generation += 1;
			for suffix in ["", "-wal"] {
				let of = |base: &PathBuf| PathBuf::from(format!("{}{suffix}", base.display()));
				if of(&old).exists() {
					std::fs::copy(of(&old), of(&self.file())).expect("room for a copy");
				}
			}
			self.store = None;
			std::fs::remove_file(old).expect("the old file is there");
		} else {
			self.store = None;
		}
		self.open();
	}
}
