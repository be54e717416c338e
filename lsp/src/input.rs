//! What goes into the core and what comes out of it.

use crate::book::{NodeId, OrderId, PaymentHash, SaleId, Write};
use crate::capital::Holding;
use crate::ledger::{Fact, Flow};
use crate::market::Market;
use crate::money::{FeePerKw, Msat, Sat};
use crate::notice::Notice;
use crate::tiers::Overrides;
use crate::tokens::{Token, TokenId};
use bitcoin::{Network, OutPoint, Txid};

/// What the core is told of the world, taken afresh for each input.
#[derive(Clone, Debug)]
pub struct World {
	/// Which network.
	pub network: Network,
	/// Height of the best block.
	pub height: u32,
	/// Is our view of the chain current? Nothing is sold while it is not.
	pub synced: bool,
	/// Is the disk nearly full? Nothing new is sold while it is; what was sold is delivered.
	pub disk_low: bool,
	/// Feerate of a transaction that should be mined in about six blocks; `None` while no fresh estimate is known.
	pub feerate: Option<FeePerKw>,
	/// What the node knows of feerates besides.
	pub market: Market,
	/// What the wallet could fund a channel with: confirmed coins, less the anchor reserve, reservations not deducted.
	pub spendable: Sat,
	/// Channels of ours that are in use while their funding is in no block.
	pub unconfirmed: Sat,
	/// The client that the input is about, see [`Input::client`](Input::client).
	pub peer: PeerView,
	/// Those of [`Book::waiting_clients`](crate::book::Book::waiting_clients) that are connected.
	pub present: Vec<NodeId>,
	/// 32 fresh random bytes.
	pub entropy: [u8; 32],
	/// A fresh intercept SCID.
	pub fresh_scid: u64,
}

/// A client as the node sees it now.
#[derive(Clone, Debug, Default)]
pub struct PeerView {
	/// Connected, its `init` received.
	pub connected: bool,
	/// Its channels.
	pub channels: Vec<ChannelView>,
	/// Payments of which an HTLC is on its way to it, over whichever channel.
	pub in_flight: Vec<PaymentHash>,
	/// The node remembers [`Action::TextErrors`] of it.
	pub text_errors: bool,
	/// Those of its channels that can be made larger now.
	pub growable: Vec<Growable>,
}

/// A channel that can be made larger now: its peer knows how, and it is old enough and waits for enough confirmations that
/// nobody can undo that, see `docs/decisions/0004`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Growable {
	/// LDK's channel id.
	pub channel_id: [u8; 32],
	/// LDK's `user_channel_id`.
	pub user_channel_id: u128,
	/// Its size.
	pub capacity: Sat,
	/// The most that its peer lets us have in flight to it. It does not grow with the channel.
	pub in_flight: Msat,
	/// Is it public?
	pub public: bool,
}

/// A channel as the node sees it now.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelView {
	/// LDK's channel id.
	pub channel_id: [u8; 32],
	/// LDK's `user_channel_id`.
	pub user_channel_id: u128,
	/// Ready and connected.
	pub usable: bool,
	/// What we could send over it in one HTLC now.
	pub next_outbound_htlc_limit: Msat,
	/// The smallest HTLC that we may send over it.
	pub next_outbound_htlc_minimum: Msat,
}

