//! Channels ordered and paid by a hold invoice.

use crate::harness::*;
use inlet_lsp::book::{EntryKind, Order, OrderState, PaidBy, PaymentState};
use inlet_lsp::input::{Action, Input};
use inlet_lsp::money::Sat;

fn ordered() -> (Sim, inlet_lsp::book::NodeId, Order) {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let params = sim.order_params();
	let (order, _) = sim.order(client, params);
	(sim, client, order)
}

fn refused(order: &Order) -> Action {
	Action::FailPayment { payment_hash: order.lightning.as_ref().unwrap().payment_hash }
}

#[test]
fn l1_5_to_10_the_answer_mirrors_the_request() {
	let (mut sim, client) = (Sim::new(), node(1));
	let params = sim.order_params();
	let (order, answer) = sim.order(client, params.clone());
	for (name, value) in params.as_object().unwrap() {
		if name != "refund_onchain_address" {
			assert_eq!(&answer[name], value, "{name}");
		}
	}
	assert_eq!((&answer["order_state"], &answer["channel"]), (&"CREATED".into(), &serde_json::Value::Null));
	assert_eq!(answer["token"], "");
	assert_eq!(answer["created_at"], "2023-11-14T22:13:20.000Z");
	assert_eq!(answer["order_id"], order.id);
	assert_eq!((order.id.len(), order.id.as_bytes()[14]), (36, b'4'), "a UUID v4");
	for option in ["bolt11", "onchain"] {
		let payment = &answer["payment"][option];
		assert_eq!(payment["state"], "EXPECT_PAYMENT");
		assert_eq!(payment["expires_at"], "2023-11-14T23:13:20.000Z");
		let number = |name: &str| payment[name].as_str().unwrap().parse::<u64>().unwrap();
		assert_eq!(number("order_total_sat"), number("fee_total_sat") + 20_000, "L1-10");
	}
	assert!(answer["payment"].get("bolt12").is_none());
	let onchain = &answer["payment"]["onchain"];
	assert_eq!(onchain["refund_onchain_address"], REFUND_ADDRESS);
	assert_eq!(
		(&onchain["min_onchain_payment_confirmations"], &onchain["min_fee_for_0conf"]),
		(&0.into(), &2000.into())
	);
	assert_eq!(sim.get_order(&order), answer, "L1-19");
}

#[test]
fn l1_13_without_refund_address_there_is_no_onchain_payment() {
	let (mut sim, client) = (Sim::new(), node(1));
	let mut params = sim.order_params();
	params.as_object_mut().unwrap().remove("refund_onchain_address");
	let (_, answer) = sim.order(client, params);
	assert!(answer["payment"].get("onchain").is_none());
}

#[test]
fn l1_21_every_order_has_an_id_of_its_own() {
	let (mut sim, client, order) = ordered();
	let params = sim.order_params();
	assert_ne!(sim.order(client, params).0.id, order.id);
}

