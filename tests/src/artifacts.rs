//! The two programs under test, built when first asked for: `inlet`, and the wallet in `tests/wallet`.

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The `inlet` binary: `INLET_EXE`, or built from this workspace as its tests are. Blocks while it builds.
///
/// # Errors
/// It does not build.
pub fn inlet_exe() -> Result<PathBuf> {
	static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
	let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
	let profile = profiles().0;
	once(&BUILT, "INLET_EXE", || cargo_build("inlet", profile, &workspace.join("node/Cargo.toml"), &target_dir()?))
}

/// The wallet binary: `INLET_WALLET_EXE`, or built from `tests/wallet` into a folder of its own below the workspace's
/// target folder (it has a lock file of its own). Blocks while it builds.
///
/// # Errors
/// It does not build.
pub fn wallet_exe() -> Result<PathBuf> {
	static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
	let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("wallet/Cargo.toml");
	let (profile, dir) = (profiles().1, || Ok::<_, anyhow::Error>(target_dir()?.join("wallet")));
	once(&BUILT, "INLET_WALLET_EXE", || cargo_build("inlet-test-wallet", profile, &manifest, &dir()?))
}

static PROFILES: OnceLock<(String, String)> = OnceLock::new();

/// Before either is asked for: the cargo profiles of the two programs, `dev` if this is not called.
pub fn use_profiles(inlet: &str, wallet: &str) {
	// Only the first call counts, which is the first thing that a program does.
	let _ = PROFILES.set((inlet.to_owned(), wallet.to_owned()));
}

fn profiles() -> (&'static str, &'static str) {
	PROFILES.get().map_or(("dev", "dev"), |(inlet, wallet)| (inlet, wallet))
}

fn once(
	built: &OnceLock<Result<PathBuf, String>>,
	variable: &str,
	build: impl FnOnce() -> Result<PathBuf>,
) -> Result<PathBuf> {
	if let Some(exe) = std::env::var_os(variable) {
		return Ok(exe.into());
	}
	built.get_or_init(|| build().map_err(|error| format!("{error:#}"))).clone().map_err(|error| anyhow!(error))
}

/// The target folder that this program was itself built into, whichever way it was configured: cargo keeps what it knows
/// of rustc there.
fn target_dir() -> Result<PathBuf> {
	let exe = std::env::current_exe()?;
	let marked = exe.ancestors().find(|dir| dir.join(".rustc_info.json").is_file());
	Ok(marked.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), Path::to_owned))
}

/// Builds the binary `name`, with cargo's progress on stderr, and gives its path. Cargo's own lock makes the others wait.
fn cargo_build(name: &str, profile: &str, manifest: &Path, target: &Path) -> Result<PathBuf> {
	let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
	let mut command = Command::new(cargo);
	// What the cargo that runs us said about our package. Build scripts (ring's) look at it: with it, they and all that
	// depends on them would be built anew here, and again by the next cargo that is called by hand.
	let ours = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "CARGO_TARGET_TMPDIR"];
	for (variable, _) in std::env::vars_os() {
		if ours.iter().any(|prefix| variable.to_string_lossy().starts_with(prefix)) {
			command.env_remove(variable);
		}
	}
	let mut child = command
		.args(["build", "--locked", "--message-format=json-render-diagnostics", "--profile", profile, "--bin", name])
		.arg("--manifest-path")
		.arg(manifest)
		.arg("--target-dir")
		.arg(target)
		.stdin(Stdio::null())
		.stdout(Stdio::piped())
		.spawn()
		.context("cannot run cargo")?;
	let mut executable = None;
	for line in BufReader::new(child.stdout.take().context("no standard output")?).lines() {
		let message: Value = serde_json::from_str(&line?).unwrap_or_default();
		if message["target"]["name"] == name
			&& let Some(path) = message["executable"].as_str()
		{
			executable = Some(PathBuf::from(path));
		}
	}
	if !child.wait()?.success() {
		bail!("{name} does not build (see above)");
	}
	executable.with_context(|| format!("cargo built no {name}"))
}
