//! The seed: 24 words (BIP39) in a file that only its owner can read, and the keys that come from it.
//!
//! Everything the node signs with derives from it on hardened paths of their own, so that no part's key tells another's:
//! LDK `m/535'/0'`, price promises (LSPS2) `m/535'/1'`, backups `m/535'/2'`, the onion service `m/535'/3'`, the on-chain wallet BIP86's `m/86'/..`
//! below the root itself.

use bip39::Mnemonic;
use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Network, NetworkKind};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The seed file's name in the data directory.
pub const FILE_NAME: &str = "seed";

const WORDS: usize = 24;

/// Inlet's own branch of the tree; LDK's is the first below it.
const PURPOSE: u32 = 535;
const LDK: u32 = 0;
const PROMISES: u32 = 1;
const BACKUP: u32 = 2;
const ONION: u32 = 3;

/// The 24 words. Never printed but by [`show`]; wiped from memory when dropped.
pub struct Seed {
	mnemonic: Mnemonic,
}

impl fmt::Debug for Seed {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str("Seed([hidden])")
	}
}

/// Why there is no seed to work with. No variant carries a word of it.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
	/// [`Seed::load`]: there is none; make one, unless the directory has been used before.
	#[error("there is no seed at {path}; restore it from your backup, or start with an empty data directory", path = .0.display())]
	Missing(PathBuf),
	/// [`Seed::create`]: there is one, and it stays.
	#[error("there is a seed at {path} already; it is never overwritten", path = .0.display())]
	Exists(PathBuf),
	/// Others can read it.
	#[error("{path} can be read by other users (mode {mode:04o}); close it with: chmod 600 {path}", path = .path.display())]
	TooOpen {
		/// The seed file.
		path: PathBuf,
		/// Its permission bits.
		mode: u32,
	},
	/// It is not what [`Seed::create`] wrote.
	#[error("{path} is not a seed: {problem}; put your 24 words there, on one line", path = .path.display())]
	Damaged {
		/// The seed file.
		path: PathBuf,
		/// What is wrong, without the words.
		problem: String,
	},
	/// The file system refuses.
	#[error("cannot {doing} {path}: {error}", path = .path.display())]
	Io {
		/// What was tried.
		doing: &'static str,
		/// Where.
		path: PathBuf,
		/// What the system said.
		error: io::Error,
	},
}

impl Seed {
	/// Makes a new seed from the system's randomness and writes it to `path`, mode 0600. When this returns, the file
	/// survives a power cut; before, there is either the whole file or none. The caller holds the data directory's lock.
	///
	/// # Errors
	/// [`SeedError::Exists`] if there is a file already (it is left alone), or what the file system says.
	pub fn create(path: &Path) -> Result<Seed, SeedError> {
		let seed = Seed { mnemonic: Mnemonic::generate(WORDS).expect("24 is a length that BIP39 has") };
		seed.save(path)?;
		Ok(seed)
	}

	/// Reads the seed at `path`.
	///
	/// # Errors
	/// [`SeedError::Missing`], [`SeedError::TooOpen`] if anyone but the owner may read or write it,
	/// [`SeedError::Damaged`] if it is not 24 English BIP39 words with a right checksum.
	pub fn load(path: &Path) -> Result<Seed, SeedError> {
		let io = |error| SeedError::Io { doing: "read", path: path.to_path_buf(), error };
		let file = File::open(path).map_err(|error| match error.kind() {
			ErrorKind::NotFound => SeedError::Missing(path.into()),
			_ => io(error),
		})?;
		let mode = file.metadata().map_err(io)?.mode() & 0o7777;
		if mode & 0o077 != 0 {
			return Err(SeedError::TooOpen { path: path.into(), mode });
		}
		let mut text = Zeroizing::new(String::with_capacity(512));
		let damaged = |problem: String| SeedError::Damaged { path: path.into(), problem };
		match file.take(512).read_to_string(&mut text) {
			Err(error) if error.kind() == ErrorKind::InvalidData => return Err(damaged("it is no text".into())),
			other => other.map_err(io)?,
		};
		Seed::from_words(text.trim()).map_err(damaged)
	}

