//! A private regtest with a funded LSP, and the others that a scenario needs.

use crate::bitcoind::Bitcoind;
use crate::electrum::{self, ElectrumServer};
use crate::esplora::{self, EsploraServer};
use crate::inlet::{Inlet, InletOptions};
use crate::scratch::{Scratch, eventually};
use crate::thin::{RawPeer, RawPeerOptions, ThinConfig, ThinNode, parse_uri};
use crate::wallet::{Wallet, WalletOptions, number};
use crate::webhook::Receiver;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::time::Duration;

/// Blocks that make a channel usable and (announced ones) public.
pub const CHANNEL_DEPTH: u32 = 6;
/// How long things that need no block may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);
/// Coins that the LSP is given, each in an output of its own.
const LSP_COINS: usize = 8;
/// Value of each of them.
const LSP_COIN_SAT: u64 = 2_000_000;

/// What the LSP sees the chain through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
	/// bitcoind's RPC.
	Bitcoind,
	/// An Esplora server on top of that bitcoind.
	Esplora,
	/// An Electrum server on top of that bitcoind (see [`electrum`]).
	Electrum,
}

/// bitcoind, perhaps Esplora or Electrum, and a funded LSP. The parts end in the order of the fields.
pub struct World<'a> {
	/// The LSP.
	pub lsp: Inlet,
	/// The Esplora server, with [`Backend::Esplora`].
	pub esplora: Option<EsploraServer>,
	/// The Electrum server, with [`Backend::Electrum`].
	pub electrum: Option<ElectrumServer>,
	/// The chain.
	pub bitcoind: Bitcoind,
	scratch: &'a Scratch,
}

