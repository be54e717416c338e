//! `cargo demo`: the main job on a private regtest, from nothing to `demo: ok`.
//!
//! A bitcoind, an Inlet LSP, two wallets and a payer (ldk-node, not ours) run as processes of their own. Wallet 1 is paid
//! over a channel that does not exist yet (LSPS2), wallet 2 orders two (LSPS1), and the LSP's books are checked against
//! what everyone has. `cargo demo --keep` leaves it all up until Ctrl-C.

use anyhow::{Context, Result, bail, ensure};
use inlet_lsp::book::EntryKind;
use inlet_tests::wallet::{Invoice, number, text};
use inlet_tests::world::{CHANNEL_DEPTH, SOON};
use inlet_tests::{Backend, Scratch, Wallet, World, eventually, inlet_exe, wallet_exe};
use serde::Deserialize;
use serde_json::Value;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

const PAYER_CHANNEL_SAT: u64 = 5_000_000;
const JIT_SAT: u64 = 250_000;
const BACK_SAT: u64 = 60_000;
const AGAIN_SAT: u64 = 40_000;
const WALLET2_COINS_SAT: u64 = 1_000_000;
const WALLET2_CHANNEL_SAT: u64 = 400_000;
const ORDER1_SAT: u64 = 500_000;
const ORDER2_SAT: u64 = 300_000;
const LEASE_BLOCKS: u32 = 4320;
/// With `--keep`: how often a block is mined, so that what people try gets confirmed.
const KEEP_BLOCK_EVERY: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
	let keep = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
		[] => false,
		[flag] if flag == "--keep" => true,
		_ => {
			eprintln!("usage: cargo demo [--keep]");
			return ExitCode::from(2);
		}
	};
	match demo(keep) {
		Ok(()) => {
			println!("demo: ok");
			ExitCode::SUCCESS
		}
		Err(error) => {
			eprintln!("demo: failed: {error:#}");
			ExitCode::FAILURE
		}
	}
}

fn demo(keep: bool) -> Result<()> {
	println!("building inlet and the wallet (the first time takes some minutes)");
	// Before there is anything to clean up: Ctrl-C just ends it.
	let inlet = inlet_exe()?;
	wallet_exe()?;
	println!("built {}", inlet.display());
	let scratch = Scratch::new()?;
	let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
	runtime.block_on(async {
		let mut interrupt = signal(SignalKind::interrupt())?;
		let mut terminate = signal(SignalKind::terminate())?;
		// Whichever comes first drops the others, and with them all processes.
		let played = tokio::select! {
			played = play(&scratch) => played.inspect_err(|_| scratch.keep()),
			_ = interrupt.recv() => bail!("interrupted"),
			_ = terminate.recv() => bail!("terminated"),
		};
		let cast = played?;
		if keep {
			return tokio::select! {
				failed = keep_up(&cast) => failed,
				_ = interrupt.recv() => Ok(()),
				_ = terminate.recv() => Ok(()),
			};
		}
		// The LSP as an operator would stop it; the others have nothing to lose.
		cast.world.lsp.stop().await?;
		cast.teller.say("lsp", "stopped (SIGTERM, exit 0)");
		Ok(())
	})
}

/// A fresh ldk-node looks at incoming payments for the first time two seconds after its start. The demo's figure is not about
/// that, so the payer sends when it is over.
const FIRST_LOOK: Duration = Duration::from_millis(2_500);

/// Says what happens, with the time since the start.
struct Teller {
	start: Instant,
}

impl Teller {
	fn say(&self, who: &str, what: &str) {
		println!("{:6.1} s  {who:<9} {what}", self.start.elapsed().as_secs_f64());
	}
}

/// Everyone in the play.
struct Cast<'a> {
	wallet1: Wallet,
	wallet2: Wallet,
	payer: Wallet,
	world: World<'a>,
	teller: Teller,
	wallets_up: Instant,
}

/// What the books are checked against.
#[derive(Default)]
struct Expected {
	jit_fee_msat: u64,
	order_fees_sat: u64,
	routing_fees_msat: u64,
}

async fn play(scratch: &Scratch) -> Result<Cast<'_>> {
	let teller = Teller { start: Instant::now() };
	let cast = set_up(scratch, teller).await?;
	let wealth_before = cast.world.wealth_msat(&[&cast.wallet1, &cast.wallet2, &cast.payer]).await?;
	let mut expected = Expected::default();
	let waited = just_in_time(&cast, &mut expected).await?;
	spend_and_receive(&cast, &mut expected).await?;
	wallet2_opens_its_own(&cast).await?;
	order_by_lightning(&cast, &mut expected).await?;
	order_onchain(&cast, &mut expected).await?;
	cast.world.mine(CHANNEL_DEPTH, &[&cast.wallet1, &cast.wallet2, &cast.payer]).await?;
	books(&cast, &expected, wealth_before).await?;
	println!("\npayer sends -> wallet has the money (channel opened on the way): {} ms", waited.as_millis());
	Ok(cast)
}

