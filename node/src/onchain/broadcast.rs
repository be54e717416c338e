//! Transactions on their way to the miners: kept, persisted and sent again until the chain has them.
//!
//! LDK hands over packages synchronously and re-issues claims, but not every funding transaction; so nothing that comes
//! in is ever dropped for want of a connection. A package leaves when it (or something that spends its inputs) is
//! [`DEEP`] blocks deep.

use super::chain::Trouble;
use super::keep::{Folder, Keep};
use crate::crash;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{OutPoint, Transaction, Txid};
use inlet_storage::Store;
use lightning::chain::chaininterface::{BroadcasterInterface, TransactionType};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// Most distinct transactions on their way at once. Far above what a node with thousands of channels has in flight.
pub const MAX_TRANSACTIONS: usize = 10_000;
/// Confirmations after which a transaction is not looked at again.
pub(crate) const DEEP: u32 = 6;
/// What the chain has not taken is sent again after this, or when a block comes.
pub(crate) const RESEND: Duration = Duration::from_secs(60);
/// Troubles told at once.
const MAX_TROUBLES: usize = 20;
/// An inclusive limit on the text that a backend gives as its reason.
const MAX_REASON: usize = 300;

/// Where packages go.
pub(crate) trait Outlet: Sync {
	/// Sends one transaction, or a package of parents and one child, parents first.
	fn submit(&self, package: &[Transaction]) -> impl Future<Output = Result<(), NotSent>> + Send;

	/// Sends nothing. Has it the package's last transaction already, in its mempool or a block? Refused if not.
	fn has(&self, package: &[Transaction]) -> impl Future<Output = Result<(), NotSent>> + Send;
}

/// What is said of a package that is held back and that the backend does not have.
pub(crate) const HELD_BACK: &str = "it is held back, and nobody has it";

/// Why a package did not get into the mempool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
	/// Nobody heard it.
	Unreachable(String),
	/// The backend does not want it (now).
	Refused(String),
}

/// What the backend said of a transaction when it was last sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
	/// Nothing in this run, or it is on its way at this moment, or it is not to be sent.
	Unknown,
	/// It is in its mempool.
	Taken,
	/// It is mined.
	Mined,
	/// What conflicts with it is mined.
	Replaced,
	/// It does not want it (now).
	Refused,
}

/// Queues transactions and sees them through. LDK's [`BroadcasterInterface`].
pub struct Broadcaster {
	keep: Keep,
	state: Mutex<State>,
	wake: Notify,
	rounds: watch::Sender<u64>,
	heard: Mutex<Option<Hearer>>,
}

/// Told of each package that comes in.
type Hearer = Box<dyn Fn(&[Transaction]) + Send>;

#[derive(Default)]
struct State {
	/// By number, oldest first.
	packages: BTreeMap<u64, Package>,
	next: u64,
}

struct Package {
	row: Row,
	txs: Vec<Transaction>,
	sent: Option<Instant>,
	outcome: Option<Result<(), String>>,
	/// It was sent again for being evicted since the last block.
	rescued: bool,
	/// The backend has it in its hands.
	sending: bool,
}

/// As stored; fields are only ever added.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
	/// Parents first.
	txs: Vec<String>,
	/// A fee bump: its coins may be spent again by the next bump.
	#[serde(default)]
	bump: bool,
	/// A transaction of our own making, whose fee nobody but us can raise.
	#[serde(default)]
	own: Option<Own>,
	/// At which height it (or what conflicts with it) was mined. Stored, as a block is shown to us once only.
	#[serde(default)]
	mined: Option<u32>,
	/// What was mined in its place.
	#[serde(default)]
	replaced_by: Option<Txid>,
	/// The channel that a fee bump is for, in hexadecimal.
	#[serde(default)]
	channel: Option<String>,
	/// It is not sent any more; the backend is only asked whether it has it.
	#[serde(default)]
	held_back: bool,
	/// Not handed over for broadcast yet: only what makes it impossible is looked for.
	#[serde(default)]
	unsent: bool,
	/// What was mined in its place is [`DEEP`] blocks deep. Only a splice is kept then, until it is forgotten.
	#[serde(default)]
	impossible: bool,
}

