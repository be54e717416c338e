//! What the backup's commands do that need no running node: `inlet backup init`, `inlet backup verify`, `inlet restore` and
//! `inlet seed restore`.

use super::Access;
use super::claim::{self, RECORD_FILE, time_of, write_private};
use super::left::{self, LeaveError};
use super::restore::{Found, Loaded, RestoreError, Stale, look};
use super::seal::random_id;
use super::vault::{Vault, json, now_ms};
use crate::cli::RestoreArgs;
use crate::config::{BackupConfig, BackupPlace, FILE_NAME, Place, StoreConfig, network_name};
use crate::lock::DataDir;
use crate::onchain::SCAN_KEY;
use crate::run::STORE_FILE;
use crate::seed::Seed;
use crate::stored;
use crate::tor::Way;
use anyhow::{Context, bail};
use inlet_storage::{Rebuild, Store};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Namespace, below the node's own, of what says that this node is recovering coins.
pub const RECOVERY: &str = "recovery";
/// Its one key.
pub const BEGUN: &str = "begun";
/// Where the wallet looks whether it is to be scanned.
const WALLET_FOLDER: &str = "wallet";

/// Why and since when a node recovers coins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
	/// Since when, in milliseconds since 1970.
	pub at_ms: u64,
	/// `restore` (from a backup that may be old) or `seed`.
	pub by: String,
}

/// `inlet backup init`: makes the targets ready, and the seed that they are encrypted under, if there is none yet.
///
/// # Errors
/// What is wrong, for the operator.
pub async fn init(place: &Place, config: &BackupConfig, take_over: bool) -> anyhow::Result<()> {
	if config.targets.is_empty() {
		bail!("there is no target: name one in [backup] targets of {}", place.file.display());
	}
	let seed_file = place.data_dir.join(crate::seed::FILE_NAME);
	let seed = if seed_file.exists() {
		Seed::load(&seed_file)?
	} else {
		let lock = DataDir::open(&place.data_dir)?;
		lock.claim(place.network)?;
		if place.data_dir.join(STORE_FILE).exists() {
			bail!("{} is missing: restore the seed file first", seed_file.display());
		}
		println!("new node: seed written to {} (24 words; write them down: inlet seed show)", seed_file.display());
		Seed::create(&seed_file)?
	};
	for target in &config.targets {
		let vault = Vault::init(target, Access { key: &seed.backup_key(), way: config.way }).await?;
		if take_over {
			// Not while it runs: it would take its own claim for another's.
			let _lock = DataDir::open(&place.data_dir)?;
			claim::take_over(&vault, &place.data_dir).await?;
		}
		println!("{} is ready", vault.name);
	}
	Ok(())
}

/// `inlet backup forget`: leaves a target that the configuration does not name any more; with `yes`, even if it cannot be told.
///
/// # Errors
/// What is wrong, for the operator; then it is still known.
pub async fn forget(
	place: &Place,
	(config, store): (&BackupConfig, &StoreConfig),
	target: &str,
	yes: bool,
) -> anyhow::Result<()> {
	let data_dir = &place.data_dir;
	let lock = DataDir::open(data_dir)?;
	let key = Seed::load(&lock.seed_file())?.backup_key();
	let store = stored::open(place, store).await?;
	let done = forget_in(config, data_dir, &store, &key, (target, yes)).await;
	store.close().await;
	for (name, told) in done? {
		match told {
			true => println!("{name} was told: channels are not restored from it any more"),
			false => println!("{name} is forgotten, and was not told: see to it that nobody ever restores from it"),
		}
	}
	Ok(())
}

