//! Channels of several orders that one transaction funds: see `docs/decisions/0008`.
//!
//! A paid order that can wait does so for [`batch_window_secs`](crate::policy::Lsps1Policy::batch_window_secs) at most. When the
//! window of the first is over, all that wait and whose clients are here are opened together. Whatever goes wrong, an order is
//! tried together with others once, and then alone.

use super::{CLAIM_MARGIN_BLOCKS, deliver, pay, requested};
use crate::admission;
use crate::book::{Batch, Order, OrderState};
use crate::input::{Action, OpenChannel};
use crate::money::FeePerKw;
use crate::time::SECS_PER_BLOCK;
use crate::turn::Turn;
use bitcoin::Txid;

/// So many orders at most share a transaction: what one of them does to the others stays small.
pub const MAX_TOGETHER: usize = 10;
/// So long the clients have to accept their channels, and once or twice as long to sign, in seconds.
const ANSWER_SECS: u64 = 60;
/// What an order must have left after the window: time to be opened together, and if that fails, alone.
pub const TOGETHER_SECS: u64 = 600;
/// The same for a held payment, in blocks, which may come fast.
const TOGETHER_BLOCKS: u32 = 18;

/// Does this paid order, which could be opened now, wait for others? Then it is noted until when.
pub(super) fn waits(turn: &Turn<'_>, order: &mut Order, feerate: FeePerKw) -> bool {
	if order.waits_until().is_some() {
		// The tick decides, which is due at the same time.
		return true;
	}
	if !can_wait(turn, order, feerate) {
		return false;
	}
	let others = waiting(turn, order);
	if others.iter().any(|other| other.client == order.client) {
		return false;
	}
	let window = turn.now.plus_secs(turn.policy().lsps1.batch_window_secs);
	let first = others.iter().filter_map(Order::waits_until).min().unwrap_or(window);
	let is_full = others.len().saturating_add(1) >= MAX_TOGETHER;
	let until = if is_full { turn.now } else { first.min(window) };
	order.batch = Some(Box::new(Batch::Waiting { until }));
	order.note(turn.now, "wait", format!("until {until} for orders to share a funding transaction with"));
	true
}

/// All others that wait, as this step has left them so far.
fn waiting(turn: &Turn<'_>, order: &Order) -> Vec<Order> {
	// One that began to wait in this very step is of the same client: a step is about one, or a tick, in which none begins.
	let of_the_book = turn.book.waiting_orders().map(|other| other.id.clone());
	let of_the_client = turn.book.live_orders().filter(|other| other.client == order.client);
	let mut ids: Vec<String> = of_the_book.chain(of_the_client.map(|other| other.id.clone())).collect();
	ids.sort_unstable();
	ids.dedup();
	let now = ids.iter().filter(|id| **id != order.id).filter_map(|id| turn.order(id));
	now.filter(|other| other.waits_until().is_some()).collect()
}

/// Not if the channel is to be usable at once, if it was tried before, if its client's channel is made larger for it, or if its
/// time is short.
fn can_wait(turn: &Turn<'_>, order: &Order, feerate: FeePerKw) -> bool {
	let window = turn.policy().lsps1.batch_window_secs;
	let OrderState::Paid { deadline, .. } = order.state else { return false };
	let is_first = order.channel.is_none() && order.earlier_channel_ids.is_empty() && order.batch.is_none();
	if window == 0 || order.required_channel_confirmations == 0 || !is_first {
		return false;
	}
	let blocks = u32::try_from(window.div_ceil(SECS_PER_BLOCK)).unwrap_or(u32::MAX);
	let needed = blocks.saturating_mul(2).saturating_add(TOGETHER_BLOCKS).saturating_add(CLAIM_MARGIN_BLOCKS);
	let held_long = pay::held_until(order).is_none_or(|until| until >= turn.world.height.saturating_add(needed));
	let wanted_within = u64::from(order.funding_confirms_within_blocks).saturating_mul(SECS_PER_BLOCK);
	let in_time = deadline >= turn.now.plus_secs(window.saturating_add(TOGETHER_SECS));
	held_long
		&& in_time
		&& wanted_within >= window.saturating_mul(2)
		&& super::splice::begin(turn, order, feerate).is_none()
}

