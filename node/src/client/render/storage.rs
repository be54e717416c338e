//! What was written to the disk.

use super::table::{Column::*, Table, pairs};
use super::{Style, bytes, duration, number, plural};
use crate::control::Storage;

const TB: u128 = 1_000_000_000_000;
const DAYS_A_YEAR: u128 = 365;

/// `rated_tbw`: what the disk is rated for, in terabytes.
pub(in crate::client) fn storage(s: &Storage, rated_tbw: Option<u32>, _: &Style) -> String {
	let mut table = Table::new([("FOR", Left), ("ASKED", Right), ("RECORDED", Right)]);
	for purpose in &s.purposes {
		table.row([purpose.purpose.clone(), bytes(purpose.asked_bytes), bytes(purpose.recorded_bytes)]);
	}
	let parts = format!("{} to the log, up to {} to the database", bytes(s.log_bytes), bytes(s.checkpoint_bytes));
	let wear = rated_tbw.map(|tb| match u128::from(tb) * TB / u128::from(s.bytes_per_day.max(1)) / DAYS_A_YEAR {
		0 => format!("a disk rated for {tb} TB would be worn out within a year"),
		years => {
			format!("a disk rated for {tb} TB would last {} years, were it for this alone", number(years_shown(years)))
		}
	});
	let summary = pairs([
		("written", Some(format!("{} in {} ({parts})", bytes(s.written_bytes), duration(s.uptime_secs)))),
		("syncs", Some(format!("{} for {}", number(s.syncs), plural(s.batches, "transaction")))),
		("a day", Some(bytes(s.bytes_per_day))),
		("wear", wear),
	]);
	summary + "\n\n" + &table.page(None, "nothing was written")
}

/// More than anyone waits for is shown as that.
fn years_shown(years: u128) -> u64 {
	u64::try_from(years.min(1000)).unwrap_or(1000)
}
