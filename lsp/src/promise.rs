//! The proof that a menu entry is ours, for this client and unchanged (bLIP-52's `promise`): nothing has to be kept
//! for those who only look.

use crate::book::{NodeId, Terms};
use bitcoin::hashes::cmp::fixed_time_eq;
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use bitcoin::hex::{DisplayHex, FromHex};

/// Keeps this use of the key apart from any other.
const TAG: &[u8] = b"inlet/lsps2/promise/1";

/// The promise of `terms` to `client`: 64 lower-case hexadecimal digits, a MAC over all seven fields and the client's
/// node id.
pub fn make(key: &[u8; 32], client: &NodeId, terms: &Terms) -> String {
	mac(key, client, terms).to_lower_hex_string()
}

/// Did we promise these `terms` to this `client`? Compared in constant time.
pub fn is_ours(key: &[u8; 32], client: &NodeId, terms: &Terms, promise: &str) -> bool {
	let Ok(given) = <[u8; 32]>::from_hex(promise) else { return false };
	fixed_time_eq(&given, &mac(key, client, terms))
}

fn mac(key: &[u8; 32], client: &NodeId, terms: &Terms) -> [u8; 32] {
	let mut engine = HmacEngine::<sha256::Hash>::new(key);
	// Every field has a fixed length: no two sets of terms give the same bytes.
	engine.input(TAG);
	engine.input(&client.serialize());
	engine.input(&terms.min_fee.0.to_be_bytes());
	engine.input(&terms.proportional.to_be_bytes());
	engine.input(&terms.valid_until.0.to_be_bytes());
	engine.input(&terms.min_lifetime.to_be_bytes());
	engine.input(&terms.max_client_to_self_delay.to_be_bytes());
	engine.input(&terms.min_payment.0.to_be_bytes());
	engine.input(&terms.max_payment.0.to_be_bytes());
	Hmac::<sha256::Hash>::from_engine(engine).to_byte_array()
}
