//! Payments back to clients: for each marker one is mined at most, for ever, whatever is asked and whenever we stop.
//!
//! A refund spends the very payment that it gives back, where it still can: then a reorganisation that takes the payment takes
//! the refund with it. A raised fee spends the same coins again, so that one of the two is mined at most.

use super::super::keep::Folder;
use super::{Wallet, WalletError, depth, tx_of};
use crate::crash;
use crate::onchain::coins::{self, Coin, Plan, Want};
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Address, Amount, FeeRate, OutPoint, ScriptBuf, Transaction, Txid};
use serde::{Deserialize, Serialize};

/// A raised fee is at least so many percent of the one before: what is too low today may be a little too low tomorrow.
const RAISE_PERCENT: u64 = 125;

/// A refund that is on its way or in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refunded {
	/// Signed, and queued for broadcast.
	pub tx: Transaction,
	/// What it gives back, what is taken off for the miner included.
	pub amount: Amount,
	/// What the miner gets.
	pub fee: Amount,
	/// The part of that which the recipient does not bear.
	pub borne: Amount,
}

/// What became of raising a refund's fee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bumped {
	/// It was raised, or one of its forms is in the chain already.
	Sent(Refunded),
	/// The payment that it spends is gone, and nobody takes it: it was withdrawn, and will never be sent again.
	Lost,
	/// Not now: it cannot be told yet whether the payment is gone.
	Waits,
}

/// As stored; fields are only ever added.
#[derive(Serialize, Deserialize)]
struct Row {
	tx: String,
	fee_sat: u64,
	/// What is given back; in rows of older versions it has to be told from the transaction.
	#[serde(default)]
	amount_sat: Option<u64>,
	/// Earlier forms of `tx`.
	#[serde(default)]
	replaced: Vec<String>,
	/// It will never be sent again.
	#[serde(default)]
	withdrawn: bool,
}

impl Wallet {
	/// Pays `amount`, less the fee, at most once per `marker` for ever: the transaction is persisted before it is broadcast,
	/// and asking again broadcasts the same one again, whatever the other arguments are. The payments `from`, which it gives
	/// back, must be in the chain; they are spent if they suffice and nothing else has spent them.
	///
	/// # Errors
	/// As [`Wallet::send`], but a refusal of the backend is none: the transaction stays queued. [`WalletError::Gone`].
	pub async fn pay_refund(
		&self,
		marker: &str,
		to: Address,
		amount: Amount,
		feerate: FeeRate,
		from: &[OutPoint],
	) -> Result<Refunded, WalletError> {
		let _turn = self.refunding.lock().await;
		if let Some(row) = self.refund_row(marker).await? {
			if row.withdrawn {
				return Err(WalletError::Gone);
			}
			let sent = read(marker, &row, &to.script_pubkey())?;
			let forms = replaced(marker, &row)?.into_iter().chain([sent.tx.compute_txid()]);
			if let Some(mined) = forms.into_iter().find(|txid| self.is_confirmed(txid)) {
				return self.form(&sent, mined, &to.script_pubkey());
			}
			self.broadcaster.send(vec![sent.tx.clone()]);
			return Ok(sent);
		}
		self.check_network(&to)?;
		if from.iter().any(|payment| !self.is_confirmed(&payment.txid)) {
			return Err(WalletError::Gone);
		}
		let script = to.script_pubkey();
		let plan = |coins: &[Coin]| {
			let own: Vec<_> = coins.iter().filter(|coin| from.contains(&coin.outpoint)).copied().collect();
			let by = |coins: &[Coin]| coins::plan(coins, &script, Want::LessFee(amount), feerate, Amount::ZERO);
			by(&own).or_else(|_| by(coins))
		};
		let (tx, fee) = self.make(|plan| vec![(script.clone(), plan.amount)], plan, |_, _| ())?;
		let row = Row {
			tx: serialize_hex(&tx),
			fee_sat: fee.to_sat(),
			amount_sat: Some(amount.to_sat()),
			replaced: Vec::new(),
			withdrawn: false,
		};
		let sent = read(marker, &row, &script)?;
		self.keep_refund(marker, &row)?;
		self.save().await;
		crash::reached("refund.kept.written");
		self.broadcaster.send(vec![tx]);
		Ok(sent)
	}

