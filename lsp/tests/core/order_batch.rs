//! Channels of several orders that one transaction funds: who waits for whom, and what the books say.

use crate::harness::*;
use bitcoin::OutPoint;
use inlet_lsp::book::{Account, Batch, EntryKind, Order, OrderState};
use inlet_lsp::input::{Action, Growable, Input, OpenChannel};
use inlet_lsp::ledger::{Fact, NewChannel, Purpose, WalletTx, share_of};
use inlet_lsp::money::{FeePerKw, Msat, Sat};
use inlet_lsp::order::{MAX_TOGETHER, TOGETHER_SECS};
use inlet_lsp::policy::Policy;
use inlet_lsp::time::Timestamp;
use serde_json::Value;

const FEE: Sat = Sat(1_000);
const TX: u64 = 900;

/// Three clients that have paid, and whose channels are being opened.
fn three() -> (Sim, Vec<Order>) {
	let mut sim = Sim::with(plain());
	let opened = |number: u8| {
		let client = node(number);
		sim.connect(client);
		let params = sim.order_params();
		let (order, _) = sim.order(client, params);
		let actions = sim.hold(&order, order.order_total);
		assert!(opened(&actions).is_some(), "{actions:?}");
		sim.now_order(&order)
	};
	let orders = (1..=3).map(opened).collect();
	(sim, orders)
}

fn funding(place: usize) -> OutPoint {
	OutPoint::new(txid(TX), u32::try_from(place).unwrap())
}

fn share(orders: &[Order], place: usize) -> Sat {
	share_of(FEE, orders.len() as u64, place as u64)
}

fn funded(orders: &[Order], place: usize) -> Input {
	let user_channel_id = orders[place].user_channel_id;
	let (channel_id, fee) = (channel_id(user_channel_id), Some(share(orders, place)));
	Input::Funded { user_channel_id, channel_id, funding: funding(place), fee, shared: true }
}

/// The wallet has the transaction.
fn in_the_wallet(sim: &mut Sim, orders: &[Order]) {
	let channel = |(place, order): (usize, &Order)| NewChannel {
		channel_id: channel_id(order.user_channel_id),
		user_channel_id: order.user_channel_id,
		client: Some(order.client),
		funding: funding(place),
		capacity: order.capacity(),
		given: Msat::ZERO,
	};
	let channels: Vec<NewChannel> = orders.iter().enumerate().map(channel).collect();
	let all: u64 = channels.iter().map(|channel| channel.capacity.0).sum();
	let delta_msat = -i64::try_from((all + FEE.0) * 1000).unwrap();
	let tx = WalletTx { txid: txid(TX), delta_msat, height: None, purpose: Purpose::Funding { channels } };
	let fact = Fact::Wallet { height: sim.height, txs: vec![tx], gone: vec![], moved: vec![] };
	sim.give(Input::Money(fact));
}

#[test]
fn a_fee_is_shared_to_the_sat() {
	let shares = |fee: u64, count: u64| (0..count).map(|place| share_of(Sat(fee), count, place).0).collect::<Vec<_>>();
	assert_eq!(shares(1_000, 3), [334, 333, 333]);
	assert_eq!(shares(2, 3), [2, 0, 0]);
	assert_eq!(shares(850, 1), [850]);
	assert_eq!(share_of(Sat(7), 0, 0), Sat(7), "nobody to share it with");
}