/// What depends on a transaction of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Own {
	/// A channel.
	Funding,
	/// A payment from the wallet, or a refund.
	Payment,
	/// What makes a channel larger. It spends the channel's old funding besides our coins, and so does whatever closes the channel.
	Splice,
}

impl Broadcaster {
	/// Takes up what the last run left, to be sent again.
	///
	/// # Errors
	/// The store cannot be read, or a row is damaged.
	pub async fn open(store: Store) -> io::Result<Arc<Broadcaster>> {
		let keep = Keep(store);
		let mut state = State::default();
		for (key, bytes) in keep.all(Folder::Broadcast).await? {
			let row: Row = serde_json::from_slice(&bytes).map_err(|e| unreadable(&key, e))?;
			let txs = row.txs.iter().map(|hex| deserialize_hex(hex)).collect::<Result<Vec<Transaction>, _>>();
			let txs = txs.map_err(|e| unreadable(&key, e))?;
			state.add(Package::new(row, txs));
		}
		if !state.packages.is_empty() {
			tracing::info!(packages = state.packages.len(), "transactions from the last run are sent again");
		}
		let (rounds, _) = watch::channel(0);
		Ok(Arc::new(Broadcaster {
			keep,
			state: Mutex::new(state),
			wake: Notify::new(),
			rounds,
			heard: Mutex::default(),
		}))
	}

	/// Queues a package: one transaction, or one child with its parents in any order.
	pub fn send(&self, txs: Vec<Transaction>) {
		self.enqueue(txs, false, Some(Own::Payment), None);
	}

	/// Queues the funding transaction of a channel whose broadcast LDK leaves to us.
	pub(crate) fn send_funding(&self, tx: Transaction) {
		self.enqueue(vec![tx], false, Some(Own::Funding), None);
	}

	/// Looks for what makes a splice impossible, from before its signatures are complete. [`Broadcaster::forget`] ends it.
	pub(crate) fn watch_splice(&self, tx: &Transaction) {
		let mut state = self.lock();
		if state.find(&tx.compute_txid()).is_none() {
			let row = Row { unsent: true, ..Row::new(std::slice::from_ref(tx), Some(Own::Splice)) };
			let package = Package::new(row, vec![tx.clone()]);
			self.keep.write(Folder::Broadcast, &package.key(), package.bytes());
			state.add(package);
		}
	}

	/// Is a transaction that spends what this splice spends [`DEEP`] blocks deep in the chain?
	pub(crate) fn is_impossible(&self, splice: &Txid) -> bool {
		self.lock().find(splice).is_some_and(|package| package.row.impossible)
	}

	/// Is this transaction still being seen through?
	pub fn contains(&self, txid: &Txid) -> bool {
		self.lock().find(txid).is_some_and(|package| !package.row.unsent)
	}

	/// Is this transaction in a fee bump, or a claim of LDK's, and for which channel?
	pub(crate) fn bumped_channel(&self, txid: &Txid) -> Option<Option<[u8; 32]>> {
		let state = self.lock();
		let row = &state.find(txid).filter(|package| package.row.bump)?.row;
		Some(row.channel.as_ref().and_then(|id| FromHex::from_hex(id).ok()))
	}

	/// What the backend said of this transaction when it was last sent.
	pub(crate) fn standing(&self, txid: &Txid) -> Standing {
		self.lock().find(txid).map_or(Standing::Unknown, Package::standing)
	}

	/// How many packages are on their way, and how many of them the backend refused at the last try.
	pub fn waiting(&self) -> (usize, usize) {
		let state = self.lock();
		let sent = || state.packages.values().filter(|package| !package.row.unsent && !package.row.impossible);
		(sent().count(), sent().filter(|package| matches!(package.outcome, Some(Err(_)))).count())
	}

	/// Waits until the backend has taken or refused this transaction, at most `limit` long (then `None`: it is tried on).
	pub async fn outcome(&self, txid: Txid, limit: Duration) -> Option<Result<(), String>> {
		let mut rounds = self.rounds.subscribe();
		let answered = async {
			loop {
				rounds.borrow_and_update();
				let outcome = self.lock().find(&txid).map(|package| package.outcome.clone());
				match outcome {
					Some(Some(outcome)) => return Some(outcome),
					Some(None) => {}
					None => return Some(Ok(())),
				}
				rounds.changed().await.ok()?;
			}
		};
		tokio::time::timeout(limit, answered).await.ok().flatten()
	}

