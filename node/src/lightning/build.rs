//! From the store to a node that can run: LDK's start-up order (see the design's map of LDK).
//!
//! "Not found" makes a new node; "cannot read" never does.

use super::door::Door;
use super::gossip::Gossip;
use super::scids::{Place, Scids};
use super::wire::Wire;
use super::*;
use crate::config::{PeerLimits, RoutingConfig};
use crate::crash;
use crate::onchain::ReservePolicy;
use crate::tor::Way;
use anyhow::{Context, bail};
use bitcoin::Network;
use lightning::chain::{BlockLocator, ChannelMonitorUpdateStatus};
use lightning::io;
use lightning::ln::channelmanager::{ChainParameters, ChannelManagerReadArgs};
use lightning::ln::peer_handler::MessageHandler;
use lightning::routing::scoring::{ProbabilisticScorer, ProbabilisticScoringDecayParameters};
use lightning::sign::EntropySource;
use lightning::util::config::{HTLCInterceptionFlags, UserConfig};
use lightning::util::persist::{KVStore, MonitorUpdatingPersisterAsync};
use lightning::util::ser::ReadableArgs;
use std::time::{SystemTime, UNIX_EPOCH};

/// How many updates of a channel are stored before it is stored whole again.
const MAX_PENDING_UPDATES: u64 = 100;
/// LDK's default lets a closing peer make us overpay by 1,000 sat to avoid a forced close; this is what Inlet accepts (R9).
const FORCE_CLOSE_AVOIDANCE_MAX_FEE_SAT: u64 = 50;
/// HTLCs that a peer may have under way to us in one channel. Who holds payments back (slow jamming) ties up so many and no more.
const MAX_HTLCS_IN_FLIGHT: u16 = 50;
/// How much of a public channel a peer may have under way to us, in percent: the rest stays free for others. A client may use
/// all of its own channel, which only it can jam.
const MAX_PUBLIC_IN_FLIGHT: u8 = 25;

/// What the node is made of.
pub struct Parts {
	/// Which network.
	pub network: Network,
	/// The 32 bytes that the seed gives for LDK.
	pub seed: [u8; 32],
	/// The store.
	pub store: Store,
	/// The on-chain wallet.
	pub wallet: Arc<Wallet>,
	/// Fee estimates.
	pub fees: Arc<Fees>,
	/// The broadcaster.
	pub broadcaster: Arc<Broadcaster>,
	/// The chain backend's filter, if it wants one.
	pub filter: Option<DynFilter>,
	/// The chain's tip, for a node that has no state yet.
	pub tip: BlockLocator,
	/// Forwarding fees.
	pub routing: RoutingConfig,
	/// Gossip source.
	pub gossip: crate::config::Gossip,
	/// How many connections there may be.
	pub limits: PeerLimits,
	/// How peers and gossip are reached.
	pub way: Way,
	/// For which weather anchors are kept.
	pub reserve: ReservePolicy,
	/// Are sleeping clients woken (bLIP-55)?
	pub wakes: bool,
}

/// LDK's parts, and from which block each of them has to be brought up to the tip.
pub struct Built {
	/// The parts.
	pub lightning: Lightning,
	/// The best blocks of the manager, the sweeper and each monitor, in this order.
	pub from: Vec<BlockLocator>,
}

/// LDK's config: anchors, private channels by default, interception of our own SCIDs and, with `wakes`, of payments to private
/// channels whose peer is away.
pub fn user_config(routing: &RoutingConfig, wakes: bool) -> UserConfig {
	let mut config = UserConfig::default();
	config.channel_handshake_config.negotiate_anchors_zero_fee_htlc_tx = true;
	config.channel_handshake_config.negotiate_scid_privacy = true;
	config.channel_handshake_config.minimum_depth = 3;
	config.channel_handshake_config.our_max_accepted_htlcs = MAX_HTLCS_IN_FLIGHT;
	config.channel_handshake_config.announced_channel_max_inbound_htlc_value_in_flight_percentage =
		MAX_PUBLIC_IN_FLIGHT;
	config.channel_handshake_config.unannounced_channel_max_inbound_htlc_value_in_flight_percentage = 100;
	config.channel_handshake_limits.force_announced_channel_preference = false;
	config.channel_config.forwarding_fee_base_msat = routing.base_fee_msat;
	config.channel_config.forwarding_fee_proportional_millionths = routing.fee_ppm;
	config.channel_config.cltv_expiry_delta = routing.cltv_expiry_delta;
	config.channel_config.force_close_avoidance_max_fee_satoshis = FORCE_CLOSE_AVOIDANCE_MAX_FEE_SAT;
	config.accept_forwards_to_priv_channels = true;
	config.htlc_interception_flags = HTLCInterceptionFlags::ToInterceptSCIDs as u8;
	if wakes {
		config.htlc_interception_flags |= HTLCInterceptionFlags::ToOfflinePrivateChannels as u8;
	}
	// LDK takes a splice of a channel without confirmations for locked at once, and forgets how to punish what was before; and
	// the ledger does not know of splices that are not ours (lsp/docs/decisions/0004).
	config.reject_inbound_splices = true;
	config
}

