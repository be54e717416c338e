//! The onion service: a key from the seed, offered to Tor for as long as the node runs.

use super::control::{Control, ControlError, ControlPlace};
use super::{Way, socks};
use crate::config::{HostPort, Secret};
use crate::stop::stopped;
use bitcoin::hashes::{Hash, sha512};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;
use zeroize::Zeroizing;

/// How often Tor is asked how it is.
const LOOK: Duration = Duration::from_secs(30);
/// First and longest wait before Tor is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// The secret key of an onion service, as Tor wants it: an Ed25519 key, hashed out.
pub struct OnionKey(Zeroizing<[u8; 64]>);

impl fmt::Debug for OnionKey {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str("OnionKey([hidden])")
	}
}

impl OnionKey {
	/// Of an Ed25519 secret key (RFC 8032, 5.1.5).
	pub fn of(secret: &[u8; 32]) -> OnionKey {
		let mut bytes = Zeroizing::new(sha512::Hash::hash(secret).to_byte_array());
		bytes[0] &= 248;
		bytes[31] &= 63;
		bytes[31] |= 64;
		OnionKey(bytes)
	}

	pub(super) fn expose(&self) -> &[u8; 64] {
		&self.0
	}
}

/// An onion service to be offered.
#[derive(Debug)]
pub struct Service {
	/// Tor's control port.
	pub control: ControlPlace,
	/// Its password, if it has one.
	pub password: Option<Secret>,
	/// Who we are there.
	pub key: OnionKey,
	/// Where Lightning peers are listened for.
	pub listening: SocketAddr,
}

impl Service {
	/// Where Tor is to lead who comes: on every address means on loopback.
	pub(super) fn target(&self) -> SocketAddr {
		let ip = match self.listening.ip() {
			IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
			IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
			ip => ip,
		};
		SocketAddr::new(ip, self.listening.port())
	}

	async fn offer(&self) -> Result<(Control, HostPort), ControlError> {
		let mut control = Control::connect(&self.control).await?;
		control.log_in(self.password.as_ref().map(Secret::expose)).await?;
		let target = self.target();
		let name = control.add_onion(&self.key, target.port(), target).await?;
		Ok((control, HostPort { host: format!("{name}.onion"), port: target.port() }))
	}
}

/// How it stands with Tor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
	/// Our onion service, once Tor has taken it. It stays while Tor is away: it will be the same.
	pub onion: Option<HostPort>,
	/// What is wrong with the SOCKS port.
	pub socks: Option<String>,
	/// What is wrong with the onion service.
	pub service: Option<String>,
}

impl State {
	/// For people.
	pub fn troubles(&self) -> impl Iterator<Item = String> {
		let socks = self.socks.as_ref().map(|why| format!("onion addresses cannot be reached: {why}"));
		let service = self.service.as_ref().map(|why| format!("nobody reaches this node's onion service: {why}"));
		socks.into_iter().chain(service)
	}
}

/// Offers the service, and looks whether Tor is there, until `stop`.
pub async fn watch(way: Way, service: Option<Service>, state: watch::Sender<State>, mut stop: watch::Receiver<bool>) {
	let way_out = async {
		match way.socks {
			Some(socks) => look(socks, &state).await,
			None => std::future::pending().await,
		}
	};
	let way_in = async {
		match &service {
			Some(service) => keep(service, &state).await,
			None => std::future::pending().await,
		}
	};
	tokio::select! {
		() = stopped(&mut stop) => {},
		() = way_out => {},
		() = way_in => {},
	}
}

async fn look(port: SocketAddr, state: &watch::Sender<State>) {
	loop {
		let trouble = socks::greet(port).await.err().map(|e| e.to_string());
		tell(state, |state| &mut state.socks, trouble);
		sleep(LOOK).await;
	}
}

async fn keep(service: &Service, state: &watch::Sender<State>) {
	let mut wait = BACKOFF.0;
	loop {
		let trouble = match service.offer().await {
			Ok((control, address)) => {
				wait = BACKOFF.0;
				if state.borrow().onion.as_ref() != Some(&address) {
					tracing::info!(target: "inlet::tor", "the onion service is {address}");
					state.send_modify(|state| state.onion = Some(address));
				}
				hold(control, state).await
			}
			Err(e) => e,
		};
		tell(state, |state| &mut state.service, Some(trouble.to_string()));
		sleep(wait).await;
		wait = (wait * 2).min(BACKOFF.1);
	}
}

/// Until the connection, and with it the service, ends; says why.
async fn hold(mut control: Control, state: &watch::Sender<State>) -> ControlError {
	loop {
		match control.lacks().await {
			Ok(lack) => tell(state, |state| &mut state.service, lack),
			Err(e) => return e,
		}
		tokio::select! {
			() = control.ended() => return control.gone(),
			() = sleep(LOOK) => {},
		}
	}
}

/// What is wrong is logged when it comes, and when it is over.
fn tell(state: &watch::Sender<State>, which: fn(&mut State) -> &mut Option<String>, trouble: Option<String>) {
	state.send_if_modified(|state| {
		let place = which(state);
		let is_new = *place != trouble;
		match &trouble {
			Some(why) if is_new => tracing::warn!(target: "inlet::tor", "{why}"),
			None if is_new => tracing::info!(target: "inlet::tor", "a trouble with Tor is over"),
			_ => {}
		}
		*place = trouble;
		is_new
	});
}
