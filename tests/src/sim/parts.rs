//! What the world is made of.

use bitcoin::{OutPoint, Txid};
use inlet_lsp::book::NodeId;
use inlet_lsp::input::Owner;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A client of the LSP: the person and the wallet.
pub(crate) struct Person {
	pub id: NodeId,
	pub online: bool,
	/// Sends `"token": null`, and cannot read objects in errors.
	pub like_ldk: bool,
	/// The node remembers that of it, although it has no row.
	pub text_errors: bool,
	/// Requests that wait for their answer.
	pub asked: BTreeMap<String, Asked>,
	pub menu: Option<Value>,
	pub orders: Vec<String>,
	/// Channels that LDK lists.
	pub channels: Vec<u128>,
	/// LDK has told of an HTLC of this client in a way that fits several of its sales: it names peer and channel only, and
	/// may have chosen another channel. From then on, whose fee was paid is a guess.
	pub blurred: bool,
}

pub(crate) enum Asked {
	Menu,
	Buy { size: Option<u64>, terms: Value },
	Order,
	Other,
}

/// A SCID that a client has bought, and what it was promised.
pub(crate) struct Bought {
	pub client: usize,
	pub scid: u64,
	pub size: Option<u64>,
	pub min_fee: u64,
	pub proportional: u64,
	pub min: u64,
	pub max: u64,
	/// The largest opening fee that the promise allows for a payment that was made.
	pub owed: u64,
	/// What was skimmed of payments that the client took.
	pub paid: u64,
	/// Not bought at all: the SCID of this channel, which bears no fee.
	pub hop: Option<u128>,
}

impl Bought {
	/// The opening fee of a payment of this size, as bLIP-52 has it.
	pub(crate) fn fee(&self, size: u64) -> u64 {
		let share = (u128::from(size) * u128::from(self.proportional)).div_ceil(1_000_000);
		self.min_fee.max(u64::try_from(share).unwrap_or(u64::MAX))
	}
}

/// A payment to a SCID.
pub(crate) struct Payment {
	pub sale: usize,
	pub scid: u64,
	pub hash: [u8; 32],
	/// What the payer means to pay in all.
	pub total: u64,
	pub parts: Vec<[u8; 32]>,
	/// The client has taken it, or refused it for good.
	pub decided: bool,
	/// When the client saw the first part.
	pub seen: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum HtlcState {
	/// Intercepted.
	Held,
	/// On its way to the client, over this channel.
	Forwarded { channel: u128, amount: u64 },
	/// Failed back by us.
	Failed,
	/// The client took it, and we were paid.
	Settled,
	/// The client, or its channel, failed it.
	Returned,
}

/// An HTLC to an intercept SCID.
pub(crate) struct Htlc {
	pub payment: u64,
	pub inbound: u64,
	pub expected: u64,
	pub expiry: u32,
	pub state: HtlcState,
	/// What the disk says.
	pub saved: HtlcState,
	/// This process was told of it.
	pub shown: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stage {
	/// `open_channel` is sent.
	Asked,
	/// The funding transaction is made and not signed for.
	Funding,
	/// The funding transaction is out.
	Out,
	/// Usable, when the peer is here.
	Ready,
	/// Closed.
	Closed,
}

/// A channel of ours with a client.
pub(crate) struct Channel {
	pub client: usize,
	pub owner: Owner,
	/// Satoshis.
	pub capacity: u64,
	/// Millisatoshis on our side, what is in flight included.
	pub local: u64,
	pub in_flight: u64,
	pub stage: Stage,
	pub funding: Option<OutPoint>,
	/// What the miner got.
	pub fee: u64,
	pub feerate: u64,
	pub confirmations: u16,
	/// Millisatoshis that the client had at the opening.
	pub push: u64,
	/// The funding transaction was broadcast.
	pub was_out: bool,
	/// Of an order's: the wallet sends it until somebody takes it.
	pub handed: bool,
	/// The chain backend says that it has taken it.
	pub taken: bool,
	/// The chain backend says that it does not take it.
	pub refused: bool,
	/// It is never sent again, and its coins are free.
	pub withdrawn: bool,
	/// LDK's record of it is on the disk.
	pub saved: bool,
	/// The funding transaction is broadcast when we are told to.
	pub withhold: bool,
	/// HTLCs on their way over it.
	pub pending: BTreeSet<[u8; 32]>,
}

impl Channel {
	/// Is the wallet sending its funding, or has sent it?
	pub(crate) fn is_handed(&self) -> bool {
		self.handed && !self.withdrawn
	}

	/// Has the client received or spent anything over it, or has an HTLC on its way?
	pub(crate) fn is_used(&self) -> bool {
		self.local != self.capacity * 1_000 - self.push || !self.pending.is_empty()
	}
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum HoldState {
	Held,
	Failed,
	/// `claim_funds` was called.
	Claiming,
	Claimed,
}

/// A payment to one of our hold invoices.
pub(crate) struct Hold {
	pub msat: u64,
	pub deadline: u32,
	pub state: HoldState,
	pub saved: HoldState,
}

/// What an order was offered.
pub(crate) struct Offer {
	pub hash: Option<[u8; 32]>,
	pub address: Option<String>,
	pub sat: u64,
}

/// An output of our wallet.
#[derive(Clone, Debug)]
pub(crate) struct Coin {
	pub outpoint: OutPoint,
	pub sat: u64,
	/// For the funding of this channel.
	pub locked: Option<u128>,
}

/// An output to an order's address.
pub(crate) struct Deposit {
	pub outpoint: OutPoint,
	pub sat: u64,
	pub feerate: u32,
}

/// A refund that the wallet has made.
pub(crate) struct Sent {
	/// What goes back, the miner's fee included that the recipient bears.
	pub amount: u64,
	pub inputs: Vec<Coin>,
	/// As it was sent, and as it was sent again for more.
	pub forms: Vec<Form>,
	/// The form that is in the mempool, or in the chain.
	pub live: usize,
	/// A payment that it spends was taken back.
	pub dead: bool,
	/// The wallet knows that.
	pub withdrawn: bool,
}

/// A refund's transaction.
pub(crate) struct Form {
	pub txid: Txid,
	pub fee: u64,
	/// What we bear of the fee.
	pub borne: u64,
}

impl Sent {
	pub(crate) fn live(&self) -> &Form {
		&self.forms[self.live]
	}

	/// The change of one of its forms.
	pub(crate) fn change(&self, form: &Form) -> Coin {
		let inputs: u64 = self.inputs.iter().map(|coin| coin.sat).sum();
		let sat = inputs - self.amount - form.borne;
		Coin { outpoint: OutPoint::new(form.txid, 0), sat, locked: None }
	}
}
