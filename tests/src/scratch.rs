//! A scenario's folder, its free ports, and waiting for things to become so.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of each log that are printed when a scenario fails.
const TAIL_LINES: usize = 200;

/// The folder below which everything of one scenario lives, and the list of its processes' logs.
///
/// It is removed when dropped; after a failure (a panic, or [`Scratch::keep`]) it is kept, and the ends of all logs are
/// printed. Drop it last.
#[derive(Debug)]
pub struct Scratch {
	dir: Option<tempfile::TempDir>,
	path: PathBuf,
	logs: Mutex<Vec<(String, PathBuf)>>,
	failed: AtomicBool,
	troubles: Arc<Mutex<Vec<String>>>,
}

impl Scratch {
	/// Makes an empty folder in the system's temporary folder.
	///
	/// # Errors
	/// It cannot be made.
	pub fn new() -> Result<Scratch> {
		let dir = tempfile::Builder::new().prefix("inlet-test-").tempdir().context("cannot make a temporary folder")?;
		let path = dir.path().to_owned();
		Ok(Scratch {
			dir: Some(dir),
			path,
			logs: Mutex::default(),
			failed: AtomicBool::new(false),
			troubles: Arc::default(),
		})
	}

	/// The folder.
	pub fn path(&self) -> &Path {
		&self.path
	}

	/// A folder of its own for one process: the first free one of `name`, `name-2`, `name-3`...
	///
	/// # Errors
	/// It cannot be made.
	pub fn folder(&self, name: &str) -> Result<PathBuf> {
		for n in 1..1000 {
			let dir = self.path.join(if n == 1 { name.to_owned() } else { format!("{name}-{n}") });
			match fs::create_dir(&dir) {
				Ok(()) => return Ok(dir),
				Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
				Err(error) => return Err(error).with_context(|| format!("cannot make {}", dir.display())),
			}
		}
		bail!("too many folders called {name}")
	}

	/// Has the end of this file printed if the scenario fails.
	pub fn log(&self, name: &str, file: &Path) {
		let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
		if !logs.iter().any(|(_, known)| known == file) {
			logs.push((name.to_owned(), file.to_owned()));
		}
	}

	/// What was found wrong with a process at its end, when nobody was there any more to be told.
	pub fn troubles(&self) -> Arc<Mutex<Vec<String>>> {
		self.troubles.clone()
	}

	/// The scenario failed: print the logs and keep the folder when this is dropped.
	pub fn keep(&self) {
		self.failed.store(true, Ordering::Relaxed);
	}
}

impl Drop for Scratch {
	fn drop(&mut self) {
		if !self.failed.load(Ordering::Relaxed) && !std::thread::panicking() {
			return;
		}
		if let Some(dir) = self.dir.take() {
			let kept = dir.keep();
			for (name, file) in self.logs.lock().unwrap_or_else(PoisonError::into_inner).iter() {
				let text = fs::read(file).unwrap_or_default();
				let text = String::from_utf8_lossy(&text);
				let lines: Vec<&str> = text.lines().collect();
				let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
				eprintln!("---- {name}: last {} of {} lines of {}", tail.len(), lines.len(), file.display());
				tail.iter().for_each(|line| eprintln!("{line}"));
			}
			eprintln!("---- everything is kept in {}", kept.display());
		}
	}
}

/// A TCP port of 127.0.0.1 that nothing listens on.
///
/// It is taken from below the range from which Linux takes the ports of outgoing connections, so that none of those
/// sits on it while a process that owns it restarts.
///
/// # Errors
/// A thousand ports in a row are in use.
pub fn free_port() -> Result<u16> {
	const FIRST: u16 = 12_000;
	const COUNT: u16 = 20_000;
	static NEXT: AtomicU16 = AtomicU16::new(0);
	// Different test processes start at different places, different calls of one process never get the same port.
	let start = (std::process::id().wrapping_mul(2_654_435_761) >> 16) as u16;
	for _ in 0..1000 {
		let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
		if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
			return Ok(port);
		}
	}
	bail!("no free port from {FIRST} to {}", FIRST + COUNT)
}

/// Looks again and again until `check` gives a value, and gives that.
///
/// `check` answers `Ok(None)` for "not yet". An `Err` is "not yet" too, and is told if the deadline passes.
///
/// # Errors
/// `what` did not happen within `limit`.
pub async fn eventually<T>(
	limit: Duration,
	what: &str,
	mut check: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
	let start = Instant::now();
	let mut pause = Duration::from_millis(5);
	loop {
		let answer = check().await;
		if let Ok(Some(value)) = answer {
			return Ok(value);
		}
		if start.elapsed() >= limit {
			let last = answer.err().map_or(String::new(), |error| format!(" (last error: {error:#})"));
			bail!("not within {} s: {what}{last}", limit.as_secs());
		}
		tokio::time::sleep(pause).await;
		pause = (pause * 2).min(Duration::from_millis(100));
	}
}
