//! Orders that share their funding, whatever happens in between: each is delivered once, or its money goes back; and what goes
//! out is wanted by all that it is for.

use crate::harness::*;
use bitcoin::OutPoint;
use inlet_lsp::book::{Order, OrderState};
use inlet_lsp::input::{Action, Input};
use inlet_lsp::money::Sat;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const CLIENTS: u8 = 4;

#[derive(Clone, Debug)]
enum Event {
	Pay {
		client: u8,
	},
	Connect {
		client: u8,
	},
	Disconnect {
		client: u8,
	},
	/// The client accepts, or signs, what it is asked to.
	Answer {
		client: u8,
	},
	/// It refuses.
	Refuse {
		client: u8,
	},
	/// The node gives a batch up by itself.
	GiveUp,
	/// All that is signed by all is told, if it was not yet.
	Tell,
	Pass {
		secs: u16,
	},
	Mine,
	Crash,
	/// In the middle of giving a batch up: so many have been told, and LDK's newest state is lost.
	CrashInTheMiddle {
		told: u8,
	},
}

fn event() -> impl Strategy<Value = Event> {
	let client = || 1..=CLIENTS;
	prop_oneof![
		4 => client().prop_map(|client| Event::Pay { client }),
		3 => client().prop_map(|client| Event::Connect { client }),
		1 => client().prop_map(|client| Event::Disconnect { client }),
		8 => client().prop_map(|client| Event::Answer { client }),
		1 => client().prop_map(|client| Event::Refuse { client }),
		1 => Just(Event::GiveUp),
		2 => Just(Event::Tell),
		3 => (0..400_u16).prop_map(|secs| Event::Pass { secs }),
		1 => Just(Event::Mine),
		1 => Just(Event::Crash),
		4 => (0..CLIENTS).prop_map(|told| Event::CrashInTheMiddle { told }),
	]
}

/// A channel as LDK has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
	Asked,
	Accepted,
	/// With a transaction of several (its number), which the peer has signed for or not.
	Made(u64, bool),
	/// By itself, and out.
	Out,
}

/// The node, as far as it matters here: LDK's channels, the wallet's rows, and what it has in memory.
struct Node {
	sim: Sim,
	orders: BTreeMap<u8, Order>,
	held: BTreeSet<[u8; 32]>,
	claimed: BTreeSet<[u8; 32]>,
	channels: BTreeMap<u128, Channel>,
	/// In memory: batches whose clients have not all accepted, or whose transaction is not out.
	batches: BTreeMap<u128, Vec<u128>>,
	/// On disk: transactions for several that are not out, and those that are.
	made: BTreeMap<u64, Vec<u128>>,
	out: BTreeMap<u64, Vec<u128>>,
	shared: usize,
}

impl Node {
	fn new() -> Node {
		let mut policy = plain();
		policy.lsps1.batch_window_secs = 300;
		let mut sim = Sim::with(policy);
		sim.spendable = Sat(100_000_000);
		let mut orders = BTreeMap::new();
		for client in 1..=CLIENTS {
			sim.connect(node(client));
			let mut params = sim.order_params();
			params["required_channel_confirmations"] = 1.into();
			orders.insert(client, sim.order(node(client), params).0);
		}
		let (held, claimed, channels) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
		let (batches, made, out) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
		Node { sim, orders, held, claimed, channels, batches, made, out, shared: 0 }
	}

	fn give(&mut self, input: Input) {
		for action in self.sim.give(input) {
			self.perform(action);
		}
	}

	fn is_out(&self, id: u128) -> bool {
		self.channels.get(&id) == Some(&Channel::Out) || self.out.values().flatten().any(|own| *own == id)
	}

	fn failed(&mut self, id: u128, ours: bool) {
		self.give(Input::OpenFailed { user_channel_id: id, reason: "no".into(), ours });
	}

