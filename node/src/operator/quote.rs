//! What a channel would cost now, term by term, for the operator.

use super::channels::no_feerate;
use super::{Operator, node_id};
use crate::control::*;
use crate::driver::now;
use inlet_lsp::admission;
use inlet_lsp::money::{FeePerKw, Msat, Sat};
use inlet_lsp::policy::{LOWEST, Policy};
use inlet_lsp::quote::{self, Basis};
use inlet_lsp::tiers::{self, Standing};

impl Operator {
	pub(super) fn price(&self, request: &QuoteRequest) -> Result<Quote, Refusal> {
		let live = match request.feerate_sat_per_kw {
			Some(feerate) => FeePerKw(feerate).max(FeePerKw::FLOOR),
			None => self.hands.fees.fresh().ok_or_else(no_feerate)?,
		};
		let policy = &self.config.policy;
		let standing = self.standing(request)?;
		let too_large =
			|| Refusal::invalid("too_large", format!("{} sat is more than there is", request.size_sat), "ask for less");
		let size = Sat(request.size_sat);
		let mut market = self.hands.fees.market();
		if request.feerate_sat_per_kw.is_some() {
			// As if: the backend's estimates for other targets do not go with it.
			market.by_blocks.clear();
		}
		let (price, calm_secs, order) = match request.kind {
			QuoteKind::Jit => {
				let payment = size.to_msat().ok_or_else(too_large)?;
				let basis = Basis::new(policy, &standing, &market, live, live);
				(basis.jit(payment), policy.lsps2.promise_secs, None)
			}
			QuoteKind::Order => {
				let lease = request.channel_expiry_blocks.unwrap_or(policy.lsps1.max_channel_expiry_blocks);
				let within =
					request.funding_confirms_within_blocks.unwrap_or(policy.lsps1.min_funding_confirms_within_blocks);
				let basis = Basis::new(policy, &standing, &market, live, market.within(live, within));
				let price = basis.order(size, Sat(request.client_balance_sat), lease);
				(price, policy.lsps1.payment_window_secs, Some(Asked { lease, within }))
			}
		};
		let price = price.ok_or_else(too_large)?;
		let holds = market.validity(calm_secs, policy.lsps2.min_promise_secs);
		Ok(Quote {
			kind: request.kind,
			size_sat: request.size_sat,
			tier: standing.tier.clone(),
			capacity_sat: price.capacity.0,
			feerate_sat_per_kw: price.feerate.0,
			long_run_feerate_sat_per_kw: price.long_run.0,
			cost_sat: price.cost.0,
			fee_msat: price.fee.0,
			min_fee_msat: price.min_fee.0,
			proportional_ppm: price.proportional_ppm.0,
			rule: rule(request.kind, &price),
			terms: terms(policy, &standing, &price, order.as_ref()),
			valid_until: now().plus_secs(holds).into(),
			not_sold_because: self.refusal(request, live, &price, &standing, order.as_ref()),
		})
	}

	/// Whom the price is for.
	fn standing(&self, request: &QuoteRequest) -> Result<Standing, Refusal> {
		let policy = &self.config.policy;
		if let Some(client) = &request.client {
			let id = node_id(&self.client_detail(client)?.client.node_id)?;
			return Ok(self.driver.read(|book| tiers::standing(policy, book, &id, now())));
		}
		let name = request.tier.as_deref().unwrap_or(LOWEST);
		self.known_tier(Some(name))?;
		tiers::standing_of_tier(policy, name).ok_or_else(|| Refusal::internal("a tier that is there is not"))
	}

	/// Which limit stands against selling this now.
	fn refusal(
		&self,
		request: &QuoteRequest,
		live: FeePerKw,
		price: &quote::Quote,
		standing: &Standing,
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
		if let Err(refusal) = admission::at_ceilings(policy, live, order.map_or(1, |order| order.within)) {
			return Some(refusal.to_string());
		}
		if let Some(limit) = outside(policy, standing, request, price, order) {
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
fn outside(
	policy: &Policy,
	standing: &Standing,
	request: &QuoteRequest,
	price: &quote::Quote,
	order: Option<&Asked>,
) -> Option<String> {
	let size = Sat(request.size_sat);
	let within = |what: &str, amount: Sat, least: Sat, most: Sat| {
		let fits = (least..=most).contains(&amount);
		(!fits).then(|| format!("{what} of {amount} is outside the limits of {least} to {most}"))
	};
	let (capacity, ceiling) = (price.capacity, standing.max_channel);
	let Some(order) = order else {
		let least = price.min_fee.to_sat_ceil().saturating_add(Sat(1)).max(policy.lsps2.min_payment_sat);
		return within("a payment", size, least, standing.max_payment)
			.or_else(|| within("a channel", capacity, Sat(0), ceiling));
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

/// How the fee follows from its terms: just in time the larger of two (bLIP-52), of an order their sum.
fn rule(kind: QuoteKind, price: &quote::Quote) -> String {
	let (least, ppm) = (price.min_fee.to_sat_ceil(), price.proportional_ppm.0);
	match kind {
		QuoteKind::Jit => format!("{least}, or {ppm} ppm of the payment if that is more"),
		QuoteKind::Order => "cost and proportional, and no less than the floor".to_owned(),
	}
}

/// What cost and fee are made of.
fn terms(policy: &Policy, standing: &Standing, price: &quote::Quote, order: Option<&Asked>) -> Vec<QuoteTerm> {
	let (vb, far) = (price.feerate.to_sat_per_vb_ceil(), price.long_run.to_sat_per_vb_ceil());
	let term = |name: &str, amount: Msat, how: String| QuoteTerm { name: name.to_owned(), amount_msat: amount.0, how };
	let sat = |name: &str, amount: Sat, how: String| term(name, Msat(amount.0.saturating_mul(1000)), how);
	let close = format!(
		"{} ppm of a close at {far} sat/vB, {} ppm of them by force",
		price.close_share_ppm.0, policy.price.forced_close_ppm.0
	);
	let rate = policy.price.capital_ppm_per_year.0;
	let capital = format!("{rate} ppm a year of our part, for {} blocks", price.capital_blocks);
	let mut terms = vec![
		sat("open", price.opening, format!("{} weight units at {vb} sat/vB", quote::FUNDING_WEIGHT)),
		sat("close", price.close_share, close),
		sat("capital", price.capital, capital),
		sat("risk", price.risk, format!("{} ppm of these, for tier {}", price.risk_ppm.0, standing.tier)),
	];
	let ppm = price.proportional_ppm.0;
	match order {
		Some(order) if order.lease > quote::LEASE_BLOCKS => {
			let how = format!("{ppm} ppm of the capacity for each {} of {} blocks", quote::LEASE_BLOCKS, order.lease);
			terms.push(term("proportional", price.proportional, how));
		}
		Some(_) => terms.push(term("proportional", price.proportional, format!("{ppm} ppm of the capacity"))),
		None => {
			let own = standing.proportional(policy.price.jit_ppm).0;
			let how = format!("{ppm} ppm of the payment: {own} for us, the rest for the capital that grows with it");
			terms.push(term("proportional", price.proportional, how));
			let least = "covers the cost up to where the proportional term does";
			terms.push(term("least", price.min_fee, least.to_owned()));
		}
	}
	terms.push(sat("floor", price.floor, "never less than this".to_owned()));
	terms
}
