//! `lsps1.create_order` and `lsps1.get_order`.

use super::{give_up, preflight};
use crate::admission;
use crate::book::{LightningOption, NodeId, OnchainOption, Order, OrderState, PaymentHash, PaymentState};
use crate::input::Action;
use crate::money::{FeePerKw, Msat, Sat};
use crate::protocol::lsps0::{self, RpcError};
use crate::protocol::lsps1::{self, CreateOrder};
use crate::quote::Basis;
use crate::tiers;
use crate::tokens::{self, Shown};
use crate::turn::Turn;
use serde_json::Value;

/// `min_fee_for_0conf` is so many times the feerate of the day.
const UNCONFIRMED_FEERATE_FACTOR: u32 = 2;

/// `lsps1.create_order`: the order is written, the node makes invoice and address, then the answer goes out.
pub(crate) fn create_order(turn: &mut Turn<'_>, peer: NodeId, id: &str, call: &CreateOrder) -> Result<(), RpcError> {
	let policy = turn.policy();
	let refund_address = call.refund_address(turn.world.network)?;
	call.check_options(policy)?;
	let own = &policy.lsps1;
	let shown = tokens::check(turn, peer, &own.tokens, own.require_token, Some(&call.token));
	let shown = shown.map_err(|_| lsps1::unrecognized_token())?;
	let rejected = |refusal: admission::Refusal| RpcError::rejected(&refusal.to_string());
	admission::one_more_order(turn, &peer).map_err(rejected)?;
	let within = call.funding_confirms_within_blocks;
	let feerate = admission::order_feerate(policy, turn.world, within).map_err(rejected)?;
	let standing = tiers::here(turn, &peer);
	let capacity = call.lsp_balance.saturating_add(call.client_balance);
	let funding = admission::funding(turn, feerate, capacity, Sat::ZERO, standing.max_channel);
	let reserved = funding.map_err(rejected)?;
	admission::within_limits(turn, &peer, capacity).map_err(rejected)?;
	let live = turn.world.feerate.unwrap_or(feerate);
	let basis = Basis::new(policy, &standing, &turn.world.market, live, feerate);
	let (fee_total, order_total) = price(&basis, call)?;
	let least = policy.lsps2.min_promise_secs;
	let holds = turn.world.market.validity(policy.lsps1.payment_window_secs, least);
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
		sealed_token: String::new(),
		token: String::new(),
		announce_channel: call.announce_channel,
		refund_address,
		fee_total,
		order_total,
		expected_cost: basis.order_costs(call.lsp_balance, call.channel_expiry_blocks).total(),
		created_at: turn.now,
		expires_at: turn.now.plus_secs(holds),
		reserved,
		lightning: None,
		onchain: None,
		paid_by: None,
		refused: false,
		lapsed: false,
		kept: false,
		splice: None,
		own_channel: false,
		batch: None,
		state: OrderState::Preparing,
		channel: None,
		history: Vec::new(),
	};
	match shown {
		Shown::Issued => order.sealed_token = tokens::seal(&turn.lsp.promise_key, &order.id, &call.token),
		Shown::None | Shown::Listed => order.token.clone_from(&call.token),
	}
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

/// What the client sees of an order. A token that was issued is said back as it was shown.
fn answer(turn: &Turn<'_>, order: &Order) -> Value {
	let mut shown = order.clone();
	if !order.sealed_token.is_empty() {
		shown.token = tokens::unseal(&turn.lsp.promise_key, &order.id, &order.sealed_token);
	}
	lsps1::order(&shown, turn.string_error_data(&order.client))
}

fn price(basis: &Basis<'_>, call: &CreateOrder) -> Result<(Sat, Sat), RpcError> {
	let quote = basis.order(call.lsp_balance, call.client_balance, call.channel_expiry_blocks);
	let fee = quote.map(|quote| quote.fee.to_sat_ceil());
	let total = fee.and_then(|fee| fee.checked_add(call.client_balance)).filter(|total| total.to_msat().is_some());
	fee.zip(total).ok_or_else(|| RpcError::rejected("the price overflows"))
}

/// `lsps1.get_order`.
pub(crate) fn get_order(turn: &Turn<'_>, peer: NodeId, id: &str) -> Result<Value, RpcError> {
	let order = turn.book.order(id).filter(|order| order.client == peer && order.reply_to.is_none());
	let order = order.ok_or_else(lsps1::not_found)?;
	Ok(answer(turn, order))
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
	let answer = answer(turn, &order);
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
