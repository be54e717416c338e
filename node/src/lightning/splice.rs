//! Channels that are made larger with coins of ours (lsp/docs/decisions/0004): begun, signed, followed to the chain, or given up.
//!
//! LDK says what a splice has come to ([`ChannelDetails::splice_details`]), and the wallet what coins are in it; both survive a
//! crash. The wallet's row is written before LDK hears of the coins; our signatures, and LDK's state behind them, are durable
//! before LDK gets them.

use super::Lightning;
use super::channels::{Channels, has_anchors};
use crate::crash;
use crate::onchain::{SpliceTerms, Spliced};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, FeeRate, OutPoint, Psbt, Transaction, TxOut, Txid};
use inlet_lsp::input::{Growable, Input, SpliceIn};
use inlet_lsp::money::{Msat, Sat};
use lightning::chain::ClaimId;
use lightning::chain::channelmonitor::Balance;
use lightning::ln::channel_state::{ChannelDetails, ChannelShutdownState, SpliceCandidateStatus};
use lightning::ln::types::ChannelId;
use lightning::types::features::InitFeatures;
use lightning::util::wallet_utils::{CoinSelection, CoinSelectionSourceSync, Input as MustSpend};

/// A splice counts when it has as many confirmations as the channel's funding needed; then LDK forgets the funding before it, and
/// how to punish what was revoked on it. With fewer than this, a common reorganisation would do for the peer to undo that.
const MIN_DEPTH: u32 = 3;

/// What is left of a splice.
#[derive(Debug, PartialEq, Eq)]
enum Left {
	/// Its new funding is in the chain.
	Mined,
	/// LDK is at it, or waits for a block.
	Waits,
	/// It will never be.
	Nothing,
}

/// Those of a peer's channels that can be made larger now, and safely.
pub fn growable(lightning: &Lightning, peer: &PublicKey, channels: &[ChannelDetails]) -> Vec<Growable> {
	let fit: Vec<Growable> = channels.iter().filter_map(fit).collect();
	// Nearly always there are none, and the peer need not be looked up.
	let able = |features: InitFeatures| features.supports_splicing() && features.supports_quiescence();
	if fit.is_empty() || !lightning.features_of(peer).is_some_and(able) { Vec::new() } else { fit }
}

fn fit(channel: &ChannelDetails) -> Option<Growable> {
	let depth = channel.confirmations_required?;
	let is_deep = depth >= MIN_DEPTH && channel.confirmations? >= depth;
	let is_open = matches!(channel.channel_shutdown_state, None | Some(ChannelShutdownState::NotShuttingDown));
	let anchors = channel.channel_type.as_ref().is_some_and(has_anchors);
	let free = channel.is_usable && is_open && channel.splice_details.is_none();
	(is_deep && anchors && free).then_some(Growable {
		channel_id: channel.channel_id.0,
		user_channel_id: channel.user_channel_id,
		capacity: Sat(channel.channel_value_satoshis),
		in_flight: Msat(channel.counterparty.outbound_htlc_maximum_msat.unwrap_or(0)),
		public: channel.is_announced,
	})
}

/// Coins that the wallet has picked already.
struct Picked(CoinSelection);

impl CoinSelectionSourceSync for Picked {
	fn select_confirmed_utxos(
		&self,
		_: Option<ClaimId>,
		_: Vec<MustSpend>,
		_: &[TxOut],
		_: u32,
		_: u64,
	) -> Result<CoinSelection, ()> {
		Ok(self.0.clone())
	}

	fn sign_psbt(&self, _: Psbt) -> Result<Transaction, ()> {
		Err(())
	}
}

impl Channels {
	/// Begins a splice, unless it was begun before. `others` stays in the wallet, with the anchor reserve.
	pub fn splice_in(&self, lightning: &Lightning, splice: &SpliceIn, others: Amount) -> Vec<Input> {
		let mark = splice.user_channel_id;
		if self.wallet.splice(mark).is_some() {
			return self.look_at_splice(lightning, mark);
		}
		match self.begin_splice(lightning, splice, others) {
			Ok(()) => Vec::new(),
			Err(reason) => vec![Input::OpenFailed { user_channel_id: mark, reason, ours: true }],
		}
	}

