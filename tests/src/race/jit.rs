//! Sales just in time: from the payer's sending to the wallet's money, the channel opened on the way.

use super::crowd::{Crowd, Kind, Member};
use super::lsp::Lsp;
use super::report::{Sample, percentile};
use crate::{Bitcoind, Scratch};
use anyhow::Result;
use futures::future::try_join_all;
use std::time::{Duration, Instant};

/// What is paid.
const MSAT: u64 = 100_000_000;
/// A fresh ldk-node looks at incoming payments for the first time two seconds after its start.
const WALLET_WAKES: Duration = Duration::from_millis(2_500);

/// New clients, their purchases, and their payments.
pub struct Sales<'a> {
	/// The LSP.
	pub lsp: &'a Lsp,
	/// Who pays.
	pub crowd: &'a Crowd,
	/// What the new clients are.
	pub kind: Kind,
	/// The chain.
	pub chain: &'a Bitcoind,
	/// Where they live.
	pub scratch: &'a Scratch,
}

impl Sales<'_> {
	/// `count` sales, one after another or all at once, to clients that have no channel yet.
	///
	/// # Errors
	/// One of them fails.
	pub async fn sell(&self, count: usize, at_once: bool, sample: &mut Sample) -> Result<()> {
		let uri = self.lsp.uri();
		let newcomer = async |_: usize| Member::start(self.kind, "new", Some(&uri), self.chain, self.scratch).await;
		let newcomers = try_join_all((0..count).map(newcomer)).await?;
		if self.kind == Kind::Wallets {
			tokio::time::sleep(WALLET_WAKES).await;
		}
		let bills = try_join_all(newcomers.iter().map(|newcomer| newcomer.jit_bill(MSAT))).await?;
		self.lsp.quiet().await?;
		let before = self.lsp.counts()?;
		let sale = async |n: usize| {
			let begun = Instant::now();
			let paid = self.crowd.payer(n).pay(&bills[n]);
			let (received, paid) = tokio::join!(newcomers[n].received(&bills[n]), paid);
			paid?;
			Ok::<_, anyhow::Error>(received? - begun)
		};
		let mut times = Vec::new();
		if at_once {
			times = try_join_all((0..count).map(sale)).await?;
		} else {
			for n in 0..count {
				times.push(sale(n).await?);
			}
		}
		self.lsp.quiet().await?;
		let cost = self.lsp.counts()? - before;
		times.sort();
		let of = |sum: f64| sum / count as f64;
		sample.note("p50 ms", percentile(&times, 0.5));
		sample.note("p95 ms", percentile(&times, 0.95));
		sample.note("CPU ms", of(cost.cpu_ms));
		sample.note("syncs", of(cost.syncs));
		sample.note("kB written", of(cost.bytes) / 1000.0);
		// The next sale is to find confirmed coins: ldk-node would spend the same ones again.
		self.chain.mine(1).await?;
		self.lsp.in_step(self.chain).await?;
		// They leave for good: their channels stay, without them.
		drop(newcomers);
		Ok(())
	}
}
