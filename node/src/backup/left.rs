//! Targets that a node has left: what is there must not pass for the last state.
//!
//! Which targets were claimed is known twice: in the data directory (with their logins, so that they can be reached), and in
//! the store (by name and id, so that a copy of the store that was restored or moved knows of those that its new place does
//! not). A start that finds one which the configuration does not name says so on it before any channel moves. Forgotten is what
//! was said; in the data directory last, so that a start that was cut short does it again.

use super::Access;
use super::claim::{self, ClaimError, Record};
use super::vault::{Vault, VaultError, json};
use crate::config::BackupPlace;
use inlet_storage::{ReadError, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// The table, among the node's own rows, of the targets that the store was ever on, by id.
const TABLE: &str = "backup-targets";
/// Rows that are read of it: more were never left, four at a time.
const MOST: usize = 1000;

#[derive(Serialize, Deserialize)]
struct Row {
	/// Where it is, without its login.
	name: String,
}

/// A target that holds, or may hold, what looks like the last state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
	/// The target's id.
	pub id: String,
	/// Where it is, without its login.
	pub name: String,
	/// Where it is, if that is known with the login.
	place: Option<BackupPlace>,
}

/// Why a target was not left.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
	/// Connect it, name it again, or forget it.
	#[error(
		"{name} was a backup target of this node, is not among those of the configuration any more, and cannot be told ({why}). What \
		is there still looks like the last state, and who restores from it later loses the channels' money. Connect it, or name it in \
		[backup] targets again; if it is gone for good: inlet backup forget {name}"
	)]
	Away {
		/// Which target.
		name: String,
		/// Why.
		why: String,
	},
	/// Find out which copy is the last.
	#[error(
		"{name} was a backup target of this node, is not among those of the configuration any more, and was written last by another \
		copy of this node. If that one is newer, do not start this one. If this one was restored: name {name} in [backup] targets \
		and run inlet backup init --take-over"
	)]
	Foreign {
		/// Which target.
		name: String,
	},
	/// See there.
	#[error(transparent)]
	Record(#[from] ClaimError),
	/// Repair the store.
	#[error("the store cannot be read: {0}")]
	Read(#[from] ReadError),
	/// Repair the store.
	#[error("the store cannot be written: {0}")]
	Write(#[from] io::Error),
}

impl Known {
	/// Reaches it.
	///
	/// # Errors
	/// Why not.
	pub async fn open(&self, access: impl Into<Access<'_>>) -> Result<Vault, LeaveError> {
		let away = |why: String| LeaveError::Away { name: self.name.clone(), why };
		let place = self.place.as_ref().ok_or_else(|| away("its login is not known here".into()))?;
		let vault = Vault::open(place, access).await.map_err(|e| away(e.to_string()))?;
		match vault.id == self.id {
			true => Ok(vault),
			false => Err(away("another target has taken its place".into())),
		}
	}

	/// Says on it that the node goes on without it.
	///
	/// # Errors
	/// See [`LeaveError`].
	pub async fn leave(&self, data_dir: &Path, access: impl Into<Access<'_>>) -> Result<(), LeaveError> {
		let vault = self.open(access).await?;
		claim::leave(&vault, data_dir).await.map_err(|e| match e {
			ClaimError::Fenced { name, .. } => LeaveError::Foreign { name },
			ClaimError::Vault(e @ (VaultError::Away { .. } | VaultError::Blank { .. })) => {
				LeaveError::Away { name: self.name.clone(), why: e.to_string() }
			}
			e => LeaveError::Record(e),
		})
	}

	/// The address to reach it by, if this is it.
	pub fn at(self, place: BackupPlace) -> Known {
		Known { place: Some(place), ..self }
	}
}

/// The targets that this data directory, and this store, know and that were not left.
///
/// # Errors
/// One of them cannot be read.
pub async fn known(data_dir: &Path, store: Option<&Store>) -> Result<Vec<Known>, LeaveError> {
	let mut all = BTreeMap::new();
	let rows = match store {
		Some(store) => store.node_rows(TABLE, None, MOST).await?,
		None => Vec::new(),
	};
	for (id, json) in rows {
		let name = serde_json::from_slice::<Row>(&json).map_or_else(|_| id.clone(), |row| row.name);
		// A directory has no login.
		let place = name.starts_with("dir:").then(|| name.parse().ok()).flatten();
		all.insert(id.clone(), Known { id, name, place });
	}
	for (id, held) in Record::load(data_dir)?.targets.into_iter().filter(|(_, held)| !held.left) {
		let place = held.place.and_then(|place| place.parse::<BackupPlace>().ok());
		let name = match (&place, all.remove(&id)) {
			(Some(place), _) => place.to_string(),
			(None, Some(known)) => known.name,
			(None, None) => id.clone(),
		};
		all.insert(id.clone(), Known { id, name, place });
	}
	Ok(all.into_values().collect())
}

/// Leaves all targets but those with these ids; gives those that were left. To be called before any channel moves.
///
/// # Errors
/// See [`LeaveError`].
pub async fn leave_all_but(
	ids: &[String],
	data_dir: &Path,
	store: Option<&Store>,
	access: impl Into<Access<'_>>,
) -> Result<Vec<Known>, LeaveError> {
	let access = access.into();
	let mut left = known(data_dir, store).await?;
	left.retain(|known| !ids.contains(&known.id));
	for known in &left {
		known.leave(data_dir, access).await?;
		tracing::warn!(target: "inlet::backup", "{} was left: nothing is restored from it any more but coins", known.name);
	}
	Ok(left)
}

/// The store remembers these targets, by id and name.
///
/// # Errors
/// The store cannot be read or written.
pub async fn remember(store: &Store, targets: &[(String, String)]) -> Result<(), LeaveError> {
	let there: BTreeMap<_, _> = store.node_rows(TABLE, None, MOST).await?.into_iter().collect();
	for (id, name) in targets {
		let row = json(&Row { name: name.clone() });
		if there.get(id) != Some(&row) {
			store.put_node_row(TABLE, id, row).await?;
		}
	}
	Ok(())
}

/// What was left need not be seen to any more.
///
/// # Errors
/// The store or the data directory cannot be written.
pub async fn forget(data_dir: &Path, store: &Store, ids: impl IntoIterator<Item = &str>) -> Result<(), LeaveError> {
	for id in ids {
		store.remove_node_row(TABLE, id).await?;
		claim::forget(data_dir, id)?;
	}
	Ok(())
}
