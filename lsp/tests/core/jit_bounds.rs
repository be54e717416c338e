//! What a client that does not pay, or does not take its payment, can hold of ours, and for how long; and whose fee is
//! paid when LDK takes another of the client's channels than the one asked for.

use crate::harness::*;
use bitcoin::secp256k1::{All, PublicKey, Secp256k1, SecretKey};
use inlet_lsp::book::{Client, EntryKind, MAX_CLIENTS, NodeId, Sale, SaleState, Write};
use inlet_lsp::input::{Action, Hop, Input, OpenChannel};
use inlet_lsp::jit::{CLAIM_AGAIN_SECS, CLAIM_SECS, DISCARD_AFTER_SECS, MAX_EXPIRY_BLOCKS};
use inlet_lsp::money::{Msat, Sat};
use inlet_lsp::policy::Trust;
use inlet_lsp::time::Timestamp;
use inlet_lsp::trust::OffenceKind;
use inlet_lsp::wake::MAX_HELD_OF_STRANGERS;
use serde_json::json;
use std::sync::LazyLock;

/// A stranger's sale whose payment is on its way over a withheld channel.
fn in_flight(sim: &mut Sim, client: NodeId, number: u8, amount: u64) -> (Sale, OpenChannel) {
	sim.connect(client);
	let sale = sim.buy(client, Some(amount));
	let open = opened(&sim.htlc(&sale, number, number, amount)).unwrap();
	assert!(open.withhold);
	sim.withheld(open.user_channel_id);
	assert_eq!(forwards(&sim.ready(client, open.user_channel_id)).len(), 1);
	sim.peers.get_mut(&client).unwrap().in_flight = vec![hash(number)];
	(sale, open)
}

fn offences(sim: &Sim, client: NodeId) -> Vec<OffenceKind> {
	sim.book.client(&client).unwrap().offence_log.iter().map(|offence| offence.kind).collect()
}

fn is_abandoned(actions: &[Action], open: &OpenChannel) -> bool {
	let one = |action: &Action| matches!(action, Action::AbandonChannel { user_channel_id, .. } if *user_channel_id == open.user_channel_id);
	actions.iter().any(one)
}

