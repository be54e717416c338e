//! The coins of the anchor reserve. A forced close is paid for with a confirmed coin of its own: satoshis that lie in one large
//! coin bump one channel at a time. So some coins are kept out of sales, and when fees are low they are made.
//!
//! `lsp/docs/decisions/0005-reserve-coins.md` says why it is done like this.

use crate::capital::Purse;
use crate::money::{FeePerKw, Sat};
use crate::policy::CapitalPolicy;

/// A coin is the reserve's if it is worth from one channel's need to this often as much: a larger one is for sales.
const REACH: u64 = 2;
/// Most coins that one split makes.
pub const MAX_PIECES: u64 = 50;
/// Most coins that one merge spends.
pub const MAX_MERGED: usize = 100;
/// Fewer coins are not worth a merge.
const MIN_MERGED: usize = 10;

/// A transaction of our taproot wallet, in weight units: version, lock time, marker, counts; an input; an output.
const BASE: u64 = 42;
const INPUT: u64 = 230;
const OUTPUT: u64 = 172;

/// Which of these coins no sale may spend, the smallest first: each worth what a channel needs (`each`), together no more than
/// `cap`. As `cap` is kept from sales in satoshis anyhow, what can be sold is the same with them and without.
pub fn held(coins: &[Sat], each: Sat, cap: Sat) -> Vec<usize> {
	let mut own: Vec<usize> =
		(0..coins.len()).filter(|index| coins.get(*index).is_some_and(|c| fits(*c, each))).collect();
	own.sort_by_key(|index| (coins.get(*index).copied(), *index));
	let mut left = cap;
	let mut held = Vec::new();
	for index in own {
		let Some(rest) = coins.get(index).and_then(|coin| left.0.checked_sub(coin.0)) else { break };
		left = Sat(rest);
		held.push(index);
	}
	held
}

fn fits(coin: Sat, each: Sat) -> bool {
	each > Sat::ZERO && coin >= each && coin.0 <= each.0.saturating_mul(REACH)
}

/// How the reserve stands for coins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
	/// Confirmed coins of the reserve's size.
	pub there: u64,
	/// Such coins that are not confirmed.
	pub coming: u64,
	/// One for each channel that could be forced, and for the channels that are sold next.
	pub wanted: u64,
	/// `wanted` less the others.
	pub missing: u64,
}

/// What the wallet is to do about its coins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
	/// Nothing, because of this.
	Rest(&'static str),
	/// Make so many coins of [`Purse::per_channel`] from the confirmed coin at this index; what is over comes back as one.
	Split {
		/// Index in [`Purse::coins`].
		from: usize,
		/// How many.
		pieces: u64,
	},
	/// Make one coin of the confirmed coins at these indices.
	Merge {
		/// Indices in [`Purse::coins`].
		of: Vec<usize>,
	},
}

/// How many coins there are and should be.
pub fn counts(policy: &CapitalPolicy, purse: &Purse) -> Counts {
	let count = |coins: &[Sat]| {
		u64::try_from(coins.iter().filter(|coin| fits(**coin, purse.per_channel)).count()).unwrap_or(u64::MAX)
	};
	let (there, coming) = (count(&purse.coins), count(&purse.pending));
	let wanted = purse.channels.saturating_add(u64::from(policy.spare_coins).max(1));
	Counts { there, coming, wanted, missing: wanted.saturating_sub(there).saturating_sub(coming) }
}

/// What to do next: `reserved` is what the book has promised. What is decided shows in the wallet at once (the coins are spent,
/// the new ones pending), so that asking again, after a restart too, does it no second time.
pub fn next(policy: &CapitalPolicy, purse: &Purse, reserved: Sat) -> Next {
	if policy.coins_feerate_sat_per_vb == 0 {
		return Next::Rest("switched off");
	}
	let Some(rate) = purse.feerate else { return Next::Rest("no feerate") };
	let counts = counts(policy, purse);
	// One split serves the next `spare_coins` sales: not every new channel causes one.
	let short = counts.there.saturating_add(counts.coming) <= purse.channels;
	let merge = mergeable(purse, rate, counts.wanted);
	if !short && merge.len() < MIN_MERGED {
		return Next::Rest("enough coins");
	}
	if rate.to_sat_per_vb_ceil() > policy.coins_feerate_sat_per_vb {
		return Next::Rest("fees");
	}
	if purse.bumping {
		return Next::Rest("a close is being paid for");
	}
	let promises =
		Promises { total: sum(&purse.coins), kept: purse.anchors.saturating_add(purse.per_channel), reserved };
	if short {
		match split(purse, rate, counts.missing, &promises) {
			Some(split) => return split,
			None if merge.len() < MIN_MERGED => return Next::Rest("no coin that can be spared"),
			None => {}
		}
	}
	let out = merge.iter().filter_map(|index| purse.coins.get(*index)).fold(Sat::ZERO, |sum, c| sum.saturating_add(*c));
	match promises.spare(out) {
		true => Next::Merge { of: merge },
		false => Next::Rest("coins are promised"),
	}
}

