//! One transaction for several channels (lsp/docs/decisions/0008): made, signed for by all, broadcast; or dissolved.
//!
//! Each channel gets the transaction by itself, in the form whose broadcast is ours. It is broadcast when LDK's channels are
//! durable, all of them, and the core still wants each.
//!
//! It is dissolved in this order: nobody can broadcast it any more (in this run); each order goes on without it, durably, from
//! when on nobody ever broadcasts it; LDK closes its channels, and that is durable; its coins are free. The wallet's row, which
//! holds them, is the last to go: as long as it is there, the next start takes up what is left to do.

use super::Lightning;
use super::channels::{Channels, NO_ANCHORS, NotFunded, Wanted, give_up};
use super::together::{Dissolved, Dropped, Gathered, Ready};
use crate::crash;
use crate::driver::{Driver, Stopped};
use bitcoin::{Amount, OutPoint, ScriptBuf, Txid};
use inlet_lsp::book::Order;
use inlet_lsp::input::{Input, OpenChannel};
use std::sync::Arc;

/// What the node needs to go on with a batch, wherever it is told of it.
#[derive(Clone)]
pub struct Batcher {
	/// LDK's parts.
	pub lightning: Arc<Lightning>,
	/// Channels being opened.
	pub channels: Arc<Channels>,
	/// The driver.
	pub driver: Driver,
}

impl Batcher {
	/// Opens these channels with one transaction.
	pub fn open(&self, batch: u128, channels: Vec<OpenChannel>) -> Vec<Input> {
		if !self.channels.together.begin(batch, &channels) {
			return Vec::new();
		}
		let mut failed = Vec::new();
		for open in channels {
			let id = open.user_channel_id;
			if let Err(reason) = self.channels.create(&self.lightning, &open) {
				self.go_on(self.dropped(id));
				failed.push(Input::OpenFailed { user_channel_id: id, reason, ours: true });
			}
		}
		failed
	}

	/// A client has accepted its channel. What is given back is no part of a batch.
	pub async fn accepted(&self, wanted: Wanted) -> Option<Wanted> {
		let (id, peer, temporary) = (wanted.user_channel_id, wanted.peer, wanted.temporary);
		if self.channels.together.contains(id) && !self.channels.is_accepted_with_anchors(&self.lightning, id, &peer) {
			give_up(&self.lightning, temporary, peer, "it would have no anchors");
			let (dropped, reason) = (self.dropped(id), NO_ANCHORS.to_owned());
			let _ = self.driver.submit(Input::OpenFailed { user_channel_id: id, reason, ours: false }).await;
			self.go_on(dropped);
			return None;
		}
		match self.channels.together.accepted(wanted) {
			// One of several that is not known (any more) was left out, or abandoned: its order goes on under another mark, and a
			// batch of one is funded by `make`.
			Gathered::Alone(_) if self.is_void(id) => {
				give_up(&self.lightning, temporary, peer, "it is not wanted any more");
			}
			Gathered::Alone(wanted) => return Some(wanted),
			Gathered::Waits => {}
			Gathered::Ready(ready) => self.fund(ready),
		}
		None
	}

	/// Does the order of this channel wait for another, or for what it began together with others?
	fn is_void(&self, id: u128) -> bool {
		let is_void = |order: &Order| order.user_channel_id != id || order.batch_id().is_some();
		self.driver.read(|book| book.order_by_user_channel_id(id).is_some_and(is_void))
	}

	/// A channel has ended. From here on the transaction that it shared is not broadcast any more; what becomes of the others is
	/// for [`go_on`](Batcher::go_on), when the order of this one has heard.
	pub fn dropped(&self, id: u128) -> Dropped {
		self.channels.together.dropped(id)
	}

	/// The others go on without a channel that has ended, or end as well.
	pub fn go_on(&self, dropped: Dropped) {
		match dropped {
			Dropped::Nothing => {}
			Dropped::Ready(ready) => self.fund(ready),
			Dropped::Dissolved(dissolved) => self.dissolve(dissolved, "another channel of its transaction has ended"),
		}
	}

