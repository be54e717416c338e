//! What waits to be sent. Pure: time comes in as an argument.
//!
//! Each webhook (client and URL) is a lane, and a lane is sent in order, one at a time: `webhook_registered` is what a
//! webhook hears first (L5-15). Beyond a bound the newest notice is dropped and not the oldest, for two reasons: the oldest
//! may be the `webhook_registered` that must come first, and dropping it would let a flood push out what others wait for.

use super::limits::{Kind, Limits, Rate, Share, Used};
use inlet_lsp::book::NodeId;
use inlet_lsp::notice::Notice;
use reqwest::Url;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::mem;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
	/// Whose.
	pub client: NodeId,
	/// Its URL, which the guard let pass.
	pub url: Url,
}

impl Lane {
	/// The host that is called: the only part of the URL that may be logged.
	pub fn host(&self) -> &str {
		self.url.host_str().unwrap_or_default()
	}
}

/// A notice on its way to one webhook.
#[derive(Clone, Debug)]
pub struct Letter {
	/// Where to.
	pub lane: Lane,
	/// What is said.
	pub notice: Notice,
	/// From then on it is of no use.
	pub until: Instant,
	/// Requests of its kind at once, to its host and in all. To be taken in this order.
	pub turns: [Arc<Semaphore>; 2],
	app_name: String,
	/// A greeting that a wake brought along counts as a wake.
	kind: Kind,
}

/// The bound that a dropped notice met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
	/// Of one client.
	Client,
	/// Of one host.
	Host,
	/// Of all together.
	All,
	/// The node stops.
	Stopped,
}

/// What became of a notice that was to be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
	/// It waits.
	Waits,
	/// The same waited for the same webhook already, and stands for both.
	Merged,
	/// It is dropped.
	Dropped(Bound),
}

/// How sending a notice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
	/// The webhook answered 200.
	Sent,
	/// It was tried in vain.
	Failed,
	/// It was never tried: its time was over before its turn came.
	Dropped,
	/// The guard forbade it.
	Refused,
}

/// What became of all notices since the start. Each is counted once, when it has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
	/// Webhooks that answered 200.
	pub sent: u64,
	/// Tried in vain.
	pub failed: u64,
	/// Not tried: a bound was reached, the time was over, or the webhook was replaced.
	pub dropped: u64,
	/// Not tried: the URL leads to where it must not.
	pub refused: u64,
	/// Covered by the same notice that waited for the same webhook.
	pub merged: u64,
}

struct Host {
	held: usize,
	turns: Arc<Semaphore>,
}

/// The queue's state for one [`Kind`].
struct Side {
	share: Share,
	held: usize,
	used: Used,
	turns: Arc<Semaphore>,
	/// Hosts with notices held.
	hosts: HashMap<String, Host>,
	hosts_used: HashMap<String, Used>,
}

/// All that waits, and what was used of the rates.
pub struct Queue {
	limits: Limits,
	greetings: Side,
	wakes: Side,
	/// Notices held, by client.
	clients: HashMap<NodeId, usize>,
	clients_used: HashMap<NodeId, Used>,
	/// Webhooks whose lane is worked on, with what waits.
	lanes: HashMap<Lane, VecDeque<Letter>>,
	/// Lanes that nobody works on yet.
	fresh: Vec<Lane>,
	/// Webhooks whose greeting was dropped.
	owed: VecDeque<Lane>,
	/// What became of all.
	pub counts: Counts,
	stopped: bool,
}

impl Queue {
	/// An empty queue.
	pub fn new(limits: Limits, now: Instant) -> Queue {
		let side = |share: &Share| Side {
			share: *share,
			held: 0,
			used: Used::nothing(now),
			turns: Arc::new(Semaphore::new(share.at_once)),
			hosts: HashMap::new(),
			hosts_used: HashMap::new(),
		};
		Queue {
			greetings: side(&limits.greetings),
			wakes: side(&limits.wakes),
			limits,
			clients: HashMap::new(),
			clients_used: HashMap::new(),
			lanes: HashMap::new(),
			fresh: Vec::new(),
			owed: VecDeque::new(),
			counts: Counts::default(),
			stopped: false,
		}
	}

