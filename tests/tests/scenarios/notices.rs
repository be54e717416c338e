//! What else a client is told over its webhook while it is away: a contract near its end, an onion message, and that its LSP
//! wants liquidity back. The clients set their webhooks themselves, as wallets do.

use crate::steps::{PAYER_CHANNEL_SAT, notified_world, pay_just_in_time, pay_thin};
use anyhow::{Context, Result, ensure};
use inlet_tests::thin::{Behaviour, OnPayment, ThinConfig, ThinEvent, ThinNode};
use inlet_tests::wallet::text;
use inlet_tests::webhook::{Receiver, Request};
use inlet_tests::world::SOON;
use inlet_tests::{World, eventually, scenario};
use serde_json::json;

/// Blocks that the client gives itself to settle its payment: more than the 24 before whose end it is told.
const PATIENCE_BLOCKS: u16 = 60;
/// bLIP-55: the client is told when its contract forces the channel to be closed in so many blocks.
const SOON_BLOCKS: u64 = 24;

/// A client with a webhook and a channel that it bought, and who paid for it.
async fn client_and_payer(world: &World<'_>, receiver: &Receiver) -> Result<(ThinNode, ThinNode)> {
	let payer = world.thin_payer(&[500_000]).await?;
	let client = ThinNode::start(&world.bitcoind, ThinConfig::client("client", &world.lsp.uri())).await?;
	ensure!(client.set_webhook("wallet", &receiver.url("/wake")).await? == 1);
	pay_thin(&payer, &client.receive_jit(Some(100_000_000)).await?, &client).await?;
	world.bitcoind.wait_for_mempool(1, SOON).await?;
	world.mine(1, &[]).await?;
	Ok((client, payer))
}

/// The LSP sees that the client is gone.
async fn leaves(world: &World<'_>, client: &ThinNode) -> Result<()> {
	client.disconnect();
	let id = client.node_id().to_string();
	let gone = async || {
		let clients = world.lsp.list("clients").await?;
		Ok(clients.iter().any(|known| known["node_id"] == id.as_str() && known["connected"] == false).then_some(()))
	};
	eventually(SOON, "the LSP sees that the client is away", gone).await
}

fn notices(all: &[Request]) -> Vec<String> {
	all.iter().map(Request::notice).collect()
}

/// The client has a payment in its hands and goes away: it is told 24 blocks before its channel has to be closed for that, not
/// earlier, comes back, settles it, and nothing is closed.
#[test]
fn l5_16_r2_a_client_that_holds_a_payment_is_told_before_its_channel_has_to_be_closed() {
	scenario(async |scratch| {
		let receiver = Receiver::start().await?;
		let world = notified_world(scratch, "", &receiver).await?;
		let (client, payer) = client_and_payer(&world, &receiver).await?;
		client.set_behaviour(Behaviour { on_payment: OnPayment::Hold, ..Default::default() });
		let invoice = client.patient_invoice(Some(10_000_000), Some(PATIENCE_BLOCKS))?;
		// A route of LDK's would end up to 432 blocks later, for privacy.
		payer.pay_parts(&invoice, &[10_000_000], 10_000_000)?;
		let hash = invoice.payment_hash();
		let arrived = |event: &ThinEvent| matches!(event, ThinEvent::PaymentClaimable { hash: of, .. } if *of == hash);
		client.wait_for(SOON, |event| arrived(event).then_some(())).await?;
		leaves(&world, &client).await?;
		let before = receiver.requests().len();
		world.mine(u32::from(PATIENCE_BLOCKS) / 2, &[]).await?;
		ensure!(receiver.requests().len() == before, "too early: {:?}", notices(&receiver.requests()));
		let mut told = None;
		for _ in 0..PATIENCE_BLOCKS / 2 {
			world.mine(1, &[]).await?;
			let height = u64::from(world.bitcoind.height().await?);
			if let Some(request) = receiver.requests().get(before) {
				told = Some((request.clone(), height));
				break;
			}
		}
		let (request, height) = told.context("it was never told")?;
		ensure!(request.notice() == "expiry_soon", "{}", request.body);
		ensure!(request.signer()?.to_string() == world.lsp.node_id(), "signed by somebody else");
		let timeout = request.json()["params"]["timeout"].as_u64().context("no timeout")?;
		// It is on its way while the next block or two are mined.
		let left = timeout.checked_sub(height).context("too late")?;
		ensure!((SOON_BLOCKS - 4..=SOON_BLOCKS).contains(&left), "{left} blocks before its channel is closed");
		client.reconnect().await?;
		// LDK's client does not take a payment any more that is so near to its end: it gives it back.
		ensure!(payer.outcome(hash, SOON).await?.is_err(), "the payer has its money back");
		ensure!(client.usable_channels(1, SOON).await?.len() == 1, "its channel was closed");
		ensure!(notices(&receiver.requests()[before..]) == ["expiry_soon"], "{:?}", notices(&receiver.requests()));
		Ok(())
	});
}

