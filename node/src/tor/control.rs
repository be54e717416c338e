//! Tor's control port (control-spec): logging in, offering an onion service, asking how far Tor is. By hand, since it is three
//! commands of a line each.
//!
//! Of the ways to log in there are none, a password, and the cookie by challenge (`SAFECOOKIE`), with which each side proves that it
//! knows the file. To send the file itself (`COOKIE`) would show 32 bytes of ours to whatever listens there, and is not done.

use super::onion::OnionKey;
use crate::backup::seal::random;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use bitcoin::hex::{DisplayHex, FromHex};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// How long connecting, or an answer, may take: it is on this machine or beside it, and answers at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest line that is read.
const MAX_LINE: u64 = 8192;
/// The most lines of one answer.
const MAX_LINES: usize = 64;
/// Of what Tor says, shown to people.
const MAX_WORDS: usize = 200;
/// A cookie's length (control-spec 3.24).
const COOKIE_BYTES: usize = 32;

const TO_US: &[u8] = b"Tor safe cookie authentication server-to-controller hash";
const TO_TOR: &[u8] = b"Tor safe cookie authentication controller-to-server hash";

/// Where Tor's control port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlPlace {
	/// A socket in the file system: Debian's Tor has `/run/tor/control`.
	Unix(PathBuf),
	/// An address.
	Tcp(SocketAddr),
}

impl fmt::Display for ControlPlace {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			ControlPlace::Unix(path) => write!(f, "unix:{}", path.display()),
			ControlPlace::Tcp(address) => write!(f, "{address}"),
		}
	}
}

/// Why the control port did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
	/// See whether Tor runs, and whether we may open its socket.
	#[error("Tor's control port {place} cannot be reached ({why})")]
	Away {
		/// Which.
		place: String,
		/// Why.
		why: String,
	},
	/// Something else is there: correct `tor.control`.
	#[error("what answers at {0} is no control port of Tor")]
	NotControl(String),
	/// Give us leave: the group of its cookie, or a password.
	#[error("Tor does not let us in: {0}")]
	Login(String),
	/// Tor says no.
	#[error("Tor refuses: {code} {words}")]
	Refused {
		/// control-spec's code.
		code: u16,
		/// What it says, cut.
		words: String,
	},
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection to the control port.
pub struct Control {
	stream: BufReader<Box<dyn Stream>>,
	place: String,
}

impl Control {
	/// Connects; nothing is said yet.
	///
	/// # Errors
	/// [`ControlError::Away`].
	pub async fn connect(place: &ControlPlace) -> Result<Control, ControlError> {
		let away = |why: String| ControlError::Away { place: place.to_string(), why };
		let connecting = async {
			let stream: Box<dyn Stream> = match place {
				ControlPlace::Unix(path) => Box::new(UnixStream::connect(path).await?),
				ControlPlace::Tcp(address) => Box::new(TcpStream::connect(address).await?),
			};
			Ok::<_, std::io::Error>(stream)
		};
		let stream = timeout(PATIENCE, connecting).await.map_err(|_| away("no answer".into()))?;
		let stream = stream.map_err(|e| away(e.to_string()))?;
		Ok(Control { stream: BufReader::new(stream), place: place.to_string() })
	}

	/// Logs in, by what Tor offers: nothing, the password, the cookie.
	///
	/// # Errors
	/// See [`ControlError`].
	pub async fn log_in(&mut self, password: Option<&str>) -> Result<(), ControlError> {
		let offered = Offer::read(&self.command("PROTOCOLINFO 1").await?);
		let command = match password {
			_ if offered.has("NULL") => Zeroizing::new("AUTHENTICATE".to_owned()),
			Some(password) if offered.has("HASHEDPASSWORD") => {
				let escaped = Zeroizing::new(password.replace('\\', "\\\\").replace('"', "\\\""));
				Zeroizing::new(format!("AUTHENTICATE \"{}\"", *escaped))
			}
			_ if offered.has("SAFECOOKIE") => self.prove(&offered).await?,
			_ => {
				let why = match offered.has("HASHEDPASSWORD") {
					true => "it wants a password: set tor.password, or CookieAuthentication 1 in torrc",
					false => "it offers no way in that we know: set CookieAuthentication 1 in torrc",
				};
				return Err(ControlError::Login(why.to_owned()));
			}
		};
		match self.command(&command).await {
			Ok(_) => Ok(()),
			Err(ControlError::Refused { words, .. }) => Err(ControlError::Login(words)),
			Err(e) => Err(e),
		}
	}

