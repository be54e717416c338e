//! LDK's key-value store.
//!
//! The contract ([`KVStore`], LDK 0.3): `write` and `remove` take their place in the order when they are *called*;
//! values of one key are seen in that order and never go back; a future that has resolved `Ok` is durable; `NotFound`
//! means that there is no value, and nothing else does. What we add: the order holds across keys and tables, and what
//! is on the disk is a prefix of it. LDK's loader needs that: it panics if a monitor's update N is missing and N+1 is
//! there.

use crate::error::ReadError;
use crate::queue::{Change, Op};
use crate::stats::Purpose;
use crate::store::Store;
use lightning::io::{Error, ErrorKind};
use lightning::util::persist::{
	ARCHIVED_CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE, CHANNEL_MANAGER_PERSISTENCE_KEY,
	CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE, CHANNEL_MONITOR_UPDATE_PERSISTENCE_PRIMARY_NAMESPACE,
	KVSTORE_NAMESPACE_KEY_ALPHABET, KVSTORE_NAMESPACE_KEY_MAX_LEN, KVStore, MigratableKVStore,
	NETWORK_GRAPH_PERSISTENCE_KEY, SCORER_PERSISTENCE_KEY,
};
use rusqlite::{Connection, OptionalExtension, Result as Sql, params};
use std::future::Future;

/// The primary namespace of the node's own rows (peers, payments, addresses, ...). LDK does not use it.
pub const NODE_NAMESPACE: &str = "inlet";

/// A key with its namespaces, as LDK allows them.
#[derive(Clone, Debug)]
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

	pub fn len(&self) -> u64 {
		(self.primary.len() + self.secondary.len() + self.key.len()) as u64
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

impl KVStore for Store {
	fn read(
		&self,
		primary: &str,
		secondary: &str,
		key: &str,
	) -> impl Future<Output = Result<Vec<u8>, Error>> + Send + 'static {
		let asked = Key::new(primary, secondary, key).map(|key| {
			let name = key.clone();
			(name, self.ask(move |conn| get(conn, &key)))
		});
		async move {
			let (key, asked) = asked?;
			let missing = || Error::new(ErrorKind::NotFound, format!("no value for {key:?}"));
			asked.await.map_err(to_io)?.ok_or_else(missing)
		}
	}

	fn write(
		&self,
		primary: &str,
		secondary: &str,
		key: &str,
		value: Vec<u8>,
	) -> impl Future<Output = Result<(), Error>> + Send + 'static {
		let queued = Key::new(primary, secondary, key).map(|key| self.change(Change::Put { key, value }));
		async move { queued?.await.map_err(|_| not_acknowledged()) }
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
		let asked = self.ask(move |conn| {
			let mut select =
				conn.prepare_cached("SELECT key FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 ORDER BY key")?;
			let keys = select.query_map([primary, secondary], |row| row.get(0))?.collect::<Sql<_>>()?;
			Ok(keys)
		});
		async move { asked.await.map_err(to_io) }
	}
}

impl MigratableKVStore for Store {
	fn list_all_keys(&self) -> impl Future<Output = Result<Vec<(String, String, String)>, Error>> + Send + 'static {
		let asked = self.ask(|conn| {
			let mut select = conn.prepare("SELECT primary_ns, secondary_ns, key FROM kv")?;
			let keys = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<Sql<_>>()?;
			Ok(keys)
		});
		async move { asked.await.map_err(to_io) }
	}
}

/// Inserts or replaces a value.
pub(crate) fn put(conn: &Connection, key: &Key, value: &[u8]) -> Sql<()> {
	conn.prepare_cached(
		"INSERT INTO kv (primary_ns, secondary_ns, key, crc, value) VALUES (?1, ?2, ?3, ?4, ?5)
		ON CONFLICT DO UPDATE SET crc = excluded.crc, value = excluded.value",
	)?
	.execute(params![key.primary, key.secondary, key.key, crc32fast::hash(value), value])
	.map(drop)
}

/// Makes sure that there is no value.
pub(crate) fn remove(conn: &Connection, key: &Key) -> Sql<()> {
	conn.prepare_cached("DELETE FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 AND key = ?3")?
		.execute(params![key.primary, key.secondary, key.key])
		.map(drop)
}

/// The value, `None` if there is none.
fn get(conn: &Connection, key: &Key) -> Result<Option<Vec<u8>>, ReadError> {
	let row: Option<(u32, Vec<u8>)> = conn
		.prepare_cached("SELECT crc, value FROM kv WHERE primary_ns = ?1 AND secondary_ns = ?2 AND key = ?3")?
		.query_row(params![key.primary, key.secondary, key.key], |row| Ok((row.get(0)?, row.get(1)?)))
		.optional()?;
	let Some((crc, value)) = row else { return Ok(None) };
	if crc32fast::hash(&value) != crc {
		return Err(ReadError::Damaged(format!("the value of {key:?} is not what was written")));
	}
	Ok(Some(value))
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
