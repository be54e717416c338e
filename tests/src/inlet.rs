//! Inlet as its own process, asked and told through its command line.

use crate::artifacts::inlet_exe;
use crate::process::Process;
use crate::scratch::{Scratch, eventually, free_port};
use crate::wallet::{Wallet, text};
use crate::world::SOON;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How long what is being settled at the end of a scenario may take to be booked and moved.
const BOOKS_LIMIT_SECS: &str = "30";
const COMMAND_LIMIT: Duration = Duration::from_secs(90);

/// The wallet makes coins for the anchor reserve by itself up to this feerate. Unless a scenario sets it or takes it away it does not:
/// most scenarios count what is in the mempool.
pub const COINS_FEERATE: &str = "INLET_CAPITAL_COINS_FEERATE_SAT_PER_VB";

/// What an LSP is to be.
#[derive(Clone, Debug, Default)]
pub struct InletOptions {
	/// Its chain backend, as `--chain` wants it: `bitcoind:URL` or `esplora:URL[,URL...]`.
	pub chain: String,
	/// Its `inlet.toml`, written before the first start; it writes its own if this is empty.
	pub config: String,
	/// Commands before the first start, each with its arguments after a space.
	pub before: Vec<String>,
	/// More arguments for `inlet run`.
	pub arguments: Vec<String>,
	/// More environment for `inlet run`.
	pub environment: Vec<(String, String)>,
}

/// What a command of the `inlet` binary said.
#[derive(Clone, Debug)]
pub struct Said {
	/// Its exit code; `None` if a signal ended it.
	pub code: Option<i32>,
	/// Its standard output.
	pub out: String,
	/// Its standard error.
	pub err: String,
}

impl Said {
	/// Its standard output as JSON.
	///
	/// # Errors
	/// It failed, or said something else.
	pub fn json(&self) -> Result<Value> {
		if self.code != Some(0) {
			bail!("inlet failed with code {:?}: {}{}", self.code, self.err, self.out);
		}
		serde_json::from_str(&self.out).with_context(|| format!("not JSON: {}", self.out))
	}
}

/// A running LSP; killed when dropped.
pub struct Inlet {
	exe: PathBuf,
	options: InletOptions,
	data_dir: PathBuf,
	log: PathBuf,
	listen: String,
	node_id: String,
	process: Mutex<Option<Process>>,
	crash_at: Mutex<Option<String>>,
	troubles: Arc<Mutex<Vec<String>>>,
}

impl Inlet {
	/// Starts one on regtest below `scratch`, listening on a free port, and waits until it is in step with its chain.
	///
	/// # Errors
	/// It does not build, does not start, or is not ready in time.
	pub async fn start(scratch: &Scratch, options: InletOptions) -> Result<Inlet> {
		let mut inlet = Inlet::prepare(scratch, options).await?;
		for command in &inlet.options.before {
			let said = inlet.say(&command.split(' ').collect::<Vec<_>>()).await?;
			if said.code != Some(0) {
				bail!("inlet {command} failed: {}{}", said.err, said.out);
			}
		}
		inlet.launch()?;
		inlet.node_id = inlet.ready(START_LIMIT).await?;
		Ok(inlet)
	}

