//! Which coins a transaction spends: pure arithmetic over confirmed coins of our own taproot wallet.
//!
//! Fees round up. What must remain (`keep`) is counted over the coins left alone and the change together, and coins that
//! can stay out of it are left alone, so that confirmed ones remain for bumping anchors.

use bitcoin::{Amount, FeeRate, OutPoint, Script, Weight};
use inlet_lsp::money::Sat;
use std::collections::HashSet;

/// Satisfaction of a taproot key spend as LDK counts it: empty `script_sig` (4 weight units), count, length, signature.
pub(crate) const SATISFACTION_WEIGHT: u64 = 4 + 1 + 1 + 64;
/// Outpoint, sequence and satisfaction.
const INPUT_WEIGHT: u64 = (36 + 4) * 4 + SATISFACTION_WEIGHT;
/// Version, lock time, segwit marker and flag, two counts.
const BASE_WEIGHT: u64 = (4 + 4) * 4 + 2 + 4 + 4;
/// Value, length, `OP_1` and 32 bytes.
const CHANGE_WEIGHT: u64 = (8 + 1 + 34) * 4;
/// Dust limit of a taproot output, Bitcoin Core's default policy.
pub(crate) const CHANGE_DUST: Amount = Amount::from_sat(330);
/// Most inputs of one transaction: stays far below the standard weight, and within three bytes of the input count.
pub(crate) const MAX_INPUTS: usize = 250;

/// A confirmed coin that nothing else wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coin {
	pub outpoint: OutPoint,
	pub value: Amount,
}

/// How much the recipient gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
	/// This much; the fee comes on top.
	Exactly(Amount),
	/// This much, less the fee.
	LessFee(Amount),
	/// All but what must be kept.
	All,
}

/// What must stay in the wallet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stay {
	/// So much, whichever coins it is in.
	pub sats: Amount,
	/// Of that, for anchors: coins of the reserve's size are not spent, up to this much.
	pub reserve: Amount,
	/// What a channel needs, in a coin of its own; 0 if no coins are held.
	pub each: Amount,
}

impl From<Amount> for Stay {
	fn from(sats: Amount) -> Self {
		Stay { sats, ..Stay::default() }
	}
}

impl Stay {
	/// The coins that may be spent, and what is in the others.
	fn free(&self, coins: &[Coin]) -> (Vec<Coin>, Amount) {
		let values: Vec<Sat> = coins.iter().map(|coin| Sat(coin.value.to_sat())).collect();
		let cap = self.reserve.min(self.sats);
		let held: HashSet<usize> =
			inlet_lsp::coins::held(&values, Sat(self.each.to_sat()), Sat(cap.to_sat())).into_iter().collect();
		let free = coins.iter().enumerate().filter(|(index, _)| !held.contains(index)).map(|(_, coin)| *coin);
		let free: Vec<Coin> = free.collect();
		let out = less(sum(coins), sum(&free));
		(free, out)
	}
}

/// A transaction with one recipient, ready to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
	pub inputs: Vec<OutPoint>,
	pub amount: Amount,
	pub change: Option<Amount>,
	pub fee: Amount,
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlan {
	/// Amount and fee, what there is, and what must remain of it.
	Short { needed: Amount, available: Amount, reserved: Amount },
	/// The recipient would get less than the network relays.
	Dust { amount: Amount, limit: Amount },
}

/// Plans a transaction that pays `script` and leaves what must stay.
pub(crate) fn plan(
	coins: &[Coin],
	script: &Script,
	want: Want,
	rate: FeeRate,
	stay: impl Into<Stay>,
) -> Result<Plan, NoPlan> {
	let stay = stay.into();
	let (free, held) = stay.free(coins);
	let planned = plan_of(free, script, want, rate, less(stay.sats, held));
	planned.map_err(|no| counted(no, held))
}

/// Plans a transaction that pays these scripts `amount` together and leaves what must stay.
pub(crate) fn plan_for_all(
	coins: &[Coin],
	scripts: &[&Script],
	amount: Amount,
	rate: FeeRate,
	stay: impl Into<Stay>,
) -> Result<Plan, NoPlan> {
	let stay = stay.into();
	let (free, held) = stay.free(coins);
	let weight = scripts.iter().map(|script| output_weight(script)).sum();
	exactly(&largest(free), weight, amount, rate, less(stay.sats, held)).map_err(|no| counted(no, held))
}