#[test]
fn channels_of_one_transaction_each_bear_their_part_of_its_fee() {
	for wallet_first in [true, false] {
		let (mut sim, orders) = three();
		let wallet = Msat(3_000_000_000);
		sim.give(Input::Money(Fact::Opening { height: sim.height, wallet, channels: vec![], txs: vec![] }));
		if wallet_first {
			in_the_wallet(&mut sim, &orders);
		}
		for place in [2, 0, 1] {
			let claims = sim.give(funded(&orders, place));
			assert!(matches!(&claims[..], [Action::ClaimPayment { .. }]), "{claims:?}");
			let order = sim.now_order(&orders[place]);
			assert!(matches!(order.state, OrderState::Funded { .. }));
			assert_eq!(order.reserved, Sat::ZERO, "its own reservation, and no other's");
		}
		if !wallet_first {
			in_the_wallet(&mut sim, &orders);
		}
		for place in 0..3 {
			sim.give(funded(&orders, place));
		}
		assert_eq!(sim.earned(EntryKind::FundingCost), -1_000_000, "once each, and no msat is lost");
		let books = sim.book.books();
		assert_eq!(books.balance(Account::Pending), 0);
		assert_eq!(books.balance(Account::MinerOpen), 1_000_000);
		assert_eq!(books.balances().values().sum::<i64>(), 0);
		for (place, order) in orders.iter().enumerate() {
			let id = channel_id(order.user_channel_id);
			let ours = order.capacity().0 - order.client_balance.0;
			assert_eq!(books.balance(Account::Channel(id)), i64::try_from(ours * 1000).unwrap());
			let sums = books.channels().find(|sums| sums.channel_id() == Some(id)).unwrap();
			let cost = -i64::try_from(share(&orders, place).0 * 1000).unwrap();
			assert_eq!(sums.kinds.get(&EntryKind::FundingCost), Some(&cost));
			assert_eq!((sums.client, sums.sold_as.as_ref()), (Some(order.client), Some(&order.id)));
		}
	}
}

const WINDOW: u64 = 300;

/// An LSP that waits, and clients that are here.
fn waiting(clients: u8) -> Sim {
	let mut policy = plain();
	policy.lsps1.batch_window_secs = WINDOW;
	policy.risk.patient_feerate_sat_per_vb = policy.risk.max_feerate_sat_per_vb;
	let mut sim = Sim::with(policy);
	sim.spendable = Sat(100_000_000);
	for number in 1..=clients {
		sim.connect(node(number));
	}
	sim
}

fn patient(sim: &Sim) -> Value {
	let mut params = sim.order_params();
	params["required_channel_confirmations"] = 1.into();
	params
}

/// What follows when this client has ordered so, and paid.
fn paid(sim: &mut Sim, number: u8, params: Value) -> (Order, Vec<Action>) {
	let (order, _) = sim.order(node(number), params);
	let actions = sim.hold(&order, order.order_total);
	(sim.now_order(&order), actions)
}

fn waits(sim: &mut Sim, number: u8) -> Order {
	let params = patient(sim);
	let (order, actions) = paid(sim, number, params);
	assert_eq!(actions, []);
	assert!(order.waits_until().is_some() && order.reserved > Sat::ZERO);
	order
}

fn together(actions: &[Action]) -> Option<(u128, Vec<OpenChannel>)> {
	let mut found = actions.iter().filter_map(|action| match action {
		Action::OpenTogether { batch, channels } => Some((*batch, channels.clone())),
		_ => None,
	});
	let first = found.next();
	assert!(found.next().is_none(), "{actions:?}");
	first
}

/// Three that are being opened together.
fn begun() -> (Sim, Vec<Order>, u128) {
	let mut sim = waiting(3);
	let orders: Vec<Order> = (1..=3).map(|number| waits(&mut sim, number)).collect();
	sim.pass(WINDOW);
	let (batch, channels) = together(&sim.tick()).unwrap();
	assert_eq!(channels.len(), 3);
	let orders = orders.iter().map(|order| sim.now_order(order)).collect();
	(sim, orders, batch)
}

fn ids(orders: &[Order]) -> Vec<u128> {
	orders.iter().map(|order| order.user_channel_id).collect()
}

