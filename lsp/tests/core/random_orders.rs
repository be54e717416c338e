//! Orders in whatever order things come: the money is taken for a channel or goes back, once.

use crate::harness::*;
use inlet_lsp::book::{EntryKind, Order, OrderState, PaymentState};
use inlet_lsp::input::{Action, Growable, Input};
use inlet_lsp::money::{FeePerKw, Msat, Sat};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Event {
	Order {
		refund: bool,
	},
	Hold {
		order: u8,
		enough: bool,
	},
	Receive {
		order: u8,
		amount: u32,
	},
	Mine,
	Reorganise {
		order: u8,
	},
	/// The last payment to an order, if it is not confirmed, is taken back.
	DoubleSpend {
		order: u8,
	},
	Funded {
		channel: u8,
	},
	/// The funding goes out, and we are not told yet.
	FundedUnseen {
		channel: u8,
	},
	OpenFailed {
		channel: u8,
		ours: bool,
	},
	Closed {
		channel: u8,
	},
	Claimed {
		order: u8,
	},
	Refunded {
		order: u8,
	},
	Connect,
	Disconnect,
	Pass {
		secs: u16,
	},
	Fees {
		feerate: u16,
	},
	Crash,
}

fn event() -> impl Strategy<Value = Event> {
	let order = || 0..3_u8;
	prop_oneof![
		3 => any::<bool>().prop_map(|refund| Event::Order { refund }),
		4 => (order(), proptest::bool::weighted(0.8)).prop_map(|(order, enough)| Event::Hold { order, enough }),
		4 => (order(), prop_oneof![300..40_000_u32, Just(600_000)]).prop_map(|(order, amount)| Event::Receive { order, amount }),
		4 => Just(Event::Mine),
		1 => order().prop_map(|order| Event::Reorganise { order }),
		1 => order().prop_map(|order| Event::DoubleSpend { order }),
		4 => any::<u8>().prop_map(|channel| Event::Funded { channel }),
		2 => any::<u8>().prop_map(|channel| Event::FundedUnseen { channel }),
		1 => any::<(u8, bool)>().prop_map(|(channel, ours)| Event::OpenFailed { channel, ours }),
		1 => any::<u8>().prop_map(|channel| Event::Closed { channel }),
		4 => order().prop_map(|order| Event::Claimed { order }),
		3 => order().prop_map(|order| Event::Refunded { order }),
		3 => Just(Event::Connect),
		1 => Just(Event::Disconnect),
		2 => (0..2_000_u16).prop_map(|secs| Event::Pass { secs }),
		1 => (253..40_000_u16).prop_map(|feerate| Event::Fees { feerate }),
		2 => Just(Event::Crash),
	]
}

/// A refund as the wallet has it.
#[derive(Clone, Debug)]
struct Made {
	amount: Sat,
	from: Vec<bitcoin::OutPoint>,
	tx: u64,
	confirmations: u32,
	withdrawn: bool,
}

const GROWN: u128 = 1;

#[derive(Default)]
struct Node {
	sim: Option<Sim>,
	orders: Vec<Order>,
	/// Payments that LDK holds.
	held: BTreeMap<[u8; 32], Sat>,
	claimable: BTreeSet<[u8; 32]>,
	/// Is its funding out?
	channels: BTreeMap<u128, bool>,
	/// Those of them that are splices: of the client's channel [`GROWN`].
	splices: BTreeSet<u128>,
	onchain: BTreeMap<String, Vec<inlet_lsp::book::Received>>,
	refunds: BTreeMap<(String, u32), Made>,
	/// The payments that a refund is to give back, as last asked.
	asked: BTreeMap<(String, u32), Vec<bitcoin::OutPoint>>,
	/// Unconfirmed payments are served.
	trusting: bool,
	/// Orders are added to a channel that is there.
	splicing: bool,
	claimed: u64,
	outputs: u64,
}

