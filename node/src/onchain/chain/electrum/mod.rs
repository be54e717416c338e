//! An Electrum server: LDK and the wallet are led to the same block in the same look.
//!
//! Everything that is asked blocks a thread of its own for a bounded time (`wire`), one thing after the other; transactions go out on a connection of their own. What a
//! server says is mined is believed with a Merkle proof only, by LDK's side (`confirm`) and by BDK's.

mod confirm;
mod wire;

use super::super::broadcast::{Broadcaster, HELD_BACK, NotSent, Outlet, is_known_already};
use super::super::fees::Estimates;
use super::super::follow::{Scope, scope};
use super::super::wallet::Wallet;
use super::esplora::{LOOK_PATIENCE, MAX_ASKED, MAX_RACES, SCAN_PATIENCE, STOP_GAP};
use super::find::Found;
use super::pace::Pace;
use super::watched::{Unheard, Watched};
use super::{ChainError, Listeners, Node, Tip};
use crate::tor::Way;
use bdk_electrum::BdkElectrumClient;
use bitcoin::constants::genesis_block;
use bitcoin::{Amount, BlockHash, Network, OutPoint, Script, ScriptBuf, Transaction, TxOut, Txid};
use confirm::{BATCH, Told, histories, mined_at, script_of, transaction};
use electrum_client::{ElectrumApi, Error};
use lightning::chain::{BlockLocator, Filter};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use wire::{Api, Failure};

pub(super) use wire::Line;

/// Anything but a look or a scan.
const PATIENCE: Duration = Duration::from_secs(30);
/// Blocks for which fees are asked.
const TARGETS: [usize; 7] = [2, 3, 6, 12, 24, 144, 1008];
/// Foreign inputs of unconfirmed payments that are looked up in one look.
const MAX_PREVOUTS: usize = 50;

pub(super) struct Electrum {
	line: Arc<Line>,
	outbox: Arc<Outbox>,
	watched: Arc<Watched<Unheard>>,
	told: Arc<Mutex<Told>>,
	pace: Pace,
	/// The tip to which LDK and the wallet were led, and its time. None after a failure: all is asked again.
	seen: Option<(BlockHash, u32)>,
	full_look_at: Option<u32>,
}

/// What a look needs on its own thread.
struct Look {
	watched: Arc<Watched<Unheard>>,
	told: Arc<Mutex<Told>>,
	nodes: Vec<Arc<dyn Node>>,
	wallet: Arc<Wallet>,
	broadcaster: Arc<Broadcaster>,
	seen: Option<BlockHash>,
	full_look_at: Option<u32>,
}

impl Electrum {
	pub(super) async fn connect(url: &str, way: Way, network: Network) -> Result<Electrum, ChainError> {
		let line = Line::new(url, way)?;
		let outbox = Arc::new(Outbox { line: Line::new(url, way)? });
		let found = line.hash(0).await?;
		if found != genesis_block(network).block_hash() {
			return Err(ChainError::WrongNetwork { url: line.url(), expected: network, found });
		}
		let watched = Arc::new(Watched::new(Unheard));
		let pace = Pace::of(network);
		Ok(Electrum { line, outbox, watched, told: Arc::default(), pace, seen: None, full_look_at: None })
	}

	pub(super) fn filter(&self) -> Arc<dyn Filter + Send + Sync> {
		Arc::clone(&self.watched) as Arc<dyn Filter + Send + Sync>
	}

	/// Where transactions go out, also during a look.
	pub(super) fn outbox(&self) -> Arc<Outbox> {
		Arc::clone(&self.outbox)
	}

	/// Resolves when something was registered.
	pub(super) async fn registered(&self) {
		self.watched.registered().await;
	}

	pub(super) fn source(&self) -> String {
		self.line.url()
	}

	/// How long to wait after an error.
	pub(super) fn pause(&self, since: Instant) -> Duration {
		self.pace.backoff(since.elapsed())
	}

	pub(super) async fn mined_at(&self, hash: &BlockHash) -> Result<u32, ChainError> {
		if let Some((seen, time)) = self.seen
			&& seen == *hash
		{
			return Ok(time);
		}
		let best = self.line.told(PATIENCE, confirm::best).await?;
		if best.header.block_hash() == *hash {
			return Ok(best.header.time);
		}
		Err(self.line.explain(Failure::Raced))
	}

	pub(super) async fn best_block(&self) -> Result<BlockLocator, ChainError> {
		self.line.told(PATIENCE, best_block).await
	}

