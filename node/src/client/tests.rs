//! The client against a node in memory, over a real socket.

mod answers;

use super::*;
use crate::api::tests::Server;
use crate::control::fake::*;
use clap::Parser;
use render::{Style, Zone};
use std::path::Path;

const KEY: &str = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619";

struct Ran {
	code: u8,
	out: String,
	err: String,
	/// What was asked.
	asked: Vec<String>,
}

/// Runs one command line; `answer` is what somebody at the terminal says, `None` if nobody is there.
async fn inlet(data_dir: &Path, line: &str, answer: Option<bool>) -> Ran {
	let words = ["inlet", "--data-dir", data_dir.to_str().unwrap()].into_iter().chain(line.split_whitespace());
	let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
	let (mut out, mut err, mut asked) = (Vec::new(), Vec::new(), Vec::new());
	let mut ask = |question: &str| {
		asked.push(question.to_owned());
		Ok(answer.unwrap())
	};
	let style = Style { zone: Zone::Utc, color: false, now: crate::control::Time(T0.0 + 38_000) };
	let ask: Option<terminal::Ask<'_>> = if answer.is_some() { Some(&mut ask) } else { None };
	let code = run_with(cli, &mut Ui { out: &mut out, err: &mut err, ask, style }).await;
	Ran { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap(), asked }
}

#[tokio::test]
async fn json_is_what_the_api_says() {
	let server = Server::start(Fake::new()).await;
	for (line, path) in [
		("--json info", "/v1/info"),
		("balance --json", "/v1/balance"),
		("channels list --json", "/v1/channels"),
		("--json payments --limit 7", "/v1/payments?limit=7"),
		("--json sales show s_7", "/v1/sales/s_7"),
		("--json events --limit 1", "/v1/events?limit=1"),
	] {
		let ran = inlet(server.dir.path(), line, None).await;
		assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
		assert_eq!(ran.out, server.get(path).await.body + "\n", "{line}");
	}
	let info: serde_json::Value =
		serde_json::from_str(&inlet(server.dir.path(), "--json info", None).await.out).unwrap();
	assert_eq!(info["node_id"], NODE);
	assert_eq!(info["listening"], serde_json::json!(["127.0.0.1:9735"]));
	assert_eq!((&info["block_height"], &info["synced"]), (&871_203.into(), &true.into()));
	server.stop().await;
}

#[tokio::test]
async fn nobody_there_is_exit_3_and_says_what_to_do() {
	let dir = tempfile::tempdir().unwrap();
	let ran = inlet(dir.path(), "status", None).await;
	assert_eq!(ran.code, 3);
	assert_eq!(ran.out, "");
	assert!(
		ran.err.starts_with(&format!("inlet: no node runs in {}\n  → start it", dir.path().display())),
		"{}",
		ran.err
	);
	drop(std::os::unix::net::UnixListener::bind(dir.path().join("admin.sock")).unwrap());
	let ran = inlet(dir.path(), "status", None).await;
	assert_eq!(ran.code, 3);
	assert!(ran.err.contains("any more\n  → start it"), "{}", ran.err);
	let ran = inlet(&dir.path().join("x".repeat(120)), "--json status", None).await;
	let problem: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
	assert_eq!((ran.code, &problem["code"], &problem["status"]), (3, &"not_reachable".into(), &0.into()));
}

