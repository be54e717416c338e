//! The thin node as a customer of Inlet, on `lightning-liquidity`'s client half: what the scenarios build on.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use anyhow::{Context, Result, ensure};
use inlet_tests::thin::{Behaviour, OnOpen, OnPayment, Order, ThinConfig, ThinEvent, ThinNode};
use inlet_tests::world::{SOON, World};
use inlet_tests::{Backend, eventually, scenario};
use lightning_liquidity::lsps1::msgs::LSPS1OrderParams;
use lightning_liquidity::lsps2::utils::compute_opening_fee;

async fn client(world: &World<'_>, behaviour: Behaviour) -> Result<ThinNode> {
	let config = ThinConfig { behaviour, ..ThinConfig::client("client", &world.lsp.uri()) };
	ThinNode::start(&world.bitcoind, config).await
}

#[test]
fn a_channel_is_bought_just_in_time_for_a_fixed_and_for_an_open_size() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let payer = world.thin_payer(&[1_000_000]).await?;
		for fixed in [true, false] {
			let client = client(&world, Behaviour::default()).await?;
			let msat = 100_000_000;
			let terms = client.jit_menu(None).await?.into_iter().next().context("an empty menu")?;
			let fee = compute_opening_fee(msat, terms.min_fee_msat, terms.proportional.into()).context("overflow")?;
			let bought = client.jit_buy(&terms, fixed.then_some(msat)).await?;
			let invoice = client.jit_invoice(&bought, None)?;
			let hash = payer.pay(&invoice, (!fixed).then_some(msat), 1)?;
			ensure!(client.claimed(hash, SOON).await? == msat - fee, "{:?}", client.events());
			payer.outcome(hash, SOON).await?.map_err(anyhow::Error::msg)?;
			let channels = client.usable_channels(1, SOON).await?;
			ensure!(channels.len() == 1 && !channels[0].is_announced, "{channels:?}");
		}
		Ok(())
	});
}

#[test]
fn a_payment_in_parts_buys_one_channel() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let payer = world.thin_payer(&[300_000, 300_000]).await?;
		let client = client(&world, Behaviour::default()).await?;
		let invoice = client.receive_jit(Some(200_000_000)).await?;
		payer.pay_parts(&invoice, &[50_000_000, 70_000_000], 200_000_000)?;
		payer.pay_parts(&invoice, &[80_000_000], 200_000_000)?;
		let hash = invoice.payment_hash();
		let claimed = client.claimed(hash, SOON).await?;
		let (skimmed, parts) = client
			.wait_for(SOON, |event| match event {
				ThinEvent::PaymentClaimable { hash: arrived, skimmed_msat, channels, .. } if *arrived == hash => {
					Some((*skimmed_msat, channels.len()))
				}
				_ => None,
			})
			.await?;
		ensure!(claimed + skimmed == 200_000_000 && parts == 3, "{claimed} + {skimmed} in {parts} parts");
		ensure!(client.channels().len() == 1, "{:?}", client.channels());
		Ok(())
	});
}

#[test]
fn a_client_that_refuses_leaves_the_payer_with_its_money() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let payer = world.thin_payer(&[500_000]).await?;
		let before = payer.outbound_msat();
		for on_open in [OnOpen::Refuse, OnOpen::Disconnect] {
			let client = client(&world, Behaviour { on_open, ..Default::default() }).await?;
			let invoice = client.receive_jit(Some(100_000_000)).await?;
			let hash = payer.pay(&invoice, None, 1)?;
			// The LSP gives a client that went away a minute to come back.
			let outcome = payer.outcome(hash, SOON * 4).await?;
			ensure!(outcome.is_err(), "{on_open:?}: {outcome:?}");
			ensure!(client.channels().is_empty(), "{:?}", client.channels());
		}
		ensure!(payer.outbound_msat() == before, "{} of {before}", payer.outbound_msat());
		Ok(())
	});
}

#[test]
fn a_client_that_fails_the_payment_still_owes_the_fee() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let payer = world.thin_payer(&[500_000]).await?;
		let client = client(&world, Behaviour { on_payment: OnPayment::Fail, ..Default::default() }).await?;
		let bought = client.jit_buy(&client.jit_menu(None).await?[0], Some(100_000_000)).await?;
		let hash = payer.pay(&client.jit_invoice(&bought, None)?, None, 1)?;
		ensure!(payer.outcome(hash, SOON).await?.is_err(), "the client failed it");
		client.set_behaviour(Behaviour::default());
		let hash = payer.pay(&client.jit_invoice(&bought, None)?, None, 1)?;
		ensure!(client.claimed(hash, SOON).await? < 100_000_000, "the fee was forgotten: {:?}", client.events());
		ensure!(client.channels().len() == 1, "{:?}", client.channels());
		Ok(())
	});
}

