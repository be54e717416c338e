//! The Lightning node: LDK's parts, wired together. LDK's types stay in this room (and in the store's key-value door).

pub mod announce;
pub mod batch;
pub mod build;
pub mod channels;
mod cycle;
pub mod door;
pub mod events;
pub mod flush;
pub mod gossip;
mod hear;
pub mod holds;
pub mod inbox;
pub mod intercepts;
pub mod kept;
pub mod keys;
pub mod limits;
pub mod logger;
pub mod onions;
pub mod payments;
pub mod peers;
mod pump;
pub mod recover;
pub mod scids;
pub mod socket;
pub mod splice;
pub mod together;
pub mod trial;
pub mod wire;

use crate::crash::Watched;
use crate::onchain::{Broadcaster, Fees, Reserve, ReservePolicy, Wallet, anchor_reserve};
use crate::pulse::Pulse;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Transaction, Txid};
use door::Door;
use inlet_storage::{CallOrder, OnThisDisk, Store};
use keys::Keys;
use lightning::chain::{Filter, chainmonitor};
use lightning::events::bump_transaction::BumpTransactionEventHandler;
use lightning::ln::channelmanager;
use lightning::ln::msgs::RoutingMessageHandler;
use lightning::ln::peer_handler::{self, IgnoringMessageHandler};
use lightning::ln::types::ChannelId;
use lightning::onion_message::messenger::{self, DefaultMessageRouter};
use lightning::routing::gossip::{NetworkGraph, P2PGossipSync};
use lightning::routing::router::DefaultRouter;
use lightning::routing::scoring::{CombinedScorer, ProbabilisticScoringFeeParameters};
use lightning::routing::utxo::UtxoLookup;
use lightning::sign::InMemorySigner;
use lightning::util::sweep;
use lightning::util::wallet_utils;
use logger::LdkLogger;
use socket::Socket;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use tokio::sync::{Notify, watch};
use wire::Wire;

type Log = Arc<LdkLogger>;
type DynFilter = Arc<dyn Filter + Send + Sync>;
/// The graph of public channels.
pub type Graph = NetworkGraph<Log>;
type Scorer = CombinedScorer<Arc<Graph>, Log>;
type Router = DefaultRouter<Arc<Graph>, Log, Arc<Keys>, Arc<RwLock<Scorer>>, ProbabilisticScoringFeeParameters, Scorer>;
type MessageRouter = DefaultMessageRouter<Arc<Graph>, Log, Arc<Keys>>;
/// Watches the chain for what concerns our channels.
pub type ChainMonitor = chainmonitor::ChainMonitor<
	InMemorySigner,
	DynFilter,
	Arc<Broadcaster>,
	Arc<Fees>,
	Log,
	chainmonitor::AsyncPersister<Watched, CallOrder, Log, Arc<Keys>, Arc<Keys>, Arc<Broadcaster>, Arc<Fees>>,
	Arc<Keys>,
>;
/// The state of all channels and payments.
pub type ChannelManager = channelmanager::ChannelManager<
	Arc<ChainMonitor>,
	Arc<Broadcaster>,
	Arc<Keys>,
	Arc<Keys>,
	Arc<Keys>,
	Arc<Fees>,
	Arc<Router>,
	Arc<MessageRouter>,
	Log,
>;
type OnionMessenger = messenger::OnionMessenger<
	Arc<Keys>,
	Arc<Keys>,
	Log,
	Arc<ChannelManager>,
	Arc<MessageRouter>,
	Arc<ChannelManager>,
	Arc<ChannelManager>,
	IgnoringMessageHandler,
	IgnoringMessageHandler,
>;
type GossipHandler = Arc<dyn RoutingMessageHandler + Send + Sync>;
/// Speaks to peers.
pub type PeerManager = peer_handler::PeerManager<
	Socket,
	Arc<ChannelManager>,
	GossipHandler,
	Arc<OnionMessenger>,
	Log,
	Arc<Wire>,
	Arc<Keys>,
	Arc<ChainMonitor>,
>;
/// Brings what closed channels left on the chain home. It does not wait for a backup's target: LDK's loop waits for it.
pub type Sweeper =
	sweep::OutputSweeper<Arc<Broadcaster>, Arc<Wallet>, Arc<Fees>, DynFilter, OnThisDisk, Log, Arc<Keys>>;
type DynUtxoLookup = Arc<dyn UtxoLookup + Send + Sync>;
/// Gossip from peers.
pub type PeerGossip = P2PGossipSync<Arc<Graph>, DynUtxoLookup, Log>;
/// Gossip from a server.
pub type RapidGossip = lightning_rapid_gossip_sync::RapidGossipSync<Arc<Graph>, Log>;
type Bumper =
	BumpTransactionEventHandler<Arc<Broadcaster>, Arc<wallet_utils::Wallet<Arc<Wallet>, Log>>, Arc<Keys>, Log>;

