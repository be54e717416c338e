//! Signs of life of the loops that everything hangs on, for the watchdog.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Who has to come round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
	/// The driver.
	Driver,
	/// LDK's loop.
	Ldk,
	/// Who handles LDK's events.
	Events,
}

/// When each last came round.
#[derive(Debug)]
pub struct Pulse([Mutex<Instant>; 3]);

impl Default for Pulse {
	fn default() -> Self {
		let now = Instant::now();
		Pulse(std::array::from_fn(|_| Mutex::new(now)))
	}
}

impl Pulse {
	/// It came round.
	pub fn beat(&self, of: Loop) {
		*self.0[of as usize].lock().expect("not poisoned") = Instant::now();
	}

	/// Did all come round within this time?
	pub fn is_fresh(&self, within: Duration) -> bool {
		self.0.iter().all(|beat| beat.lock().expect("not poisoned").elapsed() < within)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn all_must_beat() {
		let (pulse, minute) = (Pulse::default(), Duration::from_secs(60));
		assert!(pulse.is_fresh(minute));
		for late in [Loop::Driver, Loop::Ldk, Loop::Events] {
			let long_ago = Instant::now().checked_sub(Duration::from_secs(90));
			*pulse.0[late as usize].lock().unwrap() = long_ago.unwrap();
			[Loop::Driver, Loop::Ldk, Loop::Events].into_iter().filter(|of| *of != late).for_each(|of| pulse.beat(of));
			assert!(!pulse.is_fresh(minute), "another's beat does not stand for that of {late:?}");
			pulse.beat(late);
			assert!(pulse.is_fresh(minute));
		}
	}
}
