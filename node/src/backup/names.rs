//! The names of a backup's objects. They say what is what and in which order, and nothing about whose it is.
//!
//! `inlet-backup`, made by `inlet backup init`; then, for each start of a node, which is an epoch: `EPOCH-owner` (who owns it),
//! `EPOCH-pSNAPSHOT-PART` (parts of a snapshot), `EPOCH-sSNAPSHOT` (what they make; written last), `EPOCH-iNUMBER`
//! (increments, without a gap). `lease` is the one object that is ever replaced: a sign of life.

/// The mark of a target, not sealed: that this is one, and its id.
pub const MARKER: &str = "inlet-backup";
/// The owner's sign of life.
pub const LEASE: &str = "lease";

/// An object of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
	/// Who owns the epoch.
	Owner {
		/// Which epoch.
		epoch: u64,
	},
	/// A part of a snapshot.
	Part {
		/// Which epoch.
		epoch: u64,
		/// Which snapshot.
		snapshot: u64,
		/// Which part, from 0.
		part: u64,
	},
	/// What the parts of a snapshot make.
	Snapshot {
		/// Which epoch.
		epoch: u64,
		/// Which snapshot, from 1.
		snapshot: u64,
	},
	/// An increment.
	Increment {
		/// Which epoch.
		epoch: u64,
		/// Its number, from 1.
		number: u64,
	},
}

impl Name {
	/// Its epoch.
	pub fn epoch(self) -> u64 {
		match self {
			Name::Owner { epoch }
			| Name::Part { epoch, .. }
			| Name::Snapshot { epoch, .. }
			| Name::Increment { epoch, .. } => epoch,
		}
	}

	/// The object of that name; `None` if it is none of an epoch.
	pub fn parse(text: &str) -> Option<Name> {
		let (epoch, rest) = text.split_once('-')?;
		let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
		let epoch = number(epoch)?;
		if rest == "owner" {
			return Some(Name::Owner { epoch });
		}
		let (kind, rest) = rest.split_at_checked(1)?;
		match (kind, rest.split_once('-')) {
			("p", Some((snapshot, part))) => {
				Some(Name::Part { epoch, snapshot: number(snapshot)?, part: number(part)? })
			}
			("s", None) => Some(Name::Snapshot { epoch, snapshot: number(rest)? }),
			("i", None) => Some(Name::Increment { epoch, number: number(rest)? }),
			_ => None,
		}
	}
}

impl std::fmt::Display for Name {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		match self {
			Name::Owner { epoch } => write!(f, "{epoch:010}-owner"),
			Name::Part { epoch, snapshot, part } => write!(f, "{epoch:010}-p{snapshot:06}-{part:06}"),
			Name::Snapshot { epoch, snapshot } => write!(f, "{epoch:010}-s{snapshot:06}"),
			Name::Increment { epoch, number } => write!(f, "{epoch:010}-i{number:012}"),
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn names_are_read_as_they_are_written() {
		let all = [
			Name::Owner { epoch: 3 },
			Name::Part { epoch: 3, snapshot: 1, part: 12 },
			Name::Snapshot { epoch: 3, snapshot: 1 },
			Name::Increment { epoch: 3, number: 400 },
		];
		for name in all {
			assert_eq!(Name::parse(&name.to_string()), Some(name));
			assert_eq!(name.epoch(), 3);
		}
		for other in [MARKER, LEASE, "", "3", "x-owner", "3-", "3-z1", "3-i1-2", "3-i-1", "+3-i1"] {
			assert_eq!(Name::parse(other), None, "{other}");
		}
	}
}
