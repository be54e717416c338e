//! Ships a store's changes to one target, as they come.

use super::claim::{self, Claim, ClaimError, Lease, SIGN_OF_LIFE_SECS, fenced_at};
use super::format::{Increment, Kind, Manifest, hash, put_piece};
use super::names::{LEASE, Name};
use super::vault::{Vault, VaultError, hex, json, now_ms};
use crate::stop::stopped;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use inlet_storage::{Changes, Snapshot, Store, Tap};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

/// Bytes of an increment, but for a single change that is larger.
const MAX_INCREMENT: usize = 1 << 20;
/// Bytes of a snapshot's part, but for a single value that is larger.
const PART: usize = 1 << 20;
/// A new snapshot is made when the increments since the last one are this many times as large, and at least so many bytes,
const GROWN: u64 = 4;
const MIN_GROWN: u64 = 16 << 20;
/// or so many,
const MAX_INCREMENTS: u64 = 20_000;
/// or when the last one is this old.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// First and longest wait before another attempt.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// Who has not reached the target for so long asks first whether somebody took over.
const OUT_OF_TOUCH: Duration = Duration::from_secs(SIGN_OF_LIFE_SECS);
/// Snapshots that are kept, with all increments since the oldest of them.
const KEPT: usize = 2;

/// How a target stands.
#[derive(Clone, Debug, Default)]
pub struct TargetState {
	/// Since when something that is durable here is not there.
	pub behind_since: Option<Instant>,
	/// Why the last attempt failed; `None` if it did not.
	pub error: Option<String>,
	/// Can it be restored from? False while the first snapshot is on its way.
	pub whole: bool,
	/// When the last snapshot was begun, in milliseconds since 1970.
	pub snapshot_at_ms: Option<u64>,
	/// Its bytes, as they are there.
	pub snapshot_bytes: u64,
	/// Increments since then.
	pub increments: u64,
	/// Their bytes, as they are there.
	pub increment_bytes: u64,
}

/// Ships to one target.
pub struct Shipper {
	/// Where to.
	pub vault: Vault,
	/// Our claim there.
	pub claim: Claim,
	/// What is shipped.
	pub tap: Tap,
	/// What snapshots are made of.
	pub store: Store,
	/// Which network.
	pub network: String,
	/// The configuration file.
	pub config: String,
	/// For who wants to know.
	pub state: Arc<Mutex<TargetState>>,
	/// Asks for a snapshot.
	pub now: Arc<Notify>,
	/// Called when another copy took over; not expected to return.
	pub fenced: Arc<dyn Fn(&str) + Send + Sync>,
}

/// The shipping stopped: told to, or taken over.
struct Stopped;

/// The parts of a snapshot that are on the target.
struct Sent {
	/// The last change that is in them.
	up_to: u64,
	parts: u64,
	bytes: u64,
	parts_hash: String,
}

/// What changes as it goes on.
struct Way {
	shipper: Shipper,
	stop: watch::Receiver<bool>,
	/// The next increment, and the hash that it builds on.
	next: u64,
	chain: [u8; 32],
	/// The last change that is there.
	last: u64,
	snapshots: u64,
	snapshot_made: Instant,
	touched: Instant,
}

impl Shipper {
	/// Ships until `stop`, and then what is left, if the target takes it. To be told to stop when the store is at rest.
	pub async fn run(self, stop: watch::Receiver<bool>) {
		let now = Instant::now();
		let (next, chain) = (1, [0; 32]);
		let mut way = Way { shipper: self, stop, next, chain, last: 0, snapshots: 0, snapshot_made: now, touched: now };
		// Stopped: by us, or by another copy, which the hook has been told.
		let _ended = way.go().await;
	}
}

impl Way {
	async fn go(&mut self) -> Result<(), Stopped> {
		let mut life = tokio::time::interval(Duration::from_secs(SIGN_OF_LIFE_SECS));
		life.set_missed_tick_behavior(MissedTickBehavior::Delay);
		loop {
			let lost = self.shipper.tap.was_lost();
			if lost || !self.whole() {
				self.note(|state| state.whole = false);
				self.shipper.tap.skip();
				self.snapshot().await?;
			} else if let Some(changes) = self.shipper.tap.take(MAX_INCREMENT) {
				self.ship(changes).await?;
			} else if self.is_to_stop() {
				return self.close().await;
			} else if self.is_due() {
				self.snapshot().await?;
			} else {
				let mut stop = self.stop.clone();
				tokio::select! {
					() = self.shipper.tap.wait() => {},
					() = self.shipper.now.notified() => self.snapshot().await?,
					_ = life.tick() => self.sign_of_life().await?,
					() = stopped(&mut stop) => {},
				}
			}
		}
	}

