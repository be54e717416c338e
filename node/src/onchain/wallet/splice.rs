//! Coins on their way into a channel that is there: held, durably, from before they are offered to the peer until the splice is
//! deep in the chain, or LDK says that it will never be.

use super::{Amount, OutPoint, SpliceTerms, Stay, Wallet, WalletError, coins, depth, spendable, tx_of};
use crate::onchain::keep::{Folder, Keep};
use bdk_wallet::KeychainKind;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::secp256k1::PublicKey;
use bitcoin::{FeeRate, Psbt, ScriptBuf, Transaction, TxOut, Txid, WScriptHash, hashes::Hash};
use lightning::util::wallet_utils::{CoinSelection, ConfirmedUtxo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The channel's old funding output as an input, in weight units: outpoint, sequence and empty script (41 bytes), and a witness
/// of two signatures of at most 72 bytes and the script of 71 bytes.
const SHARED_INPUT_WEIGHT: u64 = 41 * 4 + 1 + 1 + 2 * 73 + 1 + 71;

/// Coins for a splice, and what became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spliced {
	/// Marks the splice.
	pub mark: u128,
	/// With whom.
	pub peer: PublicKey,
	/// LDK's id of the channel.
	pub channel_id: [u8; 32],
	/// Our coins.
	pub inputs: Vec<OutPoint>,
	/// What comes back of them.
	pub change: Option<TxOut>,
	/// What our side of the channel grows by.
	pub added: Amount,
	/// What we pay to the miner.
	pub fee: Amount,
	/// The transaction with our signatures, once we have made them.
	pub tx: Option<Transaction>,
	/// Its id.
	pub txid: Option<Txid>,
	/// Which of its outputs is the channel's.
	pub vout: u32,
}

/// As stored; fields are only ever added.
#[derive(Serialize, Deserialize)]
struct Stored {
	peer: PublicKey,
	channel_id: String,
	inputs: Vec<OutPoint>,
	change: Option<TxOut>,
	added_sat: u64,
	fee_sat: u64,
	#[serde(default)]
	tx: Option<String>,
	#[serde(default)]
	vout: u32,
}

impl Spliced {
	/// The channel's new funding output, once the transaction is signed.
	pub fn funding(&self) -> Option<OutPoint> {
		Some(OutPoint { txid: self.txid?, vout: self.vout })
	}

	fn key(mark: u128) -> String {
		format!("{mark:032x}")
	}

	fn bytes(&self) -> Vec<u8> {
		let stored = Stored {
			peer: self.peer,
			channel_id: self.channel_id.to_lower_hex_string(),
			inputs: self.inputs.clone(),
			change: self.change.clone(),
			added_sat: self.added.to_sat(),
			fee_sat: self.fee.to_sat(),
			tx: self.tx.as_ref().map(serialize_hex),
			vout: self.vout,
		};
		serde_json::to_vec(&stored).expect("strings and numbers are JSON")
	}

	fn read(key: &str, bytes: &[u8]) -> Result<Spliced, Box<dyn std::error::Error + Send + Sync>> {
		let stored: Stored = serde_json::from_slice(bytes)?;
		let tx: Option<Transaction> = stored.tx.map(|tx| deserialize_hex(&tx)).transpose()?;
		Ok(Spliced {
			mark: u128::from_str_radix(key, 16)?,
			peer: stored.peer,
			channel_id: FromHex::from_hex(&stored.channel_id)?,
			inputs: stored.inputs,
			change: stored.change,
			added: Amount::from_sat(stored.added_sat),
			fee: Amount::from_sat(stored.fee_sat),
			txid: tx.as_ref().map(Transaction::compute_txid),
			tx,
			vout: stored.vout,
		})
	}
}

/// All splices with coins of ours, by their mark.
pub(super) type Splices = BTreeMap<u128, Spliced>;

pub(super) async fn load(keep: &Keep) -> Result<Splices, WalletError> {
	let mut splices = Splices::new();
	for (key, bytes) in keep.all(Folder::Splice).await? {
		let row = Spliced::read(&key, &bytes).map_err(|e| WalletError::Load(format!("row {key}: {e}")))?;
		splices.insert(row.mark, row);
	}
	Ok(splices)
}

