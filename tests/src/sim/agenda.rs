//! What is going to happen, and when.

use std::collections::BTreeMap;

/// Something that happens at its time.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
	/// A client does what comes to its mind.
	Client(usize),
	/// A payer pays to a SCID.
	Pay { sale: usize },
	/// A payer pays to a channel that a client has.
	PayChannel { channel: u128 },
	/// A part of a payment reaches LDK.
	Part { payment: u64, amount: u64, expiry: u32 },
	/// The client looks at what it was forwarded of a payment.
	ClientLooks { payment: u64 },
	/// HTLCs on a closed channel are settled by the chain.
	OnChain { channel: u128 },
	/// The peer answers `open_channel`.
	PeerAnswers { channel: u128 },
	/// The peer signs the funding.
	PeerSigns { channel: u128 },
	/// The channel may be ready.
	Ready { channel: u128 },
	/// The preimage of an HTLC on a channel that has ended is told.
	LastWord { htlc: [u8; 32] },
	/// The chain backend says whether it has an order's funding.
	Verdict { channel: u128 },
	/// A channel closes.
	Close { channel: u128 },
	/// The money of a closed channel comes back.
	Swept { sat: u64 },
	/// Invoice and address of an order are made.
	Prepared { order: String, invoice: bool, address: bool, amount: u64 },
	/// Somebody pays an order's invoice.
	PayInvoice { hash: [u8; 32], msat: u64 },
	/// Somebody pays to an order's address.
	PayAddress { address: String, sat: u64 },
	/// The wallet tries to send the refund that the book wants.
	Refund { order: String },
	/// The wallet raises the fee of a refund.
	Bump { order: String, number: u32 },
	/// The client has answered a trial opening, or has not.
	Tried { order: String, refusal: Option<String> },
	/// The coins of a withheld funding are freed.
	Discard { channel: u128 },
	/// LDK's events are handled.
	Pump,
	/// LDK's state is on the disk.
	Save,
	/// Clients that are awaited and here are reported again.
	Attend,
	/// What LDK did not raise again after the start is gone.
	GraceOver,
	/// A block.
	Block,
	/// Another feerate.
	Fees,
	/// Our view of the chain falls behind or catches up.
	Sync,
	/// The power fails, between two inputs.
	PowerCut,
}

/// The deeds to come, soonest first, in the order in which they were planned if at the same time.
#[derive(Default)]
pub(crate) struct Agenda {
	deeds: BTreeMap<(u64, u64), (Option<u32>, Deed)>,
	planned: u64,
}

impl Agenda {
	/// With a process number, the deed dies with that process.
	pub(crate) fn plan(&mut self, at: u64, process: Option<u32>, deed: Deed) {
		self.planned += 1;
		self.deeds.insert((at, self.planned), (process, deed));
	}

	pub(crate) fn next_time(&self) -> Option<u64> {
		self.deeds.first_key_value().map(|((at, _), _)| *at)
	}

	pub(crate) fn pop(&mut self) -> Option<(u64, Option<u32>, Deed)> {
		self.deeds.pop_first().map(|((at, _), (process, deed))| (at, process, deed))
	}

	pub(crate) fn retain(&mut self, keep: impl Fn(&Deed) -> bool) {
		self.deeds.retain(|_, (_, deed)| keep(deed));
	}
}
