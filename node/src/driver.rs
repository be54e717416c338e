//! The driver: one task owns the book. For each input it takes a snapshot of the world, asks the core, commits what is
//! to be written, applies it, and only then acts. See the crate's `docs/architecture.md`.

use crate::stop::stopped;
use inlet_lsp::Lsp;
use inlet_lsp::book::{Book, NodeId, Write};
use inlet_lsp::input::{Action, Input, World};
use inlet_lsp::time::Timestamp;
use inlet_storage::Store;
use std::collections::VecDeque;
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;

/// Inputs that wait for the driver; more make their senders wait.
const MAX_WAITING: usize = 1_024;
/// How often the core is told again that a client which it waits for is here: LDK has no event for a channel that is
/// usable again after a reconnection.
const ATTEND: Duration = Duration::from_millis(500);

/// The wall clock, for the core.
pub fn now() -> Timestamp {
	let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
	Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What the driver acts on and looks at: the node, or a stand-in.
pub trait Surroundings: Send + Sync + 'static {
	/// A snapshot for one input. `client` is whom the input is about.
	fn world(&self, client: Option<NodeId>) -> World;

	/// Does what the core decided, without waiting for anything; long work goes on elsewhere and comes back as an input.
	/// What is known at once to have failed is returned as inputs.
	fn perform(&self, action: Action, book: &Book) -> Vec<Input>;

	/// On-chain payments to `address` that the core has not seen like this, given what it has seen.
	fn activity(&self, book: &Book) -> Vec<Input>;

	/// Is this client here?
	fn is_connected(&self, client: &NodeId) -> bool;

	/// Tells the operator what was written.
	fn written(&self, writes: &[Write]);
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
		self.take(&*around, Input::Started).await;
		let mut attend = tokio::time::interval(ATTEND);
		attend.set_missed_tick_behavior(MissedTickBehavior::Delay);
		loop {
			let deadline = self.book.read().expect("not poisoned").next_deadline();
			tokio::select! {
				biased;
				() = stopped(&mut stop) => break,
				job = self.jobs.recv() => {
					let Some(job) = job else { break };
					self.take(&*around, job.input).await;
					if let Some(done) = job.done {
						// Nobody waits any more: that is the sender's business.
						let _ = done.send(());
					}
				},
				() = sleep_until(deadline) => self.take(&*around, Input::Tick).await,
				_ = attend.tick() => {
					let awaited = self.book.read().expect("not poisoned").awaited_clients();
					for peer in awaited.into_iter().filter(|client| around.is_connected(client)) {
						self.take(&*around, Input::Connected { peer }).await;
					}
				},
				changed = look.changed() => {
					if changed.is_err() { break }
					let seen = around.activity(&self.book.read().expect("not poisoned"));
					for input in seen {
						self.take(&*around, input).await;
					}
					self.take(&*around, Input::Tick).await;
				},
			}
		}
	}

	/// One input, and what it brings about at once.
	async fn take(&self, around: &impl Surroundings, input: Input) {
		let mut inputs = VecDeque::from([input]);
		while let Some(input) = inputs.pop_front() {
			let step = {
				let book = self.book.read().expect("not poisoned");
				let world = around.world(input.client(&book));
				self.lsp.step(&book, &world, now(), input)
			};
			if !step.writes.is_empty() {
				self.store.commit(step.writes.clone()).await;
				around.written(&step.writes);
				let mut book = self.book.write().expect("not poisoned");
				for write in step.writes {
					book.apply(write);
				}
			}
			let book = self.book.read().expect("not poisoned");
			for action in step.actions {
				inputs.extend(around.perform(action, &book));
			}
		}
	}
}

async fn sleep_until(deadline: Option<Timestamp>) {
	match deadline {
		// At least a millisecond, so that a deadline that the core does not clear cannot spin the driver.
		Some(at) => tokio::time::sleep(Duration::from_millis(at.0.saturating_sub(now().0).max(1))).await,
		None => std::future::pending().await,
	}
}
