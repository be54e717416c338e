//! bLIP-51: channels on order.
//!
//! `Preparing -> AwaitingPayment -> Paid -> Opening -> Funded -> Completed`, or by way of `Refunding` to `Failed`. See
//! `docs/core.md`.
//!
//! On-chain payment is offered as bLIP-51's "0 confirmations above `min_fee_for_0conf`", because LDK's client half can
//! read nothing else. A payment below that feerate, or for more than `lsps1.max_unconfirmed_order_sat`, counts when it
//! has `lsps1.onchain_confirmations`, which bLIP-51 leaves to the LSP.

mod deliver;
mod pay;
mod refund;
mod sell;

pub(crate) use deliver::{channel_closed, channel_ready, claimed, connected, funded, open_failed, started};
pub(crate) use pay::{address_activity, payment_held, tick};
pub(crate) use refund::refund_sent;
pub(crate) use sell::{create_order, get_order, payment_prepared, prepare_failed};

use crate::book::{MAX_ATTEMPTS_KEPT, Order, OrderState, PaidBy, PaymentState, SoldChannel, push_bounded};
use crate::input::Action;
use crate::money::Sat;
use crate::turn::Turn;

/// So many blocks before LDK would fail a held payment, we do: a channel that is not funded by then comes too late.
pub const CLAIM_MARGIN_BLOCKS: u32 = 6;

/// Ends an order for which nothing was delivered: what is held goes back now, what was paid on-chain is refunded.
fn give_up(turn: &mut Turn<'_>, order: &mut Order, reason: &str) {
	let opening = order.channel.as_ref().is_some_and(|channel| channel.funding.is_none());
	if opening {
		turn.act(Action::AbandonChannel { user_channel_id: order.user_channel_id, peer: order.client });
		forget_attempt(turn, order);
	}
	if let Some(lightning) = &mut order.lightning {
		if lightning.state == PaymentState::Hold {
			turn.act(Action::FailPayment { payment_hash: lightning.payment_hash });
		}
		lightning.state = PaymentState::Refunded;
	}
	if let Some(onchain) = &mut order.onchain
		&& onchain.received.is_empty()
	{
		onchain.state = PaymentState::Refunded;
	}
	order.reserved = Sat::ZERO;
	order.state = OrderState::Failed { reason: reason.to_string() };
	order.note(turn.now, "fail", reason.to_string());
	refund::consider(turn, order);
}

/// Forgets the attempt at a channel: whatever LDK still says of it is about the past.
fn forget_attempt(turn: &Turn<'_>, order: &mut Order) {
	let fresh = u128::from_be_bytes(turn.random(&format!("{} {}", order.id, order.user_channel_id)));
	push_bounded(&mut order.earlier_channel_ids, order.user_channel_id, MAX_ATTEMPTS_KEPT);
	order.user_channel_id = fresh;
	order.channel = None;
}

/// How the order was paid, and is not delivered yet.
fn paid_by(order: &Order) -> Option<PaidBy> {
	match order.state {
		OrderState::Paid { by, .. } | OrderState::Opening { by, .. } => Some(by),
		_ => None,
	}
}

fn requested(order: &Order) -> SoldChannel {
	SoldChannel::requested(order.capacity())
}
