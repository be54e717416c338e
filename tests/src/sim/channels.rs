//! Channels with clients: asked for, funded, ready, closed.

use super::agenda::Deed;
use super::parts::*;
use super::world::Sim;
use super::{Go, Stop, demand};
use inlet_lsp::book::NodeId;
use inlet_lsp::input::{ChannelView, Input, OpenChannel, Owner};
use inlet_lsp::money::{Msat, Sat};
use inlet_lsp::policy::Trust;
use std::collections::BTreeSet;

/// LDK's channel id, made from our mark so that it can be read back.
pub(crate) fn channel_id(user_channel_id: u128) -> [u8; 32] {
	let mut id = [0; 32];
	id[..16].copy_from_slice(&user_channel_id.to_be_bytes());
	id
}

impl Sim {
	pub(crate) fn is_usable(&self, id: u128) -> bool {
		let channel = self.ldk.channels.get(&id);
		channel.is_some_and(|channel| channel.stage == Stage::Ready && self.people[channel.client].online)
	}

	pub(crate) fn view(&self, id: u128) -> ChannelView {
		let channel = &self.ldk.channels[&id];
		let reserve = (channel.capacity / 100).max(1_000) * 1_000;
		ChannelView {
			channel_id: channel_id(id),
			user_channel_id: id,
			usable: self.is_usable(id),
			next_outbound_htlc_limit: Msat(channel.local.saturating_sub(channel.in_flight + reserve)),
			next_outbound_htlc_minimum: Msat(1),
		}
	}

	/// Our side of `Action::OpenChannel`.
	pub(crate) fn open(&mut self, open: OpenChannel) -> Result<Vec<Input>, Stop> {
		let id = open.user_channel_id;
		if let Some(known) = self.ldk.channels.get(&id) {
			demand(known.owner == open.owner, || "a channel's mark was used again".into())?;
			if known.stage != Stage::Closed {
				return Ok(self.progress(id, open.withhold));
			}
			if known.is_handed() {
				return Ok(self.left(id));
			}
		}
		if self.opening.contains_key(&id) {
			// Closed, and the event that says so is on its way.
			return Ok(Vec::new());
		}
		let client = self.by_node[&open.peer];
		let trust = self.temper.policy.lsps2.trust;
		let of_sale = matches!(open.owner, Owner::Sale(_));
		let allowed =
			if open.withhold { of_sale && trust != Trust::Everyone } else { !of_sale || trust != Trust::Nobody };
		demand(allowed, || format!("withheld: {}, but the policy trusts {trust:?}", open.withhold))?;
		if !self.people[client].online || self.rng.percent(self.temper.ldk_trouble) {
			return Ok(vec![Input::OpenFailed { user_channel_id: id, reason: "LDK refused".into(), ours: true }]);
		}
		let channel = Channel {
			client,
			owner: open.owner,
			capacity: open.capacity.0,
			local: (open.capacity.0 * 1_000).saturating_sub(open.push.0),
			in_flight: 0,
			stage: Stage::Asked,
			funding: None,
			fee: 0,
			feerate: open.feerate.0.into(),
			confirmations: open.confirmations,
			push: open.push.0,
			was_out: false,
			handed: false,
			taken: false,
			refused: false,
			withdrawn: false,
			saved: false,
			withhold: open.withhold,
			pending: BTreeSet::new(),
		};
		self.ldk.channels.insert(id, channel);
		self.people[client].channels.push(id);
		self.opening.insert(id, false);
		let at = self.now.0 + self.rng.around(self.temper.open_pace);
		self.agenda.plan(at, Some(self.process), Deed::PeerAnswers { channel: id });
		Ok(Vec::new())
	}