	fn is_to_stop(&self) -> bool {
		*self.stop.borrow()
	}

	fn whole(&self) -> bool {
		self.state(|state| state.whole)
	}

	fn is_due(&self) -> bool {
		let grown = self.state(|state| {
			state.increment_bytes > MIN_GROWN.max(GROWN * state.snapshot_bytes) || state.increments > MAX_INCREMENTS
		});
		grown || self.snapshot_made.elapsed() > MAX_AGE
	}

	/// Writes an increment, for as long as it takes.
	async fn ship(&mut self, changes: Changes) -> Result<(), Stopped> {
		self.note(|state| state.behind_since = state.behind_since.or(Some(Instant::now())));
		let Changes { first, last, bytes } = changes;
		self.increment(Increment { kind: Kind::Changes, chain: self.chain, first, last, at_ms: now_ms(), bytes })
			.await?;
		self.confirm();
		Ok(())
	}

	/// What is there counts, once it can be restored from.
	fn confirm(&self) {
		if !self.whole() {
			return;
		}
		self.shipper.tap.confirm(self.last);
		let (last, confirmed, _) = self.shipper.tap.position();
		self.note(|state| state.behind_since = (confirmed < last).then(Instant::now));
	}

	async fn increment(&mut self, increment: Increment) -> Result<(), Stopped> {
		let name = Name::Increment { epoch: self.shipper.claim.epoch, number: self.next }.to_string();
		let sealed = self.shipper.vault.seal(&name, &increment.to_bytes());
		self.put(&name, &sealed).await?;
		(self.chain, self.next, self.last) = (hash(&sealed), self.next + 1, increment.last);
		self.note(|state| {
			state.increments += 1;
			state.increment_bytes += sealed.len() as u64;
		});
		Ok(())
	}

	/// Makes a snapshot; meanwhile increments go on.
	async fn snapshot(&mut self) -> Result<(), Stopped> {
		let (at_ms, begun) = (now_ms(), Instant::now());
		let (first_increment, chain, epoch) = (self.next, self.chain, self.shipper.claim.epoch);
		self.snapshots += 1;
		let number = self.snapshots;
		let pieces = match self.shipper.store.snapshot().await {
			Ok(pieces) => pieces,
			Err(e) => return self.unreadable(&e).await,
		};
		let base = pieces.base;
		self.last = self.last.max(base);
		let Some(Sent { up_to, parts, bytes, parts_hash }) = self.send(pieces, number).await? else { return Ok(()) };
		if !self.catch_up(up_to).await? {
			return Ok(());
		}
		let manifest = Manifest {
			version: 1,
			inlet: env!("CARGO_PKG_VERSION").to_owned(),
			network: self.shipper.network.clone(),
			at_ms,
			parts,
			parts_hash,
			base,
			up_to,
			first_increment,
			chain: hex(&chain),
			sync: self.shipper.tap.holds(),
			config: self.shipper.config.clone(),
		};
		if !self.is_kept(&manifest, number).await? {
			return Ok(());
		}
		let name = Name::Snapshot { epoch, snapshot: number }.to_string();
		let sealed = self.shipper.vault.seal(&name, &json(&manifest));
		self.put(&name, &sealed).await?;
		// Nothing of this epoch may be acknowledged if a restore took the one before it meanwhile.
		self.ask_who_owns().await?;
		self.snapshot_made = begun;
		self.note(|state| {
			(state.whole, state.snapshot_at_ms, state.snapshot_bytes) = (true, Some(at_ms), bytes);
			(state.increments, state.increment_bytes) = (0, 0);
		});
		self.confirm();
		self.tidy().await;
		Ok(())
	}

	/// Writes the parts of a snapshot, and the increments that come meanwhile. `None`: the store cannot be read.
	async fn send(&mut self, mut pieces: Snapshot, number: u64) -> Result<Option<Sent>, Stopped> {
		let epoch = self.shipper.claim.epoch;
		let (mut hashes, mut part) = (sha256::Hash::engine(), Vec::new());
		let (mut up_to, mut parts, mut bytes) = (pieces.base, 0, 0);
		loop {
			let piece = match pieces.next().await {
				Ok(piece) => piece,
				Err(e) => return self.unreadable(&e).await.map(|()| None),
			};
			let ended = piece.is_none();
			if let Some(piece) = piece {
				up_to = up_to.max(piece.as_of);
				put_piece(&mut part, piece.as_of, &piece.bytes);
			}
			if part.len() >= PART || (ended && !part.is_empty()) {
				let name = Name::Part { epoch, snapshot: number, part: parts }.to_string();
				let sealed = self.shipper.vault.seal(&name, &std::mem::take(&mut part));
				self.put(&name, &sealed).await?;
				hashes.input(&hash(&sealed));
				(parts, bytes) = (parts + 1, bytes + sealed.len() as u64);
			}
			while let Some(changes) = self.shipper.tap.take(MAX_INCREMENT) {
				self.ship(changes).await?;
			}
			if ended {
				let parts_hash = hex(sha256::Hash::from_engine(hashes).as_byte_array());
				return Ok(Some(Sent { up_to, parts, bytes, parts_hash }));
			}
		}
	}

