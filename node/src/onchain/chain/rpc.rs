//! Bitcoin Core's JSON-RPC over HTTP/1.1: one connection a request, a bound on everything.

use super::{ChainError, RpcAuth, shown};
use crate::tor::{Route, Way, socks};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bitcoin::BlockHash;
use bitcoin::consensus::encode::deserialize_hex;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use lightning_block_sync::{BlockData, BlockHeaderData, BlockSource, BlockSourceError, BlockSourceResult};
use serde_json::{Value, json};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Requests under way at once; bitcoind serves few and refuses more than 16 that wait.
const MAX_CONCURRENT: usize = 4;
/// A hex block is 8 MB, the names of a full mempool about 20.
const MAX_ANSWER: usize = 48 << 20;
/// bitcoind on a slow disk can think for long.
const PATIENCE: Duration = Duration::from_secs(60);
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RpcError {
	/// No answer, or "too busy".
	#[error("{0}")]
	Unreachable(String),
	/// 401 or 403.
	#[error("{0}")]
	Unauthorized(String),
	/// bitcoind answered with an error.
	#[error("{message} (code {code})")]
	Refused { code: i64, message: String },
	/// Not JSON-RPC, or not what was asked for.
	#[error("{0}")]
	Answer(String),
}

/// "Loading block index..." and the like: it will be ready soon.
pub(super) const WARMING_UP: i64 = -28;

pub(super) struct Rpc {
	host: String,
	port: u16,
	path: String,
	pub(super) url: String,
	auth: RpcAuth,
	way: Way,
	header: Mutex<Option<String>>,
	turns: Semaphore,
	/// It knows of headers whose blocks it has not got.
	pub(super) behind: AtomicBool,
}

impl Rpc {
	pub(super) fn new(url: &str, auth: RpcAuth, way: Way) -> Result<Rpc, ChainError> {
		let shown = shown(url);
		let wrong =
			|what: &str| ChainError::Config(format!("{shown} {what}; a bitcoind URL looks like http://127.0.0.1:8332"));
		let uri: Uri = shown.parse().map_err(|_| wrong("is not a URL"))?;
		if uri.scheme_str() != Some("http") {
			return Err(wrong("is not an http URL"));
		}
		let host = uri.host().ok_or_else(|| wrong("has no host"))?.trim_matches(['[', ']']).to_owned();
		let port = uri.port_u16().ok_or_else(|| wrong("has no port"))?;
		Ok(Rpc {
			host,
			port,
			way,
			path: uri.path().to_owned(),
			url: shown,
			auth,
			header: Mutex::default(),
			turns: Semaphore::new(MAX_CONCURRENT),
			behind: AtomicBool::new(false),
		})
	}

