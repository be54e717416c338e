//! The table of routes: what is not in it is not served.

use super::context::Context;
use super::problem::Problem;
use super::{channels, clients, events, lsp, metrics, node, payments, peers, wallet};
use crate::control::Refusal;
use axum::Router;
use axum::handler::Handler;
use axum::http::{Method, Uri};
use axum::routing::{self, MethodFilter, MethodRouter};

/// One method on one path.
pub(super) struct Endpoint {
	/// Which method.
	pub method: Method,
	/// With `{id}` where an id goes.
	pub path: &'static str,
	/// What answers.
	pub handler: MethodRouter<Context>,
}

/// One line of the table.
pub(super) fn on<H: Handler<T, Context>, T: 'static>(method: Method, path: &'static str, handler: H) -> Endpoint {
	let filter = MethodFilter::try_from(method.clone()).expect("one of HTTP's own methods");
	Endpoint { method, path, handler: routing::on(filter, handler) }
}

/// All of them.
pub(super) fn endpoints() -> Vec<Endpoint> {
	[
		node::endpoints(),
		wallet::endpoints(),
		peers::endpoints(),
		channels::endpoints(),
		payments::endpoints(),
		lsp::endpoints(),
		clients::endpoints(),
		events::endpoints(),
		metrics::endpoints(),
	]
	.into_iter()
	.flatten()
	.collect()
}

/// The service made of them, or of those that change nothing.
pub(super) fn router(context: Context, reads_only: bool) -> Router {
	endpoints()
		.into_iter()
		.filter(|endpoint| !reads_only || endpoint.method == Method::GET)
		.fold(Router::new(), |router, endpoint| router.route(endpoint.path, endpoint.handler))
		.fallback(no_such_path)
		.method_not_allowed_fallback(no_such_method)
		.with_state(context)
}

async fn no_such_path(uri: Uri) -> Problem {
	if let Some(noun) = uri
		.path()
		.strip_prefix("/v1/")
		.and_then(|rest| rest.split_once('/'))
		.filter(|(_, id)| id.is_empty() || id.starts_with('/'))
	{
		let detail = format!("an empty id fits all {}", noun.0);
		return Refusal::invalid("empty_id", detail, format!("GET /v1/{} lists them", noun.0)).into();
	}
	let detail = format!("there is nothing at {}", uri.path());
	Refusal::new(404, "no_such_path", detail, "GET /v1/openapi.json lists what there is").into()
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
	let detail = format!("{} does not take {method}", uri.path());
	Refusal::new(405, "no_such_method", detail, "GET /v1/openapi.json lists what there is").into()
}
