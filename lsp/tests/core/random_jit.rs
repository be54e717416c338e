//! Whatever comes in whatever order, with crashes in between: every held HTLC is forwarded or failed in the end, the
//! client never loses more than the fee, and nothing stays reserved.

use crate::harness::*;
use inlet_lsp::book::{EntryKind, NodeId, Sale, SaleState};
use inlet_lsp::input::{Action, ChannelView, Hop, Input};
use inlet_lsp::money::{FeePerKw, Msat, Sat};
use inlet_lsp::policy::Trust;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Event {
	Buy {
		peer: u8,
		size: Option<u32>,
	},
	Htlc {
		sale: u8,
		payment: u8,
		amount: u32,
		blocks: u8,
	},
	/// To a channel that is there, whose peer is away.
	Sleeper {
		channel: u8,
		payment: u8,
		amount: u32,
		blocks: u8,
	},
	Gone {
		htlc: u8,
	},
	Funded {
		channel: u8,
	},
	Ready {
		channel: u8,
	},
	OpenFailed {
		channel: u8,
	},
	Closed {
		channel: u8,
	},
	Settle {
		flight: u8,
	},
	FailFlight {
		flight: u8,
	},
	Connect {
		peer: u8,
	},
	Disconnect {
		peer: u8,
	},
	Pass {
		secs: u16,
	},
	Block,
	Fees {
		feerate: u16,
	},
	Replay,
	/// Every channel gets as far as it can.
	Progress,
	/// A sale, its payment and its channel, up to where parts are forwarded.
	Whole {
		payment: u8,
	},
	Crash {
		lose_actions: bool,
	},
}

fn event() -> impl Strategy<Value = Event> {
	let sale = || 0..4_u8;
	prop_oneof![
		2 => (1..3_u8, proptest::option::weighted(0.7, 5_000_000..60_000_000_u32)).prop_map(|(peer, size)| Event::Buy { peer, size }),
		8 => (sale(), 0..3_u8, prop_oneof![1..100_000_000_u32, Just(30_000_000), Just(5_000_000)], 30..90_u8)
			.prop_map(|(sale, payment, amount, blocks)| Event::Htlc { sale, payment, amount, blocks }),
		4 => (any::<u8>(), 0..3_u8, 1..100_000_000_u32, 30..90_u8)
			.prop_map(|(channel, payment, amount, blocks)| Event::Sleeper { channel, payment, amount, blocks }),
		1 => any::<u8>().prop_map(|htlc| Event::Gone { htlc }),
		3 => any::<u8>().prop_map(|channel| Event::Funded { channel }),
		4 => any::<u8>().prop_map(|channel| Event::Ready { channel }),
		1 => any::<u8>().prop_map(|channel| Event::OpenFailed { channel }),
		1 => any::<u8>().prop_map(|channel| Event::Closed { channel }),
		4 => any::<u8>().prop_map(|flight| Event::Settle { flight }),
		1 => any::<u8>().prop_map(|flight| Event::FailFlight { flight }),
		3 => (1..3_u8).prop_map(|peer| Event::Connect { peer }),
		1 => (1..3_u8).prop_map(|peer| Event::Disconnect { peer }),
		2 => (0..120_u16).prop_map(|secs| Event::Pass { secs }),
		1 => Just(Event::Block),
		1 => (253..40_000_u16).prop_map(|feerate| Event::Fees { feerate }),
		2 => Just(Event::Replay),
		3 => Just(Event::Progress),
		3 => (0..3_u8).prop_map(|payment| Event::Whole { payment }),
		3 => any::<bool>().prop_map(|lose_actions| Event::Crash { lose_actions }),
	]
}

/// What LDK knows of an HTLC that it holds.
#[derive(Clone, Debug)]
struct Held {
	scid: u64,
	channel: Option<Hop>,
	payment: u8,
	amount: u64,
	expiry: u32,
}

#[derive(Clone, Debug)]
struct Channel {
	peer: NodeId,
	/// The client has signed; if it is withheld, the transaction is not out.
	funded: bool,
	ready: bool,
	closed: bool,
	withhold: bool,
	/// Withheld, and then broadcast.
	out: bool,
	/// Its coins are free.
	discarded: bool,
	/// A payment over it was taken.
	taken: bool,
}

struct Flight {
	peer: NodeId,
	channel: u128,
	payment: u8,
	skimmed: u64,
	reference: String,
}

