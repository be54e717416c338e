//! A thin node as an LSP's customer, with `lightning-liquidity`'s client half: LSPS1, LSPS2 and LSPS5.

use super::node::{Inner, PATIENCE};
use super::{ThinNode, since_epoch};
use anyhow::{Context, Result, anyhow, bail};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Address, Network};
use lightning::ln::channelmanager::MIN_FINAL_CLTV_EXPIRY_DELTA;
use lightning::routing::gossip::RoutingFees;
use lightning::routing::router::{RouteHint, RouteHintHop};
use lightning::sign::{NodeSigner, Recipient};
use lightning_invoice::{Bolt11Invoice, Currency, InvoiceBuilder};
use lightning_liquidity::events::LiquidityEvent;
use lightning_liquidity::lsps0::ser::{LSPSRequestId, LSPSResponseError};
use lightning_liquidity::lsps1::event::LSPS1ClientEvent;
use lightning_liquidity::lsps1::msgs::{
	LSPS1ChannelInfo, LSPS1Options, LSPS1OrderId, LSPS1OrderParams, LSPS1PaymentInfo,
};
use lightning_liquidity::lsps2::event::LSPS2ClientEvent;
use lightning_liquidity::lsps2::msgs::LSPS2OpeningFeeParams;
use lightning_liquidity::lsps5::event::LSPS5ClientEvent;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long invoices can be paid.
const INVOICE_EXPIRY: Duration = Duration::from_secs(3600);

/// What `lsps2.buy` gave: the way into the invoice.
#[derive(Clone, Debug)]
pub struct Bought {
	/// The SCID for the route hint.
	pub scid: u64,
	/// The LSP's CLTV delta for the route hint.
	pub cltv_expiry_delta: u16,
	/// The payment's size, if it was fixed.
	pub size_msat: Option<u64>,
}

/// An LSPS1 order as the LSP tells it.
#[derive(Clone, Debug)]
pub struct Order {
	/// Its id.
	pub id: LSPS1OrderId,
	/// What was ordered.
	pub params: LSPS1OrderParams,
	/// How it can be paid and whether it was.
	pub payment: LSPS1PaymentInfo,
	/// The channel, if there is one.
	pub channel: Option<LSPS1ChannelInfo>,
}

impl Inner {
	/// Hands an answer of the LSP to who waits for it.
	pub(super) fn answered(&self, event: LiquidityEvent) {
		let Some(id) = request_id(&event) else { return };
		let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
		if let Some(waiting) = waiting {
			// Nobody waits any more if the request took too long.
			let _ = waiting.send(event);
		}
	}
}

fn request_id(event: &LiquidityEvent) -> Option<&LSPSRequestId> {
	match event {
		LiquidityEvent::LSPS1Client(
			LSPS1ClientEvent::SupportedOptionsReady { request_id, .. }
			| LSPS1ClientEvent::SupportedOptionsRequestFailed { request_id, .. }
			| LSPS1ClientEvent::OrderCreated { request_id, .. }
			| LSPS1ClientEvent::OrderStatus { request_id, .. }
			| LSPS1ClientEvent::OrderRequestFailed { request_id, .. },
		)
		| LiquidityEvent::LSPS2Client(
			LSPS2ClientEvent::OpeningParametersReady { request_id, .. }
			| LSPS2ClientEvent::InvoiceParametersReady { request_id, .. }
			| LSPS2ClientEvent::GetInfoFailed { request_id, .. }
			| LSPS2ClientEvent::BuyRequestFailed { request_id, .. },
		)
		| LiquidityEvent::LSPS5Client(
			LSPS5ClientEvent::WebhookRegistered { request_id, .. }
			| LSPS5ClientEvent::WebhookRegistrationFailed { request_id, .. },
		) => Some(request_id),
		_ => None,
	}
}

/// An LSP's refusal as an error with its code.
fn refused(error: &LSPSResponseError) -> anyhow::Error {
	anyhow!("the LSP refuses ({}): {} {:?}", error.code, error.message, error.data)
}

impl ThinNode {
	fn lsp(&self) -> Result<PublicKey> {
		Ok(self.inner.lsp.context("this node has no LSP")?.0)
	}

