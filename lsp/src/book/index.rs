//! How the book is built from its rows, kept, and asked.

use super::*;
use crate::exposure::{self, Stake};
use crate::time::SECS_PER_BLOCK;

/// How many ledger entries are kept in memory; the store keeps them all.
pub const LEDGER_IN_MEMORY: usize = 2_000;
/// How many finished sales, and how many finished orders, without an open channel are kept in memory.
pub const MAX_FINISHED: usize = 5_000;
/// How many offences of all clients are looked at.
pub const MAX_OFFENCES_IN_MEMORY: usize = 4_096;
/// How many clients are remembered. With one more, those are forgotten with whom nothing is at stake; while there are
/// none of these, nothing is sold to new ones.
pub const MAX_CLIENTS: usize = 20_000;
/// So many at once, since it takes a look at all.
const FORGOTTEN_AT_ONCE: usize = 1_000;

/// Who owns a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owned {
	Sale(SaleId),
	Order(OrderId),
}

/// Until when we promised not to close a channel ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
	/// To whom.
	pub client: NodeId,
	/// The sale or order that it was sold with.
	pub sold_as: String,
	/// Not below this height.
	pub until_height: u32,
	/// Nor before this time, which is what the client was shown (bLIP-51's `channel.expires_at`).
	pub until: Option<Timestamp>,
}

impl Lease {
	/// Blocks and time that are still promised: zero when both are over. Blocks that came faster than bLIP-51 reckons
	/// do not end a lease before the time that the client was shown.
	pub fn blocks_left(&self, height: u32, now: Timestamp) -> u32 {
		let by_height = self.until_height.saturating_sub(height);
		let millis = self.until.map_or(0, |until| until.0.saturating_sub(now.0));
		let by_time = u32::try_from(millis.div_ceil(SECS_PER_BLOCK.saturating_mul(1000))).unwrap_or(u32::MAX);
		by_height.max(by_time)
	}
}

/// Ways into the rows. Kept up by [`Book::apply`] and nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
	scids: BTreeMap<u64, SaleId>,
	intercepts: BTreeMap<[u8; 32], SaleId>,
	user_channel_ids: BTreeMap<u128, Owned>,
	channels: BTreeMap<[u8; 32], Owned>,
	payments: BTreeMap<PaymentHash, OrderId>,
	addresses: BTreeMap<String, OrderId>,
	/// Orders that a channel was, or is being, made larger for: by the channel's mark, and by its id.
	grown: BTreeSet<(u128, OrderId)>,
	grown_channels: BTreeSet<([u8; 32], OrderId)>,
	/// Deadlines, soonest first.
	deadlines: BTreeSet<(Timestamp, String)>,
	/// Not finished, or with something still to do.
	live_sales: BTreeSet<SaleId>,
	live_orders: BTreeSet<OrderId>,
	/// Finished and without an open channel, oldest first: what may be dropped from memory.
	dead_sales: BTreeSet<(Timestamp, SaleId)>,
	dead_orders: BTreeSet<(Timestamp, OrderId)>,
	/// Waiting for others to be opened with.
	waiting_orders: BTreeSet<OrderId>,
	/// Finished, with a [surplus](Order::surplus) that may have to go back.
	surplus_orders: BTreeSet<OrderId>,
	/// Served on payments that are [not confirmed](Order::is_at_risk).
	orders_at_risk: BTreeSet<OrderId>,
	/// Clients with webhooks, or with HTLCs held for them.
	sleepers: BTreeSet<NodeId>,
	/// HTLCs held for a sleeping client's channel.
	held: BTreeMap<[u8; 32], NodeId>,
	references: BTreeSet<(EntryKind, String)>,
	/// The newest, oldest first, numbered within their client's row.
	offences: BTreeSet<(Timestamp, NodeId, usize)>,
	/// Sales with coins in a funding transaction that is not out.
	withheld_sales: BTreeSet<SaleId>,
	reserved: u64,
	stakes: exposure::Sums,
}

