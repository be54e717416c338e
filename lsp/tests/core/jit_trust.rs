//! Who is trusted, who is refused, and when strangers have to wait.

use crate::harness::*;
use crate::jit_sale::sold;
use inlet_lsp::book::{EntryKind, NodeId, Sale, SaleState};
use inlet_lsp::input::{Action, ChannelView, Input};
use inlet_lsp::money::Msat;
use inlet_lsp::policy::Trust;
use inlet_lsp::trust;
use serde_json::json;

/// A client refuses the channel that it bought.
fn refuse(sim: &mut Sim, client: NodeId, sale: &Sale) -> Vec<Action> {
	let id = u8::try_from(sim.fresh() % 251).unwrap();
	let open = opened(&sim.htlc(sale, id, id, 50_000_000)).unwrap();
	assert_eq!(open.peer, client);
	sim.give(Input::OpenFailed { user_channel_id: open.user_channel_id, reason: "no".into(), ours: false })
}

fn stranger_that_refuses(sim: &mut Sim, number: u8) -> Vec<Action> {
	let client = node(number);
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	refuse(sim, client, &sale)
}

/// A client has a channel opened for which we paid a miner, and fails the payment.
fn stranger_that_costs(sim: &mut Sim, number: u8) -> Vec<Action> {
	let client = node(number);
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	let id = u8::try_from(sim.fresh() % 251).unwrap();
	let open = opened(&sim.htlc(&sale, id, id, 50_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	sim.ready(client, open.user_channel_id);
	sim.give(Input::ForwardFailed { peer: client, channel_id: channel_id(open.user_channel_id), by_client: true })
}

fn buy_error(sim: &mut Sim, client: NodeId, terms: &serde_json::Value) -> serde_json::Value {
	let answer = sim.ask(client, "lsps2.buy", json!({"opening_fee_params": terms, "payment_size_msat": "50000000"}));
	answer["error"]["code"].clone()
}

#[test]
fn l2_30_the_choice_is_the_operators_and_is_told_at_the_purchase() {
	for (trust, stranger, known) in
		[(Trust::Known, true, false), (Trust::Everyone, false, false), (Trust::Nobody, true, true)]
	{
		let mut policy = trusting(trust);
		policy.lsps2.trusted_clients = vec![node(2)];
		let mut sim = Sim::with(policy);
		for (number, client_trusts) in [(1, stranger), (2, known)] {
			let menu = sim.menu(node(number));
			let answer = sim.ask(node(number), "lsps2.buy", json!({"opening_fee_params": menu[0]}));
			assert_eq!(answer["result"]["client_trusts_lsp"], client_trusts, "{trust:?} {number}");
		}
	}
}

#[test]
fn r2_a_client_that_paid_is_trusted_from_then_on_and_a_sale_keeps_what_was_agreed() {
	let (mut sim, client, _, _) = sold();
	sim.lsp.policy.lsps2.trust = Trust::Known;
	let sale = sim.buy(client, Some(50_000_000));
	assert!(!sale.client_trusts);
	sim.peers.get_mut(&client).unwrap().channels.clear();
	refuse(&mut sim, client, &sale);
	assert!(!sim.sale(&sale).client_trusts, "fixed at the purchase");
	assert!(sim.buy(client, Some(50_000_000)).client_trusts, "an offence of late");
	sim.pass(3601);
	sim.tick();
	sim.restart();
	assert!(!sim.buy(client, Some(50_000_000)).client_trusts);
	assert!(sim.buy(client, Some(50_000_000)).client_trusts, "one unpaid channel at a time is open to abuse");
}

#[test]
fn r2_a_client_that_owes_for_a_channel_has_to_trust_us_with_the_next() {
	let (mut sim, client, _, _) = sold();
	sim.lsp.policy.lsps2.trust = Trust::Known;
	sim.peers.get_mut(&client).unwrap().channels.clear();
	let sale = sim.buy(client, Some(50_000_000));
	let open = opened(&sim.htlc(&sale, 5, 5, 50_000_000)).unwrap();
	assert!(!open.withhold);
	sim.funded(open.user_channel_id);
	sim.ready(client, open.user_channel_id);
	sim.give(Input::ForwardFailed { peer: client, channel_id: channel_id(open.user_channel_id), by_client: true });
	assert_eq!(sim.sale(&sale).state, SaleState::Owing);
	assert_eq!(sim.book.client(&client).unwrap().offence_log[0].kind, trust::OffenceKind::Failed);
	sim.pass(100_000);
	assert!(sim.buy(client, Some(50_000_000)).client_trusts, "the offence is old, the debt is not paid");
	assert_eq!(forwards(&sim.htlc(&sale, 6, 6, 50_000_000)).len(), 1);
	sim.settle(&sale, sale.fee.unwrap().0, "paid");
	assert!(!sim.buy(client, Some(50_000_000)).client_trusts);
}

#[test]
fn r2_strangers_that_let_channels_come_to_nothing_stop_the_sale_to_strangers_for_a_while() {
	let mut policy = trusting(Trust::Everyone);
	policy.risk.max_offences = 3;
	policy.risk.pause_secs = 7200;
	policy.lsps2.trusted_clients = vec![node(9)];
	let mut sim = Sim::with(policy);
	sim.connect(node(4));
	let terms = sim.menu(node(4))[0].clone();
	let bought = sim.buy(node(4), Some(50_000_000));
	assert!(stranger_that_costs(&mut sim, 1).iter().all(|action| !matches!(action, Action::Warn { .. })));
	stranger_that_costs(&mut sim, 2);
	let actions = stranger_that_costs(&mut sim, 3);
	let warnings = actions.iter().filter(|action| matches!(action, Action::Warn { code: "strangers_paused", .. }));
	assert_eq!(warnings.count(), 1, "the operator is told");
	for restart in [false, true] {
		if restart {
			sim.restart();
			sim.connect(node(4));
		}
		let until = trust::paused_until(&sim.lsp.policy, &sim.book, sim.now);
		assert_eq!(until, Some(sim.now.plus_secs(7200)));
		assert_eq!(sim.menu(node(4)), json!([]));
		assert_eq!(buy_error(&mut sim, node(4), &terms), 1);
		assert!(!sim.menu(node(9)).as_array().unwrap().is_empty(), "who is known is served");
	}
	assert_eq!(failed(&sim.htlc(&bought, 200, 200, 50_000_000)), [200], "what was sold before, too");
	sim.pass(7199);
	assert_eq!(sim.menu(node(4)), json!([]));
	sim.pass(1);
	assert!(!sim.menu(node(4)).as_array().unwrap().is_empty(), "it ends by itself");
}

/// Or anybody could stop it for nothing.
#[test]
fn r2_r14_offences_that_cost_us_nothing_do_not_stop_the_sale() {
	let mut policy = trusting(Trust::Known);
	policy.risk.max_offences = 3;
	let mut sim = Sim::with(policy);
	for number in 1..20 {
		stranger_that_refuses(&mut sim, number);
	}
	assert_eq!(trust::paused_until(&sim.lsp.policy, &sim.book, sim.now), None);
	assert!(!sim.menu(node(30)).as_array().unwrap().is_empty());
}

/// Anybody who has a client's invoice can have it fail a payment.
#[test]
fn r2_failed_payments_that_cost_us_nothing_do_not_cost_the_client_its_channel() {
	let mut policy = trusting(Trust::Known);
	policy.risk.max_offences_per_client = 2;
	let (mut sim, client) = (Sim::with(policy), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	for number in 1..6 {
		let open = opened(&sim.htlc(&sale, number, number, 50_000_000)).unwrap();
		sim.withheld(open.user_channel_id);
		sim.ready(client, open.user_channel_id);
		sim.give(Input::ForwardFailed { peer: client, channel_id: channel_id(open.user_channel_id), by_client: true });
		sim.give(Input::ChannelClosed {
			user_channel_id: open.user_channel_id,
			reason: "told to".into(),
			by_client: true,
		});
	}
	assert!(!sim.menu(client).as_array().unwrap().is_empty());
}

#[test]
fn r2_offences_that_lie_far_apart_do_not_stop_the_sale() {
	let mut policy = trusting(Trust::Everyone);
	policy.risk.max_offences = 3;
	let mut sim = Sim::with(policy);
	for number in 1..8 {
		stranger_that_costs(&mut sim, number);
		sim.pass(1801);
	}
	assert_eq!(trust::paused_until(&sim.lsp.policy, &sim.book, sim.now), None);
}

#[test]
fn r2_one_client_with_too_many_offences_gets_error_1_until_they_are_old() {
	let mut policy = trusting(Trust::Known);
	policy.risk.max_offences_per_client = 2;
	let (mut sim, client) = (Sim::with(policy), node(1));
	sim.connect(client);
	let terms = sim.menu(client)[0].clone();
	let sale = sim.buy(client, Some(50_000_000));
	refuse(&mut sim, client, &sale);
	refuse(&mut sim, client, &sale);
	assert_eq!((buy_error(&mut sim, client, &terms), sim.menu(client)), (json!(1), json!([])));
	assert_eq!(failed(&sim.htlc(&sale, 200, 200, 50_000_000)), [200]);
	assert!(!sim.menu(node(2)).as_array().unwrap().is_empty(), "others are served");
	sim.pass(3600);
	assert!(!sim.menu(client).as_array().unwrap().is_empty());
}

#[test]
fn r2_a_row_keeps_a_bounded_list_of_offences() {
	let mut policy = trusting(Trust::Known);
	(policy.risk.max_offences, policy.risk.max_offences_per_client) = (1_000, 16);
	let (mut sim, client) = (Sim::with(policy), node(1));
	sim.connect(client);
	for _ in 0..40 {
		let sale = sim.buy(client, Some(50_000_000));
		refuse(&mut sim, client, &sale);
		sim.pass(901);
		sim.tick();
	}
	let row = sim.book.client(&client).unwrap();
	assert_eq!((row.offences, row.offence_log.len()), (40, trust::MAX_OFFENCES_KEPT));
	assert_eq!(sim.book.offences().count(), 0, "none of them cost us anything");
}

fn channel(sim: &mut Sim, client: NodeId, number: u8, limit: u64) {
	let view = ChannelView {
		channel_id: [number; 32],
		user_channel_id: number.into(),
		usable: true,
		next_outbound_htlc_limit: Msat(limit),
		next_outbound_htlc_minimum: Msat(1),
	};
	sim.peers.entry(client).or_default().channels.push(view);
}

fn over(actions: &[Action]) -> Vec<(u8, u8, u64)> {
	let one = |action: &Action| match action {
		Action::ForwardHtlc { intercept_id, channel_id, amount, .. } => {
			Some((intercept_id[0], channel_id[0], amount.0))
		}
		_ => None,
	};
	actions.iter().filter_map(one).collect()
}

#[test]
fn a_client_with_enough_room_gets_the_payment_there_in_full_and_pays_for_nothing() {
	let (mut sim, client) = (Sim::with(trusting(Trust::Known)), node(1));
	channel(&mut sim, client, 77, 30_000_000);
	channel(&mut sim, client, 78, 40_000_000);
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	assert!(sim.htlc(&sale, 1, 1, 25_000_000).is_empty(), "all of it, or nothing");
	let actions = sim.htlc(&sale, 2, 1, 30_000_000);
	let mut parts = over(&actions);
	parts.sort_unstable();
	assert_eq!(parts, [(1, 78, 25_000_000), (2, 77, 30_000_000)], "the least room that suffices");
	assert_eq!(sim.sale(&sale).state, SaleState::Bought);
	for reference in ["a", "b"] {
		let forwarded = Input::Forwarded {
			next_peer: Some(client),
			next_channel: Some([77; 32]),
			total_fee: Msat(0),
			skimmed: Msat(0),
			intercept_id: None,
			reference: reference.into(),
			came: Vec::new(),
			went: Vec::new(),
		};
		assert!(sim.give(forwarded).is_empty());
	}
	assert_eq!((sim.earned(EntryKind::JitFee), sim.sale(&sale).state), (0, SaleState::Bought));
	// It goes as decided if a crash came between.
	sim.restart();
	sim.give(Input::Started);
	assert!(sim.htlc(&sale, 2, 1, 30_000_000).is_empty(), "the client is not here");
	assert_eq!(over(&sim.connect(client)), [(2, 77, 30_000_000)]);
}

#[test]
fn payments_that_wait_together_share_the_room_that_there_is() {
	let (mut sim, client) = (Sim::with(trusting(Trust::Known)), node(1));
	channel(&mut sim, client, 77, 50_000_000);
	sim.disconnect(client);
	let sale = sim.buy(client, None);
	for id in 1..=3 {
		assert!(sim.htlc(&sale, id, id, 20_000_000).is_empty());
	}
	let actions = sim.connect(client);
	assert_eq!(over(&actions), [(1, 77, 20_000_000), (2, 77, 20_000_000)]);
	assert!(opened(&actions).is_some(), "the third has no room");
}

#[test]
fn a_client_with_too_little_room_gets_a_channel_as_it_bought_one() {
	let (mut sim, client) = (Sim::with(trusting(Trust::Known)), node(1));
	channel(&mut sim, client, 77, 49_999_999);
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	assert!(opened(&sim.htlc(&sale, 1, 1, 50_000_000)).is_some());
}

#[test]
fn r2_a_channel_that_is_not_paid_for_is_no_way_around_its_fee() {
	for trust in [Trust::Everyone, Trust::Nobody] {
		let (mut sim, client) = (Sim::with(trusting(trust)), node(1));
		sim.connect(client);
		let (first, second) = (sim.buy(client, Some(50_000_000)), sim.buy(client, Some(50_000_000)));
		let open = opened(&sim.htlc(&first, 1, 1, 50_000_000)).unwrap();
		let signed = if open.withhold { sim.withheld(open.user_channel_id) } else { sim.funded(open.user_channel_id) };
		assert!(signed.is_empty());
		sim.ready(client, open.user_channel_id);
		let actions = sim.htlc(&second, 2, 2, 50_000_000);
		assert!(opened(&actions).is_some() && over(&actions).is_empty(), "{trust:?}");
	}
}

#[test]
fn fees_of_two_sales_in_parts_over_two_channels_are_credited_once_and_to_the_right_one() {
	let (mut sim, client) = (Sim::with(trusting(Trust::Nobody)), node(1));
	sim.connect(client);
	let sales = [sim.buy(client, Some(50_000_000)), sim.buy(client, Some(60_000_000))];
	let mut ids = Vec::new();
	for (number, sale) in sales.iter().enumerate() {
		let base = u8::try_from(number * 10).unwrap();
		for part in 1..=3 {
			sim.htlc(sale, base + part, base + 1, 20_000_000);
		}
		ids.push(sim.sale(sale).user_channel_id);
	}
	for id in &ids {
		sim.withheld(*id);
	}
	for id in &ids {
		assert_eq!(forwards(&sim.ready(client, *id)).len(), 3);
	}
	let fees: Vec<u64> = sales.iter().map(|sale| sale.fee.unwrap().0).collect();
	for (number, sale) in sales.iter().enumerate() {
		let (half, rest) = (fees[number] / 2, fees[number] - fees[number] / 2);
		for (skimmed, reference) in [(half, "x"), (half, "x"), (0, "y"), (rest, "z"), (rest, "z")] {
			sim.settle(sale, skimmed, &format!("{number} {reference}"));
		}
		assert_eq!(sim.sale(sale).state, SaleState::Done);
		assert_eq!(sim.sale(sale).fee_credited.0, fees[number]);
	}
	assert_eq!(sim.earned(EntryKind::JitFee), i64::try_from(fees.iter().sum::<u64>()).unwrap());
	assert_eq!(sim.book.client(&client).unwrap().sales_done, 2);
}
