//! bLIP-50 (LSPS0), bLIP-51 (LSPS1), bLIP-52 (LSPS2) and bLIP-55 (LSPS5): bytes in, typed request; typed reply, bytes
//! out.

mod fields;
pub mod lsps0;
pub mod lsps1;
pub mod lsps2;
pub mod lsps5;

use fields::Fields;
use lsps0::RpcError;
use serde_json::Value;

/// What a client can ask of us.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
	/// `lsps0.list_protocols`.
	ListProtocols,
	/// `lsps1.get_info`.
	Lsps1GetInfo,
	/// `lsps1.create_order`.
	CreateOrder(lsps1::CreateOrder),
	/// `lsps1.get_order`, with its `order_id`.
	GetOrder(String),
	/// `lsps2.get_info`.
	Lsps2GetInfo(lsps2::GetInfo),
	/// `lsps2.buy`.
	Buy(lsps2::Buy),
	/// `lsps5.set_webhook`.
	SetWebhook(lsps5::SetWebhook),
	/// `lsps5.list_webhooks`.
	ListWebhooks,
	/// `lsps5.remove_webhook`, with its `app_name`.
	RemoveWebhook(String),
}

/// Which protocols are offered, besides LSPS0. A method of one that is not offered is an unknown method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
	/// bLIP-51.
	pub lsps1: bool,
	/// bLIP-52.
	pub lsps2: bool,
	/// bLIP-55.
	pub lsps5: bool,
}

/// Every method that [`Call::read`] knows.
pub const METHODS: [&str; 9] = [
	"lsps0.list_protocols",
	"lsps1.get_info",
	"lsps1.create_order",
	"lsps1.get_order",
	"lsps2.get_info",
	"lsps2.buy",
	"lsps5.set_webhook",
	"lsps5.list_webhooks",
	"lsps5.remove_webhook",
];

impl Call {
	/// Reads a call, its parameters checked for their names and types.
	///
	/// # Errors
	/// -32601 for an unknown method (L0-10), -32602 for its parameters (L0-11 to L0-14, L1-16).
	pub fn read(request: &lsps0::Request, offered: Offered) -> Result<Call, RpcError> {
		let params = request.params.as_ref();
		match request.method.as_str() {
			"lsps0.list_protocols" => Fields::of(params, &[]).map(|_| Call::ListProtocols),
			"lsps1.get_info" if offered.lsps1 => Fields::of(params, &[]).map(|_| Call::Lsps1GetInfo),
			"lsps1.create_order" if offered.lsps1 => lsps1::CreateOrder::read(params).map(Call::CreateOrder),
			"lsps1.get_order" if offered.lsps1 => lsps1::read_get_order(params).map(Call::GetOrder),
			"lsps2.get_info" if offered.lsps2 => lsps2::GetInfo::read(params).map(Call::Lsps2GetInfo),
			"lsps2.buy" if offered.lsps2 => lsps2::Buy::read(params).map(Call::Buy),
			"lsps5.set_webhook" if offered.lsps5 => lsps5::SetWebhook::read(request).map(Call::SetWebhook),
			"lsps5.list_webhooks" if offered.lsps5 => Fields::of(params, &[]).map(|_| Call::ListWebhooks),
			"lsps5.remove_webhook" if offered.lsps5 => lsps5::read_remove_webhook(params).map(Call::RemoveWebhook),
			_ => Err(RpcError::method_not_found()),
		}
	}

	/// Was an optional parameter sent as `null`? Only LDK's client half does so (`"token": null`).
	pub fn speaks_like_ldk(request: &lsps0::Request) -> bool {
		request.params.as_ref().and_then(|params| params.get("token")).is_some_and(Value::is_null)
	}
}