impl Node {
	fn sim(&mut self) -> &mut Sim {
		let (trusting, splicing) = (self.trusting, self.splicing);
		self.sim.get_or_insert_with(|| {
			let mut policy = plain();
			policy.risk.patient_feerate_sat_per_vb = policy.risk.max_feerate_sat_per_vb;
			if trusting {
				policy.lsps1.max_unconfirmed_order_sat = Sat(1_000_000);
			}
			policy.lsps1.splice = splicing;
			let mut sim = Sim::with(policy);
			let (channel_id, in_flight) = (channel_id(GROWN), Msat(u64::MAX));
			let grown =
				Growable { channel_id, user_channel_id: GROWN, capacity: Sat(100_000), in_flight, public: false };
			sim.peers.entry(node(1)).or_default().growable.push(grown);
			sim
		})
	}

	fn give(&mut self, input: Input) {
		let actions = self.sim().give(input);
		self.perform(actions);
	}

	fn perform(&mut self, actions: Vec<Action>) {
		for action in actions {
			match action {
				Action::OpenChannel(open) => {
					self.channels.entry(open.user_channel_id).or_insert(false);
				}
				Action::SpliceIn(splice) => {
					assert!(self.splicing);
					self.splices.insert(splice.user_channel_id);
					self.channels.entry(splice.user_channel_id).or_insert(false);
				}
				Action::AbandonChannel { user_channel_id, .. } => {
					let answer = match self.channels.get(&user_channel_id) {
						None => Input::OpenFailed { user_channel_id, reason: "there is none".into(), ours: false },
						Some(true) => self.sim().funded_input(user_channel_id),
						Some(false) if self.splices.contains(&user_channel_id) => {
							self.channels.remove(&user_channel_id);
							Input::OpenFailed { user_channel_id, reason: "given up".into(), ours: true }
						}
						Some(false) => {
							self.channels.remove(&user_channel_id);
							Input::ChannelClosed { user_channel_id, reason: "abandoned".into(), by_client: true }
						}
					};
					self.give(answer);
				}
				Action::ClaimPayment { payment_hash, .. } => {
					let order = self.sim().book.order_by_payment_hash(&payment_hash).unwrap().clone();
					assert!(order.channel.unwrap().funding.is_some(), "never claimed before the funding is out");
					self.claimable.insert(payment_hash);
				}
				Action::FailPayment { payment_hash } => {
					assert!(!self.claimable.contains(&payment_hash), "not failed after it was claimed");
					let order = self.sim().book.order_by_payment_hash(&payment_hash).unwrap().clone();
					if matches!(order.state, OrderState::Failed { .. } | OrderState::Refunding { .. }) {
						let mut attempts = order.earlier_channel_ids.iter().chain([&order.user_channel_id]);
						let there = attempts.any(|id| self.channels.contains_key(id));
						assert!(!there, "the client has no channel and its money back");
					}
					self.held.remove(&payment_hash);
				}
				Action::Refund { order, number, address, from, .. } => {
					assert_eq!(address, REFUND_ADDRESS);
					self.asked.insert((order, number), from);
				}
				Action::BumpRefund { order, number, address } => {
					assert_eq!(address, REFUND_ADDRESS);
					self.bump(order, number);
				}
				Action::Send { .. } | Action::PreparePayment { .. } => {}
				other => panic!("{other:?}"),
			}
		}
	}

	/// Are these payments all there, with so many confirmations?
	fn there(&self, from: &[bitcoin::OutPoint], confirmations: u32) -> bool {
		let all: Vec<_> = self.onchain.values().flatten().filter(|o| o.confirmations >= confirmations).collect();
		from.iter().all(|point| all.iter().any(|output| output.outpoint == *point))
	}

