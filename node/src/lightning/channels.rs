//! Opening channels, ours and others'.

use super::Lightning;
use super::together::Together;
use super::trial::{self, Trials};
use crate::config::{InboundFrom, RoutingConfig};
use crate::crash;
use crate::onchain::Wallet;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, FeeRate, OutPoint, ScriptBuf, Txid};
use inlet_lsp::book::{Book, OrderId};
use inlet_lsp::input::{Input, OpenChannel, Owner};
use inlet_lsp::money::{Msat, Sat};
use inlet_lsp::quote::funding_need;
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::types::ChannelId;
use lightning::sign::EntropySource;
use lightning::types::features::ChannelTypeFeatures;
use lightning::util::config::{ChannelConfigOverrides, ChannelConfigUpdate, UserConfig};
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
	/// What the operator wants for a channel of his own; sales and orders have their reservation in the book.
	claim: Amount,
	/// Does LDK leave the broadcast to us?
	withhold: bool,
}

/// What is left of a channel that LDK has closed, or never had: see [`Channels::left`].
#[derive(Debug)]
pub enum Left {
	/// No funding transaction that was ever sent.
	Nothing,
	/// The chain backend has its funding: what that implies.
	Out(Vec<Input>),
	/// The chain backend refuses its funding, which can still be withdrawn.
	Refused(Txid),
	/// The chain backend has said nothing yet: nothing can be decided.
	Waits,
}

impl Left {
	fn into_inputs(self) -> Vec<Input> {
		match self {
			Left::Out(inputs) => inputs,
			Left::Nothing | Left::Refused(_) | Left::Waits => Vec::new(),
		}
	}
}

/// Why a channel was not funded.
#[derive(Debug, PartialEq, Eq)]
pub struct NotFunded {
	/// For people.
	pub reason: String,
	/// It is no fault of the peer's: trying again may help.
	pub ours: bool,
}

/// What a peer says that accepts a channel of another type.
pub const NO_ANCHORS: &str = "the peer takes no anchor channels";

/// What is asked for a forward over a channel that is not broadcast yet, so that there is none: only what we intercept, and the
/// core decides, goes over it. A payment that anybody sends to its own SCID would have us broadcast it unpaid.
const NO_FORWARDS_BASE_MSAT: u32 = u32::MAX;

/// Why a channel ended of which only its funding is left.
pub const CLOSED: &str = "the channel was closed before its funding was known to be out";

/// A channel that wants its funding transaction.
pub struct Wanted {
	/// Its id for now.
	pub temporary: ChannelId,
	/// With whom.
	pub peer: PublicKey,
	/// Our mark for it.
	pub user_channel_id: u128,
	/// The funding output's script.
	pub script: ScriptBuf,
	/// The funding output's value, in satoshis.
	pub value: u64,
}

/// A channel that somebody wants to open to us.
pub struct Request {
	/// Its id for now.
	pub temporary: ChannelId,
	/// Who.
	pub peer: PublicKey,
	/// Its capacity, in satoshis.
	pub sat: u64,
	/// Is it to be public?
	pub announced: bool,
	/// See [`has_anchors`].
	pub anchors: bool,
}

/// Can a closing transaction of this type of channel get more fee afterwards? Without, its feerate is a matter of constant
/// agreement with the peer, and a disagreement closes it (R8): Inlet has anchor channels only.
pub fn has_anchors(kind: &ChannelTypeFeatures) -> bool {
	kind.supports_anchors_zero_fee_htlc_tx() || kind.supports_anchor_zero_fee_commitments()
}

/// Channels being opened, by `user_channel_id`, and the rules for those that others open to us.
pub struct Channels {
	config: UserConfig,
	routing: RoutingConfig,
	pub(super) wallet: Arc<Wallet>,
	opening: Mutex<HashMap<u128, Opening>>,
	/// Openings that are tried only.
	pub trials: Arc<Trials>,
	/// Openings that share a funding transaction.
	pub(super) together: Together,
}

impl Channels {
	/// Nothing is being opened: LDK forgets unfunded channels at a restart, and so do we.
	pub fn new(config: UserConfig, routing: RoutingConfig, wallet: Arc<Wallet>, trials: Arc<Trials>) -> Self {
		Channels { config, routing, wallet, opening: Mutex::default(), trials, together: Together::default() }
	}

