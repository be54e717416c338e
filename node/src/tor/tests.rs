//! Tor's ports, well and ill behaved.

use super::control::{Control, ControlError};
use super::testing::{Asked, ControlPort, Login, NAME, Socks, SocksPort};
use super::*;
use crate::config::HostPort;
use crate::seed::Seed;
use std::net::IpAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

const ONION: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrstuvwd.onion";

/// A host that answers each connection with what it was sent first, in capitals.
async fn host() -> SocketAddr {
	let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
	let at = listener.local_addr().unwrap();
	tokio::spawn(async move {
		loop {
			let (mut stream, _) = listener.accept().await.unwrap();
			tokio::spawn(async move {
				let mut bytes = [0; 5];
				stream.read_exact(&mut bytes).await.unwrap();
				stream.write_all(&bytes.to_ascii_uppercase()).await.unwrap();
			});
		}
	});
	at
}

async fn echo(mut stream: TcpStream) -> String {
	stream.write_all(b"hello").await.unwrap();
	let mut text = String::new();
	stream.read_to_string(&mut text).await.unwrap();
	text
}

#[test]
fn onion_addresses_need_tor_and_near_ones_never_take_it() {
	let socks = "127.0.0.1:9050".parse().unwrap();
	let (none, some) = (Way::default(), Way { socks: Some(socks), only: false });
	let only = Way { only: true, ..some };
	for onion in [ONION, "abc.ONION", "sub.abc.onion", "abc.onion."] {
		assert_eq!(none.route(onion), Err(NoTor(onion.to_owned())));
		assert_eq!((some.route(onion), only.route(onion)), (Ok(Route::Tor(socks)), Ok(Route::Tor(socks))), "{onion}");
	}
	for far in ["example.org", "onion.example.org", "onion", "8.8.8.8", "2606:4700::1111", "169.254.1.1"] {
		assert_eq!((none.route(far), some.route(far)), (Ok(Route::Direct), Ok(Route::Direct)), "{far}");
		assert_eq!(only.route(far), Ok(Route::Tor(socks)), "{far}");
	}
	for near in ["127.0.0.1", "::1", "10.1.2.3", "192.168.1.2", "fd00::1", "localhost"] {
		assert_eq!(only.route(near), Ok(Route::Direct), "{near}");
	}
}

#[test]
fn an_onion_address_is_told_from_nonsense() {
	assert!(is_onion_v3(ONION) && is_onion_v3(&ONION.to_uppercase()));
	let (name, _) = ONION.split_once('.').unwrap();
	for bad in
		["abc.onion", "onion", ".onion", name, &format!("{}1d.onion", &name[2..]), &format!("{}a.onion", &name[1..])]
	{
		assert!(!is_onion_v3(bad), "{bad}");
	}
}

#[tokio::test]
async fn a_host_is_reached_by_name_and_each_has_circuits_of_its_own() {
	let port = SocksPort::new(Socks::To(host().await)).await;
	let way = port.way(true);
	for (host, number) in [(ONION, 9735), ("example.org", 443), ("8.8.8.8", 80), ("2606:4700::1111", 80)] {
		assert_eq!(echo(way.connect(host, number).await.unwrap()).await, "HELLO");
	}
	let of = |host: &str, port, password: &str| Asked {
		command: 1,
		host: host.into(),
		port,
		password: Some(password.into()),
	};
	let expected = [
		of(ONION, 9735, ONION),
		of("example.org", 443, "example.org"),
		of("8.8.8.8", 80, "8.8.8.8"),
		of("2606:4700::1111", 80, "2606-4700--1111"),
	];
	assert_eq!(port.asked(), expected);
}

#[tokio::test]
async fn a_proxy_without_logins_will_do() {
	let port = SocksPort::with(Socks::To(host().await), 0).await;
	assert_eq!(echo(port.way(true).connect("example.org", 1).await.unwrap()).await, "HELLO");
	assert_eq!(port.asked()[0].password, None);
}

