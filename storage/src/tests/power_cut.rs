//! The power cut, at every write of a recorded run.
//!
//! A child process works under strace, which sees each write, sync and acknowledgement in order. From that, what may be
//! on the disk is made for every moment: all of what was synced, and of the rest nothing, some, or all but the end of the
//! last write. Each is opened, and must be a state that there was, and none before the last acknowledged one.

use super::{child, child_path, log_of, open, place, samples};
use crate::Store;
use inlet_lsp::book::{BooksRow, Write};
use lightning::util::persist::KVStore;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Steps of the run; each is a batch, or part of one.
const STEPS: usize = 400;

/// xorshift: the same run in the child and in the parent.
struct Dice(u64);

impl Dice {
	fn roll(&mut self, below: usize) -> usize {
		self.0 ^= self.0 << 13;
		self.0 ^= self.0 >> 7;
		self.0 ^= self.0 << 17;
		(self.0 >> 11) as usize % below
	}

	fn bytes(&mut self, len: usize) -> Vec<u8> {
		(0..len).map(|_| self.roll(256) as u8).collect()
	}
}

type Key = (&'static str, &'static str, String);

#[derive(Clone)]
enum Step {
	Put(Key, Vec<u8>),
	LazyRemove(Key),
	Entry(u64),
	/// The entries below this one are folded.
	Fold(u64),
}

/// What a step leaves: LDK's values, and the first entry of the ledger and the next one.
type State = (BTreeMap<Key, Vec<u8>>, (u64, u64));

/// A node's life: a manager that changes a little each time, updates that come and go, monitors, now and then a large new
/// value.
fn run() -> Vec<Step> {
	let mut dice = Dice(0x0123_4567_89ab_cdef);
	let manager = ("", "", "manager".to_owned());
	let mut large: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
	large.insert(manager.clone(), dice.bytes(20_000));
	for name in ["a_0", "b_0"] {
		large.insert(("monitors", "", name.to_owned()), dice.bytes(9000));
	}
	let mut steps: Vec<_> = large.iter().map(|(key, value)| Step::Put(key.clone(), value.clone())).collect();
	let mut updates = VecDeque::new();
	let (mut next_update, mut entries) = (0, 0);
	while steps.len() < STEPS {
		let edited = match dice.roll(100) {
			0..45 => Some(manager.clone()),
			45..55 => Some(("monitors", "", ["a_0", "b_0"][dice.roll(2)].to_owned())),
			55..80 => {
				let key = ("monitor_updates", "a_0", next_update.to_string());
				next_update += 1;
				updates.push_back(key.clone());
				let len = 100 + dice.roll(1200);
				steps.push(Step::Put(key, dice.bytes(len)));
				None
			}
			80..92 => {
				steps.extend(updates.pop_front().map(Step::LazyRemove));
				None
			}
			92..98 => {
				steps.push(Step::Entry(entries));
				entries += 1;
				if entries % 3 == 0 {
					steps.push(Step::Fold(entries - 2));
				}
				None
			}
			_ => {
				let value = dice.bytes(9000);
				large.insert(("monitors", "", "b_0".to_owned()), value.clone());
				steps.push(Step::Put(("monitors", "", "b_0".to_owned()), value));
				None
			}
		};
		if let Some(key) = edited {
			let value = large.get_mut(&key).unwrap();
			let (at, gone, added) = (dice.roll(value.len() - 500), dice.roll(400), dice.roll(400));
			value.splice(at..at + gone, dice.bytes(added));
			steps.push(Step::Put(key, value.clone()));
		}
	}
	steps
}

fn states(steps: &[Step]) -> Vec<State> {
	let mut states = vec![State::default()];
	for step in steps {
		let (mut values, mut entries) = states.last().unwrap().clone();
		match step {
			Step::Put(key, value) => drop(values.insert(key.clone(), value.clone())),
			Step::LazyRemove(key) => drop(values.remove(key)),
			Step::Entry(_) => entries.1 += 1,
			Step::Fold(before) => entries.0 = *before,
		}
		states.push((values, entries));
	}
	states
}

