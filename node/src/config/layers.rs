//! Defaults, file, environment and flags laid over each other, each value with the place it comes from.

use super::error::{ConfigError, Origin};
use super::keys::{RawConfig, TIERS, defaults, sections};
use super::{FOREIGN_VARIABLES, Overrides};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use toml::Value;
use toml::de::{DeTable, DeValue};

/// The tier that others take what may be set from.
const OWN_TIER: &str = "new";
/// The settings that may hold a password: no error shows their value.
const SECRET: &[(&str, &str)] =
	&[("chain", "backend"), ("chain", "witnesses"), ("backup", "targets"), ("tor", "password")];

/// Values by section and key, each with its origin. Holds what may be secret, so no `Debug`.
pub(super) struct Layers {
	defaults: toml::Table,
	values: BTreeMap<(String, String), (Value, Origin)>,
}

impl Layers {
	pub fn new() -> Layers {
		Layers { defaults: defaults(), values: BTreeMap::new() }
	}

	/// Where `section.key` was set.
	pub fn origin(&self, section: &str, key: &str) -> Origin {
		self.values.get(&(section.into(), key.into())).map_or(Origin::Default, |(_, origin)| origin.clone())
	}

	/// The value of `section.key`, set or default, as it is written in TOML.
	pub fn value(&self, section: &str, key: &str) -> Option<String> {
		let set = self.values.get(&(section.into(), key.into())).map(|(value, _)| value);
		set.or_else(|| self.default_of(section, key)).map(Value::to_string)
	}

