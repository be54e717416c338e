//! Faults under the real store: strace makes a system call of it fail, each in its turn.
//!
//! (What a power cut leaves is in `power_cut.rs`: writes that are torn, lost, or there in another order than they were made.
//! Writes that are cut short by the system are in `full_disk.rs`: the file may not grow, and the last write is a part.)

use super::{child, child_path, get, open, place, put};
use crate::Store;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

/// Writes of the child.
const WRITES: u32 = 120;

/// The child: writes until its hook is called, or until it is done; closes the store then, which copies the log.
#[tokio::test]
async fn faulty_child() {
	let Some(path) = child_path() else { return };
	let store = match Store::open(&path, |message| {
		println!("fatal {message}");
		std::process::exit(17);
	}) {
		Ok(store) => store,
		Err(e) => {
			println!("refused {e}");
			std::process::exit(18);
		}
	};
	for i in 0..WRITES {
		put(&store, &format!("n{i}"), &[i as u8; 900]).await.unwrap();
		writeln!(std::io::stdout(), "ack {i}").unwrap();
	}
	store.close().await;
	println!("closed");
}

/// Runs the child with one call of a kind failing; what it said, and how it ended. `None` without strace.
fn run(path: &Path, fault: &str) -> Option<(String, Option<i32>)> {
	let inner = child("faults::faulty_child", path);
	let out = std::process::Command::new("strace")
		.args(["-f", "-o", "/dev/null", "-P"])
		.arg(path)
		.arg("-P")
		.arg(super::log_of(path))
		.args(["-e", fault])
		.arg(inner.get_program())
		.args(inner.get_args())
		.env(super::CHILD, path)
		.stderr(Stdio::null())
		.output();
	match out {
		Ok(out) => Some((String::from_utf8(out.stdout).unwrap(), out.status.code())),
		Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
			eprintln!("not tried: strace is not here, and it is what makes calls fail");
			None
		}
		Err(e) => panic!("strace does not start: {e}"),
	}
}

/// After the fault: everything that was acknowledged is there, on a disk that works again, and the store goes on.
async fn check(path: &Path, text: &str, what: &str) -> u32 {
	let acknowledged = text.lines().filter(|line| line.starts_with("ack ")).count() as u32;
	let store = open(path);
	for i in 0..acknowledged {
		assert_eq!(get(&store, &format!("n{i}")).await.unwrap(), [i as u8; 900], "{what}: {i} of {acknowledged}");
	}
	for i in acknowledged..WRITES {
		let found = get(&store, &format!("n{i}")).await;
		assert!(
			found.is_none_or(|found| found == [i as u8; 900]),
			"{what}: {i}, which was not acknowledged, is another"
		);
	}
	put(&store, "after", b"v").await.unwrap();
	acknowledged
}

/// R13, mistakes 2 to 4: whichever write or sync fails, and with whichever error, the hook is called and nothing that was
/// acknowledged is lost. "Again": the same call fails from then on, as on a disk that has died.
#[tokio::test]
async fn r13_any_call_may_fail() {
	let (mut fatal, mut refused, mut unharmed) = (0, 0, 0);
	for (call, error) in [("pwrite64", "EIO"), ("pwrite64", "ENOSPC"), ("fdatasync,fsync", "EIO"), ("ftruncate", "EIO")]
	{
		for when in ["1", "8+", "41+", "95"] {
			let what = format!("{call} {error} {when}");
			let (_dir, path) = place();
			// The file is there: names of files that are not cannot be watched.
			open(&path).close().await;
			std::fs::File::create(super::log_of(&path)).unwrap();
			let Some((text, code)) = run(&path, &format!("inject={call}:error={error}:when={when}")) else { return };
			match code {
				Some(17) => {
					fatal += 1;
					assert_eq!(text.matches("fatal cannot write ").count(), 1, "{what}: {text}");
					assert!(text.contains("Nothing that was acknowledged is lost."), "{what}: {text}");
				}
				Some(18) => refused += 1,
				// There were fewer such calls, or it was one that SQLite can do without.
				Some(0) => {
					unharmed += 1;
					assert!(text.contains("closed"), "{what}: {text}");
				}
				other => panic!("{what}: ended with {other:?}: {text}"),
			}
			check(&path, &text, &what).await;
		}
	}
	println!("{fatal} ended by their hook, {refused} refused at the start, {unharmed} unharmed");
	assert!(fatal >= 8, "{fatal} ended by their hook, {refused} refused at the start, {unharmed} unharmed");
}