impl Wallet {
	/// Holds confirmed coins for a splice that adds `amount` to a channel, leaving `keep`, and says which: for LDK. What is held
	/// is not spent by anything else until [`Wallet::free_splice`]. [`Wallet::keep_splice`] makes it last.
	///
	/// # Errors
	/// [`WalletError::Short`], [`WalletError::Dust`].
	pub fn hold_for_splice(
		&self,
		terms: SpliceTerms,
		amount: Amount,
		feerate: FeeRate,
		keep: impl Into<Stay>,
	) -> Result<CoinSelection, WalletError> {
		let script = ScriptBuf::new_p2wsh(&WScriptHash::all_zeros());
		let shared = feerate.fee_wu(bitcoin::Weight::from_wu(SHARED_INPUT_WEIGHT)).unwrap_or(Amount::MAX_MONEY);
		let want = coins::Want::Exactly(amount.checked_add(shared).unwrap_or(Amount::MAX_MONEY));
		let keep = keep.into();
		let held = self.change(|bdk| {
			let plan = coins::plan(&self.free_coins(bdk), &script, want, feerate, keep)?;
			let mut utxos = Vec::new();
			for input in &plan.inputs {
				let prevtx = tx_of(bdk, input.txid).map(|tx| tx.as_ref().clone());
				let utxo = prevtx.and_then(|tx| ConfirmedUtxo::new_p2tr_key_spend(tx, input.vout).ok());
				utxos.push(utxo.ok_or_else(|| WalletError::Build("a coin without its transaction".into()))?);
			}
			let change = plan.change.map(|value| {
				let script_pubkey = bdk.reveal_next_address(KeychainKind::Internal).address.script_pubkey();
				TxOut { value, script_pubkey }
			});
			let row = Spliced {
				mark: terms.mark,
				peer: terms.peer,
				channel_id: terms.channel_id,
				inputs: plan.inputs,
				change: change.clone(),
				added: amount,
				fee: Amount::ZERO,
				tx: None,
				txid: None,
				vout: 0,
			};
			self.spliced().insert(row.mark, row);
			Ok(CoinSelection { confirmed_utxos: utxos, change_output: change })
		});
		self.has_news();
		held
	}

	/// Writes down what is held, with what LDK reckons that our side grows by, and that we pay.
	pub fn keep_splice(&self, mark: u128, added: Amount, fee: Amount) {
		if let Some(row) = self.spliced().get_mut(&mark) {
			(row.added, row.fee) = (added, fee);
			self.keep.write(Folder::Splice, &Spliced::key(mark), row.bytes());
		}
	}

	/// Signs our inputs of a splice's transaction, whose other input is the channel's old funding output `shared`, and whose
	/// output `vout` is its new one. The signatures are durable when this returns; asked again, they are the same.
	///
	/// # Errors
	/// [`WalletError::Build`]: it is not what was agreed.
	pub async fn sign_splice(
		&self,
		mark: u128,
		unsigned: Transaction,
		shared: (OutPoint, TxOut),
		vout: u32,
	) -> Result<Transaction, WalletError> {
		let txid = unsigned.compute_txid();
		let row = self.splice(mark).ok_or_else(|| WalletError::Build("no coins are held for it".into()))?;
		match &row.tx {
			Some(tx) if row.txid == Some(txid) => {
				self.save().await;
				return Ok(tx.clone());
			}
			Some(_) => return Err(WalletError::Build("another transaction was signed".into())),
			None => {}
		}
		if !is_as_agreed(&row, &unsigned, shared.0, vout) {
			return Err(WalletError::Build("it is not what was agreed".into()));
		}
		let tx =
			self.sign_ours(self.psbt_of(unsigned, &shared)?).map_err(|()| WalletError::Build("no signature".into()))?;
		self.change(|bdk| {
			let mut splices = self.spliced();
			let row =
				splices.get_mut(&mark).ok_or_else(|| WalletError::Build("its coins were freed meanwhile".into()))?;
			bdk.apply_unconfirmed_txs([(tx.clone(), self.tick())]);
			(row.tx, row.txid, row.vout) = (Some(tx.clone()), Some(txid), vout);
			self.keep.write(Folder::Splice, &Spliced::key(mark), row.bytes());
			self.broadcaster.watch_splice(&tx);
			Ok::<_, WalletError>(())
		})?;
		self.has_news();
		self.save().await;
		Ok(tx)
	}

	/// With what each input spends: a taproot signature is about all of them.
	fn psbt_of(&self, unsigned: Transaction, shared: &(OutPoint, TxOut)) -> Result<Psbt, WalletError> {
		let mut psbt = Psbt::from_unsigned_tx(unsigned).map_err(|e| WalletError::Build(e.to_string()))?;
		let bdk = self.lock();
		for (input, spent) in psbt.inputs.iter_mut().zip(&psbt.unsigned_tx.input) {
			let outpoint = spent.previous_output;
			let ours = || bdk.tx_graph().get_txout(outpoint).cloned();
			input.witness_utxo = if outpoint == shared.0 { Some(shared.1.clone()) } else { ours() };
		}
		Ok(psbt)
	}

	/// A splice with coins of ours.
	pub fn splice(&self, mark: u128) -> Option<Spliced> {
		self.spliced().get(&mark).cloned()
	}

	/// All of them: signed, not signed, and until they are deep in the chain.
	pub fn splices(&self) -> Vec<Spliced> {
		self.spliced().values().cloned().collect()
	}

