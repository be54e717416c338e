//! From a target back to a store.

use super::claim::{GONE_AFTER_SECS, Lease, Owner, last_owner, time_of};
use super::format::{Increment, Kind, Manifest, hash, take_piece};
use super::names::{LEASE, Name};
use super::vault::{Vault, VaultError, hex, now_ms, unhex};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use inlet_storage::{Rebuild, RebuildError};
use std::collections::BTreeSet;

/// What a target has to restore from.
#[derive(Debug)]
pub struct Found {
	/// The epoch of the snapshot.
	pub epoch: u64,
	/// Its number.
	pub snapshot: u64,
	/// What it is made of.
	pub manifest: Manifest,
	/// The last epoch that anyone claimed, and who.
	pub owner: (u64, Owner),
	/// Who claimed an epoch after the snapshot's.
	newer: Vec<Owner>,
	/// The last sign of life.
	pub lease: Option<Lease>,
	/// Numbers of the epoch's increments, as listed.
	increments: BTreeSet<u64>,
}

/// How far the copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
	/// The last change.
	pub last: u64,
	/// The last increment that was taken in, and the hash of it.
	pub increment: u64,
	/// See `increment`.
	pub chain: [u8; 32],
	/// How it ends.
	pub end: End,
	/// When the last increment was written, in milliseconds since 1970.
	pub at_ms: u64,
}

/// How the increments end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
	/// There are no more: whether there should be, they do not say.
	Open,
	/// The node stopped and said that this is all.
	Closed,
	/// A restore took over.
	Sealed,
	/// Some are missing or damaged, and others follow.
	Hole,
}

/// Why a copy may not be the last state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale(pub String);

