//! The chain as a thin node sees it: bitcoind's blocks, constant fees, and a broadcaster that sends at once.

use super::Log;
use crate::{Rpc, RpcError};
use anyhow::{Context, Result};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{BlockHash, ScriptBuf, Transaction};
use lightning::chain::chaininterface::{BroadcasterInterface, ConfirmationTarget, FeeEstimator, TransactionType};
use lightning::log_info;
use lightning::util::logger::Logger;
use lightning_block_sync::http::JsonResponse;
use lightning_block_sync::{BlockData, BlockHeaderData, BlockSource, BlockSourceError, BlockSourceResult};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::runtime::Handle;

/// bitcoind as a source of blocks.
pub(super) struct Blocks(pub(super) Rpc);

impl Blocks {
	async fn ask<T>(&self, method: &str, params: Value) -> BlockSourceResult<T>
	where
		JsonResponse: TryInto<T>,
	{
		let answer = self.0.call(method, params).await.map_err(|e| match e {
			RpcError::Refused { .. } => BlockSourceError::persistent(e),
			_ => BlockSourceError::transient(e),
		})?;
		JsonResponse(answer).try_into().map_err(|_| BlockSourceError::persistent(format!("bad answer to {method}")))
	}
}

impl BlockSource for Blocks {
	async fn get_header(&self, hash: &BlockHash, _: Option<u32>) -> BlockSourceResult<BlockHeaderData> {
		self.ask("getblockheader", json!([hash])).await
	}

	async fn get_block(&self, hash: &BlockHash) -> BlockSourceResult<BlockData> {
		Ok(BlockData::FullBlock(self.ask("getblock", json!([hash, 0])).await?))
	}

	async fn get_best_block(&self) -> BlockSourceResult<(BlockHash, Option<u32>)> {
		self.ask("getblockchaininfo", json!([])).await
	}
}

/// Regtest has no fee market: 4 sat/vB, and any feerate of the other side is fine.
pub(super) struct ConstantFees;

/// What is paid, in sat per 1000 weight units.
pub(super) const FEERATE: u32 = 1000;

impl FeeEstimator for ConstantFees {
	fn get_est_sat_per_1000_weight(&self, target: ConfirmationTarget) -> u32 {
		match target {
			ConfirmationTarget::MinAllowedAnchorChannelRemoteFee
			| ConfirmationTarget::MinAllowedNonAnchorChannelRemoteFee
			| ConfirmationTarget::ChannelCloseMinimum => 253,
			ConfirmationTarget::MaximumFeeEstimate => 100_000,
			_ => FEERATE,
		}
	}
}

/// Sends transactions to bitcoind in tasks of their own.
pub(super) struct Broadcaster {
	pub(super) rpc: Rpc,
	pub(super) log: Arc<Log>,
	pub(super) runtime: Handle,
}

impl BroadcasterInterface for Broadcaster {
	fn broadcast_transactions(&self, txs: &[(&Transaction, TransactionType)]) {
		let package: Vec<String> = txs.iter().map(|(tx, _)| serialize_hex(*tx)).collect();
		let (rpc, log) = (self.rpc.clone(), Arc::clone(&self.log));
		self.runtime.spawn(async move {
			let sent = match &package[..] {
				[one] => rpc.call("sendrawtransaction", json!([one])).await,
				_ => rpc.call("submitpackage", json!([package])).await,
			};
			// LDK sends again what is not confirmed, so a refusal is no more than worth knowing.
			log_info!(log, "broadcast {package:?}: {sent:?}");
		});
	}
}

/// Has bitcoind's wallet fund and sign a transaction with this one output, spending segwit coins only, as LDK demands of
/// a funding transaction. What funds it is broadcast, it itself is not.
///
/// # Errors
/// The wallet has too little, or bitcoind is not there.
pub(super) async fn fund(wallet: &Rpc, script: &ScriptBuf, sat: u64) -> Result<Transaction> {
	/// For the miner of the funding transaction, whose size is known.
	const FEE_SAT: u64 = 1_000;
	let text = |value: Value| value.as_str().map(str::to_owned).with_context(|| format!("not a text: {value}"));
	let btc = |sat: u64| format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000);
	let own = text(wallet.call("getnewaddress", json!(["", "bech32"])).await?)?;
	let coin = text(wallet.call("sendtoaddress", json!([own, btc(sat + FEE_SAT)])).await?)?;
	let details = wallet.call("gettransaction", json!([coin])).await?;
	let outputs = details["details"].as_array().context("no details")?;
	let vout =
		outputs.iter().find(|output| output["address"] == own.as_str()).context("no such output")?["vout"].clone();
	let address = bitcoin::Address::from_script(script, bitcoin::Network::Regtest)?.to_string();
	let inputs = json!([{ "txid": coin, "vout": vout }]);
	let raw = wallet.call("createrawtransaction", json!([inputs, [{ address: btc(sat) }]])).await?;
	let signed = wallet.call("signrawtransactionwithwallet", json!([raw])).await?;
	let hex = signed["hex"].as_str().context("not signed")?;
	Ok(bitcoin::consensus::encode::deserialize_hex(hex)?)
}
