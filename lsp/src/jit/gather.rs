//! HTLCs arrive, their parts are gathered, and the sale goes on as far as it can.

use super::{EXPIRY_MARGIN_BLOCKS, HTLC_MINIMUM, deliver, fail_parts, forget_attempt, give_up, rest, withhold};
use crate::admission::{self, Refusal};
use crate::book::{NodeId, Part, PaymentHash, Sale, SaleState, SoldChannel};
use crate::input::{Action, Input, OpenChannel, Owner};
use crate::money::{FeePerKw, Msat, Sat};
use crate::quote::{self, Basis};
use crate::tiers;
use crate::time::Timestamp;
use crate::trust::{self, OffenceKind};
use crate::turn::Turn;
use crate::wake;
use std::collections::BTreeMap;

const FEE_IS_PENDING: &str = "the opening fee is on its way over a channel that has ended";

/// [`Input::HtlcIntercepted`].
pub(crate) fn htlc_intercepted(turn: &mut Turn<'_>, input: &Input) {
	let Input::HtlcIntercepted { intercept_id, scid, payment_hash, inbound, expected_outbound, expiry_height, .. } =
		input
	else {
		return;
	};
	let Some(mut sale) = turn.book.sale_by_scid(*scid).cloned() else {
		return turn.fail_htlc(*intercept_id, "no sale has this SCID");
	};
	if sale.forwarded.iter().any(|planned| planned.intercept_id == *intercept_id) {
		deliver::forward_again(turn, &mut sale, intercept_id);
		wake_if_away(turn, &sale);
		return turn.put_sale(sale);
	}
	let part = Part {
		intercept_id: *intercept_id,
		payment_hash: *payment_hash,
		// Never count on more than what arrived (L2-22).
		amount: (*inbound).min(*expected_outbound),
		expiry_height: *expiry_height,
		arrived: turn.now,
		held_until: None,
		client_until: None,
	};
	let is_new = sale.parts.iter().all(|held| held.intercept_id != *intercept_id);
	if is_new {
		// Nothing is written for a part that is not taken: it costs its sender nothing to send many.
		if let Err(reason) = admit(turn, &sale, &part) {
			return turn.fail_htlc(part.intercept_id, &reason);
		}
		sale.note(turn.now, "htlc", format!("part {} of {}", sale.parts.len().saturating_add(1), part.amount));
		sale.parts.push(part);
		if matches!(sale.state, SaleState::Bought | SaleState::Owing) {
			sale.state = SaleState::Gathering { deadline: turn.now };
		}
	}
	advance(turn, &mut sale);
	wake_if_away(turn, &sale);
	turn.put_sale(sale);
}

/// What is held waits for a client that is not here: it is woken, if it has a webhook (L5-16).
fn wake_if_away(turn: &mut Turn<'_>, sale: &Sale) {
	let waits = !sale.parts.is_empty() || sale.forwarded.iter().any(|planned| planned.held_until.is_some());
	if waits && !turn.world.peer.connected {
		wake::payment_incoming(turn, &sale.client);
	}
}

/// May this part be held? The reason if not.
fn admit(turn: &Turn<'_>, sale: &Sale, part: &Part) -> Result<(), String> {
	let open = sale.open_channel().is_some();
	if !open && (turn.now >= sale.terms.valid_until || sale.state.is_finished()) {
		return Err("the sale is over".to_string());
	}
	if withhold::fee_is_pending(turn, sale) {
		return Err(FEE_IS_PENDING.to_string());
	}
	if is_late(turn, part) {
		return Err("it expires too soon".to_string());
	}
	if withhold::expires_too_late(turn, sale, part.expiry_height) {
		return Err(format!("it expires more than {} blocks from now", withhold::MAX_EXPIRY_BLOCKS));
	}
	let max_parts = turn.policy().risk.max_parts;
	if sale.parts.len() >= usize::try_from(max_parts).unwrap_or(usize::MAX) {
		return Err(format!("more than {max_parts} parts"));
	}
	if open || matches!(sale.state, SaleState::Opening { .. }) {
		return Ok(());
	}
	if part.amount < HTLC_MINIMUM {
		return Err(format!("below {HTLC_MINIMUM}"));
	}
	// A payment of open size is one HTLC, and has to bear the fee alone (L2-23).
	if sale.payment_size.is_none() {
		let (min, max) = (sale.terms.min_payment, sale.terms.max_payment);
		if part.amount < min || part.amount > max {
			return Err(format!("not between {min} and {max}"));
		}
		let fee = single_fee(sale, part.amount).ok_or("the opening fee overflows")?;
		if fee.checked_add(HTLC_MINIMUM).is_none_or(|least| least > part.amount) {
			return Err(format!("the opening fee of {fee} eats it"));
		}
	}
	Ok(())
}

