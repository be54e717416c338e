//! A SOCKS port and a control port of the tests' making, on loopback.

use super::{ControlPlace, Way};
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use bitcoin::hex::{DisplayHex, FromHex};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What was asked of a SOCKS port: command, host, port, password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
	/// 1: connect, 0xf0: look up.
	pub command: u8,
	/// Name or address.
	pub host: String,
	/// Port.
	pub port: u16,
	/// What it was isolated by; `None` without a login.
	pub password: Option<String>,
}

/// What a SOCKS port does with what it is asked.
#[derive(Clone)]
pub enum Socks {
	/// Every host is here.
	To(SocketAddr),
	/// Every name has this address; connections go nowhere.
	Is(IpAddr),
	/// This code.
	No(u8),
	/// These bytes, whatever is asked; then nothing more.
	Says(Vec<u8>),
}

/// A fake of Tor's SOCKS port.
pub struct SocksPort {
	/// Where.
	pub at: SocketAddr,
	/// In order.
	pub asked: Arc<Mutex<Vec<Asked>>>,
}

impl SocksPort {
	/// One that has logins.
	pub async fn new(does: Socks) -> SocksPort {
		SocksPort::with(does, 2).await
	}

	/// One that chooses this method.
	pub async fn with(does: Socks, method: u8) -> SocksPort {
		let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
		let (at, asked) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Asked>>>::default());
		let told = asked.clone();
		tokio::spawn(async move {
			loop {
				let (stream, _) = listener.accept().await.unwrap();
				tokio::spawn(serve(stream, does.clone(), method, told.clone()));
			}
		});
		SocksPort { at, asked }
	}

	/// The way over it, for everything or for onion addresses.
	pub fn way(&self, only: bool) -> Way {
		Way { socks: Some(self.at), only }
	}

	/// What it was asked.
	pub fn asked(&self) -> Vec<Asked> {
		self.asked.lock().unwrap().clone()
	}
}

