//! Coins kept so that anchor channels can be closed at a high feerate, reckoned with LDK's own helper.
//!
//! Understating it loses HTLCs when several channels close at once (an empty wallet cannot bump); overstating it ties up
//! capital. So both the feerate and the expected number of HTLCs are the operator's.

use super::coins::Stay;
use super::wallet::Utxo;
use bitcoin::{Amount, FeeRate, ScriptBuf, Sequence, TxOut};
use inlet_lsp::policy::CapitalPolicy;
use lightning::util::anchor_channel_reserves::{
	AnchorChannelReserveContext, get_reserve_per_channel, get_supportable_anchor_channels,
};
use lightning::util::wallet_utils::Utxo as LdkUtxo;

/// For which weather the reserve is to suffice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservePolicy {
	/// Feerate at which a channel can still be closed out of its reserve.
	pub feerate: FeeRate,
	/// HTLCs in flight per channel at that moment (each of them needs a transaction).
	pub htlcs: u16,
}

impl ReservePolicy {
	/// What the operator set.
	pub fn of(capital: &CapitalPolicy) -> ReservePolicy {
		let feerate = FeeRate::from_sat_per_kwu(capital.stress_feerate_sat_per_vb.saturating_mul(250));
		ReservePolicy { feerate, htlcs: capital.stress_htlcs }
	}
}

impl Default for ReservePolicy {
	/// 10 sat/vB and one HTLC: about 11,000 sat a channel.
	fn default() -> Self {
		ReservePolicy { feerate: FeeRate::from_sat_per_kwu(2_500), htlcs: 1 }
	}
}

/// The reserve for a number of channels, and what the coins are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
	/// What one channel needs.
	pub per_channel: Amount,
	/// What all channels need: never to be spent on anything else.
	pub required: Amount,
	/// Channels counted.
	pub channels: u64,
	/// Channels that the coins can carry, each with coins of its own. Can be less than the sum of the coins would say:
	/// one large coin serves one channel at a time.
	pub carried: u64,
}

impl Reserve {
	/// Is there a reserve for one more channel?
	pub fn one_more(&self) -> bool {
		self.carried > self.channels
	}

	/// What a transaction must leave in the wallet: this reserve, in its coins where it has some, and `others`.
	pub fn and(&self, others: Amount) -> Stay {
		let sats = self.required.checked_add(others).unwrap_or(Amount::MAX_MONEY);
		Stay { sats, reserve: self.required, each: self.per_channel }
	}

	/// What must be left when one more channel has been opened.
	pub fn with_one_more(&self) -> Amount {
		self.required.checked_add(self.per_channel).unwrap_or(Amount::MAX_MONEY)
	}
}

/// What must be kept for `channels` anchor channels (all that have a monitor with a balance or are being opened), and
/// how many the confirmed coins among `utxos` can carry.
pub fn anchor_reserve(policy: ReservePolicy, channels: u64, utxos: &[Utxo]) -> Reserve {
	let context = AnchorChannelReserveContext {
		upper_bound_fee_rate: policy.feerate,
		expected_accepted_htlcs: policy.htlcs,
		taproot_wallet: true,
	};
	let coins: Vec<LdkUtxo> = utxos.iter().filter(|utxo| utxo.confirmations > 0).map(as_ldk).collect();
	// LDK rounds the fee for a coin up by itself when it looks whether that coin is enough: one satoshi more always is.
	let per_channel = get_reserve_per_channel(&context).checked_add(Amount::ONE_SAT).unwrap_or(Amount::MAX_MONEY);
	Reserve {
		per_channel,
		required: per_channel.checked_mul(channels).unwrap_or(Amount::MAX_MONEY),
		channels,
		carried: get_supportable_anchor_channels(&context, &coins),
	}
}

