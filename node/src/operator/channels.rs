//! Peers and channels, for the operator.

use super::{Operator, node_id};
use crate::control::*;
use crate::driver::now;
use crate::lightning::peers::PeerAddress;
use crate::lightning::splice::waits_for_splice;
use bitcoin::secp256k1::PublicKey;
use inlet_lsp::book::Lease;
use inlet_lsp::input::{Input, OpenChannel, Owner};
use inlet_lsp::money::{FeePerKw, Msat, Sat};
use inlet_lsp::notice::Notice;
use lightning::ln::channel_state::{ChannelDetails, ChannelShutdownState};
use lightning::sign::EntropySource;
use lightning::util::config::ChannelConfigUpdate;
use lightning::util::scid_utils;
use std::collections::BTreeMap;

/// `BLOCKxTXxOUT`.
pub(super) fn scid_text(scid: u64) -> String {
	let (block, tx) = (scid_utils::block_from_scid(scid), scid_utils::tx_index_from_scid(scid));
	format!("{block}x{tx}x{}", scid_utils::vout_from_scid(scid))
}

/// Blocks that are reckoned as a day.
const BLOCKS_PER_DAY: u32 = 144;

/// Both anchor outputs (BOLT 3), which the funder pays for.
const ANCHORS_MSAT: u64 = 660_000;

/// Our side of a channel, HTLCs on their way out not included.
///
/// LDK tells a side's balance less its reserve, and the funder's also less the two anchors, which come back when the
/// channel is closed by agreement. It tells zero if the balance is within the reserve: then the other side tells.
pub(super) fn local_msat(channel: &ChannelDetails) -> u64 {
	let ours = channel.unspendable_punishment_reserve.unwrap_or(0).saturating_mul(1000);
	if channel.outbound_capacity_msat > 0 {
		let anchors = channel.channel_type.as_ref().is_some_and(|kind| kind.supports_anchors_zero_fee_htlc_tx());
		let anchors = if anchors && channel.is_outbound { ANCHORS_MSAT } else { 0 };
		return channel.outbound_capacity_msat.saturating_add(ours).saturating_add(anchors);
	}
	let theirs = channel.counterparty.unspendable_punishment_reserve.saturating_mul(1000);
	let remote = channel.inbound_capacity_msat.saturating_add(theirs);
	channel.channel_value_satoshis.saturating_mul(1000).saturating_sub(remote)
}

impl Operator {
	pub(super) fn all_peers(&self) -> Vec<Peer> {
		let lightning = &self.hands.lightning;
		let mut peers: BTreeMap<String, Peer> = BTreeMap::new();
		for (id, address) in self.peers.all() {
			let id = id.to_string();
			let peer = Peer {
				node_id: id.clone(),
				address: Some(address),
				connected: false,
				inbound: false,
				persistent: true,
				channels: 0,
			};
			peers.insert(id, peer);
		}
		for details in lightning.peers.list_peers() {
			let id = details.counterparty_node_id.to_string();
			let address = details.socket_address.map(|address| address.to_string());
			let peer = peers.entry(id.clone()).or_insert_with(|| Peer {
				node_id: id,
				address,
				connected: true,
				inbound: details.is_inbound_connection,
				persistent: false,
				channels: 0,
			});
			peer.connected = true;
			peer.inbound = details.is_inbound_connection;
		}
		for channel in lightning.manager.list_channels() {
			let id = channel.counterparty.node_id.to_string();
			let peer = peers.entry(id.clone()).or_insert_with(|| Peer {
				node_id: id,
				address: None,
				connected: false,
				inbound: false,
				persistent: false,
				channels: 0,
			});
			peer.channels += 1;
		}
		peers.into_values().collect()
	}

	pub(super) async fn connect_peer(&self, request: ConnectRequest) -> Result<Peer, Refusal> {
		let id = node_id(&request.node_id)?;
		let peer: PeerAddress = format!("{id}@{}", request.address)
			.parse()
			.map_err(|e| Refusal::invalid("bad_address", format!("{e:#}"), "give PUBKEY@HOST:PORT"))?;
		self.peers.connect(&self.hands.lightning, peer).await.map_err(|e| {
			Refusal::not_possible(
				"not_connected",
				format!("{e:#}"),
				"check the key, the address and the peer's firewall",
			)
		})?;
		pick("peers", &id.to_string(), self.all_peers().into_iter().map(|peer| (peer.node_id.clone(), peer)))
	}

