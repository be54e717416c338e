//! What is counted on the way, and what is told of it.

use super::channels::close_cost;
use super::shop::{HOUR, Shop, signed};
use inlet_lsp::book::EntryKind;
use inlet_lsp::input::OpenChannel;
use inlet_lsp::money::Sat;
use inlet_lsp::quote::FUNDING_WEIGHT;
use std::collections::BTreeMap;

/// Above the lines of a table.
pub const HEADING: &str = "\
| policy | asked | too dear | paused | no coins | bought | unpaid | expired | overtaken | sold | of these at a loss | worst | fees | routing \
| openings | closings | swaps | profit | mean locked | a year |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// Selling stopped by itself because of the feerate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
	/// The hour of the first client that was told so.
	pub from: u64,
	/// The hour of the first one that was sold to again.
	pub resumed: Option<u64>,
	/// Clients that were sent away.
	pub asked: u32,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
	pub(super) asked: u32,
	/// By existing clients whose channels had no room.
	pub(super) grown: u32,
	pub(super) too_dear: u32,
	pub(super) paused: u32,
	pub(super) refused: u32,
	pub(super) bought: u32,
	pub(super) unpaid: u32,
	pub(super) expired: u32,
	pub(super) overtaken: u32,
	pub(super) reclaimed: u32,
	pub(super) swaps: u64,
	pub(super) locked_sat_days: u64,
	sold: u32,
	at_a_loss: u32,
	losses: u64,
	worst_loss: u64,
	/// Of those whose feerate had risen since they were promised.
	risen: u32,
	pauses: Vec<Pause>,
}

/// What a policy made of the days.
#[derive(Clone, Debug)]
pub struct Outcome {
	/// Clients that asked for a price.
	pub asked: u32,
	/// Of these, such as had a channel that was too small.
	pub grown: u32,
	/// Clients to whom it was too dear.
	pub too_dear: u32,
	/// Clients sent away because of a ceiling.
	pub paused: u32,
	/// Clients sent away for want of coins, or because the shop does not trust them.
	pub refused: u32,
	/// Promises made and taken.
	pub bought: u32,
	/// Of these, such as nobody ever paid.
	pub unpaid: u32,
	/// Payments that came too late.
	pub expired: u32,
	/// Payments that were failed because the feerate had overtaken the promise.
	pub overtaken: u32,
	/// Channels opened.
	pub sold: u32,
	/// Of these, such as were promised at a lower feerate.
	pub risen: u32,
	/// Of these, such as cost more than they paid.
	pub at_a_loss: u32,
	/// What these cost more, together.
	pub losses: Sat,
	/// The worst of them.
	pub worst_loss: Sat,
	/// Channels that the operator took home.
	pub reclaimed: u32,
	/// What was earned and spent, by kind, in satoshis.
	pub kinds: BTreeMap<EntryKind, i64>,
	/// What closing the channels that are open will cost, in satoshis.
	pub to_close: i64,
	/// What bringing the payments' money back to the chain cost, in satoshis.
	pub swaps: i64,
	/// All of it: what was earned, less what was spent, less what is still to be spent, in satoshis.
	pub profit: i64,
	/// Our side of all channels, on the average.
	pub locked: Sat,
	/// When selling stopped.
	pub pauses: Vec<Pause>,
	days: u64,
}

impl Shop {
	/// A channel is opened. Never below its cost beyond the bound.
	pub(super) fn note_opening(&mut self, open: &OpenChannel) {
		let sale = self.book.sales().find(|sale| sale.user_channel_id == open.user_channel_id);
		let sale = sale.expect("opened for a sale");
		let (fee, cost) = (sale.fee.expect("known by now").to_sat_floor(), sale.expected_cost);
		let live = self.feerate();
		assert!(open.feerate == live && cost >= live.cost_ceil(FUNDING_WEIGHT), "reckoned at the live feerate");
		let loss = cost.saturating_sub(fee);
		let bound = self.lsp.policy.risk.max_loss_sat;
		assert!(loss <= bound, "sold for {fee}, costs {cost}, {bound} are borne");
		let risen = self.held.values().any(|(_, call)| self.who.get(&open.peer) == Some(&call.who) && call.risen);
		let t = &mut self.tally;
		t.sold += 1;
		t.risen += u32::from(risen);
		t.at_a_loss += u32::from(loss > Sat::ZERO);
		t.losses += loss.0;
		t.worst_loss = t.worst_loss.max(loss.0);
	}

