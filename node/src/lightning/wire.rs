//! LSPS0's transport: messages of type 37913, their payload handed to the driver as it came.
//!
//! LDK calls in from its message loop, so nothing here parses or waits. What is not taken at once for want of room is
//! dropped: bLIP-50 lets a message be lost, and a client that floods must not hold up the others.

use bitcoin::secp256k1::PublicKey;
use lightning::io;
use lightning::ln::msgs::{DecodeError, Init, LightningError};
use lightning::ln::peer_handler::CustomMessageHandler;
use lightning::ln::wire::{CustomMessageReader, Type};
use lightning::types::features::{InitFeatures, NodeFeatures};
use lightning::util::ser::{LengthLimitedRead, Writeable, Writer};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use tokio::sync::{mpsc, watch};

/// bLIP-50's message type.
pub const LSPS_MESSAGE_TYPE: u16 = 37913;
/// bLIP-50's `option_supports_lsps`.
const LSPS_FEATURE_BIT: usize = 729;
/// Payloads of all peers that wait for the driver.
const MAX_INCOMING: usize = 1_000;
/// Payloads of one peer that wait for the driver.
const MAX_INCOMING_PER_PEER: usize = 64;
/// Payloads that wait to be sent.
const MAX_OUTGOING: usize = 2_000;

/// A payload of type 37913, not looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LspsBytes(pub Vec<u8>);

impl Writeable for LspsBytes {
	fn write<W: Writer>(&self, writer: &mut W) -> Result<(), io::Error> {
		// Not `Vec::write`, which puts a length in front: the payload is the rest of the message.
		writer.write_all(&self.0)
	}
}

impl Type for LspsBytes {
	fn type_id(&self) -> u16 {
		LSPS_MESSAGE_TYPE
	}
}

/// What the wire tells the driver.
#[derive(Debug)]
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

/// LDK's [`CustomMessageHandler`] for LSPS.
pub struct Wire {
	incoming: mpsc::UnboundedSender<WireEvent>,
	outgoing: Mutex<Vec<(PublicKey, LspsBytes)>>,
	/// How many payloads of each peer wait; a peer without any is not in it.
	waiting: Mutex<HashMap<PublicKey, usize>>,
	/// Who is connected. LDK tells its channel manager before us, so whoever is in it can be sold a channel.
	connected: watch::Sender<HashSet<PublicKey>>,
}

impl Wire {
	/// The handler and the stream of what it hears. The stream is bounded by what [`Wire`] lets in: [`MAX_INCOMING`]
	/// payloads, and two notices for each connection that LDK allows.
	pub fn new() -> (Wire, mpsc::UnboundedReceiver<WireEvent>) {
		let (incoming, receiver) = mpsc::unbounded_channel();
		(
			Wire {
				incoming,
				outgoing: Mutex::default(),
				waiting: Mutex::default(),
				connected: watch::Sender::default(),
			},
			receiver,
		)
	}

	/// Changes whenever a peer's `init` arrived or a peer went away.
	pub fn connections(&self) -> watch::Receiver<HashSet<PublicKey>> {
		self.connected.subscribe()
	}

	/// Is this peer connected, its `init` received?
	pub fn is_connected(&self, peer: &PublicKey) -> bool {
		self.connected.borrow().contains(peer)
	}

	/// The driver has taken a message of this peer off the stream.
	pub fn taken(&self, peer: &PublicKey) {
		let mut waiting = self.waiting.lock().expect("not poisoned");
		if let Some(count) = waiting.get_mut(peer) {
			*count -= 1;
			if *count == 0 {
				waiting.remove(peer);
			}
		}
	}

	/// Queues a payload; the caller then lets the peer manager process events. Over [`MAX_OUTGOING`] it is dropped.
	pub fn send(&self, peer: PublicKey, bytes: Vec<u8>) {
		let mut outgoing = self.outgoing.lock().expect("not poisoned");
		if outgoing.len() >= MAX_OUTGOING {
			tracing::warn!(target: "inlet::lsps", %peer, "too many unsent LSPS messages, one dropped");
			return;
		}
		outgoing.push((peer, LspsBytes(bytes)));
	}

