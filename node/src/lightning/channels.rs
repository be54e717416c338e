//! Opening channels, ours and others'.

use super::Lightning;
use crate::config::{InboundFrom, RoutingConfig};
use crate::onchain::Wallet;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, FeeRate, ScriptBuf, Txid};
use inlet_lsp::input::{Input, OpenChannel, Owner};
use inlet_lsp::money::Sat;
use lightning::ln::types::ChannelId;
use lightning::sign::EntropySource;
use lightning::util::config::{ChannelConfigOverrides, UserConfig};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Channels that are being opened at the same time.
const MAX_OPENING: usize = 200;
/// `to_self_delay` that we ask of a peer, unless less was promised.
const TO_SELF_DELAY: u16 = 144;

/// What is known of a channel between `create_channel` and its funding.
struct Opening {
	feerate: FeeRate,
	/// The funding transaction, once it is made.
	funded: Option<Txid>,
}

/// Channels being opened, by `user_channel_id`, and the rules for those that others open to us.
pub struct Channels {
	config: UserConfig,
	routing: RoutingConfig,
	wallet: Arc<Wallet>,
	opening: Mutex<HashMap<u128, Opening>>,
}

impl Channels {
	/// Nothing is being opened: LDK forgets unfunded channels at a restart, and so do we.
	pub fn new(config: UserConfig, routing: RoutingConfig, wallet: Arc<Wallet>) -> Self {
		Channels { config, routing, wallet, opening: Mutex::default() }
	}

	/// Opens a channel unless one with its `user_channel_id` exists. What fails at once comes back as an input, and so
	/// does a channel that is already usable (a replay).
	pub fn open(&self, lightning: &Lightning, open: OpenChannel) -> Vec<Input> {
		let id = open.user_channel_id;
		let known = lightning.manager.list_channels_with_counterparty(&open.peer);
		if let Some(channel) = known.iter().find(|channel| channel.user_channel_id == id) {
			let channel_id = channel.channel_id.0;
			return match (channel.funding_txo, channel.is_channel_ready) {
				(_, true) => vec![Input::ChannelReady { user_channel_id: id, channel_id }],
				(Some(funding), false) if channel.confirmations.is_some() => {
					let funding = funding.into_bitcoin_outpoint();
					vec![Input::Funded { user_channel_id: id, channel_id, funding, fee: None }]
				}
				_ => Vec::new(),
			};
		}
		match self.create(lightning, &open) {
			Ok(_) => Vec::new(),
			Err(reason) => vec![Input::OpenFailed { user_channel_id: id, reason, ours: true }],
		}
	}

	/// Starts opening a channel. Returns its temporary id.
	///
	/// # Errors
	/// Why not, for people.
	pub fn create(&self, lightning: &Lightning, open: &OpenChannel) -> Result<String, String> {
		let mut opening = self.opening.lock().expect("not poisoned");
		if opening.len() >= MAX_OPENING {
			return Err(format!("{MAX_OPENING} channels are being opened already"));
		}
		let mut config = self.config.clone();
		let handshake = &mut config.channel_handshake_config;
		handshake.announce_for_forwarding = open.announce;
		handshake.negotiate_scid_privacy = !open.announce;
		handshake.our_to_self_delay = open.max_to_self_delay.map_or(TO_SELF_DELAY, |most| most.min(TO_SELF_DELAY));
		config.channel_handshake_limits.trust_own_funding_0conf = open.confirmations == 0;
		let channel_id = lightning
			.manager
			.create_channel(open.peer, open.capacity.0, open.push.0, open.user_channel_id, None, Some(config))
			.map_err(|e| format!("LDK refused to open a channel: {e:?}"))?;
		let feerate = FeeRate::from_sat_per_kwu(u64::from(open.feerate.0));
		opening.insert(open.user_channel_id, Opening { feerate, funded: None });
		drop(opening);
		let owner = match &open.owner {
			Owner::Sale(id) | Owner::Order(id) => id.as_str(),
			Owner::Operator => "the operator",
		};
		tracing::info!(target: "inlet::channels", peer = %open.peer, capacity_sat = open.capacity.0, "opening a channel for {owner}");
		lightning.peers.process_events();
		Ok(channel_id.to_string())
	}

	/// LDK wants the funding transaction: builds it from confirmed coins, the anchor reserve staying in the wallet.
	pub async fn fund(
		&self,
		lightning: &Lightning,
		temporary: ChannelId,
		peer: PublicKey,
		id: u128,
		script: ScriptBuf,
		value: u64,
	) {
		let feerate = self.opening.lock().expect("not poisoned").get(&id).map(|opening| opening.feerate);
		let Some(feerate) = feerate else {
			// Not opened by this run: nobody waits for it.
			self.give_up(lightning, temporary, peer, "it is not wanted any more");
			return;
		};
		let keep = lightning.anchor_reserve(&self.wallet);
		let funded = match self.wallet.fund(script, Amount::from_sat(value), feerate, keep).await {
			Ok(funded) => funded,
			Err(e) => {
				tracing::warn!(target: "inlet::channels", %peer, "no funding for a channel of {value} sat: {e}");
				self.give_up(lightning, temporary, peer, "the funding transaction could not be made");
				return;
			}
		};
		let txid = funded.tx.compute_txid();
		if let Some(opening) = self.opening.lock().expect("not poisoned").get_mut(&id) {
			opening.funded = Some(txid);
		}
		if let Err(e) = lightning.manager.funding_transaction_generated(temporary, peer, funded.tx) {
			tracing::warn!(target: "inlet::channels", %peer, "LDK did not take the funding transaction: {e:?}");
			self.wallet.release(txid).await;
			self.give_up(lightning, temporary, peer, "the funding transaction was not taken");
		}
	}

