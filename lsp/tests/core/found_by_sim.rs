//! What the seeded simulation found (`cargo sim`), as small as it gets.

use crate::harness::*;
use inlet_lsp::book::{EntryKind, Sale, SaleState};
use inlet_lsp::input::Input;
use inlet_lsp::money::{Msat, Sat};

/// Seed 1058: LDK's word that payment 1 failed comes once more after a crash, when payment 2, which pays in its place,
/// is held again. It was taken for payment 2's failure, and payment 3 lost the fee as well.
#[test]
fn r2_r12_a_failure_that_is_told_again_is_not_that_of_the_payment_that_is_held() {
	let mut sim = Sim::new();
	sim.connect(node(1));
	let sale = sim.buy(node(1), Some(30_000_000));
	let fee = sale.fee.unwrap().0;
	let open = opened(&sim.htlc(&sale, 1, 1, 30_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	assert_eq!(forwards(&sim.ready(node(1), open.user_channel_id)), [(1, 30_000_000 - fee)]);
	let failed = Input::ForwardFailed { peer: node(1), channel_id: channel_id(open.user_channel_id), by_client: true };
	sim.give(failed.clone());
	assert_eq!(forwards(&sim.htlc(&sale, 2, 2, 30_000_000)), [(2, 30_000_000 - fee)]);

	// Neither the forward nor that the event was handled is on LDK's disk.
	sim.restart();
	sim.give(Input::Started);
	assert_eq!(forwards(&sim.htlc(&sale, 2, 2, 30_000_000)), []);
	sim.give(failed);
	assert_eq!(sim.sale(&sale).state, SaleState::Forwarded);
	sim.htlc(&sale, 3, 3, 30_000_000);
	assert_eq!(forwards(&sim.connect(node(1))), [(2, 30_000_000 - fee)], "payment 3 waits, whole");
	assert_eq!(forwards(&sim.settle(&sale, fee, "2")), [(3, 30_000_000)]);
}

/// A sale whose client closed its channel with the payment that bears the fee still on it.
fn closed_in_flight() -> (Sim, Sale, u128) {
	let mut sim = Sim::new();
	sim.connect(node(1));
	let sale = sim.buy(node(1), Some(30_000_000));
	let open = opened(&sim.htlc(&sale, 1, 1, 30_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	assert_eq!(forwards(&sim.ready(node(1), open.user_channel_id)).len(), 1);
	sim.peers.get_mut(&node(1)).unwrap().channels.clear();
	let user_channel_id = open.user_channel_id;
	sim.give(Input::ChannelClosed { user_channel_id, reason: "the client".into(), by_client: true });
	assert_eq!(sim.sale(&sale).state, SaleState::Bought);
	(sim, sale, user_channel_id)
}

/// Seed 713: the payer tried the payment again, a second channel was opened, and the fee was taken again; the client
/// could have taken the first on the chain as well.
#[test]
fn r2_no_second_channel_is_opened_for_a_fee_that_is_on_its_way_over_one_that_was_closed() {
	let (mut sim, sale, id) = closed_in_flight();
	let fee = sale.fee.unwrap();
	assert_eq!(failed(&sim.htlc(&sale, 2, 1, 30_000_000)), [2]);
	sim.restart();
	sim.connect(node(1));
	assert_eq!(failed(&sim.htlc(&sale, 3, 2, 30_000_000)), [3]);
	let settled = Input::Forwarded {
		next_peer: Some(node(1)),
		next_channel: Some(channel_id(id)),
		total_fee: fee,
		skimmed: Msat::ZERO,
		intercept_id: Some([1; 32]),
		reference: "a".into(),
		came: Vec::new(),
		went: Vec::new(),
	};
	sim.give(settled.clone());
	assert_eq!(sim.sale(&sale).state, SaleState::Done);
	assert_eq!(sim.earned(EntryKind::JitFee), i64::try_from(fee.0).unwrap());
	assert!(sim.look(settled).writes.is_empty());
}

#[test]
fn r2_once_the_payment_on_the_closed_channel_has_failed_the_sale_goes_on() {
	let (mut sim, sale, id) = closed_in_flight();
	let failed = Input::ForwardFailed { peer: node(1), channel_id: channel_id(id), by_client: false };
	sim.give(failed.clone());
	assert!(sim.look(failed).writes.is_empty());
	let open = opened(&sim.htlc(&sale, 2, 1, 30_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	let fee = sale.fee.unwrap().0;
	assert_eq!(forwards(&sim.ready(node(1), open.user_channel_id)), [(2, 30_000_000 - fee)]);
	// Of the next one nothing is heard, and it has expired.
	let (mut sim, sale, _) = closed_in_flight();
	sim.height += 112;
	assert_eq!(failed_at(&mut sim, &sale), [2]);
	sim.height += 1;
	assert!(opened(&sim.htlc(&sale, 3, 2, 30_000_000)).is_some());
}

fn failed_at(sim: &mut Sim, sale: &Sale) -> Vec<u8> {
	failed(&sim.htlc(sale, 2, 1, 30_000_000))
}

/// Seed 122: LDK told that the channel is ready, and what it was to tell before that was lost in a crash.
#[test]
fn r12_a_channel_that_is_ready_reserves_nothing_although_nobody_told_of_its_funding() {
	let mut sim = Sim::new();
	sim.connect(node(1));
	let sale = sim.buy(node(1), Some(30_000_000));
	let open = opened(&sim.htlc(&sale, 1, 1, 30_000_000)).unwrap();
	assert!(sim.book.reserved() > Sat(30_000));
	assert_eq!(forwards(&sim.ready(node(1), open.user_channel_id)).len(), 1);
	assert_eq!(sim.book.reserved(), Sat::ZERO);
}

/// Seed 565: a buyer paid more than its order reserved, the rest went into another client's channel, and when the order
/// came to nothing there was too little for the refund.
#[test]
fn l1_28_what_a_buyer_sent_on_chain_is_not_spent_until_it_is_earned_or_has_gone_back() {
	let mut sim = Sim::new();
	sim.spendable = Sat(600_000);
	sim.connect(node(1));
	let params = sim.order_params();
	let (order, _) = sim.order(node(1), params);
	let for_channel = order.reserved.0;
	sim.disconnect(node(1));
	sim.onchain(&order, vec![output(1, 700_000, 0, 500)]);
	assert_eq!(sim.book.reserved(), Sat(for_channel), "not among the coins that we count on yet");
	sim.spendable = Sat(1_300_000);
	sim.onchain(&order, vec![output(1, 700_000, 2, 500)]);
	assert_eq!(sim.book.reserved(), Sat(for_channel + 700_000));
	// What is free is too little for this: it is ours alone.
	sim.connect(node(2));
	let menu = sim.menu(node(2));
	let most = menu[0]["max_payment_size_msat"].as_str().map_or(0, |most| most.parse::<u64>().unwrap());
	assert!(most < 80_000_000, "{menu}");
	sim.pass(3_600);
	sim.tick();
	assert_eq!(sim.book.reserved(), Sat(700_000));
	sim.refund_sent(&order, 0, 5, 700_000);
	assert_eq!(sim.book.reserved(), Sat::ZERO);
	// Of what it sends too much, only what is ours is free when its channel is out.
	let mut sim = Sim::new();
	sim.connect(node(1));
	let params = sim.order_params();
	let (order, _) = sim.order(node(1), params);
	let open = opened(&sim.onchain(&order, vec![output(1, order.order_total.0 + 9_000, 2, 500)])).unwrap();
	sim.funded(open.user_channel_id);
	assert_eq!(sim.book.reserved(), Sat(9_000));
}
