//! Channels that change their size (lsp/docs/decisions/0004).

use crate::steps::{
	LEASE_BLOCKS, PAYER_CHANNEL_SAT, books_agree, client_with_channel, order_invoice, pay_plainly, pay_thin,
};
use anyhow::{Context, Result, ensure};
use inlet_tests::thin::{ThinConfig, ThinEvent, ThinNode};
use inlet_tests::wallet::{number, text};
use inlet_tests::world::{CHANNEL_DEPTH, SOON};
use inlet_tests::{Backend, InletOptions, Scratch, Wallet, World, eventually, scenario};
use lightning_liquidity::lsps1::msgs::LSPS1OrderParams;
use serde_json::{Value, json};

/// LDK takes a splice of a channel without confirmations for locked at once. It then forgets the funding before it, and with it
/// how to punish an old state, which the client can have mined in the splice's place: it would take once more what it has spent.
#[test]
fn a_client_cannot_splice_its_past_away() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let payer = world.thin_payer(&[1_000_000]).await?;
		let client = ThinNode::start(&world.bitcoind, ThinConfig::client("client", &world.lsp.uri())).await?;
		pay_thin(&payer, &client.receive_jit(Some(150_000_000)).await?, &client).await?;
		world.bitcoind.wait_for_mempool(1, SOON).await?;
		world.mine(CHANNEL_DEPTH, &[]).await?;
		client.at_height(world.bitcoind.height().await?, SOON).await?;
		let channel = client.usable_channels(1, SOON).await?.remove(0);
		ensure!(channel.confirmations_required == Some(0), "not a channel without confirmations: {channel:?}");
		let rich = client.remember(&channel)?;
		pay_thin(&client, &payer.invoice(Some(100_000_000))?, &payer).await?;
		let before = number(&world.lsp.balance().await?, "total_sat")?;

		client.splice_out(&channel, 5_000).await?;
		let refused = |event: &ThinEvent| matches!(event, ThinEvent::SpliceFailed { .. }).then_some(());
		client.wait_for(SOON, refused).await?;
		let funding = client.channels()[0].funding_txo;
		ensure!(funding == channel.funding_txo, "the LSP took part in it: {funding:?}");

		// The LSP still knows what the client has revoked, and takes all of it.
		let old = client.old_commitment(&rich)?;
		client.disconnect();
		world.bitcoind.mine_only(&[&old]).await?;
		let punished = async || {
			world.mine(1, &[]).await?;
			let (total, channels) =
				(number(&world.lsp.balance().await?, "total_sat")?, world.lsp.channels().await?.len());
			Ok((channels == 1 && total > before).then_some(()))
		};
		eventually(SOON * 2, "the LSP has taken it", punished).await
	});
}

/// An LSP that makes channels larger. Its clients wait for a block, as they must then.
fn splicing() -> InletOptions {
	let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
	let environment =
		vec![set("INLET_LSPS1_SPLICE", "true"), set("INLET_LSPS1_MIN_REQUIRED_CHANNEL_CONFIRMATIONS", "1")];
	InletOptions { environment, ..Default::default() }
}

/// The LSP's channel with this peer.
async fn channel_with(world: &World<'_>, peer: &str) -> Result<Value> {
	let channels = world.lsp.channels().await?;
	let mut with = channels.iter().filter(|channel| channel["peer"] == peer);
	let found = with.next().with_context(|| format!("no channel with {peer}: {channels:?}"))?.clone();
	ensure!(with.next().is_none(), "more than one channel with {peer}: {channels:?}");
	Ok(found)
}

