//! What the operator could have decided instead.

use inlet_lsp::Policy;
use inlet_lsp::money::{Ppm, Sat};
use inlet_lsp::policy::{RiskPolicy, Trust};

/// One way to run the shop.
#[derive(Clone, Debug)]
pub struct Case {
	/// In a few words.
	pub name: &'static str,
	/// All of it.
	pub policy: Policy,
	/// Is told how it went through the spike?
	pub tells: bool,
}

/// Policies that are compared with each other.
#[derive(Clone, Debug)]
pub struct Table {
	/// What they are compared in.
	pub title: &'static str,
	/// In the wallet at the beginning.
	pub coins: Sat,
	/// See [`Days`](super::Days).
	pub generosity_ppm: u64,
	/// One line each.
	pub cases: Vec<Case>,
}

/// All tables.
pub fn tables_of_cases() -> Vec<Table> {
	let (many, few) = (Sat(300_000_000), Sat(40_000_000));
	let table = |title, coins, generosity_ppm, cases| Table { title, coins, generosity_ppm, cases };
	let thrifty =
		["**default**", CHARITY, "no ceilings", "floor 0", "floor 1000", "floor 6000", "jit_ppm 0", "jit_ppm 2000"];
	let thrifty =
		[&thrifty[..], &["jit_ppm 8000", "jit_ppm 20000", "promises of a day, always", "headroom 0"]].concat();
	let some = prices().into_iter().filter(|case| thrifty.contains(&case.name));
	vec![
		table("What is asked for: coins for everybody", many, 1_000_000, prices()),
		table("The same with clients who give a quarter as much", many, 250_000, some.collect()),
		table("What the capital is put into: coins for few", few, 1_000_000, capital()),
	]
}

const CHARITY: &str = "charity: the opening's cost, any feerate, honoured for a day";

/// Sells at what the opening costs, to everybody, at any feerate, promises for a day and honours each.
pub(super) fn charity() -> Policy {
	let mut policy = Policy::default();
	let price = &mut policy.price;
	(price.floor_sat, price.jit_ppm, price.close_share_ppm) = (Sat(0), Ppm(0), Ppm(0));
	price.capital_ppm_per_year = Ppm(0);
	policy.tier.0.values_mut().for_each(|tier| tier.risk_ppm = Ppm(0));
	no_ceilings(&mut policy);
	honour(&mut policy);
	policy
}

fn charity_with_ceilings() -> Policy {
	Policy { risk: RiskPolicy { max_loss_sat: charity().risk.max_loss_sat, ..RiskPolicy::default() }, ..charity() }
}

/// As usual, but each promise holds for a day, however the feerate moves.
#[cfg(test)]
pub(super) fn for_a_day() -> Policy {
	case("", |policy| promise(policy, 86_400)).policy
}

fn no_ceilings(policy: &mut Policy) {
	ceilings(policy, 100_000);
}

fn ceilings(policy: &mut Policy, sat_per_vb: u64) {
	policy.risk.max_feerate_sat_per_vb = sat_per_vb;
	policy.risk.patient_feerate_sat_per_vb = sat_per_vb;
}

/// A promise holds for a day, whatever the feerate does.
fn honour(policy: &mut Policy) {
	promise(policy, 86_400);
	policy.risk.max_loss_sat = Sat(100_000_000);
}

fn promise(policy: &mut Policy, secs: u64) {
	policy.lsps2.promise_secs = secs;
	policy.lsps2.min_promise_secs = secs;
}

fn case(name: &'static str, change: impl FnOnce(&mut Policy)) -> Case {
	let mut policy = Policy::default();
	change(&mut policy);
	Case { name, policy, tells: false }
}

