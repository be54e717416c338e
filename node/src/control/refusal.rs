//! Why something was not done.

use std::borrow::Cow;

/// A request that was not carried out, and what to do about it. The API sends it as `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
	/// For programs: stable, `lower_snake_case`.
	pub code: Cow<'static, str>,
	/// One sentence: what was refused, by which limit, and how far off.
	pub detail: String,
	/// One sentence: what to do.
	pub hint: String,
	/// HTTP status: 400, 404, 409, 422, 500, 503, ...
	pub status: u16,
}

impl Refusal {
	/// Any refusal.
	pub fn new(
		status: u16,
		code: impl Into<Cow<'static, str>>,
		detail: impl Into<String>,
		hint: impl Into<String>,
	) -> Refusal {
		Refusal { code: code.into(), detail: detail.into(), hint: hint.into(), status }
	}

	/// 400: the request does not make sense whatever the state of the node.
	pub fn invalid(code: impl Into<Cow<'static, str>>, detail: impl Into<String>, hint: impl Into<String>) -> Refusal {
		Refusal::new(400, code, detail, hint)
	}

	/// 404: there is no such thing.
	pub fn not_found(detail: impl Into<String>, hint: impl Into<String>) -> Refusal {
		Refusal::new(404, "not_found", detail, hint)
	}

	/// 409: not in the state that the node or the thing is in.
	pub fn conflict(code: impl Into<Cow<'static, str>>, detail: impl Into<String>, hint: impl Into<String>) -> Refusal {
		Refusal::new(409, code, detail, hint)
	}

	/// 422: it makes sense and cannot be done: not enough money, no route, a limit.
	pub fn not_possible(
		code: impl Into<Cow<'static, str>>,
		detail: impl Into<String>,
		hint: impl Into<String>,
	) -> Refusal {
		Refusal::new(422, code, detail, hint)
	}

	/// 503: not now; the same request may work later.
	pub fn not_now(code: impl Into<Cow<'static, str>>, detail: impl Into<String>, hint: impl Into<String>) -> Refusal {
		Refusal::new(503, code, detail, hint)
	}

	/// 500: our fault. `detail` must not hold secrets.
	pub fn internal(detail: impl Into<String>) -> Refusal {
		Refusal::new(500, "internal", detail, "look at the node's log: it says more")
	}
}