/// Why there is nothing to restore from.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
	/// See there.
	#[error(transparent)]
	Vault(#[from] VaultError),
	/// Take another target; or recover the coins from the seed alone.
	#[error("{name} has no complete snapshot yet; try another target, or: inlet seed restore")]
	Empty {
		/// Which target.
		name: String,
	},
	/// Take another target.
	#[error("{name}: {why}; try another target")]
	Damaged {
		/// Which target.
		name: String,
		/// What is wrong.
		why: String,
	},
	/// See there.
	#[error(transparent)]
	Rebuild(#[from] RebuildError),
}

/// Looks for the newest snapshot.
///
/// # Errors
/// See [`RestoreError`].
pub async fn look(vault: &Vault) -> Result<Found, RestoreError> {
	let listed = vault.list().await?;
	let empty = || RestoreError::Empty { name: vault.name.clone() };
	let owner = last_owner(vault, &listed).await?.ok_or_else(empty)?;
	let names: Vec<Name> = listed.iter().filter_map(|name| Name::parse(name)).collect();
	let snapshots = names.iter().filter_map(|name| match *name {
		Name::Snapshot { epoch, snapshot } => Some((epoch, snapshot)),
		_ => None,
	});
	let (epoch, snapshot) = snapshots.max().ok_or_else(empty)?;
	let object = Name::Snapshot { epoch, snapshot }.to_string();
	let manifest: Manifest = vault.read_json(&object).await?.ok_or_else(empty)?;
	let increments = names.iter().filter_map(|name| match *name {
		Name::Increment { epoch: e, number } if e == epoch => Some(number),
		_ => None,
	});
	let increments = increments.collect();
	let lease = vault.read_json(LEASE).await?;
	let mut newer = Vec::new();
	for name in names.iter().filter(|name| matches!(name, Name::Owner { epoch: e } if *e > epoch)) {
		newer.extend(vault.read_json::<Owner>(&name.to_string()).await?);
	}
	Ok(Found { epoch, snapshot, manifest, owner, newer, lease, increments })
}

impl Found {
	/// Is the owner still there, as far as its signs of life tell? For how many seconds it has been silent, if so.
	pub fn alive(&self) -> Option<u64> {
		let lease = self.lease.as_ref().filter(|lease| lease.running && lease.epoch == self.owner.0)?;
		let silent = now_ms().saturating_sub(lease.at_ms) / 1000;
		(silent < GONE_AFTER_SECS).then_some(silent)
	}

	/// Takes the snapshot's parts in, telling `progress` the parts that are done and how many there are.
	///
	/// # Errors
	/// See [`RestoreError`].
	pub async fn load_snapshot(
		&self,
		vault: &Vault,
		rebuild: &mut Rebuild,
		progress: &mut dyn FnMut(u64, u64),
	) -> Result<(), RestoreError> {
		let mut hashes = sha256::Hash::engine();
		for part in 0..self.manifest.parts {
			let name = Name::Part { epoch: self.epoch, snapshot: self.snapshot, part }.to_string();
			let missing = || self.damaged(vault, format!("{name} is missing"));
			let sealed = vault.read_sealed(&name).await?.ok_or_else(missing)?;
			hashes.input(&hash(&sealed));
			let plain = vault.unseal(&name, &sealed)?;
			let mut rest = plain.as_slice();
			while !rest.is_empty() {
				let piece = take_piece(&mut rest);
				let (as_of, bytes) =
					piece.ok_or_else(|| self.damaged(vault, format!("{name} cannot be understood")))?;
				rebuild.piece(as_of, bytes)?;
			}
			progress(part + 1, self.manifest.parts);
		}
		match hex(sha256::Hash::from_engine(hashes).as_byte_array()) == self.manifest.parts_hash {
			true => Ok(()),
			false => Err(self.damaged(vault, "the parts of the snapshot do not belong together".into())),
		}
	}

	/// Where the increments begin.
	pub fn begin(&self, vault: &Vault) -> Result<Loaded, RestoreError> {
		let chain = unhex(&self.manifest.chain).and_then(|bytes| bytes.try_into().ok());
		let chain = chain.ok_or_else(|| self.damaged(vault, "its manifest cannot be understood".into()))?;
		let Manifest { base, first_increment, at_ms, .. } = self.manifest;
		Ok(Loaded { last: base, increment: first_increment - 1, chain, end: End::Open, at_ms })
	}

	/// Takes in the increments that follow, as many as there are.
	///
	/// # Errors
	/// See [`RestoreError`]. What is damaged ends the copy there, and is no error.
	pub async fn load_increments(
		&self,
		vault: &Vault,
		rebuild: &mut Rebuild,
		mut so_far: Loaded,
	) -> Result<Loaded, RestoreError> {
		let begun = so_far.increment >= self.manifest.first_increment;
		let mut first = !begun;
		while so_far.end == End::Open {
			let number = so_far.increment + 1;
			let name = Name::Increment { epoch: self.epoch, number }.to_string();
			let Some(sealed) = vault.read_sealed(&name).await? else {
				if self.increments.range(number..).next().is_some() {
					so_far.end = End::Hole;
				}
				break;
			};
			let increment = vault.unseal(&name, &sealed).ok().and_then(|plain| Increment::from_bytes(&plain));
			let fits = increment.as_ref().is_some_and(|increment| {
				let follows = increment.first == so_far.last + 1 || (first && increment.first <= so_far.last + 1);
				increment.chain == so_far.chain && (follows || increment.kind == Kind::Sealed)
			});
			let Some(increment) = increment.filter(|_| fits) else {
				tracing::warn!(target: "inlet::backup", "{name} is damaged, or does not follow on the one before");
				so_far.end = End::Hole;
				break;
			};
			match increment.kind {
				Kind::Changes => {
					rebuild.changes(increment.first, &increment.bytes)?;
					so_far.last = increment.last;
				}
				Kind::Closed => so_far.end = End::Closed,
				Kind::Sealed => so_far.end = End::Sealed,
			}
			(so_far.increment, so_far.chain, so_far.at_ms) = (number, hash(&sealed), increment.at_ms);
			first = false;
		}
		Ok(so_far)
	}

	/// May the copy be older than what the node has said and signed? `None`: it is the last state.
	pub fn stale(&self, loaded: &Loaded) -> Option<Stale> {
		let stale = |why: String| Some(Stale(why));
		if let Some((when, left)) = self.newer.iter().find_map(|owner| Some((time_of(owner.at_ms), owner.left?))) {
			return stale(format!(
				"the node left this target at {when}, at increment {left}, and went on without it, elsewhere or with other targets"
			));
		}
		if let Some(owner) = self.newer.iter().find(|owner| !owner.restored && !owner.sync) {
			let when = time_of(owner.at_ms);
			return stale(format!("the node ran again after this copy was made (from {when}), and left nothing here"));
		}
		if loaded.end == End::Hole {
			return stale("some of its increments are missing or damaged".into());
		}
		if loaded.last < self.manifest.up_to {
			return stale("its increments end before the snapshot does".into());
		}
		let said = self.lease.as_ref().filter(|lease| lease.epoch == self.epoch).map_or(0, |lease| lease.increment);
		if loaded.increment < said {
			return stale(format!("it ends at increment {}, and the node said that it wrote {said}", loaded.increment));
		}
		match (self.manifest.sync, loaded.end) {
			(true, _) | (false, End::Closed) => None,
			(false, _) => stale(format!(
				"the node did not wait for this target and did not stop in good order: what it did after {} may be missing",
				time_of(loaded.at_ms)
			)),
		}
	}

	/// Ends the epoch: who still writes into it is stopped by this. `false` if it has just written on.
	///
	/// # Errors
	/// The target cannot be reached.
	pub async fn seal(&self, vault: &Vault, loaded: &Loaded) -> Result<bool, VaultError> {
		if matches!(loaded.end, End::Closed | End::Sealed) {
			return Ok(true);
		}
		let end = Increment {
			kind: Kind::Sealed,
			chain: loaded.chain,
			first: loaded.last + 1,
			last: loaded.last,
			at_ms: now_ms(),
			bytes: Vec::new(),
		};
		let name = Name::Increment { epoch: self.epoch, number: loaded.increment + 1 }.to_string();
		match vault.create(&name, &vault.seal(&name, &end.to_bytes())).await {
			Ok(()) => Ok(true),
			Err(VaultError::Exists { .. }) => Ok(false),
			Err(e) => Err(e),
		}
	}

	fn damaged(&self, vault: &Vault, why: String) -> RestoreError {
		RestoreError::Damaged { name: vault.name.clone(), why }
	}
}