	/// The login by the cookie: Tor proves that it knows the file before we do.
	async fn prove(&mut self, offered: &Offer) -> Result<Zeroizing<String>, ControlError> {
		let file = offered.cookie_file.as_ref();
		let file = file.ok_or_else(|| ControlError::Login("it does not say where its cookie is".into()))?;
		let cookie = cookie(file).await.map_err(ControlError::Login)?;
		let ours: [u8; 32] = random();
		let answer = self.command(&format!("AUTHCHALLENGE SAFECOOKIE {}", ours.to_lower_hex_string())).await?;
		let answer = answer.first().map(String::as_str).unwrap_or_default();
		let field = |name: &str| {
			let value = answer.split(' ').find_map(|word| word.strip_prefix(name))?;
			<[u8; 32]>::from_hex(value).ok()
		};
		let (Some(proof), Some(theirs)) = (field("SERVERHASH="), field("SERVERNONCE=")) else {
			return Err(ControlError::NotControl(self.place.clone()));
		};
		if hmac(TO_US, &cookie, &ours, &theirs) != proof {
			return Err(ControlError::Login(format!("what answers does not know {}: is it Tor?", file.display())));
		}
		let proof = hmac(TO_TOR, &cookie, &ours, &theirs);
		Ok(Zeroizing::new(format!("AUTHENTICATE {}", proof.to_lower_hex_string())))
	}

	/// Offers an onion service, for as long as this connection stands: its port leads to `target`. Gives its name, without `.onion`.
	///
	/// # Errors
	/// See [`ControlError`].
	pub async fn add_onion(&mut self, key: &OnionKey, port: u16, target: SocketAddr) -> Result<String, ControlError> {
		let key = Zeroizing::new(BASE64_STANDARD.encode(key.expose()));
		let command = Zeroizing::new(format!("ADD_ONION ED25519-V3:{} Port={port},{target}", *key));
		let answer = self.command(&command).await?;
		let name = answer.iter().find_map(|line| line.strip_prefix("ServiceID="));
		let name = name.map(str::to_ascii_lowercase).filter(|name| super::is_onion_v3(&format!("{name}.onion")));
		name.ok_or_else(|| ControlError::NotControl(self.place.clone()))
	}

	/// How far Tor is with reaching its network; `None`: it is there.
	///
	/// # Errors
	/// See [`ControlError`].
	pub async fn lacks(&mut self) -> Result<Option<String>, ControlError> {
		let answer = self.command("GETINFO status/bootstrap-phase").await?;
		let phase = answer.iter().find_map(|line| line.strip_prefix("status/bootstrap-phase=")).unwrap_or_default();
		let part = |name: &str| phase.split_once(name).map(|(_, rest)| rest);
		let progress = part("PROGRESS=").and_then(|rest| rest.split(' ').next()).unwrap_or("?");
		if progress == "100" {
			return Ok(None);
		}
		let words = part("SUMMARY=\"").and_then(|rest| rest.split('"').next()).unwrap_or("no word of why");
		Ok(Some(format!("Tor has not reached its network yet ({}%: {})", cut(progress), cut(words))))
	}

	/// That it has ended.
	pub(super) fn gone(&self) -> ControlError {
		ControlError::Away { place: self.place.clone(), why: "Tor ended the connection".into() }
	}

	/// Returns when Tor has ended the connection. What it says unasked is not listened to.
	pub async fn ended(&mut self) {
		loop {
			match self.stream.fill_buf().await {
				Ok([]) | Err(_) => return,
				Ok(said) => {
					let length = said.len();
					self.stream.consume(length);
				}
			}
		}
	}