/// Something happened. The node may report each more than once (a replay); the core takes each once.
#[derive(Clone, Debug)]
pub enum Input {
	/// A message of type 37913 arrived.
	Message {
		/// From whom.
		peer: NodeId,
		/// Its payload.
		bytes: Vec<u8>,
	},
	/// A peer connected (its `init` was received).
	Connected {
		/// Who.
		peer: NodeId,
	},
	/// The deadline that [`Book::next_deadline`](crate::book::Book::next_deadline) named, or a new block, has come.
	Tick,
	/// LDK intercepted an HTLC to one of our intercept SCIDs, or to a private channel whose peer is away.
	HtlcIntercepted {
		/// LDK's `InterceptId`.
		intercept_id: [u8; 32],
		/// Where the payer wants it to go.
		scid: u64,
		/// Its payment.
		payment_hash: PaymentHash,
		/// What arrived.
		inbound: Msat,
		/// What the payer told us to forward.
		expected_outbound: Msat,
		/// Height at which the outgoing HTLC would expire.
		expiry_height: Option<u32>,
		/// The channel that the SCID names, if it is a real one.
		channel: Option<Hop>,
	},
	/// LDK no longer holds this HTLC (forwarding or failing it was refused).
	HtlcGone {
		/// LDK's `InterceptId`.
		intercept_id: [u8; 32],
	},
	/// A forward to this client failed downstream (LDK's `HTLCHandlingFailed`), or its channel went away.
	ForwardFailed {
		/// The client.
		peer: NodeId,
		/// Over which channel it should have gone: LDK may have chosen another one of this client than we did.
		channel_id: [u8; 32],
		/// The client, or whoever is behind it, refused it. Else it never got there: no room, not connected, closed.
		by_client: bool,
	},
	/// A forward was settled: we have the money.
	Forwarded {
		/// The peer that it was sent to.
		next_peer: Option<NodeId>,
		/// The channel that it was sent over.
		next_channel: Option<[u8; 32]>,
		/// Routing and opening fee together.
		total_fee: Msat,
		/// The opening fee in it; zero also if LDK does not know.
		skimmed: Msat,
		/// LDK's `InterceptId`, if it was intercepted (or could have been).
		intercept_id: Option<[u8; 32]>,
		/// What names this forward for ever, so that it is booked once.
		reference: String,
		/// What came in over which channels, if it is known.
		came: Vec<Flow>,
		/// What went out over which channels, if it is known.
		went: Vec<Flow>,
	},
	/// The funding transaction is out and the peer's signature in hand.
	Funded {
		/// Which channel.
		user_channel_id: u128,
		/// LDK's channel id.
		channel_id: [u8; 32],
		/// The funding output.
		funding: OutPoint,
		/// What the miner gets, if we know it; of a transaction that funds several channels, this one's part.
		fee: Option<Sat>,
		/// Does the transaction fund other channels too?
		shared: bool,
	},
	/// All channels that this transaction is to fund are signed for, and durable: it can be broadcast.
	AllSigned {
		/// The transaction.
		funding: Txid,
		/// The channels, each by its `user_channel_id`.
		channels: Vec<u128>,
	},
	/// The peer's signature is in hand, and the funding transaction is made and not broadcast: its coins are locked.
	FundingWithheld {
		/// Which channel.
		user_channel_id: u128,
		/// LDK's channel id.
		channel_id: [u8; 32],
		/// The funding output.
		funding: OutPoint,
	},
	/// What [`Action::DiscardFunding`] asked for is done: the coins are free.
	FundingDiscarded {
		/// Which channel.
		user_channel_id: u128,
	},
	/// The channel can be used.
	ChannelReady {
		/// Which channel.
		user_channel_id: u128,
		/// LDK's channel id.
		channel_id: [u8; 32],
	},
	/// The channel could not be opened: the peer refused, it went away, there was no money.
	OpenFailed {
		/// Which channel.
		user_channel_id: u128,
		/// Why, for people.
		reason: String,
		/// The node could not open it for reasons of its own (no coins at this moment, too many channels being opened),
		/// so the client is not to blame, and it may go better soon.
		ours: bool,
	},
	/// The channel is closed. Of an order that is being opened it says that its funding is not out and never will be:
	/// else the node says [`Input::Funded`] first, and nothing while it cannot tell.
	ChannelClosed {
		/// Which channel.
		user_channel_id: u128,
		/// Why, for people.
		reason: String,
		/// The client closed it, or made us close it: by what it sent, or by an HTLC that it did not settle in time.
		by_client: bool,
	},
	/// The channel of an order that is being opened is closed, its funding is not known to be out, and the client has
	/// received or spent something over it: the funding is wanted whatever happens, and is not withdrawn when it is
	/// refused.
	FundingKept {
		/// Which channel.
		user_channel_id: u128,
	},
	/// What [`Action::PreparePayment`] asked for.
	PaymentPrepared {
		/// For which order.
		order: OrderId,
		/// BOLT11 hold invoice and its payment hash.
		invoice: Option<(String, PaymentHash)>,
		/// A fresh address of our wallet.
		address: Option<String>,
	},
	/// [`Action::PreparePayment`] could not be done.
	PrepareFailed {
		/// For which order.
		order: OrderId,
		/// Why, for people.
		reason: String,
	},
	/// A payment to one of our hold invoices is held by LDK.
	PaymentHeld {
		/// Its hash.
		payment_hash: PaymentHash,
		/// How much.
		amount: Msat,
		/// Height by which it must be claimed or failed.
		claim_deadline: Option<u32>,
	},
	/// A held payment was claimed: we have the money.
	PaymentClaimed {
		/// Its hash.
		payment_hash: PaymentHash,
		/// How much.
		amount: Msat,
		/// What came over which channels, if it is known.
		over: Vec<Flow>,
	},
	/// What an order's address holds now: all outputs that ever paid to it and are still in the chain or the mempool.
	AddressActivity {
		/// Which address.
		address: String,
		/// Its outputs.
		received: Vec<crate::book::Received>,
	},
	/// What [`Action::TryOpening`] asked for: the client has refused such a channel, or has not.
	OpeningTried {
		/// For which order.
		order: OrderId,
		/// What it said, if it refused. Silence, and a client that could not be asked, are no refusal.
		refusal: Option<String>,
	},
	/// What [`Action::Refund`] or [`Action::BumpRefund`] asked for is out.
	RefundSent {
		/// For which order.
		order: OrderId,
		/// Which of its refunds.
		number: u32,
		/// The transaction.
		txid: Txid,
		/// How much it gives back, what is taken off for the miner included.
		amount: Sat,
		/// What the miner gets.
		fee: Sat,
		/// The part of that which is not taken off `amount`: ours.
		borne: Sat,
	},
	/// A refund that is out stands like this in the chain.
	RefundSeen {
		/// For which order.
		order: OrderId,
		/// Its transaction, or one that was replaced and was mined after all.
		txid: Txid,
		/// 0 in the mempool, or not even there.
		confirmations: u32,
	},
	/// A refund can never be mined, since the payment that it was to give back is gone, and it was withdrawn.
	RefundLost {
		/// For which order.
		order: OrderId,
		/// Which of its refunds.
		number: u32,
	},
	/// The operator closes a channel although its client has a lease on it: on record, whatever LDK makes of it.
	LeaseBroken {
		/// LDK's channel id.
		channel_id: [u8; 32],
		/// How many blocks it should have stayed.
		blocks_left: u32,
	},
	/// What the node sees of every client in [`Book::sleepers`](crate::book::Book::sleepers). Due at the start, once
	/// the chain is in step, and with every new block.
	Survey {
		/// One for each.
		clients: Vec<Sight>,
	},
	/// The node has something for a client that is away, other than a payment.
	Wanted {
		/// Who.
		peer: NodeId,
		/// What it is to be told.
		notice: Notice,
	},
	/// Channels as the node sees them, to find those whose capital is idle.
	Holdings {
		/// The channels.
		holdings: Vec<Holding>,
		/// The operator wants it now, of these, whether the reclaimer is on or not, and however many.
		asked: bool,
	},
	/// What moved in the wallet or the channels that no other input tells: for the books.
	Money(Fact),
	/// The operator decided something at run time.
	Operator(Deed),
	/// The process has started: re-issue what every unfinished state implies.
	Started,
}

