//! Payments of our own: invoices, offers, payments sent and received, and what is remembered of them.

use super::Lightning;
use crate::config::network_name;
use crate::control::{Direction, Payment, PaymentKind, PaymentStatus, Time};
use anyhow::{Context, anyhow, bail};
use bitcoin::Network;
use bitcoin::constants::ChainHash;
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::secp256k1::PublicKey;
use inlet_lsp::money::Sat;
use inlet_storage::Store;
use lightning::events::PaymentFailureReason;
use lightning::ln::channelmanager::RecentPaymentDetails;
use lightning::ln::channelmanager::{
	Bolt11InvoiceParameters, OptionalBolt11PaymentParams, OptionalOfferPaymentParams, PaymentId,
};
use lightning::ln::outbound_payment::{Bolt11PaymentError, RecipientOnionFields, Retry, RetryableSendFailure};
use lightning::offers::offer::Offer;
use lightning::offers::parse::Bolt12SemanticError;
use lightning::routing::router::{PaymentParameters, RouteParameters, RouteParametersConfig};
use lightning::sign::EntropySource;
use lightning::types::payment::{PaymentHash, PaymentPreimage};
use lightning::util::persist::KVStore;
use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Bolt11InvoiceDescriptionRef, Currency, Description};
use std::collections::{BTreeMap, HashSet};
use std::str::FromStr;
use std::sync::RwLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// Namespace of the payments in the store.
const PRIMARY: &str = "inlet";
const SECONDARY: &str = "payments";
/// Payments that are kept in memory and listed; beyond that, invoices that expired unpaid are forgotten first, then the
/// oldest finished payments.
const MAX_PAYMENTS: usize = 10_000;
/// How long LDK retries a payment.
const RETRY_FOR: Duration = Duration::from_secs(30);
/// Blocks that a hold invoice's HTLCs must have left: room for the channel's opening before they have to be failed back.
const HOLD_CLTV_DELTA: u16 = 144;

/// What is remembered of payments, newest in memory, all that fit in the store.
pub struct Payments {
	store: Store,
	rows: RwLock<BTreeMap<String, Payment>>,
	/// Changes whenever a payment does.
	changed: watch::Sender<u64>,
}

impl Payments {
	/// As stored.
	///
	/// # Errors
	/// The store cannot be read.
	pub async fn load(store: Store) -> anyhow::Result<Payments> {
		let mut rows = BTreeMap::new();
		for key in KVStore::list(&store, PRIMARY, SECONDARY).await.context("the payments cannot be listed")? {
			let bytes = KVStore::read(&store, PRIMARY, SECONDARY, &key).await.context("a payment cannot be read")?;
			let payment: Payment = serde_json::from_slice(&bytes).context("a stored payment is unreadable")?;
			rows.insert(key, payment);
		}
		Ok(Payments { store, rows: RwLock::new(rows), changed: watch::Sender::new(0) })
	}

	/// All of them, in no particular order.
	pub fn all(&self) -> Vec<Payment> {
		self.rows.read().expect("not poisoned").values().cloned().collect()
	}

	/// One of them.
	pub fn get(&self, id: &str) -> Option<Payment> {
		self.rows.read().expect("not poisoned").get(id).cloned()
	}

	/// Wakes whenever a payment changes.
	pub fn watch(&self) -> watch::Receiver<u64> {
		self.changed.subscribe()
	}

	/// Stores a payment; it is listed once it is durable.
	///
	/// # Errors
	/// The store cannot be written.
	pub async fn put(&self, payment: Payment) -> anyhow::Result<()> {
		let bytes = serde_json::to_vec(&payment)?;
		KVStore::write(&self.store, PRIMARY, SECONDARY, &payment.id, bytes).await?;
		let forgotten = {
			let mut rows = self.rows.write().expect("not poisoned");
			rows.insert(payment.id.clone(), payment);
			match rows.len() > MAX_PAYMENTS {
				true => dispensable(rows.values(), SystemTime::now().into()),
				false => None,
			}
		};
		if let Some(id) = forgotten {
			KVStore::remove(&self.store, PRIMARY, SECONDARY, &id, true).await?;
			self.rows.write().expect("not poisoned").remove(&id);
		}
		self.changed.send_modify(|n| *n = n.wrapping_add(1));
		Ok(())
	}