/// The part of LDK that matters here.
struct Ldk {
	sim: Sim,
	sales: Vec<Sale>,
	held: BTreeMap<[u8; 32], Held>,
	/// How each HTLC ended: forwarded (true) or failed.
	ended: BTreeMap<[u8; 32], bool>,
	channels: BTreeMap<u128, Channel>,
	flights: Vec<Flight>,
	last: Option<Input>,
	next_htlc: u64,
	/// The next step that asks for something is committed, and the process dies before it is done.
	doomed: bool,
}

impl Ldk {
	fn new(trust: Trust) -> Ldk {
		let mut policy = trusting(trust);
		(policy.risk.max_offences, policy.risk.max_offences_per_client) = (1_000, 16);
		let mut sim = Sim::with(policy);
		sim.connect(node(1));
		let webhook = serde_json::json!({"app_name": "a", "webhook": "https://a.example"});
		sim.ask(node(1), "lsps5.set_webhook", webhook);
		Ldk {
			sim,
			sales: Vec::new(),
			held: BTreeMap::new(),
			ended: BTreeMap::new(),
			channels: BTreeMap::new(),
			flights: Vec::new(),
			last: None,
			next_htlc: 0,
			doomed: false,
		}
	}

	/// The views of the peers follow LDK's channels.
	fn refresh(&mut self) {
		for number in 1..3 {
			let peer = node(number);
			let view = self.sim.peers.entry(peer).or_default();
			let connected = view.connected;
			let flights = self.flights.iter().filter(|flight| flight.peer == peer);
			view.in_flight = flights.map(|flight| hash(flight.payment)).collect();
			let own = self.channels.iter().filter(|(_, channel)| channel.peer == peer && !channel.closed);
			view.channels = own
				.map(|(id, channel)| ChannelView {
					channel_id: channel_id(*id),
					user_channel_id: *id,
					usable: connected && channel.ready,
					next_outbound_htlc_limit: Msat(u64::MAX),
					next_outbound_htlc_minimum: Msat(1),
				})
				.collect();
		}
	}

	fn give(&mut self, input: Input) {
		self.refresh();
		self.last = Some(input.clone());
		let actions = self.sim.give(input);
		if self.doomed && !actions.is_empty() {
			self.doomed = false;
			return self.crash();
		}
		self.perform(actions);
	}

	fn perform(&mut self, actions: Vec<Action>) {
		for action in actions {
			self.refresh();
			match action {
				Action::OpenChannel(open) => {
					let channel = Channel {
						peer: open.peer,
						funded: false,
						ready: false,
						closed: false,
						withhold: open.withhold,
						out: false,
						discarded: false,
						taken: false,
					};
					self.channels.entry(open.user_channel_id).or_insert(channel);
				}
				Action::AbandonChannel { user_channel_id, .. } => {
					let is_out = |channel: &Channel| channel.funded && (!channel.withhold || channel.out);
					let found = self.channels.get_mut(&user_channel_id);
					if let Some(channel) = found.filter(|channel| !is_out(channel) && !channel.closed) {
						channel.closed = true;
						self.give(Input::ChannelClosed {
							user_channel_id,
							reason: "abandoned".into(),
							by_client: true,
						});
					}
				}
				Action::BroadcastFunding { user_channel_id, .. } => self.broadcast(user_channel_id),
				Action::DiscardFunding { user_channel_id, .. } => self.discard(user_channel_id),
				Action::FailHtlc { intercept_id, .. } => {
					let was_held = self.held.remove(&intercept_id).is_some();
					assert!(!was_held || self.ended.insert(intercept_id, false).is_none(), "an HTLC ends once");
				}
				Action::ForwardHtlc { intercept_id, peer, channel_id: id, amount } => {
					self.forward(intercept_id, peer, id, amount);
				}
				_ => {}
			}
		}
	}

	fn broadcast(&mut self, id: u128) {
		let channel = self.channels.get_mut(&id).unwrap();
		assert!(channel.withhold && channel.funded && !channel.discarded, "there is a transaction to broadcast");
		assert!(channel.taken, "nothing is broadcast before the payment is taken");
		channel.out = true;
		let input = self.funding(id);
		self.give(input);
	}

	fn discard(&mut self, id: u128) {
		let channel = self.channels.get_mut(&id).unwrap();
		assert!(channel.withhold && !channel.out && !channel.taken, "what was taken is not discarded");
		if channel.closed {
			channel.discarded = true;
			self.give(Input::FundingDiscarded { user_channel_id: id });
		} else {
			channel.closed = true;
			self.give(Input::ChannelClosed { user_channel_id: id, reason: "not paid for".into(), by_client: true });
		}
	}

