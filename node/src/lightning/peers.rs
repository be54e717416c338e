//! Connections: those that come in, and those that we keep.

use super::Lightning;
use super::limits::{Judged, Known};
use super::socket::{serve_inbound, serve_outbound};
use crate::config::HostPort;
use crate::driver::Driver;
use crate::stop::stopped;
use crate::tor::{self, Route, Way};
use anyhow::{Context, bail};
use bitcoin::secp256k1::PublicKey;
use inlet_storage::Store;
use lightning::ln::channel_state::ChannelDetails;
use lightning::util::persist::KVStore;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// Namespace of the peers in the store.
const PRIMARY: &str = "inlet";
const SECONDARY: &str = "peers";
/// Peers that we reconnect to.
const MAX_PERSISTENT: usize = 1_000;
/// How long a connection attempt may take, the handshake included; over Tor, what Tor may take besides.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// First and longest wait before another attempt.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// How often the kept peers are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where a peer is: `host:port`, the host a name, an IPv4 or a bracketed IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
	/// Its node id.
	pub node_id: PublicKey,
	/// `host:port`.
	pub address: String,
}

impl FromStr for PeerAddress {
	type Err = anyhow::Error;

	fn from_str(text: &str) -> anyhow::Result<Self> {
		let (key, address) = text.split_once('@').context("a peer is PUBKEY@HOST:PORT")?;
		let node_id = key.parse().with_context(|| format!("{key} is not a public key"))?;
		let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
		if port.is_none_or(|port| port == 0) {
			bail!("{address} has no port: a peer is PUBKEY@HOST:PORT");
		}
		Ok(PeerAddress { node_id, address: address.to_owned() })
	}
}

struct Kept {
	address: String,
	/// A connection was made there, and this is in the store.
	proven: bool,
	next: Instant,
	wait: Duration,
	trying: bool,
}

/// The peers that we keep a connection to.
pub struct Peers {
	store: Store,
	kept: Mutex<BTreeMap<PublicKey, Kept>>,
}

impl Peers {
	/// Those in the store and those in the config.
	///
	/// # Errors
	/// The store cannot be read.
	pub async fn load(store: Store, configured: Vec<PeerAddress>) -> anyhow::Result<Peers> {
		let mut kept = BTreeMap::new();
		for key in KVStore::list(&store, PRIMARY, SECONDARY).await.context("the peers cannot be listed")? {
			let bytes = KVStore::read(&store, PRIMARY, SECONDARY, &key).await.context("a peer cannot be read")?;
			let node_id: PublicKey = key.parse().context("a stored peer is unreadable")?;
			let address = String::from_utf8(bytes).context("a stored peer is unreadable")?;
			kept.insert(node_id, Kept::new(address, true));
		}
		for peer in configured {
			// The config keeps it, not the store.
			kept.insert(peer.node_id, Kept::new(peer.address, true));
		}
		Ok(Peers { store, kept: Mutex::new(kept) })
	}

	/// Where a kept peer is.
	pub fn address(&self, peer: &PublicKey) -> Option<String> {
		self.kept.lock().expect("not poisoned").get(peer).map(|kept| kept.address.clone())
	}

	/// All kept peers and where they are.
	pub fn all(&self) -> Vec<(PublicKey, String)> {
		self.kept.lock().expect("not poisoned").iter().map(|(id, kept)| (*id, kept.address.clone())).collect()
	}

	/// Connects and keeps the connection from now on. The address of a peer that is connected already cannot be tried while
	/// that connection stands: one that is known here stays; else the new one is tried when the connection ends, and is
	/// stored once a connection was made there.
	///
	/// # Errors
	/// Why there is no connection, for people; nothing is kept then.
	pub async fn connect(&self, lightning: &Arc<Lightning>, peer: PeerAddress) -> anyhow::Result<()> {
		if peer.node_id == lightning.keys.node_id() {
			bail!("that is this node itself");
		}
		let full = {
			let kept = self.kept.lock().expect("not poisoned");
			kept.len() >= MAX_PERSISTENT && !kept.contains_key(&peer.node_id)
		};
		if full {
			bail!("{MAX_PERSISTENT} peers are kept already; disconnect one first");
		}
		let dialed = !lightning.wire.is_connected(&peer.node_id);
		if dialed {
			dial(lightning, peer.node_id, &peer.address).await?;
			self.store(&peer.node_id, &peer.address).await?;
		} else if self.address(&peer.node_id).is_some() {
			return Ok(());
		}
		self.kept.lock().expect("not poisoned").insert(peer.node_id, Kept::new(peer.address, dialed));
		Ok(())
	}

