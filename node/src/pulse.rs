//! Signs of life of the two loops that everything hangs on, for the watchdog.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// When the driver and LDK's loop last came round.
#[derive(Debug)]
pub struct Pulse {
	driver: Mutex<Instant>,
	ldk: Mutex<Instant>,
}

impl Default for Pulse {
	fn default() -> Self {
		Pulse { driver: Mutex::new(Instant::now()), ldk: Mutex::new(Instant::now()) }
	}
}

impl Pulse {
	/// The driver came round.
	pub fn driver(&self) {
		*self.driver.lock().expect("not poisoned") = Instant::now();
	}

	/// LDK's loop came round.
	pub fn ldk(&self) {
		*self.ldk.lock().expect("not poisoned") = Instant::now();
	}

	/// Did both come round within this time?
	pub fn is_fresh(&self, within: Duration) -> bool {
		[&self.driver, &self.ldk].into_iter().all(|beat| beat.lock().expect("not poisoned").elapsed() < within)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn both_must_beat() {
		let pulse = Pulse::default();
		assert!(pulse.is_fresh(Duration::from_secs(60)));
		let long_ago = Instant::now().checked_sub(Duration::from_secs(90));
		*pulse.ldk.lock().unwrap() = long_ago.unwrap();
		pulse.driver();
		assert!(!pulse.is_fresh(Duration::from_secs(60)), "the driver's beat does not stand for LDK's");
		pulse.ldk();
		assert!(pulse.is_fresh(Duration::from_secs(60)));
	}
}