	/// Calls one method.
	pub(super) async fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
		self.call_for(PATIENCE, method, params).await
	}

	/// Calls one method that may take this long.
	pub(super) async fn call_for(&self, wait: Duration, method: &str, params: Value) -> Result<Value, RpcError> {
		let call = json!({ "jsonrpc": "1.0", "id": 0, "method": method, "params": params });
		result(self.post(call, wait).await?)
	}

	/// Calls one method with many parameters; each has its own answer, in the order asked.
	pub(super) async fn batch(&self, method: &str, params: &[Value]) -> Result<Vec<Result<Value, RpcError>>, RpcError> {
		let call =
			|(id, params): (usize, &Value)| json!({ "jsonrpc": "1.0", "id": id, "method": method, "params": params });
		let calls: Vec<Value> = params.iter().enumerate().map(call).collect();
		let Value::Array(mut answers) = self.post(Value::Array(calls), PATIENCE).await? else {
			return Err(RpcError::Answer("a batch was answered with something else".into()));
		};
		if answers.len() != params.len() {
			return Err(RpcError::Answer(format!("{} calls got {} answers", params.len(), answers.len())));
		}
		answers.sort_by_key(|answer| answer["id"].as_u64());
		Ok(answers.into_iter().map(result).collect())
	}

	/// For errors that go to the operator.
	pub(super) fn explain(&self, e: RpcError) -> ChainError {
		let url = self.url.clone();
		match e {
			RpcError::Unreachable(cause) => ChainError::Unreachable { url, cause },
			RpcError::Unauthorized(cause) => ChainError::Unauthorized { url, cause },
			RpcError::Refused { code: WARMING_UP, message } => ChainError::Unreachable { url, cause: message },
			e @ (RpcError::Refused { .. } | RpcError::Answer(_)) => ChainError::Answer { url, cause: e.to_string() },
		}
	}

	/// A cookie changes when bitcoind restarts: after a refusal it is read again, once.
	async fn post(&self, body: Value, wait: Duration) -> Result<Value, RpcError> {
		let body = Bytes::from(body.to_string());
		let known = self.header().clone();
		let was_known = known.is_some();
		let header = match known {
			Some(header) => header,
			None => self.read_credentials().await?,
		};
		match self.exchange(&header, body.clone(), wait).await {
			Err(RpcError::Unauthorized(_)) if was_known && matches!(self.auth, RpcAuth::Cookie(_)) => {
				let header = self.read_credentials().await?;
				self.exchange(&header, body, wait).await
			}
			other => other,
		}
	}

	async fn read_credentials(&self) -> Result<String, RpcError> {
		let plain = match &self.auth {
			RpcAuth::UserPass { user, password } => format!("{user}:{password}"),
			RpcAuth::Cookie(path) => {
				let read = tokio::fs::read_to_string(path).await;
				let read = read.map_err(|e| RpcError::Unauthorized(format!("cookie {}: {e}", path.display())))?;
				read.trim().to_owned()
			}
		};
		let header = format!("Basic {}", BASE64_STANDARD.encode(plain));
		*self.header() = Some(header.clone());
		Ok(header)
	}

	async fn exchange(&self, credentials: &str, body: Bytes, wait: Duration) -> Result<Value, RpcError> {
		let _turn = self.turns.acquire().await.map_err(|e| RpcError::Unreachable(e.to_string()))?;
		let exchanged = tokio::time::timeout(wait, self.exchange_now(credentials, body)).await;
		exchanged.map_err(|_| RpcError::Unreachable(format!("no answer within {} s", wait.as_secs())))?
	}

	async fn exchange_now(&self, credentials: &str, body: Bytes) -> Result<Value, RpcError> {
		let away = |e: &dyn std::fmt::Display| RpcError::Unreachable(e.to_string());
		let patience = match self.way.route(&self.host).map_err(|e| away(&e))? {
			Route::Direct => CONNECT_PATIENCE,
			Route::Tor(_) => socks::PATIENCE,
		};
		let connected = tokio::time::timeout(patience, self.way.connect(&self.host, self.port)).await;
		let stream = connected.map_err(|_| RpcError::Unreachable("connecting takes too long".into()))?;
		let stream = stream.map_err(|e| away(&e))?;
		let _ = stream.set_nodelay(true);
		let handshaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
		let (mut sender, connection) = handshaken.map_err(|e| away(&e))?;
		let connection = async move { connection.await.err() };
		let request = Request::post(&self.path)
			.header(HOST, format!("{}:{}", self.host, self.port))
			.header(AUTHORIZATION, credentials)
			.header(CONTENT_TYPE, "application/json")
			.body(Full::new(body))
			.map_err(|e| RpcError::Answer(e.to_string()))?;
		let answered = async {
			let response = sender.send_request(request).await.map_err(|e| away(&e))?;
			let status = response.status();
			let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
			Ok::<_, RpcError>((status, body.map_err(|e| RpcError::Unreachable(e.to_string()))?.to_bytes()))
		};
		tokio::pin!(connection, answered);
		let (status, body) = tokio::select! {
			answered = &mut answered => answered?,
			broken = &mut connection => match broken {
				Some(e) => return Err(RpcError::Unreachable(e.to_string())),
				None => answered.await?,
			},
		};
		interpret(status, &body)
	}

	fn header(&self) -> std::sync::MutexGuard<'_, Option<String>> {
		self.header.lock().expect("no code panics while it holds this lock")
	}
}

