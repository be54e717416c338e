//! Inlet's own forward pump: HTLCs go on a few milliseconds after they may, not after LDK's batch delay.
//!
//! LDK gathers forwards for a random time (50 ms in the median, up to 200 ms) so that who watches the wire cannot tell which
//! HTLC in became which HTLC out. Inlet does the same for a shorter, also irregular time, `routing.forward_delay_ms`. HTLCs
//! that Inlet itself forwards or fails (parts of a sale) do not wait: see [`Lightning::hurry`].
//!
//! The pump is woken by LDK's loop ([`cycle`](super::cycle)) at each of its turns.

use super::Lightning;
use crate::stop::stopped;
use lightning::sign::EntropySource;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

impl Lightning {
	/// LDK's loop is about to sleep: the pump takes up what it leaves behind.
	pub(super) fn wake_pump(&self) {
		if self.manager.needs_pending_htlc_processing() {
			self.pending.notify_one();
		}
	}

	/// Forwards what is pending, `mean` after it came on average, until `stop`.
	pub async fn pump(self: Arc<Self>, mean: Duration, mut stop: watch::Receiver<bool>) {
		loop {
			tokio::select! {
				() = stopped(&mut stop) => return,
				() = self.pending.notified() => {},
			}
			let delay = irregular(mean, self.keys.get_secure_random_bytes());
			if !delay.is_zero() {
				tokio::select! {
					() = stopped(&mut stop) => return,
					() = tokio::time::sleep(delay) => {},
				}
			}
			self.hurry();
		}
	}
}

/// Anything from nothing to twice the mean, all equally likely.
fn irregular(mean: Duration, random: [u8; 32]) -> Duration {
	let [a, b, c, d, ..] = random;
	mean.saturating_mul(2).mul_f64(f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn the_delay_is_spread_around_its_mean_and_zero_is_none() {
		let mean = Duration::from_millis(10);
		assert_eq!(irregular(mean, [0; 32]), Duration::ZERO);
		assert_eq!(irregular(mean, [255; 32]), mean * 2);
		let middle = irregular(mean, [127; 32]);
		assert!(middle > mean * 9 / 10 && middle < mean * 11 / 10, "{middle:?}");
		assert_eq!(irregular(Duration::ZERO, [255; 32]), Duration::ZERO);
	}
}
