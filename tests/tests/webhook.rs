//! Inlet's notifier against real webhooks: HTTPS, certificates, redirects, servers that hang, and names that lie.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use inlet::config::{Config, Overrides};
use inlet::notify::guard::{Found, Guard, Lookup, Ourselves, Refused, system_lookup};
use inlet::notify::limits::Limits;
use inlet::notify::{Counts, Notifier, Parts};
use inlet_lsp::notice::Notice;
use inlet_tests::eventually;
use inlet_tests::webhook::{Receiver, Reply};
use lightning::util::message_signing::sign;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

const LIMIT: Duration = Duration::from_secs(60);

fn secret() -> SecretKey {
	SecretKey::from_slice(&[42; 32]).unwrap()
}

fn key() -> PublicKey {
	PublicKey::from_secret_key(&Secp256k1::new(), &secret())
}

fn sign_it(text: &str) -> String {
	sign(text.as_bytes(), &secret())
}

/// Short pauses, and time-outs that no machine is too slow for.
fn patient() -> Limits {
	let (connect, request) = (Duration::from_secs(40), Duration::from_secs(50));
	Limits { connect, request, pauses: vec![Duration::from_millis(10); 2], ..Limits::default() }
}

/// Time-outs that a test can wait for.
fn hasty() -> Limits {
	Limits { connect: Duration::from_secs(2), request: Duration::from_secs(3), ..patient() }
}

/// A running notifier, which ends with the value.
struct Sender {
	notifier: Arc<Notifier>,
	_stop: watch::Sender<bool>,
}

impl Sender {
	fn running(notifier: Arc<Notifier>) -> Sender {
		let (stop, stopping) = watch::channel(false);
		tokio::spawn(notifier.clone().run(stopping));
		Sender { notifier, _stop: stop }
	}

	fn new(guard: Guard, lookup: Lookup, trusts: Option<&Receiver>, limits: Limits) -> Sender {
		let extra_roots = trusts.map_or(Vec::new(), |r| std::fs::read(r.ca_file()).unwrap());
		let clock = Arc::new(SystemTime::now);
		let sign = Arc::new(sign_it);
		Sender::running(Notifier::new(Parts { guard, lookup, extra_roots, sign, clock, limits }).unwrap())
	}

	/// As in a network of one's own.
	fn local(trusts: &Receiver) -> Sender {
		Sender::new(Guard::new(Ourselves::default(), true), system_lookup(), Some(trusts), patient())
	}

	/// Sends to this URL, and waits until it has come to its end, one way or the other.
	async fn send(&self, url: &str) -> Counts {
		self.notifier.send(key(), "app".into(), url.into(), Notice::PaymentIncoming);
		let idle = async || Ok((self.notifier.held() == 0).then(|| self.notifier.counts()));
		eventually(LIMIT, "the notice has come to its end", idle).await.unwrap()
	}
}

fn sent(n: u64) -> Counts {
	Counts { sent: n, ..Counts::default() }
}

fn failed(n: u64) -> Counts {
	Counts { failed: n, ..Counts::default() }
}

fn refused(n: u64) -> Counts {
	Counts { refused: n, ..Counts::default() }
}

/// Answers each look-up with the next of these, the last for ever, and counts.
fn lookups(answers: Vec<Vec<IpAddr>>) -> (Lookup, Arc<Mutex<Vec<String>>>) {
	let asked = Arc::new(Mutex::new(Vec::new()));
	let seen = asked.clone();
	let lookup = move |name: String| -> Found {
		let mut seen = seen.lock().unwrap();
		let answer = answers[seen.len().min(answers.len() - 1)].clone();
		seen.push(name);
		Box::pin(async move { Ok(answer) })
	};
	(Arc::new(lookup), asked)
}