#[test]
fn r6_the_payment_is_held_then_the_channel_opened_then_the_payment_claimed() {
	let (mut sim, client, order) = ordered();
	let open = opened(&sim.hold(&order, order.order_total)).unwrap();
	assert_eq!((open.capacity, open.push.0, open.announce), (Sat(520_000), 20_000_000, false));
	assert_eq!(sim.get_order(&order)["payment"]["bolt11"]["state"], "HOLD", "L1-23");
	assert_eq!(sim.get_order(&order)["order_state"], "CREATED");
	let payment_hash = order.lightning.as_ref().unwrap().payment_hash;
	let actions = sim.funded(open.user_channel_id);
	assert_eq!(actions, [Action::ClaimPayment { order: order.id.clone(), payment_hash }]);
	let shown = sim.get_order(&order);
	assert_eq!((&shown["order_state"], &shown["payment"]["bolt11"]["state"]), (&"COMPLETED".into(), &"PAID".into()));
	assert_eq!(shown["channel"]["funded_at"], "2023-11-14T22:13:20.000Z", "L1-25");
	assert_eq!(shown["channel"]["expires_at"], "2023-11-21T20:53:20.000Z");
	assert!(shown["channel"]["funding_outpoint"].as_str().unwrap().ends_with(":0"));
	assert_eq!(sim.now_order(&order).state, OrderState::Funded { by: PaidBy::Lightning });
	sim.claimed(&order, order.order_total);
	sim.claimed(&order, order.order_total);
	assert_eq!(sim.now_order(&order).state, OrderState::Completed);
	assert_eq!(sim.earned(EntryKind::OrderFee), i64::try_from(order.fee_total.0 * 1000).unwrap());
	assert_eq!(sim.earned(EntryKind::ClientBalance), 0, "in and out");
	assert_eq!(sim.book.client(&client).unwrap().orders_done, 1);
	assert_eq!((sim.book.reserved(), sim.book.next_deadline()), (Sat(0), None));
	assert_eq!(sim.book.keep_until(&channel_id(open.user_channel_id)), Some(800_000 + 1000 + 144), "L1-30");
}

#[test]
fn l1_29_late_or_short_payments_go_back() {
	let (mut sim, _, order) = ordered();
	assert_eq!(sim.hold(&order, Sat(order.order_total.0 - 1)), [refused(&order)]);
	assert_eq!(sim.now_order(&order).state, OrderState::AwaitingPayment);
	sim.pass(3600);
	assert_eq!(sim.hold(&order, order.order_total), [refused(&order)]);
	sim.tick();
	let shown = sim.get_order(&order);
	assert_eq!((&shown["order_state"], &shown["payment"]["bolt11"]["state"]), (&"FAILED".into(), &"REFUNDED".into()));
	assert_eq!(sim.book.reserved(), Sat(0));
	let unknown = Input::PaymentHeld { payment_hash: [9; 32], amount: inlet_lsp::money::Msat(1), claim_deadline: None };
	assert_eq!(sim.give(unknown), [Action::FailPayment { payment_hash: [9; 32] }]);
}

#[test]
fn l1_24_a_client_that_is_away_is_waited_for_until_the_deadline() {
	let (mut sim, client, order) = ordered();
	sim.disconnect(client);
	assert!(sim.hold(&order, order.order_total).is_empty());
	assert!(sim.book.awaited_clients().contains(&client));
	sim.pass(1799);
	assert!(sim.tick().is_empty());
	let open = opened(&sim.connect(client)).unwrap();
	// It goes away while the channel is being opened: still the same deadline.
	sim.disconnect(client);
	sim.give(Input::OpenFailed { user_channel_id: open.user_channel_id, reason: "gone".into(), ours: false });
	assert!(matches!(sim.now_order(&order).state, OrderState::Paid { .. }));
	sim.pass(1);
	assert_eq!(sim.tick(), [refused(&order)]);
	assert!(matches!(sim.now_order(&order).state, OrderState::Failed { .. }));
}

#[test]
fn l1_26_a_refused_channel_gives_the_money_back_at_once() {
	let (mut sim, _, order) = ordered();
	let open = opened(&sim.hold(&order, order.order_total)).unwrap();
	let failed = Input::OpenFailed { user_channel_id: open.user_channel_id, reason: "no".into(), ours: false };
	assert_eq!(sim.give(failed.clone()), [refused(&order)]);
	assert!(sim.look(failed).writes.is_empty());
	let shown = sim.get_order(&order);
	assert_eq!((&shown["order_state"], &shown["payment"]["bolt11"]["state"]), (&"FAILED".into(), &"REFUNDED".into()));
	assert_eq!(sim.book.reserved(), Sat(0));
}

#[test]
fn l1_26_a_held_payment_goes_back_before_it_times_out() {
	let (mut sim, client, order) = ordered();
	sim.disconnect(client);
	sim.hold(&order, order.order_total);
	sim.height += 93;
	assert!(sim.tick().is_empty());
	sim.height += 1;
	assert_eq!(sim.tick(), [refused(&order)]);
}

