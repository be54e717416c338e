//! LDK's events: each is acknowledged once what follows from it is durable, and handled again if it is raised again.
//!
//! LDK awaits the handler inside the loop that also persists its state: nothing here waits for the network.

use super::batch::Batcher;
use super::channels::{Channels, Left, NO_ANCHORS, Request, Wanted, has_anchors};
use super::onions::Onions;
use super::payments::{Payments, failure, id_of};
use super::{Lightning, peers};
use crate::control::{EventKind, Events, PaymentKind};
use crate::driver::{Driver, Stopped};
use crate::hands::books;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::hex::DisplayHex;
use inlet_lsp::book::{Book, Client, Order};
use inlet_lsp::input::{Hop, Input};
use inlet_lsp::ledger::{Fact, Flow};
use inlet_lsp::money::Msat;
use inlet_lsp::notice::Notice;
use lightning::blinded_path::message::NextMessageHop;
use lightning::events::bump_transaction::BumpTransactionEvent;
use lightning::events::{
	ClaimedHTLC, ClosureReason, Event, FundingInfo, HTLCHandlingFailureReason, HTLCHandlingFailureType,
	InboundHTLCLocator, PaymentPurpose, ReplayEvent,
};
use lightning::ln::msgs::SocketAddress;
use lightning::ln::types::ChannelId;
use lightning::types::payment::PaymentHash;
use serde_json::json;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Handles LDK's events.
pub struct Handler {
	/// LDK's parts.
	pub lightning: Arc<Lightning>,
	/// Channels being opened.
	pub channels: Arc<Channels>,
	/// Their fundings.
	pub batcher: Batcher,
	/// Payments of our own.
	pub payments: Arc<Payments>,
	/// Onion messages for clients that are away.
	pub onions: Onions,
	/// The driver.
	pub driver: Driver,
	/// Events for the operator.
	pub events: Arc<Events>,
}

/// Not durable: LDK is to raise the event again.
struct Replay;

impl From<Stopped> for Replay {
	fn from(_: Stopped) -> Self {
		Replay
	}
}

impl From<anyhow::Error> for Replay {
	fn from(e: anyhow::Error) -> Self {
		tracing::error!(target: "inlet", "an event could not be recorded and will be taken up again: {e:#}");
		Replay
	}
}

impl Handler {
	/// Takes one event.
	pub async fn handle(&self, event: Event) -> Result<(), ReplayEvent> {
		self.take(event).await.map_err(|Replay| ReplayEvent())
	}

