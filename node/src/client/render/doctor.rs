//! What a look at everything found.

use super::Style;
use crate::control::{Doctor, Health};

/// A line for each check, and what to do below it.
pub(in crate::client) fn doctor(found: &Doctor, style: &Style) -> String {
	let mut lines = Vec::new();
	for check in &found.checks {
		let line = format!("{:<5}{:<11}{}", check.verdict.as_str(), check.name.replace('_', " "), check.text);
		lines.push(if check.verdict == Health::Ok { line } else { style.warn(&line) });
		lines.extend(check.advice.as_ref().map(|advice| format!("{:<16}→ {advice}", "")));
	}
	if found.verdict == Health::Ok {
		lines.push("all well".to_owned());
	}
	lines.join("\n")
}
