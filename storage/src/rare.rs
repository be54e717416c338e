//! Values that are large and written rarely: the network graph and the scorer. They are caches; nobody waits for them, and
//! they never come in front of a payment.
//!
//! Such a value waits beside the queue, only the last one of its key, until nothing else waits. Then another thread looks
//! for what changed, and it is written in steps of [`STEP`] bytes, each a commit of its own, and each only when nothing else
//! waits. It does not go through the log of values: its row changes in the last step, so that a crash leaves the old value or
//! the new one, and parts that no row speaks of, which are removed when the store is opened.

use crate::delta;
use crate::kv::Key;
use crate::queue::{Change, Queue};
use crate::stats::add;
use crate::table::{self, PART, Row};
use crate::writer::{Trouble, Writer};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};

/// Bytes written in one step; who comes meanwhile waits for so much.
pub(crate) const STEP: usize = if cfg!(test) { PART } else { 4 * PART };
/// Parts of an old base that are removed in one step.
const PARTS_DROPPED: i64 = 16;
/// Changes of so many bytes are a row; if they are more, the value is written whole.
const MAX_ROW: usize = STEP;
/// A base is written anew when the changes are more than this part of it.
const BASE_SHARE: usize = 4;
/// A step is made all the same when it has waited for so many batches.
const PATIENCE: u32 = if cfg!(test) { 50 } else { 1000 };

/// A value on its way.
pub(crate) struct Rare {
	key: Key,
	value: Arc<Vec<u8>>,
	stage: Stage,
}

enum Stage {
	/// What of the value's base has changed is being looked for; the base's number.
	Comparing(i64, Receiver<Option<Vec<u8>>>),
	/// The value is written as a base of this number; the next part.
	Copying(i64, usize),
	/// The base before is removed.
	Dropping(i64),
}

impl Writer {
	/// After the answers: a step, if nothing waits.
	pub fn rare_if_idle(&mut self) -> Result<(), Trouble> {
		if !self.queue.is_idle() && self.rare_waited < PATIENCE {
			self.rare_waited += 1;
			return Ok(());
		}
		self.rare_waited = 0;
		self.rare_goes_on = self.rare_step(false)?;
		Ok(())
	}

	/// Writes all of such values that there are, now: somebody wants to see them, or the store is closed.
	pub fn finish_rare(&mut self) -> Result<(), Trouble> {
		while self.rare_step(true)? {}
		Ok(())
	}

	/// Writes one, now.
	pub fn write_rare(&mut self, key: Key, value: Vec<u8>) -> Result<(), Trouble> {
		self.finish_rare()?;
		self.begin_rare(key, value)?;
		self.finish_rare()
	}

	/// The value of this key is going to be removed.
	pub fn stop_rare(&mut self, key: &Key) -> Result<(), Trouble> {
		match self.rare.take_if(|rare| rare.key == *key).map(|rare| rare.stage) {
			Some(Stage::Copying(base, _) | Stage::Dropping(base)) => {
				table::drop_parts(&self.conn, base).map_err(|e| self.explain(&e))
			}
			Some(Stage::Comparing(..)) | None => Ok(()),
		}
	}

	/// Makes a step; false if there is none to be made now.
	fn rare_step(&mut self, wait: bool) -> Result<bool, Trouble> {
		let Some(rare) = self.rare.take() else {
			let Some((key, value)) = self.queue.take_idle() else { return Ok(false) };
			return self.begin_rare(key, value).map(|()| true);
		};
		let Rare { key, value, stage } = rare;
		let next = match stage {
			Stage::Comparing(base, found) => {
				let script = match found.try_recv() {
					Ok(script) => script,
					Err(TryRecvError::Empty) if wait => found.recv().unwrap_or_default(),
					Err(TryRecvError::Empty) => {
						self.rare = Some(Rare { key, value, stage: Stage::Comparing(base, found) });
						return Ok(false);
					}
					Err(TryRecvError::Disconnected) => None,
				};
				self.compared(&key, &value, base, script)?
			}
			Stage::Copying(base, part) => self.copy_some(&key, &value, base, part)?,
			Stage::Dropping(base) => {
				self.begin()?;
				let dropped = table::drop_some_parts(&self.conn, base, PARTS_DROPPED).map_err(|e| self.explain(&e))?;
				self.commit()?;
				(dropped > 0).then_some(Stage::Dropping(base))
			}
		};
		self.rare = next.map(|stage| Rare { key, value, stage });
		Ok(true)
	}

