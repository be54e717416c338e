//! The money of channels whose state is lost, or must not be used because it may be old.
//!
//! The node runs without these channels. A peer that speaks of one is answered with an error and with what LDK takes from a node
//! that lost its data (a `channel_reestablish` of nothing), and closes it with its own, valid commitment. What that pays us goes to
//! one of [`STATIC_PAYMENT_KEY_COUNT`](lightning::sign::STATIC_PAYMENT_KEY_COUNT) keys that come from the seed alone. They are
//! looked for here, and handed to LDK's sweeper. Nothing old is ever broadcast, because there is nothing.

use super::Lightning;
use super::keys::Keys;
use crate::onchain::{Finder, Found, Tip};
use crate::stop::stopped;
use bitcoin::Network;
use bitcoin::secp256k1::Secp256k1;
use lightning::chain::transaction::OutPoint;
use lightning::ln::chan_utils::ChannelTransactionParameters;
use lightning::sign::{ChannelSigner, SignerProvider, SpendableOutputDescriptor, StaticPaymentOutputDescriptor};
use lightning::types::features::ChannelTypeFeatures;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often the chain is looked through: it is much work for the backend, and a close is days away at worst.
const BETWEEN_LOOKS: Duration = Duration::from_secs(30 * 60);
/// Channel key ids that are tried until one has the key that an output pays: each fits with 1 in 1000, so that this fails with
/// 1 in 400 million.
const MAX_TRIES: u64 = 20_000;

impl Keys {
	/// What it takes to spend an output that a peer's close paid us; `None` if it is none of ours.
	fn spend_of(&self, found: &Found) -> Option<SpendableOutputDescriptor> {
		let secp = Secp256k1::new();
		let mut anchors = ChannelTypeFeatures::only_static_remote_key();
		anchors.set_anchors_zero_fee_htlc_tx_required();
		let script = &found.output.script_pubkey;
		// A channel's key id decides which of the keys it pays to; which id that was is lost, and any other with this key will do.
		for n in 0..MAX_TRIES {
			let mut channel_keys_id = [0; 32];
			channel_keys_id[24..].copy_from_slice(&n.to_be_bytes());
			let holder_pubkeys = self.derive_channel_signer(channel_keys_id).pubkeys(&secp);
			let point = holder_pubkeys.payment_point;
			let keyed = lightning::ln::chan_utils::get_to_countersigner_keyed_anchor_redeemscript(&point).to_p2wsh();
			let plain = bitcoin::ScriptBuf::new_p2wpkh(&bitcoin::CompressedPublicKey(point).wpubkey_hash());
			let channel_type_features = match script {
				script if *script == keyed => anchors.clone(),
				script if *script == plain => ChannelTypeFeatures::only_static_remote_key(),
				_ => continue,
			};
			// Of the channel nobody knows more than this output; no more goes into spending it.
			let channel_value_satoshis = found.output.value.to_sat();
			let parameters = ChannelTransactionParameters {
				holder_pubkeys,
				holder_selected_contest_delay: 0,
				is_outbound_from_holder: false,
				counterparty_parameters: None,
				funding_outpoint: None,
				splice_parent_funding_txid: None,
				channel_type_features,
				channel_value_satoshis,
			};
			let index = u16::try_from(found.outpoint.vout).ok()?;
			return Some(SpendableOutputDescriptor::StaticPaymentOutput(StaticPaymentOutputDescriptor {
				outpoint: OutPoint { txid: found.outpoint.txid, index },
				output: found.output.clone(),
				channel_keys_id,
				channel_value_satoshis,
				channel_transaction_parameters: Some(parameters),
			}));
		}
		None
	}
}

impl Lightning {
	/// Looks for what closed channels paid, and has it swept, until `stop`.
	pub async fn recover(
		self: Arc<Self>,
		finder: Finder,
		network: Network,
		mut tip: watch::Receiver<Tip>,
		mut stop: watch::Receiver<bool>,
	) {
		let mut looked: Option<(Instant, u32)> = None;
		loop {
			let height = tip.borrow_and_update().height;
			// A private network has blocks when somebody makes them, and few outputs.
			let often = network == Network::Regtest;
			let due = looked.is_none_or(|(at, seen)| seen != height && (often || at.elapsed() >= BETWEEN_LOOKS));
			if due {
				looked = Some((Instant::now(), height));
				let look = self.clone().look_for_closed(&finder);
				let done = tokio::select! {
					() = stopped(&mut stop) => return,
					done = look => done,
				};
				match done {
					Ok(found) => tracing::info!(target: "inlet", height, found, "looked for what closed channels paid"),
					Err(e) => {
						tracing::warn!(target: "inlet", "what closed channels paid cannot be looked for now: {e:#}");
						looked = None;
					}
				}
			}
			tokio::select! {
				() = stopped(&mut stop) => return,
				changed = tip.changed() => if changed.is_err() { return },
			}
		}
	}

	async fn look_for_closed(self: Arc<Self>, finder: &Finder) -> anyhow::Result<usize> {
		let lightning = self.clone();
		let scripts = tokio::task::spawn_blocking(move || lightning.keys.closed_balance_scripts()).await?;
		let found = finder.unspent(&scripts).await?;
		let count = found.len();
		let known: Vec<_> = self.sweeper.tracked_spendable_outputs();
		for one in found {
			let is_known =
				known.iter().any(|known| known.descriptor.spendable_outpoint().into_bitcoin_outpoint() == one.outpoint);
			if is_known {
				continue;
			}
			let (lightning, output) = (self.clone(), one.clone());
			let spend = tokio::task::spawn_blocking(move || lightning.keys.spend_of(&output)).await?;
			let Some(spend) = spend else {
				tracing::error!(target: "inlet", outpoint = %one.outpoint, "an output of ours whose key is not found");
				continue;
			};
			tracing::info!(target: "inlet", outpoint = %one.outpoint, value = %one.output.value, "found, and to be swept");
			let tracked = self.sweeper.track_spendable_outputs(vec![spend], None, None, false, None).await;
			tracked.map_err(|()| anyhow::anyhow!("the sweeper did not take an output"))?;
		}
		Ok(count)
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::onchain::testing::Bench;
	use bitcoin::{Amount, TxOut};

	/// Each script of the seed's can be spent, whatever channel it was.
	#[tokio::test]
	async fn what_a_close_pays_is_found_by_the_seed_alone() {
		let bench = Bench::new().await;
		let keys = Keys::new(&[7; 32], bench.wallet.clone());
		let other = Keys::new(&[8; 32], bench.wallet.clone());
		let scripts = keys.closed_balance_scripts();
		assert_eq!(scripts.len(), 2_000);
		for script in [&scripts[0], &scripts[1], &scripts[998], &scripts[1_999]] {
			let found = Found {
				outpoint: bitcoin::OutPoint::null(),
				output: TxOut { value: Amount::from_sat(50_000), script_pubkey: script.clone() },
				height: 1,
			};
			let found = Found { outpoint: bitcoin::OutPoint { vout: 1, ..found.outpoint }, ..found };
			let spend = keys.spend_of(&found).unwrap();
			let to = bench.wallet.destination_script().unwrap();
			let sweep = lightning::sign::OutputSpender::spend_spendable_outputs(
				&keys,
				&[&spend],
				Vec::new(),
				to,
				253,
				None,
				&Secp256k1::new(),
			);
			assert!(!sweep.unwrap().input[0].witness.is_empty());
		}
		assert!(!other.closed_balance_scripts().contains(&scripts[0]));
	}
}
