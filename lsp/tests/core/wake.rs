//! A payment comes for a client that sleeps: it is woken, and the payment waits for it, a while.

use crate::harness::*;
use inlet_lsp::book::{HeldHtlc, NodeId, SaleState};
use inlet_lsp::input::{Action, Hop, Input, Sight, Step};
use inlet_lsp::money::Msat;
use inlet_lsp::notice::Notice;
use serde_json::json;

const SCID: u64 = 42;
const UCID: u128 = 9;

/// A client with two webhooks and a channel, asleep.
fn sleeping() -> (Sim, NodeId) {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	sim.ready(client, UCID);
	for name in ["a", "b"] {
		sim.ask(client, "lsps5.set_webhook", json!({"app_name": name, "webhook": format!("https://{name}.example")}));
	}
	sim.disconnect(client);
	(sim, client)
}

fn htlc(sim: &Sim, client: NodeId, id: u8, payment: u8, amount: u64) -> Input {
	Input::HtlcIntercepted {
		intercept_id: [id; 32],
		scid: SCID,
		payment_hash: hash(payment),
		inbound: Msat(amount + 1),
		expected_outbound: Msat(amount),
		expiry_height: Some(sim.height + 100),
		channel: Some(Hop { peer: client, channel_id: channel_id(UCID) }),
	}
}

fn pay(sim: &mut Sim, client: NodeId, id: u8, payment: u8, amount: u64) -> Vec<Action> {
	let input = htlc(sim, client, id, payment, amount);
	sim.give(input)
}

fn held(sim: &Sim, client: NodeId) -> Vec<HeldHtlc> {
	sim.book.client(&client).unwrap().wake.held.clone()
}

fn told(actions: &[Action]) -> Vec<(String, Notice)> {
	notices(actions).into_iter().map(|(name, _, notice)| (name, notice)).collect()
}

fn both(notice: &Notice) -> Vec<(String, Notice)> {
	vec![("a".to_string(), notice.clone()), ("b".to_string(), notice.clone())]
}

fn steps(sim: &Sim, client: NodeId) -> Vec<String> {
	sim.book.client(&client).unwrap().wake.history.iter().map(|note| note.step.clone()).collect()
}

#[test]
fn l5_16_a_payment_for_a_sleeping_client_wakes_it_and_goes_in_full_when_it_is_back() {
	let (mut sim, client) = sleeping();
	let actions = pay(&mut sim, client, 1, 1, 20_000_000);
	assert_eq!(told(&actions), both(&Notice::PaymentIncoming), "all webhooks");
	assert!(forwards(&actions).is_empty() && failed(&actions).is_empty());
	assert_eq!(sim.book.next_deadline(), Some(sim.now.plus_secs(60)));
	assert!(sim.book.awaited_clients().contains(&client));
	assert_eq!(sim.book.held_htlcs().into_iter().collect::<Vec<_>>(), [[1; 32]]);
	sim.pass(59);
	assert!(sim.tick().is_empty());
	// Its `init` is here, the channel is not usable yet.
	sim.peers.get_mut(&client).unwrap().connected = true;
	assert!(forwards(&sim.give(Input::Connected { peer: client })).is_empty());
	assert_eq!(forwards(&sim.connect(client)), [(1, 20_000_000)]);
	assert!(sim.connect(client).is_empty(), "once");
	assert!(held(&sim, client).is_empty() && sim.book.held_htlcs().is_empty());
	assert_eq!(sim.book.next_deadline(), None);
	assert_eq!(steps(&sim, client), ["webhook", "webhook", "hold", "wake", "forward"]);
}

#[test]
fn l5_16_a_client_that_does_not_come_back_costs_the_payer_a_minute() {
	let (mut sim, client) = sleeping();
	pay(&mut sim, client, 1, 1, 20_000_000);
	sim.pass(20);
	pay(&mut sim, client, 2, 1, 20_000_000);
	sim.pass(20);
	pay(&mut sim, client, 3, 2, 20_000_000);
	sim.pass(20);
	assert_eq!(failed(&sim.tick()), [1, 2], "all parts of one payment");
	sim.pass(39);
	assert!(sim.tick().is_empty());
	sim.pass(1);
	assert_eq!(failed(&sim.tick()), [3]);
	assert!(sim.tick().is_empty());
	assert!(forwards(&sim.connect(client)).is_empty());
	assert_eq!(steps(&sim, client).iter().filter(|step| *step == "fail").count(), 3, "the operator is told");
}

