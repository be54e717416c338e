//! `lsps2.get_info` and `lsps2.buy`.

use super::HTLC_MINIMUM;
use crate::admission::{self, Refusal};
use crate::book::{NodeId, Sale, SaleState, Terms};
use crate::money::{Msat, Sat};
use crate::promise;
use crate::protocol::lsps0::RpcError;
use crate::protocol::lsps2::{self, Buy, GetInfo};
use crate::quote::{self, Basis};
use crate::tiers;
use crate::tokens;
use crate::trust;
use crate::turn::Turn;
use serde_json::Value;

/// `lsps2.get_info`: one entry, or none when nothing can be sold now.
pub(crate) fn get_info(turn: &mut Turn<'_>, peer: NodeId, call: &GetInfo) -> Result<Value, RpcError> {
	let own = &turn.policy().lsps2;
	let shown = tokens::check(turn, peer, &own.tokens, own.require_token, call.token.as_deref());
	shown.map_err(|_| lsps2::unrecognized_token())?;
	let admitted = tiers::admit(turn.policy(), turn.known_client(&peer).as_ref(), &peer);
	let entries = match admitted.and_then(|()| trust::admit(turn, &peer)).and_then(|()| offer(turn, &peer)) {
		Ok(terms) => {
			let promise = promise::make(&turn.lsp.promise_key, &peer, &terms);
			vec![(terms, promise)]
		}
		Err(_) => Vec::new(),
	};
	Ok(lsps2::menu(&entries))
}

/// What we offer this client now. Each payment in the range bears its fee, and no fee is below the cost (R7).
fn offer(turn: &Turn<'_>, peer: &NodeId) -> Result<Terms, Refusal> {
	let policy = turn.policy();
	admission::selling(turn.world)?;
	let live = admission::feerate(policy, turn.world)?;
	let standing = tiers::here(turn, peer);
	let basis = Basis::new(policy, &standing, &turn.world.market, live, live);
	let free = turn.free_funds(Sat::ZERO);
	let (limit, smallest) = (standing.max_channel, policy.lsps2.min_payment_sat);
	let too_much = || {
		let capacity = smallest.to_msat().and_then(|payment| basis.jit_capacity(payment, 0));
		Refusal::Funds { needed: capacity.map_or(limit, |capacity| quote::funding_need(live, capacity)), free }
	};
	let most = basis.largest_payment(free, limit).ok_or_else(too_much)?;
	let (low, high) = smallest.to_msat().zip(most.to_msat()).ok_or_else(too_much)?;
	let rate = basis.rate(low, high).ok_or_else(too_much)?;
	let min_payment = low.max(Msat(rate.min_fee.0.saturating_add(HTLC_MINIMUM.0)));
	if min_payment > high {
		return Err(Refusal::TooDear { fee: rate.min_fee, most });
	}
	let holds = turn.world.market.validity(policy.lsps2.promise_secs, policy.lsps2.min_promise_secs);
	Ok(Terms {
		min_fee: rate.min_fee,
		proportional: rate.proportional.0,
		valid_until: turn.now.plus_secs(holds),
		min_lifetime: policy.lsps2.min_lifetime_blocks,
		max_client_to_self_delay: policy.lsps2.max_client_to_self_delay,
		min_payment,
		max_payment: high,
	})
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
	let reserved = reserve(turn, &peer, call)?;
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
		expected_cost: Sat::ZERO,
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

/// What is kept for the sale: for a payment of unknown size, the smallest channel. A promise that the feerate has
/// overtaken is void, and the client is to ask for another menu.
fn reserve(turn: &Turn<'_>, peer: &NodeId, call: &Buy) -> Result<Sat, RpcError> {
	let rejected = |refusal: Refusal| RpcError::rejected(&refusal.to_string());
	let live = admission::live(turn.world).map_err(rejected)?;
	let standing = tiers::here(turn, peer);
	let basis = Basis::new(turn.policy(), &standing, &turn.world.market, live, live);
	let size = call.payment_size.unwrap_or(call.terms.min_payment);
	let capacity =
		basis.jit_capacity(size, 0).ok_or_else(|| lsps2::payment_size_too_large("the channel's capacity overflows"))?;
	let fee = quote::opening_fee(call.terms.min_fee, call.terms.proportional, size).unwrap_or(Msat(u64::MAX));
	let covered = basis.covers(fee, basis.jit_costs(capacity));
	covered.map_err(|refusal| lsps2::invalid_opening_fee_params(&refusal.to_string()))?;
	let funding = admission::funding(turn, live, capacity, Sat::ZERO, standing.max_channel);
	let reserved = funding.map_err(|refusal| lsps2::payment_size_too_large(&refusal.to_string()))?;
	admission::within_limits(turn, peer, capacity).map_err(rejected)?;
	Ok(reserved)
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