async fn set_up(scratch: &Scratch, teller: Teller) -> Result<Cast<'_>> {
	let world = World::start(scratch, Backend::Bitcoind).await?;
	let (lsp, bitcoind) = (&world.lsp, &world.bitcoind);
	teller.say("bitcoind", &bitcoind.describe());
	teller.say("bitcoind", &format!("private regtest, height {}", bitcoind.height().await?));
	teller.say("lsp", &format!("{} is up", lsp.uri()));
	teller.say("lsp", &format!("has {} on-chain", sat(world.lsp_coins_sat())));
	let wallet1 = world.client("wallet1").await?;
	let wallet2 = world.client("wallet2").await?;
	teller.say("wallet 1", &format!("{} is up, owns nothing", short(wallet1.node_id())));
	teller.say("wallet 2", &format!("{} is up, owns nothing", short(wallet2.node_id())));
	let wallets_up = Instant::now();
	let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
	let channel = sat(PAYER_CHANNEL_SAT);
	teller.say("payer", &format!("{} has a public channel of {channel} to the LSP", short(payer.node_id())));
	Ok(Cast { wallet1, wallet2, payer, world, teller, wallets_up })
}

/// Wallet 1, without a channel, is paid. Gives the time from the payer's sending to the wallet's having.
async fn just_in_time(cast: &Cast<'_>, expected: &mut Expected) -> Result<Duration> {
	let Cast { wallet1, payer, world, teller, .. } = cast;
	let quote = world.lsp.json(&["quote", &format!("{JIT_SAT}sat"), "jit"]).await?;
	teller.say("lsp", &format!("would take {} to receive {}", msat(number(&quote, "fee_msat")?), sat(JIT_SAT)));
	let invoice = wallet1.jit_invoice(Some(JIT_SAT * 1000)).await?;
	teller.say("wallet 1", &format!("asked the LSP (LSPS2) and shows an invoice for {}", sat(JIT_SAT)));
	tokio::time::sleep_until((cast.wallets_up + FIRST_LOOK).into()).await;
	let sent = Instant::now();
	let payment = payer.pay(&invoice, None).await?;
	teller.say("payer", &format!("sends {}", sat(JIT_SAT)));
	let received = wallet1.received(&invoice, SOON).await?;
	let waited = received.at - sent;
	let got = number(&received.what, "amount_msat")?;
	expected.jit_fee_msat = (JIT_SAT * 1000).checked_sub(got).context("wallet 1 got more than was sent")?;
	payer.paid(&payment, SOON).await?;
	let channels = wallet1.channels().await?;
	ensure!(channels.len() == 1, "wallet 1 has {} channels", channels.len());
	let capacity = sat(number(&channels[0], "value_sat")?);
	teller.say("lsp", &format!("opened a channel of {capacity} to wallet 1 and passed the payment on"));
	teller.say("wallet 1", &format!("has {} after {} ms", msat(got), waited.as_millis()));
	let sale = world.lsp.sales_are(1, "done", SOON).await?.remove(0);
	ensure!(number(&sale, "fee_msat")? == expected.jit_fee_msat, "the sale's fee is not what wallet 1 paid: {sale}");
	teller.say("lsp", &format!("earned {} with sale {}", msat(expected.jit_fee_msat), text(&sale, "id")?));
	Ok(waited)
}

/// Wallet 1 spends and receives over the channel it got.
async fn spend_and_receive(cast: &Cast<'_>, expected: &mut Expected) -> Result<()> {
	let Cast { wallet1, payer, world, teller, .. } = cast;
	expected.routing_fees_msat += pay(wallet1, payer, BACK_SAT).await?;
	teller.say("wallet 1", &format!("spent {} to the payer", sat(BACK_SAT)));
	expected.routing_fees_msat += pay(payer, wallet1, AGAIN_SAT).await?;
	teller.say("wallet 1", &format!("received {} again", sat(AGAIN_SAT)));
	ensure!(wallet1.channels().await?.len() == 1, "that took another channel");
	ensure!(world.lsp.list("sales").await?.len() == 1, "that was another sale");
	teller.say("wallet 1", "still has one channel, and there was one sale");
	Ok(())
}

