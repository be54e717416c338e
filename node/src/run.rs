//! `inlet run`: start, serve, drain.

use crate::api::Admin;
use crate::config::{BitcoindAuth, ChainBackend, Config, network_name};
use crate::control::{EventKind, Events};
use crate::driver::{Driver, Engine};
use crate::hands::Hands;
use crate::lightning::build::{Built, Parts, user_config};
use crate::lightning::channels::Channels;
use crate::lightning::events::Handler;
use crate::lightning::logger::LdkLogger;
use crate::lightning::payments::Payments;
use crate::lightning::peers::{self, PeerAddress, Peers};
use crate::lightning::wire::{Wire, WireEvent};
use crate::lightning::{Lightning, announce};
use crate::lock::DataDir;
use crate::onchain::{Broadcaster, Chain, ChainConfig, Fees, Listeners, RpcAuth, Tip, Wallet};
use crate::operator::Operator;
use crate::seed::Seed;
use crate::stop::stopped;
use crate::systemd::Notifier;
use anyhow::{Context, bail};
use inlet_lsp::Lsp;
use inlet_lsp::book::Book;
use inlet_lsp::input::Input;
use inlet_storage::Store;
use serde_json::json;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// The store's file in the data directory.
const STORE_FILE: &str = "inlet.sqlite";
/// The driver must have come round within this time, or the watchdog is not fed.
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);

/// Everything that was opened before anything runs.
struct Opened {
	_lock: DataDir,
	store: Store,
	seed: Seed,
	listeners: Vec<TcpListener>,
	admin: Admin,
	first_run: bool,
}

/// Runs the node until it is told to stop.
///
/// # Errors
/// Why the node cannot start, or what made it stop.
pub async fn run(config: Config) -> anyhow::Result<()> {
	let (stop, stopping) = watch::channel(false);
	let signals = tokio::spawn(stop_on_signal(stop.clone())?);
	let lock = DataDir::open(&config.place.data_dir)?;
	lock.claim(config.node.network)?;
	config.write_file_if_missing().context("the config file cannot be written")?;
	let opened = open(&config, lock).await?;
	greet(&config, &opened);
	let result = serve(config, opened, stop, stopping).await;
	signals.abort();
	result
}

async fn open(config: &Config, lock: DataDir) -> anyhow::Result<Opened> {
	let listeners = peers::bind(&config.node.listen).await?;
	let admin = Admin::bind(&config.place.socket).await?;
	let (seed_file, store_file) = (lock.seed_file(), config.place.data_dir.join(STORE_FILE));
	let first_run = !seed_file.exists();
	if first_run && store_file.exists() {
		bail!(
			"{} is missing, but {} exists: a node's state without its keys is of no use. Restore the seed file; \
			to begin anew, choose another --data-dir",
			seed_file.display(),
			store_file.display()
		);
	}
	let seed = if first_run { Seed::create(&seed_file)? } else { Seed::load(&seed_file)? };
	let store = Store::open(&store_file, inlet_storage::abort)?;
	Ok(Opened { _lock: lock, store, seed, listeners, admin, first_run })
}

fn greet(config: &Config, opened: &Opened) {
	let (network, dir) = (network_name(config.node.network), config.place.data_dir.display());
	println!("inlet {} · {network} · data in {dir}", env!("CARGO_PKG_VERSION"));
	if opened.first_run {
		println!("new node: seed written to {dir}/seed (24 words; write them down: inlet seed show)");
	}
}

/// The node's parts, once the chain is in step.
struct Node {
	config: Config,
	lsp: Lsp,
	driver: Driver,
	engine: Engine,
	lightning: Arc<Lightning>,
	hands: Arc<Hands>,
	handler: Arc<Handler>,
	peers: Arc<Peers>,
	payments: Arc<Payments>,
	events: Arc<Events>,
	heard: mpsc::UnboundedReceiver<WireEvent>,
	chain: Chain,
	chain_listeners: Listeners,
	tip: watch::Sender<Tip>,
}

