//! Bitcoin Core (or Knots) over RPC: whole blocks for LDK and the wallet, the mempool for incoming payments.

use super::super::broadcast::{Broadcaster, HELD_BACK, NotSent, Outlet, is_known_already};
use super::super::fees::Estimates;
use super::super::follow::Mined;
use super::super::wallet::Wallet;
use super::fanout::{FanOut, Leg, take_back};
use super::find;
use super::mempool::Mempool;
use super::rpc::{Rpc, RpcError};
use super::{ChainError, Listeners, RpcAuth, Tip};
use crate::tor::Way;
use bitcoin::block::Header;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::constants::genesis_block;
use bitcoin::{Amount, Block, BlockHash, Network, ScriptBuf, Transaction, Txid};
use lightning::chain::BlockLocator;
use lightning_block_sync::init::synchronize_listeners;
use lightning_block_sync::poll::{ChainPoller, ChainTip, ValidatedBlockHeader};
use lightning_block_sync::{BlockHeaderData, BlockSource, BlockSourceError, HeaderCache, SpvClient};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// How long bitcoind may take to load its block index before starting is given up.
const WARM_UP: Duration = Duration::from_secs(60);
/// Blocks that a stored block may be away from the best chain.
const MAX_FORK: usize = 1_000;
/// Headers fetched at start, so that a reorganisation right after it finds them.
const FIRST_HEADERS: usize = 24;
/// Block targets asked for. Quick ones conservatively, the rest economically.
const TARGETS: [u16; 7] = [1, 2, 3, 6, 12, 144, 1008];

type Spv = SpvClient<ChainPoller<Arc<Rpc>, Rpc>, Arc<FanOut>>;

pub(super) struct Bitcoind {
	rpc: Arc<Rpc>,
	network: Network,
	spv: Option<Spv>,
	/// Height of the block to which all were led last.
	best: u32,
	mempool: Mempool,
}

impl Bitcoind {
	pub(super) async fn connect(
		url: String,
		auth: RpcAuth,
		way: Way,
		network: Network,
	) -> Result<Bitcoind, ChainError> {
		let rpc = Arc::new(Rpc::new(&url, auth, way)?);
		let expected = genesis_block(network).block_hash();
		let found = first_answer(&rpc).await.map_err(|e| rpc.explain(e))?;
		if found != expected {
			return Err(ChainError::WrongNetwork { url: rpc.url.clone(), expected: network, found });
		}
		Ok(Bitcoind { rpc, network, spv: None, best: 0, mempool: Mempool::default() })
	}

	pub(super) fn source(&self) -> String {
		self.rpc.url.clone()
	}

	pub(super) async fn mined_at(&self, hash: &BlockHash) -> Result<u32, ChainError> {
		Ok(self.rpc.get_header(hash, None).await.map_err(|e| self.failed(e))?.header.time)
	}

	pub(super) async fn best_block(&self) -> Result<BlockLocator, ChainError> {
		let (hash, _) = self.rpc.get_best_block().await.map_err(|e| self.failed(e))?;
		let mut header = self.rpc.get_header(&hash, None).await.map_err(|e| self.failed(e))?;
		let mut best = BlockLocator::new(hash, header.height);
		for slot in &mut best.previous_blocks {
			if header.height == 0 {
				break;
			}
			let previous = header.header.prev_blockhash;
			*slot = Some(previous);
			header = self.rpc.get_header(&previous, None).await.map_err(|e| self.failed(e))?;
		}
		Ok(best)
	}

