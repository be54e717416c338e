//! Which channel an SCID names. LDK can be asked only for all channels, and an HTLC must not cost a look at every client.

use bitcoin::secp256k1::PublicKey;
use lightning::ln::channel_state::ChannelDetails;
use lightning::ln::types::ChannelId;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

/// A channel and its peer.
type Named = (PublicKey, ChannelId);

/// What LDK says of a channel.
#[derive(Clone, Copy, Debug)]
pub struct Place {
	/// With whom, and which.
	pub named: (PublicKey, ChannelId),
	/// The name that we told the peer.
	pub alias: Option<u64>,
	/// Where it is in the chain.
	pub mined: Option<u64>,
}

impl From<&ChannelDetails> for Place {
	fn from(channel: &ChannelDetails) -> Place {
		Place {
			named: (channel.counterparty.node_id, channel.channel_id),
			alias: channel.outbound_scid_alias,
			mined: channel.short_channel_id,
		}
	}
}

/// The SCIDs of our channels: at most two for each.
#[derive(Debug, Default)]
pub struct Scids(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
	channels: HashMap<u64, Named>,
	/// Channels that have no place in the chain yet: LDK does not tell when they get one.
	unconfirmed: HashSet<Named>,
}

impl Scids {
	/// Takes in what LDK says of these channels now.
	pub fn learn(&self, channels: impl IntoIterator<Item = Place>) {
		let mut known = self.known();
		for Place { named, alias, mined } in channels {
			known.channels.extend(alias.into_iter().chain(mined).map(|scid| (scid, named)));
			match mined {
				Some(_) => known.unconfirmed.remove(&named),
				None => known.unconfirmed.insert(named),
			};
		}
	}

	/// A channel is no more.
	pub fn forget(&self, channel_id: ChannelId) {
		let mut known = self.known();
		known.channels.retain(|_, named| named.1 != channel_id);
		known.unconfirmed.retain(|named| named.1 != channel_id);
	}

	/// The channel with this SCID. `ask` gives a peer's channels as they are now: it is asked for those that may have been
	/// mined meanwhile.
	pub fn find(&self, scid: u64, ask: impl Fn(&PublicKey) -> Vec<Place>) -> Option<Named> {
		let (found, peers) = {
			let known = self.known();
			let peers: HashSet<PublicKey> = known.unconfirmed.iter().map(|(peer, _)| *peer).collect();
			(known.channels.get(&scid).copied(), peers)
		};
		if found.is_some() {
			return found;
		}
		peers.iter().for_each(|peer| self.learn(ask(peer)));
		self.known().channels.get(&scid).copied()
	}

	fn known(&self) -> MutexGuard<'_, Known> {
		self.0.lock().expect("not poisoned")
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use bitcoin::secp256k1::{Secp256k1, SecretKey};
	use std::cell::Cell;

	fn peer(n: u8) -> PublicKey {
		PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[n; 32]).unwrap())
	}

	#[test]
	fn a_channel_is_found_by_either_name_and_only_peers_of_unconfirmed_ones_are_asked() {
		let (scids, asked) = (Scids::default(), Cell::new(0));
		let (old, new) = ((peer(1), ChannelId([1; 32])), (peer(2), ChannelId([2; 32])));
		scids.learn([Place { named: old, alias: Some(10), mined: Some(11) }]);
		let find = |scid, mined| {
			scids.find(scid, |of| {
				asked.set(asked.get() + 1);
				assert_eq!(*of, peer(2));
				vec![Place { named: new, alias: Some(20), mined }]
			})
		};
		assert_eq!([find(10, None), find(11, None), find(12, None)], [Some(old), Some(old), None]);
		assert_eq!(asked.get(), 0, "all that is known is in the chain");

		scids.learn([Place { named: new, alias: Some(20), mined: None }]);
		assert_eq!([find(20, None), find(21, None)], [Some(new), None]);
		assert_eq!(asked.get(), 1);
		assert_eq!(find(21, Some(21)), Some(new), "it was mined meanwhile");
		assert_eq!(find(22, None), None);
		assert_eq!(asked.get(), 2, "and is not asked for again");

		scids.forget(new.1);
		assert_eq!([find(20, None), find(21, None), find(10, None)], [None, None, Some(old)]);
	}
}
