//! The way there and back, on a directory.

use super::claim::{self, ClaimError, Lease, claim as claim_on, take_over};
use super::names::{LEASE as LEASE_OBJECT, MARKER, Name};
use super::restore::{End, Found, Loaded, Stale, look};
use super::vault::{Vault, VaultError, now_ms};
use super::{Backup, Claimed};
use crate::config::{BackupConfig, BackupMode, BackupPlace};
use inlet_storage::{Rebuild, Store};
use lightning::util::persist::{KVStore, MigratableKVStore};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

pub(super) const KEY: [u8; 32] = [5; 32];

/// A data directory, and a target.
pub(super) struct Bench {
	pub(super) dir: TempDir,
	pub(super) config: BackupConfig,
	fenced: Arc<Mutex<Vec<String>>>,
}

impl Bench {
	pub(super) async fn new(mode: BackupMode) -> Bench {
		let dir = tempfile::tempdir().unwrap();
		std::fs::create_dir(dir.path().join("data")).unwrap();
		let place = BackupPlace::Dir(dir.path().join("target"));
		Vault::init(&place, &KEY).await.unwrap();
		let config =
			BackupConfig { targets: vec![place], mode, alert: Duration::from_secs(60), way: Default::default() };
		Bench { dir, config, fenced: Arc::default() }
	}

	pub(super) fn data(&self) -> PathBuf {
		self.dir.path().join("data")
	}

	pub(super) fn target(&self) -> PathBuf {
		self.dir.path().join("target")
	}

	pub(super) async fn vault(&self) -> Vault {
		Vault::open(&self.config.targets[0], &KEY).await.unwrap()
	}

	async fn claim(&self) -> Result<Claimed, ClaimError> {
		super::claim(&self.config, &self.data(), &KEY).await
	}

	async fn start(&self) -> (Store, Arc<Backup>) {
		self.start_at(&self.data()).await.unwrap()
	}

	/// Of this data directory, with the targets of the configuration.
	pub(super) async fn start_at(&self, data: &Path) -> anyhow::Result<(Store, Arc<Backup>)> {
		let fenced = self.fenced.clone();
		let tell = move |why: &str| fenced.lock().unwrap().push(why.to_owned());
		super::open(&self.config, data, &data.join("store"), &KEY, ("regtest", "a = 1"), tell).await
	}

	/// Waits until everything that was written is there.
	async fn shipped(backup: &Backup) {
		loop {
			let target = backup.status().targets.remove(0);
			if target.state == "complete" {
				return;
			}
			tokio::time::sleep(Duration::from_millis(5)).await;
		}
	}

	pub(super) async fn restored(&self) -> (Found, Loaded, BTreeMap<String, Vec<u8>>) {
		let (vault, scratch) = (self.vault().await, tempfile::tempdir().unwrap());
		let file = scratch.path().join("store");
		let found = look(&vault).await.unwrap();
		let mut rebuild = Rebuild::create(&file, found.manifest.base).unwrap();
		found.load_snapshot(&vault, &mut rebuild, &mut |_, _| ()).await.unwrap();
		let loaded = found.load_increments(&vault, &mut rebuild, found.begin(&vault).unwrap()).await.unwrap();
		rebuild.finish().unwrap();
		let store = Store::open(&file, |e| panic!("{e}")).unwrap();
		(found, loaded, content(&store).await)
	}
}

async fn content(store: &Store) -> BTreeMap<String, Vec<u8>> {
	let mut values = BTreeMap::new();
	for (a, b, c) in store.list_all_keys().await.unwrap() {
		values.insert(format!("{a}/{b}/{c}"), KVStore::read(store, &a, &b, &c).await.unwrap());
	}
	values
}

pub(super) async fn write(store: &Store, n: u8) {
	let manager: Vec<u8> = (0..20_000u32).map(|i| if i % 400 == 7 { n } else { (i % 250) as u8 }).collect();
	store.write("", "", "manager", manager).await.unwrap();
	store.write("monitors", "", &format!("m{}", n % 3), vec![n; 700]).await.unwrap();
	store.write("inlet", "peers", "p", vec![n]).await.unwrap();
}

