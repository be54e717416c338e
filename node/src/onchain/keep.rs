//! What the chain side keeps: BDK's changesets and a few small rows. A seam, so that tests can break the disk.

use bdk_wallet::ChangeSet;
use std::future::Future;
use std::io;
use std::pin::Pin;

/// A durable read or write.
pub(crate) type Pending<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Rows below the key/value store's namespace `inlet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Folder {
	/// Packages to be broadcast until they are confirmed.
	Broadcast,
	/// Funding transactions that hold coins and are not broadcast yet.
	Funding,
	/// Refunds, by marker: at most one transaction each, ever.
	Refund,
	/// Single rows about the wallet.
	Wallet,
}

impl Folder {
	/// Its name in the store; fixed for ever.
	pub(crate) fn name(self) -> &'static str {
		match self {
			Folder::Broadcast => "broadcast",
			Folder::Funding => "funding",
			Folder::Refund => "refund",
			Folder::Wallet => "wallet",
		}
	}
}

/// Writes and removals take effect in the order of the calls, whether or not their futures are awaited; a future
/// resolves when its change is durable.
pub(crate) trait Keep: Send + Sync + 'static {
	fn read(&self, folder: Folder, key: &str) -> Pending<Option<Vec<u8>>>;
	fn write(&self, folder: Folder, key: &str, value: Vec<u8>) -> Pending<()>;
	fn remove(&self, folder: Folder, key: &str) -> Pending<()>;
	fn list(&self, folder: Folder) -> Pending<Vec<String>>;
	fn load_wallet(&self) -> Pending<ChangeSet>;
	fn save_wallet(&self, changes: ChangeSet) -> Pending<()>;
}
