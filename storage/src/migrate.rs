//! Moves a store from one database to another, row by row, and compares them afterwards.
//!
//! The target is marked as unfinished until it is found equal; then the source is marked as moved, and then the target's
//! mark goes. No store that has a mark is ever opened to be used, so after a crash at any point at most one of the two can be,
//! and the same command goes on.

use crate::db::{Column, Connection, OptionalExtension, Result as Sql, Row, ToValue, Value};
use crate::error::{OpenError, ReadError};
use crate::pg::{Lease, PgOptions, Session};
use crate::schema;
use crate::values::Values;
use std::path::PathBuf;
use thiserror::Error;

/// Rows that are moved, and compared, at a time.
const PAGE: i64 = 200;
/// The mark of a store that was moved elsewhere.
const MOVED: &str = "moved";
/// The mark of a store that is being filled.
const UNFINISHED: &str = "unfinished";

/// Where a store is, or is to be.
#[derive(Debug)]
pub enum Place {
	/// In this file.
	File(PathBuf),
	/// On this server, of which we have the lease.
	Server(Box<PgOptions>, Lease),
}

/// What was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
	/// Rows of all tables.
	pub rows: u64,
	/// LDK's values and the node's own, each read on both sides, its checksum verified.
	pub values: u64,
}

/// Why a store was not moved. The source is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MigrateError {
	/// Repair what it says, and try again.
	#[error(transparent)]
	Open(#[from] OpenError),
	/// Choose another target, or empty it.
	#[error("the target has a store already: nothing is ever written over one. Choose another, or move it away first")]
	NotEmpty,
	/// It was moved before: use the other one.
	#[error("the source was moved elsewhere already, and is history")]
	History,
	/// There is nothing to move.
	#[error("the source has no store")]
	Nothing,
	/// Restore a backup.
	#[error("the source cannot be read: {0}")]
	Source(ReadError),
	/// Look at the target, and try again.
	#[error("the target cannot be written: {0}")]
	Target(ReadError),
	/// Report it; go on with the source.
	#[error("the two differ in {0}: go on with the source, and please report this")]
	Differ(String),
}

/// A table: its name, its columns, of which the first are its key.
struct Table {
	name: &'static str,
	keys: usize,
	columns: &'static [(&'static str, Kind)],
}

#[derive(Clone, Copy)]
enum Kind {
	Text,
	Int,
	IntOrNone,
	Bytes,
	Flag,
}

/// All that a store has, less what says how it is kept (`meta`, but for the floor of the log). A test holds it against the schema.
const TABLES: &[Table] = {
	use Kind::{Bytes, Flag, Int, IntOrNone, Text};
	&[
		Table {
			name: "kv",
			keys: 3,
			columns: &[
				("primary_ns", Text),
				("secondary_ns", Text),
				("key", Text),
				("crc", Int),
				("value", Bytes),
				("n", Int),
				("base", IntOrNone),
			],
		},
		Table { name: "base", keys: 1, columns: &[("part", Int), ("bytes", Bytes)] },
		Table { name: "log", keys: 1, columns: &[("slot", Int), ("bytes", Bytes)] },
		Table {
			name: "book",
			keys: 2,
			columns: &[("kind", Text), ("id", Text), ("at", Int), ("live", Flag), ("crc", Int), ("json", Text)],
		},
		Table {
			name: "ledger",
			keys: 1,
			columns: &[("seq", Int), ("kind", Text), ("amount_msat", Int), ("crc", Int), ("json", Text)],
		},
		Table { name: "ledger_total", keys: 1, columns: &[("kind", Text), ("entries", Int), ("amount_msat", Int)] },
		Table { name: "wallet", keys: 1, columns: &[("seq", Int), ("crc", Int), ("json", Text)] },
	]
};

/// One field of a row.
#[derive(Clone, Debug, PartialEq)]
enum Cell {
	Text(String),
	Int(Option<i64>),
	Bytes(Vec<u8>),
	Flag(bool),
}

impl ToValue for Cell {
	fn to_value(&self) -> Value<'_> {
		match self {
			Cell::Text(text) => Value::Text(text),
			Cell::Int(n) => n.map_or(Value::Null, Value::Int),
			Cell::Bytes(bytes) => Value::Bytes(bytes),
			Cell::Flag(flag) => Value::Bool(*flag),
		}
	}
}

