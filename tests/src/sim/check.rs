//! What must hold: after every step, at points, and at the end.

use super::parts::*;
use super::world::Sim;
use super::{Go, Stop, demand};
use inlet_lsp::book::{
	Book, LEDGER_IN_MEMORY, MAX_ATTEMPTS_KEPT, MAX_CLIENTS, MAX_FINISHED, MAX_FORWARDS_KEPT, MAX_HISTORY, Order,
	OrderState, PaidBy, PlannedForward, Refund, Sale, SaleState, Write,
};
use inlet_lsp::input::{Input, Owner, Step, World};
use inlet_lsp::jit::EXPIRY_MARGIN_BLOCKS;
use inlet_lsp::money::Sat;
use inlet_lsp::wake::MAX_HELD_PER_CLIENT;

impl Sim {
	/// A step, before it is committed.
	pub(crate) fn check_step(&self, world: &World, step: &Step) -> Go {
		let mut more = false;
		for write in &step.writes {
			match write {
				Write::Sale(sale) => {
					self.check_sale(sale)?;
					let before = self.book.sale(&sale.id).map_or(Sat::ZERO, |sale| sale.reserved);
					more |= sale.reserved > before;
				}
				Write::Order(order) => {
					check_order(order)?;
					let before = self.book.order(&order.id).map_or(Sat::ZERO, |order| order.reserved);
					more |= order.reserved > before;
				}
				Write::Client(_) | Write::Ledger(_) | Write::Forget(_) | Write::Token(_) | Write::Books(_) => {}
			}
		}
		if more {
			let mut after = self.book.clone();
			step.writes.iter().cloned().for_each(|write| after.apply(write));
			let (reserved, spendable) = (after.reserved(), world.spendable);
			demand(reserved <= spendable, || format!("{reserved} promised, {spendable} spendable"))?;
		}
		Ok(())
	}

	fn check_sale(&self, sale: &Sale) -> Go {
		let risk = &self.temper.policy.risk;
		let bounds = [
			(sale.parts.len(), risk.max_parts as usize),
			(sale.history.len(), MAX_HISTORY),
			(sale.forwarded.len(), MAX_FORWARDS_KEPT),
			(sale.credited.len(), MAX_FORWARDS_KEPT),
			(sale.earlier_channel_ids.len(), MAX_ATTEMPTS_KEPT),
		];
		let within = bounds.iter().all(|(count, most)| count <= most);
		demand(within, || format!("a bound of sale {} does not hold: {bounds:?}", sale.id))?;
		let forwarded = |id: &[u8; 32]| sale.forwarded.iter().any(|planned| planned.intercept_id == *id);
		let both = sale.parts.iter().any(|part| forwarded(&part.intercept_id));
		demand(!both, || format!("an HTLC of sale {} is held and forwarded", sale.id))?;
		let funded = sale.open_channel().is_some();
		demand(!funded || sale.reserved == Sat::ZERO, || format!("sale {} is funded and reserves", sale.id))
	}

	/// The same input again changes nothing more.
	pub(crate) fn check_twice(&mut self, input: &Input, world: &World) -> Go {
		let once = matches!(input, Input::Message { .. } | Input::Tick | Input::Connected { .. });
		let lost = matches!(input, Input::HtlcIntercepted { intercept_id, .. } if !self.is_held(intercept_id));
		if once || lost || !self.steps.is_multiple_of(7) {
			return Ok(());
		}
		let again = self.lsp.step(&self.book, world, self.now, input.clone());
		// An HTLC that was refused is not in the book; one that was forwarded is not shown again by a living LDK.
		let shown = matches!(input, Input::HtlcIntercepted { .. });
		demand(again.writes.is_empty() || shown, || format!("given twice, {input:?} writes {:?}", again.writes))
	}