/// What coins are wanted for while others are on their way through a block.
struct Promises {
	total: Sat,
	kept: Sat,
	reserved: Sat,
}

impl Promises {
	/// Can this much be away until the next block? Not if something is promised and the rest does not do for it.
	fn spare(&self, out: Sat) -> bool {
		self.reserved == Sat::ZERO || self.total.saturating_sub(out) >= self.kept.saturating_add(self.reserved)
	}
}

/// From the smallest coin that makes all, so that large ones stay for sales, or else the one that makes most.
fn split(purse: &Purse, rate: FeePerKw, missing: u64, promises: &Promises) -> Option<Next> {
	let each = purse.per_channel;
	let pieces = |coin: Sat| {
		let after = coin.saturating_sub(rate.cost_ceil(BASE.saturating_add(INPUT).saturating_add(OUTPUT)));
		let piece = each.saturating_add(rate.cost_ceil(OUTPUT));
		after.0.checked_div(piece.0).unwrap_or(0).min(missing).min(MAX_PIECES)
	};
	let large = |coin: Sat| coin.0 > each.0.saturating_mul(REACH) && promises.spare(coin);
	let found = purse.coins.iter().enumerate().filter(|(_, coin)| large(**coin));
	let best = found.min_by_key(|(_, coin)| (std::cmp::Reverse(pieces(**coin)), **coin))?;
	let pieces = pieces(*best.1);
	(pieces > 0).then_some(Next::Split { from: best.0, pieces })
}

/// Coins too small for the reserve, yet worth spending, and such of the reserve's size as are far too many; at most
/// [`MAX_MERGED`].
fn mergeable(purse: &Purse, rate: FeePerKw, wanted: u64) -> Vec<usize> {
	let worth = rate.cost_ceil(INPUT.saturating_mul(2));
	let crumb = |coin: Sat| coin < purse.per_channel && coin > worth;
	let crumbs = purse.coins.iter().enumerate().filter(|(_, coin)| crumb(**coin)).map(|(index, _)| index);
	let enough = usize::try_from(wanted.saturating_mul(2)).unwrap_or(usize::MAX);
	let surplus = held(&purse.coins, purse.per_channel, Sat(u64::MAX)).into_iter().skip(enough);
	crumbs.chain(surplus).take(MAX_MERGED).collect()
}

fn sum(coins: &[Sat]) -> Sat {
	coins.iter().copied().fold(Sat::ZERO, Sat::saturating_add)
}

#[cfg(test)]
mod tests {
	use super::*;

	const EACH: Sat = Sat(11_000);
	const LOW: FeePerKw = FeePerKw(250);

	fn purse(coins: &[u64], channels: u64) -> Purse {
		Purse {
			coins: coins.iter().copied().map(Sat).collect(),
			per_channel: EACH,
			anchors: Sat(EACH.0 * channels),
			channels,
			feerate: Some(LOW),
			..Purse::default()
		}
	}

	fn ask(purse: &Purse, reserved: u64) -> Next {
		let policy = CapitalPolicy { coins_feerate_sat_per_vb: 3, ..CapitalPolicy::default() };
		next(&policy, purse, Sat(reserved))
	}

	#[test]
	fn r10_the_reserves_coins_are_held_up_to_the_satoshis_that_are_kept_anyhow() {
		let coins = [5_000_000, 11_000, 22_001, 10_999, 22_000, 11_000].map(Sat);
		assert_eq!(held(&coins, EACH, Sat(33_000)), [1, 5], "a third would be more than is kept");
		assert_eq!(held(&coins, EACH, Sat(44_000)), [1, 5, 4]);
		assert_eq!(held(&coins, EACH, Sat(10_999)), [0; 0]);
		assert_eq!(held(&coins, Sat::ZERO, Sat(1_000_000)), [0; 0], "nothing is needed");
	}

