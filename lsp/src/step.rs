//! The one way in: [`Lsp::step`].

use crate::book::{Book, NodeId};
use crate::input::{Action, Deed, Input, Step, World};
use crate::policy::{Policy, PolicyError};
use crate::protocol::lsps0::{self, Incoming, RpcError};
use crate::protocol::{Call, Offered, lsps1};
use crate::time::Timestamp;
use crate::turn::Turn;
use crate::{jit, ledger, order, reclaim, tiers, tokens, wake};
use serde_json::Value;
use std::fmt;

/// The LSP: its policy, and the key that its promises are made with.
#[derive(Clone)]
pub struct Lsp {
	/// What the operator decided.
	pub policy: Policy,
	pub(crate) promise_key: [u8; 32],
}

/// Without the key.
impl fmt::Debug for Lsp {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.debug_struct("Lsp").field("policy", &self.policy).finish_non_exhaustive()
	}
}

impl Lsp {
	/// An LSP with this policy. `promise_key` is secret and stays the same over restarts, or promises made before are
	/// not honoured.
	///
	/// # Errors
	/// The key of the policy that is wrong, see [`Policy::check`].
	pub fn new(policy: Policy, promise_key: [u8; 32]) -> Result<Lsp, PolicyError> {
		policy.check()?;
		Ok(Lsp { policy, promise_key })
	}

	/// What follows from `input`. Commit the writes, apply them to the book, then do the actions. The same input given
	/// again changes nothing more.
	pub fn step(&self, book: &Book, world: &World, now: Timestamp, input: Input) -> Step {
		let mut turn = Turn::new(self, book, world, now);
		turn.text_errors = input.client(book).filter(|_| world.peer.text_errors);
		match &input {
			Input::Message { peer, bytes } => message(&mut turn, *peer, bytes),
			Input::Connected { peer } => {
				jit::connected(&mut turn, *peer);
				order::connected(&mut turn, *peer);
				wake::connected(&mut turn, *peer);
			}
			Input::Tick => {
				jit::tick(&mut turn);
				order::tick(&mut turn);
				wake::tick(&mut turn);
			}
			Input::Started => {
				jit::started(&mut turn);
				order::started(&mut turn);
				wake::started(&mut turn);
			}
			Input::HtlcIntercepted { .. } => {
				if !wake::htlc_intercepted(&mut turn, &input) {
					jit::htlc_intercepted(&mut turn, &input);
				}
			}
			Input::HtlcGone { intercept_id } => {
				jit::htlc_gone(&mut turn, intercept_id);
				wake::htlc_gone(&mut turn, intercept_id);
			}
			Input::ForwardFailed { peer, channel_id, by_client } => {
				jit::forward_failed(&mut turn, *peer, channel_id, *by_client);
			}
			Input::Forwarded { .. } => {
				let before = turn.booked();
				let skimmed = jit::skimmed(&turn, &input);
				jit::forwarded(&mut turn, &input);
				ledger::forwarded(&mut turn, &input, skimmed);
				// What was booked is new: a replay is not counted again.
				if let Input::Forwarded { next_peer: Some(peer), .. } = &input
					&& turn.booked() > before
				{
					tiers::count_payment(&mut turn, peer);
				}
			}
			Input::Funded { .. }
			| Input::FundingWithheld { .. }
			| Input::FundingDiscarded { .. }
			| Input::ChannelReady { .. }
			| Input::OpenFailed { .. }
			| Input::FundingKept { .. }
			| Input::ChannelClosed { .. } => channel(&mut turn, &input),
			Input::PaymentPrepared { .. }
			| Input::PrepareFailed { .. }
			| Input::AddressActivity { .. }
			| Input::OpeningTried { .. }
			| Input::RefundSent { .. }
			| Input::RefundSeen { .. }
			| Input::RefundLost { .. } => of_order(&mut turn, &input),
			Input::LeaseBroken { channel_id, blocks_left } => lease_broken(&mut turn, channel_id, *blocks_left),
			Input::PaymentHeld { payment_hash, amount, claim_deadline } => {
				order::payment_held(&mut turn, *payment_hash, *amount, *claim_deadline);
			}
			Input::PaymentClaimed { payment_hash, amount, over } => {
				ledger::claimed(&mut turn, payment_hash, over);
				order::claimed(&mut turn, payment_hash, *amount);
			}
			Input::AllSigned { funding, channels } => order::all_signed(&mut turn, *funding, channels),
			Input::Money(fact) => ledger::money(&mut turn, fact),
			Input::Operator(Deed::IssueToken(token)) => tokens::issue(&mut turn, token),
			Input::Operator(Deed::RevokeToken(id)) => tokens::revoke(&mut turn, id),
			Input::Operator(Deed::SetClient { client, overrides }) => tiers::set(&mut turn, client, overrides),
			Input::Survey { clients } => wake::survey(&mut turn, clients),
			Input::Wanted { peer, notice } => wake::wanted(&mut turn, *peer, notice),
			Input::Holdings { holdings, asked } => reclaim::look(&mut turn, holdings, *asked),
		}
		tiers::settle(&mut turn);
		turn.finish()
	}

