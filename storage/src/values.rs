//! LDK's values: their table, the log before it, and what is in memory of both.
//!
//! A write becomes a record of the open batch: a value, a removal, or a delta against the value before. The batch goes
//! into the [log](crate::log) when it is committed. The latest state of every key that the log speaks of is in `recent`;
//! all others are as their table has them. [`settle`](crate::settle) moves what is in the log into the table.
//!
//! Records are numbered for ever, and a row of the table knows the number of the last record that is in it. So a record
//! that is read again after its key was settled is known, and left out.

use crate::db::{Connection, OptionalExtension, Result as Sql};
use crate::delta;
use crate::error::{ReadError, WriteError};
use crate::kv::Key;
use crate::log::Log;
use crate::settle::{SETTLE_SLOTS, Settling};
use crate::stream::Stream;
use crate::table::{self, Row};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// Bytes from which on a value is compared with the one before it.
pub(crate) const MIN_DELTA: usize = 256;
/// Bytes from which on a value that is no delta goes past the log, straight into the table.
const MIN_DIRECT: usize = table::MIN_PARTS;
/// Bytes of values that are kept in memory to be compared with the next one, but for the manager, which always is.
pub(crate) const MAX_KEPT: usize = if cfg!(test) { 1 << 20 } else { 8 << 20 };

/// Where the deltas of a key begin.
pub(crate) enum Start {
	/// With the row of the table.
	Table,
	/// With this value.
	Value(Vec<u8>),
	/// There is no value.
	Nothing,
}

/// A change to the value before.
pub(crate) struct Delta {
	/// The record's number.
	pub n: u64,
	/// CRC-32 of the value that it makes.
	pub crc: u32,
	pub script: Vec<u8>,
}

/// The state of a key that the log speaks of.
pub(crate) struct Recent {
	/// The number of the first record that matters.
	pub first: u64,
	/// The number of the last one.
	pub last: u64,
	pub start: Start,
	pub deltas: Vec<Delta>,
}

impl Recent {
	/// What has changed since its start; `None` if nothing has, or it is damaged.
	pub fn script(&self) -> Option<Vec<u8>> {
		let deltas: Vec<&[u8]> = self.deltas.iter().map(|delta| delta.script.as_slice()).collect();
		delta::compose(&deltas)
	}
}

/// What a record says.
enum Said {
	Value(Vec<u8>),
	Removed,
	Delta {
		crc: u32,
		script: Vec<u8>,
	},
	/// The value went straight into the table.
	Direct,
}

/// All values.
pub(crate) struct Values {
	/// The number of the next record.
	pub next: u64,
	/// Records before this one are settled.
	pub floor: u64,
	pub log: Log,
	pub recent: BTreeMap<Key, Recent>,
	pub settling: Settling,
	/// What is said of the changes, if somebody keeps a copy.
	pub stream: Option<Stream>,
	/// The next base's number.
	pub next_base: i64,
	kept: Kept,
	/// Records of the open batch, and the number of the first one.
	batch: Vec<u8>,
	batch_first: u64,
	batch_key: String,
}

impl Values {
	/// Reads the log, and makes it ready to be written. An error: it is damaged, or cannot be read. What this writes is to be
	/// committed by the caller.
	pub fn load(conn: &Connection) -> Result<Values, ReadError> {
		let mut values = Values::read(conn)?;
		values.log.prepare(conn, SETTLE_SLOTS)?;
		values.next_base = table::drop_orphans(conn)?;
		Ok(values)
	}

	/// [`load`](Values::load), for who only reads.
	pub fn read(conn: &Connection) -> Result<Values, ReadError> {
		let floor = conn.query_row("SELECT value FROM meta WHERE name = 'floor'", [], |row| row.get(0)).optional()?;
		let floor = u64::try_from(floor.unwrap_or(1i64)).map_err(|_| ReadError::Damaged("a negative number".into()))?;
		let (log, found) = Log::load(conn, floor)?;
		let next = log.next().unwrap_or(floor);
		let mut values = Values {
			next,
			floor,
			log,
			recent: BTreeMap::new(),
			settling: Settling::default(),
			stream: None,
			next_base: 1,
			kept: Kept::default(),
			batch: Vec::new(),
			batch_first: next,
			batch_key: String::new(),
		};
		for (first, bytes) in found {
			values.read_batch(conn, first, &bytes)?;
		}
		Ok(values)
	}