	/// How far it is, as the node tells when it is asked to open or abandon what is there.
	pub(crate) fn progress(&self, id: u128, withhold: bool) -> Vec<Input> {
		let channel = &self.ldk.channels[&id];
		let mut inputs = Vec::new();
		let out = if channel.handed { channel.taken } else { channel.was_out };
		if out {
			inputs.push(self.funded(id));
		} else if withhold && channel.stage == Stage::Ready && self.chain.is_locked(id) {
			inputs.push(self.withheld(id));
		} else {
			return Vec::new();
		}
		if channel.stage == Stage::Ready {
			inputs.push(Input::ChannelReady { user_channel_id: id, channel_id: channel_id(id) });
		}
		inputs
	}

	pub(crate) fn funded(&self, id: u128) -> Input {
		let channel = &self.ldk.channels[&id];
		let funding = channel.funding.expect("out");
		let fee = Some(Sat(channel.fee));
		Input::Funded { user_channel_id: id, channel_id: channel_id(id), funding, fee, shared: false }
	}

	pub(crate) fn withheld(&self, id: u128) -> Input {
		let funding = self.ldk.channels[&id].funding.expect("made");
		Input::FundingWithheld { user_channel_id: id, channel_id: channel_id(id), funding }
	}

	/// A client is asked whether it takes a channel, before its order can be paid.
	pub(crate) fn try_opening(&mut self, order: String, peer: NodeId) -> Vec<Input> {
		let client = self.by_node[&peer];
		if !self.people[client].online || self.rng.percent(self.temper.ldk_trouble) {
			return vec![Input::OpeningTried { order, refusal: None }];
		}
		let silent = self.rng.percent(self.temper.stalls_channel);
		let refuses = !silent && self.rng.percent(self.temper.refuses_channel);
		self.tally.refused += u64::from(refuses);
		let refusal = refuses.then(|| "too small for me\u{7}".to_string());
		let patience = if silent { 2_000 } else { self.rng.around(self.temper.open_pace).min(2_000) };
		self.agenda.plan(self.now.0 + patience, Some(self.process), Deed::Tried { order, refusal });
		Vec::new()
	}

	/// A withheld funding goes out: something over the channel was taken.
	pub(crate) fn broadcast(&mut self, id: u128) -> Result<Vec<Input>, Stop> {
		let known = self.ldk.channels.get(&id).filter(|channel| channel.funding.is_some());
		let Some(channel) = known else {
			return Err(Stop::Flaw(format!("channel {id:x} has no funding to broadcast")));
		};
		if !channel.was_out {
			demand(channel.withhold, || "a funding that is not withheld is to be broadcast".into())?;
			demand(self.is_paid_for(id), || format!("the funding of {id:x} goes out, and nothing over it was taken"))?;
			demand(self.chain.is_locked(id), || format!("the coins of {id:x} are gone, and its funding is due"))?;
			self.tally.released += 1;
			self.send_funding(id)?;
		}
		Ok(vec![self.funded(id)])
	}

	/// Was an HTLC taken over this channel, or, where LDK chose another, one of its sale that bore the fee?
	fn is_paid_for(&self, id: u128) -> bool {
		let channel = &self.ldk.channels[&id];
		if channel.local < channel.capacity * 1_000 {
			return true;
		}
		let Owner::Sale(sale) = &channel.owner else { return false };
		let scid = self.book.sale(sale).map(|sale| sale.scid);
		self.bought.iter().any(|bought| Some(bought.scid) == scid && bought.paid > 0)
			|| (self.people[channel.client].blurred
				&& self.bought.iter().any(|one| one.client == channel.client && one.paid > 0))
	}

	/// The funding transaction is in the mempool.
	pub(crate) fn send_funding(&mut self, id: u128) -> Go {
		let channel = self.ldk.channels.get_mut(&id).expect("known");
		channel.was_out = true;
		let spent = channel.capacity + channel.fee;
		let owner = channel.owner.clone();
		let funding = channel.funding.expect("made");
		let closed = channel.stage == Stage::Closed;
		self.chain.broadcast(id, funding, spent);
		self.tally.funded += 1;
		if closed {
			let channel = self.ldk.channels.get_mut(&id).expect("known");
			let ours = channel.local - channel.in_flight;
			channel.local = channel.in_flight;
			self.sweep_later(ours);
		}
		let mut of_owner = self.ldk.channels.iter().filter(|(_, channel)| channel.owner == owner);
		let pushed_twice =
			matches!(owner, Owner::Order(_)) && of_owner.any(|(other, channel)| *other != id && channel.was_out);
		demand(!pushed_twice, || format!("a second channel is funded for {owner:?}"))
	}

