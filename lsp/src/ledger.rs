//! What was earned and spent, booked once.

use crate::book::{EntryKind, NodeId};
use crate::input::Input;
use crate::money::{Msat, Sat};
use crate::turn::Turn;

/// Books `amount` as earned.
pub(crate) fn earn(turn: &mut Turn<'_>, kind: EntryKind, amount: Msat, client: Option<NodeId>, reference: &str) {
	turn.book_entry(kind, signed(amount), client, reference);
}

/// Books `amount` as spent.
pub(crate) fn spend(turn: &mut Turn<'_>, kind: EntryKind, amount: Msat, client: Option<NodeId>, reference: &str) {
	turn.book_entry(kind, signed(amount).saturating_neg(), client, reference);
}

/// Books the miner's fee of a funding transaction, once per transaction.
pub(crate) fn funding_cost(turn: &mut Turn<'_>, fee: Option<Sat>, client: NodeId, funding: bitcoin::Txid) {
	let Some(fee) = fee.and_then(Sat::to_msat) else { return };
	let reference = funding.to_string();
	if !turn.is_booked(EntryKind::FundingCost, &reference) {
		spend(turn, EntryKind::FundingCost, fee, Some(client), &reference);
	}
}

/// [`Input::Forwarded`], the part of it that is no opening fee: books it once per reference.
pub(crate) fn forwarded(turn: &mut Turn<'_>, input: &Input) {
	let Input::Forwarded { next_peer, total_fee, skimmed, reference, .. } = input else { return };
	let routing = Msat(total_fee.0.saturating_sub(skimmed.0));
	if routing > Msat::ZERO && !turn.is_booked(EntryKind::RoutingFee, reference) {
		earn(turn, EntryKind::RoutingFee, routing, *next_peer, reference);
	}
}

fn signed(amount: Msat) -> i64 {
	i64::try_from(amount.0).unwrap_or(i64::MAX)
}
