//! The books balance, whatever happens and in whichever order; and what is told twice is booked once.

use bitcoin::hashes::Hash;
use bitcoin::{Network, OutPoint, Txid};
use inlet_lsp::book::{Account, Book, BooksRow, ChannelSums, EntryKind, NodeId, Write};
use inlet_lsp::input::{Input, PeerView, World};
use inlet_lsp::ledger::{Fact, Flow, NewChannel, Purpose, Standing, WalletTx};
use inlet_lsp::market::Market;
use inlet_lsp::money::{Msat, Sat};
use inlet_lsp::time::Timestamp;
use inlet_lsp::{Lsp, Policy};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What came to channels, in msat.
type Moved = Vec<([u8; 32], i64)>;

/// What LDK and BDK would say, kept by adding up what is done.
#[derive(Clone, Default)]
struct Real {
	wallet: i64,
	channels: BTreeMap<[u8; 32], i64>,
	closed: BTreeMap<[u8; 32], i64>,
	/// Not final: what each transaction changed.
	txs: BTreeMap<Txid, (i64, Moved)>,
	next: u64,
	height: u32,
}

#[derive(Clone)]
struct Ledger {
	lsp: Lsp,
	book: Book,
	rows: Vec<Write>,
	real: Real,
	now: Timestamp,
}

#[derive(Clone, Debug)]
enum Move {
	Deposit(u64),
	Withdraw(u64, u64),
	Consolidate(u64),
	Fund { size: u64, fee: u64, given: u64 },
	FundTogether { sizes: Vec<u64>, fee: u64 },
	Inbound(u64),
	Forward { fee: u64, skim: u64 },
	Receive(u64),
	Send { amount: u64, fee: u64 },
	Close { fee: u64 },
	Force { bump: u64, sweep: u64, lost: u64 },
	Vanish,
	Blocks(u32),
	Restart,
}

fn moves() -> impl Strategy<Value = Move> {
	prop_oneof![
		(1_000..5_000_000u64).prop_map(Move::Deposit),
		(1_000..50_000u64, 100..5_000u64).prop_map(|(sat, fee)| Move::Withdraw(sat, fee)),
		(100..5_000u64).prop_map(Move::Consolidate),
		(20_000..900_000u64, 100..9_000u64, 0..9_000u64).prop_map(|(size, fee, given)| Move::Fund { size, fee, given }),
		(prop::collection::vec(20_000..900_000u64, 2..5), 100..9_000u64)
			.prop_map(|(sizes, fee)| Move::FundTogether { sizes, fee }),
		(0..90_000_000u64).prop_map(Move::Inbound),
		(0..9_999u64, 0..999_999u64).prop_map(|(fee, skim)| Move::Forward { fee, skim }),
		(1..9_999_999u64).prop_map(Move::Receive),
		(1..9_999_999u64, 0..9_999u64).prop_map(|(amount, fee)| Move::Send { amount, fee }),
		(100..5_000u64).prop_map(|fee| Move::Close { fee }),
		(100..5_000u64, 100..5_000u64, 0..3_000u64).prop_map(|(bump, sweep, lost)| Move::Force { bump, sweep, lost }),
		Just(Move::Vanish),
		(1..200u32).prop_map(Move::Blocks),
		Just(Move::Restart),
	]
}

fn msat(sat: u64) -> i64 {
	i64::try_from(sat * 1000).unwrap()
}

fn client(n: u64) -> NodeId {
	use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
	let mut secret = [1; 32];
	secret[..8].copy_from_slice(&n.to_be_bytes());
	PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&secret).unwrap())
}

impl Ledger {
	fn new() -> Ledger {
		let mut ledger = Ledger {
			lsp: Lsp::new(Policy::default(), [1; 32]).unwrap(),
			book: Book::default(),
			rows: Vec::new(),
			real: Real { wallet: 3_000_000_000, height: 1_000, ..Real::default() },
			now: Timestamp(1_780_000_000_000),
		};
		let opening = Fact::Opening { height: 1_000, wallet: Msat(3_000_000_000), channels: vec![], txs: vec![] };
		ledger.tell(opening);
		ledger
	}

	fn give(&mut self, input: Input) {
		let world = World {
			network: Network::Regtest,
			height: self.real.height,
			synced: true,
			disk_low: false,
			feerate: None,
			spendable: Sat(0),
			unconfirmed: Sat::ZERO,
			market: Market::default(),
			peer: PeerView::default(),
			entropy: [1; 32],
			fresh_scid: 1,
			present: Vec::new(),
		};
		self.now = Timestamp(self.now.0 + 3_600_000);
		let step = self.lsp.step(&self.book, &world, self.now, input.clone());
		for write in step.writes {
			self.rows.push(write.clone());
			self.book.apply(write);
		}
		let again = self.lsp.step(&self.book, &world, self.now, input.clone());
		assert_eq!(again.writes, [], "given twice: {input:?}");
	}