/// Where LDK keeps its single values: primary and secondary namespace, and key.
mod place {
	use lightning::util::persist::*;

	pub const MANAGER: [&str; 3] = [
		CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
		CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE,
		CHANNEL_MANAGER_PERSISTENCE_KEY,
	];
	pub const GRAPH: [&str; 3] = [
		NETWORK_GRAPH_PERSISTENCE_PRIMARY_NAMESPACE,
		NETWORK_GRAPH_PERSISTENCE_SECONDARY_NAMESPACE,
		NETWORK_GRAPH_PERSISTENCE_KEY,
	];
	pub const SCORER: [&str; 3] =
		[SCORER_PERSISTENCE_PRIMARY_NAMESPACE, SCORER_PERSISTENCE_SECONDARY_NAMESPACE, SCORER_PERSISTENCE_KEY];
	pub const SWEEPER: [&str; 3] = [
		OUTPUT_SWEEPER_PERSISTENCE_PRIMARY_NAMESPACE,
		OUTPUT_SWEEPER_PERSISTENCE_SECONDARY_NAMESPACE,
		OUTPUT_SWEEPER_PERSISTENCE_KEY,
	];
}

/// Reads one of LDK's values; `None` only if it was never written.
async fn read(store: &Store, [primary, secondary, key]: [&str; 3]) -> anyhow::Result<Option<Vec<u8>>> {
	match KVStore::read(store, primary, secondary, key).await {
		Ok(bytes) => Ok(Some(bytes)),
		Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
		Err(e) => Err(anyhow::anyhow!("the store cannot read {key:?}: {e}")),
	}
}

