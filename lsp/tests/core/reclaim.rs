//! Idle capital comes home (R11): first its client is told, then the channel is closed together with it.

use crate::harness::*;
use crate::jit_sale::sold;
use inlet_lsp::capital::Holding;
use inlet_lsp::input::{Action, Input};
use inlet_lsp::money::{FeePerKw, Msat, Sat};
use inlet_lsp::notice::Notice;
use serde_json::json;

const DAY: u64 = 86_400;

/// A sold channel whose promise is over and which nobody used for two months, with a client that can be woken; the node's
/// view of it.
fn idle() -> (Sim, Holding) {
	let (mut sim, client, sale, mark) = sold();
	sim.lsp.policy.capital.reclaim = true;
	sim.feerate = Some(FeePerKw(500));
	sim.ask(client, "lsps5.set_webhook", json!({"app_name": "a", "webhook": "https://push.example"}));
	let holding = Holding {
		channel_id: channel_id(mark),
		client,
		capacity: Sat(500_000),
		ours: Msat(400_000_000),
		theirs: Msat(100_000_000),
		opened_by_us: true,
		public: false,
		connected: true,
		closing: false,
		in_flight: 0,
		lease_left: 0,
		opened_at: sim.sale(&sale).created_at,
		used_at: None,
		told_at: None,
	};
	sim.height = sim.book.keep_until(&holding.channel_id).unwrap();
	sim.pass(60 * DAY);
	(sim, holding)
}

fn look(sim: &mut Sim, holding: &Holding) -> Vec<Action> {
	sim.give(Input::Holdings { holdings: vec![holding.clone()], asked: false })
}

fn closes(holding: &Holding) -> Action {
	Action::CloseTogether { channel_id: holding.channel_id, peer: holding.client, feerate: FeePerKw(500) }
}

#[test]
fn r11_the_client_is_told_and_a_week_later_its_channel_is_closed() {
	let (mut sim, holding) = idle();
	assert_eq!(look(&mut sim, &holding), [], "it is here: there is nothing to wake");
	assert_eq!(look(&mut sim, &holding), [], "told, and not closed in the same moment");
	sim.pass(7 * DAY - 1);
	sim.restart();
	assert_eq!(look(&mut sim, &holding), []);
	sim.pass(1);
	let input = Input::Holdings { holdings: vec![holding.clone()], asked: false };
	let first = sim.look(input.clone());
	assert_eq!(first.actions, [closes(&holding)]);
	sim.commit(&first);
	assert_eq!(sim.give(input.clone()), [], "once");
	sim.restart();
	sim.pass(600);
	assert_eq!(sim.give(input), [closes(&holding)], "LDK still has it open: the closing was lost with the process");
	assert_eq!(look(&mut sim, &Holding { closing: true, ..holding }), []);
}

#[test]
fn r11_a_client_that_is_away_is_woken_to_be_told_and_once_a_day_to_close() {
	let (mut sim, holding) = idle();
	sim.disconnect(holding.client);
	let away = Holding { connected: false, ..holding.clone() };
	let told = |actions: &[Action]| {
		let all = notices(actions);
		all.iter().filter(|(_, _, notice)| *notice == Notice::LiquidityManagementRequest).count()
	};
	assert_eq!(told(&look(&mut sim, &away)), 1);
	sim.pass(3 * DAY);
	assert_eq!(look(&mut sim, &away), [], "it has time, and knows");
	sim.pass(4 * DAY);
	assert_eq!(told(&look(&mut sim, &away)), 1);
	sim.pass(DAY - 1);
	assert_eq!(look(&mut sim, &away), []);
	sim.pass(1);
	assert_eq!(told(&look(&mut sim, &away)), 1);
	assert_eq!(look(&mut sim, &holding), [closes(&holding)], "it came");
}

#[test]
fn r11_never_before_the_promise_whatever_the_node_says() {
	let (mut sim, holding) = idle();
	sim.height -= 1;
	look(&mut sim, &holding);
	sim.pass(30 * DAY);
	assert_eq!(look(&mut sim, &holding), [], "one block is left, by the book");
	sim.height += 1;
	assert_eq!(look(&mut sim, &holding), []);
	sim.pass(7 * DAY);
	assert_eq!(look(&mut sim, &holding), [closes(&holding)]);
}

#[test]
fn r11_a_client_that_was_told_and_uses_its_channel_keeps_it() {
	let (mut sim, holding) = idle();
	look(&mut sim, &holding);
	sim.pass(DAY);
	let used = Holding { used_at: Some(sim.now), ..holding };
	sim.pass(59 * DAY);
	assert_eq!(look(&mut sim, &used), []);
	sim.pass(DAY);
	assert_eq!(look(&mut sim, &used), [], "idle again, and told anew");
	sim.pass(6 * DAY);
	assert_eq!(look(&mut sim, &used), []);
	sim.pass(DAY);
	assert_eq!(look(&mut sim, &used), [closes(&used)]);
}

#[test]
fn r11_nothing_is_reclaimed_unless_it_is_on_or_asked_for_nor_more_in_a_day_than_it_may() {
	let (mut sim, holding) = idle();
	sim.lsp.policy.capital.reclaim = false;
	look(&mut sim, &holding);
	sim.pass(30 * DAY);
	assert_eq!(look(&mut sim, &holding), []);
	let asked = |sim: &mut Sim| sim.give(Input::Holdings { holdings: vec![holding.clone()], asked: true });
	assert_eq!(asked(&mut sim), [], "told");
	sim.pass(7 * DAY);
	sim.lsp.policy.capital.reclaim = true;
	sim.lsp.policy.capital.reclaims_per_day = 0;
	assert_eq!(look(&mut sim, &holding), []);
	assert_eq!(asked(&mut sim), [closes(&holding)], "the operator knows what they do");
}

#[test]
fn r11_nothing_is_closed_while_our_view_of_the_chain_is_old_or_fees_are_high() {
	let (mut sim, holding) = idle();
	look(&mut sim, &holding);
	sim.pass(7 * DAY);
	sim.synced = false;
	assert_eq!(look(&mut sim, &holding), []);
	sim.synced = true;
	sim.feerate = Some(FeePerKw(1_000));
	assert_eq!(look(&mut sim, &holding), []);
	sim.feerate = None;
	assert_eq!(look(&mut sim, &holding), []);
	sim.feerate = Some(FeePerKw(500));
	assert_eq!(look(&mut sim, &holding), [closes(&holding)]);
}
