//! Tiers are earned, given and lost; what holds for a client follows from where it stands (issue: clients and tiers).

use crate::harness::*;
use inlet_lsp::book::{Book, NodeId, Write};
use inlet_lsp::input::{Action, Deed, Input};
use inlet_lsp::money::{Msat, Ppm, Sat};
use inlet_lsp::policy::{Policy, Tier};
use inlet_lsp::tiers::{self, Listing, Overrides, Standing};
use serde_json::json;

const DAY: u64 = 86_400;

fn stands(sim: &Sim, client: NodeId) -> Standing {
	tiers::standing(&sim.lsp.policy, &sim.book, &client, sim.now)
}

fn tier(sim: &Sim, client: NodeId) -> String {
	stands(sim, client).tier
}

fn set(sim: &mut Sim, client: NodeId, overrides: Overrides) -> Vec<Action> {
	sim.give(Input::Operator(Deed::SetClient { client, overrides }))
}

/// The client pays for a channel of its own.
fn pay_for_one(sim: &mut Sim, client: NodeId, id: u8) {
	sim.connect(client);
	// What it has already is full.
	for channel in &mut sim.peers.get_mut(&client).unwrap().channels {
		channel.next_outbound_htlc_limit = Msat(0);
	}
	let sale = sim.buy(client, Some(100_000_000));
	let open = opened(&sim.htlc(&sale, id, id, 100_000_000)).expect("opened");
	if open.withhold {
		sim.withheld(open.user_channel_id);
	} else {
		sim.funded(open.user_channel_id);
	}
	sim.ready(client, open.user_channel_id);
	let fee = sim.sale(&sale).fee.unwrap().0;
	sim.settle(&sale, fee, &format!("sale {id}"));
	if open.withhold {
		sim.funded(open.user_channel_id);
	}
}

fn forward(sim: &mut Sim, client: NodeId, reference: &str) -> Vec<Action> {
	sim.give(Input::Forwarded {
		next_peer: Some(client),
		next_channel: None,
		total_fee: Msat(1_000),
		skimmed: Msat(0),
		intercept_id: None,
		reference: reference.to_string(),
		came: Vec::new(),
		went: Vec::new(),
	})
}

#[test]
fn clients_rise_by_what_they_pay_and_fall_by_what_they_do() {
	let mut sim = Sim::with(Policy::default());
	let client = node(1);
	assert_eq!(tier(&sim, client), "new");
	pay_for_one(&mut sim, client, 1);
	assert_eq!(tier(&sim, client), "known", "it has paid for a channel");
	let told = sim.book.client(&client).unwrap();
	assert_eq!(
		(told.tier.as_str(), told.history.last().unwrap().text.as_str()),
		("known", "promoted from new to known")
	);
	assert!(stands(&sim, client).lsp_trusts);
	pay_for_one(&mut sim, client, 2);
	for number in 0..30 {
		forward(&mut sim, client, &format!("forward {number}"));
	}
	assert_eq!(tier(&sim, client), "known", "it takes thirty days");
	sim.pass(30 * DAY);
	assert_eq!(tier(&sim, client), "trusted");
	sim.restart();
	assert_eq!(tier(&sim, client), "trusted", "a restart forgets nothing");
	assert!(tiers::score(sim.book.client(&client).unwrap(), sim.now) > 70);

	// It refuses a channel.
	sim.connect(client);
	for channel in &mut sim.peers.get_mut(&client).unwrap().channels {
		channel.next_outbound_htlc_limit = Msat(0);
	}
	let sale = sim.buy(client, Some(100_000_000));
	let open = opened(&sim.htlc(&sale, 9, 9, 100_000_000)).unwrap();
	let user_channel_id = open.user_channel_id;
	let actions = sim.give(Input::OpenFailed { user_channel_id, reason: "no".into(), ours: false });
	assert_eq!(tier(&sim, client), "new", "an offence of late");
	let told = actions.iter().any(|action| matches!(action, Action::Warn { code: "tier", .. }));
	assert!(told, "the operator is told: {actions:?}");
	assert_eq!(sim.book.client(&client).unwrap().history.last().unwrap().text, "demoted from known to new");
	sim.pass(3601);
	assert_eq!(tier(&sim, client), "trusted", "which passes");
}

#[test]
fn a_payment_counts_once_and_only_as_far_as_a_rule_can_ask() {
	let mut sim = Sim::with(Policy::default());
	let client = node(1);
	pay_for_one(&mut sim, client, 1);
	let before = sim.book.client(&client).unwrap().payments;
	forward(&mut sim, client, "one");
	forward(&mut sim, client, "one");
	assert_eq!(sim.book.client(&client).unwrap().payments, before + 1);
	for number in 0..200 {
		forward(&mut sim, client, &format!("{number}"));
	}
	assert_eq!(sim.book.client(&client).unwrap().payments, 100);
	let step = sim.look(Input::Forwarded {
		next_peer: Some(client),
		next_channel: None,
		total_fee: Msat(1_000),
		skimmed: Msat(0),
		intercept_id: None,
		reference: "more".into(),
		came: Vec::new(),
		went: Vec::new(),
	});
	assert!(step.writes.iter().all(|write| !matches!(write, Write::Client(_))), "it costs no write any more");
}

