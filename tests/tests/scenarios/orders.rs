//! LSPS1: a channel is ordered, paid, delivered, or the money goes back.

use crate::steps::{LEASE_BLOCKS, booked, channel_of, client_with_channel, order_invoice, order_total, pay_plainly};
use anyhow::{Result, ensure};
use inlet_tests::wallet::{number, text};
use inlet_tests::world::SOON;
use inlet_tests::{Backend, InletOptions, Scratch, World, eventually, scenario};

async fn paid_by_lightning(scratch: &Scratch, backend: Backend) -> Result<()> {
	let world = World::start(scratch, backend).await?;
	let wallet = client_with_channel(&world, "wallet", 400_000).await?;
	let order = wallet.order_channel(500_000, 0, LEASE_BLOCKS).await?;
	let id = text(&order, "order_id")?;
	ensure!(world.lsp.order(&id).await?["status"] == "awaiting_payment");
	ensure!(booked(&world, "order_fee").await? == 0, "a fee is booked before it is paid");

	let payment = wallet.pay(&order_invoice(&order)?, None).await?;
	wallet.paid(&payment, SOON).await?;
	let done = world.lsp.order_is(&id, "completed", SOON).await?;
	ensure!(done["paid_by"] == "lightning" && done["reserved_sat"] == 0, "{done}");
	wallet.usable_channels(2, SOON).await?;
	ensure!(number(&channel_of(&wallet, 500_000).await?, "inbound_msat")? > 480_000_000);
	ensure!(booked(&world, "order_fee").await? == i64::try_from(order_total(&order, "bolt11")? * 1000)?);

	// The wallet is told the same.
	let status = wallet.call("lsps1_status", serde_json::json!({ "order_id": id })).await?;
	ensure!(status["payment"]["bolt11"]["state"] == "PAID", "{status}");
	ensure!(status["channel"]["funding_outpoint"] == done["channel"]["funding"], "{status} {done}");
	world.mine(6, &[&wallet]).await?;
	wallet.usable_channels(2, SOON).await
}

#[test]
fn an_order_is_paid_by_lightning_over_bitcoind() {
	scenario(async |scratch| paid_by_lightning(scratch, Backend::Bitcoind).await);
}

#[test]
fn an_order_is_paid_by_lightning_over_esplora() {
	scenario(async |scratch| paid_by_lightning(scratch, Backend::Esplora).await);
}

/// With a balance of its own on the new channel, which the order's price includes.
async fn paid_onchain(scratch: &Scratch, backend: Backend) -> Result<()> {
	let world = World::start(scratch, backend).await?;
	let wallet = world.client("wallet").await?;
	world.give_coins(&wallet, 500_000).await?;
	let order = wallet.order_channel(300_000, 50_000, LEASE_BLOCKS).await?;
	let id = text(&order, "order_id")?;
	let total = order_total(&order, "onchain")?;
	wallet.send(&text(&order["payment"]["onchain"], "address")?, total).await?;
	world.bitcoind.wait_for_mempool(1, SOON).await?;
	// Unconfirmed, it could still be taken back.
	ensure!(world.lsp.order(&id).await?["status"] == "awaiting_payment");
	world.mine(1, &[&wallet]).await?;

	let done = world.lsp.order_is(&id, "completed", SOON).await?;
	ensure!(done["paid_by"] == "onchain", "{done}");
	wallet.usable_channels(1, SOON).await?;
	ensure!(wallet.lightning_sat().await? == 50_000, "the client's balance was not pushed");
	// Taken in, and given away again as the client's side of the channel.
	let ledger = world.lsp.ledger().await?;
	let entries = ledger["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "client_balance");
	let mut amounts: Vec<_> = entries.filter_map(|entry| entry["amount_msat"].as_i64()).collect();
	amounts.sort_unstable();
	ensure!(amounts == [-50_000_000, 50_000_000], "{ledger}");
	ensure!(booked(&world, "order_fee").await? == i64::try_from((total - 50_000) * 1000)?);
	world.mine(6, &[&wallet]).await?;
	let payer = world.payer(&[1_000_000]).await?;
	pay_plainly(&payer, &wallet, 100_000).await
}

#[test]
fn an_order_is_paid_onchain_over_bitcoind() {
	scenario(async |scratch| paid_onchain(scratch, Backend::Bitcoind).await);
}

#[test]
fn an_order_is_paid_onchain_over_esplora() {
	scenario(async |scratch| paid_onchain(scratch, Backend::Esplora).await);
}

/// An LSP that tries for no more than a minute (the least it takes) to reach a client that has paid.
fn impatient() -> InletOptions {
	let environment = vec![("INLET_LSPS1_OPEN_WINDOW_SECS".to_owned(), "60".to_owned())];
	InletOptions { environment, ..Default::default() }
}

async fn refunded_onchain(scratch: &Scratch, backend: Backend) -> Result<()> {
	let world = World::start_with(scratch, backend, impatient()).await?;
	let wallet = world.client("wallet").await?;
	world.give_coins(&wallet, 500_000).await?;
	let order = wallet.order_channel(300_000, 50_000, LEASE_BLOCKS).await?;
	let id = text(&order, "order_id")?;
	let total = order_total(&order, "onchain")?;
	let txid = wallet.send(&text(&order["payment"]["onchain"], "address")?, total).await?;
	world.bitcoind.wait_for_tx(&txid, SOON).await?;
	wallet.stop().await?;
	world.mine(1, &[]).await?;

	// The client does not come for its channel: the money goes back, less what sending it costs.
	let refund = world.bitcoind.wait_for_mempool(1, SOON * 4).await?.remove(0);
	world.mine(1, &[]).await?;
	let failed = world.lsp.order_is(&id, "failed", SOON).await?;
	ensure!(failed["refund_txid"] == refund.as_str() && failed["reserved_sat"] == 0, "{failed}");
	ensure!(booked(&world, "order_fee").await? == 0, "a fee is booked for nothing");
	wallet.resume().await?;
	let back = async || {
		wallet.sync().await?;
		Ok((wallet.onchain_sat().await? > 500_000 - 10_000).then_some(()))
	};
	eventually(SOON, "the wallet has its money back", back).await?;
	ensure!(wallet.channels().await?.is_empty());
	Ok(())
}

#[test]
fn an_order_paid_onchain_that_cannot_be_delivered_is_refunded_over_bitcoind() {
	scenario(async |scratch| refunded_onchain(scratch, Backend::Bitcoind).await);
}

#[test]
fn an_order_paid_onchain_that_cannot_be_delivered_is_refunded_over_esplora() {
	scenario(async |scratch| refunded_onchain(scratch, Backend::Esplora).await);
}

#[test]
fn an_order_paid_by_lightning_that_cannot_be_delivered_costs_nothing() {
	scenario(async |scratch| {
		let world = World::start_with(scratch, Backend::Bitcoind, impatient()).await?;
		let wallet = world.client("wallet").await?;
		let payer = world.payer(&[1_000_000]).await?;
		let order = wallet.order_channel(300_000, 0, LEASE_BLOCKS).await?;
		let id = text(&order, "order_id")?;
		wallet.stop().await?;
		let payment = payer.pay(&order_invoice(&order)?, None).await?;
		payer.failed(&payment, SOON * 4).await?;
		let failed = world.lsp.order_is(&id, "failed", SOON).await?;
		ensure!(failed["reserved_sat"] == 0, "{failed}");
		ensure!(booked(&world, "order_fee").await? == 0);
		ensure!(world.bitcoind.mempool().await?.is_empty(), "something was sent on-chain");
		Ok(())
	});
}