	/// Opens a channel unless one with its `user_channel_id` exists. What fails at once comes back as an input, and so
	/// does a channel that is already usable (a replay).
	pub fn open(&self, lightning: &Lightning, open: OpenChannel) -> Vec<Input> {
		let id = open.user_channel_id;
		let known = lightning.manager.list_channels_with_counterparty(&open.peer);
		let strict = matches!(open.owner, Owner::Order(_));
		if let Some(channel) = known.iter().find(|channel| channel.user_channel_id == id) {
			if open.batch.is_some() && self.is_stray(channel) {
				// What funded it was refused, and withdrawn with another channel.
				give_up(lightning, channel.channel_id, open.peer, "its funding was withdrawn");
				let reason = "its funding, which it shared, was withdrawn".to_owned();
				return vec![Input::OpenFailed { user_channel_id: id, reason, ours: true }];
			}
			return self.progress(channel, strict, open.withhold);
		}
		if strict && let left @ (Left::Out(_) | Left::Refused(_) | Left::Waits) = self.left(id) {
			// Its channel is gone, and its funding may be mined: see `Channels::left`. `Hands::activity` sees to the rest.
			return left.into_inputs();
		}
		if self.opening.lock().expect("not poisoned").contains_key(&id) {
			// LDK has closed it, and the event that says so is on its way: a second one with this mark would be taken for it.
			return Vec::new();
		}
		if open.batch.is_some() {
			if self.together.contains(id) || self.wallet.funding_of(id).is_some() {
				// What is left of it is being settled.
				return Vec::new();
			}
			let reason = "what was begun together with others is over".to_owned();
			return vec![Input::OpenFailed { user_channel_id: id, reason, ours: true }];
		}
		match self.create(lightning, &open) {
			Ok(_) => Vec::new(),
			Err(reason) => vec![Input::OpenFailed { user_channel_id: id, reason, ours: true }],
		}
	}

	/// Is its funding one that nobody will ever broadcast? A funding of several is withdrawn from all of them.
	fn is_stray(&self, channel: &ChannelDetails) -> bool {
		let id = channel.user_channel_id;
		let made = channel.funding_txo.is_some_and(|funding| !self.wallet.is_out(&funding.txid));
		made && !self.together.contains(id) && self.wallet.funding_of(id).is_none()
	}

	/// How far the opening of a channel is: nothing, until its funding transaction is out. LDK knows the transaction's
	/// outpoint before the peer has signed, which means nothing yet. For an order (`strict`) it is out when the chain backend
	/// has taken it: only then is the client's payment claimed (R6). A channel whose funding is withheld is ready without.
	fn progress(&self, channel: &ChannelDetails, strict: bool, withhold: bool) -> Vec<Input> {
		let (user_channel_id, channel_id) = (channel.user_channel_id, channel.channel_id.0);
		let Some(funding) = channel.funding_txo.map(|funding| funding.into_bitcoin_outpoint()) else {
			return Vec::new();
		};
		let is_out = if strict { self.wallet.take(&funding.txid) } else { self.wallet.is_out(&funding.txid) };
		let mut inputs = if is_out {
			self.funded(user_channel_id);
			let (fee, shared) = self.wallet.share_of(funding.txid, user_channel_id);
			vec![Input::Funded { user_channel_id, channel_id, funding, fee, shared }]
		} else if withhold && channel.is_channel_ready {
			vec![Input::FundingWithheld { user_channel_id, channel_id, funding }]
		} else {
			return Vec::new();
		};
		if channel.is_channel_ready {
			inputs.push(Input::ChannelReady { user_channel_id, channel_id });
		}
		inputs
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
		let config = self.config_for(open);
		let channel_id = lightning
			.manager
			.create_channel(open.peer, open.capacity.0, open.push.0, open.user_channel_id, None, Some(config))
			.map_err(|e| format!("LDK refused to open a channel: {e:?}"))?;
		lightning.channels_changed();
		let feerate = FeeRate::from_sat_per_kwu(u64::from(open.feerate.0));
		let claim = match open.owner {
			Owner::Operator => Amount::from_sat(funding_need(open.feerate, open.capacity).0),
			Owner::Sale(_) | Owner::Order(_) => Amount::ZERO,
		};
		opening.insert(open.user_channel_id, Opening { feerate, funded: None, claim, withhold: open.withhold });
		drop(opening);
		let owner = match &open.owner {
			Owner::Sale(id) | Owner::Order(id) => id.as_str(),
			Owner::Operator => "the operator",
		};
		tracing::info!(target: "inlet::channels", peer = %open.peer, capacity_sat = open.capacity.0, "opening a channel for {owner}");
		lightning.flush();
		Ok(channel_id.to_string())
	}

