//! Several Esplora servers: which one is asked, and when one that failed is asked again.

use super::asker::Asker;
use super::pace::Pace;
use super::{ChainError, shown};
use crate::tor::Way;
use bdk_esplora::esplora_client as bdk_client;
use bitcoin::Network;
use bitcoin::constants::genesis_block;
use std::time::{Duration, Instant};

/// One request; both clients try again by themselves when a server is busy.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);
const RETRIES: usize = 2;

pub(super) struct Server {
	/// For people.
	pub(super) url: String,
	/// The client that LDK's crate wants.
	pub(super) ldk: Asker,
	/// The client that BDK's crate wants.
	pub(super) bdk: bdk_client::AsyncClient,
	/// Its genesis block is ours.
	checked: bool,
	/// When it last failed, and since when it does.
	failing: Option<Failing>,
}

#[derive(Clone, Copy)]
struct Failing {
	since: Instant,
	last: Instant,
}

pub(super) struct Servers {
	all: Vec<Server>,
	current: usize,
	network: Network,
	pace: Pace,
}

impl Servers {
	/// One of them must answer; one that answers from another network is refused.
	pub(super) async fn connect(
		urls: Vec<String>,
		way: Way,
		network: Network,
		pace: Pace,
	) -> Result<Servers, ChainError> {
		let all = urls.iter().map(|url| Server::new(url, way)).collect::<Result<Vec<_>, _>>()?;
		let mut servers = Servers { all, current: 0, network, pace };
		let mut first_error = None;
		for index in 0..servers.all.len() {
			servers.current = index;
			match servers.check_current().await {
				Ok(()) => return Ok(servers),
				Err(e @ ChainError::WrongNetwork { .. }) => return Err(e),
				Err(e) => {
					tracing::warn!("{e}");
					servers.failed(Instant::now());
					first_error.get_or_insert(e);
				}
			}
		}
		Err(first_error.unwrap_or_else(|| ChainError::Config("at least one Esplora URL is needed".into())))
	}

	pub(super) fn len(&self) -> usize {
		self.all.len()
	}

	pub(super) fn current(&self) -> &Server {
		&self.all[self.current]
	}

	/// Compares the genesis block of a server that has not been asked yet.
	pub(super) async fn check_current(&mut self) -> Result<(), ChainError> {
		let server = &mut self.all[self.current];
		if server.checked {
			return Ok(());
		}
		let found = server.ldk.get_block_hash(0).await;
		let found = found.map_err(|e| ChainError::Unreachable { url: server.url.clone(), cause: e.to_string() })?;
		if found != genesis_block(self.network).block_hash() {
			return Err(ChainError::WrongNetwork { url: server.url.clone(), expected: self.network, found });
		}
		server.checked = true;
		Ok(())
	}

	pub(super) fn succeeded(&mut self) {
		self.all[self.current].failing = None;
	}

	/// The current one failed: the one that may be asked soonest is next. Gives how long to wait for that.
	pub(super) fn failed(&mut self, now: Instant) -> Duration {
		let failing = &mut self.all[self.current].failing;
		let since = failing.map_or(now, |failing| failing.since);
		*failing = Some(Failing { since, last: now });
		let pace = self.pace;
		let wait = |server: &Server| server.wait(now, pace);
		let others = (1..=self.all.len()).map(|step| (self.current + step) % self.all.len());
		let next = others.min_by_key(|&index| wait(&self.all[index])).unwrap_or(self.current);
		if next != self.current {
			tracing::debug!(url = self.all[next].url, "another Esplora server is asked");
		}
		self.current = next;
		wait(&self.all[next])
	}
}

impl Server {
	fn new(url: &str, way: Way) -> Result<Server, ChainError> {
		let base = url.trim_end_matches('/');
		let shown = shown(base);
		if !base.starts_with("https://") && !base.starts_with("http://") {
			let what =
				format!("{shown} is not a URL of an Esplora server; one looks like https://mempool.space/signet/api");
			return Err(ChainError::Config(what));
		}
		let wrong = |cause: String| ChainError::Config(format!("{shown} cannot be used: {cause}"));
		let ldk = Asker::new(base, way, |builder| builder.timeout(REQUEST_PATIENCE).max_retries(RETRIES))?;
		let mut bdk = bdk_client::Builder::new(base).timeout(REQUEST_PATIENCE.as_secs()).max_retries(RETRIES);
		if let Some(proxy) = way.proxy(base).map_err(|e| wrong(e.to_string()))? {
			bdk = bdk.proxy(&proxy);
		}
		Ok(Server {
			ldk,
			bdk: bdk.build_async().map_err(|e| wrong(e.to_string()))?,
			url: shown,
			checked: false,
			failing: None,
		})
	}

	fn wait(&self, now: Instant, pace: Pace) -> Duration {
		let Some(Failing { since, last }) = self.failing else { return Duration::ZERO };
		let pause = pace.backoff(last.saturating_duration_since(since));
		(last + pause).saturating_duration_since(now)
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::tor::testing::{Socks, SocksPort};

	fn servers(count: usize) -> Servers {
		let all =
			(0..count).map(|n| Server::new(&format!("http://127.0.0.1:{}", n + 1), Way::default()).unwrap()).collect();
		Servers { all, current: 0, network: Network::Bitcoin, pace: Pace::of(Network::Bitcoin) }
	}

	#[test]
	fn a_failure_moves_on_to_a_healthy_server_at_once() {
		let mut servers = servers(3);
		let now = Instant::now();
		assert_eq!((servers.failed(now), servers.current), (Duration::ZERO, 1));
		assert_eq!((servers.failed(now), servers.current), (Duration::ZERO, 2));
		// All have failed: the one that failed first is next, after a pause.
		assert_eq!((servers.failed(now), servers.current), (Duration::from_secs(1), 0));
	}

	#[test]
	fn a_lonely_server_is_asked_less_and_less_often_until_it_answers() {
		let mut servers = servers(1);
		let mut now = Instant::now();
		let mut pauses = Vec::new();
		for _ in 0..12 {
			let pause = servers.failed(now);
			pauses.push(pause.as_secs());
			now += pause;
		}
		assert_eq!(pauses, [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
		servers.succeeded();
		assert_eq!(servers.failed(now), Duration::from_secs(1));
	}

	#[test]
	fn nonsense_is_refused() {
		assert!(matches!(Server::new("mempool.space", Way::default()), Err(ChainError::Config(_))));
	}

	#[tokio::test]
	async fn both_clients_of_a_server_go_over_tor() {
		let port = SocksPort::new(Socks::No(4)).await;
		let server = Server::new("http://abc.onion:3000/api", port.way(false)).unwrap();
		assert!(server.ldk.get_height().await.is_err());
		assert!(server.bdk.get_height().await.is_err());
		let asked = port.asked();
		assert!(
			asked.len() >= 2 && asked.iter().all(|a| (a.host.as_str(), a.port) == ("abc.onion", 3000)),
			"{asked:?}"
		);
	}
}