	async fn take(&self, event: Event) -> Result<(), Replay> {
		let lightning = &self.lightning;
		match event {
			Event::FundingGenerationReady {
				temporary_channel_id,
				counterparty_node_id,
				channel_value_satoshis,
				output_script,
				user_channel_id,
			} => {
				let wanted = Wanted {
					temporary: temporary_channel_id,
					peer: counterparty_node_id,
					user_channel_id,
					script: output_script,
					value: channel_value_satoshis,
				};
				if self.channels.trials.contains(user_channel_id) {
					return self.tried(user_channel_id, counterparty_node_id).await;
				}
				if let Some(wanted) = self.batcher.accepted(wanted).await {
					self.batcher.fund_alone(wanted).await?;
				}
			}
			Event::HTLCIntercepted {
				intercept_id,
				requested_next_hop_scid,
				payment_hash,
				inbound_amount_msat,
				expected_outbound_amount_msat,
				outgoing_htlc_expiry_block_height,
			} => {
				let hop = self.hop(requested_next_hop_scid);
				let buyer =
					|| self.driver.read(|book| book.sale_by_scid(requested_next_hop_scid).map(|sale| sale.client));
				let client = hop.map(|hop| hop.peer).or_else(buyer);
				lightning.intercepts.arrived(intercept_id.0, client, Instant::now());
				let input = Input::HtlcIntercepted {
					intercept_id: intercept_id.0,
					scid: requested_next_hop_scid,
					payment_hash: payment_hash.0,
					inbound: Msat(inbound_amount_msat),
					expected_outbound: Msat(expected_outbound_amount_msat),
					expiry_height: outgoing_htlc_expiry_block_height,
					channel: hop,
				};
				self.driver.submit(input).await?;
			}
			Event::PaymentClaimable { payment_hash, amount_msat, purpose, claim_deadline, .. } => {
				self.claimable(payment_hash, amount_msat, &purpose, claim_deadline).await?;
			}
			Event::PaymentClaimed { payment_hash, amount_msat, purpose, htlcs, .. } => {
				self.claimed(payment_hash, amount_msat, &purpose, &htlcs).await?;
			}
			Event::PaymentSent { payment_id, payment_preimage, payment_hash, fee_paid_msat, amount_msat, .. } => {
				let id = payment_id.map_or_else(|| payment_hash.0.to_lower_hex_string(), id_of);
				let (amount, fee) = (Msat(amount_msat.unwrap_or_default()), Msat(fee_paid_msat.unwrap_or_default()));
				self.driver.submit(Input::Money(Fact::Sent { reference: id.clone(), amount, fee })).await?;
				self.payments.sent(&id, payment_preimage, fee_paid_msat, amount_msat).await?;
				self.tell(EventKind::PaymentSent, id, format!("{} msat sent", amount_msat.unwrap_or_default()));
			}
			Event::PaymentPathSuccessful { payment_id, path, .. } => {
				let hop = path.hops.first().and_then(|first| self.hop(first.short_channel_id));
				if let Some(Hop { channel_id, .. }) = hop {
					let amount = Msat(path.final_value_msat().saturating_add(path.fee_msat()));
					let (reference, flow) = (id_of(payment_id), Flow { channel_id, amount });
					self.driver.submit(Input::Money(Fact::SentOver { reference, flow })).await?;
				}
			}
			Event::PaymentFailed { payment_id, reason, .. } => {
				let id = id_of(payment_id);
				let reason = reason.map_or_else(|| "unknown reason".to_owned(), failure);
				self.payments.failed(&id, reason.clone()).await?;
				self.tell(EventKind::PaymentFailed, id, reason);
			}
			Event::PaymentForwarded {
				next_htlcs,
				prev_htlcs,
				total_fee_earned_msat,
				skimmed_fee_msat,
				outbound_amount_forwarded_msat,
				..
			} => {
				next_htlcs.iter().filter_map(|htlc| htlc.node_id).for_each(|peer| lightning.holds.ended(peer));
				let next = next_htlcs.first();
				let reference = prev_htlcs
					.iter()
					.map(|htlc| format!("{}:{}", htlc.channel_id, htlc.htlc_id.map_or(-1, |id| id as i128)))
					.collect::<Vec<_>>()
					.join(",");
				let flow =
					|channel: ChannelId, msat: Option<u64>| Some(Flow { channel_id: channel.0, amount: Msat(msat?) });
				let came: Option<Vec<Flow>> =
					prev_htlcs.iter().map(|htlc| flow(htlc.channel_id, htlc.amount_msat)).collect();
				let went: Option<Vec<Flow>> =
					next_htlcs.iter().map(|htlc| flow(htlc.channel_id, htlc.amount_msat)).collect();
				let input = Input::Forwarded {
					next_peer: next.and_then(|htlc| htlc.node_id),
					next_channel: next.map(|htlc| htlc.channel_id.0),
					total_fee: Msat(total_fee_earned_msat.unwrap_or_default()),
					skimmed: Msat(skimmed_fee_msat.unwrap_or_default()),
					intercept_id: prev_htlcs.first().and_then(intercept_id),
					reference: reference.clone(),
					came: came.unwrap_or_default(),
					went: went.unwrap_or_default(),
				};
				self.driver.submit(input).await?;
				self.tell(EventKind::Forward, reference, format!("{outbound_amount_forwarded_msat} msat forwarded"));
			}
			Event::HTLCHandlingFailed {
				failure_type: HTLCHandlingFailureType::Forward { node_id: Some(peer), channel_id },
				failure_reason,
				..
			} => {
				lightning.holds.ended(peer);
				let by_client = failure_reason == Some(HTLCHandlingFailureReason::Downstream);
				self.driver.submit(Input::ForwardFailed { peer, channel_id: channel_id.0, by_client }).await?;
			}
			Event::SpendableOutputs { outputs, channel_id, counterparty_node_id } => {
				// Static outputs pay to the wallet's own addresses already.
				let tracked = lightning
					.sweeper
					.track_spendable_outputs(outputs, channel_id, counterparty_node_id, true, None)
					.await;
				tracked.map_err(|()| Replay)?;
			}
			// A commitment transaction whose funding was withdrawn can never be mined, and its fee bump would hold a coin for ever.
			Event::BumpTransaction(BumpTransactionEvent::ChannelClose { commitment_tx, .. })
				if lightning.spends_unsent(&commitment_tx) => {}
			Event::BumpTransaction(bump) => lightning.bumper.handle_event(&bump).await,
			Event::OnionMessageIntercepted { next_hop: NextMessageHop::NodeId(peer), message, .. } => {
				let can_wake = |client: &Client| !client.wake.webhooks.is_empty();
				let is_client = self.driver.read(|book| book.client(&peer).is_some_and(can_wake));
				let has_channel = !lightning.manager.list_channels_with_counterparty(&peer).is_empty();
				if is_client && self.onions.keep(peer, has_channel, message) {
					self.driver.submit(Input::Wanted { peer, notice: Notice::OnionMessageIncoming }).await?;
				}
			}
			Event::OnionMessagePeerConnected { peer_node_id } => {
				self.onions.deliver(peer_node_id, &lightning.messenger)
			}
			Event::ConnectionNeeded { node_id, addresses } => self.connect(node_id, addresses),
			other => return self.channel(other).await,
		}
		Ok(())
	}