	/// Takes a value in; gives the bytes that this adds to the log or the table. If it is as it was, none. One that is
	/// written once is neither compared with one before it nor kept for one behind it.
	pub fn put(&mut self, conn: &Connection, key: Key, value: Vec<u8>) -> Result<usize, WriteError> {
		let compared = value.len() >= MIN_DELTA && !key.is_written_once();
		let old = if compared { self.before(conn, &key)? } else { None };
		if old.as_ref() == Some(&value) {
			self.keep(key, value);
			return Ok(0);
		}
		match old.and_then(|old| delta::diff(&old, &value)) {
			Some(script) => {
				let crc = crc32fast::hash(&value);
				self.keep(key.clone(), value);
				Ok(self.say(key, Said::Delta { crc, script }))
			}
			None if value.len() >= MIN_DIRECT => {
				self.settling.stop_if(conn, &key)?;
				let written = self.say(key.clone(), Said::Direct) + value.len();
				self.recent.remove(&key);
				let base = self.new_base();
				table::put_parts(conn, &key, self.next - 1, base, &value)?;
				if let Some(stream) = &mut self.stream {
					stream.value(&key, &value);
				}
				if compared {
					self.keep(key, value);
				}
				Ok(written)
			}
			None => {
				self.settling.stop_if(conn, &key)?;
				if compared {
					self.keep(key.clone(), value.clone());
				} else {
					self.kept.remove(&key);
				}
				Ok(self.say(key, Said::Value(value)))
			}
		}
	}

	/// Makes sure that there is no value; gives the bytes that this adds to the log.
	pub fn remove(&mut self, conn: &Connection, key: Key) -> Result<usize, WriteError> {
		self.settling.stop_if(conn, &key)?;
		self.kept.remove(&key);
		Ok(self.say(key, Said::Removed))
	}

	/// The value, `None` if there is none.
	pub fn get(&self, conn: &Connection, key: &Key) -> Result<Option<Vec<u8>>, ReadError> {
		let Some(recent) = self.recent.get(key) else {
			return table::row(conn, key)?.map(|row| row.value(conn, key)).transpose();
		};
		let value = match &recent.start {
			Start::Nothing => return Ok(None),
			Start::Value(value) => value.clone(),
			Start::Table => {
				let row = table::row(conn, key)?.ok_or_else(|| damaged(key))?;
				row.value(conn, key)?
			}
		};
		let Some(last) = recent.deltas.last() else { return Ok(Some(value)) };
		let made = recent.script().and_then(|script| delta::apply(&value, &script));
		made.filter(|value| crc32fast::hash(value) == last.crc).map(Some).ok_or_else(|| damaged(key))
	}