fn is_late(turn: &Turn<'_>, part: &Part) -> bool {
	expires_too_soon(turn, part.expiry_height)
}

/// Is this height within the margin?
pub(super) fn expires_too_soon(turn: &Turn<'_>, height: Option<u32>) -> bool {
	let least = turn.world.height.saturating_add(EXPIRY_MARGIN_BLOCKS);
	height.is_some_and(|expiry| expiry <= least)
}

/// The fee of a payment of open size. Once some of it was earned it stays what it was.
fn single_fee(sale: &Sale, amount: Msat) -> Option<Msat> {
	match sale.fee {
		Some(fee) if sale.fee_credited > Msat::ZERO => Some(fee),
		_ => quote::opening_fee(sale.terms.min_fee, sale.terms.proportional, amount),
	}
}

/// Takes the sale as far as it can go now: gather on, open, forward, or fail what cannot be served.
pub(super) fn advance(turn: &mut Turn<'_>, sale: &mut Sale) {
	drop_late_parts(turn, sale);
	deliver::fail_overdue(turn, sale);
	deliver::forward_held(turn, sale);
	if sale.parts.is_empty() {
		return if_nothing_is_held(turn, sale);
	}
	let channel_id = sale.open_channel().and_then(|channel| channel.channel_id);
	let link = channel_id.and_then(|id| turn.usable(&id));
	match (&sale.state, link) {
		// The fee is on its way and not earned.
		(SaleState::Forwarded, link) => {
			if let Some(link) = link {
				deliver::forward_late_parts(turn, sale, &link);
			}
			wait(turn, sale);
		}
		// Nothing is owed by what is held: all of it, or nothing.
		(SaleState::Done, Some(link)) => deliver::forward_in_full(turn, sale, &link),
		(SaleState::Done | SaleState::Failed { .. }, _) => {
			fail_parts(turn, sale, "the client is not here");
		}
		(_, link) => match paying_parts(sale) {
			Some(paying) => match link {
				Some(link) => deliver::forward(turn, sale, &link, paying),
				None if sale.open_channel().is_some() => wait_for_client(turn, sale, &paying),
				None if matches!(sale.state, SaleState::Opening { .. }) => {}
				None => match deliver::other_channels(turn, sale, &paying) {
					Some(links) => deliver::forward_over_others(turn, sale, &paying, links),
					None => open(turn, sale, &paying),
				},
			},
			None => wait(turn, sale),
		},
	}
}

fn if_nothing_is_held(turn: &mut Turn<'_>, sale: &mut Sale) {
	match sale.state {
		SaleState::Gathering { .. } => rest(turn, sale),
		// The payer has given up: so do we, unless the channel exists already.
		SaleState::Opening { .. } => abandon(turn, sale, "nothing is held for it any more"),
		_ => {}
	}
}

fn drop_late_parts(turn: &mut Turn<'_>, sale: &mut Sale) {
	let (late, good): (Vec<Part>, Vec<Part>) = sale.parts.drain(..).partition(|part| is_late(turn, part));
	sale.parts = good;
	for part in late {
		turn.fail_htlc(part.intercept_id, "it expires too soon");
		sale.note(turn.now, "fail", format!("1 part of {}: it expires too soon", part.amount));
	}
}

/// Parts that make up a payment, and the fee that it bears.
pub(super) struct Paying {
	pub(super) hash: PaymentHash,
	pub(super) parts: Vec<[u8; 32]>,
	pub(super) amount: Msat,
	pub(super) fee: Msat,
}

/// The payment that has all its parts, the one that came first if there are several.
fn paying_parts(sale: &Sale) -> Option<Paying> {
	let Some(size) = sale.payment_size else {
		let part = sale.parts.first()?;
		let fee = single_fee(sale, part.amount)?;
		return Some(Paying { hash: part.payment_hash, parts: vec![part.intercept_id], amount: part.amount, fee });
	};
	let fee = sale.fee?;
	sale.parts.iter().find_map(|first| {
		let same: Vec<&Part> = sale.parts.iter().filter(|part| part.payment_hash == first.payment_hash).collect();
		let sum = same.iter().try_fold(Msat::ZERO, |sum, part| sum.checked_add(part.amount))?;
		let parts = same.iter().map(|part| part.intercept_id).collect();
		(sum >= size).then_some(Paying { hash: first.payment_hash, parts, amount: sum, fee })
	})
}

