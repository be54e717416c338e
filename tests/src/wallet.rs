//! A wallet that is not ours: a process around ldk-node (`tests/wallet`), driven by JSON lines.

use crate::artifacts::wallet_exe;
use crate::process::Process;
use crate::scratch::{Scratch, eventually, free_port};
use crate::thin::Identity;
use anyhow::{Context, Result, anyhow, bail};
use bitcoin::NetworkKind;
use bitcoin::bip32::Xpriv;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// What a wallet is to be.
#[derive(Clone, Debug, Default)]
pub struct WalletOptions {
	/// Name of its folder and its alias.
	pub name: String,
	/// Its chain backend: `--bitcoind URL` or `--esplora URL`.
	pub chain: Vec<String>,
	/// The LSP it buys from, `NODE_ID@HOST:PORT`: LSPS1, LSPS2, and trust in channels without confirmations.
	pub lsp: Option<String>,
	/// Other peers whose channels it takes without confirmations and without coins for their anchors.
	pub trust: Vec<String>,
	/// Keeps its state in memory only (so that its disk is not measured): it cannot be restarted.
	pub in_memory: bool,
	/// More arguments, see `tests/wallet/src/options.rs`.
	pub arguments: Vec<String>,
	/// More environment.
	pub environment: Vec<(String, String)>,
}

/// A running wallet; killed when dropped.
pub struct Wallet {
	options: WalletOptions,
	dir: PathBuf,
	listen: String,
	node_id: String,
	link: Mutex<Option<Arc<Link>>>,
}

/// The process and the two pipes to it.
struct Link {
	process: Process,
	stdin: Mutex<Option<ChildStdin>>,
	next_id: AtomicU64,
	waiting: Waiting,
	events: watch::Receiver<Vec<Event>>,
}

/// Commands that are not answered yet, by number. Never more than there are callers.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Value, String>>>>>;

/// Something happened to a wallet.
#[derive(Clone, Debug)]
pub struct Event {
	/// When we heard of it.
	pub at: Instant,
	/// What: `kind` and its fields, see `tests/wallet/src/view.rs`.
	pub what: Value,
}

impl Wallet {
	/// Starts one below `scratch`, listening on a free port.
	///
	/// # Errors
	/// It does not build or does not start.
	pub async fn start(scratch: &Scratch, options: WalletOptions) -> Result<Wallet> {
		let dir = scratch.folder(&options.name)?;
		scratch.log(&format!("{} (its errors)", options.name), &dir.join("stderr.log"));
		scratch.log(&options.name, &dir.join("wallet.log"));
		let listen = format!("127.0.0.1:{}", free_port()?);
		let mut wallet = Wallet { options, dir, listen, node_id: String::new(), link: Mutex::new(None) };
		wallet.node_id = wallet.resume().await?;
		Ok(wallet)
	}

	/// Starts it again on the same folder and port after [`Wallet::stop`] or [`Wallet::kill`]; gives its node id.
	///
	/// # Errors
	/// It does not start.
	pub async fn resume(&self) -> Result<String> {
		let exe = tokio::task::spawn_blocking(wallet_exe).await??;
		let mut command = Command::new(exe);
		command.arg("--dir").arg(&self.dir).args(&self.options.chain).args(["--listen", &self.listen]);
		command.args(["--alias", &self.options.name]);
		if let Some(lsp) = &self.options.lsp {
			command.args(["--lsps1", lsp, "--lsps2", lsp]);
		}
		for peer in &self.options.trust {
			command.args(["--trust", peer]);
		}
		if self.options.in_memory {
			command.args(["--store", "memory"]);
		}
		command.args(&self.options.arguments);
		command.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
		let log = self.dir.join("stderr.log");
		let (process, stdin, stdout) = Process::start_piped(&self.options.name, &mut command, &log)?;
		let (ready, node_id) = oneshot::channel();
		let (events_in, events) = watch::channel(Vec::new());
		let waiting = Waiting::default();
		let answers = Arc::clone(&waiting);
		// Detached: it ends when the process closes its standard output.
		std::thread::Builder::new().name(self.options.name.clone()).spawn(move || {
			read_lines(stdout, ready, &answers, &events_in);
			// Whoever still waits for an answer hears that there will be none.
			answers.lock().unwrap_or_else(PoisonError::into_inner).clear();
		})?;
		let node_id = match tokio::time::timeout(START_LIMIT, node_id).await {
			Ok(Ok(node_id)) => node_id,
			_ => bail!("{} does not start: {}", self.options.name, process.last_words()),
		};
		let stdin = Mutex::new(Some(stdin));
		let link = Link { process, stdin, next_id: AtomicU64::new(1), waiting, events };
		*self.slot() = Some(Arc::new(link));
		Ok(node_id)
	}