/// The smallest order that this LSP takes, and an address for refunds.
async fn small_order(world: &World<'_>, client: &ThinNode) -> Result<(LSPS1OrderParams, String)> {
	let options = client.order_options().await?;
	let params = LSPS1OrderParams {
		lsp_balance_sat: options.min_channel_balance_sat.max(200_000),
		client_balance_sat: 0,
		required_channel_confirmations: options.min_required_channel_confirmations,
		funding_confirms_within_blocks: options.min_funding_confirms_within_blocks,
		channel_expiry_blocks: options.max_channel_expiry_blocks,
		token: None,
		announce_channel: false,
	};
	let refund = world.bitcoind.wallet_call("getnewaddress", serde_json::json!(["", "bech32"])).await?;
	Ok((params, refund.as_str().context("no address")?.to_owned()))
}

async fn paid_over_lightning(payer: &ThinNode, client: &ThinNode, order: &Order) -> Result<()> {
	let bolt11 = order.payment.bolt11.as_ref().context("no invoice")?;
	let hash = payer.pay(&bolt11.invoice, None, 1)?;
	payer.outcome(hash, SOON).await?.map_err(anyhow::Error::msg)?;
	client.usable_channels(1, SOON).await?;
	let order = client.order_status(&order.id).await?;
	ensure!(order.channel.is_some(), "{order:?}");
	Ok(())
}

#[test]
fn an_ordered_channel_is_paid_over_lightning() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let payer = world.thin_payer(&[500_000]).await?;
		let client = client(&world, Behaviour::default()).await?;
		let (params, refund) = small_order(&world, &client).await?;
		let order = client.order(params, Some(&refund)).await?;
		ensure!(client.channels().is_empty(), "the trial left a channel: {:?}", client.channels());
		paid_over_lightning(&payer, &client, &order).await
	});
}

/// A client that refuses the channel is told so before it could pay; one that says nothing is offered payment. Both can buy
/// when they have thought better of it.
#[test]
fn r6_l1_31_a_client_that_refuses_the_channel_is_not_offered_payment() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let payer = world.thin_payer(&[500_000]).await?;
		let client = client(&world, Behaviour { on_open: OnOpen::Refuse, ..Default::default() }).await?;
		let (params, refund) = small_order(&world, &client).await?;
		let refused = client.order(params.clone(), Some(&refund)).await;
		let text = format!("{refused:?}");
		ensure!(refused.is_err() && text.contains("refuses such a channel"), "{text}");
		client.set_behaviour(Behaviour { on_open: OnOpen::Ignore, ..Default::default() });
		let order = client.order(params.clone(), Some(&refund)).await?;
		ensure!(world.lsp.channels().await?.len() == 1, "only the payer's channel is left");
		client.set_behaviour(Behaviour::default());
		paid_over_lightning(&payer, &client, &order).await
	});
}

/// The client has signed, the funding and with it the client's balance is on its way to the miners, and the client breaks the
/// channel off, with and without hanging up: the order is delivered and paid for, and nothing is opened again.
#[test]
fn r6_r5_a_client_that_breaks_off_what_it_has_signed_pays_for_it_and_gets_no_second_channel() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let payer = world.thin_payer(&[1_000_000, 1_000_000]).await?;
		for (done, on_open) in [OnOpen::BreakOff, OnOpen::BreakOffAndLeave].into_iter().enumerate() {
			let client = client(&world, Behaviour { on_open, ..Default::default() }).await?;
			let (mut params, refund) = small_order(&world, &client).await?;
			params.client_balance_sat = 20_000;
			let order = client.order(params, Some(&refund)).await?;
			let bolt11 = order.payment.bolt11.as_ref().context("no invoice")?;
			let hash = payer.pay(&bolt11.invoice, None, 1)?;
			client
				.wait_for(SOON, |event| {
					matches!(event, ThinEvent::ChannelClosed { reason, .. } if reason.contains("thought better"))
						.then_some(())
				})
				.await?;
			client.set_behaviour(Behaviour::default());
			// It may be hanging up at this moment.
			let back = async || Ok(client.connect(&world.lsp.uri()).await.ok());
			eventually(SOON, "the client is back", back).await?;
			let outcome = payer.outcome(hash, SOON).await?;
			ensure!(
				outcome.is_ok(),
				"{on_open:?}: the client has its balance, and the payment is given back: {outcome:?}"
			);
			world.lsp.order_is(&order.id.0, "completed", SOON).await?;
			world.mine(1, &[]).await?;
			let asked = client.events().iter().filter(|event| matches!(event, ThinEvent::OpenRequested { .. })).count();
			ensure!(asked == 2, "{on_open:?}: one to see that it is taken, and one that is paid, not {asked}");
			ensure!(world.lsp.channels().await?.len() == 2, "only the payer's channels are open");
			let costs = world.lsp.ledger().await?;
			let costs = costs["entries"].as_array().context("no entries")?;
			let costs = costs.iter().filter(|entry| entry["kind"] == "funding_cost").count();
			ensure!(costs == done + 1, "{on_open:?}: {costs} fundings are booked");
		}
		Ok(())
	});
}

