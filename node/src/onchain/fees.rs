//! Fee estimates: cached with their age, checked before they are believed, always an answer for LDK.

use super::keep::{Folder, Keep};
use bitcoin::Network;
use inlet_lsp::market::{Average, MAX_TARGETS, Market, Recent};
use inlet_lsp::money::FeePerKw;
use inlet_lsp::time::Timestamp;
use inlet_storage::Store;
use lightning::chain::chaininterface::{ConfirmationTarget, FEERATE_FLOOR_SATS_PER_KW, FeeEstimator};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Estimates older than this are not sold on.
pub const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// 1,500 sat/vB: no estimate above it is believed.
const ABSURD: u32 = 1_500 * SAT_PER_VB;
/// An estimate that differs from the last by more than this factor is believed at the second look only.
const MAX_JUMP: u32 = 10;
/// Below 20 sat/vB a jump does no harm.
const HARMLESS: u32 = 20 * SAT_PER_VB;
/// One satoshi per virtual byte, in LDK's unit.
const SAT_PER_VB: u32 = 250;
/// The row that keeps the slow average.
const AVERAGE_KEY: &str = "feerate_average";
/// It is written this often, in seconds: it moves slowly, and cards wear.
const KEEP_EVERY_SECS: u64 = 3600;
/// What "about six blocks" means in the estimates.
const NORMAL_BLOCKS: u16 = 6;

/// What a backend says: feerates in satoshis per 1000 weight units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Estimates {
	/// By the number of blocks within which a transaction should be mined. May be empty.
	pub by_blocks: BTreeMap<u16, u32>,
	/// What the backend's mempool takes at least.
	pub mempool_minimum: u32,
}

/// Why an estimate was not believed; the last good one was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
	/// The backend knows nothing (on regtest that is normal, and a fallback is used).
	#[error("the backend has no fee estimates yet; sales pause until it has")]
	Empty,
	/// An estimate of nothing.
	#[error("the backend estimates a feerate of zero; the last good estimate is kept")]
	Zero,
	/// More than anyone ever paid.
	#[error(
		"the backend estimates {0} sat per 1000 weight units, more than is believed; the last good estimate is kept"
	)]
	Absurd(u32),
	/// Far from the last one.
	#[error(
		"the feerate jumped from {from} to {to} sat per 1000 weight units; it is believed if the next look confirms it"
	)]
	Jump {
		/// The last good one.
		from: u32,
		/// The new one.
		to: u32,
	},
}

/// The fee cache. LDK asks it synchronously and always gets a number; sales ask [`Fees::fresh`].
#[derive(Debug)]
pub struct Fees {
	network: Network,
	state: Mutex<State>,
	keep: Option<Keep>,
}

#[derive(Debug, Default)]
struct State {
	good: Option<(Curve, Instant)>,
	suspect: Option<u32>,
	fallback_announced: bool,
	recent: Recent,
	/// The range of `recent`, which is asked for with every input of the core.
	lately: Option<(FeePerKw, FeePerKw)>,
	average: Option<Average>,
	kept_at: Option<Timestamp>,
}

/// Estimates that never rise with the number of blocks.
#[derive(Clone, Debug)]
struct Curve {
	by_blocks: BTreeMap<u16, u32>,
	minimum: u32,
}

impl Curve {
	fn new(estimates: &Estimates) -> Curve {
		let mut highest_later = 0;
		let mut by_blocks = BTreeMap::new();
		for (&blocks, &rate) in estimates.by_blocks.iter().rev() {
			highest_later = highest_later.max(rate);
			by_blocks.insert(blocks, highest_later);
		}
		Curve { by_blocks, minimum: estimates.mempool_minimum.max(FEERATE_FLOOR_SATS_PER_KW) }
	}

	/// The estimate for at most this many blocks; for fewer than the backend knows, its quickest.
	fn within(&self, blocks: u16) -> u32 {
		let known = self.by_blocks.range(..=blocks).next_back().or_else(|| self.by_blocks.first_key_value());
		known.map_or(self.minimum, |(_, &rate)| rate).max(self.minimum)
	}
}

