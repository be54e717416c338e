//! A whole, small Lightning node in this process: LDK's parts wired together, and the tasks that keep them going.

use super::behaviour::{Behaviour, Diary, ThinEvent};
use super::chain::{Blocks, Broadcaster, ConstantFees};
use super::signing::Signing;
use super::store::{Memory, NotKept};
use super::{Log, parse_uri, random_bytes, since_epoch};
use crate::{Bitcoind, eventually};
use anyhow::{Context, Result, anyhow};
use bitcoin::Network;
use bitcoin::secp256k1::PublicKey;
use lightning::chain::Filter;
use lightning::chain::chainmonitor::ChainMonitor;
use lightning::events::EventsProvider;
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::channelmanager::{ChainParameters, ChannelManager};
use lightning::ln::peer_handler::{IgnoringMessageHandler, MessageHandler, PeerManager};
use lightning::log_info;
use lightning::onion_message::messenger::DefaultMessageRouter;
use lightning::routing::gossip::{NetworkGraph, P2PGossipSync};
use lightning::routing::router::DefaultRouter;
use lightning::routing::scoring::{
	ProbabilisticScorer, ProbabilisticScoringDecayParameters, ProbabilisticScoringFeeParameters,
};
use lightning::routing::utxo::UtxoLookup;
use lightning::sign::{InMemorySigner, KeysManager, NodeSigner, Recipient};
use lightning::types::payment::{PaymentHash, PaymentPreimage};
use lightning::util::config::UserConfig;
use lightning::util::logger::Logger;
use lightning_block_sync::poll::ChainPoller;
use lightning_block_sync::{HeaderCache, SpvClient};
use lightning_liquidity::events::LiquidityEvent;
use lightning_liquidity::lsps0::ser::LSPSRequestId;
use lightning_liquidity::lsps1::client::LSPS1ClientConfig;
use lightning_liquidity::lsps2::client::LSPS2ClientConfig;
use lightning_liquidity::lsps5::client::LSPS5ClientConfig;
use lightning_liquidity::utils::time::DefaultTimeProvider;
use lightning_liquidity::{LiquidityClientConfig, LiquidityManager};
use lightning_net_tokio::{SocketDescriptor, setup_inbound, setup_outbound};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, oneshot};

/// How often bitcoind is asked for blocks.
const CHAIN_POLL: Duration = Duration::from_millis(100);
/// LDK's own timers: pings and batched gossip.
const PEER_TICK: Duration = Duration::from_secs(10);
/// LDK's own timers: fee updates, and MPP parts that wait for their siblings.
const MANAGER_TICK: Duration = Duration::from_secs(60);
/// How long peers and channels may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) type Graph = NetworkGraph<Arc<Log>>;
pub(super) type Scorer = ProbabilisticScorer<Arc<Graph>, Arc<Log>>;
type Router = DefaultRouter<
	Arc<Graph>,
	Arc<Log>,
	Arc<KeysManager>,
	Arc<RwLock<Scorer>>,
	ProbabilisticScoringFeeParameters,
	Scorer,
>;
type Messages = DefaultMessageRouter<Arc<Graph>, Arc<Log>, Arc<KeysManager>>;
pub(super) type Monitors = ChainMonitor<
	InMemorySigner,
	Arc<dyn Filter + Send + Sync>,
	Arc<Broadcaster>,
	Arc<ConstantFees>,
	Arc<Log>,
	Arc<NotKept>,
	Arc<KeysManager>,
>;
pub(super) type Channels = ChannelManager<
	Arc<Monitors>,
	Arc<Broadcaster>,
	Arc<KeysManager>,
	Arc<KeysManager>,
	Arc<KeysManager>,
	Arc<ConstantFees>,
	Arc<Router>,
	Arc<Messages>,
	Arc<Log>,
>;
pub(super) type Liquidity =
	LiquidityManager<Arc<KeysManager>, Arc<KeysManager>, Arc<Channels>, Memory, DefaultTimeProvider, Arc<Broadcaster>>;