#[test]
fn r16_an_htlc_that_could_be_held_for_weeks_is_not_taken_for_a_withheld_channel() {
	let (mut sim, client) = (Sim::with(trusting(Trust::Known)), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	let far = |sim: &Sim, id: u8, blocks: u32| {
		let mut input = sim.htlc_input(&sale, id, id, 50_000_000);
		let Input::HtlcIntercepted { expiry_height, .. } = &mut input else { unreachable!() };
		*expiry_height = Some(sim.height + blocks);
		input
	};
	let input = far(&sim, 1, MAX_EXPIRY_BLOCKS + 1);
	let actions = sim.give(input);
	assert_eq!(failed(&actions), [1]);
	assert!(opened(&actions).is_none());
	let input = far(&sim, 2, MAX_EXPIRY_BLOCKS);
	let open = opened(&sim.give(input)).unwrap();
	// Nor over the channel while nothing is paid for it.
	sim.withheld(open.user_channel_id);
	sim.ready(client, open.user_channel_id);
	let input = far(&sim, 3, 2016);
	assert_eq!(failed(&sim.give(input)), [3]);
	// Once it is paid for, it is a payment like any other.
	let actions = sim.settle(&sale, sale.fee.unwrap().0, "a");
	let [Action::BroadcastFunding { user_channel_id, channel_id, funding }] = actions[..] else {
		panic!("{actions:?}")
	};
	sim.give(Input::Funded { user_channel_id, channel_id, funding, fee: Some(Sat(850)), shared: false });
	let input = far(&sim, 4, 2016);
	assert_eq!(forwards(&sim.give(input)), [(4, 50_000_000)]);
}

#[test]
fn r2_withheld_fundings_hold_no_more_than_their_share_of_the_wallet() {
	let mut sim = Sim::with(trusting(Trust::Known));
	let (first, open) = in_flight(&mut sim, node(1), 1, 2_000_000_000);
	sim.spendable = Sat(10_000_000 - open.capacity.0);
	sim.connect(node(2));
	let second = sim.buy(node(2), Some(2_000_000_000));
	let actions = sim.htlc(&second, 2, 2, 2_000_000_000);
	assert_eq!(failed(&actions), [2], "more than half of all coins would be locked");
	assert!(sim.sale(&second).history.iter().any(|note| note.text.contains("not paid for yet")));
	// When the first is paid for, its coins are no longer locked but spent.
	let actions = sim.settle(&first, first.fee.unwrap().0, "a");
	let [Action::BroadcastFunding { user_channel_id, channel_id, funding }] = actions[..] else {
		panic!("{actions:?}")
	};
	sim.give(Input::Funded { user_channel_id, channel_id, funding, fee: Some(Sat(850)), shared: false });
	assert!(opened(&sim.htlc(&second, 3, 3, 2_000_000_000)).is_some());
}

#[test]
fn r2_the_first_withheld_funding_may_take_more_than_the_share_of_a_small_wallet() {
	let mut sim = Sim::with(trusting(Trust::Known));
	sim.spendable = Sat(200_000);
	sim.connect(node(1));
	let sale = sim.buy(node(1), Some(50_000_000));
	assert!(opened(&sim.htlc(&sale, 1, 1, 50_000_000)).is_some());
}

#[test]
fn r2_r16_a_client_that_is_here_and_holds_its_payment_loses_the_channel() {
	let (mut sim, client) = (Sim::with(trusting(Trust::Known)), node(1));
	let (sale, open) = in_flight(&mut sim, client, 1, 50_000_000);
	sim.pass(CLAIM_SECS - 1);
	assert!(sim.tick().is_empty() && sim.book.awaited_clients().is_empty());
	sim.pass(1);
	assert!(sim.tick().is_empty(), "whether it is here is not known");
	assert!(sim.book.awaited_clients().contains(&client), "the node says so, if it is");
	let actions = sim.connect(client);
	assert!(is_abandoned(&actions, &open), "{actions:?}");
	assert_eq!(offences(&sim, client), [OffenceKind::Held]);
	assert_eq!(sim.sale(&sale).state, SaleState::Bought);
	assert!(sim.connect(client).is_empty() && sim.book.awaited_clients().is_empty(), "once");
	let closed =
		Input::ChannelClosed { user_channel_id: open.user_channel_id, reason: "abandoned".into(), by_client: false };
	sim.give(closed);
	assert_eq!(offences(&sim, client).len(), 1);
	sim.pass(DISCARD_AFTER_SECS);
	let freed = sim.tick();
	assert!(
		matches!(freed[..], [Action::DiscardFunding { user_channel_id, .. }] if user_channel_id == open.user_channel_id)
	);
	assert_eq!(sim.earned(EntryKind::FundingCost), 0, "nothing was mined");
}

#[test]
fn r2_r12_a_client_that_comes_back_has_a_moment_to_take_its_payment() {
	for crash in [false, true] {
		let (mut sim, client) = (Sim::with(trusting(Trust::Known)), node(1));
		let (sale, open) = in_flight(&mut sim, client, 1, 50_000_000);
		sim.disconnect(client);
		sim.pass(CLAIM_SECS);
		sim.tick();
		sim.pass(3_600);
		if crash {
			sim.restart();
			sim.give(Input::Started);
			sim.pass(CLAIM_SECS);
			sim.tick();
			sim.pass(60);
		}
		assert!(!is_abandoned(&sim.connect(client), &open), "it has just come");
		sim.pass(CLAIM_AGAIN_SECS - 1);
		assert!(sim.tick().is_empty() && sim.book.awaited_clients().is_empty());
		let mut late = sim.book.clone();
		std::mem::swap(&mut late, &mut sim.book);
		let actions = sim.settle(&sale, sale.fee.unwrap().0, "a");
		assert!(matches!(actions[..], [Action::BroadcastFunding { .. }]), "taken in time: {actions:?}");
		std::mem::swap(&mut late, &mut sim.book);
		sim.pass(1);
		sim.tick();
		assert!(is_abandoned(&sim.connect(client), &open), "not taken");
	}
}

/// Two sales of one client, each with its own channel, and each with its payment on the way.
fn two_sales() -> (Sim, NodeId, [(Sale, OpenChannel); 2]) {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let mut sales = Vec::new();
	for number in [1, 2] {
		let sale = sim.buy(client, Some(50_000_000 + u64::from(number)));
		let open = opened(&sim.htlc(&sale, number, number, 50_000_000 + u64::from(number))).unwrap();
		sim.funded(open.user_channel_id);
		assert_eq!(forwards(&sim.ready(client, open.user_channel_id)).len(), 1);
		sales.push((sale, open));
	}
	(sim, client, sales.try_into().unwrap())
}

fn settled(client: NodeId, over: &OpenChannel, intercepted: u8, skimmed: u64, reference: &str) -> Input {
	Input::Forwarded {
		next_peer: Some(client),
		next_channel: Some(channel_id(over.user_channel_id)),
		total_fee: Msat(skimmed),
		skimmed: Msat(skimmed),
		intercept_id: Some([intercepted; 32]),
		reference: reference.into(),
		came: Vec::new(),
		went: Vec::new(),
	}
}

#[test]
fn r2_the_fee_goes_to_the_sale_whose_payment_was_taken_over_whichever_channel() {
	let (mut sim, client, [(first, first_channel), (second, second_channel)]) = two_sales();
	let fee = |sale: &Sale| sale.fee.unwrap().0;
	// LDK sent the first payment over the second channel, and the other way round.
	sim.give(settled(client, &second_channel, 1, fee(&first), "a"));
	assert_eq!((sim.sale(&first).state, sim.sale(&second).state), (SaleState::Done, SaleState::Forwarded));
	let again = settled(client, &second_channel, 1, fee(&first), "a");
	assert!(sim.look(again).writes.is_empty(), "once");
	// LDK does not know what was kept back of the second: the channel that it came in over has ended.
	sim.give(settled(client, &first_channel, 2, 0, "b"));
	assert_eq!(sim.sale(&second).state, SaleState::Done);
	assert_eq!(sim.earned(EntryKind::JitFee), (fee(&first) + fee(&second)) as i64);
	assert_eq!(sim.book.client(&client).unwrap().sales_done, 2);
}

#[test]
fn m3_what_did_not_reach_the_client_or_was_closed_by_us_is_no_offence() {
	let (mut sim, client) = (Sim::with(trusting(Trust::Known)), node(1));
	let (sale, open) = in_flight(&mut sim, client, 1, 50_000_000);
	sim.peers.get_mut(&client).unwrap().in_flight.clear();
	let channel = channel_id(open.user_channel_id);
	sim.give(Input::ForwardFailed { peer: client, channel_id: channel, by_client: false });
	assert_eq!(sim.sale(&sale).state, SaleState::Bought, "it is over all the same");
	let (_, open) = in_flight(&mut sim, node(2), 2, 50_000_000);
	let closed =
		|by_client| Input::ChannelClosed { user_channel_id: open.user_channel_id, reason: "end".into(), by_client };
	sim.give(closed(false));
	assert!(offences(&sim, client).is_empty() && offences(&sim, node(2)).is_empty());
	let (_, open) = in_flight(&mut sim, node(3), 3, 50_000_000);
	sim.give(Input::ChannelClosed { user_channel_id: open.user_channel_id, reason: "end".into(), by_client: true });
	assert_eq!(offences(&sim, node(3)), [OffenceKind::Unpaid]);
}

#[test]
fn r12_a_broadcast_that_is_due_is_asked_for_with_every_block() {
	let mut sim = Sim::with(trusting(Trust::Known));
	let (sale, open) = in_flight(&mut sim, node(1), 1, 50_000_000);
	let asked = sim.settle(&sale, sale.fee.unwrap().0, "a");
	sim.height += 1;
	assert_eq!(sim.tick(), asked, "nothing was heard of the first");
	let [Action::BroadcastFunding { user_channel_id, channel_id, funding }] = asked[..] else { panic!("{asked:?}") };
	assert_eq!(user_channel_id, open.user_channel_id);
	sim.give(Input::Funded { user_channel_id, channel_id, funding, fee: Some(Sat(850)), shared: false });
	assert!(sim.tick().is_empty());
}

#[test]
fn l5_16_what_is_held_does_not_go_in_full_over_a_channel_that_is_owed_for() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	sim.ask(client, "lsps5.set_webhook", json!({"app_name": "a", "webhook": "https://a.example"}));
	let sale = sim.buy(client, Some(50_000_000));
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	sim.ready(client, open.user_channel_id);
	sim.give(Input::ForwardFailed { peer: client, channel_id: channel_id(open.user_channel_id), by_client: true });
	assert_eq!(sim.sale(&sale).state, SaleState::Owing);
	sim.ready(client, 77);
	sim.disconnect(client);
	let hop = |id: u8, user_channel_id: u128| Input::HtlcIntercepted {
		intercept_id: [id; 32],
		scid: 42,
		payment_hash: hash(id),
		inbound: Msat(10_000_000),
		expected_outbound: Msat(10_000_000),
		expiry_height: Some(800_100),
		channel: Some(Hop { peer: client, channel_id: channel_id(user_channel_id) }),
	};
	assert!(failed(&sim.give(hop(7, 77))).is_empty(), "held for the channel that owes nothing");
	let over = |actions: &[Action]| {
		let one = |action: &Action| match action {
			Action::ForwardHtlc { channel_id, .. } => Some(*channel_id),
			_ => None,
		};
		actions.iter().filter_map(one).collect::<Vec<_>>()
	};
	let view = sim.peers.get_mut(&client).unwrap();
	view.channels.iter_mut().find(|view| view.user_channel_id == 77).unwrap().next_outbound_htlc_limit = Msat(1);
	assert!(over(&sim.connect(client)).is_empty(), "only the channel that is owed for has room");
	sim.peers
		.get_mut(&client)
		.unwrap()
		.channels
		.iter_mut()
		.for_each(|view| view.next_outbound_htlc_limit = Msat(u64::MAX));
	assert_eq!(over(&sim.connect(client)), [channel_id(77)]);
}

