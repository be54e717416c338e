//! The chain backend goes away, comes back, changes its mind.

use crate::steps::{PAYER_CHANNEL_SAT, check_sale, pay_just_in_time, pay_plainly};
use anyhow::{Result, ensure};
use inlet_tests::wallet::number;
use inlet_tests::world::{CHANNEL_DEPTH, SOON};
use inlet_tests::{Backend, Scratch, World, eventually, scenario};

#[test]
fn bitcoind_goes_away_and_comes_back() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let wallet = world.client("wallet").await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let invoice = wallet.jit_invoice(Some(150_000_000)).await?;
		let fee = pay_just_in_time(&payer, &wallet, &invoice, 150_000).await?;
		check_sale(&world, &wallet, fee).await?;

		world.bitcoind.stop().await?;
		let noticed = async || Ok((world.lsp.info().await?["synced"] == false).then_some(()));
		eventually(SOON * 4, "the LSP says that it is out of step", noticed).await?;
		// What needs no chain goes on.
		pay_plainly(&payer, &wallet, 20_000).await?;
		world.bitcoind.resume().await?;
		world.mine(CHANNEL_DEPTH, &[&wallet, &payer]).await?;
		let second = world.client("second").await?;
		let invoice = second.jit_invoice(Some(150_000_000)).await?;
		pay_just_in_time(&payer, &second, &invoice, 150_000).await?;
		world.lsp.sales_are(2, "done", SOON).await.map(drop)
	});
}

async fn away_and_back(scratch: &Scratch, backend: Backend) -> Result<()> {
	let world = World::start(scratch, backend).await?;
	let wallet = world.client("wallet").await?;
	let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
	let set_down = |down| match (&world.esplora, &world.electrum) {
		(Some(esplora), _) => esplora.set_down(down),
		(None, Some(electrum)) => electrum.set_down(down),
		(None, None) => panic!("no server to be switched off"),
	};
	set_down(true);
	let noticed = async || Ok((world.lsp.info().await?["synced"] == false).then_some(()));
	eventually(SOON * 4, "the LSP says that it is out of step", noticed).await?;
	world.bitcoind.mine(3).await?;
	set_down(false);
	world.settle(&[&wallet, &payer]).await?;
	let invoice = wallet.jit_invoice(Some(150_000_000)).await?;
	let fee = pay_just_in_time(&payer, &wallet, &invoice, 150_000).await?;
	check_sale(&world, &wallet, fee).await.map(drop)
}

#[test]
fn esplora_goes_away_and_comes_back() {
	scenario(async |scratch| away_and_back(scratch, Backend::Esplora).await);
}

#[test]
fn electrum_goes_away_and_comes_back() {
	scenario(async |scratch| away_and_back(scratch, Backend::Electrum).await);
}

/// Blocks above a channel's funding are taken back, and with them a deposit, which comes back later.
async fn reorganisation(scratch: &Scratch, backend: Backend) -> Result<()> {
	let world = World::start(scratch, backend).await?;
	let wallet = world.client("wallet").await?;
	let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
	let invoice = wallet.jit_invoice(Some(150_000_000)).await?;
	let fee = pay_just_in_time(&payer, &wallet, &invoice, 150_000).await?;
	check_sale(&world, &wallet, fee).await?;
	world.bitcoind.wait_for_mempool(1, SOON).await?;
	world.mine(2, &[&wallet, &payer]).await?;
	let confirmed = async || number(&world.lsp.balance().await?["onchain"], "confirmed_sat");
	let before = confirmed().await?;
	world.bitcoind.send(&world.lsp.address().await?, 700_000).await?;
	world.mine(2, &[&wallet, &payer]).await?;
	ensure!(confirmed().await? == before + 700_000);

	world.bitcoind.reorg(2, false).await?;
	world.settle(&[&wallet, &payer]).await?;
	let gone = async || Ok((confirmed().await? == before).then_some(()));
	eventually(SOON, "the deposit is unconfirmed again", gone).await?;
	pay_plainly(&payer, &wallet, 20_000).await?;
	world.mine(CHANNEL_DEPTH, &[&wallet, &payer]).await?;
	let back = async || Ok((confirmed().await? == before + 700_000).then_some(()));
	eventually(SOON, "the deposit is confirmed again", back).await?;
	pay_plainly(&payer, &wallet, 10_000).await
}

#[test]
fn blocks_are_taken_back_over_bitcoind() {
	scenario(async |scratch| reorganisation(scratch, Backend::Bitcoind).await);
}

#[test]
fn blocks_are_taken_back_over_esplora() {
	scenario(async |scratch| reorganisation(scratch, Backend::Esplora).await);
}

#[test]
fn blocks_are_taken_back_over_electrum() {
	scenario(async |scratch| reorganisation(scratch, Backend::Electrum).await);
}
