//! BDK's change sets: appended as they come, merged when there are many.

use crate::book::{from_json, sql_int, to_json};
use crate::db::{Connection, Result as Sql, params};
use crate::error::ReadError;
use crate::queue::Change;
use crate::store::{Store, never_if_dropped};
use bdk_wallet::chain::Merge;
use bdk_wallet::{AsyncWalletPersister, ChangeSet};
use std::future::Future;
use std::pin::Pin;

/// Change sets from which on they are merged into one when the wallet is loaded. There is about one for a block.
pub const COMPACT_ABOVE: usize = 64;

/// BDK's persister: one wallet, in a store.
#[derive(Clone, Debug)]
pub struct WalletStore(
	/// The store.
	pub Store,
);

impl WalletStore {
	/// Enqueues a change set, now, for callers that cannot wait (LDK's `SignerProvider` is not async). The future
	/// resolves when it is durable, and need not be polled; never, if the store has died or was closed.
	pub fn append(&self, changes: &ChangeSet) -> impl Future<Output = ()> + Send + 'static + use<> {
		let wait = (!changes.is_empty()).then(|| self.0.change(Change::WalletAppend(to_json(changes))));
		async move {
			if let Some(wait) = wait {
				never_if_dropped(wait).await;
			}
		}
	}

	/// All that was ever appended, merged; empty for a new wallet.
	pub async fn load(&self) -> Result<ChangeSet, ReadError> {
		let (merged, rows, last) = self.0.ask(load).await?;
		if rows > COMPACT_ABOVE {
			// Appended since: stays, because it has a greater number.
			drop(self.0.change(Change::WalletReplace(last, to_json(&merged))));
		}
		Ok(merged)
	}
}

impl AsyncWalletPersister for WalletStore {
	type Error = ReadError;

	fn initialize<'a>(
		persister: &'a mut Self,
	) -> Pin<Box<dyn Future<Output = Result<ChangeSet, ReadError>> + Send + 'a>>
	where
		Self: 'a,
	{
		Box::pin(persister.load())
	}

	/// Durable when it returns `Ok`.
	fn persist<'a>(
		persister: &'a mut Self,
		changes: &'a ChangeSet,
	) -> Pin<Box<dyn Future<Output = Result<(), ReadError>> + Send + 'a>>
	where
		Self: 'a,
	{
		let wait = persister.0.change(Change::WalletAppend(to_json(changes)));
		Box::pin(async move { wait.await.map_err(|_| ReadError::Closed) })
	}
}

/// Adds a change set behind the last.
pub(crate) fn append(conn: &Connection, json: &str) -> Sql<()> {
	conn.prepare_cached("INSERT INTO wallet (seq, crc, json) SELECT coalesce(max(seq), 0) + 1, ?1, ?2 FROM wallet")?
		.execute(params![crc32fast::hash(json.as_bytes()), json])
}

/// Puts the merged change sets up to this number in their place.
pub(crate) fn replace(conn: &Connection, up_to: i64, json: &str) -> Sql<()> {
	conn.execute("DELETE FROM wallet WHERE seq <= ?1", [up_to])?;
	conn.execute(
		"INSERT INTO wallet (seq, crc, json) VALUES (?1, ?2, ?3)",
		params![up_to, crc32fast::hash(json.as_bytes()), json],
	)
}

/// The number of the last change set, and all of them merged, as JSON; `None` if there are none.
pub(crate) fn merged(conn: &Connection) -> Result<Option<(i64, String)>, ReadError> {
	let (merged, rows, last) = load(conn)?;
	Ok((rows > 0).then(|| (last, to_json(&merged))))
}

/// The merged change sets, how many they were, and the number of the last.
fn load(conn: &Connection) -> Result<(ChangeSet, usize, i64), ReadError> {
	let mut select = conn.prepare("SELECT crc, json, seq FROM wallet ORDER BY seq")?;
	let mut found = select.query([])?;
	let (mut merged, mut rows, mut last) = (ChangeSet::default(), 0, sql_int(0));
	while let Some(row) = found.next()? {
		merged.merge(from_json(row.get(0)?, &row.get::<_, String>(1)?)?);
		last = row.get(2)?;
		rows += 1;
	}
	Ok((merged, rows, last))
}
