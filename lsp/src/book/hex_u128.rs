//! A u128 as 32 hexadecimal digits: JSON numbers of that size are lost on most readers.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Writes 32 digits.
pub(super) fn serialize<S: Serializer>(value: &u128, to: S) -> Result<S::Ok, S::Error> {
	to.serialize_str(&format!("{value:032x}"))
}

/// Reads up to 32 digits.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
	let text = String::deserialize(from)?;
	u128::from_str_radix(&text, 16).map_err(D::Error::custom)
}

/// A list of them.
pub(super) mod list {
	use serde::{Deserialize, Deserializer, Serializer, de::Error};

	pub(in crate::book) fn serialize<S: Serializer>(values: &[u128], to: S) -> Result<S::Ok, S::Error> {
		to.collect_seq(values.iter().map(|value| format!("{value:032x}")))
	}

	pub(in crate::book) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u128>, D::Error> {
		let texts = Vec::<String>::deserialize(from)?;
		texts.iter().map(|text| u128::from_str_radix(text, 16).map_err(D::Error::custom)).collect()
	}
}