#[tokio::test]
async fn what_tor_says_is_told_and_what_is_no_tor_is_found_out() {
	for (code, words) in [(1, "no connection to its network"), (4, "unreachable"), (0xf0, "onion service"), (77, "77")]
	{
		let port = SocksPort::new(Socks::No(code)).await;
		let error = port.way(true).connect(ONION, 1).await.unwrap_err().to_string();
		assert!(error.contains("Tor does not get there") && error.contains(words), "{code}: {error}");
	}
	let others: [&[u8]; 6] = [
		b"HTTP/1.1 400 Bad Request\r\n\r\n",
		&[4, 0],
		// No method that it likes; then a version that is none, and an address of no kind.
		&[5, 0xff],
		&[5, 0, 9, 0, 0, 1, 0, 0, 0, 0, 0, 0],
		&[5, 0, 5, 0, 0, 9, 0, 0, 0, 0, 0, 0],
		&[5, 7],
	];
	for says in others {
		let port = SocksPort::new(Socks::Says(says.to_vec())).await;
		let error = socks::connect(port.at, ONION, 1, "").await.unwrap_err();
		assert!(matches!(error, SocksError::NotSocks(_)), "{says:?}: {error}");
		let blocking = tokio::task::spawn_blocking(move || socks::connect_blocking(port.at, ONION, 1, "").unwrap_err());
		assert!(matches!(blocking.await.unwrap(), SocksError::NotSocks(_)), "{says:?}");
	}
	let long = "a".repeat(256);
	assert!(matches!(socks::connect("127.0.0.1:1".parse().unwrap(), &long, 1, "").await, Err(SocksError::NoHost)));
}

#[tokio::test]
async fn a_port_that_is_closed_is_named() {
	// Bound and not listened on.
	let socket = tokio::net::TcpSocket::new_v4().unwrap();
	socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
	let at = socket.local_addr().unwrap();
	for error in [socks::greet(at).await.unwrap_err(), socks::connect(at, ONION, 1, "").await.unwrap_err()] {
		assert!(
			error.to_string().contains(&at.to_string()) && error.to_string().contains("is Tor running?"),
			"{error}"
		);
	}
}

#[tokio::test(start_paused = true)]
async fn a_port_that_says_nothing_is_given_up_in_time() {
	let port = SocksPort::new(Socks::Says(Vec::new())).await;
	assert!(matches!(socks::connect(port.at, ONION, 1, "").await, Err(SocksError::TooSlow)));
	assert!(matches!(socks::resolve(port.at, "example.org").await, Err(SocksError::TooSlow)));
	assert!(matches!(socks::greet(port.at).await, Err(SocksError::TooSlow)));
}