/// The child: takes the steps, one to four at a time, and says which are durable.
#[tokio::test]
async fn power_cut_child() {
	let Some(path) = child_path() else { return };
	let store = open(&path);
	writeln!(std::io::stdout(), "ack 0").unwrap();
	let mut dice = Dice(99);
	let mut done = 0;
	let steps = run();
	while done < steps.len() {
		let until = steps.len().min(done + 1 + dice.roll(4));
		let mut waits: Vec<std::pin::Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
		for step in &steps[done..until] {
			match step.clone() {
				Step::Put((primary, secondary, key), value) => {
					let wait = store.write(primary, secondary, &key, value);
					waits.push(Box::pin(async { wait.await.unwrap() }));
				}
				Step::LazyRemove((primary, secondary, key)) => {
					drop(store.remove(primary, secondary, &key, true));
				}
				Step::Entry(seq) => waits.push(Box::pin(store.commit(vec![samples::entry(seq)]))),
				Step::Fold(before) => waits.push(Box::pin(store.commit(samples::fold(before)))),
			}
		}
		let durable = steps[done..until].iter().rposition(|step| match step {
			// Its future says nothing about the disk.
			Step::Put((_, _, key), _) => key != "manager",
			Step::LazyRemove(_) => false,
			Step::Entry(_) | Step::Fold(_) => true,
		});
		for wait in waits {
			wait.await;
		}
		if let Some(last) = durable {
			writeln!(std::io::stdout(), "ack {}", done + last + 1).unwrap();
		}
		done = until;
	}
	store.drain().await;
	writeln!(std::io::stdout(), "syncs {}", store.stats().syncs).unwrap();
	store.close().await;
	writeln!(std::io::stdout(), "ack {}", steps.len()).unwrap();
}

/// The child: opens the file, which brings it up to date.
#[tokio::test]
async fn migrating_child() {
	let Some(path) = child_path() else { return };
	open(&path).close().await;
}

#[derive(Debug)]
pub(super) enum Event {
	Write {
		file: String,
		at: usize,
		bytes: Vec<u8>,
	},
	Truncate {
		file: String,
		len: usize,
	},
	Sync {
		file: String,
	},
	Remove {
		file: String,
	},
	Acknowledged(usize),
	/// What the store believes.
	Syncs(usize),
}

/// Has a child work, and gives what it did to its files and what it said. `None` on a machine without strace, which cannot
/// tell: `.ci/run` installs it.
pub(super) fn record(test: &str, path: &Path) -> Option<Vec<Event>> {
	let trace = path.with_extension("trace");
	let inner = child(test, path);
	let calls = "trace=pwrite64,write,ftruncate,fsync,fdatasync,unlink";
	let traced = Command::new("strace")
		.args(["-f", "-y", "-xx", "-s", "100000", "-e", calls, "-o"])
		.arg(&trace)
		.arg(inner.get_program())
		.args(inner.get_args())
		.env(super::CHILD, path)
		.stdout(Stdio::null())
		.status();
	match traced {
		Ok(status) => assert!(status.success()),
		Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
			eprintln!("not tried: strace is not here, and it is what sees the order of the writes");
			return None;
		}
		Err(e) => panic!("strace does not start: {e}"),
	}
	let events = parse(&fs::read_to_string(&trace).unwrap(), path);
	fs::remove_file(trace).unwrap();
	Some(events)
}

/// Calls that were interrupted by another thread's are put together again, where they end.
fn parse(trace: &str, path: &Path) -> Vec<Event> {
	let mut begun: HashMap<&str, String> = HashMap::new();
	let mut events = Vec::new();
	for line in trace.lines() {
		let (pid, text) = line.split_once(' ').unwrap();
		let text = text.trim_start();
		if let Some(start) = text.strip_suffix(" <unfinished ...>") {
			begun.insert(pid, start.to_owned());
			continue;
		}
		let whole = match text.split_once(" resumed>") {
			Some((_, end)) => begun.remove(pid).unwrap() + end,
			None => text.to_owned(),
		};
		events.extend(event(&whole, path));
	}
	events
}

