//! What block space costs: now, for each wish, lately, and in the long run. The node watches; what it saw comes in with
//! [`World`](crate::input::World).

use crate::money::FeePerKw;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Targets of which a backend's estimate is kept.
pub const MAX_TARGETS: usize = 32;
/// How far [`Recent`] looks back, in seconds.
pub const RECENT_SECS: u64 = 3600;
/// Looks that [`Recent`] keeps.
pub const MAX_RECENT: usize = 128;
/// The time constant of [`Average`], in seconds: 30 days.
pub const AVERAGE_SECS: u64 = 2_592_000;
/// However long nobody looked, one look counts for no more than this, in seconds: a day.
const MAX_GAP_SECS: u64 = 86_400;
/// bLIP-51 names a feerate by its target. The live one is for about six blocks; without an estimate of its own a hurry
/// costs twice that.
const USUAL_TARGET_BLOCKS: u16 = 6;

/// The market for block space, besides the live feerate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Market {
	/// Estimates by the number of blocks within which a transaction is mined, never rising with it. May be empty; at
	/// most [`MAX_TARGETS`].
	pub by_blocks: Vec<(u16, FeePerKw)>,
	/// What a transaction costs in the long run; `None` while nobody knows.
	pub long_run: Option<FeePerKw>,
	/// The lowest and the highest live feerate of the last [`RECENT_SECS`].
	pub lately: Option<(FeePerKw, FeePerKw)>,
}

impl Market {
	/// The feerate for a transaction to be mined within so many blocks, `live` being that for about six. Never below
	/// [`FeePerKw::FLOOR`].
	pub fn within(&self, live: FeePerKw, blocks: u16) -> FeePerKw {
		let own = self.by_blocks.iter().rev().find(|(target, _)| *target <= blocks).map(|(_, feerate)| *feerate);
		let rule = if blocks >= USUAL_TARGET_BLOCKS { live } else { FeePerKw(live.0.saturating_mul(2)) };
		// Estimates of one look agree with each other: what is as quick as the live one is not cheaper than it.
		let feerate = match own {
			Some(own) if blocks <= USUAL_TARGET_BLOCKS => own.max(live),
			Some(own) => own.min(live),
			None => rule,
		};
		feerate.max(FeePerKw::FLOOR)
	}

	/// What the far future costs: the long-run average, or the `live` feerate while there is none.
	pub fn far(&self, live: FeePerKw) -> FeePerKw {
		self.long_run.unwrap_or(live).max(FeePerKw::FLOOR)
	}

	/// How long a promise holds that holds `calm_secs` while the feerate stands still: the less, the more it has moved
	/// lately, and never less than `least_secs`.
	pub fn validity(&self, calm_secs: u64, least_secs: u64) -> u64 {
		let Some((low, high)) = self.lately else { return calm_secs };
		let share =
			calm_secs.saturating_mul(u64::from(low.0)).checked_div(u64::from(high.0.max(low.0))).unwrap_or(calm_secs);
		share.max(least_secs.min(calm_secs))
	}
}

/// A slow average of the feerate, kept for ever: the exponential filter with [`AVERAGE_SECS`] for its time constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Average {
	/// In thousandths of a satoshi per 1000 weight units.
	pub milli: u64,
	/// When it was last looked at.
	pub at: Timestamp,
}

impl Average {
	/// The first look.
	pub fn new(feerate: FeePerKw, at: Timestamp) -> Average {
		Average { milli: u64::from(feerate.0).saturating_mul(1000), at }
	}

	/// With one look more. Time that goes backwards changes nothing.
	#[must_use]
	pub fn with(self, feerate: FeePerKw, now: Timestamp) -> Average {
		let secs = now.0.saturating_sub(self.at.0) / 1000;
		if secs == 0 {
			return self;
		}
		let gap = secs.min(MAX_GAP_SECS);
		let (old, new) = (u128::from(self.milli), u128::from(feerate.0).saturating_mul(1000));
		let all = gap.saturating_add(AVERAGE_SECS);
		let sum = old.saturating_mul(AVERAGE_SECS.into()).saturating_add(new.saturating_mul(gap.into()));
		let milli = sum.div_ceil(u128::from(all));
		Average { milli: u64::try_from(milli).unwrap_or(u64::MAX), at: now }
	}

