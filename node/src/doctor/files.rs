//! What is around the store: directory, seed, clock, room.

use super::Findings;
use crate::config::Config;
use crate::run::STORE_FILE;
use crate::seed::{FILE_NAME, Seed};
use inlet_storage::free_bytes;
use std::fs::metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2026-01-01: this program is younger than that. A machine without a clock of its own starts long before.
const BUILT_AFTER: Duration = Duration::from_secs(1_767_225_600);

/// Is the data directory there, and its owner's only?
pub(super) fn directory(findings: &mut Findings, dir: &Path) {
	let shown = dir.display();
	match metadata(dir) {
		Err(e) => {
			findings.bad("directory", format!("{shown}: {e}"), "name the right one with --data-dir, or mount its disk")
		}
		Ok(found) if found.mode() & 0o077 != 0 => findings.bad(
			"directory",
			format!("{shown} is open to other users (mode {:04o})", found.mode() & 0o7777),
			format!("close it: chmod 700 {shown}"),
		),
		Ok(_) => findings.ok("directory", format!("{shown} is its owner's only")),
	}
}

/// Are there 24 words, and nobody else's to read?
pub(super) fn seed(findings: &mut Findings, dir: &Path) {
	match Seed::load(&dir.join(FILE_NAME)) {
		Ok(_) => findings.ok("seed", "24 words with a right checksum, readable by their owner only"),
		Err(e) => findings.bad("seed", e.to_string(), "write the 24 words that you wrote down into it, mode 0600"),
	}
}

/// Could this be the time?
pub(super) fn clock(findings: &mut Findings, now: SystemTime) {
	match now.duration_since(UNIX_EPOCH) {
		Ok(since) if since >= BUILT_AFTER => findings.ok("clock", "it is later than this program"),
		_ => findings.bad(
			"clock",
			"the clock is far behind",
			"set the time (timedatectl), and let it be kept by NTP: prices and payments run out by it",
		),
	}
}

/// The reserve's file.
fn reserve_file(dir: &Path) -> PathBuf {
	dir.join(format!("{STORE_FILE}.reserve"))
}

/// Is there room, and the reserve?
pub(super) fn room(findings: &mut Findings, config: &Config) {
	let (dir, storage) = (&config.place.data_dir, &config.storage);
	let mb = |bytes: u64| bytes / 1_000_000;
	match free_bytes(dir) {
		None => findings.warn("disk", "the system does not tell how much room there is", "watch it yourself"),
		Some(free) if free < storage.low_water_bytes => findings.warn(
			"disk",
			format!("{} MB are free, less than the low-water mark of {} MB", mb(free), mb(storage.low_water_bytes)),
			"free space on the disk, or move the data directory to a larger one: nothing new is sold",
		),
		Some(free) => findings.ok("disk", format!("{} MB are free", mb(free))),
	}
	let there = metadata(reserve_file(dir)).map_or(0, |found| found.len());
	match storage.reserve_bytes {
		0 => findings.ok("reserve", "none is wanted (storage.reserve_mb)"),
		wanted if there == wanted => findings.ok("reserve", format!("{} MB are kept back", mb(there))),
		wanted => findings.warn(
			"reserve",
			format!("{} of {} MB are kept back", mb(there), mb(wanted)),
			"free space on the disk: the node makes it anew when there is room",
		),
	}
}
