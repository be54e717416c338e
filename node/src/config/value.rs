//! The types that settings are parsed into. Each parser answers with what is wrong and what would be right.

use bitcoin::Network;
use bitcoin::secp256k1::PublicKey;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// What is wrong with a value, and what would be right. Free of the value itself where that may be secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
	pub problem: String,
	pub right: String,
}

pub(super) fn wrong(problem: impl Into<String>, right: impl Into<String>) -> Wrong {
	Wrong { problem: problem.into(), right: right.into() }
}

/// A text that is never printed: `Debug` hides it and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
	/// Hides a text.
	pub(super) fn new(text: &str) -> Secret {
		Secret(text.to_owned())
	}

	/// The text itself, for the one place that has to send it.
	pub fn expose(&self) -> &str {
		&self.0
	}
}

impl fmt::Debug for Secret {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str("[hidden]")
	}
}

/// Where blocks, transactions and fee estimates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainBackend {
	/// Esplora servers, in the order in which they are tried.
	Esplora {
		/// Base URLs without a trailing slash.
		urls: Vec<String>,
	},
	/// An Electrum server.
	Electrum {
		/// `tcp://HOST:PORT` or `ssl://HOST:PORT`, without a trailing slash.
		url: String,
	},
	/// A Bitcoin Core (or Knots) node's RPC.
	Bitcoind {
		/// `http://HOST:PORT`, without user, password and trailing slash.
		url: String,
		/// How we prove who we are.
		auth: BitcoindAuth,
	},
}

/// How an RPC client of bitcoind proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BitcoindAuth {
	/// `rpcuser` or `rpcauth`.
	UserPass {
		/// User name.
		user: String,
		/// Password, taken literally (no percent-decoding).
		password: Secret,
	},
	/// bitcoind's cookie file, read at every connection since bitcoind writes a new one at each start.
	Cookie(PathBuf),
}

const CHAIN_FORMS: &str = "write esplora:URL[,URL...], electrum:ssl://HOST:PORT, bitcoind:http://USER:PASSWORD@HOST:PORT or \
	 bitcoind:cookie=/path/to/.cookie@http://HOST:PORT";

pub(super) fn network(text: &str) -> Result<Network, Wrong> {
	match text {
		"mainnet" | "bitcoin" => Ok(Network::Bitcoin),
		"signet" => Ok(Network::Signet),
		"testnet4" => Ok(Network::Testnet4),
		"regtest" => Ok(Network::Regtest),
		_ => Err(wrong(
			format!("is {text:?}, which is no network that Inlet runs on"),
			"write mainnet, signet, testnet4 or regtest",
		)),
	}
}

/// The name that the config, the flags and the data directory use for `network`.
pub fn network_name(network: Network) -> &'static str {
	match network {
		Network::Bitcoin => "mainnet",
		Network::Signet => "signet",
		Network::Testnet4 => "testnet4",
		Network::Regtest => "regtest",
		Network::Testnet => "testnet3",
	}
}

/// The public servers that a network starts with; `None` where there are none.
pub(super) fn default_backend(network: Network) -> Option<ChainBackend> {
	let urls: &[&str] = match network {
		Network::Bitcoin => &["https://mempool.space/api", "https://blockstream.info/api"],
		Network::Signet => &["https://mempool.space/signet/api", "https://blockstream.info/signet/api"],
		Network::Testnet4 => &["https://mempool.space/testnet4/api"],
		Network::Regtest | Network::Testnet => return None,
	};
	Some(ChainBackend::Esplora { urls: urls.iter().map(|u| u.to_string()).collect() })
}

/// Parses `chain.backend`. The value may hold a password, so no error repeats any of it.
pub(super) fn chain_backend(text: &str) -> Result<ChainBackend, Wrong> {
	if let Some(urls) = text.strip_prefix("esplora:") {
		let urls = urls.split(',').map(|u| esplora_url(u.trim())).collect::<Result<Vec<_>, _>>()?;
		return Ok(ChainBackend::Esplora { urls });
	}
	if let Some(url) = text.strip_prefix("electrum:") {
		return Ok(ChainBackend::Electrum { url: electrum_url(url.trim())? });
	}
	let Some(rest) = text.strip_prefix("bitcoind:") else {
		return Err(wrong("starts with none of `esplora:`, `electrum:` and `bitcoind:`", CHAIN_FORMS));
	};
	if let Some(rest) = rest.strip_prefix("cookie=") {
		let (path, url) =
			rest.rsplit_once("@http://").ok_or_else(|| wrong("names a cookie file but no server", CHAIN_FORMS))?;
		if !path.starts_with('/') {
			return Err(wrong("names the cookie file by a relative path", CHAIN_FORMS));
		}
		return Ok(ChainBackend::Bitcoind { url: rpc_url(url)?, auth: BitcoindAuth::Cookie(path.into()) });
	}
	let rest = rest.strip_prefix("http://").ok_or_else(|| wrong("does not reach bitcoind by http://", CHAIN_FORMS))?;
	let (login, host) =
		rest.rsplit_once('@').ok_or_else(|| wrong("has no user and password for bitcoind", CHAIN_FORMS))?;
	let (user, password) =
		login.split_once(':').ok_or_else(|| wrong("has a user but no password for bitcoind", CHAIN_FORMS))?;
	if user.is_empty() || password.is_empty() {
		return Err(wrong("has an empty user or password for bitcoind", CHAIN_FORMS));
	}
	let auth = BitcoindAuth::UserPass { user: user.to_string(), password: Secret(password.to_string()) };
	Ok(ChainBackend::Bitcoind { url: rpc_url(host)?, auth })
}

