//! The table of LDK's values. A small value is in its row. A large one is a base, in parts, and what changed since: the base
//! is written anew only when that has become a good part of it. Small changes are in the row; larger ones are a chain of
//! deltas beside the base, to which a settling adds its own without writing the others again.

use crate::db::{Connection, OptionalExtension, Result as Sql, params};
use crate::delta;
use crate::kv::Key;
use std::collections::BTreeSet;
use std::ops::Range;

/// Bytes from which on a value has a base.
pub(crate) const MIN_PARTS: usize = 4096;
/// Bytes of a part.
pub(crate) const PART: usize = 32 << 10;
/// Numbers that a base has for its parts, of 32 kB each, and behind those for its chain.
const PARTS: i64 = 1 << 20;
/// The number of the first delta of a chain.
const CHAIN: i64 = PARTS / 2;

/// A row of the table.
pub(crate) struct Row {
	/// CRC-32 of the whole value.
	pub crc: u32,
	/// The base of a large value.
	pub base: Option<i64>,
	/// The value, or the delta that makes it of its base and the chain.
	pub value: Vec<u8>,
}

/// The row of a key.
pub(crate) fn row(conn: &Connection, key: &Key) -> Sql<Option<Row>> {
	conn.prepare_cached("SELECT crc, base, value FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 AND key = ?3")?
		.query_row(key.parts(), |row| Ok(Row { crc: row.get(0)?, base: row.get(1)?, value: row.get(2)? }))
		.optional()
}

/// The number of the last record that is in the row of this key.
pub(crate) fn settled_up_to(conn: &Connection, key: &Key) -> Sql<Option<u64>> {
	conn.prepare_cached("SELECT n FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 AND key = ?3")?
		.query_row(key.parts(), |row| row.get::<_, i64>(0))
		.optional()
		.map(|n| n.map(|n| n.max(0).cast_unsigned()))
}

/// Puts a row in the place of that of its key. The old one's base, if it is another, goes.
pub(crate) fn put_row(conn: &Connection, key: &Key, n: u64, row: &Row) -> Sql<()> {
	drop_base(conn, key, row.base)?;
	set_row(conn, key, n, row)
}

/// [`put_row`], with the old one's base left where it is: the caller drops it.
pub(crate) fn set_row(conn: &Connection, key: &Key, n: u64, row: &Row) -> Sql<()> {
	let [primary, secondary, name] = key.parts();
	conn.prepare_cached(
		"INSERT INTO kv (primary_ns, secondary_ns, key, n, crc, base, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
		ON CONFLICT (primary_ns, secondary_ns, key)
			DO UPDATE SET n = excluded.n, crc = excluded.crc, base = excluded.base, value = excluded.value",
	)?
	.execute(params![primary, secondary, name, n.cast_signed(), row.crc, row.base, row.value])
}

/// Puts a whole large value in place.
pub(crate) fn put_parts(conn: &Connection, key: &Key, n: u64, base: i64, value: &[u8]) -> Sql<()> {
	for (part, bytes) in (0..).zip(value.chunks(PART)) {
		put_part(conn, base, part, bytes)?;
	}
	put_row(conn, key, n, &whole(base, value))
}

/// The row of a value that is its base.
pub(crate) fn whole(base: i64, value: &[u8]) -> Row {
	Row { crc: crc32fast::hash(value), base: Some(base), value: delta::copy_of(value.len()) }
}

/// Writes a part of a base.
pub(crate) fn put_part(conn: &Connection, base: i64, part: i64, bytes: &[u8]) -> Sql<()> {
	debug_assert!(part < CHAIN);
	put_bytes(conn, base * PARTS + part, bytes)
}

/// All of a base.
pub(crate) fn parts(conn: &Connection, base: i64) -> Sql<Vec<u8>> {
	Ok(some_parts(conn, base, 0, CHAIN)?.concat())
}

/// At most `count` parts of a base, from one on.
pub(crate) fn some_parts(conn: &Connection, base: i64, from: i64, count: i64) -> Sql<Vec<Vec<u8>>> {
	let until = from.saturating_add(count).min(CHAIN);
	bytes_of(conn, base * PARTS + from..base * PARTS + until)
}

