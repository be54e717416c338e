//! Orders against what can go wrong: clients that refuse, payments that come back or go away, refunds that are not
//! mined.

use crate::harness::*;
use inlet_lsp::book::{EntryKind, NodeId, Order, OrderState, PaymentState};
use inlet_lsp::input::{Action, Input};
use inlet_lsp::money::{FeePerKw, Sat};
use inlet_lsp::order::{BUMP_AFTER_SECS, BUMP_AGAIN_SECS};
use inlet_lsp::policy::Policy;
use serde_json::{Value, json};

fn ordered_with(policy: Policy) -> (Sim, NodeId, Order) {
	let (mut sim, client) = (Sim::with(policy), node(1));
	sim.connect(client);
	let params = sim.order_params();
	let (order, _) = sim.order(client, params);
	(sim, client, order)
}

fn ordered() -> (Sim, NodeId, Order) {
	ordered_with(plain())
}

fn create(sim: &mut Sim, client: NodeId) -> Vec<Action> {
	let request = json!({"jsonrpc": "2.0", "id": "o", "method": "lsps1.create_order", "params": sim.order_params()});
	sim.give(Input::Message { peer: client, bytes: request.to_string().into_bytes() })
}

/// The id of the order whose opening is tried.
fn tried(actions: &[Action]) -> String {
	let [Action::TryOpening { order, .. }] = actions else { panic!("{actions:?}") };
	order.clone()
}

fn answer(client: NodeId, actions: &[Action]) -> Value {
	only_answer(client, actions).expect("an answer")
}

#[test]
fn r6_l1_24_the_client_is_asked_for_the_channel_that_it_ordered() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let actions = create(&mut sim, client);
	let [Action::TryOpening { order, open }] = &actions[..] else { panic!("{actions:?}") };
	assert_eq!((open.peer, open.capacity, open.push.0, open.announce), (client, Sat(520_000), 20_000_000, false));
	assert_eq!(open.confirmations, 0);
	let row = sim.book.order(order).unwrap().clone();
	assert_ne!(open.user_channel_id, row.user_channel_id, "what LDK says of the trial does not touch the order");
	assert!(sim.book.order_by_user_channel_id(open.user_channel_id).is_none());
	let actions = sim.give(Input::OpeningTried { order: order.clone(), refusal: None });
	assert!(matches!(&actions[..], [Action::PreparePayment { amount, .. }] if *amount == row.order_total));
}

#[test]
fn r6_l1_31_a_client_that_refuses_the_channel_is_told_before_it_pays() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let order = tried(&create(&mut sim, client));
	let long = format!("too\u{7} small{}", "!".repeat(1000));
	let refusal = Input::OpeningTried { order: order.clone(), refusal: Some(long) };
	let actions = sim.give(refusal.clone());
	assert_eq!(actions.len(), 1, "no invoice, no address");
	let refused = answer(client, &actions);
	assert_eq!((&refused["id"], &refused["error"]["code"]), (&"o".into(), &1.into()));
	let message = refused["error"]["data"]["message"].as_str().or(refused["error"]["message"].as_str()).unwrap();
	assert!(message.contains("too small!") && message.len() < 300, "{message}");
	assert!(matches!(sim.book.order(&order).unwrap().state, OrderState::Failed { .. }));
	assert_eq!((sim.book.reserved(), sim.book.next_deadline()), (Sat(0), None));
	assert!(sim.look(refusal).writes.is_empty());
	let shown = sim.ask(client, "lsps1.get_order", json!({"order_id": order}));
	assert_eq!(shown["error"]["code"], 101, "nothing was promised");
	// It can go on like this a few times, not for ever; later it is welcome again.
	for _ in 1..5 {
		let order = tried(&create(&mut sim, client));
		sim.give(Input::OpeningTried { order, refusal: Some("no".into()) });
	}
	let refused = answer(client, &create(&mut sim, client));
	assert_eq!(refused["error"]["code"], 1);
	assert!(refused["error"].to_string().contains("unpaid already"), "{refused}");
	sim.pass(601);
	tried(&create(&mut sim, client));
}

