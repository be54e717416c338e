//! Payments to the channels of clients that sleep.
//!
//! LDK intercepts what goes to a private channel whose peer is away. It is held while the client is woken, and goes in
//! full when it is back. A crash between the decision to forward and the deed leaves nothing behind: LDK raises the
//! HTLC again.

use super::{MAX_HELD, MAX_HELD_OF_STRANGERS, MAX_HELD_PER_CLIENT, can_wake, notify};
use crate::book::{Client, HeldHtlc, SaleState};
use crate::input::{Action, ChannelView, Hop, Input};
use crate::jit::{self, EXPIRY_MARGIN_BLOCKS};
use crate::money::Msat;
use crate::notice::Notice;
use crate::trust;
use crate::turn::Turn;

/// [`Input::HtlcIntercepted`]; false if it is not for a client's existing channel.
pub(crate) fn htlc_intercepted(turn: &mut Turn<'_>, input: &Input) -> bool {
	let Input::HtlcIntercepted { intercept_id, payment_hash, inbound, expected_outbound, expiry_height, .. } = input
	else {
		return false;
	};
	let Some(hop) = hop(turn, input) else { return false };
	let mut client = turn.client(&hop.peer);
	if client.wake.held.iter().all(|htlc| htlc.intercept_id != *intercept_id) {
		let Some(view) = view(turn, &hop.channel_id) else {
			turn.fail_htlc(*intercept_id, "the channel is not there any more");
			return true;
		};
		let htlc = HeldHtlc {
			intercept_id: *intercept_id,
			channel_id: hop.channel_id,
			user_channel_id: view.user_channel_id,
			payment_hash: *payment_hash,
			amount: (*inbound).min(*expected_outbound),
			expiry_height: *expiry_height,
			until: until(turn, &client, payment_hash),
		};
		if let Some(link) = link(turn, &htlc) {
			turn.act(forward(&client, &htlc, &link));
			return true;
		}
		// Nothing is written for one that is not held: it costs its sender nothing to send many.
		if let Err(reason) = admit(turn, &client, &htlc) {
			turn.fail_htlc(htlc.intercept_id, reason);
			return true;
		}
		client.wake.note(turn.now, "hold", format!("{} for a payment to a sleeping client", htlc.amount));
		client.wake.held.push(htlc);
	}
	forward_held(turn, &mut client);
	if !client.wake.held.is_empty() && !turn.world.peer.connected {
		notify(turn, &mut client, &Notice::PaymentIncoming);
	}
	turn.put_client(client);
	true
}

/// The client's channel that the HTLC is to go over: what its SCID names, or the channel of a sale that is paid for,
/// whose client is away.
fn hop(turn: &Turn<'_>, input: &Input) -> Option<Hop> {
	let Input::HtlcIntercepted { intercept_id, scid, channel, .. } = input else { return None };
	if let Some(client) = turn.book.client_by_intercept(intercept_id) {
		let held = client.wake.held.iter().find(|htlc| htlc.intercept_id == *intercept_id)?;
		return Some(Hop { peer: client.id, channel_id: held.channel_id });
	}
	let Some(sale) = turn.book.sale_by_scid(*scid) else { return *channel };
	let is_known = turn.book.sale_by_intercept(intercept_id).is_some();
	let channel_id = sale.open_channel().and_then(|channel| channel.channel_id)?;
	let is_paid = sale.state == SaleState::Done && !is_known;
	(is_paid && turn.usable(&channel_id).is_none()).then_some(Hop { peer: sale.client, channel_id })
}

/// All parts of a payment go back at once.
fn until(turn: &Turn<'_>, client: &Client, payment_hash: &[u8; 32]) -> crate::time::Timestamp {
	let same = client.wake.held.iter().filter(|htlc| htlc.payment_hash == *payment_hash);
	same.map(|htlc| htlc.until).min().unwrap_or(turn.now.plus_secs(turn.policy().lsps5.hold_secs))
}

