//! Those who pay and are paid over an LSP: thin clients in this process, or real wallets.

use super::lsp::{LONG, Lsp};
use crate::thin::{ThinConfig, ThinEvent, ThinNode};
use crate::wallet::Invoice;
use crate::{Bitcoind, Scratch, Wallet, WalletOptions, eventually};
use anyhow::{Context, Result, anyhow, bail};
use futures::future::try_join_all;
use lightning_invoice::Bolt11Invoice;
use serde_json::json;
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Those who pay.
pub const PAYERS: usize = 5;
/// Those who are paid.
pub const CLIENTS: usize = 10;
/// Of each of their channels.
const CHANNEL_SAT: u64 = 8_000_000;
/// What is on the LSP's side of a client's channel.
const LSP_SAT: u64 = 7_800_000;
/// Of an idle channel.
const IDLE_SAT: u64 = 100_000;
/// Nodes that the idle channels are with, unless it is said how many channels each has: one for so many channels, within these
/// bounds.
const CHANNELS_PER_NODE: usize = 20;
/// See [`CHANNELS_PER_NODE`]. More than the greatest number cannot open their first channels at once: LDK refuses to have more peers
/// whose channels are all unfunded.
const IDLE_NODES: std::ops::RangeInclusive<usize> = 8..=50;
/// LDK lets a peer have four channels at a time that are not funded yet.
const AT_ONCE: usize = 4;
/// How often thin clients look for blocks: often enough, and not so often that it disturbs the race.
const POLL: Duration = Duration::from_millis(1_000);
/// Longest wait for one payment: ldk-node on a slow disk takes more than two minutes for 150 at once.
const PAYMENT_LIMIT: Duration = Duration::from_secs(300);

/// What kind of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
	/// `tests/src/thin`: they set TCP_NODELAY and do at once what is to be done.
	Thin,
	/// ldk-node 0.7.1, its store in memory.
	Wallets,
}

impl Kind {
	/// By its name.
	pub fn named(name: &str) -> Option<Kind> {
		[Kind::Thin, Kind::Wallets].into_iter().find(|kind| kind.name() == name)
	}

	/// Its name.
	pub fn name(self) -> &'static str {
		match self {
			Kind::Thin => "thin",
			Kind::Wallets => "wallets",
		}
	}
}

/// Clients of one LSP.
pub struct Crowd {
	payers: Vec<Member>,
	clients: Vec<Member>,
	idle: Vec<ThinNode>,
}

/// One node of them.
pub enum Member {
	/// A thin one.
	Thin(Thin),
	/// A real wallet.
	Wallet(Box<Wallet>),
}

/// A thin node, and who waits for what happens to it.
pub struct Thin {
	node: ThinNode,
	waiting: Waiting,
}

type Waiting = Arc<Mutex<Waits>>;

/// Those who wait for a payment, by its hash: its sender, and its receiver. Never more than payments under way.
#[derive(Default)]
struct Waits {
	sent: HashMap<[u8; 32], oneshot::Sender<Result<Instant, String>>>,
	received: HashMap<[u8; 32], oneshot::Sender<Instant>>,
}

impl Thin {
	async fn start(chain: &Bitcoind, config: ThinConfig) -> Result<Thin> {
		let node = ThinNode::start(chain, ThinConfig { poll: POLL, ..config }).await?;
		let (mut events, waiting) = (node.follow(), Waiting::default());
		let waits = Arc::clone(&waiting);
		// Detached: it ends with the node.
		tokio::spawn(async move {
			while let Some((at, event)) = events.recv().await {
				lock(&waits).tell(at, event);
			}
		});
		Ok(Thin { node, waiting })
	}
}

