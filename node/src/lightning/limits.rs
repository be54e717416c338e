//! How many connections there may be, of whom, and how much they may say. Plain tables: the time comes in as an argument.

use crate::config::PeerLimits;
use bitcoin::secp256k1::PublicKey;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;
use tokio::time::Instant;

/// Connections that came in, in all; those of clients with channels included.
const MAX_INBOUND: usize = 5_000;
/// Connections that came in and whose handshake is not through. One more pushes out the oldest of where most are from: an honest
/// handshake takes two round trips, so what is old is slow on purpose.
const MAX_HANDSHAKES: usize = 512;
/// The same from one address, where it does not stand for many.
const MAX_HANDSHAKES_PER_IP: usize = 16;
/// Addresses that are remembered beyond their connections, for what they have sent.
const MAX_ADDRESSES: usize = 4_096;
/// Who came in is closed for others last so long after its handshake: the time that it takes to buy something.
const NEWCOMER: Duration = Duration::from_secs(30);
/// What a message costs at least, so that many small ones cost too.
const LEAST_COST: usize = 1_024;
/// LSPS bytes of one connection: at once, and each second.
const SHARE: Share = Share { burst: 1 << 20, each_second: 64 << 10 };
/// LSPS bytes of one address that does not stand for many.
const SHARE_PER_IP: Share = Share { burst: 8 << 20, each_second: 512 << 10 };

/// No connection is held back longer at once.
const LONGEST_HOLD: Duration = Duration::from_secs(2);

/// Why a connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
	/// There are as many as there may be.
	#[error("{MAX_INBOUND} connections came in already")]
	Full,
	/// There are as many from this address as there may be.
	#[error("there are as many connections from this address as it may have")]
	Address,
	/// The node stops.
	#[error("the node stops")]
	Stopping,
	/// Too many from this address have not finished their handshake.
	#[error("too many handshakes of this address are under way")]
	Handshakes,
}

/// What a node is to us. The later, the more its connection is worth to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
	/// Nothing.
	Stranger,
	/// It was promised something that it has not paid.
	Promised,
	/// It has a channel that cost somebody something, paid for one, or is kept by the operator: never closed for others.
	Client,
}

/// What is known of a node when it is judged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
	/// It has a channel, of whatever kind. To propose one costs nothing.
	pub channel: bool,
	/// It has a channel that we opened, or one that is confirmed.
	pub backed_channel: bool,
	/// Something that it paid for is under way.
	pub awaited: bool,
	/// The operator keeps it.
	pub kept: bool,
	/// It was promised something that it has not paid.
	pub promised: bool,
}

/// What a node is to us and to LDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
	/// To us.
	pub standing: Standing,
	/// LDK counts it among the peers without a funded channel: from 250 on it refuses new ones that come in.
	pub counted: bool,
}

impl From<Known> for Judged {
	fn from(known: Known) -> Judged {
		let standing = if known.backed_channel || known.awaited || known.kept {
			Standing::Client
		} else if known.promised || known.channel {
			Standing::Promised
		} else {
			Standing::Stranger
		};
		Judged { standing, counted: !known.backed_channel }
	}
}

/// An amount that may be used at once, and what comes back each second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
	burst: u32,
	each_second: u32,
}

/// What is left of a share. It may be overdrawn by what came in before it was looked at; then it is waited for, but never longer
/// than [`LONGEST_HOLD`]: others may share it, and who overdraws it may be gone.
#[derive(Clone, Copy, Debug)]
struct Bucket {
	share: Share,
	left: f64,
	at: Instant,
}

impl Bucket {
	fn full(share: Share, now: Instant) -> Bucket {
		Bucket { share, left: share.burst.into(), at: now }
	}

	fn refill(&mut self, now: Instant) {
		let since = now.saturating_duration_since(self.at).as_secs_f64();
		self.left = (self.left + since * f64::from(self.share.each_second)).min(self.share.burst.into());
		self.at = now;
	}

	/// Takes, and says until when to wait if it is overdrawn.
	fn take(&mut self, cost: u32, now: Instant) -> Option<Instant> {
		self.refill(now);
		let floor = -LONGEST_HOLD.as_secs_f64() * f64::from(self.share.each_second);
		self.left = (self.left - f64::from(cost)).max(floor);
		(self.left < 0.0).then(|| now + Duration::from_secs_f64(-self.left / f64::from(self.share.each_second)))
	}

	fn is_full(&self, now: Instant) -> bool {
		let mut refilled = *self;
		refilled.refill(now);
		refilled.left >= self.share.burst.into()
	}
}