async fn assemble(config: Config, store: Store, seed: &Seed) -> anyhow::Result<Node> {
	let network = config.node.network;
	let fees = Arc::new(Fees::new(network));
	let broadcaster = Broadcaster::open(store.clone()).await.context("the broadcasts under way cannot be read")?;
	let (backend, log) = (chain_config(&config.chain), Arc::new(LdkLogger));
	let mut chain = Chain::connect(backend, network, fees.clone(), broadcaster.clone(), log).await?;
	let tip = chain.best_block().await?;
	let wallet =
		Wallet::open(store.clone(), seed.wallet_xprv(network), network, fees.clone(), broadcaster.clone()).await?;

	let (wire, heard) = Wire::new();
	let Built { lightning, from } = Lightning::build(Parts {
		network,
		seed: seed.ldk_seed(),
		store: store.clone(),
		wallet: wallet.clone(),
		fees: fees.clone(),
		broadcaster,
		filter: chain.filter(),
		tip,
		routing: config.routing.clone(),
		gossip: config.node.gossip.clone(),
		wire: Arc::new(wire),
	})
	.await?;
	let lightning = Arc::new(lightning);
	let chain_listeners = Listeners {
		manager: lightning.manager.clone(),
		monitors: lightning.monitor.clone(),
		sweeper: lightning.sweeper.clone(),
		wallet: wallet.clone(),
		from,
	};
	// Before any peer is heard: HTLCs may have expired while we were away.
	chain.synchronize(&chain_listeners).await?;
	lightning.release_unused(&wallet).await;
	let best = lightning.manager.current_best_block();
	let (tip, seen) = watch::channel(Tip {
		height: best.height,
		hash: best.block_hash,
		synced: true,
		at: SystemTime::now(),
		source: source(&config.chain),
		error: None,
	});

	let lsp = Lsp::new(config.policy.clone(), seed.promise_key())?;
	let book = Book::restore(store.load_rows().await?);
	let (driver, engine) = Driver::new(Lsp::new(config.policy.clone(), seed.promise_key())?, book, store.clone());
	let channels = Arc::new(Channels::new(user_config(&config.routing), config.routing.clone(), wallet.clone()));
	let events = Arc::new(Events::new());
	let hands = Arc::new(Hands {
		network,
		lightning: lightning.clone(),
		channels: channels.clone(),
		wallet,
		fees,
		tip: seen,
		events: events.clone(),
		driver: OnceLock::from(driver.clone()),
		coins: Mutex::default(),
		looked: Mutex::default(),
		refunding: Arc::default(),
	});
	let payments = Arc::new(Payments::load(store.clone()).await?);
	let handler = Arc::new(Handler {
		lightning: lightning.clone(),
		channels,
		payments: payments.clone(),
		driver: driver.clone(),
		events: events.clone(),
	});
	let kept = config.node.peers.iter();
	let kept = kept.map(|peer| PeerAddress { node_id: peer.node_id, address: peer.address.to_string() }).collect();
	let peers = Arc::new(Peers::load(store.clone(), kept).await?);
	Ok(Node {
		config,
		lsp,
		driver,
		engine,
		lightning,
		hands,
		handler,
		peers,
		payments,
		events,
		heard,
		chain,
		chain_listeners,
		tip,
	})
}

