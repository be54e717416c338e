//! The on-chain wallet, and all money.

use super::context::{Context, Reply};
use super::extract::{Body, List};
use super::problem::Problem;
use super::routes::{Endpoint, on};
use crate::control::{Balance, NewAddress, Page, Refusal, SendRequest, Sent, Utxo};
use axum::extract::State;
use axum::http::Method;

pub(super) fn endpoints() -> Vec<Endpoint> {
	vec![
		on(Method::GET, "/v1/balance", balance),
		on(Method::POST, "/v1/addresses", new_address),
		on(Method::POST, "/v1/send", send),
		on(Method::GET, "/v1/utxos", utxos),
	]
}

async fn balance(State(context): State<Context>) -> Reply<Balance> {
	context.ask(|node| async move { node.balance().await }).await
}

async fn new_address(State(context): State<Context>) -> Reply<NewAddress> {
	context.ask(|node| async move { node.new_address().await }).await
}

async fn send(State(context): State<Context>, Body(request): Body<SendRequest>) -> Reply<Sent> {
	if request.all == request.amount_sat.is_some() {
		let detail = "how much is to be sent is not clear";
		return Err(Problem::from(Refusal::invalid("amount_or_all", detail, "give either amount_sat or all")));
	}
	context.ask(|node| async move { node.send(request).await }).await
}

async fn utxos(State(context): State<Context>, List(list): List) -> Reply<Page<Utxo>> {
	context.ask(|node| async move { node.utxos(list).await }).await
}