	/// [`get`](Values::get), without work if the value is in memory: what is kept of a key is what its last record made.
	pub fn latest(&self, conn: &Connection, key: &Key) -> Result<Option<Cow<'_, [u8]>>, ReadError> {
		let Some(kept) = self.kept.get(key) else { return Ok(self.get(conn, key)?.map(Cow::Owned)) };
		if cfg!(test) {
			// A test may have damaged what is on the disk: that is what memory is good for.
			assert!(self.get(conn, key).map_or(true, |found| found.as_deref() == Some(kept)), "{key:?}");
		}
		Ok(Some(Cow::Borrowed(kept)))
	}

	/// The keys of a namespace, in their order.
	pub fn list(&self, conn: &Connection, primary: &str, secondary: &str) -> Result<Vec<String>, ReadError> {
		let mut keys = table::keys(conn, primary, secondary)?;
		let from = Key::lowest(primary, secondary);
		for (key, recent) in self.recent.range(from..).take_while(|(key, _)| key.is_in(primary, secondary)) {
			let name = key.parts()[2];
			if matches!(recent.start, Start::Nothing) {
				keys.remove(name);
			} else {
				keys.insert(name.to_owned());
			}
		}
		Ok(keys.into_iter().collect())
	}

	/// All keys that there are.
	pub fn all_keys(&self, conn: &Connection) -> Result<Vec<Key>, ReadError> {
		let mut keys = table::all_keys(conn)?;
		for (key, recent) in &self.recent {
			if matches!(recent.start, Start::Nothing) {
				keys.remove(key);
			} else {
				keys.insert(key.clone());
			}
		}
		Ok(keys.into_iter().collect())
	}

	/// Writes the open batch into the log, in the transaction that is about to be committed.
	pub fn flush(&mut self, conn: &Connection) -> Sql<()> {
		if self.next > self.batch_first {
			self.log.append(conn, self.batch_first, self.next, &self.batch)?;
			(self.batch_first, self.batch_key) = (self.next, String::new());
			self.batch.clear();
		}
		Ok(())
	}

	/// The number of the last change that was said; 0 if nobody listens.
	pub fn stream_last(&self) -> u64 {
		self.stream.as_ref().map_or(0, |stream| stream.last)
	}

	/// The next base's number.
	pub fn new_base(&mut self) -> i64 {
		self.next_base += 1;
		self.next_base - 1
	}

	/// The value that a new one is compared with. A damaged one is as good as none: it is about to be replaced.
	fn before(&mut self, conn: &Connection, key: &Key) -> Result<Option<Vec<u8>>, ReadError> {
		if let Some(kept) = self.kept.remove(key) {
			return Ok(Some(kept));
		}
		match self.get(conn, key) {
			Err(ReadError::Damaged(what)) => {
				tracing::error!("{what}; it is being replaced");
				Ok(None)
			}
			found => found,
		}
	}

	/// Is the value of this key in memory?
	#[cfg(test)]
	pub fn keeps(&self, key: &Key) -> bool {
		self.kept.get(key).is_some()
	}

	fn keep(&mut self, key: Key, value: Vec<u8>) {
		if !key.is_written_rarely() {
			self.kept.insert(key, value);
		}
	}

	/// Adds a record to the batch, and to what is recent; gives its bytes.
	fn say(&mut self, key: Key, said: Said) -> usize {
		let before = self.batch.len();
		write_record(&mut self.batch, &mut self.batch_key, &key, &said);
		match (&mut self.stream, &said) {
			(Some(stream), Said::Value(value)) => stream.value(&key, value),
			(Some(stream), Said::Removed) => stream.removed(&key),
			(Some(stream), Said::Delta { crc, script }) => stream.delta(&key, *crc, script),
			(Some(_), Said::Direct) | (None, _) => {}
		}
		let n = self.next;
		self.next += 1;
		self.note(n, key, said);
		self.batch.len() - before
	}

	fn note(&mut self, n: u64, key: Key, said: Said) {
		let start = match said {
			Said::Delta { crc, script } => {
				let of_table = || Recent { first: n, last: n, start: Start::Table, deltas: Vec::new() };
				let recent = self.recent.entry(key).or_insert_with(of_table);
				recent.deltas.push(Delta { n, crc, script });
				recent.last = n;
				return;
			}
			Said::Value(value) => Start::Value(value),
			Said::Removed => Start::Nothing,
			Said::Direct => return,
		};
		let first = self.recent.get(&key).map_or(n, |recent| recent.first);
		self.recent.insert(key, Recent { first, last: n, start, deltas: Vec::new() });
	}

	fn read_batch(&mut self, conn: &Connection, first: u64, mut bytes: &[u8]) -> Result<(), ReadError> {
		let mut key = String::new();
		for n in first.. {
			if bytes.is_empty() {
				break;
			}
			let record = read_record(&mut bytes, &mut key).and_then(|said| Some((Key::from_joined(&key)?, said)));
			let (key, said) = record.ok_or_else(|| ReadError::Damaged(format!("record {n} cannot be understood")))?;
			if table::settled_up_to(conn, &key)?.is_none_or(|settled| n > settled) {
				self.note(n, key, said);
			}
		}
		Ok(())
	}
}

pub(crate) fn damaged(key: &Key) -> ReadError {
	ReadError::Damaged(format!("the value of {key:?} is not what was written"))
}

impl Row {
	/// The whole value, checked.
	pub fn value(self, conn: &Connection, key: &Key) -> Result<Vec<u8>, ReadError> {
		match self.base {
			Some(base) => {
				let (parts, chain) = (table::parts(conn, base)?, table::chain(conn, base)?);
				self.made_of(&parts, &chain).ok_or_else(|| damaged(key))
			}
			None if crc32fast::hash(&self.value) == self.crc => Ok(self.value),
			None => Err(damaged(key)),
		}
	}

