//! The world as a whole, and a run through it.

use super::agenda::{Agenda, Deed};
use super::chain::Chain;
use super::disk::{Disk, Durable};
use super::ldk::Ldk;
use super::parts::*;
use super::rng::Rng;
use super::temper::Temper;
use super::{Go, Stop, demand};
use bitcoin::OutPoint;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use inlet_lsp::Lsp;
use inlet_lsp::book::{Book, NodeId};
use inlet_lsp::input::{Action, Input};
use inlet_lsp::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::LazyLock;

/// 2023-11-14.
const START: u64 = 1_700_000_000_000;
const MOST_CLIENTS: usize = 300;
/// Blocks that pass at the end: longer than any HTLC or payment may be held.
const QUIET_BLOCKS: u32 = 260;

static NODES: LazyLock<Vec<NodeId>> = LazyLock::new(|| {
	let context = Secp256k1::new();
	let node = |number: u64| {
		let secret = SecretKey::from_slice(&id32(9, number)).expect("below the curve's order");
		PublicKey::from_secret_key(&context, &secret)
	};
	(0..MOST_CLIENTS as u64).map(node).collect()
});

/// 32 bytes of their own for each kind and number.
pub(crate) fn id32(kind: u8, number: u64) -> [u8; 32] {
	let mut id = [0; 32];
	id[0] = kind;
	id[8..16].copy_from_slice(&number.to_be_bytes());
	id
}

/// How a run is to go.
#[derive(Clone, Copy, Debug)]
pub struct Options {
	/// Steps of the core, at least; the quiet end comes on top.
	pub steps: u64,
	/// Lines of the trace that a failure shows.
	pub trace: usize,
}

impl Default for Options {
	fn default() -> Self {
		Options { steps: 2_000, trace: 60 }
	}
}

/// What happened in a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
	/// Steps of the core.
	pub steps: u64,
	/// Times that the process died.
	pub crashes: u64,
	/// Sales (`lsps2.buy` answered).
	pub sales: u64,
	/// Orders (`lsps1.create_order` answered).
	pub orders: u64,
	/// Channels whose funding went out.
	pub funded: u64,
	/// HTLCs that clients took.
	pub settled: u64,
	/// Refunds that the wallet sent.
	pub refunds: u64,
	/// Times that their fee was raised.
	pub bumped: u64,
	/// Refunds that were lost with the payment that they gave back.
	pub lost: u64,
	/// Notices to clients that are away.
	pub notices: u64,
	/// HTLCs for channels of clients that were away, which these took when they were back.
	pub woken: u64,
	/// Channels that the client refused when they were tried.
	pub refused: u64,
	/// Funding transactions that were withheld.
	pub withheld: u64,
	/// Withheld ones that went out when the payment was taken.
	pub released: u64,
	/// Withheld ones whose coins were freed.
	pub discarded: u64,
	/// Fundings of orders that nobody took, and that were withdrawn.
	pub withdrawn: u64,
	/// Commits that the power failure undid.
	pub torn: u64,
	/// Orders that were delivered when their payment had lapsed.
	pub unpaid: u64,
}

impl Report {
	/// Both together.
	pub fn plus(self, other: Report) -> Report {
		Report {
			steps: self.steps + other.steps,
			crashes: self.crashes + other.crashes,
			sales: self.sales + other.sales,
			orders: self.orders + other.orders,
			funded: self.funded + other.funded,
			settled: self.settled + other.settled,
			refunds: self.refunds + other.refunds,
			bumped: self.bumped + other.bumped,
			lost: self.lost + other.lost,
			notices: self.notices + other.notices,
			woken: self.woken + other.woken,
			refused: self.refused + other.refused,
			withheld: self.withheld + other.withheld,
			released: self.released + other.released,
			discarded: self.discarded + other.discarded,
			withdrawn: self.withdrawn + other.withdrawn,
			torn: self.torn + other.torn,
			unpaid: self.unpaid + other.unpaid,
		}
	}
}

/// Something was not as it must be.
#[derive(Clone, Debug)]
pub struct Failure {
	/// In which run.
	pub seed: u64,
	/// After so many steps.
	pub step: u64,
	/// What.
	pub what: String,
	/// What came before, the last line last.
	pub trace: Vec<String>,
}

