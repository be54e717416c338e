//! The connection to an Electrum server: TCP or TLS, with an end in time and a bound in bytes for all that is asked at once.
//!
//! `electrum-client` brings transports of its own. They are not used: with TLS they link aws-lc whatever is chosen, they
//! read lines of any length, and a server that sends a byte now and then holds them for ever.

use super::super::{ChainError, shown};
use crate::tor::{Route, Way, socks};
use electrum_client::raw_client::RawClient;
use electrum_client::{ElectrumApi, Error, Param};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The version that is spoken: all servers in use know it.
const PROTOCOL: &str = "1.4";
/// One connection attempt, TLS and greeting included.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// Silence in the middle of an answer.
const READ_PATIENCE: Duration = Duration::from_secs(30);
/// What a server may send for all that is asked at once. The scan of a wallet with 50,000 transactions fits.
const MAX_BYTES: u64 = 256 * 1024 * 1024;
/// What is asked along with everything else of a server that holds short answers back ([`Limits::company`]): the first headers of the
/// chain, 1280 digits.
const COMPANY: &[u8] =
	b"{\"jsonrpc\":\"2.0\",\"id\":\"company\",\"method\":\"blockchain.block.headers\",\"params\":[0,8]}\n";
/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;

/// What requests are made on.
pub(super) type Api = RawClient<Wire>;

/// A stream that ends when its time or its bytes are used up.
pub(super) struct Wire {
	stream: Stream,
	limits: Arc<Limits>,
}

enum Stream {
	Plain(TcpStream),
	Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

struct Limits {
	socket: TcpStream,
	left: Mutex<Left>,
	/// ElectrumX (seen: 1.19.0) sends an answer that is shorter than 1024 bytes a second later, unless more comes to be sent
	/// with it: a look of a dozen questions would take a dozen seconds. So it is asked for something longer each time.
	company: AtomicBool,
}

struct Left {
	until: Instant,
	bytes: u64,
	/// Questions, or batches of them, that were sent.
	rounds: u64,
}

/// A server that is connected to when something is asked.
pub(in super::super) struct Line {
	url: Url,
	way: Way,
	open: Mutex<Option<Open>>,
	cut: Mutex<Cut>,
}

struct Open {
	api: Api,
	limits: Arc<Limits>,
}

#[derive(Default)]
struct Cut {
	ended: bool,
	socket: Option<Arc<Limits>>,
}

/// Why something could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
	/// By the connection or the server.
	#[error("{}", told(.0))]
	Api(#[from] Error),
	/// The answer cannot be used.
	#[error("{0}")]
	Wrong(String),
	/// A block came in between: it has to be asked again.
	#[error("its tip changes with every look")]
	Raced,
	/// The wallet does not take it.
	#[error(transparent)]
	Wallet(#[from] super::super::WalletError),
}

/// `tcp://HOST:PORT` or `ssl://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Url {
	tls: bool,
	host: String,
	port: u16,
}

impl Url {
	fn parse(text: &str) -> Option<Url> {
		let (tls, rest) = match text.split_once("://")? {
			("tcp", rest) => (false, rest),
			("ssl", rest) => (true, rest),
			_ => return None,
		};
		let address: crate::config::HostPort = rest.trim_end_matches('/').parse().ok()?;
		(address.port != 0).then_some(Url { tls, host: address.host, port: address.port })
	}
}

impl std::fmt::Display for Url {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		let address = crate::config::HostPort { host: self.host.clone(), port: self.port };
		write!(f, "{}://{address}", if self.tls { "ssl" } else { "tcp" })
	}
}

impl Line {
	/// Nothing is asked yet.
	pub(in super::super) fn new(url: &str, way: Way) -> Result<Arc<Line>, ChainError> {
		let url = Url::parse(url).ok_or_else(|| {
			let what = "is not the address of an Electrum server; one looks like ssl://electrum.example.org:50002";
			ChainError::Config(format!("{} {what}", shown(url)))
		})?;
		Ok(Arc::new(Line { url, way, open: Mutex::new(None), cut: Mutex::default() }))
	}

	/// Which, for people.
	pub(in super::super) fn url(&self) -> String {
		self.url.to_string()
	}

