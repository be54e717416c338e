use super::*;
use bitcoin::block::{Header, Version};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{CompactTarget, TxIn, TxMerkleNode, absolute, transaction};
use lightning::chain::transaction::TransactionData;
use lightning::chain::{Confirm, Listen};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};

/// One of LDK's parts, which writes down what it is told.
#[derive(Default)]
struct Recorder {
	told: Mutex<Vec<String>>,
	relevant: Vec<(Txid, u32, Option<BlockHash>)>,
}

impl Recorder {
	fn note(&self, what: String) {
		self.told.lock().unwrap().push(what);
	}

	fn take(&self) -> Vec<String> {
		std::mem::take(&mut self.told.lock().unwrap())
	}
}

impl Confirm for Recorder {
	fn transactions_confirmed(&self, _header: &Header, txdata: &TransactionData, height: u32) {
		self.note(format!("{} mined at {height}", txdata[0].1.compute_txid()));
	}

	fn transaction_unconfirmed(&self, txid: &Txid) {
		self.note(format!("{txid} undone"));
	}

	fn best_block_updated(&self, _header: &Header, height: u32) {
		self.note(format!("best {height}"));
	}

	fn get_relevant_txids(&self) -> Vec<(Txid, u32, Option<BlockHash>)> {
		self.relevant.clone()
	}
}

impl Listen for Recorder {
	fn filtered_block_connected(&self, _header: &Header, _txdata: &TransactionData, _height: u32) {}
	fn blocks_disconnected(&self, _fork_point: BlockLocator) {}
}

fn header(merkle_root: TxMerkleNode) -> Header {
	let (prev_blockhash, bits) = (BlockHash::all_zeros(), CompactTarget::from_consensus(0x207f_ffff));
	Header { version: Version::ONE, prev_blockhash, merkle_root, time: 1, bits, nonce: 0 }
}

fn payment() -> Transaction {
	let script_pubkey = ScriptBuf::from_bytes([vec![0, 20], vec![7; 20]].concat());
	let output = vec![TxOut { value: Amount::from_sat(5_000), script_pubkey }];
	let (version, lock_time) = (transaction::Version::TWO, absolute::LockTime::ZERO);
	Transaction { version, lock_time, input: vec![TxIn::default()], output }
}

/// A server whose only block, at height 1, has this header and says to contain `tx` alone.
fn server(header: Header, tx: Transaction) -> Arc<Line> {
	let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
	let url = format!("tcp://{}", listener.local_addr().unwrap());
	let (block, raw, txid) = (serialize_hex(&header), serialize_hex(&tx), tx.compute_txid());
	std::thread::spawn(move || {
		for stream in listener.incoming() {
			let mut stream = stream.unwrap();
			for line in BufReader::new(stream.try_clone().unwrap()).lines() {
				let Ok(line) = line else { break };
				let request: Value = serde_json::from_str(&line).unwrap();
				let result = match request["method"].as_str().unwrap() {
					"server.version" => json!(["test", "1.4"]),
					"blockchain.headers.subscribe" => json!({ "height": 1, "hex": block }),
					// The one before is of no matter.
					"blockchain.block.headers" => json!({ "count": 2, "hex": block.repeat(2), "max": 2016 }),
					"blockchain.scripthash.get_history" => json!([{ "tx_hash": txid, "height": 1 }]),
					"blockchain.transaction.get" => json!(raw),
					"blockchain.transaction.get_merkle" => json!({ "block_height": 1, "merkle": [], "pos": 0 }),
					other => panic!("{other}"),
				};
				let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
				if stream.write_all(format!("{answer}\n").as_bytes()).is_err() {
					break;
				}
			}
		}
	});
	Line::new(&url, Default::default()).unwrap()
}

/// Leads a recorder that looks for the payment, twice; what it was told each time, and how it ended.
async fn led(header: Header, recorder: Recorder) -> [(Result<(), String>, Vec<String>); 2] {
	let (line, tx, recorder) = (server(header, payment()), payment(), Arc::new(recorder));
	let (watched, told) = (Arc::new(Watched::new(Unheard)), Arc::new(Mutex::new(Told::default())));
	watched.register_tx(&tx.compute_txid(), &tx.output[0].script_pubkey);
	let mut looks = Vec::new();
	for _ in 0..2 {
		let (watched, told, node) = (Arc::clone(&watched), Arc::clone(&told), Arc::clone(&recorder) as Arc<dyn Node>);
		let look = move |api: &Api| {
			let best = confirm::best(api)?;
			confirm::lead(api, &watched, &mut told.lock().unwrap(), &[node], &best)
		};
		let ended = line.ask(PATIENCE, look).await.map_err(|e| e.to_string());
		looks.push((ended, recorder.take()));
	}
	looks.try_into().unwrap()
}

#[tokio::test]
async fn what_is_mined_is_told_once_and_with_a_proof_only() {
	let txid = payment().compute_txid();
	let [first, second] = led(header(TxMerkleNode::from_raw_hash(txid.to_raw_hash())), Recorder::default()).await;
	assert_eq!(first, (Ok(()), vec!["best 1".to_owned(), format!("{txid} mined at 1")]));
	assert_eq!(second, (Ok(()), vec!["best 1".to_owned()]));
	for (ended, told) in led(header(TxMerkleNode::all_zeros()), Recorder::default()).await {
		assert!(ended.unwrap_err().contains("its proof that"));
		assert_eq!(told, ["best 1"]);
	}
}

#[tokio::test]
async fn r19_what_a_reorganisation_undid_is_told_first() {
	let gone = Txid::from_byte_array([9; 32]);
	let header = header(TxMerkleNode::from_raw_hash(payment().compute_txid().to_raw_hash()));
	let relevant =
		vec![(gone, 1, Some(BlockHash::all_zeros())), (payment().compute_txid(), 1, Some(header.block_hash()))];
	let [(ended, told), _] = led(header, Recorder { relevant, ..Default::default() }).await;
	assert_eq!(ended, Ok(()));
	assert_eq!(told[..2], [format!("{gone} undone"), "best 1".to_owned()]);
	assert_eq!(told.len(), 3, "what is still in its block was not undone: {told:?}");
}

/// A server that ends each connection after its second answer: a greeting and one more.
fn impatient(asked: Arc<Mutex<usize>>) -> Outbox {
	let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
	let url = format!("tcp://{}", listener.local_addr().unwrap());
	std::thread::spawn(move || {
		for stream in listener.incoming() {
			let mut stream = stream.unwrap();
			for line in BufReader::new(stream.try_clone().unwrap()).lines().take(2) {
				let request: Value = serde_json::from_str(&line.unwrap()).unwrap();
				let result = match request["method"].as_str().unwrap() {
					"server.version" => json!(["test", "1.4"]),
					"blockchain.transaction.broadcast" => {
						*asked.lock().unwrap() += 1;
						json!(payment().compute_txid())
					}
					other => panic!("{other}"),
				};
				let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
				stream.write_all(format!("{answer}\n").as_bytes()).unwrap();
			}
		}
	});
	Outbox { line: Line::new(&url, Default::default()).unwrap() }
}

#[tokio::test]
async fn a_broadcast_is_not_lost_with_an_idle_connection() {
	let asked = Arc::default();
	let outbox = impatient(Arc::clone(&asked));
	for times in 1..4 {
		assert_eq!(outbox.submit(&[payment()]).await, Ok(()));
		assert_eq!(*asked.lock().unwrap(), times);
	}
	outbox.line.end();
}
