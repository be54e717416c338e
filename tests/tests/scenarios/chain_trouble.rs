//! The chain that the backend shows stands still, is contradicted, is taken back, or loses what we sent.

use crate::steps::{PAYER_CHANNEL_SAT, check_sale, pay_just_in_time, pay_plainly, pay_thin};
use anyhow::{Context, Result, ensure};
use inlet_tests::inlet::InletOptions;
use inlet_tests::thin::{ThinConfig, ThinNode};
use inlet_tests::wallet::text;
use inlet_tests::world::{CHANNEL_DEPTH, SOON};
use inlet_tests::{Backend, Bitcoind, Scratch, Wallet, World, esplora, eventually, scenario};
use serde_json::{Value, json};

async fn all_events(world: &World<'_>) -> Result<Vec<Value>> {
	let page = world.lsp.json(&["events", "--limit", "500"]).await?;
	let mut events = page["events"].as_array().cloned().with_context(|| format!("no events in {page}"))?;
	events.sort_by_key(|event| event["id"].as_u64());
	Ok(events)
}

/// Events of this kind, oldest first.
async fn events(world: &World<'_>, kind: &str) -> Result<Vec<Value>> {
	let mut events = all_events(world).await?;
	events.retain(|event| event["kind"] == kind);
	Ok(events)
}

/// Waits until the view is current, or no longer is, and the operator was told so (with this in the text).
async fn synced_is(world: &World<'_>, synced: bool, why: &str) -> Result<()> {
	let kind = if synced { "synced" } else { "out_of_sync" };
	let told = async || {
		let last = events(world, kind).await?.pop();
		let fits = last.is_some_and(|event| event["text"].as_str().is_some_and(|text| text.contains(why)));
		Ok((world.lsp.info().await?["synced"] == synced && fits).then_some(()))
	};
	match eventually(SOON * 3, &format!("synced is {synced} because of {why:?}"), told).await {
		Ok(()) => Ok(()),
		Err(error) => Err(error.context(format!("{:?}", all_events(world).await.unwrap_or_default()))),
	}
}

/// The client gets no channel, by either way of buying one.
async fn nothing_is_sold(client: &Wallet) -> Result<()> {
	ensure!(client.jit_invoice(Some(150_000_000)).await.is_err(), "a price was quoted");
	ensure!(client.order_channel(300_000, 0, 4_320).await.is_err(), "an order was taken");
	Ok(())
}

/// Mines a block, and another, until the LSP sells again: a young tip may be old by the time that it is looked at.
async fn sells_again(world: &World<'_>) -> Result<()> {
	let young = async || {
		world.bitcoind.mine(1).await?;
		Ok((world.lsp.info().await?["synced"] == true).then_some(()))
	};
	eventually(SOON, "a new block makes the view current", young).await
}

/// A payment that comes while the tip stands still is held, and gets its channel when there is a block again.
#[test]
fn r20_a_tip_that_stands_still_stops_sales_and_holds_what_is_under_way() {
	scenario(async |scratch| {
		let config = "[chain]\nmax_tip_age_secs = 20\n".to_owned();
		let world =
			World::start_with(scratch, Backend::Bitcoind, InletOptions { config, ..Default::default() }).await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let wallet = world.client("wallet").await?;
		sells_again(&world).await?;
		let invoice = wallet.jit_invoice(Some(150_000_000)).await?;

		synced_is(&world, false, "the newest block is").await?;
		nothing_is_sold(&world.client("late").await?).await?;
		let status = world.lsp.json(&["status"]).await?;
		ensure!(status["attention"].to_string().contains("max_tip_age_secs"), "{status}");
		let payment = payer.pay(&invoice, None).await?;
		world.lsp.sales_are(1, "gathering", SOON).await?;
		ensure!(world.lsp.channels().await?.len() == 1, "a channel was opened on an old tip");

		world.bitcoind.mine(1).await?;
		let received = wallet.received(&invoice, SOON).await?;
		payer.paid(&payment, SOON).await?;
		check_sale(&world, &wallet, 150_000_000 - received.what["amount_msat"].as_u64().context("no amount")?).await?;
		ensure!(!events(&world, "synced").await?.is_empty());
		Ok(())
	});
}

