//! A channel sold just in time, when all goes well.

use crate::harness::*;
use inlet_lsp::book::{EntryKind, SaleState};
use inlet_lsp::input::{Action, Input};
use inlet_lsp::money::{FeePerKw, Msat, Ppm, Sat};
use inlet_lsp::policy::Trust;

#[test]
fn l2_19_parts_are_gathered_then_the_channel_is_opened_and_all_of_them_forwarded() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	let fee = sale.fee.unwrap().0;
	assert!(sim.htlc(&sale, 1, 9, 20_000_000).is_empty());
	assert!(matches!(sim.sale(&sale).state, SaleState::Gathering { .. }));
	assert!(sim.htlc(&sale, 2, 8, 30_000_000).is_empty(), "a part of another payment does not count");
	let open = opened(&sim.htlc(&sale, 3, 9, 30_000_000)).expect("the sum is there");
	assert_eq!((open.peer, open.announce, open.confirmations, open.push), (client, false, 0, Msat(0)));
	assert_eq!(open.max_to_self_delay, Some(2016));
	assert!(sim.funded(open.user_channel_id).is_empty());
	let actions = sim.ready(client, open.user_channel_id);
	let forwarded = forwards(&actions);
	assert_eq!(forwarded.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 3]);
	assert_eq!(forwarded[0].1 + forwarded[1].1, 50_000_000 - fee);
	assert_eq!(sim.sale(&sale).state, SaleState::Forwarded);
	let others = forwards(&sim.settle(&sale, fee, "a"));
	assert_eq!(others, [(2, 30_000_000)], "the other payment owes nothing");
	assert_eq!(sim.sale(&sale).state, SaleState::Done);
	assert_eq!(sim.earned(EntryKind::JitFee), i64::try_from(fee).unwrap());
	assert_eq!(sim.earned(EntryKind::FundingCost), -850_000);
	assert_eq!(sim.book.client(&client).unwrap().sales_done, 1);
	assert_eq!(sim.book.reserved(), Sat(0));
	assert_eq!(sim.book.next_deadline(), None);
}

#[test]
fn l2_23_a_payment_of_open_size_bears_the_fee_of_its_own_size() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let sale = sim.buy(client, None);
	assert_eq!(failed(&sim.htlc(&sale, 1, 1, 4_999_999)), [1], "below the minimum");
	assert_eq!(failed(&sim.htlc(&sale, 2, 2, 2_000_000_001)), [2], "above the maximum");
	assert_eq!(sim.sale(&sale).state, SaleState::Bought, "a bad HTLC does not burn the invoice");
	let open = opened(&sim.htlc(&sale, 3, 3, 1_000_000_000)).unwrap();
	assert_eq!(sim.sale(&sale).fee, Some(Msat(4_000_000)), "0.4 %");
	assert_eq!(forwards(&sim.ready(client, open.user_channel_id)), [(3, 996_000_000)]);
	sim.settle(&sale, 4_000_000, "a");
	assert_eq!(sim.sale(&sale).state, SaleState::Done);
}

#[test]
fn l2_24_r15_the_channel_holds_the_payment_and_our_reserve() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	for amount in [5_000_000, 100_000_000, 2_000_000_000] {
		let sale = sim.buy(client, Some(amount));
		let open = opened(&sim.htlc(&sale, 1, 1, amount)).unwrap();
		let usable = open.capacity.0 - (open.capacity.0 / 100).max(1000) - 660;
		assert!(usable * 1000 > amount, "{amount}");
		sim.give(Input::OpenFailed { user_channel_id: open.user_channel_id, reason: "next".into(), ours: false });
	}
}

/// BOLT 3: the commitment transaction with anchors, and one HTLC in it, in weight units.
const COMMITMENT_WEIGHT: u64 = 1124;
const HTLC_WEIGHT: u64 = 172;

#[test]
fn r15_without_any_headroom_the_channel_bears_the_payment_its_parts_and_the_fee_of_its_commitment() {
	for (feerate, parts) in [(253, 1), (1_000, 8), (5_000, 30), (12_000, 1), (12_000, 30)] {
		let mut policy = trusting(Trust::Everyone);
		policy.lsps2.headroom_ppm = Ppm(0);
		policy.lsps2.min_channel_sat = Sat(20_000);
		let (mut sim, client) = (Sim::with(policy), node(1));
		sim.feerate = Some(FeePerKw(feerate));
		sim.connect(client);
		let (share, count) = (60_000_000, u64::from(parts));
		let sale = sim.buy(client, Some(share * count));
		let opening = (1..=parts).filter_map(|part| opened(&sim.htlc(&sale, part, 1, share))).last();
		let capacity = opening.expect("all parts are here").capacity.0;
		let commitment = ((COMMITMENT_WEIGHT + HTLC_WEIGHT * count) * u64::from(feerate)).div_ceil(1_000);
		let reserve = (capacity / 100).max(1_000);
		let usable = capacity - reserve - 2 * 330 - commitment;
		assert!(usable * 1_000 >= share * count, "{feerate} sat/kw, {parts} parts: {usable} of {capacity}");
	}
}

