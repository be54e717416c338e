//! Time as an argument: a point in time, never a clock.

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
	/// This many seconds later.
	pub fn plus_secs(self, secs: u64) -> Timestamp {
		Timestamp(self.0.saturating_add(secs.saturating_mul(1000)))
	}
}
