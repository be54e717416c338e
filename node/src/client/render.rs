//! Answers for people.
//!
//! Within 100 columns; amounts in satoshis with separators; times local on a terminal; ids shortened to a prefix that the
//! commands take.

mod backup;
mod channels;
mod clients;
mod doctor;
mod lsp;
mod node;
mod payments;
mod storage;
mod table;
mod wallet;

pub(super) use backup::*;
pub(super) use channels::*;
pub(super) use clients::*;
pub(super) use doctor::*;
pub(super) use lsp::*;
pub(super) use node::*;
pub(super) use payments::*;
pub(super) use storage::*;
pub(super) use wallet::*;

use crate::control::Time;
use chrono::Local;
use serde_json::Value;

/// Columns of a table at most.
const WIDTH: usize = 100;
/// Characters of an id in a table.
const ID_PREFIX: usize = 12;

/// How answers look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
	/// In which zone times are shown.
	pub zone: Zone,
	/// May colours be used?
	pub color: bool,
	/// Now, for ages.
	pub now: Time,
}

/// A time zone.
#[derive(Clone, Copy, Debug)]
pub(super) enum Zone {
	/// The system's.
	Local,
	/// For tests that want to know the answer.
	#[cfg(test)]
	Utc,
}

impl Style {
	fn format(&self, at: Time, format: &str) -> String {
		match self.zone {
			Zone::Local => at.to_utc().with_timezone(&Local).format(format).to_string(),
			#[cfg(test)]
			Zone::Utc => at.to_utc().format(format).to_string(),
		}
	}

	/// `2026-01-31 10:02:11`
	fn full(&self, at: Time) -> String {
		self.format(at, "%Y-%m-%d %H:%M:%S")
	}

	/// `01-31 10:02:11`
	fn short(&self, at: Time) -> String {
		self.format(at, "%m-%d %H:%M:%S")
	}

	/// `10:02:11.020`
	fn clock(&self, at: Time) -> String {
		self.format(at, "%H:%M:%S%.3f")
	}

	/// `2026-01-31`
	fn day(&self, at: Time) -> String {
		self.format(at, "%Y-%m-%d")
	}

	/// `38 s ago`
	fn ago(&self, at: Time) -> String {
		format!("{} ago", duration(self.now.0.saturating_sub(at.0) / 1000))
	}

	fn warn(&self, text: &str) -> String {
		if self.color { format!("\x1b[33m{text}\x1b[0m") } else { text.to_owned() }
	}
}

/// In its largest whole unit: `38 s`, `5 min`, `3 h`, `12 d`.
fn duration(secs: u64) -> String {
	match secs {
		0..120 => format!("{secs} s"),
		120..7_200 => format!("{} min", secs / 60),
		7_200..172_800 => format!("{} h", secs / 3_600),
		_ => format!("{} d", secs / 86_400),
	}
}

/// Of millionths, in at most two digits: `0.01 %`, `3 %`.
fn percent(ppm: u64) -> String {
	match ppm {
		0..50 => "less than 0.01 %".to_owned(),
		50..1_000 => format!("0.{:02} %", (ppm + 50) / 100),
		1_000..10_000 => format!("0.{} %", ((ppm + 500) / 1_000).min(9)),
		_ => format!("{} %", number((ppm + 5_000) / 10_000)),
	}
}

/// `1,204,311`
fn number(n: u64) -> String {
	let digits = n.to_string();
	let mut grouped = String::new();
	for (at, digit) in digits.chars().enumerate() {
		if at > 0 && (digits.len() - at).is_multiple_of(3) {
			grouped.push(',');
		}
		grouped.push(digit);
	}
	grouped
}

/// Millisatoshis in satoshis, exact: `250,000`, `1.234`.
fn msat(n: u64) -> String {
	match n % 1000 {
		0 => number(n / 1000),
		rest => format!("{}.{rest:03}", number(n / 1000)),
	}
}

/// Millisatoshis in satoshis, rounded down, where a fraction would only distract.
fn msat_floor(n: u64) -> String {
	number(n / 1000)
}

/// With its sign: `+1,840`, `-0.5`.
fn signed_msat(n: i64) -> String {
	format!("{}{}", if n < 0 { '-' } else { '+' }, msat(n.unsigned_abs()))
}