	/// Lays the config file's `text` over what is there.
	pub fn add_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
		let at = |offset: usize| Origin::File { path: path.into(), line: Some(line_of(text, offset)) };
		let table = DeTable::parse(text).map_err(|e| ConfigError {
			origin: at(e.span().map_or(0, |s| s.start)),
			key: None,
			problem: format!("is no TOML: {}", e.message()),
			right: "write key = value, with text in double quotes, below a [section]".into(),
		})?;
		for (section, content) in table.get_ref() {
			let origin = at(section.span().start);
			let name = section.get_ref().as_ref();
			let DeValue::Table(keys) = content.get_ref() else {
				return Err(self.outside_section(name, origin));
			};
			if !self.defaults.contains_key(name) {
				return Err(self.unknown_section(name, origin));
			}
			if name != TIERS {
				self.add_section(name, keys, &at)?;
				continue;
			}
			for (tier, content) in keys {
				let tier = (at(tier.span().start), format!("{TIERS}.{}", tier.get_ref()));
				let DeValue::Table(keys) = content.get_ref() else {
					return Err(self.outside_section(&tier.1, tier.0));
				};
				self.add_section(&tier.1, keys, &at)?;
			}
		}
		Ok(())
	}

	fn add_section(
		&mut self,
		name: &str,
		keys: &DeTable<'_>,
		at: &impl Fn(usize) -> Origin,
	) -> Result<(), ConfigError> {
		for (key, value) in keys {
			let origin = at(key.span().start);
			let value = plain(value.get_ref()).ok_or_else(|| ConfigError {
				origin: origin.clone(),
				key: Some(format!("{name}.{}", key.get_ref())),
				problem: format!("cannot be {}", type_name(value.get_ref().type_str())),
				right: self.expected(name, key.get_ref()),
			})?;
			self.set(name, key.get_ref(), value, origin)?;
		}
		Ok(())
	}

	/// Lays the `INLET_` variables among `variables` over what is there. Others are not looked at. `INLET_NETWORK`, which
	/// every command knows, is the same as `INLET_NODE_NETWORK`.
	pub fn add_variables(&mut self, variables: &[(OsString, OsString)]) -> Result<(), ConfigError> {
		for (name, value) in variables {
			let Some(name) = name.to_str().filter(|n| n.starts_with("INLET_")) else { continue };
			if FOREIGN_VARIABLES.contains(&name) || name.starts_with("INLET_TEST_") {
				continue;
			}
			let origin = Origin::Variable(name.into());
			let setting = if name == "INLET_NETWORK" { "INLET_NODE_NETWORK" } else { name };
			let known = self.names().find(|(section, key)| variable(section, key) == setting);
			let Some((section, key)) = known else {
				let all: Vec<String> = self.names().map(|(s, k)| variable(&s, &k)).collect();
				let right = nearest(name, all.iter().map(String::as_str))
					.map_or("unset it; node/docs/config.md lists the settings".into(), |n| {
						format!("did you mean {n}?")
					});
				return Err(ConfigError { origin, key: None, problem: "is no setting of Inlet".into(), right });
			};
			let Some(text) = value.to_str() else {
				let right = self.expected(&section, &key);
				let problem = "is not valid UTF-8".into();
				return Err(ConfigError { origin, key: Some(format!("{section}.{key}")), problem, right });
			};
			let value = self.read_text(&section, &key, text, &origin)?;
			self.set(&section, &key, value, origin)?;
		}
		Ok(())
	}

	/// Lays the command line's flags over what is there.
	pub fn add_flags(&mut self, flags: &Overrides) -> Result<(), ConfigError> {
		let text = |v: &Option<String>| v.clone().map(Value::String);
		let list = |v: &Vec<String>| {
			let items: Vec<Value> =
				v.iter().flat_map(|s| s.split(',')).map(|s| Value::String(s.trim().into())).collect();
			(!items.is_empty()).then_some(Value::Array(items))
		};
		let given = [
			("node", "network", "--network", text(&flags.network)),
			("node", "listen", "--listen", list(&flags.listen)),
			("chain", "backend", "--chain", text(&flags.chain)),
			("node", "alias", "--alias", text(&flags.alias)),
			("log", "level", "--log-level", text(&flags.log_level)),
			("log", "format", "--log-format", text(&flags.log_format)),
			("node", "gossip", "--gossip", text(&flags.gossip)),
			("node", "announce_addresses", "--announce-addr", list(&flags.announce_addr)),
		];
		for (section, key, flag, value) in given {
			if let Some(value) = value {
				self.set(section, key, value, Origin::Flag(flag))?;
			}
		}
		Ok(())
	}

	/// The settings, all laid over each other.
	///
	/// Each value that is not a default was proven by [`set`](Layers::set) to fit, so this cannot fail.
	pub fn merged(&self) -> RawConfig {
		let mut table = self.defaults.clone();
		for ((section, key), (value, _)) in &self.values {
			if let Some(keys) = section_mut(&mut table, section) {
				keys.insert(key.clone(), value.clone());
			}
		}
		RawConfig::deserialize(table).expect("each value fits by itself")
	}

	fn set(&mut self, section: &str, key: &str, value: Value, origin: Origin) -> Result<(), ConfigError> {
		let fail = |problem: String, right: String| {
			let key = Some(format!("{section}.{key}"));
			Err(ConfigError { origin: origin.clone(), key, problem, right })
		};
		let Some(default) = self.default_of(section, key) else {
			let right = self.suggestion(section, key);
			return fail("is no setting".into(), right);
		};
		let strings = |v: &Value| v.as_array().is_none_or(|items| items.iter().all(Value::is_str));
		if !default.same_type(&value) || !strings(&value) {
			let found = if strings(&value) { type_name(value.type_str()) } else { "a list of something but texts" };
			return fail(format!("cannot be {found}"), self.expected(section, key));
		}
		// Alone among defaults, so that what serde says is about this value.
		let alone = toml::Table::from_iter([(key.to_string(), value.clone())]);
		let alone = section
			.rsplit('.')
			.fold(alone, |inner, name| toml::Table::from_iter([(name.to_string(), Value::Table(inner))]));
		if let Err(error) = RawConfig::deserialize(alone) {
			let secret = SECRET.contains(&(section, key));
			let problem = if secret { "does not fit".into() } else { format!("does not fit: {}", error.message()) };
			return fail(problem, self.expected(section, key));
		}
		self.values.insert((section.into(), key.into()), (value, origin));
		Ok(())
	}

	/// A variable's text as the type that the setting has. Lists are separated by commas.
	fn read_text(&self, section: &str, key: &str, text: &str, origin: &Origin) -> Result<Value, ConfigError> {
		let value = match self.default_of(section, key) {
			Some(Value::Integer(_)) => text.replace('_', "").parse().ok().map(Value::Integer),
			Some(Value::Boolean(_)) => text.parse().ok().map(Value::Boolean),
			Some(Value::Array(_)) => {
				let items = text.split(',').map(str::trim).filter(|s| !s.is_empty());
				Some(Value::Array(items.map(|s| Value::String(s.into())).collect()))
			}
			_ => Some(Value::String(text.into())),
		};
		value.ok_or_else(|| ConfigError {
			origin: origin.clone(),
			key: Some(format!("{section}.{key}")),
			problem: format!("cannot be {text:?}"),
			right: self.expected(section, key),
		})
	}

	fn default_of(&self, section: &str, key: &str) -> Option<&Value> {
		match section.split_once('.') {
			// A tier of the operator's own has the settings that each tier has.
			Some((TIERS, tier)) => {
				let tiers = self.defaults.get(TIERS)?;
				tiers.get(tier).or_else(|| tiers.get(OWN_TIER))?.get(key)
			}
			_ => self.defaults.get(section)?.get(key),
		}
	}

	fn names(&self) -> impl Iterator<Item = (String, String)> + '_ {
		let keys = |(s, t): (String, &Value)| -> Vec<(String, String)> {
			t.as_table().into_iter().flat_map(|t| t.keys()).map(|k| (s.clone(), k.clone())).collect()
		};
		sections(&self.defaults).into_iter().flat_map(keys)
	}

	/// What a setting must look like, told by its default.
	fn expected(&self, section: &str, key: &str) -> String {
		match self.default_of(section, key) {
			Some(Value::Integer(n)) => format!("write a whole number that is not negative, for example {n}"),
			Some(Value::Boolean(b)) => format!("write true or false (default {b})"),
			Some(Value::Array(_)) => "write a list of texts: [\"one\", \"two\"]".into(),
			Some(_) => "write a text in double quotes".into(),
			None => self.suggestion(section, key),
		}
	}

	fn suggestion(&self, section: &str, key: &str) -> String {
		let here = self.names().filter(|(s, _)| s == section).map(|(_, k)| k).collect::<Vec<_>>();
		if let Some(name) = nearest(key, here.iter().map(String::as_str)) {
			return format!("did you mean {section}.{name}?");
		}
		if let Some((other, _)) = self.names().find(|(_, k)| k == key) {
			return format!("did you mean {key} in section [{other}]?");
		}
		format!("[{section}] has: {}", here.join(", "))
	}

	fn unknown_section(&self, name: &str, origin: Origin) -> ConfigError {
		let right = nearest(name, self.defaults.keys().map(String::as_str))
			.map_or_else(|| format!("the sections are: {}", self.sections()), |n| format!("did you mean [{n}]?"));
		ConfigError { origin, key: None, problem: format!("[{name}] is no section"), right }
	}

	fn outside_section(&self, name: &str, origin: Origin) -> ConfigError {
		let home = self.names().find(|(_, k)| k == name);
		let right = home.map_or_else(
			|| format!("put settings below one of the sections {}", self.sections()),
			|(section, key)| format!("put {key} below a line [{section}]"),
		);
		ConfigError { origin, key: None, problem: format!("{name} is in no section"), right }
	}

	fn sections(&self) -> String {
		sections(&self.defaults).iter().map(|(s, _)| format!("[{s}]")).collect::<Vec<_>>().join(", ")
	}
}