	pub(super) async fn disconnect_peer(&self, wanted: &str) -> Result<Disconnected, Refusal> {
		let peer = pick("peers", wanted, self.all_peers().into_iter().map(|peer| (peer.node_id.clone(), peer)))?;
		if peer.channels > 0 {
			return Err(Refusal::conflict(
				"peer_has_channels",
				format!("{} channels with {} would stop working", peer.channels, peer.node_id),
				"close them first: inlet channels close ID",
			));
		}
		let forgotten = self.peers.forget(&self.hands.lightning, node_id(&peer.node_id)?).await;
		forgotten.map_err(|e| Refusal::internal(format!("{e:#}")))?;
		Ok(Disconnected { node_id: peer.node_id })
	}

	pub(super) fn all_channels(&self) -> Vec<Channel> {
		let sold = self.driver.read(|book| {
			let sales = book.sales().map(|sale| (sale.user_channel_id, sale.id.clone()));
			let orders = book.orders().map(|order| (order.user_channel_id, order.id.clone()));
			sales.chain(orders).collect::<BTreeMap<u128, String>>()
		});
		let details = self.hands.lightning.manager.list_channels();
		details.iter().map(|channel| self.view(channel, sold.get(&channel.user_channel_id).cloned())).collect()
	}

	fn view(&self, channel: &ChannelDetails, sold_as: Option<String>) -> Channel {
		let closing =
			channel.channel_shutdown_state.is_some_and(|state| !matches!(state, ChannelShutdownState::NotShuttingDown));
		let state = match (closing, channel.is_channel_ready, channel.is_usable) {
			(true, ..) => ChannelState::Closing,
			(_, false, _) => ChannelState::Pending,
			(_, true, true) => ChannelState::Ready,
			(_, true, false) => ChannelState::Offline,
		};
		let policy = channel.config.unwrap_or_default();
		Channel {
			id: channel.channel_id.to_string(),
			peer: channel.counterparty.node_id.to_string(),
			state,
			funding: channel.funding_txo.map(|txo| format!("{}:{}", txo.txid, txo.index)),
			short_channel_id: channel.short_channel_id.map(scid_text),
			capacity_sat: channel.channel_value_satoshis,
			local_msat: local_msat(channel),
			outbound_msat: channel.outbound_capacity_msat,
			inbound_msat: channel.inbound_capacity_msat,
			announced: channel.is_announced,
			outbound: channel.is_outbound,
			confirmations: channel.confirmations.unwrap_or(0),
			confirmations_required: channel.confirmations_required,
			fee_base_msat: policy.forwarding_fee_base_msat,
			fee_ppm: policy.forwarding_fee_proportional_millionths,
			cltv_expiry_delta: policy.cltv_expiry_delta,
			sold_as,
			lease_until_height: self.driver.read(|book| book.keep_until(&channel.channel_id.0)),
		}
	}

	pub(super) async fn open(&self, request: OpenChannelRequest) -> Result<Opening, Refusal> {
		let peer = node_id(&request.node_id)?;
		if !self.hands.lightning.wire.is_connected(&peer) {
			let Some(address) = request.address.clone().or_else(|| self.peers.address(&peer)) else {
				return Err(Refusal::conflict(
					"not_connected",
					format!("{peer} is not connected"),
					"connect first: inlet peers connect PUBKEY@HOST:PORT",
				));
			};
			self.connect_peer(ConnectRequest { node_id: peer.to_string(), address }).await?;
		}
		let free = self.free().to_sat();
		if request.capacity_sat > free {
			return Err(Refusal::not_possible(
				"not_enough_money",
				format!("a channel of {} sat needs more than the {free} sat that are free", request.capacity_sat),
				"fund the wallet (inlet address) or open a smaller channel; inlet balance shows what is reserved",
			));
		}
		let feerate = match request.feerate_sat_per_kw {
			Some(given) => FeePerKw(given.max(253)),
			None => self.hands.fees.fresh().ok_or_else(no_feerate)?,
		};
		let random = self.hands.lightning.keys.get_secure_random_bytes();
		let user_channel_id = u128::from_be_bytes(random[..16].try_into().expect("16 of 32 bytes"));
		let open = OpenChannel {
			owner: Owner::Operator,
			user_channel_id,
			peer,
			capacity: Sat(request.capacity_sat),
			push: Msat(request.push_msat),
			announce: request.announce,
			confirmations: 1,
			max_to_self_delay: None,
			feerate,
			withhold: false,
			batch: None,
		};
		let temporary = self.hands.channels.create(&self.hands.lightning, &open);
		let temporary = temporary.map_err(|why| {
			Refusal::not_possible("not_opened", why, "see what the peer accepts, and its state: inlet peers list")
		})?;
		Ok(Opening {
			peer: peer.to_string(),
			temporary_id: temporary,
			user_channel_id: user_channel_id.to_string(),
			capacity_sat: request.capacity_sat,
		})
	}

