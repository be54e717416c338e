//! Errors, named by what the caller does next.

use crate::{db, pg};
use std::path::PathBuf;
use thiserror::Error;

/// Why the store could not be opened. In every case the file is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
	/// Stop the other process.
	#[error("{path} is in use by another process: stop it first")]
	InUse {
		/// The store's file.
		path: PathBuf,
	},
	/// Repair permissions, mounts or the disk, then start again.
	#[error("cannot open {path}: {why}: check that the disk is mounted, writable and not full, and who owns the file")]
	Disk {
		/// The store's file.
		path: PathBuf,
		/// What the system said.
		why: String,
	},
	/// Name another file: this one is not ours.
	#[error("{path} is not an Inlet store ({why}): move it away or choose another data directory")]
	NotAStore {
		/// The file.
		path: PathBuf,
		/// What it is instead.
		why: String,
	},
	/// Install a newer version.
	#[error(
		"{path} was written by a newer version (schema {found}, this one knows {known}): install that version or a newer one"
	)]
	TooNew {
		/// The store's file.
		path: PathBuf,
		/// Its schema.
		found: u32,
		/// The newest schema that this version knows.
		known: u32,
	},
	/// Check the server, and what the configuration says of it.
	#[error("cannot open the store in {place}: {why}; check storage.url and the server")]
	Database {
		/// The database, without a password.
		place: String,
		/// What the server or the network said.
		why: String,
	},
	/// Use the store that it was moved to.
	#[error("the store in {path} cannot be used: {what}")]
	Moved {
		/// The file, or the database.
		path: PathBuf,
		/// What became of it, and what to do.
		what: &'static str,
	},
	/// Stop the other node, or stand by.
	#[error("{place} is in use: {holder} has its lease. Stop that node first, or start this one with --standby")]
	Held {
		/// The database, without a password.
		place: String,
		/// The node that has the lease, as it calls itself.
		holder: String,
	},
	/// Restore from a backup. Never start afresh beside it: channels would be lost.
	#[error(
		"{path} is damaged ({what}): do not delete it; copy it to another disk, check this disk, and restore a backup"
	)]
	Damaged {
		/// The store's file.
		path: PathBuf,
		/// What SQLite found.
		what: String,
	},
}

/// Why something could not be read. None of these means "there is no such value".
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
	/// Check the disk.
	#[error("cannot read the store: {0}")]
	Disk(String),
	/// Restore from a backup.
	#[error("the store is damaged: {0}")]
	Damaged(String),
	/// The store was closed, or died of an I/O error that it has reported to its fatal hook.
	#[error("the store is closed")]
	Closed,
}

impl From<db::Error> for ReadError {
	fn from(e: db::Error) -> ReadError {
		match e {
			db::Error::Sqlite(e) => e.into(),
			db::Error::Pg(pg::Error::Column(what)) => ReadError::Damaged(what),
			db::Error::Pg(e) => ReadError::Disk(e.to_string()),
			db::Error::NoRow => ReadError::Damaged("a row is missing".into()),
		}
	}
}

impl From<rusqlite::Error> for ReadError {
	fn from(e: rusqlite::Error) -> ReadError {
		use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
		match e.sqlite_error_code() {
			Some(DatabaseCorrupt | NotADatabase) => ReadError::Damaged(e.to_string()),
			Some(_) => ReadError::Disk(e.to_string()),
			// Not from SQLite: a column of the wrong type, text that is not UTF-8.
			None => ReadError::Damaged(e.to_string()),
		}
	}
}

/// Why a value could not be written. Always the end.
#[derive(Debug, Error)]
pub(crate) enum WriteError {
	#[error(transparent)]
	Sql(#[from] db::Error),
	/// What it builds on.
	#[error(transparent)]
	Read(#[from] ReadError),
}
