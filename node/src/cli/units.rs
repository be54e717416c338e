//! Values with a unit, as they are typed.

use std::str::FromStr;

/// An amount that was typed with its unit: `250000sat`, `0.01btc`, `1000msat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount {
	msat: u64,
}

/// What is wrong with a value, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseUnitError(String);

fn wrong<T>(what: impl Into<String>) -> Result<T, ParseUnitError> {
	Err(ParseUnitError(what.into()))
}

/// All bitcoin there will ever be, in millisatoshis.
const MAX_MSAT: u64 = 21_000_000 * 100_000_000 * 1000;

impl Amount {
	/// In millisatoshis.
	pub fn msat(self) -> u64 {
		self.msat
	}

	/// In satoshis; an error if it is not a whole number of them.
	pub fn sat(self) -> Result<u64, ParseUnitError> {
		if self.msat.is_multiple_of(1000) {
			return Ok(self.msat / 1000);
		}
		wrong(format!("{}msat is not a whole number of satoshis, which is needed here", self.msat))
	}
}

impl FromStr for Amount {
	type Err = ParseUnitError;

	fn from_str(text: &str) -> Result<Amount, ParseUnitError> {
		let text = text.trim();
		let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
		let (number, unit) = (text[..unit_at].trim_end(), text[unit_at..].to_ascii_lowercase());
		// Digits behind the point that the unit allows down to a millisatoshi.
		let digits = match unit.as_str() {
			"msat" => 0,
			"sat" | "sats" => 3,
			"btc" => 11,
			"" => return wrong(format!("{text} has no unit: write {number}sat, 0.01btc or 1000msat")),
			_ => return wrong(format!("{unit} is not a unit: write 250000sat, 0.01btc or 1000msat")),
		};
		let Some(msat) = decimal(number, digits) else {
			return wrong(format!("{text} is not an amount: write 250000sat, 0.01btc or 1000msat"));
		};
		if msat > MAX_MSAT {
			return wrong(format!("{text} is more than all bitcoin there is"));
		}
		Ok(Amount { msat })
	}
}

/// `number` times 10^`digits`: exact, or `None`.
fn decimal(number: &str, digits: usize) -> Option<u64> {
	let number = number.replace('_', "");
	let (whole, part) = number.split_once('.').unwrap_or((&number, ""));
	let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
	if whole.is_empty() || !all_digits(whole) || !all_digits(part) || number.ends_with('.') || part.len() > digits {
		return None;
	}
	format!("{whole}{part:0<digits$}").parse().ok()
}

/// An amount, or `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmountOrAll {
	/// This much.
	Amount(Amount),
	/// All that is free.
	All,
}

impl FromStr for AmountOrAll {
	type Err = ParseUnitError;

	fn from_str(text: &str) -> Result<AmountOrAll, ParseUnitError> {
		if text == "all" { Ok(AmountOrAll::All) } else { text.parse().map(AmountOrAll::Amount) }
	}
}

/// An amount, or `any`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmountOrAny {
	/// This much.
	Amount(Amount),
	/// What the payer likes.
	Any,
}

impl AmountOrAny {
	/// In millisatoshis, `None` for any.
	pub fn msat(self) -> Option<u64> {
		match self {
			AmountOrAny::Amount(amount) => Some(amount.msat()),
			AmountOrAny::Any => None,
		}
	}
}

impl FromStr for AmountOrAny {
	type Err = ParseUnitError;

	fn from_str(text: &str) -> Result<AmountOrAny, ParseUnitError> {
		if text == "any" { Ok(AmountOrAny::Any) } else { text.parse().map(AmountOrAny::Amount) }
	}
}

/// A feerate in sat/vB: `5`, `2.5`, `5sat/vb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feerate {
	/// In satoshis per 1000 weight units, rounded up.
	pub sat_per_kw: u32,
}

impl FromStr for Feerate {
	type Err = ParseUnitError;

	fn from_str(text: &str) -> Result<Feerate, ParseUnitError> {
		let lower = text.trim().to_ascii_lowercase();
		let number = lower.strip_suffix("sat/vb").unwrap_or(&lower).trim_end();
		let sat_per_kw = decimal(number, 3).and_then(|milli| u32::try_from(milli.div_ceil(4)).ok());
		match sat_per_kw {
			Some(sat_per_kw) if sat_per_kw > 0 => Ok(Feerate { sat_per_kw }),
			_ => wrong(format!("{text} is not a feerate: write 5 or 2.5 (in sat/vB)")),
		}
	}
}

/// A duration: `90s`, `60m`, `24h`, `7d`, or seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub u32);

impl FromStr for Seconds {
	type Err = ParseUnitError;

	fn from_str(text: &str) -> Result<Seconds, ParseUnitError> {
		let (number, unit) = match text.char_indices().last() {
			Some((at, 's')) => (&text[..at], 1),
			Some((at, 'm')) => (&text[..at], 60),
			Some((at, 'h')) => (&text[..at], 3600),
			Some((at, 'd')) => (&text[..at], 86_400),
			_ => (text, 1),
		};
		match number.parse().ok().and_then(|number: u32| number.checked_mul(unit)) {
			Some(seconds) if seconds > 0 && number.bytes().all(|b| b.is_ascii_digit()) => Ok(Seconds(seconds)),
			_ => wrong(format!("{text} is not a duration: write 90s, 60m, 24h or 7d")),
		}
	}
}

