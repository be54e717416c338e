//! A real LSP with so many channels, and what it asks its store to write.

use anyhow::{Context, Result};
use inlet_tests::thin::{ThinConfig, ThinNode};
use inlet_tests::{Backend, InletOptions, Scratch, World, eventually};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a step of many channels may take.
const LONG: Duration = Duration::from_secs(120);
/// LDK lets a peer have four channels at a time that are not yet funded.
const AT_ONCE: usize = 4;
/// Peers that open the idle channels.
const PEERS: usize = 8;
const CHANNEL_SAT: u64 = 200_000;
const ANCHOR_COIN_SAT: u64 = 20_000;
/// Payments before those that count.
const WARM_UP: usize = 40;
/// Payments at once: LDK lets so many be under way in a channel.
const TOGETHER: usize = 50;
/// Channels sold just in time: the LSP has eight coins.
const SALES: usize = 5;
/// An LSP that takes as many channels as it is offered.
const CONFIG: &str = "[routing]\ninbound_max_per_peer = 1000\ninbound_max_channels = 5000\n";

/// Where a recording is, and where in it the payments are.
pub struct Recording {
	/// The file, made by the store (`DEBUG_STORE_RECORD`).
	pub file: PathBuf,
	/// Channels that the LSP had.
	pub channels: usize,
	/// Payments that it forwarded one after another, and the bytes of the file in which it did.
	pub alone: (usize, std::ops::Range<u64>),
	/// And those that it forwarded all at once.
	pub together: (usize, std::ops::Range<u64>),
	/// Channels that it sold just in time, one after another.
	pub sales: (usize, std::ops::Range<u64>),
	/// A restart.
	pub restart: std::ops::Range<u64>,
}

impl Recording {
	fn index(file: &Path) -> PathBuf {
		file.with_extension("parts")
	}

	/// Writes down where its parts are, beside it.
	pub fn save(&self) -> Result<()> {
		let parts = [&self.alone.1, &self.together.1, &self.sales.1, &self.restart];
		let counts = [self.channels, self.alone.0, self.together.0, self.sales.0];
		let mut words: Vec<u64> = counts.map(|count| count as u64).to_vec();
		parts.into_iter().for_each(|part| words.extend([part.start, part.end]));
		let words: Vec<_> = words.iter().map(u64::to_string).collect();
		Ok(std::fs::write(Recording::index(&self.file), words.join(" "))?)
	}

	/// One that was saved.
	pub fn load(file: &Path) -> Result<Recording> {
		let words = std::fs::read_to_string(Recording::index(file))?;
		let words: Vec<u64> = words.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
		let [channels, alone, together, sales, a, b, c, d, e, f, g, h] = words[..] else {
			anyhow::bail!("not a recording of this version")
		};
		let count = usize::try_from;
		Ok(Recording {
			file: file.to_owned(),
			channels: count(channels)?,
			alone: (count(alone)?, a..b),
			together: (count(together)?, c..d),
			sales: (count(sales)?, e..f),
			restart: g..h,
		})
	}
}

