//! Esplora's JSON, as its API.md describes it and as `esplora-client` reads it.

use super::index::{Entry, Index, Indexed};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::{Hash, sha256, sha256d};
use bitcoin::hex::DisplayHex;
use bitcoin::{Address, Amount, MerkleBlock, Network, OutPoint, Script, TxMerkleNode, TxOut, Txid};
use serde_json::{Value, json};

/// A transaction's `status`; a transaction that nobody knows is simply not confirmed.
pub(super) fn tx_status(index: &Index, txid: &Txid) -> Value {
	let block = index.tx(txid).and_then(|entry| entry.place).and_then(|place| index.block(place.height));
	match block.and_then(|block| index.height_of(&block.hash).map(|height| (block, height))) {
		Some((block, height)) => json!({
			"confirmed": true,
			"block_height": height,
			"block_hash": block.hash,
			"block_time": block.block.header.time,
		}),
		None => json!({ "confirmed": false }),
	}
}

/// A whole transaction.
pub(super) fn tx(index: &Index, txid: &Txid, entry: &Entry) -> Value {
	let tx = &entry.tx;
	let inputs: Vec<Value> = tx
		.input
		.iter()
		.map(|input| {
			json!({
				"txid": input.previous_output.txid,
				"vout": input.previous_output.vout,
				"prevout": index.output(&input.previous_output).map(output),
				"scriptsig": input.script_sig.to_hex_string(),
				"scriptsig_asm": input.script_sig.to_asm_string(),
				"witness": input.witness.iter().map(|item| item.to_lower_hex_string()).collect::<Vec<String>>(),
				"is_coinbase": tx.is_coinbase(),
				"sequence": input.sequence.to_consensus_u32(),
			})
		})
		.collect();
	json!({
		"txid": txid,
		"version": tx.version.0,
		"locktime": tx.lock_time.to_consensus_u32(),
		"vin": inputs,
		"vout": tx.output.iter().map(output).collect::<Vec<Value>>(),
		"size": tx.total_size(),
		"weight": tx.weight().to_wu(),
		"fee": index.fee(tx).to_sat(),
		"status": tx_status(index, txid),
	})
}

fn output(output: &TxOut) -> Value {
	let script = &output.script_pubkey;
	json!({
		"scriptpubkey": script.to_hex_string(),
		"scriptpubkey_asm": script.to_asm_string(),
		"scriptpubkey_type": script_type(script),
		"scriptpubkey_address": Address::from_script(script, Network::Regtest).ok().map(|address| address.to_string()),
		"value": output.value.to_sat(),
	})
}

fn script_type(script: &Script) -> &'static str {
	match () {
		() if script.is_p2wpkh() => "v0_p2wpkh",
		() if script.is_p2wsh() => "v0_p2wsh",
		() if script.is_p2tr() => "v1_p2tr",
		() if script.is_p2pkh() => "p2pkh",
		() if script.is_p2sh() => "p2sh",
		() if script.is_p2pk() => "p2pk",
		() if script.is_op_return() => "op_return",
		() => "unknown",
	}
}

/// A block without its transactions.
pub(super) fn block(index: &Index, height: u32, indexed: &Indexed) -> Value {
	let header = &indexed.block.header;
	json!({
		"id": indexed.hash,
		"height": height,
		"version": header.version.to_consensus(),
		"timestamp": header.time,
		"tx_count": indexed.txids.len(),
		"size": indexed.block.total_size(),
		"weight": indexed.block.weight().to_wu(),
		"merkle_root": header.merkle_root,
		"previousblockhash": (height > 0).then_some(header.prev_blockhash),
		"mediantime": index.median_time(height),
		"nonce": header.nonce,
		"bits": header.bits.to_consensus(),
		"difficulty": header.difficulty_float(),
	})
}

/// Who spends an output.
pub(super) fn outspend(index: &Index, outpoint: &OutPoint) -> Value {
	match index.spender(outpoint) {
		Some((txid, vin)) => json!({ "spent": true, "txid": txid, "vin": vin, "status": tx_status(index, &txid) }),
		None => json!({ "spent": false }),
	}
}

