//! Money that arrived on-chain and is not for a channel goes back: one transaction per order, ever.

use crate::book::{DUST, Order, OrderState, PaymentState, Refund};
use crate::input::Action;
use crate::money::Sat;
use crate::turn::Turn;
use bitcoin::Txid;

/// Weight of a refund: two taproot inputs, the client's output, the change.
const REFUND_WEIGHT: u64 = 850;

/// Decides the refund of a finished order, once it is [`due`]: with one transaction only, it should take all of it.
pub(super) fn consider(turn: &mut Turn<'_>, order: &mut Order) {
	let (Some(amount), Some(address)) = (due(turn, order), order.refund_address.clone()) else { return };
	let Some(onchain) = &mut order.onchain else { return };
	onchain.refund = Some(Refund { address, amount, txid: None });
	order.note(turn.now, "refund", format!("{amount} less the miner's fee"));
	if let OrderState::Failed { reason } = &order.state {
		order.state = OrderState::Refunding { reason: reason.clone() };
	}
	ask(turn, order);
}

/// What is to be refunded now: all that arrived is confirmed, and it is worth a transaction at the feerate of the day.
pub(super) fn due(turn: &Turn<'_>, order: &Order) -> Option<Sat> {
	let surplus = order.surplus()?;
	let confirmed = order.onchain.as_ref()?.received.iter().all(|output| output.confirmations > 0);
	let cost = turn.world.feerate?.cost_ceil(REFUND_WEIGHT);
	Some(surplus).filter(|surplus| confirmed && *surplus > DUST.saturating_add(cost))
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