impl Fees {
	/// An empty cache that keeps nothing.
	pub fn new(network: Network) -> Fees {
		Fees { network, state: Mutex::default(), keep: None }
	}

	/// An empty cache, but for the slow average, which is kept in the store.
	///
	/// # Errors
	/// The row cannot be read. One that cannot be understood is begun anew.
	pub async fn open(network: Network, store: Store) -> io::Result<Fees> {
		let keep = Keep(store);
		let row = keep.read(Folder::Wallet, AVERAGE_KEY).await?;
		let average = row.and_then(|row| serde_json::from_slice(&row).ok());
		let kept_at = average.map(|average: Average| average.at);
		let state = State { average, kept_at, ..State::default() };
		Ok(Fees { network, state: Mutex::new(state), keep: Some(keep) })
	}

	/// What is known of feerates besides the live one.
	pub fn market(&self) -> Market {
		let state = self.lock();
		let by_blocks = state.good.as_ref().map_or_else(Vec::new, |(curve, _)| {
			let targets = curve.by_blocks.keys().take(MAX_TARGETS);
			targets.map(|blocks| (*blocks, FeePerKw(curve.within(*blocks)))).collect()
		});
		Market { by_blocks, long_run: state.average.map(Average::feerate), lately: state.lately }
	}

	/// Notes the live feerate for the hour and for the long run.
	fn watch(&self, state: &mut State, at: Timestamp) {
		let Some((curve, _)) = &state.good else { return };
		let live = FeePerKw(curve.within(NORMAL_BLOCKS));
		state.recent.note(live, at);
		state.lately = state.recent.range();
		let average = state.average.map_or_else(|| Average::new(live, at), |average| average.with(live, at));
		state.average = Some(average);
		let is_due = state.kept_at.is_none_or(|kept| kept.plus_secs(KEEP_EVERY_SECS) <= at);
		if let (Some(keep), true) = (&self.keep, is_due) {
			state.kept_at = Some(at);
			keep.write(Folder::Wallet, AVERAGE_KEY, serde_json::to_vec(&average).expect("numbers are JSON"));
		}
	}

	/// Takes what a backend said at `now`, if it is believable.
	///
	/// # Errors
	/// Why it was not; the caller logs it.
	pub fn set(&self, estimates: &Estimates, now: Instant) -> Result<(), Refused> {
		let mut state = self.lock();
		if estimates.by_blocks.is_empty() {
			if !self.may_fall_back() {
				return Err(Refused::Empty);
			}
			if !state.fallback_announced {
				state.fallback_announced = true;
				tracing::info!(network = %self.network, "the backend has no fee estimates: 2 sat/vB is used on this test network");
			}
			let by_blocks = BTreeMap::from([(1, 2 * SAT_PER_VB), (144, SAT_PER_VB)]);
			let fallback = Estimates { by_blocks, mempool_minimum: estimates.mempool_minimum.min(ABSURD) };
			state.good = Some((Curve::new(&fallback), now));
			self.watch(&mut state, crate::driver::now());
			return Ok(());
		}
		let curve = Curve::new(estimates);
		let highest = curve.within(1);
		if estimates.by_blocks.values().any(|&rate| rate == 0) {
			return Err(Refused::Zero);
		}
		if highest > ABSURD {
			return Err(Refused::Absurd(highest));
		}
		if let Some((last, _)) = &state.good {
			let (from, to) = (last.within(NORMAL_BLOCKS), curve.within(NORMAL_BLOCKS));
			let confirmed = state.suspect.is_some_and(|suspect| !is_jump(suspect, to, 2));
			if is_jump(from, to, MAX_JUMP) && !confirmed {
				state.suspect = Some(to);
				return Err(Refused::Jump { from, to });
			}
		}
		state.suspect = None;
		state.good = Some((curve, now));
		self.watch(&mut state, crate::driver::now());
		Ok(())
	}

