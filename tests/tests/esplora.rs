//! The Esplora test server against the clients that will use it.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use bdk_esplora::EsploraAsyncExt;
use bdk_wallet::{KeychainKind, Wallet};
use bitcoin::consensus::deserialize;
use bitcoin::hex::FromHex;
use bitcoin::{Address, Block, BlockHash, Network, Script, Transaction, Txid};
use esplora_client::r#async::AsyncClient;
use esplora_client::{Builder, Error, EsploraTx};
use inlet_tests::esplora::{self, EsploraServer};
use inlet_tests::{Bitcoind, Scratch};
use lightning::chain::{Confirm, Filter, WatchedOutput};
use lightning::util::logger::{Logger, Record};
use lightning_transaction_sync::EsploraSyncClient;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

struct World {
	esplora: EsploraServer,
	client: AsyncClient,
	bitcoind: Bitcoind,
	_scratch: Scratch,
}

async fn world() -> World {
	let scratch = Scratch::new().unwrap();
	let bitcoind = Bitcoind::start(&scratch).await.unwrap();
	let esplora = esplora::serve(&bitcoind).unwrap();
	let client = Builder::new(&esplora.url()).max_retries(0).build_async().unwrap();
	World { esplora, client, bitcoind, _scratch: scratch }
}

impl World {
	async fn ask<T: serde::de::DeserializeOwned>(&self, method: &str, params: Value) -> T {
		serde_json::from_value(self.bitcoind.call(method, params).await.unwrap()).unwrap()
	}

	async fn tip(&self) -> BlockHash {
		self.bitcoind.tip().await.unwrap().parse().unwrap()
	}

	async fn address(&self) -> Address {
		self.bitcoind.address().await.unwrap().parse::<Address<_>>().unwrap().require_network(Network::Regtest).unwrap()
	}

	async fn send(&self, to: &Address, sat: u64) -> Txid {
		self.bitcoind.send(&to.to_string(), sat).await.unwrap().parse().unwrap()
	}

	async fn raw(&self, txid: &Txid) -> Transaction {
		let hex: String = self.ask("getrawtransaction", json!([txid])).await;
		deserialize(&Vec::from_hex(&hex).unwrap()).unwrap()
	}

	async fn history(&self, script: &Script) -> Vec<Txid> {
		txids(&self.client.get_scripthash_txs(script, None).await.unwrap())
	}
}

fn txids(txs: &[EsploraTx]) -> Vec<Txid> {
	txs.iter().map(|tx| tx.txid).collect()
}

#[tokio::test]
async fn blocks_are_those_of_bitcoind() {
	let w = world().await;
	let c = &w.client;
	for _ in 0..3 {
		let address = w.address().await;
		w.send(&address, 50_000).await;
	}
	w.bitcoind.mine(1).await.unwrap();
	let tip = w.tip().await;
	assert_eq!(c.get_height().await.unwrap(), 111);
	assert_eq!(c.get_tip_hash().await.unwrap(), tip);
	assert_eq!(c.get_block_hash(111).await.unwrap(), tip);

	let hex: String = w.ask("getblock", json!([tip, 0])).await;
	let block: Block = deserialize(&Vec::from_hex(&hex).unwrap()).unwrap();
	let told: Value = w.ask("getblock", json!([tip, 1])).await;
	assert_eq!(block.txdata.len(), 4);
	assert_eq!(c.get_block_by_hash(&tip).await.unwrap(), Some(block.clone()));
	assert_eq!(c.get_header_by_hash(&tip).await.unwrap(), block.header);
	let ids: Vec<Txid> = block.txdata.iter().map(Transaction::compute_txid).collect();
	assert_eq!(c.get_block_txids(&tip).await.unwrap(), ids);
	assert_eq!(txids(&c.get_block_txs(&tip, None).await.unwrap()), ids);
	assert_eq!(c.get_txid_at_block_index(&tip, 2).await.unwrap(), Some(ids[2]));
	assert_eq!(c.get_txid_at_block_index(&tip, 9).await.unwrap(), None);

	let info = c.get_block_info(&tip).await.unwrap();
	assert_eq!((info.height, info.tx_count, info.size), (111, 4, block.total_size()));
	assert_eq!((info.weight, info.bits, info.version), (block.weight(), block.header.bits, block.header.version));
	assert_eq!((info.merkle_root, info.nonce), (block.header.merkle_root, block.header.nonce));
	assert_eq!(info.mediantime, told["mediantime"].as_u64().unwrap());
	assert_eq!(info.difficulty, told["difficulty"].as_f64().unwrap());
	assert_eq!(info.previousblockhash, Some(block.header.prev_blockhash));

	let page = c.get_block_infos(None).await.unwrap();
	assert_eq!(page.iter().map(|b| b.height).collect::<Vec<_>>(), (102..=111).rev().collect::<Vec<_>>());
	let page = c.get_block_infos(Some(1)).await.unwrap();
	assert_eq!(page.iter().map(|b| b.height).collect::<Vec<_>>(), [1, 0]);
	assert_eq!(page[1].previousblockhash, None);

	let previous = c.get_block_status(&block.header.prev_blockhash).await.unwrap();
	assert_eq!((previous.in_best_chain, previous.height, previous.next_best), (true, Some(110), Some(tip)));
	assert_eq!(c.get_block_status(&tip).await.unwrap().next_best, None);
	let nowhere: BlockHash = "00000000000000000000000000000000000000000000000000000000000000ff".parse().unwrap();
	assert!(!c.get_block_status(&nowhere).await.unwrap().in_best_chain);
	assert_eq!(c.get_block_by_hash(&nowhere).await.unwrap(), None);
}

