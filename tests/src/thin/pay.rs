//! A thin node's money: channels that it opens, invoices, payments in one part or in parts of your choice.

use super::node::PATIENCE;
use super::{ThinEvent, ThinNode, parse_uri, random_bytes};
use anyhow::{Context, Result, anyhow, bail, ensure};
use lightning::ln::channelmanager::{Bolt11InvoiceParameters, OptionalBolt11PaymentParams, PaymentId};
use lightning::ln::outbound_payment::{RecipientOnionFields, Retry};
use lightning::ln::types::ChannelId;
use lightning::routing::router::{Path, Route, RouteHop, RouteParametersConfig};
use lightning::types::features::{ChannelFeatures, NodeFeatures};
use lightning::types::payment::PaymentHash;
use lightning::util::config::UserConfig;
use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Description};
use std::sync::PoisonError;
use std::time::Duration;

impl ThinNode {
	/// Opens a channel to `NODE_ID@HOST:PORT`, paid by bitcoind's wallet, and waits until its funding transaction is
	/// broadcast. It can be used once that is mined deep enough.
	///
	/// # Errors
	/// The other node is not there or refuses, or the wallet has no money.
	pub async fn open_channel(&self, uri: &str, sat: u64, push_sat: u64, announce: bool) -> Result<ChannelId> {
		self.connect(uri).await?;
		let (peer, _) = parse_uri(uri)?;
		let mut config: UserConfig = super::node::user_config();
		config.channel_handshake_config.announce_for_forwarding = announce;
		let created = self.inner.channels.create_channel(peer, sat, push_sat * 1000, 0, None, Some(config));
		let temporary = created.map_err(|e| anyhow!("cannot open a channel: {e:?}"))?;
		self.inner.wake.notify_one();
		self.wait_for(PATIENCE, |event| match event {
			ThinEvent::ChannelPending { channel_id, former: Some(former), .. } if *former == temporary => {
				Some(Ok(*channel_id))
			}
			ThinEvent::ChannelClosed { channel_id, reason } if *channel_id == temporary => Some(Err(reason.clone())),
			_ => None,
		})
		.await?
		.map_err(|reason| anyhow!("the channel did not open: {reason}"))
	}

	/// An ordinary invoice, with hints for the channels that it has; for any amount if none is given.
	///
	/// # Errors
	/// LDK cannot make it.
	pub fn invoice(&self, msat: Option<u64>) -> Result<Bolt11Invoice> {
		self.patient_invoice(msat, None)
	}

	/// [`ThinNode::invoice`] that wants so many blocks to settle its payment in.
	///
	/// # Errors
	/// As [`ThinNode::invoice`].
	pub fn patient_invoice(&self, msat: Option<u64>, blocks: Option<u16>) -> Result<Bolt11Invoice> {
		let params = Bolt11InvoiceParameters {
			amount_msats: msat,
			min_final_cltv_expiry_delta: blocks,
			description: Bolt11InvoiceDescription::Direct(Description::empty()),
			..Default::default()
		};
		self.inner.channels.create_bolt11_invoice(params).map_err(|e| anyhow!("no invoice: {e:?}"))
	}

	/// Starts to pay an invoice, in at most `max_parts` parts, trying once. `open_msat` is the amount for an invoice
	/// without one. [`ThinNode::outcome`] tells how it ends.
	///
	/// # Errors
	/// There is no way to the payee, or too little money.
	pub fn pay(&self, invoice: &Bolt11Invoice, open_msat: Option<u64>, max_parts: u8) -> Result<PaymentHash> {
		let params = OptionalBolt11PaymentParams {
			route_params_config: RouteParametersConfig {
				max_path_count: max_parts,
				max_channel_saturation_power_of_half: 0,
				..Default::default()
			},
			retry_strategy: Retry::Attempts(0),
			..Default::default()
		};
		let paying = self.inner.channels.pay_for_bolt11_invoice(invoice, PaymentId(random_bytes()?), open_msat, params);
		self.inner.wake.notify_one();
		paying.map_err(|e| anyhow!("cannot pay: {e:?}"))?;
		Ok(invoice.payment_hash())
	}

