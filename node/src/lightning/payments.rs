//! Payments of our own: invoices, offers, payments sent and received, and what is remembered of them.

use super::Lightning;
use crate::control::{Direction, Payment, PaymentKind, PaymentStatus, Time};
use anyhow::{Context, anyhow, bail};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::secp256k1::PublicKey;
use inlet_lsp::money::Sat;
use inlet_storage::Store;
use lightning::ln::channelmanager::{
	Bolt11InvoiceParameters, OptionalBolt11PaymentParams, OptionalOfferPaymentParams, PaymentId,
};
use lightning::ln::outbound_payment::{RecipientOnionFields, Retry};
use lightning::offers::offer::Offer;
use lightning::routing::router::{PaymentParameters, RouteParameters, RouteParametersConfig};
use lightning::sign::EntropySource;
use lightning::types::payment::{PaymentHash, PaymentPreimage};
use lightning::util::persist::KVStore;
use lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Bolt11InvoiceDescriptionRef, Description};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::RwLock;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// Namespace of the payments in the store.
const PRIMARY: &str = "inlet";
const SECONDARY: &str = "payments";
/// Payments that are kept in memory and listed; older finished ones are forgotten.
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
			let finished = |p: &&Payment| p.status != PaymentStatus::Pending;
			match rows.len() > MAX_PAYMENTS {
				true => rows.values().filter(finished).min_by_key(|p| p.created_at).map(|p| p.id.clone()),
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
	to: &str,
	amount_msat: Option<u64>,
	max_fee_msat: Option<u64>,
) -> anyhow::Result<String> {
	let mut limits = RouteParametersConfig::default();
	limits.max_total_routing_fee_msat = max_fee_msat.or(limits.max_total_routing_fee_msat);
	let now: Time = SystemTime::now().into();
	if let Ok(invoice) = Bolt11Invoice::from_str(to) {
		return pay_bolt11(lightning, payments, &invoice, amount_msat, limits, now).await;
	}
	if let Ok(offer) = Offer::from_str(to) {
		return pay_offer(lightning, payments, &offer, amount_msat, limits, now).await;
	}
	if let Ok(node) = PublicKey::from_str(to) {
		let amount = amount_msat.context("a payment to a node id needs an amount")?;
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
	let amount = match (invoice.amount_milli_satoshis(), amount_msat) {
		(Some(fixed), None) => fixed,
		(Some(fixed), Some(given)) if given == fixed => fixed,
		(Some(fixed), Some(given)) => bail!("the invoice asks for {fixed} msat, not {given} msat"),
		(None, Some(given)) => given,
		(None, None) => bail!("the invoice leaves the amount open: give one"),
	};
	let hash = invoice.payment_hash();
	let id = hash.0.to_lower_hex_string();
	if payments.get(&id).is_some_and(|known| known.status != PaymentStatus::Failed) {
		bail!("this invoice was paid already, or is being paid: see payments");
	}
	let mut payment = blank(id.clone(), Direction::Out, PaymentKind::Bolt11, now);
	payment.amount_msat = Some(amount);
	payment.to = Some(invoice.get_payee_pub_key().to_string());
	payment.description = match invoice.description() {
		Bolt11InvoiceDescriptionRef::Direct(text) => Some(text.to_string()),
		Bolt11InvoiceDescriptionRef::Hash(_) => None,
	};
	// On record before it leaves: a crash in between shows a pending payment, never an unknown one.
	payments.put(payment).await?;
	let params = OptionalBolt11PaymentParams {
		route_params_config: limits,
		retry_strategy: Retry::Timeout(RETRY_FOR),
		..Default::default()
	};
	let open = invoice.amount_milli_satoshis().is_none().then_some(amount);
	match lightning.manager.pay_for_bolt11_invoice(invoice, PaymentId(hash.0), open, params) {
		Ok(()) => lightning.hurry(),
		Err(e) => payments.failed(&id, format!("{e:?}")).await?,
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
		Err(e) => payments.failed(&id, format!("{e:?}")).await?,
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
		Err(e) => payments.failed(&id, format!("{e:?}")).await?,
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