	/// One command and its answer, the lines without their codes; an answer that is no success is an error.
	async fn command(&mut self, command: &str) -> Result<Vec<String>, ControlError> {
		let line = Zeroizing::new(format!("{command}\r\n"));
		let asked = async {
			self.stream.write_all(line.as_bytes()).await?;
			answer(&mut self.stream).await
		};
		let answered = timeout(PATIENCE, asked).await;
		let away = |why: String| ControlError::Away { place: self.place.clone(), why };
		match answered.map_err(|_| away("no answer".into()))?.map_err(|e| away(e.to_string()))? {
			Some((250, lines)) => Ok(lines),
			Some((code, lines)) => {
				let words = lines.last().map(|words| cut(words)).unwrap_or_default();
				Err(ControlError::Refused { code, words })
			}
			None => Err(ControlError::NotControl(self.place.clone())),
		}
	}
}

/// `None`: that is no answer of Tor's.
async fn answer(stream: &mut BufReader<Box<dyn Stream>>) -> std::io::Result<Option<(u16, Vec<String>)>> {
	let mut lines = Vec::new();
	while lines.len() < MAX_LINES {
		let mut line = Vec::new();
		(&mut *stream).take(MAX_LINE).read_until(b'\n', &mut line).await?;
		if line.is_empty() {
			return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "Tor ended the connection"));
		}
		let Some(text) = std::str::from_utf8(&line).ok().and_then(|line| line.strip_suffix("\r\n")) else {
			return Ok(None);
		};
		let (Some(code), Some(mark), Some(rest)) =
			(text.get(..3).and_then(|code| code.parse().ok()), text.get(3..4), text.get(4..))
		else {
			return Ok(None);
		};
		// Codes from 600 on are events, which we never ask for.
		if code >= 600 {
			continue;
		}
		lines.push(rest.to_owned());
		match mark {
			" " => return Ok(Some((code, lines))),
			"-" => {}
			// "+", with data of many lines, comes with no answer to what we ask.
			_ => return Ok(None),
		}
	}
	Ok(None)
}

/// What `PROTOCOLINFO` says of logging in.
#[derive(Debug, Default, PartialEq, Eq)]
struct Offer {
	methods: Vec<String>,
	cookie_file: Option<PathBuf>,
}

impl Offer {
	fn read(lines: &[String]) -> Offer {
		let Some(auth) = lines.iter().find_map(|line| line.strip_prefix("AUTH ")) else { return Offer::default() };
		let methods = auth.split(' ').find_map(|word| word.strip_prefix("METHODS=")).unwrap_or_default();
		let file = auth.split_once("COOKIEFILE=\"").map(|(_, rest)| unquote(rest));
		Offer { methods: methods.split(',').map(str::to_owned).collect(), cookie_file: file.map(PathBuf::from) }
	}

	fn has(&self, method: &str) -> bool {
		self.methods.iter().any(|offered| offered == method)
	}
}

/// A text up to its closing quote. Of the escapes, those of quote and backslash are all that a path has in practice.
fn unquote(rest: &str) -> String {
	let (mut text, mut letters) = (String::new(), rest.chars());
	while let Some(letter) = letters.next() {
		match letter {
			'"' => break,
			'\\' => text.extend(letters.next()),
			other => text.push(other),
		}
	}
	text
}

async fn cookie(file: &PathBuf) -> Result<Zeroizing<Vec<u8>>, String> {
	let unreadable = |e: std::io::Error| {
		format!("{} cannot be read ({e}): add the user that runs inlet to Tor's group (debian-tor)", file.display())
	};
	let opened = tokio::fs::File::open(file).await.map_err(unreadable)?;
	let mut bytes = Zeroizing::new(Vec::with_capacity(COOKIE_BYTES + 1));
	opened.take(COOKIE_BYTES as u64 + 1).read_to_end(&mut bytes).await.map_err(unreadable)?;
	match bytes.len() {
		COOKIE_BYTES => Ok(bytes),
		_ => Err(format!("{} is no cookie of Tor's", file.display())),
	}
}

fn hmac(purpose: &[u8], cookie: &[u8], ours: &[u8], theirs: &[u8]) -> [u8; 32] {
	let mut engine = HmacEngine::<sha256::Hash>::new(purpose);
	for part in [cookie, ours, theirs] {
		engine.input(part);
	}
	Hmac::from_engine(engine).to_byte_array()
}

fn cut(words: &str) -> String {
	words.chars().filter(|letter| !letter.is_control()).take(MAX_WORDS).collect()
}
