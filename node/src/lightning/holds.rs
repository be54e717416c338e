//! For how long payments are held (R16): by those to whom they were forwarded, and by Inlet itself.
//!
//! LDK has no event for a forward that goes out. [`Holds::look`] therefore looks at what is under way every [`LOOK`]: what a
//! look saw and the next one does not has ended, after as long as it was seen, give or take a look. What no look saw but an
//! event tells the end of was faster than that. Slow jamming is a matter of minutes and hours. What Inlet itself holds
//! (intercepted HTLCs) is measured.
//!
//! Nothing of it is stored: it counts from the start of the process.

use super::Lightning;
use crate::stop::stopped;
use bitcoin::secp256k1::PublicKey;
use lightning::ln::channel_state::ChannelDetails;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// How often is looked at what is under way: it costs a walk over all channels.
pub const LOOK: Duration = Duration::from_secs(5);
/// Upper limits of the histogram's buckets, in seconds; one more has no limit.
pub const BUCKETS: [u64; 12] = [1, 5, 10, 30, 60, 120, 300, 600, 1_800, 7_200, 21_600, 86_400];
/// Peers of whom figures are kept; of more, only the sum is.
const MAX_PEERS: usize = 20_000;
/// HTLCs that are watched at once; more are not timed. (LDK allows 483 in each direction of a channel.)
const MAX_WATCHED: usize = 100_000;

/// How often something took how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
	/// How many ended within the limit of each of [`BUCKETS`], and not within the one before; last, those that took longer.
	pub counts: [u64; BUCKETS.len() + 1],
	/// All of them together.
	pub sum: Duration,
	/// The longest.
	pub max: Duration,
}

impl Histogram {
	/// One more.
	pub fn add(&mut self, held: Duration) {
		let bucket = BUCKETS.iter().position(|limit| held <= Duration::from_secs(*limit)).unwrap_or(BUCKETS.len());
		self.counts[bucket] += 1;
		self.sum = self.sum.saturating_add(held);
		self.max = self.max.max(held);
	}

	/// How many.
	pub fn count(&self) -> u64 {
		self.counts.iter().sum()
	}

	/// Half of them took no longer than this: the limit of a bucket, or the longest if that is less. `None` of none.
	pub fn median(&self) -> Option<Duration> {
		let half = self.count().div_ceil(2);
		let mut so_far = 0;
		let bucket = self.counts.iter().position(|count| {
			so_far += count;
			so_far >= half && half > 0
		})?;
		Some(BUCKETS.get(bucket).map_or(self.max, |limit| Duration::from_secs(*limit).min(self.max)))
	}
}

/// What is known of one peer, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
	/// Payments forwarded to it that ended, settled or not.
	pub forwarded: Histogram,
	/// Payments for it that Inlet held, until they were forwarded or failed.
	pub intercepted: Histogram,
	/// Payments that it holds now.
	pub now: u32,
	/// For how long it has held the oldest of them.
	pub oldest: Duration,
}

/// An HTLC that was sent: its channel, and what it is called there, or its payment's hash before it is.
type Sent = ([u8; 32], [u8; 32]);

#[derive(Clone, Copy)]
struct Watched {
	peer: PublicKey,
	since: Instant,
}

/// The figures.
#[derive(Default)]
pub struct Holds(Mutex<State>);

#[derive(Default)]
struct State {
	all: Figures,
	peers: HashMap<PublicKey, Figures>,
	watched: HashMap<Sent, Watched>,
	/// Ends that events told of since the last look, by peer.
	told: HashMap<PublicKey, u64>,
}

impl Holds {
	/// Of all peers together.
	pub fn all(&self) -> Figures {
		self.state().all
	}

	/// Of one peer.
	pub fn of(&self, peer: &PublicKey) -> Figures {
		self.state().peers.get(peer).copied().unwrap_or_default()
	}

	/// Inlet held a payment for this peer so long.
	pub fn answered(&self, peer: Option<PublicKey>, held: Duration) {
		let mut state = self.state();
		state.all.intercepted.add(held);
		if let Some(figures) = peer.and_then(|peer| state.peer(peer)) {
			figures.intercepted.add(held);
		}
	}

	/// LDK tells that a forward to this peer has ended.
	pub fn ended(&self, peer: PublicKey) {
		let mut state = self.state();
		if state.told.len() < MAX_PEERS {
			*state.told.entry(peer).or_default() += 1;
		}
	}

	/// What is under way at `now`.
	pub fn look(&self, under_way: impl Iterator<Item = (Sent, PublicKey)>, now: Instant) {
		let mut state = self.state();
		let mut before = std::mem::take(&mut state.watched);
		for (sent, peer) in under_way.take(MAX_WATCHED) {
			let watched = before.remove(&sent).unwrap_or(Watched { peer, since: now });
			state.watched.insert(sent, watched);
		}
		let mut told = std::mem::take(&mut state.told);
		for Watched { peer, since } in before.into_values() {
			state.forwarded(peer, now.saturating_duration_since(since));
			if let Some(told) = told.get_mut(&peer) {
				*told = told.saturating_sub(1);
			}
		}
		// No look saw these.
		for (peer, count) in told {
			for _ in 0..count {
				state.forwarded(peer, Duration::ZERO);
			}
		}
		state.count_present(now);
	}

	fn state(&self) -> MutexGuard<'_, State> {
		self.0.lock().expect("not poisoned")
	}
}

