//! TCP connections for LDK: one task each, which reads, says when there is room to write, and notices the end.
//!
//! Not `lightning-net-tokio`: there a failed write is noticed by reading only, and LDK stops reading while answers wait to be
//! written, so a client that hangs up at such a moment counts as connected until LDK's ping times out, and is refused until
//! then. Besides, reading is where a peer is held back ([`super::door`]), and that crate leaves no place for it.

use super::door::{Door, Pass};
use super::flush::Round;
use bitcoin::secp256k1::PublicKey;
use lightning::ln::msgs::SocketAddress;
use lightning::ln::peer_handler::{self, APeerManager};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

/// What is read from the network at once.
const CHUNK: usize = 4096;
/// What LDK is shown at once. The shortest message takes 36 bytes of it, so that a peer overshoots its limits by at most
/// [`MAX_MESSAGES_PER_SLICE`] messages.
const SLICE: usize = 512;
/// Messages that one slice can bring to their end.
pub const MAX_MESSAGES_PER_SLICE: usize = SLICE / 36 + 1;
/// How long a peer may take until its `init` is here.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a connection that is not read from is looked at: has the other side hung up?
const LOOK: Duration = Duration::from_secs(1);

tokio::task_local! {
	/// The connection whose bytes LDK is looking at. LDK tells its message handlers which node, never which connection.
	static READING: Arc<Line>;
}

/// One TCP connection.
pub struct Line {
	id: u64,
	state: Mutex<State>,
	changed: Notify,
	/// Who it is, once its `init` was read.
	peer: OnceLock<PublicKey>,
	door: Arc<Door>,
}

struct State {
	/// `None` once it is closed.
	stream: Option<Arc<TcpStream>>,
	/// LDK wants nothing read.
	paused: bool,
	/// The peer has as many requests pending as it may.
	full: bool,
	/// The peer has sent more than its share; nothing is read until then.
	held: Option<Instant>,
	/// A write did not fit.
	waits_to_write: bool,
	end: Option<End>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
	/// LDK has closed it and knows.
	Closed,
	/// It broke, or we close it; LDK is to be told.
	Gone,
}

impl Line {
	/// The connection whose bytes are being read, if this is called from within LDK's reading.
	pub fn reading() -> Option<Arc<Line>> {
		READING.try_with(Clone::clone).ok()
	}

	/// Its number in the [`Door`].
	pub fn id(&self) -> u64 {
		self.id
	}

	/// Who it is, once the handshake is through.
	pub fn peer(&self) -> Option<PublicKey> {
		self.peer.get().copied()
	}

	/// The handshake is through, `init` included.
	pub fn shaken(&self, peer: PublicKey) {
		// Twice for one connection: a second `init`, which LDK refuses.
		let _ = self.peer.set(peer);
		self.door.shaken(self.id, peer);
	}

	/// An LSPS message of so many bytes came in: nothing more is read while that is above the peer's share.
	pub fn charge(&self, bytes: usize) {
		if let Some(until) = self.door.charge(self.id, bytes) {
			self.change(|state| state.held = Some(until));
		}
	}

	/// The peer has as many requests pending as it may, or has room again.
	pub fn set_full(&self, full: bool) {
		self.change(|state| state.full = full);
	}

	/// Closes it; LDK is told by its task.
	pub fn close(&self) {
		self.change(|state| state.end = state.end.or(Some(End::Gone)));
	}

	fn change(&self, change: impl FnOnce(&mut State)) {
		change(&mut self.state.lock().expect("not poisoned"));
		self.changed.notify_one();
	}

	fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
		look(&mut self.state.lock().expect("not poisoned"))
	}
}

/// LDK's handle of a connection.
#[derive(Clone)]
pub struct Socket(Arc<Line>);

impl PartialEq for Socket {
	fn eq(&self, other: &Socket) -> bool {
		self.0.id == other.0.id
	}
}

impl Eq for Socket {}

impl Hash for Socket {
	fn hash<H: Hasher>(&self, state: &mut H) {
		self.0.id.hash(state);
	}
}

