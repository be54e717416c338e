//! How a thin node answers what happens to it, honestly or not, and its diary.

use super::chain::{FEERATE, fund};
use super::node::Inner;
use anyhow::{Context, Result, anyhow};
use bitcoin::address::{Address, NetworkUnchecked};
use bitcoin::secp256k1::{PublicKey, Secp256k1};
use bitcoin::{Network, Txid};
use lightning::chain::chaininterface::{BroadcasterInterface, TransactionType};
use lightning::events::bump_transaction::BumpTransactionEvent;
use lightning::events::{Event, PaymentPurpose};
use lightning::ln::channelmanager::TrustedChannelFeatures;
use lightning::ln::types::ChannelId;
use lightning::log_info;
use lightning::sign::{OutputSpender, SpendableOutputDescriptor};
use lightning::types::payment::PaymentHash;
use lightning::util::logger::Logger;
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// What a node does with what is offered to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Behaviour {
	/// With a channel.
	pub on_open: OnOpen,
	/// With a payment.
	pub on_payment: OnPayment,
}

/// What a node does when somebody opens a channel to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOpen {
	/// Accepts it: unconfirmed if it is the LSP's, else at its depth.
	#[default]
	Accept,
	/// Refuses it with an `error`.
	Refuse,
	/// Hangs up.
	Disconnect,
	/// Says nothing at all.
	Ignore,
	/// Accepts it as [`OnOpen::Accept`] does, and sends an `error` as soon as its funding is in the mempool.
	BreakOff,
	/// The same, and hangs up.
	BreakOffAndLeave,
}

/// What a node does when a payment has arrived in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnPayment {
	/// Claims it.
	#[default]
	Claim,
	/// Fails it back.
	Fail,
	/// Does nothing, until told to by [`ThinNode::claim`](super::ThinNode::claim) or
	/// [`ThinNode::fail`](super::ThinNode::fail).
	Hold,
}

/// Something that happened to a thin node. Amounts are in millisatoshi if they say so.
#[derive(Clone, Debug, PartialEq)]
pub enum ThinEvent {
	/// Somebody wants to open a channel.
	OpenRequested {
		/// Who.
		peer: PublicKey,
		/// Its capacity, in satoshi.
		sat: u64,
		/// Is it to be announced?
		announced: bool,
		/// `to_self_delay` that the opener asks of us, in blocks.
		to_self_delay: u16,
	},
	/// A channel is signed; its funding transaction is or will be broadcast.
	ChannelPending {
		/// Which.
		channel_id: ChannelId,
		/// How it was called before, if we opened it.
		former: Option<ChannelId>,
		/// The funding output.
		funding: bitcoin::OutPoint,
	},
	/// A channel can be used.
	ChannelReady {
		/// Which.
		channel_id: ChannelId,
		/// With whom.
		peer: PublicKey,
	},
	/// A channel is no more, or never came to be.
	ChannelClosed {
		/// Which.
		channel_id: ChannelId,
		/// Why, in LDK's words.
		reason: String,
	},
	/// A splice came to nothing.
	SpliceFailed {
		/// Of which channel.
		channel_id: ChannelId,
		/// Why, in LDK's words.
		reason: String,
	},
	/// A payment has arrived in full.
	PaymentClaimable {
		/// Which.
		hash: PaymentHash,
		/// What we can have.
		msat: u64,
		/// What the LSP kept (bLIP-52's `extra_fee`).
		skimmed_msat: u64,
		/// Channels over which its parts came, one per part.
		channels: Vec<ChannelId>,
		/// The height by which it must be claimed.
		deadline: Option<u32>,
	},
	/// A payment is ours.
	PaymentClaimed {
		/// Which.
		hash: PaymentHash,
		/// How much.
		msat: u64,
	},
	/// A payment of ours has arrived.
	PaymentSent {
		/// Which.
		hash: PaymentHash,
		/// Routing fees, in millisatoshi.
		fee_msat: u64,
	},
	/// A part of a payment of ours came back.
	PathFailed {
		/// Which payment.
		hash: PaymentHash,
		/// Is it the payee who refused, or is there no use in trying again?
		permanent: bool,
		/// The channel that is to blame, if one is.
		scid: Option<u64>,
	},
	/// What a closed channel left to us was sent to bitcoind's wallet.
	Swept {
		/// By which transaction.
		txid: Txid,
		/// How much, in satoshi.
		sat: u64,
	},
	/// A payment of ours failed for good.
	PaymentFailed {
		/// Which.
		hash: PaymentHash,
		/// Why, in LDK's words.
		reason: String,
	},
}

