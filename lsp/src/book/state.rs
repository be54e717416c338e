//! Questions that a row answers about itself, and the small changes that every step makes in the same way.

use super::*;

impl Client {
	/// A client that spoke to us for the first time.
	pub fn new(id: NodeId, first_seen: Timestamp) -> Client {
		Client {
			id,
			first_seen,
			string_error_data: false,
			sales_done: 0,
			orders_done: 0,
			offences: 0,
			wake: Wake::default(),
			offence_log: Vec::new(),
			payments: 0,
			tier: String::new(),
			overrides: Overrides::default(),
			history: Vec::new(),
			token: None,
		}
	}

	pub(crate) fn note(&mut self, at: Timestamp, step: &str, text: String) {
		push_bounded(&mut self.history, Note { at, step: step.to_string(), text }, MAX_CLIENT_HISTORY);
	}
}

impl SaleState {
	/// Nothing more is due: the fee is earned, or nothing came of it.
	pub fn is_finished(&self) -> bool {
		matches!(self, SaleState::Done | SaleState::Failed { .. })
	}

	/// Waiting for a payment, for its parts or for its channel: what the bounds on unpaid sales count.
	pub fn is_unpaid(&self) -> bool {
		matches!(self, SaleState::Bought | SaleState::Gathering { .. } | SaleState::Opening { .. })
	}
}

impl Sale {
	/// The channel, if it was funded (or is usable) and is not closed.
	pub fn open_channel(&self) -> Option<&SoldChannel> {
		self.channel.as_ref().filter(|channel| channel.is_open())
	}

	/// What is still to be paid of the opening fee.
	pub fn fee_left(&self) -> Msat {
		let fee = self.fee.unwrap_or(Msat::ZERO);
		Msat(fee.0.saturating_sub(self.fee_credited.0))
	}

	/// Is the payment for its withheld channel with the client, and not taken?
	pub fn is_unclaimed(&self) -> bool {
		let is_withheld = self.channel.as_ref().is_some_and(|channel| channel.is_withheld().is_some());
		self.state == SaleState::Forwarded && is_withheld
	}

	/// When something is due although nothing happens.
	pub fn next_deadline(&self) -> Option<Timestamp> {
		let own = match self.state {
			SaleState::Bought => Some(self.terms.valid_until),
			SaleState::Gathering { deadline } | SaleState::Opening { deadline } => Some(deadline),
			SaleState::Forwarded => self.parts.iter().filter_map(|part| part.held_until).min(),
			SaleState::Owing | SaleState::Done | SaleState::Failed { .. } => None,
		};
		let held = self.forwarded.iter().filter_map(|planned| planned.held_until).min();
		let claim = self.claim_by.filter(|_| self.is_unclaimed());
		let discards = self.discarding.iter().filter(|one| !one.out).map(|one| one.until).min();
		own.into_iter().chain(held).chain(claim).chain(discards).min()
	}

	pub(crate) fn note(&mut self, at: Timestamp, step: &str, text: String) {
		note(&mut self.history, at, step, text);
	}
}

impl SoldChannel {
	/// A channel that was asked for and is not funded yet.
	pub fn requested(capacity: Sat) -> SoldChannel {
		SoldChannel {
			capacity,
			channel_id: None,
			funding: None,
			funded_at: None,
			ready_at: None,
			closed_at: None,
			keep_until_height: 0,
			withheld: None,
			release: false,
		}
	}

	/// The funding output whose transaction is neither broadcast nor to be.
	pub fn is_withheld(&self) -> Option<OutPoint> {
		self.withheld.filter(|_| self.funding.is_none() && !self.release)
	}

	/// The funding output whose transaction is to be broadcast, and is not known to be out.
	pub fn is_due(&self) -> Option<OutPoint> {
		self.withheld.filter(|_| self.funding.is_none() && self.release)
	}

	/// Funded or usable, and not closed.
	pub fn is_open(&self) -> bool {
		self.closed_at.is_none() && (self.funding.is_some() || self.ready_at.is_some())
	}
}

impl OrderState {
	/// Delivered, or given up and any refund sent.
	pub fn is_finished(&self) -> bool {
		matches!(self, OrderState::Completed | OrderState::Failed { .. })
	}

