//! The driver: one task owns the book. For each input it takes a snapshot of the world, asks the core, commits what is
//! to be written, applies it, and only then acts. See the crate's `docs/architecture.md`.

use crate::crash::Points;
use crate::stop::stopped;
use inlet_lsp::Lsp;
use inlet_lsp::book::{Book, NodeId, Write};
use inlet_lsp::input::{Action, Input, World};
use inlet_lsp::time::Timestamp;
use inlet_storage::Store;
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

/// Inputs that wait for the driver; more make their senders wait.
const MAX_WAITING: usize = 1_024;
/// How often the core is told again that a client which it waits for is here: LDK has no event for a channel that is
/// usable again after a reconnection.
const ATTEND: Duration = Duration::from_millis(500);

/// At least this long between two ticks: a deadline that the core does not clear must not spin the driver.
const BETWEEN_TICKS: Duration = Duration::from_millis(2);
/// How long after the start LDK may take to raise the HTLCs again that it holds. Those in the book that it does not raise
/// by then are gone; one that comes later after all is taken as new.
const RAISED_AGAIN_WITHIN: Duration = Duration::from_secs(10);

/// The wall clock, for the core.
pub fn now() -> Timestamp {
	let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
	Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What the driver acts on and looks at: the node, or a stand-in.
pub trait Surroundings: Send + Sync + 'static {
	/// A snapshot for one input. `client` is whom the input is about.
	fn world(&self, client: Option<NodeId>, book: &Book) -> World;

	/// Does what the core decided, without waiting for anything; long work goes on elsewhere and comes back as an input.
	/// What is known at once to have failed is returned as inputs.
	fn perform(&self, action: Action, book: &Book) -> Vec<Input>;

	/// On-chain payments to orders' addresses that the book does not have like this.
	fn activity(&self, book: &Book) -> Vec<Input>;

	/// Is this news of something that is over, by an action of the driver's own? It is not taken then.
	fn is_stale(&self, _: &Input) -> bool {
		false
	}

	/// Is this client here?
	fn is_connected(&self, client: &NodeId) -> bool;

	/// Tells the operator what was written; what is new in it happened `at` this time.
	fn written(&self, writes: &[Write], at: Timestamp);
}

struct Job {
	input: Input,
	done: Option<oneshot::Sender<()>>,
}

/// The driver has stopped: the node is going down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

/// Hands inputs to the driver and shows the book.
#[derive(Clone)]
pub struct Driver {
	jobs: mpsc::Sender<Job>,
	book: Arc<RwLock<Book>>,
}

/// The receiving end of a [`Driver`], to be run by a task.
pub struct Engine {
	jobs: mpsc::Receiver<Job>,
	book: Arc<RwLock<Book>>,
	lsp: Lsp,
	store: Store,
}

impl Driver {
	/// A driver with this book, and the engine that drives it.
	pub fn new(lsp: Lsp, book: Book, store: Store) -> (Driver, Engine) {
		let (sender, receiver) = mpsc::channel(MAX_WAITING);
		let book = Arc::new(RwLock::new(book));
		(Driver { jobs: sender, book: book.clone() }, Engine { jobs: receiver, book, lsp, store })
	}

	/// Hands over an input and waits until what follows from it is durable and the actions are under way.
	///
	/// # Errors
	/// [`Stopped`]: the input was not (or maybe not) taken; whoever reported it must report it again after the restart.
	pub async fn submit(&self, input: Input) -> Result<(), Stopped> {
		let (done, waiting) = oneshot::channel();
		self.jobs.send(Job { input, done: Some(done) }).await.map_err(|_| Stopped)?;
		waiting.await.map_err(|_| Stopped)
	}

	/// Looks at the book. Keep it short: the driver waits meanwhile.
	pub fn read<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
		look(&self.book.read().expect("not poisoned"))
	}
}

