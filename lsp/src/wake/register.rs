//! Webhooks are set, listed, removed, and forgotten.

use crate::book::{Changes, Client, MAX_CLIENTS, NodeId, Webhook};
use crate::input::Action;
use crate::notice::Notice;
use crate::protocol::lsps0::RpcError;
use crate::protocol::lsps5::{self, SetWebhook};
use crate::time::Timestamp;
use crate::turn::Turn;
use serde_json::{Value, json};

/// Each change makes us send something (L5-23): per client and hour, so many changes for each webhook that it may have.
const CHANGES_PER_WEBHOOK: u32 = 2;
const CHANGES_COUNTED_SECS: u64 = 3_600;

/// A client without a channel that sets its webhook again is remembered anew. That is written once a day at most.
const REFRESH_SECS: u64 = 86_400;

/// `lsps5.set_webhook` (L5-1, L5-2). The answer leaves after the commit (L5-13), as every answer does.
pub(crate) fn set_webhook(turn: &mut Turn<'_>, peer: NodeId, call: &SetWebhook) -> Result<Value, RpcError> {
	let max_webhooks = turn.policy().lsps5.max_webhooks;
	let mut client = turn.client(&peer);
	let is_first = client.wake.is_empty();
	let known = client.wake.webhooks.iter().position(|webhook| webhook.app_name == call.app_name);
	let has_channel = turn.world.peer.channels.iter().any(|channel| channel.usable);
	let old = known.and_then(|at| client.wake.webhooks.get_mut(at));
	let no_change = old.as_ref().is_some_and(|webhook| webhook.url == call.webhook);
	if !no_change {
		if old.is_none() {
			admit(turn, &client, has_channel)?;
		}
		count_change(turn, &mut client)?;
		match known.and_then(|at| client.wake.webhooks.get_mut(at)) {
			Some(webhook) => webhook.url.clone_from(&call.webhook),
			None => {
				client.wake.webhooks.push(Webhook { app_name: call.app_name.clone(), url: call.webhook.clone() });
			}
		}
		client.wake.note(turn.now, "webhook", "set".to_string());
		turn.act(Action::Notify {
			client: peer,
			app_name: call.app_name.clone(),
			url: call.webhook.clone(),
			notice: Notice::WebhookRegistered,
		});
	}
	refresh(turn, &mut client, has_channel, is_first);
	let answer = lsps5::webhook_set(client.wake.webhooks.len(), max_webhooks, no_change);
	turn.put_client(client);
	Ok(answer)
}

/// May this client have one more?
fn admit(turn: &Turn<'_>, client: &Client, has_channel: bool) -> Result<(), RpcError> {
	let policy = &turn.policy().lsps5;
	if client.wake.webhooks.len() >= as_count(policy.max_webhooks) {
		return Err(lsps5::too_many_webhooks(policy.max_webhooks));
	}
	if has_channel || !client.wake.is_empty() {
		return Ok(());
	}
	// Counted from what is there, never by a counter beside it.
	let strangers = turn.book.sleepers().filter(|known| known.wake.without_channel_since.is_some()).count();
	let is_new = turn.book.client(&client.id).is_none();
	if strangers >= as_count(policy.max_clients_without_channel) || is_new && turn.book.clients.len() >= MAX_CLIENTS {
		return Err(RpcError::rejected("we take no more webhooks of clients without a channel now"));
	}
	Ok(())
}

fn count_change(turn: &Turn<'_>, client: &mut Client) -> Result<(), RpcError> {
	let changes = &mut client.wake.changes;
	if changes.since > turn.now || turn.now >= changes.since.plus_secs(CHANGES_COUNTED_SECS) {
		*changes = Changes { since: turn.now, count: 0 };
	}
	let limit = turn.policy().lsps5.max_webhooks.saturating_mul(CHANGES_PER_WEBHOOK);
	if changes.count >= limit {
		return Err(RpcError::rejected("too many changes of webhooks; try again in an hour"));
	}
	changes.count = changes.count.saturating_add(1);
	Ok(())
}

/// Counts the days without a channel from now, if this is the client's first webhook or it has none for a while.
fn refresh(turn: &Turn<'_>, client: &mut Client, has_channel: bool, is_first: bool) {
	let since = &mut client.wake.without_channel_since;
	if has_channel {
		*since = None;
	} else if is_first || since.is_some_and(|at| turn.now >= at.plus_secs(REFRESH_SECS)) {
		*since = Some(turn.now);
	}
}

/// `lsps5.list_webhooks`.
pub(crate) fn list_webhooks(turn: &Turn<'_>, peer: NodeId) -> Value {
	let client = turn.client(&peer);
	let names = client.wake.webhooks.iter().map(|webhook| webhook.app_name.as_str());
	lsps5::webhooks(names, turn.policy().lsps5.max_webhooks)
}

/// `lsps5.remove_webhook`.
pub(crate) fn remove_webhook(turn: &mut Turn<'_>, peer: NodeId, app_name: &str) -> Result<Value, RpcError> {
	let mut client = turn.client(&peer);
	let before = client.wake.webhooks.len();
	client.wake.webhooks.retain(|webhook| webhook.app_name != app_name);
	if client.wake.webhooks.len() == before {
		return Err(lsps5::app_name_not_found());
	}
	client.wake.note(turn.now, "webhook", "removed".to_string());
	turn.put_client(client);
	Ok(json!({}))
}

/// A client with a channel is remembered for ever; one without, for `retention_days` from the day that it lost the last
/// one or set its webhook (L5-14).
pub(super) fn keep_or_forget(turn: &Turn<'_>, client: &mut Client, has_channel: bool) {
	let wake = &mut client.wake;
	if has_channel {
		wake.without_channel_since = None;
		return;
	}
	let since: Timestamp = *wake.without_channel_since.get_or_insert(turn.now);
	let kept_secs = u64::from(turn.policy().lsps5.retention_days).saturating_mul(86_400);
	if turn.now >= since.plus_secs(kept_secs) && !wake.webhooks.is_empty() {
		wake.webhooks.clear();
		wake.notified.clear();
		wake.note(turn.now, "webhook", "forgotten: no channel for too long".to_string());
	}
}

fn as_count(limit: u32) -> usize {
	usize::try_from(limit).unwrap_or(usize::MAX)
}
