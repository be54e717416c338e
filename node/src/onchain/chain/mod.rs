//! The chain, seen through one backend: LDK and the wallet are led along it together.

mod asker;
mod bitcoind;
mod doubt;
mod electrum;
mod esplora;
mod fanout;
mod find;
mod mempool;
mod pace;
mod rpc;
mod servers;
mod sight;
mod watched;
mod witness;

use super::broadcast::{Broadcaster, Outlet, RESEND};
use super::fees::{Estimates, Fees};
use super::wallet::{Wallet, WalletError};
use crate::config::network_name;
use crate::stop::stopped;
use crate::tor::Way;
use bitcoin::{BlockHash, Network};
use lightning::chain::{BlockLocator, Confirm, Filter, Listen};
use lightning::util::logger::Logger;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

use doubt::Doubt;
pub use find::{Finder, Found};
use pace::Pace;
pub use sight::{ChainSight, chain_sight};
use witness::{Verdict, Witness};

/// Where the chain is read and transactions go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChainConfig {
	/// Esplora HTTP servers, the first preferred; `https://host/api`, without a slash at the end.
	Esplora {
		/// At least one.
		urls: Vec<String>,
		/// How they are reached.
		way: Way,
	},
	/// An Electrum server.
	Electrum {
		/// `tcp://host:port` or `ssl://host:port`.
		url: String,
		/// How it is reached.
		way: Way,
	},
	/// Bitcoin Core's RPC, `http://host:port`. A pruned node does.
	Bitcoind {
		/// Without credentials.
		url: String,
		/// Who we are.
		auth: RpcAuth,
		/// How it is reached.
		way: Way,
	},
}

/// Credentials for Bitcoin Core's RPC.
#[derive(Clone, PartialEq, Eq)]
pub enum RpcAuth {
	/// From `rpcauth` or `rpcuser` and `rpcpassword`.
	UserPass {
		/// User.
		user: String,
		/// Password.
		password: String,
	},
	/// The cookie file; read again when bitcoind has restarted.
	Cookie(PathBuf),
}

impl std::fmt::Debug for RpcAuth {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		match self {
			RpcAuth::UserPass { user, .. } => write!(f, "UserPass({user}, ...)"),
			RpcAuth::Cookie(path) => write!(f, "Cookie({})", path.display()),
		}
	}
}

/// Why the backend cannot be used (at start) or could not be asked (later: it is asked again).
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
	/// It does not answer.
	#[error("{url} does not answer: {cause}. Is it running and reachable from here?")]
	Unreachable {
		/// Which.
		url: String,
		/// What went wrong.
		cause: String,
	},
	/// It does not know us.
	#[error("{url} refuses our credentials: {cause}. Check user and password, or the path of the cookie file")]
	Unauthorized {
		/// Which.
		url: String,
		/// What went wrong.
		cause: String,
	},
	/// It answers, but not what it should.
	#[error("{url} gave an answer that cannot be used: {cause}. Is that the address of the right service?")]
	Answer {
		/// Which.
		url: String,
		/// What went wrong.
		cause: String,
	},
	/// It serves another chain.
	#[error(
		"{url} is not on {0}: its first block is {found}. Choose a backend of {0} or another network",
		network_name(*expected)
	)]
	WrongNetwork {
		/// Which.
		url: String,
		/// What we want.
		expected: Network,
		/// Its genesis block.
		found: BlockHash,
	},
	/// The configuration cannot work.
	#[error("{0}")]
	Config(String),
	/// The wallet could not take what the backend gave.
	#[error(transparent)]
	Wallet(#[from] WalletError),
}

/// How far the backend is trusted: see `[chain]` in the configuration.
#[derive(Clone, Debug, Default)]
pub struct Trust {
	/// Age of the newest block above which our view is not current; `None`: any will do.
	pub max_tip_age: Option<Duration>,
	/// Other sources that it is compared with.
	pub witnesses: Vec<ChainConfig>,
}

