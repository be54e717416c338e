//! Peers.

use super::context::{Context, Reply};
use super::extract::{Body, Id, List};
use super::routes::{Endpoint, on};
use crate::control::{ConnectRequest, Disconnected, Page, Peer};
use axum::extract::State;
use axum::http::Method;

pub(super) fn endpoints() -> Vec<Endpoint> {
	vec![
		on(Method::GET, "/v1/peers", list),
		on(Method::POST, "/v1/peers", connect),
		on(Method::DELETE, "/v1/peers/{id}", disconnect),
	]
}

async fn list(State(context): State<Context>, List(list): List) -> Reply<Page<Peer>> {
	context.ask(|node| async move { node.peers(list).await }).await
}

async fn connect(State(context): State<Context>, Body(request): Body<ConnectRequest>) -> Reply<Peer> {
	context.ask(|node| async move { node.connect(request).await }).await
}

async fn disconnect(State(context): State<Context>, Id(id): Id) -> Reply<Disconnected> {
	context.ask(|node| async move { node.disconnect(id).await }).await
}
