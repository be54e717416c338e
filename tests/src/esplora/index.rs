//! What Esplora knows and bitcoind does not tell: which transactions touch a script, and who spends an output.
//!
//! Everything is in memory, the whole (regtest) chain included. A transaction is either at a place in the best chain
//! or in the mempool; one that leaves both is forgotten.

use crate::{Rpc, RpcError};
use bitcoin::consensus::{Decodable, deserialize};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::hex::FromHex;
use bitcoin::{Amount, Block, BlockHash, OutPoint, Script, Transaction, TxOut, Txid, block};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap, HashSet};

/// How often a refresh starts again because bitcoind moved on meanwhile.
const MAX_REFRESH_ATTEMPTS: usize = 20;

/// The index.
#[derive(Default)]
pub(crate) struct Index {
	blocks: Vec<Indexed>,
	heights: HashMap<BlockHash, u32>,
	txs: HashMap<Txid, Entry>,
	scripts: HashMap<sha256::Hash, HashSet<Txid>>,
	spends: HashMap<OutPoint, (Txid, u32)>,
	mempool: BTreeSet<Txid>,
	arrivals: u64,
}

/// A block of the best chain.
pub(crate) struct Indexed {
	pub(crate) hash: BlockHash,
	pub(crate) block: Block,
	pub(crate) txids: Vec<Txid>,
}

/// A transaction.
pub(crate) struct Entry {
	pub(crate) tx: Transaction,
	pub(crate) place: Option<Place>,
	/// Counts up: the order in which mempool transactions were seen.
	pub(crate) arrival: u64,
	scripts: Vec<sha256::Hash>,
}

/// Where in the best chain a transaction is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
	pub(crate) height: u32,
	pub(crate) pos: usize,
}

#[derive(Deserialize)]
struct MempoolSnapshot {
	txids: Vec<Txid>,
}

/// How a script is named in Esplora's paths.
pub(crate) fn script_hash(script: &Script) -> sha256::Hash {
	sha256::Hash::hash(script.as_bytes())
}

impl Index {
	/// Catches up with bitcoind's best chain, less the newest `lag` blocks, and with its mempool.
	///
	/// # Errors
	/// bitcoind's; the index is then as it was or in part newer, and the next refresh repairs it.
	pub(crate) async fn refresh(&mut self, rpc: &Rpc, lag: u32) -> Result<(), RpcError> {
		for _ in 0..MAX_REFRESH_ATTEMPTS {
			let best: BlockHash = parsed(rpc, "getbestblockhash", json!([])).await?;
			let snapshot: MempoolSnapshot = parsed(rpc, "getrawmempool", json!([false, true])).await?;
			let still: BlockHash = parsed(rpc, "getbestblockhash", json!([])).await?;
			if best != still {
				continue;
			}
			let (target, withheld) = step_back(rpc, best, lag).await?;
			self.follow(rpc, target).await?;
			let mut wanted: Vec<(Txid, Option<Transaction>)> =
				withheld.into_iter().map(|tx| (tx.compute_txid(), Some(tx))).collect();
			wanted.extend(snapshot.txids.into_iter().map(|txid| (txid, None)));
			match self.set_mempool(rpc, wanted).await {
				// One of them left the mempool since the snapshot.
				Err(RpcError::Refused { .. }) => continue,
				done => return done,
			}
		}
		Err(garbled("it moves on faster than it can be followed"))
	}

	/// Makes `target` the tip: disconnects what is not below it, connects what is missing.
	async fn follow(&mut self, rpc: &Rpc, target: BlockHash) -> Result<(), RpcError> {
		let mut missing = Vec::new();
		let mut cursor = target;
		let fork = loop {
			if let Some(height) = self.heights.get(&cursor) {
				break Some(*height);
			}
			if cursor == BlockHash::all_zeros() {
				break None;
			}
			let block: Block = decoded(rpc, "getblock", json!([cursor, 0])).await?;
			let previous = block.header.prev_blockhash;
			missing.push((cursor, block));
			cursor = previous;
		};
		let keep = fork.map_or(0, |height| height as usize + 1);
		while self.blocks.len() > keep {
			self.disconnect();
		}
		for (hash, block) in missing.into_iter().rev() {
			self.connect(hash, block);
		}
		Ok(())
	}

