//! The commercial life of an LSP: clients, sales, orders and the ledger, in memory, as the store last committed it.
//!
//! The book changes only by [`Write`]s: the driver commits them, then [applies](Book::apply) them. Rows are JSON in the
//! store; a field is only ever added, with a default.

use crate::money::{FeePerKw, Msat, Sat};
use crate::tiers::Overrides;
use crate::time::Timestamp;
use crate::tokens::{Token, TokenId};
use crate::trust::Offence;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, Txid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

mod accounts;
mod hex_u128;
mod index;
mod months;
mod state;
mod wake;

pub use accounts::{
	Account, BookedTx, Books, BooksRow, BooksState, ChannelSums, FINAL_AFTER, Folded, MAX_FUNDINGS_KEPT, MonthSums,
	NoAccount, Posting, Reclaiming,
};
pub(crate) use index::order_reserved;
pub use index::{LEDGER_IN_MEMORY, Lease, MAX_CLIENTS, MAX_FINISHED, MAX_OFFENCES_IN_MEMORY};
pub use months::month_of;
pub(crate) use months::months_before;
pub use state::SETTLED;
pub(crate) use state::{DUST, push_bounded};
pub use wake::{Changes, HeldHtlc, MAX_WAKE_HISTORY, Wake, Webhook};

/// A client is known by its node id.
pub type NodeId = PublicKey;
/// A just-in-time sale, `s_` and 12 characters.
pub type SaleId = String;
/// An ordered channel, a UUID v4.
pub type OrderId = String;

/// All that the core knows.
#[derive(Clone, Debug, Default)]
pub struct Book {
	pub(crate) clients: BTreeMap<NodeId, Client>,
	pub(crate) sales: BTreeMap<SaleId, Sale>,
	pub(crate) orders: BTreeMap<OrderId, Order>,
	/// At most [`MAX_TOKENS`](crate::tokens::MAX_TOKENS).
	pub(crate) tokens: BTreeMap<TokenId, Token>,
	/// The newest entries only; the store keeps them all.
	pub(crate) ledger: VecDeque<Entry>,
	pub(crate) next_entry: u64,
	/// The sums of the ledger.
	pub(crate) books: Books,
	/// What is kept up by `apply`, never written elsewhere.
	pub(crate) index: index::Index,
}

/// One row to be written. Rows are upserts: writing one twice is writing it once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Write {
	/// Insert or replace a client.
	Client(Client),
	/// Insert or replace a sale.
	Sale(Sale),
	/// Insert or replace an order.
	Order(Order),
	/// Append (or, in a replay, write again) a ledger entry.
	Ledger(Entry),
	/// Delete the ledger entries with a smaller number: what they add up to is in [`BooksRow::Folded`]. They are old, and not
	/// in memory.
	Forget(u64),
	/// Insert or replace what the books keep beside the entries.
	Books(BooksRow),
	/// Insert or replace a token.
	Token(Token),
}

/// What we know of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Client {
	/// Its node id.
	pub id: NodeId,
	/// When it first spoke to us.
	pub first_seen: Timestamp,
	/// It cannot parse an object in `error.data` (LDK's client half): it gets strings. The same client (up to
	/// lightning-liquidity 0.2) does not know the payment state `HOLD` either: it is told `PAID`.
	#[serde(default)]
	pub string_error_data: bool,
	/// Just-in-time channels that it was sold and paid.
	#[serde(default)]
	pub sales_done: u32,
	/// Ordered channels that it was sold and paid.
	#[serde(default)]
	pub orders_done: u32,
	/// Channels that were opened or paid for and came to nothing through its doing.
	#[serde(default)]
	pub offences: u32,
	/// Its webhooks, and what is held for it while it sleeps (bLIP-55).
	#[serde(default)]
	pub wake: Wake,
	/// The newest of them, newest last, at most [`MAX_OFFENCES_KEPT`](crate::trust::MAX_OFFENCES_KEPT).
	#[serde(default)]
	pub offence_log: Vec<Offence>,
	/// Payments that it received over its channels, up to
	/// [`MAX_COUNTED_PAYMENTS`](crate::policy::MAX_COUNTED_PAYMENTS).
	#[serde(default)]
	pub payments: u32,
	/// The tier that the operator was told last; empty is `new`.
	#[serde(default)]
	pub tier: String,
	/// What the operator has set for it.
	#[serde(default, skip_serializing_if = "Overrides::is_empty")]
	pub overrides: Overrides,
	/// What happened to its tier, newest last, at most [`MAX_CLIENT_HISTORY`].
	#[serde(default, skip_serializing_if = "Vec::is_empty")]
	pub history: Vec<Note>,
	/// The token that it has shown.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub token: Option<TokenId>,
}

