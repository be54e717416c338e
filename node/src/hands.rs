//! What the core's actions do to the node, and what the core is told of it.

pub mod books;
mod holdings;

use crate::control::{EventKind, Events};
use crate::disk::Disk;
use crate::driver::{Driver, Surroundings, now};
use crate::lightning::batch::Batcher;
use crate::lightning::channels::{CLOSED, Channels, Left};
use crate::lightning::splice::growable;
use crate::lightning::{Lightning, payments, trial};
use crate::notify::Notifier;
use crate::onchain::{Fees, Tip, Wallet};
use crate::refunds::{Refunds, UnderWay};
use bitcoin::{Amount, BlockHash, Network, Txid};
use inlet_lsp::book::{Book, NodeId, Order, OrderId, Write};
use inlet_lsp::input::{Action, ChannelView, Input, OpenChannel, PeerView, Sight, World};
use inlet_lsp::money::{Msat, Sat};
use inlet_lsp::time::Timestamp;
use lightning::ln::channel_state::{ChannelDetails, InboundHTLCDetails, InboundHTLCStateDetails};
use lightning::ln::channelmanager::InterceptId;
use lightning::ln::types::ChannelId;
use lightning::sign::EntropySource;
use lightning::types::payment::PaymentHash;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Instant, SystemTime};
use tokio::sync::watch;

/// LDK closes a channel for an outgoing HTLC that is not settled so many blocks after it expires.
const GRACE_BLOCKS: u32 = 3;
/// LDK closes a channel so many blocks before an incoming HTLC expires whose preimage it knows, and that still is there.
const CLAIM_BLOCKS: u32 = 36;

/// So often LDK is asked for an SCID that no sale has.
const SCID_DRAWS: usize = 8;

/// A count of changes (the wallet's, or LDK's of its channels), and the tip: what is reckoned from both holds as long as neither moves.
pub type Version = (u64, BlockHash);

/// A value that is reckoned again only when what it depends on has moved.
#[derive(Debug)]
pub struct Known<K, V>(Mutex<Option<(K, V)>>);

impl<K, V> Default for Known<K, V> {
	fn default() -> Self {
		Known(Mutex::new(None))
	}
}

impl<K: PartialEq, V: Copy> Known<K, V> {
	/// The value as of `now`, which was looked at before: what moves while it is reckoned makes it reckoned again next time.
	fn at(&self, now: K, reckon: impl FnOnce() -> V) -> V {
		let mut known = self.0.lock().expect("not poisoned");
		match &*known {
			Some((at, value)) if *at == now => *value,
			_ => {
				let value = reckon();
				*known = Some((now, value));
				value
			}
		}
	}
}

/// The node, as the driver sees it.
pub struct Hands {
	/// Which network.
	pub network: Network,
	/// LDK's parts.
	pub lightning: Arc<Lightning>,
	/// Channels being opened.
	pub channels: Arc<Channels>,
	/// The on-chain wallet.
	pub wallet: Arc<Wallet>,
	/// Fee estimates.
	pub fees: Arc<Fees>,
	/// The chain's tip as last seen.
	pub tip: watch::Receiver<Tip>,
	/// Where events for the operator go.
	pub events: Arc<Events>,
	/// The driver itself, for what comes back later. Set once, before the engine runs.
	pub driver: OnceLock<Driver>,
	/// [`Hands::coins`] as of the wallet's version and the tip.
	pub coins: Known<Version, Amount>,
	/// What the anchors need with one channel more, as of LDK's count of changes and the tip.
	pub reserve: Known<Version, Amount>,
	/// Channels in use whose funding is in no block, as of LDK's count of changes and the tip.
	pub unconfirmed: Known<Version, Sat>,
	/// The wallet's version and the tip at the last look at the orders' addresses.
	pub looked: Mutex<Option<Version>>,
	/// Orders whose refund is being made.
	pub refunding: UnderWay,
	/// What the books' last look saw.
	pub books: books::Seen,
	/// The block at the last [`Input::Survey`].
	pub surveyed: Mutex<Option<BlockHash>>,
	/// Wakes clients.
	pub notify: Arc<Notifier>,
	/// Room on the disk.
	pub disk: Arc<Disk>,
}

impl Hands {
	fn refunds(&self) -> Refunds {
		Refunds {
			network: self.network,
			wallet: self.wallet.clone(),
			fees: self.fees.clone(),
			driver: self.driver(),
			under_way: self.refunding.clone(),
		}
	}

