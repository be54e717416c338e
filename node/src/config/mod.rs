//! The configuration: `inlet.toml`, then `INLET_*` variables, then flags, validated once into types.
//!
//! A wrong key, value or combination is refused with the place where it is written and what would be right. Reading
//! creates and changes nothing; [`Config::write_file_if_missing`] is the first run's step. See `node/docs/config.md`.

mod backup;
mod check;
mod error;
mod keys;
mod layers;
#[cfg(test)]
mod tests;
mod tor;
mod value;

pub use backup::{BackupConfig, BackupMode, BackupPlace, NotAPlace};
pub use error::{ConfigError, Origin};
pub use keys::{default_file, markdown};
pub use tor::TorConfig;
pub use value::{
	BitcoindAuth, ChainBackend, Gossip, HostPort, InboundFrom, LogFormat, NotHostPort, Peer, Secret, network_name,
};

use bitcoin::Network;
use inlet_lsp::policy::Policy;
use inlet_storage::PgOptions;
use layers::Layers;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing_subscriber::filter::Targets;

/// The config file's name in the data directory.
pub const FILE_NAME: &str = "inlet.toml";

/// Where the packages' service has its admin socket. Commands go there if there is no node of one's own.
pub const SYSTEM_SOCKET: &str = "/run/inlet/admin/admin.sock";

/// `INLET_` variables that are no settings of the file: the data directory itself, and what the test harness reads.
const FOREIGN_VARIABLES: &[&str] = &["INLET_DATA_DIR", "INLET_EXE", "INLET_WALLET_EXE", "INLET_POSTGRES_BIN"];

/// What the command line says. Everything is optional; lists may also hold commas.
#[derive(Clone, Default)]
pub struct Overrides {
	/// `--data-dir`
	pub data_dir: Option<PathBuf>,
	/// `--config`: this file, which must exist, instead of the one in the data directory.
	pub config: Option<PathBuf>,
	/// `--network`
	pub network: Option<String>,
	/// `--listen` (any number)
	pub listen: Vec<String>,
	/// `--chain`; may hold a password, which is why this type has no `Debug`.
	pub chain: Option<String>,
	/// `--alias`
	pub alias: Option<String>,
	/// `--log-level`
	pub log_level: Option<String>,
	/// `--log-format`
	pub log_format: Option<String>,
	/// `--gossip`
	pub gossip: Option<String>,
	/// `--announce-addr` (any number)
	pub announce_addr: Vec<String>,
}

/// Where a node's things are. All that a client of the node needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
	/// The network, as far as known without the file's being right in everything else.
	pub network: Network,
	/// The data directory.
	pub data_dir: PathBuf,
	/// The config file, whether it exists or not.
	pub file: PathBuf,
	/// The admin socket.
	pub socket: PathBuf,
}

/// The whole configuration, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
	/// Data directory, config file, admin socket.
	pub place: Place,
	/// `api.monitor_socket`: where reading is all that can be done.
	pub monitor: Option<PathBuf>,
	/// `[node]`
	pub node: NodeConfig,
	/// `chain.backend`, or the network's public servers.
	pub chain: ChainBackend,
	/// The rest of `[chain]`: how far the backend is trusted.
	pub doubt: ChainDoubt,
	/// `[lsps1]`, `[lsps2]`, `[lsps5]`, `[price]`, `[risk]`
	pub policy: Policy,
	/// `[routing]`
	pub routing: RoutingConfig,
	/// `[peers]`
	pub peers: PeerLimits,
	/// `[notify]`
	pub notify: NotifyConfig,
	/// `[tor]`
	pub tor: TorConfig,
	/// `[backup]`
	pub backup: BackupConfig,
	/// `[storage]`
	pub storage: StorageConfig,
	/// `[storage]`: where it is kept.
	pub store: StoreConfig,
	/// `[log]`
	pub log: LogConfig,
}

/// Who the node is and how others reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
	/// The network.
	pub network: Network,
	/// At most 32 bytes, no control characters (BOLT 7).
	pub alias: String,
	/// Red, green, blue.
	pub color: [u8; 3],
	/// Where to listen for Lightning peers.
	pub listen: Vec<SocketAddr>,
	/// What the node announcement says.
	pub announce_addresses: Vec<HostPort>,
	/// How to learn the public network.
	pub gossip: Gossip,
	/// Nodes to stay connected to.
	pub peers: Vec<Peer>,
}