	/// Stops sending a transaction that will never be wanted.
	pub(crate) fn forget(&self, txid: &Txid) {
		self.drop_where(&mut self.lock(), |package| package.txids().any(|id| id == *txid));
	}

	/// A transaction that is not wanted any more, but may have arrived when nobody heard the answer, is not sent again: the
	/// backend is asked whether it has it, and that is what was said of it. Or it is wanted after all.
	pub(crate) fn hold_back(&self, txid: &Txid, held_back: bool) {
		let mut state = self.lock();
		let own = |package: &&mut Package| package.txids().any(|id| id == *txid) && package.row.mined.is_none();
		for package in state.packages.values_mut().filter(own).filter(|package| package.row.held_back != held_back) {
			package.row.held_back = held_back;
			package.sent = None;
			self.keep.write(Folder::Broadcast, &package.key(), package.bytes());
			self.wake.notify_one();
		}
	}

	/// Stops sending a transaction that was refused, and what spends it. Returns what spends it; `None`, and nothing is
	/// changed, if it was not refused, or is on its way to the backend at this moment: what it says then decides.
	pub(crate) fn withdraw(&self, txid: &Txid) -> Option<Vec<Txid>> {
		let mut state = self.lock();
		let own = |package: &Package| package.txids().any(|id| id == *txid);
		let refused = |package: &Package| matches!(package.standing(), Standing::Refused | Standing::Replaced);
		if !state.packages.values().filter(|package| own(package)).all(refused) {
			return None;
		}
		let mut gone = self.drop_where(&mut state, |package| own(package) || package.spends(txid));
		gone.retain(|id| id != txid);
		Some(gone)
	}

	/// Stops sending what spends a transaction that will never be broadcast: the closing of a channel whose funding was
	/// withheld. Returns what was in those packages.
	pub(crate) fn forget_spenders(&self, txid: &Txid) -> Vec<Txid> {
		self.drop_where(&mut self.lock(), |package| package.spends(txid))
	}

	/// All transactions on their way, with whether they are fee bumps.
	pub(crate) fn in_flight(&self) -> Vec<(Transaction, bool)> {
		let state = self.lock();
		let waiting = state.packages.values().filter(|package| package.row.mined.is_none());
		waiting.flat_map(|package| package.txs.iter().map(|tx| (tx.clone(), package.row.bump))).collect()
	}

	/// Calls `heard` with each package that comes in, so that the wallet knows at once what its coins are used for.
	pub(crate) fn on_enqueue(&self, heard: impl Fn(&[Transaction]) + Send + 'static) {
		*self.heard.lock().expect("no code panics while it holds this lock") = Some(Box::new(heard));
	}

	/// Resolves when there is something new to send.
	pub(crate) async fn wanted(&self) {
		self.wake.notified().await;
	}

	/// Sends what is due at `now`: everything not mined that was never sent, or not since [`RESEND`], or all of it if
	/// there is a `new_block`. Stops at the first sign that the backend is away.
	///
	/// What LDK wanted written before it asked for a broadcast is durable first. LDK may ask for a commitment transaction
	/// before it is told that the closing of its channel is on disk; sent by a node that then forgets the closing, and goes on
	/// with the channel, it would be a revoked one.
	pub(crate) async fn flush(&self, outlet: &impl Outlet, now: Instant, new_block: bool) -> Result<(), NotSent> {
		let due: Vec<(u64, Vec<Transaction>, Option<Own>)> = {
			let state = self.lock();
			let due = state.packages.iter().filter(|(_, package)| package.is_due(now, new_block));
			due.map(|(&number, package)| (number, package.txs.clone(), package.row.own)).collect()
		};
		if !due.is_empty() {
			// Of the backup's disk, which may be away for hours, a claim in time must not depend.
			self.keep.settled_here().await;
		}
		let mut result = Ok(());
		for (number, txs, own) in due {
			// It may have been withdrawn, or held back, while another was sent.
			let held_back = match self.lock().packages.get_mut(&number) {
				Some(package) => {
					package.sending = true;
					package.row.held_back
				}
				None => continue,
			};
			match if held_back { outlet.has(&txs).await } else { outlet.submit(&txs).await } {
				Ok(()) => {
					crash::reached(match own {
						Some(Own::Funding) => "funding.sent.done",
						_ => "payment.sent.done",
					});
					self.sent(number, now, Ok(()));
				}
				Err(NotSent::Refused(reason)) => self.sent(number, now, Err(shorten(reason))),
				Err(away) => {
					if let Some(package) = self.lock().packages.get_mut(&number) {
						package.sending = false;
						// It may have arrived all the same: an earlier refusal says nothing any more.
						package.outcome.take_if(|outcome| outcome.is_err());
					}
					result = Err(away);
					break;
				}
			}
		}
		self.rounds.send_modify(|rounds| *rounds += 1);
		result
	}