	/// Waiting for its payment: what the bounds on unpaid orders count.
	pub fn is_unpaid(&self) -> bool {
		matches!(self, OrderState::Preparing | OrderState::AwaitingPayment)
	}
}

/// The largest dust limit of a segwit output.
pub(crate) const DUST: Sat = Sat(330);

/// So long after a splice was asked for, in seconds, the channel is closed by force if we have signed and the client still has not:
/// time enough for a phone that lost its connection in between.
const SPLICE_OVERDUE_SECS: u64 = 3600;

/// How long the node may take to make an invoice and an address, in seconds.
pub(crate) const PREPARE_SECS: u64 = 60;

impl Order {
	/// Both sides of the channel.
	pub fn capacity(&self) -> Sat {
		self.lsp_balance.saturating_add(self.client_balance)
	}

	/// Is its channel being opened, or given up: may its funding be out without our knowing?
	pub fn is_being_opened(&self) -> bool {
		matches!(self.state, OrderState::Opening { .. } | OrderState::Abandoning { .. })
	}

	/// Is the channel that is being opened, or made larger, not to be any more, if that can still be prevented? Its payment went
	/// back, and the client has not used it; or the client keeps its signatures of a splice, and with them our coins, to itself.
	pub fn is_void(&self, now: Timestamp) -> bool {
		let overdue = |splice: &Splice| splice.begun.plus_secs(SPLICE_OVERDUE_SECS) <= now;
		(self.lapsed && !self.kept) || self.splice.as_deref().is_some_and(overdue)
	}

	/// When something is due although nothing happens.
	pub fn next_deadline(&self) -> Option<Timestamp> {
		let bump = self.open_refund().and_then(Refund::bump_due);
		let others = self.splice_deadline().into_iter().chain(self.waits_until()).chain(self.batch_deadline());
		self.state_deadline().into_iter().chain(bump).chain(others).min()
	}

	/// Until when it waits for orders to share a funding transaction with.
	pub fn waits_until(&self) -> Option<Timestamp> {
		match self.batch.as_deref() {
			Some(Batch::Waiting { until }) if matches!(self.state, OrderState::Paid { .. }) => Some(*until),
			_ => None,
		}
	}

	/// The name of those that its channel is opened together with, or was.
	pub fn batch_id(&self) -> Option<u128> {
		match self.batch.as_deref() {
			Some(Batch::Together { id, .. }) => Some(*id),
			_ => None,
		}
	}

	/// When those that are opened together with it should be further.
	pub(crate) fn batch_deadline(&self) -> Option<Timestamp> {
		match self.batch.as_deref() {
			Some(Batch::Together { until, .. }) if matches!(self.state, OrderState::Opening { .. }) => Some(*until),
			_ => None,
		}
	}

	/// When the splice that it waits for should be signed.
	pub(crate) fn splice_deadline(&self) -> Option<Timestamp> {
		self.splice.as_ref().filter(|_| matches!(self.state, OrderState::Opening { .. })).map(|splice| splice.until)
	}

	/// When the state itself wants something done.
	pub(crate) fn state_deadline(&self) -> Option<Timestamp> {
		match self.state {
			OrderState::Preparing => Some(self.created_at.plus_secs(PREPARE_SECS)),
			OrderState::AwaitingPayment => Some(self.expires_at),
			OrderState::Paid { deadline, .. }
			| OrderState::Opening { deadline, .. }
			| OrderState::Abandoning { deadline, .. } => Some(deadline),
			OrderState::Funded { .. }
			| OrderState::Completed
			| OrderState::Refunding { .. }
			| OrderState::Failed { .. } => None,
		}
	}

	/// bLIP-51's `channel.expires_at`, once the channel is funded.
	pub fn lease_ends_at(&self) -> Option<Timestamp> {
		let lease = u64::from(self.channel_expiry_blocks).saturating_mul(crate::time::SECS_PER_BLOCK);
		Some(self.channel.as_ref()?.funded_at?.plus_secs(lease))
	}

