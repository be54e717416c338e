//! What came in over the wire and waits for the driver: peers take turns, so that who floods waits for itself only.

use super::socket::{Line, MAX_MESSAGES_PER_SLICE};
use bitcoin::secp256k1::PublicKey;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Requests of one peer that wait or are being answered; then no more is read from it.
pub const MAX_PENDING: usize = 10;
/// Requests of one peer that are taken in all the same: those that were in what had been read already.
const MAX_TAKEN: usize = MAX_PENDING + MAX_MESSAGES_PER_SLICE;
/// Bytes of one peer that wait; then no more is read from it.
const MAX_BYTES: usize = 128 << 10;
/// Bytes of all peers that wait; then no more is read from those that have something waiting.
const MAX_BYTES_IN_ALL: usize = 8 << 20;

/// What the wire tells the driver.
#[derive(Debug, PartialEq, Eq)]
pub enum WireEvent {
	/// A payload arrived.
	Message {
		/// From whom.
		peer: PublicKey,
		/// The payload.
		bytes: Vec<u8>,
	},
	/// A peer is connected, its `init` received.
	Connected {
		/// Who.
		peer: PublicKey,
	},
	/// A peer is gone.
	Disconnected {
		/// Who.
		peer: PublicKey,
	},
}

#[derive(Default)]
struct Waiting {
	connected: bool,
	/// The driver was told that it is connected.
	told: bool,
	/// It went away and came back since.
	again: bool,
	messages: VecDeque<Vec<u8>>,
	bytes: usize,
	/// Messages that the driver took and has not finished.
	busy: usize,
	/// It has its turn.
	queued: bool,
	line: Option<Arc<Line>>,
}

/// What waits, a place for each peer that is connected, or of whose going the driver was not told yet.
#[derive(Default)]
pub struct Inbox {
	peers: HashMap<PublicKey, Waiting>,
	/// Peers with something to tell, each once, in the order of their turns.
	turns: VecDeque<PublicKey>,
	bytes: usize,
}

impl Inbox {
	/// A peer is connected.
	pub fn connected(&mut self, peer: PublicKey, line: Option<Arc<Line>>) {
		let waiting = self.peers.entry(peer).or_default();
		waiting.again |= waiting.told;
		waiting.connected = true;
		waiting.line = line;
		self.queue(peer);
	}

	/// A peer is gone: what of its requests still waits is dropped, for an answer could only be lost (bLIP-50). One that the
	/// driver has in hand is answered on its next connection, should it be back by then: it knows its request by the id.
	pub fn disconnected(&mut self, peer: &PublicKey) {
		let Some(waiting) = self.peers.get_mut(peer) else { return };
		self.bytes -= waiting.bytes;
		if waiting.told {
			*waiting = Waiting { told: true, queued: waiting.queued, ..Waiting::default() };
			self.queue(*peer);
		} else {
			self.peers.remove(peer);
			self.turns.retain(|other| other != peer);
		}
	}

	/// A payload came in; says whether it was taken. A connection that has enough waiting is no longer read from.
	pub fn push(&mut self, peer: PublicKey, bytes: Vec<u8>) -> bool {
		let Some(waiting) = self.peers.get_mut(&peer).filter(|waiting| waiting.connected) else { return false };
		if waiting.messages.len() + waiting.busy >= MAX_TAKEN {
			return false;
		}
		waiting.bytes += bytes.len();
		self.bytes += bytes.len();
		waiting.messages.push_back(bytes);
		self.throttle(&peer);
		self.queue(peer);
		true
	}

	/// What the driver takes next.
	pub fn take(&mut self) -> Option<WireEvent> {
		let peer = self.turns.pop_front()?;
		let waiting = self.peers.get_mut(&peer).expect("who has a turn has a place");
		let event = if waiting.told && (waiting.again || !waiting.connected) {
			(waiting.told, waiting.again) = (false, false);
			WireEvent::Disconnected { peer }
		} else if !waiting.told {
			waiting.told = true;
			WireEvent::Connected { peer }
		} else {
			let bytes = waiting.messages.pop_front().expect("who has a turn has something to tell");
			waiting.bytes -= bytes.len();
			self.bytes -= bytes.len();
			waiting.busy += 1;
			WireEvent::Message { peer, bytes }
		};
		if !waiting.connected && !waiting.told {
			self.peers.remove(&peer);
		} else if !waiting.told || !waiting.messages.is_empty() {
			self.turns.push_back(peer);
		} else {
			waiting.queued = false;
		}
		Some(event)
	}

