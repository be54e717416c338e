//! LSPS2: a channel is opened by the payment that it brings.

use crate::steps::{PAYER_CHANNEL_SAT, booked, check_sale, pay_just_in_time, pay_plainly};
use anyhow::{Result, ensure};
use inlet_tests::wallet::number;
use inlet_tests::world::SOON;
use inlet_tests::{Backend, InletOptions, Scratch, World, scenario};

async fn single_part(scratch: &Scratch, backend: Backend) -> Result<()> {
	let world = World::start(scratch, backend).await?;
	let wallet = world.client("wallet").await?;
	let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;

	let invoice = wallet.jit_invoice(Some(250_000_000)).await?;
	let fee = pay_just_in_time(&payer, &wallet, &invoice, 250_000).await?;
	let sale = check_sale(&world, &wallet, fee).await?;
	ensure!(sale["payment_msat"] == 250_000_000, "{sale}");
	ensure!(booked(&world, "jit_fee").await? == i64::try_from(fee)?);

	// The funding transaction is out, confirms, and cost what the ledger says.
	let funding = world.bitcoind.wait_for_mempool(1, SOON).await?.remove(0);
	let entry = world.bitcoind.call("getmempoolentry", serde_json::json!([funding])).await?;
	world.mine(6, &[&wallet, &payer]).await?;
	let miner_fee = (entry["fees"]["base"].as_f64().unwrap() * 1e11).round() as i64;
	ensure!(booked(&world, "funding_cost").await? == -miner_fee);

	// The channel is one like any other: both ways, and no second sale.
	pay_plainly(&wallet, &payer, 60_000).await?;
	pay_plainly(&payer, &wallet, 20_000).await?;
	ensure!(wallet.channels().await?.len() == 1);
	ensure!(world.lsp.list("sales").await?.len() == 1);
	Ok(())
}

#[test]
fn a_payment_in_one_part_opens_a_channel_over_bitcoind() {
	scenario(async |scratch| single_part(scratch, Backend::Bitcoind).await);
}

#[test]
fn a_payment_in_one_part_opens_a_channel_over_esplora() {
	scenario(async |scratch| single_part(scratch, Backend::Esplora).await);
}

#[test]
fn a_payment_in_one_part_opens_a_channel_over_electrum() {
	scenario(async |scratch| single_part(scratch, Backend::Electrum).await);
}

/// Two channels of a million, of which a quarter each may be in flight: 400,000 sat need both.
async fn several_parts(scratch: &Scratch, backend: Backend) -> Result<()> {
	let world = World::start(scratch, backend).await?;
	let wallet = world.client("wallet").await?;
	let payer = world.payer(&[1_000_000, 1_000_000]).await?;

	let invoice = wallet.jit_invoice(Some(400_000_000)).await?;
	let fee = pay_just_in_time(&payer, &wallet, &invoice, 400_000).await?;
	let sale = check_sale(&world, &wallet, fee).await?;
	let history = sale["history"].as_array().unwrap();
	let parts = history.iter().filter(|line| line["step"] == "htlc").count();
	ensure!(parts >= 2, "it came in {parts} parts: {sale}");
	ensure!(wallet.channels().await?.len() == 1, "each part got a channel");
	Ok(())
}

#[test]
fn a_payment_in_several_parts_opens_one_channel_over_bitcoind() {
	scenario(async |scratch| several_parts(scratch, Backend::Bitcoind).await);
}

#[test]
fn a_payment_in_several_parts_opens_one_channel_over_esplora() {
	scenario(async |scratch| several_parts(scratch, Backend::Esplora).await);
}

/// ldk-node 0.7 reckons the fee of an open amount from what arrives, not from what was sent, and so turns every such
/// payment down. It has its channel then, and owes the fee; the payer has its money back.
#[test]
fn a_client_that_turns_the_payment_down_owes_the_fee() {
	scenario(async |scratch| {
		let environment = vec![("INLET_LSPS2_TRUST".to_owned(), "everyone".to_owned())];
		let options = InletOptions { environment, ..Default::default() };
		let world = World::start_with(scratch, Backend::Bitcoind, options).await?;
		let wallet = world.client("wallet").await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let invoice = wallet.jit_invoice(None).await?;
		let payment = payer.pay(&invoice, Some(100_000_000)).await?;
		payer.failed(&payment, SOON).await?;
		world.lsp.sales_are(1, "owing", SOON).await?;
		ensure!(booked(&world, "jit_fee").await? == 0, "a fee is booked that was not paid");
		Ok(())
	});
}