/// The terms of an LSPS2 offer, as promised: bLIP-52's `opening_fee_params` without the promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
	/// `min_fee_msat`.
	pub min_fee: Msat,
	/// `proportional`, in parts per million.
	pub proportional: u32,
	/// `valid_until`.
	pub valid_until: Timestamp,
	/// `min_lifetime`, in blocks.
	pub min_lifetime: u32,
	/// `max_client_to_self_delay`, in blocks.
	pub max_client_to_self_delay: u32,
	/// `min_payment_size_msat`.
	pub min_payment: Msat,
	/// `max_payment_size_msat`.
	pub max_payment: Msat,
}

/// A channel sold just in time (LSPS2), from `buy` on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sale {
	/// Its id.
	pub id: SaleId,
	/// Who bought it.
	pub client: NodeId,
	/// The SCID that the client puts into its invoice.
	pub scid: u64,
	/// Marks the channel in LDK, so that it is opened once. Every further attempt has a fresh one.
	#[serde(with = "hex_u128")]
	pub user_channel_id: u128,
	/// The marks of earlier attempts that came to nothing, newest last, at most [`MAX_ATTEMPTS_KEPT`].
	#[serde(default, with = "hex_u128::list")]
	pub earlier_channel_ids: Vec<u128>,
	/// What was promised.
	pub terms: Terms,
	/// The client trusts us (bLIP-52's `client_trusts_lsp`): its funding transaction is broadcast when the payment is
	/// taken. Fixed at `buy`.
	#[serde(default)]
	pub client_trusts: bool,
	/// The payment's size if the client fixed it (bLIP-52's MPP mode).
	pub payment_size: Option<Msat>,
	/// The opening fee, from the moment that the payment's size is known.
	pub fee: Option<Msat>,
	/// On-chain money kept for this sale while it is not funded: capacity and funding fee.
	pub reserved: Sat,
	/// Where it stands.
	pub state: SaleState,
	/// HTLCs that LDK holds for this sale. At most [`RiskPolicy::max_parts`](crate::policy::RiskPolicy::max_parts).
	pub parts: Vec<Part>,
	/// Forwards that were decided, newest last, at most [`MAX_FORWARDS_KEPT`]: if LDK shows one again after a crash, it
	/// is forwarded as decided.
	#[serde(default)]
	pub forwarded: Vec<PlannedForward>,
	/// Settled forwards whose opening fee is in `fee_credited`, newest last, at most [`MAX_FORWARDS_KEPT`].
	#[serde(default)]
	pub credited: Vec<String>,
	/// Channels that ended before their funding transaction was broadcast: at most [`MAX_ATTEMPTS_KEPT`] whose coins
	/// are not free yet, and as many whose transaction went out after all.
	#[serde(default)]
	pub discarding: Vec<Discarding>,
	/// Which payment pays the fee, once the parts of one have added up.
	pub paying: Option<PaymentHash>,
	/// When the client must have taken the payment that was sent over its withheld channel.
	#[serde(default)]
	pub claim_by: Option<Timestamp>,
	/// Since when it has not, if that time is over: the channel is dropped when it is seen to be here and to hold it.
	#[serde(default)]
	pub overdue_since: Option<Timestamp>,
	/// How much of the fee has been credited, part by part.
	pub fee_credited: Msat,
	/// What the channel was expected to cost us when it was opened (see [`Costs`](crate::quote::Costs)).
	#[serde(default)]
	pub expected_cost: Sat,
	/// The channel, from `OpenChannel` on.
	pub channel: Option<SoldChannel>,
	/// When `buy` was answered.
	pub created_at: Timestamp,
	/// What happened, newest last, at most [`MAX_HISTORY`].
	pub history: Vec<Note>,
}

