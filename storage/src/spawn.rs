//! LDK's spawner, with the order of the calls kept.

use lightning::util::native_async::FutureSpawner;
use std::future::Future;
use std::task::{Context, Poll, Waker};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

/// Spawns LDK's futures on tokio, but polls each of them once before `spawn` returns.
///
/// `MonitorUpdatingPersisterAsync` (0.3.0-rc3) promises that it calls `KVStore::write` before it spawns, and does so for
/// whole monitors; but for updates the call stands inside an `async` block (`update_persisted_channel`), so it would be
/// made when a thread gets round to the task. Two updates of a channel could then be enqueued the wrong way round, and
/// a power cut between them leaves update N+1 without N: LDK's loader panics on that. Polled here, they are enqueued in
/// the order in which LDK made them. The first poll does no work but that: the store's futures never block.
#[derive(Clone, Debug)]
pub struct CallOrder(
	/// The runtime that finishes the futures.
	pub Handle,
);

impl FutureSpawner for CallOrder {
	type E = JoinError;
	type SpawnedFutureResult<O> = JoinHandle<O>;

	fn spawn<O: Send + 'static, T: Future<Output = O> + Send + 'static>(&self, future: T) -> JoinHandle<O> {
		let mut future = Box::pin(future);
		match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
			Poll::Ready(output) => self.0.spawn(std::future::ready(output)),
			Poll::Pending => self.0.spawn(future),
		}
	}
}
