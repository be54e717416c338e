//! Orders of clients with a channel: it is made larger where that is safe, else another one is opened.

use crate::harness::*;
use bitcoin::OutPoint;
use inlet_lsp::book::{Account, BooksRow, EntryKind, NodeId, Order, OrderState, Write};
use inlet_lsp::input::{Action, Growable, Input, SpliceIn};
use inlet_lsp::ledger::{Fact, Purpose, WalletTx};
use inlet_lsp::money::{FeePerKw, Msat, Sat};
use serde_json::Value;

const CHANNEL: u128 = 77;

fn growable(capacity: u64) -> Growable {
	let in_flight = Msat(500_000_000);
	Growable {
		channel_id: channel_id(CHANNEL),
		user_channel_id: CHANNEL,
		capacity: Sat(capacity),
		in_flight,
		public: false,
	}
}

fn params(sim: &Sim) -> Value {
	let mut params = sim.order_params();
	params["client_balance_sat"] = "0".into();
	params["required_channel_confirmations"] = 1.into();
	params
}

/// A client with a channel that can grow, and a paid order: what follows.
fn paid(change: impl FnOnce(&mut Sim, &mut Value, &mut Vec<Growable>)) -> (Sim, NodeId, Order, Vec<Action>) {
	let mut policy = plain();
	policy.lsps1.splice = true;
	let (mut sim, client) = (Sim::with(policy), node(1));
	sim.connect(client);
	let (mut params, mut channels) = (params(&sim), vec![growable(400_000)]);
	change(&mut sim, &mut params, &mut channels);
	sim.peers.get_mut(&client).unwrap().growable = channels;
	let (order, _) = sim.order(client, params);
	let actions = sim.hold(&order, order.order_total);
	(sim, client, order, actions)
}

fn spliced(actions: &[Action]) -> Option<SpliceIn> {
	actions.iter().find_map(|action| match action {
		Action::SpliceIn(splice) => Some(splice.clone()),
		_ => None,
	})
}

fn mined(sim: &mut Sim, splice: &SpliceIn) -> Vec<Action> {
	let (funding, fee) = (OutPoint::new(txid(900), 1), Some(Sat(1_200)));
	let (user_channel_id, channel_id) = (splice.user_channel_id, splice.channel_id);
	sim.give(Input::Funded { user_channel_id, channel_id, funding, fee, shared: false })
}

fn failed(sim: &mut Sim, splice: &SpliceIn) -> Vec<Action> {
	let reason = "the client refuses".to_owned();
	sim.give(Input::OpenFailed { user_channel_id: splice.user_channel_id, reason, ours: true })
}

#[test]
fn an_order_is_added_to_the_channel_that_is_there() {
	let (mut sim, client, order, actions) = paid(|_, _, _| ());
	let splice = spliced(&actions).unwrap();
	assert_eq!((splice.peer, splice.amount, splice.channel_id), (client, Sat(500_000), channel_id(CHANNEL)));
	assert_eq!(opened(&actions), None);
	assert!(sim.now_order(&order).reserved > Sat(500_000));
	// A replay asks for the same.
	assert_eq!(spliced(&sim.connect(client)), Some(splice.clone()));
	sim.restart();
	assert_eq!(spliced(&sim.connect(client)), Some(splice.clone()));

	let payment_hash = order.lightning.as_ref().unwrap().payment_hash;
	assert_eq!(mined(&mut sim, &splice), [Action::ClaimPayment { order: order.id.clone(), payment_hash }]);
	sim.claimed(&order, order.order_total);
	let shown = sim.get_order(&order);
	assert_eq!(shown["channel"]["funding_outpoint"], format!("{}:1", txid(900)));
	let done = sim.now_order(&order);
	assert_eq!((&done.state, done.reserved), (&OrderState::Completed, Sat::ZERO));
	assert_eq!(sim.book.lease(&channel_id(CHANNEL)).unwrap().sold_as, order.id);
	assert!(mined(&mut sim, &splice).is_empty(), "told again");
	for _again in 0..2 {
		sim.give(Input::LeaseBroken { channel_id: channel_id(CHANNEL), blocks_left: 9 });
	}
	let broken = sim.now_order(&order).history.iter().filter(|note| note.step == "lease").count();
	assert_eq!(broken, 1, "on record, once");
	assert_eq!(sim.earned(EntryKind::FundingCost), -1_200_000, "once");

	// It ends with its channel.
	let closed = Input::ChannelClosed { user_channel_id: CHANNEL, reason: "bye".into(), by_client: true };
	sim.give(closed);
	assert!(sim.now_order(&order).channel.unwrap().closed_at.is_some());
	assert_eq!(sim.book.lease(&channel_id(CHANNEL)), None);
}