	/// Is this peer kept?
	pub fn is_kept(&self, peer: &PublicKey) -> bool {
		self.kept.lock().expect("not poisoned").contains_key(peer)
	}

	/// What these nodes are to us.
	pub fn judge(&self, lightning: &Lightning, driver: &Driver, peers: &[PublicKey]) -> Vec<Judged> {
		let (awaited, promised) = driver.read(|book| (book.awaited_clients(), book.promised_clients()));
		let judge = |peer: &PublicKey| {
			let channels = lightning.manager.list_channels_with_counterparty(peer);
			let is_backed =
				|channel: &ChannelDetails| channel.is_outbound || channel.confirmations.is_some_and(|n| n > 0);
			Judged::from(Known {
				channel: !channels.is_empty(),
				backed_channel: channels.iter().any(is_backed),
				awaited: awaited.contains(peer),
				kept: self.is_kept(peer),
				promised: promised.contains(peer),
			})
		};
		peers.iter().map(judge).collect()
	}

	async fn store(&self, peer: &PublicKey, address: &str) -> anyhow::Result<()> {
		let bytes = address.as_bytes().to_vec();
		Ok(KVStore::write(&self.store, PRIMARY, SECONDARY, &peer.to_string(), bytes).await?)
	}

	/// Stores a peer, unless it is forgotten meanwhile: it would be back after a restart.
	async fn store_if_kept(&self, peer: &PublicKey, address: &str) -> anyhow::Result<()> {
		self.store(peer, address).await?;
		// Looked at after the write: whoever forgets it later removes what was written.
		if !self.is_kept(peer) {
			KVStore::remove(&self.store, PRIMARY, SECONDARY, &peer.to_string(), false).await?;
		}
		Ok(())
	}

	/// Disconnects and no longer reconnects. Says whether the peer was known.
	///
	/// # Errors
	/// The store cannot be written.
	pub async fn forget(&self, lightning: &Lightning, peer: PublicKey) -> anyhow::Result<bool> {
		let kept = self.kept.lock().expect("not poisoned").remove(&peer).is_some();
		if kept {
			KVStore::remove(&self.store, PRIMARY, SECONDARY, &peer.to_string(), false).await?;
		}
		let connected = lightning.wire.is_connected(&peer);
		lightning.peers.disconnect_by_node_id(peer);
		Ok(kept || connected)
	}

	/// Reconnects kept peers until `stop`.
	pub async fn keep(self: Arc<Self>, lightning: Arc<Lightning>, mut stop: watch::Receiver<bool>) {
		loop {
			for (node_id, address) in self.due(&lightning) {
				let (peers, lightning) = (self.clone(), lightning.clone());
				tokio::spawn(async move {
					let result = dial(&lightning, node_id, &address).await;
					if let Err(e) = &result {
						tracing::debug!(target: "inlet::peers", %node_id, "no connection to {address}: {e:#}");
					}
					if peers.tried(&node_id, result.is_ok())
						&& let Err(e) = peers.store_if_kept(&node_id, &address).await
					{
						tracing::error!(target: "inlet::peers", %node_id, "the peer's address cannot be stored: {e:#}");
					}
				});
			}
			tokio::select! {
				() = stopped(&mut stop) => return,
				() = sleep(LOOK) => {},
			}
		}
	}

	fn due(&self, lightning: &Lightning) -> Vec<(PublicKey, String)> {
		let now = Instant::now();
		let mut due = Vec::new();
		for (id, kept) in self.kept.lock().expect("not poisoned").iter_mut() {
			if !kept.trying && kept.next <= now && !lightning.wire.is_connected(id) {
				kept.trying = true;
				due.push((*id, kept.address.clone()));
			}
		}
		due
	}