	pub(super) async fn synchronize(
		&mut self,
		listeners: &Listeners,
		broadcaster: &Arc<Broadcaster>,
	) -> Result<(), ChainError> {
		let [manager, sweeper, monitors @ ..] = listeners.from.as_slice() else {
			let what = "the best blocks of manager, sweeper and monitors are needed to follow bitcoind";
			return Err(ChainError::Config(what.into()));
		};
		if listeners.wallet.wants_full_scan().await? {
			self.scan_wallet(&listeners.wallet).await?;
		}
		let wallet = Leg::Wallet(Arc::clone(&listeners.wallet), Arc::clone(broadcaster));
		let mut legs = vec![
			(*manager, Leg::Node(Arc::clone(&listeners.manager))),
			(*sweeper, Leg::Node(Arc::clone(&listeners.sweeper))),
			(listeners.wallet.best_block(), wallet),
		];
		if let Some(start) = self.start_of_monitors(listeners, monitors).await? {
			legs.push((start, Leg::Monitors(Arc::clone(&listeners.monitors), Mutex::default())));
		}
		let legs_by_ref = legs.iter().map(|(from, leg)| (*from, leg)).collect();
		let synchronized = synchronize_listeners(Arc::clone(&self.rpc), self.network, legs_by_ref).await;
		let (cache, tip) = synchronized.map_err(|e| self.failed(e))?;
		legs.iter().for_each(|(_, leg)| leg.arrived());
		let recent = self.recent_headers(&cache, tip).await?;
		let followers = Listeners { from: Vec::new(), ..listeners.clone() };
		let fan_out = Arc::new(FanOut::new(followers, Arc::clone(broadcaster), recent));
		let poller = ChainPoller::new(Arc::clone(&self.rpc), self.network);
		self.best = tip.height;
		self.spv = Some(SpvClient::new(tip, poller, cache, fan_out));
		Ok(())
	}

	/// Finds the coins of a seed that was used before.
	async fn scan_wallet(&self, wallet: &Wallet) -> Result<(), ChainError> {
		tracing::info!("a restored wallet is scanned: bitcoind looks through all outputs, which can take minutes");
		let scripts: Vec<ScriptBuf> = wallet.first_scripts().into_iter().map(|(_, script)| script).collect();
		let found = find::scan(&self.rpc, &scripts).await?;
		let mut mined = Vec::new();
		for height in found.iter().map(|found| found.height).collect::<BTreeSet<u32>>() {
			let explain = |e| self.rpc.explain(e);
			let wrong = |e: &dyn std::fmt::Display| self.rpc.explain(RpcError::Answer(format!("block {height}: {e}")));
			let hash = self.rpc.call("getblockhash", json!([height])).await.map_err(explain)?;
			let block = self.rpc.call("getblock", json!([hash, 0])).await.map_err(explain)?;
			let block: Block = deserialize_hex(block.as_str().unwrap_or_default()).map_err(|e| wrong(&e))?;
			let (hash, time) = (block.block_hash(), block.header.time);
			let here: HashSet<Txid> =
				found.iter().filter(|found| found.height == height).map(|found| found.outpoint.txid).collect();
			let ours = block.txdata.into_iter().filter(|tx| here.contains(&tx.compute_txid()));
			mined.extend(ours.map(|tx| Mined { tx, height, hash, time }));
		}
		wallet.take_mined(mined).await?;
		Ok(())
	}

	pub(super) async fn look(
		&mut self,
		listeners: &Listeners,
		broadcaster: &Arc<Broadcaster>,
	) -> Result<Tip, ChainError> {
		if self.spv.is_none() {
			self.synchronize(listeners, broadcaster).await?;
		}
		let spv = self.spv.as_mut().expect("synchronize sets it");
		let worse = match spv.poll_best_tip().await {
			Ok((ChainTip::Better(tip), false)) => {
				let cause = format!("the block at height {} could not be fetched", tip.height);
				return Err(ChainError::Unreachable { url: self.rpc.url.clone(), cause });
			}
			Ok((ChainTip::Worse(tip), _)) => Some(tip.height),
			Ok((ChainTip::Better(tip), true)) => {
				self.best = tip.height;
				None
			}
			Ok((ChainTip::Common, _)) => None,
			Err(e) => return Err(self.failed(e)),
		};
		self.mempool.look(&self.rpc, &listeners.wallet, broadcaster).await.map_err(|e| self.rpc.explain(e))?;
		let (height, hash) = listeners.wallet.tip();
		// The wallet goes back only when there is another block to go to: until then it has coins that are not in the chain.
		let worse = worse.or((self.best < height).then_some(self.best));
		let behind = self.rpc.behind.load(Ordering::Relaxed);
		let source = self.rpc.url.clone();
		let error = match worse {
			// It was killed, say, and has to fetch again what it had: we stay where we are until its chain has more work.
			Some(theirs) => {
				Some(format!("{source} is at block {theirs} of another or a shorter chain; we stand at {height}"))
			}
			None => behind.then(|| format!("{source} is still downloading blocks")),
		};
		Ok(Tip { height, hash, synced: error.is_none(), at: SystemTime::now(), source, error, troubles: Vec::new() })
	}