/// May it be held? The reason if not.
fn admit(turn: &Turn<'_>, client: &Client, htlc: &HeldHtlc) -> Result<(), &'static str> {
	let fits = |view: &ChannelView| view.next_outbound_htlc_limit >= htlc.amount && may_carry(turn, view);
	let is_stranger = |client: &Client| !trust::has_paid(client);
	if !can_wake(turn, &client.id) {
		Err("the client is away and has no webhook")
	} else if is_late(turn, htlc) {
		Err("it expires too soon")
	} else if !turn.world.peer.channels.iter().any(fits) {
		Err("no channel of the client has room for it")
	} else if client.wake.held.len() >= MAX_HELD_PER_CLIENT {
		Err("too much is held for the client already")
	} else if turn.book.held_count(|_| true) >= MAX_HELD
		|| (is_stranger(client) && turn.book.held_count(is_stranger) >= MAX_HELD_OF_STRANGERS)
	{
		Err("too much is held for all clients already")
	} else {
		Ok(())
	}
}

fn is_late(turn: &Turn<'_>, htlc: &HeldHtlc) -> bool {
	let least = turn.world.height.saturating_add(EXPIRY_MARGIN_BLOCKS);
	htlc.expiry_height.is_some_and(|expiry| expiry <= least)
}

/// What is held goes in full: not over a channel whose opening fee is owed, or whose funding is not out.
fn may_carry(turn: &Turn<'_>, view: &ChannelView) -> bool {
	jit::owes_nothing(turn, &view.channel_id, view.user_channel_id)
}

fn view(turn: &Turn<'_>, channel_id: &[u8; 32]) -> Option<ChannelView> {
	turn.world.peer.channels.iter().find(|view| view.channel_id == *channel_id).cloned()
}

/// The channel that it can go over now: the one that was named, or (LDK would take any) another one with room for it.
fn link(turn: &Turn<'_>, htlc: &HeldHtlc) -> Option<ChannelView> {
	let fits = |view: &&ChannelView| {
		view.usable
			&& may_carry(turn, view)
			&& view.next_outbound_htlc_limit >= htlc.amount
			&& view.next_outbound_htlc_minimum.max(Msat(1)) <= htlc.amount
	};
	let mut usable = turn.world.peer.channels.iter().filter(fits);
	let named = usable.clone().find(|view| view.channel_id == htlc.channel_id);
	named.or_else(|| usable.next()).cloned()
}

fn forward(client: &Client, htlc: &HeldHtlc, link: &ChannelView) -> Action {
	Action::ForwardHtlc {
		intercept_id: htlc.intercept_id,
		peer: client.id,
		channel_id: link.channel_id,
		amount: htlc.amount,
	}
}

/// Forwards what can go now, in full.
pub(super) fn forward_held(turn: &mut Turn<'_>, client: &mut Client) {
	for htlc in std::mem::take(&mut client.wake.held) {
		if is_late(turn, &htlc) {
			fail(turn, client, &htlc, "it expires too soon");
		} else if let Some(link) = link(turn, &htlc) {
			client.wake.note(turn.now, "forward", format!("{}: the client is back", htlc.amount));
			turn.act(forward(client, &htlc, &link));
		} else {
			client.wake.held.push(htlc);
		}
	}
}

fn fail(turn: &mut Turn<'_>, client: &mut Client, htlc: &HeldHtlc, reason: &str) {
	client.wake.note(turn.now, "fail", format!("{} was held: {reason}", htlc.amount));
	turn.fail_htlc(htlc.intercept_id, reason);
}

/// Fails what `is_over` gives a reason for.
fn fail_those(turn: &mut Turn<'_>, is_over: impl Fn(&Turn<'_>, &HeldHtlc) -> Option<&'static str>) {
	let holding: Vec<_> =
		turn.book.sleepers().filter(|client| !client.wake.held.is_empty()).map(|client| client.id).collect();
	for id in holding {
		let mut client = turn.client(&id);
		for htlc in std::mem::take(&mut client.wake.held) {
			match is_over(turn, &htlc) {
				Some(reason) => fail(turn, &mut client, &htlc, reason),
				None => client.wake.held.push(htlc),
			}
		}
		turn.put_client(client);
	}
}

/// [`Input::Tick`]: deadlines, and HTLCs that a new block has brought too near to their expiry.
pub(crate) fn tick(turn: &mut Turn<'_>) {
	fail_those(turn, |turn, htlc| match htlc {
		htlc if turn.now >= htlc.until => Some("the client did not come back in time"),
		htlc if is_late(turn, htlc) => Some("it expires too soon"),
		_ => None,
	});
}

/// [`Input::ChannelClosed`].
pub(crate) fn channel_closed(turn: &mut Turn<'_>, user_channel_id: u128) {
	fail_those(turn, |_, htlc| (htlc.user_channel_id == user_channel_id).then_some("the channel was closed"));
}

/// [`Input::HtlcGone`].
pub(crate) fn htlc_gone(turn: &mut Turn<'_>, intercept_id: &[u8; 32]) {
	let Some(client) = turn.book.client_by_intercept(intercept_id) else { return };
	let mut client = turn.client(&client.id);
	client.wake.held.retain(|htlc| htlc.intercept_id != *intercept_id);
	turn.put_client(client);
}