	/// Takes a notice, merges it with one that waits, or drops it.
	pub fn push(&mut self, lane: Lane, app_name: String, notice: Notice, now: Instant) -> Taken {
		let until = now + self.limits.life_of(&notice);
		if let Some(waiting) = self.waiting(&lane, &app_name, &notice) {
			waiting.until = until;
			waiting.notice = more_urgent(mem::replace(&mut waiting.notice, Notice::WebhookRegistered), notice);
			self.counts.merged += 1;
			return Taken::Merged;
		}
		let kind = Kind::of(&notice);
		let owed = self.owed.iter().position(|l| *l == lane);
		let greet_first = owed.is_some() && kind == Kind::Wake;
		if let Err(bound) = self.take(&lane, kind, 1 + u32::from(greet_first), now) {
			if kind == Kind::Greeting && owed.is_none() && bound != Bound::Stopped {
				self.owe(lane);
			}
			self.counts.dropped += 1;
			return Taken::Dropped(bound);
		}
		if let Some(at) = owed {
			self.owed.remove(at);
		}
		if kind == Kind::Greeting {
			self.withdraw(&lane, &app_name);
		}
		if greet_first {
			let until = now + self.limits.life_of(&Notice::WebhookRegistered);
			self.append(lane.clone(), app_name.clone(), Notice::WebhookRegistered, kind, until);
		}
		self.append(lane, app_name, notice, kind, until);
		Taken::Waits
	}

	/// The webhooks that somebody has to begin to work on, each with [`Queue::next`] and [`Queue::done`] in turn.
	pub fn fresh(&mut self) -> Vec<Lane> {
		mem::take(&mut self.fresh)
	}

	/// The next notice of a webhook; `None` ends the work on it.
	pub fn next(&mut self, lane: &Lane) -> Option<Letter> {
		let next = self.lanes.get_mut(lane)?.pop_front();
		if next.is_none() {
			self.lanes.remove(lane);
		}
		next
	}

	/// A notice that [`Queue::next`] gave has ended.
	pub fn done(&mut self, letter: &Letter, end: End) {
		self.release(letter);
		match end {
			End::Sent => self.counts.sent += 1,
			End::Failed => self.counts.failed += 1,
			End::Dropped => self.counts.dropped += 1,
			End::Refused => self.counts.refused += 1,
		}
	}

	/// From now on everything is dropped.
	pub fn stop(&mut self) {
		self.stopped = true;
	}

	/// Notices that wait or are on their way.
	pub fn held(&self) -> usize {
		self.greetings.held + self.wakes.held
	}

	fn side(&mut self, kind: Kind) -> &mut Side {
		match kind {
			Kind::Greeting => &mut self.greetings,
			Kind::Wake => &mut self.wakes,
		}
	}

	fn waiting(&mut self, lane: &Lane, app_name: &str, notice: &Notice) -> Option<&mut Letter> {
		let same = |l: &&mut Letter| l.app_name == app_name && l.notice.method() == notice.method();
		self.lanes.get_mut(lane)?.iter_mut().find(same)
	}

