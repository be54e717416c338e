//! Many webhooks, and those who would like to be all of them.

use super::{Bench, client, status};
use crate::notify::Counts;
use crate::notify::limits::{Limits, Rate, Share};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use inlet_lsp::book::NodeId;
use inlet_lsp::notice::Notice;
use std::time::Duration;

const HANGS: Duration = Duration::from_secs(10);

fn stranger(n: u32) -> NodeId {
	let mut secret = [7; 32];
	secret[..4].copy_from_slice(&n.to_be_bytes());
	PublicKey::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&secret).unwrap())
}

fn ended(counts: Counts) -> u64 {
	counts.sent + counts.failed + counts.dropped + counts.refused + counts.merged
}

#[tokio::test(start_paused = true)]
async fn l5_23_a_client_that_changes_its_url_without_end_is_bounded() {
	let bench = Bench::new(Limits::default(), |_, _| (Duration::from_millis(10), status(200)));
	for n in 0..2000 {
		bench.notifier.send(
			client(1),
			"app".into(),
			format!("https://victim.example.com/{n}"),
			Notice::WebhookRegistered,
		);
		assert!(bench.notifier.held() <= 32);
		tokio::time::sleep(Duration::from_millis(100)).await;
	}
	bench.settled().await;
	// 200 seconds: 40 at once, and one each 10 seconds.
	let made = bench.made().len();
	assert!((40..=61).contains(&made), "{made}");
	assert_eq!(ended(bench.notifier.counts()), 2000);
}

#[tokio::test(start_paused = true)]
async fn l5_23_r14_a_flood_of_strangers_is_bounded_for_the_host_and_in_all() {
	let bench = Bench::new(Limits::default(), |_, _| (HANGS, status(200)));
	// On one host.
	for n in 0..500 {
		let url = format!("https://victim.example.com/{n}");
		bench.notifier.send(stranger(n), "app".into(), url, Notice::WebhookRegistered);
	}
	assert_eq!(bench.notifier.held(), 30);
	// On a host for each.
	for n in 500..5000 {
		let url = format!("https://h{n}.example.com/");
		bench.notifier.send(stranger(n), "app".into(), url, Notice::WebhookRegistered);
	}
	assert_eq!(bench.notifier.held(), 60);
	bench.settled().await;
	assert_eq!(bench.most_at_once(), 4);
	assert_eq!(ended(bench.notifier.counts()), 5000);
}

#[tokio::test(start_paused = true)]
async fn l5_23_r14_held_notices_are_bounded_even_if_the_rates_were_not() {
	let free = Rate { burst: u32::MAX / 1_000_000, every: Duration::ZERO };
	let share = |held, held_per_host| Share {
		held,
		held_per_host,
		at_once: 3,
		at_once_per_host: 2,
		rate: free,
		rate_per_host: free,
	};
	let limits = Limits {
		greetings: share(20, 5),
		wakes: share(50, 10),
		held_per_client: 3,
		rate_per_client: free,
		..Limits::default()
	};
	let bench = Bench::new(limits, |_, _| (HANGS, status(200)));
	let send = |n: u32, url: String, notice| bench.notifier.send(stranger(n), "app".into(), url, notice);
	for n in 0..10 {
		send(1, format!("https://a{n}.example.com/"), Notice::PaymentIncoming);
	}
	assert_eq!(bench.notifier.held(), 3, "of one client");
	for n in 2..100 {
		send(n, "https://one.example.com/".into(), Notice::PaymentIncoming);
	}
	assert_eq!(bench.notifier.held(), 3 + 10, "of one host");
	for n in 100..1000 {
		send(n, format!("https://b{n}.example.com/"), Notice::PaymentIncoming);
	}
	assert_eq!(bench.notifier.held(), 50, "of all wakes");
	for n in 1000..2000 {
		send(n, format!("https://c{n}.example.com/"), Notice::WebhookRegistered);
	}
	assert_eq!(bench.notifier.held(), 50 + 20, "of all");
	bench.settled().await;
	assert_eq!(bench.most_at_once(), 6, "three of each kind");
	assert_eq!(ended(bench.notifier.counts()), 10 + 98 + 900 + 1000);
}

#[tokio::test(start_paused = true)]
async fn l5_23_r14_a_host_that_hangs_delays_nobody_else() {
	let bench = Bench::new(Limits::default(), |url, _| match url.contains("slow") {
		true => (HANGS, status(200)),
		false => (Duration::from_millis(5), status(200)),
	});
	for n in 0..200 {
		bench.notifier.send(
			stranger(n),
			"app".into(),
			format!("https://slow.example.com/{n}"),
			Notice::PaymentIncoming,
		);
	}
	for n in 0..200 {
		let url = format!("https://slow{n}.example.com/");
		bench.notifier.send(stranger(1000 + n), "app".into(), url, Notice::WebhookRegistered);
	}
	tokio::time::sleep(Duration::from_secs(1)).await;
	bench.notifier.send(client(1), "app".into(), "https://good.example.com/".into(), Notice::PaymentIncoming);
	tokio::time::sleep(Duration::from_millis(10)).await;
	let made = bench.made();
	assert!(made.iter().any(|m| m.url.contains("good")), "it waits behind those that hang");
	assert_eq!(bench.most_at_once(), 8 + 4 + 1);
}

#[tokio::test(start_paused = true)]
async fn l5_15_a_webhook_that_was_not_greeted_for_a_bound_is_greeted_before_it_is_woken() {
	let bench = Bench::new(Limits::default(), |_, _| (Duration::from_millis(1), status(200)));
	for n in 0..60 {
		let url = format!("https://h{n}.example.com/");
		bench.notifier.send(stranger(n), "app".into(), url, Notice::WebhookRegistered);
	}
	let mine = "https://mine.example.com/hook";
	bench.notifier.send(client(1), "app".into(), mine.into(), Notice::WebhookRegistered);
	bench.settled().await;
	assert_eq!(bench.notifier.counts(), Counts { sent: 60, dropped: 1, ..Counts::default() });
	for _ in 0..2 {
		bench.notifier.send(client(1), "app".into(), mine.into(), Notice::PaymentIncoming);
		bench.settled().await;
	}
	let told: Vec<String> = bench.told().into_iter().filter(|(path, _)| path == "/hook").map(|(_, m)| m).collect();
	assert_eq!(told, ["webhook_registered", "payment_incoming", "payment_incoming"]);
}

#[tokio::test(start_paused = true)]
async fn r14_l5_23_who_used_a_rate_is_forgotten_when_it_is_free_again() {
	let limits = Limits { remembered: 3, ..Limits::default() };
	let bench = Bench::new(limits, |_, _| (Duration::ZERO, status(200)));
	for n in 0..5 {
		let url = format!("https://h{n}.example.com/");
		bench.notifier.send(stranger(n), "app".into(), url, Notice::WebhookRegistered);
	}
	bench.settled().await;
	assert_eq!(bench.notifier.counts(), Counts { sent: 3, dropped: 2, ..Counts::default() });
	tokio::time::sleep(Duration::from_secs(11)).await;
	bench.notifier.send(stranger(9), "app".into(), "https://h9.example.com/".into(), Notice::WebhookRegistered);
	bench.settled().await;
	assert_eq!(bench.notifier.counts(), Counts { sent: 4, dropped: 2, ..Counts::default() });
}
