//! Refusals on the wire: RFC 9457.

use crate::control::Refusal;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// The media type of a [`Problem`].
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was not carried out, and what to do (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Problem {
	/// `urn:inlet:` and the code.
	#[serde(rename = "type")]
	pub kind: String,
	/// The status in words.
	pub title: String,
	/// The HTTP status.
	pub status: u16,
	/// For programs: stable, `lower_snake_case`.
	pub code: String,
	/// One sentence: what was refused and why.
	pub detail: String,
	/// One sentence: what to do.
	pub hint: String,
}

impl From<Refusal> for Problem {
	fn from(refusal: Refusal) -> Problem {
		let status = StatusCode::from_u16(refusal.status)
			.ok()
			.filter(|status| status.is_client_error() || status.is_server_error())
			.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
		Problem {
			kind: format!("urn:inlet:{}", refusal.code),
			title: status.canonical_reason().unwrap_or("Refused").to_owned(),
			status: status.as_u16(),
			code: refusal.code.into_owned(),
			detail: refusal.detail,
			hint: refusal.hint,
		}
	}
}

impl IntoResponse for Problem {
	fn into_response(self) -> Response {
		let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
		let body = serde_json::to_vec(&self).expect("a struct of strings is JSON");
		(status, [(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON))], body).into_response()
	}
}