	fn config_for(&self, open: &OpenChannel) -> UserConfig {
		let mut config = self.config.clone();
		let handshake = &mut config.channel_handshake_config;
		handshake.announce_for_forwarding = open.announce;
		handshake.negotiate_scid_privacy = !open.announce;
		handshake.our_to_self_delay = open.max_to_self_delay.map_or(TO_SELF_DELAY, |most| most.min(TO_SELF_DELAY));
		config.channel_handshake_limits.trust_own_funding_0conf = open.confirmations == 0;
		if open.withhold {
			config.channel_config.forwarding_fee_base_msat = NO_FORWARDS_BASE_MSAT;
		}
		config
	}

	/// Channels whose funding is no longer withheld carry payments of everybody, at the usual fee. LDK may forget that in a
	/// crash: it is looked at again at the start.
	pub fn open_to_forwards(&self, lightning: &Lightning, channels: &[ChannelDetails]) {
		let is_closed = |channel: &&ChannelDetails| {
			let base = channel.config.map(|config| config.forwarding_fee_base_msat);
			let is_withheld = channel.funding_txo.is_none_or(|funding| self.wallet.is_withheld(&funding.txid));
			base == Some(NO_FORWARDS_BASE_MSAT) && !is_withheld
		};
		for channel in channels.iter().filter(is_closed) {
			let update = ChannelConfigUpdate {
				forwarding_fee_base_msat: Some(self.routing.base_fee_msat),
				..Default::default()
			};
			let (peer, id) = (channel.counterparty.node_id, channel.channel_id);
			if let Err(e) = lightning.manager.update_partial_channel_config(&peer, &[id], &update) {
				tracing::warn!(target: "inlet::channels", %peer, channel = %id, "no usual fee for a channel: {e:?}");
			}
		}
	}

	/// Begins to open a channel only to see whether the client takes it. False if the client was not asked: payment is
	/// offered then as if it had accepted.
	pub fn try_opening(&self, lightning: &Lightning, order: &OrderId, open: &OpenChannel) -> bool {
		let able = lightning.features_of(&open.peer).is_some_and(|features| trial::can_take(&features, open));
		if !able || !self.trials.begin(order, open) {
			return false;
		}
		let config = Some(self.config_for(open));
		let (id, capacity, push) = (open.user_channel_id, open.capacity.0, open.push.0);
		if let Err(e) = lightning.manager.create_channel(open.peer, capacity, push, id, None, config) {
			tracing::debug!(target: "inlet::orders", peer = %open.peer, "no trial opening: {e:?}");
			self.trials.forget(id);
			return false;
		}
		lightning.flush();
		true
	}

	/// Drops the channel of a trial. LDK's `ChannelClosed` follows.
	pub fn end_trial(&self, lightning: &Lightning, id: u128, peer: PublicKey) {
		let channels = lightning.manager.list_channels_with_counterparty(&peer);
		for channel in channels.iter().filter(|channel| channel.user_channel_id == id) {
			let (manager, message) = (&lightning.manager, trial::GOODBYE.to_owned());
			let _gone_already = manager.force_close_broadcasting_latest_txn(&channel.channel_id, &peer, message);
		}
		lightning.flush();
	}