	fn slot(&self) -> MutexGuard<'_, Option<Arc<Link>>> {
		self.link.lock().unwrap_or_else(PoisonError::into_inner)
	}

	fn link(&self) -> Result<Arc<Link>> {
		self.slot().clone().with_context(|| format!("{} does not run", self.options.name))
	}

	/// Stops it in good order.
	///
	/// # Errors
	/// It does not run, or does not stop in time.
	pub async fn stop(&self) -> Result<()> {
		let link = self.slot().take().with_context(|| format!("{} does not run", self.options.name))?;
		// The end of its input makes it stop.
		drop(link.stdin.lock().unwrap_or_else(PoisonError::into_inner).take());
		link.process.wait(STOP_LIMIT).await?;
		Ok(())
	}

	/// Kills it as a power cut would.
	///
	/// # Errors
	/// It does not run.
	pub fn kill(&self) -> Result<()> {
		let link = self.slot().take().with_context(|| format!("{} does not run", self.options.name))?;
		link.process.kill()
	}

	/// Stops it in its tracks, connections and all, until [`Wallet::thaw`].
	///
	/// # Errors
	/// It does not run.
	pub fn freeze(&self) -> Result<()> {
		self.link()?.process.signal(Signal::STOP)
	}

	/// Lets it go on after [`Wallet::freeze`].
	///
	/// # Errors
	/// It does not run.
	pub fn thaw(&self) -> Result<()> {
		self.link()?.process.signal(Signal::CONT)
	}

	/// Its process number.
	///
	/// # Errors
	/// It does not run.
	pub fn pid(&self) -> Result<u32> {
		Ok(self.link()?.process.pid())
	}

	/// Its name.
	pub fn name(&self) -> &str {
		&self.options.name
	}

	/// Its node id.
	pub fn node_id(&self) -> &str {
		&self.node_id
	}

	/// Its secret, to speak in its name while it is away. Not while it has a channel: whoever comes back without knowing of it
	/// makes the peer close it.
	///
	/// # Errors
	/// Its seed cannot be read.
	pub fn identity(&self) -> Result<Identity> {
		let seed = std::fs::read(self.dir.join("keys_seed"))?;
		// As ldk-node does.
		Ok(Identity::of_seed(Xpriv::new_master(NetworkKind::Test, &seed)?.private_key.secret_bytes()))
	}

	/// Where others reach it: `NODE_ID@HOST:PORT`.
	pub fn uri(&self) -> String {
		format!("{}@{}", self.node_id, self.listen)
	}

	/// Runs a command (see `tests/wallet/src/commands.rs`) with the fields of `arguments`.
	///
	/// # Errors
	/// The wallet refuses, ends, or does not answer in time.
	pub async fn call(&self, command: &str, mut arguments: Value) -> Result<Value> {
		let link = self.link()?;
		let id = link.next_id.fetch_add(1, Ordering::Relaxed);
		arguments["id"] = json!(id);
		arguments["cmd"] = json!(command);
		let (answer, answered) = oneshot::channel();
		link.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, answer);
		{
			let mut stdin = link.stdin.lock().unwrap_or_else(PoisonError::into_inner);
			writeln!(stdin.as_mut().context("the wallet was told to stop")?, "{arguments}")?;
		}
		match tokio::time::timeout(CALL_LIMIT, answered).await {
			Ok(Ok(Ok(value))) => Ok(value),
			Ok(Ok(Err(refusal))) => Err(anyhow!("{}: {refusal}", self.options.name)),
			Ok(Err(_)) => bail!("{} ended: {}", self.options.name, link.process.last_words()),
			Err(_) => bail!("{} did not answer {command}", self.options.name),
		}
	}

	/// How many events there were since it was started: what to give to [`Wallet::event`] to see only later ones.
	///
	/// # Errors
	/// It does not run.
	pub fn mark(&self) -> Result<usize> {
		Ok(self.link()?.events.borrow().len())
	}

	/// Waits for the first event after `mark` that is of this kind and that `fits`, and gives it.
	///
	/// # Errors
	/// None comes within `limit`, or the wallet ends.
	pub async fn event(
		&self,
		mark: usize,
		kind: &str,
		limit: Duration,
		fits: impl Fn(&Value) -> bool,
	) -> Result<Event> {
		let mut events = self.link()?.events.clone();
		let fitting =
			|all: &Vec<Event>| all.iter().skip(mark).find(|e| e.what["kind"] == kind && fits(&e.what)).cloned();
		let waited = tokio::time::timeout(limit, events.wait_for(|all| fitting(all).is_some())).await;
		match waited {
			Ok(Ok(all)) => fitting(&all).context("the event was there a moment ago"),
			Ok(Err(_)) => bail!("{} ended while we waited for {kind}", self.options.name),
			Err(_) => bail!("{}: no {kind} within {} s", self.options.name, limit.as_secs()),
		}
	}

	/// A new on-chain address.
	///
	/// # Errors
	/// See [`Wallet::call`].
	pub async fn address(&self) -> Result<String> {
		text(&self.call("address", json!({})).await?, "address")
	}

	/// Has it look at the chain now; gives the height it then knows.
	///
	/// # Errors
	/// See [`Wallet::call`].
	pub async fn sync(&self) -> Result<u64> {
		number(&self.call("sync", json!({})).await?, "height")
	}

	/// Its balances, see `tests/wallet/src/view.rs`.
	///
	/// # Errors
	/// See [`Wallet::call`].
	pub async fn balances(&self) -> Result<Value> {
		self.call("balances", json!({})).await
	}

	/// What it owns in channels, in satoshis.
	///
	/// # Errors
	/// See [`Wallet::call`].
	pub async fn lightning_sat(&self) -> Result<u64> {
		number(&self.balances().await?, "lightning_sat")
	}

	/// What it owns on-chain, in satoshis.
	///
	/// # Errors
	/// See [`Wallet::call`].
	pub async fn onchain_sat(&self) -> Result<u64> {
		number(&self.balances().await?, "onchain_sat")
	}

	/// Its channels, see `tests/wallet/src/view.rs`.
	///
	/// # Errors
	/// See [`Wallet::call`].
	pub async fn channels(&self) -> Result<Vec<Value>> {
		array(self.call("channels", json!({})).await?)
	}

	/// Its payments, see `tests/wallet/src/view.rs`.
	///
	/// # Errors
	/// See [`Wallet::call`].
	pub async fn payments(&self) -> Result<Vec<Value>> {
		array(self.call("payments", json!({})).await?)
	}

	/// Connects to `NODE_ID@HOST:PORT`. Tries again for a while: a peer that still takes us for connected hangs up at first.
	///
	/// # Errors
	/// It cannot.
	pub async fn connect(&self, peer: &str) -> Result<()> {
		let connected = async || Ok(Some(self.call("connect", json!({ "peer": peer })).await?));
		eventually(CONNECT_LIMIT, &format!("{} connects to {peer}", self.options.name), connected).await.map(drop)
	}

	/// Opens a channel; gives its `user_channel_id`. It is usable once its transaction is mined deep enough.
	///
	/// # Errors
	/// See [`Wallet::call`].
	pub async fn open_channel(&self, peer: &str, sat: u64, announce: bool) -> Result<String> {
		let arguments = json!({ "peer": peer, "amount_sat": sat, "announce": announce });
		text(&self.call("open_channel", arguments).await?, "user_channel_id")
	}

	/// Waits until it has `count` channels that can be used.
	///
	/// # Errors
	/// It does not within `limit`.
	pub async fn usable_channels(&self, count: usize, limit: Duration) -> Result<()> {
		let usable = async || {
			let channels = self.channels().await?;
			Ok((channels.iter().filter(|channel| channel["usable"] == true).count() >= count).then_some(()))
		};
		eventually(limit, &format!("{} has {count} usable channels", self.options.name), usable).await
	}

	/// An invoice for this amount (`None`: for any).
	///
	/// # Errors
	/// See [`Wallet::call`].
	pub async fn invoice(&self, msat: Option<u64>) -> Result<Invoice> {
		Invoice::from_view(&self.call("invoice", json!({ "amount_msat": msat })).await?)
	}

	/// An invoice whose payment makes its LSP open a channel (LSPS2), for this amount (`None`: for any).
	///
	/// # Errors
	/// The LSP refuses, or see [`Wallet::call`].
	pub async fn jit_invoice(&self, msat: Option<u64>) -> Result<Invoice> {
		Invoice::from_view(&self.call("jit_invoice", json!({ "amount_msat": msat })).await?)
	}

	/// Begins to pay; gives the payment's id.
	///
	/// # Errors
	/// There is no route, or see [`Wallet::call`].
	pub async fn pay(&self, invoice: &Invoice, msat: Option<u64>) -> Result<String> {
		let arguments = json!({ "invoice": invoice.text, "amount_msat": msat });
		text(&self.call("pay", arguments).await?, "payment_id")
	}

	/// The same, as soon as there is a route: what others announced may not have reached this wallet yet, and what it
	/// received is its to spend only some messages later.
	///
	/// # Errors
	/// There is none within `limit`.
	pub async fn pay_soon(&self, invoice: &Invoice, limit: Duration) -> Result<String> {
		let sent = async || Ok(Some(self.pay(invoice, None).await?));
		match eventually(limit, &format!("{} finds a route", self.options.name), sent).await {
			Ok(id) => Ok(id),
			Err(error) => {
				let graph = self.call("graph", json!({})).await?;
				Err(error.context(format!("it knows {graph} and has {:?}", self.channels().await?)))
			}
		}
	}

	/// Waits until the payment to this hash has arrived here.
	///
	/// # Errors
	/// It does not within `limit`.
	pub async fn received(&self, invoice: &Invoice, limit: Duration) -> Result<Event> {
		self.event(0, "payment_received", limit, |event| event["payment_hash"] == invoice.hash.as_str()).await
	}

	/// Waits until the payment of this id is done, and gives the event.
	///
	/// # Errors
	/// It fails, or is not done within `limit`.
	pub async fn paid(&self, payment_id: &str, limit: Duration) -> Result<Event> {
		let done = self.event(0, "payment_successful", limit, |event| event["payment_id"] == payment_id);
		let failed = self.event(0, "payment_failed", limit, |event| event["payment_id"] == payment_id);
		tokio::select! {
			done = done => done,
			failed = failed => bail!("{}: the payment failed: {}", self.options.name, failed?.what["reason"]),
		}
	}

	/// Waits until the payment of this id has failed, and gives the event.
	///
	/// # Errors
	/// It is done, or has not failed within `limit`.
	pub async fn failed(&self, payment_id: &str, limit: Duration) -> Result<Event> {
		let done = self.event(0, "payment_successful", limit, |event| event["payment_id"] == payment_id);
		let failed = self.event(0, "payment_failed", limit, |event| event["payment_id"] == payment_id);
		tokio::select! {
			done = done => bail!("{}: the payment did not fail: {}", self.options.name, done?.what),
			failed = failed => failed,
		}
	}

	/// Orders a channel from its LSP (LSPS1), see `tests/wallet/src/view.rs`.
	///
	/// # Errors
	/// The LSP refuses, or see [`Wallet::call`].
	pub async fn order_channel(&self, lsp_sat: u64, client_sat: u64, expiry_blocks: u32) -> Result<Value> {
		let arguments =
			json!({ "lsp_balance_sat": lsp_sat, "client_balance_sat": client_sat, "expiry_blocks": expiry_blocks });
		self.call("lsps1_order", arguments).await
	}

	/// Sends on-chain; gives the transaction's id.
	///
	/// # Errors
	/// See [`Wallet::call`].
	pub async fn send(&self, address: &str, sat: u64) -> Result<String> {
		text(&self.call("send", json!({ "address": address, "amount_sat": sat })).await?, "txid")
	}
}

