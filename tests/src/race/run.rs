//! The order of the race: both LSPs stand by; each section is run with the one and then with the other, round by round.

use super::crowd::{Crowd, Kind};
use super::forward::forward;
use super::jit::Sales;
use super::life;
use super::lsp::Lsp;
use super::meter::{Interposer, cpu_ms, machine_ms, sync_latency_ms};
use super::options::Options;
use super::report::{Report, Sample, Section};
use crate::{Bitcoind, Scratch, inlet_exe, use_profiles, wallet_exe};
use anyhow::Result;
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

/// Blocks before everything.
const PAST: u32 = 500;
/// For more channels than these there are so many times as many: more than the 4,320 of a month.
const FEW_CHANNELS: usize = 1_000;
const MANY: u32 = 10;

/// Sales at once, at most: the LSP has to have the coins.
const SALES_AT_ONCE: usize = 20;

/// One LSP and its clients.
struct Runner {
	lsp: Lsp,
	crowd: Crowd,
}

/// A set of clients and a number of channels.
struct Heat<'a> {
	options: &'a Options,
	kind: Kind,
	channels: usize,
	chain: &'a Bitcoind,
	scratch: &'a Scratch,
	runners: Vec<Runner>,
	report: Report,
	/// Processor time that was used by nobody whom we know, as a share of the machine, per sample.
	others: Vec<f64>,
}

/// Runs it all; prints tables and writes the JSON file.
///
/// # Errors
/// Something does not build, or start, or a payment fails.
pub async fn run(options: &Options) -> Result<()> {
	use_profiles(&options.profile, "release");
	let (inlet, wallet) = tokio::task::spawn_blocking(|| anyhow::Ok((inlet_exe()?, wallet_exe()?))).await??;
	let (begun, mut report, mut others) = (Instant::now(), Report::default(), Vec::new());
	let mut latency = Vec::new();
	for kind in &options.clients {
		for channels in &options.channels {
			let scratch = Scratch::new()?;
			latency.push(sync_latency_ms(scratch.path())?);
			let chain = Bitcoind::start(&scratch).await?;
			// LDK chooses SCIDs for sales, and aliases of channels, among those of blocks that are over a month old: 2,500 of each.
			for _ in 0..if *channels > FEW_CHANNELS { MANY } else { 1 } {
				chain.mine(PAST).await?;
			}
			let done = heat(options, *kind, *channels, &chain, &scratch).await;
			let done = done.inspect_err(|_| scratch.keep())?;
			report.samples.extend(done.report.samples);
			others.extend(done.others);
			latency.push(sync_latency_ms(scratch.path())?);
		}
	}
	others.sort_by(f64::total_cmp);
	latency.sort_by(f64::total_cmp);
	let mut conditions = conditions(options, &inlet, &wallet);
	conditions["sync_latency_ms"] = json!(latency[latency.len() / 2]);
	conditions["others_cpu_share"] = json!(others.get(others.len() / 2));
	conditions["took_s"] = json!(begun.elapsed().as_secs());
	println!("{}", report.tables());
	println!("{}", serde_json::to_string_pretty(&conditions)?);
	if let Some(file) = &options.json {
		std::fs::write(file, serde_json::to_string_pretty(&report.json(&conditions))?)?;
	}
	Ok(())
}

async fn heat<'a>(
	options: &'a Options,
	kind: Kind,
	channels: usize,
	chain: &'a Bitcoind,
	scratch: &'a Scratch,
) -> Result<Heat<'a>> {
	let (library, mut runners) = (Interposer::build(scratch.path())?, Vec::new());
	for name in ["inlet", "ldk-node"] {
		if options.only.as_deref().is_none_or(|only| only == name) {
			let lsp = Lsp::start(name, scratch, &library, chain).await?;
			lsp.fund(chain).await?;
			let crowd = Crowd::gather(kind, (channels, options.per_node), &lsp, chain, scratch).await?;
			runners.push(Runner { lsp, crowd });
		}
	}
	let (report, others) = (Report::default(), Vec::new());
	let mut heat = Heat { options, kind, channels, chain, scratch, runners, report, others };
	for round in 1..=options.rounds {
		heat.round(round).await?;
	}
	// Last: every sale leaves a channel behind.
	for round in 1..=options.rounds {
		heat.sales(round).await?;
	}
	Ok(heat)
}

