//! What a sleeping client is told over its webhooks (bLIP-55).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A notification of bLIP-55. It carries no amount and no secret: whoever runs the webhook reads it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
	/// `lsps5.webhook_registered`: this webhook works; sent to the new webhook only.
	WebhookRegistered,
	/// `lsps5.payment_incoming`: a payment waits for the client.
	PaymentIncoming,
	/// `lsps5.expiry_soon`: a contract is near the point at which its channel has to be closed.
	ExpirySoon {
		/// The height at which it expires.
		timeout: u32,
	},
	/// `lsps5.liquidity_management_request`: we want to take liquidity back.
	LiquidityManagementRequest,
	/// `lsps5.onion_message_incoming`: an onion message waits for the client.
	OnionMessageIncoming,
}

impl Notice {
	/// Its JSON-RPC method.
	pub fn method(&self) -> &'static str {
		match self {
			Notice::WebhookRegistered => "lsps5.webhook_registered",
			Notice::PaymentIncoming => "lsps5.payment_incoming",
			Notice::ExpirySoon { .. } => "lsps5.expiry_soon",
			Notice::LiquidityManagementRequest => "lsps5.liquidity_management_request",
			Notice::OnionMessageIncoming => "lsps5.onion_message_incoming",
		}
	}

	/// The body of the HTTP request, byte for byte what is signed: a JSON-RPC 2.0 notification.
	pub fn body(&self) -> String {
		let params: Value = match self {
			Notice::ExpirySoon { timeout } => json!({ "timeout": timeout }),
			_ => json!({}),
		};
		json!({ "jsonrpc": "2.0", "method": self.method(), "params": params }).to_string()
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn l5_17_the_body_is_a_notification_with_named_parameters() {
		assert_eq!(
			Notice::ExpirySoon { timeout: 800_000 }.body(),
			r#"{"jsonrpc":"2.0","method":"lsps5.expiry_soon","params":{"timeout":800000}}"#
		);
		assert_eq!(
			Notice::PaymentIncoming.body(),
			r#"{"jsonrpc":"2.0","method":"lsps5.payment_incoming","params":{}}"#
		);
	}
}
