//! A look at a store that nobody runs: is what is in it what was written? Nothing is changed by it.

use crate::book::{BOOKS, CLIENT, ORDER, SALE, from_json};
use crate::db::{Connection, Row};
use crate::error::{OpenError, ReadError};
use crate::history::totals;
use crate::kv::{Key, NODE_NAMESPACE};
use crate::schema::{self, MIGRATIONS};
use crate::store::log_of;
use crate::values::Values;
use bdk_wallet::ChangeSet;
use inlet_lsp::book::{BooksRow, Client, Entry, Order, Sale, Write};
use lightning::util::persist::{
	CHANNEL_MANAGER_PERSISTENCE_KEY, CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE,
	CHANNEL_MONITOR_UPDATE_PERSISTENCE_PRIMARY_NAMESPACE,
};
use rusqlite::OpenFlags;
use rusqlite::config::DbConfig;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Complaints of one kind at most: a file that is damaged all over says enough with the first.
const MAX_COMPLAINTS: usize = 20;

/// A store, open for a look. Nobody else can open it meanwhile.
pub struct Inspection {
	conn: Connection,
	path: PathBuf,
	version: u32,
	/// There was a log before we looked.
	had_log: bool,
}

impl Inspection {
	/// Opens the file as it is: neither checked nor brought up to date, its log left where it is.
	///
	/// # Errors
	/// It is not there, not ours, in use, of a newer version, or so damaged that it cannot be opened.
	pub fn open(path: &Path) -> Result<Inspection, OpenError> {
		let refused = |e: rusqlite::Error| schema::refuse(path, &e);
		let had_log = log_of(path).exists();
		let conn = rusqlite::Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(refused)?;
		conn.busy_timeout(Duration::ZERO).map_err(refused)?;
		conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(refused)?;
		conn.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA query_only = ON; PRAGMA trusted_schema = OFF")
			.map_err(refused)?;
		if schema::recognise(&conn, path)? {
			let why = "it is empty".to_owned();
			return Err(OpenError::NotAStore { path: path.to_owned(), why });
		}
		let version = schema::version(&conn, path)?.unwrap_or(0);
		let known = u32::try_from(MIGRATIONS.len()).expect("a short list");
		if version > known {
			return Err(OpenError::TooNew { path: path.to_owned(), found: version, known });
		}
		Ok(Inspection { conn: Connection::Sqlite(conn), path: path.to_owned(), version, had_log })
	}

	/// The version of its schema, and the one that this program writes. What is older can be copied, but not looked into.
	pub fn version(&self) -> (u32, u32) {
		(self.version, u32::try_from(MIGRATIONS.len()).expect("a short list"))
	}

	/// What is wrong with its pages and indexes, as SQLite says it.
	///
	/// # Errors
	/// They cannot be read.
	pub fn pages(&self) -> Result<Vec<String>, ReadError> {
		let Some(conn) = self.conn.sqlite() else { return Ok(Vec::new()) };
		let mut check = conn.prepare(&format!("PRAGMA integrity_check({MAX_COMPLAINTS})"))?;
		let mut complaints: Vec<String> = check.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
		complaints.retain(|complaint| complaint != "ok");
		Ok(complaints)
	}

	/// Reads all of LDK's values and the node's own, whatever they are made of: how many there are, and which of them are
	/// damaged.
	///
	/// # Errors
	/// The log of values is damaged, or nothing can be read at all.
	pub fn values(&self) -> Result<(usize, Vec<String>), ReadError> {
		let values = Values::read(&self.conn)?;
		let keys = values.all_keys(&self.conn)?;
		let mut complaints = Vec::new();
		for key in &keys {
			if let Err(e) = values.get(&self.conn, key) {
				complaints.push(format!("{}: {e}", shown(key)));
			}
		}
		complaints.truncate(MAX_COMPLAINTS);
		Ok((keys.len(), complaints))
	}

	/// Reads the book, the ledger and the wallet, row by row: how many rows there are, and which of them are damaged. And
	/// whether the ledger adds up to the totals that are kept of it.
	///
	/// # Errors
	/// They cannot be read at all.
	pub fn rows(&self) -> Result<(usize, Vec<String>), ReadError> {
		let mut complaints = Vec::new();
		let mut count = 0;
		count +=
			self.look::<Client>("client", "SELECT crc, json, id FROM book WHERE kind = ?1", CLIENT, &mut complaints)?;
		count += self.look::<Sale>("sale", "SELECT crc, json, id FROM book WHERE kind = ?1", SALE, &mut complaints)?;
		count +=
			self.look::<Order>("order", "SELECT crc, json, id FROM book WHERE kind = ?1", ORDER, &mut complaints)?;
		let sql = "SELECT crc, json, CAST(seq AS TEXT) FROM ledger WHERE ?1 = ''";
		count += self.look::<Entry>("ledger entry", sql, "", &mut complaints)?;
		let sql = "SELECT crc, json, CAST(seq AS TEXT) FROM wallet WHERE ?1 = ''";
		count += self.look::<ChangeSet>("wallet row", sql, "", &mut complaints)?;
		for total in totals(&self.conn)? {
			let kind = crate::book::to_json(&total.kind);
			let sql = "SELECT count(*), coalesce(sum(amount_msat), 0) FROM ledger WHERE kind = ?1";
			let (entries, sum): (i64, i64) =
				self.conn.query_row(sql, [kind.trim_matches('"')], |row| Ok((row.get(0)?, row.get(1)?)))?;
			if (entries.cast_unsigned(), sum) != (total.entries, total.amount_msat) {
				complaints.push(format!(
					"the ledger has {entries} entries of {kind} with {sum} msat, its total says {} with {} msat",
					total.entries, total.amount_msat
				));
			}
		}
		complaints.truncate(MAX_COMPLAINTS);
		Ok((count, complaints))
	}

