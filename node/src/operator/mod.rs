//! The running node behind the admin API: [`Control`] put together from the driver's book, LDK and the wallet.

mod capital;
mod channels;
mod clients;
mod holds;
mod ledger;
mod money;
mod node;
mod payments;
mod quote;
mod sales;
mod storage;

use crate::backup::Backup as Shipping;
use crate::config::Config;
use crate::control::*;
use crate::driver::Driver;
use crate::hands::Hands;
use crate::lightning::payments::Payments;
use crate::lightning::peers::Peers;
use crate::tor;
use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use inlet_lsp::Lsp;
use inlet_storage::Store;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{broadcast, watch};

pub use sales::publish;

/// The running node, as its operator sees it.
pub struct Operator {
	/// The configuration that it runs with.
	pub config: Config,
	/// Addresses that it listens on, as bound.
	pub listening: Vec<String>,
	/// Running since.
	pub started: SystemTime,
	/// LDK, wallet, fees, tip.
	pub hands: Arc<Hands>,
	/// The book.
	pub driver: Driver,
	/// Prices.
	pub lsp: Lsp,
	/// The store.
	pub store: Store,
	/// Peers that are kept.
	pub peers: Arc<Peers>,
	/// Payments of our own.
	pub payments: Arc<Payments>,
	/// Is the money of lost channels being recovered?
	pub recovering: bool,
	/// The backup.
	pub backup: Arc<Shipping>,
	/// Events.
	pub events: Arc<Events>,
	/// How it stands with Tor.
	pub tor: watch::Receiver<tor::State>,
	/// Becomes true when the node is to stop.
	pub stop: watch::Sender<bool>,
}

/// A node id from its hex form.
fn node_id(text: &str) -> Result<PublicKey, Refusal> {
	text.parse().map_err(|_| {
		Refusal::invalid(
			"bad_node_id",
			format!("{text} is not a node id"),
			"a node id is 66 hex digits, 02... or 03...",
		)
	})
}

