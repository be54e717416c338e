//! Where a webhook may lead.

use crate::notify::guard::{Found, Guard, Lookup, Ourselves, Reach, Refused, Resolver, reach, system_lookup};
use reqwest::dns::Resolve;
use std::net::IpAddr;
use std::sync::Arc;

const PUBLIC: &[&str] = &[
	"1.1.1.1",
	"9.255.255.255",
	"11.0.0.0",
	"100.63.255.255",
	"100.128.0.0",
	"126.255.255.255",
	"128.0.0.0",
	"169.253.255.255",
	"169.255.0.0",
	"172.15.255.255",
	"172.32.0.0",
	"192.0.1.0",
	"192.0.3.0",
	"192.88.98.255",
	"192.167.255.255",
	"192.169.0.0",
	"198.17.255.255",
	"198.20.0.0",
	"198.51.99.255",
	"203.0.112.255",
	"223.255.255.255",
	"2000::1",
	"2001:200::1",
	"2001:4860:4860::8888",
	"2606:4700::1111",
	"2003::1",
	"3fff:1000::1",
	"::ffff:1.1.1.1",
	"64:ff9b::101:101",
];

const PRIVATE: &[&str] = &[
	"10.0.0.0",
	"10.255.255.255",
	"100.64.0.0",
	"100.127.255.255",
	"127.0.0.1",
	"127.255.255.255",
	"172.16.0.0",
	"172.31.255.255",
	"192.168.0.0",
	"192.168.255.255",
	"::1",
	"fc00::",
	"fd12:3456::1",
	"fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	"::ffff:127.0.0.1",
	"::ffff:10.1.2.3",
	"64:ff9b::7f00:1",
	"64:ff9b::a01:203",
	"64:ff9b::c0a8:101",
	"64:ff9b::6440:1",
];

const NOWHERE: &[&str] = &[
	"0.0.0.0",
	"0.1.2.3",
	"169.254.0.0",
	"169.254.169.254",
	"192.0.0.1",
	"192.0.2.1",
	"192.88.99.1",
	"198.18.0.0",
	"198.19.255.255",
	"198.51.100.1",
	"203.0.113.255",
	"224.0.0.1",
	"239.255.255.255",
	"240.0.0.1",
	"255.255.255.255",
	"::",
	"::7f00:1",
	"::2",
	"::ffff:0.0.0.0",
	"::ffff:169.254.169.254",
	"::ffff:0:127.0.0.1",
	"64:ff9b::a9fe:a9fe",
	"64:ff9b:1::7f00:1",
	"64:ff9b::1:7f00:1",
	"100::1",
	"1fff:ffff::1",
	"2001::1",
	"2001:0:7f00:1::",
	"2001:10::1",
	"2001:20::1",
	"2001:1ff:ffff::1",
	"2001:db8::1",
	"2002::1",
	"2002:7f00:1::1",
	"2002:c0a8:101::1",
	"3fff::1",
	"3fff:fff::1",
	"4000::1",
	"5f00::1",
	"fe00::1",
	"fe80::1",
	"febf::1",
	"fec0::1",
	"ff02::1",
	"ff0e::1",
];

fn ip(text: &str) -> IpAddr {
	text.parse().unwrap()
}

fn strict() -> Guard {
	Guard::new(Ourselves::default(), false)
}

/// An address as a URL writes it.
fn url_of(address: IpAddr) -> String {
	match address {
		IpAddr::V4(v4) => format!("https://{v4}/hook"),
		IpAddr::V6(v6) => format!("https://[{v6}]:8443/hook"),
	}
}

#[test]
fn r14_l5_23_only_public_addresses_are_public() {
	for (list, expected) in [(PUBLIC, Reach::Public), (PRIVATE, Reach::Private), (NOWHERE, Reach::Nowhere)] {
		for address in list {
			assert_eq!(reach(ip(address)), expected, "{address}");
		}
	}
}

#[test]
fn r14_l5_23_an_address_in_the_url_is_judged_like_a_resolved_one() {
	let (strict, open) = (strict(), Guard::new(Ourselves::default(), true));
	for address in PUBLIC {
		assert!(strict.url(&url_of(ip(address))).is_ok(), "{address}");
	}
	for address in PRIVATE {
		assert_eq!(strict.url(&url_of(ip(address))), Err(Refused::NotPublic), "{address}");
		assert!(open.url(&url_of(ip(address))).is_ok(), "{address} with allow_private");
	}
	for address in NOWHERE {
		assert_eq!(strict.url(&url_of(ip(address))), Err(Refused::NotPublic), "{address}");
		assert_eq!(open.url(&url_of(ip(address))), Err(Refused::NotPublic), "{address} with allow_private");
	}
}

#[test]
fn r14_l5_23_an_address_in_disguise_is_judged_as_what_it_is() {
	let disguised = [
		"https://2130706433/",
		"https://0x7f000001/",
		"https://0x7f.1/",
		"https://0177.0.0.1/",
		"https://127.1/",
		"https://127.0.0.1./",
		"https://%31%32%37.0.0.1/",
		"https://①②⑦.0.0.1/",
		"https:\\\\127.0.0.1/",
		"https:127.0.0.1/",
		"https:////127.0.0.1/",
		"https://127.0.\t0.1/",
		"https://[::ffff:7f00:1]/",
		"https://[0:0:0:0:0:0:0:1]/",
		"https://0/",
		"https://3232235777/",
	];
	for url in disguised {
		assert!(
			matches!(strict().url(url), Err(Refused::NotPublic | Refused::NoUrl)),
			"{url}: {:?}",
			strict().url(url)
		);
	}
}