#[test]
fn l5_16_a_client_without_a_webhook_is_not_waited_for() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.ready(client, UCID);
	sim.disconnect(client);
	let input = htlc(&sim, client, 1, 1, 20_000_000);
	let step = sim.look(input);
	assert_eq!(failed(&step.actions), [1]);
	assert!(step.writes.is_empty(), "it costs its sender nothing to send many");
}

#[test]
fn l5_16_a_client_that_is_here_gets_it_at_once() {
	let (mut sim, client) = sleeping();
	sim.connect(client);
	let actions = pay(&mut sim, client, 1, 1, 20_000_000);
	assert_eq!(forwards(&actions), [(1, 20_000_000)]);
	assert!(told(&actions).is_empty() && held(&sim, client).is_empty());
}

#[test]
fn l5_16_a_client_that_is_about_to_be_here_is_waited_for_and_not_told() {
	let (mut sim, client) = sleeping();
	sim.peers.get_mut(&client).unwrap().connected = true;
	assert!(pay(&mut sim, client, 1, 1, 20_000_000).is_empty());
	assert_eq!(forwards(&sim.connect(client)), [(1, 20_000_000)]);
}

#[test]
fn l5_20_the_same_is_not_said_twice_within_the_cooldown_unless_the_client_was_here() {
	let (mut sim, client) = sleeping();
	assert_eq!(told(&pay(&mut sim, client, 1, 1, 20_000_000)).len(), 2);
	sim.pass(119);
	sim.tick();
	assert_eq!(told(&pay(&mut sim, client, 2, 2, 20_000_000)).len(), 0);
	assert_eq!(held(&sim, client).len(), 1, "it waits all the same");
	let soon = sim.height + 24;
	let sight = Sight { client, connected: false, has_channel: true, closes_at: Some(soon) };
	let actions = sim.give(Input::Survey { clients: vec![sight] });
	assert_eq!(told(&actions), both(&Notice::ExpirySoon { timeout: soon }), "each kind by itself");
	sim.pass(1);
	assert_eq!(told(&pay(&mut sim, client, 3, 3, 20_000_000)).len(), 2);
	sim.connect(client);
	sim.disconnect(client);
	assert_eq!(told(&pay(&mut sim, client, 4, 4, 20_000_000)).len(), 2);
}

#[test]
fn l5_16_a_contract_near_its_end_is_told_once_an_hour() {
	let (mut sim, client) = sleeping();
	let look = |sim: &mut Sim, connected, closes_at| {
		told(&sim.give(Input::Survey { clients: vec![Sight { client, connected, has_channel: true, closes_at }] }))
	};
	let soon = Some(sim.height + 24);
	assert!(look(&mut sim, false, None).is_empty());
	let later = Some(sim.height + 25);
	assert!(look(&mut sim, false, later).is_empty());
	assert!(look(&mut sim, true, soon).is_empty(), "it is here");
	let notice = Notice::ExpirySoon { timeout: sim.height + 24 };
	assert_eq!(look(&mut sim, false, soon), both(&notice));
	sim.pass(600);
	assert!(look(&mut sim, false, soon).is_empty());
	sim.pass(3_000);
	assert_eq!(look(&mut sim, false, soon).len(), 2);
}

#[test]
fn l5_16_what_else_waits_for_a_client_is_told_while_it_is_away() {
	for notice in [Notice::OnionMessageIncoming, Notice::LiquidityManagementRequest] {
		let (mut sim, client) = sleeping();
		let input = Input::Wanted { peer: client, notice: notice.clone() };
		assert_eq!(told(&sim.give(input.clone())), both(&notice));
		assert!(sim.give(input.clone()).is_empty());
		sim.connect(client);
		assert!(sim.give(input.clone()).is_empty(), "it is here");
		assert_eq!(sim.look(Input::Wanted { peer: node(2), notice }), Step::default(), "nobody that we know");
	}
}