#[tokio::test]
async fn r13_what_was_acknowledged_in_sync_mode_is_on_the_target() {
	let bench = Bench::new(BackupMode::Sync).await;
	let (store, backup) = bench.start().await;
	for n in 0..30 {
		write(&store, n).await;
		if n % 10 == 5 {
			backup.snapshot();
		}
		let (found, loaded, copy) = bench.restored().await;
		assert_eq!(copy, content(&store).await, "after {n}, without waiting");
		assert_eq!((loaded.end, found.stale(&loaded)), (End::Open, None));
		assert_eq!(found.manifest.config, "a = 1");
	}
	let names = std::fs::read_dir(bench.target()).unwrap().count();
	assert!(names < 150, "{names} objects: old ones are removed");
	assert!(bench.fenced.lock().unwrap().is_empty());
}

/// Set for a process whose disk takes no more; its value is the data directory.
const FULL: &str = "INLET_TEST_FULL_DISK";

/// The child: writes until it cannot.
#[tokio::test]
async fn child_whose_disk_fails() {
	let Some(data) = std::env::var_os(FULL).map(PathBuf::from) else { return };
	let alert = Duration::from_secs(60);
	let none = BackupConfig { targets: Vec::new(), mode: BackupMode::Async, alert, way: Default::default() };
	let file = data.join("store");
	let opened = super::open(&none, &data, &file, &KEY, ("regtest", ""), super::give_up);
	let (store, _backup) = opened.await.unwrap();
	for n in 0..=u8::MAX {
		store.write("monitors", "", &format!("m{n}"), vec![n; 50_000]).await.unwrap();
	}
}

/// The service manager starts it again then, and a channel has its watch back; code 2 is for a node that must not come back.
#[test]
fn r13_a_disk_that_fails_ends_the_process_as_a_crash_and_not_as_one_that_is_not_to_be_started_again() {
	use std::os::unix::process::ExitStatusExt;
	let dir = tempfile::tempdir().unwrap();
	let child = "trap '' XFSZ; ulimit -c 0; ulimit -f 2000; exec \"$0\" \"$@\"";
	let mut command = std::process::Command::new("bash");
	command.args(["-c", child]).arg(std::env::current_exe().unwrap());
	command.args(["backup::tests::child_whose_disk_fails", "--exact", "--test-threads=1"]).env(FULL, dir.path());
	let ended = command.output().unwrap();
	assert_eq!(ended.status.signal(), Some(6), "{ended:?}");
}

#[tokio::test]
async fn an_async_backup_is_complete_when_the_node_stopped_in_good_order_and_else_may_be_old() {
	let bench = Bench::new(BackupMode::Async).await;
	let (store, backup) = bench.start().await;
	write(&store, 1).await;
	Bench::shipped(&backup).await;
	let (found, loaded, copy) = bench.restored().await;
	assert_eq!(copy, content(&store).await);
	let Some(Stale(why)) = found.stale(&loaded) else { panic!("who knows whether that was all") };
	assert!(why.contains("did not wait"), "{why}");
	write(&store, 2).await;
	let wanted = content(&store).await;
	assert!(backup.finish().await.is_empty());
	store.close().await;
	let (found, loaded, copy) = bench.restored().await;
	assert_eq!((copy, loaded.end, found.stale(&loaded)), (wanted, End::Closed, None));
	assert!(found.alive().is_none(), "it said that it stops");
	// A start makes the closed copy an old one at once, before it has written anything.
	let claimed = bench.claim().await.unwrap();
	let (found, loaded, _) = bench.restored().await;
	let Some(Stale(why)) = found.stale(&loaded) else { panic!("it runs again") };
	assert!(why.contains("ran again"), "{why}");
	assert!(found.alive().is_some());
	drop(claimed);
}