	/// The client has accepted a channel that it was only to be asked for.
	async fn tried(&self, id: u128, peer: bitcoin::secp256k1::PublicKey) -> Result<(), Replay> {
		let ended = self.channels.trials.accepted(id);
		let anchors = self.channels.is_accepted_with_anchors(&self.lightning, id, &peer);
		let refusal = (!anchors).then(|| NO_ANCHORS.to_owned());
		self.channels.end_trial(&self.lightning, id, peer);
		if let Some(ended) = ended {
			self.driver.submit(Input::OpeningTried { order: ended.order, refusal }).await?;
		}
		Ok(())
	}

	/// Events in the life of a channel.
	async fn channel(&self, event: Event) -> Result<(), Replay> {
		self.lightning.channels_changed();
		match event {
			Event::OpenChannelRequest {
				temporary_channel_id,
				counterparty_node_id,
				funding_satoshis,
				is_announced,
				channel_type,
				..
			} => {
				let request = Request {
					temporary: temporary_channel_id,
					peer: counterparty_node_id,
					sat: funding_satoshis,
					announced: is_announced,
					anchors: has_anchors(&channel_type),
				};
				self.channels.answer(&self.lightning, request);
			}
			Event::ChannelPending { channel_id, user_channel_id, counterparty_node_id, funding_txo, .. } => {
				// An order's is told when the chain backend has taken the funding: see `Hands::activity`.
				if !self.driver.read(|book| book.order_by_user_channel_id(user_channel_id).is_some()) {
					// LDK broadcasts before it says so, unless the broadcast is ours.
					let (channel, funding) = (channel_id.0, funding_txo);
					let of_trusting = |book: &Book| {
						book.sale_by_user_channel_id(user_channel_id).is_some_and(|sale| sale.client_trusts)
					};
					let input = if self.channels.is_withheld(&funding.txid) {
						Input::FundingWithheld { user_channel_id, channel_id: channel, funding }
					} else if self.driver.read(of_trusting) && !self.channels.is_out(&funding.txid) {
						// Told once more after a crash: it was never broadcast, and its coins are free again.
						return Ok(());
					} else {
						let fee = self.channels.fee(funding.txid);
						Input::Funded { user_channel_id, channel_id: channel, funding, fee, shared: false }
					};
					self.driver.submit(input).await?;
					self.channels.funded(user_channel_id);
				}
				self.batcher.signed(user_channel_id);
				if let Some(fact) = books::given(&self.lightning, &counterparty_node_id, channel_id) {
					self.driver.submit(Input::Money(fact)).await?;
				}
				let text = format!("funding {funding_txo} with {counterparty_node_id}");
				self.tell(EventKind::ChannelPending, channel_id.to_string(), text);
			}
			Event::ChannelReady { channel_id, user_channel_id, counterparty_node_id, funding_txo, .. } => {
				self.driver.submit(Input::ChannelReady { user_channel_id, channel_id: channel_id.0 }).await?;
				if let Some(splice) = funding_txo.and_then(|funding| self.channels.spliced_by(&funding.txid)) {
					let (user_channel_id, channel_id) = (splice.mark, channel_id.0);
					self.driver.submit(Input::ChannelReady { user_channel_id, channel_id }).await?;
				}
				self.lightning.scids.learn(self.lightning.places_with(&counterparty_node_id));
				let text = format!("with {counterparty_node_id}");
				self.tell(EventKind::ChannelReady, channel_id.to_string(), text);
			}
			Event::ChannelClosed { user_channel_id, reason, .. } if self.channels.trials.contains(user_channel_id) => {
				if let Some(ended) = self.channels.trials.closed(user_channel_id, &reason) {
					self.driver.submit(Input::OpeningTried { order: ended.order, refusal: ended.refusal }).await?;
				}
			}
			Event::ChannelClosed {
				channel_id,
				user_channel_id,
				reason,
				channel_capacity_sats,
				last_local_balance_msat,
				..
			} => {
				self.lightning.scids.forget(channel_id);
				let refused = matches!(reason, ClosureReason::CounterpartyForceClosed { .. });
				let by_client = is_by_peer(&reason);
				let reason = reason.to_string();
				tracing::info!(target: "inlet::channels", channel = %channel_id, "channel closed: {reason}");
				self.tell(EventKind::ChannelClosed, channel_id.to_string(), reason.clone());
				let ours = channel_capacity_sats.zip(last_local_balance_msat);
				let dropped = self.batcher.dropped(user_channel_id);
				if !self.settle_funding(user_channel_id, ours).await? {
					// It is out: nothing depends on this one any more.
					return Ok(());
				}
				let of_sale = || self.driver.read(|book| book.sale_by_user_channel_id(user_channel_id).is_some());
				if refused && of_sale() {
					// The core takes it for the refusal of a channel that is not open yet, and of no other.
					let reason = reason.clone();
					self.driver.submit(Input::OpenFailed { user_channel_id, reason, ours: false }).await?;
				}
				self.driver.submit(Input::ChannelClosed { user_channel_id, reason, by_client }).await?;
				self.channels.closed(user_channel_id).await;
				self.batcher.go_on(dropped);
			}
			Event::FundingTransactionReadyForSigning {
				channel_id, counterparty_node_id, unsigned_transaction, ..
			} => {
				let (lightning, tx) = (&self.lightning, unsigned_transaction);
				self.channels.sign_splice(lightning, channel_id, counterparty_node_id, tx).await;
			}
			Event::SpliceNegotiated { channel_id, counterparty_node_id, new_funding_txo, .. } => {
				self.channels.splice_negotiated(new_funding_txo);
				let text = format!("will be funded by {new_funding_txo}, with {counterparty_node_id}");
				self.tell(EventKind::ChannelPending, channel_id.to_string(), text);
			}
			Event::SpliceNegotiationFailed { channel_id, reason, .. } => {
				for input in self.channels.end_splices(&self.lightning, channel_id, &reason.to_string()) {
					self.driver.submit(input).await?;
				}
			}
			// The chain says it too, and again after a crash: see `Channels::follow_splices`.
			Event::DiscardFunding { funding_info: FundingInfo::Contribution { .. }, .. } => {}
			Event::DiscardFunding { funding_info: FundingInfo::Tx { transaction }, .. } => {
				self.channels.discard(transaction.compute_txid()).await;
			}
			// Of a channel whose broadcast is ours, and which ended before the peer had signed.
			Event::DiscardFunding { funding_info: FundingInfo::OutPoint { outpoint }, .. } => {
				self.channels.discard(outpoint.txid).await;
			}
			other => tracing::trace!(target: "inlet", "event without consequence: {other:?}"),
		}
		Ok(())
	}