	/// Which protocols are offered.
	pub fn offered(&self) -> Offered {
		let policy = &self.policy;
		Offered { lsps1: policy.lsps1.enabled, lsps2: policy.lsps2.enabled, lsps5: policy.lsps5.enabled }
	}
}

impl Input {
	/// The client that this input is about: whose [`PeerView`](crate::input::PeerView) the [`World`] must carry.
	pub fn client(&self, book: &Book) -> Option<NodeId> {
		match self {
			Input::Message { peer, .. }
			| Input::Connected { peer }
			| Input::ForwardFailed { peer, .. }
			| Input::Wanted { peer, .. } => Some(*peer),
			Input::Tick
			| Input::Started
			| Input::Survey { .. }
			| Input::Holdings { .. }
			| Input::AllSigned { .. }
			| Input::Operator(_)
			| Input::Money(_) => None,
			Input::HtlcIntercepted { scid, channel, .. } => {
				let by_channel = || channel.map(|channel| channel.peer);
				book.sale_by_scid(*scid).map(|sale| sale.client).or_else(by_channel)
			}
			Input::HtlcGone { intercept_id } => {
				let by_channel = || book.client_by_intercept(intercept_id).map(|client| client.id);
				book.sale_by_intercept(intercept_id).map(|sale| sale.client).or_else(by_channel)
			}
			Input::Forwarded { next_peer, next_channel, .. } => {
				let by_channel = || book.sale_by_channel(next_channel.as_ref()?).map(|sale| sale.client);
				next_peer.or_else(by_channel)
			}
			Input::Funded { user_channel_id, .. }
			| Input::FundingWithheld { user_channel_id, .. }
			| Input::FundingDiscarded { user_channel_id }
			| Input::ChannelReady { user_channel_id, .. }
			| Input::OpenFailed { user_channel_id, .. }
			| Input::FundingKept { user_channel_id }
			| Input::ChannelClosed { user_channel_id, .. } => {
				let by_order = || book.order_by_user_channel_id(*user_channel_id).map(|order| order.client);
				book.sale_by_user_channel_id(*user_channel_id).map(|sale| sale.client).or_else(by_order)
			}
			Input::PaymentPrepared { order, .. }
			| Input::PrepareFailed { order, .. }
			| Input::OpeningTried { order, .. }
			| Input::RefundSent { order, .. }
			| Input::RefundSeen { order, .. }
			| Input::RefundLost { order, .. } => book.order(order).map(|order| order.client),
			Input::PaymentHeld { payment_hash, .. } | Input::PaymentClaimed { payment_hash, .. } => {
				book.order_by_payment_hash(payment_hash).map(|order| order.client)
			}
			Input::LeaseBroken { channel_id, .. } => book.lease(channel_id).map(|lease| lease.client),
			Input::AddressActivity { address, .. } => book.order_by_address(address).map(|order| order.client),
		}
	}
}