	/// Puts a payment that is about to be sent on record. Another one under the same id is only replaced if it has failed.
	///
	/// # Errors
	/// It is on record already, for people; or the store cannot be written.
	async fn begin(&self, payment: Payment) -> anyhow::Result<()> {
		{
			let mut rows = self.rows.write().expect("not poisoned");
			match rows.get(&payment.id).map(|known| known.status) {
				None | Some(PaymentStatus::Failed) => rows.insert(payment.id.clone(), payment.clone()),
				Some(PaymentStatus::Pending) => {
					bail!("this is being paid already: see inlet payments show {}", payment.id)
				}
				Some(PaymentStatus::Succeeded) => {
					bail!("this was paid already: see inlet payments show {}", payment.id)
				}
			};
		}
		self.put(payment).await
	}

	/// Marks as failed what is pending here and unknown to LDK: the node stopped between recording and sending it. To be
	/// called at start, before LDK's events are handled and anything is paid.
	///
	/// # Errors
	/// The store cannot be written.
	pub async fn reconcile(&self, lightning: &Lightning) -> anyhow::Result<()> {
		let recent = lightning.manager.list_recent_payments();
		let known: HashSet<String> = recent
			.iter()
			.map(|payment| match payment {
				RecentPaymentDetails::AwaitingInvoice { payment_id }
				| RecentPaymentDetails::Pending { payment_id, .. }
				| RecentPaymentDetails::Fulfilled { payment_id, .. }
				| RecentPaymentDetails::Abandoned { payment_id, .. } => id_of(*payment_id),
			})
			.collect();
		for payment in self.all() {
			let open = payment.direction == Direction::Out && payment.status == PaymentStatus::Pending;
			if open && !known.contains(&payment.id) {
				self.failed(&payment.id, "the node stopped before it was sent; pay again".to_owned()).await?;
			}
		}
		Ok(())
	}

	/// A payment of ours arrived. Twice is once.
	///
	/// # Errors
	/// The store cannot be written.
	pub async fn sent(
		&self,
		id: &str,
		preimage: PaymentPreimage,
		fee_msat: Option<u64>,
		amount: Option<u64>,
	) -> anyhow::Result<()> {
		let Some(mut payment) = self.get(id) else { return Ok(()) };
		payment.status = PaymentStatus::Succeeded;
		payment.reason = None;
		payment.preimage = Some(preimage.0.to_lower_hex_string());
		payment.fee_msat = fee_msat;
		payment.amount_msat = amount.or(payment.amount_msat);
		payment.payment_hash = Some(PaymentHash::from(preimage).0.to_lower_hex_string());
		payment.finished_at.get_or_insert(SystemTime::now().into());
		self.put(payment).await
	}

	/// A payment of ours failed. Twice is once.
	///
	/// # Errors
	/// The store cannot be written.
	pub async fn failed(&self, id: &str, reason: String) -> anyhow::Result<()> {
		let Some(mut payment) = self.get(id) else { return Ok(()) };
		payment.status = PaymentStatus::Failed;
		payment.reason = Some(reason);
		payment.finished_at.get_or_insert(SystemTime::now().into());
		self.put(payment).await
	}

	/// A payment to us is ours. Twice is once.
	///
	/// # Errors
	/// The store cannot be written.
	pub async fn received(&self, hash: PaymentHash, kind: PaymentKind, amount_msat: u64) -> anyhow::Result<()> {
		let id = hash.0.to_lower_hex_string();
		let now: Time = SystemTime::now().into();
		let mut payment = self.get(&id).unwrap_or_else(|| blank(id, Direction::In, kind, now));
		payment.status = PaymentStatus::Succeeded;
		payment.amount_msat = Some(amount_msat);
		payment.finished_at.get_or_insert(now);
		self.put(payment).await
	}
}

/// The one to forget when there are too many.
fn dispensable<'a>(rows: impl Iterator<Item = &'a Payment> + Clone, now: Time) -> Option<String> {
	let expired = |p: &&Payment| {
		let unpaid = p.direction == Direction::In && p.status == PaymentStatus::Pending;
		unpaid && p.expires_at.is_some_and(|at| at < now)
	};
	let finished = |p: &&Payment| p.status != PaymentStatus::Pending;
	let oldest = rows.clone().filter(expired).min_by_key(|p| p.created_at);
	oldest.or_else(|| rows.filter(finished).min_by_key(|p| p.created_at)).map(|p| p.id.clone())
}