/// The operator wants to close the channel of a client that is away: he is told that it cannot be, and the client that it is
/// wanted.
#[test]
fn l5_16_a_client_whose_channel_is_to_be_closed_is_told_that_it_is_wanted() {
	scenario(async |scratch| {
		let receiver = Receiver::start().await?;
		let world = notified_world(scratch, "", &receiver).await?;
		let (client, _payer) = client_and_payer(&world, &receiver).await?;
		leaves(&world, &client).await?;
		let channels = world.lsp.channels().await?;
		let sold = channels.iter().find(|channel| channel["outbound"] == true).context("no channel was sold")?;
		let id = text(sold, "id")?;
		let close = ["channels", "close", &id, "--break-lease", "--yes"];
		let refused = world.lsp.say(&close).await?;
		ensure!(refused.code == Some(1), "{refused:?}");
		let called = receiver.wait_for(SOON, "the client is told", |all| {
			all.last().is_some_and(|last| last.notice() == "liquidity_management_request")
		});
		let called = called.await?;
		let last = called.last().context("nothing")?;
		ensure!(last.json()["params"] == json!({}), "{}", last.body);
		ensure!(last.signer()?.to_string() == world.lsp.node_id(), "signed by somebody else");
		client.reconnect().await?;
		client.usable_channels(1, SOON).await?;
		let closed = async || Ok((world.lsp.say(&close).await?.code == Some(0)).then_some(()));
		eventually(SOON, "the client agrees to the close", closed).await?;
		let gone = async || Ok(client.channels().is_empty().then_some(()));
		eventually(SOON, "the channel is closed", gone).await
	});
}

/// A payer asks a wallet that is away for an invoice (BOLT 12), by an onion message over the LSP: the wallet is told, comes back,
/// gets the message, and is paid.
///
/// The payer's channel is not public, as a phone's is: its blinded path for the answer begins at the LSP. A public node's begins
/// at itself, and the wallet has to connect to it for its answer, at the address that it announces (the harness's has none).
#[test]
fn l5_16_a_wallet_that_is_away_is_told_of_an_onion_message() {
	scenario(async |scratch| {
		let receiver = Receiver::start().await?;
		let world = notified_world(scratch, "", &receiver).await?;
		let wallet = world.client("wallet").await?;
		world.set_webhook(&wallet, &receiver).await?;
		let payer = world.stranger("payer").await?;
		world.give_coins(&payer, PAYER_CHANNEL_SAT + 500_000).await?;
		payer.open_channel(&world.lsp.uri(), PAYER_CHANNEL_SAT, false).await?;
		world.bitcoind.wait_for_mempool(1, SOON).await?;
		world.mine(6, &[&payer]).await?;
		payer.usable_channels(1, SOON).await?;
		let first = wallet.jit_invoice(Some(250_000_000)).await?;
		pay_just_in_time(&payer, &wallet, &first, 250_000).await?;

		let offer = wallet.call("offer", json!({ "amount_msat": 5_000_000 })).await?;
		let pay = async || text(&payer.call("pay_offer", json!({ "offer": offer["offer"] })).await?, "payment_id");
		payer.paid(&pay().await?, SOON).await?;
		wallet.stop().await?;
		world.lsp.sees(&wallet, false).await?;
		let payment = pay().await?;
		let called = receiver.wait_for(SOON, "the wallet is told of the message", |all| {
			notices(all).contains(&"onion_message_incoming".to_owned())
		});
		let called = called.await?;
		let told = called.iter().find(|request| request.notice() == "onion_message_incoming").context("nothing")?;
		ensure!(told.json()["params"] == json!({}), "{}", told.body);
		ensure!(told.signer()?.to_string() == world.lsp.node_id(), "signed by somebody else");
		wallet.resume().await?;
		wallet.connect(&world.lsp.uri()).await?;
		payer.paid(&payment, SOON).await?;
		Ok(())
	});
}
