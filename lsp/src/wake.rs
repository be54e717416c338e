//! bLIP-55: clients that sleep are woken over their webhooks, and what is for them waits a while.
//!
//! Webhooks, what was notified when, and held HTLCs are in the client's row ([`Wake`](crate::book::Wake)). See
//! `docs/core.md`.

mod hold;
mod register;

pub(crate) use hold::{channel_closed, htlc_gone, htlc_intercepted, tick};
pub(crate) use register::{list_webhooks, remove_webhook, set_webhook};

use crate::book::{Client, NodeId};
use crate::input::{Action, Sight};
use crate::notice::Notice;
use crate::time::Timestamp;
use crate::turn::Turn;
use std::collections::BTreeSet;

/// HTLCs held for the channels of one sleeping client.
pub const MAX_HELD_PER_CLIENT: usize = 30;
/// HTLCs held for the channels of all sleeping clients.
pub const MAX_HELD: usize = 1_000;
/// Of these, so many for clients that never paid us for a channel: the rest is for those who did.
pub const MAX_HELD_OF_STRANGERS: usize = 300;

/// bLIP-55: so many blocks before a contract forces a channel to be closed, the client is told.
pub const EXPIRY_SOON_BLOCKS: u32 = 24;
/// That is not said again, while the client stays away, before this time has passed: the contract stays for many
/// blocks.
const EXPIRY_SOON_AGAIN_SECS: u64 = 3_600;

/// A payment waits for this client, which is away: it is told, unless it was told so lately.
pub(crate) fn payment_incoming(turn: &mut Turn<'_>, client: &NodeId) {
	let mut client = turn.client(client);
	notify(turn, &mut client, &Notice::PaymentIncoming);
	if !client.wake.webhooks.is_empty() {
		turn.put_client(client);
	}
}

/// Can we wake this client?
pub(crate) fn can_wake(turn: &Turn<'_>, client: &NodeId) -> bool {
	turn.policy().lsps5.enabled && turn.book.client(client).is_some_and(|client| !client.wake.webhooks.is_empty())
}

/// Sends the notice to all webhooks of a client that is away, once in the cooldown of its kind (L5-20).
fn notify(turn: &mut Turn<'_>, client: &mut Client, notice: &Notice) {
	let policy = &turn.policy().lsps5;
	if !policy.enabled || client.wake.webhooks.is_empty() {
		return;
	}
	let cooldown = match notice {
		Notice::ExpirySoon { .. } => policy.cooldown_secs.max(EXPIRY_SOON_AGAIN_SECS),
		_ => policy.cooldown_secs,
	};
	// One from the future is from a clock that was wrong.
	let is_recent = |at: &Timestamp| *at <= turn.now && turn.now < at.plus_secs(cooldown);
	if client.wake.notified.get(notice.method()).is_some_and(is_recent) {
		return;
	}
	client.wake.notified.insert(notice.method().to_string(), turn.now);
	client.wake.note(turn.now, "wake", notice.method().to_string());
	for webhook in &client.wake.webhooks {
		turn.act(Action::Notify {
			client: client.id,
			app_name: webhook.app_name.clone(),
			url: webhook.url.clone(),
			notice: notice.clone(),
		});
	}
}

/// [`Input::Connected`](crate::input::Input::Connected): the client is awake, and what is held for it goes out.
pub(crate) fn connected(turn: &mut Turn<'_>, peer: NodeId) {
	if turn.book.client(&peer).is_none() {
		return;
	}
	let mut client = turn.client(&peer);
	client.wake.notified.clear();
	hold::forward_held(turn, &mut client);
	turn.put_client(client);
}

/// [`Input::Started`](crate::input::Input::Started): nobody is here yet. What is held gets its time anew, and its
/// client is told once more: whether the last notice left before the process ended is not known. Not if it was told in
/// this very moment: then this start was given twice.
pub(crate) fn started(turn: &mut Turn<'_>) {
	let until = turn.now.plus_secs(turn.policy().lsps5.hold_secs);
	let of_sales = turn.book.live_sales();
	let of_sales = of_sales
		.filter(|sale| !sale.parts.is_empty() || sale.forwarded.iter().any(|planned| planned.held_until.is_some()))
		.map(|sale| sale.client);
	let of_channels = turn.book.sleepers().filter(|client| !client.wake.held.is_empty()).map(|client| client.id);
	let awaited: BTreeSet<NodeId> = of_sales.chain(of_channels).collect();
	for id in awaited.into_iter().filter(|id| turn.book.client(id).is_some()) {
		let mut client = turn.client(&id);
		client.wake.held.iter_mut().for_each(|htlc| htlc.until = until);
		client.wake.notified.retain(|method, at| method != Notice::PaymentIncoming.method() || *at == turn.now);
		notify(turn, &mut client, &Notice::PaymentIncoming);
		turn.put_client(client);
	}
}

/// [`Input::Wanted`](crate::input::Input::Wanted).
pub(crate) fn wanted(turn: &mut Turn<'_>, peer: NodeId, notice: &Notice) {
	if !turn.world.peer.connected {
		call(turn, peer, notice);
	}
}

/// Tells a client that is away.
pub(crate) fn call(turn: &mut Turn<'_>, peer: NodeId, notice: &Notice) {
	if !can_wake(turn, &peer) {
		return;
	}
	let mut client = turn.client(&peer);
	notify(turn, &mut client, notice);
	turn.put_client(client);
}

/// [`Input::Survey`](crate::input::Input::Survey): contracts near their end, and webhooks to be forgotten (L5-14).
pub(crate) fn survey(turn: &mut Turn<'_>, clients: &[Sight]) {
	let soon = turn.world.height.saturating_add(EXPIRY_SOON_BLOCKS);
	for sight in clients.iter().filter(|sight| turn.book.client(&sight.client).is_some()) {
		let mut client = turn.client(&sight.client);
		if client.wake.is_empty() {
			continue;
		}
		register::keep_or_forget(turn, &mut client, sight.has_channel);
		if let Some(timeout) = sight.closes_at.filter(|at| *at <= soon && !sight.connected) {
			notify(turn, &mut client, &Notice::ExpirySoon { timeout });
		}
		turn.put_client(client);
	}
}
