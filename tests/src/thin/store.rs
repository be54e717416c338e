//! A store that forgets everything with the process, which is all that a thin node needs.

use lightning::chain::ChannelMonitorUpdateStatus;
use lightning::chain::chainmonitor::Persist;
use lightning::chain::channelmonitor::{ChannelMonitor, ChannelMonitorUpdate};
use lightning::io;
use lightning::sign::ecdsa::EcdsaChannelSigner;
use lightning::util::persist::{KVStore, MonitorName};
use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Key = (String, String, String);

/// LDK's key-value store, in memory.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<BTreeMap<Key, Vec<u8>>>>);

impl Memory {
	fn map(&self) -> MutexGuard<'_, BTreeMap<Key, Vec<u8>>> {
		self.0.lock().unwrap_or_else(PoisonError::into_inner)
	}
}

fn key(primary: &str, secondary: &str, name: &str) -> Key {
	(primary.to_owned(), secondary.to_owned(), name.to_owned())
}

impl KVStore for Memory {
	fn read(
		&self,
		primary: &str,
		secondary: &str,
		name: &str,
	) -> impl Future<Output = Result<Vec<u8>, io::Error>> + Send + 'static {
		let found = self.map().get(&key(primary, secondary, name)).cloned();
		ready(found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such key")))
	}

	fn write(
		&self,
		primary: &str,
		secondary: &str,
		name: &str,
		value: Vec<u8>,
	) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
		self.map().insert(key(primary, secondary, name), value);
		ready(Ok(()))
	}

	fn remove(
		&self,
		primary: &str,
		secondary: &str,
		name: &str,
		_: bool,
	) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
		self.map().remove(&key(primary, secondary, name));
		ready(Ok(()))
	}

	fn list(
		&self,
		primary: &str,
		secondary: &str,
	) -> impl Future<Output = Result<Vec<String>, io::Error>> + Send + 'static {
		let keys =
			self.map().keys().filter(|key| key.0 == primary && key.1 == secondary).map(|key| key.2.clone()).collect();
		ready(Ok(keys))
	}
}

/// Channel monitors live in the chain monitor only.
pub(super) struct NotKept;

impl<S: EcdsaChannelSigner> Persist<S> for NotKept {
	fn persist_new_channel(&self, _: MonitorName, _: &ChannelMonitor<S>) -> ChannelMonitorUpdateStatus {
		ChannelMonitorUpdateStatus::Completed
	}

	fn update_persisted_channel(
		&self,
		_: MonitorName,
		_: Option<&ChannelMonitorUpdate>,
		_: &ChannelMonitor<S>,
	) -> ChannelMonitorUpdateStatus {
		ChannelMonitorUpdateStatus::Completed
	}

	fn archive_persisted_channel(&self, _: MonitorName) {}
}