#[test]
fn r6_r12_an_order_that_is_tried_is_dropped_by_a_restart() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let order = tried(&create(&mut sim, client));
	sim.restart();
	assert!(sim.give(Input::Started).is_empty());
	assert!(matches!(sim.book.order(&order).unwrap().state, OrderState::Failed { .. }));
	assert!(sim.give(Input::OpeningTried { order, refusal: None }).is_empty(), "an answer of another life");
	assert_eq!(sim.book.reserved(), Sat(0));
}

#[test]
fn r6_the_trial_can_be_switched_off() {
	let mut policy = plain();
	policy.lsps1.preflight = false;
	let (mut sim, client) = (Sim::with(policy), node(1));
	sim.connect(client);
	assert!(matches!(&create(&mut sim, client)[..], [Action::PreparePayment { .. }]));
}

/// An order that expired with `paid` confirmed on its address, its refund out as transaction 5.
fn refunded(paid: u64) -> (Sim, Order) {
	let (mut sim, _, order) = ordered();
	sim.onchain(&order, vec![output(1, paid, 1, 500)]);
	sim.pass(3600);
	assert_eq!(sim.tick().len(), 1);
	sim.refund_sent(&order, 0, 5, paid);
	assert_eq!(sim.get_order(&order)["payment"]["onchain"]["state"], "REFUNDED");
	(sim, order)
}

fn bump(order: &Order, number: u32) -> Action {
	Action::BumpRefund { order: order.id.clone(), number, address: REFUND_ADDRESS.into() }
}

#[test]
fn l1_28_a_refund_that_is_not_mined_in_six_hours_raises_its_fee() {
	let (mut sim, order) = refunded(15_000);
	assert_eq!(sim.book.next_deadline(), Some(sim.now.plus_secs(BUMP_AFTER_SECS)));
	assert_eq!(BUMP_AFTER_SECS, 6 * 3600);
	sim.pass(BUMP_AFTER_SECS - 1);
	assert!(sim.tick().is_empty());
	sim.pass(1);
	assert_eq!(sim.tick(), [bump(&order, 0)]);
	assert!(sim.tick().is_empty());
	// It could not be done, and we were killed: asked again.
	sim.restart();
	assert!(sim.give(Input::Started).is_empty());
	sim.pass(BUMP_AGAIN_SECS);
	assert_eq!(sim.tick(), [bump(&order, 0)]);
	let raised = refund_sent(&order, 0, 6, 15_000);
	sim.give(raised.clone());
	assert!(sim.look(raised).writes.is_empty());
	assert!(sim.look(refund_sent(&order, 0, 5, 15_000)).writes.is_empty(), "the old one is no news");
	assert_eq!(sim.book.next_deadline(), Some(sim.now.plus_secs(BUMP_AFTER_SECS)), "six hours more");
	sim.refund_seen(&order, 6, 1);
	assert_eq!(sim.book.next_deadline(), None, "in the chain");
	sim.refund_seen(&order, 6, 0);
	assert_eq!(sim.book.next_deadline(), Some(sim.now.plus_secs(BUMP_AFTER_SECS)), "reorganised");
	sim.refund_seen(&order, 6, 6);
	assert_eq!((sim.book.next_deadline(), sim.book.refunds_under_way().count()), (None, 0));
	assert!(matches!(sim.now_order(&order).state, OrderState::Failed { .. }));
}

#[test]
fn l1_28_what_we_bear_of_a_refunds_fee_is_booked_once_for_the_one_that_was_mined() {
	let (mut sim, order) = refunded(15_000);
	let sent = |tx, borne| Input::RefundSent {
		order: order.id.clone(),
		number: 0,
		txid: txid(tx),
		amount: Sat(15_000),
		fee: Sat(500),
		borne: Sat(borne),
	};
	sim.give(sent(6, 70));
	sim.give(sent(7, 90));
	assert!(sim.look(Input::RefundSeen { order: order.id.clone(), txid: txid(9), confirmations: 6 }).writes.is_empty());
	// An earlier one was mined after all.
	for confirmations in [1, 6, 6] {
		sim.refund_seen(&order, 6, confirmations);
	}
	assert!(sim.look(sent(8, 10)).writes.is_empty(), "it is over");
	let refund = sim.now_order(&order).onchain.unwrap().refund.unwrap();
	assert_eq!((refund.txid, refund.borne, refund.replaced.len()), (Some(txid(6)), Sat(70), 2));
	assert_eq!(sim.earned(EntryKind::RefundCost), -70_000);
}

