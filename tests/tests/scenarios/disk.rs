//! The disk: little room, a second process, damage, and data directories of versions that were released.

use crate::steps::{LEASE_BLOCKS, PAYER_CHANNEL_SAT, check_sale, order_invoice, pay_just_in_time, pay_plainly};
use anyhow::{Context, Result, ensure};
use inlet_tests::wallet::text;
use inlet_tests::world::SOON;
use inlet_tests::{Backend, InletOptions, Scratch, World, scenario};
use serde_json::Value;
use std::path::Path;

/// A mark that no disk reaches.
const HUGE: &str = "[storage]\nlow_water_mb = 1_000_000_000\n";

fn has_attention(status: &Value, code: &str) -> bool {
	status["attention"].as_array().is_some_and(|all| all.iter().any(|thing| thing["code"] == code))
}

/// Sold before the disk was nearly full: delivered. After that, nothing is sold, and it is said.
#[test]
fn r13_at_the_low_water_mark_nothing_new_is_sold_and_what_was_sold_is_delivered() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let wallet = world.client("wallet").await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let invoice = wallet.jit_invoice(Some(150_000_000)).await?;
		ensure!(!has_attention(&world.lsp.json(&["status"]).await?, "disk_low"));
		world.lsp.stop().await?;
		std::fs::write(world.lsp.data_dir().join("inlet.toml"), HUGE)?;
		world.lsp.resume().await?;
		wallet.connect(&world.lsp.uri()).await?;
		payer.connect(&world.lsp.uri()).await?;
		payer.usable_channels(1, SOON).await?;

		let status = world.lsp.json(&["status"]).await?;
		ensure!(has_attention(&status, "disk_low") && status["disk"]["low"] == true, "{status}");
		ensure!(wallet.order_channel(300_000, 0, LEASE_BLOCKS).await.is_err(), "a channel was ordered");
		ensure!(wallet.jit_invoice(Some(100_000_000)).await.is_err(), "a channel was bought");
		let fee = pay_just_in_time(&payer, &wallet, &invoice, 150_000).await?;
		check_sale(&world, &wallet, fee).await.map(drop)
	});
}

/// One node at a time on a data directory, whatever became of the one before; and what the doctor says of it in each case.
#[test]
fn r17_one_process_at_a_time_and_the_doctor_in_any_state() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let wallet = world.client("wallet").await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let invoice = wallet.jit_invoice(Some(150_000_000)).await?;
		pay_just_in_time(&payer, &wallet, &invoice, 150_000).await?;

		let found = world.lsp.json(&["doctor"]).await?;
		ensure!(found["running"] == true && found["verdict"] == "ok", "{found}");
		let second = tokio::process::Command::from(world.lsp.run_command()).output().await?;
		let said = String::from_utf8_lossy(&second.stderr);
		ensure!(second.status.code() == Some(1) && said.contains("is in use by another inlet"), "{said}");
		world.lsp.check_running()?;

		// Killed, it leaves its lock's file behind, which holds nobody up: neither the doctor nor the next start.
		world.lsp.kill()?;
		let (code, found) = doctor_at(&world, world.lsp.data_dir()).await?;
		ensure!(code == Some(0) && found["running"] == false && found["verdict"] == "ok", "{found}");
		let trial = check(&found, "start")?;
		ensure!(trial["text"].as_str().is_some_and(|text| text.contains("2 channels")), "{found}");
		ensure!(check(&found, "chain")?["verdict"] == "ok", "{found}");
		world.lsp.resume().await?;
		world.lsp.stop().await?;

		// A monitor is gone: the pages are whole, the sums are right, but LDK must not start with it.
		let damaged = copy_of(world.lsp.data_dir(), &scratch.folder("damaged")?.join("data"))?;
		take_a_monitor_away(&damaged)?;
		let (code, found) = doctor_at(&world, &damaged).await?;
		ensure!(code == Some(1), "{found}");
		ensure!(found["verdict"] == "bad" && check(&found, "start")?["verdict"] == "bad", "{found}");
		// The scratch copy is gone, and the directory is as it was but for that.
		ensure!(!damaged.join("doctor-scratch").exists());

		// The way out, with the real binary.
		let exported = scratch.folder("export")?.join("files");
		let said = world.lsp.say(&["storage", "export", "--to", exported.to_str().context("a path")?]).await?;
		ensure!(said.code == Some(0) && exported.join("manager").is_file(), "{said:?}");
		world.lsp.resume().await
	});
}