	fn driver(&self) -> Driver {
		self.driver.get().expect("set before the engine runs").clone()
	}

	/// Channels that share a funding transaction.
	pub fn batcher(&self) -> Batcher {
		let (lightning, channels, driver) = (self.lightning.clone(), self.channels.clone(), self.driver());
		Batcher { lightning, channels, driver }
	}

	fn peer(&self, client: NodeId) -> PeerView {
		let channels = self.lightning.manager.list_channels_with_counterparty(&client);
		PeerView {
			connected: self.lightning.wire.is_connected(&client),
			in_flight: in_flight(&channels),
			text_errors: self.lightning.wire.wants_text_errors(&client),
			growable: growable(&self.lightning, &client, &channels),
			channels: channels
				.into_iter()
				.map(|channel| ChannelView {
					channel_id: channel.channel_id.0,
					user_channel_id: channel.user_channel_id,
					usable: channel.is_usable,
					next_outbound_htlc_limit: Msat(channel.next_outbound_htlc_limit_msat),
					next_outbound_htlc_minimum: Msat(channel.next_outbound_htlc_minimum_msat),
				})
				.collect(),
		}
	}

	/// A look at every client that can be woken, once a block.
	fn survey(&self, book: &Book) -> Option<Input> {
		let tip = self.tip.borrow().hash;
		if self.surveyed.lock().expect("not poisoned").replace(tip) == Some(tip) {
			return None;
		}
		let clients: Vec<Sight> = book.sleepers().map(|client| self.sight(client.id)).collect();
		(!clients.is_empty()).then_some(Input::Survey { clients })
	}

	fn sight(&self, client: NodeId) -> Sight {
		let channels = self.lightning.manager.list_channels_with_counterparty(&client);
		Sight {
			client,
			connected: self.lightning.wire.is_connected(&client),
			has_channel: channels.iter().any(|channel| channel.is_channel_ready),
			closes_at: channels.iter().filter_map(closes_at).min(),
		}
	}

	/// What can fund a channel now, the book's reservations not deducted: confirmed coins, less what the anchors need when
	/// there is one channel more, less what the operator is opening. Coins that a reservation has become are counted until
	/// the book drops the reservation: else they would be deducted twice.
	pub fn spendable(&self, book: &Book) -> Amount {
		let coins = self.coins() + self.channels.spent_reservations(book);
		let kept = self.reserve() + self.channels.claims();
		coins.checked_sub(kept).unwrap_or(Amount::ZERO)
	}

	/// Channels of ours that are in use while their funding is in no block.
	pub(crate) fn unconfirmed(&self) -> Sat {
		let version = (self.lightning.changes(), self.tip.borrow().hash);
		self.unconfirmed.at(version, || {
			let channels = self.lightning.manager.list_channels();
			let young = channels
				.iter()
				.filter(|channel| channel.is_outbound && channel.is_channel_ready && channel.confirmations == Some(0));
			young.fold(Sat::ZERO, |sum, channel| sum.saturating_add(Sat(channel.channel_value_satoshis)))
		})
	}

	/// Height of the best block, and whether that view is current.
	pub(crate) fn seen(&self) -> (u32, bool) {
		let tip = self.tip.borrow();
		(tip.height, tip.synced)
	}

	/// The wallet's version and the tip, now.
	pub(crate) fn version(&self) -> Version {
		let changes = *self.wallet.changed().borrow();
		let tip = self.tip.borrow().hash;
		(changes, tip)
	}

	/// Confirmed coins that nothing holds. BDK reckons this from all transactions: it is asked only after a change.
	fn coins(&self) -> Amount {
		self.coins.at(self.version(), || self.wallet.spendable())
	}

	/// What the anchors need when there is one channel more. LDK reckons this from all channels.
	fn reserve(&self) -> Amount {
		let tip = self.tip.borrow().hash;
		self.reserve.at((self.lightning.changes(), tip), || self.lightning.anchor_reserve().with_one_more())
	}

	/// One that no sale has. LDK draws them, on a young chain from a few thousand.
	fn fresh_scid(&self, book: &Book) -> u64 {
		let draw = || self.lightning.manager.get_intercept_scid();
		let free = |scid: &u64| book.sale_by_scid(*scid).is_none();
		std::iter::repeat_with(draw).take(SCID_DRAWS).find(free).unwrap_or_else(draw)
	}

