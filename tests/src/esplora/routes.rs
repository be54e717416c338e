//! The paths of Esplora's HTTP API.

use super::index::{Entry, Index, Indexed, script_hash};
use super::{Shared, json};
use crate::{Rpc, RpcError};
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bitcoin::address::NetworkUnchecked;
use bitcoin::consensus::encode::{serialize, serialize_hex};
use bitcoin::hashes::sha256;
use bitcoin::{Address, BlockHash, OutPoint, Txid};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::{Mutex, MutexGuard};

/// Confirmed transactions on a page.
const CHAIN_PAGE: usize = 25;
/// Mempool transactions on the first page of a script's history.
const MEMPOOL_PAGE: usize = 50;
/// Blocks on a page.
const BLOCKS_PAGE: u32 = 10;

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Esplora {
	pub(super) rpc: Rpc,
	pub(super) index: Arc<Mutex<Index>>,
	pub(super) shared: Arc<Shared>,
}

/// An answer that is not 200.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
	fn into_response(self) -> Response {
		(self.0, self.1).into_response()
	}
}

impl From<RpcError> for Refusal {
	fn from(e: RpcError) -> Refusal {
		Refusal(StatusCode::SERVICE_UNAVAILABLE, e.to_string())
	}
}

type Answer = Result<Response, Refusal>;

fn not_found(what: &str) -> Refusal {
	Refusal(StatusCode::NOT_FOUND, format!("{what} not found"))
}

fn bad_request(why: impl Into<String>) -> Refusal {
	Refusal(StatusCode::BAD_REQUEST, why.into())
}

fn text(answer: impl ToString) -> Answer {
	Ok(answer.to_string().into_response())
}

fn object(answer: Value) -> Answer {
	Ok(axum::Json(answer).into_response())
}

fn bytes(answer: Vec<u8>) -> Answer {
	Ok(([(header::CONTENT_TYPE, "application/octet-stream")], answer).into_response())
}

/// The routes.
pub(super) fn router(esplora: Esplora) -> Router {
	Router::new()
		.route("/blocks", get(|s| blocks(s, None)))
		.route("/blocks/tip/height", get(tip_height))
		.route("/blocks/tip/hash", get(tip_hash))
		.route("/blocks/{start}", get(|s, Path(start): Path<u32>| blocks(s, Some(start))))
		.route("/block-height/{height}", get(block_height))
		.route("/block/{hash}", get(|s, Path(hash): Path<BlockHash>| block(s, hash, BlockPart::Info)))
		.route("/block/{hash}/{part}", get(block_part))
		.route("/block/{hash}/txid/{pos}", get(block_txid))
		.route(
			"/block/{hash}/txs/{start}",
			get(|s, Path((hash, start)): Path<(BlockHash, usize)>| block_txs(s, hash, start)),
		)
		.route("/tx", post(broadcast))
		.route("/tx/{txid}", get(tx))
		.route("/tx/{txid}/{part}", get(tx_part))
		.route("/tx/{txid}/outspend/{vout}", get(outspend))
		.route("/txs/package", post(package))
		.route("/{kind}/{name}", get(|s, p: Path<(String, String)>| script(s, (p.0.0, p.0.1, String::new()))))
		.route("/{kind}/{name}/utxo", get(|s, p: Path<(String, String)>| script(s, (p.0.0, p.0.1, "utxo".to_owned()))))
		.route("/{kind}/{name}/txs", get(|s, p: Path<(String, String)>| script(s, (p.0.0, p.0.1, "txs".to_owned()))))
		.route("/{kind}/{name}/txs/{part}", get(|s, p: Path<(String, String, String)>| script(s, p.0)))
		.route("/{kind}/{name}/txs/chain/{last}", get(script_chain))
		.route("/mempool", get(mempool))
		.route("/mempool/txids", get(mempool_txids))
		.route("/mempool/recent", get(mempool_recent))
		.route("/fee-estimates", get(fee_estimates))
		.with_state(esplora)
}

impl Esplora {
	/// The index, caught up with bitcoind.
	async fn fresh(&self) -> Result<MutexGuard<'_, Index>, Refusal> {
		let mut index = self.index.lock().await;
		index.refresh(&self.rpc, self.shared.lag()).await?;
		Ok(index)
	}
}

fn find_block<'a>(index: &'a Index, hash: &BlockHash) -> Result<(u32, &'a Indexed), Refusal> {
	let height = index.height_of(hash).ok_or_else(|| not_found("Block"))?;
	let block = index.block(height).ok_or_else(|| not_found("Block"))?;
	Ok((height, block))
}

fn find_tx<'a>(index: &'a Index, txid: &Txid) -> Result<&'a Entry, Refusal> {
	index.tx(txid).ok_or_else(|| not_found("Transaction"))
}

async fn tip_height(State(esplora): State<Esplora>) -> Answer {
	text(esplora.fresh().await?.tip().ok_or_else(|| not_found("Block"))?)
}