impl Book {
	/// The book as its rows tell it; a later row replaces an earlier one of the same id.
	pub fn restore(rows: impl IntoIterator<Item = Write>) -> Book {
		let mut book = Book::default();
		for row in rows {
			book.apply(row);
		}
		book
	}

	/// Takes in one committed row. Applying a row twice is applying it once.
	pub fn apply(&mut self, write: Write) {
		match write {
			Write::Client(client) => self.apply_client(client),
			Write::Sale(sale) => self.apply_sale(sale),
			Write::Order(order) => self.apply_order(order),
			Write::Ledger(entry) => self.apply_entry(entry),
			// What is in memory is never forgotten.
			Write::Forget(_) => {}
			Write::Books(row) => self.books.apply(row),
			Write::Token(token) => self.apply_token(token),
		}
	}

	fn apply_client(&mut self, client: Client) {
		let numbered = |client: &Client| {
			let id = client.id;
			let costly = client.offence_log.iter().enumerate().filter(|(_, one)| one.cost);
			costly.map(move |(n, one)| (one.at, id, n)).collect::<Vec<_>>()
		};
		if let Some(old) = self.clients.remove(&client.id) {
			self.index.remove_client(&old);
			numbered(&old).iter().for_each(|one| {
				self.index.offences.remove(one);
			});
		}
		self.index.add_client(&client);
		self.index.offences.extend(numbered(&client));
		while self.index.offences.len() > MAX_OFFENCES_IN_MEMORY {
			self.index.offences.pop_first();
		}
		self.clients.insert(client.id, client);
		if self.clients.len() > MAX_CLIENTS {
			self.forget_idle_clients();
		}
	}

	/// Drops clients from memory with whom nothing is at stake, the oldest first: they paid for nothing, gave no
	/// offence, have no webhook, and nothing that they bought is in memory.
	fn forget_idle_clients(&mut self) {
		let buyers = self.sales.values().map(|sale| sale.client).chain(self.orders.values().map(|order| order.client));
		let buyers: BTreeSet<NodeId> = buyers.collect();
		let is_idle = |client: &&Client| {
			let is_new = client.sales_done == 0 && client.orders_done == 0 && client.offences == 0;
			is_new && client.wake.is_empty() && !buyers.contains(&client.id)
		};
		let mut idle: Vec<(Timestamp, NodeId)> =
			self.clients.values().filter(is_idle).map(|client| (client.first_seen, client.id)).collect();
		idle.sort_unstable();
		for (_, id) in idle.into_iter().take(FORGOTTEN_AT_ONCE) {
			if let Some(old) = self.clients.remove(&id) {
				self.index.remove_client(&old);
			}
		}
	}

	fn apply_sale(&mut self, sale: Sale) {
		if let Some(old) = self.sales.remove(&sale.id) {
			self.index.remove_sale(&old);
		}
		self.index.add_sale(&sale);
		self.sales.insert(sale.id.clone(), sale);
		while self.index.dead_sales.len() > MAX_FINISHED {
			let Some((_, id)) = self.index.dead_sales.first().cloned() else { break };
			if let Some(old) = self.sales.remove(&id) {
				self.index.remove_sale(&old);
			}
		}
	}

	fn apply_order(&mut self, order: Order) {
		if let Some(old) = self.orders.remove(&order.id) {
			self.index.remove_order(&old);
		}
		self.index.add_order(&order);
		self.orders.insert(order.id.clone(), order);
		while self.index.dead_orders.len() > MAX_FINISHED {
			let Some((_, id)) = self.index.dead_orders.first().cloned() else { break };
			if let Some(old) = self.orders.remove(&id) {
				self.index.remove_order(&old);
			}
		}
	}