	/// Everything but the start: for those who want to see it fail.
	///
	/// # Errors
	/// It does not build.
	pub async fn prepare(scratch: &Scratch, mut options: InletOptions) -> Result<Inlet> {
		if options.environment.iter().all(|(name, _)| name != COINS_FEERATE) {
			options.environment.push((COINS_FEERATE.to_owned(), "0".to_owned()));
		}
		let exe = tokio::task::spawn_blocking(inlet_exe).await??;
		let dir = scratch.folder("lsp")?;
		let (data_dir, log) = (dir.join("data"), dir.join("output.log"));
		scratch.log("lsp", &log);
		if !options.config.is_empty() {
			// As its own first start would: only for its user.
			std::fs::create_dir(&data_dir)?;
			std::fs::set_permissions(&data_dir, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
			std::fs::write(data_dir.join("inlet.toml"), &options.config)?;
		}
		let listen = format!("127.0.0.1:{}", free_port()?);
		Ok(Inlet {
			exe,
			options,
			data_dir,
			log,
			listen,
			node_id: String::new(),
			process: Mutex::new(None),
			crash_at: Mutex::new(None),
			troubles: scratch.troubles(),
		})
	}

	/// Another data directory with this one's seed and options, for a node that stands by for it and takes its address over.
	///
	/// # Errors
	/// There is no seed yet.
	pub async fn standby(&self, scratch: &Scratch) -> Result<Inlet> {
		let mut other = Inlet::prepare(scratch, self.options.clone()).await?;
		std::fs::copy(self.data_dir.join("seed"), other.data_dir.join("seed")).context("no seed to copy")?;
		other.listen.clone_from(&self.listen);
		other.node_id.clone_from(&self.node_id);
		other.stand_by();
		Ok(other)
	}

	/// From its next start on, it stands by.
	pub fn stand_by(&mut self) {
		self.options.arguments.push("--standby".to_owned());
	}

	/// From its next start on, it listens on another port.
	///
	/// # Errors
	/// There is none.
	pub fn use_another_port(&mut self) -> Result<()> {
		self.listen = format!("127.0.0.1:{}", free_port()?);
		Ok(())
	}

	/// Stops its process, so that it does nothing at all (SIGSTOP), or lets it go on.
	///
	/// # Errors
	/// It does not run.
	pub fn freeze(&self, frozen: bool) -> Result<()> {
		let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
		let signal = if frozen { Signal::STOP } else { Signal::CONT };
		process.as_ref().context("inlet does not run")?.signal(signal)
	}

	/// `inlet run` with the arguments of this LSP.
	pub fn run_command(&self) -> Command {
		let mut command = Command::new(&self.exe);
		for variable in inlet_variables() {
			command.env_remove(variable);
		}
		command
			.args(["run", "--data-dir"])
			.arg(&self.data_dir)
			.args(["--network", "regtest", "--listen", &self.listen, "--chain", &self.options.chain])
			.args(&self.options.arguments)
			.envs(self.options.environment.iter().map(|(name, value)| (name, value)));
		if let Some(point) = &*self.crash_at.lock().unwrap_or_else(PoisonError::into_inner) {
			command.env("INLET_TEST_CRASH_AT", point);
		}
		command
	}

	/// From its next start on, this variable is in its environment with this value, or not at all.
	pub fn set(&mut self, variable: &str, value: Option<&str>) {
		let environment = &mut self.options.environment;
		environment.retain(|(name, _)| name != variable);
		environment.extend(value.map(|value| (variable.to_owned(), value.to_owned())));
	}

	/// From its next start on, it uses this chain backend (as `--chain` wants it).
	pub fn use_chain(&mut self, chain: String) {
		self.options.chain = chain;
	}

	/// From now on, it is the node in this data directory.
	pub fn use_data_dir(&mut self, data_dir: PathBuf) {
		self.data_dir = data_dir;
	}

	/// From its next start on, it kills itself at this point (see `node/src/crash.rs`).
	pub fn crash_at(&self, point: Option<&str>) {
		*self.crash_at.lock().unwrap_or_else(PoisonError::into_inner) = point.map(str::to_owned);
	}

	/// Starts the process, without waiting for it to be ready.
	///
	/// # Errors
	/// It cannot be started.
	pub fn launch(&self) -> Result<()> {
		let process = Process::start("inlet", &mut self.run_command(), &self.log)?;
		*self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
		Ok(())
	}

	/// Waits until it answers and is in step with its chain; gives its node id.
	///
	/// # Errors
	/// It ends, or is not ready within `limit`.
	pub async fn ready(&self, limit: Duration) -> Result<String> {
		let ready = eventually(limit, "inlet answers and is synced", async || {
			if let Err(ended) = self.check_running() {
				return Ok(Some(Err(ended)));
			}
			let info = self.info().await?;
			Ok(if info["synced"] == true { Some(text(&info, "node_id")) } else { None })
		});
		ready.await.with_context(|| format!("its last words:\n{}", self.last_words()))?
	}

	/// Starts it again on the same data and port after [`Inlet::stop`] or [`Inlet::kill`], and waits until it is ready.
	///
	/// # Errors
	/// It does not start, or is another node now.
	pub async fn resume(&self) -> Result<()> {
		self.launch()?;
		let node_id = self.ready(START_LIMIT).await?;
		if node_id != self.node_id {
			bail!("it was {} and is now {node_id}", self.node_id);
		}
		Ok(())
	}

	/// Sends SIGTERM and waits until it ends.
	///
	/// # Errors
	/// It does not run, does not end in time, or ends with anything but 0.
	pub async fn stop(&self) -> Result<()> {
		let process = self.take_process()?;
		process.terminate()?;
		let status = process.wait(STOP_LIMIT).await?;
		if !status.success() {
			bail!("inlet ended with {status}: {}", process.last_words());
		}
		Ok(())
	}

	/// Kills it as a power cut would.
	///
	/// # Errors
	/// It does not run.
	pub fn kill(&self) -> Result<()> {
		self.take_process()?.kill()
	}

	/// Waits until it ends by itself.
	///
	/// # Errors
	/// It does not run, or still runs after `limit`.
	pub async fn ended(&self, limit: Duration) -> Result<ExitStatus> {
		self.take_process()?.wait(limit).await
	}

	/// Fails, with its last words, if it has ended.
	///
	/// # Errors
	/// It has ended.
	pub fn check_running(&self) -> Result<()> {
		let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
		process.as_ref().context("inlet does not run")?.check_running()
	}

	/// Its process number.
	///
	/// # Errors
	/// It does not run.
	pub fn pid(&self) -> Result<u32> {
		let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
		Ok(process.as_ref().context("inlet does not run")?.pid())
	}

	/// Its log so far, over all starts.
	pub fn log_text(&self) -> String {
		String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
	}

	fn last_words(&self) -> String {
		let text = self.log_text();
		let lines: Vec<&str> = text.lines().collect();
		lines[lines.len().saturating_sub(20)..].join("\n")
	}

	fn take_process(&self) -> Result<Process> {
		self.process.lock().unwrap_or_else(PoisonError::into_inner).take().context("inlet does not run")
	}

	/// Its binary.
	pub fn exe(&self) -> &Path {
		&self.exe
	}

	/// Its chain backend, as `--chain` wants it.
	pub fn chain(&self) -> &str {
		&self.options.chain
	}

	/// Its data directory.
	pub fn data_dir(&self) -> &Path {
		&self.data_dir
	}

	/// Its node id.
	pub fn node_id(&self) -> &str {
		&self.node_id
	}

	/// Where others reach it: `NODE_ID@HOST:PORT`.
	pub fn uri(&self) -> String {
		format!("{}@{}", self.node_id, self.listen)
	}

	/// Runs `inlet --data-dir D ARGUMENTS` and gives what it said.
	///
	/// # Errors
	/// It cannot be run, or takes too long.
	pub async fn say(&self, arguments: &[&str]) -> Result<Said> {
		let mut command = tokio::process::Command::new(&self.exe);
		command.arg("--data-dir").arg(&self.data_dir);
		self.run(command, arguments).await
	}

	async fn run(&self, mut command: tokio::process::Command, arguments: &[&str]) -> Result<Said> {
		for variable in inlet_variables() {
			command.env_remove(variable);
		}
		command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
		let output = tokio::time::timeout(COMMAND_LIMIT, command.output()).await;
		let output = output.with_context(|| format!("inlet {} takes too long", arguments.join(" ")))??;
		Ok(Said {
			code: output.status.code(),
			out: String::from_utf8_lossy(&output.stdout).into_owned(),
			err: String::from_utf8_lossy(&output.stderr).into_owned(),
		})
	}

	/// Runs `inlet ARGUMENTS`, which name a data directory themselves, and gives what it said.
	///
	/// # Errors
	/// It cannot be run, or takes too long.
	pub async fn say_anywhere(&self, arguments: &[&str]) -> Result<Said> {
		self.run(tokio::process::Command::new(&self.exe), arguments).await
	}

	/// Runs `inlet --data-dir D --json ARGUMENTS` and gives what it answered.
	///
	/// # Errors
	/// It failed; the error holds what it said.
	pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
		let mut all = vec!["--json"];
		all.extend(arguments);
		self.say(&all).await?.json().with_context(|| format!("inlet {}", arguments.join(" ")))
	}

