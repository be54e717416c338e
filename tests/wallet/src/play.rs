//! A recording of what an LSP wrote, played into ldk-node's default store: the wallet's part of `cargo bench-storage`.

#[path = "../../src/bin/bench_storage/entries.rs"]
mod entries;

use anyhow::{Context, Result};
use entries::{Key, MARK, play_ldks};
use ldk_node::io::sqlite_store::{KV_TABLE_NAME, SQLITE_DB_FILE_NAME, SqliteStore};
use ldk_node::lightning::util::persist::KVStoreSync;
use std::path::Path;

/// `ldk-node DIR FILE FROM TO`: plays all up to the end of the part, and marks the part on standard error.
pub fn play(args: &[String]) -> Result<()> {
	let [_, dir, file, from, to] = args else { anyhow::bail!("play wants ldk-node DIR FILE FROM TO") };
	let (before, counted) = entries::load(Path::new(file), from.parse()?..to.parse()?)?;
	// As ldk-node's `Builder::build` opens it.
	let names = (SQLITE_DB_FILE_NAME.to_owned(), KV_TABLE_NAME.to_owned());
	let store = SqliteStore::new(dir.into(), Some(names.0), Some(names.1)).context("the store does not open")?;
	let write = |key: &Key, value| Ok(KVStoreSync::write(&store, &key[0], &key[1], &key[2], value)?);
	let remove = |key: &Key| Ok(KVStoreSync::remove(&store, &key[0], &key[1], &key[2], true)?);
	play_ldks(before, write, remove)?;
	eprintln!("{MARK}");
	play_ldks(counted, write, remove)?;
	eprintln!("{MARK}");
	Ok(())
}
