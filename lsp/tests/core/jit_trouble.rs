//! Just-in-time sales that meet trouble: nothing is held without end, nothing is opened at a loss.

use crate::harness::*;
use inlet_lsp::book::{EntryKind, SaleState};
use inlet_lsp::input::{Action, Input};
use inlet_lsp::money::{FeePerKw, Msat, Sat};
use inlet_lsp::policy::Trust;

fn ready_to_pay() -> (Sim, inlet_lsp::book::NodeId, inlet_lsp::book::Sale) {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	(sim, client, sale)
}

#[test]
fn an_unknown_scid_fails_at_once() {
	let mut sim = Sim::new();
	let actions = sim.give(Input::HtlcIntercepted {
		intercept_id: [1; 32],
		scid: 77,
		payment_hash: hash(1),
		inbound: Msat(5),
		expected_outbound: Msat(5),
		expiry_height: None,
		channel: None,
	});
	assert_eq!(failed(&actions), [1]);
}

#[test]
fn l2_19_parts_are_held_for_90_seconds_from_the_first_then_failed_and_forgotten() {
	let (mut sim, _, sale) = ready_to_pay();
	sim.htlc(&sale, 1, 1, 20_000_000);
	sim.pass(60);
	sim.htlc(&sale, 2, 1, 20_000_000);
	sim.htlc(&sale, 3, 2, 20_000_000);
	sim.pass(29);
	assert!(sim.tick().is_empty());
	assert_eq!(sim.book.next_deadline(), Some(sim.now.plus_secs(1)));
	sim.pass(1);
	assert_eq!(failed(&sim.tick()), [1, 2], "the other payment has time of its own");
	assert_eq!(sim.book.next_deadline(), Some(sim.now.plus_secs(60)));
	sim.pass(60);
	assert_eq!(failed(&sim.tick()), [3]);
	assert_eq!(sim.sale(&sale).state, SaleState::Bought);
	assert!(opened(&sim.htlc(&sale, 4, 1, 50_000_000)).is_some(), "the payer may try again");
}

#[test]
fn l2_20_nothing_is_held_past_valid_until_and_nothing_is_taken_after_it() {
	let (mut sim, _, sale) = ready_to_pay();
	sim.pass(880);
	sim.htlc(&sale, 1, 1, 20_000_000);
	assert_eq!(sim.book.next_deadline(), Some(sale.terms.valid_until));
	sim.pass(20);
	assert_eq!(failed(&sim.tick()), [1]);
	assert!(matches!(sim.sale(&sale).state, SaleState::Failed { .. }));
	assert_eq!(sim.book.reserved(), Sat(0));
	assert_eq!(failed(&sim.htlc(&sale, 2, 1, 50_000_000)), [2]);
}

#[test]
fn l2_20_the_clock_decides_even_before_the_tick() {
	let (mut sim, _, sale) = ready_to_pay();
	sim.pass(900);
	assert_eq!(failed(&sim.htlc(&sale, 1, 1, 50_000_000)), [1]);
}

