//! All values as plain files, as `lightning-persister`'s `FilesystemStore` keeps them: nobody is locked in.

use crate::store::Store;
use lightning::util::persist::{KVStore, MigratableKVStore};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

impl Store {
	/// Writes every value of LDK's, and the node's own rows, to files in `dir`, which is made and must not exist: namespaces are
	/// directories, keys are names (`FilesystemStore`, version 1). Modes are 0700 and 0600; all is synced. Gives how many there
	/// are. The book and the wallet's change sets have no keys, and are not among them: the wallet is found from the seed.
	///
	/// # Errors
	/// `dir` is there, or cannot be written; or a value cannot be read. What was written so far is left.
	pub async fn export(&self, dir: &Path) -> io::Result<usize> {
		let keys = self.list_all_keys().await.map_err(io::Error::other)?;
		let private = |dir: &Path| DirBuilder::new().mode(0o700).create(dir);
		private(dir)?;
		for (primary, secondary, key) in &keys {
			let value = KVStore::read(self, primary, secondary, key).await.map_err(io::Error::other)?;
			let mut place = dir.to_owned();
			for namespace in [primary, secondary] {
				if !namespace.is_empty() {
					place.push(namespace);
					match private(&place) {
						Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
						_ => {}
					}
				}
			}
			let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(place.join(key))?;
			file.write_all(&value)?;
			file.sync_all()?;
			File::open(&place)?.sync_all()?;
		}
		File::open(dir)?.sync_all()?;
		Ok(keys.len())
	}

	/// Reads every value, one after another, with what else is to be done in between: how many there are, and which of them are
	/// damaged. One that is removed meanwhile is none.
	///
	/// # Errors
	/// Nothing can be read.
	pub async fn verify(&self) -> io::Result<(usize, Vec<String>)> {
		let keys = self.list_all_keys().await.map_err(io::Error::other)?;
		let mut complaints = Vec::new();
		for (primary, secondary, key) in &keys {
			match KVStore::read(self, primary, secondary, key).await {
				Err(e) if e.kind() == lightning::io::ErrorKind::InvalidData => complaints.push(e.to_string()),
				Err(e) if e.kind() != lightning::io::ErrorKind::NotFound => return Err(io::Error::other(e)),
				_ => {}
			}
		}
		Ok((keys.len(), complaints))
	}
}