/// As many as a transaction may have, largest first.
fn largest(mut coins: Vec<Coin>) -> Vec<Coin> {
	coins.sort_by(|a, b| b.value.cmp(&a.value).then(a.outpoint.cmp(&b.outpoint)));
	coins.truncate(MAX_INPUTS);
	coins
}

/// What is held is there, and has to remain.
fn counted(no: NoPlan, held: Amount) -> NoPlan {
	match no {
		NoPlan::Short { needed, available, reserved } => short(needed, plus(available, held), plus(reserved, held)),
		dust @ NoPlan::Dust { .. } => dust,
	}
}

fn plan_of(coins: Vec<Coin>, script: &Script, want: Want, rate: FeeRate, keep: Amount) -> Result<Plan, NoPlan> {
	let coins = largest(coins);
	let plan = match want {
		Want::Exactly(amount) => exactly(&coins, output_weight(script), amount, rate, keep)?,
		Want::LessFee(amount) => less_fee(&coins, script, amount, rate, keep)?,
		Want::All => all(&coins, script, rate, keep)?,
	};
	let limit = script.minimal_non_dust();
	if plan.amount < limit {
		return Err(NoPlan::Dust { amount: plan.amount, limit });
	}
	Ok(plan)
}

fn exactly(coins: &[Coin], outputs: u64, amount: Amount, rate: FeeRate, keep: Amount) -> Result<Plan, NoPlan> {
	let total = sum(coins);
	let cost = |inputs: usize| plus(amount, fee(inputs, outputs, true, rate));
	let picked: Vec<Coin> = match best_single(coins, total, cost(1), keep) {
		Some(coin) => vec![coin],
		None => largest_first(coins, &cost).ok_or_else(|| short(cost(coins.len().max(1)), total, keep))?,
	};
	let plan = close(&picked, outputs, amount, rate);
	if less(total, plus(plan.amount, plan.fee)) < keep {
		return Err(short(plus(plan.amount, plan.fee), total, keep));
	}
	Ok(plan)
}

/// The smallest coin that suffices alone, preferring those that leave `keep` in other coins.
fn best_single(largest_first: &[Coin], total: Amount, cost: Amount, keep: Amount) -> Option<Coin> {
	let enough = || largest_first.iter().rev().filter(move |coin| coin.value >= cost);
	enough().find(|coin| less(total, coin.value) >= keep).or_else(|| enough().next()).copied()
}

fn largest_first(coins: &[Coin], cost: &impl Fn(usize) -> Amount) -> Option<Vec<Coin>> {
	(1..=coins.len()).find(|&n| sum(&coins[..n]) >= cost(n)).map(|n| coins[..n].to_vec())
}

/// Adds change if it is worth having; else what is over goes to the miner.
fn close(picked: &[Coin], outputs: u64, amount: Amount, rate: FeeRate) -> Plan {
	let inputs: Vec<OutPoint> = picked.iter().map(|coin| coin.outpoint).collect();
	let total = sum(picked);
	let with_change = fee(picked.len(), outputs, true, rate);
	let change = less(total, plus(amount, with_change));
	if change >= CHANGE_DUST {
		Plan { inputs, amount, change: Some(change), fee: with_change }
	} else {
		Plan { inputs, amount, change: None, fee: less(total, amount) }
	}
}

fn less_fee(coins: &[Coin], script: &Script, amount: Amount, rate: FeeRate, keep: Amount) -> Result<Plan, NoPlan> {
	let total = sum(coins);
	if less(total, amount) < keep || total < amount {
		return Err(short(amount, total, keep));
	}
	let picked = match best_single(coins, total, amount, keep) {
		Some(coin) => vec![coin],
		None => largest_first(coins, &|_| amount).ok_or_else(|| short(amount, total, keep))?,
	};
	let change = Some(less(sum(&picked), amount)).filter(|change| *change >= CHANGE_DUST);
	let fee = fee(picked.len(), output_weight(script), change.is_some(), rate);
	let inputs = picked.iter().map(|coin| coin.outpoint).collect();
	let limit = script.minimal_non_dust();
	if amount < plus(fee, limit) {
		return Err(NoPlan::Dust { amount: less(amount, fee), limit });
	}
	let amount_paid = less(amount, fee);
	Ok(Plan {
		inputs,
		amount: amount_paid,
		change,
		fee: less(sum(&picked), plus(amount_paid, change.unwrap_or_default())),
	})
}

