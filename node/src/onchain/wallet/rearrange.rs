//! Transactions of the wallet to itself: a large coin becomes several, many small ones become one.

use super::{Wallet, WalletError, coins};
use bdk_wallet::{KeychainKind, SignOptions};
use bitcoin::{Amount, FeeRate, OutPoint, Transaction};

impl Wallet {
	/// Spends these confirmed coins into `pieces` coins of `each` and one with the rest, and broadcasts. As soon as this returns the
	/// wallet reckons with the new coins, and so it does after a restart once [`Wallet::save`] has: nothing is done twice.
	///
	/// # Errors
	/// [`WalletError::Gone`]: one of the coins is not there any more. [`WalletError::Build`]: the rest would be dust.
	pub fn rearrange(
		&self,
		from: &[OutPoint],
		pieces: u64,
		each: Amount,
		rate: FeeRate,
	) -> Result<Transaction, WalletError> {
		let failed = |e: &dyn std::fmt::Display| WalletError::Build(e.to_string());
		let made = self.change(|bdk| {
			let there = self.free_coins(bdk);
			let own: Vec<_> = there.iter().filter(|coin| from.contains(&coin.outpoint)).collect();
			if own.len() != from.len() {
				return Err(WalletError::Gone);
			}
			let total = own.iter().map(|coin| coin.value).sum();
			let rest = coins::rearranged(own.len(), total, pieces, each, rate);
			let rest = rest.ok_or_else(|| WalletError::Build("too little would be left".into()))?;
			let mut outputs = Vec::new();
			for value in (0..pieces).map(|_| each).chain([rest]) {
				outputs.push((bdk.reveal_next_address(KeychainKind::Internal).address.script_pubkey(), value));
			}
			let fee = total.checked_sub(rest).and_then(|spent| spent.checked_sub(each.checked_mul(pieces)?));
			let mut builder = bdk.build_tx();
			builder.add_utxos(from).map_err(|e| failed(&e))?;
			builder.manually_selected_only().set_recipients(outputs).fee_absolute(fee.unwrap_or_default());
			let mut psbt = builder.finish().map_err(|e| failed(&e))?;
			if !self.sign(bdk, &mut psbt, SignOptions::default())? {
				return Err(WalletError::Build("not every input could be signed".into()));
			}
			let tx = psbt.extract_tx().map_err(|e| failed(&e))?;
			bdk.apply_unconfirmed_txs([(tx.clone(), self.tick())]);
			Ok(tx)
		});
		self.has_news();
		let tx = made?;
		self.broadcaster.send(vec![tx.clone()]);
		Ok(tx)
	}

	/// Is a fee bump of LDK's on its way?
	pub fn is_bumping(&self) -> bool {
		self.broadcaster.in_flight().iter().any(|(_, bump)| *bump)
	}
}
