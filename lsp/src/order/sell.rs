//! `lsps1.create_order` and `lsps1.get_order`.

use super::{give_up, preflight};
use crate::admission;
use crate::book::{LightningOption, NodeId, OnchainOption, Order, OrderState, PaymentHash, PaymentState};
use crate::input::Action;
use crate::money::{FeePerKw, Msat, Sat};
use crate::protocol::lsps0::{self, RpcError};
use crate::protocol::lsps1::{self, CreateOrder};
use crate::quote;
use crate::turn::Turn;
use serde_json::Value;

/// `min_fee_for_0conf` is so many times the feerate of the day.
const UNCONFIRMED_FEERATE_FACTOR: u32 = 2;

/// `lsps1.create_order`: the order is written, the node makes invoice and address, then the answer goes out.
pub(crate) fn create_order(turn: &mut Turn<'_>, peer: NodeId, id: &str, call: &CreateOrder) -> Result<(), RpcError> {
	let policy = turn.policy();
	let refund_address = call.refund_address(turn.world.network)?;
	call.check_options(policy)?;
	let tokens = &policy.lsps1.tokens;
	let known = if call.token.is_empty() { tokens.is_empty() } else { tokens.contains(&call.token) };
	if !known {
		return Err(lsps1::unrecognized_token());
	}
	let rejected = |refusal: admission::Refusal| RpcError::rejected(&refusal.to_string());
	admission::one_more_order(turn, &peer).map_err(rejected)?;
	let live = admission::feerate(policy, turn.world).map_err(rejected)?;
	let feerate = quote::order_feerate(live, call.funding_confirms_within_blocks);
	let capacity = call.lsp_balance.saturating_add(call.client_balance);
	let reserved = admission::funding(turn, feerate, capacity, Sat::ZERO).map_err(rejected)?;
	let (fee_total, order_total) = price(turn, call, feerate, capacity)?;
	let order_id = uuid::Builder::from_random_bytes(turn.random("order")).into_uuid().to_string();
	if turn.book.order(&order_id).is_some() {
		return Err(RpcError::rejected("no free order id, please try again"));
	}
	let mut order = Order {
		id: order_id,
		client: peer,
		reply_to: Some(id.to_string()),
		user_channel_id: u128::from_be_bytes(turn.random("channel")),
		earlier_channel_ids: Vec::new(),
		lsp_balance: call.lsp_balance,
		client_balance: call.client_balance,
		required_channel_confirmations: call.required_channel_confirmations,
		funding_confirms_within_blocks: call.funding_confirms_within_blocks,
		channel_expiry_blocks: call.channel_expiry_blocks,
		token: call.token.clone(),
		announce_channel: call.announce_channel,
		refund_address,
		fee_total,
		order_total,
		created_at: turn.now,
		expires_at: turn.now.plus_secs(policy.lsps1.payment_window_secs),
		reserved,
		lightning: None,
		onchain: None,
		paid_by: None,
		refused: false,
		lapsed: false,
		state: OrderState::Preparing,
		channel: None,
		history: Vec::new(),
	};
	order.note(turn.now, "order", format!("{capacity} for {order_total}, fee {fee_total} · {reserved} reserved"));
	preflight::begin(turn, &order, feerate);
	turn.put_client(turn.client(&peer));
	turn.put_order(order);
	Ok(())
}

/// Has the node make invoice and address.
pub(super) fn prepare(turn: &mut Turn<'_>, order: &Order) {
	let policy = &turn.policy().lsps1;
	let left = order.expires_at.0.saturating_sub(turn.now.0) / 1000;
	turn.act(Action::PreparePayment {
		order: order.id.clone(),
		amount: order.order_total,
		expiry_secs: u32::try_from(left).unwrap_or(u32::MAX),
		invoice: true,
		// Without an address for refunds there is no on-chain payment (L1-13).
		address: policy.onchain && order.refund_address.is_some(),
	});
}

fn price(turn: &Turn<'_>, call: &CreateOrder, feerate: FeePerKw, capacity: Sat) -> Result<(Sat, Sat), RpcError> {
	let quote = quote::order(turn.policy(), feerate, capacity, call.channel_expiry_blocks);
	let fee = quote.map(|quote| quote.fee.to_sat_ceil());
	let total = fee.and_then(|fee| fee.checked_add(call.client_balance)).filter(|total| total.to_msat().is_some());
	fee.zip(total).ok_or_else(|| RpcError::rejected("the price overflows"))
}

/// `lsps1.get_order`.
pub(crate) fn get_order(turn: &Turn<'_>, peer: NodeId, id: &str) -> Result<Value, RpcError> {
	let order = turn.book.order(id).filter(|order| order.client == peer && order.reply_to.is_none());
	let order = order.ok_or_else(lsps1::not_found)?;
	Ok(lsps1::order(order, turn.string_error_data(&peer)))
}

/// [`Input::PaymentPrepared`](crate::input::Input::PaymentPrepared): the answer to `create_order`.
pub(crate) fn payment_prepared(
	turn: &mut Turn<'_>,
	mut order: Order,
	invoice: Option<(String, PaymentHash)>,
	address: Option<String>,
) {
	let (OrderState::Preparing, Some(reply_to)) = (&order.state, order.reply_to.clone()) else { return };
	if invoice.is_none() && address.is_none() {
		return prepare_failed(turn, order, "neither invoice nor address");
	}
	order.lightning = invoice.map(|(invoice, payment_hash)| LightningOption {
		invoice,
		payment_hash,
		claim_deadline: None,
		state: PaymentState::ExpectPayment,
	});
	let live = turn.world.feerate.unwrap_or(FeePerKw::FLOOR);
	order.onchain = address.filter(|_| order.refund_address.is_some()).map(|address| OnchainOption {
		address,
		min_fee_for_0conf: FeePerKw(live.0.saturating_mul(UNCONFIRMED_FEERATE_FACTOR)),
		received: Vec::new(),
		refund: None,
		refunds: 0,
		refunded: Sat::ZERO,
		lost: false,
		state: PaymentState::ExpectPayment,
	});
	order.reply_to = None;
	order.state = OrderState::AwaitingPayment;
	order.note(turn.now, "offer", format!("{} until {}", order.order_total, order.expires_at));
	let answer = lsps1::order(&order, turn.string_error_data(&order.client));
	turn.send(order.client, lsps0::reply(&reply_to, answer));
	turn.put_order(order);
}

/// [`Input::PrepareFailed`](crate::input::Input::PrepareFailed): the order is refused.
pub(crate) fn prepare_failed(turn: &mut Turn<'_>, mut order: Order, reason: &str) {
	if order.state != OrderState::Preparing {
		return;
	}
	if let Some(reply_to) = &order.reply_to {
		let error = RpcError::rejected("no invoice could be made, please try again");
		let bytes = lsps0::refuse(Some(reply_to), &error, turn.string_error_data(&order.client));
		turn.send(order.client, bytes);
	}
	give_up(turn, &mut order, reason);
	turn.put_order(order);
}

/// The part of a payment that is not our fee.
pub(super) fn pushed(order: &Order) -> Msat {
	order.client_balance.to_msat().unwrap_or(Msat::ZERO)
}