	/// A client asks while the feerate is above the ceiling, or not.
	pub(super) fn note_pause(&mut self, above: bool) {
		let hour = self.since_start() / HOUR;
		match (above, self.tally.pauses.last_mut().filter(|pause| pause.resumed.is_none())) {
			(true, None) => self.tally.pauses.push(Pause { from: hour, resumed: None, asked: 1 }),
			(true, Some(pause)) => pause.asked += 1,
			(false, Some(pause)) => pause.resumed = Some(hour),
			(false, None) => {}
		}
	}

	pub(super) fn outcome(&self) -> Outcome {
		self.check_books();
		let mut kinds: BTreeMap<EntryKind, i64> = BTreeMap::new();
		for (kind, msat) in self.book.books().months().flat_map(|month| &month.kinds) {
			*kinds.entry(*kind).or_default() += msat / 1000;
		}
		let earned: i64 = kinds.iter().filter(|(kind, _)| kind.is_profit()).map(|(_, sat)| sat).sum();
		// One in twelve by force, as on the way.
		let each = (close_cost(self.long_run(), false) * 11 + close_cost(self.long_run(), true)).div_ceil(12);
		let open = self.channels.values().filter(|channel| channel.is_out()).count();
		let to_close = signed(open as u64 * each);
		let (t, days) = (&self.tally, (self.since_start() / super::shop::DAY + 1).max(1));
		Outcome {
			asked: t.asked,
			grown: t.grown,
			too_dear: t.too_dear,
			paused: t.paused,
			refused: t.refused,
			bought: t.bought,
			unpaid: t.unpaid,
			expired: t.expired,
			overtaken: t.overtaken,
			sold: t.sold,
			risen: t.risen,
			at_a_loss: t.at_a_loss,
			losses: Sat(t.losses),
			worst_loss: Sat(t.worst_loss),
			reclaimed: t.reclaimed,
			kinds,
			to_close,
			swaps: signed(t.swaps),
			profit: earned - to_close - signed(t.swaps),
			locked: Sat(t.locked_sat_days / days),
			pauses: t.pauses.clone(),
			days,
		}
	}
}

impl Outcome {
	fn sat(&self, kind: EntryKind) -> i64 {
		self.kinds.get(&kind).copied().unwrap_or(0)
	}

	/// What the capital in channels earned in a year at this pace, in per cent.
	fn percent_a_year(&self) -> f64 {
		self.profit as f64 / self.locked.0.max(1) as f64 * 36_500.0 / self.days as f64
	}

	/// One line of the table.
	pub fn line(&self, name: &str) -> String {
		let o = self;
		format!(
			"| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.0} % |",
			o.asked,
			o.too_dear,
			o.paused,
			o.refused,
			o.bought,
			o.unpaid,
			o.expired,
			o.overtaken,
			o.sold,
			o.at_a_loss,
			o.worst_loss.0,
			o.sat(EntryKind::JitFee),
			o.sat(EntryKind::RoutingFee),
			-o.sat(EntryKind::FundingCost),
			o.to_close - o.sat(EntryKind::CloseCost),
			o.swaps,
			o.profit,
			o.locked.0,
			o.percent_a_year(),
		)
	}

	/// How it went through the spike, in words.
	pub fn story(&self, name: &str) -> String {
		let pauses = self.pauses.iter().map(|pause| {
			let until = pause.resumed.map_or("the end".to_owned(), |hour| format!("hour {hour}"));
			format!("paused from hour {} to {until}, {} clients sent away", pause.from, pause.asked)
		});
		let pauses: Vec<String> = pauses.collect();
		let pauses = if pauses.is_empty() { "never paused".to_owned() } else { pauses.join("; ") };
		format!(
			"{name}: {pauses}. Of the channels sold {} were promised before the feerate rose, {} paid less than they cost ({} sat together, \
			 {} sat the worst); {} promises were overtaken and their payments failed, {} had expired.",
			self.risen, self.at_a_loss, self.losses.0, self.worst_loss.0, self.overtaken, self.expired
		)
	}
}
