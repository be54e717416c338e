//! The two LSPs, each a process under the library that counts.

use super::meter::{Counts, Interposer, Meter, pin};
use crate::thin::RawPeer;
use crate::{Bitcoind, Inlet, InletOptions, Scratch, Wallet, WalletOptions, eventually};
use anyhow::{Context, Result};
use serde_json::json;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a step may take that may be slow: a start with a thousand channels on a slow disk.
pub const LONG: Duration = Duration::from_secs(300);
/// The LSP's coins, each in an output of its own.
const COINS: usize = 150;
const COIN_SAT: u64 = 1_000_000;
/// For the anchors of a thousand channels.
const RESERVE_SAT: u64 = 300_000_000;
/// The last core, as seen before anything was kept on some of them.
static ALL_CORES: OnceLock<usize> = OnceLock::new();
/// Nothing was synced for this long: what a payment brought about is over.
const QUIET: Duration = Duration::from_millis(250);
/// Longest wait for that.
const QUIET_LIMIT: Duration = Duration::from_secs(30);

/// An Inlet that takes as many channels as it is offered and sells as many at once as it is asked for.
const CONFIG: &str = "[routing]\ninbound_max_per_peer = 20000\ninbound_max_channels = 20000\n";

/// One of the two.
pub struct Lsp {
	/// `inlet` or `ldk-node`.
	pub name: &'static str,
	who: Who,
	meter: Meter,
}

enum Who {
	Inlet(Box<Inlet>),
	LdkNode(Box<Wallet>),
}

impl Lsp {
	/// Starts the LSP of this name on this chain.
	///
	/// # Errors
	/// It does not build or does not start.
	pub async fn start(name: &'static str, scratch: &Scratch, library: &Interposer, chain: &Bitcoind) -> Result<Lsp> {
		let (meter, environment) = library.meter()?;
		let who = match name {
			"inlet" => {
				let (config, chain) = (CONFIG.to_owned(), format!("bitcoind:{}", chain.url()));
				let options = InletOptions { config, chain, environment, ..InletOptions::default() };
				Who::Inlet(Box::new(Inlet::start(scratch, options).await?))
			}
			_ => {
				let arguments = ["--serve", "lsps2", "--log", "info"].map(str::to_owned).to_vec();
				let chain = vec!["--bitcoind".to_owned(), chain.url()];
				let name = "ldk-node".to_owned();
				let options = WalletOptions { name, chain, arguments, environment, ..WalletOptions::default() };
				Who::LdkNode(Box::new(Wallet::start(scratch, options).await?))
			}
		};
		Ok(Lsp { name, who, meter })
	}

	/// Gives it coins to sell channels with and waits until it has seen them.
	///
	/// # Errors
	/// It does not in time.
	pub async fn fund(&self, chain: &Bitcoind) -> Result<()> {
		let mut outputs = vec![(self.address().await?, RESERVE_SAT)];
		for _ in 0..COINS {
			outputs.push((self.address().await?, COIN_SAT));
		}
		chain.fund(&outputs).await?;
		let total = RESERVE_SAT + COINS as u64 * COIN_SAT;
		let funded = async || {
			let sat = match &self.who {
				Who::Inlet(inlet) => inlet.balance().await?["onchain"]["confirmed_sat"].as_u64(),
				Who::LdkNode(node) => node.balances().await?["onchain_sat"].as_u64(),
			};
			Ok((sat >= Some(total)).then_some(()))
		};
		eventually(LONG, &format!("{} sees its coins", self.name), funded).await
	}

	async fn address(&self) -> Result<String> {
		match &self.who {
			Who::Inlet(inlet) => inlet.address().await,
			Who::LdkNode(node) => node.address().await,
		}
	}

	/// Where others reach it.
	pub fn uri(&self) -> String {
		match &self.who {
			Who::Inlet(inlet) => inlet.uri(),
			Who::LdkNode(node) => node.uri(),
		}
	}

	/// Its process number.
	///
	/// # Errors
	/// It does not run.
	pub fn pid(&self) -> Result<u32> {
		match &self.who {
			Who::Inlet(inlet) => inlet.pid(),
			Who::LdkNode(node) => node.pid(),
		}
	}

	/// What it did so far.
	///
	/// # Errors
	/// It does not run.
	pub fn counts(&self) -> Result<Counts> {
		self.meter.read(self.pid()?)
	}

	/// From now on its disk is this much slower. If it is, the LSP has the first core only and `others` all but that, as a
	/// small machine would have it whose clients are elsewhere.
	///
	/// # Errors
	/// One of them does not run, or the machine has one core only.
	pub fn slow_down(&self, delay: Duration, others: &[u32]) -> Result<()> {
		self.meter.slow_down(delay)?;
		let last = std::thread::available_parallelism()?.get().saturating_sub(1);
		let all = format!("0-{}", ALL_CORES.get_or_init(|| last));
		let rest = format!("1-{}", ALL_CORES.get_or_init(|| last));
		let (own, rest) = if delay.is_zero() { (all.as_str(), all.as_str()) } else { ("0", rest.as_str()) };
		pin(self.pid()?, own)?;
		others.iter().try_for_each(|pid| pin(*pid, rest))
	}

	/// Waits until it has written what the last payments left to be written.
	///
	/// # Errors
	/// It does not run.
	pub async fn quiet(&self) -> Result<()> {
		let begun = Instant::now();
		let mut last = (self.counts()?.syncs, Instant::now());
		while last.1.elapsed() < QUIET && begun.elapsed() < QUIET_LIMIT {
			tokio::time::sleep(Duration::from_millis(10)).await;
			let syncs = self.counts()?.syncs;
			if syncs != last.0 {
				last = (syncs, Instant::now());
			}
		}
		Ok(())
	}

	/// The height that it knows.
	///
	/// # Errors
	/// It does not answer.
	pub async fn height(&self) -> Result<u64> {
		let (view, field) = match &self.who {
			Who::Inlet(inlet) => (inlet.info().await?, "block_height"),
			Who::LdkNode(node) => (node.call("status", json!({})).await?, "height"),
		};
		view[field].as_u64().with_context(|| format!("no {field} in {view}"))
	}

	/// Waits until it knows the chain's tip.
	///
	/// # Errors
	/// It does not in time.
	pub async fn in_step(&self, chain: &Bitcoind) -> Result<()> {
		let height = u64::from(chain.height().await?);
		let there = async || Ok((self.height().await? >= height).then_some(()));
		eventually(LONG, &format!("{} is at height {height}", self.name), there).await
	}

	/// Stops it in good order.
	///
	/// # Errors
	/// It does not stop in time.
	pub async fn stop(&self) -> Result<()> {
		match &self.who {
			Who::Inlet(inlet) => inlet.stop().await,
			Who::LdkNode(node) => node.stop().await,
		}
	}

	/// Starts it again; gives how long it took until a peer that had not met it before was greeted.
	///
	/// # Errors
	/// It does not start.
	pub async fn resume(&self) -> Result<Duration> {
		let begun = Instant::now();
		let greeted = async {
			let uri = self.uri();
			loop {
				if RawPeer::connect_to(&uri).await.is_ok() {
					return begun.elapsed();
				}
				tokio::time::sleep(Duration::from_millis(2)).await;
			}
		};
		let running = async {
			match &self.who {
				Who::Inlet(inlet) => inlet.resume().await,
				Who::LdkNode(node) => node.resume().await.map(drop),
			}
		};
		let (greeted, running) = tokio::join!(tokio::time::timeout(LONG, greeted), running);
		running?;
		greeted.with_context(|| format!("{} greets nobody", self.name))
	}
}
