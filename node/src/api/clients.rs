//! Clients and tokens.

use super::context::{Context, Reply};
use super::extract::{Body, Id, List};
use super::routes::{Endpoint, on};
use crate::control::{Client, ClientDetail, ClientSettings, IssuedToken, Page, Token, TokenDetail, TokenRequest};
use axum::extract::State;
use axum::http::Method;

pub(super) fn endpoints() -> Vec<Endpoint> {
	vec![
		on(Method::GET, "/v1/clients", list),
		on(Method::GET, "/v1/clients/{id}", show),
		on(Method::PATCH, "/v1/clients/{id}", set),
		on(Method::POST, "/v1/clients/{id}/clear", clear),
		on(Method::GET, "/v1/tokens", tokens),
		on(Method::POST, "/v1/tokens", issue),
		on(Method::GET, "/v1/tokens/{id}", token),
		on(Method::POST, "/v1/tokens/{id}/revoke", revoke),
	]
}

async fn list(State(context): State<Context>, List(list): List) -> Reply<Page<Client>> {
	context.ask(|node| async move { node.clients(list).await }).await
}

async fn show(State(context): State<Context>, Id(id): Id) -> Reply<ClientDetail> {
	context.ask(|node| async move { node.client(id).await }).await
}

async fn set(State(context): State<Context>, Id(id): Id, Body(settings): Body<ClientSettings>) -> Reply<ClientDetail> {
	context.ask(|node| async move { node.set_client(id, settings).await }).await
}

async fn clear(State(context): State<Context>, Id(id): Id) -> Reply<ClientDetail> {
	context.ask(|node| async move { node.clear_client(id).await }).await
}

async fn tokens(State(context): State<Context>, List(list): List) -> Reply<Page<Token>> {
	context.ask(|node| async move { node.tokens(list).await }).await
}

async fn issue(State(context): State<Context>, Body(request): Body<TokenRequest>) -> Reply<IssuedToken> {
	context.ask(|node| async move { node.issue_token(request).await }).await
}

async fn token(State(context): State<Context>, Id(id): Id) -> Reply<TokenDetail> {
	context.ask(|node| async move { node.token(id).await }).await
}

async fn revoke(State(context): State<Context>, Id(id): Id) -> Reply<TokenDetail> {
	context.ask(|node| async move { node.revoke_token(id).await }).await
}