#[tokio::test]
async fn a_transaction_goes_from_the_mempool_into_a_block() {
	let w = world().await;
	let c = &w.client;
	let address = w.address().await;
	let script = address.script_pubkey();
	let txid = w.send(&address, 123_456).await;
	let raw = w.raw(&txid).await;
	let told: Value = w.ask("getmempoolentry", json!([txid])).await;

	assert_eq!(c.get_tx(&txid).await.unwrap(), Some(raw.clone()));
	let tx = c.get_tx_info(&txid).await.unwrap().unwrap();
	assert_eq!((tx.to_tx(), tx.size, tx.weight), (raw.clone(), raw.total_size(), raw.weight()));
	assert_eq!(tx.fee.to_btc(), told["fees"]["base"].as_f64().unwrap());
	assert!(!tx.status.confirmed);
	assert!(tx.vin.iter().all(|vin| vin.prevout.is_some()));
	assert_eq!(w.history(&script).await, [txid]);
	assert_eq!(txids(&c.get_mempool_scripthash_txs(&script).await.unwrap()), [txid]);
	assert_eq!(txids(&c.get_mempool_address_txs(&address).await.unwrap()), [txid]);
	assert_eq!(c.get_mempool_txids().await.unwrap(), [txid]);
	assert_eq!(c.get_mempool_recent_txs().await.unwrap()[0].txid, txid);
	assert_eq!(c.get_mempool_stats().await.unwrap().total_fee, tx.fee);
	assert_eq!(c.get_merkle_proof(&txid).await.unwrap(), None);
	assert!(c.get_merkle_block(&txid).await.unwrap().is_none());
	let stats = c.get_address_stats(&address).await.unwrap();
	assert_eq!((stats.mempool_stats.funded_txo_sum.to_sat(), stats.chain_stats.tx_count), (123_456, 0));

	w.bitcoind.mine(1).await.unwrap();
	let tip = w.tip().await;
	let status = c.get_tx_status(&txid).await.unwrap();
	assert_eq!((status.confirmed, status.block_height, status.block_hash), (true, Some(111), Some(tip)));
	assert!(c.get_mempool_txids().await.unwrap().is_empty());
	assert_eq!(w.history(&script).await, [txid]);
	let utxos = c.get_scripthash_utxos(&script).await.unwrap();
	assert_eq!((utxos.len(), utxos[0].txid, utxos[0].value.to_sat()), (1, txid, 123_456));
	assert_eq!(c.get_address_utxos(&address).await.unwrap(), utxos);
	let stats = c.get_scripthash_stats(&script).await.unwrap();
	assert_eq!((stats.chain_stats.funded_txo_count, stats.mempool_stats.tx_count), (1, 0));
	assert_merkle_proofs(&w, &txid).await;

	let spent = raw.input[0].previous_output;
	let spend = c.get_output_status(&spent.txid, spent.vout.into()).await.unwrap().unwrap();
	assert_eq!((spend.spent, spend.txid, spend.vin), (true, Some(txid), Some(0)));
	assert_eq!(spend.status, Some(status));
	assert!(!c.get_output_status(&txid, utxos[0].vout.into()).await.unwrap().unwrap().spent);
}