#[tokio::test]
async fn a_refusal_is_exit_1_and_ends_in_what_to_do() {
	let server = Server::start(Fake::new()).await;
	let ran = inlet(server.dir.path(), "channels close 9c1e --yes", None).await;
	assert_eq!((ran.code, ran.out.as_str()), (1, ""));
	assert_eq!(
		ran.err,
		"inlet: the channel is sold until block 875,510\n  → wait for the end of its lease, or add --break-lease\n"
	);
	let ran = inlet(server.dir.path(), "--json orders show zz", None).await;
	let problem: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
	assert_eq!((ran.code, &problem["code"], &problem["status"]), (1, &"not_found".into(), &404.into()));
	server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_undone_asks_first() {
	let server = Server::start(Fake::new()).await;
	let lines = [
		format!("send {ADDRESS} 250000sat"),
		format!("channels open {KEY} 310000sat --push 1sat"),
		"channels close a41e".to_owned(),
		"channels force-close 9c1e --break-lease".to_owned(),
		"pay lnbcrt2500u1xyz --max-fee 10sat".to_owned(),
	];
	for line in &lines {
		let nobody = inlet(server.dir.path(), line, None).await;
		assert_eq!(nobody.code, 1, "{line}");
		assert!(nobody.err.contains("→ add --yes"), "{}", nobody.err);
		let no = inlet(server.dir.path(), line, Some(false)).await;
		assert_eq!((no.code, no.asked.len()), (1, 1), "{line}");
	}
	let only_looked = |done: &String| done.contains("dry_run: true");
	assert!(server.fake.done().iter().all(only_looked), "{:?}", server.fake.done());
	let mut questions = Vec::new();
	for line in &lines {
		let yes = inlet(server.dir.path(), line, Some(true)).await;
		assert_eq!(yes.code, 0, "{line}: {}", yes.err);
		questions.extend(yes.asked);
	}
	assert_eq!(
		questions,
		[
			&format!("Send 250,000 sat to {ADDRESS} for a fee of 400 sat (2 sat/vB)?"),
			"Open a private channel of 310,000 sat with 02ee…6619, give 1 sat of it away?",
			"Close a41e2f3a4b5c… with 03ab…77e0 (310,000 sat, 60,000 of them ours)?",
			"Force-close (the money comes back after a delay) 9c1e2f3a4b5c… with 03ab…77e0 (310,000 sat, 60,000 of them ours, \
				leased until block 875,510)?",
			"Pay 250,000 sat and at most 10 sat for routing to lnbcrt2500u1xyz?",
		]
	);
	let really: Vec<String> = server.fake.done().into_iter().filter(|done| !only_looked(done)).collect();
	assert_eq!(really.len(), lines.len());
	assert!(really[0].contains("feerate_sat_per_kw: Some(500)"), "the fee that was agreed to: {}", really[0]);
	server.stop().await;
}

#[tokio::test]
async fn yes_asks_nobody_and_a_dry_run_sends_nothing() {
	let server = Server::start(Fake::new()).await;
	let dry = inlet(server.dir.path(), &format!("send {ADDRESS} all --feerate 4 --dry-run"), None).await;
	assert_eq!(dry.out, format!("would send  1,203,911 sat to {ADDRESS}\nfee         400 sat (4 sat/vB)\n"));
	assert!(server.fake.done().iter().all(|done| done.contains("dry_run: true")));
	let yes = inlet(server.dir.path(), &format!("send {ADDRESS} 0.0025btc --yes"), Some(false)).await;
	assert_eq!((yes.code, yes.asked.len()), (0, 0));
	assert!(
		server.fake.done()[1]
			.contains("amount_sat: Some(250000), all: false, feerate_sat_per_kw: None, dry_run: false")
	);
	server.stop().await;
}

#[tokio::test]
async fn a_payment_that_failed_is_exit_1_after_it_was_shown() {
	let server = Server::start(Fake::new()).await;
	let ran = inlet(server.dir.path(), "--json pay lnfails --yes", None).await;
	assert_eq!(ran.code, 1);
	assert!(ran.out.contains("\"status\":\"failed\""), "{}", ran.out);
	assert!(ran.err.contains("no route") && ran.err.contains("inlet payments show"), "{}", ran.err);
	server.stop().await;
}

#[tokio::test]
async fn amounts_that_do_not_fit_are_usage_errors() {
	let server = Server::start(Fake::new()).await;
	for line in ["send a 1500msat --yes", "quote 1500msat", "channels policy a41e --base 1btc"] {
		let ran = inlet(server.dir.path(), line, None).await;
		assert_eq!(ran.code, 2, "{line}");
		assert!(ran.err.contains("\n  → "), "{}", ran.err);
	}
	assert_eq!(server.fake.done(), [""; 0]);
	server.stop().await;
}

#[tokio::test]
async fn ids_go_into_the_path_whole() {
	let server = Server::start(Fake::new()).await;
	for id in ["a/../b", "a?b=c", "a%b", "ä", ".."] {
		let ran = inlet(server.dir.path(), &format!("--json orders show {id}"), None).await;
		let problem: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
		let detail = problem["detail"].as_str().unwrap();
		assert_eq!(detail, format!("none of the orders has an id that begins with {id}"));
	}
	// As copied out of a table.
	assert_eq!(inlet(server.dir.path(), "channels show a41e2f3a4b5c…", None).await.code, 0);
	server.stop().await;
}

#[tokio::test]
async fn events_are_followed_until_the_node_stops() {
	let server = Server::start(Fake::new()).await;
	let first = server.fake.bus.recent()[0].id;
	let text = "feerate \u{1b}[2J above the ceiling";
	let human = format!("events --follow --since {first}");
	let json = format!("{human} --json");
	let (human, json, ()) =
		tokio::join!(inlet(server.dir.path(), &human, None), inlet(server.dir.path(), &json, None), async {
			while server.fake.bus.followers() < 2 {
				tokio::task::yield_now().await;
			}
			server.fake.bus.publish(T1, crate::control::EventKind::Warning, None, text, serde_json::json!({}));
			server.stop.send(true).unwrap();
		});
	assert_eq!((human.code, json.code), (3, 3));
	assert_eq!(
		human.out,
		"10:02:38.201  sale               s_7Q2MC0FFEE12  open: 310,000 sat\n\
			10:02:38.201  warning            feerate \u{fffd}[2J above the ceiling\n"
	);
	assert_eq!(human.err, "inlet: the node has stopped\n  → start it again (inlet run), then follow again\n");
	let events: Vec<crate::control::Event> = json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
	assert_eq!(events, server.fake.bus.recent()[1..]);
	server.task.await.unwrap();
}

#[tokio::test]
async fn completions_need_no_node() {
	let dir = tempfile::tempdir().unwrap();
	let ran = inlet(dir.path(), "completions bash", None).await;
	assert_eq!(ran.code, 0);
	assert!(ran.out.contains("force-close"));
}
