//! `[tor]`, and what in the other sections cannot be reached without it or with nothing else.

use super::check::refusal;
use super::error::ConfigError;
use super::layers::Layers;
use super::value::{HostPort, Secret, Wrong, wrong};
use super::{BackupPlace, ChainBackend, Config, Gossip, StoreConfig};
use crate::tor::{ControlPlace, Way, is_near, is_onion};
use reqwest::Url;

/// `[tor]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TorConfig {
	/// How connections leave this machine.
	pub way: Way,
	/// The control port over which an onion service is offered; `None`: none is.
	pub service: Option<ControlPlace>,
	/// Its password.
	pub password: Option<Secret>,
}

pub(super) fn way(layers: &Layers) -> Result<Way, ConfigError> {
	let raw = layers.merged().tor;
	let refuse = |key, wrong| Err(refusal(layers, "tor", key, wrong));
	let socks = match raw.socks.as_str() {
		"" => None,
		text => match text.parse() {
			Ok(address) => Some(address),
			Err(_) => return refuse("socks", wrong("is no IP:PORT", "write 127.0.0.1:9050, or where Tor listens")),
		},
	};
	if raw.only && socks.is_none() {
		return refuse("only", wrong("is true, but tor.socks names no Tor", "set tor.socks to Tor's SOCKS port"));
	}
	Ok(Way { socks, only: raw.only })
}

pub(super) fn tor(layers: &Layers) -> Result<TorConfig, ConfigError> {
	let raw = layers.merged().tor;
	let way = way(layers)?;
	let refuse = |key, wrong| Err(refusal(layers, "tor", key, wrong));
	let control = match (raw.control.as_str(), raw.control.strip_prefix("unix:")) {
		("", _) => None,
		(_, Some(path)) if path.starts_with('/') => Some(ControlPlace::Unix(path.into())),
		(text, None) if text.parse::<std::net::SocketAddr>().is_ok() => text.parse().ok().map(ControlPlace::Tcp),
		_ => {
			let right = "write unix:/PATH (Debian's Tor: unix:/run/tor/control) or IP:PORT";
			return refuse("control", wrong("is neither unix:/PATH nor IP:PORT", right));
		}
	};
	if raw.onion_service && control.is_none() {
		let right = "set tor.control to Tor's control port (Debian's Tor: unix:/run/tor/control)";
		return refuse("onion_service", wrong("is true, but tor.control names no control port", right));
	}
	if raw.onion_service && layers.merged().node.listen.is_empty() {
		let right = "listen on 127.0.0.1:9735, which only Tor and this machine reach";
		return refuse("onion_service", wrong("is true, but node.listen is empty", right));
	}
	// It goes to Tor in a line.
	if raw.password.chars().any(char::is_control) {
		return refuse(
			"password",
			wrong("has a control character", "write the password that tor --hash-password was given"),
		);
	}
	let password = (!raw.password.is_empty()).then(|| Secret::new(&raw.password));
	Ok(TorConfig { way, service: control.filter(|_| raw.onion_service), password })
}

/// Every host that the configuration names can be reached by the way that it says.
pub(super) fn reachable(layers: &Layers, config: &Config) -> Result<(), ConfigError> {
	let way = config.tor.way;
	let mut named: Vec<(&str, &str, String)> = Vec::new();
	let mut name = |section, key, host: Option<String>| named.extend(host.map(|host| (section, key, host)));
	hosts(&config.chain).for_each(|host| name("chain", "backend", host));
	config.doubt.witnesses.iter().flat_map(hosts).for_each(|host| name("chain", "witnesses", host));
	if let Gossip::Rgs(url) = &config.node.gossip {
		name("node", "gossip", host(url));
	}
	config.node.peers.iter().for_each(|peer| name("node", "peers", Some(peer.address.host.clone())));
	config.backup.targets.iter().for_each(|target| name("backup", "targets", target_host(target)));
	for (section, key, host) in named {
		if let Some(wrong) = unreachable(way, &host) {
			return Err(refusal(layers, section, key, wrong));
		}
	}
	Ok(())
}

/// A database is the operator's own: it is never asked for over Tor.
pub(super) fn database(layers: &Layers, way: Way, store: &StoreConfig) -> Result<(), ConfigError> {
	let hosts = store.server.iter().filter(|_| way.only).flat_map(|server| server.hosts());
	match hosts.into_iter().find(|host| !is_near(host)) {
		None => Ok(()),
		Some(_) => {
			let right = "name the server by a private IP address or by a socket's directory";
			let problem =
				"names a host that is not of your network, or not by its address, which tor.only does not allow";
			Err(refusal(layers, "storage", "url", wrong(problem, right)))
		}
	}
}

fn unreachable(way: Way, host: &str) -> Option<Wrong> {
	if is_onion(host) && way.socks.is_none() {
		return Some(wrong("has an onion address, but tor.socks names no Tor", "set tor.socks to Tor's SOCKS port"));
	}
	let local = [".local", ".lan", ".home", ".internal", ".home.arpa"].iter().any(|end| host.ends_with(end));
	if way.only && !is_near(host) && (local || !host.contains(['.', ':'])) {
		let problem = "has a name of your own network, which nobody looks up here with tor.only";
		return Some(wrong(problem, "write its IP address"));
	}
	None
}

fn hosts(chain: &ChainBackend) -> Box<dyn Iterator<Item = Option<String>> + '_> {
	match chain {
		ChainBackend::Esplora { urls } => Box::new(urls.iter().map(|url| host(url))),
		ChainBackend::Electrum { url } | ChainBackend::Bitcoind { url, .. } => Box::new(std::iter::once(host(url))),
	}
}

fn target_host(target: &BackupPlace) -> Option<String> {
	match target {
		BackupPlace::Dir(_) => None,
		BackupPlace::S3 { endpoint, .. } => host(endpoint),
		BackupPlace::WebDav { url, .. } => host(url),
	}
}

/// The host of a URL that was checked before, without brackets.
fn host(url: &str) -> Option<String> {
	if let Ok(url) = Url::parse(url)
		&& let Some(host) = url.host_str()
	{
		return Some(host.trim_matches(['[', ']']).to_owned());
	}
	let (_, rest) = url.split_once("://")?;
	rest.parse().ok().map(|HostPort { host, .. }| host)
}
