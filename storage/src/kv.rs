//! LDK's key-value store.
//!
//! The contract ([`KVStore`], LDK 0.3): `write` and `remove` take their place in the order when they are *called*;
//! values of one key are seen in that order and never go back; a future that has resolved `Ok` is durable; `NotFound`
//! means that there is no value, and nothing else does. What we add: the order holds across keys and tables, and what
//! is on the disk is a prefix of it. LDK's loader needs that: it panics if a monitor's update N is missing and N+1 is
//! there.

use crate::db::{Connection, Result as Sql};
use crate::error::ReadError;
use crate::queue::{Change, Op, Sees};
use crate::stats::Purpose;
use crate::store::Store;
use crate::table::{self, Row};
use lightning::io::{Error, ErrorKind};
use lightning::util::persist::{
	ARCHIVED_CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE, CHANNEL_MANAGER_PERSISTENCE_KEY,
	CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE, CHANNEL_MONITOR_UPDATE_PERSISTENCE_PRIMARY_NAMESPACE,
	KVSTORE_NAMESPACE_KEY_ALPHABET, KVSTORE_NAMESPACE_KEY_MAX_LEN, KVStore, MigratableKVStore,
	NETWORK_GRAPH_PERSISTENCE_KEY, SCORER_PERSISTENCE_KEY,
};
use std::future::Future;

/// The primary namespace of the node's own rows (peers, payments, addresses, ...). LDK does not use it.
pub const NODE_NAMESPACE: &str = "inlet";

/// A key with its namespaces, as LDK allows them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
	primary: String,
	secondary: String,
	key: String,
}

impl Key {
	fn new(primary: &str, secondary: &str, key: &str) -> Result<Key, Error> {
		let allowed = |s: &str| {
			s.len() <= KVSTORE_NAMESPACE_KEY_MAX_LEN && s.chars().all(|c| KVSTORE_NAMESPACE_KEY_ALPHABET.contains(c))
		};
		if key.is_empty() || ![primary, secondary, key].into_iter().all(allowed) {
			return Err(Error::new(ErrorKind::InvalidInput, format!("not a key: {primary:?}/{secondary:?}/{key:?}")));
		}
		if primary.is_empty() && !secondary.is_empty() {
			return Err(Error::new(ErrorKind::InvalidInput, format!("{secondary:?} has no primary namespace")));
		}
		Ok(Key { primary: primary.into(), secondary: secondary.into(), key: key.into() })
	}

	/// A key that was checked when it was written.
	pub fn of(primary: String, secondary: String, key: String) -> Key {
		Key { primary, secondary, key }
	}

	/// All of it in one piece.
	pub fn joined(&self) -> String {
		format!("{}/{}/{}", self.primary, self.secondary, self.key)
	}

	/// From what [`joined`](Key::joined) gave.
	pub fn from_joined(joined: &str) -> Option<Key> {
		let mut parts = joined.splitn(3, '/').map(str::to_owned);
		Some(Key::of(parts.next()?, parts.next()?, parts.next()?))
	}

	/// Not above any key of this namespace.
	pub fn lowest(primary: &str, secondary: &str) -> Key {
		Key::of(primary.into(), secondary.into(), String::new())
	}

	/// Is it in this namespace?
	pub fn is_in(&self, primary: &str, secondary: &str) -> bool {
		(self.primary.as_str(), self.secondary.as_str()) == (primary, secondary)
	}

	/// The node's own rows are read in pages, and are small: they have no place in the log of values.
	pub fn is_nodes_own(&self) -> bool {
		self.primary == NODE_NAMESPACE
	}

	/// The channel manager: its writer does not wait for the disk.
	pub fn is_written_soon(&self) -> bool {
		self.purpose() == Purpose::Manager
	}

	/// Written once and then removed: updates of monitors have a key each.
	pub fn is_written_once(&self) -> bool {
		self.primary == CHANNEL_MONITOR_UPDATE_PERSISTENCE_PRIMARY_NAMESPACE
	}