	/// Raises the fee of a refund that is not in the chain, to `feerate` and by a quarter at least. The recipient bears it; if
	/// that would leave too little, the change does.
	///
	/// # Errors
	/// [`WalletError::Dust`]: neither can bear it. [`WalletError::Build`]: there is no such refund.
	pub async fn bump_refund(&self, marker: &str, to: &Address, feerate: FeeRate) -> Result<Bumped, WalletError> {
		let _turn = self.refunding.lock().await;
		let script = to.script_pubkey();
		let row = self.refund_row(marker).await?;
		let Some(mut row) = row else { return Err(WalletError::Build(format!("there is no refund {marker}"))) };
		if row.withdrawn {
			return Ok(Bumped::Lost);
		}
		let old = read(marker, &row, &script)?;
		let newest = old.tx.compute_txid();
		let forms: Vec<Txid> = [newest].into_iter().chain(replaced(marker, &row)?).collect();
		if let Some(mined) = forms.iter().find(|txid| self.is_confirmed(txid)) {
			return Ok(Bumped::Sent(self.form(&old, *mined, &script)?));
		}
		let parents: Vec<Txid> = old.tx.input.iter().map(|input| input.previous_output.txid).collect();
		let shaky: Vec<Txid> = parents.into_iter().filter(|txid| !self.is_confirmed(txid)).collect();
		if !shaky.is_empty() {
			if !self.is_refused(&newest) {
				return Ok(Bumped::Waits);
			}
			row.withdrawn = true;
			self.keep_refund(marker, &row)?;
			self.save().await;
			self.broadcaster.forget(&newest);
			self.evict(&forms.iter().chain(&shaky).copied().collect::<Vec<_>>());
			self.save().await;
			return Ok(Bumped::Lost);
		}
		let tx = self.replace(&old, &forms, &script, feerate)?;
		let paid_in: Amount = self.inputs_of(&tx)?;
		let fee = paid_in - tx.output.iter().map(|output| output.value).sum::<Amount>();
		row.replaced.push(newest.to_string());
		row.tx = serialize_hex(&tx);
		row.fee_sat = fee.to_sat();
		row.amount_sat = Some(old.amount.to_sat());
		let sent = read(marker, &row, &script)?;
		self.keep_refund(marker, &row)?;
		self.save().await;
		self.broadcaster.forget(&newest);
		self.broadcaster.send(vec![tx]);
		Ok(Bumped::Sent(sent))
	}

	/// Another form of this refund, which is in the chain.
	fn form(&self, refund: &Refunded, txid: Txid, script: &ScriptBuf) -> Result<Refunded, WalletError> {
		if refund.tx.compute_txid() == txid {
			return Ok(refund.clone());
		}
		let known = tx_of(&self.lock(), txid).map(|tx| tx.as_ref().clone());
		let tx = known.ok_or_else(|| WalletError::Build("a form of a refund is unknown".into()))?;
		let fee = self.inputs_of(&tx)? - tx.output.iter().map(|output| output.value).sum::<Amount>();
		let off = refund.amount.checked_sub(paid_to(&tx, script)).unwrap_or(Amount::ZERO);
		Ok(Refunded { tx, amount: refund.amount, fee, borne: fee.checked_sub(off).unwrap_or(Amount::ZERO) })
	}

	/// Confirmations of a transaction of ours: 0 if it is not in the chain.
	pub fn confirmations_of(&self, txid: Txid) -> u32 {
		let bdk = self.lock();
		let tip = bdk.latest_checkpoint().height();
		depth(&bdk, txid, tip)
	}