/// The witness is another regtest: the same first block, other ones after it.
async fn contradicted(scratch: &Scratch, by_esplora: bool) -> Result<()> {
	let other = Bitcoind::start(scratch).await?;
	let served = by_esplora.then(|| esplora::serve(&other)).transpose()?;
	let url = served.as_ref().map_or_else(|| other.url(), |esplora| esplora.url());
	let config = format!("[chain]\nwitnesses = [\"{url}\"]\n");
	let world = World::start_with(scratch, Backend::Bitcoind, InletOptions { config, ..Default::default() }).await?;
	synced_is(&world, false, "at height").await?;
	nothing_is_sold(&world.client("wallet").await?).await?;
	let told = events(&world, "out_of_sync").await?.pop().context("no event")?;
	ensure!(!told.to_string().contains("regtest@"), "a password is shown: {told}");

	// The witness goes away: that clears nothing.
	match &served {
		Some(esplora) => esplora.set_down(true),
		None => other.stop().await?,
	}
	ensure!(world.lsp.info().await?["synced"] == false);
	// With a witness that sees the same chain, sales go on; when that one is away, too.
	let good = esplora::serve(&world.bitcoind)?;
	world.lsp.stop().await?;
	let config = format!("[chain]\nwitnesses = [\"{}\"]\n", good.url());
	std::fs::write(world.lsp.data_dir().join("inlet.toml"), config)?;
	world.lsp.resume().await?;
	let wallet = world.client("second").await?;
	wallet.jit_invoice(Some(150_000_000)).await?;
	good.set_down(true);
	let told = async || {
		let told = events(&world, "warning").await?;
		Ok(told.iter().any(|event| event["data"]["over"] == false).then_some(()))
	};
	eventually(SOON, "the operator hears that the witness is away", told).await?;
	ensure!(world.lsp.info().await?["synced"] == true);
	wallet.jit_invoice(Some(150_000_000)).await?;
	good.set_down(false);
	let over = async || Ok(events(&world, "warning").await?.iter().any(|e| e["data"]["over"] == true).then_some(()));
	eventually(SOON, "the operator hears that it is back", over).await
}

#[test]
fn r20_a_witness_with_another_chain_stops_sales_over_esplora() {
	scenario(async |scratch| contradicted(scratch, true).await);
}

#[test]
fn r20_a_witness_with_another_chain_stops_sales_over_bitcoind() {
	scenario(async |scratch| contradicted(scratch, false).await);
}

/// The backend falls behind the witness (which is the same bitcoind, seen past a frozen Esplora server), and catches up.
#[test]
fn r20_a_backend_that_is_kept_from_new_blocks_stops_sales_until_it_gets_them() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let (height, tip) = (world.bitcoind.height().await?, world.bitcoind.tip().await?);
		let witness = Bitcoind::start(scratch).await?;
		copy_chain(&world.bitcoind, &witness).await?;
		ensure!(witness.tip().await? == tip, "the witness has another chain");
		world.lsp.stop().await?;
		let config = format!("[chain]\nwitnesses = [\"{}\"]\n", witness.url());
		std::fs::write(world.lsp.data_dir().join("inlet.toml"), config)?;
		world.lsp.resume().await?;
		let wallet = world.client("wallet").await?;
		wallet.jit_invoice(Some(150_000_000)).await?;

		witness.mine(8).await?;
		synced_is(&world, false, "blocks ahead").await?;
		nothing_is_sold(&wallet).await?;
		ensure!(world.bitcoind.height().await? == height);
		copy_chain(&witness, &world.bitcoind).await?;
		synced_is(&world, true, "at block").await?;
		wallet.jit_invoice(Some(150_000_000)).await.map(drop)
	});
}

/// Gives `to` all blocks of `from` that it takes.
async fn copy_chain(from: &Bitcoind, to: &Bitcoind) -> Result<()> {
	for height in 1..=from.height().await? {
		let hash = from.call("getblockhash", json!([height])).await?;
		let block = from.call("getblock", json!([hash, 0])).await?;
		to.call("submitblock", json!([block])).await?;
	}
	Ok(())
}

/// A sale whose channel works at once, its funding still in the mempool.
struct Sold {
	wallet: Wallet,
	payer: Wallet,
	funding: String,
}