async fn tip_hash(State(esplora): State<Esplora>) -> Answer {
	let index = esplora.fresh().await?;
	let tip = index.tip().and_then(|height| index.block(height)).ok_or_else(|| not_found("Block"))?;
	text(tip.hash)
}

async fn block_height(State(esplora): State<Esplora>, Path(height): Path<u32>) -> Answer {
	let index = esplora.fresh().await?;
	text(index.block(height).ok_or_else(|| not_found("Block"))?.hash)
}

async fn blocks(State(esplora): State<Esplora>, start: Option<u32>) -> Answer {
	let index = esplora.fresh().await?;
	let tip = index.tip().ok_or_else(|| not_found("Block"))?;
	let last = start.unwrap_or(tip).min(tip);
	let heights = (0..=last).rev().take(BLOCKS_PAGE as usize);
	let page = heights.filter_map(|height| index.block(height).map(|block| json::block(&index, height, block)));
	object(Value::Array(page.collect()))
}

enum BlockPart {
	Info,
	Header,
	Raw,
	Txids,
}

async fn block_part(esplora: State<Esplora>, Path((hash, part)): Path<(BlockHash, String)>) -> Answer {
	match part.as_str() {
		"header" => block(esplora, hash, BlockPart::Header).await,
		"raw" => block(esplora, hash, BlockPart::Raw).await,
		"txids" => block(esplora, hash, BlockPart::Txids).await,
		"txs" => block_txs(esplora, hash, 0).await,
		"status" => block_status(esplora, hash).await,
		_ => Err(not_found("Path")),
	}
}

async fn block(State(esplora): State<Esplora>, hash: BlockHash, part: BlockPart) -> Answer {
	let index = esplora.fresh().await?;
	let (height, found) = find_block(&index, &hash)?;
	match part {
		BlockPart::Info => object(json::block(&index, height, found)),
		BlockPart::Header => text(serialize_hex(&found.block.header)),
		BlockPart::Raw => bytes(serialize(&found.block)),
		BlockPart::Txids => object(json!(found.txids)),
	}
}

/// Unlike the rest, 200 also for a block that is not in the best chain: this is how clients notice a reorg.
async fn block_status(State(esplora): State<Esplora>, hash: BlockHash) -> Answer {
	let index = esplora.fresh().await?;
	let Some(height) = index.height_of(&hash) else {
		return object(json!({ "in_best_chain": false }));
	};
	let next = index.block(height + 1).map(|block| block.hash);
	object(match next {
		Some(next) => json!({ "in_best_chain": true, "height": height, "next_best": next }),
		None => json!({ "in_best_chain": true, "height": height }),
	})
}

async fn block_txid(State(esplora): State<Esplora>, Path((hash, pos)): Path<(BlockHash, usize)>) -> Answer {
	let index = esplora.fresh().await?;
	let (_, found) = find_block(&index, &hash)?;
	text(found.txids.get(pos).ok_or_else(|| not_found("Transaction"))?)
}

async fn block_txs(State(esplora): State<Esplora>, hash: BlockHash, start: usize) -> Answer {
	if !start.is_multiple_of(CHAIN_PAGE) {
		return Err(bad_request(format!("start index must be a multiple of {CHAIN_PAGE}")));
	}
	let index = esplora.fresh().await?;
	let (_, found) = find_block(&index, &hash)?;
	if start >= found.txids.len() {
		return Err(bad_request("start index out of range"));
	}
	page(&index, found.txids.iter().skip(start).filter_map(|txid| index.tx(txid).map(|entry| (txid, entry))))
}

fn page<'a>(index: &Index, entries: impl Iterator<Item = (&'a Txid, &'a Entry)>) -> Answer {
	object(Value::Array(entries.take(CHAIN_PAGE).map(|(txid, entry)| json::tx(index, txid, entry)).collect()))
}

async fn tx(State(esplora): State<Esplora>, Path(txid): Path<Txid>) -> Answer {
	let index = esplora.fresh().await?;
	object(json::tx(&index, &txid, find_tx(&index, &txid)?))
}

async fn tx_part(State(esplora): State<Esplora>, Path((txid, part)): Path<(Txid, String)>) -> Answer {
	let index = esplora.fresh().await?;
	if part == "status" {
		return object(json::tx_status(&index, &txid));
	}
	let entry = find_tx(&index, &txid)?;
	let place = || entry.place.ok_or_else(|| not_found("Transaction or confirmation"));
	let block = |height| index.block(height).ok_or_else(|| not_found("Block"));
	match part.as_str() {
		"raw" => bytes(serialize(&entry.tx)),
		"hex" => text(serialize_hex(&entry.tx)),
		"merkle-proof" => object(json::merkle_proof(place()?.height, block(place()?.height)?, place()?.pos)),
		"merkleblock-proof" => text(json::merkle_block(block(place()?.height)?, &txid)),
		"outspends" => {
			let outpoints = (0..entry.tx.output.len() as u32).map(|vout| OutPoint { txid, vout });
			object(Value::Array(outpoints.map(|outpoint| json::outspend(&index, &outpoint)).collect()))
		}
		_ => Err(not_found("Path")),
	}
}

