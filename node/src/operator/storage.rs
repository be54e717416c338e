//! What the store has written.

use super::Operator;
use crate::control::{Storage, StoragePurpose};
use inlet_storage::Stats;
use std::cmp::Reverse;

const DAY_SECS: u64 = 86_400;

impl Operator {
	pub(super) fn storage_now(&self) -> Storage {
		storage(&self.store.stats(), self.started.elapsed().map_or(0, |up| up.as_secs()))
	}
}

fn storage(stats: &Stats, uptime_secs: u64) -> Storage {
	let written_bytes = stats.log_bytes + stats.checkpoint_bytes_at_most;
	let per_day = u128::from(written_bytes) * u128::from(DAY_SECS) / u128::from(uptime_secs.max(1));
	let (asked, recorded) = (&stats.bytes, &stats.recorded);
	let mut purposes: Vec<_> = [
		("manager", asked.manager, recorded.manager),
		("monitors", asked.monitors, recorded.monitors),
		("graph", asked.graph, recorded.graph),
		("scorer", asked.scorer, recorded.scorer),
		("wallet", asked.wallet, asked.wallet),
		("book", asked.book, asked.book),
		("other", asked.other, recorded.other),
	]
	.into_iter()
	.map(|(purpose, asked_bytes, recorded_bytes)| StoragePurpose {
		purpose: purpose.to_owned(),
		asked_bytes,
		recorded_bytes,
	})
	.collect();
	purposes.sort_by_key(|purpose| Reverse(purpose.recorded_bytes));
	Storage {
		uptime_secs,
		written_bytes,
		log_bytes: stats.log_bytes,
		checkpoint_bytes: stats.checkpoint_bytes_at_most,
		syncs: stats.syncs,
		batches: stats.batches,
		checkpoints: stats.checkpoints,
		queued_bytes: stats.queued_bytes,
		queued_bytes_peak: stats.queued_bytes_peak,
		bytes_per_day: u64::try_from(per_day).unwrap_or(u64::MAX),
		purposes,
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_day_is_reckoned_from_what_was() {
		let mut stats = Stats::default();
		(stats.log_bytes, stats.checkpoint_bytes_at_most, stats.recorded.manager) = (600, 300, 10);
		assert_eq!(storage(&stats, 1800).bytes_per_day, 900 * 48);
		assert_eq!(storage(&stats, 0).bytes_per_day, 900 * 86_400, "just started");
		assert_eq!(storage(&stats, 1800).purposes[0].purpose, "manager");
	}
}
