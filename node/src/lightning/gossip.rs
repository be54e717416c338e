//! Where the graph of public channels comes from.

use super::{GossipHandler, Graph, Log, PeerGossip, RapidGossip};
use crate::tor::Way;
use lightning::ln::peer_handler::IgnoringMessageHandler;
use std::sync::Arc;
use std::time::Duration;

/// How often a rapid gossip sync server is asked.
const RAPID_INTERVAL: Duration = Duration::from_secs(3600);
/// How long we wait after a failed attempt.
const RAPID_RETRY: Duration = Duration::from_secs(60);
/// Most bytes that a snapshot may have.
const MAX_SNAPSHOT_BYTES: usize = 64 << 20;

/// The source of gossip.
pub enum Gossip {
	/// Peers.
	Peers(Arc<PeerGossip>),
	/// A rapid gossip sync server.
	Rapid {
		/// Applies snapshots.
		sync: Arc<RapidGossip>,
		/// The server.
		url: Server,
	},
	/// None: we know our own channels only.
	None,
}

/// A rapid gossip sync server.
#[derive(Clone)]
pub struct Server {
	/// Its base URL; the time of the last snapshot is appended.
	url: String,
	way: Way,
}

impl Gossip {
	/// From the config: `p2p`, `none` or `rgs:URL`.
	pub fn new(source: &crate::config::Gossip, way: Way, graph: Arc<Graph>, logger: Log) -> Gossip {
		match source {
			crate::config::Gossip::P2p => Gossip::Peers(Arc::new(PeerGossip::new(graph, None, logger))),
			crate::config::Gossip::Rgs(url) => {
				Gossip::Rapid { sync: Arc::new(RapidGossip::new(graph, logger)), url: Server { url: url.clone(), way } }
			}
			crate::config::Gossip::None => Gossip::None,
		}
	}

	/// What the peer manager hands gossip messages to.
	pub fn handler(&self) -> GossipHandler {
		match self {
			Gossip::Peers(sync) => sync.clone(),
			Gossip::Rapid { .. } | Gossip::None => Arc::new(IgnoringMessageHandler {}),
		}
	}

	/// Fetches snapshots for ever, if a server is to be asked.
	pub async fn refresh(sync: Arc<RapidGossip>, server: Server, mut stamp: u32) {
		loop {
			let wait = match fetch(&server, stamp).await.and_then(|bytes| {
				sync.update_network_graph(&bytes).map_err(|e| anyhow::anyhow!("the snapshot is not usable: {e:?}"))
			}) {
				Ok(newer) => {
					stamp = newer;
					RAPID_INTERVAL
				}
				Err(e) => {
					let url = &server.url;
					tracing::warn!(target: "inlet::gossip", "rapid gossip sync from {url} failed: {e:#}");
					RAPID_RETRY
				}
			};
			tokio::time::sleep(wait).await;
		}
	}
}

async fn fetch(server: &Server, stamp: u32) -> anyhow::Result<Vec<u8>> {
	let mut request = bitreq::get(format!("{}/{stamp}", server.url.trim_end_matches('/')))
		.with_timeout(60)
		.with_max_body_size(Some(MAX_SNAPSHOT_BYTES));
	let bridge = server.way.bridge(&server.url)?;
	if let Some(bridge) = &bridge {
		request = request.with_proxy(bitreq::Proxy::new_http(bridge.url())?);
	}
	let response = request.send_async().await?;
	anyhow::ensure!(response.status_code == 200, "the server answered {}", response.status_code);
	Ok(response.into_bytes())
}
