//! The difference between two values of a key, as copies from the old one and new bytes.
//!
//! LDK encodes all of its channel manager for every change to one channel. A delta has what changed, wherever it now
//! stands: after a restart the manager has its channels in another order, and after a new channel all behind it moves.

use std::ops::Range;

/// Fewer equal bytes than this are not worth a copy.
const MIN_COPY: usize = 12;
/// Bytes for which one entry of the index of what is near stands.
const FINE: usize = 16;
/// The same for the index of all of a large value.
const COARSE: usize = 64;
/// From so many bytes on, a value is large.
const LARGE: usize = 64 << 10;
/// How far around the place where the values part ways is near.
const NEAR: usize = 8192;
/// A copy of so many bytes is taken without looking for a longer one that begins a little later.
const GOOD_COPY: usize = 48;

/// How many new bytes are passed over, and how long the copy behind them must be, for it to be taken without looking elsewhere: most of
/// what LDK changes are bytes replaced by as many others.
const REPLACED: usize = 256;

/// What makes `new` of `old`; `None` if that is more than half of `new`.
pub(crate) fn diff(old: &[u8], new: &[u8]) -> Option<Vec<u8>> {
	let mut script = Script { old, new, out: Vec::new(), literal: 0, expected: 0, limit: new.len() / 2 };
	let first = common_prefix(old, new);
	if first > 0 {
		script.copy(0, 0, first)?;
	}
	let (mut from, mut at) = (first, first);
	let mut search = Search { old, new, everywhere: None, near: None };
	while at < new.len() {
		let found = match search.replaced(from, at) {
			Some(found) => found,
			None => match search.best(from, at, script.literal, script.limit)? {
				Some(found) => found,
				None => break,
			},
		};
		let Match { mut source, mut target, len } = found;
		let end = target + len;
		while source > 0 && target > script.literal && old[source - 1] == new[target - 1] {
			(source, target) = (source - 1, target - 1);
		}
		script.copy(source, target, end - target)?;
		(from, at) = (source + (end - target), end);
	}
	script.finish()
}

struct Match {
	source: usize,
	target: usize,
	len: usize,
}

/// Looks for what the new value has of the old one.
struct Search<'a> {
	old: &'a [u8],
	new: &'a [u8],
	/// The old value, made when it is first asked.
	everywhere: Option<Index<'a>>,
	/// What is around a place in the old value.
	near: Option<(usize, Index<'a>)>,
}

impl Search<'_> {
	/// The next copy with as many bytes left out on both sides, if a long one that shows that both run side by side is near.
	fn replaced(&self, from: usize, at: usize) -> Option<Match> {
		let (old, new) = (self.old.get(from..)?, &self.new[at..]);
		let (mut skipped, mut first) = (0, None);
		while skipped < REPLACED.min(old.len()).min(new.len()) {
			let len = common_prefix(&old[skipped..], &new[skipped..]);
			if len >= MIN_COPY {
				first.get_or_insert(Match { source: from + skipped, target: at + skipped, len });
			}
			if len >= REPLACED {
				return first;
			}
			skipped += len + 1;
		}
		None
	}

	/// The best copy from where the values part ways; `Some(None)`: there is no more, `None`: more is new than `limit` allows.
	fn best(&mut self, from: usize, at: usize, literal: usize, limit: usize) -> Option<Option<Match>> {
		let (old, new) = (self.old, self.new);
		let large = old.len() >= LARGE;
		let everywhere =
			self.everywhere.get_or_insert_with(|| Index::of(old, 0..old.len(), if large { COARSE } else { FINE }));
		if large && self.near.as_ref().is_none_or(|(around, _)| around.abs_diff(from) > NEAR / 2) {
			let range = from.saturating_sub(NEAR)..old.len().min(from + NEAR);
			self.near = Some((from, Index::of(old, range, FINE)));
		}
		let mut best: Option<Match> = None;
		for target in at..new.len() {
			if best.as_ref().is_some_and(|best| best.len >= GOOD_COPY || target >= best.target + GOOD_COPY) {
				break;
			}
			if target - literal > limit {
				return None;
			}
			let aligned = Some(from + (target - at)).filter(|source| *source < old.len());
			let near = self.near.as_ref().and_then(|(_, near)| near.find(new, target));
			for source in [aligned, near, everywhere.find(new, target)].into_iter().flatten() {
				let len = common_prefix(&old[source..], &new[target..]);
				if len >= MIN_COPY && best.as_ref().is_none_or(|best| len > best.len + (target - best.target)) {
					best = Some(Match { source, target, len });
				}
			}
		}
		Some(best)
	}
}

