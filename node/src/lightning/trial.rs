//! Trial openings: before payment for an ordered channel is offered, the client is asked to accept one, and it is dropped
//! unfunded (R6). Lenient: only a refusal counts, and a client that does not say that it can take such a channel is not tried.

use super::Lightning;
use bitcoin::secp256k1::PublicKey;
use inlet_lsp::book::OrderId;
use inlet_lsp::input::OpenChannel;
use lightning::events::ClosureReason;
use lightning::types::features::InitFeatures;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

/// Trials under way, those that are ended and not closed yet included.
const MAX_TRIALS: usize = 100;
/// A client that has not answered by then is offered payment all the same.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// What the client is told when it has accepted.
pub const GOODBYE: &str = "The channel is opened when its order is paid: this was to see that you take it";

struct Trial {
	peer: PublicKey,
	/// `None` when the answer was given: LDK's `ChannelClosed` is still to come.
	order: Option<OrderId>,
}

/// Trials by `user_channel_id`, which is of no sale and no order.
#[derive(Default)]
pub struct Trials(Mutex<HashMap<u128, Trial>>);

/// How a trial ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
	/// The order that it was for.
	pub order: OrderId,
	/// What the client said, if it refused.
	pub refusal: Option<String>,
}

impl Trials {
	/// Begins one, unless there are too many, or one with this client already.
	pub fn begin(&self, order: &OrderId, open: &OpenChannel) -> bool {
		let mut trials = self.0.lock().expect("not poisoned");
		let busy = trials.len() >= MAX_TRIALS || trials.values().any(|trial| trial.peer == open.peer);
		if !busy {
			trials.insert(open.user_channel_id, Trial { peer: open.peer, order: Some(order.clone()) });
		}
		!busy
	}

	/// It could not be begun after all.
	pub fn forget(&self, id: u128) {
		self.0.lock().expect("not poisoned").remove(&id);
	}

	/// Is this channel a trial?
	pub fn contains(&self, id: u128) -> bool {
		self.0.lock().expect("not poisoned").contains_key(&id)
	}

	/// The client has accepted, or its time is up: `None` if the answer was given already.
	pub fn accepted(&self, id: u128) -> Option<Ended> {
		let order = self.0.lock().expect("not poisoned").get_mut(&id)?.order.take()?;
		Some(Ended { order, refusal: None })
	}

	/// LDK has closed the channel: `None` if the answer was given already.
	pub fn closed(&self, id: u128, reason: &ClosureReason) -> Option<Ended> {
		let order = self.0.lock().expect("not poisoned").remove(&id)?.order?;
		let refusal = match reason {
			ClosureReason::CounterpartyForceClosed { peer_msg } => Some(peer_msg.0.clone()),
			ClosureReason::ProcessingError { err } => Some(err.clone()),
			_ => None,
		};
		Some(Ended { order, refusal })
	}
}

/// Does this client's `init` say that it can take the channel? One that does not say so may be able to, and is not tried.
pub fn can_take(features: &InitFeatures, open: &OpenChannel) -> bool {
	let hidden = open.announce || features.supports_scid_privacy();
	let at_once = open.confirmations > 0 || (features.supports_zero_conf() && features.supports_scid_privacy());
	features.supports_anchors_zero_fee_htlc_tx() && features.supports_channel_type() && hidden && at_once
}

impl Lightning {
	/// The features in the `init` of a connected peer.
	pub fn features_of(&self, peer: &PublicKey) -> Option<InitFeatures> {
		self.peers.peer_by_node_id(peer).map(|details| details.init_features)
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use bitcoin::secp256k1::{Secp256k1, SecretKey};
	use inlet_lsp::input::Owner;
	use inlet_lsp::money::{FeePerKw, Msat, Sat};
	use lightning::types::string::UntrustedString;

	fn open(id: u128) -> OpenChannel {
		let secret = SecretKey::from_slice(&[id as u8; 32]).unwrap();
		OpenChannel {
			owner: Owner::Order("order".into()),
			user_channel_id: id,
			peer: PublicKey::from_secret_key(&Secp256k1::new(), &secret),
			capacity: Sat(100_000),
			push: Msat(0),
			announce: false,
			confirmations: 0,
			max_to_self_delay: None,
			feerate: FeePerKw(253),
			withhold: false,
			batch: None,
		}
	}

	fn refused(why: &str) -> ClosureReason {
		ClosureReason::CounterpartyForceClosed { peer_msg: UntrustedString(why.into()) }
	}

	#[test]
	fn r6_only_a_refusal_counts_and_each_trial_is_answered_once() {
		let trials = Trials::default();
		let order: OrderId = "order".into();
		for reason in [ClosureReason::DisconnectedPeer, ClosureReason::FundingTimedOut, refused("no")] {
			let is_refusal = matches!(reason, ClosureReason::CounterpartyForceClosed { .. });
			assert!(trials.begin(&order, &open(1)));
			let ended = Ended { order: order.clone(), refusal: is_refusal.then(|| "no".to_owned()) };
			assert_eq!(trials.closed(1, &reason), Some(ended));
			assert!(!trials.contains(1));
		}
		assert!(trials.begin(&order, &open(1)));
		assert_eq!(trials.accepted(1), Some(Ended { order: order.clone(), refusal: None }));
		assert!(trials.accepted(1).is_none() && trials.contains(1), "its end is still to be heard of");
		assert!(!trials.begin(&order, &open(1)), "one at a time with a client");
		assert!(trials.closed(1, &refused("we hung up on it")).is_none());
		assert!(trials.begin(&order, &open(1)));
	}

	#[test]
	fn r6_trials_are_bounded() {
		let trials = Trials::default();
		let begun = (1..=200).filter(|id| trials.begin(&"order".into(), &open(*id))).count();
		assert_eq!(begun, MAX_TRIALS);
	}

	#[test]
	fn r6_a_client_is_tried_only_if_it_declares_what_the_channel_needs() {
		let mut features = InitFeatures::empty();
		assert!(!can_take(&features, &open(1)));
		features.set_channel_type_optional();
		features.set_scid_privacy_optional();
		features.set_zero_conf_optional();
		assert!(!can_take(&features, &open(1)), "anchors");
		features.set_anchors_zero_fee_htlc_tx_optional();
		assert!(can_take(&features, &open(1)));
		features.clear_zero_conf();
		assert!(!can_take(&features, &open(1)));
		assert!(can_take(&features, &OpenChannel { confirmations: 1, ..open(1) }));
		features.clear_scid_privacy();
		assert!(!can_take(&features, &OpenChannel { confirmations: 1, ..open(1) }));
		assert!(can_take(&features, &OpenChannel { confirmations: 1, announce: true, ..open(1) }));
	}
}
