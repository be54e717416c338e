//! A sale is taken up again wherever a crash left it, also between a commit and what follows from it.

use crate::harness::*;
use inlet_lsp::book::SaleState;
use inlet_lsp::input::Input;

#[test]
fn held_parts_wait_for_the_client_again_and_a_replay_doubles_nothing() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	sim.htlc(&sale, 1, 1, 20_000_000);
	sim.pass(80);
	sim.restart();
	assert!(sim.give(Input::Started).is_empty());
	assert!(sim.htlc(&sale, 1, 1, 20_000_000).is_empty());
	assert_eq!(sim.sale(&sale).parts.len(), 1);
	sim.pass(80);
	assert!(sim.tick().is_empty(), "the client gets its time anew");
	sim.htlc(&sale, 2, 1, 30_000_000);
	assert!(opened(&sim.connect(client)).is_some());
}

#[test]
fn a_channel_that_was_being_opened_is_asked_for_again_when_the_client_is_back() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	sim.pass(55);
	sim.restart();
	assert!(sim.give(Input::Started).is_empty(), "nobody is connected yet");
	sim.htlc(&sale, 1, 1, 50_000_000);
	sim.pass(20);
	assert!(sim.tick().is_empty());
	let again = opened(&sim.connect(client)).unwrap();
	assert_eq!(again.user_channel_id, open.user_channel_id, "the node knows it by this");
	assert_eq!(again.capacity, open.capacity);
	assert_eq!(forwards(&sim.ready(client, open.user_channel_id)).len(), 1);
}

#[test]
fn a_forward_decided_and_not_done_is_done_as_decided() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	sim.htlc(&sale, 1, 1, 20_000_000);
	let open = opened(&sim.htlc(&sale, 2, 1, 30_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	let decided = forwards(&sim.ready(client, open.user_channel_id));
	// The crash: the writes are there, the forwards never reached LDK.
	sim.restart();
	sim.give(Input::Started);
	assert!(sim.htlc(&sale, 2, 1, 30_000_000).is_empty(), "the client is not here");
	assert!(sim.htlc(&sale, 1, 1, 20_000_000).is_empty());
	let mut again = forwards(&sim.connect(client));
	again.sort_unstable();
	assert_eq!(again, decided);
	assert!(sim.connect(client).is_empty(), "once");
}

#[test]
fn a_forward_decided_and_not_done_is_failed_if_the_client_stays_away() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	sim.ready(client, open.user_channel_id);
	sim.restart();
	sim.give(Input::Started);
	sim.htlc(&sale, 1, 1, 50_000_000);
	assert_eq!(sim.book.next_deadline(), Some(sim.now.plus_secs(90)));
	sim.pass(90);
	assert_eq!(failed(&sim.tick()), [1]);
	assert_eq!(sim.sale(&sale).state, SaleState::Owing);
}

#[test]
fn r01_a_forward_decided_and_not_done_is_failed_when_it_comes_too_near_to_its_expiry() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	assert_eq!(forwards(&sim.ready(client, open.user_channel_id)).len(), 1);
	let shown_again = sim.htlc_input(&sale, 1, 1, 50_000_000);
	sim.restart();
	sim.give(Input::Started);
	assert!(sim.give(shown_again).is_empty(), "the client is not here");
	// Blocks come fast: it expires 100 blocks after it arrived.
	sim.height += 100 - inlet_lsp::jit::EXPIRY_MARGIN_BLOCKS - 1;
	assert!(sim.tick().is_empty());
	sim.height += 1;
	assert_eq!(failed(&sim.tick()), [1], "before LDK does");
	assert_eq!(sim.sale(&sale).state, SaleState::Owing);
	assert!(forwards(&sim.connect(client)).is_empty());
}

#[test]
fn a_step_that_was_not_committed_did_not_happen() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	let input = sim.htlc_input(&sale, 1, 1, 50_000_000);
	assert!(opened(&sim.look(input).actions).is_some());
	sim.restart();
	assert_eq!(sim.sale(&sale), sale);
	sim.give(Input::Started);
	assert!(sim.htlc(&sale, 1, 1, 50_000_000).is_empty());
	assert!(opened(&sim.connect(client)).is_some());
}

#[test]
fn every_channel_event_may_come_twice() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	let funded = sim.funded_input(open.user_channel_id);
	sim.give(funded.clone());
	assert!(sim.look(funded).writes.is_empty());
	sim.ready(client, open.user_channel_id);
	let id = channel_id(open.user_channel_id);
	let ready = Input::ChannelReady { user_channel_id: open.user_channel_id, channel_id: id };
	assert_eq!(sim.look(ready), inlet_lsp::input::Step::default());
}