#[tokio::test]
async fn r17_a_copy_that_is_not_the_last_is_refused_and_a_running_one_is_stopped() {
	let bench = Bench::new(BackupMode::Sync).await;
	let (store, backup) = bench.start().await;
	write(&store, 1).await;
	let image = bench.dir.path().join("image");
	std::fs::create_dir(&image).unwrap();
	std::fs::copy(bench.data().join(claim::RECORD_FILE), image.join(claim::RECORD_FILE)).unwrap();

	// A restore takes over: what the old one writes then is not acknowledged, and it is told.
	let other = bench.dir.path().join("other");
	std::fs::create_dir(&other).unwrap();
	let (found, loaded, _) = bench.restored().await;
	let vault = bench.vault().await;
	assert!(found.alive().is_some());
	assert!(found.seal(&vault, &loaded).await.unwrap());
	take_over(&vault, &other).await.unwrap();
	let late = store.write("monitors", "", "late", vec![1; 10]);
	let late = tokio::time::timeout(Duration::from_secs(5), late);
	tokio::pin!(late);
	loop {
		tokio::select! {
			ended = &mut late => panic!("not fenced: {ended:?}"),
			() = tokio::time::sleep(Duration::from_millis(5)) => {},
		}
		if let Some(why) = bench.fenced.lock().unwrap().first() {
			assert!(why.contains("another copy of this node is newer"), "{why}");
			break;
		}
	}
	backup.finish().await;

	// Neither starts again, nor does an image of the old disk; the new one does, and again.
	assert!(matches!(bench.claim().await, Err(ClaimError::Fenced { .. })));
	assert!(matches!(claim_on(&vault, &image, BackupMode::Sync).await, Err(ClaimError::Fenced { .. })));
	let first = claim_on(&vault, &other, BackupMode::Sync).await.unwrap();
	let second = claim_on(&vault, &other, BackupMode::Sync).await.unwrap();
	assert_eq!(second.epoch, first.epoch + 1);
	assert!(matches!(claim::check(&vault, &first).await, Err(ClaimError::Fenced { .. })), "two of one directory");
	claim::check(&vault, &second).await.unwrap();
	// Nothing was acknowledged in the new epochs, which wait for the target and have no snapshot yet: the copy is still the last
	// state. In one that does not wait, who knows.
	let (found, loaded, _) = bench.restored().await;
	assert_eq!((loaded.end, found.stale(&loaded)), (End::Sealed, None));
	claim_on(&vault, &other, BackupMode::Async).await.unwrap();
	let (found, loaded, _) = bench.restored().await;
	assert!(found.stale(&loaded).is_some());
}

#[tokio::test]
async fn r13_a_machine_that_dies_while_its_node_starts_loses_no_channels() {
	let bench = Bench::new(BackupMode::Sync).await;
	let (store, backup) = bench.start().await;
	write(&store, 1).await;
	drop(backup);
	let claimed = bench.claim().await.unwrap();
	let (found, loaded, copy) = bench.restored().await;
	assert_eq!(found.stale(&loaded), None, "nothing was acknowledged since");
	assert_eq!(copy, content(&store).await);
	drop(claimed);
}

#[tokio::test]
async fn a_crash_while_claiming_locks_nobody_out() {
	let bench = Bench::new(BackupMode::Async).await;
	let vault = bench.vault().await;
	claim_on(&vault, &bench.data(), BackupMode::Async).await.unwrap();
	// The next claim is there, and the record says no more than that it was tried.
	let record = bench.data().join(claim::RECORD_FILE);
	let before = std::fs::read_to_string(&record).unwrap();
	claim_on(&vault, &bench.data(), BackupMode::Async).await.unwrap();
	let after: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
	let session = &after["targets"][&vault.id]["session"];
	let torn = before.replace("\"claiming\":null", &format!("\"claiming\":{session}"));
	assert_ne!(torn, before);
	std::fs::write(&record, torn).unwrap();
	let claim = claim_on(&vault, &bench.data(), BackupMode::Async).await.unwrap();
	assert_eq!(claim.epoch, 3);
}