/// A wallet (ldk-node, on LDK 0.2) with a channel of its own orders 300,000 sat more from the other side, and gets them in that
/// channel. With `crash`, the LSP dies there, and comes back.
async fn grown(scratch: &Scratch, crash: Option<&str>) -> Result<()> {
	let world = World::start_with(scratch, Backend::Bitcoind, splicing()).await?;
	let wallet = client_with_channel(&world, "wallet", 400_000).await?;
	let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
	let before = channel_with(&world, wallet.node_id()).await?;
	let order = wallet.order_channel(300_000, 0, LEASE_BLOCKS).await?;
	let id = text(&order, "order_id")?;
	if crash.is_some() {
		world.lsp.stop().await?;
		world.lsp.crash_at(crash);
		come_back(&world, &[&wallet, &payer]).await?;
	}
	let payment = wallet.pay(&order_invoice(&order)?, None).await?;
	if crash.is_some() {
		world.lsp.ended(SOON).await?;
		world.lsp.crash_at(None);
		come_back(&world, &[&wallet, &payer]).await?;
	}
	let splice = world.bitcoind.wait_for_mempool(1, SOON * 2).await?.remove(0);
	let order = world.lsp.order(&id).await?;
	ensure!(order["status"] == "opening", "the splice is in no block yet: {order}");
	books_agree(&world, "in the middle of a splice").await?;
	world.mine(1, &[&wallet, &payer]).await?;
	let done = world.lsp.order_is(&id, "completed", SOON).await?;
	wallet.paid(&payment, SOON).await?;
	ensure!(text(&done["channel"], "funding")?.starts_with(&splice), "{done}");
	ensure!(done["reserved_sat"] == 0, "{done}");
	let status = wallet.call("lsps1_status", json!({ "order_id": id })).await?;
	ensure!(status["channel"]["funding_outpoint"] == done["channel"]["funding"], "{status} {done}");
	ensure!(status["payment"]["bolt11"]["state"] == "PAID", "{status}");

	world.mine(CHANNEL_DEPTH, &[&wallet, &payer]).await?;
	let larger = async || {
		let now = channel_with(&world, wallet.node_id()).await?;
		Ok((number(&now, "capacity_sat")? >= 700_000 && now["state"] == "ready").then_some(now))
	};
	let after = eventually(SOON, "the channel is larger", larger).await?;
	ensure!(after["id"] == before["id"] && after["funding"] == done["channel"]["funding"], "{before} {after}");
	ensure!(after["lease_until_height"].is_number(), "no lease: {after}");
	wallet.usable_channels(1, SOON).await?;
	// More than the LSP had on its side before.
	pay_plainly(&payer, &wallet, 250_000).await?;
	pay_plainly(&wallet, &payer, 100_000).await?;
	ends_well(&world, &wallet, &after).await
}

/// The LSP starts, and these meet it again.
async fn come_back(world: &World<'_>, wallets: &[&Wallet]) -> Result<()> {
	world.lsp.resume().await?;
	for wallet in wallets {
		wallet.connect(&world.lsp.uri()).await?;
		wallet.usable_channels(1, SOON).await?;
	}
	Ok(())
}

/// The larger channel is closed, and everyone has their money.
async fn ends_well(world: &World<'_>, wallet: &Wallet, channel: &Value) -> Result<()> {
	let before = number(&world.lsp.balance().await?, "total_sat")?;
	let id = text(channel, "id")?;
	world.lsp.json(&["channels", "close", &id, "--break-lease", "--yes"]).await?;
	world.bitcoind.wait_for_mempool(1, SOON).await?;
	world.mine(CHANNEL_DEPTH, &[wallet]).await?;
	let home = async || {
		world.mine(1, &[wallet]).await?;
		let balance = world.lsp.balance().await?;
		ensure!(number(&balance, "total_sat")? + 5_000 >= before, "{before} before, now {balance}");
		Ok((balance["lightning"]["closing_sat"] == 0 && world.lsp.channels().await?.len() == 1).then_some(()))
	};
	eventually(SOON, "the LSP has its money", home).await?;
	let alone = world.lsp.log_text().contains("closed in the middle of a splice");
	ensure!(!alone, "its splice was locked: the closing transaction is all that it takes");
	Ok(())
}

#[test]
fn an_order_makes_the_clients_channel_larger() {
	scenario(async |scratch| grown(scratch, None).await);
}