impl<'a> World<'a> {
	/// A world whose LSP has the default configuration.
	///
	/// # Errors
	/// A part of it does not start.
	pub async fn start(scratch: &'a Scratch, backend: Backend) -> Result<World<'a>> {
		World::start_with(scratch, backend, InletOptions::default()).await
	}

	/// A world whose LSP has these options (their `chain` is filled in).
	///
	/// # Errors
	/// A part of it does not start.
	pub async fn start_with(scratch: &'a Scratch, backend: Backend, mut options: InletOptions) -> Result<World<'a>> {
		let bitcoind = Bitcoind::start(scratch).await?;
		let esplora = match backend {
			Backend::Bitcoind | Backend::Electrum => None,
			Backend::Esplora => Some(esplora::serve(&bitcoind)?),
		};
		let electrum = match backend {
			Backend::Electrum => Some(electrum::serve(scratch, &bitcoind).await?),
			Backend::Bitcoind | Backend::Esplora => None,
		};
		options.chain = match (&esplora, &electrum) {
			(Some(esplora), _) => format!("esplora:{}", esplora.url()),
			(None, Some(electrum)) => format!("electrum:{}", electrum.url()),
			(None, None) => format!("bitcoind:{}", bitcoind.url()),
		};
		let lsp = Inlet::start(scratch, options).await?;
		let world = World { lsp, esplora, electrum, bitcoind, scratch };
		world.fund_lsp().await?;
		Ok(world)
	}

	async fn fund_lsp(&self) -> Result<()> {
		let mut outputs = Vec::new();
		for _ in 0..LSP_COINS {
			outputs.push((self.lsp.address().await?, LSP_COIN_SAT));
		}
		self.bitcoind.fund(&outputs).await?;
		let total = self.lsp_coins_sat();
		let funded = async || Ok((self.lsp.balance().await?["onchain"]["confirmed_sat"] == total).then_some(()));
		eventually(SOON, "the LSP sees its coins", funded).await
	}

	/// What the LSP was given, in satoshis.
	pub fn lsp_coins_sat(&self) -> u64 {
		LSP_COINS as u64 * LSP_COIN_SAT
	}

	/// The chain arguments for a wallet of this world.
	pub fn wallet_chain(&self) -> Vec<String> {
		vec!["--bitcoind".to_owned(), self.bitcoind.url()]
	}

	/// A client of the LSP, without coins.
	///
	/// # Errors
	/// It does not start.
	pub async fn client(&self, name: &str) -> Result<Wallet> {
		self.wallet(WalletOptions { name: name.to_owned(), lsp: Some(self.lsp.uri()), ..Default::default() }).await
	}

	/// A wallet with these options (its `chain` is filled in).
	///
	/// # Errors
	/// It does not start.
	pub async fn wallet(&self, mut options: WalletOptions) -> Result<Wallet> {
		options.chain = self.wallet_chain();
		Wallet::start(self.scratch, options).await
	}

	/// A wallet that has nothing to do with the LSP, without coins.
	///
	/// # Errors
	/// It does not start.
	pub async fn stranger(&self, name: &str) -> Result<Wallet> {
		self.wallet(WalletOptions { name: name.to_owned(), ..Default::default() }).await
	}

	/// Someone who pays: a wallet with a public, confirmed channel of each of these capacities to the LSP, all of the
	/// money on its side.
	///
	/// # Errors
	/// It does not start, or a channel does not open.
	pub async fn payer(&self, channels: &[u64]) -> Result<Wallet> {
		let payer = self.stranger("payer").await?;
		let money = channels.iter().sum::<u64>() + 500_000;
		self.give_coins(&payer, money).await?;
		self.open_channels(&payer, &self.lsp.uri(), channels).await?;
		Ok(payer)
	}

	/// Someone who pays: a thin node with a channel of each of these capacities to the LSP, all of the money on its side.
	///
	/// # Errors
	/// It does not start, or a channel does not open.
	pub async fn thin_payer(&self, channels: &[u64]) -> Result<ThinNode> {
		let payer = ThinNode::start(&self.bitcoind, ThinConfig::stranger("payer")).await?;
		for sat in channels {
			payer.open_channel(&self.lsp.uri(), *sat, 0, false).await?;
		}
		self.mine(CHANNEL_DEPTH, &[]).await?;
		payer.usable_channels(channels.len(), SOON).await?;
		Ok(payer)
	}

	/// Sends coins to a wallet, mines them and waits until the wallet sees them.
	///
	/// # Errors
	/// It does not in time.
	pub async fn give_coins(&self, wallet: &Wallet, sat: u64) -> Result<()> {
		let before = wallet.onchain_sat().await?;
		self.bitcoind.fund(&[(wallet.address().await?, sat)]).await?;
		let funded = async || {
			wallet.sync().await?;
			Ok((wallet.onchain_sat().await? >= before + sat).then_some(()))
		};
		eventually(SOON, &format!("{} sees its coins", wallet.name()), funded).await
	}

	/// Opens public channels from `wallet` to `peer`, mines them, and waits until the wallet can use them.
	///
	/// # Errors
	/// They do not open in time.
	pub async fn open_channels(&self, wallet: &Wallet, peer: &str, channels: &[u64]) -> Result<()> {
		let usable = wallet.channels().await?.iter().filter(|channel| channel["usable"] == true).count();
		for sat in channels {
			let before = self.bitcoind.mempool().await?.len();
			wallet.open_channel(peer, *sat, true).await?;
			self.bitcoind.wait_for_mempool(before + 1, SOON).await?;
			// ldk-node would spend the same coins again until it sees their transaction in a block.
			self.mine(1, &[wallet]).await?;
		}
		self.mine(CHANNEL_DEPTH, &[wallet]).await?;
		wallet.usable_channels(usable + channels.len(), SOON).await?;
		// An LDK node tells its peer what it takes for forwarding when a channel is ready, and the peer forgets that, as the
		// channel is not public yet. It tells it again when they meet again. (Nobody routes over a channel of which they
		// know one direction only.)
		let (node_id, _) = peer.split_once('@').context("a peer is NODE_ID@HOST:PORT")?;
		wallet.call("disconnect", json!({ "node_id": node_id })).await?;
		wallet.connect(peer).await?;
		wallet.usable_channels(usable + channels.len(), SOON).await
	}

	/// Sets a webhook of this wallet, which is connected and has no channel yet: ldk-node cannot, so that it is done in its
	/// name while it is away.
	///
	/// # Errors
	/// The LSP does not take it.
	pub async fn set_webhook(&self, wallet: &Wallet, receiver: &Receiver) -> Result<()> {
		wallet.stop().await?;
		self.lsp.sees(wallet, false).await?;
		let (lsp, address) = parse_uri(&self.lsp.uri())?;
		let mut peer = RawPeer::connect_as(&wallet.identity()?, RawPeerOptions::default(), lsp, address).await?;
		ensure!(peer.node_id().to_string() == wallet.node_id(), "not the wallet's identity");
		let params = json!({ "app_name": "wallet", "webhook": receiver.url("/wake") });
		let response = peer.call("lsps5.set_webhook", params).await?;
		ensure!(response["result"]["num_webhooks"] == 1, "{response}");
		peer.disconnect().await?;
		self.lsp.sees(wallet, false).await?;
		wallet.resume().await?;
		wallet.connect(&self.lsp.uri()).await
	}

	/// The LSP's money in msat: what is on-chain, and of each of its channels what the other end does not own. That is asked
	/// of the others, `peers`, who round down to whole satoshis.
	///
	/// # Errors
	/// One of them does not answer.
	pub async fn wealth_msat(&self, peers: &[&Wallet]) -> Result<i64> {
		let balance = self.lsp.balance().await?;
		let mut sat = 0;
		for name in ["confirmed_sat", "trusted_pending_sat", "untrusted_pending_sat"] {
			sat += number(&balance["onchain"], name)?;
		}
		for peer in peers {
			for channel in peer.channels().await? {
				sat += number(&channel, "value_sat")? - number(&channel, "own_sat")?;
			}
		}
		Ok(i64::try_from(sat * 1000)?)
	}

	/// Mines, and waits until the LSP and these wallets have seen it.
	///
	/// # Errors
	/// One of them does not see it in time.
	pub async fn mine(&self, blocks: u32, wallets: &[&Wallet]) -> Result<()> {
		self.bitcoind.mine(blocks).await?;
		self.settle(wallets).await
	}

	/// Waits until the LSP and these wallets know bitcoind's tip.
	///
	/// # Errors
	/// One of them does not in time.
	pub async fn settle(&self, wallets: &[&Wallet]) -> Result<()> {
		let height = self.bitcoind.height().await?;
		self.lsp.at_height(height, SOON).await?;
		for wallet in wallets {
			let seen = async || Ok((wallet.sync().await? >= u64::from(height)).then_some(()));
			eventually(SOON, &format!("{} knows height {height}", wallet.name()), seen).await?;
		}
		Ok(())
	}
}