	fn disconnect(&mut self) {
		if let Some(gone) = self.blocks.pop() {
			self.heights.remove(&gone.hash);
			for txid in gone.txids {
				if let Some(entry) = self.txs.get_mut(&txid) {
					entry.place = None;
				}
				self.mempool.insert(txid);
			}
		}
	}

	fn connect(&mut self, hash: BlockHash, block: Block) {
		let height = self.blocks.len() as u32;
		let txids: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
		for (pos, (txid, tx)) in txids.iter().zip(&block.txdata).enumerate() {
			self.mempool.remove(txid);
			self.insert(*txid, tx, Some(Place { height, pos }));
		}
		self.heights.insert(hash, height);
		self.blocks.push(Indexed { hash, block, txids });
	}

	/// Makes `wanted`, parents first, the mempool; what is not given is fetched.
	async fn set_mempool(&mut self, rpc: &Rpc, wanted: Vec<(Txid, Option<Transaction>)>) -> Result<(), RpcError> {
		let names: HashSet<Txid> = wanted.iter().map(|(txid, _)| *txid).collect();
		let gone: Vec<Txid> = self.mempool.iter().filter(|txid| !names.contains(*txid)).copied().collect();
		for txid in gone {
			self.forget(txid);
		}
		for (txid, tx) in wanted {
			if self.txs.contains_key(&txid) {
				continue;
			}
			let tx = match tx {
				Some(tx) => tx,
				None => decoded(rpc, "getrawtransaction", json!([txid])).await?,
			};
			self.insert(txid, &tx, None);
			self.mempool.insert(txid);
		}
		Ok(())
	}

	fn insert(&mut self, txid: Txid, tx: &Transaction, place: Option<Place>) {
		for (vin, input) in tx.input.iter().enumerate() {
			self.spends.insert(input.previous_output, (txid, vin as u32));
		}
		if let Some(entry) = self.txs.get_mut(&txid) {
			entry.place = place;
			return;
		}
		let spent = tx.input.iter().filter_map(|input| self.output(&input.previous_output));
		let scripts: Vec<sha256::Hash> =
			spent.chain(&tx.output).map(|output| script_hash(&output.script_pubkey)).collect();
		for script in &scripts {
			self.scripts.entry(*script).or_default().insert(txid);
		}
		self.arrivals += 1;
		self.txs.insert(txid, Entry { tx: tx.clone(), place, arrival: self.arrivals, scripts });
	}

	fn forget(&mut self, txid: Txid) {
		self.mempool.remove(&txid);
		let Some(entry) = self.txs.remove(&txid) else { return };
		for input in &entry.tx.input {
			// A transaction in a block may have taken its place.
			if self.spends.get(&input.previous_output).is_some_and(|(spender, _)| *spender == txid) {
				self.spends.remove(&input.previous_output);
			}
		}
		for script in entry.scripts {
			if let Some(history) = self.scripts.get_mut(&script) {
				history.remove(&txid);
			}
		}
	}

	/// The block at this height.
	pub(crate) fn block(&self, height: u32) -> Option<&Indexed> {
		self.blocks.get(height as usize)
	}

	/// The height of a block of the best chain.
	pub(crate) fn height_of(&self, hash: &BlockHash) -> Option<u32> {
		self.heights.get(hash).copied()
	}

	/// The height of the best chain; `None` before the first refresh.
	pub(crate) fn tip(&self) -> Option<u32> {
		self.blocks.len().checked_sub(1).map(|height| height as u32)
	}

	/// A transaction of the chain or the mempool.
	pub(crate) fn tx(&self, txid: &Txid) -> Option<&Entry> {
		self.txs.get(txid)
	}

	/// An output of a transaction of the chain or the mempool, spent or not.
	pub(crate) fn output(&self, outpoint: &OutPoint) -> Option<&TxOut> {
		self.txs.get(&outpoint.txid)?.tx.output.get(outpoint.vout as usize)
	}