impl Heat<'_> {
	async fn round(&mut self, round: usize) -> Result<()> {
		let options = self.options;
		if options.wants("start") {
			self.each(round, Duration::ZERO, "start", async |heat, runner, sample| {
				life::restart(&runner.lsp, &runner.crowd, sample).await?;
				runner.lsp.in_step(heat.chain).await?;
				runner.lsp.quiet().await?;
				life::memory(&runner.lsp, "idle", sample)
			})
			.await?;
		}
		for disk in &options.disk {
			let slow = !disk.is_zero();
			if options.wants("forward") {
				for at_once in &options.concurrency {
					let what = format!("forward, {at_once} at once");
					self.each(round, *disk, &what, async |_, runner, sample| {
						forward(&runner.lsp, &runner.crowd, *at_once, options.payments, slow, sample).await?;
						life::memory(&runner.lsp, "then", sample)
					})
					.await?;
				}
			}
		}
		if options.wants("start") {
			self.each(round, Duration::ZERO, "1,000 blocks later", async |heat, runner, sample| {
				life::catch_up(&runner.lsp, &runner.crowd, heat.chain, sample).await
			})
			.await?;
		}
		if options.wants("blocks") {
			self.each(round, Duration::ZERO, "a block", async |heat, runner, sample| {
				life::blocks(&runner.lsp, heat.chain, sample).await
			})
			.await?;
		}
		if options.wants("idle") {
			self.each(round, Duration::ZERO, "idle", async |_, runner, sample| {
				life::idle(&runner.lsp, options.idle, sample).await
			})
			.await?;
		}
		Ok(())
	}

	async fn sales(&mut self, round: usize) -> Result<()> {
		let options = self.options;
		let many = (options.sales * 4).min(SALES_AT_ONCE);
		for disk in options.disk.iter().filter(|_| options.wants("jit")) {
			for (count, at_once) in [(options.sales, false), (many, true)] {
				let what = format!("sale, {} at once", if at_once { count } else { 1 });
				self.each(round, *disk, &what, async |heat, runner, sample| {
					let (lsp, crowd) = (&runner.lsp, &runner.crowd);
					let sales = Sales { lsp, crowd, kind: heat.kind, chain: heat.chain, scratch: heat.scratch };
					sales.sell(count, at_once, sample).await
				})
				.await?;
			}
		}
		Ok(())
	}

	/// Has both do it, the first one last in the next round.
	async fn each(
		&mut self,
		round: usize,
		disk: Duration,
		what: &str,
		act: impl AsyncFn(&Heat<'_>, &Runner, &mut Sample) -> Result<()>,
	) -> Result<()> {
		let mut order: Vec<usize> = (0..self.runners.len()).collect();
		if round.is_multiple_of(2) {
			order.reverse();
		}
		for at in order {
			let runner = &self.runners[at];
			let disk_ms = u64::try_from(disk.as_millis())?;
			let section =
				Section { clients: self.kind.name(), channels: self.channels, disk_ms, what: what.to_owned() };
			let mut sample = Sample { section, lsp: runner.lsp.name, round, values: Vec::new() };
			let others: Vec<u32> =
				[std::process::id(), self.chain.pid()?].into_iter().chain(runner.crowd.pids()).collect();
			runner.lsp.slow_down(disk, &others)?;
			let before = (machine_ms()?, self.known_ms());
			act(self, runner, &mut sample).await?;
			let after = (machine_ms()?, self.known_ms());
			runner.lsp.slow_down(Duration::ZERO, &others)?;
			let (busy, all) = (after.0.0 - before.0.0, after.0.1 - before.0.1);
			// What has ended meanwhile is not counted as known.
			let share = ((busy - (after.1 - before.1)) / all).clamp(0.0, 1.0);
			eprintln!("{}, {} ms, round {round}: {what}: {}", runner.lsp.name, disk_ms, values(&sample));
			self.others.push(share);
			self.report.samples.push(sample);
		}
		Ok(())
	}

	/// Processor time of all that belongs to the race.
	fn known_ms(&self) -> f64 {
		let lsps = self.runners.iter().filter_map(|runner| runner.lsp.pid().ok());
		let wallets = self.runners.iter().flat_map(|runner| runner.crowd.pids());
		let own = [Some(std::process::id()), self.chain.pid().ok()].into_iter().flatten();
		lsps.chain(wallets).chain(own).filter_map(|pid| cpu_ms(pid).ok()).sum()
	}
}

fn values(sample: &Sample) -> String {
	sample.values.iter().map(|(name, value)| format!("{name} {value:.2}")).collect::<Vec<_>>().join(", ")
}

/// What it ran on and with.
fn conditions(options: &Options, inlet: &std::path::Path, wallet: &std::path::Path) -> Value {
	let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
	let processor = read("/proc/cpuinfo");
	let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
	let size = |path: &std::path::Path| std::fs::metadata(path).map(|found| found.len()).unwrap_or_default();
	let version = Command::new(inlet).arg("--version").output().map(|said| said.stdout).unwrap_or_default();
	json!({
		"inlet": String::from_utf8_lossy(&version).trim(),
		"inlet_profile": std::env::var_os("INLET_EXE").map_or(options.profile.as_str(), |_| "given by INLET_EXE"),
		"inlet_exe": inlet,
		"inlet_bytes": size(inlet),
		"peer": "ldk-node 0.7.1, release",
		"peer_bytes": size(wallet),
		"processor": processor.map(|(_, name)| name.trim()),
		"cores": std::thread::available_parallelism().map(usize::from).ok(),
		"kernel": read("/proc/sys/kernel/osrelease").trim(),
		"load": read("/proc/loadavg").trim(),
		"rounds": options.rounds,
	})
}
