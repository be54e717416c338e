//! The file: how it is opened, checked and brought up to date.

use crate::error::{OpenError, ReadError};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Marks the file as ours: "INLT".
pub(crate) const APPLICATION_ID: i32 = 0x494e_4c54;

/// Bytes in a page. Small, because a page is the least that a changed row costs; `docs/store.md` has the figures.
pub(crate) const PAGE_SIZE: u64 = 1024;

/// The schema, as the list of steps to it. The version of a file is the number of steps it has taken. A step that was
/// released never changes; a new one is added, together with a frozen file of the version before (`tests/data`).
pub(crate) const MIGRATIONS: &[&str] = &[
	// 1. Values carry a CRC-32: SQLite checks the shape of its pages, not what is in them.
	"CREATE TABLE kv (
		primary_ns TEXT NOT NULL, secondary_ns TEXT NOT NULL, key TEXT NOT NULL,
		crc INTEGER NOT NULL, value BLOB NOT NULL,
		PRIMARY KEY (primary_ns, secondary_ns, key)
	) STRICT, WITHOUT ROWID;

	-- live: loaded at every start, because it implies a next action, or its channel is open.
	CREATE TABLE book (
		kind TEXT NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL, live INTEGER NOT NULL,
		crc INTEGER NOT NULL, json TEXT NOT NULL,
		PRIMARY KEY (kind, id)
	) STRICT, WITHOUT ROWID;
	CREATE INDEX book_by_time ON book (kind, at, id);
	CREATE INDEX book_live ON book (kind) WHERE live;

	CREATE TABLE ledger (
		seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, amount_msat INTEGER NOT NULL,
		crc INTEGER NOT NULL, json TEXT NOT NULL
	) STRICT;
	CREATE TABLE ledger_total (
		kind TEXT PRIMARY KEY, entries INTEGER NOT NULL, amount_msat INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;

	CREATE TABLE wallet (seq INTEGER PRIMARY KEY, crc INTEGER NOT NULL, json TEXT NOT NULL) STRICT;",
	// 2. LDK's values go through a log; large ones are a base and what changed since (values.rs, table.rs).
	// n: the last record of the log that is in the row. base: parts of which `value` makes the value.
	"ALTER TABLE kv ADD COLUMN n INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE kv ADD COLUMN base INTEGER;
	CREATE TABLE base (part INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
	CREATE TABLE log (slot INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;",
	// 3. Behind the parts of a base there may be deltas (table.rs): a version that does not know of them may not read it.
	"",
];

/// Opens or creates the file. On success this process holds it exclusively, until the connection is dropped.
pub(crate) fn open(path: &Path) -> Result<Connection, OpenError> {
	open_with(path, MIGRATIONS)
}

/// [`open`], with a list of migrations that a test may have made longer.
pub(crate) fn open_with(path: &Path, migrations: &[&str]) -> Result<Connection, OpenError> {
	prepare_file(path).map_err(|e| OpenError::Disk { path: path.to_owned(), why: e.to_string() })?;
	let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
	let mut conn = Connection::open_with_flags(path, flags).map_err(|e| refuse(path, &e))?;
	let refused = |e: rusqlite::Error| refuse(path, &e);
	conn.busy_timeout(Duration::ZERO).map_err(refused)?;
	// Before the first access: then the log's index is in our memory, and nobody else can open the file.
	conn.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON")
		.map_err(refused)?;
	let is_new = recognise(&conn, path)?;
	if is_new {
		conn.execute_batch(&format!("PRAGMA page_size = {PAGE_SIZE}")).map_err(refused)?;
	}
	let mode: String =
		conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(|e| refuse(path, &e))?;
	if mode != "wal" {
		return Err(OpenError::Disk { path: path.to_owned(), why: format!("no write-ahead log here, only {mode}") });
	}
	// FULL: a commit returns when the log is synced. Checkpoints are the writer's, after the answers.
	conn.execute_batch(
		"PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -4096; PRAGMA temp_store = MEMORY",
	)
	.map_err(refused)?;
	if !is_new {
		check(&conn, path)?;
		keep_copy(&conn, path, migrations.len())?;
	}
	migrate(&mut conn, path, migrations)?;
	Ok(conn)
}

/// Makes sure that the file is there, and that nobody but its owner may read it: SQLite gives its log the same mode.
fn prepare_file(path: &Path) -> std::io::Result<()> {
	match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path) {
		Ok(_) => sync_directory(path),
		Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
			let file = OpenOptions::new().read(true).write(true).open(path)?;
			if file.metadata()?.permissions().mode() & 0o077 != 0 {
				fs::set_permissions(path, Permissions::from_mode(0o600))?;
			}
			Ok(())
		}
		Err(e) => Err(e),
	}
}

/// Makes the names in the file's directory durable.
pub(crate) fn sync_directory(path: &Path) -> std::io::Result<()> {
	let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
	File::open(dir)?.sync_all()
}

