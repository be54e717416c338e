//! A real bitcoind on a regtest of its own.

mod fetch;

pub use fetch::{Program, find};

use crate::process::Process;
use crate::rpc::{Rpc, RpcError};
use crate::scratch::{Scratch, eventually, free_port};
use anyhow::{Context, Result, bail, ensure};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{Block, Network, Transaction};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The name for [`Bitcoind::url`]'s user and its password. It listens on loopback only and holds play money.
pub const RPC_USER: &str = "inlet";
/// See [`RPC_USER`].
pub const RPC_PASSWORD: &str = "regtest";
/// `HMAC-SHA256(salt, RPC_PASSWORD)`, as bitcoind's `rpcauth` wants it; with it the cookie file works too.
const RPC_AUTH: &str =
	"inlet:1f0e5a3c9b7d42688a6c5e3d1b097f24$d5d17a6d3686f5cb7808a4f1e07a6431a35646ffa07fa3eb8acd1c154bab70e7";

const WALLET: &str = "miner";
/// Blocks mined at the start: coins mature after 100, so the wallet can spend ten of them.
const FIRST_BLOCKS: u32 = 110;
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Options that not every bitcoind knows (Knots keeps transactions from its mempool that Core relays, and that Lightning
/// needs: version 3, ephemeral dust), by the name in its help.
const OPTIONS_BY_NAME: [(&str, &str); 3] = [
	("-corepolicy", "-corepolicy=1"),
	("-mempooltruc", "-mempooltruc=accept"),
	("-permitephemeral", "-permitephemeral=anchor,send,dust"),
];

/// A running bitcoind on a private regtest, with a wallet that owns the first coins. Killed when dropped.
#[derive(Debug)]
pub struct Bitcoind {
	program: Program,
	dir: PathBuf,
	log: PathBuf,
	port: u16,
	options: Vec<&'static str>,
	rpc: Rpc,
	wallet: Rpc,
	process: Mutex<Option<Process>>,
}

impl Bitcoind {
	/// Finds (or fetches) a bitcoind, starts it below `scratch` on a free port, and mines the first coins.
	///
	/// # Errors
	/// There is none and none can be fetched, or it does not start.
	pub async fn start(scratch: &Scratch) -> Result<Bitcoind> {
		let program = tokio::task::spawn_blocking(find).await??;
		let help = program.ask(&["-help", "-help-debug"])?;
		let known = |name: &str| help.lines().any(|line| line.trim().split(['=', ' ']).next() == Some(name));
		let options = OPTIONS_BY_NAME.iter().filter(|(name, _)| known(name)).map(|(_, option)| *option).collect();
		let dir = scratch.folder("bitcoind")?;
		let log = dir.join("output.log");
		scratch.log("bitcoind", &log);
		let port = free_port()?;
		let url = format!("http://127.0.0.1:{port}");
		let node = Bitcoind {
			program,
			dir,
			log,
			port,
			options,
			rpc: Rpc::new(&url, RPC_USER, RPC_PASSWORD),
			wallet: Rpc::new(format!("{url}/wallet/{WALLET}"), RPC_USER, RPC_PASSWORD),
			process: Mutex::new(None),
		};
		node.resume().await?;
		node.call("createwallet", json!({ "wallet_name": WALLET, "load_on_startup": true })).await?;
		node.mine(FIRST_BLOCKS).await?;
		Ok(node)
	}

	/// Starts it again on the same folder and port after [`Bitcoind::stop`] or [`Bitcoind::kill`].
	///
	/// # Errors
	/// It does not start, or is not ready in time.
	pub async fn resume(&self) -> Result<()> {
		let mut command = self.program.command();
		command
			.arg("-regtest")
			.arg(format!("-datadir={}", self.dir.display()))
			.arg("-conf=/dev/null")
			.arg(format!("-rpcport={}", self.port))
			.args(["-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1"])
			.arg(format!("-rpcauth={RPC_AUTH}"))
			.args(["-listen=0", "-dnsseed=0", "-fixedseeds=0", "-discover=0", "-natpmp=0", "-server=1", "-rest=1"])
			.args(["-txindex=1", "-fallbackfee=0.00002", "-rpcworkqueue=512", "-rpcthreads=8"])
			.args(["-dbcache=8", "-maxmempool=50", "-par=1", "-keypool=20", "-printtoconsole=1", "-nodebuglogfile"])
			.args(&self.options);
		let process = Process::start("bitcoind", &mut command, &self.log)?;
		let ready = eventually(START_LIMIT, "bitcoind answers", async || {
			if let Err(ended) = process.check_running() {
				return Ok(Some(Err(ended)));
			}
			Ok(self.rpc.call("getblockchaininfo", json!([])).await.map(|_| Some(Ok(())))?)
		});
		ready.await??;
		*self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
		Ok(())
	}

	/// Stops it in good order (its data stays) and waits until it is gone.
	///
	/// # Errors
	/// It does not run, or does not stop in time.
	pub async fn stop(&self) -> Result<()> {
		let process = self.take_process()?;
		process.terminate()?;
		process.wait(STOP_LIMIT).await?;
		Ok(())
	}

	/// Kills it as a power cut would.
	///
	/// # Errors
	/// It does not run.
	pub fn kill(&self) -> Result<()> {
		self.take_process()?.kill()
	}

	fn take_process(&self) -> Result<Process> {
		self.process.lock().unwrap_or_else(PoisonError::into_inner).take().context("bitcoind does not run")
	}

	/// Its process number.
	///
	/// # Errors
	/// It does not run.
	pub fn pid(&self) -> Result<u32> {
		let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
		Ok(process.as_ref().context("bitcoind does not run")?.pid())
	}

	/// What it is and where it was found, for people.
	pub fn describe(&self) -> String {
		format!("{} ({})", self.program.version, self.program.origin)
	}

	/// Its folder.
	pub fn dir(&self) -> &Path {
		&self.dir
	}

	/// Its RPC port on 127.0.0.1.
	pub fn port(&self) -> u16 {
		self.port
	}

	/// Its RPC address with user and password: `http://inlet:regtest@127.0.0.1:PORT`.
	pub fn url(&self) -> String {
		format!("http://{RPC_USER}:{RPC_PASSWORD}@127.0.0.1:{}", self.port)
	}

	/// The file with user and password of this run (they change at each start).
	pub fn cookie_file(&self) -> PathBuf {
		self.dir.join("regtest/.cookie")
	}

	/// A client for its JSON-RPC, to keep and clone.
	pub fn rpc(&self) -> Rpc {
		self.rpc.clone()
	}

	/// Calls a method of the node.
	///
	/// # Errors
	/// bitcoind is not there, or refuses.
	pub async fn call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
		self.rpc.call(method, params).await
	}

	/// Calls a method of its wallet.
	///
	/// # Errors
	/// bitcoind is not there, or refuses.
	pub async fn wallet_call(&self, method: &str, params: Value) -> Result<Value, RpcError> {
		self.wallet.call(method, params).await
	}

	/// Blocks on top of the first one.
	///
	/// # Errors
	/// bitcoind is not there.
	pub async fn height(&self) -> Result<u32> {
		let height = self.call("getblockcount", json!([])).await?;
		height.as_u64().and_then(|height| u32::try_from(height).ok()).context("getblockcount gives no number")
	}

	/// The tip's hash.
	///
	/// # Errors
	/// bitcoind is not there.
	pub async fn tip(&self) -> Result<String> {
		text(self.call("getbestblockhash", json!([])).await?)
	}

	/// Transactions in the mempool, by id.
	///
	/// # Errors
	/// bitcoind is not there.
	pub async fn mempool(&self) -> Result<Vec<String>> {
		Ok(serde_json::from_value(self.call("getrawmempool", json!([])).await?)?)
	}

	/// Waits until the mempool holds this transaction.
	///
	/// # Errors
	/// It does not come within `limit`.
	pub async fn wait_for_tx(&self, txid: &str, limit: Duration) -> Result<()> {
		let there = async || Ok(self.mempool().await?.iter().any(|id| id == txid).then_some(()));
		eventually(limit, &format!("transaction {txid} is in the mempool"), there).await
	}

	/// Waits until the mempool holds `count` transactions or more, and gives their ids.
	///
	/// # Errors
	/// They do not come within `limit`.
	pub async fn wait_for_mempool(&self, count: usize, limit: Duration) -> Result<Vec<String>> {
		let there = async || Ok(Some(self.mempool().await?).filter(|ids| ids.len() >= count));
		eventually(limit, &format!("{count} transactions are in the mempool"), there).await
	}

	/// A new address of its wallet.
	///
	/// # Errors
	/// bitcoind is not there.
	pub async fn address(&self) -> Result<String> {
		text(self.wallet_call("getnewaddress", json!([])).await?)
	}

	/// Mines `blocks` blocks (with what the mempool holds) to its wallet.
	///
	/// # Errors
	/// bitcoind is not there.
	pub async fn mine(&self, blocks: u32) -> Result<()> {
		let address = self.address().await?;
		self.call("generatetoaddress", json!([blocks, address])).await?;
		Ok(())
	}

	/// Sends from its wallet, unconfirmed; gives the transaction's id.
	///
	/// # Errors
	/// The address is wrong, or bitcoind is not there.
	pub async fn send(&self, address: &str, sat: u64) -> Result<String> {
		let btc = format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000);
		text(self.wallet_call("sendtoaddress", json!([address, btc])).await?)
	}

	/// Sends to each address in one transaction and mines it one confirmation deep.
	///
	/// # Errors
	/// An address is wrong, or bitcoind is not there.
	pub async fn fund(&self, outputs: &[(String, u64)]) -> Result<()> {
		let amounts: serde_json::Map<String, Value> = outputs
			.iter()
			.map(|(address, sat)| (address.clone(), json!(format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000))))
			.collect();
		self.wallet_call("sendmany", json!(["", amounts])).await?;
		self.mine(1).await
	}

	/// Writes all blocks to a file, in the form that bitcoind has on its disk and takes by `-loadblock`.
	///
	/// # Errors
	/// bitcoind is not there, or the file cannot be written.
	pub async fn save_chain(&self, to: &Path) -> Result<()> {
		let mut bytes = Vec::new();
		for height in 0..=self.height().await? {
			let hash = self.call("getblockhash", json!([height])).await?;
			let block = Vec::<u8>::from_hex(&text(self.call("getblock", json!([hash, 0])).await?)?)?;
			bytes.extend(Network::Regtest.magic().to_bytes());
			bytes.extend(u32::try_from(block.len())?.to_le_bytes());
			bytes.extend(block);
		}
		Ok(std::fs::write(to, bytes)?)
	}

	/// Gives it the blocks of [`Bitcoind::save_chain`], which become its chain if they are more than it has.
	///
	/// # Errors
	/// bitcoind is not there, the file is damaged, or its last block is not the tip afterwards.
	pub async fn load_chain(&self, from: &Path) -> Result<()> {
		let bytes = std::fs::read(from)?;
		let (mut rest, mut last) = (bytes.as_slice(), None);
		while let Some((head, more)) = rest.split_first_chunk::<8>() {
			let [_, _, _, _, length @ ..] = *head;
			let (block, after) =
				more.split_at_checked(u32::from_le_bytes(length) as usize).context("a block is cut off")?;
			self.call("submitblock", json!([block.to_lower_hex_string()])).await?;
			last = Some(bitcoin::consensus::deserialize::<Block>(block)?.block_hash().to_string());
			rest = after;
		}
		ensure!(
			rest.is_empty() && Some(self.tip().await?) == last,
			"the blocks in {} are not its chain",
			from.display()
		);
		Ok(())
	}

	/// A reorganisation: takes the last `depth` blocks away and mines `depth + 1` others. Their transactions are mined
	/// again if `keep` is true, else they are left in the mempool (and may be mined later).
	///
	/// # Errors
	/// bitcoind is not there, or has fewer blocks.
	pub async fn reorg(&self, depth: u32, keep: bool) -> Result<()> {
		let height = self.height().await?;
		if depth == 0 || depth >= height {
			bail!("cannot take {depth} of {height} blocks away");
		}
		let hash = text(self.call("getblockhash", json!([height - depth + 1])).await?)?;
		self.call("invalidateblock", json!([hash])).await?;
		if keep {
			return self.mine(depth + 1).await;
		}
		for _ in 0..=depth {
			self.mine_empty().await?;
		}
		Ok(())
	}

	/// Mines a block that leaves the mempool as it is.
	///
	/// # Errors
	/// bitcoind is not there.
	pub async fn mine_empty(&self) -> Result<()> {
		self.mine_only(&[]).await
	}

	/// Mines a block with these transactions, whatever is in the mempool.
	///
	/// # Errors
	/// bitcoind is not there, or they are not valid.
	pub async fn mine_only(&self, txs: &[&Transaction]) -> Result<()> {
		let txs: Vec<String> = txs.iter().map(|tx| serialize_hex(*tx)).collect();
		self.call("generateblock", json!([self.address().await?, txs])).await?;
		Ok(())
	}
}

fn text(value: Value) -> Result<String> {
	value.as_str().map(str::to_owned).with_context(|| format!("not a text: {value}"))
}
