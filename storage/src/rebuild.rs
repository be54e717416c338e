//! A store made of a snapshot and the changes since, in a file of its own.

use crate::db::Connection;
use crate::error::{OpenError, WriteError};
use crate::kv::Key;
use crate::queue::Change;
use crate::stream::{self, Entry};
use crate::values::Values;
use crate::{book, delta, kv, schema, table, wallet};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Bytes of changes after which a transaction is committed: what is being made is of no use before it is whole.
const COMMIT_EVERY: usize = 4 << 20;

/// Why a store could not be made of a copy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RebuildError {
	/// The file cannot be made: see there.
	#[error(transparent)]
	Open(#[from] OpenError),
	/// Check the disk, and begin anew.
	#[error("cannot write {path}: {why}")]
	Disk {
		/// The new file.
		path: PathBuf,
		/// What the system said.
		why: String,
	},
	/// Take another copy, an older one perhaps.
	#[error("the copy does not fit together: {0}")]
	Unfit(String),
}

/// A store in the making.
pub struct Rebuild {
	conn: Connection,
	values: Values,
	path: PathBuf,
	/// How far the pieces went, key by key: changes up to there are in them.
	as_of: HashMap<Key, u64>,
	wallet_as_of: u64,
	/// The last change of the pieces.
	latest_piece: u64,
	/// The last change that was taken in.
	last: u64,
	open_bytes: usize,
}

impl Rebuild {
	/// Begins, in a new file, with a snapshot that has everything up to change `base`; 0 without one.
	///
	/// # Errors
	/// There is something already, or the file cannot be made.
	pub fn create(path: &Path, base: u64) -> Result<Rebuild, RebuildError> {
		if path.exists() {
			let why = "there is something already".to_owned();
			return Err(RebuildError::Disk { path: path.to_owned(), why });
		}
		let conn = Connection::Sqlite(schema::open(path)?);
		conn.begin().map_err(|e| disk(path, &e))?;
		let values = Values::load(&conn).map_err(|e| unfit(&e))?;
		Ok(Rebuild {
			conn,
			values,
			path: path.to_owned(),
			as_of: HashMap::new(),
			wallet_as_of: 0,
			latest_piece: base,
			last: base,
			open_bytes: 0,
		})
	}

	/// Takes a piece in. All pieces come before all changes.
	///
	/// # Errors
	/// It is not what was written, or the disk does not take it.
	pub fn piece(&mut self, as_of: u64, mut bytes: &[u8]) -> Result<(), RebuildError> {
		self.latest_piece = self.latest_piece.max(as_of);
		let size = bytes.len();
		while !bytes.is_empty() {
			let entry = stream::read(&mut bytes).ok_or_else(|| unfit(&"a piece cannot be understood"))?;
			match &entry {
				Entry::Change(Change::Put { key, .. }) => drop(self.as_of.insert(key.clone(), as_of)),
				Entry::Change(Change::WalletReplace(..)) => self.wallet_as_of = as_of,
				_ => {}
			}
			self.take(entry)?;
		}
		self.commit_after(size)
	}

	/// Takes changes in, which begin with number `first`: at most the one after the last. Gives the number of the last.
	///
	/// # Errors
	/// Some are missing, they are not what was written, or the disk does not take them.
	pub fn changes(&mut self, first: u64, mut bytes: &[u8]) -> Result<u64, RebuildError> {
		if first > self.last + 1 {
			return Err(unfit(&format!("change {first} follows on {}", self.last)));
		}
		let size = bytes.len();
		for n in first.. {
			if bytes.is_empty() {
				break;
			}
			let entry = stream::read(&mut bytes).ok_or_else(|| unfit(&format!("change {n} cannot be understood")))?;
			if !self.has(&entry, n) {
				self.take(entry)?;
			}
			self.last = self.last.max(n);
		}
		self.commit_after(size)?;
		Ok(self.last)
	}

	/// Leaves out everything that is about channels: what an old state must not be used for. What is left has the wallet,
	/// the peers and the book. Gives how many channels there were.
	///
	/// # Errors
	/// The disk does not take it.
	pub fn forget_channels(&mut self) -> Result<usize, RebuildError> {
		let keys = self.values.all_keys(&self.conn).map_err(|e| unfit(&e))?;
		let mut channels = 0;
		for key in keys.into_iter().filter(Key::is_of_channels) {
			channels += usize::from(key.is_monitor());
			self.take(Entry::Change(Change::Remove { key }))?;
		}
		self.commit_after(COMMIT_EVERY)?;
		Ok(channels)
	}

	/// One of the node's own values, for the time after the copy.
	///
	/// # Errors
	/// The disk does not take it.
	pub fn put(&mut self, secondary: &str, key: &str, value: Vec<u8>) -> Result<(), RebuildError> {
		let key = Key::of(kv::NODE_NAMESPACE.into(), secondary.into(), key.into());
		self.take(Entry::Change(Change::Put { key, value }))
	}