/// Something that the operator should look at, and that does not by itself stop sales.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
	/// What it is about: a witness, a transaction. One trouble each.
	pub subject: String,
	/// For people: what is wrong, and what to do.
	pub text: String,
}

/// Troubles told at once; the rest waits until some of them are over.
const MAX_TROUBLES: usize = 20;

/// The last look at the chain.
#[derive(Clone, Debug)]
pub struct Tip {
	/// Height of the best block.
	pub height: u32,
	/// Its hash.
	pub hash: BlockHash,
	/// Is this view current? False while the backend is away for longer than a moment, or behind itself, while its newest
	/// block is too old, and while a witness sees another chain.
	pub synced: bool,
	/// When the backend was last looked at with success.
	pub at: SystemTime,
	/// Which server.
	pub source: String,
	/// What went wrong since, for people.
	pub error: Option<String>,
	/// What else the operator should look at.
	pub troubles: Vec<Trouble>,
}

/// What LDK's parts that follow the chain have in common.
pub trait Node: Confirm + Listen + Send + Sync {}
impl<T: Confirm + Listen + Send + Sync> Node for T {}

/// Who follows the chain.
#[derive(Clone)]
pub struct Listeners {
	/// `ChannelManager`.
	pub manager: Arc<dyn Node>,
	/// `ChainMonitor`, with all monitors loaded.
	pub monitors: Arc<dyn Node>,
	/// `OutputSweeper`.
	pub sweeper: Arc<dyn Node>,
	/// The wallet.
	pub wallet: Arc<Wallet>,
	/// For bitcoind: the best block of the manager, of the sweeper, and of each monitor, in this order.
	pub from: Vec<BlockLocator>,
}

/// A connected backend. [`Chain::synchronize`] once, then [`Chain::run`].
pub struct Chain {
	backend: Backend,
	network: Network,
	fees: Arc<Fees>,
	broadcaster: Arc<Broadcaster>,
	pace: Pace,
	synchronized: bool,
	doubt: Doubt,
	witnesses: Vec<Witness>,
	verdict: watch::Sender<Verdict>,
}

enum Backend {
	Esplora(Box<esplora::Esplora>),
	Electrum(Box<electrum::Electrum>),
	Bitcoind(Box<bitcoind::Bitcoind>),
}

impl Chain {
	/// Connects, compares the genesis block and gets the first fee estimates.
	///
	/// # Errors
	/// [`ChainError`]: each names the server, the cause and what to do. Of several Esplora servers, one must answer.
	pub async fn connect(
		cfg: ChainConfig,
		trust: Trust,
		network: Network,
		fees: Arc<Fees>,
		broadcaster: Arc<Broadcaster>,
		logger: Arc<dyn Logger + Send + Sync>,
	) -> Result<Chain, ChainError> {
		let backend = match cfg {
			ChainConfig::Esplora { urls, way } => {
				Backend::Esplora(Box::new(esplora::Esplora::connect(urls, way, network, logger).await?))
			}
			ChainConfig::Electrum { url, way } => {
				Backend::Electrum(Box::new(electrum::Electrum::connect(&url, way, network).await?))
			}
			ChainConfig::Bitcoind { url, auth, way } => {
				Backend::Bitcoind(Box::new(bitcoind::Bitcoind::connect(url, auth, way, network).await?))
			}
		};
		let witnesses = trust.witnesses.into_iter().map(Witness::new).collect::<Result<Vec<_>, _>>()?;
		let (verdict, found) = watch::channel(Verdict::default());
		let doubt = Doubt::new(trust.max_tip_age, found);
		let pace = Pace::of(network);
		let chain = Chain { backend, network, fees, broadcaster, pace, synchronized: false, doubt, witnesses, verdict };
		chain.take_estimates().await;
		Ok(chain)
	}

