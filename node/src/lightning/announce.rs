//! The node announcement: who we are, once we have a public channel.

use super::Lightning;
use crate::config::{HostPort, NodeConfig};
use crate::stop::stopped;
use lightning::ln::msgs::SocketAddress;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the announcement is sent again, so that it is not forgotten (BOLT 7 prunes after two weeks).
const AGAIN: Duration = Duration::from_secs(3600);
/// How often we look whether there is a public channel by now.
const LOOK: Duration = Duration::from_secs(10);

/// Announces the node until `stop`.
pub async fn announce(lightning: Arc<Lightning>, node: NodeConfig, mut stop: watch::Receiver<bool>) {
	let addresses: Vec<SocketAddress> = node.announce_addresses.iter().filter_map(address).collect();
	let alias = alias(&node.alias);
	loop {
		let public = lightning.manager.list_channels().iter().any(|channel| channel.is_announced && channel.is_usable);
		if public {
			lightning.peers.broadcast_node_announcement(node.color, alias, addresses.clone());
		}
		tokio::select! {
			() = stopped(&mut stop) => return,
			() = tokio::time::sleep(if public { AGAIN } else { LOOK }) => {},
		}
	}
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
