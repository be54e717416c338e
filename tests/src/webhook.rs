//! A webhook: an HTTPS server on loopback with a certificate authority of its own, which writes down what it is sent.

use crate::scratch::eventually;
use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bitcoin::secp256k1::PublicKey;
use hyper::body::{Body as HttpBody, Frame};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use lightning::util::message_signing::recover_pk;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// The names and addresses that a receiver's certificate is for.
const NAMES: [&str; 4] = ["127.0.0.1", "127.0.0.2", "localhost", "hook.example.com"];

/// What a receiver answers.
#[derive(Clone, Debug, Default)]
pub enum Reply {
	/// 200.
	#[default]
	Ok,
	/// This HTTP status.
	Status(u16),
	/// This HTTP status, with this `Location`.
	Redirect(u16, String),
	/// Nothing, with the connection left open.
	Hang,
	/// 200 and a body without end.
	Endless,
}

/// A request that a receiver got.
#[derive(Clone, Debug)]
pub struct Request {
	/// The HTTP method.
	pub method: String,
	/// Path and query.
	pub path: String,
	/// The headers.
	pub headers: HeaderMap,
	/// The body.
	pub body: String,
}

impl Request {
	/// A header as text; empty if it is missing or no text.
	pub fn header(&self, name: &str) -> &str {
		self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
	}

	/// The body as JSON; `null` if it is none.
	pub fn json(&self) -> Value {
		serde_json::from_str(&self.body).unwrap_or_default()
	}

	/// The notice's method without `lsps5.`; empty if there is none.
	pub fn notice(&self) -> String {
		self.json()["method"].as_str().unwrap_or_default().trim_start_matches("lsps5.").to_owned()
	}

	/// The node whose signature of bLIP-55 this request bears.
	///
	/// # Errors
	/// It bears none.
	pub fn signer(&self) -> Result<PublicKey> {
		let text = format!(
			"LSPS5: DO NOT SIGN THIS MESSAGE MANUALLY: LSP: At {} I notify {}",
			self.header("x-lsps5-timestamp"),
			self.body
		);
		recover_pk(text.as_bytes(), self.header("x-lsps5-signature")).context("no signature in x-lsps5-signature")
	}
}

#[derive(Default)]
struct Shared {
	reply: Mutex<Reply>,
	requests: Mutex<Vec<Request>>,
	connections: AtomicUsize,
	endless: Arc<AtomicUsize>,
}

/// A running receiver; it ends when dropped.
pub struct Receiver {
	address: SocketAddr,
	ca_file: PathBuf,
	_dir: tempfile::TempDir,
	shared: Arc<Shared>,
	serving: JoinHandle<()>,
}

impl Receiver {
	/// Starts one on a free port of 127.0.0.1. It answers 200.
	///
	/// # Errors
	/// It cannot listen or write its certificate.
	pub async fn start() -> Result<Receiver> {
		Receiver::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
	}

	/// As [`Receiver::start`], on this address.
	///
	/// # Errors
	/// As [`Receiver::start`].
	pub async fn start_at(address: SocketAddr) -> Result<Receiver> {
		let dir = tempfile::Builder::new().prefix("inlet-webhook-").tempdir()?;
		let ca_file = dir.path().join("ca.pem");
		let (tls, ca) = authority()?;
		std::fs::write(&ca_file, ca).context("cannot write the root certificate")?;
		let listener = TcpListener::bind(address).await.context("no port for a webhook")?;
		let address = listener.local_addr()?;
		let shared = Arc::new(Shared::default());
		let serving = tokio::spawn(serve(listener, tls, shared.clone()));
		Ok(Receiver { address, ca_file, _dir: dir, shared, serving })
	}

	/// The URL of `path`, which starts with a slash.
	pub fn url(&self, path: &str) -> String {
		format!("https://{}{path}", self.address)
	}

	/// The root certificate, PEM: `notify.ca_file`.
	pub fn ca_file(&self) -> &Path {
		&self.ca_file
	}

