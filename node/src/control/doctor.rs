//! What a look at everything that can be wrong finds.

use serde::{Deserialize, Serialize};

/// What was looked at, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Doctor {
	/// Did the node run meanwhile? Then its pages are not looked at: that would keep payments waiting.
	pub running: bool,
	/// The worst of what was found.
	pub verdict: Health,
	/// One for each thing that was looked at.
	pub checks: Vec<DoctorCheck>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DoctorCheck {
	/// What, `lower_snake_case`.
	pub name: String,
	/// How it is.
	pub verdict: Health,
	/// What was found, in a sentence.
	pub text: String,
	/// What to do about it, unless it is well.
	pub advice: Option<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Health {
	/// Well.
	Ok,
	/// The node works, but something should be done.
	Warn,
	/// Money or the node is in danger.
	Bad,
}

impl Health {
	/// Its name, as in JSON.
	pub fn as_str(self) -> &'static str {
		match self {
			Health::Ok => "ok",
			Health::Warn => "warn",
			Health::Bad => "bad",
		}
	}
}
