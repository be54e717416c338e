//! Steps that several scenarios share.

use anyhow::{Context, Result, ensure};
use inlet_tests::thin::ThinNode;
use inlet_tests::wallet::{Invoice, number, text};
use inlet_tests::webhook::Receiver;
use inlet_tests::world::{CHANNEL_DEPTH, SOON};
use inlet_tests::{Backend, InletOptions, Scratch, Wallet, World};
use lightning_invoice::Bolt11Invoice;
use serde_json::Value;

/// Longer than a side waits for its own money after closing by force (144 blocks, LDK's default on both ends).
pub const DELAY_BLOCKS: u32 = 150;
/// Capacity of the payer's channel to the LSP: a quarter of it may be in flight.
pub const PAYER_CHANNEL_SAT: u64 = 5_000_000;
/// A lease that the LSP sells.
pub const LEASE_BLOCKS: u32 = 4320;

/// A world whose LSP, with this configuration besides, may call this receiver.
pub async fn notified_world<'a>(scratch: &'a Scratch, config: &str, receiver: &Receiver) -> Result<World<'a>> {
	let notify = format!("[notify]\nallow_private = true\nca_file = {:?}\n", receiver.ca_file());
	let config = format!("{config}{notify}");
	World::start_with(scratch, Backend::Bitcoind, InletOptions { config, ..Default::default() }).await
}

/// A channel sold just in time to a wallet, for a payment of 150,000 sat that is still to come, and who pays it.
pub async fn sold(scratch: &Scratch, backend: Backend) -> Result<(World<'_>, Wallet, Wallet, Invoice)> {
	let world = World::start(scratch, backend).await?;
	let wallet = world.client("wallet").await?;
	let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
	let invoice = wallet.jit_invoice(Some(150_000_000)).await?;
	Ok((world, wallet, payer, invoice))
}

/// A wallet with coins that has ordered a channel of 300,000 sat, with so much on its own side: the wallet, the order, its id.
pub async fn ordered(world: &World<'_>, client_sat: u64) -> Result<(Wallet, Value, String)> {
	let wallet = world.client("wallet").await?;
	world.give_coins(&wallet, 500_000).await?;
	let order = wallet.order_channel(300_000, client_sat, LEASE_BLOCKS).await?;
	let id = text(&order, "order_id")?;
	Ok((wallet, order, id))
}

/// `payer` pays `invoice` for `sat`, and `wallet` gets it less the fee, which is given (in msat).
pub async fn pay_just_in_time(payer: &Wallet, wallet: &Wallet, invoice: &Invoice, sat: u64) -> Result<u64> {
	let payment = payer.pay(invoice, None).await?;
	let received = wallet.received(invoice, SOON).await?;
	payer.paid(&payment, SOON).await?;
	let got = number(&received.what, "amount_msat")?;
	(sat * 1000).checked_sub(got).with_context(|| format!("{got} msat arrived of {sat} sat"))
}

/// The sale that is done, and that it says what the wallet saw.
pub async fn check_sale(world: &World<'_>, wallet: &Wallet, fee_msat: u64) -> Result<Value> {
	let sale = world.lsp.sales_are(1, "done", SOON).await?.remove(0);
	ensure!(number(&sale, "fee_msat")? == fee_msat, "the wallet was charged {fee_msat} msat, the sale says {sale}");
	ensure!(sale["client"] == wallet.node_id(), "sold to somebody else: {sale}");
	let sale = world.lsp.sale(&text(&sale, "id")?).await?;
	ensure!(number(&sale, "reserved_sat")? == 0, "money is still reserved: {sale}");
	Ok(sale)
}

/// The sum of the ledger's entries of this kind, in msat.
pub async fn booked(world: &World<'_>, kind: &str) -> Result<i64> {
	let ledger = world.lsp.ledger().await?;
	let totals = ledger["totals"].as_array().context("no totals")?;
	let of_kind = totals.iter().find(|total| total["kind"] == kind);
	Ok(of_kind.and_then(|total| total["amount_msat"].as_i64()).unwrap_or(0))
}

/// Pays `sat` from one wallet to the other over channels that are there.
pub async fn pay_plainly(from: &Wallet, to: &Wallet, sat: u64) -> Result<()> {
	let invoice = to.invoice(Some(sat * 1000)).await?;
	let payment = from.pay_soon(&invoice, SOON).await?;
	to.received(&invoice, SOON).await?;
	from.paid(&payment, SOON).await?;
	Ok(())
}

/// A client with coins and a private channel of `sat` to the LSP, all of it on its own side.
pub async fn client_with_channel(world: &World<'_>, name: &str, sat: u64) -> Result<Wallet> {
	let wallet = world.client(name).await?;
	world.give_coins(&wallet, sat + 500_000).await?;
	wallet.open_channel(&world.lsp.uri(), sat, false).await?;
	world.bitcoind.wait_for_mempool(1, SOON).await?;
	world.mine(CHANNEL_DEPTH, &[&wallet]).await?;
	wallet.usable_channels(1, SOON).await?;
	Ok(wallet)
}

/// What an LSPS1 order costs in all, by this option (`bolt11` or `onchain`).
pub fn order_total(order: &Value, option: &str) -> Result<u64> {
	let amount = text(&order["payment"][option], "order_total_sat")?;
	amount.parse().with_context(|| format!("no number: {amount}"))
}

/// The invoice of an LSPS1 order.
pub fn order_invoice(order: &Value) -> Result<Invoice> {
	Ok(Invoice { text: text(&order["payment"]["bolt11"], "invoice")?, hash: String::new() })
}

/// The only channel of this wallet that the LSP opened, by its value.
pub async fn channel_of(wallet: &Wallet, value_sat: u64) -> Result<Value> {
	let channels = wallet.channels().await?;
	let found = channels.iter().find(|channel| channel["outbound"] == false && channel["value_sat"] == value_sat);
	found.cloned().with_context(|| format!("no channel of {value_sat} sat from the LSP among {channels:?}"))
}

/// `payer` pays `invoice` to `client`.
pub async fn pay_thin(payer: &ThinNode, invoice: &Bolt11Invoice, client: &ThinNode) -> Result<()> {
	let hash = payer.pay(invoice, None, 1)?;
	client.claimed(hash, SOON).await?;
	payer.outcome(hash, SOON).await?.map_err(anyhow::Error::msg)?;
	Ok(())
}

/// The ledger says what the wallet and the channels hold, soon.
pub async fn books_agree(world: &World<'_>, when: &str) -> Result<()> {
	let books = world.lsp.say(&["ledger", "check", "--wait", "20"]).await?;
	ensure!(books.code == Some(0), "{when}: {books:?}");
	Ok(())
}