/// SHA-256 of a preimage.
pub type PaymentHash = [u8; 32];

/// How many lines of its history a sale or an order keeps.
pub const MAX_HISTORY: usize = 64;
/// How many lines of its history a client keeps.
pub const MAX_CLIENT_HISTORY: usize = 16;
/// How many decided and settled forwards a sale remembers.
pub const MAX_FORWARDS_KEPT: usize = 64;
/// How often the fee of a refund is raised.
pub const MAX_BUMPS: usize = 16;
/// How many failed attempts to open its channel a sale or an order remembers.
pub const MAX_ATTEMPTS_KEPT: usize = 8;

/// One line of the history of a sale or an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
	/// When.
	pub at: Timestamp,
	/// One word: `menu`, `buy`, `htlc`, `open`, `ready`, `forward`, `paid`, `fail`, ...
	pub step: String,
	/// The rest of the line.
	pub text: String,
}

/// Where a sale stands. Each unfinished state implies its next action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum SaleState {
	/// Promised; waiting for a payment until `terms.valid_until`.
	Bought,
	/// HTLCs are held; more parts, or the client, are waited for until `deadline`.
	Gathering {
		/// When the held parts are failed back.
		deadline: Timestamp,
	},
	/// The channel is being opened until `deadline`; HTLCs are held.
	Opening {
		/// When we give up and fail the held parts.
		deadline: Timestamp,
	},
	/// The channel is usable; the parts were forwarded and the fee is not yet earned. What arrives now is held until it
	/// is, or is owed again.
	Forwarded,
	/// The channel is open and the fee is still owed (the client failed the payment): the next payment pays it.
	Owing,
	/// The fee is earned.
	Done,
	/// Nothing came of it.
	Failed {
		/// Why, for people.
		reason: String,
	},
}

/// An HTLC that LDK intercepted and holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
	/// LDK's `InterceptId`.
	pub intercept_id: [u8; 32],
	/// The payment that it is a part of.
	pub payment_hash: PaymentHash,
	/// What the payer told us to forward, never more than what arrived.
	pub amount: Msat,
	/// Height at which the outgoing HTLC would expire.
	pub expiry_height: Option<u32>,
	/// When it arrived.
	pub arrived: Timestamp,
	/// When it is failed, while it waits beside the payment that pays the fee.
	#[serde(default)]
	pub held_until: Option<Timestamp>,
	/// When it is failed, if all parts of its payment are here and only the sleeping client is missing.
	#[serde(default)]
	pub client_until: Option<Timestamp>,
}

/// A forward that was decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedForward {
	/// LDK's `InterceptId`.
	pub intercept_id: [u8; 32],
	/// The payment that it is a part of.
	pub payment_hash: PaymentHash,
	/// What goes to the client.
	pub amount: Msat,
	/// LDK showed it again (a crash came between decision and deed) and the client is awaited until then.
	#[serde(default)]
	pub held_until: Option<Timestamp>,
	/// Height at which it expires.
	#[serde(default)]
	pub expiry_height: Option<u32>,
	/// Over another channel of the client, which it goes in full; else over the sale's own. LDK may take any of the
	/// client's.
	#[serde(default)]
	pub channel: Option<[u8; 32]>,
	/// What of the opening fee is kept back of it.
	#[serde(default)]
	pub skim: Msat,
	/// It was settled, or it failed.
	#[serde(default)]
	pub ended: bool,
}

/// A channel that ended before its funding transaction was broadcast. Its coins stay locked a while: LDK may have a
/// preimage that it did not tell of yet, and then the client has to get its channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Discarding {
	/// Its mark in LDK.
	#[serde(with = "hex_u128")]
	pub user_channel_id: u128,
	/// LDK's channel id.
	pub channel_id: [u8; 32],
	/// The funding output that holds the coins.
	pub funding: OutPoint,
	/// Its capacity.
	#[serde(default)]
	pub capacity: Sat,
	/// When the node is asked to free them (again).
	pub until: Timestamp,
	/// A payment over it was taken after all: the funding transaction goes out.
	#[serde(default)]
	pub release: bool,
	/// It is out. What else is settled over it is still known for this sale's.
	#[serde(default)]
	pub out: bool,
}

