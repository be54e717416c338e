//! A world around the core: a clock, a wallet, peers, a store that keeps rows as JSON.

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::{Network, OutPoint, Txid};
use inlet_lsp::book::{Book, NodeId, Order, Received, Sale, Write};
use inlet_lsp::input::{Action, ChannelView, Input, OpenChannel, PeerView, Step, World};
use inlet_lsp::market::Market;
use inlet_lsp::money::{FeePerKw, Msat, Ppm, Sat};
use inlet_lsp::notice::Notice;
use inlet_lsp::policy::{Policy, Trust};
use inlet_lsp::step::Lsp;
use inlet_lsp::time::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub const START: u64 = 1_700_000_000_000;
pub const REFUND_ADDRESS: &str = "bcrt1q6rhpng9evdsfnn833a4f4vej0asu6dk5srld6x";

pub struct Sim {
	pub lsp: Lsp,
	pub book: Book,
	/// What the store holds.
	rows: Vec<String>,
	pub now: Timestamp,
	pub height: u32,
	pub feerate: Option<FeePerKw>,
	pub market: Market,
	pub spendable: Sat,
	pub unconfirmed: Sat,
	pub synced: bool,
	pub disk_low: bool,
	pub peers: BTreeMap<NodeId, PeerView>,
	counter: u64,
}

pub fn trusting(trust: Trust) -> Policy {
	let mut policy = plain();
	policy.lsps2.trust = trust;
	policy
}

/// Prices that a test can tell by heart: opening and half of a close at the live feerate, and a share of the payment.
pub fn plain() -> Policy {
	let mut policy = Policy::default();
	policy.price.floor_sat = Sat(1_000);
	policy.price.close_share_ppm = Ppm(500_000);
	policy.price.forced_close_ppm = Ppm(0);
	policy.price.capital_ppm_per_year = Ppm(0);
	policy.lsps2.growth_ppm = Ppm(0);
	for tier in policy.tier.0.values_mut() {
		(tier.risk_ppm, tier.headroom_ppm) = (Ppm(0), Ppm(0));
	}
	policy
}

pub fn node(number: u8) -> NodeId {
	let secret = SecretKey::from_slice(&[number; 32]).unwrap();
	PublicKey::from_secret_key(&Secp256k1::new(), &secret)
}

pub fn hash(number: u8) -> [u8; 32] {
	[number; 32]
}

pub fn txid(number: u64) -> Txid {
	Txid::hash(&number.to_be_bytes())
}

impl Sim {
	/// Everyone is trusted: most tests are about what follows then.
	pub fn new() -> Sim {
		Sim::with(trusting(Trust::Everyone))
	}

	pub fn with(policy: Policy) -> Sim {
		Sim {
			lsp: Lsp::new(policy, [7; 32]).unwrap(),
			book: Book::default(),
			rows: Vec::new(),
			now: Timestamp(START),
			height: 800_000,
			feerate: Some(FeePerKw(1000)),
			market: Market::default(),
			spendable: Sat(10_000_000),
			unconfirmed: Sat::ZERO,
			synced: true,
			disk_low: false,
			peers: BTreeMap::new(),
			counter: 0,
		}
	}

	pub fn fresh(&mut self) -> u64 {
		self.counter += 1;
		self.counter
	}

	fn world(&mut self, input: &Input) -> World {
		let counter = self.fresh();
		let client = input.client(&self.book);
		World {
			network: Network::Regtest,
			height: self.height,
			synced: self.synced,
			disk_low: self.disk_low,
			feerate: self.feerate,
			market: self.market.clone(),
			spendable: self.spendable,
			unconfirmed: self.unconfirmed,
			peer: client.and_then(|client| self.peers.get(&client).cloned()).unwrap_or_default(),
			present: self
				.book
				.waiting_clients()
				.filter(|client| self.peers.get(client).is_some_and(|peer| peer.connected))
				.collect(),
			entropy: bitcoin::hashes::sha256::Hash::hash(&counter.to_be_bytes()).to_byte_array(),
			fresh_scid: (1 << 40) | counter,
		}
	}

