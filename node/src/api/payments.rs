//! Lightning payments of the node's own.

use super::ANSWER_TIMEOUT;
use super::context::{Context, Reply};
use super::extract::{Body, Id, List};
use super::routes::{Endpoint, on};
use crate::control::{
	DEFAULT_PAY_WAIT_SECS, Invoice, InvoiceRequest, MAX_PAY_WAIT_SECS, Offer, OfferRequest, Page, PayRequest, Payment,
	Refusal,
};
use axum::extract::State;
use axum::http::Method;
use std::time::Duration;

pub(super) fn endpoints() -> Vec<Endpoint> {
	vec![
		on(Method::POST, "/v1/invoices", invoice),
		on(Method::POST, "/v1/offers", offer),
		on(Method::GET, "/v1/payments", list),
		on(Method::POST, "/v1/payments", pay),
		on(Method::GET, "/v1/payments/{id}", show),
	]
}

async fn invoice(State(context): State<Context>, Body(request): Body<InvoiceRequest>) -> Reply<Invoice> {
	context.ask(|node| async move { node.invoice(request).await }).await
}

async fn offer(State(context): State<Context>, Body(request): Body<OfferRequest>) -> Reply<Offer> {
	context.ask(|node| async move { node.offer(request).await }).await
}

async fn pay(State(context): State<Context>, Body(request): Body<PayRequest>) -> Reply<Payment> {
	let wait = request.wait_secs.unwrap_or(DEFAULT_PAY_WAIT_SECS);
	if wait > MAX_PAY_WAIT_SECS {
		let detail = format!("wait_secs is {wait}, and at most {MAX_PAY_WAIT_SECS}");
		let hint = "wait less; GET /v1/payments/{id} tells how it went";
		return Err(Refusal::invalid("bad_wait", detail, hint).into());
	}
	let request = PayRequest { wait_secs: Some(wait), ..request };
	context.ask_for(ANSWER_TIMEOUT + Duration::from_secs(wait), |node| async move { node.pay(request).await }).await
}

async fn list(State(context): State<Context>, List(list): List) -> Reply<Page<Payment>> {
	context.ask(|node| async move { node.payments(list).await }).await
}

async fn show(State(context): State<Context>, Id(id): Id) -> Reply<Payment> {
	context.ask(|node| async move { node.payment(id).await }).await
}