/// Parses an entry of `chain.witnesses`: as `chain.backend`, or a URL alone; one with a user is a bitcoind's. The value may
/// hold a password, so no error repeats any of it.
pub(super) fn witness(text: &str) -> Result<ChainBackend, Wrong> {
	let has_login = |rest: &str| rest.split('/').next().is_some_and(|host| host.contains('@'));
	match text.strip_prefix("http://") {
		Some(rest) if has_login(rest) => chain_backend(&format!("bitcoind:{text}")),
		Some(_) => chain_backend(&format!("esplora:{text}")),
		None if text.starts_with("https://") => chain_backend(&format!("esplora:{text}")),
		None => chain_backend(text),
	}
}

fn rpc_url(host_port: &str) -> Result<String, Wrong> {
	match host_port.trim_end_matches('/').parse::<HostPort>() {
		Ok(HostPort { port: 0, .. }) | Err(_) => Err(wrong("has no HOST:PORT for bitcoind", CHAIN_FORMS)),
		Ok(host) => Ok(format!("http://{host}")),
	}
}

fn electrum_url(text: &str) -> Result<String, Wrong> {
	let right = "write electrum:ssl://HOST:PORT or electrum:tcp://HOST:PORT, one server";
	let (scheme, rest) =
		text.split_once("://").ok_or_else(|| wrong("has an Electrum address without tcp:// or ssl://", right))?;
	if !matches!(scheme, "tcp" | "ssl") {
		return Err(wrong("has an Electrum address that is neither tcp:// nor ssl://", right));
	}
	match rest.trim_end_matches('/').parse::<HostPort>() {
		Ok(address) if address.port != 0 && !address.host.contains(['@', ',', '/', ' ']) => {
			Ok(format!("{scheme}://{address}"))
		}
		_ => Err(wrong("has an Electrum address without HOST:PORT (no user, one server)", right)),
	}
}

fn esplora_url(text: &str) -> Result<String, Wrong> {
	web_url(text).ok_or_else(|| {
		wrong(
			"has an Esplora address that is no plain http:// or https:// URL (no user, no spaces)",
			"write esplora:https://HOST/api, more servers after a comma",
		)
	})
}

/// A URL without login, query, fragment and trailing slash; `None` if it is anything else.
fn web_url(text: &str) -> Option<String> {
	let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
	let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '@' | '?' | '#' | '"' | '\\');
	let host = rest.split('/').next().unwrap_or_default();
	(!host.is_empty() && !host.starts_with(':') && !rest.contains(odd)).then(|| text.trim_end_matches('/').to_string())
}

/// A host (name, IP address or onion address) and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
	/// Name or address; an IPv6 address is without brackets here.
	pub host: String,
	/// TCP port.
	pub port: u16,
}

impl fmt::Display for HostPort {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		if self.host.contains(':') {
			write!(f, "[{}]:{}", self.host, self.port)
		} else {
			write!(f, "{}:{}", self.host, self.port)
		}
	}
}

/// The text is no `HOST:PORT` (an IPv6 address is written in brackets).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not HOST:PORT; an IPv6 address is written in brackets: [::1]:9735")]
pub struct NotHostPort;

impl std::str::FromStr for HostPort {
	type Err = NotHostPort;

	fn from_str(text: &str) -> Result<HostPort, NotHostPort> {
		let (host, port) = text.rsplit_once(':').ok_or(NotHostPort)?;
		let port = port.parse().map_err(|_| NotHostPort)?;
		let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
			Some(v6) => v6.parse::<std::net::Ipv6Addr>().map_err(|_| NotHostPort)?.to_string(),
			None => host.to_string(),
		};
		let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
		let is_name = !host.is_empty() && host.len() <= 255 && host.chars().all(name);
		if is_name || host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_ok() {
			return Ok(HostPort { host, port });
		}
		Err(NotHostPort)
	}
}

/// A Lightning node and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
	/// Its node id.
	pub node_id: PublicKey,
	/// Its address.
	pub address: HostPort,
}

pub(super) fn node_id(text: &str) -> Result<PublicKey, Wrong> {
	text.parse().map_err(|_| wrong(format!("has {text:?}, which is no node id"), "write 66 hexadecimal digits"))
}