/// What counts as one address: an IPv4 address, or an IPv6 /64, which one customer gets.
fn network(ip: IpAddr) -> IpAddr {
	match ip.to_canonical() {
		IpAddr::V4(v4) => IpAddr::V4(v4),
		IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
	}
}

/// May this address stand for many clients: Tor or a proxy on this machine or beside it, a VPN (100.64.0.0/10 too)?
fn is_local(ip: IpAddr) -> bool {
	match ip {
		IpAddr::V4(v4) => {
			let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
			v4.is_loopback() || v4.is_private() || v4.is_link_local() || shared
		}
		IpAddr::V6(v6) => {
			// The /64 of ::1 is ::.
			v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
		}
	}
}

/// What suffers together when it is too many: an IPv4 address, an IPv6 /48, which one customer may get, and all that comes from
/// this machine or beside it, where nobody can be told from another.
fn group(network: IpAddr) -> IpAddr {
	match network {
		local if is_local(local) => IpAddr::V6(Ipv6Addr::LOCALHOST),
		IpAddr::V4(v4) => IpAddr::V4(v4),
		IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 80 << 80)),
	}
}

/// A connection in the [`Table`].
pub type LineId = u64;

#[derive(Debug)]
struct Entry {
	/// Where it came from; `None` for one that we made.
	from: Option<IpAddr>,
	bucket: Bucket,
	peer: Option<PublicKey>,
	/// When its handshake was through; its beginning until then.
	shaken: Instant,
	/// It was judged to be a client's.
	client: bool,
	/// When it was last of use: its beginning, or its last LSPS message.
	used: Instant,
}

#[derive(Debug)]
struct Address {
	lines: usize,
	handshakes: usize,
	bucket: Bucket,
}

/// All connections and where they came from.
#[derive(Debug)]
pub struct Table {
	limits: PeerLimits,
	next: LineId,
	entries: BTreeMap<LineId, Entry>,
	addresses: HashMap<IpAddr, Address>,
	inbound: usize,
	/// Nobody comes or is fetched any more.
	shut: bool,
	/// Connections that came in and whose handshake is not through.
	shaking: BTreeMap<LineId, Shaking>,
}

#[derive(Clone, Copy, Debug)]
struct Shaking {
	group: IpAddr,
	/// It has sent something.
	heard: bool,
}

impl Table {
	/// An empty one.
	pub fn new(limits: PeerLimits) -> Table {
		let (entries, addresses, shaking) = Default::default();
		Table { limits, next: 1, entries, addresses, inbound: 0, shut: false, shaking }
	}

	/// A connection came in: its number, and that of a connection that has to make room.
	///
	/// # Errors
	/// Why it has to be closed unheard.
	pub fn enter(&mut self, ip: IpAddr, now: Instant) -> Result<(LineId, Option<LineId>), Refused> {
		if self.shut {
			return Err(Refused::Stopping);
		}
		let ip = network(ip);
		let max_handshakes = if is_local(ip) { usize::MAX } else { MAX_HANDSHAKES_PER_IP };
		let max = self.most(ip);
		if self.inbound >= MAX_INBOUND {
			return Err(Refused::Full);
		}
		if !self.addresses.contains_key(&ip) && self.addresses.len() >= MAX_ADDRESSES {
			self.forget_addresses(now);
		}
		let fresh = Address { lines: 0, handshakes: 0, bucket: Bucket::full(SHARE_PER_IP, now) };
		let address = self.addresses.entry(ip).or_insert(fresh);
		if address.lines >= max {
			return Err(Refused::Address);
		}
		if address.handshakes >= max_handshakes {
			return Err(Refused::Handshakes);
		}
		address.lines += 1;
		address.handshakes += 1;
		let group = group(ip);
		let slow = (self.shaking.len() >= MAX_HANDSHAKES).then(|| self.slow_handshake(group)).flatten();
		if let Some(slow) = slow {
			let from = self.entries.get(&slow).and_then(|entry| entry.from);
			self.end_handshake(slow, from);
		}
		self.inbound += 1;
		let id = self.insert(Some(ip), now);
		self.shaking.insert(id, Shaking { group, heard: false });
		Ok((id, slow))
	}

	/// We made a connection: its number.
	///
	/// # Errors
	/// [`Refused::Stopping`].
	pub fn leave_for(&mut self, now: Instant) -> Result<LineId, Refused> {
		if self.shut { Err(Refused::Stopping) } else { Ok(self.insert(None, now)) }
	}

	/// From now on there are no new connections.
	pub fn shut(&mut self) {
		self.shut = true;
	}

	/// Has it been shut?
	pub fn is_shut(&self) -> bool {
		self.shut
	}

	/// A connection has sent its first bytes.
	pub fn heard(&mut self, id: LineId) {
		if let Some(shaking) = self.shaking.get_mut(&id) {
			shaking.heard = true;
		}
	}

