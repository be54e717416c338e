//! A client that trusts us: its funding transaction is made, its coins are locked, and it is broadcast when the client
//! has taken a payment over the channel. If it does not, the channel ends without a trace on the chain.

use super::gather::advance;
use super::{FUNDING_MARGIN_BLOCKS, forget_attempt, owe};
use crate::admission::Refusal;
use crate::book::{Discarding, MAX_ATTEMPTS_KEPT, PlannedForward, Sale, SaleState, push_bounded};
use crate::input::{Action, Input};
use crate::money::{Msat, Sat};
use crate::trust::{self, OffenceKind};
use crate::turn::Turn;

/// How long the coins of a channel that ended unpaid stay locked, if something was sent over it. LDK tells of a
/// preimage when it has written it down, which may be after it told of the channel's end; a node whose loop stalls for
/// half as long is ended by its watchdog.
pub const DISCARD_AFTER_SECS: u64 = 60;

/// How long a client may hold the payment that its withheld channel is for. It has all of it, and has only to take it.
pub const CLAIM_SECS: u64 = 300;
/// A client that is back has so long to take it.
pub const CLAIM_AGAIN_SECS: u64 = 60;
/// If a client is here, we are told within so many seconds that it is.
const SEEN_WITHIN_SECS: u64 = 10;

/// An HTLC for a withheld channel may expire no later than so many blocks from now: until then a client that neither
/// takes nor fails it, and stays away, has our coins.
pub const MAX_EXPIRY_BLOCKS: u32 = super::EXPIRY_MARGIN_BLOCKS + 576;
/// Withheld fundings may hold this share of our coins, in parts per million. The first one may hold more.
pub const MAX_WITHHELD_PPM: u64 = 500_000;

/// LDK closes a channel whose HTLC has timed out 3 blocks ago. So long after that nothing is heard of it any more.
const OVERDUE_BLOCKS: u32 = 12;

/// [`Input::FundingWithheld`].
pub(crate) fn withheld(turn: &mut Turn<'_>, mut sale: Sale, input: &Input) {
	let Input::FundingWithheld { user_channel_id, channel_id, funding } = input else { return };
	if sale.user_channel_id != *user_channel_id {
		let is_noted = sale.discarding.iter().any(|one| one.user_channel_id == *user_channel_id);
		if !is_noted && sale.earlier_channel_ids.contains(user_channel_id) {
			// The client signed while we gave up: nothing was sent over it.
			let until = turn.now;
			let (user_channel_id, channel_id, funding) = (*user_channel_id, *channel_id, *funding);
			// What its capacity was is not known any more: its coins are free in a moment.
			let capacity = Sat::ZERO;
			let one = Discarding { user_channel_id, channel_id, funding, capacity, until, release: false, out: false };
			discard(&mut sale, one);
			turn.put_sale(sale);
		}
		return;
	}
	let height = turn.world.height;
	let Some(channel) = &mut sale.channel else { return };
	if channel.funding.is_none() && channel.withheld.is_none() && channel.closed_at.is_none() {
		channel.channel_id = Some(*channel_id);
		channel.withheld = Some(*funding);
		channel.keep_until_height =
			height.saturating_add(sale.terms.min_lifetime).saturating_add(FUNDING_MARGIN_BLOCKS);
		// The coins are no longer among those that can be spent.
		sale.reserved = Sat::ZERO;
		sale.note(turn.now, "signed", format!("{funding}, broadcast when the payment is taken"));
	}
	if !sale.client_trusts {
		release(turn, &mut sale);
	} else if sale.state.is_finished() {
		// It was paid for over an earlier channel meanwhile.
		give_back(turn, &mut sale);
	}
	advance(turn, &mut sale);
	turn.put_sale(sale);
}

/// A payment over the channel was taken: its preimage is known, and the client must have its channel.
pub(super) fn release(turn: &mut Turn<'_>, sale: &mut Sale) {
	let now = turn.now;
	let Some(channel) = &mut sale.channel else { return };
	if let Some(funding) = channel.is_withheld() {
		channel.release = true;
		sale.note(now, "broadcast", format!("{funding}"));
	}
	broadcast_due(turn, sale);
}