	/// The backend may have forgotten everything: all that is not mined is sent again with the next flush.
	pub(crate) fn send_again(&self) {
		for package in self.lock().packages.values_mut().filter(|package| package.row.mined.is_none()) {
			package.sent = None;
		}
	}

	/// What the backend took and does not list any more was evicted: it is sent again with the next flush, once a block. If
	/// that is refused, it waits as all others do.
	pub(crate) fn saw_mempool(&self, mempool: impl Fn(&Txid) -> bool) {
		for package in self.lock().packages.values_mut() {
			let evicted = package.child().is_some_and(|child| !mempool(&child));
			if package.row.mined.is_none() && package.outcome == Some(Ok(())) && evicted && !package.rescued {
				(package.sent, package.rescued) = (None, true);
			}
		}
	}

	/// Transactions of our own that do not get to the miners, and what to do.
	pub(crate) fn troubles(&self) -> Vec<Trouble> {
		self.lock().packages.values().filter_map(Package::trouble).take(MAX_TROUBLES).collect()
	}

	/// A block was connected: what it holds, or makes impossible, is done with in [`DEEP`] blocks.
	pub(crate) fn block_connected(&self, txs: &[Transaction], height: u32) {
		let mut state = self.lock();
		if !state.packages.is_empty() {
			let mined: HashSet<Txid> = txs.iter().map(Transaction::compute_txid).collect();
			let spenders = || txs.iter().flat_map(|tx| tx.input.iter().map(move |input| (input.previous_output, tx)));
			let spent: HashMap<OutPoint, Txid> =
				spenders().map(|(outpoint, tx)| (outpoint, tx.compute_txid())).collect();
			for package in state.packages.values_mut().filter(|package| package.row.mined.is_none()) {
				package.rescued = false;
				if package.is_mined(&mined) {
					self.settle(package, Some(height), None);
				} else if let Some(other) = package.conflict(&mined, &spent) {
					self.settle(package, Some(height), Some(other));
				}
			}
		}
		self.drop_deep(&mut state, height);
	}

	/// Blocks above `height` are gone.
	pub(crate) fn blocks_disconnected(&self, height: u32) {
		for package in self.lock().packages.values_mut() {
			if package.row.mined.is_some_and(|mined| mined > height) {
				self.settle(package, None, None);
			}
		}
	}

	/// Notes, durably, where it (or what was mined in its place) is.
	fn settle(&self, package: &mut Package, mined: Option<u32>, replaced_by: Option<Txid>) {
		if (package.row.mined, package.row.replaced_by) == (mined, replaced_by) {
			return;
		}
		if let (Some(Own::Funding), Some(other)) = (package.row.own, replaced_by) {
			tracing::error!(txid = ?package.child(), %other, "a channel's funding transaction was double-spent");
		}
		(package.row.mined, package.row.replaced_by, package.row.impossible) = (mined, replaced_by, false);
		self.keep.write(Folder::Broadcast, &package.key(), package.bytes());
	}

	/// For backends that are asked transaction by transaction: those to ask about, the child of each package.
	pub(crate) fn to_ask(&self) -> Vec<Transaction> {
		let state = self.lock();
		let open = state.packages.values().filter(|package| !package.row.impossible);
		open.filter_map(|package| package.txs.last().cloned()).collect()
	}

