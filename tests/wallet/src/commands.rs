//! The commands, each a line of standard input.

use crate::options::PeerAddress;
use crate::view;
use anyhow::{Context, Result, bail};
use ldk_node::bitcoin::{Address, address::NetworkUnchecked};
use ldk_node::lightning::offers::offer::Offer;
use ldk_node::lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Description};
use ldk_node::lightning_liquidity::lsps1::msgs::LSPS1OrderId;
use ldk_node::{Node, UserChannelId};
use serde_json::{Value, json};
use std::str::FromStr;

const INVOICE_EXPIRY_SECS: u32 = 3600;

/// Runs the command called `name` with the fields of `request` and gives what it found.
pub fn run(node: &Node, name: &str, request: &Value) -> Result<Value> {
	let arguments = Arguments(request);
	match name {
		"node_id" => Ok(json!({ "node_id": node.node_id().to_string() })),
		"sync" => sync(node),
		"status" => Ok(json!({ "height": node.status().current_best_block.height })),
		"balances" => Ok(view::balances(node)),
		"payments" => Ok(node.list_payments().iter().map(view::payment).collect()),
		"peers" => Ok(peers(node)),
		"connect" => connect(node, &arguments),
		"disconnect" => Ok(json!(node.disconnect(arguments.parsed("node_id")?)?)),
		"address" => Ok(json!({ "address": node.onchain_payment().new_address()?.to_string() })),
		"send" => send(node, &arguments),
		"open_channel" => open_channel(node, &arguments),
		"channels" => Ok(view::channels(node)),
		"close" => close(node, &arguments, false),
		"force_close" => close(node, &arguments, true),
		"invoice" => invoice(node, &arguments),
		"jit_invoice" => jit_invoice(node, &arguments),
		"pay" => pay(node, &arguments),
		"probe" => Ok(json!(node.bolt11_payment().send_probes(&arguments.parsed("invoice")?, None)?)),
		"keysend" => keysend(node, &arguments),
		"offer" => offer(node, &arguments),
		"pay_offer" => pay_offer(node, &arguments),
		"lsps1_order" => lsps1_order(node, &arguments),
		"lsps1_status" => {
			let id = LSPS1OrderId(arguments.text("order_id")?.to_owned());
			Ok(view::order(&node.lsps1_liquidity().check_order_status(id)?))
		}
		"graph" => Ok(graph(node)),
		"stop" => Ok(Value::Null),
		other => bail!("no such command: {other}"),
	}
}

/// The fields of a command.
struct Arguments<'a>(&'a Value);

impl<'a> Arguments<'a> {
	fn text(&self, name: &str) -> Result<&'a str> {
		self.0[name].as_str().with_context(|| format!("{name} is missing, or not a text"))
	}

	fn parsed<T: FromStr>(&self, name: &str) -> Result<T> {
		let text = self.text(name)?;
		text.parse().ok().with_context(|| format!("{name} cannot be read: {text}"))
	}

	fn number(&self, name: &str) -> Result<u64> {
		self.optional_number(name).with_context(|| format!("{name} is missing, or not a number"))
	}

	fn optional_number(&self, name: &str) -> Option<u64> {
		self.0[name].as_u64()
	}

	fn flag(&self, name: &str) -> bool {
		self.0[name].as_bool().unwrap_or(false)
	}

	fn peer(&self) -> Result<PeerAddress> {
		PeerAddress::parse(self.text("peer")?)
	}
}

fn sync(node: &Node) -> Result<Value> {
	node.sync_wallets()?;
	Ok(json!({ "height": node.status().current_best_block.height }))
}

fn peers(node: &Node) -> Value {
	let view =
		|peer: &ldk_node::PeerDetails| json!({ "node_id": peer.node_id.to_string(), "connected": peer.is_connected });
	node.list_peers().iter().map(view).collect()
}

/// How many channels it heard of, of how many of their directions it knows what they cost, and all that in words.
fn graph(node: &Node) -> Value {
	let graph = node.network_graph();
	let channels: Vec<_> = graph.list_channels().iter().filter_map(|id| graph.channel(*id)).collect();
	let directions = channels.iter().flat_map(|channel| [&channel.one_to_two, &channel.two_to_one]);
	json!({
		"channels": channels.len(),
		"directions": directions.filter(|direction| direction.is_some()).count(),
		"nodes": graph.list_nodes().len(),
		"words": channels.iter().map(|channel| format!("{channel:?}")).collect::<Vec<_>>(),
	})
}

fn connect(node: &Node, arguments: &Arguments) -> Result<Value> {
	let peer = arguments.peer()?;
	Ok(json!(node.connect(peer.node_id, peer.address, true)?))
}

