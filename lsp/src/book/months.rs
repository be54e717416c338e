//! Months of the calendar, UTC, and what capital was in channels in each.

use super::Books;
use crate::time::{DAY_MS, Timestamp};

/// `2026-11`: the month of a moment, UTC (Howard Hinnant's civil-from-days).
pub fn month_of(at: Timestamp) -> String {
	let days = i64::try_from(at.0 / DAY_MS).unwrap_or(0).saturating_add(719_468);
	let era_day = days.rem_euclid(146_097);
	let year_of_era =
		(era_day.saturating_sub(era_day / 1_460).saturating_add(era_day / 36_524).saturating_sub(era_day / 146_096))
			/ 365;
	let past = year_of_era.saturating_mul(365).saturating_add(year_of_era / 4).saturating_sub(year_of_era / 100);
	let month = era_day.saturating_sub(past).saturating_mul(5).saturating_add(2) / 153;
	let year = year_of_era.saturating_add((days.div_euclid(146_097)).saturating_mul(400));
	let (year, month) =
		if month < 10 { (year, month.saturating_add(3)) } else { (year.saturating_add(1), month.saturating_sub(9)) };
	format!("{year:04}-{month:02}")
}

/// So many months before a month; the first of all, if there are not so many.
pub(crate) fn months_before(month: &str, count: u32) -> String {
	let (year, number) = month.split_once('-').unwrap_or((month, "1"));
	let (year, number): (u32, u32) = (year.parse().unwrap_or(0), number.parse().unwrap_or(1));
	let months = year.saturating_mul(12).saturating_add(number).saturating_sub(1).saturating_sub(count);
	format!("{:04}-{:02}", months / 12, (months % 12).saturating_add(1))
}

/// The first moment of the next month.
pub(super) fn next_month(at: Timestamp) -> Timestamp {
	let name = month_of(at);
	let first = (at.0 / DAY_MS).saturating_add(1);
	let days = (first..first.saturating_add(31)).map(|day| Timestamp(day.saturating_mul(DAY_MS)));
	days.into_iter().find(|day| month_of(*day) != name).unwrap_or(Timestamp(u64::MAX))
}

/// The first moment of the month of this one.
fn first_of(at: Timestamp) -> Timestamp {
	let name = month_of(at);
	let today = at.0 / DAY_MS;
	let days = (0..31).map(|back| Timestamp(today.saturating_sub(back).saturating_mul(DAY_MS)));
	days.take_while(|day| month_of(*day) == name).last().unwrap_or(at)
}

/// The seconds from one moment to another, by month.
pub(super) fn split(from: Timestamp, to: Timestamp) -> Vec<(String, u64)> {
	let (mut at, mut parts) = (from, Vec::new());
	while at < to {
		let end = next_month(at).min(to);
		parts.push((month_of(at), end.0.saturating_sub(at.0) / 1000));
		at = end;
	}
	parts
}

impl Books {
	/// The capital that was in channels in this month until `now`, in satoshi-days, rounded down.
	pub fn month_sat_days(&self, month: &str, now: Timestamp) -> u64 {
		let known = self.months.get(month).map_or(0, |sums| sums.sat_secs);
		let since = self.channels.values().filter(|sums| sums.since < now).flat_map(|sums| sums.since_last(now));
		let since = since.filter(|(name, _)| name == month).map(|(_, sat_secs)| sat_secs);
		since.fold(known, u64::saturating_add) / 86_400
	}

	/// How many whole days of the month of this moment the books have seen until `now`.
	pub fn days_seen(&self, in_month: Timestamp, now: Timestamp) -> u64 {
		let opened = self.state().map_or(Timestamp(u64::MAX), |state| state.opened_at);
		let (from, to) = (first_of(in_month).max(opened), next_month(in_month).min(now));
		to.0.saturating_sub(from.0) / DAY_MS
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn months_are_those_of_the_calendar() {
		let of = |text: &str| month_of(Timestamp::parse(text).unwrap());
		assert_eq!(month_of(Timestamp(0)), "1970-01");
		assert_eq!(of("2024-02-29T23:59:59.999Z"), "2024-02");
		assert_eq!(of("2024-03-01T00:00:00.000Z"), "2024-03");
		assert_eq!(of("2026-12-31T23:59:59.999Z"), "2026-12");
		assert_eq!(of("2027-01-01T00:00:00.000Z"), "2027-01");
	}

	#[test]
	fn months_are_counted_back_over_the_turn_of_the_year() {
		assert_eq!(months_before("2026-03", 0), "2026-03");
		assert_eq!(months_before("2026-03", 2), "2026-01");
		assert_eq!(months_before("2026-03", 3), "2025-12");
		assert_eq!(months_before("2026-12", 24), "2024-12");
		assert_eq!(months_before("2026-12", 1_200), "1926-12");
		assert_eq!(months_before("2026-12", u32::MAX), "0000-01");
	}

	#[test]
	fn a_span_is_split_where_months_begin() {
		let of = |text: &str| Timestamp::parse(text).unwrap();
		let parts = split(of("2026-01-31T23:00:00.000Z"), of("2026-03-01T00:00:10.000Z"));
		let named = |name: &str, secs| (name.to_owned(), secs);
		assert_eq!(parts, [named("2026-01", 3_600), named("2026-02", 28 * 86_400), named("2026-03", 10)]);
		assert_eq!(split(of("2026-01-31T23:00:00.000Z"), of("2026-01-31T23:00:00.000Z")), []);
		assert_eq!(first_of(of("2028-02-29T13:00:00.000Z")), of("2028-02-01T00:00:00.000Z"));
		assert_eq!(next_month(of("2026-12-31T23:59:59.999Z")), of("2027-01-01T00:00:00.000Z"));
	}
}