	/// Writes a seed that is known already to `path`, as [`Seed::create`] writes a new one.
	///
	/// # Errors
	/// As there.
	pub fn save(&self, path: &Path) -> Result<(), SeedError> {
		let io = |doing| move |error| SeedError::Io { doing, path: path.to_path_buf(), error };

		// Written beside and linked into place: a link never replaces a file, and never shows half of one.
		let draft = path.with_extension("new");
		match std::fs::remove_file(&draft) {
			Err(error) if error.kind() != ErrorKind::NotFound => return Err(io("clear the way for")(error)),
			_ => {}
		}
		let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(io("make"))?;
		let text = Zeroizing::new(format!("{}\n", *self.phrase()));
		file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io("write"))?;
		let linked = std::fs::hard_link(&draft, path);
		std::fs::remove_file(&draft).map_err(io("tidy up after"))?;
		match linked {
			Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(SeedError::Exists(path.into())),
			other => other.map_err(io("make"))?,
		}
		let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
		File::open(dir).and_then(|d| d.sync_all()).map_err(io("keep"))
	}

	/// The seed that these words write down.
	///
	/// # Errors
	/// What is wrong with them, without the words.
	pub fn from_words(words: &str) -> Result<Seed, String> {
		let count = words.split_whitespace().count();
		if count != WORDS {
			return Err(format!("it has {count} words instead of {WORDS}"));
		}
		// bip39's errors name a word by its place only.
		let mnemonic = Mnemonic::parse_in(bip39::Language::English, words).map_err(|e| e.to_string())?;
		Ok(Seed { mnemonic })
	}

	/// The 24 words with a space between them, for the operator's eyes and a backup only.
	pub fn phrase(&self) -> Zeroizing<String> {
		Zeroizing::new(self.mnemonic.to_string())
	}

	/// The 32 bytes that LDK's `KeysManager` starts from, `m/535'/0'`. The same for every network.
	pub fn ldk_seed(&self) -> [u8; 32] {
		self.derive(LDK)
	}

	/// The 32 bytes that price promises are signed with (HMAC), `m/535'/1'`.
	pub fn promise_key(&self) -> [u8; 32] {
		self.derive(PROMISES)
	}

	/// The 32 bytes that backups are encrypted with, `m/535'/2'`.
	pub fn backup_key(&self) -> [u8; 32] {
		self.derive(BACKUP)
	}

	/// The 32 bytes of the onion service's Ed25519 key, `m/535'/3'`: its address is the node's for as long as its seed is.
	pub fn onion_secret(&self) -> [u8; 32] {
		self.derive(ONION)
	}

	/// The root of the on-chain wallet: BIP86 descriptors below it use `m/86'/coin'/0'`.
	pub fn wallet_xprv(&self, network: Network) -> Xpriv {
		self.root(network.into())
	}

	fn root(&self, network: NetworkKind) -> Xpriv {
		let bytes = Zeroizing::new(self.mnemonic.to_seed(""));
		Xpriv::new_master(network, &*bytes).expect("a seed without a master key has odds of 2^-127")
	}

	fn derive(&self, branch: u32) -> [u8; 32] {
		let hardened = |index| ChildNumber::from_hardened_idx(index).expect("a small constant");
		let path = [hardened(PURPOSE), hardened(branch)];
		let child = self.root(NetworkKind::Main).derive_priv(&Secp256k1::new(), &path);
		child.expect("a path without a key has odds of 2^-127").private_key.secret_bytes()
	}
}

