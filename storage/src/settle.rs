//! Moves what the log has into the table, so that the log has room again: a little after each batch, in a transaction
//! that the next batch commits. It costs no sync of its own, and no payment waits for more than [`SLICE`] of it, or for one
//! change of a large value, which is written in one go.

use crate::db::{Connection, Result as Sql};
use crate::delta;
use crate::error::WriteError;
use crate::kv::Key;
use crate::table::{self, PART, Row};
use crate::values::{Start, Values, damaged};
use std::collections::VecDeque;

/// Slots in use from which on the log is settled.
pub(crate) const SETTLE_SLOTS: usize = if cfg!(test) { 24 } else { 512 };
/// Slots in use from which on it is settled at once, whoever waits: the log's bound, but for one batch.
pub(crate) const MAX_SLOTS: usize = 4 * SETTLE_SLOTS;
/// Bytes written, or read, in one go.
const SLICE: usize = 64 << 10;
/// The same in parts.
const PARTS_READ: i64 = (SLICE / PART) as i64;
/// Changes to a base of so many bytes are in the row; larger ones are its chain.
const IN_ROW: usize = 2048;
/// Deltas of a chain behind its first one that may be as large together as that one, or as this.
const CHAIN_BYTES: usize = 16 << 10;
/// Deltas of a chain.
const CHAIN_LINKS: usize = 32;
/// A base is written anew when the changes are more than this part of it.
const BASE_SHARE: usize = 2;

/// What is being settled.
#[derive(Default)]
pub(crate) struct Settling {
	/// Records before this number; `None` if nothing is to be settled.
	up_to: Option<u64>,
	keys: VecDeque<Key>,
	read: Option<Read>,
	copy: Option<Copy>,
}

/// A base that is being read, to see that it is still what was written, before more is built on it.
struct Read {
	key: Key,
	base: i64,
	bytes: Vec<u8>,
	next_part: i64,
}

/// A base that is being written, part by part.
struct Copy {
	key: Key,
	base: i64,
	value: Vec<u8>,
	/// The last record that is in it.
	n: u64,
	next_part: usize,
}

/// Bytes that a step has moved.
enum Moved {
	Read(usize),
	Wrote(usize),
}

impl Settling {
	/// The value is going to be another one: a base of it is of no use.
	pub fn stop_if(&mut self, conn: &Connection, key: &Key) -> Sql<()> {
		self.read.take_if(|read| read.key == *key);
		match self.copy.take_if(|copy| copy.key == *key) {
			Some(copy) => table::drop_parts(conn, copy.base),
			None => Ok(()),
		}
	}
}

impl Values {
	/// Is there anything to settle?
	pub fn settle_is_due(&self) -> bool {
		self.settling.up_to.is_some() || self.log.used() >= SETTLE_SLOTS
	}

	/// Settles a slice, or, if the log is at its bound, all. To be called in a transaction. Gives the bytes written.
	pub fn settle(&mut self, conn: &Connection) -> Result<usize, WriteError> {
		let (mut read, mut written) = (0, 0);
		while self.settle_is_due() && (read + written < SLICE || self.log.used() >= MAX_SLOTS) {
			match self.step(conn)? {
				Moved::Read(bytes) => read += bytes,
				Moved::Wrote(bytes) => written += bytes,
			}
		}
		Ok(written)
	}

	/// Does the next thing; gives about how many bytes that moved.
	fn step(&mut self, conn: &Connection) -> Result<Moved, WriteError> {
		if let Some(copy) = &mut self.settling.copy {
			let from = copy.next_part * PART;
			if from < copy.value.len() {
				let part = &copy.value[from..copy.value.len().min(from + PART)];
				table::put_part(conn, copy.base, copy.next_part as i64, part)?;
				copy.next_part += 1;
				return Ok(Moved::Wrote(part.len()));
			}
			let copy = self.settling.copy.take().expect("as above");
			table::put_row(conn, &copy.key, copy.n, &table::whole(copy.base, &copy.value))?;
			self.is_settled(&copy.key, copy.n);
			return Ok(Moved::Wrote(PART));
		}
		if let Some(mut read) = self.settling.read.take() {
			let parts = table::some_parts(conn, read.base, read.next_part, PARTS_READ)?.concat();
			if parts.is_empty() {
				return self.settle_delta(conn, read);
			}
			read.bytes.extend_from_slice(&parts);
			read.next_part += PARTS_READ;
			self.settling.read = Some(read);
			return Ok(Moved::Read(parts.len()));
		}
		let Some(up_to) = self.settling.up_to else {
			let up_to = self.next;
			self.settling.up_to = Some(up_to);
			self.settling.keys = self.recent.keys().cloned().collect();
			return Ok(Moved::Wrote(0));
		};
		if let Some(key) = self.settling.keys.pop_front() {
			return self.settle_key(conn, key);
		}
		// What is still open of the batch in the making is behind `up_to`, or was in it when it began, and is in the rows.
		self.floor = up_to;
		self.settling.up_to = None;
		self.log.forget(up_to);
		let floor = up_to.cast_signed();
		conn.prepare_cached(
			"INSERT INTO meta (name, value) VALUES ('floor', ?1) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
		)?
		.execute([floor])?;
		Ok(Moved::Wrote(64))
	}

