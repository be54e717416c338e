//! Leads LDK along the chain by the rules of `Confirm`, as LDK's own `ElectrumSyncClient` does. That one is bound to a
//! client with other transports (see `wire`). Each transaction is reported with a Merkle proof that was checked.

use super::super::Node;
use super::super::watched::{Unheard, Watched};
use super::wire::{Api, Failure};
use bitcoin::block::Header;
use bitcoin::{OutPoint, Script, ScriptBuf, Transaction, Txid};
use electrum_client::utils::validate_merkle_proof;
use electrum_client::{ElectrumApi, Error, GetHistoryRes};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Headers asked for when one is wanted: 1280 digits.
const HEADERS: u32 = 8;
/// Scripts asked for at once.
pub(super) const BATCH: usize = 50;
/// LDK may register more to look for with what it is told; deeper chains of that wait for the next look.
const MAX_ROUNDS: usize = 10;

/// What LDK was told in this run; it asks itself for what a reorganisation may have undone.
#[derive(Default)]
pub(super) struct Told {
	mined: HashSet<Txid>,
	/// Of those, what it registered itself.
	asked: HashSet<Txid>,
	spent_by: HashMap<OutPoint, Txid>,
}

/// The best block.
#[derive(Clone, Copy)]
pub(super) struct Best {
	pub(super) height: u32,
	pub(super) header: Header,
}

/// A mined transaction, proven.
struct Mined {
	height: u32,
	pos: usize,
	header: Header,
	tx: Transaction,
}

/// The server's best block, with its notifications put aside.
pub(super) fn best(api: &Api) -> Result<Best, Failure> {
	while api.block_headers_pop_raw()?.is_some() {}
	let tip = api.block_headers_subscribe()?;
	let height = u32::try_from(tip.height).map_err(|_| Failure::Wrong("it gave an impossible height".into()))?;
	Ok(Best { height, header: tip.header })
}

/// Tells all nodes what is new up to `best`.
pub(super) fn lead(
	api: &Api,
	watched: &Watched<Unheard>,
	told: &mut Told,
	nodes: &[Arc<dyn Node>],
	at: &Best,
) -> Result<(), Failure> {
	let undone = undone(api, nodes, at)?;
	still(api, at)?;
	for txid in undone {
		told.mined.remove(&txid);
		for node in nodes {
			node.transaction_unconfirmed(&txid);
		}
	}
	for node in nodes {
		node.best_block_updated(&at.header, at.height);
	}
	for _ in 0..MAX_ROUNDS {
		watched.take_news();
		let mined = mined(api, watched, told, at)?;
		still(api, at)?;
		for Mined { height, pos, header, tx } in &mined {
			for node in nodes {
				node.transactions_confirmed(header, &[(*pos, tx)], *height);
			}
			told.mined.insert(tx.compute_txid());
		}
		if !watched.has_news() {
			return Ok(());
		}
	}
	Ok(())
}

/// The header of the block at this height, if there is one. Asked for with those before it: a server that holds short answers back
/// (see `wire`) would hold a single one back now and then whatever is asked along with it.
pub(super) fn header(api: &Api, height: u32) -> Result<Option<Header>, Failure> {
	let first = height.saturating_sub(HEADERS - 1);
	let found = api.block_headers(first as usize, (height - first + 1) as usize)?.headers;
	Ok(found.get((height - first) as usize).copied())
}

/// What LDK holds for mined in a block that is no more.
fn undone(api: &Api, nodes: &[Arc<dyn Node>], at: &Best) -> Result<Vec<Txid>, Failure> {
	let relevant: HashSet<_> = nodes.iter().flat_map(|node| node.get_relevant_txids()).collect();
	let mut hashes = HashMap::new();
	let mut undone = Vec::new();
	for (txid, height, hash) in relevant {
		let Some(hash) = hash else { continue };
		if height > at.height {
			undone.push(txid);
			continue;
		}
		let found = match hashes.get(&height) {
			Some(found) => *found,
			None => {
				let found = header(api, height)?.ok_or(Failure::Raced)?.block_hash();
				hashes.insert(height, found);
				found
			}
		};
		if found != hash {
			undone.push(txid);
		}
	}
	Ok(undone)
}

fn still(api: &Api, at: &Best) -> Result<(), Failure> {
	if best(api)?.header.block_hash() == at.header.block_hash() { Ok(()) } else { Err(Failure::Raced) }
}

