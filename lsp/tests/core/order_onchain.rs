//! Channels ordered and paid on-chain, and refunds.

use crate::harness::*;
use inlet_lsp::book::{EntryKind, Order, OrderState, PaidBy};
use inlet_lsp::input::{Action, Input};
use inlet_lsp::money::{FeePerKw, Sat};
use inlet_lsp::policy::Policy;

fn ordered_with(policy: Policy) -> (Sim, inlet_lsp::book::NodeId, Order) {
	let (mut sim, client) = (Sim::with(policy), node(1));
	sim.connect(client);
	let params = sim.order_params();
	let (order, _) = sim.order(client, params);
	(sim, client, order)
}

fn ordered() -> (Sim, inlet_lsp::book::NodeId, Order) {
	ordered_with(plain())
}

fn refund(order: &Order, amount: u64) -> Action {
	refund_of(order, 0, amount, &[1])
}

/// The refund of this number, of payments with these numbers.
fn refund_of(order: &Order, number: u32, amount: u64, payments: &[u64]) -> Action {
	let (address, from) = (REFUND_ADDRESS.into(), outpoints(payments));
	Action::Refund { order: order.id.clone(), number, address, amount: Sat(amount), from }
}

#[test]
fn l1_27_a_confirmed_payment_opens_the_channel_and_completes_the_order() {
	let (mut sim, client, order) = ordered();
	let total = order.order_total.0;
	assert!(sim.book.watched_addresses().contains(&order.onchain.as_ref().unwrap().address));
	assert!(sim.onchain(&order, vec![output(1, total, 0, 100_000)]).is_empty(), "unconfirmed is not served by default");
	assert_eq!(sim.get_order(&order)["payment"]["onchain"]["state"], "EXPECT_PAYMENT");
	let open = opened(&sim.onchain(&order, vec![output(1, total, 1, 100_000)])).unwrap();
	let shown = sim.get_order(&order);
	assert_eq!((&shown["order_state"], &shown["payment"]["onchain"]["state"]), (&"CREATED".into(), &"PAID".into()));
	assert!(sim.funded(open.user_channel_id).is_empty());
	assert_eq!(sim.now_order(&order).state, OrderState::Completed);
	assert_eq!(sim.now_order(&order).paid_by, Some(PaidBy::Onchain));
	assert_eq!(sim.get_order(&order)["payment"]["bolt11"]["state"], "REFUNDED", "not to be paid any more");
	assert_eq!(sim.earned(EntryKind::OrderFee), i64::try_from(order.fee_total.0 * 1000).unwrap());
	assert_eq!(sim.book.client(&client).unwrap().orders_done, 1);
	assert_eq!(sim.book.reserved(), Sat(0));
	// The invoice is paid all the same: it goes back.
	let payment_hash = order.lightning.as_ref().unwrap().payment_hash;
	assert_eq!(sim.hold(&order, order.order_total), [Action::FailPayment { payment_hash }]);
}

#[test]
fn l1_27_an_unconfirmed_payment_counts_above_its_feerate_and_below_the_limit() {
	let mut policy = plain();
	policy.lsps1.max_unconfirmed_order_sat = Sat(1_000_000);
	let (mut sim, _, order) = ordered_with(policy);
	let total = order.order_total.0;
	assert!(sim.onchain(&order, vec![output(1, total, 0, 1999)]).is_empty());
	let mut unknown = output(1, total, 0, 0);
	unknown.feerate = None;
	assert!(sim.onchain(&order, vec![unknown]).is_empty());
	assert!(opened(&sim.onchain(&order, vec![output(1, total, 0, 2000)])).is_some());
}

#[test]
fn l1_27_several_outputs_add_up() {
	let (mut sim, _, order) = ordered();
	let total = order.order_total.0;
	assert!(sim.onchain(&order, vec![output(1, total - 1, 3, 500)]).is_empty());
	assert!(sim.onchain(&order, vec![output(1, total - 1, 3, 500), output(2, 1, 0, 500)]).is_empty());
	assert!(opened(&sim.onchain(&order, vec![output(1, total - 1, 3, 500), output(2, 1, 1, 500)])).is_some());
}

