//! One step at work: the book as it was, what has changed in this step, and what is to be done.

use crate::book::{
	Book, BooksRow, ChannelSums, Client, Entry, EntryKind, MonthSums, NodeId, Order, OrderId, Sale, SaleId, Write,
};
use crate::input::{Action, ChannelView, Step, World};
use crate::money::{Msat, Sat};
use crate::policy::Policy;
use crate::step::Lsp;
use crate::time::Timestamp;
use crate::tokens::{Token, TokenId};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use std::collections::BTreeMap;

/// The state of one step. Rows are taken out, changed and put back; what is unchanged at the end is not written.
pub(crate) struct Turn<'a> {
	pub(crate) lsp: &'a Lsp,
	pub(crate) book: &'a Book,
	pub(crate) world: &'a World,
	pub(crate) now: Timestamp,
	/// The channel that the node says is usable now, although the view of the peer may be older.
	pub(crate) ready: Option<[u8; 32]>,
	/// What this step sends over channels that the client had already: the view of the peer is older.
	pub(crate) sent: BTreeMap<[u8; 32], Msat>,
	/// Who cannot parse an object in `error.data`, whatever its row says.
	pub(crate) text_errors: Option<NodeId>,
	clients: BTreeMap<NodeId, Client>,
	sales: BTreeMap<SaleId, Sale>,
	orders: BTreeMap<OrderId, Order>,
	tokens: BTreeMap<TokenId, Token>,
	entries: Vec<Entry>,
	books: BTreeMap<String, BooksRow>,
	forget: Option<u64>,
	actions: Vec<Action>,
}

impl<'a> Turn<'a> {
	pub(crate) fn new(lsp: &'a Lsp, book: &'a Book, world: &'a World, now: Timestamp) -> Turn<'a> {
		Turn {
			lsp,
			book,
			world,
			now,
			ready: None,
			sent: BTreeMap::new(),
			text_errors: None,
			clients: BTreeMap::new(),
			sales: BTreeMap::new(),
			orders: BTreeMap::new(),
			tokens: BTreeMap::new(),
			entries: Vec::new(),
			books: BTreeMap::new(),
			forget: None,
			actions: Vec::new(),
		}
	}

	pub(crate) fn policy(&self) -> &'a Policy {
		&self.lsp.policy
	}

	/// The sale as this step has left it so far.
	pub(crate) fn sale(&self, id: &str) -> Option<Sale> {
		self.sales.get(id).or_else(|| self.book.sale(id)).cloned()
	}

	pub(crate) fn put_sale(&mut self, sale: Sale) {
		self.sales.insert(sale.id.clone(), sale);
	}

	pub(crate) fn order(&self, id: &str) -> Option<Order> {
		self.orders.get(id).or_else(|| self.book.order(id)).cloned()
	}

	pub(crate) fn put_order(&mut self, order: Order) {
		self.orders.insert(order.id.clone(), order);
	}

	/// The client, new if it was unknown.
	pub(crate) fn client(&self, id: &NodeId) -> Client {
		let known = self.clients.get(id).or_else(|| self.book.client(id)).cloned();
		let mut client = known.unwrap_or_else(|| Client::new(*id, self.now));
		client.string_error_data |= self.text_errors == Some(*id);
		client
	}

	/// The client as this step has left it so far, if we know it.
	pub(crate) fn known_client(&self, id: &NodeId) -> Option<Client> {
		self.clients.get(id).or_else(|| self.book.client(id)).cloned()
	}

	/// The clients whose rows this step has changed.
	pub(crate) fn changed_clients(&self) -> Vec<Client> {
		self.clients.values().filter(|row| self.book.client(&row.id) != Some(row)).cloned().collect()
	}

	pub(crate) fn put_token(&mut self, token: Token) {
		self.tokens.insert(token.id.clone(), token);
	}

	/// How many entries this step has booked so far.
	pub(crate) fn booked(&self) -> usize {
		self.entries.len()
	}

	pub(crate) fn put_client(&mut self, client: Client) {
		self.clients.insert(client.id, client);
	}

	/// What the client is told in `error.data`: strings instead of objects?
	pub(crate) fn string_error_data(&self, id: &NodeId) -> bool {
		self.client(id).string_error_data
	}

	pub(crate) fn act(&mut self, action: Action) {
		self.actions.push(action);
	}

	/// Unless this step does it already.
	pub(crate) fn act_once(&mut self, action: Action) {
		if !self.actions.contains(&action) {
			self.act(action);
		}
	}

	pub(crate) fn send(&mut self, peer: NodeId, bytes: Vec<u8>) {
		self.act(Action::Send { peer, bytes });
	}

