//! Channels that change their size (lsp/docs/decisions/0004).

use anyhow::{Result, ensure};
use bitcoin::consensus::encode::serialize_hex;
use inlet_tests::thin::{ThinConfig, ThinEvent, ThinNode};
use inlet_tests::wallet::number;
use inlet_tests::world::{CHANNEL_DEPTH, SOON};
use inlet_tests::{Backend, World, eventually, scenario};
use lightning_invoice::Bolt11Invoice;
use serde_json::json;

/// `payer` pays `invoice` to `client`.
async fn pay(payer: &ThinNode, invoice: &Bolt11Invoice, client: &ThinNode) -> Result<()> {
	let hash = payer.pay(invoice, None, 1)?;
	client.claimed(hash, SOON).await?;
	payer.outcome(hash, SOON).await?.map_err(anyhow::Error::msg)?;
	Ok(())
}

/// Someone with a channel to the LSP who pays.
async fn payer(world: &World<'_>) -> Result<ThinNode> {
	let payer = ThinNode::start(&world.bitcoind, ThinConfig::stranger("payer")).await?;
	payer.open_channel(&world.lsp.uri(), 1_000_000, 0, false).await?;
	world.mine(CHANNEL_DEPTH, &[]).await?;
	payer.usable_channels(1, SOON).await?;
	Ok(payer)
}

/// LDK takes a splice of a channel without confirmations for locked at once. It then forgets the funding before it, and with it
/// how to punish an old state, which the client can have mined in the splice's place: it would take once more what it has spent.
#[test]
fn a_client_cannot_splice_its_past_away() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let payer = payer(&world).await?;
		let client = ThinNode::start(&world.bitcoind, ThinConfig::client("client", &world.lsp.uri())).await?;
		pay(&payer, &client.receive_jit(Some(150_000_000)).await?, &client).await?;
		world.bitcoind.wait_for_mempool(1, SOON).await?;
		world.mine(CHANNEL_DEPTH, &[]).await?;
		client.at_height(world.bitcoind.height().await?, SOON).await?;
		let channel = client.usable_channels(1, SOON).await?.remove(0);
		ensure!(channel.confirmations_required == Some(0), "not a channel without confirmations: {channel:?}");
		let rich = client.remember(&channel)?;
		pay(&client, &payer.invoice(Some(100_000_000))?, &payer).await?;
		let before = number(&world.lsp.balance().await?, "total_sat")?;

		client.splice_out(&channel, 5_000).await?;
		let refused = |event: &ThinEvent| matches!(event, ThinEvent::SpliceFailed { .. }).then_some(());
		client.wait_for(SOON, refused).await?;
		let funding = client.channels()[0].funding_txo;
		ensure!(funding == channel.funding_txo, "the LSP took part in it: {funding:?}");

		// The LSP still knows what the client has revoked, and takes all of it.
		let old = client.old_commitment(&rich)?;
		client.disconnect();
		let address = world.bitcoind.call("getnewaddress", json!([])).await?;
		world.bitcoind.call("generateblock", json!([address, [serialize_hex(&old)]])).await?;
		let punished = async || {
			world.mine(1, &[]).await?;
			let (total, channels) =
				(number(&world.lsp.balance().await?, "total_sat")?, world.lsp.channels().await?.len());
			Ok((channels == 1 && total > before).then_some(()))
		};
		eventually(SOON * 2, "the LSP has taken it", punished).await
	});
}
