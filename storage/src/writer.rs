//! The writer: the one thread that owns the connection.

use crate::db::{self, Connection};
use crate::error::{ReadError, WriteError};
use crate::pg::{self, Session};
use crate::queue::{Answer, Change, MAX_LAZY, Op, Queue, Sees};
use crate::rare::Rare;
use crate::record::Recorder;
use crate::schema::PAGE_SIZE;
use crate::stats::{Purpose, add};
use crate::stream::Tap;
use crate::values::Values;
use crate::{book, kv, table, wallet};
use rusqlite::ErrorCode;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Frames (pages) in the log from which on it is copied into the database as soon as nobody waits.
pub const CHECKPOINT_FRAMES: u64 = if cfg!(test) { 512 } else { 8192 };
/// Frames in the log from which on it is copied even though somebody waits: the log's bound, but for one batch.
pub const MAX_WAL_FRAMES: u64 = 4 * CHECKPOINT_FRAMES;

const FRAME_HEADER: u64 = 24;

/// What is to be told after a batch.
struct Due {
	/// Of changes; and, if nobody keeps a copy, of reads between them.
	answers: Vec<Answer>,
	/// Of reads.
	reads: Vec<Answer>,
	/// When the file is closed.
	last: Vec<Answer>,
}

/// Something was not written, so nothing more may be: the process has to end.
pub(crate) struct Trouble(String);

pub(crate) struct Writer {
	pub queue: Arc<Queue>,
	pub conn: Connection,
	pub values: Values,
	pub path: PathBuf,
	pub fatal: Box<dyn Fn(&str) + Send>,
	/// Who keep copies elsewhere.
	pub taps: Vec<Tap>,
	/// A transaction is open. Between batches it holds lazy removes, and what was settled: nothing that is waited for.
	in_transaction: bool,
	/// Changes in the open transaction that nobody waits for.
	lazy: usize,
	/// Frames in the log.
	frames: u64,
	/// The next commit starts the log anew, which costs a sync of its header.
	fresh_log: bool,
	/// A value that is written rarely, on its way.
	pub rare: Option<Rare>,
	/// There is a step of it to be made as soon as nothing waits.
	pub rare_goes_on: bool,
	/// Batches since it got on.
	pub rare_waited: u32,
	pub recorder: Option<Recorder>,
}

impl Writer {
	pub fn new(
		queue: Arc<Queue>,
		conn: Connection,
		values: Values,
		path: PathBuf,
		fatal: Box<dyn Fn(&str) + Send>,
	) -> Writer {
		Writer {
			queue,
			conn,
			values,
			path,
			fatal,
			taps: Vec::new(),
			in_transaction: false,
			lazy: 0,
			frames: 0,
			fresh_log: true,
			rare: None,
			rare_goes_on: false,
			rare_waited: 0,
			recorder: Recorder::from_environment(),
		}
	}

	/// Works until the store is closed or has failed. Gives the answers that are due when the file is closed.
	pub fn run(&mut self) -> Vec<Answer> {
		match self.log_frames("NOOP") {
			// A new file, or one whose process was killed, has a log already.
			Ok((frames, _)) => (self.frames, self.fresh_log) = (frames, frames == 0),
			Err(trouble) => return self.fail(&trouble),
		}
		let renew_every = self.conn.pg().map(Session::renew_every);
		loop {
			let batch = self.queue.take(self.rare_goes_on, renew_every);
			self.queue.room.keep_for(batch.iter().map(Op::bytes).sum());
			let mut batch = batch.into_iter();
			let mut due = Due { answers: Vec::with_capacity(batch.len()), reads: Vec::new(), last: Vec::new() };
			match self.work(&mut batch, &mut due) {
				Ok(closing) => {
					self.answer(due.answers, due.reads);
					if closing {
						return due.last;
					}
				}
				// The hook comes first: with the default one, nobody lives to see the senders dropped.
				Err(trouble) => return self.fail(&trouble),
			}
			let rest = self.checkpoint_if_due().and_then(|()| self.settle_if_due()).and_then(|()| self.rare_if_idle());
			if let Err(trouble) = rest.and_then(|()| self.keep_lease()) {
				return self.fail(&trouble);
			}
		}
	}

	/// Tells what is due: in order, or, if acknowledgements wait for a copy elsewhere, reads at once.
	fn answer(&self, answers: Vec<Answer>, reads: Vec<Answer>) {
		reads.into_iter().for_each(|answer| answer());
		match self.holding() {
			Some(tap) => tap.answer(answers),
			None => answers.into_iter().for_each(|answer| answer()),
		}
	}

