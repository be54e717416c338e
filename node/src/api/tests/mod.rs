//! The API on a real socket, in front of a node in memory.

mod metrics;
mod openapi;
mod schema;
mod socket;
mod stream;

use super::*;
use crate::control::Refusal;
use crate::control::fake::*;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) struct Server {
	pub dir: TempDir,
	pub fake: Arc<Fake>,
	pub stop: watch::Sender<bool>,
	pub task: JoinHandle<()>,
}

pub(crate) struct Answer {
	pub status: u16,
	pub head: String,
	pub body: String,
}

impl Answer {
	pub fn json(&self) -> Value {
		serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
	}

	/// The code of a well-formed problem.
	pub fn problem(&self) -> String {
		assert!(self.head.contains("content-type: application/problem+json"), "{}", self.head);
		let problem = self.json();
		for field in ["type", "title", "detail", "hint"] {
			assert!(!problem[field].as_str().unwrap().is_empty(), "{field}: {problem}");
		}
		assert_eq!(problem["status"], self.status);
		assert_eq!(problem["type"], format!("urn:inlet:{}", problem["code"].as_str().unwrap()));
		problem["code"].as_str().unwrap().to_owned()
	}
}

impl Server {
	pub async fn start(fake: Fake) -> Server {
		let dir = tempfile::tempdir().unwrap();
		let fake = Arc::new(fake);
		let (stop, stopped) = watch::channel(false);
		let admin = Admin::bind(&dir.path().join(SOCKET_NAME)).await.unwrap();
		let task = tokio::spawn(admin.serve(fake.clone(), stopped));
		Server { dir, fake, stop, task }
	}

	pub fn socket(&self) -> PathBuf {
		self.dir.path().join(SOCKET_NAME)
	}

	pub async fn connect(&self) -> UnixStream {
		UnixStream::connect(self.socket()).await.unwrap()
	}

	/// Sends these bytes and reads until the node closes the connection.
	pub async fn raw(&self, bytes: &[u8]) -> Answer {
		let mut stream = self.connect().await;
		// A node that refuses early need not read all of it.
		let _ = stream.write_all(bytes).await;
		let mut text = Vec::new();
		let _ = stream.read_to_end(&mut text).await;
		let text = String::from_utf8(text).unwrap();
		let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("not an answer: {text}"));
		let status = head.split(' ').nth(1).unwrap().parse().unwrap();
		Answer { status, head: head.to_lowercase(), body: body.to_owned() }
	}

	pub async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
		let length = body.len();
		let head =
			format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
		self.raw(format!("{head}{body}").as_bytes()).await
	}

	pub async fn get(&self, path: &str) -> Answer {
		self.call("GET", path, "").await
	}

	/// Stops it as the node would.
	pub async fn stop(self) {
		self.stop.send(true).unwrap();
		self.task.await.unwrap();
		assert!(!self.dir.path().join(SOCKET_NAME).exists());
	}
}

#[tokio::test]
async fn pages_follow_each_other_to_the_end() {
	let server = Server::start(Fake::new()).await;
	let mut seen = Vec::new();
	let mut path = "/v1/payments".to_owned();
	let mut sizes = Vec::new();
	loop {
		let page = server.get(&path).await.json();
		let rows = page["payments"].as_array().unwrap();
		sizes.push(rows.len());
		seen.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
		let Some(next) = page["next"].as_str() else { break };
		path = format!("/v1/payments?cursor={next}");
	}
	assert_eq!(sizes, [50, 50, 20]);
	assert!(seen.windows(2).all(|pair| pair[0] > pair[1]), "newest first, none twice");
	assert_eq!(server.get("/v1/payments?limit=7").await.json()["payments"].as_array().unwrap().len(), 7);
	server.stop().await;
}

