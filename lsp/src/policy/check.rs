//! A policy is checked once, when it is made.

use super::{
	CapitalPolicy, LOWEST, Lsps1Policy, Lsps2Policy, Lsps5Policy, MAX_COUNTED_PAYMENTS, MAX_TIERS, Policy, PricePolicy,
	RiskPolicy, Tier, Tiers,
};
use crate::money::Sat;
use crate::order::TOGETHER_SECS;

/// A key of the policy that cannot be, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct PolicyError {
	/// The key, with its section: `lsps2.promise_secs`.
	pub key: &'static str,
	/// What would be right.
	pub problem: String,
}

/// bLIP-52: a menu should hold for ten minutes.
const MIN_PROMISE_SECS: u64 = 600;
/// bLIP-52: parts are held for 90 seconds.
const MIN_GATHER_SECS: u64 = 90;
/// LDK refuses to forward with less between the two hops.
const MIN_CLTV_DELTA: u32 = 48;
/// bLIP-51: a payment with so many confirmations counts, whatever the LSP says.
const MAX_ONCHAIN_CONFIRMATIONS: u16 = 6;
/// Nobody accepts a longer delay, and BOLT 2 gives it 16 bits.
const MAX_TO_SELF_DELAY: u32 = 2016;
/// bLIP-55: webhooks are remembered for a week.
const MIN_RETENTION_DAYS: u32 = 7;
/// A client's row keeps as many offences.
const MAX_PER_CLIENT: u32 = 16;
/// More would make each decision slow.
const MAX_TRUSTED_CLIENTS: usize = 1_000;
/// A hundred years.
const MAX_KEEP_MONTHS: u32 = 1_200;
/// A held payment makes its payer wait.
const MAX_BATCH_WINDOW_SECS: u64 = 600;
/// 21 million bitcoin.
const ALL_SATS: Sat = Sat(2_100_000_000_000_000);

type Checked = Result<(), PolicyError>;

impl Policy {
	/// Is every limit possible, and every lower one below its upper one?
	///
	/// # Errors
	/// The first key that is not, and what would be right.
	pub fn check(&self) -> Checked {
		check_lsps1(&self.lsps1, &self.risk)?;
		check_lsps2(&self.lsps2)?;
		check_lsps5(&self.lsps5)?;
		check_capital(&self.capital)?;
		demand(self.ledger.keep_months <= MAX_KEEP_MONTHS, "ledger.keep_months", || {
			format!("must be at most {MAX_KEEP_MONTHS}, or 0 (for ever)")
		})?;
		check_sizes(self)?;
		check_price(&self.price)?;
		check_risk(&self.risk)?;
		check_tiers(&self.tier)
	}
}

fn demand(holds: bool, key: &'static str, problem: impl FnOnce() -> String) -> Checked {
	if holds { Ok(()) } else { Err(PolicyError { key, problem: problem() }) }
}