	/// The coins of a withheld funding are free.
	pub(crate) fn discard(&mut self, id: u128) -> Go {
		if let Some(channel) = self.ldk.channels.get(&id) {
			let unpaid = channel.was_out || channel.local == channel.capacity * 1_000;
			demand(unpaid, || format!("a payment over {id:x} was taken, and its funding is discarded"))?;
		}
		if self.chain.is_locked(id) {
			self.tally.discarded += 1;
			self.chain.release(id);
		}
		self.take(Input::FundingDiscarded { user_channel_id: id })
	}

	pub(crate) fn abandon(&mut self, id: u128) -> Vec<Input> {
		let Some(channel) = self.ldk.channels.get(&id) else { return self.no_such_channel(id) };
		match channel.stage {
			Stage::Closed if channel.is_handed() => self.left(id),
			Stage::Closed => self.no_such_channel(id),
			Stage::Out | Stage::Ready if channel.is_handed() => {
				if channel.refused && !channel.taken && !channel.is_used() {
					self.withdraw(id);
					self.close(id, "its funding was refused");
				}
				// Until it is known whether the funding is out, nothing is told.
				if self.ldk.channels[&id].stage == Stage::Closed { Vec::new() } else { self.progress(id, false) }
			}
			Stage::Out | Stage::Ready if channel.was_out => self.progress(id, false),
			_ => {
				self.close(id, "abandoned");
				Vec::new()
			}
		}
	}

	fn no_such_channel(&mut self, id: u128) -> Vec<Input> {
		self.opening.remove(&id);
		vec![Input::OpenFailed { user_channel_id: id, reason: "no such channel".into(), ours: false }]
	}

	pub(crate) fn peer_answers(&mut self, id: u128) -> Go {
		let channel = &self.ldk.channels[&id];
		if channel.stage != Stage::Asked || self.rng.percent(self.temper.stalls_channel) {
			return Ok(());
		}
		if self.rng.percent(self.temper.refuses_channel) {
			self.refused(id);
			self.close(id, "refused");
			return Ok(());
		}
		let channel = &self.ldk.channels[&id];
		let (capacity, feerate) = (channel.capacity, channel.feerate);
		let gone = self.spent_reservations();
		let others = self.book.reserved().0.saturating_sub(gone + self.reservation(id));
		let keep = others + self.anchor_reserve(0);
		let Some((funding, fee)) = self.chain.fund(id, capacity, feerate, keep) else {
			self.close(id, "no coins");
			return self.take(Input::OpenFailed { user_channel_id: id, reason: "no coins".into(), ours: true });
		};
		let channel = self.ldk.channels.get_mut(&id).expect("asked for");
		(channel.stage, channel.funding, channel.fee) = (Stage::Funding, Some(funding), fee);
		self.opening.insert(id, true);
		let at = self.now.0 + self.rng.around(self.temper.open_pace);
		self.agenda.plan(at, Some(self.process), Deed::PeerSigns { channel: id });
		Ok(())
	}