/// Goes on gathering, until the first payment's time is up: `gather_secs` from its first part (L2-19), and not past
/// `valid_until` while there is no channel (L2-20). What waits beside the payment that pays the fee has as much time.
pub(super) fn wait(turn: &Turn<'_>, sale: &mut Sale) {
	if sale.state == SaleState::Forwarded {
		let first = first_arrivals(sale);
		let until =
			|part: &Part| first.get(&part.payment_hash).map(|at| gather_until(turn, sale, &part.payment_hash, *at));
		let times: Vec<Option<Timestamp>> = sale.parts.iter().map(until).collect();
		sale.parts.iter_mut().zip(times).for_each(|(part, time)| part.held_until = time);
	}
	if !matches!(sale.state, SaleState::Gathering { .. }) {
		return;
	}
	let until = first_arrivals(sale).into_iter().map(|(hash, at)| gather_until(turn, sale, &hash, at));
	if let Some(deadline) = until.min() {
		sale.state = SaleState::Gathering { deadline };
	}
}

fn first_arrivals(sale: &Sale) -> BTreeMap<PaymentHash, Timestamp> {
	let mut first = BTreeMap::new();
	for part in &sale.parts {
		let at = first.entry(part.payment_hash).or_insert(part.arrived);
		*at = part.arrived.min(*at);
	}
	first
}

fn gather_until(turn: &Turn<'_>, sale: &Sale, hash: &PaymentHash, first_arrival: Timestamp) -> Timestamp {
	let own = sale.parts.iter().filter(|part| part.payment_hash == *hash);
	let for_client = own.filter_map(|part| part.client_until).max();
	let until = for_client.unwrap_or_else(|| first_arrival.plus_secs(turn.policy().lsps2.gather_secs));
	if sale.open_channel().is_some() { until } else { until.min(sale.terms.valid_until) }
}

/// All parts of the payment are here. If the client is away and was woken, that is what is waited for, for `hold_secs`
/// from the moment that its sum was there.
fn wait_for_client(turn: &Turn<'_>, sale: &mut Sale, paying: &Paying) {
	if !turn.world.peer.connected && wake::can_wake(turn, &sale.client) {
		let size = sale.payment_size.unwrap_or(Msat::ZERO);
		let mut sum = Msat::ZERO;
		let mut complete = turn.now;
		for part in sale.parts.iter().filter(|part| paying.parts.contains(&part.intercept_id)) {
			if sum < size || sum == Msat::ZERO {
				complete = part.arrived;
			}
			sum = Msat(sum.0.saturating_add(part.amount.0));
		}
		let until = complete.plus_secs(turn.policy().lsps5.hold_secs);
		for part in sale.parts.iter_mut().filter(|part| paying.parts.contains(&part.intercept_id)) {
			part.client_until = Some(until);
		}
	}
	wait(turn, sale);
}

/// All parts are here: open the channel, wait for what passes, or fail them now so that the payer knows.
fn open(turn: &mut Turn<'_>, sale: &mut Sale, paying: &Paying) {
	if turn.now >= sale.terms.valid_until {
		fail_parts(turn, sale, "valid_until has passed");
		return rest(turn, sale);
	}
	if withhold::fee_is_pending(turn, sale) {
		fail_parts(turn, sale, FEE_IS_PENDING);
		return rest(turn, sale);
	}
	if !deliver::is_feasible(sale, paying, HTLC_MINIMUM) {
		fail_parts(turn, sale, "too many parts to bear the fee");
		return rest(turn, sale);
	}
	if !turn.world.peer.connected {
		return wait_for_client(turn, sale, paying);
	}
	if withhold::is_full(sale) {
		fail_parts(turn, sale, "too many channels of this sale came to nothing");
		return rest(turn, sale);
	}
	match check_open(turn, sale, paying) {
		Ok(Allowed { feerate, capacity, needed, cost }) => {
			let deadline = turn.now.plus_secs(turn.policy().lsps2.open_secs);
			if sale.channel.is_some() {
				forget_attempt(turn, sale);
			}
			sale.state = SaleState::Opening { deadline };
			sale.fee = Some(paying.fee);
			sale.paying = Some(paying.hash);
			sale.reserved = needed;
			sale.expected_cost = cost;
			sale.channel = Some(SoldChannel::requested(capacity));
			sale.note(turn.now, "open", format!("{capacity} at {} sat/vB", feerate.to_sat_per_vb_ceil()));
			turn.act(open_action(sale, capacity, feerate));
		}
		Err(refusal) if refusal.is_passing() => wait(turn, sale),
		Err(refusal) => {
			fail_parts(turn, sale, &refusal.to_string());
			rest(turn, sale);
		}
	}
}