	/// Starts to pay over a direct channel with the node of the invoice's only route hint, in exactly these parts (each in
	/// millisatoshi, over the usable channel with the most money left). The parts may sum up to less than `total_msat`,
	/// which is what the payee is told to wait for: call this again with the same invoice for the rest.
	///
	/// # Errors
	/// The invoice has no such hint, or no channel has the money for a part.
	pub fn pay_parts(&self, invoice: &Bolt11Invoice, parts: &[u64], total_msat: u64) -> Result<PaymentId> {
		let hints = invoice.route_hints();
		let [hint] = &hints[..] else { bail!("the invoice has {} hints", hints.len()) };
		let [hop] = &hint.0[..] else { bail!("the hint has {} hops", hint.0.len()) };
		let mut channels = self.inner.channels.list_usable_channels();
		channels.retain(|channel| channel.counterparty.node_id == hop.src_node_id);
		let mut paths = Vec::new();
		for part in parts {
			channels.sort_by_key(|channel| std::cmp::Reverse(channel.next_outbound_htlc_limit_msat));
			let channel = channels.first_mut().context("no usable channel with the node of the hint")?;
			ensure!(channel.next_outbound_htlc_limit_msat >= *part, "no channel has {part} msat");
			channel.next_outbound_htlc_limit_msat -= part;
			let first = RouteHop {
				pubkey: hop.src_node_id,
				node_features: NodeFeatures::empty(),
				short_channel_id: channel.get_outbound_payment_scid().context("the channel has no SCID")?,
				channel_features: ChannelFeatures::empty(),
				fee_msat: u64::from(hop.fees.base_msat)
					+ part * u64::from(hop.fees.proportional_millionths) / 1_000_000,
				cltv_expiry_delta: hop.cltv_expiry_delta.into(),
				maybe_announced_channel: false,
			};
			let last = RouteHop {
				pubkey: invoice.get_payee_pub_key(),
				node_features: NodeFeatures::empty(),
				short_channel_id: hop.short_channel_id,
				channel_features: ChannelFeatures::empty(),
				fee_msat: *part,
				cltv_expiry_delta: u32::try_from(invoice.min_final_cltv_expiry_delta())?,
				maybe_announced_channel: false,
			};
			paths.push(Path { hops: vec![first, last], blinded_tail: None });
		}
		let id = PaymentId(random_bytes()?);
		let route = Route { paths, route_params: None };
		let onion = RecipientOnionFields::secret_only(*invoice.payment_secret(), total_msat);
		let sent = self.inner.channels.send_payment_with_route(route, invoice.payment_hash(), onion, id);
		self.inner.wake.notify_one();
		sent.map_err(|e| anyhow!("cannot pay: {e:?}"))?;
		Ok(id)
	}

	/// Waits for the end of a payment of ours: the routing fee in millisatoshi, or why it failed.
	///
	/// # Errors
	/// It does not end within `patience`.
	pub async fn outcome(&self, hash: PaymentHash, patience: Duration) -> Result<Result<u64, String>> {
		self.wait_for(patience, |event| match event {
			ThinEvent::PaymentSent { hash: sent, fee_msat } if *sent == hash => Some(Ok(*fee_msat)),
			ThinEvent::PaymentFailed { hash: failed, reason } if *failed == hash => Some(Err(reason.clone())),
			_ => None,
		})
		.await
	}

	/// Waits until a payment to us is claimed, and gives its amount in millisatoshi.
	///
	/// # Errors
	/// It is not within `patience`.
	pub async fn claimed(&self, hash: PaymentHash, patience: Duration) -> Result<u64> {
		self.wait_for(patience, |event| match event {
			ThinEvent::PaymentClaimed { hash: claimed, msat } if *claimed == hash => Some(*msat),
			_ => None,
		})
		.await
	}

	/// Claims a payment that is held.
	///
	/// # Errors
	/// None such has arrived.
	pub fn claim(&self, hash: PaymentHash) -> Result<()> {
		let preimage = self.inner.preimages.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).copied();
		self.inner.channels.claim_funds(preimage.context("no such payment has arrived")?);
		self.inner.wake.notify_one();
		Ok(())
	}

	/// Fails a payment that is held.
	pub fn fail(&self, hash: PaymentHash) {
		self.inner.channels.fail_htlc_backwards(&hash);
		self.inner.wake.notify_one();
	}
}