impl Engine {
	/// Drives until `stop` becomes true. `look` changes whenever the chain or the mempool was looked at.
	pub async fn run<L>(
		mut self,
		around: Arc<impl Surroundings>,
		mut look: watch::Receiver<L>,
		mut stop: watch::Receiver<bool>,
	) {
		let mut unraised: HashSet<[u8; 32]> = self.look(|book| book.held_htlcs().into_iter().collect());
		let grace = tokio::time::sleep(RAISED_AGAIN_WITHIN);
		tokio::pin!(grace);
		self.take(&*around, Input::Started).await;
		let mut ticked = Instant::now();
		let mut attend = tokio::time::interval(ATTEND);
		attend.set_missed_tick_behavior(MissedTickBehavior::Delay);
		loop {
			let deadline = self.look(Book::next_deadline);
			if deadline.is_some_and(|at| at <= now()) && ticked.elapsed() >= BETWEEN_TICKS {
				// Before the next input: a flood of them must not keep a deadline waiting.
				self.take(&*around, Input::Tick).await;
				ticked = Instant::now();
				continue;
			}
			tokio::select! {
				() = stopped(&mut stop) => break,
				job = self.jobs.recv() => {
					let Some(job) = job else { break };
					if let Input::HtlcIntercepted { intercept_id, .. } = &job.input {
						unraised.remove(intercept_id);
					}
					if !around.is_stale(&job.input) {
						self.take(&*around, job.input).await;
					}
					if let Some(done) = job.done {
						// Nobody waits any more: that is the sender's business.
						let _ = done.send(());
					}
				},
				() = sleep_until(deadline) => {},
				() = &mut grace, if !unraised.is_empty() => {
					for intercept_id in std::mem::take(&mut unraised) {
						self.take(&*around, Input::HtlcGone { intercept_id }).await;
					}
				},
				_ = attend.tick() => {
					let awaited = self.look(Book::awaited_clients);
					for peer in awaited.into_iter().filter(|client| around.is_connected(client)) {
						self.take(&*around, Input::Connected { peer }).await;
					}
				},
				changed = look.changed() => {
					if changed.is_err() { break }
					let seen = self.look(|book| around.activity(book));
					for input in seen {
						self.take(&*around, input).await;
					}
					self.take(&*around, Input::Tick).await;
				},
			}
		}
	}

	fn look<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
		look(&self.book.read().expect("not poisoned"))
	}

	/// One input, and what it brings about at once.
	async fn take(&self, around: &impl Surroundings, input: Input) {
		let mut inputs = VecDeque::from([input]);
		while let Some(input) = inputs.pop_front() {
			let at = now();
			let step = {
				let book = self.book.read().expect("not poisoned");
				let world = around.world(input.client(&book), &book);
				self.lsp.step(&book, &world, at, input)
			};
			let crash = Points::of(&step.writes);
			crash.reached("decided");
			if !step.writes.is_empty() {
				self.store.commit(step.writes.clone()).await;
				crash.reached("written");
				around.written(&step.writes, at);
				let mut book = self.book.write().expect("not poisoned");
				for write in step.writes {
					book.apply(write);
				}
			}
			let book = self.book.read().expect("not poisoned");
			for action in step.actions {
				inputs.extend(around.perform(action, &book));
			}
			crash.reached("done");
		}
	}
}