	/// Makes a request and waits for its answer. The request is made under the lock, so that the answer cannot overtake
	/// our waiting for it.
	async fn ask(&self, request: impl FnOnce() -> Result<LSPSRequestId>) -> Result<LiquidityEvent> {
		let (answer, answered) = oneshot::channel();
		{
			let mut waiting = self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
			waiting.insert(request()?, answer);
		}
		self.inner.wake.notify_one();
		// A reply that `lightning-liquidity` cannot parse makes it ignore the LSP: that, too, is a silence.
		Ok(tokio::time::timeout(PATIENCE, answered).await.context("the LSP gives no (readable) answer")??)
	}

	/// `lsps5.set_webhook`. Gives how many webhooks it has by now.
	///
	/// # Errors
	/// The LSP refuses (the code is in the error) or is silent, or `url` is none.
	pub async fn set_webhook(&self, app_name: &str, url: &str) -> Result<u32> {
		let lsp = self.lsp()?;
		let request = || {
			let client = self.inner.liquidity.lsps5_client_handler().context("no LSPS5")?;
			client.set_webhook(lsp, app_name.to_owned(), url.to_owned()).map_err(|e| anyhow!("no webhook: {e:?}"))
		};
		match self.ask(request).await? {
			LiquidityEvent::LSPS5Client(LSPS5ClientEvent::WebhookRegistered { num_webhooks, .. }) => Ok(num_webhooks),
			LiquidityEvent::LSPS5Client(LSPS5ClientEvent::WebhookRegistrationFailed { error, .. }) => {
				bail!("the LSP refuses: {error:?}")
			}
			other => bail!("another answer: {other:?}"),
		}
	}

	/// `lsps2.get_info`: the menu.
	///
	/// # Errors
	/// The LSP refuses (the code is in the error) or is silent.
	pub async fn jit_menu(&self, token: Option<&str>) -> Result<Vec<LSPS2OpeningFeeParams>> {
		let handler = self.inner.liquidity.lsps2_client_handler().context("LSPS2 is on")?;
		let lsp = self.lsp()?;
		match self.ask(|| Ok(handler.request_opening_params(lsp, token.map(str::to_owned)))).await? {
			LiquidityEvent::LSPS2Client(LSPS2ClientEvent::OpeningParametersReady {
				opening_fee_params_menu, ..
			}) => Ok(opening_fee_params_menu),
			LiquidityEvent::LSPS2Client(LSPS2ClientEvent::GetInfoFailed { error, .. }) => Err(refused(&error)),
			other => bail!("not an answer to lsps2.get_info: {other:?}"),
		}
	}

	/// `lsps2.buy`, with the payment's size (in parts, then) or without (in one part).
	///
	/// # Errors
	/// The LSP refuses (the code is in the error) or is silent.
	pub async fn jit_buy(&self, terms: &LSPS2OpeningFeeParams, size_msat: Option<u64>) -> Result<Bought> {
		let handler = self.inner.liquidity.lsps2_client_handler().context("LSPS2 is on")?;
		let lsp = self.lsp()?;
		let request = || {
			let selected = handler.select_opening_params(lsp, size_msat, terms.clone());
			selected.map_err(|e| anyhow!("the client's own half refuses: {e:?}"))
		};
		match self.ask(request).await? {
			LiquidityEvent::LSPS2Client(LSPS2ClientEvent::InvoiceParametersReady {
				intercept_scid,
				cltv_expiry_delta,
				payment_size_msat,
				..
			}) => Ok(Bought {
				scid: intercept_scid,
				cltv_expiry_delta: cltv_expiry_delta.try_into()?,
				size_msat: payment_size_msat,
			}),
			LiquidityEvent::LSPS2Client(LSPS2ClientEvent::BuyRequestFailed { error, .. }) => Err(refused(&error)),
			other => bail!("not an answer to lsps2.buy: {other:?}"),
		}
	}

	/// The invoice that goes with a purchase. Of a fixed size, it can be paid in parts; else it is for `open_msat`, or for
	/// any amount.
	///
	/// # Errors
	/// LDK cannot make it.
	pub fn jit_invoice(&self, bought: &Bought, open_msat: Option<u64>) -> Result<Bolt11Invoice> {
		let hint = RouteHint(vec![RouteHintHop {
			src_node_id: self.lsp()?,
			short_channel_id: bought.scid,
			fees: RoutingFees { base_msat: 0, proportional_millionths: 0 },
			cltv_expiry_delta: bought.cltv_expiry_delta,
			htlc_minimum_msat: None,
			htlc_maximum_msat: None,
		}]);
		self.hinted_invoice(hint, bought.size_msat.or(open_msat), bought.size_msat.is_some())
	}

