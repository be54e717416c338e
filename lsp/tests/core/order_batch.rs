//! Channels of several orders that one transaction funds: what the books say.

use crate::harness::*;
use bitcoin::OutPoint;
use inlet_lsp::book::{Account, EntryKind, Order, OrderState};
use inlet_lsp::input::{Action, Input};
use inlet_lsp::ledger::{Fact, NewChannel, Purpose, WalletTx, share_of};
use inlet_lsp::money::{Msat, Sat};

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