/// What [`diff`] says must be made of `old`; `None` if it cannot be, because one of them is damaged.
pub(crate) fn apply(old: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
	let made = Pieces::of(delta)?;
	// A damaged one may say that it makes any length.
	let mut new = Vec::with_capacity(made.len().min(old.len() + delta.len()));
	for piece in made.pieces {
		match piece {
			Piece::Old { from, len } => new.extend_from_slice(old.get(from..from.checked_add(len)?)?),
			Piece::New(bytes) => new.extend_from_slice(bytes),
		}
	}
	Some(new)
}

/// The delta that does what these do, one after another; `None` if there is none, or one of them is damaged. What a later
/// one replaces is not said.
pub(crate) fn compose(deltas: &[&[u8]]) -> Option<Vec<u8>> {
	Some(Pieces::of_all(deltas)?.encode())
}

/// How many bytes a delta makes; `None` if it is damaged.
pub(crate) fn len(delta: &[u8]) -> Option<usize> {
	Pieces::of(delta).map(|pieces| pieces.len())
}

/// A delta that makes a value of itself.
pub(crate) fn copy_of(len: usize) -> Vec<u8> {
	let mut out = Vec::new();
	put_number(&mut out, (len as u64) << 1 | 1);
	put_number(&mut out, 0);
	out
}

/// A piece of a value: of the old one, or new.
#[derive(Clone, Copy)]
enum Piece<'a> {
	Old { from: usize, len: usize },
	New(&'a [u8]),
}

impl<'a> Piece<'a> {
	fn len(&self) -> usize {
		match self {
			Piece::Old { len, .. } => *len,
			Piece::New(bytes) => bytes.len(),
		}
	}

	fn cut(&self, range: Range<usize>) -> Piece<'a> {
		match self {
			Piece::Old { from, .. } => Piece::Old { from: from + range.start, len: range.len() },
			Piece::New(bytes) => Piece::New(&bytes[range]),
		}
	}
}

/// A value as a delta makes it.
#[derive(Default)]
struct Pieces<'a> {
	pieces: Vec<Piece<'a>>,
	/// Where each of them ends in the value.
	ends: Vec<usize>,
}