/// A channel that we opened for a sale or an order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SoldChannel {
	/// Its capacity.
	pub capacity: Sat,
	/// LDK's channel id, once the funding transaction is known.
	pub channel_id: Option<[u8; 32]>,
	/// The funding output, once it is out.
	pub funding: Option<OutPoint>,
	/// When the funding transaction was broadcast.
	pub funded_at: Option<Timestamp>,
	/// Usable since.
	pub ready_at: Option<Timestamp>,
	/// Closed since.
	pub closed_at: Option<Timestamp>,
	/// Height below which we do not close it.
	pub keep_until_height: u32,
	/// The funding output, signed for by the client, while its transaction is not broadcast.
	#[serde(default)]
	pub withheld: Option<OutPoint>,
	/// The client took a payment over it: the withheld transaction goes out.
	#[serde(default)]
	pub release: bool,
}

/// A channel ordered with LSPS1, from `create_order` on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
	/// Its id.
	pub id: OrderId,
	/// Who ordered it.
	pub client: NodeId,
	/// The JSON-RPC id of the `create_order` that still waits for its answer.
	pub reply_to: Option<String>,
	/// Marks the channel in LDK, so that it is opened once. Every further attempt has a fresh one.
	#[serde(with = "hex_u128")]
	pub user_channel_id: u128,
	/// The marks of earlier attempts that came to nothing, newest last, at most [`MAX_ATTEMPTS_KEPT`].
	#[serde(default, with = "hex_u128::list")]
	pub earlier_channel_ids: Vec<u128>,
	/// Our side of the channel.
	pub lsp_balance: Sat,
	/// The client's side of the channel, pushed at opening.
	pub client_balance: Sat,
	/// Confirmations before the channel is ready.
	pub required_channel_confirmations: u16,
	/// How soon the funding should be mined, in blocks.
	pub funding_confirms_within_blocks: u16,
	/// The lease, in blocks.
	pub channel_expiry_blocks: u32,
	/// A token that the config lists, empty if none.
	pub token: String,
	/// A token that was issued, [sealed](crate::tokens::seal).
	#[serde(default, skip_serializing_if = "String::is_empty")]
	pub sealed_token: String,
	/// Public channel?
	pub announce_channel: bool,
	/// Where money goes back to.
	pub refund_address: Option<String>,
	/// Our fee.
	pub fee_total: Sat,
	/// Fee and client balance: what is to be paid.
	pub order_total: Sat,
	/// What the channel was expected to cost us when it was ordered, or opened (see [`Costs`](crate::quote::Costs)).
	#[serde(default)]
	pub expected_cost: Sat,
	/// When `create_order` came in.
	pub created_at: Timestamp,
	/// Unpaid after this, it is over.
	pub expires_at: Timestamp,
	/// On-chain money kept for this order while it is not funded: our balance, client's balance, funding fee.
	pub reserved: Sat,
	/// Payment by Lightning.
	pub lightning: Option<LightningOption>,
	/// Payment on-chain.
	pub onchain: Option<OnchainOption>,
	/// How the channel was paid for, once it is funded.
	#[serde(default)]
	pub paid_by: Option<PaidBy>,
	/// The client refused such a channel before it was offered: nothing was ever promised.
	#[serde(default)]
	pub refused: bool,
	/// The held payment went back, or LDK let it go, before it was known whether the channel's funding is out: if it
	/// is, the channel is delivered and nobody pays for it.
	#[serde(default)]
	pub lapsed: bool,
	/// Its channel was closed before its funding was known to be out, and was used by then: the funding is sent on and
	/// on.
	#[serde(default)]
	pub kept: bool,
	/// The channel of its client that is made larger for it, if one is.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub splice: Option<Box<Splice>>,
	/// No channel could be made larger for it: it gets one of its own.
	#[serde(default, skip_serializing_if = "std::ops::Not::not")]
	pub own_channel: bool,
	/// How it stands with sharing a funding transaction with orders of other clients, if it does, or did.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub batch: Option<Box<Batch>>,
	/// Where it stands.
	pub state: OrderState,
	/// The channel, from `OpenChannel` on.
	pub channel: Option<SoldChannel>,
	/// What happened, newest last, at most [`MAX_HISTORY`].
	pub history: Vec<Note>,
}