	/// `inlet info`.
	///
	/// # Errors
	/// See [`Inlet::json`].
	pub async fn info(&self) -> Result<Value> {
		self.json(&["info"]).await
	}

	/// `inlet balance`.
	///
	/// # Errors
	/// See [`Inlet::json`].
	pub async fn balance(&self) -> Result<Value> {
		self.json(&["balance"]).await
	}

	/// A new on-chain address.
	///
	/// # Errors
	/// See [`Inlet::json`].
	pub async fn address(&self) -> Result<String> {
		text(&self.json(&["address"]).await?, "address")
	}

	/// `inlet peers connect`.
	///
	/// # Errors
	/// See [`Inlet::json`].
	pub async fn connect(&self, peer: &str) -> Result<Value> {
		self.json(&["peers", "connect", peer]).await
	}

	/// The rows of `inlet NOUN list` (the first page: more than any scenario has).
	///
	/// # Errors
	/// See [`Inlet::json`].
	pub async fn list(&self, noun: &str) -> Result<Vec<Value>> {
		let page = self.json(&[noun, "list"]).await?;
		page[noun].as_array().cloned().with_context(|| format!("no {noun} in {page}"))
	}

	/// `inlet channels list`.
	///
	/// # Errors
	/// See [`Inlet::json`].
	pub async fn channels(&self) -> Result<Vec<Value>> {
		self.list("channels").await
	}

