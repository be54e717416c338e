//! The crash matrix: the real binary dies by `kill -9` at every state of a sale and of an order, before that state is
//! written, after, and after what follows from it was done; and between the steps of a funding, of one that two orders share, of
//! a refund, and of waking a client. It is started again, the clients come back, and all of it must come to its end: every payment settled or failed
//! back, one channel for each purchase, no force-close, nothing refunded twice, and a ledger that says what everyone has.
//!
//! A crash point lies in the binary's debug build, see `node/src/crash.rs`. Here it has in front of it what is done when it
//! is reached, `sale/funding.sent.done`, unless its name begins with that.

use crate::inlet::InletOptions;
use crate::scratch::{Scratch, eventually};
use crate::thin::{ThinConfig, ThinNode};
use crate::wallet::{Invoice, Wallet, number, text};
use crate::webhook::Receiver;
use crate::world::{Backend, SOON, World};
use anyhow::{Context, Result, bail, ensure};
use lightning_liquidity::lsps1::msgs::LSPS1OrderParams;
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

/// Capacity of the payer's channels: a quarter of each may be in flight.
const PAYER_CHANNEL_SAT: u64 = 8_000_000;
/// Each just-in-time payment.
const JIT_SAT: u64 = 150_000;
/// Each ordered channel.
const ORDER_SAT: u64 = 200_000;
const LEASE_BLOCKS: u32 = 4320;
/// What an order is paid that was paid already.
const TOO_MUCH_SAT: u64 = 40_000;
/// A payment to a client that sleeps.
const ASLEEP_MSAT: u64 = 10_000_000;
/// How long the LSP may take to come to the point where it dies.
const REACHED_WITHIN: Duration = Duration::from_secs(60);
const SIGKILL: i32 = 9;
/// For as long as two orders need to be paid at the same time.
const BATCH_WINDOW: (&str, &str) = ("INLET_LSPS1_BATCH_WINDOW_SECS", "5");

/// The states of a sale through which a purchase goes.
const SALE: [&str; 5] = ["bought", "gathering", "opening", "forwarded", "done"];
/// The states of an order that is paid by Lightning.
const ORDER: [&str; 6] = ["preparing", "awaiting_payment", "paid", "opening", "funded", "completed"];
const PHASES: [&str; 3] = ["decided", "written", "done"];
/// Where the channel of a sale to somebody new is: its funding goes out when the payment is taken.
const WITHHELD: [&str; 5] = [
	"sale/funding.monitor.decided",
	"sale/funding.monitor.written",
	"sale/funding.release.decided",
	"sale/funding.release.done",
	"sale/funding.sent.done",
];
/// Where the channel of an order is: LDK sends its funding.
const FUNDED: [&str; 4] = [
	"order/funding.monitor.decided",
	"order/funding.monitor.written",
	"order/funding.broadcast.decided",
	"order/funding.sent.done",
];
/// Where a payment to an order that was delivered already is on its way back.
const REFUND: [&str; 3] = ["refund/refund.kept.written", "refund/refund.recorded.decided", "refund/payment.sent.done"];
/// Where a payment is held for a client that sleeps.
const WAKE: [&str; 4] =
	["wake/client.holding.decided", "wake/client.holding.written", "wake/client.holding.done", "wake/wake.told.done"];

/// Where two orders share a funding transaction.
const BATCH: [&str; 10] = [
	"batch/order.paid.written",
	"batch/order.opening.written",
	"batch/order.opening.done",
	"batch/batch.funded.written",
	"batch/batch.given.one",
	"batch/batch.given.all",
	"batch/batch.signed.one",
	"batch/batch.signed.all",
	"batch/batch.kept.done",
	"batch/batch.broadcast.decided",
];
/// The same, from its broadcast on.
const BATCH_OUT: [&str; 2] = ["batch/batch.broadcast.done", "batch/funding.sent.done"];
/// Where it is given up because one of the two went away before it signed.
const DISSOLVED: [&str; 4] = [
	"dissolved/batch.dissolving.decided",
	"dissolved/batch.dissolving.told",
	"dissolved/batch.dissolving.closed",
	"dissolved/batch.dissolving.freed",
];