	/// Ends: looks at every page and reads every value. The file is a store then. Gives how many channels it has.
	///
	/// # Errors
	/// Changes are missing that the pieces need, something cannot be read, or the disk does not take it.
	pub fn finish(mut self) -> Result<usize, RebuildError> {
		if self.last < self.latest_piece {
			let (last, needed) = (self.last, self.latest_piece);
			return Err(unfit(&format!("its changes end at {last}, and it needs those up to {needed}")));
		}
		self.commit_after(COMMIT_EVERY)?;
		let found = self.pragma("integrity_check(1)")?;
		if found != "ok" {
			return Err(unfit(&found));
		}
		let keys = self.values.all_keys(&self.conn).map_err(|e| unfit(&e))?;
		for key in &keys {
			self.values.get(&self.conn, key).map_err(|e| unfit(&e))?;
		}
		self.conn.commit().map_err(|e| disk(&self.path, &e))?;
		self.pragma("wal_checkpoint(TRUNCATE)")?;
		Ok(keys.iter().filter(|key| key.is_monitor()).count())
	}

	/// Is this change in a piece already?
	fn has(&self, entry: &Entry, n: u64) -> bool {
		let key = match entry {
			Entry::Change(Change::Put { key, .. } | Change::Remove { key }) | Entry::Delta { key, .. } => key,
			Entry::Change(Change::WalletAppend(_) | Change::WalletReplace(..)) => return n <= self.wallet_as_of,
			// A row is whole, and the last one stands in the end.
			Entry::Change(Change::Rows(_)) => return false,
		};
		self.as_of.get(key).is_some_and(|as_of| n <= *as_of)
	}

	fn take(&mut self, entry: Entry) -> Result<(), RebuildError> {
		let change = match entry {
			Entry::Change(change) => change,
			Entry::Delta { key, crc, script } => {
				// A value that a later piece found removed has changes before that: the removal is among them.
				let before = self.values.get(&self.conn, &key).map_err(|e| unfit(&e))?;
				let value = before.and_then(|before| delta::apply(&before, &script));
				let value = value.filter(|value| crc32fast::hash(value) == crc);
				let Some(value) = value else {
					return match self.last < self.latest_piece && !self.as_of.contains_key(&key) {
						true => Ok(()),
						false => Err(unfit(&format!("a change to {key:?} does not fit what it changes"))),
					};
				};
				Change::Put { key, value }
			}
		};
		let conn = &self.conn;
		let done = match change {
			Change::Put { key, value } if key.is_nodes_own() => kv::put(conn, &key, value).map_err(WriteError::from),
			Change::Remove { key } if key.is_nodes_own() => table::remove(conn, &key).map_err(WriteError::from),
			Change::Put { key, value } => self.values.put(conn, key, value).map(drop),
			Change::Remove { key } => self.values.remove(conn, key).map(drop),
			Change::Rows(rows) => book::write(conn, &rows).map_err(WriteError::from),
			Change::WalletAppend(json) => wallet::append(conn, &json).map_err(WriteError::from),
			Change::WalletReplace(up_to, json) => wallet::replace(conn, up_to, &json).map_err(WriteError::from),
		};
		done.map_err(|e| disk(&self.path, &e))
	}

	fn commit_after(&mut self, bytes: usize) -> Result<(), RebuildError> {
		self.open_bytes += bytes;
		if self.open_bytes < COMMIT_EVERY {
			return Ok(());
		}
		self.open_bytes = 0;
		let path = &self.path;
		self.values.flush(&self.conn).map_err(|e| disk(path, &e))?;
		while self.values.settle_is_due() {
			self.values.settle(&self.conn).map_err(|e| disk(path, &e))?;
		}
		self.conn.commit().map_err(|e| disk(path, &e))?;
		self.pragma("wal_checkpoint(PASSIVE)")?;
		self.conn.begin().map_err(|e| disk(&self.path, &e))
	}

	/// What SQLite says to a pragma, as text.
	fn pragma(&self, pragma: &str) -> Result<String, RebuildError> {
		let sql = format!("PRAGMA {pragma}");
		let conn = self.conn.sqlite().expect("a copy is made in a file");
		let said = conn.query_row(&sql, [], |row| row.get::<_, rusqlite::types::Value>(0));
		match said.map_err(|e| disk(&self.path, &e))? {
			rusqlite::types::Value::Text(text) => Ok(text),
			_ => Ok(String::new()),
		}
	}
}

impl std::fmt::Debug for Rebuild {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		f.debug_struct("Rebuild").field("path", &self.path).field("last", &self.last).finish_non_exhaustive()
	}
}

fn unfit(what: &dyn std::fmt::Display) -> RebuildError {
	RebuildError::Unfit(what.to_string())
}

fn disk(path: &Path, e: &dyn std::fmt::Display) -> RebuildError {
	RebuildError::Disk { path: path.to_owned(), why: e.to_string() }
}