	/// Before the core hears that an order's channel is closed, it hears that its funding is out, if it is: what is mined pays
	/// the client, whoever closed the channel and when. A refused one is withdrawn first. False if that cannot be told yet:
	/// the core then hears of it by `Hands::activity`, from what the wallet has on record. `ours` is the channel's capacity in
	/// satoshis and what we had of it in millisatoshis: if the client has received or spent something, nothing is withdrawn.
	async fn settle_funding(&self, user_channel_id: u128, ours: Option<(u64, u64)>) -> Result<bool, Replay> {
		let (of_order, being_opened, used) = self.driver.read(|book| {
			let order = book.order_by_user_channel_id(user_channel_id);
			let current = order.filter(|order| order.user_channel_id == user_channel_id);
			let used = |order: &Order| {
				ours.is_some_and(|(capacity, ours)| capacity * 1000 != ours + order.client_balance.0 * 1000)
			};
			(order.is_some(), current.is_some_and(Order::is_being_opened), current.is_some_and(used))
		});
		match self.channels.left(user_channel_id) {
			Left::Out(inputs) if of_order => {
				let funded = inputs.into_iter().filter(|input| matches!(input, Input::Funded { .. }));
				for input in funded {
					self.driver.submit(input).await?;
				}
				Ok(true)
			}
			Left::Refused(_) | Left::Waits if being_opened && used => {
				self.driver.submit(Input::FundingKept { user_channel_id }).await?;
				Ok(false)
			}
			Left::Refused(txid) if being_opened => Ok(self.channels.withdraw(txid).await),
			Left::Waits if being_opened => Ok(false),
			_ => Ok(true),
		}
	}