	/// Takes `n` out of all bounds, or nothing.
	fn take(&mut self, lane: &Lane, kind: Kind, n: u32, now: Instant) -> Result<(), Bound> {
		let (host, count, remembered) = (lane.host(), n as usize, self.limits.remembered);
		let (held_per_client, rate_per_client) = (self.limits.held_per_client, self.limits.rate_per_client);
		if self.stopped {
			return Err(Bound::Stopped);
		}
		let of_client = self.clients.get(&lane.client).copied().unwrap_or_default();
		if of_client + count > held_per_client
			|| !allowed(&mut self.clients_used, &lane.client, &rate_per_client, n, remembered, now)
		{
			return Err(Bound::Client);
		}
		let side = self.side(kind);
		let of_host = side.hosts.get(host).map_or(0, |h| h.held);
		if side.held + count > side.share.held || !side.used.allows(&side.share.rate, n, now) {
			return Err(Bound::All);
		}
		let per_host = side.share.rate_per_host;
		if of_host + count > side.share.held_per_host
			|| !allowed(&mut side.hosts_used, host, &per_host, n, remembered, now)
		{
			return Err(Bound::Host);
		}
		side.used.take(&side.share.rate, n, now);
		side.hosts_used.entry(host.to_owned()).or_insert(Used::nothing(now)).take(&per_host, n, now);
		self.clients_used.entry(lane.client).or_insert(Used::nothing(now)).take(&rate_per_client, n, now);
		Ok(())
	}

	fn append(&mut self, lane: Lane, app_name: String, notice: Notice, kind: Kind, until: Instant) {
		*self.clients.entry(lane.client).or_default() += 1;
		let side = self.side(kind);
		side.held += 1;
		let at_once = side.share.at_once_per_host;
		let host = side.hosts.entry(lane.host().to_owned());
		let host = host.or_insert_with(|| Host { held: 0, turns: Arc::new(Semaphore::new(at_once)) });
		host.held += 1;
		let turns = [host.turns.clone(), side.turns.clone()];
		let letter = Letter { lane: lane.clone(), notice, until, turns, app_name, kind };
		let waiting = self.lanes.entry(lane.clone()).or_insert_with(|| {
			self.fresh.push(lane);
			VecDeque::new()
		});
		waiting.push_back(letter);
	}

	fn release(&mut self, letter: &Letter) {
		if let Some(held) = self.clients.get_mut(&letter.lane.client) {
			*held -= 1;
			if *held == 0 {
				self.clients.remove(&letter.lane.client);
			}
		}
		let side = self.side(letter.kind);
		side.held -= 1;
		if let Some(host) = side.hosts.get_mut(letter.lane.host()) {
			host.held -= 1;
			if host.held == 0 {
				side.hosts.remove(letter.lane.host());
			}
		}
	}

	/// This app of the client has a new webhook: what waits for its former one is for nobody.
	fn withdraw(&mut self, new: &Lane, app_name: &str) {
		let mut withdrawn = Vec::new();
		for (_, waiting) in self.lanes.iter_mut().filter(|(l, _)| l.client == new.client && *l != new) {
			let of_app = |l: &Letter| l.app_name == app_name;
			withdrawn.extend(waiting.iter().filter(|l| of_app(l)).cloned());
			waiting.retain(|l| !of_app(l));
		}
		for letter in withdrawn {
			self.done(&letter, End::Dropped);
		}
	}

	fn owe(&mut self, lane: Lane) {
		if self.owed.len() >= self.limits.owed {
			self.owed.pop_front();
		}
		self.owed.push_back(lane);
	}
}

/// Of two notices with the same method: a later expiry is covered by an earlier one.
fn more_urgent(waiting: Notice, new: Notice) -> Notice {
	match (&waiting, &new) {
		(Notice::ExpirySoon { timeout: first }, Notice::ExpirySoon { timeout: second }) if first < second => waiting,
		_ => new,
	}
}

/// May `who` take `n` more? Only those in debt are remembered; who would be one too many may not.
fn allowed<K, Q>(used: &mut HashMap<K, Used>, who: &Q, rate: &Rate, n: u32, remembered: usize, now: Instant) -> bool
where
	K: std::borrow::Borrow<Q> + Eq + Hash,
	Q: Eq + Hash + ?Sized,
{
	if used.len() >= remembered {
		used.retain(|_, used| !used.is_over(now));
	}
	match used.get(who) {
		Some(used) => used.allows(rate, n, now),
		None => used.len() < remembered,
	}
}
