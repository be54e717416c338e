//! When LDK sends what waits to be sent: one task lets it, however many ask.
//!
//! LDK's `process_events` goes round again as long as others call it meanwhile, and whoever is inside stays there: a flood of
//! pings would keep the task of one connection in it for good, or the driver.

use crate::stop::stopped;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

/// So long for each round, in the long run.
const PAUSE: Duration = Duration::from_millis(1);
/// So many may follow one another at once after a quiet time: the messages of a payment or an opening do not wait.
const AT_ONCE: u32 = 20;

/// Asks for LDK's rounds, and runs them.
pub struct Flush {
	wanted: Notify,
	begun: AtomicU64,
	done: watch::Sender<u64>,
}

/// A round of LDK's that begins after it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Round(u64);

impl Default for Flush {
	fn default() -> Flush {
		Flush { wanted: Notify::new(), begun: AtomicU64::new(0), done: watch::Sender::new(0) }
	}
}

impl Flush {
	/// There is something to send: the round that takes it along. Does not wait for it.
	pub fn ask(&self) -> Round {
		// Read before the notice: a round that begins between the two is already late enough.
		let round = Round(self.begun.load(Ordering::SeqCst) + 1);
		self.wanted.notify_one();
		round
	}

	/// Waits until a round is over. Once the node stops there are no more.
	pub async fn done(&self, round: Round) {
		let mut done = self.done.subscribe();
		let _over = done.wait_for(|done| *done >= round.0).await;
	}

	/// Calls `process` for each round until `stop`, and once more then. One caller at a time.
	pub async fn run(&self, process: impl Fn() + Send + Sync, mut stop: watch::Receiver<bool>) {
		// When the rounds so far would be over, each taking its time.
		let mut over = Instant::now();
		loop {
			tokio::select! {
				() = stopped(&mut stop) => break,
				() = self.wanted.notified() => {},
			}
			self.round(&process);
			over = over.max(Instant::now()) + PAUSE;
			sleep_until(over - AT_ONCE * PAUSE).await;
		}
		self.round(&process);
	}

	fn round(&self, process: impl Fn()) {
		let round = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
		process();
		self.done.send_replace(round);
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::sync::Arc;
	use std::sync::atomic::AtomicU32;

	#[tokio::test]
	async fn r14_however_many_ask_rounds_are_few_and_each_takes_along_what_was_asked_before() {
		let (flush, rounds, asked) =
			(Arc::new(Flush::default()), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
		let seen = Arc::new(AtomicU32::new(0));
		let (stop, stopping) = watch::channel(false);
		let running = {
			let (flush, rounds, asked, seen) = (flush.clone(), rounds.clone(), asked.clone(), seen.clone());
			tokio::spawn(async move {
				let process = || {
					rounds.fetch_add(1, Ordering::SeqCst);
					seen.store(asked.load(Ordering::SeqCst), Ordering::SeqCst);
				};
				flush.run(process, stopping).await;
			})
		};
		let begun = Instant::now();
		for n in 1..=100 {
			for _ in 0..1_000 {
				flush.ask();
			}
			asked.store(n, Ordering::SeqCst);
			flush.done(flush.ask()).await;
			assert!(seen.load(Ordering::SeqCst) >= n);
		}
		let most = begun.elapsed().as_millis() + u128::from(AT_ONCE) + 2;
		assert!(u128::from(rounds.load(Ordering::SeqCst)) <= most, "{rounds:?} rounds in {most} ms");
		let before = rounds.load(Ordering::SeqCst);
		stop.send_replace(true);
		running.await.unwrap();
		assert!(rounds.load(Ordering::SeqCst) > before, "a last one at the stop");
	}
}
