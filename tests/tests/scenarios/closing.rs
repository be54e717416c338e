//! Channels end, and everyone has the money that was theirs.

use crate::steps::{DELAY_BLOCKS, PAYER_CHANNEL_SAT, check_sale, pay_just_in_time, pay_plainly};
use anyhow::{Context, Result, ensure};
use inlet_tests::wallet::{number, text};
use inlet_tests::world::{CHANNEL_DEPTH, SOON};
use inlet_tests::{Backend, Scratch, Wallet, World, eventually, scenario};
use serde_json::json;
use std::time::Duration;

/// What miners and rounding may take of one side when a channel ends.
const TOLERANCE_SAT: u64 = 5_000;

/// How often LDK is asked whether a claim is to pay more.
const CLAIMS_AGAIN: Duration = Duration::from_secs(30);

/// What both ends take for the feerate on a regtest without estimates, in sat/vB.
const FEERATE: f64 = 2.0;

/// A client with a confirmed channel that it bought just in time, and about 150,000 sat in it; the channel's id; and the
/// payer, whose channel is to stay as it is.
async fn sold_channel(world: &World<'_>) -> Result<(Wallet, String, Wallet)> {
	let wallet = world.client("wallet").await?;
	let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
	let invoice = wallet.jit_invoice(Some(200_000_000)).await?;
	let fee = pay_just_in_time(&payer, &wallet, &invoice, 200_000).await?;
	let sale = check_sale(world, &wallet, fee).await?;
	world.mine(CHANNEL_DEPTH, &[&wallet, &payer]).await?;
	pay_plainly(&wallet, &payer, 50_000).await?;
	Ok((wallet, text(&sale["channel"], "id")?, payer))
}

/// What both ends have before their channel is closed.
struct Before {
	wallet_sat: u64,
	lsp_sat: u64,
}

impl Before {
	async fn of(world: &World<'_>, wallet: &Wallet) -> Result<Before> {
		Ok(Before { wallet_sat: wallet.lightning_sat().await?, lsp_sat: lsp_total(world).await? })
	}

	/// Mines what the closing sent, then `blocks`, then one by one until both have on-chain what was theirs, less fees.
	async fn comes_back(&self, world: &World<'_>, wallet: &Wallet, blocks: u32) -> Result<()> {
		world.bitcoind.wait_for_mempool(1, SOON).await?;
		world.mine(CHANNEL_DEPTH + blocks, &[]).await?;
		let paid = async || {
			world.bitcoind.mine(1).await?;
			wallet.sync().await?;
			let (has, lsp_has) = (wallet.onchain_sat().await?, lsp_total(world).await?);
			ensure!(has + TOLERANCE_SAT >= self.wallet_sat, "the wallet has {has} of {} sat", self.wallet_sat);
			ensure!(lsp_has + TOLERANCE_SAT >= self.lsp_sat, "the LSP has {lsp_has} of {} sat", self.lsp_sat);
			ensure!(world.lsp.balance().await?["lightning"]["closing_sat"] == 0, "the LSP waits for more");
			Ok(Some(()))
		};
		eventually(SOON * 2, "everyone has their money", paid).await?;
		ensure!(lsp_total(world).await? <= self.lsp_sat, "the LSP has more than before");
		// Nobody else's channel was touched.
		let channels = world.lsp.channels().await?;
		ensure!(channels.len() == 1 && channels[0]["state"] == "ready", "{channels:?}");
		Ok(())
	}
}

async fn together(scratch: &Scratch, backend: Backend) -> Result<()> {
	let world = World::start(scratch, backend).await?;
	let (wallet, channel, _payer) = sold_channel(&world).await?;
	let before = Before::of(&world, &wallet).await?;
	// The client paid for a lease: the LSP is not to end it by accident.
	let refused = world.lsp.say(&["channels", "close", &channel, "--yes"]).await?;
	ensure!(refused.code == Some(1), "closed within the lease: {refused:?}");
	world.lsp.json(&["channels", "close", &channel, "--break-lease", "--yes"]).await?;
	ensure_fair_fee(&world).await?;
	before.comes_back(&world, &wallet, 0).await
}

/// The closing transaction pays what its feerate asks for, and little more to avoid a quarrel about it (R9).
async fn ensure_fair_fee(world: &World<'_>) -> Result<()> {
	let txid = world.bitcoind.wait_for_mempool(1, SOON).await?.remove(0);
	let entry = world.bitcoind.call("getmempoolentry", json!([txid])).await?;
	let fee_sat = (entry["fees"]["base"].as_f64().context("no fee")? * 1e8).round();
	let vsize = number(&entry, "vsize")? as f64;
	ensure!(fee_sat <= vsize * 2.0 * FEERATE + 50.0, "{fee_sat} sat for {vsize} vB at {FEERATE} sat/vB");
	Ok(())
}