	fn tell(&mut self, fact: Fact) {
		self.give(Input::Money(fact));
	}

	fn id(&mut self) -> [u8; 32] {
		self.real.next += 1;
		let mut id = [0; 32];
		id[..8].copy_from_slice(&self.real.next.to_be_bytes());
		id
	}

	/// A transaction, booked.
	fn tx(&mut self, delta: i64, purpose: Purpose, channel: Option<[u8; 32]>, of_channel: i64) -> Txid {
		self.tx_of(delta, purpose, channel.map(|id| (id, of_channel)).into_iter().collect())
	}

	/// The same, of several channels.
	fn tx_of(&mut self, delta: i64, purpose: Purpose, channels: Moved) -> Txid {
		let txid = Txid::from_byte_array(self.id());
		let tx = WalletTx { txid, delta_msat: delta, height: None, purpose };
		self.tell(Fact::Wallet { height: self.real.height, txs: vec![tx], gone: vec![], moved: vec![] });
		self.real.wallet += delta;
		for (id, msat) in &channels {
			self.move_channel(*id, *msat);
		}
		self.real.txs.insert(txid, (delta, channels));
		txid
	}

	fn move_channel(&mut self, id: [u8; 32], msat: i64) {
		match self.real.closed.get_mut(&id) {
			Some(ours) => *ours += msat,
			None => *self.real.channels.entry(id).or_default() += msat,
		}
	}

	fn richest(&self) -> Option<([u8; 32], i64)> {
		self.real
			.channels
			.iter()
			.map(|(id, ours)| (*id, *ours))
			.max_by_key(|(_, ours)| *ours)
			.filter(|(_, ours)| *ours > 0)
	}

	fn poorest(&self) -> Option<[u8; 32]> {
		self.real.channels.iter().min_by_key(|(_, ours)| **ours).map(|(id, _)| *id)
	}

	fn make(&mut self, what: Move) {
		match what {
			Move::Deposit(sat) => drop(self.tx(msat(sat), Purpose::Incoming { orders: vec![] }, None, 0)),
			Move::Withdraw(sat, fee) => {
				self.tx(-msat(sat + fee), Purpose::Outgoing { fee: Msat(fee * 1000) }, None, 0);
			}
			Move::Consolidate(fee) => drop(self.tx(-msat(fee), Purpose::Consolidation, None, 0)),
			Move::Fund { size, fee, given } => self.fund(size, fee, given),
			Move::FundTogether { sizes, fee } => self.fund_together(&sizes, fee),
			Move::Inbound(ours) => {
				let id = self.id();
				let channel = Standing {
					channel_id: id,
					client: client(self.real.next),
					funding: Some(OutPoint { txid: Txid::from_byte_array(id), vout: 1 }),
					capacity: Sat(ours / 1000 + 50_000),
					ours: Msat(ours),
				};
				self.tell(Fact::Given { channel });
				self.real.channels.insert(id, i64::try_from(ours).unwrap());
			}
			Move::Forward { fee, skim } => self.forward(fee, skim),
			Move::Receive(amount) => {
				let Some(channel_id) = self.poorest() else { return };
				let reference = format!("r{}", self.id()[7]) + &self.real.next.to_string();
				self.tell(Fact::Received { reference, over: vec![Flow { channel_id, amount: Msat(amount) }] });
				self.move_channel(channel_id, i64::try_from(amount).unwrap());
			}
			Move::Send { amount, fee } => {
				let all = i64::try_from(amount + fee).unwrap();
				let Some((channel_id, _)) = self.richest().filter(|(_, ours)| *ours > all) else { return };
				self.real.next += 1;
				let reference = format!("s{}", self.real.next);
				self.tell(Fact::Sent { reference: reference.clone(), amount: Msat(amount), fee: Msat(fee) });
				let flow = Flow { channel_id, amount: Msat(amount + fee) };
				self.tell(Fact::SentOver { reference, flow });
				self.move_channel(channel_id, -all);
			}
			Move::Close { fee } => self.close(fee),
			Move::Force { bump, sweep, lost } => self.force(bump, sweep, lost),
			Move::Vanish => {
				let Some((txid, (delta, channels))) = self.real.txs.pop_last() else { return };
				self.tell(Fact::Wallet { height: self.real.height, txs: vec![], gone: vec![txid], moved: vec![] });
				self.real.wallet -= delta;
				for (id, msat) in channels {
					self.move_channel(id, -msat);
				}
			}
			Move::Blocks(blocks) => {
				let moved = self.real.txs.keys().map(|txid| (*txid, Some(self.real.height))).collect();
				self.tell(Fact::Wallet { height: self.real.height, txs: vec![], gone: vec![], moved });
				self.real.height += blocks;
				self.tell(Fact::Wallet { height: self.real.height, txs: vec![], gone: vec![], moved: vec![] });
				let known = self.book.books().txs();
				self.real.txs.retain(|txid, _| known.contains_key(txid));
			}
			Move::Restart => {
				let mut kept: BTreeMap<String, Write> = BTreeMap::new();
				for row in self.rows.drain(..) {
					let key = match &row {
						Write::Ledger(entry) => format!("ledger {:09}", entry.seq),
						Write::Books(row) => row.key(),
						other => format!("{other:?}"),
					};
					let text = serde_json::to_string(&row).unwrap();
					kept.insert(key, serde_json::from_str(&text).unwrap());
				}
				let is_live = |row: &Write| !matches!(row, Write::Books(row) if !row.is_live());
				self.rows = kept.into_values().filter(is_live).collect();
				self.book = Book::restore(self.rows.clone());
			}
		}
	}