/// What happened, in order; others can wait for it.
pub(super) struct Diary {
	events: Mutex<Vec<ThinEvent>>,
	length: watch::Sender<usize>,
	followers: Mutex<Vec<mpsc::UnboundedSender<(Instant, ThinEvent)>>>,
}

impl Default for Diary {
	fn default() -> Diary {
		Diary { events: Mutex::default(), length: watch::channel(0).0, followers: Mutex::default() }
	}
}

impl Diary {
	fn extend(&self, event: Option<ThinEvent>) {
		event.into_iter().for_each(|event| self.note(event));
	}

	pub(super) fn follow(&self) -> mpsc::UnboundedReceiver<(Instant, ThinEvent)> {
		let (follower, following) = mpsc::unbounded_channel();
		self.followers.lock().unwrap_or_else(PoisonError::into_inner).push(follower);
		following
	}

	fn note(&self, event: ThinEvent) {
		let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
		let now = Instant::now();
		followers.retain(|follower| follower.send((now, event.clone())).is_ok());
		drop(followers);
		let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
		events.push(event);
		self.length.send_replace(events.len());
	}

	pub(super) fn all(&self) -> Vec<ThinEvent> {
		self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
	}

	pub(super) async fn wait_for<T>(&self, patience: Duration, pick: impl Fn(&ThinEvent) -> Option<T>) -> Result<T> {
		let mut length = self.length.subscribe();
		let found = async {
			loop {
				length.borrow_and_update();
				let found = self.events.lock().unwrap_or_else(PoisonError::into_inner).iter().find_map(&pick);
				match found {
					Some(found) => return Ok(found),
					None => length.changed().await?,
				}
			}
		};
		let waited = tokio::time::timeout(patience, found).await;
		waited.with_context(|| format!("not within {} s; there was {:#?}", patience.as_secs(), self.all()))?
	}
}

impl Inner {
	fn behaviour(&self) -> Behaviour {
		*self.behaviour.lock().unwrap_or_else(PoisonError::into_inner)
	}

	/// Answers LDK's event.
	pub(super) fn handle(self: &Arc<Self>, event: Event) {
		log_info!(self.log, "event {:?}", event);
		match event {
			Event::OpenChannelRequest { .. } => self.open_requested(&event),
			Event::FundingGenerationReady { .. } => {
				let inner = Arc::clone(self);
				tokio::spawn(async move { inner.fund_channel(event).await });
			}
			Event::PaymentClaimable { .. } => self.payment_arrived(event),
			Event::FundingTransactionReadyForSigning { .. } => self.sign_splice(event),
			Event::SpendableOutputs { outputs, .. } => {
				let inner = Arc::clone(self);
				tokio::spawn(async move { inner.sweep(outputs).await });
			}
			Event::BumpTransaction(BumpTransactionEvent::ChannelClose {
				channel_id,
				counterparty_node_id,
				commitment_tx,
				..
			}) => {
				// Its own feerate is above regtest's minimum: it needs no child that pays for it.
				let kind = TransactionType::UnilateralClose { counterparty_node_id, channel_id };
				self.broadcaster.broadcast_transactions(&[(&commitment_tx, kind)]);
			}
			Event::ChannelPending { channel_id, counterparty_node_id: peer, funding_txo: funding, .. } => {
				if matches!(self.behaviour().on_open, OnOpen::BreakOff | OnOpen::BreakOffAndLeave) {
					let inner = Arc::clone(self);
					tokio::spawn(async move { inner.break_off(channel_id, peer, funding.txid).await });
				}
				self.diary.extend(told(event));
			}
			other => self.diary.extend(told(other)),
		}
	}