type Gossip = P2PGossipSync<Arc<Graph>, Arc<dyn UtxoLookup + Send + Sync>, Arc<Log>>;
type Peers = PeerManager<
	SocketDescriptor,
	Arc<Signing>,
	Arc<Gossip>,
	IgnoringMessageHandler,
	Arc<Log>,
	Arc<Liquidity>,
	Arc<KeysManager>,
	Arc<Monitors>,
>;

/// What a thin node is to be.
#[derive(Clone, Debug)]
pub struct ThinConfig {
	/// Names it in the logs.
	pub name: String,
	/// The LSP that it buys from, as `NODE_ID@HOST:PORT`: connected at the start and trusted with unconfirmed channels.
	pub lsp: Option<String>,
	/// How it behaves at first.
	pub behaviour: Behaviour,
	/// How often it asks bitcoind for news.
	pub poll: Duration,
	/// Does it take part in splices that others begin?
	pub splices: bool,
}

impl ThinConfig {
	/// An honest client of this LSP.
	pub fn client(name: &str, lsp: &str) -> ThinConfig {
		ThinConfig { lsp: Some(lsp.to_owned()), ..ThinConfig::stranger(name) }
	}

	/// A node that trusts nobody: a payer, or a node in between.
	pub fn stranger(name: &str) -> ThinConfig {
		ThinConfig {
			name: name.to_owned(),
			lsp: None,
			behaviour: Behaviour::default(),
			poll: CHAIN_POLL,
			splices: true,
		}
	}
}

/// A running node. It forgets its channels when dropped; drop it before the peers that must not care.
pub struct ThinNode {
	pub(super) inner: Arc<Inner>,
	address: SocketAddr,
	_thread: Thread,
}

/// What the node's tasks and its handle share.
pub(super) struct Inner {
	pub(super) node_id: PublicKey,
	pub(super) lsp: Option<(PublicKey, SocketAddr)>,
	pub(super) keys: Arc<KeysManager>,
	pub(super) channels: Arc<Channels>,
	signing: Arc<Signing>,
	pub(super) monitors: Arc<Monitors>,
	pub(super) peers: Arc<Peers>,
	pub(super) liquidity: Arc<Liquidity>,
	pub(super) broadcaster: Arc<Broadcaster>,
	pub(super) log: Arc<Log>,
	pub(super) behaviour: Mutex<Behaviour>,
	pub(super) diary: Diary,
	pub(super) preimages: Mutex<HashMap<PaymentHash, PaymentPreimage>>,
	/// Who waits for the LSP's answer to which request.
	pub(super) waiting: Mutex<HashMap<LSPSRequestId, oneshot::Sender<LiquidityEvent>>>,
	pub(super) wake: Notify,
}

impl ThinNode {
	/// Starts a node with a random key on this chain and connects it to its LSP.
	///
	/// # Errors
	/// bitcoind or the LSP is not there.
	pub async fn start(bitcoind: &Bitcoind, config: ThinConfig) -> Result<ThinNode> {
		let (thread, poll) = (Thread::start(&config.name)?, config.poll);
		let log = Arc::new(Log::new(&config.name));
		let blocks = Arc::new(Blocks(bitcoind.rpc()));
		let tip = lightning_block_sync::init::validate_best_block_header(&*blocks);
		let tip = tip.await.map_err(|e| anyhow!(e.into_inner()))?;
		let broadcaster = Arc::new(Broadcaster { rpc: bitcoind.rpc(), log, runtime: thread.runtime.clone() });
		let chain = ChainParameters { network: Network::Regtest, best_block: tip.to_block_locator() };
		let inner = Arc::new(Inner::build(config, broadcaster, chain).await?);
		let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
		listener.set_nonblocking(true)?;
		let address = listener.local_addr()?;
		let followers = Arc::new((Arc::clone(&inner.channels), Arc::clone(&inner.monitors)));
		let follower = SpvClient::new(tip, ChainPoller::new(blocks, Network::Regtest), HeaderCache::new(), followers);
		thread.runtime.spawn(follow_chain(follower, Arc::clone(&inner), poll));
		thread.runtime.spawn(process(Arc::clone(&inner)));
		thread.runtime.spawn(sort_answers(Arc::clone(&inner)));
		thread.runtime.spawn(listen(listener, Arc::clone(&inner)));
		let node = ThinNode { inner, address, _thread: thread };
		node.reconnect().await?;
		Ok(node)
	}

