//! Thirty days of business, simulated: `cargo business`.
//!
//! Clients arrive, buy channels just in time, are paid, pay, fall silent, go; some only waste our money; feerates go
//! from 1 to 300 sat/vB and back. The real core decides and keeps the books; what is simulated is everything around it.
//! The same days are lived again under other policies. What each policy made is read from the ledger, and what closing
//! the channels that are still open will cost is taken off.
//!
//! The feerates (`feerates.csv`) are a synthetic curve, not a recording: its first lines say how it was made.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::print_stdout)]

use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::{Network, OutPoint, Txid};
use inlet_lsp::book::{Book, EntryKind, NodeId, SaleState};
use inlet_lsp::capital::{self, Holding, Verdict};
use inlet_lsp::input::{Action, ChannelView, Input, OpenChannel, PeerView, World};
use inlet_lsp::ledger::{Fact, Flow, Purpose, WalletTx};
use inlet_lsp::market::Market;
use inlet_lsp::money::{FeePerKw, Msat, Ppm, Sat};
use inlet_lsp::policy::Trust;
use inlet_lsp::quote::{CLOSE_WEIGHT, FUNDING_WEIGHT};
use inlet_lsp::time::Timestamp;
use inlet_lsp::{Lsp, Policy};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const DAYS: u64 = 30;
const HOUR: u64 = 3_600_000;
const START: u64 = 1_790_000_000_000;
/// Coins at the beginning.
const COINS: Sat = Sat(30_000_000);
/// Kept for each channel (LDK's reckoning for 10 sat/vB and one HTLC).
const ANCHOR_RESERVE: u64 = 11_000;
/// What clients' payments pay us for routing, beside the opening.
const ROUTING_PPM: u64 = 1_000;
/// One in so many channels ends by force.
const FORCED_ONE_IN: u64 = 12;
/// A forced closing and the sweep after it, in weight units.
const FORCED_WEIGHT: u64 = 1_124 + 600 + 700;
/// Feerate at which what is open at the end is reckoned to be closed one day.
const LONG_RUN: FeePerKw = FeePerKw(2_500);
/// Where payments come from.
const UPSTREAM: [u8; 32] = [0xee; 32];

/// SplitMix64: the same days for every policy.
struct Rng(u64);

impl Rng {
	fn next(&mut self) -> u64 {
		self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
		let mut z = self.0;
		z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
		z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
		z ^ (z >> 31)
	}

	fn below(&mut self, n: u64) -> u64 {
		self.next() % n
	}

	fn one_in(&mut self, n: u64) -> bool {
		self.below(n) == 0
	}
}

#[derive(Clone, Debug)]
enum Event {
	/// A client comes, and wants a channel for a payment of so much.
	Arrives { who: u64, payment: u64, abuses: bool },
	/// The payer pays.
	Paid { who: u64, payment: u64 },
	/// The channel is funded and usable.
	Opened(u128),
	/// A payment goes through the client's channel, to it or from it.
	Uses { who: u64 },
	/// The client closes its channel.
	Leaves { who: u64, forced: bool },
	/// Once a day.
	Day,
}

struct Channel {
	id: [u8; 32],
	client: NodeId,
	capacity: u64,
	ours: i64,
	funding: OutPoint,
	withheld: bool,
	ready: bool,
	open: bool,
	opened_at: Timestamp,
	used_at: Option<Timestamp>,
}

#[derive(Default)]
struct Tally {
	asked: u32,
	refused: u32,
	failed: u32,
	in_spike: u32,
	below_cost: u32,
	reclaimed: u32,
}

struct Shop {
	lsp: Lsp,
	book: Book,
	now: u64,
	feerates: Vec<u64>,
	coins: i64,
	rng: Rng,
	queue: BTreeMap<(u64, u64), Event>,
	seq: u64,
	channels: BTreeMap<u128, Channel>,
	clients: BTreeMap<NodeId, u64>,
	abusers: Vec<NodeId>,
	replies: BTreeMap<NodeId, Value>,
	held: BTreeMap<[u8; 32], u64>,
	tally: Tally,
}