	/// The feerate in use for each of LDK's purposes, in satoshis per 1000 weight units.
	pub fn all(&self) -> Vec<(ConfirmationTarget, u32)> {
		use ConfirmationTarget::*;
		let targets = [
			MaximumFeeEstimate,
			UrgentOnChainSweep,
			MinAllowedAnchorChannelRemoteFee,
			MinAllowedNonAnchorChannelRemoteFee,
			AnchorChannelFee,
			NonAnchorChannelFee,
			ChannelCloseMinimum,
			OutputSpendingFee,
		];
		targets.into_iter().map(|target| (target, self.feerate(target))).collect()
	}

	/// How old the last good estimate is; `None` if there never was one.
	pub fn age(&self) -> Option<Duration> {
		self.age_at(Instant::now())
	}

	fn age_at(&self, now: Instant) -> Option<Duration> {
		self.lock().good.as_ref().map(|(_, at)| now.saturating_duration_since(*at))
	}

	/// The feerate of a transaction that should be mined in about six blocks, if the estimate is younger than
	/// [`MAX_AGE`]. `None`: sell nothing.
	pub fn fresh(&self) -> Option<FeePerKw> {
		self.fresh_at(Instant::now())
	}

	fn fresh_at(&self, now: Instant) -> Option<FeePerKw> {
		let state = self.lock();
		let (curve, at) = state.good.as_ref()?;
		(now.saturating_duration_since(*at) <= MAX_AGE).then(|| FeePerKw(curve.within(NORMAL_BLOCKS)))
	}

	/// The feerate for one of LDK's purposes, in satoshis per 1000 weight units, never below LDK's floor of 253.
	///
	/// Without a good estimate it is a conservative constant. The urgent one errs high, the more so when it is old: a
	/// claim that comes too late loses an HTLC.
	pub fn feerate(&self, target: ConfirmationTarget) -> u32 {
		self.feerate_at(target, Instant::now())
	}

	fn feerate_at(&self, target: ConfirmationTarget, now: Instant) -> u32 {
		let state = self.lock();
		let Some((curve, at)) = &state.good else {
			return fallback(target);
		};
		let stale = now.saturating_duration_since(*at) > MAX_AGE;
		from_curve(curve, target, stale).clamp(FEERATE_FLOOR_SATS_PER_KW, ABSURD)
	}

	/// Feerate of an ordinary transaction of our own (six blocks), also when the estimate is old.
	pub fn normal(&self) -> FeePerKw {
		let state = self.lock();
		FeePerKw(state.good.as_ref().map_or(NORMAL_FALLBACK, |(curve, _)| curve.within(NORMAL_BLOCKS)))
	}

	fn may_fall_back(&self) -> bool {
		matches!(self.network, Network::Regtest | Network::Signet)
	}

	fn lock(&self) -> MutexGuard<'_, State> {
		self.state.lock().expect("no code panics while it holds this lock")
	}
}

impl FeeEstimator for Fees {
	fn get_est_sat_per_1000_weight(&self, target: ConfirmationTarget) -> u32 {
		self.feerate(target)
	}
}

/// LDK's documentation of each target says which side to err on.
fn from_curve(curve: &Curve, target: ConfirmationTarget, stale: bool) -> u32 {
	use ConfirmationTarget as T;
	match target {
		// A sanity check of our peer's feerate: above any honest estimate.
		T::MaximumFeeEstimate => curve.within(1).saturating_mul(11) / 10 + 2_500,
		T::UrgentOnChainSweep => curve.within(3).saturating_mul(if stale { 2 } else { 1 }),
		// Too high a minimum closes channels: what a mempool takes is enough, an anchor bumps the rest.
		T::MinAllowedAnchorChannelRemoteFee => curve.minimum,
		T::AnchorChannelFee => curve.within(1008),
		// Estimators that round up to a whole sat/vB differ by up to 250.
		T::MinAllowedNonAnchorChannelRemoteFee => curve.within(144).saturating_sub(SAT_PER_VB),
		T::NonAnchorChannelFee => curve.within(12),
		T::ChannelCloseMinimum => curve.within(144),
		T::OutputSpendingFee => curve.within(12),
	}
}

