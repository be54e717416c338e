//! What the node tells the books: what moved, in the wallet and in the channels, that no other input tells.

use crate::book::{Entry, NodeId, OrderId};
use crate::money::{Msat, Sat};
use bitcoin::{OutPoint, Txid};

/// What happened to our money. Each may come twice.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
	/// What there is, for the first entry. Taken once: a book that is open stays as it is.
	Opening {
		/// Height of the best block.
		height: u32,
		/// All coins of the wallet, unconfirmed ones included.
		wallet: Msat,
		/// Channels with a funding.
		channels: Vec<Standing>,
		/// The wallet's transactions that are not final, with what each of them changed.
		txs: Vec<(Txid, Option<u32>, i64)>,
	},
	/// The wallet's transactions that are not booked like this.
	Wallet {
		/// Height of the best block.
		height: u32,
		/// New, or back.
		txs: Vec<WalletTx>,
		/// Booked, and not in the wallet any more.
		gone: Vec<Txid>,
		/// Booked, and now in a block at this height, or in none.
		moved: Vec<(Txid, Option<u32>)>,
	},
	/// A payment to an invoice of the node's own.
	Received {
		/// Its hash.
		reference: String,
		/// What came over which channel.
		over: Vec<Flow>,
	},
	/// A payment that the node made is settled.
	Sent {
		/// What names it.
		reference: String,
		/// What the recipient got.
		amount: Msat,
		/// What its routing cost.
		fee: Msat,
	},
	/// A part of a payment that the node made went over this channel.
	SentOver {
		/// What names the payment.
		reference: String,
		/// Over which channel, and how much with its fees.
		flow: Flow,
	},
	/// A peer gave us a balance when it opened a channel.
	Given {
		/// The channel.
		channel: Standing,
	},
	/// LDK has this channel no more.
	Closed {
		/// LDK's channel id.
		channel_id: [u8; 32],
	},
	/// Nothing more comes of this closed channel.
	Settled {
		/// LDK's channel id.
		channel_id: [u8; 32],
	},
	/// The books were compared with LDK's and BDK's balances, and agree.
	Agreed {
		/// [`Book::next_entry`](crate::book::Book::next_entry) at that time.
		before: u64,
	},
	/// The oldest entries of the store, which may be old enough to be folded into totals: from
	/// [`Book::fold_from`](crate::book::Book::fold_from) on, in order.
	Oldest {
		/// At most [`FOLD_AT_ONCE`](crate::ledger::FOLD_AT_ONCE).
		entries: Vec<Entry>,
	},
}

/// A channel and our side of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
	/// LDK's channel id.
	pub channel_id: [u8; 32],
	/// Its peer.
	pub client: NodeId,
	/// Its funding output.
	pub funding: Option<OutPoint>,
	/// Its size.
	pub capacity: Sat,
	/// What is ours of it.
	pub ours: Msat,
}

/// What moved over a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
	/// LDK's channel id.
	pub channel_id: [u8; 32],
	/// How much.
	pub amount: Msat,
}

/// A transaction of the wallet.
#[derive(Clone, Debug, PartialEq)]
pub struct WalletTx {
	/// Which.
	pub txid: Txid,
	/// What it pays to the wallet less what it spends of it.
	pub delta_msat: i64,
	/// In which block it is.
	pub height: Option<u32>,
	/// What it is for.
	pub purpose: Purpose,
}

/// A channel that a transaction of the wallet funds.
#[derive(Clone, Debug, PartialEq)]
pub struct NewChannel {
	/// LDK's channel id.
	pub channel_id: [u8; 32],
	/// Our mark for the channel.
	pub user_channel_id: u128,
	/// With whom, if it is known.
	pub client: Option<NodeId>,
	/// The funding output.
	pub funding: OutPoint,
	/// Its value.
	pub capacity: Sat,
	/// What the operator gives to the peer of a channel that nobody ordered.
	pub given: Msat,
}

/// What a transaction of the wallet is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Purpose {
	/// It funds these channels of ours, of which there is at least one.
	Funding {
		/// In the order in which they share the fee, see [`share_of`](crate::ledger::share_of).
		channels: Vec<NewChannel>,
	},
	/// It makes a channel larger, with coins of ours.
	Splice {
		/// LDK's channel id.
		channel_id: [u8; 32],
		/// The mark of the order that it is for.
		user_channel_id: u128,
		/// Its new funding output.
		funding: OutPoint,
		/// The channel's size when it is used.
		capacity: Sat,
		/// What our side grows by.
		added: Msat,
	},
	/// It closes a channel and pays our part of it.
	Close {
		/// LDK's channel id.
		channel_id: [u8; 32],
	},
	/// It brings home what closed channels left.
	Sweep {
		/// What of which channel.
		outputs: Vec<Flow>,
	},
	/// It hurries the closing of a channel, or claims an HTLC of it, with coins of ours.
	Bump {
		/// LDK's channel id.
		channel_id: Option<[u8; 32]>,
	},
	/// It gives money back to a client.
	Refund {
		/// For which order.
		order: OrderId,
	},
	/// It comes from elsewhere, to addresses of orders and to others.
	Incoming {
		/// What of it is for which order.
		orders: Vec<(OrderId, Msat)>,
	},
	/// The owner sends it; the miner's fee is part of the change.
	Outgoing {
		/// What the miner gets.
		fee: Msat,
	},
	/// All of it stays in the wallet, but for the miner's fee.
	Consolidation,
}