	/// The network graph and the scorer: large, and written every few minutes at most. They are caches, and never come in
	/// front of a payment (`rare.rs`).
	pub fn is_written_rarely(&self) -> bool {
		matches!(self.purpose(), Purpose::Graph | Purpose::Scorer)
	}

	/// A channel's monitor, whole.
	pub fn is_monitor(&self) -> bool {
		self.primary == CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE
	}

	/// The manager, the monitors, their updates and their archive: what must not be old.
	pub fn is_of_channels(&self) -> bool {
		matches!(self.purpose(), Purpose::Manager | Purpose::Monitors)
	}

	pub fn len(&self) -> u64 {
		(self.primary.len() + self.secondary.len() + self.key.len()) as u64
	}

	/// Primary namespace, secondary namespace, key.
	pub fn parts(&self) -> [&str; 3] {
		[&self.primary, &self.secondary, &self.key]
	}

	pub fn purpose(&self) -> Purpose {
		match (self.primary.as_str(), self.key.as_str()) {
			("", CHANNEL_MANAGER_PERSISTENCE_KEY) => Purpose::Manager,
			("", NETWORK_GRAPH_PERSISTENCE_KEY) => Purpose::Graph,
			("", SCORER_PERSISTENCE_KEY) => Purpose::Scorer,
			(
				CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE
				| CHANNEL_MONITOR_UPDATE_PERSISTENCE_PRIMARY_NAMESPACE
				| ARCHIVED_CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE,
				_,
			) => Purpose::Monitors,
			_ => Purpose::Other,
		}
	}
}

impl Store {
	/// Writes a row of the node's own ([`node_rows`](Store::node_rows)); durable when it returns.
	///
	/// # Errors
	/// The store has died or was closed, or the names cannot be.
	pub async fn put_node_row(&self, table: &str, key: &str, value: Vec<u8>) -> std::io::Result<()> {
		self.write(NODE_NAMESPACE, table, key, value).await.map_err(Into::into)
	}

	/// Removes such a row, if it is there; durable when it returns.
	///
	/// # Errors
	/// As [`put_node_row`](Store::put_node_row).
	pub async fn remove_node_row(&self, table: &str, key: &str) -> std::io::Result<()> {
		self.remove(NODE_NAMESPACE, table, key, false).await.map_err(Into::into)
	}
}

impl KVStore for Store {
	fn read(
		&self,
		primary: &str,
		secondary: &str,
		key: &str,
	) -> impl Future<Output = Result<Vec<u8>, Error>> + Send + 'static {
		let asked = Key::new(primary, secondary, key).map(|key| {
			let name = key.clone();
			let sees = if key.is_written_soon() || key.is_written_rarely() { Sees::Soon } else { Sees::Others };
			(name, self.ask_values(sees, move |conn, values| values.get(conn, &key)))
		});
		async move {
			let (key, asked) = asked?;
			let missing = || Error::new(ErrorKind::NotFound, format!("no value for {key:?}"));
			asked.await.map_err(to_io)?.ok_or_else(missing)
		}
	}

	/// The channel manager's future resolves when it is in the queue: LDK's next step is to enqueue the monitor updates
	/// that waited for it, and they are never durable without it (`docs/store.md`). So does that of the graph and of the
	/// scorer, which are caches and are written when nothing else is: LDK's loop waits for all three together.
	fn write(
		&self,
		primary: &str,
		secondary: &str,
		key: &str,
		value: Vec<u8>,
	) -> impl Future<Output = Result<(), Error>> + Send + 'static {
		let queued = Key::new(primary, secondary, key).map(|key| {
			if key.is_written_soon() {
				return Queued::InOrder(self.push(Op::Soon(Change::Put { key, value })));
			}
			if key.is_written_rarely() {
				return Queued::InOrder(self.push(Op::Idle(key, value)));
			}
			Queued::Waits(self.change(Change::Put { key, value }))
		});
		async move {
			match queued? {
				Queued::Waits(wait) => wait.await.map_err(|_| not_acknowledged()),
				Queued::InOrder(taken) => taken.then_some(()).ok_or_else(not_acknowledged),
			}
		}
	}

	/// A lazy remove has its place in the order like any other, but causes no sync: it becomes durable with the next
	/// change that does (or with [`drain`](Store::drain), or after [`MAX_LAZY`](crate::MAX_LAZY) of its kind), and its
	/// future resolves at once. Whoever reads afterwards does not see the value any more.
	fn remove(
		&self,
		primary: &str,
		secondary: &str,
		key: &str,
		lazy: bool,
	) -> impl Future<Output = Result<(), Error>> + Send + 'static {
		let queued = Key::new(primary, secondary, key).map(|key| {
			let change = Change::Remove { key };
			if lazy {
				self.push(Op::Lazy(change));
				return None;
			}
			Some(self.change(change))
		});
		async move {
			match queued? {
				Some(wait) => wait.await.map_err(|_| not_acknowledged()),
				None => Ok(()),
			}
		}
	}

	/// In the order of the keys.
	fn list(
		&self,
		primary: &str,
		secondary: &str,
	) -> impl Future<Output = Result<Vec<String>, Error>> + Send + 'static {
		let (primary, secondary) = (primary.to_owned(), secondary.to_owned());
		let asked = self.ask_values(Sees::Soon, move |conn, values| values.list(conn, &primary, &secondary));
		async move { asked.await.map_err(to_io) }
	}
}