#[test]
fn r1_what_is_held_is_never_kept_beyond_the_expiry_margin() {
	let (mut sim, client) = sleeping();
	let mut late = htlc(&sim, client, 1, 1, 20_000_000);
	if let Input::HtlcIntercepted { expiry_height, .. } = &mut late {
		*expiry_height = Some(sim.height + 40);
	}
	assert_eq!(failed(&sim.give(late.clone())), [1]);
	if let Input::HtlcIntercepted { expiry_height, .. } = &mut late {
		*expiry_height = Some(sim.height + 41);
	}
	assert!(failed(&sim.give(late)).is_empty());
	sim.height += 1;
	assert_eq!(failed(&sim.tick()), [1]);
}

#[test]
fn r1_what_is_held_is_bounded_by_client_and_in_all() {
	let (mut sim, client) = sleeping();
	for id in 0..30 {
		assert!(failed(&pay(&mut sim, client, id, id, 1_000_000)).is_empty());
	}
	assert_eq!(failed(&pay(&mut sim, client, 30, 30, 1_000_000)), [30]);
	let room = sim.peers.get_mut(&client).unwrap();
	room.channels[0].next_outbound_htlc_limit = Msat(999_999);
	sim.pass(60);
	assert_eq!(failed(&sim.tick()).len(), 30);
	assert_eq!(failed(&pay(&mut sim, client, 31, 31, 1_000_000)), [31], "no channel has room for it");
}

#[test]
fn a_channel_that_closes_takes_what_is_held_with_it() {
	let (mut sim, client) = sleeping();
	pay(&mut sim, client, 1, 1, 20_000_000);
	let closed = |user_channel_id| Input::ChannelClosed { user_channel_id, reason: String::new(), by_client: true };
	assert!(sim.give(closed(UCID + 1)).is_empty());
	assert_eq!(failed(&sim.give(closed(UCID))), [1]);
	assert_eq!(sim.look(closed(UCID)), Step::default());
	sim.peers.get_mut(&client).unwrap().channels.clear();
	assert_eq!(failed(&pay(&mut sim, client, 2, 2, 20_000_000)), [2], "it was closed before it arrived");
}

#[test]
fn r12_what_is_held_outlives_a_restart_and_the_client_is_told_again() {
	let (mut sim, client) = sleeping();
	pay(&mut sim, client, 1, 1, 20_000_000);
	pay(&mut sim, client, 2, 2, 10_000_000);
	sim.pass(55);
	sim.restart();
	let actions = sim.give(Input::Started);
	assert_eq!(told(&actions), both(&Notice::PaymentIncoming), "nobody knows whether the first one left");
	assert_eq!(sim.book.next_deadline(), Some(sim.now.plus_secs(60)), "the client gets its time anew");
	assert!(pay(&mut sim, client, 1, 1, 20_000_000).is_empty(), "LDK raises it again");
	assert_eq!(held(&sim, client).len(), 2);
	assert!(sim.give(Input::HtlcGone { intercept_id: [2; 32] }).is_empty(), "and does not raise the other one");
	assert_eq!(forwards(&sim.connect(client)), [(1, 20_000_000)]);
}

#[test]
fn r12_a_forward_decided_and_not_done_is_decided_again() {
	let (mut sim, client) = sleeping();
	pay(&mut sim, client, 1, 1, 20_000_000);
	assert_eq!(forwards(&sim.connect(client)).len(), 1);
	// The crash: the row is written, LDK was not told.
	sim.restart();
	assert!(sim.give(Input::Started).is_empty());
	assert_eq!(told(&pay(&mut sim, client, 1, 1, 20_000_000)).len(), 2);
	assert_eq!(forwards(&sim.connect(client)), [(1, 20_000_000)]);
}

#[test]
fn every_input_may_come_twice() {
	let (mut sim, client) = sleeping();
	let sight = Sight { client, connected: false, has_channel: true, closes_at: Some(sim.height) };
	let inputs = [
		htlc(&sim, client, 1, 1, 20_000_000),
		Input::Survey { clients: vec![sight] },
		Input::Wanted { peer: client, notice: Notice::OnionMessageIncoming },
		Input::HtlcGone { intercept_id: [1; 32] },
		Input::Connected { peer: client },
	];
	for input in inputs {
		sim.give(input.clone());
		assert_eq!(sim.look(input.clone()), Step::default(), "{input:?}");
	}
}