	/// All of the book and the ledger, however old. For a check: memory grows with it.
	///
	/// # Errors
	/// A row is damaged, or cannot be read.
	pub fn book(&self) -> Result<Vec<Write>, ReadError> {
		let mut all = Vec::new();
		let of = |kind: &str| format!("SELECT crc, json FROM book WHERE kind = '{kind}' ORDER BY id");
		all.extend(crate::book::rows::<Client>(&self.conn, &of(CLIENT), [])?.into_iter().map(Write::Client));
		all.extend(crate::book::rows::<Sale>(&self.conn, &of(SALE), [])?.into_iter().map(Write::Sale));
		all.extend(crate::book::rows::<Order>(&self.conn, &of(ORDER), [])?.into_iter().map(Write::Order));
		all.extend(crate::book::rows::<BooksRow>(&self.conn, &of(BOOKS), [])?.into_iter().map(Write::Books));
		let ledger = crate::book::rows::<Entry>(&self.conn, "SELECT crc, json FROM ledger ORDER BY seq", [])?;
		all.extend(ledger.into_iter().map(Write::Ledger));
		Ok(all)
	}

	/// How many channels have a monitor, and whether there is a channel manager. Updates of a monitor that is not there are
	/// told too.
	///
	/// # Errors
	/// They cannot be read.
	pub fn channels(&self) -> Result<(usize, bool, Vec<String>), ReadError> {
		let values = Values::read(&self.conn)?;
		let keys = values.all_keys(&self.conn)?;
		let monitors = values.list(&self.conn, CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE, "")?;
		let manager = keys.iter().any(|key| key.parts() == ["", "", CHANNEL_MANAGER_PERSISTENCE_KEY]);
		let mut lost: Vec<String> = Vec::new();
		for key in &keys {
			let [primary, of, update] = key.parts();
			let is_update = primary == CHANNEL_MONITOR_UPDATE_PERSISTENCE_PRIMARY_NAMESPACE;
			if is_update && !monitors.iter().any(|monitor| monitor == of) {
				lost.push(format!("update {update} is of a monitor that is not there, {of}"));
			}
		}
		lost.truncate(MAX_COMPLAINTS);
		Ok((monitors.len(), manager, lost))
	}

	/// Copies the store, with what is in its log, to a new file that only its owner may read: as it is, so damage too. Gives the
	/// lock up: others may open the store afterwards.
	///
	/// # Errors
	/// What the system says.
	pub fn copy_to(self, to: &Path) -> std::io::Result<()> {
		for (from, to) in [(self.path.clone(), to.to_owned()), (log_of(&self.path), log_of(to))] {
			if from.exists() {
				let mut new = std::os::unix::fs::OpenOptionsExt::mode(
					std::fs::OpenOptions::new().write(true).create_new(true),
					0o600,
				)
				.open(&to)?;
				std::io::copy(&mut std::fs::File::open(&from)?, &mut new)?;
			}
		}
		Ok(())
	}

	/// Bytes that a copy takes.
	pub fn bytes(&self) -> u64 {
		let len = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
		len(&self.path) + len(&log_of(&self.path))
	}

	fn look<T: DeserializeOwned>(
		&self,
		what: &str,
		sql: &str,
		with: &str,
		complaints: &mut Vec<String>,
	) -> Result<usize, ReadError> {
		let mut select = self.conn.prepare(sql)?;
		let mut found = select.query([with])?;
		let mut count = 0;
		while let Some(row) = found.next()? {
			count += 1;
			let read = |row: &Row<'_>| -> Result<(), ReadError> {
				let json: String = row.get(1)?;
				from_json::<T>(row.get(0)?, &json).map(drop)
			};
			if let Err(e) = read(&row) {
				complaints.push(format!("{what} {}: {e}", row.get::<_, String>(2).unwrap_or_default()));
			}
		}
		Ok(count)
	}
}

impl Drop for Inspection {
	/// SQLite makes an empty log in order to read. It goes while we still have the file for ourselves: later it might be
	/// somebody else's.
	fn drop(&mut self) {
		let log = log_of(&self.path);
		if !self.had_log && std::fs::metadata(&log).is_ok_and(|found| found.len() == 0) {
			// What stays is empty.
			drop(std::fs::remove_file(log));
		}
	}
}

/// A key without what might be somebody's name.
fn shown(key: &Key) -> String {
	match key.parts() {
		[NODE_NAMESPACE, table, _] => format!("a row of the node's own in {table}"),
		parts => parts.join("/"),
	}
}
