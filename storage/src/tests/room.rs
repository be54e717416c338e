//! A small disk: the reserve, and what is left when it is gone.

use super::{get, open, place, put};
use crate::Store;
use crate::room::{GIVE_UP_BELOW, Room};
use std::path::{Path, PathBuf};
use std::process::Command;

const MB: u64 = 1 << 20;
const RESERVE: u64 = 4 * MB;

/// A real file system of a few megabytes, unmounted when dropped.
struct Small {
	dir: tempfile::TempDir,
	mounted: bool,
}

impl Drop for Small {
	fn drop(&mut self) {
		if self.mounted {
			drop(Command::new("umount").arg(self.dir.path()).status());
		}
	}
}

impl Small {
	/// `None` where nobody may mount one.
	fn new(megabytes: u64, kind: &str) -> Option<Small> {
		let mut small = Small { dir: tempfile::tempdir().unwrap(), mounted: false };
		let done = |command: &mut Command| command.output().is_ok_and(|out| out.status.success());
		small.mounted = match kind {
			"tmpfs" => {
				let size = format!("size={megabytes}m");
				done(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(small.dir.path()))
			}
			_ => {
				let image = small.dir.path().with_extension("image");
				std::fs::File::create(&image).unwrap().set_len(megabytes * MB).unwrap();
				let made = done(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
				let mounted =
					made && done(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(small.dir.path()));
				// Mounted, it lives on without its name.
				std::fs::remove_file(image).unwrap();
				mounted
			}
		};
		if !small.mounted {
			eprintln!("not tried: a small {kind} cannot be mounted here");
		}
		small.mounted.then_some(small)
	}

	fn path(&self) -> PathBuf {
		self.dir.path().join("inlet.db")
	}

	/// Fills it up with somebody else's file, but for so many bytes.
	fn fill(&self, but: u64) -> PathBuf {
		let other = self.dir.path().join("other");
		let bytes = crate::free_bytes(self.dir.path()).unwrap().saturating_sub(but);
		let mut file = std::fs::File::create(&other).unwrap();
		std::io::copy(&mut std::io::Read::take(std::io::repeat(7), bytes), &mut file).unwrap();
		other
	}
}

fn reserve_of(path: &Path) -> PathBuf {
	PathBuf::from(format!("{}.reserve", path.display()))
}

/// The disk fills up under a running store. The reserve goes, and many more payments are written than fit before; when there is
/// room again, it is made again.
async fn fills_up(kind: &str) {
	let Some(small) = Small::new(24, kind) else { return };
	let path = small.path();
	let store = Store::open(&path, |message| panic!("{message}")).unwrap();
	store.keep_reserve(RESERVE).unwrap();
	assert_eq!(store.space().reserve, RESERVE);
	let before = store.space().free.unwrap();
	let other = small.fill(GIVE_UP_BELOW / 2);
	assert!(store.space().free.unwrap() < GIVE_UP_BELOW && before > GIVE_UP_BELOW);
	// What is in flight: more bytes than were free, and fewer than the reserve.
	for i in 0..200u64 {
		put(&store, &format!("n{i}"), &[i as u8; 5000]).await.unwrap();
	}
	assert_eq!(store.space().reserve, 0);
	assert!(!reserve_of(&path).exists());
	store.keep_reserve(RESERVE).unwrap();
	assert_eq!(store.space().reserve, 0, "there is no room for it yet");
	store.close().await;

	// A start is possible too, and the reserve comes back with the room.
	let store = open(&path);
	assert_eq!(get(&store, "n199").await.unwrap(), [199; 5000]);
	std::fs::remove_file(other).unwrap();
	store.keep_reserve(RESERVE).unwrap();
	assert_eq!(store.space().reserve, RESERVE);
}

#[tokio::test]
async fn r13_a_small_tmpfs_fills_up() {
	fills_up("tmpfs").await;
}

#[tokio::test]
async fn r13_a_small_ext4_fills_up() {
	fills_up("ext4").await;
}

/// A node that was killed when the disk was full starts again: the reserve is given up before the file is opened.
#[tokio::test]
async fn r13_a_start_on_a_full_disk() {
	let Some(small) = Small::new(16, "tmpfs") else { return };
	let path = small.path();
	let store = open(&path);
	store.keep_reserve(RESERVE).unwrap();
	put(&store, "k", b"v").await.unwrap();
	store.close().await;
	small.fill(0);
	let store = Store::open(&path, |message| panic!("{message}")).unwrap();
	assert_eq!(store.space().reserve, 0);
	for i in 0..200u64 {
		put(&store, &format!("n{i}"), &[1; 5000]).await.unwrap();
	}
	assert_eq!(get(&store, "k").await.unwrap(), b"v");
}

/// Without a small disk: what is kept, remade and given back when it is not wanted any more.
#[tokio::test]
async fn the_reserve_is_as_large_as_asked_for() {
	let (_dir, path) = place();
	let store = open(&path);
	let there = || std::fs::metadata(reserve_of(&path)).map(|found| found.len()).ok();
	for bytes in [MB, 3 * MB, 2 * MB] {
		store.keep_reserve(bytes).unwrap();
		assert_eq!((store.space().reserve, there()), (bytes, Some(bytes)));
	}
	use std::os::unix::fs::{MetadataExt, PermissionsExt};
	let found = std::fs::metadata(reserve_of(&path)).unwrap();
	assert!(found.blocks() * 512 >= 2 * MB, "it takes up room");
	assert_eq!(found.permissions().mode() & 0o777, 0o600);
	drop(store);
	assert_eq!(Room::of(&path).space().reserve, 2 * MB, "known at the next start");
	// One that was cut short is made anew.
	std::fs::File::options().write(true).open(reserve_of(&path)).unwrap().set_len(5).unwrap();
	let store = open(&path);
	store.keep_reserve(2 * MB).unwrap();
	assert_eq!(there(), Some(2 * MB));
	store.keep_reserve(0).unwrap();
	assert_eq!((store.space().reserve, there()), (0, None));
}
