//! A peer that sends and receives LSPS0 messages as bytes, good or bad, over a real connection.

use super::{Log, parse_uri, random_bytes, since_epoch};
use anyhow::{Context, Result, bail, ensure};
use bitcoin::secp256k1::PublicKey;
use lightning::io;
use lightning::ln::msgs::{DecodeError, ErrorAction, Init, LightningError};
use lightning::ln::peer_handler::{
	CustomMessageHandler, ErroringMessageHandler, IgnoringMessageHandler, MessageHandler, PeerManager,
};
use lightning::ln::wire::{CustomMessageReader, Type};
use lightning::sign::{KeysManager, NodeSigner, Recipient};
use lightning::types::features::{InitFeatures, NodeFeatures};
use lightning::util::logger::Level;
use lightning::util::ser::{LengthLimitedRead, Writeable, Writer};
use lightning_net_tokio::{SocketDescriptor, setup_outbound};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// The type of all LSPS messages (bLIP-50).
pub const LSPS_MESSAGE_TYPE: u16 = 37913;
/// `option_supports_lsps` (bLIP-50): LSPs may set it, clients must not.
pub const LSPS_FEATURE_BIT: usize = 729;
/// The longest payload that fits a Lightning message.
pub const MAX_PAYLOAD: usize = 65533;

/// Messages that may wait to be read; a peer that sends more is disconnected.
const INBOX_LIMIT: usize = 100_000;
/// Between two attempts to connect.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection may take, and an answer to [`RawPeer::call`].
const PATIENCE: Duration = Duration::from_secs(10);

/// A node's secret, so that a peer can come back as the same node.
#[derive(Clone)]
pub struct Identity([u8; 32]);

impl Identity {
	/// A new one.
	///
	/// # Errors
	/// There is no randomness to be had.
	pub fn random() -> Result<Identity> {
		Ok(Identity(random_bytes()?))
	}

	/// The node that has this as LDK's seed.
	pub fn of_seed(seed: [u8; 32]) -> Identity {
		Identity(seed)
	}
}

/// What a [`RawPeer`] does differently.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawPeerOptions {
	/// Sets feature bit 729, which only LSPs may.
	pub claims_to_be_lsp: bool,
	/// The loopback address to come from (127.0.0.0/8), so that limits by address can be told apart; 127.0.0.1 if none.
	pub from: Option<Ipv4Addr>,
}

/// One connection to a node.
pub struct RawPeer {
	peers: Arc<Peers>,
	wire: Arc<Wire>,
	inbox: mpsc::Receiver<Vec<u8>>,
	/// Replies that [`RawPeer::call`] met while it waited for its own.
	stash: VecDeque<Vec<u8>>,
	connected: watch::Receiver<bool>,
	remote: PublicKey,
	node_id: PublicKey,
	next_id: AtomicU64,
}

type Peers = PeerManager<
	SocketDescriptor,
	ErroringMessageHandler,
	IgnoringMessageHandler,
	IgnoringMessageHandler,
	Arc<Log>,
	Arc<Wire>,
	Arc<KeysManager>,
	IgnoringMessageHandler,
>;

impl RawPeer {
	/// Connects to a node with a random key of our own, and waits for its `init`.
	///
	/// # Errors
	/// It does not listen, or is another node, or does not answer in time.
	pub async fn connect(remote: PublicKey, address: SocketAddr) -> Result<RawPeer> {
		RawPeer::connect_as(&Identity::random()?, RawPeerOptions::default(), remote, address).await
	}

	/// The same for `NODE_ID@HOST:PORT`.
	///
	/// # Errors
	/// As [`RawPeer::connect`].
	pub async fn connect_to(uri: &str) -> Result<RawPeer> {
		let (remote, address) = parse_uri(uri)?;
		RawPeer::connect(remote, address).await
	}

	/// The same, as a certain node.
	///
	/// # Errors
	/// As [`RawPeer::connect`].
	pub async fn connect_as(
		identity: &Identity,
		options: RawPeerOptions,
		remote: PublicKey,
		address: SocketAddr,
	) -> Result<RawPeer> {
		let now = since_epoch();
		let keys = Arc::new(KeysManager::new(&identity.0, now.as_secs(), now.subsec_nanos(), true));
		let node_id = keys.get_node_id(Recipient::Node).map_err(|()| anyhow::anyhow!("no node id"))?;
		let (deliver, inbox) = mpsc::channel(INBOX_LIMIT);
		let (connection, mut connected) = watch::channel(false);
		let wire =
			Arc::new(Wire { options, deliver, connection, outbox: Mutex::default(), features: Mutex::default() });
		let handlers = MessageHandler {
			chan_handler: ErroringMessageHandler::new(),
			route_handler: IgnoringMessageHandler {},
			onion_message_handler: IgnoringMessageHandler {},
			custom_message_handler: Arc::clone(&wire),
			send_only_message_handler: IgnoringMessageHandler {},
		};
		let log = Arc::new(Log::new("raw"));
		let peers = Arc::new(Peers::new(handlers, now.as_secs() as u32, &random_bytes()?, log, keys));
		let shaken = async {
			while !*connected.borrow_and_update() {
				let socket = tokio::net::TcpSocket::new_v4()?;
				if let Some(from) = options.from {
					socket.bind((from, 0).into())?;
				}
				let stream = socket.connect(address).await.with_context(|| format!("nobody at {address}"))?;
				stream.set_nodelay(true)?;
				// A node hangs up on whom it still takes for connected: then we try again, as a real client does.
				let gone = tokio::spawn(setup_outbound(Arc::clone(&peers), remote, stream.into_std()?));
				tokio::select! {
					changed = connected.changed() => changed?,
					ended = gone => {
						ended?;
						tokio::time::sleep(RETRY_PAUSE).await;
					},
				}
			}
			anyhow::Ok(())
		};
		tokio::time::timeout(PATIENCE, shaken)
			.await
			.with_context(|| format!("{remote} at {address} does not finish the handshake"))??;
		Ok(RawPeer {
			peers,
			wire,
			inbox,
			stash: VecDeque::new(),
			connected,
			remote,
			node_id,
			next_id: AtomicU64::new(1),
		})
	}

