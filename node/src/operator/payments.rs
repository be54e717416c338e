//! Lightning payments, for the operator.

use super::Operator;
use crate::control::*;
use crate::lightning::payments;
use bitcoin::hex::DisplayHex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::timeout;

/// How long an invoice can be paid unless it is said otherwise, in seconds.
const INVOICE_EXPIRY_SECS: u32 = 3600;

impl Operator {
	pub(super) async fn make_invoice(&self, request: InvoiceRequest) -> Result<Invoice, Refusal> {
		not_zero(request.amount_msat)?;
		let expiry = request.expiry_secs.unwrap_or(INVOICE_EXPIRY_SECS);
		let lightning = &self.hands.lightning;
		let made =
			payments::invoice(lightning, &self.payments, request.amount_msat, &request.description, expiry).await;
		let invoice = made.map_err(|e| {
			Refusal::invalid(
				"no_invoice",
				format!("{e:#}"),
				"a description has at most 639 bytes; give an amount above zero",
			)
		})?;
		let until = invoice.duration_since_epoch() + invoice.expiry_time();
		Ok(Invoice {
			invoice: invoice.to_string(),
			payment_hash: invoice.payment_hash().0.to_lower_hex_string(),
			amount_msat: request.amount_msat,
			description: request.description,
			expires_at: (UNIX_EPOCH + until).into(),
		})
	}

	pub(super) fn make_offer(&self, request: OfferRequest) -> Result<Offer, Refusal> {
		not_zero(request.amount_msat)?;
		let refuse = |e: lightning::offers::parse::Bolt12SemanticError| {
			Refusal::not_possible(
				"no_offer",
				format!("no offer could be made: {}", payments::offer_failure(&e)),
				"an offer needs a description if it has an amount, and a connected peer that passes on onion messages",
			)
		};
		let mut builder = self.hands.lightning.manager.create_offer_builder().map_err(refuse)?;
		if let Some(amount) = request.amount_msat {
			builder = builder.amount_msats(amount);
		}
		if !request.description.is_empty() {
			builder = builder.description(request.description.clone());
		}
		let expires = request.expiry_secs.map(|secs| SystemTime::now() + Duration::from_secs(secs));
		if let Some(at) = expires {
			builder = builder.absolute_expiry(at.duration_since(UNIX_EPOCH).unwrap_or_default());
		}
		let offer = builder.build().map_err(refuse)?;
		Ok(Offer {
			id: offer.id().0.to_lower_hex_string(),
			offer: offer.to_string(),
			amount_msat: request.amount_msat,
			description: request.description,
			expires_at: expires.map(Into::into),
		})
	}

	pub(super) async fn pay_now(&self, request: PayRequest) -> Result<Payment, Refusal> {
		let PayRequest { to, amount_msat, max_fee_msat, .. } = &request;
		let (lightning, network) = (&self.hands.lightning, self.hands.network);
		let started = payments::pay(lightning, &self.payments, network, to, *amount_msat, *max_fee_msat).await;
		let id = started.map_err(|e| {
			Refusal::not_possible("not_paid", format!("{e:#}"), "inlet payments shows what was paid; inlet pay --help")
		})?;
		let wait = request.wait_secs.unwrap_or(DEFAULT_PAY_WAIT_SECS).min(MAX_PAY_WAIT_SECS);
		let mut changed = self.payments.watch();
		let outcome = async {
			loop {
				match self.payments.get(&id) {
					Some(payment) if payment.status != PaymentStatus::Pending => return Some(payment),
					None => return None,
					Some(_) => {}
				}
				if changed.changed().await.is_err() {
					return None;
				}
			}
		};
		let settled = timeout(Duration::from_secs(wait), outcome).await.ok().flatten();
		settled.or_else(|| self.payments.get(&id)).ok_or_else(|| Refusal::internal("the payment is not on record"))
	}
}

/// Nobody can pay nothing.
fn not_zero(amount_msat: Option<u64>) -> Result<(), Refusal> {
	match amount_msat {
		Some(0) => Err(Refusal::invalid("zero_amount", "nobody can pay 0 sat", "give an amount, or `any`")),
		_ => Ok(()),
	}
}