	/// What the node does for a refund that was asked for, if the book still wants it.
	fn refund(&mut self, order: &Order) {
		let now = self.sim().now_order(order);
		let Some(onchain) = &now.onchain else { return };
		let key = (order.id.clone(), onchain.refunds);
		if let (Some(pending), Some(from)) = (now.pending_refund(), self.asked.get(&key).cloned())
			&& !self.refunds.contains_key(&key)
			&& self.there(&from, 1)
		{
			self.outputs += 1;
			let tx = 1_000 + self.outputs;
			let made = Made { amount: pending.amount, from, tx, confirmations: 0, withdrawn: false };
			self.refunds.insert(key.clone(), made);
		}
		let Some(made) = self.refunds.get(&key).filter(|made| !made.withdrawn).cloned() else { return };
		for _ in 0..2 {
			self.sim().refund_sent(order, key.1, made.tx, made.amount.0);
		}
	}

	fn bump(&mut self, order: String, number: u32) {
		let key = (order.clone(), number);
		let made = self.refunds[&key].clone();
		if !self.there(&made.from, 0) {
			self.refunds.get_mut(&key).unwrap().withdrawn = true;
			self.give(Input::RefundLost { order: order.clone(), number });
			return self.give(Input::RefundLost { order, number });
		}
		self.outputs += 1;
		let tx = 1_000 + self.outputs;
		self.refunds.get_mut(&key).unwrap().tx = tx;
		let order = self.sim().book.order(&order).unwrap().clone();
		self.give(refund_sent(&order, number, tx, made.amount.0));
	}

	/// Refunds are mined, if what they give back is.
	fn mine_refunds(&mut self) {
		for (key, made) in self.refunds.clone() {
			if made.withdrawn || !self.there(&made.from, 1) {
				continue;
			}
			self.refunds.get_mut(&key).unwrap().confirmations += 1;
			self.show_refund(&key);
		}
	}

	fn show_refund(&mut self, key: &(String, u32)) {
		let made = self.refunds[key].clone();
		self.give(Input::RefundSeen {
			order: key.0.clone(),
			txid: txid(made.tx),
			confirmations: made.confirmations.min(6),
		});
	}

