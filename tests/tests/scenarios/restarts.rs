//! Parts stop at awkward moments, in good order or not, and nothing is lost.

use crate::steps::{LEASE_BLOCKS, booked, check_sale, order_invoice, order_total, ordered, pay_just_in_time, sold};
use anyhow::{Result, ensure};
use inlet_tests::wallet::{number, text};
use inlet_tests::world::SOON;
use inlet_tests::{Backend, Scratch, World, scenario};

/// Sold, not yet paid.
#[test]
fn the_lsp_restarts_between_the_sale_and_the_payment() {
	scenario(async |scratch| {
		let (world, wallet, payer, invoice) = sold(scratch, Backend::Bitcoind).await?;
		world.lsp.stop().await?;
		world.lsp.resume().await?;
		wallet.connect(&world.lsp.uri()).await?;
		payer.connect(&world.lsp.uri()).await?;
		payer.usable_channels(1, SOON).await?;
		let fee = pay_just_in_time(&payer, &wallet, &invoice, 150_000).await?;
		check_sale(&world, &wallet, fee).await.map(drop)
	});
}

/// The client is away, the HTLC is held, and the LSP is killed: LDK tells of the HTLC again, the book knows it.
async fn killed_with_the_htlc(scratch: &Scratch, backend: Backend) -> Result<()> {
	let (world, wallet, payer, invoice) = sold(scratch, backend).await?;
	wallet.stop().await?;
	let payment = payer.pay(&invoice, None).await?;
	world.lsp.sales_are(1, "gathering", SOON).await?;
	world.lsp.kill()?;
	world.lsp.resume().await?;
	world.lsp.sales_are(1, "gathering", SOON).await?;
	payer.connect(&world.lsp.uri()).await?;
	wallet.resume().await?;
	wallet.connect(&world.lsp.uri()).await?;

	let received = wallet.received(&invoice, SOON).await?;
	payer.paid(&payment, SOON).await?;
	let fee = 150_000_000 - number(&received.what, "amount_msat")?;
	check_sale(&world, &wallet, fee).await?;
	ensure!(booked(&world, "jit_fee").await? == i64::try_from(fee)?, "the fee is not booked once");
	ensure!(wallet.channels().await?.len() == 1, "not one channel");
	Ok(())
}

#[test]
fn the_lsp_is_killed_after_the_htlc_arrived_over_bitcoind() {
	scenario(async |scratch| killed_with_the_htlc(scratch, Backend::Bitcoind).await);
}

#[test]
fn the_lsp_is_killed_after_the_htlc_arrived_over_esplora() {
	scenario(async |scratch| killed_with_the_htlc(scratch, Backend::Esplora).await);
}

/// The client is connected and does not answer, so the opening is under way when the LSP is killed.
#[test]
fn the_lsp_is_killed_while_it_opens_the_channel() {
	scenario(async |scratch| {
		let (world, wallet, payer, invoice) = sold(scratch, Backend::Bitcoind).await?;
		wallet.freeze()?;
		let payment = payer.pay(&invoice, None).await?;
		world.lsp.sales_are(1, "opening", SOON).await?;
		world.lsp.kill()?;
		wallet.thaw()?;
		world.lsp.resume().await?;
		payer.connect(&world.lsp.uri()).await?;
		wallet.connect(&world.lsp.uri()).await?;
		let received = wallet.received(&invoice, SOON).await?;
		payer.paid(&payment, SOON).await?;
		check_sale(&world, &wallet, 150_000_000 - number(&received.what, "amount_msat")?).await?;
		let sold = world.lsp.channels().await?.iter().filter(|channel| channel["outbound"] == true).count();
		ensure!(sold == 1, "{sold} channels were opened");
		Ok(())
	});
}