#[test]
fn r14_l5_23_urls_that_are_never_called() {
	let long = format!("https://example.com/{}", "x".repeat(1005));
	let cases = [
		("", Refused::NoUrl),
		("example.com", Refused::NoUrl),
		("https://", Refused::NoUrl),
		("https://exämple.com/", Refused::NoUrl),
		(long.as_str(), Refused::NoUrl),
		("http://example.com/", Refused::NotHttps),
		("ftp://example.com/", Refused::NotHttps),
		("file:///etc/passwd", Refused::NotHttps),
		("unix:///run/docker.sock", Refused::NotHttps),
		("https://user@example.com/", Refused::Login),
		("https://user:password@example.com/", Refused::Login),
		("https://:password@example.com/", Refused::Login),
		("https://example.com:22/", Refused::Port),
		("https://example.com:25/", Refused::Port),
		("https://example.com:0/", Refused::Port),
		("https://example.com:1023/", Refused::Port),
	];
	for (url, refused) in cases {
		assert_eq!(strict().url(url), Err(refused), "{url}");
	}
	assert_eq!(long.len(), 1025);
	let longest = &long[..1024];
	for url in [
		longest,
		"https://example.com",
		"https://example.com:443/",
		"https://example.com:1024/a?b=c",
		"HTTPS://EXAMPLE.COM:65535",
	] {
		assert!(strict().url(url).is_ok(), "{url}");
	}
}

/// A node that announces this name and address.
fn announced(announce: &[&str], listen: &[&str]) -> Ourselves {
	Ourselves::of(&crate::config::NodeConfig {
		network: bitcoin::Network::Regtest,
		alias: String::new(),
		color: [0; 3],
		listen: listen.iter().map(|l| l.parse().unwrap()).collect(),
		announce_addresses: announce.iter().map(|a| a.parse().unwrap()).collect(),
		gossip: crate::config::Gossip::None,
		peers: Vec::new(),
	})
}

#[test]
fn r14_l5_23_our_own_host_is_not_called() {
	let ourselves =
		announced(&["LSP.example.com:9735", "8.8.4.4:9735", "[2600::7]:9735"], &["9.9.9.9:9735", "0.0.0.0:1"]);
	let guard = Guard::new(ourselves.clone(), false);
	let own = [
		"https://lsp.example.com/",
		"https://lsp.EXAMPLE.com./",
		"https://lsp.example.com:8443/",
		"https://8.8.4.4/",
		"https://[::ffff:8.8.4.4]/",
		"https://[2600::7]/",
		"https://9.9.9.9/",
	];
	for url in own {
		assert_eq!(guard.url(url), Err(Refused::Ourselves), "{url}");
		assert!(Guard::new(ourselves.clone(), true).url(url).is_ok(), "{url} with allow_private");
	}
	for url in ["https://example.com/", "https://8.8.8.8/", "https://lsp.example.com.evil.com/"] {
		assert!(guard.url(url).is_ok(), "{url}");
	}
}

#[test]
fn r14_l5_23_the_kernel_says_which_addresses_are_this_machines() {
	let ourselves = announced(&[], &[]);
	assert!(["127.0.0.1", "::ffff:127.0.0.1"].iter().all(|a| ourselves.is_address(ip(a))));
	assert!(!PUBLIC.iter().any(|a| ourselves.is_address(ip(a))));
}

fn answering(addresses: &[&str]) -> Lookup {
	let addresses: Vec<IpAddr> = addresses.iter().map(|a| ip(a)).collect();
	Arc::new(move |_| -> Found {
		let addresses = addresses.clone();
		Box::pin(async move { Ok(addresses) })
	})
}

async fn resolved(addresses: &[&str], guard: Guard) -> Result<Vec<IpAddr>, Option<Refused>> {
	let resolver = Resolver::new(Arc::new(guard), answering(addresses));
	match resolver.resolve("hook.example.com".parse().unwrap()).await {
		Ok(found) => Ok(found.map(|a| a.ip()).collect()),
		Err(error) => Err(error.downcast_ref::<Refused>().copied()),
	}
}

#[tokio::test]
async fn r14_l5_23_one_private_address_condemns_the_name() {
	assert_eq!(resolved(&["1.1.1.1", "2606:4700::1111"], strict()).await.unwrap().len(), 2);
	for bad in [PRIVATE, NOWHERE].concat() {
		for answer in [vec![bad], vec!["1.1.1.1", bad], vec![bad, "1.1.1.1"]] {
			assert_eq!(resolved(&answer, strict()).await, Err(Some(Refused::NotPublic)), "{answer:?}");
		}
	}
	let own = Guard::new(announced(&["8.8.4.4:9735"], &[]), false);
	assert_eq!(resolved(&["8.8.8.8", "8.8.4.4"], own).await, Err(Some(Refused::Ourselves)));
	let many: Vec<String> = (0..65).map(|n| format!("1.1.1.{n}")).collect();
	let many: Vec<&str> = many.iter().map(String::as_str).collect();
	assert_eq!(resolved(&many, strict()).await, Err(Some(Refused::NotPublic)));
	assert_eq!(resolved(&many[..64], strict()).await.unwrap().len(), 64);
}

#[tokio::test]
async fn r14_l5_23_the_systems_own_names_lead_nowhere() {
	let resolver = Resolver::new(Arc::new(strict()), system_lookup());
	let Err(error) = resolver.resolve("localhost".parse().unwrap()).await else { panic!("localhost is public") };
	assert_eq!(error.downcast_ref::<Refused>(), Some(&Refused::NotPublic));
	let open = Resolver::new(Arc::new(Guard::new(Ourselves::default(), true)), system_lookup());
	assert!(open.resolve("localhost".parse().unwrap()).await.is_ok());
}
