//! ldk-node's values as JSON.

use ldk_node::liquidity::LSPS1OrderStatus;
use ldk_node::payment::{PaymentDetails, PaymentDirection, PaymentKind, PaymentStatus};
use ldk_node::{ChannelDetails, Event, LightningBalance, Node};
use serde_json::{Value, json};

/// An event: `kind` and what it is about. The fields that only forwarding nodes want are left out.
pub fn event(event: &Event) -> Value {
	match event {
		Event::PaymentSuccessful { payment_id, payment_hash, payment_preimage, fee_paid_msat } => json!({
			"kind": "payment_successful",
			"payment_id": payment_id.map(|id| id.to_string()),
			"payment_hash": payment_hash.to_string(),
			"preimage": payment_preimage.map(|preimage| preimage.to_string()),
			"fee_msat": fee_paid_msat,
		}),
		Event::PaymentFailed { payment_id, payment_hash, reason } => json!({
			"kind": "payment_failed",
			"payment_id": payment_id.map(|id| id.to_string()),
			"payment_hash": payment_hash.map(|hash| hash.to_string()),
			"reason": reason.map(|reason| format!("{reason:?}")),
		}),
		Event::PaymentReceived { payment_id, payment_hash, amount_msat, .. } => json!({
			"kind": "payment_received",
			"payment_id": payment_id.map(|id| id.to_string()),
			"payment_hash": payment_hash.to_string(),
			"amount_msat": amount_msat,
		}),
		Event::PaymentForwarded { total_fee_earned_msat, outbound_amount_forwarded_msat, .. } => json!({
			"kind": "payment_forwarded",
			"fee_msat": total_fee_earned_msat,
			"amount_msat": outbound_amount_forwarded_msat,
		}),
		Event::PaymentClaimable { payment_id, payment_hash, claimable_amount_msat, .. } => json!({
			"kind": "payment_claimable",
			"payment_id": payment_id.to_string(),
			"payment_hash": payment_hash.to_string(),
			"amount_msat": claimable_amount_msat,
		}),
		Event::ChannelPending { channel_id, user_channel_id, counterparty_node_id, funding_txo, .. } => json!({
			"kind": "channel_pending",
			"channel_id": channel_id.to_string(),
			"user_channel_id": user_channel_id.0.to_string(),
			"peer": counterparty_node_id.to_string(),
			"funding": funding_txo.to_string(),
		}),
		Event::ChannelReady { channel_id, user_channel_id, counterparty_node_id, .. } => json!({
			"kind": "channel_ready",
			"channel_id": channel_id.to_string(),
			"user_channel_id": user_channel_id.0.to_string(),
			"peer": counterparty_node_id.map(|id| id.to_string()),
		}),
		Event::ChannelClosed { channel_id, user_channel_id, counterparty_node_id, reason } => json!({
			"kind": "channel_closed",
			"channel_id": channel_id.to_string(),
			"user_channel_id": user_channel_id.0.to_string(),
			"peer": counterparty_node_id.map(|id| id.to_string()),
			"reason": reason.as_ref().map(|reason| reason.to_string()),
		}),
		other => json!({ "kind": "other", "text": format!("{other:?}") }),
	}
}

/// All channels.
pub fn channels(node: &Node) -> Value {
	let balances = node.list_balances().lightning_balances;
	node.list_channels().iter().map(|details| channel(details, &balances)).collect()
}

/// What this wallet owns of a channel, rounded down: what it would get if it were closed now, and what it would pay for
/// that (as the opener: the miner's fee and two anchors), which is its own until then.
fn own_sat(channel: &ChannelDetails, balances: &[LightningBalance]) -> u64 {
	const ANCHORS_SAT: u64 = 660;
	let of_this =
		balances.iter().find_map(|balance| match balance {
			LightningBalance::ClaimableOnChannelClose {
				channel_id, amount_satoshis, transaction_fee_satoshis, ..
			} if *channel_id == channel.channel_id => Some((*amount_satoshis, *transaction_fee_satoshis)),
			_ => None,
		});
	let Some((amount, fee)) = of_this else { return 0 };
	if channel.is_outbound { (amount + fee + ANCHORS_SAT).min(channel.channel_value_sats) } else { amount }
}

