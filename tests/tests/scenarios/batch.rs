//! Orders whose channels share one funding transaction (lsp/docs/decisions/0008).

use crate::steps::{booked, books_agree};
use anyhow::{Context, Result, ensure};
use inlet_tests::thin::{Behaviour, OnOpen, Order, ThinConfig, ThinNode};
use inlet_tests::wallet::{number, text};
use inlet_tests::world::{CHANNEL_DEPTH, SOON};
use inlet_tests::{Backend, InletOptions, Scratch, World, eventually, scenario};
use lightning_liquidity::lsps1::msgs::LSPS1OrderParams;
use serde_json::{Value, json};

const ORDER_SAT: u64 = 200_000;

/// An LSP that waits for others, and whose clients wait for a block, as they must then.
async fn world(scratch: &Scratch) -> Result<World<'_>> {
	let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
	let environment =
		vec![set("INLET_LSPS1_BATCH_WINDOW_SECS", "4"), set("INLET_LSPS1_MIN_REQUIRED_CHANNEL_CONFIRMATIONS", "1")];
	World::start_with(scratch, Backend::Bitcoind, InletOptions { environment, ..Default::default() }).await
}

async fn client(world: &World<'_>, name: &str) -> Result<(ThinNode, Order)> {
	let client = ThinNode::start(&world.bitcoind, ThinConfig::client(name, &world.lsp.uri())).await?;
	let params = LSPS1OrderParams {
		lsp_balance_sat: ORDER_SAT,
		client_balance_sat: 10_000,
		required_channel_confirmations: 1,
		funding_confirms_within_blocks: 6,
		channel_expiry_blocks: 4320,
		token: None,
		announce_channel: false,
	};
	let refund = world.bitcoind.wallet_call("getnewaddress", json!(["", "bech32"])).await?;
	let order = client.order(params, refund.as_str()).await?;
	Ok((client, order))
}

/// Three clients with an order each, and someone who pays.
async fn three(world: &World<'_>) -> Result<(ThinNode, Vec<(ThinNode, Order)>)> {
	let payer = world.thin_payer(&[1_000_000]).await?;
	let mut clients = Vec::new();
	for name in ["one", "two", "three"] {
		clients.push(client(world, name).await?);
	}
	Ok((payer, clients))
}

/// All are paid: the first two over Lightning, the others on-chain.
async fn pay(world: &World<'_>, payer: &ThinNode, clients: &[(ThinNode, Order)]) -> Result<()> {
	for (_, order) in &clients[2..] {
		let onchain = order.payment.onchain.as_ref().context("no on-chain payment")?;
		world.bitcoind.send(&onchain.address.to_string(), onchain.order_total_sat).await?;
	}
	for (_, order) in &clients[..2] {
		payer.pay(&order.payment.bolt11.as_ref().context("no invoice")?.invoice, None, 1)?;
	}
	world.mine(1, &[]).await
}

/// All are delivered: by which funding transactions.
async fn completed(world: &World<'_>, clients: &[(ThinNode, Order)]) -> Result<Vec<String>> {
	let mut fundings = Vec::new();
	for (_, order) in clients {
		let done = world.lsp.order_is(&order.id.0, "completed", SOON * 3).await?;
		ensure!(done["reserved_sat"] == 0, "{done}");
		let funding = text(&done["channel"], "funding")?;
		fundings.push(funding.split_once(':').context("no outpoint")?.0.to_owned());
	}
	Ok(fundings)
}

/// ... each with a funding transaction of its own.
async fn completed_apart(world: &World<'_>, clients: &[(ThinNode, Order)]) -> Result<()> {
	let mut fundings = completed(world, clients).await?;
	fundings.sort_unstable();
	fundings.dedup();
	ensure!(fundings.len() == clients.len(), "{fundings:?}");
	Ok(())
}

async fn transaction(world: &World<'_>, txid: &str) -> Result<Value> {
	Ok(world.bitcoind.call("getrawtransaction", json!([txid, true])).await?)
}

