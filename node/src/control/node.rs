//! The node as a whole.

use super::Time;
use serde::{Deserialize, Serialize};

/// What this node is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Info {
	/// Inlet's version.
	pub version: String,
	/// `mainnet`, `signet`, `testnet4` or `regtest`.
	pub network: String,
	/// Public key.
	pub node_id: String,
	/// Alias in the node announcement.
	pub alias: String,
	/// Colour in the node announcement, like `#ff9900`.
	pub color: String,
	/// Addresses that it listens on, as bound (`host:port`).
	pub listening: Vec<String>,
	/// Addresses that it announces.
	pub announced: Vec<String>,
	/// Height of the best block that it knows.
	pub block_height: u32,
	/// Hash of that block.
	pub block_hash: String,
	/// Is the chain view current?
	pub synced: bool,
	/// Connected peers.
	pub peers: u32,
	/// Channels that are not closed.
	pub channels: u32,
	/// What it sells: `LSPS1`, `LSPS2`.
	pub selling: Vec<String>,
	/// Where it gets its graph from: `p2p`, `rgs` or `none`.
	pub gossip: String,
	/// Its data directory.
	pub data_dir: String,
	/// Running since.
	pub started_at: Time,
}

/// The node at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Status {
	/// Inlet's version.
	pub version: String,
	/// Which network.
	pub network: String,
	/// Public key.
	pub node_id: String,
	/// Running for this long, in seconds.
	pub uptime_secs: u64,
	/// Is the chain view current?
	pub synced: bool,
	/// Height of the best block that it knows.
	pub block_height: u32,
	/// When the chain was last looked at with success; `None` if never.
	pub looked_at: Option<Time>,
	/// On-chain money.
	pub onchain: OnchainStatus,
	/// Channels.
	pub channels: ChannelsStatus,
	/// Since midnight UTC.
	pub today: TodayStatus,
	/// Clients.
	pub clients: ClientsStatus,
	/// The disk.
	pub disk: DiskStatus,
	/// What the operator should look at, most urgent first; empty if all is well.
	pub attention: Vec<Attention>,
}

/// On-chain money at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OnchainStatus {
	/// Neither reserved for anchors nor for sales and orders.
	pub free_sat: u64,
	/// Kept for fee-bumping anchor channels.
	pub anchor_reserve_sat: u64,
	/// For how many anchor channels.
	pub anchor_channels: u32,
	/// Confirmed unspent outputs.
	pub utxos: u32,
	/// Are money and outputs enough for the anchors?
	pub reserve_ok: bool,
	/// Kept for unfinished sales and orders.
	pub in_sales_sat: u64,
	/// How many sales and orders that is.
	pub open_sales: u32,
}

/// Channels at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChannelsStatus {
	/// Not closed.
	pub total: u32,
	/// Usable now.
	pub online: u32,
	/// What could be received over all of them.
	pub inbound_msat: u64,
	/// What could be sent over all of them.
	pub outbound_msat: u64,
}

/// The day at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TodayStatus {
	/// Channels sold just in time.
	pub sold_jit: u32,
	/// Channels sold on order.
	pub sold_ordered: u32,
	/// Payments forwarded.
	pub forwards: u64,
	/// Opening, order and routing fees earned.
	pub earned_msat: u64,
	/// Miner fees spent.
	pub spent_sat: u64,
}

/// Clients at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ClientsStatus {
	/// All that ever spoke to us.
	pub total: u32,
	/// Connected now.
	pub connected: u32,
	/// Not connected, with payments waiting for them.
	pub waiting: u32,
	/// For how long the oldest of those payments has waited, in seconds.
	pub oldest_wait_secs: Option<u64>,
}

/// The disk at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DiskStatus {
	/// Bytes written by the store since the node started.
	pub written_bytes: u64,
	/// Syncs of the store since the node started.
	pub syncs: u64,
	/// Bytes that are free where the data directory is, if known.
	pub free_bytes: Option<u64>,
	/// Bytes written by the store since midnight UTC, or since the node started, if that was later.
	pub today_bytes: u64,
	/// The card's size: `storage.card_gb`, or that of its file system.
	pub card_bytes: u64,
	/// Millionths of the card's rated life that a year takes, at the rate since the start.
	pub wear_ppm_a_year: u64,
	/// Is less free than the low-water mark, so that nothing new is sold?
	pub low: bool,
}

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Attention {
	/// For programs, `lower_snake_case`.
	pub code: String,
	/// One sentence.
	pub text: String,
	/// The command that deals with it.
	pub command: String,
}

/// Where the node stands with the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SyncState {
	/// `esplora` or `bitcoind`.
	pub backend: String,
	/// The server in use, without user name and password.
	pub source: String,
	/// Is the chain view current?
	pub synced: bool,
	/// Height of the best block that it knows.
	pub block_height: u32,
	/// Hash of that block.
	pub block_hash: String,
	/// When the chain was last looked at with success; `None` if never.
	pub looked_at: Option<Time>,
	/// What went wrong since then, if anything.
	pub last_error: Option<String>,
}

/// The feerates in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fees {
	/// When they were fetched; `None` if never.
	pub fetched_at: Option<Time>,
	/// Their age, in seconds.
	pub age_secs: Option<u64>,
	/// Are they fresh enough to sell by?
	pub fresh: bool,
	/// One for each purpose, highest first.
	pub estimates: Vec<FeeEstimate>,
}

/// One feerate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FeeEstimate {
	/// What it is for, `lower_snake_case` (LDK's confirmation targets).
	pub target: String,
	/// Satoshis per 1000 weight units.
	pub sat_per_kw: u32,
}

/// The node will stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Stopping {
	/// Always true.
	pub stopping: bool,
}