	fn forward(&self, id: [u8; 32], peer: NodeId, channel: [u8; 32], amount: Msat) -> Vec<Input> {
		let manager = &self.lightning.manager;
		match manager.forward_intercepted_htlc(InterceptId(id), &ChannelId(channel), peer, amount.0) {
			Ok(()) => {
				self.answered(id);
				Vec::new()
			}
			Err(e) => {
				tracing::warn!(target: "inlet::jit", %peer, "LDK did not forward a held HTLC: {e:?}");
				self.fail(id, "it could not be forwarded");
				vec![Input::HtlcGone { intercept_id: id }]
			}
		}
	}

	fn fail(&self, id: [u8; 32], reason: &str) -> Vec<Input> {
		tracing::info!(target: "inlet::jit", "HTLC failed back: {reason}");
		let failed = self.lightning.manager.fail_intercepted_htlc(InterceptId(id));
		// One that LDK does not know any more waits for no answer of ours either.
		self.answered(id);
		match failed {
			Ok(()) => Vec::new(),
			Err(_) => vec![Input::HtlcGone { intercept_id: id }],
		}
	}

	/// LDK has our answer to an HTLC that it handed to us.
	fn answered(&self, id: [u8; 32]) {
		self.lightning.hurry();
		if let Some((client, held)) = self.lightning.intercepts.answer(id, Instant::now()) {
			self.lightning.holds.answered(client, held);
		}
	}

	fn discard(&self, user_channel_id: u128, peer: NodeId, funding: bitcoin::OutPoint) {
		if !self.channels.may_discard(&self.lightning, user_channel_id, peer) {
			return;
		}
		let (driver, channels) = (self.driver(), self.channels.clone());
		tokio::spawn(async move {
			channels.discard(funding.txid).await;
			// When we are stopping, it is asked for again at the next start.
			let _ = driver.submit(Input::FundingDiscarded { user_channel_id }).await;
		});
	}

	fn prepare(&self, order: OrderId, amount: Sat, expiry_secs: u32, invoice: bool, address: bool) {
		let (driver, wallet, lightning) = (self.driver(), self.wallet.clone(), self.lightning.clone());
		tokio::spawn(async move {
			let made = async {
				let invoice = match invoice {
					true => Some(payments::hold_invoice(&lightning, &order, amount, expiry_secs)?),
					false => None,
				};
				let address = match address {
					true => Some(wallet.new_address().await?.to_string()),
					false => None,
				};
				anyhow::Ok((invoice, address))
			};
			let input = match made.await {
				Ok((invoice, address)) => Input::PaymentPrepared { order, invoice, address },
				Err(e) => Input::PrepareFailed { order, reason: format!("{e:#}") },
			};
			// When we are stopping, the order was not answered and is dropped at the next start.
			let _ = driver.submit(input).await;
		});
	}

	fn claim(&self, payment_hash: [u8; 32], book: &Book) {
		let invoice = book
			.order_by_payment_hash(&payment_hash)
			.and_then(|order| order.lightning.as_ref())
			.map(|option| option.invoice.clone());
		let preimage = invoice.and_then(|invoice| payments::preimage(&self.lightning, payment_hash, &invoice));
		match preimage {
			Some(preimage) => {
				self.lightning.manager.claim_funds(preimage);
				self.lightning.hurry();
			}
			None => tracing::error!(target: "inlet::orders", "no preimage for a held payment; it is not claimed"),
		}
	}

	fn try_opening(&self, order: OrderId, open: &OpenChannel) -> Vec<Input> {
		if !self.channels.try_opening(&self.lightning, &order, open) {
			return vec![Input::OpeningTried { order, refusal: None }];
		}
		let (driver, channels, lightning) = (self.driver(), self.channels.clone(), self.lightning.clone());
		let (id, peer) = (open.user_channel_id, open.peer);
		tokio::spawn(async move {
			tokio::time::sleep(trial::PATIENCE).await;
			if let Some(ended) = channels.trials.accepted(id) {
				tracing::debug!(target: "inlet::orders", %peer, "no answer to a trial opening");
				channels.end_trial(&lightning, id, peer);
				// When we are stopping, the order was not answered and is dropped at the next start.
				let _ = driver.submit(Input::OpeningTried { order: ended.order, refusal: None }).await;
			}
		});
		Vec::new()
	}

