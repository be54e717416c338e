//! Idle capital comes home: who has not used its channel for long is told, and after a time of grace the channel is
//! closed, together with its client and while that is cheap.
//!
//! Never before the promise is over, never a channel in use, never by force, and never at the client's cost. What was
//! told and asked is in the channel's row of the books. See `docs/core.md`.

use crate::book::{Book, BooksRow, ChannelSums};
use crate::capital::Holding;
use crate::input::Action;
use crate::money::{FeePerKw, Msat, Ppm, Sat};
use crate::notice::Notice;
use crate::policy::CapitalPolicy;
use crate::quote::CLOSE_WEIGHT;
use crate::time::{DAY_MS, Timestamp};
use crate::turn::Turn;
use crate::wake;

/// A client that stays away is called again after this time.
const AGAIN_MS: u64 = DAY_MS;
/// A closing that did not begin, since the client went away in that moment, is asked for again after this time.
const RETRY_MS: u64 = 600_000;
/// An output below this is not relayed, of whatever kind: in a closing transaction it would be the miner's.
const DUST: Sat = Sat(546);

/// Why a channel waits for its client, see [`Verdict::Wait`].
pub const CLIENT_AWAY: &str = "client away";

/// What could become of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
	/// It stays, because of this.
	Keep(&'static str),
	/// It is idle, and its client is to be told so first.
	Tell,
	/// It is idle, and cannot be closed together with its client now, because of this.
	Wait(&'static str),
	/// It is idle: it can be closed now, together with its client.
	Close,
}

/// What could become of this channel.
pub fn verdict(policy: &CapitalPolicy, feerate: Option<FeePerKw>, holding: &Holding, now: Timestamp) -> Verdict {
	if !holding.opened_by_us || holding.public {
		return Verdict::Keep("not sold");
	}
	if holding.closing {
		return Verdict::Keep("being closed");
	}
	if holding.lease_left > 0 {
		return Verdict::Keep("promised");
	}
	if holding.in_flight > 0 {
		return Verdict::Keep("in use");
	}
	if !is_idle(policy, holding, now) {
		return Verdict::Keep("used");
	}
	let ours = holding.ours.to_sat_floor();
	if ours < policy.reclaim_min_sat {
		return Verdict::Keep("too little of ours");
	}
	if holding.theirs > Msat::ZERO && holding.theirs.to_sat_floor() < DUST {
		return Verdict::Keep("the client's part would be lost as dust");
	}
	let Some(told) = holding.told_at else { return Verdict::Tell };
	if now.0.saturating_sub(told.0) < u64::from(policy.reclaim_grace_days).saturating_mul(DAY_MS) || told >= now {
		return Verdict::Wait("told, and has time to use it");
	}
	let Some(rate) = feerate else { return Verdict::Wait("no feerate") };
	// The fee comes off our side: what is left must be worth it.
	let left = ours.saturating_sub(rate.cost_ceil(CLOSE_WEIGHT));
	if rate.to_sat_per_vb_ceil() > policy.reclaim_feerate_sat_per_vb || left < policy.reclaim_min_sat {
		return Verdict::Wait("fees");
	}
	if !holding.connected {
		return Verdict::Wait(CLIENT_AWAY);
	}
	Verdict::Close
}

pub(crate) fn is_idle(policy: &CapitalPolicy, holding: &Holding, now: Timestamp) -> bool {
	let since = last_used(holding.used_at, holding.opened_at);
	now.0.saturating_sub(since.0) >= u64::from(policy.idle_days).saturating_mul(DAY_MS)
}

fn last_used(used_at: Option<Timestamp>, opened_at: Timestamp) -> Timestamp {
	used_at.map_or(opened_at, |used| used.max(opened_at))
}

/// When the channel's client was told, if it has not used the channel since.
pub fn told(sums: &ChannelSums) -> Option<Timestamp> {
	sums.reclaiming.as_ref()?.told_at.filter(|told| *told >= last_used(sums.used_at, sums.opened_at))
}

/// What our part of a channel would earn elsewhere in a year, rounded up.
pub fn costs_per_year(rate: Ppm, holding: &Holding) -> Sat {
	let millionths = u128::from(holding.ours.0).saturating_mul(u128::from(rate.0));
	Sat(u64::try_from(millionths.div_ceil(1_000_000_000)).unwrap_or(u64::MAX))
}

/// Channels that the reclaimer began to close within a day.
pub fn begun_lately(book: &Book, now: Timestamp) -> usize {
	let begun = book.books().channels().filter_map(|sums| sums.reclaiming.as_ref()?.closed_at);
	begun.filter(|at| at.0.saturating_add(DAY_MS) > now.0).count()
}

/// [`Input::Holdings`](crate::input::Input::Holdings).
pub(crate) fn look(turn: &mut Turn<'_>, holdings: &[Holding], asked: bool) {
	let (policy, feerate) = (&turn.policy().capital, turn.world.feerate.filter(|_| turn.world.synced));
	if !asked && !policy.reclaim {
		return;
	}
	let most = usize::try_from(policy.reclaims_per_day).unwrap_or(usize::MAX);
	let mut room = if asked { usize::MAX } else { most.saturating_sub(begun_lately(turn.book, turn.now)) };
	for seen in holdings {
		// What was promised, told and begun is the book's to say: the view may be older.
		let Some(mut sums) = turn.book.books().channel(&seen.channel_id).cloned() else { continue };
		let lease = turn.book.lease(&seen.channel_id);
		let lease_left = lease.map_or(0, |lease| lease.blocks_left(turn.world.height, turn.now)).max(seen.lease_left);
		sums.used_at = sums.used_at.max(seen.used_at);
		let holding = Holding { lease_left, used_at: sums.used_at, told_at: told(&sums), ..seen.clone() };
		let due = |at: Option<Timestamp>, after: u64| at.is_none_or(|at| at.0.saturating_add(after) <= turn.now.0);
		let mut done = sums.reclaiming.as_deref().cloned().unwrap_or_default();
		match verdict(policy, feerate, &holding, turn.now) {
			Verdict::Tell => {
				(done.told_at, done.called_at) = (Some(turn.now), Some(turn.now));
				call(turn, &holding);
			}
			Verdict::Wait(CLIENT_AWAY) if due(done.called_at, AGAIN_MS) => {
				done.called_at = Some(turn.now);
				call(turn, &holding);
			}
			Verdict::Close if due(done.closed_at, RETRY_MS) => {
				let is_new = due(done.closed_at, DAY_MS);
				if is_new && room == 0 {
					continue;
				}
				room = room.saturating_sub(usize::from(is_new));
				done.closed_at = Some(turn.now);
				let feerate = feerate.unwrap_or(FeePerKw::FLOOR);
				turn.act(Action::CloseTogether { channel_id: holding.channel_id, peer: holding.client, feerate });
			}
			Verdict::Keep(_) | Verdict::Wait(_) | Verdict::Close => continue,
		}
		sums.reclaiming = Some(Box::new(done));
		turn.put_books(BooksRow::Channel(sums));
	}
}

/// Who is here can see for itself that its channel is idle: bLIP-55 has notices for those who are away.
fn call(turn: &mut Turn<'_>, holding: &Holding) {
	if !holding.connected {
		wake::call(turn, holding.client, &Notice::LiquidityManagementRequest);
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	const DAY: u64 = DAY_MS;

	/// Told a week before the 60th day.
	fn holding() -> Holding {
		Holding { told_at: Some(Timestamp(53 * DAY)), ..crate::capital::tests::holding() }
	}

	fn judge(holding: &Holding, sat_per_vb: u32, days: u64) -> Verdict {
		verdict(&CapitalPolicy::default(), Some(FeePerKw(sat_per_vb * 250)), holding, Timestamp(days * DAY))
	}

	#[test]
	fn r11_an_idle_channel_is_closed_when_fees_are_low_and_its_client_is_here_and_was_told() {
		assert_eq!(judge(&holding(), 1, 60), Verdict::Close);
		assert_eq!(judge(&holding(), 1, 59), Verdict::Keep("used"));
		assert_eq!(judge(&holding(), 50, 60), Verdict::Wait("fees"));
		assert_eq!(judge(&Holding { connected: false, ..holding() }, 1, 60), Verdict::Wait(CLIENT_AWAY));
		assert_eq!(judge(&Holding { told_at: None, ..holding() }, 50, 60), Verdict::Tell);
		let just_told = Holding { told_at: Some(Timestamp(59 * DAY)), ..holding() };
		assert!(matches!(judge(&just_told, 1, 60), Verdict::Wait(why) if why.contains("told")));
		let none = verdict(&CapitalPolicy::default(), None, &holding(), Timestamp(60 * DAY));
		assert_eq!(none, Verdict::Wait("no feerate"));
	}

	#[test]
	fn r11_never_before_the_promise_never_an_active_one_never_for_too_little() {
		let kept = |holding: Holding| matches!(judge(&holding, 1, 400), Verdict::Keep(_));
		assert!(kept(Holding { lease_left: 1, ..holding() }));
		assert!(kept(Holding { in_flight: 1, ..holding() }));
		assert!(kept(Holding { closing: true, ..holding() }));
		assert!(kept(Holding { used_at: Some(Timestamp(341 * DAY)), ..holding() }));
		assert!(kept(Holding { ours: Msat(49_999_000), ..holding() }));
		assert!(kept(Holding { opened_by_us: false, ..holding() }) && kept(Holding { public: true, ..holding() }));
		let thin = Holding { ours: Msat(50_100_000), ..holding() };
		assert_eq!(judge(&thin, 1, 400), Verdict::Wait("fees"), "what is left after the fee is too little");
	}

	#[test]
	fn r11_never_at_the_cost_of_the_client() {
		let with = |theirs: u64| judge(&Holding { theirs: Msat(theirs), ..holding() }, 1, 60);
		assert_eq!(with(0), Verdict::Close);
		assert!(matches!(with(1), Verdict::Keep(_)) && matches!(with(545_999), Verdict::Keep(_)));
		assert_eq!(with(546_000), Verdict::Close);
	}
}