	/// In satoshis per 1000 weight units, rounded up.
	pub fn feerate(self) -> FeePerKw {
		FeePerKw(u32::try_from(self.milli.div_ceil(1000)).unwrap_or(u32::MAX))
	}
}

/// The looks of the last hour. In memory only: after a restart the feerate has not moved yet.
#[derive(Clone, Debug, Default)]
pub struct Recent(VecDeque<(Timestamp, FeePerKw)>);

impl Recent {
	/// One look more; forgets what is older than [`RECENT_SECS`].
	pub fn note(&mut self, feerate: FeePerKw, now: Timestamp) {
		while self.0.front().is_some_and(|(at, _)| at.plus_secs(RECENT_SECS) <= now) || self.0.len() >= MAX_RECENT {
			self.0.pop_front();
		}
		self.0.push_back((now, feerate));
	}

	/// The lowest and the highest.
	pub fn range(&self) -> Option<(FeePerKw, FeePerKw)> {
		let rates = || self.0.iter().map(|(_, feerate)| *feerate);
		Some((rates().min()?, rates().max()?))
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	const HOUR: u64 = 3600;

	#[test]
	fn r7_the_long_run_is_slow_and_gets_there() {
		let start = Timestamp(0);
		let mut average = Average::new(FeePerKw(1_000), start);
		for hour in 1..=24 {
			average = average.with(FeePerKw(75_000), start.plus_secs(hour * HOUR));
		}
		assert!(average.feerate() < FeePerKw(3_600), "a day of 300 sat/vB moves it little: {average:?}");
		for hour in 25..24 * 150 {
			average = average.with(FeePerKw(75_000), start.plus_secs(hour * HOUR));
		}
		assert!(average.feerate() > FeePerKw(74_000), "half a year of it does: {average:?}");
	}

	#[test]
	fn r7_a_node_that_was_off_for_a_year_does_not_take_one_look_for_a_year() {
		let average =
			Average::new(FeePerKw(1_000), Timestamp(0)).with(FeePerKw(75_000), Timestamp(0).plus_secs(31_536_000));
		assert!(average.feerate() < FeePerKw(3_600), "{average:?}");
		assert_eq!(average.with(FeePerKw(9), Timestamp(5)), average, "time that goes backwards");
	}

	#[test]
	fn r7_a_promise_is_shorter_when_fees_move() {
		let mut recent = Recent::default();
		let market = |recent: &Recent| Market { lately: recent.range(), ..Market::default() };
		recent.note(FeePerKw(1_000), Timestamp(0));
		assert_eq!(market(&recent).validity(3600, 600), 3600);
		recent.note(FeePerKw(2_000), Timestamp(0).plus_secs(60));
		assert_eq!(market(&recent).validity(3600, 600), 1800);
		recent.note(FeePerKw(50_000), Timestamp(0).plus_secs(120));
		assert_eq!(market(&recent).validity(3600, 600), 600, "never less than bLIP-52 asks for");
		recent.note(FeePerKw(50_000), Timestamp(0).plus_secs(2 * HOUR));
		assert_eq!(market(&recent).validity(3600, 600), 3600, "what is over an hour ago does not count");
		for second in 0..500 {
			recent.note(FeePerKw(1), Timestamp(0).plus_secs(3 * HOUR + second));
		}
		assert_eq!(recent.0.len(), MAX_RECENT);
	}

	#[test]
	fn r7_each_wish_has_its_feerate() {
		let live = FeePerKw(4_000);
		let none = Market::default();
		assert_eq!((none.within(live, 6), none.within(live, 5), none.within(live, 144)), (live, FeePerKw(8_000), live));
		let by_blocks = vec![(1, FeePerKw(9_000)), (6, FeePerKw(4_000)), (144, FeePerKw(100))];
		let market = Market { by_blocks, ..Market::default() };
		assert_eq!(market.within(live, 1), FeePerKw(9_000));
		assert_eq!(market.within(live, 143), FeePerKw(4_000));
		assert_eq!(market.within(live, 144), FeePerKw::FLOOR);
	}
}
