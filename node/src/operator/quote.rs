//! What a channel would cost now, term by term, for the operator.

use super::Operator;
use super::channels::no_feerate;
use crate::control::*;
use crate::driver::now;
use inlet_lsp::money::{FeePerKw, Sat};
use inlet_lsp::policy::Policy;
use inlet_lsp::quote;

impl Operator {
	pub(super) fn price(&self, request: &QuoteRequest) -> Result<Quote, Refusal> {
		let live = self.hands.fees.fresh().ok_or_else(no_feerate)?;
		let policy = &self.config.policy;
		let too_large =
			|| Refusal::invalid("too_large", format!("{} sat is more than there is", request.size_sat), "ask for less");
		let size = Sat(request.size_sat);
		let (price, valid_secs, order) = match request.kind {
			QuoteKind::Jit => {
				let payment = size.to_msat().ok_or_else(too_large)?;
				(quote::jit(policy, live, payment), policy.lsps2.promise_secs, None)
			}
			QuoteKind::Order => {
				let capacity = size.checked_add(Sat(request.client_balance_sat)).ok_or_else(too_large)?;
				let lease = request.channel_expiry_blocks.unwrap_or(policy.lsps1.max_channel_expiry_blocks);
				let within =
					request.funding_confirms_within_blocks.unwrap_or(policy.lsps1.min_funding_confirms_within_blocks);
				let feerate = quote::order_feerate(live, within);
				let price = quote::order(policy, feerate, capacity, lease);
				(price, policy.lsps1.payment_window_secs, Some(Asked { lease, within }))
			}
		};
		let price = price.ok_or_else(too_large)?;
		Ok(Quote {
			kind: request.kind,
			size_sat: request.size_sat,
			capacity_sat: price.capacity.0,
			feerate_sat_per_kw: price.feerate.0,
			fee_msat: price.fee.0,
			terms: terms(&price, order.as_ref()),
			valid_until: now().plus_secs(valid_secs).into(),
			not_sold_because: self.refusal(request, live, &price, order.as_ref()),
		})
	}

	/// Which limit stands against selling this now.
	fn refusal(
		&self,
		request: &QuoteRequest,
		live: FeePerKw,
		price: &quote::Quote,
		order: Option<&Asked>,
	) -> Option<String> {
		let policy = &self.config.policy;
		let enabled = match request.kind {
			QuoteKind::Jit => policy.lsps2.enabled,
			QuoteKind::Order => policy.lsps1.enabled,
		};
		if !enabled {
			return Some("it is switched off in the config".to_owned());
		}
		let tip = self.hands.tip.borrow().clone();
		if !tip.synced {
			let why = tip.error.map_or_else(String::new, |error| format!(": {error}"));
			return Some(format!("the chain view is not current{why}"));
		}
		let (vb, ceiling) = (live.to_sat_per_vb_ceil(), policy.risk.max_feerate_sat_per_vb);
		if u64::from(live.0) > ceiling.saturating_mul(250) {
			return Some(format!("feerate {vb} sat/vB is above the ceiling of {ceiling}"));
		}
		if let Some(limit) = outside(policy, request, price.capacity, order) {
			return Some(limit);
		}
		let (need, free) = (quote::funding_need(price.feerate, price.capacity).0, self.free().to_sat());
		(need > free).then(|| format!("it takes {need} sat and {free} sat are free"))
	}
}

/// What an order asks for, the defaults filled in.
struct Asked {
	lease: u32,
	within: u16,
}

/// The first of the configured limits that the request is outside of.
fn outside(policy: &Policy, request: &QuoteRequest, capacity: Sat, order: Option<&Asked>) -> Option<String> {
	let size = Sat(request.size_sat);
	let within = |what: &str, amount: Sat, least: Sat, most: Sat| {
		let fits = (least..=most).contains(&amount);
		(!fits).then(|| format!("{what} of {amount} sat is outside the limits of {least} to {most} sat"))
	};
	let ceiling = policy.risk.max_channel_sat;
	let Some(order) = order else {
		let (own, none) = (&policy.lsps2, Sat(0));
		return within("a payment", size, own.min_payment_sat, own.max_payment_sat)
			.or_else(|| within("a channel", capacity, none, ceiling));
	};
	let own = &policy.lsps1;
	let client = Sat(request.client_balance_sat);
	within("a balance on our side", size, own.min_lsp_balance_sat, own.max_lsp_balance_sat)
		.or_else(|| within("a balance on the client's side", client, Sat(0), own.max_client_balance_sat))
		.or_else(|| within("a channel", capacity, own.min_channel_sat, own.max_channel_sat.min(ceiling)))
		.or_else(|| {
			let least = own.min_funding_confirms_within_blocks;
			(order.within < least)
				.then(|| format!("a funding within {} blocks is faster than the {least} on offer", order.within))
		})
		.or_else(|| {
			let most = own.max_channel_expiry_blocks;
			(order.lease > most)
				.then(|| format!("a lease of {} blocks is longer than the {most} on offer", order.lease))
		})
}

/// What the price is made of. That of a just-in-time channel is the larger of two terms (bLIP-52), that of an order a sum.
fn terms(price: &quote::Quote, order: Option<&Asked>) -> Vec<QuoteTerm> {
	let vb = price.feerate.to_sat_per_vb_ceil();
	let sat = |name: &str, amount: Sat, how: String| QuoteTerm {
		name: name.to_owned(),
		amount_msat: amount.0.saturating_mul(1000),
		how,
	};
	let ppm = price.proportional_ppm.0;
	let (proportional, floor) = match order {
		Some(Asked { lease, .. }) if *lease > quote::LEASE_BLOCKS => (
			format!("{ppm} ppm of the capacity for each {} of {lease} blocks; added", quote::LEASE_BLOCKS),
			"the sum is never less than this",
		),
		Some(_) => (format!("{ppm} ppm of the capacity; added"), "the sum is never less than this"),
		None => (
			format!("{ppm} ppm of the payment; the price is this or open and close, whichever is more"),
			"open and close together count as no less than this",
		),
	};
	vec![
		sat(
			"open",
			price.opening,
			format!("a funding transaction of {} weight units at {vb} sat/vB", quote::FUNDING_WEIGHT),
		),
		sat("close", price.close_share, format!("{} ppm of a close at {vb} sat/vB", price.close_share_ppm.0)),
		QuoteTerm { name: "proportional".to_owned(), amount_msat: price.proportional.0, how: proportional },
		sat("floor", price.floor, floor.to_owned()),
	]
}
