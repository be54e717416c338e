//! Where backups go.

use super::value::{Secret, Wrong, wrong};
use crate::tor::{Way, is_onion};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Targets at most.
pub(super) const MAX_TARGETS: usize = 4;

/// `[backup]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupConfig {
	/// Where to; none: no backup.
	pub targets: Vec<BackupPlace>,
	/// Does the node wait for the first of them?
	pub mode: BackupMode,
	/// So long behind, and the operator is told.
	pub alert: Duration,
	/// How those on the network are reached.
	pub way: Way,
}

/// Does the node wait for its backup?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupMode {
	/// Targets follow within seconds.
	Async,
	/// Nothing is acknowledged before the first target has it.
	Sync,
}

/// A place for a backup. Displayed without its login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupPlace {
	/// A directory.
	Dir(PathBuf),
	/// A bucket of S3 or of what speaks like it.
	S3 {
		/// `https://HOST[:PORT]`
		endpoint: String,
		/// The bucket.
		bucket: String,
		/// What its names begin with; may be empty.
		prefix: String,
		/// The region that requests are signed for.
		region: String,
		/// The access key's id.
		key: String,
		/// The access key.
		secret: Secret,
	},
	/// A folder of a WebDAV server.
	WebDav {
		/// `https://HOST/PATH`, without the login.
		url: String,
		/// User and password.
		login: Option<(String, Secret)>,
	},
}

impl fmt::Display for BackupPlace {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			BackupPlace::Dir(path) => write!(f, "dir:{}", path.display()),
			BackupPlace::S3 { endpoint, bucket, prefix, .. } if prefix.is_empty() => {
				write!(f, "s3:{endpoint}/{bucket}")
			}
			BackupPlace::S3 { endpoint, bucket, prefix, .. } => write!(f, "s3:{endpoint}/{bucket}/{prefix}"),
			BackupPlace::WebDav { url, .. } => write!(f, "webdav:{url}"),
		}
	}
}

impl BackupPlace {
	/// As it is written in the configuration, with its login: not to be shown.
	pub fn with_login(&self) -> String {
		match self {
			BackupPlace::Dir(_) | BackupPlace::WebDav { login: None, .. } => self.to_string(),
			BackupPlace::S3 { endpoint, bucket, prefix, region, key, secret } => {
				let (scheme, host) = endpoint.split_once("://").unwrap_or(("https", endpoint));
				let folder = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
				format!("s3:{scheme}://{key}:{}@{host}/{bucket}{folder}?region={region}", secret.expose())
			}
			BackupPlace::WebDav { url, login: Some((user, password)) } => {
				let (scheme, host) = url.split_once("://").unwrap_or(("https", url));
				format!("webdav:{scheme}://{user}:{}@{host}", password.expose())
			}
		}
	}
}

/// The text is no place for a backup; what is wrong with it, without the text, which may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAPlace(String);

impl std::str::FromStr for BackupPlace {
	type Err = NotAPlace;

	fn from_str(text: &str) -> Result<BackupPlace, NotAPlace> {
		place(text).map_err(|Wrong { problem, right }| NotAPlace(format!("{problem}: {right}")))
	}
}

const FORMS: &str = "write dir:/PATH, s3:https://KEYID:SECRET@HOST/BUCKET[/PREFIX]?region=REGION or \
	 webdav:https://USER:PASSWORD@HOST/PATH";

/// Parses an entry of `backup.targets`. It may hold a password, so no error repeats any of it.
pub(super) fn place(text: &str) -> Result<BackupPlace, Wrong> {
	if let Some(path) = text.strip_prefix("dir:") {
		return match path.starts_with('/') {
			true => Ok(BackupPlace::Dir(path.into())),
			false => Err(wrong("names a directory by a relative path", FORMS)),
		};
	}
	if text.starts_with("sftp:") {
		let right =
			"mount it with sshfs and write dir:/PATH, or serve it with rclone and write webdav:http://127.0.0.1:PORT/";
		return Err(wrong("names SFTP, which Inlet does not speak itself", right));
	}
	if let Some(rest) = text.strip_prefix("s3:") {
		return s3(rest);
	}
	if let Some(rest) = text.strip_prefix("webdav:") {
		let (scheme, login, host) = split(rest)?;
		if login.is_some() && scheme == "http" && !is_near(host) {
			return Err(wrong("would send a password over the network for all to read", "write https://, or leave it"));
		}
		let login = login.map(|login| match login.split_once(':') {
			Some((user, password)) if !user.is_empty() => Ok((user.to_owned(), Secret::new(password))),
			_ => Err(wrong("has a user but no password", FORMS)),
		});
		let url = format!("{scheme}://{}", host.trim_end_matches('/'));
		return Ok(BackupPlace::WebDav { url, login: login.transpose()? });
	}
	Err(wrong("starts with none of dir:, s3: and webdav:", FORMS))
}