#[test]
fn a_reorganisation_before_the_opening_takes_the_payment_back() {
	let (mut sim, client, order) = ordered();
	sim.disconnect(client);
	sim.onchain(&order, vec![output(1, order.order_total.0, 1, 500)]);
	assert!(matches!(sim.now_order(&order).state, OrderState::Paid { by: PaidBy::Onchain, .. }));
	sim.onchain(&order, vec![output(1, order.order_total.0, 0, 500)]);
	assert_eq!(sim.now_order(&order).state, OrderState::AwaitingPayment);
	assert_eq!(sim.get_order(&order)["payment"]["onchain"]["state"], "EXPECT_PAYMENT");
	assert!(sim.connect(client).is_empty());
	assert!(opened(&sim.onchain(&order, vec![output(1, order.order_total.0, 1, 500)])).is_some());
}

#[test]
fn l1_28_an_underpaid_order_is_refunded_when_it_expires() {
	let (mut sim, _, order) = ordered();
	sim.onchain(&order, vec![output(1, 15_000, 2, 500)]);
	sim.pass(3600);
	assert_eq!(sim.tick(), [refund(&order, 15_000)]);
	assert!(matches!(sim.now_order(&order).state, OrderState::Refunding { .. }));
	assert_eq!(sim.get_order(&order)["order_state"], "FAILED");
	assert_eq!(sim.book.reserved(), Sat(15_000), "not to be spent on anything else");
	sim.restart();
	assert_eq!(sim.give(Input::Started), [refund(&order, 15_000)]);
	let sent = refund_sent(&order, 0, 5, 15_000);
	sim.give(sent.clone());
	assert!(sim.look(sent).writes.is_empty());
	assert!(matches!(sim.now_order(&order).state, OrderState::Failed { .. }));
	assert_eq!(sim.get_order(&order)["payment"]["onchain"]["state"], "REFUNDED");
	assert_eq!(sim.book.reserved(), Sat(0));
	assert!(sim.give(Input::Started).is_empty());
}

#[test]
fn l1_29_a_payment_that_comes_late_is_refunded_once_it_is_confirmed() {
	let (mut sim, _, order) = ordered();
	sim.pass(3600);
	sim.tick();
	assert!(matches!(sim.now_order(&order).state, OrderState::Failed { .. }));
	assert!(sim.onchain(&order, vec![output(1, 30_000, 0, 500)]).is_empty());
	assert_eq!(sim.onchain(&order, vec![output(1, 30_000, 1, 500)]), [refund(&order, 30_000)]);
	let more = |confirmations| vec![output(1, 30_000, 2, 500), output(2, 40_000, confirmations, 500)];
	assert!(sim.onchain(&order, more(1)).is_empty(), "one refund at a time");
	sim.refund_sent(&order, 0, 5, 30_000);
	assert!(sim.onchain(&order, more(2)).is_empty());
	assert!(sim.refund_seen(&order, 5, 5).is_empty());
	assert_eq!(sim.refund_seen(&order, 5, 6), [refund_of(&order, 1, 40_000, &[2, 1])], "and then the next");
	assert!(sim.refund_seen(&order, 5, 6).is_empty());
	sim.refund_sent(&order, 1, 6, 40_000);
	assert!(sim.refund_seen(&order, 6, 6).is_empty(), "all went back");
	assert_eq!(sim.book.reserved(), Sat(0));
}

#[test]
fn l1_28_a_failed_opening_is_refunded() {
	let (mut sim, _, order) = ordered();
	let total = order.order_total.0;
	let open = opened(&sim.onchain(&order, vec![output(1, total, 1, 500)])).unwrap();
	let failed = Input::OpenFailed { user_channel_id: open.user_channel_id, reason: "no".into(), ours: false };
	assert_eq!(sim.give(failed), [refund(&order, total)]);
	assert_eq!(sim.book.reserved(), Sat(total));
}

