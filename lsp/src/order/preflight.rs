//! Before payment is offered the client is asked to accept the channel (R6): it is opened up to its funding, and
//! dropped.
//!
//! Only a refusal ends the order. A client that is silent, or that LDK cannot try such a channel with, is offered
//! payment as if nothing had been tried: it may still refuse when it has paid, and gets its money back then.

use super::{deliver, give_up, sell};
use crate::book::{NodeId, Order, OrderState};
use crate::input::Action;
use crate::money::FeePerKw;
use crate::protocol::lsps0::{self, RpcError};
use crate::turn::Turn;

/// A client that refused the channels that it ordered counts them as unpaid orders for so many seconds.
pub(crate) const REFUSED_COUNTS_SECS: u64 = 600;
/// What a client says when it refuses is shown up to this length.
const MAX_REFUSAL: usize = 160;

/// The next thing to do for an order that is being made: try the opening, or prepare its payment at once.
pub(super) fn begin(turn: &mut Turn<'_>, order: &Order, feerate: FeePerKw) {
	if !turn.policy().lsps1.preflight || !turn.world.peer.connected {
		return sell::prepare(turn, order);
	}
	let open = deliver::channel(order, u128::from_be_bytes(turn.random("trial")), feerate);
	turn.act(Action::TryOpening { order: order.id.clone(), open });
}

/// [`Input::OpeningTried`](crate::input::Input::OpeningTried).
pub(crate) fn opening_tried(turn: &mut Turn<'_>, mut order: Order, refusal: Option<&str>) {
	if order.state != OrderState::Preparing {
		return;
	}
	let Some(refusal) = refusal else { return sell::prepare(turn, &order) };
	let said: String = refusal.chars().filter(|c| !c.is_control()).take(MAX_REFUSAL).collect();
	if let Some(reply_to) = &order.reply_to {
		let error = RpcError::rejected(&format!("your node refuses such a channel: {said}"));
		let bytes = lsps0::refuse(Some(reply_to), &error, turn.string_error_data(&order.client));
		turn.send(order.client, bytes);
	}
	order.refused = true;
	give_up(turn, &mut order, &format!("the client refuses such a channel: {said}"));
	turn.put_order(order);
}

/// Orders that this client, or any, refused itself a moment ago.
pub(crate) fn refused_lately(turn: &Turn<'_>, client: Option<&NodeId>) -> usize {
	let since = crate::time::Timestamp(turn.now.0.saturating_sub(REFUSED_COUNTS_SECS.saturating_mul(1000)));
	turn.book
		.dead_orders_since(since)
		.filter(|order| order.refused && client.is_none_or(|client| order.client == *client))
		.count()
}