async fn assert_merkle_proofs(w: &World, txid: &Txid) {
	use bitcoin::hashes::{Hash, sha256d};
	let proof = w.client.get_merkle_block(txid).await.unwrap().unwrap();
	let (mut matches, mut positions) = (Vec::new(), Vec::new());
	let root = proof.txn.extract_matches(&mut matches, &mut positions).unwrap();
	assert_eq!((root, &matches), (proof.header.merkle_root, &vec![*txid]));

	let branch = w.client.get_merkle_proof(txid).await.unwrap().unwrap();
	assert_eq!((branch.block_height, branch.pos), (111, positions[0] as usize));
	let mut node = txid.to_raw_hash();
	for (level, sibling) in branch.merkle.iter().enumerate() {
		let sibling = sibling.to_raw_hash();
		let pair = if branch.pos >> level & 1 == 0 { [node, sibling] } else { [sibling, node] };
		node = sha256d::Hash::hash(&pair.map(|half| half.to_byte_array()).concat());
	}
	assert_eq!(node, root.to_raw_hash());
}

#[tokio::test]
async fn a_long_history_comes_in_pages() {
	let w = world().await;
	let address = w.address().await;
	let script = address.script_pubkey();
	let mut sent = Vec::new();
	for n in 0..30 {
		sent.push(w.send(&address, 10_000 + n).await);
		if n % 4 == 3 {
			w.bitcoind.mine(1).await.unwrap();
		}
	}
	let first = w.history(&script).await;
	assert_eq!(first.len(), 27, "two in the mempool and a page of 25");
	assert!(first[..2].contains(&sent[28]) && first[..2].contains(&sent[29]));
	assert!(first[2..6].contains(&sent[27]), "the block mined last comes next");
	let rest = txids(&w.client.get_scripthash_txs(&script, Some(first[26])).await.unwrap());
	assert_eq!(rest.len(), 3);
	let mut all: Vec<Txid> = first.into_iter().chain(rest).collect();
	all.sort();
	sent.sort();
	assert_eq!(all, sent);
}

#[tokio::test]
async fn a_reorg_and_a_replacement_are_followed() {
	let w = world().await;
	let address = w.address().await;
	let script = address.script_pubkey();
	let txid = w.send(&address, 77_000).await;
	w.bitcoind.mine(2).await.unwrap();
	let stale = w.client.get_tip_hash().await.unwrap();
	assert!(w.client.get_tx_status(&txid).await.unwrap().confirmed);

	w.bitcoind.reorg(2, false).await.unwrap();
	assert!(!w.client.get_block_status(&stale).await.unwrap().in_best_chain);
	assert_eq!(w.client.get_height().await.unwrap(), 113);
	assert!(!w.client.get_tx_status(&txid).await.unwrap().confirmed);
	assert_eq!(txids(&w.client.get_mempool_scripthash_txs(&script).await.unwrap()), [txid]);

	let spent = w.raw(&txid).await.input[0].previous_output;
	let bumped = w.bitcoind.wallet_call("bumpfee", json!([txid])).await.unwrap();
	let replacement: Txid = bumped["txid"].as_str().unwrap().parse().unwrap();
	assert_eq!(w.history(&script).await, [replacement]);
	assert_eq!(w.client.get_tx(&txid).await.unwrap(), None);
	let spend = w.client.get_output_status(&spent.txid, spent.vout.into()).await.unwrap().unwrap();
	assert_eq!(spend.txid, Some(replacement));
}