impl State {
	/// The figures of a peer, if there is room for them.
	fn peer(&mut self, peer: PublicKey) -> Option<&mut Figures> {
		if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer) {
			return None;
		}
		Some(self.peers.entry(peer).or_default())
	}

	fn forwarded(&mut self, peer: PublicKey, held: Duration) {
		self.all.forwarded.add(held);
		if let Some(figures) = self.peer(peer) {
			figures.forwarded.add(held);
		}
	}

	fn count_present(&mut self, now: Instant) {
		let nothing = |figures: &mut Figures| (figures.now, figures.oldest) = (0, Duration::ZERO);
		nothing(&mut self.all);
		self.peers.values_mut().for_each(nothing);
		for Watched { peer, since } in self.watched.values().copied().collect::<Vec<_>>() {
			let held = now.saturating_duration_since(since);
			let one_more = |figures: &mut Figures| {
				figures.now = figures.now.saturating_add(1);
				figures.oldest = figures.oldest.max(held);
			};
			one_more(&mut self.all);
			self.peer(peer).into_iter().for_each(one_more);
		}
	}
}

/// What was sent over this channel and is neither settled nor failed.
fn sent(channel: &ChannelDetails) -> impl Iterator<Item = (Sent, PublicKey)> + '_ {
	let (id, peer) = (channel.channel_id.0, channel.counterparty.node_id);
	channel.pending_outbound_htlcs.iter().map(move |htlc| {
		let mut name = htlc.payment_hash.0;
		if let Some(number) = htlc.htlc_id {
			name = [0; 32];
			name[..8].copy_from_slice(&number.to_be_bytes());
		}
		((id, name), peer)
	})
}

impl Lightning {
	/// Looks at what is under way every [`LOOK`], until `stop`. Payments of our own (`own`, by hash) are no forwards.
	pub async fn time_holds(self: Arc<Self>, own: impl Fn(&[u8; 32]) -> bool, mut stop: watch::Receiver<bool>) {
		let mut turn = tokio::time::interval(LOOK);
		turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
		loop {
			tokio::select! {
				() = stopped(&mut stop) => return,
				_ = turn.tick() => {},
			}
			let mut channels = self.manager.list_channels();
			for channel in &mut channels {
				channel.pending_outbound_htlcs.retain(|htlc| !own(&htlc.payment_hash.0));
			}
			self.holds.look(channels.iter().flat_map(sent), Instant::now());
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use bitcoin::secp256k1::{Secp256k1, SecretKey};

	fn peer(number: u8) -> PublicKey {
		PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[number; 32]).unwrap())
	}

	fn htlc(number: u8, of: u8) -> (Sent, PublicKey) {
		(([of; 32], [number; 32]), peer(of))
	}

	const fn secs(secs: u64) -> Duration {
		Duration::from_secs(secs)
	}

	#[test]
	fn r16_a_payment_that_is_held_shows_while_it_is_and_afterwards() {
		let (holds, start) = (Holds::default(), Instant::now());
		for turn in 0..=12 {
			holds.look([htlc(1, 1), htlc(2, 2)].into_iter(), start + LOOK * turn);
		}
		let figures = holds.of(&peer(1));
		assert_eq!((figures.now, figures.oldest, figures.forwarded.count()), (1, secs(60), 0));
		assert_eq!((holds.all().now, holds.all().oldest), (2, secs(60)));
		holds.ended(peer(1));
		holds.look([htlc(2, 2)].into_iter(), start + secs(65));
		let figures = holds.of(&peer(1));
		assert_eq!((figures.now, figures.oldest), (0, Duration::ZERO));
		assert_eq!(
			(figures.forwarded.count(), figures.forwarded.max),
			(1, secs(65)),
			"told of by an event, counted once"
		);
		assert_eq!(holds.all().forwarded.count(), 1);
	}

	#[test]
	fn r16_what_is_over_before_a_look_counts() {
		let (holds, start) = (Holds::default(), Instant::now());
		holds.look([htlc(1, 1)].into_iter(), start);
		// Of three ends that LDK tells of, one is that of the payment which was seen.
		(0..3).for_each(|_| holds.ended(peer(1)));
		holds.look(std::iter::empty(), start + LOOK);
		let forwarded = holds.of(&peer(1)).forwarded;
		assert_eq!((forwarded.count(), forwarded.counts[0], forwarded.max), (3, 2, LOOK));
		holds.look(std::iter::empty(), start + LOOK * 2);
		assert_eq!(holds.of(&peer(1)).forwarded.count(), 3, "once");
	}

	#[test]
	fn r16_what_inlet_holds_is_measured() {
		let holds = Holds::default();
		holds.answered(Some(peer(1)), Duration::from_millis(300));
		holds.answered(None, secs(90));
		assert_eq!(holds.of(&peer(1)).intercepted.max, Duration::from_millis(300));
		assert_eq!((holds.all().intercepted.count(), holds.all().intercepted.sum), (2, Duration::from_millis(90_300)));
	}

	#[test]
	fn r16_the_median_is_a_bucket_and_never_more_than_the_longest() {
		let mut histogram = Histogram::default();
		assert_eq!(histogram.median(), None);
		histogram.add(Duration::from_millis(200));
		assert_eq!(histogram.median(), Some(Duration::from_millis(200)));
		histogram.add(secs(50));
		histogram.add(secs(55));
		assert_eq!(histogram.median(), Some(secs(55)), "within a minute, and the longest is less");
		histogram.add(secs(100_000));
		histogram.add(secs(100_001));
		assert_eq!((histogram.median(), histogram.max), (Some(secs(60)), secs(100_001)));
		assert_eq!(histogram.counts[BUCKETS.len()], 2);
	}
}