/// [`Input::Tick`](crate::input::Input::Tick): a window is over.
pub(super) fn tick(turn: &mut Turn<'_>) {
	let ids: Vec<String> = turn.book.waiting_orders().map(|order| order.id.clone()).collect();
	let waiting = ids.iter().filter_map(|id| turn.order(id)).filter(|order| order.waits_until().is_some());
	let mut waiting: Vec<Order> = waiting.collect();
	waiting.sort_by_key(|order| (order.waits_until(), order.created_at, order.id.clone()));
	if waiting.first().and_then(Order::waits_until).is_some_and(|until| until <= turn.now) {
		for some in waiting.chunks(MAX_TOGETHER) {
			begin(turn, some.to_vec());
		}
	}
}

/// Opens these together, as far as that can be. The others are opened alone, as soon as their clients are here.
fn begin(turn: &mut Turn<'_>, orders: Vec<Order>) {
	let (mut together, feerate) = fitting(turn, orders);
	if together.len() < 2 {
		return together.into_iter().for_each(|order| leave_out(turn, order));
	}
	let id = u128::from_be_bytes(turn.random(&format!("batch {}", together.first().map_or("", |order| &order.id))));
	let until = turn.now.plus_secs(ANSWER_SECS);
	let others = together.len().saturating_sub(1);
	let mut channels: Vec<OpenChannel> = Vec::new();
	for order in &mut together {
		let OrderState::Paid { by, deadline, .. } = order.state else { continue };
		order.state = OrderState::Opening { by, deadline };
		order.batch = Some(Box::new(Batch::Together { id, until }));
		order.channel = Some(requested(order));
		let text =
			format!("{} together with {others} others at {} sat/vB", order.capacity(), feerate.to_sat_per_vb_ceil());
		order.note(turn.now, "open", text);
		channels.push(deliver::channel(order, order.user_channel_id, feerate));
		turn.put_order(order.clone());
	}
	turn.act(Action::OpenTogether { batch: id, channels });
}

/// Those of them whose clients are here, whose fees cover the highest feerate among them, and for which there is money; and
/// that feerate. What each costs, and what is reserved for it, is noted. The others are left out.
fn fitting(turn: &mut Turn<'_>, orders: Vec<Order>) -> (Vec<Order>, FeePerKw) {
	let world = turn.world;
	let is_here = |order: &Order| world.present.contains(&order.client);
	let wanted = |order: &Order| deliver::promised_feerate(turn, order).ok().map(|(feerate, _)| feerate);
	let highest = orders.iter().filter(|order| is_here(order)).filter_map(wanted).max().unwrap_or(FeePerKw(0));
	let mut fitting = Vec::new();
	for mut order in orders {
		let limit = order.capacity();
		let costs = deliver::cost_at(turn, &order, highest).ok().filter(|_| is_here(&order));
		let needed = admission::funding(turn, highest, limit, order.reserved, limit).ok();
		match costs.zip(needed) {
			Some((cost, needed)) => {
				(order.expected_cost, order.reserved) = (cost, needed);
				// The next one finds less.
				turn.put_order(order.clone());
				fitting.push(order);
			}
			None => leave_out(turn, order),
		}
	}
	(fitting, highest)
}

fn leave_out(turn: &mut Turn<'_>, mut order: Order) {
	order.batch = Some(Box::new(Batch::Alone));
	turn.put_order(order);
}

/// Those that are opened together should be further: tells the node that time is up for those that it waits for.
pub(super) fn hurry(turn: &mut Turn<'_>, order: &mut Order) {
	if order.batch_deadline().is_none_or(|until| turn.now < until) {
		return;
	}
	if let Some(Batch::Together { id, until }) = order.batch.as_deref_mut() {
		*until = turn.now.plus_secs(ANSWER_SECS);
		turn.act_once(Action::HurryTogether { batch: *id });
	}
}

/// [`Input::AllSigned`](crate::input::Input::AllSigned): the transaction goes out if each of its channels is wanted; else none
/// of them comes to be.
pub(crate) fn all_signed(turn: &mut Turn<'_>, funding: Txid, channels: &[u128]) {
	let is_wanted = |id: &u128| {
		let order = turn.book.order_by_user_channel_id(*id).filter(|order| order.user_channel_id == *id);
		order.is_some_and(|order| matches!(order.state, OrderState::Opening { .. }) && !order.lapsed)
	};
	let all = !channels.is_empty() && channels.iter().all(is_wanted);
	turn.act(if all { Action::BroadcastShared { funding } } else { Action::DiscardShared { funding } });
}