/// The settings of a section, also of one within another (`tier.new`), which is made if it is not there.
fn section_mut<'a>(table: &'a mut toml::Table, section: &str) -> Option<&'a mut toml::Table> {
	let Some((outer, inner)) = section.split_once('.') else { return table.get_mut(section)?.as_table_mut() };
	let outer = table.get_mut(outer)?.as_table_mut()?;
	outer.entry(inner).or_insert_with(|| Value::Table(toml::Table::new())).as_table_mut()
}

/// The environment variable of a setting: `INLET_NODE_ALIAS` for `node.alias`.
pub(super) fn variable(section: &str, key: &str) -> String {
	format!("INLET_{}_{}", section.to_uppercase().replace('.', "_"), key.to_uppercase())
}

/// The candidate that `name` is most likely a misspelling of; `None` if none is near.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
	let scored = candidates.map(|c| (strsim::jaro_winkler(name, c), c));
	scored.filter(|(score, _)| *score > 0.85).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, c)| c)
}

fn line_of(text: &str, offset: usize) -> usize {
	text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count() + 1
}

fn type_name(toml_type: &str) -> &'static str {
	match toml_type {
		"string" => "a text",
		"integer" => "a number",
		"float" => "a number with a point",
		"boolean" => "true or false",
		"array" => "a list",
		"table" => "a section",
		_ => "a date",
	}
}

/// The value without its spans; `None` for what no setting is (dates, tables, numbers beyond 64 bits).
fn plain(value: &DeValue<'_>) -> Option<Value> {
	match value {
		DeValue::String(text) => Some(Value::String(text.to_string())),
		DeValue::Integer(n) => i64::from_str_radix(&n.as_str().replace('_', ""), n.radix()).ok().map(Value::Integer),
		DeValue::Float(n) => n.as_str().replace('_', "").parse().ok().map(Value::Float),
		DeValue::Boolean(b) => Some(Value::Boolean(*b)),
		DeValue::Array(items) => items.iter().map(|i| plain(i.get_ref())).collect::<Option<_>>().map(Value::Array),
		DeValue::Datetime(_) | DeValue::Table(_) => None,
	}
}