/// What LDK says of a channel, for the sale or order that it was opened for.
fn channel(turn: &mut Turn<'_>, input: &Input) {
	let (Input::Funded { user_channel_id, .. }
	| Input::FundingWithheld { user_channel_id, .. }
	| Input::FundingDiscarded { user_channel_id }
	| Input::ChannelReady { user_channel_id, .. }
	| Input::OpenFailed { user_channel_id, .. }
	| Input::FundingKept { user_channel_id }
	| Input::ChannelClosed { user_channel_id, .. }) = input
	else {
		return;
	};
	let id = *user_channel_id;
	if let Input::ChannelClosed { reason, .. } = input {
		wake::channel_closed(turn, id);
		order::grown_closed(turn, id, reason);
	}
	if let Some(sale) = turn.book.sale_by_user_channel_id(id).cloned() {
		match input {
			Input::Funded { .. } => jit::funded(turn, sale, input),
			Input::FundingWithheld { .. } => jit::withheld(turn, sale, input),
			Input::FundingDiscarded { .. } => jit::discarded(turn, sale, id),
			Input::ChannelReady { channel_id, .. } => jit::channel_ready(turn, sale, id, *channel_id),
			Input::OpenFailed { reason, ours, .. } => jit::open_failed(turn, sale, id, reason, *ours),
			Input::ChannelClosed { reason, by_client, .. } => jit::channel_closed(turn, sale, id, reason, *by_client),
			_ => {}
		}
	} else if let Some(row) = turn.book.order_by_user_channel_id(id).cloned() {
		match input {
			Input::Funded { .. } => order::funded(turn, row, input),
			// Nothing is withheld for an order.
			Input::FundingWithheld { channel_id, funding, .. } => {
				let (channel_id, funding) = (*channel_id, *funding);
				turn.act(Action::BroadcastFunding { user_channel_id: id, channel_id, funding });
			}
			Input::ChannelReady { channel_id, .. } => order::channel_ready(turn, row, id, *channel_id),
			Input::OpenFailed { reason, ours, .. } => order::open_failed(turn, row, id, reason, *ours),
			Input::FundingKept { .. } => order::funding_kept(turn, row, id),
			Input::ChannelClosed { reason, by_client, .. } => order::channel_closed(turn, row, id, reason, *by_client),
			_ => {}
		}
	}
}

/// Once: a second request to close the same channel adds nothing.
fn lease_broken(turn: &mut Turn<'_>, channel_id: &[u8; 32], blocks_left: u32) {
	const STEP: &str = "lease";
	let text = format!("broken by the operator with {blocks_left} blocks left");
	let noted = |history: &[crate::book::Note]| history.iter().any(|note| note.step == STEP);
	if let Some(mut sale) = turn.book.sale_by_channel(channel_id).filter(|sale| !noted(&sale.history)).cloned() {
		sale.note(turn.now, STEP, text.clone());
		turn.put_sale(sale);
	} else if let Some(mut order) = turn.book.order_by_channel(channel_id).filter(|o| !noted(&o.history)).cloned() {
		order.note(turn.now, STEP, text.clone());
		turn.put_order(order);
	}
	// The one that the channel was made larger for, if that is what is broken.
	let longest = turn.book.lease(channel_id).and_then(|lease| turn.order(&lease.sold_as));
	if let Some(mut order) = longest.filter(|order| order.splice.is_some() && !noted(&order.history)) {
		order.note(turn.now, STEP, text);
		turn.put_order(order);
	}
}