static CONTEXT: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// The `number`th of many nodes.
fn many(number: u32) -> NodeId {
	let mut secret = [1; 32];
	secret[..4].copy_from_slice(&number.to_be_bytes());
	PublicKey::from_secret_key(&CONTEXT, &SecretKey::from_slice(&secret).unwrap())
}

#[test]
fn r14_clients_are_bounded_and_only_those_with_nothing_at_stake_are_forgotten() {
	let mut sim = Sim::with(trusting(Trust::Known));
	let (buyer, paid) = (node(1), node(2));
	sim.connect(buyer);
	sim.buy(buyer, Some(50_000_000));
	let mut good = Client::new(paid, Timestamp(1));
	good.orders_done = 1;
	sim.book.apply(Write::Client(good));
	let rest = MAX_CLIENTS as u32 - 2;
	for number in 0..rest {
		sim.book.apply(Write::Client(Client::new(many(number), Timestamp(u64::from(number) + 2))));
	}
	assert_eq!(sim.book.clients().count(), MAX_CLIENTS);
	let new = node(3);
	sim.connect(new);
	sim.buy(new, Some(50_000_000));
	assert!(sim.book.clients().count() < MAX_CLIENTS);
	assert!([buyer, paid, new].iter().all(|id| sim.book.client(id).is_some()), "something is at stake");
	assert!(sim.book.client(&many(0)).is_none() && sim.book.client(&many(rest - 1)).is_some(), "the oldest go first");
	// If something is at stake with all of them, there is no room for another.
	for number in 0..=MAX_CLIENTS as u32 {
		let mut client = Client::new(many(number), Timestamp(2));
		client.offences = 1;
		sim.book.apply(Write::Client(client));
	}
	let full = sim.book.clients().count();
	let late = node(4);
	sim.connect(late);
	let terms = sim.menu(late)[0].clone();
	let answer = sim.ask(late, "lsps2.buy", json!({"opening_fee_params": terms, "payment_size_msat": "50000000"}));
	assert!(
		answer["error"]["data"]["message"].as_str().is_some_and(|text| text.contains("no new clients")),
		"{answer}"
	);
	let request = json!({"jsonrpc": "2.0", "id": "o", "method": "lsps1.create_order", "params": sim.order_params()});
	let answer = sim.raw(late, request.to_string().as_bytes()).expect("an answer at once");
	assert!(answer["error"].is_object(), "{answer}");
	assert_eq!(sim.book.clients().count(), full);
}