#[test]
fn orders_that_can_wait_are_opened_together_when_the_window_of_the_first_is_over() {
	let mut sim = waiting(3);
	let first = waits(&mut sim, 1);
	sim.pass(200);
	let second = waits(&mut sim, 2);
	assert_eq!(second.waits_until(), first.waits_until(), "nobody waits longer for those who come later");
	assert_eq!(sim.tick(), []);
	assert_eq!(sim.connect(node(1)), [], "told again");
	sim.restart();
	(1..=3).for_each(|number| assert_eq!(sim.connect(node(number)), []));
	sim.pass(1);
	let third = waits(&mut sim, 3);
	sim.pass(99);
	assert!(sim.book.next_deadline().unwrap() <= sim.now);
	let actions = sim.tick();
	let (batch, channels) = together(&actions).unwrap();
	assert_eq!(actions.len(), 1);
	for (order, open) in [first, second, third].iter().zip(&channels) {
		let order = sim.now_order(order);
		assert_eq!((open.user_channel_id, open.peer), (order.user_channel_id, order.client));
		assert_eq!((open.batch, open.withhold, open.capacity), (Some(batch), false, order.capacity()));
		assert!(matches!(order.state, OrderState::Opening { .. }) && order.waits_until().is_none());
		// A replay says that it is one of several.
		assert_eq!(opened(&sim.connect(order.client)).as_ref(), Some(open));
	}
	assert_eq!(sim.tick(), [], "once");
}

#[test]
fn the_highest_feerate_of_those_who_wait_is_theirs_and_who_has_not_paid_for_it_is_opened_alone() {
	let mut sim = waiting(3);
	(sim.feerate, sim.market.by_blocks) = (Some(FeePerKw(12_000)), vec![(1_000, FeePerKw(300))]);
	let mut order = |number: u8, blocks: u32| {
		let mut params = patient(&sim);
		params["funding_confirms_within_blocks"] = blocks.into();
		paid(&mut sim, number, params).0
	};
	let orders = [order(1, 6), order(2, 6), order(3, 1_000)];
	let cheap = &orders[2];
	sim.pass(WINDOW);
	let (_, channels) = together(&sim.tick()).unwrap();
	assert_eq!(channels.iter().map(|open| open.feerate).collect::<Vec<_>>(), [FeePerKw(12_000); 2]);
	assert_eq!(sim.now_order(cheap).batch.as_deref(), Some(&Batch::Alone));
	let alone = opened(&sim.connect(cheap.client)).unwrap();
	assert_eq!((alone.feerate, alone.batch), (FeePerKw(300), None));
}

#[test]
fn what_cannot_wait_does_not() {
	let at_once = |sim: &mut Sim, number: u8, params: Value| {
		let (_, actions) = paid(sim, number, params);
		opened(&actions).is_some_and(|open| open.batch.is_none())
	};
	let mut sim = waiting(3);
	let params = sim.order_params();
	assert!(at_once(&mut sim, 1, params), "it is to be usable at once");
	sim.lsp.policy.lsps1.batch_window_secs = 0;
	let params = patient(&sim);
	assert!(at_once(&mut sim, 2, params), "it is off");
	sim.lsp.policy.lsps1.batch_window_secs = WINDOW;
	waits(&mut sim, 1);
	let params = patient(&sim);
	assert!(at_once(&mut sim, 1, params), "one for each client");
	sim.lsp.policy.lsps1.open_window_secs = WINDOW + TOGETHER_SECS - 1;
	let params = patient(&sim);
	assert!(at_once(&mut sim, 3, params), "no time would be left to open it alone");
	sim.lsp.policy.lsps1.open_window_secs += 1;
	waits(&mut sim, 3);

	let mut sim = waiting(1);
	let params = patient(&sim);
	let (order, _) = sim.order(node(1), params);
	let payment_hash = order.lightning.as_ref().unwrap().payment_hash;
	let (amount, claim_deadline) = (order.order_total.to_msat().unwrap(), Some(sim.height + 25));
	let actions = sim.give(Input::PaymentHeld { payment_hash, amount, claim_deadline });
	assert!(opened(&actions).is_some(), "the payment could go back meanwhile");

	let mut sim = waiting(1);
	sim.lsp.policy.lsps1.splice = true;
	let growable = Growable {
		channel_id: channel_id(5),
		user_channel_id: 5,
		capacity: Sat(400_000),
		in_flight: Msat(u64::MAX),
		public: false,
	};
	sim.peers.get_mut(&node(1)).unwrap().growable.push(growable);
	let mut params = patient(&sim);
	params["client_balance_sat"] = "0".into();
	let (_, actions) = paid(&mut sim, 1, params);
	assert!(matches!(&actions[..], [Action::SpliceIn(_)]), "{actions:?}");
}