async fn serve(
	config: Config,
	opened: Opened,
	stop: watch::Sender<bool>,
	stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
	let notifier = Arc::new(Notifier::from_env().context("the service manager cannot be reached")?);
	notifier.status("catching up with the chain");
	let Opened { store, seed, listeners, admin, first_run, _lock } = opened;
	let mut early = stopping.clone();
	let node = tokio::select! {
		node = assemble(config, store.clone(), &seed) => node?,
		// Stopped before anything was begun.
		() = stopped(&mut early) => {
			store.close().await;
			return Ok(());
		},
	};
	let listening = listeners.iter().map(|l| l.local_addr().map(|a| a.to_string())).collect::<Result<Vec<_>, _>>()?;
	introduce(&node, &listening, first_run).await?;

	let operator = Arc::new(Operator {
		config: node.config.clone(),
		listening: listening.clone(),
		started: SystemTime::now(),
		hands: node.hands.clone(),
		driver: node.driver.clone(),
		lsp: node.lsp,
		store: store.clone(),
		peers: node.peers.clone(),
		payments: node.payments,
		events: node.events.clone(),
		stop: stop.clone(),
	});
	let (lightning, events) = (node.lightning.clone(), node.events.clone());
	let alive = Arc::new(Mutex::new(SystemTime::now()));

	// Each task ends when the node stops; one that ends before is a fault that the node does not survive.
	let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
	let ldk = lightning.clone().run(store.clone(), node.handler, stopping.clone());
	let ldk = tokio::spawn(async move { ldk.await.map_err(|e| anyhow::anyhow!("LDK cannot persist its state: {e}")) });
	let (chain, chain_listeners, tip, chain_stop) = (node.chain, node.chain_listeners, node.tip, stopping.clone());
	tasks.spawn(async move {
		chain.run(chain_listeners, tip, chain_stop).await;
		Ok(())
	});
	let engine = node.engine.run(node.hands.clone(), node.hands.tip.clone(), stopping.clone());
	tasks.spawn(async move {
		engine.await;
		Ok(())
	});
	tasks.spawn(listen(node.heard, node.driver.clone(), lightning.wire.clone(), events.clone(), stopping.clone()));
	for listener in listeners {
		let accept = peers::accept(listener, lightning.clone(), stopping.clone());
		tasks.spawn(async move {
			accept.await;
			Ok(())
		});
	}
	let keep = node.peers.keep(lightning.clone(), stopping.clone());
	tasks.spawn(async move {
		keep.await;
		Ok(())
	});
	let announce = announce::announce(lightning.clone(), node.config.node.clone(), stopping.clone());
	tasks.spawn(async move {
		announce.await;
		Ok(())
	});
	let gossip = tokio::spawn(lightning.clone().refresh_gossip());
	let beat = heartbeat(node.driver.clone(), alive.clone(), stopping.clone());
	tasks.spawn(async move {
		beat.await;
		Ok(())
	});
	let socket = node.config.place.socket.clone();
	let serving = admin.serve(operator, stopping.clone());
	tasks.spawn(async move {
		serving.await;
		Ok(())
	});

	let watched = alive.clone();
	let (dog, dog_stop) = (notifier.clone(), stopping.clone());
	let dog = tokio::spawn(async move {
		let healthy = || watched.lock().is_ok_and(|at| at.elapsed().is_ok_and(|age| age < HEALTHY_WITHIN));
		dog.watchdog(healthy, dog_stop).await;
	});
	events.publish(SystemTime::now().into(), EventKind::Started, None, "the node runs", json!({}));
	notifier.ready(&format!("serving on {}", listening.join(", ")));
	println!("admin     {} → try: inlet status", socket.display());

	// Until told to stop, or until a task that should not have ended has.
	let mut until = stopping.clone();
	let fault = tokio::select! {
		() = stopped(&mut until) => None,
		Some(ended) = tasks.join_next() => Some(fault_of(ended, *stopping.borrow())),
	};
	notifier.stopping("writing what is left to disk");
	events.publish(SystemTime::now().into(), EventKind::Stopping, None, "the node stops", json!({}));
	tracing::info!(target: "inlet", "stopping");
	stop.send_replace(true);
	gossip.abort();
	lightning.peers.disconnect_all_peers();
	let last = ldk.await.context("LDK's loop died")?;
	while let Some(ended) = tasks.join_next().await {
		ended.context("a task died while stopping")??;
	}
	dog.abort();
	store.close().await;
	last?;
	match fault {
		Some(Some(e)) => Err(e),
		_ => {
			println!("stopped; everything is on disk");
			Ok(())
		}
	}
}

/// What is wrong when a task ends; nothing if the node is stopping anyway.
fn fault_of(ended: Result<anyhow::Result<()>, tokio::task::JoinError>, stopping: bool) -> Option<anyhow::Error> {
	match ended {
		Ok(Ok(())) if stopping => None,
		Ok(Ok(())) => Some(anyhow::anyhow!("a part of the node stopped by itself")),
		Ok(Err(e)) => Some(e),
		Err(e) => Some(anyhow::Error::from(e).context("a part of the node died")),
	}
}