impl MigratableKVStore for Store {
	fn list_all_keys(&self) -> impl Future<Output = Result<Vec<(String, String, String)>, Error>> + Send + 'static {
		let asked = self.ask_values(Sees::Soon, |conn, values| {
			let keys = values.all_keys(conn)?.into_iter().map(|key| (key.primary, key.secondary, key.key));
			Ok(keys.collect())
		});
		async move { asked.await.map_err(to_io) }
	}
}

/// The store for whom it is enough that a write is on this disk: it does not wait for a copy elsewhere.
#[derive(Clone)]
pub struct OnThisDisk(pub Store);

impl KVStore for OnThisDisk {
	fn read(
		&self,
		primary: &str,
		secondary: &str,
		key: &str,
	) -> impl Future<Output = Result<Vec<u8>, Error>> + Send + 'static {
		self.0.read(primary, secondary, key)
	}

	fn write(
		&self,
		primary: &str,
		secondary: &str,
		key: &str,
		value: Vec<u8>,
	) -> impl Future<Output = Result<(), Error>> + Send + 'static {
		let key = Key::new(primary, secondary, key);
		let here = key.map(|key| {
			drop(self.0.change(Change::Put { key, value }));
			self.0.drain_here()
		});
		async move {
			here?.await;
			Ok(())
		}
	}

	fn remove(
		&self,
		primary: &str,
		secondary: &str,
		key: &str,
		lazy: bool,
	) -> impl Future<Output = Result<(), Error>> + Send + 'static {
		let removed = self.0.remove(primary, secondary, key, true);
		let here = (!lazy).then(|| self.0.drain_here());
		async move {
			removed.await?;
			if let Some(here) = here {
				here.await;
			}
			Ok(())
		}
	}

	fn list(
		&self,
		primary: &str,
		secondary: &str,
	) -> impl Future<Output = Result<Vec<String>, Error>> + Send + 'static {
		self.0.list(primary, secondary)
	}
}

/// How a write goes on.
enum Queued {
	Waits(tokio::sync::oneshot::Receiver<()>),
	/// Was it taken in?
	InOrder(bool),
}

/// Inserts or replaces one of the node's own values.
pub(crate) fn put(conn: &Connection, key: &Key, value: Vec<u8>) -> Sql<()> {
	table::put_row(conn, key, 0, &Row { crc: crc32fast::hash(&value), base: None, value })
}

fn to_io(e: ReadError) -> Error {
	let kind = match e {
		ReadError::Damaged(_) => ErrorKind::InvalidData,
		ReadError::Disk(_) | ReadError::Closed => ErrorKind::Other,
	};
	Error::new(kind, e)
}

fn not_acknowledged() -> Error {
	Error::new(ErrorKind::Other, ReadError::Closed)
}