	/// How it stands with the funding of an order's channel that LDK does not have, or does not have any more: the client broke
	/// it off when the funding was on its way to the miners, or we crashed before LDK's record of the channel was durable. What
	/// is mined pays the client its balance, by the commitment transaction that LDK's monitor has: then the order is delivered,
	/// and what was paid for it is not given back.
	pub fn left(&self, id: u128) -> Left {
		let Some(funding) = self.wallet.funding_of(id) else { return Left::Nothing };
		if !self.wallet.is_out(&funding.txid) {
			return Left::Nothing;
		}
		if self.wallet.take(&funding.txid) {
			self.funded(id);
			let channel_id = v1_channel_id(funding);
			let (fee, shared) = self.wallet.share_of(funding.txid, id);
			return Left::Out(vec![
				Input::Funded { user_channel_id: id, channel_id, funding, fee, shared },
				Input::ChannelClosed { user_channel_id: id, reason: CLOSED.to_owned(), by_client: false },
			]);
		}
		match self.wallet.is_refused(&funding.txid) {
			true => Left::Refused(funding.txid),
			false => Left::Waits,
		}
	}

	/// Stops sending a refused funding. False if it is too late for that: see [`Wallet::withdraw`].
	pub async fn withdraw(&self, txid: Txid) -> bool {
		self.wallet.withdraw(txid).await
	}

	/// The inputs that a channel's funding implies now that the chain backend may have taken it; none while it has not.
	pub fn look(&self, lightning: &Lightning, id: u128, peer: &PublicKey) -> Left {
		let channels = lightning.manager.list_channels_with_counterparty(peer);
		match channels.iter().find(|channel| channel.user_channel_id == id) {
			Some(channel) => Left::Out(self.progress(channel, true, false)),
			None => self.left(id),
		}
	}

	/// What the book still reserves for channels whose funding transaction is made: those coins are spent already.
	pub fn spent_reservations(&self, book: &Book) -> Amount {
		let opening = self.opening.lock().expect("not poisoned");
		// One that shared its funding may have lost it with another channel.
		let is_made = |opening: &Opening| opening.funded.is_some_and(|txid| self.wallet.has_funding(&txid));
		let made = opening.iter().filter(|(_, opening)| is_made(opening)).map(|(id, _)| *id);
		let spliced = self.wallet.splice_marks().into_iter();
		made.chain(spliced).map(|id| reservation(book, id)).sum()
	}

	/// What the operator's own openings will take.
	pub fn claims(&self) -> Amount {
		let opening = self.opening.lock().expect("not poisoned");
		opening.values().filter(|opening| opening.funded.is_none()).map(|opening| opening.claim).sum()
	}

	/// What must stay in the wallet when the channels `own` are funded: what is reserved or claimed for all others.
	pub fn reserved_for_others(&self, book: &Book, own: &[u128]) -> Amount {
		let claim = |id: &u128| self.opening.lock().expect("not poisoned").get(id).map(|opening| opening.claim);
		let all = Amount::from_sat(book.reserved().0) + self.claims();
		let claims: Amount = own.iter().filter_map(claim).sum();
		let gone = self.spent_reservations(book) + claims + own.iter().map(|id| reservation(book, *id)).sum::<Amount>();
		all.checked_sub(gone).unwrap_or(Amount::ZERO)
	}

	/// This transaction is made for these channels.
	pub(super) fn made_for(&self, ids: &[u128], funding: Txid) {
		let mut all = self.opening.lock().expect("not poisoned");
		for id in ids {
			if let Some(opening) = all.get_mut(id) {
				opening.funded = Some(funding);
			}
		}
	}