	fn fund(&mut self, size: u64, fee: u64, given: u64) {
		let channel = self.new_channel(size, given);
		let (id, purpose) = (channel.channel_id, Purpose::Funding { channels: vec![channel] });
		self.tx(-msat(size + fee), purpose, Some(id), msat(size - given));
	}

	fn fund_together(&mut self, sizes: &[u64], fee: u64) {
		let channels: Vec<NewChannel> = sizes.iter().map(|size| self.new_channel(*size, 0)).collect();
		let moved = channels.iter().map(|channel| (channel.channel_id, msat(channel.capacity.0))).collect();
		self.tx_of(-msat(sizes.iter().sum::<u64>() + fee), Purpose::Funding { channels }, moved);
	}

	fn new_channel(&mut self, size: u64, given: u64) -> NewChannel {
		let id = self.id();
		NewChannel {
			channel_id: id,
			user_channel_id: u128::from(self.real.next),
			client: Some(client(self.real.next)),
			funding: OutPoint { txid: Txid::from_byte_array(id), vout: 0 },
			capacity: Sat(size),
			given: Msat(given * 1000),
		}
	}

	fn forward(&mut self, fee: u64, skim: u64) {
		let (Some((from, ours)), Some(to)) = (self.richest(), self.poorest()) else { return };
		let amount = (u64::try_from(ours).unwrap() / 2).max(1);
		self.real.next += 1;
		self.give(Input::Forwarded {
			next_peer: Some(client(1)),
			next_channel: Some(from),
			total_fee: Msat(fee + skim),
			skimmed: Msat(skim),
			reference: format!("f{}", self.real.next),
			came: vec![Flow { channel_id: to, amount: Msat(amount + fee + skim) }],
			went: vec![Flow { channel_id: from, amount: Msat(amount) }],
			intercept_id: None,
		});
		self.move_channel(to, i64::try_from(amount + fee + skim).unwrap());
		self.move_channel(from, -i64::try_from(amount).unwrap());
	}

	fn close(&mut self, fee: u64) {
		let Some((id, ours)) = self.richest() else { return };
		let paid = (ours / 1000 - i64::try_from(fee).unwrap()).max(0) * 1000;
		self.end(id);
		self.tx(paid, Purpose::Close { channel_id: id }, Some(id), -paid);
		self.settle(id);
	}

	fn force(&mut self, bump: u64, sweep: u64, lost: u64) {
		let Some((id, ours)) = self.richest() else { return };
		let msat = |sat: u64| i64::try_from(sat * 1000).unwrap();
		self.end(id);
		self.tx(-msat(bump), Purpose::Bump { channel_id: Some(id) }, Some(id), 0);
		let output = (ours / 1000 * 1000 - msat(lost)).max(0);
		let flow = Flow { channel_id: id, amount: Msat(u64::try_from(output).unwrap()) };
		self.tx(output - msat(sweep), Purpose::Sweep { outputs: vec![flow] }, Some(id), -output);
		self.settle(id);
	}

	fn end(&mut self, id: [u8; 32]) {
		let ours = self.real.channels.remove(&id).unwrap();
		self.real.closed.insert(id, ours);
		self.tell(Fact::Closed { channel_id: id });
	}

	/// What came home of it is deep in the chain by now.
	fn settle(&mut self, id: [u8; 32]) {
		self.make(Move::Blocks(200));
		self.tell(Fact::Settled { channel_id: id });
		self.real.closed.remove(&id);
	}

