//! The capital of a channel that nobody uses comes home.

use crate::steps::{PAYER_CHANNEL_SAT, check_sale, notified_world, pay_just_in_time};
use anyhow::{Context, Result, ensure};
use inlet_tests::wallet::{number, text};
use inlet_tests::webhook::Receiver;
use inlet_tests::world::{CHANNEL_DEPTH, SOON};
use inlet_tests::{World, eventually, scenario};
use serde_json::Value;

/// What is promised is over after a few blocks (and a day of them, which Inlet adds), and what is not used at once is idle.
const CONFIG: &str =
	"[lsps2]\nmin_lifetime_blocks = 6\n[capital]\nidle_days = 0\nreclaim_grace_days = 0\n[lsps5]\ncooldown_secs = 1\n";
const PROMISED_BLOCKS: u32 = 6 + 144;
/// What the closing may cost: BOLT 3's weight at the feerate of a regtest without estimates, and anchors.
const CLOSING_SAT: u64 = 3_000;

/// The plan's only line, or none.
async fn planned(world: &World<'_>) -> Result<Option<Value>> {
	let plan = world.lsp.json(&["capital", "reclaim", "--dry-run"]).await?;
	let channels = plan["channels"].as_array().context("no channels")?;
	ensure!(channels.len() <= 1, "the payer's channel was not sold: {plan}");
	Ok(channels.first().cloned())
}

async fn verdict(world: &World<'_>) -> Result<(String, String)> {
	let line = planned(world).await?.context("the channel is gone")?;
	Ok((text(&line, "verdict")?, text(&line, "because")?))
}

#[test]
fn r11_who_does_not_use_a_channel_is_told_and_then_it_is_closed_and_the_capital_is_home() {
	scenario(async |scratch| {
		let receiver = Receiver::start().await?;
		let mut world = notified_world(scratch, CONFIG, &receiver).await?;
		let wallet = world.client("wallet").await?;
		world.set_webhook(&wallet, &receiver).await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let invoice = wallet.jit_invoice(Some(250_000_000)).await?;
		let fee = pay_just_in_time(&payer, &wallet, &invoice, 250_000).await?;
		check_sale(&world, &wallet, fee).await?;
		world.mine(CHANNEL_DEPTH, &[&wallet, &payer]).await?;

		// Within the promise nothing happens to it, whoever asks.
		let (kept, why) = verdict(&world).await?;
		ensure!((kept.as_str(), why.as_str()) == ("keep", "promised"), "{kept}: {why}");
		let refused = world.lsp.say(&["capital", "reclaim", "--yes"]).await?;
		ensure!(refused.code == Some(1), "{refused:?}");

		// The promise is over and the wallet away: the operator has it told.
		wallet.stop().await?;
		world.lsp.sees(&wallet, false).await?;
		// The payer has seen the blocks before the LSP is away below: LDK 0.2.7 keeps messages that it makes of blocks for a
		// peer that is away, and asserts in debug builds that there are none when it comes.
		world.mine(PROMISED_BLOCKS, &[&payer]).await?;
		let due = async || Ok((verdict(&world).await?.0 == "tell").then_some(()));
		eventually(SOON, "the channel is idle", due).await?;
		let done = world.lsp.json(&["capital", "reclaim", "--yes"]).await?;
		ensure!(done["told"].as_array().is_some_and(|told| told.len() == 1), "{done}");
		let is_told = |all: &[inlet_tests::webhook::Request]| {
			all.iter().any(|request| request.notice() == "liquidity_management_request")
		};
		receiver.wait_for(SOON, "the wallet is told", is_told).await?;
		ensure!(verdict(&world).await?.1 == "client away", "{:?}", verdict(&world).await?);

		// It wakes, and now the reclaimer is on.
		world.lsp.stop().await?;
		world.lsp.set("INLET_CAPITAL_RECLAIM", Some("true"));
		world.lsp.resume().await?;
		let before = number(&world.lsp.balance().await?, "total_sat")?;
		wallet.resume().await?;
		wallet.connect(&world.lsp.uri()).await?;
		world.bitcoind.wait_for_mempool(1, SOON).await?;
		world.mine(CHANNEL_DEPTH, &[]).await?;
		let home = async || {
			let balance = world.lsp.balance().await?;
			let total = number(&balance, "total_sat")?;
			ensure!(total <= before, "the LSP has {total} of {before} sat");
			let closed = planned(&world).await?.is_none() && balance["lightning"]["closing_sat"] == 0;
			Ok((closed && total + CLOSING_SAT >= before).then_some(()))
		};
		eventually(SOON, "the capital is home", home).await?;
		let channels = world.lsp.channels().await?;
		ensure!(channels.len() == 1, "the payer's channel was not sold: {channels:?}");
		Ok(())
	});
}
