//! LSPS1: a channel is ordered, paid, delivered, or the money goes back.

use crate::steps::{
	LEASE_BLOCKS, booked, channel_of, client_with_channel, order_invoice, order_total, ordered, pay_plainly,
};
use anyhow::{Result, ensure};
use inlet_tests::wallet::{number, text};
use inlet_tests::world::SOON;
use inlet_tests::{Backend, InletOptions, Scratch, Wallet, World, eventually, scenario};

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
	let (wallet, order, id) = ordered(&world, 50_000).await?;
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
	let (wallet, order, id) = ordered(&world, 50_000).await?;
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

/// What the LSP asks its clients before it offers payment is gone when they are offered it.
async fn is_untouched(world: &World<'_>, wallet: &Wallet) -> Result<()> {
	ensure!(wallet.channels().await?.is_empty(), "the wallet has a channel left: {:?}", wallet.channels().await?);
	ensure!(world.lsp.channels().await?.is_empty(), "the LSP has a channel left");
	ensure!(world.bitcoind.mempool().await?.is_empty(), "something was sent on-chain");
	let coins = &world.lsp.balance().await?["onchain"]["confirmed_sat"];
	ensure!(*coins == world.lsp_coins_sat(), "coins are missing: {coins}");
	Ok(())
}

/// An ldk-node wallet is asked again and again, sees no more than channels that were closed before they were pending, and
/// can be sold a channel afterwards.
#[test]
fn r6_a_wallet_that_is_asked_for_the_channel_first_is_left_as_it_was() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let wallet = world.client("wallet").await?;
		world.give_coins(&wallet, 500_000).await?;
		let mark = wallet.mark()?;
		let mut order = serde_json::Value::Null;
		for _ in 0..5 {
			order = wallet.order_channel(300_000, 20_000, LEASE_BLOCKS).await?;
			is_untouched(&world, &wallet).await?;
		}
		let log = world.lsp.log_text();
		ensure!(!log.contains("channel closed"), "the operator is bothered with trials");
		// It was really asked: its own log of events says so.
		wallet.event(mark, "channel_closed", SOON, |_| true).await?;
		let id = text(&order, "order_id")?;
		wallet.send(&text(&order["payment"]["onchain"], "address")?, order_total(&order, "onchain")?).await?;
		world.bitcoind.wait_for_mempool(1, SOON).await?;
		world.mine(1, &[&wallet]).await?;
		world.lsp.order_is(&id, "completed", SOON).await?;
		wallet.usable_channels(1, SOON).await
	});
}

/// Paid once for the channel, then twice more: all but the price goes back, each time once.
async fn paid_again(scratch: &Scratch, backend: Backend) -> Result<()> {
	let world = World::start(scratch, backend).await?;
	let (wallet, order, id) = ordered(&world, 0).await?;
	let address = text(&order["payment"]["onchain"], "address")?;
	wallet.send(&address, order_total(&order, "onchain")?).await?;
	world.bitcoind.wait_for_mempool(1, SOON).await?;
	world.mine(1, &[&wallet]).await?;
	world.lsp.order_is(&id, "completed", SOON).await?;
	world.mine(1, &[&wallet]).await?;
	let mut refunds = Vec::new();
	for sat in [40_000, 30_000] {
		let paid = world.bitcoind.send(&address, sat).await?;
		world.bitcoind.wait_for_tx(&paid, SOON).await?;
		world.mine(1, &[&wallet]).await?;
		let refund = world.bitcoind.wait_for_mempool(1, SOON).await?.remove(0);
		let tx = world.bitcoind.call("getrawtransaction", serde_json::json!([refund, true])).await?;
		ensure!(tx["vin"][0]["txid"] == paid.as_str(), "the refund spends something else: {tx}");
		world.lsp.kill()?;
		world.lsp.resume().await?;
		world.mine(6, &[]).await?;
		let shown = world.lsp.order(&id).await?;
		ensure!(shown["refund_txid"] == refund.as_str() && shown["status"] == "completed", "{shown}");
		refunds.push(refund);
	}
	ensure!(world.bitcoind.mempool().await?.is_empty(), "something more was refunded");
	ensure!(refunds[0] != refunds[1]);
	Ok(())
}

