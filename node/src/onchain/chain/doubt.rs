//! When a view of the chain that looks current is not sold on: a tip that stands still, a clock that cannot be right, a
//! witness that sees another chain. (An LSP that is cut off from the network sells channels that no miner hears of, and
//! claims HTLCs too late.)

use super::witness::Verdict;
use bitcoin::BlockHash;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// A block's time may be two hours ahead of its miner's clock by consensus; more says that ours is behind.
const MAX_AHEAD: Duration = Duration::from_secs(3 * 3_600);

/// The newest block, and what is said against selling by it.
pub(super) struct Doubt {
	max_age: Option<Duration>,
	verdict: watch::Receiver<Verdict>,
	newest: Option<Newest>,
}

struct Newest {
	hash: BlockHash,
	/// By its miner.
	mined: SystemTime,
	/// When it became our tip.
	since: Instant,
}

impl Doubt {
	/// Without `max_age`, neither the tip's age nor the clock is looked at.
	pub(super) fn new(max_age: Option<Duration>, verdict: watch::Receiver<Verdict>) -> Doubt {
		Doubt { max_age, verdict, newest: None }
	}

	/// Is its time not known yet?
	pub(super) fn is_new(&self, hash: &BlockHash) -> bool {
		self.newest.as_ref().is_none_or(|newest| newest.hash != *hash)
	}

	/// Since `since` this block, which says that it was mined then, is our tip.
	pub(super) fn tip(&mut self, hash: BlockHash, mined: SystemTime, since: Instant) {
		self.newest = Some(Newest { hash, mined, since });
	}

	/// Why nothing is to be sold, for the operator.
	pub(super) fn reason(&self, clock: SystemTime, now: Instant) -> Option<String> {
		self.age(clock, now).or_else(|| self.verdict.borrow().stop.clone())
	}

	/// What the witnesses found.
	pub(super) fn verdict(&mut self) -> Verdict {
		self.verdict.borrow_and_update().clone()
	}

	/// Resolves when the witnesses found something new.
	pub(super) async fn changed(&mut self) {
		if self.verdict.changed().await.is_err() {
			std::future::pending().await
		}
	}

	/// A block's own time can be wrong by an hour or two, and the time since it came says nothing after a restart: the tip is
	/// as old as the older of the two.
	fn age(&self, clock: SystemTime, now: Instant) -> Option<String> {
		let (limit, newest) = (self.max_age?, self.newest.as_ref()?);
		let ahead = newest.mined.duration_since(clock).unwrap_or_default();
		if ahead > MAX_AHEAD {
			return Some(format!(
				"this machine's clock is {} behind the newest block's time: set the clock (timedatectl)",
				words(ahead)
			));
		}
		let age =
			clock.duration_since(newest.mined).unwrap_or_default().max(now.saturating_duration_since(newest.since));
		(age > limit).then(|| {
			format!(
				"the newest block is {} old and chain.max_tip_age_secs is {}: the backend may be cut off from the network, or \
				this machine's clock be wrong",
				words(age),
				limit.as_secs()
			)
		})
	}
}

/// `3 h 05 min`, `45 s`.
fn words(time: Duration) -> String {
	let seconds = time.as_secs();
	match (seconds / 3_600, seconds / 60 % 60) {
		(0, 0) => format!("{seconds} s"),
		(0, minutes) => format!("{minutes} min"),
		(hours, minutes) => format!("{hours} h {minutes:02} min"),
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use bitcoin::hashes::Hash;

	const HOUR: Duration = Duration::from_secs(3_600);

	fn doubt(max_age: Option<Duration>) -> (Doubt, watch::Sender<Verdict>) {
		let (sender, verdict) = watch::channel(Verdict::default());
		(Doubt::new(max_age, verdict), sender)
	}

	#[test]
	fn r20_a_tip_that_stands_still_is_doubted_until_a_block_comes() {
		let (mut doubt, _verdict) = doubt(Some(HOUR * 3));
		let (clock, now) = (SystemTime::now(), Instant::now());
		let [first, second] = [1, 2].map(|n| BlockHash::from_byte_array([n; 32]));
		assert!(doubt.is_new(&first));
		doubt.tip(first, clock, now);
		assert!(!doubt.is_new(&first) && doubt.is_new(&second));
		assert_eq!(doubt.reason(clock + HOUR * 3, now + HOUR * 3), None);
		let later = doubt.reason(clock + HOUR * 3 + Duration::from_secs(61), now + HOUR * 3).unwrap();
		assert!(later.contains("3 h 01 min old"), "{later}");
		doubt.tip(second, clock + HOUR * 4, now + HOUR * 4);
		assert_eq!(doubt.reason(clock + HOUR * 4, now + HOUR * 4), None);
	}

	#[test]
	fn r20_an_old_block_is_doubted_at_once_after_a_restart_and_a_future_one_never_looks_fresh() {
		let (mut doubt, _verdict) = doubt(Some(HOUR * 3));
		let (clock, now) = (SystemTime::now(), Instant::now());
		let hash = BlockHash::all_zeros();
		doubt.tip(hash, clock - HOUR * 5, now);
		assert!(doubt.reason(clock, now).unwrap().contains("5 h 00 min old"));
		// An attacker's block may say any time: what counts then is how long it has been the newest.
		doubt.tip(hash, clock + HOUR * 2, now);
		assert_eq!(doubt.reason(clock, now), None);
		assert!(doubt.reason(clock + HOUR * 3, now + HOUR * 4).is_some());
	}

	#[test]
	fn r20_a_clock_that_is_far_behind_is_told() {
		let (mut doubt, _verdict) = doubt(Some(HOUR * 3));
		let (clock, now) = (SystemTime::now(), Instant::now());
		doubt.tip(BlockHash::all_zeros(), clock + HOUR * 30, now);
		let reason = doubt.reason(clock, now).unwrap();
		assert!(reason.contains("clock is 30 h 00 min behind"), "{reason}");
	}

	#[test]
	fn without_a_limit_any_age_will_do_and_witnesses_still_count() {
		let (mut doubt, sender) = doubt(None);
		let (clock, now) = (SystemTime::now(), Instant::now());
		doubt.tip(BlockHash::all_zeros(), clock - HOUR * 1_000, now);
		assert_eq!(doubt.reason(clock, now), None);
		sender.send_replace(Verdict { stop: Some("another chain".into()), troubles: Vec::new() });
		assert_eq!(doubt.reason(clock, now).as_deref(), Some("another chain"));
	}
}
