//! The backup.

use super::Time;
use serde::{Deserialize, Serialize};

/// How the backup stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Backup {
	/// `async`: targets follow within seconds; `sync`: nothing is acknowledged before the first target has it.
	pub mode: String,
	/// One for each target, in the order of the configuration; none: there is no backup.
	pub targets: Vec<BackupTarget>,
}

/// How one target stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BackupTarget {
	/// Where it is, without its login.
	pub name: String,
	/// Does the node wait for it (mode `sync`)?
	pub waited_for: bool,
	/// `complete` (everything is there), `shipping`, `first_snapshot` (nothing to restore from yet) or `away`.
	pub state: String,
	/// Is it so far behind that the operator should see to it?
	pub behind: bool,
	/// For how long something has been missing there, in seconds.
	pub lag_secs: u64,
	/// How many changes are missing there.
	pub lag_changes: u64,
	/// Bytes of them that wait in memory. Beyond a bound they are dropped, and a new snapshot is made in their place.
	pub lag_bytes: u64,
	/// When the last snapshot was begun.
	pub snapshot_at: Option<Time>,
	/// Its bytes.
	pub snapshot_bytes: u64,
	/// Increments since.
	pub increments: u64,
	/// Their bytes.
	pub increment_bytes: u64,
	/// Why the last attempt to reach it failed.
	pub error: Option<String>,
}

impl BackupTarget {
	/// What is wrong, in a sentence.
	pub fn trouble(&self) -> String {
		let why = self.error.as_ref().map_or_else(String::new, |error| format!(" ({error})"));
		let stands = match self.waited_for {
			true => "channels stand still until it is back",
			false => "what happens now would be lost with this machine",
		};
		format!("the backup on {} is {} s behind{why}: {stands}", self.name, self.lag_secs)
	}
}
