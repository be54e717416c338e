//! The difference between two values of a key, as copies from the old one and new bytes.
//!
//! LDK encodes all of its channel manager for every change to one channel. A delta has what changed, wherever it now
//! stands: after a restart the manager has its channels in another order, and after a new channel all behind it moves.

use std::collections::HashMap;

/// Fewer equal bytes than this are not worth a copy.
const MIN_COPY: usize = 8;
/// Bytes of the old value that one entry of an index stands for.
const BLOCK: usize = 16;
/// How far behind a difference its end is looked for before all of the old value is.
const NEAR: usize = 8192;

/// What makes `new` of `old`; `None` if that is more than half of `new`.
pub(crate) fn diff(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
	let mut script = Script { old, new, out: Vec::new(), literal: 0, expected: 0, limit: new.len() / 2 };
	let (mut from, mut at) = (0, 0);
	let mut everywhere: Option<Index> = None;
	while at < new.len() {
		let same = common_prefix(&old[from..], &new[at..]);
		if same >= MIN_COPY || (same > 0 && at + same == new.len()) {
			script.copy(from, at, same)?;
			(from, at) = (from + same, at + same);
			continue;
		}
		let near = Index::of(old, from..old.len().min(from + NEAR));
		let found = near.next_in(new, at..new.len().min(at + NEAR), Some(from)).or_else(|| {
			let index = everywhere.get_or_insert_with(|| Index::of(old, 0..old.len()));
			index.next_in(new, at..new.len().min(at + script.limit), None)
		});
		let Some((mut source, mut target)) = found else { break };
		while source > 0 && target > script.literal && old[source - 1] == new[target - 1] {
			(source, target) = (source - 1, target - 1);
		}
		let same = common_prefix(&old[source..], &new[target..]);
		script.copy(source, target, same)?;
		(from, at) = (source + same, target + same);
	}
	script.finish()
}

/// What [`diff`] says must be made of `old`; `None` if it cannot be, because one of them is damaged.
pub(crate) fn apply(old: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
	let mut rest = delta;
	let mut new = Vec::with_capacity(old.len() + delta.len());
	let mut expected = 0usize;
	while !rest.is_empty() {
		let head = take_number(&mut rest)?;
		let len = usize::try_from(head >> 1).ok()?;
		if head & 1 == 0 {
			let (bytes, behind) = rest.split_at_checked(len)?;
			new.extend_from_slice(bytes);
			rest = behind;
		} else {
			let from = expected.checked_add_signed(unzigzag(take_number(&mut rest)?)?)?;
			expected = from.checked_add(len)?;
			new.extend_from_slice(old.get(from..expected)?);
		}
	}
	Some(new)
}

/// A delta that makes a value of itself.
pub(crate) fn copy_of(len: usize) -> Vec<u8> {
	let mut out = Vec::new();
	put_number(&mut out, (len as u64) << 1 | 1);
	put_number(&mut out, 0);
	out
}

struct Script<'a> {
	old: &'a [u8],
	new: &'a [u8],
	out: Vec<u8>,
	/// Up to here, `new` is said.
	literal: usize,
	/// Where the next copy would start if nothing was left out.
	expected: usize,
	limit: usize,
}

impl Script<'_> {
	/// New bytes up to `at`, then a copy. `None`: it is too long already.
	fn copy(&mut self, from: usize, at: usize, len: usize) -> Option<()> {
		debug_assert_eq!(self.old[from..from + len], self.new[at..at + len]);
		self.say_new(at)?;
		put_number(&mut self.out, (len as u64) << 1 | 1);
		put_number(&mut self.out, zigzag(from as i64 - self.expected as i64));
		(self.expected, self.literal) = (from + len, at + len);
		Some(())
	}

	fn say_new(&mut self, up_to: usize) -> Option<()> {
		if up_to > self.literal {
			put_number(&mut self.out, ((up_to - self.literal) as u64) << 1);
			self.out.extend_from_slice(&self.new[self.literal..up_to]);
		}
		(self.out.len() <= self.limit).then_some(())
	}

	fn finish(mut self) -> Option<Vec<u8>> {
		self.say_new(self.new.len())?;
		Some(self.out)
	}
}

/// Where each block of a part of the old value is.
struct Index<'a> {
	old: &'a [u8],
	blocks: HashMap<&'a [u8], usize>,
}

