//! bLIP-55: webhooks that a sleeping client is woken by.

use super::fields::Fields;
use super::lsps0::{Request, RpcError};
use serde_json::{Value, json};

/// The name or the URL is too long.
pub const TOO_LONG: i32 = 500;
/// The webhook is no URL.
pub const URL_PARSE_ERROR: i32 = 501;
/// The webhook is not `https`.
pub const UNSUPPORTED_PROTOCOL: i32 = 502;
/// The client has as many webhooks as it may.
pub const TOO_MANY_WEBHOOKS: i32 = 503;
/// The client has no webhook of this name.
pub const APP_NAME_NOT_FOUND: i32 = 1010;

/// The longest name, in bytes as written in the JSON (L5-7).
pub const MAX_APP_NAME: usize = 64;
/// The longest URL, in characters (L5-8).
pub const MAX_WEBHOOK: usize = 1024;

/// `lsps5.set_webhook`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetWebhook {
	/// The client's name for it.
	pub app_name: String,
	/// An `https` URL.
	pub webhook: String,
}

impl SetWebhook {
	pub(super) fn read(request: &Request) -> Result<SetWebhook, RpcError> {
		let fields = Fields::of(request.params.as_ref(), &["app_name", "webhook"])?;
		let (app_name, webhook) = (fields.string("app_name")?, fields.string("webhook")?);
		if request.app_name_written.unwrap_or(app_name.len()) > MAX_APP_NAME {
			return Err(too_long(&format!("app_name is longer than {MAX_APP_NAME} bytes")));
		}
		if webhook.chars().count() > MAX_WEBHOOK {
			return Err(too_long(&format!("webhook is longer than {MAX_WEBHOOK} characters")));
		}
		let scheme = scheme_of_url(webhook).ok_or_else(url_parse_error)?;
		if !scheme.eq_ignore_ascii_case("https") {
			return Err(RpcError::new(UNSUPPORTED_PROTOCOL, "Unsupported protocol", json!({"supported": ["https"]})));
		}
		if !is_web_url(&webhook[scheme.len()..]) {
			return Err(url_parse_error());
		}
		Ok(SetWebhook { app_name: app_name.to_string(), webhook: webhook.to_string() })
	}
}

/// The `app_name` of `lsps5.remove_webhook`.
pub(super) fn read_remove_webhook(params: Option<&Value>) -> Result<String, RpcError> {
	Fields::of(params, &["app_name"])?.string("app_name").map(str::to_string)
}

/// The scheme, if the text is a URL by RFC 1738: a scheme, a colon, and only characters that a URL may have. That
/// leaves out all that is not ASCII (L5-21).
fn scheme_of_url(text: &str) -> Option<&str> {
	let (scheme, rest) = text.split_once(':')?;
	let in_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte);
	let named = scheme.bytes().next().is_some_and(|first| first.is_ascii_alphabetic()) && scheme.bytes().all(in_scheme);
	(named && !rest.is_empty() && has_url_characters(rest)).then_some(scheme)
}

/// RFC 1738's `xchar`, and `%` only before two hexadecimal digits.
fn has_url_characters(text: &str) -> bool {
	let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"$-_.+!*'(),;/?:@&=%~".contains(&byte);
	let mut escapes = text.split('%').skip(1);
	text.bytes().all(allowed)
		&& escapes.all(|after| after.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)))
}

/// `://host[:port][/path]`: RFC 1738 allows no user and no password in a URL of HTTP.
fn is_web_url(rest: &str) -> bool {
	let Some(rest) = rest.strip_prefix("://") else { return false };
	let place = rest.split(['/', '?']).next().unwrap_or_default();
	let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
	let in_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
	let is_label = |label: &str| {
		!label.is_empty() && label.bytes().all(in_label) && !label.starts_with('-') && !label.ends_with('-')
	};
	let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
	host.split('.').all(is_label) && port.is_none_or(is_port)
}

/// The result of `lsps5.set_webhook`.
pub fn webhook_set(num_webhooks: usize, max_webhooks: u32, no_change: bool) -> Value {
	json!({"num_webhooks": num_webhooks, "max_webhooks": max_webhooks, "no_change": no_change})
}

/// The result of `lsps5.list_webhooks`.
pub fn webhooks<'a>(app_names: impl Iterator<Item = &'a str>, max_webhooks: u32) -> Value {
	json!({"app_names": app_names.collect::<Vec<_>>(), "max_webhooks": max_webhooks})
}

fn too_long(why: &str) -> RpcError {
	RpcError::new(TOO_LONG, "Too long", json!({"message": why}))
}

fn url_parse_error() -> RpcError {
	RpcError::new(URL_PARSE_ERROR, "URL parse error", json!({"message": "webhook is not a URL (RFC 1738)"}))
}

/// 503.
pub fn too_many_webhooks(max_webhooks: u32) -> RpcError {
	RpcError::new(TOO_MANY_WEBHOOKS, "Too many webhooks", json!({"max_webhooks": max_webhooks}))
}

/// 1010.
pub fn app_name_not_found() -> RpcError {
	RpcError::new(APP_NAME_NOT_FOUND, "App name not found", json!({}))
}
