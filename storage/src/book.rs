//! The LSP's book: clients, sales, orders, ledger, as JSON rows.

use crate::db::{Connection, OptionalExtension, Params, Result as Sql, params};
use crate::error::ReadError;
use crate::queue::Change;
use crate::store::{Store, never_if_dropped};
use inlet_lsp::book::{BooksRow, Client, Entry, EntryKind, Order, OrderState, Sale, SaleState, SoldChannel, Write};
use inlet_lsp::time::Timestamp;
use inlet_lsp::tokens::Token;
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::future::Future;

/// Sales, and orders, that are over, of which the newest are loaded at start. Those that are not are all loaded.
pub const MAX_RECENT_LOADED: usize = 5000;
/// Clients that are loaded at start, the newest; those of loaded sales and orders, and those with a webhook or with HTLCs
/// held for them, come on top.
pub const MAX_CLIENTS_LOADED: usize = 20_000;
/// Ledger entries that are loaded at start, the newest.
pub const MAX_LEDGER_LOADED: usize = 2000;

/// A row of the book, ready to be written.
#[derive(Debug)]
pub(crate) enum Row {
	Thing {
		kind: Cow<'static, str>,
		id: String,
		at: i64,
		live: bool,
		json: String,
	},
	Entry {
		seq: i64,
		kind: String,
		amount_msat: i64,
		json: String,
	},
	/// Entries with a smaller number go.
	Forget {
		before: i64,
	},
}

impl Row {
	pub fn len(&self) -> u64 {
		match self {
			Row::Thing { id, json, .. } => (id.len() + json.len()) as u64,
			Row::Entry { json, .. } => json.len() as u64,
			Row::Forget { .. } => 8,
		}
	}
}

impl Store {
	/// Enqueues these rows, now, as one transaction: all of them are durable when the future resolves, and none or all
	/// are there after a crash. Never resolves if the store has died or was closed.
	pub fn commit(&self, writes: Vec<Write>) -> impl Future<Output = ()> + Send + 'static + use<> {
		let wait = (!writes.is_empty()).then(|| self.change(Change::Rows(writes.iter().map(to_row).collect())));
		async move {
			if let Some(wait) = wait {
				never_if_dropped(wait).await;
			}
		}
	}

	/// What the book is restored from: all that is unfinished or has an open channel, and the newest of the rest, by the
	/// bounds above. Clients come before their sales and orders, ledger entries last and in order.
	pub async fn load_rows(&self) -> Result<Vec<Write>, ReadError> {
		self.ask(load).await
	}
}

fn to_row(write: &Write) -> Row {
	match write {
		Write::Client(client) => {
			// What the operator has set is always there.
			let live = !client.wake.is_empty() || !client.overrides.is_empty();
			thing(CLIENT, client.id.to_string(), client.first_seen, live, client)
		}
		Write::Sale(sale) => thing(SALE, sale.id.clone(), sale.created_at, sale_is_live(sale), sale),
		Write::Order(order) => thing(ORDER, order.id.clone(), order.created_at, order_is_live(order), order),
		Write::Books(row) => thing(BOOKS, row.key(), row.at(), row.is_live(), row),
		Write::Token(token) => thing(TOKEN, token.id.clone(), token.created_at, token.revoked_at.is_none(), token),
		Write::Ledger(entry) => Row::Entry {
			seq: sql_int(entry.seq),
			kind: kind_name(entry.kind),
			amount_msat: entry.amount_msat,
			json: to_json(entry),
		},
		Write::Forget(before) => Row::Forget { before: sql_int(*before) },
	}
}

/// Something is still due: an HTLC is held, a fee owed, a channel open that will be closed one day.
fn sale_is_live(sale: &Sale) -> bool {
	let over = matches!(sale.state, SaleState::Done | SaleState::Failed { .. });
	!over || !sale.parts.is_empty() || is_open(&sale.channel)
}

/// Something is still due: a payment, a channel, a refund, a channel open that will be closed one day.
fn order_is_live(order: &Order) -> bool {
	let over = matches!(order.state, OrderState::Completed | OrderState::Failed { .. });
	let refund = order.onchain.as_ref().and_then(|onchain| onchain.refund.as_ref());
	!over || refund.is_some_and(|refund| refund.txid.is_none()) || is_open(&order.channel)
}