	/// Who we are to the other node.
	pub fn node_id(&self) -> PublicKey {
		self.node_id
	}

	/// Is the connection that was made still there?
	pub fn is_connected(&self) -> bool {
		*self.connected.borrow()
	}

	/// What the other node's `init` says.
	pub fn remote_features(&self) -> InitFeatures {
		let features = self.wire.features.lock().unwrap_or_else(PoisonError::into_inner);
		features.clone().unwrap_or_else(InitFeatures::empty)
	}

	/// Sends a message of type 37913. It is queued: that it arrives is known from an answer only.
	///
	/// # Panics
	/// If it is longer than [`MAX_PAYLOAD`].
	pub fn send(&self, payload: impl Into<Vec<u8>>) {
		self.send_typed(LSPS_MESSAGE_TYPE, payload);
	}

	/// Sends a message of any type.
	///
	/// # Panics
	/// If it is longer than [`MAX_PAYLOAD`].
	pub fn send_typed(&self, message_type: u16, payload: impl Into<Vec<u8>>) {
		let payload = payload.into();
		assert!(payload.len() <= MAX_PAYLOAD, "{} bytes do not fit a Lightning message", payload.len());
		let message = Message { message_type, payload };
		self.wire.outbox.lock().unwrap_or_else(PoisonError::into_inner).push((self.remote, message));
		self.peers.process_events();
	}

	/// The next message of type 37913.
	///
	/// # Errors
	/// None comes within `patience`, or the connection is gone.
	pub async fn recv(&mut self, patience: Duration) -> Result<Vec<u8>> {
		if let Some(stashed) = self.stash.pop_front() {
			return Ok(stashed);
		}
		self.next_message(patience).await
	}

	async fn next_message(&mut self, patience: Duration) -> Result<Vec<u8>> {
		tokio::select! {
			biased;
			message = self.inbox.recv() => message.context("the connection is gone"),
			_ = self.connected.wait_for(|connected| !*connected) => bail!("the LSP disconnected us"),
			() = tokio::time::sleep(patience) => bail!("no message within {} ms", patience.as_millis()),
		}
	}

	/// Sends bytes and takes the next message as their answer.
	///
	/// # Errors
	/// There is no answer, it is no JSON, or it breaks bLIP-50 ([`check_response`]).
	pub async fn exchange(&mut self, payload: impl Into<Vec<u8>>) -> Result<Value> {
		self.send(payload);
		let answer = self.recv(PATIENCE).await?;
		check_response(&answer)
	}

	/// Sends a request with a fresh id and gives the whole response to it, checked against bLIP-50. Responses to other
	/// requests are kept for [`RawPeer::recv`].
	///
	/// # Errors
	/// There is no answer, or it breaks bLIP-50 ([`check_response`]).
	pub async fn call(&mut self, method: &str, params: Value) -> Result<Value> {
		let id = format!("raw-{}", self.next_id.fetch_add(1, Ordering::Relaxed));
		self.call_with_id(&id, method, params).await
	}

	/// The same, with an id of your choice.
	///
	/// # Errors
	/// As [`RawPeer::call`].
	pub async fn call_with_id(&mut self, id: &str, method: &str, params: Value) -> Result<Value> {
		self.send(request(id, method, &params));
		let deadline = Instant::now() + PATIENCE;
		loop {
			let left = deadline.saturating_duration_since(Instant::now());
			let message =
				self.next_message(left).await.with_context(|| format!("waiting for the answer to {method}"))?;
			let response = check_response(&message)?;
			if response["id"] == id {
				return Ok(response);
			}
			self.stash.push_back(message);
		}
	}

	/// Disconnects and waits until it is so on our side.
	///
	/// # Errors
	/// Our own peer manager does not do it in time.
	pub async fn disconnect(mut self) -> Result<()> {
		self.peers.disconnect_by_node_id(self.remote);
		tokio::time::timeout(PATIENCE, self.connected.wait_for(|connected| !*connected)).await??;
		Ok(())
	}
}