/// One wallet pays another over channels that are there; gives the routing fee.
async fn pay(from: &Wallet, to: &Wallet, amount_sat: u64) -> Result<u64> {
	let invoice = to.invoice(Some(amount_sat * 1000)).await?;
	let payment = from.pay_soon(&invoice, SOON).await?;
	let received = to.received(&invoice, SOON).await?;
	ensure!(number(&received.what, "amount_msat")? == amount_sat * 1000, "not the whole sum arrived");
	number(&from.paid(&payment, SOON).await?.what, "fee_msat")
}

/// Wallet 2 has coins and opens a channel with them: it can pay now, but not be paid.
async fn wallet2_opens_its_own(cast: &Cast<'_>) -> Result<()> {
	let Cast { wallet2, world, teller, .. } = cast;
	world.give_coins(wallet2, WALLET2_COINS_SAT).await?;
	wallet2.open_channel(&world.lsp.uri(), WALLET2_CHANNEL_SAT, false).await?;
	world.bitcoind.wait_for_mempool(1, SOON).await?;
	world.mine(CHANNEL_DEPTH, &[wallet2]).await?;
	wallet2.usable_channels(1, SOON).await?;
	let (coins, channel) = (sat(WALLET2_COINS_SAT), sat(WALLET2_CHANNEL_SAT));
	teller.say("wallet 2", &format!("got {coins} on-chain and opened a channel of {channel}: it can pay, not receive"));
	Ok(())
}

async fn order_by_lightning(cast: &Cast<'_>, expected: &mut Expected) -> Result<()> {
	let Cast { wallet2, teller, .. } = cast;
	let order = wallet2.order_channel(ORDER1_SAT, 0, LEASE_BLOCKS).await?;
	let option = &order["payment"]["bolt11"];
	let total = amount(option, "order_total_sat")?;
	expected.order_fees_sat += amount(option, "fee_total_sat")?;
	let (size, price) = (sat(ORDER1_SAT), sat(total));
	teller.say("wallet 2", &format!("orders {size} to receive with (LSPS1), price {price}, pays by Lightning"));
	let id = text(&order, "order_id")?;
	let invoice = Invoice { text: text(option, "invoice")?, hash: String::new() };
	let payment = wallet2.pay(&invoice, None).await?;
	wallet2.paid(&payment, SOON).await?;
	deliver(cast, &id, ORDER1_SAT, 2).await
}

async fn order_onchain(cast: &Cast<'_>, expected: &mut Expected) -> Result<()> {
	let Cast { wallet2, world, teller, .. } = cast;
	let order = wallet2.order_channel(ORDER2_SAT, 0, LEASE_BLOCKS).await?;
	let option = &order["payment"]["onchain"];
	let total = amount(option, "order_total_sat")?;
	expected.order_fees_sat += amount(option, "fee_total_sat")?;
	let (size, price) = (sat(ORDER2_SAT), sat(total));
	teller.say("wallet 2", &format!("orders {size} to receive with (LSPS1), price {price}, pays on-chain"));
	let id = text(&order, "order_id")?;
	let txid = wallet2.send(&text(option, "address")?, total).await?;
	world.bitcoind.wait_for_tx(&txid, SOON).await?;
	world.mine(1, &[wallet2]).await?;
	teller.say("wallet 2", &format!("its payment {} is mined", short(&txid)));
	deliver(cast, &id, ORDER2_SAT, 3).await
}

/// Waits until the order is done and wallet 2 can use the channel, its `count`th.
async fn deliver(cast: &Cast<'_>, order: &str, size_sat: u64, count: usize) -> Result<()> {
	let Cast { wallet2, world, teller, .. } = cast;
	world.lsp.order_is(order, "completed", SOON).await?;
	wallet2.usable_channels(count, SOON).await?;
	let channels = wallet2.channels().await?;
	let delivered = channels.iter().any(|channel| channel["value_sat"] == size_sat && channel["outbound"] == false);
	ensure!(delivered, "no channel of {size_sat} sat among {channels:?}");
	teller.say("wallet 2", &format!("has its channel of {}; order {} is completed", sat(size_sat), short(order)));
	Ok(())
}