	fn event(&mut self, event: Event) {
		let pick = |node: &Node, number: u8| node.orders.get(usize::from(number)).cloned();
		match event {
			Event::Order { refund } => {
				let usable = self.sim().feerate.is_some_and(|feerate| feerate.0 <= 25_000);
				if self.orders.len() >= 3 || !usable {
					return;
				}
				let mut params = self.sim().order_params();
				if self.splicing {
					params["client_balance_sat"] = "0".into();
					params["required_channel_confirmations"] = 1.into();
				}
				if !refund {
					params.as_object_mut().unwrap().remove("refund_onchain_address");
				}
				let order = self.sim().order(node(1), params).0;
				self.orders.push(order);
			}
			Event::Hold { order, enough } => {
				let Some(order) = pick(self, order) else { return };
				let payment_hash = order.lightning.unwrap().payment_hash;
				if self.claimable.contains(&payment_hash) {
					return;
				}
				let amount = if enough { order.order_total } else { Sat(1) };
				let amount = *self.held.entry(payment_hash).or_insert(amount);
				self.show(payment_hash, amount);
			}
			Event::Receive { order, amount } => {
				let Some(address) = pick(self, order).and_then(|order| order.onchain).map(|option| option.address)
				else {
					return;
				};
				self.outputs += 1;
				let new = output(self.outputs, amount.into(), 0, 500);
				self.onchain.entry(address).or_default().push(new);
				self.look();
			}
			Event::Mine => {
				self.sim().height += 1;
				self.onchain.values_mut().flatten().for_each(|output| output.confirmations += 1);
				self.look();
				self.mine_refunds();
				self.give(Input::Tick);
			}
			Event::Reorganise { order } => {
				let Some((id, onchain)) = pick(self, order).and_then(|order| Some((order.id, order.onchain?))) else {
					return;
				};
				// A payment is final with six confirmations.
				let outputs = self.onchain.entry(onchain.address).or_default();
				outputs
					.iter_mut()
					.filter(|output| output.confirmations < 6)
					.for_each(|output| output.confirmations = 0);
				self.look();
				let refunds: Vec<_> = self.refunds.keys().filter(|key| key.0 == id).cloned().collect();
				for key in refunds {
					let made = self.refunds.get_mut(&key).unwrap();
					if made.confirmations < 6 {
						made.confirmations = 0;
						self.show_refund(&key);
					}
				}
			}
			Event::DoubleSpend { order } => {
				let Some(onchain) = pick(self, order).and_then(|order| order.onchain) else { return };
				let outputs = self.onchain.entry(onchain.address).or_default();
				outputs.pop_if(|output| output.confirmations == 0);
				self.look();
			}
			Event::Funded { channel } => {
				let Some(id) = self.channel(channel) else { return };
				self.channels.insert(id, true);
				let input = self.sim().funded_input(id);
				self.give(input.clone());
				self.give(input);
			}
			Event::FundedUnseen { channel } => {
				let Some(id) = self.channel(channel) else { return };
				self.channels.insert(id, true);
			}
			Event::OpenFailed { channel, ours } => {
				let Some(id) = self.channel(channel).filter(|id| !self.channels[id]) else { return };
				self.channels.remove(&id);
				self.give(Input::OpenFailed { user_channel_id: id, reason: "no".into(), ours });
			}
			Event::Closed { channel } => {
				let Some(id) = self.channel(channel) else { return };
				if self.splices.contains(&id) && !self.channels[&id] {
					self.channels.remove(&id);
					return self.give(Input::OpenFailed { user_channel_id: id, reason: "closed".into(), ours: true });
				}
				if self.channels.remove(&id) == Some(true) {
					// LDK tells things in order.
					let input = self.sim().funded_input(id);
					self.give(input);
				}
				let closed = if self.splices.contains(&id) { GROWN } else { id };
				self.give(Input::ChannelClosed { user_channel_id: closed, reason: "closed".into(), by_client: true });
			}
			Event::Claimed { order } => {
				let Some(order) = pick(self, order) else { return };
				let payment_hash = order.lightning.unwrap().payment_hash;
				if self.claimable.contains(&payment_hash)
					&& let Some(amount) = self.held.remove(&payment_hash)
				{
					self.claimed += amount.0;
					let input =
						Input::PaymentClaimed { payment_hash, amount: amount.to_msat().unwrap(), over: Vec::new() };
					self.give(input.clone());
					self.give(input);
				}
			}
			Event::Refunded { order } => {
				if let Some(order) = pick(self, order) {
					self.refund(&order);
				}
			}
			Event::Connect => {
				self.sim().peers.entry(node(1)).or_default().connected = true;
				self.give(Input::Connected { peer: node(1) });
			}
			Event::Disconnect => self.sim().disconnect(node(1)),
			Event::Pass { secs } => {
				self.sim().pass(secs.into());
				self.give(Input::Tick);
			}
			Event::Fees { feerate } => self.sim().feerate = Some(FeePerKw(feerate.into())),
			Event::Crash => self.crash(),
		}
	}

	fn channel(&self, number: u8) -> Option<u128> {
		self.channels.keys().nth(usize::from(number) % self.channels.len().max(1)).copied()
	}

	fn show(&mut self, payment_hash: [u8; 32], amount: Sat) {
		let claim_deadline = Some(self.sim().height + 50);
		self.give(Input::PaymentHeld { payment_hash, amount: amount.to_msat().unwrap(), claim_deadline });
	}

	fn look(&mut self) {
		for (address, received) in self.onchain.clone() {
			self.give(Input::AddressActivity { address, received });
		}
	}

	fn crash(&mut self) {
		self.sim().restart();
		self.channels.retain(|_, funded| *funded);
		self.give(Input::Started);
		for (payment_hash, amount) in self.held.clone() {
			self.show(payment_hash, amount);
		}
		self.look();
	}