	/// Its node id.
	pub fn node_id(&self) -> PublicKey {
		self.inner.node_id
	}

	/// Where it listens, as `NODE_ID@HOST:PORT`.
	pub fn uri(&self) -> String {
		format!("{}@{}", self.inner.node_id, self.address)
	}

	/// From now on, behaves so.
	pub fn set_behaviour(&self, behaviour: Behaviour) {
		*self.inner.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
	}

	/// From now on, signs for new channels, or accepts them and does not.
	pub fn set_signing(&self, signs: bool) {
		self.inner.signing.set(signs);
	}

	/// Connects to `NODE_ID@HOST:PORT`, unless it is connected to it already.
	///
	/// # Errors
	/// The other node is not there.
	pub async fn connect(&self, uri: &str) -> Result<()> {
		let (node_id, address) = parse_uri(uri)?;
		self.inner.connect(node_id, address).await
	}

	/// Connects to its LSP again; does nothing without one.
	///
	/// # Errors
	/// The LSP is not there.
	pub async fn reconnect(&self) -> Result<()> {
		match self.inner.lsp {
			Some((node_id, address)) => self.inner.connect(node_id, address).await,
			None => Ok(()),
		}
	}

	/// Cuts all its connections.
	pub fn disconnect(&self) {
		self.inner.peers.disconnect_all_peers();
	}

	/// Is it connected to this node?
	pub fn is_connected(&self, peer: &PublicKey) -> bool {
		self.inner.peers.peer_by_node_id(peer).is_some()
	}

	/// Its channels, ready or not.
	pub fn channels(&self) -> Vec<ChannelDetails> {
		self.inner.channels.list_channels()
	}

	/// What it can send now, over all channels, in millisatoshi.
	pub fn outbound_msat(&self) -> u64 {
		self.inner.channels.list_usable_channels().iter().map(|channel| channel.outbound_capacity_msat).sum()
	}

	/// Waits until it has this many usable channels, and gives them.
	///
	/// # Errors
	/// It does not within `patience`.
	pub async fn usable_channels(&self, count: usize, patience: Duration) -> Result<Vec<ChannelDetails>> {
		let usable =
			async || Ok(Some(self.inner.channels.list_usable_channels()).filter(|usable| usable.len() >= count));
		eventually(patience, &format!("{count} channels are usable"), usable).await
	}

	/// The height of the best block that its channels know.
	pub fn height(&self) -> u32 {
		self.inner.channels.current_best_block().height
	}

	/// Waits until it knows this height.
	///
	/// # Errors
	/// It does not within `patience`.
	pub async fn at_height(&self, height: u32, patience: Duration) -> Result<()> {
		let there = async || Ok((self.height() >= height).then_some(()));
		eventually(patience, &format!("height {height} is known"), there).await
	}

	/// Everything that happened to it so far, oldest first.
	pub fn events(&self) -> Vec<ThinEvent> {
		self.inner.diary.all()
	}

	/// Everything that happens from now on, as it happens. What is not taken waits in memory.
	pub fn follow(&self) -> mpsc::UnboundedReceiver<(Instant, ThinEvent)> {
		self.inner.diary.follow()
	}

	/// Waits until something happened (now or before) of which `pick` makes a value, and gives that.
	///
	/// # Errors
	/// It does not happen within `patience`; the error lists what did.
	pub async fn wait_for<T>(&self, patience: Duration, pick: impl Fn(&ThinEvent) -> Option<T>) -> Result<T> {
		self.inner.diary.wait_for(patience, pick).await
	}

	/// Closes all its channels by broadcasting its commitment transactions.
	pub fn force_close_all(&self) {
		self.inner.channels.force_close_all_channels_broadcasting_latest_txn("told to".to_owned());
		self.inner.wake.notify_one();
	}

	/// Asks to close a channel together.
	///
	/// # Errors
	/// There is no such channel, or it is closing already.
	pub fn close(&self, channel: &ChannelDetails) -> Result<()> {
		let closed = self.inner.channels.close_channel(&channel.channel_id, &channel.counterparty.node_id);
		self.inner.wake.notify_one();
		closed.map_err(|e| anyhow!("cannot close: {e:?}"))
	}
}

