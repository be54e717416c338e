//! A refused configuration: where it is written, what is wrong with it, and what would be right.

use std::fmt;
use std::path::PathBuf;

/// Where a value comes from. Later ones in this list win over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
	/// Nobody said anything: the built-in default.
	Default,
	/// The config file; `line` counts from 1 and is missing when the file as a whole is meant.
	File {
		/// The file.
		path: PathBuf,
		/// The line, from 1.
		line: Option<usize>,
	},
	/// This environment variable.
	Variable(String),
	/// This command line flag.
	Flag(&'static str),
}

impl fmt::Display for Origin {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Origin::Default => write!(f, "default"),
			Origin::File { path, line: Some(line) } => write!(f, "{}, line {line}", path.display()),
			Origin::File { path, line: None } => write!(f, "{}", path.display()),
			Origin::Variable(name) => write!(f, "environment variable {name}"),
			Origin::Flag(flag) => write!(f, "flag {flag}"),
		}
	}
}

/// The configuration is refused; nothing was started. The operator corrects the place that `origin` names.
///
/// Never carries the value of a setting that may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
	/// Where the wrong value is.
	pub origin: Origin,
	/// The setting as `section.key`, if one setting is to blame.
	pub key: Option<String>,
	/// What is wrong, without the setting's name.
	pub problem: String,
	/// What would be right.
	pub right: String,
}

impl ConfigError {
	/// Where it is and what is wrong, without what would be right.
	pub fn what(&self) -> String {
		let key = self.key.as_ref().map_or_else(String::new, |key| format!("{key} "));
		format!("{}: {key}{}", self.origin, self.problem)
	}
}

impl fmt::Display for ConfigError {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "{}; {}", self.what(), self.right)
	}
}