	/// An attempt is over. Says whether the address is proven by it, and is to be stored.
	fn tried(&self, peer: &PublicKey, ok: bool) -> bool {
		let mut all = self.kept.lock().expect("not poisoned");
		let Some(kept) = all.get_mut(peer) else { return false };
		kept.trying = false;
		kept.wait = if ok { BACKOFF.0 } else { (kept.wait * 2).min(BACKOFF.1) };
		kept.next = Instant::now() + kept.wait;
		ok && !std::mem::replace(&mut kept.proven, true)
	}
}

impl Kept {
	fn new(address: String, proven: bool) -> Kept {
		Kept { address, proven, next: Instant::now(), wait: BACKOFF.0, trying: false }
	}
}

/// Connects and waits for the peer's `init`. The connection lives on by itself.
///
/// # Errors
/// Why there is no connection, for people.
pub async fn dial(lightning: &Arc<Lightning>, peer: PublicKey, address: &str) -> anyhow::Result<()> {
	let route = route(lightning.door.way(), address)?;
	let patience = match route {
		Route::Direct => CONNECT_TIMEOUT,
		Route::Tor(_) => CONNECT_TIMEOUT + tor::socks::PATIENCE,
	};
	let attempt = async {
		let (stream, at) = match route {
			Route::Direct => {
				let stream = connect_tcp(address).await?;
				let at = stream.peer_addr().ok();
				(stream, at)
			}
			// Its address here is Tor's, and not the peer's.
			Route::Tor(_) => (connect_over(lightning.door.way(), address).await?, None),
		};
		let mut connected = lightning.wire.connections();
		let pass = lightning.door.leave_for()?;
		let connection = serve_outbound(lightning.peers.clone(), peer, at, stream, pass);
		let mut connection = tokio::spawn(connection);
		loop {
			if lightning.wire.is_connected(&peer) {
				return anyhow::Ok(());
			}
			tokio::select! {
				_ = &mut connection => bail!("{address} closed the connection: is {peer} the key of the node there?"),
				_ = connected.changed() => {},
			}
		}
	};
	timeout(patience, attempt).await.with_context(|| format!("{address} does not answer"))?
}

/// How this address is reached. What was never looked at closely (an old store's) is taken for a name.
fn route(way: Way, address: &str) -> anyhow::Result<Route> {
	let host = address.parse().map(|HostPort { host, .. }| host);
	Ok(way.route(host.as_deref().unwrap_or(address))?)
}

async fn connect_over(way: Way, address: &str) -> anyhow::Result<TcpStream> {
	let HostPort { host, port } = address.parse().with_context(|| format!("{address} cannot be asked of Tor"))?;
	prepare(way.connect(&host, port).await.with_context(|| format!("no connection to {address}"))?)
}

async fn connect_tcp(address: &str) -> anyhow::Result<TcpStream> {
	let mut last = None;
	for candidate in lookup_host(address).await.with_context(|| format!("{address} cannot be resolved"))? {
		match TcpStream::connect(candidate).await {
			Ok(stream) => return prepare(stream),
			Err(e) => last = Some(e),
		}
	}
	match last {
		Some(e) => Err(e).with_context(|| format!("{address} does not take connections")),
		None => bail!("{address} has no address"),
	}
}

/// Small messages go out at once: Nagle's algorithm costs a round of every payment up to 40 ms.
fn prepare(stream: TcpStream) -> anyhow::Result<TcpStream> {
	stream.set_nodelay(true)?;
	Ok(stream)
}

/// Binds what the config says to listen on.
///
/// # Errors
/// Which address cannot be bound, and why.
pub async fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
	let mut listeners = Vec::new();
	for address in addresses {
		let listener = TcpListener::bind(address).await.with_context(|| {
			format!("cannot listen on {address}: choose another with --listen, or stop what uses it")
		})?;
		listeners.push(listener);
	}
	Ok(listeners)
}

/// Takes connections until `stop`, as many as the [`Door`](super::door::Door) lets in.
pub async fn accept(listener: TcpListener, lightning: Arc<Lightning>, mut stop: watch::Receiver<bool>) {
	loop {
		let (stream, from) = tokio::select! {
			() = stopped(&mut stop) => return,
			accepted = listener.accept() => match accepted {
				Ok(accepted) => accepted,
				Err(e) if concerns_one_connection(&e) => continue,
				Err(e) => {
					// Out of file descriptors, say: others close theirs in the meantime.
					tracing::warn!(target: "inlet::peers", "a connection could not be accepted: {e}");
					sleep(Duration::from_secs(1)).await;
					continue;
				},
			},
		};
		let pass = match lightning.door.enter(from.ip()) {
			Ok(pass) => pass,
			Err(refused) => {
				// No louder: whoever floods would fill the log.
				tracing::debug!(target: "inlet::peers", %from, "a connection is refused: {refused}");
				continue;
			}
		};
		let Ok(stream) = prepare(stream) else { continue };
		tokio::spawn(serve_inbound(lightning.peers.clone(), stream, pass));
	}
}

