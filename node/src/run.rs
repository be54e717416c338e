//! `inlet run`: start, serve, drain.

pub(crate) mod standby;

use crate::api::Admin;
use crate::backup::{self, Access, Backup, commands};
use crate::config::{BitcoindAuth, ChainBackend, ChainDoubt, Config, InboundFrom, StoreBackend, network_name};
use crate::control::{EventKind, Events};
use crate::disk::Disk;
use crate::driver::{Driver, Engine};
use crate::hands::Hands;
use crate::lightning::build::{Built, Parts, user_config};
use crate::lightning::channels::Channels;
use crate::lightning::events::Handler;
use crate::lightning::logger::LdkLogger;
use crate::lightning::onions::Onions;
use crate::lightning::payments::Payments;
use crate::lightning::peers::{self, PeerAddress, Peers};
use crate::lightning::wire::{Wire, WireEvent};
use crate::lightning::{Lightning, announce};
use crate::lock::DataDir;
use crate::notify;
use crate::onchain::{
	Broadcaster, Chain, ChainConfig, Fees, Finder, Listeners, ReservePolicy, RpcAuth, Tip, Trouble, Trust, Wallet,
};
use crate::operator::Operator;
use crate::pulse::{Loop, Pulse};
use crate::seed::Seed;
use crate::stop::stopped;
use crate::systemd::Notifier;
use crate::tor::{self, OnionKey, Service, Way};
use anyhow::{Context, bail};
use bitcoin::hex::DisplayHex;
use inlet_lsp::Lsp;
use inlet_lsp::book::Book;
use inlet_lsp::input::Input;
use inlet_storage::Store;
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The store's file in the data directory.
pub const STORE_FILE: &str = "inlet.sqlite";
/// The driver and LDK's loop must have come round within this time, or the watchdog is not fed.
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);

/// How long the parts of the node may take to stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(45);

/// How long what nobody waits for may take to be written at the end.
const SETTLE_WITHIN: Duration = Duration::from_secs(5);

/// Everything that was opened before anything runs.
struct Opened {
	_lock: DataDir,
	store: Store,
	backup: Arc<Backup>,
	seed: Seed,
	listeners: Vec<TcpListener>,
	admin: Admin,
	monitor: Option<Admin>,
	first_run: bool,
}

/// Runs the node until it is told to stop. `standby`: waits until no other node leads on its database.
///
/// # Errors
/// Why the node cannot start, or what made it stop.
pub async fn run(config: Config, standby: bool) -> anyhow::Result<()> {
	let (stop, stopping) = watch::channel(false);
	let signals = tokio::spawn(stop_on_signal(stop.clone())?);
	let lock = DataDir::open(&config.place.data_dir)?;
	lock.claim(config.node.network)?;
	config.write_file_if_missing().context("the config file cannot be written")?;
	let Some(opened) = open(&config, lock, standby, &stop).await? else {
		signals.abort();
		return Ok(());
	};
	greet(&config, &opened);
	let result = serve(config, opened, stop, stopping).await;
	signals.abort();
	result
}

/// `None`: told to stop before it became the leader.
async fn open(
	config: &Config,
	lock: DataDir,
	standby: bool,
	stop: &watch::Sender<bool>,
) -> anyhow::Result<Option<Opened>> {
	let (seed_file, store_file) = (lock.seed_file(), config.place.data_dir.join(STORE_FILE));
	match &config.store.backend {
		StoreBackend::Sqlite if standby => bail!(
			"a standby shares a database with the node for which it stands by: set storage.backend to \"postgres\" \
			(node/docs/standby.md)"
		),
		StoreBackend::Postgres(_) if standby => standby::check(&seed_file)?,
		_ => {}
	}
	let admin = Admin::bind(&config.place.socket).await?;
	let monitor = match &config.monitor {
		Some(path) => Some(Admin::bind(path).await?.reads_only()),
		None => None,
	};
	let lease = match &config.store.backend {
		StoreBackend::Sqlite => None,
		StoreBackend::Postgres(options) => {
			match standby::lead(options, standby, &admin, monitor.as_ref(), stop).await? {
				Some(lease) => Some((options, lease)),
				None => return Ok(None),
			}
		}
	};
	// Not before it leads: the address may be the one of the node that does.
	let listeners = peers::bind(&config.node.listen).await?;
	let opened = match lease {
		None => open_file(config, &seed_file, &store_file).await?,
		Some((options, lease)) => {
			let store = Store::open_postgres(options, lease, inlet_storage::abort)?;
			let (seed, first_run) = standby::seed(&store, &seed_file, &store_file).await?;
			// The server keeps its own copies: `[backup]` is refused with it. What its store was shipped to before is left.
			let (data_dir, key) = (&config.place.data_dir, seed.backup_key());
			let left =
				backup::left::leave_all_but(&[], data_dir, Some(&store), Access { key: &key, way: config.tor.way })
					.await?;
			backup::left::forget(data_dir, &store, left.iter().map(|known| known.id.as_str())).await?;
			(store, seed, first_run, Backup::none())
		}
	};
	let (store, seed, first_run, backup) = opened;
	Ok(Some(Opened { _lock: lock, store, backup, seed, listeners, admin, monitor, first_run }))
}

