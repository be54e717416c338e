//! On-chain money, for the operator.

use super::Operator;
use super::channels::{local_msat, no_feerate};
use crate::config::network_name;
use crate::control::*;
use crate::lightning::splice::on_its_way;
use crate::onchain::{Stay, WalletError};
use bitcoin::{Address, Amount, FeeRate, OutPoint};
use lightning::chain::channelmonitor::{self, BalanceSource};
use lightning::ln::channel_state::ChannelDetails;
use lightning::sign::SpendableOutputDescriptor;
use lightning::util::sweep::OutputSpendStatus;
use std::collections::HashSet;

/// No feerate that was ever right is above this: 1,500 sat/vB.
const MAX_FEERATE_SAT_PER_KW: u32 = 1_500 * 250;

impl Operator {
	/// Confirmed coins that belong to nothing: no anchor (that of one more channel included), no sale, no order.
	pub(super) fn free(&self) -> Amount {
		self.driver.read(|book| {
			let in_sales = Amount::from_sat(book.reserved().0);
			self.hands.spendable(book).checked_sub(in_sales).unwrap_or(Amount::ZERO)
		})
	}

	/// What must stay in the wallet.
	fn kept(&self) -> Stay {
		let channels = &self.hands.channels;
		self.hands.lightning.anchor_reserve().and(self.driver.read(|book| channels.reserved_for_others(book, &[])))
	}

