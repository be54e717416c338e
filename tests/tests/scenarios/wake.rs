//! A wallet with a channel is away when it is paid: the payment waits for it while it is woken.

use crate::steps::{PAYER_CHANNEL_SAT, check_sale, notified_world, pay_just_in_time};
use anyhow::{Context, Result, ensure};
use inlet_tests::wallet::number;
use inlet_tests::webhook::Receiver;
use inlet_tests::world::SOON;
use inlet_tests::{Scratch, Wallet, World, eventually, scenario};

/// A world whose LSP holds payments for so many seconds, and may call this receiver.
async fn world<'a>(scratch: &'a Scratch, hold_secs: u32, receiver: &Receiver) -> Result<World<'a>> {
	notified_world(scratch, &format!("[lsps5]\nhold_secs = {hold_secs}\n"), receiver).await
}

/// The texts of the LSP's events about clients.
async fn told(world: &World<'_>) -> Result<Vec<String>> {
	let page = world.lsp.json(&["events"]).await?;
	let events = page["events"].as_array().with_context(|| format!("no events in {page}"))?;
	let texts = events.iter().filter(|event| event["kind"] == "client").filter_map(|event| event["text"].as_str());
	Ok(texts.map(str::to_owned).collect())
}

/// Waits until the LSP has told this.
async fn tells(world: &World<'_>, text: &str) -> Result<()> {
	let seen = async || Ok(told(world).await?.iter().any(|line| line.contains(text)).then_some(()));
	eventually(SOON, &format!("the LSP says {text:?}"), seen).await
}

/// A wallet with a webhook and a channel that it bought just in time, and who paid it.
async fn paid_once(world: &World<'_>, receiver: &Receiver) -> Result<(Wallet, Wallet)> {
	let wallet = world.client("wallet").await?;
	world.set_webhook(&wallet, receiver).await?;
	let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
	let first = wallet.jit_invoice(Some(250_000_000)).await?;
	let fee = pay_just_in_time(&payer, &wallet, &first, 250_000).await?;
	check_sale(world, &wallet, fee).await?;
	Ok((wallet, payer))
}

#[test]
fn l5_16_a_payment_waits_for_a_wallet_that_is_away_and_arrives_in_full() {
	scenario(async |scratch| {
		let receiver = Receiver::start().await?;
		let world = world(scratch, 60, &receiver).await?;
		let (wallet, payer) = paid_once(&world, &receiver).await?;

		// To the channel that is there now.
		let invoice = wallet.invoice(Some(20_000_000)).await?;
		wallet.stop().await?;
		world.lsp.sees(&wallet, false).await?;
		let payment = payer.pay(&invoice, None).await?;
		let called = receiver.wait_for(SOON, "the wallet is told of the payment", |all| all.len() >= 2).await?;
		let notices: Vec<String> = called.iter().map(|request| request.notice()).collect();
		ensure!(notices == ["webhook_registered", "payment_incoming"], "{notices:?}");
		ensure!(called[1].signer()?.to_string() == world.lsp.node_id(), "signed by somebody else");
		wallet.resume().await?;
		wallet.connect(&world.lsp.uri()).await?;
		let received = wallet.received(&invoice, SOON).await?;
		ensure!(number(&received.what, "amount_msat")? == 20_000_000, "not in full: {:?}", received.what);
		payer.paid(&payment, SOON).await?;
		ensure!(wallet.channels().await?.len() == 1);

		// The LSP is killed while it holds the next one.
		let invoice = wallet.invoice(Some(10_000_000)).await?;
		wallet.stop().await?;
		world.lsp.sees(&wallet, false).await?;
		let before = told(&world).await?.iter().filter(|line| line.starts_with("hold")).count();
		let payment = payer.pay(&invoice, None).await?;
		let held = async || {
			let now = told(&world).await?.iter().filter(|line| line.starts_with("hold")).count();
			Ok((now > before).then_some(()))
		};
		eventually(SOON, "the LSP holds the next payment", held).await?;
		world.lsp.kill()?;
		world.lsp.resume().await?;
		tells(&world, "wake lsps5.payment_incoming").await?;
		wallet.resume().await?;
		wallet.connect(&world.lsp.uri()).await?;
		payer.connect(&world.lsp.uri()).await?;
		wallet.received(&invoice, SOON).await?;
		payer.paid(&payment, SOON).await.map(drop)
	});
}

#[test]
fn l5_16_a_payment_to_a_wallet_that_stays_away_fails_at_the_deadline() {
	scenario(async |scratch| {
		let receiver = Receiver::start().await?;
		let world = world(scratch, 3, &receiver).await?;
		let (wallet, payer) = paid_once(&world, &receiver).await?;
		let invoice = wallet.invoice(Some(20_000_000)).await?;
		wallet.stop().await?;
		world.lsp.sees(&wallet, false).await?;
		let payment = payer.pay(&invoice, None).await?;
		payer.failed(&payment, SOON).await?;
		tells(&world, "wake lsps5.payment_incoming").await?;
		tells(&world, "did not come back in time").await
	});
}