/// Moves a store that nobody uses. Blocks; `tell` hears how it goes. The source is marked, so that it cannot be used by mistake
/// afterwards, and is not changed otherwise.
///
/// # Errors
/// See [`MigrateError`].
pub fn migrate(from: Place, to: Place, tell: impl Fn(&str) + Send) -> Result<Moved, MigrateError> {
	// A session's runtime cannot be used on a thread that belongs to another.
	let work = move || {
		if let Place::File(path) = &from
			&& !path.exists()
		{
			return Err(MigrateError::Nothing);
		}
		Move { source: from.open()?, target: to.open()?, tell: &tell }.run()
	};
	std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Place {
	fn open(self) -> Result<Connection, OpenError> {
		match self {
			Place::File(path) => Ok(Connection::Sqlite(schema::open(&path)?)),
			Place::Server(options, lease) => {
				let session = Session::open(&options, &lease).map_err(|e| options.unusable(e.to_string()))?;
				Ok(Connection::Pg(Box::new(session)))
			}
		}
	}
}

struct Move<'a> {
	source: Connection,
	target: Connection,
	tell: &'a (dyn Fn(&str) + Send),
}

impl Move<'_> {
	fn run(self) -> Result<Moved, MigrateError> {
		let is = |conn, mark| has_mark(conn, mark).map_err(ReadError::from);
		let moved = is(&self.source, MOVED).map_err(MigrateError::Source)?;
		let unfinished = is(&self.target, UNFINISHED).map_err(MigrateError::Target)?;
		if moved && !unfinished {
			return Err(MigrateError::History);
		}
		if is(&self.source, UNFINISHED).map_err(MigrateError::Source)? {
			return Err(MigrateError::Nothing);
		}
		if !moved {
			self.fill()?;
		}
		let done = self.compare()?;
		self.mark(&self.source, MOVED, true).map_err(|e| MigrateError::Source(e.into()))?;
		self.mark(&self.target, UNFINISHED, false).map_err(|e| MigrateError::Target(e.into()))?;
		for conn in [&self.source, &self.target] {
			conn.pg().into_iter().for_each(Session::release);
		}
		Ok(done)
	}

	/// Empties a target that an earlier attempt left unfinished, refuses any other that is not empty, and copies all.
	fn fill(&self) -> Result<(), MigrateError> {
		let to = |e: crate::db::Error| MigrateError::Target(e.into());
		if has_mark(&self.target, UNFINISHED).map_err(to)? {
			self.target.begin().map_err(to)?;
			for table in TABLES {
				self.target.execute(&format!("DELETE FROM {}", table.name), []).map_err(to)?;
			}
			self.target.commit().map_err(to)?;
		}
		for table in TABLES {
			if !page(&self.target, table, None, 1).map_err(to)?.is_empty() {
				return Err(MigrateError::NotEmpty);
			}
		}
		if has_mark(&self.target, MOVED).map_err(to)? {
			return Err(MigrateError::NotEmpty);
		}
		self.mark(&self.target, UNFINISHED, true).map_err(to)?;
		for table in TABLES {
			let mut rows = 0;
			let mut last: Option<Vec<Cell>> = None;
			loop {
				let found =
					page(&self.source, table, last.as_deref(), PAGE).map_err(|e| MigrateError::Source(e.into()))?;
				let Some(end) = found.last() else { break };
				last = Some(end.clone());
				rows += found.len();
				self.insert(table, &found).map_err(to)?;
				self.keep_leases()?;
			}
			(self.tell)(&format!("{}: {rows} rows copied", table.name));
		}
		let floor = number(&self.source, "floor").map_err(|e| MigrateError::Source(e.into()))?;
		if let Some(floor) = floor {
			self.set(&self.target, "floor", floor).map_err(to)?;
		}
		Ok(())
	}

	fn insert(&self, table: &Table, rows: &[Vec<Cell>]) -> Sql<()> {
		let places: Vec<String> = (1..=table.columns.len()).map(|n| format!("?{n}")).collect();
		let sql = format!("INSERT INTO {} ({}) VALUES ({})", table.name, names(table.columns), places.join(", "));
		self.target.begin()?;
		for row in rows {
			let values: Vec<&dyn ToValue> = row.iter().map(|cell| cell as &dyn ToValue).collect();
			self.target.execute(&sql, values.as_slice())?;
		}
		self.target.commit()
	}

	/// Every row of every table; then every value as the store would read it, on both sides.
	fn compare(&self) -> Result<Moved, MigrateError> {
		let (from, to) = (
			|e: crate::db::Error| MigrateError::Source(e.into()),
			|e: crate::db::Error| MigrateError::Target(e.into()),
		);
		let mut done = Moved::default();
		for table in TABLES {
			let mut last: Option<Vec<Cell>> = None;
			loop {
				let here = page(&self.source, table, last.as_deref(), PAGE).map_err(from)?;
				let there = page(&self.target, table, last.as_deref(), PAGE).map_err(to)?;
				if here != there {
					return Err(MigrateError::Differ(format!("the table {}", table.name)));
				}
				let Some(end) = here.last() else { break };
				last = Some(end.clone());
				done.rows += here.len() as u64;
				self.keep_leases()?;
			}
		}
		if number(&self.source, "floor").map_err(from)? != number(&self.target, "floor").map_err(to)? {
			return Err(MigrateError::Differ("the floor of the log".into()));
		}
		(self.tell)(&format!("{} rows compared", done.rows));
		let (here, there) =
			(load(&self.source).map_err(MigrateError::Source)?, load(&self.target).map_err(MigrateError::Target)?);
		let keys = here.all_keys(&self.source).map_err(MigrateError::Source)?;
		if keys != there.all_keys(&self.target).map_err(MigrateError::Target)? {
			return Err(MigrateError::Differ("the keys".into()));
		}
		for key in keys {
			let value = here.get(&self.source, &key).map_err(MigrateError::Source)?;
			if value != there.get(&self.target, &key).map_err(MigrateError::Target)? {
				return Err(MigrateError::Differ(format!("the value of {key:?}")));
			}
			done.values += 1;
			self.keep_leases()?;
		}
		(self.tell)(&format!("{} values read on both sides, their checksums right", done.values));
		Ok(done)
	}

	fn keep_leases(&self) -> Result<(), MigrateError> {
		let renew = |conn: &Connection| {
			conn.pg().map_or(Ok(()), Session::renew_if_due).map_err(|e| crate::db::Error::from(e).into())
		};
		renew(&self.source).map_err(MigrateError::Source)?;
		renew(&self.target).map_err(MigrateError::Target)
	}

	fn mark(&self, conn: &Connection, mark: &str, there: bool) -> Sql<()> {
		if there {
			return self.set(conn, mark, 1);
		}
		conn.begin()?;
		conn.execute("DELETE FROM meta WHERE name = ?1", [mark])?;
		conn.commit()
	}

	fn set(&self, conn: &Connection, name: &str, value: i64) -> Sql<()> {
		conn.begin()?;
		conn.execute(
			"INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
			crate::db::params![name, value],
		)?;
		conn.commit()
	}
}