/// The deltas of a base, in their order.
pub(crate) fn chain(conn: &Connection, base: i64) -> Sql<Vec<Vec<u8>>> {
	bytes_of(conn, base * PARTS + CHAIN..(base + 1) * PARTS)
}

/// Puts a delta behind so many others.
pub(crate) fn put_link(conn: &Connection, base: i64, behind: usize, delta: &[u8]) -> Sql<()> {
	put_bytes(conn, base * PARTS + CHAIN + behind as i64, delta)
}

/// Removes the deltas of a base.
pub(crate) fn drop_chain(conn: &Connection, base: i64) -> Sql<()> {
	drop_range(conn, base * PARTS + CHAIN..(base + 1) * PARTS)
}

fn put_bytes(conn: &Connection, part: i64, bytes: &[u8]) -> Sql<()> {
	conn.prepare_cached("INSERT INTO base (part, bytes) VALUES (?1, ?2)")?.execute(params![part, bytes])
}

fn bytes_of(conn: &Connection, range: Range<i64>) -> Sql<Vec<Vec<u8>>> {
	conn.prepare_cached("SELECT bytes FROM base WHERE part >= ?1 AND part < ?2 ORDER BY part")?
		.query_map([range.start, range.end], |row| row.get(0))?
		.collect()
}

fn drop_range(conn: &Connection, range: Range<i64>) -> Sql<()> {
	conn.prepare_cached("DELETE FROM base WHERE part >= ?1 AND part < ?2")?.execute([range.start, range.end])
}

/// Removes the first parts of a base, at most `limit`; how many there were.
pub(crate) fn drop_some_parts(conn: &Connection, base: i64, limit: i64) -> Sql<usize> {
	let parts: Vec<i64> = conn
		.prepare_cached("SELECT part FROM base WHERE part >= ?1 AND part < ?2 ORDER BY part LIMIT ?3")?
		.query_map([base * PARTS, (base + 1) * PARTS, limit], |row| row.get(0))?
		.collect::<Sql<_>>()?;
	if let Some(last) = parts.last() {
		conn.execute("DELETE FROM base WHERE part >= ?1 AND part <= ?2", [base * PARTS, *last])?;
	}
	Ok(parts.len())
}

/// Removes a base, or what there is of it, and its chain.
pub(crate) fn drop_parts(conn: &Connection, base: i64) -> Sql<()> {
	drop_range(conn, base * PARTS..(base + 1) * PARTS)
}

/// Removes a row and its base.
pub(crate) fn remove(conn: &Connection, key: &Key) -> Sql<()> {
	drop_base(conn, key, None)?;
	conn.prepare_cached("DELETE FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 AND key = ?3")?.execute(key.parts())
}

fn drop_base(conn: &Connection, key: &Key, unless: Option<i64>) -> Sql<()> {
	let base: Option<i64> = conn
		.prepare_cached("SELECT base FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 AND key = ?3")?
		.query_row(key.parts(), |row| row.get(0))
		.optional()?
		.flatten();
	base.filter(|base| Some(*base) != unless).map_or(Ok(()), |base| drop_parts(conn, base))
}

/// Removes bases that no row has: their making was cut short. Gives the number of the next base.
pub(crate) fn drop_orphans(conn: &Connection) -> Sql<i64> {
	let bases = |sql: &str| -> Sql<BTreeSet<i64>> { conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect() };
	let there = bases(&format!("SELECT DISTINCT part / {PARTS} FROM base"))?;
	let wanted = bases("SELECT base FROM kv WHERE base IS NOT NULL")?;
	there.difference(&wanted).try_for_each(|base| drop_parts(conn, *base))?;
	Ok(there.last().max(wanted.last()).map_or(1, |base| base + 1))
}

/// The keys of a namespace that have a row.
pub(crate) fn keys(conn: &Connection, primary: &str, secondary: &str) -> Sql<BTreeSet<String>> {
	conn.prepare_cached("SELECT key FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2")?
		.query_map([primary, secondary], |row| row.get(0))?
		.collect()
}

/// All keys that have a row.
pub(crate) fn all_keys(conn: &Connection) -> Sql<BTreeSet<Key>> {
	conn.prepare("SELECT primary_ns, secondary_ns, key FROM kv")?
		.query_map([], |row| Ok(Key::of(row.get(0)?, row.get(1)?, row.get(2)?)))?
		.collect()
}
