//! `lsps2.get_info` and `lsps2.buy`.

use crate::admission::{self, Refusal};
use crate::book::{NodeId, Sale, SaleState, Terms};
use crate::money::{FeePerKw, Msat, Sat};
use crate::promise;
use crate::protocol::lsps0::RpcError;
use crate::protocol::lsps2::{self, Buy, GetInfo};
use crate::quote;
use crate::trust;
use crate::turn::Turn;
use serde_json::Value;

/// `lsps2.get_info`: one entry, or none when nothing can be sold now.
pub(crate) fn get_info(turn: &Turn<'_>, peer: NodeId, call: &GetInfo) -> Result<Value, RpcError> {
	let tokens = &turn.policy().lsps2.tokens;
	let known = match &call.token {
		Some(token) => tokens.contains(token),
		None => tokens.is_empty(),
	};
	if !known {
		return Err(lsps2::unrecognized_token());
	}
	let entries = match trust::admit(turn, &peer).and_then(|()| offer(turn)) {
		Ok(terms) => {
			let promise = promise::make(&turn.lsp.promise_key, &peer, &terms);
			vec![(terms, promise)]
		}
		Err(_) => Vec::new(),
	};
	Ok(lsps2::menu(&entries))
}

/// What we offer now.
fn offer(turn: &Turn<'_>) -> Result<Terms, Refusal> {
	let policy = turn.policy();
	let feerate = admission::feerate(policy, turn.world)?;
	let free = turn.free_funds(Sat::ZERO);
	let limit = policy.risk.max_channel_sat;
	let smallest = policy.lsps2.min_payment_sat;
	let too_much = || Refusal::Funds { needed: funding_for(turn, feerate, smallest).unwrap_or(limit), free };
	let max_payment = quote::largest_payment(policy, feerate, free, limit).ok_or_else(too_much)?;
	let min_payment = smallest.to_msat().ok_or_else(too_much)?;
	let price = quote::jit(policy, feerate, min_payment).ok_or_else(too_much)?;
	Ok(Terms {
		min_fee: price.min_fee,
		proportional: price.proportional_ppm.0,
		valid_until: turn.now.plus_secs(policy.lsps2.promise_secs),
		min_lifetime: policy.lsps2.min_lifetime_blocks,
		max_client_to_self_delay: policy.lsps2.max_client_to_self_delay,
		min_payment,
		max_payment: max_payment.to_msat().ok_or_else(too_much)?,
	})
}

fn funding_for(turn: &Turn<'_>, feerate: FeePerKw, payment: Sat) -> Option<Sat> {
	let capacity = quote::jit_capacity(turn.policy(), feerate, payment.to_msat()?, 0)?;
	Some(quote::funding_need(feerate, capacity))
}

/// `lsps2.buy`: the sale is written, then the SCID goes out.
pub(crate) fn buy(turn: &mut Turn<'_>, peer: NodeId, call: &Buy) -> Result<Value, RpcError> {
	let terms = &call.terms;
	if !promise::is_ours(&turn.lsp.promise_key, &peer, terms, &call.promise) {
		return Err(lsps2::invalid_opening_fee_params("we did not promise this"));
	}
	if turn.now >= terms.valid_until {
		return Err(lsps2::invalid_opening_fee_params("valid_until has passed"));
	}
	let fee = call.payment_size.map(|size| fee_of(terms, size)).transpose()?;
	admission::one_more_sale(turn, &peer).map_err(|refusal| RpcError::rejected(&refusal.to_string()))?;
	let reserved = reserve(turn, call)?;
	let scid = turn.world.fresh_scid;
	let id = sale_id(turn.random("sale"));
	if turn.book.has_scid(scid) || turn.book.sale(&id).is_some() {
		return Err(RpcError::rejected("no free SCID, please try again"));
	}
	let mut sale = Sale {
		id,
		client: peer,
		scid,
		user_channel_id: u128::from_be_bytes(turn.random("channel")),
		earlier_channel_ids: Vec::new(),
		terms: terms.clone(),
		client_trusts: trust::client_trusts(turn, &peer),
		payment_size: call.payment_size,
		fee,
		reserved,
		state: SaleState::Bought,
		parts: Vec::new(),
		forwarded: Vec::new(),
		credited: Vec::new(),
		discarding: Vec::new(),
		paying: None,
		claim_by: None,
		overdue_since: None,
		fee_credited: Msat::ZERO,
		channel: None,
		created_at: turn.now,
		history: Vec::new(),
	};
	sale.note(turn.now, "buy", describe(&sale));
	let answer = lsps2::bought(scid, turn.policy().lsps2.cltv_expiry_delta, sale.client_trusts);
	turn.put_client(turn.client(&peer));
	turn.put_sale(sale);
	Ok(answer)
}

/// The opening fee of a payment of fixed size (L2-11 to L2-13).
fn fee_of(terms: &Terms, size: Msat) -> Result<Msat, RpcError> {
	if size < terms.min_payment {
		return Err(lsps2::payment_size_too_small(&format!("below the minimum of {}", terms.min_payment)));
	}
	if size > terms.max_payment {
		return Err(lsps2::payment_size_too_large(&format!("above the maximum of {}", terms.max_payment)));
	}
	let fee = quote::opening_fee(terms.min_fee, terms.proportional, size)
		.ok_or_else(|| lsps2::payment_size_too_large("the opening fee overflows"))?;
	if fee >= size {
		return Err(lsps2::payment_size_too_small(&format!("the opening fee would be {fee}")));
	}
	Ok(fee)
}

/// What is kept for the sale: for a payment of unknown size, the smallest channel.
fn reserve(turn: &Turn<'_>, call: &Buy) -> Result<Sat, RpcError> {
	let policy = turn.policy();
	let feerate = admission::feerate(policy, turn.world).map_err(|refusal| RpcError::rejected(&refusal.to_string()))?;
	let size = call.payment_size.unwrap_or(call.terms.min_payment);
	let capacity = quote::jit_capacity(policy, feerate, size, 0)
		.ok_or_else(|| lsps2::payment_size_too_large("the channel's capacity overflows"))?;
	let funding = admission::funding(turn, feerate, capacity, Sat::ZERO);
	funding.map_err(|refusal| lsps2::payment_size_too_large(&refusal.to_string()))
}

fn describe(sale: &Sale) -> String {
	let size = match (sale.payment_size, sale.fee) {
		(Some(size), Some(fee)) => format!("{size} expected, fee {fee}"),
		_ => format!("any amount expected, fee {} or {} ppm", sale.terms.min_fee, sale.terms.proportional),
	};
	let trust = if sale.client_trusts { "the client trusts us" } else { "we trust the client" };
	format!("{size} · scid {} · {} reserved · {trust}", lsps2::scid_text(sale.scid), sale.reserved)
}

/// `s_` and 12 characters of 5 random bits each: digits and letters that are not mistaken for each other.
fn sale_id(random: [u8; 16]) -> String {
	const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
	let letter = |byte: &u8| char::from(ALPHABET[usize::from(byte & 31)]);
	std::iter::once('s').chain(['_']).chain(random.iter().take(12).map(letter)).collect()
}