fn thing(kind: &'static str, id: String, at: Timestamp, live: bool, value: &impl Serialize) -> Row {
	Row::Thing { kind: kind.into(), id, at: sql_int(at.0), live, json: to_json(value) }
}

fn is_open(channel: &Option<SoldChannel>) -> bool {
	let is_there = |channel: &SoldChannel| channel.funding.is_some() || channel.ready_at.is_some();
	channel.as_ref().is_some_and(|channel| is_there(channel) && channel.closed_at.is_none())
}

pub(crate) const CLIENT: &str = "client";
pub(crate) const SALE: &str = "sale";
pub(crate) const ORDER: &str = "order";
pub(crate) const BOOKS: &str = "books";
pub(crate) const TOKEN: &str = "token";

/// SQLite has no unsigned numbers. Ours do not get there: times in milliseconds, and numbers that count up from 0.
pub(crate) fn sql_int(n: u64) -> i64 {
	i64::try_from(n).unwrap_or(i64::MAX)
}

fn kind_name(kind: EntryKind) -> String {
	to_json(&kind).trim_matches('"').to_owned()
}

pub(crate) fn to_json(value: &impl Serialize) -> String {
	serde_json::to_string(value).expect("plain data with strings for keys always has a JSON form")
}

/// What was stored, if it still is what was stored.
pub(crate) fn from_json<T: DeserializeOwned>(crc: u32, json: &str) -> Result<T, ReadError> {
	if crc32fast::hash(json.as_bytes()) != crc {
		return Err(ReadError::Damaged("a row is not what was written".into()));
	}
	serde_json::from_str(json).map_err(|e| ReadError::Damaged(format!("a row cannot be understood: {e}")))
}

/// The rows that a query gives as `crc, json`.
pub(crate) fn rows<T: DeserializeOwned>(conn: &Connection, sql: &str, with: impl Params) -> Result<Vec<T>, ReadError> {
	let mut select = conn.prepare_cached(sql)?;
	let mut found = select.query(with)?;
	let mut parsed = Vec::new();
	while let Some(row) = found.next()? {
		parsed.push(from_json(row.get(0)?, &row.get::<_, String>(1)?)?);
	}
	Ok(parsed)
}

/// Inserts or replaces the rows, and keeps the ledger's totals.
pub(crate) fn write(conn: &Connection, rows: &[Row]) -> Sql<()> {
	for row in rows {
		match row {
			Row::Thing { kind, id, at, live, json } => conn
				.prepare_cached(
					"INSERT INTO book (kind, id, at, live, crc, json) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
					ON CONFLICT (kind, id) DO UPDATE SET at = excluded.at, live = excluded.live, crc = excluded.crc,
						json = excluded.json",
				)?
				.execute(params![&**kind, id, at, live, crc32fast::hash(json.as_bytes()), json])?,
			Row::Entry { seq, kind, amount_msat, json } => write_entry(conn, *seq, kind, *amount_msat, json)?,
			Row::Forget { before } => forget(conn, *before)?,
		}
	}
	Ok(())
}

fn write_entry(conn: &Connection, seq: i64, kind: &str, amount_msat: i64, json: &str) -> Sql<()> {
	let before: Option<(String, i64)> = conn
		.prepare_cached("SELECT kind, amount_msat FROM ledger WHERE seq = ?1")?
		.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))
		.optional()?;
	if let Some((kind, amount_msat)) = before {
		add_to_total(conn, &kind, -1, 0i64.saturating_sub(amount_msat))?;
	}
	conn.prepare_cached(
		"INSERT INTO ledger (seq, kind, amount_msat, crc, json) VALUES (?1, ?2, ?3, ?4, ?5)
		ON CONFLICT (seq) DO UPDATE SET kind = excluded.kind, amount_msat = excluded.amount_msat, crc = excluded.crc,
			json = excluded.json",
	)?
	.execute(params![seq, kind, amount_msat, crc32fast::hash(json.as_bytes()), json])?;
	add_to_total(conn, kind, 1, amount_msat)
}