	/// Every HTLC that LDK holds, and has told us of, has an owner, a deadline, and time enough on the chain.
	pub(crate) fn check_held(&self) -> Go {
		let policy = &self.temper.policy.lsps2;
		let hold = self.temper.policy.lsps5.hold_secs;
		let longest = self.now.plus_secs(policy.gather_secs.max(policy.open_secs).max(hold) + 1);
		for id in &self.ldk.held {
			let htlc = &self.ldk.htlcs[id];
			if !htlc.shown {
				continue;
			}
			let sale = self.book.sale_by_intercept(id);
			let sleeper = self.book.client_by_intercept(id).and_then(|client| client.wake.next_deadline());
			let deadline = sale.and_then(Sale::next_deadline).or(sleeper);
			let good = deadline.is_some_and(|at| at <= longest);
			demand(good, || {
				format!("held without an owner or a deadline: {:?} {sale:#?}", self.payments[&htlc.payment].hash)
			})?;
		}
		Ok(())
	}

	/// After the tick that a block brings.
	pub(crate) fn check_expiry(&self) -> Go {
		let least = self.chain.height + EXPIRY_MARGIN_BLOCKS;
		let late = |id: &&[u8; 32]| {
			let htlc = &self.ldk.htlcs[*id];
			let is_done = |one: &PlannedForward| one.intercept_id == **id && one.held_until.is_none();
			let planned = |sale: &Sale| sale.forwarded.iter().any(is_done);
			let decided = self.book.sale_by_intercept(id).is_some_and(planned);
			htlc.shown && htlc.expiry <= least && !decided
		};
		demand(self.ldk.held.iter().find(late).is_none(), || "an HTLC is held beyond its margin".into())
	}

	/// The book in memory is the book that a start finds.
	pub(crate) fn check_replay(&self, found: &Book) -> Go {
		let (memory, disk) = (format!("{:?}", self.book), format!("{found:?}"));
		if memory == disk {
			return Ok(());
		}
		let at = memory.bytes().zip(disk.bytes()).take_while(|(one, other)| one == other).count();
		let part = |text: &str| text.chars().skip(at.saturating_sub(200)).take(500).collect::<String>();
		Err(Stop::Flaw(format!("the book is not its replay:\n{}\n{}", part(&memory), part(&disk))))
	}

	/// All that can be checked of the book as a whole.
	pub(crate) fn check_book(&self) -> Go {
		let risk = &self.temper.policy.risk;
		let unpaid_sales = self.book.sales().filter(|sale| sale.state.is_unpaid()).count();
		let unpaid_orders = self.book.orders().filter(|order| order.state.is_unpaid()).count();
		// A sale that was paid once counts again when it is paid for anew: what was refused cannot come back as more. So does
		// an order whose payment a reorganisation took.
		let open = unpaid_sales + unpaid_orders;
		let was_paid = |order: &&Order| order.state.is_unpaid() && order.history.iter().any(|note| note.step == "paid");
		let again = self.book.orders().filter(was_paid).count();
		let most = risk.max_open_total as usize + self.bought.len() + again;
		demand(open <= most, || format!("{open} unpaid sales and orders"))?;
		demand(self.book.clients().count() <= MAX_CLIENTS, || "too many clients".into())?;
		demand(self.book.ledger().count() <= LEDGER_IN_MEMORY, || "too long a ledger".into())?;
		let lsps5 = &self.temper.policy.lsps5;
		for client in self.book.clients() {
			let (held, hooks) = (client.wake.held.len(), client.wake.webhooks.len());
			let within = held <= MAX_HELD_PER_CLIENT && hooks <= lsps5.max_webhooks as usize;
			demand(within, || format!("{held} HTLCs held for {}, which has {hooks} webhooks", client.id))?;
		}
		let dead = self.book.sales().filter(|sale| sale.state.is_finished()).count();
		demand(dead <= MAX_FINISHED + self.people.len() * 100, || "too many finished sales".into())?;
		let sales: u64 = self.book.sales().map(|sale| sale.reserved.0).sum();
		let orders: u64 = self.book.orders().map(|order| order.reserved.0 + order.owed_onchain().0).sum();
		let reserved = self.book.reserved();
		demand(reserved.0 == sales + orders, || format!("{reserved} reserved, the rows say {}", sales + orders))
	}