	/// LDK wants the funding transaction: builds it from confirmed coins; the anchor reserve and `others` stay in the wallet.
	///
	/// # Errors
	/// Why not, and whose fault it is. LDK's `ChannelClosed` follows, which does not say that.
	pub async fn fund(&self, lightning: &Lightning, wanted: Wanted, others: Amount) -> Result<(), NotFunded> {
		let Wanted { temporary, peer, user_channel_id: id, script, value } = wanted;
		let asked = self.opening.lock().expect("not poisoned").get(&id).map(|open| (open.feerate, open.withhold));
		let Some((feerate, withhold)) = asked else {
			// Abandoned, or not opened by this run: nobody waits for it.
			give_up(lightning, temporary, peer, "it is not wanted any more");
			return Ok(());
		};
		if !self.is_accepted_with_anchors(lightning, id, &peer) {
			give_up(lightning, temporary, peer, "it would have no anchors");
			return Err(NotFunded { reason: NO_ANCHORS.to_owned(), ours: false });
		}
		let keep = lightning.anchor_reserve().and(others);
		let funded = match self.wallet.fund_for(Some(id), script, Amount::from_sat(value), feerate, keep).await {
			Ok(funded) => funded,
			Err(e) => {
				tracing::warn!(target: "inlet::channels", %peer, "no funding for a channel of {value} sat: {e}");
				give_up(lightning, temporary, peer, "the funding transaction could not be made");
				return Err(NotFunded { reason: e.to_string(), ours: true });
			}
		};
		let txid = funded.tx.compute_txid();
		if let Some(opening) = self.opening.lock().expect("not poisoned").get_mut(&id) {
			opening.funded = Some(txid);
		}
		// The wallet has a durable copy: LDK does not keep one when the broadcast is ours.
		let taken = match withhold {
			true => lightning.manager.funding_transaction_generated_manual_broadcast(temporary, peer, funded.tx),
			false => lightning.manager.funding_transaction_generated(temporary, peer, funded.tx),
		};
		if let Err(e) = taken {
			tracing::warn!(target: "inlet::channels", %peer, "LDK did not take the funding transaction: {e:?}");
			self.wallet.release(txid).await;
			give_up(lightning, temporary, peer, "the funding transaction was not taken");
			return Err(NotFunded { reason: format!("{e:?}"), ours: true });
		}
		Ok(())
	}

	/// Has this peer accepted the channel as we have it, with anchors? LDK takes a simpler type when the peer wants no other.
	pub fn is_accepted_with_anchors(&self, lightning: &Lightning, id: u128, peer: &PublicKey) -> bool {
		let known = lightning.manager.list_channels_with_counterparty(peer);
		let found = known.iter().find(|channel| channel.user_channel_id == id);
		found.and_then(|channel| channel.channel_type.as_ref()).is_some_and(has_anchors)
	}

	/// Gives up a channel unless its funding is out. The answer is always an input: that it is out, that there is no such
	/// channel, or (from LDK, later) that it is closed; none yet while the chain backend has given no verdict on the funding, or
	/// while the client has used a channel whose funding is refused. `pushed` is given for an order: what the client got. If the
	/// order is `void`, its funding is held back until the backend says whether it has it.
	pub fn abandon(
		&self,
		lightning: &Arc<Lightning>,
		id: u128,
		peer: PublicKey,
		pushed: Option<Msat>,
		void: bool,
	) -> Vec<Input> {
		if let Some(inputs) = self.abandon_splice(lightning, id, void) {
			return inputs;
		}
		let strict = pushed.is_some();
		let channels = lightning.manager.list_channels_with_counterparty(&peer);
		let Some(channel) = channels.iter().find(|channel| channel.user_channel_id == id) else {
			match self.left(id) {
				Left::Out(inputs) if strict => return inputs,
				Left::Refused(_) | Left::Waits if strict => {
					if let Some(funding) = self.wallet.funding_of(id).filter(|_| void) {
						self.wallet.hold_back(&funding.txid, true);
					}
					return Vec::new();
				}
				_ => {}
			}
			self.forget(id);
			let reason = "there is no such channel any more".to_owned();
			return vec![Input::OpenFailed { user_channel_id: id, reason, ours: false }];
		};
		let out = self.progress(channel, strict, false);
		let funding = channel.funding_txo.map(|funding| funding.txid).filter(|txid| self.wallet.is_out(txid));
		if let Some(txid) = funding.filter(|_| void) {
			// What the client has used is wanted whatever happens.
			self.wallet.hold_back(&txid, !is_used(channel, pushed.unwrap_or(Msat::ZERO)));
		}
		match funding {
			_ if !out.is_empty() => {}
			None => give_up(lightning, channel.channel_id, peer, "it took too long"),
			// It may be in a mempool or not: the backend's verdict decides, and the core asks again.
			Some(txid) if !self.wallet.is_refused(&txid) => {}
			// The order stays open and the funding is sent on and on, of which the operator is told: see `Broadcaster::troubles`.
			Some(_) if is_used(channel, pushed.unwrap_or(Msat::ZERO)) => {}
			Some(txid) => self.give_up_refused(lightning.clone(), channel.channel_id, peer, txid),
		}
		out
	}

