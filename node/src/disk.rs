//! The disk: is there room, and what does it have to bear?
//!
//! Below the low-water mark nothing new is sold. What was sold, and every payment under way, goes on, on the room that is left
//! and then on the store's reserve.

use crate::config::StorageConfig;
use crate::control::{EventKind, Events};
use crate::stop::stopped;
use inlet_lsp::book::EntryKind;
use inlet_storage::{LedgerTotal, Space, Stats, Store};
use rustix::fs::statvfs;
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// How often the disk is looked at when nothing is sold.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Room is enough again when there is so much more of it than the mark (one part of so many): it is not to go to and fro.
const MARGIN: u64 = 8;
/// How often a cheap card can be written over: a tenth of what its cells are good for, as the card writes more than it is told
/// to when writes are small.
const OVERWRITES: u64 = 100;
const DAY_SECS: u64 = 86_400;
const DAYS_A_YEAR: u128 = 365;
const MILLION: u128 = 1_000_000;

/// The disk of a running node.
pub struct Disk {
	store: Store,
	dir: PathBuf,
	config: StorageConfig,
	started: SystemTime,
	/// Payments in the ledger when the node started.
	payments_before: u64,
	low: AtomicBool,
	/// The day, and what had been written when it began (or the node).
	day: Mutex<(u64, u64)>,
}

/// What the disk has to bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wear {
	/// Bytes of the card.
	pub card_bytes: u64,
	/// Bytes that can be written to it before it is worn out.
	pub rated_bytes: u64,
	/// Bytes a day, at the rate since the start.
	pub bytes_per_day: u64,
	/// Millionths of its life that a year takes.
	pub ppm_a_year: u64,
}

/// Bytes that a store has written since it was opened.
pub fn written(stats: &Stats) -> u64 {
	stats.log_bytes + stats.checkpoint_bytes_at_most
}

/// Payments that earned something: forwarded, or brought a channel with them.
pub fn payments(totals: &[LedgerTotal]) -> u64 {
	let kinds = [EntryKind::RoutingFee, EntryKind::JitFee];
	totals.iter().filter(|total| kinds.contains(&total.kind)).map(|total| total.entries).sum()
}

impl Disk {
	/// Of a node whose store is in `dir`, and whose ledger added up to `totals` when it started.
	pub fn new(store: Store, dir: PathBuf, config: StorageConfig, totals: &[LedgerTotal]) -> Disk {
		let payments_before = payments(totals);
		let (started, day) = (SystemTime::now(), Mutex::new((0, 0)));
		Disk { store, dir, config, started, payments_before, low: AtomicBool::new(false), day }
	}

	/// Is there so little room that nothing new may be sold? Looks at the disk.
	pub fn is_low(&self) -> bool {
		let low = is_low(&self.store.space(), &self.config, self.low.load(Ordering::Relaxed));
		self.low.store(low, Ordering::Relaxed);
		low
	}

	/// Room, as it is now.
	pub fn space(&self) -> Space {
		self.store.space()
	}

	/// The low-water mark, in bytes.
	pub fn low_water(&self) -> u64 {
		self.config.low_water_bytes
	}

	/// Bytes written since midnight UTC, or since the start, if that was later.
	pub fn today(&self) -> u64 {
		let now = written(&self.store.stats());
		let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / DAY_SECS;
		let mut day = self.day.lock().unwrap_or_else(PoisonError::into_inner);
		match day.0 {
			// Written while starting: that was today.
			0 => *day = (today, 0),
			known if known != today => *day = (today, now),
			_ => {}
		}
		now.saturating_sub(day.1)
	}

	/// Payments since the start, as of a ledger that adds up to `totals`.
	pub fn payments_since(&self, totals: &[LedgerTotal]) -> u64 {
		payments(totals).saturating_sub(self.payments_before)
	}

	/// What the card has to bear.
	pub fn wear(&self) -> Wear {
		let card = match self.config.card_bytes {
			0 => statvfs(&self.dir).map_or(0, |stat| stat.f_blocks.saturating_mul(stat.f_frsize)),
			bytes => bytes,
		};
		let up = self.started.elapsed().map_or(0, |up| up.as_secs());
		wear(written(&self.store.stats()), up, card, self.config.rated_bytes)
	}