	/// Time is up for those that have not answered, or not signed.
	pub fn hurry(&self, batch: u128) -> Vec<Input> {
		let hurried = self.channels.together.hurry(batch);
		let mut inputs = Vec::new();
		for id in hurried.left_out {
			self.close(id, "it was not accepted in time");
			tracing::info!(target: "inlet::channels", "left out of a shared funding: it has not answered");
			let reason = "the client has not answered in time to be funded together with others".to_owned();
			inputs.push(Input::OpenFailed { user_channel_id: id, reason, ours: true });
		}
		hurried.ready.into_iter().for_each(|ready| self.fund(ready));
		let dissolved = hurried.dissolved.into_iter();
		dissolved.for_each(|dissolved| self.dissolve(dissolved, "not all clients have signed in time"));
		inputs
	}

	/// A channel is signed for, and its monitor is durable. After the last one the core is asked, when LDK's state is durable too.
	pub fn signed(&self, id: u128) {
		let Some((funding, channels)) = self.channels.together.signed(id) else {
			if self.channels.together.contains(id) {
				crash::reached("batch.signed.one");
			}
			return;
		};
		crash::reached("batch.signed.all");
		let this = self.clone();
		tokio::spawn(async move { this.ask(funding, channels).await });
	}

	/// What the store takes is on the disk in this order: no funding is broadcast for a channel that LDK could forget.
	async fn ask(&self, funding: Txid, channels: Vec<u128>) {
		self.lightning.kept.queued().await;
		crash::reached("batch.kept.done");
		// When we are stopping, the next start takes it up.
		let _ = self.driver.submit(Input::AllSigned { funding, channels }).await;
	}

	/// All are signed for, and wanted.
	pub fn broadcast(&self, funding: Txid) {
		let wallet = &self.channels.wallet;
		if wallet.is_out(&funding) {
			return;
		}
		if !self.has_all(funding) {
			// Of the end of a channel LDK tells in a moment.
			return self.discard(funding);
		}
		crash::reached("batch.broadcast.decided");
		if self.channels.together.broadcast(funding, || wallet.broadcast_funding(&funding)) {
			tracing::info!(target: "inlet::channels", %funding, "a shared funding transaction goes out");
			crash::reached("batch.broadcast.done");
		} else {
			tracing::warn!(target: "inlet::channels", %funding, "a shared funding transaction is not broadcast: it has ended");
		}
	}

	/// It is not wanted.
	pub fn discard(&self, funding: Txid) {
		let dissolved = self.channels.together.discard(funding).into_iter();
		dissolved.for_each(|dissolved| self.dissolve(dissolved, "another order of its transaction has ended"));
	}

	/// At the start: a transaction that was made and not broadcast goes out if LDK has all of its channels and the core wants them;
	/// else it is dissolved.
	pub fn take_up(&self) {
		for (funding, channels) in self.channels.wallet.shared_unsent() {
			let all = self.has_all(funding);
			tracing::info!(target: "inlet::channels", %funding, all, "a shared funding transaction of the last run");
			let batch = self.name_of(&channels);
			self.channels.together.take_up(batch, funding, &channels, all);
			let this = self.clone();
			tokio::spawn(async move {
				match all {
					true => this.ask(funding, channels).await,
					false => this.end(Dissolved { batch, funding, channels }, "the node was stopped meanwhile").await,
				}
			});
		}
	}

	/// What the core calls those that these channels are opened together with. Any other name will do if no order wants them any
	/// more.
	fn name_of(&self, channels: &[u128]) -> u128 {
		let named = |id: &u128| self.driver.read(|book| book.order_by_user_channel_id(*id).and_then(Order::batch_id));
		channels.iter().find_map(named).or(channels.first().copied()).unwrap_or_default()
	}

	/// Has LDK all the channels that this transaction funds?
	fn has_all(&self, funding: Txid) -> bool {
		let known = self.lightning.manager.list_channels();
		let is_there = |(id, vout): &(u128, u32)| {
			let own = known.iter().find(|channel| channel.user_channel_id == *id);
			let own = own.and_then(|channel| channel.funding_txo).map(|own| own.into_bitcoin_outpoint());
			own == Some(OutPoint { txid: funding, vout: *vout })
		};
		self.channels.wallet.funds_channels(&funding).iter().all(is_there)
	}

	/// Makes the transaction and gives it to each channel.
	fn fund(&self, ready: Ready) {
		let this = self.clone();
		tokio::spawn(async move { this.make(ready).await });
	}