/// What the operator decides at run time. What cannot be (a tier that is not there, a text that is too long) changes
/// nothing: whoever asks looks first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
	/// Issues a token.
	IssueToken(Token),
	/// Revokes one.
	RevokeToken(TokenId),
	/// Sets what holds for a client, in place of what was set before.
	SetClient {
		/// Who.
		client: NodeId,
		/// What.
		overrides: Overrides,
	},
}

/// A channel that an HTLC is to go over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
	/// Its peer.
	pub peer: NodeId,
	/// LDK's channel id.
	pub channel_id: [u8; 32],
}

/// A client as the node sees it with a new block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
	/// Who.
	pub client: NodeId,
	/// Connected, its `init` received.
	pub connected: bool,
	/// Has it a channel that is ready?
	pub has_channel: bool,
	/// The height at which we have to close one of its channels because of a contract that it does not settle.
	pub closes_at: Option<u32>,
}

/// What the node is to do. Each may be issued again after a restart and must then do no harm.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
	/// Send a message of type 37913.
	Send {
		/// To whom.
		peer: NodeId,
		/// Its payload.
		bytes: Vec<u8>,
	},
	/// Remember of this peer, which has no row, that it cannot parse an object in `error.data`:
	/// [`PeerView::text_errors`]. In memory, over its next connection (the client half of LDK is deaf until then), for
	/// as many peers as the node likes.
	TextErrors {
		/// Who.
		peer: NodeId,
	},
	/// Forward a held HTLC.
	ForwardHtlc {
		/// LDK's `InterceptId`.
		intercept_id: [u8; 32],
		/// To whom.
		peer: NodeId,
		/// Over which channel.
		channel_id: [u8; 32],
		/// How much.
		amount: Msat,
	},
	/// Fail a held HTLC back to the payer.
	FailHtlc {
		/// LDK's `InterceptId`.
		intercept_id: [u8; 32],
		/// Why, for the log.
		reason: String,
	},
	/// Open a channel, unless one with this `user_channel_id` exists, or existed and its funding is or may be out.
	OpenChannel(OpenChannel),
	/// Open these channels with one transaction that funds them all, each of them once. Who refuses, goes away, or has not
	/// accepted when [`Action::HurryTogether`] comes, is left out, which [`Input::OpenFailed`] or [`Input::ChannelClosed`]
	/// says; of one that is left alone the channel is opened by itself. When the transaction is made, it is for all or for
	/// none: for all, [`Input::AllSigned`] is asked; for none, each gets [`Input::OpenFailed`]. Asked for again as
	/// [`Action::OpenChannel`] with its `batch`.
	OpenTogether {
		/// Names them.
		batch: u128,
		/// The channels, at one feerate.
		channels: Vec<OpenChannel>,
	},
	/// Time is up for those of these that have not answered; and, the next time but one, for those that have not signed.
	HurryTogether {
		/// Which channels.
		batch: u128,
	},
	/// Broadcast this transaction. The node answers with [`Input::Funded`] for each channel when the backend has it.
	BroadcastShared {
		/// The transaction.
		funding: Txid,
	},
	/// It is not wanted: its channels are closed, then its coins are free, and [`Input::OpenFailed`] says so of each.
	DiscardShared {
		/// The transaction.
		funding: Txid,
	},
	/// Put coins of ours into a channel that is there, unless that was begun already. Answered by [`Input::Funded`] when its
	/// new funding is in the chain, or by [`Input::OpenFailed`] when that will never be; not before.
	SpliceIn(SpliceIn),
	/// Abandon a channel that is not funded yet, or a splice that is not signed. Answered by [`Input::OpenFailed`] if there is no such channel, by
	/// [`Input::Funded`] if its funding is out, else by [`Input::ChannelClosed`] once LDK has closed it; not yet, while
	/// the chain backend has given no verdict on a funding that was handed to it, or refuses it and the client has used
	/// the channel. The funding of an order that has lapsed is void: unless the client has used the channel, it is not
	/// sent any more, and the backend is only asked whether it has it.
	AbandonChannel {
		/// Which channel.
		user_channel_id: u128,
		/// The peer.
		peer: NodeId,
	},
	/// Begin to open a channel, and drop it when the client has accepted it, unfunded and without a trace. Answered by
	/// [`Input::OpeningTried`], within seconds.
	TryOpening {
		/// For which order.
		order: OrderId,
		/// The channel. Its `user_channel_id` is the trial's own.
		open: OpenChannel,
	},
	/// Broadcast a withheld funding transaction. Answered by [`Input::Funded`]; the node keeps the transaction until
	/// then.
	BroadcastFunding {
		/// Which channel.
		user_channel_id: u128,
		/// LDK's channel id.
		channel_id: [u8; 32],
		/// The funding output.
		funding: OutPoint,
	},
	/// Free the coins of a withheld funding transaction. Answered by [`Input::FundingDiscarded`], or not at all while
	/// LDK still has the channel, which it is then told to close.
	DiscardFunding {
		/// Which channel.
		user_channel_id: u128,
		/// The peer.
		peer: NodeId,
		/// The funding output.
		funding: OutPoint,
	},
	/// Tell the operator.
	Warn {
		/// For programs.
		code: &'static str,
		/// For people.
		text: String,
	},
	/// Make a hold invoice and/or an address.
	PreparePayment {
		/// For which order.
		order: OrderId,
		/// How much.
		amount: Sat,
		/// For how long the invoice can be paid, in seconds.
		expiry_secs: u32,
		/// Is an invoice wanted?
		invoice: bool,
		/// Is an address wanted?
		address: bool,
	},
	/// Claim a held payment.
	ClaimPayment {
		/// For which order.
		order: OrderId,
		/// The invoice.
		payment_hash: PaymentHash,
	},
	/// Fail a held payment back to the payer.
	FailPayment {
		/// The invoice.
		payment_hash: PaymentHash,
	},
	/// Send money back on-chain, the miner's fee taken off it. For each number of an order at most one transaction is
	/// ever mined. Answered by [`Input::RefundSent`]; asked again, by the same.
	Refund {
		/// For which order.
		order: OrderId,
		/// Which of its refunds.
		number: u32,
		/// Where to.
		address: String,
		/// How much, fee included.
		amount: Sat,
		/// The payments that are given back. They must be in the chain when the refund is made, and are spent by it if
		/// they still can be: whoever takes them back by a reorganisation takes the refund back with them.
		from: Vec<OutPoint>,
	},
	/// Raise the fee of a refund that is out: the same coins, the same recipient. Answered by [`Input::RefundSent`] or
	/// [`Input::RefundLost`]; if it cannot be done now, not at all.
	BumpRefund {
		/// For which order.
		order: OrderId,
		/// Which of its refunds.
		number: u32,
		/// Where to.
		address: String,
	},
	/// Begin to close a channel together with its peer, at this feerate. If it cannot be done now, it is not: it is asked
	/// for again.
	CloseTogether {
		/// LDK's channel id.
		channel_id: [u8; 32],
		/// Its peer.
		peer: NodeId,
		/// Feerate of the closing transaction.
		feerate: FeePerKw,
	},
	/// Send a notification to a webhook (bLIP-55), after any earlier one to the same. It may get lost.
	Notify {
		/// Whose webhook.
		client: NodeId,
		/// The client's name for it.
		app_name: String,
		/// Where to.
		url: String,
		/// What.
		notice: Notice,
	},
}