#[test]
fn l1_28_a_refund_is_not_raised_for_ever() {
	let (mut sim, order) = refunded(15_000);
	let mut raised = 0;
	for _ in 0..100 {
		sim.pass(BUMP_AFTER_SECS);
		if sim.tick() == [bump(&order, 0)] {
			raised += 1;
			sim.refund_sent(&order, 0, 100 + raised, 15_000);
		}
	}
	assert_eq!((raised, sim.book.next_deadline()), (16, None));
	sim.refund_seen(&order, 100, 6);
	assert_eq!(sim.now_order(&order).onchain.unwrap().refund.unwrap().confirmations, 0, "none of its forms");
	sim.refund_seen(&order, 101, 6);
	assert_eq!(sim.book.refunds_under_way().count(), 0);
}

#[test]
fn r19_a_refund_that_was_decided_is_withdrawn_while_the_payment_is_gone() {
	let (mut sim, _, order) = ordered();
	sim.onchain(&order, vec![output(1, 15_000, 1, 500)]);
	sim.pass(3600);
	assert_eq!(sim.tick().len(), 1);
	assert!(sim.onchain(&order, vec![output(1, 15_000, 0, 500)]).is_empty());
	assert_eq!((sim.now_order(&order).pending_refund(), sim.book.reserved()), (None, Sat(0)));
	assert!(matches!(sim.now_order(&order).state, OrderState::Failed { .. }));
	sim.restart();
	assert!(sim.give(Input::Started).is_empty());
	let again = sim.onchain(&order, vec![output(1, 15_000, 1, 500)]);
	assert!(matches!(&again[..], [Action::Refund { number: 0, .. }]), "the same one: it may have been made meanwhile");
	sim.onchain(&order, vec![]);
	sim.refund_sent(&order, 0, 5, 15_000);
	assert_eq!(sim.now_order(&order).refunded(), Sat(15_000), "it had been made");
	assert!(sim.onchain(&order, vec![output(1, 15_000, 1, 500)]).is_empty());
}

#[test]
fn r5_r19_a_refund_whose_payment_is_double_spent_ends_and_a_new_payment_goes_back() {
	let (mut sim, order) = refunded(15_000);
	sim.onchain(&order, vec![]);
	sim.pass(BUMP_AFTER_SECS);
	assert_eq!(sim.tick(), [bump(&order, 0)]);
	let lost = Input::RefundLost { order: order.id.clone(), number: 0 };
	assert!(sim.give(lost.clone()).is_empty());
	assert!(sim.look(lost).writes.is_empty());
	assert_eq!((sim.book.next_deadline(), sim.now_order(&order).refunded()), (None, Sat(0)));
	let again = sim.onchain(&order, vec![output(2, 20_000, 1, 500)]);
	assert!(matches!(&again[..], [Action::Refund { number: 1, amount: Sat(20_000), .. }]), "{again:?}");
}

#[test]
fn l1_29_every_later_payment_goes_back_once_also_after_the_channel_was_delivered() {
	let (mut sim, _, order) = ordered();
	let total = order.order_total.0;
	let open = opened(&sim.onchain(&order, vec![output(1, total, 1, 500)])).unwrap();
	sim.funded(open.user_channel_id);
	let mut payments = vec![output(1, total, 6, 500)];
	for (number, (id, amount)) in (0_u32..).zip([(2, total), (3, 7_000), (4, total)]) {
		payments.push(output(id, amount, 0, 500));
		assert!(sim.onchain(&order, payments.clone()).is_empty(), "not confirmed");
		payments.last_mut().unwrap().confirmations = 1;
		let actions = sim.onchain(&order, payments.clone());
		let wanted = |action: &Action| matches!(action, Action::Refund { number: n, amount: a, .. } if (*n, a.0) == (number, amount));
		assert!(actions.len() == 1 && wanted(&actions[0]), "{actions:?}");
		sim.restart();
		assert_eq!(sim.give(Input::Started), actions);
		sim.refund_sent(&order, number, 50 + id, amount);
		sim.restart();
		assert!(sim.give(Input::Started).is_empty());
		assert!(sim.refund_seen(&order, 50 + id, 6).is_empty());
	}
	assert_eq!(sim.now_order(&order).refunded(), Sat(2 * total + 7_000));
	assert_eq!(sim.now_order(&order).state, OrderState::Completed);
	assert_eq!(sim.earned(EntryKind::OrderFee), i64::try_from(order.fee_total.0 * 1000).unwrap());
}