fn check<'a>(found: &'a Value, name: &str) -> Result<&'a Value> {
	let checks = found["checks"].as_array().context("no checks")?;
	checks.iter().find(|check| check["name"] == name).with_context(|| format!("no {name} in {found}"))
}

/// What the doctor finds where no node runs, and its exit code.
async fn doctor_at(world: &World<'_>, data_dir: &Path) -> Result<(Option<i32>, Value)> {
	let mut command = tokio::process::Command::new(world.lsp.exe());
	command.arg("--data-dir").arg(data_dir).args(["--network", "regtest", "--json", "doctor"]);
	let out = command.env("INLET_CHAIN_BACKEND", world.lsp.chain()).output().await?;
	let found = serde_json::from_slice(&out.stdout).with_context(|| format!("{out:?}"))?;
	Ok((out.status.code(), found))
}

/// Files of a data directory, no sockets.
fn copy_of(from: &Path, to: &Path) -> Result<std::path::PathBuf> {
	std::fs::create_dir(to)?;
	std::fs::set_permissions(to, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
	for entry in std::fs::read_dir(from)? {
		let entry = entry?;
		if entry.file_type()?.is_file() && !entry.file_name().to_string_lossy().ends_with(".reserve") {
			std::fs::copy(entry.path(), to.join(entry.file_name()))?;
		}
	}
	Ok(to.to_owned())
}

/// Removes one whole monitor, by the store's own means.
fn take_a_monitor_away(data_dir: &Path) -> Result<()> {
	use lightning::util::persist::KVStore;
	let store = inlet_storage::Store::open(&data_dir.join("inlet.sqlite"), inlet_storage::abort)?;
	tokio::task::block_in_place(|| {
		tokio::runtime::Handle::current().block_on(async {
			let monitors = store.list("monitors", "").await?;
			let first = monitors.first().context("no monitors")?;
			for update in store.list("monitor_updates", first).await? {
				store.remove("monitor_updates", first, &update, false).await?;
			}
			store.remove("monitors", "", first, false).await?;
			store.close().await;
			Ok(())
		})
	})
}

/// The data directory as this version leaves it: channels of three kinds, sales, orders, payments, and the blocks that it has seen.
/// Written once for each release, never again: what was released is read for ever (`node/src/doctor/tests.rs`), and
/// `deploy/debian/check` starts on it before and after an upgrade. `INLET_EXE` names a binary that was released.
#[test]
#[ignore = "makes the frozen directory, which is in git"]
fn make_the_frozen_data_directory() {
	scenario(async |scratch| make_frozen(scratch).await);
}

async fn make_frozen(scratch: &Scratch) -> Result<()> {
	let world = World::start_with(scratch, Backend::Bitcoind, InletOptions::default()).await?;
	let wallet = world.client("wallet").await?;
	let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
	let invoice = wallet.jit_invoice(Some(150_000_000)).await?;
	pay_just_in_time(&payer, &wallet, &invoice, 150_000).await?;
	world.mine(6, &[&wallet, &payer]).await?;
	for _ in 0..3 {
		pay_plainly(&payer, &wallet, 1_000).await?;
	}
	let order = wallet.order_channel(300_000, 0, LEASE_BLOCKS).await?;
	let payment = wallet.pay(&order_invoice(&order)?, None).await?;
	wallet.paid(&payment, SOON).await?;
	world.lsp.order_is(&text(&order, "order_id")?, "completed", SOON).await?;
	world.mine(6, &[&wallet, &payer]).await?;
	wallet.usable_channels(2, SOON).await?;
	// And what somebody has asked for, and not yet paid.
	wallet.order_channel(200_000, 0, LEASE_BLOCKS).await?;
	wallet.jit_invoice(Some(50_000_000)).await?;
	let (channels, sales) = (world.lsp.channels().await?.len(), world.lsp.list("sales").await?.len());
	ensure!(channels == 3, "{channels} channels");
	world.lsp.stop().await?;
	let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/tests/data");
	let to = data.join(format!("{}-with-chain", env!("CARGO_PKG_VERSION")));
	std::fs::create_dir(&to).context("there is one already")?;
	for name in ["seed", "network", "inlet.toml", "inlet.sqlite"] {
		std::fs::copy(world.lsp.data_dir().join(name), to.join(name))?;
	}
	world.bitcoind.save_chain(&to.join("blocks.dat")).await?;
	let expected = serde_json::json!({ "channels": channels, "sales": sales });
	std::fs::write(to.join("expected.json"), expected.to_string() + "\n")?;
	Ok(())
}
