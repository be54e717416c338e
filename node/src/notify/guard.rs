//! Where a client's webhook may lead us: to public hosts that are not ours (L5-23).
//!
//! A webhook's URL is a stranger's text, and we are inside the operator's network. So every address is judged, those in
//! the URL and those that its name resolves to, and the connection is made to the very addresses that were judged.

use crate::config::NodeConfig;
use crate::tor::{self, Way};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// bLIP-55's bound on a webhook's URL.
const MAX_URL_BYTES: usize = 1024;
/// Below it only 443: what listens on the privileged ports of other people's hosts (mail, SSH, DNS) is no webhook.
const FIRST_FREE_PORT: u16 = 1024;
/// Name look-ups under way, in all. One that hangs keeps its thread until the system gives it up, whether or not anybody
/// still waits for it.
const MAX_LOOKUPS: usize = 32;
/// Addresses of one name that are looked at; a name with more is refused.
const MAX_ADDRESSES: usize = 64;

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
	/// A host on the public internet.
	Public,
	/// This machine or its network: allowed by `notify.allow_private` only.
	Private,
	/// Nothing that a webhook can be behind: link-local (cloud metadata), multicast, documentation, reserved, tunnels.
	Nowhere,
}

/// Says where an address leads, by the registries of special-purpose addresses (RFC 6890 and its successors).
///
/// IPv6 is judged by what is allowed, global unicast, and not by what is forbidden. IPv4 inside IPv6 (mapped, NAT64) is
/// judged as IPv4.
pub fn reach(address: IpAddr) -> Reach {
	match address {
		IpAddr::V4(v4) => reach_v4(v4),
		IpAddr::V6(v6) => reach_v6(v6),
	}
}

fn reach_v4(address: Ipv4Addr) -> Reach {
	match address.octets() {
		[10 | 127, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Reach::Private,
		// This network; link-local; IETF protocols; 6to4 relays; benchmarks; documentation; multicast and beyond.
		[0 | 224.., ..]
		| [169, 254, ..]
		| [192, 0, 0 | 2, _]
		| [192, 88, 99, _]
		| [198, 18 | 19, ..]
		| [198, 51, 100, _]
		| [203, 0, 113, _] => Reach::Nowhere,
		_ => Reach::Public,
	}
}

fn reach_v6(address: Ipv6Addr) -> Reach {
	if let Some(v4) = address.to_ipv4_mapped() {
		return reach_v4(v4);
	}
	match address.segments() {
		[0, 0, 0, 0, 0, 0, 0, 1] | [0xfc00..=0xfdff, ..] => Reach::Private,
		// NAT64's well-known prefix (RFC 6052).
		[0x64, 0xff9b, 0, 0, 0, 0, high, low] => reach_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))),
		// Teredo and other IETF protocols; documentation twice; 6to4, which hides an IPv4 address.
		[0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] | [0x2002, ..] => Reach::Nowhere,
		[0x2000..=0x3fff, ..] => Reach::Public,
		_ => Reach::Nowhere,
	}
}

/// A webhook that is not called, and never will be as it is. Holds nothing of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
	/// It is no URL of at most 1024 ASCII characters.
	#[error("it is no URL")]
	NoUrl,
	/// It is not `https`.
	#[error("it is not https")]
	NotHttps,
	/// It holds a user name or a password, which our request would carry.
	#[error("it holds a user name or a password")]
	Login,
	/// It names a privileged port that is not 443.
	#[error("it names a privileged port other than 443")]
	Port,
	/// It leads to an address that is not public.
	#[error("it leads to an address that is not public")]
	NotPublic,
	/// It is an onion address, and there is no Tor, or it is none of version 3.
	#[error("it is an onion address that cannot be reached")]
	Onion,
	/// It leads to this node's own host.
	#[error("it leads to our own host")]
	Ourselves,
}

/// What the guard knows of this machine.
#[derive(Clone, Debug, Default)]
pub struct Ourselves {
	names: BTreeSet<String>,
	addresses: BTreeSet<IpAddr>,
	/// Does the kernel tell us which addresses are this machine's?
	kernel_tells: bool,
}

impl Ourselves {
	/// The names and addresses that the node announces or listens on, and what the kernel says.
	pub fn of(config: &NodeConfig) -> Ourselves {
		let announced = config.announce_addresses.iter().map(|a| bare(&a.host));
		let (addresses, names): (Vec<String>, Vec<String>) = announced.partition(|host| host.parse::<IpAddr>().is_ok());
		let listening = config.listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified());
		let addresses = addresses.iter().filter_map(|a| a.parse::<IpAddr>().ok()).chain(listening);
		// With `ip_nonlocal_bind` the kernel would call every address ours, this one for documentation as well.
		let kernel_tells = !binds(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
		Ourselves {
			names: names.into_iter().collect(),
			addresses: addresses.map(|a| a.to_canonical()).collect(),
			kernel_tells,
		}
	}

	fn is_name(&self, host: &str) -> bool {
		self.names.contains(&bare(host))
	}

	pub(super) fn is_address(&self, address: IpAddr) -> bool {
		let address = address.to_canonical();
		self.addresses.contains(&address) || self.kernel_tells && binds(address)
	}
}

/// A host name for comparison: without the final dot, in lower case.
fn bare(host: &str) -> String {
	host.trim_end_matches('.').to_ascii_lowercase()
}

/// Only an address of this machine can be bound. Nothing is sent.
fn binds(address: IpAddr) -> bool {
	UdpSocket::bind((address, 0)).is_ok()
}

/// Judges URLs and addresses.
pub struct Guard {
	ourselves: Ourselves,
	judge: Box<dyn Fn(IpAddr) -> Result<(), Refused> + Send + Sync>,
	way: Way,
}

