//! The channel comes to be, the parts are forwarded less the fee, and the fee is earned.

use super::gather::{Paying, advance, expires_too_soon, wait};
use super::{FUNDING_MARGIN_BLOCKS, fail_parts, forget_attempt, owe, rest, withhold};
use crate::book::{EntryKind, MAX_FORWARDS_KEPT, NodeId, Part, PlannedForward, Sale, SaleId, SaleState, push_bounded};
use crate::input::{Action, ChannelView, Input};
use crate::ledger;
use crate::money::{Msat, Sat};
use crate::trust::{self, OffenceKind};
use crate::turn::Turn;

/// Can the parts bear the fee, each leaving at least `minimum` to be forwarded?
pub(super) fn is_feasible(sale: &Sale, paying: &Paying, minimum: Msat) -> bool {
	let amounts: Vec<Msat> = paid_parts(sale, paying).map(|part| part.amount).collect();
	split(&amounts, owed(sale, paying), minimum).is_some()
}

fn paid_parts<'a>(sale: &'a Sale, paying: &'a Paying) -> impl Iterator<Item = &'a Part> {
	sale.parts.iter().filter(|part| paying.parts.contains(&part.intercept_id))
}

fn owed(sale: &Sale, paying: &Paying) -> Msat {
	Msat(paying.fee.0.saturating_sub(sale.fee_credited.0))
}

/// What is forwarded of each part, so that all of them together lose `fee`, no more and no less, and none falls below
/// `minimum` (bLIP-52's example algorithm). `None` if that cannot be.
pub fn split(amounts: &[Msat], fee: Msat, minimum: Msat) -> Option<Vec<Msat>> {
	let mut left = fee;
	let mut forwards = Vec::with_capacity(amounts.len());
	for amount in amounts {
		let spare = amount.checked_sub(minimum)?;
		let share = spare.min(left);
		left = left.checked_sub(share)?;
		forwards.push(amount.checked_sub(share)?);
	}
	Some(forwards).filter(|_| left == Msat::ZERO)
}

/// Forwards the parts of the `paying` payment, less the fee, over the sale's channel. Other payments wait until it is
/// settled: whoever could have them at once, in full, would have no reason to take the one that pays.
pub(super) fn forward(turn: &mut Turn<'_>, sale: &mut Sale, link: &ChannelView, paying: Paying) {
	let amounts: Vec<Msat> = paid_parts(sale, &paying).map(|part| part.amount).collect();
	let Some(forwards) = split(&amounts, owed(sale, &paying), smallest(link)) else {
		fail_parts(turn, sale, "the channel's smallest HTLC leaves no room for the fee");
		return rest(turn, sale);
	};
	let (mine, others): (Vec<Part>, Vec<Part>) =
		sale.parts.drain(..).partition(|part| paying.parts.contains(&part.intercept_id));
	sale.parts = others;
	sale.fee = Some(paying.fee);
	sale.paying = Some(paying.hash);
	sale.state = SaleState::Forwarded;
	let sum = Msat(forwards.iter().fold(0, |sum, amount| amount.0.saturating_add(sum)));
	sale.note(turn.now, "forward", format!("{sum} in {} parts", mine.len()));
	for (part, amount) in mine.iter().zip(forwards) {
		plan(turn, sale, link, part, amount, true);
	}
	withhold::await_claim(turn, sale);
	wait(turn, sale);
}

