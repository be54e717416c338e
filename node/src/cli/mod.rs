//! The command line: what can be typed, and what it means. What then happens is in [`client`](crate::client) and in the
//! node.

mod commands;
mod units;

#[cfg(test)]
mod tests;

pub use commands::*;
pub use units::{Amount, AmountOrAll, AmountOrAny, Feerate, ParseUnitError, PeerAddress, Seconds};

use clap::{CommandFactory, Parser};
use std::path::PathBuf;

/// A Lightning Service Provider in one binary: runs a node, sells channels, and is its own client.
#[derive(Clone, Debug, Parser)]
#[command(name = "inlet", version, propagate_version = false, disable_help_subcommand = true, after_help = AFTER_HELP)]
pub struct Cli {
	/// Where everything is kept [default: ~/.inlet/NETWORK]
	#[arg(long, global = true, value_name = "DIR", env = "INLET_DATA_DIR", help_heading = "Everywhere")]
	pub data_dir: Option<PathBuf>,
	/// Which network: only this decides what a coin is worth [default: signet]
	#[arg(long, global = true, value_name = "NETWORK", env = "INLET_NETWORK", help_heading = "Everywhere")]
	pub network: Option<Network>,
	/// Print what the API says, as JSON
	#[arg(long, global = true, help_heading = "Everywhere")]
	pub json: bool,
	/// The admin socket, once the configuration has said where it is; `admin.sock` in the data directory until then.
	#[arg(skip)]
	pub socket: Option<PathBuf>,
	/// What to do.
	#[command(subcommand)]
	pub command: Command,
}

const AFTER_HELP: &str = "Amounts have a unit: 250000sat, 0.01btc, 1000msat. Ids can be shortened to a prefix that fits one thing only.\n\
	Exit codes: 0 done, 1 refused or failed, 2 usage, 3 node not reachable.";

/// A network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Network {
	/// Real money.
	#[value(name = "mainnet", alias = "bitcoin")]
	Bitcoin,
	/// For tests, blocks are signed.
	Signet,
	/// For tests, fourth of its kind.
	Testnet4,
	/// For tests, of one's own.
	Regtest,
}

impl Network {
	/// Its name, as in `--network` and in the data directory's path.
	pub fn as_str(self) -> &'static str {
		match self {
			Network::Bitcoin => "mainnet",
			Network::Signet => "signet",
			Network::Testnet4 => "testnet4",
			Network::Regtest => "regtest",
		}
	}
}

impl From<Network> for bitcoin::Network {
	fn from(network: Network) -> bitcoin::Network {
		match network {
			Network::Bitcoin => bitcoin::Network::Bitcoin,
			Network::Signet => bitcoin::Network::Signet,
			Network::Testnet4 => bitcoin::Network::Testnet4,
			Network::Regtest => bitcoin::Network::Regtest,
		}
	}
}

/// What `--network` is if nothing says otherwise.
pub const DEFAULT_NETWORK: Network = Network::Signet;

impl Cli {
	/// The data directory: exactly what was given, or `~/.inlet/NETWORK`. `None` if there is no home directory either.
	pub fn data_dir(&self) -> Option<PathBuf> {
		match &self.data_dir {
			Some(dir) => Some(dir.clone()),
			None => Some(default_root()?.join(self.network.unwrap_or(DEFAULT_NETWORK).as_str())),
		}
	}
}

/// Where the data directories are unless `--data-dir` is given: `~/.inlet`.
pub fn default_root() -> Option<PathBuf> {
	Some(std::env::home_dir().filter(|home| !home.as_os_str().is_empty())?.join(".inlet"))
}

/// Parses the command line. With a mistake in it, `--help` or `--version` it prints what there is to say and ends the process
/// (2 for a mistake, else 0).
pub fn parse() -> Cli {
	Cli::parse()
}

/// The script that completes commands in `shell`.
pub fn completions(shell: Shell) -> String {
	let mut script = Vec::new();
	let generator = match shell {
		Shell::Bash => clap_complete::Shell::Bash,
		Shell::Zsh => clap_complete::Shell::Zsh,
		Shell::Fish => clap_complete::Shell::Fish,
	};
	clap_complete::generate(generator, &mut Cli::command(), "inlet", &mut script);
	String::from_utf8(script).expect("made of strings")
}