impl Lightning {
	/// Reads the node's state, or makes a new node; nothing is connected or synchronised yet.
	///
	/// # Errors
	/// The state cannot be read or does not fit together: the node must not start then.
	pub async fn build(parts: Parts) -> anyhow::Result<Built> {
		let logger = Arc::new(LdkLogger);
		let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
		let store = parts.store.clone();
		let keys = Arc::new(Keys::new(&parts.seed, parts.wallet.clone()));

		let persister = MonitorUpdatingPersisterAsync::new(
			crash::watched(store.clone()),
			CallOrder(tokio::runtime::Handle::current()),
			logger.clone(),
			MAX_PENDING_UPDATES,
			keys.clone(),
			keys.clone(),
			parts.broadcaster.clone(),
			parts.fees.clone(),
		);
		let monitors = persister
			.read_all_channel_monitors_with_updates()
			.await
			.map_err(|e| anyhow::anyhow!("the channel monitors cannot be read: {e}"))?;
		let monitor: Arc<ChainMonitor> = Arc::new(chainmonitor::ChainMonitor::new_async_beta(
			parts.filter.clone(),
			parts.broadcaster.clone(),
			logger.clone(),
			parts.fees.clone(),
			persister,
			keys.clone(),
			keys.peer_storage_key(),
			// Monitor writes wait for the manager's: a power cut never leaves the manager behind its monitors (R13).
			true,
		));

		let (graph, scorer) = graph_and_scorer(&store, parts.network, &logger).await?;
		let router = Arc::new(DefaultRouter::new(
			graph.clone(),
			logger.clone(),
			keys.clone(),
			scorer.clone(),
			ProbabilisticScoringFeeParameters::default(),
		));
		let message_router = Arc::new(MessageRouter::new(graph.clone(), keys.clone()));

		let config = user_config(&parts.routing, parts.wakes);
		let of_monitors: Vec<BlockLocator> = monitors.iter().map(|(block, _)| *block).collect();
		let stored = read(&store, place::MANAGER).await?;
		let manager: Arc<ChannelManager> = match stored {
			Some(bytes) => {
				let args = ChannelManagerReadArgs::new(
					keys.clone(),
					keys.clone(),
					keys.clone(),
					parts.fees.clone(),
					monitor.clone(),
					parts.broadcaster.clone(),
					router,
					message_router.clone(),
					logger.clone(),
					config,
					monitors.iter().map(|(_, monitor)| monitor).collect(),
				);
				let (_, manager) = <(BlockLocator, ChannelManager)>::read(&mut &bytes[..], args).map_err(|e| {
					anyhow::anyhow!(
						"the channel manager's state does not fit the channels' ({e:?}); was a backup restored? \
						Do not start this node with old state: it would lose money"
					)
				})?;
				Arc::new(manager)
			}
			None if !monitors.is_empty() => {
				bail!(
					"the store has channels but no channel manager; restore the whole data directory, not a part of it"
				)
			}
			None => {
				let chain = ChainParameters { network: parts.network, best_block: parts.tip };
				Arc::new(ChannelManager::new(
					parts.fees.clone(),
					monitor.clone(),
					parts.broadcaster.clone(),
					router,
					message_router.clone(),
					logger.clone(),
					keys.clone(),
					keys.clone(),
					keys.clone(),
					config,
					chain,
					now.as_secs() as u32,
				))
			}
		};
		for (_, one) in monitors {
			let (id, updates) = (one.channel_id(), one.get_latest_update_id());
			if monitor.load_existing_monitor(id, one) != Ok(ChannelMonitorUpdateStatus::Completed) {
				bail!("channel {id} is in the store twice");
			}
			if updates == 0 {
				// The crash may have come when the new monitor was durable and the manager did not know it yet: nobody
				// would tell it, and the channel would wait for that for ever. If it does know, this changes nothing.
				monitor
					.channel_monitor_updated(id, updates)
					.map_err(|e| anyhow::anyhow!("channel {id} has lost its monitor: {e:?}"))?;
			}
		}

		let messenger = messenger(&parts, &keys, &manager, message_router, &logger);
		let gossip = Gossip::new(&parts.gossip, parts.way, graph.clone(), logger.clone());
		let wire = Arc::new(Wire::default());
		let peers: Arc<PeerManager> = Arc::new(PeerManager::new(
			MessageHandler {
				chan_handler: manager.clone(),
				route_handler: gossip.handler(),
				onion_message_handler: messenger.clone(),
				custom_message_handler: wire.clone(),
				send_only_message_handler: monitor.clone(),
			},
			now.as_secs() as u32,
			&keys.get_secure_random_bytes(),
			logger.clone(),
			keys.clone(),
		));
		let (block, sweeper) = sweeper(&parts, &keys, &manager, &logger).await?;
		let from = [manager.current_best_block(), block].into_iter().chain(of_monitors).collect();
		let bumper = Arc::new(BumpTransactionEventHandler::new(
			parts.broadcaster.clone(),
			Arc::new(wallet_utils::Wallet::new(parts.wallet.clone(), logger.clone())),
			keys.clone(),
			logger.clone(),
		));
		let scids = Scids::default();
		scids.learn(manager.list_channels().iter().map(Place::from));
		let lightning = Lightning {
			keys,
			manager,
			monitor,
			peers,
			messenger,
			sweeper,
			reserve: parts.reserve,
			graph,
			wire,
			door: Door::new(parts.limits, parts.way),
			bumper,
			broadcaster: parts.broadcaster,
			fees: parts.fees,
			scorer,
			scored: AtomicBool::default(),
			kept: Default::default(),
			gossip,
			logger,
			pending: Notify::new(),
			changes: AtomicU64::new(0),
			wallet: parts.wallet,
			scids,
			holds: Default::default(),
			intercepts: Default::default(),
			trials: Arc::default(),
		};
		Ok(Built { lightning, from })
	}
}

/// Speaks onion messages. What is for a peer that is away is told, if clients are woken, and not dropped.
fn messenger(
	parts: &Parts,
	keys: &Arc<Keys>,
	manager: &Arc<ChannelManager>,
	router: Arc<MessageRouter>,
	logger: &Log,
) -> Arc<OnionMessenger> {
	let (keys, manager, logger) = (|| keys.clone(), || manager.clone(), logger.clone());
	let nothing = || IgnoringMessageHandler {};
	Arc::new(if parts.wakes {
		OnionMessenger::new_with_offline_peer_interception(
			keys(),
			keys(),
			logger,
			manager(),
			router,
			manager(),
			manager(),
			nothing(),
			nothing(),
			false,
		)
	} else {
		OnionMessenger::new(keys(), keys(), logger, manager(), router, manager(), manager(), nothing(), nothing())
	})
}

/// What can be had again: if it is damaged it is as if it were not there, and that is said.
async fn read_cache(store: &Store, [primary, secondary, key]: [&str; 3]) -> anyhow::Result<Option<Vec<u8>>> {
	match KVStore::read(store, primary, secondary, key).await {
		Err(e) if e.kind() == io::ErrorKind::InvalidData => {
			tracing::warn!(target: "inlet", "{key:?} is damaged in the store and begun anew: {e}");
			Ok(None)
		}
		_ => read(store, [primary, secondary, key]).await,
	}
}

