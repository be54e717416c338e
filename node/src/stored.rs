//! The store that the configuration names, for commands that work while no node runs.

use crate::config::{Place, StoreBackend, StoreConfig};
use crate::run::STORE_FILE;
use crate::run::standby::holder;
use anyhow::bail;
use inlet_storage::{Patience, Store};

/// Opens it, wherever it is; with the server's lease, if it is on one, so that no node leads meanwhile. To be called with the data
/// directory's lock, and to be closed. An empty place is refused: no command but `inlet run` makes a store.
///
/// # Errors
/// A node runs, there is no store, or it cannot be used.
pub async fn open(place: &Place, config: &StoreConfig) -> anyhow::Result<Store> {
	match &config.backend {
		StoreBackend::Sqlite => {
			let file = place.data_dir.join(STORE_FILE);
			if !file.exists() {
				bail!("there is no store at {}", file.display());
			}
			Ok(Store::open(&file, inlet_storage::abort)?)
		}
		StoreBackend::Postgres(server) => {
			let lease = server.acquire(&holder(), Patience::Refuse, |text| eprintln!("waiting: {text}")).await?;
			Ok(Store::open_postgres(server, lease, inlet_storage::abort)?)
		}
	}
}
