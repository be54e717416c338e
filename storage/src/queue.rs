//! The queue: everything that is to be done to the store, in the order of the calls.

use crate::book::Row;
use crate::db::Connection;
use crate::kv::Key;
use crate::room::Room;
use crate::stats::{Counters, Purpose};
use crate::values::Values;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Lazy removes that may wait for somebody else's sync. One more, and they get their own.
pub const MAX_LAZY: usize = 1024;

/// When this much waits in the queue, the store complains in the log. It cannot refuse: LDK takes a failed write for
/// the end of the channel. The queue's true bound is the caller's: LDK stops a channel while its write is under way.
pub const QUEUE_ALARM_BYTES: u64 = 64 << 20;

/// How long a change that nobody waits for may stay in the queue before it gets a sync of its own. What it is waiting for
/// comes within microseconds, or not at all.
const SOON: Duration = Duration::from_millis(20);

/// A change, complete: the writer needs nothing else.
pub(crate) enum Change {
	Put {
		key: Key,
		value: Vec<u8>,
	},
	Remove {
		key: Key,
	},
	Rows(Vec<Row>),
	/// A BDK change set, as JSON.
	WalletAppend(String),
	/// The merged change sets up to this number, as JSON, in their place.
	WalletReplace(i64, String),
}

impl Change {
	/// Is it to anything but one of LDK's values? Those become deltas first.
	pub fn is_not_a_value(&self) -> bool {
		match self {
			Change::Put { key, .. } | Change::Remove { key } => key.is_nodes_own(),
			Change::Rows(_) | Change::WalletAppend(_) | Change::WalletReplace(..) => true,
		}
	}

	/// What it is for and how many bytes of the caller's it carries.
	pub fn weight(&self) -> (Purpose, u64) {
		match self {
			Change::Put { key, value } => (key.purpose(), key.len() + value.len() as u64),
			Change::Remove { key } => (key.purpose(), key.len()),
			Change::Rows(rows) => (Purpose::Book, rows.iter().map(Row::len).sum()),
			Change::WalletAppend(json) | Change::WalletReplace(_, json) => (Purpose::Wallet, json.len() as u64),
		}
	}
}

/// Delivers the result of a question.
pub(crate) type Answer = Box<dyn FnOnce() + Send>;
/// A question; it is asked in its turn, and the answer is delivered in its turn.
pub(crate) type Question = Box<dyn FnOnce(&Connection, &Values) -> Answer + Send>;

/// One thing to do.
pub(crate) enum Op {
	/// To be durable before the sender is used.
	Change(Change, oneshot::Sender<()>),
	/// To be durable before anything behind it, and soon; nobody waits. One that still waits goes when the next comes.
	Soon(Change),
	/// A value that is written rarely: when nothing else waits, and only the last one of its key.
	Idle(Key, Vec<u8>),
	/// To be done before anything behind it, durable whenever.
	Lazy(Change),
	Ask(Question, Sees),
	Drain(oneshot::Sender<()>),
	/// The same, for one who does not wait for a copy elsewhere.
	DrainHere(oneshot::Sender<()>),
	Close(oneshot::Sender<()>),
}

/// What a question looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sees {
	/// Perhaps at a value that is written with [`Op::Soon`] or [`Op::Idle`], or at whether there is one.
	Soon,
	/// At no such value.
	Others,
}

impl Op {
	pub fn bytes(&self) -> u64 {
		match self {
			Op::Change(change, _) | Op::Soon(change) | Op::Lazy(change) => change.weight().1,
			Op::Idle(_, value) => value.len() as u64,
			Op::Ask(..) | Op::Drain(_) | Op::DrainHere(_) | Op::Close(_) => 0,
		}
	}

	/// The key whose value it removes.
	fn removes(&self) -> Option<&Key> {
		match self {
			Op::Change(Change::Remove { key }, _) | Op::Lazy(Change::Remove { key }) => Some(key),
			_ => None,
		}
	}
}

#[derive(Default)]
struct Waiting {
	ops: Vec<Op>,
	bytes: u64,
	/// The last value of each key that is written rarely: there are two such keys.
	idle: Vec<(Key, Vec<u8>)>,
	/// The writer has to go on with such a value.
	idle_ready: bool,
	/// Somebody waits.
	urgent: bool,
	/// Something waits that is not lazy.
	soon: bool,
	/// No more is taken in: closed, or dead of an I/O error.
	shut: bool,
	alarmed: bool,
}

impl Waiting {
	fn is_due(&self) -> bool {
		self.urgent || self.ops.len() > MAX_LAZY
	}