fn prices() -> Vec<Case> {
	let mut all = vec![
		case("**default**", |_| ()),
		Case { policy: charity(), ..case(CHARITY, |_| ()) },
		Case { policy: charity_with_ceilings(), ..case("charity with our ceilings", |_| ()) },
		case("no ceilings", no_ceilings),
		case("ceiling 20 sat/vB", |p| ceilings(p, 20)),
		case("ceiling 100 sat/vB", |p| ceilings(p, 100)),
		case("promises of 10 min", |p| promise(p, 600)),
		case("promises of an hour, 10 min when fees move", |p| p.lsps2.promise_secs = 3_600),
		case("promises of an hour, always", |p| promise(p, 3_600)),
		case("promises of a day, 10 min when fees move", |p| p.lsps2.promise_secs = 86_400),
		case("promises of a day, always", |p| promise(p, 86_400)),
		case("promises of a day, honoured at any cost", honour),
		case("the same without ceilings", |p| {
			honour(p);
			no_ceilings(p);
		}),
		case("bears no loss", |p| p.risk.max_loss_sat = Sat(0)),
		case("bears 5000 sat", |p| p.risk.max_loss_sat = Sat(5_000)),
		case("floor 0", |p| p.price.floor_sat = Sat(0)),
		case("floor 1000", |p| p.price.floor_sat = Sat(1_000)),
		case("floor 6000", |p| p.price.floor_sat = Sat(6_000)),
		case("jit_ppm 0", |p| p.price.jit_ppm = Ppm(0)),
		case("jit_ppm 2000", |p| p.price.jit_ppm = Ppm(2_000)),
		case("jit_ppm 8000", |p| p.price.jit_ppm = Ppm(8_000)),
		case("jit_ppm 12000", |p| p.price.jit_ppm = Ppm(12_000)),
		case("jit_ppm 20000", |p| p.price.jit_ppm = Ppm(20_000)),
		case("jit_ppm 30000", |p| p.price.jit_ppm = Ppm(30_000)),
		case("clients do not pay for the close", |p| p.price.close_share_ppm = Ppm(0)),
		case("no margins for risk", |p| p.tier.0.values_mut().for_each(|tier| tier.risk_ppm = Ppm(0))),
		case("one tier for all", |p| p.tier.0.retain(|name, _| name == "new")),
		case("everyone is trusted", |p| p.lsps2.trust = Trust::Everyone),
		case("nobody is trusted", |p| p.lsps2.trust = Trust::Nobody),
		case("headroom 0", |p| p.lsps2.headroom_ppm = Ppm(0)),
		case("headroom 100 %", |p| p.lsps2.headroom_ppm = Ppm(1_000_000)),
		case("smallest channel 20000", |p| p.lsps2.min_channel_sat = Sat(20_000)),
		case("smallest channel 300000", |p| p.lsps2.min_channel_sat = Sat(300_000)),
	];
	for case in all.iter_mut().filter(|case| ["**default**", "no ceilings"].contains(&case.name)) {
		case.tells = true;
	}
	all[1].tells = true;
	all
}

fn capital() -> Vec<Case> {
	let lifetime = |policy: &mut Policy, days: u32| {
		policy.lsps2.min_lifetime_blocks = days * 144;
		policy.capital.idle_days = days;
	};
	vec![
		case("**default**", |_| ()),
		case("headroom 0", |p| p.lsps2.headroom_ppm = Ppm(0)),
		case("headroom 50 %", |p| p.lsps2.headroom_ppm = Ppm(500_000)),
		case("headroom 100 %", |p| p.lsps2.headroom_ppm = Ppm(1_000_000)),
		case("headroom 300 %", |p| p.lsps2.headroom_ppm = Ppm(3_000_000)),
		case("no growth", |p| p.lsps2.growth_ppm = Ppm(0)),
		case("growth 50 % for each", |p| p.lsps2.growth_ppm = Ppm(500_000)),
		case("smallest channel 20000", |p| p.lsps2.min_channel_sat = Sat(20_000)),
		case("smallest channel 300000", |p| p.lsps2.min_channel_sat = Sat(300_000)),
		case("a week promised, idle after a week", |p| lifetime(p, 7)),
		case("the same, closed at any feerate", |p| {
			lifetime(p, 7);
			p.capital.reclaim_feerate_sat_per_vb = 1_000;
		}),
		case("two weeks", |p| lifetime(p, 14)),
		case("promises of an hour", |p| p.lsps2.promise_secs = 3_600),
		case("promises of a day", |p| p.lsps2.promise_secs = 86_400),
	]
}