/// Makes a recording.
pub async fn record(dir: &Path, channels: usize, payments: usize) -> Result<Recording> {
	let scratch = Scratch::new()?;
	let file = dir.join(format!("{channels}.record"));
	let options = InletOptions {
		config: CONFIG.to_owned(),
		environment: vec![("DEBUG_STORE_RECORD".into(), file.to_str().context("a path")?.into())],
		..InletOptions::default()
	};
	let world = World::start_with(&scratch, Backend::Bitcoind, options).await?;
	// The anchors of so many channels want coins before anything is sold.
	let mut coins = Vec::new();
	for _ in 0..channels {
		coins.push((world.lsp.address().await?, ANCHOR_COIN_SAT));
	}
	world.bitcoind.fund(&coins).await?;
	let payer = ThinNode::start(&world.bitcoind, ThinConfig::stranger("payer")).await?;
	let payee = ThinNode::start(&world.bitcoind, ThinConfig::stranger("payee")).await?;
	let uri = world.lsp.uri();
	payer.open_channel(&uri, 5_000_000, 0, true).await?;
	payee.open_channel(&uri, 5_000_000, 4_900_000, false).await?;
	let mut peers = Vec::new();
	for i in 0..PEERS {
		peers.push(ThinNode::start(&world.bitcoind, ThinConfig::stranger(&format!("idle{i}"))).await?);
	}
	let mut open = 2;
	while open < channels {
		for peer in &peers {
			for _ in 0..AT_ONCE.min(channels - open) {
				peer.open_channel(&uri, CHANNEL_SAT, 0, false).await?;
				open += 1;
			}
		}
		world.bitcoind.mine(6).await?;
		usable(&world, open).await?;
		eprintln!("{open} channels");
	}
	world.bitcoind.mine(6).await?;
	usable(&world, open).await?;
	payer.usable_channels(1, LONG).await?;
	payee.usable_channels(1, LONG).await?;
	let size = || Ok::<u64, anyhow::Error>(std::fs::metadata(&file)?.len());
	// What opening the channels has left in the store's log is settled by then.
	for _ in 0..WARM_UP {
		pay(&payer, &payee).await?;
	}
	quiet(&file).await?;
	let before = size()?;
	for _ in 0..payments {
		pay(&payer, &payee).await?;
	}
	quiet(&file).await?;
	let alone = (payments, before..size()?);
	let before = size()?;
	let mut hashes = Vec::new();
	for _ in 0..TOGETHER {
		hashes.push(payer.pay(&payee.invoice(Some(100_000))?, None, 1)?);
	}
	for hash in hashes {
		payer.outcome(hash, LONG).await?.map_err(|e| anyhow::anyhow!(e))?;
	}
	quiet(&file).await?;
	let together = (TOGETHER, before..size()?);
	let before = size()?;
	let mut clients = Vec::new();
	for i in 0..SALES {
		clients.push(buy(&world, &payer, i).await?);
	}
	quiet(&file).await?;
	let sales = (SALES, before..size()?);
	// The first start after many blocks puts the wallet's changes together: it is once in 64 blocks.
	restart(&world, &file).await?;
	let before = size()?;
	restart(&world, &file).await?;
	let restart = before..size()?;
	Ok(Recording { file, channels, alone, together, sales, restart })
}

/// A new client buys a channel just in time, and gets the payment that brings it.
async fn buy(world: &World<'_>, payer: &ThinNode, number: usize) -> Result<ThinNode> {
	let client =
		ThinNode::start(&world.bitcoind, ThinConfig::client(&format!("client{number}"), &world.lsp.uri())).await?;
	let invoice = client.receive_jit(Some(100_000_000)).await?;
	payer.pay_parts(&invoice, &[100_000_000], 100_000_000)?;
	client.claimed(invoice.payment_hash(), LONG).await?;
	Ok(client)
}

async fn pay(payer: &ThinNode, payee: &ThinNode) -> Result<()> {
	let hash = payer.pay(&payee.invoice(Some(100_000))?, None, 1)?;
	payer.outcome(hash, LONG).await?.map_err(|e| anyhow::anyhow!(e)).map(drop)
}

async fn restart(world: &World<'_>, file: &Path) -> Result<()> {
	world.lsp.stop().await?;
	world.lsp.resume().await?;
	quiet(file).await
}

async fn usable(world: &World<'_>, count: usize) -> Result<()> {
	let there = async || {
		let status = world.lsp.json(&["status"]).await?;
		Ok((status["channels"]["online"].as_u64() >= Some(count as u64)).then_some(()))
	};
	eventually(LONG, &format!("{count} channels"), there).await
}

/// Waits until nothing was written for a while: the tail of a payment.
async fn quiet(file: &Path) -> Result<()> {
	let last = std::cell::Cell::new((0, std::time::Instant::now()));
	eventually(LONG, "the store is quiet", async || {
		let len = std::fs::metadata(file)?.len();
		if len != last.get().0 {
			last.set((len, std::time::Instant::now()));
		}
		Ok((last.get().1.elapsed() > Duration::from_secs(2)).then_some(()))
	})
	.await
}