/// The one thread that all of a node's tasks run on.
///
/// With several, LDK 0.3.0-rc3 fails an assertion of its own when a payment that one thread is still forwarding is
/// fulfilled by another ("If we go to prune an inbound HTLC it should be present"). It does no harm where there are no
/// debug assertions.
struct Thread {
	runtime: Handle,
	/// Dropped to end it.
	stop: Option<oneshot::Sender<()>>,
	thread: Option<std::thread::JoinHandle<()>>,
}

impl Thread {
	fn start(name: &str) -> Result<Thread> {
		let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
		let handle = runtime.handle().clone();
		let (stop, stopped) = oneshot::channel::<()>();
		let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
			// Nothing is ever sent: this ends when the other half is dropped.
			let _ = runtime.block_on(stopped);
		})?;
		Ok(Thread { runtime: handle, stop: Some(stop), thread: Some(thread) })
	}
}

impl Drop for Thread {
	fn drop(&mut self) {
		drop(self.stop.take());
		if let Some(thread) = self.thread.take() {
			// A panic in there has already been printed, and drop must not panic.
			let _ = thread.join();
		}
	}
}

impl Inner {
	async fn build(config: ThinConfig, broadcaster: Arc<Broadcaster>, chain: ChainParameters) -> Result<Inner> {
		let started = since_epoch();
		let now = started.as_secs() as u32;
		let lsp = config.lsp.as_deref().map(parse_uri).transpose()?;
		let user_config = UserConfig { reject_inbound_splices: !config.splices, ..user_config() };
		let log = Arc::clone(&broadcaster.log);
		let keys = Arc::new(KeysManager::new(&random_bytes()?, started.as_secs(), started.subsec_nanos(), true));
		let fees = Arc::new(ConstantFees);
		let monitors: Arc<Monitors> = Arc::new(ChainMonitor::new(
			None,
			Arc::clone(&broadcaster),
			Arc::clone(&log),
			Arc::clone(&fees),
			Arc::new(NotKept),
			Arc::clone(&keys),
			keys.get_peer_storage_key(),
			false,
		));
		let graph = Arc::new(Graph::new(Network::Regtest, Arc::clone(&log)));
		let scorer = Scorer::new(ProbabilisticScoringDecayParameters::default(), Arc::clone(&graph), Arc::clone(&log));
		let scorer = Arc::new(RwLock::new(scorer));
		let router = Router::new(
			Arc::clone(&graph),
			Arc::clone(&log),
			Arc::clone(&keys),
			scorer,
			ProbabilisticScoringFeeParameters::default(),
		);
		let messages = Messages::new(Arc::clone(&graph), Arc::clone(&keys));
		let channels: Arc<Channels> = Arc::new(ChannelManager::new(
			fees,
			Arc::clone(&monitors),
			Arc::clone(&broadcaster),
			Arc::new(router),
			Arc::new(messages),
			Arc::clone(&log),
			Arc::clone(&keys),
			Arc::clone(&keys),
			Arc::clone(&keys),
			user_config,
			chain,
			now,
		));
		let client = LiquidityClientConfig {
			lsps1_client_config: Some(LSPS1ClientConfig { max_channel_fees_msat: None }),
			lsps2_client_config: Some(LSPS2ClientConfig {}),
			lsps5_client_config: Some(LSPS5ClientConfig {}),
		};
		let liquidity = LiquidityManager::new(
			Arc::clone(&keys),
			Arc::clone(&keys),
			Arc::clone(&channels),
			Memory::default(),
			Arc::clone(&broadcaster),
			None,
			Some(client),
		);
		let liquidity: Arc<Liquidity> = Arc::new(liquidity.await.map_err(|e| anyhow!("{e:?}"))?);
		let signing = Arc::new(Signing::new(Arc::clone(&channels)));
		let handlers = MessageHandler {
			chan_handler: Arc::clone(&signing),
			route_handler: Arc::new(Gossip::new(graph, None, Arc::clone(&log))),
			onion_message_handler: IgnoringMessageHandler {},
			custom_message_handler: Arc::clone(&liquidity),
			send_only_message_handler: Arc::clone(&monitors),
		};
		let peers = Arc::new(Peers::new(handlers, now, &random_bytes()?, Arc::clone(&log), Arc::clone(&keys)));
		Ok(Inner {
			node_id: keys.get_node_id(Recipient::Node).map_err(|()| anyhow!("no node id"))?,
			lsp,
			keys,
			channels,
			signing,
			monitors,
			peers,
			liquidity,
			broadcaster,
			log,
			behaviour: Mutex::new(config.behaviour),
			diary: Diary::default(),
			preimages: Mutex::default(),
			waiting: Mutex::default(),
			wake: Notify::new(),
		})
	}

