//! HTTP/1.1 over the admin socket.

use super::failure::Failure;
use crate::api::{Problem, SOCKET_NAME};
use crate::cli::default_root;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// How long the node may take to answer, unless it was asked to wait; more than the API allows itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(75);

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Request {
	method: Method,
	target: String,
	body: Bytes,
	wait: Duration,
}

impl Request {
	pub fn new(method: Method, path: impl Into<String>) -> Request {
		Request { method, target: path.into(), body: Bytes::new(), wait: ANSWER_TIMEOUT }
	}

	pub fn get(path: impl Into<String>) -> Request {
		Request::new(Method::GET, path)
	}

	pub fn post(path: impl Into<String>) -> Request {
		Request::new(Method::POST, path)
	}

	/// With this after the `?`, if there is something.
	pub fn query(mut self, name: &str, value: Option<impl ToString>) -> Request {
		if let Some(value) = value {
			let sign = if self.target.contains('?') { '&' } else { '?' };
			let _ = write!(self.target, "{sign}{name}={}", escape(&value.to_string()));
		}
		self
	}

	pub fn body(mut self, body: &impl Serialize) -> Request {
		self.body = serde_json::to_vec(body).expect("requests are JSON").into();
		self
	}

	/// The node was asked to wait this much longer.
	pub fn wait(mut self, longer: Duration) -> Request {
		self.wait += longer;
		self
	}
}

/// `text` as one segment of a path or one value of a query (RFC 3986).
pub(super) fn escape(text: &str) -> String {
	text.bytes().fold(String::new(), |mut escaped, byte| {
		match byte {
			b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
			_ => {
				let _ = write!(escaped, "%{byte:02X}");
			}
		}
		escaped
	})
}

/// Where a node listens.
#[derive(Clone, Debug)]
pub(super) struct Node {
	socket: PathBuf,
}

impl Node {
	/// At this socket.
	pub fn at(socket: PathBuf) -> Node {
		Node { socket }
	}

	/// In this data directory, where sockets are unless the configuration has another place.
	pub fn new(data_dir: &Path) -> Node {
		Node::at(data_dir.join(SOCKET_NAME))
	}

	/// The body of the answer.
	pub async fn ask(&self, request: Request) -> Result<Bytes, Failure> {
		let wait = request.wait;
		let answer = async {
			let response = self.send(request, "application/json").await?;
			let body = response.into_body().collect().await.map_err(|error| self.broke_off(&error))?;
			Ok(body.to_bytes())
		};
		match tokio::time::timeout(wait, answer).await {
			Ok(answer) => answer,
			Err(_) => Err(Failure::NotReachable {
				detail: format!("the node did not answer within {} s", wait.as_secs()),
				hint: "look at its log; what was asked may still be done".to_owned(),
			}),
		}
	}

	/// A stream of server-sent events: the body, as it comes.
	pub async fn stream(&self, request: Request) -> Result<Incoming, Failure> {
		Ok(self.send(request, "text/event-stream").await?.into_body())
	}

	pub fn broke_off(&self, error: &hyper::Error) -> Failure {
		Failure::NotReachable {
			detail: format!("the node went away while it answered: {error}"),
			hint: "look whether it still runs (inlet status), and whether what was asked was done".to_owned(),
		}
	}

	async fn send(&self, request: Request, accept: &str) -> Result<Response<Incoming>, Failure> {
		let mut sender = self.connect().await?;
		let request = hyper::Request::builder()
			.method(request.method)
			.uri(request.target)
			.header("host", "inlet")
			.header("accept", accept)
			.header("content-type", "application/json")
			.body(Full::new(request.body))
			.map_err(|error| Failure::refused("bad_request", error.to_string(), "check the arguments"))?;
		let response = sender.send_request(request).await.map_err(|error| self.broke_off(&error))?;
		if response.status().is_success() {
			return Ok(response);
		}
		let status = response.status();
		let body = response.into_body().collect().await.map_err(|error| self.broke_off(&error))?.to_bytes();
		let problem: Problem = serde_json::from_slice(&body).map_err(|_| {
			let hint = "is the node of the same version as this command? (inlet --version)";
			Failure::refused(
				"not_understood",
				format!("the node answered {status}, in a form that is not known here"),
				hint,
			)
		})?;
		Err(Failure::Refused(Box::new(problem)))
	}

	async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Failure> {
		let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.nobody(&error))?;
		let (sender, connection) =
			http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broke_off(&error))?;
		// Its errors come out of `sender`, too.
		tokio::spawn(async move {
			let _ = connection.await;
		});
		Ok(sender)
	}

	fn nobody(&self, error: &std::io::Error) -> Failure {
		let dir = self.socket.parent().unwrap_or(&self.socket).display();
		let (detail, hint) = match error.kind() {
			ErrorKind::NotFound => (format!("no node runs in {dir}"), elsewhere(&self.socket)),
			ErrorKind::ConnectionRefused => (
				format!("no node runs in {dir} any more"),
				"start it (inlet run); if it should be running, look at its log".to_owned(),
			),
			ErrorKind::PermissionDenied => (
				format!("you may not use {}", self.socket.display()),
				"be the user that runs the node, or join its group".to_owned(),
			),
			ErrorKind::InvalidInput => (
				format!("{} is too long for the path of a socket (about 100 bytes)", self.socket.display()),
				"use a shorter --data-dir".to_owned(),
			),
			_ => (format!("{} does not answer: {error}", self.socket.display()), "look at the node's log".to_owned()),
		};
		Failure::NotReachable { detail, hint }
	}
}

/// What to do where there is no node: name those that are elsewhere.
fn elsewhere(socket: &Path) -> String {
	let root = default_root();
	let others = root.iter().filter_map(|root| std::fs::read_dir(root).ok()).flatten().flatten();
	let mut others: Vec<String> = others
		.filter(|other| other.path().join(SOCKET_NAME) != socket && other.path().join(SOCKET_NAME).exists())
		.map(|other| format!("--network {}", other.file_name().to_string_lossy()))
		.collect();
	others.sort();
	match others.is_empty() {
		true => "start it (inlet run), or say where it is (--data-dir DIR or --network NETWORK)".to_owned(),
		false => format!("start it (inlet run), or did you mean {}?", others.join(" or ")),
	}
}
