//! What LDK remembers, and what it tells: each event until it is handled and that is on the disk.

use super::agenda::Deed;
use super::parts::*;
use super::world::Sim;
use super::{Go, Stop};
use inlet_lsp::input::Input;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) struct Event {
	pub input: Input,
	/// Handled by this process; raised again if the process dies before that is on the disk.
	pub handled: bool,
	/// A process that died has handled it.
	pub again: bool,
}

#[derive(Default)]
pub(crate) struct Ldk {
	pub channels: BTreeMap<u128, Channel>,
	pub htlcs: BTreeMap<[u8; 32], Htlc>,
	/// Those that are `Held`.
	pub held: BTreeSet<[u8; 32]>,
	pub holds: BTreeMap<[u8; 32], Hold>,
	pub events: VecDeque<Event>,
	/// What has changed and is not on the disk.
	pub dirty_htlcs: Vec<[u8; 32]>,
	pub dirty_holds: Vec<[u8; 32]>,
	pub pumping: bool,
	pub saving: bool,
}

impl Sim {
	/// An event, to be handled soon.
	pub(crate) fn event(&mut self, input: Input) {
		self.ldk.events.push_back(Event { input, handled: false, again: false });
		self.plan_pump(200);
	}

	pub(crate) fn plan_pump(&mut self, within: u64) {
		if !self.ldk.pumping {
			self.ldk.pumping = true;
			let at = self.now.0 + self.rng.range(0, within);
			self.agenda.plan(at, Some(self.process), Deed::Pump);
		}
	}

	/// LDK's state has changed and will be saved.
	pub(crate) fn plan_save(&mut self) {
		if !self.ldk.saving {
			self.ldk.saving = true;
			let at = self.now.0 + self.rng.around(self.temper.save_lag);
			self.agenda.plan(at, Some(self.process), Deed::Save);
		}
	}

	pub(crate) fn pump(&mut self) -> Go {
		self.ldk.pumping = false;
		while let Some(event) = self.ldk.events.iter().find(|event| !event.handled) {
			let input = event.input.clone();
			if let Input::HtlcIntercepted { intercept_id, .. } = &input {
				self.unraised.remove(intercept_id);
				// LDK takes back what it no longer holds.
				if !self.ldk.held.contains(intercept_id) {
					self.mark_handled();
					continue;
				}
				self.ldk.htlcs.get_mut(intercept_id).expect("held").shown = true;
			}
			if let Input::ForwardFailed { peer, .. } = &input
				&& event.again
			{
				// Told again while something is in flight: nobody can tell what has failed.
				let who = self.by_node[peer];
				self.people[who].blurred |= self.has_in_flight(who, None);
			}
			let Some(input) = self.as_it_stands(input) else {
				self.mark_handled();
				continue;
			};
			let ended = match &input {
				Input::ChannelClosed { user_channel_id, .. } => Some((*user_channel_id, true)),
				Input::Funded { user_channel_id, .. } | Input::FundingWithheld { user_channel_id, .. } => {
					Some((*user_channel_id, false))
				}
				_ => None,
			};
			if let Input::ChannelClosed { user_channel_id, .. } = &input
				&& !self.settle_funding(*user_channel_id)?
			{
				self.mark_handled();
				continue;
			}
			self.take(input)?;
			if let Some((id, closed)) = ended
				&& self.opening.remove(&id).is_some()
				&& closed && !self.ldk.channels.get(&id).is_some_and(Channel::is_handed)
			{
				self.chain.release(id);
			}
			self.mark_handled();
		}
		Ok(())
	}

	/// What the node makes of a `ChannelPending` for a withheld funding that is withheld no more: it is out, or was discarded,
	/// of which nothing is told.
	fn as_it_stands(&self, input: Input) -> Option<Input> {
		match input {
			Input::FundingWithheld { user_channel_id, funding, .. } if !self.chain.is_locked(user_channel_id) => {
				self.chain.is_broadcast(&funding.txid).then(|| self.funded(user_channel_id))
			}
			other => Some(other),
		}
	}

	/// The first event that was not.
	fn mark_handled(&mut self) {
		if let Some(event) = self.ldk.events.iter_mut().find(|event| !event.handled) {
			event.handled = true;
		}
		self.plan_save();
	}

	/// LDK's state goes to the disk.
	pub(crate) fn save(&mut self) -> Result<(), Stop> {
		self.ldk.saving = false;
		self.ldk.events.retain(|event| !event.handled);
		for channel in self.ldk.channels.values_mut().filter(|channel| channel.stage != Stage::Asked) {
			channel.saved = matches!(channel.stage, Stage::Out | Stage::Ready);
		}
		for id in std::mem::take(&mut self.ldk.dirty_htlcs) {
			let htlc = self.ldk.htlcs.get_mut(&id).expect("known");
			htlc.saved = htlc.state;
		}
		for hash in std::mem::take(&mut self.ldk.dirty_holds) {
			let hold = self.ldk.holds.get_mut(&hash).expect("known");
			if hold.state == HoldState::Claiming {
				hold.state = HoldState::Claimed;
				self.upstream += i128::from(hold.msat);
				let amount = inlet_lsp::money::Msat(hold.msat);
				hold.saved = hold.state;
				self.event(Input::PaymentClaimed { payment_hash: hash, amount, over: Vec::new() });
			} else {
				hold.saved = hold.state;
			}
		}
		Ok(())
	}

	/// The process died: what was not on the disk has not happened. What is held is raised again.
	pub(crate) fn forget_unsaved(&mut self) {
		for id in std::mem::take(&mut self.ldk.dirty_htlcs) {
			let htlc = self.ldk.htlcs.get_mut(&id).expect("known");
			if htlc.state == htlc.saved {
				continue;
			}
			if let HtlcState::Forwarded { channel, amount } = htlc.state {
				let over = self.ldk.channels.get_mut(&channel).expect("known");
				over.in_flight -= amount;
				over.pending.remove(&id);
			}
			htlc.state = htlc.saved;
			if htlc.state == HtlcState::Held {
				self.ldk.held.insert(id);
			}
		}
		for hash in std::mem::take(&mut self.ldk.dirty_holds) {
			let hold = self.ldk.holds.get_mut(&hash).expect("known");
			hold.state = hold.saved;
		}
		for event in &mut self.ldk.events {
			event.again |= event.handled;
			event.handled = false;
		}
		(self.ldk.pumping, self.ldk.saving) = (false, false);
		let queued: BTreeSet<[u8; 32]> = self.ldk.events.iter().filter_map(|event| intercept(&event.input)).collect();
		for id in self.ldk.held.clone() {
			self.ldk.htlcs.get_mut(&id).expect("held").shown = false;
			if !queued.contains(&id) {
				let input = self.intercepted(id);
				self.ldk.events.push_back(Event { input, handled: false, again: false });
			}
		}
	}
}

fn intercept(input: &Input) -> Option<[u8; 32]> {
	match input {
		Input::HtlcIntercepted { intercept_id, .. } => Some(*intercept_id),
		_ => None,
	}
}