	/// LDK closes the channel, and so what was paid is given back, when it is durable that the funding is not sent again.
	fn give_up_refused(&self, lightning: Arc<Lightning>, channel: ChannelId, peer: PublicKey, txid: Txid) {
		let wallet = self.wallet.clone();
		tokio::spawn(async move {
			if wallet.withdraw(txid).await {
				tracing::warn!(target: "inlet::channels", %peer, %txid, "nobody takes the funding: the channel is given up");
				give_up(&lightning, channel, peer, "its funding was refused");
			}
		});
	}

	/// Broadcasts a withheld funding transaction, or says again that it is out. Nothing comes back if there is none.
	pub fn broadcast(&self, user_channel_id: u128, channel_id: [u8; 32], funding: OutPoint) -> Vec<Input> {
		crash::reached("funding.release.decided");
		if !self.wallet.broadcast_funding(&funding.txid) {
			tracing::error!(target: "inlet::channels", %funding, "a funding transaction that is due cannot be broadcast");
			return Vec::new();
		}
		tracing::info!(target: "inlet::channels", %funding, "the payment is taken: the funding transaction goes out");
		crash::reached("funding.release.done");
		vec![Input::Funded { user_channel_id, channel_id, funding, fee: self.fee(funding.txid), shared: false }]
	}

	/// May the coins of a withheld funding transaction be freed? Not while LDK has the channel, which is closed then.
	pub fn may_discard(&self, lightning: &Lightning, id: u128, peer: PublicKey) -> bool {
		let channels = lightning.manager.list_channels_with_counterparty(&peer);
		let Some(channel) = channels.iter().find(|channel| channel.user_channel_id == id) else { return true };
		give_up(lightning, channel.channel_id, peer, "it was not paid for");
		false
	}

	/// Is this funding transaction made and not broadcast?
	pub fn is_withheld(&self, txid: &Txid) -> bool {
		self.wallet.is_withheld(txid)
	}

	/// Was this funding transaction handed over for broadcast?
	pub fn is_out(&self, txid: &Txid) -> bool {
		self.wallet.is_out(txid)
	}

	/// What the miner gets for a channel's funding transaction, if it is ours.
	pub fn fee(&self, funding: Txid) -> Option<Sat> {
		self.wallet.fee_of(funding).map(|fee| Sat(fee.to_sat()))
	}

	/// The channel's funding is out, and that is on record.
	pub fn funded(&self, id: u128) {
		self.opening.lock().expect("not poisoned").remove(&id);
	}

	/// A funding transaction that will never be broadcast frees its coins. One of several channels is not ended by one of them
	/// here: see [`Batcher`](super::batch::Batcher).
	pub async fn discard(&self, txid: Txid) {
		if !self.wallet.is_shared(&txid) {
			self.wallet.release(txid).await;
		}
	}

	/// The channel is closed; a funding transaction that was never broadcast frees its coins.
	pub async fn closed(&self, id: u128) {
		if let Some(txid) = self.end_opening(id) {
			self.discard(txid).await;
		}
	}

	/// [`Channels::closed`], from where nothing can be awaited.
	fn forget(&self, id: u128) {
		if let Some(txid) = self.end_opening(id).filter(|txid| !self.wallet.is_shared(txid)) {
			let wallet = self.wallet.clone();
			tokio::spawn(async move { wallet.release(txid).await });
		}
	}

	/// It is not being opened any more. Gives the funding transaction that was made for it, if one was.
	fn end_opening(&self, id: u128) -> Option<Txid> {
		self.opening.lock().expect("not poisoned").remove(&id)?.funded
	}

	/// Somebody wants to open a channel to us: the answer is the operator's policy.
	pub fn answer(&self, lightning: &Lightning, request: Request) {
		let Request { temporary, peer, sat, announced, anchors } = request;
		let verdict = match anchors {
			true => self.judge(lightning, peer, sat),
			false => Err("This node takes anchor channels only".to_owned()),
		};
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
		lightning.channels_changed();
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
		// The new one is not among them yet.
		if in_all >= policy.inbound_max_channels {
			return Err("This node has all the inbound channels that it takes".to_owned());
		}
		if of_peer >= policy.inbound_max_per_peer {
			return Err(format!("This node takes {} channels of one peer", policy.inbound_max_per_peer));
		}
		Ok(())
	}
}