	async fn break_off(&self, channel_id: ChannelId, peer: PublicKey, funding: Txid) {
		let on_open = self.behaviour().on_open;
		while self.broadcaster.rpc.call("getmempoolentry", json!([funding.to_string()])).await.is_err() {
			tokio::time::sleep(Duration::from_millis(5)).await;
		}
		let why = "this client has thought better of it".to_owned();
		if let Err(e) = self.channels.force_close_broadcasting_latest_txn(&channel_id, &peer, why) {
			log_info!(self.log, "the channel could not be broken off: {:?}", e);
		}
		self.peers.process_events();
		if on_open == OnOpen::BreakOffAndLeave {
			self.peers.disconnect_by_node_id(peer);
		}
	}

	fn open_requested(&self, event: &Event) {
		let Event::OpenChannelRequest {
			temporary_channel_id,
			counterparty_node_id: peer,
			funding_satoshis,
			is_announced,
			params,
			..
		} = event
		else {
			return;
		};
		let to_self_delay = params.to_self_delay;
		self.diary.note(ThinEvent::OpenRequested {
			peer: *peer,
			sat: *funding_satoshis,
			announced: *is_announced,
			to_self_delay,
		});
		let trusted = self.lsp.is_some_and(|(lsp, _)| lsp == *peer);
		let done = match self.behaviour().on_open {
			OnOpen::Accept | OnOpen::BreakOff | OnOpen::BreakOffAndLeave if trusted => {
				self.channels.accept_inbound_channel_from_trusted_peer(
					temporary_channel_id,
					peer,
					0,
					TrustedChannelFeatures::ZeroConf,
					None,
				)
			}
			OnOpen::Accept | OnOpen::BreakOff | OnOpen::BreakOffAndLeave => {
				self.channels.accept_inbound_channel(temporary_channel_id, peer, 0, None)
			}
			OnOpen::Refuse => {
				let refusal = "this client refuses channels".to_owned();
				self.channels.force_close_broadcasting_latest_txn(temporary_channel_id, peer, refusal)
			}
			OnOpen::Disconnect => {
				self.peers.disconnect_by_node_id(*peer);
				Ok(())
			}
			OnOpen::Ignore => Ok(()),
		};
		if let Err(e) = done {
			// The peer went away meanwhile, or LDK itself refuses the channel.
			log_info!(self.log, "the channel could not be answered: {:?}", e);
		}
	}

	async fn fund_channel(&self, event: Event) {
		let Event::FundingGenerationReady {
			temporary_channel_id,
			counterparty_node_id: peer,
			channel_value_satoshis,
			output_script,
			..
		} = event
		else {
			return;
		};
		let funded = match fund(&self.broadcaster.rpc, &output_script, channel_value_satoshis).await {
			Ok(tx) => self
				.channels
				.funding_transaction_generated(temporary_channel_id, peer, tx)
				.map_err(|e| format!("LDK does not take the funding transaction: {e:?}")),
			Err(e) => Err(format!("there is no funding transaction: {e:#}")),
		};
		if let Err(reason) = funded {
			// It tells whoever waits for the channel, too: the channel is closed with this reason.
			let _ = self.channels.force_close_broadcasting_latest_txn(&temporary_channel_id, &peer, reason);
		}
		self.wake.notify_one();
	}