/// A channel to be opened.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenChannel {
	/// What for.
	pub owner: Owner,
	/// Marks the channel in LDK.
	pub user_channel_id: u128,
	/// With whom.
	pub peer: NodeId,
	/// Its capacity.
	pub capacity: Sat,
	/// What the peer gets at opening.
	pub push: Msat,
	/// Public?
	pub announce: bool,
	/// Confirmations before we treat it as ready: 0 for at once.
	pub confirmations: u16,
	/// The most that we may ask of the peer as `to_self_delay`.
	pub max_to_self_delay: Option<u16>,
	/// Feerate of the funding transaction.
	pub feerate: FeePerKw,
	/// Is its funding transaction withheld until [`Action::BroadcastFunding`]?
	pub withhold: bool,
	/// It is one of several that are [opened together](Action::OpenTogether): if the node knows nothing of that any more, it
	/// answers with [`Input::OpenFailed`].
	pub batch: Option<u128>,
}

/// A channel to be made larger.
#[derive(Clone, Debug, PartialEq)]
pub struct SpliceIn {
	/// For which order.
	pub order: OrderId,
	/// Marks the splice.
	pub user_channel_id: u128,
	/// With whom.
	pub peer: NodeId,
	/// LDK's id of the channel.
	pub channel_id: [u8; 32],
	/// What our side of it grows by.
	pub amount: Sat,
	/// Feerate of the transaction.
	pub feerate: FeePerKw,
}

/// Who a channel is opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
	/// A just-in-time sale.
	Sale(SaleId),
	/// An order.
	Order(OrderId),
	/// The operator, by hand.
	Operator,
}

/// The answer of the core: first commit the writes, then apply them to the book, then act.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
	/// Rows to be committed in one transaction.
	pub writes: Vec<Write>,
	/// What to do after that.
	pub actions: Vec<Action>,
}
