//! Channels.

use super::context::{Context, Reply};
use super::extract::{Body, Id, List};
use super::routes::{Endpoint, on};
use crate::control::{Channel, ChannelPolicyRequest, CloseRequest, Closing, OpenChannelRequest, Opening, Page};
use axum::extract::State;
use axum::http::Method;

pub(super) fn endpoints() -> Vec<Endpoint> {
	vec![
		on(Method::GET, "/v1/channels", list),
		on(Method::POST, "/v1/channels", open),
		on(Method::GET, "/v1/channels/{id}", show),
		on(Method::POST, "/v1/channels/{id}/close", close),
		on(Method::POST, "/v1/channels/{id}/force-close", force_close),
		on(Method::PATCH, "/v1/channels/{id}/policy", policy),
	]
}

async fn list(State(context): State<Context>, List(list): List) -> Reply<Page<Channel>> {
	context.ask(|node| async move { node.channels(list).await }).await
}

async fn show(State(context): State<Context>, Id(id): Id) -> Reply<Channel> {
	context.ask(|node| async move { node.channel(id).await }).await
}

async fn open(State(context): State<Context>, Body(request): Body<OpenChannelRequest>) -> Reply<Opening> {
	context.ask(|node| async move { node.open_channel(request).await }).await
}

async fn close(State(context): State<Context>, Id(id): Id, Body(request): Body<CloseRequest>) -> Reply<Closing> {
	let request = CloseRequest { force: false, ..request };
	context.ask(|node| async move { node.close_channel(id, request).await }).await
}

async fn force_close(State(context): State<Context>, Id(id): Id, Body(request): Body<CloseRequest>) -> Reply<Closing> {
	let request = CloseRequest { force: true, ..request };
	context.ask(|node| async move { node.close_channel(id, request).await }).await
}

async fn policy(
	State(context): State<Context>,
	Id(id): Id,
	Body(request): Body<ChannelPolicyRequest>,
) -> Reply<Channel> {
	context.ask(|node| async move { node.set_channel_policy(id, request).await }).await
}
