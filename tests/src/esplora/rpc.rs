//! A JSON-RPC client for bitcoind, on the client of `lightning-block-sync`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bitcoin::consensus::{Decodable, deserialize};
use bitcoin::hex::FromHex;
use lightning_block_sync::http::{HttpClientError, JsonResponse};
use lightning_block_sync::rpc::{RpcClient, RpcClientError};
use serde_json::Value;
use std::sync::Arc;

/// A connection to one bitcoind (or to one of its wallets: the path of the URL says which).
#[derive(Clone)]
pub struct Rpc {
	client: Arc<RpcClient>,
}

/// Why a call gave no result.
#[derive(Debug)]
pub enum RpcError {
	/// bitcoind answered with an error: ask something else.
	Refused {
		/// Bitcoin Core's error code.
		code: i64,
		/// Bitcoin Core's message.
		message: String,
	},
	/// bitcoind gave no usable answer: try again later.
	Unreachable(String),
}

impl std::fmt::Display for RpcError {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		match self {
			RpcError::Refused { code, message } => write!(f, "bitcoind refuses ({code}): {message}"),
			RpcError::Unreachable(why) => write!(f, "bitcoind is not reachable: {why}"),
		}
	}
}

impl std::error::Error for RpcError {}

impl Rpc {
	/// A client of the bitcoind at `url` (`http://127.0.0.1:18443`, or with `/wallet/NAME` behind it). Connects at the
	/// first call.
	pub fn new(url: &str, user: &str, password: &str) -> Rpc {
		let credentials = BASE64_STANDARD.encode(format!("{user}:{password}"));
		Rpc { client: Arc::new(RpcClient::new(&credentials, url.to_owned())) }
	}

	/// The `lightning-block-sync` client, which is a `BlockSource` and a `UtxoSource`.
	pub fn block_source(&self) -> Arc<RpcClient> {
		Arc::clone(&self.client)
	}

	/// Calls a method and gives its result. A connection that bitcoind closed in the meantime is opened once more.
	///
	/// # Errors
	/// [`RpcError::Refused`] is bitcoind's own answer; [`RpcError::Unreachable`] is everything else.
	pub async fn call(&self, method: &str, params: &[Value]) -> Result<Value, RpcError> {
		let first = self.client.call_method::<JsonResponse>(method, params).await;
		let answer = match first {
			Err(RpcClientError::Http(HttpClientError::Transport(_))) => self.client.call_method(method, params).await,
			other => other,
		};
		match answer {
			Ok(JsonResponse(value)) => Ok(value),
			Err(RpcClientError::Rpc(e)) => Err(RpcError::Refused { code: e.code, message: e.message }),
			Err(e) => Err(RpcError::Unreachable(e.to_string())),
		}
	}

	/// Calls a method whose result is a string of hex, and decodes that as `T`.
	///
	/// # Errors
	/// As [`Rpc::call`]; [`RpcError::Unreachable`] also if the answer cannot be decoded.
	pub async fn decoded<T: Decodable>(&self, method: &str, params: &[Value]) -> Result<T, RpcError> {
		let answer = self.call(method, params).await?;
		let bytes = answer.as_str().and_then(|hex| Vec::from_hex(hex).ok());
		bytes
			.and_then(|bytes| deserialize(&bytes).ok())
			.ok_or_else(|| RpcError::Unreachable(format!("the answer to {method} cannot be decoded")))
	}

	/// Calls a method whose result parses as `T` (a hash, a number).
	///
	/// # Errors
	/// As [`Rpc::call`]; [`RpcError::Unreachable`] also if the answer does not parse.
	pub async fn parsed<T: serde::de::DeserializeOwned>(&self, method: &str, params: &[Value]) -> Result<T, RpcError> {
		let answer = self.call(method, params).await?;
		serde_json::from_value(answer)
			.map_err(|e| RpcError::Unreachable(format!("the answer to {method} cannot be read: {e}")))
	}
}