/// LDK's reason for a failed payment, as a sentence with what to do.
pub fn failure(reason: PaymentFailureReason) -> String {
	match reason {
		PaymentFailureReason::RecipientRejected => "the recipient refused it; ask for a new invoice",
		PaymentFailureReason::UserAbandoned => "it was given up",
		PaymentFailureReason::RetriesExhausted => "no path carried it in time; try again later, or a smaller amount",
		PaymentFailureReason::PaymentExpired => "the invoice has expired; ask for a new one",
		PaymentFailureReason::RouteNotFound => NO_ROUTE,
		PaymentFailureReason::UnexpectedError => "LDK met an error of its own; the node's log says more",
		PaymentFailureReason::UnknownRequiredFeatures => "the invoice needs a feature that this node does not know",
		PaymentFailureReason::InvoiceRequestExpired => "the recipient sent no invoice; is it online? Try again later",
		PaymentFailureReason::InvoiceRequestRejected => "the recipient refused to send an invoice; ask for a new offer",
		PaymentFailureReason::BlindedPathCreationFailed => NO_PATH_BACK,
	}
	.to_owned()
}

const NO_ROUTE: &str =
	"there is no route with enough money; see inlet balance (could be sent now), open a channel, or raise --max-fee";
const NO_PATH_BACK: &str = "there is no peer over which the recipient could answer; connect to one first";

fn send_failure(error: &RetryableSendFailure) -> &'static str {
	match error {
		RetryableSendFailure::PaymentExpired => "the invoice has expired; ask for a new one",
		RetryableSendFailure::RouteNotFound => NO_ROUTE,
		RetryableSendFailure::DuplicatePayment => "it is being paid already; see inlet payments",
		RetryableSendFailure::OnionPacketSizeExceeded => {
			"the invoice carries too much data to be sent; ask for another"
		}
	}
}

/// LDK's reason for not asking for an invoice, or not making an offer, as a sentence with what to do.
pub fn offer_failure(error: &Bolt12SemanticError) -> &'static str {
	match error {
		Bolt12SemanticError::AlreadyExpired => "the offer has expired; ask for a new one",
		Bolt12SemanticError::UnsupportedChain | Bolt12SemanticError::UnexpectedChain => {
			"the offer is for another network"
		}
		Bolt12SemanticError::MissingAmount => "the offer leaves the amount open; give one",
		Bolt12SemanticError::InvalidAmount => "the amount is not possible; choose another",
		Bolt12SemanticError::InsufficientAmount => "the amount is less than the offer asks for; give more",
		Bolt12SemanticError::UnsupportedCurrency | Bolt12SemanticError::InvalidCurrencyCode => {
			"the offer is in another currency; ask for one in bitcoin"
		}
		Bolt12SemanticError::UnknownRequiredFeatures => "the offer needs a feature that this node does not know",
		Bolt12SemanticError::MissingDescription => "an offer with an amount needs a description; add --description",
		Bolt12SemanticError::MissingQuantity
		| Bolt12SemanticError::InvalidQuantity
		| Bolt12SemanticError::UnexpectedQuantity => "the offer is sold by the piece, which this node cannot buy",
		Bolt12SemanticError::DuplicatePaymentId => "it is being paid already; see inlet payments",
		Bolt12SemanticError::MissingPaths => NO_PATH_BACK,
		_ => "the offer is not usable; ask for another",
	}
}

fn blank(id: String, direction: Direction, kind: PaymentKind, now: Time) -> Payment {
	Payment {
		payment_hash: (kind != PaymentKind::Bolt12 || direction == Direction::In).then(|| id.clone()),
		id,
		direction,
		kind,
		status: PaymentStatus::Pending,
		amount_msat: None,
		fee_msat: None,
		preimage: None,
		to: None,
		description: None,
		reason: None,
		created_at: now,
		expires_at: None,
		finished_at: None,
	}
}

fn direct(description: &str) -> anyhow::Result<Bolt11InvoiceDescription> {
	let description = Description::new(description.to_owned()).map_err(|e| anyhow!("the description: {e}"))?;
	Ok(Bolt11InvoiceDescription::Direct(description))
}

/// An invoice whose payment is held until the core says what becomes of it: its hash is an order's.
///
/// # Errors
/// LDK cannot make it.
pub fn hold_invoice(
	lightning: &Lightning,
	order: &str,
	amount: Sat,
	expiry_secs: u32,
) -> anyhow::Result<(String, [u8; 32])> {
	let amount_msats = Some(amount.to_msat().context("too large an amount")?.0);
	let params = Bolt11InvoiceParameters {
		amount_msats,
		description: direct(&format!("Channel order {order}"))?,
		invoice_expiry_delta_secs: Some(expiry_secs),
		min_final_cltv_expiry_delta: Some(HOLD_CLTV_DELTA),
		..Default::default()
	};
	let invoice = lightning.manager.create_bolt11_invoice(params).map_err(|e| anyhow!("no invoice: {e}"))?;
	Ok((invoice.to_string(), invoice.payment_hash().0))
}

