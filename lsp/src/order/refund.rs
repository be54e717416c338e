//! Money that arrived on-chain and is not for a channel goes back (L1-28, L1-29): one refund at a time, each under a
//! number of its own, until nothing is left that is worth a transaction.

use crate::book::{DUST, EntryKind, MAX_BUMPS, Order, OrderState, PaymentState, Refund, ReplacedRefund, push_bounded};
use crate::input::{Action, Input};
use crate::ledger;
use crate::money::Sat;
use crate::turn::Turn;
use bitcoin::{OutPoint, Txid};

/// Weight of a refund: two taproot inputs, the client's output, the change.
const REFUND_WEIGHT: u64 = 850;
/// The fee of a refund that is not mined so many seconds after it was sent is raised (bLIP-51's six hours).
pub const BUMP_AFTER_SECS: u64 = 6 * 3600;
/// If that could not be done, it is tried again after so many seconds.
pub const BUMP_AGAIN_SECS: u64 = 600;
/// Payments named in one refund, the largest first: a transaction spends no more than that.
const MAX_FROM: usize = 100;

/// Decides the next refund of a finished order, once it is [`due`].
pub(super) fn consider(turn: &mut Turn<'_>, order: &mut Order) {
	let (Some(amount), Some(address)) = (due(turn, order), order.refund_address.clone()) else { return };
	let Some(onchain) = &mut order.onchain else { return };
	if let Some(settled) = onchain.refund.take() {
		onchain.refunded = onchain.refunded.saturating_add(settled.amount);
		onchain.refunds = onchain.refunds.saturating_add(1);
	}
	onchain.refund = Some(Refund {
		address,
		amount,
		txid: None,
		borne: Sat::ZERO,
		replaced: Vec::new(),
		confirmations: 0,
		bump_at: None,
	});
	order.note(turn.now, "refund", format!("{amount} less the miner's fee"));
	if let OrderState::Failed { reason } = &order.state {
		order.state = OrderState::Refunding { reason: reason.clone() };
	}
	ask(turn, order);
}

/// What is to be refunded now: what is confirmed as deep as a payment must be, if it is worth a transaction at the
/// feerate of the day. What is not confirmed yet goes back on its own later.
pub(super) fn due(turn: &Turn<'_>, order: &Order) -> Option<Sat> {
	let surplus = order.surplus(confirmed(turn))?;
	let cost = turn.world.feerate?.cost_ceil(REFUND_WEIGHT);
	Some(surplus).filter(|surplus| *surplus > DUST.saturating_add(cost))
}

fn confirmed(turn: &Turn<'_>) -> u32 {
	u32::from(turn.policy().lsps1.onchain_confirmations)
}

/// Asks the node to send the refund that was decided.
pub(super) fn ask(turn: &mut Turn<'_>, order: &Order) {
	let (Some(refund), Some(onchain)) = (order.pending_refund(), &order.onchain) else { return };
	let mut from: Vec<_> = onchain.received.iter().filter(|output| output.confirmations >= confirmed(turn)).collect();
	from.sort_by_key(|output| (std::cmp::Reverse(output.value), output.outpoint));
	let from: Vec<OutPoint> = from.into_iter().take(MAX_FROM).map(|output| output.outpoint).collect();
	let (address, amount, number) = (refund.address.clone(), refund.amount, onchain.refunds);
	turn.act(Action::Refund { order: order.id.clone(), number, address, amount, from });
}

/// A refund that was decided and is not out yet is withdrawn if the payment is no longer there: it is decided anew,
/// under the same number, when it is back. If the node has made it meanwhile, it says so.
pub(super) fn reconsider(turn: &mut Turn<'_>, order: &mut Order) {
	let there = order.received(confirmed(turn));
	if order.pending_refund().is_some() && there < order.kept().saturating_add(order.refunded()) {
		if let Some(onchain) = &mut order.onchain {
			onchain.refund = None;
		}
		end(order);
		order.note(turn.now, "refund", "withdrawn: the payment is no longer confirmed".to_string());
	}
	consider(turn, order);
}

/// `Refunding` is over.
fn end(order: &mut Order) {
	if let OrderState::Refunding { reason } = &order.state {
		order.state = OrderState::Failed { reason: reason.clone() };
	}
}