	/// The peer has signed: the funding goes out, and that is on the disk by then.
	pub(crate) fn peer_signs(&mut self, id: u128) -> Go {
		if self.ldk.channels[&id].stage != Stage::Funding || self.rng.percent(self.temper.stalls_channel) {
			return Ok(());
		}
		if self.rng.percent(self.temper.refuses_channel) {
			self.refused(id);
			self.close(id, "not signed");
			return Ok(());
		}
		let channel = self.ldk.channels.get_mut(&id).expect("known");
		channel.stage = Stage::Out;
		let (withhold, of_order) = (channel.withhold, matches!(channel.owner, Owner::Order(_)));
		let owner = channel.owner.clone();
		let others = self.ldk.channels.iter().filter(|(other, channel)| **other != id && channel.owner == owner);
		let open = others.filter(|(_, channel)| matches!(channel.stage, Stage::Out | Stage::Ready)).count();
		demand(open == 0, || format!("two channels are open for {owner:?}"))?;
		self.open_channels += 1;
		if self.rng.percent(self.temper.closes_channel) {
			let at = self.now.0 + self.rng.around(500);
			self.agenda.plan(at, None, Deed::Close { channel: id });
		}
		if withhold {
			self.tally.withheld += 1;
			let input = self.withheld(id);
			self.event(input);
		} else if of_order {
			self.hand_over(id)?;
		} else {
			self.send_funding(id)?;
			let input = self.funded(id);
			self.event(input);
		}
		self.plan_save();
		let at = self.now.0 + self.rng.around(self.temper.open_pace);
		self.agenda.plan(at, None, Deed::Ready { channel: id });
		Ok(())
	}

	pub(crate) fn ready(&mut self, id: u128) {
		let channel = &self.ldk.channels[&id];
		if channel.stage != Stage::Out {
			return;
		}
		let funding = channel.funding.expect("out").txid;
		let deep = self.chain.depth_of(funding) >= u32::from(channel.confirmations);
		if !deep || !self.people[channel.client].online {
			let at = self.now.0 + self.rng.range(5_000, 60_000);
			return self.agenda.plan(at, None, Deed::Ready { channel: id });
		}
		self.ldk.channels.get_mut(&id).expect("known").stage = Stage::Ready;
		self.event(Input::ChannelReady { user_channel_id: id, channel_id: channel_id(id) });
		if self.rng.percent(self.temper.channel_payments) {
			let at = self.now.0 + self.rng.around(60_000);
			self.agenda.plan(at, None, Deed::PayChannel { channel: id });
		}
		if self.rng.percent(self.temper.closes_channel) {
			let at = self.now.0 + self.rng.around(60_000);
			self.agenda.plan(at, None, Deed::Close { channel: id });
		}
	}

	/// The client says that it does not want the channel; the end of the channel is told next.
	fn refused(&mut self, id: u128) {
		if matches!(self.ldk.channels[&id].owner, Owner::Sale(_)) {
			self.event(Input::OpenFailed { user_channel_id: id, reason: "refused".into(), ours: false });
		}
	}

	/// The channel is closed, by whomever; what is in flight goes to the chain.
	pub(crate) fn close(&mut self, id: u128, reason: &str) {
		let channel = self.ldk.channels.get_mut(&id).expect("known");
		let was = std::mem::replace(&mut channel.stage, Stage::Closed);
		if was == Stage::Closed {
			return;
		}
		self.people[channel.client].channels.retain(|open| *open != id);
		if matches!(was, Stage::Out | Stage::Ready) {
			self.open_channels -= 1;
			let (was_out, pending) = (channel.was_out, channel.pending.clone());
			for htlc in self.ldk.htlcs.values_mut() {
				if matches!(htlc.state, HtlcState::Forwarded { channel, .. } if channel == id) {
					htlc.saved = htlc.state;
				}
			}
			if was_out {
				let channel = self.ldk.channels.get_mut(&id).expect("known");
				let ours = channel.local - channel.in_flight;
				channel.local = channel.in_flight;
				self.sweep_later(ours);
			}
			self.agenda.plan(self.now.0 + 1_000_000, None, Deed::OnChain { channel: id });
			// The client's last word may have been a preimage: LDK tells of it after the end.
			for htlc in pending {
				if !was_out && self.rng.percent(self.temper.last_words) {
					let payment = self.ldk.htlcs[&htlc].payment;
					let at = self.now.0 + self.rng.around(5_000);
					self.agenda.plan(at, None, Deed::LastWord { htlc });
					self.payments.get_mut(&payment).expect("known").decided = true;
				}
			}
		}
		// Coins of a funding that was never broadcast are free when the event was handled.
		let by_client = ["closed", "refused", "not signed"].contains(&reason);
		self.event(Input::ChannelClosed { user_channel_id: id, reason: reason.into(), by_client });
	}

