//! What the store has written.

use serde::{Deserialize, Serialize};

/// What the store has written since the node started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Storage {
	/// For how long it has counted, in seconds.
	pub uptime_secs: u64,
	/// Bytes written to the disk: the next two together. What the file system and the disk add to it is not known.
	pub written_bytes: u64,
	/// Of these, to the write-ahead log, before anything is acknowledged.
	pub log_bytes: u64,
	/// Of these, copied from the log into the database, at most.
	pub checkpoint_bytes: u64,
	/// Syncs (`fdatasync`).
	pub syncs: u64,
	/// Transactions; each is one of the syncs.
	pub batches: u64,
	/// Times that the log was copied into the database.
	pub checkpoints: u64,
	/// Bytes that wait to be written now.
	pub queued_bytes: u64,
	/// Most bytes that ever waited.
	pub queued_bytes_peak: u64,
	/// Updates of channels that are not on the disk yet, or not on a backup that they wait for (`backup.mode = "sync"`).
	pub updates_waiting: u64,
	/// `written_bytes` for a day, at the rate since the start.
	pub bytes_per_day: u64,
	/// Payments forwarded since the start, and payments that brought a channel.
	pub payments: u64,
	/// `written_bytes` for each of them; `None` while there were none.
	pub bytes_per_payment: Option<u64>,
	/// The card's size: `storage.card_gb`, or that of its file system.
	pub card_bytes: u64,
	/// What it is rated for: `storage.card_rated_tbw`, or a hundred times its size.
	pub rated_bytes: u64,
	/// Millionths of its rated life that a year takes, at the rate since the start.
	pub wear_ppm_a_year: u64,
	/// Bytes that are free, if known.
	pub free_bytes: Option<u64>,
	/// Nothing new is sold while less is free than this (`storage.low_water_mb`).
	pub low_water_bytes: u64,
	/// Bytes of the reserve; 0 if it is given up, or could not be made.
	pub reserve_bytes: u64,
	/// What it was for, most bytes first.
	pub purposes: Vec<StoragePurpose>,
}

/// What one kind of data took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StoragePurpose {
	/// `manager`, `monitors`, `graph`, `scorer`, `wallet`, `book` or `other`.
	pub purpose: String,
	/// Bytes that the node asked to have written.
	pub asked_bytes: u64,
	/// Bytes that this came down to, before pages are filled up: changes only, of what is large.
	pub recorded_bytes: u64,
}