	fn forward(&mut self, intercept_id: [u8; 32], peer: NodeId, id: [u8; 32], amount: Msat) {
		let Some(htlc) = self.held.remove(&intercept_id) else { return };
		assert!(amount.0 > 0 && amount.0 <= htlc.amount);
		let (user_channel_id, channel) = self.channels.iter().find(|(known, _)| channel_id(**known) == id).unwrap();
		assert!(channel.ready && !channel.closed && channel.peer == peer, "forwarded over a usable channel");
		assert_eq!(self.ended.insert(intercept_id, true), None, "an HTLC ends once");
		self.flights.push(Flight {
			peer,
			channel: *user_channel_id,
			payment: htlc.payment,
			skimmed: htlc.amount - amount.0,
			reference: format!("{intercept_id:02x?}"),
		});
	}

	fn channel(&self, number: u8) -> Option<u128> {
		self.channels.keys().nth(usize::from(number) % self.channels.len().max(1)).copied()
	}

	fn event(&mut self, event: Event) {
		match event {
			Event::Buy { peer, size } => self.buy(node(peer), size),
			Event::Htlc { sale, payment, amount, blocks } => {
				let Some(sale) = self.sales.get(usize::from(sale)) else { return };
				let expiry = self.sim.height + u32::from(blocks);
				self.hold(Held { scid: sale.scid, channel: None, payment, amount: amount.into(), expiry });
			}
			Event::Sleeper { channel, payment, amount, blocks } => {
				let Some(id) = self.channel(channel) else { return };
				let found = &self.channels[&id];
				if found.ready && !found.closed && !self.sim.peers[&found.peer].connected {
					let channel = Some(Hop { peer: found.peer, channel_id: channel_id(id) });
					let expiry = self.sim.height + u32::from(blocks);
					self.hold(Held { scid: 7, channel, payment, amount: amount.into(), expiry });
				}
			}
			Event::Gone { htlc } => {
				let Some(id) = self.held.keys().nth(usize::from(htlc) % self.held.len().max(1)).copied() else {
					return;
				};
				self.held.remove(&id);
				self.give(Input::HtlcGone { intercept_id: id });
			}
			Event::Funded { channel } => {
				let Some(id) = self.channel(channel) else { return };
				let found = self.channels.get_mut(&id).unwrap();
				if !found.closed {
					found.funded = true;
					let input = self.funding(id);
					self.give(input);
				}
			}
			Event::Ready { channel } => {
				let Some(id) = self.channel(channel) else { return };
				let found = self.channels.get_mut(&id).unwrap();
				let connected = self.sim.peers[&found.peer].connected;
				if found.funded && !found.closed && connected {
					found.ready = true;
					self.give(Input::ChannelReady { user_channel_id: id, channel_id: channel_id(id) });
				}
			}
			Event::OpenFailed { channel } => {
				let Some(id) = self.channel(channel) else { return };
				let found = self.channels.get_mut(&id).unwrap();
				if !found.funded && !found.closed {
					found.closed = true;
					self.give(Input::OpenFailed { user_channel_id: id, reason: "no".into(), ours: false });
				}
			}
			Event::Closed { channel } => {
				let Some(id) = self.channel(channel) else { return };
				self.channels.get_mut(&id).unwrap().closed = true;
				self.give(Input::ChannelClosed { user_channel_id: id, reason: "closed".into(), by_client: true });
			}
			Event::Settle { flight } => {
				if let Some(flight) = self.take_flight(flight) {
					let channel = self.channels.get_mut(&flight.channel).unwrap();
					if channel.discarded {
						// LDK learns no preimage from a channel that is closed.
						let channel_id = channel_id(flight.channel);
						return self.give(Input::ForwardFailed { peer: flight.peer, channel_id, by_client: true });
					}
					channel.taken = true;
					self.give(Input::Forwarded {
						next_peer: Some(flight.peer),
						next_channel: Some(channel_id(flight.channel)),
						total_fee: Msat(flight.skimmed),
						skimmed: Msat(flight.skimmed),
						intercept_id: None,
						reference: flight.reference,
						came: Vec::new(),
						went: Vec::new(),
					});
				}
			}
			Event::FailFlight { flight } => {
				if let Some(flight) = self.take_flight(flight) {
					self.give(Input::ForwardFailed {
						peer: flight.peer,
						channel_id: channel_id(flight.channel),
						by_client: true,
					});
				}
			}
			Event::Connect { peer } => self.connect(node(peer)),
			Event::Disconnect { peer } => {
				self.sim.disconnect(node(peer));
				// LDK drops a channel that is not funded when its peer goes.
				let lost: Vec<u128> = self
					.channels
					.iter()
					.filter(|(_, channel)| channel.peer == node(peer) && !channel.funded && !channel.closed)
					.map(|(id, _)| *id)
					.collect();
				for id in lost {
					// A crash on the way may have taken it already.
					if let Some(channel) = self.channels.get_mut(&id) {
						channel.closed = true;
						self.give(Input::ChannelClosed {
							user_channel_id: id,
							reason: "disconnected".into(),
							by_client: true,
						});
					}
				}
			}
			Event::Pass { secs } => {
				self.sim.pass(secs.into());
				self.give(Input::Tick);
			}
			Event::Block => {
				self.sim.height += 1;
				self.give(Input::Tick);
			}
			Event::Fees { feerate } => self.sim.feerate = Some(FeePerKw(feerate.into())),
			Event::Replay => {
				if let Some(input) = self.last.clone() {
					self.give(input);
				}
			}
			Event::Progress => {
				for number in 0..u8::try_from(self.channels.len()).unwrap() {
					self.event(Event::Funded { channel: number });
					self.event(Event::Ready { channel: number });
				}
			}
			Event::Whole { payment } => {
				self.event(Event::Connect { peer: 1 });
				self.buy(node(1), Some(30_000_000));
				let sale = u8::try_from(self.sales.len().saturating_sub(1)).unwrap();
				for _ in 0..2 {
					self.event(Event::Htlc { sale, payment, amount: 15_000_000, blocks: 80 });
				}
				self.event(Event::Progress);
			}
			Event::Crash { lose_actions: true } => self.doomed = true,
			Event::Crash { lose_actions: false } => self.crash(),
		}
	}