fn check_lsps1(own: &Lsps1Policy, risk: &RiskPolicy) -> Checked {
	demand(own.min_lsp_balance_sat >= Sat(1), "lsps1.min_lsp_balance_sat", || "must be 1 or more".to_string())?;
	demand(own.min_lsp_balance_sat <= own.max_lsp_balance_sat, "lsps1.min_lsp_balance_sat", || {
		format!("must not be above lsps1.max_lsp_balance_sat ({})", own.max_lsp_balance_sat)
	})?;
	demand(own.min_channel_sat <= own.max_channel_sat, "lsps1.min_channel_sat", || {
		format!("must not be above lsps1.max_channel_sat ({})", own.max_channel_sat)
	})?;
	demand(own.min_channel_sat <= risk.max_channel_sat, "lsps1.min_channel_sat", || {
		format!("must not be above risk.max_channel_sat ({})", risk.max_channel_sat)
	})?;
	demand(own.min_lsp_balance_sat <= own.max_channel_sat, "lsps1.min_lsp_balance_sat", || {
		format!("must not be above lsps1.max_channel_sat ({})", own.max_channel_sat)
	})?;
	demand(own.max_client_balance_sat <= ALL_SATS, "lsps1.max_client_balance_sat", || at_most(ALL_SATS))?;
	demand(own.max_channel_expiry_blocks >= 1, "lsps1.max_channel_expiry_blocks", || "must be 1 or more".to_string())?;
	demand(own.min_funding_confirms_within_blocks >= 1, "lsps1.min_funding_confirms_within_blocks", || {
		"must be 1 or more".to_string()
	})?;
	demand((60..=604_800).contains(&own.payment_window_secs), "lsps1.payment_window_secs", || {
		"must be from 60 (a minute) to 604800 (a week)".to_string()
	})?;
	demand(
		(1..=MAX_ONCHAIN_CONFIRMATIONS).contains(&own.onchain_confirmations),
		"lsps1.onchain_confirmations",
		|| format!("must be from 1 to {MAX_ONCHAIN_CONFIRMATIONS} (bLIP-51 counts a payment as confirmed by then)"),
	)?;
	demand((60..=86_400).contains(&own.open_window_secs), "lsps1.open_window_secs", || {
		"must be from 60 (a minute) to 86400 (a day)".to_string()
	})?;
	let longest = own.open_window_secs.saturating_sub(TOGETHER_SECS).min(MAX_BATCH_WINDOW_SECS);
	demand(own.batch_window_secs <= longest, "lsps1.batch_window_secs", || {
		format!(
			"must be at most {MAX_BATCH_WINDOW_SECS} (ten minutes), and {TOGETHER_SECS} below lsps1.open_window_secs ({}); 0 \
			opens each channel by itself",
			own.open_window_secs
		)
	})
}

fn check_lsps2(own: &Lsps2Policy) -> Checked {
	demand((MIN_PROMISE_SECS..=86_400).contains(&own.promise_secs), "lsps2.promise_secs", || {
		format!("must be from {MIN_PROMISE_SECS} (bLIP-52 asks for ten minutes) to 86400 (a day)")
	})?;
	demand((MIN_PROMISE_SECS..=own.promise_secs).contains(&own.min_promise_secs), "lsps2.min_promise_secs", || {
		format!("must be from {MIN_PROMISE_SECS} to lsps2.promise_secs ({})", own.promise_secs)
	})?;
	demand((MIN_GATHER_SECS..=3_600).contains(&own.gather_secs), "lsps2.gather_secs", || {
		format!("must be from {MIN_GATHER_SECS} (bLIP-52) to 3600 (an hour)")
	})?;
	demand((10..=600).contains(&own.open_secs), "lsps2.open_secs", || "must be from 10 to 600".to_string())?;
	demand((MIN_CLTV_DELTA..=2016).contains(&own.cltv_expiry_delta), "lsps2.cltv_expiry_delta", || {
		format!("must be from {MIN_CLTV_DELTA} (below that a forward is not safe) to 2016 (two weeks)")
	})?;
	demand(
		(144..=MAX_TO_SELF_DELAY).contains(&own.max_client_to_self_delay),
		"lsps2.max_client_to_self_delay",
		|| format!("must be from 144 (a day) to {MAX_TO_SELF_DELAY} (two weeks)"),
	)?;
	demand(own.min_payment_sat >= Sat(1), "lsps2.min_payment_sat", || "must be 1 or more".to_string())?;
	demand(own.min_payment_sat <= own.max_payment_sat, "lsps2.min_payment_sat", || {
		format!("must not be above lsps2.max_payment_sat ({})", own.max_payment_sat)
	})?;
	demand(own.headroom_ppm.0 <= 10_000_000, "lsps2.headroom_ppm", || {
		"must be at most 10000000 (ten times the payment)".to_string()
	})?;
	demand(own.growth_ppm.0 <= 1_000_000, "lsps2.growth_ppm", || "must be at most 1000000 (the payment)".to_string())?;
	demand(own.trusted_clients.len() <= MAX_TRUSTED_CLIENTS, "lsps2.trusted_clients", || {
		format!("must be at most {MAX_TRUSTED_CLIENTS} node ids")
	})
}

