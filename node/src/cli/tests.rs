//! Every command line that the documents write parses as it is written there.

mod packaged;

use super::*;
use clap::error::ErrorKind;

const KEY: &str = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619";

fn cli(line: &str) -> Cli {
	Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn refused(line: &str) -> clap::Error {
	match Cli::try_parse_from(line.split_whitespace()) {
		Ok(cli) => panic!("{line} was taken as {cli:?}"),
		Err(error) => error,
	}
}

#[test]
fn the_definition_is_sound() {
	Cli::command().debug_assert();
}

#[test]
fn commands_of_the_contract() {
	for line in [
		"inlet status",
		"inlet status --watch",
		"inlet info",
		"inlet balance",
		"inlet address",
		"inlet send bcrt1qxyz 250000sat",
		"inlet send bcrt1qxyz all --feerate 2.5 --dry-run --yes",
		"inlet utxos",
		"inlet utxos list --limit 500",
		"inlet peers",
		"inlet peers list",
		"inlet peers disconnect 02ee",
		"inlet channels",
		"inlet channels list --limit 10 --cursor abc",
		"inlet channels show 9c1e",
		"inlet channels close 9c1e --break-lease -y",
		"inlet channels force-close 9c1e --yes",
		"inlet channels policy 9c1e --base 1000msat --ppm 100 --cltv-delta 72",
		"inlet channels policy 9c1e --ppm 100",
		"inlet channels policy 9c1e --cltv-delta 72",
		"inlet invoice any",
		"inlet invoice 250000sat --description coffee --expiry 60m",
		"inlet pay lnbc1xyz",
		"inlet pay lno1xyz 1000sat --max-fee 10sat --wait 90s --yes",
		"inlet offer",
		"inlet offer 0.01btc --description tips --expiry 7d",
		"inlet payments",
		"inlet payments --limit 7",
		"inlet payments list --cursor abc",
		"inlet payments show 71c0",
		"inlet orders",
		"inlet orders list",
		"inlet orders show 6e7f",
		"inlet sales list",
		"inlet sales show s_7Q2M",
		"inlet clients",
		"inlet clients list",
		"inlet quote 250000sat",
		"inlet quote 250000sat jit --explain",
		"inlet quote --size 250000sat --tier new --feerate 30 --explain",
		"inlet quote --size 1000000sat --lsps1 --blocks 144 --explain",
		"inlet quote 250000sat --client 03ab",
		"inlet clients show 03ab",
		"inlet clients set 03ab --tier trusted --max-payment 500000sat --note cafe",
		"inlet clients set 03ab --block",
		"inlet clients clear 03ab",
		"inlet tokens",
		"inlet tokens list",
		"inlet tokens issue --tier known --uses 1 --expires 7d --label fair",
		"inlet tokens show t_7Q",
		"inlet tokens revoke t_7Q",
		"inlet quote 1000000sat order --client-balance 50000sat --expiry-blocks 4320 --confirms-within 6",
		"inlet ledger",
		"inlet ledger list",
		"inlet capital",
		"inlet capital reclaim",
		"inlet capital reclaim --dry-run",
		"inlet capital reclaim --yes",
		"inlet ledger check",
		"inlet ledger check --wait 10",
		"inlet ledger report --by channel",
		"inlet ledger export --format hledger",
		"inlet fees",
		"inlet storage",
		"inlet storage --rated-tbw 40",
		"inlet backup",
		"inlet backup status",
		"inlet backup init",
		"inlet backup init --take-over",
		"inlet backup now",
		"inlet backup verify",
		"inlet backup verify --from dir:/mnt/usb",
		"inlet restore --from dir:/mnt/usb --seed-file words.txt",
		"inlet restore --from dir:/mnt/usb --recover-funds --take-over",
		"inlet seed restore",
		"inlet sync",
		"inlet events",
		"inlet events --follow",
		"inlet events --follow --since 7",
		"inlet seed show",
		"inlet config check",
		"inlet config check --config /etc/inlet.toml",
		"inlet stop",
		"inlet completions bash",
		"inlet completions zsh",
		"inlet completions fish",
		"inlet run",
	] {
		cli(line);
		cli(&format!("{line} --json --data-dir /d"));
		cli(&line.replacen("inlet", "inlet --json --data-dir /d --network regtest", 1));
	}
	cli(&format!("inlet peers connect {KEY}@127.0.0.1:9735"));
	cli(&format!("inlet channels open {KEY}@127.0.0.1:9735 310000sat --push 1sat --announce --feerate 3 --yes"));
}

#[test]
fn run_as_outside_tools_write_it() {
	for line in [
		"inlet run --data-dir D --network regtest --listen 127.0.0.1:9735 --chain bitcoind:http://u:p@127.0.0.1:18443",
		"inlet --data-dir D run --network regtest --listen 127.0.0.1:9735 --chain bitcoind:http://u:p@127.0.0.1:18443",
		"inlet --data-dir D --network regtest run --listen 127.0.0.1:9735 --chain bitcoind:http://u:p@127.0.0.1:18443",
	] {
		let cli = cli(line);
		assert_eq!(cli.data_dir(), Some(PathBuf::from("D")));
		assert_eq!(cli.network, Some(Network::Regtest));
		let Command::Run(run) = cli.command else { panic!("{line}") };
		assert_eq!(run.listen, ["127.0.0.1:9735"]);
		assert_eq!(run.chain.as_deref(), Some("bitcoind:http://u:p@127.0.0.1:18443"));
	}
	let all = cli(
		"inlet run --config F --alias A --log-level debug --log-format json --announce-addr a:1 --announce-addr b:2 \
		--gossip rgs:https://rapidsync.lightningdevkit.org/snapshot --network mainnet",
	);
	assert_eq!(all.network, Some(Network::Bitcoin));
	let Command::Run(run) = all.command else { panic!() };
	assert_eq!(run.announce_addr, ["a:1", "b:2"]);
	assert_eq!(run.log_format, Some(LogFormat::Json));
}

#[test]
fn json_before_and_after() {
	assert!(cli("inlet --data-dir D --json info").json);
	assert!(cli("inlet info --json --data-dir D").json);
	assert!(cli("inlet --json channels list").json);
	assert!(cli("inlet channels list --json").json);
}

#[test]
fn the_data_directory_is_what_was_given_or_by_network() {
	assert_eq!(cli("inlet --data-dir /x --network regtest info").data_dir(), Some(PathBuf::from("/x")));
	let by_network = |line| cli(line).data_dir().unwrap();
	assert!(by_network("inlet info").ends_with(".inlet/signet"));
	assert!(by_network("inlet --network mainnet info").ends_with(".inlet/mainnet"));
	assert!(by_network("inlet --network bitcoin info").ends_with(".inlet/mainnet"));
}

#[test]
fn mistakes_are_usage_errors_that_say_what_would_be_right() {
	for (line, hint) in [
		("inlet send bcrt1qxyz 250000", "250000sat"),
		("inlet invoice 5", "5sat"),
		("inlet peers connect 02ee@h:1", "66 hex digits"),
		("inlet channels list --limit 501", "1..=500"),
		("inlet channels policy 9c1e", "--base"),
		("inlet channels force-close 9c1e --feerate 5", "--feerate"),
		("inlet events --since 7", "--follow"),
		("inlet run --network moon", "regtest"),
		("inlet frobnicate", "unrecognized"),
	] {
		let error = refused(line);
		assert_eq!(error.exit_code(), 2, "{line}");
		assert!(error.to_string().contains(hint), "{line}: {error}");
	}
}

#[test]
fn version_and_help_are_no_mistakes() {
	let version = refused("inlet --version");
	assert_eq!(version.kind(), ErrorKind::DisplayVersion);
	assert_eq!(version.to_string(), concat!("inlet ", env!("CARGO_PKG_VERSION"), "\n"));
	let help = refused("inlet --help").to_string();
	for command in ["run", "status", "sales", "completions", "Exit codes: 0 done"] {
		assert!(help.contains(command), "{command}");
	}
}

#[test]
fn completions_know_the_commands() {
	for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
		let script = completions(shell);
		assert!(script.contains("force-close") && script.contains("ledger"), "{shell:?}");
	}
}