#[tokio::test]
async fn l5_17_l5_15_the_configured_node_posts_signed_notices_over_https() {
	let receiver = Receiver::start().await.unwrap();
	let dir = tempfile::tempdir().unwrap();
	let text = format!("[notify]\nallow_private = true\nca_file = {:?}\n", receiver.ca_file());
	std::fs::write(dir.path().join("inlet.toml"), text).unwrap();
	let flags = Overrides {
		data_dir: Some(dir.path().into()),
		network: Some("regtest".into()),
		chain: Some("esplora:http://127.0.0.1:1".into()),
		..Overrides::default()
	};
	let config = Config::load(&flags, []).unwrap();
	let sender = Sender::running(Notifier::of_node(&config, sign_it).unwrap());

	let before = SystemTime::now();
	let notices = [Notice::WebhookRegistered, Notice::PaymentIncoming, Notice::ExpirySoon { timeout: 800_000 }];
	for notice in &notices {
		sender.notifier.send(key(), "app".into(), receiver.url("/hook?token=abc"), notice.clone());
	}
	let got = receiver.wait_for(LIMIT, "three notices", |all| all.len() == 3).await.unwrap();
	for (request, notice) in got.iter().zip(&notices) {
		assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hook?token=abc"));
		assert_eq!(request.body, notice.body());
		assert_eq!(request.header("content-type"), "application/json");
		assert_eq!(request.signer().unwrap(), key());
		let stamp = request.header("x-lsps5-timestamp");
		assert!(stamp.len() == 24 && stamp.ends_with('Z') && &stamp[10..11] == "T" && &stamp[19..20] == ".", "{stamp}");
		let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds(stamp));
		assert!(at + Duration::from_secs(2) > before && at <= SystemTime::now(), "{stamp}");
		assert!(request.headers.get("authorization").is_none() && request.headers.get("referer").is_none());
	}
	let done = async || Ok((sender.notifier.counts() == sent(3)).then_some(()));
	eventually(LIMIT, "all are counted", done).await.unwrap();
}

/// Seconds since 1970 of `YYYY-MM-DDThh:mm:ss.uuuZ`, by counting days.
fn seconds(stamp: &str) -> u64 {
	let number = |from: usize, to: usize| stamp[from..to].parse::<u64>().unwrap();
	let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
	let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
	let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
	let days = (1970..year).map(|y| if leap(y) { 366 } else { 365 }).sum::<u64>()
		+ lengths[..month as usize - 1].iter().sum::<u64>()
		+ day - 1;
	days * 86_400 + number(11, 13) * 3600 + number(14, 16) * 60 + number(17, 19)
}

