//! Onion messages for clients that are away: kept in memory for a while, and handed over when the client is back.

use super::OnionMessenger;
use bitcoin::secp256k1::PublicKey;
use lightning::ln::msgs::OnionMessage;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Messages kept for all clients; each is at most as long as a Lightning message.
const MAX_KEPT: usize = 64;
/// Messages kept for one client.
const MAX_PER_CLIENT: usize = 4;
/// Of these, messages for clients without a channel: whoever registers a webhook is one.
const MAX_WITHOUT_CHANNEL: usize = 16;
/// How long one is kept: whoever sent it does not wait longer for an answer.
const KEPT: Duration = Duration::from_secs(120);

struct Kept {
	client: PublicKey,
	has_channel: bool,
	message: OnionMessage,
	since: Instant,
}

/// The messages, oldest first.
#[derive(Default)]
pub struct Onions(Mutex<VecDeque<Kept>>);

impl Onions {
	/// Keeps a message; false if there is no room for it.
	pub fn keep(&self, client: PublicKey, has_channel: bool, message: OnionMessage) -> bool {
		let mut all = self.0.lock().expect("not poisoned");
		all.retain(|kept| kept.since.elapsed() < KEPT);
		let own = all.iter().filter(|kept| kept.client == client).count();
		let without = all.iter().filter(|kept| !kept.has_channel).count();
		let has_share = has_channel || without < MAX_WITHOUT_CHANNEL;
		let has_room = all.len() < MAX_KEPT && own < MAX_PER_CLIENT && has_share;
		if has_room {
			all.push_back(Kept { client, has_channel, message, since: Instant::now() });
		}
		has_room
	}

	/// Takes what is kept for a client.
	fn take(&self, client: PublicKey) -> Vec<OnionMessage> {
		let mut all = self.0.lock().expect("not poisoned");
		let (own, others): (VecDeque<Kept>, VecDeque<Kept>) =
			std::mem::take(&mut *all).into_iter().partition(|kept| kept.client == client);
		*all = others;
		own.into_iter().filter(|kept| kept.since.elapsed() < KEPT).map(|kept| kept.message).collect()
	}

	/// Hands a client that is back what is kept for it.
	pub(super) fn deliver(&self, client: PublicKey, messenger: &OnionMessenger) {
		for message in self.take(client) {
			if let Err(e) = messenger.forward_onion_message(message, &client) {
				tracing::debug!(target: "inlet::wake", %client, "an onion message was not delivered: {e:?}");
			}
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use bitcoin::secp256k1::{Secp256k1, SecretKey};
	use lightning::util::ser::LengthReadable;

	fn client(n: u8) -> PublicKey {
		PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[n; 32]).unwrap())
	}

	/// A message as it comes over the wire: a point, a length, and a packet that nobody can open.
	fn message() -> OnionMessage {
		let mut bytes = client(200).serialize().to_vec();
		let mut packet = vec![0];
		packet.extend(client(201).serialize());
		packet.extend([7; 1300 + 32]);
		bytes.extend(u16::try_from(packet.len()).unwrap().to_be_bytes());
		bytes.extend(packet);
		OnionMessage::read_from_fixed_length_buffer(&mut &bytes[..]).unwrap()
	}

	#[test]
	fn l5_16_messages_for_a_sleeping_client_are_kept_within_bounds_and_given_once() {
		let onions = Onions::default();
		let kept = (0..20).filter(|_| onions.keep(client(1), true, message())).count();
		assert_eq!(kept, MAX_PER_CLIENT);
		assert!(onions.keep(client(2), true, message()));
		assert_eq!(onions.take(client(1)).len(), MAX_PER_CLIENT);
		assert_eq!(onions.take(client(1)).len(), 0);
		let all =
			(10..60).flat_map(|n| [n; MAX_PER_CLIENT]).filter(|n| onions.keep(client(*n), true, message())).count();
		assert_eq!(all, MAX_KEPT - 1, "one is there already");
	}

	#[test]
	fn r16_messages_for_strangers_leave_room_for_those_with_a_channel() {
		let onions = Onions::default();
		let strangers = (1..60).flat_map(|n| [n; MAX_PER_CLIENT]);
		assert_eq!(strangers.filter(|n| onions.keep(client(*n), false, message())).count(), MAX_WITHOUT_CHANNEL);
		let clients = (60..120).flat_map(|n| [n; MAX_PER_CLIENT]);
		let kept = clients.filter(|n| onions.keep(client(*n), true, message())).count();
		assert_eq!(kept, MAX_KEPT - MAX_WITHOUT_CHANNEL);
	}
}