/// Why [`show`] did not show the seed.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
	/// The operator said no; nothing is wrong.
	#[error("not shown")]
	Declined,
	/// Nobody can be asked.
	#[error("standard input is not a terminal, so nobody can be asked; add --yes if you mean it")]
	NotATerminal,
	/// The seed is not readable.
	#[error(transparent)]
	Seed(#[from] SeedError),
	/// Asking or showing failed.
	#[error("cannot talk to you: {0}")]
	Io(#[from] io::Error),
}

/// `inlet seed show`: asks on `ask` (unless `yes`), reads the answer from `answers`, and writes the words, numbered, to
/// `out`. `terminal`: is there a person at `answers`?
///
/// # Errors
/// See [`ShowError`]; the words are written only when it returns `Ok`.
pub fn show(
	path: &Path,
	yes: bool,
	terminal: bool,
	answers: &mut impl BufRead,
	ask: &mut impl Write,
	out: &mut impl Write,
) -> Result<(), ShowError> {
	if !yes {
		if !terminal {
			return Err(ShowError::NotATerminal);
		}
		write!(ask, "Whoever sees these words can take all your money. Is nobody looking? Show them? [y/N] ")?;
		ask.flush()?;
		let mut answer = String::new();
		answers.take(16).read_line(&mut answer)?;
		if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
			return Err(ShowError::Declined);
		}
	}
	let seed = Seed::load(path)?;
	let phrase = seed.phrase();
	let words: Vec<&str> = phrase.split(' ').collect();
	for (row, chunk) in words.chunks(4).enumerate() {
		for (column, word) in chunk.iter().enumerate() {
			write!(out, "{:>2} {word:<12}", row * 4 + column + 1)?;
		}
		writeln!(out)?;
	}
	out.flush()?;
	Ok(())
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::os::unix::fs::PermissionsExt;

	/// BIP39's test vector of 32 zero bytes.
	const ZEROS: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon \
		abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art";

	fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join(FILE_NAME);
		std::fs::write(&path, text).unwrap();
		std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
		(dir, path)
	}

	#[test]
	fn a_new_seed_is_private_and_reads_back_the_same() {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join(FILE_NAME);
		std::fs::write(path.with_extension("new"), "left over from a power cut").unwrap();
		let seed = Seed::create(&path).unwrap();
		assert_eq!(seed.phrase().split(' ').count(), 24);
		assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
		assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
		let again = Seed::load(&path).unwrap();
		assert_eq!(*seed.phrase(), *again.phrase());
		assert_eq!(seed.ldk_seed(), again.ldk_seed());
	}

	#[test]
	fn no_two_seeds_are_the_same_and_none_is_overwritten() {
		let dir = tempfile::tempdir().unwrap();
		let path = dir.path().join(FILE_NAME);
		let first = Seed::create(&path).unwrap();
		assert!(matches!(Seed::create(&path), Err(SeedError::Exists(_))));
		assert_eq!(*Seed::load(&path).unwrap().phrase(), *first.phrase());
		let second = Seed::create(&dir.path().join("other")).unwrap();
		assert_ne!(*second.phrase(), *first.phrase());
	}

	#[test]
	fn a_seed_that_others_can_read_is_refused_with_the_remedy() {
		let (_dir, path) = file(ZEROS, 0o640);
		let error = Seed::load(&path).unwrap_err();
		assert!(error.to_string().ends_with(&format!("chmod 600 {}", path.display())), "{error}");
	}

	#[test]
	fn what_is_not_24_good_words_is_refused_without_showing_them() {
		let cut = ZEROS.rsplit_once(' ').unwrap().0.to_string();
		let misspelt = ZEROS.replace("art", "artt");
		let checksum = ZEROS.replace("art", "zoo");
		for (text, say) in [
			("", "0 words"),
			(&cut, "23 words"),
			(&misspelt, "unknown word"),
			(&checksum, "checksum"),
			("\u{0}", "1 words"),
		] {
			let (_dir, path) = file(text, 0o600);
			let error = Seed::load(&path).unwrap_err().to_string();
			assert!(error.contains(say), "{say}: {error}");
			for word in ["abandon", "artt", "zoo"] {
				assert!(!error.contains(word), "{error}");
			}
		}
		let dir = tempfile::tempdir().unwrap();
		assert!(matches!(Seed::load(&dir.path().join("seed")), Err(SeedError::Missing(_))));
	}

	/// Frozen: a change here would lose the money of everyone who restores from words. The values were computed from
	/// BIP39 and BIP32 by another program.
	#[test]
	fn the_derivations_never_change() {
		let seed = Seed::from_words(ZEROS).unwrap();
		let hex = |bytes: [u8; 32]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
		assert_eq!(hex(seed.ldk_seed()), "32616dbf226b771a86dfeea639d45a5f6d2b7bebefecf981421e3e7c8781b7b1");
		assert_eq!(hex(seed.promise_key()), "e0e4215ec6e92e5cf29734d6620179a2bf079773678d144091125fcca944a839");
		assert_eq!(hex(seed.onion_secret()), "056578683f198e7efbefa998fc0b0b0f1d09539789ac659c4f60122bbb63ca23");
		assert_eq!(
			seed.wallet_xprv(Network::Bitcoin).to_string(),
			"xprv9s21ZrQH143K4VHfAaPWRTm4aoHAZhJHunsZZTQptR82FSTZRjBGXBP8kQKHrUVUE8vMM2Z3h7UoG9x9XCt9FHQ1t1nHU7zQDqrEszAg28q"
		);
		assert_eq!(seed.wallet_xprv(Network::Signet).private_key, seed.wallet_xprv(Network::Bitcoin).private_key);
	}

	#[test]
	fn nothing_prints_the_seed() {
		let seed = Seed::from_words(ZEROS).unwrap();
		assert_eq!(format!("{seed:?}"), "Seed([hidden])");
	}

	#[test]
	fn show_asks_first_and_shows_numbered_words() {
		let (_dir, path) = file(ZEROS, 0o600);
		let run = |yes, terminal, answer: &str| {
			let (mut ask, mut out) = (Vec::new(), Vec::new());
			let result = show(&path, yes, terminal, &mut answer.as_bytes(), &mut ask, &mut out);
			(result, String::from_utf8(ask).unwrap(), String::from_utf8(out).unwrap())
		};
		let (result, ask, out) = run(false, true, "y\n");
		assert!(result.is_ok() && ask.ends_with("[y/N] "), "{ask}");
		assert!(out.contains(" 1 abandon") && out.contains("24 art"), "{out}");
		for answer in ["", "n\n", "\n", "yeah\n"] {
			let (result, _, out) = run(false, true, answer);
			assert!(matches!(result, Err(ShowError::Declined)) && out.is_empty(), "{answer:?}");
		}
		let (result, ask, out) = run(false, false, "y\n");
		assert!(matches!(result, Err(ShowError::NotATerminal)) && ask.is_empty() && out.is_empty());
		let (result, ask, out) = run(true, false, "");
		assert!(result.is_ok() && ask.is_empty() && out.contains("24 art"));
	}
}