const NORMAL_FALLBACK: u32 = 20 * SAT_PER_VB;

/// For a node that has never seen an estimate.
fn fallback(target: ConfirmationTarget) -> u32 {
	use ConfirmationTarget as T;
	match target {
		T::MaximumFeeEstimate => 200 * SAT_PER_VB,
		T::UrgentOnChainSweep => 60 * SAT_PER_VB,
		T::MinAllowedAnchorChannelRemoteFee | T::MinAllowedNonAnchorChannelRemoteFee => FEERATE_FLOOR_SATS_PER_KW,
		T::AnchorChannelFee => 2 * SAT_PER_VB,
		T::NonAnchorChannelFee => NORMAL_FALLBACK,
		T::ChannelCloseMinimum => 2 * SAT_PER_VB,
		T::OutputSpendingFee => 10 * SAT_PER_VB,
	}
}

fn is_jump(from: u32, to: u32, factor: u32) -> bool {
	let (low, high) = (from.min(to), from.max(to));
	high > HARMLESS && high > low.saturating_mul(factor)
}

#[cfg(test)]
mod tests {
	use super::*;

	fn estimates(quick: u32, normal: u32, slow: u32) -> Estimates {
		Estimates { by_blocks: BTreeMap::from([(1, quick), (6, normal), (144, slow)]), mempool_minimum: 253 }
	}

	const ALL: [ConfirmationTarget; 8] = [
		ConfirmationTarget::MaximumFeeEstimate,
		ConfirmationTarget::UrgentOnChainSweep,
		ConfirmationTarget::MinAllowedAnchorChannelRemoteFee,
		ConfirmationTarget::MinAllowedNonAnchorChannelRemoteFee,
		ConfirmationTarget::AnchorChannelFee,
		ConfirmationTarget::NonAnchorChannelFee,
		ConfirmationTarget::ChannelCloseMinimum,
		ConfirmationTarget::OutputSpendingFee,
	];

	#[test]
	fn r8_stale_estimates_stop_sales_but_claims_still_bump_higher() {
		let fees = Fees::new(Network::Bitcoin);
		let start = Instant::now();
		fees.set(&estimates(8_000, 5_000, 1_000), start).unwrap();
		assert_eq!(fees.fresh_at(start), Some(FeePerKw(5_000)));
		let next_day = start + Duration::from_secs(24 * 3600);
		assert_eq!(fees.fresh_at(next_day), None);
		assert_eq!(fees.feerate_at(ConfirmationTarget::UrgentOnChainSweep, start), 8_000);
		assert_eq!(fees.feerate_at(ConfirmationTarget::UrgentOnChainSweep, next_day), 16_000);
		assert_eq!(fees.age_at(next_day), Some(Duration::from_secs(24 * 3600)));
	}

	#[test]
	fn r8_absurd_and_zero_estimates_are_refused_and_the_last_kept() {
		let fees = Fees::new(Network::Bitcoin);
		let now = Instant::now();
		fees.set(&estimates(8_000, 5_000, 1_000), now).unwrap();
		assert_eq!(fees.set(&estimates(400_000, 5_000, 1_000), now), Err(Refused::Absurd(400_000)));
		assert_eq!(fees.set(&estimates(8_000, 0, 1_000), now), Err(Refused::Zero));
		assert_eq!(fees.set(&Estimates::default(), now), Err(Refused::Empty));
		assert_eq!(fees.fresh_at(now), Some(FeePerKw(5_000)));
	}

