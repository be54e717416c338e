use super::*;
use crate::config::PeerLimits;
use crate::lightning::logger::LdkLogger;
use crate::lightning::wire::Wire;
use bitcoin::secp256k1::PublicKey;
use lightning::ln::peer_handler::{ErroringMessageHandler, IgnoringMessageHandler, MessageHandler, PeerManager};
use lightning::sign::{KeysManager, NodeSigner, Recipient};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
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
		serve_outbound(peers, server_id, out, Door::new(LIMITS).leave_for()).await;
	});
	let (inc, from) = listener.accept().await.unwrap();
	let pass = Door::new(LIMITS).enter(from.ip()).unwrap();
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
