//! A server on loopback that can be switched off, as if its machine were gone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A running server. It has a thread and a runtime of its own, so a test that blocks does not stop it; it ends on drop.
pub(crate) struct Switched {
	address: SocketAddr,
	mode: watch::Sender<Mode>,
	thread: Option<JoinHandle<()>>,
}

/// How connections are treated.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
	Up,
	Down,
	Stopped,
}

impl Switched {
	/// Starts it on a free port of 127.0.0.1, with what serves a connection. Returns as soon as it accepts them.
	///
	/// # Errors
	/// The port or the thread cannot be had.
	pub(crate) fn start<F, S>(name: &str, serve: F) -> io::Result<Switched>
	where
		F: Fn(TcpStream) -> S + Send + 'static,
		S: Future<Output = ()> + Send + 'static,
	{
		let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
		listener.set_nonblocking(true)?;
		let address = listener.local_addr()?;
		let (mode, modes) = watch::channel(Mode::Up);
		let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
		let thread = std::thread::Builder::new()
			.name(name.to_owned())
			.spawn(move || runtime.block_on(accept(listener, serve, modes)))?;
		Ok(Switched { address, mode, thread: Some(thread) })
	}

	/// Where it listens.
	pub(crate) fn address(&self) -> SocketAddr {
		self.address
	}

	/// Down: open connections are cut and new ones reset, as if the machine were gone. The port stays ours.
	pub(crate) fn set_down(&self, down: bool) {
		self.mode.send_replace(if down { Mode::Down } else { Mode::Up });
	}
}

impl Drop for Switched {
	fn drop(&mut self) {
		self.mode.send_replace(Mode::Stopped);
		if let Some(thread) = self.thread.take() {
			// A panic in there has already been printed, and drop must not panic.
			let _ = thread.join();
		}
	}
}

async fn accept<F, S>(listener: std::net::TcpListener, serve: F, mut modes: watch::Receiver<Mode>)
where
	F: Fn(TcpStream) -> S,
	S: Future<Output = ()> + Send + 'static,
{
	let listener = TcpListener::from_std(listener).expect("the listener is non-blocking and this is a runtime");
	let mut connections = JoinSet::new();
	loop {
		let mode = *modes.borrow_and_update();
		match mode {
			Mode::Up => {}
			Mode::Down => connections.shutdown().await,
			Mode::Stopped => return,
		}
		tokio::select! {
			changed = modes.changed() => if changed.is_err() { return },
			accepted = listener.accept() => if let Ok((stream, _)) = accepted {
				match *modes.borrow() {
					Mode::Up => {
						let _ = stream.set_nodelay(true);
						connections.spawn(serve(stream));
					},
					// With linger 0 a close is a reset.
					Mode::Down | Mode::Stopped => { let _ = stream.set_zero_linger(); },
				}
			},
			Some(_) = connections.join_next() => {},
		}
	}
}
