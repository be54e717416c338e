//! A recording, played into a store in a process of its own, and what that process wrote, counted with strace.

use anyhow::{Context, Result, bail, ensure};
use inlet_storage::Store;
use lightning::util::persist::{KVStore, KVStoreSync};
use lightning_persister::fs_store::v1::FilesystemStore;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
	/// Ours.
	Inlet,
	/// `lightning-persister`'s.
	Files,
}

impl Kind {
	fn name(self) -> &'static str {
		match self {
			Kind::Inlet => "inlet",
			Kind::Files => "files",
		}
	}

	/// From its name.
	pub fn named(name: &str) -> Result<Kind> {
		[Kind::Inlet, Kind::Files].into_iter().find(|kind| kind.name() == name).context("no such store")
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

/// What strace sees on standard error when the part that counts begins and ends.
const MARK: &str = "bench-storage: here";

enum Entry {
	Put([String; 3], Vec<u8>),
	Remove([String; 3]),
	/// Bytes of the book and the wallet.
	Other(usize),
	Committed,
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
	let (taken, rest) = bytes.split_at_checked(len).context("the recording ends in the middle")?;
	*bytes = rest;
	Ok(taken)
}

fn entries(mut bytes: &[u8]) -> Result<Vec<Entry>> {
	let mut all = Vec::new();
	while !bytes.is_empty() {
		let kind = take(&mut bytes, 1)?[0];
		let mut key: [String; 3] = Default::default();
		for part in &mut key {
			let len = usize::from(take(&mut bytes, 1)?[0]);
			*part = String::from_utf8(take(&mut bytes, len)?.to_vec())?;
		}
		let len = usize::try_from(u64::from_le_bytes(take(&mut bytes, 8)?.try_into()?))?;
		let value = take(&mut bytes, len)?.to_vec();
		all.push(match kind {
			b'P' => Entry::Put(key, value),
			b'R' => Entry::Remove(key),
			b'O' => Entry::Other(usize::try_from(u64::from_le_bytes(value.as_slice().try_into()?))?),
			b'C' => Entry::Committed,
			_ => bail!("no recording"),
		});
	}
	Ok(all)
}

/// Plays all up to the end of `part`, and marks `part`. To be run in a process of its own.
pub async fn play(kind: Kind, dir: &Path, file: &Path, part: Range<usize>) -> Result<()> {
	let bytes = std::fs::read(file)?;
	let (before, counted) = (entries(&bytes[..part.start])?, entries(&bytes[part])?);
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
			play_files(&store, before)?;
			eprintln!("{MARK}");
			play_files(&store, counted)?;
			eprintln!("{MARK}");
		}
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

/// Its writes are synced one by one, so there is nothing to be gained by writing at the same time.
fn play_files(store: &FilesystemStore, entries: Vec<Entry>) -> Result<()> {
	for entry in entries {
		match entry {
			Entry::Put([primary, secondary, key], value) => {
				KVStoreSync::write(store, &primary, &secondary, &key, value)?;
			}
			Entry::Remove([primary, secondary, key]) => {
				KVStoreSync::remove(store, &primary, &secondary, &key, true)?;
			}
			// Not LDK's: it would be in another database, and is left out.
			Entry::Other(_) | Entry::Committed => {}
		}
	}
	Ok(())
}

/// Has a process of its own [`play`] the recording, and counts.
pub fn measure(kind: Kind, file: &Path, part: &Range<u64>) -> Result<Written> {
	let dir = tempfile::tempdir_in(file.parent().context("a directory")?)?;
	let trace = dir.path().join("trace");
	let out = Command::new("strace")
		.args(["-f", "-y", "-s", "32", "-e", "trace=write,pwrite64,writev,pwritev,fsync,fdatasync", "-o"])
		.arg(&trace)
		.arg(std::env::current_exe()?)
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

/// What was written below `dir` between the marks.
fn count(trace: &str, dir: &str) -> Written {
	let mut written = Written::default();
	let mut marks = 0;
	for line in trace.lines() {
		if line.contains(MARK) {
			marks += 1;
		}
		if marks != 1 {
			continue;
		}
		// A call of one thread may be cut in two by one of another: its result is in the second half.
		let synced = line.contains("fsync(") || line.contains("fdatasync(");
		written.syncs += u64::from(synced);
		let wrote = line.contains("write") && (line.contains(dir) || line.contains("resumed"));
		if wrote && let Some(bytes) = line.rsplit("= ").next().and_then(|n| n.parse::<u64>().ok()) {
			written.bytes += bytes;
		}
	}
	written
}