#[test]
fn l1_29_an_unconfirmed_payment_does_not_hold_up_the_refund_of_a_confirmed_one() {
	let (mut sim, _, order) = ordered();
	sim.onchain(&order, vec![output(1, 15_000, 1, 500), output(2, 16_000, 0, 1)]);
	sim.pass(3600);
	assert!(matches!(&sim.tick()[..], [Action::Refund { amount: Sat(15_000), from, .. }] if *from == outpoints(&[1])));
}

#[test]
fn l1_27_a_payment_counts_at_the_configured_depth_and_at_six_at_the_latest() {
	for depth in 1..=6 {
		let mut policy = plain();
		policy.lsps1.onchain_confirmations = depth;
		let (mut sim, _, order) = ordered_with(policy);
		let total = order.order_total.0;
		for confirmations in 0..u32::from(depth) {
			assert!(sim.onchain(&order, vec![output(1, total, confirmations, 100_000)]).is_empty());
			assert_eq!(sim.get_order(&order)["payment"]["onchain"]["state"], "EXPECT_PAYMENT");
		}
		assert!(opened(&sim.onchain(&order, vec![output(1, total, depth.into(), 253)])).is_some());
		assert_eq!(sim.get_order(&order)["payment"]["onchain"]["state"], "PAID");
	}
	let mut policy = plain();
	policy.lsps1.onchain_confirmations = 7;
	assert_eq!(policy.check().unwrap_err().key, "lsps1.onchain_confirmations");
}

#[test]
fn r19_a_payment_that_is_reorganised_while_the_channel_is_opened_stops_the_opening() {
	let (mut sim, client, order) = ordered();
	let total = order.order_total.0;
	let open = opened(&sim.onchain(&order, vec![output(1, total, 1, 500)])).unwrap();
	let id = open.user_channel_id;
	let abandon = Action::AbandonChannel { user_channel_id: id, peer: client };
	assert_eq!(sim.onchain(&order, vec![output(1, total, 0, 500)]), std::slice::from_ref(&abandon));
	sim.restart();
	assert_eq!(sim.give(Input::Started), [abandon]);
	sim.connect(client);
	let closed = Input::ChannelClosed { user_channel_id: id, reason: "abandoned".into(), by_client: true };
	assert!(sim.give(closed.clone()).is_empty());
	assert!(sim.look(closed).writes.is_empty());
	assert_eq!(sim.now_order(&order).state, OrderState::AwaitingPayment, "it may come back");
	assert_eq!(sim.get_order(&order)["payment"]["onchain"]["state"], "EXPECT_PAYMENT");
	let again = opened(&sim.onchain(&order, vec![output(1, total, 1, 500)])).unwrap();
	assert_ne!(again.user_channel_id, id);
	// Once more, and it does not come back while the order lasts: then it is refunded when it does.
	sim.onchain(&order, vec![]);
	sim.pass(3600);
	sim.give(Input::OpenFailed { user_channel_id: again.user_channel_id, reason: "none".into(), ours: false });
	assert!(matches!(sim.now_order(&order).state, OrderState::Failed { .. }));
	let refund = sim.onchain(&order, vec![output(1, total, 1, 500)]);
	assert!(matches!(&refund[..], [Action::Refund { amount, .. }] if amount.0 == total));
}

