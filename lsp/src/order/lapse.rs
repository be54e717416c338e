//! A held payment that ran out while nobody could say whether the channel's funding is out, because the chain backend
//! was away. It goes back in time; the funding is withdrawn if it is not out, else the channel is delivered and nobody
//! pays for it.

use super::{LAPSE_MARGIN_BLOCKS, UNCLAIMED_BLOCKS, refund, sell};
use crate::book::{EntryKind, Order, OrderState, PaidBy, PaymentState};
use crate::input::Action;
use crate::ledger;
use crate::money::Msat;
use crate::turn::Turn;

const UNPAID: &str = "delivered and not paid: its payment had to go back before the chain backend told of the funding";

/// Has LDK failed the order's held payment, or is about to?
fn is_over(turn: &Turn<'_>, order: &Order) -> bool {
	let deadline = order.lightning.as_ref().and_then(|lightning| lightning.claim_deadline);
	deadline.is_some_and(|height| turn.world.height.saturating_add(LAPSE_MARGIN_BLOCKS) >= height)
}

/// A payment of an order that is being opened goes back when it must, and the order remembers that.
pub(super) fn watch(turn: &mut Turn<'_>, order: &mut Order) {
	let by_lightning = matches!(
		order.state,
		OrderState::Opening { by: PaidBy::Lightning, .. } | OrderState::Abandoning { by: PaidBy::Lightning, .. }
	);
	if !by_lightning || order.lapsed || !is_over(turn, order) {
		return;
	}
	let Some(lightning) = &mut order.lightning else { return };
	lightning.state = PaymentState::Refunded;
	turn.act(Action::FailPayment { payment_hash: lightning.payment_hash });
	order.lapsed = true;
	order.note(turn.now, "lapsed", "the held payment goes back; nobody knows yet if the funding is out".to_string());
}

/// The claim of a delivered order's payment came too late: nothing is heard of it any more.
pub(super) fn watch_claim(turn: &mut Turn<'_>, order: &mut Order) {
	let deadline = order.lightning.as_ref().and_then(|lightning| lightning.claim_deadline);
	let is_gone = deadline.is_some_and(|height| height.saturating_add(UNCLAIMED_BLOCKS) <= turn.world.height);
	if is_gone && order.state == (OrderState::Funded { by: PaidBy::Lightning }) {
		order.lapsed = true;
		unpaid(turn, order);
	}
}

/// Delivered, and nobody pays: what was pushed is lost, and the operator is told. The client did nothing wrong.
pub(super) fn unpaid(turn: &mut Turn<'_>, order: &mut Order) {
	if let Some(lightning) = &mut order.lightning {
		lightning.state = PaymentState::Refunded;
	}
	let pushed = sell::pushed(order);
	if pushed > Msat::ZERO {
		ledger::spend(turn, EntryKind::ClientBalance, pushed, Some(order.client), &order.id);
	}
	order.paid_by = None;
	order.state = OrderState::Failed { reason: UNPAID.to_string() };
	order.note(turn.now, "loss", format!("{UNPAID}; {pushed} pushed"));
	let text = format!("order {}: {UNPAID}. Its channel carries no lease: it may be closed at any time", order.id);
	turn.act(Action::Warn { code: "order_unpaid", text });
	refund::consider(turn, order);
}

/// The payment of an order that was taken for unpaid was claimed after all: what was written off is ours.
pub(super) fn found(turn: &mut Turn<'_>, order: &mut Order) {
	order.lapsed = false;
	order.paid_by = Some(PaidBy::Lightning);
	if let Some(lightning) = &mut order.lightning {
		lightning.state = PaymentState::Paid;
	}
	let pushed = sell::pushed(order);
	if pushed > Msat::ZERO {
		ledger::earn(turn, EntryKind::ClientBalance, pushed, Some(order.client), &order.id);
	}
	order.note(turn.now, "paid", "its payment was claimed after all".to_string());
}

/// Was it delivered although its payment had lapsed?
pub(super) fn is_unpaid(order: &Order) -> bool {
	let is_funded = order.channel.as_ref().is_some_and(|channel| channel.funding.is_some());
	order.lapsed && is_funded && matches!(order.state, OrderState::Failed { .. } | OrderState::Refunding { .. })
}