fn client(who: u64) -> NodeId {
	let secret = sha256::Hash::hash(&who.to_be_bytes()).to_byte_array();
	PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&secret).unwrap())
}

fn bytes32(tag: &str, n: u128) -> [u8; 32] {
	sha256::Hash::hash(format!("{tag}{n}").as_bytes()).to_byte_array()
}

impl Shop {
	fn new(policy: Policy, feerates: &[u64]) -> Shop {
		let mut shop = Shop {
			lsp: Lsp::new(policy, [7; 32]).expect("the policies below are possible"),
			book: Book::default(),
			now: START,
			feerates: feerates.to_vec(),
			coins: i64::try_from(COINS.0 * 1000).unwrap(),
			rng: Rng(42),
			queue: BTreeMap::new(),
			seq: 0,
			channels: BTreeMap::new(),
			clients: BTreeMap::new(),
			abusers: Vec::new(),
			replies: BTreeMap::new(),
			held: BTreeMap::new(),
			tally: Tally::default(),
		};
		let wallet = Msat(COINS.0 * 1000);
		shop.tell(Fact::Opening { height: 1, wallet, channels: vec![], txs: vec![] });
		shop.arrivals();
		shop
	}

	/// About thirty a day, more in the evening; one in eight is up to no good.
	fn arrivals(&mut self) {
		let mut who = 0;
		for hour in 0..DAYS * 24 {
			if hour % 24 == 0 {
				self.at(hour * HOUR, Event::Day);
			}
			let most = if (17..23).contains(&(hour % 24)) { 5 } else { 3 };
			for _ in 0..self.rng.below(most) {
				who += 1;
				let payment = 10_000 << self.rng.below(6);
				let payment = payment + self.rng.below(payment);
				let abuses = self.rng.one_in(8);
				let minute = self.rng.below(HOUR);
				self.at(hour * HOUR + minute, Event::Arrives { who, payment, abuses });
			}
		}
	}

	fn at(&mut self, after_start: u64, event: Event) {
		self.seq += 1;
		self.queue.insert((START + after_start, self.seq), event);
	}

	fn after(&mut self, delay: u64, event: Event) {
		self.at(self.now - START + delay, event);
	}

	fn run(&mut self) {
		while let Some(((at, _), event)) = self.queue.pop_first() {
			if at >= START + DAYS * 24 * HOUR {
				break;
			}
			while let Some(deadline) = self.book.next_deadline().filter(|deadline| deadline.0 <= at) {
				self.now = self.now.max(deadline.0);
				self.give(Input::Tick);
				if self.book.next_deadline() == Some(deadline) {
					break;
				}
			}
			self.now = at;
			self.happen(event);
		}
	}

	fn sat_per_vb(&self) -> u64 {
		let hour = usize::try_from((self.now - START) / HOUR).unwrap();
		self.feerates[hour.min(self.feerates.len() - 1)]
	}

	fn feerate(&self) -> FeePerKw {
		FeePerKw(u32::try_from(self.sat_per_vb() * 250).unwrap().max(253))
	}

	fn height(&self) -> u32 {
		u32::try_from((self.now - START) / 600_000).unwrap() + 1
	}

	fn world(&mut self, input: &Input) -> World {
		let who = input.client(&self.book);
		let open = self.channels.values().filter(|channel| channel.open);
		let kept = (u64::try_from(open.clone().count()).unwrap() + 1) * ANCHOR_RESERVE;
		let views = open.filter(|channel| Some(channel.client) == who && channel.ready).map(|channel| ChannelView {
			channel_id: channel.id,
			user_channel_id: 0,
			usable: true,
			next_outbound_htlc_limit: Msat(u64::try_from(channel.ours).unwrap_or(0) / 100 * 98),
			next_outbound_htlc_minimum: Msat(1),
		});
		let peer = PeerView { connected: true, channels: views.collect(), in_flight: vec![], text_errors: false };
		World {
			network: Network::Regtest,
			height: self.height(),
			synced: true,
			disk_low: false,
			feerate: Some(self.feerate()),
			spendable: Sat((u64::try_from(self.coins).unwrap_or(0) / 1000).saturating_sub(kept)),
			market: Market { long_run: Some(LONG_RUN), ..Market::default() },
			peer,
			entropy: bytes32("entropy", u128::from(self.rng.next())),
			fresh_scid: (1 << 40) | self.rng.below(1 << 39),
		}
	}

