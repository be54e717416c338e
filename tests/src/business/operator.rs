//! What the operator does once a day: closes what can come home, swaps what clients were paid with back to the chain, and compares the
//! books with what there is.

use super::channels::UPSTREAM;
use super::shop::{Shop, bytes32, signed};
use bitcoin::Txid;
use bitcoin::hashes::Hash;
use inlet_lsp::book::Account;
use inlet_lsp::capital::Holding;
use inlet_lsp::input::Input;
use inlet_lsp::ledger::{Fact, Flow, Purpose};
use inlet_lsp::money::{Msat, Sat};
use inlet_lsp::time::Timestamp;

/// What a swap from Lightning to the chain costs: a share, and the transaction that claims it.
const SWAP_PPM: u64 = 2_000;
const SWAP_WEIGHT: u64 = 600;
/// It is not worth one below this, nor above this feerate.
const SWAP_FROM_SAT: u64 = 500_000;
const SWAP_SAT_PER_VB: u64 = 20;

impl Shop {
	pub(super) fn day(&mut self) {
		self.give(Input::Tick);
		let holdings = self.holdings();
		self.give(Input::Holdings { holdings, asked: true });
		self.swap();
		self.tally.locked_sat_days += self.locked_sat();
		self.check_books();
	}

	/// What clients were paid with came in over the channel to the rest of the network, and is to be sold again.
	fn swap(&mut self) {
		let there = u64::try_from(self.upstream).unwrap_or(0) / 1000;
		if there < SWAP_FROM_SAT || self.feerate().to_sat_per_vb_ceil() > SWAP_SAT_PER_VB {
			return;
		}
		let cost = (there * SWAP_PPM).div_ceil(1_000_000) + self.feerate().cost_ceil(SWAP_WEIGHT).0;
		let amount = Msat(there * 1000);
		let mark = self.rng.next();
		let reference = format!("swap{mark}");
		self.upstream -= signed(amount.0);
		self.tally.swaps += cost;
		self.tell(Fact::Sent { reference: reference.clone(), amount, fee: Msat::ZERO });
		self.tell(Fact::SentOver { reference, flow: Flow { channel_id: UPSTREAM, amount } });
		let txid = Txid::from_byte_array(bytes32("swap", mark.into()));
		self.wallet(txid, signed((there - cost) * 1000), Purpose::Incoming { orders: vec![] });
	}

	/// Our side of all channels, that to the rest of the network included.
	pub(super) fn locked_sat(&self) -> u64 {
		let clients = self.channels.values().filter(|channel| channel.open).map(|channel| channel.ours);
		let ours: i64 = clients.chain([self.upstream.max(0)]).sum();
		ours.unsigned_abs() / 1000
	}

	fn holdings(&self) -> Vec<Holding> {
		let (height, now) = (self.height(), Timestamp(self.now));
		let out = self.channels.values().filter(|channel| channel.is_out() && channel.ready);
		out.map(|channel| Holding {
			channel_id: channel.id,
			client: channel.client,
			capacity: Sat(channel.capacity),
			ours: Msat(channel.ours.unsigned_abs()),
			theirs: Msat((channel.capacity * 1000).saturating_sub(channel.ours.unsigned_abs())),
			opened_by_us: true,
			public: false,
			connected: true,
			closing: false,
			in_flight: 0,
			lease_left: self.book.lease(&channel.id).map_or(0, |lease| lease.blocks_left(height, now)),
			opened_at: channel.opened_at,
			used_at: channel.used_at,
			told_at: None,
		})
		.collect()
	}

	/// The accounts of wallet and channels are what there is, to the millisatoshi, and all together are zero.
	pub(super) fn check_books(&self) {
		let books = self.book.books();
		assert_eq!(books.balance(Account::Wallet), self.coins, "the wallet's account");
		for channel in self.channels.values().filter(|channel| channel.open) {
			assert_eq!(books.balance(Account::Channel(channel.id)), channel.ours, "a channel's account");
		}
		assert_eq!(books.balance(Account::Channel(UPSTREAM)), self.upstream, "the account of the rest of the network");
		let all: i64 = books.balances().values().sum();
		assert_eq!(all, 0, "all accounts together");
	}
}
