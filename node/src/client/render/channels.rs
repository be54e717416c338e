//! Peers and channels.

use super::table::{Column::*, Table, pairs};
use super::{Style, ends, feerate, msat, msat_floor, number, prefix, word};
use crate::control::{Channel, Closing, Disconnected, OpenChannelRequest, Opening, Page, Peer};

pub(in crate::client) fn peers(page: &Page<Peer>, _: &Style) -> String {
	let mut table = Table::new([("NODE ID", Left), ("STATE", Left), ("CHAN", Right), ("ADDRESS", Left)]);
	for peer in &page.items {
		let state = if peer.connected { "online" } else { "offline" };
		table.row([
			peer.node_id.clone(),
			state.to_owned(),
			peer.channels.to_string(),
			peer.address.clone().unwrap_or_default(),
		]);
	}
	table.page(page.next.as_ref(), "no peers yet: inlet peers connect PUBKEY@HOST:PORT")
}

pub(in crate::client) fn connected(peer: &Peer, _: &Style) -> String {
	let at = peer.address.as_deref().map(|address| format!(" at {address}")).unwrap_or_default();
	format!("connected to {}{at}", peer.node_id)
}

pub(in crate::client) fn disconnected(peer: &Disconnected, _: &Style) -> String {
	format!("disconnected from {}", peer.node_id)
}

pub(in crate::client) fn channels(page: &Page<Channel>, _: &Style) -> String {
	let mut table = Table::new([
		("ID", Left),
		("PEER", Left),
		("STATE", Left),
		("CAPACITY", Right),
		("OUTBOUND", Right),
		("INBOUND", Right),
		("", Left),
		("SOLD AS", Left),
	]);
	for channel in &page.items {
		table.row([
			prefix(&channel.id),
			prefix(&channel.peer),
			word(channel.state),
			number(channel.capacity_sat),
			msat_floor(channel.outbound_msat),
			msat_floor(channel.inbound_msat),
			if channel.announced { "public" } else { "private" }.to_owned(),
			channel.sold_as.clone().unwrap_or_default(),
		]);
	}
	table.page(page.next.as_ref(), "no channels yet: they come with the first sale, or with inlet channels open")
}

pub(in crate::client) fn channel(c: &Channel, _: &Style) -> String {
	let confirmations = match c.confirmations_required {
		Some(required) => format!("{} (ready with {required})", number(c.confirmations.into())),
		None => number(c.confirmations.into()),
	};
	let opened_by = if c.outbound { "us" } else { "the peer" };
	let kind = if c.announced { "public" } else { "private" };
	let fees = format!("{} sat + {} ppm · CLTV delta {}", msat(c.fee_base_msat.into()), c.fee_ppm, c.cltv_expiry_delta);
	pairs([
		("channel", Some(c.id.clone())),
		("peer", Some(c.peer.clone())),
		("state", Some(format!("{} · {kind} · opened by {opened_by}", word(c.state)))),
		("funding", c.funding.clone()),
		("scid", c.short_channel_id.clone()),
		("confirmed", Some(confirmations)),
		("capacity", Some(format!("{} sat", number(c.capacity_sat)))),
		("our side", Some(format!("{} sat", msat(c.local_msat)))),
		("outbound", Some(format!("{} sat", msat(c.outbound_msat)))),
		("inbound", Some(format!("{} sat", msat(c.inbound_msat)))),
		("fees", Some(fees)),
		("sold as", c.sold_as.clone()),
		("leased", c.lease_until_height.map(|height| format!("until block {}", number(height.into())))),
	])
}

pub(in crate::client) fn open_question(r: &OpenChannelRequest) -> String {
	let given = match r.push_msat {
		0 => String::new(),
		push => format!(", give {} sat of it away", msat(push)),
	};
	let kind = if r.announce { "public" } else { "private" };
	let at = r.feerate_sat_per_kw.map(|rate| format!(" at {} sat/vB", feerate(rate))).unwrap_or_default();
	format!("Open a {kind} channel of {} sat with {}{given}{at}?", number(r.capacity_sat), ends(&r.node_id))
}

pub(in crate::client) fn opening(o: &Opening, _: &Style) -> String {
	format!("opening a channel of {} sat with {} (inlet channels list)", number(o.capacity_sat), o.peer)
}

pub(in crate::client) fn close_question(c: &Channel, force: bool) -> String {
	let how = if force { "Force-close (the money comes back after a delay)" } else { "Close" };
	let lease = match c.lease_until_height {
		Some(height) => format!(", leased until block {}", number(height.into())),
		None => String::new(),
	};
	let (capacity, local) = (number(c.capacity_sat), msat_floor(c.local_msat));
	format!("{how} {} with {} ({capacity} sat, {local} of them ours{lease})?", prefix(&c.id), ends(&c.peer))
}

pub(in crate::client) fn closing(c: &Closing, _: &Style) -> String {
	let how = if c.force { "force-closing" } else { "closing" };
	format!("{how} {} with {}: about {} sat come back", prefix(&c.id), ends(&c.peer), msat_floor(c.local_msat))
}