	fn give(&mut self, input: Input) {
		let world = self.world(&input);
		let step = self.lsp.step(&self.book, &world, Timestamp(self.now), input);
		step.writes.into_iter().for_each(|write| self.book.apply(write));
		for action in step.actions {
			self.perform(action);
		}
	}

	fn tell(&mut self, fact: Fact) {
		self.give(Input::Money(fact));
	}

	fn wallet(&mut self, txid: Txid, delta_msat: i64, purpose: Purpose) {
		self.coins += delta_msat;
		let tx = WalletTx { txid, delta_msat, height: Some(self.height()), purpose };
		self.tell(Fact::Wallet { height: self.height(), txs: vec![tx], gone: vec![], moved: vec![] });
	}

	fn perform(&mut self, action: Action) {
		match action {
			Action::Send { peer, bytes } => {
				if let Ok(reply) = serde_json::from_slice(&bytes) {
					self.replies.insert(peer, reply);
				}
			}
			Action::OpenChannel(open) => self.open(&open),
			Action::ForwardHtlc { intercept_id, peer, channel_id, amount } => {
				self.forward(intercept_id, peer, channel_id, amount);
			}
			Action::FailHtlc { intercept_id, .. } => {
				self.tally.failed += u32::from(self.held.remove(&intercept_id).is_some());
			}
			Action::BroadcastFunding { user_channel_id, channel_id, funding } => {
				let Some(channel) = self.channels.get_mut(&user_channel_id) else { return };
				channel.withheld = false;
				let fee = Some(self.feerate().cost_ceil(FUNDING_WEIGHT));
				self.give(Input::Funded { user_channel_id, channel_id, funding, fee });
			}
			Action::DiscardFunding { user_channel_id, funding, .. } => {
				if let Some(channel) = self.channels.get_mut(&user_channel_id).filter(|channel| channel.withheld) {
					(channel.open, channel.withheld) = (false, false);
					let known = self.book.books().txs().get(&funding.txid).map(|tx| {
						tx.postings
							.iter()
							.find(|one| one.account == inlet_lsp::book::Account::Wallet)
							.map_or(0, |one| one.msat)
					});
					self.coins -= known.unwrap_or(0);
					let gone = vec![funding.txid];
					self.tell(Fact::Wallet { height: self.height(), txs: vec![], gone, moved: vec![] });
				}
				self.give(Input::FundingDiscarded { user_channel_id });
			}
			Action::AbandonChannel { user_channel_id, .. } => {
				let reason = "abandoned".to_owned();
				if let Some(channel) = self.channels.get_mut(&user_channel_id) {
					channel.ready = false;
				}
				self.give(Input::ChannelClosed { user_channel_id, reason, by_client: false });
			}
			_ => {}
		}
	}

	fn open(&mut self, open: &OpenChannel) {
		if self.channels.contains_key(&open.user_channel_id) {
			return;
		}
		let id = bytes32("channel", open.user_channel_id);
		let txid = Txid::from_byte_array(bytes32("funding", open.user_channel_id));
		let funding = OutPoint { txid, vout: 0 };
		let fee = open.feerate.cost_ceil(FUNDING_WEIGHT);
		let channel = Channel {
			id,
			client: open.peer,
			capacity: open.capacity.0,
			ours: i64::try_from(open.capacity.0 * 1000).unwrap(),
			funding,
			withheld: open.withhold,
			ready: false,
			open: true,
			opened_at: Timestamp(self.now),
			used_at: None,
		};
		self.channels.insert(open.user_channel_id, channel);
		let purpose = Purpose::Funding {
			channel_id: id,
			user_channel_id: open.user_channel_id,
			client: Some(open.peer),
			funding,
			capacity: open.capacity,
			given: Msat::ZERO,
		};
		self.wallet(txid, -i64::try_from((open.capacity.0 + fee.0) * 1000).unwrap(), purpose);
		self.after(4_000, Event::Opened(open.user_channel_id));
	}