pub(crate) struct Sim {
	pub rng: Rng,
	pub temper: Temper,
	pub now: Timestamp,
	pub lsp: Lsp,
	pub book: Book,
	pub disk: Disk,
	pub agenda: Agenda,
	pub ldk: Ldk,
	pub chain: Chain,
	pub people: Vec<Person>,
	pub by_node: BTreeMap<NodeId, usize>,
	pub bought: Vec<Bought>,
	pub payments: BTreeMap<u64, Payment>,
	pub offers: BTreeMap<String, Offer>,
	/// The number of the process that runs now.
	pub process: u32,
	/// What this process has not been told of again since it started.
	pub unraised: BTreeSet<[u8; 32]>,
	/// Refunds that this process is sending: by order, the payments that are given back.
	pub refunding: BTreeMap<String, Vec<OutPoint>>,
	/// Channels that this process opens and was not told the end of; has it made a funding transaction?
	pub opening: BTreeMap<u128, bool>,
	pub attending: bool,
	/// When a client was sent a notice of a kind over a webhook, since it was here last, by this process.
	pub notified: BTreeMap<(NodeId, String, String), u64>,
	pub open_channels: u64,
	pub block_pace: u64,
	/// Millisatoshis: the wallet at the beginning, what payers owe us for what was settled, what is on its way from closed
	/// channels, what closes cost, and the sum of the ledger.
	pub initial: i128,
	pub upstream: i128,
	pub sweeping: i128,
	pub unbooked: i128,
	pub ledger: i128,
	pub steps: u64,
	pub tally: Report,
	counter: u64,
	stuck: u32,
	checked: u64,
	trace: VecDeque<String>,
	trace_most: usize,
}

/// Runs the world of this seed. The same seed and options always give the same run.
///
/// # Errors
/// What was not as it must be, with the end of the trace.
pub fn run(seed: u64, options: Options) -> Result<Report, Box<Failure>> {
	let mut first = Sim::of(seed, 0);
	let Err(what) = first.live(options.steps) else { return Ok(Report { steps: first.steps, ..first.tally }) };
	// Once more, with the trace.
	let mut again = Sim::of(seed, options.trace.max(1));
	let second = again.live(options.steps);
	let same = second.as_ref().is_err_and(|other| *other == what) && again.steps == first.steps;
	let what = if same { what } else { format!("{what}\nand it did not happen again: {second:?}") };
	let trace = again.trace.into();
	Err(Box::new(Failure { seed, step: first.steps, what, trace }))
}

impl Sim {
	fn of(seed: u64, trace_most: usize) -> Sim {
		let mut rng = Rng::new(seed);
		let temper = Temper::of(&mut rng);
		let block_pace = rng.pick(&[20_000, 120_000, 600_000]);
		let mut sim = Sim::new(rng, temper, Disk::Store(Box::new(Durable::new())));
		(sim.block_pace, sim.trace_most) = (block_pace, trace_most);
		sim.begin();
		sim
	}

	/// A world in which nothing is going on yet.
	pub(crate) fn new(mut rng: Rng, temper: Temper, disk: Disk) -> Sim {
		let lsp = Lsp::new(temper.policy.clone(), [7; 32]).expect("a policy that is allowed");
		let mut people = Vec::new();
		for id in NODES.iter().take(temper.clients) {
			people.push(Person {
				id: *id,
				online: false,
				like_ldk: rng.percent(30),
				text_errors: false,
				asked: BTreeMap::new(),
				menu: None,
				orders: Vec::new(),
				channels: Vec::new(),
				blurred: false,
			});
		}
		let by_node = people.iter().enumerate().map(|(who, person)| (person.id, who)).collect();
		Sim {
			rng,
			now: Timestamp(START),
			lsp,
			book: Book::default(),
			disk,
			agenda: Agenda::default(),
			ldk: Ldk::default(),
			chain: Chain { height: 800_000, synced: true, ..Chain::default() },
			people,
			by_node,
			bought: Vec::new(),
			payments: BTreeMap::new(),
			offers: BTreeMap::new(),
			process: 0,
			unraised: BTreeSet::new(),
			refunding: BTreeMap::new(),
			opening: BTreeMap::new(),
			attending: false,
			notified: BTreeMap::new(),
			open_channels: 0,
			block_pace: 600_000,
			initial: 0,
			upstream: 0,
			sweeping: 0,
			unbooked: 0,
			ledger: 0,
			steps: 0,
			tally: Report::default(),
			counter: 0,
			stuck: 0,
			checked: 0,
			trace: VecDeque::new(),
			trace_most: 0,
			temper,
		}
	}

