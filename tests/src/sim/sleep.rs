//! Clients that are away: webhooks, payments to the channels that they have, and notices.

use super::agenda::Deed;
use super::parts::*;
use super::world::Sim;
use super::{Go, demand};
use inlet_lsp::book::NodeId;
use inlet_lsp::input::{Hop, Input};
use inlet_lsp::notice::Notice;
use serde_json::json;

impl Sim {
	/// A client sets, lists or removes webhooks.
	pub(crate) fn register(&mut self, who: usize) -> Go {
		let name = self.rng.range(0, 11);
		let app_name = format!("app{name}");
		match self.rng.range(0, 9) {
			0 => self.ask(who, "lsps5.list_webhooks", json!({}), Asked::Other),
			1 => self.ask(who, "lsps5.remove_webhook", json!({"app_name": app_name}), Asked::Other),
			_ => {
				let webhook = format!("https://c{who}.example/{name}");
				self.ask(who, "lsps5.set_webhook", json!({"app_name": app_name, "webhook": webhook}), Asked::Other)
			}
		}
	}

	/// The node has something for a client that is away.
	pub(crate) fn want(&mut self, who: usize) -> Go {
		self.take(Input::Wanted { peer: self.people[who].id, notice: Notice::OnionMessageIncoming })
	}

	/// Somebody pays over a channel that a client has. While the client is here LDK forwards that by itself.
	pub(crate) fn pay_channel(&mut self, channel: u128) {
		let row = &self.ldk.channels[&channel];
		if row.stage == Stage::Closed {
			return;
		}
		let (client, capacity) = (row.client, row.capacity * 1_000);
		let at = self.now.0 + self.rng.around(120_000);
		self.agenda.plan(at, None, Deed::PayChannel { channel });
		let size = self.rng.range(1_000, (capacity / 4).max(2_000));
		let scid = (2 << 40) | self.fresh();
		self.bought.push(Bought {
			client,
			scid,
			size: Some(size),
			min_fee: 0,
			proportional: 0,
			min: size,
			max: size,
			owed: 0,
			paid: 0,
			hop: Some(channel),
		});
		self.pay(self.bought.len() - 1);
	}

	/// LDK intercepts what goes to an intercept SCID, and what goes to a private channel whose peer is away.
	pub(crate) fn is_intercepted(&self, payment: u64) -> bool {
		let hop = self.bought[self.payments[&payment].sale].hop;
		hop.is_none_or(|id| {
			let channel = &self.ldk.channels[&id];
			channel.stage == Stage::Ready && !self.people[channel.client].online
		})
	}

	/// The channel that the payment's SCID names, if it is there.
	pub(crate) fn hop(&self, payment: &Payment) -> Option<Hop> {
		let id = self.bought[payment.sale].hop?;
		let channel = self.ldk.channels.get(&id).filter(|channel| channel.stage != Stage::Closed)?;
		Some(Hop { peer: self.people[channel.client].id, channel_id: super::channels::channel_id(id) })
	}

	/// A notice goes to its own client only, which is away, and not twice within the cooldown.
	pub(crate) fn notified(&mut self, client: NodeId, app_name: String, url: &str, notice: &Notice) -> Go {
		let who = self.by_node[&client];
		let own = url.starts_with(&format!("https://c{who}.example/"));
		demand(own, || format!("{url} is not a webhook of client {who}"))?;
		if matches!(notice, Notice::WebhookRegistered) {
			return Ok(());
		}
		demand(!self.people[who].online, || format!("{notice:?} for client {who}, which is here"))?;
		self.tally.notices += 1;
		let now = self.now.0;
		let last = self.notified.insert((client, app_name, notice.method().to_string()), now);
		let cooldown = self.temper.policy.lsps5.cooldown_secs * 1_000;
		let late = last.is_none_or(|last| now >= last + cooldown);
		demand(late, || format!("{notice:?} for client {who} again after {} ms", now - last.unwrap_or_default()))
	}
}