	/// Where LDK registers what it watches, for backends that must be told (Esplora, Electrum).
	pub fn filter(&self) -> Option<Arc<dyn Filter + Send + Sync>> {
		match &self.backend {
			Backend::Esplora(esplora) => Some(esplora.filter()),
			Backend::Electrum(electrum) => Some(electrum.filter()),
			Backend::Bitcoind(_) => None,
		}
	}

	/// The backend's best block and the few before it, for a fresh `ChannelManager` and a fresh wallet.
	///
	/// # Errors
	/// [`ChainError`].
	pub async fn best_block(&self) -> Result<BlockLocator, ChainError> {
		match &self.backend {
			Backend::Esplora(esplora) => esplora.best_block().await,
			Backend::Electrum(electrum) => electrum.best_block().await,
			Backend::Bitcoind(bitcoind) => bitcoind.best_block().await,
		}
	}

	/// Leads all listeners to the tip, each from its own best block. Before peers connect.
	///
	/// # Errors
	/// [`ChainError`]. After an error with bitcoind the listeners may stand at different blocks: start anew.
	pub async fn synchronize(&mut self, listeners: &Listeners) -> Result<(), ChainError> {
		listeners.wallet.set_birthday(self.best_block().await?);
		match &mut self.backend {
			Backend::Esplora(esplora) => esplora.synchronize(listeners, &self.broadcaster).await?,
			Backend::Electrum(electrum) => electrum.synchronize(listeners, &self.broadcaster).await?,
			Backend::Bitcoind(bitcoind) => bitcoind.synchronize(listeners, &self.broadcaster).await?,
		}
		self.synchronized = true;
		Ok(())
	}

	/// What [`Chain::run`] starts from, after [`Chain::synchronize`] led all to `best`.
	pub async fn tip(&mut self, best: BlockLocator) -> Tip {
		let source = self.backend.source();
		let (height, hash) = (best.height, best.block_hash);
		let tip = Tip { height, hash, synced: true, at: SystemTime::now(), source, error: None, troubles: Vec::new() };
		match self.doubted(tip.clone()).await {
			Ok(tip) => tip,
			// The first look will tell.
			Err(e) => Tip { synced: false, error: Some(e.to_string()), ..tip },
		}
	}

	/// Follows the chain until `stop`: polls, backs off, fails over, keeps fees and broadcasts going. An error is
	/// reported in `tip` and retried, never returned.
	pub async fn run(mut self, listeners: Listeners, tip: watch::Sender<Tip>, stop: watch::Receiver<bool>) {
		let (witnesses, wallet) = (std::mem::take(&mut self.witnesses), Arc::clone(&listeners.wallet));
		let watching = witness::watch(witnesses, wallet, self.network, self.pace, self.verdict.clone());
		tokio::select! {
			() = self.follow(listeners, tip, stop) => {},
			() = watching => {},
		}
	}

	async fn follow(mut self, listeners: Listeners, tip: watch::Sender<Tip>, mut stop: watch::Receiver<bool>) {
		let mut due = Due::new(self.pace);
		let mut ailing: Option<Instant> = None;
		loop {
			let look = tokio::select! {
				look = self.look(&listeners, &mut due) => look,
				() = stopped(&mut stop) => return,
			};
			let wait = match look {
				Ok(seen) => {
					if ailing.take().is_some() {
						tracing::info!(source = %seen.source, height = seen.height, "the chain backend is back");
						// It may have lost its mempool meanwhile.
						self.broadcaster.send_again();
					}
					tip.send_replace(seen);
					due.poll
				}
				Err(e) => {
					let since = *ailing.get_or_insert_with(|| {
						tracing::warn!("{e}");
						Instant::now()
					});
					tip.send_modify(|tip| {
						tip.error = Some(e.to_string());
						tip.synced = tip.synced && since.elapsed() < self.pace.patience;
					});
					self.backend.pause(since, self.pace)
				}
			};
			tokio::select! {
				() = tokio::time::sleep(wait) => {}
				() = self.broadcaster.wanted() => {}
				() = self.backend.woken() => {}
				() = self.doubt.changed() => {}
				() = stopped(&mut stop) => return,
			}
		}
	}