	fn forward(&mut self, intercept_id: [u8; 32], peer: NodeId, channel_id: [u8; 32], amount: Msat) {
		let Some(inbound) = self.held.remove(&intercept_id) else { return };
		if self.abusers.contains(&peer) {
			return self.give(Input::ForwardFailed { peer, channel_id, by_client: true });
		}
		let now = Timestamp(self.now);
		if let Some(channel) = self.channels.values_mut().find(|channel| channel.id == channel_id) {
			channel.ours -= i64::try_from(amount.0).unwrap();
			channel.used_at = Some(now);
		}
		let skimmed = Msat(inbound - amount.0);
		self.give(Input::Forwarded {
			next_peer: Some(peer),
			next_channel: Some(channel_id),
			total_fee: skimmed,
			skimmed,
			reference: format!("{:?}", &intercept_id[..8]),
			came: vec![Flow { channel_id: UPSTREAM, amount: Msat(inbound) }],
			went: vec![Flow { channel_id, amount }],
			intercept_id: None,
		});
	}

	fn happen(&mut self, event: Event) {
		match event {
			Event::Arrives { who, payment, abuses } => self.arrives(who, payment, abuses),
			Event::Paid { who, payment } => self.paid(who, payment),
			Event::Opened(id) => self.opened(id),
			Event::Uses { who } => self.uses(who),
			Event::Leaves { who, forced } => {
				let peer = client(who);
				let found =
					self.channels.iter().find(|(_, c)| c.client == peer && c.open && c.ready).map(|(id, _)| *id);
				if let Some(id) = found {
					self.close(id, forced);
				}
			}
			Event::Day => self.day(),
		}
	}

	fn arrives(&mut self, who: u64, payment: u64, abuses: bool) {
		let peer = client(who);
		self.clients.insert(peer, who);
		if abuses {
			self.abusers.push(peer);
		}
		self.tally.asked += 1;
		let ask = |method: &str, params: Value| {
			let message = json!({ "jsonrpc": "2.0", "id": "1", "method": method, "params": params });
			Input::Message { peer, bytes: message.to_string().into_bytes() }
		};
		self.give(ask("lsps2.get_info", json!({})));
		let menu = self.replies.remove(&peer).unwrap_or_default();
		let offer = menu["result"]["opening_fee_params_menu"][0].clone();
		if offer.is_null() {
			self.tally.refused += 1;
			return;
		}
		let size = (payment * 1000).to_string();
		self.give(ask("lsps2.buy", json!({ "opening_fee_params": offer, "payment_size_msat": size })));
		match self.replies.remove(&peer) {
			Some(reply) if reply.get("result").is_some() => {
				let patience = 60_000 + self.rng.below(600_000);
				self.after(patience, Event::Paid { who, payment });
			}
			_ => self.tally.refused += 1,
		}
	}

	fn paid(&mut self, who: u64, payment: u64) {
		let peer = client(who);
		let Some(sale) = self.book.sales().find(|sale| sale.client == peer) else { return };
		let (scid, intercept_id) = (sale.scid, bytes32("htlc", u128::from(self.rng.next())));
		let amount = Msat(payment * 1000);
		self.held.insert(intercept_id, amount.0);
		let expiry_height = Some(self.height() + 200);
		self.give(Input::HtlcIntercepted {
			intercept_id,
			scid,
			payment_hash: bytes32("hash", u128::from(who)),
			inbound: amount,
			expected_outbound: amount,
			expiry_height,
			channel: None,
		});
	}