/// Killed at once after the wallet has the money: the fee is earned, whatever was not yet written down.
#[test]
fn the_lsp_is_killed_right_after_the_payment() {
	scenario(async |scratch| {
		let (world, wallet, payer, invoice) = sold(scratch, Backend::Bitcoind).await?;
		let payment = payer.pay(&invoice, None).await?;
		let received = wallet.received(&invoice, SOON).await?;
		world.lsp.kill()?;
		world.lsp.resume().await?;
		payer.connect(&world.lsp.uri()).await?;
		wallet.connect(&world.lsp.uri()).await?;
		payer.paid(&payment, SOON).await?;
		let fee = 150_000_000 - number(&received.what, "amount_msat")?;
		check_sale(&world, &wallet, fee).await?;
		ensure!(booked(&world, "jit_fee").await? == i64::try_from(fee)?);
		// And its funding transaction is out.
		world.bitcoind.wait_for_mempool(1, SOON).await.map(drop)
	});
}

/// Killed while the client's payment is held: the client cannot get its channel, then it can.
#[test]
fn the_lsp_is_killed_with_an_order_paid_by_lightning() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let wallet = world.client("wallet").await?;
		let payer = world.payer(&[1_000_000]).await?;
		let order = wallet.order_channel(300_000, 0, LEASE_BLOCKS).await?;
		let id = text(&order, "order_id")?;
		wallet.stop().await?;
		let payment = payer.pay(&order_invoice(&order)?, None).await?;
		world.lsp.order_is(&id, "paid", SOON).await?;
		world.lsp.kill()?;
		world.lsp.resume().await?;
		ensure!(world.lsp.order(&id).await?["status"] == "paid");
		payer.connect(&world.lsp.uri()).await?;
		wallet.resume().await?;
		wallet.connect(&world.lsp.uri()).await?;
		payer.paid(&payment, SOON).await?;
		world.lsp.order_is(&id, "completed", SOON).await?;
		wallet.usable_channels(1, SOON).await?;
		ensure!(booked(&world, "order_fee").await? == i64::try_from(order_total(&order, "bolt11")? * 1000)?);
		Ok(())
	});
}

/// Paid on-chain while the LSP was down.
#[test]
fn an_order_is_paid_onchain_while_the_lsp_is_down() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let (wallet, order, id) = ordered(&world, 0).await?;
		world.lsp.kill()?;
		wallet.send(&text(&order["payment"]["onchain"], "address")?, order_total(&order, "onchain")?).await?;
		world.bitcoind.wait_for_mempool(1, SOON).await?;
		world.bitcoind.mine(2).await?;
		world.lsp.resume().await?;
		wallet.connect(&world.lsp.uri()).await?;
		world.lsp.order_is(&id, "completed", SOON).await?;
		wallet.usable_channels(1, SOON).await
	});
}

/// The wallet is killed between showing its invoice and being paid, and comes back when the payment waits.
#[test]
fn the_wallet_restarts_while_the_payment_waits() {
	scenario(async |scratch| {
		let (world, wallet, payer, invoice) = sold(scratch, Backend::Bitcoind).await?;
		wallet.kill()?;
		let payment = payer.pay(&invoice, None).await?;
		world.lsp.sales_are(1, "gathering", SOON).await?;
		wallet.resume().await?;
		wallet.connect(&world.lsp.uri()).await?;
		let received = wallet.received(&invoice, SOON).await?;
		payer.paid(&payment, SOON).await?;
		check_sale(&world, &wallet, 150_000_000 - number(&received.what, "amount_msat")?).await.map(drop)
	});
}

/// bitcoind stops, the LSP is killed while it is away, and both come back.
#[test]
fn bitcoind_and_the_lsp_restart_with_a_sale_open() {
	scenario(async |scratch| {
		let (world, wallet, payer, invoice) = sold(scratch, Backend::Bitcoind).await?;
		world.bitcoind.stop().await?;
		world.lsp.kill()?;
		world.bitcoind.resume().await?;
		world.lsp.resume().await?;
		world.mine(1, &[&wallet, &payer]).await?;
		wallet.connect(&world.lsp.uri()).await?;
		payer.connect(&world.lsp.uri()).await?;
		payer.usable_channels(1, SOON).await?;
		let fee = pay_just_in_time(&payer, &wallet, &invoice, 150_000).await?;
		check_sale(&world, &wallet, fee).await.map(drop)
	});
}
