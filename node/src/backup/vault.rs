//! A target with its key: what is read and written here is sealed.

use super::Access;
use super::names::MARKER;
use super::seal::{NotOurs, Sealer, random_id};
use super::target::{self, Target, TargetError};
use crate::config::BackupPlace;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

const FORMAT: &str = "inlet backup 1";

/// A target that was initialised, and the key to what is on it.
#[derive(Clone)]
pub struct Vault {
	/// The place, without its login.
	pub name: String,
	/// The target's id: random, made by `inlet backup init`.
	pub id: String,
	/// Where it is.
	pub target: Arc<dyn Target>,
	/// The same, as the configuration says it.
	pub(super) place: BackupPlace,
	sealer: Sealer,
}

/// Why a vault did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VaultError {
	/// Wait and try again; if it stays, see to the disk, the cable, the network or the login.
	#[error("the backup target {name} cannot be reached: {why}")]
	Away {
		/// Which target.
		name: String,
		/// Why.
		why: String,
	},
	/// Initialise it, or mount the disk.
	#[error("{name} is no backup target yet: mount the disk that it is on, or run: inlet backup init")]
	Blank {
		/// Which target.
		name: String,
	},
	/// Use the seed that it was made with, or a newer version.
	#[error("{object} on {name} cannot be opened: {why}")]
	NotOurs {
		/// Which target.
		name: String,
		/// Which object.
		object: String,
		/// Why.
		why: String,
	},
	/// Somebody else wrote this object: look who.
	#[error("{object} is on {name} already")]
	Exists {
		/// Which target.
		name: String,
		/// Which object.
		object: String,
	},
}

impl Vault {
	/// Reaches a target that was initialised.
	///
	/// # Errors
	/// See [`VaultError`].
	pub async fn open(place: &BackupPlace, access: impl Into<Access<'_>>) -> Result<Vault, VaultError> {
		let Access { key, way } = access.into();
		let name = place.to_string();
		let away = |e: TargetError| VaultError::Away { name: name.clone(), why: e.to_string() };
		let target = target::connect(place, way).map_err(away)?;
		let marker = target.read(MARKER).await.map_err(away)?;
		let Some(marker) = marker else { return Err(VaultError::Blank { name }) };
		let text = String::from_utf8_lossy(&marker);
		let mut lines = text.lines();
		let refused = |why: &str| {
			let why = why.to_owned();
			VaultError::NotOurs { name: name.clone(), object: MARKER.to_owned(), why }
		};
		if lines.next() != Some(FORMAT) {
			return Err(refused("it was made by another program, or by a newer version of this one"));
		}
		let id = lines.next().filter(|id| id.len() == 32).ok_or_else(|| refused("it is damaged"))?.to_owned();
		let sealer = Sealer::new(key, &id);
		let check = lines.next().and_then(unhex).ok_or_else(|| refused("it is damaged"))?;
		sealer.open(MARKER, &check).map_err(|e: NotOurs| refused(&e.to_string()))?;
		Ok(Vault { sealer, name, id, target, place: place.clone() })
	}

	/// Makes a target of a place; one that is ours already stays as it is.
	///
	/// # Errors
	/// See [`VaultError`].
	pub async fn init(place: &BackupPlace, access: impl Into<Access<'_>>) -> Result<Vault, VaultError> {
		let access @ Access { key, way } = access.into();
		match Vault::open(place, access).await {
			Err(VaultError::Blank { .. }) => {}
			opened => return opened,
		}
		let name = place.to_string();
		let away = |e: TargetError| VaultError::Away { name: name.clone(), why: e.to_string() };
		let target = target::connect(place, way).map_err(away)?;
		target.prepare().await.map_err(away)?;
		let id = random_id();
		let check = Sealer::new(key, &id).seal(MARKER, b"ours");
		let text = format!("{FORMAT}\n{id}\n{}\n", hex(&check));
		match target.create(MARKER, text.as_bytes()).await {
			Ok(()) | Err(TargetError::Exists) => Vault::open(place, access).await,
			Err(e) => Err(away(e)),
		}
	}