	/// Asks on a thread that may block, for `patience` at most. After an error the next one connects anew.
	pub(super) async fn ask<T: Send + 'static>(
		self: &Arc<Line>,
		patience: Duration,
		what: impl FnOnce(&Api) -> Result<T, Failure> + Send + 'static,
	) -> Result<T, Failure> {
		let line = Arc::clone(self);
		let done = tokio::task::spawn_blocking(move || line.ask_here(patience, what)).await;
		done.unwrap_or_else(|e| Err(Failure::Wrong(format!("asking it failed: {e}"))))
	}

	fn ask_here<T>(&self, patience: Duration, what: impl FnOnce(&Api) -> Result<T, Failure>) -> Result<T, Failure> {
		// Whoever holds this ends in time: what it does is bounded.
		let mut open = unpoisoned(&self.open);
		let connection = match open.take() {
			Some(connection) => connection,
			None => self.connect()?,
		};
		connection.limits.renew(patience);
		let began = Instant::now();
		let result = what(&connection.api);
		let rounds = unpoisoned(&connection.limits.left).rounds;
		tracing::debug!(target: "inlet::electrum", rounds, ms = began.elapsed().as_millis(), "asked");
		let usable = match &result {
			Ok(_) | Err(Failure::Api(Error::Protocol(_)) | Failure::Raced | Failure::Wallet(_)) => true,
			Err(_) => false,
		};
		if usable {
			*open = Some(connection);
		}
		result
	}

	fn connect(&self) -> Result<Open, Failure> {
		let tcp = self.connect_tcp().map_err(Error::IOError)?;
		let end = Instant::now() + CONNECT_PATIENCE;
		let limits = tcp.try_clone().map_err(Error::IOError)?;
		let left = Left { until: end, bytes: MAX_BYTES, rounds: 0 };
		let limits = Arc::new(Limits { socket: limits, left: Mutex::new(left), company: AtomicBool::new(false) });
		{
			let mut cut = unpoisoned(&self.cut);
			if cut.ended {
				return Err(Failure::Wrong("we are stopping".into()));
			}
			cut.socket = Some(Arc::clone(&limits));
		}
		let stream = if self.url.tls { Stream::Tls(Box::new(self.tls(tcp)?)) } else { Stream::Plain(tcp) };
		let api = Api::from(Wire { stream, limits: Arc::clone(&limits) });
		let versions = vec![PROTOCOL.to_owned(), PROTOCOL.to_owned()];
		let name = concat!("inlet/", env!("CARGO_PKG_VERSION")).to_owned();
		let server = api.raw_call("server.version", [Param::String(name), Param::StringVec(versions)])?;
		let holds_back = server[0].as_str().is_some_and(|software| software.starts_with("ElectrumX"));
		limits.company.store(holds_back, Ordering::Relaxed);
		Ok(Open { api, limits })
	}

	fn connect_tcp(&self) -> io::Result<TcpStream> {
		if let Route::Tor(port) = self.way.route(&self.url.host)? {
			return Ok(socks::connect_blocking(port, &self.url.host, self.url.port, &self.url.host)?);
		}
		let addresses: Vec<_> =
			(self.url.host.as_str(), self.url.port).to_socket_addrs()?.take(MAX_ADDRESSES).collect();
		let each = CONNECT_PATIENCE / u32::try_from(addresses.len().max(1)).expect("at most four");
		let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
		for address in addresses {
			match TcpStream::connect_timeout(&address, each) {
				Ok(stream) => {
					stream.set_nodelay(true)?;
					stream.set_read_timeout(Some(READ_PATIENCE))?;
					stream.set_write_timeout(Some(READ_PATIENCE))?;
					return Ok(stream);
				}
				Err(e) => last = e,
			}
		}
		Err(last)
	}

	fn tls(&self, tcp: TcpStream) -> Result<StreamOwned<ClientConnection, TcpStream>, Failure> {
		let wrong = |e: rustls::Error| Failure::Wrong(e.to_string());
		let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
		let provider = Arc::new(rustls::crypto::ring::default_provider());
		let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
		let config = config.map_err(wrong)?.with_root_certificates(roots).with_no_client_auth();
		let name = ServerName::try_from(self.url.host.clone());
		let name = name.map_err(|e| Failure::Wrong(format!("no certificate can be for that name: {e}")))?;
		let session = ClientConnection::new(Arc::new(config), name).map_err(wrong)?;
		Ok(StreamOwned::new(session, tcp))
	}

	/// Whatever is under way ends at once, and nothing more is asked.
	pub(in super::super) fn end(&self) {
		let mut cut = unpoisoned(&self.cut);
		cut.ended = true;
		if let Some(limits) = cut.socket.take() {
			// It may be gone already.
			let _ = limits.socket.shutdown(Shutdown::Both);
		}
	}

	/// For people: which server, what is wrong.
	pub(super) fn explain(&self, failure: Failure) -> ChainError {
		let url = self.url();
		match failure {
			Failure::Api(e @ (Error::IOError(_) | Error::SharedIOError(_))) => {
				ChainError::Unreachable { url, cause: told(&e) }
			}
			Failure::Wallet(e) => ChainError::Wallet(e),
			other => ChainError::Answer { url, cause: other.to_string() },
		}
	}
}

