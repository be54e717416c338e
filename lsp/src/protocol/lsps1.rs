//! bLIP-51: channels on order.

use super::fields::Fields;
use super::lsps0::RpcError;
use crate::book::{Order, OrderState, PaymentState, SoldChannel};
use crate::money::Sat;
use crate::policy::Policy;
use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Network};
use serde_json::{Map, Value, json};
use std::str::FromStr;

/// The order is outside what `lsps1.get_info` offers.
pub const OPTION_MISMATCH: i32 = 100;
/// No such order of this client.
pub const NOT_FOUND: i32 = 101;
/// The token is unknown, or one is needed.
pub const UNRECOGNIZED_TOKEN: i32 = 102;

/// `lsps1.create_order`, types checked.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateOrder {
	/// Our side of the channel, at least 1 sat.
	pub lsp_balance: Sat,
	/// The client's side of the channel.
	pub client_balance: Sat,
	/// Confirmations before the channel is ready.
	pub required_channel_confirmations: u16,
	/// How soon the funding should be mined.
	pub funding_confirms_within_blocks: u16,
	/// The lease, at least 1 block.
	pub channel_expiry_blocks: u32,
	/// Empty if none.
	pub token: String,
	/// Where money goes back to; network and type are not checked yet.
	pub refund_onchain_address: Option<String>,
	/// Public?
	pub announce_channel: bool,
}

impl CreateOrder {
	const NAMES: [&'static str; 8] = [
		"lsp_balance_sat",
		"client_balance_sat",
		"required_channel_confirmations",
		"funding_confirms_within_blocks",
		"channel_expiry_blocks",
		"token",
		"refund_onchain_address",
		"announce_channel",
	];

	pub(super) fn read(params: Option<&Value>) -> Result<CreateOrder, RpcError> {
		let fields = Fields::of(params, &Self::NAMES)?;
		let order = CreateOrder {
			lsp_balance: Sat(fields.amount("lsp_balance_sat")?),
			client_balance: Sat(fields.amount("client_balance_sat")?),
			required_channel_confirmations: fields.integer("required_channel_confirmations")?,
			funding_confirms_within_blocks: fields.integer("funding_confirms_within_blocks")?,
			channel_expiry_blocks: fields.integer("channel_expiry_blocks")?,
			token: fields.optional_string("token")?.unwrap_or_default().to_string(),
			refund_onchain_address: fields.optional_string("refund_onchain_address")?.map(str::to_string),
			announce_channel: fields.boolean("announce_channel")?,
		};
		if order.lsp_balance == Sat::ZERO {
			return Err(fields.invalid("lsp_balance_sat", "must be 1 or greater"));
		}
		if order.channel_expiry_blocks == 0 {
			return Err(fields.invalid("channel_expiry_blocks", "must be 1 or greater"));
		}
		Ok(order)
	}

	/// The refund address, if it is a segwit address of this network (L0-19).
	///
	/// # Errors
	/// -32602 if it is not.
	pub fn refund_address(&self, network: Network) -> Result<Option<String>, RpcError> {
		let Some(text) = &self.refund_onchain_address else { return Ok(None) };
		let wrong = |message| RpcError::invalid("refund_onchain_address", message);
		let address = Address::<NetworkUnchecked>::from_str(text).map_err(|_| wrong("not an address"))?;
		let address = address.require_network(network).map_err(|_| wrong("an address of another network"))?;
		if address.witness_program().is_none() {
			return Err(wrong("not a segwit address"));
		}
		Ok(Some(text.clone()))
	}

	/// Checks the order against what `get_info` says (L1-15).
	///
	/// # Errors
	/// 100, naming the option.
	pub fn check_options(&self, policy: &Policy) -> Result<(), RpcError> {
		let own = &policy.lsps1;
		let wrong = |property: &str, message: String| {
			Err(RpcError::new(OPTION_MISMATCH, "Option mismatch", json!({"property": property, "message": message})))
		};
		let capacity = self.lsp_balance.checked_add(self.client_balance).unwrap_or(Sat(u64::MAX));
		let max_channel = max_channel(policy);
		if self.lsp_balance < own.min_lsp_balance_sat {
			return wrong("min_initial_lsp_balance_sat", format!("at least {}", own.min_lsp_balance_sat));
		}
		if self.lsp_balance > own.max_lsp_balance_sat {
			return wrong("max_initial_lsp_balance_sat", format!("at most {}", own.max_lsp_balance_sat));
		}
		if self.client_balance > own.max_client_balance_sat {
			return wrong("max_initial_client_balance_sat", format!("at most {}", own.max_client_balance_sat));
		}
		if capacity < own.min_channel_sat {
			return wrong("min_channel_balance_sat", format!("both sides together at least {}", own.min_channel_sat));
		}
		if capacity > max_channel {
			return wrong("max_channel_balance_sat", format!("both sides together at most {max_channel}"));
		}
		if self.required_channel_confirmations < own.min_required_channel_confirmations {
			let least = own.min_required_channel_confirmations;
			return wrong("min_required_channel_confirmations", format!("at least {least}"));
		}
		if self.funding_confirms_within_blocks < own.min_funding_confirms_within_blocks {
			let least = own.min_funding_confirms_within_blocks;
			return wrong("min_funding_confirms_within_blocks", format!("at least {least}"));
		}
		if self.channel_expiry_blocks > own.max_channel_expiry_blocks {
			return wrong("max_channel_expiry_blocks", format!("at most {}", own.max_channel_expiry_blocks));
		}
		Ok(())
	}
}