	fn apply_entry(&mut self, entry: Entry) {
		if entry.seq < self.next_entry {
			if let Some(known) = self.ledger.iter_mut().find(|known| known.seq == entry.seq) {
				*known = entry;
			}
			return;
		}
		self.next_entry = entry.seq.saturating_add(1);
		self.index.references.insert((entry.kind, entry.reference.clone()));
		self.ledger.push_back(entry);
		if self.ledger.len() > LEDGER_IN_MEMORY
			&& let Some(oldest) = self.ledger.pop_front()
		{
			self.index.references.remove(&(oldest.kind, oldest.reference));
		}
	}

	/// When [`Input::Tick`](crate::input::Input::Tick) is due at the latest.
	pub fn next_deadline(&self) -> Option<Timestamp> {
		self.index.deadlines.first().map(|(at, _)| *at)
	}

	/// On-chain money that is spoken for: channels promised or paid for and not funded, and what buyers of channels
	/// sent, until it is earned or has gone back.
	pub fn reserved(&self) -> Sat {
		Sat(self.index.reserved)
	}

	/// All sales in memory, by id.
	pub fn sales(&self) -> impl Iterator<Item = &Sale> {
		self.sales.values()
	}

	/// All orders in memory, by id.
	pub fn orders(&self) -> impl Iterator<Item = &Order> {
		self.orders.values()
	}

	/// All clients, by node id.
	pub fn clients(&self) -> impl Iterator<Item = &Client> {
		self.clients.values()
	}

