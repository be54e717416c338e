//! A channel that the client has is made larger, instead of another one being opened: see `docs/decisions/0004`.

use super::deliver;
use crate::book::{Order, OrderState, Splice};
use crate::input::{Action, SpliceIn};
use crate::money::{FeePerKw, Msat, Sat};
use crate::turn::Turn;

/// So long the client has to sign, in seconds, before the order gets a channel of its own.
pub(super) const SIGNED_WITHIN_SECS: u64 = 60;

/// The channel that is made larger for this order: the largest of those that can be. None if the operator does not want that,
/// if it went wrong before, if part of what was ordered is the client's (a splice pushes nothing), or if the order is not to
/// wait for a confirmation (a splice always does). What was ordered must be able to arrive at once. And its feerate must be one
/// that is mined soon: a payment is held until it is, and not for longer than its HTLC lasts.
pub(super) fn begin(turn: &Turn<'_>, order: &Order, feerate: FeePerKw) -> Option<Splice> {
	let policy = &turn.policy().lsps1;
	let is_soon = turn.world.feerate.is_some_and(|live| feerate >= live);
	let may = policy.splice && !order.own_channel && is_soon;
	if !may || order.client_balance > Sat::ZERO || order.required_channel_confirmations == 0 {
		return None;
	}
	let fits = |capacity: Sat| capacity.saturating_add(order.lsp_balance) <= policy.max_channel_sat;
	let channels = turn.world.peer.growable.iter();
	let carries = |most: Msat| order.lsp_balance.to_msat().is_some_and(|all| all <= most);
	let fitting = channels.filter(|channel| channel.public == order.announce_channel && fits(channel.capacity));
	let fitting = fitting.filter(|channel| carries(channel.in_flight));
	let largest = fitting.max_by_key(|channel| (channel.capacity, channel.channel_id))?;
	Some(Splice {
		channel_id: largest.channel_id,
		user_channel_id: largest.user_channel_id,
		begun: turn.now,
		until: turn.now.plus_secs(SIGNED_WITHIN_SECS),
	})
}

/// What the node is asked for.
pub(super) fn action(order: &Order, splice: &Splice, feerate: FeePerKw) -> Action {
	Action::SpliceIn(SpliceIn {
		order: order.id.clone(),
		user_channel_id: order.user_channel_id,
		peer: order.client,
		channel_id: splice.channel_id,
		amount: order.lsp_balance,
		feerate,
	})
}

/// The client could not sign while we were away.
pub(super) fn started(turn: &Turn<'_>, order: &mut Order) {
	if let Some(splice) = &mut order.splice {
		splice.begun = turn.now;
	}
}

/// The client takes its time: the node gives the splice up, unless our signatures are out. Then it waits for a block.
pub(super) fn tick(turn: &mut Turn<'_>, order: &mut Order) {
	if order.splice_deadline().is_none_or(|until| turn.now < until) {
		return;
	}
	if let Some(splice) = &mut order.splice {
		splice.until = turn.now.plus_secs(SIGNED_WITHIN_SECS);
		turn.act(Action::AbandonChannel { user_channel_id: order.user_channel_id, peer: order.client });
	}
}

/// It went wrong, and nothing of it is in the chain or will be: the order gets a channel of its own, and is not tried like this
/// again.
pub(super) fn failed(turn: &mut Turn<'_>, order: &mut Order) {
	let OrderState::Opening { by, deadline } = order.state else { return };
	order.own_channel = true;
	order.state = OrderState::Paid { by, deadline, retry_at: None };
	deliver::open_if_possible(turn, order);
}

/// The channel with this mark is closed, and with it what was added to it. A splice that is not in the chain is another matter:
/// the node tells what becomes of it.
pub(crate) fn closed(turn: &mut Turn<'_>, user_channel_id: u128, reason: &str) {
	let grown: Vec<Order> = turn.book.orders_grown_into(user_channel_id).cloned().collect();
	for mut order in grown {
		let now = turn.now;
		let Some(channel) = order.channel.as_mut().filter(|channel| channel.funding.is_some()) else { continue };
		if channel.closed_at.is_none() {
			channel.closed_at = Some(now);
			order.note(now, "closed", reason.to_string());
			turn.put_order(order);
		}
	}
}
