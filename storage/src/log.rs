//! The log of LDK's values: what was written to them since they were last settled in their table.
//!
//! A batch is written into slots, rows of a fixed size that fill one page each and are used again. A page that is
//! replaced by one of the same size costs that page and no other: no index, no list of free pages, no page 1. Each slot
//! carries a CRC-32, and says which part of which batch it is; a batch of which a part is missing is damage.

use crate::db::{Connection, Result as Sql, params};
use crate::error::ReadError;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a slot: with SQLite's own, one page (1024 bytes) holds just one.
const SLOT: usize = 976;
const HEADER: usize = 4 + 8 + 8 + 4 + 4 + 2;
/// Bytes of a batch that a slot carries.
pub(crate) const PAYLOAD: usize = SLOT - HEADER;

/// The slots.
pub(crate) struct Log {
	/// Batches that are not settled, by the number of their first record: the number after their last, and their slots.
	batches: BTreeMap<u64, (u64, Vec<i64>)>,
	free: BTreeSet<i64>,
	slots: i64,
}

/// A batch as it was found: the number of its first record, and its bytes.
pub(crate) type Found = (u64, Vec<u8>);

struct Part {
	slot: i64,
	next: u64,
	part: u32,
	parts: u32,
	bytes: Vec<u8>,
}

impl Log {
	/// Reads all batches with a record from `floor` on, in order.
	pub fn load(conn: &Connection, floor: u64) -> Result<(Log, Vec<Found>), ReadError> {
		let mut log = Log { batches: BTreeMap::new(), free: BTreeSet::new(), slots: 0 };
		let mut parts: BTreeMap<u64, Vec<Part>> = BTreeMap::new();
		let mut select = conn.prepare("SELECT slot, bytes FROM log ORDER BY slot")?;
		let mut rows = select.query([])?;
		while let Some(row) = rows.next()? {
			let (slot, bytes): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
			if slot != log.slots {
				return Err(damaged(&format!("slot {} is missing", log.slots)));
			}
			log.slots += 1;
			let (first, part) = read_slot(slot, &bytes).ok_or_else(|| damaged(&format!("slot {slot}")))?;
			if part.next > floor {
				parts.entry(first).or_default().push(part);
			} else {
				log.free.insert(slot);
			}
		}
		let mut found = Vec::with_capacity(parts.len());
		let mut expected = parts.keys().next().copied().unwrap_or(floor);
		if expected > floor {
			return Err(damaged(&format!("it starts at {expected}, not at {floor}")));
		}
		for (first, mut of) in parts {
			of.sort_by_key(|part| part.part);
			let complete = of.iter().enumerate().all(|(i, part)| part.part as usize == i)
				&& of.iter().all(|part| part.parts as usize == of.len() && part.next == of[0].next);
			if first != expected || !complete {
				return Err(damaged(&format!("the batch at {expected} is not complete")));
			}
			expected = of[0].next;
			log.batches.insert(first, (expected, of.iter().map(|part| part.slot).collect()));
			found.push((first, of.into_iter().flat_map(|part| part.bytes).collect()));
		}
		Ok((log, found))
	}

	/// The number after the last record, if there is one that is not settled.
	pub fn next(&self) -> Option<u64> {
		self.batches.last_key_value().map(|(_, (next, _))| *next)
	}

	/// Makes sure that there are so many slots: a batch that has to make some writes three more pages.
	pub fn prepare(&mut self, conn: &Connection, slots: usize) -> Sql<()> {
		let wanted = i64::try_from(slots).expect("a small number");
		for slot in self.slots..wanted {
			insert(conn, slot, &write_slot(0, 0, 0, 0, &[]))?;
			self.free.insert(slot);
		}
		self.slots = self.slots.max(wanted);
		Ok(())
	}

	/// Slots in use.
	pub fn used(&self) -> usize {
		self.batches.values().map(|(_, slots)| slots.len()).sum()
	}

	/// Writes a batch: the records `first..next`.
	pub fn append(&mut self, conn: &Connection, first: u64, next: u64, bytes: &[u8]) -> Sql<()> {
		let parts = u32::try_from(bytes.len().div_ceil(PAYLOAD)).expect("a batch has less than 4 TB");
		let mut used = Vec::with_capacity(parts as usize);
		for (part, payload) in (0u32..).zip(bytes.chunks(PAYLOAD)) {
			let slot = write_slot(first, next, part, parts, payload);
			if let Some(free) = self.free.pop_first() {
				conn.prepare_cached("UPDATE log SET bytes = ?2 WHERE slot = ?1")?.execute(params![free, slot])?;
				used.push(free);
			} else {
				insert(conn, self.slots, &slot)?;
				used.push(self.slots);
				self.slots += 1;
			}
		}
		self.batches.insert(first, (next, used));
		Ok(())
	}

	/// All records before `floor` are settled: their slots are free.
	pub fn forget(&mut self, floor: u64) {
		let kept = self.batches.split_off(&floor);
		for (first, (next, slots)) in std::mem::replace(&mut self.batches, kept) {
			if next > floor {
				self.batches.insert(first, (next, slots));
			} else {
				self.free.extend(slots);
			}
		}
	}
}

fn insert(conn: &Connection, slot: i64, bytes: &[u8]) -> Sql<()> {
	conn.prepare_cached("INSERT INTO log (slot, bytes) VALUES (?1, ?2)")?.execute(params![slot, bytes])
}

fn write_slot(first: u64, next: u64, part: u32, parts: u32, payload: &[u8]) -> Vec<u8> {
	let mut slot = vec![0; 4];
	slot.extend_from_slice(&first.to_le_bytes());
	slot.extend_from_slice(&next.to_le_bytes());
	slot.extend_from_slice(&part.to_le_bytes());
	slot.extend_from_slice(&parts.to_le_bytes());
	slot.extend_from_slice(&u16::try_from(payload.len()).expect("a slot is small").to_le_bytes());
	slot.extend_from_slice(payload);
	slot.resize(SLOT, 0);
	let crc = crc32fast::hash(&slot[4..]);
	slot[..4].copy_from_slice(&crc.to_le_bytes());
	slot
}

fn read_slot(slot: i64, bytes: &[u8]) -> Option<(u64, Part)> {
	let (crc, rest) = bytes.split_first_chunk::<4>()?;
	if crc32fast::hash(rest) != u32::from_le_bytes(*crc) {
		return None;
	}
	let (first, rest) = rest.split_first_chunk::<8>()?;
	let (next, rest) = rest.split_first_chunk::<8>()?;
	let (part, rest) = rest.split_first_chunk::<4>()?;
	let (parts, rest) = rest.split_first_chunk::<4>()?;
	let (len, rest) = rest.split_first_chunk::<2>()?;
	let bytes = rest.get(..usize::from(u16::from_le_bytes(*len)))?.to_vec();
	let [part, parts] = [part, parts].map(|n| u32::from_le_bytes(*n));
	Some((u64::from_le_bytes(*first), Part { slot, next: u64::from_le_bytes(*next), part, parts, bytes }))
}

fn damaged(what: &str) -> ReadError {
	ReadError::Damaged(format!("the log of values is not what was written: {what}"))
}
