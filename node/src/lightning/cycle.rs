//! LDK's loop: what is to be persisted, what monitors claim on the chain, and chores by the clock.
//!
//! `lightning-background-processor` has such a loop, and with [`hear`](super::hear) this one does what that does, but for six
//! things (see the decision record 0005). It encodes the channel manager only when updates of monitors wait for it, or a little
//! later when none do: an encoding costs 3 kB a channel, and a payment caused one after every message. It has one round of
//! writing under way at a time: what comes meanwhile shares the next one. It rests after an encoding that many updates waited
//! for. It asks the monitors for events, one by one as LDK does, when there may be some and not at each turn. It never waits for
//! the driver or a backup's target, which may be away for hours: only for this disk. And it is stopped last.

use super::events::Handler;
use super::gossip::Gossip;
use super::hear::since_epoch;
use super::{Graph, Lightning};
use crate::pulse::{Loop, Pulse};
use crate::stop::stopped;
use inlet_storage::Store;
use lightning::io::Error;
use lightning::routing::scoring::ScoreUpdate;
use lightning::util::persist::{
	CHANNEL_MANAGER_PERSISTENCE_KEY, CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
	CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE, KVStore, NETWORK_GRAPH_PERSISTENCE_KEY,
	NETWORK_GRAPH_PERSISTENCE_PRIMARY_NAMESPACE, NETWORK_GRAPH_PERSISTENCE_SECONDARY_NAMESPACE, SCORER_PERSISTENCE_KEY,
	SCORER_PERSISTENCE_PRIMARY_NAMESPACE, SCORER_PERSISTENCE_SECONDARY_NAMESPACE,
};
use lightning::util::ser::Writeable;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A change of the manager that no monitor update waits for is written when so long nothing else was changed: else its sync would
/// come in front of one that a payment waits for. LDK asks for "soon": what is lost by a crash before it is what a crash a
/// moment earlier would have lost.
const LATER: Duration = Duration::from_millis(50);
/// ... or after so long, whatever goes on.
const LATEST: Duration = Duration::from_millis(250);
/// What an encoding cost is waited before the next one, for each update but one that it was made for, of so many at most: then
/// one part in five of a processor goes into encodings,
const COUNTED: usize = 4;
/// ... and never longer than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(25);
/// At most this often the monitors are asked for events, apart from after a chore. They have some when a block came, a channel was
/// closed, or a claim is to pay more.
const MONITOR_EVENTS: Duration = Duration::from_millis(100);

/// The first gossip from a server may be there by then, if it was not the last time.
const PRUNE_AGAIN: Duration = Duration::from_secs(60);

