//! A small Electrum server on top of a regtest bitcoind: protocol 1.4 as far as `bdk_electrum` and Inlet use it.
//!
//! With `INLET_TEST_ELECTRUMX` (the path of an `electrumx_server`), that runs instead, for tests by hand.
//!
//! What has arrived together is answered from one state of bitcoind, which is not older than the requests.

use crate::esplora::index::{Index, Place};
use crate::esplora::json::merkle_proof;
use crate::process::Process;
use crate::scratch::{Scratch, eventually, free_port};
use crate::switched::Switched;
use crate::{Bitcoind, Rpc, RpcError};
use anyhow::{Context, Result};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::hex::FromHex;
use bitcoin::{OutPoint, Txid};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Headers given at once.
const MAX_HEADERS: u32 = 2016;
/// In BTC per 1,000 vbytes.
const FEE: f64 = 0.000_02;
const RELAY_FEE: f64 = 0.000_01;

/// A running server; it ends on drop.
pub struct ElectrumServer(Server);

enum Server {
	Own(Switched),
	ElectrumX { address: SocketAddr, _process: Process },
}

#[derive(Clone)]
struct Electrum {
	rpc: Rpc,
	index: Arc<Mutex<Index>>,
}

/// An error object of JSON-RPC.
type Refusal = (i64, String);

/// Starts an Electrum server for this bitcoind, on a free port of 127.0.0.1.
///
/// # Errors
/// The port or the thread cannot be had, or ElectrumX does not start.
pub async fn serve(scratch: &Scratch, bitcoind: &Bitcoind) -> Result<ElectrumServer> {
	if let Some(exe) = std::env::var_os("INLET_TEST_ELECTRUMX") {
		return real(scratch, bitcoind, exe).await;
	}
	let electrum = Electrum { rpc: bitcoind.rpc(), index: Arc::default() };
	let server = Switched::start("electrum", move |stream| electrum.clone().serve(stream))?;
	Ok(ElectrumServer(Server::Own(server)))
}

async fn real(scratch: &Scratch, bitcoind: &Bitcoind, exe: std::ffi::OsString) -> Result<ElectrumServer> {
	let (dir, port) = (scratch.folder("electrumx")?, free_port()?);
	let mut command = Command::new(exe);
	command.env("COIN", "Bitcoin").env("NET", "regtest").env("DB_DIRECTORY", &dir).env("DAEMON_URL", bitcoind.url());
	command.env("SERVICES", format!("tcp://127.0.0.1:{port}")).env("PEER_DISCOVERY", "off").env("ALLOW_ROOT", "1");
	command.env("COST_SOFT_LIMIT", "0").env("COST_HARD_LIMIT", "0").env("DB_ENGINE", "leveldb");
	let log = dir.join("log");
	scratch.log("electrumx", &log);
	let process = Process::start("electrumx", &mut command, &log)?;
	let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
	let open = async || {
		process.check_running()?;
		Ok(TcpStream::connect(address).await.ok())
	};
	eventually(Duration::from_secs(60), "ElectrumX listens", open).await.context("with INLET_TEST_ELECTRUMX")?;
	Ok(ElectrumServer(Server::ElectrumX { address, _process: process }))
}

impl ElectrumServer {
	/// `tcp://127.0.0.1:PORT`.
	pub fn url(&self) -> String {
		let address = match &self.0 {
			Server::Own(server) => server.address(),
			Server::ElectrumX { address, .. } => *address,
		};
		format!("tcp://{address}")
	}

	/// Down: open connections are cut and new ones reset, as if the machine were gone. The port stays ours.
	///
	/// # Panics
	/// If it is ElectrumX: that cannot be switched.
	pub fn set_down(&self, down: bool) {
		match &self.0 {
			Server::Own(server) => server.set_down(down),
			Server::ElectrumX { .. } => panic!("only the server of our own can be switched off"),
		}
	}
}