	/// The handshake of a connection is through.
	pub fn shaken(&mut self, id: LineId, peer: PublicKey, now: Instant) {
		let Some(entry) = self.entries.get_mut(&id) else { return };
		if entry.peer.replace(peer).is_none() {
			entry.shaken = now;
			let from = entry.from;
			self.end_handshake(id, from);
		}
	}

	/// An LSPS message of so many bytes came in. `Some`: nothing more is to be read from it until then. Clients have their own
	/// share only: what others at their address send does not hold up their channels.
	pub fn charge(&mut self, id: LineId, bytes: usize, now: Instant) -> Option<Instant> {
		let cost = u32::try_from(bytes.max(LEAST_COST)).unwrap_or(u32::MAX);
		let entry = self.entries.get_mut(&id)?;
		entry.used = now;
		let own = entry.bucket.take(cost, now);
		let shared = entry.from.filter(|ip| !entry.client && !is_local(*ip)).and_then(|ip| self.addresses.get_mut(&ip));
		own.max(shared.and_then(|address| address.bucket.take(cost, now)))
	}

	/// A connection is gone. Twice is once.
	pub fn leave(&mut self, id: LineId, now: Instant) {
		let Some(entry) = self.entries.remove(&id) else { return };
		if entry.peer.is_none() {
			self.end_handshake(id, entry.from);
		}
		let Some(ip) = entry.from else { return };
		self.inbound -= 1;
		if let Some(address) = self.addresses.get_mut(&ip) {
			address.lines -= 1;
			if address.lines == 0 && (is_local(ip) || address.bucket.is_full(now)) {
				self.addresses.remove(&ip);
			}
		}
	}

	/// Connections whose handshake is through and that are to be judged: with `all`, each, if they are more than there may be of
	/// strangers; in any case those of addresses that have used up much of what they have in common. Those that we made
	/// count as well, as they do for LDK: strangers can have us make some.
	pub fn crowd(&self, all: bool, now: Instant) -> Vec<(LineId, PublicKey)> {
		let all = all && self.entries.values().filter(|entry| entry.peer.is_some()).count() > self.limits.max_strangers;
		let tight: HashSet<_> = self
			.addresses
			.iter()
			.filter(|(ip, address)| self.is_tight(**ip, address, now))
			.map(|(ip, _)| *ip)
			.collect();
		let crowd = self.entries.iter().filter(|(_, entry)| all || entry.from.is_some_and(|ip| tight.contains(&ip)));
		crowd.filter_map(|(id, entry)| Some((*id, entry.peer?))).collect()
	}

	/// What was found out about connections.
	pub fn judged(&mut self, crowd: &[(LineId, Judged)]) {
		for (id, judged) in crowd {
			if let Some(entry) = self.entries.get_mut(id) {
				entry.client = judged.standing == Standing::Client;
			}
		}
	}

	/// Of a crowd, who has to go so that LDK counts no more than there may be of strangers: first those that have been here a
	/// while, then newcomers, last those with something promised, which costs nothing and protects no more than half of all
	/// places. Among equals the longest idle of the address with most of them goes.
	pub fn surplus(&self, crowd: &[(LineId, Judged)], now: Instant) -> Vec<LineId> {
		let staying = crowd.iter().filter(|(_, judged)| judged.standing == Standing::Client && judged.counted).count();
		let room = self.limits.max_strangers.saturating_sub(staying);
		let others = crowd.iter().filter(|(_, judged)| judged.standing < Standing::Client);
		let others: Vec<_> =
			others.filter_map(|(id, judged)| Some((*id, judged.standing, self.entries.get(id)?))).collect();
		let surplus = others.len().saturating_sub(room);
		if surplus == 0 {
			return Vec::new();
		}
		let mut promised: Vec<_> = others.iter().filter(|(_, standing, _)| *standing == Standing::Promised).collect();
		promised.sort_unstable_by_key(|(id, _, entry)| std::cmp::Reverse((entry.used, *id)));
		let protected: HashSet<_> = promised.iter().take(self.limits.max_strangers / 2).map(|(id, ..)| *id).collect();
		let rank = |id: &LineId, entry: &Entry| match protected.contains(id) {
			true => Rank::Protected,
			false if now < entry.shaken + NEWCOMER => Rank::Newcomer,
			false => Rank::Other,
		};
		let mut crowd = Evictable::default();
		for (id, _, entry) in &others {
			crowd.add(rank(id, entry), entry.from.map(group), entry.used, *id);
		}
		std::iter::from_fn(|| crowd.next()).take(surplus).collect()
	}