/// The same by default, where a client that we do not know has to take the payment first: no channel, no cost, no debt.
#[test]
fn r2_a_stranger_that_turns_the_payment_down_costs_nothing() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let wallet = world.client("wallet").await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let invoice = wallet.jit_invoice(None).await?;
		let payment = payer.pay(&invoice, Some(100_000_000)).await?;
		payer.failed(&payment, SOON).await?;
		world.lsp.sales_are(1, "bought", SOON).await?;
		ensure!(world.bitcoind.mempool().await?.is_empty(), "a channel was put on the chain for nothing");
		ensure!(booked(&world, "funding_cost").await? == 0);
		Ok(())
	});
}

#[test]
fn a_payer_two_hops_away_can_pay() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let wallet = world.client("wallet").await?;
		let middle = world.stranger("middle").await?;
		world.give_coins(&middle, 3_000_000).await?;
		world.open_channels(&middle, &world.lsp.uri(), &[2_000_000]).await?;
		let payer = world.stranger("payer").await?;
		world.give_coins(&payer, 3_000_000).await?;
		world.open_channels(&payer, &middle.uri(), &[2_000_000]).await?;
		world.settle(&[&middle, &payer]).await?;
		let invoice = wallet.jit_invoice(Some(100_000_000)).await?;
		// The payer hears of the channel between the others, and of its fees, by gossip.
		let payment = payer.pay_soon(&invoice, SOON * 3).await?;
		let received = wallet.received(&invoice, SOON).await?;
		payer.paid(&payment, SOON).await?;
		check_sale(&world, &wallet, 100_000_000 - number(&received.what, "amount_msat")?).await?;
		Ok(())
	});
}

#[test]
fn several_wallets_buy_at_the_same_time() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let mut sold = Vec::new();
		for name in ["one", "two", "three"] {
			let wallet = world.client(name).await?;
			let invoice = wallet.jit_invoice(Some(100_000_000)).await?;
			sold.push((wallet, invoice));
		}
		let mut payments = Vec::new();
		for (_, invoice) in &sold {
			payments.push(payer.pay(invoice, None).await?);
		}
		for payment in &payments {
			payer.paid(payment, SOON).await?;
		}
		let mut fees = 0;
		for (wallet, invoice) in &sold {
			fees += 100_000_000 - number(&wallet.received(invoice, SOON).await?.what, "amount_msat")?;
		}
		world.lsp.sales_are(3, "done", SOON).await?;
		ensure!(booked(&world, "jit_fee").await? == i64::try_from(fees)?);
		Ok(())
	});
}

#[test]
fn a_fee_above_the_payment_is_refused_and_a_larger_payment_is_taken() {
	scenario(async |scratch| {
		let environment = vec![("INLET_PRICE_FLOOR_SAT".to_owned(), "20000".to_owned())];
		let options = InletOptions { environment, ..Default::default() };
		let world = World::start_with(scratch, Backend::Bitcoind, options).await?;
		let wallet = world.client("wallet").await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		// Known beforehand: no invoice.
		ensure!(wallet.jit_invoice(Some(10_000_000)).await.is_err(), "10,000 sat cannot pay for a channel of 20,000");
		// Known when it comes: the payer has its money back at once.
		let invoice = wallet.jit_invoice(None).await?;
		let too_little = payer.pay(&invoice, Some(10_000_000)).await?;
		payer.failed(&too_little, SOON).await?;
		ensure!(wallet.channels().await?.is_empty(), "a channel was opened for it");

		let invoice = wallet.jit_invoice(Some(200_000_000)).await?;
		let fee = pay_just_in_time(&payer, &wallet, &invoice, 200_000).await?;
		ensure!(fee >= 20_000_000, "{fee} msat is less than the floor");
		check_sale(&world, &wallet, fee).await?;
		Ok(())
	});
}