impl peer_handler::SocketDescriptor for Socket {
	fn send_data(&mut self, data: &[u8], continue_read: bool) -> usize {
		let mut written = 0;
		self.0.change(|state| {
			state.paused = !continue_read;
			let Some(stream) = &state.stream else { return };
			while written < data.len() {
				match stream.try_write(&data[written..]) {
					Ok(n) => written += n,
					Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
						state.waits_to_write = true;
						return;
					}
					Err(_) => {
						state.end = state.end.or(Some(End::Gone));
						return;
					}
				}
			}
		});
		written
	}

	fn disconnect_socket(&mut self) {
		self.0.change(|state| state.end = Some(End::Closed));
	}
}

/// A peer manager that speaks through [`Socket`]s.
pub trait Manager: Deref<Target: APeerManager<Descriptor = Socket>> + Clone + Send + Sync + 'static {}

impl<T: Deref<Target: APeerManager<Descriptor = Socket>> + Clone + Send + Sync + 'static> Manager for T {}

/// Serves a connection that came in, until its end.
pub async fn serve_inbound(peers: impl Manager, stream: TcpStream, pass: Pass) {
	let address = stream.peer_addr().ok();
	let line = line(stream, &pass);
	if peers.as_ref().new_inbound_connection(Socket(line.clone()), address.map(socket_address)).is_ok() {
		serve(peers, line).await;
	}
}

/// Serves a connection that we made to `peer`, until its end. `address`: where it leads, unless a proxy stands in between.
pub async fn serve_outbound(
	peers: impl Manager,
	peer: PublicKey,
	address: Option<SocketAddr>,
	stream: TcpStream,
	pass: Pass,
) {
	let line = line(stream, &pass);
	let socket = Socket(line.clone());
	let Ok(hello) = peers.as_ref().new_outbound_connection(peer, socket.clone(), address.map(socket_address)) else {
		return;
	};
	let stream = line.look(|state| state.stream.clone()).expect("a new line has its stream");
	let greet = async {
		let mut sent = 0;
		while sent < hello.len() {
			stream.writable().await?;
			match stream.try_write(&hello[sent..]) {
				Ok(n) => sent += n,
				Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
				Err(e) => return Err(e),
			}
		}
		Ok(())
	};
	if matches!(timeout_at(Instant::now() + HANDSHAKE_TIMEOUT, greet).await, Ok(Ok(()))) {
		serve(peers, line).await;
	} else {
		peers.as_ref().socket_disconnected(&socket);
	}
}

fn line(stream: TcpStream, pass: &Pass) -> Arc<Line> {
	let line = Arc::new(Line {
		id: pass.id(),
		state: Mutex::new(State {
			stream: Some(Arc::new(stream)),
			paused: false,
			full: false,
			held: None,
			waits_to_write: false,
			end: None,
		}),
		changed: Notify::new(),
		peer: OnceLock::new(),
		door: pass.door().clone(),
	});
	pass.attach(Arc::downgrade(&line));
	line
}

fn socket_address(address: SocketAddr) -> SocketAddress {
	match address {
		SocketAddr::V4(v4) => SocketAddress::TcpIpV4 { addr: v4.ip().octets(), port: v4.port() },
		SocketAddr::V6(v6) => SocketAddress::TcpIpV6 { addr: v6.ip().octets(), port: v6.port() },
	}
}

async fn serve(peers: impl Manager, line: Arc<Line>) {
	let stream = line.look(|state| state.stream.clone()).expect("a new line has its stream");
	let end = converse(&peers, &line, &stream).await;
	// LDK may keep its handle a while: the socket is closed now.
	line.look(|state| state.stream = None);
	drop(stream);
	if end == End::Gone {
		peers.as_ref().socket_disconnected(&Socket(line.clone()));
		line.door.flush().ask();
	}
}

/// What a connection waits for.
struct Turn {
	read: bool,
	write: bool,
	/// When to look again in any case.
	wake: Option<Instant>,
}