#[test]
fn an_overpayment_goes_back_after_the_channel_is_funded() {
	let (mut sim, _, order) = ordered();
	let open = opened(&sim.onchain(&order, vec![output(1, order.order_total.0 + 9_000, 1, 500)])).unwrap();
	assert_eq!(sim.funded(open.user_channel_id), [refund(&order, 9_000)]);
	assert_eq!(sim.now_order(&order).state, OrderState::Completed);
	sim.refund_sent(&order, 0, 5, 9_000);
	assert_eq!(sim.now_order(&order).state, OrderState::Completed);
	assert_eq!(sim.book.reserved(), Sat(0));
}

#[test]
fn a_double_payment_is_taken_once() {
	let (mut sim, _, order) = ordered();
	let total = order.order_total;
	let open = opened(&sim.hold(&order, total)).unwrap();
	assert!(sim.onchain(&order, vec![output(1, total.0, 1, 500)]).is_empty());
	sim.funded(open.user_channel_id);
	assert_eq!(sim.claimed(&order, total), [refund(&order, total.0)]);
}

#[test]
fn what_is_not_worth_a_transaction_is_not_refunded() {
	let (mut sim, _, order) = ordered();
	sim.pass(3600);
	sim.tick();
	assert!(sim.onchain(&order, vec![output(1, 1_180, 1, 500)]).is_empty());
	assert_eq!(sim.onchain(&order, vec![output(1, 1_181, 1, 500)]), [refund(&order, 1_181)]);
}

#[test]
fn r7_above_the_ceiling_a_paid_order_waits() {
	let (mut sim, client, order) = ordered();
	sim.feerate = Some(FeePerKw(30_000));
	assert!(sim.onchain(&order, vec![output(1, order.order_total.0, 1, 500)]).is_empty());
	sim.feerate = Some(FeePerKw(1_000));
	assert!(opened(&sim.connect(client)).is_some());
}

#[test]
fn more_confirmations_are_no_news() {
	let (mut sim, _, order) = ordered();
	let address = order.onchain.as_ref().unwrap().address.clone();
	let look = |received| Input::AddressActivity { address: address.clone(), received };
	sim.give(look(vec![output(1, 15_000, 0, 500), output(2, 20, 1, 500)]));
	let known = sim.now_order(&order);
	let same = look(vec![output(2, 20, 1, 500), output(1, 15_000, 0, 500)]);
	assert!(sim.look(same).writes.is_empty(), "in another order");
	sim.give(look(vec![output(1, 15_000, 1, 500), output(2, 20, 2, 500)]));
	let confirmed = sim.now_order(&order);
	assert_ne!(confirmed.onchain, known.onchain);
	assert_eq!(confirmed.history, known.history);
	sim.give(look(vec![output(1, 15_000, 1, 500)]));
	assert_eq!(sim.now_order(&order).history.len(), known.history.len() + 1);
}

#[test]
fn a_refund_that_was_too_dear_is_looked_at_again_with_every_tick() {
	let (mut sim, _, order) = ordered();
	sim.onchain(&order, vec![output(1, 15_000, 2, 500)]);
	sim.pass(3600);
	sim.feerate = Some(FeePerKw(30_000));
	assert!(sim.tick().is_empty());
	sim.feerate = None;
	sim.height += 1;
	assert!(sim.tick().is_empty(), "nobody knows what it would cost");
	sim.feerate = Some(FeePerKw(1_000));
	assert_eq!(sim.tick(), [refund(&order, 15_000)]);
	assert!(matches!(sim.now_order(&order).state, OrderState::Refunding { .. }));
	assert!(sim.tick().is_empty(), "once");
	sim.restart();
	assert_eq!(sim.give(Input::Started), [refund(&order, 15_000)]);
}