	/// One look: the tip, what is new for LDK and the wallet, transactions to be sent, fees.
	async fn look(&mut self, listeners: &Listeners, due: &mut Due) -> Result<Tip, ChainError> {
		if !self.synchronized {
			self.synchronize(listeners).await?;
		}
		// What LDK wants mined goes out first: it may be what the rest of this look is to see.
		self.flush(false).await;
		let before = listeners.wallet.tip();
		let seen = match &mut self.backend {
			Backend::Esplora(esplora) => esplora.look(listeners, &self.broadcaster).await?,
			Backend::Electrum(electrum) => {
				let outbox = electrum.outbox();
				let look = electrum.look(listeners, &self.broadcaster);
				sending(look, outbox.as_ref(), &self.broadcaster).await?
			}
			Backend::Bitcoind(bitcoind) => bitcoind.look(listeners, &self.broadcaster).await?,
		};
		listeners.wallet.tidy();
		let new_block = before != listeners.wallet.tip();
		self.flush(new_block).await;
		if due.estimates(new_block) {
			self.take_estimates().await;
		}
		self.doubted(seen).await
	}

	/// What the backend says, and what is said against it.
	async fn doubted(&mut self, mut tip: Tip) -> Result<Tip, ChainError> {
		if self.doubt.is_new(&tip.hash) {
			let mined = self.backend.mined_at(&tip.hash).await?;
			self.doubt.tip(tip.hash, UNIX_EPOCH + Duration::from_secs(mined.into()), Instant::now());
		}
		if let Some(reason) = self.doubt.reason(SystemTime::now(), Instant::now()) {
			tip.synced = false;
			tip.error.get_or_insert(reason);
		}
		tip.troubles = self.doubt.verdict().troubles;
		tip.troubles.extend(self.broadcaster.troubles());
		tip.troubles.truncate(MAX_TROUBLES);
		Ok(tip)
	}

	/// A backend that is away shows in the look at the tip; here it only means "again later".
	async fn flush(&self, new_block: bool) {
		let now = Instant::now();
		let result = match &self.backend {
			Backend::Esplora(esplora) => self.broadcaster.flush(esplora.as_ref(), now, new_block).await,
			Backend::Electrum(electrum) => self.broadcaster.flush(electrum.outbox().as_ref(), now, new_block).await,
			Backend::Bitcoind(bitcoind) => self.broadcaster.flush(bitcoind.as_ref(), now, new_block).await,
		};
		if let Err(e) = result {
			tracing::debug!("transactions wait for the chain backend: {e:?}");
		}
	}

	async fn take_estimates(&self) {
		let estimates: Result<Estimates, ChainError> = match &self.backend {
			Backend::Esplora(esplora) => esplora.estimates().await,
			Backend::Electrum(electrum) => electrum.estimates().await,
			Backend::Bitcoind(bitcoind) => bitcoind.estimates().await,
		};
		match estimates {
			Ok(estimates) => {
				if let Err(refused) = self.fees.set(&estimates, Instant::now()) {
					tracing::warn!(network = %self.network, "{refused}");
				}
			}
			Err(e) => tracing::debug!("no fee estimates: {e}"),
		}
	}
}

/// What is wanted on the chain during a look goes out at once, and not after it.
async fn sending<T>(look: impl Future<Output = T>, outlet: &impl Outlet, broadcaster: &Broadcaster) -> T {
	let mut look = pin!(look);
	loop {
		tokio::select! {
			seen = &mut look => return seen,
			() = broadcaster.wanted() => {}
		}
		// The look goes on meanwhile on its own thread.
		if let Err(e) = broadcaster.flush(outlet, Instant::now(), false).await {
			tracing::debug!("transactions wait for the chain backend: {e:?}");
		}
	}
}

