//! What a process costs: what it asks of its disk (by a preloaded library), and its processor time and memory (`/proc`).

use anyhow::{Context, Result, bail};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::ops::Sub;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Fields of `struct ledger` in `interpose.c`.
const FIELDS: usize = 6;
/// `USER_HZ`: what `/proc/PID/stat` counts in, on every Linux.
const TICKS_PER_SEC: f64 = 100.0;

/// What a process did so far, or, as a difference, meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
	/// `fsync` and `fdatasync`.
	pub syncs: f64,
	/// Time in them, in milliseconds.
	pub sync_ms: f64,
	/// Writes to files that are not logs.
	pub writes: f64,
	/// Bytes of them.
	pub bytes: f64,
	/// Bytes of logs.
	pub log_bytes: f64,
	/// Processor time, in milliseconds.
	pub cpu_ms: f64,
}

impl Sub for Counts {
	type Output = Counts;

	fn sub(self, before: Counts) -> Counts {
		Counts {
			syncs: self.syncs - before.syncs,
			sync_ms: self.sync_ms - before.sync_ms,
			writes: self.writes - before.writes,
			bytes: self.bytes - before.bytes,
			log_bytes: self.log_bytes - before.log_bytes,
			cpu_ms: self.cpu_ms - before.cpu_ms,
		}
	}
}

/// The library that counts, and makes the disk slower.
#[derive(Debug)]
pub struct Interposer(PathBuf);

impl Interposer {
	/// Builds it below `dir`, with `cc`.
	///
	/// # Errors
	/// There is no C compiler (rusqlite needs one too), or it fails.
	pub fn build(dir: &Path) -> Result<Interposer> {
		let (source, library) = (dir.join("interpose.c"), dir.join("interpose.so"));
		fs::write(&source, include_str!("interpose.c"))?;
		let mut command = Command::new("cc");
		command.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(&source).arg("-ldl");
		let built = command.output().context("cannot run cc")?;
		if !built.status.success() {
			bail!("cc fails: {}", String::from_utf8_lossy(&built.stderr));
		}
		Ok(Interposer(library))
	}

	/// A meter for one process, and the environment that the process must be started with.
	///
	/// # Errors
	/// The file that both share cannot be made.
	pub fn meter(&self) -> Result<(Meter, Vec<(String, String)>)> {
		// In memory if there is such a folder: the meter is not to write to the disk that it measures.
		let memory = Path::new("/dev/shm");
		let dir = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
		let mut ledger = tempfile::Builder::new().prefix("inlet-race-").tempfile_in(dir)?;
		ledger.write_all(&[0; FIELDS * 8])?;
		let text = |path: &Path| path.to_str().map(str::to_owned).context("a path that is no text");
		let environment =
			vec![("LD_PRELOAD".to_owned(), text(&self.0)?), ("RACE_LEDGER".to_owned(), text(ledger.path())?)];
		Ok((Meter { ledger }, environment))
	}
}

/// Reads what one process counted, over all its starts, and sets how slow its disk is.
#[derive(Debug)]
pub struct Meter {
	ledger: tempfile::NamedTempFile,
}

impl Meter {
	/// From now on every sync takes this much longer.
	///
	/// # Errors
	/// The shared file is gone.
	pub fn slow_down(&self, delay: Duration) -> Result<()> {
		let file = OpenOptions::new().write(true).open(self.ledger.path())?;
		Ok(file.write_all_at(&u64::try_from(delay.as_micros())?.to_ne_bytes(), 0)?)
	}

	/// What the process with this number did so far.
	///
	/// # Errors
	/// It has ended.
	pub fn read(&self, pid: u32) -> Result<Counts> {
		let mut bytes = [0; FIELDS * 8];
		File::open(self.ledger.path())?.read_exact_at(&mut bytes, 0)?;
		let mut fields =
			bytes.chunks_exact(8).map(|field| u64::from_ne_bytes(field.try_into().expect("8 bytes")) as f64);
		let mut next = || fields.next().unwrap_or_default();
		let _delay = next();
		Ok(Counts {
			syncs: next(),
			sync_ms: next() / 1e6,
			writes: next(),
			bytes: next(),
			log_bytes: next(),
			cpu_ms: cpu_ms(pid)?,
		})
	}
}

/// Processor time of a process so far, in milliseconds.
///
/// # Errors
/// It has ended.
pub fn cpu_ms(pid: u32) -> Result<f64> {
	let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} is gone"))?;
	// The name in parentheses may hold spaces: user and system time are the 12th and 13th field after it.
	let (_, rest) = stat.rsplit_once(')').context("no name")?;
	let mut fields = rest.split_whitespace().skip(11);
	let mut ticks = || fields.next()?.parse::<f64>().ok();
	let sum = ticks().zip(ticks()).map(|(user, system)| user + system).context("no times")?;
	Ok(sum * 1000.0 / TICKS_PER_SEC)
}