impl Electrum {
	async fn serve(self, mut stream: TcpStream) {
		let (reader, mut writer) = stream.split();
		let mut reader = BufReader::new(reader);
		let mut line = String::new();
		let mut caught_up = false;
		loop {
			line.clear();
			match reader.read_line(&mut line).await {
				Ok(1..) => {}
				_ => return,
			}
			let Ok(request) = serde_json::from_str::<Value>(&line) else { return };
			let mut answer = json!({ "jsonrpc": "2.0", "id": request["id"] });
			match self.answer(&request, caught_up).await {
				Ok(result) => answer["result"] = result,
				Err((code, message)) => answer["error"] = json!({ "code": code, "message": message }),
			}
			caught_up = !reader.buffer().is_empty();
			if writer.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
				return;
			}
		}
	}

	async fn answer(&self, request: &Value, caught_up: bool) -> Result<Value, Refusal> {
		let params = &request["params"];
		let method = request["method"].as_str().unwrap_or_default();
		let unknown = |_| (2, "daemon error".to_owned());
		let mut index = self.index.lock().await;
		if !caught_up {
			index.refresh(&self.rpc, 0).await.map_err(unknown)?;
		}
		match method {
			"server.version" => Ok(json!(["inlet-tests", "1.4"])),
			"server.ping" => Ok(Value::Null),
			"blockchain.estimatefee" => Ok(json!(FEE)),
			"blockchain.relayfee" => Ok(json!(RELAY_FEE)),
			"blockchain.headers.subscribe" => {
				let height = index.tip().ok_or_else(|| missing("a block"))?;
				Ok(json!({ "height": height, "hex": header(&index, height)? }))
			}
			"blockchain.block.header" => Ok(json!(header(&index, number(&params[0])?)?)),
			"blockchain.block.headers" => {
				let (start, count) = (number(&params[0])?, number(&params[1])?.min(MAX_HEADERS));
				let headers: Vec<String> = (start..start + count).map_while(|h| header(&index, h).ok()).collect();
				Ok(json!({ "count": headers.len(), "hex": headers.concat(), "max": MAX_HEADERS }))
			}
			"blockchain.scripthash.get_history" => Ok(history(&index, &script(&params[0])?)),
			"blockchain.scripthash.listunspent" => Ok(unspent(&index, &script(&params[0])?)),
			"blockchain.transaction.get" => {
				let entry = index.tx(&txid(&params[0])?).ok_or_else(|| missing("such transaction"))?;
				Ok(json!(serialize_hex(&entry.tx)))
			}
			"blockchain.transaction.get_merkle" => {
				let txid = txid(&params[0])?;
				let place = index.tx(&txid).and_then(|entry| entry.place).ok_or_else(|| missing("such transaction"))?;
				let Place { height, pos } = place;
				let block = index.block(height).filter(|_| json!(height) == params[1]);
				Ok(merkle_proof(height, block.ok_or_else(|| missing("it in that block"))?, pos))
			}
			"blockchain.transaction.broadcast" => match self.rpc.call("sendrawtransaction", json!([params[0]])).await {
				Ok(txid) => Ok(txid),
				Err(RpcError::Refused { message, .. }) => {
					Err((1, format!("the transaction was rejected by network rules.\n\n{message}")))
				}
				Err(e) => Err((2, e.to_string())),
			},
			_ => Err((-32601, format!("unknown method {method:?}"))),
		}
	}
}

fn missing(what: &str) -> Refusal {
	(2, format!("daemon error: there is no {what}"))
}

fn number(param: &Value) -> Result<u32, Refusal> {
	param.as_u64().and_then(|number| u32::try_from(number).ok()).ok_or_else(|| (1, "not a number".to_owned()))
}

fn txid(param: &Value) -> Result<Txid, Refusal> {
	param.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| (1, "not a transaction's hash".to_owned()))
}

/// Electrum names a script by its SHA-256, backwards.
fn script(param: &Value) -> Result<sha256::Hash, Refusal> {
	let bytes = param.as_str().and_then(|text| <[u8; 32]>::from_hex(text).ok());
	let mut bytes = bytes.ok_or_else(|| (1, "not a script's hash".to_owned()))?;
	bytes.reverse();
	Ok(sha256::Hash::from_byte_array(bytes))
}

fn header(index: &Index, height: u32) -> Result<String, Refusal> {
	let block = index.block(height).ok_or_else(|| missing("such block"))?;
	Ok(serialize_hex(&block.block.header))
}

/// In the order of the chain, then what waits for a block.
fn history(index: &Index, script: &sha256::Hash) -> Value {
	let mut all = Vec::new();
	for (txid, entry) in index.confirmed(script).into_iter().rev() {
		all.push(json!({ "tx_hash": txid, "height": entry.place.map(|place| place.height) }));
	}
	for (txid, entry) in index.unconfirmed(script).into_iter().rev() {
		let parent = |txid: &Txid| index.tx(txid).is_some_and(|parent| parent.place.is_none());
		let on_unconfirmed = entry.tx.input.iter().any(|input| parent(&input.previous_output.txid));
		let height = if on_unconfirmed { -1 } else { 0 };
		all.push(json!({ "tx_hash": txid, "height": height, "fee": index.fee(&entry.tx).to_sat() }));
	}
	Value::Array(all)
}

fn unspent(index: &Index, script: &sha256::Hash) -> Value {
	let mut all = Vec::new();
	for (txid, entry) in index.confirmed(script).into_iter().rev().chain(index.unconfirmed(script)) {
		for (vout, output) in (0..).zip(&entry.tx.output) {
			let ours = sha256::Hash::hash(output.script_pubkey.as_bytes()) == *script;
			if ours && index.spender(&OutPoint { txid: *txid, vout }).is_none() {
				let height = entry.place.map_or(0, |place| place.height);
				all.push(json!({ "tx_hash": txid, "tx_pos": vout, "height": height, "value": output.value.to_sat() }));
			}
		}
	}
	Value::Array(all)
}
