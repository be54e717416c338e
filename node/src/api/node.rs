//! The node as a whole.

use super::OPENAPI;
use super::context::{Context, Reply};
use super::routes::{Endpoint, on};
use crate::control::{Backup, Doctor, Fees, Info, Status, Stopping, Storage, SyncState};
use axum::extract::State;
use axum::http::Method;
use axum::http::header;
use axum::response::IntoResponse;

pub(super) fn endpoints() -> Vec<Endpoint> {
	vec![
		on(Method::GET, "/v1/openapi.json", openapi),
		on(Method::GET, "/v1/status", status),
		on(Method::GET, "/v1/info", info),
		on(Method::GET, "/v1/sync", sync),
		on(Method::GET, "/v1/fees", fees),
		on(Method::GET, "/v1/storage", storage),
		on(Method::GET, "/v1/backup", backup),
		on(Method::POST, "/v1/backup", backup_now),
		on(Method::GET, "/v1/doctor", doctor),
		on(Method::POST, "/v1/stop", stop),
	]
}

async fn openapi() -> impl IntoResponse {
	([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

async fn status(State(context): State<Context>) -> Reply<Status> {
	context.ask(|node| async move { node.status().await }).await
}

async fn info(State(context): State<Context>) -> Reply<Info> {
	context.ask(|node| async move { node.info().await }).await
}

async fn sync(State(context): State<Context>) -> Reply<SyncState> {
	context.ask(|node| async move { node.sync().await }).await
}

async fn fees(State(context): State<Context>) -> Reply<Fees> {
	context.ask(|node| async move { node.fees().await }).await
}

async fn storage(State(context): State<Context>) -> Reply<Storage> {
	context.ask(|node| async move { node.storage().await }).await
}

async fn backup(State(context): State<Context>) -> Reply<Backup> {
	context.ask(|node| async move { node.backup().await }).await
}

async fn backup_now(State(context): State<Context>) -> Reply<Backup> {
	context.ask(|node| async move { node.backup_now().await }).await
}

async fn doctor(State(context): State<Context>) -> Reply<Doctor> {
	context.ask(|node| async move { node.doctor().await }).await
}

async fn stop(State(context): State<Context>) -> Reply<Stopping> {
	context.ask(|node| async move { node.stop().await }).await
}
