//! bitcoind's mempool, as far as it is ours: new transactions are fetched once, vanished ones are taken for evicted.

use super::super::broadcast::Broadcaster;
use super::super::wallet::Wallet;
use super::rpc::{Rpc, RpcError};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use serde_json::{Value, json};
use std::collections::{HashSet, VecDeque};
use std::str::FromStr;

/// Transactions remembered; the largest default mempool holds fewer.
const MAX_SEEN: usize = 500_000;
/// Transactions fetched in one request, and in one look; the rest waits, new ones before old.
const BATCH: usize = 100;
const MAX_FETCHED: usize = 1_000;
/// Previous outputs looked up in one look, for the feerate of payments to us.
const MAX_PREVOUTS: usize = 20;

/// What was seen so far.
#[derive(Default)]
pub(super) struct Mempool {
	seen: HashSet<Txid>,
	backlog: VecDeque<Txid>,
	asked: HashSet<OutPoint>,
}

impl Mempool {
	pub(super) async fn look(&mut self, rpc: &Rpc, wallet: &Wallet, broadcaster: &Broadcaster) -> Result<(), RpcError> {
		let names = rpc.call("getrawmempool", json!([])).await?;
		let names = names.as_array().ok_or_else(|| RpcError::Answer("the mempool is not a list".into()))?;
		let present: HashSet<Txid> = names.iter().filter_map(|name| Txid::from_str(name.as_str()?).ok()).collect();
		broadcaster.saw_mempool(|txid| present.contains(txid));
		self.seen.retain(|txid| present.contains(txid));
		self.backlog.retain(|txid| present.contains(txid));
		for txid in &present {
			if self.seen.len() < MAX_SEEN && self.seen.insert(*txid) {
				self.backlog.push_front(*txid);
			}
		}
		let fetched = self.fetch(rpc).await?;
		wallet.saw_unconfirmed(fetched);
		wallet.saw_mempool(|txid| present.contains(txid));
		self.learn_prevouts(rpc, wallet).await
	}

	/// What could not be fetched stays in the backlog.
	async fn fetch(&mut self, rpc: &Rpc) -> Result<Vec<Transaction>, RpcError> {
		let mut fetched = Vec::new();
		while fetched.len() < MAX_FETCHED && !self.backlog.is_empty() {
			let wanted: Vec<Txid> = self.backlog.iter().take(BATCH).copied().collect();
			let params: Vec<Value> = wanted.iter().map(|txid| json!([txid])).collect();
			let answers = rpc.batch("getrawtransaction", &params).await?;
			self.backlog.drain(..wanted.len());
			// One that is gone by now was mined or evicted: not ours to care for.
			let txs = answers.into_iter().filter_map(|answer| deserialize_hex(answer.ok()?.as_str()?).ok());
			fetched.extend(txs);
		}
		Ok(fetched)
	}

	/// Without the outputs that a payment spends, its fee cannot be computed.
	async fn learn_prevouts(&mut self, rpc: &Rpc, wallet: &Wallet) -> Result<(), RpcError> {
		let missing: HashSet<OutPoint> = wallet.missing_prevouts().into_iter().collect();
		self.asked.retain(|outpoint| missing.contains(outpoint));
		for outpoint in missing.into_iter().filter(|o| !self.asked.contains(o)).take(MAX_PREVOUTS).collect::<Vec<_>>() {
			self.asked.insert(outpoint);
			if let Some(output) = prevout(rpc, outpoint).await? {
				wallet.learn_prevout(outpoint, output);
			}
		}
		Ok(())
	}
}

/// From the set of unspent outputs as if the mempool were empty, or from a parent in the mempool.
async fn prevout(rpc: &Rpc, outpoint: OutPoint) -> Result<Option<TxOut>, RpcError> {
	let found = rpc.call("gettxout", json!([outpoint.txid, outpoint.vout, false])).await?;
	if let Some(output) = parse_output(&found) {
		return Ok(Some(output));
	}
	match rpc.call("getrawtransaction", json!([outpoint.txid])).await {
		Ok(hex) => {
			let parent: Option<Transaction> = hex.as_str().and_then(|hex| deserialize_hex(hex).ok());
			Ok(parent.and_then(|parent| parent.output.get(outpoint.vout as usize).cloned()))
		}
		Err(RpcError::Refused { .. }) => Ok(None),
		Err(e) => Err(e),
	}
}

fn parse_output(output: &Value) -> Option<TxOut> {
	let value = Amount::from_btc(output["value"].as_f64()?).ok()?;
	let script_pubkey = ScriptBuf::from_hex(output["scriptPubKey"]["hex"].as_str()?).ok()?;
	Some(TxOut { value, script_pubkey })
}
