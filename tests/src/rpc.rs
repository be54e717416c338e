//! A small client for bitcoind's JSON-RPC.

use serde_json::{Value, json};

/// Longest wait for one answer, in seconds.
const TIMEOUT_SECS: u64 = 60;

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
	/// bitcoind is not there (yet, any more); the call may be made again.
	#[error("bitcoind cannot be reached: {0}")]
	Unreachable(#[from] bitreq::Error),
	/// It answered, but not with JSON-RPC.
	#[error("bitcoind answered {status}: {body}")]
	Garbled {
		/// HTTP status.
		status: i32,
		/// What it said.
		body: String,
	},
	/// It refused the call.
	#[error("{method}: {message} (code {code})")]
	Refused {
		/// The method called.
		method: String,
		/// bitcoind's error code, e.g. -5 for "not found", -28 while it starts.
		code: i64,
		/// Its reason.
		message: String,
	},
}

/// A handle to bitcoind's JSON-RPC; clones are cheap and speak to the same node.
#[derive(Clone, Debug)]
pub struct Rpc {
	url: String,
	authorization: String,
}

impl Rpc {
	/// `url` is `http://HOST:PORT` or, for one wallet, `http://HOST:PORT/wallet/NAME`.
	pub fn new(url: impl Into<String>, user: &str, password: &str) -> Rpc {
		let authorization = format!("Basic {}", base64(format!("{user}:{password}").as_bytes()));
		Rpc { url: url.into(), authorization }
	}

	/// Calls `method` with positional (array) or named (object) parameters.
	///
	/// # Errors
	/// bitcoind is not there, or refuses.
	pub async fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
		let body = json!({ "jsonrpc": "1.0", "id": 0, "method": method, "params": params }).to_string();
		let response = bitreq::post(self.url.as_str())
			.with_header("Authorization", self.authorization.as_str())
			.with_header("Content-Type", "application/json")
			.with_body(body)
			.with_timeout(TIMEOUT_SECS)
			.send_async()
			.await?;
		let garbled = |body: &[u8]| RpcError::Garbled {
			status: response.status_code,
			body: String::from_utf8_lossy(body).chars().take(200).collect(),
		};
		let mut answer: Value =
			serde_json::from_slice(response.as_bytes()).map_err(|_| garbled(response.as_bytes()))?;
		if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
			return Err(RpcError::Refused {
				method: method.to_owned(),
				code: error["code"].as_i64().unwrap_or(0),
				message: error["message"].as_str().unwrap_or_default().to_owned(),
			});
		}
		Ok(answer["result"].take())
	}
}

fn base64(bytes: &[u8]) -> String {
	const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	let digit = |bits: u32| char::from(ALPHABET[(bits & 63) as usize]);
	let mut text = String::new();
	for chunk in bytes.chunks(3) {
		let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
		let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
		text.push(digit(bits >> 18));
		text.push(digit(bits >> 12));
		text.push(if chunk.len() > 1 { digit(bits >> 6) } else { '=' });
		text.push(if chunk.len() > 2 { digit(bits) } else { '=' });
	}
	text
}

#[cfg(test)]
mod tests {
	use super::base64;

	#[test]
	fn base64_pads_as_rfc_4648_says() {
		for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
			assert_eq!(base64(plain.as_bytes()), coded);
		}
	}
}
