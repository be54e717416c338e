//! One switch stops the node: a watch that becomes true.

use tokio::sync::watch;

/// Waits until the node is to stop.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
	// An error means that nobody can switch any more, which is the same. The guard inside must not outlive the wait.
	let _ = stop.wait_for(|stop| *stop).await;
}