/// LDK's parts, ready to be used.
pub struct Lightning {
	/// Keys.
	pub keys: Arc<Keys>,
	/// Channels and payments.
	pub manager: Arc<ChannelManager>,
	/// Chain watching.
	pub monitor: Arc<ChainMonitor>,
	/// Peers.
	pub peers: Arc<PeerManager>,
	/// Onion messages.
	pub messenger: Arc<OnionMessenger>,
	/// Sweeping.
	pub sweeper: Arc<Sweeper>,
	/// For which weather anchors are kept.
	pub reserve: ReservePolicy,
	/// The public graph.
	pub graph: Arc<Graph>,
	/// LSPS messages.
	pub wire: Arc<Wire>,
	/// Connections, and how many there may be.
	pub door: Arc<Door>,
	/// Fee bumping of closes.
	pub bumper: Arc<Bumper>,
	broadcaster: Arc<Broadcaster>,
	fees: Arc<Fees>,
	scorer: Arc<RwLock<Scorer>>,
	/// It differs from what was written.
	scored: AtomicBool,
	/// Who waits for the manager to be written.
	kept: kept::Kept,
	gossip: gossip::Gossip,
	logger: Log,
	/// There are HTLCs for the pump.
	pending: Notify,
	/// Grows whenever channels come or go.
	changes: AtomicU64,
	wallet: Arc<Wallet>,
	/// What our channels are called.
	pub scids: scids::Scids,
	/// For how long payments are held.
	pub holds: holds::Holds,
	/// HTLCs that are handed to us.
	pub intercepts: intercepts::Intercepts,
	/// Channels that are only tried: see [`trial`].
	pub trials: Arc<trial::Trials>,
}

impl Lightning {
	/// What must stay in the wallet so that every channel can be closed at a high feerate: those that are open, and those
	/// that are closed with something left on the chain to be claimed.
	pub fn anchor_reserve(&self) -> Reserve {
		let channels = self.manager.list_channels();
		// A trial is never funded.
		let open = channels.iter().filter(|channel| !self.trials.contains(channel.user_channel_id));
		let open: HashSet<ChannelId> = open.map(|channel| channel.channel_id).collect();
		let closed = self.monitor.list_monitors().into_iter().filter(|id| !open.contains(id));
		// LDK keeps the monitor of a channel that was closed before its funding was broadcast, and reckons with its balance
		// for ever: nothing will ever be on the chain.
		let monitors = closed.filter_map(|id| self.monitor.get_monitor(id).ok());
		let on_chain = monitors.filter(|monitor| !self.wallet.is_unsent(&monitor.get_funding_txo().txid));
		let closing: usize = on_chain.map(|monitor| monitor.get_claimable_balances().len()).sum();
		let channels = u64::try_from(open.len().saturating_add(closing)).unwrap_or(u64::MAX);
		anchor_reserve(self.reserve, channels, &[])
	}

	/// Does this spend a funding transaction of ours that was never sent, or was withdrawn?
	pub(crate) fn spends_unsent(&self, tx: &Transaction) -> bool {
		tx.input.iter().any(|input| self.wallet.is_unsent(&input.previous_output.txid))
	}

	/// Updates of channels that are not durable yet: what they allow has not been said to any peer.
	pub fn updates_waiting(&self) -> u64 {
		let queued = self.monitor.pending_operation_count();
		let written: usize = self.monitor.list_pending_monitor_updates().values().map(Vec::len).sum();
		u64::try_from(queued + written).unwrap_or(u64::MAX)
	}

	/// Grows whenever channels come or go: what is reckoned from all channels holds until then (or until a block comes).
	pub fn changes(&self) -> u64 {
		self.changes.load(Ordering::Acquire)
	}

	/// A channel came, went, or became something else.
	pub(crate) fn channels_changed(&self) {
		self.changes.fetch_add(1, Ordering::AcqRel);
	}

	/// The channels with a peer, as LDK has them now.
	pub(crate) fn places_with(&self, peer: &PublicKey) -> Vec<scids::Place> {
		self.manager.list_channels_with_counterparty(peer).iter().map(scids::Place::from).collect()
	}

	/// LDK forgets a channel that was not funded when the node stopped; the coins kept for it are free again, unless the
	/// book has a use for them (`wanted`). What funds several is dissolved when the book can hear of it (`Batcher::take_up`).
	pub async fn release_unused(&self, wallet: &Wallet, wanted: &HashSet<Txid>) {
		let channels = self.manager.list_channels();
		for txid in wallet.funded() {
			if !wanted.contains(&txid)
				&& !wallet.is_shared(&txid)
				&& !channels.iter().any(|channel| channel.funding_txo.is_some_and(|funding| funding.txid == txid))
			{
				wallet.release(txid).await;
			}
		}
	}

	/// After something was done from outside LDK's loop: its consequences go out now, not at the loop's next turn.
	pub fn hurry(&self) {
		self.manager.process_pending_htlc_forwards();
		self.flush();
	}

	/// LDK has something to send: soon, and not in the caller's time.
	pub fn flush(&self) {
		self.door.flush().ask();
	}

	/// Lets LDK send whenever there is something, until `stop`.
	pub async fn send(self: Arc<Self>, stop: watch::Receiver<bool>) {
		self.door.flush().run(|| self.peers.process_events(), stop).await;
	}

	/// Runs LDK's loop until `stop`, then persists what is left: to be stopped after everything that works with LDK.
	///
	/// # Errors
	/// LDK could not persist its state.
	pub async fn run(
		self: Arc<Self>,
		store: Store,
		handler: Arc<events::Handler>,
		pulse: Arc<Pulse>,
		stop: watch::Receiver<bool>,
	) -> Result<(), lightning::io::Error> {
		let cycle = cycle::Cycle { lightning: self, store, handler, pulse, encoded: AtomicUsize::new(0) };
		cycle.run(stop).await
	}

	/// Asks a rapid gossip sync server for news, for ever; returns at once without one.
	pub async fn refresh_gossip(self: Arc<Self>) {
		if let gossip::Gossip::Rapid { sync, url } = &self.gossip {
			let stamp = self.graph.get_last_rapid_gossip_sync_timestamp().unwrap_or(0);
			gossip::Gossip::refresh(sync.clone(), url.clone(), stamp).await;
		}
	}
}