/// LDK has our signatures, and has sent its own for the new funding.
#[test]
fn a_splice_survives_kill_9() {
	scenario(async |scratch| grown(scratch, Some("splice.sign.done")).await);
}

/// The LSPS1 order of a thin client with a channel of its own, paid over that.
async fn order_of_thin(world: &World<'_>, splices: bool) -> Result<(ThinNode, String)> {
	let config = ThinConfig { splices, ..ThinConfig::client("client", &world.lsp.uri()) };
	let client = ThinNode::start(&world.bitcoind, config).await?;
	client.open_channel(&world.lsp.uri(), 400_000, 0, false).await?;
	world.mine(CHANNEL_DEPTH, &[]).await?;
	client.usable_channels(1, SOON).await?;
	let options = client.order_options().await?;
	let params = LSPS1OrderParams {
		lsp_balance_sat: 300_000,
		client_balance_sat: 0,
		required_channel_confirmations: options.min_required_channel_confirmations,
		funding_confirms_within_blocks: options.min_funding_confirms_within_blocks,
		channel_expiry_blocks: LEASE_BLOCKS,
		token: None,
		announce_channel: false,
	};
	let order = client.order(params, None).await?;
	let bolt11 = order.payment.bolt11.as_ref().context("no invoice")?;
	client.pay(&bolt11.invoice, None, 1)?;
	Ok((client, order.id.0))
}

/// A client that says that it can splice, and refuses when it is asked to, gets a channel of its own, and that once.
#[test]
fn a_client_that_refuses_a_splice_gets_a_channel() {
	scenario(async |scratch| {
		let world = World::start_with(scratch, Backend::Bitcoind, splicing()).await?;
		let (client, id) = order_of_thin(&world, false).await?;
		// It hangs up when it refuses.
		let back = async || {
			client.reconnect().await?;
			Ok(Some(world.bitcoind.mempool().await?).filter(|mempool| mempool.len() == 1))
		};
		let funding = eventually(SOON * 2, "a channel is opened", back).await?.remove(0);
		let done = world.lsp.order_is(&id, "completed", SOON).await?;
		ensure!(text(&done["channel"], "funding")?.starts_with(&funding), "{done}");
		world.mine(CHANNEL_DEPTH, &[]).await?;
		client.at_height(world.bitcoind.height().await?, SOON).await?;
		let channels = client.usable_channels(2, SOON).await?;
		let mut sizes: Vec<u64> = channels.iter().map(|channel| channel.channel_value_satoshis).collect();
		sizes.sort_unstable();
		ensure!(sizes == [300_000, 400_000], "{sizes:?}");
		Ok(())
	});
}

/// The client has its own state of the channel mined instead of the splice. That frees the coins, and it gets a channel with them.
#[test]
fn a_splice_that_the_client_undoes_is_followed_by_a_channel() {
	scenario(async |scratch| {
		let world = World::start_with(scratch, Backend::Bitcoind, splicing()).await?;
		let (client, id) = order_of_thin(&world, true).await?;
		let splice = world.bitcoind.wait_for_mempool(1, SOON).await?.remove(0);
		let before = number(&world.lsp.balance().await?, "total_sat")?;
		let own = client.old_commitment(&client.remember(&client.channels()[0])?)?;
		world.bitcoind.mine_only(&[&own]).await?;
		world.mine(CHANNEL_DEPTH, &[]).await?;
		let funding = async || {
			client.reconnect().await?;
			let mempool = world.bitcoind.mempool().await?;
			let done = world.lsp.order(&id).await?["status"] == "completed";
			Ok(done.then_some(mempool))
		};
		let mempool = eventually(SOON * 2, "a channel is opened", funding).await?;
		let done = world.lsp.order(&id).await?;
		let funding = text(&done["channel"], "funding")?;
		ensure!(!funding.starts_with(&splice) && mempool.iter().any(|txid| funding.starts_with(txid)), "{done}");
		world.mine(CHANNEL_DEPTH, &[]).await?;
		let channel = channel_with(&world, &client.node_id().to_string()).await?;
		ensure!(channel["capacity_sat"] == 300_000, "{channel}");
		let after = number(&world.lsp.balance().await?, "total_sat")?;
		ensure!(after + 5_000 > before, "{before} before, {after} after");
		Ok(())
	});
}