impl<'a> Index<'a> {
	fn of(old: &'a [u8], range: std::ops::Range<usize>) -> Index<'a> {
		let start = range.start;
		let blocks = old[range].chunks_exact(BLOCK).enumerate();
		let mut index = Index { old, blocks: HashMap::with_capacity(blocks.len()) };
		// Of equal blocks, the first: the way from there on is the longest.
		for (i, block) in blocks {
			index.blocks.entry(block).or_insert(start + i * BLOCK);
		}
		index
	}

	/// The first place in this range of `new` that the old value has too, as (old, new). Before others, that which is as
	/// far behind `aligned` as it is behind the start of the range: bytes were replaced, not inserted.
	fn next_in(&self, new: &[u8], range: std::ops::Range<usize>, aligned: Option<usize>) -> Option<(usize, usize)> {
		let start = range.start;
		range.into_iter().find_map(|at| {
			if let Some(from) = aligned.map(|from| from + at - start)
				&& let (Some(a), Some(b)) = (self.old.get(from..from + MIN_COPY), new.get(at..at + MIN_COPY))
				&& a == b
			{
				return Some((from, at));
			}
			let block = new.get(at..at + BLOCK)?;
			self.blocks.get(block).map(|from| (*from, at))
		})
	}
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
	const STEP: usize = 64;
	let equal = a.chunks_exact(STEP).zip(b.chunks_exact(STEP)).take_while(|(a, b)| a == b).count() * STEP;
	equal + a[equal..].iter().zip(&b[equal..]).take_while(|(a, b)| a == b).count()
}

fn zigzag(n: i64) -> u64 {
	((n << 1) ^ (n >> 63)).cast_unsigned()
}

fn unzigzag(n: u64) -> Option<isize> {
	isize::try_from((n >> 1).cast_signed() ^ -(n & 1).cast_signed()).ok()
}

/// Appends a number, seven bits to a byte.
pub(crate) fn put_number(out: &mut Vec<u8>, mut n: u64) {
	while n >= 0x80 {
		out.push(n as u8 | 0x80);
		n >>= 7;
	}
	out.push(n as u8);
}

/// Takes a number off the front; `None` if there is none.
pub(crate) fn take_number(bytes: &mut &[u8]) -> Option<u64> {
	let mut n = 0;
	for shift in (0..64).step_by(7) {
		let (byte, rest) = bytes.split_first()?;
		*bytes = rest;
		n |= u64::from(byte & 0x7f) << shift;
		if byte & 0x80 == 0 {
			return Some(n);
		}
	}
	None
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	/// Bytes without a pattern.
	fn noise(seed: u64, len: usize) -> Vec<u8> {
		let mut x = seed | 1;
		let step = || {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			x as u8
		};
		std::iter::repeat_with(step).take(len).collect()
	}

	#[test]
	fn what_moves_is_not_said_again() {
		let old = noise(7, 100_000);
		let mut inserted = old.clone();
		inserted.splice(5000..5000, noise(8, 40));
		inserted[70_000] ^= 1;
		let delta = diff(&old, &inserted).unwrap();
		assert!(delta.len() < 80, "{}", delta.len());
		assert_eq!(apply(&old, &delta).unwrap(), inserted);

		let channels: Vec<_> = old.chunks(3200).collect();
		let turned: Vec<u8> = channels.iter().rev().copied().flatten().copied().collect();
		let delta = diff(&old, &turned).unwrap();
		assert!(delta.len() < channels.len() * 10, "{}", delta.len());
		assert_eq!(apply(&old, &delta).unwrap(), turned);
		assert_eq!(diff(&old, &noise(9, 100_000)), None, "nothing in common");
	}

	#[test]
	fn damage_is_no_value() {
		let (old, new) = (noise(1, 1000), [noise(1, 900), noise(2, 50)].concat());
		let delta = diff(&old, &new).unwrap();
		assert_eq!(apply(&old[..800], &delta), None);
		assert_eq!(apply(&old, &delta[..delta.len() - 1]), None);
		assert_eq!(apply(&old, &[0xff; 12]), None);
	}

	proptest! {
		#[test]
		fn a_delta_makes_the_new_of_the_old(
			old in prop::collection::vec(0u8..3, 0..3000),
			edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..60, prop::collection::vec(any::<u8>(), 0..60)), 0..6),
		) {
			let mut new = old.clone();
			for (at, gone, added) in edits {
				let at = at.index(new.len() + 1);
				new.splice(at..new.len().min(at + gone), added);
			}
			if let Some(delta) = diff(&old, &new) {
				prop_assert_eq!(apply(&old, &delta).unwrap(), new);
			}
		}

		#[test]
		fn no_bytes_make_it_panic(old in prop::collection::vec(any::<u8>(), 0..50), delta in prop::collection::vec(any::<u8>(), 0..50)) {
			let _ = apply(&old, &delta);
		}
	}
}