	/// The answer to [`Broadcaster::to_ask`]: the height at which it was mined, or at which that was which replaces it.
	pub(crate) fn answered(&self, txid: &Txid, mined: Option<(u32, Option<Txid>)>, tip: u32) {
		let mut state = self.lock();
		for package in state.packages.values_mut().filter(|package| package.child() == Some(*txid)) {
			self.settle(package, mined.map(|(height, _)| height), mined.and_then(|(_, other)| other));
		}
		self.drop_deep(&mut state, tip);
	}

	fn drop_deep(&self, state: &mut State, tip: u32) {
		let is_deep = |package: &Package| package.row.mined.is_some_and(|mined| tip.saturating_sub(mined) + 1 >= DEEP);
		for number in state.numbers(|package| is_deep(package) && !package.row.impossible) {
			match state.packages.get_mut(&number).filter(|package| package.is_replaced_splice()) {
				Some(package) => {
					package.row.impossible = true;
					self.keep.write(Folder::Broadcast, &package.key(), package.bytes());
				}
				None => self.drop_package(state, number),
			}
		}
	}

	/// Drops packages, durably. Returns what was in them.
	fn drop_where(&self, state: &mut State, which: impl Fn(&Package) -> bool) -> Vec<Txid> {
		let gone = state.numbers(which);
		let txids = gone.iter().filter_map(|number| state.packages.get(number)).flat_map(Package::txids).collect();
		for number in gone {
			self.drop_package(state, number);
		}
		txids
	}

	fn drop_package(&self, state: &mut State, number: u64) {
		if let Some(package) = state.packages.remove(&number) {
			self.keep.remove(Folder::Broadcast, &package.key());
		}
	}

	fn enqueue(&self, txs: Vec<Transaction>, bump: bool, own: Option<Own>, channel: Option<[u8; 32]>) {
		let txs = parents_first(txs);
		if txs.is_empty() {
			return;
		}
		{
			let mut state = self.lock();
			let channel = channel.map(|id| id.to_lower_hex_string());
			let package = Package::new(Row { bump, channel, ..Row::new(&txs, own) }, txs.clone());
			if let Some(known) = state.packages.values_mut().find(|known| known.txids().eq(package.txids())) {
				if known.row.unsent {
					// Now with the peer's signatures.
					(known.row.txs, known.row.unsent, known.txs) = (package.row.txs, false, package.txs);
					self.keep.write(Folder::Broadcast, &known.key(), known.bytes());
				}
				if known.row.mined.is_none() {
					known.sent = None;
				}
			} else if self.make_room(&mut state, txs.len()) {
				self.keep.write(Folder::Broadcast, &package.key(), package.bytes());
				state.add(package);
			}
		}
		if let Some(heard) = self.heard.lock().expect("no code panics while it holds this lock").as_ref() {
			heard(&txs);
		}
		self.wake.notify_one();
	}

	/// Packages that the backend refused make room, oldest first. If all are good, the new one has to wait for LDK to
	/// issue it again.
	fn make_room(&self, state: &mut State, wanted: usize) -> bool {
		while state.transactions() + wanted > MAX_TRANSACTIONS {
			let refused = state.numbers(|package| {
				let is_done = matches!(package.outcome, Some(Err(_))) || package.row.mined.is_some();
				is_done && package.row.own != Some(Own::Splice)
			});
			let Some(&oldest) = refused.first() else {
				tracing::error!(
					limit = MAX_TRANSACTIONS,
					"too many transactions wait for the chain backend: one was not queued"
				);
				return false;
			};
			tracing::warn!(limit = MAX_TRANSACTIONS, "the oldest refused transaction makes room for a new one");
			self.drop_package(state, oldest);
		}
		true
	}

	fn sent(&self, number: u64, now: Instant, outcome: Result<(), String>) {
		let mut state = self.lock();
		let Some(package) = state.packages.get_mut(&number) else { return };
		let txid = package.child();
		if package.outcome.as_ref() != Some(&outcome) {
			match &outcome {
				Ok(()) => tracing::info!(?txid, "transaction is in the mempool"),
				Err(reason) => tracing::warn!(?txid, reason, "the backend refuses a transaction; it is tried again"),
			}
		}
		package.sent = Some(now);
		package.outcome = Some(outcome);
		package.sending = false;
	}