/// The same while the LSP is away, so that the undoing is deep in the chain before LDK has closed the channel.
#[test]
fn a_splice_that_is_undone_while_the_lsp_is_away_gives_its_coins_back() {
	scenario(async |scratch| {
		let world = World::start_with(scratch, Backend::Bitcoind, splicing()).await?;
		let (client, id) = order_of_thin(&world, true).await?;
		let splice = world.bitcoind.wait_for_mempool(1, SOON).await?.remove(0);
		let before = number(&world.lsp.balance().await?, "total_sat")?;
		let own = client.old_commitment(&client.remember(&client.channels()[0])?)?;
		world.lsp.stop().await?;
		world.bitcoind.mine_only(&[&own]).await?;
		world.bitcoind.mine(CHANNEL_DEPTH).await?;
		world.lsp.resume().await?;
		let funded = async || {
			client.reconnect().await?;
			world.mine(1, &[]).await?;
			let order = world.lsp.order(&id).await?;
			Ok((order["status"] == "completed").then_some(order))
		};
		let done = eventually(SOON * 2, "a channel is opened with the same coins", funded).await?;
		ensure!(!text(&done["channel"], "funding")?.starts_with(&splice), "{done}");
		world.mine(CHANNEL_DEPTH, &[]).await?;
		let after = number(&world.lsp.balance().await?, "total_sat")?;
		ensure!(after + 5_000 > before, "{before} before, {after} after");
		books_agree(&world, "at the end").await
	});
}

/// The client asks to close the channel while its splice waits for a block. LDK agrees, and closes it as soon as the order's payment
/// over it is settled, on the funding that the splice has spent by then: that can never be mined. What is ours in the new one
/// comes home without a restart.
#[test]
fn a_channel_that_is_closed_in_the_middle_of_its_splice_comes_home() {
	scenario(async |scratch| {
		let world = World::start_with(scratch, Backend::Bitcoind, splicing()).await?;
		let before = number(&world.lsp.balance().await?, "total_sat")?;
		let (client, id) = order_of_thin(&world, true).await?;
		let splice = world.bitcoind.wait_for_mempool(1, SOON).await?.remove(0);
		let balance = world.lsp.balance().await?;
		ensure!(balance["lightning"]["splicing_sat"] == 300_000, "{balance}");
		let peer = client.node_id().to_string();
		let channel = text(&channel_with(&world, &peer).await?, "id")?;
		let refused = world.lsp.say(&["channels", "close", &channel, "--yes"]).await?;
		ensure!(refused.code != Some(0) && refused.err.contains("is being made larger"), "{refused:?}");

		client.close(&client.channels()[0])?;
		let closing = async || Ok((channel_with(&world, &peer).await?["state"] == "closing").then_some(()));
		eventually(SOON, "they are closing it", closing).await?;
		world.mine(1, &[]).await?;
		let done = world.lsp.order_is(&id, "completed", SOON).await?;
		ensure!(text(&done["channel"], "funding")?.starts_with(&splice), "{done}");
		let closed = async || Ok(world.lsp.channels().await?.is_empty().then_some(()));
		eventually(SOON, "they have closed it", closed).await?;
		// Nor does the client close it by force.
		drop(client);
		let home = async || {
			world.mine(20, &[]).await?;
			let balance = world.lsp.balance().await?;
			ensure!(number(&balance, "total_sat")? + 10_000 > before, "{before} before, now {balance}");
			Ok((balance["lightning"]["closing_sat"] == 0).then_some(()))
		};
		eventually(SOON * 4, "all that is ours is in the wallet", home).await?;
		books_agree(&world, "at the end").await
	});
}