/// The store in the data directory, its seed, whether both are new, and what ships its changes.
async fn open_file(
	config: &Config,
	seed_file: &Path,
	store_file: &Path,
) -> anyhow::Result<(Store, Seed, bool, Arc<Backup>)> {
	let first_run = !seed_file.exists();
	if first_run && store_file.exists() {
		bail!(
			"{} is missing, but {} exists: a node's state without its keys is of no use. Restore the seed file; \
			to begin anew, choose another --data-dir",
			seed_file.display(),
			store_file.display()
		);
	}
	let seed = if first_run { Seed::create(seed_file)? } else { Seed::load(seed_file)? };
	let (store, backup) = open_store(config, store_file, &seed).await?;
	Ok((store, seed, first_run, backup))
}

/// The store, and what ships its changes.
async fn open_store(config: &Config, file: &Path, seed: &Seed) -> anyhow::Result<(Store, Arc<Backup>)> {
	let text = std::fs::read_to_string(&config.place.file).unwrap_or_default();
	let network = network_name(config.node.network);
	let (data_dir, key) = (&config.place.data_dir, seed.backup_key());
	backup::open(&config.backup, data_dir, file, &key, (network, &text), backup::give_up).await
}

/// What a node may do that recovers the money of lost channels: make no new ones.
fn selling_nothing(mut config: Config) -> Config {
	println!("recovering: channels are given up, their peers are asked to close them, and what they pay is swept");
	(config.policy.lsps1.enabled, config.policy.lsps2.enabled) = (false, false);
	config.routing.inbound_from = InboundFrom::Nobody;
	config
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
	chain: Chain,
	chain_listeners: Listeners,
	tip: watch::Sender<Tip>,
	/// The key of the onion service, if one is wanted.
	onion: Option<OnionKey>,
}

