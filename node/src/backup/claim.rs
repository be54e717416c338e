//! Who owns a node's state (R17): each start claims an epoch on every target, and only the owner of the last one may run.
//!
//! A claim is an object that is made and never replaced, so that of two only one succeeds. It carries a secret word, the
//! session; the data directory keeps the same word. A copy of the data directory that is not the last that ran (an old
//! image of the card, the machine that was given up) has another word, and refuses.

use super::names::{LEASE, Name};
use super::seal::random_id;
use super::vault::{Vault, VaultError, json, now_ms};
use crate::config::BackupMode;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The data directory's memory of its claims.
pub const RECORD_FILE: &str = "backup.json";
/// How often the owner says that it runs, in seconds.
pub const SIGN_OF_LIFE_SECS: u64 = 30;
/// An owner that has said nothing for so long is taken to be gone, in seconds.
pub const GONE_AFTER_SECS: u64 = 3 * SIGN_OF_LIFE_SECS;

/// What `EPOCH-owner` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
	/// The secret word.
	pub session: String,
	/// When, in milliseconds since 1970.
	pub at_ms: u64,
	/// Claimed by a restore, which does not run yet: nothing is signed in this epoch.
	#[serde(default)]
	pub restored: bool,
	/// Claimed by a node that waits for this target: before its first snapshot is here, it has acknowledged nothing.
	#[serde(default)]
	pub sync: bool,
	/// Claimed to say that the node left this target and goes on without it: the last increment that it said it wrote. (An
	/// older Inlet reads it as a node that ran again and left nothing here, which is as bad.)
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub left: Option<u64>,
}

/// What `lease` says: the owner's sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
	/// The epoch.
	pub epoch: u64,
	/// When, in milliseconds since 1970.
	pub at_ms: u64,
	/// Does it run?
	pub running: bool,
	/// How it writes.
	#[serde(default)]
	pub sync: bool,
	/// The last increment.
	pub increment: u64,
}

/// An epoch that is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
	/// Which.
	pub epoch: u64,
	/// The secret word.
	pub session: String,
}

/// Why an epoch is not ours.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
	/// Never start this copy again: another is newer.
	#[error(
		"another copy of this node is newer: {name} says that it was taken over{when}. This data directory is history; to run it \
		would lose the channels' money. Keep it, do not start it (if it is the other copy that is wrong: see node/docs/backup.md)"
	)]
	Fenced {
		/// Which target.
		name: String,
		/// ` at 2026-01-01T00:00:00Z`.
		when: String,
	},
	/// See there.
	#[error(transparent)]
	Vault(#[from] VaultError),
	/// Repair the data directory.
	#[error("{path}: {why}", path = .path.display())]
	Record {
		/// The file.
		path: PathBuf,
		/// What the system said.
		why: String,
	},
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Record {
	/// By the target's id.
	#[serde(default)]
	pub targets: BTreeMap<String, Held>,
}

/// What the data directory knows of a target.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Held {
	/// The last claim that succeeded.
	#[serde(default)]
	session: Option<String>,
	/// One that may have succeeded.
	#[serde(default)]
	claiming: Option<String>,
	/// Where it is, with its login; `None` once it was left.
	#[serde(default)]
	pub place: Option<String>,
	/// It was left, or forgotten: nothing of it is taken for the last state.
	#[serde(default)]
	pub left: bool,
}

/// The last epoch on a target, and who owns it.
///
/// # Errors
/// The target cannot be read.
pub async fn last_owner(vault: &Vault, names: &[String]) -> Result<Option<(u64, Owner)>, VaultError> {
	let owners = names.iter().filter_map(|name| Name::parse(name)).filter(|name| matches!(name, Name::Owner { .. }));
	let Some(last) = owners.max() else { return Ok(None) };
	let object = last.to_string();
	let owner = vault.read_json(&object).await?.ok_or_else(|| vault.not_ours(&object, &"it has just gone"))?;
	Ok(Some((last.epoch(), owner)))
}

/// Claims the next epoch for this data directory, if the last one is its own or there is none. `mode`: is this target waited for?
///
/// # Errors
/// See [`ClaimError`].
pub async fn claim(vault: &Vault, data_dir: &Path, mode: BackupMode) -> Result<Claim, ClaimError> {
	let names = vault.list().await?;
	let record = Record::load(data_dir)?;
	let last = last_owner(vault, &names).await?;
	if let Some((_, owner)) = &last
		&& !record.owns(vault, owner)
	{
		return Err(fenced(vault, owner));
	}
	let owner = Owner { sync: mode == BackupMode::Sync, ..Owner::default() };
	take(vault, data_dir, record, last.map_or(0, |(epoch, _)| epoch), owner).await
}

/// Claims the next epoch for this data directory, whoever owns the last.
///
/// # Errors
/// See [`ClaimError`].
pub async fn take_over(vault: &Vault, data_dir: &Path) -> Result<Claim, ClaimError> {
	let names = vault.list().await?;
	let last = last_owner(vault, &names).await?;
	let record = Record::load(data_dir)?;
	let owner = Owner { restored: true, ..Owner::default() };
	take(vault, data_dir, record, last.map_or(0, |(epoch, _)| epoch), owner).await
}