	/// `inlet ledger`: `entries`, `totals` and `net_msat`.
	///
	/// # Errors
	/// See [`Inlet::json`].
	pub async fn ledger(&self) -> Result<Value> {
		self.json(&["ledger"]).await
	}

	/// `inlet sales show ID`.
	///
	/// # Errors
	/// See [`Inlet::json`].
	pub async fn sale(&self, id: &str) -> Result<Value> {
		self.json(&["sales", "show", id]).await
	}

	/// `inlet orders show ID`.
	///
	/// # Errors
	/// See [`Inlet::json`].
	pub async fn order(&self, id: &str) -> Result<Value> {
		self.json(&["orders", "show", id]).await
	}

	/// Waits until the order of this id has this status, and gives it.
	///
	/// # Errors
	/// It has not within `limit`; the error holds the order as it stands.
	pub async fn order_is(&self, id: &str, status: &str, limit: Duration) -> Result<Value> {
		let reached = async || Ok(Some(self.order(id).await?).filter(|order| order["status"] == status));
		match eventually(limit, &format!("order {id} is {status}"), reached).await {
			Ok(order) => Ok(order),
			Err(error) => Err(error.context(format!("{}", self.order(id).await.unwrap_or_default()))),
		}
	}

	/// Waits until there are `count` sales of this status, and gives them.
	///
	/// # Errors
	/// There are not within `limit`; the error holds all sales as they stand.
	pub async fn sales_are(&self, count: usize, status: &str, limit: Duration) -> Result<Vec<Value>> {
		let reached = async || {
			let sales = self.list("sales").await?;
			let fitting: Vec<Value> = sales.into_iter().filter(|sale| sale["status"] == status).collect();
			Ok((fitting.len() == count).then_some(fitting))
		};
		match eventually(limit, &format!("{count} sales are {status}"), reached).await {
			Ok(sales) => Ok(sales),
			Err(error) => Err(error.context(format!("{:?}", self.list("sales").await.unwrap_or_default()))),
		}
	}

	/// Waits until it knows whether this wallet is connected.
	///
	/// # Errors
	/// It does not in time.
	pub async fn sees(&self, wallet: &Wallet, connected: bool) -> Result<()> {
		let seen = async || {
			let peers = self.list("peers").await?;
			let found = peers.iter().find(|peer| peer["node_id"] == wallet.node_id());
			Ok((found.is_some_and(|peer| peer["connected"] == true) == connected).then_some(()))
		};
		eventually(SOON, &format!("the LSP sees that {} is connected: {connected}", wallet.name()), seen).await
	}

	/// Waits until it knows this height and is in step.
	///
	/// # Errors
	/// It does not within `limit`.
	pub async fn at_height(&self, height: u32, limit: Duration) -> Result<()> {
		let there = async || {
			let info = self.info().await?;
			Ok((info["synced"] == true && info["block_height"] == height).then_some(()))
		};
		eventually(limit, &format!("inlet is at height {height}"), there).await
	}
}

/// At the end of every scenario the books of the LSP say to the millisatoshi what LDK and BDK say, if it still runs.
impl Drop for Inlet {
	fn drop(&mut self) {
		if std::thread::panicking() || self.node_id.is_empty() || self.check_running().is_err() {
			return;
		}
		let mut command = Command::new(&self.exe);
		for variable in inlet_variables() {
			command.env_remove(variable);
		}
		command.arg("--data-dir").arg(&self.data_dir).args(["ledger", "check", "--wait", BOOKS_LIMIT_SECS]);
		let trouble = match command.stdin(Stdio::null()).output() {
			Ok(output) if output.status.success() => return,
			Ok(output) => {
				let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
				format!("the LSP's books at the end of the scenario: {}{}", said[0], said[1])
			}
			Err(error) => format!("the LSP's books cannot be looked at: {error}"),
		};
		self.troubles.lock().unwrap_or_else(PoisonError::into_inner).push(trouble);
	}
}

/// Settings for `inlet` in the environment of the tests: no scenario is to depend on them.
fn inlet_variables() -> impl Iterator<Item = std::ffi::OsString> {
	std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("INLET_"))
}
