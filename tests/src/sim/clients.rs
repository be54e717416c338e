//! Clients: they come and go, ask, buy, order and sometimes talk nonsense. All that they say goes over the wire as bytes.

use super::agenda::Deed;
use super::parts::*;
use super::world::Sim;
use super::{Go, demand};
use inlet_lsp::book::NodeId;
use inlet_lsp::input::Input;
use inlet_lsp::protocol::lsps0::{MAX_PAYLOAD, PARSE_ERROR};
use serde_json::{Value, json};

const REFUND_ADDRESS: &str = "bcrt1q6rhpng9evdsfnn833a4f4vej0asu6dk5srld6x";
const NONSENSE: [&str; 8] = [
	"",
	"{",
	"[1,2]",
	"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"lsps2.buy\"}",
	"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"Parse error\"}}",
	"{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"lsps9.none\",\"params\":{}}",
	"{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"lsps2.buy\",\"params\":{\"opening_fee_params\":{}}}",
	"{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"lsps1.get_order\",\"params\":{\"order_id\":\"none\",\"more\":1}}",
];

impl Sim {
	/// A client does something, and will again.
	pub(crate) fn client(&mut self, who: usize) -> Go {
		let pace = self.temper.client_pace;
		let at = self.now.0 + self.rng.around(pace).max(1);
		self.agenda.plan(at, None, Deed::Client(who));
		if !self.people[who].online {
			if self.rng.percent(self.temper.webhooks) {
				self.want(who)?;
			}
			return if self.rng.percent(60) { self.connect(who) } else { Ok(()) };
		}
		if self.rng.percent(self.temper.flaky) {
			self.disconnect(who);
			return Ok(());
		}
		if self.rng.percent(self.temper.garbage) {
			let bytes = self.rng.pick(&NONSENSE).as_bytes().to_vec();
			return self.take(Input::Message { peer: self.people[who].id, bytes });
		}
		if self.rng.percent(self.temper.webhooks) {
			return self.register(who);
		}
		if self.rng.percent(self.temper.orders) {
			return self.order_something(who);
		}
		match self.people[who].menu.clone() {
			Some(menu) if self.rng.percent(80) => self.buy(who, menu),
			_ => self.ask(who, "lsps2.get_info", self.no_token(who), Asked::Menu),
		}
	}

	fn no_token(&self, who: usize) -> Value {
		if self.people[who].like_ldk { json!({"token": null}) } else { json!({}) }
	}

	pub(crate) fn connect(&mut self, who: usize) -> Go {
		self.people[who].online = true;
		if self.rng.percent(50) {
			let peer = self.people[who].id;
			return self.take(Input::Connected { peer });
		}
		self.plan_attend();
		Ok(())
	}

	pub(crate) fn disconnect(&mut self, who: usize) {
		self.people[who].online = false;
		self.drop_unfunded(who);
	}

	pub(crate) fn ask(&mut self, who: usize, method: &str, params: Value, what: Asked) -> Go {
		let id = format!("r{}", self.fresh());
		let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
		self.people[who].asked.insert(id, what);
		let (peer, bytes) = (self.people[who].id, request.to_string().into_bytes());
		self.take(Input::Message { peer, bytes })
	}

	fn buy(&mut self, who: usize, terms: Value) -> Go {
		let number = |name: &str| terms[name].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
		let (min, max) = (number("min_payment_size_msat"), number("max_payment_size_msat"));
		let usual = self.rng.range(min, max.min(min * 30).max(min));
		let size = match self.rng.range(0, 19) {
			0 => Some(max),
			1 => Some(max.saturating_add(1)),
			2 => Some(1),
			3..=7 => None,
			_ => Some(usual),
		};
		let mut params = json!({"opening_fee_params": terms});
		if let Some(size) = size {
			params["payment_size_msat"] = size.to_string().into();
		}
		if self.rng.percent(70) {
			self.people[who].menu = None;
		}
		self.ask(who, "lsps2.buy", params, Asked::Buy { size, terms })
	}

