//! Orders whose held payment runs out while nobody can say whether the channel's funding is out.

use crate::harness::*;
use inlet_lsp::book::{EntryKind, Order, OrderState};
use inlet_lsp::input::{Action, Input};
use inlet_lsp::money::Sat;
use inlet_lsp::order::{ABANDON_AGAIN_SECS, LAPSE_MARGIN_BLOCKS, UNCLAIMED_BLOCKS};

/// An order that is paid and being opened, and its payment's hash.
fn opening(sim: &mut Sim) -> (Order, [u8; 32]) {
	let client = node(1);
	sim.connect(client);
	let (order, _) = sim.order(client, sim.order_params());
	sim.hold(&order, order.order_total);
	let order = sim.now_order(&order);
	assert!(matches!(order.state, OrderState::Opening { .. }));
	let hash = order.lightning.as_ref().unwrap().payment_hash;
	(order, hash)
}

/// The chain backend stays away until the payment has to go back; gives what is done then.
fn lapse(sim: &mut Sim, order: &Order) -> Vec<Action> {
	let deadline = sim.now_order(order).lightning.unwrap().claim_deadline.unwrap();
	sim.height = deadline - LAPSE_MARGIN_BLOCKS - 1;
	let before = sim.tick();
	assert!(!before.iter().any(|action| matches!(action, Action::FailPayment { .. })), "while LDK still holds it");
	assert!(matches!(sim.now_order(order).state, OrderState::Abandoning { .. }));
	sim.height += 1;
	sim.tick()
}

fn warned(actions: &[Action]) -> bool {
	actions.iter().any(|action| matches!(action, Action::Warn { code: "order_unpaid", .. }))
}

#[test]
fn r06_a_payment_that_lapsed_before_the_verdict_goes_back_and_the_channel_is_given_up() {
	let mut sim = Sim::new();
	let (order, hash) = opening(&mut sim);
	let actions = lapse(&mut sim, &order);
	assert_eq!(actions, [Action::FailPayment { payment_hash: hash }]);
	assert!(sim.now_order(&order).lapsed);
	assert!(sim.tick().is_empty(), "once");
	sim.pass(ABANDON_AGAIN_SECS);
	let again = sim.tick();
	assert!(again.iter().any(|action| matches!(action, Action::AbandonChannel { .. })), "{again:?}");
	// A crash may have undone that the payment was failed.
	sim.restart();
	let started = sim.give(Input::Started);
	assert!(started.contains(&Action::FailPayment { payment_hash: hash }), "{started:?}");
	let held = sim.hold(&order, order.order_total);
	assert_eq!(held, [Action::FailPayment { payment_hash: hash }], "LDK shows it again");
	// The backend is back, and never had it.
	let closed = Input::ChannelClosed {
		user_channel_id: order.user_channel_id,
		reason: "its funding was refused".into(),
		by_client: true,
	};
	let actions = sim.give(closed);
	assert!(!warned(&actions));
	let order = sim.now_order(&order);
	assert!(matches!(order.state, OrderState::Failed { .. }));
	assert_eq!((order.reserved, sim.book.ledger().count()), (Sat::ZERO, 0));
}

#[test]
fn r06_a_channel_delivered_after_its_payment_lapsed_ends_the_order_with_the_loss_on_record() {
	let mut sim = Sim::new();
	let (order, hash) = opening(&mut sim);
	lapse(&mut sim, &order);
	let input = sim.funded_input(order.user_channel_id);
	let actions = sim.give(input.clone());
	assert!(warned(&actions), "the operator is told: {actions:?}");
	assert!(!actions.iter().any(|action| matches!(action, Action::ClaimPayment { .. })), "there is nothing to claim");
	let now = sim.now_order(&order);
	assert!(matches!(&now.state, OrderState::Failed { reason } if reason.contains("not paid")), "{:?}", now.state);
	assert!(now.channel.is_some_and(|channel| channel.funding.is_some()));
	assert_eq!(sim.earned(EntryKind::ClientBalance), -20_000_000, "what was pushed");
	assert_eq!(sim.earned(EntryKind::FundingCost), -850_000);
	assert_eq!(sim.earned(EntryKind::OrderFee), 0);
	let client = sim.book.client(&node(1)).unwrap();
	assert_eq!((client.offences, client.orders_done), (0, 0), "it was not the client's doing, nor is it paid for");
	assert_eq!(sim.book.keep_until(&channel_id(order.user_channel_id)), None, "nothing was paid for: no lease");
	assert!(sim.look(input).writes.is_empty(), "once");
	assert_eq!((sim.book.reserved(), sim.book.next_deadline()), (Sat::ZERO, None));
	sim.restart();
	let started = sim.give(Input::Started);
	assert!(
		started.iter().all(|action| matches!(action, Action::FailPayment { payment_hash } if *payment_hash == hash))
	);
}