#[tokio::test]
async fn what_is_broadcast_reaches_bitcoind_and_what_it_refuses_is_told() {
	let w = world().await;
	let destination = w.address().await.to_string();
	let outputs = json!([{ destination: "0.001" }]);
	let psbt = w.bitcoind.wallet_call("walletcreatefundedpsbt", json!([[], outputs])).await.unwrap();
	let signed = w.bitcoind.wallet_call("walletprocesspsbt", json!([psbt["psbt"]])).await.unwrap();
	let tx: Transaction = deserialize(&Vec::from_hex(signed["hex"].as_str().unwrap()).unwrap()).unwrap();

	let mut forged = tx.clone();
	forged.output[0].value -= bitcoin::Amount::ONE_SAT;
	match w.client.broadcast(&forged).await {
		Err(Error::HttpResponse { status: 400, message }) => assert!(message.contains("\"code\":-26"), "{message}"),
		other => panic!("{other:?}"),
	}
	assert_eq!(w.client.broadcast(&tx).await.unwrap(), tx.compute_txid());
	assert_eq!(w.bitcoind.mempool().await.unwrap(), [tx.compute_txid().to_string()]);
	let package = w.client.submit_package(std::slice::from_ref(&tx), None, None).await.unwrap();
	assert_eq!(package.package_msg, "success");
	assert!(package.tx_results.contains_key(&tx.compute_wtxid()));
}

#[tokio::test]
async fn the_switches_break_it_and_mend_it() {
	let w = world().await;
	let address = w.address().await;
	let txid = w.send(&address, 60_000).await;
	w.bitcoind.mine(1).await.unwrap();
	let script = address.script_pubkey();
	assert_eq!(w.client.get_height().await.unwrap(), 111);

	w.esplora.set_lag(1);
	assert_eq!(w.client.get_height().await.unwrap(), 110);
	assert_eq!(txids(&w.client.get_mempool_scripthash_txs(&script).await.unwrap()), [txid]);
	w.esplora.set_lag(0);
	assert!(w.client.get_tx_status(&txid).await.unwrap().confirmed);

	w.esplora.set_down(true);
	for _ in 0..3 {
		match w.client.get_height().await {
			Err(Error::BitReq(_)) => {}
			other => panic!("{other:?}"),
		}
	}
	w.esplora.set_down(false);
	assert_eq!(w.client.get_height().await.unwrap(), 111);

	let before = w.esplora.requests();
	w.esplora.set_error(Some(429));
	assert!(matches!(w.client.get_height().await, Err(Error::HttpResponse { status: 429, .. })));
	w.esplora.set_error(None);
	assert_eq!(w.esplora.requests(), before + 1);

	assert!(w.client.get_fee_estimates().await.unwrap().len() > 20);
	w.esplora.set_fee_estimates([(6, 12.5)]);
	let fees = w.client.get_fee_estimates().await.unwrap();
	assert_eq!(fees.into_iter().map(|(t, rate)| (t, rate.to_sat_per_kwu())).collect::<Vec<_>>(), [(6, 3125)]);

	w.bitcoind.stop().await.unwrap();
	assert!(matches!(w.client.get_height().await, Err(Error::HttpResponse { status: 503, .. })));
	w.bitcoind.resume().await.unwrap();
	assert_eq!(w.client.get_height().await.unwrap(), 111);
	let url = w.esplora.url();
	drop(w.esplora);
	assert!(std::net::TcpStream::connect(url.trim_start_matches("http://")).is_err());
}

