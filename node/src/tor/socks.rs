//! SOCKS5 (RFC 1928, RFC 1929) as a client, with what Tor adds to it: a name can be looked up (`RESOLVE`), and who logs in under
//! another name gets other circuits.
//!
//! What is said is decided by [`Talk`], which does no I/O: peers are async, an Electrum server is asked on a thread of its own.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdStream};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection over Tor may take: finding an onion service and meeting it takes up to half a minute.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long Tor itself may take to greet: it is on this machine or beside it.
const GREETING: Duration = Duration::from_secs(10);

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const LOGIN: u8 = 2;
const CONNECT: u8 = 1;
const RESOLVE: u8 = 0xf0;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// The user that we log in as; the password says for whom, and whoever has another has other circuits (`IsolateSOCKSAuth`,
/// Tor's default).
pub(super) const USER: &str = "inlet";

/// Why Tor did not bring us there.
#[derive(Debug, thiserror::Error)]
pub enum SocksError {
	/// See whether Tor runs, and whether `tor.socks` names its port.
	#[error("Tor's SOCKS port {0} cannot be reached ({1}): is Tor running?")]
	Away(SocketAddr, io::Error),
	/// Something else is there: correct `tor.socks`.
	#[error("what answers at {0} is no SOCKS port")]
	NotSocks(SocketAddr),
	/// Tor says no; another time, or never.
	#[error("Tor does not get there: {}", meaning(*.0))]
	Refused(u8),
	/// Try again later.
	#[error("Tor takes too long to get there")]
	TooSlow,
	/// No such host can be.
	#[error("no host has a name like that")]
	NoHost,
}

impl From<SocksError> for io::Error {
	fn from(error: SocksError) -> io::Error {
		let kind = match &error {
			SocksError::Away(_, e) => e.kind(),
			SocksError::NotSocks(_) => io::ErrorKind::InvalidData,
			SocksError::Refused(4) => io::ErrorKind::HostUnreachable,
			SocksError::Refused(_) => io::ErrorKind::ConnectionRefused,
			SocksError::TooSlow => io::ErrorKind::TimedOut,
			SocksError::NoHost => io::ErrorKind::InvalidInput,
		};
		io::Error::new(kind, error)
	}
}

/// RFC 1928's codes, and those of Tor (proposal 304; sent if `ExtendedErrors` is set on the port).
fn meaning(code: u8) -> String {
	let text = match code {
		1 => "it failed, or has no connection to its network",
		2 => "its settings forbid it",
		3 => "the network there is unreachable",
		4 => "the host does not exist or is unreachable",
		5 => "nobody listens there",
		6 => "it took too long",
		7 => "it does not know that command (is it Tor?)",
		8 => "it does not know that kind of address",
		0xf0 => "the onion service is not known, or is away",
		0xf1 => "the onion service's descriptor is damaged",
		0xf2 | 0xf3 | 0xf7 => "the onion service does not answer",
		0xf4 | 0xf5 => "the onion service wants another key of its clients",
		0xf6 => "that is no onion address",
		_ => return format!("code {code}"),
	};
	text.to_owned()
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
	/// Send this, then read so many bytes.
	Ask(Vec<u8>, usize),
	/// It is through; the address that was answered, if it is one.
	Done(Option<IpAddr>),
}

#[derive(Debug)]
enum No {
	NotSocks,
	Refused(u8),
}

enum State {
	Start,
	Method,
	Login,
	Head,
	Tail { kind: u8, first: u8 },
}

/// One conversation.
struct Talk {
	request: Vec<u8>,
	login: Vec<u8>,
	state: State,
}

impl Talk {
	fn new(command: u8, host: &str, port: u16, isolation: &str) -> Result<Talk, SocksError> {
		let mut request = vec![VERSION, command, 0];
		match host.parse::<IpAddr>() {
			Ok(IpAddr::V4(v4)) => {
				request.push(IPV4);
				request.extend(v4.octets());
			}
			Ok(IpAddr::V6(v6)) => {
				request.push(IPV6);
				request.extend(v6.octets());
			}
			Err(_) => {
				let length = u8::try_from(host.len()).ok().filter(|n| *n > 0).ok_or(SocksError::NoHost)?;
				request.extend([NAME, length]);
				request.extend(host.as_bytes());
			}
		}
		request.extend(port.to_be_bytes());
		let mut login = vec![1];
		for text in [USER, isolation] {
			let text = &text.as_bytes()[..text.len().min(255)];
			login.push(u8::try_from(text.len()).expect("cut to 255"));
			login.extend(text);
		}
		Ok(Talk { request, login, state: State::Start })
	}

	/// Takes what was read.
	fn next(&mut self, got: &[u8]) -> Result<Step, No> {
		let (state, step) = match (&self.state, got) {
			(State::Start, _) => (State::Method, Step::Ask(vec![VERSION, 2, NO_LOGIN, LOGIN], 2)),
			(State::Method, [VERSION, LOGIN]) => (State::Login, Step::Ask(self.login.clone(), 2)),
			// A proxy without logins has no circuits to keep apart, or is told not to (`PreferSOCKSNoAuth`).
			(State::Method, [VERSION, NO_LOGIN]) | (State::Login, [_, 0]) => {
				(State::Head, Step::Ask(self.request.clone(), 5))
			}
			(State::Login, [_, _]) => return Err(No::Refused(2)),
			(State::Head, [VERSION, 0, _, kind, first]) => {
				let more = match *kind {
					IPV4 => 3 + 2,
					IPV6 => 15 + 2,
					NAME => usize::from(*first) + 2,
					_ => return Err(No::NotSocks),
				};
				(State::Tail { kind: *kind, first: *first }, Step::Ask(Vec::new(), more))
			}
			(State::Head, [VERSION, code, ..]) => return Err(No::Refused(*code)),
			(State::Tail { kind, first }, rest) => return Ok(Step::Done(address(*kind, *first, rest))),
			_ => return Err(No::NotSocks),
		};
		self.state = state;
		Ok(step)
	}
}

