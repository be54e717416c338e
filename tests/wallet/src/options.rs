//! The command line, and the node it asks for.

use crate::store::MemoryStore;
use anyhow::{Context, Result, anyhow, bail};
use ldk_node::bitcoin::Network;
use ldk_node::bitcoin::secp256k1::PublicKey;
use ldk_node::config::{AnchorChannelsConfig, Config, EsploraSyncConfig};
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::liquidity::LSPS2ServiceConfig;
use ldk_node::logger::LogLevel;
use ldk_node::{Builder, Node};
use std::sync::Arc;

/// Where a peer is: `NODE_ID@HOST:PORT`.
#[derive(Clone, Debug)]
pub struct PeerAddress {
	/// Its key.
	pub node_id: PublicKey,
	/// Where it listens.
	pub address: SocketAddress,
}

impl PeerAddress {
	/// Reads `NODE_ID@HOST:PORT`.
	pub fn parse(text: &str) -> Result<PeerAddress> {
		let (node_id, address) = text.split_once('@').with_context(|| format!("not NODE_ID@HOST:PORT: {text}"))?;
		Ok(PeerAddress { node_id: node_id.parse()?, address: socket_address(address)? })
	}
}

fn socket_address(text: &str) -> Result<SocketAddress> {
	text.parse().map_err(|_| anyhow!("not HOST:PORT: {text}"))
}

/// What the command line asks for.
#[derive(Debug, Default)]
pub struct Options {
	dir: String,
	bitcoind: Option<String>,
	esplora: Option<String>,
	listen: Option<String>,
	alias: Option<String>,
	lsps1: Option<PeerAddress>,
	lsps2: Option<PeerAddress>,
	trust: Vec<PeerAddress>,
	in_memory: bool,
	serve: bool,
	log: Option<LogLevel>,
}

impl Options {
	/// Reads `--dir D (--bitcoind http://USER:PASS@HOST:PORT | --esplora URL) [--listen HOST:PORT] [--alias A]
	/// [--lsps1 PEER] [--lsps2 PEER] [--trust PEER]... [--store sqlite|memory] [--serve lsps2] [--log info|debug]`.
	/// With `--serve lsps2` it is an LSP itself and sells channels just in time, for a fixed price.
	pub fn from_args(mut args: impl Iterator<Item = String>) -> Result<Options> {
		let mut options = Options::default();
		while let Some(flag) = args.next() {
			let value = args.next().with_context(|| format!("{flag} wants a value"))?;
			match flag.as_str() {
				"--dir" => options.dir = value,
				"--bitcoind" => options.bitcoind = Some(value),
				"--esplora" => options.esplora = Some(value),
				"--listen" => options.listen = Some(value),
				"--alias" => options.alias = Some(value),
				"--lsps1" => options.lsps1 = Some(PeerAddress::parse(&value)?),
				"--lsps2" => options.lsps2 = Some(PeerAddress::parse(&value)?),
				"--trust" => options.trust.push(PeerAddress::parse(&value)?),
				"--store" => options.in_memory = value == "memory",
				"--serve" => options.serve = value == "lsps2",
				"--log" => options.log = Some(if value == "info" { LogLevel::Info } else { LogLevel::Debug }),
				other => bail!("unknown flag {other}"),
			}
		}
		if options.dir.is_empty() {
			bail!("--dir is missing");
		}
		Ok(options)
	}

	/// A node on regtest, not yet started. It takes channels without confirmations, and without coins of its own for
	/// their anchors, from its LSPs and from those it is told to trust: as wallets for people do.
	pub fn build(self) -> Result<Node> {
		let lsps = self.lsps1.iter().chain(&self.lsps2).chain(&self.trust);
		let trusted: Vec<PublicKey> = lsps.map(|peer| peer.node_id).collect();
		let anchors = AnchorChannelsConfig { trusted_peers_no_reserve: trusted.clone(), ..Default::default() };
		let mut builder = Builder::from_config(Config {
			network: Network::Regtest,
			storage_dir_path: self.dir.clone(),
			trusted_peers_0conf: trusted,
			anchor_channels_config: Some(anchors),
			..Config::default()
		});
		builder
			.set_filesystem_logger(Some(format!("{}/wallet.log", self.dir)), Some(self.log.unwrap_or(LogLevel::Debug)));
		match (&self.bitcoind, self.esplora) {
			(Some(url), None) => {
				let (user, password, host, port) = bitcoind_url(url)?;
				builder.set_chain_source_bitcoind_rpc(host, port, user, password);
			}
			(None, Some(url)) => {
				builder.set_chain_source_esplora(url, Some(EsploraSyncConfig::default()));
			}
			_ => bail!("one of --bitcoind and --esplora is needed"),
		}
		if let Some(listen) = &self.listen {
			builder.set_listening_addresses(vec![socket_address(listen)?])?;
		}
		if let Some(alias) = self.alias {
			builder.set_node_alias(alias)?;
		}
		if let Some(lsp) = self.lsps1 {
			builder.set_liquidity_source_lsps1(lsp.node_id, lsp.address, None);
		}
		if let Some(lsp) = self.lsps2 {
			builder.set_liquidity_source_lsps2(lsp.node_id, lsp.address, None);
		}
		if self.serve {
			builder.set_liquidity_provider_lsps2(service());
		}
		let store = Arc::new(MemoryStore::default());
		Ok(if self.in_memory { builder.build_with_store(store)? } else { builder.build()? })
	}
}

/// What it sells as an LSP: about what Inlet sells by default.
fn service() -> LSPS2ServiceConfig {
	LSPS2ServiceConfig {
		require_token: None,
		advertise_service: false,
		channel_opening_fee_ppm: 4_000,
		channel_over_provisioning_ppm: 250_000,
		min_channel_opening_fee_msat: 1_000_000,
		min_channel_lifetime: 4_320,
		max_client_to_self_delay: 2_016,
		min_payment_size_msat: 1_000_000,
		max_payment_size_msat: 1_000_000_000,
		client_trusts_lsp: false,
	}
}

/// Takes `http://USER:PASS@HOST:PORT` apart.
fn bitcoind_url(url: &str) -> Result<(String, String, String, u16)> {
	let parts = || {
		let (auth, address) = url.strip_prefix("http://")?.trim_end_matches('/').rsplit_once('@')?;
		let (user, password) = auth.split_once(':')?;
		let (host, port) = address.rsplit_once(':')?;
		Some((user.to_owned(), password.to_owned(), host.to_owned(), port.parse().ok()?))
	};
	parts().context("--bitcoind wants http://USER:PASS@HOST:PORT")
}
