//! One block, many listeners; and how monitors survive a reorganisation that they did not all see.
//!
//! `ChainMonitor` passes `blocks_disconnected` to every monitor, and a monitor that stands at or below the fork asserts
//! that this cannot be. It can: monitors are persisted at different heights, and a new one may miss a block. So monitors
//! are taken back by the rules of `Confirm`, which allow for that; the manager and the sweeper, by those of `Listen`.

use super::super::broadcast::Broadcaster;
use super::super::wallet::Wallet;
use super::{Listeners, Node};
use bitcoin::Block;
use bitcoin::block::Header;
use lightning::chain::transaction::TransactionData;
use lightning::chain::{BlockLocator, Listen};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Headers kept so that monitors can be taken back to one of them.
pub(super) const MAX_RECENT: usize = 144;

/// All that follows the chain block by block.
pub(super) struct FanOut {
	pub(super) listeners: Listeners,
	pub(super) broadcaster: Arc<Broadcaster>,
	recent: Mutex<BTreeMap<u32, Header>>,
}

impl FanOut {
	pub(super) fn new(listeners: Listeners, broadcaster: Arc<Broadcaster>, recent: BTreeMap<u32, Header>) -> FanOut {
		FanOut { listeners, broadcaster, recent: Mutex::new(recent) }
	}

	fn recent(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, Header>> {
		self.recent.lock().expect("no code panics while it holds this lock")
	}
}

impl Listen for FanOut {
	/// The manager goes first: a channel that is born in between then has a monitor that sees this block twice, which
	/// is harmless, instead of never.
	fn block_connected(&self, block: &Block, height: u32) {
		self.listeners.manager.block_connected(block, height);
		self.listeners.monitors.block_connected(block, height);
		self.listeners.sweeper.block_connected(block, height);
		self.listeners.wallet.block_connected(block, height);
		self.broadcaster.block_connected(&block.txdata, height);
		let mut recent = self.recent();
		recent.insert(height, block.header);
		while recent.len() > MAX_RECENT {
			recent.pop_first();
		}
	}

	fn filtered_block_connected(&self, header: &Header, txdata: &TransactionData, height: u32) {
		let txdata = txdata.iter().map(|(_, tx)| (*tx).clone()).collect();
		self.block_connected(&Block { header: *header, txdata }, height);
	}

	fn blocks_disconnected(&self, fork: BlockLocator) {
		tracing::info!(height = fork.height, hash = %fork.block_hash, "the chain is reorganised: back to this block");
		let header = {
			let mut recent = self.recent();
			recent.split_off(&(fork.height + 1));
			recent.get(&fork.height).copied().filter(|header| header.block_hash() == fork.block_hash)
		};
		self.listeners.manager.blocks_disconnected(fork);
		match header {
			Some(header) => take_back(self.listeners.monitors.as_ref(), &header, fork.height),
			None => self.listeners.monitors.blocks_disconnected(fork),
		}
		self.listeners.sweeper.blocks_disconnected(fork);
		self.listeners.wallet.blocks_disconnected(fork);
		self.broadcaster.blocks_disconnected(fork.height);
	}
}

/// Takes all monitors back to a block, wherever each of them stands.
pub(super) fn take_back(monitors: &dyn Node, header: &Header, height: u32) {
	for (txid, confirmed_at, _) in monitors.get_relevant_txids() {
		if confirmed_at > height {
			monitors.transaction_unconfirmed(&txid);
		}
	}
	monitors.best_block_updated(header, height);
}

/// A listener of its own in the first synchronisation.
pub(super) enum Leg {
	Node(Arc<dyn Node>),
	/// The monitors, and the block at which they have arrived. `ChainMonitor` writes a whole monitor for each fiftieth new best
	/// block, and what is caught up with is often fifty blocks or more: by the rules of `Confirm` they are told of the
	/// transactions first and of the best block once, and a start does not write them all.
	Monitors(Arc<dyn Node>, Mutex<Option<(Header, u32)>>),
	Wallet(Arc<Wallet>, Arc<Broadcaster>),
}

impl Leg {
	/// There are no more blocks.
	pub(super) fn arrived(&self) {
		let Leg::Monitors(monitors, last) = self else { return };
		if let Some((header, height)) = *last.lock().expect("no code panics while it holds this lock") {
			monitors.best_block_updated(&header, height);
		}
	}
}

impl Listen for Leg {
	fn block_connected(&self, block: &Block, height: u32) {
		match self {
			Leg::Node(node) => node.block_connected(block, height),
			Leg::Monitors(monitors, last) => {
				let txdata: Vec<_> = block.txdata.iter().enumerate().collect();
				monitors.transactions_confirmed(&block.header, &txdata, height);
				*last.lock().expect("no code panics while it holds this lock") = Some((block.header, height));
			}
			Leg::Wallet(wallet, broadcaster) => {
				wallet.block_connected(block, height);
				broadcaster.block_connected(&block.txdata, height);
			}
		}
	}