	/// One step; its writes are committed, its actions given back.
	pub fn give(&mut self, input: Input) -> Vec<Action> {
		let step = self.look(input);
		self.commit(&step);
		let mut actions = step.actions;
		actions.retain(|action| match action {
			Action::TextErrors { peer } => {
				self.peers.entry(*peer).or_default().text_errors = true;
				false
			}
			_ => true,
		});
		actions
	}

	/// One step that is not committed: a crash comes between.
	pub fn look(&mut self, input: Input) -> Step {
		let world = self.world(&input);
		self.lsp.step(&self.book, &world, self.now, input)
	}

	pub fn commit(&mut self, step: &Step) {
		for write in &step.writes {
			let row = serde_json::to_string(write).unwrap();
			// What the API shows must not fail on a row either.
			serde_json::to_value(write).unwrap();
			let read: Write = serde_json::from_str(&row).unwrap();
			assert_eq!(&read, write, "a row must survive the store");
			self.rows.push(row);
			self.book.apply(read);
		}
	}

	/// kill -9: only the rows are left, nobody is connected.
	pub fn restart(&mut self) {
		self.book = Book::restore(self.rows.iter().map(|row| serde_json::from_str(row).unwrap()));
		for peer in self.peers.values_mut() {
			(peer.connected, peer.text_errors) = (false, false);
			peer.channels.iter_mut().for_each(|channel| channel.usable = false);
		}
	}

	pub fn pass(&mut self, secs: u64) {
		self.now = self.now.plus_secs(secs);
	}

	pub fn tick(&mut self) -> Vec<Action> {
		self.give(Input::Tick)
	}

	pub fn connect(&mut self, peer: NodeId) -> Vec<Action> {
		let view = self.peers.entry(peer).or_default();
		view.connected = true;
		view.channels.iter_mut().for_each(|channel| channel.usable = true);
		self.give(Input::Connected { peer })
	}

	pub fn disconnect(&mut self, peer: NodeId) {
		let view = self.peers.entry(peer).or_default();
		view.connected = false;
		view.channels.iter_mut().for_each(|channel| channel.usable = false);
	}

	/// Sends bytes, gives the one answer.
	pub fn raw(&mut self, peer: NodeId, bytes: &[u8]) -> Option<Value> {
		let actions = self.give(Input::Message { peer, bytes: bytes.to_vec() });
		only_answer(peer, &actions)
	}

	/// Sends a request, gives the answer.
	pub fn ask(&mut self, peer: NodeId, method: &str, params: Value) -> Value {
		let request = json!({"jsonrpc": "2.0", "id": "q", "method": method, "params": params});
		let answer = self.raw(peer, request.to_string().as_bytes()).expect("an answer");
		assert_eq!(answer["id"], "q");
		answer
	}

	pub fn menu(&mut self, peer: NodeId) -> Value {
		let answer = self.ask(peer, "lsps2.get_info", json!({}));
		answer["result"]["opening_fee_params_menu"].clone()
	}

	/// Buys; gives the sale.
	pub fn buy(&mut self, peer: NodeId, size: Option<u64>) -> Sale {
		let terms = self.menu(peer)[0].clone();
		let mut params = json!({"opening_fee_params": terms});
		if let Some(size) = size {
			params["payment_size_msat"] = size.to_string().into();
		}
		let answer = self.ask(peer, "lsps2.buy", params);
		assert!(answer.get("error").is_none(), "{answer}");
		let scid = answer["result"]["jit_channel_scid"].as_str().unwrap().to_string();
		self.book.sales().find(|sale| inlet_lsp::protocol::lsps2::scid_text(sale.scid) == scid).unwrap().clone()
	}

	pub fn sale(&self, sale: &Sale) -> Sale {
		self.book.sale(&sale.id).unwrap().clone()
	}

	/// An HTLC to the sale's SCID.
	pub fn htlc(&mut self, sale: &Sale, id: u8, payment: u8, amount: u64) -> Vec<Action> {
		let input = self.htlc_input(sale, id, payment, amount);
		self.give(input)
	}

	pub fn htlc_input(&self, sale: &Sale, id: u8, payment: u8, amount: u64) -> Input {
		Input::HtlcIntercepted {
			intercept_id: [id; 32],
			scid: sale.scid,
			payment_hash: hash(payment),
			inbound: Msat(amount),
			expected_outbound: Msat(amount),
			expiry_height: Some(self.height + 100),
			channel: None,
		}
	}

