//! A client that trusts us: its funding transaction is broadcast when the payment is taken, and not before.

use crate::harness::*;
use inlet_lsp::book::{EntryKind, NodeId, Sale, SaleState};
use inlet_lsp::input::{Action, Input, OpenChannel};
use inlet_lsp::jit::DISCARD_AFTER_SECS;
use inlet_lsp::money::Sat;
use inlet_lsp::policy::Trust;
use inlet_lsp::trust::OffenceKind;

/// A stranger's sale whose channel was asked for.
fn opening() -> (Sim, NodeId, Sale, OpenChannel) {
	let (mut sim, client) = (Sim::with(trusting(Trust::Known)), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	assert!(sale.client_trusts);
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	assert!(open.withhold);
	(sim, client, sale, open)
}

/// And whose payment is on its way to it.
fn in_flight() -> (Sim, NodeId, Sale, OpenChannel) {
	let (mut sim, client, sale, open) = opening();
	assert!(sim.withheld(open.user_channel_id).is_empty());
	assert_eq!(forwards(&sim.ready(client, open.user_channel_id)), [(1, 50_000_000 - sale.fee.unwrap().0)]);
	sim.peers.get_mut(&client).unwrap().in_flight = vec![hash(1)];
	(sim, client, sale, open)
}

fn broadcasts(actions: &[Action]) -> Vec<u128> {
	let one = |action: &Action| match action {
		Action::BroadcastFunding { user_channel_id, .. } => Some(*user_channel_id),
		_ => None,
	};
	actions.iter().filter_map(one).collect()
}

fn discards(actions: &[Action]) -> Vec<u128> {
	let one = |action: &Action| match action {
		Action::DiscardFunding { user_channel_id, .. } => Some(*user_channel_id),
		_ => None,
	};
	actions.iter().filter_map(one).collect()
}

fn fail(sim: &mut Sim, client: NodeId, open: &OpenChannel) -> Vec<Action> {
	sim.peers.get_mut(&client).unwrap().in_flight.clear();
	sim.give(Input::ForwardFailed { peer: client, channel_id: channel_id(open.user_channel_id), by_client: true })
}

/// The answer to a broadcast that was asked for.
fn out(sim: &mut Sim, actions: &[Action]) -> Input {
	let [Action::BroadcastFunding { user_channel_id, channel_id, funding }] = actions[..] else {
		panic!("{actions:?}")
	};
	let input = Input::Funded { user_channel_id, channel_id, funding, fee: Some(Sat(850)), shared: false };
	sim.give(input.clone());
	input
}

#[test]
fn l2_30_r2_the_funding_goes_out_when_the_payment_is_taken_and_costs_then() {
	let (mut sim, _, sale, open) = in_flight();
	assert_eq!(
		(sim.earned(EntryKind::FundingCost), sim.book.reserved()),
		(0, Sat(0)),
		"the wallet has locked the coins"
	);
	assert_eq!(sim.book.withheld_fundings().len(), 1);
	let actions = sim.settle(&sale, sale.fee.unwrap().0, "a");
	assert_eq!(broadcasts(&actions).first(), Some(&open.user_channel_id));
	assert_eq!(sim.earned(EntryKind::FundingCost), 0);
	let funded = out(&mut sim, &actions[..1]);
	assert_eq!(sim.earned(EntryKind::FundingCost), -850_000);
	assert_eq!(sim.sale(&sale).state, SaleState::Done);
	assert!(sim.book.withheld_fundings().is_empty());
	assert!(sim.look(funded).writes.is_empty());
	assert_eq!(sim.book.keep_until(&channel_id(open.user_channel_id)), Some(800_000 + 4320 + 144));
}

#[test]
fn r2_the_first_part_that_is_taken_is_enough() {
	let (mut sim, client) = (Sim::with(trusting(Trust::Nobody)), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	sim.htlc(&sale, 1, 1, 25_000_000);
	let open = opened(&sim.htlc(&sale, 2, 1, 25_000_000)).unwrap();
	sim.withheld(open.user_channel_id);
	assert_eq!(forwards(&sim.ready(client, open.user_channel_id)).len(), 2);
	let actions = sim.settle(&sale, 0, "the part that bears no fee");
	assert_eq!(broadcasts(&actions), [open.user_channel_id]);
	assert_eq!(sim.sale(&sale).state, SaleState::Forwarded);
}

#[test]
fn r12_a_broadcast_that_may_not_have_happened_happens_after_a_restart_until_it_is_known_to_be_out() {
	let (mut sim, _, sale, open) = in_flight();
	let asked = sim.settle(&sale, sale.fee.unwrap().0, "a");
	for _crash in 0..3 {
		sim.restart();
		assert_eq!(broadcasts(&sim.give(Input::Started)), [open.user_channel_id]);
	}
	assert_eq!(sim.book.withheld_fundings().len(), 1, "the coins are wanted");
	out(&mut sim, &asked[..1]);
	sim.restart();
	assert!(sim.give(Input::Started).is_empty());
}

#[test]
fn r12_a_crash_before_the_decision_replays_it() {
	let (mut sim, _, sale, open) = in_flight();
	let settled = Input::Forwarded {
		next_peer: Some(sale.client),
		next_channel: Some(channel_id(open.user_channel_id)),
		total_fee: sale.fee.unwrap(),
		skimmed: sale.fee.unwrap(),
		intercept_id: None,
		reference: "a".into(),
		came: Vec::new(),
		went: Vec::new(),
	};
	assert_eq!(broadcasts(&sim.look(settled.clone()).actions).first(), Some(&open.user_channel_id));
	sim.restart();
	assert!(broadcasts(&sim.give(Input::Started)).is_empty(), "nobody knows of it");
	assert_eq!(broadcasts(&sim.give(settled.clone())).first(), Some(&open.user_channel_id));
	let again = sim.look(settled);
	assert!(again.writes.is_empty() && !broadcasts(&again.actions).is_empty(), "asked for again until it is out");
}

#[test]
fn r12_a_crash_while_the_channel_is_withheld_asks_for_nothing_on_the_chain() {
	let (mut sim, client, sale, open) = opening();
	let signed = sim.withheld_input(open.user_channel_id);
	sim.give(signed.clone());
	sim.restart();
	assert!(sim.give(Input::Started).is_empty());
	assert!(sim.htlc(&sale, 1, 1, 50_000_000).is_empty());
	assert_eq!(opened(&sim.connect(client)).unwrap().user_channel_id, open.user_channel_id, "it is asked for again");
	assert!(sim.look(signed).writes.is_empty());
	assert_eq!(forwards(&sim.ready(client, open.user_channel_id)).len(), 1);
}

#[test]
fn r3_l2_31_a_probe_leaves_no_transaction_frees_the_coins_and_the_next_payment_opens_anew() {
	let (mut sim, client, sale, open) = in_flight();
	let actions = fail(&mut sim, client, &open);
	assert_eq!(actions, [Action::AbandonChannel { user_channel_id: open.user_channel_id, peer: client }]);
	assert_eq!(sim.sale(&sale).state, SaleState::Bought);
	let log = &sim.book.client(&client).unwrap().offence_log;
	assert_eq!(log.iter().map(|one| one.kind).collect::<Vec<_>>(), [OffenceKind::Failed]);
	// What LDK says of the end changes nothing.
	let closed =
		Input::ChannelClosed { user_channel_id: open.user_channel_id, reason: "abandoned".into(), by_client: true };
	assert!(sim.look(closed).writes.is_empty());
	sim.peers.get_mut(&client).unwrap().channels.clear();

	let again = opened(&sim.htlc(&sale, 2, 2, 50_000_000)).expect("valid_until is ahead");
	assert_ne!(again.user_channel_id, open.user_channel_id);
	assert!(discards(&sim.tick()).is_empty(), "LDK may know a preimage that it has not told of");
	sim.withheld(again.user_channel_id);
	sim.ready(client, again.user_channel_id);
	sim.settle(&sale, sale.fee.unwrap().0, "b");
	sim.pass(DISCARD_AFTER_SECS);
	assert_eq!(discards(&sim.tick()), [open.user_channel_id]);
	sim.give(Input::FundingDiscarded { user_channel_id: open.user_channel_id });
	assert!(sim.sale(&sale).discarding.is_empty());
	assert_eq!(sim.book.next_deadline(), None);
}

#[test]
fn r12_coins_are_asked_for_until_they_are_free_also_over_restarts() {
	let (mut sim, client, _, open) = in_flight();
	fail(&mut sim, client, &open);
	sim.pass(DISCARD_AFTER_SECS);
	assert_eq!(discards(&sim.tick()), [open.user_channel_id]);
	sim.restart();
	let actions = sim.give(Input::Started);
	assert_eq!(actions, [Action::AbandonChannel { user_channel_id: open.user_channel_id, peer: client }]);
	assert!(discards(&sim.tick()).is_empty(), "LDK has the time to tell what it knows");
	sim.pass(DISCARD_AFTER_SECS);
	assert_eq!(discards(&sim.tick()), [open.user_channel_id]);
	assert_eq!(sim.book.withheld_fundings().len(), 1);
	sim.give(Input::FundingDiscarded { user_channel_id: open.user_channel_id });
	assert!(sim.book.withheld_fundings().is_empty());
}

#[test]
fn r2_r12_a_payment_that_was_taken_although_the_channel_ended_still_gets_it_on_the_chain() {
	let (mut sim, client, sale, open) = in_flight();
	let closed =
		Input::ChannelClosed { user_channel_id: open.user_channel_id, reason: "the client".into(), by_client: true };
	sim.give(closed);
	sim.peers.get_mut(&client).unwrap().channels.clear();
	let settled = Input::Forwarded {
		next_peer: Some(client),
		next_channel: Some(channel_id(open.user_channel_id)),
		total_fee: sale.fee.unwrap(),
		skimmed: sale.fee.unwrap(),
		intercept_id: None,
		reference: "a".into(),
		came: Vec::new(),
		went: Vec::new(),
	};
	assert_eq!(broadcasts(&sim.give(settled)), [open.user_channel_id]);
	sim.pass(DISCARD_AFTER_SECS);
	let actions = sim.tick();
	assert_eq!((broadcasts(&actions), discards(&actions)), (vec![open.user_channel_id], vec![]));
	sim.restart();
	let actions = sim.give(Input::Started);
	out(&mut sim, &actions);
	assert!(sim.book.withheld_fundings().is_empty() && sim.sale(&sale).next_deadline().is_none());
	assert_eq!(sim.earned(EntryKind::JitFee), i64::try_from(sale.fee.unwrap().0).unwrap());
	assert_eq!(sim.earned(EntryKind::FundingCost), -850_000);
}

#[test]
fn r2_an_htlc_held_to_its_timeout_costs_nothing_but_the_client_its_name() {
	let (mut sim, client, sale, open) = in_flight();
	sim.height += 103;
	assert!(sim.tick().is_empty(), "LDK closes the channel");
	sim.give(Input::ChannelClosed {
		user_channel_id: open.user_channel_id,
		reason: "HTLCs timed out".into(),
		by_client: true,
	});
	assert_eq!(sim.book.client(&client).unwrap().offence_log[0].kind, OffenceKind::Held);
	assert!(matches!(sim.sale(&sale).state, SaleState::Bought));
	sim.pass(DISCARD_AFTER_SECS);
	assert_eq!(discards(&sim.tick()), [open.user_channel_id]);
	assert_eq!(sim.earned(EntryKind::FundingCost), 0);
}

#[test]
fn r2_a_payment_of_which_nothing_is_heard_any_more_locks_coins_for_a_bounded_time() {
	let (mut sim, client, _, open) = in_flight();
	sim.height += 112;
	assert_eq!(sim.tick(), [Action::AbandonChannel { user_channel_id: open.user_channel_id, peer: client }]);
	assert_eq!(sim.book.client(&client).unwrap().offences, 1);
	assert!(sim.tick().is_empty());
}

#[test]
fn l2_25_a_client_that_goes_before_the_channel_is_ready_leaves_nothing_behind() {
	let (mut sim, client, sale, open) = opening();
	sim.withheld(open.user_channel_id);
	sim.disconnect(client);
	sim.pass(60);
	let actions = sim.tick();
	assert_eq!(failed(&actions), [1]);
	assert!(actions.contains(&Action::AbandonChannel { user_channel_id: open.user_channel_id, peer: client }));
	assert_eq!(sim.sale(&sale).state, SaleState::Bought);
	assert_eq!(discards(&sim.tick()), [open.user_channel_id], "nothing was sent over it");
	assert_eq!(sim.book.client(&client).unwrap().offence_log[0].kind, OffenceKind::Unpaid);
}

#[test]
fn l2_25_a_signature_that_comes_after_we_gave_up_frees_the_coins_at_once() {
	let (mut sim, _, sale, open) = opening();
	sim.pass(60);
	sim.tick();
	let late = sim.withheld_input(open.user_channel_id);
	sim.give(late.clone());
	assert_eq!(sim.sale(&sale).state, SaleState::Bought);
	assert_eq!(discards(&sim.tick()), [open.user_channel_id]);
	assert!(sim.look(late).writes.is_empty());
}

#[test]
fn a_payer_that_gives_up_is_no_offence_of_the_client() {
	let (mut sim, client, _, open) = opening();
	sim.withheld(open.user_channel_id);
	let actions = sim.give(Input::HtlcGone { intercept_id: [1; 32] });
	assert_eq!(actions, [Action::AbandonChannel { user_channel_id: open.user_channel_id, peer: client }]);
	assert_eq!(sim.book.client(&client).unwrap().offences, 0);
}

#[test]
fn r2_only_the_last_part_that_fails_ends_the_payment() {
	let (mut sim, client, sale, open) = in_flight();
	let failed = Input::ForwardFailed { peer: client, channel_id: channel_id(open.user_channel_id), by_client: true };
	assert!(sim.give(failed).is_empty(), "another part is still on its way");
	assert_eq!(sim.sale(&sale).state, SaleState::Forwarded);
	assert!(!fail(&mut sim, client, &open).is_empty());
}

#[test]
fn l2_26_a_channel_that_nobody_wanted_withheld_goes_out_at_once() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	assert!(!open.withhold);
	assert_eq!(broadcasts(&sim.withheld(open.user_channel_id)), [open.user_channel_id]);
}

#[test]
fn r2_a_payment_taken_in_part_keeps_the_channel_and_the_rest_of_the_fee_is_owed() {
	let (mut sim, client) = (Sim::with(trusting(Trust::Nobody)), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	sim.htlc(&sale, 1, 1, 25_000_000);
	let open = opened(&sim.htlc(&sale, 2, 1, 25_000_000)).unwrap();
	sim.withheld(open.user_channel_id);
	sim.ready(client, open.user_channel_id);
	let asked = sim.settle(&sale, 1_000, "a");
	// The broadcast is not known to have happened when the other part fails.
	assert!(fail(&mut sim, client, &open).is_empty());
	assert_eq!(sim.sale(&sale).state, SaleState::Owing);
	let offences = &sim.book.client(&client).unwrap().offence_log;
	assert!(offences.len() == 1 && offences[0].cost, "it has its channel for a part of the fee: {offences:?}");
	out(&mut sim, &asked[..1]);
	let actions = sim.htlc(&sale, 3, 3, 50_000_000);
	assert!(opened(&actions).is_none());
	assert_eq!(forwards(&actions), [(3, 50_000_000 - sale.fee.unwrap().0 + 1_000)]);
}

#[test]
fn l2_28_nothing_that_we_decide_ends_a_channel_that_was_paid_for() {
	let (mut sim, client, sale, open) = in_flight();
	let asked = sim.settle(&sale, sale.fee.unwrap().0, "a");
	let ends = |actions: &[Action]| {
		let is_end = |action: &Action| matches!(action, Action::AbandonChannel { .. } | Action::DiscardFunding { .. });
		actions.iter().any(is_end)
	};
	for round in 0..10 {
		if round == 3 {
			out(&mut sim, &asked[..1]);
		}
		sim.pass(1_000);
		sim.height += 100;
		assert!(!ends(&sim.tick()));
		assert!(!ends(&fail(&mut sim, client, &open)), "a later payment that the client fails");
		sim.restart();
		assert!(!ends(&sim.give(Input::Started)));
		assert!(!ends(&sim.connect(client)));
	}
	assert_eq!(sim.sale(&sale).state, SaleState::Done);
}