	fn lock(&self) -> MutexGuard<'_, State> {
		self.state.lock().expect("no code panics while it holds this lock")
	}
}

impl BroadcasterInterface for Broadcaster {
	fn broadcast_transactions(&self, txs: &[(&Transaction, TransactionType)]) {
		let is_bump =
			|kind: &TransactionType| matches!(kind, TransactionType::AnchorBump { .. } | TransactionType::Claim { .. });
		let bump = txs.iter().any(|(_, kind)| is_bump(kind));
		let funding = txs.iter().any(|(_, kind)| matches!(kind, TransactionType::Funding { .. }));
		let channel = txs.iter().find_map(|(_, kind)| match kind {
			TransactionType::AnchorBump { channel_id, .. } | TransactionType::Claim { channel_id, .. } => {
				Some(channel_id.0)
			}
			_ => None,
		});
		if funding {
			crash::reached("funding.broadcast.decided");
		}
		let splice = txs.iter().any(|(_, kind)| matches!(kind, TransactionType::InteractiveFunding { .. }));
		let own = funding.then_some(Own::Funding).or(splice.then_some(Own::Splice));
		self.enqueue(txs.iter().map(|(tx, _)| (*tx).clone()).collect(), bump, own, channel);
	}
}

impl State {
	fn add(&mut self, package: Package) {
		self.packages.insert(self.next, package);
		self.next += 1;
	}

	fn find(&self, txid: &Txid) -> Option<&Package> {
		self.packages.values().find(|package| package.txids().any(|id| id == *txid))
	}

	fn numbers(&self, which: impl Fn(&Package) -> bool) -> Vec<u64> {
		self.packages.iter().filter(|(_, package)| which(package)).map(|(&number, _)| number).collect()
	}

	fn transactions(&self) -> usize {
		self.packages.values().map(|package| package.txs.len()).sum()
	}
}

impl Row {
	fn new(txs: &[Transaction], own: Option<Own>) -> Row {
		Row {
			txs: txs.iter().map(serialize_hex).collect(),
			bump: false,
			own,
			mined: None,
			replaced_by: None,
			channel: None,
			held_back: false,
			unsent: false,
			impossible: false,
		}
	}
}

impl Package {
	fn new(row: Row, txs: Vec<Transaction>) -> Package {
		Package { row, txs, sent: None, outcome: None, rescued: false, sending: false }
	}

	fn is_replaced_splice(&self) -> bool {
		self.row.own == Some(Own::Splice) && self.row.replaced_by.is_some()
	}

