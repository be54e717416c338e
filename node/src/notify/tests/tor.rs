//! Webhooks over Tor: what a name leads to is judged there, too.

use super::super::guard::{Guard, Ourselves, Refused, tor_lookup};
use super::super::https::{Answer, Https, Post};
use super::super::limits::Limits;
use super::super::stamp::Stamped;
use crate::tor::Way;
use crate::tor::testing::{Socks, SocksPort};
use reqwest::Url;
use std::net::SocketAddr;
use std::sync::Arc;

const ONION: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrstuvwd.onion";

/// A call of this URL by these rules: what came of it, and what Tor was asked (command, host).
async fn call(port: &SocksPort, allow_private: bool, url: &str) -> (Result<Answer, Refused>, Vec<(u8, String)>) {
	let guard = Arc::new(Guard::new(Ourselves::default(), allow_private).going(port.way(true)));
	let https = Https::new(guard.clone(), tor_lookup(port.at), &[], &Limits::over_tor()).unwrap();
	let answer = match guard.url(url) {
		Ok(url) => {
			let message = Stamped { timestamp: "now".into(), signature: "sig".into(), body: "{}".into() };
			Ok(https.post(&url, message).await)
		}
		Err(refused) => Err(refused),
	};
	(answer, port.asked().into_iter().map(|asked| (asked.command, asked.host)).collect())
}

#[tokio::test]
async fn r14_the_address_that_tor_found_is_judged_and_connected_to() {
	let port = SocksPort::new(Socks::Is("93.184.216.34".parse().unwrap())).await;
	let (answer, asked) = call(&port, false, "https://hooks.example.org/a").await;
	assert!(matches!(answer, Ok(Answer::NoConnection(_))), "{answer:?}");
	assert_eq!(asked, [(0xf0, "hooks.example.org".to_owned()), (1, "93.184.216.34".to_owned())]);
}

#[tokio::test]
async fn r14_a_name_that_tor_finds_inside_is_refused() {
	for inside in ["127.0.0.1", "192.168.1.1", "169.254.169.254", "::1", "fd00::1"] {
		let port = SocksPort::new(Socks::Is(inside.parse().unwrap())).await;
		let (answer, asked) = call(&port, false, "https://hooks.example.org/a").await;
		assert_eq!(answer, Ok(Answer::Refused(Refused::NotPublic)), "{inside}");
		assert_eq!(asked, [(0xf0, "hooks.example.org".to_owned())], "nothing was connected to");
	}
}

#[tokio::test]
async fn r14_an_address_in_the_url_is_judged_as_ever() {
	let port = SocksPort::new(Socks::No(4)).await;
	for inside in ["https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/", "https://0x7f.1/"] {
		assert_eq!(call(&port, false, inside).await, (Err(Refused::NotPublic), Vec::new()), "{inside}");
	}
	let (answer, asked) = call(&port, false, "https://8.8.8.8:8443/").await;
	assert!(matches!(answer, Ok(Answer::NoConnection(_))), "{answer:?}");
	assert_eq!(asked, [(1, "8.8.8.8".to_owned())]);
}

#[tokio::test]
async fn what_is_allowed_and_near_is_called_without_tor() {
	let port = SocksPort::new(Socks::No(4)).await;
	// Nobody listens there.
	let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
	let at: SocketAddr = closed.local_addr().unwrap();
	drop(closed);
	let (answer, asked) = call(&port, true, &format!("https://{at}/")).await;
	assert!(matches!(answer, Ok(Answer::NoConnection(_))), "{answer:?}");
	assert_eq!(asked, []);
}

#[tokio::test]
async fn an_onion_webhook_is_called_over_tor_by_its_name() {
	let port = SocksPort::new(Socks::No(0xf0)).await;
	let (answer, asked) = call(&port, false, &format!("https://{ONION}/hook")).await;
	assert!(matches!(answer, Ok(Answer::NoConnection(_))), "{answer:?}");
	assert_eq!(asked, [(1, ONION.to_owned())]);
}

#[test]
fn an_onion_webhook_is_refused_without_tor_and_never_looked_up() {
	let guard = |way| Guard::new(Ourselves::default(), false).going(way);
	let some = Way { socks: Some("127.0.0.1:9050".parse().unwrap()), only: false };
	let url = format!("https://{ONION}/hook");
	assert_eq!(guard(Way::default()).url(&url), Err(Refused::Onion));
	assert_eq!(guard(some).url(&url), Url::parse(&url).map_err(|_| Refused::NoUrl));
	assert_eq!(guard(some).url("https://short.onion/hook"), Err(Refused::Onion));
	assert_eq!(guard(some).url(&format!("http://{ONION}/hook")), Err(Refused::NotHttps));
}