	/// The end of an order's channel of which only a refused funding is left: told when that is never sent again.
	fn withdraw(&self, user_channel_id: u128, txid: Txid) {
		let (driver, channels) = (self.driver(), self.channels.clone());
		tokio::spawn(async move {
			if channels.withdraw(txid).await {
				channels.closed(user_channel_id).await;
				// When we are stopping, the next start finds neither channel nor funding.
				let _ = driver
					.submit(Input::ChannelClosed { user_channel_id, reason: CLOSED.to_owned(), by_client: false })
					.await;
			}
		});
	}

	/// Orders whose funding the chain backend has taken by now.
	fn funded(&self, book: &Book) -> Vec<Input> {
		let look = |order: &Order| match self.channels.look(&self.lightning, order.user_channel_id, &order.client) {
			Left::Out(inputs) => inputs,
			// Its client has received or spent over it: of that the operator is told, see `Broadcaster::troubles`.
			Left::Refused(_) if order.kept => Vec::new(),
			Left::Refused(txid) => {
				self.withdraw(order.user_channel_id, txid);
				Vec::new()
			}
			Left::Waits | Left::Nothing => Vec::new(),
		};
		let splices = |order: &Order| self.channels.look_at_splice(&self.lightning, order.user_channel_id);
		let (spliced, opened): (Vec<&Order>, Vec<&Order>) =
			book.orders_being_opened().partition(|order| order.splice.is_some());
		opened.into_iter().flat_map(look).chain(spliced.into_iter().flat_map(splices)).collect()
	}
}

/// The height at which LDK closes the channel for an HTLC that the peer does not settle, the soonest.
fn closes_at(channel: &ChannelDetails) -> Option<u32> {
	let sent = channel.pending_outbound_htlcs.iter();
	let sent = sent.map(|htlc| htlc.cltv_expiry.saturating_add(GRACE_BLOCKS));
	let claimed =
		|htlc: &&InboundHTLCDetails| htlc.state == Some(InboundHTLCStateDetails::AwaitingRemoteRevokeToRemoveFulfill);
	let claimed = channel.pending_inbound_htlcs.iter().filter(claimed);
	sent.chain(claimed.map(|htlc| htlc.cltv_expiry.saturating_sub(CLAIM_BLOCKS))).min()
}

/// Payments of which an HTLC is on its way over one of these channels.
fn in_flight(channels: &[ChannelDetails]) -> Vec<[u8; 32]> {
	channels.iter().flat_map(|channel| &channel.pending_outbound_htlcs).map(|htlc| htlc.payment_hash.0).collect()
}

impl Surroundings for Hands {
	fn world(&self, client: Option<NodeId>, book: &Book) -> World {
		// Not held over the rest: looking at the tip twice at once waits for ever when the chain is about to move it.
		let (height, synced) = self.seen();
		World {
			network: self.network,
			height,
			synced,
			disk_low: self.disk.is_low(),
			feerate: self.fees.fresh(),
			market: self.fees.market(),
			spendable: Sat(self.spendable(book).to_sat()),
			unconfirmed: self.unconfirmed(),
			peer: client.map(|client| self.peer(client)).unwrap_or_default(),
			present: book.waiting_clients().filter(|client| self.lightning.wire.is_connected(client)).collect(),
			entropy: self.lightning.keys.get_secure_random_bytes(),
			fresh_scid: self.fresh_scid(book),
		}
	}