	/// Who spends an output, and with which of its inputs.
	pub(crate) fn spender(&self, outpoint: &OutPoint) -> Option<(Txid, u32)> {
		self.spends.get(outpoint).copied()
	}

	/// What the miner gets; 0 for a coinbase.
	pub(crate) fn fee(&self, tx: &Transaction) -> Amount {
		if tx.is_coinbase() {
			return Amount::ZERO;
		}
		let paid: Amount = tx.input.iter().filter_map(|i| self.output(&i.previous_output)).map(|o| o.value).sum();
		let received: Amount = tx.output.iter().map(|output| output.value).sum();
		paid.checked_sub(received).unwrap_or(Amount::ZERO)
	}

	/// The transactions of the mempool, the one seen last first.
	pub(crate) fn mempool(&self) -> Vec<(&Txid, &Entry)> {
		newest_first(self.mempool.iter().filter_map(|txid| self.txs.get_key_value(txid)))
	}

	/// The transactions in the mempool that touch a script, newest first.
	pub(crate) fn unconfirmed(&self, script: &sha256::Hash) -> Vec<(&Txid, &Entry)> {
		newest_first(self.history(script).filter(|(_, entry)| entry.place.is_none()))
	}

	/// The transactions in the chain that touch a script, newest first.
	pub(crate) fn confirmed(&self, script: &sha256::Hash) -> Vec<(&Txid, &Entry)> {
		newest_first(self.history(script).filter(|(_, entry)| entry.place.is_some()))
	}

	fn history(&self, script: &sha256::Hash) -> impl Iterator<Item = (&Txid, &Entry)> {
		let txids = self.scripts.get(script).into_iter().flatten();
		txids.filter_map(|txid| self.txs.get_key_value(txid))
	}

	/// The median time of the eleven blocks up to this height.
	pub(crate) fn median_time(&self, height: u32) -> u32 {
		let last = height as usize + 1;
		let headers = self.blocks[last.saturating_sub(11)..last].iter().map(|indexed| indexed.block.header);
		let mut times: Vec<u32> = headers.map(|header: block::Header| header.time).collect();
		times.sort_unstable();
		times[times.len() / 2]
	}
}

fn newest_first<'a>(entries: impl Iterator<Item = (&'a Txid, &'a Entry)>) -> Vec<(&'a Txid, &'a Entry)> {
	let mut entries: Vec<_> = entries.collect();
	entries.sort_by_key(|(_, entry)| std::cmp::Reverse((entry.place, entry.arrival)));
	entries
}

/// Goes `lag` blocks back from `best`: the block there, and the transactions that wait in a mempool at that point.
async fn step_back(rpc: &Rpc, best: BlockHash, lag: u32) -> Result<(BlockHash, Vec<Transaction>), RpcError> {
	let mut target = best;
	let mut withheld: Vec<Vec<Transaction>> = Vec::new();
	for _ in 0..lag {
		let block: Block = decoded(rpc, "getblock", json!([target, 0])).await?;
		if block.header.prev_blockhash == BlockHash::all_zeros() {
			break;
		}
		target = block.header.prev_blockhash;
		withheld.push(block.txdata.into_iter().filter(|tx| !tx.is_coinbase()).collect());
	}
	Ok((target, withheld.into_iter().rev().flatten().collect()))
}

fn garbled(why: &str) -> RpcError {
	RpcError::Garbled { status: 200, body: why.to_owned() }
}

/// Calls a method whose result is a string of hex, and decodes that.
async fn decoded<T: Decodable>(rpc: &Rpc, method: &str, params: Value) -> Result<T, RpcError> {
	let answer = rpc.call(method, params).await?;
	let bytes = answer.as_str().and_then(|hex| Vec::from_hex(hex).ok());
	bytes.and_then(|bytes| deserialize(&bytes).ok()).ok_or_else(|| garbled("it is no hex of what was asked for"))
}

/// Calls a method whose result parses as `T`.
async fn parsed<T: DeserializeOwned>(rpc: &Rpc, method: &str, params: Value) -> Result<T, RpcError> {
	serde_json::from_value(rpc.call(method, params).await?).map_err(|e| garbled(&e.to_string()))
}