	fn begin_splice(&self, lightning: &Lightning, splice: &SpliceIn, others: Amount) -> Result<(), String> {
		let (mark, peer, id) = (splice.user_channel_id, splice.peer, ChannelId(splice.channel_id));
		let template = lightning.manager.splice_channel(&id, &peer).map_err(|e| format!("LDK refused: {e:?}"))?;
		let feerate = FeeRate::from_sat_per_kwu(u64::from(splice.feerate.0));
		let amount = Amount::from_sat(splice.amount.0);
		let terms = SpliceTerms { mark, peer, channel_id: splice.channel_id };
		let keep = lightning.anchor_reserve().and(others);
		let picked = self.wallet.hold_for_splice(terms, amount, feerate, keep).map_err(|e| e.to_string())?;
		let free = |reason: String| {
			self.wallet.free_splice(mark);
			reason
		};
		let contribution = template
			.without_prior_contribution(feerate, feerate)
			.with_coin_selection_source_sync(Picked(picked))
			.add_value(amount)
			.and_then(|builder| builder.build())
			.map_err(|e| free(e.to_string()))?;
		let (added, fee) = (contribution.value_added(), contribution.estimated_fee());
		if added < amount {
			return Err(free(format!("LDK reckons that it adds {added} only")));
		}
		self.wallet.keep_splice(mark, added, fee);
		let begun = lightning.manager.funding_contributed(&id, &peer, contribution, None);
		begun.map_err(|e| free(format!("LDK refused: {e:?}")))?;
		tracing::info!(target: "inlet::channels", %peer, channel = %id, added_sat = added.to_sat(), "a channel is being made larger");
		lightning.channels_changed();
		lightning.flush();
		crash::reached("splice.begun.done");
		Ok(())
	}

	/// LDK has the transaction of a splice, and wants our signatures: on what was agreed, or it is given up.
	pub async fn sign_splice(&self, lightning: &Lightning, id: ChannelId, peer: PublicKey, unsigned: Transaction) {
		let signed = match self.splice_to_sign(lightning, id, &unsigned) {
			Ok((mark, shared, vout)) => {
				crash::reached("splice.sign.decided");
				// LDK sends its commitment signature with ours. If it had forgotten the splice after that, the peer would close.
				lightning.kept.queued().await;
				self.wallet.sign_splice(mark, unsigned, shared, vout).await.map_err(|e| e.to_string())
			}
			Err(e) => Err(e),
		};
		crash::reached("splice.sign.written");
		let taken = signed.and_then(|tx| {
			let taken = lightning.manager.funding_transaction_signed(&id, &peer, tx);
			taken.map_err(|e| format!("LDK does not take it: {e:?}"))
		});
		if let Err(reason) = taken {
			tracing::warn!(target: "inlet::channels", %peer, channel = %id, "a splice is not signed: {reason}");
			// Its end is told by LDK's events.
			let _not_pending = lightning.manager.cancel_funding_contributed(&id, &peer);
		}
		lightning.flush();
		crash::reached("splice.sign.done");
	}

	fn splice_to_sign(
		&self,
		lightning: &Lightning,
		id: ChannelId,
		unsigned: &Transaction,
	) -> Result<(u128, (OutPoint, TxOut), u32), String> {
		let spends = |row: &Spliced| {
			let has = |coin: &OutPoint| unsigned.input.iter().any(|input| input.previous_output == *coin);
			row.channel_id == id.0 && row.inputs.iter().all(has)
		};
		let row = self.wallet.splices().into_iter().find(spends).ok_or("no coins are held for it")?;
		let channels = lightning.manager.list_channels_with_counterparty(&row.peer);
		let channel = channels.iter().find(|channel| channel.channel_id == id).ok_or("there is no such channel")?;
		let funding = channel.funding_txo.ok_or("the channel has no funding")?.into_bitcoin_outpoint();
		let monitor = lightning.monitor.get_monitor(id).map_err(|()| "the channel has no monitor")?;
		let (value, script_pubkey) = (Amount::from_sat(channel.channel_value_satoshis), monitor.get_funding_script());
		let txid = unsigned.compute_txid();
		let candidates = channel.splice_details.iter().flat_map(|details| &details.candidates);
		let capacity = candidates.into_iter().find_map(|candidate| match &candidate.status {
			SpliceCandidateStatus::AwaitingSignatures { txid: of, new_channel_value_satoshis, .. } if *of == txid => {
				Some(Amount::from_sat(*new_channel_value_satoshis))
			}
			_ => None,
		});
		let capacity = capacity.ok_or("LDK does not say what the channel's size will be")?;
		let is_new = |output: &TxOut| output.value == capacity && output.script_pubkey.is_p2wsh();
		let vout = unsigned.output.iter().position(is_new).and_then(|vout| u32::try_from(vout).ok());
		let vout = vout.ok_or("the channel's new output is not in it")?;
		Ok((row.mark, (funding, TxOut { value, script_pubkey }), vout))
	}