/// All points, those of sales, of orders, and of the rest by turns.
pub fn points() -> Vec<String> {
	let of = |kind: &str, states: &[&str]| -> Vec<String> {
		let state = |state: &&str| PHASES.map(|phase| format!("{kind}.{state}.{phase}"));
		states.iter().flat_map(state).collect()
	};
	let rest = WITHHELD.iter().chain(&FUNDED).chain(&REFUND).chain(&WAKE);
	let rest = rest.chain(&BATCH).chain(&BATCH_OUT).chain(&DISSOLVED).map(|point| (*point).to_owned()).collect();
	let columns: [Vec<String>; 3] = [of("sale", &SALE), of("order", &ORDER), rest];
	let longest = columns.iter().map(Vec::len).max().unwrap_or(0);
	(0..longest).flat_map(|row| columns.iter().filter_map(move |column| column.get(row))).cloned().collect()
}

/// What is done when this point is reached, and the point's name in the binary.
fn parts(point: &str) -> Option<(&str, &str)> {
	point.split_once('/').or_else(|| Some((point.split_once('.')?.0, point)))
}

/// A world in which purchases are made through crashes, one after the other.
pub struct Matrix<'a> {
	world: World<'a>,
	receiver: Receiver,
	payer: Wallet,
	clients: Vec<Wallet>,
	/// Clients that share a funding transaction with one of the others.
	companions: Vec<ThinNode>,
	wealth_before: i64,
	jit_fees_msat: u64,
	orders: Vec<String>,
}

