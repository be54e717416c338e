//! Points in time as the API writes them.

use chrono::{DateTime, SecondsFormat, Utc};
use inlet_lsp::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00Z; in JSON an RFC 3339 string in UTC, like `2026-01-31T10:02:11.020Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

/// 9999-12-31T23:59:59.999Z, the last time that RFC 3339 can write.
const LAST_MS: u64 = 253_402_300_799_999;

impl Time {
	/// The same point in time, for formatting; times after the year 9999 become its end.
	pub fn to_utc(self) -> DateTime<Utc> {
		let ms = i64::try_from(self.0.min(LAST_MS)).expect("checked to be small");
		DateTime::from_timestamp_millis(ms).expect("within chrono's range")
	}
}

impl fmt::Display for Time {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str(&self.to_utc().to_rfc3339_opts(SecondsFormat::Millis, true))
	}
}

impl From<Timestamp> for Time {
	fn from(at: Timestamp) -> Time {
		Time(at.0)
	}
}

impl From<SystemTime> for Time {
	fn from(at: SystemTime) -> Time {
		let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
		Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
	}
}

impl Serialize for Time {
	fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
		to.collect_str(self)
	}
}

impl<'de> Deserialize<'de> for Time {
	fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Time, D::Error> {
		let text = String::deserialize(from)?;
		let at = DateTime::parse_from_rfc3339(&text).map_err(de::Error::custom)?;
		u64::try_from(at.timestamp_millis()).map(Time).map_err(|_| de::Error::custom("a time before 1970"))
	}
}

#[cfg(test)]
impl schemars::JsonSchema for Time {
	fn schema_name() -> std::borrow::Cow<'static, str> {
		"Time".into()
	}

	fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
		schemars::json_schema!({ "type": "string", "format": "date-time", "description": "RFC 3339, in UTC." })
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn is_rfc_3339_in_utc_and_comes_back() {
		let text = serde_json::to_string(&Time(1_769_853_731_020)).unwrap();
		assert_eq!(text, "\"2026-01-31T10:02:11.020Z\"");
		assert_eq!(serde_json::from_str::<Time>(&text).unwrap(), Time(1_769_853_731_020));
		assert_eq!(serde_json::from_str::<Time>("\"2026-01-31T11:02:11.020+01:00\"").unwrap(), Time(1_769_853_731_020));
	}

	#[test]
	fn the_end_of_time_is_written_not_a_panic() {
		assert_eq!(Time(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
	}
}