	/// What a splice has come to.
	fn left_of_splice(&self, lightning: &Lightning, row: &Spliced) -> Left {
		if self.wallet.is_splice_confirmed(row) {
			return Left::Mined;
		}
		let Some(channel) = channel_of(lightning, row) else {
			// Its signatures may be out: what closed the channel is deep in the chain first.
			let never = row.tx.is_none() || self.wallet.is_splice_impossible(row);
			return if never { Left::Nothing } else { Left::Waits };
		};
		let is_funding =
			row.funding().is_some_and(|funding| channel.funding_txo.is_some_and(|own| own.txid == funding.txid));
		let candidates = channel.splice_details.iter().flat_map(|details| &details.candidates);
		let inputs = candidates.filter_map(|candidate| candidate.contribution.as_ref());
		let mut inputs = inputs.flat_map(|contribution| contribution.inputs());
		let is_at_it = inputs.any(|input| row.inputs.contains(&input.outpoint()));
		if is_funding || is_at_it { Left::Waits } else { Left::Nothing }
	}

	/// The splice that this transaction is.
	pub fn spliced_by(&self, txid: &Txid) -> Option<Spliced> {
		self.wallet.splice_of(txid)
	}

	/// The inputs that a splice implies now.
	pub fn look_at_splice(&self, lightning: &Lightning, mark: u128) -> Vec<Input> {
		let Some(row) = self.wallet.splice(mark).filter(|row| self.wallet.is_splice_confirmed(row)) else {
			return Vec::new();
		};
		let Some(funding) = row.funding() else { return Vec::new() };
		let (user_channel_id, channel_id, fee) = (mark, row.channel_id, Some(Sat(row.fee.to_sat())));
		let mut inputs = vec![Input::Funded { user_channel_id, channel_id, funding, fee, shared: false }];
		if channel_of(lightning, &row).is_none() {
			let reason = "the channel was closed while it was being made larger".to_owned();
			inputs.push(Input::ChannelClosed { user_channel_id, reason, by_client: false });
		}
		inputs
	}

	/// Splices of this channel that will never be: their coins are free, and the core is told.
	pub fn end_splices(&self, lightning: &Lightning, channel: ChannelId, reason: &str) -> Vec<Input> {
		let of_channel = self.wallet.splices().into_iter().filter(|row| row.channel_id == channel.0);
		of_channel.filter_map(|row| self.end_splice(lightning, &row, reason)).collect()
	}

	/// Frees the coins of a splice if it will never be.
	fn end_splice(&self, lightning: &Lightning, row: &Spliced, reason: &str) -> Option<Input> {
		let is_over = self.left_of_splice(lightning, row) == Left::Nothing;
		is_over.then(|| {
			self.wallet.free_splice(row.mark);
			Input::OpenFailed { user_channel_id: row.mark, reason: reason.to_owned(), ours: true }
		})
	}

	/// Splices whose channel was closed meanwhile, after a block: one that was undone is over, and of one that was mined all the
	/// same our part is claimed.
	pub fn follow_splices(&self, lightning: &Lightning) -> Vec<Input> {
		let closed = self.wallet.splices().into_iter().filter(|row| channel_of(lightning, row).is_none());
		let follow = |row: Spliced| {
			if self.wallet.is_splice_confirmed(&row) {
				claim_alone(lightning, &row);
			}
			self.end_splice(lightning, &row, "the channel was closed without it")
		};
		closed.filter_map(follow).collect()
	}

