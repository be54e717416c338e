//! LDK's events, but for those of monitors, in a task of their own.
//!
//! What follows from an event is durable before LDK forgets it, and with `backup.mode = "sync"` that waits for the backup's
//! target. [LDK's loop](super::cycle) must not: it writes what claims money on the chain.

use super::Lightning;
use super::events::Handler;
use crate::pulse::{Loop, Pulse};
use crate::stop::stopped;
use lightning::events::{Event, PathFailure};
use lightning::routing::scoring::ScoreUpdate;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// It comes round at least this often, as a sign of life.
const AT_LEAST: Duration = Duration::from_secs(10);

impl Lightning {
	/// Hands LDK's events to `handler`, one after the other, until `stop`. What was not handled then is raised again after
	/// the start.
	pub async fn hear(self: Arc<Self>, handler: Arc<Handler>, pulse: Arc<Pulse>, mut stop: watch::Receiver<bool>) {
		let event = async |event: Event| {
			self.learn(&event);
			handler.handle(event).await
		};
		while !*stop.borrow() {
			pulse.beat(Loop::Events);
			// Taken before the events: what comes after them wakes it. LDK's loop waits for the same.
			let (news, messages) =
				(self.manager.get_event_or_persistence_needed_future(), self.messenger.get_update_future());
			self.manager.process_pending_events_async(event).await;
			self.messenger.process_pending_events_async(|one| Box::pin(event(one))).await;
			tokio::select! {
				() = stopped(&mut stop) => break,
				() = news => {},
				// Also told when there is one to be sent.
				() = messages => self.flush(),
				() = tokio::time::sleep(AT_LEAST) => {},
			}
		}
	}

	/// What an own payment teaches of the graph.
	fn learn(&self, event: &Event) {
		if let Event::PaymentPathFailed { failure: PathFailure::OnPath { network_update: Some(update) }, .. } = event {
			self.graph.handle_network_update(update);
		}
		let Some(now) = since_epoch() else { return };
		let scorer = || self.scorer.write().expect("not poisoned");
		match event {
			Event::PaymentPathFailed { path, short_channel_id: Some(scid), .. } => {
				scorer().payment_path_failed(path, *scid, now);
			}
			// The payee refused it: it got there.
			Event::PaymentPathFailed { path, payment_failed_permanently: true, .. } => {
				scorer().probe_successful(path, now);
			}
			Event::PaymentPathSuccessful { path, .. } => scorer().payment_path_successful(path, now),
			Event::ProbeSuccessful { path, .. } => scorer().probe_successful(path, now),
			Event::ProbeFailed { path, short_channel_id: Some(scid), .. } => scorer().probe_failed(path, *scid, now),
			_ => return,
		}
		self.scored.store(true, Ordering::Release);
	}
}

/// The time that LDK reckons with.
pub(super) fn since_epoch() -> Option<Duration> {
	SystemTime::now().duration_since(UNIX_EPOCH).ok()
}
