//! One HTTPS request to a webhook (L5-17, L5-18).

use super::guard::{Guard, Lookup, Refused, Resolver};
use super::limits::Limits;
use super::stamp::Stamped;
use futures::future::BoxFuture;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Proxy, Response, Url};
use std::error::Error;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

/// The header with the time of the signature.
pub const TIMESTAMP: &str = "x-lsps5-timestamp";
/// The header with the signature.
pub const SIGNATURE: &str = "x-lsps5-signature";

/// The longest cause that is logged.
const MAX_CAUSE_CHARS: usize = 200;

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
	/// The webhook answered.
	Status {
		/// Its HTTP status.
		code: u16,
		/// How long we are to wait before we come again.
		retry_after: Option<Duration>,
	},
	/// Nothing was sent: no address, no connection.
	NoConnection(String),
	/// The other end has no certificate that we accept. Nothing was sent, and trying again helps nothing.
	NoTrust(String),
	/// It was sent, or part of it, and no answer came: the webhook may have it.
	NoAnswer(String),
	/// The guard forbids the address.
	Refused(Refused),
}

/// Sends requests; [`Https`], or a test's.
pub trait Post: Send + Sync {
	/// Sends one request and says what came of it.
	fn post<'a>(&'a self, url: &'a Url, message: Stamped) -> BoxFuture<'a, Answer>;
}

/// The extra root certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRoots(String);

/// An HTTPS client that goes only where the guard allows.
pub struct Https {
	client: Client,
}

impl Https {
	/// A client that trusts Mozilla's roots, which are compiled in, and the certificates of `extra_roots`, PEM.
	///
	/// Compiled in, since an image for a small machine may have no `ca-certificates`, or old ones; the chain backend's
	/// client has the same.
	///
	/// # Errors
	/// `extra_roots` is not empty and holds no certificate, or one that cannot be used.
	pub fn new(guard: Arc<Guard>, lookup: Lookup, extra_roots: &[u8], limits: &Limits) -> Result<Https, BadRoots> {
		let builder = Client::builder()
			.user_agent("inlet")
			.https_only(true)
			.redirect(Policy::none())
			.referer(false)
			.no_proxy()
			.dns_resolver(Arc::new(Resolver::new(guard.clone(), lookup)))
			.connect_timeout(limits.connect)
			.timeout(limits.request)
			// Webhooks are called now and then: each request makes its own connection, judged anew.
			.pool_max_idle_per_host(0);
		let way = guard.way();
		let builder = match way.socks {
			Some(_) => builder.proxy(Proxy::custom(move |url| way.webhook_proxy(url))),
			None => builder,
		};
		let builder = roots(extra_roots)?.into_iter().fold(builder, |b, root| b.add_root_certificate(root));
		let client = builder.build().map_err(|e| BadRoots(innermost(&e)))?;
		Ok(Https { client })
	}
}

/// Checks that [`Https::new`] would take these extra roots, for a configuration that is refused at once.
///
/// # Errors
/// As [`Https::new`].
pub fn check_roots(pem: &[u8]) -> Result<(), BadRoots> {
	let builder = roots(pem)?.into_iter().fold(Client::builder().no_proxy(), |b, root| b.add_root_certificate(root));
	builder.build().map(drop).map_err(|e| BadRoots(innermost(&e)))
}

fn roots(pem: &[u8]) -> Result<Vec<Certificate>, BadRoots> {
	let found = Certificate::from_pem_bundle(pem).map_err(|e| BadRoots(innermost(&e)))?;
	if found.is_empty() && !pem.is_empty() {
		return Err(BadRoots("there is no -----BEGIN CERTIFICATE----- in it".into()));
	}
	Ok(found)
}

impl Post for Https {
	fn post<'a>(&'a self, url: &'a Url, message: Stamped) -> BoxFuture<'a, Answer> {
		Box::pin(async move {
			let request = self
				.client
				.post(url.clone())
				.header(CONTENT_TYPE, "application/json")
				.header(TIMESTAMP, message.timestamp)
				.header(SIGNATURE, message.signature)
				.body(message.body);
			match request.send().await {
				// The body of the answer is a stranger's: it is dropped with the connection, unread.
				Ok(response) => {
					Answer::Status { code: response.status().as_u16(), retry_after: retry_after(&response) }
				}
				Err(error) => failure(&error),
			}
		})
	}
}

/// `Retry-After` in seconds; its other form, a date, is taken for none.
fn retry_after(response: &Response) -> Option<Duration> {
	let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
	text.trim().parse().ok().map(Duration::from_secs)
}

fn failure(error: &reqwest::Error) -> Answer {
	let refused = chain(error).find_map(|e| e.downcast_ref::<Refused>());
	if let Some(refused) = refused {
		return Answer::Refused(*refused);
	}
	// The TLS library says so of what the other end showed: a certificate, or no TLS at all.
	let odd = |e: &&(dyn Error + 'static)| {
		e.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == ErrorKind::InvalidData)
	};
	match error.is_connect() {
		true if chain(error).any(|e| odd(&e)) => Answer::NoTrust(innermost(error)),
		true => Answer::NoConnection(innermost(error)),
		false => Answer::NoAnswer(innermost(error)),
	}
}

/// An error and its causes. What an [`std::io::Error`] was made of is one too, although its `source` passes over it.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
	std::iter::successors(Some(error), |e| match e.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref()) {
		Some(inner) => Some(inner),
		// Two stars: a reference to an error is an error too, with a shorter life.
		None => (**e).source(),
	})
}

/// The cause at the bottom, of a bounded length: the outer ones name the URL.
fn innermost(error: &(dyn Error + 'static)) -> String {
	let last = chain(error).last().unwrap_or(error);
	match last.downcast_ref::<reqwest::Error>() {
		Some(e) if e.is_timeout() => "it takes too long".into(),
		Some(_) => "the request failed".into(),
		// It may quote what a stranger's certificate says.
		None => last.to_string().chars().take(MAX_CAUSE_CHARS).collect(),
	}
}
