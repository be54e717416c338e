//! The stream of changes: what a copy elsewhere is made of.
//!
//! Each change that is applied is written down as an entry, deltas as deltas, and has a number, counted from 1 when the
//! store is opened. The entries of a batch are handed on together when the batch is durable here. A copy that has all of them
//! up to a number is what the store was at that number. The network graph and the scorer are left out: they are caches, large,
//! and fetched or learnt anew.

use crate::book::Row;
use crate::delta;
use crate::kv::Key;
use crate::queue::{Answer, Change};
use crate::values::{put_bytes, take_bytes};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Bytes of changes that wait for a copy. Beyond, they are dropped, and the copy has to be begun anew.
pub const MAX_BEHIND: usize = if cfg!(test) { 64 << 10 } else { 16 << 20 };

const VALUE: u8 = 1;
const REMOVED: u8 = 2;
const DELTA: u8 = 3;
const THING: u8 = 4;
const LEDGER: u8 = 5;
const WALLET: u8 = 6;
const WALLET_UP_TO: u8 = 7;
const FORGET: u8 = 8;

/// What an entry says.
pub(crate) enum Entry {
	Change(Change),
	/// A change to the value before, and the CRC-32 of the value that it makes.
	Delta {
		key: Key,
		crc: u32,
		script: Vec<u8>,
	},
}

/// The entries of the open batch.
#[derive(Default)]
pub(crate) struct Stream {
	bytes: Vec<u8>,
	/// The number of the last entry.
	pub last: u64,
	/// The number of the last entry that was handed on.
	handed: u64,
}

impl Stream {
	pub fn value(&mut self, key: &Key, value: &[u8]) {
		if self.begin(key, VALUE) {
			put_bytes(&mut self.bytes, value);
		}
	}

	pub fn removed(&mut self, key: &Key) {
		self.begin(key, REMOVED);
	}

	pub fn delta(&mut self, key: &Key, crc: u32, script: &[u8]) {
		if self.begin(key, DELTA) {
			self.bytes.extend_from_slice(&crc.to_le_bytes());
			put_bytes(&mut self.bytes, script);
		}
	}

	/// A change that is not to one of LDK's values.
	pub fn change(&mut self, change: &Change) {
		match change {
			Change::Put { key, value } => self.value(key, value),
			Change::Remove { key } => self.removed(key),
			Change::Rows(rows) => rows.iter().for_each(|row| self.row(row)),
			Change::WalletAppend(json) => {
				self.tag(WALLET);
				put_bytes(&mut self.bytes, json.as_bytes());
			}
			Change::WalletReplace(up_to, json) => {
				self.tag(WALLET_UP_TO);
				delta::put_number(&mut self.bytes, up_to.cast_unsigned());
				put_bytes(&mut self.bytes, json.as_bytes());
			}
		}
	}

	pub fn row(&mut self, row: &Row) {
		match row {
			Row::Thing { kind, id, at, live, json } => {
				self.tag(THING);
				for text in [&**kind, id.as_str(), json] {
					put_bytes(&mut self.bytes, text.as_bytes());
				}
				delta::put_number(&mut self.bytes, at.cast_unsigned());
				self.bytes.push(u8::from(*live));
			}
			Row::Entry { seq, kind, amount_msat, json } => {
				self.tag(LEDGER);
				for text in [kind, json] {
					put_bytes(&mut self.bytes, text.as_bytes());
				}
				delta::put_number(&mut self.bytes, seq.cast_unsigned());
				delta::put_number(&mut self.bytes, amount_msat.cast_unsigned());
			}
			Row::Forget { before } => {
				self.tag(FORGET);
				delta::put_number(&mut self.bytes, before.cast_unsigned());
			}
		}
	}

	/// What is there since the last time: the number of its first entry, and its bytes; `None` if there is nothing.
	pub fn take(&mut self) -> Option<(u64, Vec<u8>)> {
		if self.last == self.handed {
			return None;
		}
		let first = self.handed + 1;
		self.handed = self.last;
		Some((first, std::mem::take(&mut self.bytes)))
	}

	/// All bytes, for a piece of a snapshot, whose entries have no numbers.
	pub fn into_bytes(self) -> Vec<u8> {
		self.bytes
	}

	pub fn len(&self) -> usize {
		self.bytes.len()
	}

	/// False for a cache, of which nothing is said.
	fn begin(&mut self, key: &Key, tag: u8) -> bool {
		if key.is_written_rarely() {
			return false;
		}
		self.tag(tag);
		put_bytes(&mut self.bytes, key.joined().as_bytes());
		true
	}

	fn tag(&mut self, tag: u8) {
		self.bytes.push(tag);
		self.last += 1;
	}
}

