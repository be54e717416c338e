//! Each check against what it is there for.

use super::*;
use crate::config::FILE_NAME;
use crate::run::STORE_FILE;
use crate::seed::{self, Seed};
use inlet_lsp::book::Write;
use inlet_storage::{Inspection, Store};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The data directory of a node that ran once and has no channels.
fn data_dir() -> tempfile::TempDir {
	let dir = tempfile::tempdir().unwrap();
	fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
	let text = "[node]\nnetwork = \"regtest\"\n[chain]\nbackend = \"bitcoind:http://u:p@127.0.0.1:1\"\n[storage]\nreserve_mb = 1\n";
	fs::write(dir.path().join(FILE_NAME), text).unwrap();
	Seed::create(&dir.path().join(seed::FILE_NAME)).unwrap();
	let store = Store::open(&dir.path().join(STORE_FILE), inlet_storage::abort).unwrap();
	store.keep_reserve(1_000_000).unwrap();
	drop(store);
	dir
}

async fn look(dir: &Path) -> Doctor {
	let flags = Overrides { data_dir: Some(dir.to_owned()), ..Overrides::default() };
	let place = Place::find(&flags, []).unwrap();
	stopped(&flags, [], &place, None).await
}

fn verdict(found: &Doctor, name: &str) -> Health {
	let check =
		found.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no {name} in {found:?}"));
	assert_eq!(check.advice.is_none(), check.verdict == Health::Ok, "what to do is said: {check:?}");
	check.verdict
}

#[tokio::test]
async fn all_is_well_with_a_new_node() {
	let dir = data_dir();
	let found = look(dir.path()).await;
	for name in
		["config", "directory", "seed", "clock", "reserve", "store", "pages", "values", "rows", "channels", "ledger"]
	{
		assert_eq!(verdict(&found, name), Health::Ok, "{found:?}");
	}
	assert!(!found.running);
}

/// What is in the file is not the node's state then.
#[tokio::test]
async fn a_store_on_a_server_is_not_taken_for_the_file_in_the_data_directory() {
	let dir = data_dir();
	let text = fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
	let server = "[storage]\nbackend = \"postgres\"\nurl = \"postgresql://u:hidden@127.0.0.1:1/inlet\"\n";
	fs::write(dir.path().join(FILE_NAME), text.replace("[storage]\n", server)).unwrap();
	let found = look(dir.path()).await;
	assert_eq!(verdict(&found, "store"), Health::Warn);
	let said = format!("{found:?}");
	assert!(said.contains("127.0.0.1") && !said.contains("hidden") && !said.contains("all pages are whole"), "{said}");
	assert!(found.checks.iter().all(|check| !["pages", "values", "rows", "start"].contains(&check.name.as_str())));
}

#[tokio::test]
async fn each_damage_is_told() {
	type Damage = fn(&Path);
	let cases: [(&str, Health, Damage); 8] = [
		("config", Health::Bad, |dir| fs::write(dir.join(FILE_NAME), "[peers]\nmax_strangers = 0\n").unwrap()),
		("directory", Health::Bad, |dir| fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap()),
		("seed", Health::Bad, |dir| {
			fs::set_permissions(dir.join(seed::FILE_NAME), Permissions::from_mode(0o644)).unwrap();
		}),
		("seed", Health::Bad, |dir| fs::write(dir.join(seed::FILE_NAME), "abandon ability").unwrap()),
		("seed", Health::Bad, |dir| fs::remove_file(dir.join(seed::FILE_NAME)).unwrap()),
		("reserve", Health::Warn, |dir| fs::remove_file(dir.join(format!("{STORE_FILE}.reserve"))).unwrap()),
		("store", Health::Bad, |dir| fs::remove_file(dir.join(STORE_FILE)).unwrap()),
		("store", Health::Bad, |dir| fs::write(dir.join(STORE_FILE), "no database at all ".repeat(60)).unwrap()),
	];
	for (name, expected, damage) in cases {
		let dir = data_dir();
		damage(dir.path());
		let found = look(dir.path()).await;
		assert_eq!(verdict(&found, name), expected, "{found:?}");
		assert!(found.verdict >= expected);
	}
}

#[tokio::test]
async fn little_room_is_a_warning() {
	let dir = data_dir();
	let file = dir.path().join(FILE_NAME);
	let text = fs::read_to_string(&file).unwrap() + "low_water_mb = 1_000_000_000\n";
	fs::write(&file, text).unwrap();
	assert_eq!(verdict(&look(dir.path()).await, "disk"), Health::Warn);
}

#[test]
fn a_clock_without_a_battery_is_bad() {
	let at = |secs| {
		let mut findings = Findings::default();
		files::clock(&mut findings, UNIX_EPOCH + Duration::from_secs(secs));
		findings.report(false).verdict
	};
	assert_eq!(at(0), Health::Bad);
	let mut findings = Findings::default();
	files::clock(&mut findings, SystemTime::now());
	assert_eq!(findings.report(false).verdict, Health::Ok);
}

/// Every release's data directory, as its binary left it (`tests/tests/scenarios/disk.rs` makes them): it is whole, LDK starts
/// with it, and it has its channels and its sales. For ever. (Regtest only: the seeds are in git.)
#[tokio::test]
async fn data_directories_that_were_released_open_for_ever() {
	let mut tried = 0;
	for release in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data")).unwrap() {
		let release = release.unwrap().path();
		let (dir, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
		for file in fs::read_dir(&release).unwrap() {
			let file = file.unwrap().path();
			let to = dir.path().join(file.file_name().unwrap());
			fs::copy(&file, &to).unwrap();
			// What is in git has no modes of its own.
			fs::set_permissions(&to, Permissions::from_mode(0o600)).unwrap();
		}
		fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
		let flags = Overrides {
			data_dir: Some(dir.path().to_owned()),
			network: Some("regtest".to_owned()),
			chain: Some("bitcoind:http://u:p@127.0.0.1:1".to_owned()),
			..Overrides::default()
		};
		let place = Place::find(&flags, []).unwrap();
		let found = stopped(&flags, [], &place, None).await;
		let bad: Vec<_> = found.checks.iter().filter(|check| check.verdict == Health::Bad).collect();
		assert!(bad.is_empty(), "{}: {bad:?}", release.display());

		let expected: serde_json::Value =
			serde_json::from_str(&fs::read_to_string(release.join("expected.json")).unwrap()).unwrap();
		let book = Inspection::open(&dir.path().join(STORE_FILE)).unwrap().book().unwrap();
		let sales = book.iter().filter(|row| matches!(row, Write::Sale(_))).count();
		assert_eq!(sales as u64, expected["sales"].as_u64().unwrap(), "{}", release.display());
		fs::copy(dir.path().join(STORE_FILE), scratch.path().join(STORE_FILE)).unwrap();
		let started = trial::built(&Config::load(&flags, []).unwrap(), scratch.path()).await.unwrap();
		assert_eq!(started.channels as u64, expected["channels"].as_u64().unwrap(), "{}", release.display());
		tried += 1;
	}
	assert!(tried > 0);
}
