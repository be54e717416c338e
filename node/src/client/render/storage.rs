//! What was written to the disk.

use super::table::{Column::*, Table, pairs};
use super::{Style, bytes, duration, number, percent, plural};
use crate::control::Storage;

const TB: u128 = 1_000_000_000_000;
const DAYS_A_YEAR: u128 = 365;

/// `rated_tbw`: what the disk is rated for, in terabytes.
pub(in crate::client) fn storage(s: &Storage, rated_tbw: Option<u32>, style: &Style) -> String {
	let mut table = Table::new([("FOR", Left), ("ASKED", Right), ("RECORDED", Right)]);
	for purpose in &s.purposes {
		table.row([purpose.purpose.clone(), bytes(purpose.asked_bytes), bytes(purpose.recorded_bytes)]);
	}
	let parts = format!("{} to the log, up to {} to the database", bytes(s.log_bytes), bytes(s.checkpoint_bytes));
	let wear = rated_tbw.filter(|tb| *tb > 0).map(|tb| {
		match u128::from(tb) * TB / u128::from(s.bytes_per_day.max(1)) / DAYS_A_YEAR {
			0 => format!("a disk rated for {tb} TB would be worn out within a year"),
			years => {
				format!(
					"a disk rated for {tb} TB would last {} years, were it for this alone",
					number(years_shown(years))
				)
			}
		}
	});
	let summary = pairs([
		("written", Some(format!("{} in {} ({parts})", bytes(s.written_bytes), duration(s.uptime_secs)))),
		("syncs", Some(format!("{} for {}", number(s.syncs), plural(s.batches, "transaction")))),
		("a day", Some(bytes(s.bytes_per_day))),
		("payments", Some(payments(s))),
		("wear", Some(wear.unwrap_or_else(|| configured(s)))),
		("free", Some(free(s, style))),
		(
			"reserve",
			Some(match s.reserve_bytes {
				0 => "none: given up on a full disk, not possible here, or not wanted (storage.reserve_mb)".to_owned(),
				there => format!("{}, for when the disk is full", bytes(there)),
			}),
		),
	]);
	summary + "\n\n" + &table.page(None, "nothing was written")
}

fn payments(s: &Storage) -> String {
	match s.bytes_per_payment {
		Some(each) => format!("{}, {} for each", number(s.payments), bytes(each)),
		None => "none yet".to_owned(),
	}
}

/// What the configuration says of the card, or what is assumed of it.
fn configured(s: &Storage) -> String {
	let (card, rated) = (bytes(s.card_bytes), bytes(s.rated_bytes));
	format!("{} of the life of a card of {card} in a year, taken to bear {rated}", percent(s.wear_ppm_a_year))
}

fn free(s: &Storage, style: &Style) -> String {
	let mark = format!("nothing new is sold below {}", bytes(s.low_water_bytes));
	match s.free_bytes {
		Some(free) if free < s.low_water_bytes => style.warn(&format!("{}: {mark}", bytes(free))),
		Some(free) => format!("{} ({mark})", bytes(free)),
		None => "not known".to_owned(),
	}
}

/// More than anyone waits for is shown as that.
fn years_shown(years: u128) -> u64 {
	u64::try_from(years.min(1000)).unwrap_or(1000)
}
