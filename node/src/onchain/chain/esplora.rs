//! Esplora servers: one at a time, the next when it fails. LDK and the wallet are led to the same block of the same
//! server in the same look.
//!
//! Two client versions are linked (LDK's crate needs esplora-client 0.13, BDK's 0.12). LDK's is made anew whenever a
//! look fails or the server changes, and told again all that was ever registered: it forgets what it has reported, but
//! another server may have taken it back in between.

use super::super::broadcast::{Broadcaster, HELD_BACK, NotSent, Outlet, is_known_already};
use super::super::fees::Estimates;
use super::super::follow::{Scope, scope};
use super::pace::Pace;
use super::servers::{Server, Servers};
use super::watched::Watched;
use super::{ChainError, Listeners, Node, Tip};
use crate::tor::Way;
use bdk_esplora::EsploraAsyncExt;
use bitcoin::{BlockHash, Network, Transaction, Txid};
use esplora_client::Error;
use lightning::chain::{BlockLocator, Filter};
use lightning::util::logger::Logger;
use lightning_transaction_sync::EsploraSyncClient;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Requests under way at once to a server.
const PARALLEL: usize = 4;
/// Unused addresses in a row after which a restored seed is taken for scanned. More than are given out unused.
pub(super) const STOP_GAP: usize = 250;
/// One look at most; a restored seed's scan takes longer.
pub(super) const LOOK_PATIENCE: Duration = Duration::from_secs(180);
pub(super) const SCAN_PATIENCE: Duration = Duration::from_secs(1_800);
/// Looks in a row in which a new block may come in between.
pub(super) const MAX_RACES: usize = 4;
/// Transactions of ours asked about per block.
pub(super) const MAX_ASKED: usize = 50;
/// A server that is behind the one before it is refused for this long; after that, the chain itself is shorter.
const BEHIND_PATIENCE: Duration = Duration::from_secs(600);

type Confirmer = EsploraSyncClient<Arc<dyn Logger + Send + Sync>>;

pub(super) struct Esplora {
	servers: Servers,
	watched: Arc<Watched<Confirmer>>,
	logger: Arc<dyn Logger + Send + Sync>,
	/// The tip to which LDK and the wallet were led, and when.
	seen: Option<(BlockHash, Instant)>,
	full_look_at: Option<u32>,
}

impl Esplora {
	pub(super) async fn connect(
		urls: Vec<String>,
		way: Way,
		network: Network,
		logger: Arc<dyn Logger + Send + Sync>,
	) -> Result<Esplora, ChainError> {
		let servers = Servers::connect(urls, way, network, Pace::of(network)).await?;
		let confirmer = Confirmer::from_client(servers.current().ldk.clone(), Arc::clone(&logger));
		Ok(Esplora { watched: Arc::new(Watched::new(confirmer)), servers, logger, seen: None, full_look_at: None })
	}

	pub(super) fn filter(&self) -> Arc<dyn Filter + Send + Sync> {
		Arc::clone(&self.watched) as Arc<dyn Filter + Send + Sync>
	}

	/// Resolves when something was registered.
	pub(super) async fn registered(&self) {
		self.watched.registered().await;
	}

	pub(super) fn source(&self) -> String {
		self.servers.current().url.clone()
	}

	pub(super) async fn mined_at(&self, hash: &BlockHash) -> Result<u32, ChainError> {
		let server = self.servers.current();
		Ok(server.ldk.get_header_by_hash(hash).await.map_err(|e| server.failed(&e))?.time)
	}

	pub(super) async fn best_block(&self) -> Result<BlockLocator, ChainError> {
		let server = self.servers.current();
		let blocks = server.ldk.get_block_infos(None).await.map_err(|e| server.failed(&e))?;
		let by_height: HashMap<u32, BlockHash> = blocks.iter().map(|block| (block.height, block.id)).collect();
		let (&height, &hash) = by_height.iter().max().ok_or_else(|| server.wrong("no blocks"))?;
		let mut best = BlockLocator::new(hash, height);
		for (back, slot) in (1..).zip(&mut best.previous_blocks) {
			*slot = height.checked_sub(back).and_then(|height| by_height.get(&height)).copied();
		}
		Ok(best)
	}