	#[test]
	fn r10_what_is_missing_is_split_from_the_smallest_coin_that_makes_it() {
		assert_eq!(ask(&purse(&[9_000_000, 500_000, 40_000], 3), 0), Next::Split { from: 1, pieces: 7 });
		// Nothing makes all: what makes most.
		assert_eq!(ask(&purse(&[40_000, 60_000], 10), 0), Next::Split { from: 1, pieces: 5 });
		assert_eq!(ask(&purse(&[90_000_000], 400), 0), Next::Split { from: 0, pieces: MAX_PIECES });
		assert_eq!(ask(&purse(&[9_000], 1), 0), Next::Rest("no coin that can be spared"));
	}

	#[test]
	fn r10_a_split_that_is_decided_is_not_decided_again() {
		let mut purse = purse(&[9_000_000, 500_000], 3);
		let Next::Split { from, pieces } = ask(&purse, 0) else { panic!("nothing to split") };
		purse.coins.remove(from);
		purse.pending = vec![EACH; pieces as usize];
		assert_eq!(ask(&purse, 0), Next::Rest("enough coins"), "they are on their way");
		purse.coins.append(&mut purse.pending);
		assert_eq!(ask(&purse, 0), Next::Rest("enough coins"));
		purse.channels += 3;
		assert_eq!(ask(&purse, 0), Next::Rest("enough coins"), "the spare ones serve the next sales");
		purse.channels += 1;
		assert_eq!(ask(&purse, 0), Next::Split { from: 0, pieces: 4 });
	}

	#[test]
	fn r10_no_split_at_a_high_fee_while_a_close_is_bumped_or_when_switched_off() {
		let poor = purse(&[9_000_000], 3);
		assert_eq!(ask(&Purse { feerate: Some(FeePerKw(1_000)), ..poor.clone() }, 0), Next::Rest("fees"));
		assert_eq!(ask(&Purse { feerate: None, ..poor.clone() }, 0), Next::Rest("no feerate"));
		assert_eq!(ask(&Purse { bumping: true, ..poor.clone() }, 0), Next::Rest("a close is being paid for"));
		let off = CapitalPolicy { coins_feerate_sat_per_vb: 0, ..CapitalPolicy::default() };
		assert_eq!(next(&off, &poor, Sat::ZERO), Next::Rest("switched off"));
	}

	#[test]
	fn r10_what_is_promised_is_never_away_for_a_block() {
		assert_eq!(ask(&purse(&[9_000_000], 3), 100_000), Next::Rest("no coin that can be spared"));
		assert_eq!(ask(&purse(&[9_000_000, 500_000], 3), 100_000), Next::Split { from: 1, pieces: 7 });
		assert_eq!(ask(&purse(&[9_000_000, 143_999], 3), 100_000), Next::Split { from: 1, pieces: 7 });
		// The smaller one alone would not do for the promise and the anchors: it is the larger one that must stay.
		assert_eq!(ask(&purse(&[400_000, 300_000], 3), 300_000), Next::Split { from: 1, pieces: 7 });
		assert_eq!(ask(&purse(&[400_000, 300_000], 3), 400_000), Next::Rest("no coin that can be spared"));
	}

	#[test]
	fn r10_crumbs_become_one_coin_when_there_are_enough_of_them_and_they_are_worth_it() {
		let mut coins = vec![5_000_000];
		coins.extend([11_000; 5]);
		coins.extend([4_000; 9]);
		coins.extend([100; 30]);
		assert_eq!(ask(&purse(&coins, 1), 0), Next::Rest("enough coins"), "nine are not worth a transaction");
		coins.push(4_000);
		let Next::Merge { of } = ask(&purse(&coins, 1), 0) else { panic!("nothing to merge") };
		assert!(of.len() == 10 && of.iter().all(|index| coins[*index] == 4_000), "dust stays: {of:?}");
		assert_eq!(ask(&purse(&coins, 1), 5_036_001), Next::Rest("coins are promised"));
		coins.extend([4_000; 500]);
		assert!(matches!(ask(&purse(&coins, 1), 0), Next::Merge { of } if of.len() == MAX_MERGED));
	}

	#[test]
	fn r10_coins_that_closed_channels_no_longer_need_come_back_to_sales() {
		let coins = [11_000; 30];
		assert_eq!(ask(&purse(&coins, 12), 0), Next::Rest("enough coins"), "32 are not yet too many");
		let Next::Merge { of } = ask(&purse(&coins, 2), 0) else { panic!("nothing to merge") };
		assert_eq!(of.len(), 30 - 12, "twice what is wanted stays");
	}
}
