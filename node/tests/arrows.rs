//! The rooms and arrows of `node/docs/architecture.md`, held against the manifests and the sources.
//!
//! `deny.toml` says the same for crates to `cargo deny`; this needs no tool. Comments and texts in quotes are not looked
//! at. A rule that is broken on purpose gets a decision record in `node/docs/decisions` and a line here.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LDK: &[&str] = &[
	"lightning",
	"lightning_block_sync",
	"lightning_invoice",
	"lightning_liquidity",
	"lightning_net_tokio",
	"lightning_rapid_gossip_sync",
	"lightning_transaction_sync",
	"lightning_types",
];
const BDK: &[&str] = &["bdk_chain", "bdk_core", "bdk_electrum", "bdk_esplora", "bdk_wallet"];
const SQL: &[&str] = &["rusqlite", "tokio_postgres", "inlet_storage"];

/// The only crates that `inlet-lsp` is built from: data types and their encodings. No clock, I/O, async or randomness.
const LSP_MAY_USE: &[&str] = &["bitcoin", "serde", "serde_json", "thiserror", "time", "uuid"];

/// What the pure core never says.
const IMPURE: &[&str] = &[
	"SystemTime::now",
	"Instant::now",
	"now_utc",
	"now_local",
	"async fn",
	"async move",
	".await",
	"std::env",
	"std::fs",
	"std::io",
	"std::net",
	"std::process",
	"std::thread",
	"println!",
	"eprintln!",
	"thread_rng",
];

/// Where LDK's types may appear: the Lightning room; `onchain`, which implements LDK's chain traits (decision 0001); the
/// driver's hands and the operator's, which carry out actions on LDK's objects; the two that build and run it all; and in the
/// store its `KVStore` and the spawner that LDK's persister asks for.
const LDK_ROOMS: &[&str] = &[
	"node/src/lightning",
	"node/src/onchain",
	"node/src/operator",
	"node/src/hands",
	"node/src/run",
	// What LDK says is held against what is on disk.
	"node/src/doctor",
	// Debug builds only: the points at which the crash tests kill it.
	"node/src/crash",
	"storage/src/kv",
	"storage/src/spawn",
	"storage/src/export",
	"storage/src/inspect",
];
const BDK_ROOMS: &[&str] = &["node/src/onchain", "storage/src/wallet", "storage/src/inspect"];

fn root() -> PathBuf {
	Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: impl AsRef<Path>) -> String {
	let path = root().join(path);
	fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All Rust files below a folder (or the file and folder of a module), as paths from the root. There must be some.
fn sources(below: &str) -> Vec<String> {
	fn walk(root: &Path, path: &Path, found: &mut Vec<String>) {
		if path.is_dir() {
			for entry in fs::read_dir(path).unwrap() {
				walk(root, &entry.unwrap().path(), found);
			}
		} else if path.is_file() && path.extension().is_some_and(|e| e == "rs") {
			found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_string());
		}
	}
	let root = root();
	let mut found = Vec::new();
	walk(&root, &root.join(below), &mut found);
	walk(&root, &root.join(format!("{below}.rs")), &mut found);
	assert!(!found.is_empty(), "there is no {below}: correct this test along with the house");
	found.sort();
	found
}

/// A source file's code, up to its unit tests.
fn production(file: &str) -> String {
	let code = code(&read(file));
	match code.find("#[cfg(test)]\nmod tests {") {
		Some(tests) => code[..tests].to_string(),
		None => code,
	}
}

/// The code without its comments and without what is between quotes.
fn code(text: &str) -> String {
	let mut out = String::with_capacity(text.len());
	let mut rest = text;
	while let Some(c) = rest.chars().next() {
		let skip = match c {
			'/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
			'/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
			'r' if raw_quote(rest).is_some() && !out.ends_with(|c: char| c.is_alphanumeric() || c == '_') => {
				raw_quote(rest).unwrap()
			}
			'"' => quoted(rest),
			'\'' if rest.starts_with("'\\\"'") => 4,
			'\'' if rest.starts_with("'\"'") => 3,
			_ => 0,
		};
		if skip > 0 {
			out.push(' ');
			rest = &rest[skip..];
		} else {
			out.push(c);
			rest = &rest[c.len_utf8()..];
		}
	}
	out
}

