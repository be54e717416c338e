//! Where the graph of public channels comes from.

use super::{GossipHandler, Graph, Log, PeerGossip, RapidGossip};
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
		/// Base URL of the server; the time of the last snapshot is appended.
		url: String,
	},
	/// None: we know our own channels only.
	None,
}

impl Gossip {
	/// From the config: `p2p`, `none` or `rgs:URL`.
	pub fn new(source: &crate::config::Gossip, graph: Arc<Graph>, logger: Log) -> Gossip {
		match source {
			crate::config::Gossip::P2p => Gossip::Peers(Arc::new(PeerGossip::new(graph, None, logger))),
			crate::config::Gossip::Rgs(url) => {
				Gossip::Rapid { sync: Arc::new(RapidGossip::new(graph, logger)), url: url.clone() }
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
	pub async fn refresh(sync: Arc<RapidGossip>, url: String, mut stamp: u32) {
		loop {
			let wait = match fetch(&url, stamp).await.and_then(|bytes| {
				sync.update_network_graph(&bytes).map_err(|e| anyhow::anyhow!("the snapshot is not usable: {e:?}"))
			}) {
				Ok(newer) => {
					stamp = newer;
					RAPID_INTERVAL
				}
				Err(e) => {
					tracing::warn!(target: "inlet::gossip", "rapid gossip sync from {url} failed: {e:#}");
					RAPID_RETRY
				}
			};
			tokio::time::sleep(wait).await;
		}
	}
}

async fn fetch(url: &str, stamp: u32) -> anyhow::Result<Vec<u8>> {
	let request = bitreq::get(format!("{}/{stamp}", url.trim_end_matches('/')))
		.with_timeout(60)
		.with_max_body_size(Some(MAX_SNAPSHOT_BYTES));
	let response = request.send_async().await?;
	anyhow::ensure!(response.status_code == 200, "the server answered {}", response.status_code);
	Ok(response.into_bytes())
}