	fn txids(&self) -> impl Iterator<Item = Txid> + '_ {
		self.txs.iter().map(Transaction::compute_txid)
	}

	fn spends(&self, txid: &Txid) -> bool {
		self.txs.iter().flat_map(|tx| &tx.input).any(|input| input.previous_output.txid == *txid)
	}

	fn child(&self) -> Option<Txid> {
		self.txs.last().map(Transaction::compute_txid)
	}

	/// A package has a row of its own even if its child was queued alone before.
	fn key(&self) -> String {
		let child = self.child().map(|txid| txid.to_string()).unwrap_or_default();
		format!("{child}_{}", self.txs.len())
	}

	fn standing(&self) -> Standing {
		match (self.row.mined, &self.outcome) {
			(Some(_), _) if self.row.replaced_by.is_some() => Standing::Replaced,
			(Some(_), _) => Standing::Mined,
			(None, _) if self.sending => Standing::Unknown,
			(None, Some(Ok(()))) => Standing::Taken,
			(None, Some(Err(_))) => Standing::Refused,
			(None, None) => Standing::Unknown,
		}
	}

	fn is_due(&self, now: Instant, new_block: bool) -> bool {
		let old = |sent| now.saturating_duration_since(sent) >= RESEND;
		self.row.mined.is_none() && !self.row.unsent && self.sent.is_none_or(|sent| new_block || old(sent))
	}

	fn bytes(&self) -> Vec<u8> {
		serde_json::to_vec(&self.row).expect("strings and numbers are JSON")
	}

	fn is_mined(&self, mined: &HashSet<Txid>) -> bool {
		self.child().is_some_and(|child| mined.contains(&child))
	}

	/// One of its transactions can never be mined: this one spends what it spends.
	fn conflict(&self, mined: &HashSet<Txid>, spent: &HashMap<OutPoint, Txid>) -> Option<Txid> {
		let left = self.txs.iter().filter(|tx| !mined.contains(&tx.compute_txid()));
		left.flat_map(|tx| &tx.input).find_map(|input| spent.get(&input.previous_output).copied())
	}

	fn trouble(&self) -> Option<Trouble> {
		let what = match self.row.own? {
			Own::Funding => "the funding transaction of a channel",
			Own::Payment => "a payment from the wallet",
			Own::Splice => "the transaction that makes a channel larger",
		};
		let (subject, reason) = (self.child()?.to_string(), self.outcome.as_ref().and_then(|told| told.as_ref().err()));
		let problem = match (self.row.replaced_by, reason) {
			// The channel was closed instead, as a rule. Who forgets it then does so when that is deep in the chain.
			(Some(_), _) if self.is_replaced_splice() && !self.row.impossible => return None,
			(Some(other), _) => format!(
				"can never be mined: {other} was, which spends the same coin. Does another copy of this wallet run? {}",
				match self.row.own {
					Some(Own::Funding) => "Stop it, and close that channel: it is worth nothing",
					Some(Own::Splice) => "Stop it, and close that channel by force: inlet channels force-close",
					_ => "Stop it, and pay again",
				}
			),
			(None, _) if self.row.mined.is_some() => return None,
			(None, Some(reason)) if is_conflict(reason) => format!(
				"is refused ({reason}): something else spends its coin or replaced what it spends. Does another copy of this \
				wallet run? Its coins are not used again, and it is sent again and again"
			),
			(None, Some(reason)) if is_too_cheap(reason) => format!(
				"is refused ({reason}): mempools ask for more than its feerate now. It is sent again every minute and with each \
				block and goes out when they are emptier; until then do not close that channel"
			),
			(None, Some(reason)) => format!("is refused ({reason}); it is sent again every minute and with each block"),
			(None, None) => return None,
		};
		Some(Trouble { text: format!("{what}, {subject}, {problem}"), subject })
	}
}

/// LDK gives no order; a package is one child and its parents.
fn parents_first(mut txs: Vec<Transaction>) -> Vec<Transaction> {
	let ids: HashSet<Txid> = txs.iter().map(Transaction::compute_txid).collect();
	txs.sort_by_key(|tx| tx.input.iter().any(|input| ids.contains(&input.previous_output.txid)));
	txs
}

fn shorten(mut reason: String) -> String {
	if let Some((end, _)) = reason.char_indices().nth(MAX_REASON) {
		reason.truncate(end);
	}
	reason
}

fn unreadable(key: &str, cause: impl std::fmt::Display) -> io::Error {
	io::Error::new(io::ErrorKind::InvalidData, format!("stored broadcast {key} is not readable: {cause}"))
}

/// Answers by which Bitcoin Core and Esplora servers say that there is nothing left to do.
pub(crate) fn is_known_already(reason: &str) -> bool {
	let known = [
		"already in block chain",
		"already in utxo set",
		"already in mempool",
		"already-in-mempool",
		"already-known",
		"txn-already-known",
		"txn-same-nonwitness-data-in-mempool",
		"Transaction outputs already in utxo set",
	];
	known.iter().any(|text| reason.contains(text))
}

/// Answers by which Bitcoin Core (and what passes them on) says that another transaction has the coin.
fn is_conflict(reason: &str) -> bool {
	let known = ["txn-mempool-conflict", "missingorspent", "missing-inputs", "insufficient fee, rejecting replacement"];
	known.iter().any(|text| reason.contains(text))
}

/// Answers by which it says that the feerate is too low for now.
fn is_too_cheap(reason: &str) -> bool {
	["min relay fee not met", "mempool min fee not met", "mempool full"].iter().any(|text| reason.contains(text))
}

#[cfg(test)]
#[path = "broadcast_tests.rs"]
mod tests;
