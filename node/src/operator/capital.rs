//! The operator's capital.

use super::Operator;
use crate::control::*;
use crate::driver::now;
use bitcoin::hex::DisplayHex;
use inlet_lsp::book::ChannelSums;
use inlet_lsp::capital::{self, Holding};
use inlet_lsp::coins::Next;
use inlet_lsp::exposure;
use inlet_lsp::input::Input;
use inlet_lsp::money::Sat;
use inlet_lsp::reclaim::{self, Verdict};

/// [`ReclaimLine::verdict`]
const TELL: &str = "tell";
/// [`ReclaimLine::verdict`]
const CLOSE: &str = "close";

/// What the wallet does about the reserve's coins next, for people.
fn in_words(next: &Next) -> String {
	match next {
		Next::Rest(why) => format!("nothing: {why}"),
		Next::Split { pieces, .. } => format!("split a coin into {pieces} for the reserve, and the rest"),
		Next::Merge { of } => format!("make one coin of {}", of.len()),
	}
}

impl Operator {
	pub(super) fn capital_now(&self) -> Capital {
		let (purse, holdings) = (self.hands.purse().0, self.hands.holdings(&self.driver));
		let policy = &self.config.policy;
		let picture = self.driver.read(|book| capital::picture(policy, book, &purse, &holdings, now()));
		let unconfirmed = self.hands.unconfirmed();
		let limits = self.driver.read(|book| exposure::limits(policy, book, unconfirmed, now()));
		let mut advice = Vec::new();
		if picture.fund > Sat::ZERO {
			advice.push(format!(
				"send {} sat to an address of the node (inlet address) to sell the largest channel",
				picture.fund.0
			));
		}
		if picture.coins.missing > 0 && policy.capital.coins_feerate_sat_per_vb == 0 {
			let text = "send the wallet some in outputs of their own, or set capital.coins_feerate_sat_per_vb";
			let missing = match picture.coins.missing {
				1 => "a coin of the reserve is missing".to_owned(),
				more => format!("{more} coins of the reserve are missing"),
			};
			advice.push(format!("{missing}: {text}"));
		}
		if picture.idle > Sat::ZERO {
			advice.push(format!("{} sat are in idle channels: inlet capital reclaim", picture.idle.0));
		}
		Capital {
			confirmed_sat: picture.confirmed.0,
			unconfirmed_sat: picture.unconfirmed.0,
			anchors_sat: picture.anchors.0,
			reserved_sat: picture.reserved.0,
			free_sat: picture.free.0,
			at_risk_sat: picture.at_risk.0,
			locked_sat: picture.locked.0,
			offline_sat: picture.offline.0,
			idle_sat: picture.idle.0,
			channels: purse.channels,
			channels_carried: purse.carried,
			coins_there: picture.coins.there,
			coins_coming: picture.coins.coming,
			coins_wanted: picture.coins.wanted,
			coins_missing: picture.coins.missing,
			coins_next: in_words(&picture.coins_next),
			limits: limits
				.into_iter()
				.map(|limit| LimitTaken { key: limit.key, taken: limit.taken, most: limit.most })
				.collect(),
			sellable: picture
				.sellable
				.iter()
				.map(|(size, count)| Sellable { size_sat: size.0, count: *count })
				.collect(),
			fund_sat: picture.fund.0,
			advice,
		}
	}

	/// What should become of each channel that was sold. Nothing is done.
	pub(super) fn reclaim_plan(&self) -> ReclaimPlan {
		let (policy, feerate, at) = (&self.config.policy.capital, self.hands.fees.fresh(), now());
		let price = self.config.policy.price.capital_ppm_per_year;
		let mut holdings = self.hands.holdings(&self.driver);
		holdings.retain(|holding| holding.opened_by_us && !holding.public);
		holdings.sort_by_key(|holding| std::cmp::Reverse(holding.ours));
		let mut brings = Sat::ZERO;
		let mut channels = Vec::new();
		for holding in &holdings {
			let (verdict, because) = match reclaim::verdict(policy, feerate, holding, at) {
				Verdict::Keep(why) => ("keep", why),
				Verdict::Tell => (TELL, "its client is to be told"),
				Verdict::Wait(why) => ("wait", why),
				Verdict::Close => (CLOSE, "told, here, and fees are low"),
			};
			if verdict == CLOSE {
				brings = brings.saturating_add(holding.ours.to_sat_floor());
			}
			let sums = self.driver.read(|book| book.books().channel(&holding.channel_id).cloned());
			channels.push(ReclaimLine {
				id: holding.channel_id.to_lower_hex_string(),
				client: holding.client.to_string(),
				connected: holding.connected,
				local_sat: holding.ours.to_sat_floor().0,
				remote_sat: holding.theirs.to_sat_floor().0,
				costs_sat_per_year: reclaim::costs_per_year(price, holding).0,
				told_at: holding.told_at.map(Into::into),
				used_at: holding.used_at.map(Into::into),
				lease_left_blocks: holding.lease_left,
				verdict: verdict.to_owned(),
				because: because.to_owned(),
				profit_msat: sums.as_ref().map_or(0, ChannelSums::profit_msat),
				sat_days: sums.as_ref().map_or(0, |sums| sums.sat_days(at)),
			});
		}
		ReclaimPlan { channels, brings_sat: brings.0, reclaims_by_itself: policy.reclaim }
	}

	/// Does what the plan says, to these channels and no others. What is not due is left alone.
	pub(super) async fn reclaim(&self, request: ReclaimRequest) -> Result<Reclaimed, Refusal> {
		request.check()?;
		let (policy, feerate, at) = (&self.config.policy.capital, self.hands.fees.fresh(), now());
		let name = |holding: &Holding| holding.channel_id.to_lower_hex_string();
		let (mut told, mut wanted) = (Vec::new(), Vec::new());
		let mut holdings = self.hands.holdings(&self.driver);
		holdings.retain(|holding| {
			let id = name(holding);
			if !request.channels.contains(&id) {
				return false;
			}
			match reclaim::verdict(policy, feerate, holding, at) {
				Verdict::Tell => told.push(id),
				Verdict::Close => wanted.push(id),
				Verdict::Keep(_) | Verdict::Wait(_) => return false,
			}
			true
		});
		let input = Input::Holdings { holdings, asked: true };
		self.driver.submit(input).await.map_err(|e| Refusal::internal(e.to_string()))?;
		let open = self.hands.holdings(&self.driver);
		let is_open = |id: &String| open.iter().any(|holding| !holding.closing && name(holding) == *id);
		let (failed, closing) = wanted.into_iter().partition(is_open);
		Ok(Reclaimed { told, closing, failed })
	}
}
