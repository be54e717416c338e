//! Who comes in, and who has to go: the [`Table`] of connections, the clock, and the connections themselves.

use super::flush::Flush;
use super::limits::{Judged, LineId, Refused, Table};
use super::socket::WeakLine;
use crate::config::PeerLimits;
use crate::stop::stopped;
use crate::tor::Way;
use bitcoin::secp256k1::PublicKey;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep};

/// At least this long between two looks for strangers that are too many. LDK lets in 250 of them; the limit is so far below
/// that hardly more can come in meanwhile.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// How often addresses are looked at when nobody comes or goes.
const LOOK: Duration = Duration::from_secs(1);
/// Connections that are being made at once because LDK wants to answer an onion message: strangers can ask for them.
const MAX_ERRANDS: usize = 8;

/// All connections of this node.
pub struct Door {
	table: Mutex<Table>,
	/// Those that can be closed. As many as the table has.
	lines: Mutex<HashMap<LineId, WeakLine>>,
	errands: Arc<Semaphore>,
	flush: Flush,
	way: Way,
}

/// One connection's place in the [`Door`]; it is given back when dropped.
pub struct Pass {
	door: Arc<Door>,
	id: LineId,
}

impl Door {
	/// With nobody inside; who is outside is reached by this way.
	pub fn new(limits: PeerLimits, way: Way) -> Arc<Door> {
		let errands = Arc::new(Semaphore::new(MAX_ERRANDS));
		Arc::new(Door {
			table: Mutex::new(Table::new(limits)),
			lines: Mutex::default(),
			errands,
			flush: Flush::default(),
			way,
		})
	}

	/// A connection came in from this address. An older one may be closed for it.
	///
	/// # Errors
	/// Why it has to be closed unheard.
	pub fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Pass, Refused> {
		let (id, slow) = self.table().enter(ip, Instant::now())?;
		if let Some(slow) = slow {
			tracing::debug!(target: "inlet::peers", "a slow handshake is ended: too many are under way");
			self.close(slow);
		}
		Ok(Pass { door: self.clone(), id })
	}

	/// We made a connection.
	///
	/// # Errors
	/// The node stops.
	pub fn leave_for(self: &Arc<Self>) -> Result<Pass, Refused> {
		let id = self.table().leave_for(Instant::now())?;
		Ok(Pass { door: self.clone(), id })
	}

	/// From now on there are no new connections; one that is just being made ends before its handshake.
	pub fn shut(&self) {
		self.table().shut();
	}

	/// What lets LDK send to them.
	pub fn flush(&self) -> &Flush {
		&self.flush
	}

	/// How peers are reached.
	pub fn way(&self) -> Way {
		self.way
	}

	/// Leave to make connections on behalf of a stranger; none while too many are being made.
	pub fn errand(&self) -> Option<OwnedSemaphorePermit> {
		self.errands.clone().try_acquire_owned().ok()
	}

	/// A connection has sent its first bytes.
	pub fn heard(&self, id: LineId) {
		self.table().heard(id);
	}

	/// The handshake of a connection is through.
	pub fn shaken(&self, id: LineId, peer: PublicKey) {
		self.table().shaken(id, peer, Instant::now());
	}

	/// An LSPS message of so many bytes came in. `Some`: nothing more is to be read from it until then.
	pub fn charge(&self, id: LineId, bytes: usize) -> Option<Instant> {
		self.table().charge(id, bytes, Instant::now())
	}

	/// Closes idle connections of strangers whenever there are too many, in all or from one address, until `stop`.
	pub async fn guard(
		self: Arc<Self>,
		mut connected: watch::Receiver<HashSet<PublicKey>>,
		judge: impl Fn(&[PublicKey]) -> Vec<Judged> + Send,
		mut stop: watch::Receiver<bool>,
	) {
		loop {
			let all = tokio::select! {
				() = stopped(&mut stop) => return,
				changed = connected.changed() => match changed {
					Ok(()) => true,
					Err(_) => return stopped(&mut stop).await,
				},
				// Time passes for who is idle, too.
				() = sleep(LOOK) => false,
			};
			connected.borrow_and_update();
			let begun = Instant::now();
			self.look(all, &judge);
			sleep(rest(begun.elapsed())).await;
		}
	}

	fn look(&self, all: bool, judge: impl Fn(&[PublicKey]) -> Vec<Judged>) {
		let crowd = self.table().crowd(all, Instant::now());
		if crowd.is_empty() {
			return;
		}
		// Judged without the lock: that looks at channels and at the book.
		let judged = judge(&crowd.iter().map(|(_, peer)| *peer).collect::<Vec<_>>());
		let judged: Vec<_> = crowd.into_iter().map(|(id, _)| id).zip(judged).collect();
		let gone: HashSet<_> = {
			let (mut table, now) = (self.table(), Instant::now());
			table.judged(&judged);
			table.surplus(&judged, now).into_iter().chain(table.idle(&judged, now)).collect()
		};
		for id in gone {
			tracing::debug!(target: "inlet::peers", "an idle stranger is disconnected: there are too many");
			self.close(id);
		}
	}

	fn close(&self, id: LineId) {
		let line = self.lines.lock().expect("not poisoned").get(&id).and_then(WeakLine::upgrade);
		if let Some(line) = line {
			line.close();
		}
	}

	fn table(&self) -> std::sync::MutexGuard<'_, Table> {
		self.table.lock().expect("not poisoned")
	}
}

/// How long not to look again after a look that took so long: looking takes a tenth of a core at most.
fn rest(cost: Duration) -> Duration {
	(cost * 10).max(BETWEEN_LOOKS)
}

impl Pass {
	/// Its number.
	pub fn id(&self) -> LineId {
		self.id
	}

	/// Where it is from.
	pub fn door(&self) -> &Arc<Door> {
		&self.door
	}

	/// The connection that it is for.
	pub fn attach(&self, line: WeakLine) {
		self.door.lines.lock().expect("not poisoned").insert(self.id, line);
		if self.door.table().is_shut() {
			self.door.close(self.id);
		}
	}
}

impl Drop for Pass {
	fn drop(&mut self) {
		self.door.lines.lock().expect("not poisoned").remove(&self.id);
		self.door.table().leave(self.id, Instant::now());
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn r14_looking_at_many_clients_takes_a_part_of_the_time_only() {
		assert_eq!(rest(Duration::from_millis(1)), BETWEEN_LOOKS);
		assert_eq!(rest(Duration::from_millis(80)), Duration::from_millis(800));
	}
}