impl<'a> Matrix<'a> {
	/// An LSP with money, and somebody who pays.
	///
	/// # Errors
	/// A part of it does not start.
	pub async fn start(scratch: &'a Scratch) -> Result<Matrix<'a>> {
		// Whoever has to find out what went wrong needs LDK's words.
		let arguments = ["--log-level", "debug,lightning=debug"].map(str::to_owned).to_vec();
		let receiver = Receiver::start().await?;
		let config = format!("[notify]\nallow_private = true\nca_file = {:?}\n", receiver.ca_file());
		let options = InletOptions { arguments, config, ..Default::default() };
		let world = World::start_with(scratch, Backend::Bitcoind, options).await?;
		let payer = world.payer(&[PAYER_CHANNEL_SAT]).await?;
		let wealth_before = world.wealth_msat(&[&payer]).await?;
		Ok(Matrix {
			world,
			receiver,
			payer,
			clients: Vec::new(),
			companions: Vec::new(),
			wealth_before,
			jit_fees_msat: 0,
			orders: Vec::new(),
		})
	}

	/// A new client buys a channel and is paid, or pays, and the LSP dies at `point` on the way.
	///
	/// # Errors
	/// It does not die there, or what was begun does not come to its end.
	pub async fn survive(&mut self, point: &str) -> Result<()> {
		let client = self.world.client(&format!("wallet{}", self.clients.len())).await?;
		self.come_through(point, &client).await.with_context(|| format!("with a crash at {point}"))?;
		if self.companions.last().is_some_and(|companion| companion.channels().iter().any(|one| !one.is_channel_ready))
		{
			// It waits for a block, and so does the other.
			self.world.mine(1, &[&self.payer, &client]).await?;
		}
		client.usable_channels(1, SOON).await?;
		self.clients.push(client);
		self.world.mine(1, &[&self.payer]).await?;
		self.check().await.with_context(|| format!("after a crash at {point}"))
	}

	async fn come_through(&mut self, point: &str, client: &Wallet) -> Result<()> {
		let (doing, at) = parts(point).context("no such point")?;
		// States that a purchase passes at once if the client is there.
		let sleeps = at.contains(".gathering.") || at.contains(".paid.");
		match doing {
			"sale" => {
				let msat = self.through(at, client, sleeps, self.buy_just_in_time(client, sleeps)).await?;
				self.jit_fees_msat += JIT_SAT * 1000 - msat;
			}
			"order" => {
				let id = self.through(at, client, sleeps, self.buy_on_order(client, sleeps)).await?;
				self.orders.push(id);
			}
			"refund" => {
				let id = self.through(at, client, false, self.pay_twice(client)).await?;
				self.orders.push(id);
			}
			"wake" => {
				// First: whoever sets it in the client's name knows nothing of its channels, and LDK would close them.
				self.world.set_webhook(client, &self.receiver).await?;
				let msat = self.buy_just_in_time(client, false).await?;
				self.jit_fees_msat += JIT_SAT * 1000 - msat;
				self.through(at, client, true, self.be_paid_asleep(client)).await?;
			}
			"batch" | "dissolved" => self.share(at, client, doing == "dissolved").await?,
			other => bail!("nothing is known of {other}"),
		}
		Ok(())
	}

	/// Two orders that can wait share a funding transaction, or are to: with `dissolved`, one of the two goes away before it signs.
	async fn share(&mut self, at: &str, client: &Wallet, dissolved: bool) -> Result<()> {
		let settings = [BATCH_WINDOW, ("INLET_LSPS1_MIN_REQUIRED_CHANNEL_CONFIRMATIONS", "1")];
		settings.iter().for_each(|(name, value)| self.world.lsp.set(name, Some(value)));
		let name = format!("companion{}", self.companions.len());
		let config = ThinConfig::client(&name, &self.world.lsp.uri());
		let companion = ThinNode::start(&self.world.bitcoind, config).await?;
		self.companions.push(companion);
		let companion = self.companions.last().context("it was pushed")?;
		companion.set_signing(!dissolved);
		let leave = async {
			if dissolved {
				let asked = async || Ok(companion.channels().iter().any(|one| one.funding_txo.is_some()).then_some(()));
				eventually(SOON, "the companion is asked to sign", asked).await?;
				companion.disconnect();
				companion.set_signing(true);
			}
			Ok(())
		};
		let orders =
			async { tokio::try_join!(self.buy_on_order(client, false), self.order_of_companion(companion), leave) };
		let (first, second, ()) = self.through(at, client, false, orders).await?;
		self.orders.extend([first, second]);
		settings.iter().for_each(|(name, _)| self.world.lsp.set(name, None));
		Ok(())
	}

	/// Gives the order's id.
	async fn order_of_companion(&self, companion: &ThinNode) -> Result<String> {
		let refund = self.world.bitcoind.wallet_call("getnewaddress", json!(["", "bech32"])).await?;
		let params = LSPS1OrderParams {
			lsp_balance_sat: ORDER_SAT,
			client_balance_sat: 0,
			required_channel_confirmations: 1,
			funding_confirms_within_blocks: 6,
			channel_expiry_blocks: LEASE_BLOCKS,
			token: None,
			announce_channel: false,
		};
		let ordered = async || {
			companion.reconnect().await.ok();
			Ok(companion.order(params.clone(), refund.as_str()).await.ok())
		};
		let order = eventually(SOON, "the companion has an order", ordered).await?;
		let bolt11 = order.payment.bolt11.as_ref().context("no invoice")?;
		self.pay(&Invoice { text: bolt11.invoice.to_string(), hash: String::new() }).await?;
		self.world.lsp.order_is(&order.id.0, "completed", SOON).await?;
		Ok(order.id.0)
	}

	/// Does `work` while the LSP dies at `point`, is started again, and everyone comes back to it: the client too, if it
	/// `sleeps` by then.
	async fn through<T>(
		&self,
		point: &str,
		client: &Wallet,
		sleeps: bool,
		work: impl Future<Output = Result<T>>,
	) -> Result<T> {
		let lsp = &self.world.lsp;
		lsp.stop().await?;
		lsp.crash_at(Some(point));
		lsp.resume().await?;
		self.meet(client).await?;
		let nurse = async {
			let status = lsp.ended(REACHED_WITHIN).await.context("the LSP did not come to that point")?;
			ensure!(status.signal() == Some(SIGKILL), "the LSP ended with {status}");
			lsp.crash_at(None);
			lsp.resume().await?;
			if sleeps {
				client.resume().await?;
			}
			self.meet(client).await
		};
		tokio::try_join!(work, nurse).map(|(done, ())| done)
	}

	/// The payer and the client connect to the LSP. Their channels take a moment longer.
	async fn meet(&self, client: &Wallet) -> Result<()> {
		let uri = self.world.lsp.uri();
		for wallet in [&self.payer, client] {
			let met = async || wallet.connect(&uri).await.map(Some);
			eventually(SOON, &format!("{} connects", wallet.name()), met).await?;
		}
		for companion in &self.companions {
			let met = async || Ok(companion.reconnect().await.ok());
			eventually(SOON, "a companion connects", met).await?;
		}
		self.payer.usable_channels(1, SOON).await
	}

	/// Gives what the client received, in msat.
	async fn buy_just_in_time(&self, client: &Wallet, sleeps: bool) -> Result<u64> {
		let bought = async || client.jit_invoice(Some(JIT_SAT * 1000)).await.map(Some);
		let invoice = eventually(SOON, "the client has an invoice", bought).await?;
		if sleeps {
			client.stop().await?;
		}
		self.pay(&invoice).await?;
		number(&client.received(&invoice, SOON).await?.what, "amount_msat")
	}

	/// Gives the order's id.
	async fn buy_on_order(&self, client: &Wallet, sleeps: bool) -> Result<String> {
		let ordered = async || client.order_channel(ORDER_SAT, 0, LEASE_BLOCKS).await.map(Some);
		let order = eventually(SOON, "the client has an order", ordered).await?;
		let id = text(&order, "order_id")?;
		if sleeps {
			client.stop().await?;
		}
		self.pay(&Invoice { text: text(&order["payment"]["bolt11"], "invoice")?, hash: String::new() }).await?;
		self.world.lsp.order_is(&id, "completed", SOON).await?;
		Ok(id)
	}

	/// An order that is paid on-chain, delivered, and paid once more: that goes back, once. Gives the order's id.
	async fn pay_twice(&self, client: &Wallet) -> Result<String> {
		let (lsp, bitcoind) = (&self.world.lsp, &self.world.bitcoind);
		let ordered = async || client.order_channel(ORDER_SAT, 0, LEASE_BLOCKS).await.map(Some);
		let order = eventually(SOON, "the client has an order", ordered).await?;
		let (id, onchain) = (text(&order, "order_id")?, &order["payment"]["onchain"]);
		let (address, total) = (text(onchain, "address")?, text(onchain, "order_total_sat")?);
		bitcoind.send(&address, total.parse()?).await?;
		bitcoind.mine(1).await?;
		lsp.order_is(&id, "completed", SOON).await?;
		let again = bitcoind.send(&address, TOO_MUCH_SAT).await?;
		bitcoind.mine(1).await?;
		let refunds = async || Ok(Some(self.spenders(&again).await?).filter(|found| !found.is_empty()));
		let refunds = eventually(SOON * 2, "the second payment goes back", refunds).await?;
		let back = async || Ok(Some(lsp.order(&id).await?).filter(|order| order["refund_txid"] == refunds[0].as_str()));
		eventually(SOON, "the refund is on record", back).await?;
		self.world.mine(1, &[]).await?;
		ensure!(bitcoind.mempool().await?.is_empty(), "something more was sent");
		Ok(id)
	}

	/// What in the mempool spends this transaction.
	async fn spenders(&self, txid: &str) -> Result<Vec<String>> {
		let mut found = Vec::new();
		for id in self.world.bitcoind.mempool().await? {
			let tx = self.world.bitcoind.call("getrawtransaction", serde_json::json!([id, true])).await?;
			let inputs = tx["vin"].as_array().context("no inputs")?;
			if inputs.iter().any(|input| input["txid"] == txid) {
				found.push(id);
			}
		}
		Ok(found)
	}

	/// A payment to the channel of a client that is away.
	async fn be_paid_asleep(&self, client: &Wallet) -> Result<()> {
		// Its channel has to be in the invoice.
		client.usable_channels(1, SOON).await?;
		let invoice = client.invoice(Some(ASLEEP_MSAT)).await?;
		client.stop().await?;
		self.world.lsp.sees(client, false).await?;
		self.pay(&invoice).await?;
		let received = number(&client.received(&invoice, SOON).await?.what, "amount_msat")?;
		ensure!(received == ASLEEP_MSAT, "{received} msat arrived");
		Ok(())
	}

	/// Pays, as a patient person would: a payment that failed is tried again.
	async fn pay(&self, invoice: &Invoice) -> Result<()> {
		for _ in 0..4 {
			let mark = self.payer.mark()?;
			let id = self.payer.pay_soon(invoice, SOON).await?;
			let of_it = |event: &Value| event["payment_id"] == id.as_str();
			let paid = self.payer.event(mark, "payment_successful", SOON * 5, of_it);
			let failed = self.payer.event(mark, "payment_failed", SOON * 5, of_it);
			tokio::select! {
				paid = paid => return paid.map(drop),
				failed = failed => failed.map(drop)?,
			}
		}
		bail!("the payment failed again and again")
	}

	/// Nothing is held or reserved twice, every client has one channel that works, and the books are right.
	async fn check(&self) -> Result<()> {
		let lsp = &self.world.lsp;
		let sales = lsp.list("sales").await?;
		let with_status = |status: &str| sales.iter().filter(|sale| sale["status"] == status).count();
		let buyers = self.clients.len() + self.companions.len();
		let sold = buyers - self.orders.len();
		ensure!(with_status("done") == sold, "{sold} sales are done by what the clients have: {sales:?}");
		// A promise whose answer was lost is there until it expires; nothing else is.
		ensure!(with_status("done") + with_status("bought") == sales.len(), "a sale hangs: {sales:?}");
		ensure!(lsp.balance().await?["lightning"]["closing_sat"] == 0, "a channel was closed");
		let channels = lsp.channels().await?;
		let opened = channels.iter().filter(|channel| channel["outbound"] == true).count();
		ensure!(opened == buyers, "{opened} channels opened for {buyers} purchases");
		for client in &self.clients {
			ensure!(client.channels().await?.len() == 1, "{} has not one channel", client.name());
		}
		for companion in &self.companions {
			ensure!(companion.channels().len() == 1, "a companion has not one channel: {:?}", companion.channels());
		}
		self.check_books(lsp.ledger().await?).await
	}

	async fn check_books(&self, ledger: Value) -> Result<()> {
		let booked = |kind: &str| {
			let totals = ledger["totals"].as_array();
			let of_kind = totals.and_then(|totals| totals.iter().find(|total| total["kind"] == kind));
			of_kind.and_then(|total| total["amount_msat"].as_i64()).unwrap_or(0)
		};
		let fees = booked("jit_fee");
		ensure!(fees == i64::try_from(self.jit_fees_msat)?, "{} msat were charged: {ledger}", self.jit_fees_msat);
		let mut prices = 0;
		for id in &self.orders {
			prices += number(&self.world.lsp.order(id).await?, "fee_sat")? * 1000;
		}
		ensure!(booked("order_fee") == i64::try_from(prices)?, "{prices} msat were paid for orders: {ledger}");
		let peers: Vec<&Wallet> = self.clients.iter().chain([&self.payer]).collect();
		// Companions have nothing on their side.
		let shared: u64 =
			self.companions.iter().flat_map(ThinNode::channels).map(|one| one.channel_value_satoshis).sum();
		let wealth = self.world.wealth_msat(&peers).await? + i64::try_from(shared * 1000)?;
		let gained = wealth - self.wealth_before;
		let net = ledger["net_msat"].as_i64().context("no net_msat")?;
		let rounding = 1000 * i64::try_from(peers.len())?;
		ensure!((gained - net).abs() <= rounding, "the LSP has {gained} msat more than before, its ledger says {net}");
		Ok(())
	}

	/// Everyone with a wallet can still be paid: what a force-close, or a channel that hangs, would end.
	///
	/// # Errors
	/// A client is not paid.
	pub async fn finish(&self) -> Result<()> {
		for client in &self.clients {
			// Who waited for a block hears what we take for forwarding when we meet again: see `World::open_channels`.
			client.call("disconnect", json!({ "node_id": self.world.lsp.node_id() })).await.ok();
			self.world.lsp.connect(&client.uri()).await.ok();
			client.connect(&self.world.lsp.uri()).await?;
			client.usable_channels(1, SOON).await?;
			let invoice = client.invoice(Some(1_000_000)).await?;
			self.pay(&invoice).await?;
			client.received(&invoice, SOON).await?;
		}
		let log = self.world.lsp.log_text();
		ensure!(!log.contains("panicked"), "the LSP panicked");
		ensure!(!log.contains("LDK did not forward a held HTLC"), "an HTLC was answered that was not there");
		Ok(())
	}
}
