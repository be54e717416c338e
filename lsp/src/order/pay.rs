//! Payments arrive, by Lightning (held, not claimed) or on-chain, in time or too late.

use super::{
	CLAIM_MARGIN_BLOCKS, abandon, abandon_again, batch, deliver, give_up, lapse, paid_by, refund, sell, splice,
};
use crate::book::{EntryKind, Order, OrderState, PaidBy, PaymentHash, PaymentState, Received};
use crate::input::Action;
use crate::ledger;
use crate::money::{Msat, Sat};
use crate::turn::Turn;

const UNCONFIRMED_AGAIN: &str = "the payment is no longer confirmed";
const ABOUT_TO_EXPIRE: &str = "the held payment was about to expire";

/// [`Input::PaymentHeld`](crate::input::Input::PaymentHeld).
pub(crate) fn payment_held(turn: &mut Turn<'_>, payment_hash: PaymentHash, amount: Msat, claim_deadline: Option<u32>) {
	let Some(mut order) = turn.book.order_by_payment_hash(&payment_hash).cloned() else {
		return turn.act(Action::FailPayment { payment_hash });
	};
	let by_lightning = |by: PaidBy| by == PaidBy::Lightning;
	match order.state {
		OrderState::AwaitingPayment
			if turn.now < order.expires_at && is_enough(&order, amount) && !is_too_late(turn, claim_deadline) =>
		{
			let deadline = turn.now.plus_secs(turn.policy().lsps1.open_window_secs);
			order.state = OrderState::Paid { by: PaidBy::Lightning, deadline, retry_at: None };
			if let Some(lightning) = &mut order.lightning {
				lightning.state = PaymentState::Hold;
				lightning.claim_deadline = claim_deadline;
			}
			order.note(turn.now, "held", format!("{amount} by Lightning"));
			deliver::open_if_possible(turn, &mut order);
		}
		// A replay: it is known, and what follows from it is on its way.
		OrderState::Paid { by, .. } | OrderState::Opening { by, .. } if by_lightning(by) => {
			deliver::open_if_possible(turn, &mut order);
		}
		// The node's answer decides.
		OrderState::Abandoning { by, .. } if by_lightning(by) && !order.lapsed => {}
		OrderState::Funded { by } if by_lightning(by) => deliver::claim(turn, &order),
		OrderState::Completed if order.lightning.as_ref().is_some_and(|paid| paid.state == PaymentState::Paid) => {
			deliver::claim(turn, &order);
		}
		_ => {
			turn.act(Action::FailPayment { payment_hash });
			remember_until(&mut order, claim_deadline);
		}
	}
	turn.put_order(order);
}

/// How long LDK may hold what an order refuses: it is failed again after a restart.
fn remember_until(order: &mut Order, claim_deadline: Option<u32>) {
	let awaits = order.state.is_unpaid();
	if let Some(lightning) = order.lightning.as_mut().filter(|_| !awaits) {
		lightning.claim_deadline = lightning.claim_deadline.max(claim_deadline);
	}
}

fn is_enough(order: &Order, amount: Msat) -> bool {
	order.order_total.to_msat().is_some_and(|total| amount >= total)
}

/// Must a held payment go back now, lest LDK fails it while the channel is being opened?
fn is_too_late(turn: &Turn<'_>, claim_deadline: Option<u32>) -> bool {
	claim_deadline.is_some_and(|height| turn.world.height.saturating_add(CLAIM_MARGIN_BLOCKS) >= height)
}

pub(super) fn held_until(order: &Order) -> Option<u32> {
	let lightning = order.lightning.as_ref().filter(|_| paid_by(order) == Some(PaidBy::Lightning));
	lightning.and_then(|lightning| lightning.claim_deadline)
}

/// [`Input::AddressActivity`](crate::input::Input::AddressActivity): what the address holds now, all of it.
pub(crate) fn address_activity(turn: &mut Turn<'_>, mut order: Order, received: &[Received]) {
	let Some(onchain) = &mut order.onchain else { return };
	let mut received = received.to_vec();
	received.sort_by_key(|output| output.outpoint);
	let outputs = |list: &[Received]| list.iter().map(|output| (output.outpoint, output.value)).collect::<Vec<_>>();
	let is_news = outputs(&onchain.received) != outputs(&received);
	let (count, sum) = (received.len(), Sat(sum_of(&received, |_| true)));
	// More confirmations are no news.
	onchain.received = received;
	if is_news {
		order.note(turn.now, "onchain", format!("{sum} in {count} outputs"));
	}
	watch_loss(turn, &mut order);
	let enough = is_paid_onchain(turn, &order);
	match order.state {
		OrderState::AwaitingPayment if enough && turn.now < order.expires_at => {
			let deadline = turn.now.plus_secs(turn.policy().lsps1.open_window_secs);
			order.state = OrderState::Paid { by: PaidBy::Onchain, deadline, retry_at: None };
			set_onchain_state(&mut order, PaymentState::Paid);
			order.note(turn.now, "paid", format!("{} on-chain", order.order_total));
			deliver::open_if_possible(turn, &mut order);
		}
		// A reorganisation, or a double spend, took the payment away before we opened.
		OrderState::Paid { by: PaidBy::Onchain, .. } if !enough => {
			order.state = OrderState::AwaitingPayment;
			order.batch = None;
			set_onchain_state(&mut order, PaymentState::ExpectPayment);
			order.note(turn.now, "onchain", UNCONFIRMED_AGAIN.to_string());
			expire(turn, &mut order);
		}
		OrderState::Paid { by: PaidBy::Onchain, .. } => deliver::open_if_possible(turn, &mut order),
		// If the funding is out it is too late, else the channel is not opened and the order waits again.
		OrderState::Opening { by: PaidBy::Onchain, .. } if !enough => abandon(turn, &mut order, UNCONFIRMED_AGAIN),
		OrderState::Completed | OrderState::Failed { .. } | OrderState::Refunding { .. } => {
			refund::reconsider(turn, &mut order);
		}
		_ => {}
	}
	turn.put_order(order);
}