fn check_lsps5(own: &Lsps5Policy) -> Checked {
	demand((1..=100).contains(&own.max_webhooks), "lsps5.max_webhooks", || "must be from 1 to 100".to_string())?;
	demand((1..=600).contains(&own.hold_secs), "lsps5.hold_secs", || {
		"must be from 1 to 600 (ten minutes): the payer's money is held as long".to_string()
	})?;
	demand((1..=86_400).contains(&own.cooldown_secs), "lsps5.cooldown_secs", || {
		"must be from 1 to 86400 (a day)".to_string()
	})?;
	demand((MIN_RETENTION_DAYS..=3_650).contains(&own.retention_days), "lsps5.retention_days", || {
		format!("must be from {MIN_RETENTION_DAYS} (bLIP-55) to 3650 (ten years)")
	})?;
	demand(own.max_clients_without_channel <= 10_000, "lsps5.max_clients_without_channel", || {
		"must be at most 10000".to_string()
	})
}

fn check_sizes(policy: &Policy) -> Checked {
	let (own, risk) = (&policy.lsps2, &policy.risk);
	demand(risk.max_channel_sat <= ALL_SATS, "risk.max_channel_sat", || at_most(ALL_SATS))?;
	demand(own.max_payment_sat <= ALL_SATS, "lsps2.max_payment_sat", || at_most(ALL_SATS))?;
	demand(policy.lsps1.max_channel_sat <= ALL_SATS, "lsps1.max_channel_sat", || at_most(ALL_SATS))?;
	demand(policy.lsps1.max_lsp_balance_sat <= ALL_SATS, "lsps1.max_lsp_balance_sat", || at_most(ALL_SATS))?;
	demand(own.min_channel_sat <= risk.max_channel_sat, "lsps2.min_channel_sat", || {
		format!("must not be above risk.max_channel_sat ({})", risk.max_channel_sat)
	})
}

fn check_price(own: &PricePolicy) -> Checked {
	demand(own.floor_sat <= Sat(100_000_000), "price.floor_sat", || at_most(Sat(100_000_000)))?;
	for (ppm, key) in [(own.jit_ppm, "price.jit_ppm"), (own.order_ppm, "price.order_ppm")] {
		demand(ppm.0 < 1_000_000, key, || "must be below 1000000 (the whole amount)".to_string())?;
	}
	demand(own.forced_close_ppm.0 <= 1_000_000, "price.forced_close_ppm", || {
		"must be at most 1000000 (all)".to_string()
	})?;
	demand(own.capital_ppm_per_year.0 <= 1_000_000, "price.capital_ppm_per_year", || {
		"must be at most 1000000 (100 % a year)".to_string()
	})?;
	demand(own.close_share_ppm.0 <= 10_000_000, "price.close_share_ppm", || {
		"must be at most 10000000 (ten closes)".to_string()
	})
}

fn check_capital(own: &CapitalPolicy) -> Checked {
	demand((1..=1_000).contains(&own.stress_feerate_sat_per_vb), "capital.stress_feerate_sat_per_vb", || {
		"must be from 1 to 1000".to_string()
	})?;
	demand(own.stress_htlcs <= 100, "capital.stress_htlcs", || "must be at most 100".to_string())?;
	demand(own.spare_coins <= 1_000, "capital.spare_coins", || "must be at most 1000".to_string())?;
	demand(own.coins_feerate_sat_per_vb <= 1_000, "capital.coins_feerate_sat_per_vb", || {
		"must be at most 1000; 0 makes no coins".to_string()
	})?;
	demand(own.max_channels_per_hour >= 1, "capital.max_channels_per_hour", || "must be at least 1".to_string())?;
	demand(own.max_channels_per_day >= own.max_channels_per_hour, "capital.max_channels_per_day", || {
		format!("must not be below capital.max_channels_per_hour ({})", own.max_channels_per_hour)
	})?;
	demand((1..=1_000_000).contains(&own.max_wallet_share_ppm.0), "capital.max_wallet_share_ppm", || {
		"must be from 1 to 1000000 (all of it)".to_string()
	})
}

