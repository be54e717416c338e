//! Channels end, and everyone has the money that was theirs.

use crate::steps::{PAYER_CHANNEL_SAT, check_sale, pay_just_in_time, pay_plainly};
use anyhow::{Result, ensure};
use inlet_tests::wallet::{number, text};
use inlet_tests::world::{CHANNEL_DEPTH, SOON};
use inlet_tests::{Backend, Scratch, Wallet, World, eventually, scenario};
use serde_json::json;

/// What miners and rounding may take of one side when a channel ends.
const TOLERANCE_SAT: u64 = 5_000;
/// Longer than a side waits for its own money after closing by force (144 blocks, LDK's default on both ends).
const DELAY_BLOCKS: u32 = 150;

/// A client with a confirmed channel that it bought just in time, and about 150,000 sat in it.
async fn sold_channel(world: &World<'_>) -> Result<(Wallet, String)> {
	let wallet = world.client("wallet").await?;
	let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
	let invoice = wallet.jit_invoice(Some(200_000_000)).await?;
	let fee = pay_just_in_time(&payer, &wallet, &invoice, 200_000).await?;
	let sale = check_sale(world, &wallet, fee).await?;
	world.mine(CHANNEL_DEPTH, &[&wallet, &payer]).await?;
	pay_plainly(&wallet, &payer, 50_000).await?;
	Ok((wallet, text(&sale["channel"], "id")?))
}

/// Mines until the wallet has `sat` (about) on-chain and the LSP has nothing left in that channel.
async fn everyone_is_paid(world: &World<'_>, wallet: &Wallet, sat: u64, blocks: u32) -> Result<()> {
	let paid = async || {
		world.bitcoind.mine(1).await?;
		wallet.sync().await?;
		let closing = number(&world.lsp.balance().await?["lightning"], "closing_sat")?;
		let has = wallet.onchain_sat().await?;
		ensure!(has + TOLERANCE_SAT >= sat && closing == 0, "{has} of {sat} sat, {closing} sat to come for the LSP");
		Ok(Some(()))
	};
	// The long delay at once, the rest block by block.
	world.bitcoind.wait_for_mempool(1, SOON).await?;
	world.mine(CHANNEL_DEPTH, &[]).await?;
	world.bitcoind.mine(blocks).await?;
	eventually(SOON * 3, "everyone has their money", paid).await
}

async fn together(scratch: &Scratch, backend: Backend) -> Result<()> {
	let world = World::start(scratch, backend).await?;
	let (wallet, channel) = sold_channel(&world).await?;
	let (has, before) = (wallet.lightning_sat().await?, lsp_total(&world).await?);
	// The client paid for a lease: the LSP is not to end it by accident.
	let refused = world.lsp.say(&["channels", "close", &channel, "--yes"]).await?;
	ensure!(refused.code == Some(1), "closed within the lease: {refused:?}");
	world.lsp.json(&["channels", "close", &channel, "--break-lease", "--yes"]).await?;
	everyone_is_paid(&world, &wallet, has, 0).await?;
	check_lsp(&world, before).await
}

#[test]
fn a_channel_is_closed_together_over_bitcoind() {
	scenario(async |scratch| together(scratch, Backend::Bitcoind).await);
}

#[test]
fn a_channel_is_closed_together_over_esplora() {
	scenario(async |scratch| together(scratch, Backend::Esplora).await);
}

#[test]
fn the_client_closes_together() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let (wallet, _) = sold_channel(&world).await?;
		let (has, before) = (wallet.lightning_sat().await?, lsp_total(&world).await?);
		let id = text(&wallet.channels().await?[0], "user_channel_id")?;
		wallet.call("close", json!({ "user_channel_id": id })).await?;
		everyone_is_paid(&world, &wallet, has, 0).await?;
		check_lsp(&world, before).await
	});
}

async fn by_force(scratch: &Scratch, backend: Backend) -> Result<()> {
	let world = World::start(scratch, backend).await?;
	let (wallet, channel) = sold_channel(&world).await?;
	let (has, before) = (wallet.lightning_sat().await?, lsp_total(&world).await?);
	world.lsp.json(&["channels", "force-close", &channel, "--break-lease", "--yes"]).await?;
	everyone_is_paid(&world, &wallet, has, DELAY_BLOCKS).await?;
	check_lsp(&world, before).await
}

#[test]
fn the_lsp_closes_by_force_over_bitcoind() {
	scenario(async |scratch| by_force(scratch, Backend::Bitcoind).await);
}

#[test]
fn the_lsp_closes_by_force_over_esplora() {
	scenario(async |scratch| by_force(scratch, Backend::Esplora).await);
}

/// The client trusts its LSP to get the commitment transaction mined, so it only tells it.
#[test]
fn the_client_closes_by_force() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let (wallet, _) = sold_channel(&world).await?;
		let (has, before) = (wallet.lightning_sat().await?, lsp_total(&world).await?);
		let id = text(&wallet.channels().await?[0], "user_channel_id")?;
		wallet.call("force_close", json!({ "user_channel_id": id })).await?;
		everyone_is_paid(&world, &wallet, has, DELAY_BLOCKS).await?;
		check_lsp(&world, before).await
	});
}

async fn lsp_total(world: &World<'_>) -> Result<u64> {
	number(&world.lsp.balance().await?, "total_sat")
}

/// The LSP lost nothing but fees.
async fn check_lsp(world: &World<'_>, before: u64) -> Result<()> {
	let after = lsp_total(world).await?;
	ensure!(after + TOLERANCE_SAT >= before && after <= before, "the LSP had {before} sat and has {after}");
	Ok(())
}