/// The preimage of one of our invoices: LDK derives it from its keys, it is stored nowhere.
pub fn preimage(lightning: &Lightning, hash: [u8; 32], invoice: &str) -> Option<PaymentPreimage> {
	let invoice = Bolt11Invoice::from_str(invoice).ok()?;
	let secret = *invoice.payment_secret();
	lightning.manager.get_payment_preimage_decrypt_metadata(PaymentHash(hash), secret, None).ok()
}

/// An invoice of our own.
///
/// # Errors
/// A description or amount that BOLT 11 cannot carry; the store.
pub async fn invoice(
	lightning: &Lightning,
	payments: &Payments,
	amount_msat: Option<u64>,
	description: &str,
	expiry_secs: u32,
) -> anyhow::Result<Bolt11Invoice> {
	let params = Bolt11InvoiceParameters {
		amount_msats: amount_msat,
		description: direct(description)?,
		invoice_expiry_delta_secs: Some(expiry_secs),
		..Default::default()
	};
	let invoice = lightning.manager.create_bolt11_invoice(params).map_err(|e| anyhow!("no invoice: {e}"))?;
	let id = invoice.payment_hash().0.to_lower_hex_string();
	let mut payment = blank(id, Direction::In, PaymentKind::Bolt11, SystemTime::now().into());
	payment.amount_msat = amount_msat;
	payment.description = Some(description.to_owned());
	payment.expires_at = Some((UNIX_EPOCH + invoice.duration_since_epoch() + invoice.expiry_time()).into());
	payments.put(payment).await?;
	Ok(invoice)
}

/// Starts a payment; its outcome comes as an event. Returns its id.
///
/// # Errors
/// What is wrong with `to` or `amount_msat`, or that there is no route, for people.
pub async fn pay(
	lightning: &Lightning,
	payments: &Payments,
	network: Network,
	to: &str,
	amount_msat: Option<u64>,
	max_fee_msat: Option<u64>,
) -> anyhow::Result<String> {
	let mut limits = RouteParametersConfig::default();
	limits.max_total_routing_fee_msat = max_fee_msat.or(limits.max_total_routing_fee_msat);
	let now: Time = SystemTime::now().into();
	if let Ok(invoice) = Bolt11Invoice::from_str(to) {
		if invoice.currency() != Currency::from(network) {
			bail!("this invoice is for another network; this node runs on {}", network_name(network));
		}
		return pay_bolt11(lightning, payments, &invoice, amount_msat, limits, now).await;
	}
	if let Ok(offer) = Offer::from_str(to) {
		if !offer.supports_chain(ChainHash::using_genesis_block(network)) {
			bail!("this offer is for another network; this node runs on {}", network_name(network));
		}
		return pay_offer(lightning, payments, &offer, amount_msat, limits, now).await;
	}
	if let Ok(node) = PublicKey::from_str(to) {
		let amount = amount_msat.context("a payment to a node id needs an amount")?;
		if node == lightning.keys.node_id() {
			bail!("that is this node itself: it cannot pay itself");
		}
		return keysend(lightning, payments, node, amount, max_fee_msat, now).await;
	}
	bail!("this is neither a BOLT 11 invoice nor a BOLT 12 offer nor a node id")
}

async fn pay_bolt11(
	lightning: &Lightning,
	payments: &Payments,
	invoice: &Bolt11Invoice,
	amount_msat: Option<u64>,
	limits: RouteParametersConfig,
	now: Time,
) -> anyhow::Result<String> {
	if invoice.get_payee_pub_key() == lightning.keys.node_id() {
		bail!("this is an invoice of this node itself: it cannot pay itself");
	}
	if invoice.would_expire(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()) {
		bail!("the invoice has expired: ask for a new one");
	}
	let amount = match (invoice.amount_milli_satoshis(), amount_msat) {
		(Some(fixed), None) => fixed,
		(Some(fixed), Some(given)) if given == fixed => fixed,
		(Some(fixed), Some(given)) => bail!("the invoice asks for {fixed} msat, not {given} msat"),
		(None, Some(given)) => given,
		(None, None) => bail!("the invoice leaves the amount open: give one"),
	};
	let hash = invoice.payment_hash();
	let id = hash.0.to_lower_hex_string();
	let mut payment = blank(id.clone(), Direction::Out, PaymentKind::Bolt11, now);
	payment.amount_msat = Some(amount);
	payment.to = Some(invoice.get_payee_pub_key().to_string());
	payment.description = match invoice.description() {
		Bolt11InvoiceDescriptionRef::Direct(text) => Some(text.to_string()),
		Bolt11InvoiceDescriptionRef::Hash(_) => None,
	};
	// On record before it leaves: a crash in between shows a pending payment, never an unknown one.
	payments.begin(payment).await?;
	let params = OptionalBolt11PaymentParams {
		route_params_config: limits,
		retry_strategy: Retry::Timeout(RETRY_FOR),
		..Default::default()
	};
	let open = invoice.amount_milli_satoshis().is_none().then_some(amount);
	match lightning.manager.pay_for_bolt11_invoice(invoice, PaymentId(hash.0), open, params) {
		Ok(()) => lightning.hurry(),
		// The one that is in flight will be heard of.
		Err(Bolt11PaymentError::SendingFailed(e @ RetryableSendFailure::DuplicatePayment)) => bail!(send_failure(&e)),
		Err(Bolt11PaymentError::SendingFailed(e)) => payments.failed(&id, send_failure(&e).to_owned()).await?,
		Err(Bolt11PaymentError::InvalidAmount) => {
			payments.failed(&id, "the amount is less than the invoice asks for; give more".to_owned()).await?;
		}
	}
	Ok(id)
}