/// When the backend's view of the chain is not sold on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChainDoubt {
	/// Age of the newest block above which nothing is sold; `None`: it may be of any age.
	pub max_tip_age: Option<Duration>,
	/// Other sources that the backend is compared with. Of several Esplora servers in one entry, the first counts.
	pub witnesses: Vec<ChainBackend>,
}

/// Forwarding fees and who may open channels to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingConfig {
	/// Fixed fee for a forward.
	pub base_fee_msat: u32,
	/// Proportional fee for a forward, in millionths.
	pub fee_ppm: u32,
	/// Blocks between incoming and outgoing expiry.
	pub cltv_expiry_delta: u16,
	/// How long a forward waits on average, so that onlookers cannot match what comes in with what goes out.
	pub forward_delay: Duration,
	/// Who may open channels to us.
	pub inbound_from: InboundFrom,
	/// Smallest channel that others may open to us.
	pub inbound_min_sat: u64,
	/// Largest channel that others may open to us.
	pub inbound_max_sat: u64,
	/// Channels opened by others, in all.
	pub inbound_max_channels: u32,
	/// Channels opened by one peer.
	pub inbound_max_per_peer: u32,
}

/// How many may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerLimits {
	/// Connections from one public IPv4 address or IPv6 /64 network.
	pub max_per_ip: usize,
	/// The same from a loopback or private address, which may stand for many.
	pub max_per_local_ip: usize,
	/// Connections that came in from nodes without a channel and without anything paid.
	pub max_strangers: usize,
}

/// How webhooks are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotifyConfig {
	/// This machine and its network too?
	pub allow_private: bool,
	/// The content of `ca_file`, PEM; empty without one.
	pub extra_roots: Vec<u8>,
}

/// Room on the disk, and what the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageConfig {
	/// Nothing new is sold while less is free, in bytes; 0: always sold.
	pub low_water_bytes: u64,
	/// The reserve, in bytes; 0: none.
	pub reserve_bytes: u64,
	/// The card's size, in bytes; 0: that of the file system.
	pub card_bytes: u64,
	/// Bytes that it is rated for; 0: not known.
	pub rated_bytes: u64,
}

/// Where the node's state is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreConfig {
	/// Where it is.
	pub backend: StoreBackend,
	/// The server, if one is named: `backend` need not be that one, so that a store can be moved there.
	pub server: Option<PgOptions>,
}

/// One of the databases that a store can be on.
#[derive(Clone, Debug, PartialEq)]
pub enum StoreBackend {
	/// A file in the data directory.
	Sqlite,
	/// A PostgreSQL server.
	Postgres(Box<PgOptions>),
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
	/// Levels by target.
	pub targets: Targets,
	/// Text or JSON.
	pub format: LogFormat,
}

impl Config {
	/// Reads and validates everything: the file in the data directory (if there is one), the `INLET_*` variables among
	/// `variables` (`std::env::vars_os()`), the flags.
	///
	/// # Errors
	/// The first thing found wrong.
	pub fn load(
		flags: &Overrides,
		variables: impl IntoIterator<Item = (OsString, OsString)>,
	) -> Result<Config, ConfigError> {
		let (layers, place) = lay(flags, variables)?;
		check::config(&layers, place)
	}

	/// Writes the commented file with every default, readable by its owner only, unless there is one. Returns whether
	/// it was written.
	///
	/// # Errors
	/// What the file system says; an existing file is no error and is left alone.
	pub fn write_file_if_missing(&self) -> std::io::Result<bool> {
		let created = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.place.file);
		match created {
			Ok(mut file) => {
				file.write_all(default_file(self.node.network).as_bytes())?;
				file.sync_all()?;
				Ok(true)
			}
			Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
			Err(error) => Err(error),
		}
	}
}

impl Place {
	/// Finds the data directory and the admin socket as [`Config::load`] would, without asking for a complete
	/// configuration: a client needs no chain backend.
	///
	/// # Errors
	/// An unknown key, a value of the wrong type, or an unknown network.
	pub fn find(
		flags: &Overrides,
		variables: impl IntoIterator<Item = (OsString, OsString)>,
	) -> Result<Place, ConfigError> {
		lay(flags, variables).map(|(_, place)| place)
	}