	pub fn funded_input(&mut self, user_channel_id: u128) -> Input {
		let number = self.fresh();
		Input::Funded {
			user_channel_id,
			channel_id: channel_id(user_channel_id),
			funding: OutPoint::new(txid(number), 0),
			fee: Some(Sat(850)),
			shared: false,
		}
	}

	pub fn funded(&mut self, user_channel_id: u128) -> Vec<Action> {
		let input = self.funded_input(user_channel_id);
		self.give(input)
	}

	/// The client has signed, and the funding transaction is not broadcast.
	pub fn withheld_input(&mut self, user_channel_id: u128) -> Input {
		let number = self.fresh();
		let funding = OutPoint::new(txid(number), 0);
		Input::FundingWithheld { user_channel_id, channel_id: channel_id(user_channel_id), funding }
	}

	pub fn withheld(&mut self, user_channel_id: u128) -> Vec<Action> {
		let input = self.withheld_input(user_channel_id);
		self.give(input)
	}

	/// The channel becomes usable.
	pub fn ready(&mut self, peer: NodeId, user_channel_id: u128) -> Vec<Action> {
		let id = channel_id(user_channel_id);
		let view = ChannelView {
			channel_id: id,
			user_channel_id,
			usable: true,
			next_outbound_htlc_limit: Msat(u64::MAX),
			next_outbound_htlc_minimum: Msat(1),
		};
		let channels = &mut self.peers.entry(peer).or_default().channels;
		channels.retain(|channel| channel.channel_id != id);
		channels.push(view);
		self.give(Input::ChannelReady { user_channel_id, channel_id: id })
	}

	/// The client takes the payment: a part of it is settled.
	pub fn settle(&mut self, sale: &Sale, skimmed: u64, reference: &str) -> Vec<Action> {
		let channel = self.sale(sale).channel.unwrap().channel_id;
		self.give(Input::Forwarded {
			next_peer: Some(sale.client),
			next_channel: channel,
			total_fee: Msat(skimmed),
			skimmed: Msat(skimmed),
			intercept_id: None,
			reference: reference.to_string(),
			came: Vec::new(),
			went: Vec::new(),
		})
	}

	pub fn order_params(&self) -> Value {
		json!({
			"lsp_balance_sat": "500000",
			"client_balance_sat": "20000",
			"required_channel_confirmations": 0,
			"funding_confirms_within_blocks": 6,
			"channel_expiry_blocks": 1000,
			"announce_channel": false,
			"refund_onchain_address": REFUND_ADDRESS,
		})
	}

	/// Orders; gives the order and the answer.
	pub fn order(&mut self, peer: NodeId, params: Value) -> (Order, Value) {
		let request = json!({"jsonrpc": "2.0", "id": "o", "method": "lsps1.create_order", "params": params});
		let mut actions = self.give(Input::Message { peer, bytes: request.to_string().into_bytes() });
		if let [Action::TryOpening { order, .. }] = &actions[..] {
			actions = self.give(Input::OpeningTried { order: order.clone(), refusal: None });
		}
		let [Action::PreparePayment { order, address, invoice, .. }] = &actions[..] else { panic!("{actions:?}") };
		assert!(*invoice);
		let number = self.fresh();
		let mut payment_hash = [0; 32];
		payment_hash[..8].copy_from_slice(&number.to_be_bytes());
		let actions = self.give(Input::PaymentPrepared {
			order: order.clone(),
			invoice: Some((format!("lnbcrt{number}"), payment_hash)),
			address: address.then(|| format!("bcrt1address{number}")),
		});
		let answer = only_answer(peer, &actions).expect("an answer");
		assert_eq!(answer["id"], "o");
		(self.book.order(order).unwrap().clone(), answer["result"].clone())
	}

	pub fn get_order(&mut self, order: &Order) -> Value {
		let answer = self.ask(order.client, "lsps1.get_order", json!({"order_id": order.id}));
		answer["result"].clone()
	}

	pub fn now_order(&self, order: &Order) -> Order {
		self.book.order(&order.id).unwrap().clone()
	}