	/// What the ledger says is what the parties have. Exact when LDK has nothing more to tell.
	pub(crate) fn check_balance(&self) -> Go {
		let told = self.ldk.events.iter().all(|event| event.handled);
		let untold = |(id, channel): (&u128, &Channel)| {
			let order = self.book.order_by_user_channel_id(*id);
			let known = order.and_then(|order| order.channel.as_ref()).is_some_and(|channel| channel.funding.is_some());
			matches!(channel.owner, Owner::Order(_)) && channel.was_out && !known
		};
		// An order's funding is told when the chain backend has taken it.
		if !told || self.ldk.channels.iter().any(untold) {
			return Ok(());
		}
		let coins: i128 = self.chain.coins.iter().map(|coin| i128::from(coin.sat) * 1_000).sum();
		let out = self.ldk.channels.values().filter(|channel| channel.was_out);
		let mut channels: i128 = out.map(|channel| i128::from(channel.local)).sum();
		// What was taken over a channel that is not broadcast yet is the client's.
		let not_out = self.ldk.channels.values().filter(|channel| !channel.was_out);
		channels -=
			not_out.map(|one| i128::from(one.capacity * 1_000 - one.push) - i128::from(one.local)).sum::<i128>();
		let assets = coins + channels + self.sweeping + self.upstream + i128::from(self.chain.in_limbo()) * 1_000;
		let credited: i128 = self
			.book
			.sales()
			.filter(|sale| sale.state != SaleState::Done)
			.map(|sale| i128::from(sale.fee_credited.0))
			.sum();
		let orders: i128 = self.book.orders().map(|order| self.owed_to(order)).sum();
		let expected = self.initial + self.ledger + credited + orders - self.unbooked;
		demand(assets == expected, || {
			format!(
				"the books are off by {}: coins {coins}, channels {channels}, sweeping {}, upstream {}; initial {}, \
				 ledger {}, credited {credited}, orders {orders}, unbooked {}",
				assets - expected,
				self.sweeping,
				self.upstream,
				self.initial,
				self.ledger,
				self.unbooked
			)
		})
	}

	/// What of our assets belongs to an order's buyer: what came on-chain and was neither earned nor sent back, less what
	/// was pushed and is not paid yet.
	pub(crate) fn owed_to(&self, order: &Order) -> i128 {
		let address = order.onchain.as_ref().map(|onchain| &onchain.address);
		let list = address.and_then(|address| self.chain.deposits.get(address));
		let received: u64 = list.map_or(0, |list| list.iter().map(|deposit| deposit.sat).sum());
		let refunds = order.onchain.as_ref().map_or(0, |onchain| onchain.refunds);
		let settled =
			order.onchain.as_ref().and_then(|onchain| onchain.refund.as_ref()).is_some_and(Refund::is_settled);
		let range = (order.id.clone(), 0)..=(order.id.clone(), u32::MAX);
		let mut sent = 0;
		for ((_, number), one) in self.chain.sent.range(range).filter(|(_, one)| !one.dead) {
			let booked = *number < refunds || (*number == refunds && settled);
			sent += one.amount + if booked { 0 } else { one.live().borne };
		}
		let lost = order.onchain.as_ref().is_some_and(|onchain| onchain.lost);
		let earned = match order.state {
			OrderState::Completed if order.paid_by == Some(PaidBy::Onchain) && !lost => order.order_total.0,
			OrderState::Funded { by: PaidBy::Lightning } => order.client_balance.0,
			_ => 0,
		};
		let sat = i128::from(received) - i128::from(sent) - i128::from(earned);
		// Claimed by LDK, and we were not told: that is an event, so never here.
		sat * 1_000
	}