impl Drop for RawPeer {
	fn drop(&mut self) {
		self.peers.disconnect_all_peers();
	}
}

/// A JSON-RPC 2.0 request.
pub fn request(id: &str, method: &str, params: &Value) -> Vec<u8> {
	json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string().into_bytes()
}

/// Reads a response, and holds it against what bLIP-50 asks of every one (L0-9, L0-12): one object with `jsonrpc` "2.0",
/// an id (a string, or null in an error), and either an object as `result` or an `error` with `code`, `message` and, if
/// at all, an object as `data`; nothing else; with `unrecognized` in the data of a -32602.
///
/// # Errors
/// What is wrong with it.
pub fn check_response(message: &[u8]) -> Result<Value> {
	ensure!(message.len() <= MAX_PAYLOAD, "{} bytes are too long", message.len());
	let response: Value = serde_json::from_slice(message)
		.with_context(|| format!("this is no JSON: {}", String::from_utf8_lossy(message)))?;
	let check = || -> Result<()> {
		let fields = response.as_object().context("not an object")?;
		ensure!(response["jsonrpc"] == "2.0", "jsonrpc is not 2.0");
		ensure!(fields.contains_key("id"), "there is no id");
		let outcome = if fields.contains_key("result") { "result" } else { "error" };
		let unknown = fields.keys().find(|key| !["jsonrpc", "id", outcome].contains(&key.as_str()));
		ensure!(unknown.is_none(), "{unknown:?} should not be there");
		if outcome == "result" {
			ensure!(response["id"].is_string(), "the id of a result must be a string");
			ensure!(response["result"].is_object(), "the result is not an object");
			return Ok(());
		}
		ensure!(response["id"].is_string() || response["id"].is_null(), "the id is neither a string nor null");
		let error = response["error"].as_object().context("there is neither a result nor an error")?;
		ensure!(response["error"]["code"].is_i64(), "the error's code is not an integer");
		ensure!(response["error"]["message"].is_string(), "the error's message is not a string");
		ensure!(error.get("data").is_none_or(Value::is_object), "the error's data is not an object");
		let unknown = error.keys().find(|key| !["code", "message", "data"].contains(&key.as_str()));
		ensure!(unknown.is_none(), "{unknown:?} should not be in the error");
		let unrecognized = response["error"]["data"]["unrecognized"].as_array();
		ensure!(response["error"]["code"] != -32602 || unrecognized.is_some(), "-32602 without data.unrecognized");
		Ok(())
	};
	check().with_context(|| format!("{response} breaks bLIP-50"))?;
	Ok(response)
}

#[derive(Clone, Debug)]
struct Message {
	message_type: u16,
	payload: Vec<u8>,
}

impl Type for Message {
	fn type_id(&self) -> u16 {
		self.message_type
	}
}

impl Writeable for Message {
	fn write<W: Writer>(&self, writer: &mut W) -> Result<(), io::Error> {
		writer.write_all(&self.payload)
	}
}

/// Bytes in, bytes out: nothing here knows JSON.
struct Wire {
	options: RawPeerOptions,
	deliver: mpsc::Sender<Vec<u8>>,
	connection: watch::Sender<bool>,
	outbox: Mutex<Vec<(PublicKey, Message)>>,
	features: Mutex<Option<InitFeatures>>,
}

impl CustomMessageReader for Wire {
	type CustomMessage = Message;

	fn read<R: LengthLimitedRead>(&self, message_type: u16, buffer: &mut R) -> Result<Option<Message>, DecodeError> {
		if message_type != LSPS_MESSAGE_TYPE {
			return Ok(None);
		}
		let mut payload = vec![0; buffer.remaining_bytes() as usize];
		buffer.read_exact(&mut payload)?;
		Ok(Some(Message { message_type, payload }))
	}
}

impl CustomMessageHandler for Wire {
	fn handle_custom_message(&self, message: Message, _: PublicKey) -> Result<(), LightningError> {
		self.deliver.try_send(message.payload).map_err(|_| LightningError {
			err: "more messages than a test can want".to_owned(),
			action: ErrorAction::IgnoreAndLog(Level::Error),
		})
	}

	fn get_and_clear_pending_msg(&self) -> Vec<(PublicKey, Message)> {
		std::mem::take(&mut *self.outbox.lock().unwrap_or_else(PoisonError::into_inner))
	}

	fn peer_disconnected(&self, _: PublicKey) {
		self.connection.send_replace(false);
	}

	fn peer_connected(&self, _: PublicKey, init: &Init, _: bool) -> Result<(), ()> {
		*self.features.lock().unwrap_or_else(PoisonError::into_inner) = Some(init.features.clone());
		self.connection.send_replace(true);
		Ok(())
	}

	fn provided_node_features(&self) -> NodeFeatures {
		NodeFeatures::empty()
	}

	fn provided_init_features(&self, _: PublicKey) -> InitFeatures {
		let mut features = InitFeatures::empty();
		if self.options.claims_to_be_lsp {
			features.set_optional_custom_bit(LSPS_FEATURE_BIT).expect("729 is no bit that LDK knows");
		}
		features
	}
}
