//! While the node starts (it may have to catch up with the chain for long), the socket answers: not yet.

use super::listen::{Admin, connection};
use super::{MAX_CONNECTIONS, Problem};
use crate::control::{Refusal, Stopping};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

impl Admin {
	/// Answers every request with 503 `starting`, but for `stop`, which sets `stop` (not on a socket for reading). Never returns:
	/// drop it to serve.
	pub async fn starting(&self, stop: watch::Sender<bool>) {
		let stopping = stop.subscribe();
		let mut router = Router::new();
		if !self.reads_only {
			router = router.route("/v1/stop", post(stop_now));
		}
		let router = router.fallback(not_yet).with_state(stop);
		let mut connections = JoinSet::new();
		loop {
			while connections.len() >= MAX_CONNECTIONS {
				connections.join_next().await;
			}
			match self.accept().await {
				Ok(stream) => {
					connections.spawn(connection(stream, router.clone(), stopping.clone()));
				}
				Err(error) => {
					tracing::warn!(%error, "cannot accept an admin connection");
					tokio::time::sleep(Duration::from_secs(1)).await;
				}
			}
		}
	}
}

async fn stop_now(State(stop): State<watch::Sender<bool>>) -> Json<Stopping> {
	stop.send_replace(true);
	Json(Stopping { stopping: true })
}

async fn not_yet() -> Problem {
	let refusal = Refusal::not_now(
		"starting",
		"the node is starting: it catches up with the chain",
		"try again; its log says how far it is (inlet stop ends it)",
	);
	refusal.into()
}
