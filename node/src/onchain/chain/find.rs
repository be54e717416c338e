//! Looks for unspent outputs by their scripts, for a seed whose history is lost.

use super::asker::Asker;
use super::electrum::Line;
use super::rpc::{Rpc, RpcError};
use super::{ChainConfig, ChainError, shown};
use bitcoin::{Amount, OutPoint, Script, ScriptBuf, TxOut};
use esplora_client::AsyncClient;
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// bitcoind reads all outputs that there are: minutes on mainnet, more on a slow disk.
const SCAN_PATIENCE: Duration = Duration::from_secs(3_600);
/// Requests under way at once to a server.
const PARALLEL: usize = 4;

/// Looks for outputs at the chain backend.
pub struct Finder(Source);

enum Source {
	Bitcoind(Rpc),
	Esplora(Asker, String),
	Electrum(Arc<Line>),
}

/// A confirmed output that nothing spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
	/// Which.
	pub outpoint: OutPoint,
	/// Script and value.
	pub output: TxOut,
	/// The block that it is in.
	pub height: u32,
}

impl Finder {
	/// At this backend; of several Esplora servers, at the first.
	///
	/// # Errors
	/// The backend's address is wrong.
	pub fn new(chain: &ChainConfig) -> Result<Finder, ChainError> {
		Ok(Finder(match chain {
			ChainConfig::Bitcoind { url, auth, way } => Source::Bitcoind(Rpc::new(url, auth.clone(), *way)?),
			ChainConfig::Electrum { url, way } => Source::Electrum(Line::new(url, *way)?),
			ChainConfig::Esplora { urls, way } => {
				let url = urls.first().ok_or_else(|| ChainError::Config("there is no Esplora server".into()))?;
				Source::Esplora(Asker::new(url, *way, |builder| builder)?, shown(url))
			}
		}))
	}

	/// The outputs to these scripts that are confirmed and unspent.
	///
	/// # Errors
	/// The backend does not answer.
	pub async fn unspent(&self, scripts: &[ScriptBuf]) -> Result<Vec<Found>, ChainError> {
		match &self.0 {
			Source::Bitcoind(rpc) => scan(rpc, scripts).await,
			Source::Electrum(line) => line.unspent(scripts).await,
			Source::Esplora(client, url) => {
				let mut found = Vec::new();
				for some in scripts.chunks(PARALLEL) {
					found.extend(try_join_all(some.iter().map(|script| ask(client, url, script))).await?.concat());
				}
				Ok(found)
			}
		}
	}
}

/// All outputs that bitcoind knows to be unspent, looked through for these scripts. It does one such scan at a time.
pub(super) async fn scan(rpc: &Rpc, scripts: &[ScriptBuf]) -> Result<Vec<Found>, ChainError> {
	let descriptors: Vec<String> = scripts.iter().map(|script| format!("raw({})", script.to_hex_string())).collect();
	let answer = rpc.call_for(SCAN_PATIENCE, "scantxoutset", json!(["start", descriptors])).await;
	let answer = answer.map_err(|e| rpc.explain(e))?;
	let found = answer["unspents"].as_array().into_iter().flatten().map(read);
	found.collect::<Option<Vec<Found>>>().ok_or_else(|| {
		rpc.explain(RpcError::Answer("scantxoutset was answered with something that cannot be understood".into()))
	})
}

fn read(unspent: &Value) -> Option<Found> {
	let txid = unspent["txid"].as_str()?.parse().ok()?;
	let vout = u32::try_from(unspent["vout"].as_u64()?).ok()?;
	let value = Amount::from_btc(unspent["amount"].as_f64()?).ok()?;
	let script_pubkey = ScriptBuf::from_hex(unspent["scriptPubKey"].as_str()?).ok()?;
	let height = u32::try_from(unspent["height"].as_u64()?).ok()?;
	Some(Found { outpoint: OutPoint { txid, vout }, output: TxOut { value, script_pubkey }, height })
}

async fn ask(client: &AsyncClient, url: &str, script: &Script) -> Result<Vec<Found>, ChainError> {
	let utxos = client.get_scripthash_utxos(script).await;
	let utxos = utxos.map_err(|e| ChainError::Unreachable { url: url.to_owned(), cause: e.to_string() })?;
	let found = utxos.into_iter().filter_map(|utxo| {
		let outpoint = OutPoint { txid: utxo.txid, vout: utxo.vout };
		let output = TxOut { value: utxo.value, script_pubkey: script.to_owned() };
		Some(Found { outpoint, output, height: utxo.status.block_height.filter(|_| utxo.status.confirmed)? })
	});
	Ok(found.collect())
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn an_unspent_output_is_read_to_the_satoshi() {
		let txid = "aa".repeat(32);
		let unspent = json!({ "txid": txid, "vout": 1, "scriptPubKey": "0014aa", "desc": "raw(0014aa)#x",
			"amount": 20.99999999, "coinbase": false, "height": 7, "blockhash": txid, "confirmations": 1 });
		let found = read(&unspent).unwrap();
		assert_eq!((found.output.value.to_sat(), found.height, found.outpoint.vout), (2_099_999_999, 7, 1));
		assert_eq!(read(&json!({ "txid": txid })), None);
	}
}