	/// Of a crowd, the strangers who have to go so that their address lets others in: the longest idle, as long as more than
	/// three quarters of what an address may have are taken.
	pub fn idle(&self, crowd: &[(LineId, Judged)], now: Instant) -> Vec<LineId> {
		let strangers = crowd.iter().filter(|(_, judged)| judged.standing == Standing::Stranger);
		let mut idle: Vec<_> = strangers
			.filter_map(|(id, _)| Some((*id, self.entries.get(id)?)))
			.filter(|(_, entry)| entry.used.max(entry.shaken) + NEWCOMER <= now)
			.filter_map(|(id, entry)| Some((entry.used, id, entry.from?)))
			.collect();
		idle.sort_unstable();
		let mut taken: HashMap<_, _> = self.addresses.iter().map(|(ip, address)| (*ip, address.lines)).collect();
		idle.retain(|(_, _, ip)| match taken.get_mut(ip) {
			Some(lines) if *lines > self.enough(*ip) => {
				*lines -= 1;
				true
			}
			_ => false,
		});
		idle.into_iter().map(|(_, id, _)| id).collect()
	}

	/// Connections that an address may have.
	fn most(&self, ip: IpAddr) -> usize {
		if is_local(ip) { self.limits.max_per_local_ip } else { self.limits.max_per_ip }
	}

	/// Connections of an address above which its idle strangers go.
	fn enough(&self, ip: IpAddr) -> usize {
		self.most(ip).saturating_mul(3) / 4
	}

	fn is_tight(&self, ip: IpAddr, address: &Address, now: Instant) -> bool {
		let mut bucket = address.bucket;
		bucket.refill(now);
		address.lines > self.enough(ip) || bucket.left < f64::from(SHARE_PER_IP.burst / 2)
	}

	fn insert(&mut self, from: Option<IpAddr>, now: Instant) -> LineId {
		let id = self.next;
		self.next += 1;
		self.entries.insert(
			id,
			Entry { from, bucket: Bucket::full(SHARE, now), peer: None, shaken: now, client: false, used: now },
		);
		id
	}

	/// The handshake that has to make room for one of this group: one of the group that has most, with that one. Of these the
	/// oldest that has sent nothing, or else the oldest.
	fn slow_handshake(&self, newcomer: IpAddr) -> Option<LineId> {
		let mut groups = HashMap::from([(newcomer, 1)]);
		for shaking in self.shaking.values() {
			*groups.entry(shaking.group).or_insert(0_usize) += 1;
		}
		// Numbers are given in the order of time.
		let order =
			|(id, shaking): &(&LineId, &Shaking)| (std::cmp::Reverse(groups[&shaking.group]), shaking.heard, **id);
		self.shaking.iter().min_by_key(order).map(|(id, _)| *id)
	}

	fn end_handshake(&mut self, id: LineId, from: Option<IpAddr>) {
		// Once: one that has to make room is out of it before it is closed.
		let (Some(ip), Some(_)) = (from, self.shaking.remove(&id)) else { return };
		if let Some(address) = self.addresses.get_mut(&ip) {
			address.handshakes -= 1;
		}
	}

	/// Makes room: first what means nothing any more, then all that have no connection.
	fn forget_addresses(&mut self, now: Instant) {
		self.addresses.retain(|_, address| address.lines > 0 || !address.bucket.is_full(now));
		if self.addresses.len() >= MAX_ADDRESSES {
			self.addresses.retain(|_, address| address.lines > 0);
		}
	}
}

/// Who goes before whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
	Other,
	Newcomer,
	Protected,
}

/// Connections that may be closed, in the order in which they would be.
#[derive(Default)]
struct Evictable {
	/// Connections that we made have no group.
	lines: BTreeSet<(Rank, Instant, LineId, Option<IpAddr>)>,
	groups: HashMap<IpAddr, usize>,
}

impl Evictable {
	fn add(&mut self, rank: Rank, group: Option<IpAddr>, used: Instant, id: LineId) {
		self.lines.insert((rank, used, id, group));
		if let Some(group) = group {
			*self.groups.entry(group).or_default() += 1;
		}
	}
}

impl Iterator for Evictable {
	type Item = LineId;

	fn next(&mut self) -> Option<LineId> {
		let rank = self.lines.first()?.0;
		let size = |group: &Option<IpAddr>| group.map_or(1, |group| self.groups[&group]);
		let equals = self.lines.iter().take_while(|(other, ..)| *other == rank);
		// The first of several with the same: it is the longest idle.
		let next = *equals.min_by_key(|(.., group)| std::cmp::Reverse(size(group)))?;
		self.lines.remove(&next);
		if let Some(count) = next.3.and_then(|group| self.groups.get_mut(&group)) {
			*count -= 1;
		}
		Some(next.2)
	}
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