	/// The private channel that this SCID names; none for an SCID that we made up for a sale.
	fn hop(&self, scid: u64) -> Option<Hop> {
		if self.driver.read(|book| book.sale_by_scid(scid).is_some()) {
			return None;
		}
		let (peer, channel_id) = self.lightning.scids.find(scid, |peer| self.lightning.places_with(peer))?;
		Some(Hop { peer, channel_id: channel_id.0 })
	}

	/// A payment to us: an order's is held until the core decides, others are ours at once if we know what they are for.
	async fn claimable(
		&self,
		hash: PaymentHash,
		amount_msat: u64,
		purpose: &PaymentPurpose,
		claim_deadline: Option<u32>,
	) -> Result<(), Replay> {
		if self.driver.read(|book| book.order_by_payment_hash(&hash.0).is_some()) {
			let input = Input::PaymentHeld { payment_hash: hash.0, amount: Msat(amount_msat), claim_deadline };
			return Ok(self.driver.submit(input).await?);
		}
		// An order that the book has no more has an invoice too; one of our own is on record as long as it can be paid.
		let known = match purpose {
			PaymentPurpose::Bolt11InvoicePayment { .. } => self.payments.get(&hash.0.to_lower_hex_string()).is_some(),
			_ => true,
		};
		match purpose.preimage().filter(|_| known) {
			Some(preimage) => self.lightning.manager.claim_funds(preimage),
			None => self.lightning.manager.fail_htlc_backwards(&hash),
		}
		Ok(())
	}