	fn filtered_block_connected(&self, header: &Header, txdata: &TransactionData, height: u32) {
		let txdata = txdata.iter().map(|(_, tx)| (*tx).clone()).collect();
		self.block_connected(&Block { header: *header, txdata }, height);
	}

	fn blocks_disconnected(&self, fork: BlockLocator) {
		match self {
			Leg::Node(node) | Leg::Monitors(node, _) => node.blocks_disconnected(fork),
			Leg::Wallet(wallet, broadcaster) => {
				wallet.blocks_disconnected(fork);
				broadcaster.blocks_disconnected(fork.height);
			}
		}
	}
}

#[cfg(test)]
mod tests {
	use super::super::super::testing::Bench;
	use super::*;
	use bitcoin::hashes::Hash;
	use bitcoin::{BlockHash, CompactTarget, TxMerkleNode, Txid, block::Version};
	use lightning::chain::Confirm;

	/// As strict as LDK: a panic where LDK has an assertion.
	struct Strict(Mutex<BlockLocator>);

	impl Listen for Strict {
		fn filtered_block_connected(&self, header: &Header, _txdata: &TransactionData, height: u32) {
			let mut best = self.0.lock().unwrap();
			assert!(height <= best.height || best.block_hash == header.prev_blockhash);
			best.update_for_new_tip(header.block_hash(), height);
		}

		fn blocks_disconnected(&self, fork: BlockLocator) {
			let mut best = self.0.lock().unwrap();
			assert!(best.height > fork.height, "disconnected to where it stands, or above");
			*best = fork;
		}
	}

	impl Confirm for Strict {
		fn transactions_confirmed(&self, _header: &Header, _txdata: &TransactionData, _height: u32) {}
		fn transaction_unconfirmed(&self, _txid: &Txid) {}
		fn best_block_updated(&self, header: &Header, height: u32) {
			*self.0.lock().unwrap() = BlockLocator::new(header.block_hash(), height);
		}
		fn get_relevant_txids(&self) -> Vec<(Txid, u32, Option<BlockHash>)> {
			Vec::new()
		}
	}

	fn block(previous: BlockHash, nonce: u32) -> Block {
		let bits = CompactTarget::from_consensus(0x207f_ffff);
		let merkle_root = TxMerkleNode::all_zeros();
		let header = Header { version: Version::TWO, prev_blockhash: previous, merkle_root, time: nonce, bits, nonce };
		Block { header, txdata: Vec::new() }
	}

	#[tokio::test]
	async fn a_monitor_that_stands_at_the_fork_survives_it() {
		let bench = Bench::new().await;
		let genesis = BlockLocator::from_network(bitcoin::Network::Regtest);
		let node = || Arc::new(Strict(Mutex::new(genesis)));
		let (manager, monitors, sweeper) = (node(), node(), node());
		let listeners = Listeners {
			manager: Arc::clone(&manager) as Arc<dyn Node>,
			monitors: Arc::clone(&monitors) as Arc<dyn Node>,
			sweeper: Arc::clone(&sweeper) as Arc<dyn Node>,
			wallet: Arc::clone(&bench.wallet),
			from: Vec::new(),
		};
		let fan_out = FanOut::new(listeners, Arc::clone(&bench.broadcaster), BTreeMap::new());
		let first = block(genesis.block_hash, 1);
		let (stale, second) = (block(first.block_hash(), 2), block(first.block_hash(), 3));
		fan_out.block_connected(&first, 1);
		fan_out.block_connected(&stale, 2);
		// A monitor that missed the stale block.
		let fork = BlockLocator::new(first.block_hash(), 1);
		*monitors.0.lock().unwrap() = fork;
		fan_out.blocks_disconnected(fork);
		fan_out.block_connected(&second, 2);
		for node in [manager, monitors, sweeper] {
			assert_eq!(node.0.lock().unwrap().block_hash, second.block_hash());
		}
		assert_eq!(bench.wallet.best_block().block_hash, second.block_hash());
	}
}
