//! What the store has written, and what the disk has to bear.

use super::Operator;
use crate::control::{DiskStatus, Refusal, Storage, StoragePurpose};
use crate::disk::{Disk, written};
use inlet_storage::Stats;
use std::cmp::Reverse;

impl Operator {
	pub(super) async fn storage_now(&self) -> Result<Storage, Refusal> {
		let totals = self.store.ledger_totals().await.map_err(|e| Refusal::internal(e.to_string()))?;
		let (stats, disk) = (self.store.stats(), &self.hands.disk);
		let uptime_secs = self.started.elapsed().map_or(0, |up| up.as_secs());
		let waiting = self.hands.lightning.updates_waiting();
		Ok(storage(&stats, uptime_secs, disk.payments_since(&totals), waiting, disk))
	}

	pub(super) fn disk_now(&self) -> DiskStatus {
		let (stats, disk) = (self.store.stats(), &self.hands.disk);
		let wear = disk.wear();
		DiskStatus {
			written_bytes: written(&stats),
			syncs: stats.syncs,
			free_bytes: disk.space().free,
			today_bytes: disk.today(),
			card_bytes: wear.card_bytes,
			wear_ppm_a_year: wear.ppm_a_year,
			low: disk.is_low(),
		}
	}
}

fn storage(stats: &Stats, uptime_secs: u64, payments: u64, updates_waiting: u64, disk: &Disk) -> Storage {
	let (wear, space, written_bytes) = (disk.wear(), disk.space(), written(stats));
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
		updates_waiting,
		bytes_per_day: wear.bytes_per_day,
		payments,
		bytes_per_payment: written_bytes.checked_div(payments),
		card_bytes: wear.card_bytes,
		rated_bytes: wear.rated_bytes,
		wear_ppm_a_year: wear.ppm_a_year,
		free_bytes: space.free,
		low_water_bytes: disk.low_water(),
		reserve_bytes: space.reserve,
		purposes: purposes(stats),
	}
}

/// What it was for, most bytes first.
fn purposes(stats: &Stats) -> Vec<StoragePurpose> {
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
	purposes
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn what_took_most_comes_first() {
		let mut stats = Stats::default();
		(stats.recorded.monitors, stats.recorded.manager) = (5, 10);
		let names: Vec<_> = purposes(&stats).into_iter().map(|purpose| purpose.purpose).collect();
		assert_eq!(names[..2], ["manager", "monitors"]);
	}
}
