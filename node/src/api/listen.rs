//! The socket: who may connect, how many, for how long.

use super::context::Context;
use super::routes::router;
use super::{DRAIN_TIMEOUT, HEAD_TIMEOUT, MAX_CONNECTIONS};
use crate::control::Control;
use crate::stop::stopped;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
	/// Another process serves it.
	#[error("another process answers on {0}: stop it first (inlet stop)")]
	InUse(PathBuf),
	/// Something else has its name.
	#[error("{0} is not a socket: move it away")]
	NotASocket(PathBuf),
	/// The path does not fit into a socket's address.
	#[error("{0} is too long for the path of a socket (about 100 bytes): use a shorter --data-dir")]
	TooLong(PathBuf),
	/// The system refused.
	#[error("cannot open the admin socket {path}: {error}")]
	Io {
		/// Where.
		path: PathBuf,
		/// Why.
		error: io::Error,
	},
}

/// The admin socket, open and not yet served: from here on, connections wait.
pub struct Admin {
	listener: UnixListener,
	path: PathBuf,
	pub(super) reads_only: bool,
}

impl Admin {
	/// Opens the socket, for its owner and group (0660). One that a crash has left there is replaced; one on which somebody
	/// answers is not. Must be called within a Tokio runtime.
	pub async fn bind(path: &Path) -> Result<Admin, BindError> {
		let failed = |error: io::Error| match error.kind() {
			io::ErrorKind::InvalidInput => BindError::TooLong(path.to_owned()),
			_ => BindError::Io { path: path.to_owned(), error },
		};
		match fs::symlink_metadata(path) {
			Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
			Ok(_) => match UnixStream::connect(path).await {
				Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
				Err(error) if error.kind() == io::ErrorKind::NotFound => {}
				Err(error) => return Err(failed(error)),
				Ok(_) => return Err(BindError::InUse(path.to_owned())),
			},
			Err(error) if error.kind() == io::ErrorKind::NotFound => {}
			Err(error) => return Err(failed(error)),
		}
		// Made beside its place and then moved, so that it is never there with other permissions.
		let fresh = path.with_extension("new");
		match fs::remove_file(&fresh) {
			Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
			_ => {}
		}
		let listener = UnixListener::bind(&fresh).map_err(failed)?;
		fs::set_permissions(&fresh, Permissions::from_mode(0o660)).map_err(failed)?;
		fs::rename(&fresh, path).map_err(failed)?;
		Ok(Admin { listener, path: path.to_owned(), reads_only: false })
	}

	/// From here on nothing can be changed or spent over it: whatever is not a `GET` is refused.
	pub fn reads_only(self) -> Admin {
		Admin { reads_only: true, ..self }
	}

	/// The next connection.
	pub(super) async fn accept(&self) -> io::Result<UnixStream> {
		self.listener.accept().await.map(|(stream, _)| stream)
	}

	/// Serves `control` until `stop` turns true (or its sender is gone); then finishes what is at work, within a bound, and
	/// removes the socket.
	pub async fn serve(self, control: Arc<dyn Control>, mut stop: watch::Receiver<bool>) {
		let context = Context::new(control, stop.clone());
		let router = router(context.clone(), self.reads_only);
		let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
		let mut connections = JoinSet::new();
		loop {
			let accepted = async {
				let permit = room.clone().acquire_owned().await.expect("never closed");
				(permit, self.accept().await)
			};
			let (permit, accepted) = tokio::select! {
				biased;
				_ = stopped(&mut stop) => break,
				Some(_) = connections.join_next() => continue,
				accepted = accepted => accepted,
			};
			match accepted {
				Ok(stream) => {
					let connection = connection(stream, router.clone(), stop.clone());
					connections.spawn(async move {
						connection.await;
						drop(permit);
					});
				}
				Err(error) => {
					// Out of file descriptors, most likely: the next try would fail at once, too.
					tracing::warn!(%error, "cannot accept an admin connection");
					tokio::time::sleep(Duration::from_secs(1)).await;
				}
			}
		}
		let closed = async { while connections.join_next().await.is_some() {} };
		let _ = tokio::time::timeout(DRAIN_TIMEOUT, closed).await;
		connections.shutdown().await;
		context.drained().await;
		if let Err(error) = fs::remove_file(&self.path) {
			tracing::debug!(%error, "the admin socket is already gone");
		}
	}
}

/// Opens the socket at `path` and serves `control` on it until `stop` turns true.
pub async fn serve(path: &Path, control: Arc<dyn Control>, stop: watch::Receiver<bool>) -> Result<(), BindError> {
	Admin::bind(path).await?.serve(control, stop).await;
	Ok(())
}

pub(super) async fn connection(stream: UnixStream, router: Router, mut stop: watch::Receiver<bool>) {
	let connection = http1::Builder::new()
		.timer(TokioTimer::new())
		.header_read_timeout(HEAD_TIMEOUT)
		.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
	let mut connection = pin!(connection);
	let ended = tokio::select! {
		ended = connection.as_mut() => ended,
		_ = stopped(&mut stop) => {
			connection.as_mut().graceful_shutdown();
			connection.await
		},
	};
	if let Err(error) = ended {
		tracing::debug!(%error, "an admin connection broke off");
	}
}