/// Channels of the client that owe nothing and have room for the whole payment: for each part, the one with the least
/// room that suffices, as LDK chooses. `None` if they have not.
pub(super) fn other_channels(turn: &Turn<'_>, sale: &Sale, paying: &Paying) -> Option<Vec<(Part, ChannelView)>> {
	let all = turn.world.peer.channels.iter();
	let mut links: Vec<ChannelView> = all
		.filter(|view| view.usable && withhold::owes_nothing(turn, &view.channel_id, view.user_channel_id))
		.cloned()
		.collect();
	for link in &mut links {
		let sent = turn.sent.get(&link.channel_id).map_or(0, |sent| sent.0);
		link.next_outbound_htlc_limit = Msat(link.next_outbound_htlc_limit.0.saturating_sub(sent));
	}
	let mut parts: Vec<Part> = paid_parts(sale, paying).cloned().collect();
	parts.sort_by_key(|part| std::cmp::Reverse(part.amount));
	let mut pairs = Vec::with_capacity(parts.len());
	for part in parts {
		let fits =
			|link: &&mut ChannelView| link.next_outbound_htlc_limit >= part.amount && part.amount >= smallest(link);
		let link = links.iter_mut().filter(fits).min_by_key(|link| link.next_outbound_htlc_limit)?;
		link.next_outbound_htlc_limit = Msat(link.next_outbound_htlc_limit.0.saturating_sub(part.amount.0));
		pairs.push((part, link.clone()));
	}
	Some(pairs)
}

/// Forwards the payment in full over channels that the client has already: it needs no new one, and pays for none.
pub(super) fn forward_over_others(
	turn: &mut Turn<'_>,
	sale: &mut Sale,
	paying: &Paying,
	pairs: Vec<(Part, ChannelView)>,
) {
	sale.parts.retain(|part| !paying.parts.contains(&part.intercept_id));
	sale.note(turn.now, "forward", format!("{} in full over channels that the client has", paying.amount));
	for (part, link) in pairs {
		plan(turn, sale, &link, &part, part.amount, false);
		let sent = turn.sent.entry(link.channel_id).or_default();
		*sent = Msat(sent.0.saturating_add(part.amount.0));
	}
	if sale.parts.is_empty() {
		return rest(turn, sale);
	}
	// The other payments, each of which is one part less to go on with.
	advance(turn, sale);
}

/// Forwards all that is held, in full.
pub(super) fn forward_in_full(turn: &mut Turn<'_>, sale: &mut Sale, link: &ChannelView) {
	for part in std::mem::take(&mut sale.parts) {
		forward_one_in_full(turn, sale, link, &part);
	}
}

/// Forwards the parts of the paying payment that came after its size was there: its payer sends more than was asked
/// for, and the client waits for all of it. That goes up to twice the size, as in BOLT 4.
pub(super) fn forward_late_parts(turn: &mut Turn<'_>, sale: &mut Sale, link: &ChannelView) {
	let Some(most) = sale.payment_size.map(|size| size.0.saturating_mul(2)) else { return };
	let (paying, others): (Vec<Part>, Vec<Part>) =
		sale.parts.drain(..).partition(|part| Some(part.payment_hash) == sale.paying);
	sale.parts = others;
	for part in paying {
		let mine = sale.forwarded.iter().filter(|planned| Some(planned.payment_hash) == sale.paying);
		let with_fee = part.amount.0.saturating_add(sale.fee.unwrap_or_default().0);
		let sum = mine.fold(with_fee, |sum, planned| sum.saturating_add(planned.amount.0));
		if sum <= most {
			forward_one_in_full(turn, sale, link, &part);
		} else {
			sale.parts.push(part);
		}
	}
}

fn forward_one_in_full(turn: &mut Turn<'_>, sale: &mut Sale, link: &ChannelView, part: &Part) {
	if part.amount < smallest(link) {
		return turn.fail_htlc(part.intercept_id, "below the channel's smallest HTLC");
	}
	sale.note(turn.now, "forward", format!("{} in full", part.amount));
	plan(turn, sale, link, part, part.amount, true);
}

fn smallest(link: &ChannelView) -> Msat {
	link.next_outbound_htlc_minimum.max(Msat(1))
}

