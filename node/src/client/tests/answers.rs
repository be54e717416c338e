//! What people see: `answers.txt` is a transcript of every command against the node in memory.
//!
//! After a change that is wanted: `INLET_UPDATE_SNAPSHOTS=1 cargo test -p inlet answers`, and read the difference.

use super::*;

const ANSWERS: &str = include_str!("answers.txt");

const COMMANDS: &[&str] = &[
	"status",
	"info",
	"balance",
	"address",
	"send bcrt1qexample 250000sat --yes",
	"utxos",
	"peers list",
	"peers connect 02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619@127.0.0.1:9735",
	"peers disconnect 03ab",
	"channels list",
	"channels show 9c1e",
	"channels open 02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619 310000sat --yes",
	"channels close a41e --yes",
	"channels force-close a41e --yes",
	"channels policy a41e --base 2sat --ppm 250",
	"invoice any --description coffee",
	"pay lnbcrt2500u1example --yes",
	"offer 0.01btc --expiry 1h",
	"payments --limit 3",
	"payments show 00000001",
	"orders list",
	"orders show 6e7f",
	"sales list",
	"sales show s_7Q2M",
	"clients",
	"clients show 03ab",
	"clients set 03ab --max-payment 70000sat --block",
	"clients clear 03ab",
	"tokens",
	"tokens issue --tier known --uses 5 --expires 7d --label fair",
	"tokens show t_7Q",
	"tokens revoke t_7Q",
	"quote 250000sat",
	"quote --size 250000sat --tier known --feerate 30 --explain",
	"quote 1000000sat order --explain",
	"ledger",
	"capital",
	"capital reclaim --dry-run",
	"capital reclaim --yes",
	"ledger check",
	"ledger report --by month",
	"ledger export --format hledger",
	"fees",
	"storage",
	"storage --rated-tbw 40",
	"backup",
	"backup now",
	"doctor",
	"sync",
	"events",
	"events --limit 1",
	"stop",
];

#[tokio::test]
async fn answers_are_as_in_the_transcript() {
	let server = Server::start(Fake::new()).await;
	let mut transcript = String::new();
	for line in COMMANDS {
		let ran = inlet(server.dir.path(), line, None).await;
		// A note beside what goes to a file, and nothing else.
		assert!(ran.code == 0 && (ran.err.is_empty() || line.starts_with("ledger export")), "{line}: {}", ran.err);
		transcript += &format!("$ inlet {line}\n{}{}\n", ran.err, ran.out);
	}
	server.stop().await;
	if std::env::var_os("INLET_UPDATE_SNAPSHOTS").is_some() {
		std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/client/tests/answers.txt"), &transcript).unwrap();
		return;
	}
	for (now, then) in transcript.split("\n\n").zip(ANSWERS.split("\n\n")) {
		assert_eq!(now, then);
	}
	assert_eq!(transcript.len(), ANSWERS.len());
}

#[test]
fn tables_fit_100_columns() {
	let tables = ANSWERS.split("$ inlet ").filter(|answer| {
		answer.lines().nth(1).is_some_and(|head| {
			head.contains("  SAT")
				|| head.starts_with("ID ")
				|| head.starts_with("NODE ID")
				|| head.starts_with("NO ")
				|| head.starts_with("OUTPOINT")
		})
	});
	let lines: Vec<&str> =
		tables.flat_map(|answer| answer.lines().skip(1)).filter(|line| !line.contains("--cursor")).collect();
	assert!(lines.len() > 30, "{lines:?}");
	for line in lines {
		assert!(line.chars().count() <= 100, "{line}");
	}
}

#[tokio::test]
async fn nothing_to_do_is_all_well() {
	let status = crate::control::Status { attention: Vec::new(), ..crate::control::fake::status() };
	let style = Style { zone: Zone::Utc, color: true, now: T0 };
	let text = render::status(&status, &style);
	assert_eq!(text.lines().last(), Some("all well"));
	assert!(!text.contains('\u{1b}'), "nothing to warn of, nothing in colour");
	let behind = crate::control::Status { synced: false, ..status };
	assert!(render::status(&behind, &style).contains("\u{1b}[33mnot synced"));
}
