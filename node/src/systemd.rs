//! What the service manager is told (sd_notify(3)): ready, stopping, status, and signs of life for its watchdog.
//!
//! Started by hand, nobody listens and every call does nothing.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// Speaks to the service manager.
#[derive(Debug)]
pub struct Notifier {
	manager: Option<(UnixDatagram, SocketAddr)>,
	watchdog: Option<Duration>,
}

impl Notifier {
	/// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
	///
	/// # Errors
	/// There is a manager, but no socket can be made to reach it.
	pub fn from_env() -> io::Result<Notifier> {
		let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
		let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
		let watchdog = number("WATCHDOG_USEC").filter(|usec| *usec > 0 && for_us).map(Duration::from_micros);
		Notifier::new(std::env::var_os("NOTIFY_SOCKET").as_deref(), watchdog)
	}

	/// A notifier for the manager at `socket` (a path, or `@name` in the abstract namespace), which expects a sign of
	/// life within each `watchdog`.
	///
	/// # Errors
	/// No socket can be made, or `socket` is no address.
	pub fn new(socket: Option<&OsStr>, watchdog: Option<Duration>) -> io::Result<Notifier> {
		let address = match socket.filter(|s| !s.is_empty()) {
			None => return Ok(Notifier { manager: None, watchdog }),
			Some(name) => match name.as_bytes().strip_prefix(b"@") {
				Some(name) => SocketAddr::from_abstract_name(name)?,
				None => SocketAddr::from_pathname(name)?,
			},
		};
		let socket = UnixDatagram::unbound()?;
		socket.set_nonblocking(true)?;
		Ok(Notifier { manager: Some((socket, address)), watchdog })
	}

	/// The node serves; `status` is shown by `systemctl status`.
	pub fn ready(&self, status: &str) {
		self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
	}

	/// The node is stopping on purpose.
	pub fn stopping(&self, status: &str) {
		self.send(&format!("STOPPING=1\nSTATUS={}", one_line(status)));
	}

	/// What the node does now.
	pub fn status(&self, status: &str) {
		self.send(&format!("STATUS={}", one_line(status)));
	}

	/// Gives a sign of life twice in each watchdog interval for as long as `healthy` says so, until `stop` becomes true
	/// or its sender is gone. Returns at once where no watchdog was asked for.
	///
	/// Run it as a task of its own. It never blocks the runtime, and a runtime that hangs stops it: that is the point.
	pub async fn watchdog(&self, mut healthy: impl FnMut() -> bool, mut stop: watch::Receiver<bool>) {
		let Some(interval) = self.watchdog.filter(|_| self.manager.is_some()) else { return };
		let mut tick = tokio::time::interval((interval / 2).max(Duration::from_millis(1)));
		tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
		let mut well = true;
		loop {
			tokio::select! {
				_ = tick.tick() => {},
				_ = stop.wait_for(|stop| *stop) => return,
			}
			let now = healthy();
			if now {
				self.send("WATCHDOG=1");
			}
			if well && !now {
				tracing::error!("not healthy: the watchdog gets no more signs of life and will restart this node");
				self.status("not healthy, to be restarted");
			}
			well = now;
		}
	}

	/// A manager that does not listen, or whose queue is full, is no reason to stop serving.
	fn send(&self, message: &str) {
		if let Some((socket, address)) = &self.manager
			&& let Err(error) = socket.send_to_addr(message.as_bytes(), address)
		{
			tracing::debug!(%error, "the service manager did not hear us");
		}
	}
}

/// A line break would start a message of its own.
fn one_line(text: &str) -> String {
	text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::sync::Arc;
	use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

	/// A service manager on a socket of its own.
	fn manager() -> (tempfile::TempDir, tokio::net::UnixDatagram, std::path::PathBuf) {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join("notify");
		let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
		(dir, socket, path)
	}

	async fn heard(socket: &tokio::net::UnixDatagram) -> String {
		let mut buffer = [0; 512];
		let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer));
		let length = received.await.expect("nothing was said").unwrap();
		String::from_utf8(buffer[..length].to_vec()).unwrap()
	}

	#[tokio::test]
	async fn the_manager_hears_ready_status_and_stopping() {
		let (_dir, socket, path) = manager();
		let notifier = Notifier::new(Some(path.as_os_str()), None).unwrap();
		notifier.ready("serving\nSTOPPING=1");
		notifier.status("synced");
		notifier.stopping("draining");
		assert_eq!(heard(&socket).await, "READY=1\nSTATUS=serving STOPPING=1");
		assert_eq!(heard(&socket).await, "STATUS=synced");
		assert_eq!(heard(&socket).await, "STOPPING=1\nSTATUS=draining");
	}

	#[tokio::test]
	async fn an_abstract_socket_is_reached_too() {
		let name = format!("inlet-test-{}", std::process::id());
		let address = SocketAddr::from_abstract_name(&name).unwrap();
		let socket = UnixDatagram::bind_addr(&address).unwrap();
		socket.set_nonblocking(true).unwrap();
		let socket = tokio::net::UnixDatagram::from_std(socket).unwrap();
		Notifier::new(Some(OsStr::new(&format!("@{name}"))), None).unwrap().status("here");
		assert_eq!(heard(&socket).await, "STATUS=here");
	}

	#[tokio::test]
	async fn the_watchdog_hears_a_healthy_node_and_not_a_sick_one() {
		let (_dir, socket, path) = manager();
		let notifier = Notifier::new(Some(path.as_os_str()), Some(Duration::from_millis(20))).unwrap();
		let (stop, stopped) = watch::channel(false);
		let healthy = Arc::new(AtomicBool::new(true));
		let asked = Arc::new(AtomicUsize::new(0));
		let check = {
			let (healthy, asked) = (healthy.clone(), asked.clone());
			move || {
				asked.fetch_add(1, Ordering::SeqCst);
				healthy.load(Ordering::SeqCst)
			}
		};
		let task = tokio::spawn(async move { notifier.watchdog(check, stopped).await });
		assert_eq!(heard(&socket).await, "WATCHDOG=1");
		assert_eq!(heard(&socket).await, "WATCHDOG=1");

		healthy.store(false, Ordering::SeqCst);
		while heard(&socket).await == "WATCHDOG=1" {}
		let before = asked.load(Ordering::SeqCst);
		while asked.load(Ordering::SeqCst) < before + 5 {
			tokio::task::yield_now().await;
		}
		assert!(socket.try_recv(&mut [0; 64]).is_err(), "a sick node gave a sign of life");

		healthy.store(true, Ordering::SeqCst);
		assert_eq!(heard(&socket).await, "WATCHDOG=1");
		stop.send(true).unwrap();
		task.await.unwrap();
	}

	#[tokio::test]
	async fn without_a_manager_nothing_happens() {
		let notifier = Notifier::new(None, Some(Duration::from_millis(1))).unwrap();
		notifier.ready("serving");
		let (_stop, stopped) = watch::channel(false);
		notifier.watchdog(|| panic!("nobody asks"), stopped).await;

		let dir = tempfile::tempdir().unwrap();
		let gone = dir.path().join("gone");
		Notifier::new(Some(gone.as_os_str()), None).unwrap().ready("serving");
	}
}