	/// Ships everything up to a change. False if some of it was dropped: then the snapshot is of no use.
	async fn catch_up(&mut self, up_to: u64) -> Result<bool, Stopped> {
		// What a piece has seen may not be committed yet; nobody waits for the answer, which may wait for us.
		drop(self.shipper.store.drain());
		while self.last < up_to {
			if let Some(changes) = self.shipper.tap.take(MAX_INCREMENT) {
				self.ship(changes).await?;
				continue;
			}
			let mut stop = self.stop.clone();
			tokio::select! {
				() = self.shipper.tap.wait() => {},
				() = stopped(&mut stop) => return Err(Stopped),
			}
			if self.shipper.tap.was_lost() {
				self.note(|state| state.whole = false);
				return Ok(false);
			}
		}
		Ok(true)
	}

	/// Reads the parts back: a disk or a server that does not keep what it took is known before it is relied on.
	async fn is_kept(&mut self, manifest: &Manifest, number: u64) -> Result<bool, Stopped> {
		let epoch = self.shipper.claim.epoch;
		let mut hashes = sha256::Hash::engine();
		for part in 0..manifest.parts {
			let name = Name::Part { epoch, snapshot: number, part }.to_string();
			let vault = self.shipper.vault.clone();
			let read = self.again(move || {
				let (vault, name) = (vault.clone(), name.clone());
				async move { vault.read_sealed(&name).await }
			});
			hashes.input(&hash(&read.await?.unwrap_or_default()));
		}
		if hex(sha256::Hash::from_engine(hashes).as_byte_array()) == manifest.parts_hash {
			return Ok(true);
		}
		let why = "it does not keep what is written to it: check the disk, or take another target".to_owned();
		tracing::error!(target: "inlet::backup", name = self.shipper.vault.name, "{why}");
		self.note(|state| state.error = Some(why));
		self.pause(BACKOFF.1).await?;
		Ok(false)
	}

	/// Removes what nobody needs once there are newer snapshots.
	async fn tidy(&self) {
		if let Err(e) = remove_old(&self.shipper.vault).await {
			tracing::warn!(target: "inlet::backup", "old parts of the backup are still there: {e}");
		}
	}

	/// Goes on only if nobody else has taken over.
	async fn ask_who_owns(&mut self) -> Result<(), Stopped> {
		let shipper = (self.shipper.vault.clone(), self.shipper.claim.clone());
		let asked = self.again(move || {
			let (vault, claim) = shipper.clone();
			async move {
				match claim::check(&vault, &claim).await {
					Err(ClaimError::Vault(e)) => Err(e),
					checked => Ok(checked.err()),
				}
			}
		});
		match asked.await? {
			Some(e) => Err(self.taken_over(&e)),
			None => Ok(()),
		}
	}

	/// Says that we are here, and sees whether somebody else says so.
	async fn sign_of_life(&mut self) -> Result<(), Stopped> {
		match claim::check(&self.shipper.vault, &self.shipper.claim).await {
			Err(e @ ClaimError::Fenced { .. }) => return Err(self.taken_over(&e)),
			// The next attempt to write something tells what is the matter.
			Err(e) => {
				self.failed(&e);
				return Ok(());
			}
			Ok(()) => {}
		}
		match self.say(true).await {
			Ok(()) => self.reached(),
			Err(e) => self.failed(&e.into()),
		}
		Ok(())
	}

	async fn say(&self, running: bool) -> Result<(), VaultError> {
		let Shipper { claim, tap, vault, .. } = &self.shipper;
		let (epoch, sync, increment) = (claim.epoch, tap.holds(), self.next - 1);
		vault.replace_json(LEASE, &Lease { epoch, at_ms: now_ms(), running, sync, increment }).await
	}

	/// Everything is there: says so, so that a restore knows that nothing is missing.
	async fn close(&mut self) -> Result<(), Stopped> {
		let (first, last) = (self.last + 1, self.last);
		let end = Increment { kind: Kind::Closed, chain: self.chain, first, last, at_ms: now_ms(), bytes: Vec::new() };
		self.increment(end).await?;
		self.say(false).await.map_err(|_| Stopped)
	}