#[test]
fn l1_29_r12_payments_after_the_delivery_go_back_over_bitcoind() {
	scenario(async |scratch| paid_again(scratch, Backend::Bitcoind).await);
}

#[test]
fn l1_29_r12_payments_after_the_delivery_go_back_over_esplora() {
	scenario(async |scratch| paid_again(scratch, Backend::Esplora).await);
}

/// The block with the payment is replaced before the client comes for its channel: the order waits again, and is delivered
/// when the payment is mined again.
#[test]
fn r19_a_payment_that_is_reorganised_is_waited_for_again() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let (wallet, order, id) = ordered(&world, 0).await?;
		let paid =
			wallet.send(&text(&order["payment"]["onchain"], "address")?, order_total(&order, "onchain")?).await?;
		world.bitcoind.wait_for_tx(&paid, SOON).await?;
		wallet.stop().await?;
		world.mine(1, &[]).await?;
		world.lsp.order_is(&id, "paid", SOON).await?;
		world.bitcoind.reorg(1, false).await?;
		world.lsp.order_is(&id, "awaiting_payment", SOON).await?;
		world.lsp.kill()?;
		world.lsp.resume().await?;
		wallet.resume().await?;
		wallet.connect(&world.lsp.uri()).await?;
		ensure!(world.lsp.order(&id).await?["status"] == "awaiting_payment");
		world.mine(1, &[&wallet]).await?;
		world.lsp.order_is(&id, "completed", SOON).await?;
		wallet.usable_channels(1, SOON).await
	});
}

/// When the payment is claimed, the backend has the funding.
#[test]
fn r6_a_held_payment_is_claimed_when_the_backend_has_taken_the_funding() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let wallet = client_with_channel(&world, "wallet", 400_000).await?;
		let order = wallet.order_channel(500_000, 0, LEASE_BLOCKS).await?;
		let id = text(&order, "order_id")?;
		let payment = wallet.pay(&order_invoice(&order)?, None).await?;
		wallet.paid(&payment, SOON).await?;
		let mempool = world.bitcoind.mempool().await?;
		let done = world.lsp.order_is(&id, "completed", SOON).await?;
		let funding = text(&done["channel"], "funding")?;
		ensure!(mempool.iter().any(|txid| funding.starts_with(txid)), "claimed before the funding was out");
		Ok(())
	});
}

/// bLIP-51's lease: the operator is told whom it was sold to and for how long, and has to insist; that is on record.
#[test]
fn l1_30_a_leased_channel_is_closed_by_its_operator_only_if_he_insists() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let wallet = client_with_channel(&world, "wallet", 400_000).await?;
		let order = wallet.order_channel(500_000, 0, LEASE_BLOCKS).await?;
		let id = text(&order, "order_id")?;
		wallet.pay(&order_invoice(&order)?, None).await?;
		let done = world.lsp.order_is(&id, "completed", SOON).await?;
		wallet.usable_channels(2, SOON).await?;
		let channel = text(&done["channel"], "id")?;
		for verb in ["close", "force-close"] {
			let refused = world.lsp.say(&["channels", verb, &channel, "--yes"]).await?;
			ensure!(refused.code == Some(1), "{verb}: {refused:?}");
			let said = format!("{refused:?}");
			for part in [wallet.node_id(), id.as_str(), "days, are left", "--break-lease"] {
				ensure!(said.contains(part), "{verb} does not say {part}: {said}");
			}
		}
		world.lsp.json(&["channels", "close", &channel, "--break-lease", "--yes"]).await?;
		let closed = async || {
			let shown = world.lsp.order(&id).await?;
			Ok((!shown["channel"]["closed_at"].is_null()).then_some(shown))
		};
		let shown = eventually(SOON, "the channel is closed", closed).await?;
		let history = shown["history"].to_string();
		ensure!(history.contains("broken by the operator"), "{history}");
		Ok(())
	});
}
