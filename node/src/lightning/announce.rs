//! The node announcement: who we are, once we have a public channel.

use super::Lightning;
use crate::config::{HostPort, NodeConfig};
use crate::stop::stopped;
use crate::tor;
use lightning::ln::msgs::SocketAddress;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the announcement is sent again, so that it is not forgotten (BOLT 7 prunes after two weeks).
const AGAIN: Duration = Duration::from_secs(3600);
/// How often we look whether there is a public channel by now.
const LOOK: Duration = Duration::from_secs(10);

/// Announces the node until `stop`, with its onion service as soon as there is one.
pub async fn announce(
	lightning: Arc<Lightning>,
	node: NodeConfig,
	mut onion: watch::Receiver<tor::State>,
	mut stop: watch::Receiver<bool>,
) {
	let alias = alias(&node.alias);
	loop {
		let public = lightning.manager.list_channels().iter().any(|channel| channel.is_announced && channel.is_usable);
		if public {
			let own = onion.borrow_and_update().onion.clone();
			lightning.peers.broadcast_node_announcement(node.color, alias, addresses(&node.announce_addresses, own));
		}
		tokio::select! {
			() = stopped(&mut stop) => return,
			() = is_new(&mut onion, public) => {},
			() = tokio::time::sleep(if public { AGAIN } else { LOOK }) => {},
		}
	}
}

/// Resolves when there is another onion service than was announced.
async fn is_new(onion: &mut watch::Receiver<tor::State>, announced: bool) {
	if !announced {
		return std::future::pending().await;
	}
	let was = onion.borrow().onion.clone();
	if onion.wait_for(|state| state.onion != was).await.is_err() {
		std::future::pending().await
	}
}

/// Those of the configuration and our onion service, each once, as far as the network knows such addresses.
fn addresses(configured: &[HostPort], onion: Option<HostPort>) -> Vec<SocketAddress> {
	let mut all: Vec<SocketAddress> = Vec::new();
	for address in configured.iter().chain(&onion).filter_map(address) {
		if !all.contains(&address) {
			all.push(address);
		}
	}
	all
}

fn address(at: &HostPort) -> Option<SocketAddress> {
	SocketAddress::from_str(&at.to_string()).ok()
}

/// BOLT 7: 32 bytes, filled up with zeros. The config has checked that it fits.
fn alias(text: &str) -> [u8; 32] {
	let mut bytes = [0; 32];
	let taken = text.as_bytes();
	let length = taken.len().min(bytes.len());
	bytes[..length].copy_from_slice(&taken[..length]);
	bytes
}