	/// Is this transaction a splice of ours?
	pub(super) fn is_splice(&self, txid: &Txid) -> bool {
		self.spliced().values().any(|row| row.txid == Some(*txid))
	}

	/// Their marks.
	pub fn splice_marks(&self) -> Vec<u128> {
		self.spliced().keys().copied().collect()
	}

	/// The splice that this transaction is.
	pub fn splice_of(&self, txid: &Txid) -> Option<Spliced> {
		self.spliced().values().find(|row| row.txid == Some(*txid)).cloned()
	}

	/// Is this splice in the chain?
	pub fn is_splice_confirmed(&self, row: &Spliced) -> bool {
		row.funding().is_some_and(|funding| self.is_confirmed(&funding.txid))
	}

	/// Is what undoes this splice deep in the chain: another transaction with the channel's old funding, or with a coin of ours?
	pub fn is_splice_impossible(&self, row: &Spliced) -> bool {
		row.funding().is_some_and(|funding| self.broadcaster.is_impossible(&funding.txid))
	}

	/// The channel's new output is this one: LDK knows it by its script, and we have known it by its value only.
	pub fn correct_splice(&self, funding: OutPoint) {
		let mut splices = self.spliced();
		let found = splices.values_mut().find(|row| row.txid == Some(funding.txid) && row.vout != funding.vout);
		if let Some(row) = found {
			row.vout = funding.vout;
			self.keep.write(Folder::Splice, &Spliced::key(row.mark), row.bytes());
		}
	}

	/// At the start: signed splices that the last run did not watch, or whose records came from a backup.
	pub(super) fn watch_splices(&self) {
		for row in self.splices().iter().filter(|row| !self.is_splice_confirmed(row)) {
			if let Some(tx) = &row.tx {
				self.broadcaster.watch_splice(tx);
			}
		}
	}

	/// Frees the coins of a splice that will never be. Does nothing if it is in the chain.
	pub fn free_splice(&self, mark: u128) {
		let Some(row) = self.splice(mark).filter(|row| !self.is_splice_confirmed(row)) else { return };
		self.spliced().remove(&mark);
		if let Some(funding) = row.funding() {
			self.broadcaster.forget(&funding.txid);
			let gone = self.broadcaster.forget_spenders(&funding.txid);
			self.evict(&gone);
			self.evict(&[funding.txid]);
		}
		self.keep.remove(Folder::Splice, &Spliced::key(mark));
		self.has_news();
	}

	/// Is there a splice of this channel that is signed and not in the chain?
	pub fn is_splicing(&self, channel_id: &[u8; 32]) -> bool {
		let signed = |row: &Spliced| row.channel_id == *channel_id && row.tx.is_some();
		self.splices().iter().any(|row| signed(row) && !self.is_splice_confirmed(row))
	}

	/// Splices that are deep in the chain need no row.
	pub(super) fn tidy_splices(&self, tip: u32) {
		let deep: Vec<u128> = {
			let signed: Vec<(u128, Txid)> =
				self.spliced().values().filter_map(|row| Some((row.mark, row.funding()?.txid))).collect();
			let bdk = self.lock();
			signed.iter().filter(|(_, txid)| depth(&bdk, *txid, tip) >= super::OWNED).map(|(mark, _)| *mark).collect()
		};
		for mark in deep {
			self.spliced().remove(&mark);
			self.keep.remove(Folder::Splice, &Spliced::key(mark));
		}
	}

	/// Confirmed coins that nothing spends, and that are held for no splice.
	pub(super) fn free_coins(&self, bdk: &bdk_wallet::Wallet) -> Vec<coins::Coin> {
		let mut coins = spendable(bdk);
		let splices = self.spliced();
		coins.retain(|coin| !splices.values().any(|row| row.inputs.contains(&coin.outpoint)));
		coins
	}

	/// Is this coin held for a splice?
	pub(crate) fn is_held_for_splice(&self, outpoint: &OutPoint) -> bool {
		self.spliced().values().any(|row| row.inputs.contains(outpoint))
	}
}

/// Our coins and the channel's old output go in; our change and the channel's new output come out, and nothing else of value to
/// us is touched. What the peer pays out of its own side besides is its own affair.
fn is_as_agreed(row: &Spliced, tx: &Transaction, shared: OutPoint, vout: u32) -> bool {
	let has = |outpoint: &OutPoint| tx.input.iter().any(|input| input.previous_output == *outpoint);
	let inputs = row.inputs.iter().all(has) && has(&shared) && tx.input.len() == row.inputs.len() + 1;
	let change = row.change.as_ref().is_none_or(|change| tx.output.contains(change));
	let funding = usize::try_from(vout).ok().and_then(|vout| tx.output.get(vout));
	inputs && change && funding.is_some_and(|output| Some(output) != row.change.as_ref())
}

#[cfg(test)]
#[path = "splice_tests.rs"]
mod tests;