impl Limits {
	fn renew(&self, patience: Duration) {
		*unpoisoned(&self.left) = Left { until: Instant::now() + patience, bytes: MAX_BYTES, rounds: 0 };
	}

	/// Is there time for another read or write?
	fn check(&self) -> io::Result<()> {
		let left = unpoisoned(&self.left);
		let pause = left.until.saturating_duration_since(Instant::now()).min(READ_PATIENCE);
		if pause.is_zero() {
			return Err(io::Error::new(io::ErrorKind::TimedOut, "it is too slow"));
		}
		if left.bytes == 0 {
			return Err(io::Error::new(io::ErrorKind::InvalidData, "it sends too much"));
		}
		self.socket.set_read_timeout(Some(pause))?;
		self.socket.set_write_timeout(Some(pause))
	}

	fn count(&self, bytes: usize) {
		let mut left = unpoisoned(&self.left);
		left.bytes = left.bytes.saturating_sub(bytes as u64);
	}
}

impl Read for Wire {
	fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
		self.limits.check()?;
		let read = match &mut self.stream {
			Stream::Plain(stream) => stream.read(into),
			Stream::Tls(stream) => stream.read(into),
		};
		let read = read.map_err(|e| match e.kind() {
			// What a socket says when its time is up.
			io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "it is too slow"),
			_ => e,
		})?;
		self.limits.count(read);
		Ok(read)
	}
}

impl Write for Wire {
	fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
		self.limits.check()?;
		match &mut self.stream {
			Stream::Plain(stream) => stream.write(bytes),
			Stream::Tls(stream) => stream.write(bytes),
		}
	}

	/// A question is complete.
	fn flush(&mut self) -> io::Result<()> {
		unpoisoned(&self.limits.left).rounds += 1;
		if self.limits.company.load(Ordering::Relaxed) {
			// Nobody waits for the answer: the client above passes over it.
			self.write_all(COMPANY)?;
		}
		match &mut self.stream {
			Stream::Plain(stream) => stream.flush(),
			Stream::Tls(stream) => stream.flush(),
		}
	}
}

