//! Time as an argument: a point in time, never a clock.

use serde::{Deserialize, Serialize};
use std::fmt;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// bLIP-50's datetime.
const DATETIME: &[BorrowedFormatItem<'_>] =
	format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
/// 9999-12-31T23:59:59.999Z, the last that bLIP-50's datetime can name.
const LAST: u64 = 253_402_300_799_999;
const NANOS_PER_MILLI: i128 = 1_000_000;

/// Seconds for a block, where blocks stand for time (bLIP-51's datetimes).
pub const SECS_PER_BLOCK: u64 = 600;
/// A day in milliseconds.
pub const DAY_MS: u64 = 24 * HOUR_MS;
/// An hour in milliseconds.
pub const HOUR_MS: u64 = 3_600_000;

impl Timestamp {
	/// This many seconds later.
	pub fn plus_secs(self, secs: u64) -> Timestamp {
		Timestamp(self.0.saturating_add(secs.saturating_mul(1000)))
	}

	/// Reads an RFC 3339 datetime, with or without a fraction; `None` if it is none, lies before 1970, or is finer than
	/// a millisecond.
	pub fn parse(text: &str) -> Option<Timestamp> {
		let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
		if nanos.checked_rem(NANOS_PER_MILLI)? != 0 {
			return None;
		}
		u64::try_from(nanos.checked_div(NANOS_PER_MILLI)?).ok().map(Timestamp)
	}
}

/// bLIP-50's `YYYY-MM-DDThh:mm:ss.uuuZ`.
impl fmt::Display for Timestamp {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		let nanos = i128::from(self.0.min(LAST)).saturating_mul(NANOS_PER_MILLI);
		let moment = OffsetDateTime::from_unix_timestamp_nanos(nanos).map_err(|_| fmt::Error)?;
		f.write_str(&moment.format(DATETIME).map_err(|_| fmt::Error)?)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn l0_19_datetimes_have_three_digits_and_a_z() {
		assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
		assert_eq!(Timestamp(1_677_141_450_511).to_string(), "2023-02-23T08:37:30.511Z");
		assert_eq!(Timestamp(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
	}

	#[test]
	fn l0_19_datetimes_are_read_with_any_offset_and_fraction() {
		for text in ["2023-02-23T08:37:30.511Z", "2023-02-23T08:37:30.511000+00:00", "2023-02-23T09:37:30.511+01:00"] {
			assert_eq!(Timestamp::parse(text), Some(Timestamp(1_677_141_450_511)), "{text}");
		}
		assert_eq!(Timestamp::parse("2023-02-23T08:37:30Z"), Some(Timestamp(1_677_141_450_000)));
		for text in ["", "2023-02-23", "1969-12-31T23:59:59.999Z", "2023-02-23T08:37:30.5111Z", "2023-02-30T00:00:00Z"]
		{
			assert_eq!(Timestamp::parse(text), None, "{text}");
		}
	}
}
