//! `tests/CONFORMANCE.md`: rule by rule, the tests that cover it, from the tests' names. A test that covers a rule begins with
//! its number: `l2_19_...` for L2-19, `r12_...` for R12, `l0_02_to_05_...` for a range, `l1_27_r5_...` for several.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod rules;

use rules::GROUPS;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Where tests are, from the root of the tree.
const SOURCES: &[&str] = &["lsp", "storage", "node", "tests/src", "tests/tests"];
const TABLE: &str = "tests/CONFORMANCE.md";
/// Set to write the table anew.
const UPDATE: &str = "INLET_UPDATE_SNAPSHOTS";

#[test]
fn the_table_is_what_the_tests_names_say_and_has_no_unexplained_gap() {
	let covering = covering();
	let known: BTreeSet<&str> = GROUPS.iter().flat_map(|(_, rules)| *rules).map(|rule| rule.id).collect();
	let strange: Vec<_> = covering.iter().filter(|(id, _)| !known.contains(id.as_str())).collect();
	assert!(strange.is_empty(), "tests name rules that there are none of: {strange:?}");

	let gaps: Vec<&str> = GROUPS
		.iter()
		.flat_map(|(_, rules)| *rules)
		.filter(|rule| rule.unless.is_none() && !covering.contains_key(rule.id))
		.map(|rule| rule.id)
		.collect();
	let table = table(&covering);
	let path = root().join(TABLE);
	if std::env::var_os(UPDATE).is_some() {
		fs::write(&path, &table).unwrap();
	}
	assert!(gaps.is_empty(), "no test covers {gaps:?}, and rules.rs does not say why");
	let written = fs::read_to_string(&path).unwrap_or_default();
	assert!(written == table, "{TABLE} is out of date: run this test with {UPDATE}=1");
}

#[test]
fn rules_are_read_from_names() {
	let read = |name| rules_of(name).join(" ");
	assert_eq!(read("l2_19_parts_are_gathered"), "L2-19");
	assert_eq!(read("l0_02_to_05_what_is_no_request"), "L0-2 L0-3 L0-4 L0-5");
	assert_eq!(read("l1_27_r5_10_blocks_later"), "L1-27 R5");
	assert_eq!(read("r12_restart_while_opening"), "R12");
	assert_eq!(read("l2_and_more"), "");
	assert_eq!(read("reads_nothing"), "");
}

/// The tree's root.
fn root() -> PathBuf {
	Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Rule by rule, the tests that cover it: `file` and `function`.
fn covering() -> BTreeMap<String, BTreeSet<(String, String)>> {
	let mut covering: BTreeMap<String, BTreeSet<_>> = BTreeMap::new();
	for source in SOURCES {
		for file in rust_files(&root().join(source)) {
			let name = file.strip_prefix(root()).unwrap().display().to_string();
			for test in tests_in(&fs::read_to_string(&file).unwrap()) {
				for rule in rules_of(&test) {
					covering.entry(rule).or_default().insert((name.clone(), test.clone()));
				}
			}
		}
	}
	covering
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
	let mut files = Vec::new();
	for entry in fs::read_dir(dir).unwrap() {
		let path = entry.unwrap().path();
		if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
			files.extend(rust_files(&path));
		} else if path.extension().is_some_and(|extension| extension == "rs") {
			files.push(path);
		}
	}
	files
}

/// The names of the functions with a test attribute (those of `proptest!` included) that are not ignored.
fn tests_in(source: &str) -> Vec<String> {
	let (mut tests, mut is_test, mut is_ignored) = (Vec::new(), false, false);
	for line in source.lines().map(str::trim) {
		if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
			is_test = true;
		} else if line.starts_with("#[ignore") {
			is_ignored = true;
		} else if let Some(rest) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")) {
			if is_test && !is_ignored {
				tests.extend(rest.split(['(', '<']).next().map(str::to_owned));
			}
			(is_test, is_ignored) = (false, false);
		}
	}
	tests
}

/// The rules that a test's name begins with.
fn rules_of(name: &str) -> Vec<String> {
	let mut words = name.split('_').peekable();
	let mut rules = Vec::new();
	while let Some(word) = words.next() {
		if let Some(risk) = word.strip_prefix('r').and_then(number) {
			rules.push(format!("R{risk}"));
			continue;
		}
		let Some(protocol) = word.strip_prefix('l').and_then(number) else { break };
		let Some(first) = words.next().and_then(number) else { break };
		let mut last = first;
		if words.peek() == Some(&"to") {
			words.next();
			last = words.next().and_then(number).unwrap_or(first);
		}
		rules.extend((first..=last).map(|n| format!("L{protocol}-{n}")));
	}
	rules
}

fn number(word: &str) -> Option<u32> {
	word.parse().ok().filter(|_| word.bytes().all(|byte| byte.is_ascii_digit()))
}

fn table(covering: &BTreeMap<String, BTreeSet<(String, String)>>) -> String {
	let mut text = String::from(
		"# Conformance\n\nWhat the specifications and prudence ask of an LSP, and the tests that show it. Generated from the tests' names by \
		`cargo test -p inlet-tests --test conformance`\n(with `INLET_UPDATE_SNAPSHOTS=1` to write it anew); the rules are in \
		`tests/tests/conformance/rules.rs`. A test in `tests/tests/wire` speaks over a real connection,\none in `tests/tests/scenarios` \
		uses a real bitcoind and real wallets, one in `lsp` simulated time, blocks and restarts.\n",
	);
	for (title, rules) in GROUPS {
		write!(text, "\n## {title}\n\n| rule | what is owed | tests |\n|---|---|---|\n").unwrap();
		for rule in *rules {
			let tests: Vec<String> =
				covering.get(rule.id).into_iter().flatten().map(|(file, test)| format!("`{file}` {test}")).collect();
			let shown = match (tests.is_empty(), rule.unless) {
				(false, None) => tests.join("<br>"),
				(false, Some(why)) => format!("{}<br>{why}", tests.join("<br>")),
				(true, why) => why.unwrap_or("**none**").to_owned(),
			};
			writeln!(text, "| {} | {} | {shown} |", rule.id, rule.text).unwrap();
		}
	}
	text
}