/// `own`: over the sale's own channel.
fn plan(turn: &mut Turn<'_>, sale: &mut Sale, link: &ChannelView, part: &Part, amount: Msat, own: bool) {
	let (intercept_id, payment_hash) = (part.intercept_id, part.payment_hash);
	let channel = Some(link.channel_id).filter(|_| !own);
	let expiry_height = part.expiry_height;
	let skim = Msat(part.amount.0.saturating_sub(amount.0));
	let planned = PlannedForward {
		intercept_id,
		payment_hash,
		amount,
		held_until: None,
		expiry_height,
		channel,
		skim,
		ended: false,
	};
	push_bounded(&mut sale.forwarded, planned, MAX_FORWARDS_KEPT);
	turn.act(Action::ForwardHtlc { intercept_id, peer: sale.client, channel_id: link.channel_id, amount });
}

/// LDK shows a part again that was to be forwarded: a crash came between. It goes as decided, now or when the client is
/// back.
pub(super) fn forward_again(turn: &mut Turn<'_>, sale: &mut Sale, intercept_id: &[u8; 32]) {
	let until = turn.now.plus_secs(turn.policy().lsps2.gather_secs);
	if let Some(planned) = sale.forwarded.iter_mut().find(|planned| planned.intercept_id == *intercept_id) {
		planned.held_until = planned.held_until.or(Some(until));
	}
	fail_overdue(turn, sale);
	forward_held(turn, sale);
}

/// Forwards what [`forward_again`] had to hold, if the channel is usable.
pub(super) fn forward_held(turn: &mut Turn<'_>, sale: &mut Sale) {
	let own = sale.open_channel().and_then(|channel| channel.channel_id);
	for planned in sale.forwarded.iter_mut().filter(|planned| planned.held_until.is_some()) {
		let Some(link) = planned.channel.or(own).and_then(|id| turn.usable(&id)) else { continue };
		planned.held_until = None;
		turn.act(Action::ForwardHtlc {
			intercept_id: planned.intercept_id,
			peer: sale.client,
			channel_id: link.channel_id,
			amount: planned.amount,
		});
	}
}

/// Fails what [`forward_again`] held for too long, or too near to its expiry.
pub(super) fn fail_overdue(turn: &mut Turn<'_>, sale: &mut Sale) {
	let over = |planned: &PlannedForward| match planned.held_until {
		None => None,
		Some(_) if expires_too_soon(turn, planned.expiry_height) => Some("it expires too soon"),
		Some(until) => (turn.now >= until).then_some("the client did not come back"),
	};
	let those = sale.forwarded.iter().filter_map(|planned| Some((planned.intercept_id, over(planned)?)));
	let those: Vec<([u8; 32], &str)> = those.collect();
	for (id, reason) in those {
		turn.fail_htlc(id, reason);
		forget_forward(turn, sale, &id);
	}
}

/// A forward that was decided did not happen. With the last one of the paying payment, the fee is owed again.
pub(super) fn forget_forward(turn: &mut Turn<'_>, sale: &mut Sale, intercept_id: &[u8; 32]) {
	let known = sale.forwarded.len();
	sale.forwarded.retain(|planned| planned.intercept_id != *intercept_id);
	let paying_left = sale.forwarded.iter().any(|planned| Some(planned.payment_hash) == sale.paying);
	if sale.forwarded.len() < known && sale.state == SaleState::Forwarded && !paying_left {
		sale.note(turn.now, "fail", "the payment could not be forwarded; the fee is owed".to_string());
		owe(turn, sale);
	}
}