fn s3(rest: &str) -> Result<BackupPlace, Wrong> {
	let (scheme, login, rest) = split(rest)?;
	let (key, secret) =
		login.and_then(|login| login.split_once(':')).ok_or_else(|| wrong("has no access key for S3", FORMS))?;
	let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
	let region = match query {
		"" => "us-east-1",
		query => query.strip_prefix("region=").ok_or_else(|| wrong("asks for something else than a region", FORMS))?,
	};
	let (host, path) = rest.split_once('/').ok_or_else(|| wrong("names no bucket", FORMS))?;
	let (bucket, prefix) = path.trim_matches('/').split_once('/').unwrap_or((path.trim_matches('/'), ""));
	let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'));
	if bucket.is_empty() || !plain(bucket) || !plain(prefix) || !plain(region) {
		return Err(wrong("has a bucket, prefix or region that cannot be", FORMS));
	}
	Ok(BackupPlace::S3 {
		endpoint: format!("{scheme}://{host}"),
		bucket: bucket.to_owned(),
		prefix: prefix.to_owned(),
		region: region.to_owned(),
		key: key.to_owned(),
		secret: Secret::new(secret),
	})
}

/// Scheme, login (taken literally), and the rest of a URL.
fn split(url: &str) -> Result<(&'static str, Option<&str>, &str), Wrong> {
	let (scheme, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
		(Some(rest), _) => ("https", rest),
		(_, Some(rest)) => ("http", rest),
		_ => return Err(wrong("has no http:// or https:// in it", FORMS)),
	};
	// The last one: a secret may have an @ and slashes in it; paths of backups do not.
	let (login, rest) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
	let host = rest.split(['/', '?']).next().unwrap_or_default();
	let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\' | '#');
	match host.is_empty() || host.starts_with(':') || rest.contains(odd) {
		true => Err(wrong("has no host, or a character that does not belong there", FORMS)),
		false => Ok((scheme, login, rest)),
	}
}

/// On this machine or in its own network?
fn is_near(host: &str) -> bool {
	let host = host.split('/').next().unwrap_or_default();
	let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
	match name.trim_matches(['[', ']']).parse::<IpAddr>() {
		Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private(),
		Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local(),
		// Tor encrypts as far as the onion service.
		Err(_) => name == "localhost" || is_onion(name),
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn places_are_understood_and_shown_without_their_login() {
		let read = |text: &str| text.parse::<BackupPlace>().unwrap();
		assert_eq!(read("dir:/mnt/usb"), BackupPlace::Dir("/mnt/usb".into()));
		let bucket = read("s3:https://AKIA:se/cr@et+@s3.example.com/b/inlet/1?region=eu-1");
		assert_eq!(bucket.to_string(), "s3:https://s3.example.com/b/inlet/1");
		let BackupPlace::S3 { bucket: name, prefix, region, key, secret, endpoint } = &bucket else { panic!() };
		assert_eq!((name.as_str(), prefix.as_str(), region.as_str()), ("b", "inlet/1", "eu-1"));
		assert_eq!((key.as_str(), secret.expose(), endpoint.as_str()), ("AKIA", "se/cr@et+", "https://s3.example.com"));
		assert!(!format!("{bucket:?}").contains("se/cr"));
		let dav = read("webdav:https://me:pa@ss@cloud.example.com/dav/b/");
		assert_eq!(dav.to_string(), "webdav:https://cloud.example.com/dav/b");
		assert!(!format!("{dav:?}").contains("pa@ss"));
		read("webdav:http://me:pass@127.0.0.1:8080/");
		read("webdav:http://10.0.0.7/b");
	}

	#[test]
	fn what_is_no_place_is_refused_without_repeating_it() {
		for text in [
			"/mnt/usb-hunter2",
			"dir:usb-hunter2",
			"s3:https://hunter2.example.com/b",
			"s3:https://a:hunter2@h",
			"s3:https://a:hunter2@h/b?zone=x",
			"s3:ftp://a:hunter2@h/b",
			"webdav:http://a:hunter2@example.com/b",
			"webdav:https://hunter2@example.com/b",
			"webdav:https://a:hunter2@",
			"sftp:me:hunter2@host/b",
		] {
			let error = text.parse::<BackupPlace>().unwrap_err().to_string();
			assert!(!error.contains("hunter2") && error.contains("write "), "{text}: {error}");
		}
	}
}