/// The totals are of the entries that are there: those of what goes are in a row of the book (`BooksRow::Folded`).
fn forget(conn: &Connection, before: i64) -> Sql<()> {
	let sums: Vec<(String, i64, i64)> = conn
		.prepare_cached(
			"SELECT kind, CAST(count(*) AS BIGINT), CAST(sum(amount_msat) AS BIGINT) FROM ledger WHERE seq < ?1 GROUP BY kind",
		)?
		.query_map([before], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
		.collect::<Sql<_>>()?;
	for (kind, entries, amount_msat) in sums {
		add_to_total(conn, &kind, 0i64.saturating_sub(entries), 0i64.saturating_sub(amount_msat))?;
	}
	conn.prepare_cached("DELETE FROM ledger WHERE seq < ?1")?.execute([before])
}

fn add_to_total(conn: &Connection, kind: &str, entries: i64, amount_msat: i64) -> Sql<()> {
	let total: Option<(i64, i64)> = conn
		.prepare_cached("SELECT entries, amount_msat FROM ledger_total WHERE kind = ?1")?
		.query_row([kind], |row| Ok((row.get(0)?, row.get(1)?)))
		.optional()?;
	let (n, sum) = total.unwrap_or((0, 0));
	conn.prepare_cached(
		"INSERT INTO ledger_total (kind, entries, amount_msat) VALUES (?1, ?2, ?3)
		ON CONFLICT (kind) DO UPDATE SET entries = excluded.entries, amount_msat = excluded.amount_msat",
	)?
	.execute(params![kind, n + entries, sum.saturating_add(amount_msat)])
}

fn load(conn: &Connection) -> Result<Vec<Write>, ReadError> {
	let sales: Vec<Sale> = live_and_recent(conn, SALE)?;
	let orders: Vec<Order> = live_and_recent(conn, ORDER)?;
	let tokens: Vec<Token> = live_and_recent(conn, TOKEN)?;
	let mut clients: Vec<Client> = rows(
		conn,
		"SELECT crc, json FROM book WHERE kind = 'client' AND NOT live ORDER BY at DESC, id DESC LIMIT ?1",
		[sql_int(MAX_CLIENTS_LOADED as u64)],
	)?;
	clients.extend(rows::<Client>(conn, "SELECT crc, json FROM book WHERE kind = 'client' AND live ORDER BY id", [])?);
	let known: BTreeSet<_> = clients.iter().map(|client| client.id).collect();
	let needed: BTreeSet<_> = sales.iter().map(|sale| sale.client).chain(orders.iter().map(|o| o.client)).collect();
	for id in needed.difference(&known) {
		let sql = "SELECT crc, json FROM book WHERE kind = 'client' AND id = ?1";
		clients.extend(rows::<Client>(conn, sql, [id.to_string()])?);
	}
	let mut ledger: Vec<Entry> =
		rows(conn, "SELECT crc, json FROM ledger ORDER BY seq DESC LIMIT ?1", [sql_int(MAX_LEDGER_LOADED as u64)])?;
	ledger.reverse();
	let books: Vec<BooksRow> = rows(conn, "SELECT crc, json FROM book WHERE kind = 'books' AND live ORDER BY id", [])?;
	Ok(clients
		.into_iter()
		.map(Write::Client)
		.chain(sales.into_iter().map(Write::Sale))
		.chain(orders.into_iter().map(Write::Order))
		.chain(books.into_iter().map(Write::Books))
		.chain(ledger.into_iter().map(Write::Ledger))
		.chain(tokens.into_iter().map(Write::Token))
		.collect())
}

fn live_and_recent<T: DeserializeOwned>(conn: &Connection, kind: &str) -> Result<Vec<T>, ReadError> {
	let mut found = rows(conn, "SELECT crc, json FROM book WHERE kind = ?1 AND live ORDER BY id", [kind])?;
	found.extend(rows(
		conn,
		"SELECT crc, json FROM book WHERE kind = ?1 AND NOT live ORDER BY at DESC, id DESC LIMIT ?2",
		params![kind, sql_int(MAX_RECENT_LOADED as u64)],
	)?);
	Ok(found)
}
