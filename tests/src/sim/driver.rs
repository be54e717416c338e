//! The driver's work, as the node's driver does it: step, commit, apply, act; and its death at every place in between.

use super::agenda::Deed;
use super::parts::{HtlcState, Stage};
use super::world::Sim;
use super::{Go, Stop};
use bitcoin::Network;
use inlet_lsp::book::{Book, Write};
use inlet_lsp::input::{Action, Input, PeerView, Step, World};
use inlet_lsp::money::{FeePerKw, Sat};
use std::collections::VecDeque;

/// As the node's: what LDK did not raise again by then is gone.
const RAISED_AGAIN_WITHIN: u64 = 10_000;
/// The node reports clients that are awaited and here twice a second; less often is as good here.
const ATTEND: u64 = 2_000;

/// Where in a step the process dies.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
	BeforeCommit,
	/// The power fails while the store writes: the disk has some of it.
	InCommit,
	AfterCommit,
	/// After so many of its actions.
	After(usize),
}

impl Sim {
	/// One input, and what it brings about at once.
	pub(crate) fn take(&mut self, input: Input) -> Go {
		let mut inputs = VecDeque::from([input]);
		while let Some(input) = inputs.pop_front() {
			self.steps += 1;
			let death = self.death();
			let world = self.view_of(&input);
			if let Input::Connected { peer } = &input {
				self.notified.retain(|(client, _, _), _| client != peer);
			}
			self.note(|| super::world::brief(&input));
			let step = self.lsp.step(&self.book, &world, self.now, input.clone());
			self.check_step(&world, &step)?;
			self.commit(&step, death)?;
			self.check_twice(&input, &world)?;
			for (number, action) in step.actions.into_iter().enumerate() {
				if death == Some(Death::After(number)) {
					return Err(Stop::Crash);
				}
				self.note(|| format!("  -> {}", super::world::brief_action(&action)));
				inputs.extend(self.perform(action)?);
			}
		}
		self.plan_attend();
		self.check_held()
	}

	fn death(&mut self) -> Option<Death> {
		if !self.rng.ppm(self.temper.crash_ppm) {
			return None;
		}
		let places = [Death::BeforeCommit, Death::AfterCommit, Death::After(0), Death::After(1), Death::After(2)];
		let torn = self.rng.percent(20);
		Some(if torn { Death::InCommit } else { self.rng.pick(&places) })
	}

	fn view_of(&mut self, input: &Input) -> World {
		let number = self.fresh();
		let client = input.client(&self.book).and_then(|id| self.by_node.get(&id).copied());
		let peer = client.map_or_else(PeerView::default, |who| {
			let person = &self.people[who];
			let channels = person.channels.iter().map(|id| self.view(*id)).collect();
			let open = person.channels.iter().flat_map(|id| &self.ldk.channels[id].pending);
			let in_flight = open.map(|id| self.payments[&self.ldk.htlcs[id].payment].hash).collect();
			let growable = Vec::new();
			PeerView { connected: person.online, channels, in_flight, text_errors: person.text_errors, growable }
		});
		World {
			network: Network::Regtest,
			height: self.chain.height,
			synced: self.chain.synced,
			disk_low: false,
			feerate: self.chain.feerate.map(FeePerKw),
			market: inlet_lsp::market::Market::default(),
			spendable: Sat(self.spendable()),
			unconfirmed: Sat::ZERO,
			peer,
			entropy: self.rng.bytes(),
			fresh_scid: (1 << 40) | number,
			present: Vec::new(),
		}
	}

	/// Writes are durable, then they are in the book.
	fn commit(&mut self, step: &Step, death: Option<Death>) -> Go {
		if death == Some(Death::BeforeCommit) {
			return Err(Stop::Crash);
		}
		if death == Some(Death::InCommit) && !step.writes.is_empty() {
			let share = self.rng.range(0, 1_000);
			self.disk.tear(step.writes.clone(), share, self.rng.percent(30));
			self.tear(step)?;
			return Err(Stop::Crash);
		}
		if !step.writes.is_empty() {
			self.disk.commit(step.writes.clone());
			for write in &step.writes {
				if let Write::Ledger(entry) = write {
					self.ledger += i128::from(entry.amount_msat);
				}
				self.book.apply(write.clone());
			}
		}
		if death == Some(Death::AfterCommit) { Err(Stop::Crash) } else { Ok(()) }
	}

	/// Of a commit that the power failure tore, all is found or nothing.
	fn tear(&mut self, step: &Step) -> Go {
		let mut whole = self.book.clone();
		step.writes.iter().cloned().for_each(|write| whole.apply(write));
		let found = format!("{:?}", Book::restore(self.disk.load()));
		if found == format!("{whole:?}") {
			self.book = whole;
			let entry = |write: &Write| if let Write::Ledger(entry) = write { entry.amount_msat } else { 0 };
			self.ledger += step.writes.iter().map(entry).map(i128::from).sum::<i128>();
			return Ok(());
		}
		self.tally.torn += 1;
		let before = format!("{:?}", self.book);
		super::demand(found == before, || "a commit that was torn is there in part".into())
	}

