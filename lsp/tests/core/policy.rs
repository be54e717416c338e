//! A policy that cannot be is refused with its key and what would be right.

use inlet_lsp::money::{Ppm, Sat};
use inlet_lsp::policy::Policy;
use inlet_lsp::step::Lsp;

#[test]
fn the_default_is_right() {
	Policy::default().check().unwrap();
}

type Change = fn(&mut Policy);

#[test]
fn every_wrong_key_is_named() {
	let cases: [(&str, Change); 38] = [
		("lsps1.min_lsp_balance_sat", |policy| policy.lsps1.min_lsp_balance_sat = Sat(0)),
		("lsps1.min_lsp_balance_sat", |policy| policy.lsps1.min_lsp_balance_sat = Sat(5_000_001)),
		("lsps1.min_channel_sat", |policy| policy.lsps1.min_channel_sat = Sat(5_000_001)),
		("lsps1.max_channel_expiry_blocks", |policy| policy.lsps1.max_channel_expiry_blocks = 0),
		("lsps1.min_funding_confirms_within_blocks", |policy| policy.lsps1.min_funding_confirms_within_blocks = 0),
		("lsps1.payment_window_secs", |policy| policy.lsps1.payment_window_secs = 59),
		("lsps1.onchain_confirmations", |policy| policy.lsps1.onchain_confirmations = 0),
		("lsps1.onchain_confirmations", |policy| policy.lsps1.onchain_confirmations = 7),
		("lsps1.open_window_secs", |policy| policy.lsps1.open_window_secs = 0),
		("lsps2.promise_secs", |policy| policy.lsps2.promise_secs = 599),
		("lsps2.gather_secs", |policy| policy.lsps2.gather_secs = 89),
		("lsps2.open_secs", |policy| policy.lsps2.open_secs = 0),
		("lsps2.cltv_expiry_delta", |policy| policy.lsps2.cltv_expiry_delta = 47),
		("lsps2.max_client_to_self_delay", |policy| policy.lsps2.max_client_to_self_delay = 2017),
		("lsps2.min_payment_sat", |policy| policy.lsps2.min_payment_sat = Sat(2_000_001)),
		("lsps2.min_channel_sat", |policy| policy.lsps2.min_channel_sat = Sat(10_000_001)),
		("lsps2.headroom_ppm", |policy| policy.lsps2.headroom_ppm = Ppm(10_000_001)),
		("lsps5.max_webhooks", |policy| policy.lsps5.max_webhooks = 0),
		("lsps5.hold_secs", |policy| policy.lsps5.hold_secs = 0),
		("lsps5.hold_secs", |policy| policy.lsps5.hold_secs = 601),
		("lsps5.cooldown_secs", |policy| policy.lsps5.cooldown_secs = 0),
		("lsps5.retention_days", |policy| policy.lsps5.retention_days = 6),
		("lsps5.max_clients_without_channel", |policy| policy.lsps5.max_clients_without_channel = 10_001),
		("price.jit_ppm", |policy| policy.price.jit_ppm = Ppm(1_000_000)),
		("risk.max_feerate_sat_per_vb", |policy| policy.risk.max_feerate_sat_per_vb = 0),
		("risk.max_open_sales_per_client", |policy| policy.risk.max_open_sales_per_client = 1_001),
		("risk.max_open_orders_per_client", |policy| policy.risk.max_open_orders_per_client = 1_001),
		("risk.max_parts", |policy| policy.risk.max_parts = 0),
		("lsps2.min_promise_secs", |policy| policy.lsps2.min_promise_secs = 599),
		("lsps2.min_promise_secs", |policy| policy.lsps2.min_promise_secs = 901),
		("lsps2.growth_ppm", |policy| policy.lsps2.growth_ppm = Ppm(1_000_001)),
		("price.forced_close_ppm", |policy| policy.price.forced_close_ppm = Ppm(1_000_001)),
		("price.capital_ppm_per_year", |policy| policy.price.capital_ppm_per_year = Ppm(1_000_001)),
		("risk.patient_feerate_sat_per_vb", |policy| policy.risk.patient_feerate_sat_per_vb = 0),
		("risk.patient_blocks", |policy| policy.risk.patient_blocks = 5),
		("risk.max_loss_sat", |policy| policy.risk.max_loss_sat = Sat(100_000_001)),
		("tier.new", |policy| policy.tier.0.retain(|name, _| name != "new")),
		("tier.new.min_payments", |policy| policy.tier.0.get_mut("known").unwrap().min_payments = 101),
	];
	for (key, change) in cases {
		let mut policy = Policy::default();
		change(&mut policy);
		let error = Lsp::new(policy, [0; 32]).expect_err(key);
		assert_eq!(error.key, key);
		assert!(error.problem.contains("must"), "{error}");
	}
}

#[test]
fn the_promise_key_is_not_shown() {
	let lsp = Lsp::new(Policy::default(), [0xab; 32]).unwrap();
	assert!(!format!("{lsp:?}").contains("171"));
}
