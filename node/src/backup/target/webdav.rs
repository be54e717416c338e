//! A folder of a WebDAV server (RFC 4918): Nextcloud, Apache, a storage box, `rclone serve webdav`.

use super::web::{body, client, refused, send};
use super::{MAX_LISTED, Target, TargetError, away};
use crate::tor::Way;
use async_trait::async_trait;
use reqwest::{Client, Method, RequestBuilder, StatusCode};

const PROPFIND: &str = r#"<?xml version="1.0"?><propfind xmlns="DAV:"><prop><resourcetype/></prop></propfind>"#;

pub(super) struct WebDav {
	/// Ends in a slash.
	url: String,
	login: Option<(String, String)>,
	client: Client,
}

impl WebDav {
	pub fn new(url: &str, login: Option<(String, String)>, way: Way) -> Result<WebDav, TargetError> {
		Ok(WebDav { url: format!("{}/", url.trim_end_matches('/')), login, client: client(url, way)? })
	}

	fn request(&self, method: &str, name: &str) -> Result<RequestBuilder, TargetError> {
		let method = Method::from_bytes(method.as_bytes()).map_err(away)?;
		let request = self.client.request(method, format!("{}{name}", self.url));
		Ok(match &self.login {
			Some((user, password)) => request.basic_auth(user, Some(password)),
			None => request,
		})
	}

	async fn put(&self, request: RequestBuilder, bytes: &[u8]) -> Result<(), TargetError> {
		match send(request.body(bytes.to_vec())).await?.status() {
			status if status.is_success() => Ok(()),
			StatusCode::PRECONDITION_FAILED => Err(TargetError::Exists),
			status => Err(refused(status)),
		}
	}
}

#[async_trait]
impl Target for WebDav {
	/// Servers that do not know the condition would replace what is there: so it is looked for first, too.
	async fn create(&self, name: &str, bytes: &[u8]) -> Result<(), TargetError> {
		match send(self.request("HEAD", name)?).await?.status() {
			StatusCode::NOT_FOUND => {}
			status if status.is_success() => return Err(TargetError::Exists),
			status => return Err(refused(status)),
		}
		self.put(self.request("PUT", name)?.header("If-None-Match", "*"), bytes).await
	}

	async fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), TargetError> {
		self.put(self.request("PUT", name)?, bytes).await
	}

	async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, TargetError> {
		let response = send(self.request("GET", name)?).await?;
		match response.status() {
			StatusCode::NOT_FOUND => Ok(None),
			status if status.is_success() => body(response).await.map(Some),
			status => Err(refused(status)),
		}
	}

	async fn list(&self) -> Result<Vec<String>, TargetError> {
		let request = self.request("PROPFIND", "")?.header("Depth", "1").header("Content-Type", "application/xml");
		let response = send(request.body(PROPFIND)).await?;
		if response.status() != StatusCode::MULTI_STATUS {
			return Err(refused(response.status()));
		}
		let text = String::from_utf8(body(response).await?).map_err(away)?;
		Ok(names(&text))
	}

	async fn remove(&self, name: &str) -> Result<(), TargetError> {
		match send(self.request("DELETE", name)?).await?.status() {
			StatusCode::NOT_FOUND => Ok(()),
			status if status.is_success() => Ok(()),
			status => Err(refused(status)),
		}
	}

	/// The folder is made; the one that it is in has to be there.
	async fn prepare(&self) -> Result<(), TargetError> {
		match send(self.request("MKCOL", "")?).await?.status() {
			// It is there.
			StatusCode::METHOD_NOT_ALLOWED => Ok(()),
			status if status.is_success() => Ok(()),
			status => Err(refused(status)),
		}
	}
}

/// The last part of each `href` in an answer to PROPFIND, whatever prefix its namespace has. Our names have no character that is
/// escaped, in XML or in a URL: what has one is not ours.
fn names(xml: &str) -> Vec<String> {
	let mut names = Vec::new();
	for (at, _) in xml.match_indices("href>").take(2 * MAX_LISTED) {
		let before = xml[..at].rfind('<').map_or("", |from| &xml[from..at]);
		if before.starts_with("</") {
			continue;
		}
		let text = xml[at + 5..].split('<').next().unwrap_or_default().trim();
		let name = text.rsplit('/').next().unwrap_or_default();
		if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
			names.push(name.to_owned());
		}
	}
	names
}

#[cfg(test)]
mod tests {
	use super::names;

	#[test]
	fn names_are_found_whatever_the_prefix() {
		let xml = r#"<?xml version="1.0"?><d:multistatus xmlns:d="DAV:"><d:response><d:href>/dav/b/</d:href></d:response>
			<d:response><d:href> https://h/dav/b/0000000001-i000000000001 </d:href></d:response>
			<D:response xmlns:D="DAV:"><D:href>/dav/b/inlet-backup</D:href></D:response>
			<response xmlns="DAV:"><href>/dav/b/lease</href></response><d:href>/dav/b/other%20file</d:href></d:multistatus>"#;
		assert_eq!(names(xml), ["0000000001-i000000000001", "inlet-backup", "lease"]);
	}
}