async fn outspend(State(esplora): State<Esplora>, Path((txid, vout)): Path<(Txid, u32)>) -> Answer {
	let index = esplora.fresh().await?;
	object(json::outspend(&index, &OutPoint { txid, vout }))
}

async fn broadcast(State(esplora): State<Esplora>, hex: String) -> Answer {
	match esplora.rpc.call("sendrawtransaction", json!([hex.trim()])).await {
		Ok(txid) => text(txid.as_str().unwrap_or_default()),
		Err(RpcError::Refused { code, message, .. }) => {
			let error = json!({ "code": code, "message": message });
			Err(bad_request(format!("sendrawtransaction RPC error: {error}")))
		}
		Err(e) => Err(e.into()),
	}
}

#[derive(Deserialize)]
struct PackageLimits {
	/// In sat/vB.
	maxfeerate: Option<f64>,
	/// In BTC.
	maxburnamount: Option<f64>,
}

async fn package(State(esplora): State<Esplora>, Query(limits): Query<PackageLimits>, body: String) -> Answer {
	let hexes: Vec<String> = serde_json::from_str(&body).map_err(|e| bad_request(format!("Invalid JSON: {e}")))?;
	let mut params = vec![json!(hexes)];
	if limits.maxfeerate.is_some() || limits.maxburnamount.is_some() {
		// bitcoind wants BTC/kvB.
		params.push(json!(limits.maxfeerate.map_or(0.1, |sat_per_vb| sat_per_vb / 100_000.0)));
		params.extend(limits.maxburnamount.map(|btc| json!(btc)));
	}
	match esplora.rpc.call("submitpackage", json!(params)).await {
		Ok(result) => object(result),
		Err(RpcError::Refused { code, message, .. }) => {
			let error = json!({ "code": code, "message": message });
			Err(bad_request(format!("submitpackage RPC error: {error}")))
		}
		Err(e) => Err(e.into()),
	}
}

/// What `scripthash/HASH` or `address/ADDRESS` names.
fn parse_script(kind: &str, name: &str) -> Result<sha256::Hash, Refusal> {
	match kind {
		"scripthash" => name.parse().map_err(|_| bad_request("Invalid scripthash")),
		"address" => {
			let address: Address<NetworkUnchecked> =
				name.parse().map_err(|_| bad_request("Invalid Bitcoin address"))?;
			Ok(script_hash(&address.assume_checked().script_pubkey()))
		}
		_ => Err(not_found("Path")),
	}
}

async fn script(State(esplora): State<Esplora>, (kind, name, part): (String, String, String)) -> Answer {
	let script = parse_script(&kind, &name)?;
	let index = esplora.fresh().await?;
	match part.as_str() {
		"" => {
			let mut answer = json!({ kind: name });
			for (field, stats) in json::stats(&index, &script) {
				answer[field] = stats;
			}
			object(answer)
		}
		"utxo" => object(json::utxos(&index, &script)),
		"txs" => {
			let unconfirmed = index.unconfirmed(&script).into_iter().take(MEMPOOL_PAGE);
			let confirmed = index.confirmed(&script).into_iter().take(CHAIN_PAGE);
			let page = unconfirmed.chain(confirmed).map(|(txid, entry)| json::tx(&index, txid, entry));
			object(Value::Array(page.collect()))
		}
		"chain" => page(&index, index.confirmed(&script).into_iter()),
		"mempool" => {
			let newest = index.unconfirmed(&script).into_iter().take(MEMPOOL_PAGE);
			object(Value::Array(newest.map(|(txid, entry)| json::tx(&index, txid, entry)).collect()))
		}
		_ => Err(not_found("Path")),
	}
}

async fn script_chain(
	State(esplora): State<Esplora>,
	Path((kind, name, last)): Path<(String, String, Txid)>,
) -> Answer {
	let script = parse_script(&kind, &name)?;
	let index = esplora.fresh().await?;
	page(&index, index.confirmed(&script).into_iter().skip_while(|(txid, _)| **txid != last).skip(1))
}

async fn mempool(State(esplora): State<Esplora>) -> Answer {
	object(json::mempool(&*esplora.fresh().await?))
}

async fn mempool_txids(State(esplora): State<Esplora>) -> Answer {
	let index = esplora.fresh().await?;
	object(json!(index.mempool().iter().map(|(txid, _)| txid).collect::<Vec<_>>()))
}

async fn mempool_recent(State(esplora): State<Esplora>) -> Answer {
	object(json::mempool_recent(&*esplora.fresh().await?))
}

async fn fee_estimates(State(esplora): State<Esplora>) -> Answer {
	object(json!(esplora.shared.fee_estimates()))
}