async fn sleep_until(deadline: Option<Timestamp>) {
	match deadline {
		Some(at) => tokio::time::sleep(Duration::from_millis(at.0.saturating_sub(now().0)).max(BETWEEN_TICKS)).await,
		None => std::future::pending().await,
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use bitcoin::Network;
	use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
	use inlet_lsp::Policy;
	use inlet_lsp::input::{Deed, PeerView};
	use inlet_lsp::money::{FeePerKw, Sat};
	use inlet_lsp::tiers::Overrides;
	use std::sync::Mutex;

	/// Notes what it is told to do, and whether the book had the client by then.
	#[derive(Default)]
	struct Around {
		done: Mutex<Vec<(Action, bool)>>,
	}

	impl Surroundings for Around {
		fn world(&self, _: Option<NodeId>, _: &Book) -> World {
			World {
				network: Network::Regtest,
				height: 100,
				synced: true,
				disk_low: false,
				feerate: Some(FeePerKw(500)),
				market: inlet_lsp::market::Market::default(),
				spendable: Sat(10_000_000),
				unconfirmed: Sat::ZERO,
				peer: PeerView { connected: true, ..Default::default() },
				entropy: [7; 32],
				fresh_scid: 1,
				present: Vec::new(),
			}
		}

		fn perform(&self, action: Action, book: &Book) -> Vec<Input> {
			let known = book.client(&peer()).is_some();
			self.done.lock().unwrap().push((action, known));
			Vec::new()
		}

		fn activity(&self, _: &Book) -> Vec<Input> {
			Vec::new()
		}

		fn is_stale(&self, input: &Input) -> bool {
			matches!(input, Input::HtlcIntercepted { intercept_id: [1, ..], .. })
		}

		fn is_connected(&self, _: &NodeId) -> bool {
			true
		}

		fn written(&self, _: &[Write], _: Timestamp) {}
	}

	fn peer() -> NodeId {
		PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[9; 32]).unwrap())
	}

	fn menu_request() -> Input {
		let bytes = br#"{"jsonrpc":"2.0","id":"1","method":"lsps2.get_info","params":{"token":null}}"#.to_vec();
		Input::Message { peer: peer(), bytes }
	}

	#[tokio::test]
	async fn r12_news_of_an_htlc_that_was_answered_already_is_not_taken() {
		let dir = tempfile::tempdir().unwrap();
		let store = Store::open(&dir.path().join("store"), |e| panic!("{e}")).unwrap();
		let (_stop, stopping) = watch::channel(false);
		let (_look, looks) = watch::channel(());
		let around = Arc::new(Around::default());
		let lsp = Lsp::new(Policy::default(), [1; 32]).unwrap();
		let (driver, engine) = Driver::new(lsp, Book::default(), store);
		tokio::spawn(engine.run(around.clone(), looks, stopping));
		for id in [1, 2] {
			let input = Input::HtlcIntercepted {
				intercept_id: [id; 32],
				scid: 7,
				payment_hash: [3; 32],
				inbound: inlet_lsp::money::Msat(1_000),
				expected_outbound: inlet_lsp::money::Msat(1_000),
				expiry_height: None,
				channel: None,
			};
			driver.submit(input).await.unwrap();
		}
		let done = around.done.lock().unwrap();
		let [(Action::FailHtlc { intercept_id, .. }, _)] = &done[..] else { panic!("one answer, not {done:?}") };
		assert_eq!(*intercept_id, [2; 32], "what is nobody's is failed, once");
	}

	#[tokio::test]
	async fn what_is_decided_is_written_before_it_is_done_and_outlives_the_driver() {
		let dir = tempfile::tempdir().unwrap();
		let file = dir.path().join("store");
		let open = || Store::open(&file, |e| panic!("{e}")).unwrap();
		let (stop, stopping) = watch::channel(false);
		let (_look, looks) = watch::channel(());
		let around = Arc::new(Around::default());
		let store = open();
		let lsp = Lsp::new(Policy::default(), [1; 32]).unwrap();
		let (driver, engine) = Driver::new(lsp, Book::default(), store.clone());
		let running = tokio::spawn(engine.run(around.clone(), looks, stopping));

		// Of a stranger nothing is written; of a client, that it cannot parse objects in errors.
		let known =
			Deed::SetClient { client: peer(), overrides: Overrides { note: "mine".into(), ..Overrides::default() } };
		driver.submit(Input::Operator(known)).await.unwrap();
		driver.submit(menu_request()).await.unwrap();
		{
			let done = around.done.lock().unwrap();
			let [(Action::Send { bytes, .. }, known)] = &done[..] else { panic!("one answer, not {done:?}") };
			assert!(known, "the client was in the book when it was answered");
			assert!(String::from_utf8_lossy(bytes).contains("opening_fee_params_menu"));
		}
		stop.send_replace(true);
		running.await.unwrap();
		assert_eq!(driver.submit(Input::Tick).await, Err(Stopped), "who reports afterwards has to do so again");
		drop(driver);
		store.close().await;
		let book = Book::restore(open().load_rows().await.unwrap());
		assert!(book.client(&peer()).is_some_and(|client| client.string_error_data));
	}
}
