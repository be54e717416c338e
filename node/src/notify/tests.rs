//! The notifier on a network of the test's making: answers by a script, time that only the test moves.

mod delivery;
mod flood;
mod guard;
mod tor;

use super::Notifier;
use super::guard::{Guard, Ourselves};
use super::https::{Answer, Post};
use super::limits::Limits;
use super::stamp::{Sign, Stamped};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use futures::future::BoxFuture;
use inlet_lsp::book::NodeId;
use lightning::util::message_signing::sign;
use reqwest::Url;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What the tests' clock says when they begin: 2026-01-31T10:02:11.020Z.
const EPOCH_MS: u64 = 1_769_853_731_020;

fn secret(n: u8) -> SecretKey {
	SecretKey::from_slice(&[n; 32]).unwrap()
}

fn client(n: u8) -> NodeId {
	PublicKey::from_secret_key(&Secp256k1::new(), &secret(n))
}

fn signer() -> Sign {
	Arc::new(|text| sign(text.as_bytes(), &secret(99)))
}

fn status(code: u16) -> Answer {
	Answer::Status { code, retry_after: None }
}

/// A request as it was made.
#[derive(Clone, Debug)]
struct Made {
	url: String,
	message: Stamped,
	at: Duration,
}

type Script = dyn Fn(&str, usize) -> (Duration, Answer) + Send + Sync;

/// Answers each request as the script says, given its URL and how many were made before it, after the time it says.
struct Network {
	began: Instant,
	script: Box<Script>,
	made: Mutex<Vec<Made>>,
	now: Mutex<usize>,
	most: Mutex<usize>,
}

struct Line(Arc<Network>);

impl Post for Line {
	fn post<'a>(&'a self, url: &'a Url, message: Stamped) -> BoxFuture<'a, Answer> {
		Box::pin(async move {
			let network = &self.0;
			let before = {
				let mut made = network.made.lock().unwrap();
				made.push(Made { url: url.to_string(), message, at: network.began.elapsed() });
				made.len() - 1
			};
			let now = {
				let mut now = network.now.lock().unwrap();
				*now += 1;
				*now
			};
			{
				let mut most = network.most.lock().unwrap();
				*most = (*most).max(now);
			}
			let (time, answer) = (network.script)(url.as_str(), before);
			tokio::time::sleep(time).await;
			*network.now.lock().unwrap() -= 1;
			answer
		})
	}
}

/// A running notifier on such a network.
struct Bench {
	notifier: Arc<Notifier>,
	network: Arc<Network>,
	stop: watch::Sender<bool>,
	running: JoinHandle<()>,
}

impl Bench {
	fn new(limits: Limits, script: impl Fn(&str, usize) -> (Duration, Answer) + Send + Sync + 'static) -> Bench {
		let began = Instant::now();
		let network = Arc::new(Network {
			began,
			script: Box::new(script),
			made: Mutex::default(),
			now: Mutex::default(),
			most: Mutex::default(),
		});
		let clock = move || SystemTime::UNIX_EPOCH + Duration::from_millis(EPOCH_MS) + began.elapsed();
		let guard = Arc::new(Guard::new(Ourselves::default(), false));
		let line = Box::new(Line(network.clone()));
		let notifier = Notifier::posting(guard, line, signer(), Arc::new(clock), limits);
		let (stop, stopping) = watch::channel(false);
		let running = tokio::spawn(notifier.clone().run(stopping));
		Bench { notifier, network, stop, running }
	}

	/// A webhook that answers at once with these, the last for ever.
	fn answering(answers: Vec<Answer>) -> Bench {
		Bench::new(Limits::default(), move |_, n| (Duration::ZERO, answers[n.min(answers.len() - 1)].clone()))
	}

	/// Until nothing waits and nothing is on its way. Time that is paused runs from timer to timer.
	async fn settled(&self) {
		while self.notifier.held() > 0 {
			tokio::time::sleep(Duration::from_millis(1)).await;
		}
	}

	fn made(&self) -> Vec<Made> {
		self.network.made.lock().unwrap().clone()
	}

	/// What was asked for, in order: path and method.
	fn told(&self) -> Vec<(String, String)> {
		let method = |m: &Made| {
			let body: serde_json::Value = serde_json::from_str(&m.message.body).unwrap();
			body["method"].as_str().unwrap().trim_start_matches("lsps5.").to_owned()
		};
		self.made().iter().map(|m| (Url::parse(&m.url).unwrap().path().to_owned(), method(m))).collect()
	}

	fn most_at_once(&self) -> usize {
		*self.network.most.lock().unwrap()
	}
}
