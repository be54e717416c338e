//! Webhooks of sleeping clients: notices of bLIP-55 over HTTPS (L5-15, L5-17, L5-18, L5-23). See `node/docs/webhooks.md`.
//!
//! The core says whom to tell what, and how often (L5-20). Here it is only sent: in order, within bounds, to public hosts,
//! and never in the way of anybody. What is queued is lost with the process: a notice is news, not state.
//!
//! URLs and app names are data of strangers and say who the client's customers are: only hosts are logged, at `debug`.

mod deliver;
pub mod guard;
pub mod https;
pub mod limits;
mod queue;
pub mod stamp;
#[cfg(test)]
mod tests;

pub use queue::{Bound, Counts, Taken};

use crate::config::Config;
use crate::stop::stopped;
use crate::tor::Way;
use deliver::Courier;
use guard::{Guard, Lookup, Ourselves};
use https::{BadRoots, Https, Post};
use inlet_lsp::book::NodeId;
use inlet_lsp::notice::Notice;
use limits::Limits;
use queue::{End, Lane, Queue};
use stamp::{Clock, Sign};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a [`Notifier`] is made of.
pub struct Parts {
	/// Where webhooks may lead.
	pub guard: Guard,
	/// How their names become addresses.
	pub lookup: Lookup,
	/// Root certificates besides the built-in ones, PEM; may be empty.
	pub extra_roots: Vec<u8>,
	/// Signs what is sent.
	pub sign: Sign,
	/// The time that is signed.
	pub clock: Clock,
	/// Bounds and time-outs.
	pub limits: Limits,
}

/// Sends notices to webhooks, beside everything else.
pub struct Notifier {
	guard: Arc<Guard>,
	courier: Courier,
	queue: Mutex<Queue>,
	fresh: Notify,
}

impl Notifier {
	/// The notifier of a node with this configuration; `sign` signs with the node's secret ([`Sign`]). It sends nothing
	/// until [`Notifier::run`] runs.
	///
	/// # Errors
	/// `notify.ca_file` holds something else than certificates.
	pub fn of_node(
		config: &Config,
		sign: impl Fn(&str) -> String + Send + Sync + 'static,
	) -> Result<Arc<Notifier>, BadRoots> {
		let way = config.tor.way;
		Notifier::new(Parts {
			guard: Guard::new(Ourselves::of(&config.node), config.notify.allow_private).going(way),
			lookup: match way {
				Way { socks: Some(socks), only: true } => guard::tor_lookup(socks),
				_ => guard::system_lookup(),
			},
			extra_roots: config.notify.extra_roots.clone(),
			sign: Arc::new(sign),
			clock: Arc::new(SystemTime::now),
			limits: if way.only { Limits::over_tor() } else { Limits::default() },
		})
	}

	/// A notifier of these parts.
	///
	/// # Errors
	/// `extra_roots` holds something else than certificates.
	pub fn new(parts: Parts) -> Result<Arc<Notifier>, BadRoots> {
		let guard = Arc::new(parts.guard);
		let https = Https::new(guard.clone(), parts.lookup, &parts.extra_roots, &parts.limits)?;
		Ok(Notifier::posting(guard, Box::new(https), parts.sign, parts.clock, parts.limits))
	}

	fn posting(guard: Arc<Guard>, post: Box<dyn Post>, sign: Sign, clock: Clock, limits: Limits) -> Arc<Notifier> {
		Arc::new(Notifier {
			guard,
			queue: Mutex::new(Queue::new(limits.clone(), Instant::now())),
			courier: Courier { post, sign, clock, limits },
			fresh: Notify::new(),
		})
	}

	/// Has `notice` sent to `client`'s webhook `app_name` at `url`, after everything else that was to be sent to this
	/// webhook. Returns at once. What cannot be sent is counted ([`Notifier::counts`]) and nothing else.
	///
	/// A `webhook_registered` for an app that had another URL withdraws what waits for that one.
	pub fn send(&self, client: NodeId, app_name: String, url: String, notice: Notice) {
		let method = notice.method();
		let url = match self.guard.url(&url) {
			Ok(url) => url,
			Err(refused) => {
				tracing::debug!(target: "inlet", %client, notice = method, "webhook not called: {refused}");
				self.queue().counts.refused += 1;
				return;
			}
		};
		let lane = Lane { client, url };
		let host = lane.host().to_owned();
		let taken = self.queue().push(lane, app_name, notice, Instant::now());
		match taken {
			Taken::Waits => self.fresh.notify_one(),
			Taken::Merged => {}
			Taken::Dropped(bound) => {
				tracing::debug!(target: "inlet", %client, host, notice = method, "notice dropped at a bound: {bound:?}");
			}
		}
	}

	/// What became of all notices since the start.
	pub fn counts(&self) -> Counts {
		self.queue().counts
	}

	/// Notices that wait or are on their way.
	pub fn held(&self) -> usize {
		self.queue().held()
	}

	/// Sends, until the node stops: what is then on its way is cut off, and what waits is dropped.
	///
	/// One task works on each webhook that has something to hear; the bounds of the queue bound them.
	pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
		let mut lanes = JoinSet::new();
		loop {
			let fresh = self.queue().fresh();
			for lane in fresh {
				lanes.spawn(self.clone().work(lane));
			}
			tokio::select! {
				() = stopped(&mut stop) => break,
				() = self.fresh.notified() => {},
				Some(ended) = lanes.join_next() => if let Err(died) = ended {
					// A lane that died has left its count behind: that is a defect, and not to be lived with.
					std::panic::resume_unwind(died.into_panic());
				},
			}
		}
		self.queue().stop();
		lanes.shutdown().await;
	}

	async fn work(self: Arc<Self>, lane: Lane) {
		loop {
			let Some(letter) = self.queue().next(&lane) else { return };
			let end = self.courier.deliver(&letter).await;
			if end != End::Sent {
				let host = lane.host();
				tracing::debug!(target: "inlet", client = %lane.client, host, "notice not delivered: {end:?}");
			}
			self.queue().done(&letter, end);
		}
	}

	fn queue(&self) -> MutexGuard<'_, Queue> {
		self.queue.lock().unwrap_or_else(PoisonError::into_inner)
	}
}