fn channel(channel: &ChannelDetails, balances: &[LightningBalance]) -> Value {
	json!({
		"own_sat": own_sat(channel, balances),
		"channel_id": channel.channel_id.to_string(),
		"user_channel_id": channel.user_channel_id.0.to_string(),
		"peer": channel.counterparty_node_id.to_string(),
		"funding": channel.funding_txo.map(|outpoint| outpoint.to_string()),
		"short_channel_id": channel.short_channel_id,
		"value_sat": channel.channel_value_sats,
		"outbound_msat": channel.outbound_capacity_msat,
		"inbound_msat": channel.inbound_capacity_msat,
		"next_outbound_limit_msat": channel.next_outbound_htlc_limit_msat,
		"reserve_sat": channel.unspendable_punishment_reserve,
		"confirmations": channel.confirmations,
		"outbound": channel.is_outbound,
		"announced": channel.is_announced,
		"ready": channel.is_channel_ready,
		"usable": channel.is_usable,
	})
}

/// Everything it owns: on chain, in channels, and on its way out of closed ones.
pub fn balances(node: &Node) -> Value {
	let balances = node.list_balances();
	json!({
		"onchain_sat": balances.total_onchain_balance_sats,
		"spendable_onchain_sat": balances.spendable_onchain_balance_sats,
		"anchor_reserve_sat": balances.total_anchor_channels_reserve_sats,
		"lightning_sat": balances.total_lightning_balance_sats,
		"lightning": balances.lightning_balances.iter().map(|b| format!("{b:?}")).collect::<Vec<_>>(),
		"closing": balances.pending_balances_from_channel_closures.iter().map(|b| format!("{b:?}")).collect::<Vec<_>>(),
	})
}

/// A payment, sent or received.
pub fn payment(payment: &PaymentDetails) -> Value {
	let (kind, hash, skimmed_fee_msat) = match &payment.kind {
		PaymentKind::Onchain { txid, .. } => ("onchain", Some(txid.to_string()), None),
		PaymentKind::Bolt11 { hash, .. } => ("bolt11", Some(hash.to_string()), None),
		PaymentKind::Bolt11Jit { hash, counterparty_skimmed_fee_msat, .. } => {
			("bolt11_jit", Some(hash.to_string()), *counterparty_skimmed_fee_msat)
		}
		PaymentKind::Bolt12Offer { hash, .. } => ("bolt12", hash.map(|hash| hash.to_string()), None),
		PaymentKind::Bolt12Refund { hash, .. } => ("refund", hash.map(|hash| hash.to_string()), None),
		PaymentKind::Spontaneous { hash, .. } => ("spontaneous", Some(hash.to_string()), None),
	};
	json!({
		"payment_id": payment.id.to_string(),
		"kind": kind,
		"hash": hash,
		"amount_msat": payment.amount_msat,
		"fee_msat": payment.fee_paid_msat,
		"skimmed_fee_msat": skimmed_fee_msat,
		"direction": match payment.direction {
			PaymentDirection::Inbound => "in",
			PaymentDirection::Outbound => "out",
		},
		"status": match payment.status {
			PaymentStatus::Pending => "pending",
			PaymentStatus::Succeeded => "succeeded",
			PaymentStatus::Failed => "failed",
		},
	})
}

/// An LSPS1 order as the LSP tells it, with the names of bLIP-51. (ldk-node does not pass the order's state on.)
pub fn order(order: &LSPS1OrderStatus) -> Value {
	json!({
		"order_id": order.order_id.0,
		"params": order.order_params,
		"payment": order.payment_options,
		"channel": order.channel_state,
	})
}