async fn serve(mut stream: TcpStream, does: Socks, method: u8, asked: Arc<Mutex<Vec<Asked>>>) -> Option<()> {
	let stream = &mut stream;
	if let Socks::Says(bytes) = does {
		stream.write_all(&bytes).await.ok()?;
		// Until the other side has had enough.
		let _ = stream.read_to_end(&mut Vec::new()).await;
		return None;
	}
	let [_, methods] = bytes(stream).await?;
	some(stream, methods).await?;
	stream.write_all(&[5, method]).await.ok()?;
	let mut password = None;
	if method == 2 {
		let [_, user] = bytes(stream).await?;
		some(stream, user).await?;
		let [length] = bytes(stream).await?;
		password = String::from_utf8(some(stream, length).await?).ok();
		stream.write_all(&[1, 0]).await.ok()?;
	}
	let [_, command, _, kind] = bytes(stream).await?;
	let host = match kind {
		1 => IpAddr::from(bytes::<4>(stream).await?).to_string(),
		4 => IpAddr::from(bytes::<16>(stream).await?).to_string(),
		_ => {
			let [length] = bytes(stream).await?;
			String::from_utf8(some(stream, length).await?).ok()?
		}
	};
	let port = u16::from_be_bytes(bytes(stream).await?);
	asked.lock().unwrap().push(Asked { command, host, port, password });
	match does {
		Socks::No(code) => stream.write_all(&[5, code, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?,
		Socks::Is(address) if command == 0xf0 => {
			let (kind, octets) = match address {
				IpAddr::V4(v4) => (1, v4.octets().to_vec()),
				IpAddr::V6(v6) => (4, v6.octets().to_vec()),
			};
			stream.write_all(&[&[5, 0, 0, kind], octets.as_slice(), &[0, 0]].concat()).await.ok()?;
		}
		Socks::To(there) if command == 1 => {
			let mut far = TcpStream::connect(there).await.ok()?;
			// A name for an answer: its length is known from what comes before only.
			stream.write_all(b"\x05\x00\x00\x03\x04name\x00\x01").await.ok()?;
			copy_bidirectional(stream, &mut far).await.ok()?;
		}
		_ => stream.write_all(&[5, 1, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?,
	}
	Some(())
}

async fn bytes<const N: usize>(stream: &mut TcpStream) -> Option<[u8; N]> {
	let mut bytes = [0; N];
	stream.read_exact(&mut bytes).await.ok()?;
	Some(bytes)
}

async fn some(stream: &mut TcpStream, length: u8) -> Option<Vec<u8>> {
	let mut bytes = vec![0; length.into()];
	stream.read_exact(&mut bytes).await.ok()?;
	Some(bytes)
}

/// How a fake control port lets people in.
#[derive(Clone)]
pub enum Login {
	/// Anybody.
	Open,
	/// Who knows this password.
	Password(&'static str),
	/// Who knows this file; `honest`: it knows the file itself.
	Cookie {
		/// The file.
		file: PathBuf,
		/// Does it know it?
		honest: bool,
	},
	/// By `COOKIE` alone.
	Naked(PathBuf),
	/// It answers everything with this.
	Says(&'static str),
}

/// A fake of Tor's control port.
pub struct ControlPort {
	/// Where.
	pub place: ControlPlace,
	/// The commands that it was given.
	pub told: watch::Receiver<Vec<String>>,
	hang_up: watch::Sender<u32>,
}

/// The onion service that it makes of every key.
pub const NAME: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrstuvwd";

impl ControlPort {
	/// One that is this far with reaching its network.
	pub async fn new(login: Login, progress: &'static str) -> ControlPort {
		let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
		let place = ControlPlace::Tcp(listener.local_addr().unwrap());
		let ((tell, told), (hang_up, hung_up)) = (watch::channel(Vec::new()), watch::channel(0));
		let tell = Arc::new(tell);
		tokio::spawn(async move {
			loop {
				let (stream, _) = listener.accept().await.unwrap();
				let (mut hung_up, login, tell) = (hung_up.clone(), login.clone(), tell.clone());
				hung_up.borrow_and_update();
				tokio::spawn(async move {
					tokio::select! {
						_ = talk(stream, login, progress, tell) => {},
						_ = hung_up.changed() => {},
					}
				});
			}
		});
		ControlPort { place, told, hang_up }
	}

	/// Ends all connections.
	pub fn hang_up(&self) {
		self.hang_up.send_modify(|times| *times += 1);
	}
}

async fn talk(
	stream: TcpStream,
	login: Login,
	progress: &'static str,
	tell: Arc<watch::Sender<Vec<String>>>,
) -> Option<()> {
	let mut stream = BufReader::new(stream);
	let (mut line, mut proof, mut inside) = (String::new(), None::<String>, false);
	loop {
		line.clear();
		if stream.read_line(&mut line).await.ok()? == 0 {
			return None;
		}
		let command = line.trim_end().to_owned();
		tell.send_modify(|told| told.push(command.clone()));
		let answer = match (&login, command.split(' ').next()?) {
			(Login::Says(text), _) => (*text).to_owned(),
			(_, "PROTOCOLINFO") => {
				let methods = match &login {
					Login::Open => "NULL".to_owned(),
					Login::Password(_) => "HASHEDPASSWORD".to_owned(),
					Login::Naked(file) => format!("COOKIE COOKIEFILE=\"{}\"", file.display()),
					Login::Cookie { file, .. } => format!("COOKIE,SAFECOOKIE COOKIEFILE=\"{}\"", file.display()),
					Login::Says(_) => unreachable!(),
				};
				format!("250-PROTOCOLINFO 1\r\n250-AUTH METHODS={methods}\r\n250-VERSION Tor=\"0.4.9.1\"\r\n250 OK")
			}
			(Login::Cookie { file, honest }, "AUTHCHALLENGE") => {
				let (ours, theirs) = (Vec::from_hex(command.rsplit(' ').next()?).ok()?, [7; 32]);
				let cookie = if *honest { std::fs::read(file).unwrap() } else { vec![0; 32] };
				let of = |purpose: &str| {
					let text = format!("Tor safe cookie authentication {purpose} hash");
					let mut engine = HmacEngine::<sha256::Hash>::new(text.as_bytes());
					[&cookie, &ours, &theirs.to_vec()].into_iter().for_each(|part| engine.input(part));
					Hmac::from_engine(engine).to_byte_array().to_lower_hex_string()
				};
				proof = Some(of("controller-to-server"));
				format!(
					"250 AUTHCHALLENGE SERVERHASH={} SERVERNONCE={}",
					of("server-to-controller"),
					theirs.to_lower_hex_string()
				)
			}
			(_, "AUTHENTICATE") => {
				let said = command.strip_prefix("AUTHENTICATE").unwrap_or_default().trim();
				inside = match &login {
					Login::Open => true,
					Login::Password(password) => said == format!("{password:?}"),
					_ => proof.as_deref() == Some(said),
				};
				if inside { "250 OK" } else { "515 Authentication failed" }.to_owned()
			}
			_ if !inside => "514 Authentication required.".to_owned(),
			(_, "ADD_ONION") => format!("250-ServiceID={NAME}\r\n250 OK"),
			(_, "GETINFO") => format!(
				"650 CIRC 1 BUILT\r\n250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS={progress} TAG=x \
				 SUMMARY=\"Connecting\"\r\n250 OK"
			),
			_ => "510 Unrecognized command".to_owned(),
		};
		stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
	}
}
