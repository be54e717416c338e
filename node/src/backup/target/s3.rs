//! A bucket of S3 or of what speaks like it. Requests are signed by `rusty-s3`, which does no I/O, and sent by reqwest.

use super::web::{body, client, refused, send};
use super::{MAX_LISTED, Target, TargetError, away};
use crate::tor::Way;
use async_trait::async_trait;
use reqwest::{Client, StatusCode, Url};
use rusty_s3::actions::{ListObjectsV2, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use std::time::Duration;

/// How long a signature holds.
const SIGNED_FOR: Duration = Duration::from_secs(300);

pub(super) struct S3 {
	bucket: Bucket,
	credentials: Credentials,
	prefix: String,
	client: Client,
}

impl S3 {
	pub fn new(
		endpoint: &str,
		(bucket, prefix, region): (&str, &str, &str),
		key: &str,
		secret: &str,
		way: Way,
	) -> Result<S3, TargetError> {
		let client = client(endpoint, way)?;
		let endpoint: Url = endpoint.parse().map_err(away)?;
		// Paths, not host names: so it works with a bucket on a server of one's own.
		let bucket = Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), region.to_owned()).map_err(away)?;
		let prefix = if prefix.is_empty() { String::new() } else { format!("{}/", prefix.trim_end_matches('/')) };
		Ok(S3 { bucket, credentials: Credentials::new(key, secret), prefix, client })
	}

	fn object(&self, name: &str) -> String {
		format!("{}{name}", self.prefix)
	}

	async fn put(&self, name: &str, bytes: &[u8], new: bool) -> Result<(), TargetError> {
		let url = self.bucket.put_object(Some(&self.credentials), &self.object(name)).sign(SIGNED_FOR);
		let mut request = self.client.put(url).body(bytes.to_vec());
		if new {
			request = request.header("If-None-Match", "*");
		}
		match send(request).await?.status() {
			status if status.is_success() => Ok(()),
			// 409: another one is being written under this name right now.
			StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT if new => Err(TargetError::Exists),
			status => Err(refused(status)),
		}
	}
}

#[async_trait]
impl Target for S3 {
	async fn create(&self, name: &str, bytes: &[u8]) -> Result<(), TargetError> {
		self.put(name, bytes, true).await
	}

	async fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), TargetError> {
		self.put(name, bytes, false).await
	}

	async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, TargetError> {
		let url = self.bucket.get_object(Some(&self.credentials), &self.object(name)).sign(SIGNED_FOR);
		let response = send(self.client.get(url)).await?;
		match response.status() {
			StatusCode::NOT_FOUND => Ok(None),
			status if status.is_success() => body(response).await.map(Some),
			status => Err(refused(status)),
		}
	}

	async fn list(&self) -> Result<Vec<String>, TargetError> {
		let (mut names, mut token) = (Vec::new(), None::<String>);
		loop {
			let mut ask = self.bucket.list_objects_v2(Some(&self.credentials));
			ask.with_prefix(self.prefix.as_str());
			if let Some(token) = &token {
				ask.with_continuation_token(token.as_str());
			}
			let response = send(self.client.get(ask.sign(SIGNED_FOR))).await?;
			if !response.status().is_success() {
				return Err(refused(response.status()));
			}
			let text = String::from_utf8(body(response).await?).map_err(away)?;
			let page = ListObjectsV2::parse_response(&text).map_err(away)?;
			let own = page.contents.iter().filter_map(|object| object.key.strip_prefix(self.prefix.as_str()));
			names.extend(own.filter(|name| !name.contains('/')).map(str::to_owned));
			token = page.next_continuation_token;
			if token.is_none() || names.len() > MAX_LISTED {
				return Ok(names);
			}
		}
	}

	async fn remove(&self, name: &str) -> Result<(), TargetError> {
		let url = self.bucket.delete_object(Some(&self.credentials), &self.object(name)).sign(SIGNED_FOR);
		match send(self.client.delete(url)).await?.status() {
			StatusCode::NOT_FOUND => Ok(()),
			status if status.is_success() => Ok(()),
			status => Err(refused(status)),
		}
	}

	/// The bucket has to be there: making one is a matter of rights and regions.
	async fn prepare(&self) -> Result<(), TargetError> {
		Ok(())
	}
}