	pub(super) async fn synchronize(
		&mut self,
		listeners: &Listeners,
		broadcaster: &Arc<Broadcaster>,
	) -> Result<(), ChainError> {
		if listeners.wallet.wants_full_scan().await? {
			tracing::info!("a restored wallet is scanned; that can take minutes");
			let request = listeners.wallet.full_scan_request();
			let scan = move |api: &Api| Ok(BdkElectrumClient::new(api).full_scan(request, STOP_GAP, BATCH, false)?);
			let found = self.line.told(SCAN_PATIENCE, scan).await?;
			listeners.wallet.apply_full_scan(found).await?;
		}
		self.look(listeners, broadcaster).await.map(|_| ())
	}

	pub(super) async fn look(
		&mut self,
		listeners: &Listeners,
		broadcaster: &Arc<Broadcaster>,
	) -> Result<Tip, ChainError> {
		let look = Look {
			watched: Arc::clone(&self.watched),
			told: Arc::clone(&self.told),
			nodes: [&listeners.manager, &listeners.monitors, &listeners.sweeper].map(Arc::clone).to_vec(),
			wallet: Arc::clone(&listeners.wallet),
			broadcaster: Arc::clone(broadcaster),
			// Until this look has succeeded.
			seen: self.seen.take().map(|(hash, _)| hash),
			full_look_at: self.full_look_at,
		};
		let (best, scope) = self.line.told(LOOK_PATIENCE, move |api| look.now(api)).await?;
		let hash = best.header.block_hash();
		self.seen = Some((hash, best.header.time));
		if scope == Scope::All {
			self.full_look_at = Some(best.height);
		}
		Ok(Tip {
			height: best.height,
			hash,
			synced: true,
			at: SystemTime::now(),
			source: self.source(),
			error: None,
			troubles: Vec::new(),
		})
	}

	pub(super) async fn estimates(&self) -> Result<Estimates, ChainError> {
		self.line.told(PATIENCE, estimates).await
	}
}

impl Drop for Electrum {
	fn drop(&mut self) {
		// A thread that waits for an answer would keep the runtime from ending.
		self.line.end();
		self.outbox.line.end();
	}
}

/// Where transactions go out: a connection of its own, for a look may take its time.
pub(super) struct Outbox {
	line: Arc<Line>,
}

impl Outbox {
	/// Asks, and asks again if the connection had ended meanwhile: servers end idle ones, and a claim must not wait for the next
	/// round for that. What arrived the first time is known already the second time.
	async fn ask<T: Send + 'static>(
		&self,
		what: impl Fn(&Api) -> Result<T, Failure> + Clone + Send + 'static,
	) -> Result<T, Failure> {
		match self.line.ask(PATIENCE, what.clone()).await {
			Err(Failure::Api(Error::IOError(_) | Error::SharedIOError(_))) => self.line.ask(PATIENCE, what).await,
			done => done,
		}
	}
}

impl Outlet for Outbox {
	async fn submit(&self, package: &[Transaction]) -> Result<(), NotSent> {
		let package = package.to_vec();
		let sent = self.ask(move |api| Ok(send(api, &package)?)).await;
		sent.map_err(|e| NotSent::Unreachable(e.to_string()))?
	}

	/// By the history of what it pays to, mempool included: of a transaction alone, a server that is busy is told apart from one
	/// that does not know it by words only.
	async fn has(&self, package: &[Transaction]) -> Result<(), NotSent> {
		let Some(child) = package.last() else { return Ok(()) };
		let (txid, script) = (child.compute_txid(), confirm::script_of(child, Script::new()));
		let Some(script) = script else { return Err(NotSent::Unreachable("it pays to nobody".into())) };
		let asked = move |api: &Api| {
			let histories = confirm::histories(api, &[script.as_script()])?;
			Ok(histories.iter().flatten().any(|entry| entry.tx_hash == txid))
		};
		match self.ask(asked).await {
			Ok(true) => Ok(()),
			Ok(false) => Err(NotSent::Refused(HELD_BACK.to_owned())),
			Err(e) => Err(NotSent::Unreachable(e.to_string())),
		}
	}
}

/// One after the other, parents first: the protocol's version has no packages. What is said of the child counts.
fn send(api: &Api, package: &[Transaction]) -> Result<Result<(), NotSent>, Error> {
	let mut last = Ok(());
	for tx in package {
		last = match api.transaction_broadcast(tx) {
			Ok(_) => Ok(()),
			Err(e @ Error::Protocol(_)) => {
				let words = wire::told(&e);
				if is_known_already(&words) { Ok(()) } else { Err(NotSent::Refused(words)) }
			}
			Err(e) => return Err(e),
		};
	}
	Ok(last)
}

