//! A paid order gets its channel; the money is ours when the funding is out.

use super::{
	OPEN_AGAIN_SECS, abandon_again, batch, forget_attempt, give_up, lapse, paid_by, pay, refund, requested, sell,
	splice,
};
use crate::admission::{self, Refusal};
use crate::book::{EntryKind, NodeId, Order, OrderState, PaidBy, PaymentHash, PaymentState};
use crate::input::{Action, Input, OpenChannel, Owner};
use crate::ledger;
use crate::money::{FeePerKw, Msat, Sat};
use crate::quote::Basis;
use crate::tiers;
use crate::turn::Turn;

/// Opens the channel of a paid order if the client is here and nothing stands against it now; else it is tried again
/// when the client connects (but not before `retry_at`), until the deadline.
pub(super) fn open_if_possible(turn: &mut Turn<'_>, order: &mut Order) {
	let (by, deadline) = match order.state {
		OrderState::Paid { retry_at: Some(at), .. } if turn.now < at => return,
		OrderState::Paid { by, deadline, .. } | OrderState::Opening { by, deadline } => (by, deadline),
		_ => return,
	};
	if !turn.world.peer.connected || turn.now >= deadline {
		return;
	}
	let Ok((feerate, cost)) = promised_feerate(turn, order) else { return };
	let limit = order.capacity();
	// What its buyer sent is not there for its channel: that was reserved before.
	turn.put_order(order.clone());
	let Ok(needed) = admission::funding(turn, feerate, limit, order.reserved, limit) else { return };
	if matches!(order.state, OrderState::Paid { .. }) {
		if batch::waits(turn, order, feerate) {
			return;
		}
		if order.channel.is_some() {
			forget_attempt(turn, order);
		}
		order.state = OrderState::Opening { by, deadline };
		order.reserved = needed;
		order.expected_cost = cost;
		order.channel = Some(requested(order));
		order.splice = splice::begin(turn, order, feerate).map(Box::new);
		let step = if order.splice.is_some() { "splice" } else { "open" };
		order.note(turn.now, step, format!("{} at {} sat/vB", order.capacity(), feerate.to_sat_per_vb_ceil()));
	}
	turn.act(match &order.splice {
		Some(splice) => splice::action(order, splice, feerate),
		None => Action::OpenChannel(channel(order, order.user_channel_id, feerate)),
	});
}

/// The feerate of the funding, and what the channel costs at it. The ceilings are for what is sold now: what was
/// ordered and paid for is opened as long as its fee covers it. If the feerate has overtaken it (R7), it waits until
/// the deadline for the feerate to fall again, and then the money goes back.
pub(super) fn promised_feerate(turn: &Turn<'_>, order: &Order) -> Result<(FeePerKw, Sat), Refusal> {
	let live = admission::live(turn.world)?;
	let feerate = turn.world.market.within(live, order.funding_confirms_within_blocks);
	Ok((feerate, cost_at(turn, order, feerate)?))
}

/// What the channel costs when it is funded at this feerate, if its fee covers that.
pub(super) fn cost_at(turn: &Turn<'_>, order: &Order, feerate: FeePerKw) -> Result<Sat, Refusal> {
	let live = admission::live(turn.world)?;
	let standing = tiers::here(turn, &order.client);
	let basis = Basis::new(turn.policy(), &standing, &turn.world.market, live, feerate);
	let costs = basis.order_costs(order.lsp_balance, order.channel_expiry_blocks);
	basis.covers(order.fee_total.to_msat().unwrap_or(Msat(u64::MAX)), costs)?;
	Ok(costs.total())
}

/// The channel as it was ordered: what the client is asked to accept before it pays, and gets when it has paid.
pub(super) fn channel(order: &Order, user_channel_id: u128, feerate: FeePerKw) -> OpenChannel {
	OpenChannel {
		owner: Owner::Order(order.id.clone()),
		user_channel_id,
		peer: order.client,
		capacity: order.capacity(),
		push: sell::pushed(order),
		announce: order.announce_channel,
		confirmations: order.required_channel_confirmations,
		max_to_self_delay: None,
		feerate,
		withhold: false,
		batch: order.batch_id(),
	}
}

/// [`Input::Connected`], and what follows from [`Input::Started`] once the client is here: a channel that was being
/// opened is asked for again; the node knows it by its `user_channel_id`.
pub(crate) fn connected(turn: &mut Turn<'_>, peer: NodeId) {
	let waiting = turn.book.live_orders().filter(|order| order.client == peer && paid_by(order).is_some());
	let ids: Vec<String> = waiting.map(|order| order.id.clone()).collect();
	for id in ids {
		let Some(mut order) = turn.order(&id) else { continue };
		open_if_possible(turn, &mut order);
		turn.put_order(order);
	}
}