	fn payment_arrived(&self, event: Event) {
		let Event::PaymentClaimable {
			payment_hash,
			amount_msat,
			counterparty_skimmed_fee_msat,
			purpose,
			receiving_channel_ids,
			claim_deadline,
			..
		} = event
		else {
			return;
		};
		let preimage = match purpose {
			PaymentPurpose::SpontaneousPayment(preimage) => Some(preimage),
			other => other.preimage(),
		};
		if let Some(preimage) = preimage {
			self.preimages.lock().unwrap_or_else(PoisonError::into_inner).insert(payment_hash, preimage);
		}
		self.diary.note(ThinEvent::PaymentClaimable {
			hash: payment_hash,
			msat: amount_msat,
			skimmed_msat: counterparty_skimmed_fee_msat,
			channels: receiving_channel_ids.into_iter().map(|(channel_id, _)| channel_id).collect(),
			deadline: claim_deadline,
		});
		let Some(preimage) = preimage else { return };
		match self.behaviour().on_payment {
			OnPayment::Claim => self.channels.claim_funds(preimage),
			OnPayment::Fail => self.channels.fail_htlc_backwards(&payment_hash),
			OnPayment::Hold => {}
		}
	}

	/// Sends what a closed channel left to us to bitcoind's wallet.
	async fn sweep(&self, outputs: Vec<SpendableOutputDescriptor>) {
		let sweep = async {
			let address = self.broadcaster.rpc.call("getnewaddress", json!(["", "bech32"])).await?;
			let address: Address<NetworkUnchecked> = serde_json::from_value(address)?;
			let script = address.require_network(Network::Regtest)?.script_pubkey();
			let descriptors: Vec<&SpendableOutputDescriptor> = outputs.iter().collect();
			let tx = self.keys.spend_spendable_outputs(&descriptors, vec![], script, FEERATE, None, &Secp256k1::new());
			tx.map_err(|()| anyhow!("LDK cannot spend the outputs"))
		};
		match sweep.await {
			Ok(tx) => {
				self.broadcaster.broadcast_transactions(&[(&tx, TransactionType::Sweep { channels: vec![] })]);
				let sat = tx.output.iter().map(|output| output.value.to_sat()).sum();
				self.diary.note(ThinEvent::Swept { txid: tx.compute_txid(), sat });
			}
			Err(e) => log_info!(self.log, "nothing swept: {:#}", e),
		}
	}
}

/// Events that need no answer.
fn told(event: Event) -> Option<ThinEvent> {
	Some(match event {
		Event::ChannelPending { channel_id, former_temporary_channel_id, funding_txo, .. } => {
			ThinEvent::ChannelPending { channel_id, former: former_temporary_channel_id, funding: funding_txo }
		}
		Event::ChannelReady { channel_id, counterparty_node_id, .. } => {
			ThinEvent::ChannelReady { channel_id, peer: counterparty_node_id }
		}
		Event::ChannelClosed { channel_id, reason, .. } => {
			ThinEvent::ChannelClosed { channel_id, reason: reason.to_string() }
		}
		Event::SpliceNegotiationFailed { channel_id, reason, .. } => {
			ThinEvent::SpliceFailed { channel_id, reason: reason.to_string() }
		}
		Event::PaymentClaimed { payment_hash, amount_msat, .. } => {
			ThinEvent::PaymentClaimed { hash: payment_hash, msat: amount_msat }
		}
		Event::PaymentSent { payment_hash, fee_paid_msat, .. } => {
			ThinEvent::PaymentSent { hash: payment_hash, fee_msat: fee_paid_msat.unwrap_or(0) }
		}
		Event::PaymentPathFailed { payment_hash, payment_failed_permanently, short_channel_id, .. } => {
			ThinEvent::PathFailed { hash: payment_hash, permanent: payment_failed_permanently, scid: short_channel_id }
		}
		Event::PaymentFailed { payment_hash: Some(hash), reason, .. } => {
			ThinEvent::PaymentFailed { hash, reason: format!("{reason:?}") }
		}
		_ => return None,
	})
}