	pub(crate) fn fail_htlc(&mut self, intercept_id: [u8; 32], reason: &str) {
		self.act(Action::FailHtlc { intercept_id, reason: reason.to_string() });
	}

	/// On-chain money that is not spoken for, `own` of the reserved being the asker's.
	pub(crate) fn free_funds(&self, own: Sat) -> Sat {
		let mut reserved = self.book.reserved().saturating_sub(own);
		for (id, sale) in &self.sales {
			let before = self.book.sale(id).map_or(Sat::ZERO, |sale| sale.reserved);
			reserved = reserved.saturating_add(sale.reserved).saturating_sub(before);
		}
		for (id, order) in &self.orders {
			let before = self.book.order(id).map_or(0, crate::book::order_reserved);
			let after = crate::book::order_reserved(order);
			reserved = Sat(reserved.0.saturating_add(after).saturating_sub(before));
		}
		self.world.spendable.saturating_sub(reserved)
	}

	/// The channel as the node sees it, if it can carry something now.
	pub(crate) fn usable(&self, channel_id: &[u8; 32]) -> Option<ChannelView> {
		match self.world.peer.channels.iter().find(|view| view.channel_id == *channel_id) {
			Some(view) => Some(view.clone()).filter(|view| view.usable),
			None if self.ready == Some(*channel_id) => Some(ChannelView {
				channel_id: *channel_id,
				user_channel_id: 0,
				usable: true,
				next_outbound_htlc_limit: Msat(u64::MAX),
				next_outbound_htlc_minimum: crate::jit::HTLC_MINIMUM,
			}),
			None => None,
		}
	}

	pub(crate) fn is_booked(&self, kind: EntryKind, reference: &str) -> bool {
		self.book.is_booked(kind, reference)
			|| self.entries.iter().any(|entry| entry.kind == kind && entry.reference == reference)
	}

	/// The number of the next entry.
	pub(crate) fn next_seq(&self) -> u64 {
		let offset = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
		self.book.next_entry.saturating_add(offset)
	}

	pub(crate) fn push_entry(&mut self, entry: Entry) {
		self.entries.push(entry);
	}

	/// The sums of a channel (or a client), new if there are none.
	pub(crate) fn channel_sums(&self, key: &str) -> ChannelSums {
		match self.books.get(key) {
			Some(BooksRow::Channel(sums)) => sums.clone(),
			_ => {
				self.book.books.channels.get(key).cloned().unwrap_or_else(|| ChannelSums::new(key.to_owned(), self.now))
			}
		}
	}

	/// The sums of a month.
	pub(crate) fn month(&self, name: &str) -> Option<MonthSums> {
		match self.books.get(&format!("month:{name}")) {
			Some(BooksRow::Month(month)) => Some(month.clone()),
			_ => self.book.books.months.get(name).cloned(),
		}
	}

	pub(crate) fn put_books(&mut self, row: BooksRow) {
		self.books.insert(row.key(), row);
	}

	/// Deletes the entries with a smaller number.
	pub(crate) fn forget(&mut self, before: u64) {
		self.forget = Some(before);
	}

	/// 16 random bytes of their own for each `purpose`.
	pub(crate) fn random(&self, purpose: &str) -> [u8; 16] {
		let mut engine = sha256::Hash::engine();
		engine.input(&self.world.entropy);
		engine.input(purpose.as_bytes());
		let hash = sha256::Hash::from_engine(engine).to_byte_array();
		let mut half = [0; 16];
		half.copy_from_slice(&hash[..16]);
		half
	}

	/// The rows that changed, and the actions.
	pub(crate) fn finish(self) -> Step {
		let book = self.book;
		let clients = self.clients.into_values().filter(|row| book.client(&row.id) != Some(row)).map(Write::Client);
		let sales = self.sales.into_values().filter(|row| book.sale(&row.id) != Some(row)).map(Write::Sale);
		let orders = self.orders.into_values().filter(|row| book.order(&row.id) != Some(row)).map(Write::Order);
		let entries = self.entries.into_iter().map(Write::Ledger);
		let books = self.books.into_values().filter(|row| !book.books.has(row)).map(Write::Books);
		let tokens = self.tokens.into_values().filter(|row| book.token(&row.id) != Some(row)).map(Write::Token);
		let forget = self.forget.map(Write::Forget);
		let rows = clients.chain(sales).chain(orders).chain(entries).chain(tokens).chain(books);
		let writes = rows.chain(forget).collect();
		Step { writes, actions: self.actions }
	}
}