async fn sold(world: &World<'_>) -> Result<Sold> {
	let wallet = world.client("wallet").await?;
	let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
	let invoice = wallet.jit_invoice(Some(150_000_000)).await?;
	let fee = pay_just_in_time(&payer, &wallet, &invoice, 150_000).await?;
	check_sale(world, &wallet, fee).await?;
	let funding = world.bitcoind.wait_for_mempool(1, SOON).await?.remove(0);
	Ok(Sold { wallet, payer, funding })
}

/// Another channel is sold: its funding spends none of the coins that the first one holds.
async fn another_is_sold(world: &World<'_>, sold: &Sold) -> Result<()> {
	let second = world.client("second").await?;
	let invoice = second.jit_invoice(Some(150_000_000)).await?;
	pay_just_in_time(&sold.payer, &second, &invoice, 150_000).await?;
	let both = world.bitcoind.wait_for_mempool(2, SOON).await?;
	ensure!(both.contains(&sold.funding), "the first funding was replaced: {both:?}");
	Ok(())
}

async fn confirmed(world: &World<'_>, sold: &Sold) -> Result<()> {
	world.mine(CHANNEL_DEPTH, &[&sold.wallet, &sold.payer]).await?;
	is_confirmed(world, &sold.funding).await?;
	pay_plainly(&sold.payer, &sold.wallet, 5_000).await
}

/// This transaction is buried, and the LSP's channel that it funds is there.
async fn is_confirmed(world: &World<'_>, funding: &str) -> Result<()> {
	let transaction = world.bitcoind.call("getrawtransaction", json!([funding, true])).await?;
	ensure!(transaction["confirmations"].as_u64() >= Some(u64::from(CHANNEL_DEPTH)), "{transaction}");
	let channels = world.lsp.channels().await?;
	let ours = channels.iter().find(|c| text(c, "funding").is_ok_and(|outpoint| outpoint.starts_with(funding)));
	ensure!(ours.is_some_and(|channel| channel["state"] == "ready"), "the channel did not survive: {channels:?}");
	Ok(())
}

/// The block that holds a 0-conf channel's funding is taken back: the channel goes on, nothing is spent twice. The client is
/// on LDK 0.3, as the LSP is.
async fn reorganised(scratch: &Scratch, backend: Backend) -> Result<()> {
	let world = World::start(scratch, backend).await?;
	let payer = world.thin_payer(&[1_000_000]).await?;
	let client = ThinNode::start(&world.bitcoind, ThinConfig::client("client", &world.lsp.uri())).await?;
	pay_thin(&payer, &client.receive_jit(Some(150_000_000)).await?, &client).await?;
	let funding = world.bitcoind.wait_for_mempool(1, SOON).await?.remove(0);
	let settle = async || {
		world.settle(&[]).await?;
		client.at_height(world.bitcoind.height().await?, SOON).await
	};
	world.bitcoind.mine(1).await?;
	settle().await?;
	ensure!(!world.bitcoind.mempool().await?.contains(&funding), "it is not mined");

	world.bitcoind.reorg(1, false).await?;
	settle().await?;
	world.bitcoind.wait_for_tx(&funding, SOON).await?;
	pay_thin(&payer, &client.invoice(Some(20_000_000))?, &client).await?;
	let second = ThinNode::start(&world.bitcoind, ThinConfig::client("second", &world.lsp.uri())).await?;
	pay_thin(&payer, &second.receive_jit(Some(150_000_000)).await?, &second).await?;
	let both = world.bitcoind.wait_for_mempool(2, SOON).await?;
	ensure!(both.contains(&funding), "the first funding was replaced: {both:?}");
	world.bitcoind.mine(CHANNEL_DEPTH).await?;
	settle().await?;
	is_confirmed(&world, &funding).await?;
	pay_thin(&payer, &client.invoice(Some(5_000_000))?, &client).await
}

/// A client on LDK 0.2 closes its channel when that happens, whatever the LSP thinks: the funding is mined for the close to
/// spend, and sales go on.
#[test]
fn r19_a_client_that_closes_when_its_funding_is_taken_back_loses_nobody_money() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let sold = sold(&world).await?;
		world.mine(1, &[&sold.wallet, &sold.payer]).await?;
		world.bitcoind.reorg(1, false).await?;
		world.settle(&[&sold.wallet, &sold.payer]).await?;
		let closed = async || Ok(world.lsp.channels().await?.len() == 1).map(|closed| closed.then_some(()));
		eventually(SOON, "the channel is closed", closed).await?;
		world.bitcoind.wait_for_tx(&sold.funding, SOON).await?;
		world.mine(CHANNEL_DEPTH, &[&sold.wallet, &sold.payer]).await?;
		let transaction = world.bitcoind.call("getrawtransaction", json!([sold.funding, true])).await?;
		ensure!(transaction["confirmations"].as_u64() >= Some(1), "{transaction}");
		let second = world.client("second").await?;
		let invoice = second.jit_invoice(Some(150_000_000)).await?;
		pay_just_in_time(&sold.payer, &second, &invoice, 150_000).await.map(drop)
	});
}

