use super::*;
use crate::config::PeerLimits;
use crate::lightning::logger::LdkLogger;
use crate::lightning::wire::{Wire, WireEvent};
use crate::tor::Way;
use bitcoin::secp256k1::PublicKey;
use lightning::ln::peer_handler::{ErroringMessageHandler, IgnoringMessageHandler, MessageHandler, PeerManager};
use lightning::sign::{KeysManager, NodeSigner, Recipient};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

type Peers = PeerManager<
	Socket,
	ErroringMessageHandler,
	IgnoringMessageHandler,
	IgnoringMessageHandler,
	Arc<LdkLogger>,
	Arc<Wire>,
	Arc<KeysManager>,
	IgnoringMessageHandler,
>;

const LIMITS: PeerLimits = PeerLimits { max_per_ip: 4, max_per_local_ip: 4, max_strangers: 4 };
/// More than any test needs.
const PATIENCE: Duration = Duration::from_secs(8);

struct Node {
	peers: Arc<Peers>,
	wire: Arc<Wire>,
	id: PublicKey,
}

fn node(seed: u8) -> Node {
	let keys = Arc::new(KeysManager::new(&[seed; 32], 0, 0, true));
	let id = keys.get_node_id(Recipient::Node).unwrap();
	let wire = Arc::new(Wire::default());
	let handlers = MessageHandler {
		chan_handler: ErroringMessageHandler::new(),
		route_handler: IgnoringMessageHandler {},
		onion_message_handler: IgnoringMessageHandler {},
		custom_message_handler: wire.clone(),
		send_only_message_handler: IgnoringMessageHandler {},
	};
	Node { peers: Arc::new(Peers::new(handlers, 0, &[seed; 32], Arc::new(LdkLogger), keys)), wire, id }
}

async fn until(node: &Node, peer: PublicKey, connected: bool) -> bool {
	let mut seen = node.wire.connections();
	let there = seen.wait_for(|all| all.contains(&peer) == connected);
	timeout(PATIENCE, there).await.is_ok()
}

/// A door whose connections LDK can send through, as long as the runtime lives.
fn door(peers: &Arc<Peers>) -> Arc<Door> {
	let (door, peers) = (Door::new(LIMITS, Way::default()), peers.clone());
	let own = door.clone();
	tokio::spawn(async move {
		let (_never, stop) = watch::channel(false);
		own.flush().run(|| peers.process_events(), stop).await;
	});
	door
}

/// The server's answers fail to be written, LDK says that nothing is to be read until they are, and the end of the
/// connection is to be read. One thread: the order of things is always the same.
#[tokio::test]
async fn l2_32_a_hang_up_is_noticed_while_answers_wait() {
	let (client, server) = (node(1), node(2));
	let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
	let address = listener.local_addr().unwrap();
	let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
	let (peers, server_id) = (client.peers.clone(), server.id);
	let running = elsewhere.spawn(async move {
		let out = TcpStream::connect(address).await.unwrap();
		let door = door(&peers);
		serve_outbound(peers, server_id, None, out, door.leave_for().unwrap()).await;
	});
	let (inc, from) = listener.accept().await.unwrap();
	let pass = door(&server.peers).enter(from.ip()).unwrap();
	tokio::spawn(serve_inbound(server.peers.clone(), inc, pass));
	assert!(until(&server, client.id, true).await && until(&client, server.id, true).await);

	// Something to read before the end.
	client.wire.send(server.id, b"{}".to_vec());
	client.peers.process_events();
	client.peers.disconnect_by_node_id(server.id);
	// From here to the end of the loop the server's task does not run: it is told of the hang-up, and not to read, at once.
	let patience = std::time::Instant::now() + PATIENCE;
	while !running.is_finished() && std::time::Instant::now() < patience {
		std::thread::yield_now();
	}
	for _ in 0..3 {
		for _ in 0..20 {
			server.wire.send(client.id, vec![b' '; 2_000]);
		}
		server.peers.process_events();
	}
	assert!(until(&server, client.id, false).await, "still taken for connected");
	elsewhere.shutdown_background();
}

/// One thread: all that the client sends is there before the server reads, in one chunk.
#[tokio::test]
async fn l0_24_what_waits_to_be_sent_goes_out_when_reading_stops_in_the_middle_of_a_chunk() {
	let (client, server) = (node(3), node(4));
	let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
	let out = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
	let (inc, from) = listener.accept().await.unwrap();
	let (ours, inside) = (door(&client.peers).leave_for().unwrap(), door(&server.peers));
	let theirs = inside.enter(from.ip()).unwrap();
	tokio::spawn(serve_outbound(client.peers.clone(), server.id, None, out, ours));
	tokio::spawn(serve_inbound(server.peers.clone(), inc, theirs));
	assert!(until(&server, client.id, true).await && until(&client, server.id, true).await);
	let connected = timeout(PATIENCE, client.wire.next()).await.unwrap();
	assert_eq!(connected, WireEvent::Connected { peer: server.id });

	// Nobody asks for another round of the server's after this one.
	inside.flush().done(inside.flush().ask()).await;

	// More than the server takes while none is answered; and it has something to say itself, as after a ping.
	for _ in 0..60 {
		client.wire.send(server.id, b"{}".to_vec());
	}
	server.wire.send(client.id, b"pong".to_vec());
	client.peers.process_events();
	let heard = timeout(PATIENCE, client.wire.next()).await.expect("nothing went out");
	assert_eq!(heard, WireEvent::Message { peer: server.id, bytes: b"pong".to_vec() });
}

#[tokio::test]
async fn r12_a_connection_that_was_let_in_just_before_the_stop_ends() {
	let server = node(5);
	let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
	let mut out = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
	let (inc, from) = listener.accept().await.unwrap();
	let door = door(&server.peers);
	let pass = door.enter(from.ip()).unwrap();
	door.shut();
	server.peers.disconnect_all_peers();
	tokio::spawn(serve_inbound(server.peers.clone(), inc, pass));
	let ended = timeout(HANDSHAKE_TIMEOUT / 2, tokio::io::AsyncReadExt::read(&mut out, &mut [0; 1])).await;
	assert_eq!(ended.expect("it still waits for a handshake").unwrap(), 0);
}

/// Thousands of clients are connected and say nothing: what is kept for each of them is no buffer.
#[tokio::test]
async fn a_silent_connection_keeps_no_buffer() {
	let server = node(6);
	let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
	let _out = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
	let (inc, from) = listener.accept().await.unwrap();
	let pass = door(&server.peers).enter(from.ip()).unwrap();
	// [1,088]
	let serving = serve_inbound(server.peers.clone(), inc, pass);
	assert!(size_of_val(&serving) < 2_048, "{} bytes", size_of_val(&serving));
}