	fn perform(&mut self, action: Action) -> Result<Vec<Input>, Stop> {
		let soon = self.now.0 + self.rng.around(100);
		match action {
			Action::Send { peer, bytes } => self.said(peer, &bytes).map(|()| Vec::new()),
			Action::TextErrors { peer } => {
				self.people[self.by_node[&peer]].text_errors = true;
				Ok(Vec::new())
			}
			Action::ForwardHtlc { intercept_id, peer, channel_id, amount } => {
				self.forward(intercept_id, peer, channel_id, amount)
			}
			Action::FailHtlc { intercept_id, .. } => Ok(self.fail(intercept_id)),
			Action::OpenChannel(open) => self.open(open),
			Action::SpliceIn(_) => {
				super::demand(false, || "nothing is spliced here: it is off".into()).map(|()| Vec::new())
			}
			Action::OpenTogether { .. }
			| Action::HurryTogether { .. }
			| Action::BroadcastShared { .. }
			| Action::DiscardShared { .. } => {
				super::demand(false, || "nothing is opened together here: it is off".into()).map(|()| Vec::new())
			}
			Action::AbandonChannel { user_channel_id, .. } => Ok(self.abandon(user_channel_id)),
			Action::PreparePayment { order, amount, invoice, address, .. } => {
				let deed = Deed::Prepared { order, invoice, address, amount: amount.0 };
				self.agenda.plan(soon, Some(self.process), deed);
				Ok(Vec::new())
			}
			Action::ClaimPayment { order, payment_hash } => self.claim(&order, payment_hash).map(|()| Vec::new()),
			Action::FailPayment { payment_hash } => self.fail_hold(payment_hash).map(|()| Vec::new()),
			Action::Refund { order, from, .. } => {
				if self.refunding.insert(order.clone(), from).is_none() {
					self.agenda.plan(soon, Some(self.process), Deed::Refund { order });
				}
				Ok(Vec::new())
			}
			Action::BumpRefund { order, number, .. } => {
				self.agenda.plan(soon, Some(self.process), Deed::Bump { order, number });
				Ok(Vec::new())
			}
			Action::TryOpening { order, open } => Ok(self.try_opening(order, open.peer)),
			Action::BroadcastFunding { user_channel_id, .. } => self.broadcast(user_channel_id),
			Action::DiscardFunding { user_channel_id, .. } => {
				let closed = self.ldk.channels.get(&user_channel_id).is_none_or(|one| one.stage == Stage::Closed);
				if closed {
					let deed = Deed::Discard { channel: user_channel_id };
					self.agenda.plan(soon, Some(self.process), deed);
				} else {
					self.close(user_channel_id, "it was not paid for");
				}
				Ok(Vec::new())
			}
			Action::CloseTogether { .. } => {
				super::demand(false, || "nothing is reclaimed here: it is off".into()).map(|()| Vec::new())
			}
			Action::Notify { client, app_name, url, notice } => {
				self.notified(client, app_name, &url, &notice).map(|()| Vec::new())
			}
			Action::Warn { code, .. } => {
				self.tally.unpaid += u64::from(code == "order_unpaid");
				Ok(Vec::new())
			}
		}
	}

	pub(crate) fn plan_attend(&mut self) {
		if !self.attending && !self.book.awaited_clients().is_empty() {
			self.attending = true;
			self.agenda.plan(self.now.0 + ATTEND, Some(self.process), Deed::Attend);
		}
	}

	pub(crate) fn attend(&mut self) -> Go {
		self.attending = false;
		for peer in self.book.awaited_clients() {
			if self.people[self.by_node[&peer]].online {
				self.take(Input::Connected { peer })?;
			}
		}
		self.plan_attend();
		Ok(())
	}

	/// LDK has raised what it holds: the rest is gone.
	pub(crate) fn grace_over(&mut self) -> Go {
		for intercept_id in std::mem::take(&mut self.unraised) {
			self.take(Input::HtlcGone { intercept_id })?;
		}
		Ok(())
	}

	/// The process died; another one takes up what the disk has.
	pub(crate) fn restart(&mut self) -> Go {
		self.tally.crashes += 1;
		self.process += 1;
		let killed = self.rng.percent(70);
		self.disk.crash(killed);
		let found = Book::restore(self.disk.load());
		self.check_replay(&found)?;
		self.book = found;
		self.forget_unfunded();
		self.forget_unsaved();
		self.refunding.clear();
		self.notified.clear();
		self.attending = false;
		let downtime = if self.rng.percent(20) { self.rng.range(0, 900_000) } else { self.rng.range(0, 5_000) };
		self.now.0 += downtime;
		self.note(|| format!("-- start of process after {downtime} ms --"));
		for who in 0..self.people.len() {
			if self.people[who].online {
				self.people[who].online = false;
				let at = self.now.0 + 100 + self.rng.around(10_000);
				self.agenda.plan(at, None, Deed::Client(who));
			}
		}
		self.people.iter_mut().for_each(|person| person.text_errors = false);
		self.unraised = self.book.held_htlcs();
		self.chain.surveyed = 0;
		self.agenda.plan(self.now.0 + RAISED_AGAIN_WITHIN, Some(self.process), Deed::GraceOver);
		self.take(Input::Started)?;
		// What LDK kept to tell comes before anybody can be connected.
		self.pump()?;
		self.look()
	}

	/// Is this HTLC held by LDK?
	pub(crate) fn is_held(&self, id: &[u8; 32]) -> bool {
		self.ldk.htlcs.get(id).is_some_and(|htlc| htlc.state == HtlcState::Held)
	}
}