	/// Menu, purchase and invoice in one: the first entry of the menu, for a payment of this size or of any.
	///
	/// # Errors
	/// As of its steps.
	pub async fn receive_jit(&self, size_msat: Option<u64>) -> Result<Bolt11Invoice> {
		let menu = self.jit_menu(None).await?;
		let terms = menu.first().context("the menu is empty")?;
		let bought = self.jit_buy(terms, size_msat).await?;
		self.jit_invoice(&bought, None)
	}

	fn hinted_invoice(&self, hint: RouteHint, msat: Option<u64>, in_parts: bool) -> Result<Bolt11Invoice> {
		// One block more than LDK's minimum, as the LSP's delta is not part of it.
		let final_delta = MIN_FINAL_CLTV_EXPIRY_DELTA + 2;
		let expiry = u32::try_from(INVOICE_EXPIRY.as_secs())?;
		let payment = self.inner.channels.create_inbound_payment(None, expiry, Some(final_delta), None);
		let (hash, secret, _) = payment.map_err(|()| anyhow!("LDK makes no payment secret"))?;
		let mut invoice = InvoiceBuilder::new(Currency::Regtest)
			.description("thin".to_owned())
			.payment_hash(hash)
			.payment_secret(secret)
			.duration_since_epoch(since_epoch())
			.min_final_cltv_expiry_delta(final_delta.into())
			.expiry_time(INVOICE_EXPIRY)
			.private_route(hint);
		if let Some(msat) = msat {
			invoice = invoice.amount_milli_satoshis(msat);
		}
		let raw = if in_parts { invoice.basic_mpp().build_raw() } else { invoice.build_raw() };
		let raw = raw.map_err(|e| anyhow!("{e}"))?;
		let signature = self.inner.keys.sign_invoice(&raw, Recipient::Node);
		let signed = raw.sign(|_| signature).map_err(|()| anyhow!("no signature"))?;
		Bolt11Invoice::from_signed(signed).map_err(|e| anyhow!("{e}"))
	}

	/// `lsps1.get_info`.
	///
	/// # Errors
	/// The LSP refuses (the code is in the error) or is silent.
	pub async fn order_options(&self) -> Result<LSPS1Options> {
		let handler = self.inner.liquidity.lsps1_client_handler().context("LSPS1 is on")?;
		let lsp = self.lsp()?;
		match self.ask(|| Ok(handler.request_supported_options(lsp))).await? {
			LiquidityEvent::LSPS1Client(LSPS1ClientEvent::SupportedOptionsReady { supported_options, .. }) => {
				Ok(supported_options)
			}
			LiquidityEvent::LSPS1Client(LSPS1ClientEvent::SupportedOptionsRequestFailed { error, .. }) => {
				Err(refused(&error))
			}
			other => bail!("not an answer to lsps1.get_info: {other:?}"),
		}
	}

	/// `lsps1.create_order`.
	///
	/// # Errors
	/// The LSP refuses (the code is in the error) or is silent.
	pub async fn order(&self, params: LSPS1OrderParams, refund: Option<&str>) -> Result<Order> {
		let handler = self.inner.liquidity.lsps1_client_handler().context("LSPS1 is on")?;
		let lsp = self.lsp()?;
		let refund =
			refund.map(|address| anyhow::Ok(address.parse::<Address<_>>()?.require_network(Network::Regtest)?));
		let refund = refund.transpose()?;
		order_of(self.ask(|| Ok(handler.create_order(&lsp, params, refund))).await?)
	}

	/// `lsps1.get_order`.
	///
	/// # Errors
	/// The LSP refuses (the code is in the error) or is silent.
	pub async fn order_status(&self, id: &LSPS1OrderId) -> Result<Order> {
		let handler = self.inner.liquidity.lsps1_client_handler().context("LSPS1 is on")?;
		let lsp = self.lsp()?;
		order_of(self.ask(|| Ok(handler.check_order_status(&lsp, id.clone()))).await?)
	}
}

fn order_of(event: LiquidityEvent) -> Result<Order> {
	match event {
		LiquidityEvent::LSPS1Client(
			LSPS1ClientEvent::OrderCreated { order_id, order, payment, channel, .. }
			| LSPS1ClientEvent::OrderStatus { order_id, order, payment, channel, .. },
		) => Ok(Order { id: order_id, params: order, payment, channel }),
		LiquidityEvent::LSPS1Client(LSPS1ClientEvent::OrderRequestFailed { error, .. }) => Err(refused(&error)),
		other => bail!("not an answer about an order: {other:?}"),
	}
}
