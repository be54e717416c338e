//! `inlet storage migrate`: moves a stopped node's state from one database to another. A server's store has no backup targets, so
//! those that the file's had are left: reached before anything is moved, and told when all is.

use crate::backup::{Access, left};
use crate::cli::{BackendArg, MigrateArgs};
use crate::config::Config;
use crate::lock::DataDir;
use crate::run::STORE_FILE;
use crate::run::standby::holder;
use crate::seed::Seed;
use anyhow::{Context, bail};
use inlet_storage::{Moved, Patience, Place, Store};

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
	let shipped = match args.to {
		BackendArg::Postgres => left::known(&config.place.data_dir, None).await?,
		BackendArg::Sqlite => Vec::new(),
	};
	// Without a target that was ever claimed no seed is asked for.
	let key = match shipped.is_empty() {
		true => None,
		false => Some(Seed::load(&lock.seed_file())?.backup_key()),
	};
	for target in &shipped {
		let access = Access { key: key.as_ref().context("no seed")?, way: config.backup.way };
		target.open(access).await.context("nothing was moved")?;
	}
	let (from, to) = (place(config, args.from).await?, place(config, args.to).await?);
	let moved = inlet_storage::migrate(from, to, |text| eprintln!("{text}"))?;
	if let Some(key) = key {
		leave(config, &key).await.context("all was moved, and inlet run on the new store will try this again")?;
	}
	Ok(moved)
}

/// Says on the targets of the old store that they are history.
async fn leave(config: &Config, key: &[u8; 32]) -> anyhow::Result<()> {
	let data_dir = &config.place.data_dir;
	let server = config.store.server.as_ref().context("storage.url names no server")?;
	let lease = server.acquire(&holder(), Patience::Refuse, |text| eprintln!("waiting: {text}")).await?;
	let store = Store::open_postgres(server, lease, inlet_storage::abort)?;
	let left = left::leave_all_but(&[], data_dir, Some(&store), Access { key, way: config.backup.way }).await?;
	left::forget(data_dir, &store, left.iter().map(|known| known.id.as_str())).await?;
	store.close().await;
	for target in left {
		eprintln!("{}: left; channels are not restored from it any more", target.name);
	}
	Ok(())
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
	let targets = match (args.to, config.backup.targets.is_empty()) {
		(BackendArg::Postgres, false) => {
			"\nTake [backup] targets out: a store on a server has none, and these were left."
		}
		_ => "",
	};
	format!(
		"moved, compared, equal. Now set in {}:\n\n[storage]\nbackend = \"{to}\"\n\n{from} is history from here on; it is marked, \
		and will not be opened again. Delete it when all is well.{targets}",
		config.place.file.display()
	)
}