	/// The newest offences of all clients that cost us something, newest first, at most [`MAX_OFFENCES_IN_MEMORY`].
	pub fn offences(&self) -> impl Iterator<Item = (Timestamp, NodeId)> + '_ {
		self.index.offences.iter().rev().map(|(at, id, _)| (*at, *id))
	}

	/// Funding transactions that are made and not broadcast: their coins are locked for a sale.
	pub fn withheld_fundings(&self) -> BTreeSet<OutPoint> {
		let sales = self.index.withheld_sales.iter().filter_map(|id| self.sale(id));
		sales.flat_map(withheld).collect()
	}

	/// The newest ledger entries, oldest first, at most [`LEDGER_IN_MEMORY`].
	pub fn ledger(&self) -> impl DoubleEndedIterator<Item = &Entry> {
		self.ledger.iter()
	}

	/// The books: what the ledger adds up to.
	pub fn books(&self) -> &Books {
		&self.books
	}

	/// The number of the next ledger entry.
	pub fn next_entry(&self) -> u64 {
		self.next_entry
	}

	/// One sale.
	pub fn sale(&self, id: &str) -> Option<&Sale> {
		self.sales.get(id)
	}

	/// One order.
	pub fn order(&self, id: &str) -> Option<&Order> {
		self.orders.get(id)
	}

	/// One client.
	pub fn client(&self, id: &NodeId) -> Option<&Client> {
		self.clients.get(id)
	}

	/// The sale whose SCID an HTLC names.
	pub fn sale_by_scid(&self, scid: u64) -> Option<&Sale> {
		self.sale(self.index.scids.get(&scid)?)
	}

	/// The sale that an HTLC is held for or was decided to be forwarded for.
	pub fn sale_by_intercept(&self, intercept_id: &[u8; 32]) -> Option<&Sale> {
		self.sale(self.index.intercepts.get(intercept_id)?)
	}

	/// The client that an HTLC is held for until it wakes.
	pub fn client_by_intercept(&self, intercept_id: &[u8; 32]) -> Option<&Client> {
		self.client(self.index.held.get(intercept_id)?)
	}

	/// Every HTLC that LDK should hold: LDK raises it again after a restart, or it is gone.
	pub fn held_htlcs(&self) -> BTreeSet<[u8; 32]> {
		let of_sales = self.sales.values().flat_map(|sale| &sale.parts).map(|part| part.intercept_id);
		of_sales.chain(self.index.held.keys().copied()).collect()
	}

	/// Clients that can be woken, or that something is held for: whom [`Input::Survey`](crate::input::Input::Survey) is
	/// about.
	pub fn sleepers(&self) -> impl Iterator<Item = &Client> {
		self.index.sleepers.iter().filter_map(|id| self.client(id))
	}

	/// How many HTLCs are held for sleeping clients' channels; `of` names the clients that count.
	pub(crate) fn held_count(&self, of: impl Fn(&Client) -> bool) -> usize {
		self.index.held.values().filter(|id| self.client(id).is_some_and(&of)).count()
	}

	/// The sale that a channel (or an earlier attempt at it) was opened for.
	pub fn sale_by_user_channel_id(&self, id: u128) -> Option<&Sale> {
		match self.index.user_channel_ids.get(&id)? {
			Owned::Sale(id) => self.sale(id),
			Owned::Order(_) => None,
		}
	}

	/// The order that a channel (or an earlier attempt at it) was opened for.
	pub fn order_by_user_channel_id(&self, id: u128) -> Option<&Order> {
		match self.index.user_channel_ids.get(&id)? {
			Owned::Order(id) => self.order(id),
			Owned::Sale(_) => None,
		}
	}

	/// The sale whose channel this is.
	pub fn sale_by_channel(&self, channel_id: &[u8; 32]) -> Option<&Sale> {
		match self.index.channels.get(channel_id)? {
			Owned::Sale(id) => self.sale(id),
			Owned::Order(_) => None,
		}
	}

	/// The order whose channel this is.
	pub fn order_by_channel(&self, channel_id: &[u8; 32]) -> Option<&Order> {
		match self.index.channels.get(channel_id)? {
			Owned::Order(id) => self.order(id),
			Owned::Sale(_) => None,
		}
	}

	/// The order that this hold invoice pays.
	pub fn order_by_payment_hash(&self, hash: &PaymentHash) -> Option<&Order> {
		self.order(self.index.payments.get(hash)?)
	}

	/// The order that this address pays.
	pub fn order_by_address(&self, address: &str) -> Option<&Order> {
		self.order(self.index.addresses.get(address)?)
	}

	/// Addresses whose activity is to be reported: of every order in memory that has one. A payment may come late.
	pub fn watched_addresses(&self) -> Vec<String> {
		self.index.addresses.keys().cloned().collect()
	}

	/// Addresses of orders that wait for their payment, or hold more than they keep: looked at before all others.
	pub fn awaited_addresses(&self) -> BTreeSet<String> {
		let unpaid = self.live_orders().filter(|order| order.state.is_unpaid());
		let orders = unpaid.chain(self.surplus_orders());
		orders.filter_map(|order| order.onchain.as_ref()).map(|onchain| onchain.address.clone()).collect()
	}

	/// What we promised about this channel's life (bLIP-51's lease, bLIP-52's `min_lifetime`); `None` if we promised
	/// nothing, or the client has not paid, or it is closed. Of a channel that was made larger, the longest.
	pub fn lease(&self, channel_id: &[u8; 32]) -> Option<Lease> {
		let own = match self.index.channels.get(channel_id) {
			Some(Owned::Sale(id)) => self.sale(id).and_then(lease_of_sale),
			Some(Owned::Order(id)) => self.order(id).and_then(lease_of_order),
			None => None,
		};
		let grown = self.index.grown_channels.range((*channel_id, OrderId::new())..);
		let grown = grown.take_while(|(id, _)| id == channel_id).filter_map(|(_, id)| lease_of_order(self.order(id)?));
		own.into_iter().chain(grown).max_by_key(|lease| (lease.until_height, lease.until))
	}

	/// Orders that the channel with this mark was, or is being, made larger for.
	pub(crate) fn orders_grown_into(&self, user_channel_id: u128) -> impl Iterator<Item = &Order> {
		let grown = self.index.grown.range((user_channel_id, OrderId::new())..);
		grown.take_while(move |(id, _)| *id == user_channel_id).filter_map(|(_, id)| self.order(id))
	}

	/// The height of the channel's [lease](Book::lease).
	pub fn keep_until(&self, channel_id: &[u8; 32]) -> Option<u32> {
		self.lease(channel_id).map(|lease| lease.until_height)
	}

	/// Clients that something waits for: HTLCs held for a sale or for their channel, a payment that they hold for too
	/// long, or a paid order. Send [`Input::Connected`] for one when it connects, and again (with every block, and when
	/// one of its channels becomes usable) while it is connected and named here.
	///
	/// [`Input::Connected`]: crate::input::Input::Connected
	pub fn awaited_clients(&self) -> BTreeSet<NodeId> {
		let overdue = |sale: &Sale| sale.overdue_since.is_some() && sale.is_unclaimed();
		let again = |sale: &Sale| sale.forwarded.iter().any(|planned| planned.held_until.is_some());
		let sales = self.live_sales().filter(|sale| !sale.parts.is_empty() || again(sale) || overdue(sale));
		let orders = self
			.live_orders()
			.filter(|order| matches!(order.state, OrderState::Paid { .. } | OrderState::Opening { .. }));
		let held = self.index.held.values().copied();
		sales.map(|sale| sale.client).chain(orders.map(|order| order.client)).chain(held).collect()
	}

	/// Clients with a sale or an order that nothing was paid for yet.
	pub fn promised_clients(&self) -> BTreeSet<NodeId> {
		let sales = self.live_sales().filter(|sale| sale.state.is_unpaid()).map(|sale| sale.client);
		let orders = self.live_orders().filter(|order| order.state.is_unpaid()).map(|order| order.client);
		sales.chain(orders).collect()
	}

	pub(crate) fn live_sales(&self) -> impl Iterator<Item = &Sale> {
		self.index.live_sales.iter().filter_map(|id| self.sale(id))
	}

	pub(crate) fn live_orders(&self) -> impl Iterator<Item = &Order> {
		self.index.live_orders.iter().filter_map(|id| self.order(id))
	}

	/// Finished orders that may have to be refunded, see [`Order::surplus`].
	pub(crate) fn surplus_orders(&self) -> impl Iterator<Item = &Order> {
		self.index.surplus_orders.iter().filter_map(|id| self.order(id))
	}

	/// What the limits on what is sold look at.
	pub(crate) fn stakes(&self) -> &exposure::Sums {
		&self.index.stakes
	}

	/// Orders served on payments that are not confirmed.
	pub(crate) fn orders_at_risk(&self) -> impl Iterator<Item = &Order> {
		self.index.orders_at_risk.iter().filter_map(|id| self.order(id))
	}

	/// Orders that came to nothing, made at `since` or later.
	pub(crate) fn dead_orders_since(&self, since: Timestamp) -> impl Iterator<Item = &Order> {
		self.index.dead_orders.range((since, OrderId::new())..).filter_map(|(_, id)| self.order(id))
	}

	/// Paid orders that wait for others to share a funding transaction with.
	pub(crate) fn waiting_orders(&self) -> impl Iterator<Item = &Order> {
		self.index.waiting_orders.iter().filter_map(|id| self.order(id))
	}

	/// Their clients: of whom [`World::present`](crate::input::World::present) says who is here.
	pub fn waiting_clients(&self) -> impl Iterator<Item = NodeId> + '_ {
		self.waiting_orders().map(|order| order.client)
	}

	/// Orders whose channel is being opened: the node reports when the funding is out.
	pub fn orders_being_opened(&self) -> impl Iterator<Item = &Order> {
		self.live_orders().filter(|order| order.is_being_opened())
	}

	/// Orders with a refund that is out and not settled: the node reports what becomes of it.
	pub fn refunds_under_way(&self) -> impl Iterator<Item = (&Order, &Refund)> {
		self.live_orders()
			.filter_map(|order| Some((order, order.open_refund().filter(|refund| refund.txid.is_some())?)))
	}

	pub(crate) fn has_scid(&self, scid: u64) -> bool {
		self.index.scids.contains_key(&scid)
	}

	pub(crate) fn is_booked(&self, kind: EntryKind, reference: &str) -> bool {
		self.index.references.contains(&(kind, reference.to_string()))
	}
}

