//! Backup as it runs: every change of the store goes to one or more targets, sealed, within seconds; or, in sync mode, before
//! anybody hears of it. A lease on each target makes sure that one copy of a node runs (R17). See `node/docs/backup.md` and
//! the decision record 0002.

pub mod claim;
pub mod commands;
mod format;
pub mod left;
#[cfg(test)]
mod left_tests;
pub mod names;
pub mod restore;
pub(crate) mod seal;
mod ship;
pub mod target;
#[cfg(test)]
mod tests;
pub mod vault;

pub use claim::{Claim, ClaimError};
pub use left::LeaveError;
pub use ship::TargetState;

use crate::config::{BackupConfig, BackupMode};
use crate::control;
use crate::control::{EventKind, Events};
use crate::stop::stopped;
use crate::tor::Way;
use inlet_storage::{Store, Tap};
use ship::Shipper;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use vault::{Vault, VaultError};

/// How long a start waits for its targets: a disk may be mounted, and a network be there, a little later.
const START_WAIT: Duration = Duration::from_secs(60);
/// How often it looks.
const START_LOOK: Duration = Duration::from_secs(2);
/// How long a stop waits for the targets to take what is left.
const STOP_WAIT: Duration = Duration::from_secs(15);
/// How often it is seen whether a target has fallen behind.
const WATCH: Duration = Duration::from_secs(5);

/// What it takes to get at a target.
#[derive(Clone, Copy)]
pub struct Access<'a> {
	/// What its objects are sealed with.
	pub key: &'a [u8; 32],
	/// How it is reached.
	pub way: Way,
}

#[cfg(test)]
impl<'a> From<&'a [u8; 32]> for Access<'a> {
	fn from(key: &'a [u8; 32]) -> Access<'a> {
		Access { key, way: Way::default() }
	}
}

/// Targets that are ours to write to: nobody else runs on a copy of this node.
pub struct Claimed {
	targets: Vec<(Vault, Claim, Tap)>,
	mode: BackupMode,
}

/// Claims all targets for this data directory, before anything of its state is used.
///
/// # Errors
/// Another copy is newer, or a target cannot be reached in time: whether another copy is newer is not known then.
pub async fn claim(config: &BackupConfig, data_dir: &Path, key: &[u8; 32]) -> Result<Claimed, ClaimError> {
	let mut targets = Vec::new();
	for (n, place) in config.targets.iter().enumerate() {
		let (deadline, mut told) = (Instant::now() + START_WAIT, false);
		// The first target is the one that is waited for; the others follow.
		let holds = n == 0 && config.mode == BackupMode::Sync;
		let mode = if holds { BackupMode::Sync } else { BackupMode::Async };
		let (vault, claim) = loop {
			let attempt = match Vault::open(place, Access { key, way: config.way }).await {
				Ok(vault) => claim::claim(&vault, data_dir, mode).await.map(|claim| (vault, claim)),
				Err(e) => Err(e.into()),
			};
			match attempt {
				Err(ClaimError::Vault(e @ (VaultError::Away { .. } | VaultError::Blank { .. })))
					if Instant::now() < deadline =>
				{
					if !std::mem::replace(&mut told, true) {
						tracing::warn!(target: "inlet::backup", "waiting: {e}");
					}
					tokio::time::sleep(START_LOOK).await;
				}
				done => break done?,
			}
		};
		targets.push((vault, claim, Tap::new(holds)));
	}
	Ok(Claimed { targets, mode: config.mode })
}

/// Opens the store in a file, and ships its changes to the targets of the configuration, whose text is `text`. Before anything in
/// it is used, all of them are claimed (R17), and others that it was shipped to are left. `fatal`: another copy has taken
/// over. A store that cannot be written ends the process as a crash, after which the service manager starts it again.
///
/// # Errors
/// Another copy is newer; a target of now or of before cannot be reached; the store cannot be used.
pub async fn open(
	config: &BackupConfig,
	data_dir: &Path,
	file: &Path,
	key: &[u8; 32],
	(network, text): (&str, &str),
	fatal: impl Fn(&str) + Clone + Send + Sync + 'static,
) -> anyhow::Result<(Store, Arc<Backup>)> {
	let claimed = claim(config, data_dir, key).await?;
	let store = Store::open_with(file, claimed.taps(), inlet_storage::abort)?;
	let names = claimed.names();
	let ids: Vec<String> = names.iter().map(|(id, _)| id.clone()).collect();
	let left = left::leave_all_but(&ids, data_dir, Some(&store), Access { key, way: config.way }).await?;
	// What is written now may wait for a target, so it is shipped first.
	let backup = claimed.start(&store, network, text, config.alert, fatal);
	left::remember(&store, &names).await?;
	left::forget(data_dir, &store, left.iter().map(|known| known.id.as_str())).await?;
	Ok((store, backup))
}

impl Claimed {
	/// Ids and names of the targets.
	pub fn names(&self) -> Vec<(String, String)> {
		self.targets.iter().map(|(vault, ..)| (vault.id.clone(), vault.name.clone())).collect()
	}

	/// What the store is opened with.
	pub fn taps(&self) -> Vec<Tap> {
		self.targets.iter().map(|(.., tap)| tap.clone()).collect()
	}

