//! bLIP-50: JSON-RPC 2.0 in messages of type 37913.

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The type of every LSPS message (L0-1).
pub const MESSAGE_TYPE: u16 = 37913;
/// The longest payload of a BOLT 8 message with a type (L0-22).
pub const MAX_PAYLOAD: usize = 65_533;
/// The longest JSON-RPC id that we take, in bytes. It is stored with an order and echoed.
pub const MAX_ID: usize = 128;

/// JSON-RPC: no JSON, or no request.
pub const PARSE_ERROR: i32 = -32700;
/// JSON-RPC: no such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// JSON-RPC: a parameter is unknown, missing or wrong.
pub const INVALID_PARAMS: i32 = -32602;
/// bLIP-50: we do not serve this client, or not now.
pub const CLIENT_REJECTED: i32 = 1;

/// A JSON-RPC request whose form is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
	/// To be echoed.
	pub id: String,
	/// What is asked.
	pub method: String,
	/// The parameters: an object if none were sent, `None` if they came by position or as something else.
	pub params: Option<Value>,
	/// How many bytes the string parameter `app_name` of a method of bLIP-55 has as it is written, its escapes as they
	/// are.
	pub app_name_written: Option<usize>,
}

/// What a payload is.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
	/// A request: answer it once.
	Request(Request),
	/// A response without an id: no answer, or two nodes would answer each other for ever.
	Drop,
	/// The peer says that it could not parse what we sent (-32700, id null): no answer.
	PeerCannotParse,
	/// No request: answer -32700, id null.
	Bad,
}

/// Reads a payload. Never panics, keeps nothing.
pub fn read(bytes: &[u8]) -> Incoming {
	if bytes.len() > MAX_PAYLOAD || bytes.contains(&0) {
		return Incoming::Bad;
	}
	// `from_slice` refuses bad UTF-8 and trailing data, and bounds the depth.
	let Ok(Value::Object(mut object)) = serde_json::from_slice::<Value>(bytes) else {
		return Incoming::Bad;
	};
	let id = object.get("id").unwrap_or(&Value::Null);
	if !object.contains_key("method") && id.is_null() && (object.contains_key("error") || object.contains_key("result"))
	{
		let code = object.get("error").and_then(|error| error.get("code")).and_then(Value::as_i64);
		return if code == Some(PARSE_ERROR.into()) { Incoming::PeerCannotParse } else { Incoming::Drop };
	}
	if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
		return Incoming::Bad;
	}
	let (Some(id), Some(method)) = (id.as_str(), object.get("method").and_then(Value::as_str)) else {
		return Incoming::Bad;
	};
	if id.len() > MAX_ID {
		return Incoming::Bad;
	}
	let (id, method) = (id.to_string(), method.to_string());
	let params = object.remove("params").unwrap_or_else(|| Value::Object(Map::new()));
	let app_name_written = method.strip_prefix("lsps5.").and_then(|_| written(bytes, "app_name"));
	Incoming::Request(Request { id, method, params: Some(params).filter(Value::is_object), app_name_written })
}

/// The length of a string parameter as it is written, without its quotes.
fn written(bytes: &[u8], name: &str) -> Option<usize> {
	type Texts<'a> = BTreeMap<String, &'a RawValue>;
	let object: Texts<'_> = serde_json::from_slice(bytes).ok()?;
	let params: Texts<'_> = serde_json::from_str(object.get("params")?.get()).ok()?;
	params.get(name)?.get().len().checked_sub(2)
}

/// A JSON-RPC error.
#[derive(Clone, Debug, PartialEq)]
pub struct RpcError {
	/// What kind.
	pub code: i32,
	/// For people.
	pub message: String,
	/// What the specification says must be with it.
	pub data: Option<Value>,
}

impl RpcError {
	/// An error that a specification names; `data` is an object.
	pub fn new(code: i32, message: &str, data: Value) -> RpcError {
		RpcError { code, message: message.to_string(), data: Some(data) }
	}

	/// -32700.
	pub fn parse_error() -> RpcError {
		RpcError { code: PARSE_ERROR, message: "Parse error".to_string(), data: None }
	}

	/// -32601.
	pub fn method_not_found() -> RpcError {
		RpcError { code: METHOD_NOT_FOUND, message: "Method not found".to_string(), data: None }
	}

	/// -32602 for one parameter. bLIP-50 wants `unrecognized`, bLIP-51 `property` and `message`: all three.
	pub fn invalid(property: &str, message: &str) -> RpcError {
		let data = json!({"unrecognized": [], "property": property, "message": message});
		RpcError::new(INVALID_PARAMS, "Invalid params", data)
	}

	/// -32602 for parameters that we do not know.
	pub fn unrecognized(names: Vec<String>) -> RpcError {
		let property = names.first().cloned().unwrap_or_default();
		let data = json!({"unrecognized": names, "property": property, "message": "is not known"});
		RpcError::new(INVALID_PARAMS, "Invalid params", data)
	}

	/// 1.
	pub fn rejected(message: &str) -> RpcError {
		RpcError::new(CLIENT_REJECTED, "Client rejected", json!({"message": message}))
	}
}

/// The payload that answers request `id`.
pub fn reply(id: &str, result: Value) -> Vec<u8> {
	encode(&json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

/// The payload that refuses request `id` (`null` for one that could not be read). With `string_data`, `error.data` is
/// the JSON text of what it should be: LDK's client half cannot parse an object there.
pub fn refuse(id: Option<&str>, error: &RpcError, string_data: bool) -> Vec<u8> {
	let mut body = json!({"code": error.code, "message": error.message});
	if let (Some(data), Some(members)) = (&error.data, body.as_object_mut()) {
		let data = if string_data { Value::String(data.to_string()) } else { data.clone() };
		members.insert("data".to_string(), data);
	}
	let bytes = encode(&json!({"jsonrpc": "2.0", "id": id, "error": body}));
	if bytes.len() <= MAX_PAYLOAD {
		return bytes;
	}
	// Only a long list of unknown names gets here; without them the reply fits.
	refuse(id, &RpcError::invalid("params", "too many unknown names to repeat"), string_data)
}

/// The result of `lsps0.list_protocols` (L0-15).
pub fn list_protocols(offered: super::Offered) -> Value {
	let all = [(offered.lsps1, 1), (offered.lsps2, 2), (offered.lsps5, 5)];
	let numbers: Vec<u16> = all.iter().filter(|(on, _)| *on).map(|(_, number)| *number).collect();
	json!({"protocols": numbers})
}

fn encode(value: &Value) -> Vec<u8> {
	value.to_string().into_bytes()
}
