//! The way over Tor for an HTTP client that knows no SOCKS: it is told that there is an HTTP proxy on loopback, which takes
//! `CONNECT` to one host and no other. TLS is the client's, from end to end.

use super::socks;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Connections at once; the client keeps a few open.
const MAX_CONNECTIONS: usize = 32;
/// A request's head.
const MAX_HEAD: usize = 1024;
/// How long the client may take to say it.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// Stands until it is dropped.
pub struct Bridge {
	url: String,
	task: JoinHandle<()>,
}

impl Bridge {
	/// To this host. Within a runtime.
	///
	/// # Errors
	/// There is no port to be had.
	pub(super) fn to(socks: SocketAddr, host: &str, port: u16) -> io::Result<Bridge> {
		let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
		listener.set_nonblocking(true)?;
		let listener = TcpListener::from_std(listener)?;
		let url = format!("http://{}", listener.local_addr()?);
		let far = Arc::new(Far { socks, host: host.to_owned(), port });
		Ok(Bridge { url, task: tokio::spawn(serve(listener, far)) })
	}

	/// The proxy to name to the client.
	pub fn url(&self) -> &str {
		&self.url
	}
}

impl Drop for Bridge {
	fn drop(&mut self) {
		self.task.abort();
	}
}

struct Far {
	socks: SocketAddr,
	host: String,
	port: u16,
}

async fn serve(listener: TcpListener, far: Arc<Far>) {
	let turns = Arc::new(Semaphore::new(MAX_CONNECTIONS));
	// They end with the bridge.
	let mut carried = tokio::task::JoinSet::new();
	loop {
		let Ok(turn) = turns.clone().acquire_owned().await else { return };
		let accepted = tokio::select! {
			accepted = listener.accept() => accepted,
			Some(_) = carried.join_next() => continue,
		};
		match accepted {
			Ok((near, _)) => {
				let far = far.clone();
				carried.spawn(async move {
					let _turn = turn;
					if let Err(e) = carry(near, &far).await {
						tracing::debug!(target: "inlet::tor", host = far.host, "a connection over Tor ended: {e}");
					}
				});
			}
			// Out of file descriptors, say.
			Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
		}
	}
}

async fn carry(mut near: TcpStream, far: &Far) -> io::Result<()> {
	let head =
		timeout(HEAD_PATIENCE, head(&mut near)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
	let wanted = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
	let (host, port) = wanted.rsplit_once(':').unwrap_or_default();
	if host.trim_matches(['[', ']']) != far.host || port.parse() != Ok(far.port) {
		near.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await?;
		return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another host was asked for"));
	}
	match socks::connect(far.socks, &far.host, far.port, &super::isolation(&far.host)).await {
		Ok(mut stream) => {
			near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
			copy_bidirectional(&mut near, &mut stream).await.map(|_| ())
		}
		Err(e) => {
			near.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await?;
			Err(e.into())
		}
	}
}

/// A request's head, up to the empty line. What a client sends after it waits until it was answered.
async fn head(stream: &mut TcpStream) -> io::Result<String> {
	let mut head = Vec::new();
	while !head.ends_with(b"\r\n\r\n") {
		if head.len() == MAX_HEAD {
			return Err(io::Error::new(io::ErrorKind::InvalidData, "its head is too long"));
		}
		head.push(stream.read_u8().await?);
	}
	String::from_utf8(head).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "its head is no text"))
}