	pub(super) async fn estimates(&self) -> Result<Estimates, ChainError> {
		let mode = |blocks: u16| if blocks <= 3 { "conservative" } else { "economical" };
		let params: Vec<Value> = TARGETS.iter().map(|&blocks| json!([blocks, mode(blocks)])).collect();
		let answers = self.rpc.batch("estimatesmartfee", &params).await.map_err(|e| self.rpc.explain(e))?;
		let rate = |answer: Result<Value, RpcError>| per_kw(answer.ok()?["feerate"].as_f64()?);
		let by_blocks = TARGETS.into_iter().zip(answers).filter_map(|(blocks, a)| Some((blocks, rate(a)?))).collect();
		let info = self.rpc.call("getmempoolinfo", json!([])).await.map_err(|e| self.rpc.explain(e))?;
		let mempool_minimum = info["mempoolminfee"].as_f64().and_then(per_kw).unwrap_or(0);
		Ok(Estimates { by_blocks, mempool_minimum })
	}

	/// Where the monitors start: at the lowest block of the best chain that one of them stands on or forks off from.
	/// If one was on a stale branch, all are taken back to there first: none may stand on a block that is no more.
	async fn start_of_monitors(
		&self,
		listeners: &Listeners,
		from: &[BlockLocator],
	) -> Result<Option<BlockLocator>, ChainError> {
		let mut from = from.to_vec();
		from.sort_by_key(|locator| (locator.height, locator.block_hash));
		from.dedup_by_key(|locator| locator.block_hash);
		let mut forks = Vec::new();
		for locator in &from {
			forks.push(self.fork(locator).await?);
		}
		let Some(start) = forks.iter().map(|fork| fork.header).min_by_key(|header| header.height) else {
			return Ok(None);
		};
		if forks.iter().any(|fork| fork.stale) {
			tracing::info!(height = start.height, "the chain was reorganised while we were away");
			take_back(listeners.monitors.as_ref(), &start.header, start.height);
		}
		Ok(Some(BlockLocator::new(start.header.block_hash(), start.height)))
	}

	/// The highest block of the best chain at or below `locator`.
	async fn fork(&self, locator: &BlockLocator) -> Result<Fork, ChainError> {
		let known = std::iter::once(locator.block_hash).chain(locator.previous_blocks.iter().flatten().copied());
		for hash in known {
			let Some((mut header, mut on_best_chain)) = self.header(hash).await? else { continue };
			let mut stale = hash != locator.block_hash;
			for _ in 0..MAX_FORK {
				if on_best_chain {
					return Ok(Fork { header, stale });
				}
				stale = true;
				let previous = self.header(header.header.prev_blockhash).await?;
				(header, on_best_chain) = previous.ok_or_else(|| self.unknown(locator))?;
			}
		}
		Err(self.unknown(locator))
	}

	/// A header, and whether it is on the best chain; `None` if bitcoind does not know it.
	async fn header(&self, hash: BlockHash) -> Result<Option<(BlockHeaderData, bool)>, ChainError> {
		match self.rpc.call("getblockheader", json!([hash])).await {
			Ok(header) => {
				let on_best_chain = header["confirmations"].as_i64().is_some_and(|confirmations| confirmations >= 0);
				let malformed = || self.rpc.explain(RpcError::Answer("a header is malformed".into()));
				Ok(Some((BlockHeaderData::try_from(header).map_err(|()| malformed())?, on_best_chain)))
			}
			Err(RpcError::Refused { .. }) => Ok(None),
			Err(e) => Err(self.rpc.explain(e)),
		}
	}

	async fn recent_headers(
		&self,
		cache: &HeaderCache,
		tip: ValidatedBlockHeader,
	) -> Result<BTreeMap<u32, Header>, ChainError> {
		let mut recent = BTreeMap::from([(tip.height, tip.header)]);
		let (mut height, mut previous) = (tip.height, tip.header.prev_blockhash);
		while height > 0 && recent.len() < FIRST_HEADERS {
			height -= 1;
			let header = match cache.look_up(&previous) {
				Some(header) => header.header,
				None => self.rpc.get_header(&previous, None).await.map_err(|e| self.failed(e))?.header,
			};
			recent.insert(height, header);
			previous = header.prev_blockhash;
		}
		Ok(recent)
	}