	/// LDK knows which output of a splice is the channel's.
	pub fn splice_negotiated(&self, funding: OutPoint) {
		self.wallet.correct_splice(funding);
	}

	/// Gives up a splice that is not signed. `None` if there is none with this mark. If it is `overdue` and the peer still keeps
	/// its signatures to itself, the channel is closed: else our coins would be held for as long as it likes.
	pub fn abandon_splice(&self, lightning: &Lightning, mark: u128, overdue: bool) -> Option<Vec<Input>> {
		let row = self.wallet.splice(mark)?;
		let id = ChannelId(row.channel_id);
		match row.funding() {
			None => {
				// Its end is told by LDK's events; unless LDK does not know of it (any more).
				let _not_pending = lightning.manager.cancel_funding_contributed(&id, &row.peer);
			}
			Some(funding) if overdue && !self.wallet.is_out(&funding.txid) => {
				tracing::warn!(target: "inlet::channels", peer = %row.peer, channel = %id, "its peer does not sign a splice: the channel is closed");
				let why = "the splice was never signed".to_owned();
				let _closed_already = lightning.manager.force_close_broadcasting_latest_txn(&id, &row.peer, why);
			}
			Some(_) => {}
		}
		lightning.flush();
		let mined = self.look_at_splice(lightning, mark);
		Some(mined.into_iter().chain(self.end_splice(lightning, &row, "it was given up")).collect())
	}

	/// At the start: what LDK does not know of is free.
	pub fn release_unused_splices(&self, lightning: &Lightning) {
		for row in self.wallet.splices() {
			// Whoever waits for it asks again.
			let _told_again = self.end_splice(lightning, &row, "LDK does not know of it");
		}
	}
}

/// Does this channel wait for a splice? LDK would close it in agreement on its old funding, which the splice spends.
pub fn waits_for_splice(channels: &[ChannelDetails], id: ChannelId) -> bool {
	channels.iter().any(|channel| channel.channel_id == id && channel.splice_details.is_some())
}

fn channel_of(lightning: &Lightning, row: &Spliced) -> Option<ChannelDetails> {
	let channels = lightning.manager.list_channels_with_counterparty(&row.peer);
	channels.into_iter().find(|channel| channel.channel_id.0 == row.channel_id)
}

/// A channel that was closed in agreement while its splice waited for a block: the closing transaction spends the old funding, and
/// the splice was mined. LDK's monitor waits then for an agreement on the new funding that nobody can make any more (until a
/// restart), and is told to claim our part by itself. LDK has the latest state of such a channel: nothing here closes one without
/// broadcasting it.
fn claim_alone(lightning: &Lightning, row: &Spliced) {
	let id = ChannelId(row.channel_id);
	let Ok(monitor) = lightning.monitor.get_monitor(id) else { return };
	// Locked before it was closed: its closing transaction spends the new funding.
	if row.txid == Some(monitor.get_funding_txo().txid) {
		return;
	}
	let is_open = |balance: &Balance| matches!(balance, Balance::ClaimableOnChannelClose { .. });
	if monitor.get_claimable_balances().iter().any(is_open) {
		tracing::warn!(target: "inlet::channels", channel = %id, "closed in the middle of a splice: our part is claimed");
		monitor.broadcast_latest_holder_commitment_txn(&lightning.broadcaster, &lightning.fees, &lightning.logger);
		lightning.hurry();
	}
}

fn txid_of(status: &SpliceCandidateStatus) -> Option<Txid> {
	match status {
		SpliceCandidateStatus::AwaitingSignatures { txid, .. } | SpliceCandidateStatus::Negotiated { txid, .. } => {
			Some(*txid)
		}
		_ => None,
	}
}

/// What a channel will have more on our side than LDK says of it, once its splice counts: the wallet has spent it already.
pub fn on_its_way(channel: &ChannelDetails, splices: &[Spliced]) -> Amount {
	let candidates = channel.splice_details.iter().flat_map(|details| &details.candidates);
	let txids: Vec<Txid> = candidates.filter_map(|candidate| txid_of(&candidate.status)).collect();
	let is_pending = |row: &&Spliced| row.funding().is_some_and(|funding| txids.contains(&funding.txid));
	splices.iter().filter(is_pending).map(|row| row.added).sum()
}
