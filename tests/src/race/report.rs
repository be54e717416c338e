//! Samples, their medians, and the ratio of the one LSP to the other.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// What was measured, the same for both LSPs and all rounds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Section {
	/// Which clients.
	pub clients: &'static str,
	/// Channels of the LSP.
	pub channels: usize,
	/// Milliseconds added to each sync; beyond 0 on one core.
	pub disk_ms: u64,
	/// What was done.
	pub what: String,
}

/// One round of a section with one LSP.
#[derive(Clone, Debug)]
pub struct Sample {
	/// What was measured.
	pub section: Section,
	/// With which LSP.
	pub lsp: &'static str,
	/// In which round.
	pub round: usize,
	/// What came out, in the order in which it is shown.
	pub values: Vec<(String, f64)>,
}

impl Sample {
	/// A value.
	pub fn note(&mut self, name: &str, value: f64) {
		self.values.push((name.to_owned(), value));
	}

	fn value(&self, name: &str) -> Option<f64> {
		self.values.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
	}
}

/// All samples.
#[derive(Clone, Debug, Default)]
pub struct Report {
	/// In the order in which they were taken.
	pub samples: Vec<Sample>,
}

/// The value below which this share of sorted `times` is, in milliseconds.
pub fn percentile(times: &[Duration], share: f64) -> f64 {
	let last = times.len().saturating_sub(1);
	let at = (last as f64 * share).round() as usize;
	times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
	values.sort_by(f64::total_cmp);
	let middle = values.len() / 2;
	match values.len() {
		0 => None,
		count if count % 2 == 1 => Some(values[middle]),
		_ => Some((values[middle - 1] + values[middle]) / 2.0),
	}
}

impl Report {
	/// Sections in the order in which they were first measured.
	fn sections(&self) -> Vec<&Section> {
		let mut sections: Vec<&Section> = Vec::new();
		for sample in &self.samples {
			if !sections.contains(&&sample.section) {
				sections.push(&sample.section);
			}
		}
		sections
	}

	fn median(&self, section: &Section, lsp: &str, name: &str) -> Option<f64> {
		let of_this = self.samples.iter().filter(|sample| &sample.section == section && sample.lsp == lsp);
		median(of_this.filter_map(|sample| sample.value(name)).collect())
	}

	fn names(&self, section: &Section) -> Vec<&str> {
		let sample = self.samples.iter().find(|sample| &sample.section == section);
		sample.into_iter().flat_map(|sample| &sample.values).map(|(name, _)| name.as_str()).collect()
	}

	/// A table in Markdown for each set of clients, number of channels and disk: a row per section, in each cell Inlet's
	/// median, ldk-node's, and what the first is of the second.
	pub fn tables(&self) -> String {
		let mut text = String::new();
		let mut heading: Option<(&str, usize, u64, Vec<&str>)> = None;
		for section in self.sections() {
			let names = self.names(section);
			let here = (section.clients, section.channels, section.disk_ms, names.clone());
			if heading.as_ref() != Some(&here) {
				let disk = match section.disk_ms {
					0 => "the disk as it is".to_owned(),
					ms => format!("{ms} ms added to each sync, one core"),
				};
				text += &format!("\n{} clients, {} channels, {disk}\n\n| |", section.clients, section.channels);
				names.iter().for_each(|name| text += &format!(" {name} |"));
				text += &format!("\n|---|{}\n", "---|".repeat(names.len()));
				heading = Some(here);
			}
			text += &format!("| {} |", section.what);
			for name in names {
				let [ours, theirs] = ["inlet", "ldk-node"].map(|lsp| self.median(section, lsp, name));
				text += &match (ours, theirs) {
					(Some(ours), Some(theirs)) => {
						format!(" {} / {} = {} |", short(ours), short(theirs), short(ours / theirs))
					}
					(Some(one), None) | (None, Some(one)) => format!(" {} |", short(one)),
					(None, None) => " |".to_owned(),
				};
			}
			text += "\n";
		}
		text
	}

	/// Everything, for programs.
	pub fn json(&self, conditions: &Value) -> Value {
		let samples = self.samples.iter().map(|sample| {
			json!({
				"clients": sample.section.clients,
				"channels": sample.section.channels,
				"disk_ms": sample.section.disk_ms,
				"what": sample.section.what,
				"lsp": sample.lsp,
				"round": sample.round,
				"values": sample.values.iter().cloned().collect::<BTreeMap<_, _>>(),
			})
		});
		let medians = self.sections().into_iter().flat_map(|section| {
			self.names(section).into_iter().map(|name| {
				let [ours, theirs] = ["inlet", "ldk-node"].map(|lsp| self.median(section, lsp, name));
				json!({
					"clients": section.clients,
					"channels": section.channels,
					"disk_ms": section.disk_ms,
					"what": section.what,
					"value": name,
					"inlet": ours,
					"ldk_node": theirs,
					"ratio": ours.zip(theirs).map(|(ours, theirs)| ours / theirs),
				})
			})
		});
		json!({ "conditions": conditions, "medians": medians.collect::<Vec<_>>(), "samples": samples.collect::<Vec<_>>() })
	}
}

/// Three digits that count.
fn short(value: f64) -> String {
	match value.abs() {
		size if size >= 100.0 => format!("{value:.0}"),
		size if size >= 10.0 => format!("{value:.1}"),
		size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
		_ => format!("{value:.3}"),
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn medians_and_percentiles_are_what_they_are_called() {
		assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
		assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
		assert_eq!(median(vec![]), None);
		let times: Vec<Duration> = (1..=101).map(Duration::from_millis).collect();
		assert_eq!([percentile(&times, 0.5), percentile(&times, 0.99)], [51.0, 100.0]);
	}

	#[test]
	fn a_table_has_both_medians_and_their_ratio() {
		let section = Section { clients: "thin", channels: 15, disk_ms: 5, what: "forward, 1 at once".to_owned() };
		let sample = |lsp, round, value| {
			let mut sample = Sample { section: section.clone(), lsp, round, values: Vec::new() };
			sample.note("p50 ms", value);
			sample
		};
		let samples = vec![sample("inlet", 1, 9.0), sample("ldk-node", 1, 40.0), sample("inlet", 2, 11.0)];
		let report = Report { samples };
		assert!(report.tables().contains("| forward, 1 at once | 10.0 / 40.0 = 0.25 |"), "{}", report.tables());
		assert_eq!(report.json(&Value::Null)["medians"][0]["ratio"], 0.25);
	}
}