	fn funded(&mut self, id: u128) {
		let shared = self.out.iter().find(|(_, ids)| ids.contains(&id)).map(|(number, _)| *number);
		let number = shared.unwrap_or_else(|| u64::try_from(id & 0xffff_ffff).unwrap() | 1 << 40);
		let (channel_id, funding) = (channel_id(id), OutPoint::new(txid(number), 0));
		let (fee, shared) = (Some(Sat(100)), shared.is_some());
		self.give(Input::Funded { user_channel_id: id, channel_id, funding, fee, shared });
	}

	fn perform(&mut self, action: Action) {
		match action {
			Action::OpenTogether { batch, channels } => {
				assert!(channels.len() > 1);
				let ids: Vec<u128> = channels.iter().map(|open| open.user_channel_id).collect();
				ids.iter().for_each(|id| assert_eq!(self.channels.insert(*id, Channel::Asked), None, "once"));
				self.batches.insert(batch, ids);
			}
			Action::OpenChannel(open) => {
				let id = open.user_channel_id;
				match self.channels.get(&id) {
					Some(_) if self.is_out(id) => self.funded(id),
					Some(_) => {}
					None if open.batch.is_some() => self.failed(id, true),
					None => self.channels.extend([(id, Channel::Asked)]),
				}
			}
			Action::HurryTogether { batch } => self.hurry(batch),
			Action::BroadcastShared { funding } => {
				let number = *self.made.keys().find(|number| txid(**number) == funding).unwrap();
				let ids = self.made.remove(&number).unwrap();
				for id in &ids {
					let order = self.sim.book.order_by_user_channel_id(*id).unwrap();
					assert_eq!(order.user_channel_id, *id, "it has gone on without this");
					assert!(matches!(order.state, OrderState::Opening { .. }), "{order:?}");
					assert_eq!(self.channels.get(id), Some(&Channel::Made(number, true)), "LDK has it, signed");
				}
				self.batches.retain(|_, own| *own != ids);
				self.shared += 1;
				self.out.insert(number, ids);
			}
			Action::DiscardShared { funding } => {
				let number = self.made.keys().find(|number| txid(**number) == funding).copied();
				number.into_iter().for_each(|number| self.dissolve(number));
			}
			Action::AbandonChannel { user_channel_id: id, .. } => {
				if self.is_out(id) {
					return self.funded(id);
				}
				match self.channels.get(&id).copied() {
					Some(Channel::Made(number, _)) => self.dissolve(number),
					_ => self.leave(id),
				}
				self.failed(id, true);
			}
			Action::ClaimPayment { payment_hash, .. } => {
				let order = self.sim.book.order_by_payment_hash(&payment_hash).unwrap();
				assert!(order.channel.as_ref().unwrap().funding.is_some());
				self.claimed.insert(payment_hash);
			}
			Action::FailPayment { payment_hash } => {
				assert!(!self.claimed.contains(&payment_hash));
				let order = self.sim.book.order_by_payment_hash(&payment_hash).unwrap().clone();
				let mut attempts = order.earlier_channel_ids.iter().chain([&order.user_channel_id]);
				assert!(!attempts.any(|id| self.is_out(*id)), "the client has a channel and its money back");
				self.held.remove(&payment_hash);
			}
			Action::Send { .. } => {}
			other => panic!("{other:?}"),
		}
	}

	/// A channel that is not funded ends; the others of its batch go on.
	fn leave(&mut self, id: u128) {
		self.channels.remove(&id);
		self.batches.values_mut().for_each(|ids| ids.retain(|own| *own != id));
		self.make();
	}

	/// Batches all of whose clients have accepted get their transaction.
	fn make(&mut self) {
		for ids in self.batches.values() {
			let all = ids.iter().all(|id| self.channels[id] == Channel::Accepted);
			if ids.len() > 1 && all {
				let number = self.sim.fresh();
				self.channels.extend(ids.iter().map(|id| (*id, Channel::Made(number, false))));
				self.made.insert(number, ids.clone());
			}
		}
		let left = self.batches.values().filter(|ids| ids.len() == 1).map(|ids| ids[0]);
		let left: Vec<u128> = left.filter(|id| self.channels[id] == Channel::Accepted).collect();
		for id in left {
			self.batches.retain(|_, ids| *ids != [id]);
			self.channels.insert(id, Channel::Out);
			self.funded(id);
		}
	}

