//! The operator's capital: how much of it is free, promised, at risk or locked, and how many channels more it makes.
//! How it comes home is in [`reclaim`].

use crate::book::{Book, NodeId};
use crate::coins::{self, Counts, Next};
use crate::money::{FeePerKw, Msat, Sat};
use crate::policy::Policy;
use crate::quote::funding_need;
use crate::reclaim;
use crate::time::Timestamp;
use std::collections::BTreeMap;

/// The wallet's part of the picture, as the node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purse {
	/// Confirmed coins that nothing spends.
	pub coins: Vec<Sat>,
	/// Change and payments that are not confirmed.
	pub unconfirmed: Sat,
	/// The coins that this is.
	pub pending: Vec<Sat>,
	/// Is a transaction that pays for a forced close on its way?
	pub bumping: bool,
	/// What the anchors of all channels need together.
	pub anchors: Sat,
	/// What they need for each.
	pub per_channel: Sat,
	/// Channels that could be forced.
	pub channels: u64,
	/// Channels that the coins can carry, each with coins of its own.
	pub carried: u64,
	/// Live feerate.
	pub feerate: Option<FeePerKw>,
}

/// A channel, as the node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
	/// LDK's channel id.
	pub channel_id: [u8; 32],
	/// Its peer.
	pub client: NodeId,
	/// Its size.
	pub capacity: Sat,
	/// Our side.
	pub ours: Msat,
	/// The client's side, contracts included.
	pub theirs: Msat,
	/// Did we open it?
	pub opened_by_us: bool,
	/// Public channels carry what the others earn: they are not the reclaimer's.
	pub public: bool,
	/// Is its peer here, and the channel in use again?
	pub connected: bool,
	/// Either side has begun to close it.
	pub closing: bool,
	/// HTLCs on their way.
	pub in_flight: usize,
	/// Blocks that are still promised.
	pub lease_left: u32,
	/// When it was opened.
	pub opened_at: Timestamp,
	/// When a payment over it was last settled.
	pub used_at: Option<Timestamp>,
	/// When its client was told that we want the capital back, if it has not used it since.
	pub told_at: Option<Timestamp>,
}

/// What is where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
	/// Confirmed coins, all of them.
	pub confirmed: Sat,
	/// Not confirmed.
	pub unconfirmed: Sat,
	/// Kept for anchors.
	pub anchors: Sat,
	/// Promised: sales and orders that are not funded, refunds that are not sent.
	pub reserved: Sat,
	/// Can be sold.
	pub free: Sat,
	/// Channels that are funded and not paid for, and orders served on unconfirmed payments.
	pub at_risk: Sat,
	/// Our side of channels.
	pub locked: Sat,
	/// Of that, in channels whose client is away.
	pub offline: Sat,
	/// Of that, in channels that nobody used for `capital.idle_days`.
	pub idle: Sat,
	/// How many channels of which size can still be sold.
	pub sellable: Vec<(Sat, u64)>,
	/// Coins of the anchor reserve.
	pub coins: Counts,
	/// What the wallet does about them next.
	pub coins_next: Next,
	/// What to send to the wallet so that one more of the largest just-in-time channels can be sold: zero if it can.
	pub fund: Sat,
}

/// What the picture is, now.
pub fn picture(policy: &Policy, book: &Book, purse: &Purse, holdings: &[Holding], now: Timestamp) -> Picture {
	let confirmed = sum(purse.coins.iter().copied());
	let reserved = book.reserved();
	let kept = purse.anchors.saturating_add(purse.per_channel);
	let free = confirmed.saturating_sub(kept).saturating_sub(reserved);
	let feerate = purse.feerate.unwrap_or(FeePerKw::FLOOR);
	let ours = |holding: &Holding| holding.ours.to_sat_floor();
	let idle_since = |holding: &&Holding| reclaim::is_idle(&policy.capital, holding, now);
	let sizes = [policy.lsps2.min_channel_sat, Sat(500_000), Sat(1_000_000), policy.risk.max_channel_sat];
	let mut sellable: BTreeMap<Sat, u64> = BTreeMap::new();
	for size in sizes.into_iter().filter(|size| *size <= policy.risk.max_channel_sat) {
		let each = funding_need(feerate, size).saturating_add(purse.per_channel);
		sellable.insert(size, free.0.checked_div(each.0).unwrap_or(0).min(coins_for(purse, each)));
	}
	let largest = funding_need(feerate, policy.risk.max_channel_sat);
	Picture {
		confirmed,
		unconfirmed: purse.unconfirmed,
		anchors: purse.anchors,
		reserved,
		free,
		at_risk: book.stakes().at_risk(),
		locked: sum(holdings.iter().map(ours)),
		offline: sum(holdings.iter().filter(|holding| !holding.connected).map(ours)),
		idle: sum(holdings.iter().filter(idle_since).map(ours)),
		sellable: sellable.into_iter().collect(),
		coins: coins::counts(&policy.capital, purse),
		coins_next: coins::next(&policy.capital, purse, reserved),
		fund: largest.saturating_sub(free),
	}
}

/// Coins that a channel of this cost can each be made from, until their change is confirmed.
fn coins_for(purse: &Purse, each: Sat) -> u64 {
	u64::try_from(purse.coins.iter().filter(|coin| **coin >= each).count()).unwrap_or(u64::MAX)
}

fn sum(amounts: impl Iterator<Item = Sat>) -> Sat {
	amounts.fold(Sat::ZERO, Sat::saturating_add)
}

#[cfg(test)]
pub(crate) mod tests {
	use super::*;
	use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};

	const DAY: u64 = crate::time::DAY_MS;

	/// Sold, and not used since.
	pub(crate) fn holding() -> Holding {
		Holding {
			channel_id: [1; 32],
			client: PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[1; 32]).unwrap()),
			capacity: Sat(500_000),
			ours: Msat(400_000_000),
			theirs: Msat(100_000_000),
			opened_by_us: true,
			public: false,
			connected: true,
			closing: false,
			in_flight: 0,
			lease_left: 0,
			opened_at: Timestamp(0),
			used_at: None,
			told_at: None,
		}
	}

	#[test]
	fn r10_what_is_kept_for_anchors_and_promised_is_not_free_and_each_sale_needs_a_coin() {
		let purse = Purse {
			coins: vec![Sat(3_000_000), Sat(1_000_000)],
			anchors: Sat(110_000),
			per_channel: Sat(11_000),
			channels: 10,
			carried: 2,
			feerate: Some(FeePerKw(250)),
			..Purse::default()
		};
		let picture = picture(&Policy::default(), &Book::default(), &purse, &[holding()], Timestamp(DAY * 90));
		assert_eq!((picture.confirmed, picture.free), (Sat(4_000_000), Sat(4_000_000 - 121_000)));
		assert_eq!((picture.locked, picture.idle, picture.coins.missing), (Sat(400_000), Sat(400_000), 14));
		assert_eq!(picture.sellable[0], (Sat(100_000), 2), "two coins make two channels before the next block");
		assert_eq!(picture.sellable[2], (Sat(1_000_000), 1));
		assert_eq!(picture.fund, funding_need(FeePerKw(250), Sat(10_000_000)).saturating_sub(picture.free));
	}
}