/// [`Input::Started`]: claims, refunds and the end of channels that come too late are asked for again; an order that
/// was being made is dropped (its client is
/// gone, and was promised nothing). Payments that were given back are failed again.
pub(crate) fn started(turn: &mut Turn<'_>) {
	let ids: Vec<String> = turn.book.live_orders().map(|order| order.id.clone()).collect();
	for id in ids {
		let Some(mut order) = turn.order(&id) else { continue };
		splice::started(turn, &mut order);
		match order.state {
			OrderState::Preparing => give_up(turn, &mut order, "the process stopped while it was being made"),
			OrderState::Abandoning { .. } => abandon_again(turn, &mut order),
			OrderState::Funded { by: PaidBy::Lightning } => claim(turn, &order),
			_ => {}
		}
		refund::ask(turn, &order);
		turn.put_order(order);
	}
	let height = turn.world.height;
	let refused: Vec<PaymentHash> = turn.book.orders().filter_map(|order| refused_payment(order, height)).collect();
	for payment_hash in refused {
		turn.act(Action::FailPayment { payment_hash });
	}
}

/// A payment that was given back and that LDK may hold all the same: a crash came before it recorded that, and it does
/// not show the payment again.
fn refused_payment(order: &Order, height: u32) -> Option<PaymentHash> {
	let is_refused = match order.state {
		OrderState::Preparing | OrderState::AwaitingPayment => false,
		OrderState::Paid { by, .. }
		| OrderState::Opening { by, .. }
		| OrderState::Abandoning { by, .. }
		| OrderState::Funded { by } => by == PaidBy::Onchain || order.lapsed,
		OrderState::Completed | OrderState::Refunding { .. } | OrderState::Failed { .. } => true,
	};
	let lightning = order.lightning.as_ref().filter(|option| is_refused && option.state != PaymentState::Paid)?;
	lightning.claim_deadline.filter(|deadline| *deadline > height).map(|_| lightning.payment_hash)
}

/// Asks the node to claim the held payment.
pub(super) fn claim(turn: &mut Turn<'_>, order: &Order) {
	if let Some(lightning) = &order.lightning {
		let payment_hash = lightning.payment_hash;
		turn.act(Action::ClaimPayment { order: order.id.clone(), payment_hash });
	}
}

/// [`Input::Funded`]: delivered. A held payment is claimed now and not before (R6).
pub(crate) fn funded(turn: &mut Turn<'_>, mut order: Order, input: &Input) {
	let Input::Funded { user_channel_id, channel_id, funding, .. } = input else { return };
	ledger::funding_cost(turn, input, order.client);
	let Some(by) = paid_by(&order).filter(|_| order.user_channel_id == *user_channel_id) else {
		let known = order.channel.as_ref().is_some_and(|channel| channel.funding == Some(*funding));
		if !known {
			order.note(turn.now, "open", format!("an abandoned attempt was funded all the same: {funding}"));
			turn.put_order(order);
		}
		return;
	};
	lapse::watch(turn, &mut order);
	let keep_until =
		turn.world.height.saturating_add(order.channel_expiry_blocks).saturating_add(crate::jit::FUNDING_MARGIN_BLOCKS);
	let mut channel = order.channel.take().unwrap_or_else(|| requested(&order));
	channel.channel_id = Some(*channel_id);
	channel.funding = Some(*funding);
	channel.funded_at = Some(turn.now);
	channel.keep_until_height = keep_until;
	order.channel = Some(channel);
	order.reserved = Sat::ZERO;
	order.paid_by = Some(by);
	order.state = OrderState::Funded { by };
	order.note(turn.now, "funded", format!("{funding}"));
	// The ledger looks for the channel.
	turn.put_order(order.clone());
	match by {
		PaidBy::Lightning if order.lapsed => lapse::unpaid(turn, &mut order),
		PaidBy::Lightning => {
			if let Some(lightning) = &mut order.lightning {
				lightning.state = PaymentState::Paid;
			}
			claim(turn, &order);
		}
		PaidBy::Onchain => {
			let total = order.order_total.to_msat().unwrap_or(Msat::ZERO);
			complete(turn, &mut order, total);
		}
	}
	turn.put_order(order);
}

/// [`Input::PaymentClaimed`]: the money is ours.
pub(crate) fn claimed(turn: &mut Turn<'_>, payment_hash: &PaymentHash, amount: Msat) {
	let Some(mut order) = turn.book.order_by_payment_hash(payment_hash).cloned() else { return };
	let is_found = lapse::is_unpaid(&order);
	if is_found {
		lapse::found(turn, &mut order);
	}
	if is_found || order.state == (OrderState::Funded { by: PaidBy::Lightning }) {
		complete(turn, &mut order, amount);
		turn.put_order(order);
	}
}