/// The length of the string literal that `text` starts with.
fn quoted(text: &str) -> usize {
	let mut escaped = false;
	for (at, c) in text.char_indices().skip(1) {
		match c {
			'"' if !escaped => return at + 1,
			_ => escaped = c == '\\' && !escaped,
		}
	}
	text.len()
}

/// The length of the raw string literal that `text` starts with, if it does.
fn raw_quote(text: &str) -> Option<usize> {
	let hashes = text[1..].chars().take_while(|c| *c == '#').count();
	let body = text[1 + hashes..].strip_prefix('"')?;
	let end = format!("\"{}", "#".repeat(hashes));
	Some(1 + hashes + 1 + body.find(&end)? + end.len())
}

/// Does the code name this crate? `crate::lightning::x` and `inlet::lightning::x` are modules of ours.
fn names_crate(code: &str, name: &str) -> bool {
	code.match_indices(name).any(|(at, _)| {
		let (before, after) = (&code[..at], &code[at + name.len()..]);
		let whole = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
		let path = before.strip_suffix("::");
		// `::lightning` at the start of a path is the crate again.
		let of_ours = path.is_some_and(|p| p.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
		let used = after.starts_with("::") || before.trim_end().ends_with("use") && after.starts_with([';', ' ']);
		whole && !of_ours && used
	})
}

/// Everything in `files` that is not in one of `rooms` and names one of `crates`.
fn strangers(files: &[String], rooms: &[&str], crates: &[&str]) -> Vec<String> {
	let mut found = Vec::new();
	for file in files.iter().filter(|f| !rooms.iter().any(|room| in_room(f, room))) {
		let code = production(file);
		found.extend(crates.iter().filter(|c| names_crate(&code, c)).map(|c| format!("{file} uses {c}")));
	}
	found
}

fn in_room(file: &str, room: &str) -> bool {
	file.strip_prefix(room).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// The dependencies in these tables of a manifest, target-specific ones included.
fn dependencies(manifest: &str, tables: &[&str]) -> BTreeSet<String> {
	let manifest: toml::Table = toml::from_str(&read(manifest)).unwrap();
	let targets = manifest.get("target").and_then(|t| t.as_table()).into_iter().flat_map(|t| t.values());
	let places = std::iter::once(toml::Value::Table(manifest.clone())).chain(targets.cloned());
	let tables = places.flat_map(|p| tables.iter().filter_map(|t| p.get(t).cloned()).collect::<Vec<_>>());
	tables.flat_map(|t| t.as_table().unwrap().keys().cloned().collect::<Vec<_>>()).collect()
}

const ALL: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

#[test]
fn the_core_is_built_from_data_types_only() {
	let used = dependencies("lsp/Cargo.toml", &["dependencies", "build-dependencies"]);
	assert!(used.contains("serde"), "read the wrong file");
	let strange: Vec<_> = used.iter().filter(|d| !LSP_MAY_USE.contains(&d.as_str())).collect();
	assert!(strange.is_empty(), "inlet-lsp is pure and must not depend on {strange:?}");
	let tests = dependencies("lsp/Cargo.toml", &["dev-dependencies"]);
	for never in ["tokio", "rusqlite", "bdk_wallet", "inlet", "inlet-storage"] {
		assert!(!tests.contains(never), "not even the tests of inlet-lsp need {never}");
	}
}

#[test]
fn no_arrow_points_back() {
	let storage = dependencies("storage/Cargo.toml", ALL);
	assert!(storage.contains("inlet-lsp") && storage.contains("rusqlite"), "read the wrong file");
	for never in
		["inlet", "inlet-tests", "axum", "hyper", "reqwest", "bitreq", "electrum-client", "esplora-client", "clap"]
	{
		assert!(
			!storage.contains(never),
			"inlet-storage opens no socket but its database's and must not depend on {never}"
		);
	}
	let node = dependencies("node/Cargo.toml", ALL);
	assert!(node.contains("inlet-storage") && node.contains("inlet-lsp"), "read the wrong file");
	for never in ["inlet-tests", "rusqlite", "tokio-postgres"] {
		assert!(!node.contains(never), "inlet must not depend on {never}");
	}
	assert!(!dependencies("tests/Cargo.toml", ALL).contains("rusqlite"), "SQL is behind inlet-storage");
}

#[test]
fn no_openssl_and_no_aws_lc_anywhere() {
	for lock in ["Cargo.lock", "tests/wallet/Cargo.lock"] {
		let lock: toml::Table = toml::from_str(&read(lock)).unwrap();
		let packages = lock["package"].as_array().unwrap();
		assert!(packages.len() > 50, "read the wrong file");
		for package in packages {
			let name = package["name"].as_str().unwrap();
			let banned = ["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"];
			assert!(!banned.contains(&name), "{name} breaks cross-building; TLS is rustls with ring");
		}
	}
}

/// LDK before 0.3.0-rc3 lacks the fixes that 0.2.5 brought for thefts of funds and stuck failures of held HTLCs.
#[test]
fn r18_ldk_is_not_older_than_its_fixes() {
	let lock: toml::Table = toml::from_str(&read("Cargo.lock")).unwrap();
	let packages = lock["package"].as_array().unwrap().iter();
	let ldk: Vec<&str> = packages
		.filter(|package| package["name"].as_str() == Some("lightning"))
		.map(|p| p["version"].as_str().unwrap())
		.collect();
	let [version] = ldk[..] else { panic!("one LDK, not {ldk:?}") };
	let (release, candidate) = version.split_once("-rc").unwrap_or((version, "99"));
	let numbers: Vec<u64> = release.split('.').map(|n| n.parse().unwrap()).collect();
	assert!(numbers > vec![0, 3, 0] || numbers == [0, 3, 0] && candidate.parse::<u64>().unwrap() >= 3, "LDK {version}");
}

#[test]
fn the_core_says_nothing_impure() {
	let files = sources("lsp/src");
	let mut found = strangers(&files, &[], &["tokio", "tracing", "log", "rand", "getrandom", "futures"]);
	found.extend(strangers(&files, &[], &[LDK, BDK, SQL].concat()).into_iter().filter(|f| !f.contains("/tests")));
	for file in files.iter().filter(|f| !f.contains("/tests")) {
		let code = production(file);
		found.extend(IMPURE.iter().filter(|i| code.contains(**i)).map(|i| format!("{file} says {i}")));
	}
	assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_store_reaches_its_database_only_reads_no_clock_and_holds_no_policy() {
	let mut found = Vec::new();
	for file in sources("storage/src").iter().filter(|f| !f.contains("/tests")) {
		let code = production(file);
		let never = [
			"std::net",
			"tokio::net",
			"UnixStream",
			"UnixListener",
			"SystemTime::now",
			"Instant::now",
			"inlet_lsp::policy",
		];
		// The lease of a server's leader is about time (storage/docs/decisions/0003-postgresql.md).
		let leads = |n: &str| in_room(file, "storage/src/pg") && n == "Instant::now";
		let said = never.iter().filter(|n| code.contains(**n) && !leads(n));
		found.extend(said.map(|n| format!("{file} says {n}")));
		if !in_room(file, "storage/src/pg") && names_crate(&code, "tokio_postgres") {
			found.push(format!("{file} speaks to a server: that is for storage/src/pg"));
		}
	}
	assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn ldk_and_bdk_stay_in_their_rooms() {
	for room in ["node/src/lightning", "node/src/onchain", "storage/src/kv", "storage/src/wallet"] {
		sources(room);
	}
	let node: Vec<String> = [sources("node/src"), sources("storage/src")].concat();
	let node: Vec<String> = node.into_iter().filter(|f| !f.contains("/tests") && !f.ends_with("_tests.rs")).collect();
	let mut found = strangers(&node, LDK_ROOMS, LDK);
	found.extend(strangers(&node, BDK_ROOMS, BDK));
	found.extend(strangers(&node, &["storage/src"], &["rusqlite", "tokio_postgres"]));
	for file in node.iter().filter(|f| in_room(f, "node/src/onchain")) {
		let code = production(file);
		let never = ["lightning::ln", "lightning::events"].into_iter().filter(|n| code.contains(n));
		found.extend(never.map(|n| format!("{file} uses {n}: decision 0001 allows chain traits only")));
	}
	assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_api_speaks_to_the_driver_only() {
	let mut files = Vec::new();
	for room in ["node/src/api", "node/src/control", "node/src/cli", "node/src/client"] {
		files.extend(sources(room));
	}
	let mut found = strangers(&files, &[], &[LDK, BDK, SQL].concat());
	for file in &files {
		let code = production(file);
		let rooms = ["crate::lightning", "crate::onchain", "crate::driver"];
		found.extend(rooms.iter().filter(|r| code.contains(**r)).map(|r| format!("{file} reaches into {r}")));
	}
	assert!(found.is_empty(), "{found:#?}");
}

/// Who opens connections, each by a `tor::Way`. The client speaks to the node's own socket.
const MAY_CONNECT: &[&str] = &[
	"node/src/tor",
	"node/src/lightning/peers",
	"node/src/lightning/gossip",
	"node/src/onchain/chain/asker",
	"node/src/onchain/chain/servers",
	"node/src/onchain/chain/electrum/wire",
	"node/src/notify/guard",
	"node/src/notify/https",
	"node/src/backup/target/web",
];
const CONNECTS: &[&str] = &[
	"TcpStream::connect",
	"TcpSocket",
	"lookup_host",
	"to_socket_addrs",
	"Client::builder",
	"reqwest::get",
	"Builder::new(url)",
	"Builder::new(base)",
	"bitreq::get",
	"bitreq::post",
];

#[test]
fn nothing_connects_but_by_a_way() {
	let is_test = |file: &String| file.contains("/tests") || file.ends_with("_tests.rs") || file.contains("/testing");
	let mut seen = 0;
	for file in sources("node/src").iter().filter(|file| !is_test(file)) {
		let code = production(file);
		let found: Vec<_> = CONNECTS.iter().filter(|name| code.contains(**name)).collect();
		let may = MAY_CONNECT.iter().any(|room| in_room(file, room));
		assert!(found.is_empty() || may, "{file} has {found:?}: it must ask a tor::Way, and be listed here");
		if !found.is_empty() && !in_room(file, "node/src/tor") {
			assert!(code.contains("Way") || code.contains(".way()"), "{file} connects and knows no Way");
			seen += 1;
		}
	}
	assert!(seen >= MAY_CONNECT.len() - 2, "this test looks for what is not written any more");
}

#[test]
fn the_house_is_complete() {
	for file in [
		"README.md",
		"CHANGELOG.md",
		"LICENSE-MIT",
		"LICENSE-APACHE",
		"deny.toml",
		".ci/run",
		"deploy/inlet.toml",
		"deploy/systemd/inlet.service",
		"node/docs/architecture.md",
	] {
		assert!(!read(file).trim().is_empty(), "{file} is empty");
	}
	assert!(!sources("tests/src").is_empty());
}

#[test]
fn this_test_can_see() {
	assert_eq!(
		code("a // lightning::x\nb /* c */ \"tokio::net \\\" x\" d r#\"e\"f\"# g '\"' h"),
		"a  \nb     d   g   h"
	);
	assert!(names_crate("use lightning::ln::x;", "lightning"));
	assert!(names_crate("fn f(x: &lightning::ln::X)", "lightning"));
	assert!(names_crate("use ::lightning::ln;", "lightning"));
	assert!(names_crate("pub use rusqlite as sql;", "rusqlite"));
	assert!(!names_crate("use crate::lightning::wire;", "lightning"));
	assert!(!names_crate("mod lightning;", "lightning"));
	assert!(!names_crate("let my_lightning::X = lightning_x::Y;", "lightning"));
	assert!(in_room("node/src/run.rs", "node/src/run") && in_room("node/src/run/a.rs", "node/src/run"));
	assert!(!in_room("node/src/runner.rs", "node/src/run"));
}