	/// Funds a channel that shares its transaction with no other.
	///
	/// # Errors
	/// We are stopping.
	pub async fn fund_alone(&self, wanted: Wanted) -> Result<(), Stopped> {
		let user_channel_id = wanted.user_channel_id;
		let others = self.driver.read(|book| self.channels.reserved_for_others(book, &[user_channel_id]));
		match self.channels.fund(&self.lightning, wanted, others).await {
			Ok(()) => Ok(()),
			Err(NotFunded { reason, ours }) => {
				self.driver.submit(Input::OpenFailed { user_channel_id, reason, ours }).await
			}
		}
	}

	async fn make(&self, ready: Ready) {
		let Ready { batch, feerate, mut wanted } = ready;
		if let [_] = wanted[..] {
			self.channels.together.forget(batch);
			if let Some(wanted) = wanted.pop() {
				// When we are stopping, LDK forgets the channel.
				let _ = self.fund_alone(wanted).await;
			}
			return;
		}
		let ids: Vec<u128> = wanted.iter().map(|wanted| wanted.user_channel_id).collect();
		let others = self.driver.read(|book| self.channels.reserved_for_others(book, &ids));
		let keep = self.lightning.anchor_reserve().and(others);
		let outputs: Vec<(u128, ScriptBuf, Amount)> =
			wanted.iter().map(|one| (one.user_channel_id, one.script.clone(), Amount::from_sat(one.value))).collect();
		let funded = match self.channels.wallet.fund_together(&outputs, feerate, keep).await {
			Ok(funded) => funded,
			Err(e) => {
				tracing::warn!(target: "inlet::channels", channels = ids.len(), "no shared funding: {e}");
				self.tell(&ids, &e.to_string()).await;
				ids.iter().for_each(|id| self.close(*id, "the funding transaction could not be made"));
				return self.channels.together.forget(batch);
			}
		};
		crash::reached("batch.funded.written");
		let funding = funded.tx.compute_txid();
		// Before LDK has it: the first may sign at once.
		if !self.channels.together.made(batch, funding) {
			return self.end(Dissolved { batch, funding, channels: ids }, "a client went away meanwhile").await;
		}
		self.channels.made_for(&ids, funding);
		tracing::info!(target: "inlet::channels", %funding, channels = ids.len(), "a shared funding transaction is made");
		for Wanted { temporary, peer, .. } in wanted {
			let manager = &self.lightning.manager;
			let tx = funded.tx.clone();
			if let Err(e) = manager.funding_transaction_generated_manual_broadcast(temporary, peer, tx) {
				tracing::warn!(target: "inlet::channels", %peer, "LDK did not take a shared funding transaction: {e:?}");
				return self.discard(funding);
			}
			self.lightning.flush();
			crash::reached("batch.given.one");
		}
		crash::reached("batch.given.all");
	}

	fn dissolve(&self, dissolved: Dissolved, why: &'static str) {
		let this = self.clone();
		tokio::spawn(async move { this.end(dissolved, why).await });
	}

	async fn end(&self, dissolved: Dissolved, why: &str) {
		let Dissolved { batch, funding, channels } = dissolved;
		tracing::warn!(target: "inlet::channels", %funding, channels = channels.len(), "a shared funding is given up: {why}");
		crash::reached("batch.dissolving.decided");
		if !self.tell(&channels, why).await {
			// We are stopping: the next start takes it up.
			return;
		}
		crash::reached("batch.dissolving.told");
		channels.iter().for_each(|id| self.close(*id, why));
		self.lightning.flush();
		self.lightning.kept.queued().await;
		crash::reached("batch.dissolving.closed");
		self.channels.wallet.release(funding).await;
		crash::reached("batch.dissolving.freed");
		self.channels.together.forget(batch);
	}

	/// Each order goes on without it. False if we are stopping.
	async fn tell(&self, channels: &[u128], why: &str) -> bool {
		for &user_channel_id in channels {
			self.channels.funded(user_channel_id);
			let reason = why.to_owned();
			if self.driver.submit(Input::OpenFailed { user_channel_id, reason, ours: true }).await.is_err() {
				return false;
			}
		}
		true
	}

	/// LDK's channel with this mark ends, if there is one.
	fn close(&self, id: u128, why: &str) {
		let channels = self.lightning.manager.list_channels();
		for channel in channels.iter().filter(|channel| channel.user_channel_id == id && channel.is_outbound) {
			give_up(&self.lightning, channel.channel_id, channel.counterparty.node_id, why);
		}
	}
}