/// The names of the targets that were left, and whether each was told.
pub(super) async fn forget_in(
	config: &BackupConfig,
	data_dir: &Path,
	store: &Store,
	key: &[u8; 32],
	(target, yes): (&str, bool),
) -> anyhow::Result<Vec<(String, bool)>> {
	let access = Access { key, way: config.way };
	let place = target.parse::<BackupPlace>().ok();
	let wanted = place.as_ref().map_or_else(|| target.to_owned(), ToString::to_string);
	let mut done = Vec::new();
	for known in left::known(data_dir, Some(store)).await? {
		if known.name != wanted && known.id != wanted {
			continue;
		}
		let named = config.targets.iter().any(|target| target.to_string() == known.name);
		let known = match &place {
			Some(place) => known.at(place.clone()),
			None => known,
		};
		// One that another has replaced, under the same name, can be forgotten.
		if named && known.open(access).await.is_ok() {
			continue;
		}
		let told = match known.leave(data_dir, access).await {
			Ok(()) => true,
			Err(LeaveError::Away { .. }) if yes => false,
			Err(LeaveError::Away { why, .. }) => bail!(
				"{wanted} cannot be told ({why}). What is there will look like the last state for ever: whoever restores from it \
				brings old channels back, and their peers can take all of the money in them. Only if it is destroyed, or will be \
				wiped before anybody can restore from it, add --yes"
			),
			Err(e) => return Err(e.into()),
		};
		left::forget(data_dir, store, [known.id.as_str()]).await?;
		done.push((known.name, told));
	}
	if done.is_empty() {
		bail!("{wanted} is no target that this node has used and the configuration does not name");
	}
	Ok(done)
}

/// `inlet backup verify`: restores each target into a scratch directory in the data directory.
///
/// # Errors
/// A target that cannot be restored from.
pub async fn verify(place: &Place, config: &BackupConfig, from: Option<&BackupPlace>) -> anyhow::Result<()> {
	let key = Seed::load(&place.data_dir.join(crate::seed::FILE_NAME))?.backup_key();
	let targets = from.map_or(config.targets.as_slice(), std::slice::from_ref);
	if targets.is_empty() {
		bail!("there is no target: name one in [backup] targets of {}, or with --from", place.file.display());
	}
	for target in targets {
		let vault = Vault::open(target, Access { key: &key, way: config.way }).await?;
		let scratch = Scratch::new(&place.data_dir)?;
		let (found, loaded, channels) = read_back(&vault, &scratch.0.join(STORE_FILE)).await?;
		let made = time_of(found.manifest.at_ms);
		println!("{}: restored and read, page by page and value by value", vault.name);
		println!("  snapshot   of {made}, {} parts", found.manifest.parts);
		println!("  increments {} after it, the last of {}", counted(&found, &loaded), time_of(loaded.at_ms));
		println!("  channels   {channels}");
		match found.stale(&loaded) {
			None => println!("  a restore would bring the channels back"),
			Some(Stale(why)) => println!("  a restore now would recover the coins, not the channels: {why}"),
		}
	}
	Ok(())
}

fn counted(found: &Found, loaded: &Loaded) -> u64 {
	(loaded.increment + 1).saturating_sub(found.manifest.first_increment)
}

/// All of a target's copy in a new store; and how many channels it has.
async fn read_back(vault: &Vault, file: &Path) -> anyhow::Result<(Found, Loaded, usize)> {
	let (found, loaded, rebuild) = load(vault, file, &mut |_, _| ()).await?;
	let channels = rebuild.finish()?;
	let store = Store::open(file, |_| ())?;
	store.load_rows().await?;
	store.close().await;
	Ok((found, loaded, channels))
}

async fn load(
	vault: &Vault,
	file: &Path,
	progress: &mut dyn FnMut(u64, u64),
) -> Result<(Found, Loaded, Rebuild), RestoreError> {
	let found = look(vault).await?;
	let mut rebuild = Rebuild::create(file, found.manifest.base)?;
	found.load_snapshot(vault, &mut rebuild, progress).await?;
	let loaded = found.load_increments(vault, &mut rebuild, found.begin(vault)?).await?;
	Ok((found, loaded, rebuild))
}

