//! The database, as everything above it sees it: one SQL text, whichever database carries it out.
//!
//! It looks like `rusqlite`, of which it is the thinnest possible cover, and has no more of it than is used. SQL is
//! written so that all databases understand it (`?1` for the first value; `ON CONFLICT` with its columns).

use crate::pg::{self, PgRow, Session};
use rusqlite::types::{FromSql, ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, params_from_iter};
use thiserror::Error as ThisError;

/// A connection, used by the writer's thread only.
pub(crate) enum Connection {
	/// A file of our own.
	Sqlite(rusqlite::Connection),
	/// A server, of which we are the leader.
	Pg(Box<Session>),
}

/// Why the database did not do something.
#[derive(Debug, ThisError)]
pub(crate) enum Error {
	/// What SQLite says.
	#[error(transparent)]
	Sqlite(rusqlite::Error),
	/// What PostgreSQL says.
	#[error(transparent)]
	Pg(#[from] pg::Error),
	/// There is no such row.
	#[error("no such row")]
	NoRow,
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl From<rusqlite::Error> for Error {
	fn from(e: rusqlite::Error) -> Error {
		match e {
			rusqlite::Error::QueryReturnedNoRows => Error::NoRow,
			e => Error::Sqlite(e),
		}
	}
}

impl Connection {
	/// The file, for what only SQLite has.
	pub fn sqlite(&self) -> Option<&rusqlite::Connection> {
		match self {
			Connection::Sqlite(conn) => Some(conn),
			Connection::Pg(_) => None,
		}
	}

	/// Begins a transaction: all that follows is there together or not at all.
	pub fn begin(&self) -> Result<()> {
		match self {
			Connection::Sqlite(conn) => Ok(conn.execute_batch("BEGIN IMMEDIATE")?),
			// The server hears of it with the first request.
			Connection::Pg(_) => Ok(()),
		}
	}

	/// Ends it; all of it is durable.
	pub fn commit(&self) -> Result<()> {
		match self {
			Connection::Sqlite(conn) => Ok(conn.execute_batch("COMMIT")?),
			Connection::Pg(session) => Ok(session.commit()?),
		}
	}

	/// Has the database rolled the open transaction back by itself?
	pub fn has_lost_transaction(&self) -> bool {
		match self {
			// It does so on some errors, also of a read.
			Connection::Sqlite(conn) => conn.is_autocommit(),
			// A session does it again by itself.
			Connection::Pg(_) => false,
		}
	}

	/// The server, for what only PostgreSQL has.
	pub fn pg(&self) -> Option<&Session> {
		match self {
			Connection::Sqlite(_) => None,
			Connection::Pg(session) => Some(session),
		}
	}

	/// A statement that is prepared once for all its uses.
	pub fn prepare_cached<'a>(&'a self, sql: &'a str) -> Result<Statement<'a>> {
		match self {
			Connection::Sqlite(conn) => Ok(Statement::Sqlite(conn.prepare_cached(sql)?)),
			Connection::Pg(session) => Ok(Statement::Pg(session, sql)),
		}
	}

	/// The same, for a statement that is used rarely.
	pub fn prepare<'a>(&'a self, sql: &'a str) -> Result<Statement<'a>> {
		self.prepare_cached(sql)
	}

	/// Carries out a statement that gives no rows.
	pub fn execute(&self, sql: &str, params: impl Params) -> Result<()> {
		self.prepare_cached(sql)?.execute(params)
	}

	/// The first row that the query gives.
	pub fn query_row<T>(&self, sql: &str, params: impl Params, f: impl FnOnce(&Row<'_>) -> Result<T>) -> Result<T> {
		self.prepare_cached(sql)?.query_row(params, f)
	}
}

/// A statement.
pub(crate) enum Statement<'a> {
	Sqlite(CachedStatement<'a>),
	Pg(&'a Session, &'a str),
}

impl Statement<'_> {
	/// Carries it out; it gives no rows.
	pub fn execute(&mut self, params: impl Params) -> Result<()> {
		match self {
			Statement::Sqlite(statement) => Ok(statement.execute(params_from_iter(params.values())).map(drop)?),
			Statement::Pg(session, sql) => {
				session.execute(sql, &params.values());
				Ok(())
			}
		}
	}

	/// Its rows.
	pub fn query(&mut self, params: impl Params) -> Result<Rows<'_>> {
		match self {
			Statement::Sqlite(statement) => Ok(Rows::Sqlite(statement.query(params_from_iter(params.values()))?)),
			Statement::Pg(session, sql) => {
				Ok(Rows::Pg { rows: session.query(sql, &params.values())?.into_iter(), last: None })
			}
		}
	}

	/// What `f` makes of each of its rows.
	pub fn query_map<T>(
		&mut self,
		params: impl Params,
		mut f: impl FnMut(&Row<'_>) -> Result<T>,
	) -> Result<impl Iterator<Item = Result<T>>> {
		let mut rows = self.query(params)?;
		let mut found = Vec::new();
		while let Some(row) = rows.next()? {
			found.push(f(&row));
		}
		Ok(found.into_iter())
	}

	/// What `f` makes of its first row.
	pub fn query_row<T>(&mut self, params: impl Params, f: impl FnOnce(&Row<'_>) -> Result<T>) -> Result<T> {
		self.query(params)?.next()?.ok_or(Error::NoRow).and_then(|row| f(&row))
	}
}

/// The rows of a query.
pub(crate) enum Rows<'a> {
	Sqlite(rusqlite::Rows<'a>),
	Pg { rows: std::vec::IntoIter<PgRow>, last: Option<PgRow> },
}

impl Rows<'_> {
	/// The next one.
	pub fn next(&mut self) -> Result<Option<Row<'_>>> {
		match self {
			Rows::Sqlite(rows) => Ok(rows.next()?.map(Row::Sqlite)),
			Rows::Pg { rows, last } => {
				*last = rows.next();
				Ok(last.as_ref().map(Row::Pg))
			}
		}
	}
}

/// A row.
pub(crate) enum Row<'a> {
	Sqlite(&'a rusqlite::Row<'a>),
	Pg(&'a PgRow),
}

/// What a column can be read as.
pub(crate) trait Column: FromSql {
	/// From a row of PostgreSQL's.
	fn of_pg(row: &PgRow, at: usize) -> std::result::Result<Self, pg::Error>;
}

macro_rules! columns {
	($($ty:ty)*) => {$(
		impl Column for $ty {
			fn of_pg(row: &PgRow, at: usize) -> std::result::Result<$ty, pg::Error> {
				row.try_get(at).map_err(|e| pg::Error::Column(e.to_string()))
			}
		}
	)*};
}

columns!(i64 String Vec<u8> Option<i64> bool);

impl Column for u32 {
	fn of_pg(row: &PgRow, at: usize) -> std::result::Result<u32, pg::Error> {
		let n = i64::of_pg(row, at)?;
		u32::try_from(n).map_err(|_| pg::Error::Column(format!("{n} is no checksum")))
	}
}

/// The number of a column, from 0.
pub(crate) trait At {
	fn at(self) -> usize;
}

impl At for usize {
	fn at(self) -> usize {
		self
	}
}

impl Row<'_> {
	/// A column.
	pub fn get<I: At, T: Column>(&self, column: I) -> Result<T> {
		match self {
			Row::Sqlite(row) => Ok(row.get(column.at())?),
			Row::Pg(row) => Ok(T::of_pg(row, column.at())?),
		}
	}
}