fn best_block(api: &Api) -> Result<BlockLocator, Failure> {
	let tip = confirm::best(api)?;
	let mut best = BlockLocator::new(tip.header.block_hash(), tip.height);
	let slots = u32::try_from(best.previous_blocks.len()).expect("a dozen");
	let first = tip.height.saturating_sub(slots);
	let headers = api.block_headers(first as usize, (tip.height - first + 1) as usize)?.headers;
	let by_height: BTreeMap<u32, BlockHash> = (first..).zip(headers.iter().map(|header| header.block_hash())).collect();
	if by_height.get(&tip.height) != Some(&best.block_hash) {
		return Err(Failure::Raced);
	}
	for (back, slot) in (1..).zip(&mut best.previous_blocks) {
		*slot = tip.height.checked_sub(back).and_then(|height| by_height.get(&height).copied());
	}
	Ok(best)
}

fn estimates(api: &Api) -> Result<Estimates, Failure> {
	// In BTC per 1,000 vbytes; -1 says that it does not know.
	let per_kw = |btc: f64| {
		let per_kvb = Amount::from_btc(btc).ok()?;
		u32::try_from(per_kvb.to_sat().div_ceil(4)).ok()
	};
	let answers = api.batch_estimate_fee(TARGETS)?;
	let known = TARGETS.into_iter().zip(answers);
	let by_blocks = known.filter_map(|(blocks, btc)| Some((u16::try_from(blocks).ok()?, per_kw(btc)?))).collect();
	let mempool_minimum = match api.relay_fee() {
		Ok(btc) => per_kw(btc).unwrap_or(0),
		// Later servers have another call for it.
		Err(Error::Protocol(_)) => 0,
		Err(e) => return Err(e.into()),
	};
	Ok(Estimates { by_blocks, mempool_minimum })
}

impl Look {
	fn now(&self, api: &Api) -> Result<(confirm::Best, Scope), Failure> {
		for _ in 0..MAX_RACES {
			match self.once(api) {
				Err(Failure::Raced) => {}
				done => return done,
			}
		}
		Err(Failure::Raced)
	}

	fn once(&self, api: &Api) -> Result<(confirm::Best, Scope), Failure> {
		let best = confirm::best(api)?;
		let hash = best.header.block_hash();
		let (ours, _) = self.wallet.tip();
		if best.height < ours {
			// It would take LDK back for nothing, and the wallet does not follow.
			return Err(Failure::Wrong(format!("it is {} blocks behind where it stood", ours - best.height)));
		}
		let new_tip = self.seen != Some(hash);
		if self.watched.has_news() || new_tip {
			let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
			confirm::lead(api, &self.watched, &mut told, &self.nodes, &best)?;
		}
		let scope = scope(ours, self.full_look_at, new_tip);
		self.lead_wallet(api, scope)?;
		if self.wallet.tip() != (best.height, hash) {
			// A block came in between: LDK and the wallet must not disagree by it.
			return Err(Failure::Raced);
		}
		if new_tip {
			ask_about(api, &self.broadcaster, best.height)?;
		}
		Ok((best, scope))
	}

	fn lead_wallet(&self, api: &Api, scope: Scope) -> Result<(), Failure> {
		// Made anew: what it remembers of blocks could be of a stale branch, and is not bounded.
		let bdk = BdkElectrumClient::new(api);
		let known = self.wallet.known(scope != Scope::Hot);
		bdk.populate_tx_cache(known.iter().map(|(tx, _)| Arc::clone(tx)));
		bdk.populate_anchor_cache(known.into_iter().map(|(tx, anchors)| (tx.compute_txid(), anchors)));
		let found = bdk.sync(self.wallet.sync_request(scope), BATCH, false)?;
		self.wallet.apply_sync(found)?;
		for outpoint in self.wallet.missing_prevouts().into_iter().take(MAX_PREVOUTS) {
			let Some(tx) = transaction(api, &outpoint.txid)? else { continue };
			if let Some(output) = tx.output.get(outpoint.vout as usize) {
				self.wallet.learn_prevout(outpoint, output.clone());
			}
		}
		Ok(())
	}
}

