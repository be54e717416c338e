//! What is sold, for the operator.

use super::channels::{local_msat, scid_text};
use super::{Operator, holds};
use crate::control::*;
use bitcoin::hex::DisplayHex;
use inlet_lsp::book::{self, OrderState, PaidBy, PaymentState, SaleState, Write};
use inlet_lsp::tiers;
use inlet_lsp::time::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;

/// Tells the operator's events what was written to the book `at` this time: the new lines of the history of a sale, an order,
/// or of a client that is woken.
pub fn publish(events: &Events, write: &Write, at: Timestamp) {
	let (kind, id, client, history) = match write {
		Write::Sale(sale) => (EventKind::Sale, sale.id.clone(), sale.client, &sale.history),
		Write::Order(order) => (EventKind::Order, order.id.clone(), order.client, &order.history),
		Write::Client(client) => {
			publish_tier(events, client, at);
			(EventKind::Client, client.id.to_string(), client.id, &client.wake.history)
		}
		_ => return,
	};
	for note in history.iter().filter(|note| note.at == at) {
		tracing::info!(target: "inlet::lsp", %client, "{} {id}: {} {}", kind.as_str(), note.step, note.text);
		let data = json!({ "step": note.step, "client": client.to_string() });
		events.publish(note.at.into(), kind, Some(id.clone()), format!("{} {}", note.step, note.text), data);
	}
}

fn publish_tier(events: &Events, client: &book::Client, at: Timestamp) {
	let id = client.id.to_string();
	for note in client.history.iter().filter(|note| note.at == at) {
		tracing::info!(target: "inlet::lsp", client = %id, "client: {} {}", note.step, note.text);
		let data = json!({ "step": note.step, "client": id });
		events.publish(
			note.at.into(),
			EventKind::Client,
			Some(id.clone()),
			format!("{} {}", note.step, note.text),
			data,
		);
	}
}

pub(super) fn history(notes: &[book::Note]) -> Vec<HistoryLine> {
	notes.iter().map(|n| HistoryLine { at: n.at.into(), step: n.step.clone(), text: n.text.clone() }).collect()
}

fn sold(channel: &book::SoldChannel) -> SoldChannel {
	SoldChannel {
		capacity_sat: channel.capacity.0,
		id: channel.channel_id.map(|id| id.to_lower_hex_string()),
		funding: channel.funding.map(|funding| funding.to_string()),
		funded_at: channel.funded_at.map(Into::into),
		ready_at: channel.ready_at.map(Into::into),
		closed_at: channel.closed_at.map(Into::into),
		keep_until_height: channel.keep_until_height,
	}
}

/// What the miner got for each funding transaction.
fn costs(book: &book::Book) -> BTreeMap<String, u64> {
	let mut costs = BTreeMap::new();
	for entry in book.ledger().filter(|entry| entry.kind == book::EntryKind::FundingCost) {
		*costs.entry(entry.reference.clone()).or_default() += entry.amount_msat.unsigned_abs() / 1000;
	}
	costs
}

fn sale_view(sale: &book::Sale, costs: &BTreeMap<String, u64>) -> Sale {
	let (status, reason) = match &sale.state {
		SaleState::Bought => (SaleStatus::Bought, None),
		SaleState::Gathering { .. } => (SaleStatus::Gathering, None),
		SaleState::Opening { .. } => (SaleStatus::Opening, None),
		SaleState::Forwarded => (SaleStatus::Forwarded, None),
		SaleState::Owing => (SaleStatus::Owing, None),
		SaleState::Done => (SaleStatus::Done, None),
		SaleState::Failed { reason } => (SaleStatus::Failed, Some(reason.clone())),
	};
	let funding = sale.channel.as_ref().and_then(|channel| channel.funding).map(|funding| funding.txid.to_string());
	Sale {
		id: sale.id.clone(),
		client: sale.client.to_string(),
		status,
		reason,
		payment_msat: sale.payment_size.map(|size| size.0),
		fee_msat: sale.fee.map(|fee| fee.0),
		cost_sat: funding.and_then(|txid| costs.get(&txid).copied()),
		reserved_sat: sale.reserved.0,
		channel: sale.channel.as_ref().map(sold),
		created_at: sale.created_at.into(),
		updated_at: sale.history.last().map_or(sale.created_at, |note| note.at).into(),
	}
}

