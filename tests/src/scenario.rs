//! Runs one scenario: a runtime, a folder, a time limit, and the logs if it fails.

use crate::artifacts::{inlet_exe, wallet_exe};
use crate::scratch::Scratch;
use anyhow::{Context, Result};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Longest time for one scenario.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs `body` with an empty folder, once the programs under test are built. No more of them run at once than there are processor cores (but two), however many
/// threads the test runner has: each has half a dozen processes, and deadlines.
///
/// # Panics
/// `body` fails, panics or takes more than five minutes: the logs of its processes are printed and the folder is kept.
pub fn scenario(body: impl AsyncFnOnce(&Scratch) -> Result<()>) {
	let built = wallet_exe().and_then(|_| inlet_exe());
	built.expect("the programs under test build");
	let _turn = Turn::take();
	let scratch = Scratch::new().expect("a temporary folder can be made");
	let mut runtime = tokio::runtime::Builder::new_multi_thread();
	let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime can be made");
	let outcome = runtime.block_on(async {
		let limited = tokio::time::timeout(LIMIT, body(&scratch)).await;
		limited.with_context(|| format!("not done within {} s", LIMIT.as_secs())).flatten()
	});
	drop(runtime);
	let troubles = scratch.troubles();
	let troubles = troubles.lock().unwrap_or_else(PoisonError::into_inner);
	let outcome = match troubles.is_empty() {
		true => outcome,
		false => outcome.and(Err(anyhow::anyhow!("{}", troubles.join("\n")))),
	};
	if let Err(error) = outcome {
		scratch.keep();
		drop(scratch);
		panic!("{error:#}");
	}
}

static RUNNING: Mutex<usize> = Mutex::new(0);
static ENDED: Condvar = Condvar::new();

/// The right to run a scenario, until dropped.
struct Turn;

impl Turn {
	fn take() -> Turn {
		let most = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
		let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
		let mut running = ENDED.wait_while(running, |running| *running >= most).unwrap_or_else(PoisonError::into_inner);
		*running += 1;
		Turn
	}
}

impl Drop for Turn {
	fn drop(&mut self) {
		*RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
		ENDED.notify_one();
	}
}