impl Index {
	fn add_client(&mut self, client: &Client) {
		if !client.wake.is_empty() {
			self.sleepers.insert(client.id);
		}
		for htlc in &client.wake.held {
			self.held.insert(htlc.intercept_id, client.id);
		}
		if let Some(at) = client.wake.next_deadline() {
			self.deadlines.insert((at, client.id.to_string()));
		}
	}

	fn remove_client(&mut self, client: &Client) {
		self.sleepers.remove(&client.id);
		for htlc in &client.wake.held {
			self.held.remove(&htlc.intercept_id);
		}
		if let Some(at) = client.wake.next_deadline() {
			self.deadlines.remove(&(at, client.id.to_string()));
		}
	}

	fn add_sale(&mut self, sale: &Sale) {
		self.scids.insert(sale.scid, sale.id.clone());
		for id in sale_intercepts(sale) {
			self.intercepts.insert(*id, sale.id.clone());
		}
		for id in sale_marks(sale) {
			self.user_channel_ids.insert(*id, Owned::Sale(sale.id.clone()));
		}
		for id in sale_channels(sale) {
			self.channels.insert(id, Owned::Sale(sale.id.clone()));
		}
		if withheld(sale).next().is_some() {
			self.withheld_sales.insert(sale.id.clone());
		}
		if let Some(at) = sale.next_deadline() {
			self.deadlines.insert((at, sale.id.clone()));
		}
		if sale_is_live(sale) {
			self.live_sales.insert(sale.id.clone());
		} else if sale.open_channel().is_none() {
			self.dead_sales.insert((sale.created_at, sale.id.clone()));
		}
		self.reserved = self.reserved.saturating_add(sale.reserved.0);
		self.stakes.add(&Stake::of_sale(sale));
	}