/// Of what LDK looks for, what is mined and was not told yet, in the order of the chain.
fn mined(api: &Api, watched: &Watched<Unheard>, told: &mut Told, at: &Best) -> Result<Vec<Mined>, Failure> {
	let (txs, outputs) = watched.all();
	let mut found: HashMap<Txid, Mined> = HashMap::new();
	let mut wanted = Vec::new();
	let mut seen = HashSet::new();
	for (txid, script) in &txs {
		let known = told.asked.contains(txid) && told.mined.contains(txid);
		if known || !seen.insert(*txid) {
			continue;
		}
		if let Some(tx) = transaction(api, txid)?
			&& let Some(script) = script_of(&tx, script)
		{
			wanted.push((script, tx));
		}
	}
	let scripts: Vec<&Script> = wanted.iter().map(|(script, _)| script.as_script()).collect();
	for (history, (_, tx)) in histories(api, &scripts)?.into_iter().zip(&wanted) {
		let txid = tx.compute_txid();
		if let Some(height) = history.iter().find(|entry| entry.tx_hash == txid).and_then(mined_at) {
			found.insert(txid, prove(api, tx.clone(), height, at)?);
			told.asked.insert(txid);
		}
	}

	// An output that was registered after its spending was told: that is told again.
	let open = |output: &OutPoint| told.spent_by.get(output).is_none_or(|spender| !told.mined.contains(spender));
	let outputs: Vec<(OutPoint, ScriptBuf)> = outputs.into_iter().filter(|(output, _)| open(output)).collect();
	let scripts: Vec<&Script> = outputs.iter().map(|(_, script)| script.as_script()).collect();
	let mut others: HashMap<Txid, Transaction> = HashMap::new();
	for (history, (output, _)) in histories(api, &scripts)?.into_iter().zip(&outputs) {
		for entry in history.into_iter().filter(|entry| entry.tx_hash != output.txid) {
			let Some(height) = mined_at(&entry) else { continue };
			let txid = entry.tx_hash;
			let tx = match others.entry(txid) {
				Entry::Occupied(known) => known.into_mut(),
				Entry::Vacant(new) => new.insert(transaction(api, &txid)?.ok_or(Failure::Raced)?),
			};
			if !tx.input.iter().any(|input| input.previous_output == *output) {
				continue;
			}
			told.spent_by.insert(*output, txid);
			if let Entry::Vacant(new) = found.entry(txid) {
				new.insert(prove(api, tx.clone(), height, at)?);
			}
		}
	}
	let mut mined: Vec<Mined> = found.into_values().collect();
	mined.sort_by_key(|mined| (mined.height, mined.pos));
	Ok(mined)
}

/// The histories of these scripts, in their order.
pub(super) fn histories(api: &Api, scripts: &[&Script]) -> Result<Vec<Vec<GetHistoryRes>>, Failure> {
	let mut all = Vec::with_capacity(scripts.len());
	for some in scripts.chunks(BATCH) {
		let answers = api.batch_script_get_history(some.iter().copied())?;
		if answers.len() != some.len() {
			return Err(Failure::Wrong("it did not answer all that was asked".into()));
		}
		all.extend(answers);
	}
	Ok(all)
}

/// A transaction that the server knows, if it does. One of 64 bytes could be an inner node of a Merkle tree: it is left out.
pub(super) fn transaction(api: &Api, txid: &Txid) -> Result<Option<Transaction>, Failure> {
	let tx = match api.transaction_get(txid) {
		Ok(tx) => tx,
		Err(Error::Protocol(_)) => return Ok(None),
		Err(e) => return Err(e.into()),
	};
	if tx.compute_txid() != *txid {
		return Err(Failure::Wrong("it gave another transaction than it was asked for".into()));
	}
	Ok(Some(tx).filter(|tx| tx.base_size() != 64))
}

/// A script by which a transaction can be found: `liked` if it pays to that. Servers do not index OP_RETURN.
pub(super) fn script_of(tx: &Transaction, liked: &Script) -> Option<ScriptBuf> {
	let scripts = || tx.output.iter().map(|output| &output.script_pubkey).filter(|script| !script.is_op_return());
	scripts().find(|script| script.as_script() == liked).or_else(|| scripts().next()).cloned()
}

/// The height, unless it is unconfirmed (0 or -1).
pub(super) fn mined_at(entry: &GetHistoryRes) -> Option<u32> {
	u32::try_from(entry.height).ok().filter(|height| *height > 0)
}

/// That this transaction is in the block at this height, checked.
fn prove(api: &Api, tx: Transaction, height: u32, at: &Best) -> Result<Mined, Failure> {
	if height > at.height {
		return Err(Failure::Raced);
	}
	let txid = tx.compute_txid();
	let proof = match api.transaction_get_merkle(&txid, height as usize) {
		Ok(proof) => proof,
		// It was taken back meanwhile.
		Err(Error::Protocol(_)) => return Err(Failure::Raced),
		Err(e) => return Err(e.into()),
	};
	let header = header(api, height)?.ok_or(Failure::Raced)?;
	if !validate_merkle_proof(&txid, &header.merkle_root, &proof) {
		still(api, at)?;
		return Err(Failure::Wrong(format!("its proof that {txid} is mined is wrong")));
	}
	Ok(Mined { height, pos: proof.pos, header, tx })
}