#[tokio::test]
async fn l5_18_a_redirect_is_not_followed() {
	let (receiver, other) = (Receiver::start().await.unwrap(), Receiver::start().await.unwrap());
	let sender = Sender::local(&receiver);
	for (n, code) in [301, 302, 303, 307, 308].into_iter().enumerate() {
		receiver.reply(Reply::Redirect(code, other.url("/elsewhere")));
		assert_eq!(sender.send(&receiver.url("/hook")).await, failed(n as u64 + 1), "{code}");
		assert_eq!(receiver.requests().len(), n + 1, "{code}");
	}
	assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn l5_18_a_server_in_trouble_is_called_again_with_a_new_stamp_and_one_that_hangs_is_not() {
	let receiver = Receiver::start().await.unwrap();
	let sender = Sender::local(&receiver);
	receiver.reply(Reply::Status(500));
	assert_eq!(sender.send(&receiver.url("/hook")).await, failed(1));
	let all = receiver.requests();
	assert_eq!(all.len(), 3, "once, and again after each of two pauses");
	assert!(all.windows(2).all(|w| w[0].header("x-lsps5-timestamp") < w[1].header("x-lsps5-timestamp")));
	assert!(all.iter().all(|r| r.signer().unwrap() == key()));

	let hasty = Sender::new(Guard::new(Ourselves::default(), true), system_lookup(), Some(&receiver), hasty());
	receiver.reply(Reply::Hang);
	assert_eq!(hasty.send(&receiver.url("/hook")).await, failed(1));
	assert_eq!(receiver.requests().len(), 4, "it may have it: not again");
}

#[tokio::test]
async fn l5_23_a_server_that_never_speaks_tls_and_one_that_is_not_there_end_in_time() {
	let receiver = Receiver::start().await.unwrap();
	let sender = Sender::new(Guard::new(Ourselves::default(), true), system_lookup(), Some(&receiver), hasty());
	let silent = TcpListener::bind("127.0.0.1:0").unwrap();
	assert_eq!(sender.send(&format!("https://{}/", silent.local_addr().unwrap())).await, failed(1));
	silent.set_nonblocking(true).unwrap();
	assert_eq!(std::iter::from_fn(|| silent.accept().ok()).count(), 3, "nothing was sent: again after each pause");
	let gone = silent.local_addr().unwrap();
	drop(silent);
	assert_eq!(sender.send(&format!("https://{gone}/")).await, failed(2));
}

#[tokio::test]
async fn l5_18_l5_23_the_body_of_an_answer_is_not_read() {
	let receiver = Receiver::start().await.unwrap();
	let sender = Sender::local(&receiver);
	receiver.reply(Reply::Endless);
	assert_eq!(sender.send(&receiver.url("/hook")).await, sent(1));
	let over = async || Ok((receiver.requests().len() == 1 && receiver.endless() == 0).then_some(()));
	eventually(LIMIT, "the server has nobody left to send to", over).await.unwrap();
}

#[tokio::test]
async fn r14_l5_17_a_certificate_of_nobodys_is_not_trusted() {
	let receiver = Receiver::start().await.unwrap();
	let sender = Sender::new(Guard::new(Ourselves::default(), true), system_lookup(), None, patient());
	assert_eq!(sender.send(&receiver.url("/hook")).await, failed(1));
	assert_eq!((receiver.connections(), receiver.requests().len()), (1, 0), "not again, and never a word");
}

#[tokio::test]
async fn r14_l5_23_private_hosts_are_not_even_connected_to() {
	let receiver = Receiver::start().await.unwrap();
	let port = receiver.address().port();
	let loopback: IpAddr = "127.0.0.1".parse().unwrap();
	let (lookup, _) = lookups(vec![vec![loopback]]);
	let sender = Sender::new(Guard::new(Ourselves::default(), false), lookup, Some(&receiver), patient());
	assert_eq!(sender.send(&receiver.url("/hook")).await, refused(1), "by address");
	assert_eq!(sender.send(&format!("https://hook.example.com:{port}/")).await, refused(2), "by a name of theirs");
	let system = Sender::new(Guard::new(Ourselves::default(), false), system_lookup(), Some(&receiver), patient());
	assert_eq!(system.send(&format!("https://localhost:{port}/")).await, refused(1), "by a name of ours");
	assert_eq!(receiver.connections(), 0);

	let sender = Sender::local(&receiver);
	assert_eq!(sender.send(&receiver.url("/hook")).await, sent(1), "the same, when it is allowed");
}

#[tokio::test]
async fn r14_l5_23_a_name_that_changes_its_mind_gains_nothing() {
	let (good, bad): (IpAddr, IpAddr) = ("127.0.0.2".parse().unwrap(), "127.0.0.1".parse().unwrap());
	let receiver = Receiver::start_at(SocketAddr::new(good, 0)).await.unwrap();
	let port = receiver.address().port();
	let hidden = TcpListener::bind((bad, port)).unwrap();
	hidden.set_nonblocking(true).unwrap();
	let judged = Arc::new(AtomicUsize::new(0));
	let count = judged.clone();
	// Here 127.0.0.2 is the internet, and 127.0.0.1 is home.
	let guard = Guard::judging(move |address| {
		count.fetch_add(1, Ordering::SeqCst);
		if address == good { Ok(()) } else { Err(Refused::NotPublic) }
	});
	// Public when it is looked up first, then private, then both.
	let (lookup, asked) = lookups(vec![vec![good], vec![bad], vec![good, bad]]);
	let sender = Sender::new(guard, lookup, Some(&receiver), patient());
	let url = format!("https://hook.example.com:{port}/hook");

	// The first attempt goes to what was judged, by one look-up; the second is refused.
	receiver.reply(Reply::Status(500));
	assert_eq!(sender.send(&url).await, refused(1));
	assert_eq!(*asked.lock().unwrap(), ["hook.example.com"; 2]);
	assert_eq!((receiver.connections(), judged.load(Ordering::SeqCst)), (1, 2));

	assert_eq!(sender.send(&url).await, refused(2));
	assert_eq!((receiver.connections(), asked.lock().unwrap().len()), (1, 3));
	assert!(hidden.accept().is_err(), "nobody came to the hidden one");
}