async fn pay_offer(
	lightning: &Lightning,
	payments: &Payments,
	offer: &Offer,
	amount_msat: Option<u64>,
	limits: RouteParametersConfig,
	now: Time,
) -> anyhow::Result<String> {
	let payment_id = PaymentId(lightning.keys.get_secure_random_bytes());
	let id = payment_id.0.to_lower_hex_string();
	let mut payment = blank(id.clone(), Direction::Out, PaymentKind::Bolt12, now);
	payment.amount_msat = amount_msat;
	payment.to = offer.issuer_signing_pubkey().map(|key| key.to_string());
	payment.description = offer.description().map(|text| text.to_string());
	payments.put(payment).await?;
	let params = OptionalOfferPaymentParams {
		route_params_config: limits,
		retry_strategy: Retry::Timeout(RETRY_FOR),
		..Default::default()
	};
	match lightning.manager.pay_for_offer(offer, amount_msat, payment_id, params) {
		Ok(()) => lightning.hurry(),
		Err(e) => payments.failed(&id, offer_failure(&e).to_owned()).await?,
	}
	Ok(id)
}

async fn keysend(
	lightning: &Lightning,
	payments: &Payments,
	node: PublicKey,
	amount: u64,
	max_fee_msat: Option<u64>,
	now: Time,
) -> anyhow::Result<String> {
	let preimage = PaymentPreimage(lightning.keys.get_secure_random_bytes());
	let hash = PaymentHash::from(preimage);
	let id = hash.0.to_lower_hex_string();
	let mut payment = blank(id.clone(), Direction::Out, PaymentKind::Keysend, now);
	payment.amount_msat = Some(amount);
	payment.to = Some(node.to_string());
	payments.put(payment).await?;
	let to = PaymentParameters::for_keysend(
		node,
		u32::from(lightning::ln::channelmanager::MIN_FINAL_CLTV_EXPIRY_DELTA),
		true,
	);
	let mut route = RouteParameters::from_payment_params_and_value(to, amount);
	route.max_total_routing_fee_msat = max_fee_msat.or(route.max_total_routing_fee_msat);
	let fields = RecipientOnionFields::spontaneous_empty(amount);
	let sent = lightning.manager.send_spontaneous_payment(
		Some(preimage),
		fields,
		PaymentId(hash.0),
		route,
		Retry::Timeout(RETRY_FOR),
	);
	match sent {
		Ok(_) => lightning.hurry(),
		Err(e) => payments.failed(&id, send_failure(&e).to_owned()).await?,
	}
	Ok(id)
}

/// The id under which a payment going out is remembered.
pub fn id_of(payment_id: PaymentId) -> String {
	payment_id.0.to_lower_hex_string()
}

/// A payment hash from its hex form.
pub fn hash_from_hex(hex: &str) -> Option<PaymentHash> {
	<[u8; 32]>::from_hex(hex).ok().map(PaymentHash)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn invoices_that_expired_unpaid_are_forgotten_first() {
		let row = |id: &str, at: u64, status, expires: Option<u64>| Payment {
			status,
			expires_at: expires.map(Time),
			..blank(id.to_owned(), Direction::In, PaymentKind::Bolt11, Time(at))
		};
		let mut rows = vec![
			row("done", 1, PaymentStatus::Succeeded, None),
			row("open", 0, PaymentStatus::Pending, Some(90)),
			row("expired", 5, PaymentStatus::Pending, Some(10)),
		];
		assert_eq!(dispensable(rows.iter(), Time(50)).as_deref(), Some("expired"));
		rows.pop();
		assert_eq!(dispensable(rows.iter(), Time(50)).as_deref(), Some("done"));
	}
}