fn event(call: &str, path: &Path) -> Option<Event> {
	let (name, rest) = call.split_once('(')?;
	let (arguments, result) = rest.rsplit_once(" = ")?;
	// A call that was interrupted ends in a short line, which strace fills up.
	let arguments = arguments.trim_end();
	assert!(!result.starts_with('-') || name == "unlink", "a call failed: {}", &call[..call.len().min(200)]);
	let hex = |text: &str| -> Vec<u8> {
		let digits = text.trim_matches('"').split("\\x").skip(1);
		digits.map(|digits| u8::from_str_radix(&digits[..2], 16).unwrap()).collect()
	};
	let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
	if name == "unlink" {
		return Some(Event::Remove { file: text(hex(arguments.trim_end_matches(')'))) });
	}
	let (file, rest) = arguments.split_once('<')?.1.split_once('>')?;
	let file = text(hex(file));
	let ours = Path::new(&file).parent() == path.parent();
	let mut rest = rest.trim_start_matches(", ").trim_end_matches(')').split(", ");
	match name {
		"write" => {
			let said = text(hex(rest.next()?));
			let (word, number) = said.trim().split_once(' ')?;
			let number = number.parse().ok()?;
			match word {
				"ack" => Some(Event::Acknowledged(number)),
				"syncs" => Some(Event::Syncs(number)),
				_ => None,
			}
		}
		"pwrite64" if ours => {
			let bytes = hex(rest.next()?);
			assert_eq!(bytes.len().to_string(), rest.next()?, "all of it is in the trace");
			Some(Event::Write { file, bytes, at: rest.next()?.parse().unwrap() })
		}
		"ftruncate" if ours => Some(Event::Truncate { file, len: rest.next()?.parse().unwrap() }),
		"fsync" | "fdatasync" if ours => Some(Event::Sync { file }),
		_ => None,
	}
}

/// The disk: what is safe of each file, and what was written since its last sync.
#[derive(Default)]
pub(super) struct Disk {
	files: BTreeMap<String, File>,
	pub(super) acknowledged: usize,
}

#[derive(Clone, Default)]
struct File {
	safe: Vec<u8>,
	since: Vec<Change>,
}

#[derive(Clone)]
enum Change {
	Write(usize, Vec<u8>),
	Truncate(usize),
}

impl Change {
	fn make(&self, content: &mut Vec<u8>) {
		match self {
			Change::Write(at, bytes) => place_bytes(content, *at, bytes),
			Change::Truncate(len) => content.resize(*len, 0),
		}
	}
}

/// What of the unsynced writes is there after the cut.
#[derive(Clone, Copy, Debug)]
pub(super) enum Left {
	Nothing,
	AllButHalfTheLast,
	Some(u64),
	All,
}

impl Disk {
	pub(super) fn see(&mut self, event: Event) {
		match event {
			Event::Write { file, at, bytes } => self.file(file).since.push(Change::Write(at, bytes)),
			Event::Truncate { file, len } => self.file(file).since.push(Change::Truncate(len)),
			Event::Sync { file } => {
				let file = self.file(file);
				std::mem::take(&mut file.since).iter().for_each(|change| change.make(&mut file.safe));
			}
			Event::Remove { file } => drop(self.files.remove(&file)),
			Event::Acknowledged(n) => self.acknowledged = n,
			Event::Syncs(_) => {}
		}
	}

	fn file(&mut self, name: String) -> &mut File {
		self.files.entry(name).or_default()
	}

	/// Files as the cut leaves them, in a directory of their own.
	pub(super) fn cut(&self, left: Left, dir: &Path) {
		for (name, file) in &self.files {
			let mut content = file.safe.clone();
			let last = file.since.len().wrapping_sub(1);
			let mut dice = Dice(match left {
				Left::Some(seed) => seed,
				_ => 1,
			});
			for (i, change) in file.since.iter().enumerate() {
				match (left, change) {
					(Left::Nothing, _) => {}
					(Left::AllButHalfTheLast, Change::Write(at, bytes)) if i == last => {
						place_bytes(&mut content, *at, &bytes[..bytes.len() / 2]);
					}
					(Left::All | Left::AllButHalfTheLast, change) => change.make(&mut content),
					// In any order, and sectors of 512 bytes: that is what a disk promises at most.
					(Left::Some(_), Change::Write(at, bytes)) => {
						for (sector, bytes) in bytes.chunks(512).enumerate().filter(|_| dice.roll(2) == 0) {
							place_bytes(&mut content, at + sector * 512, bytes);
						}
					}
					(Left::Some(_), truncate) if dice.roll(2) == 0 => truncate.make(&mut content),
					(Left::Some(_), _) => {}
				}
			}
			fs::write(dir.join(Path::new(name).file_name().unwrap()), content).unwrap();
		}
	}
}