/// Prints the LSP's sales, orders and ledger, and checks that they add up.
async fn books(cast: &Cast<'_>, expected: &Expected, wealth_before: i64) -> Result<()> {
	let lsp = &cast.world.lsp;
	for list in ["sales", "orders", "ledger"] {
		println!("\n$ inlet {list}\n{}", lsp.say(&[list]).await?.out.trim_end());
	}
	let funding_msat: i64 = eventually(SOON, "the ledger has all funding costs", async || {
		let (count, sum) = total(&lsp.ledger().await?, "funding_cost")?;
		Ok((count == 3).then_some(sum))
	})
	.await?;
	let ledger = lsp.ledger().await?;
	let entries = ledger["entries"].as_array().context("no entries")?;
	// The others are money that only moves: deposits, fundings, what was paid for an order.
	let profit = |entry: &&Value| EntryKind::deserialize(&entry["kind"]).is_ok_and(EntryKind::is_profit);
	let sum: i64 = entries.iter().filter(profit).filter_map(|e| e["amount_msat"].as_i64()).sum();
	let net = ledger["net_msat"].as_i64().context("no net_msat")?;
	ensure!(sum == net, "the ledger's entries add up to {sum} msat, it says {net}");
	let earned = [
		("jit_fee", expected.jit_fee_msat),
		("order_fee", expected.order_fees_sat * 1000),
		("routing_fee", expected.routing_fees_msat),
	];
	for (kind, paid) in earned {
		let (_, booked) = total(&ledger, kind)?;
		ensure!(booked == i64::try_from(paid)?, "{kind}: {booked} msat in the ledger, {paid} msat were paid");
	}
	let gained = cast.world.wealth_msat(&[&cast.wallet1, &cast.wallet2, &cast.payer]).await? - wealth_before;
	let rounding = 1000 * i64::try_from(lsp.channels().await?.len())?;
	ensure!((gained - net).abs() <= rounding, "the LSP has {gained} msat more than before, its ledger says {net}");
	println!();
	cast.teller.say("books", &format!("jit fees {} = what wallet 1 was charged", msat(expected.jit_fee_msat)));
	cast.teller.say("books", &format!("order fees {} = what wallet 2 paid", sat(expected.order_fees_sat)));
	cast.teller.say("books", &format!("routing fees {} = what the senders paid", msat(expected.routing_fees_msat)));
	cast.teller.say("books", &format!("miners got {} for three channels", msat(funding_msat.unsigned_abs())));
	cast.teller.say(
		"books",
		&format!("net {:+.3} sat = what the LSP has more than before, by what the others have", net as f64 / 1000.0),
	);
	Ok(())
}

/// How many entries of a kind the ledger has, and their sum in msat.
fn total(ledger: &Value, kind: &str) -> Result<(u64, i64)> {
	let totals = ledger["totals"].as_array().context("no totals")?;
	let of_kind =
		totals.iter().find(|total| total["kind"] == kind).with_context(|| format!("no {kind} in {ledger}"))?;
	Ok((number(of_kind, "entries")?, of_kind["amount_msat"].as_i64().context("no amount")?))
}

/// Says how to try things, and mines a block now and then until the process is told to end.
async fn keep_up(cast: &Cast<'_>) -> Result<()> {
	let World { lsp, bitcoind, .. } = &cast.world;
	let inlet = format!("{} --data-dir {}", lsp.exe().display(), lsp.data_dir().display());
	println!("\nit stays up until Ctrl-C; a block is mined every {} s", KEEP_BLOCK_EVERY.as_secs());
	println!("  bitcoind  {}", bitcoind.url());
	println!("  socket    {}", lsp.data_dir().join("admin.sock").display());
	println!("  try       {inlet} status");
	println!("            {inlet} sales list");
	println!("            {inlet} quote 100000sat jit --explain");
	println!("            {inlet} events --follow");
	let invoice = cast.payer.invoice(Some(1_000_000)).await?;
	println!("            {inlet} pay {}", invoice.text);
	loop {
		tokio::time::sleep(KEEP_BLOCK_EVERY).await;
		bitcoind.mine(1).await?;
	}
}

/// A number of bLIP-51: a text there.
fn amount(view: &Value, field: &str) -> Result<u64> {
	text(view, field)?.parse().with_context(|| format!("{field} is no number in {view}"))
}

fn sat(sat: u64) -> String {
	let digits = sat.to_string();
	let mut grouped = String::new();
	for (i, digit) in digits.chars().enumerate() {
		if i > 0 && (digits.len() - i).is_multiple_of(3) {
			grouped.push(',');
		}
		grouped.push(digit);
	}
	format!("{grouped} sat")
}

fn msat(msat: u64) -> String {
	match msat % 1000 {
		0 => sat(msat / 1000),
		rest => sat(msat / 1000).replace(" sat", &format!(".{rest:03} sat")),
	}
}

/// The beginning of an id.
fn short(id: &str) -> &str {
	id.get(..8).unwrap_or(id)
}