#[test]
fn a_channel_of_its_own_is_opened_where_a_splice_does_not_serve() {
	let is_opened = |actions: &[Action]| spliced(actions).is_none() && opened(actions).is_some();
	assert!(!is_opened(&paid(|_, _, _| ()).3), "what is changed below is what matters");
	assert!(is_opened(&paid(|sim, _, _| sim.lsp.policy.lsps1.splice = false).3), "it is off");
	assert!(is_opened(&paid(|_, _, channels| channels.clear()).3), "no channel, or none that can grow");
	assert!(is_opened(&paid(|_, params, _| params["client_balance_sat"] = "1".into()).3), "nothing can be pushed");
	assert!(is_opened(&paid(|_, params, _| params["required_channel_confirmations"] = 0.into()).3), "it cannot wait");
	assert!(is_opened(&paid(|_, _, channels| channels[0].public = true).3), "of the other kind");
	let one_less = Msat(499_999_999);
	assert!(is_opened(&paid(|_, _, channels| channels[0].in_flight = one_less).3), "it could not arrive at once");
	let largest = |sim: &Sim| sim.lsp.policy.lsps1.max_channel_sat.0;
	assert!(is_opened(&paid(|sim, _, channels| channels[0] = growable(largest(sim) - 499_999)).3), "too large then");
	assert!(!is_opened(&paid(|sim, _, channels| channels[0] = growable(largest(sim) - 500_000)).3), "just fits");
}

/// Its payment is held until it is mined, which at a feerate for patient orders may be after the payment had to go back.
#[test]
fn r6_what_may_wait_long_for_its_block_is_no_splice() {
	let patient = |feerate: u32| {
		let (_, _, _, actions) = paid(|sim, params, _| {
			params["funding_confirms_within_blocks"] = 144.into();
			sim.market.by_blocks = vec![(1, FeePerKw(2_000)), (6, FeePerKw(1_000)), (144, FeePerKw(feerate))];
		});
		(spliced(&actions).is_some(), opened(&actions).is_some())
	};
	assert_eq!(patient(999), (false, true), "opened at the low feerate, as it was ordered");
	assert_eq!(patient(1_000), (true, false));
}

#[test]
fn r4_a_client_that_keeps_its_signatures_for_an_hour_is_waited_for_no_longer() {
	let (mut sim, _, order, actions) = paid(|_, _, _| ());
	sim.pass(3_600);
	sim.restart();
	sim.give(Input::Started);
	assert!(!sim.now_order(&order).is_void(sim.now), "we were away");
	sim.pass(3_599);
	sim.tick();
	assert!(!sim.now_order(&order).is_void(sim.now));
	sim.pass(inlet_lsp::order::ABANDON_AGAIN_SECS);
	let asked = sim.tick();
	assert!(sim.now_order(&order).is_void(sim.now));
	let peer = order.client;
	let user_channel_id = spliced(&actions).unwrap().user_channel_id;
	assert_eq!(asked, [Action::AbandonChannel { user_channel_id, peer }], "and the node is asked");
}

#[test]
fn a_channel_that_was_closed_before_its_splice_was_mined_is_delivered_and_closed() {
	let (mut sim, _, order, actions) = paid(|_, _, _| ());
	let splice = spliced(&actions).unwrap();
	let closed = |user_channel_id| Input::ChannelClosed { user_channel_id, reason: "bye".into(), by_client: true };
	sim.give(closed(CHANNEL));
	assert_eq!(mined(&mut sim, &splice).len(), 1, "claimed");
	sim.claimed(&order, order.order_total);
	sim.give(closed(splice.user_channel_id));
	let done = sim.now_order(&order);
	assert_eq!(done.state, OrderState::Completed);
	assert!(done.channel.unwrap().closed_at.is_some());
	assert_eq!(sim.book.lease(&channel_id(CHANNEL)), None);
}

#[test]
fn r11_an_order_counts_while_its_channel_is_being_opened_or_made_larger() {
	for growable in [true, false] {
		let (sim, _, order, _) = paid(|_, _, channels| channels.truncate(usize::from(growable)));
		let reserved = sim.now_order(&order).reserved;
		let limits = inlet_lsp::exposure::limits(&sim.lsp.policy, &sim.book, Sat::ZERO, sim.now);
		let taken = |key: &str| limits.iter().find(|limit| limit.key == key).unwrap().taken;
		assert_eq!(taken("capital.max_unconfirmed_sat"), reserved.0);
		assert_eq!(taken("capital.max_channels_per_hour"), 1);
	}
}

#[test]
fn a_splice_that_fails_is_followed_by_one_channel_and_no_other_splice() {
	let (mut sim, client, order, actions) = paid(|_, _, _| ());
	let splice = spliced(&actions).unwrap();
	let open = opened(&failed(&mut sim, &splice)).unwrap();
	assert_ne!(open.user_channel_id, splice.user_channel_id);
	assert_eq!(open.capacity, Sat(500_000));
	assert!(failed(&mut sim, &splice).is_empty(), "told again");
	sim.restart();
	let again = sim.connect(client);
	assert_eq!((spliced(&again), opened(&again)), (None, Some(open.clone())));
	// Nor when that fails.
	let id = open.user_channel_id;
	sim.give(Input::OpenFailed { user_channel_id: id, reason: "no coins".into(), ours: true });
	sim.pass(60);
	let third = sim.connect(client);
	assert!(spliced(&third).is_none() && opened(&third).is_some());
	assert_eq!(sim.now_order(&order).splice, None);
}