async fn assemble(config: Config, store: Store, seed: &Seed) -> anyhow::Result<Node> {
	let network = config.node.network;
	let fees = Arc::new(Fees::open(network, store.clone()).await.context("the feerates of the past cannot be read")?);
	let broadcaster = Broadcaster::open(store.clone()).await.context("the broadcasts under way cannot be read")?;
	let (backend, log) = (chain_config(&config.chain, config.tor.way), Arc::new(LdkLogger));
	let mut chain =
		Chain::connect(backend, trust(&config.doubt, config.tor.way), network, fees.clone(), broadcaster.clone(), log)
			.await?;
	let tip = chain.best_block().await?;
	let wallet =
		Wallet::open(store.clone(), seed.wallet_xprv(network), network, fees.clone(), broadcaster.clone()).await?;

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
		limits: config.peers,
		way: config.tor.way,
		reserve: ReservePolicy::of(&config.policy.capital),
		wakes: config.policy.lsps5.enabled,
	})
	.await?;
	let lightning = Arc::new(lightning);
	let mut chain_listeners = Listeners {
		manager: lightning.manager.clone(),
		monitors: lightning.monitor.clone(),
		sweeper: lightning.sweeper.clone(),
		wallet: wallet.clone(),
		from,
	};
	// Before any peer is heard: HTLCs may have expired while we were away.
	chain.synchronize(&chain_listeners).await?;
	// Of no more use: 430 bytes for each channel.
	chain_listeners.from = Vec::new();
	let (tip, seen) = watch::channel(chain.tip(lightning.manager.current_best_block()).await);

	let lsp = Lsp::new(config.policy.clone(), seed.promise_key())?;
	let book = Book::restore(store.load_rows().await?);
	let withheld = book.withheld_fundings().iter().map(|funding| funding.txid).collect();
	lightning.release_unused(&wallet, &withheld).await;
	let (driver, engine) = Driver::new(Lsp::new(config.policy.clone(), seed.promise_key())?, book, store.clone());
	let totals = store.ledger_totals().await?;
	let disk = Disk::new(store.clone(), config.place.data_dir.clone(), config.storage, &totals);
	let disk = Arc::new(disk);
	let channels = Arc::new(Channels::new(
		user_config(&config.routing, config.policy.lsps5.enabled),
		config.routing.clone(),
		wallet.clone(),
		lightning.trials.clone(),
	));
	channels.open_to_forwards(&lightning, &lightning.manager.list_channels());
	channels.release_unused_splices(&lightning);
	let events = Arc::new(Events::new());
	let keys = lightning.keys.clone();
	let hands = Arc::new(Hands {
		network,
		lightning: lightning.clone(),
		channels: channels.clone(),
		wallet,
		fees,
		tip: seen,
		events: events.clone(),
		driver: OnceLock::from(driver.clone()),
		coins: Default::default(),
		reserve: Default::default(),
		unconfirmed: Default::default(),
		looked: Mutex::default(),
		refunding: Arc::default(),
		surveyed: Mutex::default(),
		disk,
		books: Default::default(),
		notify: notify::Notifier::of_node(&config, move |text| keys.sign_text(text))?,
	});
	let batcher = hands.batcher();
	batcher.take_up();
	let payments = Arc::new(Payments::load(store.clone()).await?);
	payments.reconcile(&lightning).await?;
	let handler = Arc::new(Handler {
		lightning: lightning.clone(),
		channels,
		batcher,
		payments: payments.clone(),
		onions: Onions::default(),
		driver: driver.clone(),
		events: events.clone(),
	});
	let kept = config.node.peers.iter();
	let kept = kept.map(|peer| PeerAddress { node_id: peer.node_id, address: peer.address.to_string() }).collect();
	let peers = Arc::new(Peers::load(store.clone(), kept).await?);
	let onion = config.tor.service.as_ref().map(|_| OnionKey::of(&seed.onion_secret()));
	Ok(Node {
		onion,
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
	let Opened { store, backup, seed, listeners, admin, monitor, first_run, _lock } = opened;
	let recovering = commands::recovery(&store).await?.is_some();
	let config = if recovering { selling_nothing(config) } else { config };
	let mut early = stopping.clone();
	let node = tokio::select! {
		node = assemble(config, store.clone(), &seed) => node?,
		() = not_yet(&admin, monitor.as_ref(), &stop) => return Ok(()),
		() = stopped(&mut early) => {
			// Before anything was begun.
			backup.finish().await;
			store.close().await;
			return Ok(());
		},
	};
	let listening = listeners.iter().map(|l| l.local_addr().map(|a| a.to_string())).collect::<Result<Vec<_>, _>>()?;
	introduce(&node, &listening, first_run).await?;
	let (events, socket) = (node.events.clone(), node.config.place.socket.clone());
	let finder = recovering.then(|| Finder::new(&chain_config(&node.config.chain, node.config.tor.way))).transpose()?;
	let doors = Doors { listeners, sockets: [Some(admin), monitor], listening: listening.clone() };
	let running = start(node, &store, &backup, finder, doors, &stop, &notifier);

	events.publish(SystemTime::now().into(), EventKind::Started, None, "the node runs", json!({}));
	notifier.ready(&format!("serving on {}", listening.join(", ")));
	println!("admin     {} → try: inlet status", socket.display());
	let ended = running.until_stopped(stopping).await;
	notifier.stopping("writing what is left to disk");
	events.publish(SystemTime::now().into(), EventKind::Stopping, None, "the node stops", json!({}));
	tracing::info!(target: "inlet", "stopping");
	stop.send_replace(true);
	// In sync mode the last writes wait for a target, which may be away: then we go as a crash would, and nothing is lost.
	let last = match tokio::time::timeout(DRAIN_WITHIN, ended.running.drain()).await {
		Ok(last) => last,
		Err(_) if backup.holds() => {
			Err(anyhow::anyhow!("the backup target did not take the last changes in time; they are on this disk"))
		}
		Err(_) => Err(anyhow::anyhow!("the parts of the node did not stop in time")),
	};
	// Removes that nobody waited for go along.
	let _settled = tokio::time::timeout(SETTLE_WITHIN, store.drain()).await;
	let lacking = backup.finish().await;
	if !lacking.is_empty() {
		tracing::warn!(target: "inlet", "not everything is on {}", lacking.join(" and "));
	}
	store.close().await;
	match ended.fault {
		Some(fault) => Err(fault),
		None => last,
	}?;
	println!("stopped; everything is on disk");
	Ok(())
}

/// Says on both sockets that the node starts. Never returns.
async fn not_yet(admin: &Admin, monitor: Option<&Admin>, stop: &watch::Sender<bool>) {
	match monitor {
		Some(monitor) => {
			tokio::join!(admin.starting(stop.clone()), monitor.starting(stop.clone()));
		}
		None => admin.starting(stop.clone()).await,
	}
}

/// The node's tasks. Each ends when the node stops; one that ends before is a fault that the node does not survive.
struct Running {
	lightning: Arc<Lightning>,
	/// LDK's loop, apart from the others: it persists what they did last.
	ldk: JoinHandle<anyhow::Result<()>>,
	/// Stops that loop.
	stop_ldk: watch::Sender<bool>,
	tasks: JoinSet<()>,
	/// What may be cut off at any point.
	idle: JoinSet<()>,
}

/// The tasks when the node is to stop, and why, if nobody asked for it.
struct Ended {
	running: Running,
	fault: Option<anyhow::Error>,
}

/// Where others come in.
struct Doors {
	/// Lightning peers.
	listeners: Vec<TcpListener>,
	/// The operator, and who only looks.
	sockets: [Option<Admin>; 2],
	/// The addresses of `listeners`.
	listening: Vec<String>,
}

fn start(
	node: Node,
	store: &Store,
	backup: &Arc<Backup>,
	finder: Option<Finder>,
	doors: Doors,
	stop: &watch::Sender<bool>,
	notifier: &Arc<Notifier>,
) -> Running {
	let Doors { listeners, sockets, listening } = doors;
	let (lightning, events, stopping) = (node.lightning.clone(), node.events.clone(), stop.subscribe());
	let service = node.onion.and_then(|key| {
		let (control, listening) = (node.config.tor.service.clone()?, listeners.first()?.local_addr().ok()?);
		Some(Service { control, password: node.config.tor.password.clone(), key, listening })
	});
	let (onion, tor_seen) = watch::channel(tor::State::default());
	let operator = Arc::new(Operator {
		config: node.config.clone(),
		listening,
		started: SystemTime::now(),
		hands: node.hands.clone(),
		driver: node.driver.clone(),
		lsp: node.lsp,
		store: store.clone(),
		peers: node.peers.clone(),
		payments: node.payments.clone(),
		backup: backup.clone(),
		recovering: finder.is_some(),
		events: events.clone(),
		tor: tor_seen.clone(),
		stop: stop.clone(),
	});
	let pulse = Arc::new(Pulse::default());
	let (stop_ldk, stopping_ldk) = watch::channel(false);
	let ldk = lightning.clone().run(store.clone(), node.handler.clone(), pulse.clone(), stopping_ldk);
	let ldk = tokio::spawn(async move { ldk.await.map_err(|e| anyhow::anyhow!("LDK cannot persist its state: {e}")) });

	let mut tasks = JoinSet::new();
	tasks.spawn(lightning.clone().hear(node.handler, pulse.clone(), stopping.clone()));
	tasks.spawn(node.chain.run(node.chain_listeners, node.tip, stopping.clone()));
	tasks.spawn(node.engine.run(node.hands.clone(), node.hands.tip.clone(), stopping.clone()));
	tasks.spawn(listen(node.driver.clone(), lightning.wire.clone(), events.clone(), stopping.clone()));
	tasks.spawn(node.hands.notify.clone().run(stopping.clone()));
	tasks.spawn(node.hands.clone().keep_coins(node.config.policy.capital.clone(), stopping.clone()));
	let capital = node.config.policy.capital.clone();
	tasks.spawn(node.hands.clone().reclaim(node.driver.clone(), capital, stopping.clone()));
	let ledger = node.config.policy.ledger;
	tasks.spawn(crate::fold::fold(node.driver.clone(), store.clone(), ledger, stopping.clone()));
	for listener in listeners {
		tasks.spawn(peers::accept(listener, lightning.clone(), stopping.clone()));
	}
	tasks.spawn(node.peers.clone().keep(lightning.clone(), stopping.clone()));
	tasks.spawn(guard(node.peers, lightning.clone(), node.driver.clone(), stopping.clone()));
	tasks.spawn(lightning.clone().send(stopping.clone()));
	tasks.spawn(lightning.clone().pump(node.config.routing.forward_delay, stopping.clone()));
	let own = node.payments.clone();
	tasks.spawn(
		lightning.clone().time_holds(move |hash| own.get(&hash.to_lower_hex_string()).is_some(), stopping.clone()),
	);
	tasks.spawn(announce::announce(lightning.clone(), node.config.node.clone(), tor_seen, stopping.clone()));
	tasks.spawn(tor::watch(node.config.tor.way, service, onion, stopping.clone()));
	tasks.spawn(tell_sync(node.hands.tip.clone(), events, stopping.clone()));
	tasks.spawn(node.hands.disk.clone().watch(node.events, stopping.clone()));
	tasks.spawn(heartbeat(node.driver.clone(), pulse.clone(), stopping.clone()));
	if let Some(finder) = finder {
		let network = node.config.node.network;
		tasks.spawn(lightning.clone().recover(finder, network, node.hands.tip.clone(), stopping.clone()));
	}
	tasks.spawn(backup.clone().watch(node.hands.events.clone(), stopping.clone()));
	for socket in sockets.into_iter().flatten() {
		tasks.spawn(socket.serve(operator.clone(), stopping.clone()));
	}

	let mut idle = JoinSet::new();
	idle.spawn(lightning.clone().refresh_gossip());
	// Who waits for a backup target stands still, and starting again would not help.
	let (dog, waits) = (notifier.clone(), backup.clone());
	idle.spawn(async move { dog.watchdog(|| pulse.is_fresh(HEALTHY_WITHIN) || waits.is_waiting(), stopping).await });
	Running { lightning, ldk, stop_ldk, tasks, idle }
}

impl Running {
	/// Waits until the node is told to stop, or until a task that should not have ended has.
	async fn until_stopped(mut self, mut stopping: watch::Receiver<bool>) -> Ended {
		let fault = tokio::select! {
			biased;
			() = stopped(&mut stopping) => None,
			ended = &mut self.ldk => {
				let fault = match ended {
					Ok(Ok(())) => anyhow::anyhow!("LDK's loop stopped by itself"),
					Ok(Err(e)) => e,
					Err(e) => anyhow::Error::from(e).context("LDK's loop died"),
				};
				self.ldk = tokio::spawn(async { Ok(()) });
				Some(fault)
			},
			ended = self.tasks.join_next() => Some(match ended {
				Some(Err(e)) => anyhow::Error::from(e).context("a part of the node died"),
				_ => anyhow::anyhow!("a part of the node stopped by itself"),
			}),
		};
		// Others may hear of the stop, and end, before we do: that is no fault.
		let fault = fault.filter(|_| !*stopping.borrow());
		Ended { running: self, fault }
	}

	/// Waits for the tasks, which have been told to stop; LDK's loop then has persisted what they did.
	async fn drain(mut self) -> anyhow::Result<()> {
		self.idle.shutdown().await;
		self.lightning.door.shut();
		self.lightning.peers.disconnect_all_peers();
		while let Some(ended) = self.tasks.join_next().await {
			ended.context("a part of the node died while stopping")?;
		}
		// Those whose handshake was in its last step.
		self.lightning.peers.disconnect_all_peers();
		self.stop_ldk.send_replace(true);
		self.ldk.await.context("LDK's loop died while stopping")?
	}
}

/// Tells the operator when the chain view becomes current, and when it no longer is; and of troubles with it, when they
/// come and when they are over.
async fn tell_sync(mut tip: watch::Receiver<Tip>, events: Arc<Events>, mut stop: watch::Receiver<bool>) {
	let mut synced = None;
	let mut told: Vec<Trouble> = Vec::new();
	loop {
		let now = tip.borrow_and_update().clone();
		tell_troubles(&events, &told, &now.troubles);
		told.clone_from(&now.troubles);
		if synced.replace(now.synced) != Some(now.synced) {
			let (kind, text) = match now.synced {
				true => (EventKind::Synced, format!("at block {}", now.height)),
				false => (EventKind::OutOfSync, now.error.unwrap_or_default()),
			};
			events.publish(SystemTime::now().into(), kind, None, text, json!({ "height": now.height }));
		}
		tokio::select! {
			() = stopped(&mut stop) => return,
			changed = tip.changed() => if changed.is_err() { return },
		}
	}
}

fn tell_troubles(events: &Events, before: &[Trouble], now: &[Trouble]) {
	let tell = |trouble: &Trouble, text: String, over: bool| {
		let subject = Some(trouble.subject.clone());
		events.publish(SystemTime::now().into(), EventKind::Warning, subject, text, json!({ "over": over }));
	};
	for trouble in now.iter().filter(|trouble| !before.contains(trouble)) {
		tracing::warn!(target: "inlet", "{}", trouble.text);
		tell(trouble, trouble.text.clone(), false);
	}
	let is_over = |trouble: &&Trouble| !now.iter().any(|other| other.subject == trouble.subject);
	for trouble in before.iter().filter(is_over) {
		tracing::info!(target: "inlet", subject = trouble.subject, "a trouble is over");
		tell(trouble, format!("over: {}", trouble.text), true);
	}
}

/// Hands what the wire hears to the driver.
async fn listen(driver: Driver, wire: Arc<Wire>, events: Arc<Events>, mut stop: watch::Receiver<bool>) {
	loop {
		let event = tokio::select! {
			() = stopped(&mut stop) => return,
			event = wire.next() => event,
		};
		let told = |kind, peer: bitcoin::secp256k1::PublicKey, text| {
			events.publish(SystemTime::now().into(), kind, Some(peer.to_string()), text, json!({}));
		};
		let submitted = match event {
			WireEvent::Message { peer, bytes } => {
				let submitted = driver.submit(Input::Message { peer, bytes }).await;
				wire.done(&peer);
				submitted
			}
			WireEvent::Connected { peer } => {
				told(EventKind::PeerConnected, peer, "connected");
				driver.submit(Input::Connected { peer }).await
			}
			WireEvent::Disconnected { peer } => {
				told(EventKind::PeerDisconnected, peer, "disconnected");
				Ok(())
			}
		};
		if submitted.is_err() {
			return;
		}
	}
}

/// Keeps room for clients among the peers.
async fn guard(peers: Arc<Peers>, lightning: Arc<Lightning>, driver: Driver, stop: watch::Receiver<bool>) {
	let (door, connected) = (lightning.door.clone(), lightning.wire.connections());
	door.guard(connected, move |nodes| peers.judge(&lightning, &driver, nodes), stop).await;
}

/// Gives a sign of life each time that the driver comes round.
async fn heartbeat(driver: Driver, pulse: Arc<Pulse>, mut stop: watch::Receiver<bool>) {
	loop {
		if driver.submit(Input::Tick).await.is_err() {
			// The driver goes first when the node stops; a task that ends before is a fault.
			return stopped(&mut stop).await;
		}
		pulse.beat(Loop::Driver);
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
pub(crate) fn chain_config(chain: &ChainBackend, way: Way) -> ChainConfig {
	match chain {
		ChainBackend::Esplora { urls } => ChainConfig::Esplora { urls: urls.clone(), way },
		ChainBackend::Electrum { url } => ChainConfig::Electrum { url: url.clone(), way },
		ChainBackend::Bitcoind { url, auth } => ChainConfig::Bitcoind {
			url: url.clone(),
			way,
			auth: match auth {
				BitcoindAuth::UserPass { user, password } => {
					RpcAuth::UserPass { user: user.clone(), password: password.expose().to_owned() }
				}
				BitcoindAuth::Cookie(path) => RpcAuth::Cookie(path.clone()),
			},
		},
	}
}

fn trust(doubt: &ChainDoubt, way: Way) -> Trust {
	let witnesses = doubt.witnesses.iter().map(|witness| chain_config(witness, way)).collect();
	Trust { max_tip_age: doubt.max_tip_age, witnesses }
}

/// Sets `stop` on SIGTERM, SIGINT and SIGHUP (the terminal that it was started in is gone).
fn stop_on_signal(stop: watch::Sender<bool>) -> std::io::Result<impl Future<Output = ()>> {
	let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
	let mut hangup = signal(SignalKind::hangup())?;
	Ok(async move {
		tokio::select! {
			_ = term.recv() => {},
			_ = int.recv() => {},
			_ = hangup.recv() => {},
		}
		stop.send_replace(true);
	})
}