	fn perform(&self, action: Action, book: &Book) -> Vec<Input> {
		match action {
			Action::Send { peer, bytes } => {
				self.lightning.wire.send(peer, bytes);
				self.lightning.hurry();
				Vec::new()
			}
			Action::TextErrors { peer } => {
				self.lightning.wire.remember_text_errors(peer);
				Vec::new()
			}
			Action::ForwardHtlc { intercept_id, peer, channel_id, amount } => {
				self.forward(intercept_id, peer, channel_id, amount)
			}
			Action::FailHtlc { intercept_id, reason } => self.fail(intercept_id, &reason),
			Action::OpenChannel(open) => self.channels.open(&self.lightning, open),
			Action::OpenTogether { batch, channels } => self.batcher().open(batch, channels),
			Action::HurryTogether { batch } => self.batcher().hurry(batch),
			Action::BroadcastShared { funding } => {
				self.batcher().broadcast(funding);
				Vec::new()
			}
			Action::DiscardShared { funding } => {
				self.batcher().discard(funding);
				Vec::new()
			}
			Action::SpliceIn(splice) => {
				let others = self.channels.reserved_for_others(book, &[splice.user_channel_id]);
				self.channels.splice_in(&self.lightning, &splice, others)
			}
			Action::AbandonChannel { user_channel_id, peer } => {
				let order = book.order_by_user_channel_id(user_channel_id);
				let pushed = order.map(|order| order.client_balance.to_msat().unwrap_or(Msat::ZERO));
				let void = order.is_some_and(|order| order.is_void(now()));
				self.channels.abandon(&self.lightning, user_channel_id, peer, pushed, void)
			}
			Action::BroadcastFunding { user_channel_id, channel_id, funding } => {
				let inputs = self.channels.broadcast(user_channel_id, channel_id, funding);
				if let Some(sale) = book.sale_by_user_channel_id(user_channel_id) {
					let channels = self.lightning.manager.list_channels_with_counterparty(&sale.client);
					self.channels.open_to_forwards(&self.lightning, &channels);
				}
				inputs
			}
			Action::DiscardFunding { user_channel_id, peer, funding } => {
				self.discard(user_channel_id, peer, funding);
				Vec::new()
			}
			Action::Warn { code, text } => {
				tracing::warn!(target: "inlet::jit", code, "{text}");
				let data = serde_json::json!({ "code": code });
				self.events.publish(SystemTime::now().into(), EventKind::Warning, None, text, data);
				Vec::new()
			}
			Action::PreparePayment { order, amount, expiry_secs, invoice, address } => {
				self.prepare(order, amount, expiry_secs, invoice, address);
				Vec::new()
			}
			Action::ClaimPayment { payment_hash, .. } => {
				self.claim(payment_hash, book);
				Vec::new()
			}
			Action::FailPayment { payment_hash } => {
				self.lightning.manager.fail_htlc_backwards(&PaymentHash(payment_hash));
				self.lightning.hurry();
				Vec::new()
			}
			Action::TryOpening { order, open } => self.try_opening(order, &open),
			Action::Refund { order, from, .. } => {
				self.refunds().send(order, from);
				Vec::new()
			}
			Action::BumpRefund { order, number, address } => {
				self.refunds().bump(order, number, address);
				Vec::new()
			}
			Action::CloseTogether { channel_id, peer, feerate } => {
				self.close_together(channel_id, peer, feerate);
				Vec::new()
			}
			Action::Notify { client, app_name, url, notice } => {
				self.notify.send(client, app_name, url, notice);
				Vec::new()
			}
		}
	}

	fn activity(&self, book: &Book) -> Vec<Input> {
		self.wallet.await_payments(book.awaited_addresses());
		let mut news = self.money(book);
		news.extend(self.funded(book));
		news.extend(self.survey(book));
		let version = self.version();
		if self.looked.lock().expect("not poisoned").replace(version) == Some(version) {
			return news;
		}
		news.extend(self.channels.follow_splices(&self.lightning));
		news.extend(self.refunds().seen(book));
		let watched = book.watched_addresses();
		let addresses: Vec<&str> = watched.iter().map(String::as_str).collect();
		let mut seen = self.wallet.activities(&addresses);
		let differs = |address: &str| {
			let now = seen.get(address).map(Vec::as_slice).unwrap_or_default();
			let known = book.order_by_address(address).and_then(|order| order.onchain.as_ref());
			known.is_none_or(|known| known.received != now)
		};
		let changed: Vec<&str> = addresses.iter().copied().filter(|address| differs(address)).collect();
		let input = |address: &str| {
			let received = seen.remove(address).unwrap_or_default();
			Input::AddressActivity { address: address.to_owned(), received }
		};
		news.extend(changed.into_iter().map(input));
		news
	}

	fn is_stale(&self, input: &Input) -> bool {
		matches!(input, Input::HtlcIntercepted { intercept_id, .. } if self.lightning.intercepts.is_answered(intercept_id))
	}

	fn is_connected(&self, client: &NodeId) -> bool {
		self.lightning.wire.is_connected(client)
	}

	fn written(&self, writes: &[Write], at: Timestamp) {
		for write in writes {
			crate::operator::publish(&self.events, write, at);
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::cell::Cell;

	#[test]
	fn a_known_value_is_reckoned_again_only_when_its_version_moves() {
		let (known, reckoned) = (Known::default(), Cell::new(0));
		let at = |version: (u64, char)| {
			known.at(version, || {
				reckoned.set(reckoned.get() + 1);
				reckoned.get()
			})
		};
		assert_eq!([at((1, 'a')), at((1, 'a')), at((1, 'a'))], [1, 1, 1]);
		assert_eq!([at((2, 'a')), at((2, 'b')), at((2, 'b'))], [2, 3, 3], "a change, and a block");
	}
}