	fn hurry(&mut self, batch: u128) {
		let Some(ids) = self.batches.get(&batch).cloned() else { return };
		let made = ids.iter().find_map(|id| match self.channels[id] {
			Channel::Made(number, _) => Some(number),
			_ => None,
		});
		match made {
			Some(number) => self.dissolve(number),
			None => {
				for id in ids {
					if self.channels.get(&id) == Some(&Channel::Asked) {
						self.leave(id);
						self.failed(id, true);
					}
				}
			}
		}
	}

	/// In the order of the node: memory, the book, LDK, the coins.
	fn dissolve(&mut self, number: u64) {
		let Some(ids) = self.made.get(&number).cloned() else { return };
		self.batches.retain(|_, own| *own != ids);
		ids.iter().for_each(|id| self.failed(*id, true));
		self.channels.retain(|id, _| !ids.contains(id));
		self.made.remove(&number);
	}

	fn tell(&mut self) {
		for (number, ids) in self.made.clone() {
			let signed = ids.iter().all(|id| self.channels.get(id) == Some(&Channel::Made(number, true)));
			if signed && self.made.contains_key(&number) {
				self.give(Input::AllSigned { funding: txid(number), channels: ids });
			}
		}
	}

	fn current(&self, client: u8) -> u128 {
		self.sim.now_order(&self.orders[&client]).user_channel_id
	}

	fn event(&mut self, event: Event) {
		match event {
			Event::Pay { client } => {
				let order = self.orders[&client].clone();
				let payment_hash = order.lightning.as_ref().unwrap().payment_hash;
				let unpaid = self.sim.now_order(&order).state == OrderState::AwaitingPayment;
				if unpaid && self.held.insert(payment_hash) {
					let amount = order.order_total.to_msat().unwrap();
					let claim_deadline = Some(self.sim.height + 100);
					self.give(Input::PaymentHeld { payment_hash, amount, claim_deadline });
				}
			}
			Event::Connect { client } => {
				self.sim.peers.get_mut(&node(client)).unwrap().connected = true;
				self.give(Input::Connected { peer: node(client) });
			}
			Event::Disconnect { client } => {
				self.sim.disconnect(node(client));
				let id = self.current(client);
				match self.channels.get(&id).copied() {
					Some(Channel::Asked | Channel::Accepted) => {
						self.leave(id);
						self.failed(id, false);
					}
					Some(Channel::Made(number, false)) => {
						self.failed(id, false);
						self.dissolve(number);
					}
					_ => {}
				}
			}
			Event::Answer { client } => {
				let id = self.current(client);
				let connected = self.sim.peers[&node(client)].connected;
				match self.channels.get(&id).copied().filter(|_| connected) {
					Some(Channel::Asked) if self.batches.values().flatten().any(|own| *own == id) => {
						self.channels.insert(id, Channel::Accepted);
						self.make();
					}
					Some(Channel::Asked) => {
						self.channels.insert(id, Channel::Out);
						self.funded(id);
					}
					Some(Channel::Made(number, false)) => {
						self.channels.insert(id, Channel::Made(number, true));
					}
					_ => {}
				}
			}
			Event::Refuse { client } => {
				let id = self.current(client);
				match self.channels.get(&id).copied() {
					Some(Channel::Asked | Channel::Accepted) => {
						self.leave(id);
						self.failed(id, false);
					}
					Some(Channel::Made(number, _)) if !self.is_out(id) => {
						self.failed(id, false);
						self.dissolve(number);
					}
					_ => {}
				}
			}
			Event::GiveUp => {
				let numbers: Vec<u64> = self.made.keys().copied().collect();
				numbers.into_iter().for_each(|number| self.dissolve(number));
			}
			Event::Tell => self.tell(),
			Event::Pass { secs } => {
				self.sim.pass(secs.into());
				self.give(Input::Tick);
			}
			Event::Mine => {
				self.sim.height += 1;
				self.give(Input::Tick);
			}
			Event::Crash => self.crash(),
			Event::CrashInTheMiddle { told } => {
				let ids = self.made.values().next().cloned().unwrap_or_default();
				ids.iter().take(told.into()).for_each(|id| self.failed(*id, true));
				self.crash();
			}
		}
	}