	/// Our output of a closed channel comes to the wallet; what the close costs is not booked.
	pub(crate) fn sweep_later(&mut self, msat: u64) {
		let cost = (msat / 1_000).min(self.rng.range(0, 500));
		let sat = msat / 1_000 - cost;
		self.unbooked += i128::from(msat - sat * 1_000);
		self.sweeping += i128::from(sat) * 1_000;
		let at = self.now.0 + self.rng.around(100_000);
		self.agenda.plan(at, None, Deed::Swept { sat });
	}

	/// HTLCs on a closed channel end on the chain.
	pub(crate) fn end_on_chain(&mut self, id: u128) {
		let on_it = |htlc: &Htlc| matches!(htlc.state, HtlcState::Forwarded { channel, .. } if channel == id);
		let open: Vec<[u8; 32]> =
			self.ldk.htlcs.iter().filter(|(_, htlc)| on_it(htlc)).map(|(htlc, _)| *htlc).collect();
		for htlc in open {
			// What was never on the chain has no preimage there: LDK fails it back when it expires.
			let out = self.ldk.channels[&id].was_out;
			if out && self.rng.percent(50) { self.settle(htlc) } else { self.refuse(htlc) }
		}
	}

	/// The peer is gone: LDK forgets what is not funded.
	pub(crate) fn drop_unfunded(&mut self, client: usize) {
		for id in self.people[client].channels.clone() {
			if matches!(self.ldk.channels[&id].stage, Stage::Asked | Stage::Funding) {
				self.close(id, "disconnected");
			}
		}
	}

	/// The process died: what was not funded was never there, and of a channel that was just signed for LDK may have no
	/// record.
	pub(crate) fn forget_unfunded(&mut self) {
		let young = |channel: &Channel| matches!(channel.stage, Stage::Out | Stage::Ready) && !channel.saved;
		let young: Vec<u128> = self.ldk.channels.iter().filter(|(_, one)| young(one)).map(|(id, _)| *id).collect();
		for id in young {
			if self.rng.percent(self.temper.loses_record) {
				// What LDK had to tell of it is in the same file.
				self.ldk.events.retain(|event| !is_of(&event.input, id));
				self.close(id, "LDK's record of it is lost");
			}
		}
		for (id, channel) in &mut self.ldk.channels {
			if matches!(channel.stage, Stage::Asked | Stage::Funding) {
				channel.stage = Stage::Closed;
				self.people[channel.client].channels.retain(|open| open != id);
			}
		}
		// What LDK has, or the book says is withheld, keeps its coins.
		let book = self.book.withheld_fundings();
		let kept = |channel: &Channel| {
			let signed = matches!(channel.stage, Stage::Out | Stage::Ready);
			signed || channel.is_handed() || channel.funding.is_some_and(|funding| book.contains(&funding))
		};
		let kept = self.ldk.channels.iter().filter(|(_, channel)| kept(channel)).map(|(id, _)| *id).collect();
		self.chain.release_but(&kept);
		self.opening.clear();
	}

	/// What the book keeps for channels whose coins are gone already.
	pub(crate) fn spent_reservations(&self) -> u64 {
		self.opening.iter().filter(|(_, made)| **made).map(|(id, _)| self.reservation(*id)).sum()
	}

	/// What the book keeps for this channel.
	pub(crate) fn reservation(&self, id: u128) -> u64 {
		let sale = self.book.sale_by_user_channel_id(id).map(|sale| sale.reserved.0);
		sale.or_else(|| self.book.order_by_user_channel_id(id).map(|order| order.reserved.0)).unwrap_or(0)
	}
}

/// Does LDK tell with this event how the channel comes to be? (That a funding is out, the wallet knows as well.)
fn is_of(input: &Input, id: u128) -> bool {
	match input {
		Input::FundingWithheld { user_channel_id, .. } | Input::ChannelReady { user_channel_id, .. } => {
			*user_channel_id == id
		}
		_ => false,
	}
}