impl Guard {
	/// The rules: public addresses only, not our own; with `allow_private` also this machine and its network.
	pub fn new(ourselves: Ourselves, allow_private: bool) -> Guard {
		if allow_private {
			return Guard::judging(|address| match reach(address) {
				Reach::Public | Reach::Private => Ok(()),
				Reach::Nowhere => Err(Refused::NotPublic),
			});
		}
		let addresses = ourselves.clone();
		let judge = move |address| match reach(address) {
			Reach::Public if addresses.is_address(address) => Err(Refused::Ourselves),
			Reach::Public => Ok(()),
			Reach::Private | Reach::Nowhere => Err(Refused::NotPublic),
		};
		Guard { ourselves, judge: Box::new(judge), way: Way::default() }
	}

	/// Addresses are judged by `judge` alone; for tests, which have no public host.
	pub fn judging(judge: impl Fn(IpAddr) -> Result<(), Refused> + Send + Sync + 'static) -> Guard {
		Guard { ourselves: Ourselves::default(), judge: Box::new(judge), way: Way::default() }
	}

	/// The same, with webhooks reached by this way.
	pub fn going(self, way: Way) -> Guard {
		Guard { way, ..self }
	}

	/// How webhooks are reached.
	pub fn way(&self) -> Way {
		self.way
	}

	/// Parses a webhook's URL and judges what can be judged without a look-up. The HTTP client never asks the resolver for
	/// an address that is written in the URL, in whatever spelling: that is judged here.
	///
	/// # Errors
	/// Why it will not be called.
	pub fn url(&self, text: &str) -> Result<Url, Refused> {
		if text.len() > MAX_URL_BYTES || !text.is_ascii() {
			return Err(Refused::NoUrl);
		}
		let url = Url::parse(text).map_err(|_| Refused::NoUrl)?;
		if url.scheme() != "https" {
			return Err(Refused::NotHttps);
		}
		if !url.username().is_empty() || url.password().is_some() {
			return Err(Refused::Login);
		}
		if url.port().is_some_and(|port| port < FIRST_FREE_PORT) {
			return Err(Refused::Port);
		}
		let host = url.host_str().ok_or(Refused::NoUrl)?;
		let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
		match literal.parse::<IpAddr>() {
			Ok(address) => (self.judge)(address)?,
			Err(_) if self.ourselves.is_name(host) => return Err(Refused::Ourselves),
			// Behind one there is nothing of our network: Tor leads to it by what it is, not by where.
			Err(_) if tor::is_onion(host) && (self.way.socks.is_none() || !tor::is_onion_v3(host)) => {
				return Err(Refused::Onion);
			}
			Err(_) => {}
		}
		Ok(url)
	}

	/// All of a name's addresses, if every one of them may be connected to. One that may not condemns them all: a name
	/// that mixes public and private addresses is an attack or an accident.
	fn addresses(&self, found: Vec<IpAddr>) -> Result<Vec<IpAddr>, Refused> {
		if found.len() > MAX_ADDRESSES {
			return Err(Refused::NotPublic);
		}
		found.iter().try_for_each(|address| (self.judge)(*address))?;
		Ok(found)
	}
}

/// A name's addresses, while they are looked up.
pub type Found = Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>>;

/// Looks a name up.
pub type Lookup = Arc<dyn Fn(String) -> Found + Send + Sync>;

/// The system's resolver, with a bounded number of look-ups at once.
pub fn system_lookup() -> Lookup {
	let turns = Arc::new(Semaphore::new(MAX_LOOKUPS));
	Arc::new(move |name| {
		let turns = turns.clone();
		Box::pin(async move {
			let turn = turns.acquire_owned().await.map_err(std::io::Error::other)?;
			let looked = tokio::task::spawn_blocking(move || {
				let _turn = turn;
				// One more than is allowed is enough to refuse them.
				(name.as_str(), 0).to_socket_addrs().map(|all| all.map(|a| a.ip()).take(MAX_ADDRESSES + 1).collect())
			});
			looked.await.map_err(std::io::Error::other)?
		})
	})
}

/// Tor's look-up: the name leaves this machine inside of Tor only. What it finds is judged as any address is. The HTTP client
/// asks for addresses written in the URL too when it goes over a proxy.
pub fn tor_lookup(socks: SocketAddr) -> Lookup {
	let turns = Arc::new(Semaphore::new(MAX_LOOKUPS));
	Arc::new(move |name| {
		let turns = turns.clone();
		Box::pin(async move {
			if let Ok(address) = name.trim_matches(['[', ']']).parse() {
				return Ok(vec![address]);
			}
			let _turn = turns.acquire().await.map_err(std::io::Error::other)?;
			Ok(vec![tor::socks::resolve(socks, &name).await?])
		})
	})
}

/// The resolver of the HTTP client: what it answers has been judged, and is what the client connects to. So a name that
/// changes its mind between look and leap (DNS rebinding) gains nothing.
pub struct Resolver {
	guard: Arc<Guard>,
	lookup: Lookup,
}

impl Resolver {
	/// A resolver that looks up by `lookup` and lets pass what `guard` allows.
	pub fn new(guard: Arc<Guard>, lookup: Lookup) -> Resolver {
		Resolver { guard, lookup }
	}
}

impl Resolve for Resolver {
	fn resolve(&self, name: Name) -> Resolving {
		let (guard, looked) = (self.guard.clone(), (self.lookup)(name.as_str().to_owned()));
		Box::pin(async move {
			let addresses = guard.addresses(looked.await?)?;
			if addresses.is_empty() {
				// With a proxy, the client would have that look the name up, unjudged.
				return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address").into());
			}
			// Port 0: the client puts the URL's.
			let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
			Ok(addresses)
		})
	}
}
