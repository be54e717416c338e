//! What is in the objects.

use bitcoin::hashes::{Hash, sha256};
use serde::{Deserialize, Serialize};

/// What a snapshot's parts make, and what is of use without them: `EPOCH-sSNAPSHOT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
	/// 1.
	pub version: u32,
	/// Inlet's version.
	pub inlet: String,
	/// Which network.
	pub network: String,
	/// When it was begun, in milliseconds since 1970.
	pub at_ms: u64,
	/// How many parts, and the hash over all of them as they are on the target, in hex.
	pub parts: u64,
	/// See `parts`.
	pub parts_hash: String,
	/// Changes after this one are needed.
	pub base: u64,
	/// At least up to this one.
	pub up_to: u64,
	/// The increment that they begin in.
	pub first_increment: u64,
	/// The hash that this increment builds on, in hex.
	pub chain: String,
	/// Did the node wait for this target before it acknowledged anything?
	pub sync: bool,
	/// The configuration file, as it was.
	#[serde(default)]
	pub config: String,
}

/// How an increment ends the chain, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
	/// Changes; more may follow.
	Changes,
	/// The owner stopped, and this is all.
	Closed,
	/// A restore took over after the increment before this one.
	Sealed,
}

/// An increment: `EPOCH-iNUMBER`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Increment {
	/// What it is.
	pub kind: Kind,
	/// The hash of what it follows, as [`hash`] gives it.
	pub chain: [u8; 32],
	/// The number of the first change.
	pub first: u64,
	/// The number of the last.
	pub last: u64,
	/// When, in milliseconds since 1970.
	pub at_ms: u64,
	/// The changes.
	pub bytes: Vec<u8>,
}

const HEADER: usize = 1 + 32 + 8 + 8 + 8;

impl Increment {
	/// As bytes.
	pub fn to_bytes(&self) -> Vec<u8> {
		let mut out = Vec::with_capacity(HEADER + self.bytes.len());
		out.push(match self.kind {
			Kind::Changes => 0,
			Kind::Sealed => 1,
			Kind::Closed => 2,
		});
		out.extend_from_slice(&self.chain);
		for number in [self.first, self.last, self.at_ms] {
			out.extend_from_slice(&number.to_le_bytes());
		}
		out.extend_from_slice(&self.bytes);
		out
	}

	/// Of what [`Increment::to_bytes`] gave.
	pub fn from_bytes(bytes: &[u8]) -> Option<Increment> {
		let (kind, rest) = bytes.split_first()?;
		let (chain, rest) = rest.split_first_chunk::<32>()?;
		let (first, rest) = rest.split_first_chunk::<8>()?;
		let (last, rest) = rest.split_first_chunk::<8>()?;
		let (at_ms, rest) = rest.split_first_chunk::<8>()?;
		let kind = match kind {
			0 => Kind::Changes,
			1 => Kind::Sealed,
			2 => Kind::Closed,
			_ => return None,
		};
		let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
		let (first, last, at_ms) = (number(first), number(last), number(at_ms));
		Some(Increment { kind, chain: *chain, first, last, at_ms, bytes: rest.to_vec() })
	}
}

/// SHA-256 of an object as it is on the target.
pub fn hash(sealed: &[u8]) -> [u8; 32] {
	sha256::Hash::hash(sealed).to_byte_array()
}

/// A piece of a snapshot within a part: the change it is as of, its length, and its bytes.
pub fn put_piece(part: &mut Vec<u8>, as_of: u64, bytes: &[u8]) {
	part.extend_from_slice(&as_of.to_le_bytes());
	part.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
	part.extend_from_slice(bytes);
}

/// The next piece; `None` if it cannot be understood.
pub fn take_piece<'a>(part: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
	let (as_of, rest) = part.split_first_chunk::<8>()?;
	let (len, rest) = rest.split_first_chunk::<8>()?;
	let (bytes, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
	*part = rest;
	Some((u64::from_le_bytes(*as_of), bytes))
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn an_increment_is_read_as_it_was_written() {
		for kind in [Kind::Changes, Kind::Closed, Kind::Sealed] {
			let increment = Increment { kind, chain: [9; 32], first: 4, last: 7, at_ms: 1, bytes: vec![1, 2, 3] };
			assert_eq!(Increment::from_bytes(&increment.to_bytes()), Some(increment));
		}
		assert_eq!(Increment::from_bytes(&[0; 20]), None);
		assert_eq!(Increment::from_bytes(&[7; 80]), None);
		let mut part = Vec::new();
		put_piece(&mut part, 3, b"abc");
		put_piece(&mut part, 5, b"");
		let mut rest = part.as_slice();
		assert_eq!(take_piece(&mut rest), Some((3, b"abc".as_slice())));
		assert_eq!(take_piece(&mut rest), Some((5, b"".as_slice())));
		assert_eq!((take_piece(&mut rest), rest), (None, b"".as_slice()));
	}
}