/// What the server said, where it is an answer; a server's words are cut.
pub(super) fn told(e: &Error) -> String {
	const MAX_WORDS: usize = 400;
	let Error::Protocol(answer) = e else { return e.to_string() };
	let words =
		answer["message"].as_str().or_else(|| answer.as_str()).map_or_else(|| answer.to_string(), str::to_owned);
	words.chars().take(MAX_WORDS).collect()
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
	// A panic in a library's reading of an answer must not end the node: what it left behind is taken as it is.
	mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::tor::testing::{Socks, SocksPort};
	use std::io::{BufRead, BufReader};
	use std::net::{Ipv4Addr, TcpListener};

	const SOON: Duration = Duration::from_secs(20);

	#[test]
	fn addresses_are_read_and_nonsense_is_refused() {
		for good in ["tcp://127.0.0.1:50001", "ssl://electrum.example.org:50002", "tcp://[::1]:50001"] {
			assert_eq!(Line::new(good, Way::default()).unwrap().url(), good);
		}
		for bad in ["127.0.0.1:50001", "http://h:1", "tcp://h", "ssl://:50002", "tcp://h:0", "tcp://h:99999", ""] {
			assert!(matches!(Line::new(bad, Way::default()), Err(ChainError::Config(_))), "{bad}");
		}
	}

	/// A server that greets, and then does `then` with what it is asked, over and over.
	fn server(then: impl Fn(&mut TcpStream) + Send + 'static) -> Arc<Line> {
		let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
		let url = format!("tcp://{}", listener.local_addr().unwrap());
		std::thread::spawn(move || {
			for stream in listener.incoming() {
				let mut stream = stream.unwrap();
				let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
				lines.next();
				let _ = stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":[\"test\",\"1.4\"]}\n");
				if let Some(Ok(_)) = lines.next() {
					then(&mut stream);
				}
			}
		});
		Line::new(&url, Way::default()).unwrap()
	}

	#[test]
	fn a_server_that_drips_is_cut_off_in_time() {
		let line = server(|stream| while stream.write_all(b" ").is_ok() {});
		let failure = line.ask_here(Duration::from_millis(300), |api| Ok(api.relay_fee()?)).unwrap_err();
		assert!(failure.to_string().contains("it is too slow"), "{failure}");
		assert!(matches!(line.explain(failure), ChainError::Unreachable { .. }));
	}

	#[test]
	fn a_refusal_is_told_and_the_connection_stays() {
		let line = server(|stream| {
			let refused =
				"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"min relay fee not met\"}}\n";
			let both = format!("{refused}{{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":0.00001}}\n");
			let _ = stream.write_all(both.as_bytes());
		});
		let failure = line.ask_here(SOON, |api| Ok(api.relay_fee()?)).unwrap_err();
		assert_eq!(failure.to_string(), "min relay fee not met");
		assert_eq!(line.ask_here(SOON, |api| Ok(api.relay_fee()?)).unwrap(), 0.000_01);
	}

	#[test]
	fn a_server_that_went_away_is_connected_to_anew() {
		let line = server(|stream| {
			let _ = stream.write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":0.00001}\n");
		});
		assert!(line.ask_here(SOON, |api| Ok(api.relay_fee()?)).is_ok());
		assert!(line.ask_here(SOON, |api| Ok(api.relay_fee()?)).is_err(), "that connection is closed");
		assert!(line.ask_here(SOON, |api| Ok(api.relay_fee()?)).is_ok());
		line.end();
		let _ = line.ask_here(SOON, |api| Ok(api.relay_fee()?)).unwrap_err();
		let failure = line.ask_here(SOON, |api| Ok(api.relay_fee()?)).unwrap_err();
		assert_eq!(failure.to_string(), "we are stopping");
	}

	#[tokio::test(flavor = "multi_thread")]
	async fn a_server_behind_an_onion_address_is_reached_over_tor() {
		let port = SocksPort::new(Socks::No(4)).await;
		let line = Line::new("tcp://abc.onion:50001", port.way(false)).unwrap();
		let failure = line.ask(SOON, |api| Ok(api.relay_fee()?)).await.unwrap_err();
		assert!(failure.to_string().contains("Tor does not get there"), "{failure}");
		assert_eq!((port.asked()[0].host.as_str(), port.asked()[0].port), ("abc.onion", 50001));
	}

	/// A server of this name. What it says first it says at once; from then on it keeps short answers until there is a long one to
	/// go with them.
	fn holding_back(name: &'static str) -> (Arc<Line>, Arc<Mutex<usize>>) {
		let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
		let (url, long) = (format!("tcp://{}", listener.local_addr().unwrap()), Arc::<Mutex<usize>>::default());
		let told = Arc::clone(&long);
		std::thread::spawn(move || {
			let (mut stream, _) = listener.accept().unwrap();
			let (mut kept, lines) = (String::new(), BufReader::new(stream.try_clone().unwrap()).lines());
			for line in lines.map_while(Result::ok) {
				let request: serde_json::Value = serde_json::from_str(&line).unwrap();
				let (method, id) = (request["method"].as_str().unwrap(), &request["id"]);
				let result = match method {
					"server.version" => serde_json::json!([name, "1.4"]),
					"blockchain.relayfee" => 0.00001.into(),
					"blockchain.block.headers" => {
						*told.lock().unwrap() += 1;
						serde_json::json!({ "count": 8, "hex": "00".repeat(640), "max": 2016 })
					}
					other => panic!("{other}"),
				};
				kept += &format!("{}\n", serde_json::json!({ "jsonrpc": "2.0", "id": id, "result": result }));
				if kept.len() >= 1024 || method == "server.version" {
					stream.write_all(std::mem::take(&mut kept).as_bytes()).unwrap();
				}
			}
		});
		(Line::new(&url, Way::default()).unwrap(), long)
	}

	#[test]
	fn a_server_that_holds_short_answers_back_is_asked_for_a_long_one_along_with_them() {
		let (line, long) = holding_back("ElectrumX 1.19.0");
		for asked in 1..4 {
			assert_eq!(line.ask_here(SOON, |api| Ok(api.relay_fee()?)).unwrap(), 0.000_01);
			assert_eq!(*long.lock().unwrap(), asked);
		}
		let (line, long) = holding_back("electrs/0.10.9");
		let failure = line.ask_here(Duration::from_millis(300), |api| Ok(api.relay_fee()?)).unwrap_err();
		assert!(failure.to_string().contains("it is too slow"), "{failure}");
		assert_eq!(*long.lock().unwrap(), 0, "others are asked for nothing more");
	}
}