	/// Tries each server once.
	pub(super) async fn synchronize(
		&mut self,
		listeners: &Listeners,
		broadcaster: &Arc<Broadcaster>,
	) -> Result<(), ChainError> {
		let mut result = self.scan_and_look(listeners, broadcaster).await;
		for _ in 1..self.servers.len() {
			if result.is_ok() {
				break;
			}
			self.next_server();
			result = self.scan_and_look(listeners, broadcaster).await;
		}
		result
	}

	async fn scan_and_look(&mut self, listeners: &Listeners, broadcaster: &Arc<Broadcaster>) -> Result<(), ChainError> {
		if listeners.wallet.wants_full_scan().await? {
			tracing::info!("a restored wallet is scanned; that can take minutes");
			let server = self.servers.current();
			let scan = server.bdk.full_scan(listeners.wallet.full_scan_request(), STOP_GAP, PARALLEL);
			let found = tokio::time::timeout(SCAN_PATIENCE, scan).await.map_err(|_| server.slow())?;
			listeners.wallet.apply_full_scan(found.map_err(|e| server.failed(e.as_ref()))?).await?;
		}
		self.look(listeners, broadcaster).await.map(|_| ())
	}

	pub(super) async fn look(
		&mut self,
		listeners: &Listeners,
		broadcaster: &Arc<Broadcaster>,
	) -> Result<Tip, ChainError> {
		let patience = tokio::time::timeout(LOOK_PATIENCE, self.look_now(listeners, broadcaster)).await;
		let tip = patience.map_err(|_| self.servers.current().slow())??;
		self.servers.succeeded();
		Ok(tip)
	}

	async fn look_now(&mut self, listeners: &Listeners, broadcaster: &Broadcaster) -> Result<Tip, ChainError> {
		self.servers.check_current().await?;
		for _ in 0..MAX_RACES {
			let server = self.servers.current();
			let hash = server.ldk.get_tip_hash().await.map_err(|e| server.failed(&e))?;
			let new_tip = self.seen.is_none_or(|(seen, _)| seen != hash);
			if new_tip {
				self.refuse_if_behind(listeners).await?;
			}
			if self.watched.take_news() || new_tip {
				let nodes: Vec<Arc<dyn Node>> =
					[&listeners.manager, &listeners.monitors, &listeners.sweeper].map(Arc::clone).to_vec();
				let synced = self.watched.confirmer().sync(nodes).await;
				synced.map_err(|_| server.wrong("following the chain failed"))?;
			}
			let scope = scope(listeners.wallet.tip().0, self.full_look_at, new_tip);
			let found = server.bdk.sync(listeners.wallet.sync_request(scope), PARALLEL).await;
			listeners.wallet.apply_sync(found.map_err(|e| server.failed(e.as_ref()))?)?;
			let (height, at_tip) = listeners.wallet.tip();
			if at_tip != hash {
				// A block came in between: LDK and the wallet must not disagree by it.
				continue;
			}
			if new_tip {
				ask_about(&server.ldk, broadcaster, height).await.map_err(|e| server.failed(&e))?;
			}
			if scope == Scope::All {
				self.full_look_at = Some(height);
			}
			let source = server.url.clone();
			self.seen = Some((hash, Instant::now()));
			return Ok(Tip {
				height,
				hash,
				synced: true,
				at: SystemTime::now(),
				source,
				error: None,
				troubles: Vec::new(),
			});
		}
		Err(self.servers.current().wrong("its tip changes with every look"))
	}

	/// With another server at hand, one that is behind would take LDK back for nothing.
	async fn refuse_if_behind(&self, listeners: &Listeners) -> Result<(), ChainError> {
		let recently = self.seen.is_some_and(|(_, at)| at.elapsed() < BEHIND_PATIENCE);
		if self.servers.len() == 1 || !recently {
			return Ok(());
		}
		let server = self.servers.current();
		let height = server.ldk.get_height().await.map_err(|e| server.failed(&e))?;
		let (ours, _) = listeners.wallet.tip();
		if height < ours {
			return Err(server.wrong(&format!("it is {} blocks behind another server", ours - height)));
		}
		Ok(())
	}