/// A sale whose client has a webhook and sleeps.
fn sale_of_sleeper(size: Option<u64>) -> (Sim, NodeId, inlet_lsp::book::Sale) {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	sim.ask(client, "lsps5.set_webhook", json!({"app_name": "a", "webhook": "https://a.example"}));
	let sale = sim.buy(client, size);
	sim.disconnect(client);
	(sim, client, sale)
}

fn payment_incoming() -> Vec<(String, Notice)> {
	vec![("a".to_string(), Notice::PaymentIncoming)]
}

#[test]
fn l5_16_l2_21_the_first_part_for_a_sleeping_buyer_wakes_it() {
	let (mut sim, client, sale) = sale_of_sleeper(Some(50_000_000));
	let start = sim.now;
	assert_eq!(told(&sim.htlc(&sale, 1, 1, 20_000_000)), payment_incoming());
	assert_eq!(sim.book.next_deadline(), Some(start.plus_secs(90)), "L2-19: parts are gathered");
	sim.pass(50);
	assert!(told(&sim.htlc(&sale, 2, 1, 30_000_000)).is_empty(), "it was told");
	assert_eq!(sim.book.next_deadline(), Some(start.plus_secs(50 + 60)), "only the client is missing");
	sim.pass(59);
	assert!(sim.tick().is_empty());
	assert!(opened(&sim.connect(client)).is_some());
}

#[test]
fn l5_16_a_buyer_that_does_not_wake_costs_the_payer_a_minute() {
	let (mut sim, _, sale) = sale_of_sleeper(None);
	assert_eq!(told(&sim.htlc(&sale, 1, 1, 50_000_000)), payment_incoming());
	sim.pass(59);
	assert!(sim.tick().is_empty());
	sim.pass(1);
	assert_eq!(failed(&sim.tick()), [1]);
	assert_eq!(sim.sale(&sale).state, SaleState::Bought);
}

#[test]
fn l2_20_a_sleeping_buyer_is_not_waited_for_beyond_valid_until() {
	let (mut sim, _, sale) = sale_of_sleeper(None);
	sim.pass(900 - 10);
	sim.htlc(&sale, 1, 1, 50_000_000);
	assert_eq!(sim.book.next_deadline(), Some(sale.terms.valid_until));
	sim.pass(10);
	assert_eq!(failed(&sim.tick()), [1]);
}

#[test]
fn r12_a_sleeping_buyer_is_told_again_after_a_restart() {
	let (mut sim, client, sale) = sale_of_sleeper(None);
	sim.htlc(&sale, 1, 1, 50_000_000);
	sim.pass(50);
	sim.restart();
	assert_eq!(told(&sim.give(Input::Started)), payment_incoming());
	let again = sim.look(Input::Started);
	assert!(again.writes.is_empty() && told(&again.actions).is_empty(), "a start given twice is one: {again:#?}");
	assert!(sim.htlc(&sale, 1, 1, 50_000_000).is_empty());
	assert_eq!(sim.book.next_deadline(), Some(sim.now.plus_secs(60)));
	assert!(opened(&sim.connect(client)).is_some());
}

#[test]
fn l2_29_a_payment_to_the_scid_of_a_sale_that_is_done_waits_for_its_client_too() {
	let (mut sim, client, sale) = sale_of_sleeper(Some(50_000_000));
	sim.connect(client);
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	sim.ready(client, open.user_channel_id);
	let fee = sim.sale(&sale).fee.unwrap().0;
	sim.settle(&sale, fee, "x");
	assert_eq!(sim.sale(&sale).state, SaleState::Done);
	sim.disconnect(client);
	let actions = sim.htlc(&sale, 2, 2, 7_000_000);
	assert_eq!(told(&actions), payment_incoming());
	assert!(failed(&actions).is_empty());
	assert_eq!(forwards(&sim.connect(client)), [(2, 7_000_000)]);
}

#[test]
fn nobody_is_woken_or_waited_for_while_it_is_switched_off() {
	let (mut sim, client) = sleeping();
	let mut policy = plain();
	policy.lsps5.enabled = false;
	sim.lsp.policy = policy;
	let actions = pay(&mut sim, client, 1, 1, 20_000_000);
	assert_eq!((told(&actions).len(), failed(&actions)), (0, vec![1]));
}
