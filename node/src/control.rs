//! What can be asked of a running node: the one interface between the admin API and the node behind it.
//!
//! Amounts carry their unit in the name (`_sat`, `_msat`), feerates are satoshis per 1000 weight units (250 of them make
//! 1 sat/vB), times are RFC 3339 in UTC, node ids, channel ids, hashes and txids are lower-case hex.

mod backup;
mod capital;
mod channels;
mod clients;
mod doctor;
mod events;
#[cfg(test)]
pub(crate) mod fake;
mod holds;
mod ledger;
mod list;
mod lsp;
mod node;
mod payments;
mod refusal;
mod storage;
mod time;
mod wallet;

pub use backup::*;
pub use capital::*;
pub use channels::*;
pub use clients::*;
pub use doctor::*;
pub use events::*;
pub use holds::*;
pub use ledger::*;
pub use list::*;
pub use lsp::*;
pub use node::*;
pub use payments::*;
pub use refusal::*;
pub use storage::*;
pub use time::Time;
pub use wallet::*;

use async_trait::async_trait;
use tokio::sync::broadcast;

/// A running node, as its operator sees it.
///
/// Wherever an id is taken, a prefix of it that fits one thing only will do; [`pick`] does that. Every method may be called
/// from many connections at once. Whatever is refused leaves everything as it was.
#[async_trait]
pub trait Control: Send + Sync + 'static {
	/// Is it up, is it safe, is it earning, what should be done?
	async fn status(&self) -> Result<Status, Refusal>;
	/// What this node is.
	async fn info(&self) -> Result<Info, Refusal>;
	/// Where it stands with the chain.
	async fn sync(&self) -> Result<SyncState, Refusal>;
	/// The feerates in use and how old they are.
	async fn fees(&self) -> Result<Fees, Refusal>;
	/// What the store has written since the start.
	async fn storage(&self) -> Result<Storage, Refusal>;
	/// How the backup stands.
	async fn backup(&self) -> Result<Backup, Refusal>;
	/// Begins a snapshot on each target and returns at once.
	async fn backup_now(&self) -> Result<Backup, Refusal>;
	/// A look at everything that can be wrong.
	async fn doctor(&self) -> Result<Doctor, Refusal>;
	/// Begins a graceful stop and returns at once.
	async fn stop(&self) -> Result<Stopping, Refusal>;

	/// On-chain and Lightning money.
	async fn balance(&self) -> Result<Balance, Refusal>;
	/// A fresh address of the wallet; it is stored before it is returned.
	async fn new_address(&self) -> Result<NewAddress, Refusal>;
	/// Sends on-chain, or with [`SendRequest::dry_run`] only says what that would cost.
	async fn send(&self, request: SendRequest) -> Result<Sent, Refusal>;
	/// Unspent outputs of the wallet.
	async fn utxos(&self, list: ListRequest) -> Result<Page<Utxo>, Refusal>;

	/// Peers, connected or to be reconnected.
	async fn peers(&self, list: ListRequest) -> Result<Page<Peer>, Refusal>;
	/// Connects to a peer and returns once its `init` has arrived.
	async fn connect(&self, request: ConnectRequest) -> Result<Peer, Refusal>;
	/// Disconnects a peer and no longer reconnects to it. Refused while it has channels.
	async fn disconnect(&self, node_id: String) -> Result<Disconnected, Refusal>;

	/// Channels that are not closed.
	async fn channels(&self, list: ListRequest) -> Result<Page<Channel>, Refusal>;
	/// One channel.
	async fn channel(&self, id: String) -> Result<Channel, Refusal>;
	/// Opens a channel; returns once the opening is under way.
	async fn open_channel(&self, request: OpenChannelRequest) -> Result<Opening, Refusal>;
	/// Closes a channel, together with its peer or ([`CloseRequest::force`]) alone. A channel under lease is refused unless
	/// [`CloseRequest::break_lease`] is set.
	async fn close_channel(&self, id: String, request: CloseRequest) -> Result<Closing, Refusal>;
	/// Sets what forwarding over a channel costs; fields that are `None` stay as they are.
	async fn set_channel_policy(&self, id: String, request: ChannelPolicyRequest) -> Result<Channel, Refusal>;

	/// Makes a BOLT 11 invoice.
	async fn invoice(&self, request: InvoiceRequest) -> Result<Invoice, Refusal>;
	/// Makes a BOLT 12 offer.
	async fn offer(&self, request: OfferRequest) -> Result<Offer, Refusal>;
	/// Pays, and returns when the payment is done or failed, or after [`PayRequest::wait_secs`] as it stands.
	async fn pay(&self, request: PayRequest) -> Result<Payment, Refusal>;
	/// Payments in and out, newest first.
	async fn payments(&self, list: ListRequest) -> Result<Page<Payment>, Refusal>;
	/// One payment.
	async fn payment(&self, id: String) -> Result<Payment, Refusal>;

	/// Channels ordered with LSPS1, newest first.
	async fn orders(&self, list: ListRequest) -> Result<Page<Order>, Refusal>;
	/// One order with its history.
	async fn order(&self, id: String) -> Result<OrderDetail, Refusal>;
	/// Channels sold just in time with LSPS2, newest first.
	async fn sales(&self, list: ListRequest) -> Result<Page<Sale>, Refusal>;
	/// One sale with its history.
	async fn sale(&self, id: String) -> Result<SaleDetail, Refusal>;
	/// For how long payments are held.
	async fn holds(&self) -> Result<HoldTimes, Refusal>;
	/// Clients.
	async fn clients(&self, list: ListRequest) -> Result<Page<Client>, Refusal>;
	/// A client, what holds for it and why.
	async fn client(&self, id: String) -> Result<ClientDetail, Refusal>;
	/// Sets what holds for a client, known or (by its whole node id) not yet. What is left out stays as it is.
	async fn set_client(&self, id: String, settings: ClientSettings) -> Result<ClientDetail, Refusal>;
	/// Forgets all that was set for a client.
	async fn clear_client(&self, id: String) -> Result<ClientDetail, Refusal>;
	/// Tokens, newest first.
	async fn tokens(&self, list: ListRequest) -> Result<Page<Token>, Refusal>;
	/// Issues a token, and shows it this once.
	async fn issue_token(&self, request: TokenRequest) -> Result<IssuedToken, Refusal>;
	/// A token and who uses it.
	async fn token(&self, id: String) -> Result<TokenDetail, Refusal>;
	/// Revokes a token: who uses it falls back to the tier that it has earned.
	async fn revoke_token(&self, id: String) -> Result<TokenDetail, Refusal>;
	/// What a channel would cost a client now, term by term.
	async fn quote(&self, request: QuoteRequest) -> Result<Quote, Refusal>;
	/// What was earned and spent, newest first, with totals over all time.
	async fn ledger(&self, list: ListRequest) -> Result<Ledger, Refusal>;
	/// Where the capital is, and how many channels it still makes.
	async fn capital(&self) -> Result<Capital, Refusal>;
	/// Which idle channels could give theirs back. Nothing is done.
	async fn reclaim_plan(&self) -> Result<ReclaimPlan, Refusal>;
	/// Tells clients of idle channels, or closes these together with them, as the plan says.
	async fn reclaim(&self, request: ReclaimRequest) -> Result<Reclaimed, Refusal>;
	/// Compares the ledger with what LDK and BDK say that there is.
	async fn ledger_check(&self, request: LedgerCheckRequest) -> Result<LedgerCheck, Refusal>;
	/// What each client, channel, tier or month brought, and what capital it took.
	async fn ledger_report(&self, request: LedgerReportRequest) -> Result<LedgerReport, Refusal>;

	/// The newest events, oldest of them first, at most [`EVENTS_KEPT`].
	fn recent_events(&self) -> Vec<Event>;
	/// Events from now on.
	fn events(&self) -> broadcast::Receiver<Event>;
}