#[test]
fn who_waited_for_nobody_and_who_is_away_when_the_window_ends_are_opened_alone() {
	let mut sim = waiting(3);
	let orders: Vec<Order> = (1..=3).map(|number| waits(&mut sim, number)).collect();
	sim.disconnect(node(1));
	sim.disconnect(node(2));
	sim.pass(WINDOW);
	assert_eq!(sim.tick(), []);
	for order in &orders {
		let open = opened(&sim.connect(order.client)).unwrap();
		assert_eq!((open.batch, open.user_channel_id), (None, order.user_channel_id));
	}
}

#[test]
fn a_full_batch_does_not_wait() {
	let mut sim = waiting(u8::try_from(MAX_TOGETHER).unwrap() + 1);
	for number in 1..=MAX_TOGETHER {
		sim.pass(1);
		assert_eq!(sim.tick(), []);
		waits(&mut sim, u8::try_from(number).unwrap());
	}
	let (_, channels) = together(&sim.tick()).unwrap();
	assert_eq!(channels.len(), MAX_TOGETHER);
}

#[test]
fn coins_are_there_for_each_of_them() {
	let mut sim = waiting(3);
	let orders: Vec<Order> = (1..=3).map(|number| waits(&mut sim, number)).collect();
	// Less than they have reserved: somebody took coins out.
	let all = std::mem::replace(&mut sim.spendable, Sat(1_100_000));
	sim.pass(WINDOW);
	assert_eq!(sim.tick(), []);
	assert!(sim.book.reserved() >= Sat(3 * 520_000), "what is sold stays reserved");
	assert_eq!(sim.connect(node(1)), []);
	sim.spendable = all;
	for order in &orders {
		assert_eq!(opened(&sim.connect(order.client)).unwrap().batch, None);
	}
}

#[test]
fn who_fails_together_is_opened_alone_and_refusals_are_refusals() {
	let (mut sim, orders, _) = begun();
	let fail = |sim: &mut Sim, order: &Order, ours: bool| {
		let (user_channel_id, reason) = (order.user_channel_id, "another went away".to_owned());
		sim.give(Input::OpenFailed { user_channel_id, reason, ours })
	};
	fail(&mut sim, &orders[0], false);
	assert!(matches!(sim.now_order(&orders[0]).state, OrderState::Failed { .. }), "it is here, and refuses");
	for order in &orders[1..] {
		assert_eq!(fail(&mut sim, order, true), []);
		assert_eq!(fail(&mut sim, order, true), [], "told again");
		let now = sim.now_order(order);
		assert!(now.batch.as_deref() == Some(&Batch::Alone) && now.user_channel_id != order.user_channel_id);
	}
	sim.restart();
	for order in &orders[1..] {
		sim.pass(10);
		let open = opened(&sim.connect(order.client)).unwrap();
		assert_eq!(open.batch, None);
		sim.funded(open.user_channel_id);
		assert!(matches!(sim.now_order(order).state, OrderState::Funded { .. }));
	}
}

#[test]
fn the_node_is_told_when_time_is_up_and_again() {
	let (mut sim, orders, batch) = begun();
	sim.pass(59);
	assert_eq!(sim.tick(), []);
	for _again in 0..3 {
		sim.pass(60);
		assert!(sim.book.next_deadline().unwrap() <= sim.now);
		assert_eq!(sim.tick(), [Action::HurryTogether { batch }], "once for all");
	}
	for order in &orders {
		sim.funded(order.user_channel_id);
	}
	sim.pass(600);
	let hurried = |action: &Action| matches!(action, Action::HurryTogether { .. });
	assert!(!sim.tick().iter().any(hurried));
}