	/// The names of all objects.
	///
	/// # Errors
	/// See [`VaultError`].
	pub async fn list(&self) -> Result<Vec<String>, VaultError> {
		self.target.list().await.map_err(|e| self.away(&e))
	}

	/// Reads and opens; `None` if there is no such object.
	///
	/// # Errors
	/// See [`VaultError`].
	pub async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, VaultError> {
		let Some(sealed) = self.read_sealed(name).await? else { return Ok(None) };
		self.unseal(name, &sealed).map(Some)
	}

	/// Reads, as it is; `None` if there is no such object.
	///
	/// # Errors
	/// [`VaultError::Away`].
	pub async fn read_sealed(&self, name: &str) -> Result<Option<Vec<u8>>, VaultError> {
		self.target.read(name).await.map_err(|e| self.away(&e))
	}

	/// What these bytes say, as an object of this name.
	///
	/// # Errors
	/// [`VaultError::NotOurs`].
	pub fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
		self.sealer.open(name, sealed).map_err(|e| self.not_ours(name, &e))
	}

	/// Seals.
	pub fn seal(&self, name: &str, plain: &[u8]) -> Vec<u8> {
		self.sealer.seal(name, plain)
	}

	/// [`Vault::read`], of JSON.
	///
	/// # Errors
	/// See [`VaultError`].
	pub async fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, VaultError> {
		let Some(plain) = self.read(name).await? else { return Ok(None) };
		serde_json::from_slice(&plain).map(Some).map_err(|e| self.not_ours(name, &e))
	}

	/// Writes what was sealed as a new object. That it is there already, with the same bytes, is the end of an earlier attempt
	/// of ours.
	///
	/// # Errors
	/// [`VaultError::Exists`] if there is another, and the others.
	pub async fn create(&self, name: &str, sealed: &[u8]) -> Result<(), VaultError> {
		match self.target.create(name, sealed).await {
			Ok(()) => Ok(()),
			Err(TargetError::Exists) => match self.target.read(name).await {
				Ok(Some(there)) if there == sealed => Ok(()),
				Ok(_) => Err(VaultError::Exists { name: self.name.clone(), object: name.to_owned() }),
				Err(e) => Err(self.away(&e)),
			},
			Err(e) => Err(self.away(&e)),
		}
	}

	/// Seals and writes JSON as a new object.
	///
	/// # Errors
	/// See [`Vault::create`].
	pub async fn create_json(&self, name: &str, value: &(impl Serialize + Sync)) -> Result<(), VaultError> {
		self.create(name, &self.seal(name, &json(value))).await
	}

	/// Seals and writes JSON in the place of what is there.
	///
	/// # Errors
	/// See [`VaultError`].
	pub async fn replace_json(&self, name: &str, value: &(impl Serialize + Sync)) -> Result<(), VaultError> {
		let sealed = self.seal(name, &json(value));
		self.target.replace(name, &sealed).await.map_err(|e| self.away(&e))
	}

	/// Removes an object.
	///
	/// # Errors
	/// See [`VaultError`].
	pub async fn remove(&self, name: &str) -> Result<(), VaultError> {
		self.target.remove(name).await.map_err(|e| self.away(&e))
	}

	fn away(&self, e: &TargetError) -> VaultError {
		VaultError::Away { name: self.name.clone(), why: e.to_string() }
	}

	pub(super) fn not_ours(&self, object: &str, why: &dyn std::fmt::Display) -> VaultError {
		VaultError::NotOurs { name: self.name.clone(), object: object.to_owned(), why: why.to_string() }
	}
}

impl std::fmt::Debug for Vault {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		f.debug_struct("Vault").field("name", &self.name).finish_non_exhaustive()
	}
}

pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
	serde_json::to_vec(value).expect("plain data with strings for keys always has a JSON form")
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
	let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
	u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn hex(bytes: &[u8]) -> String {
	bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
	let pairs = text.as_bytes().chunks(2);
	pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
