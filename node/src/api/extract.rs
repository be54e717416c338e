//! What a request carries, refused with a [`Problem`] if it is not what it should be.

use super::problem::Problem;
use super::{BODY_TIMEOUT, MAX_BODY};
use crate::control::{DEFAULT_LIMIT, ListRequest, MAX_LIMIT, Refusal};
use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::error::Error;

/// Where to look up what a request may carry.
const SEE: &str = "GET /v1/openapi.json describes every request";

/// A JSON body of at most [`MAX_BODY`] bytes, whatever its `Content-Type` says (only a local process can reach the socket); an
/// empty one is `{}`.
pub(super) struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
	type Rejection = Problem;

	async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
		let read = to_bytes(request.into_body(), MAX_BODY);
		let bytes = match tokio::time::timeout(BODY_TIMEOUT, read).await {
			Ok(Ok(bytes)) => bytes,
			Ok(Err(error)) if error.source().is_some_and(|e| e.is::<http_body_util::LengthLimitError>()) => {
				let detail = format!("the body is longer than {MAX_BODY} bytes");
				return Err(Refusal::new(413, "body_too_long", detail, SEE).into());
			}
			Ok(Err(_)) => return Err(Refusal::invalid("body_unread", "the body broke off", "send it again").into()),
			Err(_) => {
				return Err(
					Refusal::new(408, "body_too_slow", "the body did not arrive in time", "send it again").into()
				);
			}
		};
		let bytes = if bytes.is_empty() { &b"{}"[..] } else { &bytes[..] };
		match serde_json::from_slice(bytes) {
			Ok(value) => Ok(Body(value)),
			Err(error) => {
				Err(Refusal::invalid("bad_body", format!("the body is not as expected: {error}"), SEE).into())
			}
		}
	}
}

/// The parameters after the `?`.
pub(super) struct Args<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Args<T> {
	type Rejection = Problem;

	async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
		match Query::from_request_parts(parts, state).await {
			Ok(Query(value)) => Ok(Args(value)),
			Err(error) => Err(Refusal::invalid("bad_query", error.body_text(), SEE).into()),
		}
	}
}

/// The `{id}` in the path.
pub(super) struct Id(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
	type Rejection = Problem;

	async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
		match Path::from_request_parts(parts, state).await {
			Ok(Path(id)) => Ok(Id(id)),
			Err(error) => Err(Refusal::invalid("bad_path", error.body_text(), SEE).into()),
		}
	}
}

/// Which page: `?limit=` from 1 to [`MAX_LIMIT`], and `&cursor=`.
pub(super) struct List(pub ListRequest);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListArgs {
	limit: Option<usize>,
	cursor: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for List {
	type Rejection = Problem;

	async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
		let Args(ListArgs { limit, cursor }) = Args::from_request_parts(parts, state).await?;
		Ok(List(list(limit, cursor)?))
	}
}

/// A request for a page, if `limit` is within its bounds.
pub(super) fn list(limit: Option<usize>, cursor: Option<String>) -> Result<ListRequest, Refusal> {
	let limit = limit.unwrap_or(DEFAULT_LIMIT);
	if !(1..=MAX_LIMIT).contains(&limit) {
		let detail = format!("limit is {limit}, and must be from 1 to {MAX_LIMIT}");
		return Err(Refusal::invalid("bad_limit", detail, "ask for less and follow `next`"));
	}
	Ok(ListRequest { limit, cursor })
}