#[tokio::test]
async fn bad_requests_are_problems_with_a_code() {
	let server = Server::start(Fake::new()).await;
	let long = format!("{{\"address\":\"{}\"}}", "x".repeat(MAX_BODY));
	for (method, path, body, status, code) in [
		("GET", "/v1/nothing", "", 404, "no_such_path"),
		("GET", "/", "", 404, "no_such_path"),
		("DELETE", "/v1/info", "", 405, "no_such_method"),
		("GET", "/v1/payments?limit=0", "", 400, "bad_limit"),
		("GET", "/v1/payments?limit=501", "", 400, "bad_limit"),
		("GET", "/v1/events?limit=501", "", 400, "bad_limit"),
		("GET", "/v1/payments?limit=x", "", 400, "bad_query"),
		("GET", "/v1/payments?page=2", "", 400, "bad_query"),
		("GET", "/v1/quote?kind=loan&size_sat=1", "", 400, "bad_query"),
		("GET", "/v1/quote?kind=jit&size_sat=-1", "", 400, "bad_query"),
		("GET", "/v1/events?since=3", "", 400, "since_without_follow"),
		("GET", "/v1/orders/zzz", "", 404, "not_found"),
		("GET", "/v1/payments/0000", "", 409, "ambiguous_id"),
		("GET", "/v1/orders/%ff", "", 400, "bad_path"),
		("POST", "/v1/send", "", 400, "bad_body"),
		("POST", "/v1/send", "{", 400, "bad_body"),
		("POST", "/v1/send", "{\"address\":\"a\"}", 400, "amount_or_all"),
		("POST", "/v1/send", "{\"address\":\"a\",\"amount_sat\":1,\"all\":true}", 400, "amount_or_all"),
		("POST", "/v1/send", "{\"address\":\"a\",\"amount_sat\":1,\"amount_btc\":1}", 400, "bad_body"),
		("POST", "/v1/send", "{\"address\":\"a\",\"amount_sat\":1.5}", 400, "bad_body"),
		("POST", "/v1/send", &long, 413, "body_too_long"),
		("POST", "/v1/payments", "{\"to\":\"x\",\"wait_secs\":601}", 400, "bad_wait"),
		("POST", "/v1/channels/9c1e/close", "{}", 409, "under_lease"),
	] {
		let answer = server.call(method, path, body).await;
		assert_eq!((answer.status, answer.problem().as_str()), (status, code), "{method} {path} {body:.80}");
	}
	assert_eq!(server.fake.done(), [""; 0], "whatever is refused is not done");
	server.stop().await;
}

#[tokio::test]
async fn what_the_node_refuses_is_passed_on_in_full() {
	let refusal = Refusal::not_now("not_synced", "the chain view is 3 h old", "inlet sync tells why");
	let server = Server::start(Fake { refuse: Some(refusal), ..Fake::new() }).await;
	let answer = server.get("/v1/balance").await;
	assert_eq!(
		answer.json(),
		json!({
			"type": "urn:inlet:not_synced",
			"title": "Service Unavailable",
			"status": 503,
			"code": "not_synced",
			"detail": "the chain view is 3 h old",
			"hint": "inlet sync tells why",
		})
	);
	assert_eq!(answer.problem(), "not_synced");
	server.stop().await;
}

#[tokio::test]
async fn requests_reach_the_node_as_they_were_made() {
	let server = Server::start(Fake::new()).await;
	for (method, path, body) in [
		("POST", "/v1/send", "{\"address\":\"a\",\"amount_sat\":7}"),
		("POST", "/v1/channels/9c1e/close", "{\"break_lease\":true}"),
		("POST", "/v1/channels/a41e/force-close", ""),
		("PATCH", "/v1/channels/a41e/policy", "{\"fee_ppm\":5}"),
		("POST", "/v1/payments", "{\"to\":\"lnbc1\"}"),
		("GET", "/v1/quote?kind=order&size_sat=100000&channel_expiry_blocks=4320", ""),
		("DELETE", "/v1/peers/03ab", ""),
		("POST", "/v1/stop", ""),
	] {
		let answer = server.call(method, path, body).await;
		assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
	}
	let done = server.fake.done();
	for (at, part) in [
		(0, "SendRequest { address: \"a\", amount_sat: Some(7), all: false"),
		(1, "CloseRequest { break_lease: true, force: false"),
		(2, "CloseRequest { break_lease: false, force: true"),
		(3, "fee_base_msat: None, fee_ppm: Some(5)"),
		(4, "wait_secs: Some(60)"),
		(5, "kind: Order, size_sat: 100000, client_balance_sat: 0, channel_expiry_blocks: Some(4320)"),
		(6, CLIENT),
		(7, "stop"),
	] {
		assert!(done[at].contains(part), "{} has no {part}", done[at]);
	}
	server.stop().await;
}

#[tokio::test]
async fn the_feerate_of_a_forced_close_is_refused_and_not_ignored() {
	let server = Server::start(Fake::new()).await;
	let body = "{\"feerate_sat_per_kw\":500}";
	let answer = server.call("POST", "/v1/channels/a41e/force-close", body).await;
	assert_eq!((answer.status, answer.problem().as_str()), (400, "feerate_of_forced_close"));
	assert_eq!(server.fake.done(), [""; 0]);
	assert_eq!(server.call("POST", "/v1/channels/a41e/close", body).await.status, 200);
	server.stop().await;
}

#[tokio::test]
async fn force_is_a_path_and_not_a_field() {
	let server = Server::start(Fake::new()).await;
	let answer = server.call("POST", "/v1/channels/a41e/close", "{\"force\":true}").await;
	assert_eq!(answer.problem(), "bad_body");
	server.stop().await;
}
