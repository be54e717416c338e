//! The machine is lost, its backup is not.

use crate::steps::{DELAY_BLOCKS, PAYER_CHANNEL_SAT, booked, check_sale, pay_just_in_time, pay_plainly};
use anyhow::{Context, Result, ensure};
use inlet_tests::inlet::Said;
use inlet_tests::scratch::eventually;
use inlet_tests::wallet::{Invoice, number, text};
use inlet_tests::world::{CHANNEL_DEPTH, SOON};
use inlet_tests::{Backend, InletOptions, Scratch, World, scenario};
use serde_json::json;
use std::path::Path;

/// An LSP that backs itself up into a directory, in this mode.
async fn world<'a>(scratch: &'a Scratch, target: &Path, mode: &str) -> Result<World<'a>> {
	let config = format!("[backup]\ntargets = [\"dir:{}\"]\nmode = \"{mode}\"\n", target.display());
	let before = vec!["backup init --network regtest".to_owned()];
	World::start_with(scratch, Backend::Bitcoind, InletOptions { config, before, ..Default::default() }).await
}

/// `inlet restore` into another directory, with the seed of the LSP as it is.
async fn restore(world: &World<'_>, target: &Path, to: &Path, more: &[&str]) -> Result<Said> {
	let from = format!("dir:{}", target.display());
	let (seed, to) = (world.lsp.data_dir().join("seed"), to.to_str().context("a path of text")?.to_owned());
	let seed = seed.to_str().context("a path of text")?;
	let mut command = vec!["restore", "--network", "regtest", "--data-dir", &to, "--from", &from, "--seed-file", seed];
	command.extend(more);
	world.lsp.say_anywhere(&command).await
}

/// It does not start, for good, and says why.
async fn refuses_to_start(world: &World<'_>) -> Result<()> {
	let said = world.lsp.log_text().len();
	world.lsp.launch()?;
	let status = world.lsp.ended(SOON).await?;
	ensure!(status.code() == Some(2), "it ended with {status}");
	let log = world.lsp.log_text();
	ensure!(log[said..].contains("another copy of this node is newer"), "it said: {}", &log[said..]);
	Ok(())
}

/// What the LSP could still send over the channel that it sold.
async fn sendable(world: &World<'_>) -> Result<u64> {
	let channels = world.lsp.channels().await?;
	let sold = channels.iter().find(|channel| channel["outbound"] == true).context("no channel was sold")?;
	number(sold, "outbound_msat")
}

/// Waits until a payment is offered to the wallet, before which so much could be sent. What can be sent falls when the HTLC is in
/// memory; it is offered once it is on the disk and its copy.
async fn on_its_way(world: &World<'_>, before: u64) -> Result<()> {
	let offered = async || {
		let added = sendable(world).await? < before;
		let waiting = number(&world.lsp.json(&["storage"]).await?, "updates_waiting")?;
		Ok((added && waiting == 0).then_some(()))
	};
	eventually(SOON, "the payment is forwarded", offered).await
}

/// The whole story: sold, paid, lost in mid-payment, restored elsewhere, paid on; and the first one never again.
#[test]
fn r17_the_machine_is_lost_in_mid_payment_and_restored_elsewhere() {
	scenario(async |scratch| {
		let (target, elsewhere) = (scratch.folder("backup")?.join("lsp"), scratch.folder("second")?.join("data"));
		let mut world = world(scratch, &target, "sync").await?;
		let wallet = world.client("wallet").await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let invoice = wallet.jit_invoice(Some(150_000_000)).await?;
		let fee = pay_just_in_time(&payer, &wallet, &invoice, 150_000).await?;
		check_sale(&world, &wallet, fee).await?;
		let verified = world.lsp.say(&["backup", "verify", "--network", "regtest"]).await?;
		ensure!(verified.out.contains("would bring the channels back"), "{}{}", verified.out, verified.err);
		let backup = world.lsp.json(&["backup", "status"]).await?;
		ensure!(backup["mode"] == "sync" && backup["targets"][0]["behind"] == false, "{backup}");

		// The HTLC is on both channels when the machine is gone.
		let before = sendable(&world).await?;
		let invoice = wallet.invoice(Some(20_000_000)).await?;
		wallet.freeze()?;
		let payment = payer.pay(&invoice, None).await?;
		on_its_way(&world, before).await?;
		world.lsp.kill()?;
		wallet.thaw()?;

		let first = world.lsp.data_dir().to_owned();
		let refused = restore(&world, &target, &elsewhere, &[]).await?;
		ensure!(refused.code == Some(1) && refused.err.contains("--take-over"), "{refused:?}");
		let restored = restore(&world, &target, &elsewhere, &["--take-over"]).await?;
		ensure!(restored.code == Some(0), "{}{}", restored.out, restored.err);
		refuses_to_start(&world).await?;
		let again = restore(&world, &target, &elsewhere, &["--take-over"]).await?;
		ensure!(again.code == Some(1) && again.err.contains("has a node in it already"), "{again:?}");

		world.lsp.use_data_dir(elsewhere);
		world.lsp.resume().await?;
		payer.connect(&world.lsp.uri()).await?;
		wallet.connect(&world.lsp.uri()).await?;
		wallet.received(&invoice, SOON).await?;
		payer.paid(&payment, SOON).await?;
		pay_plainly(&payer, &wallet, 5_000).await?;
		ensure!(booked(&world, "jit_fee").await? == i64::try_from(fee)?, "the book is another");
		ensure!(world.lsp.channels().await?.len() == 2, "a channel was lost");
		world.lsp.stop().await?;

		world.lsp.use_data_dir(first);
		refuses_to_start(&world).await
	});
}

