//! `inlet storage migrate`: moves a stopped node's state from one database to another.

use crate::cli::{BackendArg, MigrateArgs};
use crate::config::Config;
use crate::lock::DataDir;
use crate::run::STORE_FILE;
use crate::run::standby::holder;
use anyhow::{Context, bail};
use inlet_storage::{Moved, Patience, Place};

/// Moves it, says on standard error how it goes, and compares both afterwards. The data directory's lock, the file's and the
/// server's lease are held meanwhile, so that no node runs.
///
/// # Errors
/// A node runs, one of the two cannot be used, or they differ afterwards.
pub async fn migrate(config: &Config, args: &MigrateArgs) -> anyhow::Result<Moved> {
	if args.from == args.to {
		bail!("--from and --to are the same");
	}
	let lock = DataDir::open(&config.place.data_dir)?;
	lock.claim(config.node.network)?;
	let (from, to) = (place(config, args.from).await?, place(config, args.to).await?);
	Ok(inlet_storage::migrate(from, to, |text| eprintln!("{text}"))?)
}

async fn place(config: &Config, backend: BackendArg) -> anyhow::Result<Place> {
	match backend {
		BackendArg::Sqlite => Ok(Place::File(config.place.data_dir.join(STORE_FILE))),
		BackendArg::Postgres => {
			let server = config.store.server.as_ref().context("storage.url names no server")?;
			let lease = server.acquire(&holder(), Patience::Refuse, |text| eprintln!("waiting: {text}")).await?;
			Ok(Place::Server(Box::new(server.clone()), lease))
		}
	}
}

/// What is to be done with a store that was moved.
pub fn next_step(config: &Config, args: &MigrateArgs) -> String {
	let (to, from) = match args.to {
		BackendArg::Sqlite => ("sqlite", "the database that storage.url names"),
		BackendArg::Postgres => ("postgres", "the file in the data directory"),
	};
	format!(
		"moved, compared, equal. Now set in {}:\n\n[storage]\nbackend = \"{to}\"\n\n{from} is history from here on; it is marked, \
		and will not be opened again. Delete it when all is well.",
		config.place.file.display()
	)
}