#[async_trait]
impl Control for Operator {
	async fn status(&self) -> Result<Status, Refusal> {
		self.status_now().await
	}
	async fn info(&self) -> Result<Info, Refusal> {
		Ok(self.info_now())
	}
	async fn sync(&self) -> Result<SyncState, Refusal> {
		Ok(self.sync_now())
	}
	async fn fees(&self) -> Result<Fees, Refusal> {
		Ok(self.fees_now())
	}
	async fn storage(&self) -> Result<Storage, Refusal> {
		self.storage_now().await
	}
	async fn doctor(&self) -> Result<Doctor, Refusal> {
		Ok(crate::doctor::running(self).await)
	}
	async fn backup(&self) -> Result<Backup, Refusal> {
		Ok(self.backup.status())
	}
	async fn backup_now(&self) -> Result<Backup, Refusal> {
		if self.config.backup.targets.is_empty() {
			let hint = "name one in [backup] targets, run inlet backup init, and start the node again";
			return Err(Refusal::invalid("no_backup", "there is no backup target", hint));
		}
		self.backup.snapshot();
		Ok(self.backup.status())
	}
	async fn stop(&self) -> Result<Stopping, Refusal> {
		self.stop.send_replace(true);
		Ok(Stopping { stopping: true })
	}
	async fn balance(&self) -> Result<Balance, Refusal> {
		Ok(self.balance_now())
	}
	async fn new_address(&self) -> Result<NewAddress, Refusal> {
		self.address().await
	}
	async fn send(&self, request: SendRequest) -> Result<Sent, Refusal> {
		self.send_onchain(request).await
	}
	async fn utxos(&self, list: ListRequest) -> Result<Page<Utxo>, Refusal> {
		list.check(|cursor| cursor.split_once(':').is_some_and(|(txid, _)| is_hex(txid, 64)))?;
		Ok(self.utxo_page(&list))
	}
	async fn peers(&self, list: ListRequest) -> Result<Page<Peer>, Refusal> {
		list.check(|cursor| is_hex(cursor, 66))?;
		Ok(Page::ascending(self.all_peers(), &list, |peer| peer.node_id.clone()))
	}
	async fn connect(&self, request: ConnectRequest) -> Result<Peer, Refusal> {
		self.connect_peer(request).await
	}
	async fn disconnect(&self, node_id: String) -> Result<Disconnected, Refusal> {
		self.disconnect_peer(&node_id).await
	}
	async fn channels(&self, list: ListRequest) -> Result<Page<Channel>, Refusal> {
		list.check(|cursor| is_hex(cursor, 64))?;
		Ok(Page::ascending(self.all_channels(), &list, |channel| channel.id.clone()))
	}
	async fn channel(&self, id: String) -> Result<Channel, Refusal> {
		pick("channels", &id, self.all_channels().into_iter().map(|channel| (channel.id.clone(), channel)))
	}
	async fn open_channel(&self, request: OpenChannelRequest) -> Result<Opening, Refusal> {
		self.open(request).await
	}
	async fn close_channel(&self, id: String, request: CloseRequest) -> Result<Closing, Refusal> {
		self.close(&id, request).await
	}
	async fn set_channel_policy(&self, id: String, request: ChannelPolicyRequest) -> Result<Channel, Refusal> {
		self.set_policy(&id, request)
	}
	async fn invoice(&self, request: InvoiceRequest) -> Result<Invoice, Refusal> {
		self.make_invoice(request).await
	}
	async fn offer(&self, request: OfferRequest) -> Result<Offer, Refusal> {
		self.make_offer(request)
	}
	async fn pay(&self, request: PayRequest) -> Result<Payment, Refusal> {
		self.pay_now(request).await
	}
	async fn payments(&self, list: ListRequest) -> Result<Page<Payment>, Refusal> {
		list.check(is_time_and_id)?;
		Ok(Page::descending(self.payments.all(), &list, |payment| {
			format!("{:020}-{}", payment.created_at.0, payment.id)
		}))
	}
	async fn payment(&self, id: String) -> Result<Payment, Refusal> {
		pick("payments", &id, self.payments.all().into_iter().map(|payment| (payment.id.clone(), payment)))
	}
	async fn orders(&self, list: ListRequest) -> Result<Page<Order>, Refusal> {
		list.check(is_time_and_id)?;
		Ok(self.order_page(&list))
	}
	async fn order(&self, id: String) -> Result<OrderDetail, Refusal> {
		self.order_detail(&id)
	}
	async fn sales(&self, list: ListRequest) -> Result<Page<Sale>, Refusal> {
		list.check(is_time_and_id)?;
		Ok(self.sale_page(&list))
	}
	async fn sale(&self, id: String) -> Result<SaleDetail, Refusal> {
		self.sale_detail(&id)
	}
	async fn holds(&self) -> Result<HoldTimes, Refusal> {
		Ok(self.holds_now())
	}
	async fn clients(&self, list: ListRequest) -> Result<Page<Client>, Refusal> {
		list.check(|cursor| is_hex(cursor, 66))?;
		Ok(Page::ascending(self.all_clients(), &list, |client| client.node_id.clone()))
	}
	async fn client(&self, id: String) -> Result<ClientDetail, Refusal> {
		self.client_detail(&id)
	}
	async fn set_client(&self, id: String, settings: ClientSettings) -> Result<ClientDetail, Refusal> {
		Operator::set_client(self, &id, settings).await
	}
	async fn clear_client(&self, id: String) -> Result<ClientDetail, Refusal> {
		Operator::clear_client(self, &id).await
	}
	async fn tokens(&self, list: ListRequest) -> Result<Page<Token>, Refusal> {
		list.check(is_time_and_id)?;
		Ok(self.token_page(&list))
	}
	async fn issue_token(&self, request: TokenRequest) -> Result<IssuedToken, Refusal> {
		self.issue(request).await
	}
	async fn token(&self, id: String) -> Result<TokenDetail, Refusal> {
		self.token_detail(&id)
	}
	async fn revoke_token(&self, id: String) -> Result<TokenDetail, Refusal> {
		self.revoke(&id).await
	}
	async fn quote(&self, request: QuoteRequest) -> Result<Quote, Refusal> {
		self.price(&request)
	}
	async fn ledger(&self, list: ListRequest) -> Result<Ledger, Refusal> {
		self.ledger_page(&list).await
	}

	async fn capital(&self) -> Result<Capital, Refusal> {
		Ok(self.capital_now())
	}

	async fn reclaim_plan(&self) -> Result<ReclaimPlan, Refusal> {
		Ok(self.reclaim_plan())
	}

	async fn reclaim(&self, request: ReclaimRequest) -> Result<Reclaimed, Refusal> {
		self.reclaim(request).await
	}

	async fn ledger_check(&self, request: LedgerCheckRequest) -> Result<LedgerCheck, Refusal> {
		self.check_ledger(request).await
	}

	async fn ledger_report(&self, request: LedgerReportRequest) -> Result<LedgerReport, Refusal> {
		self.report_ledger(request).await
	}
	fn recent_events(&self) -> Vec<Event> {
		self.events.recent()
	}
	fn events(&self) -> broadcast::Receiver<Event> {
		self.events.subscribe()
	}
}