#[test]
fn r5_r19_a_payment_that_is_taken_back_after_the_delivery_is_booked_as_lost_and_remembered() {
	let (mut sim, client, order) = ordered();
	let total = order.order_total.0;
	let open = opened(&sim.onchain(&order, vec![output(1, total, 1, 500)])).unwrap();
	// The reorganisation comes just before the funding goes out.
	sim.onchain(&order, vec![]);
	sim.funded(open.user_channel_id);
	let lost = sim.now_order(&order);
	assert_eq!((&lost.state, lost.onchain.unwrap().lost), (&OrderState::Completed, true), "delivered, not refunded");
	assert_eq!((sim.earned(EntryKind::OrderFee), sim.earned(EntryKind::ClientBalance)), (0, -20_000_000));
	assert_eq!(sim.book.client(&client).unwrap().offences, 1);
	assert!(sim.onchain(&order, vec![]).is_empty());
	assert_eq!(sim.book.client(&client).unwrap().offences, 1);
	assert!(sim.onchain(&order, vec![output(1, total, 0, 500)]).is_empty(), "mined again");
	assert!(!sim.now_order(&order).onchain.unwrap().lost);
	assert_eq!(sim.earned(EntryKind::OrderFee), i64::try_from(order.fee_total.0 * 1000).unwrap());
	assert_eq!(sim.earned(EntryKind::ClientBalance), 0);
}

#[test]
fn r5_unconfirmed_payments_are_served_up_to_a_count_and_a_value() {
	let at_risk = |change: &dyn Fn(&mut Policy)| {
		let mut policy = plain();
		policy.lsps1.max_unconfirmed_order_sat = Sat(1_000_000);
		change(&mut policy);
		let mut sim = Sim::with(policy);
		let mut served = Vec::new();
		for client in 1..=6 {
			sim.connect(node(client));
			let params = sim.order_params();
			let (order, _) = sim.order(node(client), params);
			let paid = vec![output(client.into(), order.order_total.0, 0, 5_000)];
			if let Some(open) = opened(&sim.onchain(&order, paid)) {
				sim.funded(open.user_channel_id);
				served.push(order);
			}
		}
		(sim, served)
	};
	let (mut sim, served) = at_risk(&|_| {});
	assert_eq!(served.len(), 3);
	// A confirmation makes room, and what waited is served.
	let first = served[0].clone();
	sim.onchain(&first, vec![output(1, first.order_total.0, 1, 5_000)]);
	let waiting = sim.book.orders().find(|order| order.state == OrderState::AwaitingPayment).unwrap().clone();
	let paid = waiting.onchain.as_ref().unwrap().received.clone();
	assert!(opened(&sim.onchain(&waiting, paid)).is_some());
	// A payment that was taken back holds its place: whoever does that often has to be waited for.
	let total = served[0].order_total;
	let (_, served) = at_risk(&|policy| policy.lsps1.max_unconfirmed_total_sat = Sat(total.0 * 2));
	assert_eq!(served.len(), 2);
	let (_, served) = at_risk(&|policy| policy.lsps1.max_unconfirmed_orders = 0);
	assert!(served.is_empty());
	let (_, served) = at_risk(&|policy| policy.lsps1.max_unconfirmed_order_sat = Sat(total.0 - 1));
	assert!(served.is_empty());
}

#[test]
fn r5_an_unconfirmed_payment_that_is_double_spent_before_the_opening_costs_nothing() {
	let mut policy = plain();
	policy.lsps1.max_unconfirmed_order_sat = Sat(1_000_000);
	let (mut sim, client, order) = ordered_with(policy);
	sim.disconnect(client);
	sim.onchain(&order, vec![output(1, order.order_total.0, 0, 5_000)]);
	assert!(matches!(sim.now_order(&order).state, OrderState::Paid { .. }));
	sim.onchain(&order, vec![]);
	assert_eq!(sim.now_order(&order).state, OrderState::AwaitingPayment);
	assert!(sim.connect(client).is_empty());
	sim.pass(3600);
	assert!(sim.tick().is_empty());
	assert!(matches!(sim.now_order(&order).state, OrderState::Failed { .. }));
	assert_eq!(sim.get_order(&order)["payment"]["onchain"]["state"], "REFUNDED");
}