/// A channel that is made larger, instead of another one being opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Splice {
	/// LDK's channel id, which stays as it was.
	pub channel_id: [u8; 32],
	/// Marks that channel in LDK. (The order's own mark marks the splice.)
	#[serde(with = "hex_u128")]
	pub user_channel_id: u128,
	/// When it was asked for, or we were started after that.
	#[serde(default)]
	pub begun: Timestamp,
	/// When the node is asked to give it up, if the client has not signed by then; and again.
	pub until: Timestamp,
}

/// An order and others, whose channels one transaction is to fund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Batch {
	/// It is paid, and waits for others.
	Waiting {
		/// Until then.
		until: Timestamp,
	},
	/// Its channel is opened, or was, together with those of others.
	Together {
		/// Names them.
		#[serde(with = "hex_u128")]
		id: u128,
		/// When the node is asked to go on without whoever has not answered, or to give it up; and again.
		until: Timestamp,
	},
	/// It waited in vain, or what was begun together came to nothing: its channel is opened alone.
	Alone,
}

/// A hold invoice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LightningOption {
	/// BOLT11, for `order_total`.
	pub invoice: String,
	/// Its payment hash.
	pub payment_hash: PaymentHash,
	/// Height at which LDK fails the held payment by itself; we do so before.
	pub claim_deadline: Option<u32>,
	/// Its state, in bLIP-51's words.
	pub state: PaymentState,
}

/// An address of ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OnchainOption {
	/// For this order only.
	pub address: String,
	/// Offered as `min_fee_for_0conf`.
	pub min_fee_for_0conf: FeePerKw,
	/// What arrived there, sorted by outpoint.
	pub received: Vec<Received>,
	/// The newest refund, once it is decided. There is a next one only when this one is [settled](Refund::is_settled).
	pub refund: Option<Refund>,
	/// The number of `refund`, or of the next one: each number is one payment back to the client, ever.
	#[serde(default)]
	pub refunds: u32,
	/// What the refunds before that gave back.
	#[serde(default)]
	pub refunded: Sat,
	/// The order was delivered, and its payment is no longer in the chain, nor on its way there.
	#[serde(default)]
	pub lost: bool,
	/// Its state, in bLIP-51's words.
	pub state: PaymentState,
}

/// An on-chain payment to an order's address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Received {
	/// The output.
	pub outpoint: OutPoint,
	/// Its value.
	pub value: Sat,
	/// Confirmations at the last look, 0 in the mempool.
	pub confirmations: u32,
	/// The feerate of the transaction that pays, if we could compute it.
	pub feerate: Option<FeePerKw>,
}

/// Money that goes back on-chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refund {
	/// Where to.
	pub address: String,
	/// What is sent, the transaction's fee to be taken off it.
	pub amount: Sat,
	/// The transaction, once it is out: of several that replace each other the newest, or the one in the chain.
	pub txid: Option<Txid>,
	/// What we bear of the miner's fee.
	#[serde(default)]
	pub borne: Sat,
	/// Its earlier forms, newest last: each spends the same coins, so that one of all is mined at most. At most
	/// [`MAX_BUMPS`].
	#[serde(default)]
	pub replaced: Vec<ReplacedRefund>,
	/// Confirmations at the last look.
	#[serde(default)]
	pub confirmations: u32,
	/// When its fee is raised, if it is not in the chain by then.
	#[serde(default)]
	pub bump_at: Option<Timestamp>,
}

/// A refund's transaction whose fee was too low.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplacedRefund {
	/// The transaction.
	pub txid: Txid,
	/// What we bear of its fee.
	pub borne: Sat,
}

/// bLIP-51's payment states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PaymentState {
	/// Nothing arrived yet.
	ExpectPayment,
	/// A Lightning payment is held.
	Hold,
	/// Paid.
	Paid,
	/// Given back, or never taken.
	Refunded,
}