/// The payment of a delivered order is gone (double-spent), or is back: booked, and the client remembered for it (R5).
pub(super) fn watch_loss(turn: &mut Turn<'_>, order: &mut Order) {
	let delivered = order.state == OrderState::Completed && order.paid_by == Some(PaidBy::Onchain);
	let gone = order.received(0) < order.order_total;
	let Some(onchain) = order.onchain.as_mut().filter(|onchain| delivered && onchain.lost != gone) else { return };
	onchain.lost = gone;
	let pushed = sell::pushed(order);
	let fee = Msat(order.order_total.to_msat().unwrap_or(Msat::ZERO).0.saturating_sub(pushed.0));
	let client = Some(order.client);
	let book = if gone { ledger::spend } else { ledger::earn };
	book(turn, EntryKind::OrderFee, fee, client, &order.id);
	if pushed > Msat::ZERO {
		ledger::lost(turn, pushed, gone, client, &order.id);
	}
	if gone {
		let mut client = turn.client(&order.client);
		client.offences = client.offences.saturating_add(1);
		turn.put_client(client);
	}
	let text = if gone { "the payment is gone, and the channel was delivered" } else { "the payment is back" };
	order.note(turn.now, "loss", text.to_string());
}

pub(super) fn set_onchain_state(order: &mut Order, state: PaymentState) {
	if let Some(onchain) = &mut order.onchain {
		onchain.state = state;
	}
}

/// Do the outputs that count make up the order's total? (L1-27)
pub(super) fn is_paid_onchain(turn: &Turn<'_>, order: &Order) -> bool {
	let policy = &turn.policy().lsps1;
	let Some(onchain) = &order.onchain else { return false };
	let unconfirmed_is_served = may_risk(turn, order);
	let counts = |output: &Received| {
		let unconfirmed = output.feerate.is_some_and(|feerate| feerate >= onchain.min_fee_for_0conf);
		output.confirmations >= u32::from(policy.onchain_confirmations) || (unconfirmed_is_served && unconfirmed)
	};
	sum_of(&onchain.received, counts) >= order.order_total.0
}

/// May this order be served on a payment that is not confirmed, besides all others that are? (R5)
fn may_risk(turn: &Turn<'_>, order: &Order) -> bool {
	let policy = &turn.policy().lsps1;
	let (mut count, mut value) = (1_u32, order.order_total);
	for other in turn.book.orders_at_risk().filter(|other| other.id != order.id) {
		count = count.saturating_add(1);
		value = value.saturating_add(other.order_total);
	}
	order.order_total <= policy.max_unconfirmed_order_sat
		&& count <= policy.max_unconfirmed_orders
		&& value <= policy.max_unconfirmed_total_sat
}

fn sum_of(received: &[Received], counts: impl Fn(&Received) -> bool) -> u64 {
	received.iter().filter(|output| counts(output)).fold(0, |sum, output| output.value.0.saturating_add(sum))
}

/// [`Input::Tick`](crate::input::Input::Tick): deadlines, in time and in blocks, and refunds that were not worth their
/// transaction, or unconfirmed, when they were last looked at.
pub(crate) fn tick(turn: &mut Turn<'_>) {
	let ids: Vec<String> = turn.book.live_orders().map(|order| order.id.clone()).collect();
	for id in ids {
		let Some(mut order) = turn.order(&id) else { continue };
		let due = order.state_deadline().is_some_and(|deadline| turn.now >= deadline);
		match order.state {
			OrderState::Preparing if due => {
				sell::prepare_failed(turn, order, "invoice and address were not made in time");
				continue;
			}
			OrderState::AwaitingPayment => expire(turn, &mut order),
			OrderState::Paid { .. } if due => give_up(turn, &mut order, "the client was not here in time"),
			OrderState::Opening { .. } if due => abandon(turn, &mut order, "the channel was not funded in time"),
			OrderState::Abandoning { .. } if due => abandon_again(turn, &mut order),
			OrderState::Paid { .. } if is_too_late(turn, held_until(&order)) => {
				give_up(turn, &mut order, ABOUT_TO_EXPIRE)
			}
			OrderState::Opening { .. } if is_too_late(turn, held_until(&order)) => {
				abandon(turn, &mut order, ABOUT_TO_EXPIRE);
			}
			OrderState::Funded { .. } => lapse::watch_claim(turn, &mut order),
			_ => {}
		}
		splice::tick(turn, &mut order);
		batch::hurry(turn, &mut order);
		lapse::watch(turn, &mut order);
		refund::tick(turn, &mut order);
		turn.put_order(order);
	}
	batch::tick(turn);
	let due = |order: &&Order| refund::due(turn, order).is_some();
	let ids: Vec<String> = turn.book.surplus_orders().filter(due).map(|order| order.id.clone()).collect();
	for id in ids {
		let Some(mut order) = turn.order(&id) else { continue };
		refund::consider(turn, &mut order);
		turn.put_order(order);
	}
}

fn expire(turn: &mut Turn<'_>, order: &mut Order) {
	if turn.now >= order.expires_at {
		give_up(turn, order, "not paid in time");
	}
}