	/// The whole value, of these bytes of its base and the deltas behind it; `None` if something of it is damaged.
	pub fn made_of(&self, base: &[u8], chain: &[Vec<u8>]) -> Option<Vec<u8>> {
		let deltas: Vec<&[u8]> = chain.iter().chain([&self.value]).map(Vec::as_slice).collect();
		delta::apply(base, &delta::compose(&deltas)?).filter(|value| crc32fast::hash(value) == self.crc)
	}
}

const VALUE: u8 = 1;
const REMOVED: u8 = 2;
const DELTA: u8 = 3;
const DIRECT: u8 = 4;

/// A record: what it is, the key (how much of it is as in the record before, and the rest), and what it carries.
fn write_record(out: &mut Vec<u8>, before: &mut String, key: &Key, said: &Said) {
	let joined = key.joined();
	let shared = joined.bytes().zip(before.bytes()).take_while(|(a, b)| a == b).count();
	let kind = match said {
		Said::Value(_) => VALUE,
		Said::Removed => REMOVED,
		Said::Delta { .. } => DELTA,
		Said::Direct => DIRECT,
	};
	out.push(kind);
	delta::put_number(out, shared as u64);
	put_bytes(out, &joined.as_bytes()[shared..]);
	match said {
		Said::Value(value) => put_bytes(out, value),
		Said::Delta { crc, script } => {
			out.extend_from_slice(&crc.to_le_bytes());
			put_bytes(out, script);
		}
		Said::Removed | Said::Direct => {}
	}
	*before = joined;
}

fn read_record(bytes: &mut &[u8], key: &mut String) -> Option<Said> {
	let (kind, rest) = bytes.split_first()?;
	*bytes = rest;
	let shared = usize::try_from(delta::take_number(bytes)?).ok()?;
	let rest = take_bytes(bytes)?;
	*key = format!("{}{}", key.get(..shared)?, std::str::from_utf8(&rest).ok()?);
	match *kind {
		VALUE => take_bytes(bytes).map(Said::Value),
		REMOVED => Some(Said::Removed),
		DIRECT => Some(Said::Direct),
		DELTA => {
			let (crc, rest) = bytes.split_first_chunk::<4>()?;
			*bytes = rest;
			Some(Said::Delta { crc: u32::from_le_bytes(*crc), script: take_bytes(bytes)? })
		}
		_ => None,
	}
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
	delta::put_number(out, bytes.len() as u64);
	out.extend_from_slice(bytes);
}

pub(crate) fn take_bytes(bytes: &mut &[u8]) -> Option<Vec<u8>> {
	let len = usize::try_from(delta::take_number(bytes)?).ok()?;
	let (taken, rest) = bytes.split_at_checked(len)?;
	*bytes = rest;
	Some(taken.to_vec())
}

/// The values that were written last: at most [`MAX_KEPT`] bytes of them, and the manager, which is one and is written more
/// often than all others.
#[derive(Default)]
struct Kept {
	values: HashMap<Key, (u64, Vec<u8>)>,
	/// Bytes of all but the manager.
	bytes: usize,
	clock: u64,
	manager: Option<(Key, Vec<u8>)>,
}

impl Kept {
	/// Keeps a value in the place of the one before; one that is too large is not kept, and evicts nothing.
	fn insert(&mut self, key: Key, value: Vec<u8>) {
		self.remove(&key);
		if key.is_written_soon() {
			self.manager = Some((key, value));
			return;
		}
		if value.len() > MAX_KEPT {
			return;
		}
		self.clock += 1;
		self.bytes += value.len();
		self.values.insert(key, (self.clock, value));
		while self.bytes > MAX_KEPT {
			let oldest = self.values.iter().min_by_key(|(_, (clock, _))| clock).map(|(key, _)| key.clone());
			self.remove(&oldest.expect("it has bytes"));
		}
	}

	fn get(&self, key: &Key) -> Option<&[u8]> {
		match &self.manager {
			Some((manager, value)) if manager == key => Some(value),
			_ => self.values.get(key).map(|(_, value)| value.as_slice()),
		}
	}

	fn remove(&mut self, key: &Key) -> Option<Vec<u8>> {
		if let Some((_, value)) = self.manager.take_if(|(manager, _)| manager == key) {
			return Some(value);
		}
		let (_, value) = self.values.remove(key)?;
		self.bytes -= value.len();
		Some(value)
	}
}
