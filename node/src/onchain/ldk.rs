//! The wallet as LDK sees it: coins for bumping anchors and HTLCs, scripts for swept outputs.

use super::wallet::{Wallet, is_mature, tx_of};
use bdk_wallet::{LocalOutput, SignOptions};
use bitcoin::key::TweakedPublicKey;
use bitcoin::{OutPoint, Psbt, ScriptBuf, Transaction, Txid, XOnlyPublicKey};
use lightning::sign::ChangeDestinationSource;
use lightning::util::wallet_utils::{Utxo, WalletSource};
use std::collections::HashSet;
use std::future::Future;

impl WalletSource for Wallet {
	/// Confirmed coins that are unspent or spent by nothing but a fee bump in the mempool: the next bump of the same
	/// claim has to spend the same coin again, and LDK remembers which coin belongs to which claim.
	fn list_confirmed_utxos<'a>(&'a self) -> impl Future<Output = Result<Vec<Utxo>, ()>> + Send + 'a {
		let in_flight = self.broadcaster.in_flight();
		let bumps: HashSet<Txid> =
			in_flight.iter().filter(|(_, bump)| *bump).map(|(tx, _)| tx.compute_txid()).collect();
		let bdk = self.lock();
		let free = |output: &LocalOutput| !output.is_spent || only_bumps_spend(&bdk, output.outpoint, &bumps);
		let tip = bdk.latest_checkpoint().height();
		let confirmed = bdk.list_output().filter(|output| is_mature(&bdk, output, tip));
		let confirmed = confirmed.filter(|output| !self.is_held_for_splice(&output.outpoint));
		let coins = confirmed.filter(free).filter_map(|output| as_ldk(&output)).collect();
		async move { Ok(coins) }
	}

	fn get_prevtx<'a>(&'a self, outpoint: OutPoint) -> impl Future<Output = Result<Transaction, ()>> + Send + 'a {
		let found = tx_of(&self.lock(), outpoint.txid).map(|tx| tx.as_ref().clone());
		async move { found.ok_or(()) }
	}

	async fn get_change_script(&self) -> Result<ScriptBuf, ()> {
		self.persisted_script().await
	}

	fn sign_psbt<'a>(&'a self, psbt: Psbt) -> impl Future<Output = Result<Transaction, ()>> + Send + 'a {
		let signed = self.sign_ours(psbt);
		async move { signed }
	}
}

impl ChangeDestinationSource for Wallet {
	fn get_change_destination_script<'a>(&'a self) -> impl Future<Output = Result<ScriptBuf, ()>> + Send + 'a {
		self.persisted_script()
	}
}

impl Wallet {
	/// An address of our own whose use is on this disk.
	async fn persisted_script(&self) -> Result<ScriptBuf, ()> {
		let script = self.destination_script().map_err(|e| tracing::error!("{e}"))?;
		// Not the copy's: a claim must not wait for a backup target that is away.
		self.save_here().await;
		Ok(script)
	}

	/// Signs our inputs. The others (an anchor, HTLCs) are LDK's, so BDK's verdict "not final" means nothing here.
	pub(super) fn sign_ours(&self, mut psbt: Psbt) -> Result<Transaction, ()> {
		let bdk = self.lock();
		let ours: Vec<bool> = psbt.unsigned_tx.input.iter().map(|i| is_ours(&bdk, i.previous_output)).collect();
		let options = SignOptions { trust_witness_utxo: true, ..Default::default() };
		self.sign(&bdk, &mut psbt, options).map_err(|e| tracing::error!("signing for LDK failed: {e}"))?;
		let mut tx = psbt.unsigned_tx;
		for ((input, psbt_input), ours) in tx.input.iter_mut().zip(psbt.inputs).zip(ours) {
			input.witness = psbt_input.final_script_witness.unwrap_or_default();
			if ours && input.witness.is_empty() {
				tracing::error!(outpoint = %input.previous_output, "an input of ours could not be signed");
				return Err(());
			}
		}
		Ok(tx)
	}
}

fn is_ours(bdk: &bdk_wallet::Wallet, outpoint: OutPoint) -> bool {
	bdk.tx_graph().get_txout(outpoint).is_some_and(|output| bdk.is_mine(output.script_pubkey.clone()))
}

fn only_bumps_spend(bdk: &bdk_wallet::Wallet, outpoint: OutPoint, bumps: &HashSet<Txid>) -> bool {
	let spenders = bdk.tx_graph().outspends(outpoint).iter();
	let counted = spenders.filter_map(|txid| bdk.get_tx(*txid));
	counted.into_iter().all(|tx| !tx.chain_position.is_confirmed() && bumps.contains(&tx.tx_node.txid))
}

fn as_ldk(output: &LocalOutput) -> Option<Utxo> {
	let key = XOnlyPublicKey::from_slice(output.txout.script_pubkey.as_bytes().get(2..34)?).ok()?;
	let key = TweakedPublicKey::dangerous_assume_tweaked(key);
	Some(Utxo::new_v1_p2tr(output.outpoint, output.txout.value, key))
}