/// A BOLT 11 invoice.
#[derive(Clone, Debug)]
pub struct Invoice {
	/// The invoice.
	pub text: String,
	/// Its payment hash, hex.
	pub hash: String,
}

impl Invoice {
	/// From an answer with `invoice` and `payment_hash`.
	///
	/// # Errors
	/// One of them is missing.
	pub fn from_view(view: &Value) -> Result<Invoice> {
		Ok(Invoice { text: text(view, "invoice")?, hash: text(view, "payment_hash")? })
	}
}

/// A field that must be a text.
///
/// # Errors
/// It is missing or something else.
pub fn text(view: &Value, field: &str) -> Result<String> {
	view[field].as_str().map(str::to_owned).with_context(|| format!("{field} is no text in {view}"))
}

/// A field that must be a number from 0 up.
///
/// # Errors
/// It is missing or something else.
pub fn number(view: &Value, field: &str) -> Result<u64> {
	view[field].as_u64().with_context(|| format!("{field} is no number in {view}"))
}

fn array(value: Value) -> Result<Vec<Value>> {
	match value {
		Value::Array(items) => Ok(items),
		other => bail!("not a list: {other}"),
	}
}

fn read_lines(
	stdout: ChildStdout,
	ready: oneshot::Sender<String>,
	waiting: &Waiting,
	events: &watch::Sender<Vec<Event>>,
) {
	let mut ready = Some(ready);
	for line in BufReader::new(stdout).lines() {
		let Some(line) = line.ok().and_then(|line| serde_json::from_str::<Value>(&line).ok()) else {
			// Cut off by a kill.
			return;
		};
		if let Some(what) = line.get("event") {
			let event = Event { at: Instant::now(), what: what.clone() };
			events.send_modify(|all| all.push(event));
		} else if let Some(node_id) = line["ready"]["node_id"].as_str() {
			if let Some(ready) = ready.take() {
				// Nobody waits for it if its start took too long.
				let _ = ready.send(node_id.to_owned());
			}
		} else if let Some(id) = line["id"].as_u64() {
			let answer = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
			let outcome = match line.get("ok") {
				Some(ok) => Ok(ok.clone()),
				None => Err(line["error"].as_str().unwrap_or("no reason").to_owned()),
			};
			if let Some(answer) = answer {
				// Nobody waits for it if it took too long.
				let _ = answer.send(outcome);
			}
		}
	}
}