	fn order_something(&mut self, who: usize) -> Go {
		if !self.people[who].orders.is_empty() && self.rng.percent(40) {
			let at = self.rng.index(self.people[who].orders.len());
			let order_id = self.people[who].orders[at].clone();
			return self.ask(who, "lsps1.get_order", json!({"order_id": order_id}), Asked::Other);
		}
		if self.rng.percent(10) {
			let method = self.rng.pick(&["lsps0.list_protocols", "lsps1.get_info"]);
			return self.ask(who, method, json!({}), Asked::Other);
		}
		let client_balance = self.rng.pick(&[0, 0, 10_000, 200_000]);
		let mut params = json!({
			"lsp_balance_sat": self.rng.range(10_000, 900_000).to_string(),
			"client_balance_sat": client_balance.to_string(),
			"required_channel_confirmations": self.rng.pick(&[0, 0, 1, 3]),
			"funding_confirms_within_blocks": self.rng.pick(&[6, 6, 144]),
			"channel_expiry_blocks": self.rng.range(1, 60_000),
			"announce_channel": self.rng.percent(20),
		});
		if self.rng.percent(80) {
			params["refund_onchain_address"] = REFUND_ADDRESS.into();
		}
		if self.people[who].like_ldk {
			params["token"] = Value::Null;
		}
		self.ask(who, "lsps1.create_order", params, Asked::Order)
	}

	/// What the LSP says reaches a client that is there.
	pub(crate) fn said(&mut self, peer: NodeId, bytes: &[u8]) -> Go {
		demand(bytes.len() <= MAX_PAYLOAD, || "a message that is too long".into())?;
		let answer: Value = serde_json::from_slice(bytes).map_err(|e| super::Stop::Flaw(format!("bad JSON: {e}")))?;
		let who = self.by_node[&peer];
		if !self.people[who].online {
			return Ok(());
		}
		let Some(id) = answer["id"].as_str().map(str::to_string) else {
			let code = answer["error"]["code"].as_i64();
			return demand(code == Some(PARSE_ERROR.into()), || format!("an answer to nobody: {answer}"));
		};
		let Some(asked) = self.people[who].asked.remove(&id) else {
			return demand(id == "x", || format!("an answer that nobody asked for: {answer}"));
		};
		let result = &answer["result"];
		match asked {
			Asked::Menu => {
				let menu = &result["opening_fee_params_menu"];
				self.people[who].menu = menu.as_array().and_then(|menu| menu.first()).cloned();
			}
			Asked::Buy { size, terms } => self.bought(who, result, size, &terms),
			Asked::Order => {
				if let Some(order) = result["order_id"].as_str() {
					self.people[who].orders.push(order.to_string());
					self.tally.orders += 1;
					self.pay_order(order);
				}
			}
			Asked::Other => {}
		}
		Ok(())
	}

	fn bought(&mut self, who: usize, result: &Value, size: Option<u64>, terms: &Value) {
		let Some(text) = result["jit_channel_scid"].as_str() else { return };
		let parts: Vec<u64> = text.split('x').filter_map(|part| part.parse().ok()).collect();
		let [block, tx, output] = parts[..] else { return };
		let number = |name: &str| terms[name].as_str().and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
		self.bought.push(Bought {
			client: who,
			scid: (block << 40) | (tx << 16) | output,
			size,
			min_fee: number("min_fee_msat"),
			proportional: terms["proportional"].as_u64().unwrap_or_default(),
			min: number("min_payment_size_msat"),
			max: number("max_payment_size_msat"),
			owed: 0,
			paid: 0,
			hop: None,
		});
		self.tally.sales += 1;
		let late = if self.rng.percent(self.temper.odd_payment) { 500_000 } else { 10_000 };
		if self.rng.percent(90) {
			let at = self.now.0 + self.rng.around(late);
			self.agenda.plan(at, None, Deed::Pay { sale: self.bought.len() - 1 });
		}
	}
}
