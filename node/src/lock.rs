//! The data directory: private, and used by one node at a time.

use bitcoin::Network;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::{FILE_NAME, network_name};

const LOCK: &str = "lock";
const NETWORK: &str = "network";

/// An opened data directory. The lock is held until this is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct DataDir {
	path: PathBuf,
	_lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
	/// Another node runs on it: stop that one, or choose another directory.
	#[error("{path} is in use by another inlet ({holder}); stop it with: inlet --data-dir {path} stop", path = .path.display())]
	InUse {
		/// The directory.
		path: PathBuf,
		/// `process 1234`, as far as the lock file tells.
		holder: String,
	},
	/// Others may enter it: the operator decides whether that was a mistake.
	#[error("{path} is open to other users (mode {mode:04o}), and it holds keys; close it with: chmod 700 {path}", path = .path.display())]
	TooOpen {
		/// The directory.
		path: PathBuf,
		/// Its permission bits.
		mode: u32,
	},
	/// It belongs to another network: choose another directory.
	#[error("{path} belongs to {belongs}, not to {asked}; give {asked} a data directory of its own (--data-dir)", path = .path.display())]
	OtherNetwork {
		/// The directory.
		path: PathBuf,
		/// The network it was made for.
		belongs: String,
		/// The network that was asked for.
		asked: &'static str,
	},
	/// The file system refuses.
	#[error("cannot {doing} {path}: {error}; check that the directory exists and that you may write there", path = .path.display())]
	Io {
		/// What was tried.
		doing: &'static str,
		/// Where.
		path: PathBuf,
		/// What the system said.
		error: io::Error,
	},
}

impl DataDir {
	/// Opens the directory, made with mode 0700 if it is missing, and takes its lock.
	///
	/// A directory that others may enter is closed to them while it is still empty (but for a config file); later it
	/// is refused, since what it holds may have been read already.
	///
	/// # Errors
	/// See [`DataDirError`].
	pub fn open(path: impl Into<PathBuf>) -> Result<DataDir, DataDirError> {
		let path = path.into();
		let io = |doing, path: &Path| {
			let path = path.to_path_buf();
			move |error| DataDirError::Io { doing, path, error }
		};
		DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(io("make the directory", &path))?;
		close(&path)?;

		let file = path.join(LOCK);
		let mut lock = OpenOptions::new()
			.read(true)
			.write(true)
			.create(true)
			.truncate(false)
			.mode(0o600)
			.open(&file)
			.map_err(io("open", &file))?;
		match lock.try_lock() {
			Ok(()) => {}
			Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse { path, holder: holder(&mut lock) }),
			Err(TryLockError::Error(error)) => return Err(DataDirError::Io { doing: "lock", path: file, error }),
		}
		let pid = format!("{}\n", std::process::id());
		let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(pid.as_bytes()));
		written.map_err(io("write", &file))?;
		Ok(DataDir { path, _lock: lock })
	}

	/// Binds the directory to `network` at the first call ever, and refuses any other network from then on.
	///
	/// # Errors
	/// [`DataDirError::OtherNetwork`], or what the file system says.
	pub fn claim(&self, network: Network) -> Result<(), DataDirError> {
		let file = self.path.join(NETWORK);
		let io = |doing| {
			let path = file.clone();
			move |error| DataDirError::Io { doing, path, error }
		};
		let asked = network_name(network);
		match std::fs::read_to_string(&file) {
			// Empty: the power went between making and writing it, when nothing else was there yet.
			Ok(text) if !text.trim().is_empty() => match text.trim() {
				belongs if belongs == asked => Ok(()),
				belongs => {
					Err(DataDirError::OtherNetwork { path: self.path.clone(), belongs: belongs.to_string(), asked })
				}
			},
			Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io("read")(error)),
			_ => {
				let mut made = OpenOptions::new()
					.write(true)
					.create(true)
					.truncate(true)
					.mode(0o600)
					.open(&file)
					.map_err(io("make"))?;
				let synced = writeln!(made, "{asked}").and_then(|()| made.sync_all());
				synced.and_then(|()| File::open(&self.path)?.sync_all()).map_err(io("write"))
			}
		}
	}

	/// The directory.
	pub fn path(&self) -> &Path {
		&self.path
	}

	/// The seed file's path.
	pub fn seed_file(&self) -> PathBuf {
		self.path.join(crate::seed::FILE_NAME)
	}
}

