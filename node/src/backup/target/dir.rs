//! A directory: another disk, a USB stick, or what is mounted there (sshfs for SFTP, NFS).

use super::{MAX_OBJECT, Target, TargetError, away};
use crate::backup::names::MARKER;
use async_trait::async_trait;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A directory. Without its marker nothing is written: the disk is not mounted there.
#[derive(Clone, Debug)]
pub(super) struct Dir(PathBuf);

impl Dir {
	pub fn new(path: PathBuf) -> Dir {
		Dir(path)
	}

	async fn blocking<T: Send + 'static>(
		&self,
		work: impl FnOnce(&Path) -> Result<T, TargetError> + Send + 'static,
	) -> Result<T, TargetError> {
		let path = self.0.clone();
		tokio::task::spawn_blocking(move || work(&path)).await.map_err(away)?
	}
}

#[async_trait]
impl Target for Dir {
	async fn create(&self, name: &str, bytes: &[u8]) -> Result<(), TargetError> {
		let (name, bytes) = (name.to_owned(), bytes.to_vec());
		self.blocking(move |dir| write(dir, &name, &bytes, true)).await
	}

	async fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), TargetError> {
		let (name, bytes) = (name.to_owned(), bytes.to_vec());
		self.blocking(move |dir| write(dir, &name, &bytes, false)).await
	}

	async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, TargetError> {
		let name = name.to_owned();
		self.blocking(move |dir| {
			if name != MARKER {
				mounted(dir)?;
			}
			let file = match File::open(dir.join(&name)) {
				Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
				file => file.map_err(|e| at(dir, &e))?,
			};
			let mut bytes = Vec::new();
			file.take(MAX_OBJECT as u64).read_to_end(&mut bytes).map_err(|e| at(dir, &e))?;
			Ok(Some(bytes))
		})
		.await
	}

	async fn list(&self) -> Result<Vec<String>, TargetError> {
		self.blocking(|dir| {
			mounted(dir)?;
			let mut names = Vec::new();
			for entry in fs::read_dir(dir).map_err(|e| at(dir, &e))? {
				let name = entry.map_err(|e| at(dir, &e))?.file_name();
				names.extend(name.to_str().filter(|name| !name.starts_with('.')).map(str::to_owned));
			}
			Ok(names)
		})
		.await
	}

	async fn remove(&self, name: &str) -> Result<(), TargetError> {
		let name = name.to_owned();
		self.blocking(move |dir| match fs::remove_file(dir.join(name)) {
			Err(e) if e.kind() != ErrorKind::NotFound => Err(at(dir, &e)),
			_ => Ok(()),
		})
		.await
	}

	/// The directory itself is made; the one that it is in has to be there.
	async fn prepare(&self) -> Result<(), TargetError> {
		self.blocking(|dir| match DirBuilder::new().mode(0o700).create(dir) {
			Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(at(dir, &e)),
			_ => Ok(()),
		})
		.await
	}
}

fn mounted(dir: &Path) -> Result<(), TargetError> {
	match dir.join(MARKER).exists() {
		true => Ok(()),
		false => Err(TargetError::Away(format!("{} has no backup in it: is the disk mounted?", dir.display()))),
	}
}

/// Writes beside, syncs, and moves into place: there is the whole object or none.
fn write(dir: &Path, name: &str, bytes: &[u8], new: bool) -> Result<(), TargetError> {
	if name != MARKER {
		mounted(dir)?;
	}
	let (place, draft) = (dir.join(name), dir.join(format!(".{name}.part")));
	let written = (|| {
		let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
		file.write_all(bytes)?;
		file.sync_all()
	})();
	written.map_err(|e| at(dir, &e))?;
	let moved = if new { move_new(&draft, &place) } else { fs::rename(&draft, &place) };
	match moved {
		Err(e) if e.kind() == ErrorKind::AlreadyExists => {
			fs::remove_file(&draft).map_err(|e| at(dir, &e))?;
			return Err(TargetError::Exists);
		}
		moved => moved.map_err(|e| at(dir, &e))?,
	}
	File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| at(dir, &e))
}

/// A rename that replaces nothing. Some file systems for sticks have none; nobody else writes there, so that looking first
/// will do.
fn move_new(from: &Path, to: &Path) -> io::Result<()> {
	match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
		Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) if !to.exists() => {
			fs::rename(from, to)
		}
		Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
			Err(ErrorKind::AlreadyExists.into())
		}
		moved => Ok(moved?),
	}
}

fn at(dir: &Path, e: &io::Error) -> TargetError {
	TargetError::Away(format!("{}: {e}", dir.display()))
}