	fn unknown(&self, locator: &BlockLocator) -> ChainError {
		let cause =
			format!("it does not know block {} at height {}, where we stood", locator.block_hash, locator.height);
		ChainError::Answer { url: self.rpc.url.clone(), cause }
	}

	fn failed(&self, e: BlockSourceError) -> ChainError {
		match e.into_inner().downcast::<RpcError>() {
			Ok(e) => self.rpc.explain(*e),
			Err(e) => ChainError::Answer { url: self.rpc.url.clone(), cause: e.to_string() },
		}
	}

	async fn submit_one(&self, tx: &Transaction) -> Result<(), NotSent> {
		sent(self.rpc.call("sendrawtransaction", json!([serialize_hex(tx)])).await.map(|_| ()))
	}
}

impl Outlet for Bitcoind {
	/// A package that is refused as such is tried one by one: its parent may be in the mempool or mined already.
	async fn submit(&self, package: &[Transaction]) -> Result<(), NotSent> {
		if package.len() > 1 {
			let hex: Vec<String> = package.iter().map(serialize_hex).collect();
			match self.rpc.call("submitpackage", json!([hex])).await {
				Ok(answer) if answer["package_msg"] == "success" => return Ok(()),
				Ok(answer) => tracing::debug!("package not accepted as such: {}", answer["package_msg"]),
				Err(RpcError::Refused { message, .. }) => tracing::debug!("package not accepted as such: {message}"),
				Err(e) => return Err(NotSent::Unreachable(e.to_string())),
			}
		}
		let mut last = Ok(());
		for tx in package {
			last = self.submit_one(tx).await;
			if matches!(last, Err(NotSent::Unreachable(_))) {
				break;
			}
		}
		last
	}

	/// By its outputs that nobody has spent, mined or not: an index of all transactions is not asked for.
	async fn has(&self, package: &[Transaction]) -> Result<(), NotSent> {
		let Some(child) = package.last() else { return Ok(()) };
		let txid = child.compute_txid();
		for vout in 0..child.output.len() {
			match self.rpc.call("gettxout", json!([txid, vout, true])).await {
				Ok(output) if output.is_null() => {}
				Ok(_) => return Ok(()),
				Err(e) => return Err(NotSent::Unreachable(e.to_string())),
			}
		}
		Err(NotSent::Refused(HELD_BACK.to_owned()))
	}
}

/// A block of the best chain.
struct Fork {
	header: BlockHeaderData,
	/// The stored block was not on the best chain.
	stale: bool,
}

fn sent(result: Result<(), RpcError>) -> Result<(), NotSent> {
	match result {
		Err(RpcError::Refused { message, .. }) if is_known_already(&message) => Ok(()),
		Err(RpcError::Refused { code, message }) if code != super::rpc::WARMING_UP => Err(NotSent::Refused(message)),
		Err(e) => Err(NotSent::Unreachable(e.to_string())),
		Ok(()) => Ok(()),
	}
}

/// The genesis hash, waiting for a bitcoind that has just been started.
async fn first_answer(rpc: &Rpc) -> Result<BlockHash, RpcError> {
	let until = tokio::time::Instant::now() + WARM_UP;
	loop {
		match rpc.call("getblockhash", json!([0])).await {
			Ok(hash) => {
				let hash = hash.as_str().and_then(|hash| BlockHash::from_str(hash).ok());
				return hash.ok_or_else(|| RpcError::Answer("the first block's hash is malformed".into()));
			}
			Err(RpcError::Refused { code: super::rpc::WARMING_UP, message }) if tokio::time::Instant::now() < until => {
				tracing::info!(url = rpc.url, "bitcoind is starting: {message}");
				tokio::time::sleep(Duration::from_secs(1)).await;
			}
			Err(e) => return Err(e),
		}
	}
}

/// From bitcoins per 1000 virtual bytes, rounded up.
fn per_kw(btc_per_kvb: f64) -> Option<u32> {
	let per_kvb = Amount::from_btc(btc_per_kvb).ok()?;
	u32::try_from(per_kvb.to_sat().div_ceil(4)).ok()
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn feerates_are_converted_and_rounded_up() {
		assert_eq!(per_kw(0.00001), Some(250));
		assert_eq!(per_kw(0.00001013), Some(254));
		assert_eq!(per_kw(-1.0), None);
		assert_eq!(per_kw(f64::NAN), None);
	}
}