#[test]
fn l2_19_too_many_parts_are_refused() {
	let mut policy = plain();
	policy.risk.max_parts = 3;
	let (mut sim, client) = (Sim::with(policy), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	for id in 1..=3 {
		assert!(sim.htlc(&sale, id, 1, 1_000_000).is_empty());
	}
	assert_eq!(failed(&sim.htlc(&sale, 4, 1, 1_000_000)), [4]);
}

#[test]
fn l2_22_no_more_is_counted_than_what_arrived() {
	let (mut sim, _, sale) = ready_to_pay();
	let mut input = sim.htlc_input(&sale, 1, 1, 50_000_000);
	if let Input::HtlcIntercepted { inbound, .. } = &mut input {
		*inbound = Msat(10_000_000);
	}
	assert!(sim.give(input).is_empty());
	assert_eq!(sim.sale(&sale).parts[0].amount, Msat(10_000_000));
}

#[test]
fn l2_27_parts_that_cannot_bear_the_fee_above_the_smallest_htlc_are_failed() {
	let mut policy = plain();
	policy.risk.max_parts = 200;
	let (mut sim, client) = (Sim::with(policy), node(1));
	sim.connect(client);
	sim.feerate = Some(FeePerKw(3800));
	let sale = sim.buy(client, Some(5_000_000));
	assert!(sale.fee.unwrap() > Msat(4_600_000));
	let mut last = Vec::new();
	for id in 0..125 {
		last = sim.htlc(&sale, id, 1, 40_000);
	}
	let fee = sale.fee.unwrap().0;
	assert!(125 * 39_000 > fee && opened(&last).is_some(), "each keeps one sat: enough");
	// A channel with a larger smallest HTLC leaves no room.
	let user_channel_id = sim.sale(&sale).user_channel_id;
	sim.funded(user_channel_id);
	sim.peers.get_mut(&client).unwrap().channels.push(inlet_lsp::input::ChannelView {
		channel_id: channel_id(user_channel_id),
		user_channel_id,
		usable: true,
		next_outbound_htlc_limit: Msat(u64::MAX),
		next_outbound_htlc_minimum: Msat(20_000),
	});
	let actions = sim.give(Input::ChannelReady { user_channel_id, channel_id: channel_id(user_channel_id) });
	assert_eq!(failed(&actions).len(), 125);
	assert_eq!(sim.sale(&sale).state, SaleState::Owing);
}

#[test]
fn r19_a_part_that_expires_soon_is_not_held() {
	let (mut sim, _, sale) = ready_to_pay();
	let expiring = |sim: &Sim, id: u8, blocks: u32| {
		let mut input = sim.htlc_input(&sale, id, 1, 20_000_000);
		if let Input::HtlcIntercepted { expiry_height, .. } = &mut input {
			*expiry_height = Some(sim.height + blocks);
		}
		input
	};
	let (soon, later) = (expiring(&sim, 1, 40), expiring(&sim, 2, 42));
	assert_eq!(failed(&sim.give(soon)), [1]);
	assert!(sim.give(later).is_empty());
	sim.height += 1;
	assert!(sim.tick().is_empty());
	sim.height += 1;
	assert_eq!(failed(&sim.tick()), [2]);
	assert_eq!(sim.sale(&sale).state, SaleState::Bought);
}

#[test]
fn r7_a_fee_spike_stops_the_opening_and_the_payer_is_told() {
	let (mut sim, _, sale) = ready_to_pay();
	sim.feerate = Some(FeePerKw(25_001));
	let actions = sim.htlc(&sale, 1, 1, 50_000_000);
	assert_eq!(failed(&actions), [1]);
	assert!(opened(&actions).is_none());
	sim.feerate = Some(FeePerKw(1_401));
	assert_eq!(failed(&sim.htlc(&sale, 2, 1, 50_000_000)), [2], "501 sat of loss");
	sim.feerate = Some(FeePerKw(1_400));
	assert!(opened(&sim.htlc(&sale, 3, 1, 50_000_000)).is_some());
}

#[test]
fn a_missing_estimate_is_waited_for() {
	let (mut sim, client, sale) = ready_to_pay();
	for wrong in [true, false] {
		sim.synced = wrong;
		sim.feerate = if wrong { None } else { sim.feerate };
		assert!(sim.htlc(&sale, 1, 1, 50_000_000).is_empty());
	}
	(sim.synced, sim.feerate) = (true, Some(FeePerKw(1000)));
	assert!(opened(&sim.connect(client)).is_some());
}

#[test]
fn r20_r1_a_payment_is_not_held_longer_for_a_chain_that_is_doubted() {
	let (mut sim, _, sale) = ready_to_pay();
	sim.synced = false;
	assert!(sim.htlc(&sale, 1, 1, 50_000_000).is_empty());
	sim.pass(89);
	assert!(sim.tick().is_empty());
	sim.pass(1);
	assert_eq!(failed(&sim.tick()), [1]);
	assert_eq!(sim.sale(&sale).state, SaleState::Bought);
}

#[test]
fn money_that_is_gone_since_the_purchase_stops_the_opening() {
	let (mut sim, _, sale) = ready_to_pay();
	sim.spendable = Sat(10_000);
	assert_eq!(failed(&sim.htlc(&sale, 1, 1, 50_000_000)), [1]);
	assert_eq!(sim.sale(&sale).state, SaleState::Bought);
}

#[test]
fn r1_an_opening_that_takes_too_long_is_abandoned() {
	let (mut sim, client, sale) = ready_to_pay();
	let first = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	sim.pass(60);
	let actions = sim.tick();
	assert_eq!(failed(&actions), [1]);
	let abandoned = Action::AbandonChannel { user_channel_id: first.user_channel_id, peer: client };
	assert!(actions.contains(&abandoned));
	assert_eq!(sim.sale(&sale).state, SaleState::Bought);
	let second = opened(&sim.htlc(&sale, 2, 1, 50_000_000)).unwrap();
	assert_ne!(second.user_channel_id, first.user_channel_id);
	// What LDK still says of the first does not touch the second.
	sim.give(Input::ChannelClosed { user_channel_id: first.user_channel_id, reason: "old".into(), by_client: true });
	assert!(matches!(sim.sale(&sale).state, SaleState::Opening { .. }));
	assert_eq!(forwards(&sim.ready(client, second.user_channel_id)).len(), 1);
}

#[test]
fn r1_a_channel_that_was_funded_after_all_is_used_for_the_next_payment() {
	let (mut sim, client, sale) = ready_to_pay();
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	sim.pass(60);
	sim.tick();
	sim.funded(open.user_channel_id);
	assert_eq!(sim.sale(&sale).state, SaleState::Owing);
	assert_eq!(sim.earned(EntryKind::FundingCost), -850_000);
	assert!(sim.ready(client, open.user_channel_id).is_empty());
	let actions = sim.htlc(&sale, 2, 2, 50_000_000);
	assert!(opened(&actions).is_none());
	assert_eq!(forwards(&actions), [(2, 50_000_000 - sale.fee.unwrap().0)]);
}

#[test]
fn l2_25_a_refused_or_broken_opening_fails_the_parts_and_the_payer_may_retry() {
	let mut policy = trusting(Trust::Everyone);
	policy.risk.max_offences_per_client = 16;
	let (mut sim, client) = (Sim::with(policy), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	for attempt in 1..=10 {
		let open = opened(&sim.htlc(&sale, attempt, 1, 50_000_000)).unwrap();
		let input = Input::OpenFailed { user_channel_id: open.user_channel_id, reason: "no".into(), ours: false };
		assert_eq!(failed(&sim.give(input.clone())), [attempt]);
		assert!(sim.look(input).writes.is_empty(), "a replay changes nothing");
		assert_eq!(sim.sale(&sale).state, SaleState::Bought);
	}
	assert!(sim.sale(&sale).earlier_channel_ids.len() <= 8);
	sim.pass(900);
	sim.tick();
	assert_eq!(sim.book.reserved(), Sat(0));
}

#[test]
fn r2_a_client_that_fails_the_payment_owes_the_fee_of_the_next_one() {
	let (mut sim, client, sale) = ready_to_pay();
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	sim.ready(client, open.user_channel_id);
	let id = channel_id(open.user_channel_id);
	sim.give(Input::ForwardFailed { peer: client, channel_id: id, by_client: true });
	assert_eq!(sim.sale(&sale).state, SaleState::Owing);
	assert_eq!(sim.book.keep_until(&id), None);
	let actions = sim.htlc(&sale, 2, 2, 50_000_000);
	assert!(opened(&actions).is_none());
	assert_eq!(forwards(&actions), [(2, 50_000_000 - sale.fee.unwrap().0)]);
	sim.settle(&sale, sale.fee.unwrap().0, "a");
	assert_eq!(sim.sale(&sale).state, SaleState::Done);
}

#[test]
fn r2_a_channel_closed_unpaid_is_an_offence_and_the_parts_go_back() {
	let (mut sim, client, sale) = ready_to_pay();
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	let closed =
		Input::ChannelClosed { user_channel_id: open.user_channel_id, reason: "error".into(), by_client: true };
	assert_eq!(failed(&sim.give(closed.clone())), [1]);
	assert_eq!(sim.book.client(&client).unwrap().offences, 1);
	assert!(sim.look(closed).writes.is_empty());
	let again = opened(&sim.htlc(&sale, 2, 1, 50_000_000)).expect("valid_until is ahead");
	assert_ne!(again.user_channel_id, open.user_channel_id);
}

#[test]
fn a_fee_settled_in_part_before_the_channel_closed_is_booked_and_no_longer_owed() {
	let (mut sim, client, sale) = ready_to_pay();
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	sim.ready(client, open.user_channel_id);
	sim.settle(&sale, 1_000, "a");
	sim.give(Input::ChannelClosed { user_channel_id: open.user_channel_id, reason: "error".into(), by_client: true });
	assert_eq!(sim.earned(EntryKind::JitFee), 1_000);
	assert_eq!(sim.sale(&sale).fee, Some(Msat(sale.fee.unwrap().0 - 1_000)));
}

#[test]
fn a_payer_that_gives_up_ends_the_opening() {
	let (mut sim, client, sale) = ready_to_pay();
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	let actions = sim.give(Input::HtlcGone { intercept_id: [1; 32] });
	assert_eq!(actions, [Action::AbandonChannel { user_channel_id: open.user_channel_id, peer: client }]);
	assert_eq!(sim.sale(&sale).state, SaleState::Bought);
}

#[test]
fn a_forward_that_ldk_refused_leaves_the_fee_owed() {
	let (mut sim, client, sale) = ready_to_pay();
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	sim.ready(client, open.user_channel_id);
	sim.give(Input::HtlcGone { intercept_id: [1; 32] });
	assert_eq!(sim.sale(&sale).state, SaleState::Owing);
}

#[test]
fn a_fee_settled_over_another_channel_of_the_client_is_credited() {
	let (mut sim, client, sale) = ready_to_pay();
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	sim.ready(client, open.user_channel_id);
	sim.give(Input::Forwarded {
		next_peer: Some(client),
		next_channel: Some([99; 32]),
		total_fee: sale.fee.unwrap(),
		skimmed: sale.fee.unwrap(),
		intercept_id: None,
		reference: "a".into(),
		came: Vec::new(),
		went: Vec::new(),
	});
	assert_eq!(sim.sale(&sale).state, SaleState::Done);
}

#[test]
fn an_unpaid_sale_expires_and_frees_its_money() {
	let (mut sim, _, sale) = ready_to_pay();
	assert!(sim.book.reserved() > Sat(100_000));
	assert_eq!(sim.book.next_deadline(), Some(sale.terms.valid_until));
	sim.pass(900);
	sim.tick();
	assert_eq!(sim.sale(&sale).state, SaleState::Failed { reason: "expired".into() });
	assert_eq!((sim.book.reserved(), sim.book.next_deadline()), (Sat(0), None));
}

/// A sale whose first payment is on its way to the client, less the fee.
fn in_flight() -> (Sim, inlet_lsp::book::NodeId, inlet_lsp::book::Sale, [u8; 32]) {
	let (mut sim, client, sale) = ready_to_pay();
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	assert_eq!(forwards(&sim.ready(client, open.user_channel_id)).len(), 1);
	(sim, client, sale, channel_id(open.user_channel_id))
}

#[test]
fn r2_while_the_fee_is_in_flight_other_payments_wait_then_go_in_full() {
	let (mut sim, client, sale, _) = in_flight();
	assert!(sim.htlc(&sale, 2, 2, 60_000_000).is_empty());
	assert!(sim.connect(client).is_empty() && sim.tick().is_empty());
	assert_eq!(sim.book.next_deadline(), Some(sim.now.plus_secs(90)));
	assert_eq!(forwards(&sim.settle(&sale, sale.fee.unwrap().0, "a")), [(2, 60_000_000)]);
	assert_eq!((sim.sale(&sale).state, sim.book.next_deadline()), (SaleState::Done, None));
}

#[test]
fn r2_what_waits_for_a_payment_that_fails_pays_the_fee_itself() {
	let (mut sim, client, sale, channel_id) = in_flight();
	sim.htlc(&sale, 2, 2, 20_000_000);
	sim.htlc(&sale, 3, 3, 30_000_000);
	sim.htlc(&sale, 4, 3, 30_000_000);
	for _part in 0..2 {
		assert!(sim.give(Input::ForwardFailed { peer: client, channel_id, by_client: true }).is_empty());
	}
	let actions = sim.connect(client);
	let sum: u64 = forwards(&actions).iter().map(|(_, amount)| amount).sum();
	assert_eq!((forwards(&actions).len(), sum), (2, 60_000_000 - sale.fee.unwrap().0));
	assert_eq!(sim.sale(&sale).state, SaleState::Forwarded);
	assert_eq!(forwards(&sim.settle(&sale, sale.fee.unwrap().0, "a")), [(2, 20_000_000)]);
	// The same when LDK refuses to forward it.
	let (mut sim, client, sale, _) = in_flight();
	sim.htlc(&sale, 2, 2, 60_000_000);
	assert!(sim.give(Input::HtlcGone { intercept_id: [1; 32] }).is_empty());
	assert!(sim.book.awaited_clients().contains(&client));
	assert_eq!(forwards(&sim.connect(client)), [(2, 60_000_000 - sale.fee.unwrap().0)]);
}

#[test]
fn r2_what_waits_for_a_payment_that_stays_in_flight_is_failed_in_time() {
	let (mut sim, client, sale, _) = in_flight();
	sim.htlc(&sale, 2, 2, 60_000_000);
	sim.pass(30);
	sim.htlc(&sale, 3, 3, 60_000_000);
	sim.htlc(&sale, 4, 2, 1_000_000);
	sim.pass(60);
	assert_eq!(failed(&sim.tick()), [2, 4]);
	assert_eq!(sim.book.next_deadline(), Some(sim.now.plus_secs(30)));
	sim.restart();
	sim.give(Input::Started);
	assert_eq!(sim.book.next_deadline(), Some(sim.now.plus_secs(90)), "nobody is here yet");
	assert!(sim.htlc(&sale, 3, 3, 60_000_000).is_empty() && sim.connect(client).is_empty());
	sim.pass(90);
	assert_eq!(failed(&sim.tick()), [3]);
	assert_eq!((sim.sale(&sale).state, sim.book.next_deadline()), (SaleState::Forwarded, None));
}

#[test]
fn what_the_payer_sends_on_top_of_the_paying_payment_goes_at_once_up_to_twice_its_size() {
	let (mut sim, _, sale, _) = in_flight();
	assert_eq!(forwards(&sim.htlc(&sale, 2, 1, 1_000_000)), [(2, 1_000_000)]);
	assert!(sim.htlc(&sale, 3, 1, 50_000_000).is_empty());
	assert_eq!(forwards(&sim.settle(&sale, sale.fee.unwrap().0, "a")), [(3, 50_000_000)]);
}

#[test]
fn r2_a_payment_that_failed_over_another_channel_of_the_client_leaves_the_fee_owed() {
	let (mut sim, client, sale, _) = in_flight();
	sim.give(Input::ForwardFailed { peer: node(2), channel_id: [99; 32], by_client: true });
	assert_eq!(sim.sale(&sale).state, SaleState::Forwarded, "somebody else's");
	sim.give(Input::ForwardFailed { peer: client, channel_id: [99; 32], by_client: true });
	assert_eq!(sim.sale(&sale).state, SaleState::Owing);
	// Its first channel is paid for, the fee of the second is in flight, and LDK takes the first for it.
	let (mut sim, client, first, used) = in_flight();
	sim.settle(&first, first.fee.unwrap().0, "a");
	let second = sim.buy(client, Some(50_000_000));
	sim.peers.get_mut(&client).unwrap().channels[0].next_outbound_htlc_limit = Msat(1_000_000);
	let open = opened(&sim.htlc(&second, 5, 5, 50_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	sim.ready(client, open.user_channel_id);
	sim.give(Input::ForwardFailed { peer: client, channel_id: used, by_client: true });
	assert_eq!((sim.sale(&first).state, sim.sale(&second).state), (SaleState::Done, SaleState::Owing));
}

/// At the disk's low-water mark nothing new is sold, and what was sold is delivered.
#[test]
fn r13_a_disk_that_is_nearly_full_stops_new_sales_only() {
	let (mut sim, _, sale) = ready_to_pay();
	let stranger = node(2);
	sim.connect(stranger);
	let terms = sim.menu(stranger)[0].clone();
	sim.disk_low = true;
	assert_eq!(sim.menu(stranger), serde_json::json!([]));
	let answer = sim.ask(stranger, "lsps2.buy", serde_json::json!({"opening_fee_params": terms}));
	assert_eq!(answer["error"]["code"], 1, "{answer}");
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).expect("it was sold before");
	sim.funded(open.user_channel_id);
	assert!(!forwards(&sim.ready(open.peer, open.user_channel_id)).is_empty());
}