#[test]
fn r06_a_channel_that_was_used_before_its_funding_was_out_keeps_it() {
	let mut sim = Sim::new();
	let (order, _) = opening(&mut sim);
	let kept = Input::FundingKept { user_channel_id: order.user_channel_id };
	assert!(sim.give(kept.clone()).is_empty());
	assert!(sim.look(kept).writes.is_empty(), "once");
	let now = sim.now_order(&order);
	assert!(now.kept && now.is_being_opened(), "not given up: {:?}", now.state);
	sim.restart();
	assert!(sim.now_order(&order).kept, "durable");
	let claimed = sim.funded(order.user_channel_id);
	assert!(claimed.iter().any(|action| matches!(action, Action::ClaimPayment { .. })));
	assert!(sim.give(Input::FundingKept { user_channel_id: order.user_channel_id }).is_empty());
}

#[test]
fn r06_a_funding_that_is_told_when_ldk_has_failed_the_payment_is_unpaid_at_once() {
	let mut sim = Sim::new();
	let (order, _) = opening(&mut sim);
	sim.height = sim.now_order(&order).lightning.unwrap().claim_deadline.unwrap() + 3;
	let actions = sim.funded(order.user_channel_id);
	assert!(warned(&actions), "{actions:?}");
	assert!(!actions.iter().any(|action| matches!(action, Action::ClaimPayment { .. })));
	assert!(sim.now_order(&order).state.is_finished());
}

#[test]
fn r06_a_claim_that_came_too_late_ends_the_order_and_one_that_is_told_later_makes_it_good() {
	let mut sim = Sim::new();
	let (order, _) = opening(&mut sim);
	let deadline = sim.now_order(&order).lightning.unwrap().claim_deadline.unwrap();
	sim.height = deadline - LAPSE_MARGIN_BLOCKS - 1;
	let actions = sim.funded(order.user_channel_id);
	assert!(actions.iter().any(|action| matches!(action, Action::ClaimPayment { .. })), "still in time");
	// The process dies before LDK has written that down, and is back when LDK has failed the payment.
	sim.restart();
	sim.height = deadline + UNCLAIMED_BLOCKS - 1;
	sim.give(Input::Started);
	assert!(!warned(&sim.tick()), "LDK may still have to tell");
	sim.height += 1;
	assert!(warned(&sim.tick()));
	assert!(sim.now_order(&order).state.is_finished());
	assert_eq!(sim.earned(EntryKind::ClientBalance), -20_000_000);
	assert!(sim.tick().is_empty(), "once");
	let claimed = Input::PaymentClaimed {
		payment_hash: order.lightning.as_ref().unwrap().payment_hash,
		amount: order.order_total.to_msat().unwrap(),
		over: Vec::new(),
	};
	sim.give(claimed.clone());
	let now = sim.now_order(&order);
	assert_eq!((now.state, now.lapsed), (OrderState::Completed, false));
	assert_eq!(sim.earned(EntryKind::ClientBalance), 0);
	assert_eq!(sim.earned(EntryKind::OrderFee), order.fee_total.to_msat().unwrap().0 as i64);
	assert!(sim.look(claimed).writes.is_empty(), "once");
}