#[test]
fn r16_strangers_leave_room_for_payments_to_those_who_paid() {
	let mut sim = Sim::new();
	let hold = |sim: &mut Sim, client: NodeId, number: u32| {
		let mut intercept_id = [9; 32];
		intercept_id[..4].copy_from_slice(&number.to_be_bytes());
		sim.give(Input::HtlcIntercepted {
			intercept_id,
			scid: 42,
			payment_hash: intercept_id,
			inbound: Msat(1_000),
			expected_outbound: Msat(1_000),
			expiry_height: Some(800_100),
			channel: Some(Hop { peer: client, channel_id: channel_id(u128::from(client.serialize()[5])) }),
		})
	};
	let sleeper = |sim: &mut Sim, number: u8| {
		let client = node(number);
		sim.connect(client);
		sim.ready(client, u128::from(client.serialize()[5]));
		sim.ask(client, "lsps5.set_webhook", json!({"app_name": "a", "webhook": "https://a.example"}));
		sim.disconnect(client);
		client
	};
	let is_held = |actions: &[Action]| !actions.iter().any(|action| matches!(action, Action::FailHtlc { .. }));
	let mut number = 0;
	for stranger in 1..=MAX_HELD_OF_STRANGERS / 30 {
		let client = sleeper(&mut sim, stranger as u8);
		for _ in 0..30 {
			number += 1;
			assert!(is_held(&hold(&mut sim, client, number)));
		}
	}
	let stranger = sleeper(&mut sim, 100);
	assert!(!is_held(&hold(&mut sim, stranger, 5_000)), "strangers have their share");
	let payer = sleeper(&mut sim, 101);
	let mut row = sim.book.client(&payer).unwrap().clone();
	row.sales_done = 1;
	sim.book.apply(Write::Client(row));
	assert!(is_held(&hold(&mut sim, payer, 5_001)), "who paid has room");
}
