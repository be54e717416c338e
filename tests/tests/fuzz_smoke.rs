//! The fuzz targets over the corpus in the tree, and over mutations of it that are the same every time.

#![allow(missing_docs)]

use inlet_tests::fuzz::TARGETS;
use std::path::Path;

struct Dice(u64);

impl Dice {
	/// Below `bound`.
	fn roll(&mut self, bound: usize) -> usize {
		self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
		usize::try_from(self.0 >> 33).expect("31 bits") % bound
	}
}

/// Bytes changed, cut out, doubled, or taken from another one.
fn mutate(dice: &mut Dice, bytes: &[u8], other: &[u8]) -> Vec<u8> {
	let mut bytes = bytes.to_vec();
	for _ in 0..=dice.roll(4) {
		let at = dice.roll(bytes.len() + 1);
		let length = dice.roll(24).min(bytes.len() - at);
		match dice.roll(5) {
			0 if at < bytes.len() => bytes[at] = u8::try_from(dice.roll(256)).expect("less than 256"),
			1 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
			2 => drop(bytes.drain(at..at + length)),
			3 => {
				let again = bytes[at..at + length].to_vec();
				bytes.splice(at..at, again);
			}
			_ => {
				let from = dice.roll(other.len() + 1);
				let to = (from + dice.roll(24)).min(other.len());
				bytes.splice(at..at, other[from..to].iter().copied());
			}
		}
	}
	bytes
}

#[test]
fn l0_4_r14_the_corpus_and_its_mutations_break_nothing() {
	for (name, body) in TARGETS {
		let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
		let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
		files.sort();
		let corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
		assert!(corpus.len() >= 4, "the corpus of {name} is in the tree");
		corpus.iter().for_each(|bytes| body(bytes));
		let mut dice = Dice(1);
		let rounds = if name == "jit" { 60 } else { 1_500 };
		for _ in 0..rounds {
			let (one, other) = (&corpus[dice.roll(corpus.len())], &corpus[dice.roll(corpus.len())]);
			let bytes = mutate(&mut dice, one, other);
			let survived = std::panic::catch_unwind(|| body(&bytes)).is_ok();
			assert!(survived, "{name} broke on {bytes:?}");
		}
	}
}