fn check_risk(own: &RiskPolicy) -> Checked {
	demand((1..=100_000).contains(&own.max_feerate_sat_per_vb), "risk.max_feerate_sat_per_vb", || {
		"must be from 1 to 100000".to_string()
	})?;
	demand((1..=100_000).contains(&own.patient_feerate_sat_per_vb), "risk.patient_feerate_sat_per_vb", || {
		"must be from 1 to 100000".to_string()
	})?;
	demand((6..=2_016).contains(&own.patient_blocks), "risk.patient_blocks", || "must be from 6 to 2016".to_string())?;
	demand(own.max_loss_sat <= Sat(100_000_000), "risk.max_loss_sat", || at_most(Sat(100_000_000)))?;
	demand((1..=100_000).contains(&own.max_open_total), "risk.max_open_total", || {
		"must be from 1 to 100000".to_string()
	})?;
	demand(own.max_open_sales_per_client <= own.max_open_total, "risk.max_open_sales_per_client", || {
		format!("must not be above risk.max_open_total ({})", own.max_open_total)
	})?;
	demand(own.max_open_orders_per_client <= own.max_open_total, "risk.max_open_orders_per_client", || {
		format!("must not be above risk.max_open_total ({})", own.max_open_total)
	})?;
	demand((1..=200).contains(&own.max_parts), "risk.max_parts", || "must be from 1 to 200".to_string())?;
	demand((1..=1_000).contains(&own.max_offences), "risk.max_offences", || "must be from 1 to 1000".to_string())?;
	demand((1..=MAX_PER_CLIENT).contains(&own.max_offences_per_client), "risk.max_offences_per_client", || {
		format!("must be from 1 to {MAX_PER_CLIENT}")
	})?;
	for (secs, key) in [(own.offence_window_secs, "risk.offence_window_secs"), (own.pause_secs, "risk.pause_secs")] {
		demand((60..=2_592_000).contains(&secs), key, || {
			"must be from 60 (a minute) to 2592000 (30 days)".to_string()
		})?;
	}
	Ok(())
}

fn at_most(limit: Sat) -> String {
	format!("must be at most {}", limit.0)
}

fn check_tiers(tiers: &Tiers) -> Checked {
	demand(tiers.get(LOWEST).is_some_and(|tier| tier.earned), "tier.new", || {
		"must be there and earned: it is the tier of those who are in no other".to_string()
	})?;
	demand(tiers.0.len() <= MAX_TIERS, "tier.new", || format!("must be one of at most {MAX_TIERS} tiers"))?;
	for (name, tier) in &tiers.0 {
		let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
		demand(!name.is_empty() && name.len() <= 32 && name.chars().all(is_name), "tier.new", || {
			format!("must stand beside tiers with names of lower-case letters, digits and _ only, not {name:?}")
		})?;
		check_tier(tier)
			.map_err(|error| PolicyError { problem: format!("in tier {name}: {}", error.problem), ..error })?;
	}
	Ok(())
}

fn check_tier(tier: &Tier) -> Checked {
	demand(tier.min_payments <= MAX_COUNTED_PAYMENTS, "tier.new.min_payments", || {
		format!("must be at most {MAX_COUNTED_PAYMENTS}: more are not counted")
	})?;
	demand(tier.risk_ppm.0 <= 10_000_000, "tier.new.risk_ppm", || {
		"must be at most 10000000 (ten times the costs)".to_string()
	})?;
	demand(tier.fee_share_ppm.0 <= 10_000_000, "tier.new.fee_share_ppm", || {
		"must be at most 10000000 (ten times the fee)".to_string()
	})?;
	demand(tier.headroom_ppm.0 <= 10_000_000, "tier.new.headroom_ppm", || {
		"must be at most 10000000 (ten times the payment)".to_string()
	})
}
