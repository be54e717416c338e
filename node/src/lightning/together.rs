//! Channels that one transaction is to fund (lsp/docs/decisions/0008): who has answered, who has signed, and what follows.
//!
//! What is here is forgotten in a crash, as LDK forgets channels that are not signed. What matters then is the wallet's row of
//! the transaction, LDK's channels and the book, which are compared at the start.

use super::channels::Wanted;
use bitcoin::{FeeRate, Txid};
use inlet_lsp::input::OpenChannel;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

/// Batches by their name, until their transaction is out or its coins are free.
#[derive(Default)]
pub struct Together(Mutex<HashMap<u128, Batch>>);

struct Batch {
	feerate: FeeRate,
	members: Vec<Member>,
	stage: Stage,
}

struct Member {
	id: u128,
	/// It has accepted, and wants its funding.
	wanted: Option<Wanted>,
	signed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
	/// The clients are asked to accept their channels.
	Asking,
	/// The transaction is being made.
	Making,
	/// The clients are asked to sign.
	Signing { funding: Txid, hurried: bool },
	/// It will never be broadcast.
	Ending,
}

/// Channels whose clients have all accepted.
pub struct Ready {
	/// The name of the batch.
	pub batch: u128,
	/// For the transaction.
	pub feerate: FeeRate,
	/// At least one.
	pub wanted: Vec<Wanted>,
}

/// A transaction that is not to be, and the marks of its channels.
#[derive(Debug, PartialEq, Eq)]
pub struct Dissolved {
	/// The name of the batch.
	pub batch: u128,
	/// The transaction.
	pub funding: Txid,
	/// Its channels.
	pub channels: Vec<u128>,
}

/// What the end of a channel does to the others.
pub enum Dropped {
	/// Nothing: it is not one of several, or the others wait for somebody else.
	Nothing,
	/// They go on without it.
	Ready(Ready),
	/// They end with it.
	Dissolved(Dissolved),
}

/// What became of a channel that has been accepted.
pub enum Gathered {
	/// It is not one of several.
	Alone(Wanted),
	/// Others have not answered yet.
	Waits,
	/// All have answered.
	Ready(Ready),
}

/// What follows when time is up.
#[derive(Default)]
pub struct Hurried {
	/// Who has not answered, and is left out.
	pub left_out: Vec<u128>,
	/// Who goes on.
	pub ready: Option<Ready>,
	/// Who has not signed makes it end.
	pub dissolved: Option<Dissolved>,
}

impl Together {
	/// Begins one. False if it was begun before.
	pub fn begin(&self, batch: u128, channels: &[OpenChannel]) -> bool {
		let Some(first) = channels.first() else { return false };
		let feerate = FeeRate::from_sat_per_kwu(u64::from(first.feerate.0));
		let members =
			channels.iter().map(|open| Member { id: open.user_channel_id, wanted: None, signed: false }).collect();
		let mut all = self.lock();
		let is_new = !all.contains_key(&batch);
		if is_new {
			all.insert(batch, Batch { feerate, members, stage: Stage::Asking });
		}
		is_new
	}

	/// Takes up one whose transaction was made by an earlier run. It goes out if all have signed, or else ends.
	pub fn take_up(&self, batch: u128, funding: Txid, channels: &[u128], all_signed: bool) {
		let members = channels.iter().map(|id| Member { id: *id, wanted: None, signed: true }).collect();
		let stage = if all_signed { Stage::Signing { funding, hurried: false } } else { Stage::Ending };
		self.lock().insert(batch, Batch { feerate: FeeRate::ZERO, members, stage });
	}

	/// Is this channel one of several, whose transaction is not out?
	pub fn contains(&self, id: u128) -> bool {
		self.lock().values().any(|batch| batch.has(id))
	}

	/// A client has accepted its channel.
	pub fn accepted(&self, wanted: Wanted) -> Gathered {
		let mut all = self.lock();
		let found = all.iter_mut().find(|(_, batch)| batch.has(wanted.user_channel_id));
		let Some((name, batch)) = found else { return Gathered::Alone(wanted) };
		if let Some(member) = batch.members.iter_mut().find(|member| member.id == wanted.user_channel_id) {
			member.wanted = Some(wanted);
		}
		batch.ready(*name).map_or(Gathered::Waits, Gathered::Ready)
	}

	/// The transaction is made. False if a channel has ended meanwhile: then it must not be used.
	pub fn made(&self, batch: u128, funding: Txid) -> bool {
		let mut all = self.lock();
		let Some(batch) = all.get_mut(&batch).filter(|batch| batch.stage == Stage::Making) else { return false };
		batch.stage = Stage::Signing { funding, hurried: false };
		true
	}