	/// Gives up a channel that is not funded yet.
	pub fn abandon(&self, lightning: &Lightning, id: u128, peer: PublicKey) {
		let channels = lightning.manager.list_channels_with_counterparty(&peer);
		let unfunded = channels.iter().find(|c| c.user_channel_id == id && c.confirmations.is_none());
		if let Some(channel) = unfunded {
			self.give_up(lightning, channel.channel_id, peer, "it took too long");
		}
	}

	fn give_up(&self, lightning: &Lightning, channel: ChannelId, peer: PublicKey, why: &str) {
		// LDK answers with `ChannelClosed`, which the driver gets as usual.
		let message = format!("The channel is not opened: {why}");
		if let Err(e) = lightning.manager.force_close_broadcasting_latest_txn(&channel, &peer, message) {
			tracing::debug!(target: "inlet::channels", %peer, "nothing to give up: {e:?}");
		}
	}

	/// What the miner gets for a channel's funding transaction, if it is ours.
	pub fn fee(&self, funding: Txid) -> Option<Sat> {
		self.wallet.fee_of(funding).map(|fee| Sat(fee.to_sat()))
	}

	/// The channel's funding is out, and that is on record.
	pub fn funded(&self, id: u128) {
		self.opening.lock().expect("not poisoned").remove(&id);
	}

	/// A funding transaction that will never be broadcast frees its coins.
	pub async fn discard(&self, txid: Txid) {
		self.wallet.release(txid).await;
	}

	/// The channel is closed; a funding transaction that was never broadcast frees its coins.
	pub async fn closed(&self, id: u128) {
		let opening = self.opening.lock().expect("not poisoned").remove(&id);
		if let Some(Opening { funded: Some(txid), .. }) = opening {
			self.wallet.release(txid).await;
		}
	}

	/// Somebody wants to open a channel to us: the answer is the operator's policy.
	pub fn answer(&self, lightning: &Lightning, temporary: ChannelId, peer: PublicKey, sat: u64, announced: bool) {
		let verdict = self.judge(lightning, peer, sat);
		let result = match &verdict {
			Ok(()) => {
				let id = u128::from_be_bytes(
					lightning.keys.get_secure_random_bytes()[..16].try_into().expect("16 of 32 bytes"),
				);
				let overrides: Option<ChannelConfigOverrides> = None;
				lightning.manager.accept_inbound_channel(&temporary, &peer, id, overrides)
			}
			Err(why) => lightning.manager.force_close_broadcasting_latest_txn(&temporary, &peer, why.clone()),
		};
		match (verdict, result) {
			(Ok(()), Ok(())) => {
				tracing::info!(target: "inlet::channels", %peer, sat, announced, "accepting a channel");
			}
			(Err(why), _) => tracing::info!(target: "inlet::channels", %peer, sat, "channel refused: {why}"),
			(Ok(()), Err(e)) => tracing::warn!(target: "inlet::channels", %peer, sat, "channel not accepted: {e:?}"),
		}
	}

	fn judge(&self, lightning: &Lightning, peer: PublicKey, sat: u64) -> Result<(), String> {
		let policy = &self.routing;
		match &policy.inbound_from {
			InboundFrom::Anyone => {}
			InboundFrom::Listed(listed) if listed.contains(&peer) => {}
			InboundFrom::Listed(_) => return Err("This node takes channels from listed peers only".to_owned()),
			InboundFrom::Nobody => return Err("This node takes no channels".to_owned()),
		}
		if sat < policy.inbound_min_sat || sat > policy.inbound_max_sat {
			return Err(format!(
				"This node takes channels of {} to {} sat",
				policy.inbound_min_sat, policy.inbound_max_sat
			));
		}
		let all = lightning.manager.list_channels();
		let inbound = all.iter().filter(|channel| !channel.is_outbound);
		let (mut in_all, mut of_peer) = (0, 0);
		for channel in inbound {
			in_all += 1;
			of_peer += u32::from(channel.counterparty.node_id == peer);
		}
		// The new one is among them already.
		if in_all > policy.inbound_max_channels {
			return Err("This node has all the inbound channels that it takes".to_owned());
		}
		if of_peer > policy.inbound_max_per_peer {
			return Err(format!("This node takes {} channels of one peer", policy.inbound_max_per_peer));
		}
		Ok(())
	}
}