/// Hands what the wire hears to the driver.
async fn listen(
	mut heard: mpsc::UnboundedReceiver<WireEvent>,
	driver: Driver,
	wire: Arc<Wire>,
	events: Arc<Events>,
	mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
	loop {
		let event = tokio::select! {
			() = stopped(&mut stop) => return Ok(()),
			event = heard.recv() => event,
		};
		let told = |kind, peer: bitcoin::secp256k1::PublicKey, text| {
			events.publish(SystemTime::now().into(), kind, Some(peer.to_string()), text, json!({}));
		};
		let submitted = match event {
			None => return Ok(()),
			Some(WireEvent::Message { peer, bytes }) => {
				let submitted = driver.submit(Input::Message { peer, bytes }).await;
				wire.taken(&peer);
				submitted
			}
			Some(WireEvent::Connected { peer }) => {
				told(EventKind::PeerConnected, peer, "connected");
				driver.submit(Input::Connected { peer }).await
			}
			Some(WireEvent::Disconnected { peer }) => {
				told(EventKind::PeerDisconnected, peer, "disconnected");
				Ok(())
			}
		};
		if submitted.is_err() {
			return Ok(());
		}
	}
}

/// Notes when the driver last came round.
async fn heartbeat(driver: Driver, alive: Arc<Mutex<SystemTime>>, mut stop: watch::Receiver<bool>) {
	loop {
		if driver.submit(Input::Tick).await.is_err() {
			return;
		}
		*alive.lock().expect("not poisoned") = SystemTime::now();
		tokio::select! {
			() = stopped(&mut stop) => return,
			() = tokio::time::sleep(Duration::from_secs(5)) => {},
		}
	}
}

/// The lines that a start ends with: where the node stands, and what its operator should do next.
async fn introduce(node: &Node, listening: &[String], first_run: bool) -> anyhow::Result<()> {
	let tip = node.hands.tip.borrow().clone();
	let rate = node
		.hands
		.fees
		.fresh()
		.map_or_else(|| "unknown".to_owned(), |rate| format!("{} sat/vB", u64::from(rate.0).div_ceil(250)));
	println!("chain     {} · height {} · fee {rate}", tip.source, tip.height);
	let channels = node.lightning.manager.list_channels().len();
	let id = node.lightning.keys.node_id();
	println!("lightning {id}@{} · {channels} channels", listening.join(", "));
	let spendable = node.driver.read(|book| node.hands.spendable(book)).to_sat();
	let needed = node.config.policy.lsps2.min_channel_sat.0 + FIRST_CHANNEL_EXTRA_SAT;
	if spendable < needed {
		let address = node.hands.wallet.new_address().await?;
		println!("wallet    {spendable} sat → send at least {needed} sat to {address} to sell your first channel");
		println!("selling   paused: no funds");
	} else {
		println!("wallet    {spendable} sat can fund channels");
	}
	if first_run {
		println!("next      write down the seed (inlet seed show), then fund the address above");
	}
	Ok(())
}

/// What the first channel needs beside its capacity: an anchor reserve and the funding fee, rounded up.
const FIRST_CHANNEL_EXTRA_SAT: u64 = 50_000;

/// The backend, in the words of the on-chain room.
fn chain_config(chain: &ChainBackend) -> ChainConfig {
	match chain {
		ChainBackend::Esplora { urls } => ChainConfig::Esplora { urls: urls.clone() },
		ChainBackend::Bitcoind { url, auth } => ChainConfig::Bitcoind {
			url: url.clone(),
			auth: match auth {
				BitcoindAuth::UserPass { user, password } => {
					RpcAuth::UserPass { user: user.clone(), password: password.expose().to_owned() }
				}
				BitcoindAuth::Cookie(path) => RpcAuth::Cookie(path.clone()),
			},
		},
	}
}

/// The server that is asked first, for people.
fn source(chain: &ChainBackend) -> String {
	match chain {
		ChainBackend::Esplora { urls } => urls.first().cloned().unwrap_or_default(),
		ChainBackend::Bitcoind { url, .. } => url.clone(),
	}
}

/// Sets `stop` on SIGTERM and SIGINT.
fn stop_on_signal(stop: watch::Sender<bool>) -> std::io::Result<impl Future<Output = ()>> {
	let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
	Ok(async move {
		tokio::select! {
			_ = term.recv() => {},
			_ = int.recv() => {},
		}
		stop.send_replace(true);
	})
}
