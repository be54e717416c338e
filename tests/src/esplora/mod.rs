//! A small Esplora server on top of a regtest bitcoind, with switches for faults.
//!
//! It speaks the HTTP API of Blockstream's electrs (its API.md) as far as `esplora-client` 0.12 and 0.13,
//! `bdk_esplora` and `lightning-transaction-sync` use it, and a little more. Each request first catches up with
//! bitcoind, so an answer is never older than the request.

pub(crate) mod index;
pub(crate) mod json;
mod routes;

use crate::switched::Switched;
use crate::{Bitcoind, Rpc};
use axum::Router;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpStream;

/// Starts an Esplora server for this bitcoind.
///
/// # Errors
/// As [`EsploraServer::start`].
pub fn serve(bitcoind: &Bitcoind) -> std::io::Result<EsploraServer> {
	EsploraServer::run(bitcoind.rpc())
}

/// A running server. It has a thread and a runtime of its own, so a test that blocks does not stop it; it ends on drop.
pub struct EsploraServer {
	shared: Arc<Shared>,
	server: Switched,
}

/// The switches that the handlers look at.
pub(crate) struct Shared {
	lag: AtomicU32,
	requests: AtomicU64,
	error: Mutex<Option<StatusCode>>,
	fees: Mutex<BTreeMap<u16, f64>>,
}

impl Shared {
	fn lag(&self) -> u32 {
		self.lag.load(Ordering::SeqCst)
	}

	fn fee_estimates(&self) -> BTreeMap<u16, f64> {
		self.fees.lock().expect("no holder of this lock panics").clone()
	}
}

impl EsploraServer {
	/// Starts a server on a free port of 127.0.0.1 for the bitcoind at `rpc_url` (`http://127.0.0.1:18443`). Returns as
	/// soon as it accepts connections; while bitcoind cannot be reached, it answers 503.
	///
	/// # Errors
	/// The port or the thread cannot be had.
	pub fn start(rpc_url: &str, user: &str, password: &str) -> std::io::Result<EsploraServer> {
		EsploraServer::run(Rpc::new(rpc_url, user, password))
	}

	fn run(rpc: Rpc) -> std::io::Result<EsploraServer> {
		let shared = Arc::new(Shared {
			lag: AtomicU32::new(0),
			requests: AtomicU64::new(0),
			error: Mutex::new(None),
			fees: Mutex::new(default_fees()),
		});
		let esplora = routes::Esplora { rpc, index: Arc::default(), shared: shared.clone() };
		let app = routes::router(esplora).layer(middleware::from_fn_with_state(Arc::clone(&shared), guard));
		let server = Switched::start("esplora", move |stream| serve_connection(stream, app.clone()))?;
		Ok(EsploraServer { shared, server })
	}

	/// The base of its paths, `http://127.0.0.1:PORT`.
	pub fn url(&self) -> String {
		format!("http://{}", self.server.address())
	}

	/// Down: open connections are cut and new ones reset, as if the machine were gone. The port stays ours.
	pub fn set_down(&self, down: bool) {
		self.server.set_down(down);
	}

	/// Answers every request with this HTTP status; `None` ends that.
	///
	/// # Panics
	/// If `status` is not an HTTP status.
	pub fn set_error(&self, status: Option<u16>) {
		let status = status.map(|code| StatusCode::from_u16(code).expect("an HTTP status"));
		*self.shared.error.lock().expect("no holder of this lock panics") = status;
	}

	/// Serves the chain as it was this many blocks ago; what was mined since is shown as unconfirmed.
	pub fn set_lag(&self, blocks: u32) {
		self.shared.lag.store(blocks, Ordering::SeqCst);
	}

	/// What `/fee-estimates` answers: sat/vB by confirmation target in blocks. Nothing, as of a node without estimates,
	/// is possible.
	pub fn set_fee_estimates(&self, estimates: impl IntoIterator<Item = (u16, f64)>) {
		*self.shared.fees.lock().expect("no holder of this lock panics") = estimates.into_iter().collect();
	}

	/// How many requests have arrived.
	pub fn requests(&self) -> u64 {
		self.shared.requests.load(Ordering::SeqCst)
	}
}

/// What a calm mainnet looks like.
fn default_fees() -> BTreeMap<u16, f64> {
	let targets = (1..=25).chain([144, 504, 1008]);
	targets
		.map(|target| match target {
			1..=2 => (target, 5.0),
			3..=6 => (target, 3.0),
			7..=24 => (target, 2.0),
			_ => (target, 1.0),
		})
		.collect()
}

async fn guard(
	axum::extract::State(shared): axum::extract::State<Arc<Shared>>,
	request: axum::extract::Request,
	next: Next,
) -> axum::response::Response {
	shared.requests.fetch_add(1, Ordering::SeqCst);
	let error = *shared.error.lock().expect("no holder of this lock panics");
	match error {
		Some(status) => (status, "switched off by the test").into_response(),
		None => next.run(request).await,
	}
}

async fn serve_connection(stream: TcpStream, app: Router) {
	let service = TowerToHyperService::new(app);
	// An error here is a client that went away.
	let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
