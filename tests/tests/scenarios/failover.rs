//! Two nodes on one database: one leads, the other takes over when it is gone.

use crate::steps::{PAYER_CHANNEL_SAT, check_sale, pay_just_in_time};
use anyhow::{Context, Result, anyhow, ensure};
use inlet_tests::wallet::{Invoice, number, text};
use inlet_tests::world::SOON;
use inlet_tests::{Backend, Inlet, InletOptions, Postgres, Scratch, Wallet, World, eventually, scenario};
use std::time::Duration;

/// Payments under way when the leader is killed.
const PAYMENTS: usize = 30;
const PAYMENT_MSAT: u64 = 1_000_000;
/// A lease, a start, and time for a slow machine.
const TAKEN_OVER: Duration = Duration::from_secs(90);

/// A server; `None` on a machine that has none, which is not CI's: `.ci/run` installs it.
async fn postgres() -> Result<Option<Postgres>> {
	if Postgres::find().is_none() && std::env::var_os("CI").is_none() {
		eprintln!("not tried: PostgreSQL is not here (Debian: apt-get install postgresql)");
		return Ok(None);
	}
	tokio::task::spawn_blocking(Postgres::start).await?.map(Some).map_err(|e| anyhow!(e))
}

fn on(postgres: &Postgres) -> InletOptions {
	let config = format!("[storage]\nbackend = \"postgres\"\nurl = \"{}\"\nlease_secs = 8\n", postgres.url());
	InletOptions { config, ..Default::default() }
}

/// Starts as many payments as there are invoices; gives their ids.
async fn pay_all(payer: &Wallet, invoices: &[Invoice]) -> Result<Vec<String>> {
	let mut payments = Vec::new();
	for invoice in invoices {
		payments.push(payer.pay(invoice, None).await?);
	}
	Ok(payments)
}

/// The status of each of these payments, when none is under way any more.
async fn outcomes(payer: &Wallet, payments: &[String]) -> Result<Vec<bool>> {
	let over = async || {
		let all = payer.payments().await?;
		let status =
			|id: &String| all.iter().find(|payment| payment["payment_id"] == **id).map(|p| p["status"].clone());
		let found: Option<Vec<_>> = payments.iter().map(status).collect();
		let found = found.context("a payment is not known")?;
		let under_way = found.iter().filter(|status| *status == "pending").count();
		ensure!(under_way == 0, "{under_way} are pending");
		Ok(Some(found.into_iter().map(|status| status == "succeeded").collect()))
	};
	eventually(SOON, "all payments are over", over).await
}

async fn meet(world: &World<'_>, wallets: &[&Wallet]) -> Result<()> {
	for wallet in wallets {
		wallet.connect(&world.lsp.uri()).await?;
		wallet.usable_channels(1, SOON).await?;
	}
	Ok(())
}

async fn waits(standby: &Inlet) -> Result<()> {
	let said = async || {
		standby.check_running()?;
		Ok(standby.log_text().contains("has the lease").then_some(()))
	};
	eventually(SOON, "the standby waits", said).await
}

/// The leader is killed in the middle of many payments; the standby serves; each payment was made once or not at all, no
/// channel was closed, and the books say what the balances say. Who led before is refused, and stands by; and when the
/// second leader falls asleep, it takes over, and that one, woken up, stops by itself.
#[test]
fn r17_a_standby_takes_over_in_the_middle_of_payments() {
	scenario(async |scratch| {
		let Some(postgres) = postgres().await? else { return Ok(()) };
		let mut world = World::start_with(scratch, Backend::Bitcoind, on(&postgres)).await?;
		let standby = world.lsp.standby(scratch).await?;
		standby.launch()?;
		waits(&standby).await?;

		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let wealth_before = world.wealth_msat(&[&payer]).await?;
		let wallet = world.client("wallet").await?;
		let invoice = wallet.jit_invoice(Some(150_000_000)).await?;
		let fee = pay_just_in_time(&payer, &wallet, &invoice, 150_000).await?;
		check_sale(&world, &wallet, fee).await?;
		world.bitcoind.wait_for_mempool(1, SOON).await?;
		world.mine(6, &[&payer, &wallet]).await?;

		let channels = world.lsp.channels().await?.len();
		let mut invoices = Vec::new();
		for _ in 0..PAYMENTS {
			invoices.push(wallet.invoice(Some(PAYMENT_MSAT)).await?);
		}
		let before = wallet.mark()?;
		let payments = pay_all(&payer, &invoices).await?;
		wallet.event(before, "payment_received", SOON, |_| true).await?;
		world.lsp.kill()?;
		let old = std::mem::replace(&mut world.lsp, standby);
		world.lsp.ready(TAKEN_OVER).await?;
		meet(&world, &[&payer, &wallet]).await?;

		check_payments(&payer, &wallet, &payments, &invoices).await?;
		check_books(&world, &payer, &wallet, wealth_before, channels).await?;

		change_places(&world, old, &payer, &wallet).await?;
		Ok(())
	});
}

/// What the payer paid is what the wallet got, payment by payment.
async fn check_payments(payer: &Wallet, wallet: &Wallet, payments: &[String], invoices: &[Invoice]) -> Result<()> {
	let paid = outcomes(payer, payments).await?;
	let received = wallet.payments().await?;
	for (invoice, paid) in invoices.iter().zip(&paid) {
		let got = received
			.iter()
			.filter(|p| p["hash"] == invoice.hash && p["direction"] == "in" && p["status"] == "succeeded")
			.count();
		ensure!(got == usize::from(*paid), "paid: {paid}, arrived {got} times: {}", invoice.hash);
	}
	ensure!(paid.iter().any(|paid| *paid), "none was paid");
	Ok(())
}