/// Is this about the connection that was to be accepted, and says nothing of the next?
fn concerns_one_connection(error: &std::io::Error) -> bool {
	use std::io::ErrorKind::{
		ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkDown,
		NetworkUnreachable,
	};
	matches!(
		error.kind(),
		ConnectionAborted
			| ConnectionRefused
			| ConnectionReset
			| HostUnreachable
			| Interrupted
			| NetworkDown
			| NetworkUnreachable
	)
}

#[cfg(test)]
mod tests {
	use super::*;

	const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

	#[test]
	fn a_peer_is_a_key_and_an_address_with_a_port() {
		let peer: PeerAddress = format!("{KEY}@example.org:9735").parse().unwrap();
		assert_eq!(peer.address, "example.org:9735");
		assert_eq!(format!("{KEY}@[::1]:9735").parse::<PeerAddress>().unwrap().address, "[::1]:9735");
		for bad in [KEY.to_owned(), format!("{KEY}@host"), format!("{KEY}@host:0"), "02ab@host:1".to_owned()] {
			assert!(bad.parse::<PeerAddress>().is_err(), "{bad}");
		}
	}

	#[test]
	fn r14_an_error_of_one_connection_does_not_delay_the_next() {
		let error = std::io::Error::from_raw_os_error;
		// ECONNABORTED, ECONNRESET, EHOSTUNREACH, ENETDOWN, EINTR; and EMFILE, ENFILE, ENOBUFS, ENOMEM.
		assert!([103, 104, 113, 100, 4].into_iter().all(|code| concerns_one_connection(&error(code))));
		assert!(![24, 23, 105, 12].into_iter().any(|code| concerns_one_connection(&error(code))));
	}

	#[tokio::test]
	async fn a_peer_that_is_forgotten_while_it_is_stored_stays_forgotten() {
		let dir = tempfile::tempdir().unwrap();
		let store = Store::open(&dir.path().join("store"), |e| panic!("{e}")).unwrap();
		let (node_id, address) = (KEY.parse().unwrap(), "example.org:9735");
		let peers = Peers::load(store.clone(), Vec::new()).await.unwrap();
		peers.kept.lock().unwrap().insert(node_id, Kept::new(address.to_owned(), false));
		assert!(peers.tried(&node_id, true), "proven, and about to be stored");
		peers.kept.lock().unwrap().remove(&node_id);
		peers.store_if_kept(&node_id, address).await.unwrap();
		assert!(Peers::load(store.clone(), Vec::new()).await.unwrap().all().is_empty());
		peers.kept.lock().unwrap().insert(node_id, Kept::new(address.to_owned(), true));
		peers.store_if_kept(&node_id, address).await.unwrap();
		assert_eq!(Peers::load(store, Vec::new()).await.unwrap().all().len(), 1);
	}

	#[tokio::test]
	async fn an_address_that_was_never_reached_is_not_stored() {
		let dir = tempfile::tempdir().unwrap();
		let store = Store::open(&dir.path().join("store"), |e| panic!("{e}")).unwrap();
		let (node_id, address) = (KEY.parse().unwrap(), "example.org:9735");
		let peers = Peers::load(store.clone(), Vec::new()).await.unwrap();
		peers.kept.lock().unwrap().insert(node_id, Kept::new(address.to_owned(), false));
		assert!(!peers.tried(&node_id, false));
		assert!(Peers::load(store.clone(), Vec::new()).await.unwrap().all().is_empty());
		assert!(peers.tried(&node_id, true), "now it is proven");
		assert!(!peers.tried(&node_id, true), "and stored once");
		peers.store(&node_id, address).await.unwrap();
		assert_eq!(Peers::load(store, Vec::new()).await.unwrap().all(), [(node_id, address.to_owned())]);
	}
}