	/// Does a batch, in order. What is to be told afterwards goes to `due`, in order. True if it was the last one.
	fn work(&mut self, batch: &mut dyn Iterator<Item = Op>, due: &mut Due) -> Result<bool, Trouble> {
		let (mut urgent, mut closing) = (false, false);
		for op in batch {
			match op {
				Op::Change(change, done) => {
					self.apply(change)?;
					urgent = true;
					due.answers.push(tell(done));
				}
				Op::Soon(change) => {
					self.apply(change)?;
					urgent = true;
				}
				Op::Lazy(change) => {
					self.apply(change)?;
					self.lazy += 1;
				}
				Op::Idle(key, value) => self.write_rare(key, value)?,
				Op::Ask(question, sees) => {
					if sees == Sees::Soon {
						self.finish_rare()?;
					}
					let answer = question(&self.conn, &self.values);
					match self.holding() {
						Some(_) => due.reads.push(answer),
						None => due.answers.push(answer),
					}
					self.check_transaction()?;
				}
				Op::DrainHere(done) if self.holding().is_some() => {
					urgent = true;
					due.reads.push(tell(done));
				}
				Op::Drain(done) | Op::DrainHere(done) => {
					urgent = true;
					due.answers.push(tell(done));
				}
				Op::Close(done) => {
					(urgent, closing) = (true, true);
					due.last.push(tell(done));
				}
			}
		}
		if urgent || self.lazy > MAX_LAZY {
			self.commit()?;
		}
		if closing {
			self.finish_rare()?;
			self.checkpoint("TRUNCATE")?;
			if let Some(session) = self.conn.pg() {
				session.release();
			}
		}
		Ok(closing)
	}

	/// Before the writer waits for work: the lease does not run out meanwhile, nor is its row kept locked.
	fn keep_lease(&mut self) -> Result<(), Trouble> {
		if self.conn.pg().is_some_and(Session::is_begun) {
			self.commit()?;
		}
		self.conn.pg().map_or(Ok(()), Session::renew_if_due).map_err(|e| self.explain(&e.into()))
	}

	fn apply(&mut self, change: Change) -> Result<(), Trouble> {
		self.begin()?;
		if let Some(recorder) = &mut self.recorder {
			recorder.change(&change);
		}
		if let Some(stream) = &mut self.values.stream
			&& change.is_not_a_value()
		{
			stream.change(&change);
		}
		let (purpose, bytes) = change.weight();
		self.queue.counters.change(purpose, bytes);
		let done = match change {
			Change::Put { key, value } if key.is_nodes_own() => kv::put(&self.conn, &key, value),
			Change::Remove { key } if key.is_nodes_own() => table::remove(&self.conn, &key),
			Change::Put { key, value } => {
				let recorded = self.values.put(&self.conn, key, value);
				return self.count_record(purpose, recorded);
			}
			Change::Remove { key } => {
				self.stop_rare(&key)?;
				let recorded = self.values.remove(&self.conn, key);
				return self.count_record(purpose, recorded);
			}
			Change::Rows(rows) => book::write(&self.conn, &rows),
			Change::WalletAppend(json) => wallet::append(&self.conn, &json),
			Change::WalletReplace(up_to, json) => wallet::replace(&self.conn, up_to, &json),
		};
		done.map_err(|e| self.explain(&e))
	}

	pub fn count_record(&self, purpose: Purpose, recorded: Result<usize, WriteError>) -> Result<(), Trouble> {
		let bytes = recorded.map_err(|e| self.explain_value(&e))?;
		self.queue.counters.record(purpose, bytes as u64);
		Ok(())
	}

	pub fn begin(&mut self) -> Result<(), Trouble> {
		if !self.in_transaction {
			self.conn.begin().map_err(|e| self.explain(&e))?;
			self.in_transaction = true;
		}
		Ok(())
	}

	/// Makes room in the log of values, after the answers. The next batch commits it.
	fn settle_if_due(&mut self) -> Result<(), Trouble> {
		if !self.values.settle_is_due() {
			return Ok(());
		}
		self.begin()?;
		let settled = self.values.settle(&self.conn).map_err(|e| self.explain_value(&e))?;
		add(&self.queue.counters.settled_bytes, settled as u64);
		Ok(())
	}

	/// If the database has rolled the transaction back by itself, changes are lost that were already made, and must not
	/// be acknowledged.
	fn check_transaction(&self) -> Result<(), Trouble> {
		if self.in_transaction && self.conn.has_lost_transaction() {
			return Err(Trouble(format!(
				"{} lost a transaction to a read error. Check the disk, then start again. {NOTHING_LOST}",
				self.path.display()
			)));
		}
		Ok(())
	}