#[tokio::test]
async fn holes_damage_and_missing_tails_are_told() {
	let bench = Bench::new(BackupMode::Sync).await;
	let (store, backup) = bench.start().await;
	for n in 0..6 {
		write(&store, n).await;
	}
	backup.finish().await;
	let (found, loaded, _) = bench.restored().await;
	assert_eq!(loaded.end, End::Closed);
	let at = |number| bench.target().join(Name::Increment { epoch: 1, number }.to_string());
	let (tail, middle) = (at(loaded.increment), at(loaded.increment - 2));

	std::fs::rename(&tail, bench.dir.path().join("away")).unwrap();
	let (found_now, loaded_now, _) = bench.restored().await;
	let Some(Stale(why)) = found_now.stale(&loaded_now) else { panic!("the end is missing") };
	assert!(why.contains("said that it wrote"), "{why}");
	std::fs::rename(bench.dir.path().join("away"), &tail).unwrap();

	let good = std::fs::read(&middle).unwrap();
	let mut bad = good.clone();
	bad[60] ^= 1;
	std::fs::write(&middle, &bad).unwrap();
	let (_, loaded_now, _) = bench.restored().await;
	assert_eq!((loaded_now.end, loaded_now.increment), (End::Hole, loaded.increment - 3));
	assert!(found.stale(&loaded_now).is_some());
	std::fs::remove_file(&middle).unwrap();
	assert_eq!(bench.restored().await.1.end, End::Hole);
	// Another one in its place does not do.
	std::fs::copy(at(loaded.increment - 1), &middle).unwrap();
	assert_eq!(bench.restored().await.1.end, End::Hole);
	std::fs::write(&middle, good).unwrap();
	assert_eq!(bench.restored().await.1.end, End::Closed);
}

#[tokio::test]
async fn a_disk_that_is_not_mounted_is_not_written_to_and_what_was_missed_is_made_good() {
	let bench = Bench::new(BackupMode::Sync).await;
	let (store, backup) = bench.start().await;
	write(&store, 1).await;
	let unmounted = bench.dir.path().join("unmounted");
	std::fs::rename(bench.target(), &unmounted).unwrap();
	std::fs::create_dir(bench.target()).unwrap();
	let mut waiting = Box::pin(write(&store, 2));
	loop {
		tokio::select! {
			() = &mut waiting => panic!("acknowledged without the target"),
			() = tokio::time::sleep(Duration::from_millis(5)) => {},
		}
		let target = backup.status().targets.remove(0);
		if let Some(error) = &target.error {
			assert!(error.contains("is the disk mounted?"), "{error}");
			assert!(target.behind && target.state == "away" && target.trouble().contains("stand still"));
			break;
		}
	}
	assert_eq!(std::fs::read_dir(bench.target()).unwrap().count(), 0, "nothing is written below the mount point");
	std::fs::remove_dir(bench.target()).unwrap();
	std::fs::rename(&unmounted, bench.target()).unwrap();
	waiting.await;
	assert_eq!(bench.restored().await.2, content(&store).await);
	let target = backup.status().targets.remove(0);
	assert!(!target.behind && target.error.is_none());
}

#[tokio::test]
async fn another_seed_and_a_blank_place_are_refused() {
	let bench = Bench::new(BackupMode::Async).await;
	let other = Vault::open(&bench.config.targets[0], &[6; 32]).await;
	assert!(matches!(other, Err(VaultError::NotOurs { .. })));
	assert!(matches!(Vault::init(&bench.config.targets[0], &[6; 32]).await, Err(VaultError::NotOurs { .. })));
	let again = Vault::init(&bench.config.targets[0], &KEY).await.unwrap();
	assert_eq!(again.id, bench.vault().await.id, "made once");
	let blank = BackupPlace::Dir(bench.dir.path().join("blank"));
	assert!(matches!(Vault::open(&blank, &KEY).await, Err(VaultError::Blank { .. })));
}

/// Names and marks tell nothing of whose backup it is, and nothing is readable.
#[tokio::test]
async fn nothing_on_the_target_tells_whose_it_is() {
	let bench = Bench::new(BackupMode::Sync).await;
	let (store, backup) = bench.start().await;
	store.write("inlet", "peers", "02aa-secret-peer", b"secret-address:9735".repeat(50)).await.unwrap();
	backup.finish().await;
	for entry in std::fs::read_dir(bench.target()).unwrap() {
		let (path, bytes) = {
			let path = entry.unwrap().path();
			(path.clone(), std::fs::read(path).unwrap())
		};
		let name = path.file_name().unwrap().to_str().unwrap();
		assert!([MARKER, LEASE_OBJECT].contains(&name) || Name::parse(name).is_some(), "{name}");
		assert!(!String::from_utf8_lossy(&bytes).contains("secret"), "{name}");
	}
	let lease: Lease = bench.vault().await.read_json(LEASE_OBJECT).await.unwrap().unwrap();
	assert!(!lease.running && lease.at_ms <= now_ms());
	assert!(Path::new(&bench.data()).join(claim::RECORD_FILE).exists());
}