/// By which of its options an order was paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaidBy {
	/// The hold invoice.
	Lightning,
	/// The address.
	Onchain,
}

/// Where an order stands. Each unfinished state implies its next action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum OrderState {
	/// Its invoice and address are being made; nothing was promised.
	Preparing,
	/// Answered; waiting for a payment until `expires_at`.
	AwaitingPayment,
	/// Paid (or held); the client must be here to get its channel, until `deadline`.
	Paid {
		/// How.
		by: PaidBy,
		/// When the money goes back.
		deadline: Timestamp,
		/// We could not open the channel, and do not try again before.
		#[serde(default)]
		retry_at: Option<Timestamp>,
	},
	/// The channel is being opened, until `deadline`.
	Opening {
		/// How it was paid.
		by: PaidBy,
		/// When the money goes back.
		deadline: Timestamp,
	},
	/// It is too late, and the node was asked to stop the channel. The funding may be out already, so the money goes
	/// back only when the answer is that there is no channel; if it is funded, the order is delivered.
	Abandoning {
		/// How it was paid.
		by: PaidBy,
		/// When the node is asked again.
		deadline: Timestamp,
		/// Why, for people.
		reason: String,
	},
	/// The funding is out. If paid by Lightning, the payment is being claimed.
	Funded {
		/// How it was paid.
		by: PaidBy,
	},
	/// Delivered and paid.
	Completed,
	/// The on-chain payment is going back.
	Refunding {
		/// Why, for people.
		reason: String,
	},
	/// Nothing came of it; what was paid has gone back.
	Failed {
		/// Why, for people.
		reason: String,
	},
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
	/// Its number, from 0, without gaps.
	pub seq: u64,
	/// When.
	pub at: Timestamp,
	/// What for.
	pub kind: EntryKind,
	/// Positive: earned. Negative: spent.
	pub amount_msat: i64,
	/// With whom.
	pub client: Option<NodeId>,
	/// The sale or order (or, for forwards and on-chain costs, the channel or transaction).
	pub reference: String,
	/// Which accounts it moves; they add up to zero. Entries from before the books were opened have none.
	#[serde(default)]
	pub postings: Vec<Posting>,
}

/// What an entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
	/// Opening fee of a just-in-time channel.
	JitFee,
	/// Fee of an ordered channel, client balance not included.
	OrderFee,
	/// A forwarded payment.
	RoutingFee,
	/// Miner fee of a funding transaction.
	FundingCost,
	/// Miner fee of a refund that the client did not bear.
	RefundCost,
	/// Payment for an order taken in that is not our fee: the balance that we push to the client.
	ClientBalance,
	/// A forwarded payment that earned nothing.
	Forward,
	/// What was there when the books were opened.
	Opening,
	/// The owner put coins in, or a peer gave us a balance.
	Deposit,
	/// The owner took coins out, the miner's fee included.
	Withdrawal,
	/// A client paid for an order, on-chain or by Lightning.
	OrderPayment,
	/// A payment went back to a client.
	Refund,
	/// Coins became a channel.
	ChannelFunding,
	/// A closing transaction paid the wallet.
	ChannelClose,
	/// What a closing cost.
	CloseCost,
	/// Miner fee of what hurries a closing.
	BumpCost,
	/// Miner fee of bringing home what a closed channel left.
	SweepCost,
	/// Miner fee of a payment from the wallet to itself.
	ConsolidationCost,
	/// A payment to an invoice of the node's own.
	PaymentReceived,
	/// A payment of the node's own, with what its routing cost.
	PaymentSent,
	/// What was given and not paid for.
	Loss,
}

impl EntryKind {
	/// Does it make the owner richer or poorer?
	pub fn is_profit(self) -> bool {
		self.is_cost() || matches!(self, EntryKind::JitFee | EntryKind::OrderFee | EntryKind::RoutingFee)
	}

	/// Is it what was paid for the business?
	pub fn is_cost(self) -> bool {
		use EntryKind::*;
		matches!(self, FundingCost | RefundCost | CloseCost | BumpCost | SweepCost | ConsolidationCost | Loss)
	}
}
