//! Amounts with their unit in the type and their rounding in the name.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Thousandths of a satoshi.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Msat(pub u64);

/// Satoshis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sat(pub u64);

/// Parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ppm(pub u32);

/// Satoshis per 1000 weight units, LDK's and BOLT 2's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeePerKw(pub u32);

impl Msat {
	/// Zero.
	pub const ZERO: Msat = Msat(0);

	/// `self + other`, `None` on overflow.
	pub fn checked_add(self, other: Msat) -> Option<Msat> {
		self.0.checked_add(other.0).map(Msat)
	}

	/// `self - other`, `None` if that is below zero.
	pub fn checked_sub(self, other: Msat) -> Option<Msat> {
		self.0.checked_sub(other.0).map(Msat)
	}

	/// Whole satoshis, rounded down.
	pub fn to_sat_floor(self) -> Sat {
		Sat(self.0 / 1000)
	}

	/// Whole satoshis, rounded up.
	pub fn to_sat_ceil(self) -> Sat {
		Sat(self.0.div_ceil(1000))
	}
}

impl Sat {
	/// Zero.
	pub const ZERO: Sat = Sat(0);

	/// `self + other`, `None` on overflow.
	pub fn checked_add(self, other: Sat) -> Option<Sat> {
		self.0.checked_add(other.0).map(Sat)
	}

	/// `self - other`, `None` if that is below zero.
	pub fn checked_sub(self, other: Sat) -> Option<Sat> {
		self.0.checked_sub(other.0).map(Sat)
	}

	/// `self - other`, zero if that is below zero.
	pub fn saturating_sub(self, other: Sat) -> Sat {
		Sat(self.0.saturating_sub(other.0))
	}

	/// `self + other`, the largest value on overflow.
	pub fn saturating_add(self, other: Sat) -> Sat {
		Sat(self.0.saturating_add(other.0))
	}

	/// The same amount in millisatoshis, `None` on overflow.
	pub fn to_msat(self) -> Option<Msat> {
		self.0.checked_mul(1000).map(Msat)
	}
}

impl Ppm {
	/// This share of `amount`, rounded up to a whole satoshi; the largest value on overflow.
	pub fn of_sat_ceil(self, amount: Sat) -> Sat {
		let product = u128::from(amount.0).saturating_mul(u128::from(self.0));
		Sat(u64::try_from(product.div_ceil(1_000_000)).unwrap_or(u64::MAX))
	}

	/// This share of `amount`, rounded up to a whole millisatoshi; `None` where bLIP-52's u64 arithmetic overflows.
	pub fn of_msat_ceil(self, amount: Msat) -> Option<Msat> {
		let product = amount.0.checked_mul(u64::from(self.0))?;
		Some(Msat(product.checked_add(999_999)? / 1_000_000))
	}
}

impl FeePerKw {
	/// The lowest feerate that nodes relay: 1 sat/vB, as Bitcoin Core rounds it.
	pub const FLOOR: FeePerKw = FeePerKw(253);

	/// What `weight` units cost at this feerate, rounded up to a whole satoshi.
	pub fn cost_ceil(self, weight: u64) -> Sat {
		Sat(u64::from(self.0).saturating_mul(weight).div_ceil(1000))
	}

	/// Satoshis per virtual byte, rounded up (for people to read).
	pub fn to_sat_per_vb_ceil(self) -> u64 {
		u64::from(self.0).div_ceil(250)
	}
}

impl fmt::Display for Msat {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "{} msat", self.0)
	}
}

impl fmt::Display for Sat {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "{} sat", self.0)
	}
}