impl<'a> Pieces<'a> {
	fn of(mut delta: &'a [u8]) -> Option<Pieces<'a>> {
		let mut all = Pieces::default();
		let mut expected = 0usize;
		while !delta.is_empty() {
			let head = take_number(&mut delta)?;
			let len = usize::try_from(head >> 1).ok()?;
			if head & 1 == 0 {
				let (bytes, behind) = delta.split_at_checked(len)?;
				all.push(Piece::New(bytes))?;
				delta = behind;
			} else {
				let from = expected.checked_add_signed(unzigzag(take_number(&mut delta)?)?)?;
				expected = from.checked_add(len)?;
				all.push(Piece::Old { from, len })?;
			}
		}
		Some(all)
	}

	/// In halves, so that each piece is looked at as often as there are halvings, and not once for each delta.
	fn of_all(deltas: &[&'a [u8]]) -> Option<Pieces<'a>> {
		match deltas {
			[] => None,
			[delta] => Pieces::of(delta),
			_ => {
				let (first, then) = deltas.split_at(deltas.len() / 2);
				Pieces::of_all(first)?.then(&Pieces::of_all(then)?)
			}
		}
	}

	fn len(&self) -> usize {
		self.ends.last().copied().unwrap_or(0)
	}

	fn push(&mut self, piece: Piece<'a>) -> Option<()> {
		let end = self.len().checked_add(piece.len())?;
		match (self.pieces.last_mut(), piece) {
			(_, piece) if piece.len() == 0 => return Some(()),
			(Some(Piece::Old { from, len }), Piece::Old { from: next, len: more }) if *from + *len == next => {
				*len += more;
				*self.ends.last_mut()? = end;
			}
			_ => {
				self.pieces.push(piece);
				self.ends.push(end);
			}
		}
		Some(())
	}

	/// The value that the next delta makes of this one; `None` if it copies more than there is.
	fn then(&self, next: &Pieces<'a>) -> Option<Pieces<'a>> {
		let mut all = Pieces::default();
		for piece in &next.pieces {
			match *piece {
				Piece::New(_) => all.push(*piece)?,
				Piece::Old { from, len } => self.copy(from..from.checked_add(len)?, &mut all)?,
			}
		}
		Some(all)
	}

	fn copy(&self, range: Range<usize>, to: &mut Pieces<'a>) -> Option<()> {
		if range.end > self.len() {
			return None;
		}
		let first = self.ends.partition_point(|end| *end <= range.start);
		for (piece, end) in self.pieces[first..].iter().zip(&self.ends[first..]) {
			let start = end - piece.len();
			if start >= range.end {
				break;
			}
			to.push(piece.cut(range.start.max(start) - start..range.end.min(*end) - start))?;
		}
		Some(())
	}

	fn encode(&self) -> Vec<u8> {
		let (mut out, mut expected) = (Vec::new(), 0);
		for run in self.pieces.chunk_by(|a, b| matches!((a, b), (Piece::New(_), Piece::New(_)))) {
			if let Piece::Old { from, len } = run[0] {
				put_copy(&mut out, from, len, &mut expected);
				continue;
			}
			put_number(&mut out, (run.iter().map(Piece::len).sum::<usize>() as u64) << 1);
			for piece in run {
				if let Piece::New(bytes) = piece {
					out.extend_from_slice(bytes);
				}
			}
		}
		out
	}
}

/// Says a copy; `expected` is where it would start if nothing was left out since the last one.
fn put_copy(out: &mut Vec<u8>, from: usize, len: usize, expected: &mut usize) {
	put_number(out, (len as u64) << 1 | 1);
	put_number(out, zigzag(from as i64 - *expected as i64));
	*expected = from + len;
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
		put_copy(&mut self.out, from, len, &mut self.expected);
		self.literal = at + len;
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

/// Where each block of a part of the old value is: a table of places, by hash. Of blocks with the same hash it has the
/// last one.
struct Index<'a> {
	old: &'a [u8],
	block: usize,
	places: Vec<u32>,
	shift: u32,
}

const NOWHERE: u32 = u32::MAX;

impl<'a> Index<'a> {
	fn of(old: &'a [u8], range: Range<usize>, block: usize) -> Index<'a> {
		let bits = (2 * (range.len() / block) + 2).next_power_of_two().trailing_zeros();
		let mut index = Index { old, block, places: vec![NOWHERE; 1 << bits], shift: 64 - bits };
		let start = range.start;
		for (i, bytes) in old[range].chunks_exact(block).enumerate() {
			let slot = index.slot(bytes);
			index.places[slot] = u32::try_from(start + i * block).unwrap_or(NOWHERE);
		}
		index
	}

	/// A place in the old value that begins with the block that is here in the new one.
	fn find(&self, new: &[u8], at: usize) -> Option<usize> {
		let wanted = new.get(at..at + self.block)?;
		let place = self.places[self.slot(wanted)];
		let place = usize::try_from(place).ok().filter(|_| place != NOWHERE)?;
		(self.old[place..place + self.block] == *wanted).then_some(place)
	}

	fn slot(&self, bytes: &[u8]) -> usize {
		let words = bytes.chunks_exact(8).take(2).map(|word| u64::from_le_bytes(word.try_into().expect("eight")));
		let hash = words.fold(0u64, |hash, word| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
		(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
	}
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
	const STEP: usize = 32;
	// Arrays, and not slices: comparing them is a few instructions and no call.
	let (steps_a, steps_b) = (a.as_chunks::<STEP>().0, b.as_chunks::<STEP>().0);
	let equal = steps_a.iter().zip(steps_b).take_while(|(a, b)| a == b).count() * STEP;
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
	use crate::tests::noise;
	use proptest::prelude::*;

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

	type Edit = (prop::sample::Index, usize, Vec<u8>);

	fn edits() -> impl Strategy<Value = Vec<Edit>> {
		let new = prop::collection::vec(any::<u8>(), 0..60);
		prop::collection::vec((any::<prop::sample::Index>(), 0usize..60, new), 0..6)
	}

	fn edit(old: &[u8], edits: Vec<Edit>) -> Vec<u8> {
		let mut new = old.to_vec();
		for (at, gone, added) in edits {
			let at = at.index(new.len() + 1);
			new.splice(at..new.len().min(at + gone), added);
		}
		new
	}

	proptest! {
		#[test]
		fn a_delta_makes_the_new_of_the_old(old in prop::collection::vec(0u8..3, 0..3000), edits in edits()) {
			let new = edit(&old, edits);
			if let Some(delta) = diff(&old, &new) {
				prop_assert_eq!(len(&delta), Some(new.len()));
				prop_assert_eq!(apply(&old, &delta).unwrap(), new);
			}
		}

		#[test]
		fn deltas_are_made_one(
			first in prop::collection::vec(0u8..3, 200..3000),
			all in prop::collection::vec(edits(), 1..9),
		) {
			let (mut value, mut deltas) = (first.clone(), Vec::new());
			for edits in all {
				let new = edit(&value, edits);
				let Some(delta) = diff(&value, &new) else { continue };
				(value, deltas) = (new, [deltas, vec![delta]].concat());
			}
			let deltas: Vec<&[u8]> = deltas.iter().map(Vec::as_slice).collect();
			if let Some(one) = compose(&deltas) {
				prop_assert_eq!(apply(&first, &one).unwrap(), value);
			} else {
				prop_assert!(deltas.is_empty());
			}
		}

		#[test]
		fn no_bytes_make_it_panic(
			old in prop::collection::vec(any::<u8>(), 0..50),
			delta in prop::collection::vec(any::<u8>(), 0..50),
			next in prop::collection::vec(any::<u8>(), 0..50),
		) {
			let made = apply(&old, &delta).and_then(|made| apply(&made, &next));
			let one = compose(&[&delta, &next]);
			if let (Some(made), Some(one)) = (made, one) {
				prop_assert_eq!(apply(&old, &one), Some(made));
			}
		}
	}

	/// What is replaced again and again is said once.
	#[test]
	fn what_is_replaced_is_not_said() {
		let old = noise(7, 20_000);
		let (mut value, mut deltas) = (old.clone(), Vec::new());
		for round in 0..200u64 {
			let mut new = value.clone();
			new[5000..5200].copy_from_slice(&noise(round + 9, 200));
			deltas.push(diff(&value, &new).unwrap());
			value = new;
		}
		let deltas: Vec<&[u8]> = deltas.iter().map(Vec::as_slice).collect();
		let one = compose(&deltas).unwrap();
		assert!(one.len() < 220, "{} of {}", one.len(), deltas.concat().len());
		assert_eq!(apply(&old, &one).unwrap(), value);
	}
}