	/// Writes a new object, again and again until it is there.
	async fn put(&mut self, name: &str, sealed: &[u8]) -> Result<(), Stopped> {
		let (vault, sealed, name) = (self.shipper.vault.clone(), Arc::new(sealed.to_vec()), name.to_owned());
		self.again(move || {
			let (vault, name, sealed) = (vault.clone(), name.clone(), sealed.clone());
			async move { vault.create(&name, &sealed).await }
		})
		.await
	}

	/// Tries until it succeeds. Who was out of touch for a while first asks whether another copy took over.
	async fn again<T, F>(&mut self, attempt: impl Fn() -> F) -> Result<T, Stopped>
	where
		F: Future<Output = Result<T, VaultError>>,
	{
		let mut wait = BACKOFF.0;
		loop {
			let result = match self.touched.elapsed() > OUT_OF_TOUCH {
				true => claim::check(&self.shipper.vault, &self.shipper.claim).await,
				false => Ok(()),
			};
			let result = match result {
				Ok(()) => attempt().await.map_err(ClaimError::from),
				Err(e) => Err(e),
			};
			match result {
				Ok(value) => {
					self.reached();
					return Ok(value);
				}
				Err(e @ ClaimError::Fenced { .. }) => return Err(self.taken_over(&e)),
				// Only who took over writes there beside us.
				Err(ClaimError::Vault(VaultError::Exists { .. })) => {
					return Err(self.taken_over(&fenced_at(&self.shipper.vault, now_ms())));
				}
				Err(e) => self.failed(&e),
			}
			self.pause(wait).await?;
			wait = (wait * 2).min(BACKOFF.1);
		}
	}

	async fn pause(&mut self, wait: Duration) -> Result<(), Stopped> {
		let mut stop = self.stop.clone();
		tokio::select! {
			() = tokio::time::sleep(wait) => Ok(()),
			() = stopped(&mut stop) => Err(Stopped),
		}
	}

	fn reached(&mut self) {
		self.touched = Instant::now();
		self.note(|state| state.error = None);
	}

	fn failed(&self, e: &ClaimError) {
		let text = e.to_string();
		if self.state(|state| state.error.as_ref() != Some(&text)) {
			tracing::warn!(target: "inlet::backup", "{text}");
		}
		self.note(|state| state.error = Some(text));
	}

	/// The store has told its operator already, or has closed.
	async fn unreadable(&mut self, e: &inlet_storage::ReadError) -> Result<(), Stopped> {
		let text = format!("no snapshot can be made: {e}");
		tracing::error!(target: "inlet::backup", "{text}");
		self.note(|state| state.error = Some(text));
		self.pause(BACKOFF.1).await
	}

	fn taken_over(&self, e: &ClaimError) -> Stopped {
		(self.shipper.fenced)(&e.to_string());
		Stopped
	}

	fn state<T>(&self, look: impl FnOnce(&TargetState) -> T) -> T {
		look(&self.shipper.state.lock().unwrap_or_else(PoisonError::into_inner))
	}

	fn note(&self, change: impl FnOnce(&mut TargetState)) {
		change(&mut self.shipper.state.lock().unwrap_or_else(PoisonError::into_inner));
	}
}

/// Removes everything before the oldest of the snapshots that are kept. Owners stay: a claim needs the last of them, and they
/// are small.
async fn remove_old(vault: &Vault) -> Result<(), VaultError> {
	let mut names: Vec<Name> = vault.list().await?.iter().filter_map(|name| Name::parse(name)).collect();
	names.sort_unstable();
	let snapshots = names.iter().filter_map(|name| match name {
		Name::Snapshot { epoch, snapshot } => Some((*epoch, *snapshot)),
		_ => None,
	});
	let mut snapshots: Vec<_> = snapshots.collect();
	snapshots.sort_unstable();
	let Some(&(epoch, snapshot)) = snapshots.iter().rev().nth(KEPT - 1) else { return Ok(()) };
	let manifest: Option<Manifest> = vault.read_json(&Name::Snapshot { epoch, snapshot }.to_string()).await?;
	let Some(manifest) = manifest else { return Ok(()) };
	let is_old = |name: &Name| match *name {
		Name::Owner { .. } => false,
		Name::Part { epoch: e, snapshot: s, .. } | Name::Snapshot { epoch: e, snapshot: s } => {
			(e, s) < (epoch, snapshot)
		}
		Name::Increment { epoch: e, number } => (e, number) < (epoch, manifest.first_increment),
	};
	// A snapshot goes before its parts: what is half removed must not look whole.
	let mut old: Vec<Name> = names.into_iter().filter(is_old).collect();
	old.sort_by_key(|name| !matches!(name, Name::Snapshot { .. }));
	for name in old {
		vault.remove(&name.to_string()).await?;
	}
	Ok(())
}