/// [`Input::Funded`]: the money is out.
pub(crate) fn funded(turn: &mut Turn<'_>, mut sale: Sale, input: &Input) {
	let Input::Funded { user_channel_id, channel_id, funding, .. } = input else { return };
	ledger::funding_cost(turn, input, sale.client);
	if withhold::went_out(turn, &mut sale, *user_channel_id) {
		return turn.put_sale(sale);
	}
	if sale.user_channel_id != *user_channel_id {
		if sale.channel.is_some() {
			sale.note(turn.now, "open", format!("an abandoned attempt was funded all the same: {funding}"));
			return turn.put_sale(sale);
		}
		// The attempt was given up while it succeeded: there is a channel after all.
		sale.earlier_channel_ids.retain(|id| id != user_channel_id);
		sale.user_channel_id = *user_channel_id;
	}
	let keep_until = turn.world.height.saturating_add(sale.terms.min_lifetime).saturating_add(FUNDING_MARGIN_BLOCKS);
	let now = turn.now;
	let channel = sale.channel.get_or_insert_with(|| crate::book::SoldChannel::requested(Sat::ZERO));
	channel.channel_id = Some(*channel_id);
	if channel.funding.is_none() {
		let is_closed = channel.closed_at.is_some();
		channel.funding = Some(*funding);
		channel.funded_at = Some(now);
		channel.keep_until_height = keep_until;
		sale.reserved = Sat::ZERO;
		sale.note(now, "funded", format!("{funding}"));
		if !is_closed && matches!(sale.state, SaleState::Bought | SaleState::Failed { .. }) {
			sale.state = SaleState::Owing;
		}
	}
	advance(turn, &mut sale);
	turn.put_sale(sale);
}

/// [`Input::ChannelReady`]: the held parts go out.
pub(crate) fn channel_ready(turn: &mut Turn<'_>, mut sale: Sale, user_channel_id: u128, channel_id: [u8; 32]) {
	if sale.user_channel_id != user_channel_id {
		return;
	}
	let now = turn.now;
	let Some(channel) = &mut sale.channel else { return };
	channel.channel_id = Some(channel_id);
	if channel.ready_at.is_none() && channel.closed_at.is_none() {
		channel.ready_at = Some(now);
		// Its funding is made, whether or not we were told of that: its coins are spent or locked.
		sale.reserved = Sat::ZERO;
		sale.note(now, "ready", String::new());
	}
	turn.ready = Some(channel_id);
	if matches!(sale.state, SaleState::Opening { .. }) && turn.usable(&channel_id).is_some() {
		sale.state = SaleState::Gathering { deadline: now };
	}
	advance(turn, &mut sale);
	turn.put_sale(sale);
}

/// [`Input::OpenFailed`]: the parts go back; the payer may try again.
pub(crate) fn open_failed(turn: &mut Turn<'_>, mut sale: Sale, user_channel_id: u128, reason: &str, ours: bool) {
	let is_withheld = sale.channel.as_ref().is_none_or(|channel| channel.withheld.is_some());
	if sale.user_channel_id != user_channel_id || is_withheld || sale.open_channel().is_some() {
		return;
	}
	sale.note(turn.now, "fail", format!("open failed: {reason}"));
	if !ours {
		trust::offend(turn, &sale, OffenceKind::Refused);
	}
	fail_parts(turn, &mut sale, "the channel could not be opened");
	forget_attempt(turn, &mut sale);
	if !sale.state.is_finished() {
		rest(turn, &mut sale);
	}
	turn.put_sale(sale);
}

/// [`Input::ChannelClosed`].
pub(crate) fn channel_closed(
	turn: &mut Turn<'_>,
	mut sale: Sale,
	user_channel_id: u128,
	reason: &str,
	by_client: bool,
) {
	if sale.user_channel_id != user_channel_id {
		return;
	}
	let Some(channel) = &mut sale.channel else { return };
	if channel.funding.is_none() && channel.withheld.is_none() && channel.ready_at.is_none() {
		// It may have lost its connection: that is no offence.
		return open_failed(turn, sale, user_channel_id, reason, true);
	}
	if channel.closed_at.is_some() {
		return;
	}
	channel.closed_at = Some(turn.now);
	sale.note(turn.now, "closed", reason.to_string());
	fail_parts(turn, &mut sale, "the channel was closed");
	if !sale.state.is_finished() {
		// We made a channel and were not paid for it; if it was the client who closed it, that is its doing.
		if by_client && (sale.fee_credited == Msat::ZERO || sale.fee_left() > Msat::ZERO) {
			trust::offend(turn, &sale, withhold::offence_of_closing(&sale, turn.world.height));
		}
		book_partial_fee(turn, &mut sale);
		rest(turn, &mut sale);
	}
	turn.put_sale(sale);
}

