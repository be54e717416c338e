//! Pages of what happened, newest first, for people to read.

use crate::book::{BOOKS, ORDER, SALE, from_json, rows, sql_int, to_json};
use crate::db::{Connection, Result as Sql, params};
use crate::error::ReadError;
use crate::kv::NODE_NAMESPACE;
use crate::store::Store;
use inlet_lsp::book::{BooksRow, Entry, EntryKind, Folded, Order, Sale};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Rows in a page; whoever asks for more gets these. It bounds how long a page keeps the writer.
pub const MAX_PAGE: usize = 500;

/// All ledger entries of a kind, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerTotal {
	/// What they are for.
	pub kind: EntryKind,
	/// How many there are.
	pub entries: u64,
	/// Their sum in millisatoshis; positive: earned, negative: spent.
	pub amount_msat: i64,
}

impl Store {
	/// Sales, newest first: those before (older than) the sale of this id, or the newest. None if there is no such sale.
	pub async fn sales_page(&self, before: Option<&str>, limit: usize) -> Result<Vec<Sale>, ReadError> {
		self.page(SALE, before, limit).await
	}

	/// Orders, newest first: those before (older than) the order of this id, or the newest. None if there is no such
	/// order.
	pub async fn orders_page(&self, before: Option<&str>, limit: usize) -> Result<Vec<Order>, ReadError> {
		self.page(ORDER, before, limit).await
	}

	/// A sale, however old; `None` if there is none of this id.
	pub async fn sale(&self, id: &str) -> Result<Option<Sale>, ReadError> {
		self.one(SALE, id).await
	}

	/// An order, however old; `None` if there is none of this id.
	pub async fn order(&self, id: &str) -> Result<Option<Order>, ReadError> {
		self.one(ORDER, id).await
	}

	/// Ledger entries, newest first: those with a smaller number than this, or the newest.
	pub async fn ledger(&self, before_seq: Option<u64>, limit: usize) -> Result<Vec<Entry>, ReadError> {
		let before = before_seq.map_or(i64::MAX, sql_int);
		let sql = "SELECT crc, json FROM ledger WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2";
		self.ask(move |conn| rows(conn, sql, params![before, bound(limit)])).await
	}

	/// Ledger entries, oldest first: those from this number on.
	pub async fn oldest_entries(&self, from_seq: u64, limit: usize) -> Result<Vec<Entry>, ReadError> {
		let sql = "SELECT crc, json FROM ledger WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
		self.ask(move |conn| rows(conn, sql, params![sql_int(from_seq), bound(limit)])).await
	}

	/// What the books keep beside the entries and is over (channels whose money is all home, final transactions), newest
	/// first: what began before the row of this key, or the newest. None if there is no such row.
	pub async fn books_page(&self, before: Option<&str>, limit: usize) -> Result<Vec<BooksRow>, ReadError> {
		self.page(BOOKS, before, limit).await
	}

	/// The whole ledger, added up by kind, entries that are folded and gone included. Kept with every entry, so it costs the same
	/// for any length.
	pub async fn ledger_totals(&self) -> Result<Vec<LedgerTotal>, ReadError> {
		self.ask(|conn| Ok(whole(totals(conn)?, folded(conn)?))).await
	}

	/// Rows of the node's own (primary namespace [`NODE_NAMESPACE`], this secondary namespace), by key, greatest first:
	/// those with a key below this one, or from the top. Write and remove them as LDK does.
	pub async fn node_rows(
		&self,
		table: &str,
		before_key: Option<&str>,
		limit: usize,
	) -> Result<Vec<(String, Vec<u8>)>, ReadError> {
		let (table, before) = (table.to_owned(), before_key.map(str::to_owned));
		self.ask(move |conn| node_rows(conn, &table, before.as_deref(), limit)).await
	}

