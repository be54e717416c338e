//! A wallet on a real store, fed with hand-made blocks.

use super::broadcast::{Broadcaster, HELD_BACK, NotSent, Outlet};
use super::fees::Fees;
use super::wallet::Wallet;
use bitcoin::absolute::LockTime;
use bitcoin::bip32::Xpriv;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{
	Amount, Block, BlockHash, CompactTarget, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode,
	TxOut, Txid, Witness, transaction,
};
use inlet_storage::Store;
use lightning::chain::Listen;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// Everything below a node's chain side, on a store in a directory of its own.
pub(crate) struct Bench {
	pub dir: TempDir,
	pub store: Store,
	pub broadcaster: Arc<Broadcaster>,
	pub wallet: Arc<Wallet>,
	chain: Mutex<Vec<Block>>,
}

impl Bench {
	pub async fn new() -> Bench {
		let dir = tempfile::tempdir().unwrap();
		Bench::open(dir, Vec::new()).await
	}

	async fn open(dir: TempDir, chain: Vec<Block>) -> Bench {
		let store = Store::open(&dir.path().join("store.db"), |why| panic!("{why}")).unwrap();
		let broadcaster = Broadcaster::open(store.clone()).await.unwrap();
		let xprv = Xpriv::new_master(Network::Regtest, &[7; 32]).unwrap();
		let fees = Arc::new(Fees::new(Network::Regtest));
		let opened = Wallet::open(store.clone(), xprv, Network::Regtest, fees, Arc::clone(&broadcaster)).await;
		Bench { dir, store, broadcaster, wallet: opened.unwrap(), chain: Mutex::new(chain) }
	}

	/// Closes the store and opens everything again.
	pub async fn restart(self) -> Bench {
		let Bench { dir, store, broadcaster, wallet, chain } = self;
		drop((wallet, broadcaster));
		store.close().await;
		Bench::open(dir, chain.into_inner().unwrap()).await
	}

	/// Connects a block with these transactions to wallet and broadcaster.
	pub fn mine(&self, txdata: Vec<Transaction>) {
		let mut chain = self.chain.lock().unwrap();
		let previous = chain.last().map_or_else(genesis, Block::block_hash);
		let height = chain.len() as u32 + 1;
		let block = Block { header: header(previous, height), txdata };
		self.wallet.block_connected(&block, height);
		self.broadcaster.block_connected(&block.txdata, height);
		chain.push(block);
	}

	/// Takes the last block off the chain that the next one is mined on.
	pub fn undo_block(&self) {
		let mut chain = self.chain.lock().unwrap();
		chain.pop();
		self.broadcaster.blocks_disconnected(chain.len() as u32);
	}

	/// Confirmed coins of these values, in one block.
	pub async fn receive(&self, values: &[u64]) {
		let mut txs = Vec::new();
		for &value in values {
			let script = self.wallet.new_address().await.unwrap().script_pubkey();
			txs.push(payment(value, script));
		}
		self.mine(txs);
	}
}

fn genesis() -> BlockHash {
	bitcoin::constants::genesis_block(Network::Regtest).block_hash()
}

fn header(prev_blockhash: BlockHash, height: u32) -> Header {
	static NONCE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
	Header {
		version: Version::TWO,
		prev_blockhash,
		merkle_root: TxMerkleNode::all_zeros(),
		time: height,
		bits: CompactTarget::from_consensus(0x207f_ffff),
		nonce: NONCE.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
	}
}

/// A payment from somebody else; no two are the same.
pub(super) fn payment(value: u64, script_pubkey: ScriptBuf) -> Transaction {
	static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
	let mut id = [0; 32];
	id[..8].copy_from_slice(&NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_le_bytes());
	let previous_output = OutPoint { txid: Txid::from_byte_array(id), vout: 0 };
	spend(&[previous_output], value, script_pubkey)
}

pub(super) fn spend(inputs: &[OutPoint], value: u64, script_pubkey: ScriptBuf) -> Transaction {
	let input = |&previous_output: &OutPoint| TxIn {
		previous_output,
		script_sig: ScriptBuf::new(),
		sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
		witness: Witness::new(),
	};
	Transaction {
		version: transaction::Version::TWO,
		lock_time: LockTime::ZERO,
		input: inputs.iter().map(input).collect(),
		output: vec![TxOut { value: Amount::from_sat(value), script_pubkey }],
	}
}

/// A backend that answers as told, then yes, and remembers what it was sent.
#[derive(Default)]
pub(super) struct Recorder {
	pub answers: Mutex<VecDeque<Result<(), NotSent>>>,
	pub sent: Mutex<Vec<Vec<Txid>>>,
}

impl Recorder {
	pub fn answering(answers: impl IntoIterator<Item = Result<(), NotSent>>) -> Recorder {
		Recorder { answers: Mutex::new(answers.into_iter().collect()), sent: Mutex::default() }
	}

	pub fn take(&self) -> Vec<Vec<Txid>> {
		std::mem::take(&mut self.sent.lock().unwrap())
	}
}

impl Outlet for Recorder {
	async fn submit(&self, package: &[Transaction]) -> Result<(), NotSent> {
		self.sent.lock().unwrap().push(package.iter().map(Transaction::compute_txid).collect());
		self.answers.lock().unwrap().pop_front().unwrap_or(Ok(()))
	}

	async fn has(&self, _: &[Transaction]) -> Result<(), NotSent> {
		let nothing = || Err(NotSent::Refused(HELD_BACK.to_owned()));
		self.answers.lock().unwrap().pop_front().unwrap_or_else(nothing)
	}
}
