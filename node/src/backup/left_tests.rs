//! A target that the node goes on without does not pass for the last state.

use super::claim;
use super::commands::forget_in;
use super::left::{LeaveError, known};
use super::restore::Stale;
use super::tests::{Bench, KEY, write};
use super::vault::Vault;
use crate::config::{BackupConfig, BackupMode, BackupPlace};
use inlet_storage::Store;
use std::path::Path;

/// Runs a while, and stops in good order.
async fn run(bench: &Bench, n: u8) {
	let (store, backup) = bench.start_at(&bench.data()).await.unwrap();
	write(&store, n).await;
	assert!(backup.finish().await.is_empty());
	store.close().await;
}

/// The same node, whose configuration names no target.
fn without(bench: &mut Bench) -> BackupConfig {
	let none = BackupConfig { targets: Vec::new(), mode: BackupMode::Async, ..bench.config.clone() };
	std::mem::replace(&mut bench.config, none)
}

async fn refused(bench: &Bench, data: &Path) -> LeaveError {
	let Err(e) = bench.start_at(data).await else { panic!("started") };
	e.downcast().unwrap()
}

async fn stale(bench: &mut Bench, with: &BackupConfig) -> Option<String> {
	let now = std::mem::replace(&mut bench.config, with.clone());
	let (found, loaded, _) = bench.restored().await;
	bench.config = now;
	found.stale(&loaded).map(|Stale(why)| why)
}

#[tokio::test]
async fn r17_a_target_that_is_taken_out_of_the_configuration_is_marked_before_the_node_goes_on() {
	for mode in [BackupMode::Sync, BackupMode::Async] {
		let mut bench = Bench::new(mode).await;
		run(&bench, 1).await;
		let with = without(&mut bench);
		assert_eq!(stale(&mut bench, &with).await, None, "it is the last state");
		let (store, _backup) = bench.start_at(&bench.data()).await.unwrap();
		let why = stale(&mut bench, &with).await.expect("the node went on");
		assert!(why.contains("left this target") && why.contains("at increment "), "{why}");
		assert!(known(&bench.data(), Some(&store)).await.unwrap().is_empty(), "it is said once");
		store.close().await;
		let record = std::fs::read_to_string(bench.data().join(claim::RECORD_FILE)).unwrap();
		assert!(!record.contains("dir:"), "its login is not kept: {record}");

		// It may come back to it: the copy is the last state again when the first snapshot is there.
		bench.config = with.clone();
		run(&bench, 2).await;
		assert_eq!(stale(&mut bench, &with).await, None);
	}
}

#[tokio::test]
async fn r17_a_target_that_cannot_be_told_stops_the_start_until_it_is_there_or_forgotten() {
	let mut bench = Bench::new(BackupMode::Sync).await;
	run(&bench, 1).await;
	let with = without(&mut bench);
	let away = bench.dir.path().join("away");
	std::fs::rename(bench.target(), &away).unwrap();
	let name = with.targets[0].to_string();
	for _ in 0..2 {
		let e = refused(&bench, &bench.data()).await;
		assert!(matches!(&e, LeaveError::Away { name: of, .. } if *of == name), "{e}");
		assert!(e.to_string().contains("inlet backup forget"), "{e}");
	}
	let store = Store::open(&bench.data().join("store"), |e| panic!("{e}")).unwrap();
	let forget = async |target: &str, yes| forget_in(&bench.config, &bench.data(), &store, &KEY, (target, yes)).await;
	let unsaid = forget(&name, false).await.unwrap_err().to_string();
	assert!(unsaid.contains("--yes") && unsaid.contains("old channels"), "{unsaid}");
	assert!(forget("dir:/somewhere/else", true).await.is_err());
	assert_eq!(forget(&name, true).await.unwrap(), [(name.clone(), false)]);
	assert!(forget(&name, true).await.is_err(), "it is forgotten");
	store.close().await;
	bench.start_at(&bench.data()).await.unwrap().0.close().await;

	// Or the disk is mounted: then it is told.
	let mut bench = Bench::new(BackupMode::Sync).await;
	run(&bench, 1).await;
	let with = without(&mut bench);
	std::fs::rename(bench.target(), &away).unwrap_err();
	let unmounted = bench.dir.path().join("unmounted");
	std::fs::rename(bench.target(), &unmounted).unwrap();
	refused(&bench, &bench.data()).await;
	std::fs::rename(&unmounted, bench.target()).unwrap();
	bench.start_at(&bench.data()).await.unwrap().0.close().await;
	assert!(stale(&mut bench, &with).await.is_some());
}

#[tokio::test]
async fn r17_a_restored_store_knows_the_targets_that_its_new_machine_does_not() {
	let mut bench = Bench::new(BackupMode::Sync).await;
	let second = BackupPlace::Dir(bench.dir.path().join("second"));
	Vault::init(&second, &KEY).await.unwrap();
	bench.config.targets.push(second.clone());
	run(&bench, 1).await;
	// Elsewhere, from the first; the second is not there, so it is not taken over, and is taken out of the configuration.
	let other = bench.dir.path().join("other");
	std::fs::create_dir(&other).unwrap();
	std::fs::copy(bench.data().join("store"), other.join("store")).unwrap();
	claim::take_over(&bench.vault().await, &other).await.unwrap();
	bench.config.targets.pop();
	let e = refused(&bench, &other).await;
	assert!(matches!(&e, LeaveError::Foreign { name } if *name == second.to_string()), "{e}");
	assert!(e.to_string().contains("init --take-over"), "{e}");
	claim::take_over(&Vault::open(&second, &KEY).await.unwrap(), &other).await.unwrap();
	let (store, backup) = bench.start_at(&other).await.unwrap();
	backup.finish().await;
	store.close().await;
	let with = BackupConfig { targets: vec![second], ..bench.config.clone() };
	assert!(stale(&mut bench, &with).await.unwrap().contains("left this target"));
}

#[tokio::test]
async fn a_disk_that_another_replaced_under_its_name_is_forgotten_and_the_new_one_is_not() {
	let mut bench = Bench::new(BackupMode::Async).await;
	run(&bench, 1).await;
	std::fs::rename(bench.target(), bench.dir.path().join("broken")).unwrap();
	Vault::init(&bench.config.targets[0], &KEY).await.unwrap();
	let e = refused(&bench, &bench.data()).await;
	assert!(e.to_string().contains("another target has taken its place"), "{e}");
	let name = bench.config.targets[0].to_string();
	let store = Store::open(&bench.data().join("store"), |e| panic!("{e}")).unwrap();
	let forgotten = forget_in(&bench.config, &bench.data(), &store, &KEY, (&name, true)).await.unwrap();
	assert_eq!(forgotten, [(name, false)]);
	store.close().await;
	run(&bench, 2).await;
	let with = bench.config.clone();
	assert_eq!(stale(&mut bench, &with).await, None);
}
