//! Coins kept so that anchor channels can be closed at a high feerate, reckoned with LDK's own helper.
//!
//! Understating it loses HTLCs when several channels close at once (an empty wallet cannot bump); overstating it ties up
//! capital. So both the feerate and the expected number of HTLCs are the operator's.

use super::wallet::Utxo;
use bitcoin::{Amount, FeeRate, ScriptBuf, Sequence, TxOut};
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
	let per_channel = get_reserve_per_channel(&context);
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
	fn r10_unconfirmed_coins_carry_nothing() {
		let policy = ReservePolicy::default();
		let rich = Amount::from_sat(10_000_000);
		assert_eq!(anchor_reserve(policy, 0, &[coin(rich, 0)]).carried, 0);
	}
}
