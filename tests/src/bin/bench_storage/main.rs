//! `cargo bench-storage`: bytes and syncs of a forwarded payment.
//!
//! A real LSP forwards payments, and what it asks its store to write is recorded. The recording is then played into our
//! store, into `lightning-persister`'s `FilesystemStore` and into ldk-node 0.7.1's `SqliteStore`, each in a process of its own
//! under strace.
//!
//! `cargo bench-storage pauses DIR COMMITS`: how long a payment waits for the disk, checkpoints and the graph included.

mod entries;
mod pauses;
mod record;
mod replay;

use anyhow::{Context, Result};
use record::{Recording, record};
use replay::{Kind, measure, play};
use std::path::Path;

fn main() -> Result<()> {
	let args: Vec<String> = std::env::args().skip(1).collect();
	let args: Vec<&str> = args.iter().map(String::as_str).collect();
	let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
	match args.as_slice() {
		["play", store, dir, file, from, to] => {
			let part = from.parse()?..to.parse()?;
			runtime.block_on(play(Kind::named(store)?, Path::new(dir), Path::new(file), part))
		}
		["table", recordings @ ..] => {
			heading();
			recordings.iter().try_for_each(|recording| rows(&Recording::load(Path::new(recording))?))
		}
		[] => {
			heading();
			let dir = tempfile::tempdir()?;
			for channels in [10, 100, 1000] {
				rows(&runtime.block_on(record(dir.path(), channels, 20))?)?;
			}
			Ok(())
		}
		["pauses", dir, commits] => runtime.block_on(pauses::pauses(Path::new(dir), commits.parse()?)),
		["record", dir, channels, payments] => {
			let recording = record(Path::new(dir), channels.parse()?, payments.parse()?);
			runtime.block_on(recording)?.save()
		}
		_ => {
			eprintln!(
				"usage: cargo bench-storage [record DIR CHANNELS PAYMENTS | table RECORDING... | pauses DIR COMMITS]"
			);
			std::process::exit(2);
		}
	}
}

fn heading() {
	println!("| channels | what | LDK asked for | store | bytes | syncs |");
	println!("|---|---|---|---|---|---|");
}

fn rows(recording: &Recording) -> Result<()> {
	let (alone, together) = (&recording.alone, &recording.together);
	let parts = [
		("a payment, one at a time", &alone.1, alone.0),
		("a payment, 50 at once", &together.1, together.0),
		("a JIT sale", &recording.sales.1, recording.sales.0),
		("a restart", &recording.restart, 1),
	];
	for (what, part, count) in parts {
		let asked = part.end.checked_sub(part.start).context("a part")? / count as u64;
		for kind in Kind::ALL {
			let written = measure(kind, &recording.file, part)?;
			let (bytes, syncs) = (written.bytes / count as u64, written.syncs as f64 / count as f64);
			println!("| {} | {what} | {asked} | {kind:?} | {bytes} | {syncs:.1} |", recording.channels);
		}
	}
	Ok(())
}