	pub fn hold(&mut self, order: &Order, amount: Sat) -> Vec<Action> {
		self.give(Input::PaymentHeld {
			payment_hash: order.lightning.as_ref().unwrap().payment_hash,
			amount: amount.to_msat().unwrap(),
			claim_deadline: Some(self.height + 100),
		})
	}

	pub fn claimed(&mut self, order: &Order, amount: Sat) -> Vec<Action> {
		self.give(Input::PaymentClaimed {
			payment_hash: order.lightning.as_ref().unwrap().payment_hash,
			amount: amount.to_msat().unwrap(),
			over: Vec::new(),
		})
	}

	pub fn onchain(&mut self, order: &Order, received: Vec<Received>) -> Vec<Action> {
		let address = order.onchain.as_ref().unwrap().address.clone();
		self.give(Input::AddressActivity { address, received })
	}

	/// The refund of this number is out as this transaction.
	pub fn refund_sent(&mut self, order: &Order, number: u32, tx: u64, amount: u64) -> Vec<Action> {
		let input = refund_sent(order, number, tx, amount);
		self.give(input)
	}

	pub fn refund_seen(&mut self, order: &Order, tx: u64, confirmations: u32) -> Vec<Action> {
		self.give(Input::RefundSeen { order: order.id.clone(), txid: txid(tx), confirmations })
	}

	/// Earned and spent, in msat, by kind.
	pub fn earned(&self, kind: inlet_lsp::book::EntryKind) -> i64 {
		self.book.ledger().filter(|entry| entry.kind == kind).map(|entry| entry.amount_msat).sum()
	}
}

pub fn refund_sent(order: &Order, number: u32, tx: u64, amount: u64) -> Input {
	let (amount, fee, borne) = (Sat(amount), Sat(300), Sat::ZERO);
	Input::RefundSent { order: order.id.clone(), number, txid: txid(tx), amount, fee, borne }
}

/// The payments to an order that [`output`] made, as a refund names them.
pub fn outpoints(numbers: &[u64]) -> Vec<OutPoint> {
	numbers.iter().map(|number| OutPoint::new(txid(*number), 1)).collect()
}

pub fn output(number: u64, value: u64, confirmations: u32, feerate: u32) -> Received {
	Received {
		outpoint: OutPoint::new(txid(number), 1),
		value: Sat(value),
		confirmations,
		feerate: Some(FeePerKw(feerate)),
	}
}

pub fn channel_id(user_channel_id: u128) -> [u8; 32] {
	bitcoin::hashes::sha256::Hash::hash(&user_channel_id.to_be_bytes()).to_byte_array()
}

pub fn only_answer(to: NodeId, actions: &[Action]) -> Option<Value> {
	let mut answers = actions.iter().filter_map(|action| match action {
		Action::Send { peer, bytes } => {
			assert_eq!(*peer, to);
			assert!(bytes.len() <= 65_533);
			Some(serde_json::from_slice(bytes).unwrap())
		}
		_ => None,
	});
	let answer = answers.next();
	assert!(answers.next().is_none(), "one answer at most");
	answer
}

pub fn opened(actions: &[Action]) -> Option<OpenChannel> {
	actions.iter().find_map(|action| match action {
		Action::OpenChannel(open) => Some(open.clone()),
		_ => None,
	})
}

/// Amounts forwarded, by intercept id's first byte.
pub fn forwards(actions: &[Action]) -> Vec<(u8, u64)> {
	let one = |action: &Action| match action {
		Action::ForwardHtlc { intercept_id, amount, .. } => Some((intercept_id[0], amount.0)),
		_ => None,
	};
	actions.iter().filter_map(one).collect()
}

/// HTLCs failed, by intercept id's first byte.
pub fn failed(actions: &[Action]) -> Vec<u8> {
	let one = |action: &Action| match action {
		Action::FailHtlc { intercept_id, .. } => Some(intercept_id[0]),
		_ => None,
	};
	actions.iter().filter_map(one).collect()
}

/// Notifications: to which webhook, where that is, and which.
pub fn notices(actions: &[Action]) -> Vec<(String, String, Notice)> {
	let one = |action: &Action| match action {
		Action::Notify { app_name, url, notice, .. } => Some((app_name.clone(), url.clone(), notice.clone())),
		_ => None,
	};
	actions.iter().filter_map(one).collect()
}
