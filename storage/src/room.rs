//! Room on the disk: how much there is, and the reserve.
//!
//! The reserve is a file that takes up room and nothing else. A transaction that meets a full disk cannot be made again, so
//! the room is looked at before each batch; when it is short the file is given up, and what is in flight can be finished.

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The reserve is given up when less than this is free: as much as the log grows by before it is copied into the database.
pub const GIVE_UP_BELOW: u64 = if cfg!(test) { 1 << 20 } else { 8 << 20 };
/// What a batch may take for each of its bytes: the log, and the database when it is copied there.
const BYTES_A_BYTE: u64 = 3;

/// Room, as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
	/// Bytes that are free for us, if the system tells.
	pub free: Option<u64>,
	/// Bytes of the reserve; 0 if there is none, because it was given up or could not be made.
	pub reserve: u64,
}

/// Bytes that are free for us where this file or directory is.
pub fn free_bytes(path: &Path) -> Option<u64> {
	let stat = statvfs(path).ok()?;
	Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// The room where a store is.
pub(crate) struct Room {
	dir: PathBuf,
	file: PathBuf,
	/// Bytes of the reserve.
	reserve: Mutex<u64>,
}

impl Room {
	/// Of the store in this file; a reserve that is there already is known.
	pub fn of(store: &Path) -> Room {
		let dir = store.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
		let mut file = store.as_os_str().to_owned();
		file.push(".reserve");
		let file = PathBuf::from(file);
		let reserve = fs::metadata(&file).map_or(0, |found| found.len());
		Room { dir, file, reserve: Mutex::new(reserve) }
	}

	/// Of a store that is on another machine: nothing is known of its disk, and there is no reserve.
	pub fn elsewhere() -> Room {
		Room { dir: PathBuf::new(), file: PathBuf::new(), reserve: Mutex::new(0) }
	}

	/// Makes sure that there is room for a batch of so many bytes, and for the next ones: gives the reserve up if there is not.
	pub fn keep_for(&self, bytes: u64) {
		let needed = GIVE_UP_BELOW.saturating_add(bytes.saturating_mul(BYTES_A_BYTE));
		if free_bytes(&self.dir).is_none_or(|free| free >= needed) {
			return;
		}
		let mut reserve = self.lock();
		if *reserve == 0 {
			return;
		}
		match fs::remove_file(&self.file) {
			Ok(()) => {
				tracing::error!(
					bytes = *reserve,
					"the disk is full: the reserve is given up to finish what is in flight"
				);
				*reserve = 0;
			}
			Err(e) if e.kind() == ErrorKind::NotFound => *reserve = 0,
			Err(e) => tracing::error!("the disk is full, and the reserve cannot be given up: {e}"),
		}
	}

	/// See [`Store::keep_reserve`](crate::Store::keep_reserve).
	pub fn keep_reserve(&self, bytes: u64) -> io::Result<()> {
		let mut reserve = self.lock();
		if *reserve == bytes || self.file.as_os_str().is_empty() {
			return Ok(());
		}
		if bytes < *reserve {
			fs::remove_file(&self.file)?;
			*reserve = 0;
		}
		let room = free_bytes(&self.dir).unwrap_or(u64::MAX).saturating_add(*reserve);
		if bytes == 0 || room < bytes.saturating_mul(2).saturating_add(GIVE_UP_BELOW) {
			return Ok(());
		}
		// A crash in here leaves a file that is too short, which the next call makes anew.
		let made = self.make(bytes);
		*reserve = if made.is_ok() { bytes } else { 0 };
		made.inspect_err(|_| drop(fs::remove_file(&self.file)))
	}

	/// Room, as it is now.
	pub fn space(&self) -> Space {
		Space { free: free_bytes(&self.dir), reserve: *self.lock() }
	}

	fn make(&self, bytes: u64) -> io::Result<()> {
		let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.file)?;
		match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
			Ok(()) => {}
			// Some file systems know no such thing (FAT): there it is written.
			Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
				let zeros = vec![0; 1 << 16];
				let mut left = bytes;
				while left > 0 {
					let some = usize::try_from(left).map_or(zeros.len(), |left| left.min(zeros.len()));
					file.write_all(&zeros[..some])?;
					left -= some as u64;
				}
			}
			Err(e) => return Err(e.into()),
		}
		file.sync_all()?;
		File::open(&self.dir)?.sync_all()
	}

	fn lock(&self) -> std::sync::MutexGuard<'_, u64> {
		self.reserve.lock().unwrap_or_else(PoisonError::into_inner)
	}
}
