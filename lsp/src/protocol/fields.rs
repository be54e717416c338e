//! Strict reading of by-name parameters: every name known, every type as the specification says.

use super::lsps0::RpcError;
use crate::time::Timestamp;
use serde_json::{Map, Value};

/// A JSON object whose names were checked. Names that nest are written with a dot.
pub(super) struct Fields<'a> {
	map: &'a Map<String, Value>,
	prefix: &'a str,
}

impl<'a> Fields<'a> {
	/// The parameters of a method that knows these `names`.
	pub(super) fn of(params: Option<&'a Value>, names: &[&str]) -> Result<Fields<'a>, RpcError> {
		let params = params.ok_or_else(|| RpcError::invalid("params", "not given by name"))?;
		Fields::nested(params, "", names)
	}

	fn nested(value: &'a Value, prefix: &'a str, names: &[&str]) -> Result<Fields<'a>, RpcError> {
		let Some(map) = value.as_object() else {
			let property = prefix.trim_end_matches('.');
			return Err(RpcError::invalid(if property.is_empty() { "params" } else { property }, "not an object"));
		};
		let unknown: Vec<String> =
			map.keys().filter(|name| !names.contains(&name.as_str())).map(|name| format!("{prefix}{name}")).collect();
		if unknown.is_empty() { Ok(Fields { map, prefix }) } else { Err(RpcError::unrecognized(unknown)) }
	}

	/// The object `name`, whose names are checked too. `prefix` is `name` and a dot.
	pub(super) fn object(&self, name: &str, prefix: &'a str, names: &[&str]) -> Result<Fields<'a>, RpcError> {
		Fields::nested(self.required(name)?, prefix, names)
	}

	/// That parameter is wrong.
	pub(super) fn invalid(&self, name: &str, message: &str) -> RpcError {
		RpcError::invalid(&format!("{}{name}", self.prefix), message)
	}

	fn required(&self, name: &str) -> Result<&'a Value, RpcError> {
		self.map.get(name).ok_or_else(|| self.invalid(name, "is missing"))
	}

	/// `null` counts as absent: LDK's client half writes an absent token so.
	fn optional(&self, name: &str) -> Option<&'a Value> {
		self.map.get(name).filter(|value| !value.is_null())
	}

	pub(super) fn string(&self, name: &str) -> Result<&'a str, RpcError> {
		self.required(name)?.as_str().ok_or_else(|| self.invalid(name, "not a string"))
	}

	pub(super) fn optional_string(&self, name: &str) -> Result<Option<&'a str>, RpcError> {
		let as_str = |value: &'a Value| value.as_str().ok_or_else(|| self.invalid(name, "not a string"));
		self.optional(name).map(as_str).transpose()
	}

	pub(super) fn boolean(&self, name: &str) -> Result<bool, RpcError> {
		self.required(name)?.as_bool().ok_or_else(|| self.invalid(name, "not a boolean"))
	}

	/// A JSON integer that fits `T`.
	pub(super) fn integer<T: TryFrom<u64>>(&self, name: &str) -> Result<T, RpcError> {
		let number = self.required(name)?.as_u64();
		let number = number.and_then(|number| T::try_from(number).ok());
		number.ok_or_else(|| self.invalid(name, "not an integer of the size that the specification gives it"))
	}

	/// bLIP-50's amounts: a string of decimal digits.
	pub(super) fn amount(&self, name: &str) -> Result<u64, RpcError> {
		self.parse_amount(name, self.string(name)?)
	}

	pub(super) fn optional_amount(&self, name: &str) -> Result<Option<u64>, RpcError> {
		self.optional_string(name)?.map(|text| self.parse_amount(name, text)).transpose()
	}

	fn parse_amount(&self, name: &str, text: &str) -> Result<u64, RpcError> {
		let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
		let number = text.parse().ok().filter(|_| digits);
		number.ok_or_else(|| self.invalid(name, "not an amount: a string of decimal digits"))
	}

	pub(super) fn datetime(&self, name: &str) -> Result<Timestamp, RpcError> {
		let read = Timestamp::parse(self.string(name)?);
		read.ok_or_else(|| self.invalid(name, "not a datetime: YYYY-MM-DDThh:mm:ss.uuuZ"))
	}
}
