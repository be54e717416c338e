//! HTLCs that LDK has handed to Inlet: since when, for whom, and which are answered.
//!
//! After a restart LDK raises `HTLCIntercepted` again, for each HTLC that it held when it last wrote its state. By the time
//! that the event is taken, the HTLC may have been answered from what the book knows of it. Such an event is stale: taken for
//! a new part, it would have a channel opened for an HTLC that is gone.

use bitcoin::secp256k1::PublicKey;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// HTLCs that are timed at once; more are held all the same.
const MAX_TIMED: usize = 10_000;
/// Answered ones that are remembered, the newest: an event is late by what LDK had in its queue, which is much less.
const MAX_ANSWERED: usize = 10_000;

/// By LDK's intercept id, which no two HTLCs share.
#[derive(Default)]
pub struct Intercepts(Mutex<State>);

#[derive(Default)]
struct State {
	waiting: HashMap<[u8; 32], (Option<PublicKey>, Instant)>,
	answered: HashSet<[u8; 32]>,
	/// `answered`, oldest first.
	order: VecDeque<[u8; 32]>,
}

impl Intercepts {
	/// LDK tells of an HTLC for this client at `now`, or tells of it again.
	pub fn arrived(&self, id: [u8; 32], client: Option<PublicKey>, now: Instant) {
		let mut state = self.state();
		if state.waiting.len() < MAX_TIMED && !state.answered.contains(&id) {
			state.waiting.entry(id).or_insert((client, now));
		}
	}

	/// It was forwarded or failed. Gives for whom it was and how long Inlet held it, if it was timed.
	pub fn answer(&self, id: [u8; 32], now: Instant) -> Option<(Option<PublicKey>, Duration)> {
		let mut state = self.state();
		if state.answered.insert(id) {
			state.order.push_back(id);
		}
		if state.order.len() > MAX_ANSWERED
			&& let Some(oldest) = state.order.pop_front()
		{
			state.answered.remove(&oldest);
		}
		let (client, since) = state.waiting.remove(&id)?;
		Some((client, now.saturating_duration_since(since)))
	}

	/// Was it forwarded or failed in this run?
	pub fn is_answered(&self, id: &[u8; 32]) -> bool {
		self.state().answered.contains(id)
	}

	fn state(&self) -> MutexGuard<'_, State> {
		self.0.lock().expect("not poisoned")
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn id(number: usize) -> [u8; 32] {
		let mut id = [0; 32];
		id[..8].copy_from_slice(&number.to_le_bytes());
		id
	}

	#[test]
	fn r12_an_htlc_is_answered_once_whenever_it_is_told_of() {
		let (intercepts, start) = (Intercepts::default(), Instant::now());
		let later = |secs| start + Duration::from_secs(secs);
		intercepts.arrived(id(1), None, start);
		intercepts.arrived(id(1), None, later(5));
		assert!(!intercepts.is_answered(&id(1)));
		assert_eq!(intercepts.answer(id(1), later(7)), Some((None, Duration::from_secs(7))));
		assert!(intercepts.is_answered(&id(1)));
		// Answered from the book, before LDK told of it: that is not timed.
		assert_eq!(intercepts.answer(id(2), later(1)), None);
		intercepts.arrived(id(2), None, later(2));
		assert!(intercepts.is_answered(&id(2)));
		assert_eq!(intercepts.answer(id(2), later(3)), None);
	}

	#[test]
	fn r16_what_is_remembered_is_bounded() {
		let (intercepts, now) = (Intercepts::default(), Instant::now());
		for number in 0..MAX_TIMED + 5 {
			intercepts.arrived(id(number), None, now);
		}
		assert_eq!(intercepts.state().waiting.len(), MAX_TIMED);
		for number in 0..MAX_ANSWERED + 5 {
			intercepts.answer(id(number), now);
		}
		let state = intercepts.state();
		assert_eq!((state.answered.len(), state.order.len(), state.waiting.len()), (MAX_ANSWERED, MAX_ANSWERED, 0));
	}
}
