//! Tokens are issued, used, counted, and revoked at run time, for both protocols; the book has their hashes only.

use crate::harness::*;
use inlet_lsp::book::NodeId;
use inlet_lsp::input::{Action, Deed, Input};
use inlet_lsp::policy::Policy;
use inlet_lsp::tiers;
use inlet_lsp::time::Timestamp;
use inlet_lsp::tokens::{self, Token};
use serde_json::{Value, json};

const SECRET: &str = "inlet_5KQ2M7Z0ABCDEFGHJKMNPQRS";

fn issue(sim: &mut Sim, id: &str, secret: &str, max_uses: Option<u32>, expires_at: Option<Timestamp>) {
	let token = Token {
		id: id.into(),
		hash: tokens::hash(secret),
		tier: "trusted".into(),
		label: "for the fair".into(),
		max_uses,
		uses: 0,
		expires_at,
		created_at: sim.now,
		revoked_at: None,
	};
	sim.give(Input::Operator(Deed::IssueToken(token)));
}

fn menu(sim: &mut Sim, client: NodeId, token: &str) -> Value {
	sim.ask(client, "lsps2.get_info", json!({ "token": token }))
}

fn tier(sim: &Sim, client: NodeId) -> String {
	tiers::standing(&sim.lsp.policy, &sim.book, &client, sim.now).tier
}

#[test]
fn a_single_use_token_puts_one_client_into_its_tier() {
	let mut sim = Sim::with(Policy::default());
	issue(&mut sim, "t_1", SECRET, Some(1), None);
	assert_eq!(menu(&mut sim, node(1), "guess")["error"]["code"], 200);
	assert!(menu(&mut sim, node(1), SECRET)["result"].is_object());
	assert_eq!(tier(&sim, node(1)), "trusted");
	assert!(menu(&mut sim, node(1), SECRET)["result"].is_object(), "who has used it goes on using it");
	assert_eq!(sim.book.token("t_1").unwrap().uses, 1);
	assert_eq!(menu(&mut sim, node(2), SECRET)["error"]["code"], 200, "a second one does not");
	assert_eq!(tier(&sim, node(2)), "new");
	sim.restart();
	assert_eq!(tier(&sim, node(1)), "trusted");
	assert_eq!(menu(&mut sim, node(2), SECRET)["error"]["code"], 200);
}

#[test]
fn a_token_expires_for_others_and_is_revoked_for_all() {
	let mut sim = Sim::with(Policy::default());
	let ends = sim.now.plus_secs(60);
	issue(&mut sim, "t_1", SECRET, None, Some(ends));
	assert!(menu(&mut sim, node(1), SECRET)["result"].is_object());
	sim.pass(60);
	assert!(menu(&mut sim, node(1), SECRET)["result"].is_object());
	assert_eq!(menu(&mut sim, node(2), SECRET)["error"]["code"], 200);
	sim.give(Input::Operator(Deed::RevokeToken("t_1".into())));
	assert_eq!(tier(&sim, node(1)), "new");
	assert_eq!(menu(&mut sim, node(1), SECRET)["error"]["code"], 200);
	let again = sim.look(Input::Operator(Deed::RevokeToken("t_1".into())));
	assert!(again.writes.is_empty() && again.actions.is_empty());
}

#[test]
fn an_order_says_its_token_back_and_the_book_does_not_have_it() {
	let mut policy = Policy::default();
	policy.lsps1.require_token = true;
	let mut sim = Sim::with(policy);
	issue(&mut sim, "t_1", SECRET, Some(5), None);
	let mut params = sim.order_params();
	assert_eq!(sim.ask(node(1), "lsps1.create_order", params.clone())["error"]["code"], 102, "one is needed");
	params["token"] = "guess".into();
	assert_eq!(sim.ask(node(1), "lsps1.create_order", params.clone())["error"]["code"], 102);
	params["token"] = SECRET.into();
	let (order, answer) = sim.order(node(1), params);
	assert_eq!(answer["token"], SECRET);
	assert_eq!(sim.get_order(&order)["token"], SECRET);
	assert_eq!(tier(&sim, node(1)), "trusted");
	let rows = serde_json::to_string(&(&order, sim.book.token("t_1"), sim.book.client(&node(1)))).unwrap();
	assert!(!rows.contains(SECRET), "hashed, or sealed: {rows}");
}

#[test]
fn no_token_is_in_what_the_operator_is_told() {
	let mut sim = Sim::with(Policy::default());
	issue(&mut sim, "t_1", SECRET, None, None);
	let request = json!({"jsonrpc": "2.0", "id": "q", "method": "lsps2.get_info", "params": {"token": SECRET}});
	let step = sim.look(Input::Message { peer: node(1), bytes: request.to_string().into_bytes() });
	assert!(!format!("{:?}", step.writes).contains(SECRET));
	for action in &step.actions {
		let Action::Send { bytes, .. } = action else { panic!("{action:?}") };
		assert!(!String::from_utf8_lossy(bytes).contains(SECRET));
	}
}

#[test]
fn a_token_for_a_tier_that_is_not_there_is_not_issued() {
	let mut sim = Sim::with(Policy::default());
	let token = |id: &str, tier: &str| Token {
		id: id.into(),
		hash: tokens::hash(SECRET),
		tier: tier.into(),
		label: String::new(),
		max_uses: None,
		uses: 7,
		expires_at: None,
		created_at: Timestamp(0),
		revoked_at: None,
	};
	assert!(sim.look(Input::Operator(Deed::IssueToken(token("t_1", "gold")))).writes.is_empty());
	sim.give(Input::Operator(Deed::IssueToken(token("t_1", "known"))));
	assert_eq!(sim.book.token("t_1").unwrap().uses, 0);
	assert!(sim.look(Input::Operator(Deed::IssueToken(token("t_1", "new")))).writes.is_empty(), "an id is used once");
}