#[test]
fn a_payment_that_is_about_to_time_out_is_not_taken() {
	let (mut sim, _, order) = ordered();
	let payment_hash = order.lightning.as_ref().unwrap().payment_hash;
	let amount = order.order_total.to_msat().unwrap();
	let claim_deadline = Some(sim.height + 6);
	assert_eq!(sim.give(Input::PaymentHeld { payment_hash, amount, claim_deadline }), [refused(&order)]);
	assert_eq!(sim.now_order(&order).state, OrderState::AwaitingPayment);
}

#[test]
fn a_restart_takes_the_order_up_where_it_was() {
	let (mut sim, client, order) = ordered();
	let open = opened(&sim.hold(&order, order.order_total)).unwrap();
	sim.restart();
	assert!(sim.give(Input::Started).is_empty());
	assert!(sim.hold(&order, order.order_total).is_empty(), "LDK shows the payment again");
	let again = opened(&sim.connect(client)).unwrap();
	assert_eq!(again, open);
	sim.funded(open.user_channel_id);
	sim.restart();
	let payment_hash = order.lightning.as_ref().unwrap().payment_hash;
	let claim = Action::ClaimPayment { order: order.id.clone(), payment_hash };
	assert_eq!(sim.give(Input::Started), std::slice::from_ref(&claim));
	assert_eq!(sim.hold(&order, order.order_total), [claim]);
	sim.claimed(&order, order.order_total);
	sim.restart();
	assert!(sim.give(Input::Started).is_empty());
}

#[test]
fn an_order_that_was_being_made_is_dropped_by_a_restart_or_a_failure() {
	let (mut sim, client) = (Sim::new(), node(1));
	let request =
		serde_json::json!({"jsonrpc": "2.0", "id": "o", "method": "lsps1.create_order", "params": sim.order_params()});
	let input = Input::Message { peer: client, bytes: request.to_string().into_bytes() };
	sim.give(input.clone());
	let order = sim.book.orders().next().unwrap().clone();
	let answer = sim.ask(client, "lsps1.get_order", serde_json::json!({"order_id": order.id}));
	assert_eq!(answer["error"]["code"], 101, "nothing was promised yet");
	sim.restart();
	assert!(sim.give(Input::Started).is_empty());
	assert!(matches!(sim.now_order(&order).state, OrderState::Failed { .. }));
	sim.give(input);
	let order = sim.book.orders().find(|order| order.state == OrderState::Preparing).unwrap().id.clone();
	let actions = sim.give(Input::PrepareFailed { order, reason: "disk".into() });
	let answer = only_answer(client, &actions).unwrap();
	assert_eq!((&answer["id"], &answer["error"]["code"]), (&"o".into(), &1.into()));
	assert_eq!((sim.book.reserved(), sim.book.next_deadline()), (Sat(0), None));
}

/// An order whose channel was not funded in time: the node is asked to stop it.
fn abandoning() -> (Sim, Order, u128, Action) {
	let (mut sim, client, order) = ordered();
	let user_channel_id = opened(&sim.hold(&order, order.order_total)).unwrap().user_channel_id;
	sim.pass(1800);
	let abandon = Action::AbandonChannel { user_channel_id, peer: client };
	assert_eq!(sim.tick(), std::slice::from_ref(&abandon), "the payment is not given back yet");
	assert!(matches!(sim.now_order(&order).state, OrderState::Abandoning { by: PaidBy::Lightning, .. }));
	(sim, order, user_channel_id, abandon)
}