/// The books are right now, and when all is mined; every client has one channel that works; and nothing is held for nothing.
async fn ends_well(world: &World<'_>, payer: &ThinNode, clients: &[(ThinNode, Order)]) -> Result<()> {
	for blocks in [0, CHANNEL_DEPTH] {
		world.mine(blocks, &[]).await?;
		books_agree(world, &format!("after {blocks} blocks")).await?;
	}
	for (client, _) in clients {
		client.at_height(world.bitcoind.height().await?, SOON).await?;
		client.usable_channels(1, SOON).await?;
		let hash = payer.pay(&client.invoice(Some(50_000_000))?, None, 1)?;
		client.claimed(hash, SOON).await?;
	}
	let balance = world.lsp.balance().await?;
	ensure!(balance["lightning"]["closing_sat"] == 0, "a channel was closed: {balance}");
	ensure!(world.lsp.channels().await?.len() == clients.len() + 1, "{:?}", world.lsp.channels().await?);
	ensure!(world.bitcoind.mempool().await?.is_empty(), "something more was sent");
	let (onchain, anchors) = (&balance["onchain"], number(&balance["onchain"], "anchor_reserve_sat")?);
	ensure!(onchain["in_sales_sat"] == 0 && number(onchain, "free_sat")? > 0, "something is reserved: {balance}");
	let held = number(onchain, "confirmed_sat")? - number(onchain, "free_sat")?;
	ensure!(held < anchors * 2, "coins are held for nothing: {balance}");
	Ok(())
}

#[test]
fn three_orders_share_one_funding_transaction() {
	scenario(async |scratch| {
		let world = world(scratch).await?;
		let (payer, clients) = three(&world).await?;
		pay(&world, &payer, &clients).await?;
		let fundings = completed(&world, &clients).await?;
		ensure!(fundings.iter().all(|txid| *txid == fundings[0]), "{fundings:?}");
		ensure!(world.bitcoind.mempool().await? == [fundings[0].clone()], "something else is out");
		let outputs = transaction(&world, &fundings[0]).await?["vout"].as_array().context("no outputs")?.clone();
		ensure!(outputs.len() == 4, "three channels and the change: {outputs:?}");
		let entry = world.bitcoind.call("getmempoolentry", json!([fundings[0]])).await?;
		let fee = entry["fees"]["base"].as_f64().context("no fee")? * 1e11;
		#[allow(clippy::cast_possible_truncation, reason = "a few thousand satoshis")]
		let fee = fee.round() as i64;
		let shared = async || Ok((booked(&world, "funding_cost").await? == -fee).then_some(()));
		eventually(SOON, &format!("the fee of {fee} msat is booked"), shared).await?;
		let ledger = world.lsp.ledger().await?;
		let entries = ledger["entries"].as_array().context("no entries")?;
		let costs = entries.iter().filter(|entry| entry["kind"] == "funding_cost").count();
		ensure!(costs == 3, "{costs} parts of it");
		ends_well(&world, &payer, &clients).await
	});
}

/// A client that accepts its channel, gets the transaction, and goes away without having signed: nothing was broadcast, and all
/// get a channel of their own.
#[test]
fn one_client_that_goes_away_in_the_middle_does_not_lose_the_others() {
	scenario(async |scratch| {
		let world = world(scratch).await?;
		let (payer, clients) = three(&world).await?;
		let dropper = &clients[1].0;
		dropper.set_signing(false);
		pay(&world, &payer, &clients).await?;
		let asked = async || Ok(dropper.channels().iter().any(|one| one.funding_txo.is_some()).then_some(()));
		eventually(SOON, "it is asked to sign", asked).await?;
		dropper.disconnect();
		dropper.set_signing(true);
		let others = [&clients[0], &clients[2]];
		for (_, order) in others {
			world.lsp.order_is(&order.id.0, "completed", SOON * 2).await?;
		}
		ensure!(world.lsp.log_text().contains("a shared funding is given up"), "nothing was shared");
		come_back(dropper).await?;
		completed_apart(&world, &clients).await?;
		ensure!(world.bitcoind.mempool().await?.len() == 3, "something else is out");
		ends_well(&world, &payer, &clients).await
	});
}

