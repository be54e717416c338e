//! Money that arrived on-chain and is not for a channel goes back: one transaction per order, ever.

use super::pay::sum_of;
use crate::book::{Order, OrderState, PaidBy, PaymentState, Refund};
use crate::input::Action;
use crate::money::Sat;
use crate::turn::Turn;
use bitcoin::Txid;

/// Weight of a refund: two taproot inputs, the client's output, the change.
const REFUND_WEIGHT: u64 = 850;
/// The largest dust limit of a segwit output.
const DUST: Sat = Sat(330);

/// Decides the refund of a finished order, once all that arrived is confirmed and it is worth a transaction: with one
/// transaction only, it should take all of it.
pub(super) fn consider(turn: &mut Turn<'_>, order: &mut Order) {
	let kept = match &order.state {
		OrderState::Completed if paid_onchain(order) => order.order_total,
		OrderState::Completed | OrderState::Failed { .. } => Sat::ZERO,
		_ => return,
	};
	let (Some(address), Some(onchain)) = (order.refund_address.clone(), &mut order.onchain) else { return };
	if onchain.refund.is_some() || onchain.received.iter().any(|output| output.confirmations == 0) {
		return;
	}
	let surplus = Sat(sum_of(&onchain.received, |_| true)).saturating_sub(kept);
	let feerate = turn.world.feerate.unwrap_or_default();
	if surplus <= DUST.saturating_add(feerate.cost_ceil(REFUND_WEIGHT)) {
		return;
	}
	onchain.refund = Some(Refund { address, amount: surplus, txid: None });
	order.note(turn.now, "refund", format!("{surplus} less the miner's fee"));
	if let OrderState::Failed { reason } = &order.state {
		order.state = OrderState::Refunding { reason: reason.clone() };
	}
	ask(turn, order);
}

fn paid_onchain(order: &Order) -> bool {
	order.paid_by == Some(PaidBy::Onchain)
}

/// Asks the node to send the refund that was decided.
pub(super) fn ask(turn: &mut Turn<'_>, order: &Order) {
	if let Some(refund) = order.pending_refund() {
		let (address, amount) = (refund.address.clone(), refund.amount);
		turn.act(Action::Refund { order: order.id.clone(), address, amount });
	}
}

/// [`Input::RefundSent`](crate::input::Input::RefundSent).
pub(crate) fn refund_sent(turn: &mut Turn<'_>, mut order: Order, txid: Txid, fee: Sat) {
	let Some(onchain) = &mut order.onchain else { return };
	let Some(refund) = onchain.refund.as_mut().filter(|refund| refund.txid.is_none()) else { return };
	refund.txid = Some(txid);
	if let OrderState::Refunding { reason } = &order.state {
		onchain.state = PaymentState::Refunded;
		order.state = OrderState::Failed { reason: reason.clone() };
	}
	order.note(turn.now, "refunded", format!("{txid}, miner's fee {fee}"));
	turn.put_order(order);
}