/// Some parts were settled before the channel went away: that much is earned, and no longer owed.
fn book_partial_fee(turn: &mut Turn<'_>, sale: &mut Sale) {
	if sale.fee_credited > Msat::ZERO {
		ledger::earn(turn, EntryKind::JitFee, sale.fee_credited, Some(sale.client), &sale.id);
		sale.fee = Some(sale.fee_left());
		sale.fee_credited = Msat::ZERO;
	}
}

/// [`Input::ForwardFailed`]: the client did not take the payment. If no sale has the channel, or a sale that owes
/// nothing,
/// LDK chose it in place of another one of the same client: of the sale whose fee is in flight, if there is just one (a
/// replay must not hit the next).
pub(crate) fn forward_failed(turn: &mut Turn<'_>, peer: NodeId, channel_id: &[u8; 32], by_client: bool) {
	let by_channel = turn.book.sale_by_channel(channel_id).filter(|sale| sale.client == peer);
	let mut in_flight = turn.book.live_sales().filter(|sale| sale.client == peer && sale.state == SaleState::Forwarded);
	let only = in_flight.next().filter(|_| in_flight.next().is_none());
	let Some(mut sale) = by_channel.filter(|sale| sale.state != SaleState::Done).or(only).cloned() else { return };
	if withhold::one_of_before_failed(&mut sale) {
		return turn.put_sale(sale);
	}
	// LDK tells of each part that failed: the last one ends the payment.
	if sale.state == SaleState::Forwarded && !withhold::is_in_flight(turn, &sale) {
		withhold::forget_paying(&mut sale);
		// While LDK holds a part that pays the fee, the fee is not owed again: what was told is the failure of a
		// payment before it, once more after a crash, or the rest of this one ends like this part.
		if sale.forwarded.iter().all(|planned| Some(planned.payment_hash) != sale.paying) {
			let text = match by_client {
				true => "the client failed the payment; the fee is owed",
				false => "the payment did not reach the client; the fee is owed",
			};
			sale.note(turn.now, "fail", text.to_string());
			// A payment taken in part, or over the channel beside it, is the client's doing: it has its channel for
			// that.
			if by_client && sale.fee_left() > Msat::ZERO {
				trust::offend(turn, &sale, OffenceKind::Failed);
			}
			owe(turn, &mut sale);
		}
		turn.put_sale(sale);
	}
}

/// The opening fee in a settled forward: LDK does not know it if the channel that it came in over has ended.
pub(crate) fn skimmed(turn: &Turn<'_>, input: &Input) -> Msat {
	let Input::Forwarded { skimmed, intercept_id, .. } = input else { return Msat::ZERO };
	let planned = intercept_id.and_then(|id| planned(turn, &id));
	planned.map_or(*skimmed, |(_, skim)| (*skimmed).max(skim))
}