/// What stands for an opening that nothing stands against.
struct Allowed {
	feerate: FeePerKw,
	capacity: Sat,
	needed: Sat,
	cost: Sat,
}

/// The ceilings are for what is sold now: what was promised is opened as long as its fee covers it (R7).
fn check_open(turn: &Turn<'_>, sale: &Sale, paying: &Paying) -> Result<Allowed, Refusal> {
	tiers::admit(turn.policy(), turn.known_client(&sale.client).as_ref(), &sale.client)?;
	trust::admit_opening(turn, sale)?;
	let feerate = admission::live(turn.world)?;
	let standing = tiers::here(turn, &sale.client);
	let basis = Basis::new(turn.policy(), &standing, &turn.world.market, feerate, feerate);
	// One HTLC more than there are: the client may want to send something back.
	let htlcs = u64::try_from(sale.parts.len()).unwrap_or(u64::MAX).saturating_add(1);
	let capacity = basis.jit_capacity(paying.amount, htlcs).unwrap_or(Sat(u64::MAX));
	let costs = basis.jit_costs(capacity);
	basis.covers(paying.fee, costs)?;
	let needed = admission::funding(turn, feerate, capacity, sale.reserved, standing.max_channel)?;
	if sale.client_trusts {
		withhold::room(turn, sale, needed)?;
	}
	Ok(Allowed { feerate, capacity, needed, cost: costs.total() })
}

/// The feerate to ask again at for a channel that is being opened, unless the feerate has overtaken the promise since.
fn open_again_at(turn: &Turn<'_>, sale: &Sale, capacity: Sat) -> Result<FeePerKw, Refusal> {
	let feerate = admission::live(turn.world)?;
	let standing = tiers::here(turn, &sale.client);
	let basis = Basis::new(turn.policy(), &standing, &turn.world.market, feerate, feerate);
	basis.covers(sale.fee.unwrap_or(Msat::ZERO), basis.jit_costs(capacity)).map(|()| feerate)
}

fn open_action(sale: &Sale, capacity: Sat, feerate: FeePerKw) -> Action {
	Action::OpenChannel(OpenChannel {
		withhold: sale.client_trusts,
		batch: None,
		owner: Owner::Sale(sale.id.clone()),
		user_channel_id: sale.user_channel_id,
		peer: sale.client,
		capacity,
		push: Msat::ZERO,
		announce: false,
		confirmations: 0,
		max_to_self_delay: Some(u16::try_from(sale.terms.max_client_to_self_delay).unwrap_or(u16::MAX)),
		feerate,
	})
}

/// Ends an attempt to open a channel that is not funded; one that is funded stays and is owed for.
pub(super) fn abandon(turn: &mut Turn<'_>, sale: &mut Sale, reason: &str) {
	fail_parts(turn, sale, reason);
	let is_withheld = sale.channel.as_ref().is_some_and(|channel| channel.is_withheld().is_some());
	if !is_withheld && sale.open_channel().is_none() && sale.channel.is_some() {
		turn.act(Action::AbandonChannel { user_channel_id: sale.user_channel_id, peer: sale.client });
		sale.note(turn.now, "fail", format!("channel abandoned: {reason}"));
		forget_attempt(turn, sale);
	}
	rest(turn, sale);
}

/// [`Input::Connected`]: what waited for the client goes on. A channel that was being opened when the process stopped
/// is asked for again; the node knows it by its `user_channel_id`.
pub(crate) fn connected(turn: &mut Turn<'_>, peer: NodeId) {
	let ids: Vec<String> =
		turn.book.live_sales().filter(|sale| sale.client == peer).map(|sale| sale.id.clone()).collect();
	for id in ids {
		let Some(mut sale) = turn.sale(&id) else { continue };
		withhold::connected(turn, &mut sale);
		advance(turn, &mut sale);
		let capacity = sale.channel.as_ref().filter(|channel| !channel.is_open()).map(|channel| channel.capacity);
		let was_opening = turn.book.sale(&id).is_some_and(|old| old.state == sale.state);
		if let (SaleState::Opening { .. }, Some(capacity), true) = (&sale.state, capacity, was_opening)
			&& let Ok(feerate) = open_again_at(turn, &sale, capacity)
		{
			turn.act(open_action(&sale, capacity, feerate));
		}
		turn.put_sale(sale);
	}
}