/// `inlet restore`: brings a node back on a machine that has nothing of it.
///
/// # Errors
/// What is wrong, for the operator; the data directory is as it was then, but for an empty folder.
pub async fn restore(place: &Place, way: Way, args: &RestoreArgs) -> anyhow::Result<()> {
	let lock = empty(place)?;
	let seed = read_seed(args.seed_file.as_deref())?;
	let vault = Vault::open(&args.from, Access { key: &seed.backup_key(), way }).await?;
	let scratch = Scratch::new(&place.data_dir)?;
	let file = scratch.0.join(STORE_FILE);
	let mut progress = |done, of| eprintln!("snapshot: part {done} of {of}");
	let (found, mut loaded, mut rebuild) = load(&vault, &file, &mut progress).await?;
	eprintln!("increments: {}, the last of {}", counted(&found, &loaded), time_of(loaded.at_ms));
	let network = network_name(place.network);
	if found.manifest.network != network {
		bail!("this is the backup of a node on {0}: add --network {0}", found.manifest.network);
	}
	if let Some(silent) = found.alive().filter(|_| !args.take_over) {
		bail!(
			"the node whose backup this is was there {silent} s ago. Stop it first (inlet stop); if that machine is gone, \
			add --take-over: it will then refuse to run"
		);
	}
	let stale = found.stale(&loaded);
	if let Some(Stale(why)) = stale.as_ref().filter(|_| !args.recover_funds) {
		bail!(
			"this copy may be old: {why}. With old state the channels' money can be lost to a peer, so they are not \
			restored. Look for a newer copy (another target, the old disk). If there is none, add --recover-funds: the \
			channels are given up, their peers are asked to close them, and what they pay is swept"
		);
	}
	// From here on nobody else can add to what we have read.
	for attempt in 1.. {
		if stale.is_some() || found.seal(&vault, &loaded).await? {
			break;
		}
		if attempt == 5 {
			bail!("somebody writes to this backup: the node that owns it still runs; stop it first (inlet stop)");
		}
		loaded = found.load_increments(&vault, &mut rebuild, loaded).await?;
	}
	claim::take_over(&vault, &place.data_dir).await?;
	// A node that had just started makes its first snapshot and then looks who owns the target; we do it the other way round.
	if look(&vault).await?.epoch != found.epoch {
		bail!("the node whose backup this is has just started: stop it (inlet stop), and restore again");
	}
	let given_up = match args.recover_funds {
		true => {
			let channels = rebuild.forget_channels()?;
			rebuild.put(RECOVERY, BEGUN, json(&Recovery { at_ms: now_ms(), by: "restore".into() }))?;
			rebuild.put(WALLET_FOLDER, SCAN_KEY, vec![1])?;
			Some(channels)
		}
		false => None,
	};
	rebuild.finish()?;
	settle_in(place, &lock, &seed, &found.manifest.config, &file)?;
	others(place, way, &seed, &vault).await;
	tell(place, &loaded, given_up);
	Ok(())
}

/// Everything in its place; the store last, so that a restore that was cut short is none.
fn settle_in(place: &Place, lock: &DataDir, seed: &Seed, config: &str, file: &Path) -> anyhow::Result<()> {
	lock.claim(place.network)?;
	if !place.file.exists() && !config.is_empty() {
		write_private(&place.data_dir, FILE_NAME, config.as_bytes()).context("the configuration cannot be written")?;
	}
	seed.save(&lock.seed_file())?;
	fs::rename(file, place.data_dir.join(STORE_FILE)).context("the store cannot be moved into place")?;
	fs::File::open(&place.data_dir)?.sync_all()?;
	Ok(())
}

/// Takes the other targets over that the configuration names, as far as they can be reached.
async fn others(place: &Place, way: Way, seed: &Seed, from: &Vault) {
	let text = fs::read_to_string(&place.file).unwrap_or_default();
	let table = text.parse::<toml::Table>().unwrap_or_default();
	let names = table.get("backup").and_then(|backup| backup.get("targets")).and_then(toml::Value::as_array);
	for target in names.into_iter().flatten().filter_map(|name| name.as_str()?.parse::<BackupPlace>().ok()) {
		let taken = match Vault::open(&target, Access { key: &seed.backup_key(), way }).await {
			Ok(vault) if vault.id == from.id => continue,
			Ok(vault) => claim::take_over(&vault, &place.data_dir).await.map(drop),
			Err(e) => Err(e.into()),
		};
		if let Err(e) = taken {
			eprintln!("{target} is not taken over ({e}); when it is there: inlet backup init --take-over");
		}
	}
}