#[test]
fn a_transaction_goes_out_only_if_each_of_its_channels_is_still_wanted() {
	let funding = txid(TX);
	let all_signed = |sim: &mut Sim, channels: Vec<u128>| sim.give(Input::AllSigned { funding, channels });
	let (out, not) = (Action::BroadcastShared { funding }, Action::DiscardShared { funding });
	let (mut sim, orders, _) = begun();
	assert_eq!(all_signed(&mut sim, ids(&orders)), std::slice::from_ref(&out));
	assert_eq!(all_signed(&mut sim, ids(&orders)), [out], "told again");
	assert_eq!(all_signed(&mut sim, Vec::new()), std::slice::from_ref(&not));
	assert_eq!(all_signed(&mut sim, vec![1, 2]), std::slice::from_ref(&not), "of nobody");

	let (mut sim, orders, _) = begun();
	sim.give(Input::OpenFailed { user_channel_id: orders[1].user_channel_id, reason: "no".into(), ours: true });
	assert_eq!(all_signed(&mut sim, ids(&orders)), std::slice::from_ref(&not), "one goes on without them");

	let (mut sim, orders, _) = begun();
	sim.pass(sim.lsp.policy.lsps1.open_window_secs);
	sim.tick();
	assert!(matches!(sim.now_order(&orders[0]).state, OrderState::Abandoning { .. }));
	assert_eq!(all_signed(&mut sim, ids(&orders)), [not], "its money is going back");
}

#[test]
fn a_payment_that_is_gone_does_not_wait() {
	let mut sim = waiting(1);
	let params = patient(&sim);
	let (order, _) = sim.order(node(1), params);
	sim.onchain(&order, vec![output(1, order.order_total.0, 1, 1_000)]);
	assert!(sim.now_order(&order).waits_until().is_some());
	sim.onchain(&order, vec![]);
	let unpaid = sim.now_order(&order);
	assert_eq!((&unpaid.state, unpaid.batch), (&OrderState::AwaitingPayment, None));
	sim.pass(WINDOW);
	assert_eq!(sim.tick(), []);
	sim.onchain(&order, vec![output(1, order.order_total.0, 1, 1_000)]);
	assert!(sim.now_order(&order).waits_until().is_some_and(|until| until > sim.now), "it waits anew");
}

#[test]
fn the_window_is_short_enough() {
	let key = |change: fn(&mut Policy)| {
		let mut policy = Policy::default();
		change(&mut policy);
		policy.check().err().map(|error| error.key)
	};
	assert_eq!(key(|policy| policy.lsps1.batch_window_secs = 600), None);
	assert_eq!(key(|policy| policy.lsps1.batch_window_secs = 601), Some("lsps1.batch_window_secs"));
	let short = |policy: &mut Policy| (policy.lsps1.open_window_secs, policy.lsps1.batch_window_secs) = (660, 61);
	assert_eq!(key(short), Some("lsps1.batch_window_secs"));
	assert_eq!(key(|policy| policy.lsps1.open_window_secs = 60), None, "off is off");
}

/// Rows of before there were batches, and one of a batch, are read for ever.
#[test]
fn rows_of_orders_stay_readable() {
	let (sim, orders, batch) = begun();
	let row = serde_json::to_value(sim.now_order(&orders[0])).unwrap();
	assert_eq!(row["batch"]["id"], format!("{batch:032x}"));
	let mut old = row.clone();
	old.as_object_mut().unwrap().remove("batch");
	assert_eq!(serde_json::from_value::<Order>(old).unwrap().batch, None);
	let frozen = r#"[{"is":"waiting","until":1700000000000},{"is":"alone"},
		{"is":"together","id":"000000000000000000000000000000ff","until":1700000000000}]"#;
	let read: Vec<Batch> = serde_json::from_str(frozen).unwrap();
	let until = Timestamp(START);
	assert_eq!(read, [Batch::Waiting { until }, Batch::Alone, Batch::Together { id: 255, until }]);
}

/// LDK tells of a channel whose client has gone away before anybody else knows that it has.
#[test]
fn who_goes_away_has_refused_nothing() {
	for by_client in [false, true] {
		let mut sim = waiting(1);
		let params = sim.order_params();
		let (order, actions) = paid(&mut sim, 1, params);
		let user_channel_id = opened(&actions).unwrap().user_channel_id;
		sim.give(Input::ChannelClosed { user_channel_id, reason: "gone".into(), by_client });
		let failed = matches!(sim.now_order(&order).state, OrderState::Failed { .. });
		assert_eq!(failed, by_client);
		sim.pass(10);
		assert_eq!(opened(&sim.connect(node(1))).is_some(), !by_client);
	}
}