#[tokio::test]
async fn bdk_synchronises_a_wallet() {
	const DESCRIPTORS: [&str; 2] = [
		"wpkh(tprv8ZgxMBicQKsPdy6LMhUtFHAgpocR8GC6QmwMSFpZs7h6Eziw3SpThFfczTDh5rW2krkqffa11UpX3XkeTTB2FvzZKWXqPY54Y6Rq4AQ5R8L/84'/1'/0'/0/*)",
		"wpkh(tprv8ZgxMBicQKsPdy6LMhUtFHAgpocR8GC6QmwMSFpZs7h6Eziw3SpThFfczTDh5rW2krkqffa11UpX3XkeTTB2FvzZKWXqPY54Y6Rq4AQ5R8L/84'/1'/0'/1/*)",
	];
	let w = world().await;
	let client = bdk_esplora::esplora_client::Builder::new(&w.esplora.url()).build_async().unwrap();
	let mut wallet =
		Wallet::create(DESCRIPTORS[0], DESCRIPTORS[1]).network(Network::Regtest).create_wallet_no_persist().unwrap();
	let address = wallet.reveal_next_address(KeychainKind::External).address;
	w.send(&address, 200_000).await;
	w.bitcoind.mine(1).await.unwrap();
	let update = client.full_scan(wallet.start_full_scan(), 5, 2).await.unwrap();
	wallet.apply_update(update).unwrap();
	assert_eq!(wallet.balance().confirmed.to_sat(), 200_000);
	assert_eq!(wallet.latest_checkpoint().hash(), w.tip().await);

	w.bitcoind.reorg(1, false).await.unwrap();
	w.send(&address, 30_000).await;
	let update = client.sync(wallet.start_sync_with_revealed_spks(), 2).await.unwrap();
	wallet.apply_update(update).unwrap();
	let balance = wallet.balance();
	assert_eq!((balance.confirmed.to_sat(), balance.untrusted_pending.to_sat()), (0, 230_000));
	assert_eq!(wallet.latest_checkpoint().hash(), w.tip().await);
}

struct Quiet;

impl Logger for Quiet {
	fn log(&self, _: Record) {}
}

#[derive(Default)]
struct Seen {
	best: Option<(BlockHash, u32)>,
	confirmed: Vec<(Txid, u32, BlockHash)>,
	unconfirmed: Vec<Txid>,
}

/// What LDK would keep, and nothing else.
#[derive(Default)]
struct Recorder(Mutex<Seen>);

impl Confirm for Recorder {
	fn transactions_confirmed(
		&self,
		header: &bitcoin::block::Header,
		txdata: &lightning::chain::transaction::TransactionData,
		height: u32,
	) {
		let mut seen = self.0.lock().unwrap();
		seen.confirmed.extend(txdata.iter().map(|(_, tx)| (tx.compute_txid(), height, header.block_hash())));
	}

	fn transaction_unconfirmed(&self, txid: &Txid) {
		let mut seen = self.0.lock().unwrap();
		seen.confirmed.retain(|(id, ..)| id != txid);
		seen.unconfirmed.push(*txid);
	}

	fn best_block_updated(&self, header: &bitcoin::block::Header, height: u32) {
		self.0.lock().unwrap().best = Some((header.block_hash(), height));
	}

	fn get_relevant_txids(&self) -> Vec<(Txid, u32, Option<BlockHash>)> {
		self.0.lock().unwrap().confirmed.iter().map(|(txid, height, hash)| (*txid, *height, Some(*hash))).collect()
	}
}

#[tokio::test]
async fn ldk_synchronises_registered_transactions_and_outputs() {
	let w = world().await;
	let address = w.address().await;
	let script = address.script_pubkey();
	let txid = w.send(&address, 90_000).await;
	let spent = w.raw(&txid).await.input[0].previous_output;
	let sync = EsploraSyncClient::new(w.esplora.url(), Arc::new(Quiet));
	let recorder = Recorder::default();
	let outpoint = lightning::chain::transaction::OutPoint { txid: spent.txid, index: spent.vout as u16 };
	sync.register_tx(&txid, &script);
	sync.register_output(WatchedOutput { block_hash: None, outpoint, script_pubkey: script.clone() });
	sync.sync(vec![&recorder]).await.unwrap();
	assert!(recorder.0.lock().unwrap().confirmed.is_empty());

	w.bitcoind.mine(1).await.unwrap();
	let tip = w.tip().await;
	sync.sync(vec![&recorder]).await.unwrap();
	assert_eq!(recorder.0.lock().unwrap().confirmed, [(txid, 111, tip)]);

	w.bitcoind.reorg(1, false).await.unwrap();
	sync.sync(vec![&recorder]).await.unwrap();
	let seen = std::mem::take(&mut *recorder.0.lock().unwrap());
	assert_eq!(seen.unconfirmed, [txid]);
	assert!(seen.confirmed.is_empty());
	assert_eq!(seen.best, Some((w.tip().await, 112)));
}