/// Electrum's proof: the siblings on the way from a transaction up to the Merkle root.
pub(crate) fn merkle_proof(height: u32, indexed: &Indexed, pos: usize) -> Value {
	let mut level: Vec<sha256d::Hash> = indexed.txids.iter().map(|txid| txid.to_raw_hash()).collect();
	let mut siblings = Vec::new();
	let mut at = pos;
	while level.len() > 1 {
		if !level.len().is_multiple_of(2) {
			level.push(level[level.len() - 1]);
		}
		siblings.push(TxMerkleNode::from_raw_hash(level[at ^ 1]));
		let parent =
			|pair: &[sha256d::Hash]| sha256d::Hash::hash(&[pair[0].to_byte_array(), pair[1].to_byte_array()].concat());
		level = level.chunks(2).map(parent).collect();
		at /= 2;
	}
	json!({ "block_height": height, "merkle": siblings, "pos": pos })
}

/// Bitcoin Core's proof, in hex.
pub(super) fn merkle_block(indexed: &Indexed, txid: &Txid) -> String {
	let header = &indexed.block.header;
	serialize_hex(&MerkleBlock::from_header_txids_with_predicate(header, &indexed.txids, |other| other == txid))
}

/// What a script received and spent, in the chain and in the mempool.
pub(super) fn stats(index: &Index, script: &sha256::Hash) -> [(&'static str, Value); 2] {
	[
		("chain_stats", summary(index, script, &index.confirmed(script))),
		("mempool_stats", summary(index, script, &index.unconfirmed(script))),
	]
}

fn summary(index: &Index, script: &sha256::Hash, history: &[(&Txid, &Entry)]) -> Value {
	let ours = |output: &&TxOut| super::index::script_hash(&output.script_pubkey) == *script;
	let outputs = |entry: &&(&Txid, &Entry)| entry.1.tx.output.clone();
	let received: Vec<TxOut> = history.iter().flat_map(|e| outputs(&e)).filter(|o| ours(&o)).collect();
	let inputs = history.iter().flat_map(|(_, entry)| &entry.tx.input);
	let spent: Vec<&TxOut> = inputs.filter_map(|i| index.output(&i.previous_output)).filter(ours).collect();
	json!({
		"tx_count": history.len(),
		"funded_txo_count": received.len(),
		"funded_txo_sum": received.iter().map(|output| output.value).sum::<Amount>().to_sat(),
		"spent_txo_count": spent.len(),
		"spent_txo_sum": spent.iter().map(|output| output.value).sum::<Amount>().to_sat(),
	})
}

/// The unspent outputs of a script.
pub(super) fn utxos(index: &Index, script: &sha256::Hash) -> Value {
	let mut found = Vec::new();
	for (txid, entry) in index.unconfirmed(script).into_iter().chain(index.confirmed(script)) {
		for (vout, output) in entry.tx.output.iter().enumerate() {
			let outpoint = OutPoint { txid: *txid, vout: vout as u32 };
			let ours = super::index::script_hash(&output.script_pubkey) == *script;
			if ours && index.spender(&outpoint).is_none() {
				let status = tx_status(index, txid);
				found.push(json!({ "txid": txid, "vout": vout, "status": status, "value": output.value.to_sat() }));
			}
		}
	}
	Value::Array(found)
}

/// The mempool at a glance; each transaction is a step of the histogram.
pub(super) fn mempool(index: &Index) -> Value {
	let mut steps: Vec<(f64, usize, u64)> = index
		.mempool()
		.iter()
		.map(|(_, entry)| (entry.tx.vsize(), index.fee(&entry.tx).to_sat()))
		.map(|(vsize, fee)| (fee as f64 / vsize as f64, vsize, fee))
		.collect();
	steps.sort_by(|a, b| b.0.total_cmp(&a.0));
	json!({
		"count": steps.len(),
		"vsize": steps.iter().map(|step| step.1).sum::<usize>(),
		"total_fee": steps.iter().map(|step| step.2).sum::<u64>(),
		"fee_histogram": steps.iter().map(|step| json!([step.0, step.1])).collect::<Vec<Value>>(),
	})
}

/// The ten transactions that entered the mempool last.
pub(super) fn mempool_recent(index: &Index) -> Value {
	let recent = index.mempool().into_iter().take(10).map(|(txid, entry)| {
		let value: Amount = entry.tx.output.iter().map(|output| output.value).sum();
		let fee = index.fee(&entry.tx).to_sat();
		json!({ "txid": txid, "fee": fee, "vsize": entry.tx.vsize(), "value": value.to_sat() })
	});
	Value::Array(recent.collect())
}
