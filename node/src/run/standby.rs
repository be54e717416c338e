//! A store on a server, which several nodes can reach: which of them leads, and that it is the right store for this seed.

use super::not_yet;
use crate::api::Admin;
use crate::seed::{self, Seed};
use crate::stop::stopped;
use crate::systemd::Notifier;
use anyhow::{Context, bail};
use bitcoin::hashes::{Hash, sha256};
use inlet_storage::{Lease, NODE_NAMESPACE, Patience, PgOptions, Store};
use lightning::util::persist::KVStore;
use std::path::Path;
use tokio::sync::watch;

/// The table, among the node's own rows, of what is known of the store's node; and the row that says which seed it has.
const NODE: (&str, &str) = ("node", "seed");

/// Takes the lease, as a standby after any time. `None`: told to stop while waiting.
pub(super) async fn lead(
	options: &PgOptions,
	standby: bool,
	admin: &Admin,
	monitor: Option<&Admin>,
	stop: &watch::Sender<bool>,
) -> anyhow::Result<Option<Lease>> {
	let notifier = Notifier::from_env().context("the service manager cannot be reached")?;
	let patience = if standby { Patience::StandBy } else { Patience::Refuse };
	let tell = |what: &str| {
		tracing::info!(target: "inlet", "waiting: {what}");
		println!("waiting: {what}");
		if standby {
			// It has started, as far as the service manager is concerned, and may wait for years.
			notifier.ready(&format!("standing by: {what}"));
		}
	};
	let holder = holder();
	let watched = async {
		notifier.watchdog(|| true, stop.subscribe()).await;
		std::future::pending().await
	};
	let mut stopping = stop.subscribe();
	let lease = tokio::select! {
		lease = options.acquire(&holder, patience, tell) => lease?,
		() = not_yet(admin, monitor, stop) => return Ok(None),
		() = watched => return Ok(None),
		() = stopped(&mut stopping) => return Ok(None),
	};
	tracing::info!(target: "inlet", epoch = lease.epoch(), "leading");
	Ok(Some(lease))
}

/// This node, for people.
pub(crate) fn holder() -> String {
	let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
	format!(
		"{} (process {})",
		Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("a node"),
		std::process::id()
	)
}

/// The seed that this store belongs to: the one in the file, or a new one for a new store. Whether it is new.
pub(super) async fn seed(store: &Store, file: &Path, other_store: &Path) -> anyhow::Result<(Seed, bool)> {
	let found = store.node_rows(NODE.0, None, 1).await.context("the store cannot be read")?;
	let known = found.into_iter().find(|(key, _)| key == NODE.1).map(|(_, value)| value);
	let is_new = !file.exists();
	let has_state = known.is_some() || !store.list("", "").await.context("the store cannot be read")?.is_empty();
	if !has_state && other_store.exists() {
		bail!(
			"the database is empty, but {} has a node's state: move it with: inlet storage migrate --from sqlite --to postgres",
			other_store.display()
		);
	}
	if is_new && has_state {
		bail!(
			"{} is missing, but the database has a node's state: put that node's seed there (the file of that name in its data \
			directory), or name another database",
			file.display()
		);
	}
	let seed = if is_new { Seed::create(file)? } else { Seed::load(file)? };
	let mark = mark(&seed);
	match known {
		Some(known) if known != mark => bail!(
			"the database belongs to a node with another seed than {}: put the right one there, or name another database",
			file.display()
		),
		Some(_) => {}
		None => store.write(NODE_NAMESPACE, NODE.0, NODE.1, mark).await.context("the store cannot be written")?,
	}
	Ok((seed, is_new))
}

/// Refuses a standby that could not lead.
pub(super) fn check(file: &Path) -> anyhow::Result<()> {
	if !file.exists() {
		bail!(
			"a standby needs the seed of the node for which it stands by: put it at {} (the file {} of that node's data \
			directory, mode 0600)",
			file.display(),
			seed::FILE_NAME
		);
	}
	Seed::load(file)?;
	Ok(())
}

/// Tells one seed from another, and nothing else.
fn mark(seed: &Seed) -> Vec<u8> {
	let hash = sha256::Hash::hash(&[b"inlet store ".as_slice(), seed.promise_key().as_ref()].concat());
	hash.to_string().as_bytes()[..16].to_vec()
}