	/// The driver has finished with a message of this peer.
	pub fn done(&mut self, peer: &PublicKey) {
		if let Some(waiting) = self.peers.get_mut(peer) {
			// None are busy if it came back meanwhile.
			waiting.busy = waiting.busy.saturating_sub(1);
			self.throttle(peer);
		}
	}

	fn throttle(&self, peer: &PublicKey) {
		let Some(waiting) = self.peers.get(peer) else { return };
		let pending = waiting.messages.len() + waiting.busy;
		let full = pending >= MAX_PENDING
			|| waiting.bytes >= MAX_BYTES
			// Who has nothing waiting may always ask: so each that is held back has something that lets it go on.
			|| (self.bytes >= MAX_BYTES_IN_ALL && pending > 0);
		if let Some(line) = &waiting.line {
			line.set_full(full);
		}
	}

	fn queue(&mut self, peer: PublicKey) {
		let waiting = self.peers.get_mut(&peer).expect("only who has a place has turns");
		if !std::mem::replace(&mut waiting.queued, true) {
			self.turns.push_back(peer);
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use bitcoin::secp256k1::{Secp256k1, SecretKey};

	fn peer(n: u8) -> PublicKey {
		PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[n; 32]).unwrap())
	}

	fn all(inbox: &mut Inbox) -> Vec<WireEvent> {
		std::iter::from_fn(|| inbox.take()).collect()
	}

	#[test]
	fn l0_24_who_floods_waits_for_itself_only() {
		let mut inbox = Inbox::default();
		inbox.connected(peer(1), None);
		inbox.connected(peer(2), None);
		for n in 0..10 {
			assert!(inbox.push(peer(1), vec![n]));
		}
		assert!(inbox.push(peer(2), vec![99]));
		let order = all(&mut inbox);
		let place = order.iter().position(|e| *e == WireEvent::Message { peer: peer(2), bytes: vec![99] });
		assert_eq!(place, Some(3), "two notices, one message of the other, then its own: {order:?}");
	}

	#[test]
	fn r14_what_waits_is_bounded_and_room_comes_back() {
		let mut inbox = Inbox::default();
		inbox.connected(peer(1), None);
		let taken = (0..1_000).filter(|_| inbox.push(peer(1), vec![0; 1_000])).count();
		assert_eq!(taken, MAX_TAKEN);
		assert_eq!(all(&mut inbox).len(), 1 + MAX_TAKEN);
		assert!(!inbox.push(peer(1), vec![]), "taken by the driver, but not answered");
		inbox.done(&peer(1));
		assert!(inbox.push(peer(1), vec![]));
		assert_eq!(inbox.bytes, 0);
	}

	#[test]
	fn r14_notices_do_not_pile_up_while_the_driver_is_busy() {
		let mut inbox = Inbox::default();
		inbox.connected(peer(1), None);
		assert_eq!(all(&mut inbox), [WireEvent::Connected { peer: peer(1) }]);
		for _ in 0..1_000 {
			inbox.push(peer(1), vec![0; 1_000]);
			inbox.disconnected(&peer(1));
			inbox.connected(peer(1), None);
			// One that the driver never heard of leaves nothing behind.
			inbox.connected(peer(2), None);
			inbox.disconnected(&peer(2));
		}
		assert_eq!((inbox.peers.len(), inbox.turns.len(), inbox.bytes), (1, 1, 0));
		let (gone, back) = (WireEvent::Disconnected { peer: peer(1) }, WireEvent::Connected { peer: peer(1) });
		assert_eq!(all(&mut inbox), [gone, back]);
		inbox.disconnected(&peer(1));
		assert_eq!(all(&mut inbox), [WireEvent::Disconnected { peer: peer(1) }]);
		assert!(inbox.peers.is_empty() && inbox.turns.is_empty());
	}

	#[test]
	fn l0_20_what_was_asked_before_a_hang_up_is_not_answered_after_it() {
		let mut inbox = Inbox::default();
		inbox.connected(peer(1), None);
		inbox.push(peer(1), vec![1]);
		inbox.disconnected(&peer(1));
		assert!(!inbox.push(peer(1), vec![2]), "nobody is there");
		inbox.connected(peer(1), None);
		inbox.push(peer(1), vec![3]);
		let expected = [WireEvent::Connected { peer: peer(1) }, WireEvent::Message { peer: peer(1), bytes: vec![3] }];
		assert_eq!(all(&mut inbox), expected);
	}
}
