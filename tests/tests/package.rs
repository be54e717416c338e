//! The Debian package in a clean Debian tree. Builds the package first: many minutes, as root, with Debian's `mmdebstrap`.
//!
//! `cargo test -p inlet-tests --test package -- --ignored`; `INLET_DEB` names a package that is there already,
//! `INLET_EARLIER_DEB` the one before it.

use anyhow::{Context, Result, ensure};
use inlet_tests::bitcoind::Bitcoind;
use inlet_tests::scratch::Scratch;
use std::path::{Path, PathBuf};
use tokio::process::Command;

#[tokio::test]
#[ignore = "builds a package, as root"]
async fn the_package_installs_serves_upgrades_and_goes_without_the_keys() -> Result<()> {
	let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/debian");
	let scratch = Scratch::new()?;
	let deb = match std::env::var_os("INLET_DEB") {
		Some(deb) => PathBuf::from(deb),
		None => build(&deploy, scratch.path()).await?,
	};
	let bitcoind = Bitcoind::start(&scratch).await?;
	bitcoind.load_chain(&deploy.join("../../node/tests/data/0.1.0-with-chain/blocks.dat")).await?;
	let mut check = Command::new(deploy.join("check"));
	check.arg(deb).arg(format!("bitcoind:{}", bitcoind.url())).args(std::env::var_os("INLET_EARLIER_DEB"));
	let status = check.status().await?;
	ensure!(status.success(), "deploy/debian/check: {status}");
	bitcoind.stop().await
}

async fn build(deploy: &Path, output: &Path) -> Result<PathBuf> {
	let status = Command::new(deploy.join("build")).arg("amd64").arg(output).status().await?;
	ensure!(status.success(), "deploy/debian/build: {status}");
	let mut files = std::fs::read_dir(output)?.filter_map(Result::ok).map(|entry| entry.path());
	files.find(|path| path.extension().is_some_and(|ext| ext == "deb")).context("no package was built")
}
