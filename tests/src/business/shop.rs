//! The shop: the core, its book, the clock, and all that is yet to happen.

use super::channels::Channel;
use super::clients::Person;
use super::report::Tally;
use super::{Days, Feerates};
use crate::sim::Rng;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::{Network, Txid};
use inlet_lsp::book::{Book, NodeId, SaleId};
use inlet_lsp::input::{ChannelView, Input, PeerView, World};
use inlet_lsp::ledger::{Fact, Purpose, WalletTx};
use inlet_lsp::market::{Average, Market};
use inlet_lsp::money::{FeePerKw, Msat, Sat};
use inlet_lsp::time::Timestamp;
use inlet_lsp::{Lsp, Policy};
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) const HOUR: u64 = 3_600_000;
pub(super) const DAY: u64 = 24 * HOUR;
/// Any moment: the first of a month, so that the ledger's months are few.
const START: u64 = 1_788_220_800_000;
/// Kept for each channel (LDK's reckoning for 10 sat/vB and one HTLC).
const ANCHOR_RESERVE: u64 = 11_000;
/// What a transaction has cost on the average before the first day.
const LONG_RUN: FeePerKw = FeePerKw(1_000);

/// What happens at some time.
#[derive(Clone, Debug)]
pub(super) enum Event {
	/// A client wants a channel for a payment of so many satoshis.
	Asks { who: u64, payment: u64 },
	/// The payer pays, under this sale.
	Paid { who: u64, payment: u64, sale: SaleId, bought_at: FeePerKw },
	/// A channel is funded, or made, and usable.
	Opened(u128),
	/// A payment to the client or from it.
	Uses { who: u64 },
	/// The client closes its channel.
	Leaves { who: u64, forced: bool },
	/// Once an hour.
	Hour,
	/// Once a day.
	Day,
}

/// A promise that is being called in: what is known of it when its HTLC arrives.
pub(super) struct Call {
	pub(super) who: u64,
	pub(super) payment: u64,
	/// Had the feerate risen since it was made?
	pub(super) risen: bool,
}

pub(super) struct Shop {
	pub(super) lsp: Lsp,
	pub(super) book: Book,
	pub(super) now: u64,
	end: u64,
	pub(super) feerates: Feerates,
	average: Average,
	pub(super) coins: i64,
	/// Our side of the channel to the rest of the network, in msat: less than nothing is what others lend us there.
	pub(super) upstream: i64,
	pub(super) rng: Rng,
	queue: BTreeMap<(u64, u64), Event>,
	seq: u64,
	pub(super) channels: BTreeMap<u128, Channel>,
	pub(super) people: BTreeMap<u64, Person>,
	pub(super) who: BTreeMap<NodeId, u64>,
	pub(super) replies: BTreeMap<NodeId, Value>,
	/// HTLCs that are held: what came in, and whose it is.
	pub(super) held: BTreeMap<[u8; 32], (u64, Call)>,
	pub(super) tally: Tally,
}

/// The node id of this person.
pub(super) fn node(who: u64) -> NodeId {
	let secret = sha256::Hash::hash(&who.to_be_bytes()).to_byte_array();
	let secret = SecretKey::from_slice(&secret).expect("a hash is a key");
	PublicKey::from_secret_key(&Secp256k1::new(), &secret)
}

pub(super) fn bytes32(tag: &str, n: u128) -> [u8; 32] {
	sha256::Hash::hash(format!("{tag}{n}").as_bytes()).to_byte_array()
}

pub(super) fn signed(msat: u64) -> i64 {
	i64::try_from(msat).expect("fewer than there are")
}