async fn converse(peers: &impl Manager, line: &Arc<Line>, stream: &TcpStream) -> End {
	let mut socket = Socket(line.clone());
	let shaken_by = Instant::now() + HANDSHAKE_TIMEOUT;
	// What was read and LDK was not shown yet. Nothing while the peer is silent, which most are nearly always: a buffer here would be
	// most of what a connection keeps in memory.
	let (mut bytes, mut shown) = (Vec::new(), 0);
	let mut silent = true;
	// LDK has been shown something; the round in which it answers.
	let (mut unflushed, mut round) = (false, None);
	loop {
		let turn = match turn(line, stream, shaken_by) {
			Ok(turn) => turn,
			Err(end) => return end,
		};
		if turn.read && shown < bytes.len() {
			let slice = &bytes[shown..bytes.len().min(shown + SLICE)];
			shown += slice.len();
			let read = READING.sync_scope(line.clone(), || peers.as_ref().read_event(&mut socket, slice));
			if read.is_err() {
				return End::Closed;
			}
			unflushed = true;
			continue;
		}
		if shown == bytes.len() {
			(bytes, shown) = (Vec::new(), 0);
		}
		if std::mem::take(&mut unflushed) {
			round = Some(line.door.flush().ask());
		}
		tokio::select! {
			() = line.changed.notified() => {},
			ready = stream.writable(), if turn.write => {
				line.look(|state| state.waits_to_write = false);
				if ready.is_err() {
					return End::Gone;
				}
				if peers.as_ref().write_buffer_space_avail(&mut socket).is_err() {
					return End::Closed;
				}
			},
			() = flushed(line, round), if round.is_some() => round = None,
			// Not before the answers to what was read are on their way: LDK sees how many wait only then.
			ready = stream.readable(), if turn.read && round.is_none() => match ready.and_then(|()| read(stream)) {
				Ok(read) if read.is_empty() => return End::Gone,
				Ok(read) => {
					if std::mem::take(&mut silent) {
						line.door.heard(line.id);
					}
					(bytes, shown) = (read, 0);
				},
				Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {},
				Err(_) => return End::Gone,
			},
			() = until(turn.wake) => {},
		}
	}
}

/// What has come, at most [`CHUNK`] bytes; empty: the other side has hung up.
fn read(stream: &TcpStream) -> std::io::Result<Vec<u8>> {
	let mut buffer = [0; CHUNK];
	let read = stream.try_read(&mut buffer)?;
	Ok(buffer[..read].to_vec())
}

/// What to do next, or how it ended.
fn turn(line: &Line, stream: &TcpStream, shaken_by: Instant) -> Result<Turn, End> {
	let now = Instant::now();
	let shaking = line.peer.get().is_none();
	if shaking && shaken_by <= now {
		return Err(End::Gone);
	}
	let mut turn = line.look(|state| {
		state.held = state.held.filter(|until| *until > now);
		match state.end {
			Some(end) => Err(end),
			None => Ok(Turn {
				read: !state.paused && !state.full && state.held.is_none(),
				write: state.waits_to_write,
				wake: state.held,
			}),
		}
	})?;
	if !turn.read {
		if hung_up(stream) {
			return Err(End::Gone);
		}
		turn.wake = Some(turn.wake.map_or(now + LOOK, |held| held.min(now + LOOK)));
	}
	if shaking {
		turn.wake = Some(turn.wake.map_or(shaken_by, |wake| wake.min(shaken_by)));
	}
	Ok(turn)
}

/// Has the other side closed? Known without reading what it sent before.
fn hung_up(stream: &TcpStream) -> bool {
	let ready = pin!(stream.ready(Interest::READABLE));
	match ready.poll(&mut Context::from_waker(Waker::noop())) {
		Poll::Ready(Ok(ready)) => ready.is_read_closed(),
		Poll::Ready(Err(_)) => true,
		Poll::Pending => false,
	}
}

async fn flushed(line: &Line, round: Option<Round>) {
	if let Some(round) = round {
		line.door.flush().done(round).await;
	}
}

async fn until(wake: Option<Instant>) {
	match wake {
		Some(at) => sleep_until(at).await,
		None => std::future::pending().await,
	}
}

/// A connection as those see it who do not keep it.
pub type WeakLine = Weak<Line>;

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