/// Which of our transactions are mined, or made impossible by others that are.
fn ask_about(api: &Api, broadcaster: &Broadcaster, tip: u32) -> Result<(), Failure> {
	for tx in broadcaster.to_ask().into_iter().take(MAX_ASKED) {
		let txid = tx.compute_txid();
		let Some(script) = script_of(&tx, Script::new()) else { continue };
		let history = histories(api, &[&script])?.pop().unwrap_or_default();
		let mined = match history.iter().find(|entry| entry.tx_hash == txid).and_then(mined_at) {
			Some(height) => Some((height, None)),
			None => conflict(api, &tx)?,
		};
		broadcaster.answered(&txid, mined, tip);
	}
	Ok(())
}

/// The height at which an input of this transaction was spent by another, and by which.
fn conflict(api: &Api, tx: &Transaction) -> Result<Option<(u32, Option<Txid>)>, Failure> {
	let txid = tx.compute_txid();
	for input in &tx.input {
		let spent = input.previous_output;
		let Some(output) = output(api, &spent)? else { continue };
		let history = histories(api, &[&output.script_pubkey])?.pop().unwrap_or_default();
		for entry in history.into_iter().filter(|entry| entry.tx_hash != txid && entry.tx_hash != spent.txid) {
			let Some(height) = mined_at(&entry) else { continue };
			let spends = |other: Transaction| other.input.iter().any(|input| input.previous_output == spent);
			if transaction(api, &entry.tx_hash)?.is_some_and(spends) {
				return Ok(Some((height, Some(entry.tx_hash))));
			}
		}
	}
	Ok(None)
}

fn output(api: &Api, outpoint: &OutPoint) -> Result<Option<TxOut>, Failure> {
	let tx = transaction(api, &outpoint.txid)?;
	Ok(tx.and_then(|tx| tx.output.get(outpoint.vout as usize).cloned()))
}

/// Single questions, also of witnesses.
impl Line {
	async fn told<T: Send + 'static>(
		self: &Arc<Line>,
		patience: Duration,
		what: impl FnOnce(&Api) -> Result<T, Failure> + Send + 'static,
	) -> Result<T, ChainError> {
		self.ask(patience, what).await.map_err(|e| self.explain(e))
	}

	/// The height of the best block.
	pub(super) async fn height(self: &Arc<Line>) -> Result<u32, ChainError> {
		self.told(PATIENCE, |api| Ok(confirm::best(api)?.height)).await
	}

	/// The block at this height.
	pub(super) async fn hash(self: &Arc<Line>, height: u32) -> Result<BlockHash, ChainError> {
		let none = move || Failure::Wrong(format!("it has no block at height {height}"));
		self.told(PATIENCE, move |api| Ok(confirm::header(api, height)?.ok_or_else(none)?.block_hash())).await
	}

	/// Is this output confirmed, and not spent?
	pub(super) async fn is_unspent(self: &Arc<Line>, outpoint: OutPoint) -> Result<bool, ChainError> {
		let ask = move |api: &Api| {
			let Some(output) = output(api, &outpoint)? else { return Ok(false) };
			let unspent = api.script_list_unspent(&output.script_pubkey)?;
			Ok(unspent.iter().any(|coin| coin.tx_hash == outpoint.txid && coin.tx_pos == outpoint.vout as usize))
		};
		self.told(PATIENCE, ask).await
	}

	/// The confirmed unspent outputs to these scripts.
	pub(super) async fn unspent(self: &Arc<Line>, scripts: &[ScriptBuf]) -> Result<Vec<Found>, ChainError> {
		let mut found = Vec::new();
		for some in scripts.chunks(BATCH) {
			let some = some.to_vec();
			found.extend(self.told(PATIENCE, move |api| unspent(api, &some)).await?);
		}
		Ok(found)
	}
}

fn unspent(api: &Api, scripts: &[ScriptBuf]) -> Result<Vec<Found>, Failure> {
	let answers = api.batch_script_list_unspent(scripts.iter().map(ScriptBuf::as_script))?;
	let mut found = Vec::new();
	for (script, coins) in scripts.iter().zip(answers) {
		for coin in coins.into_iter().filter(|coin| coin.height > 0) {
			let number = |number: usize| u32::try_from(number).map_err(|_| Failure::Wrong("a malformed coin".into()));
			let outpoint = OutPoint { txid: coin.tx_hash, vout: number(coin.tx_pos)? };
			let output = TxOut { value: Amount::from_sat(coin.value), script_pubkey: script.clone() };
			found.push(Found { outpoint, output, height: number(coin.height)? });
		}
	}
	Ok(found)
}

#[cfg(test)]
mod tests;