impl Shop {
	pub(super) fn new(policy: Policy, days: &Days<'_>) -> Shop {
		let wallet = Msat(days.coins.0 * 1000);
		let mut shop = Shop {
			lsp: Lsp::new(policy, [7; 32]).expect("a policy that can be"),
			book: Book::default(),
			now: START,
			end: START + days.days * DAY,
			feerates: days.feerates.clone(),
			average: Average::new(LONG_RUN, Timestamp(START)),
			coins: signed(wallet.0),
			upstream: 0,
			rng: Rng::new(days.seed),
			queue: BTreeMap::new(),
			seq: 0,
			channels: BTreeMap::new(),
			people: BTreeMap::new(),
			who: BTreeMap::new(),
			replies: BTreeMap::new(),
			held: BTreeMap::new(),
			tally: Tally::default(),
		};
		shop.tell(Fact::Opening { height: 1, wallet, channels: vec![], txs: vec![] });
		shop.arrivals(days);
		for hour in 0..days.days * 24 {
			shop.at(hour * HOUR, Event::Hour);
		}
		for day in 1..=days.days {
			shop.at(day * DAY - 1, Event::Day);
		}
		shop
	}

	/// So many milliseconds after the first.
	pub(super) fn at(&mut self, after_start: u64, event: Event) {
		self.seq += 1;
		self.queue.insert((START + after_start, self.seq), event);
	}

	pub(super) fn after(&mut self, delay: u64, event: Event) {
		self.at(self.since_start() + delay, event);
	}

	pub(super) fn since_start(&self) -> u64 {
		self.now - START
	}

	pub(super) fn run(&mut self) {
		while let Some(((at, _), event)) = self.queue.pop_first() {
			if at >= self.end {
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

	fn happen(&mut self, event: Event) {
		match event {
			Event::Asks { who, payment } => self.asks(who, payment),
			Event::Paid { who, payment, sale, bought_at } => self.paid(who, payment, &sale, bought_at),
			Event::Opened(id) => self.opened(id),
			Event::Uses { who } => self.uses(who),
			Event::Leaves { who, forced } => self.leaves(who, forced),
			Event::Hour => self.average = self.average.with(self.feerate(), Timestamp(self.now)),
			Event::Day => self.day(),
		}
	}

	pub(super) fn feerate(&self) -> FeePerKw {
		self.feerates.at(self.since_start() / 1000)
	}

	pub(super) fn long_run(&self) -> FeePerKw {
		self.average.feerate()
	}

	pub(super) fn height(&self) -> u32 {
		u32::try_from(self.since_start() / 600_000).expect("a month of blocks") + 1
	}

	fn world(&mut self, input: &Input) -> World {
		let about = input.client(&self.book);
		let open = self.channels.values().filter(|channel| channel.open);
		let kept = (signed(open.clone().count() as u64) + 1).unsigned_abs() * ANCHOR_RESERVE;
		let views = open.filter(|channel| Some(channel.client) == about && channel.ready).map(|channel| ChannelView {
			channel_id: channel.id,
			user_channel_id: 0,
			usable: true,
			next_outbound_htlc_limit: channel.sendable(),
			next_outbound_htlc_minimum: Msat(1),
		});
		let peer = PeerView {
			connected: true,
			channels: views.collect(),
			in_flight: vec![],
			text_errors: false,
			growable: vec![],
		};
		let lately = Some(self.feerates.lately(self.since_start() / 1000));
		World {
			network: Network::Regtest,
			height: self.height(),
			synced: true,
			disk_low: false,
			feerate: Some(self.feerate()),
			spendable: Sat((u64::try_from(self.coins).unwrap_or(0) / 1000).saturating_sub(kept)),
			unconfirmed: Sat::ZERO,
			market: Market { long_run: Some(self.long_run()), lately, ..Market::default() },
			peer,
			entropy: self.rng.bytes(),
			fresh_scid: (1 << 40) | (self.rng.next() >> 25),
			present: Vec::new(),
		}
	}

	pub(super) fn give(&mut self, input: Input) {
		let world = self.world(&input);
		let step = self.lsp.step(&self.book, &world, Timestamp(self.now), input);
		step.writes.into_iter().for_each(|write| self.book.apply(write));
		for action in step.actions {
			self.perform(action);
		}
	}

	pub(super) fn tell(&mut self, fact: Fact) {
		self.give(Input::Money(fact));
	}

	pub(super) fn wallet(&mut self, txid: Txid, delta_msat: i64, purpose: Purpose) {
		self.coins += delta_msat;
		let tx = WalletTx { txid, delta_msat, height: Some(self.height()), purpose };
		self.tell(Fact::Wallet { height: self.height(), txs: vec![tx], gone: vec![], moved: vec![] });
	}
}