/// Holds the directory's lock, so that no node starts on it meanwhile, and changes nothing in it. `None`: a node runs there.
///
/// # Errors
/// There is no lock file (no node ever ran there), or it cannot be opened.
pub fn hold(path: &Path) -> io::Result<Option<File>> {
	let lock = OpenOptions::new().read(true).write(true).open(path.join(LOCK))?;
	match lock.try_lock() {
		Ok(()) => Ok(Some(lock)),
		Err(TryLockError::WouldBlock) => Ok(None),
		Err(TryLockError::Error(error)) => Err(error),
	}
}

fn close(path: &Path) -> Result<(), DataDirError> {
	let io = |doing| move |error| DataDirError::Io { doing, path: path.to_path_buf(), error };
	let mode = std::fs::metadata(path).map_err(io("look at"))?.mode() & 0o7777;
	if mode & 0o077 == 0 {
		return Ok(());
	}
	let entries = std::fs::read_dir(path).map_err(io("list"))?.collect::<Result<Vec<_>, _>>().map_err(io("list"))?;
	if entries.iter().any(|e| e.file_name() != FILE_NAME) {
		return Err(DataDirError::TooOpen { path: path.to_path_buf(), mode });
	}
	std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(io("close to others"))
}

fn holder(lock: &mut File) -> String {
	let mut text = String::new();
	let _ = lock.take(32).read_to_string(&mut text);
	match text.trim().parse::<u32>() {
		Ok(pid) => format!("process {pid}"),
		Err(_) => "it has not said which process".into(),
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn mode(path: &Path) -> u32 {
		std::fs::metadata(path).unwrap().mode() & 0o777
	}

	#[test]
	fn a_missing_directory_is_made_private() {
		let parent = tempfile::tempdir().unwrap();
		let dir = DataDir::open(parent.path().join("a/b")).unwrap();
		assert_eq!(mode(dir.path()), 0o700);
		assert_eq!(mode(&parent.path().join("a")), 0o700);
		assert_eq!(mode(&dir.path().join(LOCK)), 0o600);
		assert_eq!(dir.seed_file(), dir.path().join("seed"));
	}

	#[test]
	fn one_node_at_a_time_and_the_other_is_named() {
		let temp = tempfile::tempdir().unwrap();
		let first = DataDir::open(temp.path()).unwrap();
		let error = DataDir::open(temp.path()).unwrap_err();
		let expected = format!("process {}", std::process::id());
		assert!(matches!(&error, DataDirError::InUse { holder, .. } if *holder == expected), "{error}");
		assert!(error.to_string().contains(" stop"), "{error}");
		drop(first);
		DataDir::open(temp.path()).unwrap();
	}

	#[test]
	fn an_open_directory_is_closed_while_empty_and_refused_with_anything_in_it() {
		let temp = tempfile::tempdir().unwrap();
		let path = temp.path().join("d");
		std::fs::create_dir(&path).unwrap();
		let open = std::fs::Permissions::from_mode(0o755);
		std::fs::set_permissions(&path, open.clone()).unwrap();
		std::fs::write(path.join(FILE_NAME), "").unwrap();
		drop(DataDir::open(&path).unwrap());
		assert_eq!(mode(&path), 0o700);

		std::fs::set_permissions(&path, open).unwrap();
		let error = DataDir::open(&path).unwrap_err();
		assert!(matches!(error, DataDirError::TooOpen { mode: 0o755, .. }), "{error}");
		assert!(error.to_string().contains(&format!("chmod 700 {}", path.display())), "{error}");
		assert_eq!(mode(&path), 0o755);
	}

	#[test]
	fn a_directory_belongs_to_one_network() {
		let temp = tempfile::tempdir().unwrap();
		let dir = DataDir::open(temp.path()).unwrap();
		std::fs::write(temp.path().join(NETWORK), "").unwrap();
		dir.claim(Network::Signet).unwrap();
		dir.claim(Network::Signet).unwrap();
		let error = dir.claim(Network::Bitcoin).unwrap_err();
		assert!(error.to_string().contains("belongs to signet, not to mainnet"), "{error}");
	}

	#[test]
	fn a_file_in_the_way_is_a_clear_error() {
		let temp = tempfile::tempdir().unwrap();
		let path = temp.path().join("file");
		std::fs::write(&path, "").unwrap();
		let error = DataDir::open(&path).unwrap_err();
		assert!(error.to_string().starts_with("cannot make the directory"), "{error}");
	}
}