/// `PUBKEY@HOST:PORT`, or only `PUBKEY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
	/// 66 hex digits.
	pub node_id: String,
	/// `host:port`, if given.
	pub address: Option<String>,
}

impl FromStr for PeerAddress {
	type Err = ParseUnitError;

	fn from_str(text: &str) -> Result<PeerAddress, ParseUnitError> {
		let (node_id, address) = match text.split_once('@') {
			Some((node_id, address)) => (node_id, Some(address)),
			None => (text, None),
		};
		if bitcoin::secp256k1::PublicKey::from_str(node_id).is_err() || node_id.len() != 66 {
			return wrong(format!(
				"{node_id} is not a node's public key: it has 66 hex digits, as in 02ab..@1.2.3.4:9735"
			));
		}
		let with_port = |address: &str| {
			let (host, port) = address.rsplit_once(':')?;
			let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
			(!host.is_empty() && !bare_v6 && port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(())
		};
		if let Some(address) = address
			&& with_port(address).is_none()
		{
			return wrong(format!("{address} is not HOST:PORT: write 1.2.3.4:9735, [2001:db8::1]:9735 or a name"));
		}
		Ok(PeerAddress { node_id: node_id.to_ascii_lowercase(), address: address.map(str::to_owned) })
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn msat(text: &str) -> u64 {
		text.parse::<Amount>().unwrap().msat()
	}

	fn error<T: FromStr<Err = ParseUnitError> + std::fmt::Debug>(text: &str) -> String {
		text.parse::<T>().unwrap_err().to_string()
	}

	#[test]
	fn amounts_have_units() {
		assert_eq!(msat("250000sat"), 250_000_000);
		assert_eq!(msat("250_000 sats"), 250_000_000);
		assert_eq!(msat("0.01btc"), 1_000_000_000);
		assert_eq!(msat("0.00000000001BTC"), 1);
		assert_eq!(msat("1000msat"), 1000);
		assert_eq!(msat("1.5sat"), 1500);
		assert_eq!(msat("0sat"), 0);
		assert_eq!(msat("21000000btc"), MAX_MSAT);
	}

	#[test]
	fn a_bare_number_is_refused_with_what_would_be_right() {
		assert_eq!(error::<Amount>("250000"), "250000 has no unit: write 250000sat, 0.01btc or 1000msat");
		assert_eq!(error::<AmountOrAll>("1"), "1 has no unit: write 1sat, 0.01btc or 1000msat");
	}

	#[test]
	fn what_is_not_an_amount_is_refused() {
		for text in [
			"",
			"sat",
			"-1sat",
			"+1sat",
			"1.sat",
			".1btc",
			"1e3sat",
			"1,000sat",
			"0.1msat",
			"1.0001sat",
			"0.000000000001btc",
			"1eur",
			"1satsat",
			"٣sat",
			"99999999999999999999sat",
			"21000000.1btc",
			"18446744073709551616msat",
		] {
			assert!(text.parse::<Amount>().is_err(), "{text}");
		}
	}

	#[test]
	fn only_whole_satoshis_where_coins_move() {
		assert_eq!(
			"2500msat".parse::<Amount>().unwrap().sat().unwrap_err().to_string().split(' ').next(),
			Some("2500msat")
		);
		assert_eq!("2000msat".parse::<Amount>().unwrap().sat(), Ok(2));
	}

	#[test]
	fn feerates_are_rounded_up() {
		let kw = |text: &str| text.parse::<Feerate>().unwrap().sat_per_kw;
		assert_eq!((kw("1"), kw("2.5"), kw("5sat/vB"), kw("0.001")), (250, 625, 1250, 1));
		for text in ["0", "", "-1", "1sat", "99999999999"] {
			assert!(text.parse::<Feerate>().is_err(), "{text}");
		}
	}

	#[test]
	fn durations() {
		let secs = |text: &str| text.parse::<Seconds>().unwrap().0;
		assert_eq!((secs("90"), secs("90s"), secs("60m"), secs("24h"), secs("7d")), (90, 90, 3600, 86_400, 604_800));
		for text in ["", "0", "s", "-1s", "+1s", "1w", "9999999999", "99999999d"] {
			assert!(text.parse::<Seconds>().is_err(), "{text}");
		}
	}

	#[test]
	fn peers_have_a_key_and_maybe_a_place() {
		let key = "02eec7245d6b7d2ccb30380bfbe2a3648cd7a942653f5aa340edcea1f283686619";
		let peer: PeerAddress = format!("{}@127.0.0.1:9735", key.to_uppercase()).parse().unwrap();
		assert_eq!(peer, PeerAddress { node_id: key.into(), address: Some("127.0.0.1:9735".into()) });
		assert_eq!(key.parse::<PeerAddress>().unwrap().address, None);
		assert!(format!("{key}@[::1]:9735").parse::<PeerAddress>().is_ok());
		for text in [
			"",
			"@h:1",
			"02ee@h:1",
			&format!("{key}@"),
			&format!("{key}@h"),
			&format!("{key}@h:0"),
			&format!("{key}@::1:9"),
		] {
			assert!(text.parse::<PeerAddress>().is_err(), "{text}");
		}
	}
}