#[test]
fn l2_21_a_client_that_sleeps_is_waited_for() {
	let (mut sim, client) = (Sim::new(), node(1));
	let sale = sim.buy(client, Some(50_000_000));
	assert!(sim.htlc(&sale, 1, 1, 50_000_000).is_empty());
	assert_eq!(sim.book.awaited_clients().into_iter().collect::<Vec<_>>(), [client]);
	sim.pass(30);
	assert!(opened(&sim.connect(client)).is_some());
}

#[test]
fn l2_29_later_payments_on_the_scid_are_forwarded_in_full() {
	let (mut sim, client, sale, _) = sold();
	assert_eq!(forwards(&sim.htlc(&sale, 5, 5, 1_234)), [(5, 1_234)]);
	sim.pass(100_000);
	sim.tick();
	assert_eq!(forwards(&sim.htlc(&sale, 6, 6, 7_000_000)), [(6, 7_000_000)]);
	sim.disconnect(client);
	assert_eq!(failed(&sim.htlc(&sale, 7, 7, 7_000_000)), [7]);
}

#[test]
fn l2_28_the_lifetime_is_kept_once_paid() {
	let (sim, _, _, user_channel_id) = sold();
	let id = channel_id(user_channel_id);
	assert_eq!(sim.book.keep_until(&id), Some(800_000 + 4320 + 144));
	let mut unpaid = Sim::new();
	unpaid.connect(node(1));
	let sale = unpaid.buy(node(1), Some(50_000_000));
	let open = opened(&unpaid.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	unpaid.funded(open.user_channel_id);
	assert_eq!(unpaid.book.keep_until(&channel_id(open.user_channel_id)), None);
}

#[test]
fn forwards_are_booked_once_and_apart_from_the_opening_fee() {
	let (mut sim, client, sale, _) = sold();
	let fee = sim.earned(EntryKind::JitFee);
	let routing = |reference: &str| Input::Forwarded {
		next_peer: Some(client),
		next_channel: None,
		total_fee: Msat(77),
		skimmed: Msat(0),
		intercept_id: None,
		reference: reference.to_string(),
		came: Vec::new(),
		went: Vec::new(),
	};
	for reference in ["x", "x", "y", "x"] {
		sim.give(routing(reference));
	}
	sim.restart();
	sim.give(routing("x"));
	assert_eq!(sim.earned(EntryKind::RoutingFee), 154);
	sim.settle(&sale, 5_000, "first");
	assert_eq!(sim.earned(EntryKind::JitFee), fee, "a replay");
	sim.settle(&sale, 1_000, "more");
	sim.settle(&sale, 1_000, "more");
	assert_eq!(
		sim.earned(EntryKind::JitFee),
		fee + 1_000,
		"what was taken is booked, also if nothing was owed any more"
	);
}

#[test]
fn a_fee_that_comes_in_pieces_is_earned_when_all_of_it_is_there() {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(5_000_000));
	let fee = sale.fee.unwrap().0;
	for part in 1..=5 {
		sim.htlc(&sale, part, 1, 1_000_000);
	}
	let user_channel_id = sim.sale(&sale).user_channel_id;
	let actions = sim.ready(client, user_channel_id);
	let skims: Vec<u64> = forwards(&actions).iter().map(|(_, amount)| 1_000_000 - amount).collect();
	assert_eq!(skims.iter().sum::<u64>(), fee);
	assert!(skims.iter().filter(|skim| **skim > 0).count() > 1, "the fee is larger than a part");
	for (number, skim) in skims.iter().enumerate() {
		assert_ne!(sim.sale(&sale).state, SaleState::Done);
		sim.settle(&sale, *skim, &number.to_string());
		sim.settle(&sale, *skim, &number.to_string());
		if sim.sale(&sale).fee_left() == Msat(0) {
			break;
		}
	}
	assert_eq!(sim.sale(&sale).state, SaleState::Done);
	assert_eq!(sim.earned(EntryKind::JitFee), i64::try_from(fee).unwrap());
}

/// A sale that is done.
pub fn sold() -> (Sim, inlet_lsp::book::NodeId, inlet_lsp::book::Sale, u128) {
	let (mut sim, client) = (Sim::new(), node(1));
	sim.connect(client);
	let sale = sim.buy(client, Some(50_000_000));
	let open = opened(&sim.htlc(&sale, 1, 1, 50_000_000)).unwrap();
	sim.funded(open.user_channel_id);
	let actions = sim.ready(client, open.user_channel_id);
	assert!(matches!(actions[..], [Action::ForwardHtlc { .. }]));
	sim.settle(&sale, sale.fee.unwrap().0, "first");
	assert_eq!(sim.sale(&sale).state, SaleState::Done);
	(sim, client, sale, open.user_channel_id)
}