/// Asks for the funding transaction that is due.
fn broadcast_due(turn: &mut Turn<'_>, sale: &Sale) {
	let Some(channel) = &sale.channel else { return };
	if let (Some(funding), Some(channel_id)) = (channel.is_due(), channel.channel_id) {
		turn.act_once(Action::BroadcastFunding { user_channel_id: sale.user_channel_id, channel_id, funding });
	}
}

/// Something that was sent over this channel was taken. If its funding transaction is withheld, it goes out, also when
/// the channel is closed meanwhile: we have the payer's money.
pub(super) fn settled_over(turn: &mut Turn<'_>, channel_id: &[u8; 32]) {
	let Some(id) = turn.book.sale_by_channel(channel_id).map(|sale| sale.id.clone()) else { return };
	let Some(mut sale) = turn.sale(&id) else { return };
	if sale.channel.as_ref().is_some_and(|channel| channel.channel_id == Some(*channel_id)) {
		release(turn, &mut sale);
	}
	if let Some(one) = sale.discarding.iter_mut().find(|one| one.channel_id == *channel_id && !one.out) {
		one.release = true;
		let (user_channel_id, channel_id, funding) = (one.user_channel_id, one.channel_id, one.funding);
		turn.act(Action::BroadcastFunding { user_channel_id, channel_id, funding });
	}
	turn.put_sale(sale);
}

/// Ends the sale's channel if its funding transaction is withheld. If anything can have been sent over it, the coins
/// are freed later: see [`DISCARD_AFTER_SECS`].
pub(super) fn give_back(turn: &mut Turn<'_>, sale: &mut Sale) {
	let Some(channel) = &sale.channel else { return };
	let (Some(funding), Some(channel_id)) = (channel.is_withheld(), channel.channel_id) else { return };
	let (user_channel_id, capacity) = (sale.user_channel_id, channel.capacity);
	let wait = if channel.ready_at.is_some() { DISCARD_AFTER_SECS } else { 0 };
	if channel.closed_at.is_none() {
		turn.act(Action::AbandonChannel { user_channel_id, peer: sale.client });
	}
	let until = turn.now.plus_secs(wait);
	discard(sale, Discarding { user_channel_id, channel_id, funding, capacity, until, release: false, out: false });
	sale.note(turn.now, "discard", format!("{funding} is not broadcast"));
	forget_attempt(turn, sale);
}

fn discard(sale: &mut Sale, one: Discarding) {
	push_bounded(&mut sale.discarding, one, MAX_ATTEMPTS_KEPT.saturating_mul(2));
}

/// Have as many channels of this sale come to nothing as may hold coins at once?
pub(super) fn is_full(sale: &Sale) -> bool {
	sale.discarding.iter().filter(|one| !one.out).count() >= MAX_ATTEMPTS_KEPT
}

/// [`Input::Funded`] of a channel that had ended: the client's balance is in its last commitment. False if it is
/// another.
pub(super) fn went_out(turn: &Turn<'_>, sale: &mut Sale, user_channel_id: u128) -> bool {
	let Some(one) = sale.discarding.iter_mut().find(|one| one.user_channel_id == user_channel_id) else { return false };
	if !std::mem::replace(&mut one.out, true) {
		let text = format!("{}, for a channel that has ended", one.funding);
		sale.note(turn.now, "funded", text);
	}
	true
}

/// [`Input::FundingDiscarded`].
pub(crate) fn discarded(turn: &mut Turn<'_>, mut sale: Sale, user_channel_id: u128) {
	sale.discarding.retain(|one| one.user_channel_id != user_channel_id || one.release);
	turn.put_sale(sale);
}

/// The payment for a withheld channel is with the client: it is given time to take it.
pub(super) fn await_claim(turn: &Turn<'_>, sale: &mut Sale) {
	sale.overdue_since = None;
	sale.claim_by = sale.is_unclaimed().then(|| turn.now.plus_secs(CLAIM_SECS));
}