	/// Looks at the disk until the node stops: tells when room becomes short and when it is there again, and makes the reserve
	/// whenever there is room for it.
	pub async fn watch(self: Arc<Disk>, events: Arc<Events>, mut stop: watch::Receiver<bool>) {
		let (mut told, mut complained) = (false, false);
		loop {
			let (store, bytes) = (self.store.clone(), self.config.reserve_bytes);
			let made = tokio::task::spawn_blocking(move || store.keep_reserve(bytes)).await;
			if let Ok(Err(e)) = made {
				if !complained {
					tracing::warn!(target: "inlet", "the reserve beside the store cannot be made: {e}");
				}
				complained = true;
			}
			let low = self.is_low();
			self.today();
			if low != told {
				told = low;
				self.tell(&events, low);
			}
			tokio::select! {
				() = stopped(&mut stop) => return,
				() = tokio::time::sleep(LOOK_EVERY) => {},
			}
		}
	}

	fn tell(&self, events: &Events, low: bool) {
		let text = match low {
			true => self.complaint(),
			false => "over: there is room on the disk again".to_owned(),
		};
		match low {
			true => tracing::warn!(target: "inlet", "{text}"),
			false => tracing::info!(target: "inlet", "{text}"),
		}
		let data = json!({ "code": "disk_low", "over": !low });
		events.publish(SystemTime::now().into(), EventKind::Warning, Some("disk".to_owned()), text, data);
	}

	/// What to say when there is too little room.
	pub fn complaint(&self) -> String {
		let space = self.space();
		let mb = |bytes: u64| bytes / 1_000_000;
		let free = space.free.map_or("little".to_owned(), |free| format!("{} MB", mb(free)));
		let gone = if space.reserve == 0 && self.config.reserve_bytes > 0 { " and the reserve is in use" } else { "" };
		let mark = mb(self.config.low_water_bytes);
		format!("{free} are free on the disk (low-water mark {mark} MB){gone}: nothing new is sold")
	}
}

/// With some distance between going low and going back. A reserve that is missing although there is room for it says nothing:
/// not every file system can keep one.
fn is_low(space: &Space, config: &StorageConfig, was: bool) -> bool {
	let mark = config.low_water_bytes;
	let enough = if was { mark.saturating_add(mark / MARGIN) } else { mark };
	space.free.is_some_and(|free| free < enough)
}

fn wear(written: u64, up_secs: u64, card_bytes: u64, rated: u64) -> Wear {
	let rated_bytes = if rated == 0 { card_bytes.saturating_mul(OVERWRITES) } else { rated };
	let bytes_per_day = u128::from(written) * u128::from(DAY_SECS) / u128::from(up_secs.max(1));
	let ppm = bytes_per_day * DAYS_A_YEAR * MILLION / u128::from(rated_bytes.max(1));
	let fit = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
	Wear { card_bytes, rated_bytes, bytes_per_day: fit(bytes_per_day), ppm_a_year: fit(ppm) }
}

#[cfg(test)]
mod tests {
	use super::*;

	const CONFIG: StorageConfig =
		StorageConfig { low_water_bytes: 800, reserve_bytes: 100, card_bytes: 0, rated_bytes: 0 };

	#[test]
	fn r13_low_is_low_until_there_is_clearly_more() {
		let low = |free, was| is_low(&Space { free: Some(free), reserve: 0 }, &CONFIG, was);
		assert!(!low(800, false) && low(799, false));
		assert!(low(800, true) && low(899, true) && !low(900, true));
		assert!(!is_low(&Space { free: None, reserve: 0 }, &CONFIG, true), "a system that does not tell stops nothing");
		assert!(!is_low(&Space { free: Some(0), reserve: 0 }, &StorageConfig { low_water_bytes: 0, ..CONFIG }, false));
	}

	#[test]
	fn wear_is_a_share_of_what_the_card_is_rated_for() {
		// 41 MB a day onto a card of 32 GB that can be written over a hundred times.
		let wear_of = wear(41_000_000, DAY_SECS, 32_000_000_000, 0);
		assert_eq!(wear_of.rated_bytes, 3_200_000_000_000);
		assert_eq!((wear_of.bytes_per_day, wear_of.ppm_a_year), (41_000_000, 4_676));
		assert_eq!(wear(41_000_000, DAY_SECS, 32_000_000_000, 40_000_000_000_000).ppm_a_year, 374);
		assert_eq!(wear(1, 0, 0, 0).bytes_per_day, DAY_SECS, "just started, of a card that is not known");
	}
}
