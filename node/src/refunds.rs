//! Payments back to clients: the core decides, the wallet pays, and what becomes of it is told to the core.

use crate::crash;
use crate::driver::Driver;
use crate::onchain::{Bumped, Fees, Refunded, Wallet};
use anyhow::Context;
use bitcoin::{Address, Amount, FeeRate, Network, OutPoint};
use inlet_lsp::book::{Book, OrderId, SETTLED};
use inlet_lsp::input::Input;
use inlet_lsp::money::Sat;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a refund that could not be made waits for its next attempt.
const RETRY: Duration = Duration::from_secs(60);

/// Refunds that are being made: by order, the payments that are given back.
pub type UnderWay = Arc<Mutex<HashMap<OrderId, Vec<OutPoint>>>>;

/// What refunds are made with.
pub struct Refunds {
	/// Which network.
	pub network: Network,
	/// The wallet that pays.
	pub wallet: Arc<Wallet>,
	/// Fee estimates.
	pub fees: Arc<Fees>,
	/// Who is told.
	pub driver: Driver,
	/// Orders whose refund is being made, with the payments that it gives back: at most one task for each.
	pub under_way: UnderWay,
}

/// What names a refund in the wallet. That of number 0 is the order's id, as it was when an order had one refund only.
fn marker(order: &OrderId, number: u32) -> String {
	if number == 0 { order.clone() } else { format!("{order}_{number}") }
}

impl Refunds {
	/// Makes the refund that the book wants for this order, as soon as it can be made. `from` are the payments that it gives
	/// back.
	pub fn send(self, order: OrderId, from: Vec<OutPoint>) {
		if self.under_way.lock().expect("not poisoned").insert(order.clone(), from).is_some() {
			// The task that is at it takes up what is wanted now.
			return;
		}
		tokio::spawn(async move {
			loop {
				match self.try_to_send(&order).await {
					Ok(None) => break,
					Ok(Some(input)) => {
						crash::reached("refund.recorded.decided");
						let _ = self.driver.submit(input).await;
						break;
					}
					Err(e) => {
						tracing::warn!(target: "inlet::orders", order, "refund not sent yet: {e:#}");
						tokio::time::sleep(RETRY).await;
					}
				}
			}
			self.under_way.lock().expect("not poisoned").remove(&order);
		});
	}

	/// `None` if the book does not want it any more.
	async fn try_to_send(&self, order: &OrderId) -> anyhow::Result<Option<Input>> {
		// It may have been decided anew since it was asked for.
		let wanted = self.driver.read(|book| {
			let order = book.order(order)?;
			let (refund, onchain) = (order.pending_refund()?, order.onchain.as_ref()?);
			Some((onchain.refunds, refund.address.clone(), refund.amount))
		});
		let from = self.under_way.lock().expect("not poisoned").get(order).cloned().unwrap_or_default();
		let Some((number, address, amount)) = wanted else { return Ok(None) };
		let amount = Amount::from_sat(amount.0);
		let (marker, to, rate) = (marker(order, number), self.address(&address)?, self.rate()?);
		let sent = self.wallet.pay_refund(&marker, to, amount, rate, &from).await?;
		Ok(Some(told(order.clone(), number, &sent)))
	}

	/// Raises the fee of a refund. If that cannot be done now the core asks again.
	pub fn bump(self, order: OrderId, number: u32, address: String) {
		tokio::spawn(async move {
			let bumped = async {
				let (address, rate) = (self.address(&address)?, self.rate()?);
				anyhow::Ok(self.wallet.bump_refund(&marker(&order, number), &address, rate).await?)
			};
			match bumped.await {
				Ok(Bumped::Sent(sent)) => {
					let _ = self.driver.submit(told(order, number, &sent)).await;
				}
				Ok(Bumped::Lost) => {
					let _ = self.driver.submit(Input::RefundLost { order, number }).await;
				}
				Ok(Bumped::Waits) => tracing::warn!(target: "inlet::orders", order, "a refund waits for its payment"),
				Err(e) => tracing::warn!(target: "inlet::orders", order, "the fee of a refund was not raised: {e:#}"),
			}
		});
	}

	/// Refunds that stand otherwise in the chain than in the book.
	pub fn seen(&self, book: &Book) -> Vec<Input> {
		let mut seen = Vec::new();
		for (order, refund) in book.refunds_under_way() {
			let Some(newest) = refund.txid else { continue };
			let forms = refund.replaced.iter().map(|old| old.txid).chain([newest]);
			let mined = forms.map(|txid| (self.wallet.confirmations_of(txid), txid)).max_by_key(|(depth, _)| *depth);
			let (depth, txid) = mined.filter(|(depth, _)| *depth > 0).unwrap_or((0, newest));
			let confirmations = depth.min(SETTLED);
			if (txid, confirmations) != (newest, refund.confirmations) {
				seen.push(Input::RefundSeen { order: order.id.clone(), txid, confirmations });
			}
		}
		seen
	}

	fn address(&self, text: &str) -> anyhow::Result<Address> {
		Ok(text.parse::<Address<_>>()?.require_network(self.network)?)
	}

	fn rate(&self) -> anyhow::Result<FeeRate> {
		let feerate = self.fees.fresh().context("no fresh fee estimate")?;
		Ok(FeeRate::from_sat_per_kwu(u64::from(feerate.0)))
	}
}

fn told(order: OrderId, number: u32, sent: &Refunded) -> Input {
	let sat = |amount: Amount| Sat(amount.to_sat());
	let (amount, fee, borne) = (sat(sent.amount), sat(sent.fee), sat(sent.borne));
	Input::RefundSent { order, number, txid: sent.tx.compute_txid(), amount, fee, borne }
}
