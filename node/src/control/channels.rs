//! Peers and channels.

use super::{Listed, Refusal, Time};
use serde::{Deserialize, Serialize};

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Peer {
	/// Its public key.
	pub node_id: String,
	/// Where it is (`host:port`), if known.
	pub address: Option<String>,
	/// Connected now.
	pub connected: bool,
	/// Did it connect to us?
	pub inbound: bool,
	/// Do we reconnect to it?
	pub persistent: bool,
	/// Channels with it that are not closed.
	pub channels: u32,
}

impl Listed for Peer {
	const NOUN: &'static str = "peers";
}

/// Connect to a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConnectRequest {
	/// Its public key.
	pub node_id: String,
	/// Where it is: `host:port`.
	pub address: String,
}

/// Disconnected, and not to be reconnected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Disconnected {
	/// Its public key.
	pub node_id: String,
}

/// Where a channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChannelState {
	/// Being opened.
	Pending,
	/// Usable.
	Ready,
	/// Ready, and its peer is not connected.
	Offline,
	/// Being closed.
	Closing,
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Channel {
	/// Its id (BOLT 2).
	pub id: String,
	/// With whom.
	pub peer: String,
	/// Where it stands.
	pub state: ChannelState,
	/// Its funding output, `txid:vout`, once it is known.
	pub funding: Option<String>,
	/// `BLOCKxTXxOUT`, once it is confirmed.
	pub short_channel_id: Option<String>,
	/// Its capacity.
	pub capacity_sat: u64,
	/// Our side.
	pub local_msat: u64,
	/// What could be sent now.
	pub outbound_msat: u64,
	/// What could be received now.
	pub inbound_msat: u64,
	/// Public?
	pub announced: bool,
	/// Did we open it?
	pub outbound: bool,
	/// Confirmations of the funding transaction.
	pub confirmations: u32,
	/// Confirmations that make it ready, if known.
	pub confirmations_required: Option<u32>,
	/// Our fee for forwarding over it: fixed part.
	pub fee_base_msat: u32,
	/// Our fee for forwarding over it: share, in parts per million.
	pub fee_ppm: u32,
	/// Our `cltv_expiry_delta`, in blocks.
	pub cltv_expiry_delta: u16,
	/// The sale or order that it was opened for.
	pub sold_as: Option<String>,
	/// Height below which it is not to be closed by us.
	pub lease_until_height: Option<u32>,
}

impl Listed for Channel {
	const NOUN: &'static str = "channels";
}

/// Open a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OpenChannelRequest {
	/// With whom.
	pub node_id: String,
	/// Where it is (`host:port`), if it is not connected.
	#[serde(default)]
	pub address: Option<String>,
	/// Its capacity.
	pub capacity_sat: u64,
	/// What the peer gets at opening.
	#[serde(default)]
	pub push_msat: u64,
	/// Public?
	#[serde(default)]
	pub announce: bool,
	/// Feerate of the funding transaction, in satoshis per 1000 weight units; the node's own if left out.
	#[serde(default)]
	pub feerate_sat_per_kw: Option<u32>,
}

/// A channel that is being opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Opening {
	/// With whom.
	pub peer: String,
	/// Its id for now (it changes once the funding transaction is known).
	pub temporary_id: String,
	/// Our own mark for it, decimal.
	pub user_channel_id: String,
	/// Its capacity.
	pub capacity_sat: u64,
}

/// Close a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CloseRequest {
	/// Do so even though a client has a lease on it.
	pub break_lease: bool,
	/// Without the peer: the money comes back after a delay. Not in the API's body: it has a path of its own.
	#[serde(skip)]
	pub force: bool,
	/// Feerate of the closing transaction, in satoshis per 1000 weight units; the node's own if left out. Refused for a forced
	/// close.
	pub feerate_sat_per_kw: Option<u32>,
}

impl CloseRequest {
	/// Does it make sense?
	///
	/// # Errors
	/// A feerate for a forced close: its transaction is signed already, and is bumped as needed.
	pub fn check(&self) -> Result<(), Refusal> {
		if self.force && self.feerate_sat_per_kw.is_some() {
			return Err(Refusal::invalid(
				"feerate_of_forced_close",
				"the feerate of a forced close cannot be chosen: its transaction is signed already",
				"leave the feerate out: the node raises the fee as needed",
			));
		}
		Ok(())
	}
}

/// A channel that is being closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Closing {
	/// Its id.
	pub id: String,
	/// With whom it was.
	pub peer: String,
	/// Without the peer?
	pub force: bool,
	/// What comes back to us, about.
	pub local_msat: u64,
}

/// Set what forwarding over a channel costs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ChannelPolicyRequest {
	/// Fixed part.
	pub fee_base_msat: Option<u32>,
	/// Share, in parts per million.
	pub fee_ppm: Option<u32>,
	/// `cltv_expiry_delta`, in blocks.
	pub cltv_expiry_delta: Option<u16>,
}

/// A channel that we opened for a sale or an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SoldChannel {
	/// Its capacity.
	pub capacity_sat: u64,
	/// Its id, once the funding transaction is known.
	pub id: Option<String>,
	/// Its funding output, `txid:vout`, once it is out.
	pub funding: Option<String>,
	/// When the funding transaction was broadcast.
	pub funded_at: Option<Time>,
	/// Usable since.
	pub ready_at: Option<Time>,
	/// Closed since.
	pub closed_at: Option<Time>,
	/// Height below which it is not to be closed by us.
	pub keep_until_height: u32,
}