/// Where a sync costs nothing, if the machine has such a place: there are thousands of them.
pub(super) fn place_in_memory() -> (tempfile::TempDir, std::path::PathBuf) {
	let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
	let path = dir.path().join("inlet.db");
	(dir, path)
}

fn place_bytes(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
	if content.len() < at + bytes.len() {
		content.resize(at + bytes.len(), 0);
	}
	content[at..at + bytes.len()].copy_from_slice(bytes);
}

async fn state(store: &Store) -> State {
	let mut values = BTreeMap::new();
	for (primary, secondary) in [("", ""), ("monitors", ""), ("monitor_updates", "a_0")] {
		for key in store.list(primary, secondary).await.unwrap() {
			let value = KVStore::read(store, primary, secondary, &key).await.unwrap();
			values.insert((primary, secondary, key), value);
		}
	}
	(values, ledger(store).await.unwrap())
}

/// The first entry and the next one. What was folded is gone, and is in the totals: both or neither.
async fn ledger(store: &Store) -> Option<(u64, u64)> {
	let seqs: Vec<_> = store.ledger(None, 500).await.ok()?.iter().rev().map(|entry| entry.seq).collect();
	let rows = store.load_rows().await.ok()?;
	let folded = rows.iter().find_map(|row| match row {
		Write::Books(BooksRow::Folded(folded)) => Some(folded.before),
		_ => None,
	});
	let first = folded.unwrap_or(0);
	let next = first + seqs.len() as u64;
	assert_eq!(seqs, (first..next).collect::<Vec<_>>());
	let totals = store.ledger_totals().await.ok()?;
	assert_eq!(totals.iter().map(|total| total.entries).sum::<u64>(), next);
	Some((first, next))
}

/// R13, mistakes 2 and 3 of the list.
#[tokio::test]
async fn r13_the_power_cut_at_every_write() {
	let (_dir, path) = place();
	let Some(events) = record("power_cut::power_cut_child", &path) else { return };
	let opened = events.iter().position(|event| matches!(event, Event::Acknowledged(0))).unwrap();
	let counted = events.iter().position(|event| matches!(event, Event::Syncs(_))).unwrap();
	let syncs = events[opened..counted].iter().filter(|event| matches!(event, Event::Sync { .. })).count();
	assert!(matches!(events[counted], Event::Syncs(n) if n == syncs), "{:?}, but strace saw {syncs}", events[counted]);
	let states = states(&run());
	let (mut disk, mut cuts, mut behind) = (Disk::default(), 0, 0);
	// The first sync is of an empty file that was just made: without it there is no store.
	let mut is_there = false;
	for (i, event) in events.into_iter().enumerate() {
		let acknowledged = matches!(event, Event::Acknowledged(_));
		let synced = matches!(event, Event::Sync { .. });
		is_there |= synced;
		disk.see(event);
		if acknowledged || !is_there {
			continue;
		}
		let some = Left::Some(i as u64 * 7919 + 1);
		let turn = [some, Left::All, some, Left::AllButHalfTheLast][i % 4];
		// What is safe changes with a sync only.
		for left in [turn].into_iter().chain(synced.then_some(Left::Nothing)) {
			let (_cut_dir, cut) = place_in_memory();
			disk.cut(left, cut.parent().unwrap());
			let store = open(&cut);
			let found = state(&store).await;
			drop(store);
			let at = states.iter().skip(disk.acknowledged).position(|state| *state == found);
			assert!(
				at.is_some(),
				"event {i}, {left:?}: {} were acknowledged; what is there is {}",
				disk.acknowledged,
				match states.iter().rposition(|state| *state == found) {
					Some(n) => format!("what was there after {n}"),
					None => "no state that there ever was".to_owned(),
				}
			);
			behind += usize::from(at == Some(0));
			cuts += 1;
		}
	}
	assert_eq!(disk.acknowledged, STEPS);
	assert!(cuts > 3 * STEPS && behind < cuts, "{cuts} cuts, {behind} at the last acknowledged step");
	println!("{STEPS} steps, {syncs} syncs, {cuts} cuts; {behind} left exactly what was acknowledged");
}