/// bitcoind answers errors of a call with status 500 or 404 and JSON, those of HTTP with text.
fn interpret(status: StatusCode, body: &[u8]) -> Result<Value, RpcError> {
	match status {
		StatusCode::UNAUTHORIZED => {
			return Err(RpcError::Unauthorized("wrong user, password or cookie (HTTP 401)".into()));
		}
		StatusCode::FORBIDDEN => {
			return Err(RpcError::Unauthorized("this machine is not allowed (HTTP 403, rpcallowip)".into()));
		}
		StatusCode::SERVICE_UNAVAILABLE => return Err(RpcError::Unreachable("too busy (HTTP 503)".into())),
		_ => {}
	}
	serde_json::from_slice(body).map_err(|_| RpcError::Answer(format!("HTTP {status}, not JSON")))
}

fn result(mut answer: Value) -> Result<Value, RpcError> {
	let error = &answer["error"];
	if !error.is_null() {
		let message = error["message"].as_str().unwrap_or("no message").to_owned();
		return Err(RpcError::Refused { code: error["code"].as_i64().unwrap_or_default(), message });
	}
	match answer.get_mut("result") {
		Some(result) => Ok(result.take()),
		None => Err(RpcError::Answer("an answer without a result".into())),
	}
}

/// LDK stops for good at errors that it calls persistent; an RPC answers better the next time.
fn transient(e: RpcError) -> BlockSourceError {
	BlockSourceError::transient(e)
}

fn malformed(what: &str) -> BlockSourceError {
	transient(RpcError::Answer(format!("{what} is malformed")))
}

impl BlockSource for Rpc {
	async fn get_header(&self, hash: &BlockHash, _height: Option<u32>) -> BlockSourceResult<BlockHeaderData> {
		let header = self.call("getblockheader", json!([hash])).await.map_err(transient)?;
		BlockHeaderData::try_from(header).map_err(|()| malformed("a header"))
	}

	async fn get_block(&self, hash: &BlockHash) -> BlockSourceResult<BlockData> {
		let block = self.call("getblock", json!([hash, 0])).await.map_err(transient)?;
		let block = block.as_str().and_then(|hex| deserialize_hex(hex).ok()).ok_or_else(|| malformed("a block"))?;
		Ok(BlockData::FullBlock(block))
	}