	fn remove_sale(&mut self, sale: &Sale) {
		self.scids.remove(&sale.scid);
		for id in sale_intercepts(sale) {
			self.intercepts.remove(id);
		}
		for id in sale_marks(sale) {
			self.user_channel_ids.remove(id);
		}
		for id in sale_channels(sale) {
			self.channels.remove(&id);
		}
		self.withheld_sales.remove(&sale.id);
		if let Some(at) = sale.next_deadline() {
			self.deadlines.remove(&(at, sale.id.clone()));
		}
		self.live_sales.remove(&sale.id);
		self.dead_sales.remove(&(sale.created_at, sale.id.clone()));
		self.reserved = self.reserved.saturating_sub(sale.reserved.0);
		self.stakes.remove(&Stake::of_sale(sale));
	}

	fn add_order(&mut self, order: &Order) {
		for id in order.earlier_channel_ids.iter().chain([&order.user_channel_id]) {
			self.user_channel_ids.insert(*id, Owned::Order(order.id.clone()));
		}
		match &order.splice {
			Some(splice) => {
				self.grown.insert((splice.user_channel_id, order.id.clone()));
				self.grown_channels.insert((splice.channel_id, order.id.clone()));
			}
			None => {
				if let Some(id) = order.channel.as_ref().and_then(|channel| channel.channel_id) {
					self.channels.insert(id, Owned::Order(order.id.clone()));
				}
			}
		}
		if let Some(lightning) = &order.lightning {
			self.payments.insert(lightning.payment_hash, order.id.clone());
		}
		if let Some(onchain) = &order.onchain {
			self.addresses.insert(onchain.address.clone(), order.id.clone());
		}
		if let Some(at) = order.next_deadline() {
			self.deadlines.insert((at, order.id.clone()));
		}
		if order.waits_until().is_some() {
			self.waiting_orders.insert(order.id.clone());
		}
		if order.is_at_risk() {
			self.orders_at_risk.insert(order.id.clone());
		}
		if !order.state.is_finished() || order.open_refund().is_some() {
			self.live_orders.insert(order.id.clone());
		} else if order.surplus(0).is_some() {
			self.surplus_orders.insert(order.id.clone());
		} else if !order.channel.as_ref().is_some_and(SoldChannel::is_open) {
			self.dead_orders.insert((order.created_at, order.id.clone()));
		}
		self.reserved = self.reserved.saturating_add(order_reserved(order));
		self.stakes.add(&Stake::of_order(order));
	}