	fn begin_rare(&mut self, key: Key, value: Vec<u8>) -> Result<(), Trouble> {
		let (purpose, bytes) = (key.purpose(), key.len() + value.len() as u64);
		self.queue.counters.change(purpose, bytes);
		if let Some(recorder) = &mut self.recorder {
			recorder.change(&Change::Put { key: key.clone(), value: value.clone() });
		}
		// What the log says of it, from a version that wrote it there, is over.
		if self.values.recent.contains_key(&key) {
			self.begin()?;
			self.values.settling.stop_if(&self.conn, &key).map_err(|e| self.explain(&e))?;
		}
		let row = table::row(&self.conn, &key).map_err(|e| self.explain(&e))?;
		let (value, base) = (Arc::new(value), row.and_then(|row| row.base));
		let stage = match base {
			_ if value.len() < table::MIN_PARTS => {
				let row = Row { crc: crc32fast::hash(&value), base: None, value: value.to_vec() };
				self.put_rare(&key, &row, value.len())?;
				self.rare = base.map(|base| Rare { key, value, stage: Stage::Dropping(base) });
				return Ok(());
			}
			Some(base) => {
				let old = table::parts(&self.conn, base).map_err(|e| self.explain(&e))?;
				Stage::Comparing(base, compare(self.queue.clone(), old, value.clone()))
			}
			None => Stage::Copying(self.values.new_base(), 0),
		};
		self.rare = Some(Rare { key, value, stage });
		Ok(())
	}

	/// With what changed: a row is enough, or the value is written whole.
	fn compared(
		&mut self,
		key: &Key,
		value: &[u8],
		base: i64,
		script: Option<Vec<u8>>,
	) -> Result<Option<Stage>, Trouble> {
		match script.filter(|script| script.len() <= MAX_ROW.min(value.len() / BASE_SHARE)) {
			Some(script) => {
				let bytes = script.len();
				let row = Row { crc: crc32fast::hash(value), base: Some(base), value: script };
				self.put_rare(key, &row, bytes)?;
				Ok(None)
			}
			None => Ok(Some(Stage::Copying(self.values.new_base(), 0))),
		}
	}

	fn copy_some(&mut self, key: &Key, value: &[u8], base: i64, part: usize) -> Result<Option<Stage>, Trouble> {
		self.begin()?;
		let (from, until) = (part * PART, value.len().min(part * PART + STEP));
		for (part, bytes) in (part..).zip(value[from..until].chunks(PART)) {
			table::put_part(&self.conn, base, part as i64, bytes).map_err(|e| self.explain(&e))?;
		}
		if until < value.len() {
			self.commit()?;
			return Ok(Some(Stage::Copying(base, part + STEP / PART)));
		}
		let before = table::row(&self.conn, key).map_err(|e| self.explain(&e))?.and_then(|row| row.base);
		self.put_rare(key, &table::whole(base, value), value.len())?;
		Ok(before.map(Stage::Dropping))
	}

	/// The row of the new value: from here on it is there.
	fn put_rare(&mut self, key: &Key, row: &Row, bytes: usize) -> Result<(), Trouble> {
		self.begin()?;
		// Whatever the log has of this key was said before, and whatever it will say comes behind.
		let n = self.values.next - 1;
		self.values.recent.remove(key);
		// A version that passed such values through the log may have left deltas there.
		let emptied = row.base.map_or(Ok(()), |base| table::drop_chain(&self.conn, base));
		emptied.map_err(|e| self.explain(&e))?;
		table::set_row(&self.conn, key, n, row).map_err(|e| self.explain(&e))?;
		self.queue.counters.record(key.purpose(), bytes as u64);
		add(&self.queue.counters.settled_bytes, bytes as u64);
		self.commit()
	}
}

/// Looks for what changed, in a thread of its own: the graph of the public network takes a good part of a second on a small
/// machine.
fn compare(queue: Arc<Queue>, old: Vec<u8>, new: Arc<Vec<u8>>) -> Receiver<Option<Vec<u8>>> {
	let (tell, found) = mpsc::channel();
	let work = move || {
		// Nobody listens any more if the value was removed meanwhile.
		let _ = tell.send(delta::diff(&old, &new));
		queue.go_on();
	};
	// Without a thread it is written whole.
	drop(std::thread::Builder::new().name("store-compare".into()).spawn(work));
	found
}