/// `Ok(None)` where there is no row.
pub(crate) trait OptionalExtension<T> {
	fn optional(self) -> Result<Option<T>>;
}

impl<T> OptionalExtension<T> for Result<T> {
	fn optional(self) -> Result<Option<T>> {
		match self {
			Err(Error::NoRow) => Ok(None),
			other => other.map(Some),
		}
	}
}

/// A value on its way into the database.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
	Null,
	Int(i64),
	Bool(bool),
	Text(&'a str),
	Bytes(&'a [u8]),
}

impl rusqlite::ToSql for Value<'_> {
	fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
		Ok(ToSqlOutput::Borrowed(match self {
			Value::Null => ValueRef::Null,
			Value::Int(n) => ValueRef::Integer(*n),
			Value::Bool(b) => ValueRef::Integer((*b).into()),
			Value::Text(text) => ValueRef::Text(text.as_bytes()),
			Value::Bytes(bytes) => ValueRef::Blob(bytes),
		}))
	}
}

/// What can be put into the database.
pub(crate) trait ToValue {
	fn to_value(&self) -> Value<'_>;
}

impl ToValue for i64 {
	fn to_value(&self) -> Value<'_> {
		Value::Int(*self)
	}
}

impl ToValue for u32 {
	fn to_value(&self) -> Value<'_> {
		Value::Int((*self).into())
	}
}

impl ToValue for bool {
	fn to_value(&self) -> Value<'_> {
		Value::Bool(*self)
	}
}

impl ToValue for str {
	fn to_value(&self) -> Value<'_> {
		Value::Text(self)
	}
}

impl ToValue for String {
	fn to_value(&self) -> Value<'_> {
		Value::Text(self)
	}
}

impl ToValue for [u8] {
	fn to_value(&self) -> Value<'_> {
		Value::Bytes(self)
	}
}

impl ToValue for Vec<u8> {
	fn to_value(&self) -> Value<'_> {
		Value::Bytes(self)
	}
}

impl<T: ToValue> ToValue for Option<T> {
	fn to_value(&self) -> Value<'_> {
		self.as_ref().map_or(Value::Null, T::to_value)
	}
}

impl<T: ToValue + ?Sized> ToValue for &T {
	fn to_value(&self) -> Value<'_> {
		(*self).to_value()
	}
}

/// The values of a statement, in the order of their numbers.
pub(crate) trait Params {
	fn values(&self) -> Vec<Value<'_>>;
}

impl Params for [&dyn ToValue; 0] {
	fn values(&self) -> Vec<Value<'_>> {
		Vec::new()
	}
}

impl Params for &[&dyn ToValue] {
	fn values(&self) -> Vec<Value<'_>> {
		self.iter().map(|value| value.to_value()).collect()
	}
}

macro_rules! params_of {
	($($n:literal)*) => {$(
		impl<T: ToValue> Params for [T; $n] {
			fn values(&self) -> Vec<Value<'_>> {
				self.iter().map(T::to_value).collect()
			}
		}
	)*};
}

params_of!(1 2 3 4);

/// Values of several types.
macro_rules! params {
	($($value:expr),* $(,)?) => {
		&[$(&$value as &dyn $crate::db::ToValue),*] as &[&dyn $crate::db::ToValue]
	};
}

pub(crate) use params;