fn complete(turn: &mut Turn<'_>, order: &mut Order, paid: Msat) {
	let pushed = sell::pushed(order);
	let client = Some(order.client);
	// A Lightning payment may be larger than the invoice; what is above is ours too.
	let fee = Msat(paid.0.saturating_sub(pushed.0));
	ledger::earn(turn, EntryKind::OrderFee, fee, client, &order.id);
	if pushed > Msat::ZERO {
		ledger::earn(turn, EntryKind::ClientBalance, pushed, client, &order.id);
		ledger::pushed(turn, pushed, client, &order.id);
	}
	order.state = OrderState::Completed;
	order.note(turn.now, "paid", format!("{fee} earned"));
	// The option that was not used is closed.
	match (order.paid_by, &mut order.lightning, &mut order.onchain) {
		(Some(PaidBy::Onchain), Some(lightning), _) => lightning.state = PaymentState::Refunded,
		(Some(PaidBy::Lightning), _, Some(onchain)) => onchain.state = PaymentState::Refunded,
		_ => {}
	}
	let mut client = turn.client(&order.client);
	client.orders_done = client.orders_done.saturating_add(1);
	turn.put_client(client);
	pay::watch_loss(turn, order);
	refund::consider(turn, order);
}

/// [`Input::ChannelReady`].
pub(crate) fn channel_ready(turn: &mut Turn<'_>, mut order: Order, user_channel_id: u128, channel_id: [u8; 32]) {
	let Some(channel) = order.channel.as_mut().filter(|_| order.user_channel_id == user_channel_id) else { return };
	channel.channel_id = Some(channel_id);
	if channel.ready_at.is_none() && channel.closed_at.is_none() {
		channel.ready_at = Some(turn.now);
		order.note(turn.now, "ready", String::new());
	}
	turn.put_order(order);
}

/// [`Input::OpenFailed`]: a client that went away is waited for, and what is our own fault (`ours`) is tried again; a
/// client
/// that refused, or whose time was up, gets its money back now.
pub(crate) fn open_failed(turn: &mut Turn<'_>, mut order: Order, user_channel_id: u128, reason: &str, ours: bool) {
	if !order.is_being_opened() || order.user_channel_id != user_channel_id {
		return;
	}
	let what = if order.splice.is_some() { "splice" } else { "open" };
	order.note(turn.now, "fail", format!("{what} failed: {reason}"));
	let was_splice = order.splice.is_some();
	forget_attempt(turn, &mut order);
	match order.state.clone() {
		OrderState::Opening { .. } if was_splice => splice::failed(turn, &mut order),
		// A reorganisation took the payment: it may come back while the order lasts.
		OrderState::Abandoning { by: PaidBy::Onchain, .. }
			if turn.now < order.expires_at && !pay::is_paid_onchain(turn, &order) =>
		{
			order.state = OrderState::AwaitingPayment;
			pay::set_onchain_state(&mut order, PaymentState::ExpectPayment);
		}
		OrderState::Abandoning { reason, .. } => give_up(turn, &mut order, &reason),
		OrderState::Opening { .. } if turn.world.peer.connected && !ours => {
			give_up(turn, &mut order, "the channel could not be opened");
		}
		OrderState::Opening { by, deadline } => {
			let retry_at = ours.then(|| turn.now.plus_secs(OPEN_AGAIN_SECS));
			order.state = OrderState::Paid { by, deadline, retry_at };
		}
		_ => {}
	}
	turn.put_order(order);
}

/// [`Input::FundingKept`].
pub(crate) fn funding_kept(turn: &mut Turn<'_>, mut order: Order, user_channel_id: u128) {
	if order.is_being_opened() && order.user_channel_id == user_channel_id && !order.kept {
		order.kept = true;
		order.note(turn.now, "closed", "the channel was used before its funding was known to be out".to_string());
		turn.put_order(order);
	}
}

/// [`Input::ChannelClosed`]. While the channel is being opened it says that nothing was funded: the node would have
/// said [`Input::Funded`] before. A client that has just gone away may still, or again, look as if it were here: who did
/// not close the channel has refused nothing.
pub(crate) fn channel_closed(
	turn: &mut Turn<'_>,
	mut order: Order,
	user_channel_id: u128,
	reason: &str,
	by_client: bool,
) {
	if order.is_being_opened() {
		let again_later = !by_client && turn.world.peer.connected;
		return open_failed(turn, order, user_channel_id, reason, again_later);
	}
	let now = turn.now;
	let Some(channel) = order.channel.as_mut().filter(|_| order.user_channel_id == user_channel_id) else { return };
	if channel.closed_at.is_none() {
		channel.closed_at = Some(now);
		order.note(now, "closed", reason.to_string());
		turn.put_order(order);
	}
}
