//! A store that forgets: for measuring the node at the other end without this one's disk.

use ldk_node::lightning::io;
use ldk_node::lightning::util::persist::{KVStore, KVStoreSync};
use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Key = (String, String, String);
type Answer<T> = Pin<Box<dyn Future<Output = Result<T, io::Error>> + Send + 'static>>;

/// Keys and values, as long as the process lives.
#[derive(Debug, Default)]
pub struct MemoryStore {
	values: Mutex<BTreeMap<Key, Vec<u8>>>,
}

impl MemoryStore {
	fn values(&self) -> MutexGuard<'_, BTreeMap<Key, Vec<u8>>> {
		self.values.lock().unwrap_or_else(PoisonError::into_inner)
	}
}

fn key(primary: &str, secondary: &str, key: &str) -> Key {
	(primary.to_owned(), secondary.to_owned(), key.to_owned())
}

impl KVStoreSync for MemoryStore {
	fn read(&self, primary: &str, secondary: &str, name: &str) -> Result<Vec<u8>, io::Error> {
		let value = self.values().get(&key(primary, secondary, name)).cloned();
		value.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such key"))
	}

	fn write(&self, primary: &str, secondary: &str, name: &str, value: Vec<u8>) -> Result<(), io::Error> {
		self.values().insert(key(primary, secondary, name), value);
		Ok(())
	}

	fn remove(&self, primary: &str, secondary: &str, name: &str, _lazy: bool) -> Result<(), io::Error> {
		self.values().remove(&key(primary, secondary, name));
		Ok(())
	}

	fn list(&self, primary: &str, secondary: &str) -> Result<Vec<String>, io::Error> {
		let values = self.values();
		let here = values.keys().filter(|key| key.0 == primary && key.1 == secondary);
		Ok(here.map(|key| key.2.clone()).collect())
	}
}

impl KVStore for MemoryStore {
	fn read(&self, primary: &str, secondary: &str, name: &str) -> Answer<Vec<u8>> {
		Box::pin(ready(KVStoreSync::read(self, primary, secondary, name)))
	}

	fn write(&self, primary: &str, secondary: &str, name: &str, value: Vec<u8>) -> Answer<()> {
		Box::pin(ready(KVStoreSync::write(self, primary, secondary, name, value)))
	}

	fn remove(&self, primary: &str, secondary: &str, name: &str, lazy: bool) -> Answer<()> {
		Box::pin(ready(KVStoreSync::remove(self, primary, secondary, name, lazy)))
	}

	fn list(&self, primary: &str, secondary: &str) -> Answer<Vec<String>> {
		Box::pin(ready(KVStoreSync::list(self, primary, secondary)))
	}
}
