//! What leaves the machine is sealed: compressed where that pays, then XChaCha20-Poly1305 under a key of the seed's.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use std::fmt;

const MAGIC: &[u8; 6] = b"INLBK1";
const NONCE: usize = 24;
const PLAIN: u8 = 0;
const LZ4: u8 = 1;
/// Below this, compressing is not worth a try.
const MIN_COMPRESSED: usize = 256;

/// Seals and opens. An object opens only under the name, and on the target, that it was sealed for: nobody can put one in
/// the place of another.
#[derive(Clone)]
pub struct Sealer {
	cipher: XChaCha20Poly1305,
	target: String,
}

/// The object is damaged, is not where it belongs, or was sealed under another seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is damaged, or belongs to another node (another seed)")]
pub struct NotOurs;

impl Sealer {
	/// For the target of this id, with the key that [`Seed::backup_key`](crate::seed::Seed::backup_key) gives.
	pub fn new(key: &[u8; 32], target: &str) -> Sealer {
		Sealer { cipher: XChaCha20Poly1305::new(&(*key).into()), target: target.to_owned() }
	}

	/// Seals `plain` under `name`.
	pub fn seal(&self, name: &str, plain: &[u8]) -> Vec<u8> {
		let compressed = (plain.len() >= MIN_COMPRESSED).then(|| lz4_flex::block::compress_prepend_size(plain));
		let (tag, body) = match &compressed {
			Some(small) if small.len() < plain.len() => (LZ4, small.as_slice()),
			_ => (PLAIN, plain),
		};
		let mut packed = Vec::with_capacity(body.len() + 1);
		packed.push(tag);
		packed.extend_from_slice(body);
		let nonce: [u8; NONCE] = random();
		let aad = self.aad(name);
		let sealed = self.cipher.encrypt(&XNonce::from(nonce), Payload { msg: &packed, aad: aad.as_bytes() });
		let sealed = sealed.expect("far below the cipher's limit of 256 GB");
		[MAGIC.as_slice(), &nonce, &sealed].concat()
	}

	/// Opens what was sealed under `name`.
	///
	/// # Errors
	/// [`NotOurs`].
	pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, NotOurs> {
		let rest = sealed.strip_prefix(MAGIC).ok_or(NotOurs)?;
		let (nonce, body) = rest.split_first_chunk::<NONCE>().ok_or(NotOurs)?;
		let aad = self.aad(name);
		let packed = self.cipher.decrypt(&XNonce::from(*nonce), Payload { msg: body, aad: aad.as_bytes() });
		let packed = packed.map_err(|_| NotOurs)?;
		match packed.split_first() {
			Some((&PLAIN, body)) => Ok(body.to_vec()),
			Some((&LZ4, body)) => lz4_flex::block::decompress_size_prepended(body).map_err(|_| NotOurs),
			_ => Err(NotOurs),
		}
	}

	fn aad(&self, name: &str) -> String {
		format!("{}/{name}", self.target)
	}
}

impl fmt::Debug for Sealer {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str("Sealer([hidden])")
	}
}

/// Bytes from the system's randomness.
pub(crate) fn random<const N: usize>() -> [u8; N] {
	let mut bytes = [0; N];
	let mut filled = 0;
	while filled < N {
		let got = rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
		// Only an interruption is possible here, and then it is asked again.
		filled += got.unwrap_or(0);
	}
	bytes
}

/// 16 random bytes as hex.
pub(super) fn random_id() -> String {
	random::<16>().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn what_was_sealed_opens_in_its_place_only() {
		let (sealer, text) = (Sealer::new(&[7; 32], "t"), b"a channel ".repeat(100));
		let sealed = sealer.seal("n", &text);
		assert!(sealed.len() < 200, "compressed: {}", sealed.len());
		assert_eq!(sealer.open("n", &sealed).unwrap(), text);
		assert_eq!(sealer.open("n", &sealer.seal("n", b"x")).unwrap(), b"x");
		assert_ne!(sealer.seal("n", &text), sealed, "a nonce is used once");
		assert_eq!(sealer.open("m", &sealed), Err(NotOurs), "another name");
		assert_eq!(Sealer::new(&[7; 32], "u").open("n", &sealed), Err(NotOurs), "another target");
		assert_eq!(Sealer::new(&[8; 32], "t").open("n", &sealed), Err(NotOurs), "another seed");
		for at in [0, 10, 40, sealed.len() - 1] {
			let mut bad = sealed.clone();
			bad[at] ^= 1;
			assert_eq!(sealer.open("n", &bad), Err(NotOurs), "byte {at}");
		}
		assert_eq!(sealer.open("n", &sealed[..20]), Err(NotOurs));
		assert!(!sealed.windows(9).any(|w| w == b"a channel"));
	}
}
