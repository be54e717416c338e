//! The LSP makes and merges the coins of its anchor reserve by itself.

use crate::steps::{PAYER_CHANNEL_SAT, pay_just_in_time};
use anyhow::{Context, Result, ensure};
use inlet_tests::inlet::COINS_FEERATE;
use inlet_tests::wallet::number;
use inlet_tests::world::SOON;
use inlet_tests::{Backend, World, eventually, scenario};
use serde_json::{Value, json};

/// One for the payer's channel, and `capital.spare_coins`.
const WANTED: u64 = 1 + 4;
/// Coins of the reserve that are too small for it, of so many satoshis.
const CRUMBS: usize = 12;
const CRUMB_SAT: u64 = 4_000;

/// Starts the LSP, mines until it has died at this point, and starts it again without.
async fn dies_at(world: &World<'_>, point: &str) -> Result<()> {
	world.lsp.crash_at(Some(point));
	world.lsp.launch()?;
	let died = async || {
		world.bitcoind.mine(1).await?;
		Ok(world.lsp.check_running().is_err().then_some(()))
	};
	eventually(SOON, &format!("the LSP dies at {point}"), died).await?;
	world.lsp.ended(SOON).await?;
	world.lsp.crash_at(None);
	world.lsp.resume().await
}

/// What rearranged coins so far: one entry of the ledger for each transaction.
async fn rearrangements(world: &World<'_>) -> Result<Vec<Value>> {
	let ledger = world.lsp.ledger().await?;
	let entries = ledger["entries"].as_array().context("no entries")?.clone();
	Ok(entries.into_iter().filter(|entry| entry["kind"] == "consolidation_cost").collect())
}

/// Mines until there are so many confirmed coins of the reserve and none is on its way.
async fn coins_are(world: &World<'_>, count: u64) -> Result<Value> {
	let there = async || {
		world.mine(1, &[]).await?;
		let capital = world.lsp.json(&["capital"]).await?;
		let coming = number(&capital, "coins_coming")?;
		Ok((number(&capital, "coins_there")? == count && coming == 0).then_some(capital))
	};
	eventually(SOON, &format!("{count} coins of the reserve"), there).await
}

async fn onchain_sat(world: &World<'_>) -> Result<u64> {
	number(&world.lsp.balance().await?["onchain"], "confirmed_sat")
}

#[test]
fn r10_the_coins_of_the_reserve_are_made_and_merged_once_whenever_the_lsp_dies() {
	scenario(async |scratch| {
		let mut world = World::start(scratch, Backend::Bitcoind).await?;
		let wallet = world.client("wallet").await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let before = onchain_sat(&world).await?;
		ensure!(rearrangements(&world).await?.is_empty(), "it is switched off");
		world.lsp.stop().await?;
		// By default it is on.
		world.lsp.set(COINS_FEERATE, None);

		dies_at(&world, "coins.rearranged.decided").await?;
		let capital = coins_are(&world, WANTED).await?;
		ensure!(number(&capital, "coins_missing")? == 0 && number(&capital, "channels")? == 1, "{capital}");
		ensure!(number(&capital, "channels_carried")? >= WANTED, "LDK's reckoning: {capital}");
		let split = rearrangements(&world).await?;
		let cost = |entry: &Value| entry["amount_msat"].as_i64().map_or(0, i64::unsigned_abs) / 1000;
		ensure!(split.len() == 1, "split once: {split:?}");
		ensure!(onchain_sat(&world).await? + cost(&split[0]) == before, "all but the miner's fee is still there");

		// A sale takes none of them, and they serve the next ones too.
		wallet.connect(&world.lsp.uri()).await?;
		payer.connect(&world.lsp.uri()).await?;
		let invoice = wallet.jit_invoice(Some(200_000_000)).await?;
		pay_just_in_time(&payer, &wallet, &invoice, 200_000).await?;
		let capital = coins_are(&world, WANTED).await?;
		ensure!(number(&capital, "channels")? == 2 && rearrangements(&world).await?.len() == 1, "{capital}");

		// What is too small for the reserve becomes one coin.
		let mut outputs = Vec::new();
		for _ in 0..CRUMBS {
			outputs.push((world.lsp.address().await?, CRUMB_SAT));
		}
		world.lsp.stop().await?;
		world.bitcoind.fund(&outputs).await?;
		dies_at(&world, "coins.rearranged.written").await?;
		coins_are(&world, WANTED).await?;
		let merged = rearrangements(&world).await?;
		ensure!(merged.len() == 2, "merged once: {merged:?}");
		let txid = merged.iter().map(|entry| entry["reference"].clone()).find(|txid| *txid != split[0]["reference"]);
		let tx = world.bitcoind.call("getrawtransaction", json!([txid, true])).await?;
		ensure!(tx["vin"].as_array().map(Vec::len) == Some(CRUMBS), "{tx}");
		Ok(())
	});
}