#[test]
fn l1_26_l1_29_a_double_payment_is_served_by_one_and_the_other_goes_back() {
	for lightning_first in [true, false] {
		let (mut sim, _, order) = ordered();
		let total = order.order_total;
		let fail = Action::FailPayment { payment_hash: order.lightning.as_ref().unwrap().payment_hash };
		let coins = vec![output(1, total.0, 1, 500)];
		let open = if lightning_first {
			let open = opened(&sim.hold(&order, total)).unwrap();
			assert!(sim.onchain(&order, coins.clone()).is_empty());
			open
		} else {
			let open = opened(&sim.onchain(&order, coins.clone())).unwrap();
			assert_eq!(sim.hold(&order, total), [fail]);
			open
		};
		let mut actions = sim.funded(open.user_channel_id);
		if lightning_first {
			actions = sim.claimed(&order, total);
		}
		let refunds = actions.iter().filter(|action| matches!(action, Action::Refund { .. })).count();
		assert_eq!(refunds, usize::from(lightning_first));
		let paid = sim.now_order(&order);
		assert_eq!(paid.lightning.unwrap().state == PaymentState::Paid, lightning_first);
	}
}

#[test]
fn l1_24_the_order_says_how_the_channel_is_opened() {
	let (mut sim, client) = (Sim::new(), node(1));
	let mut policy = plain();
	policy.lsps1.min_funding_confirms_within_blocks = 1;
	sim.lsp = inlet_lsp::Lsp::new(policy, [7; 32]).unwrap();
	sim.connect(client);
	for (announce, confirmations, within, feerate) in [(true, 3, 6, 1000), (false, 0, 5, 2000), (false, 1, 144, 1000)] {
		let mut params = sim.order_params();
		params["announce_channel"] = announce.into();
		params["required_channel_confirmations"] = confirmations.into();
		params["funding_confirms_within_blocks"] = within.into();
		let (order, _) = sim.order(client, params);
		sim.feerate = Some(FeePerKw(1000));
		let open = opened(&sim.hold(&order, order.order_total)).unwrap();
		assert_eq!((open.announce, open.confirmations, open.feerate), (announce, confirmations, FeePerKw(feerate)));
		assert!(open.capacity >= Sat(520_000) && open.push.0 >= 20_000_000);
	}
}

/// A delivered order: its channel, and when the client was told that its lease ends.
fn leased() -> (Sim, Order, [u8; 32]) {
	let (mut sim, _, order) = ordered();
	let open = opened(&sim.hold(&order, order.order_total)).unwrap();
	sim.funded(open.user_channel_id);
	(sim, order, channel_id(open.user_channel_id))
}

#[test]
fn l1_25_l1_30_a_lease_ends_by_height_and_not_before_the_time_that_was_shown() {
	let (mut sim, order, channel) = leased();
	assert_eq!(
		sim.get_order(&order)["channel"]["expires_at"],
		"2023-11-21T20:53:20.000Z",
		"1000 blocks of ten minutes"
	);
	let lease = sim.book.lease(&channel).unwrap();
	assert_eq!((lease.client, &lease.sold_as), (order.client, &order.id));
	let (end, until) = (lease.until_height, lease.until.unwrap());
	assert_eq!(until, sim.now.plus_secs(600_000));
	assert!(end >= sim.height + order.channel_expiry_blocks);
	// Blocks come faster than one in ten minutes.
	assert_eq!(lease.blocks_left(end, sim.now), 1000);
	assert_eq!(lease.blocks_left(end, inlet_lsp::time::Timestamp(until.0 - 1)), 1);
	assert_eq!(lease.blocks_left(end, until), 0);
	// And slower.
	assert_eq!(lease.blocks_left(end - 3, until.plus_secs(1)), 3);
	sim.claimed(&order, order.order_total);
	assert!(sim.book.lease(&channel).is_some());
}

#[test]
fn l1_30_a_lease_that_the_operator_breaks_is_on_record() {
	let (mut sim, order, channel) = leased();
	let broken = Input::LeaseBroken { channel_id: channel, blocks_left: 900 };
	assert!(sim.give(broken.clone()).is_empty());
	let note = sim.now_order(&order).history.last().unwrap().clone();
	assert_eq!((note.step.as_str(), note.text.as_str()), ("lease", "broken by the operator with 900 blocks left"));
	assert!(sim.look(broken).writes.is_empty(), "once");
}