	fn admit(&self, peer: PublicKey) -> bool {
		let mut waiting = self.waiting.lock().expect("not poisoned");
		if waiting.values().sum::<usize>() >= MAX_INCOMING {
			return false;
		}
		let count = waiting.entry(peer).or_default();
		if *count >= MAX_INCOMING_PER_PEER {
			return false;
		}
		*count += 1;
		true
	}
}

impl CustomMessageReader for Wire {
	type CustomMessage = LspsBytes;

	fn read<R: LengthLimitedRead>(&self, message_type: u16, buffer: &mut R) -> Result<Option<LspsBytes>, DecodeError> {
		if message_type != LSPS_MESSAGE_TYPE {
			return Ok(None);
		}
		// LDK's reader ends with the message, which has at most 65533 bytes after its type.
		let mut bytes = vec![0; usize::try_from(buffer.remaining_bytes()).unwrap_or(0)];
		buffer.read_exact(&mut bytes)?;
		Ok(Some(LspsBytes(bytes)))
	}
}

impl CustomMessageHandler for Wire {
	fn handle_custom_message(&self, msg: LspsBytes, peer: PublicKey) -> Result<(), LightningError> {
		if self.admit(peer) {
			// A closed stream means that we are stopping.
			let _ = self.incoming.send(WireEvent::Message { peer, bytes: msg.0 });
		} else {
			tracing::debug!(target: "inlet::lsps", %peer, "LSPS message dropped: too many wait already");
		}
		Ok(())
	}

	fn get_and_clear_pending_msg(&self) -> Vec<(PublicKey, LspsBytes)> {
		std::mem::take(&mut *self.outgoing.lock().expect("not poisoned"))
	}

	fn peer_disconnected(&self, peer: PublicKey) {
		self.connected.send_modify(|connected| {
			connected.remove(&peer);
		});
		let _ = self.incoming.send(WireEvent::Disconnected { peer });
	}

	fn peer_connected(&self, peer: PublicKey, _: &Init, _: bool) -> Result<(), ()> {
		self.connected.send_modify(|connected| {
			connected.insert(peer);
		});
		let _ = self.incoming.send(WireEvent::Connected { peer });
		Ok(())
	}

	fn provided_node_features(&self) -> NodeFeatures {
		let mut features = NodeFeatures::empty();
		features.set_optional_custom_bit(LSPS_FEATURE_BIT).expect("729 is a custom bit");
		features
	}

	fn provided_init_features(&self, _: PublicKey) -> InitFeatures {
		let mut features = InitFeatures::empty();
		features.set_optional_custom_bit(LSPS_FEATURE_BIT).expect("729 is a custom bit");
		features
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use bitcoin::secp256k1::{Secp256k1, SecretKey};

	fn peer(n: u8) -> PublicKey {
		PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[n; 32]).unwrap())
	}

	#[test]
	fn the_payload_is_the_whole_rest_of_the_message() {
		assert_eq!(LspsBytes(b"{}".to_vec()).encode(), b"{}");
	}

	#[test]
	fn one_flooding_peer_leaves_room_for_others() {
		let (wire, mut stream) = Wire::new();
		for _ in 0..MAX_INCOMING_PER_PEER * 3 {
			wire.handle_custom_message(LspsBytes(vec![1]), peer(1)).unwrap();
		}
		wire.handle_custom_message(LspsBytes(vec![2]), peer(2)).unwrap();
		let mut seen = Vec::new();
		while let Ok(WireEvent::Message { peer, .. }) = stream.try_recv() {
			wire.taken(&peer);
			seen.push(peer);
		}
		assert_eq!(seen.iter().filter(|p| **p == peer(1)).count(), MAX_INCOMING_PER_PEER);
		assert_eq!(seen.iter().filter(|p| **p == peer(2)).count(), 1);
		assert!(wire.admit(peer(1)), "room again once the driver has taken them");
	}
}