fn address(kind: u8, first: u8, rest: &[u8]) -> Option<IpAddr> {
	let mut bytes = vec![first];
	bytes.extend(rest);
	match kind {
		IPV4 => bytes.first_chunk::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(*octets))),
		IPV6 => bytes.first_chunk::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(*octets))),
		_ => None,
	}
}

/// A connection to this host, which Tor looks up itself.
///
/// # Errors
/// See [`SocksError`].
pub async fn connect(socks: SocketAddr, host: &str, port: u16, isolation: &str) -> Result<TcpStream, SocksError> {
	let talk = Talk::new(CONNECT, host, port, isolation)?;
	timeout(PATIENCE, converse(socks, talk)).await.map_err(|_| SocksError::TooSlow)?.map(|(stream, _)| stream)
}

/// An address of this name, as Tor finds it.
///
/// # Errors
/// See [`SocksError`].
pub async fn resolve(socks: SocketAddr, name: &str) -> Result<IpAddr, SocksError> {
	let talk = Talk::new(RESOLVE, name, 0, name)?;
	let (_, found) = timeout(PATIENCE, converse(socks, talk)).await.map_err(|_| SocksError::TooSlow)??;
	found.ok_or(SocksError::Refused(4))
}

/// Is it there, and a SOCKS port?
///
/// # Errors
/// See [`SocksError`].
pub async fn greet(socks: SocketAddr) -> Result<(), SocksError> {
	let greeting = async {
		let mut stream = TcpStream::connect(socks).await.map_err(|e| SocksError::Away(socks, e))?;
		let mut talk = Talk::new(CONNECT, "localhost", 0, "")?;
		if let Step::Ask(send, read) = talk.next(&[]).map_err(|no| no.at(socks))? {
			let got = exchange(&mut stream, &send, read).await.map_err(|e| SocksError::Away(socks, e))?;
			talk.next(&got).map_err(|no| no.at(socks))?;
		}
		Ok(())
	};
	timeout(GREETING, greeting).await.map_err(|_| SocksError::TooSlow)?
}

async fn converse(socks: SocketAddr, mut talk: Talk) -> Result<(TcpStream, Option<IpAddr>), SocksError> {
	let mut stream = TcpStream::connect(socks).await.map_err(|e| SocksError::Away(socks, e))?;
	let _ = stream.set_nodelay(true);
	let mut got = Vec::new();
	loop {
		match talk.next(&got).map_err(|no| no.at(socks))? {
			Step::Done(found) => return Ok((stream, found)),
			Step::Ask(send, read) => {
				got = exchange(&mut stream, &send, read).await.map_err(|e| SocksError::Away(socks, e))?;
			}
		}
	}
}

async fn exchange(stream: &mut TcpStream, send: &[u8], read: usize) -> io::Result<Vec<u8>> {
	stream.write_all(send).await?;
	let mut got = vec![0; read];
	stream.read_exact(&mut got).await?;
	Ok(got)
}

/// [`connect`] for a thread that may block.
///
/// # Errors
/// See [`SocksError`].
pub fn connect_blocking(socks: SocketAddr, host: &str, port: u16, isolation: &str) -> Result<StdStream, SocksError> {
	let (mut talk, end) = (Talk::new(CONNECT, host, port, isolation)?, Instant::now() + PATIENCE);
	let stream = StdStream::connect_timeout(&socks, GREETING).map_err(|e| SocksError::Away(socks, e))?;
	let _ = stream.set_nodelay(true);
	let mut got = Vec::new();
	loop {
		match talk.next(&got).map_err(|no| no.at(socks))? {
			Step::Done(_) => return Ok(stream),
			Step::Ask(send, read) => {
				got = exchange_blocking(&stream, end, &send, read).map_err(|e| match e.kind() {
					io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => SocksError::TooSlow,
					_ => SocksError::Away(socks, e),
				})?;
			}
		}
	}
}

fn exchange_blocking(mut stream: &StdStream, end: Instant, send: &[u8], read: usize) -> io::Result<Vec<u8>> {
	let left = || match end.saturating_duration_since(Instant::now()) {
		Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
		left => Ok(Some(left)),
	};
	stream.set_write_timeout(left()?)?;
	stream.write_all(send)?;
	let (mut got, mut filled) = (vec![0; read], 0);
	while filled < read {
		stream.set_read_timeout(left()?)?;
		match stream.read(&mut got[filled..])? {
			0 => return Err(io::ErrorKind::UnexpectedEof.into()),
			n => filled += n,
		}
	}
	Ok(got)
}

impl No {
	fn at(self, socks: SocketAddr) -> SocksError {
		match self {
			No::NotSocks => SocksError::NotSocks(socks),
			No::Refused(code) => SocksError::Refused(code),
		}
	}
}