#[test]
fn r19_r4_the_funding_of_a_0conf_channel_is_taken_back_over_bitcoind() {
	scenario(async |scratch| reorganised(scratch, Backend::Bitcoind).await);
}

#[test]
fn r19_r4_the_funding_of_a_0conf_channel_is_taken_back_over_esplora() {
	scenario(async |scratch| reorganised(scratch, Backend::Esplora).await);
}

/// bitcoind loses its mempool, and the LSP is killed meanwhile: the funding comes back by itself, without a block.
#[test]
fn r4_a_funding_that_the_mempool_lost_is_sent_again() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let sold = sold(&world).await?;
		forget_mempool(&world.bitcoind).await?;
		world.bitcoind.wait_for_tx(&sold.funding, SOON).await?;
		pay_plainly(&sold.payer, &sold.wallet, 20_000).await?;

		world.lsp.kill()?;
		forget_mempool(&world.bitcoind).await?;
		ensure!(!world.bitcoind.mempool().await?.contains(&sold.funding), "bitcoind still has it");
		world.lsp.resume().await?;
		world.bitcoind.wait_for_tx(&sold.funding, SOON).await?;
		for wallet in [&sold.wallet, &sold.payer] {
			wallet.connect(&world.lsp.uri()).await?;
			wallet.usable_channels(1, SOON).await?;
		}
		another_is_sold(&world, &sold).await?;
		confirmed(&world, &sold).await
	});
}

async fn forget_mempool(bitcoind: &Bitcoind) -> Result<()> {
	bitcoind.stop().await?;
	std::fs::remove_file(bitcoind.dir().join("regtest/mempool.dat"))?;
	bitcoind.resume().await
}

/// bitcoind loses its newest blocks (a power cut): the LSP waits where it stands, says so, and follows the new chain when
/// that is longer.
#[test]
fn r19_r20_a_bitcoind_that_lost_blocks_is_waited_for() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let sold = sold(&world).await?;
		world.mine(3, &[&sold.wallet, &sold.payer]).await?;
		let lost = world.bitcoind.call("getblockhash", json!([world.bitcoind.height().await? - 1])).await?;
		world.bitcoind.call("invalidateblock", json!([lost])).await?;
		synced_is(&world, false, "shorter chain").await?;
		pay_plainly(&sold.payer, &sold.wallet, 10_000).await?;
		world.lsp.check_running()?;
		for _ in 0..3 {
			world.bitcoind.mine_empty().await?;
		}
		world.settle(&[&sold.wallet, &sold.payer]).await?;
		confirmed(&world, &sold).await
	});
}

/// `kill -9` of bitcoind, which forgets blocks that it had not written; and an LSP that starts while bitcoind is behind it.
#[test]
fn r19_r20_bitcoind_is_killed_and_forgets_blocks() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		// This makes bitcoind write down what it has: it will forget what comes after.
		world.bitcoind.call("gettxoutsetinfo", json!([])).await?;
		world.mine(10, &[]).await?;
		let before = world.bitcoind.height().await?;
		world.bitcoind.kill()?;
		world.bitcoind.resume().await?;
		let lost = before - world.bitcoind.height().await?;
		ensure!(lost > 0, "it forgot nothing");
		world.bitcoind.mine(lost + 1).await?;
		world.settle(&[]).await?;
		world.lsp.check_running()?;

		world.lsp.stop().await?;
		let hash = world.bitcoind.call("getblockhash", json!([world.bitcoind.height().await? - 4])).await?;
		world.bitcoind.call("invalidateblock", json!([hash])).await?;
		world.lsp.launch()?;
		synced_is(&world, false, "shorter chain").await?;
		world.bitcoind.mine(8).await?;
		world.settle(&[]).await?;
		world.client("wallet").await?.jit_invoice(Some(150_000_000)).await.map(drop)
	});
}
