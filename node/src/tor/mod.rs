//! Tor: the way out over its SOCKS port, and the onion service that lets others in. See `node/docs/tor.md`.
//!
//! Everything that leaves this machine asks a [`Way`] first. Nothing else here knows where the node's connections go.

mod bridge;
pub mod control;
mod onion;
pub mod socks;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

pub use bridge::Bridge;
pub use control::ControlPlace;
pub use onion::{OnionKey, Service, State, watch};
pub use socks::SocksError;

use crate::notify::guard::{Reach, reach};
use reqwest::Url;
use std::io;
use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpStream;

/// How connections leave this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
	/// Tor's SOCKS port; `None`: there is no Tor.
	pub socks: Option<SocketAddr>,
	/// Everything goes over it, and no name is looked up here.
	pub only: bool,
}

/// How one host is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
	/// By the network.
	Direct,
	/// Over Tor's SOCKS port, which is here.
	Tor(SocketAddr),
}

/// An onion address, and no Tor: set `tor.socks`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is an onion address, and tor.socks names no Tor to reach it with")]
pub struct NoTor(pub String);

impl From<NoTor> for io::Error {
	fn from(error: NoTor) -> io::Error {
		io::Error::new(io::ErrorKind::Unsupported, error)
	}
}

impl Way {
	/// How this host, a name or an address without brackets, is reached. Loopback and private addresses, and `localhost`, are
	/// reached directly in any case: Tor leads to none of them, and they tell nobody outside anything.
	///
	/// # Errors
	/// [`NoTor`].
	pub fn route(&self, host: &str) -> Result<Route, NoTor> {
		match self.socks {
			Some(socks) if is_onion(host) => Ok(Route::Tor(socks)),
			None if is_onion(host) => Err(NoTor(host.to_owned())),
			Some(socks) if self.only && !is_near(host) => Ok(Route::Tor(socks)),
			_ => Ok(Route::Direct),
		}
	}

	/// Connects to `host:port`; an IPv6 address is without brackets here. A time limit is the caller's.
	///
	/// # Errors
	/// What the network or Tor says.
	pub async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
		match self.route(host)? {
			Route::Direct => TcpStream::connect((host, port)).await,
			Route::Tor(socks) => Ok(socks::connect(socks, host, port, &isolation(host)).await?),
		}
	}

	/// The proxy that an HTTP client which knows SOCKS is to use for this URL; `None`: none. The name is Tor's to look up.
	///
	/// # Errors
	/// [`NoTor`].
	pub fn proxy(&self, url: &str) -> Result<Option<String>, NoTor> {
		let Some((host, _)) = target(url) else { return Ok(None) };
		Ok(match self.route(&host)? {
			Route::Direct => None,
			Route::Tor(socks) => Some(format!("socks5h://{}:{}@{socks}", socks::USER, isolation(&host))),
		})
	}

	/// The proxy for a webhook. Its name is looked up by the client's own resolver, which asks Tor and judges what it finds; then
	/// Tor is asked for that very address. An onion address is Tor's own matter.
	pub fn webhook_proxy(&self, url: &Url) -> Option<String> {
		let host = url.host_str()?.trim_matches(['[', ']']);
		// Without Tor the guard lets no onion address pass.
		let Ok(Route::Tor(socks)) = self.route(host) else { return None };
		let scheme = if is_onion(host) { "socks5h" } else { "socks5" };
		Some(format!("{scheme}://{}:{}@{socks}", socks::USER, isolation(host)))
	}

	/// A bridge for an HTTP client which knows no SOCKS, to this URL's host; `None`: it needs none. Within a runtime.
	///
	/// # Errors
	/// [`NoTor`], or there is no port to be had.
	pub fn bridge(&self, url: &str) -> io::Result<Option<Bridge>> {
		let Some((host, port)) = target(url) else { return Ok(None) };
		match self.route(&host)? {
			Route::Direct => Ok(None),
			Route::Tor(socks) => Bridge::to(socks, &host, port).map(Some),
		}
	}
}

/// The host, without brackets, and the port of an HTTP URL.
fn target(url: &str) -> Option<(String, u16)> {
	let url = Url::parse(url).ok()?;
	let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
	Some((host, url.port_or_known_default()?))
}

/// Is that in Tor's own name space (RFC 7686)? Such a name is never looked up elsewhere.
pub fn is_onion(host: &str) -> bool {
	let host = host.trim_end_matches('.');
	host.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("onion")) && host.contains('.')
}

/// Can it be the address of an onion service of version 3, the only one that there still is?
pub fn is_onion_v3(host: &str) -> bool {
	let Some((name, tail)) = host.rsplit_once('.') else { return false };
	let base32 = |b: u8| b.is_ascii_alphabetic() || (b'2'..=b'7').contains(&b);
	// Its last byte is the version, 3: the last of the 56 letters says so alone.
	name.len() == 56 && tail.eq_ignore_ascii_case("onion") && name.bytes().all(base32) && name.ends_with(['d', 'D'])
}

/// This machine, or its own network, without a look-up?
pub fn is_near(host: &str) -> bool {
	host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| reach(ip) == Reach::Private)
}

/// Under which name a host's connections are kept apart from those to others; fit for a URL.
fn isolation(host: &str) -> String {
	host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}
