//! LSPS0's transport: messages of type 37913, their payload handed to the driver as it came.
//!
//! LDK calls in from its message loop, so nothing here parses or waits. What comes in goes to the [`Inbox`]; a peer that sends
//! more than its share is not read from until there is room: nothing of a well-behaved client is lost (L0-21).

use super::inbox::Inbox;
pub use super::inbox::WireEvent;
use super::socket::Line;
use bitcoin::secp256k1::PublicKey;
use lightning::io;
use lightning::ln::msgs::{DecodeError, Init, LightningError};
use lightning::ln::peer_handler::CustomMessageHandler;
use lightning::ln::wire::{CustomMessageReader, Type};
use lightning::types::features::{InitFeatures, NodeFeatures};
use lightning::util::ser::{LengthLimitedRead, Writeable, Writer};
use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;
use tokio::sync::{Notify, watch};

/// bLIP-50's message type.
pub const LSPS_MESSAGE_TYPE: u16 = 37913;
/// bLIP-50's `option_supports_lsps`.
const LSPS_FEATURE_BIT: usize = 729;
/// Payloads that wait to be sent.
const MAX_OUTGOING: usize = 2_000;
/// Strangers of whom is remembered that they cannot parse all that the specification has us send.
const MAX_TEXT_ERRORS: usize = 1_000;

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

/// LDK's [`CustomMessageHandler`] for LSPS.
#[derive(Default)]
pub struct Wire {
	inbox: Mutex<Inbox>,
	/// There is something in the inbox.
	arrived: Notify,
	outgoing: Mutex<Vec<(PublicKey, LspsBytes)>>,
	/// Who is connected. LDK tells its channel manager before us, so whoever is in it can be sold a channel.
	connected: watch::Sender<HashSet<PublicKey>>,
	/// Strangers who cannot parse an object in `error.data`, the newest last, at most [`MAX_TEXT_ERRORS`].
	text_errors: Mutex<VecDeque<PublicKey>>,
}

impl Wire {
	/// What comes next from the peers, for the driver. One caller at a time, which can be cut off while it waits.
	pub async fn next(&self) -> WireEvent {
		loop {
			if let Some(event) = self.inbox().take() {
				return event;
			}
			self.arrived.notified().await;
		}
	}

	/// Changes whenever a peer's `init` arrived or a peer went away.
	pub fn connections(&self) -> watch::Receiver<HashSet<PublicKey>> {
		self.connected.subscribe()
	}

	/// Is this peer connected, its `init` received?
	pub fn is_connected(&self, peer: &PublicKey) -> bool {
		self.connected.borrow().contains(peer)
	}

	/// This stranger cannot parse an object in `error.data`.
	pub fn remember_text_errors(&self, peer: PublicKey) {
		let mut peers = self.text_errors.lock().expect("not poisoned");
		peers.retain(|known| *known != peer);
		if peers.len() >= MAX_TEXT_ERRORS {
			peers.pop_front();
		}
		peers.push_back(peer);
	}

	/// Was that remembered of this peer?
	pub fn wants_text_errors(&self, peer: &PublicKey) -> bool {
		self.text_errors.lock().expect("not poisoned").contains(peer)
	}

	/// The driver has finished with a message of this peer.
	pub fn done(&self, peer: &PublicKey) {
		self.inbox().done(peer);
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

	fn inbox(&self) -> std::sync::MutexGuard<'_, Inbox> {
		self.inbox.lock().expect("not poisoned")
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
		if let Some(line) = Line::reading() {
			line.charge(msg.0.len());
		}
		if self.inbox().push(peer, msg.0) {
			self.arrived.notify_one();
		} else {
			tracing::warn!(target: "inlet::lsps", %peer, "LSPS message dropped: too many wait already");
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
		self.inbox().disconnected(&peer);
		self.arrived.notify_one();
	}

	fn peer_connected(&self, peer: PublicKey, _: &Init, _: bool) -> Result<(), ()> {
		let line = Line::reading();
		if let Some(line) = &line {
			line.shaken(peer);
		}
		self.inbox().connected(peer, line);
		self.arrived.notify_one();
		self.connected.send_modify(|connected| {
			connected.insert(peer);
		});
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
	#[test]
	fn the_payload_is_the_whole_rest_of_the_message() {
		assert_eq!(LspsBytes(b"{}".to_vec()).encode(), b"{}");
	}
}