	async fn get_best_block(&self) -> BlockSourceResult<(BlockHash, Option<u32>)> {
		let info = self.call("getblockchaininfo", json!([])).await.map_err(transient)?;
		let hash = info["bestblockhash"].as_str().and_then(|hash| BlockHash::from_str(hash).ok());
		let blocks = info["blocks"].as_u64().and_then(|blocks| u32::try_from(blocks).ok());
		let headers = info["headers"].as_u64();
		// One header ahead is a block on its way.
		self.behind.store(headers > blocks.map(|blocks| u64::from(blocks) + 1), Ordering::Relaxed);
		Ok((hash.ok_or_else(|| malformed("the chain's state"))?, blocks))
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::tor::testing::{Socks, SocksPort};
	use std::path::Path;
	use tokio::io::{AsyncReadExt, AsyncWriteExt};
	use tokio::net::TcpListener;

	/// Answers one connection after the other with these bytes and gives the requests.
	async fn server(answers: Vec<String>) -> (String, tokio::task::JoinHandle<Vec<String>>) {
		let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
		let url = format!("http://{}", listener.local_addr().unwrap());
		let served = tokio::spawn(async move {
			let mut requests = Vec::new();
			for answer in answers {
				let (mut stream, _) = listener.accept().await.unwrap();
				let mut request = Vec::new();
				while !is_complete(&request) {
					assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
				}
				stream.write_all(answer.as_bytes()).await.unwrap();
				requests.push(String::from_utf8(request).unwrap().to_lowercase());
			}
			requests
		});
		(url, served)
	}

	fn is_complete(request: &[u8]) -> bool {
		let request = String::from_utf8_lossy(request).to_lowercase();
		let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
		let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
		length.is_some_and(|length| length.parse() == Ok(body.len()))
	}

	fn answer(status: &str, body: &str) -> String {
		format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
	}

	fn with_cookie(url: &str, path: &Path) -> Rpc {
		Rpc::new(url, RpcAuth::Cookie(path.to_owned()), Way::default()).unwrap()
	}

	#[tokio::test]
	async fn a_new_cookie_is_read_when_the_old_one_is_refused() {
		let dir = tempfile::tempdir().unwrap();
		let cookie = dir.path().join(".cookie");
		let ok = || answer("200 OK", r#"{"result":7,"error":null,"id":0}"#);
		let (url, served) = server(vec![ok(), answer("401 Unauthorized", ""), ok()]).await;
		let rpc = with_cookie(&url, &cookie);
		assert!(
			matches!(rpc.call("uptime", json!([])).await, Err(RpcError::Unauthorized(_))),
			"there is no cookie yet"
		);
		std::fs::write(&cookie, "__cookie__:old").unwrap();
		assert_eq!(rpc.call("uptime", json!([])).await.unwrap(), 7);
		std::fs::write(&cookie, "__cookie__:new").unwrap();
		assert_eq!(rpc.call("uptime", json!([])).await.unwrap(), 7);
		let credentials =
			["old", "old", "new"].map(|c| BASE64_STANDARD.encode(format!("__cookie__:{c}")).to_lowercase());
		for (request, credentials) in served.await.unwrap().iter().zip(credentials) {
			assert!(request.contains(&credentials), "{request}");
		}
	}

	#[tokio::test]
	async fn errors_come_through_chunked_or_not() {
		let body = r#"{"result":null,"error":{"code":-5,"message":"Block not found"},"id":0}"#;
		let head = "HTTP/1.1 500 Internal Server Error\r\nTransfer-Encoding: chunked\r\n\r\n";
		let chunked = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
		let busy = answer("503 Service Unavailable", "Work queue depth exceeded");
		let (url, _served) =
			server(vec![chunked, answer("404 Not Found", body), busy, answer("200 OK", "<html>")]).await;
		let auth = RpcAuth::UserPass { user: "u".into(), password: "p".into() };
		let rpc = Rpc::new(&url, auth, Way::default()).unwrap();
		for _ in 0..2 {
			let refused = rpc.call("getblock", json!([])).await;
			assert!(matches!(refused, Err(RpcError::Refused { code: -5, .. })), "{refused:?}");
		}
		assert!(matches!(rpc.call("getblock", json!([])).await, Err(RpcError::Unreachable(_))));
		assert!(matches!(rpc.call("getblock", json!([])).await, Err(RpcError::Answer(_))));
	}

	#[tokio::test]
	async fn answers_of_a_batch_are_put_in_order() {
		let body = r#"[{"result":"b","error":null,"id":1},{"result":"a","error":null,"id":0}]"#;
		let (url, _served) = server(vec![answer("200 OK", body)]).await;
		let rpc = Rpc::new(&url, RpcAuth::UserPass { user: "u".into(), password: "p".into() }, Way::default()).unwrap();
		let answers = rpc.batch("getrawtransaction", &[json!([1]), json!([2])]).await.unwrap();
		let answers: Vec<Value> = answers.into_iter().map(Result::unwrap).collect();
		assert_eq!(answers, ["a", "b"]);
	}

	#[tokio::test]
	async fn a_bitcoind_behind_an_onion_address_is_reached_over_tor() {
		let port = SocksPort::new(Socks::No(4)).await;
		let auth = RpcAuth::UserPass { user: "u".into(), password: "p".into() };
		let rpc = Rpc::new("http://abc.onion:8332", auth, port.way(false)).unwrap();
		assert!(
			matches!(rpc.call("getblockcount", json!([])).await, Err(RpcError::Unreachable(why)) if why.contains("Tor"))
		);
		assert_eq!(port.asked()[0].host, "abc.onion");
	}
}
