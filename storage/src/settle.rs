//! Moves what the log has into the table, so that the log has room again: a little after each batch, in a transaction
//! that the next batch commits. It costs no sync of its own, and no payment waits for more than [`SLICE`] of it.

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
/// Bytes written in one go.
const SLICE: usize = 64 << 10;
/// Changes to a base that are less than this many bytes do not make it be written anew.
const FEW_CHANGES: usize = 1024;
/// Nor do those that are less than this part of it.
const BASE_SHARE: usize = 4;

/// What is being settled.
#[derive(Default)]
pub(crate) struct Settling {
	/// Records before this number; `None` if nothing is to be settled.
	up_to: Option<u64>,
	keys: VecDeque<Key>,
	copy: Option<Copy>,
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

/// How the table is to have a value.
enum Form {
	Nothing,
	Row(Row),
	/// With a base that is to be written.
	Base(Vec<u8>),
}

impl Settling {
	/// The value is going to be another one: a base of it is of no use.
	pub fn stop_if(&mut self, conn: &Connection, key: &Key) -> Sql<()> {
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
		let mut written = 0;
		while self.settle_is_due() && (written < SLICE || self.log.used() >= MAX_SLOTS) {
			written += self.step(conn)?;
		}
		Ok(written)
	}

	/// Does the next thing; gives about how many bytes it wrote.
	fn step(&mut self, conn: &Connection) -> Result<usize, WriteError> {
		if let Some(copy) = &mut self.settling.copy {
			let from = copy.next_part * PART;
			if from < copy.value.len() {
				let part = &copy.value[from..copy.value.len().min(from + PART)];
				table::put_part(conn, copy.base, copy.next_part as i64, part)?;
				copy.next_part += 1;
				return Ok(part.len());
			}
			let copy = self.settling.copy.take().expect("as above");
			table::put_row(conn, &copy.key, copy.n, &table::whole(copy.base, &copy.value))?;
			self.is_settled(&copy.key, copy.n);
			return Ok(PART);
		}
		let Some(up_to) = self.settling.up_to else {
			let up_to = self.next;
			self.settling.up_to = Some(up_to);
			self.settling.keys = self.recent.keys().cloned().collect();
			return Ok(0);
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
		Ok(64)
	}

	fn settle_key(&mut self, conn: &Connection, key: Key) -> Result<usize, WriteError> {
		let Some(n) = self.recent.get(&key).map(|recent| recent.last) else { return Ok(0) };
		let written = match self.settled_form(conn, &key)? {
			Form::Nothing => {
				table::remove(conn, &key)?;
				128
			}
			Form::Row(row) => {
				table::put_row(conn, &key, n, &row)?;
				row.value.len() + 128
			}
			Form::Base(value) => {
				let base = self.new_base();
				self.settling.copy = Some(Copy { key, base, value, n, next_part: 0 });
				return Ok(0);
			}
		};
		self.is_settled(&key, n);
		Ok(written)
	}

	fn settled_form(&self, conn: &Connection, key: &Key) -> Result<Form, WriteError> {
		let Some(value) = self.latest(conn, key)? else { return Ok(Form::Nothing) };
		let (crc, len) = (crc32fast::hash(&value), value.len());
		if len < table::MIN_PARTS {
			return Ok(Form::Row(Row { crc, base: None, value: value.into_owned() }));
		}
		if let Some(row) = table::row(conn, key)?
			&& let Some(base) = row.base
		{
			let old = table::parts(conn, base)?;
			if row.made_of(&old).is_none() {
				// What is damaged may be read in another way the next time: nothing is to build on it.
				tracing::error!("{}; it is being replaced", damaged(key));
				return Ok(Form::Base(value.into_owned()));
			}
			let changes = delta::diff(&old, &value);
			if let Some(value) = changes.filter(|changes| changes.len() <= FEW_CHANGES.max(len / BASE_SHARE)) {
				return Ok(Form::Row(Row { crc, base: Some(base), value }));
			}
		}
		Ok(Form::Base(value.into_owned()))
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
