//! On-chain money, for the operator.

use super::Operator;
use super::channels::{local_msat, no_feerate};
use crate::control::*;
use crate::onchain::WalletError;
use bitcoin::{Address, Amount, FeeRate};

impl Operator {
	/// Confirmed coins that belong to nothing: no anchor (that of one more channel included), no sale, no order.
	pub(super) fn free(&self) -> Amount {
		self.driver.read(|book| {
			let in_sales = Amount::from_sat(book.reserved().0);
			self.hands.spendable(book).checked_sub(in_sales).unwrap_or(Amount::ZERO)
		})
	}

	/// What must stay in the wallet.
	fn kept(&self) -> Amount {
		let channels = &self.hands.channels;
		self.hands.lightning.anchor_reserve().required + self.driver.read(|book| channels.reserved_for_others(book, 0))
	}

	pub(super) fn balance_now(&self) -> Balance {
		let wallet = self.hands.wallet.balance();
		let lightning = &self.hands.lightning;
		let channels = lightning.manager.list_channels();
		let open: Vec<_> = channels.iter().collect();
		let closing_sat =
			lightning.monitor.get_claimable_balances(&open).iter().map(|b| b.claimable_amount_satoshis()).sum::<u64>();
		let local: u64 = channels.iter().map(local_msat).sum();
		let onchain = OnchainBalance {
			confirmed_sat: wallet.confirmed.to_sat(),
			trusted_pending_sat: wallet.trusted_pending.to_sat(),
			untrusted_pending_sat: wallet.untrusted_pending.to_sat(),
			immature_sat: wallet.immature.to_sat(),
			anchor_reserve_sat: lightning.anchor_reserve().required.to_sat(),
			in_sales_sat: self.driver.read(|book| book.reserved()).0,
			free_sat: self.free().to_sat(),
		};
		let in_wallet = wallet.confirmed + wallet.trusted_pending + wallet.untrusted_pending + wallet.immature;
		Balance {
			onchain,
			lightning: LightningBalance {
				local_msat: local,
				outbound_msat: channels.iter().map(|c| c.next_outbound_htlc_limit_msat).sum(),
				inbound_msat: channels.iter().map(|c| c.inbound_capacity_msat).sum(),
				closing_sat,
			},
			total_sat: in_wallet.to_sat() + closing_sat + local / 1000,
		}
	}

	pub(super) async fn address(&self) -> Result<NewAddress, Refusal> {
		let address = self.hands.wallet.new_address().await.map_err(refuse)?;
		Ok(NewAddress { address: address.to_string() })
	}

	pub(super) async fn send_onchain(&self, request: SendRequest) -> Result<Sent, Refusal> {
		let unchecked: Address<_> = request.address.parse().map_err(|e| {
			Refusal::invalid("bad_address", format!("{} is not an address: {e}", request.address), "check it")
		})?;
		let network = self.hands.network;
		let to = unchecked.require_network(network).map_err(|_| {
			Refusal::invalid(
				"wrong_network",
				format!("{} is not an address of {network}", request.address),
				format!("this node runs on {network}; ask the recipient for an address there"),
			)
		})?;
		let amount = match (request.amount_sat, request.all) {
			(Some(sat), false) => Some(Amount::from_sat(sat)),
			(None, true) => None,
			_ => return Err(Refusal::invalid("bad_amount", "give an amount or all, not both", "inlet send --help")),
		};
		let feerate = match request.feerate_sat_per_kw {
			Some(given) => given,
			None => self.hands.fees.fresh().ok_or_else(no_feerate)?.0,
		};
		let rate = FeeRate::from_sat_per_kwu(u64::from(feerate));
		let wallet = &self.hands.wallet;
		let (amount, fee, txid) = if request.dry_run {
			let (amount, fee) = wallet.plan(&to, amount, rate, self.kept()).map_err(refuse)?;
			(amount, fee, None)
		} else {
			let script = to.script_pubkey();
			let sent = wallet.send(to, amount, Some(rate), self.kept()).await.map_err(refuse)?;
			let paid = sent.tx.output.iter().find(|output| output.script_pubkey == script).map(|output| output.value);
			(paid.unwrap_or_default(), sent.fee, Some(sent.tx.compute_txid().to_string()))
		};
		Ok(Sent {
			txid,
			address: request.address,
			amount_sat: amount.to_sat(),
			fee_sat: fee.to_sat(),
			feerate_sat_per_kw: feerate,
			dry_run: request.dry_run,
		})
	}

	pub(super) fn utxo_page(&self, list: &ListRequest) -> Page<Utxo> {
		let rows = self.hands.wallet.utxos().into_iter().map(|utxo| Utxo {
			outpoint: utxo.outpoint.to_string(),
			amount_sat: utxo.value.to_sat(),
			address: utxo.address.to_string(),
			confirmations: utxo.confirmations,
		});
		Page::ascending(rows, list, |utxo| utxo.outpoint.clone())
	}
}

/// The wallet's refusals, for the API.
fn refuse(e: WalletError) -> Refusal {
	let hint = "inlet balance shows what is free and what is reserved";
	Refusal::not_possible("wallet_refused", e.to_string(), hint)
}
