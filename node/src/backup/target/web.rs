//! What the targets on the web share.

use super::{MAX_OBJECT, TargetError, away};
use crate::tor::{Way, socks};
use reqwest::{Client, Proxy, RequestBuilder, Response, StatusCode};
use std::time::Duration;

/// How long a request may take to get through.
const TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT: Duration = Duration::from_secs(10);

/// A client without redirects: a login goes to the host that the operator named and to no other.
pub(super) fn client(url: &str, way: Way) -> Result<Client, TargetError> {
	let client = Client::builder().redirect(reqwest::redirect::Policy::none());
	let client = match way.proxy(url).map_err(away)? {
		None => client.timeout(TIMEOUT).connect_timeout(CONNECT),
		Some(proxy) => {
			let proxy = Proxy::all(proxy).map_err(|e| failed(&e))?;
			client.proxy(proxy).timeout(TIMEOUT + socks::PATIENCE).connect_timeout(socks::PATIENCE)
		}
	};
	client.build().map_err(|e| failed(&e))
}

/// Sends. The error has no URL in it: that of a signed request is as good as a password for a while.
pub(super) async fn send(request: RequestBuilder) -> Result<Response, TargetError> {
	request.send().await.map_err(|e| failed(&e.without_url()))
}

/// The body, if it is not too large.
pub(super) async fn body(mut response: Response) -> Result<Vec<u8>, TargetError> {
	let mut bytes = Vec::new();
	while let Some(chunk) = response.chunk().await.map_err(|e| failed(&e.without_url()))? {
		if bytes.len() + chunk.len() > MAX_OBJECT {
			return Err(TargetError::Away("an object is too large".into()));
		}
		bytes.extend_from_slice(&chunk);
	}
	Ok(bytes)
}

/// What a refusal means.
pub(super) fn refused(status: StatusCode) -> TargetError {
	TargetError::Away(match status {
		StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => format!("the login is refused ({status})"),
		StatusCode::NOT_FOUND => format!("there is no such bucket or folder ({status})"),
		StatusCode::INSUFFICIENT_STORAGE => format!("it is full ({status})"),
		status => format!("it answers {status}"),
	})
}

fn failed(e: &reqwest::Error) -> TargetError {
	let mut text = e.to_string();
	let mut cause = std::error::Error::source(e);
	while let Some(e) = cause {
		text = format!("{text}: {e}");
		cause = e.source();
	}
	TargetError::Away(text)
}