	fn settle_key(&mut self, conn: &Connection, key: Key) -> Result<Moved, WriteError> {
		let Some(recent) = self.recent.get(&key) else { return Ok(Moved::Wrote(0)) };
		if matches!(recent.start, Start::Table)
			&& let Some(base) = table::row(conn, &key)?.and_then(|row| row.base)
		{
			self.settling.read = Some(Read { key, base, bytes: Vec::new(), next_part: 0 });
			return Ok(Moved::Wrote(0));
		}
		self.settle_value(conn, key)
	}

	/// Puts what has changed beside the base: in the row, in the chain, or, if it is too much, all in a new base. Costs what
	/// the changes are, however large the value, and whatever has changed since the base was written.
	fn settle_delta(&mut self, conn: &Connection, read: Read) -> Result<Moved, WriteError> {
		let Read { key, base, bytes, .. } = read;
		let Some(recent) = self.recent.get(&key) else { return Ok(Moved::Wrote(0)) };
		let row = table::row(conn, &key)?.filter(|row| row.base == Some(base));
		let chain = table::chain(conn, base)?;
		let is_sound = row.as_ref().is_some_and(|row| row.made_of(&bytes, &chain).is_some());
		let (Some(row), true, Some(script)) = (row, is_sound, recent.script()) else {
			// What is damaged may be read in another way the next time: nothing is to build on it.
			tracing::error!("{}; it is being replaced", damaged(&key));
			return self.settle_value(conn, key);
		};
		let (n, crc) = (recent.last, recent.deltas.last().map_or(row.crc, |delta| delta.crc));
		let most = bytes.len() / BASE_SHARE;
		let appends = has_room(&chain, script.len(), most);
		let change = if appends {
			script
		} else {
			let all: Vec<&[u8]> = chain.iter().chain([&row.value, &script]).map(Vec::as_slice).collect();
			delta::compose(&all).ok_or_else(|| damaged(&key))?
		};
		let (len, written) = (delta::len(&change).ok_or_else(|| damaged(&key))?, change.len());
		if !appends {
			if len < table::MIN_PARTS || written > most.max(IN_ROW) {
				return self.settle_value(conn, key);
			}
			table::drop_chain(conn, base)?;
		}
		let value = if !appends && written <= IN_ROW {
			change
		} else {
			table::put_link(conn, base, if appends { chain.len() } else { 0 }, &change)?;
			delta::copy_of(len)
		};
		table::put_row(conn, &key, n, &Row { crc, base: Some(base), value })?;
		self.is_settled(&key, n);
		Ok(Moved::Wrote(written + 128))
	}

	/// Puts a value there by itself: in its row, or as a base that is to be written.
	fn settle_value(&mut self, conn: &Connection, key: Key) -> Result<Moved, WriteError> {
		let Some(n) = self.recent.get(&key).map(|recent| recent.last) else { return Ok(Moved::Wrote(0)) };
		let Some(value) = self.latest(conn, &key)? else {
			table::remove(conn, &key)?;
			self.is_settled(&key, n);
			return Ok(Moved::Wrote(128));
		};
		let value = value.into_owned();
		if value.len() >= table::MIN_PARTS {
			let base = self.new_base();
			self.settling.copy = Some(Copy { key, base, value, n, next_part: 0 });
			return Ok(Moved::Wrote(0));
		}
		let written = value.len() + 128;
		table::put_row(conn, &key, n, &Row { crc: crc32fast::hash(&value), base: None, value })?;
		self.is_settled(&key, n);
		Ok(Moved::Wrote(written))
	}

	/// The table has this key as it was after record `n`.
	fn is_settled(&mut self, key: &Key, n: u64) {
		let Some(recent) = self.recent.get_mut(key) else { return };
		if recent.last <= n {
			self.recent.remove(key);
			return;
		}
		// Only deltas can have come since: anything else stops the copy.
		recent.start = Start::Table;
		recent.deltas.retain(|delta| delta.n > n);
		recent.first = recent.deltas.first().map_or(n, |delta| delta.n);
	}
}

/// May a delta of so many bytes go behind these, or are all to be made one?
fn has_room(chain: &[Vec<u8>], more: usize, most: usize) -> bool {
	let Some((first, rest)) = chain.split_first() else { return false };
	let behind = rest.iter().map(Vec::len).sum::<usize>() + more;
	chain.len() < CHAIN_LINKS && behind <= first.len().max(CHAIN_BYTES) && first.len() + behind <= most.max(CHAIN_BYTES)
}
