//! The one source of chance in a run.

/// SplitMix64: small, and the same on every machine and in every version of every crate.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
	pub(crate) fn new(seed: u64) -> Rng {
		Rng(seed)
	}

	pub(crate) fn next(&mut self) -> u64 {
		self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
		let mut mixed = self.0;
		mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
		mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
		mixed ^ (mixed >> 31)
	}

	/// From `low` to `high`, both included.
	pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
		low + self.next() % (high - low + 1)
	}

	/// True so many times in a million.
	pub(crate) fn ppm(&mut self, times: u32) -> bool {
		self.next() % 1_000_000 < u64::from(times)
	}

	/// True so many times in a hundred.
	pub(crate) fn percent(&mut self, times: u32) -> bool {
		self.ppm(times * 10_000)
	}

	/// One of these.
	pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
		of[usize::try_from(self.range(0, of.len() as u64 - 1)).expect("an index")]
	}

	/// An index below `len`, which is not 0.
	pub(crate) fn index(&mut self, len: usize) -> usize {
		usize::try_from(self.range(0, len as u64 - 1)).expect("an index")
	}

	/// A delay around `mean`, mostly shorter, at most four times as long.
	pub(crate) fn around(&mut self, mean: u64) -> u64 {
		let (one, other) = (self.range(0, 2 * mean), self.range(0, 2 * mean));
		(one * other) / mean.max(1)
	}

	pub(crate) fn bytes(&mut self) -> [u8; 32] {
		let mut bytes = [0; 32];
		for part in bytes.chunks_mut(8) {
			part.copy_from_slice(&self.next().to_be_bytes());
		}
		bytes
	}
}