/// The graph and what was learnt about it. Both are caches: what is damaged or cannot be decoded is begun anew, and that is
/// said.
async fn graph_and_scorer(
	store: &Store,
	network: Network,
	logger: &Log,
) -> anyhow::Result<(Arc<Graph>, Arc<RwLock<Scorer>>)> {
	let stored = read_cache(store, place::GRAPH).await?;
	let graph = stored.and_then(|bytes| match Graph::read(&mut &bytes[..], logger.clone()) {
		Ok(graph) => Some(graph),
		Err(e) => {
			tracing::warn!(target: "inlet", "the stored network graph is unreadable ({e:?}) and is fetched anew");
			None
		}
	});
	let graph = Arc::new(graph.unwrap_or_else(|| Graph::new(network, logger.clone())));
	let stored = read_cache(store, place::SCORER).await?;
	let decay = ProbabilisticScoringDecayParameters::default();
	let scorer = stored.and_then(|bytes| {
		ProbabilisticScorer::read(&mut &bytes[..], (decay, graph.clone(), logger.clone()))
			.inspect_err(|e| tracing::warn!(target: "inlet", "the stored scores are unreadable ({e:?}) and begun anew"))
			.ok()
	});
	let scorer = scorer.unwrap_or_else(|| ProbabilisticScorer::new(decay, graph.clone(), logger.clone()));
	Ok((graph, Arc::new(RwLock::new(CombinedScorer::new(scorer)))))
}

/// The sweeper as stored, or a new one from the manager's best block.
async fn sweeper(
	parts: &Parts,
	keys: &Arc<Keys>,
	manager: &Arc<ChannelManager>,
	logger: &Log,
) -> anyhow::Result<(BlockLocator, Arc<Sweeper>)> {
	let stored = read(&parts.store, place::SWEEPER).await?;
	let (broadcaster, fees, filter) = (parts.broadcaster.clone(), parts.fees.clone(), parts.filter.clone());
	let (wallet, store) = (parts.wallet.clone(), OnThisDisk(parts.store.clone()));
	match stored {
		Some(bytes) => {
			let args = (broadcaster, fees, filter, keys.clone(), wallet, store, logger.clone());
			let (block, sweeper) = <(BlockLocator, Sweeper)>::read(&mut &bytes[..], args)
				.map_err(|e| anyhow::anyhow!("{e:?}"))
				.context("the list of outputs to be swept is unreadable; restore the data directory from a backup")?;
			Ok((block, Arc::new(sweeper)))
		}
		None => {
			let block = manager.current_best_block();
			let sweeper = Sweeper::new(block, broadcaster, fees, filter, keys.clone(), wallet, store, logger.clone());
			Ok((block, Arc::new(sweeper)))
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::config::InboundFrom;

	#[test]
	fn r16_what_one_peer_can_tie_up_is_bounded() {
		let config = user_config(
			&RoutingConfig {
				base_fee_msat: 1_000,
				fee_ppm: 500,
				cltv_expiry_delta: 72,
				inbound_from: InboundFrom::Anyone,
				inbound_min_sat: 0,
				inbound_max_sat: 1,
				inbound_max_channels: 1,
				inbound_max_per_peer: 1,
				forward_delay: std::time::Duration::ZERO,
			},
			true,
		);
		let channel = config.channel_handshake_config;
		assert_eq!(channel.our_max_accepted_htlcs, 50);
		assert_eq!(channel.announced_channel_max_inbound_htlc_value_in_flight_percentage, 25);
		assert_eq!(channel.unannounced_channel_max_inbound_htlc_value_in_flight_percentage, 100);
	}

	/// Rot in a cache costs what was learnt, and not the start.
	#[tokio::test]
	async fn a_damaged_graph_and_damaged_scores_are_begun_anew() {
		let dir = tempfile::tempdir().unwrap();
		let file = dir.path().join("store");
		let pattern = [0xa5; 64];
		let store = Store::open(&file, inlet_storage::abort).unwrap();
		for [primary, secondary, key] in [place::GRAPH, place::SCORER] {
			KVStore::write(&store, primary, secondary, key, pattern.repeat(1_000)).await.unwrap();
		}
		store.close().await;
		let mut bytes = std::fs::read(&file).unwrap();
		let (mut at, mut damaged) = (0, 0);
		while at + pattern.len() <= bytes.len() {
			if bytes[at..].starts_with(&pattern) {
				bytes[at] ^= 1;
				damaged += 1;
			}
			at += pattern.len();
		}
		assert!(damaged > 2, "the values are in the file");
		std::fs::write(&file, bytes).unwrap();
		let store = Store::open(&file, inlet_storage::abort).unwrap();
		for place in [place::GRAPH, place::SCORER] {
			assert!(read(&store, place).await.is_err(), "the damage is seen");
		}
		let (graph, _) = graph_and_scorer(&store, Network::Regtest, &Arc::new(LdkLogger)).await.unwrap();
		assert!(graph.read_only().channels().is_empty());
	}
}
