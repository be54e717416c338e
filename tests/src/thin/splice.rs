//! A thin node that changes the size of a channel, or is asked to; and what it could publish of a channel's past.

use super::ThinNode;
use super::node::Inner;
use anyhow::{Context, Result, anyhow};
use bitcoin::{Address, Amount, FeeRate, Network, Transaction, TxOut, address::NetworkUnchecked};
use lightning::chain::BlockLocator;
use lightning::chain::channelmonitor::ChannelMonitor;
use lightning::events::Event;
use lightning::events::bump_transaction::BumpTransactionEvent;
use lightning::ln::channel_state::ChannelDetails;
use lightning::log_info;
use lightning::sign::InMemorySigner;
use lightning::util::logger::Logger;
use lightning::util::ser::{ReadableArgs, Writeable};
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};

const FEERATE: FeeRate = FeeRate::from_sat_per_kwu(1_000);

impl ThinNode {
	/// Asks the other end of this channel to let `sat` of ours out of it, to bitcoind's wallet.
	///
	/// # Errors
	/// LDK does not begin.
	pub async fn splice_out(&self, channel: &ChannelDetails, sat: u64) -> Result<()> {
		let address = self.inner.broadcaster.rpc.call("getnewaddress", json!(["", "bech32"])).await?;
		let address: Address<NetworkUnchecked> = serde_json::from_value(address)?;
		let script_pubkey = address.require_network(Network::Regtest)?.script_pubkey();
		let (id, peer) = (&channel.channel_id, &channel.counterparty.node_id);
		let channels = &self.inner.channels;
		let template = channels.splice_channel(id, peer).map_err(|e| anyhow!("no splice: {e:?}"))?;
		let outputs = vec![TxOut { value: Amount::from_sat(sat), script_pubkey }];
		let contribution = template.splice_out(outputs, FEERATE, FEERATE).map_err(|e| anyhow!("no splice: {e}"))?;
		let begun = channels.funding_contributed(id, peer, contribution, None);
		self.inner.wake.notify_one();
		begun.map_err(|e| anyhow!("no splice: {e:?}"))
	}

	/// What a dishonest node keeps of this channel: its state of now.
	///
	/// # Errors
	/// There is no such channel.
	pub fn remember(&self, channel: &ChannelDetails) -> Result<Vec<u8>> {
		let monitor = self.inner.monitors.get_monitor(channel.channel_id).map_err(|()| anyhow!("no such channel"))?;
		Ok(monitor.encode())
	}

	/// The commitment transaction of a state that it [remembered](ThinNode::remember), signed.
	///
	/// # Errors
	/// It is no such state.
	pub fn old_commitment(&self, state: &[u8]) -> Result<Transaction> {
		let inner = &self.inner;
		type Old = (BlockLocator, ChannelMonitor<InMemorySigner>);
		let (_, monitor) = Old::read(&mut &state[..], (&*inner.keys, &*inner.keys)).map_err(|e| anyhow!("{e:?}"))?;
		let fees = Arc::new(super::chain::ConstantFees);
		monitor.broadcast_latest_holder_commitment_txn(&inner.broadcaster, &fees, &inner.log);
		let found = Mutex::new(None);
		let handler = |event| {
			if let Event::BumpTransaction(BumpTransactionEvent::ChannelClose { commitment_tx, .. }) = event {
				*found.lock().unwrap_or_else(PoisonError::into_inner) = Some(commitment_tx);
			}
			Ok(())
		};
		// An error is the handler's, which has none.
		let _ = monitor.process_pending_events(&&handler, &inner.log);
		found.into_inner().unwrap_or_else(PoisonError::into_inner).context("no commitment transaction")
	}
}

impl Inner {
	/// A splice wants our signatures: on the channel's own input LDK puts them, and we never add coins.
	pub(super) fn sign_splice(&self, event: Event) {
		let Event::FundingTransactionReadyForSigning { channel_id, counterparty_node_id, unsigned_transaction, .. } =
			event
		else {
			return;
		};
		let signed = self.channels.funding_transaction_signed(&channel_id, &counterparty_node_id, unsigned_transaction);
		if let Err(e) = signed {
			log_info!(self.log, "no splice: {:?}", e);
		}
	}
}
