//! Does LDK start with it? Tried on a copy, in a process of its own: LDK ends the process that it is in when its state does not
//! fit together.

use super::{DAMAGED, Findings};
use crate::config::{Config, Gossip, Overrides, Place, network_name};
use crate::control::DoctorCheck;
use crate::lightning::Lightning;
use crate::lightning::build::Parts;
use crate::onchain::{Broadcaster, ChainSight, Fees, ReservePolicy, Wallet, chain_sight};
use crate::run::{STORE_FILE, chain_config};
use crate::seed::{FILE_NAME, Seed};
use bitcoin::constants::genesis_block;
use inlet_storage::{Inspection, Store, free_bytes};
use lightning::chain::BlockLocator;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

/// Where the copy is made, below the data directory.
const SCRATCH: &str = "doctor-scratch";
/// So much more than the copy has to be free.
const MARGIN_BYTES: u64 = 64_000_000;

/// The directory of the copy, which goes when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
	fn new(dir: &Path) -> std::io::Result<Scratch> {
		let scratch = Scratch(dir.join(SCRATCH));
		// One that an earlier look left behind when it was killed.
		match std::fs::remove_dir_all(&scratch.0) {
			Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
			_ => {}
		}
		std::fs::DirBuilder::new().mode(0o700).create(&scratch.0)?;
		Ok(scratch)
	}
}

impl Drop for Scratch {
	fn drop(&mut self) {
		// What is left of it is removed by the next look.
		drop(std::fs::remove_dir_all(&self.0));
	}
}

/// Copies the store and has a process try it.
pub(super) async fn run(findings: &mut Findings, store: Inspection, exe: &Path, place: &Place) {
	let needed = store.bytes().saturating_add(MARGIN_BYTES);
	if free_bytes(&place.data_dir).is_some_and(|free| free < needed) {
		let advice = "free space on the disk, and look again";
		findings.warn("start", "there is no room for the copy on which a start is tried", advice);
		return;
	}
	let copied = Scratch::new(&place.data_dir).and_then(|scratch| {
		store.copy_to(&scratch.0.join(STORE_FILE))?;
		Ok(scratch)
	});
	let scratch = match copied {
		Ok(scratch) => scratch,
		Err(e) => return findings.warn("start", format!("the store cannot be copied: {e}"), "check the disk"),
	};
	let mut command = tokio::process::Command::new(exe);
	command.arg("--data-dir").arg(&place.data_dir).args([
		"--network",
		network_name(place.network),
		"doctor",
		"--trial",
	]);
	let out = command.arg(&scratch.0).stdin(Stdio::null()).kill_on_drop(true).output().await;
	let out = match out {
		Ok(out) => out,
		Err(e) => return findings.warn("start", format!("the trial cannot be run: {e}"), "look again"),
	};
	match serde_json::from_slice::<Vec<DoctorCheck>>(&out.stdout) {
		Ok(checks) if out.status.success() => findings.0.extend(checks),
		_ => {
			let said = String::from_utf8_lossy(&out.stderr);
			let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned();
			findings.bad("start", format!("LDK does not start with this state; its last words: {last}"), DAMAGED);
		}
	}
}

/// Starts LDK on the copy in `scratch`, as the node would, but for the peers and the chain; then compares the wallet with the
/// chain. What was found is JSON on standard output.
///
/// # Errors
/// The configuration is wrong, or the seed.
pub async fn trial(flags: &Overrides, scratch: &Path) -> anyhow::Result<()> {
	let config = Config::load(flags, std::env::vars_os())?;
	let mut findings = Findings::default();
	if let Some(wallet) = start(&mut findings, &config, scratch).await {
		chain(&mut findings, &config, &wallet).await;
	}
	println!("{}", serde_json::to_string(&findings.0)?);
	Ok(())
}

async fn start(findings: &mut Findings, config: &Config, scratch: &Path) -> Option<Arc<Wallet>> {
	match built(config, scratch).await {
		Ok(started) => {
			findings.ok("start", format!("LDK starts with this state; {} channels", started.channels));
			Some(started.wallet)
		}
		Err(e) => {
			findings.bad("start", format!("{e:#}"), DAMAGED);
			None
		}
	}
}

/// A node that LDK has started with, and that goes no further.
pub(super) struct Started {
	pub wallet: Arc<Wallet>,
	pub channels: usize,
}

pub(super) async fn built(config: &Config, scratch: &Path) -> anyhow::Result<Started> {
	let network = config.node.network;
	let seed = Seed::load(&config.place.data_dir.join(FILE_NAME))?;
	let store = Store::open(&scratch.join(STORE_FILE), inlet_storage::abort)?;
	let (fees, broadcaster) = (Arc::new(Fees::new(network)), Broadcaster::open(store.clone()).await?);
	let wallet =
		Wallet::open(store.clone(), seed.wallet_xprv(network), network, fees.clone(), broadcaster.clone()).await?;
	let parts = Parts {
		network,
		seed: seed.ldk_seed(),
		store,
		wallet: wallet.clone(),
		fees,
		// Nobody sends what it is given.
		broadcaster,
		filter: None,
		tip: BlockLocator::new(genesis_block(network).block_hash(), 0),
		routing: config.routing.clone(),
		gossip: Gossip::None,
		limits: config.peers,
		way: config.tor.way,
		reserve: ReservePolicy::of(&config.policy.capital),
		wakes: config.policy.lsps5.enabled,
	};
	let lightning = Lightning::build(parts).await?.lightning;
	Ok(Started { wallet, channels: lightning.manager.list_channels().len() })
}

/// The wallet against the chain, if the backend can be reached.
pub(super) async fn chain(findings: &mut Findings, config: &Config, wallet: &Wallet) {
	let network = config.node.network;
	match chain_sight(chain_config(&config.chain, config.tor.way), wallet, network).await {
		Err(why) => findings.warn(
			"chain",
			format!("the wallet was not compared with the chain: {why}"),
			"see that the backend answers ([chain] backend), and look again",
		),
		Ok(ChainSight { height, ours, differs: Some(at), .. }) => findings.bad(
			"chain",
			format!("the wallet is at block {ours}, and the backend (at {height}) has another block {at}"),
			"is it the right network and the right backend? If the chain was reorganised, a start puts it right",
		),
		Ok(ChainSight { height, ours, gone, looked_at, .. }) => {
			let behind = height.saturating_sub(ours);
			match gone.as_slice() {
				// What is behind may not have seen its own transactions mined.
				[] => {
					findings.ok(
						"chain",
						format!("{looked_at} coins are on the chain; the wallet is {behind} blocks behind"),
					);
				}
				gone if behind > 0 => findings.ok(
					"chain",
					format!("{behind} blocks behind; {} coins were spent there, which a start will see", gone.len()),
				),
				[first, ..] => findings.bad(
					"chain",
					format!("{} coins are not on the chain any more, the first of them {first}", gone.len()),
					"is the same seed used by another wallet or node? Stop that one at once",
				),
			}
		}
	}
}
