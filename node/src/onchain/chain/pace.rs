//! How often the backend is asked, and how long its silence is borne.

use bitcoin::Network;
use std::time::Duration;

/// Intervals, by network: a private regtest is quick, a public server is somebody else's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
	/// Between two looks at the tip and at addresses that wait for a payment.
	pub poll: Duration,
	/// Between two looks at the fee estimates (they are also taken with each block).
	pub estimates: Duration,
	/// After this long without an answer our view is not current.
	pub patience: Duration,
	/// Between two comparisons with the witnesses.
	pub witness: Duration,
	/// The longest pause between two tries.
	pub longest_pause: Duration,
}

impl Pace {
	pub(super) fn of(network: Network) -> Pace {
		let seconds = Duration::from_secs;
		match network {
			Network::Regtest => Pace {
				poll: seconds(1),
				estimates: seconds(30),
				patience: seconds(10),
				witness: seconds(2),
				longest_pause: seconds(4),
			},
			_ => Pace {
				poll: seconds(20),
				estimates: seconds(120),
				patience: seconds(90),
				witness: seconds(180),
				longest_pause: seconds(300),
			},
		}
	}

	/// The pause after this much silence: a second at first, growing with it, up to the longest.
	pub(super) fn backoff(self, silence: Duration) -> Duration {
		silence.clamp(Duration::from_secs(1), self.longest_pause)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn pauses_double_and_end_growing() {
		let pace = Pace::of(Network::Bitcoin);
		let mut silence = Duration::ZERO;
		let pauses: Vec<u64> = (0..12)
			.map(|_| {
				let pause = pace.backoff(silence);
				silence += pause;
				pause.as_secs()
			})
			.collect();
		assert_eq!(pauses, [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
	}
}