/// What a process holds in memory: all of it, and what is its own and not a file's, in kB.
///
/// # Errors
/// It has ended.
pub fn resident_kb(pid: u32) -> Result<(u64, u64)> {
	let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
	let field = |name: &str| {
		let line = status.lines().find(|line| line.starts_with(name))?;
		line.split_whitespace().nth(1)?.parse().ok()
	};
	field("VmRSS:").zip(field("RssAnon:")).context("no VmRSS")
}

/// The arenas of glibc's allocator in a process, but for its first, the heap. Each has 64 MB of addresses to itself, the used
/// ones and then the others.
///
/// # Errors
/// It has ended.
pub fn arenas(pid: u32) -> Result<usize> {
	const SIZE: u64 = 64 << 20;
	let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
	let range = |line: &str| {
		let (from, to) = line.split_whitespace().next()?.split_once('-')?;
		u64::from_str_radix(from, 16).ok().zip(u64::from_str_radix(to, 16).ok())
	};
	let ranges: Vec<_> = maps.lines().filter_map(range).collect();
	let is_arena = |pair: &[(u64, u64)]| pair[0].0.is_multiple_of(SIZE) && pair[1] == (pair[0].1, pair[0].0 + SIZE);
	Ok(ranges.windows(2).filter(|pair| is_arena(pair)).count())
}

/// All processors: how long they worked so far, in milliseconds, summed up, and how long they could have.
///
/// # Errors
/// There is no `/proc/stat`.
pub fn machine_ms() -> Result<(f64, f64)> {
	let stat = fs::read_to_string("/proc/stat")?;
	let line = stat.lines().next().context("an empty /proc/stat")?;
	let ticks: Vec<f64> = line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
	let all: f64 = ticks.iter().sum();
	// The fourth and fifth are idle time and waiting for a disk.
	let idle: f64 = ticks.iter().skip(3).take(2).sum();
	Ok(((all - idle) * 1000.0 / TICKS_PER_SEC, all * 1000.0 / TICKS_PER_SEC))
}

/// How long an `fdatasync` of 4 KiB takes below `dir`, in milliseconds: the median of many.
///
/// # Errors
/// The disk is full.
pub fn sync_latency_ms(dir: &Path) -> Result<f64> {
	const TRIES: usize = 101;
	let path = dir.join("sync-latency");
	let file = File::create(&path)?;
	let mut times = Vec::with_capacity(TRIES);
	for i in 0..TRIES {
		file.write_all_at(&[1; 4096], i as u64 * 4096)?;
		let begun = Instant::now();
		file.sync_data()?;
		times.push(begun.elapsed());
	}
	fs::remove_file(path)?;
	times.sort();
	Ok(times[TRIES / 2].as_secs_f64() * 1000.0)
}

/// Keeps a running process, all its threads, on these processors (as `taskset` counts them: `0`, `0-1`).
///
/// # Errors
/// There is no `taskset`, or no such processor.
pub fn pin(pid: u32, processors: &str) -> Result<()> {
	let done = Command::new("taskset").args(["-a", "-c", "-p", processors, &pid.to_string()]).output();
	let done = done.context("cannot run taskset (util-linux)")?;
	if !done.status.success() {
		bail!("taskset fails: {}", String::from_utf8_lossy(&done.stderr));
	}
	Ok(())
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_process_under_the_library_is_counted_and_slowed_down() {
		let dir = tempfile::tempdir().unwrap();
		let (meter, environment) = Interposer::build(dir.path()).unwrap().meter().unwrap();
		meter.slow_down(Duration::from_millis(20)).unwrap();
		let file = dir.path().join("file");
		let mut dd = Command::new("dd");
		dd.arg("if=/dev/zero").arg(format!("of={}", file.display())).args(["bs=1000", "count=3", "conv=fsync"]);
		let begun = Instant::now();
		assert!(dd.envs(environment).output().unwrap().status.success());
		assert!(begun.elapsed() >= Duration::from_millis(20), "it is slowed down");
		let counts = meter.read(std::process::id()).unwrap();
		assert_eq!((counts.syncs, counts.writes, counts.bytes), (1.0, 3.0, 3000.0));
		assert!(counts.sync_ms >= 20.0);
	}

	#[test]
	fn this_process_has_used_some_processor_time_and_memory() {
		let (all, own) = resident_kb(std::process::id()).unwrap();
		assert!(all >= own && own > 0);
		// A second thread that allocates has an arena of its own.
		let second = std::thread::spawn(|| (vec![0; 1_000], arenas(std::process::id()).unwrap()));
		assert!(second.join().unwrap().1 > 0 || !cfg!(target_env = "gnu"));
		let (busy, total) = machine_ms().unwrap();
		assert!(total >= busy && busy > 0.0);
		assert!(cpu_ms(std::process::id()).is_ok());
	}
}
