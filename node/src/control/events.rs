//! What happens, as it happens.

use super::{Listed, Time};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use tokio::sync::broadcast;

/// How many events are kept for those who come late.
pub const EVENTS_KEPT: usize = 500;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
	/// The node runs.
	Started,
	/// The chain view became current.
	Synced,
	/// The chain view is no longer current.
	OutOfSync,
	/// A peer connected.
	PeerConnected,
	/// A peer disconnected.
	PeerDisconnected,
	/// Something happened to a sale.
	Sale,
	/// Something happened to an order.
	Order,
	/// A sleeping client was woken, or what was held for it went on or back.
	Client,
	/// A channel is being opened.
	ChannelPending,
	/// A channel is usable.
	ChannelReady,
	/// A channel is closed.
	ChannelClosed,
	/// A payment arrived.
	PaymentReceived,
	/// A payment of ours arrived.
	PaymentSent,
	/// A payment of ours failed.
	PaymentFailed,
	/// A payment was forwarded.
	Forward,
	/// Something that the operator should look at.
	Warning,
	/// The node is about to stop.
	Stopping,
}

impl EventKind {
	/// Its name, as in JSON.
	pub fn as_str(self) -> &'static str {
		match self {
			EventKind::Started => "started",
			EventKind::Synced => "synced",
			EventKind::OutOfSync => "out_of_sync",
			EventKind::PeerConnected => "peer_connected",
			EventKind::PeerDisconnected => "peer_disconnected",
			EventKind::Sale => "sale",
			EventKind::Order => "order",
			EventKind::Client => "client",
			EventKind::ChannelPending => "channel_pending",
			EventKind::ChannelReady => "channel_ready",
			EventKind::ChannelClosed => "channel_closed",
			EventKind::PaymentReceived => "payment_received",
			EventKind::PaymentSent => "payment_sent",
			EventKind::PaymentFailed => "payment_failed",
			EventKind::Forward => "forward",
			EventKind::Warning => "warning",
			EventKind::Stopping => "stopping",
		}
	}
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Event {
	/// Grows, also over restarts; not without gaps.
	pub id: u64,
	/// When.
	pub time: Time,
	/// What kind of thing.
	pub kind: EventKind,
	/// Id of the sale, order, channel, payment or peer that it happened to.
	pub subject: Option<String>,
	/// One line for people.
	pub text: String,
	/// The same for programs: an object, its fields by kind.
	#[cfg_attr(test, schemars(extend("type" = "object")))]
	pub data: serde_json::Value,
}

impl Listed for Event {
	const NOUN: &'static str = "events";
}

/// Keeps the newest events and hands new ones on: what an implementation of [`Control`](super::Control) needs for its events.
#[derive(Debug)]
pub struct Events {
	kept: Mutex<VecDeque<Event>>,
	live: broadcast::Sender<Event>,
}

impl Default for Events {
	fn default() -> Self {
		Events::new()
	}
}

impl Events {
	/// None yet.
	pub fn new() -> Events {
		Events { kept: Mutex::default(), live: broadcast::channel(EVENTS_KEPT).0 }
	}

	/// Something happened at `time`. Never blocks; who is too slow to listen loses the oldest.
	pub fn publish(
		&self,
		time: Time,
		kind: EventKind,
		subject: Option<String>,
		text: impl Into<String>,
		data: serde_json::Value,
	) {
		let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
		let id = kept.back().map_or(time.0, |last| time.0.max(last.id.saturating_add(1)));
		let event = Event { id, time, kind, subject, text: text.into(), data };
		if kept.len() == EVENTS_KEPT {
			kept.pop_front();
		}
		kept.push_back(event.clone());
		// Sent under the lock, so that all see them in the order of their ids. An error only says that nobody listens.
		let _ = self.live.send(event);
	}

	/// The newest, oldest of them first.
	pub fn recent(&self) -> Vec<Event> {
		self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
	}

	/// From now on.
	pub fn subscribe(&self) -> broadcast::Receiver<Event> {
		self.live.subscribe()
	}

	/// How many listen.
	pub fn followers(&self) -> usize {
		self.live.receiver_count()
	}
}