/// Says on the target that the node of this data directory goes on without it: what is there is not the last state from now on.
/// Done twice, it does nothing more. The data directory still knows the target afterwards ([`forget`]).
///
/// # Errors
/// See [`ClaimError`].
pub async fn leave(vault: &Vault, data_dir: &Path) -> Result<(), ClaimError> {
	let names = vault.list().await?;
	let record = Record::load(data_dir)?;
	let Some((epoch, last)) = last_owner(vault, &names).await? else { return Ok(()) };
	if !record.owns(vault, &last) {
		return Err(fenced(vault, &last));
	}
	if last.left.is_some() {
		return Ok(());
	}
	let lease: Option<Lease> = vault.read_json(LEASE).await?;
	let left = lease.filter(|lease| lease.epoch == epoch).map_or(0, |lease| lease.increment);
	take(vault, data_dir, record, epoch, Owner { left: Some(left), ..Owner::default() }).await?;
	Ok(())
}

/// The data directory need not see to this target any more. Its claim stays known, so that it can come back to it.
///
/// # Errors
/// The record cannot be read or written.
pub(super) fn forget(data_dir: &Path, id: &str) -> Result<(), ClaimError> {
	let mut record = Record::load(data_dir)?;
	if let Some(held) = record.targets.get_mut(id).filter(|held| !held.left) {
		(held.left, held.place) = (true, None);
		record.save(data_dir)?;
	}
	Ok(())
}

/// Claims the epoch after `last`, as `owner` says but for what only this knows.
async fn take(
	vault: &Vault,
	data_dir: &Path,
	mut record: Record,
	last: u64,
	owner: Owner,
) -> Result<Claim, ClaimError> {
	let claim = Claim { epoch: last + 1, session: random_id() };
	let held = record.targets.entry(vault.id.clone()).or_default();
	// Written before: if the power goes in between, the claim is known to be ours.
	held.claiming = Some(claim.session.clone());
	(held.place, held.left) = (Some(vault.place.with_login()), false);
	record.save(data_dir)?;
	let owner = Owner { session: claim.session.clone(), at_ms: now_ms(), ..owner };
	let object = Name::Owner { epoch: claim.epoch }.to_string();
	match vault.create_json(&object, &owner).await {
		Err(VaultError::Exists { .. }) => {
			let other = vault.read_json::<Owner>(&object).await?;
			return Err(fenced(vault, &other.unwrap_or(owner)));
		}
		made => made?,
	}
	let held = record.targets.entry(vault.id.clone()).or_default();
	(held.session, held.claiming) = (Some(claim.session.clone()), None);
	record.save(data_dir)?;
	let (running, increment) = (!owner.restored && owner.left.is_none(), owner.left.unwrap_or(0));
	let lease = Lease { epoch: claim.epoch, at_ms: now_ms(), running, sync: owner.sync, increment };
	vault.replace_json(LEASE, &lease).await?;
	Ok(claim)
}

/// Is the claim still the last one?
///
/// # Errors
/// [`ClaimError::Fenced`] if it is not.
pub async fn check(vault: &Vault, claim: &Claim) -> Result<(), ClaimError> {
	// Epochs are claimed one after the other, and claims are never removed.
	let object = Name::Owner { epoch: claim.epoch + 1 }.to_string();
	match vault.read_json::<Owner>(&object).await? {
		Some(owner) => Err(fenced(vault, &owner)),
		None => Ok(()),
	}
}

fn fenced(vault: &Vault, owner: &Owner) -> ClaimError {
	fenced_at(vault, owner.at_ms)
}

pub(super) fn fenced_at(vault: &Vault, at_ms: u64) -> ClaimError {
	let when = format!(" at {}", time_of(at_ms));
	ClaimError::Fenced { name: vault.name.clone(), when }
}

/// As people write it, in UTC.
pub(super) fn time_of(at_ms: u64) -> String {
	let at = chrono::DateTime::from_timestamp_millis(i64::try_from(at_ms).unwrap_or(i64::MAX));
	at.map_or_else(|| "an unknown time".into(), |at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

impl Record {
	/// Is the last claim on this target ours?
	fn owns(&self, vault: &Vault, owner: &Owner) -> bool {
		let held = self.targets.get(&vault.id);
		held.is_some_and(|held| {
			[&held.session, &held.claiming].into_iter().flatten().any(|ours| *ours == owner.session)
		})
	}

	pub(super) fn load(data_dir: &Path) -> Result<Record, ClaimError> {
		let path = data_dir.join(RECORD_FILE);
		match fs::read(&path) {
			Err(e) if e.kind() == ErrorKind::NotFound => Ok(Record::default()),
			Err(e) => Err(failed(path, &e)),
			Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| failed(path, &e)),
		}
	}

	fn save(&self, data_dir: &Path) -> Result<(), ClaimError> {
		let path = data_dir.join(RECORD_FILE);
		write_private(data_dir, RECORD_FILE, &json(self)).map_err(|e| failed(path, &e))
	}
}

/// Writes a file that only its owner can read; it is durable, and there is the whole of it or what was there before.
pub(super) fn write_private(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
	let draft = dir.join(format!("{name}.part"));
	let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
	file.write_all(bytes)?;
	file.sync_all()?;
	fs::rename(&draft, dir.join(name))?;
	File::open(dir)?.sync_all()
}

fn failed(path: PathBuf, e: &dyn std::fmt::Display) -> ClaimError {
	ClaimError::Record { path, why: e.to_string() }
}