	fn remove_order(&mut self, order: &Order) {
		for id in order.earlier_channel_ids.iter().chain([&order.user_channel_id]) {
			self.user_channel_ids.remove(id);
		}
		match &order.splice {
			Some(splice) => {
				self.grown.remove(&(splice.user_channel_id, order.id.clone()));
				self.grown_channels.remove(&(splice.channel_id, order.id.clone()));
			}
			None => {
				if let Some(id) = order.channel.as_ref().and_then(|channel| channel.channel_id) {
					self.channels.remove(&id);
				}
			}
		}
		if let Some(lightning) = &order.lightning {
			self.payments.remove(&lightning.payment_hash);
		}
		if let Some(onchain) = &order.onchain {
			self.addresses.remove(&onchain.address);
		}
		if let Some(at) = order.next_deadline() {
			self.deadlines.remove(&(at, order.id.clone()));
		}
		self.live_orders.remove(&order.id);
		self.dead_orders.remove(&(order.created_at, order.id.clone()));
		self.surplus_orders.remove(&order.id);
		self.waiting_orders.remove(&order.id);
		self.orders_at_risk.remove(&order.id);
		self.reserved = self.reserved.saturating_sub(order_reserved(order));
		self.stakes.remove(&Stake::of_order(order));
	}
}

fn lease_of_sale(sale: &Sale) -> Option<Lease> {
	let paid = matches!(sale.state, SaleState::Forwarded | SaleState::Done);
	let channel = sale.channel.as_ref().filter(|channel| paid && channel.closed_at.is_none())?;
	let (sold_as, until_height) = (sale.id.clone(), channel.keep_until_height);
	Some(Lease { client: sale.client, sold_as, until_height, until: None })
}

fn lease_of_order(order: &Order) -> Option<Lease> {
	let paid = matches!(order.state, OrderState::Funded { .. } | OrderState::Completed);
	let channel = order.channel.as_ref().filter(|channel| paid && channel.closed_at.is_none())?;
	let (sold_as, until_height) = (order.id.clone(), channel.keep_until_height);
	Some(Lease { client: order.client, sold_as, until_height, until: order.lease_ends_at() })
}

fn sale_intercepts(sale: &Sale) -> impl Iterator<Item = &[u8; 32]> {
	let held = sale.parts.iter().map(|part| &part.intercept_id);
	held.chain(sale.forwarded.iter().map(|planned| &planned.intercept_id))
}

fn sale_marks(sale: &Sale) -> impl Iterator<Item = &u128> {
	let earlier = sale.earlier_channel_ids.iter().chain(sale.discarding.iter().map(|one| &one.user_channel_id));
	earlier.chain([&sale.user_channel_id])
}

fn sale_channels(sale: &Sale) -> impl Iterator<Item = [u8; 32]> + '_ {
	let own = sale.channel.as_ref().and_then(|channel| channel.channel_id);
	own.into_iter().chain(sale.discarding.iter().map(|one| one.channel_id))
}

fn withheld(sale: &Sale) -> impl Iterator<Item = OutPoint> + '_ {
	let own = sale.channel.as_ref().and_then(|channel| channel.is_withheld().or(channel.is_due()));
	own.into_iter().chain(sale.discarding.iter().filter(|one| !one.out).map(|one| one.funding))
}

fn sale_is_live(sale: &Sale) -> bool {
	!sale.state.is_finished()
		|| withheld(sale).next().is_some()
		|| !sale.parts.is_empty()
		|| sale.forwarded.iter().any(|one| one.held_until.is_some())
}

/// What an order keeps of our on-chain money: its channel until that is funded, what its buyer sent until that is
/// earned or has gone back.
pub(crate) fn order_reserved(order: &Order) -> u64 {
	order.reserved.0.saturating_add(order.owed_onchain().0)
}