	/// Where it listens.
	pub fn address(&self) -> SocketAddr {
		self.address
	}

	/// From now on it answers so.
	pub fn reply(&self, reply: Reply) {
		*self.shared.reply.lock().unwrap_or_else(PoisonError::into_inner) = reply;
	}

	/// All requests so far, in order.
	pub fn requests(&self) -> Vec<Request> {
		self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
	}

	/// TCP connections so far, whatever became of them.
	pub fn connections(&self) -> usize {
		self.shared.connections.load(Ordering::SeqCst)
	}

	/// Bodies of [`Reply::Endless`] that are being sent.
	pub fn endless(&self) -> usize {
		self.shared.endless.load(Ordering::SeqCst)
	}

	/// Waits until there are requests for which `enough` holds, and gives all so far.
	///
	/// # Errors
	/// Not within `limit`.
	pub async fn wait_for(
		&self,
		limit: Duration,
		what: &str,
		enough: impl Fn(&[Request]) -> bool,
	) -> Result<Vec<Request>> {
		eventually(limit, what, async || {
			let requests = self.requests();
			Ok(enough(&requests).then_some(requests))
		})
		.await
	}
}

impl Drop for Receiver {
	fn drop(&mut self) {
		self.serving.abort();
	}
}

/// What a TLS server of [`NAMES`] needs, and the PEM of the root that vouches for it.
fn authority() -> Result<(ServerConfig, String)> {
	let mut root = CertificateParams::new(Vec::new())?;
	root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
	let root_key = KeyPair::generate()?;
	let pem = root.self_signed(&root_key)?.pem();
	let issuer = Issuer::new(root, root_key);
	let key = KeyPair::generate()?;
	let leaf = CertificateParams::new(NAMES.map(String::from))?.signed_by(&key, &issuer)?;
	let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
	let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key)?;
	Ok((tls, pem))
}

async fn serve(listener: TcpListener, tls: ServerConfig, shared: Arc<Shared>) {
	let tls = TlsAcceptor::from(Arc::new(tls));
	let app = Router::new().fallback(answer).with_state(shared.clone());
	let mut connections = JoinSet::new();
	while let Ok((stream, _)) = listener.accept().await {
		shared.connections.fetch_add(1, Ordering::SeqCst);
		connections.spawn(connection(stream, tls.clone(), app.clone()));
		while connections.try_join_next().is_some() {}
	}
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, app: Router) {
	// A caller that does not trust us, or goes away, is its own affair.
	let Ok(stream) = tls.accept(stream).await else { return };
	let service = TowerToHyperService::new(app);
	let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
	State(shared): State<Arc<Shared>>,
	method: Method,
	uri: Uri,
	headers: HeaderMap,
	body: String,
) -> Response {
	let request = Request { method: method.to_string(), path: uri.to_string(), headers, body };
	shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
	let reply = shared.reply.lock().unwrap_or_else(PoisonError::into_inner).clone();
	let status = |code| StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
	match reply {
		Reply::Ok => StatusCode::OK.into_response(),
		Reply::Status(code) => status(code).into_response(),
		Reply::Redirect(code, to) => (status(code), [(header::LOCATION, to)]).into_response(),
		Reply::Hang => std::future::pending().await,
		Reply::Endless => Body::new(Endless::new(shared.endless.clone())).into_response(),
	}
}

/// A body without end, counted while it lives.
struct Endless(Arc<AtomicUsize>);

impl Endless {
	fn new(count: Arc<AtomicUsize>) -> Endless {
		count.fetch_add(1, Ordering::SeqCst);
		Endless(count)
	}
}

impl Drop for Endless {
	fn drop(&mut self) {
		self.0.fetch_sub(1, Ordering::SeqCst);
	}
}

impl HttpBody for Endless {
	type Data = Bytes;
	type Error = Infallible;

	fn poll_frame(self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
		Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 4096])))))
	}
}
