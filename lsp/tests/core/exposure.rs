//! The limits on what is sold to whom and how fast (R11): what is promised counts, and so does what is asked for.

use crate::harness::*;
use inlet_lsp::book::NodeId;
use inlet_lsp::money::Sat;
use inlet_lsp::policy::{CapitalPolicy, Trust};
use serde_json::{Value, json};

const PAYMENT: u64 = 400_000_000;
/// The channel that such a payment gets, of a client in no tier with headroom: a quarter more, and what LDK keeps.
const AT_LEAST: u64 = 500_000;

fn with(limits: impl FnOnce(&mut CapitalPolicy)) -> Sim {
	let mut policy = trusting(Trust::Everyone);
	limits(&mut policy.capital);
	Sim::with(policy)
}

/// `buy` for [`PAYMENT`].
fn buys(sim: &mut Sim, client: NodeId) -> Value {
	sim.connect(client);
	let terms = sim.menu(client)[0].clone();
	sim.ask(client, "lsps2.buy", json!({"opening_fee_params": terms, "payment_size_msat": PAYMENT.to_string()}))
}

fn is_refused(answer: &Value, key: &str) -> bool {
	answer["error"].to_string().contains(key)
}

#[test]
fn r11_a_channel_that_would_go_beyond_what_a_client_may_have_is_refused() {
	let mut sim = with(|capital| capital.max_client_sat = Sat(AT_LEAST - 1));
	let answer = buys(&mut sim, node(1));
	assert!(is_refused(&answer, "capital.max_client_sat"), "{answer}");
	let mut sim = with(|capital| capital.max_client_sat = Sat(AT_LEAST * 2));
	assert!(buys(&mut sim, node(1))["result"].is_object());
	let answer = buys(&mut sim, node(1));
	assert!(is_refused(&answer, "capital.max_client_sat"), "the first is promised: {answer}");
	assert!(buys(&mut sim, node(2))["result"].is_object(), "another client");
	sim.pass(3_600);
	sim.tick();
	assert!(buys(&mut sim, node(1))["result"].is_object(), "the promise is over");
}

#[test]
fn r11_what_is_promised_at_once_counts_for_the_hour_and_the_day() {
	let mut sim = with(|capital| (capital.max_channels_per_hour, capital.max_channels_per_day) = (2, 3));
	sim.connect(node(1));
	let sale = sim.buy(node(1), Some(PAYMENT));
	let open = opened(&sim.htlc(&sale, 1, 1, PAYMENT)).unwrap();
	sim.funded(open.user_channel_id);
	assert!(buys(&mut sim, node(2))["result"].is_object());
	let answer = buys(&mut sim, node(3));
	assert!(is_refused(&answer, "capital.max_channels_per_hour"), "one is funded, one promised: {answer}");
	sim.pass(3_600);
	sim.tick();
	assert!(buys(&mut sim, node(2))["result"].is_object());
	assert!(buys(&mut sim, node(3))["result"].is_object());
	let answer = buys(&mut sim, node(4));
	assert!(is_refused(&answer, "capital.max_channels_per_hour"), "{answer}");
	sim.lsp.policy.capital.max_channels_per_hour = 3;
	let answer = buys(&mut sim, node(4));
	assert!(is_refused(&answer, "capital.max_channels_per_day"), "{answer}");
}

#[test]
fn r11_what_is_at_risk_is_never_more_than_its_limit_with_all_that_is_promised() {
	let mut sim = with(|capital| capital.max_at_risk_sat = Sat(AT_LEAST * 5 / 2));
	assert!(buys(&mut sim, node(1))["result"].is_object());
	assert!(buys(&mut sim, node(2))["result"].is_object());
	let answer = buys(&mut sim, node(3));
	assert!(is_refused(&answer, "capital.max_at_risk_sat"), "{answer}");
}

#[test]
fn r11_channels_without_a_confirmation_have_a_limit_of_their_own() {
	let mut sim = with(|capital| capital.max_unconfirmed_sat = Sat(AT_LEAST * 3));
	sim.unconfirmed = Sat(AT_LEAST * 2 + 1);
	let answer = buys(&mut sim, node(1));
	assert!(is_refused(&answer, "capital.max_unconfirmed_sat"), "{answer}");
	sim.unconfirmed = Sat(AT_LEAST);
	assert!(buys(&mut sim, node(1))["result"].is_object(), "they are confirmed");
}

#[test]
fn r11_a_tier_has_so_much_and_the_others_are_not_kept_from_theirs() {
	let mut policy = trusting(Trust::Everyone);
	policy.tier.0.get_mut("new").unwrap().max_total_sat = Sat(AT_LEAST * 3 / 2);
	let mut sim = Sim::with(policy);
	assert!(buys(&mut sim, node(1))["result"].is_object());
	let answer = buys(&mut sim, node(2));
	assert!(is_refused(&answer, "tier.new.max_total_sat"), "{answer}");
	let overrides = inlet_lsp::tiers::Overrides { tier: Some("known".to_owned()), ..Default::default() };
	sim.give(inlet_lsp::input::Input::Operator(inlet_lsp::input::Deed::SetClient { client: node(2), overrides }));
	assert!(buys(&mut sim, node(2))["result"].is_object(), "it is in another tier now");
}

#[test]
fn r11_orders_have_the_same_limits() {
	let mut sim = with(|capital| capital.max_client_sat = Sat(AT_LEAST));
	let params = sim.order_params();
	let size: u64 = params["lsp_balance_sat"].as_str().unwrap().parse().unwrap();
	let policy = &mut sim.lsp.policy.capital;
	policy.max_client_sat = Sat(size - 1);
	sim.connect(node(1));
	let answer = sim.ask(node(1), "lsps1.create_order", params);
	assert!(is_refused(&answer, "capital.max_client_sat"), "{answer}");
}