	fn come_to_rest(&mut self) {
		self.event(Event::Fees { feerate: 1_000 });
		for _ in 0..60 {
			self.event(Event::Mine);
			for order in 0..3 {
				self.event(Event::Claimed { order });
				self.event(Event::Refunded { order });
			}
			self.event(Event::Pass { secs: 2_000 });
		}
	}
}

proptest! {
	#![proptest_config(ProptestConfig::with_cases(600))]

	#[test]
	fn l1_28_r5_r6_r19_the_money_is_taken_for_a_channel_or_goes_back(
		trusting in any::<bool>(),
		splicing in any::<bool>(),
		events in proptest::collection::vec(event(), 1..80),
	) {
		let mut world = Node { trusting, splicing, ..Node::default() };
		for event in events {
			world.event(event);
		}
		world.come_to_rest();
		prop_assert!(world.held.is_empty(), "held for ever");
		let sim = world.sim.as_ref().unwrap();
		// What is too little for a transaction is not ours all the same.
		let small: u64 = sim.book.orders().map(|order| order.owed_onchain().0).sum();
		prop_assert_eq!((sim.book.reserved(), sim.book.next_deadline()), (Sat(small), None));
		let mut taken = 0;
		for order in sim.book.orders() {
			prop_assert!(order.state.is_finished(), "{:#?}", order);
			let marks = order.earlier_channel_ids.iter().chain([&order.user_channel_id]);
			let out = marks.filter(|id| world.channels.get(id) == Some(&true)).count();
			prop_assert!(out <= 1, "delivered {} times: {:#?}", out, order);
			let received = order.received(0).0;
			let refunds = world.refunds.iter().filter(|((id, _), made)| *id == order.id && !made.withdrawn);
			let refunded: u64 = refunds.clone().map(|(_, made)| made.amount.0).sum();
			prop_assert_eq!(order.refunded().0, refunded, "the book knows every refund");
			prop_assert!(refunds.clone().all(|(_, made)| made.confirmations >= 6), "refunds are mined");
			let lost = order.onchain.as_ref().is_some_and(|onchain| onchain.lost);
			prop_assert_eq!(lost, order.kept().0 > received, "{:#?}", order);
			if order.refund_address.is_some() {
				let left = (received + u64::from(lost) * order.kept().0).saturating_sub(refunded + order.kept().0);
				prop_assert!(lost || left <= 330 + 850, "{} sat are stranded: {:#?}", left, order);
			}
			match order.state {
				OrderState::Completed => {
					prop_assert!(order.channel.as_ref().unwrap().funding.is_some());
					let by_lightning = order.lightning.as_ref().unwrap().state == PaymentState::Paid;
					if !by_lightning && !lost {
						prop_assert!(received - refunded >= order.order_total.0);
					}
					taken += if lost { 0 } else { order.order_total.0 * 1000 };
				},
				_ => prop_assert!(order.lightning.as_ref().unwrap().state == PaymentState::Refunded),
			}
			prop_assert!(refunded <= received);
		}
		let earned = sim.earned(EntryKind::OrderFee);
		let paid = |order: &&Order| order.state == OrderState::Completed && !order.onchain.as_ref().is_some_and(|o| o.lost);
		let done: u64 = sim.book.orders().filter(|order| order.state == OrderState::Completed).map(|order| order.client_balance.0 * 1000).sum();
		let pushed: u64 = sim.book.orders().filter(paid).map(|order| order.client_balance.0 * 1000).sum();
		prop_assert_eq!(earned + i64::try_from(pushed).unwrap(), i64::try_from(taken).unwrap());
		let lost = i64::try_from(done - pushed).unwrap();
		prop_assert_eq!(sim.earned(EntryKind::ClientBalance), -lost, "what was pushed to those who did not pay");
	}
}