/// As at an opening: the log is read, its checksums verified.
fn load(conn: &Connection) -> Result<Values, ReadError> {
	conn.begin()?;
	let values = Values::load(conn)?;
	conn.commit()?;
	Ok(values)
}

fn number(conn: &Connection, name: &str) -> Sql<Option<i64>> {
	conn.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
}

fn has_mark(conn: &Connection, mark: &str) -> Sql<bool> {
	Ok(number(conn, mark)?.is_some())
}

/// What is wrong with a store that has a mark: it was moved elsewhere, or is not complete.
pub(crate) fn refusal(conn: &Connection) -> Sql<Option<&'static str>> {
	if has_mark(conn, MOVED)? {
		return Ok(Some(
			"its content was moved elsewhere, and what is left here is history: using it would lose channels. Set \
			storage.backend to where it is now",
		));
	}
	let unfinished = "inlet storage migrate did not come to its end here: run it again";
	Ok(has_mark(conn, UNFINISHED)?.then_some(unfinished))
}

fn names(columns: &[(&str, Kind)]) -> String {
	columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// The rows behind `last`, in the order of the key.
fn page(conn: &Connection, table: &Table, last: Option<&[Cell]>, limit: i64) -> Sql<Vec<Vec<Cell>>> {
	let key = names(&table.columns[..table.keys]);
	let behind = match last {
		Some(_) => {
			let places: Vec<String> = (1..=table.keys).map(|n| format!("?{n}")).collect();
			format!("WHERE ({key}) > ({})", places.join(", "))
		}
		None => String::new(),
	};
	let sql = format!("SELECT {} FROM {} {behind} ORDER BY {key} LIMIT {limit}", names(table.columns), table.name);
	let values: Vec<&dyn ToValue> =
		last.unwrap_or_default().iter().take(table.keys).map(|cell| cell as &dyn ToValue).collect();
	conn.prepare(&sql)?.query_map(values.as_slice(), |row| cells(row, table))?.collect()
}

fn cells(row: &Row<'_>, table: &Table) -> Sql<Vec<Cell>> {
	fn get<T: Column>(row: &Row<'_>, at: usize) -> Sql<T> {
		row.get(at)
	}
	let cell = |(at, (_, kind)): (usize, &(&str, Kind))| {
		Ok(match kind {
			Kind::Text => Cell::Text(get(row, at)?),
			Kind::Int => Cell::Int(Some(get(row, at)?)),
			Kind::IntOrNone => Cell::Int(get(row, at)?),
			Kind::Bytes => Cell::Bytes(get(row, at)?),
			Kind::Flag => Cell::Flag(get(row, at)?),
		})
	};
	table.columns.iter().enumerate().map(cell).collect()
}

#[cfg(all(test, postgres_here))]
pub(crate) fn columns() -> std::collections::BTreeSet<String> {
	TABLES
		.iter()
		.flat_map(|table| table.columns.iter().map(move |(name, _)| format!("{}.{name}", table.name)))
		.collect()
}
