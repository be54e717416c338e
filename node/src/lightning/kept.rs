//! Waiting for LDK's state to be written: for what must not leave before it is. LDK lets the first signature of a splice go as
//! soon as we have signed, and a node that then forgets the splice makes the peer close the channel.

use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, watch};

/// Requests for the channel manager to be written, by number.
#[derive(Debug, Default)]
pub struct Kept {
	asked: AtomicU64,
	wanted: Notify,
	written: watch::Sender<u64>,
}

impl Kept {
	/// Resolves when the manager, as it is now or later, is in the store's queue: what is written after that is behind it. Never
	/// while LDK's loop does not run.
	pub async fn queued(&self) {
		let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
		let mut written = self.written.subscribe();
		self.wanted.notify_one();
		// The sender is ours.
		let _ = written.wait_for(|written| *written >= number).await;
	}

	/// Resolves when there is a new request.
	pub(super) async fn wanted(&self) {
		self.wanted.notified().await;
	}

	/// The last request, if the manager was not written since. To be looked at before the manager is.
	pub(super) fn open(&self) -> Option<u64> {
		let asked = self.asked.load(Ordering::Acquire);
		Some(asked).filter(|asked| *asked > *self.written.borrow())
	}

	/// The manager was written after this request.
	pub(super) fn written(&self, asked: Option<u64>) {
		if let Some(asked) = asked {
			self.written.send_modify(|written| *written = asked.max(*written));
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::pin::pin;
	use std::sync::Arc;

	#[tokio::test]
	async fn a_request_is_answered_by_a_writing_that_began_after_it() {
		let kept = Arc::new(Kept::default());
		// A writing that began before.
		let earlier = kept.open();
		let mut waiting = pin!(kept.queued());
		assert!(futures::poll!(waiting.as_mut()).is_pending());
		kept.written(earlier);
		assert!(futures::poll!(waiting.as_mut()).is_pending());
		kept.wanted().await;
		let open = kept.open();
		assert_eq!(open, Some(1));
		kept.written(open);
		waiting.await;
		assert_eq!(kept.open(), None);
	}
}
