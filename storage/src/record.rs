//! In debug builds: a copy of everything that is written, for the power-cut test and the benchmark to play again.
//!
//! `DEBUG_STORE_RECORD` names the file; it holds what the store holds, keys of channels included. In release builds there
//! is none of this.

use crate::queue::Change;
use std::fs::File;
use std::io::{BufWriter, Write};

/// The variable that names the file.
pub(crate) const RECORD: &str = "DEBUG_STORE_RECORD";

/// Where the copy goes.
pub(crate) struct Recorder(BufWriter<File>);

impl Recorder {
	/// A recorder, if one is asked for.
	pub fn from_environment() -> Option<Recorder> {
		let path = std::env::var_os(RECORD).filter(|_| cfg!(debug_assertions))?;
		let file = File::options().create(true).append(true).open(path).ok()?;
		Some(Recorder(BufWriter::new(file)))
	}

	/// A change, in its place.
	pub fn change(&mut self, change: &Change) {
		let done = match change {
			Change::Put { key, value } => self.entry(b'P', key.parts(), value),
			Change::Remove { key } => self.entry(b'R', key.parts(), &[]),
			// Not LDK's: only how many bytes they are.
			Change::Rows(_) | Change::WalletAppend(_) | Change::WalletReplace(..) => {
				self.entry(b'O', ["", "", ""], &change.weight().1.to_le_bytes())
			}
		};
		done.expect("a recording that is not complete is of no use");
	}

	/// All of the batch is durable.
	pub fn committed(&mut self) {
		self.entry(b'C', ["", "", ""], &[]).and_then(|()| self.0.flush()).expect("as above");
	}

	fn entry(&mut self, kind: u8, key: [&str; 3], value: &[u8]) -> std::io::Result<()> {
		self.0.write_all(&[kind])?;
		for part in key {
			self.0.write_all(&[u8::try_from(part.len()).expect("LDK's keys have at most 120 characters")])?;
			self.0.write_all(part.as_bytes())?;
		}
		self.0.write_all(&(value.len() as u64).to_le_bytes())?;
		self.0.write_all(value)
	}
}