/// [`Input::Connected`]: a client that is here and has held the payment for too long loses the channel. One that comes
/// back
/// is given a moment.
pub(super) fn connected(turn: &mut Turn<'_>, sale: &mut Sale) {
	let Some(since) = sale.overdue_since.filter(|_| sale.is_unclaimed() && turn.world.peer.connected) else { return };
	sale.overdue_since = None;
	if !is_in_flight(turn, sale) {
		// LDK is about to tell what became of it.
		sale.claim_by = Some(turn.now.plus_secs(CLAIM_AGAIN_SECS));
	} else if turn.now > since.plus_secs(SEEN_WITHIN_SECS) {
		sale.claim_by = Some(turn.now.plus_secs(CLAIM_AGAIN_SECS));
	} else {
		sale.note(turn.now, "fail", "the client holds the payment and does not take it".to_string());
		trust::offend(turn, sale, OffenceKind::Held);
		// What was sent may still be taken: see [`fee_is_pending`].
		owe(turn, sale);
	}
}

/// Is there room for one more withheld funding of this size beside those of all sales? Gives what there is if not.
pub(super) fn room(turn: &Turn<'_>, sale: &Sale, needed: Sat) -> Result<(), Refusal> {
	let mut locked = Sat::ZERO;
	let mut waiting = Sat::ZERO;
	for other in turn.book.live_sales().filter(|other| other.id != sale.id) {
		let opening = other.client_trusts && matches!(other.state, SaleState::Opening { .. });
		waiting = waiting.saturating_add(if opening { other.reserved } else { Sat::ZERO });
		locked = locked.saturating_add(locked_by(other));
	}
	let taken = locked.saturating_add(waiting);
	let all = turn.world.spendable.saturating_add(locked);
	let limit = Sat(all.0.saturating_mul(MAX_WITHHELD_PPM) / 1_000_000);
	if taken > Sat::ZERO && taken.saturating_add(needed) > limit {
		return Err(Refusal::Withheld { taken, limit });
	}
	Ok(())
}

/// What a sale has in fundings that are not broadcast.
fn locked_by(sale: &Sale) -> Sat {
	let own = sale.channel.as_ref().filter(|channel| channel.is_withheld().is_some());
	let own = own.map_or(Sat::ZERO, |channel| channel.capacity);
	let ended = sale.discarding.iter().filter(|one| !one.out);
	ended.fold(own, |sum, one| sum.saturating_add(one.capacity))
}

/// May an HTLC with this expiry be sent over the sale's channel, or is it one that a client could hold for too long?
pub(super) fn expires_too_late(turn: &Turn<'_>, sale: &Sale, expiry_height: Option<u32>) -> bool {
	let is_out = sale.channel.as_ref().is_some_and(|channel| channel.is_open() && channel.funding.is_some());
	let most = turn.world.height.saturating_add(MAX_EXPIRY_BLOCKS);
	sale.client_trusts && !is_out && expiry_height.is_some_and(|expiry| expiry > most)
}

/// What is due by now: coins to be freed, and a payment of which nothing was heard any more.
pub(super) fn tick(turn: &mut Turn<'_>, sale: &mut Sale) {
	broadcast_due(turn, sale);
	if sale.claim_by.is_some_and(|at| turn.now >= at) {
		sale.claim_by = None;
		sale.overdue_since = Some(turn.now).filter(|_| sale.is_unclaimed());
	}
	for index in 0..sale.discarding.len() {
		let peer = sale.client;
		let Some(one) = sale.discarding.get_mut(index).filter(|one| !one.out && one.until <= turn.now) else {
			continue;
		};
		one.until = turn.now.plus_secs(DISCARD_AFTER_SECS);
		let (user_channel_id, channel_id, funding) = (one.user_channel_id, one.channel_id, one.funding);
		turn.act(match one.release {
			true => Action::BroadcastFunding { user_channel_id, channel_id, funding },
			false => Action::DiscardFunding { user_channel_id, peer, funding },
		});
	}
	let is_withheld = sale.channel.as_ref().is_some_and(|channel| channel.is_withheld().is_some());
	if is_withheld && sale.state == SaleState::Forwarded && has_expired(sale, turn.world.height, OVERDUE_BLOCKS) {
		sale.note(turn.now, "fail", "the payment has timed out".to_string());
		trust::offend(turn, sale, OffenceKind::Held);
		forget_paying(sale);
		owe(turn, sale);
	}
}

