//! A small world in which bytes decide what happens next.

use super::agenda::Deed;
use super::disk::Disk;
use super::rng::Rng;
use super::temper::Temper;
use super::world::Sim;
use super::{Go, Stop};
use inlet_lsp::input::Input;

/// What is made of longer input is cut off.
const MOST_EVENTS: usize = 400;
/// Inputs that can come again.
const MOST_REMEMBERED: usize = 16;

/// Each four bytes are something that happens: what, to whom, and how. The rules of the simulation hold after each, and at
/// the end all comes to rest.
///
/// # Errors
/// What is not as it must be.
pub fn feed(bytes: &[u8]) -> Result<(), String> {
	let (head, rest) = bytes.split_at(bytes.len().min(1));
	let mut rng = Rng::new(head.first().copied().unwrap_or_default().into());
	let temper = Temper::fed(&mut rng);
	let mut sim = Sim::new(rng, temper, Disk::Rows(Vec::new()));
	let started = sim.begin_fed();
	sim.survive(started)?;
	let mut told = Vec::new();
	for event in rest.chunks_exact(4).take(MOST_EVENTS) {
		let done = sim.happen([event[0], event[1], event[2], event[3]], &mut told);
		sim.survive(done)?;
		let checked = sim.check_points();
		sim.survive(checked)?;
	}
	sim.end()
}

impl Sim {
	fn begin_fed(&mut self) -> Go {
		self.begin();
		self.agenda.retain(|deed| !matches!(deed, Deed::Client(_)));
		self.take(Input::Started)?;
		(0..self.people.len()).try_for_each(|who| self.connect(who))
	}

	fn happen(&mut self, [what, whom, how, much]: [u8; 4], told: &mut Vec<Input>) -> Go {
		let who = usize::from(whom) % self.people.len();
		let size = u64::from(how) << 8 | u64::from(much);
		match what % 16 {
			0 => self.until(self.now.0 + size * 10),
			1 => self.until(self.now.0 + size * 1_000 / 64),
			2 | 3 => self.client(who),
			4 | 5 if !self.bought.is_empty() => {
				self.pay(usize::from(whom) % self.bought.len());
				self.until(self.now.0 + size * 10)
			}
			6 if !self.payments.is_empty() => {
				let at = usize::from(whom) % self.payments.len();
				let payment = *self.payments.keys().nth(at).expect("below the length");
				let expiry = self.chain.height + 35 + u32::from(how % 64);
				self.part(payment, 1 + u64::from(much) * 100_000, expiry);
				Ok(())
			}
			7 => {
				if self.people[who].online {
					self.disconnect(who);
					Ok(())
				} else {
					self.connect(who)
				}
			}
			8 => Err(Stop::Crash),
			9 => {
				// The next step dies somewhere in the middle.
				self.temper.crash_ppm = 1_000_000;
				let ticked = self.take(Input::Tick);
				self.temper.crash_ppm = 0;
				ticked
			}
			10 => {
				self.temper.feerate = 253 + size;
				self.fees();
				Ok(())
			}
			11 if !self.ldk.channels.is_empty() => {
				let at = usize::from(whom) % self.ldk.channels.len();
				let channel = *self.ldk.channels.keys().nth(at).expect("below the length");
				self.close(channel, "closed");
				Ok(())
			}
			12 => self.block(),
			13 if !told.is_empty() => self.take(told[usize::from(whom) % told.len()].clone()),
			14 => {
				self.remember(told);
				self.pump()
			}
			15 => self.save(),
			_ => Ok(()),
		}
	}

	/// Time passes, with what is due in it.
	fn until(&mut self, time: u64) -> Go {
		let next = |sim: &Sim| {
			let deadline = sim.book.next_deadline().map_or(u64::MAX, |at| at.0);
			sim.agenda.next_time().unwrap_or(u64::MAX).min(deadline)
		};
		while next(self) <= time {
			self.go_on()?;
		}
		self.now.0 = self.now.0.max(time);
		Ok(())
	}

	/// What LDK is about to tell may be told once more later, if it is of the kind that names its channel or itself.
	fn remember(&self, told: &mut Vec<Input>) {
		for event in &self.ldk.events {
			let named = matches!(
				event.input,
				Input::Funded { .. }
					| Input::FundingWithheld { .. }
					| Input::ChannelReady { .. }
					| Input::ChannelClosed { .. }
					| Input::Forwarded { .. }
			);
			if named && told.len() < MOST_REMEMBERED {
				told.push(event.input.clone());
			}
		}
	}
}