	/// What is signed survives, and what is out; the rest is forgotten.
	fn crash(&mut self) {
		self.sim.restart();
		self.batches.clear();
		self.channels.retain(|_, channel| matches!(channel, Channel::Made(_, true) | Channel::Out));
		self.give(Input::Started);
		for (number, ids) in self.made.clone() {
			let all = ids.iter().all(|id| self.channels.get(id) == Some(&Channel::Made(number, true)));
			match all {
				true => self.give(Input::AllSigned { funding: txid(number), channels: ids }),
				false => self.dissolve(number),
			}
		}
	}

	fn look(&mut self) {
		let ids: Vec<u128> = (1..=CLIENTS).map(|client| self.current(client)).collect();
		for id in ids.into_iter().filter(|id| self.is_out(*id)).collect::<Vec<_>>() {
			self.funded(id);
		}
	}

	fn come_to_rest(&mut self) {
		for _ in 0..40 {
			for _answer in 0..3 {
				for client in 1..=CLIENTS {
					self.event(Event::Connect { client });
					self.event(Event::Answer { client });
				}
			}
			self.tell();
			self.look();
			self.event(Event::Pass { secs: 300 });
			self.event(Event::Mine);
			for payment_hash in self.claimed.clone() {
				if self.held.remove(&payment_hash) {
					let order = self.sim.book.order_by_payment_hash(&payment_hash).unwrap().clone();
					self.sim.claimed(&order, order.order_total);
				}
			}
		}
	}
}

proptest! {
	#![proptest_config(ProptestConfig::with_cases(300))]

	#[test]
	fn r6_r12_orders_that_share_a_funding_are_each_delivered_once_or_paid_back(
		begun in 0..4_u8,
		events in proptest::collection::vec(event(), 1..80),
	) {
		let mut world = Node::new();
		// At random alone few come as far as what is worth trying: all asked, accepted, or signed.
		if begun > 0 {
			(1..=CLIENTS).for_each(|client| world.event(Event::Pay { client }));
			world.event(Event::Pass { secs: 300 });
			for _answer in 1..begun {
				(1..=CLIENTS).for_each(|client| world.event(Event::Answer { client }));
			}
		}
		for event in events {
			world.event(event);
		}
		world.come_to_rest();
		prop_assert!(world.held.is_empty(), "held for ever");
		prop_assert!(world.made.is_empty(), "coins are locked for nothing");
		prop_assert_eq!((world.sim.book.reserved(), world.sim.book.next_deadline()), (Sat::ZERO, None));
		for order in world.sim.book.orders() {
			prop_assert!(order.state.is_finished(), "{:#?}", order);
			let marks = order.earlier_channel_ids.iter().chain([&order.user_channel_id]);
			let out = marks.filter(|id| world.is_out(**id)).count();
			prop_assert_eq!(out, usize::from(order.state == OrderState::Completed), "{:#?}", order);
		}
	}
}

#[test]
fn orders_are_shared_when_nothing_goes_wrong() {
	let mut world = Node::new();
	(1..=CLIENTS).for_each(|client| world.event(Event::Pay { client }));
	world.come_to_rest();
	assert_eq!((world.shared, world.out.values().next().unwrap().len()), (1, usize::from(CLIENTS)));
}