#[test]
fn r9_a_channel_is_closed_together_over_bitcoind() {
	scenario(async |scratch| together(scratch, Backend::Bitcoind).await);
}

#[test]
fn r9_a_channel_is_closed_together_over_esplora() {
	scenario(async |scratch| together(scratch, Backend::Esplora).await);
}

#[test]
fn r9_a_channel_is_closed_together_over_electrum() {
	scenario(async |scratch| together(scratch, Backend::Electrum).await);
}

#[test]
fn the_client_closes_together() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let (wallet, _, _payer) = sold_channel(&world).await?;
		let before = Before::of(&world, &wallet).await?;
		let id = text(&wallet.channels().await?[0], "user_channel_id")?;
		wallet.call("close", json!({ "user_channel_id": id })).await?;
		before.comes_back(&world, &wallet, 0).await
	});
}

async fn by_force(scratch: &Scratch, backend: Backend) -> Result<()> {
	let world = World::start(scratch, backend).await?;
	let (wallet, channel, _payer) = sold_channel(&world).await?;
	let before = Before::of(&world, &wallet).await?;
	world.lsp.json(&["channels", "force-close", &channel, "--break-lease", "--yes"]).await?;
	before.comes_back(&world, &wallet, DELAY_BLOCKS).await
}

#[test]
fn the_lsp_closes_by_force_over_bitcoind() {
	scenario(async |scratch| by_force(scratch, Backend::Bitcoind).await);
}

#[test]
fn the_lsp_closes_by_force_over_esplora() {
	scenario(async |scratch| by_force(scratch, Backend::Esplora).await);
}

#[test]
fn the_lsp_closes_by_force_over_electrum() {
	scenario(async |scratch| by_force(scratch, Backend::Electrum).await);
}

/// The client trusts its LSP to get the commitment transaction mined, so it only tells it.
#[test]
fn the_client_closes_by_force() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let (wallet, _, _payer) = sold_channel(&world).await?;
		let before = Before::of(&world, &wallet).await?;
		let id = text(&wallet.channels().await?[0], "user_channel_id")?;
		wallet.call("force_close", json!({ "user_channel_id": id })).await?;
		before.comes_back(&world, &wallet, DELAY_BLOCKS).await
	});
}

/// A transaction's weight is guessed before it is signed.
const WEIGHED: f64 = 0.99;

/// What a transaction of the mempool and those that spend from it pay together, in sat/vB.
async fn package_feerate(world: &World<'_>, txid: &str) -> Result<f64> {
	let entry = world.bitcoind.call("getmempoolentry", json!([txid])).await?;
	let fees_sat = entry["fees"]["descendant"].as_f64().context("no fees")? * 1e8;
	Ok(fees_sat / number(&entry, "descendantsize")? as f64)
}

/// LDK raises such a claim by the clock alone and tells nobody: no block, message or payment comes that would have it looked at.
#[test]
fn r10_a_close_that_waits_follows_the_feerate_without_a_block() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Esplora).await?;
		let (_wallet, channel, _payer) = sold_channel(&world).await?;
		world.lsp.json(&["channels", "force-close", &channel, "--break-lease", "--yes"]).await?;
		let commitment = world.bitcoind.wait_for_mempool(1, SOON).await?.remove(0);
		let bumped = async || Ok((package_feerate(&world, &commitment).await? >= FEERATE * WEIGHED).then_some(()));
		eventually(SOON, "the close pays the first feerate", bumped).await?;

		// The new feerate comes with a block that has no room. LDK adds a quarter to the old one at this block.
		let raised = FEERATE * 3.0;
		world.esplora.as_ref().context("chosen above")?.set_fee_estimates([(1, raised), (6, raised)]);
		world.bitcoind.mine_empty().await?;
		let follows = async || Ok((package_feerate(&world, &commitment).await? >= raised * WEIGHED).then_some(()));
		eventually(CLAIMS_AGAIN * 2, "the close pays the new feerate", follows).await?;
		world.mine(CHANNEL_DEPTH, &[]).await
	});
}

async fn lsp_total(world: &World<'_>) -> Result<u64> {
	number(&world.lsp.balance().await?, "total_sat")
}