	async fn claimed(
		&self,
		hash: PaymentHash,
		amount_msat: u64,
		purpose: &PaymentPurpose,
		htlcs: &[ClaimedHTLC],
	) -> Result<(), Replay> {
		let flow = |htlc: &ClaimedHTLC| Flow { channel_id: htlc.channel_id.0, amount: Msat(htlc.value_msat) };
		let over: Vec<Flow> = htlcs.iter().map(flow).collect();
		if self.driver.read(|book| book.order_by_payment_hash(&hash.0).is_some()) {
			let input = Input::PaymentClaimed { payment_hash: hash.0, amount: Msat(amount_msat), over };
			return Ok(self.driver.submit(input).await?);
		}
		let kind = match purpose {
			PaymentPurpose::Bolt11InvoicePayment { .. } => PaymentKind::Bolt11,
			PaymentPurpose::SpontaneousPayment(_) => PaymentKind::Keysend,
			_ => PaymentKind::Bolt12,
		};
		let reference = hash.0.to_lower_hex_string();
		self.driver.submit(Input::Money(Fact::Received { reference, over })).await?;
		self.payments.received(hash, kind, amount_msat).await?;
		let text = format!("{amount_msat} msat received");
		self.tell(EventKind::PaymentReceived, hash.0.to_lower_hex_string(), text);
		Ok(())
	}

	/// LDK needs a direct connection to answer an onion message.
	fn connect(&self, node: bitcoin::secp256k1::PublicKey, addresses: Vec<SocketAddress>) {
		let lightning = self.lightning.clone();
		let Some(errand) = lightning.door.errand() else {
			tracing::debug!(target: "inlet::peers", %node, "no connection for an onion message: too many are being made");
			return;
		};
		tokio::spawn(async move {
			let _errand = errand;
			for address in addresses.iter().take(3) {
				if peers::dial(&lightning, node, &address.to_string()).await.is_ok() {
					return;
				}
			}
			tracing::debug!(target: "inlet::peers", %node, "no connection for an onion message");
		});
	}

	fn tell(&self, kind: EventKind, subject: String, text: String) {
		self.events.publish(SystemTime::now().into(), kind, Some(subject), text, json!({}));
	}
}

/// What LDK called this HTLC when it intercepted it (`InterceptId::from_htlc_id_and_chan_id`, which is private): how the core
/// knows which of its decisions was settled, whatever channel LDK chose. `None` for what an earlier LDK received. If LDK ever
/// reckons it otherwise, the core finds none of its decisions under it, and goes by the channel.
fn intercept_id(htlc: &InboundHTLCLocator) -> Option<[u8; 32]> {
	let mut engine = sha256::Hash::engine();
	engine.input(&htlc.htlc_id?.to_be_bytes());
	engine.input(&htlc.channel_id.0);
	engine.input(&htlc.node_id?.serialize());
	Some(sha256::Hash::from_engine(engine).to_byte_array())
}

/// Was it the peer who ended the channel, or made LDK end it?
fn is_by_peer(reason: &ClosureReason) -> bool {
	match reason {
		ClosureReason::CounterpartyForceClosed { .. }
		| ClosureReason::CounterpartyInitiatedCooperativeClosure
		| ClosureReason::CounterpartyCoopClosedUnfundedChannel
		| ClosureReason::ProcessingError { .. }
		| ClosureReason::CommitmentTxConfirmed
		| ClosureReason::PeerFeerateTooLow { .. }
		| ClosureReason::HTLCsTimedOut { .. } => true,
		ClosureReason::HolderForceClosed { .. }
		| ClosureReason::LegacyCooperativeClosure
		| ClosureReason::LocallyInitiatedCooperativeClosure
		| ClosureReason::LocallyCoopClosedUnfundedChannel
		| ClosureReason::FundingTimedOut
		| ClosureReason::DisconnectedPeer
		| ClosureReason::OutdatedChannelManager
		| ClosureReason::FundingBatchClosure => false,
	}
}