#[test]
fn a_better_tier_pays_less_and_a_client_that_grows_gets_more() {
	let mut sim = Sim::with(Policy::default());
	let (old, new) = (node(1), node(2));
	pay_for_one(&mut sim, old, 1);
	let fee = |sim: &mut Sim, client| sim.menu(client)[0]["min_fee_msat"].as_str().unwrap().parse::<u64>().unwrap();
	assert!(fee(&mut sim, old) < fee(&mut sim, new));
	let capacity = |sim: &Sim, client| {
		let standing = stands(sim, client);
		let (market, live) = (&sim.market, sim.feerate.unwrap());
		let basis = inlet_lsp::quote::Basis::new(&sim.lsp.policy, &standing, market, live, live);
		basis.jit_capacity(Msat(400_000_000), 0).unwrap()
	};
	let first = capacity(&sim, new);
	let second = capacity(&sim, old);
	assert!(second.0 >= first.0 + 40_000, "a tenth of the payment more: {first} {second}");
	pay_for_one(&mut sim, old, 2);
	assert!(capacity(&sim, old).0 >= second.0 + 40_000);
}

#[test]
fn own_tiers_have_limits_of_their_own() {
	let mut policy = plain();
	let small = Tier {
		earned: false,
		max_payment_sat: Sat(50_000),
		max_channel_sat: Sat(120_000),
		max_open_sales: 1,
		max_open_orders: 1,
		risk_ppm: Ppm(0),
		..Tier::default()
	};
	policy.tier.0.insert("small".into(), small);
	let mut sim = Sim::with(policy);
	let client = node(1);
	set(&mut sim, client, Overrides { tier: Some("small".into()), ..Overrides::default() });
	assert_eq!(sim.menu(client)[0]["max_payment_size_msat"], "50000000");
	sim.buy(client, Some(50_000_000));
	let terms = sim.menu(client)[0].clone();
	let answer = sim.ask(client, "lsps2.buy", json!({"opening_fee_params": terms, "payment_size_msat": "20000000"}));
	assert!(answer["error"]["data"].to_string().contains("at most 1"), "{answer}");
	let params = sim.order_params();
	let answer = sim.ask(client, "lsps1.create_order", params);
	assert!(answer.to_string().contains("above our limit of 120000 sat"), "{answer}");
}

#[test]
fn what_the_operator_sets_for_one_client_wins_and_can_be_cleared() {
	let mut sim = Sim::with(plain());
	let client = node(1);
	let free = Overrides { fee_share_ppm: Some(Ppm(0)), max_payment_sat: Some(Sat(70_000)), ..Overrides::default() };
	set(&mut sim, client, free.clone());
	let terms = sim.menu(client)[0].clone();
	assert_eq!((terms["proportional"].clone(), terms["max_payment_size_msat"].clone()), (json!(0), json!("70000000")));
	assert!(sim.look(Input::Operator(Deed::SetClient { client, overrides: free })).writes.is_empty(), "twice is once");
	let nowhere = Overrides { tier: Some("nowhere".into()), ..Overrides::default() };
	assert!(sim.look(Input::Operator(Deed::SetClient { client, overrides: nowhere })).writes.is_empty());
	sim.restart();
	sim.connect(client);
	assert_eq!(sim.menu(client)[0]["proportional"], 0);
	set(&mut sim, client, Overrides::default());
	assert_eq!(sim.menu(client)[0]["proportional"], 4000);
}

#[test]
fn nothing_is_sold_to_who_is_blocked_not_even_what_was_promised() {
	let mut sim = Sim::new();
	let client = node(1);
	sim.connect(client);
	let sale = sim.buy(client, Some(100_000_000));
	set(&mut sim, client, Overrides { listed: Some(Listing::Blocked), ..Overrides::default() });
	assert_eq!(sim.menu(client), json!([]));
	let params = sim.order_params();
	assert_eq!(sim.ask(client, "lsps1.create_order", params)["error"]["code"], 1);
	assert_eq!(failed(&sim.htlc(&sale, 1, 1, 100_000_000)), [1]);
	assert!(sim.menu(node(2))[0].is_object(), "others are not meant");
}

#[test]
fn with_an_allow_list_only_those_on_it_are_served() {
	let mut policy = plain();
	policy.risk.only_allowed = true;
	policy.lsps2.trusted_clients = vec![node(3)];
	let mut sim = Sim::with(policy);
	assert_eq!(sim.menu(node(1)), json!([]));
	assert!(sim.menu(node(3))[0].is_object());
	set(&mut sim, node(1), Overrides { listed: Some(Listing::Allowed), ..Overrides::default() });
	assert!(sim.menu(node(1))[0].is_object());
}

#[test]
fn a_row_from_before_tiers_is_read() {
	let old = json!({"client": {"id": node(1).to_string(), "first_seen": 1, "sales_done": 2}});
	let book = Book::restore([serde_json::from_value::<Write>(old).unwrap()]);
	let client = book.client(&node(1)).unwrap();
	assert_eq!((client.payments, client.tier.as_str(), client.token.clone()), (0, "", None));
}
