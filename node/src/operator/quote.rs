//! What a channel would cost now, term by term, for the operator.

use super::Operator;
use super::channels::no_feerate;
use crate::control::*;
use crate::driver::now;
use inlet_lsp::money::Sat;
use inlet_lsp::quote;

impl Operator {
	pub(super) fn price(&self, request: &QuoteRequest) -> Result<Quote, Refusal> {
		let live = self.hands.fees.fresh().ok_or_else(no_feerate)?;
		let policy = &self.config.policy;
		let too_large =
			|| Refusal::invalid("too_large", format!("{} sat is more than there is", request.size_sat), "ask for less");
		let size = Sat(request.size_sat);
		let (price, valid_secs) = match request.kind {
			QuoteKind::Jit => {
				let payment = size.to_msat().ok_or_else(too_large)?;
				(quote::jit(policy, live, payment), policy.lsps2.promise_secs)
			}
			QuoteKind::Order => {
				let capacity = size.checked_add(Sat(request.client_balance_sat)).ok_or_else(too_large)?;
				let lease = request.channel_expiry_blocks.unwrap_or(policy.lsps1.max_channel_expiry_blocks);
				let within =
					request.funding_confirms_within_blocks.unwrap_or(policy.lsps1.min_funding_confirms_within_blocks);
				let feerate = quote::order_feerate(live, within);
				(quote::order(policy, feerate, capacity, lease), policy.lsps1.payment_window_secs)
			}
		};
		let price = price.ok_or_else(too_large)?;
		Ok(Quote {
			kind: request.kind,
			size_sat: request.size_sat,
			capacity_sat: price.capacity.0,
			feerate_sat_per_kw: price.feerate.0,
			fee_msat: price.fee.0,
			terms: terms(&price),
			valid_until: now().plus_secs(valid_secs).into(),
			not_sold_because: self.refusal(request, &price),
		})
	}

	/// Which limit stands against selling this now.
	fn refusal(&self, request: &QuoteRequest, price: &quote::Quote) -> Option<String> {
		let policy = &self.config.policy;
		let enabled = match request.kind {
			QuoteKind::Jit => policy.lsps2.enabled,
			QuoteKind::Order => policy.lsps1.enabled,
		};
		if !enabled {
			return Some("it is switched off in the config".to_owned());
		}
		if !self.hands.tip.borrow().synced {
			return Some("the chain view is not current".to_owned());
		}
		let (vb, ceiling) = (price.feerate.to_sat_per_vb_ceil(), policy.risk.max_feerate_sat_per_vb);
		if vb > ceiling {
			return Some(format!("feerate {vb} sat/vB is above the ceiling of {ceiling}"));
		}
		let (least, most) = match request.kind {
			QuoteKind::Jit => (policy.lsps2.min_payment_sat.0, policy.lsps2.max_payment_sat.0),
			QuoteKind::Order => (policy.lsps1.min_lsp_balance_sat.0, policy.lsps1.max_lsp_balance_sat.0),
		};
		if request.size_sat < least || request.size_sat > most {
			return Some(format!("{} sat is outside the limits of {least} to {most} sat", request.size_sat));
		}
		let (need, free) = (quote::funding_need(price.feerate, price.capacity).0, self.free().to_sat());
		(need > free).then(|| format!("it takes {need} sat and {free} sat are free"))
	}
}

fn terms(price: &quote::Quote) -> Vec<QuoteTerm> {
	let vb = price.feerate.to_sat_per_vb_ceil();
	let sat = |name: &str, amount: Sat, how: String| QuoteTerm {
		name: name.to_owned(),
		amount_msat: amount.0.saturating_mul(1000),
		how,
	};
	vec![
		sat(
			"open",
			price.opening,
			format!("a funding transaction of {} weight units at {vb} sat/vB", quote::FUNDING_WEIGHT),
		),
		sat("close", price.close_share, format!("{} ppm of a close at {vb} sat/vB", price.close_share_ppm.0)),
		QuoteTerm {
			name: "proportional".to_owned(),
			amount_msat: price.proportional.0,
			how: format!("{} ppm", price.proportional_ppm.0),
		},
		sat("floor", price.floor, "never less than this".to_owned()),
	]
}