	/// Begins to ship. `fenced` is called with a sentence for the operator when another copy has taken over: nothing more may
	/// be signed then, so it is meant not to return.
	pub fn start(
		self,
		store: &Store,
		network: &str,
		config: &str,
		alert: Duration,
		fenced: impl Fn(&str) + Send + Sync + 'static,
	) -> Arc<Backup> {
		let fenced: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(fenced);
		let (stop, stopping) = watch::channel(false);
		let (mut tasks, mut targets) = (JoinSet::new(), Vec::new());
		for (vault, claim, tap) in self.targets {
			let (state, now) = (Arc::new(Mutex::new(TargetState::default())), Arc::new(Notify::new()));
			targets.push(Shipping {
				name: vault.name.clone(),
				tap: tap.clone(),
				state: state.clone(),
				now: now.clone(),
			});
			let shipper = Shipper {
				vault,
				claim,
				tap,
				store: store.clone(),
				network: network.to_owned(),
				config: config.to_owned(),
				state,
				now,
				fenced: fenced.clone(),
			};
			tasks.spawn(shipper.run(stopping.clone()));
		}
		Arc::new(Backup { mode: self.mode, alert, targets, stop, tasks: tokio::sync::Mutex::new(tasks) })
	}
}

struct Shipping {
	name: String,
	tap: Tap,
	state: Arc<Mutex<TargetState>>,
	now: Arc<Notify>,
}

/// The shipping of a running node's changes.
pub struct Backup {
	mode: BackupMode,
	alert: Duration,
	targets: Vec<Shipping>,
	stop: watch::Sender<bool>,
	tasks: tokio::sync::Mutex<JoinSet<()>>,
}

impl Backup {
	/// One that ships nowhere.
	pub fn none() -> Arc<Backup> {
		let (stop, _) = watch::channel(false);
		let (mode, alert) = (BackupMode::Async, Duration::MAX);
		Arc::new(Backup { mode, alert, targets: Vec::new(), stop, tasks: tokio::sync::Mutex::default() })
	}

	/// How it stands.
	pub fn status(&self) -> control::Backup {
		let mode = match self.mode {
			BackupMode::Async => "async",
			BackupMode::Sync => "sync",
		};
		control::Backup { mode: mode.to_owned(), targets: self.targets.iter().map(|t| t.status(self.alert)).collect() }
	}

	/// Do acknowledgements wait for a target?
	pub fn holds(&self) -> bool {
		self.targets.iter().any(|target| target.tap.holds())
	}

	/// Do acknowledgements wait right now?
	pub fn is_waiting(&self) -> bool {
		self.targets.iter().filter(|target| target.tap.holds()).any(|target| {
			let (last, confirmed, _) = target.tap.position();
			confirmed < last
		})
	}

	/// Asks for a snapshot on each target.
	pub fn snapshot(&self) {
		self.targets.iter().for_each(|target| target.now.notify_one());
	}

	/// Ships what is left, for a while. To be called when nothing is written any more, and before the store is closed.
	/// Gives the targets that lack something.
	pub async fn finish(&self) -> Vec<String> {
		self.stop.send_replace(true);
		let mut tasks = self.tasks.lock().await;
		let all = async { while tasks.join_next().await.is_some() {} };
		// Who is cut off left its end unmarked: a restore will see that something may be missing.
		let _in_time = tokio::time::timeout(STOP_WAIT, all).await;
		tasks.abort_all();
		let lacking = self.targets.iter().filter(|target| {
			let (last, confirmed, _) = target.tap.position();
			confirmed < last
		});
		lacking.map(|target| target.name.clone()).collect()
	}

	/// Tells the operator when a target falls behind, and when it has caught up.
	pub async fn watch(self: Arc<Self>, events: Arc<Events>, mut stop: watch::Receiver<bool>) {
		let mut told = vec![false; self.targets.len()];
		loop {
			tokio::select! {
				() = stopped(&mut stop) => return,
				() = tokio::time::sleep(WATCH) => {},
			}
			for (target, told) in self.status().targets.iter().zip(&mut told) {
				let behind = target.behind;
				if behind == *told {
					continue;
				}
				*told = behind;
				let text = match behind {
					true => target.trouble(),
					false => format!("over: the backup on {} has caught up", target.name),
				};
				tracing::warn!(target: "inlet::backup", "{text}");
				let (subject, data) = (Some(format!("backup {}", target.name)), serde_json::json!({ "over": !behind }));
				events.publish(SystemTime::now().into(), EventKind::Warning, subject, text, data);
			}
		}
	}
}

impl Shipping {
	fn status(&self, alert: Duration) -> control::BackupTarget {
		let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
		let (last, confirmed, bytes) = self.tap.position();
		let lag = state.behind_since.filter(|_| confirmed < last).map(|since| since.elapsed());
		let lag = lag.unwrap_or_default();
		control::BackupTarget {
			name: self.name.clone(),
			waited_for: self.tap.holds(),
			state: match (&state.error, state.whole) {
				(Some(_), _) => "away",
				(None, false) => "first_snapshot",
				(None, true) if confirmed < last => "shipping",
				(None, true) => "complete",
			}
			.to_owned(),
			behind: lag > alert || (state.error.is_some() && confirmed < last),
			lag_secs: lag.as_secs(),
			lag_changes: last.saturating_sub(confirmed),
			lag_bytes: bytes as u64,
			snapshot_at: state.snapshot_at_ms.map(|ms| (SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).into()),
			snapshot_bytes: state.snapshot_bytes,
			increments: state.increments,
			increment_bytes: state.increment_bytes,
			error: state.error,
		}
	}
}

/// Another copy of this node has taken over: ends the process at once, before anything more is said or signed. The exit code
/// tells the service manager not to start it again.
pub fn give_up(message: &str) {
	tracing::error!(target: "inlet::backup", "{message}");
	eprintln!("fatal: {message}");
	std::process::exit(2);
}