#[test]
fn a_splice_that_is_not_signed_in_time_is_given_up_and_one_that_comes_all_the_same_is_the_delivery() {
	let (mut sim, client, order, actions) = paid(|_, _, _| ());
	let splice = spliced(&actions).unwrap();
	let abandon = Action::AbandonChannel { user_channel_id: splice.user_channel_id, peer: client };
	sim.pass(59);
	assert!(sim.tick().is_empty());
	sim.pass(1);
	assert!(sim.book.next_deadline().unwrap() <= sim.now);
	assert_eq!(sim.tick(), std::slice::from_ref(&abandon));
	assert!(sim.tick().is_empty(), "not at once again");
	sim.pass(60);
	assert_eq!(sim.tick(), [abandon]);
	// It was signed: it waits for its block, and nothing else is opened meanwhile.
	assert!(opened(&sim.connect(client)).is_none());
	assert_eq!(mined(&mut sim, &splice).len(), 1);
	assert!(matches!(sim.now_order(&order).state, OrderState::Funded { .. }));
}

#[test]
fn an_order_that_is_too_late_waits_for_the_end_of_its_splice() {
	let (mut sim, _, order, actions) = paid(|_, _, _| ());
	let splice = spliced(&actions).unwrap();
	sim.pass(sim.lsp.policy.lsps1.open_window_secs);
	sim.tick();
	assert!(matches!(sim.now_order(&order).state, OrderState::Abandoning { .. }));
	let actions = failed(&mut sim, &splice);
	assert!(opened(&actions).is_none() && spliced(&actions).is_none(), "{actions:?}");
	assert!(matches!(sim.now_order(&order).state, OrderState::Failed { .. }));
	assert_eq!(sim.book.reserved(), Sat::ZERO);
}

#[test]
fn the_books_of_a_splice_balance_and_are_taken_back_with_it() {
	let (mut sim, _, _, actions) = paid(|_, _, _| ());
	let splice = spliced(&actions).unwrap();
	sim.give(Input::Money(Fact::Opening { height: 1, wallet: Msat(2_000_000_000), channels: vec![], txs: vec![] }));
	let funding = OutPoint::new(txid(900), 1);
	let purpose = Purpose::Splice {
		channel_id: splice.channel_id,
		user_channel_id: splice.user_channel_id,
		funding,
		capacity: Sat(900_001),
		added: Msat(500_001_000),
	};
	let delta_msat = -500_001_000 - 1_200_000;
	let tx = WalletTx { txid: funding.txid, delta_msat, height: None, purpose };
	sim.give(Input::Money(Fact::Wallet { height: 2, txs: vec![tx], gone: vec![], moved: vec![] }));
	let balance = |sim: &Sim, account: Account| sim.book.books().balance(account);
	assert_eq!(balance(&sim, Account::Channel(splice.channel_id)), 500_001_000);
	assert_eq!(
		(balance(&sim, Account::Wallet), balance(&sim, Account::Pending)),
		(2_000_000_000 + delta_msat, 1_200_000)
	);
	mined(&mut sim, &splice);
	assert_eq!((balance(&sim, Account::Pending), balance(&sim, Account::MinerOpen)), (0, 1_200_000));
	assert_eq!(sim.book.books().channel_of_funding(&funding).unwrap().capacity, Sat(900_001));
	let sums = |sim: &Sim| sim.book.books().balances().values().sum::<i64>();
	assert_eq!(sums(&sim), 0);
	sim.give(Input::Money(Fact::Wallet { height: 3, txs: vec![], gone: vec![funding.txid], moved: vec![] }));
	assert_eq!((balance(&sim, Account::Channel(splice.channel_id)), sums(&sim)), (0, 0));
}

#[test]
fn a_channel_is_found_by_each_of_its_fundings() {
	let (mut sim, _, _, actions) = paid(|_, _, _| ());
	let splice = spliced(&actions).unwrap();
	sim.give(Input::Money(Fact::Opening { height: 1, wallet: Msat(9_000_000_000), channels: vec![], txs: vec![] }));
	for number in [901, 902] {
		let (txid, capacity, added) = (txid(number), Sat(900_000), Msat(100_000));
		let purpose = Purpose::Splice {
			channel_id: splice.channel_id,
			user_channel_id: splice.user_channel_id,
			funding: OutPoint::new(txid, 0),
			capacity,
			added,
		};
		let tx = WalletTx { txid, delta_msat: -200_000, height: None, purpose };
		sim.give(Input::Money(Fact::Wallet { height: 2, txs: vec![tx], gone: vec![], moved: vec![] }));
	}
	for number in [901, 902] {
		let found = sim.book.books().channel_of_funding(&OutPoint::new(txid(number), 0));
		assert_eq!(found.and_then(|sums| sums.channel_id()), Some(splice.channel_id));
	}
	let row = sim.book.books().channel(&splice.channel_id).unwrap().clone();
	let read: Write =
		serde_json::from_value(serde_json::to_value(Write::Books(BooksRow::Channel(row))).unwrap()).unwrap();
	assert!(matches!(read, Write::Books(BooksRow::Channel(sums)) if sums.earlier_fundings.len() == 1));
}
