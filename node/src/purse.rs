//! The wallet as `inlet_lsp::capital` sees it, and the task that keeps the coins of the anchor reserve: it asks
//! `inlet_lsp::coins` once a block what is to be done.

use crate::crash;
use crate::hands::Hands;
use crate::onchain::{Utxo, WalletError, anchor_reserve};
use crate::stop::stopped;
use bitcoin::{Amount, FeeRate, OutPoint, Transaction};
use inlet_lsp::capital::Purse;
use inlet_lsp::coins::{Next, next};
use inlet_lsp::money::Sat;
use inlet_lsp::policy::CapitalPolicy;
use std::sync::Arc;
use tokio::sync::watch;

impl Hands {
	/// The wallet's coins, and which outpoints [`Purse::coins`] are.
	pub(crate) fn purse(&self) -> (Purse, Vec<OutPoint>) {
		let mut utxos = self.wallet.utxos();
		utxos.retain(|utxo| !self.wallet.is_held_for_splice(&utxo.outpoint));
		let kept = self.lightning.anchor_reserve();
		let carried = anchor_reserve(self.lightning.reserve, kept.channels, &utxos).carried;
		let sat = |utxo: &Utxo| Sat(utxo.value.to_sat());
		let (confirmed, pending): (Vec<Utxo>, Vec<Utxo>) = utxos.into_iter().partition(|utxo| utxo.confirmations > 0);
		let pending: Vec<Sat> = pending.iter().map(sat).collect();
		let purse = Purse {
			coins: confirmed.iter().map(sat).collect(),
			unconfirmed: pending.iter().copied().fold(Sat::ZERO, Sat::saturating_add),
			pending,
			bumping: self.wallet.is_bumping(),
			anchors: Sat(kept.required.to_sat()),
			per_channel: Sat(kept.per_channel.to_sat()),
			channels: kept.channels,
			carried,
			feerate: self.fees.fresh(),
		};
		(purse, confirmed.iter().map(|utxo| utxo.outpoint).collect())
	}

	/// Does what the coins of the reserve need now, if anything. The book stands still meanwhile, so that nothing is promised out of a
	/// coin that is being split.
	fn arrange(&self, policy: &CapitalPolicy) -> Result<Option<Transaction>, WalletError> {
		let driver = self.driver.get().expect("set before the engine runs");
		driver.read(|book| {
			let (purse, outpoints) = self.purse();
			let reserved = Sat(self.channels.reserved_for_others(book, &[]).to_sat());
			let Some(feerate) = purse.feerate else { return Ok(None) };
			let rate = FeeRate::from_sat_per_kwu(u64::from(feerate.0));
			let (of, pieces) = match next(policy, &purse, reserved) {
				Next::Rest(_) => return Ok(None),
				Next::Split { from, pieces } => (vec![from], pieces),
				Next::Merge { of } => (of, 0),
			};
			let from: Vec<OutPoint> = of.iter().filter_map(|index| outpoints.get(*index).copied()).collect();
			self.wallet.rearrange(&from, pieces, Amount::from_sat(purse.per_channel.0), rate).map(Some)
		})
	}

	/// Looks after the reserve's coins at each new block, until `stop`.
	pub async fn keep_coins(self: Arc<Self>, policy: CapitalPolicy, mut stop: watch::Receiver<bool>) {
		let mut tip = self.tip.clone();
		let mut seen = None;
		loop {
			let (hash, synced) = {
				let tip = tip.borrow_and_update();
				(tip.hash, tip.synced)
			};
			if synced && seen.replace(hash) != Some(hash) {
				match self.arrange(&policy) {
					Ok(Some(tx)) => {
						let (txid, inputs, outputs) = (tx.compute_txid(), tx.input.len(), tx.output.len());
						crash::reached("coins.rearranged.decided");
						tracing::info!(target: "inlet::capital", %txid, inputs, outputs, "coins of the reserve rearranged");
						self.wallet.save().await;
						crash::reached("coins.rearranged.written");
					}
					Ok(None) => {}
					Err(e) => {
						tracing::warn!(target: "inlet::capital", "the reserve's coins could not be rearranged: {e}")
					}
				}
			}
			tokio::select! {
				() = stopped(&mut stop) => return,
				changed = tip.changed() => if changed.is_err() { return },
			}
		}
	}
}