#[tokio::test]
async fn a_name_is_looked_up_by_tor() {
	for address in ["93.184.216.34", "2606:4700::1111"] {
		let address: IpAddr = address.parse().unwrap();
		let port = SocksPort::new(Socks::Is(address)).await;
		assert_eq!(socks::resolve(port.at, "example.org").await.unwrap(), address);
		assert_eq!((port.asked()[0].command, port.asked()[0].host.as_str()), (0xf0, "example.org"));
	}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_blocks_gets_there_too() {
	let port = SocksPort::new(Socks::To(host().await)).await;
	let at = port.at;
	let blocking = tokio::task::spawn_blocking(move || {
		use std::io::{Read, Write};
		let mut stream = socks::connect_blocking(at, ONION, 50001, "x").unwrap();
		stream.write_all(b"hello").unwrap();
		let mut text = String::new();
		stream.read_to_string(&mut text).unwrap();
		text
	});
	assert_eq!(blocking.await.unwrap(), "HELLO");
	assert_eq!(port.asked()[0], Asked { command: 1, host: ONION.into(), port: 50001, password: Some("x".into()) });
}

#[tokio::test]
async fn a_bridge_leads_to_its_host_and_to_no_other() {
	let port = SocksPort::new(Socks::To(host().await)).await;
	let bridge = port.way(false).bridge(&format!("http://{ONION}:3000/api")).unwrap().unwrap();
	let at = bridge.url().strip_prefix("http://").unwrap().to_owned();
	let ask = async |head: String| {
		let mut stream = TcpStream::connect(&at).await.unwrap();
		stream.write_all(head.as_bytes()).await.unwrap();
		let mut answer = [0; 12];
		stream.read_exact(&mut answer).await.map(|_| (String::from_utf8_lossy(&answer).into_owned(), stream))
	};
	let (answer, mut stream) = ask(format!("CONNECT {ONION}:3000 HTTP/1.1\r\n\r\n")).await.unwrap();
	assert_eq!(answer, "HTTP/1.1 200");
	let mut rest = [0; 7];
	stream.read_exact(&mut rest).await.unwrap();
	assert_eq!((&rest, echo(stream).await.as_str()), (b" OK\r\n\r\n", "HELLO"));
	for other in [format!("CONNECT {ONION}:3001"), "CONNECT example.org:3000".into(), format!("GET {ONION}:3000")] {
		assert_eq!(ask(format!("{other} HTTP/1.1\r\n\r\n")).await.unwrap().0, "HTTP/1.1 403", "{other}");
	}
	assert!(ask("x".repeat(4096)).await.is_err(), "a head without an end is cut off");
	assert_eq!(port.asked().len(), 1);
	assert!(port.way(false).bridge("https://example.org/api").unwrap().is_none(), "it needs none");
	assert!(Way::default().bridge(&format!("http://{ONION}/")).is_err());
	drop(bridge);
	// Its task ends at its next turn.
	while TcpStream::connect(&at).await.is_ok() {
		tokio::task::yield_now().await;
	}
}

#[tokio::test]
async fn a_bridge_says_when_tor_does_not_get_there() {
	let port = SocksPort::new(Socks::No(4)).await;
	let bridge = port.way(true).bridge("https://example.org/api").unwrap().unwrap();
	let request = bitreq::get("https://example.org/api").with_timeout(20);
	let proxy = bitreq::Proxy::new_http(bridge.url()).unwrap();
	assert!(request.with_proxy(proxy).send_async().await.is_err());
	assert_eq!(port.asked()[0].host, "example.org");
}

fn cookie_file() -> (tempfile::TempDir, std::path::PathBuf) {
	let dir = tempfile::tempdir().unwrap();
	let file = dir.path().join("control \"auth\" cookie");
	std::fs::write(&file, [3; 32]).unwrap();
	(dir, file)
}

#[tokio::test]
async fn tor_lets_in_who_knows_the_cookie_or_the_password() {
	let dir = tempfile::tempdir().unwrap();
	let file = dir.path().join("cookie");
	std::fs::write(&file, [3; 32]).unwrap();
	let logins = [
		(Login::Open, None),
		(Login::Password("pass \\ \"word\""), Some("pass \\ \"word\"")),
		(Login::Cookie { file: file.clone(), honest: true }, None),
		// A password that it does not ask for changes nothing.
		(Login::Cookie { file, honest: true }, Some("unused")),
	];
	for (login, password) in logins {
		let port = ControlPort::new(login, "100").await;
		let mut control = Control::connect(&port.place).await.unwrap();
		control.log_in(password).await.unwrap();
		assert_eq!(control.lacks().await.unwrap(), None);
	}
}

#[tokio::test]
async fn a_control_port_that_does_not_know_the_cookie_learns_nothing_of_it() {
	let (_dir, file) = cookie_file();
	let plain = tempfile::tempdir().unwrap();
	let good = plain.path().join("cookie");
	std::fs::write(&good, [3; 32]).unwrap();
	let short = plain.path().join("short");
	std::fs::write(&short, [3; 31]).unwrap();
	let refused = [
		(Login::Cookie { file: good.clone(), honest: false }, None, "does not know"),
		(Login::Cookie { file: plain.path().join("none"), honest: true }, None, "debian-tor"),
		(Login::Cookie { file: short, honest: true }, None, "no cookie"),
		(Login::Naked(good), None, "CookieAuthentication"),
		(Login::Naked(file), Some("secret"), "CookieAuthentication"),
		(Login::Password("right"), Some("wrong"), "failed"),
		(Login::Password("right"), None, "tor.password"),
	];
	for (login, password, why) in refused {
		let port = ControlPort::new(login, "100").await;
		let mut control = Control::connect(&port.place).await.unwrap();
		let error = control.log_in(password).await.unwrap_err();
		assert!(matches!(&error, ControlError::Login(text) if text.contains(why)), "{error}");
		let told = port.told.borrow().clone();
		let cookie = "03".repeat(32);
		assert!(told.iter().all(|command| !command.contains(&cookie)), "{told:?}");
	}
}

#[tokio::test]
async fn what_is_no_control_port_is_found_out() {
	let endless = Box::leak("250-more\r\n".repeat(100).into_boxed_str());
	let wide = Box::leak(format!("250 {}", "x".repeat(20_000)).into_boxed_str());
	for says in ["HTTP/1.1 400 Bad Request", "25", "250+data", "\u{e9}\u{e9}\u{e9}\u{e9} x", endless, wide] {
		let port = ControlPort::new(Login::Says(says), "100").await;
		let mut control = Control::connect(&port.place).await.unwrap();
		let error = control.log_in(None).await.unwrap_err();
		assert!(matches!(error, ControlError::NotControl(_)), "{says:.20}: {error}");
	}
	let long = Box::leak(format!("510 {}\u{7}", "y".repeat(7000)).into_boxed_str());
	let port = ControlPort::new(Login::Says(long), "100").await;
	let error = Control::connect(&port.place).await.unwrap().log_in(None).await.unwrap_err();
	assert!(matches!(&error, ControlError::Refused { code: 510, words } if words.len() == 200), "{error}");
}

fn service(control: &ControlPlace) -> Service {
	let key = OnionKey::of(&[1; 32]);
	Service { control: control.clone(), password: None, key, listening: "0.0.0.0:9735".parse().unwrap() }
}

#[tokio::test]
async fn the_onion_service_is_offered_and_offered_again_when_tor_comes_back() {
	let port = ControlPort::new(Login::Open, "100").await;
	let ((state, mut seen), (stop, stopping)) = (watch::channel(State::default()), watch::channel(false));
	let task = tokio::spawn(watch(Way::default(), Some(service(&port.place)), state, stopping));
	let address = HostPort { host: format!("{NAME}.onion"), port: 9735 };
	seen.wait_for(|state| state.onion.is_some()).await.unwrap();
	assert_eq!(seen.borrow().onion, Some(address.clone()));
	let mut told = port.told.clone();
	let offers = |told: &Vec<String>| told.iter().filter(|command| command.starts_with("ADD_ONION")).count();
	let offered = told.wait_for(|told| offers(told) == 1).await.unwrap().clone();
	let offer = offered.iter().find(|command| command.starts_with("ADD_ONION")).unwrap();
	assert!(offer.starts_with("ADD_ONION ED25519-V3:") && offer.ends_with(" Port=9735,127.0.0.1:9735"), "{offer}");
	// Once it is held, it has been asked how Tor is.
	told.wait_for(|told| told.iter().any(|command| command.starts_with("GETINFO"))).await.unwrap();
	port.hang_up();
	let away = seen.wait_for(|state| state.service.is_some()).await.unwrap().clone();
	assert_eq!(away.onion, Some(address), "it will be the same");
	assert!(away.troubles().any(|text| text.contains("ended the connection")), "{away:?}");
	told.wait_for(|told| offers(told) == 2).await.unwrap();
	seen.wait_for(|state| state.service.is_none()).await.unwrap();
	stop.send_replace(true);
	task.await.unwrap();
}

#[tokio::test]
async fn the_operator_is_told_what_is_wrong_with_tor() {
	let (port, socks) =
		(ControlPort::new(Login::Open, "15").await, SocksPort::new(Socks::Says(b"HTTP/1.1".into())).await);
	let ((state, mut seen), (_stop, stopping)) = (watch::channel(State::default()), watch::channel(false));
	let task = tokio::spawn(watch(socks.way(false), Some(service(&port.place)), state, stopping));
	let both = seen.wait_for(|state| state.socks.is_some() && state.service.is_some()).await.unwrap().clone();
	let troubles: Vec<String> = both.troubles().collect();
	assert!(troubles[0].contains("is no SOCKS port"), "{troubles:?}");
	assert!(troubles[1].contains("15%: Connecting"), "{troubles:?}");
	task.abort();
}

/// The address was computed from RFC 8032 and rend-spec-v3 by another program; a real Tor gives the same (see `tests/tor.rs`).
#[test]
fn the_key_of_the_service_comes_from_the_seed() {
	let words = format!("{}art", "abandon ".repeat(23));
	let key = OnionKey::of(&Seed::from_words(&words).unwrap().onion_secret());
	use base64::Engine;
	let text = base64::prelude::BASE64_STANDARD.encode(key.expose());
	assert_eq!(text, "EDRi7bWUnGMIjOUVVniCwFLX7YGHkKYS5UgRnskJ8mPkGYHJbpPF9cXo+xiCfcE53MWJRWO3Y983vR0OAS+cgQ==");
	assert!(!format!("{key:?}").contains(&text));
}

#[test]
fn who_comes_over_tor_is_led_to_loopback_if_that_is_listened_on() {
	let control = ControlPlace::Unix("/run/tor/control".into());
	for (listening, target) in
		[("0.0.0.0:9735", "127.0.0.1:9735"), ("[::]:9735", "[::1]:9735"), ("192.168.1.2:1234", "192.168.1.2:1234")]
	{
		let service = Service { listening: listening.parse().unwrap(), ..service(&control) };
		assert_eq!(service.target().to_string(), target);
	}
}