	/// [`Place::find`], with `[backup]`: for commands that need no running node.
	///
	/// # Errors
	/// As there, or `[backup]` is not right.
	pub fn find_with_backup(
		flags: &Overrides,
		variables: impl IntoIterator<Item = (OsString, OsString)>,
	) -> Result<(Place, BackupConfig), ConfigError> {
		let (layers, place) = lay(flags, variables)?;
		let backup = check::backup(&layers)?;
		Ok((place, backup))
	}

	/// [`Place::find_with_backup`], and where the store is.
	///
	/// # Errors
	/// As there, or `[storage]` is not right.
	pub fn find_with_store(
		flags: &Overrides,
		variables: impl IntoIterator<Item = (OsString, OsString)>,
	) -> Result<(Place, BackupConfig, StoreConfig), ConfigError> {
		let (layers, place) = lay(flags, variables)?;
		let (backup, store) = (check::backup(&layers)?, check::store(&layers, &layers.merged().storage, &place)?);
		Ok((place, backup, store))
	}

	/// The socket for a command: this place's, or the one at `system`, if nothing is there, nobody asked for a data directory or
	/// network of their own, and that one exists.
	pub fn socket_or(self, flags: &Overrides, system: &Path) -> PathBuf {
		let own = flags.data_dir.is_some() || flags.network.is_some() || self.data_dir.exists();
		if own || !system.exists() { self.socket } else { system.to_owned() }
	}
}

/// All layers, and the place that they say. Without a data directory of its own, each network has one below
/// `~/.inlet`, so the network must be known before the file is: there a file that disagrees is refused.
fn lay(
	flags: &Overrides,
	variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(Layers, Place), ConfigError> {
	let variables: Vec<(OsString, OsString)> = variables.into_iter().collect();
	let variable = |name: &str| variables.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v);

	let mut outside = Layers::new();
	outside.add_variables(&variables)?;
	outside.add_flags(flags)?;
	let asked = check::network(&outside)?;

	let given = flags.data_dir.clone().or_else(|| variable("INLET_DATA_DIR").map(PathBuf::from));
	let data_dir = match (&given, variable("HOME")) {
		(Some(dir), _) => dir.clone(),
		(None, Some(home)) => Path::new(home).join(".inlet").join(network_name(asked)),
		(None, None) => {
			return Err(ConfigError {
				origin: Origin::Variable("HOME".into()),
				key: None,
				problem: "is not set, so there is no place for the data".into(),
				right: "give --data-dir DIR or INLET_DATA_DIR".into(),
			});
		}
	};
	let data_dir = std::path::absolute(&data_dir).unwrap_or(data_dir);

	let file = flags.config.clone().unwrap_or_else(|| data_dir.join(FILE_NAME));
	let mut layers = Layers::new();
	match read(&file)? {
		Some(text) => layers.add_file(&file, &text)?,
		None if flags.config.is_none() => {}
		None => {
			return Err(ConfigError {
				origin: Origin::Flag("--config"),
				key: None,
				problem: format!("names {}, which does not exist", file.display()),
				right: "name an existing file, or leave the flag out".into(),
			});
		}
	}
	layers.add_variables(&variables)?;
	layers.add_flags(flags)?;
	let network = check::network(&layers)?;
	if given.is_none() && network != asked {
		return Err(ConfigError {
			origin: layers.origin("node", "network"),
			key: Some("node.network".into()),
			problem: format!("is {}, but this is the directory of {}", network_name(network), network_name(asked)),
			right: format!("start with --network {0}, which has its own directory", network_name(network)),
		});
	}
	let socket = data_dir.join(layers.merged().api.socket);
	Ok((layers, Place { network, data_dir, file, socket }))
}

fn read(file: &Path) -> Result<Option<String>, ConfigError> {
	match std::fs::read_to_string(file) {
		Ok(text) => Ok(Some(text)),
		Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
		Err(error) => Err(ConfigError {
			origin: Origin::File { path: file.into(), line: None },
			key: None,
			problem: format!("cannot be read: {error}"),
			right: "make it a UTF-8 text file that the user who runs inlet may read".into(),
		}),
	}
}