	async fn connect(&self, node_id: PublicKey, address: SocketAddr) -> Result<()> {
		if self.peers.peer_by_node_id(&node_id).is_some() {
			return Ok(());
		}
		let stream = std::net::TcpStream::connect(address).with_context(|| format!("nobody at {address}"))?;
		stream.set_nodelay(true)?;
		stream.set_nonblocking(true)?;
		let peers = Arc::clone(&self.peers);
		let gone = self.broadcaster.runtime.spawn(async move { setup_outbound(peers, node_id, stream).await });
		let connected =
			async || Ok((self.peers.peer_by_node_id(&node_id).is_some() || gone.is_finished()).then_some(()));
		eventually(PATIENCE, &format!("{node_id} says init"), connected).await?;
		self.peers.peer_by_node_id(&node_id).map(|_| ()).with_context(|| format!("{node_id} hung up"))
	}
}

pub(super) fn user_config() -> UserConfig {
	let mut config = UserConfig::default();
	// An LSP keeps its fee of what it forwards.
	config.channel_config.accept_underpaying_htlcs = true;
	config.channel_handshake_limits.force_announced_channel_preference = false;
	config.accept_forwards_to_priv_channels = true;
	config.reject_inbound_splices = false;
	config
}

type Follower = SpvClient<ChainPoller<Arc<Blocks>, Blocks>, Arc<(Arc<Channels>, Arc<Monitors>)>>;

async fn follow_chain(mut follower: Follower, inner: Arc<Inner>, poll: Duration) {
	loop {
		match follower.poll_best_tip().await {
			Ok((_, true)) => inner.wake.notify_one(),
			Ok((_, false)) => {}
			// A test may have stopped bitcoind: the next poll tells.
			Err(e) => log_info!(inner.log, "no block: {:?}", e),
		}
		tokio::time::sleep(poll).await;
	}
}

/// Does at once what LDK's background processor would do in its own time.
async fn process(inner: Arc<Inner>) {
	let mut peer_tick = tokio::time::interval(PEER_TICK);
	let mut manager_tick = tokio::time::interval(MANAGER_TICK);
	loop {
		let handler = |event| {
			inner.handle(event);
			Ok(())
		};
		inner.channels.process_pending_htlc_forwards();
		inner.channels.process_pending_events(&handler);
		inner.monitors.process_pending_events(&handler);
		inner.channels.get_and_clear_needs_persistence();
		inner.peers.process_events();
		if inner.channels.needs_pending_htlc_processing() {
			continue;
		}
		tokio::select! {
			() = inner.channels.get_event_or_persistence_needed_future() => {},
			() = inner.monitors.get_update_future() => {},
			() = inner.liquidity.get_pending_msgs_or_needs_persist_future() => {},
			() = inner.wake.notified() => {},
			_ = peer_tick.tick() => inner.peers.timer_tick_occurred(),
			_ = manager_tick.tick() => {
				inner.channels.timer_tick_occurred();
				inner.monitors.rebroadcast_pending_claims();
			},
		}
	}
}

async fn sort_answers(inner: Arc<Inner>) {
	loop {
		let event = inner.liquidity.next_event_async().await;
		inner.answered(event);
	}
}

async fn listen(listener: std::net::TcpListener, inner: Arc<Inner>) {
	let listener = TcpListener::from_std(listener).expect("it does not block, and this is a runtime");
	while let Ok((stream, _)) = listener.accept().await {
		if stream.set_nodelay(true).is_ok()
			&& let Ok(stream) = stream.into_std()
		{
			tokio::spawn(setup_inbound(Arc::clone(&inner.peers), stream));
		}
	}
}