fn all(coins: &[Coin], script: &Script, rate: FeeRate, keep: Amount) -> Result<Plan, NoPlan> {
	let total = sum(coins);
	let change = (keep > Amount::ZERO).then(|| keep.max(CHANGE_DUST));
	let fee = fee(coins.len(), output_weight(script), change.is_some(), rate);
	let spent = plus(fee, change.unwrap_or_default());
	if coins.is_empty() || total <= spent {
		return Err(short(plus(fee, script.minimal_non_dust()), total, keep));
	}
	let inputs = coins.iter().map(|coin| coin.outpoint).collect();
	Ok(Plan { inputs, amount: less(total, spent), change, fee })
}

/// What is left of `total` when it comes back to us as `pieces` coins of `each` and one with the rest: `None` if that is dust. The
/// inputs are `inputs` coins; the fee is rounded up.
pub(crate) fn rearranged(inputs: usize, total: Amount, pieces: u64, each: Amount, rate: FeeRate) -> Option<Amount> {
	let weight = BASE_WEIGHT + inputs as u64 * INPUT_WEIGHT + pieces.saturating_add(1).saturating_mul(CHANGE_WEIGHT);
	let fee = rate.fee_wu(Weight::from_wu(weight))?;
	let rest = total.checked_sub(fee)?.checked_sub(each.checked_mul(pieces)?)?;
	(rest >= CHANGE_DUST).then_some(rest)
}

/// Value, length and script.
fn output_weight(script: &Script) -> u64 {
	(8 + 1 + script.len() as u64) * 4
}

/// What a transaction with outputs of this weight, besides the change, costs, rounded up.
fn fee(inputs: usize, outputs: u64, change: bool, rate: FeeRate) -> Amount {
	let weight = BASE_WEIGHT + inputs as u64 * INPUT_WEIGHT + outputs + if change { CHANGE_WEIGHT } else { 0 };
	rate.fee_wu(Weight::from_wu(weight)).unwrap_or(Amount::MAX_MONEY)
}

fn sum(coins: &[Coin]) -> Amount {
	coins.iter().fold(Amount::ZERO, |total, coin| plus(total, coin.value))
}

fn plus(a: Amount, b: Amount) -> Amount {
	a.checked_add(b).unwrap_or(Amount::MAX_MONEY)
}

fn less(a: Amount, b: Amount) -> Amount {
	a.checked_sub(b).unwrap_or(Amount::ZERO)
}

fn short(needed: Amount, available: Amount, reserved: Amount) -> NoPlan {
	NoPlan::Short { needed, available, reserved }
}

#[cfg(test)]
mod tests {
	use super::*;
	use bitcoin::{ScriptBuf, Txid, WScriptHash, hashes::Hash};

	fn coins(values: &[u64]) -> Vec<Coin> {
		let coin = |(vout, value): (usize, &u64)| Coin {
			outpoint: OutPoint { txid: Txid::all_zeros(), vout: vout as u32 },
			value: Amount::from_sat(*value),
		};
		values.iter().enumerate().map(coin).collect()
	}

	fn funding_script() -> ScriptBuf {
		ScriptBuf::new_p2wsh(&WScriptHash::all_zeros())
	}

	const RATE: FeeRate = FeeRate::from_sat_per_kwu(1_000);

	fn sats(sats: u64) -> Amount {
		Amount::from_sat(sats)
	}

	fn balanced(plan: &Plan, from: &[Coin]) -> bool {
		let spent: Amount =
			from.iter().filter(|coin| plan.inputs.contains(&coin.outpoint)).map(|coin| coin.value).sum();
		spent == plan.amount + plan.change.unwrap_or_default() + plan.fee
	}

	#[test]
	fn the_smallest_coin_that_suffices_is_spent() {
		let coins = coins(&[1_000_000, 60_000, 200_000]);
		let plan = plan(&coins, &funding_script(), Want::Exactly(sats(100_000)), RATE, Amount::ZERO).unwrap();
		assert_eq!(plan.inputs, [coins[2].outpoint]);
		assert!(balanced(&plan, &coins));
	}

