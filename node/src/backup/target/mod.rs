//! Where a backup is kept: a flat set of named objects.

mod dir;
mod s3;
mod web;
mod webdav;

#[cfg(test)]
mod tests;

use crate::config::BackupPlace;
use crate::tor::Way;
use async_trait::async_trait;
use std::sync::Arc;

/// Bytes of an object that are read at most.
pub const MAX_OBJECT: usize = 256 << 20;
/// Objects that a listing may have.
const MAX_LISTED: usize = 1_000_000;

/// A place that keeps objects. Names are of letters, digits and `-`.
#[async_trait]
pub trait Target: Send + Sync + 'static {
	/// Writes an object that is not there yet; it is durable when this returns.
	///
	/// # Errors
	/// [`TargetError::Exists`] if there is one of that name, which then stays as it is.
	async fn create(&self, name: &str, bytes: &[u8]) -> Result<(), TargetError>;

	/// Writes an object, whether there is one or not; it is durable when this returns.
	///
	/// # Errors
	/// See [`TargetError`].
	async fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), TargetError>;

	/// Reads an object; `None` if there is none.
	///
	/// # Errors
	/// See [`TargetError`].
	async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, TargetError>;

	/// The names of all objects, in no order.
	///
	/// # Errors
	/// See [`TargetError`].
	async fn list(&self) -> Result<Vec<String>, TargetError>;

	/// Removes an object; that there is none is fine.
	///
	/// # Errors
	/// See [`TargetError`].
	async fn remove(&self, name: &str) -> Result<(), TargetError>;

	/// Makes room for a first object, where that needs making.
	///
	/// # Errors
	/// See [`TargetError`].
	async fn prepare(&self) -> Result<(), TargetError>;
}

/// Why a target did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TargetError {
	/// Somebody else wrote it: look who.
	#[error("there is such an object already")]
	Exists,
	/// Wait, and try again; if it stays, see to the disk, the cable, the network or the login.
	#[error("{0}")]
	Away(String),
}

/// The target at this place.
///
/// # Errors
/// What is wrong with the place.
pub fn connect(place: &BackupPlace, way: Way) -> Result<Arc<dyn Target>, TargetError> {
	Ok(match place {
		BackupPlace::Dir(path) => Arc::new(dir::Dir::new(path.clone())),
		BackupPlace::S3 { endpoint, bucket, prefix, region, key, secret } => {
			Arc::new(s3::S3::new(endpoint, (bucket, prefix, region), key, secret.expose(), way)?)
		}
		BackupPlace::WebDav { url, login } => {
			let login = login.as_ref().map(|(user, password)| (user.clone(), password.expose().to_owned()));
			Arc::new(webdav::WebDav::new(url, login, way)?)
		}
	})
}

fn away(e: impl std::fmt::Display) -> TargetError {
	TargetError::Away(e.to_string())
}
