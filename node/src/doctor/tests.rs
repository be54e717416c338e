//! Each check against what it is there for.

use super::*;
use crate::config::FILE_NAME;
use crate::run::STORE_FILE;
use crate::seed::{self, Seed};
use inlet_lsp::book::Write;
use inlet_storage::{Inspection, Store};
use serde_json::json;
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

/// Of a sale whose entry was folded, the sums of its channel tell; of one whose entry is there, the entry; and accounts are
/// what the entries and what was folded make of them.
#[test]
fn a_fee_or_an_entry_that_is_missing_is_told_before_and_after_entries_are_folded() {
	let client = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
	let row = |json: serde_json::Value| -> Write { serde_json::from_value(json).unwrap() };
	let sale = |id: &str, created_at: u64| {
		row(json!({ "sale": {
			"id": id, "client": client, "scid": 7, "user_channel_id": "0000000000000000000000000000000a",
			"terms": {
				"min_fee": 546_000, "proportional": 1200, "valid_until": 9, "min_lifetime": 1008,
				"max_client_to_self_delay": 2016, "min_payment": 1, "max_payment": 9_000_000,
			},
			"payment_size": 5_000_000, "fee": 546_000, "reserved": 0, "state": { "is": "done" }, "parts": [], "paying": null,
			"fee_credited": 546_000, "channel": null, "created_at": created_at, "history": [],
		} }))
	};
	let sums = |sold_as: &str, msat: i64| {
		row(json!({ "books": {
			"is": "channel", "key": format!("client:{sold_as}"), "sold_as": sold_as, "opened_at": 1, "balance_msat": 0,
			"since": 1, "kinds": { "jit_fee": msat },
		} }))
	};
	let entry = |seq: u64, sale: &str| {
		row(json!({ "ledger": {
			"seq": seq, "at": 100 + seq, "kind": "jit_fee", "amount_msat": 546_000, "client": client, "reference": sale,
			"postings": [
				{ "account": "liabilities:skims", "msat": 546_000 }, { "account": "income:jit", "msat": -546_000 },
			],
		} }))
	};
	let month = |fees: i64| {
		row(json!({ "books": {
			"is": "month", "month": "1970-01", "entries": 2, "kinds": {},
			"accounts": { "liabilities:skims": 546_000 * fees, "income:jit": -546_000 * fees },
		} }))
	};
	let folded = row(json!({ "books": {
		"is": "folded", "before": 1, "until": 100, "kinds": { "jit_fee": [1, 546_000] },
		"accounts": { "liabilities:skims": 546_000, "income:jit": -546_000 },
	} }));
	let (old, new) = (sale("s_old", 50), sale("s_new", 101));
	let whole = vec![old.clone(), new.clone(), month(2), sums("s_old", 546_000), entry(0, "s_old"), entry(1, "s_new")];
	assert_eq!(books(&whole), Vec::<String>::new());
	let without = |rows: &[Write], n: usize| [&rows[..n], &rows[n + 1..]].concat();
	assert_eq!(books(&without(&whole, 4)).len(), 4, "no entry 0, no fee of s_old, and two accounts");

	let after = vec![folded, old, new, month(2), sums("s_old", 546_000), entry(1, "s_new")];
	assert_eq!(books(&after), Vec::<String>::new());
	assert_eq!(books(&without(&after, 5)).len(), 3, "no fee of s_new, which is not old enough, and two accounts");
	let mut wrong = after.clone();
	wrong[4] = sums("s_old", 545_999);
	assert_eq!(books(&wrong).len(), 1, "another fee than the sale's");
	wrong = after.clone();
	wrong[3] = month(3);
	assert_eq!(books(&wrong).len(), 2, "two accounts");
	wrong = after;
	wrong[5] = entry(2, "s_new");
	assert_eq!(books(&wrong), ["entry 1 of the ledger is not there: 2 follows"]);
}