	/// The same coins to the same recipient, for more.
	fn replace(
		&self,
		old: &Refunded,
		forms: &[Txid],
		script: &ScriptBuf,
		feerate: FeeRate,
	) -> Result<Transaction, WalletError> {
		let weight = old.tx.weight();
		let raised = Amount::from_sat((old.fee.to_sat() * RAISE_PERCENT).div_ceil(100));
		let fee = feerate.fee_wu(weight).unwrap_or(Amount::MAX_MONEY).max(raised);
		let extra = fee.checked_sub(old.fee).unwrap_or(Amount::ZERO);
		let paid = paid_to(&old.tx, script);
		let all: Amount = self.inputs_of(&old.tx)?;
		let change = all.checked_sub(paid + old.fee).unwrap_or(Amount::ZERO);
		let limit = script.minimal_non_dust();
		let (amount, change) = match (paid.checked_sub(extra), change.checked_sub(extra)) {
			(Some(amount), _) if amount >= limit => (amount, change),
			(_, Some(change)) if change >= coins::CHANGE_DUST => (paid, change),
			_ => return Err(WalletError::Dust { amount: paid, limit }),
		};
		let inputs = old.tx.input.iter().map(|input| input.previous_output).collect();
		let change = Some(change).filter(|change| *change > Amount::ZERO);
		let plan = Plan { inputs, amount, change, fee };
		let made = self.change(|bdk| {
			let known: Vec<Transaction> =
				forms.iter().filter_map(|txid| bdk.get_tx(*txid)).map(|tx| tx.tx_node.tx.as_ref().clone()).collect();
			// Its coins are free only for whom it does not exist.
			let at = self.tick();
			bdk.apply_evicted_txs(forms.iter().map(|txid| (*txid, at)));
			let made = self.build(bdk, &plan, vec![(script.clone(), plan.amount)]);
			let at = self.tick();
			match &made {
				Ok(tx) => bdk.apply_unconfirmed_txs([(tx.clone(), at)]),
				Err(_) => bdk.apply_unconfirmed_txs(known.into_iter().map(|tx| (tx, at))),
			}
			made
		});
		self.has_news();
		made
	}

	fn inputs_of(&self, tx: &Transaction) -> Result<Amount, WalletError> {
		let bdk = self.lock();
		let value = |input: &bitcoin::TxIn| bdk.tx_graph().get_txout(input.previous_output).map(|output| output.value);
		let all: Option<Amount> = tx.input.iter().map(value).sum();
		all.ok_or_else(|| WalletError::Build("a coin of a refund is unknown".into()))
	}

	async fn refund_row(&self, marker: &str) -> Result<Option<Row>, WalletError> {
		let Some(bytes) = self.keep.read(Folder::Refund, marker).await? else { return Ok(None) };
		serde_json::from_slice(&bytes).map(Some).map_err(|e| damaged(marker, &e))
	}

	fn keep_refund(&self, marker: &str, row: &Row) -> Result<(), WalletError> {
		let bytes = serde_json::to_vec(row).map_err(|e| WalletError::Build(e.to_string()))?;
		self.keep.write(Folder::Refund, marker, bytes);
		Ok(())
	}
}

fn paid_to(tx: &Transaction, script: &ScriptBuf) -> Amount {
	tx.output.iter().filter(|output| output.script_pubkey == *script).map(|output| output.value).sum()
}

fn read(marker: &str, row: &Row, script: &ScriptBuf) -> Result<Refunded, WalletError> {
	let tx: Transaction = deserialize_hex(&row.tx).map_err(|e| damaged(marker, &e))?;
	let fee = Amount::from_sat(row.fee_sat);
	let paid = paid_to(&tx, script);
	let amount = row.amount_sat.map_or(paid + fee, Amount::from_sat);
	let off = amount.checked_sub(paid).unwrap_or(Amount::ZERO);
	Ok(Refunded { tx, amount, fee, borne: fee.checked_sub(off).unwrap_or(Amount::ZERO) })
}

fn replaced(marker: &str, row: &Row) -> Result<Vec<Txid>, WalletError> {
	row.replaced.iter().map(|txid| txid.parse().map_err(|e| damaged(marker, &e))).collect()
}

fn damaged(marker: &str, cause: &dyn std::fmt::Display) -> WalletError {
	WalletError::Build(format!("stored refund {marker} is not readable: {cause}"))
}

#[cfg(test)]
#[path = "refund_tests.rs"]
mod tests;