fn as_ldk(utxo: &Utxo) -> LdkUtxo {
	LdkUtxo {
		outpoint: utxo.outpoint,
		output: TxOut { value: utxo.value, script_pubkey: ScriptBuf::new() },
		satisfaction_weight: super::coins::SATISFACTION_WEIGHT,
		sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use bitcoin::{OutPoint, Txid, hashes::Hash};

	fn coin(value: Amount, confirmations: u32) -> Utxo {
		let outpoint = OutPoint { txid: Txid::all_zeros(), vout: 0 };
		Utxo { outpoint, value, confirmations, address: String::new() }
	}

	#[test]
	fn r10_each_channel_needs_a_coin_of_its_own() {
		let policy = ReservePolicy::default();
		let per_channel = anchor_reserve(policy, 0, &[]).per_channel;
		let one_large = anchor_reserve(policy, 1, &[coin(per_channel * 10, 3)]);
		assert_eq!((one_large.carried, one_large.one_more()), (1, false));
		let two = [coin(per_channel * 2, 1), coin(per_channel * 2, 1)];
		assert!(anchor_reserve(policy, 1, &two).one_more());
		assert_eq!(anchor_reserve(policy, 3, &two).required, per_channel * 3);
	}

	#[test]
	fn r10_a_coin_of_what_a_channel_needs_carries_one_whatever_the_feerate() {
		for rate in (250..50_000).step_by(83) {
			for htlcs in [0, 1, 3, 10] {
				let policy = ReservePolicy { feerate: FeeRate::from_sat_per_kwu(rate), htlcs };
				let each = anchor_reserve(policy, 0, &[]).per_channel;
				let found = anchor_reserve(policy, 5, &vec![coin(each, 1); 5]).carried;
				assert_eq!(found, 5, "{rate} sat/kw, {htlcs} HTLCs");
			}
		}
	}

	/// 200 channels at 100 sat/vB, and a wallet that begins with three large coins: the governor makes coins until LDK's own
	/// reckoning says that they carry all channels, while sales go on in between and leave them alone.
	#[test]
	fn r10_the_governor_makes_the_coins_of_two_hundred_channels_and_sales_leave_them_alone() {
		use crate::onchain::coins::{Want, plan, rearranged};
		use inlet_lsp::capital::Purse as Seen;
		use inlet_lsp::coins::{Next, next};
		use inlet_lsp::money::{FeePerKw, Sat};
		const CHANNELS: u64 = 200;
		let policy = ReservePolicy { feerate: FeeRate::from_sat_per_kwu(25_000), htlcs: 1 };
		let (kept, rate) = (anchor_reserve(policy, CHANNELS, &[]), FeeRate::from_sat_per_kwu(500));
		let mut purse = Purse(vec![(Amount::from_sat(20_000_000), 0); 3]);
		let capital = CapitalPolicy { coins_feerate_sat_per_vb: 3, ..CapitalPolicy::default() };
		let script = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros());
		let (mut sold, mut splits) = (0, 0);
		for block in 0..60 {
			let coins = purse.confirmed(block);
			let sat = |value: Amount| Sat(value.to_sat());
			let seen = Seen {
				coins: coins.iter().map(|coin| sat(coin.value)).collect(),
				pending: purse.0.iter().filter(|(_, from)| *from > block).map(|(value, _)| sat(*value)).collect(),
				anchors: sat(kept.required),
				per_channel: sat(kept.per_channel),
				channels: CHANNELS,
				feerate: Some(FeePerKw(500)),
				..Seen::default()
			};
			if let Next::Split { from, pieces } = next(&capital, &seen, Sat::ZERO) {
				let rest = rearranged(1, coins[from].value, pieces, kept.per_channel, rate).unwrap();
				purse.spend(&[coins[from].outpoint], Some(rest), block);
				purse.0.extend((0..pieces).map(|_| (kept.per_channel, block + 1)));
				splits += 1;
				continue;
			}
			let want = Want::Exactly(Amount::from_sat(700_000));
			let Ok(plan) = plan(&coins, &script, want, rate, kept.and(Amount::ZERO)) else { continue };
			purse.spend(&plan.inputs, plan.change, block);
			sold += 1;
		}
		assert!(splits >= 5 && sold > 10, "{splits} splits, {sold} sold");
		let carried = anchor_reserve(policy, CHANNELS, &purse.utxos(60)).carried;
		assert!(carried >= CHANNELS, "coins for {carried} channels");
	}

	#[test]
	fn r10_unconfirmed_coins_carry_nothing() {
		let policy = ReservePolicy::default();
		let rich = Amount::from_sat(10_000_000);
		assert_eq!(anchor_reserve(policy, 0, &[coin(rich, 0)]).carried, 0);
	}

	/// A coin that can be spent from this block on.
	struct Purse(Vec<(Amount, u32)>);

	impl Purse {
		fn confirmed(&self, block: u32) -> Vec<crate::onchain::coins::Coin> {
			let ready = self.0.iter().enumerate().filter(|(_, (_, from))| *from <= block);
			let coin = |(vout, (value, _)): (usize, &(Amount, u32))| crate::onchain::coins::Coin {
				outpoint: OutPoint { txid: Txid::all_zeros(), vout: vout as u32 },
				value: *value,
			};
			ready.map(coin).collect()
		}

		fn spend(&mut self, inputs: &[OutPoint], change: Option<Amount>, block: u32) {
			let spent: Vec<usize> = inputs.iter().map(|input| input.vout as usize).collect();
			let mut at = 0;
			self.0.retain(|_| {
				at += 1;
				!spent.contains(&(at - 1))
			});
			self.0.extend(change.map(|change| (change, block + 1)));
		}

		fn utxos(&self, block: u32) -> Vec<Utxo> {
			self.confirmed(block).iter().map(|found| coin(found.value, 1)).collect()
		}
	}

	/// Channels are sold until the wallet refuses: the satoshis that 200 channels need at 100 sat/vB are still there.
	#[test]
	fn r10_sales_leave_the_satoshis_that_two_hundred_channels_need() {
		use crate::onchain::coins::{Want, plan};
		const CHANNELS: u64 = 200;
		let rate = FeeRate::from_sat_per_kwu(25_000);
		let policy = ReservePolicy { feerate: rate, htlcs: 1 };
		let kept = anchor_reserve(policy, CHANNELS, &[]);
		let one = kept.per_channel + kept.per_channel / 10;
		let mut purse = Purse(vec![(one, 0); CHANNELS as usize]);
		purse.0.extend([(Amount::from_sat(5_000_000), 0); 3]);
		let script = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros());
		let mut sold = 0;
		for block in 0..100 {
			let (coins, want) = (purse.confirmed(block), Want::Exactly(Amount::from_sat(700_000)));
			let Ok(plan) = plan(&coins, &script, want, FeeRate::from_sat_per_kwu(2_500), kept.required) else { break };
			purse.spend(&plan.inputs, plan.change, block);
			sold += 1;
		}
		assert!(sold > 15, "{sold} channels were sold from what is not kept");
		let left: Amount = purse.0.iter().map(|(value, _)| *value).sum();
		assert!(left >= kept.required, "{left} of {}", kept.required);
	}

	/// 200 channels with an HTLC each are forced in the same block at 100 sat/vB: a coin for each, as large as LDK reckons, pays
	/// every commitment and every HTLC claim in time.
	#[test]
	fn r10_two_hundred_channels_forced_at_once_are_all_paid_for() {
		const CHANNELS: u64 = 200;
		let policy = ReservePolicy { feerate: FeeRate::from_sat_per_kwu(25_000), htlcs: 1 };
		let one = anchor_reserve(policy, CHANNELS, &[]).per_channel;
		let mut purse = Purse(vec![(one + one / 10, 0); CHANNELS as usize]);
		assert!(anchor_reserve(policy, CHANNELS, &purse.utxos(200)).carried >= CHANNELS);
		// BOLT 3: a commitment with an HTLC and the child of its anchor; an HTLC's second stage; and a coin and change in each.
		let (commitment, claim) =
			(Amount::from_sat((1_124 + 172 + 280 + 450) * 25), Amount::from_sat((706 + 450) * 25));
		let expires = 200 + 18;
		let (mut to_bump, mut to_claim, mut done) = (CHANNELS, 0, 0);
		for block in 200..expires {
			let mut mined = 0;
			for fee in vec![claim; to_claim as usize].into_iter().chain(vec![commitment; to_bump as usize]) {
				let coins = purse.confirmed(block);
				let enough = |found: &&crate::onchain::coins::Coin| found.value >= fee + Amount::from_sat(330);
				let Some(found) = coins.iter().filter(enough).min_by_key(|found| found.value) else { continue };
				purse.spend(&[found.outpoint], Some(found.value - fee), block);
				if fee == claim {
					(to_claim, done) = (to_claim - 1, done + 1);
				} else {
					(to_bump, mined) = (to_bump - 1, mined + 1);
				}
			}
			to_claim += mined;
		}
		assert_eq!((to_bump, to_claim, done), (0, 0, CHANNELS), "every HTLC is claimed before it expires");
	}
}