/// A stranger's probe: its channel ends without a trace, its coins are free again, and the payment that follows is served.
#[test]
fn r3_a_probe_puts_nothing_on_the_chain_and_the_payment_after_it_does() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let payer = world.thin_payer(&[500_000]).await?;
		let client = client(&world, Behaviour { on_payment: OnPayment::Fail, ..Default::default() }).await?;
		let bought = client.jit_buy(&client.jit_menu(None).await?[0], Some(100_000_000)).await?;
		let reserve = world.lsp.balance().await?["onchain"]["anchor_reserve_sat"].clone();
		let probe = payer.pay(&client.jit_invoice(&bought, None)?, None, 1)?;
		ensure!(payer.outcome(probe, SOON).await?.is_err(), "the client failed it");
		world.lsp.sales_are(1, "bought", SOON).await?;
		let gone = async || Ok(client.channels().is_empty().then_some(()));
		eventually(SOON, "the channel is gone", gone).await?;
		ensure!(world.bitcoind.mempool().await?.is_empty(), "a probe put a transaction on the chain");
		ensure!(offences(&world).await? == 1, "no offence");
		// Once LDK can have nothing more to tell of it.
		all_coins_are_free(&world).await?;
		ensure!(
			world.lsp.balance().await?["onchain"]["anchor_reserve_sat"] == reserve,
			"a reserve is kept for nothing"
		);
		ensure!(world.lsp.balance().await?["lightning"]["closing_sat"] == 0, "what never left is waited for");

		client.set_behaviour(Behaviour::default());
		let hash = payer.pay(&client.jit_invoice(&bought, None)?, None, 1)?;
		client.claimed(hash, SOON).await?;
		world.lsp.sales_are(1, "done", SOON).await?;
		ensure!(world.bitcoind.wait_for_mempool(1, SOON).await?.len() == 1, "one funding transaction");
		Ok(())
	});
}

/// A client that takes the HTLC and goes away. The payer has its money back when its own HTLC is about to time out, its
/// channel with the LSP lives, and nothing was put on the chain.
#[test]
fn r2_a_held_payment_puts_nothing_on_the_chain_and_goes_back_before_it_times_out() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let payer = world.thin_payer(&[500_000]).await?;
		let before = payer.outbound_msat();
		let client = client(&world, Behaviour { on_payment: OnPayment::Hold, ..Default::default() }).await?;
		let invoice = client.receive_jit(Some(100_000_000)).await?;
		let hash = payer.pay(&invoice, None, 1)?;
		arrived(&client, hash).await?;
		client.disconnect();
		ensure!(world.bitcoind.mempool().await?.is_empty(), "broadcast before the payment was taken");
		let ended =
			|event: &ThinEvent| matches!(event, ThinEvent::PaymentFailed { hash: failed, .. } if *failed == hash);
		for _ in 0..100 {
			if payer.events().iter().any(ended) {
				break;
			}
			world.mine(5, &[]).await?;
			payer.at_height(world.bitcoind.height().await?, SOON).await?;
			ensure!(world.bitcoind.mempool().await?.is_empty(), "something was put on the chain");
		}
		ensure!(payer.outcome(hash, SOON).await?.is_err(), "the payer has its money back");
		ensure!(payer.usable_channels(1, SOON).await?.len() == 1, "its channel was closed");
		let restored = async || Ok((payer.outbound_msat() == before).then_some(()));
		eventually(SOON, "the payer has all of its money", restored).await?;
		ensure!(offences(&world).await? == 1, "no offence");
		all_coins_are_free(&world).await?;
		ensure!(world.bitcoind.mempool().await?.is_empty(), "something was put on the chain");
		Ok(())
	});
}

