//! The Debian package in a clean Debian 13 tree, as root, with Debian's `mmdebstrap`: installed, served from, upgraded, removed.
//!
//! The program that the other tests run is packed and tried here where that can be. The package as it is delivered takes many minutes to build:
//! `cargo test -p inlet-tests --test package -- --ignored`; `INLET_DEB` names one that is there already, `INLET_EARLIER_DEB` the one before it.

use anyhow::{Context, Result, ensure};
use inlet_tests::{Bitcoind, Scratch, inlet_exe};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::Command;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/debian");
/// The chain of the data directory with channels, which `check` upgrades on.
const CHAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../node/tests/data/0.1.0-with-chain/blocks.dat");
const ARCH: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

#[tokio::test]
async fn a_package_of_this_build_installs_serves_upgrades_and_goes_without_the_keys() -> Result<()> {
	for needed in [
		"mmdebstrap --version",
		"dh_assistant --help",
		"dpkg-buildpackage --version",
		"unshare --mount --pid --fork true",
	] {
		if !works(needed).await {
			eprintln!("`{needed}` does not work here: no package was tried");
			return Ok(());
		}
	}
	let scratch = Scratch::new()?;
	let exe = tokio::task::spawn_blocking(inlet_exe).await??;
	let deb = build(scratch.path(), &[("INLET_BINARY", &exe)]).await?;
	check(&scratch, &deb).await
}

#[tokio::test]
#[ignore = "builds a package, as root"]
async fn the_package_installs_serves_upgrades_and_goes_without_the_keys() -> Result<()> {
	let scratch = Scratch::new()?;
	let deb = match std::env::var_os("INLET_DEB") {
		Some(deb) => PathBuf::from(deb),
		None => build(scratch.path(), &[]).await?,
	};
	check(&scratch, &deb).await
}

async fn works(command: &str) -> bool {
	let mut words = command.split(' ');
	let mut command = Command::new(words.next().expect("a command has a first word"));
	let status = command.args(words).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
	status.is_ok_and(|status| status.success())
}

async fn check(scratch: &Scratch, deb: &Path) -> Result<()> {
	let bitcoind = Bitcoind::start(scratch).await?;
	bitcoind.load_chain(Path::new(CHAIN)).await?;
	let mut check = Command::new(Path::new(DEPLOY).join("check"));
	check.arg(deb).arg(format!("bitcoind:{}", bitcoind.url())).args(std::env::var_os("INLET_EARLIER_DEB"));
	let status = check.status().await?;
	ensure!(status.success(), "deploy/debian/check: {status}");
	bitcoind.stop().await
}

async fn build(output: &Path, variables: &[(&str, &Path)]) -> Result<PathBuf> {
	let mut build = Command::new(Path::new(DEPLOY).join("build"));
	let status = build.arg(ARCH).arg(output).envs(variables.iter().copied()).status().await?;
	ensure!(status.success(), "deploy/debian/build: {status}");
	let mut files = std::fs::read_dir(output)?.filter_map(Result::ok).map(|entry| entry.path());
	files.find(|path| path.extension().is_some_and(|ext| ext == "deb")).context("no package was built")
}