	/// The world is quiet, and enough time has passed: everything is finished.
	pub(crate) fn check_rest(&self) -> Go {
		demand(self.ldk.held.is_empty(), || "HTLCs are held for ever".into())?;
		let held = self.ldk.holds.values().any(|hold| hold.state == HoldState::Held);
		demand(!held, || "a payment to an invoice is held for ever".into())?;
		// What is too little for a transaction waits for a feerate that will not come any more.
		let too_little = |order: &&Order| order.state.is_finished() && order.open_refund().is_none();
		let small = self.book.orders().filter(too_little).map(|order| order.owed_onchain().0);
		let small: u64 = small.filter(|sat| *sat <= self.chain.refund_cost()).sum();
		let reserved = self.book.reserved();
		demand(reserved.0 == small, || {
			let sales: Vec<&Sale> = self.book.sales().filter(|sale| sale.reserved > Sat::ZERO).collect();
			let orders = self.book.orders().filter(|order| order.reserved > Sat::ZERO || order.open_refund().is_some());
			format!("{reserved} stay reserved: {sales:#?} {:#?}", orders.collect::<Vec<_>>())
		})?;
		demand(self.book.next_deadline().is_none(), || "a deadline is left".into())?;
		for sale in self.book.sales() {
			let blurred = self.people[self.by_node[&sale.client]].blurred;
			let waits = sale.state == SaleState::Owing || (blurred && sale.state == SaleState::Forwarded);
			let finished = sale.state.is_finished() || waits;
			demand(finished && sale.parts.is_empty(), || format!("not finished: {sale:#?}"))?;
			let paid = sale.state != SaleState::Done || sale.fee_left().0 == 0;
			demand(paid, || format!("done and not paid: {sale:#?}"))?;
		}
		for order in self.book.orders() {
			self.check_finished(order)?;
		}
		for (id, channel) in self.ldk.channels.iter().filter(|(_, channel)| !channel.was_out) {
			demand(!channel.is_used(), || format!("a payment over {id:x} was taken, and its funding is not out"))?;
			let needed = matches!(channel.stage, Stage::Out | Stage::Ready);
			demand(needed || !self.chain.is_locked(*id), || format!("the coins of {id:x} are locked for ever"))?;
		}
		let stored = self.disk.ledger_total().map_or(self.ledger, i128::from);
		demand(stored == self.ledger, || format!("the stored totals say {stored}, the ledger {}", self.ledger))
	}

	fn check_finished(&self, order: &Order) -> Go {
		demand(order.state.is_finished(), || format!("not finished: {order:#?}"))?;
		let mut marks = order.earlier_channel_ids.iter().chain([&order.user_channel_id]);
		let channel = marks.any(|id| self.ldk.channels.get(id).is_some_and(|channel| channel.was_out));
		let hold = order.lightning.as_ref().and_then(|option| self.ldk.holds.get(&option.payment_hash));
		let claimed = hold.is_some_and(|hold| hold.state == HoldState::Claimed);
		let completed = order.state == OrderState::Completed;
		let unpaid = order.lapsed && order.channel.as_ref().is_some_and(|channel| channel.funding.is_some());
		demand((completed || unpaid) == channel, || format!("its channel is out: {channel}; {order:#?}"))?;
		let by_lightning = completed && order.paid_by == Some(PaidBy::Lightning);
		demand(claimed == by_lightning, || format!("its payment is claimed: {claimed}; {order:#?}"))
	}
}

fn check_order(order: &Order) -> Go {
	let bounds = [(order.history.len(), MAX_HISTORY), (order.earlier_channel_ids.len(), MAX_ATTEMPTS_KEPT)];
	let within = bounds.iter().all(|(count, most)| count <= most);
	demand(within, || format!("a bound of order {} does not hold: {bounds:?}", order.id))?;
	let over = matches!(
		order.state,
		OrderState::Funded { .. } | OrderState::Completed | OrderState::Failed { .. } | OrderState::Refunding { .. }
	);
	demand(!over || order.reserved == Sat::ZERO, || format!("order {} is over and reserves", order.id))
}