/// [`Input::Forwarded`]: the opening fee in it is credited, once per reference, and the sale is done when all is there.
pub(crate) fn forwarded(turn: &mut Turn<'_>, input: &Input) {
	let Input::Forwarded { next_peer, next_channel, skimmed, intercept_id, reference, .. } = input else { return };
	if let Some(channel_id) = next_channel {
		withhold::settled_over(turn, channel_id);
	}
	let planned = intercept_id.and_then(|id| planned(turn, &id));
	// LDK does not know it if the channel that it came in over has ended.
	let skimmed = planned.as_ref().map_or(*skimmed, |(_, skim)| (*skimmed).max(*skim));
	let client = next_peer.or_else(|| planned.as_ref().and_then(|(id, _)| turn.book.sale(id)).map(|sale| sale.client));
	if skimmed > Msat::ZERO && is_credited(turn, client.as_ref(), reference) {
		return;
	}
	let debtor = match planned {
		Some((id, _)) => turn.sale(&id).filter(|sale| sale.state != SaleState::Done).map(|sale| sale.id),
		None => debtor(turn, client, *next_channel, skimmed),
	};
	let Some(mut sale) = debtor.and_then(|id| turn.sale(&id)) else {
		// Nobody owes it any more, but it was taken.
		if skimmed > Msat::ZERO && !turn.is_booked(EntryKind::JitFee, reference) {
			ledger::earn(turn, EntryKind::JitFee, skimmed, client, reference);
		}
		return;
	};
	if let Some(one) = sale.forwarded.iter_mut().find(|one| Some(one.intercept_id) == *intercept_id) {
		one.ended = true;
	}
	let pays = sale.state == SaleState::Forwarded || skimmed > Msat::ZERO;
	if skimmed > Msat::ZERO {
		push_bounded(&mut sale.credited, reference.clone(), MAX_FORWARDS_KEPT);
		sale.fee_credited = Msat(sale.fee_credited.0.saturating_add(skimmed.0));
		// LDK may have sent it over another channel of this client: it is paid for all the same. Not so what comes late
		// of a channel that has ended.
		if turn.world.peer.channels.iter().any(|view| Some(view.channel_id) == *next_channel) {
			withhold::release(turn, &mut sale);
		}
	}
	if pays && sale.fee.is_some() && sale.fee_left() == Msat::ZERO {
		done(turn, &mut sale);
	}
	turn.put_sale(sale);
}

fn done(turn: &mut Turn<'_>, sale: &mut Sale) {
	if sale.fee_credited > Msat::ZERO {
		ledger::earn(turn, EntryKind::JitFee, sale.fee_credited, Some(sale.client), &sale.id);
	}
	sale.note(turn.now, "paid", format!("{} earned", sale.fee_credited));
	sale.state = SaleState::Done;
	sale.reserved = Sat::ZERO;
	let mut client = turn.client(&sale.client);
	client.sales_done = client.sales_done.saturating_add(1);
	turn.put_client(client);
	withhold::give_back(turn, sale);
	advance(turn, sale);
}

fn is_credited(turn: &Turn<'_>, peer: Option<&NodeId>, reference: &String) -> bool {
	let own = turn.book.sales().filter(|sale| peer.is_none_or(|peer| sale.client == *peer));
	own.into_iter().any(|sale| sale.credited.contains(reference))
}

/// The sale that decided this forward, and what it kept back of it. Whatever channel LDK chose, it is that sale's fee.
fn planned(turn: &Turn<'_>, intercept_id: &[u8; 32]) -> Option<(SaleId, Msat)> {
	let sale = turn.book.sale_by_intercept(intercept_id)?;
	let planned = sale.forwarded.iter().find(|planned| planned.intercept_id == *intercept_id)?;
	Some((sale.id.clone(), planned.skim))
}

/// The sale that a settled forward pays which none has decided, as far as is known: the channel's, or (LDK may have
/// sent it over another channel of the same client) the oldest one of this client that waits for its fee.
fn debtor(turn: &Turn<'_>, peer: Option<NodeId>, channel: Option<[u8; 32]>, skimmed: Msat) -> Option<SaleId> {
	let by_channel = channel.and_then(|id| turn.book.sale_by_channel(&id));
	if let Some(sale) = by_channel.filter(|sale| sale.state != SaleState::Done) {
		return Some(sale.id.clone());
	}
	let peer = peer.filter(|_| skimmed > Msat::ZERO)?;
	let unpaid = |sale: &&Sale| sale.paying.is_some() && sale.state != SaleState::Done;
	let waiting = turn.book.live_sales().filter(|sale| sale.client == peer).filter(unpaid);
	waiting.min_by_key(|sale| sale.created_at).map(|sale| sale.id.clone())
}