	pub(super) fn balance_now(&self) -> Balance {
		let wallet = self.hands.wallet.balance();
		let lightning = &self.hands.lightning;
		let channels = lightning.manager.list_channels();
		let closing_sat = self.closing_sat(&channels);
		let local: u64 = channels.iter().map(local_msat).sum();
		let splices = self.hands.wallet.splices();
		let splicing_sat = channels.iter().map(|channel| on_its_way(channel, &splices).to_sat()).sum();
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
				outbound_msat: channels.iter().map(|c| c.outbound_capacity_msat).sum(),
				inbound_msat: channels.iter().map(|c| c.inbound_capacity_msat).sum(),
				closing_sat,
				splicing_sat,
			},
			total_sat: in_wallet.to_sat() + closing_sat + splicing_sat + local / 1000,
		}
	}

	/// What comes back from channels that are not in `open`, and is not in the wallet yet.
	fn closing_sat(&self, open: &[ChannelDetails]) -> u64 {
		let (monitors, wallet) = (&self.hands.lightning.monitor, &self.hands.wallet);
		let open: HashSet<_> = open.iter().map(|channel| channel.channel_id).collect();
		let closed = monitors.list_monitors().into_iter().filter(|id| !open.contains(id));
		// LDK reckons for ever with the balance of a channel that ended before its funding was sent: that money never left.
		let claimable: u64 = closed
			.filter_map(|id| monitors.get_monitor(id).ok())
			.filter(|monitor| !wallet.is_unsent(&monitor.get_funding_txo().txid))
			.map(|monitor| {
				let funding = monitor.get_funding_txo();
				let by_agreement = || wallet.is_paid_from(OutPoint::new(funding.txid, funding.index.into()));
				monitor.get_claimable_balances().iter().map(|b| not_in_wallet_sat(b, by_agreement)).sum::<u64>()
			})
			.sum();
		// Once its sweep is broadcast, an output is in the wallet as unconfirmed money.
		let outputs = self.hands.lightning.sweeper.tracked_spendable_outputs();
		let unswept =
			outputs.iter().filter(|output| matches!(output.status, OutputSpendStatus::PendingInitialBroadcast { .. }));
		claimable + unswept.map(|output| value(&output.descriptor).to_sat()).sum::<u64>()
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
				format!("{} is not an address of {}", request.address, network_name(network)),
				format!("this node runs on {}; ask the recipient for an address there", network_name(network)),
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
		sane_feerate(feerate)?;
		let rate = FeeRate::from_sat_per_kwu(u64::from(feerate));
		let wallet = &self.hands.wallet;
		let (planned, planned_fee) = wallet.plan(&to, amount, rate, self.kept()).map_err(refuse)?;
		sane_fee(planned, planned_fee)?;
		let (amount, fee, txid, queued) = if request.dry_run {
			(planned, planned_fee, None, false)
		} else {
			let script = to.script_pubkey();
			let sent = wallet.send(to, amount, Some(rate), self.kept()).await.map_err(refuse)?;
			let paid = sent.tx.output.iter().find(|output| output.script_pubkey == script).map(|output| output.value);
			(paid.unwrap_or_default(), sent.fee, Some(sent.tx.compute_txid().to_string()), sent.queued)
		};
		Ok(Sent {
			txid,
			address: request.address,
			amount_sat: amount.to_sat(),
			fee_sat: fee.to_sat(),
			feerate_sat_per_kw: feerate,
			dry_run: request.dry_run,
			queued,
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

/// What a closed channel owes us, unless the wallet has it: what a close by agreement pays goes to an address of ours,
/// and is in the wallet from its broadcast on.
fn not_in_wallet_sat(balance: &channelmonitor::Balance, by_agreement: impl Fn() -> bool) -> u64 {
	use channelmonitor::Balance;
	match balance {
		Balance::ClaimableAwaitingConfirmations { source: BalanceSource::CoopClose, .. } => 0,
		Balance::ClaimableOnChannelClose { .. } if by_agreement() => 0,
		other => other.claimable_amount_satoshis(),
	}
}

fn value(output: &SpendableOutputDescriptor) -> Amount {
	match output {
		SpendableOutputDescriptor::StaticOutput { output, .. } => output.value,
		SpendableOutputDescriptor::DelayedPaymentOutput(delayed) => delayed.output.value,
		SpendableOutputDescriptor::StaticPaymentOutput(payment) => payment.output.value,
	}
}

/// A feerate that can only be a slip of the keyboard is refused.
fn sane_feerate(sat_per_kw: u32) -> Result<(), Refusal> {
	if sat_per_kw <= MAX_FEERATE_SAT_PER_KW {
		return Ok(());
	}
	let (vb, most) = (sat_per_kw.div_ceil(250), MAX_FEERATE_SAT_PER_KW / 250);
	let detail = format!("a feerate of {vb} sat/vB is above {most}, the most that is taken for meant");
	Err(Refusal::invalid("absurd_feerate", detail, "choose a lower feerate; inlet fees shows what is usual now"))
}

/// Nobody means to pay the miner more than the recipient.
fn sane_fee(amount: Amount, fee: Amount) -> Result<(), Refusal> {
	if fee <= amount {
		return Ok(());
	}
	let detail =
		format!("the fee of {} sat would be more than the {} sat that are sent", fee.to_sat(), amount.to_sat());
	Err(Refusal::invalid("fee_above_amount", detail, "send more at once, or choose a lower feerate"))
}

/// The wallet's refusals, for the API.
fn refuse(e: WalletError) -> Refusal {
	let hint = "inlet balance shows what is free and what is reserved";
	Refusal::not_possible("wallet_refused", e.to_string(), hint)
}

#[cfg(test)]
mod tests {
	use super::*;
	use channelmonitor::Balance;

	#[test]
	fn a_close_by_agreement_is_in_the_wallet_and_not_counted_again() {
		let awaiting =
			|source| Balance::ClaimableAwaitingConfirmations { amount_satoshis: 7, confirmation_height: 1, source };
		assert_eq!(not_in_wallet_sat(&awaiting(BalanceSource::CoopClose), || false), 0);
		assert_eq!(not_in_wallet_sat(&awaiting(BalanceSource::HolderForceClosed), || false), 7);
		assert_eq!(not_in_wallet_sat(&awaiting(BalanceSource::CounterpartyForceClosed), || true), 7);
	}

	#[test]
	fn slips_of_the_keyboard_are_refused() {
		assert!(sane_feerate(MAX_FEERATE_SAT_PER_KW).is_ok());
		assert_eq!(sane_feerate(MAX_FEERATE_SAT_PER_KW + 1).unwrap_err().status, 400);
		assert!(sane_fee(Amount::from_sat(500), Amount::from_sat(500)).is_ok());
		assert_eq!(sane_fee(Amount::from_sat(500), Amount::from_sat(501)).unwrap_err().code, "fee_above_amount");
	}
}