#[test]
fn r6_a_channel_funded_at_the_deadline_is_paid_for() {
	let (mut sim, order, user_channel_id, _) = abandoning();
	assert!(sim.book.reserved() > Sat(520_000), "the channel may still come");
	let shown = sim.get_order(&order);
	assert_eq!((&shown["order_state"], &shown["payment"]["bolt11"]["state"]), (&"CREATED".into(), &"HOLD".into()));
	let payment_hash = order.lightning.as_ref().unwrap().payment_hash;
	assert_eq!(sim.funded(user_channel_id), [Action::ClaimPayment { order: order.id.clone(), payment_hash }]);
	sim.claimed(&order, order.order_total);
	assert_eq!(sim.now_order(&order).state, OrderState::Completed);
	assert_eq!((sim.book.reserved(), sim.book.next_deadline()), (Sat(0), None));
}

/// The client breaks off when the funding is on its way, here or gone: the node says first that it is out.
#[test]
fn r6_r5_an_order_whose_channel_is_closed_after_its_funding_went_out_is_delivered_and_paid() {
	for (here, abandoned) in [(true, false), (false, false), (true, true)] {
		let (mut sim, client, order) = ordered();
		let user_channel_id = opened(&sim.hold(&order, order.order_total)).unwrap().user_channel_id;
		if abandoned {
			sim.pass(1800);
			sim.tick();
		}
		if !here {
			sim.disconnect(client);
		}
		let payment_hash = order.lightning.as_ref().unwrap().payment_hash;
		assert_eq!(sim.funded(user_channel_id), [Action::ClaimPayment { order: order.id.clone(), payment_hash }]);
		let closed = Input::ChannelClosed { user_channel_id, reason: "error".into(), by_client: true };
		assert!(sim.give(closed.clone()).is_empty(), "nothing is given back");
		assert!(sim.look(closed).writes.is_empty());
		assert_eq!(opened(&sim.connect(client)).map(|open| open.user_channel_id), None, "no second channel");
		sim.claimed(&order, order.order_total);
		let done = sim.now_order(&order);
		assert_eq!(done.state, OrderState::Completed);
		assert!(done.channel.is_some_and(|channel| channel.closed_at.is_some()));
		assert_eq!(sim.earned(EntryKind::FundingCost), -850_000);
	}
}

#[test]
fn r6_the_money_goes_back_when_the_node_says_that_there_is_no_channel() {
	for closed in [true, false] {
		let (mut sim, order, user_channel_id, _) = abandoning();
		let reason = "too late".to_string();
		let answer = if closed {
			Input::ChannelClosed { user_channel_id, reason, by_client: true }
		} else {
			Input::OpenFailed { user_channel_id, reason, ours: false }
		};
		assert_eq!(sim.give(answer.clone()), [refused(&order)]);
		assert!(sim.look(answer).writes.is_empty());
		let failed = OrderState::Failed { reason: "the channel was not funded in time".into() };
		assert_eq!(sim.now_order(&order).state, failed);
		assert_eq!((sim.book.reserved(), sim.book.next_deadline()), (Sat(0), None));
		assert!(sim.funded(user_channel_id).is_empty(), "nothing to claim");
		assert_eq!(sim.earned(EntryKind::FundingCost), -850_000, "booked all the same");
		assert_eq!(sim.now_order(&order).lightning.unwrap().state, PaymentState::Refunded);
	}
}

#[test]
fn an_answer_that_does_not_come_is_asked_for_again_without_haste() {
	let (mut sim, order, _, abandon) = abandoning();
	assert_eq!(sim.book.next_deadline(), Some(sim.now.plus_secs(5)));
	assert!(sim.tick().is_empty());
	sim.pass(5);
	assert_eq!(sim.tick(), std::slice::from_ref(&abandon));
	assert!(sim.tick().is_empty());
	assert!(sim.connect(order.client).is_empty() && !sim.book.awaited_clients().contains(&order.client));
	assert!(sim.hold(&order, order.order_total).is_empty(), "LDK shows the payment again");
	sim.restart();
	assert_eq!(sim.give(Input::Started), [abandon]);
}