	/// Drops a value that waits and that `op` replaces. Nobody waits for its own end of the queue, so it has no bound
	/// but this one: one such value waits, and one is being written.
	///
	/// Nothing that is on the disk at any time is changed by it. All that waits is taken into one transaction, so of two
	/// values in it only the later can be seen there; and a monitor that stands between the two is on the disk with the
	/// later one, which is at least as new, or not at all. A question that stands between them may see the earlier one,
	/// in the middle of the transaction: then it stays.
	fn drop_replaced(&mut self, op: &Op) {
		let Op::Soon(Change::Put { key, .. }) = op else { return };
		let matters = |op: &Op| match op {
			Op::Soon(Change::Put { key: earlier, .. }) => earlier == key,
			Op::Ask(_, sees) => *sees == Sees::Soon,
			_ => false,
		};
		if let Some(at) = self.ops.iter().rposition(matters)
			&& matches!(self.ops[at], Op::Soon(_))
		{
			self.bytes -= self.ops.remove(at).bytes();
		}
	}
}

/// The queue, shared by all handles and the writer.
pub(crate) struct Queue {
	waiting: Mutex<Waiting>,
	wake: Condvar,
	pub counters: Counters,
	pub room: Room,
}

impl Queue {
	pub fn new(room: Room) -> Queue {
		Queue { waiting: Mutex::default(), wake: Condvar::new(), counters: Counters::default(), room }
	}

	/// Takes its place now. If the store is shut, the operation is dropped, and with it the sender that it carries; false.
	pub fn push(&self, op: Op) -> bool {
		let mut waiting = self.lock();
		if waiting.shut {
			return false;
		}
		if let Some(removed) = op.removes() {
			waiting.idle.retain(|(key, _)| key != removed);
		}
		if let Op::Idle(key, value) = op {
			waiting.idle.retain(|(earlier, _)| *earlier != key);
			waiting.idle.push((key, value));
			waiting.idle_ready = true;
			self.wake.notify_one();
			return true;
		}
		waiting.urgent |= !matches!(op, Op::Lazy(_) | Op::Soon(_));
		waiting.soon |= matches!(op, Op::Soon(_));
		waiting.shut = matches!(op, Op::Close(_));
		waiting.drop_replaced(&op);
		waiting.bytes += op.bytes();
		waiting.ops.push(op);
		self.counters.queued(waiting.bytes);
		if waiting.bytes > QUEUE_ALARM_BYTES && !waiting.alarmed {
			waiting.alarmed = true;
			tracing::warn!(bytes = waiting.bytes, "the disk does not keep up: writes pile up in memory");
		}
		if waiting.is_due() || waiting.soon {
			self.wake.notify_one();
		}
		true
	}

	/// Waits until there is something worth a wake-up, and takes all there is; nothing, if there is only work on values that
	/// are written rarely (`more`: the writer has some of its own), or if nothing came for `at_most`.
	pub fn take(&self, more: bool, at_most: Option<Duration>) -> Vec<Op> {
		let waiting = self.lock();
		let rests = |w: &mut Waiting| !w.is_due() && !w.soon && !w.idle_ready && !more;
		let mut waiting = match at_most {
			None => self.wake.wait_while(waiting, rests).unwrap_or_else(PoisonError::into_inner),
			Some(at_most) => {
				self.wake.wait_timeout_while(waiting, at_most, rests).unwrap_or_else(PoisonError::into_inner).0
			}
		};
		waiting.idle_ready = false;
		if !waiting.is_due() && !waiting.soon {
			return Vec::new();
		}
		let (mut waiting, _) =
			self.wake.wait_timeout_while(waiting, SOON, |w| !w.is_due()).unwrap_or_else(PoisonError::into_inner);
		(waiting.urgent, waiting.soon) = (false, false);
		waiting.bytes = 0;
		waiting.alarmed = false;
		self.counters.queued(0);
		std::mem::take(&mut waiting.ops)
	}

	/// Takes a value that is written rarely, if one waits.
	pub fn take_idle(&self) -> Option<(Key, Vec<u8>)> {
		self.lock().idle.pop()
	}

	/// There is work on a value that is written rarely.
	pub fn go_on(&self) {
		self.lock().idle_ready = true;
		self.wake.notify_one();
	}

	/// Is nothing waiting that is worth a wake-up?
	pub fn is_idle(&self) -> bool {
		let waiting = self.lock();
		!waiting.urgent && !waiting.soon
	}

	/// Takes in no more, and drops what waits.
	pub fn shut(&self) {
		let mut waiting = self.lock();
		waiting.shut = true;
		waiting.ops.clear();
		waiting.idle.clear();
	}

	fn lock(&self) -> MutexGuard<'_, Waiting> {
		self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
	}
}