	pub(crate) fn begin(&mut self) {
		for _ in 0..self.temper.coins {
			let (number, sat) = (self.fresh(), self.temper.coin_sat);
			self.chain.give(number, sat, Some(self.chain.height - 10));
			self.initial += i128::from(sat) * 1_000;
		}
		self.fees();
		for who in 0..self.people.len() {
			let at = self.now.0 + self.rng.range(0, self.temper.client_pace);
			self.agenda.plan(at, None, Deed::Client(who));
		}
		self.agenda.plan(self.now.0 + self.block_pace, None, Deed::Block);
		self.agenda.plan(self.now.0 + 100_000, None, Deed::Sync);
		if self.temper.crash_ppm > 0 {
			self.agenda.plan(self.now.0 + 50_000, None, Deed::PowerCut);
		}
	}

	pub(crate) fn fresh(&mut self) -> u64 {
		self.counter += 1;
		self.counter
	}

	pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
		if self.trace_most == 0 {
			return;
		}
		if self.trace.len() >= self.trace_most {
			self.trace.pop_front();
		}
		self.trace.push_back(format!("{:>7} {:>10.3}s {}", self.steps, (self.now.0 - START) as f64 / 1e3, line()));
	}

	/// The whole run, and the quiet after it.
	fn live(&mut self, steps: u64) -> Result<(), String> {
		let started = self.take(Input::Started);
		self.survive(started)?;
		while self.steps < steps {
			let gone_on = self.go_on();
			self.survive(gone_on)?;
		}
		self.end()
	}

	/// The world comes to rest, and everything must be finished.
	pub(crate) fn end(&mut self) -> Result<(), String> {
		self.come_to_rest();
		let end = self.chain.height + QUIET_BLOCKS;
		while self.chain.height < end {
			let gone_on = self.go_on();
			self.survive(gone_on)?;
		}
		self.checked = 0;
		let rested = self.check_points().and_then(|()| self.check_rest());
		self.survive(rested)
	}

	/// After a crash the next process begins, until one stays alive.
	pub(crate) fn survive(&mut self, mut done: Go) -> Result<(), String> {
		loop {
			match done {
				Ok(()) => return Ok(()),
				Err(Stop::Flaw(what)) => return Err(what),
				Err(Stop::Crash) => done = self.restart(),
			}
		}
	}

	pub(crate) fn go_on(&mut self) -> Go {
		let due = self.book.next_deadline().map(|at| at.0);
		let next = self.agenda.next_time().expect("blocks come for ever");
		if let Some(due) = due.filter(|due| *due <= next.max(self.now.0)) {
			self.stuck = if due <= self.now.0 { self.stuck + 1 } else { 0 };
			demand(self.stuck < 5, || "a deadline that has passed is not cleared".into())?;
			self.now.0 = self.now.0.max(due);
			return self.take(Input::Tick);
		}
		self.stuck = 0;
		if self.steps >= self.checked + 100 {
			self.check_points()?;
		}
		let (at, process, deed) = self.agenda.pop().expect("blocks come for ever");
		self.now.0 = self.now.0.max(at);
		if process.is_some_and(|process| process != self.process) {
			return Ok(());
		}
		if !matches!(deed, Deed::Fees) {
			self.note(|| format!("{deed:?}"));
		}
		self.act(deed)
	}

	fn act(&mut self, deed: Deed) -> Go {
		match deed {
			Deed::Client(who) => return self.client(who),
			Deed::Pay { sale } => self.pay(sale),
			Deed::Part { payment, amount, expiry } => self.part(payment, amount, expiry),
			Deed::ClientLooks { payment } => self.client_looks(payment),
			Deed::OnChain { channel } => self.end_on_chain(channel),
			Deed::PeerAnswers { channel } => return self.peer_answers(channel),
			Deed::PeerSigns { channel } => return self.peer_signs(channel),
			Deed::Ready { channel } => self.ready(channel),
			Deed::Close { channel } => self.close(channel, "closed"),
			Deed::Swept { sat } => self.swept(sat),
			Deed::Prepared { order, invoice, address, amount } => {
				return self.prepared(order, invoice, address, amount);
			}
			Deed::PayInvoice { hash, msat } => self.pay_invoice(hash, msat),
			Deed::PayAddress { address, sat } => return self.pay_address(address, sat),
			Deed::Refund { order } => return self.refund(order),
			Deed::Bump { order, number } => return self.bump(order, number),
			Deed::Tried { order, refusal } => return self.take(Input::OpeningTried { order, refusal }),
			Deed::Discard { channel } => return self.discard(channel),
			Deed::PayChannel { channel } => self.pay_channel(channel),
			Deed::Verdict { channel } => return self.verdict(channel),
			Deed::LastWord { htlc } => self.settle(htlc),
			Deed::Pump => return self.pump(),
			Deed::Save => return self.save(),
			Deed::Attend => return self.attend(),
			Deed::GraceOver => return self.grace_over(),
			Deed::Block => {
				self.block()?;
				return self.check_expiry();
			}
			Deed::Fees => self.fees(),
			Deed::Sync => {
				self.chain.synced = !self.rng.percent(10);
				let at = self.now.0 + self.rng.around(60_000);
				self.agenda.plan(at, None, Deed::Sync);
			}
			Deed::PowerCut => {
				let at = self.now.0 + self.rng.around(3_000_000_000 / u64::from(self.temper.crash_ppm.max(1)));
				self.agenda.plan(at, None, Deed::PowerCut);
				return if self.temper.crash_ppm > 0 { Err(Stop::Crash) } else { Ok(()) };
			}
		}
		Ok(())
	}

	fn swept(&mut self, sat: u64) {
		self.sweeping -= i128::from(sat) * 1_000;
		let number = self.fresh();
		self.chain.give(number, sat, None);
	}

	pub(crate) fn check_points(&mut self) -> Go {
		self.checked = self.steps;
		self.check_book()?;
		self.check_balance()?;
		if self.rng.percent(20) {
			let found = Book::restore(self.disk.load());
			self.check_replay(&found)?;
		}
		Ok(())
	}

	/// From here on nobody starts anything, and nothing goes wrong.
	fn come_to_rest(&mut self) {
		self.temper.calm();
		self.chain.synced = true;
		self.agenda.retain(|deed| {
			!matches!(
				deed,
				Deed::Client(_)
					| Deed::Pay { .. }
					| Deed::PayChannel { .. }
					| Deed::PayInvoice { .. }
					| Deed::PayAddress { .. }
					| Deed::PowerCut
					| Deed::Sync | Deed::Close { .. }
			)
		});
		self.block_pace = 600_000;
		let all_here = self.rng.percent(50);
		for who in 0..self.people.len() {
			if all_here {
				self.people[who].online = true;
			}
		}
		self.note(|| format!("-- quiet; clients are here: {all_here} --"));
	}
}

/// An input in a line.
pub(crate) fn brief(input: &Input) -> String {
	let text = match input {
		Input::Message { bytes, .. } => format!("Message {}", String::from_utf8_lossy(bytes)),
		other => format!("{other:?}"),
	};
	shorten(&text)
}

/// An action in a line.
pub(crate) fn brief_action(action: &Action) -> String {
	let text = match action {
		Action::Send { bytes, .. } => format!("Send {}", String::from_utf8_lossy(bytes)),
		other => format!("{other:?}"),
	};
	shorten(&text)
}

/// Ids are long lists of bytes, most of them 0.
fn shorten(text: &str) -> String {
	text.replace(", 0, 0, 0, 0, 0, 0, 0, 0", "").chars().take(400).collect()
}