	/// After a failed look: the next server, and how long to wait for it.
	pub(super) fn next_server(&mut self) -> Duration {
		let wait = self.servers.failed(Instant::now());
		self.watched.start_over(Confirmer::from_client(self.servers.current().ldk.clone(), Arc::clone(&self.logger)));
		wait
	}

	pub(super) async fn estimates(&self) -> Result<Estimates, ChainError> {
		let server = self.servers.current();
		let estimates = server.ldk.get_fee_estimates().await.map_err(|e| server.failed(&e))?;
		let rate = |rate: bitcoin::FeeRate| u32::try_from(rate.to_sat_per_kwu()).unwrap_or(u32::MAX);
		let by_blocks = estimates.into_iter().map(|(blocks, fee)| (blocks, rate(fee))).collect();
		Ok(Estimates { by_blocks, mempool_minimum: 0 })
	}
}

/// Which of our transactions are mined, or made impossible by others that are.
async fn ask_about(client: &esplora_client::AsyncClient, broadcaster: &Broadcaster, tip: u32) -> Result<(), Error> {
	for tx in broadcaster.to_ask().into_iter().take(MAX_ASKED) {
		let txid = tx.compute_txid();
		let status = match client.get_tx_status(&txid).await {
			Ok(status) => status.block_height.filter(|_| status.confirmed),
			Err(Error::HttpResponse { status: 404, .. }) => None,
			Err(e) => return Err(e),
		};
		let mined = match status {
			Some(height) => Some((height, None)),
			None => conflict(client, &tx).await?,
		};
		broadcaster.answered(&txid, mined, tip);
	}
	Ok(())
}

/// The height at which an input of this transaction was spent by another, and by which.
async fn conflict(
	client: &esplora_client::AsyncClient,
	tx: &Transaction,
) -> Result<Option<(u32, Option<Txid>)>, Error> {
	for input in &tx.input {
		let spent = input.previous_output;
		let status = match client.get_output_status(&spent.txid, u64::from(spent.vout)).await {
			Ok(status) => status,
			Err(Error::HttpResponse { .. }) => None,
			Err(e) => return Err(e),
		};
		let Some(spender) = status else { continue };
		let mined = spender.status.filter(|status| status.confirmed).and_then(|status| status.block_height);
		match mined {
			Some(height) if spender.txid != Some(tx.compute_txid()) => return Ok(Some((height, spender.txid))),
			_ => {}
		}
	}
	Ok(None)
}

impl Outlet for Esplora {
	async fn submit(&self, package: &[Transaction]) -> Result<(), NotSent> {
		let client = &self.servers.current().ldk;
		if package.len() > 1 {
			match client.submit_package(package, None, None).await {
				Ok(result) if result.package_msg == "success" => return Ok(()),
				Ok(result) => tracing::debug!("package not accepted as such: {}", result.package_msg),
				// Many servers do not know packages.
				Err(e) => tracing::debug!("package not accepted as such: {e}"),
			}
		}
		let mut last = Ok(());
		for tx in package {
			last = match client.broadcast(tx).await {
				Err(Error::HttpResponse { status, message }) if status < 500 && status != 429 => {
					if is_known_already(&message) { Ok(()) } else { Err(NotSent::Refused(message)) }
				}
				Err(e) => return Err(NotSent::Unreachable(e.to_string())),
				Ok(_) => Ok(()),
			};
		}
		last
	}

	async fn has(&self, package: &[Transaction]) -> Result<(), NotSent> {
		let Some(child) = package.last() else { return Ok(()) };
		match self.servers.current().ldk.get_tx(&child.compute_txid()).await {
			Ok(Some(_)) => Ok(()),
			Ok(None) => Err(NotSent::Refused(HELD_BACK.to_owned())),
			Err(e) => Err(NotSent::Unreachable(e.to_string())),
		}
	}
}

impl Server {
	/// For errors of either client.
	fn failed(&self, e: &dyn std::fmt::Display) -> ChainError {
		ChainError::Unreachable { url: self.url.clone(), cause: e.to_string() }
	}

	fn wrong(&self, cause: &str) -> ChainError {
		ChainError::Answer { url: self.url.clone(), cause: cause.to_owned() }
	}

	fn slow(&self) -> ChainError {
		self.wrong("it is too slow")
	}
}
