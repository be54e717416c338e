//! The power cut under a real file system: ext4 on a loop device, whose image is copied while the store writes. A copy is what
//! the device had been told at that moment: what the system still had in memory is lost, as in a cut.
//!
//! (`dm-log-writes` and `dm-flakey` would also reorder what the device had been told; they need a kernel with the device mapper.
//! `power_cut.rs` reorders, at the level of the files.)

use super::{child, child_path, get, open, put};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Images that are copied.
const CUTS: u32 = 8;

/// A loop device with ext4 in this image, unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
	fn new(image: &Path, at: &Path) -> Option<Mounted> {
		fs::create_dir_all(at).unwrap();
		// No commit of the journal but those that a sync asks for.
		let mount = Command::new("mount").args(["-o", "loop,commit=300"]).arg(image).arg(at).output();
		mount.is_ok_and(|out| out.status.success()).then(|| Mounted(at.to_owned()))
	}
}

impl Drop for Mounted {
	fn drop(&mut self) {
		drop(Command::new("umount").arg(&self.0).status());
	}
}

/// The child: writes one after another and says which are durable, until it is killed.
#[tokio::test]
async fn writing_child() {
	let Some(path) = child_path() else { return };
	let store = open(&path);
	for i in 0u64.. {
		put(&store, &format!("n{i:08}"), &[i as u8; 1500]).await.unwrap();
		writeln!(std::io::stdout(), "ack {i}").unwrap();
	}
}

fn signal(signal: &str, pid: u32) {
	assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

/// Stops a process, and waits until each of its threads has come back from the system.
fn stand_still(pid: u32) {
	signal("-STOP", pid);
	let is_still = |task: std::io::Result<fs::DirEntry>| {
		let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
		stat.rsplit(") ").next().unwrap().starts_with('T')
	};
	while !fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(is_still) {
		std::thread::yield_now();
	}
}

/// R13: after a cut of the real thing, the file system is mounted again (its journal is played back), the store opens, and
/// everything that was acknowledged is there.
#[tokio::test]
async fn r13_the_power_cut_under_ext4() {
	let dir = tempfile::tempdir().unwrap();
	let image = dir.path().join("image");
	fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
	let made = Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).output();
	let Some(mounted) = made.ok().and_then(|_| Mounted::new(&image, &dir.path().join("disk"))) else {
		eprintln!("not tried: no loop device can be mounted here");
		return;
	};
	let path = mounted.0.join("inlet.db");
	let mut writer = child("image::writing_child", &path).stdout(Stdio::piped()).spawn().unwrap();
	let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
	let mut acknowledged = 0u64;
	for cut in 0..CUTS {
		let until = acknowledged + 1 + u64::from(cut * 7);
		while acknowledged < until {
			let line = lines.next().unwrap();
			acknowledged = line.strip_prefix("ack ").map_or(acknowledged, |n| n.parse::<u64>().unwrap() + 1);
		}
		// A moment, and not what a copy sees that takes its time: the writer stands still meanwhile.
		let copy = dir.path().join("copy");
		stand_still(writer.id());
		fs::copy(&image, &copy).unwrap();
		signal("-CONT", writer.id());
		let again = Mounted::new(&copy, &dir.path().join("again")).expect("its journal can be played back");
		let store = open(&again.0.join("inlet.db"));
		for i in 0..acknowledged {
			assert_eq!(get(&store, &format!("n{i:08}")).await.unwrap(), [i as u8; 1500], "{i} of {acknowledged}");
		}
		store.close().await;
		drop(again);
	}
	writer.kill().unwrap();
	writer.wait().unwrap();
	println!("{CUTS} images, {acknowledged} acknowledged at the last");
}