	#[test]
	fn r8_a_jump_is_believed_at_the_second_look() {
		let fees = Fees::new(Network::Bitcoin);
		let now = Instant::now();
		fees.set(&estimates(1_000, 1_000, 500), now).unwrap();
		assert_eq!(fees.set(&estimates(60_000, 50_000, 500), now), Err(Refused::Jump { from: 1_000, to: 50_000 }));
		assert_eq!(fees.fresh_at(now), Some(FeePerKw(1_000)));
		// A different jump does not confirm the first.
		assert_eq!(fees.set(&estimates(300_000, 300_000, 500), now), Err(Refused::Jump { from: 1_000, to: 300_000 }));
		fees.set(&estimates(260_000, 250_000, 500), now).unwrap();
		assert_eq!(fees.fresh_at(now), Some(FeePerKw(250_000)));
	}

	/// Two nodes' estimators differ, by far at times. On an anchor channel that must never be a reason to close.
	#[test]
	fn r8_a_peer_whose_estimates_differ_is_borne() {
		let fees = Fees::new(Network::Bitcoin);
		let spike = Estimates { mempool_minimum: 400, ..estimates(100_000, 60_000, 20_000) };
		fees.set(&spike, Instant::now()).unwrap();
		let (least, most) =
			(ConfirmationTarget::MinAllowedAnchorChannelRemoteFee, ConfirmationTarget::MaximumFeeEstimate);
		assert_eq!(fees.feerate(least), 400, "what a mempool takes will do, whatever the next block costs");
		assert!(fees.feerate(most) > 100_000);
		assert!(fees.feerate(ConfirmationTarget::AnchorChannelFee) <= 20_000, "an anchor adds what is missing");
	}

	#[test]
	fn every_target_has_an_answer_at_or_above_the_floor() {
		for network in [Network::Bitcoin, Network::Regtest] {
			let fees = Fees::new(network);
			for target in ALL {
				assert!(fees.feerate(target) >= 253, "{target:?} without any estimate");
			}
			fees.set(&estimates(1, 1, 1), Instant::now()).unwrap();
			for target in ALL {
				assert!(fees.feerate(target) >= 253, "{target:?} with tiny estimates");
			}
		}
	}

	#[test]
	fn test_networks_without_estimates_fall_back() {
		let fees = Fees::new(Network::Regtest);
		let now = Instant::now();
		fees.set(&Estimates::default(), now).unwrap();
		assert_eq!(fees.fresh_at(now), Some(FeePerKw(500)));
	}

	#[test]
	fn a_longer_wait_never_costs_more() {
		let fees = Fees::new(Network::Bitcoin);
		fees.set(&estimates(1_000, 2_000, 1_500), Instant::now()).unwrap();
		assert_eq!(fees.feerate(ConfirmationTarget::UrgentOnChainSweep), 2_000);
		assert_eq!(fees.feerate(ConfirmationTarget::ChannelCloseMinimum), 1_500);
	}

	#[tokio::test]
	async fn r7_the_long_run_survives_a_restart_and_the_last_hour_does_not() {
		let dir = tempfile::tempdir().unwrap();
		let open = || Store::open(&dir.path().join("store"), |e| panic!("{e}")).unwrap();
		let store = open();
		let fees = Fees::open(Network::Bitcoin, store.clone()).await.unwrap();
		assert_eq!(fees.market(), Market::default());
		fees.set(&estimates(8_000, 5_000, 1_000), Instant::now()).unwrap();
		let market = fees.market();
		assert_eq!(market.by_blocks, [(1, FeePerKw(8_000)), (6, FeePerKw(5_000)), (144, FeePerKw(1_000))]);
		assert_eq!((market.long_run, market.lately), (Some(FeePerKw(5_000)), Some((FeePerKw(5_000), FeePerKw(5_000)))));
		drop(fees);
		store.close().await;
		let fees = Fees::open(Network::Bitcoin, open()).await.unwrap();
		assert_eq!(fees.market(), Market { long_run: Some(FeePerKw(5_000)), ..Market::default() });
	}
}