/// `61` or `1.01`, in sat/vB.
fn feerate(sat_per_kw: u32) -> String {
	let text = format!("{:.2}", f64::from(sat_per_kw) / 250.0);
	text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `12.4 GB`
fn bytes(n: u64) -> String {
	match n {
		0..1_000 => format!("{n} B"),
		1_000..1_000_000 => format!("{} kB", n / 1_000),
		1_000_000..1_000_000_000 => format!("{} MB", n / 1_000_000),
		_ => format!("{}.{} GB", n / 1_000_000_000, n / 100_000_000 % 10),
	}
}

/// `channel`, `channels`: by how many there are.
fn plural(n: u64, one: &str) -> String {
	format!("{} {one}{}", number(n), if n == 1 { "" } else { "s" })
}

/// The beginning of an id, enough to name it again.
fn prefix(id: &str) -> String {
	if id.chars().count() <= ID_PREFIX + 3 {
		return id.to_owned();
	}
	format!("{}…", id.chars().take(ID_PREFIX).collect::<String>())
}

/// Both ends of an id, for reading.
fn ends(id: &str) -> String {
	match (id.get(..4), id.len().checked_sub(4).and_then(|at| id.get(at..))) {
		(Some(first), Some(last)) if id.len() > 9 => format!("{first}…{last}"),
		_ => id.to_owned(),
	}
}

fn yes_no(yes: bool) -> &'static str {
	if yes { "yes" } else { "no" }
}

/// The API's own word for a value of an enum.
fn word(value: impl serde::Serialize) -> String {
	match serde_json::to_value(value) {
		Ok(Value::String(word)) => word.replace('_', " "),
		_ => String::new(),
	}
}

/// `text` without what could command a terminal.
pub(super) fn clean(text: &str) -> String {
	let harmful = |c: char| {
		c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
	};
	text.chars().map(|c| if harmful(c) { '\u{fffd}' } else { c }).collect()
}

/// The same for every string in `value`.
pub(super) fn clean_value(value: Value) -> Value {
	match value {
		Value::String(text) => Value::String(clean(&text)),
		Value::Array(values) => values.into_iter().map(clean_value).collect(),
		Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, clean_value(value))).collect(),
		other => other,
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn numbers_are_grouped_and_exact() {
		assert_eq!((number(0), number(999), number(1_000)), ("0".into(), "999".into(), "1,000".into()));
		assert_eq!(number(u64::MAX), "18,446,744,073,709,551,615");
		assert_eq!((msat(250_000_000), msat(1_234), msat(5)), ("250,000".into(), "1.234".into(), "0.005".into()));
		assert_eq!((signed_msat(1_840_000), signed_msat(-500)), ("+1,840".into(), "-0.500".into()));
		assert_eq!(signed_msat(i64::MIN), "-9,223,372,036,854,775.808");
		assert_eq!((feerate(2_000), feerate(253), feerate(15_250)), ("8".into(), "1.01".into(), "61".into()));
		assert_eq!((bytes(41_900_000), bytes(12_400_000_000)), ("41 MB".into(), "12.4 GB".into()));
		assert_eq!(
			(duration(38), duration(3_700), duration(86_400 * 12)),
			("38 s".into(), "61 min".into(), "12 d".into())
		);
	}

	#[test]
	fn strangers_do_not_command_the_terminal() {
		let value = clean_value(serde_json::json!({ "a": ["\u{1b}[2J", { "b": "x\ny\u{202e}" }], "n": 1 }));
		assert_eq!(value, serde_json::json!({ "a": ["\u{fffd}[2J", { "b": "x\u{fffd}y\u{fffd}" }], "n": 1 }));
	}

	#[test]
	fn short_ids_stay_whole() {
		assert_eq!(prefix("s_7Q2MC0FFEE12"), "s_7Q2MC0FFEE12");
		assert_eq!(prefix("9c1e2f3a4b5c6d7e8f90"), "9c1e2f3a4b5c…");
		assert_eq!(ends("02f3aaaaaaaaaaaa91ac"), "02f3…91ac");
		assert_eq!(ends("short"), "short");
	}
}