	/// What was given back on-chain, or is to be.
	pub fn refunded(&self) -> Sat {
		let Some(onchain) = &self.onchain else { return Sat::ZERO };
		let newest = onchain.refund.as_ref().map_or(Sat::ZERO, |refund| refund.amount);
		onchain.refunded.saturating_add(newest)
	}

	/// What arrived on-chain for a finished order beyond what paid it, with at least so many confirmations, and was not
	/// given back yet, if it is more than dust. While a refund is under way there is none: it is looked at again then.
	pub fn surplus(&self, confirmations: u32) -> Option<Sat> {
		if !self.state.is_finished() || self.open_refund().is_some() || self.refund_address.is_none() {
			return None;
		}
		let surplus = self.received(confirmations).saturating_sub(self.kept()).saturating_sub(self.refunded());
		Some(surplus).filter(|surplus| *surplus > DUST)
	}

	/// What of the on-chain payments is ours: the price, if it was paid with them.
	pub fn kept(&self) -> Sat {
		let paid = self.state == OrderState::Completed && self.paid_by == Some(PaidBy::Onchain);
		if paid { self.order_total } else { Sat::ZERO }
	}

	/// What the buyer has sent on-chain that is in our wallet, and is neither earned nor on its way back: not ours to
	/// spend. What is not confirmed is not among the coins that we count on.
	pub fn owed_onchain(&self) -> Sat {
		let pending = self.pending_refund().map_or(Sat::ZERO, |refund| refund.amount);
		let sent = self.refunded().saturating_sub(pending);
		let there = self.received(1).saturating_sub(self.kept()).saturating_sub(sent);
		// What can never go back stays.
		let is_left = self.state.is_finished() && (there <= DUST || self.refund_address.is_none());
		if is_left { pending } else { there.max(pending) }
	}

	/// What arrived on-chain with at least so many confirmations.
	pub fn received(&self, confirmations: u32) -> Sat {
		let received = self.onchain.iter().flat_map(|onchain| &onchain.received);
		let counted = received.filter(|output| output.confirmations >= confirmations);
		counted.fold(Sat::ZERO, |sum, output| sum.saturating_add(output.value))
	}

	/// The refund that was decided and is not out yet.
	pub fn pending_refund(&self) -> Option<&Refund> {
		self.onchain.as_ref()?.refund.as_ref().filter(|refund| refund.txid.is_none())
	}

	/// The refund that was decided and is not settled yet.
	pub fn open_refund(&self) -> Option<&Refund> {
		self.onchain.as_ref()?.refund.as_ref().filter(|refund| !refund.is_settled())
	}

	/// It is being served, or was, on an on-chain payment that is not confirmed (R5).
	pub fn is_at_risk(&self) -> bool {
		let by = match self.state {
			OrderState::Paid { by, .. } | OrderState::Opening { by, .. } | OrderState::Abandoning { by, .. } => {
				Some(by)
			}
			OrderState::Funded { .. } | OrderState::Completed => self.paid_by,
			_ => None,
		};
		by == Some(PaidBy::Onchain) && self.received(1) < self.order_total
	}

	pub(crate) fn note(&mut self, at: Timestamp, step: &str, text: String) {
		note(&mut self.history, at, step, text);
	}
}

/// Confirmations after which a refund is not looked at any more.
pub const SETTLED: u32 = 6;

impl Refund {
	/// Deep in the chain.
	pub fn is_settled(&self) -> bool {
		self.txid.is_some() && self.confirmations >= SETTLED
	}

	/// When its fee is to be raised, while it is not in the chain.
	pub(crate) fn bump_due(&self) -> Option<Timestamp> {
		self.bump_at.filter(|_| self.txid.is_some() && self.confirmations == 0 && self.replaced.len() < MAX_BUMPS)
	}
}

fn note(history: &mut Vec<Note>, at: Timestamp, step: &str, text: String) {
	push_bounded(history, Note { at, step: step.to_string(), text }, MAX_HISTORY);
}

/// Appends, and drops the oldest beyond `bound`.
pub(crate) fn push_bounded<T>(list: &mut Vec<T>, item: T, bound: usize) {
	list.push(item);
	let excess = list.len().saturating_sub(bound);
	list.drain(..excess);
}