	/// A client has signed, and that is durable. The transaction and its channels, if it was the last of them.
	pub fn signed(&self, id: u128) -> Option<(Txid, Vec<u128>)> {
		let mut all = self.lock();
		let batch = all.values_mut().find(|batch| batch.has(id))?;
		let Stage::Signing { funding, .. } = batch.stage else { return None };
		let member = batch.members.iter_mut().find(|member| member.id == id && !member.signed)?;
		member.signed = true;
		batch.members.iter().all(|member| member.signed).then(|| (funding, batch.ids()))
	}

	/// A channel has ended, or could not be begun.
	pub fn dropped(&self, id: u128) -> Dropped {
		let mut all = self.lock();
		let Some((&name, batch)) = all.iter_mut().find(|(_, batch)| batch.has(id)) else { return Dropped::Nothing };
		match batch.stage {
			Stage::Asking => {
				batch.members.retain(|member| member.id != id);
				let (ready, is_empty) = (batch.ready(name), batch.members.is_empty());
				if is_empty {
					all.remove(&name);
				}
				ready.map_or(Dropped::Nothing, Dropped::Ready)
			}
			// Whoever makes the transaction finds that it must not be used.
			Stage::Making => {
				batch.stage = Stage::Ending;
				Dropped::Nothing
			}
			Stage::Signing { funding, .. } => Dropped::Dissolved(batch.end(name, funding)),
			Stage::Ending => Dropped::Nothing,
		}
	}

	/// Time is up.
	pub fn hurry(&self, name: u128) -> Hurried {
		let mut all = self.lock();
		let Some(batch) = all.get_mut(&name) else { return Hurried::default() };
		match &mut batch.stage {
			Stage::Asking => {
				let silent = batch.members.iter().filter(|member| member.wanted.is_none());
				let left_out = silent.map(|member| member.id).collect();
				batch.members.retain(|member| member.wanted.is_some());
				let ready = batch.ready(name);
				if batch.members.is_empty() {
					all.remove(&name);
				}
				Hurried { left_out, ready, dissolved: None }
			}
			Stage::Signing { hurried, .. } if !*hurried => {
				*hurried = true;
				Hurried::default()
			}
			Stage::Signing { funding, .. } => {
				let funding = *funding;
				Hurried { dissolved: Some(batch.end(name, funding)), ..Hurried::default() }
			}
			Stage::Making | Stage::Ending => Hurried::default(),
		}
	}

	/// Does `broadcast`, if this transaction is signed for by all and nobody has ended it meanwhile; then it is out, if that
	/// succeeds. From then on nobody can end it.
	pub fn broadcast(&self, funding: Txid, broadcast: impl FnOnce() -> bool) -> bool {
		let mut all = self.lock();
		let of_it = |batch: &Batch| matches!(batch.stage, Stage::Signing { funding: own, .. } if own == funding);
		let found = all.iter().find(|(_, batch)| of_it(batch) && batch.members.iter().all(|member| member.signed));
		let Some(name) = found.map(|(name, _)| *name) else { return false };
		let is_out = broadcast();
		if is_out {
			all.remove(&name);
		}
		is_out
	}

	/// Ends the batch of this transaction, if nothing has ended it before and it is not out.
	pub fn discard(&self, funding: Txid) -> Option<Dissolved> {
		let mut all = self.lock();
		let of_it = |batch: &Batch| matches!(batch.stage, Stage::Signing { funding: own, .. } if own == funding);
		let (&name, batch) = all.iter_mut().find(|(_, batch)| of_it(batch))?;
		Some(batch.end(name, funding))
	}

	/// It is over.
	pub fn forget(&self, batch: u128) {
		self.lock().remove(&batch);
	}

	fn lock(&self) -> MutexGuard<'_, HashMap<u128, Batch>> {
		self.0.lock().expect("not poisoned")
	}
}

impl Batch {
	fn has(&self, id: u128) -> bool {
		self.members.iter().any(|member| member.id == id)
	}

	fn ids(&self) -> Vec<u128> {
		self.members.iter().map(|member| member.id).collect()
	}

	/// All have answered: the transaction is made now, by whoever gets this, and by nobody else.
	fn ready(&mut self, batch: u128) -> Option<Ready> {
		let all = self.members.iter().all(|member| member.wanted.is_some());
		if self.stage != Stage::Asking || self.members.is_empty() || !all {
			return None;
		}
		self.stage = Stage::Making;
		let wanted = self.members.iter_mut().filter_map(|member| member.wanted.take()).collect();
		Some(Ready { batch, feerate: self.feerate, wanted })
	}

	fn end(&mut self, batch: u128, funding: Txid) -> Dissolved {
		self.stage = Stage::Ending;
		Dissolved { batch, funding, channels: self.ids() }
	}
}

#[cfg(test)]
#[path = "together_tests.rs"]
mod tests;
