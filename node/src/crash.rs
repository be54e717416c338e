//! Crash points. A debug build kills itself, as a power cut would, at the point that `INLET_TEST_CRASH_AT` names: the tests
//! try every state of a sale and of an order this way, and the steps between them. A release build has none of it.
//!
//! A point is `sale.STATE.PHASE`, `order.STATE.PHASE` or `client.holding.PHASE` (a client for which a payment is held), for
//! the first such row that this process writes; the phases are `decided` (not yet written), `written` (durable, not yet acted
//! on) and `done` (acted on). Or it is the name of a place in the code, see [`reached`].

#[cfg(debug_assertions)]
pub use debug::{Points, Watched, reached, watched};
#[cfg(not(debug_assertions))]
pub use release::{Points, Watched, reached, watched};

#[cfg(not(debug_assertions))]
mod release {
	use inlet_lsp::book::Write;
	use inlet_storage::Store;

	/// Nothing.
	pub struct Points;

	impl Points {
		/// Nothing.
		pub fn of(_: &[Write]) -> Points {
			Points
		}

		/// Does nothing.
		pub fn reached(&self, _: &str) {}
	}

	/// Does nothing.
	pub fn reached(_: &str) {}

	/// The store itself.
	pub type Watched = Store;

	/// The store itself.
	pub fn watched(store: Store) -> Watched {
		store
	}
}

#[cfg(debug_assertions)]
mod debug {
	use inlet_lsp::book::Write;
	use inlet_storage::Store;
	use lightning::io::Error;
	use lightning::util::persist::{CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE, KVStore};
	use rustix::process::{Signal, getpid, kill_process};
	use std::collections::HashSet;
	use std::sync::{Arc, Mutex, OnceLock};

	/// The states that a step of the driver writes, if a crash is wanted at all.
	pub struct Points(Vec<String>);

	impl Points {
		/// Those of the rows that have a state.
		pub fn of(writes: &[Write]) -> Points {
			Points(if wanted().is_some() { writes.iter().filter_map(state).collect() } else { Vec::new() })
		}

		/// The step is in this phase.
		pub fn reached(&self, phase: &str) {
			for state in &self.0 {
				reached(&format!("{state}.{phase}"));
			}
		}
	}

	/// This place in the code is reached.
	pub fn reached(point: &str) {
		if is_wanted(point) {
			eprintln!("crashing at {point}");
			// Nothing is flushed, closed or said.
			kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
		}
	}

	fn is_wanted(point: &str) -> bool {
		wanted() == Some(point)
	}

	fn wanted() -> Option<&'static str> {
		static WANTED: OnceLock<Option<String>> = OnceLock::new();
		WANTED.get_or_init(|| std::env::var("INLET_TEST_CRASH_AT").ok()).as_deref()
	}

	/// `sale.opening`.
	fn state(write: &Write) -> Option<String> {
		let (kind, state) = match write {
			Write::Sale(sale) => ("sale", serde_json::to_value(&sale.state)),
			Write::Order(order) => ("order", serde_json::to_value(&order.state)),
			Write::Client(client) if !client.wake.held.is_empty() => return Some("client.holding".to_owned()),
			Write::Client(_) | Write::Ledger(_) | Write::Forget(_) | Write::Token(_) | Write::Books(_) => return None,
		};
		Some(format!("{kind}.{}", state.ok()?.get("is")?.as_str()?))
	}

	/// The store, as the channel monitors see it: with a point before a new channel's monitor is written
	/// (`funding.monitor.decided`, with all that LDK wrote before it on the disk) and one after (`funding.monitor.written`,
	/// before LDK hears of it).
	#[derive(Clone)]
	pub struct Watched {
		store: Store,
		/// Keys of the monitors that are there.
		known: Arc<Mutex<HashSet<String>>>,
	}

	/// The store, watched.
	pub fn watched(store: Store) -> Watched {
		Watched { store, known: Arc::default() }
	}

	impl Watched {
		fn is_new(&self, primary: &str, key: &str) -> bool {
			primary == CHANNEL_MONITOR_PERSISTENCE_PRIMARY_NAMESPACE
				&& self.known.lock().expect("not poisoned").insert(key.to_owned())
		}
	}

	impl KVStore for Watched {
		fn read(
			&self,
			primary: &str,
			secondary: &str,
			key: &str,
		) -> impl Future<Output = Result<Vec<u8>, Error>> + Send + 'static {
			self.is_new(primary, key);
			KVStore::read(&self.store, primary, secondary, key)
		}

		fn write(
			&self,
			primary: &str,
			secondary: &str,
			key: &str,
			value: Vec<u8>,
		) -> impl Future<Output = Result<(), Error>> + Send + 'static {
			let is_new = self.is_new(primary, key);
			let before = (is_new && is_wanted("funding.monitor.decided")).then(|| self.store.drain());
			let written = before.is_none().then(|| KVStore::write(&self.store, primary, secondary, key, value));
			async move {
				if let Some(before) = before {
					before.await;
					reached("funding.monitor.decided");
				}
				if let Some(written) = written {
					written.await?;
				}
				if is_new {
					reached("funding.monitor.written");
				}
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
			KVStore::remove(&self.store, primary, secondary, key, lazy)
		}

		fn list(
			&self,
			primary: &str,
			secondary: &str,
		) -> impl Future<Output = Result<Vec<String>, Error>> + Send + 'static {
			KVStore::list(&self.store, primary, secondary)
		}
	}
}