impl Backend {
	/// Which server is asked, for people.
	fn source(&self) -> String {
		match self {
			Backend::Esplora(esplora) => esplora.source(),
			Backend::Electrum(electrum) => electrum.source(),
			Backend::Bitcoind(bitcoind) => bitcoind.source(),
		}
	}

	/// The time in a block's header, in seconds since 1970.
	async fn mined_at(&self, hash: &BlockHash) -> Result<u32, ChainError> {
		match self {
			Backend::Esplora(esplora) => esplora.mined_at(hash).await,
			Backend::Electrum(electrum) => electrum.mined_at(hash).await,
			Backend::Bitcoind(bitcoind) => bitcoind.mined_at(hash).await,
		}
	}

	/// How long to wait after an error. With another server at hand, not at all.
	fn pause(&mut self, since: Instant, pace: Pace) -> std::time::Duration {
		match self {
			Backend::Esplora(esplora) => esplora.next_server(),
			Backend::Electrum(electrum) => electrum.pause(since),
			Backend::Bitcoind(_) => pace.backoff(since.elapsed()),
		}
	}

	/// Resolves when LDK has registered something that the backend has to look for.
	async fn woken(&self) {
		match self {
			Backend::Esplora(esplora) => esplora.registered().await,
			Backend::Electrum(electrum) => electrum.registered().await,
			Backend::Bitcoind(_) => std::future::pending().await,
		}
	}
}

/// What is done less often than at every look.
struct Due {
	poll: std::time::Duration,
	every: std::time::Duration,
	estimates: Instant,
}

impl Due {
	fn new(pace: Pace) -> Due {
		Due { poll: pace.poll, every: pace.estimates.min(RESEND * 5), estimates: Instant::now() }
	}

	fn estimates(&mut self, new_block: bool) -> bool {
		let due = new_block || self.estimates.elapsed() >= self.every;
		if due {
			self.estimates = Instant::now();
		}
		due
	}
}

/// The URL without user, password and slash at the end, for people and logs.
fn shown(url: &str) -> String {
	let url = url.trim_end_matches('/');
	match (url.split_once("://"), url.rsplit_once('@')) {
		(Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
		_ => url.to_owned(),
	}
}

#[cfg(test)]
mod tests {
	use super::super::testing::{Bench, Recorder, payment};
	use super::*;
	use bitcoin::ScriptBuf;

	/// The node spawns it.
	#[expect(dead_code, reason = "it is compiled, not called")]
	fn following_can_be_spawned(chain: Chain, l: Listeners, tip: watch::Sender<Tip>, stop: watch::Receiver<bool>) {
		tokio::spawn(chain.run(l, tip, stop));
	}

	#[tokio::test]
	async fn what_is_to_be_sent_does_not_wait_for_a_look() {
		let (bench, backend) = (Bench::new().await, Recorder::default());
		let tx = payment(10_000, ScriptBuf::new());
		let looking = async {
			bench.broadcaster.send(vec![tx.clone()]);
			// It ends when the transaction is out.
			bench.broadcaster.outcome(tx.compute_txid(), Duration::from_secs(60)).await
		};
		assert_eq!(sending(looking, &backend, &bench.broadcaster).await, Some(Ok(())));
		assert_eq!(backend.take(), [[tx.compute_txid()]]);
	}

	#[test]
	fn credentials_are_not_shown() {
		assert_eq!(shown("http://user:secret@127.0.0.1:8332/"), "http://127.0.0.1:8332");
		assert_eq!(shown("https://mempool.space/api"), "https://mempool.space/api");
		let auth = RpcAuth::UserPass { user: "u".into(), password: "secret".into() };
		assert!(!format!("{auth:?}").contains("secret"));
	}
}
