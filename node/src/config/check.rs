//! From laid-out settings to a validated [`Config`]: each value parsed, then what must fit together.

use super::backup::{self, MAX_TARGETS};
use super::error::ConfigError;
use super::keys::{RawChain, RawConfig, RawNode, RawNotify, RawPeers, RawRouting, RawStorage};
use super::layers::Layers;
use super::tor;
use super::value::{self, Wrong};
use super::{
	BackupConfig, BackupMode, ChainBackend, ChainDoubt, Config, InboundFrom, LogConfig, NodeConfig, NotifyConfig,
	Origin, PeerLimits, Place, RoutingConfig, StorageConfig, StoreBackend, StoreConfig,
};
use crate::notify::https::check_roots;
use bitcoin::Network;
use inlet_lsp::money::Sat;
use inlet_lsp::policy::{Policy, PolicyError};
use inlet_storage::{PgOptions, PgOptionsError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// LDK's `MIN_CLTV_EXPIRY_DELTA`: less leaves no time to claim on-chain.
const MIN_CLTV_EXPIRY_DELTA: u32 = 48;

/// LDK's limit of 250 channel-less peers that connected to us, less some that may come in before one is disconnected.
const MAX_STRANGERS: u32 = 240;
/// A standby that waits longer is of no use.
const MAX_LEASE_SECS: u64 = 120;
/// More than a second of waiting is no privacy but an outage.
const MAX_FORWARD_DELAY_MS: u32 = 1_000;
/// Witnesses asked.
const MAX_WITNESSES: usize = 8;

/// The longest path that a Unix socket can have (`sun_path` less its final zero).
const MAX_SOCKET_PATH: usize = 107;

pub(super) fn network(layers: &Layers) -> Result<Network, ConfigError> {
	blame(layers, "node", "network", value::network(&layers.merged().node.network))
}

pub(super) fn config(layers: &Layers, place: Place) -> Result<Config, ConfigError> {
	let raw = layers.merged();
	let node = node(layers, &raw.node, place.network)?;
	let chain = chain(layers, &raw.chain.backend, place.network)?;
	let doubt = doubt(layers, &raw.chain, place.network)?;
	let routing = routing(layers, &raw.routing)?;
	let peers = peers(layers, &raw.peers)?;
	let notify = notify(layers, &raw.notify, &place)?;
	let backup = backup(layers)?;
	let log = LogConfig {
		targets: blame(layers, "log", "level", value::log_level(&raw.log.level))?,
		format: blame(layers, "log", "format", value::log_format(&raw.log.format))?,
	};
	if raw.api.socket.is_empty() {
		return Err(refusal(layers, "api", "socket", no_socket_path(0, "/run/inlet/admin.sock")));
	}
	fits_a_socket(layers, "socket", &place.socket)?;
	let monitor = monitor_socket(layers, &raw.api.monitor_socket, &place)?;
	let storage = storage(layers, &raw.storage)?;
	let store = store(layers, &raw.storage, &place)?;
	if !backup.targets.is_empty() && matches!(store.backend, StoreBackend::Postgres(_)) {
		// Which copy of a node may write to a target is remembered in its data directory, of which a standby has its own.
		let problem =
			"names targets, but the store is on a server (storage.backend), which is backed up by its own means";
		return Err(refusal(layers, "backup", "targets", value::wrong(problem.to_owned(), "leave it empty")));
	}
	let tor = tor::tor(layers)?;
	tor::database(layers, tor.way, &store)?;
	let policy = policy(layers, raw)?;
	let config =
		Config { place, monitor, node, chain, doubt, policy, routing, peers, notify, tor, backup, storage, store, log };
	tor::reachable(layers, &config)?;
	Ok(config)
}

fn no_socket_path(bytes: usize, example: &str) -> Wrong {
	let right = format!("write a file name, or a path of at most {MAX_SOCKET_PATH} bytes such as {example}");
	value::wrong(format!("makes a path of {bytes} bytes"), right)
}

fn fits_a_socket(layers: &Layers, key: &'static str, path: &Path) -> Result<(), ConfigError> {
	let bytes = path.as_os_str().len();
	if bytes > MAX_SOCKET_PATH {
		return Err(refusal(layers, "api", key, no_socket_path(bytes, "/run/inlet/admin.sock")));
	}
	Ok(())
}

fn monitor_socket(layers: &Layers, raw: &str, place: &Place) -> Result<Option<PathBuf>, ConfigError> {
	if raw.is_empty() {
		return Ok(None);
	}
	let path = place.data_dir.join(raw);
	fits_a_socket(layers, "monitor_socket", &path)?;
	if path == place.socket {
		let wrong = value::wrong("is the admin socket".to_owned(), "give it a path of its own".to_owned());
		return Err(refusal(layers, "api", "monitor_socket", wrong));
	}
	Ok(Some(path))
}

fn node(layers: &Layers, raw: &RawNode, network: Network) -> Result<NodeConfig, ConfigError> {
	let each = |key, wrong| refusal(layers, "node", key, wrong);
	let listen = raw.listen.iter().map(|t| value::listen(t)).collect::<Result<Vec<_>, _>>();
	let announced = raw.announce_addresses.iter().map(|t| value::announced(t)).collect::<Result<Vec<_>, _>>();
	let peers = raw.peers.iter().map(|t| value::peer(t)).collect::<Result<Vec<_>, _>>();
	let node = NodeConfig {
		network,
		alias: value::alias(&raw.alias).map_err(|w| each("alias", w))?,
		color: value::color(&raw.color).map_err(|w| each("color", w))?,
		listen: listen.map_err(|w| each("listen", w))?,
		announce_addresses: announced.map_err(|w| each("announce_addresses", w))?,
		gossip: value::gossip(&raw.gossip).map_err(|w| each("gossip", w))?,
		peers: peers.map_err(|w| each("peers", w))?,
	};
	if node.listen.is_empty() && !node.announce_addresses.is_empty() {
		let wrong = value::wrong(
			"announces an address, but node.listen is empty",
			"listen on 0.0.0.0:9735, or announce nothing",
		);
		return Err(each("announce_addresses", wrong));
	}
	Ok(node)
}

fn chain(layers: &Layers, backend: &str, network: Network) -> Result<ChainBackend, ConfigError> {
	if !backend.is_empty() {
		return blame(layers, "chain", "backend", value::chain_backend(backend));
	}
	value::default_backend(network).ok_or_else(|| ConfigError {
		origin: layers.origin("node", "network"),
		key: Some("chain.backend".into()),
		problem: format!("is not set, and {} has no public server", value::network_name(network)),
		right: "give --chain bitcoind:http://USER:PASSWORD@127.0.0.1:18443 or --chain esplora:http://127.0.0.1:3000"
			.into(),
	})
}

fn doubt(layers: &Layers, raw: &RawChain, network: Network) -> Result<ChainDoubt, ConfigError> {
	let witnesses = raw.witnesses.iter().map(|text| value::witness(text)).collect::<Result<Vec<_>, _>>();
	let witnesses = blame(layers, "chain", "witnesses", witnesses)?;
	if witnesses.len() > MAX_WITNESSES {
		let wrong = value::wrong(format!("has {} entries", witnesses.len()), format!("list at most {MAX_WITNESSES}"));
		return Err(refusal(layers, "chain", "witnesses", wrong));
	}
	// A private network has blocks when somebody makes them.
	let unset = layers.origin("chain", "max_tip_age_secs") == Origin::Default;
	let any_age = raw.max_tip_age_secs == 0 || (network == Network::Regtest && unset);
	let max_tip_age = (!any_age).then(|| Duration::from_secs(raw.max_tip_age_secs));
	Ok(ChainDoubt { max_tip_age, witnesses })
}

fn routing(layers: &Layers, raw: &RawRouting) -> Result<RoutingConfig, ConfigError> {
	let refuse = |key, problem: String, right: &str| Err(refusal(layers, "routing", key, value::wrong(problem, right)));
	if raw.fee_ppm > 1_000_000 {
		return refuse("fee_ppm", format!("is {}, more than the whole payment", raw.fee_ppm), "write 1000000 or less");
	}
	at_least(layers, "routing", "cltv_expiry_delta", raw.cltv_expiry_delta.into(), MIN_CLTV_EXPIRY_DELTA.into())?;
	if raw.forward_delay_ms > MAX_FORWARD_DELAY_MS {
		let right = format!("write {MAX_FORWARD_DELAY_MS} or less");
		return refuse("forward_delay_ms", format!("is {}, too long", raw.forward_delay_ms), &right);
	}
	in_order(layers, "routing", ("inbound_min_sat", raw.inbound_min_sat), ("inbound_max_sat", raw.inbound_max_sat))?;
	let nodes = raw.inbound_nodes.iter().map(|t| value::node_id(t)).collect::<Result<Vec<_>, _>>();
	let nodes = blame(layers, "routing", "inbound_nodes", nodes)?;
	let inbound_from = match (raw.inbound_from.as_str(), nodes.is_empty()) {
		("anyone", true) => InboundFrom::Anyone,
		("nobody", true) => InboundFrom::Nobody,
		("listed", false) => InboundFrom::Listed(nodes),
		("listed", true) => {
			let problem = "is listed, but routing.inbound_nodes is empty";
			return refuse("inbound_from", problem.into(), "list node ids there, or write nobody");
		}
		("anyone" | "nobody", false) => {
			let problem = format!("has entries, but routing.inbound_from is {}", raw.inbound_from);
			return refuse("inbound_nodes", problem, "set inbound_from = \"listed\", or empty the list");
		}
		_ => return refuse("inbound_from", format!("is {:?}", raw.inbound_from), "write anyone, listed or nobody"),
	};
	Ok(RoutingConfig {
		base_fee_msat: raw.base_fee_msat,
		fee_ppm: raw.fee_ppm,
		cltv_expiry_delta: raw.cltv_expiry_delta,
		forward_delay: Duration::from_millis(raw.forward_delay_ms.into()),
		inbound_from,
		inbound_min_sat: raw.inbound_min_sat,
		inbound_max_sat: raw.inbound_max_sat,
		inbound_max_channels: raw.inbound_max_channels,
		inbound_max_per_peer: raw.inbound_max_per_peer,
	})
}

fn peers(layers: &Layers, raw: &RawPeers) -> Result<PeerLimits, ConfigError> {
	at_least(layers, "peers", "max_per_ip", raw.max_per_ip.into(), 1)?;
	at_least(layers, "peers", "max_per_local_ip", raw.max_per_local_ip.into(), 1)?;
	at_least(layers, "peers", "max_strangers", raw.max_strangers.into(), 1)?;
	if raw.max_strangers > MAX_STRANGERS {
		let problem = format!("is {}, but LDK refuses more than 250", raw.max_strangers);
		let right = format!("write {MAX_STRANGERS} or less");
		return Err(refusal(layers, "peers", "max_strangers", value::wrong(problem, right)));
	}
	let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
	Ok(PeerLimits {
		max_per_ip: count(raw.max_per_ip),
		max_per_local_ip: count(raw.max_per_local_ip),
		max_strangers: count(raw.max_strangers),
	})
}

fn storage(layers: &Layers, raw: &RawStorage) -> Result<StorageConfig, ConfigError> {
	if raw.reserve_mb > raw.low_water_mb && raw.low_water_mb > 0 {
		let problem = format!("is {}, more than storage.low_water_mb ({})", raw.reserve_mb, raw.low_water_mb);
		let wrong = value::wrong(problem, format!("write {} or less, or raise the mark", raw.low_water_mb));
		return Err(refusal(layers, "storage", "reserve_mb", wrong));
	}
	let mb = |number: u64| number.saturating_mul(1_000_000);
	Ok(StorageConfig {
		low_water_bytes: mb(raw.low_water_mb),
		reserve_bytes: mb(raw.reserve_mb),
		card_bytes: mb(raw.card_gb).saturating_mul(1_000),
		rated_bytes: mb(raw.card_rated_tbw).saturating_mul(1_000_000),
	})
}

/// `[storage]`: where it is kept.
pub(super) fn store(layers: &Layers, raw: &RawStorage, place: &Place) -> Result<StoreConfig, ConfigError> {
	let refuse = |key, problem: String, right: &str| refusal(layers, "storage", key, value::wrong(problem, right));
	at_least(layers, "storage", "lease_secs", raw.lease_secs, 3)?;
	if raw.lease_secs > MAX_LEASE_SECS {
		return Err(refuse("lease_secs", format!("is {}, too long to wait", raw.lease_secs), "write 120 or less"));
	}
	let server = match raw.url.as_str() {
		"" => None,
		url => Some(server(url, raw, place).map_err(|e| match e {
			PgOptionsError::Url(problem) => refuse("url", problem, "write postgresql://USER:PASSWORD@HOST/DATABASE"),
			PgOptionsError::Roots(problem) => {
				let right =
					"name a PEM file with certificates that the user who runs inlet may read, or leave it empty";
				refuse("ca_file", problem, right)
			}
		})?),
	};
	let backend = match (raw.backend.as_str(), &server) {
		("sqlite", _) => StoreBackend::Sqlite,
		("postgres", Some(server)) => StoreBackend::Postgres(Box::new(server.clone())),
		("postgres", None) => {
			let problem = "is postgres, but storage.url names no server".to_owned();
			return Err(refuse("backend", problem, "set storage.url to postgresql://USER:PASSWORD@HOST/DATABASE"));
		}
		(other, _) => return Err(refuse("backend", format!("is {other:?}"), "write sqlite or postgres")),
	};
	Ok(StoreConfig { backend, server })
}

fn server(url: &str, raw: &RawStorage, place: &Place) -> Result<PgOptions, PgOptionsError> {
	let roots = match raw.ca_file.as_str() {
		"" => Vec::new(),
		file => {
			let file = place.data_dir.join(file);
			let unusable = |e: String| PgOptionsError::Roots(format!("names {}, which {e}", file.display()));
			let roots = std::fs::read(&file).map_err(|e| unusable(format!("cannot be read: {e}")))?;
			if roots.is_empty() {
				return Err(unusable("is empty".into()));
			}
			roots
		}
	};
	PgOptions::new(url, &roots, Duration::from_secs(raw.lease_secs))
}

fn notify(layers: &Layers, raw: &RawNotify, place: &Place) -> Result<NotifyConfig, ConfigError> {
	let allow_private = raw.allow_private;
	if raw.ca_file.is_empty() {
		return Ok(NotifyConfig { allow_private, extra_roots: Vec::new() });
	}
	let refuse = |problem: String| {
		let right = "name a PEM file with root certificates that the user who runs inlet may read, or leave it empty";
		refusal(layers, "notify", "ca_file", value::wrong(problem, right))
	};
	let file = place.data_dir.join(&raw.ca_file);
	let extra_roots =
		std::fs::read(&file).map_err(|e| refuse(format!("names {}, which cannot be read: {e}", file.display())))?;
	let unusable = |e: String| refuse(format!("names {}, which cannot be used: {e}", file.display()));
	if extra_roots.is_empty() {
		return Err(unusable("it is empty".into()));
	}
	check_roots(&extra_roots).map_err(|e| unusable(e.to_string()))?;
	Ok(NotifyConfig { allow_private, extra_roots })
}

/// `[backup]`.
pub(super) fn backup(layers: &Layers) -> Result<BackupConfig, ConfigError> {
	let raw = layers.merged().backup;
	let refuse = |key, problem: String, right: &str| refusal(layers, "backup", key, value::wrong(problem, right));
	let targets = raw.targets.iter().map(|text| backup::place(text)).collect::<Result<Vec<_>, _>>();
	let targets = blame(layers, "backup", "targets", targets)?;
	if targets.len() > MAX_TARGETS {
		let right = format!("list at most {MAX_TARGETS}");
		return Err(refuse("targets", format!("has {} entries", targets.len()), &right));
	}
	let mode = match (raw.mode.as_str(), targets.is_empty()) {
		("async", _) => BackupMode::Async,
		("sync", false) => BackupMode::Sync,
		("sync", true) => return Err(refuse("mode", "is sync, but backup.targets is empty".into(), "name a target")),
		_ => return Err(refuse("mode", format!("is {:?}", raw.mode), "write async or sync")),
	};
	at_least(layers, "backup", "alert_secs", raw.alert_secs, 1)?;
	Ok(BackupConfig { targets, mode, alert: Duration::from_secs(raw.alert_secs), way: tor::way(layers)? })
}

/// The policy, checked as the core checks it when it is built, so that nothing is right here and refused there.
fn policy(layers: &Layers, raw: RawConfig) -> Result<Policy, ConfigError> {
	let RawConfig { lsps1, lsps2, lsps5, price, risk, capital, ledger, tier, .. } = raw;
	let sat = |key, Sat(amount): Sat| (key, amount);
	in_order(
		layers,
		"lsps1",
		sat("min_lsp_balance_sat", lsps1.min_lsp_balance_sat),
		sat("max_lsp_balance_sat", lsps1.max_lsp_balance_sat),
	)?;
	in_order(
		layers,
		"lsps1",
		sat("min_channel_sat", lsps1.min_channel_sat),
		sat("max_channel_sat", lsps1.max_channel_sat),
	)?;
	in_order(
		layers,
		"lsps2",
		sat("min_payment_sat", lsps2.min_payment_sat),
		sat("max_payment_sat", lsps2.max_payment_sat),
	)?;
	at_least(layers, "lsps2", "promise_secs", lsps2.promise_secs, 600)?;
	at_least(layers, "lsps2", "gather_secs", lsps2.gather_secs, 90)?;
	at_least(layers, "lsps2", "cltv_expiry_delta", lsps2.cltv_expiry_delta.into(), MIN_CLTV_EXPIRY_DELTA.into())?;
	for (section, smallest) in [("lsps1", lsps1.min_channel_sat), ("lsps2", lsps2.min_channel_sat)] {
		if risk.max_channel_sat < smallest {
			let problem = format!("is {}, below {section}.min_channel_sat ({smallest})", risk.max_channel_sat);
			let wrong = value::wrong(problem, format!("raise it, or lower {section}.min_channel_sat"));
			return Err(refusal(layers, "risk", "max_channel_sat", wrong));
		}
	}
	let policy = Policy { lsps1, lsps2, lsps5, price, risk, capital, ledger, tier };
	policy.check().map_err(|error| core_refusal(layers, &error))?;
	Ok(policy)
}

/// What the core says of a key, with the place of that key. A key that nobody set is blamed on the one that it is
/// measured against, if that was set.
fn core_refusal(layers: &Layers, PolicyError { key, problem }: &PolicyError) -> ConfigError {
	let place = |name: &str| name.rsplit_once('.').map(|(section, key)| layers.origin(section, key));
	let origin = place(key).unwrap_or(Origin::Default);
	let value = |name: &str| name.rsplit_once('.').and_then(|(section, key)| layers.value(section, key));
	let is = |name: &str| value(name).map_or_else(String::new, |value| format!("is {value}"));
	let right = format!("it {problem}");
	if origin == Origin::Default {
		let words = problem.split_whitespace();
		let other = words.filter_map(|word| Some((word, place(word)?))).find(|(_, place)| *place != Origin::Default);
		if let Some((name, origin)) = other {
			let problem = format!("{}, which does not go with {key}, which {}", is(name), is(key));
			let right = format!("{key} {}", right.trim_start_matches("it "));
			return ConfigError { origin, key: Some(name.to_owned()), problem, right };
		}
	}
	ConfigError { origin, key: Some((*key).to_owned()), problem: format!("{}, which cannot be", is(key)), right }
}

fn at_least(layers: &Layers, section: &str, key: &str, found: u64, least: u64) -> Result<(), ConfigError> {
	if found >= least {
		return Ok(());
	}
	let wrong = value::wrong(format!("is {found}, which is too little"), format!("write {least} or more"));
	Err(refusal(layers, section, key, wrong))
}

/// Refuses a smallest value above its largest; the blame falls on the one that was set.
fn in_order(layers: &Layers, section: &str, low: (&str, u64), high: (&str, u64)) -> Result<(), ConfigError> {
	if low.1 <= high.1 {
		return Ok(());
	}
	let set = layers.origin(section, low.0) != super::Origin::Default;
	let (key, problem) = if set {
		(low.0, format!("is {}, more than {section}.{} ({})", low.1, high.0, high.1))
	} else {
		(high.0, format!("is {}, less than {section}.{} ({})", high.1, low.0, low.1))
	};
	let right = format!("make {} at most {}", low.0, high.0);
	Err(refusal(layers, section, key, value::wrong(problem, right)))
}

fn blame<T>(layers: &Layers, section: &str, key: &str, result: Result<T, Wrong>) -> Result<T, ConfigError> {
	result.map_err(|wrong| refusal(layers, section, key, wrong))
}

pub(super) fn refusal(layers: &Layers, section: &str, key: &str, Wrong { problem, right }: Wrong) -> ConfigError {
	ConfigError { origin: layers.origin(section, key), key: Some(format!("{section}.{key}")), problem, right }
}