fn order_view(order: &book::Order) -> Order {
	let by = |by: &PaidBy| {
		Some(match by {
			PaidBy::Lightning => "lightning".to_owned(),
			PaidBy::Onchain => "onchain".to_owned(),
		})
	};
	let (status, reason, mut paid_by) = match &order.state {
		OrderState::Preparing => (OrderStatus::Preparing, None, None),
		OrderState::AwaitingPayment => (OrderStatus::AwaitingPayment, None, None),
		OrderState::Paid { by: how, .. } => (OrderStatus::Paid, None, by(how)),
		OrderState::Opening { by: how, .. } | OrderState::Abandoning { by: how, .. } => {
			(OrderStatus::Opening, None, by(how))
		}
		OrderState::Funded { by: how } => (OrderStatus::Funded, None, by(how)),
		OrderState::Completed => (OrderStatus::Completed, None, None),
		OrderState::Refunding { reason } => (OrderStatus::Refunding, Some(reason.clone()), None),
		OrderState::Failed { reason } => (OrderStatus::Failed, Some(reason.clone()), None),
	};
	if order.state == OrderState::Completed {
		let lightning = order.lightning.as_ref().is_some_and(|option| option.state == PaymentState::Paid);
		paid_by = by(if lightning { &PaidBy::Lightning } else { &PaidBy::Onchain });
	}
	Order {
		id: order.id.clone(),
		client: order.client.to_string(),
		status,
		reason,
		lsp_balance_sat: order.lsp_balance.0,
		client_balance_sat: order.client_balance.0,
		fee_sat: order.fee_total.0,
		total_sat: order.order_total.0,
		paid_by,
		reserved_sat: order.reserved.0,
		channel: order.channel.as_ref().map(sold),
		created_at: order.created_at.into(),
		expires_at: order.expires_at.into(),
		updated_at: order.history.last().map_or(order.created_at, |note| note.at).into(),
	}
}

/// bLIP-51's word for a payment's state.
fn word(state: PaymentState) -> String {
	match state {
		PaymentState::ExpectPayment => "EXPECT_PAYMENT",
		PaymentState::Hold => "HOLD",
		PaymentState::Paid => "PAID",
		PaymentState::Refunded => "REFUNDED",
	}
	.to_owned()
}

fn order_details(order: &book::Order) -> OrderDetail {
	let (lightning, onchain) = (order.lightning.as_ref(), order.onchain.as_ref());
	let refund = onchain.and_then(|option| option.refund.as_ref());
	let received = onchain.map(|option| option.received.as_slice()).unwrap_or_default();
	OrderDetail {
		order: order_view(order),
		channel_expiry_blocks: order.channel_expiry_blocks,
		funding_confirms_within_blocks: order.funding_confirms_within_blocks,
		required_channel_confirmations: order.required_channel_confirmations,
		announce_channel: order.announce_channel,
		token: (!order.token.is_empty()).then(|| order.token.clone()),
		invoice: lightning.map(|option| option.invoice.clone()),
		invoice_state: lightning.map(|option| word(option.state)),
		address: onchain.map(|option| option.address.clone()),
		address_state: onchain.map(|option| word(option.state)),
		received: received
			.iter()
			.map(|output| OrderReceived {
				outpoint: output.outpoint.to_string(),
				amount_sat: output.value.0,
				confirmations: output.confirmations,
			})
			.collect(),
		refund_address: order.refund_address.clone(),
		refund_sat: refund.map(|refund| refund.amount.0),
		refund_txid: refund.and_then(|refund| refund.txid).map(|txid| txid.to_string()),
		history: history(&order.history),
	}
}