/// A client that gets the transaction, stays, and never signs holds the others up for two minutes, and no longer.
#[test]
fn one_client_that_never_signs_does_not_hold_the_others_for_ever() {
	scenario(async |scratch| {
		let world = world(scratch).await?;
		let (payer, clients) = three(&world).await?;
		clients[1].0.set_signing(false);
		pay(&world, &payer, &clients).await?;
		let given_up = async || Ok(world.lsp.log_text().contains("not all clients have signed in time").then_some(()));
		eventually(SOON * 5, "it is given up", given_up).await?;
		ensure!(world.bitcoind.mempool().await?.is_empty(), "something was sent");
		clients[1].0.set_signing(true);
		completed_apart(&world, &clients).await?;
		ends_well(&world, &payer, &clients).await
	});
}

/// A client that does not answer is left out after a minute, and the others share their transaction.
#[test]
fn one_client_that_says_nothing_is_left_out() {
	scenario(async |scratch| {
		let world = world(scratch).await?;
		let (payer, clients) = three(&world).await?;
		clients[0].0.set_behaviour(Behaviour { on_open: OnOpen::Ignore, ..Default::default() });
		pay(&world, &payer, &clients).await?;
		let fundings = completed(&world, &clients[1..]).await?;
		ensure!(fundings[0] == fundings[1], "{fundings:?}");
		// Until then it is asked for its own.
		clients[0].0.set_behaviour(Behaviour::default());
		clients[0].0.disconnect();
		come_back(&clients[0].0).await?;
		completed(&world, &clients[..1]).await?;
		ends_well(&world, &payer, &clients).await
	});
}

async fn come_back(client: &ThinNode) -> Result<()> {
	eventually(SOON, "it comes back", async || Ok(client.reconnect().await.ok())).await
}

/// Everyone connects to the LSP again.
async fn meet(payer: &ThinNode, clients: &[(ThinNode, Order)], uri: &str) -> Result<()> {
	for node in clients.iter().map(|(client, _)| client).chain([payer]) {
		let met = async || Ok(node.connect(uri).await.ok());
		eventually(SOON, "they meet again", met).await?;
	}
	Ok(())
}

/// The chain backend refuses the transaction, and one of the clients closes its channel: the transaction is withdrawn from all, and
/// the others get channels of their own.
#[test]
fn a_shared_funding_that_nobody_takes_is_withdrawn_from_all() {
	scenario(async |scratch| {
		let world = world(scratch).await?;
		let (payer, clients) = three(&world).await?;
		let (lsp, uri) = (&world.lsp, world.lsp.uri());
		lsp.stop().await?;
		lsp.crash_at(Some("batch.broadcast.done"));
		lsp.resume().await?;
		meet(&payer, &clients, &uri).await?;
		payer.usable_channels(1, SOON).await?;
		pay(&world, &payer, &clients).await.ok();
		lsp.ended(SOON).await?;
		lsp.crash_at(None);
		let log = lsp.log_text();
		let (_, funding) = log.rsplit_once("is made funding=").context("nothing is shared")?;
		let funding = funding.get(..64).context("no txid")?.to_owned();
		world.bitcoind.call("prioritisetransaction", json!([funding, 0, -10_000_000])).await?;
		lsp.resume().await?;
		meet(&payer, &clients, &uri).await?;
		let refused = async || Ok(lsp.log_text().contains("refuses a transaction").then_some(()));
		eventually(SOON, "nobody takes the transaction", refused).await?;
		for (_, order) in &clients {
			ensure!(lsp.order(&order.id.0).await?["status"] == "opening");
		}

		clients[0].0.force_close_all();
		let failed = lsp.order_is(&clients[0].1.id.0, "failed", SOON).await?;
		ensure!(failed["reserved_sat"] == 0, "{failed}");
		let fundings = completed(&world, &clients[1..]).await?;
		ensure!(fundings[0] != fundings[1] && !fundings.contains(&funding), "{fundings:?}");
		world.mine(1, &[]).await?;
		world.bitcoind.call("prioritisetransaction", json!([funding, 0, 10_000_000])).await?;
		ends_well(&world, &payer, &clients[1..]).await?;
		let known = world.bitcoind.call("getrawtransaction", json!([funding])).await;
		ensure!(known.is_err(), "what was withdrawn was sent again");
		Ok(())
	});
}