fn of_order(turn: &mut Turn<'_>, input: &Input) {
	let by_id = |id: &String| turn.book.order(id).cloned();
	match input {
		Input::PaymentPrepared { order: id, invoice, address } => {
			if let Some(row) = by_id(id) {
				order::payment_prepared(turn, row, invoice.clone(), address.clone());
			}
		}
		Input::PrepareFailed { order: id, reason } => {
			if let Some(row) = by_id(id) {
				order::prepare_failed(turn, row, reason);
			}
		}
		Input::OpeningTried { order: id, refusal } => {
			if let Some(row) = by_id(id) {
				order::opening_tried(turn, row, refusal.as_deref());
			}
		}
		Input::RefundSent { order: id, .. } => {
			if let Some(row) = by_id(id) {
				order::refund_sent(turn, row, input);
			}
		}
		Input::RefundSeen { order: id, txid, confirmations } => {
			if let Some(row) = by_id(id) {
				order::refund_seen(turn, row, *txid, *confirmations);
			}
		}
		Input::RefundLost { order: id, number } => {
			if let Some(row) = by_id(id) {
				order::refund_lost(turn, row, *number);
			}
		}
		Input::AddressActivity { address, received } => {
			if let Some(row) = turn.book.order_by_address(address).cloned() {
				order::address_activity(turn, row, received);
			}
		}
		_ => {}
	}
}

/// A message of type 37913: one answer to a request, none to a response.
fn message(turn: &mut Turn<'_>, peer: NodeId, bytes: &[u8]) {
	let request = match lsps0::read(bytes) {
		Incoming::Request(request) => request,
		Incoming::Bad => {
			let answer = lsps0::refuse(None, &RpcError::parse_error(), false);
			return turn.send(peer, answer);
		}
		Incoming::PeerCannotParse => return remember_strings(turn, peer),
		Incoming::Drop => return,
	};
	if Call::speaks_like_ldk(&request) {
		remember_strings(turn, peer);
	}
	let answer = match Call::read(&request, turn.lsp.offered()) {
		Ok(call) => answer(turn, peer, &request.id, call),
		Err(error) => Err(error),
	};
	match answer {
		Ok(Some(result)) => turn.send(peer, lsps0::reply(&request.id, result)),
		Ok(None) => {}
		Err(error) => {
			let bytes = lsps0::refuse(Some(&request.id), &error, turn.string_error_data(&peer));
			turn.send(peer, bytes);
		}
	}
}

/// The result, or `None` if it comes later.
fn answer(turn: &mut Turn<'_>, peer: NodeId, id: &str, call: Call) -> Result<Option<Value>, RpcError> {
	match call {
		Call::ListProtocols => Ok(Some(lsps0::list_protocols(turn.lsp.offered()))),
		Call::Lsps1GetInfo => Ok(Some(lsps1::get_info(turn.policy()))),
		Call::CreateOrder(call) => order::create_order(turn, peer, id, &call).map(|()| None),
		Call::GetOrder(order_id) => order::get_order(turn, peer, &order_id).map(Some),
		Call::Lsps2GetInfo(call) => jit::get_info(turn, peer, &call).map(Some),
		Call::Buy(call) => jit::buy(turn, peer, &call).map(Some),
		Call::SetWebhook(call) => wake::set_webhook(turn, peer, &call).map(Some),
		Call::ListWebhooks => Ok(Some(wake::list_webhooks(turn, peer))),
		Call::RemoveWebhook(app_name) => wake::remove_webhook(turn, peer, &app_name).map(Some),
	}
}

/// The peer cannot parse an object in `error.data`: it gets strings from now on. Of a stranger the node remembers that,
/// and nothing is written; it is in its row from the moment that it buys something.
fn remember_strings(turn: &mut Turn<'_>, peer: NodeId) {
	let was_told = turn.text_errors == Some(peer);
	turn.text_errors = Some(peer);
	if turn.book.client(&peer).is_some() {
		turn.put_client(turn.client(&peer));
	} else if !was_told {
		turn.act(Action::TextErrors { peer });
	}
}