fn sale_details(sale: &book::Sale, costs: &BTreeMap<String, u64>) -> SaleDetail {
	SaleDetail {
		sale: sale_view(sale, costs),
		scid: scid_text(sale.scid),
		terms: SaleTerms {
			min_fee_msat: sale.terms.min_fee.0,
			proportional_ppm: sale.terms.proportional,
			valid_until: sale.terms.valid_until.into(),
			min_lifetime_blocks: sale.terms.min_lifetime,
			min_payment_msat: sale.terms.min_payment.0,
			max_payment_msat: sale.terms.max_payment.0,
		},
		parts: sale
			.parts
			.iter()
			.map(|part| HeldPart {
				payment_hash: part.payment_hash.to_lower_hex_string(),
				amount_msat: part.amount.0,
				arrived_at: part.arrived.into(),
			})
			.collect(),
		history: history(&sale.history),
	}
}

impl Operator {
	pub(super) fn sale_page(&self, list: &ListRequest) -> Page<Sale> {
		let rows = self.driver.read(|book| {
			let costs = costs(book);
			book.sales().map(|sale| sale_view(sale, &costs)).collect::<Vec<_>>()
		});
		Page::descending(rows, list, |sale| format!("{:020}-{}", sale.created_at.0, sale.id))
	}

	pub(super) fn sale_detail(&self, id: &str) -> Result<SaleDetail, Refusal> {
		self.driver.read(|book| {
			let sale = pick("sales", id, book.sales().map(|sale| (sale.id.clone(), sale)))?;
			Ok(sale_details(sale, &costs(book)))
		})
	}

	pub(super) fn order_page(&self, list: &ListRequest) -> Page<Order> {
		let rows = self.driver.read(|book| book.orders().map(order_view).collect::<Vec<_>>());
		Page::descending(rows, list, |order| format!("{:020}-{}", order.created_at.0, order.id))
	}

	pub(super) fn order_detail(&self, id: &str) -> Result<OrderDetail, Refusal> {
		self.driver.read(|book| {
			let order = pick("orders", id, book.orders().map(|order| (order.id.clone(), order)))?;
			Ok(order_details(order))
		})
	}

	pub(super) fn all_clients(&self) -> Vec<Client> {
		let channels = self.hands.lightning.manager.list_channels();
		let (policy, now) = (&self.config.policy, crate::driver::now());
		self.driver.read(|book| {
			let mut unfinished: BTreeMap<book::NodeId, u32> = BTreeMap::new();
			let sales = book.sales().filter(|sale| !matches!(sale.state, SaleState::Done | SaleState::Failed { .. }));
			let orders =
				book.orders().filter(|o| !matches!(o.state, OrderState::Completed | OrderState::Failed { .. }));
			for client in sales.map(|sale| sale.client).chain(orders.map(|order| order.client)) {
				*unfinished.entry(client).or_default() += 1;
			}
			let view = |client: &book::Client| {
				let of_client = channels.iter().filter(|channel| channel.counterparty.node_id == client.id);
				let (mut count, mut capacity_sat, mut local) = (0, 0, 0);
				for channel in of_client {
					count += 1;
					capacity_sat += channel.channel_value_satoshis;
					local += local_msat(channel);
				}
				Client {
					node_id: client.id.to_string(),
					connected: self.hands.lightning.wire.is_connected(&client.id),
					first_seen: client.first_seen.into(),
					channels: count,
					capacity_sat,
					local_msat: local,
					sales_done: client.sales_done,
					orders_done: client.orders_done,
					unfinished: unfinished.get(&client.id).copied().unwrap_or(0),
					offences: client.offences,
					holds: holds::of_client(&self.hands.lightning.holds.of(&client.id)),
					tier: tiers::standing(policy, book, &client.id, now).tier,
					score: tiers::score(client, now),
					listed: super::clients::listing(client),
				}
			};
			book.clients().map(view).collect()
		})
	}
}