/// The target that every change waits for is away when an HTLC times out: what is claimed on the chain does not wait for it.
#[test]
fn r10_claims_go_on_while_the_target_of_a_synchronous_backup_is_away() {
	scenario(async |scratch| {
		let target = scratch.folder("backup")?.join("lsp");
		let world = world(scratch, &target, "sync").await?;
		let wallet = world.client("wallet").await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let invoice = wallet.jit_invoice(Some(150_000_000)).await?;
		let fee = pay_just_in_time(&payer, &wallet, &invoice, 150_000).await?;
		check_sale(&world, &wallet, fee).await?;
		world.mine(CHANNEL_DEPTH, &[&wallet, &payer]).await?;

		let before = sendable(&world).await?;
		let invoice = wallet.invoice(Some(20_000_000)).await?;
		wallet.freeze()?;
		let payment = payer.pay(&invoice, None).await?;
		on_its_way(&world, before).await?;
		let away = target.with_extension("away");
		std::fs::rename(&target, &away)?;

		// The close pays its own way with a coin of the LSP's.
		let closed = async || {
			if let Some(txid) = world.bitcoind.mempool().await?.first() {
				return Ok(Some(txid.clone()));
			}
			world.mine(5, &[]).await?;
			Ok(None)
		};
		let close = eventually(SOON * 4, "the channel whose HTLC has expired is closed", closed).await?;
		let bumped = async || {
			let entry = world.bitcoind.call("getmempoolentry", json!([close])).await?;
			Ok((number(&entry, "ancestorcount")? + number(&entry, "descendantcount")? > 2).then_some(()))
		};
		eventually(SOON, "the close is bumped", bumped).await?;
		world.mine(CHANNEL_DEPTH, &[]).await?;
		std::fs::rename(&away, &target)?;
		payer.failed(&payment, SOON * 2).await?;

		// And what the close left for the LSP is swept.
		std::fs::rename(&target, &away)?;
		world.mine(DELAY_BLOCKS, &[]).await?;
		world.bitcoind.wait_for_mempool(1, SOON * 3).await?;
		std::fs::rename(&away, &target)?;
		let current = async || {
			let backup = world.lsp.json(&["backup", "status"]).await?;
			Ok((backup["targets"][0]["behind"] == false).then_some(()))
		};
		eventually(SOON, "the target has what it missed", current).await
	});
}

/// What the LSP has on-chain, confirmed.
async fn confirmed(world: &World<'_>) -> Result<u64> {
	number(&world.lsp.balance().await?["onchain"], "confirmed_sat")
}

/// The backup may be old, so the channels are given up; their peers close them, and the money comes back. Then even the
/// backup is lost, and the words alone bring the coins.
#[test]
fn r13_an_old_backup_gives_the_coins_and_never_the_channels() {
	scenario(async |scratch| {
		let (target, elsewhere) = (scratch.folder("backup")?.join("lsp"), scratch.folder("second")?.join("data"));
		let third = scratch.folder("third")?.join("data");
		let mut world = world(scratch, &target, "async").await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let made = world.lsp.json(&["invoice", "700000sat"]).await?;
		let invoice = Invoice { text: text(&made, "invoice")?, hash: String::new() };
		let payment = payer.pay(&invoice, None).await?;
		payer.paid(&payment, SOON).await?;
		let wealth = world.wealth_msat(&[&payer]).await?;
		let shipped = async || {
			let backup = world.lsp.json(&["backup"]).await?;
			Ok((backup["targets"][0]["state"] == "complete").then_some(()))
		};
		eventually(SOON, "the backup is complete", shipped).await?;
		world.lsp.kill()?;

		let refused = restore(&world, &target, &elsewhere, &["--take-over"]).await?;
		ensure!(refused.code == Some(1) && refused.err.contains("--recover-funds"), "{refused:?}");
		let restored = restore(&world, &target, &elsewhere, &["--take-over", "--recover-funds"]).await?;
		ensure!(restored.out.contains("1 channels are given up"), "{}{}", restored.out, restored.err);
		world.lsp.use_data_dir(elsewhere);
		world.lsp.resume().await?;
		ensure!(world.lsp.channels().await?.is_empty(), "a channel is in use");
		payer.connect(&world.lsp.uri()).await?;
		world.bitcoind.wait_for_mempool(1, SOON).await?;
		// Closed; found; swept.
		let expected = u64::try_from(wealth)? / 1000;
		let swept = async || {
			world.mine(1, &[]).await?;
			Ok((confirmed(&world).await? + 10_000 > expected).then_some(()))
		};
		eventually(SOON * 2, "what the closes paid is in the wallet", swept).await?;
		let coins = confirmed(&world).await?;
		ensure!(coins <= expected, "{coins} sat of {expected}");
		world.lsp.stop().await?;

		let (seed, to) = (world.lsp.data_dir().join("seed"), third.to_str().context("a path of text")?);
		let seed = seed.to_str().context("a path of text")?;
		let command = ["seed", "restore", "--network", "regtest", "--data-dir", to, "--seed-file", seed];
		let begun = world.lsp.say_anywhere(&command).await?;
		ensure!(begun.code == Some(0), "{}{}", begun.out, begun.err);
		world.lsp.use_data_dir(third.clone());
		world.lsp.resume().await?;
		ensure!(confirmed(&world).await? == coins, "the words find {} sat of {coins}", confirmed(&world).await?);
		Ok(())
	});
}