async fn check_books(
	world: &World<'_>,
	payer: &Wallet,
	wallet: &Wallet,
	wealth_before: i64,
	channels: usize,
) -> Result<()> {
	ensure!(world.lsp.channels().await?.len() == channels, "a channel was closed");
	ensure!(world.bitcoind.mempool().await?.is_empty(), "a channel is being closed");
	let right = async || {
		let ledger = world.lsp.ledger().await?;
		let gained = world.wealth_msat(&[payer, wallet]).await? - wealth_before;
		let net = ledger["net_msat"].as_i64().context("no net_msat")?;
		ensure!((gained - net).abs() <= 2000, "the LSP has {gained} msat more than before, its ledger says {net}");
		Ok(Some(()))
	};
	eventually(SOON, "the books are right", right).await
}

/// The old leader comes back, is refused, stands by, and takes over from the new one, which sleeps; that one, when it wakes
/// up, stops.
async fn change_places(world: &World<'_>, mut old: Inlet, payer: &Wallet, wallet: &Wallet) -> Result<()> {
	old.launch()?;
	let status = old.ended(SOON).await?;
	ensure!(status.code() == Some(1) && old.log_text().contains("Stop that node first"), "{status}: not refused");
	old.stand_by();
	old.use_another_port()?;
	old.launch()?;
	waits(&old).await?;

	world.lsp.freeze(true)?;
	old.ready(TAKEN_OVER).await?;
	world.lsp.freeze(false)?;
	let status = world.lsp.ended(SOON).await?;
	let said = world.lsp.log_text();
	ensure!(!status.success(), "it ended as if it was told to");
	ensure!(said.contains("this node stops before a standby") || said.contains("so this one stops"), "{said}");

	for wallet in [payer, wallet] {
		wallet.connect(&old.uri()).await?;
		wallet.usable_channels(1, SOON).await?;
	}
	let invoice = wallet.invoice(Some(PAYMENT_MSAT)).await?;
	let payment = payer.pay_soon(&invoice, SOON).await?;
	wallet.received(&invoice, SOON).await?;
	payer.paid(&payment, SOON).await?;
	Ok(())
}

/// A stopped node's state is moved to a server, and it goes on there with its channels; the file is not used again, and from the
/// backup of it, which was the last state until then, no channels are restored.
#[test]
fn a_node_moves_to_a_server() {
	scenario(async |scratch: &Scratch| {
		let Some(postgres) = postgres().await? else { return Ok(()) };
		let config = format!("[storage]\nurl = \"{}\"\nlease_secs = 8\n", postgres.url());
		let target = format!("dir:{}", scratch.folder("backup")?.join("lsp").display());
		let backup = format!("[backup]\ntargets = [\"{target}\"]\nmode = \"sync\"\n");
		let before = vec!["backup init --network regtest".to_owned()];
		let options = InletOptions { config: format!("{config}{backup}"), before, ..Default::default() };
		let world = World::start_with(scratch, Backend::Bitcoind, options).await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let balance = world.lsp.balance().await?;
		// What `inlet run` was told on its command line.
		let config = format!(
			"{config}[node]\nnetwork = \"regtest\"\n[chain]\nbackend = \"bitcoind:{}\"\n",
			world.bitcoind.url()
		);
		std::fs::write(world.lsp.data_dir().join("inlet.toml"), format!("{config}{backup}"))?;

		let migrate = ["storage", "migrate", "--from", "sqlite", "--to", "postgres"];
		let refused = world.lsp.say(&migrate).await?;
		ensure!(refused.code == Some(1) && refused.err.contains("in use"), "{refused:?}");
		world.lsp.stop().await?;
		let verify = ["backup", "verify", "--from", &target];
		let last = world.lsp.say(&verify).await?;
		ensure!(last.out.contains("would bring the channels back"), "{last:?}");
		let moved = world.lsp.say(&migrate).await?;
		ensure!(moved.code == Some(0) && moved.out.contains("backend = \"postgres\""), "{moved:?}");
		ensure!(moved.err.contains("rows compared") && moved.out.contains("Take [backup] targets out"), "{moved:?}");
		let history = world.lsp.say(&verify).await?;
		ensure!(history.out.contains("the coins, not the channels: the node left this target"), "{history:?}");

		world.lsp.launch()?;
		ensure!(world.lsp.ended(SOON).await?.code() == Some(1), "the file is used again");
		ensure!(world.lsp.log_text().contains("was moved elsewhere"), "{}", world.lsp.log_text());
		let config = config.replace("[storage]\n", "[storage]\nbackend = \"postgres\"\n");
		std::fs::write(world.lsp.data_dir().join("inlet.toml"), config)?;
		// What looks into a stopped node's store looks into this one, or says that it does not.
		let exported = scratch.folder("exported")?.join("all");
		let export = ["storage", "export", "--to", exported.to_str().context("a path of text")?];
		let exported_all = world.lsp.say(&export).await?;
		ensure!(exported_all.code == Some(0) && exported.join("manager").exists(), "{exported_all:?}");
		let looked = world.lsp.say(&["doctor"]).await?;
		ensure!(looked.out.contains("which a stopped node does not look at"), "{looked:?}");

		world.lsp.resume().await?;
		ensure!(world.lsp.balance().await? == balance, "the balance is another");
		payer.connect(&world.lsp.uri()).await?;
		payer.usable_channels(1, SOON).await?;
		let wallet = world.client("wallet").await?;
		let invoice = wallet.jit_invoice(Some(150_000_000)).await?;
		let fee = pay_just_in_time(&payer, &wallet, &invoice, 150_000).await?;
		let sale = check_sale(&world, &wallet, fee).await?;
		ensure!(number(&sale, "fee_msat")? == fee && !text(&sale, "id")?.is_empty());
		Ok(())
	});
}