fn tell(place: &Place, loaded: &Loaded, given_up: Option<usize>) {
	let dir = place.data_dir.display();
	println!("restored into {dir}, as of {}", time_of(loaded.at_ms));
	println!("the old copy of this node refuses to run from now on");
	match given_up {
		None => println!("look over {dir}/{FILE_NAME} (addresses, backup targets), then: inlet --data-dir {dir} run"),
		Some(channels) => println!(
			"{channels} channels are given up: inlet --data-dir {dir} run asks their peers to close them and sweeps what \
			they pay; it sells nothing meanwhile"
		),
	}
}

/// `inlet seed restore`: a node from its 24 words alone.
///
/// # Errors
/// What is wrong, for the operator; the data directory is as it was then, but for an empty folder.
pub fn from_seed(place: &Place, seed_file: Option<&Path>) -> anyhow::Result<()> {
	let lock = empty(place)?;
	let seed = read_seed(seed_file)?;
	let scratch = Scratch::new(&place.data_dir)?;
	let file = scratch.0.join(STORE_FILE);
	let mut rebuild = Rebuild::create(&file, 0)?;
	rebuild.put(RECOVERY, BEGUN, json(&Recovery { at_ms: now_ms(), by: "seed".into() }))?;
	rebuild.put(WALLET_FOLDER, SCAN_KEY, vec![1])?;
	rebuild.finish()?;
	settle_in(place, &lock, &seed, "", &file)?;
	let dir = place.data_dir.display();
	println!("seed written to {dir}; now: inlet --data-dir {dir} --network {} run", network_name(place.network));
	println!(
		"it looks for the wallet's coins and for what closed channels paid. Peers that you remember: inlet peers connect"
	);
	Ok(())
}

/// The data directory, if no node is in it.
fn empty(place: &Place) -> anyhow::Result<DataDir> {
	for name in [crate::seed::FILE_NAME, STORE_FILE, RECORD_FILE] {
		if place.data_dir.join(name).exists() {
			bail!(
				"{} has a node in it already ({name}): a restore needs an empty directory; choose another --data-dir",
				place.data_dir.display()
			);
		}
	}
	Ok(DataDir::open(&place.data_dir)?)
}

/// The words, from a file or from whoever sits there.
fn read_seed(file: Option<&Path>) -> anyhow::Result<Seed> {
	if let Some(file) = file {
		return Ok(Seed::load(file)?);
	}
	let mut input = std::io::stdin().lock();
	if input.is_terminal() {
		eprint!("The 24 words, with a space between them: ");
		std::io::stderr().flush()?;
	}
	let mut words = Zeroizing::new(String::with_capacity(512));
	input.by_ref().take(512).read_line(&mut words)?;
	Seed::from_words(words.trim()).map_err(|problem| anyhow::anyhow!("these are no seed: {problem}"))
}

/// A directory that goes away with what is in it.
struct Scratch(PathBuf);

impl Scratch {
	fn new(data_dir: &Path) -> anyhow::Result<Scratch> {
		let path = data_dir.join(format!("scratch-{}", random_id()));
		fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
		Ok(Scratch(path))
	}
}

impl Drop for Scratch {
	fn drop(&mut self) {
		// What stays costs disk space and no more; its name says what it is.
		let _gone = fs::remove_dir_all(&self.0);
	}
}

/// Is this node recovering coins? Then it sells nothing.
///
/// # Errors
/// The store cannot be read.
pub async fn recovery(store: &Store) -> anyhow::Result<Option<Recovery>> {
	let rows = store.node_rows(RECOVERY, None, 1).await?;
	let row = rows.into_iter().find(|(key, _)| key == BEGUN);
	Ok(row.map(|(_, json)| serde_json::from_slice(&json)).transpose()?)
}
