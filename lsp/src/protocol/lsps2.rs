//! bLIP-52: channels just in time.

use super::fields::Fields;
use super::lsps0::RpcError;
use crate::book::Terms;
use crate::money::Msat;
use serde_json::{Value, json};

/// The token is unknown, or one is needed.
pub const UNRECOGNIZED_TOKEN: i32 = 200;
/// We did not promise this, or it is over.
pub const INVALID_OPENING_FEE_PARAMS: i32 = 201;
/// The opening fee eats the payment, or the payment is below the minimum.
pub const PAYMENT_SIZE_TOO_SMALL: i32 = 202;
/// Overflow, above the maximum, or more than we can serve now.
pub const PAYMENT_SIZE_TOO_LARGE: i32 = 203;

/// The longest promise (L2-5).
pub const MAX_PROMISE: usize = 512;

/// `lsps2.get_info`.
#[derive(Clone, Debug, PartialEq)]
pub struct GetInfo {
	/// `None` if absent, null or empty.
	pub token: Option<String>,
}

impl GetInfo {
	pub(super) fn read(params: Option<&Value>) -> Result<GetInfo, RpcError> {
		let fields = Fields::of(params, &["token"])?;
		let token = fields.optional_string("token")?.filter(|token| !token.is_empty());
		Ok(GetInfo { token: token.map(str::to_string) })
	}
}

/// `lsps2.buy`.
#[derive(Clone, Debug, PartialEq)]
pub struct Buy {
	/// What the client says that we promised.
	pub terms: Terms,
	/// Its proof.
	pub promise: String,
	/// The size of the payment; absent for an invoice without amount.
	pub payment_size: Option<Msat>,
}

const TERMS: [&str; 8] = [
	"min_fee_msat",
	"proportional",
	"valid_until",
	"min_lifetime",
	"max_client_to_self_delay",
	"min_payment_size_msat",
	"max_payment_size_msat",
	"promise",
];

impl Buy {
	pub(super) fn read(params: Option<&Value>) -> Result<Buy, RpcError> {
		let fields = Fields::of(params, &["opening_fee_params", "payment_size_msat"])?;
		let terms = fields.object("opening_fee_params", "opening_fee_params.", &TERMS)?;
		let promise = terms.string("promise")?;
		if promise.len() > MAX_PROMISE {
			return Err(terms.invalid("promise", "longer than 512 bytes"));
		}
		Ok(Buy {
			terms: Terms {
				min_fee: Msat(terms.amount("min_fee_msat")?),
				proportional: terms.integer("proportional")?,
				valid_until: terms.datetime("valid_until")?,
				min_lifetime: terms.integer("min_lifetime")?,
				max_client_to_self_delay: terms.integer("max_client_to_self_delay")?,
				min_payment: Msat(terms.amount("min_payment_size_msat")?),
				max_payment: Msat(terms.amount("max_payment_size_msat")?),
			},
			promise: promise.to_string(),
			payment_size: fields.optional_amount("payment_size_msat")?.map(Msat),
		})
	}
}

/// The result of `lsps2.get_info`: a menu of terms and their promises, cheapest first (L2-4).
pub fn menu(entries: &[(Terms, String)]) -> Value {
	let entry = |(terms, promise): &(Terms, String)| {
		json!({
			"min_fee_msat": terms.min_fee.0.to_string(),
			"proportional": terms.proportional,
			"valid_until": terms.valid_until.to_string(),
			"min_lifetime": terms.min_lifetime,
			"max_client_to_self_delay": terms.max_client_to_self_delay,
			"min_payment_size_msat": terms.min_payment.0.to_string(),
			"max_payment_size_msat": terms.max_payment.0.to_string(),
			"promise": promise,
		})
	};
	json!({"opening_fee_params_menu": entries.iter().map(entry).collect::<Vec<_>>()})
}

/// The result of `lsps2.buy`. With `client_trusts_lsp` (L2-30) the client has to take the payment before the funding
/// transaction is broadcast.
pub fn bought(scid: u64, cltv_expiry_delta: u32, client_trusts_lsp: bool) -> Value {
	json!({
		"jit_channel_scid": scid_text(scid),
		"lsp_cltv_expiry_delta": cltv_expiry_delta,
		"client_trusts_lsp": client_trusts_lsp,
	})
}

/// `BLOCKxTXxOUTPUT` (bLIP-50).
pub fn scid_text(scid: u64) -> String {
	format!("{}x{}x{}", scid >> 40, (scid >> 16) & 0xff_ffff, scid & 0xffff)
}

/// 200.
pub fn unrecognized_token() -> RpcError {
	RpcError::new(UNRECOGNIZED_TOKEN, "Unrecognized or stale token", json!({}))
}

/// 201.
pub fn invalid_opening_fee_params(why: &str) -> RpcError {
	RpcError::new(INVALID_OPENING_FEE_PARAMS, "Invalid opening fee params", json!({"message": why}))
}

/// 202.
pub fn payment_size_too_small(why: &str) -> RpcError {
	RpcError::new(PAYMENT_SIZE_TOO_SMALL, "Payment size too small", json!({"message": why}))
}

/// 203.
pub fn payment_size_too_large(why: &str) -> RpcError {
	RpcError::new(PAYMENT_SIZE_TOO_LARGE, "Payment size too large", json!({"message": why}))
}