	fn check(&self) {
		let books = self.book.books();
		assert_eq!(books.balance(Account::Wallet), self.real.wallet, "the wallet");
		for (id, ours) in &self.real.channels {
			assert_eq!(books.balance(Account::Channel(*id)), *ours, "a channel");
		}
		let channels: i64 = self.real.channels.values().chain(self.real.closed.values()).sum();
		assert_eq!(books.balance(Account::Channels), channels, "all channels");
		assert_eq!(books.balances().values().sum::<i64>(), 0, "the accounts add up");
	}
}

proptest! {
	#![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

	#[test]
	fn the_books_balance_to_the_msat_after_any_sequence_of_events(moves in prop::collection::vec(moves(), 100..300)) {
		let mut ledger = Ledger::new();
		for what in moves {
			ledger.make(what);
			ledger.check();
		}
	}
}

#[test]
fn every_entry_adds_up_to_zero_and_the_months_have_them_all() {
	let mut ledger = Ledger::new();
	ledger.make(Move::Fund { size: 500_000, fee: 700, given: 0 });
	ledger.make(Move::Inbound(0));
	ledger.make(Move::Forward { fee: 11, skim: 0 });
	ledger.make(Move::Close { fee: 300 });
	let mut kinds: BTreeMap<EntryKind, i64> = BTreeMap::new();
	for entry in ledger.book.ledger() {
		assert_eq!(entry.postings.iter().map(|posting| posting.msat).sum::<i64>(), 0, "{entry:?}");
		*kinds.entry(entry.kind).or_default() += entry.amount_msat;
	}
	let months: i64 = ledger.book.books().months().flat_map(|month| month.kinds.values()).sum();
	assert_eq!(months, kinds.values().sum::<i64>());
	let profit: i64 = kinds.iter().filter(|(kind, _)| kind.is_profit()).map(|(_, msat)| msat).sum();
	assert_eq!(profit, 11 - 700_000 - 300_011, "a routing fee, an opening, a closing with what was no whole satoshi");
}

#[test]
fn a_channel_keeps_its_sums_and_the_capital_that_was_in_it() {
	let mut ledger = Ledger::new();
	ledger.make(Move::Fund { size: 100_000, fee: 700, given: 0 });
	let channel = *ledger.real.channels.keys().next().unwrap();
	let opened = ledger.now;
	ledger.make(Move::Close { fee: 250 });
	let rows = ledger.rows.iter().rev();
	let sums = rows
		.filter_map(|row| match row {
			Write::Books(BooksRow::Channel(sums)) if sums.key == ChannelSums::key_of(&channel) => Some(sums),
			_ => None,
		})
		.next()
		.unwrap();
	assert_eq!((sums.profit_msat(), sums.cost_msat(), sums.balance_msat), (-950_000, 950_000, 0));
	let hours = (ledger.now.0 - opened.0) / 3_600_000;
	assert!(sums.settled_at.is_some() && sums.sat_secs <= 100_000 * hours * 3_600 && sums.sat_secs >= 100_000 * 3_600);
	assert!(ledger.book.books().channel(&channel).is_none(), "a settled channel is not kept in memory");
}

#[test]
fn the_months_have_all_the_capital_that_the_channels_had() {
	let mut ledger = Ledger::new();
	ledger.make(Move::Fund { size: 100_000, fee: 700, given: 0 });
	let opened = ledger.now;
	ledger.now = Timestamp(opened.0 + 40 * 86_400_000);
	let books = ledger.book.books();
	let by_month = |books: &inlet_lsp::book::Books, now: Timestamp| -> u64 {
		let names: BTreeSet<String> =
			(0..=40).map(|day| inlet_lsp::book::month_of(Timestamp(opened.0 + day * 86_400_000))).collect();
		names.iter().map(|name| books.month_sat_days(name, now)).sum()
	};
	let due = 100_000 * 40;
	// Each month rounds down.
	assert!((due - 3..=due).contains(&by_month(books, ledger.now)), "while nothing has moved since");
	ledger.make(Move::Close { fee: 250 });
	let (sum, hours) = (by_month(ledger.book.books(), ledger.now), (ledger.now.0 - opened.0) / 3_600_000);
	assert!(sum >= due - 3 && sum <= 100_000 * hours / 24, "and when it is over: {sum}");
	let books = ledger.book.books();
	assert_eq!(books.days_seen(opened, opened), 0);
	let seen = books.days_seen(opened, ledger.now) + books.days_seen(Timestamp(opened.0 + 31 * 86_400_000), ledger.now);
	assert!((27..=62).contains(&seen), "no more than the two months have: {seen}");
}

#[path = "ledger_fold.rs"]
mod fold;