	#[test]
	fn coins_that_cover_the_reserve_are_left_alone() {
		let coins = coins(&[300_000, 200_000]);
		let spend = |keep| plan(&coins, &funding_script(), Want::Exactly(sats(100_000)), RATE, keep).unwrap().inputs;
		assert_eq!(spend(sats(250_000)), [coins[1].outpoint]);
		// Only the change can make up this reserve.
		assert_eq!(spend(sats(350_000)), [coins[1].outpoint]);
	}

	#[test]
	fn the_reserve_is_never_touched() {
		let coins = coins(&[100_000, 100_000]);
		let script = funding_script();
		for amount in (10_000..200_000).step_by(7_919) {
			match plan(&coins, &script, Want::Exactly(sats(amount)), RATE, sats(50_000)) {
				Ok(plan) => {
					assert!(balanced(&plan, &coins));
					assert!(sats(200_000) - plan.amount - plan.fee >= sats(50_000), "{amount}");
				}
				Err(NoPlan::Short { needed, available, reserved }) => {
					assert_eq!((available, reserved), (sats(200_000), sats(50_000)));
					assert!(needed + reserved > available, "{amount}");
				}
				Err(other) => panic!("{amount}: {other:?}"),
			}
		}
	}

	#[test]
	fn r10_the_reserves_coins_are_not_spent_and_what_can_be_sold_is_the_same() {
		let all = coins(&[300_000, 11_000, 11_000, 12_000]);
		let stay = Stay { sats: sats(100_000), reserve: sats(33_000), each: sats(11_000) };
		for amount in (10_000..300_000).step_by(3_001) {
			let want = Want::Exactly(sats(amount));
			let held = plan(&all, &funding_script(), want, RATE, stay);
			if let Ok(plan) = &held {
				assert!(!plan.inputs.contains(&all[1].outpoint) && !plan.inputs.contains(&all[2].outpoint), "{amount}");
				assert!(balanced(plan, &all));
			}
			assert_eq!(held.is_ok(), plan(&all, &funding_script(), want, RATE, stay.sats).is_ok(), "{amount}");
		}
		let rest = plan(&all, &funding_script(), Want::All, RATE, stay).unwrap();
		assert!(!rest.inputs.contains(&all[1].outpoint) && !rest.inputs.contains(&all[2].outpoint));
	}

	#[test]
	fn a_rearrangement_keeps_all_but_its_fee() {
		let rest = rearranged(1, sats(100_000), 3, sats(11_000), RATE).unwrap();
		assert_eq!(rest, sats(100_000 - 33_000) - RATE.fee_wu(Weight::from_wu(42 + 230 + 4 * 172)).unwrap());
		assert_eq!(rearranged(1, sats(34_000), 3, sats(11_000), RATE), None, "the rest would be dust");
	}

	#[test]
	fn a_refund_bears_its_fee() {
		let coins = coins(&[80_000, 70_000]);
		let plan = plan(&coins, &funding_script(), Want::LessFee(sats(150_000)), RATE, Amount::ZERO).unwrap();
		assert_eq!(plan.inputs.len(), 2);
		assert_eq!(plan.amount + plan.fee, sats(150_000));
		assert_eq!(plan.change, None);
	}

	#[test]
	fn a_refund_smaller_than_its_fee_is_dust() {
		let coins = coins(&[80_000]);
		let refused = plan(&coins, &funding_script(), Want::LessFee(sats(600)), RATE, Amount::ZERO);
		assert!(matches!(refused, Err(NoPlan::Dust { .. })), "{refused:?}");
	}

	#[test]
	fn all_leaves_exactly_what_is_kept() {
		let coins = coins(&[80_000, 20_000]);
		let script = funding_script();
		let kept = plan(&coins, &script, Want::All, RATE, sats(30_000)).unwrap();
		assert_eq!(kept.change, Some(sats(30_000)));
		assert!(balanced(&kept, &coins));
		let nothing_kept = plan(&coins, &script, Want::All, RATE, Amount::ZERO).unwrap();
		assert_eq!(nothing_kept.change, None);
		assert!(balanced(&nothing_kept, &coins));
		assert!(plan(&coins, &script, Want::All, RATE, sats(99_900)).is_err());
	}
}
