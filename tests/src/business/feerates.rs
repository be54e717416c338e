//! Feerates over time: the curve in the tree, or a recording.

use inlet_lsp::money::FeePerKw;

/// The curve in the tree. Its first lines say where it is from.
const OWN: &str = include_str!("feerates.csv");
/// No two looks of a recording may lie further apart: six hours, in seconds.
const MAX_GAP_SECS: u64 = 21_600;

/// What feerates were, from some moment on.
#[derive(Clone, Debug)]
pub struct Feerates {
	/// Where they are from, as the file's `# source:` line says.
	pub source: String,
	/// Seconds from the first look, and the feerate from then on.
	looks: Vec<(u64, FeePerKw)>,
}

impl Feerates {
	/// The curve in the tree.
	pub fn own() -> Feerates {
		Feerates::read(OWN).expect("the file in the tree is whole")
	}

	/// Reads `secs,sat_per_vb` lines, seconds of any clock rising; `#` begins a comment, a line that begins with a letter
	/// is a heading. One comment is `# source: ...`.
	///
	/// # Errors
	/// Says which line is wrong.
	pub fn read(text: &str) -> Result<Feerates, String> {
		let source = text.lines().find_map(|line| line.strip_prefix("# source:")).ok_or("no line `# source: ...`")?;
		let mut looks: Vec<(u64, FeePerKw)> = Vec::new();
		let mut first = None;
		for (number, line) in text.lines().enumerate() {
			if line.is_empty() || line.starts_with(|c: char| c == '#' || c.is_ascii_alphabetic()) {
				continue;
			}
			let wrong = |what: &str| format!("line {}: {what}: {line}", number + 1);
			let (secs, rate) = line.split_once(',').ok_or_else(|| wrong("no comma"))?;
			let secs: u64 = secs.trim().parse().map_err(|_| wrong("no seconds"))?;
			let rate: f64 = rate.trim().parse().map_err(|_| wrong("no feerate"))?;
			let at = secs.checked_sub(*first.get_or_insert(secs)).ok_or_else(|| wrong("time goes backwards"))?;
			match looks.last() {
				Some((before, _)) if at <= *before => return Err(wrong("time goes backwards")),
				Some((before, _)) if at - before > MAX_GAP_SECS => return Err(wrong("more than six hours later")),
				_ => looks.push((at, FeePerKw(((rate * 250.0) as u32).max(FeePerKw::FLOOR.0)))),
			}
		}
		if looks.is_empty() {
			return Err("no feerates".to_owned());
		}
		Ok(Feerates { source: source.trim().to_owned(), looks })
	}

	/// For so many seconds there are feerates.
	pub fn secs(&self) -> u64 {
		self.looks.last().map_or(0, |(at, _)| at + 1)
	}

	/// The feerate so many seconds from the beginning.
	pub fn at(&self, secs: u64) -> FeePerKw {
		let next = self.looks.partition_point(|(at, _)| *at <= secs);
		self.looks[next.saturating_sub(1)].1
	}

	/// The lowest and the highest of the hour before.
	pub fn lately(&self, secs: u64) -> (FeePerKw, FeePerKw) {
		let from = self.looks.partition_point(|(at, _)| *at + 3_600 <= secs).saturating_sub(1);
		let to = self.looks.partition_point(|(at, _)| *at <= secs).max(from + 1);
		let rates = || self.looks[from..to].iter().map(|(_, rate)| *rate);
		(rates().min().unwrap_or(FeePerKw::FLOOR), rates().max().unwrap_or(FeePerKw::FLOOR))
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_recording_is_read_at_its_own_times() {
		let text = "# source: none\nsecs,sat_per_vb\n1000,1\n1600,2.5\n5000,300\n";
		let rates = Feerates::read(text).unwrap();
		assert_eq!((rates.source.as_str(), rates.secs()), ("none", 4001));
		assert_eq!([0, 599, 600, 3999, 4000, 9000].map(|at| rates.at(at).0), [253, 253, 625, 625, 75_000, 75_000]);
		assert_eq!(rates.lately(4000), (FeePerKw(253), FeePerKw(75_000)));
		assert_eq!(rates.lately(8000), (FeePerKw(75_000), FeePerKw(75_000)));
	}

	#[test]
	fn a_recording_with_a_hole_or_without_its_source_is_refused() {
		assert!(Feerates::read("1,2\n").unwrap_err().contains("source"));
		assert!(Feerates::read("# source: a\n1,2\n30000,2\n").unwrap_err().contains("six hours"));
		assert!(Feerates::read("# source: a\n5,2\n5,2\n").unwrap_err().contains("backwards"));
		assert!(Feerates::read("# source: a\n5;2\n").unwrap_err().contains("line 2"));
		assert!(Feerates::own().secs() > 29 * 86_400);
	}
}