	fn find(&self, id: &str) -> Result<ChannelDetails, Refusal> {
		let channels = self.hands.lightning.manager.list_channels();
		pick("channels", id, channels.into_iter().map(|channel| (channel.channel_id.to_string(), channel)))
	}

	pub(super) async fn close(&self, id: &str, request: CloseRequest) -> Result<Closing, Refusal> {
		request.check()?;
		let channel = self.find(id)?;
		if !request.force && waits_for_splice(std::slice::from_ref(&channel), channel.channel_id) {
			return Err(Refusal::not_now(
				"being_spliced",
				"this channel is being made larger, and its splice waits for its blocks".to_owned(),
				"try again when the channel has its new size, or close it by force: inlet channels force-close ID",
			));
		}
		let height = self.hands.tip.borrow().height;
		let lease = self.driver.read(|book| book.lease(&channel.channel_id.0));
		let left = lease.as_ref().map_or(0, |lease| lease.blocks_left(height, now()));
		if let Some(lease) = lease.filter(|_| left > 0) {
			if !request.break_lease {
				return Err(under_lease(&lease, left));
			}
			// On record before it is done.
			let input = Input::LeaseBroken { channel_id: channel.channel_id.0, blocks_left: left };
			self.driver.submit(input).await.map_err(|e| Refusal::internal(e.to_string()))?;
		}
		let (manager, peer) = (&self.hands.lightning.manager, channel.counterparty.node_id);
		let done = match request.force {
			true => {
				let message = "The operator closes this channel".to_owned();
				manager.force_close_broadcasting_latest_txn(&channel.channel_id, &peer, message)
			}
			false => manager.close_channel_with_feerate_and_script(
				&channel.channel_id,
				&peer,
				request.feerate_sat_per_kw,
				None,
			),
		};
		done.map_err(|e| {
			if !request.force {
				self.call_for(peer);
			}
			Refusal::not_possible(
				"not_closed",
				format!("LDK refused: {e:?}"),
				"an offline peer can only be closed by force: inlet channels force-close ID",
			)
		})?;
		self.hands.lightning.hurry();
		Ok(Closing {
			id: channel.channel_id.to_string(),
			peer: peer.to_string(),
			force: request.force,
			local_msat: local_msat(&channel),
		})
	}

	/// A client that is away is told that we want our liquidity back (bLIP-55), so that it can agree to a close.
	fn call_for(&self, peer: PublicKey) {
		let driver = self.driver.clone();
		tokio::spawn(async move {
			// When we are stopping, the operator has to ask again.
			let _ = driver.submit(Input::Wanted { peer, notice: Notice::LiquidityManagementRequest }).await;
		});
	}

	pub(super) fn set_policy(&self, id: &str, request: ChannelPolicyRequest) -> Result<Channel, Refusal> {
		let channel = self.find(id)?;
		let update = ChannelConfigUpdate {
			forwarding_fee_base_msat: request.fee_base_msat,
			forwarding_fee_proportional_millionths: request.fee_ppm,
			cltv_expiry_delta: request.cltv_expiry_delta,
			..Default::default()
		};
		let manager = &self.hands.lightning.manager;
		manager.update_partial_channel_config(&channel.counterparty.node_id, &[channel.channel_id], &update).map_err(
			|e| Refusal::invalid("bad_policy", format!("LDK refused: {e:?}"), "cltv_expiry_delta is at least 48"),
		)?;
		self.hands.lightning.hurry();
		let id = channel.channel_id.to_string();
		pick("channels", &id, self.all_channels().into_iter().map(|channel| (channel.id.clone(), channel)))
	}
}

/// Who was promised what, and for how long still (L1-30, L2-28).
fn under_lease(lease: &Lease, left: u32) -> Refusal {
	let days = left.div_ceil(BLOCKS_PER_DAY);
	let (client, sold_as, until) = (lease.client, &lease.sold_as, lease.until_height);
	Refusal::conflict(
		"under_lease",
		format!(
			"{client} has paid ({sold_as}) for this channel until block {until}: {left} blocks, about {days} days, are left"
		),
		"wait, or break the promise: --break-lease",
	)
}

/// Nothing is priced or sent while the market is unknown.
pub(super) fn no_feerate() -> Refusal {
	Refusal::not_now(
		"no_feerate",
		"the chain backend has given no fresh fee estimate",
		"see inlet fees and inlet sync, or give --feerate",
	)
}
