//! bLIP-51: channels on order.
//!
//! `Preparing -> AwaitingPayment -> Paid -> Opening -> Funded -> Completed`, or by way of `Abandoning` and `Refunding`
//! to `Failed`. See `docs/core.md`.
//!
//! On-chain payment is offered as bLIP-51's "0 confirmations above `min_fee_for_0conf`", because LDK's client half can
//! read nothing else. A payment below that feerate, or for more than `lsps1.max_unconfirmed_order_sat`, counts when it
//! has `lsps1.onchain_confirmations`, which bLIP-51 leaves to the LSP.

mod batch;
mod deliver;
mod lapse;
mod pay;
mod preflight;
mod refund;
mod sell;
mod splice;

pub(crate) use batch::all_signed;
pub use batch::{MAX_TOGETHER, TOGETHER_SECS};
pub(crate) use deliver::{
	channel_closed, channel_ready, claimed, connected, funded, funding_kept, open_failed, started,
};
pub(crate) use pay::{address_activity, payment_held, tick};
pub(crate) use preflight::{opening_tried, refused_lately};
pub use refund::{BUMP_AFTER_SECS, BUMP_AGAIN_SECS};
pub(crate) use refund::{refund_lost, refund_seen, refund_sent};
pub(crate) use sell::{create_order, get_order, payment_prepared, prepare_failed};
pub(crate) use splice::closed as grown_closed;

use crate::book::{Batch, MAX_ATTEMPTS_KEPT, Order, OrderState, PaidBy, PaymentState, SoldChannel, push_bounded};
use crate::input::Action;
use crate::money::Sat;
use crate::turn::Turn;

/// So many blocks before LDK would fail a held payment, we do: a channel that is not funded by then comes too late.
pub const CLAIM_MARGIN_BLOCKS: u32 = 6;

/// So many blocks before LDK would fail a held payment whose channel's fate is not known, we do: then its payment has
/// lapsed.
pub const LAPSE_MARGIN_BLOCKS: u32 = 1;
/// A payment that we wanted to claim, and of which LDK says nothing so many blocks after it could have failed it, is
/// gone.
pub const UNCLAIMED_BLOCKS: u32 = 6;

/// So many seconds after we could not open a channel for reasons of our own we try again.
pub const OPEN_AGAIN_SECS: u64 = 10;
/// After so many seconds the node is asked again to abandon a channel, if it has not answered.
pub const ABANDON_AGAIN_SECS: u64 = 5;

/// Asks the node to stop the channel of an order that is `Opening`. The funding, and what is pushed with it, may be out
/// already: until the node has answered, the payment is neither given back nor claimed.
fn abandon(turn: &mut Turn<'_>, order: &mut Order, reason: &str) {
	let OrderState::Opening { by, deadline } = order.state else { return };
	order.note(turn.now, "fail", format!("abandoning the channel: {reason}"));
	order.state = OrderState::Abandoning { by, deadline, reason: reason.to_string() };
	abandon_again(turn, order);
}

/// Asks once more, and sets the time for the next.
fn abandon_again(turn: &mut Turn<'_>, order: &mut Order) {
	if let OrderState::Abandoning { deadline, .. } = &mut order.state {
		*deadline = turn.now.plus_secs(ABANDON_AGAIN_SECS);
		turn.act(Action::AbandonChannel { user_channel_id: order.user_channel_id, peer: order.client });
	}
}

/// Ends an order for which nothing was delivered and nothing is being opened: what is held goes back now, what was paid
/// on-chain is refunded.
fn give_up(turn: &mut Turn<'_>, order: &mut Order, reason: &str) {
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
	order.splice = None;
	if order.batch_id().is_some() {
		order.batch = Some(Box::new(Batch::Alone));
	}
}

/// How the order was paid, and is not delivered yet.
fn paid_by(order: &Order) -> Option<PaidBy> {
	match order.state {
		OrderState::Paid { by, .. } | OrderState::Opening { by, .. } | OrderState::Abandoning { by, .. } => Some(by),
		_ => None,
	}
}

fn requested(order: &Order) -> SoldChannel {
	SoldChannel::requested(order.capacity())
}
