//! A recording, played into a store in a process of its own, and what that process wrote, counted with strace.

use super::entries::{self, Entry, Key, MARK, play_ldks};
use anyhow::{Context, Result, bail, ensure};
use inlet_storage::Store;
use inlet_tests::wallet_exe;
use lightning::util::persist::{KVStore, KVStoreSync};
use lightning_persister::fs_store::v1::FilesystemStore;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

/// Our store's file, as strace shows it; its log has a longer name.
const CHECKPOINTED: &str = "inlet.db>";

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
	/// Ours.
	Inlet,
	/// `lightning-persister`'s.
	Files,
	/// ldk-node 0.7.1's. Played by the wallet's program, which is built with it.
	LdkNode,
}

impl Kind {
	/// All of them.
	pub const ALL: [Kind; 3] = [Kind::Inlet, Kind::Files, Kind::LdkNode];

	fn name(self) -> &'static str {
		match self {
			Kind::Inlet => "inlet",
			Kind::Files => "files",
			Kind::LdkNode => "ldk-node",
		}
	}

	/// From its name.
	pub fn named(name: &str) -> Result<Kind> {
		Kind::ALL.into_iter().find(|kind| kind.name() == name).context("no such store")
	}
}

/// What a process asked the system to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Written {
	/// Bytes.
	pub bytes: u64,
	/// Calls of `fsync` and `fdatasync`.
	pub syncs: u64,
}

/// Plays all up to the end of `part`, and marks `part`. To be run in a process of its own.
pub async fn play(kind: Kind, dir: &Path, file: &Path, part: Range<usize>) -> Result<()> {
	let (before, counted) = entries::load(file, part)?;
	match kind {
		Kind::Inlet => {
			let store = Store::open(&dir.join("inlet.db"), inlet_storage::abort)?;
			play_inlet(&store, before).await?;
			rest(&store).await?;
			eprintln!("{MARK}");
			play_inlet(&store, counted).await?;
			rest(&store).await?;
			eprintln!("{MARK}");
			println!("{:?}", store.stats());
		}
		Kind::Files => {
			let store = FilesystemStore::new(dir.join("files"));
			let write = |key: &Key, value| {
				KVStoreSync::write(&store, &key[0], &key[1], &key[2], value).map_err(anyhow::Error::from)
			};
			let remove =
				|key: &Key| KVStoreSync::remove(&store, &key[0], &key[1], &key[2], true).map_err(anyhow::Error::from);
			play_ldks(before, write, remove)?;
			eprintln!("{MARK}");
			play_ldks(counted, write, remove)?;
			eprintln!("{MARK}");
		}
		Kind::LdkNode => bail!("this one is played by the wallet's program"),
	}
	Ok(())
}

/// All of it is on the disk, the graph and the scorer too: a list shows them.
async fn rest(store: &Store) -> Result<()> {
	KVStore::list(store, "", "").await?;
	store.drain().await;
	Ok(())
}

async fn play_inlet(store: &Store, entries: Vec<Entry>) -> Result<()> {
	let mut waiting = Vec::new();
	for entry in entries {
		match entry {
			Entry::Put([primary, secondary, key], value) => {
				waiting.push(tokio::spawn(store.write(&primary, &secondary, &key, value)));
			}
			// LDK's are lazy, but for a few.
			Entry::Remove([primary, secondary, key]) => store.remove(&primary, &secondary, &key, true).await?,
			// A row of the node's own, of the same size.
			Entry::Other(len) => waiting.push(tokio::spawn(store.write("inlet", "bench", "row", vec![7; len]))),
			Entry::Committed => {
				for wait in waiting.drain(..) {
					wait.await??;
				}
			}
		}
	}
	Ok(())
}

/// Has a process of its own [`play`] the recording, and counts.
pub fn measure(kind: Kind, file: &Path, part: &Range<u64>) -> Result<Written> {
	let dir = tempfile::tempdir_in(file.parent().context("a directory")?)?;
	let trace = dir.path().join("trace");
	let player = if kind == Kind::LdkNode { wallet_exe()? } else { std::env::current_exe()? };
	let out = Command::new("strace")
		.args(["-f", "-y", "-s", "32", "-e", "trace=write,pwrite64,writev,pwritev,fsync,fdatasync", "-o"])
		.arg(&trace)
		.arg(player)
		.args(["play", kind.name()])
		.arg(dir.path())
		.arg(file)
		.args([part.start.to_string(), part.end.to_string()])
		.stdin(Stdio::null())
		.output()
		.context("strace is needed")?;
	ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
	let dir = dir.path().canonicalize()?;
	Ok(count(&std::fs::read_to_string(&trace)?, dir.to_str().context("a path")?))
}

/// What was written below `dir` between the marks. A checkpoint of our store copies what megabytes of log have said into the
/// file, and falls into a part or does not: of all of them, each byte of the log bears the same share.
fn count(trace: &str, dir: &str) -> Written {
	let mut written = Written::default();
	let (mut marks, mut log, mut file) = (0, 0, 0);
	for line in trace.lines() {
		if line.contains(MARK) {
			marks += 1;
		}
		// A call of one thread may be cut in two by one of another: its result is in the second half.
		let wrote = line.contains("write") && (line.contains(dir) || line.contains("resumed"));
		let bytes = line.rsplit("= ").next().filter(|_| wrote).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
		let copied = line.contains(CHECKPOINTED);
		*(if copied { &mut file } else { &mut log }) += bytes;
		if marks == 1 {
			written.syncs += u64::from(line.contains("fsync(") || line.contains("fdatasync("));
			written.bytes += if copied { 0 } else { bytes };
		}
	}
	written.bytes += written.bytes * file / log.max(1);
	written
}