/// What is done by the clock, with LDK's own periods (of 0.3): first after, and then every.
const CHORES: [(Chore, u64, u64); 8] = [
	(Chore::Freshen, 0, 60),
	(Chore::Rebroadcast, 0, 30),
	(Chore::Ping, 10, 10),
	(Chore::Onions, 10, 10),
	(Chore::Archive, 15, 600),
	(Chore::Sweep, 30, 30),
	(Chore::Prune, 60, 3_600),
	(Chore::Score, 300, 300),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chore {
	Freshen,
	Rebroadcast,
	Ping,
	Onions,
	Archive,
	Sweep,
	Prune,
	Score,
}

/// When each chore is due.
struct Clock([(Chore, Instant, Duration); CHORES.len()]);

impl Clock {
	fn new(now: Instant) -> Clock {
		Clock(CHORES.map(|(chore, first, every)| (chore, now + Duration::from_secs(first), Duration::from_secs(every))))
	}

	fn next(&self) -> Instant {
		self.0.iter().map(|(_, due, _)| *due).min().expect("there are chores")
	}

	/// One that is due, and not due again before its period is over.
	fn take(&mut self, now: Instant) -> Option<Chore> {
		let (chore, due, every) = self.0.iter_mut().find(|(_, due, _)| *due <= now)?;
		*due = now + *every;
		Some(*chore)
	}

	/// This one could not be done: earlier than its period says.
	fn again(&mut self, chore: Chore, at: Instant) {
		self.0.iter_mut().filter(|(which, ..)| *which == chore).for_each(|(_, due, _)| *due = at);
	}
}

/// When the manager is to be written.
#[derive(Debug, Default)]
struct Pace {
	/// Since when it differs from what was written, and when it was last changed.
	changed: Option<(Instant, Instant)>,
	/// Not before this. One payment after another causes one update at a time and never waits; of many at once, the more wait
	/// for each encoding, the longer the next one gathers.
	rested: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
	Write,
	/// Not before something happens.
	Wait,
	WaitUntil(Instant),
}

impl Pace {
	/// `updates` of monitors wait for it; `writing`: the round before is not on the disk yet.
	fn next(&self, now: Instant, updates: usize, writing: bool) -> Next {
		match self.changed {
			_ if writing => Next::Wait,
			_ if updates > 0 => match self.rested {
				Some(rested) if rested > now => Next::WaitUntil(rested),
				_ => Next::Write,
			},
			None => Next::Wait,
			Some((since, last)) => match (since + LATEST).min(last + LATER) {
				at if at <= now => Next::Write,
				at => Next::WaitUntil(at),
			},
		}
	}

	/// It was changed.
	fn change(&mut self, now: Instant) {
		let (since, _) = self.changed.unwrap_or((now, now));
		self.changed = Some((since, now));
	}

	/// It was written for so many updates, which took from `begun` to `now`.
	fn written(&mut self, begun: Instant, now: Instant, updates: usize) {
		let counted = u32::try_from(updates.saturating_sub(1).min(COUNTED)).expect("a small number");
		self.rested = Some(now + (now.duration_since(begun) * counted).min(LONGEST_PAUSE));
	}
}

/// Resolves when a round is on the disk.
type Round = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The loop and what it works on.
pub(super) struct Cycle {
	pub lightning: Arc<Lightning>,
	pub store: Store,
	pub handler: Arc<Handler>,
	pub pulse: Arc<Pulse>,
	/// How large the manager was when it was last written.
	pub encoded: AtomicUsize,
}

impl Cycle {
	/// Until `stop`; then writes what is left.
	///
	/// # Errors
	/// The store has failed.
	pub async fn run(&self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
		let ldk = &self.lightning;
		let (mut clock, mut pace, mut round) = (Clock::new(Instant::now()), Pace::default(), None::<Round>);
		let mut ask_monitors = Instant::now();
		if let Some(now) = since_epoch() {
			ldk.scorer.write().expect("not poisoned").time_passed(now);
		}
		loop {
			self.pulse.beat(Loop::Ldk);
			// Taken before anything is looked at: what comes after that wakes it. Who handles events waits for the same.
			let news = ldk.manager.get_event_or_persistence_needed_future();
			let now = Instant::now();
			while let Some(chore) = clock.take(now) {
				if chore == Chore::Prune && self.graph().is_none() {
					clock.again(chore, now + PRUNE_AGAIN);
					continue;
				}
				self.chore(chore).await;
				// A claim that is due for a higher fee is such an event, and LDK does not notify of it.
				ask_monitors = now;
			}
			if ask_monitors <= now {
				// Outputs to be swept and claims to be bumped: what follows from them waits for this disk alone.
				ldk.monitor.process_pending_events_async(|event| self.handler.handle(event)).await;
				ask_monitors = now + NEVER;
			}
			ldk.flush();
			ldk.wake_pump();

			let asked = ldk.kept.open();
			let changed = ldk.manager.get_and_clear_needs_persistence();
			if changed || (asked.is_some() && pace.changed.is_none()) {
				pace.change(now);
			}
			let updates = ldk.monitor.pending_operation_count();
			let mut later = clock.next().min(ask_monitors);
			match pace.next(now, updates, round.is_some()) {
				Next::Write => {
					pace.changed = None;
					let begun = Instant::now();
					self.write_manager(updates).await?;
					ldk.kept.written(asked);
					pace.written(begun, Instant::now(), updates);
					if updates > 0 {
						// Behind the updates in the queue: it costs no sync of its own.
						round = Some(Box::pin(self.store.drain_here()));
					}
				}
				Next::WaitUntil(at) => later = later.min(at),
				Next::Wait => {}
			}
			tokio::select! {
				() = stopped(&mut stop) => break,
				() = news => {},
				() = ldk.kept.wanted() => {},
				// Nobody else may wait for these, for they are not looked at at every turn. The flush of the next one makes what
				// monitors found on the chain into events of the manager.
				() = ldk.monitor.get_update_future() => ask_monitors = ask_monitors.min(now + MONITOR_EVENTS),
				() = async { round.as_mut().expect("checked").await }, if round.is_some() => round = None,
				() = tokio::time::sleep_until(later) => {},
			}
		}
		self.write_manager(ldk.monitor.pending_operation_count()).await?;
		self.write_scorer().await?;
		self.write_graph().await
	}

	/// The manager as it is now and, behind it, the first so many updates of monitors: it is at least as new as they are.
	async fn write_manager(&self, updates: usize) -> Result<(), Error> {
		// Not `encode`, which goes through all of it a first time to learn its size.
		let mut encoded = Vec::with_capacity(self.encoded.load(Ordering::Relaxed) + SLACK);
		self.lightning.manager.write(&mut encoded)?;
		self.encoded.store(encoded.len(), Ordering::Relaxed);
		let written = self.store.write(
			CHANNEL_MANAGER_PERSISTENCE_PRIMARY_NAMESPACE,
			CHANNEL_MANAGER_PERSISTENCE_SECONDARY_NAMESPACE,
			CHANNEL_MANAGER_PERSISTENCE_KEY,
			encoded,
		);
		written.await?;
		self.lightning.monitor.flush(updates, &self.lightning.logger);
		Ok(())
	}

	async fn write_scorer(&self) -> Result<(), Error> {
		if !self.lightning.scored.swap(false, Ordering::AcqRel) {
			return Ok(());
		}
		let scorer = self.lightning.scorer.read().expect("not poisoned").encode();
		self.store
			.write(
				SCORER_PERSISTENCE_PRIMARY_NAMESPACE,
				SCORER_PERSISTENCE_SECONDARY_NAMESPACE,
				SCORER_PERSISTENCE_KEY,
				scorer,
			)
			.await
	}

	/// The graph, if it is kept: with no gossip there is none.
	async fn write_graph(&self) -> Result<(), Error> {
		let Some(graph) = self.graph() else { return Ok(()) };
		self.store
			.write(
				NETWORK_GRAPH_PERSISTENCE_PRIMARY_NAMESPACE,
				NETWORK_GRAPH_PERSISTENCE_SECONDARY_NAMESPACE,
				NETWORK_GRAPH_PERSISTENCE_KEY,
				graph.encode(),
			)
			.await
	}

	/// The graph, unless there is none, or its first snapshot is yet to come.
	fn graph(&self) -> Option<&Graph> {
		match &self.lightning.gossip {
			Gossip::Peers(_) => Some(&*self.lightning.graph),
			Gossip::Rapid { sync, .. } => sync.is_initial_sync_complete().then_some(&*self.lightning.graph),
			Gossip::None => None,
		}
	}

	async fn chore(&self, chore: Chore) {
		let ldk = &self.lightning;
		let kept = match chore {
			Chore::Freshen => {
				ldk.manager.timer_tick_occurred();
				Ok(())
			}
			Chore::Rebroadcast => {
				ldk.monitor.rebroadcast_pending_claims();
				Ok(())
			}
			Chore::Ping => {
				ldk.peers.timer_tick_occurred();
				Ok(())
			}
			Chore::Onions => {
				use lightning::ln::msgs::OnionMessageHandler;
				ldk.messenger.timer_tick_occurred();
				Ok(())
			}
			Chore::Archive => {
				ldk.monitor.archive_fully_resolved_channel_monitors();
				Ok(())
			}
			Chore::Sweep => {
				// It says in LDK's log what it could not do, and is asked again.
				let _ = ldk.sweeper.regenerate_and_broadcast_spend_if_necessary().await;
				Ok(())
			}
			Chore::Prune => {
				if let (Some(graph), Some(now)) = (self.graph(), since_epoch()) {
					graph.remove_stale_channels_and_tracking_with_time(now.as_secs());
				}
				self.write_graph().await
			}
			Chore::Score => {
				if let Some(now) = since_epoch() {
					ldk.scorer.write().expect("not poisoned").time_passed(now);
				}
				self.write_scorer().await
			}
		};
		if let Err(e) = kept {
			// Neither is money, and both are written again.
			tracing::error!(target: "inlet", "graph or scores could not be written: {e}");
		}
	}
}

/// By so much the manager may be larger than the last time before room for it is found anew.
const SLACK: usize = 64 << 10;
/// Longer than a node runs.
const NEVER: Duration = Duration::from_secs(3_600 * 24 * 365);

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn r13_the_manager_is_written_for_monitors_at_once_alone_a_little_later_and_one_round_at_a_time() {
		let now = Instant::now();
		let unchanged = Pace::default();
		assert_eq!(unchanged.next(now, 0, false), Next::Wait);
		assert_eq!(unchanged.next(now, 1, false), Next::Write, "an update never goes without the manager before it");
		let mut changed = Pace::default();
		changed.change(now);
		assert_eq!(changed.next(now, 1, false), Next::Write);
		assert_eq!(changed.next(now, 0, false), Next::WaitUntil(now + LATER));
		assert_eq!(changed.next(now + LATER, 0, false), Next::Write);
		changed.change(now + LATER / 2);
		assert_eq!(
			changed.next(now + LATER, 0, false),
			Next::WaitUntil(now + LATER * 3 / 2),
			"while something goes on"
		);
		changed.change(now + LATEST - LATER / 2);
		assert_eq!(changed.next(now + LATEST - LATER / 2, 0, false), Next::WaitUntil(now + LATEST), "but not for ever");
		for updates in [0, 1] {
			assert_eq!(changed.next(now + LATER, updates, true), Next::Wait, "they share the next round");
		}
	}

	#[test]
	fn one_update_at_a_time_never_waits_and_many_wait_in_proportion_to_what_an_encoding_costs() {
		let begun = Instant::now();
		let ms = Duration::from_millis;
		let after = |cost, updates| {
			let mut pace = Pace::default();
			pace.change(begun);
			pace.written(begun, begun + cost, updates);
			pace.next(begun + cost, 1, false)
		};
		assert_eq!(after(ms(5), 0), Next::Write);
		assert_eq!(after(ms(5), 1), Next::Write);
		assert_eq!(after(ms(1), 2), Next::WaitUntil(begun + ms(1 + 1)));
		assert_eq!(after(ms(1), 5), Next::WaitUntil(begun + ms(1 + 4)));
		assert_eq!(after(ms(1), 50), Next::WaitUntil(begun + ms(1 + 4)));
		assert_eq!(after(ms(20), 50), Next::WaitUntil(begun + ms(20) + LONGEST_PAUSE));
	}

	#[test]
	fn every_chore_comes_round_in_its_period() {
		let begun = Instant::now();
		let mut clock = Clock::new(begun);
		let mut done = Vec::new();
		for secs in 0..=600 {
			let now = begun + Duration::from_secs(secs);
			assert!(clock.next() <= now + Duration::from_secs(10), "the loop's pulse");
			while let Some(chore) = clock.take(now) {
				done.push(chore);
			}
		}
		let count = |chore| done.iter().filter(|done| **done == chore).count();
		assert_eq!(
			[Chore::Freshen, Chore::Ping, Chore::Onions, Chore::Rebroadcast, Chore::Sweep].map(count),
			[11, 60, 60, 21, 20]
		);
		assert_eq!([Chore::Archive, Chore::Prune, Chore::Score].map(count), [1, 1, 2]);
	}
}