/// [`Input::RefundSent`]: out, or out again with a higher fee.
pub(crate) fn refund_sent(turn: &mut Turn<'_>, mut order: Order, input: &Input) {
	let Input::RefundSent { number, txid, amount, fee, borne, .. } = input else { return };
	let (txid, amount, borne) = (*txid, *amount, *borne);
	let Some(address) = order.refund_address.clone() else { return };
	let Some(onchain) = order.onchain.as_mut().filter(|onchain| onchain.refunds == *number) else { return };
	// It may have been withdrawn when it was just made: then it is taken back in.
	let refund = onchain.refund.get_or_insert_with(|| Refund {
		address,
		amount,
		txid: None,
		borne,
		replaced: Vec::new(),
		confirmations: 0,
		bump_at: None,
	});
	if refund.txid == Some(txid) || refund.confirmations > 0 || refund.replaced.iter().any(|old| old.txid == txid) {
		return;
	}
	if let Some(txid) = refund.txid {
		push_bounded(&mut refund.replaced, ReplacedRefund { txid, borne: refund.borne }, MAX_BUMPS);
	}
	refund.txid = Some(txid);
	refund.amount = amount;
	refund.borne = borne;
	refund.bump_at = Some(turn.now.plus_secs(BUMP_AFTER_SECS));
	if order.state != OrderState::Completed {
		onchain.state = PaymentState::Refunded;
	}
	end(&mut order);
	order.note(turn.now, "refunded", format!("{txid}, miner's fee {fee}"));
	turn.put_order(order);
}

/// [`Input::RefundSeen`]: settled when it is deep in the chain; what we bear of it is booked then, and what else
/// arrived goes
/// back next.
pub(crate) fn refund_seen(turn: &mut Turn<'_>, mut order: Order, txid: Txid, confirmations: u32) {
	let Some(refund) = order.onchain.as_mut().and_then(|onchain| onchain.refund.as_mut()) else { return };
	let replaced = refund.replaced.iter().find(|old| old.txid == txid).map(|old| old.borne);
	let borne = if refund.txid == Some(txid) { Some(refund.borne) } else { replaced };
	let Some(borne) = borne.filter(|_| !refund.is_settled()) else { return };
	if let Some(current) = refund.txid.filter(|current| *current != txid) {
		// One that was replaced is in the chain after all.
		refund.replaced.retain(|old| old.txid != txid);
		refund.replaced.push(ReplacedRefund { txid: current, borne: refund.borne });
		refund.txid = Some(txid);
		refund.borne = borne;
	}
	if confirmations == 0 && refund.confirmations > 0 {
		refund.bump_at = Some(turn.now.plus_secs(BUMP_AFTER_SECS));
	}
	let first = refund.confirmations == 0 && confirmations > 0;
	refund.confirmations = confirmations;
	let settled = refund.is_settled();
	if first {
		order.note(turn.now, "refunded", format!("{txid} is in the chain"));
	}
	if settled {
		let reference = txid.to_string();
		if let Some(borne) = borne.to_msat().filter(|borne| borne.0 > 0)
			&& !turn.is_booked(EntryKind::RefundCost, &reference)
		{
			ledger::spend(turn, EntryKind::RefundCost, borne, Some(order.client), &reference);
		}
		consider(turn, &mut order);
	}
	turn.put_order(order);
}

/// [`Input::RefundLost`]: nothing is given back under this number any more. If the payment comes back after all, it
/// goes back
/// under the next.
pub(crate) fn refund_lost(turn: &mut Turn<'_>, mut order: Order, number: u32) {
	let Some(onchain) = order.onchain.as_mut().filter(|onchain| onchain.refunds == number) else { return };
	if onchain.refund.take_if(|refund| refund.txid.is_some() && refund.confirmations == 0).is_none() {
		return;
	}
	onchain.refunds = onchain.refunds.saturating_add(1);
	order.note(turn.now, "refund", "withdrawn: the payment that it gave back is gone".to_string());
	consider(turn, &mut order);
	turn.put_order(order);
}

/// [`Input::Tick`]: the fee of a refund that is not mined in time is raised.
pub(super) fn tick(turn: &mut Turn<'_>, order: &mut Order) {
	let number = order.onchain.as_ref().map_or(0, |onchain| onchain.refunds);
	let Some(refund) = order.onchain.as_mut().and_then(|onchain| onchain.refund.as_mut()) else { return };
	if refund.is_settled() || refund.bump_due().is_none_or(|at| turn.now < at) {
		return;
	}
	refund.bump_at = Some(turn.now.plus_secs(BUMP_AGAIN_SECS));
	turn.act(Action::BumpRefund { order: order.id.clone(), number, address: refund.address.clone() });
}