	fn hold(&mut self, htlc: Held) {
		self.next_htlc += 1;
		let mut id = [0; 32];
		id[..8].copy_from_slice(&self.next_htlc.to_be_bytes());
		self.held.insert(id, htlc);
		self.intercept(id);
	}

	fn buy(&mut self, peer: NodeId, size: Option<u32>) {
		let menu = self.sim.menu(peer);
		if self.sales.len() >= 4 || menu[0].is_null() {
			return;
		}
		let mut params = serde_json::json!({"opening_fee_params": menu[0]});
		if let Some(size) = size {
			params["payment_size_msat"] = size.to_string().into();
		}
		let answer = self.sim.ask(peer, "lsps2.buy", params);
		if let Some(scid) = answer["result"]["jit_channel_scid"].as_str() {
			let is_it = |sale: &&Sale| inlet_lsp::protocol::lsps2::scid_text(sale.scid) == scid;
			self.sales.push(self.sim.book.sales().find(is_it).unwrap().clone());
		}
	}

	fn take_flight(&mut self, number: u8) -> Option<Flight> {
		let index = usize::from(number).checked_rem(self.flights.len())?;
		Some(self.flights.remove(index))
	}

	fn funding(&self, id: u128) -> Input {
		let number = u64::try_from(id >> 64).unwrap();
		let funding = bitcoin::OutPoint::new(txid(number), 0);
		if self.channels[&id].withhold && !self.channels[&id].out {
			return Input::FundingWithheld { user_channel_id: id, channel_id: channel_id(id), funding };
		}
		Input::Funded { user_channel_id: id, channel_id: channel_id(id), funding, fee: Some(Sat(850)), shared: false }
	}

	fn intercept(&mut self, id: [u8; 32]) {
		let htlc = self.held[&id].clone();
		self.give(Input::HtlcIntercepted {
			intercept_id: id,
			scid: htlc.scid,
			payment_hash: hash(htlc.payment),
			inbound: Msat(htlc.amount),
			expected_outbound: Msat(htlc.amount),
			expiry_height: Some(htlc.expiry),
			channel: htlc.channel,
		});
	}

	fn connect(&mut self, peer: NodeId) {
		self.sim.peers.entry(peer).or_default().connected = true;
		self.give(Input::Connected { peer });
	}

	/// The process dies and comes back.
	fn crash(&mut self) {
		self.sim.restart();
		for channel in self.channels.values_mut().filter(|channel| !channel.funded) {
			channel.closed = true;
		}
		let gone: Vec<u128> = self.channels.iter().filter(|(_, one)| !one.funded).map(|(id, _)| *id).collect();
		self.channels.retain(|id, _| !gone.contains(id));
		self.give(Input::Started);
		// What LDK does not hold any more, and what it does.
		let booked: Vec<[u8; 32]> =
			self.sim.book.held_htlcs().into_iter().filter(|id| !self.held.contains_key(id)).collect();
		for intercept_id in booked {
			self.give(Input::HtlcGone { intercept_id });
		}
		for id in
			self.channels.iter().filter(|(_, one)| one.funded && !one.closed).map(|(id, _)| *id).collect::<Vec<_>>()
		{
			let input = self.funding(id);
			self.give(input);
		}
		for id in self.held.keys().copied().collect::<Vec<_>>() {
			if self.held.contains_key(&id) {
				self.intercept(id);
			}
		}
	}