	fn opened(&mut self, user_channel_id: u128) {
		let feerate = self.feerate();
		let Some(channel) = self.channels.get_mut(&user_channel_id).filter(|channel| channel.open) else { return };
		channel.ready = true;
		let (channel_id, funding, withheld, peer) = (channel.id, channel.funding, channel.withheld, channel.client);
		match withheld {
			true => self.give(Input::FundingWithheld { user_channel_id, channel_id, funding }),
			false => {
				let fee = Some(feerate.cost_ceil(FUNDING_WEIGHT));
				self.give(Input::Funded { user_channel_id, channel_id, funding, fee });
			}
		}
		self.give(Input::ChannelReady { user_channel_id, channel_id });
		let Some(who) = self.clients.get(&peer).copied() else { return };
		if !self.abusers.contains(&peer) {
			// Half of them come once and fall silent; the others use it several times a week.
			let lively = self.rng.one_in(2);
			for _ in 0..if lively { 8 } else { 1 } {
				let when = self.rng.below(20 * 24 * HOUR);
				self.after(when, Event::Uses { who });
			}
			if self.rng.one_in(4) {
				let (when, forced) = (self.rng.below(25 * 24 * HOUR), self.rng.one_in(FORCED_ONE_IN));
				self.after(when, Event::Leaves { who, forced });
			}
		}
		let sale = self.book.sale_by_channel(&channel_id);
		let paid = sale.and_then(|sale| sale.fee).map_or(0, |fee| fee.0 / 1000);
		self.tally.in_spike += u32::from(feerate.0 > 20_000);
		self.tally.below_cost += u32::from(paid < feerate.cost_ceil(FUNDING_WEIGHT).0);
	}

	fn uses(&mut self, who: u64) {
		let (peer, now) = (client(who), Timestamp(self.now));
		let amount = 5_000_000 + i64::try_from(self.rng.below(50_000_000)).unwrap();
		let to_client = self.rng.one_in(2);
		let fits = |channel: &Channel| {
			let theirs = i64::try_from(channel.capacity * 1000).unwrap() - channel.ours;
			if to_client { channel.ours > amount } else { theirs > amount }
		};
		let found =
			self.channels.values_mut().find(|c| c.client == peer && c.open && c.ready && !c.withheld && fits(c));
		let Some(channel) = found else { return };
		let (id, fee) = (channel.id, amount / 1_000_000 * i64::try_from(ROUTING_PPM).unwrap());
		channel.used_at = Some(now);
		channel.ours += if to_client { -amount } else { amount };
		let flow = |channel_id, msat: i64| vec![Flow { channel_id, amount: Msat(u64::try_from(msat).unwrap()) }];
		let (came, went, next) = match to_client {
			true => (flow(UPSTREAM, amount + fee), flow(id, amount), id),
			false => (flow(id, amount), flow(UPSTREAM, amount - fee), UPSTREAM),
		};
		let reference = format!("use{}", self.rng.next());
		let (next_channel, total_fee) = (Some(next), Msat(u64::try_from(fee).unwrap()));
		let skimmed = Msat::ZERO;
		self.give(Input::Forwarded {
			next_peer: None,
			next_channel,
			total_fee,
			skimmed,
			reference,
			came,
			went,
			intercept_id: None,
		});
	}

	fn close(&mut self, user_channel_id: u128, forced: bool) {
		let weight = if forced { FORCED_WEIGHT } else { CLOSE_WEIGHT };
		let cost = i64::try_from(self.feerate().cost_ceil(weight).0 * 1000).unwrap();
		let Some(channel) = self.channels.get_mut(&user_channel_id) else { return };
		(channel.open, channel.ready) = (false, false);
		let (id, home) = (channel.id, (channel.ours - cost).max(0) / 1000 * 1000);
		self.give(Input::ChannelClosed { user_channel_id, reason: "closed".to_owned(), by_client: false });
		self.tell(Fact::Closed { channel_id: id });
		let txid = Txid::from_byte_array(bytes32("close", user_channel_id));
		self.wallet(txid, home, Purpose::Close { channel_id: id });
		self.tell(Fact::Settled { channel_id: id });
	}

