//! Fundings of orders: handed to the chain backend, which takes or refuses them, or says nothing for long; then withdrawn, or sent
//! again.

use super::Go;
use super::agenda::Deed;
use super::parts::*;
use super::world::Sim;
use inlet_lsp::input::Input;

const CLOSED: &str = "the channel was closed before its funding was known to be out";

impl Sim {
	/// The wallet sends an order's funding. It may reach a mempool, and it may be long until we know.
	pub(crate) fn hand_over(&mut self, id: u128) -> Go {
		self.ldk.channels.get_mut(&id).expect("signed").handed = true;
		if !self.rng.percent(self.temper.refuses_funding) {
			self.send_funding(id)?;
		}
		let silent = self.rng.percent(self.temper.silent_backend);
		let wait = if silent { self.rng.range(60_000, 30_000_000) } else { self.rng.around(300) };
		self.agenda.plan(self.now.0 + wait, None, Deed::Verdict { channel: id });
		Ok(())
	}

	/// The chain backend says whether it has the funding. One that it refuses is sent again, unless the payment has lapsed
	/// and the client has nothing in the channel.
	pub(crate) fn verdict(&mut self, id: u128) -> Go {
		let channel = &self.ldk.channels[&id];
		if channel.taken || channel.withdrawn {
			return Ok(());
		}
		let lapsed = self.book.order_by_user_channel_id(id).is_some_and(|order| order.lapsed);
		let is_sent = !lapsed || channel.is_used();
		if !channel.was_out && is_sent && !self.rng.percent(self.temper.refuses_funding) {
			self.send_funding(id)?;
		}
		let channel = self.ldk.channels.get_mut(&id).expect("handed over");
		(channel.taken, channel.refused) = (channel.was_out, !channel.was_out);
		if channel.refused {
			let at = self.now.0 + self.rng.around(600_000);
			self.agenda.plan(at, None, Deed::Verdict { channel: id });
		}
		self.look()
	}

	/// A refused funding is never sent again, and its coins are free.
	pub(crate) fn withdraw(&mut self, id: u128) {
		let channel = self.ldk.channels.get_mut(&id).expect("handed over");
		assert!(channel.refused && !channel.was_out, "only what nobody has is withdrawn");
		channel.withdrawn = true;
		self.tally.withdrawn += 1;
		self.chain.release(id);
	}

	/// What the node tells of an order's channel that LDK has no more, and whose funding was handed over: nothing until it
	/// knows whether that is out.
	pub(crate) fn left(&mut self, id: u128) -> Vec<Input> {
		let channel = &self.ldk.channels[&id];
		let closed = Input::ChannelClosed { user_channel_id: id, reason: CLOSED.into(), by_client: false };
		if channel.taken {
			self.opening.remove(&id);
			vec![self.funded(id), closed]
		} else {
			Vec::new()
		}
	}

	/// Fundings of orders that were taken by now, or refused and left without a channel.
	pub(crate) fn look_at_fundings(&mut self) -> Go {
		let opening: Vec<u128> = self.book.orders_being_opened().map(|order| order.user_channel_id).collect();
		for id in opening {
			let Some(channel) = self.ldk.channels.get(&id).filter(|channel| channel.is_handed()) else { continue };
			let is_closed = channel.stage == Stage::Closed;
			let kept = self.book.order_by_user_channel_id(id).is_some_and(|order| order.kept);
			let inputs = if !is_closed && channel.taken {
				self.opening.remove(&id);
				self.progress(id, false)
			} else if is_closed && channel.refused && !kept {
				self.withdraw(id);
				self.opening.remove(&id);
				vec![Input::ChannelClosed { user_channel_id: id, reason: CLOSED.into(), by_client: false }]
			} else if is_closed {
				self.left(id)
			} else {
				Vec::new()
			};
			inputs.into_iter().try_for_each(|input| self.take(input))?;
		}
		Ok(())
	}

	/// Before the core hears that an order's channel is closed, it hears that its funding is out. False if nobody knows
	/// yet: [`Sim::look_at_fundings`] tells then.
	pub(crate) fn settle_funding(&mut self, id: u128) -> Result<bool, super::Stop> {
		let Some(channel) = self.ldk.channels.get(&id).filter(|channel| channel.is_handed()) else { return Ok(true) };
		let order = self.book.order_by_user_channel_id(id);
		let is_current = order.is_some_and(|order| order.user_channel_id == id && order.is_being_opened());
		if channel.taken {
			let funded = self.funded(id);
			self.take(funded)?;
		} else if is_current && channel.is_used() {
			self.take(Input::FundingKept { user_channel_id: id })?;
			return Ok(false);
		} else if is_current && channel.refused {
			self.withdraw(id);
		} else if is_current {
			return Ok(false);
		}
		Ok(true)
	}
}