#[test]
fn r6_a_payment_that_is_about_to_expire_waits_for_the_end_of_its_channel() {
	let (mut sim, client, order) = ordered();
	let user_channel_id = opened(&sim.hold(&order, order.order_total)).unwrap().user_channel_id;
	sim.height += 94;
	assert_eq!(sim.tick(), [Action::AbandonChannel { user_channel_id, peer: client }]);
	sim.height += 4;
	assert!(sim.tick().is_empty(), "the node decides");
	sim.height += 16;
	assert_eq!(sim.tick(), [refused(&order)], "LDK lets it go");
	assert_eq!(sim.give(Input::OpenFailed { user_channel_id, reason: "none".into(), ours: false }), []);
	let reason = "the held payment was about to expire".to_string();
	assert_eq!(sim.now_order(&order).state, OrderState::Failed { reason });
}

#[test]
fn a_payment_given_back_just_before_a_crash_is_given_back_again() {
	let (mut sim, client, order) = ordered();
	let open = opened(&sim.hold(&order, order.order_total)).unwrap();
	sim.give(Input::OpenFailed { user_channel_id: open.user_channel_id, reason: "no".into(), ours: false });
	// The step is committed, LDK has not recorded that the HTLC failed, and does not show it again.
	sim.restart();
	assert_eq!(sim.give(Input::Started), [refused(&order)]);
	sim.height += 100;
	sim.restart();
	assert!(sim.give(Input::Started).is_empty(), "LDK has failed it itself");
	// Another one, paid by its own means: its payment is never failed.
	let params = sim.order_params();
	let (paid, _) = sim.order(client, params);
	sim.connect(client);
	let open = opened(&sim.hold(&paid, paid.order_total)).unwrap();
	sim.funded(open.user_channel_id);
	sim.claimed(&paid, paid.order_total);
	sim.restart();
	assert!(sim.give(Input::Started).is_empty());
}

#[test]
fn a_payment_of_an_order_that_was_paid_onchain_is_given_back_again_after_a_crash() {
	let (mut sim, _, order) = ordered();
	let open = opened(&sim.onchain(&order, vec![output(1, order.order_total.0, 1, 500)])).unwrap();
	assert_eq!(sim.hold(&order, order.order_total), [refused(&order)]);
	sim.restart();
	assert_eq!(sim.give(Input::Started), [refused(&order)]);
	sim.funded(open.user_channel_id);
	assert_eq!(sim.now_order(&order).state, OrderState::Completed);
	sim.restart();
	assert_eq!(sim.give(Input::Started), [refused(&order)]);
}

#[test]
fn a_channel_that_we_could_not_open_is_tried_again_without_haste_until_the_deadline() {
	let (mut sim, client, order) = ordered();
	let mut open = opened(&sim.hold(&order, order.order_total)).unwrap();
	for _ in 0..179 {
		let reason = "no coins at this moment".to_string();
		let ours = Input::OpenFailed { user_channel_id: open.user_channel_id, reason, ours: true };
		assert!(sim.give(ours.clone()).is_empty());
		assert!(sim.look(ours).writes.is_empty());
		assert!(matches!(sim.now_order(&order).state, OrderState::Paid { by: PaidBy::Lightning, .. }));
		assert!(sim.book.awaited_clients().contains(&client));
		sim.pass(9);
		assert!(sim.connect(client).is_empty() && sim.hold(&order, order.order_total).is_empty(), "not yet");
		sim.pass(1);
		let again = opened(&sim.connect(client)).unwrap();
		assert_ne!(again.user_channel_id, open.user_channel_id);
		open = again;
	}
	sim.give(Input::OpenFailed { user_channel_id: open.user_channel_id, reason: "no coins".into(), ours: true });
	sim.pass(10);
	assert!(sim.connect(client).is_empty());
	assert_eq!(sim.tick(), [refused(&order)]);
	assert!(matches!(sim.now_order(&order).state, OrderState::Failed { .. }));
}