/// The LSP is killed while the client has the HTLC and the channel is on nobody's chain: the client takes the payment
/// afterwards, and gets its channel.
#[test]
fn r12_r2_killed_with_a_withheld_channel_the_lsp_broadcasts_it_when_the_payment_is_taken() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let payer = world.thin_payer(&[500_000]).await?;
		let client = client(&world, Behaviour { on_payment: OnPayment::Hold, ..Default::default() }).await?;
		let invoice = client.receive_jit(Some(100_000_000)).await?;
		let hash = payer.pay(&invoice, None, 1)?;
		arrived(&client, hash).await?;
		world.lsp.kill()?;
		world.lsp.resume().await?;
		ensure!(world.bitcoind.mempool().await?.is_empty(), "broadcast before the payment was taken");
		client.connect(&world.lsp.uri()).await?;
		payer.connect(&world.lsp.uri()).await?;
		client.usable_channels(1, SOON).await?;
		client.claim(hash)?;
		world.lsp.sales_are(1, "done", SOON).await?;
		payer.outcome(hash, SOON).await?.map_err(anyhow::Error::msg)?;
		world.bitcoind.wait_for_mempool(1, SOON).await?;
		world.mine(1, &[]).await?;
		client.usable_channels(1, SOON).await.map(drop)
	});
}

/// Of a public channel a quarter may be under way to us, of a private one all of it: it is its peer's own.
#[test]
fn r16_a_stranger_has_no_more_under_way_to_us_than_its_share() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let stranger = ThinNode::start(&world.bitcoind, ThinConfig::stranger("stranger")).await?;
		for announce in [true, false] {
			stranger.open_channel(&world.lsp.uri(), 400_000, 0, announce).await?;
		}
		world.mine(6, &[]).await?;
		for channel in stranger.usable_channels(2, SOON).await? {
			let limit = channel.next_outbound_htlc_limit_msat;
			match channel.is_announced {
				true => ensure!(limit == 100_000_000, "{limit} msat of a public channel"),
				false => ensure!((300_000_000..400_000_000).contains(&limit), "{limit} msat of a private channel"),
			}
		}
		Ok(())
	});
}

/// Who has room already gets the payment there, in full and for nothing, although it bought a channel.
#[test]
fn a_client_with_room_gets_its_second_purchase_over_its_first_channel() {
	scenario(async |scratch| {
		let world = World::start(scratch, Backend::Bitcoind).await?;
		let payer = world.thin_payer(&[1_000_000]).await?;
		let client = client(&world, Behaviour::default()).await?;
		let hash = payer.pay(&client.receive_jit(Some(200_000_000)).await?, None, 1)?;
		client.claimed(hash, SOON).await?;
		world.lsp.sales_are(1, "done", SOON).await?;
		let hash = payer.pay(&client.receive_jit(Some(20_000_000)).await?, None, 1)?;
		ensure!(client.claimed(hash, SOON).await? == 20_000_000, "a fee was taken for no channel");
		ensure!(client.channels().len() == 1, "{:?}", client.channels());
		ensure!(world.lsp.sales_are(1, "bought", SOON).await?.len() == 1);
		Ok(())
	});
}

/// The client has the payment, and does nothing with it.
async fn arrived(client: &ThinNode, hash: lightning::types::payment::PaymentHash) -> Result<()> {
	let is_it = |event: &ThinEvent| match event {
		ThinEvent::PaymentClaimable { hash: arrived, .. } if *arrived == hash => Some(()),
		_ => None,
	};
	client.wait_for(SOON, is_it).await
}

/// What all clients together are blamed for.
async fn offences(world: &World<'_>) -> Result<u64> {
	let clients = world.lsp.list("clients").await?;
	Ok(clients.iter().filter_map(|client| client["offences"].as_u64()).sum())
}

/// No transaction of the LSP holds coins: a minute after a channel that was not paid for has ended.
async fn all_coins_are_free(world: &World<'_>) -> Result<()> {
	let total = world.lsp_coins_sat();
	let free = async || Ok((world.lsp.balance().await?["onchain"]["confirmed_sat"] == total).then_some(()));
	eventually(SOON * 4, "all coins are free", free).await
}
