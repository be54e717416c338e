//! What is in a recording. The wallet's program, a crate of its own, has this module too.

use anyhow::{Context, Result, bail};
use std::ops::Range;
use std::path::Path;

/// What strace sees on standard error when the part that counts begins and ends.
pub const MARK: &str = "bench-storage: here";

/// Both namespaces, and the key.
pub type Key = [String; 3];

/// What the store was asked, or told.
pub enum Entry {
	Put(Key, Vec<u8>),
	Remove(Key),
	/// Bytes of the book and the wallet.
	#[allow(dead_code, reason = "the wallet's program plays LDK's entries only")]
	Other(usize),
	Committed,
}

/// All up to `part`, and the part.
pub fn load(file: &Path, part: Range<usize>) -> Result<(Vec<Entry>, Vec<Entry>)> {
	let bytes = std::fs::read(file)?;
	let counted = bytes.get(part.clone()).context("the recording is shorter")?;
	Ok((entries(&bytes[..part.start])?, entries(counted)?))
}

/// LDK's own entries, one after another, as a store that syncs each write by itself is to have them. What is not LDK's
/// would be in another database, and is left out.
pub fn play_ldks(
	entries: Vec<Entry>,
	mut write: impl FnMut(&Key, Vec<u8>) -> Result<()>,
	mut remove: impl FnMut(&Key) -> Result<()>,
) -> Result<()> {
	for entry in entries {
		match entry {
			Entry::Put(key, value) => write(&key, value)?,
			Entry::Remove(key) => remove(&key)?,
			Entry::Other(_) | Entry::Committed => {}
		}
	}
	Ok(())
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
		let mut key = Key::default();
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