/// [`Input::HtlcGone`].
pub(crate) fn htlc_gone(turn: &mut Turn<'_>, intercept_id: &[u8; 32]) {
	let Some(mut sale) = turn.book.sale_by_intercept(intercept_id).cloned() else { return };
	let held = sale.parts.len();
	sale.parts.retain(|part| part.intercept_id != *intercept_id);
	if sale.parts.len() < held {
		sale.note(turn.now, "htlc", "1 part is gone".to_string());
		if sale.parts.is_empty() {
			if_nothing_is_held(turn, &mut sale);
		} else {
			wait(turn, &mut sale);
		}
	}
	deliver::forget_forward(turn, &mut sale, intercept_id);
	turn.put_sale(sale);
}

/// [`Input::Tick`]: deadlines, and HTLCs that a new block has brought too near to their expiry.
pub(crate) fn tick(turn: &mut Turn<'_>) {
	let ids: Vec<String> = turn.book.live_sales().map(|sale| sale.id.clone()).collect();
	for id in ids {
		let Some(mut sale) = turn.sale(&id) else { continue };
		let held = sale.parts.len();
		drop_late_parts(turn, &mut sale);
		if sale.parts.is_empty() && held > 0 {
			if_nothing_is_held(turn, &mut sale);
		}
		deliver::fail_overdue(turn, &mut sale);
		withhold::tick(turn, &mut sale);
		deadline(turn, &mut sale);
		turn.put_sale(sale);
	}
}

fn deadline(turn: &mut Turn<'_>, sale: &mut Sale) {
	match sale.state {
		SaleState::Bought if turn.now >= sale.terms.valid_until => {
			sale.note(turn.now, "fail", "expired unpaid".to_string());
			give_up(sale, "expired");
		}
		SaleState::Gathering { deadline } if turn.now >= deadline => {
			fail_overdue_payments(turn, sale);
			if sale.parts.is_empty() { rest(turn, sale) } else { wait(turn, sale) }
		}
		SaleState::Forwarded => {
			fail_overdue_payments(turn, sale);
			wait(turn, sale);
		}
		SaleState::Opening { deadline } if turn.now >= deadline => {
			if sale.channel.as_ref().is_some_and(|channel| channel.is_withheld().is_some()) {
				trust::offend(turn, sale, OffenceKind::Unpaid);
			}
			abandon(turn, sale, "the channel was not usable in time");
		}
		_ => {}
	}
}

fn fail_overdue_payments(turn: &mut Turn<'_>, sale: &mut Sale) {
	for (hash, first_arrival) in first_arrivals(sale) {
		if turn.now < gather_until(turn, sale, &hash, first_arrival) {
			continue;
		}
		let (overdue, good): (Vec<Part>, Vec<Part>) = sale.parts.drain(..).partition(|part| part.payment_hash == hash);
		sale.parts = good;
		sale.note(turn.now, "fail", format!("{} parts: their time is up", overdue.len()));
		for part in overdue {
			turn.fail_htlc(part.intercept_id, "the rest of the payment, or the client, did not come in time");
		}
	}
}

/// [`Input::Started`]: nobody is connected yet, so what waits for a client gets its time anew. LDK shows what it still
/// holds again; what it does not hold comes back as [`Input::HtlcGone`].
pub(crate) fn started(turn: &mut Turn<'_>) {
	let ids: Vec<String> = turn.book.live_sales().map(|sale| sale.id.clone()).collect();
	for id in ids {
		let Some(mut sale) = turn.sale(&id) else { continue };
		withhold::started(turn, &mut sale);
		match &mut sale.state {
			SaleState::Gathering { .. } | SaleState::Forwarded => {
				let for_client = turn.now.plus_secs(turn.policy().lsps5.hold_secs);
				for part in &mut sale.parts {
					part.arrived = turn.now;
					part.client_until = part.client_until.map(|_| for_client);
				}
				wait(turn, &mut sale);
			}
			SaleState::Opening { deadline } => {
				let patience = turn.policy().lsps2.gather_secs.max(turn.policy().lsps2.open_secs);
				*deadline = (*deadline).max(turn.now.plus_secs(patience));
			}
			_ => {}
		}
		turn.put_sale(sale);
	}
}