fn send(node: &Node, arguments: &Arguments) -> Result<Value> {
	let address: Address<NetworkUnchecked> = arguments.parsed("address")?;
	let address = address.require_network(ldk_node::bitcoin::Network::Regtest)?;
	let txid = node.onchain_payment().send_to_address(&address, arguments.number("amount_sat")?, None)?;
	Ok(json!({ "txid": txid.to_string() }))
}

fn open_channel(node: &Node, arguments: &Arguments) -> Result<Value> {
	let PeerAddress { node_id, address } = arguments.peer()?;
	let amount_sat = arguments.number("amount_sat")?;
	let push_msat = arguments.optional_number("push_msat");
	let id = if arguments.flag("announce") {
		node.open_announced_channel(node_id, address, amount_sat, push_msat, None)?
	} else {
		node.open_channel(node_id, address, amount_sat, push_msat, None)?
	};
	Ok(json!({ "user_channel_id": id.0.to_string() }))
}

fn close(node: &Node, arguments: &Arguments, force: bool) -> Result<Value> {
	let id = UserChannelId(arguments.parsed("user_channel_id")?);
	let channels = node.list_channels();
	let channel = channels.iter().find(|channel| channel.user_channel_id == id).context("no such channel")?;
	if force {
		node.force_close_channel(&id, channel.counterparty_node_id, None)?;
	} else {
		node.close_channel(&id, channel.counterparty_node_id)?;
	}
	Ok(Value::Null)
}

fn description() -> Result<Bolt11InvoiceDescription> {
	Ok(Bolt11InvoiceDescription::Direct(Description::new("test".to_owned()).ok().context("no description")?))
}

fn invoice_view(invoice: &Bolt11Invoice) -> Value {
	json!({ "invoice": invoice.to_string(), "payment_hash": invoice.payment_hash().to_string() })
}

fn invoice(node: &Node, arguments: &Arguments) -> Result<Value> {
	let payments = node.bolt11_payment();
	let invoice = match arguments.optional_number("amount_msat") {
		Some(amount_msat) => payments.receive(amount_msat, &description()?, INVOICE_EXPIRY_SECS)?,
		None => payments.receive_variable_amount(&description()?, INVOICE_EXPIRY_SECS)?,
	};
	Ok(invoice_view(&invoice))
}

/// With `amount_msat` (and `max_fee_msat`) for that amount, without it (and with `max_fee_ppm`) for any.
fn jit_invoice(node: &Node, arguments: &Arguments) -> Result<Value> {
	let payments = node.bolt11_payment();
	let text = description()?;
	let invoice = match arguments.optional_number("amount_msat") {
		Some(amount_msat) => {
			let limit = arguments.optional_number("max_fee_msat");
			payments.receive_via_jit_channel(amount_msat, &text, INVOICE_EXPIRY_SECS, limit)?
		}
		None => {
			let limit = arguments.optional_number("max_fee_ppm");
			payments.receive_variable_amount_via_jit_channel(&text, INVOICE_EXPIRY_SECS, limit)?
		}
	};
	Ok(invoice_view(&invoice))
}

fn pay(node: &Node, arguments: &Arguments) -> Result<Value> {
	let invoice: Bolt11Invoice = arguments.parsed("invoice")?;
	let id = match arguments.optional_number("amount_msat") {
		Some(amount_msat) => node.bolt11_payment().send_using_amount(&invoice, amount_msat, None)?,
		None => node.bolt11_payment().send(&invoice, None)?,
	};
	Ok(json!({ "payment_id": id.to_string() }))
}

fn keysend(node: &Node, arguments: &Arguments) -> Result<Value> {
	let to = arguments.parsed("node_id")?;
	let id = node.spontaneous_payment().send(arguments.number("amount_msat")?, to, None)?;
	Ok(json!({ "payment_id": id.to_string() }))
}

fn offer(node: &Node, arguments: &Arguments) -> Result<Value> {
	let offer = node.bolt12_payment().receive(arguments.number("amount_msat")?, "test", None, None)?;
	Ok(json!({ "offer": offer.to_string() }))
}

fn pay_offer(node: &Node, arguments: &Arguments) -> Result<Value> {
	let offer: Offer = arguments.parsed("offer")?;
	let id = match arguments.optional_number("amount_msat") {
		Some(amount_msat) => node.bolt12_payment().send_using_amount(&offer, amount_msat, None, None, None)?,
		None => node.bolt12_payment().send(&offer, None, None, None)?,
	};
	Ok(json!({ "payment_id": id.to_string() }))
}

fn lsps1_order(node: &Node, arguments: &Arguments) -> Result<Value> {
	let order = node.lsps1_liquidity().request_channel(
		arguments.number("lsp_balance_sat")?,
		arguments.optional_number("client_balance_sat").unwrap_or(0),
		u32::try_from(arguments.number("expiry_blocks")?)?,
		arguments.flag("announce"),
	)?;
	Ok(view::order(&order))
}
