//! What the chain side keeps in the store: BDK's changesets and a few small rows.

use bdk_wallet::ChangeSet;
use inlet_storage::{NODE_NAMESPACE, Store, WalletStore};
use lightning::io::ErrorKind;
use lightning::util::persist::KVStore;
use std::future::Future;
use std::io;

/// Rows below the namespace of the node's own. The names are fixed for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folder {
	/// Packages to be broadcast until they are confirmed.
	Broadcast,
	/// Funding transactions that hold coins and are not broadcast yet.
	Funding,
	/// Refunds, by marker: at most one transaction each, ever.
	Refund,
	/// Splices with coins of ours, by their mark.
	Splice,
	/// Single rows about the wallet.
	Wallet,
}

impl Folder {
	fn name(self) -> &'static str {
		match self {
			Folder::Broadcast => "broadcast",
			Folder::Funding => "funding",
			Folder::Refund => "refund",
			Folder::Splice => "splice",
			Folder::Wallet => "wallet",
		}
	}
}

/// Changes take effect in the order of the calls and are durable after [`Keep::settled`]; there is nothing to await
/// with each, as the store ends the process if it cannot write.
#[derive(Clone, Debug)]
pub(super) struct Keep(pub(super) Store);

impl Keep {
	/// `None` means that there is no such row, an error that it cannot be read.
	pub(super) async fn read(&self, folder: Folder, key: &str) -> io::Result<Option<Vec<u8>>> {
		match KVStore::read(&self.0, NODE_NAMESPACE, folder.name(), key).await {
			Ok(value) => Ok(Some(value)),
			Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
			Err(e) => Err(io::Error::other(e.to_string())),
		}
	}

	pub(super) fn write(&self, folder: Folder, key: &str, value: Vec<u8>) {
		drop(KVStore::write(&self.0, NODE_NAMESPACE, folder.name(), key, value));
	}

	/// Causes no sync of its own: each of these removals can be done again.
	pub(super) fn remove(&self, folder: Folder, key: &str) {
		drop(KVStore::remove(&self.0, NODE_NAMESPACE, folder.name(), key, true));
	}

	/// All rows of a folder.
	pub(super) async fn all(&self, folder: Folder) -> io::Result<Vec<(String, Vec<u8>)>> {
		let keys = KVStore::list(&self.0, NODE_NAMESPACE, folder.name()).await;
		let mut rows = Vec::new();
		for key in keys.map_err(|e| io::Error::other(e.to_string()))? {
			if let Some(row) = self.read(folder, &key).await? {
				rows.push((key, row));
			}
		}
		Ok(rows)
	}

	pub(super) async fn load_wallet(&self) -> io::Result<ChangeSet> {
		WalletStore(self.0.clone()).load().await.map_err(|e| io::Error::other(e.to_string()))
	}

	pub(super) fn save_wallet(&self, changes: &ChangeSet) {
		drop(WalletStore(self.0.clone()).append(changes));
	}

	/// Resolves when all that was enqueued before the call is on this disk, and, in sync mode, on the backup's.
	pub(super) fn settled(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
		self.0.drain()
	}

	/// Resolves when all that was enqueued before the call is on this disk.
	pub(super) fn settled_here(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
		self.0.drain_here()
	}
}