/// [`Input::Started`]: a broadcast that may not have happened happens, and a channel that may not have been closed is.
pub(super) fn started(turn: &mut Turn<'_>, sale: &mut Sale) {
	broadcast_due(turn, sale);
	if sale.is_unclaimed() {
		await_claim(turn, sale);
	}
	for one in sale.discarding.iter_mut().filter(|one| !one.out) {
		one.until = one.until.max(turn.now.plus_secs(DISCARD_AFTER_SECS));
		let (user_channel_id, channel_id, funding) = (one.user_channel_id, one.channel_id, one.funding);
		turn.act(match one.release {
			true => Action::BroadcastFunding { user_channel_id, channel_id, funding },
			false => Action::AbandonChannel { user_channel_id, peer: sale.client },
		});
	}
}

/// The channel went away unpaid. Did the client hold the payment until it timed out?
pub(super) fn offence_of_closing(sale: &Sale, height: u32) -> OffenceKind {
	if has_expired(sale, height, 0) { OffenceKind::Held } else { OffenceKind::Unpaid }
}

/// The expiry of all parts of the paying payment lies more than `margin` blocks back.
fn has_expired(sale: &Sale, height: u32, margin: u32) -> bool {
	let paying = sale.forwarded.iter().filter(|planned| Some(planned.payment_hash) == sale.paying);
	let last = paying.filter_map(|planned| planned.expiry_height).max();
	last.is_some_and(|last| last.saturating_add(margin) < height.saturating_add(1))
}

/// What was sent of the paying payment came to nothing. What LDK still holds stays: it has a deadline of its own.
pub(super) fn forget_paying(sale: &mut Sale) {
	sale.forwarded.retain(|planned| Some(planned.payment_hash) != sale.paying || planned.held_until.is_some());
}

/// Is the fee on its way over a channel that has ended, where it may still be taken? Then no other channel is opened
/// for it: both payments could be taken, and the client would pay twice. LDK tells how each HTLC of an ended channel
/// ends; of one that it lost a crash, its expiry does.
pub(super) fn fee_is_pending(turn: &Turn<'_>, sale: &Sale) -> bool {
	let oldest = turn.world.height.saturating_sub(OVERDUE_BLOCKS);
	let is_pending = |one: &PlannedForward| one.expiry_height.is_none_or(|expiry| expiry >= oldest);
	sale.open_channel().is_none() && unresolved(sale).any(is_pending)
}

fn unresolved(sale: &Sale) -> impl Iterator<Item = &PlannedForward> {
	sale.forwarded.iter().filter(|one| one.skim > Msat::ZERO && !one.ended)
}

/// [`Input::ForwardFailed`] of a channel that has ended: it is one of those that bore the fee over it, whichever. False
/// if there is none.
pub(super) fn one_of_before_failed(sale: &mut Sale) -> bool {
	let is_over = sale.open_channel().is_none() && sale.state != SaleState::Forwarded;
	let is_out = |one: &&mut PlannedForward| one.skim > Msat::ZERO && !one.ended && one.held_until.is_none();
	let mut before = sale.forwarded.iter_mut().filter(is_out);
	before.next().filter(|_| is_over).map(|one| one.ended = true).is_some()
}

/// Is an HTLC of the sale's payment still on its way to the client?
pub(super) fn is_in_flight(turn: &Turn<'_>, sale: &Sale) -> bool {
	sale.paying.is_some_and(|hash| turn.world.peer.in_flight.contains(&hash))
}

/// Has the client a channel that owes us nothing? What is sold and not paid for, or not funded yet, does not count.
pub(crate) fn owes_nothing(turn: &Turn<'_>, channel_id: &[u8; 32], user_channel_id: u128) -> bool {
	let by_channel = turn.book.sale_by_channel(channel_id);
	let sale = by_channel.or_else(|| turn.book.sale_by_user_channel_id(user_channel_id));
	sale.is_none_or(|sale| {
		let funded = sale.channel.as_ref().is_some_and(|channel| channel.funding.is_some());
		sale.state == SaleState::Done && funded
	})
}