	pub fn commit(&mut self) -> Result<(), Trouble> {
		if !self.in_transaction {
			return Ok(());
		}
		self.check_transaction()?;
		self.values.flush(&self.conn).map_err(|e| self.explain(&e))?;
		self.conn.commit().map_err(|e| self.explain(&e))?;
		(self.in_transaction, self.lazy) = (false, 0);
		self.hand_on();
		if let Some(recorder) = &mut self.recorder {
			recorder.committed();
		}
		let counters = &self.queue.counters;
		add(&counters.batches, 1);
		if let Some(session) = self.conn.pg() {
			add(&counters.log_bytes, session.take_bytes());
			add(&counters.syncs, 1);
			return Ok(());
		}
		let frames = self.log_frames("NOOP")?.0;
		let written = frames.saturating_sub(self.frames);
		if written > 0 {
			add(&counters.log_bytes, written * (FRAME_HEADER + PAGE_SIZE));
			add(&counters.syncs, 1 + u64::from(self.fresh_log));
			(self.frames, self.fresh_log) = (frames, false);
		}
		Ok(())
	}

	/// Hands on what was committed, for the copy.
	fn hand_on(&mut self) {
		if let Some(stream) = &mut self.values.stream
			&& let Some((first, bytes)) = stream.take()
		{
			self.taps.iter().for_each(|tap| tap.push(first, stream.last, bytes.clone()));
		}
	}

	/// The copy that acknowledgements wait for.
	fn holding(&self) -> Option<&Tap> {
		self.taps.iter().find(|tap| tap.holds())
	}

	/// After the answers, so that no payment waits for it unless the log is at its bound.
	fn checkpoint_if_due(&mut self) -> Result<(), Trouble> {
		let due = self.frames >= MAX_WAL_FRAMES || (self.frames >= CHECKPOINT_FRAMES && self.queue.is_idle());
		if due && !self.in_transaction { self.checkpoint("PASSIVE") } else { Ok(()) }
	}

	fn checkpoint(&mut self, mode: &str) -> Result<(), Trouble> {
		if self.frames == 0 {
			return Ok(());
		}
		let (frames, copied) = self.log_frames(mode)?;
		let counters = &self.queue.counters;
		add(&counters.checkpoints, 1);
		add(&counters.syncs, 2);
		add(&counters.checkpoint_bytes, self.frames * PAGE_SIZE);
		// We are the only connection, so a checkpoint is always complete, and the next commit starts the log anew.
		if copied == frames {
			(self.frames, self.fresh_log) = (0, true);
		}
		Ok(())
	}

	/// Runs a checkpoint in this mode; frames in the log, and how many of them are in the database.
	fn log_frames(&self, mode: &str) -> Result<(u64, u64), Trouble> {
		let Some(file) = self.conn.sqlite() else { return Ok((0, 0)) };
		let sql = format!("PRAGMA wal_checkpoint({mode})");
		file.query_row(&sql, [], |row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?)))
			.map(|(frames, copied)| (frames.max(0).cast_unsigned(), copied.max(0).cast_unsigned()))
			.map_err(|e| self.explain(&e.into()))
	}

	/// A value that cannot be written, perhaps because what it builds on cannot be read.
	pub fn explain_value(&self, e: &WriteError) -> Trouble {
		let advice = match e {
			WriteError::Sql(e) => return self.explain(e),
			WriteError::Read(ReadError::Damaged(_)) => DAMAGED,
			WriteError::Read(_) if self.conn.pg().is_some() => CHECK_SERVER,
			WriteError::Read(ReadError::Disk(_) | ReadError::Closed) => CHECK_DISK,
		};
		Trouble(format!("cannot write {}: {e}. {advice} {NOTHING_LOST}", self.path.display()))
	}

	fn fail(&self, trouble: &Trouble) -> Vec<Answer> {
		(self.fatal)(&trouble.0);
		Vec::new()
	}

	/// What happened, in the operator's words.
	pub fn explain(&self, e: &db::Error) -> Trouble {
		let path = self.path.display();
		let code = match e {
			db::Error::Sqlite(e) => e.sqlite_error_code(),
			db::Error::Pg(e @ pg::Error::WentBack { .. }) => return Trouble(format!("{path}: {e}")),
			db::Error::Pg(e) => return Trouble(format!("{path}: {e}. {NOTHING_LOST}")),
			db::Error::NoRow => None,
		};
		let advice = match code {
			Some(ErrorCode::DiskFull) => "The disk is full: free space on it, then start again.",
			Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
				"The disk has become read-only, which a failing card or cable does: check it, then start again."
			}
			Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => DAMAGED,
			_ => CHECK_DISK,
		};
		Trouble(format!("cannot write {path}: {e}. {advice} {NOTHING_LOST}"))
	}
}

/// Resolves a future. That nobody may be waiting for it any more is fine.
fn tell(done: oneshot::Sender<()>) -> Answer {
	Box::new(move || {
		let _ = done.send(());
	})
}

const DAMAGED: &str = "The file is damaged: copy it to another disk, do not delete it, and restore a backup.";
const CHECK_DISK: &str = "Check the disk, its cable and its power, then start again.";
const CHECK_SERVER: &str = "Check the database and the way to it, then start again.";
const NOTHING_LOST: &str = "Nothing that was acknowledged is lost.";
