//! For how long payments are held, for the operator.

use super::Operator;
use crate::control::{ClientHolds, HoldBucket, HoldHistogram, HoldSummary, HoldTimes};
use crate::lightning::holds::{BUCKETS, Figures, Histogram};
use std::time::Duration;

fn millis(duration: Duration) -> u64 {
	u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn histogram(of: &Histogram) -> HoldHistogram {
	let mut so_far = 0;
	let buckets = BUCKETS.iter().zip(of.counts).map(|(secs, count)| {
		so_far += count;
		HoldBucket { secs: *secs, count: so_far }
	});
	HoldHistogram { buckets: buckets.collect(), count: of.count(), sum_ms: millis(of.sum), max_ms: millis(of.max) }
}

fn summary(of: &Histogram) -> HoldSummary {
	let count = of.count();
	HoldSummary { count, p50_ms: of.median().map(millis), max_ms: (count > 0).then(|| millis(of.max)) }
}

/// Of one client.
pub(super) fn of_client(figures: &Figures) -> ClientHolds {
	ClientHolds {
		now: figures.now,
		oldest_secs: figures.oldest.as_secs(),
		forwarded: summary(&figures.forwarded),
		intercepted: summary(&figures.intercepted),
	}
}

impl Operator {
	pub(super) fn holds_now(&self) -> HoldTimes {
		let all = self.hands.lightning.holds.all();
		HoldTimes {
			forwarded: histogram(&all.forwarded),
			intercepted: histogram(&all.intercepted),
			now: all.now,
			oldest_secs: all.oldest.as_secs(),
		}
	}
}