pub(super) fn give_up(lightning: &Lightning, channel: ChannelId, peer: PublicKey, why: &str) {
	// LDK answers with `ChannelClosed`, which the driver gets as usual.
	let message = format!("The channel is not opened: {why}");
	if let Err(e) = lightning.manager.force_close_broadcasting_latest_txn(&channel, &peer, message) {
		tracing::debug!(target: "inlet::channels", %peer, "nothing to give up: {e:?}");
	}
}

/// As LDK names a channel whose funding we make alone.
pub(crate) fn v1_channel_id(funding: OutPoint) -> [u8; 32] {
	let index = u16::try_from(funding.vout).expect("LDK takes no funding with more outputs");
	ChannelId::v1_from_funding_txid(funding.txid.as_ref(), index).0
}

/// May the client have used the channel: spent what was pushed to it, before the funding was mined? Then the funding is not
/// withdrawn: that money has left over our other channels, and would be given back to the buyer besides. An HTLC that is on its
/// way counts. A client that orders at zero confirmations is to use its balance at once, which is why we do not wait for the
/// first block instead.
fn is_used(channel: &ChannelDetails, pushed: Msat) -> bool {
	let (capacity, reserve) =
		(Sat(channel.channel_value_satoshis), Sat(channel.unspendable_punishment_reserve.unwrap_or(0)));
	let pending = !channel.pending_inbound_htlcs.is_empty() || !channel.pending_outbound_htlcs.is_empty();
	pending || has_spent(capacity, pushed, reserve, Msat(channel.outbound_capacity_msat))
}

/// Do we have more in the channel than at first? What LDK says that we can send is without the reserve that the peer asks of us,
/// so that no more than this can be missed.
fn has_spent(capacity: Sat, pushed: Msat, reserve: Sat, outbound: Msat) -> bool {
	let msat = |sat: Sat| sat.0.saturating_mul(1000);
	outbound.0 > msat(capacity).saturating_sub(pushed.0).saturating_sub(msat(reserve))
}

/// What the book reserves for the sale or order that this channel is for.
fn reservation(book: &Book, user_channel_id: u128) -> Amount {
	let sale = book.sale_by_user_channel_id(user_channel_id).map(|sale| sale.reserved);
	let order = || book.order_by_user_channel_id(user_channel_id).map(|order| order.reserved);
	Amount::from_sat(sale.or_else(order).map_or(0, |reserved| reserved.0))
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn r6_a_client_that_has_spent_its_balance_is_told_by_what_we_have() {
		let spent =
			|outbound_sat: u64| has_spent(Sat(220_000), Msat(20_000_000), Sat(2_200), Msat(outbound_sat * 1000));
		assert!(!spent(197_800), "as it was opened");
		assert!(!spent(150_000), "the client received, and spent none of what was pushed");
		assert!(spent(197_801) && spent(217_800), "a satoshi, and all of it");
		let small = |outbound| has_spent(Sat(100_000), Msat(99_500_000), Sat(1_000), Msat(outbound));
		assert!(!small(0) && small(1), "our part is below the reserve");
	}

	#[test]
	fn r12_ldk_names_a_channel_by_its_funding() {
		let txid = bitcoin::hashes::Hash::from_byte_array([7; 32]);
		let outpoint = lightning::chain::transaction::OutPoint { txid, index: 0x0102 };
		let named = v1_channel_id(OutPoint { txid, vout: 0x0102 });
		assert_eq!(named, ChannelId::v1_from_funding_outpoint(outpoint).0);
	}

	#[test]
	fn r8_only_channels_with_anchors_will_do() {
		assert!(has_anchors(&ChannelTypeFeatures::anchors_zero_htlc_fee_and_dependencies()));
		assert!(!has_anchors(&ChannelTypeFeatures::only_static_remote_key()));
		assert!(!has_anchors(&ChannelTypeFeatures::empty()));
	}
}