pub(super) fn read_get_order(params: Option<&Value>) -> Result<String, RpcError> {
	Ok(Fields::of(params, &["order_id"])?.string("order_id")?.to_string())
}

fn max_channel(policy: &Policy) -> Sat {
	policy.lsps1.max_channel_sat.min(policy.risk.max_channel_sat)
}

/// The result of `lsps1.get_info` (L1-1).
pub fn get_info(policy: &Policy) -> Value {
	let own = &policy.lsps1;
	json!({
		"min_required_channel_confirmations": own.min_required_channel_confirmations,
		"min_funding_confirms_within_blocks": own.min_funding_confirms_within_blocks,
		"supports_zero_channel_reserve": false,
		"max_channel_expiry_blocks": own.max_channel_expiry_blocks,
		"min_initial_client_balance_sat": "0",
		"max_initial_client_balance_sat": text(own.max_client_balance_sat),
		"min_initial_lsp_balance_sat": text(own.min_lsp_balance_sat),
		"max_initial_lsp_balance_sat": text(own.max_lsp_balance_sat),
		"min_channel_balance_sat": text(own.min_channel_sat),
		"max_channel_balance_sat": text(max_channel(policy)),
	})
}

/// 101.
pub fn not_found() -> RpcError {
	RpcError::new(NOT_FOUND, "Not found", json!({}))
}

/// 102.
pub fn unrecognized_token() -> RpcError {
	RpcError::new(UNRECOGNIZED_TOKEN, "Unrecognized or stale token", json!({}))
}

/// The result of `lsps1.create_order` and `lsps1.get_order`. With `for_ldk`, no token is `null`, as it was asked
/// (ldk-node takes `""` for another order than its own), and a held payment is shown as `PAID`: LDK's client half up to
/// lightning-liquidity 0.2 cannot parse `HOLD` and then ignores us until it reconnects.
pub fn order(order: &Order, for_ldk: bool) -> Value {
	let state = match order.state {
		OrderState::Preparing
		| OrderState::AwaitingPayment
		| OrderState::Paid { .. }
		| OrderState::Opening { .. }
		| OrderState::Abandoning { .. } => "CREATED",
		OrderState::Funded { .. } | OrderState::Completed => "COMPLETED",
		OrderState::Refunding { .. } | OrderState::Failed { .. } => "FAILED",
	};
	json!({
		"order_id": order.id,
		"lsp_balance_sat": text(order.lsp_balance),
		"client_balance_sat": text(order.client_balance),
		"required_channel_confirmations": order.required_channel_confirmations,
		"funding_confirms_within_blocks": order.funding_confirms_within_blocks,
		"channel_expiry_blocks": order.channel_expiry_blocks,
		"token": if for_ldk && order.token.is_empty() { Value::Null } else { json!(order.token) },
		"created_at": order.created_at.to_string(),
		"announce_channel": order.announce_channel,
		"order_state": state,
		"payment": payment(order, for_ldk),
		"channel": order.channel.as_ref().and_then(|sold| channel(order, sold)),
	})
}

fn payment(order: &Order, for_ldk: bool) -> Value {
	let option = |state: PaymentState| {
		let state = if for_ldk && state == PaymentState::Hold { PaymentState::Paid } else { state };
		let mut members = Map::new();
		members.insert("state".into(), json!(state));
		members.insert("expires_at".into(), order.expires_at.to_string().into());
		members.insert("fee_total_sat".into(), text(order.fee_total).into());
		members.insert("order_total_sat".into(), text(order.order_total).into());
		members
	};
	let mut options = Map::new();
	if let Some(lightning) = &order.lightning {
		let mut bolt11 = option(lightning.state);
		bolt11.insert("invoice".into(), lightning.invoice.clone().into());
		options.insert("bolt11".into(), bolt11.into());
	}
	if let Some(wallet) = &order.onchain {
		let mut onchain = option(wallet.state);
		onchain.insert("address".into(), wallet.address.clone().into());
		// Always 0 and a feerate: LDK's client half requires a number here (see the module `order`).
		onchain.insert("min_onchain_payment_confirmations".into(), 0.into());
		onchain.insert("min_fee_for_0conf".into(), wallet.min_fee_for_0conf.0.into());
		if let Some(address) = &order.refund_address {
			onchain.insert("refund_onchain_address".into(), address.clone().into());
		}
		options.insert("onchain".into(), onchain.into());
	}
	options.into()
}

fn channel(order: &Order, channel: &SoldChannel) -> Option<Value> {
	let (funded_at, funding) = (channel.funded_at?, channel.funding?);
	let expires_at = order.lease_ends_at()?;
	Some(json!({
		"funded_at": funded_at.to_string(),
		"funding_outpoint": funding.to_string(),
		"expires_at": expires_at.to_string(),
	}))
}

fn text(amount: Sat) -> String {
	amount.0.to_string()
}