	/// Nobody does anything any more; only time passes.
	fn come_to_rest(&mut self) {
		self.doomed = false;
		for _ in 0..40 {
			self.sim.pass(60);
			self.give(Input::Tick);
		}
		// Every payment that is still on its way times out, and what can be freed is.
		self.sim.height += 200;
		for _ in 0..5 {
			self.sim.pass(60);
			self.give(Input::Tick);
		}
	}
}

fn trusts() -> impl Strategy<Value = Trust> {
	prop_oneof![Just(Trust::Everyone), Just(Trust::Nobody), Just(Trust::Known)]
}

proptest! {
	#![proptest_config(ProptestConfig::with_cases(600))]

	#[test]
	fn r1_r2_r3_every_held_htlc_ends_and_nothing_stays_reserved_or_locked(
		events in proptest::collection::vec(event(), 1..80),
		trust in trusts(),
	) {
		let mut ldk = Ldk::new(trust);
		for event in events {
			ldk.event(event);
			let held: BTreeSet<[u8; 32]> = ldk.held.keys().copied().collect();
			let waiting = ldk.sim.book.next_deadline().is_some();
			prop_assert!(held.is_empty() || waiting, "what is held has a deadline");
		}
		ldk.come_to_rest();
		prop_assert!(ldk.held.is_empty(), "held for ever: {:?} {:#?}", ldk.held, ldk.sim.book.sales().collect::<Vec<_>>());
		prop_assert_eq!(ldk.sim.book.reserved(), Sat(0));
		prop_assert_eq!(ldk.sim.book.next_deadline(), None);
		prop_assert!(ldk.sim.book.withheld_fundings().is_empty(), "{:#?}", ldk.sim.book.sales().collect::<Vec<_>>());
		for channel in ldk.channels.values().filter(|channel| channel.withhold && channel.funded) {
			prop_assert_eq!(channel.out, channel.taken, "{:?}", channel);
		}
		let mut earned = 0;
		for sale in ldk.sim.book.sales() {
			let done = sale.state == SaleState::Done;
			prop_assert!(sale.parts.is_empty());
			prop_assert!(ldk.sim.book.held_htlcs().is_empty());
			prop_assert!(!done || Some(sale.fee_credited) >= sale.fee);
			earned += if done { sale.fee_credited.0 } else { 0 };
		}
		prop_assert!(ldk.sim.earned(EntryKind::JitFee) >= i64::try_from(earned).unwrap());
		let done = ldk.sim.book.sales().filter(|sale| sale.state == SaleState::Done).count();
		let counted: u32 = ldk.sim.book.clients().map(|client| client.sales_done).sum();
		prop_assert_eq!(done, usize::try_from(counted).unwrap());
	}

	#[test]
	fn money_skimmed_is_money_booked(events in proptest::collection::vec(event(), 1..60), trust in trusts()) {
		let mut ldk = Ldk::new(trust);
		let mut skimmed = 0;
		for event in events {
			if let Event::Settle { flight } = &event
				&& let Some(index) = usize::from(*flight).checked_rem(ldk.flights.len())
				&& !ldk.channels[&ldk.flights[index].channel].discarded
			{
				skimmed += ldk.flights[index].skimmed;
			}
			ldk.event(event);
		}
		let credited: u64 = ldk.sim.book.sales().filter(|sale| sale.state != SaleState::Done).map(|sale| sale.fee_credited.0).sum();
		let booked = ldk.sim.earned(EntryKind::JitFee) + ldk.sim.earned(EntryKind::RoutingFee);
		prop_assert_eq!(booked + i64::try_from(credited).unwrap(), i64::try_from(skimmed).unwrap());
	}

	#[test]
	fn a_step_taken_twice_is_a_step_taken_once(events in proptest::collection::vec(event(), 1..50), trust in trusts()) {
		let mut ldk = Ldk::new(trust);
		for event in events {
			ldk.event(event);
			ldk.doomed = false;
			let Some(input) = ldk.last.clone() else { continue };
			if matches!(input, Input::HtlcIntercepted { intercept_id, .. } if !ldk.held.contains_key(&intercept_id)) {
				continue;
			}
			ldk.refresh();
			ldk.sim.give(input.clone());
			let again = ldk.sim.look(input);
			prop_assert!(again.writes.is_empty(), "{:#?}", again);
		}
	}
}