	/// The operator closes what `inlet capital reclaim` lists.
	fn day(&mut self) {
		self.give(Input::Tick);
		let (height, now) = (self.height(), Timestamp(self.now));
		let holdings: Vec<Holding> = self
			.channels
			.values()
			.filter(|channel| channel.open && channel.ready && !channel.withheld)
			.map(|channel| Holding {
				channel_id: channel.id,
				client: channel.client,
				capacity: Sat(channel.capacity),
				ours: Msat(u64::try_from(channel.ours).unwrap_or(0)),
				opened_by_us: true,
				public: false,
				connected: true,
				in_flight: 0,
				lease_left: self.book.lease(&channel.id).map_or(0, |lease| lease.blocks_left(height, now)),
				opened_at: channel.opened_at,
				used_at: channel.used_at,
			})
			.collect();
		let (policy, feerate) = (self.lsp.policy.capital.clone(), Some(self.feerate()));
		for holding in
			holdings.iter().filter(|holding| capital::verdict(&policy, feerate, holding, now) == Verdict::Close)
		{
			let found =
				self.channels.iter().find(|(_, channel)| channel.id == holding.channel_id).map(|(mark, _)| *mark);
			if let Some(mark) = found {
				self.tally.reclaimed += 1;
				self.close(mark, false);
			}
		}
	}

	/// One line of the table.
	fn line(&self, name: &str) -> String {
		let mut kinds: BTreeMap<EntryKind, i64> = BTreeMap::new();
		for (kind, msat) in self.book.books().months().flat_map(|month| &month.kinds) {
			*kinds.entry(*kind).or_default() += msat;
		}
		let sat = |kind: EntryKind| kinds.get(&kind).copied().unwrap_or(0) / 1000;
		let profit: i64 = kinds.iter().filter(|(kind, _)| kind.is_profit()).map(|(_, msat)| msat / 1000).sum();
		let open: Vec<&Channel> = self.channels.values().filter(|channel| channel.open && !channel.withheld).collect();
		let to_close = i64::try_from(open.len()).unwrap() * i64::try_from(LONG_RUN.cost_ceil(CLOSE_WEIGHT).0).unwrap();
		let locked: i64 = open.iter().map(|channel| channel.ours / 1000).sum();
		let sold = self.book.sales().filter(|sale| sale.state == SaleState::Done).count();
		let t = &self.tally;
		format!(
			"| {name} | {} | {} | {sold} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
			t.asked,
			t.refused,
			t.in_spike,
			t.below_cost,
			sat(EntryKind::JitFee),
			sat(EntryKind::RoutingFee),
			-sat(EntryKind::FundingCost),
			-sat(EntryKind::CloseCost),
			t.reclaimed,
			locked,
			profit - to_close,
		)
	}
}

fn policies() -> Vec<(&'static str, Policy)> {
	let with = |change: fn(&mut Policy)| {
		let mut policy = Policy::default();
		change(&mut policy);
		policy
	};
	vec![
		("default", with(|_| ())),
		("no feerate ceiling", with(|p| p.risk.max_feerate_sat_per_vb = 100_000)),
		("ceiling 20 sat/vB", with(|p| p.risk.max_feerate_sat_per_vb = 20)),
		("everyone is trusted", with(|p| p.lsps2.trust = Trust::Everyone)),
		("nobody is trusted", with(|p| p.lsps2.trust = Trust::Nobody)),
		("headroom 0", with(|p| p.lsps2.headroom_ppm = Ppm(0))),
		("headroom 100 %", with(|p| p.lsps2.headroom_ppm = Ppm(1_000_000))),
		(
			"reclaim after 7 idle days",
			with(|p| {
				p.lsps2.min_lifetime_blocks = 7 * 144;
				p.capital.idle_days = 7;
			}),
		),
		(
			"the same at any feerate",
			with(|p| {
				p.lsps2.min_lifetime_blocks = 7 * 144;
				p.capital.idle_days = 7;
				p.capital.reclaim_feerate_sat_per_vb = 100_000;
			}),
		),
	]
}

fn main() {
	let feerates: Vec<u64> = include_str!("feerates.csv")
		.lines()
		.filter(|line| !line.starts_with('#') && !line.starts_with("hour"))
		.filter_map(|line| line.split_once(',')?.1.parse().ok())
		.collect();
	assert_eq!(u64::try_from(feerates.len()).unwrap(), DAYS * 24, "an hour is missing");
	println!(
		"| policy | asked | refused | sold | opened above 80 sat/vB | opened below cost | opening fees | routing fees | openings cost | closings cost | reclaimed | locked at the end | profit |"
	);
	println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
	for (name, policy) in policies() {
		let mut shop = Shop::new(policy, &feerates);
		shop.run();
		println!("{}", shop.line(name));
	}
}