/// What is there: a state that can be read, or `None` if it is refused, or says that it is damaged.
async fn readable(path: &Path) -> Option<State> {
	let store = Store::open(path, |_| {}).ok()?;
	let mut values = BTreeMap::new();
	for (primary, secondary) in [("", ""), ("monitors", ""), ("monitor_updates", "a_0")] {
		for key in store.list(primary, secondary).await.ok()? {
			let value = KVStore::read(&store, primary, secondary, &key).await.ok()?;
			values.insert((primary, secondary, key), value);
		}
	}
	Some((values, ledger(&store).await?))
}

/// R13: a disk that says "synced" and has not written until the cut. One that lies about all files alike leaves what was there
/// some time ago, which is one of the states above, only older. One that has written one file and not the other (a lie, and
/// reordered) may leave anything: it is to be a state that there was, or to be refused; never another.
#[tokio::test]
async fn r13_a_disk_that_lies_about_one_of_two_files() {
	let (_dir, path) = place();
	let Some(events) = record("power_cut::power_cut_child", &path) else { return };
	let (database, log) = (path.to_str().unwrap().to_owned(), log_of(&path).to_str().unwrap().to_owned());
	let states = states(&run());
	let (mut disk, mut earlier) = (Disk::default(), VecDeque::<BTreeMap<String, Vec<u8>>>::new());
	let (mut syncs, mut refused, mut old) = (0, 0, 0);
	for event in events {
		let synced = matches!(event, Event::Sync { .. });
		disk.see(event);
		if !synced || disk.acknowledged == 0 {
			continue;
		}
		syncs += 1;
		let now: BTreeMap<String, Vec<u8>> =
			disk.files.iter().map(|(name, file)| (name.clone(), file.safe.clone())).collect();
		if syncs % 5 == 0 {
			for back in [1, 4, 16].into_iter().filter(|back| *back <= earlier.len()) {
				for lied in [&database, &log] {
					let (_cut_dir, cut) = place_in_memory();
					let then = &earlier[earlier.len() - back];
					for (name, content) in &now {
						let content = if name == lied { then.get(name).unwrap_or(content) } else { content };
						fs::write(cut.with_file_name(Path::new(name).file_name().unwrap()), content).unwrap();
					}
					match readable(&cut).await {
						None => refused += 1,
						Some(found) => {
							assert!(states.contains(&found), "a state that never was, {back} syncs back, {lied}");
							old += 1;
						}
					}
				}
			}
		}
		earlier.push_back(now);
		if earlier.len() > 16 {
			earlier.pop_front();
		}
	}
	println!("{syncs} syncs: {old} left a state that there was, {refused} were refused");
	assert!(old + refused > 100);
}

/// The same for the way from version 1 to this one.
#[tokio::test]
async fn r13_the_power_cut_while_migrating() {
	let (_dir, path) = place();
	fs::copy(super::opening::FROZEN_V1, &path).unwrap();
	let before = fs::read(&path).unwrap();
	let Some(events) = record("power_cut::migrating_child", &path) else { return };
	let mut disk = Disk::default();
	let name = path.to_str().unwrap().to_owned();
	disk.files.insert(name, File { safe: before, ..File::default() });
	let mut cuts = 0;
	for (i, event) in events.into_iter().enumerate() {
		disk.see(event);
		for left in [Left::Nothing, Left::AllButHalfTheLast, Left::Some(i as u64 + 1), Left::All] {
			let (_cut_dir, cut) = place_in_memory();
			disk.cut(left, cut.parent().unwrap());
			super::opening::assert_frozen_v1(&open(&cut)).await;
			cuts += 1;
		}
	}
	assert!(cuts > 40, "{cuts} cuts");
	assert!(log_of(&path).parent().unwrap().join("inlet.db.v1").exists());
}