/// True for an empty file, false for one of ours.
pub(crate) fn recognise(conn: &Connection, path: &Path) -> Result<bool, OpenError> {
	let pragma = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(|e| refuse(path, &e));
	let (id, tables) = (pragma("PRAGMA application_id")?, pragma("SELECT count(*) FROM sqlite_schema")?);
	if id == i64::from(APPLICATION_ID) {
		return Ok(false);
	}
	if id == 0 && tables == 0 {
		return Ok(true);
	}
	let why = format!("a database of another program, application id {id:#x}");
	Err(OpenError::NotAStore { path: path.to_owned(), why })
}

fn check(conn: &Connection, path: &Path) -> Result<(), OpenError> {
	let found: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|e| refuse(path, &e))?;
	if found == "ok" { Ok(()) } else { Err(OpenError::Damaged { path: path.to_owned(), what: found }) }
}

/// The file as it is, beside it (`inlet.sqlite.v1`), before it is brought up to date: for the version that wrote it. Once
/// channels have been used again, that copy is history, and dangerous to run.
fn keep_copy(conn: &Connection, path: &Path, known: usize) -> Result<(), OpenError> {
	let found = version(conn, path)?.unwrap_or(0);
	if found == 0 || found as usize >= known {
		return Ok(());
	}
	let failed =
		|why: String| OpenError::Disk { path: path.to_owned(), why: format!("no copy before the upgrade: {why}") };
	let copy = |end: &str| {
		let mut name = path.as_os_str().to_owned();
		name.push(format!(".v{found}{end}"));
		PathBuf::from(name)
	};
	let (unfinished, finished) = (copy(".part"), copy(""));
	let text = unfinished.to_str().ok_or_else(|| failed("its name is no text".into()))?;
	// What a crash left may have any mode, and a new file has the mode that is asked for.
	match fs::remove_file(&unfinished) {
		Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e.to_string())),
		_ => {}
	}
	copy_into(conn, &unfinished, text)
		.and_then(|()| fs::rename(&unfinished, &finished).map_err(|e| e.to_string()))
		.inspect_err(|_| drop(fs::remove_file(&unfinished)))
		.and_then(|()| sync_directory(path).map_err(|e| e.to_string()))
		.map_err(failed)?;
	tracing::info!(copy = %finished.display(), "store copied before its schema changes; delete the copy when all is well");
	Ok(())
}

/// A durable copy that only its owner may read. `text` is the path.
fn copy_into(conn: &Connection, path: &Path, text: &str) -> Result<(), String> {
	// SQLite fills an empty file, and leaves its mode alone.
	let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|e| e.to_string())?;
	conn.execute("VACUUM INTO ?1", [text]).map_err(|e| e.to_string())?;
	file.sync_all().map_err(|e| e.to_string())
}

/// How many steps the file has taken; `None` for a new one.
pub(crate) fn version(conn: &Connection, path: &Path) -> Result<Option<u32>, OpenError> {
	conn.query_row("SELECT value FROM meta WHERE name = 'schema'", [], |row| row.get(0))
		.optional()
		.map_err(|e| refuse(path, &e))
}

/// What is in the file cannot be read.
pub(crate) fn unreadable(path: &Path, e: &ReadError) -> OpenError {
	let path = path.to_owned();
	match e {
		ReadError::Damaged(what) => OpenError::Damaged { path, what: what.clone() },
		ReadError::Disk(why) => OpenError::Disk { path, why: why.clone() },
		ReadError::Closed => OpenError::InUse { path },
	}
}

/// Takes the steps that the file has not taken, in one transaction. Refuses a file that has taken more than there are.
fn migrate(conn: &mut Connection, path: &Path, migrations: &[&str]) -> Result<(), OpenError> {
	let refused = |e: rusqlite::Error| refuse(path, &e);
	let known = u32::try_from(migrations.len()).expect("a short list");
	let tx = conn.transaction_with_behavior(TransactionBehavior::Exclusive).map_err(refused)?;
	tx.execute_batch(
		"CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID",
	)
	.map_err(refused)?;
	let found: Option<u32> = tx
		.query_row("SELECT value FROM meta WHERE name = 'schema'", [], |row| row.get(0))
		.optional()
		.map_err(refused)?;
	let found = found.unwrap_or(0);
	if found > known {
		return Err(OpenError::TooNew { path: path.to_owned(), found, known });
	}
	for step in &migrations[found as usize..] {
		tx.execute_batch(step).map_err(refused)?;
	}
	if found < known {
		tx.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('schema', ?1)", [known]).map_err(refused)?;
		tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(refused)?;
		tracing::info!(from = found, to = known, "store schema brought up to date");
	}
	tx.commit().map_err(refused)
}

pub(crate) fn refuse(path: &Path, e: &rusqlite::Error) -> OpenError {
	let path = path.to_owned();
	match e.sqlite_error_code() {
		Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse { path },
		Some(ErrorCode::NotADatabase) => OpenError::NotAStore { path, why: "not a SQLite database".into() },
		Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged { path, what: e.to_string() },
		Some(_) => OpenError::Disk { path, why: e.to_string() },
		// Not from SQLite: a value of the wrong type where only ours can be.
		None => OpenError::Damaged { path, what: e.to_string() },
	}
}