/// The next entry; `None` if it cannot be understood.
pub(crate) fn read(bytes: &mut &[u8]) -> Option<Entry> {
	let (tag, rest) = bytes.split_first()?;
	*bytes = rest;
	let text = |bytes: &mut &[u8]| String::from_utf8(take_bytes(bytes)?).ok();
	let number = |bytes: &mut &[u8]| delta::take_number(bytes).map(u64::cast_signed);
	let change = match *tag {
		VALUE => Change::Put { key: Key::from_joined(&text(bytes)?)?, value: take_bytes(bytes)? },
		REMOVED => Change::Remove { key: Key::from_joined(&text(bytes)?)? },
		DELTA => {
			let key = Key::from_joined(&text(bytes)?)?;
			let (crc, rest) = bytes.split_first_chunk::<4>()?;
			*bytes = rest;
			return Some(Entry::Delta { key, crc: u32::from_le_bytes(*crc), script: take_bytes(bytes)? });
		}
		THING => {
			let (kind, id, json) = (text(bytes)?, text(bytes)?, text(bytes)?);
			let at = number(bytes)?;
			let (live, rest) = bytes.split_first()?;
			*bytes = rest;
			Change::Rows(vec![Row::Thing { kind: kind.into(), id, at, live: *live != 0, json }])
		}
		LEDGER => {
			let (kind, json) = (text(bytes)?, text(bytes)?);
			Change::Rows(vec![Row::Entry { seq: number(bytes)?, kind, amount_msat: number(bytes)?, json }])
		}
		FORGET => Change::Rows(vec![Row::Forget { before: number(bytes)? }]),
		WALLET => Change::WalletAppend(text(bytes)?),
		WALLET_UP_TO => Change::WalletReplace(number(bytes)?, text(bytes)?),
		_ => return None,
	};
	Some(Entry::Change(change))
}

/// Changes that are durable here, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
	/// The number of the first.
	pub first: u64,
	/// The number of the last.
	pub last: u64,
	/// The changes, for [`Rebuild::changes`](crate::Rebuild::changes).
	pub bytes: Vec<u8>,
}

/// A tap on a store's changes, for one who keeps a copy elsewhere.
#[derive(Clone)]
pub struct Tap(Arc<Shared>);

struct Shared {
	holds: bool,
	state: Mutex<State>,
	news: Notify,
}

#[derive(Default)]
struct State {
	waiting: VecDeque<Changes>,
	bytes: usize,
	/// The last entry that is durable here.
	last: u64,
	/// The last entry that the copy has.
	confirmed: u64,
	lost: bool,
	/// Answers that wait for the copy to have this entry.
	held: VecDeque<(u64, Vec<Answer>)>,
}

impl Tap {
	/// A tap. With `holds`, the store acknowledges a change only when the copy has it ([`Tap::confirm`]); reads are answered
	/// as they always are.
	pub fn new(holds: bool) -> Tap {
		Tap(Arc::new(Shared { holds, state: Mutex::default(), news: Notify::new() }))
	}

	/// The next changes, at most about `max_bytes` of them; `None` if there are none, or if some were dropped.
	pub fn take(&self, max_bytes: usize) -> Option<Changes> {
		let mut state = self.lock();
		let mut taken = state.waiting.pop_front()?;
		while let Some(next) = state.waiting.front()
			&& taken.bytes.len() + next.bytes.len() <= max_bytes
		{
			taken.bytes.extend_from_slice(&next.bytes);
			taken.last = next.last;
			state.waiting.pop_front();
		}
		state.bytes -= taken.bytes.len();
		Some(taken)
	}

	/// Returns when there may be something to take, or something was dropped.
	pub async fn wait(&self) {
		self.0.news.notified().await;
	}

	/// Were changes dropped, because more than [`MAX_BEHIND`] bytes waited? Then the copy is to be begun anew, with a snapshot
	/// that is asked for after this call; what is taken from now on is what follows.
	pub fn was_lost(&self) -> bool {
		std::mem::take(&mut self.lock().lost)
	}

	/// Drops what waits: the snapshot that is asked for after this call has it.
	pub fn skip(&self) {
		let mut state = self.lock();
		state.waiting.clear();
		(state.bytes, state.lost) = (0, false);
	}

	/// The copy has everything up to this entry. What waited for it is answered.
	pub fn confirm(&self, up_to: u64) {
		let mut due = Vec::new();
		{
			let mut state = self.lock();
			state.confirmed = state.confirmed.max(up_to);
			while let Some((number, _)) = state.held.front()
				&& *number <= state.confirmed
			{
				due.extend(state.held.pop_front().into_iter().flat_map(|(_, answers)| answers));
			}
		}
		due.into_iter().for_each(|answer| answer());
	}

	/// The last entry that is durable here, the last that the copy has, and the bytes that wait.
	pub fn position(&self) -> (u64, u64, usize) {
		let state = self.lock();
		(state.last, state.confirmed, state.bytes)
	}

	/// Do acknowledgements wait for the copy?
	pub fn holds(&self) -> bool {
		self.0.holds
	}

	/// A batch is durable.
	pub(crate) fn push(&self, first: u64, last: u64, bytes: Vec<u8>) {
		let mut state = self.lock();
		state.last = last;
		state.bytes += bytes.len();
		state.waiting.push_back(Changes { first, last, bytes });
		if state.bytes > MAX_BEHIND {
			state.waiting.clear();
			(state.bytes, state.lost) = (0, true);
		}
		drop(state);
		self.0.news.notify_one();
	}

	/// Gives these answers when the copy has all that is durable here; at once, if nobody is to wait for it.
	pub(crate) fn answer(&self, answers: Vec<Answer>) {
		let mut state = self.lock();
		if self.0.holds && (state.confirmed < state.last || !state.held.is_empty()) {
			let last = state.last;
			state.held.push_back((last, answers));
			return;
		}
		drop(state);
		answers.into_iter().for_each(|answer| answer());
	}

	fn lock(&self) -> MutexGuard<'_, State> {
		self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
	}
}

impl std::fmt::Debug for Tap {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		f.debug_struct("Tap").field("position", &self.position()).finish_non_exhaustive()
	}
}