pub(super) fn peer(text: &str) -> Result<Peer, Wrong> {
	let right = "write PUBKEY@HOST:PORT, for example 02ab...cd@203.0.113.7:9735";
	let (id, address) = text.split_once('@').ok_or_else(|| wrong(format!("has {text:?} without an @"), right))?;
	let node_id = node_id(id).map_err(|w| wrong(w.problem, right))?;
	let address = address.parse().map_err(|e: NotHostPort| wrong(format!("has {text:?}: {e}"), right))?;
	Ok(Peer { node_id, address })
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, Wrong> {
	text.parse().map_err(|_| {
		wrong(
			format!("has {text:?}, which is no IP:PORT"),
			"write for example 0.0.0.0:9735 (all IPv4), [::]:9735 (IPv6) or 127.0.0.1:9735 (this machine only)",
		)
	})
}

pub(super) fn announced(text: &str) -> Result<HostPort, Wrong> {
	let right = "write HOST:PORT as others reach it, for example 203.0.113.7:9735 or NAME.onion:9735";
	let address: HostPort =
		text.parse().map_err(|e: NotHostPort| wrong(format!("has {text:?}, which is {e}"), right))?;
	if crate::tor::is_onion(&address.host) && !crate::tor::is_onion_v3(&address.host) {
		return Err(wrong(format!("has {text:?}, which is no onion address of version 3"), right));
	}
	let unspecified = address.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified());
	if address.port == 0 || unspecified {
		return Err(wrong(format!("has {text:?}, which nobody can connect to"), right));
	}
	Ok(address)
}

/// How the node learns the public network's channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gossip {
	/// From its peers, over the Lightning protocol.
	P2p,
	/// Snapshots of a Rapid Gossip Sync server at this base URL.
	Rgs(String),
	/// Not at all: no paths of its own to pay over; forwarding and selling work.
	None,
}

pub(super) fn gossip(text: &str) -> Result<Gossip, Wrong> {
	let right = "write p2p, rgs:URL (for example rgs:https://rapidsync.lightningdevkit.org/snapshot) or none";
	match text {
		"p2p" => Ok(Gossip::P2p),
		"none" => Ok(Gossip::None),
		_ => match text.strip_prefix("rgs:").and_then(web_url) {
			Some(url) => Ok(Gossip::Rgs(url)),
			None => Err(wrong("is none of the three ways to learn the network", right)),
		},
	}
}

pub(super) fn alias(text: &str) -> Result<String, Wrong> {
	let right = "BOLT 7 allows 32 bytes of text without control characters";
	if text.len() > 32 {
		return Err(wrong(format!("has {} bytes", text.len()), right));
	}
	if text.chars().any(char::is_control) {
		return Err(wrong("has a control character", right));
	}
	Ok(text.to_string())
}

pub(super) fn color(text: &str) -> Result<[u8; 3], Wrong> {
	let hex = text.strip_prefix('#').filter(|h| h.len() == 6 && h.bytes().all(|b| b.is_ascii_hexdigit()));
	let value = hex.and_then(|h| u32::from_str_radix(h, 16).ok());
	let value = value.ok_or_else(|| wrong(format!("is {text:?}"), "write # and six hexadecimal digits: #ff8800"))?;
	let [_, r, g, b] = value.to_be_bytes();
	Ok([r, g, b])
}

/// Who may open channels to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InboundFrom {
	/// Every peer, within the limits.
	Anyone,
	/// Only these nodes, within the limits.
	Listed(Vec<PublicKey>),
	/// No one.
	Nobody,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
	/// Short lines for people.
	Text,
	/// One JSON object a line.
	Json,
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, Wrong> {
	match text {
		"text" => Ok(LogFormat::Text),
		"json" => Ok(LogFormat::Json),
		_ => Err(wrong(format!("is {text:?}"), "write text or json")),
	}
}

/// The target of LDK's log lines.
const LDK: &str = "lightning";

/// `info,lightning=warn`: one level for all, and levels for targets. A bare target name, which `Targets` itself would
/// take for "everything of it", is refused: it is nearly always a misspelt level.
///
/// LDK's own lines hold payment preimages from `debug` on: they stay at `info` unless `lightning=` says otherwise.
pub(super) fn log_level(text: &str) -> Result<Targets, Wrong> {
	let right = "write a level (error, warn, info, debug, trace, off), and target=level after a comma if you like";
	let mut targets = Targets::new();
	let ldk_named = text.split(',').any(|part| part.split_once('=').is_some_and(|(target, _)| target.trim() == LDK));
	for part in text.split(',').map(str::trim) {
		let (target, level) = part.split_once('=').map_or((None, part), |(t, l)| (Some(t.trim()), l.trim()));
		let named = matches!(level, "error" | "warn" | "info" | "debug" | "trace" | "off");
		let level = level.parse::<LevelFilter>().ok().filter(|_| named);
		let level = level.ok_or_else(|| wrong(format!("has {part:?}, which is no level"), right))?;
		targets = match target {
			// A level below `info` holds for LDK too.
			None if !ldk_named => targets.with_target(LDK, level.min(LevelFilter::INFO)).with_default(level),
			None => targets.with_default(level),
			Some("") => return Err(wrong(format!("has {part:?} without a target"), right)),
			Some(target) => targets.with_target(target, level),
		};
	}
	Ok(targets)
}