	async fn page<T: DeserializeOwned + Send + 'static>(
		&self,
		kind: &'static str,
		before: Option<&str>,
		limit: usize,
	) -> Result<Vec<T>, ReadError> {
		let before = before.map(str::to_owned);
		self.ask(move |conn| match before {
			Some(id) => rows(
				conn,
				"SELECT crc, json FROM book WHERE kind = ?1
					AND (at, id) < (SELECT at, id FROM book WHERE kind = ?1 AND id = ?2)
				ORDER BY at DESC, id DESC LIMIT ?3",
				params![kind, id, bound(limit)],
			),
			None => rows(
				conn,
				"SELECT crc, json FROM book WHERE kind = ?1 ORDER BY at DESC, id DESC LIMIT ?2",
				params![kind, bound(limit)],
			),
		})
		.await
	}

	async fn one<T: DeserializeOwned + Send + 'static>(
		&self,
		kind: &'static str,
		id: &str,
	) -> Result<Option<T>, ReadError> {
		let id = id.to_owned();
		let sql = "SELECT crc, json FROM book WHERE kind = ?1 AND id = ?2";
		self.ask(move |conn| Ok(rows(conn, sql, params![kind, id])?.pop())).await
	}
}

fn bound(limit: usize) -> i64 {
	sql_int(limit.min(MAX_PAGE) as u64)
}

/// What the entries added up to that are gone.
pub(crate) fn folded(conn: &Connection) -> Result<Option<Folded>, ReadError> {
	let found: Vec<BooksRow> = rows(conn, "SELECT crc, json FROM book WHERE kind = 'books' AND id = 'folded'", [])?;
	Ok(found.into_iter().find_map(|row| if let BooksRow::Folded(folded) = row { Some(folded) } else { None }))
}

/// Those of the entries that are there, and of those that are gone.
fn whole(there: Vec<LedgerTotal>, folded: Option<Folded>) -> Vec<LedgerTotal> {
	let mut sums: BTreeMap<EntryKind, (u64, i64)> = folded.map(|folded| folded.kinds).unwrap_or_default();
	for total in there {
		let (entries, amount_msat) = sums.entry(total.kind).or_default();
		*entries = entries.saturating_add(total.entries);
		*amount_msat = amount_msat.saturating_add(total.amount_msat);
	}
	let total = |(kind, (entries, amount_msat))| LedgerTotal { kind, entries, amount_msat };
	let mut all: Vec<LedgerTotal> = sums.into_iter().map(total).collect();
	all.sort_by_cached_key(|total| to_json(&total.kind));
	all
}

/// Of the entries that are there.
pub(crate) fn totals(conn: &Connection) -> Result<Vec<LedgerTotal>, ReadError> {
	let mut select = conn.prepare_cached("SELECT kind, entries, amount_msat FROM ledger_total ORDER BY kind")?;
	let found = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get(2)?)))?;
	found
		.map(|row| {
			let (kind, entries, amount_msat) = row?;
			let json = format!("\"{kind}\"");
			let entries = entries.max(0).cast_unsigned();
			Ok(LedgerTotal { kind: from_json(crc32fast::hash(json.as_bytes()), &json)?, entries, amount_msat })
		})
		.collect()
}

fn node_rows(
	conn: &Connection,
	table: &str,
	before: Option<&str>,
	limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, ReadError> {
	let mut select = conn.prepare_cached(
		"SELECT key, crc, value FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 AND (CAST(?3 AS TEXT) IS NULL OR key < ?3)
		ORDER BY key DESC LIMIT ?4",
	)?;
	let found: Vec<(String, u32, Vec<u8>)> = select
		.query_map(params![NODE_NAMESPACE, table, before, bound(limit)], |row| {
			Ok((row.get(0)?, row.get(1)?, row.get(2)?))
		})?
		.collect::<Sql<_>>()?;
	found
		.into_iter()
		.map(|(key, crc, value)| match crc32fast::hash(&value) == crc {
			true => Ok((key, value)),
			false => Err(ReadError::Damaged(format!("the value of {table}/{key} is not what was written"))),
		})
		.collect()
}