impl Waits {
	fn tell(&mut self, at: Instant, event: ThinEvent) {
		// Nobody listens any more if it took too long.
		match event {
			ThinEvent::PaymentSent { hash, .. } => {
				let _ = self.sent.remove(&hash.0).map(|waits| waits.send(Ok(at)));
			}
			ThinEvent::PaymentFailed { hash, reason } => {
				let _ = self.sent.remove(&hash.0).map(|waits| waits.send(Err(reason)));
			}
			ThinEvent::PaymentClaimed { hash, .. } => {
				let _ = self.received.remove(&hash.0).map(|waits| waits.send(at));
			}
			_ => {}
		}
	}
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, Waits> {
	waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be paid, by either kind.
#[derive(Clone, Debug)]
pub struct Bill {
	invoice: Bolt11Invoice,
	wallet: Invoice,
}

impl Bill {
	fn new(invoice: Bolt11Invoice) -> Bill {
		let wallet = Invoice { text: invoice.to_string(), hash: invoice.payment_hash().to_string() };
		Bill { invoice, wallet }
	}
}

impl Member {
	/// Starts a node; with `lsp` as a client of it.
	///
	/// # Errors
	/// It does not start.
	pub async fn start(
		kind: Kind,
		name: &str,
		lsp: Option<&str>,
		chain: &Bitcoind,
		scratch: &Scratch,
	) -> Result<Member> {
		Ok(match kind {
			Kind::Thin => {
				let config = lsp.map_or_else(|| ThinConfig::stranger(name), |lsp| ThinConfig::client(name, lsp));
				Member::Thin(Thin::start(chain, config).await?)
			}
			Kind::Wallets => {
				let options = WalletOptions {
					name: name.to_owned(),
					chain: vec!["--bitcoind".to_owned(), chain.url()],
					lsp: lsp.map(str::to_owned),
					in_memory: true,
					arguments: ["--log", "info"].map(str::to_owned).to_vec(),
					..WalletOptions::default()
				};
				Member::Wallet(Box::new(Wallet::start(scratch, options).await?))
			}
		})
	}

	/// An invoice of this many millisatoshi.
	///
	/// # Errors
	/// It cannot make one.
	pub async fn bill(&self, msat: u64) -> Result<Bill> {
		Ok(Bill::new(match self {
			Member::Thin(thin) => thin.node.invoice(Some(msat))?,
			Member::Wallet(wallet) => parse(&wallet.invoice(Some(msat)).await?)?,
		}))
	}

	/// An invoice whose payment opens a channel.
	///
	/// # Errors
	/// The LSP refuses.
	pub async fn jit_bill(&self, msat: u64) -> Result<Bill> {
		Ok(Bill::new(match self {
			Member::Thin(thin) => thin.node.receive_jit(Some(msat)).await?,
			Member::Wallet(wallet) => parse(&wallet.jit_invoice(Some(msat)).await?)?,
		}))
	}

	/// Pays, and gives how long it took until the payer knew that it had arrived.
	///
	/// # Errors
	/// It fails, or takes too long.
	pub async fn pay(&self, bill: &Bill) -> Result<Duration> {
		let begun = Instant::now();
		let done = match self {
			Member::Thin(thin) => {
				let (tell, told) = oneshot::channel();
				lock(&thin.waiting).sent.insert(bill.invoice.payment_hash().0, tell);
				thin.node.pay(&bill.invoice, None, 1)?;
				let told = tokio::time::timeout(PAYMENT_LIMIT, told).await.context("a payment takes too long")?;
				told?.map_err(|reason| anyhow!("a payment fails: {reason}"))?
			}
			Member::Wallet(wallet) => {
				let mark = wallet.mark()?;
				wallet.pay(&bill.wallet, None).await?;
				let (hash, sent, failed) = (bill.wallet.hash.as_str(), "payment_successful", "payment_failed");
				tokio::select! {
					sent = wallet.event(mark, sent, PAYMENT_LIMIT, |event| event["payment_hash"] == hash) => sent?.at,
					failed = wallet.event(mark, failed, PAYMENT_LIMIT, |event| event["payment_hash"] == hash) => {
						bail!("a payment fails: {}", failed?.what)
					}
				}
			}
		};
		Ok(done - begun)
	}

	/// Waits until this node has the money of a bill of its own, and gives when. To be called before it is paid.
	///
	/// # Errors
	/// It takes too long.
	pub async fn received(&self, bill: &Bill) -> Result<Instant> {
		match self {
			Member::Thin(thin) => {
				let (tell, told) = oneshot::channel();
				lock(&thin.waiting).received.insert(bill.invoice.payment_hash().0, tell);
				Ok(tokio::time::timeout(PAYMENT_LIMIT, told).await.context("the money does not come")??)
			}
			Member::Wallet(wallet) => Ok(wallet.received(&bill.wallet, PAYMENT_LIMIT).await?.at),
		}
	}

	/// Its process, if it is one of its own.
	pub fn pid(&self) -> Option<u32> {
		match self {
			Member::Thin(_) => None,
			Member::Wallet(wallet) => wallet.pid().ok(),
		}
	}

	/// Opens a channel and waits until its transaction is in the mempool.
	async fn open(&self, uri: &str, sat: u64, push_sat: u64, chain: &Bitcoind) -> Result<()> {
		match self {
			Member::Thin(thin) => thin.node.open_channel(uri, sat, push_sat, false).await.map(drop),
			Member::Wallet(wallet) => {
				let before = chain.mempool().await?.len();
				wallet.connect(uri).await?;
				let arguments =
					json!({ "peer": uri, "amount_sat": sat, "push_msat": push_sat * 1000, "announce": false });
				wallet.call("open_channel", arguments).await?;
				chain.wait_for_mempool(before + 1, LONG).await.map(drop)
			}
		}
	}

	async fn usable(&self) -> Result<()> {
		match self {
			Member::Thin(thin) => thin.node.usable_channels(1, LONG).await.map(drop),
			Member::Wallet(wallet) => {
				wallet.sync().await?;
				wallet.usable_channels(1, LONG).await
			}
		}
	}
}

fn parse(invoice: &Invoice) -> Result<Bolt11Invoice> {
	Bolt11Invoice::from_str(&invoice.text).map_err(|e| anyhow!("no invoice: {e:?}"))
}

impl Crowd {
	/// Starts payers and clients and opens their channels with the LSP, and idle ones until there are `channels` in all, with
	/// nodes of `per_node` each.
	///
	/// # Errors
	/// One does not start, or a channel does not open.
	pub async fn gather(
		kind: Kind,
		(channels, per_node): (usize, Option<usize>),
		lsp: &Lsp,
		chain: &Bitcoind,
		scratch: &Scratch,
	) -> Result<Crowd> {
		let (mut payers, mut clients, uri) = (Vec::new(), Vec::new(), lsp.uri());
		for i in 0..PAYERS {
			payers.push(Member::start(kind, &format!("payer{i}"), None, chain, scratch).await?);
		}
		for i in 0..CLIENTS {
			clients.push(Member::start(kind, &format!("client{i}"), Some(&uri), chain, scratch).await?);
		}
		if kind == Kind::Wallets {
			give_coins(payers.iter().chain(&clients), chain).await?;
		}
		for (member, push) in payers.iter().map(|p| (p, 0)).chain(clients.iter().map(|c| (c, LSP_SAT))) {
			member.open(&uri, CHANNEL_SAT, push, chain).await?;
		}
		chain.mine(6).await?;
		lsp.in_step(chain).await?;
		for member in payers.iter().chain(&clients) {
			member.usable().await?;
		}
		let mut crowd = Crowd { payers, clients, idle: Vec::new() };
		crowd.fill(channels, per_node, &uri, lsp, chain).await?;
		// The first payment of a channel is unlike all others.
		for i in 0..PAYERS.max(CLIENTS) {
			crowd.pay(i).await?;
		}
		Ok(crowd)
	}

	/// Opens idle channels until there are this many in all.
	async fn fill(
		&mut self,
		channels: usize,
		per_node: Option<usize>,
		uri: &str,
		lsp: &Lsp,
		chain: &Bitcoind,
	) -> Result<()> {
		let mut open = PAYERS + CLIENTS;
		let mut each = 0;
		let nodes = match per_node {
			Some(per_node) => channels.saturating_sub(open).div_ceil(per_node),
			None => (channels / CHANNELS_PER_NODE).clamp(*IDLE_NODES.start(), *IDLE_NODES.end()),
		};
		let at_once = per_node.map_or(AT_ONCE, |per_node| per_node.min(AT_ONCE));
		if open < channels {
			split_coins(nodes * at_once, chain).await?;
		}
		while open < channels {
			if self.idle.len() < nodes {
				let config = ThinConfig { poll: POLL, ..ThinConfig::stranger(&format!("idle{}", self.idle.len())) };
				self.idle.push(ThinNode::start(chain, config).await?);
				continue;
			}
			each += at_once;
			for some in self.idle.chunks(*IDLE_NODES.end()) {
				let batch = some.iter().map(|node| async move {
					for _ in 0..at_once {
						node.open_channel(uri, IDLE_SAT, 0, false).await?;
					}
					Ok::<(), anyhow::Error>(())
				});
				try_join_all(batch).await?;
				open += some.len() * at_once;
				chain.mine(6).await?;
				lsp.in_step(chain).await?;
				for node in some {
					node.usable_channels(each, LONG).await?;
				}
			}
			eprintln!("{}: {open} channels", lsp.name);
		}
		Ok(())
	}

	/// Waits until everybody is connected again, after the LSP came back.
	///
	/// # Errors
	/// They are not in time.
	pub async fn come_back(&self, uri: &str) -> Result<()> {
		let thin = async |node: &ThinNode| {
			eventually(LONG, "a client connects again", async || Ok(Some(node.connect(uri).await?))).await
		};
		for node in &self.idle {
			thin(node).await?;
		}
		for member in self.payers.iter().chain(&self.clients) {
			match member {
				Member::Thin(member) => thin(&member.node).await?,
				Member::Wallet(wallet) => wallet.connect(uri).await?,
			}
			member.usable().await?;
		}
		Ok(())
	}

	/// The payer of payment number `n`.
	pub fn payer(&self, n: usize) -> &Member {
		&self.payers[n % self.payers.len()]
	}

	/// The client of payment number `n`.
	pub fn client(&self, n: usize) -> &Member {
		&self.clients[n % self.clients.len()]
	}

	/// Processes of their own.
	pub fn pids(&self) -> Vec<u32> {
		self.payers.iter().chain(&self.clients).filter_map(Member::pid).collect()
	}

	async fn pay(&self, n: usize) -> Result<Duration> {
		let bill = self.client(n).bill(super::forward::MSAT).await?;
		// What a client needs for its route hint, and a payer to send, may take a moment after the channel is usable.
		eventually(LONG, "a first payment arrives", async || Ok(Some(self.payer(n).pay(&bill).await?))).await
	}
}

/// A coin for each channel of a batch: bitcoind lets no more than 25 transactions hang on one that is not mined.
async fn split_coins(count: usize, chain: &Bitcoind) -> Result<()> {
	const COIN_SAT: u64 = 5_000_000;
	let mut outputs = Vec::new();
	for _ in 0..count {
		outputs.push((chain.address().await?, COIN_SAT));
	}
	chain.fund(&outputs).await
}

async fn give_coins(members: impl Iterator<Item = &Member>, chain: &Bitcoind) -> Result<()> {
	let wallets: Vec<&Wallet> = members
		.filter_map(|member| match member {
			Member::Wallet(wallet) => Some(&**wallet),
			Member::Thin(_) => None,
		})
		.collect();
	let mut outputs = Vec::new();
	for wallet in &wallets {
		outputs.push((wallet.address().await?, CHANNEL_SAT + 200_000));
	}
	chain.fund(&outputs).await?;
	for wallet in wallets {
		eventually(LONG, "a wallet sees its coins", async || {
			wallet.sync().await?;
			Ok((wallet.onchain_sat().await? >= CHANNEL_SAT).then_some(()))
		})
		.await?;
	}
	Ok(())
}
